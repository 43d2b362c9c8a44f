/* model.c - what a run says and asks for when something happens. See model.h. */
#include "tests/core/model.h"

#include "daemon/core/feedback.h"
#include "proto/limits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIX_PLACES 64 /* mixes that a run can hold */
#define TRAINER_MS 60000u
#define JOINS_MAX 8u

/* ---- what is known -------------------------------------------------------------------------- */

uint64_t model_limit(const struct model *m)
{
    uint64_t limit = m->c->end_step < m->s->stop ? m->c->end_step : m->s->stop;

    return limit < m->s->exhausted ? limit : m->s->exhausted;
}

static int acts_at_frontier(uint32_t kind)
{
    return kind == MX_ENTRY_STOP || kind == MX_ENTRY_ADOPT || kind == MX_ENTRY_WITHDRAW ||
           kind == MX_ENTRY_REWIND;
}

uint64_t model_barrier(const struct model *m)
{
    uint64_t b = m->set_from;

    for (uint32_t i = 0; i < m->flight.n; i++) {
        const struct m_entry *e = &m->flight.at[i];
        uint64_t at = MODEL_NEVER;

        if (e->kind == MX_ENTRY_MIX || (e->kind == MX_ENTRY_EXHAUSTED && e->flag)) {
            at = e->step;
        } else if (acts_at_frontier(e->kind)) {
            at = m->s->frontier;
        }
        b = at < b ? at : b;
    }
    if (m->frozen && m->s->frontier < b) {
        b = m->s->frontier;
    }
    if (m->c->lag > 0) {
        uint64_t upto = m->s->consumed + m->c->lag - (m->s->wanted != 0);

        b = upto < b ? upto : b;
    }
    return b;
}

uint32_t model_in_flight(const struct model *m, enum mx_entry_kind kind)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < m->flight.n; i++) {
        n += m->flight.at[i].kind == kind;
    }
    return n;
}

static int changing(const struct model *m)
{
    for (uint32_t i = 0; i < m->flight.n; i++) {
        if (acts_at_frontier(m->flight.at[i].kind)) {
            return 1;
        }
    }
    return 0;
}

uint64_t model_versions(const struct model *m)
{
    uint64_t v = m->s->versions;

    for (uint32_t i = 0; i < m->flight.n; i++) {
        const struct m_entry *e = &m->flight.at[i];

        v = e->kind != MX_ENTRY_FEEDBACK && e->version > v ? e->version : v;
    }
    return v;
}

/* Mixes that a step from the frontier on can be planned under. */
uint64_t model_count_mixes(const struct m_state *s)
{
    uint64_t n = 0, past = 0;

    for (uint32_t i = 0; i < s->n_mixes; i++) {
        n += s->mixes[i].from > s->frontier;
        past |= s->mixes[i].from <= s->frontier;
    }
    return n + past;
}

uint64_t model_not_skipped(const struct m_state *s, uint64_t step)
{
    while (step < MODEL_STEPS && s->skipped[step]) {
        step++;
    }
    return step;
}

/* ---- what it says and asks for -------------------------------------------------------------- */

static void refuse(struct m_expect *x, enum mx_verdict verdict, uint64_t u0, uint64_t u1)
{
    x->answer = M_REFUSE;
    x->verdict = verdict;
    x->u[0] = u0;
    x->u[1] = u1;
}

void model_flies(struct model *m, const struct m_entry *e)
{
    if (e->kind == MX_ENTRY_SET && e->step < m->set_from) {
        m->set_from = e->step;
    }
    m_push(m, &m->flight, e);
}

static struct m_entry *want(struct model *m, struct m_expect *x, struct m_entry e)
{
    e.frontier = m->s->frontier;
    x->want[x->n] = e;
    model_flies(m, &e);
    return &x->want[x->n++];
}

void model_want_exhausted(struct model *m, int64_t domain, struct m_expect *x)
{
    for (uint32_t i = 0; i < m->flight.n; i++) {
        if (m->flight.at[i].kind == MX_ENTRY_EXHAUSTED && m->flight.at[i].flag) {
            return;
        }
    }
    want(m, x,
         (struct m_entry){.kind = MX_ENTRY_EXHAUSTED,
                          .step = m->s->frontier,
                          .flag = 1,
                          .domain = (uint32_t)domain});
}

/* The last step closed whose feedback has moved the policy's weights. */
static uint64_t last_moved(const struct m_state *s)
{
    uint32_t i = s->n_closings;

    while (i > 0 && !s->closings[i - 1].moved) {
        i--;
    }
    return i > 0 ? s->closings[i - 1].step : 0;
}

/* The mix that feedback has made, if there is reason for one and none is on its way. */
void model_want_mix(struct model *m, struct m_expect *x)
{
    const struct m_state *s = m->s;
    struct m_entry e = {.kind = MX_ENTRY_MIX, .cause = MX_CAUSE_FEEDBACK};
    uint32_t lag = m->c->lag;

    m->waiting = 0;
    if (!s->created || !s->wanted || model_in_flight(m, MX_ENTRY_MIX) > 0) {
        return;
    }
    e.step = lag > 0 ? s->consumed + lag - 1 : s->frontier + m->c->lead;
    for (uint32_t i = 0; i < s->n_mixes && lag == 0; i++) {
        e.step = !s->mixes[i].set && s->mixes[i].from > e.step ? s->mixes[i].from : e.step;
    }
    for (uint32_t i = 0; i < s->n_mixes && lag == 0;
         i++) { /* an operator's has its step at least */
        e.step += s->mixes[i].set && s->mixes[i].from == e.step;
    }
    if (e.step >= model_limit(m) || (lag == 0 && e.step >= model_barrier(m))) {
        return;
    }
    m_shares(m->c, s->weights, e.shares);
    if (lag == 0 &&
        memcmp(e.shares, m_mix_of(s, e.step)->shares, m->c->plan.k * sizeof *e.shares) == 0) {
        return;
    }
    if (model_count_mixes(s) == MIX_PLACES) {
        m->waiting = 1;
        return;
    }
    e.version = model_versions(m) + 1;
    e.cause_step = lag > 0 ? s->consumed - 1 : last_moved(s);
    want(m, x, e);
}

/* ---- requests ------------------------------------------------------------------------------- */

static int refused_request(const struct model *m, const struct mx_event *ev, struct m_expect *x)
{
    const struct m_state *s = m->s;
    uint32_t batch = m_part(m->c, ev->step).batch;

    if (ev->world == 0 || ev->world > MX_WORLD_MAX || ev->rank >= ev->world) {
        refuse(x, MX_BAD_RANK, ev->world, 0);
    } else if (ev->count == 0 || (uint64_t)ev->first + ev->count > batch) {
        refuse(x, MX_BAD_SLOTS, batch, 0);
    } else if (ev->step > MX_STEP_MAX || ev->oldest > ev->step) {
        refuse(x, MX_BAD_STEP, MX_STEP_MAX, 0);
    } else if (ev->step < s->first_step) {
        refuse(x, MX_BEFORE_FORK, s->first_step, 0);
    } else if (ev->step < MODEL_STEPS && s->skipped[ev->step]) {
        refuse(x, MX_SKIPPED, model_not_skipped(s, ev->step), 0);
    } else if (ev->step >= s->stop) {
        refuse(x, MX_STOPPED, s->stop, 0);
    } else if (ev->step >= s->exhausted) {
        refuse(x, MX_OUT_OF_SAMPLES, s->exhausted_domain, s->exhausted);
    } else if (ev->step >= m->c->end_step) {
        refuse(x, MX_ENDED, m->c->end_step, 0);
    } else if (ev->step > s->frontier + m->c->max_ahead) {
        refuse(x, MX_LEAP, s->frontier, 0);
    } else {
        return 0;
    }
    return 1;
}

static void note_trainer(struct model *m, const struct mx_event *ev)
{
    if (ev->oldest + m->c->max_ahead + 1 < m->s->frontier) {
        return; /* it goes over old steps */
    }
    if (ev->world != m->world) {
        memset(m->trainers, 0, sizeof m->trainers);
        m->world = ev->world;
    }
    for (uint32_t i = 0; i < MODEL_TRAINERS; i++) {
        if (!m->trainers[i].used || m->trainers[i].rank == ev->rank) {
            m->trainers[i].used = 1;
            m->trainers[i].rank = ev->rank;
            m->trainers[i].oldest = ev->oldest;
            m->trainers[i].seen_ms = ev->now_ms;
            return;
        }
    }
    m->overflow = 1;
}

static void on_request(struct model *m, const struct mx_event *ev, struct m_expect *x)
{
    struct m_state *s = m->s;
    uint64_t slowest = MODEL_NEVER, upto = ev->step + 1;
    int64_t stopped;

    if (refused_request(m, ev, x)) {
        return;
    }
    note_trainer(m, ev);
    if (ev->step >= s->frontier) {
        for (uint32_t i = 0; i < MODEL_TRAINERS; i++) {
            if (m->trainers[i].used && ev->now_ms - m->trainers[i].seen_ms < TRAINER_MS &&
                m->trainers[i].oldest < slowest) {
                slowest = m->trainers[i].oldest;
            }
        }
        if (slowest != MODEL_NEVER && ev->step > slowest + m->c->max_ahead) {
            refuse(x, MX_WAIT_AHEAD, slowest, 0);
            return;
        }
        upto = upto < s->reserved ? upto : s->reserved;
        upto = upto < model_barrier(m) ? upto : model_barrier(m);
        stopped = s->created ? m_advance(m, s, upto) : -1;
        if (stopped >= 0) {
            model_want_exhausted(m, stopped, x);
        }
    }
    x->answer = ev->step < s->frontier ? M_SERVE : M_HOLD;
    if (!m->frozen && m->waiting) {
        model_want_mix(m, x);
    }
}

/* ---- feedback ------------------------------------------------------------------------------- */

static uint32_t bad_losses(const struct model *m, const struct mx_entry *e)
{
    for (uint32_t i = 0; i < e->n; i++) {
        if (e->losses[i].domain >= m->c->plan.k ||
            (i > 0 && e->losses[i].domain <= e->losses[i - 1].domain)) {
            return i;
        }
    }
    return e->n;
}

static uint32_t count_open(const struct m_state *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < MODEL_STEPS; i++) {
        n += s->feedback[i] == M_OPEN || s->feedback[i] == M_WAITS;
    }
    return n;
}

static int refused_report(struct model *m, const struct mx_entry *e, struct m_expect *x)
{
    struct m_state *s = m->s;
    int claims = e->mix_version > s->versions;
    int open;

    if (e->world == 0 || e->world > MX_WORLD_MAX || e->rank >= e->world) {
        refuse(x, MX_BAD_RANK, e->world, 0);
        return 1;
    }
    if (e->step >= s->frontier) {
        refuse(x, MX_NOT_SERVED, s->frontier, 0);
        return 1;
    }
    if (e->step < s->first_step) {
        refuse(x, MX_BEFORE_FORK, s->first_step, 0);
        return 1;
    }
    if (s->skipped[e->step]) {
        refuse(x, MX_SKIPPED, model_not_skipped(s, e->step), 0);
        return 1;
    }
    if (bad_losses(m, e) < e->n) {
        refuse(x, MX_BAD_DOMAIN, e->losses[bad_losses(m, e)].domain, 0);
        return 1;
    }
    claims |= e->mix_version != 0 && e->step >= m->known_from &&
              e->mix_version != s->steps[e->step].version;
    for (uint32_t i = 0; i < s->n_turns; i++) { /* of another branch */
        claims |= e->mix_version != 0 &&
                  (e->step >= s->turns[i].step) != (e->mix_version >= s->turns[i].version);
    }
    open = s->feedback[e->step] == M_OPEN;
    if (claims) {
        refuse(x, MX_BAD_VERSION, e->mix_version, 0);
    } else if (s->feedback[e->step] == M_CLOSED || s->feedback[e->step] == M_WAITS) {
        s->duplicates += s->complete[e->step];
        s->late += !s->complete[e->step];
        refuse(x, s->complete[e->step] ? MX_DUPLICATE : MX_LATE, 0, 0);
    } else if (!open && count_open(s) == 64) {
        refuse(x, MX_TOO_MANY_OPEN, 64, 0);
    } else if (open && s->world[e->step] != e->world && e->world != m->world) {
        refuse(x, MX_BAD_WORLD, s->world[e->step], 0);
    } else if (open && s->world[e->step] == e->world && m_has_reported(s, e->step, e->rank)) {
        s->duplicates++;
        refuse(x, MX_DUPLICATE, 0, 0);
    } else {
        return 0;
    }
    return 1;
}

static void on_feedback(struct model *m, const struct mx_event *ev, struct m_expect *x)
{
    const struct mx_entry *in = ev->entry;
    struct mx_plan_part part = m_part(m->c, in->step);
    uint64_t most = (uint64_t)part.batch * part.length * m->c->seq_len;
    struct m_entry e = {.kind = MX_ENTRY_FEEDBACK,
                        .step = in->step,
                        .rank = in->rank,
                        .world = in->world,
                        .version = in->mix_version,
                        .flags = in->flags};

    if (refused_report(m, in, x)) {
        return;
    }
    if (in->mix_version == 0 && in->step >= m->known_from) { /* the run knows what it isn't told */
        e.version = m->s->steps[in->step].version;
    }
    for (uint32_t i = 0; i < in->n; i++) {
        const struct mx_loss *l = &in->losses[i];

        if (l->tokens >= 1 && l->tokens <= most && isfinite(l->loss_sum) && l->loss_sum >= 0.0 &&
            l->loss_sum <= m->c->loss_max * (double)l->tokens) {
            e.losses[e.n++] = *l;
        } else if (x->quarantined++ == 0) {
            x->bad_domain = l->domain;
        }
    }
    m->quarantined += x->quarantined;
    want(m, x, e);
}

/* ---- commands ------------------------------------------------------------------------------- */

static void on_set(struct model *m, const struct mx_event *ev, struct m_expect *x)
{
    const struct mx_entry *in = ev->entry;
    uint64_t least = m->s->frontier + m->c->lead, places;
    struct m_entry e = {
        .kind = MX_ENTRY_SET, .step = in->step > 0 ? in->step : least, .cause = MX_CAUSE_OPERATOR};
    int some = 0;

    for (uint32_t i = 0; i < m->c->plan.k; i++) {
        double w = in->weights[i];

        if (!isfinite(w) || w < 0.0 || (w > 0.0 && !m->c->limits[i].open)) {
            refuse(x, MX_BAD_WEIGHTS, i, 0);
            return;
        }
        some |= w > 0.0;
        e.weights[i] = w;
    }
    places = model_count_mixes(m->s) + model_in_flight(m, MX_ENTRY_SET);
    if (!some) {
        refuse(x, MX_BAD_WEIGHTS, m->c->plan.k, 0);
    } else if (e.step < least || e.step > MX_STEP_MAX) {
        refuse(x, MX_BAD_AT, least, MX_STEP_MAX);
    } else if (places >= MIX_PLACES - 2 - m->c->lag) {
        refuse(x, MX_TOO_MANY_MIXES, places, 0);
    } else {
        m_shares(m->c, e.weights, e.shares);
        e.version = model_versions(m) + 1;
        want(m, x, e);
    }
}

static void on_skip(struct model *m, const struct mx_event *ev, struct m_expect *x)
{
    uint64_t most = m->s->frontier + m->c->max_ahead;

    most = most < model_limit(m) ? most : model_limit(m);
    if (ev->entry->step >= ev->entry->to || ev->entry->to > most ||
        ev->entry->step < m->s->first_step) {
        refuse(x, MX_BAD_RANGE, most, m->s->first_step);
    } else {
        want(m, x,
             (struct m_entry){.kind = MX_ENTRY_SKIP, .step = ev->entry->step, .to = ev->entry->to});
    }
}

static void on_adopt(struct model *m, const struct mx_event *ev, struct m_expect *x)
{
    const struct mx_entry *in = ev->entry;
    const struct m_domain *d;
    uint64_t has;

    if (in->domain >= m->c->plan.k) {
        refuse(x, MX_BAD_DOMAIN, in->domain, 0);
        return;
    }
    d = &m->s->domains[in->domain];
    has = d->later > 0 ? d->later : d->samples;
    if (changing(m)) {
        refuse(x, MX_CHANGING, m->s->frontier, 0);
    } else if (in->samples < has || in->samples > MX_SAMPLES_MAX || in->chunk == 0) {
        refuse(x, MX_NOT_GROWN, has, 0);
    } else if (in->flag && m_longest(m->c) > 1) {
        refuse(x, MX_NO_JOINS, m_longest(m->c), 0);
    } else if (m_over_half(m->c, d, in->samples)) {
        refuse(x, MX_TOO_MUCH_GONE, in->samples, 0);
    } else if (in->flag && d->used > 0 && d->joins == JOINS_MAX) {
        refuse(x, MX_JOINED_TOO_OFTEN, JOINS_MAX, 0);
    } else {
        want(m, x,
             (struct m_entry){.kind = MX_ENTRY_ADOPT,
                              .step = m->s->frontier,
                              .domain = in->domain,
                              .samples = in->samples,
                              .chunk = (in->chunk + m_longest(m->c) - 1) / m_longest(m->c) *
                                       m_longest(m->c),
                              .shards = in->shards,
                              .flag = in->flag});
    }
}

static void on_withdraw(struct model *m, const struct mx_event *ev, struct m_expect *x)
{
    const struct mx_entry *in = ev->entry;
    struct m_entry e = {.kind = MX_ENTRY_WITHDRAW,
                        .step = m->s->frontier,
                        .domain = in->domain,
                        .n = in->n,
                        .serial = in->serial};
    struct m_domain d;

    if (in->domain >= m->c->plan.k) {
        refuse(x, MX_BAD_DOMAIN, in->domain, 0);
        return;
    }
    d = m->s->domains[in->domain];
    for (uint32_t i = 0; i < in->n; i++) {
        e.ranges[i] = in->ranges[i];
        if (in->ranges[i].count == 0 ||
            (i > 0 && in->ranges[i].first < in->ranges[i - 1].first + in->ranges[i - 1].count)) {
            refuse(x, MX_BAD_DOMAIN, in->domain, 0);
            return;
        }
        memset(d.gone + in->ranges[i].first, 1, in->ranges[i].count);
    }
    if (changing(m)) {
        refuse(x, MX_CHANGING, m->s->frontier, 0);
    } else if (in->serial <= d.serial) {
        refuse(x, MX_DUPLICATE, d.serial, 0);
    } else if (m_over_half(m->c, &d, d.samples)) {
        refuse(x, MX_TOO_MUCH_GONE, d.samples, 0);
    } else if (m_over_half(m->c, &d, d.later)) {
        refuse(x, MX_TOO_MUCH_GONE, d.later, 0);
    } else {
        want(m, x, e);
    }
}

/* The state that a rewind goes on from is the core's own doing; here its entry alone. */
static void on_rewind(struct model *m, const struct mx_event *ev, struct m_expect *x)
{
    const struct mx_entry *in = ev->entry;
    struct m_entry e = {.kind = MX_ENTRY_REWIND,
                        .step = in->step,
                        .cause = MX_CAUSE_REWIND,
                        .branch = m->s->branch + 1};
    struct m_state *then;
    struct m_list line = {0};

    if (in->step > m->s->frontier || in->step < m->s->first_step) {
        refuse(x, MX_BAD_RANGE, m->s->frontier, m->s->first_step);
        return;
    }
    if (!m->frozen || m->flight.n > 0) {
        refuse(x, MX_CHANGING, m->s->frontier, 0);
        return;
    }
    then = malloc(sizeof *then);
    if (then == NULL) {
        abort();
    }
    m_refold(m, in->step, then, &line);
    memcpy(e.shares, m_mix_of(then, in->step)->shares, sizeof e.shares);
    e.version = model_versions(m) + 1;
    want(m, x, e);
    free(line.at);
    free(then);
}

static int is_command(enum mx_event_kind kind)
{
    return kind != MX_EV_REQUEST && kind != MX_EV_FEEDBACK && kind != MX_EV_FREEZE &&
           kind != MX_EV_THAW && kind != MX_EV_TIMER;
}

void model_event(struct model *m, const struct mx_event *ev, struct m_expect *x)
{
    memset(x, 0, sizeof *x);
    x->drop = MODEL_NEVER;
    m->now_ms = ev->now_ms;
    if (m->frozen && ev->kind != MX_EV_REQUEST && ev->kind != MX_EV_REWIND &&
        ev->kind != MX_EV_THAW) {
        if (ev->kind != MX_EV_TIMER) {
            refuse(x, MX_CHANGING, m->s->frontier, 0);
        }
        return;
    }
    if (!m->s->created && !m->frozen && is_command(ev->kind)) { /* a fork's state isn't there yet */
        refuse(x, MX_CHANGING, m->s->frontier, 0);
        return;
    }
    switch (ev->kind) {
    case MX_EV_REQUEST: on_request(m, ev, x); break;
    case MX_EV_FEEDBACK: on_feedback(m, ev, x); break;
    case MX_EV_SET: on_set(m, ev, x); break;
    case MX_EV_STOP:
        if (m->s->stop != MODEL_NEVER) {
            refuse(x, MX_STOPPED, m->s->stop, 0);
        } else {
            want(m, x, (struct m_entry){.kind = MX_ENTRY_STOP, .step = m->s->frontier});
        }
        break;
    case MX_EV_SKIP: on_skip(m, ev, x); break;
    case MX_EV_ADOPT: on_adopt(m, ev, x); break;
    case MX_EV_WITHDRAW: on_withdraw(m, ev, x); break;
    case MX_EV_REWIND: on_rewind(m, ev, x); break;
    case MX_EV_WORKED: break; /* nobody works here */
    case MX_EV_FREEZE: m->frozen = 1; break;
    case MX_EV_THAW:
        if (m->frozen && model_in_flight(m, MX_ENTRY_REWIND) == 0) {
            m->frozen = 0;
            model_want_mix(m, x);
        }
        break;
    case MX_EV_TIMER: break; /* see model_allows and model_misses */
    }
}
