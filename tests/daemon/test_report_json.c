/* test_report_json.c - lines of a file of reports: what they mean, and what is said of those that mean
 * nothing. */
#include "daemon/report_json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *const domains[] = {"web", "code", "books"};
static const char *const members[] = {"law", "web"};
static const struct mx_name_set sets[] = {{"heldout", 2, members}, {"all", 3, domains}};

static int parse(const struct mx_names *names, const char *text, struct mx_report *ret,
                 struct mx_err *err)
{
    size_t n = strlen(text);
    char *p = malloc(n + 1); /* its end is where the sanitizer sees it */
    int rc;

    assert_non_null(p);
    memcpy(p, text, n);
    rc = mx_report_parse("f.jsonl", 12, p, n, names, ret, err);
    free(p);
    return rc;
}

static void good(const struct mx_names *names, const char *text, struct mx_report *ret)
{
    struct mx_err err;

    if (parse(names, text, ret, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static void test_everything(void **state)
{
    struct mx_names *names = mx_names_new(3, domains, 2, sets, false);
    const struct mx_entry *e;
    struct mx_report r;

    (void)state;
    assert_non_null(names);
    good(names,
         "{\"step\": 12, \"rank\": 3, \"world\": 4, \"mix_version\": 7, "
         "\"train\": {\"books\": {\"loss_sum\": 2.5, \"tokens\": 8, \"samples\": 2}, "
         "\"web\": {\"loss_sum\": null, \"tokens\": 9}}, "
         "\"eval\": {\"all\": {\"web\": {\"loss_sum\": 1, \"tokens\": 2}}, "
         "\"heldout\": {\"web\": {\"loss_sum\": 3, \"tokens\": 4}, "
         "\"law\": {\"loss_sum\": 5, \"tokens\": 6}}}, "
         "\"grad\": {\"domains\": [\"books\", \"web\"], \"gram\": [[4, 0.5], [0.5, 1]], "
         "\"lr\": 3e-4}, \"reward\": {\"code\": {\"sum\": -1.5, \"count\": 16}}, "
         "\"scores\": [[\"web\", 123456, 0.71], [\"code\", 0, null]], "
         "\"flags\": [\"step_skipped\"]}", &r);
    e = &r.entry;
    assert_int_equal(e->kind, MX_ENTRY_FEEDBACK);
    assert_true(e->step == 12 && e->rank == 3 && e->world == 4 && e->mix_version == 7);
    assert_int_equal(e->flags, MX_REPORT_FLAG_SKIPPED);
    assert_int_equal(e->n, 2);
    assert_true(e->losses[0].domain == 0 && isnan(e->losses[0].loss_sum));
    assert_true(e->losses[1].domain == 2 && e->losses[1].samples == 2 && e->losses[1].tokens == 8);
    assert_int_equal(e->n_evals, 3); /* rising in set, then member */
    assert_true(e->evals[0].set == 0 && e->evals[0].member == 0 && e->evals[0].loss_sum == 5);
    assert_true(e->evals[1].set == 0 && e->evals[1].member == 1 && e->evals[1].tokens == 4);
    assert_true(e->evals[2].set == 1 && e->evals[2].member == 0);
    assert_int_equal(e->n_gram, 2); /* in the run's order */
    assert_true(e->gram_domains[0] == 0 && e->gram_domains[1] == 2 && e->lr == 3e-4);
    assert_true(e->gram[0] == 1 && e->gram[1] == 0.5 && e->gram[2] == 4);
    assert_true(e->n_rewards == 1 && e->rewards[0].domain == 1 && e->rewards[0].sum == -1.5);
    assert_true(e->n_scores == 2 && e->scores[0].sample == 123456 && isnan(e->scores[1].score));
    mx_report_clear(&r);
    good(names, "{\"step\": 0, \"flags\": [\"nonfinite_loss\"]}", &r);
    assert_true(r.entry.world == 1 && r.entry.flags == MX_REPORT_FLAG_NONFINITE);
    mx_report_clear(&r);
    mx_names_free(names);
}

/* Where a run has named no set, any one name will do. */
static void test_any_set(void **state)
{
    struct mx_names *names = mx_names_new(3, domains, 1, &sets[1], true);
    struct mx_report r;
    struct mx_err err;

    (void)state;
    assert_non_null(names);
    good(names, "{\"step\": 1, \"eval\": {\"whatever\": {\"books\": {\"loss_sum\": 4, "
                "\"tokens\": 3}}}}", &r);
    assert_true(r.entry.evals[0].set == 0 && r.entry.evals[0].member == 2);
    mx_report_clear(&r);
    assert_int_equal(parse(names, "{\"step\": 1, \"eval\": {\"a\": {}, \"b\": {}}}", &r, &err),
                     MX_EINVALID);
    assert_non_null(strstr(err.text, "2 eval sets; there are 1"));
    mx_names_free(names);
}

/* What isn't finite, in all its forms; and a report of nothing. */
static void test_not_finite(void **state)
{
    struct mx_names *names = mx_names_new(3, domains, 2, sets, false);
    struct mx_report r;
    struct mx_err err;

    (void)state;
    assert_non_null(names);
    assert_int_equal(parse(names, "{\"step\": 1, \"train\": {\"web\": {\"loss_sum\": NaN, "
                           "\"tokens\": 1}, \"code\": {\"loss_sum\": \"-Infinity\", \"tokens\": 1},"
                           "\"books\": {\"loss_sum\": -Infinity, \"tokens\": 1}}}", &r, &err), 0);
    assert_int_equal(r.entry.n, 3);
    for (uint32_t i = 0; i < r.entry.n; i++) {
        double sum = r.entry.losses[i].loss_sum;

        assert_true(isfinite(sum) == 0);
    }
    mx_report_clear(&r);
    assert_int_equal(parse(names, "{\"step\": 1, \"train\": {}}", &r, &err), 0);
    assert_int_equal(r.entry.n, 0);
    mx_report_clear(&r);
    mx_names_free(names);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *said;
    } t[] = {
        {"", "f.jsonl:12: column 1"},
        {"{\"step\": 1", "f.jsonl:12: column 11"},
        {"[]", "f.jsonl:12: a report must be one object"},
        {"{\"train\": {}}", "'step' is missing"},
        {"{\"step\": 1}", "at least one part or flag"},
        {"{\"step\": 1, \"tran\": {}}", "f.jsonl:12: key 'tran': unknown; known here: step"},
        {"{\"step\": -1}", "key 'step': must be a whole number"},
        {"{\"step\": 1, \"world\": 2, \"rank\": 2}", "key 'rank': must be a whole number from 0 to 1"},
        {"{\"step\": 1, \"train\": {\"wed\": {}}}",
         "key 'train.wed': there is no domain \"wed\"; there are books, code, web"},
        {"{\"step\": 1, \"train\": {\"web\": {\"tokens\": 1}}}",
         "key 'train.web': 'loss_sum' is missing"},
        {"{\"step\": 1, \"train\": {\"web\": {\"loss_sum\": 1}}}", "'tokens' is missing"},
        {"{\"step\": 1, \"train\": {\"web\": {\"loss_sum\": \"1\", \"tokens\": 1}}}",
         "key 'train.web.loss_sum': must be a number, or null"},
        {"{\"step\": 1, \"train\": {\"web\": {\"loss_sum\": 1, \"tokens\": 1.5}}}",
         "key 'train.web.tokens': must be a whole number"},
        {"{\"step\": 1, \"train\": {\"web\": {\"loss_sum\": 1, \"tokens\": 1, \"x\": 1}}}",
         "key 'train.web.x': unknown"},
        {"{\"step\": 1, \"train\": {\"web\": 1}}", "key 'train.web': must be an object"},
        {"{\"step\": 1, \"train\": [1]}", "key 'train': must be an object of domains"},
        {"{\"step\": 1, \"train\": {\"web\": {}, \"web\": {}}}", "stands twice in one object"},
        {"{\"step\": 1, \"eval\": {\"held\": {}}}",
         "key 'eval.held': there is no eval set of that name; there are all, heldout"},
        {"{\"step\": 1, \"eval\": {\"heldout\": {\"code\": {}}}}",
         "key 'eval.heldout.code': the eval set has no such member; it has law, web"},
        {"{\"step\": 1, \"reward\": {\"web\": {\"sum\": 1}}}", "'count' is missing"},
        {"{\"step\": 1, \"reward\": {\"web\": 1}}", "must be an object, like {\"sum\""},
        {"{\"step\": 1, \"scores\": {}}", "must be an array of [domain, sample, score]"},
        {"{\"step\": 1, \"scores\": [[\"web\", 1]]}", "key 'scores[0]': must be [domain"},
        {"{\"step\": 1, \"scores\": [[\"web\", 1.5, 1]]}",
         "key 'scores[0][1]': must be the number of a sample"},
        {"{\"step\": 1, \"scores\": [[\"wed\", 1, 1]]}",
         "key 'scores[0][0]': there is no domain \"wed\""},
        {"{\"step\": 1, \"grad\": {\"domains\": [\"web\"]}}", "must be an object with \"domains\""},
        {"{\"step\": 1, \"grad\": {\"domains\": [\"web\"], \"gram\": [[1]]}}", "'lr' is missing"},
        {"{\"step\": 1, \"grad\": {\"domains\": [], \"gram\": [], \"lr\": 1}}",
         "key 'grad.domains': must be an array of 1 to 128"},
        {"{\"step\": 1, \"grad\": {\"domains\": [\"web\", \"web\"], \"gram\": [], \"lr\": 1}}",
         "key 'grad.domains[1]': domain \"web\" stands twice"},
        {"{\"step\": 1, \"grad\": {\"domains\": [\"web\", \"code\"], \"gram\": [[1, 2]], \"lr\": 1}}",
         "key 'grad.gram': must be an array of rows, one for each of the 2 domains; it has 1"},
        {"{\"step\": 1, \"grad\": {\"domains\": [\"web\", \"code\"], \"gram\": [[1, 2], [2]], "
         "\"lr\": 1}}", "key 'grad.gram[1]': must be an array of 2 numbers; it has 1"},
        {"{\"step\": 1, \"grad\": {\"domains\": [\"web\", \"code\"], \"gram\": [[1, 0.5], "
         "[0.25, 2]], \"lr\": 1}}",
         "key 'grad.gram[1][0]': the matrix isn't symmetric: row code column web is 0.25, row web "
         "column code is 0.5"},
        {"{\"step\": 1, \"grad\": {\"domains\": [\"web\"], \"gram\": [[4]], \"norms\": [2.1], "
         "\"lr\": 1}}", "key 'grad.norms[0]': the norm of web is 2.1"},
        {"{\"step\": 1, \"flags\": [\"bad\"]}", "key 'flags[0]': must be \"nonfinite_loss\""},
        {"{\"step\": 1, \"flags\": \"bad\"}", "key 'flags': must be an array"},
    };
    struct mx_names *names = mx_names_new(3, domains, 2, sets, false);

    (void)state;
    assert_non_null(names);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct mx_report r;
        struct mx_err err;

        if (parse(names, t[i].text, &r, &err) != MX_EINVALID ||
            strstr(err.text, t[i].said) == NULL) {
            fail_msg("%s\nsaid: %s\nnot: %s", t[i].text, err.text, t[i].said);
        }
    }
    mx_names_free(names);
}

/* As many domains as there can be, in the time that a line of a file may take. */
static void test_large(void **state)
{
    enum { K = 10000 };
    static char names_of[K][8];
    const char **list = calloc(K, sizeof *list);
    char *text = malloc((size_t)K * 64), *at = text;
    struct mx_names *names;
    struct mx_report r;

    (void)state;
    assert_true(list != NULL && text != NULL);
    at += snprintf(at, 64, "{\"step\": 1, \"train\": {");
    for (int i = 0; i < K; i++) {
        (void)snprintf(names_of[i], sizeof names_of[i], "d%d", i);
        list[i] = names_of[i];
        at += snprintf(at, 64, "%s\"d%d\": {\"loss_sum\": %d, \"tokens\": 7}", i > 0 ? ", " : "",
                      K - 1 - i, i);
    }
    at += snprintf(at, 64, "}}");
    names = mx_names_new(K, list, 0, NULL, false);
    assert_non_null(names);
    good(names, text, &r);
    assert_int_equal(r.entry.n, K);
    assert_true(r.entry.losses[0].domain == 0 && r.entry.losses[0].loss_sum == K - 1);
    mx_report_clear(&r);
    mx_names_free(names);
    free(text);
    free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything), cmocka_unit_test(test_any_set),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests_name("report-json", tests, NULL, NULL);
}
