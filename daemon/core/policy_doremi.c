/* policy_doremi.c - DoReMi: what a small model learns worse than a reference model gets more
 * weight.
 *
 * Xie, Pham, Dong, Du, Liu, Lu, Liang, Le, Ma and Yu, "DoReMi: Optimizing Data Mixtures Speeds Up
 * Language Model Pretraining", 2023 (arXiv 2305.10429). In each step, for each domain reported,
 *     s_i = its excess loss: how much worse the proxy does than the reference, >= 0, nats
 *     p   <- (1 - eps) softmax(ln p + eta s) + eps / K
 * The method's result is the mean of p over all steps (the mixer's mean), which a larger model is
 * then trained with. In the authors' code p weighs the loss and sampling stays as it was: that is
 * "apply": "loss".
 *
 * What it is fed, by `excess`:
 *     reward     as the paper has it: the trainer runs both models and reports as a reward the mean
 *                over the domain's unmasked tokens of max(0, proxy's loss - reference's)
 *     reference  training losses of the proxy, less the table `reference` of losses that the
 *                reference model has on each domain: s_i = max(0, loss_i - reference_i). A trainer
 *                needs to know nothing of the method. The clip is of the mean, so tokens that the
 *                proxy does better are set off against others
 *
 * Traps. The authors' code gives a domain that a step hasn't seen its last score again (absent:
 * hold, the default here), and one never seen ln(vocabulary): a domain that is rare goes to nearly
 * 1 by itself. Here one never seen has `initial_score`, 0: it isn't pushed. A domain of which all
 * tokens are masked has a mean of nothing, which is NaN there, for ever; here it is absent. With
 * eps = 0 a domain of prior 0 stays at 0. */
#include "daemon/core/clash.h"
#include "daemon/core/policies.h"
#include "daemon/core/softmax.h"

#include <math.h>
#include <string.h>

enum { ETA, EPS, INITIAL, EXCESS };
enum { EXCESS_REWARD, EXCESS_REFERENCE };
enum { REFERENCE };

static const char *const excesses[] = {"reward", "reference", NULL};

static const struct mx_policy_param doremi_params[] = {
    [ETA] = {"eta", 1, 0, 1e3, MX_PARAM_NUMBER,
             "how far an excess loss of one nat moves ln p", NULL},
    [EPS] = {"eps", 1e-3, 0, 1, MX_PARAM_NUMBER, "part of the weights that is shared evenly", NULL},
    [INITIAL] = {"initial_score", 0, 0, 100, MX_PARAM_NUMBER,
                 "excess loss of a domain that was never seen", NULL},
    [EXCESS] = {"excess", EXCESS_REWARD, 0, 1, MX_PARAM_CHOICE,
                "where excess losses come from: rewards, or losses less `reference`", excesses},
};

static const struct mx_policy_table doremi_tables[] = {
    [REFERENCE] = {"reference", MX_TABLE_DOMAINS, 0, 0, 1e4,
                   "loss of the reference model by domain, nats a token"},
};

/* The block: ln p (k); last excess loss, NAN if never seen (k); p (k). */
static double *scores_of(double *state, const struct mx_policy_conf *c)
{
    return state + c->k;
}

static const char *doremi_check(const struct mx_policy_conf *c, char *text, size_t cap)
{
    int needed = (int)c->params[EXCESS] == EXCESS_REFERENCE, given = c->tables[REFERENCE] != NULL;

    if (needed && !given) {
        return mx_clash(text, cap, "reference: missing, and excess is \"reference\"", NULL);
    }
    if (!needed && given) {
        return mx_clash(text, cap, "reference: given, but excess is \"reward\"", NULL);
    }
    return NULL;
}

static size_t doremi_size(const struct mx_policy_conf *c)
{
    return 3 * (size_t)c->k;
}

static void doremi_init(double *state, const struct mx_policy_conf *c)
{
    for (uint32_t i = 0; i < c->k; i++) {
        state[i] = log(c->prior[i]);
        scores_of(state, c)[i] = NAN;
    }
    memcpy(state + 2 * (size_t)c->k, c->prior, c->k * sizeof *c->prior);
}

static void push(double *state, const struct mx_policy_conf *c, uint32_t domain, double excess)
{
    double s = fmax(0.0, excess);

    scores_of(state, c)[domain] = s;
    state[domain] += c->params[ETA] * s;
}

static void doremi_observe(double *state, const struct mx_policy_conf *c,
                           const struct mx_observation *o)
{
    int reward = (int)c->params[EXCESS] == EXCESS_REWARD;

    if ((reward ? o->n_reward : o->n_train) == 0) {
        return;
    }
    for (uint32_t i = 0; reward && i < o->n_reward; i++) {
        push(state, c, o->reward[i].domain, o->reward[i].mean);
    }
    for (uint32_t i = 0; !reward && i < o->n_train; i++) {
        push(state, c, o->train[i].domain,
             o->train[i].loss - c->tables[REFERENCE][o->train[i].domain]);
    }
    for (uint32_t i = 0; i < c->k && c->params[INITIAL] > 0.0; i++) {
        if (isnan(scores_of(state, c)[i])) {
            state[i] += c->params[ETA] * c->params[INITIAL];
        }
    }
    mx_smoothed(state, c->k, c->params[EPS], NULL, state + 2 * (size_t)c->k);
}

static void doremi_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + 2 * (size_t)c->k, c->k * sizeof *ret);
}

static void doremi_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + c->k, c->k * sizeof *ret);
    for (uint32_t i = 0; i < c->k; i++) {
        ret[c->k + i] = c->params[EPS] / c->k;
    }
}

const struct mx_policy_ops mx_policy_doremi = {
    .name = "doremi",
    .what = "DoReMi: exponentiated weights of the excess loss over a reference model",
    .params = doremi_params,
    .n_params = sizeof doremi_params / sizeof doremi_params[0],
    .tables = doremi_tables,
    .n_tables = sizeof doremi_tables / sizeof doremi_tables[0],
    .uses_train = 1,
    .uses_reward = 1,
    .adapts = 1,
    .absent = 1, /* MX_ABSENT_HOLD */
    .check = doremi_check,
    .state_size = doremi_size,
    .init = doremi_init,
    .observe = doremi_observe,
    .weights = doremi_weights,
    .n_terms = 2,
    .terms = {"reward", "exploration"},
    .explain = doremi_explain,
};
