/* test_sections.c - what a report carries: every section there and back, and each way in which one can
 * be wrong. */
#include "tests/proto/check.h"

#include "proto/msg.h"
#include "proto/sections.h"

#include <math.h>

#define ROOM 4096

static const struct mx_train_entry losses[3] = {
    {0, 1, 2, 3.0}, {5, UINT32_MAX, UINT64_MAX, -INFINITY}, {UINT32_MAX, 0, 0, (double)NAN}};
static const struct mx_reward_entry rewards[2] = {{1, 16, -1.5}, {4, 0, 1e300}};
static const struct mx_score_entry scores[3] = {
    {7, 1ull << 47, 0.25}, {0, 3, -1.0}, {7, UINT64_MAX, (double)NAN}};
static const uint32_t domains[3] = {1, 2, 9};
static const double gram[6] = {1.0, -0.5, 0.25, 2.0, 0.0, 3.0};

/* In a buffer of its own size, so that a look past its end is seen. */
static int decode(const uint8_t *p, size_t n, struct mx_sections *ret, struct mx_err *err)
{
    char *g = guarded(p, n);
    int rc = mx_sections_decode((struct mx_span){(const uint8_t *)g, n}, ret, err);

    for (uint32_t i = 0; rc == 0 && i < ret->train.n; i++) {
        struct mx_train_entry e;
        mx_train_get(&ret->train, i, &e);
    }
    for (uint32_t i = 0; rc == 0 && i < ret->n_gram * (ret->n_gram + 1) / 2; i++) {
        (void)mx_gram_value(ret, i);
    }
    unguard(g, n);
    return rc;
}

static size_t everything(uint8_t *buf)
{
    struct mx_writer w;

    mx_writer_init(&w, buf, ROOM);
    mx_train_encode(&w, losses, 3);
    mx_eval_encode(&w, 0, losses, 1);
    mx_eval_encode(&w, 3, losses, 2);
    mx_reward_encode(&w, rewards, 2);
    mx_grad_encode(&w, domains, 3, gram, 3e-4);
    mx_scores_encode(&w, scores, 3);
    assert_false(w.failed);
    return mx_writer_len(&w);
}

static void test_there_and_back(void **state)
{
    struct mx_sections s;
    struct mx_train_entry t;
    struct mx_reward_entry r;
    struct mx_score_entry c;
    struct mx_err err;
    uint8_t buf[ROOM];
    size_t n = everything(buf);

    (void)state;
    assert_int_equal(decode(buf, n, &s, &err), 0);
    assert_int_equal(mx_sections_decode((struct mx_span){buf, n}, &s, &err), 0);
    assert_true(s.any && s.train.present && s.train.n == 3);
    mx_train_get(&s.train, 2, &t);
    assert_int_equal(t.domain, UINT32_MAX);
    assert_true(isnan(t.loss_sum));
    assert_int_equal(s.n_eval_sets, 2);
    assert_int_equal(s.n_evals, 3);
    assert_int_equal(s.eval_sets[1], 3);
    mx_train_get(&s.evals[1], 1, &t);
    assert_true(t.domain == 5 && t.tokens == UINT64_MAX && isinf(t.loss_sum));
    mx_reward_get(&s.rewards, 0, &r);
    assert_true(r.domain == 1 && r.count == 16 && r.sum == -1.5);
    assert_int_equal(s.n_gram, 3);
    assert_int_equal(mx_gram_domain(&s, 2), 9);
    assert_true(mx_gram_value(&s, 1) == -0.5 && mx_gram_value(&s, 5) == 3.0 && s.lr == 3e-4);
    mx_score_get(&s.scores, 0, &c);
    assert_true(c.domain == 7 && c.sample == 1ull << 47 && c.score == 0.25);
    mx_score_get(&s.scores, 2, &c);
    assert_true(c.sample == UINT64_MAX && isnan(c.score));
    /* Nothing at all is fine here: whether a flag makes it a report is for others. */
    assert_int_equal(decode(buf, 0, &s, &err), 0);
    assert_true(!s.any && !s.train.present && s.n_gram == 0);
}

static void test_cut(void **state)
{
    struct mx_sections s;
    struct mx_err err;
    uint8_t buf[ROOM];
    size_t n = everything(buf), whole = 0;

    (void)state;
    for (size_t cut = 0; cut < n; cut++) {
        int rc = decode(buf, cut, &s, &err);

        whole += rc == 0; /* between two sections */
        assert_true(rc == 0 || (rc == MX_EPROTOCOL && strstr(err.text, "cut short") != NULL));
    }
    assert_int_equal(whole, 6);
    assert_int_equal(decode(buf, n + 1, &s, &err), MX_EPROTOCOL);
}

/* One number of everything()'s sections is another; what is said of it. */
static void test_refused(void **state)
{
    enum { TRAIN = 0, EVAL0 = 80, EVAL3 = EVAL0 + 8 + 8 + 24, REWARD = EVAL3 + 8 + 8 + 48,
           GRAD = REWARD + 8 + 48, SCORES = GRAD + 8 + 16 + 16 + 48 };
    static const struct {
        size_t at;
        uint32_t value;
        const char *what;
    } t[] = {
        {TRAIN, 0, "kind 0 is unknown"}, {TRAIN, 6, "kind 6 is unknown"},
        {TRAIN, 0x10001, "has 1 where a zero"}, {TRAIN, 2, "must begin with"},
        {TRAIN + 4, 73, "aren't a number of entries"}, {TRAIN + 4, 24 * 40, "cut short"},
        {TRAIN + 4, UINT32_MAX, "cut short"}, {TRAIN + 8 + 24, 0, "domain 0 comes after domain 0"},
        {EVAL0, 1, "kind 1 comes twice"}, {EVAL0 + 12, 1, "must begin with"},
        {EVAL3 + 8, 0, "set 0 comes after set 0"}, {EVAL3 + 16, 5, "member 5 comes after member 5"},
        {EVAL0 + 4, 4, "must begin with"}, {EVAL0 + 4, 31, "aren't a number"},
        {REWARD, 2, "EVAL section"}, {REWARD + 12, 1, "entry 0 has 1 where"},
        {REWARD + 8 + 24, 1, "domain 1 comes after domain 1"},
        {GRAD, 3, "kind 3 comes twice"}, {GRAD + 8, 0, "a matrix of 0 domains"},
        {GRAD + 8, 129, "a matrix of 129 domains"}, {GRAD + 8, 4, "4 domains has"},
        {GRAD + 12, 1, "zeros between"}, {GRAD + 24 + 12, 7, "zeros between"},
        {GRAD + 24 + 4, 1, "domain 1 comes after domain 1"}, {GRAD + 4, 15, "a matrix of"},
        {SCORES, 4, "kind 4 comes twice"}, {SCORES, 1, "after one of a higher kind"},
        {SCORES + 12 + 48, 1, "entry 2 has 1 where"},
    };
    struct mx_sections s;
    struct mx_err err;
    uint8_t buf[ROOM];

    (void)state;
    assert_int_equal(everything(buf), SCORES + 8 + 72);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        size_t n = everything(buf);

        mx_store_u32(buf + t[i].at, t[i].value);
        if (decode(buf, n, &s, &err) != MX_EPROTOCOL || strstr(err.text, t[i].what) == NULL) {
            fail_msg("row %zu: %s", i, err.text);
        }
    }
}

static void test_limits(void **state)
{
    static uint8_t big[MX_REQUEST_MAX];
    static double cells[MX_GRAM_MAX * (MX_GRAM_MAX + 1) / 2];
    static uint32_t many[MX_GRAM_MAX + 1];
    struct mx_sections s;
    struct mx_writer w;
    struct mx_err err;

    (void)state;
    for (uint32_t i = 0; i <= MX_GRAM_MAX; i++) {
        many[i] = i;
    }
    mx_writer_init(&w, big, sizeof big);
    mx_grad_encode(&w, many, MX_GRAM_MAX, cells, 1);
    assert_false(w.failed);
    assert_int_equal(decode(big, mx_writer_len(&w), &s, &err), 0);
    assert_int_equal(s.n_gram, MX_GRAM_MAX);
    mx_grad_encode(&w, many, MX_GRAM_MAX + 1, cells, 1);
    assert_true(w.failed);
    mx_writer_init(&w, big, sizeof big);
    mx_grad_encode(&w, many, 0, cells, 1);
    assert_true(w.failed);
    mx_writer_init(&w, big, sizeof big);
    mx_scores_encode(&w, scores, MX_REQUEST_MAX);
    assert_true(w.failed);
    /* One section too many. */
    mx_writer_init(&w, big, sizeof big);
    for (uint32_t i = 0; i <= MX_EVAL_SETS_MAX; i++) {
        mx_eval_encode(&w, i, losses, 1);
    }
    assert_int_equal(decode(big, mx_writer_len(&w), &s, &err), MX_EPROTOCOL);
    assert_non_null(strstr(err.text, "more than 16"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests_name("sections", tests, NULL, NULL);
}
