/* golden.c - replays golden traces against the policies.
 *
 * golden DIR|FILE...: one line per trace, and `N passed, N failed` at the end. Exit code 1 if one
 * failed or none was there. Policy and parameters are chosen from each file's own fields. What the
 * traces are, and what is compared where the reference breaks down: traces/README.md. */
#include "daemon/core/feedback.h"
#include "daemon/core/policy.h"
#include "proto/err.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 1e-12
#define K_MAX 64
#define STATE_MAX 1024
#define PARAMS_MAX 16
#define FILES_MAX 256
/* exp() of more is infinite: where the authors' code raises an error. */
#define LOSS_MAX 709.0

struct tally {
    int passed, failed;
};

/* ---- reading -------------------------------------------------------------------------------- */

static const cJSON *item(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

/* A number, or one of the strings that stand for numbers that JSON lacks. */
static int number(const cJSON *v, double *ret)
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

/* ---- which policy --------------------------------------------------------------------------- */

static const struct mx_policy_ops *policy_for(const char *algorithm)
{
    static const struct {
        const char *starts, *policy;
    } table[] = {
        {"odm/smoothed_mean.group_update", "odm"}, {"odm/smoothed_mean.update", "odm-single"},
        {"odm/exp3.group_update", "exp3"},         {"odm/ema.update", "ema"},
        {"odm/naive_validation.update", "naive-validation"},
        {"odm PAPER formula", "odm-paper"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strncmp(algorithm, table[i].starts, strlen(table[i].starts)) == 0) {
            return mx_policy_find(table[i].policy);
        }
    }
    return NULL;
}

/* The trace's parameters by the policy's names; the authors' code calls alpha smoothing_factor. */
static void params_for(const struct mx_policy_ops *policy, const cJSON *from, double *params)
{
    for (size_t i = 0; i < policy->n_params; i++) {
        const struct mx_policy_param *p = &policy->params[i];
        const cJSON *v = item(from, p->name);

        if (v == NULL && strcmp(p->name, "alpha") == 0) {
            v = item(from, "smoothing_factor");
        }
        params[i] = cJSON_IsNumber(v) ? v->valuedouble : p->fallback;
        MX_REQUIRE(params[i] >= p->min && params[i] <= p->max);
    }
}

/* ---- replaying ------------------------------------------------------------------------------ */

struct replay {
    const struct mx_policy_ops *policy;
    double params[PARAMS_MAX], state[STATE_MAX], weights[K_MAX];
    uint32_t k;
    int diverged;      /* the guard kept back a loss that the reference took */
    int kept_back;     /* losses */
    double error;      /* the largest, relative */
    char trouble[200]; /* "" while all is well */
};

static int start(struct replay *r, const cJSON *root)
{
    const cJSON *params = item(root, "params"), *w = item(params, "initial_weights"), *e;
    double prior[K_MAX], sum = 0.0;

    r->k = 0;
    cJSON_ArrayForEach(e, w) {
        if (r->k == K_MAX || number(e, &prior[r->k]) != 0) {
            return -1;
        }
        sum += prior[r->k++];
    }
    if (r->k == 0 || r->policy->n_params > PARAMS_MAX || r->policy->state_size(r->k) > STATE_MAX) {
        return -1;
    }
    for (uint32_t i = 0; i < r->k; i++) {
        prior[i] /= sum;
    }
    params_for(r->policy, params, r->params);
    r->policy->init(r->state, r->k, prior, r->params);
    r->policy->weights(r->state, r->k, r->weights);
    return 0;
}

/* A step's losses in any of the three forms that traces have. How many, or -1. */
static int losses_of(const struct replay *r, const cJSON *input, struct mx_loss *ret)
{
    const cJSON *map = item(input, "losses"), *all = item(input, "val_losses"), *e;
    int n = 0;

    if (item(input, "domain") != NULL) {
        ret[0] = (struct mx_loss){.domain = (uint32_t)item(input, "domain")->valueint, .tokens = 1};
        return number(item(input, "loss"), &ret[0].loss_sum) == 0 && ret[0].domain < r->k ? 1 : -1;
    }
    for (uint32_t i = 0; i < r->k; i++) {
        char key[16];

        (void)snprintf(key, sizeof key, "%u", i);
        e = map != NULL ? item(map, key) : cJSON_GetArrayItem(all, (int)i);
        if (e != NULL) {
            ret[n] = (struct mx_loss){.domain = i, .tokens = 1};
            if (number(e, &ret[n++].loss_sum) != 0) {
                return -1;
            }
        }
    }
    return n;
}

/* Weights at their places must be the trace's, or, where the reference has broken down, sane. */
static void compare(struct replay *r, const cJSON *expected, int step)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < r->k; i++) {
        double want, error;

        sum += r->weights[i];
        if (!(r->weights[i] >= 0.0 && r->weights[i] <= 1.0)) {
            (void)snprintf(r->trouble, sizeof r->trouble, "step %d: weight %u is %.17g", step, i,
                           r->weights[i]);
            return;
        }
        if (r->diverged) {
            continue;
        }
        if (number(cJSON_GetArrayItem(expected, (int)i), &want) != 0) {
            (void)snprintf(r->trouble, sizeof r->trouble, "step %d: no weight %u", step, i);
            return;
        }
        error = fabs(r->weights[i] - want) / fmax(fabs(want), 1e-300);
        r->error = fmax(r->error, error);
        if (!(error <= TOLERANCE)) {
            (void)snprintf(r->trouble, sizeof r->trouble, "step %d: weight %u is %.17g, not %.17g",
                           step, i, r->weights[i], want);
            return;
        }
    }
    if (fabs(sum - 1.0) > TOLERANCE) {
        (void)snprintf(r->trouble, sizeof r->trouble, "step %d: weights sum to %.17g", step, sum);
    }
}

static void replay_step(struct replay *r, const cJSON *step)
{
    const struct mx_loss_bounds bounds = {LOSS_MAX, 1};
    const cJSON *input = item(step, "input"), *at = item(input, "iteration");
    struct mx_loss losses[K_MAX], kept[K_MAX];
    struct mx_domain_stats stats[K_MAX];
    double before[K_MAX];
    int n = losses_of(r, input, losses), t;
    uint32_t left, first;

    at = at != NULL ? at : item(input, "step");
    if (n < 0 || !cJSON_IsNumber(at)) {
        (void)snprintf(r->trouble, sizeof r->trouble, "a step can't be read");
        return;
    }
    t = at->valueint;
    left = mx_loss_clean(losses, (uint32_t)n, &bounds, kept, &first);
    r->kept_back += n - (int)left;
    r->diverged |= left < (uint32_t)n && item(step, "error") == NULL;
    memcpy(before, r->weights, sizeof before);
    if (left > 0 || n == 0) { /* as a run does: what is quarantined whole is not shown */
        for (uint32_t i = 0; i < left; i++) {
            stats[i] = (struct mx_domain_stats){kept[i].domain, 1, 0, kept[i].loss_sum};
        }
        r->policy->on_train(r->state, r->k, r->params, (uint64_t)t, stats, left);
    }
    r->policy->weights(r->state, r->k, r->weights);
    compare(r, item(step, "weights"), t);
    if (left == 0 && n > 0 && memcmp(before, r->weights, r->k * sizeof *before) != 0) {
        (void)snprintf(r->trouble, sizeof r->trouble, "step %d: quarantined, but weights moved", t);
    }
}

static void replay_file(const char *path, struct tally *tally)
{
    cJSON *root = read_json(path);
    const cJSON *algorithm = item(root, "algorithm"), *step;
    struct replay r = {0};
    int steps = 0;

    if (root == NULL || !cJSON_IsString(algorithm)) {
        printf("%s: failed: not a trace\n", path);
        tally->failed++;
        cJSON_Delete(root);
        return;
    }
    r.policy = policy_for(algorithm->valuestring);
    if (r.policy == NULL) {
        printf("%s: skipped: algorithm not known: %s\n", path, algorithm->valuestring);
        cJSON_Delete(root);
        return;
    }
    if (start(&r, root) != 0) {
        (void)snprintf(r.trouble, sizeof r.trouble, "its params can't be read");
    }
    cJSON_ArrayForEach(step, item(root, "steps")) {
        if (r.trouble[0] == '\0') {
            replay_step(&r, step);
            steps++;
        }
    }
    if (r.trouble[0] == '\0' && steps == 0) {
        (void)snprintf(r.trouble, sizeof r.trouble, "it has no steps");
    }
    printf("%s: %s: %s, %d steps, max error %.2g, %d losses quarantined%s%s\n", path,
           r.trouble[0] == '\0' ? "passed" : "failed", r.policy->name, steps, r.error, r.kept_back,
           r.trouble[0] == '\0' ? "" : "; ", r.trouble);
    tally->passed += r.trouble[0] == '\0';
    tally->failed += r.trouble[0] != '\0';
    cJSON_Delete(root);
}

/* ---- files ---------------------------------------------------------------------------------- */

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
