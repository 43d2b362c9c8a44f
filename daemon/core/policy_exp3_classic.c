/* policy_exp3_classic.c - EXP3 by the textbook, as the fms-acceleration plugin runs it.
 *
 * Auer, Cesa-Bianchi, Freund and Schapire, "The Nonstochastic Multiarmed Bandit Problem", SIAM J.
 * Comput. 32(1), 2002. For each domain reported, with p before the update,
 *     ln w_i <- ln w_i + eta (r_i / p_i) / K
 *     p      = (1 - gamma) w / sum w + gamma / K
 * r: by `signal` the mean reward that trainers report, or the training loss (nats). `exp3` is the
 * variant of the Online Data Mixing code, whose rates fall with the step.
 *
 * Weights are kept as logarithms relative to the largest: the plugin's are plain numbers that are
 * never rescaled, and overflow in a long run. EXP3's bound is for r in [0, 1]; the plugin's signals
 * (entropy, loss, gradient norm) are larger, so that eta is what it is times their size.
 *
 * Traps. The plugin updates every domain at every update, those not seen by their last reward:
 * absent hold, the default here, without which a domain that is rare gets its 1/p only when it is
 * drawn, as EXP3 means it. A domain of prior 0 gets gamma / K and no more. */
#include "daemon/core/bandit.h"
#include "daemon/core/policies.h"
#include "daemon/core/softmax.h"

#include <math.h>
#include <string.h>

enum { GAMMA, ETA, SIGNAL };
enum { SIGNAL_REWARD, SIGNAL_LOSS };

static const char *const signals[] = {"reward", "loss", NULL};

static const struct mx_policy_param classic_params[] = {
    [GAMMA] = {"gamma", 0.1, 0, 1, MX_PARAM_NUMBER,
               "part of the weights that is shared evenly", NULL},
    [ETA] = {"eta", 0.3, 0, 1e3, MX_PARAM_NUMBER, "how far a reward of 1 moves ln w", NULL},
    [SIGNAL] = {"signal", SIGNAL_REWARD, 0, 1, MX_PARAM_CHOICE,
                "what counts as the reward", signals},
};

/* The block: ln w, the largest 0 (k); p (k). */
static size_t classic_size(const struct mx_policy_conf *c)
{
    return 2 * (size_t)c->k;
}

/* ln w relative to the largest, and p by it. */
static void settle(double *state, const struct mx_policy_conf *c)
{
    double *p = state + c->k, gamma = c->params[GAMMA], largest = -INFINITY, total = 0.0;

    for (uint32_t i = 0; i < c->k; i++) {
        largest = fmax(largest, state[i]);
    }
    for (uint32_t i = 0; i < c->k; i++) {
        state[i] -= largest;
    }
    mx_softmax(state, c->k, p);
    for (uint32_t i = 0; i < c->k; i++) {
        p[i] = (1.0 - gamma) * p[i] + gamma / c->k;
        total += p[i];
    }
    for (uint32_t i = 0; i < c->k; i++) {
        p[i] /= total;
    }
}

static void classic_init(double *state, const struct mx_policy_conf *c)
{
    for (uint32_t i = 0; i < c->k; i++) {
        state[i] = log(c->prior[i]);
    }
    settle(state, c);
}

static void gain(double *state, const struct mx_policy_conf *c, uint32_t domain, double reward)
{
    double p = fmax(state[c->k + domain], MX_BANDIT_P_LEAST);

    state[domain] += c->params[ETA] * (reward / p) / c->k;
}

static void classic_observe(double *state, const struct mx_policy_conf *c,
                            const struct mx_observation *o)
{
    int loss = (int)c->params[SIGNAL] == SIGNAL_LOSS;

    if ((loss ? o->n_train : o->n_reward) == 0) {
        return;
    }
    for (uint32_t i = 0; loss && i < o->n_train; i++) {
        gain(state, c, o->train[i].domain, o->train[i].loss);
    }
    for (uint32_t i = 0; !loss && i < o->n_reward; i++) {
        gain(state, c, o->reward[i].domain, o->reward[i].mean);
    }
    settle(state, c);
}

static void classic_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + c->k, c->k * sizeof *ret);
}

static void classic_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    for (uint32_t i = 0; i < c->k; i++) {
        ret[i] = state[i] > -INFINITY ? state[i] : NAN;
        ret[c->k + i] = c->params[GAMMA] / c->k;
    }
}

const struct mx_policy_ops mx_policy_exp3_classic = {
    .name = "exp3-classic",
    .what = "EXP3 by the textbook: exponentiated weights of importance-weighted rewards",
    .params = classic_params,
    .n_params = sizeof classic_params / sizeof classic_params[0],
    .uses_train = 1,
    .uses_reward = 1,
    .adapts = 1,
    .absent = 1, /* MX_ABSENT_HOLD */
    .state_size = classic_size,
    .init = classic_init,
    .observe = classic_observe,
    .weights = classic_weights,
    .n_terms = 2,
    .terms = {"estimate", "exploration"},
    .explain = classic_explain,
};
