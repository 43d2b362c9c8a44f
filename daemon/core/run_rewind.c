/* run_rewind.c - a run goes back to a step, and another begins from there. See run.h. Knows nothing
 * of who reads the journal, or of when.
 *
 * Going back to S keeps what concerns the steps before S, and nothing else: reports and closings of
 * those steps (also late ones), mixes that were in force before S or that feedback had made for S
 * itself, weights set, skips, stops and growth with effect before S. What feedback of steps before
 * S still has to say becomes the new branch's first mix. Withdrawals are kept whatever their step,
 * and hold from S on if they came later: what was withdrawn must not come back.
 *
 * The state so made goes into the REWIND entry, with the mix in force at S under a new version, so
 * that (step, version) names one batch for ever. An entry's fold never looks back. */
#include "daemon/core/run_state.h"

#include <string.h>

static int keeps(const struct mx_entry *e, uint64_t step)
{
    switch (e->kind) {
    case MX_ENTRY_CREATE:
    case MX_ENTRY_FORK:
    case MX_ENTRY_RESERVE:
    case MX_ENTRY_WITHDRAW: return 1;
    case MX_ENTRY_MIX:
    case MX_ENTRY_REWIND: return e->step <= step;
    case MX_ENTRY_FEEDBACK:
    case MX_ENTRY_CLOSE:
    case MX_ENTRY_SET:
    case MX_ENTRY_STOP:
    case MX_ENTRY_EXHAUSTED:
    case MX_ENTRY_SKIP:
    case MX_ENTRY_ADOPT:
    case MX_ENTRY_FIT:
    case MX_ENTRY_SHADOW: return e->step < step;
    }
    return 0;
}

enum mx_applied mx_run_unwind(struct mx_run *r, const struct mx_entry *e, uint64_t step)
{
    struct mx_effects fx = {.n = 0};
    struct mx_entry own = *e;
    enum mx_applied rc = MX_APPLIED;

    MX_CORE_REQUIRE(!r->live);
    if (e->index != r->applied + 1) {
        return MX_APPLY_ORDER;
    }
    if (keeps(e, step)) {
        own.frontier = own.frontier < step ? own.frontier : step;
        if (e->kind == MX_ENTRY_RESERVE) {
            own.step = own.step < step ? own.step : step;
            own.step = own.step > r->reserved ? own.step : r->reserved;
            own.n = 0; /* digests of another branch may be among them */
            own.digest_from = 0;
        } else if (e->kind == MX_ENTRY_SKIP) {
            own.to = own.to < step ? own.to : step;
        } else if (e->kind == MX_ENTRY_WITHDRAW) {
            own.step = own.frontier;
        }
        rc = mx_run_fold(r, &own, 0, &fx);
    }
    r->applied = e->index;
    r->versions = e->mix_version > r->versions && e->kind != MX_ENTRY_FEEDBACK ? e->mix_version
                                                                              : r->versions;
    return rc;
}

/* Whether a state holds what isn't in force before `step`. */
static int reaches(const struct mx_run *r, uint64_t step)
{
    for (uint32_t i = 0; i < r->mix_count; i++) {
        if (r->mixes[i].from > step || (r->mixes[i].from == step && r->mixes[i].set)) {
            return 1;
        }
    }
    for (uint32_t i = 0; i < r->n_skips; i++) {
        if (r->skips[i].first + r->skips[i].count > step) {
            return 1;
        }
    }
    return (r->stop_step != MX_NEVER && r->stop_step >= step) ||
           (r->exhausted_step != MX_NEVER && r->exhausted_step >= step);
}

int mx_run_unwinds(const struct mx_run *r, uint64_t step)
{
    const struct mx_turn *turn = r->n_turns > 0 ? &r->turns[r->n_turns - 1] : NULL;
    /* As a REWIND or a FORK made it; else something may have acted at the frontier. */
    int fresh = turn != NULL && turn->step == r->frontier && turn->index == r->applied;

    return (r->frontier < step || (r->frontier == step && fresh)) && !reaches(r, step);
}

int mx_run_unwound(struct mx_run *r, uint64_t step)
{
    if (!r->created || step < r->first_step || step > r->reserved || r->frontier > step ||
        step > r->next_point || mx_run_advance(r, step) >= 0 || !mx_run_enough_stays(r)) {
        return -1;
    }
    r->reserved = step; /* a snapshot may know of more */
    return 0;
}

/* From `step` on only what comes now holds. */
static int push_turn(struct mx_run *r, uint64_t step, uint64_t version, uint64_t index)
{
    while (r->n_turns > 0 && r->turns[r->n_turns - 1].step >= step) {
        r->n_turns--;
    }
    if (r->n_turns == MX_TURNS_MAX) {
        return -1;
    }
    r->turns[r->n_turns++] = (struct mx_turn){step, version, index};
    return 0;
}

/* Goes on from the state in the entry's words, under a new version of the mix in force there. */
static int go_on_from(struct mx_run *r, const struct mx_entry *e, int fork)
{
    if (mx_run_restore(r, e->words, e->n_words) != 0 || r->frontier != e->step ||
        e->n_shares != r->n_shares) {
        return -1;
    }
    mx_run_forget_work(r);
    r->pending_shadow = 0;
    if (fork) {
        r->n_turns = 0;
        r->branch = 0;
        r->first_step = e->step;
    }
    r->reserved = e->step;
    return mx_run_add_mix(r, e->step, 0, e->mix_version, e->shares) != 0 ||
                   push_turn(r, e->step, e->mix_version, e->index) != 0
               ? -1
               : 0;
}

void mx_run_on_rewind(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    const struct mx_entry *in = ev->entry;
    uint64_t step, applied;
    struct mx_entry *e;

    if (in->step > r->frontier || in->step < r->first_step) {
        mx_run_refuse(fx, ev->handle, MX_BAD_RANGE, r->frontier)->u[1] = r->first_step;
    } else if (!r->frozen || r->appended > r->applied ||
               mx_run_saved_cursors(in->words, in->n_words, r->k, &step, &applied,
                                    r->share_scratch) != 0 ||
               step != in->step || applied != r->applied) {
        mx_run_refuse(fx, ev->handle, MX_CHANGING, r->frontier);
    } else if (r->n_turns == MX_TURNS_MAX) {
        mx_run_refuse(fx, ev->handle, MX_TOO_MANY_CHANGES, MX_TURNS_MAX);
    } else {
        r->pending_here++;
        r->rewinding = 1;
        e = mx_run_append(r, fx, ev->handle, MX_ENTRY_REWIND);
        e->step = in->step;
        e->mix_version = ++r->versions_asked;
        memcpy(r->want_shares, in->shares, r->n_shares * sizeof *r->want_shares);
        e->shares = r->want_shares;
        e->n_shares = r->n_shares;
        e->cause = MX_CAUSE_REWIND;
        e->words = in->words;
        e->n_words = in->n_words;
        e->branch = r->branch + 1;
        mx_run_copy_author(e, in);
    }
}

int mx_run_rewind_apply(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms,
                        struct mx_effects *fx)
{
    uint32_t branch = r->branch;

    if (r->live) {
        r->pending_here--;
    }
    if (e->branch <= branch || e->mix_version <= r->versions || go_on_from(r, e, 0) != 0) {
        return -1;
    }
    r->branch = e->branch;
    r->pending_reserve = 0;
    r->frozen = r->rewinding = 0;
    if (r->live) {
        mx_run_rearm(r, now_ms);
        memset(r->trainers, 0, sizeof r->trainers); /* they come back at the step, or don't */
        mx_run_push(fx, MX_FX_DROP, 0)->step = e->step;
    }
    mx_run_push(fx, MX_FX_SNAPSHOT, 0)->step = e->step;
    return 0;
}

void mx_run_fork_entry(struct mx_run *r, uint64_t wall_ms, const struct mx_entry *from,
                       struct mx_entry *ret)
{
    MX_CORE_REQUIRE(!r->created);
    r->live = 1;
    r->appended = 1;
    mx_run_plan_reset(r, from->step); /* what is asked for meanwhile is of steps from there on */
    r->first_step = r->reserved = r->snapshot_at = from->step;
    r->versions_asked = from->mix_version;
    memcpy(r->want_shares, from->shares, r->n_shares * sizeof *r->want_shares);
    memset(ret, 0, sizeof *ret);
    ret->kind = MX_ENTRY_FORK;
    ret->index = 1;
    ret->time_ms = wall_ms;
    ret->step = from->step;
    ret->frontier = from->step;
    ret->mix_version = from->mix_version;
    ret->shares = r->want_shares;
    ret->n_shares = r->n_shares;
    ret->cause = MX_CAUSE_FORK;
    ret->words = from->words;
    ret->n_words = from->n_words;
    ret->source = from->source;
    mx_run_copy_author(ret, from);
}

int mx_run_fork_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx)
{
    if (go_on_from(r, e, 1) != 0) {
        return -1;
    }
    mx_run_close_open(r);
    mx_run_push(fx, MX_FX_SNAPSHOT, 0)->step = e->step; /* old steps are replayed from there on */
    return 0;
}
