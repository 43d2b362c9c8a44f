/* golden_skillit.c - replays traces of Skill-It: the online trainer, the static weights and the
 * sampler's counts.
 *
 * Online, a step of the trace is a round: the evaluations made during it, then the weights for the
 * next. The reference waits with the update for the round's end; the policy makes it with an
 * evaluation, so the last of a round is shown as of the round's last step. An evaluation with a
 * loss that is missing or not finite must leave the weights as they were. The reference has taken
 * it for a loss of 0, or has died of it: from there on weights need only be sound. So they need
 * where the reference overflows, but the two agree again when that has left the window. */
#include "daemon/core/policies.h"
#include "tests/core/golden.h"

#define LOSS_MAX 1e4

static double number_or(const cJSON *o, const char *key, double fallback)
{
    double v = fallback;

    if (cJSON_IsBool(golden_item(o, key))) {
        return cJSON_IsTrue(golden_item(o, key));
    }
    return golden_number(golden_item(o, key), &v) == 0 ? v : fallback;
}

/* ---- set up --------------------------------------------------------------------------------- */

/* Shape of a graph given as rows, or flat and square, or not at all. 0, or -1 if it is none. */
static int shape_of(const cJSON *graph, uint32_t *k, uint32_t *m)
{
    int n = cJSON_GetArraySize(graph), columns = cJSON_GetArraySize(cJSON_GetArrayItem(graph, 0));

    if (!cJSON_IsArray(graph)) {
        *m = *k;
        return *k > 0 && *k <= GOLDEN_K_MAX ? 0 : -1;
    }
    if (columns == 0) {
        for (columns = 1; columns * columns < n; columns++) {
        }
        n = columns * columns == n ? columns : -1;
    }
    *k = (uint32_t)n;
    *m = (uint32_t)columns;
    return n > 0 && n <= GOLDEN_K_MAX && columns > 0 && columns <= GOLDEN_K_MAX ? 0 : -1;
}

static double *numbers_of(struct golden *g, const cJSON *list, uint32_t n)
{
    double *ret;

    if (!cJSON_IsArray(list)) {
        return NULL;
    }
    ret = malloc(n * sizeof *ret);
    MX_REQUIRE(ret != NULL);
    if (golden_numbers(list, ret, (int)n) != (int)n) {
        golden_fail(g, "a list of params hasn't %u numbers", n);
    }
    return ret;
}

static double *graph_of(struct golden *g, const cJSON *graph, uint32_t k, uint32_t m)
{
    double *ret;

    if (!cJSON_IsArray(graph) || !cJSON_IsArray(cJSON_GetArrayItem(graph, 0))) {
        return numbers_of(g, graph, k * m);
    }
    ret = malloc((size_t)k * m * sizeof *ret);
    MX_REQUIRE(ret != NULL);
    for (uint32_t i = 0; i < k; i++) {
        if (golden_numbers(cJSON_GetArrayItem(graph, (int)i), ret + (size_t)i * m, (int)m) !=
            (int)m) {
            golden_fail(g, "row %u of the graph hasn't %u numbers", i, m);
        }
    }
    return ret;
}

/* A mask: "0" or "1", or numbers. */
static double *mask_of(struct golden *g, const cJSON *mask, uint32_t m)
{
    double *ret;

    if (!cJSON_IsArray(mask)) {
        return NULL;
    }
    ret = malloc(m * sizeof *ret);
    MX_REQUIRE(ret != NULL);
    for (uint32_t j = 0; j < m; j++) {
        const cJSON *e = cJSON_GetArrayItem(mask, (int)j);

        ret[j] = cJSON_IsString(e) ? strcmp(e->valuestring, "0") != 0
                                   : cJSON_IsNumber(e) && e->valuedouble != 0.0;
    }
    if (cJSON_GetArraySize(mask) != (int)m) {
        golden_fail(g, "target_mask hasn't %u members", m);
    }
    return ret;
}

static void put_table(struct golden_mixer *m, const char *name, double *table)
{
    const struct mx_policy_ops *ops = m->c.policy.ops;
    size_t at = 0;

    while (at < ops->n_tables && strcmp(ops->tables[at].name, name) != 0) {
        at++;
    }
    MX_REQUIRE(at < ops->n_tables && m->tables[at] == NULL);
    m->tables[at] = table;
}

static void set_online(struct golden *g, struct golden_mixer *m, uint32_t k, uint32_t members)
{
    static const char *const switches[] = {"eta_schedule", "normalize_loss", "initialize_loss",
                                           "dynamic_lambda"};
    const cJSON *prior = golden_item(g->params, "mw_prior");

    golden_param(g, m, "eta", number_or(g->params, "eta", NAN));
    golden_param(g, m, "window", number_or(g->params, "mw_window", 3.0));
    golden_param(g, m, "update_steps", number_or(g->params, "update_steps", 1.0));
    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        golden_param(g, m, switches[i], number_or(g->params, switches[i], 0.0));
    }
    if (number_or(g->params, "ignore_lone_nodes", 0.0) != 0.0) {
        golden_param(g, m, "lone_nodes", 2.0); /* reference */
    }
    put_table(m, "graph", graph_of(g, golden_item(g->params, "graph_given"), k, members));
    put_table(m, "targets", mask_of(g, golden_item(g->params, "target_mask"), members));
    put_table(m, "init", numbers_of(g, golden_item(g->params, "mw_init"), k));
    if (cJSON_IsArray(prior) && k == members) {
        put_table(m, "first_losses", numbers_of(g, prior, k)); /* as it stands, not normalised */
    }
}

/* ---- online --------------------------------------------------------------------------------- */

/* The member's sum over samples and their number; whether it is there at all. */
static int member_loss(const cJSON *eval, uint32_t j, struct mx_loss *ret)
{
    const cJSON *samples = golden_item(eval, "sample_losses"), *list, *e;
    char key[16];

    (void)snprintf(key, sizeof key, "%u", j);
    *ret = (struct mx_loss){.domain = j};
    if (samples == NULL) {
        ret->tokens = 1;
        return golden_number(cJSON_GetArrayItem(golden_item(eval, "mean_losses"), (int)j),
                             &ret->loss_sum) == 0;
    }
    list = golden_item(samples, key);
    cJSON_ArrayForEach(e, list) {
        double v = NAN;

        (void)golden_number(e, &v);
        ret->loss_sum += v;
        ret->tokens++;
    }
    return list != NULL;
}

/* Shows one evaluation as of step t. Whether it was whole. */
static int show(struct golden *g, struct golden_mixer *m, const cJSON *eval, uint64_t t)
{
    const struct mx_loss_bounds bounds = {LOSS_MAX, UINT32_MAX};
    struct mx_loss losses[GOLDEN_K_MAX], kept[GOLDEN_K_MAX];
    struct mx_domain_stats stats[GOLDEN_K_MAX];
    double before[GOLDEN_K_MAX];
    uint32_t n = 0, left, first, members = m->c.policy.m;

    for (uint32_t j = 0; j < members; j++) {
        n += (uint32_t)member_loss(eval, j, &losses[n]);
    }
    left = mx_loss_clean(losses, n, &bounds, kept, &first);
    for (uint32_t i = 0; i < left; i++) {
        stats[i] = (struct mx_domain_stats){kept[i].domain, kept[i].tokens, 0,
                                            kept[i].loss_sum / (double)kept[i].tokens};
    }
    memcpy(before, m->weights, m->c.policy.k * sizeof *before);
    golden_observe(m, &(struct mx_observation){.t = t, .eval = stats, .n_eval = left});
    if (left < members) {
        g->refused++;
        golden_kept(g, before, m->weights, m->c.policy.k, (int)t);
    }
    return left == members;
}

static int finite_list(const cJSON *list)
{
    const cJSON *e;
    double v;

    cJSON_ArrayForEach(e, list) {
        if (golden_number(e, &v) != 0 || !isfinite(v)) {
            return 0;
        }
    }
    return 1;
}

static void replay_round(struct golden *g, struct golden_mixer *m, const cJSON *step, int round,
                         int *parted)
{
    const cJSON *evals = golden_item(golden_item(step, "input"), "evals"), *eval;
    const cJSON *weights = golden_item(step, "weights");
    uint64_t last = (uint64_t)round * (uint64_t)number_or(g->params, "update_steps", 1.0);

    cJSON_ArrayForEach(eval, evals) {
        uint64_t t = eval->next == NULL ? last : (uint64_t)number_or(eval, "counter", 0.0) + 1;

        *parted |= !show(g, m, eval, t);
    }
    if (*parted || !finite_list(weights)) {
        golden_sound(g, m->weights, m->c.policy.k, round);
        g->steps++;
    } else {
        golden_compare(g, m->weights, m->c.policy.k, weights, GOLDEN_TOLERANCE, round);
    }
}

static void replay_online(struct golden *g)
{
    double given = number_or(g->params, "k", number_or(g->params, "K", 0.0));
    const cJSON *prior = golden_item(g->params, "mw_prior"), *step;
    uint32_t k = given > 0.0 && given <= GOLDEN_K_MAX ? (uint32_t)given : 0, members;
    struct golden_mixer m;
    int round = 0, parted = 0;

    if (shape_of(golden_item(g->params, "graph_given"), &k, &members) != 0) {
        golden_fail(g, "no graph and no k can be read");
        return;
    }
    for (uint32_t i = 0; i < k; i++) {
        m.prior[i] = 1.0;
    }
    if (cJSON_IsArray(prior) && golden_numbers(prior, m.prior, GOLDEN_K_MAX) != (int)k) {
        golden_fail(g, "mw_prior hasn't %u numbers", k);
    }
    golden_begin(g, &m, "skillit", k, members);
    if (g->trouble[0] == '\0') {
        set_online(g, &m, k, members);
    }
    golden_ready(g, &m);
    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        if (g->trouble[0] == '\0') {
            replay_round(g, &m, step, round++, &parted);
        }
    }
    golden_end(&m);
}

/* ---- static, and counts --------------------------------------------------------------------- */

static void replay_static(struct golden *g, const cJSON *step, int number)
{
    const cJSON *input = golden_item(step, "input"), *graph = golden_item(input, "graph");
    const cJSON *as = golden_item(input, "given_as");
    struct golden_mixer m;
    uint32_t k = 0, members;

    if (shape_of(graph, &k, &members) != 0) {
        golden_fail(g, "step %d: the graph can't be read", number);
        return;
    }
    for (uint32_t i = 0; i < k; i++) {
        m.prior[i] = 1.0;
    }
    golden_begin(g, &m, "skillit", k, members);
    golden_param(g, &m, "variant", 1.0);
    golden_param(g, &m, "eta", number_or(input, "eta", NAN));
    golden_param(g, &m, "force_diagonal",
                 cJSON_IsString(as) && strncmp(as->valuestring, "path", 4) == 0);
    if (g->trouble[0] == '\0') {
        put_table(&m, "graph", graph_of(g, graph, k, members));
        put_table(&m, "targets", mask_of(g, golden_item(input, "target_mask"), members));
    }
    golden_ready(g, &m);
    if (g->trouble[0] == '\0') {
        golden_compare(g, m.weights, k, golden_item(step, "weights"), GOLDEN_TOLERANCE, number);
    }
    golden_end(&m);
}

static void replay_counts(struct golden *g, const cJSON *step, int number)
{
    const cJSON *input = golden_item(step, "input"), *counts = golden_item(step, "counts");
    double weights[GOLDEN_K_MAX], want[GOLDEN_K_MAX];
    uint64_t ret[GOLDEN_K_MAX];
    int k = golden_numbers(golden_item(input, "weights"), weights, GOLDEN_K_MAX);
    double n = number_or(input, "n", -1.0);

    g->policy = "skillit (counts)";
    if (k <= 0 || n < 0.0 || golden_numbers(counts, want, GOLDEN_K_MAX) != k) {
        golden_fail(g, "step %d can't be read", number);
        return;
    }
    mx_skillit_counts(weights, (uint32_t)k, (uint64_t)n, ret);
    for (int i = 0; i < k; i++) {
        if ((double)ret[i] != want[i]) {
            golden_fail(g, "step %d: count %d is %llu, not %g", number, i,
                        (unsigned long long)ret[i], want[i]);
        }
    }
    g->steps++;
}

void golden_skillit(struct golden *g)
{
    const char *algorithm = golden_item(g->root, "algorithm")->valuestring;
    int is_static = strncmp(algorithm, "skill-it/static", 15) == 0, number = 0;
    const cJSON *step;

    if (!is_static && strncmp(algorithm, "skill-it sampler", 16) != 0) {
        replay_online(g);
        return;
    }
    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        (is_static ? replay_static : replay_counts)(g, step, number++);
    }
}
