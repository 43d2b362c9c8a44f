/* policy.c - the list of policies. See policy.h. A new one is a file and a line here. */
#include "daemon/core/policy.h"

#include "daemon/core/policies.h"

static const struct mx_policy_ops *const policies[] = {
    &mx_policy_static,
    &mx_policy_odm,
    &mx_policy_odm_single,
    &mx_policy_odm_paper,
    &mx_policy_exp3,
    &mx_policy_ema,
    &mx_policy_naive_validation,
    &mx_policy_exp3_classic,
    &mx_policy_loss_average,
    &mx_policy_doremi,
    &mx_policy_doge,
    &mx_policy_ucb,
    &mx_policy_boltzmann,
    &mx_policy_agents,
    &mx_policy_skillit,
    &mx_policy_dbl,
    &mx_policy_aioli,
    &mx_policy_ado,
};

#define POLICIES (sizeof policies / sizeof policies[0])

const struct mx_policy_ops *mx_policy_at(size_t i)
{
    return i < POLICIES ? policies[i] : NULL;
}

static int same_name(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

const struct mx_policy_ops *mx_policy_find(const char *name)
{
    for (size_t i = 0; i < POLICIES; i++) {
        if (same_name(policies[i]->name, name)) {
            return policies[i];
        }
    }
    return NULL;
}
