/* policy.h - the interface of every mixing algorithm.
 *
 * A policy is a pure state machine: what was observed of a step in, weights out. Its state is one
 * block of doubles (counters too: exact up to 2^53), so that it can be saved, restored and compared
 * bit by bit. It never sees limits, guards, steps of other runs, clocks or memory beyond its block.
 * Inputs have been checked by the caller (mixer.h): finite, within bounds, counts > 0. One thread at
 * a time. A policy's own file says its paper, equations, units, defaults and traps. */
#ifndef MX_CORE_POLICY_H
#define MX_CORE_POLICY_H

#include <stddef.h>
#include <stdint.h>

/* What was reported for one domain in one step, all ranks together. Of an evaluation `domain` is
 * the number in the policy's eval set. */
struct mx_domain_stats {
    uint32_t domain;
    uint64_t tokens;  /* 0 only for a loss that a guard has filled in (absent: hold, decay) */
    uint64_t samples; /* 0 if not counted */
    double loss;      /* mean over the tokens, nats, finite, >= 0 */
};

/* Rewards of one domain in one step: |advantage|, accuracy, entropy, influence, ... */
struct mx_reward_stats {
    uint32_t domain;
    uint64_t count; /* 0 only for one that a guard has filled in */
    double mean;    /* finite, of any sign */
};

/* Inner products of the domains' gradients, as the trainer has them. */
struct mx_grad_stats {
    uint32_t n;              /* domains in it */
    const uint32_t *domains; /* n, rising */
    const double *gram;      /* n x n, row by row, symmetric, diagonal >= 0 */
    double lr;               /* learning rate of the step, > 0 */
};

/* Everything that one step has told. Lists rise in `domain`; a domain not seen is absent. Empty
 * lists are the rule: most steps have training losses alone. */
struct mx_observation {
    uint64_t t;           /* number of the optimiser step, from 1 */
    uint64_t mix_version; /* of the mix that the step was planned under; 0 if that isn't known */
    const struct mx_domain_stats *train;
    uint32_t n_train;
    const struct mx_domain_stats *eval; /* of the set that the policy looks at */
    uint32_t n_eval;
    const struct mx_reward_stats *reward;
    uint32_t n_reward;
    const struct mx_grad_stats *grad; /* or NULL */
};

/* ---- what can be configured ------------------------------------------------------------------- */

enum mx_param_kind {
    MX_PARAM_NUMBER = 0,
    MX_PARAM_INTEGER, /* must be a whole number */
    MX_PARAM_SWITCH,  /* false or true: 0 or 1 */
    MX_PARAM_CHOICE,  /* one of `choices`, by its number */
};

/* Numbers that a policy takes, by name: the same table checks configs and fills defaults. */
struct mx_policy_param {
    const char *name;
    double fallback;
    double min, max; /* inclusive; of a NUMBER or INTEGER */
    enum mx_param_kind kind;
    const char *what;
    const char *const *choices; /* of a CHOICE; NULL ends it */
};

enum mx_table_shape {
    MX_TABLE_DOMAINS = 0, /* k numbers: by domain */
    MX_TABLE_EVALS,       /* m numbers: by member of the eval set */
    MX_TABLE_GRAPH,       /* k x m, row by row: from domains to members of the eval set */
    MX_TABLE_MEMBERS,     /* m of 0 or 1: given as a list of members' names */
};

/* Arrays that a policy takes, by name. */
struct mx_policy_table {
    const char *name;
    enum mx_table_shape shape;
    int required;
    double min, max; /* of each number, inclusive */
    const char *what;
};
#define MX_POLICY_TABLES_MAX 6u
#define MX_POLICY_ATTRIBUTES_MAX 8u

struct mx_policy_ops;

/* What is fixed for a run; borrowed by every call. */
struct mx_policy_conf {
    const struct mx_policy_ops *ops;
    uint32_t k;           /* domains */
    uint32_t m;           /* members of the eval set that it looks at; k if it has none */
    const double *prior;  /* k, >= 0, sum 1 */
    const double *params; /* ops->n_params, in the table's order */
    const double *tables[MX_POLICY_TABLES_MAX]; /* in the table's order; NULL if not given */
    uint32_t n_attributes;
    const double *attributes; /* k x n_attributes: number of the domain's value, -1 for none */
    uint32_t n_values[MX_POLICY_ATTRIBUTES_MAX]; /* values that each attribute has */
};

/* What a policy prescribes to trainers. */
struct mx_policy_request {
    uint64_t eval_after; /* evaluate the eval set after this step and report it with that step */
    uint64_t again;      /* if that doesn't come: after each so many more steps; 0: not again */
};

#define MX_POLICY_TERMS_MAX 3u

struct mx_policy_ops {
    const char *name;
    const char *what; /* one line for mixctl help */
    const struct mx_policy_param *params;
    size_t n_params;
    const struct mx_policy_table *tables;
    size_t n_tables;
    /* What it learns from: whether an observation without it can be left out. */
    int uses_train, uses_eval, uses_reward, uses_grad, uses_attributes;
    /* Whether observing can ever change the weights. */
    int adapts;
    /* What its reference does with a domain that a step hasn't seen: the default of "absent". */
    int absent;          /* enum mx_absent of mixer.h */
    double absent_decay; /* of MX_ABSENT_DECAY */

    /* NULL, or a text in `text` of what in the tables and parameters doesn't fit together (names
     * the key and the numbers that clash). Called once, before state_size. */
    const char *(*check)(const struct mx_policy_conf *c, char *text, size_t cap);
    /* Doubles of state. */
    size_t (*state_size)(const struct mx_policy_conf *c);
    void (*init)(double *state, const struct mx_policy_conf *c);
    void (*observe)(double *state, const struct mx_policy_conf *c, const struct mx_observation *o);
    /* The present weights, k, >= 0, finite, sum 1 to rounding. */
    void (*weights)(const double *state, const struct mx_policy_conf *c, double *ret);
    /* What the weights come from, for explanations: n_terms names (the field's words: "estimate",
     * "reward", "exploration", ...) and ret[term * k + domain]; NAN where there is none. */
    uint32_t n_terms;
    const char *terms[MX_POLICY_TERMS_MAX];
    void (*explain)(const double *state, const struct mx_policy_conf *c, double *ret);

    /* ---- optional: NULL if the policy has no use for it ---- */
    /* Whether a state that comes from outside can be used: a policy needs it if it takes places in
     * its block, or loop counts, from its state. */
    int (*sane)(const double *state, const struct mx_policy_conf *c);
    /* Long computation, to be done elsewhere: `wants_work` tells whether it waits for one, `work`
     * computes from a copy of the state into work_size doubles (any thread; may take a second;
     * scratch: work_scratch doubles), `worked` takes the result into the state. What is observed
     * meanwhile counts as always. */
    int (*wants_work)(const double *state, const struct mx_policy_conf *c);
    size_t (*work_size)(const struct mx_policy_conf *c);
    size_t (*work_scratch)(const struct mx_policy_conf *c);
    void (*work)(const double *state, const struct mx_policy_conf *c, double *ret, double *scratch);
    void (*worked)(double *state, const struct mx_policy_conf *c, const double *result);
    /* The weights that it has now are those of the mix in force from step number t on (t from 1).
     * Called once after each change of weights that became a mix. */
    void (*in_force)(double *state, const struct mx_policy_conf *c, uint64_t t);
    /* Fills up to `cap` requests that are open now; how many. */
    uint32_t (*requests)(const double *state, const struct mx_policy_conf *c,
                         struct mx_policy_request *ret, uint32_t cap);
};

/* By name, or NULL. mx_policy_at lists them: NULL past the last. */
const struct mx_policy_ops *mx_policy_find(const char *name);
const struct mx_policy_ops *mx_policy_at(size_t i);

#endif
