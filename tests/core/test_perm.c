/* test_perm.c - random numbers against published vectors; permutations and orders against what
 * they promise. */
#include "tests/core/check.h"

#include "daemon/core/perm.h"
#include "daemon/core/rng.h"

#include <math.h>

/* ---- random numbers ------------------------------------------------------------------------- */

/* The known answers that come with Random123 for philox4x32 of ten rounds. */
static void philox_gives_the_published_numbers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t got[4];

        mx_philox4x32(known[i].key, known[i].counter, got);
        assert_memory_equal(got, known[i].answer, sizeof got);
    }
}

static void every_argument_of_rand64_counts(void **state)
{
    uint64_t base = mx_rand64(1, MX_STREAM_IID, 2, 3);

    (void)state;
    assert_int_equal(base, mx_rand64(1, MX_STREAM_IID, 2, 3));
    assert_int_not_equal(base, mx_rand64(2, MX_STREAM_IID, 2, 3));
    assert_int_not_equal(base, mx_rand64(1 + ((uint64_t)1 << 32), MX_STREAM_IID, 2, 3));
    assert_int_not_equal(base, mx_rand64(1, MX_STREAM_SLOTS, 2, 3));
    assert_int_not_equal(base, mx_rand64(1, MX_STREAM_IID, 3, 3));
    assert_int_not_equal(base, mx_rand64(1, MX_STREAM_IID, 2 + ((uint64_t)1 << 32), 3));
    assert_int_not_equal(base, mx_rand64(1, MX_STREAM_IID, 2, 4));
}

/* ---- permutations --------------------------------------------------------------------------- */

static void check_bijection(uint64_t n, uint64_t key)
{
    unsigned char *seen = test_get((size_t)n, 1);
    struct mx_perm p;

    mx_perm_init(&p, n, key);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t x = mx_perm_at(&p, i);

        assert_true(x < n);
        assert_int_equal(seen[x], 0);
        seen[x] = 1;
        assert_int_equal(mx_perm_inverse(&p, x), i);
    }
    free(seen);
}

static void small_permutations_are_bijections(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 300; n++) {
        for (uint64_t key = 0; key < 4; key++) {
            check_bijection(n, key * 0x123456789abcdefu + n);
        }
    }
    check_bijection(1023, 1);
    check_bijection(1024, 1);
    check_bijection(1025, 1);
    check_bijection(65537, 1);
}

static void large_permutations_invert(void **state)
{
    struct dice d = {test_seed("large_permutations_invert", 11)};

    (void)state;
    for (int round = 0; round < 400; round++) {
        uint64_t n = (roll(&d) >> below(&d, 50)) | 1;
        struct mx_perm p;

        mx_perm_init(&p, n, roll(&d));
        for (int i = 0; i < 50; i++) {
            uint64_t at = below(&d, n), x = mx_perm_at(&p, at);

            assert_true(x < n);
            assert_int_equal(mx_perm_inverse(&p, x), at);
        }
    }
}

static void a_run_is_the_places_one_by_one(void **state)
{
    struct dice d = {test_seed("a_run_is_the_places_one_by_one", 12)};
    uint64_t got[100];

    (void)state;
    for (int round = 0; round < 300; round++) {
        uint64_t n = 1 + below(&d, 5000), first = below(&d, n);
        uint32_t m = (uint32_t)below(&d, n - first < 100 ? n - first + 1 : 101);
        struct mx_perm p;

        mx_perm_init(&p, n, roll(&d));
        mx_perm_run(&p, first, m, got);
        for (uint32_t i = 0; i < m; i++) {
            assert_int_equal(got[i], mx_perm_at(&p, first + i));
        }
    }
}

/* How far a chi-square statistic lies from its mean, in standard deviations. */
static double chi_z(const double *count, size_t n, double expected, double freedom)
{
    double chi = 0.0;

    for (size_t i = 0; i < n; i++) {
        chi += (count[i] - expected) * (count[i] - expected) / expected;
    }
    return (chi - freedom) / sqrt(2 * freedom);
}

/* Over many keys every value turns up at every place alike often, and so does every difference
 * between neighbours. |z| > 6 has a probability below 1e-8 for a fair shuffle. */
static void shuffles_are_fair(void **state)
{
    static const uint64_t sizes[] = {5, 8, 13, 32, 60, 100, 256};
    struct dice d = {test_seed("shuffles_are_fair", 13)};
    enum { KEYS = 4000 };

    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        uint64_t n = sizes[s];
        double *places = test_get((size_t)(n * n), sizeof *places);
        double *steps = test_get((size_t)n, sizeof *steps);
        double zp, zs;

        for (int key = 0; key < KEYS; key++) {
            struct mx_perm p;
            uint64_t before = 0;

            mx_perm_init(&p, n, roll(&d));
            for (uint64_t i = 0; i < n; i++) {
                uint64_t x = mx_perm_at(&p, i);

                places[i * n + x]++;
                if (i > 0) {
                    steps[(x + n - before) % n]++;
                }
                before = x;
            }
        }
        zp = chi_z(places, (size_t)(n * n), (double)KEYS / (double)n, (double)((n - 1) * (n - 1)));
        zs = chi_z(steps + 1, (size_t)(n - 1), (double)KEYS, (double)(n - 2));
        print_message("n = %llu: z of places %.2f, of differences %.2f\n", (unsigned long long)n,
                      zp, zs);
        assert_true(fabs(zp) < 6.0 && fabs(zs) < 6.0);
        free(places);
        free(steps);
    }
}

/* ---- orders --------------------------------------------------------------------------------- */

static void check_order(uint64_t n, uint32_t chunk, uint32_t window, uint64_t key)
{
    uint64_t *place_of = test_get((size_t)n, sizeof *place_of);
    uint64_t *all = test_get((size_t)n, sizeof *all);
    struct mx_order o;
    struct mx_order_window w = {.size = 0};

    mx_order_init(&o, n, chunk, window, key);
    memset(place_of, 0xff, (size_t)n * sizeof *place_of);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t s = mx_order_at(&o, i);

        assert_true(s < n);
        assert_int_equal(place_of[s], UINT64_MAX);
        place_of[s] = i;
        assert_int_equal(mx_order_inverse(&o, s), i);
    }
    mx_order_run(&o, 0, (uint32_t)n, all, &w);
    for (uint64_t i = 0; i < n; i++) {
        assert_int_equal(place_of[all[i]], i);
    }
    /* All samples of a chunk lie within one window's stretch of places. */
    for (uint64_t c = 0; chunk > 1 && c * chunk < n; c++) {
        uint64_t least = UINT64_MAX, most = 0;

        for (uint64_t s = c * chunk; s < n && s < (c + 1) * chunk; s++) {
            least = place_of[s] < least ? place_of[s] : least;
            most = place_of[s] > most ? place_of[s] : most;
        }
        assert_true(most - least < (uint64_t)window * chunk);
    }
    free(place_of);
    free(all);
}

static void orders_are_bijections_and_keep_chunks_together(void **state)
{
    struct dice d = {test_seed("orders_are_bijections", 14)};

    (void)state;
    for (uint64_t n = 1; n <= 60; n++) {
        for (uint32_t chunk = 1; chunk <= 8; chunk++) {
            for (uint32_t window = 1; window <= 4; window++) {
                check_order(n, chunk, window, roll(&d));
            }
        }
    }
    for (int round = 0; round < 200; round++) {
        check_order(1 + below(&d, 3000), 1 + (uint32_t)below(&d, 100), 1 + (uint32_t)below(&d, 20),
                    roll(&d));
    }
    check_order(1000, 2000, 7, 1);        /* one chunk, shorter than its nominal length */
    check_order(1000, 10, UINT32_MAX, 1); /* one window */
}

static void windows_visit_whole_chunks_in_turn(void **state)
{
    enum { CHUNK = 16, WINDOW = 4, CHUNKS = 40, N = CHUNK * CHUNKS };
    struct mx_order o;
    int in_window[CHUNKS];

    (void)state;
    mx_order_init(&o, N, CHUNK, WINDOW, 99);
    for (int c = 0; c < CHUNKS; c++) {
        in_window[c] = -1;
    }
    for (int i = 0; i < N; i++) {
        int c = (int)(mx_order_at(&o, (uint64_t)i) / CHUNK), w = i / (CHUNK * WINDOW);

        assert_true(in_window[c] == -1 || in_window[c] == w);
        in_window[c] = w;
    }
}

static void orders_of_other_keys_differ(void **state)
{
    struct mx_order a, b;
    int same = 0;

    (void)state;
    mx_order_init(&a, 100000, 32, 8, 1);
    mx_order_init(&b, 100000, 32, 8, 2);
    for (uint64_t i = 0; i < 1000; i++) {
        same += mx_order_at(&a, i) == mx_order_at(&b, i);
    }
    assert_true(same < 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_numbers),
        cmocka_unit_test(every_argument_of_rand64_counts),
        cmocka_unit_test(small_permutations_are_bijections),
        cmocka_unit_test(large_permutations_invert),
        cmocka_unit_test(a_run_is_the_places_one_by_one),
        cmocka_unit_test(shuffles_are_fair),
        cmocka_unit_test(orders_are_bijections_and_keep_chunks_together),
        cmocka_unit_test(windows_visit_whole_chunks_in_turn),
        cmocka_unit_test(orders_of_other_keys_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
