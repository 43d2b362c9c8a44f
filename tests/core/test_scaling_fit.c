/* test_scaling_fit.c - the history of losses, its filter, and the scaling law fitted to it: against
 * what ADO's authors' code and Mixtera's made of the same losses (traces), and against slow forms.
 * Its argument is the directory of the traces. */
#include "tests/core/check.h"

#include "daemon/core/loss_history.h"
#include "daemon/core/savgol.h"
#include "daemon/core/scaling_fit.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <time.h>

#define K 3 /* of the traces */
#define ROWS_MAX 512

static const char *traces;

static const struct mx_loss_options ADO = {ROWS_MAX, MX_SAVGOL_WINDOW, 10, 50, 0};

/* ---- traces --------------------------------------------------------------------------------- */

static cJSON *trace(const char *name)
{
    char path[4096];
    cJSON *root;
    char *text;
    long n;
    FILE *f;

    assert_true((size_t)snprintf(path, sizeof path, "%s/%s", traces, name) < sizeof path);
    f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    n = ftell(f);
    assert_true(n > 0 && fseek(f, 0, SEEK_SET) == 0);
    text = test_get((size_t)n, 1);
    assert_int_equal(fread(text, 1, (size_t)n, f), (size_t)n);
    assert_int_equal(fclose(f), 0);
    root = cJSON_ParseWithLength(text, (size_t)n);
    assert_non_null(root);
    free(text);
    return root;
}

static const cJSON *item(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

    assert_non_null(v);
    return v;
}

static size_t numbers(const cJSON *array, double *ret, size_t max)
{
    const cJSON *e;
    size_t n = 0;

    cJSON_ArrayForEach(e, array) {
        assert_true(cJSON_IsNumber(e) && n < max);
        ret[n++] = e->valuedouble;
    }
    return n;
}

static struct mx_scaling_law law_of(const cJSON *params)
{
    double v[3];

    assert_int_equal(numbers(params, v, 3), 3);
    return (struct mx_scaling_law){v[0], v[1], v[2], 0.0};
}

static void close_to(double got, double expected, double tolerance)
{
    if (!(fabs(got - expected) <= tolerance * fabs(expected))) {
        fail_msg("%.17g, expected %.17g within %g of it", got, expected, tolerance);
    }
}

/* ---- the filter ----------------------------------------------------------------------------- */

static void a_cubic_passes_unchanged(void **state)
{
    static const size_t WINDOWS[] = {1, 5, 7, 51, 101};
    double y[150], out[150];

    (void)state;
    for (size_t i = 0; i < 150; i++) {
        double t = ((double)i - 70.0) / 40.0;

        y[i] = 2.0 - t + 0.5 * t * t + 0.25 * t * t * t;
    }
    for (size_t w = 0; w < sizeof WINDOWS / sizeof WINDOWS[0]; w++) {
        mx_savgol_filter(y, 150, WINDOWS[w], out);
        for (size_t i = 0; i < 150; i++) {
            assert_true(fabs(out[i] - y[i]) < 1e-12);
        }
    }
    assert_false(mx_savgol_window_ok(0) || mx_savgol_window_ok(3) || mx_savgol_window_ok(100));
    assert_false(mx_savgol_window_ok(MX_SAVGOL_WINDOW + 2));
}

/* The cubic by Gauss' elimination of the normal equations, in long doubles. */
static double slow_cubic(const double *y, size_t window, size_t at)
{
    long double m[4][5] = {{0}}, t, sum = 0;

    for (size_t i = 0; i < window; i++) {
        long double power[4] = {1};

        t = ((long double)i - (long double)(window / 2)) / (long double)window;
        for (size_t j = 1; j < 4; j++) {
            power[j] = power[j - 1] * t;
        }
        for (size_t j = 0; j < 4; j++) {
            for (size_t l = 0; l < 4; l++) {
                m[j][l] += power[j] * power[l];
            }
            m[j][4] += power[j] * (long double)y[i];
        }
    }
    for (size_t j = 0; j < 4; j++) {
        for (size_t r = 0; r < 4; r++) {
            long double by = r == j ? 0 : m[r][j] / m[j][j];

            for (size_t l = j; l < 5; l++) {
                m[r][l] -= by * m[j][l];
            }
        }
    }
    t = ((long double)at - (long double)(window / 2)) / (long double)window;
    for (size_t j = 4; j-- > 0;) {
        sum = sum * t + m[j][4] / m[j][j];
    }
    return (double)sum;
}

static void the_filter_is_a_least_squares_cubic(void **state)
{
    struct dice dice = {test_seed("filter", 41)};
    double y[260], out[260];

    (void)state;
    for (size_t i = 0; i < 260; i++) {
        y[i] = 1.0 + unit(&dice);
    }
    for (size_t window = 5; window <= MX_SAVGOL_WINDOW; window += 32) {
        mx_savgol_filter(y, 260, window, out);
        for (size_t i = 0; i < 260; i++) {
            size_t half = window / 2, start = i < half ? 0 : i - half;

            start = start + window > 260 ? 260 - window : start;
            close_to(out[i], slow_cubic(y + start, window, i - start), 1e-12);
        }
    }
}

/* ---- the history ---------------------------------------------------------------------------- */

static double *history_get(uint32_t k, const struct mx_loss_options *options)
{
    double *history = test_get(mx_loss_history_size(k, options), sizeof *history);

    mx_loss_history_init(history, k, options);
    return history;
}

/* Random walks of k domains, n rows; counts rise unevenly. */
static void walk(struct dice *dice, uint32_t k, size_t n, double *counts, double *losses)
{
    for (size_t i = 0; i < n * k; i++) {
        double before = i < k ? 4.0 : losses[i - k];

        losses[i] = fmax(0.5, before + 0.1 * (unit(dice) - 0.5));
        counts[i] = (i < k ? 0.0 : counts[i - k]) + 1.0 + (double)below(dice, 9);
    }
}

/* After each row the points are those of the whole history, filtered from scratch. */
static void points_are_rows_of_the_whole(const struct mx_loss_options *options, uint64_t seed,
                                         size_t n)
{
    const uint32_t k = 2;
    struct dice dice = {seed};
    double *history = history_get(k, options), *counts = test_get(n * k, sizeof *counts);
    double *losses = test_get(n * k, sizeof *losses), *whole = test_get(n, sizeof *whole);
    double *y = test_get(n, sizeof *y), *px = test_get(options->rows, sizeof *px);
    double *py = test_get(options->rows, sizeof *py);
    size_t stride = options->stride;

    walk(&dice, k, n, counts, losses);
    for (size_t rows = 1; rows <= n; rows++) {
        uint32_t d = (uint32_t)below(&dice, k);
        size_t window = options->window, points = 0, got;

        mx_loss_history_add(history, k, counts + (rows - 1) * k, losses + (rows - 1) * k);
        assert_int_equal(mx_loss_history_n(history), rows);
        got = mx_loss_history_points(history, k, d, px, py);
        if (rows < window && options->shrink) {
            window = rows < 5 ? 1 : rows % 2 == 0 ? rows - 1 : rows;
        }
        if (rows < window) {
            assert_int_equal(got, 0);
            continue;
        }
        for (size_t i = 0; i < rows; i++) {
            y[i] = losses[i * k + d];
        }
        mx_savgol_filter(y, rows, window, whole);
        if (rows > options->first && (rows - 1 - options->first) / stride >= options->rows) {
            stride *= 2;
        }
        for (size_t i = options->first; i < rows; i += stride, points++) {
            assert_true(points < got && px[points] == counts[i * k + d]);
            close_to(py[points], whole[i], 1e-13);
        }
        assert_int_equal(points, got);
    }
    assert_true(stride > options->stride);
    free(py);
    free(px);
    free(y);
    free(whole);
    free(losses);
    free(counts);
    free(history);
}

static void points_stay_exact_when_rows_are_dropped(void **state)
{
    static const struct mx_loss_options OPTIONS[] = {
        {4, 5, 1, 0, 0},     {16, 101, 3, 7, 0}, {6, 1, 2, 1, 0},
        {10, 101, 1, 51, 1}, {8, 21, 5, 300, 1},
    };
    uint64_t seed = test_seed("points", 7);

    (void)state;
    for (size_t i = 0; i < sizeof OPTIONS / sizeof OPTIONS[0]; i++) {
        points_are_rows_of_the_whole(&OPTIONS[i], seed + i, 700);
    }
}

static void a_copied_history_goes_on_alike(void **state)
{
    static const struct mx_loss_options OPTIONS = {8, 21, 2, 3, 0};
    struct dice dice = {test_seed("copied", 3)};
    size_t size = mx_loss_history_size(K, &OPTIONS);
    double *history = history_get(K, &OPTIONS), *copy = test_get(size, sizeof *copy);
    double counts[100 * K], losses[100 * K];

    (void)state;
    walk(&dice, K, 100, counts, losses);
    for (size_t i = 0; i < 100; i++) {
        if (i == 57) {
            memcpy(copy, history, size * sizeof *copy);
        }
        mx_loss_history_add(history, K, counts + i * K, losses + i * K);
        if (i >= 57) {
            mx_loss_history_add(copy, K, counts + i * K, losses + i * K);
        }
    }
    assert_memory_equal(copy, history, size * sizeof *copy);
    free(copy);
    free(history);
}

static void points_without_logarithm_are_left_out(void **state)
{
    static const struct mx_loss_options OPTIONS = {8, 1, 1, 0, 0};
    static const double COUNTS[] = {0, 0, 3, 4, 5}, LOSSES[] = {2, 2, 1.5, 0, 1.25};
    double *history = history_get(1, &OPTIONS), x[8], y[8];

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        mx_loss_history_add(history, 1, COUNTS + i, LOSSES + i);
    }
    assert_int_equal(mx_loss_history_points(history, 1, 0, x, y), 2);
    assert_true(x[0] == 3 && y[0] == 1.5 && x[1] == 5 && y[1] == 1.25);
    free(history);
}

/* ---- the objective -------------------------------------------------------------------------- */

static void the_objective_is_that_of_the_authors(void **state)
{
    cJSON *root = trace("ado_04_objective_and_clip_tables.json");
    const cJSON *step;
    double x[64], y[64];
    int tables = 0;

    (void)state;
    cJSON_ArrayForEach(step, item(root, "steps")) {
        const cJSON *objective = cJSON_GetObjectItemCaseSensitive(step, "objective");
        const cJSON *input = item(step, "input");
        struct mx_scaling_law law;
        size_t n;

        if (objective == NULL) {
            continue; /* a table of another function */
        }
        law = law_of(item(input, "params"));
        n = numbers(item(input, "D"), x, 64);
        assert_int_equal(numbers(item(input, "L"), y, 64), n);
        close_to(mx_scaling_objective(&mx_fit_ado, &law, x, y, n, NULL), objective->valuedouble,
                 1e-12);
        tables++;
    }
    assert_int_equal(tables, 40);
    cJSON_Delete(root);
}

/* One power law with noise. Returns n. */
static size_t some_points(struct dice *dice, size_t n, double noise, double *x, double *y,
                          struct mx_scaling_law *ret)
{
    double first = pow(10.0, 3.0 + 2.0 * unit(dice)), step = pow(10.0, 2.0 + 2.0 * unit(dice));

    *ret = (struct mx_scaling_law){1.0 + 5.0 * unit(dice), 0.55 + 0.6 * unit(dice),
                                   0.1 + 0.6 * unit(dice), 0.0};
    for (size_t i = 0; i < n; i++) {
        x[i] = first + step * (double)i;
        y[i] = exp(ret->e) + exp(ret->a) * pow(x[i], -ret->alpha);
        y[i] *= exp(noise * (unit(dice) - 0.5));
    }
    return n;
}

static void the_gradient_is_that_of_the_objective(void **state)
{
    struct dice dice = {test_seed("gradient", 17)};
    double x[50], y[50];

    (void)state;
    for (int turn = 0; turn < 200; turn++) {
        const struct mx_fit_options *o = turn % 2 == 0 ? &mx_fit_ado : &mx_fit_mixtera;
        struct mx_scaling_law law;
        size_t n = some_points(&dice, 1 + below(&dice, 50), 0.01, x, y, &law);
        double *at[3] = {&law.a, &law.e, &law.alpha}, g[3];

        law.a += 2.0 * unit(&dice) - 0.5;
        law.e += unit(&dice) - 0.5;
        law.alpha += unit(&dice) - 0.5;
        (void)mx_scaling_objective(o, &law, x, y, n, g);
        for (size_t j = 0; j < 3; j++) {
            double here = *at[j], h = 1e-7, high, low;

            *at[j] = here + h;
            high = mx_scaling_objective(o, &law, x, y, n, NULL);
            *at[j] = here - h;
            low = mx_scaling_objective(o, &law, x, y, n, NULL);
            *at[j] = here;
            /* The slope of a Huber loss turns within a thousandth: the step is so short that
             * rounding of the objective shows. */
            if (!(fabs((high - low) / (2 * h) - g[j]) <= 1e-6 * (0.1 + fabs(g[j]) + fabs(high)))) {
                fail_msg("turn %d: slope %zu is %.12g, not %.12g", turn, j, (high - low) / (2 * h),
                         g[j]);
            }
        }
    }
}

/* ---- fits ----------------------------------------------------------------------------------- */

/* As low as theirs. Rounding apart: their optimiser stops earlier than this one. */
static void fits_as_well(const struct mx_fit_options *options, const double *x, const double *y,
                         size_t n, double objective)
{
    double scratch[2 * ROWS_MAX];
    struct mx_scaling_law law;

    assert_true(mx_scaling_fit(options, x, y, n, scratch, &law));
    close_to(mx_scaling_objective(options, &law, x, y, n, NULL), law.objective, 1e-12);
    if (!(law.objective <= objective + 1e-15)) {
        fail_msg("%zu points: objective %.17g, theirs %.17g", n, law.objective, objective);
    }
}

static void ado_s_trace_is_fitted_from_its_losses(void **state)
{
    cJSON *root = trace("ado_03_real_objective_fit_K3.json");
    double *history = history_get(K, &ADO), counts[K], losses[K], x[ROWS_MAX], y[ROWS_MAX];
    const cJSON *step, *fit;
    int row = 0, fits = 0;

    (void)state;
    cJSON_ArrayForEach(step, item(root, "steps")) {
        const cJSON *after = item(step, "state");

        assert_int_equal(numbers(item(after, "n_seen"), counts, K), K);
        assert_int_equal(numbers(item(after, "task_loss"), losses, K), K);
        mx_loss_history_add(history, K, counts, losses);
        row++;
        cJSON_ArrayForEach(fit, item(root, "fits")) {
            double fx[ROWS_MAX], fy[ROWS_MAX], objective = item(fit, "objective")->valuedouble;
            struct mx_scaling_law law = law_of(item(fit, "params"));
            size_t n;

            if (item(fit, "at_row")->valueint != row) {
                continue;
            }
            n = mx_loss_history_points(history, K, (uint32_t)item(fit, "domain")->valueint, x, y);
            assert_int_equal(numbers(item(fit, "x"), fx, ROWS_MAX), n);
            assert_int_equal(numbers(item(fit, "y"), fy, ROWS_MAX), n);
            for (size_t i = 0; i < n; i++) {
                assert_true(x[i] == fx[i]);
                close_to(y[i], fy[i], 1e-12);
            }
            close_to(mx_scaling_objective(&mx_fit_ado, &law, fx, fy, n, NULL), objective, 1e-12);
            fits_as_well(&mx_fit_ado, fx, fy, n, objective);
            fits++;
        }
    }
    assert_int_equal(fits, 6);
    free(history);
    cJSON_Delete(root);
}

/* Mixtera counts 1024 tokens as one, takes rows from the one after ignore_initial_steps, and fits
 * its first 100 rows by a window of 99. Its trace holds no objectives: they are made of its
 * parameters. */
static void mixtera_s_trace_is_fitted_as_well(void **state)
{
    static const struct mx_loss_options OPTIONS = {ROWS_MAX, MX_SAVGOL_WINDOW, 10, 51, 1};
    cJSON *root = trace("mixtera_ado_vanilla_K3.json");
    double *history = history_get(K, &OPTIONS), counts[K] = {0}, losses[K] = {0};
    const cJSON *step;
    int fits = 0;

    (void)state;
    cJSON_ArrayForEach(step, item(root, "steps")) {
        const cJSON *input = item(step, "input");
        const cJSON *params = cJSON_GetObjectItemCaseSensitive(step, "fit_params");
        double sums[K], tokens[K], x[ROWS_MAX], y[ROWS_MAX];

        assert_int_equal(numbers(item(input, "loss_sums"), sums, K), K);
        assert_int_equal(numbers(item(input, "token_counts"), tokens, K), K);
        for (size_t d = 0; d < K; d++) {
            counts[d] += (tokens[0] + tokens[1] + tokens[2]) / 1024.0;
            losses[d] = tokens[d] > 0.0 ? sums[d] / tokens[d] : losses[d];
        }
        mx_loss_history_add(history, K, counts, losses);
        for (uint32_t d = 0; params != NULL && d < K; d++, fits++) {
            struct mx_scaling_law law = law_of(cJSON_GetArrayItem(params, (int)d));
            size_t n = mx_loss_history_points(history, K, d, x, y);

            assert_true(n >= 5);
            fits_as_well(&mx_fit_mixtera, x, y, n,
                         mx_scaling_objective(&mx_fit_mixtera, &law, x, y, n, NULL));
        }
    }
    assert_int_equal(fits, 6);
    free(history);
    cJSON_Delete(root);
}

static void a_law_without_noise_is_found(void **state)
{
    struct dice dice = {test_seed("law", 23)};
    double x[200], y[200], scratch[400];

    (void)state;
    for (int turn = 0; turn < 20; turn++) {
        struct mx_scaling_law law, got;
        size_t n = some_points(&dice, 200, 0.0, x, y, &law);

        assert_true(mx_scaling_fit(&mx_fit_ado, x, y, n, scratch, &got));
        if (!(got.objective - mx_fit_ado.offset < 1e-12)) {
            fail_msg("law %.17g %.17g %.17g from %.17g: %g above", law.a, law.e, law.alpha, x[0],
                     got.objective - mx_fit_ado.offset);
        }
        for (size_t i = 0; i < n; i++) {
            close_to(exp(got.e) + exp(got.a) * pow(x[i], -got.alpha), y[i], 1e-6);
        }
    }
}

/* The best of all starts is what ADO's authors keep. */
static double best_of_all_starts(const struct mx_fit_options *o, const double *x, const double *y,
                                 size_t n, double *scratch)
{
    struct mx_fit_options one = *o;
    struct mx_scaling_law law;
    double best = INFINITY;

    one.a.n = one.e.n = one.alpha.n = 1;
    for (uint32_t i = 0; i < o->a.n; i++) {
        for (uint32_t j = 0; j < o->e.n; j++) {
            for (uint32_t m = 0; m < o->alpha.n; m++) {
                one.a.at = o->a.at + i;
                one.e.at = o->e.at + j;
                one.alpha.at = o->alpha.at + m;
                if (mx_scaling_fit(&one, x, y, n, scratch, &law)) {
                    best = fmin(best, law.objective);
                }
            }
        }
    }
    return best;
}

static void the_starts_left_out_would_not_fit_better(void **state)
{
    struct dice dice = {test_seed("starts", 29)};
    double x[40], y[40], scratch[80];

    (void)state;
    for (int turn = 0; turn < 8; turn++) {
        const struct mx_fit_options *o = turn % 2 == 0 ? &mx_fit_ado : &mx_fit_mixtera;
        double best;
        struct mx_scaling_law law;
        size_t n = some_points(&dice, 40, turn < 4 ? 0.004 : 0.04, x, y, &law);

        best = best_of_all_starts(o, x, y, n, scratch);
        assert_true(mx_scaling_fit(o, x, y, n, scratch, &law));
        if (!(law.objective - o->offset <= (best - o->offset) * 1.001)) {
            fail_msg("turn %d: %.17g, the best of all starts %.17g", turn, law.objective, best);
        }
    }
}

static void few_points_are_met_and_bad_ones_refused(void **state)
{
    double x[2] = {16000, 32000}, y[2] = {3.0, 2.8}, scratch[4];
    struct mx_scaling_law law;

    (void)state;
    for (size_t n = 1; n <= 2; n++) {
        assert_true(mx_scaling_fit(&mx_fit_ado, x, y, n, scratch, &law));
        assert_true(isfinite(law.a) && isfinite(law.e) && isfinite(law.alpha));
        assert_true(fabs(law.objective - mx_fit_ado.offset) < 1e-12);
    }
    assert_false(mx_scaling_fit(&mx_fit_ado, x, y, 0, scratch, &law));
    y[1] = 0.0;
    assert_false(mx_scaling_fit(&mx_fit_ado, x, y, 2, scratch, &law));
    y[1] = NAN;
    assert_false(mx_scaling_fit(&mx_fit_ado, x, y, 2, scratch, &law));
    y[1] = 2.8;
    x[0] = -1.0;
    assert_false(mx_scaling_fit(&mx_fit_ado, x, y, 2, scratch, &law));
    x[0] = INFINITY;
    assert_false(mx_scaling_fit(&mx_fit_ado, x, y, 2, scratch, &law));
}

/* Any points at all give a finite law that is no worse than its starts. */
static void wild_points_give_a_finite_law(void **state)
{
    struct dice dice = {test_seed("wild", 31)};
    double x[60], y[60], scratch[120];

    (void)state;
    for (int turn = 0; turn < 200; turn++) {
        const struct mx_fit_options *o = turn % 2 == 0 ? &mx_fit_ado : &mx_fit_mixtera;
        const struct mx_scaling_law start = {o->a.at[0], o->e.at[0], o->alpha.at[0], 0.0};
        size_t n = 1 + below(&dice, 60);
        struct mx_scaling_law law;

        for (size_t i = 0; i < n; i++) {
            x[i] = pow(10.0, 40.0 * unit(&dice) - 10.0);
            y[i] = pow(10.0, 40.0 * unit(&dice) - 20.0);
        }
        assert_true(mx_scaling_fit(o, x, y, n, scratch, &law));
        assert_true(isfinite(law.a) && isfinite(law.e) && isfinite(law.alpha));
        assert_true(law.objective <= mx_scaling_objective(o, &start, x, y, n, NULL));
    }
}

/* ADO's published number of domains; the time is for the reader. */
static void twenty_two_domains_are_fitted(void **state)
{
    struct dice dice = {test_seed("domains", 37)};
    double x[200], y[200], scratch[400];
    clock_t begun = clock();

    (void)state;
    for (int domain = 0; domain < 22; domain++) {
        struct mx_scaling_law law;
        size_t n = some_points(&dice, 200, 0.01, x, y, &law);
        double truth = mx_scaling_objective(&mx_fit_ado, &law, x, y, n, NULL);

        assert_true(mx_scaling_fit(&mx_fit_ado, x, y, n, scratch, &law));
        assert_true(law.objective <= truth);
    }
    print_message("22 domains of 200 points: %.3f s\n",
                  (double)(clock() - begun) / (double)CLOCKS_PER_SEC);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cubic_passes_unchanged),
        cmocka_unit_test(the_filter_is_a_least_squares_cubic),
        cmocka_unit_test(points_stay_exact_when_rows_are_dropped),
        cmocka_unit_test(a_copied_history_goes_on_alike),
        cmocka_unit_test(points_without_logarithm_are_left_out),
        cmocka_unit_test(the_objective_is_that_of_the_authors),
        cmocka_unit_test(the_gradient_is_that_of_the_objective),
        cmocka_unit_test(ado_s_trace_is_fitted_from_its_losses),
        cmocka_unit_test(mixtera_s_trace_is_fitted_as_well),
        cmocka_unit_test(a_law_without_noise_is_found),
        cmocka_unit_test(the_starts_left_out_would_not_fit_better),
        cmocka_unit_test(few_points_are_met_and_bad_ones_refused),
        cmocka_unit_test(wild_points_give_a_finite_law),
        cmocka_unit_test(twenty_two_domains_are_fitted),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: test_core_scaling_fit TRACES\n");
        return 2;
    }
    traces = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
