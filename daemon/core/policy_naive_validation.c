/* policy_naive_validation.c - the updater of the Online Data Mixing code that was meant for one
 * validation batch per domain and step.
 *
 *     S_i <- S_i + (loss_i - min) / (max - min)      over the domains reported
 *     p_i  = (1 - K eps_t) exp(eps_(t-1) S_i) / sum exp(eps_(t-1) S) + eps_t
 * It takes whatever losses are reported: it is the algorithm of that code where all domains are
 * reported with held-out losses. Where all losses are equal that code divides by 0; here no domain
 * is rewarded. */
#include "daemon/core/bandit.h"
#include "daemon/core/policies.h"

#include <math.h>

enum { WARMUP, FREQUENCY };

static const struct mx_policy_param naive_params[] = {
    [WARMUP] = MX_BANDIT_PARAM_WARMUP,
    [FREQUENCY] = MX_BANDIT_PARAM_FREQUENCY,
};

static void naive_init(double *state, const struct mx_policy_conf *c)
{
    mx_bandit_init(state, c, 0.0);
}

static void naive_observe(double *state, const struct mx_policy_conf *c,
                          const struct mx_observation *o)
{
    const struct mx_domain_stats *stats = o->train;
    const double *params = c->params;
    uint32_t k = c->k, n = o->n_train;
    uint64_t t = o->t;
    double *s = mx_bandit_stat(state);
    double least = INFINITY, most = -INFINITY;

    if (!mx_bandit_due(t, params[WARMUP], params[FREQUENCY])) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        least = fmin(least, stats[i].loss);
        most = fmax(most, stats[i].loss);
    }
    for (uint32_t i = 0; i < n && most > least; i++) {
        s[stats[i].domain] += (stats[i].loss - least) / (most - least);
    }
    mx_bandit_advance(state, k, t);
    mx_bandit_mix_gibbs(state, k);
}

const struct mx_policy_ops mx_policy_naive_validation = {
    .name = "naive-validation",
    .what = "Gibbs weights of the cumulative, min-max normalised loss",
    .params = naive_params,
    .n_params = sizeof naive_params / sizeof naive_params[0],
    .state_size = mx_bandit_state_size,
    .init = naive_init,
    .observe = naive_observe,
    .weights = mx_bandit_weights,
    .uses_train = 1,
    .adapts = 1,
    MX_BANDIT_TERMS,
    .explain = mx_bandit_explain,
};
