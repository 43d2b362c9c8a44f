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
 * Steps. [0, frontier): planned, never planned differently but by a rewind. frontier <= reserved:
 * steps below `reserved` may be served without asking the disk; after a crash the frontier restarts
 * there. Each entry tells the frontier of its asking, so that the fold plans as the run did, and a
 * RESERVE holds a rolling digest of each step planned since the one before: the fold checks it.
 * A mix appended while the frontier is f takes effect at f + lead, but not before the last one by
 * feedback; until it is durable, steps from there on are held. At most one mix by feedback is being
 * appended at a time; feedback that completes meanwhile is folded into the next one.
 *
 * Feedback. Ranks' losses are summed in fixed point, so that their order doesn't matter. A step is
 * shown to the policy once, when all its ranks have reported or its time is up, and not at all if
 * quarantine left nothing of it or fewer than the quorum reported: the last good mix stays. A
 * report that no longer fits when its entry is applied (twice in flight, or its step closed
 * meanwhile) changes nothing.
 *
 * Policies. The first mixer makes the mixes; the others are shadows: they see the same feedback and
 * what they would do is recorded, no more. Long computations of a policy (MX_FX_WORK) are done by
 * the shell on a copy of its state; the result is an entry (FIT) and part of the fold from then on.
 * With MX_APPLY_LOSS the mix that is sampled from stays the prior, and a mix has as many shares
 * again behind these: the weights of the loss.
 *
 * Phases (schedule.h). Where the schedule changes the mix by itself, that mix (cause PHASE) is in
 * force from its step exactly, for all ranks and whatever the timing: steps from there on aren't
 * planned before it is durable. In phases in which the policy has no say no mix is made by feedback;
 * what it has learned meanwhile counts where the next phase that asks it begins. A phase says what
 * is sampled by: with MX_APPLY_LOSS the weights of the loss are the policy's of when the phase's mix
 * is made.
 *
 * Lockstep (lag n > 0). The policy takes closed steps strictly in their order, and what it makes of
 * step c is in force from c + n exactly; step t isn't planned before that mix of t - n is durable.
 * So all that is planned follows from config, losses and the operator's commands, whatever the
 * timing, and a crash moves nothing.
 *
 * Commands. An operator's weights are a mix of their own from the step that the SET names, before
 * any by feedback or by the schedule of the same step, and until the next of these. STOP, ADOPT,
 * WITHDRAW and REWIND act at the frontier: nothing is planned until they are durable. A rewound run
 * is the fold of what concerns steps before S (run_rewind.c says what); its REWIND entry holds that
 * state, so that a journal is read forward. */
#ifndef MX_CORE_RUN_H
#define MX_CORE_RUN_H

#include "daemon/core/mixer.h"
#include "daemon/core/plan.h"
#include "daemon/core/schedule.h"

/* The most that loss_max may be, nats: sums over ranks are exact up to there. */
#define MX_LOSS_MAX 1e4

struct mx_run_config {
    struct mx_plan_spec plan;        /* plan.domains borrowed for the run's life */
    uint32_t seq_len;                /* tokens in a sample, of which a slot of a part holds
                                        `length`: bounds what feedback can claim */
    uint32_t max_ahead;              /* steps that the fastest trainer may be past the slowest */
    uint32_t reserve_steps;          /* steps reserved by one entry, >= 1 */
    uint32_t snapshot_steps;         /* steps between snapshots, >= 1 */
    uint32_t lead;                   /* steps between a mix's making and its effect, >= 0 */
    uint64_t end_step;               /* first step that doesn't exist; UINT64_MAX for none */
    uint32_t lag;                    /* lockstep: see above, 1 .. mx_run_lag_max(k); 0: async */
    double quorum;                   /* a step that times out counts if so many of its ranks, 0..1,
                                        have reported */
    uint64_t feedback_timeout_ms;    /* after a step's first report, when ranks are missing; or
                                        UINT64_MAX for never */
    double loss_max;                 /* mean losses over this (nats) are quarantined */
    const double *prior;             /* k weights, >= 0, sum > 0; borrowed for init only */
    const struct mx_limit *limits;   /* k; copied */
    const struct mx_phase *phases;   /* mx_schedule_ok; borrowed with all that they point to for the
                                        run's life. NULL with 0 of them: the policy alone decides */
    uint32_t n_phases;
    /* The run's policy, then its shadows. Copied, but what they point to is borrowed for the run's
     * life; k and prior are filled in by the run. */
    const struct mx_mixer_conf *mixers;
    uint32_t n_mixers;               /* 1 .. 1 + MX_SHADOWS_MAX */
    uint32_t shadow_steps;           /* steps between two records of what the shadows would do */
    const uint32_t *eval_sets;       /* members of each evaluation set; copied */
    uint32_t n_eval_sets;            /* 0 .. MX_EVAL_SETS_MAX */
};

#define MX_SHADOWS_MAX 8u

/* One domain of one rank's report; the meaning of the wire's entry. */
struct mx_loss {
    uint32_t domain;
    uint32_t samples;
    uint64_t tokens;
    double loss_sum;
};

/* The same of one member of an evaluation set. */
struct mx_eval_loss {
    uint32_t set, member;
    uint64_t samples;
    uint64_t tokens;
    double loss_sum;
};

struct mx_reward {
    uint32_t domain;
    uint64_t count; /* > 0 */
    double sum;
};

/* What one sample was worth; kept in the journal and counted. */
struct mx_score {
    uint32_t domain;
    uint64_t sample;
    double score;
};

/* kind, name: what a journal entry says */
#define MX_ENTRIES(X)                                                                             \
    X(1, CREATE, create)     /* the run exists; step 0, mix version 1 from shares */              \
    X(2, RESERVE, reserve)   /* steps below `step` may have been served; digests so far */       \
    X(3, FEEDBACK, feedback) /* one rank's report of `step` */                                    \
    X(4, CLOSE, close)       /* the timeout passed: `step` counts with the ranks that reported */ \
    X(5, MIX, mix)           /* `version` with `shares` is in force from `step` */                \
    X(6, SET, set)           /* an operator's `weights`: `version` is in force from `step` */     \
    X(7, STOP, stop)         /* an operator ended the run: `step` is its first missing step */    \
    X(8, EXHAUSTED, exhausted) /* `domain` has nothing left for `step`: the run ends there, or    \
                                  others take over */                                             \
    X(9, SKIP, skip)         /* steps `step` .. `to` - 1 are passed over */                       \
    X(10, ADOPT, adopt)      /* `domain` has grown to `samples`, as of `step` */                  \
    X(11, WITHDRAW, withdraw) /* `ranges` of `domain` are not drawn from `step` on */             \
    X(12, REWIND, rewind)    /* history goes on from `step` in another way, with state `words` */ \
    X(13, FORK, fork)        /* first entry of a run that goes on from another's `step` */        \
    X(14, FIT, fit)          /* mixer `domain` has the result of its long computation: `values` */ \
    X(15, SHADOW, shadow)    /* the mixes that the shadows would have made of steps up to `step` */

enum mx_entry_kind {
#define MX_ENTRY_ENUM(id, NAME, name) MX_ENTRY_##NAME = id,
    MX_ENTRIES(MX_ENTRY_ENUM)
#undef MX_ENTRY_ENUM
};

enum mx_mix_cause {
    MX_CAUSE_CREATE = 1,
    MX_CAUSE_FEEDBACK = 2,
    MX_CAUSE_OPERATOR = 3,
    MX_CAUSE_REWIND = 4, /* the same shares under a new version */
    MX_CAUSE_FORK = 5,
    MX_CAUSE_PHASE = 6, /* the schedule: a phase begins or an annealing goes on */
};

#define MX_REPORT_FLAG_NONFINITE 1u /* the loss was not finite */
#define MX_REPORT_FLAG_SKIPPED 2u   /* the optimiser skipped the step */

struct mx_range {
    uint64_t first, count; /* samples */
};

/* Pointers are borrowed from whoever made the entry: effects point into the run (until its next
 * call), entries given to mx_run_apply are borrowed for that call. */
struct mx_entry {
    enum mx_entry_kind kind;
    uint64_t index;   /* set by the run in APPEND effects: 1, 2, 3, ... without a gap */
    uint64_t time_ms; /* wall clock, as data only */
    uint64_t step;     /* from which it has effect, or which it is about */
    uint64_t frontier; /* the run's, when the entry was asked for */
    /* FEEDBACK */
    uint32_t rank, world, flags;
    uint64_t mix_version; /* also of CREATE, MIX, SET, REWIND, FORK: the version they make */
    const struct mx_loss *losses;
    uint32_t n;           /* losses, digests or ranges; SHADOW: shadows */
    uint32_t n_evals, n_rewards, n_scores, n_gram;
    const struct mx_eval_loss *evals;  /* rising in set, then member */
    const struct mx_reward *rewards;   /* rising in domain */
    const struct mx_score *scores;
    const uint32_t *gram_domains;      /* n_gram, rising */
    const double *gram;                /* upper triangle, row by row: n_gram (n_gram + 1) / 2 */
    double lr;
    /* CREATE, MIX, SET, REWIND, FORK: n_shares; SHADOW: n * k */
    const uint64_t *shares;
    uint32_t n_shares;    /* k, or 2 k if the run's policy weighs the loss */
    enum mx_mix_cause cause;
    uint64_t cause_step;  /* MIX by feedback: the last step whose feedback has moved it */
    /* SET: k weights, sum > 0. Also the prior of a policy that doesn't adapt; one that does keeps
     * what it has learned, and the set mix lasts until its weights next change. */
    const double *weights;
    /* CREATE, MIX, and of a SHADOW the weights alone, n * k: what the shares come from, for
     * explanations; NULL if not told. MIX uses `weights` too: the policy's, after guards. */
    const double *terms;  /* n_terms * k, as explain of policy.h */
    uint32_t n_terms;
    const uint8_t *bound; /* k: enum mx_bound */
    uint32_t phase;       /* number of the schedule's phase in force at `step` */
    /* FIT */
    const double *values;
    size_t n_values;
    /* RESERVE: the rolling digest after each of the steps from digest_from on */
    const uint64_t *digests;
    uint64_t digest_from;
    uint64_t to;          /* SKIP */
    uint32_t domain;      /* EXHAUSTED, ADOPT, WITHDRAW; FIT: mixer */
    uint32_t flag;        /* EXHAUSTED: the run ends; ADOPT: at once, not where an epoch ends */
    /* ADOPT */
    uint64_t samples;
    uint32_t chunk, shards; /* shards: the shell's */
    /* WITHDRAW */
    const struct mx_range *ranges;
    uint32_t serial;      /* of the domain's withdrawals, from 1: the last that the run has taken */
    /* REWIND, FORK: the state at `step`, as mx_run_save gives it */
    const uint64_t *words;
    size_t n_words;
    uint32_t branch;      /* REWIND: which one this begins, from 1 */
    uint32_t source;      /* FORK: the other run's number, the shell's */
    /* who and why: the shell's, opaque here, not terminated */
    const char *author, *why;
    uint32_t author_len, why_len;
};

enum mx_event_kind {
    MX_EV_REQUEST,  /* a trainer wants slots of `step` */
    MX_EV_FEEDBACK, /* a rank reports: entry's step, rank, world, mix_version, flags, losses, n */
    MX_EV_SET,      /* an operator sets weights: entry's weights; step: from which on, or 0 for as
                       soon as can be */
    MX_EV_STOP,     /* an operator ends the run at the frontier */
    MX_EV_SKIP,     /* an operator passes steps over: entry's step, to */
    MX_EV_ADOPT,    /* a domain has grown: entry's domain, samples, chunk, shards, flag */
    MX_EV_WITHDRAW, /* samples are withdrawn: entry's domain, ranges, n, serial */
    MX_EV_REWIND,   /* an operator goes back: entry's step, words, n_words, shares, from a run that
                       mx_run_unwind and mx_run_unwound made of the whole journal. Only when frozen */
    MX_EV_FREEZE,   /* until THAW or a REWIND's entry nothing is planned or asked to be appended; what
                       is on its way still comes, and then the journal stands still */
    MX_EV_THAW,     /* not heard while a REWIND's entry is on its way */
    MX_EV_WORKED,   /* the result of a WORK effect: its handle; entry's values, n_values */
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
    const struct mx_entry *entry; /* commands: its author and why go into the journal's */
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
    MX_BAD_EVAL,         /* feedback: eval set u[0] or member u[1] doesn't exist, or doesn't rise */
    MX_BAD_REWARD,       /* feedback: a reward of domain u[0], which doesn't exist or doesn't rise */
    MX_BAD_SCORE,        /* feedback: a score of domain u[0] >= k */
    MX_BAD_GRAM,         /* feedback: a Gram matrix of u[0] domains, too many or not rising */
    MX_BAD_VERSION,      /* feedback: mix_version u[0] isn't the step's (never made yet) */
    MX_BAD_WEIGHTS,      /* SET: weight u[0] not finite, negative or of a closed domain; k: all 0 */
    MX_TOO_MANY_OPEN,    /* feedback: too many steps await ranks already */
    MX_DUPLICATE,        /* feedback: this rank has reported this step. WITHDRAW: serial u[0] is
                            taken already */
    MX_LATE,             /* feedback: the step was closed before */
    MX_SKIPPED,          /* the step is passed over: u[0] the first after it that isn't */
    MX_BEFORE_FORK,      /* the run begins with step u[0] */
    MX_BAD_AT,           /* SET: step isn't at least u[0], or at most u[1] */
    MX_TOO_MANY_MIXES,   /* SET: u[0] mixes are waiting for their steps, the most there can be */
    MX_BAD_RANGE,        /* SKIP: not step < to <= u[0]; REWIND: step not in u[1] .. u[0] */
    MX_TOO_MANY_SKIPS,   /* SKIP: u[0] ranges, the most there can be */
    MX_CHANGING,         /* a command: the run is being made, frozen, or another change of its kind
                            is being recorded: ask again */
    MX_NOT_GROWN,        /* ADOPT: the domain has u[0] samples */
    MX_NO_JOINS,         /* ADOPT at once: this run draws up to u[0] samples in a row */
    MX_TOO_MANY_CHANGES, /* ADOPT, WITHDRAW, REWIND: u[0] so far, the most that a run can keep */
    MX_JOINED_TOO_OFTEN, /* ADOPT at once: u[0] times in this epoch, the most there can be */
    MX_TOO_MUCH_GONE,    /* WITHDRAW, ADOPT: over half of the domain's u[0] samples would be gone */
};

enum mx_effect_kind {
    MX_FX_SERVE,    /* handle may have slots of `step` now: see mx_run_step */
    MX_FX_HOLD,     /* keep handle; give its REQUEST again after the next apply or THAW */
    MX_FX_AGAIN,    /* give handle's REQUEST again, once the other effects are carried out */
    MX_FX_REFUSE,   /* tell handle `verdict` */
    MX_FX_APPEND,   /* make `entry` durable, then mx_run_apply it; handle (0: none) waits for it */
    MX_FX_DROP,     /* steps >= `step` filled ahead are no longer right */
    MX_FX_SNAPSHOT, /* save the run: mx_run_save. Losing it costs time only */
    MX_FX_WORK,     /* compute for mixer u[0], elsewhere: mx_run_work; then WORKED with handle */
    MX_FX_ARM,      /* give a TIMER event at `at_ms` (monotonic); replaces the one before */
};

struct mx_effect {
    enum mx_effect_kind kind;
    enum mx_verdict verdict;
    uint64_t handle;
    uint64_t step;
    uint64_t at_ms;
    uint64_t u[2];
    uint32_t quarantined;   /* APPEND of FEEDBACK: values left out as not finite or out of range */
    const char *bad_part;   /* the first of them: "train", "eval", "reward", "grad", "scores" */
    uint32_t bad_domain;    /* (or member), and its value */
    double bad_value;
    struct mx_entry entry;
};

#define MX_EFFECTS_MAX 16

struct mx_effects {
    uint32_t n;
    int counted; /* by mx_run_apply of a FEEDBACK: whether it was the first report of its rank */
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
enum mx_applied {
    MX_APPLIED = 0,
    MX_APPLY_ORDER = -1,  /* it can't follow what was applied before, or makes no sense */
    MX_APPLY_DIGEST = -2, /* a step, planned again, isn't what was planned: mx_run_view's bad_step */
};
/* A durable entry, in index order, live or in recovery. If it isn't MX_APPLIED the run's journal is
 * not to be trusted, and the run not to be used. In recovery the only effect is a SNAPSHOT that may
 * not have become durable. */
enum mx_applied mx_run_apply(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms,
                             struct mx_effects *fx);
/* After the last recovered entry: the frontier moves to the reservation's end and what the fold
 * leaves to be done (a mix not yet made, timers) comes out as effects. To be called until it gives
 * 0: 1 means that a snapshot is to be taken on the way. */
int mx_run_recovered(struct mx_run *r, uint64_t now_ms, uint64_t wall_ms, struct mx_effects *fx);

/* ---- going back: on a run of its own, in recovery, never made live ---- */
/* Whether the state that was just loaded will do to begin with: it holds nothing that a run that
 * goes back to `step` leaves out. Else an older one does, or none. */
int mx_run_unwinds(const struct mx_run *r, uint64_t step);
/* Applies of an entry what a run that goes back to `step` keeps. As mx_run_apply. */
enum mx_applied mx_run_unwind(struct mx_run *r, const struct mx_entry *e, uint64_t step);
/* After the last entry: moves the frontier to `step`; mx_run_save then gives the REWIND's words and
 * mx_run_view its shares. 0, or -1 if step was never planned, or if of what a domain was then too
 * little would be left without the samples withdrawn since. */
int mx_run_unwound(struct mx_run *r, uint64_t step);

/* The first entry of a run that goes on from another's state: index 1. words as for a REWIND. */
void mx_run_fork_entry(struct mx_run *r, uint64_t wall_ms, const struct mx_entry *from,
                       struct mx_entry *ret);
/* Tokens of a step in all. */
uint64_t mx_run_step_tokens(const struct mx_run_config *c, uint64_t step);
/* The largest lag for k domains. */
uint32_t mx_run_lag_max(uint32_t k);

/* ---- policies ---- */
const struct mx_mixer_conf *mx_run_mixer(const struct mx_run *r, uint32_t mixer);
/* The mixer's state, mx_mixer_size doubles; good until the next apply. For WORK it is to be copied:
 * the run goes on meanwhile. */
const double *mx_run_mixer_state(const struct mx_run *r, uint32_t mixer);
/* The mix that a mixer's present weights would make, k shares. */
void mx_run_would(struct mx_run *r, uint32_t mixer, uint64_t *ret_shares);
/* What trainers are asked for: to evaluate after these steps. Fills up to cap; how many. */
uint32_t mx_run_requests(const struct mx_run *r, uint64_t *ret_steps, uint32_t cap);

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

/* The domains as they have become: k, with what they point to good until the next apply that
 * changes them (mx_run_view's plan_changes then rises). */
const struct mx_plan_domain *mx_run_domains(const struct mx_run *r);
/* How far a domain has been drawn: its cursor at the frontier, less what was passed over where the
 * length of samples changed. */
uint64_t mx_run_drawn(const struct mx_run *r, uint32_t domain);
/* Withdrawals of a domain that the run has taken: the last one's serial. */
uint32_t mx_run_withdrawn(const struct mx_run *r, uint32_t domain);
/* Whether a domain can do without these ranges (rising, apart) as well, as it is, as it will have
 * become, and with its first `grown` samples: half of them must stay, else looking for one to draw
 * might not end. What a WITHDRAW is refused for otherwise, and its u[0]. */
enum mx_verdict mx_run_spares(struct mx_run *r, uint32_t domain, const struct mx_range *ranges,
                              uint32_t n, uint64_t grown, uint64_t *ret_most);
/* The shards that the run knows the domain to have, also those not drawn from yet; 0 if it has not
 * grown since the run's beginning. */
uint32_t mx_run_shards(const struct mx_run *r, uint32_t domain);
/* Whether a step is passed over; *ret: the first after it that isn't. */
int mx_run_skipped(const struct mx_run *r, uint64_t step, uint64_t *ret);
/* All that are passed over, as ranges of steps. */
const struct mx_range *mx_run_skips(const struct mx_run *r, uint32_t *ret_n);
/* In how many steps, from the frontier on and with the present shares, a domain will have reached
 * its budget; UINT64_MAX for never. Integer arithmetic on expected numbers. */
uint64_t mx_run_steps_left(struct mx_run *r, uint32_t domain);

/* Where history took another way: of what was made before (mixes with a smaller version, entries
 * with a smaller index) nothing holds from `step` on. Rising in step; the last begins the branch
 * that is in force now. */
struct mx_turn {
    uint64_t step, version, index;
};
#define MX_TURNS_MAX 256u
const struct mx_turn *mx_run_turns(const struct mx_run *r, uint32_t *ret_n);

/* For stats; cheap. */
struct mx_run_view {
    uint64_t frontier, reserved, end_step, applied; /* applied: index of the last entry */
    uint64_t first_step;                            /* 0, or where a fork began */
    uint64_t mix_version, mix_step;                 /* the mix in force at the frontier */
    uint64_t next_version, next_step;               /* a durable mix not in force yet, or 0 */
    uint64_t versions;                              /* the highest version made */
    uint64_t digest;                                /* rolling, of all steps before the frontier */
    uint64_t bad_step;                              /* after MX_APPLY_DIGEST */
    uint64_t plan_changes;
    uint64_t consumed;                              /* lockstep: steps that the policy has taken */
    uint32_t branch;                                /* rewinds so far */
    uint32_t phase;                                 /* of the schedule, at the frontier */
    uint64_t next_point;                            /* the schedule's next whose mix isn't durable,
                                                       UINT64_MAX for none */
    uint64_t steps_closed;                          /* whose feedback has been used */
    uint64_t last_closed;                           /* the last of them */
    uint64_t last_delay;                            /* steps from feedback to the mix it made */
    uint64_t accepted, duplicates, late, quarantined, timeouts, below_quorum;
    uint32_t open_steps;                            /* awaiting ranks */
    int stopped, exhausted;                         /* exhausted: domain + 1 */
    uint64_t exhausted_step;
    const uint64_t *shares;                         /* in force at the frontier; k */
    const double *weights;                          /* the policy's, before limits; k */
    const double *mean_weights;                     /* their mean over all updates; k */
    uint32_t n_shares;                              /* of a mix */
    uint64_t rewards, scores, grads, evals;         /* values taken of each, and flags: */
    uint64_t steps_skipped, nonfinite;              /* reports with these flags */
    const double *eval_loss;                        /* last mean per member, all sets, NAN if never */
    const uint64_t *eval_step;
    int working;                                    /* a long computation is awaited */
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
/* Cursors (k) in saved words, for replaying old steps, the step they stand before and the last
 * entry that the state holds. 0 or -1. */
int mx_run_saved_cursors(const uint64_t *words, size_t n, uint32_t k, uint64_t *ret_step,
                         uint64_t *ret_applied, uint64_t *ret_cursors);

#endif
