/* policy.h - the interface of every mixing algorithm.
 *
 * A policy is a pure state machine: statistics of a step in, weights out. Its state is one block of
 * doubles (counters too: exact up to 2^53), so that it can be saved, restored and compared bit by
 * bit. It never sees limits, steps of other runs, clocks or memory beyond its block. Inputs have
 * been checked by the caller: finite, tokens > 0. One thread at a time. */
#ifndef MX_CORE_POLICY_H
#define MX_CORE_POLICY_H

#include <stddef.h>
#include <stdint.h>

/* What the trainers reported for one domain in one step, all ranks together. */
struct mx_domain_stats {
    uint32_t domain;
    uint64_t tokens;  /* > 0 */
    uint64_t samples; /* 0 if not counted */
    double loss;      /* mean over the tokens, nats, finite, >= 0 */
};

/* Numbers that a policy takes, by name: the same table checks configs and fills defaults. */
struct mx_policy_param {
    const char *name;
    double fallback;
    double min, max; /* inclusive */
    int integer;     /* must be a whole number */
    const char *what;
};

struct mx_policy_ops {
    const char *name;
    const char *what; /* one line for mixctl help */
    const struct mx_policy_param *params;
    size_t n_params;

    /* Doubles of state for k domains. */
    size_t (*state_size)(uint32_t k);
    /* prior: k weights that sum to 1; params: n_params values in the table's order. */
    void (*init)(double *state, uint32_t k, const double *prior, const double *params);
    /* One step's statistics, n >= 0 domains in rising order; a domain not seen is absent.
     * t: number of the optimiser step, from 1. */
    void (*on_train)(double *state, uint32_t k, const double *params, uint64_t t,
                     const struct mx_domain_stats *stats, uint32_t n);
    /* The present weights, k, >= 0, finite, sum 1 to rounding. */
    void (*weights)(const double *state, uint32_t k, double *ret);
    /* Whether on_train can ever change the weights. */
    int adapts;
};

/* By name, or NULL. mx_policy_at lists them: NULL past the last. */
const struct mx_policy_ops *mx_policy_find(const char *name);
const struct mx_policy_ops *mx_policy_at(size_t i);

#endif
