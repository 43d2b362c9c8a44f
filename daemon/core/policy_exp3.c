/* policy_exp3.c - the EXP3 updater of the Online Data Mixing code (after Auer, Cesa-Bianchi, Freund
 * and Schapire, "The Nonstochastic Multiarmed Bandit Problem", SIAM J. Comput. 32(1), 2002).
 *
 *     S_i <- S_i + reward_scale loss_i / p_i      for each domain reported, p before the update
 *     p_i  = (1 - K eps_t) exp(eps_(t-1) S_i) / sum exp(eps_(t-1) S) + eps_t */
#include "daemon/core/bandit.h"
#include "daemon/core/policies.h"

#include <math.h>

enum { WARMUP, FREQUENCY, REWARD_SCALE };

static const struct mx_policy_param exp3_params[] = {
    [WARMUP] = MX_BANDIT_PARAM_WARMUP,
    [FREQUENCY] = MX_BANDIT_PARAM_FREQUENCY,
    [REWARD_SCALE] = {"reward_scale", 0.1, 0, 1e6, MX_PARAM_NUMBER,
                      "what a loss is multiplied by", NULL},
};

static void exp3_init(double *state, const struct mx_policy_conf *c)
{
    mx_bandit_init(state, c, 0.0);
}

static void exp3_observe(double *state, const struct mx_policy_conf *c,
                         const struct mx_observation *o)
{
    const struct mx_domain_stats *stats = o->train;
    const double *params = c->params;
    uint32_t k = c->k, n = o->n_train;
    uint64_t t = o->t;
    double *s = mx_bandit_stat(state);
    const double *p = mx_bandit_p(state, k);

    if (!mx_bandit_due(t, params[WARMUP], params[FREQUENCY])) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        double drawn = fmax(p[stats[i].domain], MX_BANDIT_P_LEAST);

        s[stats[i].domain] += params[REWARD_SCALE] * stats[i].loss / drawn;
    }
    mx_bandit_advance(state, k, t);
    mx_bandit_mix_gibbs(state, k);
}

const struct mx_policy_ops mx_policy_exp3 = {
    .name = "exp3",
    .what = "EXP3: Gibbs weights of the cumulative importance-weighted loss",
    .params = exp3_params,
    .n_params = sizeof exp3_params / sizeof exp3_params[0],
    .state_size = mx_bandit_state_size,
    .init = exp3_init,
    .observe = exp3_observe,
    .weights = mx_bandit_weights,
    .uses_train = 1,
    .adapts = 1,
    MX_BANDIT_TERMS,
    .explain = mx_bandit_explain,
};
