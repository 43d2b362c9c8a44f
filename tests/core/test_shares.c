/* test_shares.c - limits against a slow projection, quantising against what it promises. */
#include "tests/core/check.h"

#include "daemon/core/largest.h"
#include "daemon/core/shares.h"

#include <math.h>

#define K_MAX 40

static const struct mx_limit FREE = {0.0, 1.0, NAN, 1};

/* ---- limits --------------------------------------------------------------------------------- */

static void limits_that_can_not_be_met_are_named(void **state)
{
    struct mx_limit l[3] = {FREE, FREE, FREE};
    size_t domain = 9;
    double sum = 0.0;

    (void)state;
    assert_int_equal(mx_limits_check(l, 3, &domain, &sum), MX_LIMITS_OK);
    l[1].floor = NAN;
    assert_int_equal(mx_limits_check(l, 3, &domain, &sum), MX_LIMITS_RANGE);
    assert_int_equal(domain, 1);
    l[1] = FREE;
    l[2].ceiling = 1.5;
    assert_int_equal(mx_limits_check(l, 3, &domain, &sum), MX_LIMITS_RANGE);
    assert_int_equal(domain, 2);
    l[2].ceiling = 0.2;
    l[2].floor = 0.3;
    assert_int_equal(mx_limits_check(l, 3, &domain, &sum), MX_LIMITS_CROSSED);
    assert_int_equal(domain, 2);
    l[2] = FREE;
    l[0].floor = 0.7;
    l[1].pin = 0.6;
    assert_int_equal(mx_limits_check(l, 3, &domain, &sum), MX_LIMITS_OVER);
    assert_true(fabs(sum - 1.3) < 1e-12);
    l[0] = (struct mx_limit){0.0, 0.1, NAN, 1};
    l[2] = (struct mx_limit){0.0, 0.2, NAN, 1};
    assert_int_equal(mx_limits_check(l, 3, &domain, &sum), MX_LIMITS_UNDER);
    assert_true(fabs(sum - 0.9) < 1e-12);
    l[0].open = l[1].open = l[2].open = 0;
    assert_int_equal(mx_limits_check(l, 3, &domain, &sum), MX_LIMITS_CLOSED);
}

static void tenths_sum_to_one(void **state)
{
    struct mx_limit l[10];
    size_t domain;
    double sum;

    (void)state;
    for (int i = 0; i < 10; i++) {
        l[i] = (struct mx_limit){0.1, 0.1, NAN, 1};
    }
    assert_int_equal(mx_limits_check(l, 10, &domain, &sum), MX_LIMITS_OK);
}

/* The obvious projection: the scale by 400 halvings of an interval, in plain floating point. */
static void slow_project(const struct mx_limit *l, const double *w, size_t k, double *out)
{
    double low = 0.0, high = 1e18;

    for (int turn = 0; turn < 400; turn++) {
        double t = (low + high) / 2, sum = 0.0;

        for (size_t i = 0; i < k; i++) {
            double v = fmin(fmax(w[i] * t, l[i].floor), l[i].ceiling);

            out[i] = !l[i].open ? 0.0 : isnan(l[i].pin) ? v : l[i].pin;
            sum += out[i];
        }
        if (sum > 1.0) {
            high = t;
        } else {
            low = t;
        }
    }
}

/* Limits that can be met: floors and pins take at most a part, ceilings leave enough. */
static void make_limits(struct dice *d, struct mx_limit *l, size_t k)
{
    double room = 0.9;
    size_t domain;
    double sum;

    for (;;) {
        for (size_t i = 0; i < k; i++) {
            l[i] = FREE;
            if (below(d, 3) == 0) {
                l[i].floor = unit(d) * room / (double)k;
            }
            if (below(d, 3) == 0) {
                l[i].ceiling = fmin(1.0, l[i].floor + unit(d) * 3 / (double)k);
            }
            if (below(d, 6) == 0) {
                l[i].pin = unit(d) * room / (double)k;
            }
            l[i].open = below(d, 10) != 0;
        }
        if (mx_limits_check(l, k, &domain, &sum) == MX_LIMITS_OK) {
            return;
        }
    }
}

static void projection_is_the_slow_one(void **state)
{
    struct dice d = {test_seed("projection_is_the_slow_one", 21)};

    (void)state;
    for (int round = 0; round < 3000; round++) {
        size_t k = 1 + below(&d, K_MAX);
        struct mx_limit l[K_MAX];
        double w[K_MAX], got[K_MAX], want[K_MAX], scratch[4 * K_MAX], sum = 0.0;
        double scale = exp((unit(&d) - 0.5) * 40);

        make_limits(&d, l, k);
        for (size_t i = 0; i < k; i++) {
            w[i] = exp((unit(&d) - 0.5) * 8) * 1e-3;
        }
        slow_project(l, w, k, want);
        for (size_t i = 0; i < k; i++) {
            got[i] = w[i] * scale;
        }
        mx_limits_project(l, got, k, got, scratch); /* in place, at another scale */
        for (size_t i = 0; i < k; i++) {
            assert_true(fabs(got[i] - want[i]) < 1e-9);
            assert_true(!l[i].open || !isnan(l[i].pin) ||
                        (got[i] >= l[i].floor && got[i] <= l[i].ceiling));
            assert_true(l[i].open || got[i] == 0.0);
            assert_true(!l[i].open || isnan(l[i].pin) || got[i] == l[i].pin);
            sum += got[i];
        }
        assert_true(fabs(sum - 1.0) < 1e-9);
    }
}

/* Ratios of domains that no limit binds stay. */
static void unbound_ratios_stay(void **state)
{
    struct mx_limit l[4] = {FREE, FREE, FREE, FREE};
    double w[4] = {8, 4, 2, 1}, p[4], scratch[16];

    (void)state;
    l[0].ceiling = 0.3;
    l[3].floor = 0.2;
    mx_limits_project(l, w, 4, p, scratch);
    assert_true(p[0] == 0.3 && p[3] == 0.2);
    assert_true(fabs(p[1] / p[2] - 2.0) < 1e-15);
    assert_true(fabs(p[0] + p[1] + p[2] + p[3] - 1.0) < 1e-15);
}

static void weight_zero_takes_only_what_is_left(void **state)
{
    struct mx_limit l[3] = {FREE, FREE, FREE};
    double w[3] = {1, 0, 0}, p[3], scratch[12];

    (void)state;
    mx_limits_project(l, w, 3, p, scratch);
    assert_true(p[0] == 1.0 && p[1] == 0.0 && p[2] == 0.0);
    l[1].floor = 0.1;
    mx_limits_project(l, w, 3, p, scratch);
    assert_true(fabs(p[0] - 0.9) < 1e-15 && p[1] == 0.1 && p[2] == 0.0);
    l[0].ceiling = 0.5; /* leaves 0.5 to the two that have no weight, alike */
    mx_limits_project(l, w, 3, p, scratch);
    assert_true(p[0] == 0.5 && fabs(p[1] - 0.25) < 1e-15 && fabs(p[2] - 0.25) < 1e-15);
    w[1] = 1e-310; /* so small beside the largest that scaling it up could overflow */
    mx_limits_project(l, w, 3, p, scratch);
    assert_true(p[0] == 0.5 && fabs(p[1] + p[2] - 0.5) < 1e-15);
}

static void extreme_weights_stay_on_the_simplex(void **state)
{
    static const double odd[] = {0.0, 5e-324, 1e-300, 1e-16, 1.0, 1e16, 1e300, 1.7e308};
    struct dice d = {test_seed("extreme_weights", 22)};

    (void)state;
    for (int round = 0; round < 3000; round++) {
        size_t k = 1 + below(&d, 12);
        struct mx_limit l[12];
        double w[12], p[12], scratch[48], sum = 0.0;
        uint64_t shares[12], ints[12], total = 0;

        make_limits(&d, l, k);
        for (size_t i = 0; i < k; i++) {
            w[i] = odd[below(&d, sizeof odd / sizeof odd[0])];
        }
        mx_limits_project(l, w, k, p, scratch);
        for (size_t i = 0; i < k; i++) {
            assert_true(isfinite(p[i]) && p[i] >= 0.0);
            sum += p[i];
        }
        assert_true(fabs(sum - 1.0) < 1e-9);
        mx_shares_quantise(p, k, shares, ints);
        for (size_t i = 0; i < k; i++) {
            total += shares[i];
            assert_true(l[i].open || shares[i] == 0);
        }
        assert_true(total == MX_SHARE_ONE);
    }
}

/* ---- integers ------------------------------------------------------------------------------- */

static void shares_sum_exactly(void **state)
{
    struct dice d = {test_seed("shares_sum_exactly", 23)};

    (void)state;
    for (int round = 0; round < 2000; round++) {
        size_t k = 1 + below(&d, 300);
        double *p = test_get(k, sizeof *p), sum = 0.0;
        uint64_t *shares = test_get(k, sizeof *shares), *ints = test_get(k, sizeof *ints);
        uint64_t total = 0;

        for (size_t i = 0; i < k; i++) {
            p[i] = below(&d, 5) == 0 ? 0.0 : exp(-20 * unit(&d));
            sum += p[i];
        }
        if (sum == 0.0) {
            p[0] = sum = 1.0;
        }
        for (size_t i = 0; i < k; i++) {
            p[i] /= sum;
        }
        mx_shares_quantise(p, k, shares, ints);
        for (size_t i = 0; i < k; i++) {
            total += shares[i];
            assert_true(fabs((double)shares[i] - p[i] * 0x1p32) <= 1.0 + 1e-5);
            assert_true(p[i] > 0.0 || shares[i] == 0);
        }
        assert_true(total == MX_SHARE_ONE);
        free(p);
        free(shares);
        free(ints);
    }
}

static void ties_go_to_the_lower_index(void **state)
{
    double p[3] = {1.0 / 3, 1.0 / 3, 1.0 / 3};
    uint64_t shares[3], ints[3];

    (void)state;
    mx_shares_quantise(p, 3, shares, ints);
    assert_true(shares[0] == MX_SHARE_ONE / 3 + 1);
    assert_true(shares[1] == MX_SHARE_ONE / 3 && shares[2] == MX_SHARE_ONE / 3);
}

static int descending(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x < *y) - (*x > *y);
}

static void largest_finds_the_cut(void **state)
{
    struct dice d = {test_seed("largest_finds_the_cut", 24)};

    (void)state;
    for (int round = 0; round < 2000; round++) {
        uint64_t v[50], sorted[50], over, ties, n = 0, left, above = 0, equal = 0;
        size_t k = 1 + below(&d, 50);

        for (size_t i = 0; i < k; i++) {
            v[i] = below(&d, 2) ? below(&d, 6) : below(&d, ((uint64_t)1 << 33) + 1);
            n += v[i] > 0;
        }
        left = below(&d, n + 1);
        memcpy(sorted, v, sizeof v);
        qsort(sorted, k, sizeof *sorted, descending);
        mx_largest(v, k, left, &over, &ties);
        if (left == 0) {
            assert_int_equal(ties, 0);
            continue;
        }
        assert_true(over == sorted[left - 1]);
        for (size_t i = 0; i < k; i++) {
            above += v[i] > over;
            equal += v[i] == over;
        }
        assert_true(above + ties == left && ties >= 1 && ties <= equal);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_that_can_not_be_met_are_named),
        cmocka_unit_test(tenths_sum_to_one),
        cmocka_unit_test(projection_is_the_slow_one),
        cmocka_unit_test(unbound_ratios_stay),
        cmocka_unit_test(weight_zero_takes_only_what_is_left),
        cmocka_unit_test(extreme_weights_stay_on_the_simplex),
        cmocka_unit_test(shares_sum_exactly),
        cmocka_unit_test(ties_go_to_the_lower_index),
        cmocka_unit_test(largest_finds_the_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
