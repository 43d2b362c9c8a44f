/* test_runconf.c - what a run's config says of policies, and each way in which it can be wrong: the
 * key, the line and the numbers that clash are in the text. */
#include "daemon/runconf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* A config of four domains with `more` behind them. */
static int parse_of(const char *domains, const char *more, struct mx_runconf *ret,
                    struct mx_err *err)
{
    char text[4096];
    int n = snprintf(text, sizeof text, "{\"name\": \"r\", \"batch_size\": 8, \"seq_len\": 16,\n"
                     "\"domains\": {%s},\n%s}", domains, more);

    assert_true(n > 0 && (size_t)n < sizeof text);
    return mx_runconf_parse("run.json", text, (size_t)n, NULL, ret, err);
}

#define FOUR "\"web\": {}, \"code\": {}, \"law\": {}, \"math\": {}"

static struct mx_runconf good_of(const char *domains, const char *more)
{
    struct mx_runconf c;
    struct mx_err err;

    if (parse_of(domains, more, &c, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return c;
}

static struct mx_runconf good(const char *more)
{
    return good_of(FOUR, more);
}

static void test_nothing_said(void **state)
{
    struct mx_runconf c = good("\"seed\": 1");
    const struct mx_guards *g = &c.mixers[0].guards;

    (void)state;
    assert_int_equal(c.n_mixers, 1);
    assert_string_equal(c.mixers[0].policy.ops->name, "static");
    assert_true(g->loss_clip == 20 && g->prior_decay == 0 && g->max_change == 1);
    assert_true(isinf(g->stale_max) && g->stale_discount == 1 && g->apply == MX_APPLY_SAMPLER);
    assert_true(c.evals_implied && c.n_eval_sets == 1 && c.eval_sizes[0] == 4);
    assert_string_equal(c.eval_sets[0].members[2], "law");
    assert_int_equal(c.shadow_steps, 10);
    assert_int_equal(c.n_attributes, 0);
    mx_runconf_clear(&c);
}

static void test_params(void **state)
{
    struct mx_runconf c = good("\"policy\": {\"name\": \"skillit\", \"variant\": \"static\", "
                               "\"eta\": 2, \"normalize_loss\": true, \"window\": 5, "
                               "\"loss_clip\": 0, \"prior_decay\": 0.5, \"absent\": \"decay\", "
                               "\"absent_decay\": 0.25, \"stale_discount\": 0.5, \"stale_max\": 3, "
                               "\"max_change\": 0.125, \"apply\": \"loss\"}");
    const struct mx_mixer_conf *m = &c.mixers[0];
    const struct mx_policy_ops *p = m->policy.ops;

    (void)state;
    for (size_t i = 0; i < p->n_params; i++) {
        const char *name = p->params[i].name;
        double want = strcmp(name, "variant") == 0 || strcmp(name, "normalize_loss") == 0 ? 1
                      : strcmp(name, "eta") == 0                                          ? 2
                      : strcmp(name, "window") == 0 ? 5
                                                    : p->params[i].fallback;

        assert_true(m->policy.params[i] == want);
    }
    assert_true(isinf(m->guards.loss_clip) && m->guards.prior_decay == 0.5);
    assert_true(m->guards.absent == MX_ABSENT_DECAY && m->guards.absent_decay == 0.25);
    assert_true(m->guards.stale_discount == 0.5 && m->guards.stale_max == 3);
    assert_true(m->guards.max_change == 0.125 && m->guards.apply == MX_APPLY_LOSS);
    mx_runconf_clear(&c);
}

static const double *table(const struct mx_mixer_conf *m, const char *name)
{
    for (size_t i = 0; i < m->policy.ops->n_tables; i++) {
        if (strcmp(m->policy.ops->tables[i].name, name) == 0) {
            return m->policy.tables[i];
        }
    }
    fail_msg("no table %s", name);
    return NULL;
}

/* Every shape, as a list and by names. */
static void test_tables(void **state)
{
    struct mx_runconf c = good(
        "\"eval_sets\": {\"a\": [\"x\"], \"b\": [\"x\", \"web\", \"z\"]},\n"
        "\"policy\": {\"name\": \"skillit\", \"eval_set\": \"b\", \"targets\": [\"z\"], "
        "\"init\": {\"math\": 4, \"web\": 1, \"law\": 3, \"code\": 2}, "
        "\"first_losses\": {\"z\": 3, \"x\": 1, \"web\": 2}, "
        "\"graph\": [[1, 2, 3], {\"z\": -1}, [0, 0, 0], [4, 5, 6]]}");
    const struct mx_mixer_conf *m = &c.mixers[0];

    (void)state;
    assert_false(c.evals_implied);
    assert_true(m->eval_set == 1 && m->policy.m == 3 && m->policy.k == 4);
    assert_memory_equal(table(m, "targets"), ((double[]){0, 0, 1}), 3 * sizeof(double));
    assert_memory_equal(table(m, "init"), ((double[]){1, 2, 3, 4}), 4 * sizeof(double));
    assert_memory_equal(table(m, "first_losses"), ((double[]){1, 2, 3}), 3 * sizeof(double));
    assert_memory_equal(table(m, "graph"), ((double[]){1, 2, 3, 0, 0, -1, 0, 0, 0, 4, 5, 6}),
                        12 * sizeof(double));
    mx_runconf_clear(&c);
    /* By names alone, and what isn't named is 0; over the domains themselves. */
    c = good("\"policy\": {\"name\": \"skillit\", \"graph\": {\"law\": {\"web\": 0.5}}}");
    m = &c.mixers[0];
    assert_int_equal(m->policy.m, 4);
    for (size_t i = 0; i < 16; i++) {
        assert_true(table(m, "graph")[i] == (i == 8 ? 0.5 : 0));
    }
    assert_null(table(m, "targets"));
    mx_runconf_clear(&c);
    c = good("\"policy\": {\"name\": \"dbl\", \"target\": [1, 2, 3, 4]}");
    assert_memory_equal(table(&c.mixers[0], "target"), ((double[]){1, 2, 3, 4}),
                        4 * sizeof(double));
    mx_runconf_clear(&c);
}

static void test_shadows(void **state)
{
    struct mx_runconf c = good("\"policy\": {\"name\": \"odm\"}, \"shadow_steps\": 50,\n"
                               "\"shadows\": [{\"name\": \"odm\"}, {\"name\": \"odm\", \"alpha\": "
                               "0.5}, {\"name\": \"static\", \"label\": \"still\"}]");

    (void)state;
    assert_int_equal(c.n_mixers, 4);
    assert_int_equal(c.shadow_steps, 50);
    assert_string_equal(c.policies[1].label, "odm");
    assert_string_equal(c.policies[2].label, "odm-2");
    assert_string_equal(c.policies[3].label, "still");
    assert_true(c.mixers[2].policy.params != c.mixers[1].policy.params);
    mx_runconf_clear(&c);
}

static void test_attributes(void **state)
{
    struct mx_runconf c = good_of(
        "\"a\": {\"attributes\": {\"topic\": \"law\", \"lang\": \"en\"}}, \"b\": {}, "
        "\"c\": {\"attributes\": {\"lang\": \"de\"}}, \"d\": {\"attributes\": {\"lang\": \"en\"}}",
        "\"policy\": {\"name\": \"agents\"}");
    const struct mx_policy_conf *p = &c.mixers[0].policy;

    (void)state;
    assert_int_equal(p->n_attributes, 2);
    assert_string_equal(c.attribute[0].name, "topic");
    assert_true(p->n_values[0] == 1 && p->n_values[1] == 2);
    assert_memory_equal(p->attributes, ((double[]){0, 0, -1, -1, -1, 1, -1, 0}),
                        8 * sizeof(double));
    mx_runconf_clear(&c);
}

static void test_refused(void **state)
{
    static const struct {
        const char *more, *said;
    } t[] = {
        {"\"policy\": {\"name\": \"odmm\"}",
         "run.json:3: key 'policy.name': no policy \"odmm\"; there are static, odm"},
        {"\"policy\": {}", "key 'policy': 'name' is missing"},
        {"\"policy\": \"odm\"", "key 'policy': must be an object"},
        {"\"policy\": {\"name\": \"odm\",\n\"alpa\": 1}",
         "run.json:4: key 'policy.alpa': unknown; known here: name, warmup_steps"},
        {"\"policy\": {\"name\": \"odm\", \"alpha\": 1.5}",
         "key 'policy.alpha': must be a number from 0 to 1, but it is 1.5"},
        {"\"policy\": {\"name\": \"odm\", \"warmup_steps\": 1.5}",
         "key 'policy.warmup_steps': must be a whole number, but it is 1.5"},
        {"\"policy\": {\"name\": \"skillit\", \"variant\": \"fast\"}",
         "key 'policy.variant': \"fast\" is none of online, static"},
        {"\"policy\": {\"name\": \"skillit\", \"normalize_loss\": 1}",
         "key 'policy.normalize_loss': must be true or false, but it is 1"},
        {"\"policy\": {\"name\": \"odm\", \"absent\": \"forget\"}",
         "key 'policy.absent': \"forget\" is none of skip, hold, decay"},
        {"\"policy\": {\"name\": \"odm\", \"absent\": \"hold\", \"absent_decay\": 0.5}",
         "key 'policy.absent_decay': only \"absent\": \"decay\" has one, and it is \"hold\""},
        {"\"policy\": {\"name\": \"odm\", \"prior_decay\": 1}",
         "key 'policy.prior_decay': must be a number from 0 to 0.999999999, but it is 1"},
        {"\"policy\": {\"name\": \"odm\", \"max_change\": 0}", "key 'policy.max_change'"},
        {"\"policy\": {\"name\": \"odm\", \"stale_max\": 0}", "key 'policy.stale_max'"},
        {"\"policy\": {\"name\": \"odm\", \"apply\": \"both\"}", "none of sampler, loss"},
        {"\"policy\": {\"name\": \"odm\", \"eval_set\": \"eval\"}",
         "key 'policy.eval_set': policy odm looks at no eval set"},
        {"\"policy\": {\"name\": \"odm\", \"label\": \"x\"}", "key 'policy.label': unknown"},
        /* graphs */
        {"\"policy\": {\"name\": \"skillit\", \"graph\": [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]]}",
         "key 'policy.graph': 3 rows, the run has 4 domains"},
        {"\"policy\": {\"name\": \"skillit\",\n\"graph\": [[1, 2, 3, 4], [1, 2, 3], [1, 2, 3, 4], "
         "[1, 2, 3, 4]]}",
         "run.json:4: key 'policy.graph[1]': 3 numbers, there are 4 members of the eval set"},
        {"\"policy\": {\"name\": \"skillit\", \"graph\": {\"wed\": {\"web\": 1}}}",
         "key 'policy.graph.wed': there is no domain \"wed\"; there are code, law, math, web"},
        {"\"policy\": {\"name\": \"skillit\", \"graph\": {\"web\": {\"wed\": 1}}}",
         "eval set \"eval\" has no member \"wed\"; it has code, law, math, web"},
        {"\"policy\": {\"name\": \"skillit\", \"graph\": {\"web\": {\"law\": 1e9}}}",
         "key 'policy.graph.web.law': must be a number from -1000 to 1000, but it is 1000000000"},
        {"\"policy\": {\"name\": \"skillit\", \"graph\": {\"web\": {\"law\": \"1\"}}}",
         "key 'policy.graph.web.law': must be a number from -1000 to 1000"},
        {"\"policy\": {\"name\": \"skillit\", \"graph\": 7}",
         "must be a list of 4 rows of 4 numbers, or an object of objects by name"},
        {"\"policy\": {\"name\": \"skillit\", \"graph\": [1, 2, 3, 4]}",
         "key 'policy.graph[0]': must be a list of 4 numbers"},
        {"\"eval_sets\": {\"e\": [\"x\", \"y\"]}, \"policy\": {\"name\": \"skillit\"}",
         "key 'policy': policy skillit: graph: needed where 4 domains are not 2 members"},
        {"\"policy\": {\"name\": \"skillit\", \"targets\": [\"wed\"]}",
         "key 'policy.targets[0]': eval set \"eval\" has no member \"wed\""},
        {"\"policy\": {\"name\": \"skillit\", \"targets\": []}", "at least one"},
        {"\"policy\": {\"name\": \"skillit\", \"init\": [0, 0, 0, 0]}",
         "policy skillit: init: the 4 weights sum to 0"},
        {"\"policy\": {\"name\": \"dbl\"}", "key 'policy': policy dbl needs \"target\": loss that"},
        {"\"policy\": {\"name\": \"dbl\", \"target\": {\"web\": 1, \"law\": 2, \"math\": 3}}",
         "key 'policy.target': \"code\" is missing: 3 numbers, there are 4 domains"},
        {"\"policy\": {\"name\": \"dbl\", \"target\": [1, 2, 3, 4, 5]}",
         "key 'policy.target': 5 numbers, there are 4 domains"},
        {"\"policy\": {\"name\": \"dbl\", \"target\": [1, 2, 3, -4]}",
         "key 'policy.target[3]': must be a number from 0 to 10000, but it is -4"},
        {"\"policy\": {\"name\": \"agents\"}",
         "key 'policy': policy agents needs \"attributes\" of the domains; there are none"},
        {"\"eval_sets\": {\"e\": [\"x\"]}, \"policy\": {\"name\": \"aioli\"}",
         "eval set: 4 domains but 1 members"},
        /* evaluation sets */
        {"\"eval_sets\": {\"a\": [\"x\"], \"b\": [\"y\"]}, \"policy\": {\"name\": \"skillit\", "
         "\"eval_set\": \"c\"}",
         "key 'policy.eval_set': there is no eval set \"c\"; there are a, b"},
        {"\"eval_sets\": {}", "key 'eval_sets': must be an object of 1 to 16 sets"},
        {"\"eval_sets\": {\"a\": []}", "key 'eval_sets.a': must be a list of names, at least 1"},
        {"\"eval_sets\": {\"a\": [1]}", "key 'eval_sets.a[0]': must be a member's name"},
        {"\"eval_sets\": {\"a\": [\"x/y\"]}", "key 'eval_sets.a[0]': "},
        {"\"eval_sets\": {\"a b\": [\"x\"]}", "key 'eval_sets.a b': "},
        {"\"eval_sets\": {\"a\": [\"x\", \"y\",\n\"x\"]}",
         "run.json:4: key 'eval_sets.a[2]': member \"x\" stands twice, also at place 0"},
        /* shadows */
        {"\"shadows\": {}", "key 'shadows': must be a list of at most 8 policies"},
        {"\"shadows\": [{\"name\": \"odm\"}, {\"name\": \"nod\"}]",
         "key 'shadows[1].name': no policy \"nod\""},
        {"\"shadows\": [{\"name\": \"odm\", \"apply\": \"loss\"}]",
         "key 'shadows[0].apply': a shadow's weights go nowhere"},
        {"\"shadows\": [{\"name\": \"odm\", \"label\": \"x\"}, {\"name\": \"odm\", \"label\": \"x\"}]",
         "key 'shadows[1].label': shadow 1 has the label \"x\" too"},
        {"\"shadow_steps\": 0", "key 'shadow_steps': must be a whole number from 1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct mx_runconf c;
        struct mx_err err;

        if (parse_of(FOUR, t[i].more, &c, &err) != MX_EINVALID ||
            strstr(err.text, t[i].said) == NULL) {
            fail_msg("%s\nsaid: %s\nnot: %s", t[i].more, err.text, t[i].said);
        }
    }
}

static void test_domains_refused(void **state)
{
    static const struct {
        const char *domains, *said;
    } t[] = {
        {"\"a\": {\"floor\": 0.6}, \"b\": {\"floor\": 0.5}", "floors and pins sum to 1.1, over 1"},
        {"\"a\": {\"floor\": 0.6, \"ceiling\": 0.5}, \"b\": {}",
         "key 'domains.a': floor 0.6 is over ceiling 0.5"},
        {"\"a\": {\"pin\": 0.5, \"floor\": 0.6}, \"b\": {}",
         "key 'domains.a': pin 0.5 is under floor 0.6"},
        {"\"a\": {\"pin\": 0.5, \"ceiling\": 0.4}, \"b\": {}",
         "key 'domains.a': pin 0.5 is over ceiling 0.4"},
        {"\"a\": {\"attributes\": 7}", "key 'domains.a.attributes': must be an object"},
        {"\"a\": {\"attributes\": {\"q\": 7}}", "key 'domains.a.attributes.q': must be a string"},
        {"\"a\": {\"attributes\": {\"q q\": \"7\"}}", "key 'domains.a.attributes.q q'"},
        {"\"a\": {\"attributes\": {\"1\":\"x\",\"2\":\"x\",\"3\":\"x\",\"4\":\"x\",\"5\":\"x\","
         "\"6\":\"x\",\"7\":\"x\",\"8\":\"x\",\"9\":\"x\"}}",
         "key 'domains.a.attributes.9': domains have more than 8 attributes"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct mx_runconf c;
        struct mx_err err;

        if (parse_of(t[i].domains, "\"seed\": 1", &c, &err) != MX_EINVALID ||
            strstr(err.text, t[i].said) == NULL) {
            fail_msg("%s\nsaid: %s\nnot: %s", t[i].domains, err.text, t[i].said);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_said), cmocka_unit_test(test_params),
        cmocka_unit_test(test_tables), cmocka_unit_test(test_shadows),
        cmocka_unit_test(test_attributes), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_domains_refused),
    };
    return cmocka_run_group_tests_name("daemon-runconf", tests, NULL, NULL);
}
