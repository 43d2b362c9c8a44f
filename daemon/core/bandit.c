/* bandit.c - see bandit.h. Knows nothing of the statistics' meaning. */
#include "daemon/core/bandit.h"

#include <math.h>
#include <string.h>

struct mx_bandit *mx_bandit_head(double *state)
{
    return (struct mx_bandit *)(void *)state;
}

double *mx_bandit_stat(double *state)
{
    return state + MX_BANDIT_HEAD;
}

double *mx_bandit_p(double *state, uint32_t k)
{
    return state + MX_BANDIT_HEAD + k;
}

size_t mx_bandit_state_size(const struct mx_policy_conf *c)
{
    return MX_BANDIT_HEAD + 2 * (size_t)c->k;
}

void mx_bandit_init(double *state, const struct mx_policy_conf *c, double stat)
{
    uint32_t k = c->k;

    *mx_bandit_head(state) = (struct mx_bandit){1.0 / k, 1.0 / k};
    for (uint32_t i = 0; i < k; i++) {
        mx_bandit_stat(state)[i] = stat;
    }
    memcpy(mx_bandit_p(state, k), c->prior, k * sizeof *c->prior);
}

void mx_bandit_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + MX_BANDIT_HEAD + c->k, c->k * sizeof *ret);
}

void mx_bandit_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    const struct mx_bandit *b = (const struct mx_bandit *)(const void *)state;

    for (uint32_t i = 0; i < c->k; i++) {
        double stat = state[MX_BANDIT_HEAD + i];

        ret[i] = isfinite(stat) ? stat : NAN; /* never reported: there is none */
        ret[c->k + i] = b->eps;
    }
}

int mx_bandit_due(uint64_t t, double warmup_steps, double update_frequency)
{
    return t > (uint64_t)warmup_steps && t % (uint64_t)update_frequency == 0;
}

void mx_bandit_advance(double *state, uint32_t k, uint64_t t)
{
    struct mx_bandit *b = mx_bandit_head(state);

    b->prev_eps = b->eps;
    b->eps = fmin(1.0 / k, sqrt(log((double)k) / ((double)k * (double)t)));
}

void mx_bandit_mix_exp(double *state, uint32_t k)
{
    double *p = mx_bandit_p(state, k);
    double eps = mx_bandit_head(state)->eps;
    double scale = fmax(0.0, 1.0 - k * eps); /* K * (1/K) may round to more than 1 */
    double largest = p[0], sum = 0.0, total = 0.0;

    for (uint32_t i = 1; i < k; i++) {
        largest = fmax(largest, p[i]);
    }
    for (uint32_t i = 0; i < k; i++) {
        p[i] = exp(p[i] - largest);
        sum += p[i];
    }
    for (uint32_t i = 0; i < k; i++) {
        p[i] = scale * (p[i] / sum) + eps;
        total += p[i];
    }
    for (uint32_t i = 0; i < k; i++) {
        p[i] /= total;
    }
}

void mx_bandit_mix_gibbs(double *state, uint32_t k)
{
    double *p = mx_bandit_p(state, k);
    double prev_eps = mx_bandit_head(state)->prev_eps;

    for (uint32_t i = 0; i < k; i++) {
        p[i] = prev_eps * mx_bandit_stat(state)[i];
    }
    mx_bandit_mix_exp(state, k);
}

double mx_logaddexp(double a, double b)
{
    double high = a > b ? a : b, low = a > b ? b : a;

    return low == -INFINITY ? high : high + log1p(exp(low - high));
}
