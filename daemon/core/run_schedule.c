/* run_schedule.c - how a run keeps to its phases. See run.h and schedule.h. Knows nothing of
 * requests or reports.
 *
 * Each of the schedule's points has a mix of its own, a MIX entry with cause PHASE, in force from
 * that step exactly: steps from the next point on aren't planned until its mix is durable, and that
 * mix is asked for some steps ahead, so that nobody waits for it. Which points have theirs is part
 * of the fold, so that a crash makes nobody forget one.
 *
 * What goes on between a mix by feedback and a point: before the point the policy's mixes are in
 * force as ever, also those made after the point's own mix was. From the point on a later mix by
 * feedback takes the place of the point's, as soon as there is one for a step there.
 *
 * In lockstep the mix at point P follows from the policy's state after step P - lag, as one by
 * feedback of that step would, and takes its place. */
#include "daemon/core/run_state.h"

#include <string.h>

/* Steps that a point's mix is asked for ahead at least: more than batches are filled ahead. */
#define POINT_NEAR 16u

void mx_run_set_point(struct mx_run *r, uint64_t step)
{
    r->point = step;
    r->next_point = mx_schedule_next(&r->schedule, step);
}

int mx_run_point_due(const struct mx_run *r)
{
    return r->c.lag > 0 && r->next_point < r->consumed + r->c.lag &&
           r->next_point < mx_run_limit(r); /* else no step would be planned under it */
}

int mx_run_departed(const struct mx_run *r)
{
    const struct mx_schedule *s = &r->schedule;

    return s->n > 0 && mx_schedule_departs(s, s->phases[mx_schedule_phase_at(s, r->point)].from);
}

/* What is in force at a point before it gets its mix. An operator's mix for that very step counts:
 * whatever stood before it may be forgotten. */
static void weights_in_force(const struct mx_run *r, uint64_t step, double *ret)
{
    const uint64_t *shares = mx_run_mix_of(r, step)->shares;

    for (uint32_t i = 0; i < r->k; i++) {
        ret[i] = (double)shares[i] / (double)MX_SHARE_ONE;
    }
}

void mx_run_phase_shares(struct mx_run *r, uint64_t step, uint64_t *ret_shares)
{
    const double *policy = r->n_shares > r->k ? r->prior : r->weights;
    const double *departure = r->departure;

    if (mx_schedule_departs(&r->schedule, step) && r->created) {
        weights_in_force(r, step, r->limit_scratch);
        departure = r->limit_scratch;
    }
    mx_schedule_weights(&r->schedule, step, policy, departure, r->weight_buffer);
    mx_run_shares(r, step, r->weight_buffer, ret_shares);
}

uint32_t mx_run_points_ahead(const struct mx_run *r)
{
    if (r->c.lag > 0 || r->schedule.n == 0) {
        return 0; /* one at a time, in the place of one by feedback */
    }
    return r->mix_cap >= 32 ? 8 : 2;
}

/* Of the points that have their mixes, those that lie ahead. */
static uint32_t points_made(const struct mx_run *r)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->mix_count; i++) {
        const struct mx_known_mix *m = &r->mixes[i];

        n += m->from > r->frontier && !m->set && mx_schedule_is_point(&r->schedule, m->from);
    }
    return n;
}

static int has_mix(const struct mx_run *r, uint64_t step)
{
    uint32_t i = 0;

    while (i < r->mix_count && (r->mixes[i].from != step || r->mixes[i].set)) {
        i++;
    }
    return i < r->mix_count;
}

int mx_run_points_there(const struct mx_run *r)
{
    uint64_t at = mx_schedule_next(&r->schedule, r->frontier);

    while (at <= r->point && has_mix(r, at)) {
        at = mx_schedule_next(&r->schedule, at);
    }
    return at > r->point;
}

/* Whether it is time for the next point's mix. What an anneal goes out from should be known late. */
static int is_near(const struct mx_run *r)
{
    uint64_t block = r->reserve_block > r->c.reserve_steps ? r->reserve_block : r->c.reserve_steps;
    uint64_t more = mx_schedule_departs(&r->schedule, r->next_point) ? 0 : block / 2;

    if (r->c.lag > 0) {
        return mx_run_point_due(r) && !mx_run_working(r);
    }
    return r->next_point <= r->frontier + POINT_NEAR + more &&
           points_made(r) < mx_run_points_ahead(r);
}

int mx_run_want_point(struct mx_run *r, struct mx_effects *fx)
{
    uint64_t at = r->next_point;
    uint32_t coming = r->pending_sets + (r->pending_mix != MX_NEVER);
    struct mx_entry *e;

    if (!r->created || r->pending_point || at >= mx_run_limit(r) || !is_near(r)) {
        return 0;
    }
    if (mx_schedule_departs(&r->schedule, at) && coming > 0) {
        return 0; /* from what will be in force: asked again when it is known */
    }
    mx_run_trim_mixes(r);
    if (r->mix_count + coming >= r->mix_cap) {
        return 0; /* likewise, when the frontier has moved */
    }
    mx_run_phase_shares(r, at, r->want_shares);
    e = mx_run_append(r, fx, 0, MX_ENTRY_MIX);
    e->step = at;
    e->mix_version = ++r->versions_asked;
    e->shares = r->want_shares;
    e->n_shares = r->n_shares;
    mx_run_tell_why(r, e);
    e->cause = MX_CAUSE_PHASE;
    r->pending_point = 1;
    return 1;
}

int mx_run_point_apply(struct mx_run *r, const struct mx_entry *e)
{
    r->pending_point = 0;
    if (e->step != r->next_point) {
        return -1;
    }
    if (mx_schedule_departs(&r->schedule, e->step)) {
        weights_in_force(r, e->step, r->departure);
    }
    mx_run_set_point(r, e->step);
    return 0;
}
