/* policy_dbl.c - dynamic batch loading of LLM-Shearing: domains whose held-out loss is furthest
 * over its target get more.
 *
 * Xia, Gao, Zeng and Chen, "Sheared LLaMA: Accelerating Language Model Pre-training via Structured
 * Pruning", 2023 (arXiv 2310.06694), as their code computes it. After each evaluation
 *     d_i = loss_i - target_i                                                    (nats)
 *     doremi:   q = softmax(ln p + eta d),   p <- (1 - c) q + c / K
 *     bandit:   q = softmax(p + eta d),      p <- (1 - c) q + c / K     (no logarithm: it forgets)
 *     constant: p stays
 * Member i of the eval set is domain i. `target` is a loss known beforehand, as that of a larger
 * model or from a scaling law; it is never updated.
 *
 * Traps. The paper cuts d_i off at 0, the code that made its numbers does not: domains ahead of
 * their target are starved, down to c / K of the mix. `clip` is the paper's form. Every evaluation
 * multiplies, so that the frequency of evaluations is part of eta (theirs: every 50 steps while
 * pruning, 400 after). Theirs computes in single precision and turns into NaN for good at a loss
 * that isn't finite; here ln p is kept, so that with c = 0 a starved domain can still come back.
 * An evaluation that lacks a domain isn't used. */
#include "daemon/core/clash.h"
#include "daemon/core/policies.h"
#include "daemon/core/softmax.h"

#include <math.h>
#include <string.h>

enum { UPDATE, ETA, SMOOTHING, CLIP };
enum { DOREMI, BANDIT, CONSTANT };
enum { TARGET };

static const char *const updates[] = {"doremi", "bandit", "constant", NULL};

static const struct mx_policy_param dbl_params[] = {
    [UPDATE] = {"update", DOREMI, 0, 2, MX_PARAM_CHOICE, "which of the code's rules", updates},
    [ETA] = {"eta", 1, 0, 1e3, MX_PARAM_NUMBER, "how sharply weights follow, 1/nats", NULL},
    [SMOOTHING] = {"c", 1e-4, 0, 1, MX_PARAM_NUMBER, "part of the mix that is spread evenly", NULL},
    [CLIP] = {"clip", 0, 0, 1, MX_PARAM_SWITCH,
              "losses under their target count as on it, as in the paper", NULL},
};

static const struct mx_policy_table dbl_tables[] = {
    [TARGET] = {"target", MX_TABLE_DOMAINS, 1, 0, 1e4, "loss that each domain should reach, nats"},
};

/* The block: p (k), ln p (k), d of the last update (k; NAN before the first). */

static size_t dbl_state_size(const struct mx_policy_conf *c)
{
    return 3 * (size_t)c->k;
}

static const char *dbl_check(const struct mx_policy_conf *c, char *text, size_t cap)
{
    uint64_t km[] = {c->k, c->m};

    return c->k == c->m
               ? NULL
               : mx_clash(text, cap, "eval set: # domains but # members: one each is needed", km);
}

static void dbl_init(double *state, const struct mx_policy_conf *c)
{
    for (uint32_t i = 0; i < c->k; i++) {
        state[i] = c->prior[i];
        state[c->k + i] = log(c->prior[i]);
        state[2 * (size_t)c->k + i] = NAN;
    }
}

static void dbl_observe(double *state, const struct mx_policy_conf *c,
                        const struct mx_observation *o)
{
    uint32_t k = c->k;
    double *p = state, *log_p = state + k, *d = log_p + k;

    if (o->n_eval != k || c->params[UPDATE] == CONSTANT) {
        return;
    }
    for (uint32_t i = 0; i < k; i++) {
        d[i] = o->eval[i].loss - c->tables[TARGET][i];
        d[i] = c->params[CLIP] != 0.0 ? fmax(d[i], 0.0) : d[i];
        log_p[i] = (c->params[UPDATE] == BANDIT ? p[i] : log_p[i]) + c->params[ETA] * d[i];
    }
    mx_smoothed(log_p, k, c->params[SMOOTHING], NULL, p);
}

static void dbl_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state, c->k * sizeof *ret);
}

static void dbl_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + 2 * (size_t)c->k, c->k * sizeof *ret);
}

const struct mx_policy_ops mx_policy_dbl = {
    .name = "dbl",
    .what = "dynamic batch loading (LLM-Shearing): held-out losses furthest over target get more",
    .params = dbl_params,
    .n_params = sizeof dbl_params / sizeof dbl_params[0],
    .tables = dbl_tables,
    .n_tables = sizeof dbl_tables / sizeof dbl_tables[0],
    .uses_eval = 1,
    .adapts = 1,
    .check = dbl_check,
    .state_size = dbl_state_size,
    .init = dbl_init,
    .observe = dbl_observe,
    .weights = dbl_weights,
    .n_terms = 1,
    .terms = {"estimate"},
    .explain = dbl_explain,
};
