/* run_state.h - what a run consists of, for the files run*.c alone.
 *
 * Two kinds of state. The fold: a function of the journal, saved in snapshots. The rest: who asked
 * lately, what is being appended, planned steps; lost in a crash, and nothing promised hangs on
 * it. A function named *_apply changes the fold; nothing else does. */
#ifndef MX_CORE_RUN_STATE_H
#define MX_CORE_RUN_STATE_H

#include "daemon/core/check.h"
#include "daemon/core/feedback.h"
#include "daemon/core/run.h"
#include "proto/limits.h"

/* Memory for planned steps, within a least and a most number of them: a trainer's retries and the
 * filling ahead stay inside, and a run of 8,192 domains stays small. */
#define MX_RING_BYTES ((size_t)4 << 20)
#define MX_RING_MIN 16u
#define MX_RING_MAX 1024u
/* Memory for mixes that are durable but not all in force yet (lead > 0). */
#define MX_MIXES_BYTES ((size_t)1 << 20)
#define MX_MIXES_MIN 4u
#define MX_MIXES_MAX 64u
/* Memory for steps that await reports. */
#define MX_OPEN_BYTES ((size_t)4 << 20)
#define MX_OPEN_MIN 8u
#define MX_OPEN_MAX 64u
/* Ranks in a word of a bitmap, words in a bitmap of every rank. */
#define MX_RANK_WORDS (MX_WORLD_MAX / 64u)
/* Steps of which it is remembered whether they are closed; those before count as closed. */
#define MX_CLOSED_STEPS 4096u
#define MX_CLOSED_WORDS (MX_CLOSED_STEPS / 64u)
/* Trainers whose oldest step in use is remembered, and for how long after their last request. */
#define MX_TRAINERS 1024u
#define MX_TRAINER_MS 60000u
/* A reservation used up faster than this is doubled, one that lasts longer than that is halved. */
#define MX_RESERVE_FAST_MS 500u
#define MX_RESERVE_SLOW_MS 4000u
#define MX_RESERVE_MAX 65536u

#define MX_NEVER UINT64_MAX

struct mx_known_mix {
    uint64_t from, version;
    uint64_t *shares; /* k, in the run's memory */
};

struct mx_open_step {
    uint64_t step;
    uint64_t deadline_ms; /* not of the fold: from when this process saw the first report */
    uint32_t world, reported;
    int used, close_pending; /* close_pending, not of the fold: a CLOSE is being appended */
    uint64_t *ranks;         /* bitmap of who reported */
    struct mx_fixed *loss;   /* k sums, with their tokens and samples */
    uint64_t *tokens, *samples;
};

struct mx_trainer {
    uint64_t seen_ms, oldest;
    uint32_t rank;
    int used;
};

struct mx_run {
    struct mx_run_config c; /* plan's domains borrowed, limits and params our copies: */
    struct mx_limit *limits;
    double *params;
    uint32_t k;
    int created, live;

    /* ---- the fold ---- */
    uint64_t applied, reserved;
    uint64_t stop_step, exhausted_step; /* MX_NEVER for none */
    uint32_t exhausted_domain;
    struct mx_known_mix mixes[MX_MIXES_MAX]; /* rising; the last is the latest */
    uint32_t mix_count, mix_cap;
    double *policy_state; /* policy_words */
    size_t policy_words;
    double *weights; /* k: the policy's; follows from its state */
    int set_wanted;  /* an operator's mix is not in the journal yet: set_shares */
    uint64_t *set_shares;
    int policy_wanted; /* the policy has moved since the last mix that holds its weights */
    uint64_t steps_closed, last_closed, last_delay, accepted, timeouts;
    double *loss;        /* k */
    uint64_t *loss_step; /* k */
    struct mx_open_step open[MX_OPEN_MAX];
    uint32_t open_cap, open_count;
    uint64_t closed_base; /* steps before it are closed */
    uint64_t closed[MX_CLOSED_WORDS], complete[MX_CLOSED_WORDS]; /* by step % MX_CLOSED_STEPS */

    /* ---- planned steps: follow from the fold and the frontier ---- */
    uint64_t frontier;
    uint64_t ring_low, ring_end; /* steps in the ring; from the frontier on they are on trial */
    uint32_t ring_cap;
    size_t record_words;
    uint64_t *ring;
    uint64_t *tail;   /* k: cursors before ring_end */
    uint32_t *counts; /* k: scratch */

    /* ---- not of the fold ---- */
    uint64_t appended;     /* index of the last entry asked to be appended */
    uint64_t pending_mix;  /* first step of the mix being appended, or MX_NEVER */
    uint64_t pending_stop; /* likewise of a STOP */
    uint64_t pending_exhausted;
    int pending_reserve;
    uint64_t reserve_block, reserve_ms; /* steps that the next RESERVE takes; when the last was */
    int mix_waiting; /* a mix is wanted, but the table of mixes is full */
    uint64_t snapshot_at, armed_ms, now_ms, wall_ms;
    uint64_t duplicates, late, quarantined;
    struct mx_trainer trainers[MX_TRAINERS];
    uint32_t trainers_world;
    struct mx_loss *loss_buffer;         /* k: what a FEEDBACK effect points to */
    struct mx_domain_stats *stats;       /* k: scratch */
    double *weight_buffer;               /* k: what a SET effect points to */
    uint64_t *want_shares, *share_scratch; /* k each: what a MIX effect points to; scratch */
    double *limit_scratch;               /* 5 k */
};

/* run.c */
struct mx_effect *mx_run_push(struct mx_effects *fx, enum mx_effect_kind kind, uint64_t handle);
struct mx_effect *mx_run_refuse(struct mx_effects *fx, uint64_t handle, enum mx_verdict verdict,
                                uint64_t u);
/* An APPEND effect with the next index and the time filled in. */
struct mx_entry *mx_run_append(struct mx_run *r, struct mx_effects *fx, uint64_t handle,
                               enum mx_entry_kind kind);
/* The first step that is known not to exist. */
uint64_t mx_run_limit(const struct mx_run *r);
/* The first step that what is being appended may change: from there on nothing is served. */
uint64_t mx_run_barrier(const struct mx_run *r);

/* run_plan.c: the ring and the frontier */
size_t mx_run_record_words(uint32_t k);
uint32_t mx_run_ring_cap(uint32_t k);
/* An empty ring before `step`; the caller has set the cursors in tail. */
void mx_run_plan_reset(struct mx_run *r, uint64_t step);
/* Moves the frontier to `step`. -1, or the domain for which the step now at the frontier can't be
 * planned. */
int64_t mx_run_advance(struct mx_run *r, uint64_t step);
/* Forgets trial steps from `step` on (at least the frontier). Whether there were any. */
int mx_run_truncate(struct mx_run *r, uint64_t step);
/* Cursors at the frontier, k. */
const uint64_t *mx_run_cursors(const struct mx_run *r);
const struct mx_known_mix *mx_run_mix_of(const struct mx_run *r, uint64_t step);
/* The version that a step below the frontier was planned under, 0 if that's out of memory. */
uint64_t mx_run_version_of(const struct mx_run *r, uint64_t step);

/* run_request.c */
void mx_run_on_request(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
/* Asks for a reservation if `step` or the steps to come need one and none is under way. */
void mx_run_want_reserve(struct mx_run *r, uint64_t step, struct mx_effects *fx);
void mx_run_want_exhausted(struct mx_run *r, uint32_t domain, struct mx_effects *fx);
void mx_run_want_snapshot(struct mx_run *r, struct mx_effects *fx);

/* run_mix.c */
uint32_t mx_run_mix_cap(uint32_t k);
/* Shares from weights, through the limits. */
void mx_run_shares(struct mx_run *r, const double *weights, uint64_t *ret_shares);
/* Drops mixes that no step from the frontier on is planned under. */
void mx_run_trim_mixes(struct mx_run *r);
/* Asks for the mix that is wanted, if one is and none is under way. */
void mx_run_want_mix(struct mx_run *r, struct mx_effects *fx);
int mx_run_add_mix(struct mx_run *r, uint64_t from, uint64_t version, const uint64_t *shares);
int mx_run_mix_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx);
void mx_run_on_set(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
int mx_run_set_apply(struct mx_run *r, const struct mx_entry *e);

/* run_feedback.c */
uint32_t mx_run_open_cap(uint32_t k);
struct mx_open_step *mx_run_find_open(struct mx_run *r, uint64_t step);
/* A cleared place for a step; one must be unused. */
struct mx_open_step *mx_run_open(struct mx_run *r, uint64_t step, uint32_t world);
void mx_run_on_feedback(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
void mx_run_on_timer(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
int mx_run_feedback_apply(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms);
void mx_run_close_apply(struct mx_run *r, const struct mx_entry *e);
/* Deadlines of all open steps anew, as after a recovery. */
void mx_run_rearm(struct mx_run *r, uint64_t now_ms);
void mx_run_want_timer(struct mx_run *r, struct mx_effects *fx);

#endif
