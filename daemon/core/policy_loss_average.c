/* policy_loss_average.c - weights in proportion to the mean loss so far.
 *
 * A baseline of the Mixtera data service (Boether, Yao, Kerimoglu, Graur, Gsteiger and Klimovic,
 * "Mixtera: A Data Plane for Foundation Model Training", 2025, arXiv 2502.19790). Over all that was
 * reported of a domain,
 *     L_i = sum of loss over its tokens / tokens           (nats)
 *     p_i = L_i / sum L
 * so the mix moves little: losses of one model are of one size.
 *
 * Traps. There a domain that wasn't seen yet has L = 0, so weight 0, so it is never seen: `unseen`
 * zero. By default it counts as the mean of those seen. Means are over the whole run: what was
 * learned long ago still counts. */
#include "daemon/core/policies.h"

#include <math.h>
#include <string.h>

enum { UNSEEN };
enum { UNSEEN_MEAN, UNSEEN_ZERO };

static const char *const rules[] = {"mean", "zero", NULL};

static const struct mx_policy_param average_params[] = {
    [UNSEEN] = {"unseen", UNSEEN_MEAN, 0, 1, MX_PARAM_CHOICE,
                "what a domain counts that was never seen: the others' mean, or nothing", rules},
};

/* The block: mean losses (k), tokens that they are over (k), p (k). */
static size_t average_size(const struct mx_policy_conf *c)
{
    return 3 * (size_t)c->k;
}

static void average_init(double *state, const struct mx_policy_conf *c)
{
    memset(state, 0, 2 * c->k * sizeof *state);
    memcpy(state + 2 * (size_t)c->k, c->prior, c->k * sizeof *c->prior);
}

static void average_observe(double *mean, const struct mx_policy_conf *c,
                            const struct mx_observation *o)
{
    double *tokens = mean + c->k, *p = tokens + c->k, sum = 0.0, seen = 0.0, rest;

    for (uint32_t i = 0; i < o->n_train; i++) {
        uint32_t d = o->train[i].domain;
        double n = (double)o->train[i].tokens;

        if (n > 0.0) {
            tokens[d] += n;
            mean[d] += (o->train[i].loss - mean[d]) * (n / tokens[d]);
        }
    }
    for (uint32_t i = 0; i < c->k; i++) {
        sum += mean[i];
        seen += tokens[i] > 0.0;
    }
    if (!(sum > 0.0)) {
        return; /* nothing was reported yet, or nothing is left to learn */
    }
    rest = (int)c->params[UNSEEN] == UNSEEN_ZERO ? 0.0 : sum / seen;
    sum += rest * (c->k - seen);
    for (uint32_t i = 0; i < c->k; i++) {
        p[i] = (tokens[i] > 0.0 ? mean[i] : rest) / sum;
    }
}

static void average_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + 2 * (size_t)c->k, c->k * sizeof *ret);
}

static void average_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    for (uint32_t i = 0; i < c->k; i++) {
        ret[i] = state[c->k + i] > 0.0 ? state[i] : NAN;
    }
}

const struct mx_policy_ops mx_policy_loss_average = {
    .name = "loss-average",
    .what = "weights in proportion to each domain's mean loss so far",
    .params = average_params,
    .n_params = sizeof average_params / sizeof average_params[0],
    .uses_train = 1,
    .adapts = 1,
    .state_size = average_size,
    .init = average_init,
    .observe = average_observe,
    .weights = average_weights,
    .n_terms = 1,
    .terms = {"estimate"},
    .explain = average_explain,
};
