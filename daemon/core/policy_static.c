/* policy_static.c - the mix stays as configured. Its state is the prior; feedback is only for the
 * charts. */
#include "daemon/core/policies.h"

#include <string.h>

static size_t static_state_size(const struct mx_policy_conf *c)
{
    return c->k;
}

static void static_init(double *state, const struct mx_policy_conf *c)
{
    memcpy(state, c->prior, c->k * sizeof *state);
}

static void static_observe(double *state, const struct mx_policy_conf *c,
                           const struct mx_observation *o)
{
    (void)state;
    (void)c;
    (void)o;
}

static void static_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state, c->k * sizeof *ret);
}

const struct mx_policy_ops mx_policy_static = {
    .name = "static",
    .what = "the weights stay as configured",
    .state_size = static_state_size,
    .init = static_init,
    .observe = static_observe,
    .weights = static_weights,
    .adapts = 0,
};
