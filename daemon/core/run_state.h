/* run_state.h - what a run consists of, for the files run*.c alone.
 *
 * Two kinds of state. The fold: a function of the journal, saved in snapshots. The rest: who asked
 * lately, what is being appended, planned steps; lost in a crash, and nothing promised hangs on
 * it. A function named *_apply changes the fold; nothing else does. */
#ifndef MX_CORE_RUN_STATE_H
#define MX_CORE_RUN_STATE_H

#include "daemon/core/check.h"
#include "daemon/core/digest.h"
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
/* Digests that wait for the next RESERVE: no reservation reaches further than what fits. */
#define MX_DIGESTS 8192u
/* Changes of domains that a run keeps for its life, over all domains: times that one has grown, and
 * ranges of samples withdrawn. */
#define MX_STRETCHES_MAX 2048u
#define MX_GONE_MAX 8192u
#define MX_SKIPS_MAX 256u
/* A reservation used up faster than this is doubled, one that lasts longer than that is halved. */
#define MX_RESERVE_FAST_MS 500u
#define MX_RESERVE_SLOW_MS 4000u
#define MX_RESERVE_MAX 4096u

#define MX_NEVER UINT64_MAX

struct mx_known_mix {
    uint64_t from, version;
    int set;          /* an operator's: in force before one by feedback from the same step */
    uint64_t *shares; /* k, in the run's memory */
};

struct mx_open_step {
    uint64_t step;
    uint64_t deadline_ms; /* not of the fold: from when this process saw the first report */
    uint32_t world, reported;
    int used;
    int closed;        /* lockstep: it waits for its turn with the policy */
    int close_pending; /* not of the fold: a CLOSE is being appended */
    uint64_t version;  /* of the mix that the trainers say it is of, 0 if none does */
    uint64_t *ranks;         /* bitmap of who reported */
    struct mx_fixed *loss;   /* k sums, with their tokens and samples */
    uint64_t *tokens, *samples;
    struct mx_fixed *eval_loss; /* of all sets' members, with their tokens */
    uint64_t *eval_tokens;
    struct mx_fixed *reward; /* k, with their counts; NULL if no policy looks at them */
    uint64_t *reward_count;
    /* Gradients are alike on all ranks: those of the lowest rank that reports them count. */
    uint32_t gram_rank, n_gram; /* n_gram 0: none */
    double lr;
    uint32_t *gram_domains;  /* MX_GRAM_MAX; NULL if no policy looks at them */
    double *gram;            /* upper triangle */
};

/* Numbers in the upper triangle of the largest Gram matrix. */
#define MX_GRAM_WORDS ((size_t)MX_GRAM_MAX * (MX_GRAM_MAX + 1u) / 2u)

/* A policy of the run and what the run keeps of it. */
struct mx_mixer {
    struct mx_mixer_conf conf;
    double *state; /* words */
    size_t words;
    uint64_t working; /* not of the fold: handle of the WORK asked for, 0 if none is */
    int fitting;      /* not of the fold: its result is being appended */
};

struct mx_trainer {
    uint64_t seen_ms, oldest;
    uint32_t rank;
    int used;
};

struct mx_run {
    struct mx_run_config c; /* plan's domains borrowed, limits our copy: */
    struct mx_limit *limits;
    double *prior; /* k, sum 1 */
    uint32_t eval_first[MX_EVAL_SETS_MAX + 1]; /* running sums of the eval sets' members */
    uint32_t members; /* of all of them */
    int uses_reward, uses_grad; /* some policy does */
    uint32_t n_shares; /* of a mix */
    struct mx_schedule schedule;
    uint64_t *budgets; /* k: as configured */
    uint32_t budgeted; /* domains that have one */
    uint32_t k;
    int created, live;

    /* ---- the fold ---- */
    uint64_t applied, reserved;
    uint64_t first_step; /* of a fork; else 0 */
    uint64_t versions;   /* the highest version of a mix */
    uint32_t branch, n_turns;
    struct mx_turn turns[MX_TURNS_MAX];
    struct mx_plan_domain *domains; /* k: c.plan.domains, pointing into the next two */
    struct mx_stretch *stretches;   /* of all domains, one after the other */
    struct mx_gone *gone;           /* likewise */
    uint32_t n_stretches, n_gone;
    uint32_t *withdrawn;            /* k: serial of the last withdrawal */
    uint8_t *spent;                 /* k: its EXHAUSTED is in the journal */
    uint64_t *passed;               /* k: places before the frontier that were passed over where the
                                       length of samples changed */
    struct mx_range skips[MX_SKIPS_MAX]; /* steps: rising, apart from each other */
    uint32_t n_skips;
    uint64_t stop_step, exhausted_step; /* MX_NEVER for none */
    uint32_t exhausted_domain;
    struct mx_known_mix mixes[MX_MIXES_MAX]; /* rising by from, then by set */
    uint32_t mix_count, mix_cap;
    struct mx_mixer mixers[1 + MX_SHADOWS_MAX]; /* c.n_mixers; states are of the fold */
    const double *weights; /* k: the first one's, in its state */
    int policy_wanted; /* 1: the policy has moved since the last mix that holds its weights;
                          2: no, but there is one for later steps that may not hold them */
    uint64_t point;    /* of the schedule: the last that has its mix */
    uint64_t next_point; /* follows from it */
    double *departure; /* k: mx_schedule_weights of an anneal that has begun */
    uint64_t last_moved; /* the last step closed that has moved it */
    uint64_t consumed; /* lockstep: the policy has taken all steps before it */
    uint64_t steps_closed, last_closed, last_delay, accepted, timeouts, below_quorum;
    uint64_t highest_closed; /* no later step has been closed */
    uint64_t shadow_at;      /* the step that the last SHADOW is of, and one; 0 for none */
    uint64_t rewards, scores, grads, evals, steps_skipped, nonfinite;
    double *loss;        /* k */
    uint64_t *loss_step; /* k */
    double *eval_loss;   /* members */
    uint64_t *eval_step; /* members */
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
    uint64_t tail_digest;
    uint32_t *counts; /* k: scratch */
    /* Digests after steps [digest_low, frontier), by step % MX_DIGESTS. */
    uint64_t *digests;
    uint64_t digest_low;
    uint64_t digest_asked; /* those before are on their way into the journal, or there */
    uint64_t plan_changes, bad_step;

    /* ---- not of the fold ---- */
    uint64_t appended;     /* index of the last entry asked to be appended */
    uint64_t pending_mix;  /* first step of the mix by feedback being appended, or MX_NEVER */
    uint64_t pending_set;  /* of SETs, the least */
    uint32_t pending_sets; /* how many */
    uint32_t pending_skips;
    uint32_t pending_here; /* entries being appended that act at the frontier, which then stays */
    uint64_t pending_exhausted;
    int pending_reserve, pending_spent, pending_shadow;
    int pending_point; /* the mix of next_point is being appended */
    uint64_t work_handle; /* the last one given out */
    int frozen;            /* asks for nothing: a rewind is being made ready */
    int rewinding;         /* and its entry is being appended */
    uint64_t versions_asked; /* the highest version asked to be appended */
    uint64_t reserve_block, reserve_ms; /* steps that the next RESERVE takes; when the last was */
    int mix_waiting; /* a mix is wanted, but the table of mixes is full */
    uint64_t mix_again; /* or will be, once one for this step can be made; MX_NEVER for none */
    uint64_t snapshot_at, armed_ms, now_ms, wall_ms;
    uint64_t duplicates, late, quarantined;
    struct mx_trainer trainers[MX_TRAINERS];
    uint32_t trainers_world;
    struct mx_loss *loss_buffer;         /* k: what a FEEDBACK effect points to; also */
    struct mx_eval_loss *eval_buffer;    /* members, and */
    struct mx_reward *reward_buffer;     /* k */
    double *fit_buffer;                  /* what a FIT effect points to */
    size_t fit_max;                      /* its doubles */
    struct mx_domain_stats *stats, *eval_stats; /* k, members: scratch */
    struct mx_reward_stats *reward_stats;       /* k: scratch */
    double *gram;                        /* MX_GRAM_MAX squared: scratch */
    double *mixer_scratch;
    double *weight_buffer;               /* k: what a SET or a MIX effect points to */
    double *term_buffer;                 /* likewise a MIX: MX_POLICY_TERMS_MAX * k, */
    uint8_t *bound_buffer;               /* k, */
    uint64_t *want_shares, *share_scratch; /* n_shares, k: what a MIX effect points to; scratch */
    uint64_t *shadow_shares;             /* shadows * k: what a SHADOW effect points to, and */
    double *shadow_weights;              /* likewise */
    uint64_t *digest_buffer;             /* MX_DIGESTS: what a RESERVE effect points to */
    struct mx_range *range_buffer;       /* MX_GONE_MAX: what a WITHDRAW effect points to */
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
/* The first step that what is being appended, or in lockstep what is waited for, may change: from
 * there on nothing is served. */
uint64_t mx_run_barrier(const struct mx_run *r);
/* Of these, what lockstep waits for: the first step whose feedback, or the mix made of it, isn't
 * in. */
uint64_t mx_run_lockstep_barrier(const struct mx_run *r);
/* Makes the run one that was never created. */
void mx_run_clear_fold(struct mx_run *r);
/* Copies who and why. */
void mx_run_copy_author(struct mx_entry *to, const struct mx_entry *from);
/* Brings an entry into the fold; the index is checked already. */
enum mx_applied mx_run_fold(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms,
                            struct mx_effects *fx);

/* run_plan.c: the ring and the frontier */
size_t mx_run_record_words(uint32_t k);
uint32_t mx_run_ring_cap(uint32_t k);
/* An empty ring before `step`; the caller has set the cursors in tail. */
void mx_run_plan_reset(struct mx_run *r, uint64_t step);
/* Moves the frontier to `step`, if it isn't there or past it. -1, or the domain for which the step
 * now at the frontier can't be planned. */
int64_t mx_run_advance(struct mx_run *r, uint64_t step);
/* The digest of all steps before the frontier. */
uint64_t mx_run_digest(const struct mx_run *r);
/* A change of domains at the frontier goes into the digest; nothing is on trial. */
void mx_run_digest_change(struct mx_run *r, const uint64_t *words, size_t n);
/* Whether the digests that a RESERVE holds are those of the steps as they are planned now. */
int mx_run_digests_hold(struct mx_run *r, const struct mx_entry *e);
/* What the first step's digest goes on from: all that the plan depends on but mixes. */
uint64_t mx_run_first_digest(const struct mx_run *r);
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
/* Asks for the entry that tells of a domain that has reached its budget while the run goes on. */
void mx_run_want_spent(struct mx_run *r, struct mx_effects *fx);
/* The step before which the frontier has to stop for a snapshot. */
uint64_t mx_run_boundary(const struct mx_run *r);
void mx_run_want_snapshot(struct mx_run *r, struct mx_effects *fx);

/* run_mix.c */
uint32_t mx_run_mix_cap(uint32_t k);
/* A mix's shares (n_shares) from weights to sample by, through the limits of the step. */
void mx_run_shares(struct mx_run *r, uint64_t step, const double *sampling, uint64_t *ret_shares);
/* What a mix comes from goes into its entry. */
void mx_run_tell_why(struct mx_run *r, struct mx_entry *e);
/* Drops mixes that no step from the frontier on is planned under. */
void mx_run_trim_mixes(struct mx_run *r);
/* Asks for the mix that is wanted, if one is and none is under way. */
void mx_run_want_mix(struct mx_run *r, struct mx_effects *fx);
int mx_run_add_mix(struct mx_run *r, uint64_t from, int set, uint64_t version,
                   const uint64_t *shares);
int mx_run_mix_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx);
void mx_run_on_set(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
int mx_run_set_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx);

/* run_schedule.c */
/* The points up to `step` have their mixes. */
void mx_run_set_point(struct mx_run *r, uint64_t step);
/* Lockstep: the next point's mix follows from the present state: no further step is taken before
 * it. */
int mx_run_point_due(const struct mx_run *r);
/* Whether departure holds something: an anneal that goes out from it is under way. */
int mx_run_departed(const struct mx_run *r);
/* A mix's shares from the weights that the schedule says. */
void mx_run_phase_shares(struct mx_run *r, uint64_t step, uint64_t *ret_shares);
/* Whether each point that has its mix and lies ahead has it in the table of mixes. */
int mx_run_points_there(const struct mx_run *r);
/* Places in the table of mixes that points need beside those by feedback. */
uint32_t mx_run_points_ahead(const struct mx_run *r);
/* Asks for the mix of the next point, if it is time. Whether it did. */
int mx_run_want_point(struct mx_run *r, struct mx_effects *fx);
/* The point of a MIX with cause PHASE, before that mix is added. 0, or -1 if it isn't the next. */
int mx_run_point_apply(struct mx_run *r, const struct mx_entry *e);

/* run_feedback.c */
uint32_t mx_run_open_cap(uint32_t k);
struct mx_open_step *mx_run_find_open(struct mx_run *r, uint64_t step);
/* A cleared place for a step; one must be unused. */
struct mx_open_step *mx_run_open(struct mx_run *r, uint64_t step, uint32_t world);
void mx_run_on_feedback(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
void mx_run_on_timer(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
int mx_run_feedback_apply(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms,
                          struct mx_effects *fx);
void mx_run_close_apply(struct mx_run *r, const struct mx_entry *e);
/* Deadlines of all open steps anew, as after a recovery. */
void mx_run_rearm(struct mx_run *r, uint64_t now_ms);
void mx_run_want_timer(struct mx_run *r, struct mx_effects *fx);
/* Lockstep: the step that the policy took last wants a mix, in force from `*ret`. */
int mx_run_owes_mix(const struct mx_run *r, uint64_t *ret);
/* Lockstep: gives the policy the closed steps whose turn has come. */
void mx_run_consume(struct mx_run *r);
/* A fork begins: nobody reports the steps before it any more, so they count with what they have. In
 * lockstep those without a report are passed over. */
void mx_run_close_open(struct mx_run *r);
/* Forgets what was reported of steps that are passed over. */
void mx_run_skip_open(struct mx_run *r, uint64_t from, uint64_t to);

/* run_policy.c: what the policies are shown, what they ask for, what the shadows would do */
/* Shows all policies a closed step. */
void mx_run_show(struct mx_run *r, const struct mx_open_step *o);
/* Whether the run's own policy waits for a long computation. */
int mx_run_working(const struct mx_run *r);
/* Asks for the long computations that are wanted and not under way. */
void mx_run_want_work(struct mx_run *r, struct mx_effects *fx);
void mx_run_on_worked(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
int mx_run_fit_apply(struct mx_run *r, const struct mx_entry *e);
/* Asks for a record of what the shadows would do, if it is time for one. */
void mx_run_want_shadow(struct mx_run *r, struct mx_effects *fx);
int mx_run_shadow_apply(struct mx_run *r, const struct mx_entry *e);
/* Forgets what is under way: the state that it was for is gone. */
void mx_run_forget_work(struct mx_run *r);
/* Forgets one that has come to nothing. */
void mx_run_drop_work(struct mx_run *r, uint64_t handle);

/* run_change.c: skips, domains that grow and lose samples */
void mx_run_on_skip(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
void mx_run_on_adopt(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
void mx_run_on_withdraw(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
int mx_run_skip_apply(struct mx_run *r, const struct mx_entry *e);
int mx_run_adopt_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx);
int mx_run_withdraw_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx);
/* Whether half of each domain's samples can be drawn, as it must be: else looking for one might not
 * end. */
int mx_run_enough_stays(const struct mx_run *r);
/* Points the domains to their parts of the two tables, whose sizes by domain they hold. */
void mx_run_point_domains(struct mx_run *r);

/* run_rewind.c */
void mx_run_on_rewind(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx);
int mx_run_rewind_apply(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms,
                        struct mx_effects *fx);
int mx_run_fork_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx);

/* run_save.c: as mx_run_load, into a run that is cleared first */
int mx_run_restore(struct mx_run *r, const uint64_t *words, size_t n);

#endif
