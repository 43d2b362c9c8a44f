/* schedule.h - a run's phases: at each step, whose weights the mix is made of, and under which
 * limits. Pure; any thread. Knows nothing of how a mix gets into force.
 *
 * Phases follow each other without a gap. In each of them weights come from
 *   adapt   the policy
 *   warmup  the run's prior
 *   mix     a mix that is given
 *   anneal  the weights that were in force when it began, moved towards a given mix: by the
 *           fraction a of the way, which rises in ticks from the phase's first step to its end and
 *           is 1 at the last of them. `blend`: from the policy's present weights instead.
 * The policy goes on learning in all of them. Points are the steps at which weights or limits
 * change by the schedule alone: where a phase begins, but for one that only goes on with the same
 * kind and limits, and each tick of an anneal. A run without phases adapts for ever and has no
 * points. */
#ifndef MX_CORE_SCHEDULE_H
#define MX_CORE_SCHEDULE_H

#include "daemon/core/shares.h"

enum mx_phase_kind { MX_PHASE_ADAPT = 0, MX_PHASE_WARMUP, MX_PHASE_MIX, MX_PHASE_ANNEAL };

enum mx_anneal_shape {
    MX_ANNEAL_LINEAR = 0, /* a = x, the part of the phase that is through with this tick */
    MX_ANNEAL_COSINE,     /* a = (1 - cos(pi x)) / 2: slow at both ends */
};

/* Mixes that an anneal makes at most: each is an entry in the journal for ever. */
#define MX_ANNEAL_TICKS 200u

struct mx_phase {
    uint64_t from; /* its first step; the first phase's is 0, and they rise */
    enum mx_phase_kind kind;
    enum mx_anneal_shape shape;
    int blend;
    const double *mix;             /* MIX, ANNEAL: k, >= 0, sum 1; borrowed */
    const struct mx_limit *limits; /* k; NULL: the run's own. The same are open. Borrowed */
};

struct mx_schedule {
    const struct mx_phase *phases; /* borrowed */
    uint32_t n;                    /* 0: none */
    uint32_t k;
    uint64_t end_step;             /* first step that doesn't exist; UINT64_MAX for none */
    const double *prior;           /* k, sum 1; borrowed */
    const struct mx_limit *limits; /* k: of the run; borrowed */
};

/* Whether it can be used: phases rise from 0 and begin before the end, no anneal is without an end,
 * mixes sum to 1, and the limits of each phase can be met. */
int mx_schedule_ok(const struct mx_schedule *s);

/* Number of the phase that a step lies in, from 0. */
uint32_t mx_schedule_phase_at(const struct mx_schedule *s, uint64_t step);
/* The next point after a step, or UINT64_MAX. */
uint64_t mx_schedule_next(const struct mx_schedule *s, uint64_t after);
int mx_schedule_is_point(const struct mx_schedule *s, uint64_t step);
/* Whether an anneal begins at the step which goes out from the weights then in force. */
int mx_schedule_departs(const struct mx_schedule *s, uint64_t step);
/* Whether weights at the step come from the policy, in whole or in part. */
int mx_schedule_asks_policy(const struct mx_schedule *s, uint64_t step);

/* Weights before limits (k, sum 1). policy: the policy's at present. departure: the weights that
 * were in force when the anneal began in which the step lies; not looked at outside of one. ret may
 * be neither. */
void mx_schedule_weights(const struct mx_schedule *s, uint64_t step, const double *policy,
                         const double *departure, double *ret);
const struct mx_limit *mx_schedule_limits(const struct mx_schedule *s, uint64_t step);

#endif
