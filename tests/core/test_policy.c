/* test_policy.c - what every policy must keep to, whatever it is fed; the traces of their formulas
 * are golden.c's. */
#include "tests/core/check.h"

#include "daemon/core/feedback.h"
#include "daemon/core/policy.h"

#include <math.h>

#define K_MAX 64
#define PARAMS_MAX 16

struct bandit {
    const struct mx_policy_ops *ops;
    uint32_t k;
    double params[PARAMS_MAX], prior[K_MAX], w[K_MAX];
    double *state;
};

static void defaults(struct bandit *b)
{
    for (size_t i = 0; i < b->ops->n_params; i++) {
        b->params[i] = b->ops->params[i].fallback;
    }
}

static void set_param(struct bandit *b, const char *name, double v)
{
    for (size_t i = 0; i < b->ops->n_params; i++) {
        if (strcmp(b->ops->params[i].name, name) == 0) {
            b->params[i] = v;
        }
    }
}

static void begin(struct bandit *b, const struct mx_policy_ops *ops, uint32_t k, struct dice *d)
{
    double sum = 0.0;

    b->ops = ops;
    b->k = k;
    assert_true(ops->n_params <= PARAMS_MAX);
    defaults(b);
    for (uint32_t i = 0; i < k; i++) {
        b->prior[i] = k > 1 && below(d, 4) == 0 ? 0.0 : unit(d) + 1e-3;
        sum += b->prior[i];
    }
    if (sum == 0.0) {
        b->prior[0] = sum = 1.0;
    }
    for (uint32_t i = 0; i < k; i++) {
        b->prior[i] /= sum;
    }
    b->state = test_get(ops->state_size(k), sizeof *b->state);
}

static void check_weights(struct bandit *b)
{
    double sum = 0.0;

    b->ops->weights(b->state, b->k, b->w);
    for (uint32_t i = 0; i < b->k; i++) {
        assert_true(isfinite(b->w[i]) && b->w[i] >= 0.0 && b->w[i] <= 1.0 + 1e-12);
        sum += b->w[i];
    }
    assert_true(fabs(sum - 1.0) < 1e-9);
}

static double odd_loss(struct dice *d)
{
    static const double odd[] = {0.0, 1.0, 1e4, 5e-324, 1e-300, 709.0, 710.0, 745.0, 2.5, 1e-9};

    return below(d, 2) ? odd[below(d, sizeof odd / sizeof odd[0])] : 12 * unit(d);
}

/* Statistics of a random subset of domains, rising. */
static uint32_t feed(struct dice *d, uint32_t k, struct mx_domain_stats *stats)
{
    uint32_t n = 0, one_in = 1 + (uint32_t)below(d, 4);
    double same = odd_loss(d);
    int alike = below(d, 8) == 0;

    for (uint32_t i = 0; i < k; i++) {
        if (below(d, one_in) == 0) {
            stats[n++] = (struct mx_domain_stats){i, 1 + below(d, 1000), 0,
                                                  alike ? same : odd_loss(d)};
        }
    }
    return n;
}

static void random_params(struct bandit *b, struct dice *d)
{
    for (size_t i = 0; i < b->ops->n_params; i++) {
        const struct mx_policy_param *p = &b->ops->params[i];

        switch (below(d, 4)) {
        case 0: b->params[i] = p->fallback; break;
        case 1: b->params[i] = p->min; break;
        case 2: b->params[i] = p->max; break;
        default: b->params[i] = p->min + (fmin(p->max, p->min + 100) - p->min) * unit(d); break;
        }
        if (p->integer) {
            b->params[i] = floor(b->params[i]);
        }
    }
}

static void no_loss_breaks_a_policy(void **state)
{
    struct dice d = {test_seed("no_loss_breaks_a_policy", 41)};

    (void)state;
    for (size_t at = 0; mx_policy_at(at) != NULL; at++) {
        for (int round = 0; round < 200; round++) {
            struct bandit b;
            uint64_t t = 1;

            begin(&b, mx_policy_at(at), 1 + (uint32_t)below(&d, K_MAX), &d);
            random_params(&b, &d);
            b.ops->init(b.state, b.k, b.prior, b.params);
            check_weights(&b);
            for (int step = 0; step < 200; step++) {
                struct mx_domain_stats stats[K_MAX];
                uint32_t n = feed(&d, b.k, stats);

                b.ops->on_train(b.state, b.k, b.params, t, stats, n);
                check_weights(&b);
                t += below(&d, 20) == 0 ? below(&d, (uint64_t)1 << 34) + 1 : 1;
            }
            free(b.state);
        }
    }
}

static void state_is_all_there_is(void **state)
{
    struct dice d = {test_seed("state_is_all_there_is", 42)};

    (void)state;
    for (size_t at = 0; mx_policy_at(at) != NULL; at++) {
        struct bandit b;
        size_t words;
        double *copy, w[K_MAX];

        begin(&b, mx_policy_at(at), 9, &d);
        words = b.ops->state_size(b.k);
        copy = test_get(words, sizeof *copy);
        b.ops->init(b.state, b.k, b.prior, b.params);
        for (uint64_t t = 1; t < 100; t++) {
            struct mx_domain_stats stats[K_MAX];
            uint32_t n = feed(&d, b.k, stats);

            memcpy(copy, b.state, words * sizeof *copy);
            b.ops->on_train(b.state, b.k, b.params, t, stats, n);
            b.ops->on_train(copy, b.k, b.params, t, stats, n);
            assert_memory_equal(copy, b.state, words * sizeof *copy);
            b.ops->weights(copy, b.k, w);
            check_weights(&b);
            assert_memory_equal(w, b.w, b.k * sizeof *w);
        }
        free(copy);
        free(b.state);
    }
}

static void warm_up_and_frequency_drop_feedback(void **state)
{
    struct dice d = {test_seed("warm_up_and_frequency", 43)};

    (void)state;
    for (size_t at = 0; mx_policy_at(at) != NULL; at++) {
        struct bandit b;
        size_t words;
        double *copy;

        begin(&b, mx_policy_at(at), 5, &d);
        words = b.ops->state_size(b.k);
        copy = test_get(words, sizeof *copy);
        set_param(&b, "warmup_steps", 20);
        set_param(&b, "update_frequency", 3);
        b.ops->init(b.state, b.k, b.prior, b.params);
        for (uint64_t t = 1; t < 40; t++) {
            struct mx_domain_stats stats[5];
            int due = b.ops->adapts && t > 20 && t % 3 == 0;

            for (uint32_t i = 0; i < 5; i++) {
                stats[i] = (struct mx_domain_stats){i, 10, 0, 1.0 + unit(&d)};
            }
            memcpy(copy, b.state, words * sizeof *copy);
            b.ops->on_train(b.state, b.k, b.params, t, stats, 5);
            assert_int_equal(memcmp(copy, b.state, words * sizeof *copy) != 0, due);
            check_weights(&b);
            if (t <= 20) {
                assert_memory_equal(b.w, b.prior, sizeof(double) * 5);
            }
        }
        free(copy);
        free(b.state);
    }
}

/* The bandit's reason to be: what is hard gets more, and everything gets eps_t. */
static void hard_domains_get_more(void **state)
{
    struct dice d = {44};

    (void)state;
    for (size_t at = 0; mx_policy_at(at) != NULL; at++) {
        struct bandit b;
        double eps = sqrt(log(4) / (4 * 400.0));

        begin(&b, mx_policy_at(at), 4, &d);
        for (int i = 0; i < 4; i++) {
            b.prior[i] = 0.25;
        }
        b.ops->init(b.state, b.k, b.prior, b.params);
        for (uint64_t t = 1; t <= 400; t++) {
            struct mx_domain_stats stats[4];

            for (uint32_t i = 0; i < 4; i++) {
                stats[i] = (struct mx_domain_stats){i, 10, 0, 1.0 + i};
            }
            b.ops->on_train(b.state, b.k, b.params, t, stats, 4);
        }
        check_weights(&b);
        for (int i = 0; i < 3; i++) {
            assert_true(b.ops->adapts ? b.w[i] <= b.w[i + 1] : b.w[i] == 0.25);
        }
        assert_true(!b.ops->adapts || b.w[3] > b.w[0]);
        assert_true(strcmp(b.ops->name, "odm") != 0 || b.w[0] > eps);
        free(b.state);
    }
}

static void nothing_reported_keeps_the_prior(void **state)
{
    struct dice d = {45};
    struct bandit b;

    (void)state;
    begin(&b, mx_policy_find("odm"), 7, &d);
    b.ops->init(b.state, b.k, b.prior, b.params);
    for (uint64_t t = 1; t < 10; t++) {
        b.ops->on_train(b.state, b.k, b.params, t, NULL, 0);
    }
    check_weights(&b);
    assert_memory_equal(b.w, b.prior, 7 * sizeof(double));
    free(b.state);
}

static void names_find_their_policies(void **state)
{
    (void)state;
    for (size_t i = 0; mx_policy_at(i) != NULL; i++) {
        const struct mx_policy_ops *p = mx_policy_at(i);

        assert_ptr_equal(mx_policy_find(p->name), p);
        assert_true(p->what[0] != '\0' && p->state_size(3) > 0);
        for (size_t j = 0; j < p->n_params; j++) {
            const struct mx_policy_param *q = &p->params[j];

            assert_true(q->min <= q->fallback && q->fallback <= q->max && q->what[0] != '\0');
        }
    }
    assert_ptr_equal(mx_policy_at(1), mx_policy_find("odm"));
    assert_null(mx_policy_find(""));
    assert_null(mx_policy_find("od"));
    assert_null(mx_policy_find("odm "));
    assert_null(mx_policy_find("odm-"));
}

/* ---- the guard ------------------------------------------------------------------------------ */

static void bad_losses_are_kept_back(void **state)
{
    const struct mx_loss_bounds bounds = {100.0, 1000};
    const struct mx_loss in[] = {
        {0, 0, 10, 1000.0},     {1, 0, 10, 1000.1},  {2, 0, 0, 1.0},  {3, 0, 1001, 1.0},
        {4, 0, 10, NAN},        {5, 0, 10, INFINITY}, {6, 0, 10, -1e-9}, {7, 0, 1000, 0.0},
        {8, 0, 10, -INFINITY},
    };
    struct mx_loss out[9];
    uint32_t first;

    (void)state;
    assert_int_equal(mx_loss_clean(in, 9, &bounds, out, &first), 2);
    assert_int_equal(first, 1);
    assert_int_equal(out[0].domain, 0);
    assert_int_equal(out[1].domain, 7);
    assert_int_equal(mx_loss_clean(in, 1, &bounds, out, &first), 1);
    assert_int_equal(first, 1);
}

static void sums_do_not_depend_on_order(void **state)
{
    struct dice d = {test_seed("sums_do_not_depend_on_order", 46)};

    (void)state;
    for (int round = 0; round < 500; round++) {
        struct mx_fixed a = {0, 0}, b = {0, 0};
        double v[50], plain = 0.0;

        for (int i = 0; i < 50; i++) {
            v[i] = unit(&d) * exp(60 * (unit(&d) - 0.5));
            plain += v[i];
            mx_fixed_add(&a, v[i]);
        }
        for (int i = 50; i > 1; i--) {
            int j = (int)below(&d, (uint64_t)i);
            double swap = v[i - 1];

            v[i - 1] = v[j];
            v[j] = swap;
        }
        for (int i = 0; i < 50; i++) {
            mx_fixed_add(&b, v[i]);
        }
        assert_memory_equal(&a, &b, sizeof a);
        assert_true(fabs(mx_fixed_get(&a) - plain) <= 1e-13 * plain + 50 * 0x1p-56);
    }
}

static void one_term_comes_back_as_it_was(void **state)
{
    static const double terms[] = {0.0, 0.125, 1.0, 81920.5, 1e9 / 3, 0x1p54, 0x1.fffffffffffffp53,
                                   0x1.fffffffffffffp-4};

    (void)state;
    for (size_t i = 0; i < sizeof terms / sizeof terms[0]; i++) {
        struct mx_fixed sum = {0, 0};

        mx_fixed_add(&sum, terms[i]);
        assert_true(mx_fixed_get(&sum) == terms[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_loss_breaks_a_policy),
        cmocka_unit_test(state_is_all_there_is),
        cmocka_unit_test(warm_up_and_frequency_drop_feedback),
        cmocka_unit_test(hard_domains_get_more),
        cmocka_unit_test(nothing_reported_keeps_the_prior),
        cmocka_unit_test(names_find_their_policies),
        cmocka_unit_test(bad_losses_are_kept_back),
        cmocka_unit_test(sums_do_not_depend_on_order),
        cmocka_unit_test(one_term_comes_back_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
