/* policy_odm.c - Online Data Mixing as its authors ran it: weights linear in smoothed perplexity.
 *
 * State per domain: ln R_i, where R_i <- alpha R_i + (1 - alpha) exp(loss_i) for each domain
 * reported; -INFINITY (R = 0) before its first report. Then
 *     odm:        p_i = (1 - K eps_t) R_i / sum R + eps_t            (a step at a time)
 *     odm-single: p_i = (1 - K eps_t) exp(e R_i) / sum exp(e R) + eps_t,   e = eps_(t-1)
 * The second is the single-arm update of the same code: a Gibbs weight of the exponential of the
 * loss. The logarithm makes both finite for any finite loss, where the original overflows at a
 * loss of 710. A domain not seen since the warm-up has R = 0 and gets eps_t alone, as there. */
#include "daemon/core/bandit.h"
#include "daemon/core/policies.h"

#include <math.h>

enum { WARMUP, FREQUENCY, ALPHA };

static const struct mx_policy_param odm_params[] = {
    [WARMUP] = MX_BANDIT_PARAM_WARMUP,
    [FREQUENCY] = MX_BANDIT_PARAM_FREQUENCY,
    [ALPHA] = MX_BANDIT_PARAM_ALPHA,
};

static void odm_init(double *state, const struct mx_policy_conf *c)
{
    mx_bandit_init(state, c, -INFINITY);
}

static void smooth(double *log_r, double alpha, const struct mx_domain_stats *stats, uint32_t n)
{
    double keep = log(alpha), take = log(1.0 - alpha); /* -INFINITY at the ends of the range */

    for (uint32_t i = 0; i < n; i++) {
        double *r = &log_r[stats[i].domain];

        *r = mx_logaddexp(keep + *r, take + stats[i].loss);
    }
}

static double largest_of(const double *v, uint32_t k)
{
    double largest = v[0];

    for (uint32_t i = 1; i < k; i++) {
        largest = fmax(largest, v[i]);
    }
    return largest;
}

static void odm_observe(double *state, const struct mx_policy_conf *c,
                        const struct mx_observation *o)
{
    const struct mx_domain_stats *stats = o->train;
    const double *params = c->params;
    uint32_t k = c->k, n = o->n_train;
    uint64_t t = o->t;
    double *log_r = mx_bandit_stat(state), *p = mx_bandit_p(state, k);

    if (!mx_bandit_due(t, params[WARMUP], params[FREQUENCY])) {
        return;
    }
    mx_bandit_advance(state, k, t);
    smooth(log_r, params[ALPHA], stats, n);
    if (largest_of(log_r, k) == -INFINITY) {
        return; /* nothing was ever reported: the prior stays */
    }
    for (uint32_t i = 0; i < k; i++) {
        p[i] = log_r[i];
    }
    mx_bandit_mix_exp(state, k);
}

/* The exponents e R_i relative to the largest:
 *     e (R_i - R_max) = e R_max (exp(ln R_i - ln R_max) - 1)
 * where R_max alone may be infinite; equal ones must not become 0 * INFINITY. */
static void single_exponents(double *state, uint32_t k)
{
    const double *log_r = mx_bandit_stat(state);
    double *p = mx_bandit_p(state, k);
    double largest = largest_of(log_r, k);
    double scale = mx_bandit_head(state)->prev_eps * exp(largest);

    for (uint32_t i = 0; i < k; i++) {
        p[i] = log_r[i] == largest ? 0.0 : scale * expm1(log_r[i] - largest);
    }
}

static void odm_single_observe(double *state, const struct mx_policy_conf *c,
                               const struct mx_observation *o)
{
    const struct mx_domain_stats *stats = o->train;
    const double *params = c->params;
    uint32_t k = c->k, n = o->n_train;
    uint64_t t = o->t;
    if (n == 0 || !mx_bandit_due(t, params[WARMUP], params[FREQUENCY])) {
        return;
    }
    mx_bandit_advance(state, k, t);
    if (n > 1) {
        mx_bandit_advance(state, k, t); /* the original advances once a domain */
    }
    smooth(mx_bandit_stat(state), params[ALPHA], stats, n);
    single_exponents(state, k);
    mx_bandit_mix_exp(state, k);
}

const struct mx_policy_ops mx_policy_odm = {
    .name = "odm",
    .what = "online data mixing: weights follow each domain's smoothed perplexity",
    .params = odm_params,
    .n_params = sizeof odm_params / sizeof odm_params[0],
    .state_size = mx_bandit_state_size,
    .init = odm_init,
    .observe = odm_observe,
    .weights = mx_bandit_weights,
    .uses_train = 1,
    .adapts = 1,
    MX_BANDIT_TERMS,
    .explain = mx_bandit_explain,
};

const struct mx_policy_ops mx_policy_odm_single = {
    .name = "odm-single",
    .what = "online data mixing, one arm at a time: Gibbs weights of smoothed perplexity",
    .params = odm_params,
    .n_params = sizeof odm_params / sizeof odm_params[0],
    .state_size = mx_bandit_state_size,
    .init = odm_init,
    .observe = odm_single_observe,
    .weights = mx_bandit_weights,
    .uses_train = 1,
    .adapts = 1,
    MX_BANDIT_TERMS,
    .explain = mx_bandit_explain,
};
