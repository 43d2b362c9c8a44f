/* policy_world.h - random runs of one policy: a config that it accepts, and what steps tell.
 *
 * All that is random is drawn from one source, so that a test can seed it and a fuzzer can write
 * it. What is drawn keeps to the contract of policy.h and to nothing more: configs are within the
 * bounds of the policy's own tables and pass its check; observations hold only what it uses,
 * finite, rising, of odd sizes, or absent. */
#ifndef MX_TESTS_POLICY_WORLD_H
#define MX_TESTS_POLICY_WORLD_H

#include "daemon/core/policy.h"

#define WORLD_K_MAX 64u
#define WORLD_PARAMS_MAX 48u
#define WORLD_GRAM_MAX 12u
/* Larger blocks are no use here. */
#define WORLD_STATE_MAX ((size_t)1 << 22)

struct policy_source {
    uint64_t (*draw)(struct policy_source *s); /* 64 bits; zeros when there are no more */
};

struct policy_world {
    struct policy_source *source;
    struct mx_policy_conf c;
    double prior[WORLD_K_MAX], params[WORLD_PARAMS_MAX], attributes[WORLD_K_MAX * 8];
    double *tables[MX_POLICY_TABLES_MAX];
    uint64_t t; /* of the observation to come */
    /* what the last observation is made of */
    struct mx_domain_stats train[WORLD_K_MAX], eval[WORLD_K_MAX];
    struct mx_reward_stats reward[WORLD_K_MAX];
    struct mx_grad_stats grad;
    uint32_t grad_domains[WORLD_GRAM_MAX];
    double gram[WORLD_GRAM_MAX * WORLD_GRAM_MAX];
};

/* A config of the policy with k domains (0: any number) that its check accepts. plain: every
 * parameter at its default, and no table that the policy can do without. 0, or -1 if none was
 * found; then text (cap) is the last objection. To be ended in either case. */
int policy_world_begin(struct policy_world *w, const struct mx_policy_ops *ops, uint32_t k,
                       int plain, struct policy_source *source, char *text, size_t cap);
void policy_world_end(struct policy_world *w);

/* The next step's observation, good until the next one. `state`: what the policy asks for in it is
 * mostly done. */
struct mx_observation policy_world_observe(struct policy_world *w, const double *state);

/* Whether they are k weights: finite, >= 0, of sum 1. */
int policy_world_sound(const double *weights, uint32_t k);

#endif
