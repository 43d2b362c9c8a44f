/* golden_ado.c - replays traces of ADO: the authors' selector, Mixtera's, and the tables of the
 * authors' objective and floor.
 *
 * A trace's laws are put in at the step that fitted them, as what its fit has come to; where there
 * are losses enough, the policy's own fit is made beside it, and must reach an objective as low as
 * the recorded laws have on the same points. The weights are then those of the recorded laws. What
 * the file says decides: which of both codes, its parameters, which steps have weights. */
#include "daemon/core/policies.h"
#include "daemon/core/scaling_fit.h"
#include "tests/core/golden.h"

/* Of a weight: the authors' are made of laws' exponentials in single precision. */
#define TOLERANCE_ADO 1e-7
/* The smoothed losses of their single-precision means. */
#define TOLERANCE_POINTS 1e-6
#define ROWS_MAX 1024
#define TABLE_MAX 1024

struct replay {
    struct golden_mixer m;
    const struct mx_policy_conf *p;
    double *state; /* the policy's, last in the mixer's block */
    int active;    /* whether recorded laws were taken */
};

/* ---- parameters ----------------------------------------------------------------------------- */

static void set_params(struct golden *g, struct golden_mixer *m)
{
    static const struct {
        const char *theirs, *ours;
    } same[] = {
        {"gamma1", "gamma1"},
        {"gamma2", "gamma2"},
        {"s", "s"},
        {"min_prob", "min_prob"},
        {"delta_min", "min_prob"},
        {"min_alpha", "min_alpha"},
        {"start_step", "start_step"},
        {"ignore_steps", "ignore_steps"},
        {"ignore_initial_steps", "ignore_steps"},
        {"update_interval", "update_interval"},
        {"scaling_law_update_interval", "update_interval"},
        {"subsampling_interval", "stride"},
        {"use_same_step_size", "same_step_size"},
        {"count_normalizer", "tokens_per_sample"},
    };

    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        const cJSON *v = golden_item(g->params, same[i].theirs);

        if (cJSON_IsBool(v)) {
            golden_param(g, m, same[i].ours, cJSON_IsTrue(v));
        } else if (cJSON_IsNumber(v)) {
            golden_param(g, m, same[i].ours, v->valuedouble);
        } else if (cJSON_IsNull(v) && strcmp(same[i].theirs, "count_normalizer") == 0) {
            golden_param(g, m, same[i].ours, 1.0);
        }
    }
}

/* "... variant adjusted_v1)" */
static void set_variant(struct golden *g, struct golden_mixer *m, const char *algorithm)
{
    static const char *const names[] = {"vanilla", "adjusted_v1", "adjusted_v2", "adjusted_v3"};
    const char *at = strstr(algorithm, "variant ");

    for (int i = 0; at != NULL && i < 4; i++) {
        if (strncmp(at + 8, names[i], strlen(names[i])) == 0) {
            golden_param(g, m, "variant", 1.0);
            golden_param(g, m, "adjusted", i);
            return;
        }
    }
    golden_fail(g, "no such variant");
}

/* ---- steps ---------------------------------------------------------------------------------- */

static int add_samples(uint32_t k, const cJSON *ids, const cJSON *losses,
                       struct mx_domain_stats *all)
{
    const cJSON *id = ids->child, *loss = losses->child;

    for (; id != NULL && loss != NULL; id = id->next, loss = loss->next) {
        struct mx_domain_stats *s;
        double v;

        if (cJSON_IsArray(id) && cJSON_IsArray(loss)) { /* of one micro-batch */
            if (add_samples(k, id, loss, all) != 0) {
                return -1;
            }
            continue;
        }
        if (!cJSON_IsNumber(id) || id->valueint < 0 || id->valueint >= (int)k ||
            golden_number(loss, &v) != 0) {
            return -1;
        }
        s = &all[id->valueint];
        s->loss += v;
        s->samples++;
        s->tokens++;
    }
    return id == NULL && loss == NULL ? 0 : -1;
}

/* What a trainer would report: single samples, or Mixtera's sums over tokens. How many, or -1. */
static int stats_of(uint32_t k, const cJSON *input, struct mx_domain_stats *ret)
{
    const cJSON *ids = golden_item(input, "task_ids"), *losses = golden_item(input, "losses");
    struct mx_domain_stats all[GOLDEN_K_MAX] = {{0}};
    double sums[GOLDEN_K_MAX], tokens[GOLDEN_K_MAX];
    int n = 0;

    if (cJSON_IsArray(ids) && cJSON_IsArray(losses)) {
        if (add_samples(k, ids, losses, all) != 0) {
            return -1;
        }
    } else if (golden_numbers(golden_item(input, "loss_sums"), sums, GOLDEN_K_MAX) == (int)k &&
               golden_numbers(golden_item(input, "token_counts"), tokens, GOLDEN_K_MAX) == (int)k) {
        for (uint32_t i = 0; i < k; i++) {
            all[i].loss = sums[i];
            all[i].tokens = tokens[i] > 0.0 ? (uint64_t)tokens[i] : 0;
        }
    } else {
        return -1;
    }
    for (uint32_t i = 0; i < k; i++) {
        if (all[i].tokens > 0) {
            ret[n] = all[i];
            ret[n].domain = i;
            ret[n++].loss /= (double)all[i].tokens;
        }
    }
    return n;
}

/* The points that the trace recorded for a fit of the domain in this step, where it did. */
static void compare_points(struct golden *g, int row, uint32_t domain, const double *x,
                           const double *y, size_t n)
{
    const cJSON *fit;

    cJSON_ArrayForEach(fit, golden_item(g->root, "fits")) {
        const cJSON *at = golden_item(fit, "at_row"), *of = golden_item(fit, "domain");
        double fx[ROWS_MAX], fy[ROWS_MAX];

        if (!cJSON_IsNumber(at) || at->valueint != row || !cJSON_IsNumber(of) ||
            of->valueint != (int)domain) {
            continue;
        }
        if (golden_numbers(golden_item(fit, "x"), fx, ROWS_MAX) != (int)n ||
            golden_numbers(golden_item(fit, "y"), fy, ROWS_MAX) != (int)n) {
            golden_fail(g, "row %d, domain %u: a fit has %zu points", row, domain, n);
            return;
        }
        for (size_t i = 0; i < n; i++) {
            if (x[i] != fx[i] || !(fabs(y[i] - fy[i]) <= TOLERANCE_POINTS * fabs(fy[i]))) {
                golden_fail(g, "row %d, domain %u: point %zu is %.17g, %.17g, not %.17g, %.17g",
                            row, domain, i, x[i], y[i], fx[i], fy[i]);
            }
        }
    }
}

/* The policy's own fit, into result. */
static void fit_ourselves(struct replay *r, double *result)
{
    const struct mx_policy_ops *ops = r->p->ops;
    double *scratch = malloc(ops->work_scratch(r->p) * sizeof *scratch);

    MX_REQUIRE(scratch != NULL && ops->work_size(r->p) <= 4 * GOLDEN_K_MAX);
    ops->work(r->state, r->p, result, scratch);
    free(scratch);
}

/* The policy's own fit against the recorded laws (k x 3), where there are points. */
static void compare_fit(struct golden *g, struct replay *r, const double *laws, int step)
{
    const struct mx_fit_options *o = strstr(golden_item(g->root, "algorithm")->valuestring,
                                            "mixtera") != NULL ? &mx_fit_mixtera : &mx_fit_ado;
    double result[4 * GOLDEN_K_MAX], x[ROWS_MAX], y[ROWS_MAX];

    fit_ourselves(r, result);
    for (uint32_t i = 0; i < r->p->k; i++) {
        const double *ours = result + 4 * (size_t)i, *theirs = laws + 3 * (size_t)i;
        size_t n = mx_ado_points(r->state, r->p, i, x, y);
        double reached, recorded;

        compare_points(g, step, i, x, y, n);
        if (ours[0] == 0.0 || !isfinite(theirs[0] + theirs[1] + theirs[2])) {
            continue;
        }
        reached = mx_scaling_objective(
            o, &(struct mx_scaling_law){ours[1], ours[2], ours[3], 0.0}, x, y, n, NULL);
        recorded = mx_scaling_objective(
            o, &(struct mx_scaling_law){theirs[0], theirs[1], theirs[2], 0.0}, x, y, n, NULL);
        if (!(reached <= recorded + 1e-15)) {
            golden_fail(g, "step %d: domain %u is fitted to %.17g, recorded is %.17g", step, i,
                        reached, recorded);
        }
    }
}

/* The laws that the trace has for a step. */
static void take_recorded(struct golden *g, struct replay *r, const cJSON *recorded, int step)
{
    double laws[3 * GOLDEN_K_MAX], result[4 * GOLDEN_K_MAX];
    uint32_t i = 0, k = r->p->k;
    const cJSON *law;
    int finite = 1;

    cJSON_ArrayForEach(law, recorded) {
        if (i == k || golden_numbers(law, laws + 3 * (size_t)i, 3) != 3) {
            golden_fail(g, "step %d: its laws can't be read", step);
            return;
        }
        result[4 * (size_t)i] = 1.0;
        memcpy(result + 4 * (size_t)i + 1, laws + 3 * (size_t)i, 3 * sizeof *laws);
        for (int j = 0; j < 3; j++) {
            finite = finite && isfinite(laws[3 * i + (uint32_t)j]);
        }
        i++;
    }
    if (i != k) {
        golden_fail(g, "step %d: %u laws of %u domains", step, i, k);
        return;
    }
    compare_fit(g, r, laws, step);
    (void)mx_mixer_worked(r->m.state, &r->m.c, result, r->m.scratch);
    r->active |= finite;
    g->refused += !finite;
}

/* Whether the reference has no weights for the step: it raised, or they are no numbers. */
static int is_broken(const cJSON *weights)
{
    const cJSON *e;
    double v;

    cJSON_ArrayForEach(e, weights) {
        if (golden_number(e, &v) == 0 && !isfinite(v)) {
            return 1;
        }
    }
    return cJSON_GetArraySize(weights) == 0;
}

static void replay_step(struct golden *g, struct replay *r, const cJSON *step)
{
    const cJSON *input = golden_item(step, "input"), *at = golden_item(input, "iteration");
    const cJSON *laws = golden_item(step, "fit_params"), *weights = golden_item(step, "weights");
    const cJSON *version = golden_item(input, "mixture_id");
    struct mx_domain_stats stats[GOLDEN_K_MAX];
    double before[GOLDEN_K_MAX], result[4 * GOLDEN_K_MAX];
    int n = stats_of(r->p->k, input, stats), t;
    uint32_t k = r->p->k;

    at = at != NULL ? at : golden_item(input, "step");
    if (n < 0 || !cJSON_IsNumber(at)) {
        golden_fail(g, "a step can't be read");
        return;
    }
    t = at->valueint + (golden_item(input, "iteration") != NULL); /* the authors' begin with 0 */
    memcpy(before, r->m.weights, k * sizeof *before);
    golden_observe(&r->m, &(struct mx_observation){
        .t = (uint64_t)t, .train = stats, .n_train = (uint32_t)n,
        .mix_version = cJSON_IsNumber(version) ? (uint64_t)version->valueint + 1 : 0});
    if (mx_mixer_wants_work(r->m.state, &r->m.c) && laws == NULL) {
        fit_ourselves(r, result);
        (void)mx_mixer_worked(r->m.state, &r->m.c, result, r->m.scratch);
        r->active = 1;
    } else if (laws != NULL && mx_mixer_wants_work(r->m.state, &r->m.c)) {
        take_recorded(g, r, laws, t);
    } else if (laws != NULL) {
        golden_fail(g, "step %d: laws, but no fit is asked for", t);
    }
    if (cJSON_IsNull(weights)) {
        golden_kept(g, before, r->m.weights, k, t);
        g->steps++;
    } else if (is_broken(weights)) {
        golden_sound(g, r->m.weights, k, t);
        g->refused++;
    } else {
        golden_compare(g, r->m.weights, k, weights,
                       version != NULL ? GOLDEN_TOLERANCE_SINGLE
                       : r->active     ? TOLERANCE_ADO
                                       : GOLDEN_TOLERANCE, t);
    }
}

/* ---- tables --------------------------------------------------------------------------------- */

static void check_objective(struct golden *g, const cJSON *step, int at)
{
    const cJSON *input = golden_item(step, "input");
    double v[3], x[TABLE_MAX], y[TABLE_MAX], expected, got, error;
    int n = golden_numbers(golden_item(input, "D"), x, TABLE_MAX);

    if (n <= 0 || golden_numbers(golden_item(input, "L"), y, TABLE_MAX) != n ||
        golden_numbers(golden_item(input, "params"), v, 3) != 3 ||
        golden_number(golden_item(step, "objective"), &expected) != 0) {
        golden_fail(g, "row %d can't be read", at);
        return;
    }
    got = mx_scaling_objective(&mx_fit_ado, &(struct mx_scaling_law){v[0], v[1], v[2], 0.0}, x, y,
                               (size_t)n, NULL);
    error = fabs(got - expected) / fmax(fabs(expected), 1e-300);
    g->error = fmax(g->error, error);
    g->steps++;
    if (!(error <= GOLDEN_TOLERANCE)) {
        golden_fail(g, "row %d: the objective is %.17g, not %.17g", at, got, expected);
    }
}

static void check_clip(struct golden *g, const cJSON *step, int at)
{
    const cJSON *input = golden_item(step, "input");
    double p[TABLE_MAX], expected[TABLE_MAX], min_prob;
    int n = golden_numbers(golden_item(input, "probs"), p, TABLE_MAX);

    if (n <= 0 || golden_number(golden_item(input, "min_prob"), &min_prob) != 0 ||
        golden_numbers(golden_item(step, "clip_min_probability"), expected, TABLE_MAX) != n) {
        golden_fail(g, "row %d can't be read", at);
        return;
    }
    mx_ado_clip(p, (uint32_t)n, min_prob);
    g->steps++;
    for (int i = 0; i < n; i++) {
        double error = fabs(p[i] - expected[i]) / fmax(fabs(expected[i]), 1e-300);

        g->error = fmax(g->error, error);
        if (!(error <= GOLDEN_TOLERANCE)) {
            golden_fail(g, "row %d: share %d is %.17g, not %.17g", at, i, p[i], expected[i]);
        }
    }
}

/* Whether the file is one of tables. */
static int check_tables(struct golden *g)
{
    const cJSON *step;
    int at = 0;

    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        if (golden_item(step, "objective") != NULL) {
            check_objective(g, step, at);
        } else if (golden_item(step, "clip_min_probability") != NULL) {
            check_clip(g, step, at);
        } else {
            return 0;
        }
        at++;
    }
    g->policy = "ado (tables)";
    return at > 0;
}

/* ---- files ---------------------------------------------------------------------------------- */

void golden_ado(struct golden *g)
{
    const char *algorithm = golden_item(g->root, "algorithm")->valuestring;
    const cJSON *prior = golden_item(g->params, "prior"), *step;
    int mixtera = prior == NULL, k;
    struct replay r = {.active = 0};

    if (check_tables(g)) {
        return;
    }
    k = golden_numbers(mixtera ? golden_item(g->params, "initial_weights") : prior, r.m.prior,
                       GOLDEN_K_MAX);
    if (k <= 0) {
        golden_fail(g, "no prior and no initial_weights");
        return;
    }
    golden_begin(g, &r.m, "ado", (uint32_t)k, (uint32_t)k);
    for (int i = 0; mixtera && i < k; i++) {
        (void)golden_number(cJSON_GetArrayItem(golden_item(g->params, "initial_weights"), i),
                            &r.m.prior[i]);
        r.m.prior[i] = (double)(float)r.m.prior[i]; /* as its service has them */
    }
    set_params(g, &r.m);
    if (mixtera) {
        set_variant(g, &r.m, algorithm);
    }
    golden_ready(g, &r.m);
    if (g->trouble[0] == '\0') {
        r.p = &r.m.c.policy;
        r.state = r.m.state + mx_mixer_size(&r.m.c) - r.p->ops->state_size(r.p);
    }
    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        if (g->trouble[0] == '\0') {
            replay_step(g, &r, step);
        }
    }
    golden_end(&r.m);
}
