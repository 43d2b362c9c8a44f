/* run.c - a run's memory, its events and entries. See run.h; the parts are run_plan.c (steps),
 * run_request.c, run_feedback.c, run_mix.c and run_save.c. */
#include "daemon/core/run_state.h"

#include <math.h>
#include <string.h>

/* ---- memory --------------------------------------------------------------------------------- */

/* Hands out parts of one block. With base NULL it only counts. */
struct carver {
    char *base;
    size_t used;
};

static void *carve(struct carver *c, size_t bytes)
{
    void *p = c->base == NULL ? NULL : c->base + c->used;

    c->used += (bytes + 15) / 16 * 16;
    return p;
}

/* The one list of what a run holds, for its size and for its pointers. */
static void lay_out(struct mx_run *r, const struct mx_run_config *c, struct carver *m)
{
    size_t k = c->plan.k, d = k * sizeof(double), u = k * sizeof(uint64_t);

    r->limits = carve(m, k * sizeof(struct mx_limit));
    r->params = carve(m, c->policy->n_params * sizeof(double));
    r->policy_words = c->policy->state_size(c->plan.k);
    r->policy_state = carve(m, r->policy_words * sizeof(double));
    r->weights = carve(m, d);
    r->set_shares = carve(m, u);
    r->loss = carve(m, d);
    r->loss_step = carve(m, u);
    r->tail = carve(m, u);
    r->counts = carve(m, k * sizeof(uint32_t));
    r->loss_buffer = carve(m, k * sizeof(struct mx_loss));
    r->stats = carve(m, k * sizeof(struct mx_domain_stats));
    r->weight_buffer = carve(m, d);
    r->want_shares = carve(m, u);
    r->share_scratch = carve(m, u);
    r->limit_scratch = carve(m, 5 * d);
    r->mix_cap = mx_run_mix_cap(c->plan.k);
    for (uint32_t i = 0; i < r->mix_cap; i++) {
        r->mixes[i].shares = carve(m, u);
    }
    r->open_cap = mx_run_open_cap(c->plan.k);
    for (uint32_t i = 0; i < r->open_cap; i++) {
        r->open[i].ranks = carve(m, MX_RANK_WORDS * sizeof(uint64_t));
        r->open[i].loss = carve(m, k * sizeof(struct mx_fixed));
        r->open[i].tokens = carve(m, u);
        r->open[i].samples = carve(m, u);
    }
    r->record_words = mx_run_record_words(c->plan.k);
    r->ring_cap = mx_run_ring_cap(c->plan.k);
    r->ring = carve(m, r->ring_cap * r->record_words * sizeof(uint64_t));
}

size_t mx_run_size(const struct mx_run_config *c)
{
    struct mx_run probe;
    struct carver m = {NULL, 0};

    (void)carve(&m, sizeof(struct mx_run));
    lay_out(&probe, c, &m);
    return m.used;
}

static void check_config(const struct mx_run_config *c)
{
    const struct mx_plan_spec *p = &c->plan;

    MX_CORE_REQUIRE(p->k >= 1 && p->k <= MX_DOMAINS_MAX);
    MX_CORE_REQUIRE(p->batch >= 1 && p->batch <= MX_BATCH_MAX);
    MX_CORE_REQUIRE(p->block >= 1 && p->batch % p->block == 0);
    MX_CORE_REQUIRE(c->seq_len >= 1 && c->seq_len <= MX_SEQ_LEN_MAX);
    MX_CORE_REQUIRE(c->reserve_steps >= 1 && c->snapshot_steps >= 1);
    MX_CORE_REQUIRE(c->loss_max > 0.0 && c->loss_max <= MX_LOSS_MAX);
    for (uint32_t i = 0; i < p->k; i++) {
        MX_CORE_REQUIRE(p->domains[i].samples >= 1 && p->domains[i].samples <= MX_SAMPLES_MAX);
        MX_CORE_REQUIRE(p->domains[i].chunk >= 1 && p->domains[i].window >= 1);
    }
}

static void copy_prior(struct mx_run *r, const double *prior)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < r->k; i++) {
        sum += prior[i];
    }
    MX_CORE_REQUIRE(sum > 0.0 && isfinite(sum));
    for (uint32_t i = 0; i < r->k; i++) {
        MX_CORE_REQUIRE(prior[i] >= 0.0);
        r->weight_buffer[i] = prior[i] / sum;
    }
}

struct mx_run *mx_run_init(void *memory, const struct mx_run_config *c)
{
    struct carver m = {memory, 0};
    struct mx_run *r = carve(&m, sizeof *r);

    check_config(c);
    memset(r, 0, sizeof *r);
    r->c = *c;
    r->k = c->plan.k;
    lay_out(r, c, &m);
    memcpy(r->limits, c->limits, r->k * sizeof *r->limits);
    if (c->policy->n_params > 0) {
        memcpy(r->params, c->params, c->policy->n_params * sizeof *r->params);
    }
    r->c.limits = r->limits;
    r->c.params = r->params;
    copy_prior(r, c->prior);
    r->c.prior = NULL;
    c->policy->init(r->policy_state, r->k, r->weight_buffer, r->c.params);
    c->policy->weights(r->policy_state, r->k, r->weights);
    for (uint32_t i = 0; i < r->k; i++) {
        r->loss[i] = NAN;
        r->loss_step[i] = 0;
        r->set_shares[i] = 0;
        r->tail[i] = 0;
    }
    r->stop_step = MX_NEVER;
    r->exhausted_step = MX_NEVER;
    r->pending_mix = MX_NEVER;
    r->pending_stop = MX_NEVER;
    r->pending_exhausted = MX_NEVER;
    r->armed_ms = MX_NEVER;
    mx_run_plan_reset(r, 0);
    return r;
}

/* ---- effects -------------------------------------------------------------------------------- */

struct mx_effect *mx_run_push(struct mx_effects *fx, enum mx_effect_kind kind, uint64_t handle)
{
    struct mx_effect *f;

    MX_CORE_REQUIRE(fx->n < MX_EFFECTS_MAX);
    f = &fx->fx[fx->n++];
    memset(f, 0, sizeof *f);
    f->kind = kind;
    f->handle = handle;
    return f;
}

struct mx_effect *mx_run_refuse(struct mx_effects *fx, uint64_t handle, enum mx_verdict verdict,
                                uint64_t u)
{
    struct mx_effect *f = mx_run_push(fx, MX_FX_REFUSE, handle);

    f->verdict = verdict;
    f->u[0] = u;
    return f;
}

struct mx_entry *mx_run_append(struct mx_run *r, struct mx_effects *fx, uint64_t handle,
                               enum mx_entry_kind kind)
{
    struct mx_entry *e = &mx_run_push(fx, MX_FX_APPEND, handle)->entry;

    e->kind = kind;
    e->index = ++r->appended;
    e->time_ms = r->wall_ms;
    return e;
}

/* ---- events --------------------------------------------------------------------------------- */

uint64_t mx_run_limit(const struct mx_run *r)
{
    uint64_t limit = r->c.end_step < r->stop_step ? r->c.end_step : r->stop_step;

    return limit < r->exhausted_step ? limit : r->exhausted_step;
}

uint64_t mx_run_barrier(const struct mx_run *r)
{
    uint64_t b = r->pending_mix < r->pending_stop ? r->pending_mix : r->pending_stop;

    return b < r->pending_exhausted ? b : r->pending_exhausted;
}

static void on_stop(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    struct mx_entry *e;

    if (r->stop_step != MX_NEVER) {
        mx_run_refuse(fx, ev->handle, MX_STOPPED, r->stop_step);
        return;
    }
    if (r->pending_stop == MX_NEVER) {
        r->pending_stop = r->frontier;
    }
    e = mx_run_append(r, fx, ev->handle, MX_ENTRY_STOP);
    e->step = r->pending_stop;
    e->author = ev->entry->author;
    e->author_len = ev->entry->author_len;
    e->why = ev->entry->why;
    e->why_len = ev->entry->why_len;
}

void mx_run_event(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    MX_CORE_REQUIRE(r->live);
    fx->n = 0;
    r->wall_ms = ev->wall_ms;
    r->now_ms = ev->now_ms;
    switch (ev->kind) {
    case MX_EV_REQUEST: mx_run_on_request(r, ev, fx); break;
    case MX_EV_FEEDBACK: mx_run_on_feedback(r, ev, fx); break;
    case MX_EV_SET: mx_run_on_set(r, ev, fx); break;
    case MX_EV_STOP: on_stop(r, ev, fx); break;
    case MX_EV_TIMER: mx_run_on_timer(r, ev, fx); break;
    }
}

/* ---- entries -------------------------------------------------------------------------------- */

void mx_run_first_entry(struct mx_run *r, uint64_t wall_ms, struct mx_entry *ret)
{
    MX_CORE_REQUIRE(!r->created);
    r->live = 1; /* what is asked for before the entry is durable goes into the journal behind it */
    r->appended = 1;
    mx_run_shares(r, r->weights, r->want_shares);
    memset(ret, 0, sizeof *ret);
    ret->kind = MX_ENTRY_CREATE;
    ret->index = 1;
    ret->time_ms = wall_ms;
    ret->mix_version = 1;
    ret->shares = r->want_shares;
    ret->n = r->k;
    ret->cause = MX_CAUSE_CREATE;
}

static int create_apply(struct mx_run *r, const struct mx_entry *e)
{
    if (r->created || e->n != r->k || e->step != 0 || e->mix_version != 1 ||
        mx_run_add_mix(r, 0, 1, e->shares) != 0) {
        return -1;
    }
    r->created = 1;
    return 0;
}

static int stop_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx)
{
    r->pending_stop = MX_NEVER;
    if (r->stop_step == MX_NEVER) {
        r->stop_step = e->step;
        if (mx_run_truncate(r, e->step) && r->live) {
            mx_run_push(fx, MX_FX_DROP, 0)->step = e->step;
        }
    }
    return 0;
}

static int exhausted_apply(struct mx_run *r, const struct mx_entry *e)
{
    if (e->domain >= r->k) {
        return -1;
    }
    r->pending_exhausted = MX_NEVER;
    if (r->exhausted_step == MX_NEVER) {
        r->exhausted_step = e->step;
        r->exhausted_domain = e->domain;
    }
    return 0;
}

static int reserve_apply(struct mx_run *r, const struct mx_entry *e)
{
    r->pending_reserve = 0;
    if (e->step < r->reserved || e->step > MX_STEP_MAX * 2) {
        return -1;
    }
    r->reserved = e->step;
    return 0;
}

static int fold(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms, struct mx_effects *fx)
{
    if (e->kind != MX_ENTRY_CREATE && !r->created) {
        return -1;
    }
    switch (e->kind) {
    case MX_ENTRY_CREATE: return create_apply(r, e);
    case MX_ENTRY_RESERVE: return reserve_apply(r, e);
    case MX_ENTRY_FEEDBACK: return mx_run_feedback_apply(r, e, now_ms);
    case MX_ENTRY_CLOSE: mx_run_close_apply(r, e); return 0;
    case MX_ENTRY_MIX: return mx_run_mix_apply(r, e, fx);
    case MX_ENTRY_SET: return mx_run_set_apply(r, e);
    case MX_ENTRY_STOP: return stop_apply(r, e, fx);
    case MX_ENTRY_EXHAUSTED: return exhausted_apply(r, e);
    }
    return -1;
}

int mx_run_apply(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms,
                 struct mx_effects *fx)
{
    fx->n = 0;
    if (e->index != r->applied + 1 || fold(r, e, now_ms, fx) != 0) {
        return -1;
    }
    r->applied = e->index;
    r->wall_ms = e->time_ms > r->wall_ms ? e->time_ms : r->wall_ms;
    if (r->appended < r->applied) {
        r->appended = r->applied;
    }
    if (r->live) {
        mx_run_want_mix(r, fx);
        mx_run_want_reserve(r, r->frontier, fx);
        mx_run_want_timer(r, fx);
        mx_run_want_snapshot(r, fx);
    }
    return 0;
}

void mx_run_recovered(struct mx_run *r, uint64_t now_ms, uint64_t wall_ms, struct mx_effects *fx)
{
    uint64_t upto = r->reserved < mx_run_limit(r) ? r->reserved : mx_run_limit(r);
    int64_t stopped;

    MX_CORE_REQUIRE(r->created);
    fx->n = 0;
    r->live = 1;
    r->wall_ms = wall_ms > r->wall_ms ? wall_ms : r->wall_ms;
    stopped = mx_run_advance(r, upto);
    if (stopped >= 0) {
        mx_run_want_exhausted(r, (uint32_t)stopped, fx);
    }
    mx_run_rearm(r, now_ms);
    mx_run_want_mix(r, fx);
    mx_run_want_reserve(r, r->frontier, fx);
    mx_run_want_timer(r, fx);
    mx_run_want_snapshot(r, fx);
}

void mx_run_view(struct mx_run *r, struct mx_run_view *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->frontier = r->frontier;
    ret->reserved = r->reserved;
    ret->end_step = r->c.end_step;
    ret->applied = r->applied;
    ret->shares = r->set_shares; /* all 0 until there is a mix */
    if (r->created) {
        const struct mx_known_mix *latest = &r->mixes[r->mix_count - 1];
        const struct mx_known_mix *now = mx_run_mix_of(r, r->frontier);

        ret->mix_version = latest->version;
        ret->mix_step = latest->from;
        ret->next_version = now != latest ? now[1].version : 0;
        ret->next_step = now != latest ? now[1].from : 0;
        ret->shares = now->shares;
    }
    ret->steps_closed = r->steps_closed;
    ret->last_closed = r->last_closed;
    ret->last_delay = r->last_delay;
    ret->accepted = r->accepted;
    ret->duplicates = r->duplicates;
    ret->late = r->late;
    ret->quarantined = r->quarantined;
    ret->timeouts = r->timeouts;
    ret->open_steps = r->open_count;
    ret->stopped = r->stop_step != MX_NEVER;
    ret->exhausted = r->exhausted_step != MX_NEVER ? (int)r->exhausted_domain + 1 : 0;
    ret->exhausted_step = r->exhausted_step != MX_NEVER ? r->exhausted_step : 0;
    ret->weights = r->weights;
    ret->loss = r->loss;
    ret->loss_step = r->loss_step;
    ret->cursors = mx_run_cursors(r);
}
