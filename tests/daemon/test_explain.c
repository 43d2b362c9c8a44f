/* test_explain.c - what is told of a mix: which domains are listed, how numbers are written, what
 * is said to have moved most. */
#include "daemon/explain.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define K 1000u
#define ONE MX_SHARE_ONE

struct world {
    struct mx_runconf conf;
    struct mx_policy_ops ops;
    uint64_t *was, *shares;
    double *weights, *terms, *was_terms, *prior;
    uint8_t *bound;
};

static void *zeros(size_t n, size_t size)
{
    void *p = calloc(n, size);

    assert_non_null(p);
    return p;
}

/* k domains of equal share, all with the longest names there are. */
static void make(struct world *x, uint32_t k)
{
    memset(x, 0, sizeof *x);
    x->ops = (struct mx_policy_ops){.name = "p", .n_terms = 2,
                                    .terms = {"estimate", "exploration"}};
    x->conf.k = k;
    x->conf.domains = zeros(k, sizeof *x->conf.domains);
    x->was = zeros(2 * (size_t)k, sizeof *x->was);
    x->shares = zeros(2 * (size_t)k, sizeof *x->shares);
    x->weights = zeros(k, sizeof *x->weights);
    x->prior = zeros(k, sizeof *x->prior);
    x->terms = zeros(2 * (size_t)k, sizeof *x->terms);
    x->was_terms = zeros(2 * (size_t)k, sizeof *x->was_terms);
    x->bound = zeros(k, 1);
    for (uint32_t i = 0; i < k; i++) {
        (void)snprintf(x->conf.domains[i].name, sizeof x->conf.domains[i].name, "%063u", i);
        x->was[i] = x->shares[i] = ONE / k;
        x->prior[i] = x->weights[i] = 1.0 / k;
    }
}

static void unmake(struct world *x)
{
    free(x->conf.domains);
    free(x->was);
    free(x->shares);
    free(x->weights);
    free(x->prior);
    free(x->terms);
    free(x->was_terms);
    free(x->bound);
}

static struct mx_why why_of(const struct world *x)
{
    return (struct mx_why){.conf = &x->conf, .prior = x->prior, .was = x->was,
                           .shares = x->shares, .n_shares = x->conf.k, .weights = x->weights,
                           .policy = &x->ops, .terms = x->terms, .was_terms = x->was_terms,
                           .n_terms = 2, .bound = x->bound};
}

static struct mx_json_doc *told(const struct mx_why *y, uint32_t most, size_t *ret_n)
{
    struct mx_json_doc *d;
    struct mx_jsonw w;
    struct mx_err err;
    char *text;
    size_t n;

    mx_jsonw_init(&w, 64u << 20);
    mx_jsonw_object(&w, NULL);
    mx_explain_mix(&w, y, most);
    mx_jsonw_end_object(&w);
    text = mx_jsonw_take(&w, &n);
    assert_non_null(text);
    assert_int_equal(mx_json_parse_line("told", 1, text, n, n, &d, &err), 0);
    free(text);
    if (ret_n != NULL) {
        *ret_n = n;
    }
    return d;
}

static const mx_json *of(const struct mx_json_doc *d, const char *key, const struct world *x,
                         uint32_t i)
{
    return mx_json_get(mx_json_get(mx_json_root(d), key), x->conf.domains[i].name);
}

/* Of many domains those are listed whose shares moved most, and all of it stays small. */
static void test_many(void **state)
{
    struct mx_json_doc *d;
    struct mx_why y;
    struct world x;
    size_t n;

    (void)state;
    make(&x, K);
    x.shares[700] += ONE / 4;
    x.shares[3] -= ONE / (2 * K);
    for (uint32_t i = 0; i < 2 * K; i++) {
        x.terms[i] = -1.0 / 3.0 * (1.0 + i);
    }
    y = why_of(&x);
    y.single = true;
    d = told(&y, MX_EXPLAIN_LISTED, &n);
    assert_int_equal(mx_json_count(mx_json_get(mx_json_root(d), "was")), MX_EXPLAIN_LISTED);
    assert_non_null(of(d, "was", &x, 700));
    assert_non_null(of(d, "was", &x, 3));
    assert_non_null(of(d, "was", &x, 0)); /* ties go to the first */
    assert_null(of(d, "was", &x, 999));
    assert_true(n < 80000);
    mx_json_free(d);
    d = told(&y, UINT32_MAX, NULL);
    assert_int_equal(mx_json_count(mx_json_get(mx_json_root(d), "was")), K);
    mx_json_free(d);
    unmake(&x);
}

static void test_numbers(void **state)
{
    const mx_json *terms;
    struct mx_json_doc *d;
    struct mx_why y;
    struct world x;

    (void)state;
    make(&x, 4);
    x.weights[1] = (double)0.1f;
    x.terms[0] = (double)NAN;
    x.terms[1] = -3.4028234663852886e38; /* the largest of single precision stands for more */
    x.terms[2] = x.was_terms[2] = 5;
    x.terms[4 + 2] = 1e-9;
    x.was_terms[4 + 2] = 2e-9;
    x.terms[3] = 1.0;
    x.was_terms[3] = 1.0 + 1e-9; /* no more than precision */
    x.bound[2] = MX_BOUND_CEILING;
    y = why_of(&x);
    y.single = true;
    d = told(&y, 8, NULL);
    assert_true(mx_json_number(of(d, "weights", &x, 1)) == 0.1);
    terms = mx_json_get(mx_json_get(mx_json_root(d), "terms"), "estimate");
    assert_true(mx_json_is_null(mx_json_get(terms, x.conf.domains[0].name)));
    assert_true(mx_json_is_null(mx_json_get(terms, x.conf.domains[1].name)));
    assert_string_equal(mx_json_string(of(d, "moved_most", &x, 0)), "estimate"); /* it had one */
    assert_string_equal(mx_json_string(of(d, "moved_most", &x, 2)), "exploration");
    assert_null(of(d, "moved_most", &x, 3));
    assert_int_equal(mx_json_count(mx_json_get(mx_json_root(d), "bound")), 1);
    assert_string_equal(mx_json_string(of(d, "bound", &x, 2)), "ceiling");
    mx_json_free(d);
    y.single = false;
    d = told(&y, 8, NULL);
    assert_true(mx_json_number(of(d, "weights", &x, 1)) == (double)0.1f);
    mx_json_free(d);
    unmake(&x);
}

/* Distance and diversity, of the shares or of the weights of the loss. */
static void test_measures(void **state)
{
    struct mx_json_doc *d;
    struct mx_why y;
    struct world x;

    (void)state;
    make(&x, 4);
    assert_true(mx_explain_kl(x.shares, x.prior, 4) == 0);
    assert_true(fabs(mx_explain_effective(x.shares, 4) - 4) < 1e-12);
    x.shares[4] = ONE; /* the weights of the loss: all for one */
    y = why_of(&x);
    y.n_shares = 8;
    y.was_loss = x.was;
    d = told(&y, 8, NULL);
    assert_true(mx_json_number(of(d, "loss_weights", &x, 0)) == 1);
    assert_true(mx_json_number(of(d, "loss_was", &x, 0)) == 0.25);
    assert_true(fabs(mx_json_number(mx_json_get(mx_json_root(d), "kl_prior")) - log(4)) < 1e-12);
    assert_true(fabs(mx_json_number(mx_json_get(mx_json_root(d), "effective_domains")) - 1) <
                1e-12);
    mx_json_free(d);
    x.prior[0] = 0; /* as far away as can be */
    d = told(&y, 8, NULL);
    assert_true(mx_json_is_null(mx_json_get(mx_json_root(d), "kl_prior")));
    mx_json_free(d);
    unmake(&x);
}

/* What isn't known is left out. */
static void test_unknown(void **state)
{
    static const char *const keys[] = {"was", "weights", "raw", "terms", "moved_most", "bound",
                                       "kl_prior", "loss_weights"};
    struct mx_json_doc *d;
    struct mx_why y;
    struct world x;

    (void)state;
    make(&x, 2);
    y = (struct mx_why){.conf = &x.conf, .shares = x.shares, .n_shares = 2};
    d = told(&y, 8, NULL);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_null(mx_json_get(mx_json_root(d), keys[i]));
    }
    assert_non_null(mx_json_get(mx_json_root(d), "effective_domains"));
    mx_json_free(d);
    unmake(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_measures),
        cmocka_unit_test(test_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
