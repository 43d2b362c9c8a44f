/* run_request.c - what a run says to a trainer that asks for a step. See run.h. Knows nothing of
 * feedback. */
#include "daemon/core/run_state.h"

/* ---- who uses which step -------------------------------------------------------------------- */

/* Remembers the asker's oldest step in use. A trainer so far behind the frontier that it could not
 * have let the frontier get there is going over old steps, and holds nobody back. The number of
 * ranks changing means that another set of trainers has taken over. */
static void note_trainer(struct mx_run *r, const struct mx_event *ev)
{
    struct mx_trainer *t = &r->trainers[ev->rank % MX_TRAINERS];

    if (ev->oldest + r->c.max_ahead + 1 < r->frontier) {
        return;
    }
    if (ev->world != r->trainers_world) {
        for (uint32_t i = 0; i < MX_TRAINERS; i++) {
            r->trainers[i].used = 0;
        }
        r->trainers_world = ev->world;
    }
    if (t->used && t->rank != ev->rank && ev->now_ms - t->seen_ms < MX_TRAINER_MS) {
        return; /* the place is taken: this one is not watched */
    }
    *t = (struct mx_trainer){ev->now_ms, ev->oldest, ev->rank, 1};
}

static uint64_t slowest(const struct mx_run *r, uint64_t now_ms)
{
    uint64_t least = MX_NEVER;

    for (uint32_t i = 0; i < MX_TRAINERS; i++) {
        const struct mx_trainer *t = &r->trainers[i];

        if (t->used && now_ms - t->seen_ms < MX_TRAINER_MS && t->oldest < least) {
            least = t->oldest;
        }
    }
    return least;
}

/* ---- what comes of it ----------------------------------------------------------------------- */

/* A RESERVE costs a durable commit, milliseconds on many disks. Where steps go faster than
 * reservations of this size, the next one takes twice as many, so that serving doesn't wait; where
 * they go slowly again, half as many. What is reserved and not served matters after a crash alone:
 * steps up to there keep the mix. */
static void size_reserve(struct mx_run *r)
{
    uint64_t least = r->c.reserve_steps;
    uint64_t took = r->now_ms - r->reserve_ms;

    if (r->reserve_block < least) {
        r->reserve_block = least;
    } else if (took < MX_RESERVE_FAST_MS && r->reserve_block < MX_RESERVE_MAX) {
        r->reserve_block *= 2;
    } else if (took > MX_RESERVE_SLOW_MS && r->reserve_block / 2 >= least) {
        r->reserve_block /= 2;
    }
    r->reserve_ms = r->now_ms;
}

/* The digests of the steps planned since the last RESERVE go with the next one. */
static void give_digests(struct mx_run *r, struct mx_entry *e)
{
    uint64_t from = r->digest_asked > r->digest_low ? r->digest_asked : r->digest_low;

    MX_CORE_REQUIRE(r->frontier - from <= MX_DIGESTS);
    for (uint64_t step = from; step < r->frontier; step++) {
        r->digest_buffer[step - from] = r->digests[step % MX_DIGESTS];
    }
    e->digest_from = from;
    e->digests = r->digest_buffer;
    e->n = (uint32_t)(r->frontier - from);
    r->digest_asked = r->frontier;
}

void mx_run_want_reserve(struct mx_run *r, uint64_t step, struct mx_effects *fx)
{
    uint64_t ahead = r->reserved > r->frontier ? r->reserved - r->frontier : 0;
    uint64_t half = (r->reserve_block > r->c.reserve_steps ? r->reserve_block
                                                           : r->c.reserve_steps) / 2;
    uint64_t from = r->frontier, upto;
    /* The last steps of a run get their digests into the journal as well. */
    int ended = r->frontier == mx_run_limit(r) && r->digest_asked < r->frontier;

    if (r->pending_reserve || r->frontier > MX_STEP_MAX) {
        return;
    }
    if (step >= r->reserved) {
        from = step + 1 > from ? step + 1 : from;
    } else if (ahead >= half && !ended) {
        return;
    }
    if (!ended) {
        size_reserve(r);
    }
    upto = from + r->reserve_block;
    upto = upto < r->frontier + MX_DIGESTS ? upto : r->frontier + MX_DIGESTS;
    upto = upto < mx_run_limit(r) ? upto : mx_run_limit(r);
    if (upto > r->reserved || ended) {
        struct mx_entry *e = mx_run_append(r, fx, 0, MX_ENTRY_RESERVE);

        e->step = upto > r->reserved ? upto : r->reserved;
        give_digests(r, e);
        r->pending_reserve = 1;
    }
}

void mx_run_want_exhausted(struct mx_run *r, uint32_t domain, struct mx_effects *fx)
{
    struct mx_entry *e;

    if (r->pending_exhausted != MX_NEVER) {
        return;
    }
    e = mx_run_append(r, fx, 0, MX_ENTRY_EXHAUSTED);
    e->step = r->frontier;
    e->domain = domain;
    e->flag = 1;
    r->pending_exhausted = r->frontier;
}

void mx_run_want_spent(struct mx_run *r, struct mx_effects *fx)
{
    const uint64_t *cursors = mx_run_cursors(r);

    if (!r->created || r->pending_spent || r->budgeted == 0) {
        return;
    }
    for (uint32_t i = 0; i < r->k; i++) {
        struct mx_series s = mx_plan_series(&r->c.plan, r->frontier, i);
        uint64_t after;

        if (s.d->budget != MX_NO_BUDGET && !r->spent[i] &&
            mx_series_draw(&s, cursors[i], 1, &after) == 0) {
            struct mx_entry *e = mx_run_append(r, fx, 0, MX_ENTRY_EXHAUSTED);

            e->step = r->frontier;
            e->domain = i;
            r->pending_spent = 1;
            return; /* the next one follows it */
        }
    }
}

uint64_t mx_run_boundary(const struct mx_run *r)
{
    return (r->snapshot_at / r->c.snapshot_steps + 1) * r->c.snapshot_steps;
}

void mx_run_want_snapshot(struct mx_run *r, struct mx_effects *fx)
{
    if (r->frontier >= mx_run_boundary(r)) {
        r->snapshot_at = r->frontier;
        mx_run_push(fx, MX_FX_SNAPSHOT, 0)->step = r->frontier;
    }
}

/* Whether a request is out of the question, told in fx. */
static int refused(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    uint32_t batch = mx_plan_part_of(&r->c.plan, ev->step).batch;
    uint64_t skip;

    if (ev->world == 0 || ev->world > MX_WORLD_MAX || ev->rank >= ev->world) {
        mx_run_refuse(fx, ev->handle, MX_BAD_RANK, ev->world);
    } else if (ev->count == 0 || ev->first >= batch || ev->count > batch - ev->first) {
        mx_run_refuse(fx, ev->handle, MX_BAD_SLOTS, batch);
    } else if (ev->step > MX_STEP_MAX || ev->oldest > ev->step) {
        mx_run_refuse(fx, ev->handle, MX_BAD_STEP, MX_STEP_MAX);
    } else if (ev->step < r->first_step) {
        mx_run_refuse(fx, ev->handle, MX_BEFORE_FORK, r->first_step);
    } else if (mx_run_skipped(r, ev->step, &skip)) {
        mx_run_refuse(fx, ev->handle, MX_SKIPPED, skip);
    } else if (ev->step >= r->stop_step) {
        mx_run_refuse(fx, ev->handle, MX_STOPPED, r->stop_step);
    } else if (ev->step >= r->exhausted_step) {
        mx_run_refuse(fx, ev->handle, MX_OUT_OF_SAMPLES, r->exhausted_domain)->u[1] =
            r->exhausted_step;
    } else if (ev->step >= r->c.end_step) {
        mx_run_refuse(fx, ev->handle, MX_ENDED, r->c.end_step);
    } else if (ev->step > r->frontier + r->c.max_ahead) {
        mx_run_refuse(fx, ev->handle, MX_LEAP, r->frontier);
    } else {
        return 0;
    }
    return 1;
}

/* Moves the frontier past the step as far as that may be. Whether it stopped for a snapshot
 * alone. */
static int advance_to(struct mx_run *r, uint64_t step, struct mx_effects *fx)
{
    uint64_t may = r->reserved < mx_run_barrier(r) ? r->reserved : mx_run_barrier(r);
    uint64_t boundary = mx_run_boundary(r), upto = step + 1 < may ? step + 1 : may;
    int64_t stopped;

    if (!r->created) {
        return 0;
    }
    stopped = mx_run_advance(r, upto < boundary ? upto : boundary);
    if (stopped >= 0) {
        mx_run_want_exhausted(r, (uint32_t)stopped, fx);
    }
    return stopped < 0 && boundary < upto;
}

void mx_run_on_request(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    enum mx_effect_kind answer;
    uint64_t oldest, before = r->frontier;
    int more = 0;

    if (refused(r, ev, fx)) {
        return;
    }
    note_trainer(r, ev);
    if (ev->step >= r->frontier) {
        oldest = slowest(r, ev->now_ms);
        if (oldest != MX_NEVER && ev->step > oldest + r->c.max_ahead) {
            mx_run_refuse(fx, ev->handle, MX_WAIT_AHEAD, oldest);
            return;
        }
        more = advance_to(r, ev->step, fx);
    }
    answer = ev->step < r->frontier ? MX_FX_SERVE : more ? MX_FX_AGAIN : MX_FX_HOLD;
    mx_run_push(fx, answer, ev->handle)->step = ev->step;
    if (r->frozen) {
        return;
    }
    mx_run_want_reserve(r, ev->step, fx);
    if (!mx_run_want_point(r, fx) &&
        (r->mix_waiting || r->frontier + r->c.lead >= r->mix_again)) {
        mx_run_want_mix(r, fx);
    }
    if (r->frontier != before) {
        mx_run_want_spent(r, fx);
    }
    mx_run_want_snapshot(r, fx);
}
