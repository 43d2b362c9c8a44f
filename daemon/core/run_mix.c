/* run_mix.c - how mixes come about: from the policy's weights or an operator's, through limits,
 * into the journal. See run.h. Knows nothing of requests or of ranks.
 *
 * That the policy wants a mix is part of the fold, so that a crash between a cause and its mix
 * loses nothing. An operator's weights are a mix of their own: the SET entry holds its shares. They
 * become the prior of a policy that doesn't adapt; one that does keeps what it has learned, and its
 * next change goes on from there (of one that prescribes, also a change that has no mix yet). */
#include "daemon/core/run_state.h"

#include <math.h>
#include <string.h>

/* policy_wanted: all that is wanted is in force, but for steps for which a mix was made before. */
#define WANTED_LATER 2

uint32_t mx_run_mix_cap(uint32_t k)
{
    size_t n = MX_MIXES_BYTES / (k * sizeof(uint64_t)); /* twice that if they weigh the loss */

    return n < MX_MIXES_MIN ? MX_MIXES_MIN : n > MX_MIXES_MAX ? MX_MIXES_MAX : (uint32_t)n;
}

void mx_run_shares(struct mx_run *r, uint64_t step, const double *sampling, uint64_t *ret_shares)
{
    const struct mx_limit *limits = mx_schedule_limits(&r->schedule, step);
    double *projected = r->limit_scratch + 4 * (size_t)r->k;

    mx_limits_project(limits, sampling, r->k, projected, r->limit_scratch);
    mx_limits_bound(limits, r->k, projected, r->bound_buffer);
    mx_shares_quantise(projected, r->k, ret_shares, r->share_scratch);
    if (r->n_shares > r->k) {
        mx_shares_quantise(r->weights, r->k, ret_shares + r->k, r->share_scratch);
    }
}

/* A mix by feedback from `from` on: where the policy weighs the loss, what is sampled by stays. */
static void feedback_shares(struct mx_run *r, uint64_t from, uint64_t *ret_shares)
{
    if (r->n_shares == r->k) {
        mx_run_phase_shares(r, from, ret_shares);
        return;
    }
    memset(r->bound_buffer, MX_BOUND_NONE, r->k);
    memcpy(ret_shares, mx_run_mix_of(r, from)->shares, r->k * sizeof *ret_shares);
    mx_shares_quantise(r->weights, r->k, ret_shares + r->k, r->share_scratch);
}

/* One half of a mix's shares. */
static int is_whole(const uint64_t *shares, uint32_t k)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < k; i++) {
        if (shares[i] > MX_SHARE_ONE) {
            return 0;
        }
        sum += shares[i];
    }
    return sum == MX_SHARE_ONE;
}

uint32_t mx_run_lag_max(uint32_t k)
{
    uint32_t open = mx_run_open_cap(k) / 2, mixes = mx_run_mix_cap(k) / 2;

    return open < mixes ? open : mixes;
}

void mx_run_trim_mixes(struct mx_run *r)
{
    while (r->mix_count > 1 && r->mixes[1].from <= r->frontier) {
        struct mx_known_mix first = r->mixes[0];

        memmove(r->mixes, r->mixes + 1, (r->mix_cap - 1) * sizeof r->mixes[0]);
        r->mixes[r->mix_cap - 1] = first; /* its memory is for another */
        r->mix_count--;
    }
}

/* Puts a mix into its place among the others, or over the one that has it. */
int mx_run_add_mix(struct mx_run *r, uint64_t from, int set, uint64_t version,
                   const uint64_t *shares)
{
    uint32_t at;

    if (!is_whole(shares, r->k) || (r->n_shares > r->k && !is_whole(shares + r->k, r->k)) ||
        from < r->frontier || from > MX_STEP_MAX * 2) {
        return -1;
    }
    mx_run_trim_mixes(r);
    for (at = r->mix_count; at > 0; at--) {
        const struct mx_known_mix *m = &r->mixes[at - 1];

        if (m->from < from || (m->from == from && m->set <= set)) {
            break;
        }
    }
    if (at > 0 && r->mixes[at - 1].from == from && r->mixes[at - 1].set == set) {
        at--;
    } else {
        struct mx_known_mix last;

        if (r->mix_count == r->mix_cap) {
            return -1;
        }
        last = r->mixes[r->mix_count];
        memmove(r->mixes + at + 1, r->mixes + at, (r->mix_count - at) * sizeof last);
        r->mixes[at] = last;
        r->mix_count++;
    }
    r->mixes[at].from = from;
    r->mixes[at].set = set;
    r->mixes[at].version = version;
    memcpy(r->mixes[at].shares, shares, r->n_shares * sizeof *shares);
    if (r->versions < version) {
        r->versions = version;
    }
    return 0;
}

/* The step from which a mix by feedback would be in force now. */
static uint64_t next_from(const struct mx_run *r)
{
    uint64_t from = r->frontier + r->c.lead, owed;

    if (r->c.lag > 0) {
        (void)mx_run_owes_mix(r, &owed);
        return owed;
    }
    for (uint32_t i = 0; i < r->mix_count; i++) {
        const struct mx_known_mix *m = &r->mixes[i];

        if (!m->set && m->from > from && !mx_schedule_is_point(&r->schedule, m->from)) {
            from = m->from;
        }
    }
    for (uint32_t i = 0; i < r->mix_count; i++) { /* rising: behind an operator's for that step */
        from += r->mixes[i].set && r->mixes[i].from == from;
    }
    return from;
}

/* The first step after that for which the schedule has made a mix, of what the policy knew then. */
static uint64_t later_point(const struct mx_run *r, uint64_t step)
{
    for (uint32_t i = 0; i < r->mix_count; i++) {
        if (!r->mixes[i].set && r->mixes[i].from > step) {
            return r->mixes[i].from;
        }
    }
    return MX_NEVER;
}

static int latest_is(const struct mx_run *r, uint64_t from, const uint64_t *shares)
{
    return memcmp(mx_run_mix_of(r, from)->shares, shares, r->n_shares * sizeof *shares) == 0;
}

void mx_run_tell_why(struct mx_run *r, struct mx_entry *e)
{
    const struct mx_mixer *m = &r->mixers[0];

    memcpy(r->weight_buffer, r->weights, r->k * sizeof *r->weights);
    mx_mixer_explain(m->state, &m->conf, r->term_buffer);
    e->weights = r->weight_buffer;
    e->terms = r->term_buffer;
    e->n_terms = m->conf.policy.ops->n_terms;
    e->bound = r->bound_buffer;
    e->phase = mx_schedule_phase_at(&r->schedule, e->step);
}

void mx_run_want_mix(struct mx_run *r, struct mx_effects *fx)
{
    uint64_t from;
    struct mx_entry *e;

    r->mix_waiting = 0;
    r->mix_again = MX_NEVER;
    if (!r->policy_wanted || !r->created || (r->c.lag > 0 && mx_run_working(r))) {
        return;
    }
    from = next_from(r);
    r->mix_again = r->c.lag == 0 ? later_point(r, from) : MX_NEVER;
    /* One at a time, none that no step would ever be planned under, and none past what may yet
     * change; in lockstep the barrier is this mix itself. */
    if (r->pending_mix != MX_NEVER || from >= mx_run_limit(r) || from >= r->next_point ||
        !mx_schedule_asks_policy(&r->schedule, from) || /* what it wants is for a later phase */
        (r->c.lag == 0 && from >= mx_run_barrier(r))) {
        return;
    }
    feedback_shares(r, from, r->want_shares);
    if (r->c.lag == 0 && latest_is(r, from, r->want_shares) &&
        (r->mixers[0].conf.policy.ops->in_force == NULL || r->policy_wanted == WANTED_LATER)) {
        return; /* but one that prescribes must hear from when on its weights hold */
    }
    mx_run_trim_mixes(r);
    if (r->mix_count + (uint32_t)r->pending_point >= r->mix_cap) {
        r->mix_waiting = 1; /* asked again when the frontier has moved */
        return;
    }
    e = mx_run_append(r, fx, 0, MX_ENTRY_MIX);
    e->step = from;
    e->mix_version = ++r->versions_asked;
    e->shares = r->want_shares;
    e->n_shares = r->n_shares;
    mx_run_tell_why(r, e);
    e->cause = MX_CAUSE_FEEDBACK;
    e->cause_step = r->c.lag > 0 ? r->consumed - 1 : r->last_moved;
    r->pending_mix = from;
}

/* What a mix by feedback or of a point means for what the policy still wants. */
static void settle(struct mx_run *r, const struct mx_entry *e)
{
    int holds; /* the policy's present weights, for the first time */

    if (e->cause == MX_CAUSE_PHASE) {
        /* In lockstep it is the mix by feedback as well; else one may follow, or be for steps before
         * the point. */
        holds = r->c.lag > 0 && mx_schedule_asks_policy(&r->schedule, e->step) &&
                (r->policy_wanted || !mx_schedule_asks_policy(&r->schedule, e->step - 1));
        r->policy_wanted = r->c.lag > 0 ? 0 : r->policy_wanted;
    } else {
        r->pending_mix = MX_NEVER;
        r->last_delay = e->step > e->cause_step ? e->step - e->cause_step : 0;
        /* What steps closed while the mix was being appended have moved is for the next one. */
        holds = !r->policy_wanted || r->c.lag > 0 || e->cause_step == r->last_moved;
        r->policy_wanted = r->c.lag > 0 ? 0
                           : !holds     ? 1
                           : later_point(r, e->step) != MX_NEVER ? WANTED_LATER : 0;
    }
    if (holds) {
        mx_mixer_in_force(r->mixers[0].state, &r->mixers[0].conf, e->step + 1);
    }
}

int mx_run_mix_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx)
{
    if (e->mix_version <= r->versions || e->n_shares != r->n_shares ||
        (e->cause == MX_CAUSE_PHASE ? mx_run_point_apply(r, e) != 0 : e->step >= r->next_point) ||
        mx_run_add_mix(r, e->step, 0, e->mix_version, e->shares) != 0) {
        return -1;
    }
    settle(r, e);
    mx_run_consume(r);
    if (mx_run_truncate(r, e->step) && r->live) {
        mx_run_push(fx, MX_FX_DROP, 0)->step = e->step;
    }
    return 0;
}

/* k if the weights can be set, else the index of the first that can't be or, where all that may be
 * drawn are 0, *ret_all_zero. */
static uint32_t check_weights(const struct mx_run *r, const double *w, uint32_t n,
                              int *ret_all_zero)
{
    int some = 0;

    *ret_all_zero = 0;
    if (n != r->k) {
        return n < r->k ? n : r->k - 1;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(w[i]) || w[i] < 0.0 || (w[i] > 0.0 && !r->c.limits[i].open)) {
            return i;
        }
        some |= w[i] > 0.0;
    }
    *ret_all_zero = !some;
    return n;
}

/* To the sum 1, with the largest taken out first so that no sum overflows. */
static void normalise(const double *w, uint32_t k, double *ret)
{
    double largest = 0.0, sum = 0.0;

    for (uint32_t i = 0; i < k; i++) {
        largest = fmax(largest, w[i]);
    }
    for (uint32_t i = 0; i < k; i++) {
        ret[i] = w[i] / largest;
        sum += ret[i];
    }
    for (uint32_t i = 0; i < k; i++) {
        ret[i] /= sum;
    }
}

/* Mixes by feedback keep as many places as they can need. */
static uint32_t sets_max(const struct mx_run *r)
{
    return r->mix_cap - 2 - r->c.lag - mx_run_points_ahead(r);
}

/* Whether the weights can't be set from that step on, told in fx. */
static int refused_set(struct mx_run *r, const struct mx_event *ev, uint64_t from,
                       struct mx_effects *fx)
{
    const struct mx_entry *e = ev->entry;
    int all_zero;
    uint32_t bad = check_weights(r, e->weights, r->k, &all_zero);
    struct mx_effect *f;

    if (bad != r->k || all_zero) {
        mx_run_refuse(fx, ev->handle, MX_BAD_WEIGHTS, bad);
    } else if (from < r->frontier + r->c.lead || from < r->frontier || from > MX_STEP_MAX) {
        f = mx_run_refuse(fx, ev->handle, MX_BAD_AT, r->frontier + r->c.lead);
        f->u[1] = MX_STEP_MAX;
    } else if (r->mix_count + r->pending_sets >= sets_max(r)) {
        mx_run_refuse(fx, ev->handle, MX_TOO_MANY_MIXES, r->mix_count + r->pending_sets);
    } else {
        return 0;
    }
    return 1;
}

void mx_run_on_set(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    uint64_t from = ev->entry->step > 0 ? ev->entry->step : r->frontier + r->c.lead;
    struct mx_entry *e;

    mx_run_trim_mixes(r);
    if (refused_set(r, ev, from, fx)) {
        return;
    }
    memcpy(r->weight_buffer, ev->entry->weights, r->k * sizeof *r->weight_buffer);
    mx_run_shares(r, from, r->weight_buffer, r->want_shares);
    e = mx_run_append(r, fx, ev->handle, MX_ENTRY_SET);
    e->step = from;
    e->phase = mx_schedule_phase_at(&r->schedule, from);
    e->mix_version = ++r->versions_asked;
    e->weights = r->weight_buffer;
    e->shares = r->want_shares;
    e->n_shares = r->n_shares;
    e->cause = MX_CAUSE_OPERATOR;
    mx_run_copy_author(e, ev->entry);
    r->pending_sets++;
    r->pending_set = r->pending_set < from ? r->pending_set : from;
}

int mx_run_set_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx)
{
    int all_zero;

    if (check_weights(r, e->weights, r->k, &all_zero) != r->k || all_zero ||
        e->mix_version <= r->versions || e->n_shares != r->n_shares ||
        mx_run_add_mix(r, e->step, 1, e->mix_version, e->shares) != 0) {
        return -1;
    }
    if (r->live && --r->pending_sets == 0) {
        r->pending_set = MX_NEVER;
    }
    if (!r->mixers[0].conf.policy.ops->adapts) {
        normalise(e->weights, r->k, r->weight_buffer);
        mx_mixer_put(r->mixers[0].state, &r->mixers[0].conf, r->weight_buffer);
    } else if (r->c.lag == 0 && r->mixers[0].conf.policy.ops->in_force == NULL) {
        r->policy_wanted = 0; /* what it has learned so far gives way; but one that prescribes would
                                 wait for ever to hear from when on its weights hold */
    }
    if (mx_run_truncate(r, e->step) && r->live) {
        mx_run_push(fx, MX_FX_DROP, 0)->step = e->step;
    }
    return 0;
}
