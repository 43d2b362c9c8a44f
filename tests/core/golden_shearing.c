/* golden_shearing.c - replays traces of LLM-Shearing's dynamic batch loading.
 *
 * The reference computes in single precision, so each step starts from the recorded weights before
 * it. A loss that isn't finite is refused and the weights stay; the reference is NaN from there on,
 * and ours have to be sound. */
#include "tests/core/golden.h"

#define LOSS_MAX 1e4

static int is_finite(const double *v, int n)
{
    for (int i = 0; i < n; i++) {
        if (!isfinite(v[i])) {
            return 0;
        }
    }
    return 1;
}

static double choice_of(struct golden *g, const struct golden_mixer *m, const char *name)
{
    const struct mx_policy_param *p = &m->c.policy.ops->params[0];

    for (int i = 0; p->choices[i] != NULL; i++) {
        if (name != NULL && strcmp(p->choices[i], name) == 0) {
            return i;
        }
    }
    golden_fail(g, "no such update_type: %s", name != NULL ? name : "none given");
    return 0.0;
}

/* A mixer whose weights are `from`. */
static void start(struct golden *g, struct golden_mixer *m, const double *from, uint32_t k)
{
    const cJSON *type = golden_item(g->params, "update_type");
    double v;

    memcpy(m->prior, from, k * sizeof *from);
    golden_begin(g, m, "dbl", k, k);
    if (g->trouble[0] != '\0') {
        return;
    }
    golden_param(g, m, "update", choice_of(g, m, cJSON_IsString(type) ? type->valuestring : NULL));
    if (golden_number(golden_item(g->params, "eta"), &v) == 0) {
        golden_param(g, m, "eta", v);
    }
    if (golden_number(golden_item(g->params, "c"), &v) == 0) {
        golden_param(g, m, "c", v);
    }
    m->tables[0] = malloc(k * sizeof(double));
    MX_REQUIRE(m->tables[0] != NULL);
    if (golden_numbers(golden_item(g->params, "target_loss"), m->tables[0], (int)k) != (int)k) {
        golden_fail(g, "target_loss hasn't %u numbers", k);
    }
    golden_ready(g, m);
}

/* Shows an evaluation. Whether all of it was taken. */
static int show(struct golden *g, struct golden_mixer *m, const cJSON *input, int number)
{
    const struct mx_loss_bounds bounds = {LOSS_MAX, 1};
    const cJSON *list = golden_item(input, "eval_losses");
    struct mx_loss losses[GOLDEN_K_MAX], kept[GOLDEN_K_MAX];
    struct mx_domain_stats stats[GOLDEN_K_MAX];
    double before[GOLDEN_K_MAX], values[GOLDEN_K_MAX];
    uint32_t k = m->c.policy.k, left, first;

    if (golden_numbers(list, values, GOLDEN_K_MAX) != (int)k) {
        golden_fail(g, "step %d hasn't %u eval_losses", number, k);
        return 0;
    }
    for (uint32_t i = 0; i < k; i++) {
        losses[i] = (struct mx_loss){.domain = i, .tokens = 1, .loss_sum = values[i]};
    }
    left = mx_loss_clean(losses, k, &bounds, kept, &first);
    for (uint32_t i = 0; i < left; i++) {
        stats[i] = (struct mx_domain_stats){kept[i].domain, 1, 0, kept[i].loss_sum};
    }
    memcpy(before, m->weights, k * sizeof *before);
    golden_observe(m, &(struct mx_observation){.t = (uint64_t)number + 1, .eval = stats,
                                               .n_eval = left});
    if (left < k) {
        g->refused++;
        golden_kept(g, before, m->weights, k, number);
    }
    return left == k;
}

void golden_shearing(struct golden *g)
{
    double from[GOLDEN_K_MAX];
    const cJSON *step;
    struct golden_mixer m;
    int k = golden_numbers(golden_item(g->params, "initial_weights"), from, GOLDEN_K_MAX);
    int number = 0, taken;

    if (k <= 0) {
        golden_fail(g, "no initial_weights");
        return;
    }
    start(g, &m, from, (uint32_t)k);
    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        const cJSON *weights = golden_item(step, "weights");

        if (g->trouble[0] != '\0') {
            break;
        }
        if (number > 0 && is_finite(from, k)) {
            golden_end(&m);
            start(g, &m, from, (uint32_t)k);
        }
        taken = g->trouble[0] == '\0' && show(g, &m, golden_item(step, "input"), number);
        if (taken && is_finite(from, k)) {
            golden_compare(g, m.weights, (uint32_t)k, weights, GOLDEN_TOLERANCE_SINGLE, number);
        } else if (g->trouble[0] == '\0') {
            golden_sound(g, m.weights, (uint32_t)k, number);
            g->steps++;
        }
        if (golden_numbers(weights, from, GOLDEN_K_MAX) != k) {
            from[0] = NAN;
        }
        number++;
    }
    golden_end(&m);
}
