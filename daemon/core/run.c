/* run.c - a run's memory, its events and entries. See run.h; the parts are run_plan.c (steps),
 * run_request.c, run_feedback.c, run_mix.c, run_change.c, run_rewind.c and run_save.c. */
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

static void lay_out_mixers(struct mx_run *r, const struct mx_run_config *c, struct carver *m)
{
    size_t k = c->plan.k, scratch = 0, d = k * sizeof(double);

    r->fit_max = 0;
    r->uses_grad = r->uses_reward = 0;
    for (uint32_t i = 0; i < c->n_mixers; i++) {
        struct mx_mixer *x = &r->mixers[i];
        size_t one;

        x->conf = c->mixers[i];
        x->conf.policy.k = c->plan.k;
        x->conf.policy.prior = r->prior;
        x->words = mx_mixer_size(&x->conf);
        x->state = carve(m, x->words * sizeof(double));
        one = mx_mixer_scratch(&x->conf);
        scratch = one > scratch ? one : scratch;
        one = mx_mixer_work_size(&x->conf);
        r->fit_max = one > r->fit_max ? one : r->fit_max;
        r->uses_grad |= x->conf.policy.ops->uses_grad;
        r->uses_reward |= x->conf.policy.ops->uses_reward;
    }
    r->n_shares = c->plan.k * (c->mixers[0].guards.apply == MX_APPLY_LOSS ? 2u : 1u);
    r->fit_buffer = carve(m, r->fit_max * sizeof(double));
    r->mixer_scratch = carve(m, scratch * sizeof(double));
    r->term_buffer = carve(m, MX_POLICY_TERMS_MAX * d);
    r->bound_buffer = carve(m, k);
    r->reward_buffer = carve(m, k * sizeof(struct mx_reward));
    r->reward_stats = carve(m, k * sizeof(struct mx_reward_stats));
    r->gram = carve(m, r->uses_grad ? MX_GRAM_MAX * MX_GRAM_MAX * sizeof(double) : 0);
    r->shadow_shares = carve(m, (c->n_mixers - 1) * k * sizeof(uint64_t));
    r->shadow_weights = carve(m, (c->n_mixers - 1) * d);
}

/* What evaluations take. */
static void lay_out_evals(struct mx_run *r, const struct mx_run_config *c, struct carver *m)
{
    r->eval_first[0] = 0;
    for (uint32_t i = 0; i < c->n_eval_sets; i++) {
        r->eval_first[i + 1] = r->eval_first[i] + c->eval_sets[i];
    }
    r->members = r->eval_first[c->n_eval_sets];
    r->eval_loss = carve(m, r->members * sizeof(double));
    r->eval_step = carve(m, r->members * sizeof(uint64_t));
    r->eval_buffer = carve(m, r->members * sizeof(struct mx_eval_loss));
    r->eval_stats = carve(m, r->members * sizeof(struct mx_domain_stats));
}

static void lay_out_open(struct mx_run *r, struct mx_open_step *o, uint32_t k, struct carver *m)
{
    size_t u = k * sizeof(uint64_t);

    o->ranks = carve(m, MX_RANK_WORDS * sizeof(uint64_t));
    o->loss = carve(m, k * sizeof(struct mx_fixed));
    o->tokens = carve(m, u);
    o->samples = carve(m, u);
    o->eval_loss = carve(m, r->members * sizeof(struct mx_fixed));
    o->eval_tokens = carve(m, r->members * sizeof(uint64_t));
    o->reward = carve(m, r->uses_reward ? k * sizeof(struct mx_fixed) : 0);
    o->reward_count = carve(m, r->uses_reward ? u : 0);
    o->gram_domains = carve(m, r->uses_grad ? MX_GRAM_MAX * sizeof(uint32_t) : 0);
    o->gram = carve(m, r->uses_grad ? MX_GRAM_WORDS * sizeof(double) : 0);
}

/* The one list of what a run holds, for its size and for its pointers. */
static void lay_out(struct mx_run *r, const struct mx_run_config *c, struct carver *m)
{
    size_t k = c->plan.k, d = k * sizeof(double), u = k * sizeof(uint64_t);

    r->limits = carve(m, k * sizeof(struct mx_limit));
    r->prior = carve(m, d);
    r->departure = carve(m, d);
    lay_out_mixers(r, c, m);
    r->domains = carve(m, k * sizeof(struct mx_plan_domain));
    r->stretches = carve(m, MX_STRETCHES_MAX * sizeof(struct mx_stretch));
    r->gone = carve(m, MX_GONE_MAX * sizeof(struct mx_gone));
    r->budgets = carve(m, u);
    r->withdrawn = carve(m, k * sizeof(uint32_t));
    r->spent = carve(m, k);
    r->passed = carve(m, u);
    r->digests = carve(m, MX_DIGESTS * sizeof(uint64_t));
    r->digest_buffer = carve(m, MX_DIGESTS * sizeof(uint64_t));
    r->range_buffer = carve(m, MX_GONE_MAX * sizeof(struct mx_range));
    r->loss = carve(m, d);
    r->loss_step = carve(m, u);
    r->tail = carve(m, u);
    r->counts = carve(m, k * sizeof(uint32_t));
    r->loss_buffer = carve(m, k * sizeof(struct mx_loss));
    r->stats = carve(m, k * sizeof(struct mx_domain_stats));
    r->weight_buffer = carve(m, d);
    r->want_shares = carve(m, r->n_shares * sizeof(uint64_t));
    r->share_scratch = carve(m, u);
    r->limit_scratch = carve(m, 5 * d);
    r->mix_cap = mx_run_mix_cap(c->plan.k);
    for (uint32_t i = 0; i < r->mix_cap; i++) {
        r->mixes[i].shares = carve(m, r->n_shares * sizeof(uint64_t));
    }
    lay_out_evals(r, c, m);
    r->open_cap = mx_run_open_cap(c->plan.k);
    for (uint32_t i = 0; i < r->open_cap; i++) {
        lay_out_open(r, &r->open[i], c->plan.k, m);
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

static void check_parts(const struct mx_plan_spec *p)
{
    uint32_t longest = mx_plan_longest(p);

    MX_CORE_REQUIRE(p->n_parts <= MX_PARTS_MAX && (p->n_parts == 0) == (p->parts == NULL));
    for (uint32_t i = 0; i < p->n_parts; i++) {
        const struct mx_plan_part *part = &p->parts[i];

        MX_CORE_REQUIRE(i == 0 ? part->from_step == 0
                               : part->from_step > p->parts[i - 1].from_step);
        MX_CORE_REQUIRE(part->batch >= 1 && part->batch <= MX_BATCH_MAX);
        MX_CORE_REQUIRE(part->block >= 1 && part->batch % part->block == 0);
        MX_CORE_REQUIRE(part->length >= 1 && longest % part->length == 0);
        MX_CORE_REQUIRE((uint64_t)part->batch * part->length <= MX_STEP_UNITS_MAX);
    }
    MX_CORE_REQUIRE(p->n_parts == 0 ||
                    (p->batch == p->parts[0].batch && p->block == p->parts[0].block));
    for (uint32_t i = 0; i < p->k; i++) {
        MX_CORE_REQUIRE(p->domains[i].samples >= longest && p->domains[i].chunk % longest == 0);
    }
}

static void check_config(const struct mx_run_config *c)
{
    const struct mx_plan_spec *p = &c->plan;

    MX_CORE_REQUIRE(p->k >= 1 && p->k <= MX_DOMAINS_MAX);
    MX_CORE_REQUIRE(p->batch >= 1 && p->batch <= MX_BATCH_MAX);
    MX_CORE_REQUIRE(p->block >= 1 && p->batch % p->block == 0);
    MX_CORE_REQUIRE(c->seq_len >= 1 && c->seq_len <= MX_SEQ_LEN_MAX);
    MX_CORE_REQUIRE(c->reserve_steps >= 1 && c->snapshot_steps >= 1);
    MX_CORE_REQUIRE(c->lag <= mx_run_lag_max(p->k) && c->quorum >= 0.0 && c->quorum <= 1.0);
    MX_CORE_REQUIRE(c->loss_max > 0.0 && c->loss_max <= MX_LOSS_MAX);
    MX_CORE_REQUIRE(c->n_mixers >= 1 && c->n_mixers <= 1 + MX_SHADOWS_MAX);
    MX_CORE_REQUIRE(c->n_mixers == 1 || c->shadow_steps >= 1);
    MX_CORE_REQUIRE(c->n_eval_sets <= MX_EVAL_SETS_MAX);
    for (uint32_t i = 0; i < p->k; i++) {
        MX_CORE_REQUIRE(p->domains[i].samples >= 1 && p->domains[i].samples <= MX_SAMPLES_MAX);
        MX_CORE_REQUIRE(p->domains[i].chunk >= 1 && p->domains[i].window >= 1);
        MX_CORE_REQUIRE(p->domains[i].n_stretches == 0 && p->domains[i].n_gone == 0);
    }
    check_parts(p);
}

/* The prior, to the sum 1. */
static void copy_prior(struct mx_run *r, const double *prior)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < r->k; i++) {
        sum += prior[i];
    }
    MX_CORE_REQUIRE(sum > 0.0 && isfinite(sum));
    for (uint32_t i = 0; i < r->k; i++) {
        MX_CORE_REQUIRE(prior[i] >= 0.0);
        r->prior[i] = prior[i] / sum;
    }
}

void mx_run_clear_fold(struct mx_run *r)
{
    r->created = 0;
    r->applied = r->reserved = r->first_step = r->versions = 0;
    r->branch = r->n_turns = r->n_stretches = r->n_gone = r->n_skips = 0;
    r->stop_step = MX_NEVER;
    r->exhausted_step = MX_NEVER;
    r->exhausted_domain = 0;
    r->mix_count = 0;
    r->policy_wanted = 0;
    r->last_moved = 0;
    r->consumed = 0;
    r->steps_closed = r->last_closed = r->last_delay = 0;
    r->accepted = r->timeouts = r->below_quorum = 0;
    r->highest_closed = r->shadow_at = 0;
    r->rewards = r->scores = r->grads = r->evals = r->steps_skipped = r->nonfinite = 0;
    r->open_count = 0;
    for (uint32_t i = 0; i < r->open_cap; i++) {
        r->open[i].used = 0;
    }
    r->closed_base = 0;
    memset(r->closed, 0, sizeof r->closed);
    memset(r->complete, 0, sizeof r->complete);
    for (uint32_t i = 0; i < r->k; i++) {
        r->loss[i] = NAN;
        r->loss_step[i] = 0;
        r->tail[i] = 0;
        r->withdrawn[i] = 0;
        r->spent[i] = 0;
        r->passed[i] = 0;
        r->domains[i].n_stretches = r->domains[i].n_gone = 0;
        r->domains[i].budget = r->budgets[i];
    }
    for (uint32_t i = 0; i < r->members; i++) {
        r->eval_loss[i] = NAN;
        r->eval_step[i] = 0;
    }
    mx_run_point_domains(r);
    mx_run_set_point(r, 0);
    memcpy(r->departure, r->prior, r->k * sizeof *r->departure);
    mx_run_plan_reset(r, 0);
    r->tail_digest = mx_run_first_digest(r);
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
    memcpy(r->domains, c->plan.domains, r->k * sizeof *r->domains);
    for (uint32_t i = 0; i < r->k; i++) {
        r->budgets[i] = r->domains[i].budget;
        r->budgeted += r->budgets[i] != MX_NO_BUDGET;
    }
    r->c.plan.domains = r->domains;
    memcpy(r->limits, c->limits, r->k * sizeof *r->limits);
    r->c.limits = r->limits;
    copy_prior(r, c->prior);
    r->c.prior = NULL;
    r->schedule = (struct mx_schedule){c->phases, c->n_phases, r->k, c->end_step, r->prior,
                                       r->limits};
    MX_CORE_REQUIRE(mx_schedule_ok(&r->schedule));
    r->c.mixers = NULL;
    r->c.eval_sets = NULL;
    for (uint32_t i = 0; i < c->n_mixers; i++) {
        mx_mixer_init(r->mixers[i].state, &r->mixers[i].conf);
    }
    r->weights = mx_mixer_weights(r->mixers[0].state);
    memset(r->want_shares, 0, r->n_shares * sizeof *r->want_shares);
    r->pending_mix = MX_NEVER;
    r->mix_again = MX_NEVER;
    r->pending_set = MX_NEVER;
    r->pending_exhausted = MX_NEVER;
    r->armed_ms = MX_NEVER;
    mx_run_clear_fold(r);
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
    e->frontier = r->frontier;
    return e;
}

void mx_run_copy_author(struct mx_entry *to, const struct mx_entry *from)
{
    to->author = from->author;
    to->author_len = from->author_len;
    to->why = from->why;
    to->why_len = from->why_len;
}

/* ---- events --------------------------------------------------------------------------------- */

uint64_t mx_run_limit(const struct mx_run *r)
{
    uint64_t limit = r->c.end_step < r->stop_step ? r->c.end_step : r->stop_step;

    return limit < r->exhausted_step ? limit : r->exhausted_step;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t mx_run_lockstep_barrier(const struct mx_run *r)
{
    uint64_t owed;

    if (r->c.lag == 0) {
        return MX_NEVER;
    }
    return mx_run_owes_mix(r, &owed) ? owed : r->consumed + r->c.lag;
}

uint64_t mx_run_barrier(const struct mx_run *r)
{
    uint64_t b = least(least(r->pending_mix, r->pending_set), r->pending_exhausted);

    if (r->pending_here > 0 || r->frozen) {
        b = least(b, r->frontier);
    }
    return least(least(b, r->next_point), mx_run_lockstep_barrier(r));
}

static void on_stop(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    struct mx_entry *e;

    if (r->stop_step != MX_NEVER) {
        mx_run_refuse(fx, ev->handle, MX_STOPPED, r->stop_step);
        return;
    }
    r->pending_here++;
    e = mx_run_append(r, fx, ev->handle, MX_ENTRY_STOP);
    e->step = r->frontier;
    mx_run_copy_author(e, ev->entry);
}

/* What the fold leaves to be done. A run's first steps are reserved when they are asked for: until
 * then the frontier stays where the run begins, also after a crash, and what was withdrawn before
 * is known before a step is planned. */
static void want_all(struct mx_run *r, struct mx_effects *fx)
{
    if (!mx_run_want_point(r, fx)) { /* else with its entry: both take the same buffers */
        mx_run_want_mix(r, fx);
    }
    if (r->reserved > r->first_step) {
        mx_run_want_reserve(r, r->frontier, fx);
    }
    mx_run_want_spent(r, fx);
    mx_run_want_work(r, fx);
    mx_run_want_shadow(r, fx);
    mx_run_want_timer(r, fx);
}

/* What a frozen run still does: it serves what is planned, and hears that it is frozen no more. */
static void frozen_event(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    switch (ev->kind) {
    case MX_EV_REQUEST: mx_run_on_request(r, ev, fx); return;
    case MX_EV_REWIND: mx_run_on_rewind(r, ev, fx); return;
    case MX_EV_TIMER: r->armed_ms = MX_NEVER; return; /* it is armed again afterwards */
    case MX_EV_WORKED: mx_run_drop_work(r, ev->handle); return; /* likewise asked for again */
    case MX_EV_THAW:
        if (!r->rewinding) { /* else its entry thaws the run: what is asked for comes behind it */
            r->frozen = 0;
            want_all(r, fx);
        }
        return;
    case MX_EV_FREEZE:
    case MX_EV_FEEDBACK:
    case MX_EV_SET:
    case MX_EV_STOP:
    case MX_EV_SKIP:
    case MX_EV_ADOPT:
    case MX_EV_WITHDRAW: break;
    }
    mx_run_refuse(fx, ev->handle, MX_CHANGING, r->frontier);
}

static int is_command(enum mx_event_kind kind)
{
    return kind == MX_EV_SET || kind == MX_EV_STOP || kind == MX_EV_SKIP || kind == MX_EV_ADOPT ||
           kind == MX_EV_WITHDRAW || kind == MX_EV_REWIND;
}

static void live_event(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    switch (ev->kind) {
    case MX_EV_REQUEST:
        mx_run_on_request(r, ev, fx);
        mx_run_want_work(r, fx); /* in lockstep nothing else may come after one that failed */
        break;
    case MX_EV_FEEDBACK: mx_run_on_feedback(r, ev, fx); break;
    case MX_EV_SET: mx_run_on_set(r, ev, fx); break;
    case MX_EV_STOP: on_stop(r, ev, fx); break;
    case MX_EV_SKIP: mx_run_on_skip(r, ev, fx); break;
    case MX_EV_ADOPT: mx_run_on_adopt(r, ev, fx); break;
    case MX_EV_WITHDRAW: mx_run_on_withdraw(r, ev, fx); break;
    case MX_EV_REWIND: mx_run_on_rewind(r, ev, fx); break;
    case MX_EV_TIMER: mx_run_on_timer(r, ev, fx); break;
    case MX_EV_WORKED: mx_run_on_worked(r, ev, fx); break;
    case MX_EV_FREEZE: r->frozen = 1; break;
    case MX_EV_THAW: break;
    }
}

void mx_run_event(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    MX_CORE_REQUIRE(r->live);
    fx->n = 0;
    r->wall_ms = ev->wall_ms;
    r->now_ms = ev->now_ms;
    if (r->frozen) {
        frozen_event(r, ev, fx);
    } else if (!r->created && is_command(ev->kind)) { /* a fork's state isn't there yet */
        mx_run_refuse(fx, ev->handle, MX_CHANGING, r->frontier);
    } else {
        live_event(r, ev, fx);
    }
    for (uint32_t i = 0; i < fx->n; i++) {
        if (fx->fx[i].kind == MX_FX_REFUSE) {
            fx->fx[i].step = ev->step; /* for the text */
        }
    }
}

/* ---- entries -------------------------------------------------------------------------------- */

void mx_run_first_entry(struct mx_run *r, uint64_t wall_ms, struct mx_entry *ret)
{
    MX_CORE_REQUIRE(!r->created);
    r->live = 1; /* what is asked for before the entry is durable goes into the journal behind it */
    r->appended = 1;
    r->versions_asked = 1;
    mx_run_phase_shares(r, 0, r->want_shares);
    memset(ret, 0, sizeof *ret);
    ret->kind = MX_ENTRY_CREATE;
    ret->index = 1;
    ret->time_ms = wall_ms;
    ret->mix_version = 1;
    ret->shares = r->want_shares;
    ret->n_shares = r->n_shares;
    ret->weights = r->weights;
    ret->bound = r->bound_buffer;
    ret->cause = MX_CAUSE_CREATE;
}

static int create_apply(struct mx_run *r, const struct mx_entry *e)
{
    if (e->step != 0 || e->mix_version != 1 || e->n_shares != r->n_shares ||
        mx_run_add_mix(r, 0, 0, 1, e->shares) != 0) {
        return -1;
    }
    mx_mixer_in_force(r->mixers[0].state, &r->mixers[0].conf, 1);
    r->created = 1;
    return 0;
}

static int stop_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx)
{
    if (r->live) {
        r->pending_here--;
    }
    if (e->step != r->frontier) {
        return -1;
    }
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
    if (!e->flag) {
        r->pending_spent = 0;
        r->spent[e->domain] = 1;
        return 0;
    }
    r->pending_exhausted = MX_NEVER;
    if (e->step != r->frontier) {
        return -1;
    }
    if (r->exhausted_step == MX_NEVER) {
        r->exhausted_step = e->step;
        r->exhausted_domain = e->domain;
    }
    return 0;
}

static int reserve_apply(struct mx_run *r, const struct mx_entry *e)
{
    r->pending_reserve = 0;
    if (e->step < r->reserved || e->step > r->frontier + MX_DIGESTS) {
        return -1;
    }
    r->reserved = e->step;
    return 0;
}

/* What an entry does; the frontier is where the entry was asked for, or past it. */
static int fold_one(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms,
                    struct mx_effects *fx)
{
    switch (e->kind) {
    case MX_ENTRY_CREATE: return create_apply(r, e);
    case MX_ENTRY_RESERVE: return reserve_apply(r, e);
    case MX_ENTRY_FEEDBACK: return mx_run_feedback_apply(r, e, now_ms, fx);
    case MX_ENTRY_CLOSE: mx_run_close_apply(r, e); return 0;
    case MX_ENTRY_MIX: return mx_run_mix_apply(r, e, fx);
    case MX_ENTRY_SET: return mx_run_set_apply(r, e, fx);
    case MX_ENTRY_STOP: return stop_apply(r, e, fx);
    case MX_ENTRY_EXHAUSTED: return exhausted_apply(r, e);
    case MX_ENTRY_SKIP: return mx_run_skip_apply(r, e);
    case MX_ENTRY_ADOPT: return mx_run_adopt_apply(r, e, fx);
    case MX_ENTRY_WITHDRAW: return mx_run_withdraw_apply(r, e, fx);
    case MX_ENTRY_REWIND: return mx_run_rewind_apply(r, e, now_ms, fx);
    case MX_ENTRY_FORK: return mx_run_fork_apply(r, e, fx);
    case MX_ENTRY_FIT: return mx_run_fit_apply(r, e);
    case MX_ENTRY_SHADOW: return mx_run_shadow_apply(r, e);
    }
    return -1;
}

enum mx_applied mx_run_fold(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms,
                            struct mx_effects *fx)
{
    int first = e->kind == MX_ENTRY_CREATE || e->kind == MX_ENTRY_FORK;

    if (first == r->created) {
        return MX_APPLY_ORDER;
    }
    if (!first && (e->frontier > r->reserved || e->frontier > mx_run_lockstep_barrier(r) ||
                   e->frontier > r->next_point || mx_run_advance(r, e->frontier) >= 0)) {
        return MX_APPLY_ORDER; /* it says that a step was planned which can't be */
    }
    if (e->kind == MX_ENTRY_RESERVE && !mx_run_digests_hold(r, e)) {
        return MX_APPLY_DIGEST;
    }
    return fold_one(r, e, now_ms, fx) == 0 ? MX_APPLIED : MX_APPLY_ORDER;
}

enum mx_applied mx_run_apply(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms,
                             struct mx_effects *fx)
{
    enum mx_applied rc;

    fx->n = 0;
    fx->counted = 0;
    if (e->index != r->applied + 1) {
        return MX_APPLY_ORDER;
    }
    rc = mx_run_fold(r, e, now_ms, fx);
    if (rc != MX_APPLIED) {
        return rc;
    }
    r->applied = e->index;
    r->wall_ms = e->time_ms > r->wall_ms ? e->time_ms : r->wall_ms;
    if (r->appended < r->applied) {
        r->appended = r->applied;
    }
    if (r->versions_asked < r->versions) {
        r->versions_asked = r->versions;
    }
    if (r->live && !r->frozen) {
        want_all(r, fx);
    }
    mx_run_want_snapshot(r, fx);
    return MX_APPLIED;
}

int mx_run_recovered(struct mx_run *r, uint64_t now_ms, uint64_t wall_ms, struct mx_effects *fx)
{
    uint64_t upto = least(least(r->reserved, mx_run_limit(r)), mx_run_barrier(r));
    uint64_t boundary = mx_run_boundary(r);
    int64_t stopped;

    MX_CORE_REQUIRE(r->created);
    fx->n = 0;
    stopped = mx_run_advance(r, least(upto, boundary));
    if (stopped < 0 && boundary < upto) {
        mx_run_want_snapshot(r, fx);
        return 1;
    }
    r->live = 1;
    r->wall_ms = wall_ms > r->wall_ms ? wall_ms : r->wall_ms;
    r->now_ms = now_ms;
    r->reserve_ms = now_ms;
    if (stopped >= 0) {
        mx_run_want_exhausted(r, (uint32_t)stopped, fx);
    }
    mx_run_rearm(r, now_ms);
    want_all(r, fx);
    mx_run_want_snapshot(r, fx);
    return 0;
}

/* ---- looking -------------------------------------------------------------------------------- */

const struct mx_plan_domain *mx_run_domains(const struct mx_run *r)
{
    return r->domains;
}

uint64_t mx_run_drawn(const struct mx_run *r, uint32_t domain)
{
    return mx_run_cursors(r)[domain] - r->passed[domain];
}

uint32_t mx_run_withdrawn(const struct mx_run *r, uint32_t domain)
{
    return r->withdrawn[domain];
}

uint32_t mx_run_shards(const struct mx_run *r, uint32_t domain)
{
    const struct mx_plan_domain *d = &r->domains[domain];

    return d->n_stretches > 0 ? d->stretches[d->n_stretches - 1].shards : 0;
}

const struct mx_turn *mx_run_turns(const struct mx_run *r, uint32_t *ret_n)
{
    *ret_n = r->n_turns;
    return r->turns;
}

uint64_t mx_run_step_tokens(const struct mx_run_config *c, uint64_t step)
{
    struct mx_plan_part part = mx_plan_part_of(&c->plan, step);

    return (uint64_t)part.batch * part.length * c->seq_len;
}

uint64_t mx_run_steps_left(struct mx_run *r, uint32_t domain)
{
    const struct mx_plan_domain *d = &r->domains[domain];
    uint64_t cursor = mx_run_cursors(r)[domain];
    uint64_t share = r->created ? mx_run_mix_of(r, r->frontier)->shares[domain] : 0;
    unsigned __int128 left; /* in 2^-32 samples */
    uint64_t step = r->frontier;

    if (d->budget == MX_NO_BUDGET || d->on_exhausted == MX_EXHAUSTED_REPEAT || share == 0) {
        return UINT64_MAX;
    }
    left = cursor < d->budget ? (unsigned __int128)(d->budget - cursor) * MX_SHARE_ONE : 0;
    for (;;) {
        struct mx_plan_part part = mx_plan_part_of(&r->c.plan, step);
        uint64_t end = mx_plan_part_end(&r->c.plan, step);
        unsigned __int128 drawn = (unsigned __int128)share * part.batch * part.length;

        if (end == UINT64_MAX || left / drawn < end - step) {
            left = left / drawn + (step - r->frontier);
            return left < UINT64_MAX ? (uint64_t)left : UINT64_MAX;
        }
        left -= drawn * (end - step);
        step = end;
    }
}

void mx_run_view(struct mx_run *r, struct mx_run_view *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->frontier = r->frontier;
    ret->reserved = r->reserved;
    ret->end_step = r->c.end_step;
    ret->applied = r->applied;
    ret->first_step = r->first_step;
    ret->versions = r->versions;
    ret->digest = mx_run_digest(r);
    ret->bad_step = r->bad_step;
    ret->plan_changes = r->plan_changes;
    ret->consumed = r->consumed;
    ret->branch = r->branch;
    ret->shares = r->want_shares; /* until there is a mix: those that it will have, or 0 */
    if (r->created) {
        const struct mx_known_mix *end = &r->mixes[r->mix_count];
        const struct mx_known_mix *now = mx_run_mix_of(r, r->frontier);

        ret->mix_version = now->version;
        ret->mix_step = now->from;
        ret->next_version = now + 1 < end ? now[1].version : 0;
        ret->next_step = now + 1 < end ? now[1].from : 0;
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
    ret->below_quorum = r->below_quorum;
    ret->open_steps = r->open_count;
    ret->stopped = r->stop_step != MX_NEVER;
    ret->exhausted = r->exhausted_step != MX_NEVER ? (int)r->exhausted_domain + 1 : 0;
    ret->exhausted_step = r->exhausted_step != MX_NEVER ? r->exhausted_step : 0;
    ret->phase = mx_schedule_phase_at(&r->schedule, r->frontier);
    ret->next_point = r->next_point;
    ret->weights = r->weights;
    ret->mean_weights = mx_mixer_mean(r->mixers[0].state, &r->mixers[0].conf);
    ret->n_shares = r->n_shares;
    ret->rewards = r->rewards;
    ret->scores = r->scores;
    ret->grads = r->grads;
    ret->evals = r->evals;
    ret->steps_skipped = r->steps_skipped;
    ret->nonfinite = r->nonfinite;
    ret->eval_loss = r->eval_loss;
    ret->eval_step = r->eval_step;
    ret->working = mx_run_working(r);
    ret->loss = r->loss;
    ret->loss_step = r->loss_step;
    ret->cursors = mx_run_cursors(r);
}
