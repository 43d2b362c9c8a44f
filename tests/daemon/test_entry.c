/* test_entry.c - journal entries as bytes: what goes in comes out, and nothing else is taken. */
#include "daemon/entry.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define K 3u

static const uint64_t shares[2 * K] = {1u << 30, 1u << 30, 1u << 31, 1u << 31, 1u << 30, 1u << 30};
static const double weights[2 * K] = {0.25, 0.25, 0.5, 0.5, 0.125, 0.375};
static const double terms[2 * K] = {1.5, NAN, -2.0, 0.0, 1e300, -1e300};
static const uint8_t bound[K] = {MX_BOUND_NONE, MX_BOUND_FLOOR, MX_BOUND_CLOSED};

static struct mx_entry basic(enum mx_entry_kind kind)
{
    return (struct mx_entry){.kind = kind, .time_ms = 7, .step = 8, .frontier = 9, .author = "me",
                             .author_len = 2, .why = "so", .why_len = 2, .shares = shares,
                             .n_shares = K, .mix_version = 3, .cause = MX_CAUSE_FEEDBACK};
}

/* There and back, and every cut and every longer form is refused. Returns the box, to be cleared. */
static struct mx_entry_box there_and_back(const struct mx_entry *e)
{
    struct mx_entry_box box, none;
    struct mx_err err;
    size_t n, again_n;
    uint8_t *bytes = mx_entry_encode(e, K, &n), *again, *kept;

    assert_non_null(bytes);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *part = malloc(cut + 1); /* its end is where the sanitizer sees it */
        int rc;

        assert_non_null(part);
        memcpy(part, bytes, cut);
        rc = mx_entry_decode((struct mx_span){part, cut}, K, &none, &err);
        /* An entry that ends in numbers may be cut between two of them. */
        if (rc == 0) {
            assert_true(e->kind == MX_ENTRY_FIT && (n - cut) % 8 == 0);
            mx_entry_box_clear(&none);
        } else {
            assert_int_equal(rc, MX_EDAMAGED);
        }
        free(part);
    }
    kept = realloc(bytes, n + 1);
    assert_non_null(kept);
    kept[n] = 0;
    assert_int_equal(mx_entry_decode((struct mx_span){kept, n + 1}, K, &none, &err), MX_EDAMAGED);
    assert_int_equal(mx_entry_decode((struct mx_span){kept, n}, K, &box, &err), 0);
    again = mx_entry_encode(&box.entry, K, &again_n);
    assert_non_null(again);
    assert_int_equal(n, again_n);
    assert_memory_equal(kept, again, n);
    free(again);
    /* What is borrowed from the bytes is checked here, before they go. */
    assert_int_equal(box.entry.step, 8);
    assert_memory_equal(box.entry.why, "so", 2);
    if (e->bound != NULL) {
        assert_memory_equal(box.entry.bound, bound, K);
    }
    free(kept);
    return box;
}

static void test_feedback(void **state)
{
    static const struct mx_loss losses[] = {{0, 2, 64, 12.5}, {2, 0, 1, NAN}};
    static const struct mx_eval_loss evals[] = {{0, 1, 3, 4, 5.5}, {7, 0, UINT64_MAX, 1, 0.25}};
    static const struct mx_reward rewards[] = {{1, 16, -1.5}};
    static const struct mx_score scores[] = {{2, 1ull << 40, 0.75}, {0, 0, -INFINITY}};
    static const uint32_t domains[] = {0, 2};
    static const double gram[] = {1.0, -0.5, 2.0};
    struct mx_entry e = basic(MX_ENTRY_FEEDBACK);
    struct mx_entry_box box;

    (void)state;
    e.rank = 1;
    e.world = 4;
    e.flags = 3;
    box = there_and_back(&e); /* nothing but its head */
    assert_int_equal(box.entry.world, 4);
    assert_int_equal(box.entry.n + box.entry.n_evals + box.entry.n_gram, 0);
    mx_entry_box_clear(&box);

    e.losses = losses;
    e.n = 2;
    e.evals = evals;
    e.n_evals = 2;
    e.rewards = rewards;
    e.n_rewards = 1;
    e.scores = scores;
    e.n_scores = 2;
    e.gram_domains = domains;
    e.gram = gram;
    e.n_gram = 2;
    e.lr = 3e-4;
    box = there_and_back(&e);
    assert_true(isnan(box.entry.losses[1].loss_sum));
    assert_int_equal(box.entry.evals[1].set, 7);
    assert_true(box.entry.evals[1].samples == UINT64_MAX && box.entry.evals[0].loss_sum == 5.5);
    assert_true(box.entry.rewards[0].sum == -1.5 && box.entry.rewards[0].count == 16);
    assert_true(box.entry.scores[0].sample == 1ull << 40 && isinf(box.entry.scores[1].score));
    assert_true(box.entry.gram_domains[1] == 2 && box.entry.gram[1] == -0.5 &&
                box.entry.gram[2] == 2.0 && box.entry.lr == 3e-4);
    mx_entry_box_clear(&box);
}

static void test_mix(void **state)
{
    struct mx_entry e = basic(MX_ENTRY_MIX);
    struct mx_entry_box box;

    (void)state;
    box = there_and_back(&e); /* nothing is said of where it comes from */
    assert_null(box.entry.weights);
    assert_null(box.entry.terms);
    assert_null(box.entry.bound);
    mx_entry_box_clear(&box);

    e.n_shares = 2 * K;
    e.weights = weights;
    e.terms = terms;
    e.n_terms = 2;
    e.bound = bound;
    e.phase = 5;
    box = there_and_back(&e);
    assert_int_equal(box.entry.n_shares, 2 * K);
    assert_true(box.entry.shares[K] == 1u << 31 && box.entry.weights[2] == 0.5);
    assert_true(box.entry.terms[0] == 1.5 && isnan(box.entry.terms[1]) &&
                box.entry.terms[2] == -2.0);
    assert_true(box.entry.terms[4] > 3e38 && box.entry.terms[5] < -3e38); /* as far as it goes */
    assert_int_equal(box.entry.phase, 5);
    mx_entry_box_clear(&box);

    e.kind = MX_ENTRY_CREATE;
    e.weights = NULL;
    box = there_and_back(&e);
    assert_null(box.entry.weights);
    assert_non_null(box.entry.bound);
    mx_entry_box_clear(&box);
}

static void test_set_keeps_doubles(void **state)
{
    static const double odd[K] = {0.1, 0.7, 0.2};
    struct mx_entry e = basic(MX_ENTRY_SET);
    struct mx_entry_box box;

    (void)state;
    e.weights = odd;
    box = there_and_back(&e);
    assert_memory_equal(box.entry.weights, odd, sizeof odd);
    mx_entry_box_clear(&box);
}

static void test_fit_and_shadow(void **state)
{
    static const double values[] = {0.1, -INFINITY, 3.0};
    struct mx_entry e = basic(MX_ENTRY_FIT);
    struct mx_entry_box box;

    (void)state;
    e.domain = 2;
    e.values = values;
    e.n_values = 3;
    box = there_and_back(&e);
    assert_int_equal(box.entry.domain, 2);
    assert_int_equal(box.entry.n_values, 3);
    assert_memory_equal(box.entry.values, values, sizeof values);
    mx_entry_box_clear(&box);

    e = basic(MX_ENTRY_SHADOW);
    e.n = 2;
    e.n_shares = 0;
    box = there_and_back(&e);
    assert_null(box.entry.weights);
    mx_entry_box_clear(&box);
    e.weights = weights;
    box = there_and_back(&e);
    assert_int_equal(box.entry.n, 2);
    assert_memory_equal(box.entry.shares, shares, sizeof shares);
    assert_memory_equal(box.entry.weights, weights, sizeof weights);
    mx_entry_box_clear(&box);
}

/* Numbers that can't be: refused whatever follows. */
static void test_refused(void **state)
{
    static const struct {
        enum mx_entry_kind kind;
        size_t at; /* behind author and why */
        uint32_t value;
    } cases[] = {
        {MX_ENTRY_MIX, 20, K + 1}, {MX_ENTRY_MIX, 20, 0}, {MX_ENTRY_MIX, 24 + 8 * K + 4, 4},
        {MX_ENTRY_MIX, 24 + 8 * K + 8, MX_POLICY_TERMS_MAX + 1},
        {MX_ENTRY_MIX, 24 + 8 * K + 12, 0x7fc00001}, {MX_ENTRY_MIX, 24 + 8 * K + 12, 0x7f800000},
        {MX_ENTRY_MIX, 24 + 8 * K + 12 + 4 * K + 8 * K, 0x01010105},
        {MX_ENTRY_FEEDBACK, 20, UINT32_MAX}, {MX_ENTRY_FEEDBACK, 24, UINT32_MAX},
        {MX_ENTRY_FEEDBACK, 28, 1u << 30}, {MX_ENTRY_FEEDBACK, 32, MX_GRAM_MAX + 1},
        {MX_ENTRY_FEEDBACK, 36, 1u << 31}, {MX_ENTRY_SHADOW, 0, MX_SHADOWS_MAX + 1},
        {MX_ENTRY_SHADOW, 0, 0}, {MX_ENTRY_SHADOW, 4, 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mx_entry e = basic(cases[i].kind);
        struct mx_entry_box box;
        struct mx_err err;
        uint8_t *bytes;
        size_t n;

        e.n = e.kind == MX_ENTRY_SHADOW ? 2 : 0;
        e.weights = weights;
        e.terms = terms;
        e.n_terms = 2;
        e.bound = bound;
        bytes = mx_entry_encode(&e, K, &n);
        assert_non_null(bytes);
        assert_int_equal(mx_entry_decode((struct mx_span){bytes, n}, K, &box, &err), 0);
        mx_entry_box_clear(&box);
        mx_store_u32(bytes + 34 + cases[i].at, cases[i].value);
        if (mx_entry_decode((struct mx_span){bytes, n}, K, &box, &err) != MX_EDAMAGED) {
            fail_msg("case %zu was taken", i);
        }
        free(bytes);
    }
}

static void test_mix_record(void **state)
{
    struct mx_entry e = basic(MX_ENTRY_MIX);
    uint64_t version, index, got[2 * K];
    struct mx_err err;
    uint8_t *bytes;
    size_t n;

    (void)state;
    e.index = 44;
    bytes = mx_mix_encode(&e, &n);
    assert_non_null(bytes);
    assert_int_equal(mx_mix_decode((struct mx_span){bytes, n}, K, K, &version, &index, got, &err), 0);
    assert_true(version == 3 && index == 44 && memcmp(got, shares, 8 * K) == 0);
    assert_int_equal(mx_mix_decode((struct mx_span){bytes, n}, K, 2 * K, &version, &index, got,
                                   &err), MX_EDAMAGED);
    assert_int_equal(mx_mix_decode((struct mx_span){bytes, n - 1}, K, K, &version, &index, got,
                                   &err), MX_EDAMAGED);
    free(bytes);
    e.n_shares = 2 * K;
    bytes = mx_mix_encode(&e, &n);
    assert_non_null(bytes);
    assert_int_equal(mx_mix_decode((struct mx_span){bytes, n}, K, 2 * K, &version, &index, got,
                                   &err), 0);
    assert_memory_equal(got, shares, sizeof shares);
    assert_int_equal(mx_mix_decode((struct mx_span){bytes, n}, K, K, &version, &index, got, &err), 0);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_feedback), cmocka_unit_test(test_mix),
        cmocka_unit_test(test_set_keeps_doubles), cmocka_unit_test(test_fit_and_shadow),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_mix_record),
    };
    return cmocka_run_group_tests_name("daemon-entry", tests, NULL, NULL);
}
