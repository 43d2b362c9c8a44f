/* policy_boltzmann.c - Self-Evolving Curriculum: Boltzmann weights of a smoothed reward.
 *
 * Chen, Lu, Kim, Zhang, Tang, Piche, Gontier, Bengio and Kamalloo, "Self-Evolving Curriculum for
 * LLM Reasoning", 2025 (arXiv 2505.14970). Rewards are mean |advantage| of a domain's rollouts,
 * masked tokens left out. With each report
 *     Q_i <- (1 - lr) Q_i + lr r_i
 *     boltzmann:    p = softmax(Q / temperature)
 *     normalized_q: p = max(Q, 0.01) / sum
 * Q begins at 0; weights don't depend on the prior after the first report.
 *
 * Traps. A domain that a step hasn't seen is pulled towards 0 there, not left as it is: the guard's
 * rule for absent domains, decay to 0, by default; hold and skip are the kinder ones. The authors'
 * code forms exp(Q / T) as it is; here the largest exponent is subtracted. What is reported must be
 * the mean of |advantage|: that of the advantage is about 0 for every domain. */
#include "daemon/core/policies.h"
#include "daemon/core/softmax.h"

#include <math.h>
#include <string.h>

enum { LR, TEMPERATURE, METHOD };
enum { BOLTZMANN, NORMALIZED };

#define Q_LEAST 0.01

static const char *const methods[] = {"boltzmann", "normalized_q", NULL};

static const struct mx_policy_param boltzmann_params[] = {
    [LR] = {"lr", 0.5, 0, 1, MX_PARAM_NUMBER, "how much of a new reward is taken over", NULL},
    [TEMPERATURE] = {"temperature", 0.4, 1e-3, 1e6, MX_PARAM_NUMBER,
                     "what an estimate is divided by; 0.2 to 1 in the paper", NULL},
    [METHOD] = {"method", BOLTZMANN, 0, 1, MX_PARAM_CHOICE,
                "how weights follow estimates", methods},
};

/* The block: Q (k), p (k). */
static size_t boltzmann_size(const struct mx_policy_conf *c)
{
    return 2 * (size_t)c->k;
}

static void boltzmann_init(double *state, const struct mx_policy_conf *c)
{
    memset(state, 0, c->k * sizeof *state);
    memcpy(state + c->k, c->prior, c->k * sizeof *c->prior);
}

static void boltzmann_observe(double *q, const struct mx_policy_conf *c,
                              const struct mx_observation *o)
{
    double lr = c->params[LR], *p = q + c->k, sum = 0.0;

    if (o->n_reward == 0) {
        return;
    }
    for (uint32_t i = 0; i < o->n_reward; i++) {
        double *mine = &q[o->reward[i].domain];

        *mine = (1.0 - lr) * *mine + lr * o->reward[i].mean;
    }
    if ((int)c->params[METHOD] == BOLTZMANN) {
        for (uint32_t i = 0; i < c->k; i++) {
            p[i] = q[i] / c->params[TEMPERATURE];
        }
        mx_softmax(p, c->k, p);
        return;
    }
    for (uint32_t i = 0; i < c->k; i++) {
        p[i] = fmax(q[i], Q_LEAST);
        sum += p[i];
    }
    for (uint32_t i = 0; i < c->k; i++) {
        p[i] /= sum;
    }
}

static void boltzmann_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + c->k, c->k * sizeof *ret);
}

static void boltzmann_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state, c->k * sizeof *ret);
}

const struct mx_policy_ops mx_policy_boltzmann = {
    .name = "boltzmann",
    .what = "Self-Evolving Curriculum: Boltzmann weights of each domain's smoothed reward",
    .params = boltzmann_params,
    .n_params = sizeof boltzmann_params / sizeof boltzmann_params[0],
    .uses_reward = 1,
    .adapts = 1,
    .absent = 2, /* MX_ABSENT_DECAY */
    .absent_decay = 0,
    .state_size = boltzmann_size,
    .init = boltzmann_init,
    .observe = boltzmann_observe,
    .weights = boltzmann_weights,
    .n_terms = 1,
    .terms = {"estimate"},
    .explain = boltzmann_explain,
};
