/* policy_static.c - the mix stays as configured. Its state is the prior; feedback is only for the
 * charts. */
#include "daemon/core/policies.h"

#include <string.h>

static size_t static_state_size(uint32_t k)
{
    return k;
}

static void static_init(double *state, uint32_t k, const double *prior, const double *params)
{
    (void)params;
    memcpy(state, prior, k * sizeof *state);
}

static void static_on_train(double *state, uint32_t k, const double *params, uint64_t t,
                            const struct mx_domain_stats *stats, uint32_t n)
{
    (void)state;
    (void)k;
    (void)params;
    (void)t;
    (void)stats;
    (void)n;
}

static void static_weights(const double *state, uint32_t k, double *ret)
{
    memcpy(ret, state, k * sizeof *ret);
}

const struct mx_policy_ops mx_policy_static = {
    .name = "static",
    .what = "the weights stay as configured",
    .state_size = static_state_size,
    .init = static_init,
    .on_train = static_on_train,
    .weights = static_weights,
    .adapts = 0,
};
