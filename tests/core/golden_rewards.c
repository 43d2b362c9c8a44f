/* golden_rewards.c - replays traces of the bandits over rewards (DUMP, Self-Evolving Curriculum,
 * the fms-acceleration plugin's EXP3) and of Mixtera's loss averaging, each in one piece.
 *
 * From samples' advantages this makes what a trainer reports: means of their sizes. DUMP's window
 * counts samples, so each is a report of its own. */
#include "tests/core/golden.h"

#define SAMPLES_MAX 100000
#define LOSS_MAX 1e4

static void set_numbers(struct golden *g, struct golden_mixer *m, const char *const *trace,
                        const char *const *param, int n)
{
    for (int i = 0; i < n; i++) {
        const cJSON *v = golden_item(g->params, trace[i]);

        if (cJSON_IsNumber(v)) {
            golden_param(g, m, param[i], v->valuedouble);
        }
    }
}

/* How many domains, from params.K or the length of the array `names`; their prior is even. */
static uint32_t even_prior(struct golden *g, struct golden_mixer *m, const char *names)
{
    const cJSON *count = golden_item(g->params, "K");
    int k = names != NULL ? cJSON_GetArraySize(golden_item(g->params, names))
                          : (cJSON_IsNumber(count) ? count->valueint : 0);

    if (k <= 0 || k > GOLDEN_K_MAX) {
        golden_fail(g, "params don't say how many domains there are");
        return 0;
    }
    for (int i = 0; i < k; i++) {
        m->prior[i] = 1.0;
    }
    return (uint32_t)k;
}

/* Compares what a step has left, `refused` of whose values were refused, with the trace. `before`:
 * the weights that were. Where the reference hands out nothing new, or has raised an error, they
 * stay; where it isn't finite any more, they are sound. */
static void settle(struct golden *g, const struct golden_mixer *m, const double *before,
                   const cJSON *step, double tolerance, int refused, int at)
{
    const cJSON *expected = golden_item(step, "weights");
    double want[GOLDEN_K_MAX];
    int n = golden_numbers(expected, want, GOLDEN_K_MAX), finite = n > 0;

    for (int i = 0; i < n; i++) {
        finite &= isfinite(want[i]) != 0;
    }
    g->refused += refused;
    if (finite) {
        golden_compare(g, m->weights, (uint32_t)n, expected, tolerance, at);
        return;
    }
    g->steps++;
    golden_sound(g, m->weights, m->c.policy.k, at);
    if (n <= 0) {
        golden_kept(g, before, m->weights, m->c.policy.k, at);
    }
}

/* Rewards n, of which those that aren't finite are refused. How many. */
static int show(struct golden_mixer *m, const struct mx_reward_stats *rewards, uint32_t n, int at)
{
    struct mx_reward_stats kept[GOLDEN_K_MAX];
    uint32_t left = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (isfinite(rewards[i].mean)) {
            kept[left++] = rewards[i];
        }
    }
    if (left > 0) {
        golden_observe(m, &(struct mx_observation){(uint64_t)at + 1, .reward = kept,
                                                   .n_reward = left});
    }
    return (int)(n - left);
}

/* ---- DUMP ------------------------------------------------------------------------------------ */

static void dump_step(struct golden *g, struct golden_mixer *m, const cJSON *step, int at)
{
    static double advantages[SAMPLES_MAX];
    const cJSON *source;
    double before[GOLDEN_K_MAX];
    int refused = 0;
    uint32_t i = 0;

    memcpy(before, m->weights, m->c.policy.k * sizeof *before);
    cJSON_ArrayForEach(source, golden_item(g->params, "sources")) {
        const cJSON *input = golden_item(golden_item(step, "input"), source->valuestring);
        int n = 0;

        if (input != NULL) {
            n = golden_numbers(golden_item(input, "advantages"), advantages, SAMPLES_MAX);
        }
        if (n < 0) {
            golden_fail(g, "step %d can't be read", at);
        }
        for (int j = 0; j < n; j++) {
            struct mx_reward_stats one = {i, 1, fabs(advantages[j])};

            refused += show(m, &one, 1, at);
        }
        i++;
    }
    settle(g, m, before, step, GOLDEN_TOLERANCE, refused, at);
}

static void set_dump(struct golden *g, struct golden_mixer *m)
{
    static const char *const names[] = {"window", "temperature", "exploration_weight"};
    static const char *const params[] = {"window", "temperature", "exploration"};
    const cJSON *window = golden_item(g->params, "window");

    set_numbers(g, m, names, params, 3);
    golden_param(g, m, "chunks", cJSON_IsNumber(window) ? window->valuedouble : 300);
}

/* ---- Self-Evolving Curriculum ---------------------------------------------------------------- */

/* Mean size of a sample's unmasked advantages, NAN if all are masked. 0 or -1. */
static int sample_mean(const cJSON *values, const cJSON *mask, double *ret)
{
    const cJSON *e, *m = mask != NULL ? mask->child : NULL;
    double sum = 0.0, tokens = 0.0;

    cJSON_ArrayForEach(e, values) {
        double v;

        if (m == NULL || golden_number(e, &v) != 0) {
            return -1;
        }
        sum += m->valuedouble * fabs(v);
        tokens += m->valuedouble;
        m = m->next;
    }
    *ret = tokens > 0.0 ? sum / tokens : NAN;
    return 0;
}

/* Of each arm, over its samples: the sum of their means, and how many. 0 or -1. */
static int advantages_of(const cJSON *input, uint32_t k, double *sums, double *samples)
{
    const cJSON *arms = golden_item(input, "arms"), *arm;
    int row = 0;

    memset(sums, 0, k * sizeof *sums);
    memset(samples, 0, k * sizeof *samples);
    cJSON_ArrayForEach(arm, arms) {
        const cJSON *values = cJSON_GetArrayItem(golden_item(input, "advantages"), row);
        double mean;

        if (!cJSON_IsNumber(arm) || arm->valueint < 0 || arm->valueint >= (int)k ||
            sample_mean(values, cJSON_GetArrayItem(golden_item(input, "mask"), row), &mean) != 0) {
            return -1;
        }
        if (!isnan(mean)) {
            sums[arm->valueint] += mean;
            samples[arm->valueint]++;
        }
        row++;
    }
    return row > 0 ? 0 : -1;
}

static void sec_step(struct golden *g, struct golden_mixer *m, const cJSON *step, int at)
{
    double sums[GOLDEN_K_MAX], samples[GOLDEN_K_MAX], before[GOLDEN_K_MAX];
    struct mx_reward_stats rewards[GOLDEN_K_MAX];
    uint32_t n = 0;
    int refused;

    if (advantages_of(golden_item(step, "input"), m->c.policy.k, sums, samples) != 0) {
        golden_fail(g, "step %d can't be read", at);
        return;
    }
    for (uint32_t i = 0; i < m->c.policy.k; i++) {
        if (samples[i] > 0.0) {
            rewards[n++] = (struct mx_reward_stats){i, (uint64_t)samples[i], sums[i] / samples[i]};
        }
    }
    memcpy(before, m->weights, m->c.policy.k * sizeof *before);
    refused = show(m, rewards, n, at);
    settle(g, m, before, step, GOLDEN_TOLERANCE, refused, at);
}

/* What the reference tells of its `greedy` are Boltzmann's weights too. */
static void set_sec(struct golden *g, struct golden_mixer *m)
{
    static const char *const names[] = {"lr", "temperature"};
    const cJSON *method = golden_item(g->params, "method"), *objective;
    const char *name = cJSON_IsString(method) ? method->valuestring : "boltzmann";

    objective = golden_item(g->params, "objective");
    set_numbers(g, m, names, names, 2);
    golden_param(g, m, "method", strcmp(name, "normalized_q") == 0);
    if (cJSON_IsString(objective) && strstr(objective->valuestring, "adv") == NULL) {
        golden_fail(g, "objective %s: advantages are all that is replayed", objective->valuestring);
    }
}

/* ---- EXP3 of the plugin ---------------------------------------------------------------------- */

static void fms_step(struct golden *g, struct golden_mixer *m, const cJSON *step, int at)
{
    const cJSON *input = golden_item(step, "input");
    double sums[GOLDEN_K_MAX], counts[GOLDEN_K_MAX], before[GOLDEN_K_MAX];
    struct mx_reward_stats rewards[GOLDEN_K_MAX];
    uint32_t k = m->c.policy.k, n = 0;
    int refused;

    if (golden_numbers(golden_item(input, "reward_sums"), sums, (int)k) != (int)k ||
        golden_numbers(golden_item(input, "counts"), counts, (int)k) != (int)k) {
        golden_fail(g, "step %d can't be read", at);
        return;
    }
    for (uint32_t i = 0; i < k; i++) {
        if (counts[i] > 0.0) {
            rewards[n++] = (struct mx_reward_stats){i, (uint64_t)counts[i], sums[i] / counts[i]};
        }
    }
    memcpy(before, m->weights, k * sizeof *before);
    refused = show(m, rewards, n, at);
    settle(g, m, before, step, GOLDEN_TOLERANCE, refused, at);
}

static void set_fms(struct golden *g, struct golden_mixer *m)
{
    static const char *const names[] = {"gamma", "eta"};

    set_numbers(g, m, names, names, 2);
}

/* ---- loss averaging -------------------------------------------------------------------------- */

/* Domains that come later are there from the beginning, and have had nothing. */
static void average_step(struct golden *g, struct golden_mixer *m, const cJSON *step, int at)
{
    const struct mx_loss_bounds bounds = {LOSS_MAX, (uint64_t)1 << 40};
    const cJSON *input = golden_item(step, "input");
    double sums[GOLDEN_K_MAX], tokens[GOLDEN_K_MAX], before[GOLDEN_K_MAX];
    struct mx_loss losses[GOLDEN_K_MAX], kept[GOLDEN_K_MAX];
    struct mx_domain_stats stats[GOLDEN_K_MAX];
    int k = golden_numbers(golden_item(input, "loss_sums"), sums, (int)m->c.policy.k);
    uint32_t n = 0, left, first;

    if (k <= 0 || golden_numbers(golden_item(input, "token_counts"), tokens, k) != k) {
        golden_fail(g, "step %d can't be read", at);
        return;
    }
    for (uint32_t i = 0; i < (uint32_t)k; i++) {
        if (tokens[i] > 0.0) {
            losses[n++] = (struct mx_loss){.domain = i, .tokens = (uint64_t)tokens[i],
                                           .loss_sum = sums[i]};
        }
    }
    left = mx_loss_clean(losses, n, &bounds, kept, &first);
    for (uint32_t i = 0; i < left; i++) {
        stats[i] = (struct mx_domain_stats){kept[i].domain, kept[i].tokens, 0,
                                            kept[i].loss_sum / (double)kept[i].tokens};
    }
    memcpy(before, m->weights, m->c.policy.k * sizeof *before);
    if (left > 0) {
        golden_observe(m, &(struct mx_observation){(uint64_t)at + 1, .train = stats,
                                                   .n_train = left});
    }
    settle(g, m, before, step, GOLDEN_TOLERANCE_SINGLE, (int)(n - left), at);
}

static uint32_t average_prior(struct golden *g, struct golden_mixer *m)
{
    const cJSON *step;
    int most = 0;

    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        int n = cJSON_GetArraySize(golden_item(step, "weights"));

        most = n > most ? n : most;
    }
    if (most <= 0 || most > GOLDEN_K_MAX) {
        golden_fail(g, "steps don't say how many domains there are");
        return 0;
    }
    for (int i = 0; i < most; i++) {
        m->prior[i] = 1.0;
    }
    return (uint32_t)most;
}

static void set_average(struct golden *g, struct golden_mixer *m)
{
    golden_param(g, m, "unseen", 1); /* zero */
}

/* ---- which ----------------------------------------------------------------------------------- */

static const struct kind {
    const char *starts, *policy;
    void (*set)(struct golden *g, struct golden_mixer *m);
    void (*step)(struct golden *g, struct golden_mixer *m, const cJSON *step, int at);
} kinds[] = {
    {"dump/", "ucb", set_dump, dump_step},
    {"sec/", "boltzmann", set_sec, sec_step},
    {"exp3 (fms", "exp3-classic", set_fms, fms_step},
    {"loss averaging", "loss-average", set_average, average_step},
};

static uint32_t prior_of(struct golden *g, struct golden_mixer *m, const struct kind *kind)
{
    int n;

    if (kind->step == average_step) {
        return average_prior(g, m);
    }
    n = golden_numbers(golden_item(g->params, "initial_weights"), m->prior, GOLDEN_K_MAX);
    if (n > 0) {
        return (uint32_t)n;
    }
    return even_prior(g, m, kind->step == dump_step ? "sources" : NULL);
}

void golden_rewards(struct golden *g)
{
    const char *algorithm = golden_item(g->root, "algorithm")->valuestring;
    struct golden_mixer m;
    const cJSON *step;
    size_t i = 0, n = sizeof kinds / sizeof kinds[0];
    uint32_t k;
    int at = 0;

    while (i < n && strncmp(algorithm, kinds[i].starts, strlen(kinds[i].starts)) != 0) {
        i++;
    }
    if (i == n) {
        golden_fail(g, "algorithm not known: %s", algorithm);
        return;
    }
    k = prior_of(g, &m, &kinds[i]);
    if (k == 0) {
        return;
    }
    golden_begin(g, &m, kinds[i].policy, k, k);
    kinds[i].set(g, &m);
    golden_ready(g, &m);
    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        if (g->trouble[0] == '\0') {
            kinds[i].step(g, &m, step, at++);
        }
    }
    golden_end(&m);
}
