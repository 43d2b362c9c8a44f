/* golden.c - replays golden traces against the policies.
 *
 * golden DIR|FILE...: one line per trace, and `N passed, N failed` at the end. Exit code 1 if one
 * failed or none was there. The file's `algorithm` says which family replays it; an algorithm that
 * no family knows has failed. What the traces are, and what is compared where the reference breaks
 * down: traces/README.md. */
#include "tests/core/golden.h"

#include <dirent.h>
#include <stdarg.h>

#define FILES_MAX 1024

struct tally {
    int passed, failed;
};

/* The first row that `algorithm` starts with. */
static const struct {
    const char *starts;
    void (*replay)(struct golden *g);
} families[] = {
    {"odm/", golden_odm},
    {"odm PAPER formula", golden_odm},
    {"aioli", golden_aioli},
    {"doremi/", golden_proxy},
    {"doge/", golden_proxy},
    {"dump/", golden_rewards},
    {"sec/", golden_rewards},
    {"exp3 (fms", golden_rewards},
    {"loss averaging", golden_rewards},
    {"multi-actor", golden_agents},
    {"skill-it", golden_skillit},
    {"llm-shearing", golden_shearing},
    {"ado", golden_ado},
};

/* ---- reading -------------------------------------------------------------------------------- */

const cJSON *golden_item(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

int golden_number(const cJSON *v, double *ret)
{
    if (cJSON_IsNumber(v)) {
        *ret = v->valuedouble;
    } else if (cJSON_IsString(v) && strcmp(v->valuestring, "NaN") == 0) {
        *ret = NAN;
    } else if (cJSON_IsString(v) && strcmp(v->valuestring, "Infinity") == 0) {
        *ret = INFINITY;
    } else if (cJSON_IsString(v) && strcmp(v->valuestring, "-Infinity") == 0) {
        *ret = -INFINITY;
    } else {
        return -1;
    }
    return 0;
}

int golden_numbers(const cJSON *v, double *ret, int cap)
{
    const cJSON *e;
    int n = 0;

    if (!cJSON_IsArray(v)) {
        return -1;
    }
    cJSON_ArrayForEach(e, v) {
        if (n == cap || golden_number(e, &ret[n]) != 0) {
            return -1;
        }
        n++;
    }
    return n;
}

void golden_fail(struct golden *g, const char *format, ...)
{
    va_list ap;

    if (g->trouble[0] == '\0') {
        va_start(ap, format);
        (void)vsnprintf(g->trouble, sizeof g->trouble, format, ap);
        va_end(ap);
    }
}

static cJSON *read_json(const char *path)
{
    FILE *f = fopen(path, "rb");
    cJSON *root = NULL;
    char *text;
    long n;

    if (f == NULL) {
        return NULL;
    }
    if (fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) > 0 && fseek(f, 0, SEEK_SET) == 0) {
        text = malloc((size_t)n);
        MX_REQUIRE(text != NULL);
        if (fread(text, 1, (size_t)n, f) == (size_t)n) {
            root = cJSON_ParseWithLength(text, (size_t)n);
        }
        free(text);
    }
    (void)fclose(f);
    return root;
}

/* ---- a policy with its guards --------------------------------------------------------------- */

void golden_begin(struct golden *g, struct golden_mixer *m, const char *name, uint32_t k,
                  uint32_t members)
{
    const struct mx_policy_ops *ops = mx_policy_find(name);
    double sum = 0.0;

    g->policy = name;
    m->c = (struct mx_mixer_conf){.policy = {.k = k, .m = members}};
    memset(m->tables, 0, sizeof m->tables);
    m->state = m->scratch = NULL;
    if (ops == NULL || k == 0 || k > GOLDEN_K_MAX || ops->n_params > GOLDEN_PARAMS_MAX) {
        golden_fail(g, "no policy %s for %u domains", name, k);
        return;
    }
    m->c.policy.ops = ops;
    m->c.policy.prior = m->prior;
    m->c.policy.params = m->params;
    m->c.guards = mx_guards_none(ops);
    for (size_t i = 0; i < ops->n_params; i++) {
        m->params[i] = ops->params[i].fallback;
    }
    for (uint32_t i = 0; i < k; i++) {
        sum += m->prior[i];
    }
    for (uint32_t i = 0; i < k; i++) {
        m->prior[i] /= sum;
        if (!(m->prior[i] >= 0.0)) {
            golden_fail(g, "initial weight %u is %.17g of %.17g", i, m->prior[i], sum);
        }
    }
}

void golden_param(struct golden *g, struct golden_mixer *m, const char *name, double value)
{
    const struct mx_policy_ops *ops = m->c.policy.ops;

    for (size_t i = 0; ops != NULL && i < ops->n_params; i++) {
        const struct mx_policy_param *p = &ops->params[i];
        int bounded = p->kind == MX_PARAM_NUMBER || p->kind == MX_PARAM_INTEGER;

        if (strcmp(p->name, name) == 0) {
            if (isnan(value) || (bounded && (value < p->min || value > p->max))) {
                golden_fail(g, "%s is %.17g, outside [%g, %g]", name, value, p->min, p->max);
            }
            m->params[i] = value;
            return;
        }
    }
    golden_fail(g, "%s has no param %s", g->policy, name);
}

void golden_ready(struct golden *g, struct golden_mixer *m)
{
    struct mx_policy_conf *p = &m->c.policy;
    char text[160];
    const char *clash;

    if (g->trouble[0] != '\0') {
        return;
    }
    for (size_t i = 0; i < p->ops->n_tables; i++) {
        p->tables[i] = m->tables[i];
        if (p->ops->tables[i].required && m->tables[i] == NULL) {
            golden_fail(g, "%s needs a table %s", g->policy, p->ops->tables[i].name);
            return;
        }
    }
    clash = p->ops->check != NULL ? p->ops->check(p, text, sizeof text) : NULL;
    if (clash != NULL) {
        golden_fail(g, "%s", clash);
        return;
    }
    m->state = malloc(mx_mixer_size(&m->c) * sizeof *m->state);
    m->scratch = malloc(mx_mixer_scratch(&m->c) * sizeof *m->scratch);
    MX_REQUIRE(m->state != NULL && m->scratch != NULL);
    mx_mixer_init(m->state, &m->c);
    m->weights = mx_mixer_weights(m->state);
}

void golden_observe(struct golden_mixer *m, const struct mx_observation *o)
{
    (void)mx_mixer_observe(m->state, &m->c, o, 0, m->scratch);
}

void golden_end(struct golden_mixer *m)
{
    for (size_t i = 0; i < MX_POLICY_TABLES_MAX; i++) {
        free(m->tables[i]);
        m->tables[i] = NULL;
    }
    free(m->state);
    free(m->scratch);
    m->state = m->scratch = NULL;
}

/* ---- comparing ------------------------------------------------------------------------------ */

void golden_compare(struct golden *g, const double *weights, uint32_t n, const cJSON *expected,
                    double tolerance, int step)
{
    double want[GOLDEN_K_MAX];

    g->steps++;
    if (golden_numbers(expected, want, GOLDEN_K_MAX) != (int)n) {
        golden_fail(g, "step %d: no %u weights to compare with", step, n);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        /* a small weight has a long logarithm, of which single precision keeps 7 digits */
        double least = tolerance >= GOLDEN_TOLERANCE_SINGLE ? 1e-4 : 1e-300;
        double error = fabs(weights[i] - want[i]) / fmax(fabs(want[i]), least);

        g->error = fmax(g->error, error);
        if (!(error <= tolerance)) {
            golden_fail(g, "step %d: weight %u is %.17g, not %.17g", step, i, weights[i], want[i]);
        }
    }
    golden_sound(g, weights, n, step);
}

void golden_sound(struct golden *g, const double *weights, uint32_t n, int step)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < n; i++) {
        sum += weights[i];
        if (!(weights[i] >= 0.0 && weights[i] <= 1.0 + GOLDEN_TOLERANCE)) {
            golden_fail(g, "step %d: weight %u is %.17g", step, i, weights[i]);
        }
    }
    if (!(fabs(sum - 1.0) <= GOLDEN_TOLERANCE)) {
        golden_fail(g, "step %d: weights sum to %.17g", step, sum);
    }
}

void golden_kept(struct golden *g, const double *before, const double *weights, uint32_t n,
                 int step)
{
    if (memcmp(before, weights, n * sizeof *before) != 0) {
        golden_fail(g, "step %d: refused, but weights moved", step);
    }
}

/* ---- files ---------------------------------------------------------------------------------- */

static void replay_file(const char *path, struct tally *tally)
{
    cJSON *root = read_json(path);
    const cJSON *algorithm = golden_item(root, "algorithm");
    struct golden g = {.root = root, .params = golden_item(root, "params"), .policy = "none"};
    const char *name = cJSON_IsString(algorithm) ? algorithm->valuestring : NULL;
    size_t at = 0, n = sizeof families / sizeof families[0];

    while (name != NULL && at < n &&
           strncmp(name, families[at].starts, strlen(families[at].starts)) != 0) {
        at++;
    }
    if (name == NULL) {
        golden_fail(&g, "not a trace");
    } else if (at == n) {
        golden_fail(&g, "algorithm not known: %s", name);
    } else {
        families[at].replay(&g);
    }
    if (g.steps == 0) {
        golden_fail(&g, "no step of it was compared");
    }
    printf("%s: %s: %s, %d steps, max error %.2g, %d refused%s%s\n", path,
           g.trouble[0] == '\0' ? "passed" : "failed", g.policy, g.steps, g.error, g.refused,
           g.trouble[0] == '\0' ? "" : "; ", g.trouble);
    tally->passed += g.trouble[0] == '\0';
    tally->failed += g.trouble[0] != '\0';
    cJSON_Delete(root);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Whether path is a directory; then its traces have been replayed in the order of their names. */
static int replay_dir(const char *path, struct tally *tally)
{
    DIR *dir = opendir(path);
    const struct dirent *e;
    char *names[FILES_MAX];
    size_t n = 0;

    if (dir == NULL) {
        return 0;
    }
    while ((e = readdir(dir)) != NULL) {
        size_t length = strlen(e->d_name);

        if (length > 5 && strcmp(e->d_name + length - 5, ".json") == 0) {
            MX_REQUIRE(n < FILES_MAX && asprintf(&names[n], "%s/%s", path, e->d_name) > 0);
            n++;
        }
    }
    (void)closedir(dir);
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        replay_file(names[i], tally);
        free(names[i]);
    }
    return 1;
}

int main(int argc, char **argv)
{
    struct tally tally = {0, 0};

    if (argc < 2) {
        fprintf(stderr, "usage: golden DIR|FILE...\n");
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        if (!replay_dir(argv[i], &tally)) {
            replay_file(argv[i], &tally);
        }
    }
    printf("%d passed, %d failed\n", tally.passed, tally.failed);
    return tally.failed > 0 || tally.passed == 0;
}
