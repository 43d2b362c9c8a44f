/* run.h - one run as a pure state machine: events in, effects out, both data.
 *
 * The daemon's loop feeds it and does what the effects say; a simulation can do the same. The run
 * decides which steps may be served, reserves the frontier, takes feedback together over ranks,
 * asks the policy and makes mixes. It sees no clock (events carry `now_ms`), allocates nothing
 * (mx_run_size tells how much memory it wants) and knows no bytes, names or files.
 *
 * Durability. An MX_FX_APPEND effect asks the shell to make an entry durable. The run changes its
 * state only when the entry comes back through mx_run_apply, live or in recovery alike: state is
 * the fold of the journal. What is not in the journal (who asked last, filled-ahead steps) is
 * allowed to be lost.
 *
 * Steps. [0, frontier): planned, never planned differently. frontier <= reserved: steps below
 * `reserved` may be served without asking the disk; after a crash the frontier restarts there.
 * A mix appended while the frontier is f takes effect at max(f + lead, the latest mix's step);
 * until it is durable, steps from there on are held. At most one mix is being appended at a time;
 * feedback that completes meanwhile is folded into the next one.
 *
 * Feedback. Ranks' losses are summed in fixed point, so that their order doesn't matter. A step is
 * shown to the policy once, when all its ranks have reported or its time is up, and not at all if
 * quarantine left nothing of it: the last good mix stays. A report that no longer fits when its
 * entry is applied (twice in flight, or its step closed meanwhile) changes nothing. */
#ifndef MX_CORE_RUN_H
#define MX_CORE_RUN_H

#include "daemon/core/plan.h"
#include "daemon/core/policy.h"
#include "daemon/core/shares.h"

/* The most that loss_max may be, nats: sums over ranks are exact up to there. */
#define MX_LOSS_MAX 1e4

struct mx_run_config {
    struct mx_plan_spec plan;        /* plan.domains borrowed for the run's life */
    uint32_t seq_len;                /* tokens in a sample: bounds what feedback can claim */
    uint32_t max_ahead;              /* steps that the fastest trainer may be past the slowest */
    uint32_t reserve_steps;          /* steps reserved by one entry, >= 1 */
    uint32_t snapshot_steps;         /* steps between snapshots, >= 1 */
    uint32_t lead;                   /* steps between a mix's making and its effect, >= 0 */
    uint64_t end_step;               /* first step that doesn't exist; UINT64_MAX for none */
    uint64_t feedback_timeout_ms;    /* after a step's first report, when ranks are missing */
    double loss_max;                 /* mean losses over this (nats) are quarantined */
    const double *prior;             /* k weights, >= 0, sum > 0; borrowed for init only */
    const struct mx_limit *limits;   /* k; copied */
    const struct mx_policy_ops *policy;
    const double *params;            /* policy->n_params; copied */
};

/* One domain of one rank's report; the meaning of the wire's entry. */
struct mx_loss {
    uint32_t domain;
    uint32_t samples;
    uint64_t tokens;
    double loss_sum;
};

/* kind, name: what a journal entry says */
#define MX_ENTRIES(X)                                                                             \
    X(1, CREATE, create)     /* the run exists; step 0, mix version 1 from shares */              \
    X(2, RESERVE, reserve)   /* steps below `step` may have been served */                       \
    X(3, FEEDBACK, feedback) /* one rank's report of `step` */                                    \
    X(4, CLOSE, close)       /* the timeout passed: `step` counts with the ranks that reported */ \
    X(5, MIX, mix)           /* `version` with `shares` is in force from `step` */                \
    X(6, SET, set)           /* an operator set the weights */                                    \
    X(7, STOP, stop)         /* an operator ended the run: `step` is its first missing step */    \
    X(8, EXHAUSTED, exhausted) /* `step` can't be planned: `domain` has nothing left */

enum mx_entry_kind {
#define MX_ENTRY_ENUM(id, NAME, name) MX_ENTRY_##NAME = id,
    MX_ENTRIES(MX_ENTRY_ENUM)
#undef MX_ENTRY_ENUM
};

enum mx_mix_cause { MX_CAUSE_CREATE = 1, MX_CAUSE_FEEDBACK = 2, MX_CAUSE_OPERATOR = 3 };

/* Pointers are borrowed from whoever made the entry: effects point into the run (until its next
 * call), entries given to mx_run_apply are borrowed for that call. */
struct mx_entry {
    enum mx_entry_kind kind;
    uint64_t index;   /* set by the run in APPEND effects: 1, 2, 3, ... without a gap */
    uint64_t time_ms; /* wall clock, as data only */
    uint64_t step;
    /* FEEDBACK */
    uint32_t rank, world, flags;
    uint64_t mix_version; /* also MIX: its version */
    const struct mx_loss *losses;
    uint32_t n;           /* losses, or shares, or weights */
    /* CREATE, MIX */
    const uint64_t *shares;
    enum mx_mix_cause cause;
    uint64_t cause_step;  /* MIX by feedback: the last step whose feedback it holds */
    /* SET: k weights, sum > 0. The next mix, and the prior of a policy that doesn't adapt; one that
     * does keeps what it has learned, and the set mix lasts until its weights next change. */
    const double *weights;
    uint32_t domain;      /* EXHAUSTED */
    /* who and why: the shell's, opaque here, not terminated */
    const char *author, *why;
    uint32_t author_len, why_len;
};

enum mx_event_kind {
    MX_EV_REQUEST,  /* a trainer wants slots of `step` */
    MX_EV_FEEDBACK, /* a rank reports: entry's step, rank, world, mix_version, flags, losses, n */
    MX_EV_SET,      /* an operator sets weights: entry's weights, author, why */
    MX_EV_STOP,     /* an operator ends the run at the frontier: entry's author, why */
    MX_EV_TIMER,    /* the time asked for by an ARM effect has come */
};

struct mx_event {
    enum mx_event_kind kind;
    uint64_t now_ms;    /* monotonic */
    uint64_t wall_ms;   /* goes into entries */
    uint64_t handle;    /* the shell's name for who asked; comes back in effects */
    uint64_t step;      /* REQUEST */
    uint64_t oldest;    /* REQUEST: the oldest step that the asker hasn't finished */
    uint32_t rank, world;
    uint32_t first, count; /* REQUEST: slots */
    const struct mx_entry *entry;
};

/* Why a request or a command is refused; the shell makes status and text of it. */
enum mx_verdict {
    MX_OK = 0,
    MX_WAIT_AHEAD,       /* too far past the slowest trainer: u[0] its oldest step */
    MX_ENDED,            /* step >= end: u[0] the end */
    MX_STOPPED,          /* stopped by an operator at u[0] */
    MX_OUT_OF_SAMPLES,   /* u[0] the domain, u[1] the step that can't be planned */
    MX_BAD_RANK,         /* rank >= world, or world 0 or over its limit */
    MX_BAD_SLOTS,        /* slots empty or beyond the batch */
    MX_BAD_STEP,         /* step over MX_STEP_MAX, or oldest > step */
    MX_LEAP,             /* request: step > frontier + max_ahead (u[0] the frontier) */
    MX_NOT_SERVED,       /* feedback for a step >= frontier (u[0] the frontier) */
    MX_BAD_WORLD,        /* feedback: world differs from u[0], which others of that step gave */
    MX_BAD_DOMAIN,       /* feedback: domain u[0] >= k */
    MX_BAD_VERSION,      /* feedback: mix_version u[0] isn't the step's (never made yet) */
    MX_BAD_WEIGHTS,      /* SET: weight u[0] not finite, negative or of a closed domain; k: all 0 */
    MX_TOO_MANY_OPEN,    /* feedback: too many steps await ranks already */
    MX_DUPLICATE,        /* feedback: this rank has reported this step */
    MX_LATE,             /* feedback: the step was closed before */
};

enum mx_effect_kind {
    MX_FX_SERVE,    /* handle may have slots of `step` now: see mx_run_step */
    MX_FX_HOLD,     /* keep handle; give its REQUEST again after the next apply */
    MX_FX_REFUSE,   /* tell handle `verdict` */
    MX_FX_APPEND,   /* make `entry` durable, then mx_run_apply it; handle (0: none) waits for it */
    MX_FX_DROP,     /* steps >= `step` filled ahead are no longer right */
    MX_FX_SNAPSHOT, /* save the run: mx_run_save. Losing it costs time only */
    MX_FX_ARM,      /* give a TIMER event at `at_ms` (monotonic); replaces the one before */
};

struct mx_effect {
    enum mx_effect_kind kind;
    enum mx_verdict verdict;
    uint64_t handle;
    uint64_t step;
    uint64_t at_ms;
    uint64_t u[2];
    uint32_t quarantined;   /* APPEND of FEEDBACK: losses left out as not finite or out of range */
    uint32_t bad_domain;    /* the first of them, and its value */
    double bad_value;
    struct mx_entry entry;
};

#define MX_EFFECTS_MAX 8

struct mx_effects {
    uint32_t n;
    struct mx_effect fx[MX_EFFECTS_MAX];
};

struct mx_run;

/* Bytes of memory for a run of this config, to be aligned as malloc does. */
size_t mx_run_size(const struct mx_run_config *c);
/* A run before its CREATE entry. c is copied but for what it says is borrowed. */
struct mx_run *mx_run_init(void *memory, const struct mx_run_config *c);

/* The CREATE entry of a new run, with index 1: limits and prior made into the first mix. From then
 * on the run is live; no call of mx_run_recovered is needed. */
void mx_run_first_entry(struct mx_run *r, uint64_t wall_ms, struct mx_entry *ret);

/* Live (after mx_run_recovered or mx_run_first_entry): one event, the effects of it. */
void mx_run_event(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
/* A durable entry, in index order, live or in recovery. 0, or -1 if it can't follow what was
 * applied before (an index out of order, a wrong k): the run's journal is not to be trusted. */
int mx_run_apply(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms,
                 struct mx_effects *fx);
/* After the last recovered entry: the frontier is set to the reservation's end and what the fold
 * leaves to be done (a mix not yet made, timers) comes out as effects. */
void mx_run_recovered(struct mx_run *r, uint64_t now_ms, uint64_t wall_ms, struct mx_effects *fx);

/* What a planned step holds; pointers are good until the next call that changes the run. */
struct mx_step {
    uint64_t step, mix_version;
    const uint64_t *cursors; /* k: samples drawn of each domain before this step */
    const uint32_t *prefix;  /* k + 1: running sums of the counts */
};

enum mx_step_found { MX_STEP_HERE = 0, MX_STEP_OLD, MX_STEP_UNKNOWN };

/* HERE: *ret filled. OLD: planned too long ago to be in memory; replay it from a snapshot and the
 * mixes. UNKNOWN: not planned; also for a step whose mix isn't durable. With `ahead` steps past the
 * frontier are planned on trial under the mixes now known, without moving the frontier: the basis
 * of filling ahead. */
enum mx_step_found mx_run_step(struct mx_run *r, uint64_t step, int ahead, struct mx_step *ret);

/* For stats; cheap. */
struct mx_run_view {
    uint64_t frontier, reserved, end_step, applied; /* applied: index of the last entry */
    uint64_t mix_version, mix_step;                 /* the latest mix and its first step */
    uint64_t next_version, next_step;               /* a durable mix not in force yet, or 0 */
    uint64_t steps_closed;                          /* whose feedback has been used */
    uint64_t last_closed;                           /* the last of them */
    uint64_t last_delay;                            /* steps from feedback to the mix it made */
    uint64_t accepted, duplicates, late, quarantined, timeouts;
    uint32_t open_steps;                            /* awaiting ranks */
    int stopped, exhausted;                         /* exhausted: domain + 1 */
    uint64_t exhausted_step;
    const uint64_t *shares;                         /* in force at the frontier; k */
    const double *weights;                          /* the policy's, before limits; k */
    const double *loss;                             /* last mean per domain, NAN if never; k */
    const uint64_t *loss_step;                      /* and the step it is of; k */
    const uint64_t *cursors;                        /* at the frontier; k */
};
void mx_run_view(struct mx_run *r, struct mx_run_view *ret);

/* The state as 64-bit words (doubles by their bits), for a snapshot. Returns how many are needed;
 * writes only if cap suffices. Holds the plan's position: cursors at mx_run_save's step. */
size_t mx_run_save(const struct mx_run *r, uint64_t *words, size_t cap, uint64_t *ret_step);
/* Into a run fresh from mx_run_init with the same config. 0, or -1 if the words are no such state:
 * then the run is to be made anew. */
int mx_run_load(struct mx_run *r, const uint64_t *words, size_t n);
/* Cursors (k) in saved words, for replaying old steps: the step they stand before, the version in
 * force there. 0 or -1. */
int mx_run_saved_cursors(const uint64_t *words, size_t n, uint32_t k, uint64_t *ret_step,
                         uint64_t *ret_cursors);

#endif
