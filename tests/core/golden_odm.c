/* golden_odm.c - replays traces of Online Data Mixing: the authors' updaters and the paper's
 * formula. A step's training losses go through the same guard as a run's (feedback.h), then to the
 * policy. Where the guard keeps back a loss that the reference took, or the reference overflows on
 * losses that are none of the guard's business, the two part for good: from there on the weights
 * need only be sound. */
#include "tests/core/golden.h"

/* exp() of more is infinite: where the authors' code raises an error. */
#define LOSS_MAX 709.0

static const char *policy_of(const struct golden *g)
{
    static const struct {
        const char *starts, *policy;
    } table[] = {
        {"odm/smoothed_mean.group_update", "odm"}, {"odm/smoothed_mean.update", "odm-single"},
        {"odm/exp3.group_update", "exp3"},         {"odm/exp3.update", "exp3"},
        {"odm/ema.update", "ema"},
        {"odm/naive_validation.update", "naive-validation"},
        {"odm PAPER formula", "odm-paper"},
    };
    const char *algorithm = golden_item(g->root, "algorithm")->valuestring;

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strncmp(algorithm, table[i].starts, strlen(table[i].starts)) == 0) {
            return table[i].policy;
        }
    }
    return NULL;
}

/* The trace's parameters by the policy's names; the authors' code calls alpha smoothing_factor. */
static void set_params(struct golden *g, struct golden_mixer *m)
{
    const struct mx_policy_ops *ops = m->c.policy.ops;

    for (size_t i = 0; ops != NULL && i < ops->n_params; i++) {
        const char *name = ops->params[i].name;
        const cJSON *v = golden_item(g->params, name);

        if (v == NULL && strcmp(name, "alpha") == 0) {
            v = golden_item(g->params, "smoothing_factor");
        }
        if (cJSON_IsNumber(v)) {
            golden_param(g, m, name, v->valuedouble);
        }
    }
}

/* A step's losses in any of the three forms that traces have. How many, or -1. */
static int losses_of(uint32_t k, const cJSON *input, struct mx_loss *ret)
{
    const cJSON *map = golden_item(input, "losses"), *all = golden_item(input, "val_losses");
    const cJSON *one = golden_item(input, "domain"), *e;
    int n = 0;

    if (one != NULL) {
        ret[0] = (struct mx_loss){.domain = (uint32_t)one->valueint, .tokens = 1};
        return golden_number(golden_item(input, "loss"), &ret[0].loss_sum) == 0 &&
               ret[0].domain < k ? 1 : -1;
    }
    for (uint32_t i = 0; i < k; i++) {
        char key[16];

        (void)snprintf(key, sizeof key, "%u", i);
        e = map != NULL ? golden_item(map, key) : cJSON_GetArrayItem(all, (int)i);
        if (e != NULL) {
            ret[n] = (struct mx_loss){.domain = i, .tokens = 1};
            if (golden_number(e, &ret[n++].loss_sum) != 0) {
                return -1;
            }
        }
    }
    return n;
}

/* Whether the reference raised an error in the step, or was NaN after it. */
static int broke_down(const cJSON *step)
{
    const cJSON *e;
    double v;

    cJSON_ArrayForEach(e, golden_item(step, "weights")) {
        if (golden_number(e, &v) != 0 || !isfinite(v)) {
            return 1;
        }
    }
    return golden_item(step, "error") != NULL;
}

static void replay_step(struct golden *g, struct golden_mixer *m, const cJSON *step, int *parted)
{
    const struct mx_loss_bounds bounds = {LOSS_MAX, 1};
    const cJSON *input = golden_item(step, "input"), *at = golden_item(input, "iteration");
    struct mx_loss losses[GOLDEN_K_MAX], kept[GOLDEN_K_MAX];
    struct mx_domain_stats stats[GOLDEN_K_MAX];
    double before[GOLDEN_K_MAX];
    uint32_t k = m->c.policy.k, left, first;
    int n = losses_of(k, input, losses), t;

    at = at != NULL ? at : golden_item(input, "step");
    if (n < 0 || !cJSON_IsNumber(at)) {
        golden_fail(g, "a step can't be read");
        return;
    }
    t = at->valueint;
    left = mx_loss_clean(losses, (uint32_t)n, &bounds, kept, &first);
    g->refused += n - (int)left;
    if (left < (uint32_t)n) { /* where it raised an error, it took nothing after that */
        *parted |= left > 0 || golden_item(step, "error") == NULL;
    } else {
        *parted |= broke_down(step);
    }
    memcpy(before, m->weights, k * sizeof *before);
    for (uint32_t i = 0; i < left; i++) {
        stats[i] = (struct mx_domain_stats){kept[i].domain, 1, 0, kept[i].loss_sum};
    }
    if (left > 0 || n == 0) { /* as a run does: what is quarantined whole is not shown */
        golden_observe(m, &(struct mx_observation){(uint64_t)t, .train = stats, .n_train = left});
    }
    if (*parted) {
        golden_sound(g, m->weights, k, t);
    } else {
        golden_compare(g, m->weights, k, golden_item(step, "weights"), GOLDEN_TOLERANCE, t);
    }
    if (left == 0 && n > 0) {
        golden_kept(g, before, m->weights, k, t);
    }
}

void golden_odm(struct golden *g)
{
    const char *name = policy_of(g);
    const cJSON *step;
    struct golden_mixer m;
    int k = golden_numbers(golden_item(g->params, "initial_weights"), m.prior, GOLDEN_K_MAX);
    int parted = 0;

    if (name == NULL || k <= 0) {
        golden_fail(g, "no such updater, or no initial_weights");
        return;
    }
    golden_begin(g, &m, name, (uint32_t)k, (uint32_t)k);
    set_params(g, &m);
    golden_ready(g, &m);
    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        if (g->trouble[0] == '\0') {
            replay_step(g, &m, step, &parted);
        }
    }
    golden_end(&m);
}
