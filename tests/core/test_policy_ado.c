/* test_policy_ado.c - ado where golden traces don't look: fits that come late, come to nothing or
 * are bad, restarts, domains that appear, counts, thinning, and what its check refuses. */
#include "tests/core/check.h"

#include "daemon/core/policies.h"

#include <math.h>

#define K 4
#define RESULT (4 * K)

struct rig {
    struct mx_policy_conf c;
    const struct mx_policy_ops *ops;
    double prior[K], params[32];
    size_t words;
    double *state, *scratch;
    double weights[K], terms[3 * K], result[RESULT];
    double count[K]; /* samples so far */
};

static void put(struct rig *r, const char *name, double value)
{
    for (size_t i = 0; i < r->ops->n_params; i++) {
        if (strcmp(r->ops->params[i].name, name) == 0) {
            r->params[i] = value;
            return;
        }
    }
    fail_msg("no parameter %s", name);
}

/* Short runs: fits at steps 101, 151, ... of points 10, 12, ... */
static void rig_begin(struct rig *r)
{
    static const double PRIOR[K] = {0.4, 0.3, 0.2, 0.1};

    memset(r, 0, sizeof *r);
    r->ops = mx_policy_find("ado");
    assert_non_null(r->ops);
    assert_true(r->ops->n_params <= sizeof r->params / sizeof r->params[0]);
    memcpy(r->prior, PRIOR, sizeof PRIOR);
    r->c = (struct mx_policy_conf){
        .ops = r->ops, .k = K, .m = K, .prior = r->prior, .params = r->params};
    for (size_t i = 0; i < r->ops->n_params; i++) {
        r->params[i] = r->ops->params[i].fallback;
    }
    put(r, "start_step", 100);
    put(r, "ignore_steps", 10);
    put(r, "update_interval", 50);
    put(r, "window", 21);
    put(r, "stride", 2);
}

static void rig_ready(struct rig *r)
{
    char text[160];

    assert_null(r->ops->check(&r->c, text, sizeof text));
    r->words = r->ops->state_size(&r->c);
    r->state = test_get(r->words, sizeof *r->state);
    r->scratch = test_get(r->ops->work_scratch(&r->c), sizeof *r->scratch);
    assert_int_equal(r->ops->work_size(&r->c), RESULT);
    r->ops->init(r->state, &r->c);
}

static void rig_end(struct rig *r)
{
    free(r->state);
    free(r->scratch);
}

static void look(struct rig *r)
{
    double sum = 0.0;

    r->ops->weights(r->state, &r->c, r->weights);
    r->ops->explain(r->state, &r->c, r->terms);
    for (int i = 0; i < K; i++) {
        assert_true(r->weights[i] >= 0.0);
        sum += r->weights[i];
    }
    assert_true(fabs(sum - 1.0) < 1e-12);
    assert_true(r->ops->sane(r->state, &r->c));
}

/* Domain i's loss after n samples in all: the more to learn the higher i is. */
static double law(int i, double n)
{
    return 2.0 + exp(1.0 + i) * pow(n, -0.3);
}

/* A step with some samples of each of the domains first..K-1. */
static uint32_t some_stats(struct rig *r, struct mx_domain_stats *stats, uint64_t t, uint32_t first)
{
    uint32_t n = 0;
    double all = 0.0;

    for (uint32_t i = 0; i < K; i++) {
        all += r->count[i];
    }
    for (uint32_t i = first; i < K; i++) {
        uint64_t samples = 1 + (t + i) % 5;

        stats[n++] = (struct mx_domain_stats){i, samples * 1024, samples, law((int)i, all + 16)};
        r->count[i] += (double)samples;
    }
    return n;
}

static void show(struct rig *r, uint64_t t, uint32_t first)
{
    struct mx_domain_stats stats[K];
    uint32_t n = some_stats(r, stats, t, first);

    r->ops->observe(r->state, &r->c, &(struct mx_observation){
        .t = t, .mix_version = 1 + t / 10, .train = stats, .n_train = n});
    look(r);
}

/* Whether it wanted a fit, which has then come. */
static int fit(struct rig *r)
{
    if (!r->ops->wants_work(r->state, &r->c)) {
        return 0;
    }
    r->ops->work(r->state, &r->c, r->result, r->scratch);
    r->ops->worked(r->state, &r->c, r->result);
    assert_false(r->ops->wants_work(r->state, &r->c));
    look(r);
    return 1;
}

/* Steps from..to, with fits as they are asked for. How many there were. */
static int run(struct rig *r, uint64_t from, uint64_t to)
{
    int fits = 0;

    for (uint64_t t = from; t <= to; t++) {
        show(r, t, 0);
        fits += fit(r);
    }
    return fits;
}

/* ---- learning ------------------------------------------------------------------------------- */

static void what_is_still_learned_gets_more(void **state)
{
    struct rig r;

    (void)state;
    rig_begin(&r);
    rig_ready(&r);
    assert_int_equal(run(&r, 1, 100), 0);
    assert_memory_equal(r.weights, r.prior, sizeof r.prior);
    assert_true(isnan(r.terms[0]));
    assert_int_equal(run(&r, 101, 600), 10);
    for (int i = 0; i + 1 < K; i++) {
        assert_true(r.weights[i] / r.prior[i] < r.weights[i + 1] / r.prior[i + 1]);
        assert_true(r.terms[i] > 0.0 && r.terms[i] < r.terms[i + 1]); /* estimates */
    }
    rig_end(&r);
}

static void a_state_that_was_saved_goes_on_alike(void **state)
{
    struct rig r, other;

    (void)state;
    for (int mixtera = 0; mixtera < 2; mixtera++) {
        rig_begin(&r);
        put(&r, "variant", mixtera);
        put(&r, "adjusted", mixtera ? 3 : 0);
        rig_ready(&r);
        (void)run(&r, 1, 150);
        show(&r, 151, 0); /* a fit is wanted, and is lost by the restart */
        other = r;
        other.state = test_get(r.words, sizeof *r.state);
        memcpy(other.state, r.state, r.words * sizeof *r.state);
        assert_int_equal(run(&r, 152, 400), run(&other, 152, 400));
        assert_memory_equal(other.state, r.state, r.words * sizeof *r.state);
        free(other.state);
        rig_end(&r);
    }
}

/* ---- fits ----------------------------------------------------------------------------------- */

static void a_fit_that_is_not_finite_changes_nothing(void **state)
{
    struct rig r;
    double before[K], estimates[K];

    (void)state;
    rig_begin(&r);
    rig_ready(&r);
    (void)run(&r, 1, 150);
    show(&r, 151, 0);
    memcpy(before, r.weights, sizeof before);
    memcpy(estimates, r.terms, sizeof estimates);
    for (int at = 1; at < RESULT; at++) {
        static const double BAD[] = {NAN, INFINITY, -INFINITY};

        assert_true(at > 1 || r.ops->wants_work(r.state, &r.c));
        r.ops->work(r.state, &r.c, r.result, r.scratch);
        assert_true(r.result[0] == 1.0 && isfinite(r.result[at]));
        if (at % 4 == 0) {
            continue; /* whether it is fitted at all */
        }
        r.result[at] = BAD[at % 3];
        r.ops->worked(r.state, &r.c, r.result);
        assert_false(r.ops->wants_work(r.state, &r.c));
        look(&r);
        assert_memory_equal(r.weights, before, sizeof before);
        assert_memory_equal(r.terms, estimates, sizeof estimates);
    }
    assert_int_equal(run(&r, 152, 250), 1); /* it asks again when its time comes: 201 */
    assert_true(memcmp(r.terms, estimates, sizeof estimates) != 0);
    rig_end(&r);
}

/* The last step is made again, not made once more. */
static void laws_that_come_twice_move_weights_once(void **state)
{
    struct rig r;
    double *copy;

    (void)state;
    for (int choice = 0; choice < 5; choice++) {
        rig_begin(&r);
        put(&r, "variant", choice > 0);
        put(&r, "adjusted", choice > 0 ? choice - 1 : 0);
        rig_ready(&r);
        (void)run(&r, 1, 170);
        show(&r, 171, 0);
        r.ops->work(r.state, &r.c, r.result, r.scratch);
        r.ops->worked(r.state, &r.c, r.result);
        copy = test_get(r.words, sizeof *copy);
        memcpy(copy, r.state, r.words * sizeof *copy);
        r.ops->worked(r.state, &r.c, r.result);
        assert_memory_equal(copy, r.state, r.words * sizeof *copy);
        free(copy);
        rig_end(&r);
    }
}

static void laws_that_come_late_count_from_then_on(void **state)
{
    struct rig r, late;

    (void)state;
    rig_begin(&r);
    rig_ready(&r);
    rig_begin(&late);
    rig_ready(&late);
    (void)run(&r, 1, 101);
    (void)run(&late, 1, 100);
    show(&late, 101, 0);
    late.ops->work(late.state, &late.c, late.result, late.scratch);
    assert_memory_equal(late.weights, late.prior, sizeof late.prior);
    assert_true(memcmp(r.weights, r.prior, sizeof r.prior) != 0);
    for (uint64_t t = 102; t <= 110; t++) {
        show(&late, t, 0);
        show(&r, t, 0);
        assert_memory_equal(late.weights, late.prior, sizeof late.prior);
        assert_true(late.ops->wants_work(late.state, &late.c));
    }
    late.ops->worked(late.state, &late.c, late.result);
    look(&late);
    assert_memory_equal(late.terms, r.terms, sizeof(double) * 2 * K); /* estimates, credit */
    assert_true(memcmp(late.weights, late.prior, sizeof late.prior) != 0);
    rig_end(&r);
    rig_end(&late);
}

static void too_few_points_make_no_law(void **state)
{
    struct rig r;

    (void)state;
    rig_begin(&r);
    put(&r, "start_step", 50); /* the authors' configs, by a tenth */
    put(&r, "ignore_steps", 100);
    put(&r, "update_interval", 100);
    rig_ready(&r);
    assert_int_equal(run(&r, 1, 200), 1);
    assert_memory_equal(r.weights, r.prior, sizeof r.prior);
    assert_true(isnan(r.terms[0]));
    assert_int_equal(run(&r, 201, 201), 1);
    assert_true(memcmp(r.weights, r.prior, sizeof r.prior) != 0);
    rig_end(&r);
}

static void a_step_that_is_passed_over_does_not_cost_a_fit(void **state)
{
    struct rig r;

    (void)state;
    for (int mixtera = 0; mixtera < 2; mixtera++) {
        rig_begin(&r);
        put(&r, "variant", mixtera);
        rig_ready(&r);
        assert_int_equal(run(&r, 1, 99), 0);
        assert_int_equal(run(&r, 120, 130), 1);
        assert_int_equal(run(&r, 140, 145), 0);
        assert_int_equal(run(&r, 510, 520), 1);
        rig_end(&r);
    }
}

/* The history stays as long as it was made, and its points go over the whole run. */
static void a_long_run_is_fitted_from_few_points(void **state)
{
    double x[16], y[16];
    struct rig r;
    size_t n;

    (void)state;
    rig_begin(&r);
    put(&r, "history_rows", 16);
    put(&r, "update_interval", 1000);
    put(&r, "stride", 1);
    rig_ready(&r);
    assert_int_equal(run(&r, 1, 4500), 4);
    n = mx_ado_points(r.state, &r.c, 3, x, y);
    assert_true(n >= 8 && n <= 16 && x[0] < 200 && x[n - 1] > 0.85 * 4500 * 12);
    for (size_t i = 1; i + 1 < n; i++) {
        assert_true(fabs((x[i + 1] - x[i]) / (x[1] - x[0]) - 1.0) < 0.01);
    }
    r.ops->work(r.state, &r.c, r.result, r.scratch);
    assert_true(fabs(r.result[4 * 3 + 3] - 0.3) < 0.02); /* its exponent, but for smoothing */
    rig_end(&r);
}

/* ---- domains and counts --------------------------------------------------------------------- */

static void a_domain_not_seen_has_its_prior_share(void **state)
{
    struct rig r;
    double at_first;

    (void)state;
    rig_begin(&r);
    put(&r, "same_step_size", 0);
    rig_ready(&r);
    for (uint64_t t = 1; t <= 160; t++) {
        show(&r, t, 1);
        (void)fit(&r);
    }
    assert_true(isnan(r.terms[0]) && isfinite(r.terms[1]));
    assert_true(fabs(r.weights[0] - r.prior[0]) < 1e-12);
    assert_true(fabs(r.weights[1] - r.prior[1]) > 1e-4);
    show(&r, 161, 0); /* seen: it has no law yet */
    at_first = r.terms[0];
    assert_true(isnan(at_first) && fabs(r.weights[0] - r.prior[0]) < 1e-12);
    (void)run(&r, 162, 320);
    assert_true(r.terms[0] > 0.0 && fabs(r.weights[0] - r.prior[0]) > 1e-4);
    rig_end(&r);
}

/* The authors count it from the beginning, Mixtera from its first sample. */
static void a_domain_not_seen_is_counted_by_the_variant(void **state)
{
    double x[512], y[512];
    struct rig r;

    (void)state;
    for (int mixtera = 0; mixtera < 2; mixtera++) {
        rig_begin(&r);
        put(&r, "variant", mixtera);
        rig_ready(&r);
        for (uint64_t t = 1; t <= 160; t++) {
            show(&r, t, 1);
            (void)fit(&r);
        }
        assert_int_equal(mx_ado_points(r.state, &r.c, 0, x, y) > 0, !mixtera);
        assert_int_equal(isnan(r.terms[0]), mixtera);
        rig_end(&r);
    }
}

/* Steps of tokens whose samples nobody counted, or of samples that don't count. */
static void show_tokens(struct rig *r, uint64_t t, uint64_t tokens_each, uint64_t samples)
{
    struct mx_domain_stats stats[K];
    uint32_t n = some_stats(r, stats, t, 0);

    for (uint32_t i = 0; i < n; i++) {
        stats[i].tokens = stats[i].samples * tokens_each;
        stats[i].samples = samples;
    }
    r->ops->observe(r->state, &r->c, &(struct mx_observation){
        .t = t, .mix_version = 1 + t / 10, .train = stats, .n_train = n});
    look(r);
}

static void tokens_stand_for_samples(void **state)
{
    struct rig r, tokens, scaled;

    (void)state;
    rig_begin(&r);
    rig_ready(&r);
    rig_begin(&tokens);
    rig_ready(&tokens);
    rig_begin(&scaled);
    put(&scaled, "tokens_per_sample", 500);
    rig_ready(&scaled);
    for (uint64_t t = 1; t <= 250; t++) {
        show(&r, t, 0);
        show_tokens(&tokens, t, 1024, 0);
        show_tokens(&scaled, t, 500, 7);
        assert_int_equal(fit(&r), fit(&tokens));
        (void)fit(&scaled);
    }
    assert_true(memcmp(r.weights, r.prior, sizeof r.prior) != 0);
    assert_memory_equal(r.state, tokens.state, r.words * sizeof *r.state);
    assert_memory_equal(r.weights, scaled.weights, sizeof r.weights);
    rig_end(&r);
    rig_end(&tokens);
    rig_end(&scaled);
}

/* What a guard fills in has no samples: no step of its own, and no credit. */
static void what_was_filled_in_is_no_sample(void **state)
{
    struct mx_domain_stats stats[K];
    double *copy, credit;
    struct rig r;

    (void)state;
    rig_begin(&r);
    rig_ready(&r);
    (void)run(&r, 1, 130);
    copy = test_get(r.words, sizeof *copy);
    memcpy(copy, r.state, r.words * sizeof *copy);
    for (uint32_t i = 0; i < K; i++) {
        stats[i] = (struct mx_domain_stats){.domain = i, .loss = 1.0};
    }
    r.ops->observe(r.state, &r.c, &(struct mx_observation){.t = 131, .train = stats, .n_train = K});
    r.ops->observe(r.state, &r.c, &(struct mx_observation){.t = 132});
    assert_memory_equal(copy, r.state, r.words * sizeof *copy);
    look(&r);
    credit = r.terms[K + 1];
    stats[0].samples = 8;
    r.ops->observe(r.state, &r.c, &(struct mx_observation){.t = 133, .train = stats, .n_train = K});
    look(&r);
    assert_true(fabs(r.terms[K + 1] - 0.9 * credit) < 1e-15);
    free(copy);
    rig_end(&r);
}

/* ---- mixes that arrive late ----------------------------------------------------------------- */

/* Steps t..t+n-1 of a version; how often the weights moved, and the credit. */
static void steps_of(struct rig *r, uint64_t t, uint64_t n, uint64_t version, int *ret_weights,
                     int *ret_credit)
{
    *ret_weights = *ret_credit = 0;
    for (uint64_t i = 0; i < n; i++) {
        struct mx_domain_stats stats[K];
        double weights[K], credit[K];
        uint32_t m = some_stats(r, stats, t + i, 0);

        memcpy(weights, r->weights, sizeof weights);
        memcpy(credit, r->terms + K, sizeof credit);
        r->ops->observe(r->state, &r->c, &(struct mx_observation){
            .t = t + i, .mix_version = version, .train = stats, .n_train = m});
        look(r);
        *ret_weights += memcmp(weights, r->weights, sizeof weights) != 0;
        *ret_credit += memcmp(credit, r->terms + K, sizeof credit) != 0;
    }
}

static void credit_waits_for_a_newer_mix(void **state)
{
    static const struct {
        double adjusted;
        int weights[3], credit[3]; /* moves in 20 steps of the old version, a newer, and none */
    } CASES[] = {
        {0, {20, 20, 20}, {20, 20, 20}},
        {1, {20, 20, 20}, {0, 1, 0}},
        {2, {20, 20, 20}, {0, 1, 0}},
        {3, {0, 1, 0}, {0, 1, 0}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        static const uint64_t VERSIONS[3] = {11, 30, 0};
        struct rig r;

        rig_begin(&r);
        put(&r, "variant", 1);
        put(&r, "adjusted", CASES[i].adjusted);
        put(&r, "update_interval", 1000);
        rig_ready(&r);
        assert_int_equal(run(&r, 1, 109), 1); /* to version 11 */
        for (uint64_t j = 0; j < 3; j++) {
            int weights, credit;

            steps_of(&r, 110 + 20 * j, 20, VERSIONS[j], &weights, &credit);
            assert_int_equal(weights, CASES[i].weights[j]);
            assert_int_equal(credit, CASES[i].credit[j]);
        }
        rig_end(&r);
    }
}

/* ---- what is refused ------------------------------------------------------------------------ */

static void refused(const char *name, double value, uint32_t k, const char *expected)
{
    char text[160];
    struct rig r;
    const char *got;

    rig_begin(&r);
    put(&r, name, value);
    r.c.k = r.c.m = k;
    got = r.ops->check(&r.c, text, sizeof text);
    assert_non_null(got);
    assert_string_equal(got, expected);
}

static void what_does_not_fit_together_is_refused(void **state)
{
    (void)state;
    refused("adjusted", 1, 4, "adjusted: of the variant mixtera alone");
    refused("window", 20, 4, "window: 20 is neither 1 nor odd and from 5 on");
    refused("window", 3, 4, "window: 3 is neither 1 nor odd and from 5 on");
    refused("history_rows", 7, 4, "history_rows: 7 is odd");
    refused("min_points", 513, 4, "min_points: 513 are more than 512 history_rows");
    refused("start_step", 100, 150,
            "min_prob: over 1 for 150 domains together: at most 1/150 each");
    refused("min_prob", 1e-4, 3000,
            "history_rows: 3000 domains with 512 rows and a window of 21 are 3168018 numbers; "
            "2097152 can be kept");
}

static void a_state_with_bent_places_is_refused(void **state)
{
    struct rig r;
    double kept;

    (void)state;
    rig_begin(&r);
    rig_ready(&r);
    (void)run(&r, 1, 140);
    for (size_t i = 0; i < 10 + 8 * K; i++) { /* head and vectors of numbers */
        static const double BAD[] = {-1.0, NAN, INFINITY};

        for (size_t j = 0; j < 3; j++) {
            kept = r.state[i];
            r.state[i] = BAD[j];
            assert_false(r.ops->sane(r.state, &r.c));
            r.state[i] = kept;
        }
    }
    for (size_t i = 10 + 11 * K; i < 18 + 11 * K; i++) { /* the history's head */
        kept = r.state[i];
        r.state[i] += 1.0;
        assert_false(r.ops->sane(r.state, &r.c));
        r.state[i] = kept + 0.5;
        assert_false(r.ops->sane(r.state, &r.c));
        r.state[i] = kept;
    }
    assert_true(r.ops->sane(r.state, &r.c));
    rig_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_still_learned_gets_more),
        cmocka_unit_test(a_state_that_was_saved_goes_on_alike),
        cmocka_unit_test(a_fit_that_is_not_finite_changes_nothing),
        cmocka_unit_test(laws_that_come_twice_move_weights_once),
        cmocka_unit_test(laws_that_come_late_count_from_then_on),
        cmocka_unit_test(too_few_points_make_no_law),
        cmocka_unit_test(a_step_that_is_passed_over_does_not_cost_a_fit),
        cmocka_unit_test(a_long_run_is_fitted_from_few_points),
        cmocka_unit_test(a_domain_not_seen_has_its_prior_share),
        cmocka_unit_test(a_domain_not_seen_is_counted_by_the_variant),
        cmocka_unit_test(tokens_stand_for_samples),
        cmocka_unit_test(what_was_filled_in_is_no_sample),
        cmocka_unit_test(credit_waits_for_a_newer_mix),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
        cmocka_unit_test(a_state_with_bent_places_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
