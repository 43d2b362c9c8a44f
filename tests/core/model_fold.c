/* model_fold.c - what entries do, and going back by filtering them. See model.h. Knows nothing of
 * who asked for them. */
#include "tests/core/model.h"

#include "daemon/core/shares.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_MAX 64 /* steps that await reports */

/* ---- lists ---------------------------------------------------------------------------------- */

void m_push(struct model *m, struct m_list *l, const struct m_entry *e)
{
    if (l->n == l->cap) {
        l->cap = l->cap * 2 + 64;
        l->at = realloc(l->at, l->cap * sizeof *l->at);
        if (l->at == NULL) {
            abort();
        }
    }
    l->at[l->n++] = *e;
    m->overflow |= l->n > 20000;
}

void m_state_begin(const struct mx_run_config *c, struct m_state *s)
{
    memset(s, 0, sizeof *s);
    s->stop = s->exhausted = MODEL_NEVER;
    for (uint32_t i = 0; i < c->plan.k; i++) {
        m_domain_begin(c, i, &s->domains[i]);
        s->loss[i] = NAN;
    }
    mx_mixer_init(s->policy, &c->mixers[0]);
    memcpy(s->weights, mx_mixer_weights(s->policy), c->plan.k * sizeof *s->weights);
}

/* ---- mixes ---------------------------------------------------------------------------------- */

const struct m_mix *m_mix_of(const struct m_state *s, uint64_t step)
{
    const struct m_mix *found = NULL;

    for (uint32_t i = 0; i < s->n_mixes && s->mixes[i].from <= step; i++) {
        found = &s->mixes[i];
    }
    return found;
}

void m_shares(const struct mx_run_config *c, const double *weights, uint64_t *ret)
{
    double projected[MODEL_K], scratch[4 * MODEL_K];
    uint64_t remainders[MODEL_K];

    mx_limits_project(c->limits, weights, c->plan.k, projected, scratch);
    mx_shares_quantise(projected, c->plan.k, ret, remainders);
}

static void add_mix(struct model *m, struct m_state *s, const struct m_entry *e, int set)
{
    uint32_t at = 0;

    while (at < s->n_mixes && (s->mixes[at].from < e->step ||
                               (s->mixes[at].from == e->step && s->mixes[at].set < set))) {
        at++;
    }
    if (at == s->n_mixes || s->mixes[at].from != e->step || s->mixes[at].set != set) {
        if (s->n_mixes == MODEL_MIXES) {
            m->overflow = 1;
            return;
        }
        memmove(s->mixes + at + 1, s->mixes + at, (s->n_mixes - at) * sizeof *s->mixes);
        s->n_mixes++;
    }
    s->mixes[at] = (struct m_mix){.from = e->step, .version = e->version, .set = set};
    memcpy(s->mixes[at].shares, e->shares, sizeof e->shares);
    s->versions = s->versions > e->version ? s->versions : e->version;
}

/* ---- reports -------------------------------------------------------------------------------- */

static uint32_t reported(const struct m_state *s, uint64_t step)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n_reports; i++) {
        n += s->reports[i].step == step;
    }
    return n;
}

int m_has_reported(const struct m_state *s, uint64_t step, uint32_t rank)
{
    for (uint32_t i = 0; i < s->n_reports; i++) {
        if (s->reports[i].step == step && s->reports[i].rank == rank) {
            return 1;
        }
    }
    return 0;
}

static void forget_reports(struct m_state *s, uint64_t step)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < s->n_reports; i++) {
        if (s->reports[i].step != step) {
            s->reports[kept++] = s->reports[i];
        }
    }
    s->n_reports = kept;
}

static int below_quorum(const struct model *m, const struct m_state *s, uint64_t step)
{
    return reported(s, step) < m->c->quorum * s->world[step];
}

/* The policy learns of a step, unless too few have reported; then the reports are done with. */
static void show(struct model *m, struct m_state *s, uint64_t step)
{
    const struct mx_run_config *c = m->c;
    struct mx_domain_stats stats[MODEL_K];
    struct mx_observation seen = {.t = step + 1, .train = stats};
    double scratch[MODEL_POLICY];
    uint32_t n = 0;

    for (uint32_t d = 0; d < c->plan.k && !below_quorum(m, s, step); d++) {
        struct mx_domain_stats st = {.domain = d};
        double sum = 0.0; /* exact, and so the same in any order: see the losses of test_model.c */

        for (uint32_t i = 0; i < s->n_reports; i++) {
            for (uint32_t j = 0; s->reports[i].step == step && j < s->reports[i].n; j++) {
                const struct mx_loss *l = &s->reports[i].losses[j];

                st.tokens += l->domain == d ? l->tokens : 0;
                st.samples += l->domain == d ? l->samples : 0;
                sum += l->domain == d ? l->loss_sum : 0.0;
            }
        }
        if (st.tokens > 0) {
            st.loss = sum / (double)st.tokens;
            s->loss[d] = st.loss;
            s->loss_step[d] = step;
            stats[n++] = st;
        }
    }
    forget_reports(s, step);
    s->feedback[step] = M_CLOSED;
    s->closings[s->n_closings].step = step;
    s->closings[s->n_closings].moved = 0;
    seen.n_train = n;
    s->closings[s->n_closings].moved =
        n > 0 && mx_mixer_observe(s->policy, &c->mixers[0], &seen, 0, scratch);
    memcpy(s->weights, mx_mixer_weights(s->policy), c->plan.k * sizeof *s->weights);
    s->wanted |= s->closings[s->n_closings].moved;
    s->n_closings++;
}

/* Lockstep: closed steps come to the policy in their order, one mix at a time. */
static void consume(struct model *m, struct m_state *s)
{
    while (m->c->lag > 0 && !s->wanted && s->consumed < MODEL_STEPS) {
        if (s->feedback[s->consumed] == M_WAITS) {
            show(m, s, s->consumed);
        } else if (!s->skipped[s->consumed] &&
                   (s->consumed >= s->first_step || s->feedback[s->consumed] == M_OPEN)) {
            return;
        }
        s->consumed++;
    }
}

static void close_step(struct model *m, struct m_state *s, uint64_t step)
{
    s->complete[step] = reported(s, step) == s->world[step];
    s->steps_closed++;
    s->last_closed = step;
    s->below_quorum += (uint64_t)below_quorum(m, s, step);
    s->feedback[step] = M_WAITS;
    if (m->c->lag == 0) {
        show(m, s, step);
    } else {
        consume(m, s);
    }
}

void m_close_open(struct model *m, struct m_state *s)
{
    for (uint64_t i = 0; i < MODEL_STEPS; i++) {
        if (s->feedback[i] == M_OPEN) {
            s->timeouts++;
            close_step(m, s, i);
        }
    }
    consume(m, s);
}

/* Where no more steps may be open the first of them gives way. */
static void make_room(struct model *m, struct m_state *s)
{
    uint64_t first = MODEL_NEVER;
    uint32_t n = 0;

    for (uint64_t i = MODEL_STEPS; i-- > 0;) {
        if (s->feedback[i] == M_OPEN || s->feedback[i] == M_WAITS) {
            first = s->feedback[i] == M_OPEN ? i : first;
            n++;
        }
    }
    if (n == OPEN_MAX) {
        s->timeouts++;
        close_step(m, s, first);
    }
}

static uint64_t deadline(const struct model *m)
{
    return m->c->feedback_timeout_ms == MODEL_NEVER ? MODEL_NEVER
                                                    : m->now_ms + m->c->feedback_timeout_ms;
}

static void fold_feedback(struct model *m, struct m_state *s, const struct m_entry *e,
                          struct m_expect *x)
{
    struct m_report *r;

    if (s->feedback[e->step] == M_CLOSED || s->feedback[e->step] == M_WAITS ||
        s->skipped[e->step]) {
        s->late++;
        return;
    }
    if (s->feedback[e->step] == M_NONE) {
        make_room(m, s);
        s->feedback[e->step] = M_OPEN;
        s->world[e->step] = e->world;
        s->deadline[e->step] = deadline(m);
    }
    if (s->world[e->step] != e->world) { /* other trainers: what theirs said is void */
        forget_reports(s, e->step);
        s->world[e->step] = e->world;
    }
    if (m_has_reported(s, e->step, e->rank)) {
        s->duplicates++;
        return;
    }
    if (s->n_reports == MODEL_REPORTS) {
        m->overflow = 1;
        return;
    }
    r = &s->reports[s->n_reports++];
    *r = (struct m_report){.step = e->step, .rank = e->rank, .n = e->n};
    memcpy(r->losses, e->losses, sizeof r->losses);
    s->accepted++;
    x->counted = 1;
    if (reported(s, e->step) == e->world) {
        close_step(m, s, e->step);
    }
}

/* ---- entries -------------------------------------------------------------------------------- */

int64_t m_advance(struct model *m, struct m_state *s, uint64_t step)
{
    while (s->frontier < step) {
        int64_t stopped;

        if (s->frontier >= MODEL_STEPS) {
            m->overflow = 1;
            return -1;
        }
        stopped =
            m_plan(m->c, m_mix_of(s, s->frontier), s->frontier, s->domains, &s->steps[s->frontier]);
        if (stopped >= 0) {
            return stopped;
        }
        s->frontier++;
    }
    return -1;
}

static void fold_mix(struct model *m, struct m_state *s, const struct m_entry *e)
{
    add_mix(m, s, e, 0);
    s->last_delay = e->step > e->cause_step ? e->step - e->cause_step : 0;
    if (m->c->lag > 0) {
        s->wanted = 0;
        consume(m, s);
        return;
    }
    /* What was closed after its cause is for the next one. */
    s->wanted = 0;
    for (uint32_t i = s->n_closings; i-- > 0 && s->closings[i].step != e->cause_step;) {
        s->wanted |= s->closings[i].moved;
    }
}

static void fold_set(struct model *m, struct m_state *s, const struct m_entry *e)
{
    double weights[MODEL_K], sum = 0.0;

    add_mix(m, s, e, 1);
    if (m->c->mixers[0].policy.ops->adapts) {
        if (m->c->lag == 0) { /* what it has learned so far gives way */
            s->wanted = 0;
            for (uint32_t i = 0; i < s->n_closings; i++) {
                s->closings[i].moved = 0;
            }
        }
        return;
    }
    for (uint32_t i = 0; i < m->c->plan.k; i++) {
        sum += e->weights[i];
    }
    for (uint32_t i = 0; i < m->c->plan.k; i++) {
        weights[i] = e->weights[i] / sum;
    }
    mx_mixer_put(s->policy, &m->c->mixers[0], weights);
    memcpy(s->weights, weights, m->c->plan.k * sizeof *weights);
}

static void fold_skip(struct model *m, struct m_state *s, const struct m_entry *e)
{
    for (uint64_t step = e->step; step < e->to; step++) {
        s->skipped[step] = 1;
        if (s->feedback[step] == M_OPEN || s->feedback[step] == M_WAITS) {
            forget_reports(s, step);
            s->feedback[step] = M_CLOSED;
            s->complete[step] = 0;
        }
    }
    consume(m, s);
}

static void fold_withdraw(struct m_state *s, const struct m_entry *e)
{
    struct m_domain *d = &s->domains[e->domain];

    for (uint32_t i = 0; i < e->n; i++) {
        memset(d->gone + e->ranges[i].first, 1, e->ranges[i].count);
    }
    d->serial = e->serial;
}

/* The state is the one at the turn already. */
static void fold_turn(struct model *m, struct m_state *s, const struct m_entry *e)
{
    s->reserved = e->step;
    s->branch = e->branch;
    add_mix(m, s, e, 0);
    while (s->n_turns > 0 && s->turns[s->n_turns - 1].step >= e->step) {
        s->n_turns--;
    }
    if (s->n_turns == MODEL_TURNS) {
        m->overflow = 1;
        return;
    }
    s->turns[s->n_turns++] = (struct mx_turn){e->step, e->version, e->index};
}

static void fold_exhausted(struct model *m, struct m_state *s, const struct m_entry *e)
{
    if (!e->flag) {
        /* Where samples come in a row, it may be that fewer of them could be drawn again. */
        s->domains[e->domain].spent =
            m_longest(m->c) > 1 || m_domain_spent(m->c, e->domain, &s->domains[e->domain]);
    } else if (s->exhausted == MODEL_NEVER) {
        s->exhausted = e->step;
        s->exhausted_domain = e->domain;
    }
}

void m_fold(struct model *m, struct m_state *s, const struct m_entry *e, struct m_expect *x)
{
    struct m_domain *d = &s->domains[e->domain];

    if (e->kind == MX_ENTRY_FORK) {
        *s = *m->base;
        return;
    }
    (void)m_advance(m, s, e->kind == MX_ENTRY_REWIND ? e->step : e->frontier);
    switch ((enum mx_entry_kind)e->kind) {
    case MX_ENTRY_CREATE:
        s->created = 1;
        add_mix(m, s, e, 0);
        break;
    case MX_ENTRY_RESERVE: s->reserved = e->step; break;
    case MX_ENTRY_FEEDBACK: fold_feedback(m, s, e, x); break;
    case MX_ENTRY_CLOSE:
        if (s->feedback[e->step] == M_OPEN) {
            s->timeouts++;
            close_step(m, s, e->step);
        }
        break;
    case MX_ENTRY_MIX: fold_mix(m, s, e); break;
    case MX_ENTRY_SET: fold_set(m, s, e); break;
    case MX_ENTRY_STOP: s->stop = s->stop == MODEL_NEVER ? e->step : s->stop; break;
    case MX_ENTRY_EXHAUSTED: fold_exhausted(m, s, e); break;
    case MX_ENTRY_SKIP: fold_skip(m, s, e); break;
    case MX_ENTRY_ADOPT:
        m_domain_grow(m->c, e->domain, d, e->samples, e->chunk, (int)e->flag);
        d->spent = d->spent == 0 ? 0 : m_domain_spent(m->c, e->domain, d) ? 2 : 0;
        break;
    case MX_ENTRY_WITHDRAW: fold_withdraw(s, e); break;
    case MX_ENTRY_REWIND: fold_turn(m, s, e); break;
    case MX_ENTRY_FIT: /* no policy here asks for one, and there are no shadows */
    case MX_ENTRY_SHADOW:
    case MX_ENTRY_FORK: break;
    }
}

int m_enough_stays(const struct model *m, const struct m_state *s)
{
    for (uint32_t i = 0; i < m->c->plan.k; i++) {
        const struct m_domain *d = &s->domains[i];

        if (m_over_half(m->c, d, d->samples) || m_over_half(m->c, d, d->later)) {
            return 0;
        }
    }
    return 1;
}

/* ---- going back ----------------------------------------------------------------------------- */

/* Whether an entry concerns the steps before `step`. */
static int concerns(const struct m_entry *e, uint64_t step)
{
    switch ((enum mx_entry_kind)e->kind) {
    case MX_ENTRY_CREATE:
    case MX_ENTRY_FORK:
    case MX_ENTRY_WITHDRAW: return 1; /* what was withdrawn stays so */
    case MX_ENTRY_FIT:
    case MX_ENTRY_SHADOW:
    case MX_ENTRY_RESERVE: return 0;
    case MX_ENTRY_MIX:
    case MX_ENTRY_REWIND: return e->step <= step;
    case MX_ENTRY_FEEDBACK:
    case MX_ENTRY_CLOSE:
    case MX_ENTRY_SET:
    case MX_ENTRY_STOP:
    case MX_ENTRY_EXHAUSTED:
    case MX_ENTRY_SKIP:
    case MX_ENTRY_ADOPT: break;
    }
    return e->step < step;
}

void m_refold(struct model *m, uint64_t step, struct m_state *ret, struct m_list *ret_line)
{
    struct m_expect x;

    m_state_begin(m->c, ret);
    for (uint32_t i = 0; i < m->line.n; i++) {
        struct m_entry e = m->line.at[i];

        if (concerns(&e, step)) {
            e.frontier = e.frontier < step ? e.frontier : step;
            e.to = e.to < step ? e.to : step;
            m_fold(m, ret, &e, &x);
            m_push(m, ret_line, &e);
        }
    }
    (void)m_advance(m, ret, step);
    ret->versions = m->s->versions;
}
