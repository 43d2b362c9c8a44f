/* policy_doge.c - DoGE: a domain whose gradient points where the others' do gets more weight.
 *
 * Fan, Pagliardini and Jaggi, "DoGE: Domain Reweighting with Generalization Estimation", 2023
 * (arXiv 2310.15393). From the inner products of the domains' gradients and their learning rate,
 *     s_k = lr sum_j t_j <g_k, g_j> / (mean_j |g_j| + 1e-6), clipped to [dw_min lr, dw_max lr]
 *     p   <- (1 - eps) softmax(ln p + s / mu) + eps / n
 * t: the table `targets`, 1 for a domain that is to be learned, 0 for one that is only learned
 * from; all 1 if it isn't given (what the paper calls universal generalisation). k, the mean over j
 * and n are of the domains that are learned from, those of a prior over 0; a target of prior 0 is
 * one that isn't trained on (the paper's out-of-domain generalisation). Gradients stay in the
 * trainer: it reports their Gram matrix. The method's result is the mean of p over all steps (the
 * mixer's mean); in the authors' code p weighs the gradients: "apply": "loss".
 *
 * A matrix may cover some of the domains: the others aren't moved by it. The authors' code keeps
 * the gradient of a domain that a step hasn't seen and uses it again; a trainer that wants this
 * reports the products of what it has kept.
 *
 * Traps. The authors mean to leave out <g_k, g_k> where targets are the domains themselves, but
 * their code never does (it compares sets of objects): `include_diagonal`, true, is what was run.
 * Without it the norm of a domain's own gradient no longer speaks for it. A sum is clipped at 0 by
 * default, so no step takes weight from a domain but by the others' gain. */
#include "daemon/core/clash.h"
#include "daemon/core/policies.h"
#include "daemon/core/softmax.h"

#include <math.h>
#include <string.h>

enum { MU, DW_MIN, DW_MAX, EPS, DIAGONAL };
enum { TARGETS };

static const struct mx_policy_param doge_params[] = {
    [MU] = {"mu", 0.01, 1e-6, 1e6, MX_PARAM_NUMBER, "what a score is divided by: inertia", NULL},
    [DW_MIN] = {"dw_min", 0, -1e6, 0, MX_PARAM_NUMBER, "the least score, in learning rates", NULL},
    [DW_MAX] = {"dw_max", 5, 0, 1e6, MX_PARAM_NUMBER, "the largest score, in learning rates", NULL},
    [EPS] = {"eps", 0, 0, 1, MX_PARAM_NUMBER, "part of the weights that is shared evenly", NULL},
    [DIAGONAL] = {"include_diagonal", 1, 0, 1, MX_PARAM_SWITCH,
                  "whether a domain's product with itself counts", NULL},
};

static const struct mx_policy_table doge_tables[] = {
    [TARGETS] = {"targets", MX_TABLE_DOMAINS, 0, 0, 1,
                 "how much each domain counts as one to be learned; 1 each if not given"},
};

static const char *doge_check(const struct mx_policy_conf *c, char *text, size_t cap)
{
    double most = c->tables[TARGETS] == NULL ? 1.0 : 0.0;
    uint64_t k = c->k;

    for (uint32_t i = 0; i < c->k && c->tables[TARGETS] != NULL; i++) {
        most = fmax(most, c->tables[TARGETS][i]);
    }
    return most > 0.0
               ? NULL
               : mx_clash(text, cap, "targets: all # are 0: nothing is to be learned", &k);
}

/* The block: ln p (k); last score, NAN if never seen (k); p (k). */
static size_t doge_size(const struct mx_policy_conf *c)
{
    return 3 * (size_t)c->k;
}

static void doge_init(double *state, const struct mx_policy_conf *c)
{
    for (uint32_t i = 0; i < c->k; i++) {
        state[i] = log(c->prior[i]);
        state[c->k + i] = NAN;
    }
    memcpy(state + 2 * (size_t)c->k, c->prior, c->k * sizeof *c->prior);
}

static double score(const struct mx_policy_conf *c, const struct mx_grad_stats *g, uint32_t row,
                    double mean_norm)
{
    const double *targets = c->tables[TARGETS], *products = g->gram + (size_t)row * g->n;
    double sum = 0.0, s;

    for (uint32_t j = 0; j < g->n; j++) {
        if (j != row || c->params[DIAGONAL] != 0.0) {
            sum += (targets != NULL ? targets[g->domains[j]] : 1.0) * products[j];
        }
    }
    s = g->lr * sum / (mean_norm + 1e-6);
    return fmin(fmax(s, c->params[DW_MIN] * g->lr), c->params[DW_MAX] * g->lr);
}

static void doge_observe(double *state, const struct mx_policy_conf *c,
                         const struct mx_observation *o)
{
    const struct mx_grad_stats *g = o->grad;
    double norms = 0.0, n = 0.0;

    for (uint32_t i = 0; g != NULL && i < g->n; i++) {
        if (c->prior[g->domains[i]] > 0.0) {
            norms += sqrt(g->gram[(size_t)i * g->n + i]);
            n++;
        }
    }
    if (n == 0.0) {
        return;
    }
    for (uint32_t i = 0; i < g->n; i++) {
        if (c->prior[g->domains[i]] > 0.0) {
            double s = score(c, g, i, norms / n);

            state[c->k + g->domains[i]] = s;
            state[g->domains[i]] += s / c->params[MU];
        }
    }
    mx_smoothed(state, c->k, c->params[EPS], c->prior, state + 2 * (size_t)c->k);
}

static void doge_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + 2 * (size_t)c->k, c->k * sizeof *ret);
}

static void doge_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    double n = 0.0;

    memcpy(ret, state + c->k, c->k * sizeof *ret);
    for (uint32_t i = 0; i < c->k; i++) {
        n += c->prior[i] > 0.0;
    }
    for (uint32_t i = 0; i < c->k; i++) {
        ret[c->k + i] = c->prior[i] > 0.0 ? c->params[EPS] / n : 0.0;
    }
}

const struct mx_policy_ops mx_policy_doge = {
    .name = "doge",
    .what = "DoGE: exponentiated weights of each gradient's product with the targets'",
    .params = doge_params,
    .n_params = sizeof doge_params / sizeof doge_params[0],
    .tables = doge_tables,
    .n_tables = sizeof doge_tables / sizeof doge_tables[0],
    .uses_grad = 1,
    .adapts = 1,
    .check = doge_check,
    .state_size = doge_size,
    .init = doge_init,
    .observe = doge_observe,
    .weights = doge_weights,
    .n_terms = 2,
    .terms = {"reward", "exploration"},
    .explain = doge_explain,
};
