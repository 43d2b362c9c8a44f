/* policy_ema.c - the plain moving average of the Online Data Mixing code: no exploration.
 *
 *     w_i <- s loss_i + (1 - s) w_i,   s = 2 / (1 + t)      for each domain reported
 *     p_i  = w_i / sum w
 * w starts at the prior. At t = 1 it is replaced by the loss outright, as there. */
#include "daemon/core/bandit.h"
#include "daemon/core/policies.h"

#include <string.h>

enum { WARMUP, FREQUENCY };

static const struct mx_policy_param ema_params[] = {
    [WARMUP] = MX_BANDIT_PARAM_WARMUP,
    [FREQUENCY] = MX_BANDIT_PARAM_FREQUENCY,
};

static void ema_init(double *state, const struct mx_policy_conf *c)
{
    mx_bandit_init(state, c, 0.0);
    memcpy(mx_bandit_stat(state), c->prior, c->k * sizeof *c->prior);
}

static void ema_observe(double *state, const struct mx_policy_conf *c,
                        const struct mx_observation *o)
{
    const struct mx_domain_stats *stats = o->train;
    const double *params = c->params;
    uint32_t k = c->k, n = o->n_train;
    uint64_t t = o->t;
    double *w = mx_bandit_stat(state), *p = mx_bandit_p(state, k);
    double s = 2.0 / (1.0 + (double)t), sum = 0.0;

    if (!mx_bandit_due(t, params[WARMUP], params[FREQUENCY])) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        w[stats[i].domain] = s * stats[i].loss + (1.0 - s) * w[stats[i].domain];
    }
    for (uint32_t i = 0; i < k; i++) {
        sum += w[i];
    }
    if (sum < 1e-300) {
        return; /* every loss is 0: nothing to go by, the weights stay */
    }
    for (uint32_t i = 0; i < k; i++) {
        p[i] = w[i] / sum;
    }
}

const struct mx_policy_ops mx_policy_ema = {
    .name = "ema",
    .what = "weights in proportion to a moving average of the loss",
    .params = ema_params,
    .n_params = sizeof ema_params / sizeof ema_params[0],
    .state_size = mx_bandit_state_size,
    .init = ema_init,
    .observe = ema_observe,
    .weights = mx_bandit_weights,
    .uses_train = 1,
    .adapts = 1,
    MX_BANDIT_TERMS,
    .explain = mx_bandit_explain,
};
