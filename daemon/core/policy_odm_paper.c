/* policy_odm_paper.c - Online Data Mixing by the formula of the paper (arXiv 2312.02406, algorithm
 * 1), which is not what its authors ran; see policy_odm.c for that.
 *
 *     R_i <- alpha R_i + (1 - alpha) reward_scale loss_i / p_i      for each domain reported
 *     p_i  = (1 - K eps_t) softmax(eps_(t-1) R)_i + eps_t
 * with t counted from the end of the warm-up, eps_t not below min_exploration_rate (nor over 1/K),
 * and exponents below the largest by more than exponent_clip raised to that: the last two as in a
 * later implementation of the paper, which the golden traces come from. */
#include "daemon/core/bandit.h"
#include "daemon/core/policies.h"

#include <math.h>

enum { WARMUP, FREQUENCY, ALPHA, REWARD_SCALE, MIN_RATE, CLIP };

static const struct mx_policy_param paper_params[] = {
    [WARMUP] = MX_BANDIT_PARAM_WARMUP,
    [FREQUENCY] = MX_BANDIT_PARAM_FREQUENCY,
    [ALPHA] = MX_BANDIT_PARAM_ALPHA,
    [REWARD_SCALE] = {"reward_scale", 1, 0, 1e6, MX_PARAM_NUMBER,
                      "what a loss is multiplied by", NULL},
    [MIN_RATE] = {"min_exploration_rate", 0, 0, 1, MX_PARAM_NUMBER,
                  "eps_t is not below this, nor over 1/K", NULL},
    [CLIP] = {"exponent_clip", 5, 0, 1e9, MX_PARAM_NUMBER,
              "exponents lie at most this far below the largest; 1e9: no clipping", NULL},
};

static void paper_init(double *state, const struct mx_policy_conf *c)
{
    mx_bandit_init(state, c, 0.0);
}

static void paper_observe(double *state, const struct mx_policy_conf *c,
                          const struct mx_observation *o)
{
    const struct mx_domain_stats *stats = o->train;
    const double *params = c->params;
    uint32_t k = c->k, n = o->n_train;
    uint64_t t = o->t;
    struct mx_bandit *b = mx_bandit_head(state);
    double *r = mx_bandit_stat(state), *p = mx_bandit_p(state, k);
    double alpha = params[ALPHA], largest;

    if (!mx_bandit_due(t, params[WARMUP], params[FREQUENCY])) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t d = stats[i].domain;
        double drawn = fmax(p[d], MX_BANDIT_P_LEAST);

        r[d] = alpha * r[d] + (1.0 - alpha) * (params[REWARD_SCALE] * stats[i].loss / drawn);
    }
    mx_bandit_advance(state, k, t - (uint64_t)params[WARMUP]);
    b->eps = fmin(1.0 / k, fmax(b->eps, params[MIN_RATE]));
    largest = -INFINITY;
    for (uint32_t i = 0; i < k; i++) {
        p[i] = b->prev_eps * r[i];
        largest = fmax(largest, p[i]);
    }
    for (uint32_t i = 0; i < k; i++) {
        p[i] = fmax(p[i] - largest, -params[CLIP]);
    }
    mx_bandit_mix_exp(state, k);
}

const struct mx_policy_ops mx_policy_odm_paper = {
    .name = "odm-paper",
    .what = "online data mixing by the paper's formula: importance-weighted smoothed loss",
    .params = paper_params,
    .n_params = sizeof paper_params / sizeof paper_params[0],
    .state_size = mx_bandit_state_size,
    .init = paper_init,
    .observe = paper_observe,
    .weights = mx_bandit_weights,
    .uses_train = 1,
    .adapts = 1,
    MX_BANDIT_TERMS,
    .explain = mx_bandit_explain,
};
