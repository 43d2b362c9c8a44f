/* test_schedule.c - a run's phases: which step is under which, when weights change and to what. */
#include "tests/core/check.h"

#include "daemon/core/schedule.h"
#include "proto/limits.h"

#include <math.h>

#define K 3

static const double prior[K] = {0.5, 0.3, 0.2};
static const double policy[K] = {0.1, 0.1, 0.8};
static const double target[K] = {0.0, 1.0, 0.0};
static const double departure[K] = {0.25, 0.25, 0.5};
static const struct mx_limit own[K] = {{0, 1, NAN, 1}, {0, 1, NAN, 1}, {0, 1, NAN, 1}};
static const struct mx_limit tight[K] = {{0.1, 1, NAN, 1}, {0, 0.5, NAN, 1}, {0, 1, NAN, 1}};

static struct mx_schedule make(const struct mx_phase *phases, uint32_t n, uint64_t end)
{
    return (struct mx_schedule){phases, n, K, end, prior, own};
}

static void assert_weights(const struct mx_schedule *s, uint64_t step, double x, double y, double z)
{
    double w[K];

    mx_schedule_weights(s, step, policy, departure, w);
    assert_true(fabs(w[0] - x) < 1e-12 && fabs(w[1] - y) < 1e-12 && fabs(w[2] - z) < 1e-12);
}

static void without_phases_it_is_all_the_policy(void **state)
{
    struct mx_schedule s = make(NULL, 0, UINT64_MAX);
    uint64_t steps[] = {0, 1, 77, MX_STEP_MAX};
    double w[K];

    (void)state;
    assert_true(mx_schedule_ok(&s));
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        mx_schedule_weights(&s, steps[i], policy, NULL, w);
        assert_memory_equal(w, policy, sizeof w);
        assert_int_equal(mx_schedule_phase_at(&s, steps[i]), 0);
        assert_true(mx_schedule_next(&s, steps[i]) == UINT64_MAX);
        assert_false(mx_schedule_is_point(&s, steps[i]));
        assert_true(mx_schedule_asks_policy(&s, steps[i]));
        assert_ptr_equal(mx_schedule_limits(&s, steps[i]), own);
    }
}

static void each_phase_has_its_weights_and_limits(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_WARMUP},
        {.from = 10, .kind = MX_PHASE_ADAPT, .limits = tight},
        {.from = 20, .kind = MX_PHASE_MIX, .mix = target},
    };
    struct mx_schedule s = make(phases, 3, UINT64_MAX);

    (void)state;
    assert_true(mx_schedule_ok(&s));
    assert_weights(&s, 9, 0.5, 0.3, 0.2);
    assert_weights(&s, 10, 0.1, 0.1, 0.8);
    assert_weights(&s, 19, 0.1, 0.1, 0.8);
    assert_weights(&s, 20, 0, 1, 0);
    assert_weights(&s, MX_STEP_MAX, 0, 1, 0);
    assert_ptr_equal(mx_schedule_limits(&s, 9), own);
    assert_ptr_equal(mx_schedule_limits(&s, 10), tight);
    assert_ptr_equal(mx_schedule_limits(&s, 20), own);
    assert_int_equal(mx_schedule_next(&s, 0), 10);
    assert_int_equal(mx_schedule_next(&s, 10), 20);
    assert_true(mx_schedule_next(&s, 20) == UINT64_MAX);
    assert_false(mx_schedule_asks_policy(&s, 9));
    assert_true(mx_schedule_asks_policy(&s, 10));
    assert_false(mx_schedule_asks_policy(&s, 20));
}

static void an_anneal_goes_from_where_it_began_to_its_mix(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 100, .kind = MX_PHASE_ANNEAL, .mix = target},
    };
    struct mx_schedule s = make(phases, 2, 104);

    (void)state;
    assert_true(mx_schedule_ok(&s));
    assert_true(mx_schedule_departs(&s, 100));
    assert_false(mx_schedule_departs(&s, 101));
    assert_weights(&s, 100, 0.1875, 0.4375, 0.375);
    assert_weights(&s, 101, 0.125, 0.625, 0.25);
    assert_weights(&s, 102, 0.0625, 0.8125, 0.125);
    assert_weights(&s, 103, 0, 1, 0);
    phases[1].shape = MX_ANNEAL_COSINE;
    assert_weights(&s, 101, 0.125, 0.625, 0.25); /* half of the way */
    assert_weights(&s, 103, 0, 1, 0);
    phases[1].blend = 1;
    assert_weights(&s, 101, 0.05, 0.55, 0.4);
    assert_weights(&s, 103, 0, 1, 0);
    assert_false(mx_schedule_departs(&s, 100));
    assert_true(mx_schedule_asks_policy(&s, 100));
}

static void a_long_anneal_has_few_ticks(void **state)
{
    struct mx_phase phases[] = {{.from = 0, .kind = MX_PHASE_ANNEAL, .mix = target}};
    struct mx_schedule s = make(phases, 1, MX_STEP_MAX);
    uint64_t at = 0, ticks = 1;
    double w[K];

    (void)state;
    assert_true(mx_schedule_ok(&s));
    for (uint64_t next; (next = mx_schedule_next(&s, at)) != UINT64_MAX; at = next, ticks++) {
        assert_true(next > at);
        mx_schedule_weights(&s, at, policy, departure, w);
        assert_true(w[1] < 1.0);
    }
    assert_int_equal(ticks, MX_ANNEAL_TICKS);
    assert_true(at < MX_STEP_MAX);
    mx_schedule_weights(&s, at, policy, departure, w);
    assert_memory_equal(w, target, sizeof w);
}

static void what_makes_no_sense_is_refused(void **state)
{
    static const struct mx_limit crossed[K] = {{0.6, 1, NAN, 1}, {0.6, 1, NAN, 1}, {0, 1, NAN, 1}};
    static const double light[K] = {0.2, 0.2, 0.2}, negative[K] = {1.5, -0.5, 0};
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 10, .kind = MX_PHASE_ANNEAL, .mix = target},
    };
    struct mx_schedule s = make(phases, 2, 20);

    (void)state;
    assert_true(mx_schedule_ok(&s));
    s.end_step = UINT64_MAX; /* it would never get there */
    assert_false(mx_schedule_ok(&s));
    s.end_step = 10;
    assert_false(mx_schedule_ok(&s));
    s.end_step = 20;
    phases[1].mix = light;
    assert_false(mx_schedule_ok(&s));
    phases[1].mix = negative;
    assert_false(mx_schedule_ok(&s));
    phases[1].mix = target;
    phases[1].limits = crossed;
    assert_false(mx_schedule_ok(&s));
    phases[1].limits = tight;
    assert_true(mx_schedule_ok(&s));
    phases[1].from = 0;
    assert_false(mx_schedule_ok(&s));
    phases[0].from = 1;
    phases[1].from = 2;
    assert_false(mx_schedule_ok(&s));
    phases[0].from = 0;
    s.n = MX_PARTS_MAX + 1;
    assert_false(mx_schedule_ok(&s));
}

/* Some phases up to step 2000 or so, all kinds. */
static uint32_t draw_phases(struct dice *d, struct mx_phase *ret)
{
    uint32_t n = 1 + (uint32_t)below(d, 6);
    uint64_t from = 0;

    for (uint32_t i = 0; i < n; i++) {
        ret[i] = (struct mx_phase){.from = from, .kind = (enum mx_phase_kind)below(d, 4),
                                   .shape = (enum mx_anneal_shape)below(d, 2),
                                   .blend = (int)below(d, 2), .mix = target,
                                   .limits = below(d, 2) == 1 ? tight : NULL};
        from += 1 + below(d, below(d, 3) == 0 ? 3 : 400);
    }
    return n;
}

/* Step by step: weights and limits change at points and nowhere else, weights are weights, an
 * anneal only ever goes on towards its mix and is there in its last step. */
static void points_are_where_something_changes(void **state)
{
    struct dice d = {test_seed("points_are_where_something_changes", 1)};

    (void)state;
    for (int i = 0; i < 300; i++) {
        struct mx_phase phases[6];
        uint32_t n = draw_phases(&d, phases);
        struct mx_schedule s = make(phases, n, phases[n - 1].from + 1 + below(&d, 300));
        double w[K], before[K] = {0};
        uint64_t next = 0;

        assert_true(mx_schedule_ok(&s));
        for (uint64_t step = 0; step < s.end_step; step++) {
            uint32_t at = mx_schedule_phase_at(&s, step);
            int begins = phases[at].from == step, goes_on;
            int last = step + 1 == (at + 1 < n ? phases[at + 1].from : s.end_step);

            assert_true(phases[at].from <= step && (at + 1 == n || phases[at + 1].from > step));
            assert_ptr_equal(mx_schedule_limits(&s, step),
                             phases[at].limits != NULL ? phases[at].limits : own);
            mx_schedule_weights(&s, step, policy, departure, w);
            assert_true(fabs(w[0] + w[1] + w[2] - 1.0) < 1e-12 && w[0] >= 0 && w[2] >= 0);
            assert_int_equal(mx_schedule_is_point(&s, step), step == next);
            goes_on = begins && at > 0 && phases[at].kind == phases[at - 1].kind &&
                      phases[at].kind <= MX_PHASE_WARMUP &&
                      phases[at].limits == phases[at - 1].limits;
            if (step == next) {
                next = mx_schedule_next(&s, step);
                assert_true(next > step);
                assert_true((begins && !goes_on) || w[1] > before[1]);
            } else {
                assert_true(!begins || goes_on);
                assert_memory_equal(w, before, sizeof w);
                assert_true(mx_schedule_next(&s, step) == next);
            }
            if (last && phases[at].kind == MX_PHASE_ANNEAL) {
                assert_memory_equal(w, target, sizeof w);
            }
            memcpy(before, w, sizeof w);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_phases_it_is_all_the_policy),
        cmocka_unit_test(each_phase_has_its_weights_and_limits),
        cmocka_unit_test(an_anneal_goes_from_where_it_began_to_its_mix),
        cmocka_unit_test(a_long_anneal_has_few_ticks),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(points_are_where_something_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
