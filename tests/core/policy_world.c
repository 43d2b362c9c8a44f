/* policy_world.c - see policy_world.h. Knows policies by their interface alone. */
#include "tests/core/policy_world.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 200

static uint64_t below(struct policy_world *w, uint64_t n)
{
    return w->source->draw(w->source) % n;
}

static double unit(struct policy_world *w)
{
    return (double)(w->source->draw(w->source) >> 11) * 0x1p-53;
}

/* ---- configs -------------------------------------------------------------------------------- */

static double some_number(struct policy_world *w, double min, double max)
{
    double low = fmax(min, -4.0), high = fmin(max, 4.0);

    switch (below(w, 8)) {
    case 0: return min;
    case 1: return max;
    case 2: return min <= 0.0 && max >= 0.0 ? 0.0 : min;
    case 3: return min <= 1.0 && max >= 1.0 ? 1.0 : max;
    default: return low <= high ? low + (high - low) * unit(w) : min + (max - min) * unit(w);
    }
}

static void some_params(struct policy_world *w, int plain)
{
    const struct mx_policy_ops *ops = w->c.ops;

    for (size_t i = 0; i < ops->n_params; i++) {
        const struct mx_policy_param *p = &ops->params[i];
        uint64_t choices = 0;

        while (p->choices != NULL && p->choices[choices] != NULL) {
            choices++;
        }
        w->params[i] = p->fallback;
        if (plain || below(w, 2) == 0) {
            continue;
        }
        switch (p->kind) {
        case MX_PARAM_SWITCH: w->params[i] = (double)below(w, 2); break;
        case MX_PARAM_CHOICE: w->params[i] = (double)below(w, choices); break;
        case MX_PARAM_INTEGER:
            w->params[i] = below(w, 8) == 0 ? p->max : p->min + floor(30 * unit(w) * unit(w));
            w->params[i] = fmin(w->params[i], p->max);
            break;
        case MX_PARAM_NUMBER: w->params[i] = some_number(w, p->min, p->max); break;
        }
    }
}

static void some_prior(struct policy_world *w, int plain)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < w->c.k; i++) {
        w->prior[i] = plain ? 1.0 : below(w, 4) == 0 ? 0.0 : unit(w) + 1e-3;
        sum += w->prior[i];
    }
    if (sum == 0.0) {
        w->prior[0] = sum = 1.0;
    }
    for (uint32_t i = 0; i < w->c.k; i++) {
        w->prior[i] /= sum;
    }
}

static void some_tables(struct policy_world *w, int plain)
{
    const struct mx_policy_ops *ops = w->c.ops;

    for (size_t i = 0; i < ops->n_tables; i++) {
        const struct mx_policy_table *t = &ops->tables[i];
        size_t n = t->shape == MX_TABLE_DOMAINS ? w->c.k
                   : t->shape == MX_TABLE_GRAPH ? (size_t)w->c.k * w->c.m
                                                : w->c.m;

        free(w->tables[i]);
        w->tables[i] = NULL;
        w->c.tables[i] = NULL;
        if (!t->required && (plain || below(w, 2) == 0)) {
            continue;
        }
        w->c.tables[i] = w->tables[i] = malloc(n * sizeof(double));
        if (w->tables[i] == NULL) {
            abort();
        }
        for (size_t j = 0; j < n; j++) {
            w->tables[i][j] = t->shape == MX_TABLE_MEMBERS ? (double)below(w, 2)
                                                           : some_number(w, t->min, t->max);
        }
    }
}

static void some_attributes(struct policy_world *w)
{
    if (!w->c.ops->uses_attributes) {
        return;
    }
    w->c.n_attributes = 1 + (uint32_t)below(w, MX_POLICY_ATTRIBUTES_MAX);
    w->c.attributes = w->attributes;
    for (uint32_t a = 0; a < w->c.n_attributes; a++) {
        w->c.n_values[a] = 1 + (uint32_t)below(w, 6);
        for (uint32_t i = 0; i < w->c.k; i++) {
            w->attributes[i * w->c.n_attributes + a] =
                (double)below(w, w->c.n_values[a] + 1) - 1.0;
        }
    }
}

int policy_world_begin(struct policy_world *w, const struct mx_policy_ops *ops, uint32_t k,
                       int plain, struct policy_source *source, char *text, size_t cap)
{
    memset(w, 0, sizeof *w);
    w->source = source;
    w->c.ops = ops;
    w->c.prior = w->prior;
    w->c.params = w->params;
    w->t = 1;
    for (int i = 0; i < TRIES; i++) {
        w->c.k = k > 0 ? k : 1 + (uint32_t)below(w, WORLD_K_MAX >> below(w, 6));
        w->c.m = ops->uses_eval && !plain && below(w, 3) == 0 ? 1 + (uint32_t)below(w, WORLD_K_MAX)
                                                              : w->c.k;
        some_params(w, plain);
        some_prior(w, plain);
        some_tables(w, plain && i < TRIES / 2);
        some_attributes(w);
        text[0] = '\0';
        if ((ops->check == NULL || ops->check(&w->c, text, cap) == NULL) &&
            ops->state_size(&w->c) <= WORLD_STATE_MAX) {
            return 0;
        }
    }
    return -1;
}

void policy_world_end(struct policy_world *w)
{
    for (size_t i = 0; i < MX_POLICY_TABLES_MAX; i++) {
        free(w->tables[i]);
        w->tables[i] = NULL;
    }
}

/* ---- steps ---------------------------------------------------------------------------------- */

static double odd_loss(struct policy_world *w)
{
    static const double odd[] = {0.0, 1.0, 1e4, 5e-324, 1e-300, 709.0, 710.0, 745.0, 2.5, 1e-9};

    return below(w, 2) ? odd[below(w, sizeof odd / sizeof odd[0])] : 12 * unit(w);
}

static double odd_reward(struct policy_world *w)
{
    static const double odd[] = {0.0, -0.0, 1.0, -1.0, 1e6, -1e6, 5e-324, -1e-300, 0.5, 710.0};

    return below(w, 2) ? odd[below(w, sizeof odd / sizeof odd[0])] : 4 * unit(w) - 2;
}

/* All, few or none of n, rising; sometimes all of one loss, sometimes filled in by a guard. */
static uint32_t some_losses(struct policy_world *w, uint32_t n, int whole,
                            struct mx_domain_stats *ret)
{
    uint32_t kept = 0;
    uint64_t one_in = whole || below(w, 2) ? 1 : 1 + below(w, 4);
    double same = odd_loss(w);
    int alike = below(w, 8) == 0;

    for (uint32_t i = 0; i < n; i++) {
        if (below(w, one_in) == 0) {
            ret[kept++] = (struct mx_domain_stats){i, below(w, 1000), below(w, 10),
                                                   alike ? same : odd_loss(w)};
        }
    }
    return kept;
}

static uint32_t some_rewards(struct policy_world *w, uint32_t n, struct mx_reward_stats *ret)
{
    uint32_t kept = 0;
    uint64_t one_in = below(w, 2) ? 1 : 1 + below(w, 4);
    double same = odd_reward(w);
    int alike = below(w, 8) == 0;

    for (uint32_t i = 0; i < n; i++) {
        if (below(w, one_in) == 0) {
            ret[kept++] = (struct mx_reward_stats){i, below(w, 100), alike ? same : odd_reward(w)};
        }
    }
    return kept;
}

/* The Gram matrix of vectors of two dimensions, of any size. */
static const struct mx_grad_stats *some_grad(struct policy_world *w)
{
    static const double sizes[] = {1.0, 0.0, 1e-3, 1e3, 1e45, 1e-160};
    double v[WORLD_GRAM_MAX][2], size = sizes[below(w, sizeof sizes / sizeof sizes[0])];
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->c.k && n < WORLD_GRAM_MAX; i++) {
        if (below(w, 4) != 0) {
            v[n][0] = size * (unit(w) - 0.5);
            v[n][1] = below(w, 4) == 0 ? 0.0 : size * (unit(w) - 0.3);
            w->grad_domains[n++] = i;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < n; j++) {
            w->gram[(size_t)i * n + j] = v[i][0] * v[j][0] + v[i][1] * v[j][1];
        }
    }
    w->grad = (struct mx_grad_stats){n, w->grad_domains, w->gram,
                                     below(w, 8) == 0 ? 1e6 : 1e-6 + unit(w)};
    return n > 0 ? &w->grad : NULL;
}

/* Whether the next step is one that the policy has asked for. */
static int goes_to_request(struct policy_world *w, const double *state)
{
    const struct mx_policy_ops *ops = w->c.ops;
    struct mx_policy_request asked;

    if (ops->requests == NULL || ops->requests(state, &w->c, &asked, 1) == 0 ||
        asked.eval_after < w->t || below(w, 16) == 0) {
        return 0;
    }
    w->t = asked.eval_after;
    return 1;
}

struct mx_observation policy_world_observe(struct policy_world *w, const double *state)
{
    const struct mx_policy_ops *ops = w->c.ops;
    int asked = goes_to_request(w, state);
    struct mx_observation o = {.t = w->t, .mix_version = w->t / 4};

    w->t += below(w, 20) == 0 ? below(w, (uint64_t)1 << 34) + 1 : 1;
    if (ops->uses_train && below(w, 8) != 0) {
        o.train = w->train;
        o.n_train = some_losses(w, w->c.k, 0, w->train);
    }
    if (asked || (ops->uses_eval && below(w, 4) != 0)) {
        o.eval = w->eval;
        o.n_eval = some_losses(w, w->c.m, asked, w->eval);
    }
    if (ops->uses_reward && below(w, 8) != 0) {
        o.reward = w->reward;
        o.n_reward = some_rewards(w, w->c.k, w->reward);
    }
    if (ops->uses_grad && below(w, 8) != 0) {
        o.grad = some_grad(w);
    }
    return o;
}

int policy_world_sound(const double *weights, uint32_t k)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < k; i++) {
        if (!(weights[i] >= 0.0 && weights[i] <= 1.0 + 1e-12)) {
            return 0;
        }
        sum += weights[i];
    }
    return fabs(sum - 1.0) < 1e-9;
}
