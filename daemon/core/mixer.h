/* mixer.h - a policy with its guards: from what a step has told to weights, before limits.
 *
 * The guards are the same for all policies: what isn't sane never reaches one, and what comes out
 * is weights whatever happens inside. In order:
 *   loss_clip       losses over it count as it
 *   stale_*         reports measured under a mix over stale_max versions old are dropped; one
 *                   that is n versions old counts stale_discount^n: its value is moved towards the
 *                   last one known of the domain
 *   absent          a domain that the step has not seen: `skip`: the policy isn't told; `hold`: its
 *                   last value counts again; `decay`: that value times absent_decay counts, and is
 *                   the last one from then on. Never for a domain that was never seen
 *   the policy
 *   prior_decay     weights = d^n prior + (1 - d^n) policy's, n: updates so far. 0: the prior is gone
 *                   at the first
 *   max_change      no weight moves further than this in one update: the whole step is shortened
 * Weights that are not finite or no weights (a policy's fault) are not taken: the last good ones
 * stay (at first the prior), and `broken` counts. Pure; the state is one block of doubles, as a
 * policy's. One thread at a time. */
#ifndef MX_CORE_MIXER_H
#define MX_CORE_MIXER_H

#include "daemon/core/policy.h"

enum mx_absent { MX_ABSENT_SKIP = 0, MX_ABSENT_HOLD = 1, MX_ABSENT_DECAY = 2 };

/* Where weights go. */
enum mx_apply {
    MX_APPLY_SAMPLER = 0, /* they are the mix */
    MX_APPLY_LOSS = 1,    /* the mix stays the prior; they come with the batch, as loss weights */
};

struct mx_guards {
    double loss_clip;      /* nats; INFINITY for none */
    double prior_decay;    /* 0 <= d < 1 */
    double absent_decay;   /* 0 .. 1 */
    double stale_discount; /* 0 < g <= 1 */
    double stale_max;      /* versions; INFINITY for none */
    double max_change;     /* 0 < c <= 1 */
    enum mx_absent absent;
    enum mx_apply apply;
};

struct mx_mixer_conf {
    struct mx_policy_conf policy;
    uint32_t eval_set; /* of the run's: the one it looks at, if the policy looks at one */
    struct mx_guards guards;
};

/* No guard that changes anything, but the policy's own rule for absent domains. */
struct mx_guards mx_guards_none(const struct mx_policy_ops *ops);
/* What a config that says nothing gets. */
struct mx_guards mx_guards_default(const struct mx_policy_ops *ops);

/* Doubles of state, and of scratch for mx_mixer_observe. */
size_t mx_mixer_size(const struct mx_mixer_conf *c);
size_t mx_mixer_scratch(const struct mx_mixer_conf *c);
void mx_mixer_init(double *state, const struct mx_mixer_conf *c);

/* Shows the policy a step. stale: how many mixes were made since the one that the step was planned
 * under. Returns whether the weights have moved. */
int mx_mixer_observe(double *state, const struct mx_mixer_conf *c, const struct mx_observation *o,
                     uint64_t stale, double *scratch);

/* Weights from elsewhere, in force until the policy next moves (k, sum 1). */
void mx_mixer_put(double *state, const struct mx_mixer_conf *c, const double *weights);

/* Weights after guards, and the mean of all that were in force after an update (the output that
 * DoReMi and DoGE report); k, in the state. */
const double *mx_mixer_weights(const double *state);
const double *mx_mixer_mean(const double *state, const struct mx_mixer_conf *c);
/* The policy's own weights. */
void mx_mixer_raw(const double *state, const struct mx_mixer_conf *c, double *ret);
/* What the weights come from: as explain of policy.h. */
void mx_mixer_explain(const double *state, const struct mx_mixer_conf *c, double *ret);

struct mx_mixer_counts {
    uint64_t updates; /* observations that the policy has taken */
    uint64_t clipped, filled, stale, broken; /* losses clipped; values filled in for absent domains;
                                                observations dropped as stale; weights refused */
};
struct mx_mixer_counts mx_mixer_counts(const double *state);

/* See policy.h; all are fine for a policy that has none of it. */
int mx_mixer_wants_work(const double *state, const struct mx_mixer_conf *c);
size_t mx_mixer_work_size(const struct mx_mixer_conf *c);
size_t mx_mixer_work_scratch(const struct mx_mixer_conf *c);
void mx_mixer_work(const double *state, const struct mx_mixer_conf *c, double *ret, double *scratch);
/* Returns whether the weights have moved. scratch: as mx_mixer_observe. */
int mx_mixer_worked(double *state, const struct mx_mixer_conf *c, const double *result,
                    double *scratch);
void mx_mixer_in_force(double *state, const struct mx_mixer_conf *c, uint64_t t);
uint32_t mx_mixer_requests(const double *state, const struct mx_mixer_conf *c,
                           struct mx_policy_request *ret, uint32_t cap);

/* Whether a block that comes from outside (a snapshot) can be used: weights are weights, and the
 * policy finds its own part sane. */
int mx_mixer_sane(const double *state, const struct mx_mixer_conf *c);

#endif
