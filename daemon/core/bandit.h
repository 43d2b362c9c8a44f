/* bandit.h - what the policies of the Online Data Mixing family have in common. Internal to the
 * core.
 *
 * Albalak, Pan, Raffel and Wang, "Efficient Online Data Mixing For Language Model Pre-Training",
 * 2023 (arXiv 2312.02406). Each keeps one statistic per domain and makes weights of it by
 *     p_i = (1 - K eps_t) * share_i + eps_t,     eps_t = min(1/K, sqrt(ln K / (K t)))
 * where share is either Gibbs, exp(eps_(t-1) x_i) / sum, or linear. Everything is formed relative
 * to the largest exponent, so that no finite statistic overflows. Pure; one thread at a time. */
#ifndef MX_CORE_BANDIT_H
#define MX_CORE_BANDIT_H

#include "daemon/core/policy.h"

/* A policy's block: this header, then K statistics, then K present weights. */
struct mx_bandit {
    double eps;      /* of the last update; 1/K before the first */
    double prev_eps; /* of the update before */
};

#define MX_BANDIT_HEAD (sizeof(struct mx_bandit) / sizeof(double))

/* Importance weighting divides by a probability. A domain may be reported whose weight is 0 (a
 * floor or a pin can draw it all the same): this keeps the quotient finite, and lies far below any
 * weight that an update leaves (eps_t > 1e-9 for every K and t within limits). */
#define MX_BANDIT_P_LEAST 1e-9

struct mx_bandit *mx_bandit_head(double *state);
double *mx_bandit_stat(double *state);
double *mx_bandit_p(double *state, uint32_t k);

size_t mx_bandit_state_size(const struct mx_policy_conf *c);
/* eps 1/K, every statistic `stat`, weights the prior. */
void mx_bandit_init(double *state, const struct mx_policy_conf *c, double stat);
void mx_bandit_weights(const double *state, const struct mx_policy_conf *c, double *ret);
/* For explanations: the statistic of each domain, and eps_t. */
#define MX_BANDIT_TERMS .n_terms = 2, .terms = {"estimate", "exploration"}
void mx_bandit_explain(const double *state, const struct mx_policy_conf *c, double *ret);

/* Whether step t updates: after the warm-up, and then every update_frequency-th. Feedback of other
 * steps is dropped, as in the authors' code. */
int mx_bandit_due(uint64_t t, double warmup_steps, double update_frequency);

/* Moves eps on to that of t. */
void mx_bandit_advance(double *state, uint32_t k, uint64_t t);

/* Weights from exponents: p_i = (1 - K eps) exp(x_i) / sum exp(x) + eps, then divided by their sum
 * as the authors' code does. x (K, may be -INFINITY but not all) lies where the weights go. */
void mx_bandit_mix_exp(double *state, uint32_t k);

/* The Gibbs form: exponents prev_eps * statistic. */
void mx_bandit_mix_gibbs(double *state, uint32_t k);

/* ln(exp(a) + exp(b)) without overflow; either may be -INFINITY. */
double mx_logaddexp(double a, double b);

/* Rows of params tables that several policies have, in this order. */
#define MX_BANDIT_PARAM_WARMUP                                                                    \
    {"warmup_steps", 0, 0, 1e12, MX_PARAM_INTEGER,                                                \
     "steps at the start whose feedback is dropped", NULL}
#define MX_BANDIT_PARAM_FREQUENCY                                                                 \
    {"update_frequency", 1, 1, 1e12, MX_PARAM_INTEGER,                                            \
     "update at every so many steps; the others are dropped", NULL}
#define MX_BANDIT_PARAM_ALPHA                                                                     \
    {"alpha", 0.9, 0, 1, MX_PARAM_NUMBER,                                                         \
     "smoothing: how much of the old estimate stays at an update", NULL}

#endif
