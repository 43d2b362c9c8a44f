/* test_policy.c - what every policy must keep to, whatever it is fed: the contract of policy.h, for
 * all that are registered. What each computes is compared in golden*.c. */
#include "tests/core/check.h"

#include "daemon/core/feedback.h"
#include "tests/core/policy_world.h"

#include <math.h>

/* Long computations may take a second each. */
#define WORKS_MAX 2
#define GUARD 4u /* words behind every block, which nobody may touch */
#define UNTOUCHED 0x1.23456789abcdep-77

struct seeded {
    struct policy_source source;
    struct dice dice;
};

static uint64_t draw(struct policy_source *s)
{
    return roll(&((struct seeded *)(void *)s)->dice);
}

/* A policy at work, with all that a run would have of it. */
struct life {
    struct policy_world w;
    const struct mx_policy_ops *ops;
    size_t words;
    double *state, *weights, *terms;
    int works;
};

static double *block(size_t n)
{
    double *ret = test_get(n + GUARD, sizeof *ret);

    for (size_t i = 0; i < GUARD; i++) {
        ret[n + i] = UNTOUCHED;
    }
    return ret;
}

static void check_block(const double *b, size_t n)
{
    for (size_t i = 0; i < GUARD; i++) {
        assert_true(b[n + i] == UNTOUCHED);
    }
}

static void begin(struct life *l, const struct mx_policy_ops *ops, uint32_t k, int plain,
                  struct seeded *s)
{
    char text[160];

    memset(l, 0, sizeof *l);
    l->ops = ops;
    assert_true(ops->n_params <= WORLD_PARAMS_MAX);
    if (policy_world_begin(&l->w, ops, k, plain, &s->source, text, sizeof text) != 0) {
        fail_msg("%s, %u domains: no config passes: %s", ops->name, k, text);
    }
    l->words = ops->state_size(&l->w.c);
    l->state = block(l->words);
    l->weights = block(l->w.c.k);
    l->terms = block((size_t)ops->n_terms * l->w.c.k);
    ops->init(l->state, &l->w.c);
}

static void end(struct life *l)
{
    policy_world_end(&l->w);
    free(l->state);
    free(l->weights);
    free(l->terms);
}

/* What a run asks after every step. */
static void look(struct life *l)
{
    const struct mx_policy_conf *c = &l->w.c;
    struct mx_policy_request asked[3];

    l->ops->weights(l->state, c, l->weights);
    if (!policy_world_sound(l->weights, c->k)) {
        fail_msg("%s, step before %llu: no weights", l->ops->name, (unsigned long long)l->w.t);
    }
    if (l->ops->n_terms > 0) {
        l->ops->explain(l->state, c, l->terms);
    }
    if (l->ops->sane != NULL && !l->ops->sane(l->state, c)) {
        fail_msg("%s, step before %llu: its own state isn't sane", l->ops->name,
                 (unsigned long long)l->w.t);
    }
    if (l->ops->requests != NULL) {
        assert_true(l->ops->requests(l->state, c, asked, 2) <= 2);
    }
    check_block(l->state, l->words);
    check_block(l->weights, c->k);
    check_block(l->terms, (size_t)l->ops->n_terms * c->k);
}

/* A long computation from `state`; NULL if none is wanted. */
static double *work(const struct life *l, const double *state)
{
    const struct mx_policy_conf *c = &l->w.c;
    size_t scratch_size = l->ops->work_scratch != NULL ? l->ops->work_scratch(c) : 0;
    double *ret, *scratch;

    if (l->ops->wants_work == NULL || !l->ops->wants_work(state, c)) {
        return NULL;
    }
    ret = block(l->ops->work_size(c));
    scratch = block(scratch_size);
    l->ops->work(state, c, ret, scratch);
    check_block(ret, l->ops->work_size(c));
    check_block(scratch, scratch_size);
    free(scratch);
    return ret;
}

/* A step of the run, on the state and on `other`, if there is one. */
static void step(struct life *l, struct dice *d, double *other)
{
    const struct mx_policy_conf *c = &l->w.c;
    struct mx_observation o = policy_world_observe(&l->w, l->state);
    double *result;

    l->ops->observe(l->state, c, &o);
    if (other != NULL) {
        l->ops->observe(other, c, &o);
    }
    if (l->works < WORKS_MAX && below(d, 4) == 0 && (result = work(l, l->state)) != NULL) {
        l->works++;
        l->ops->worked(l->state, c, result);
        if (other != NULL) {
            l->ops->worked(other, c, result);
        }
        free(result);
    }
    if (l->ops->in_force != NULL && below(d, 2) == 0) {
        uint64_t from = l->w.t + below(d, 3);

        l->ops->in_force(l->state, c, from);
        if (other != NULL) {
            l->ops->in_force(other, c, from);
        }
    }
}

/* ---- for all policies ----------------------------------------------------------------------- */

static void nothing_breaks_a_policy(void **state)
{
    struct seeded s = {{draw}, {test_seed("nothing_breaks_a_policy", 41)}};

    (void)state;
    for (size_t at = 0; mx_policy_at(at) != NULL; at++) {
        for (int round = 0; round < 120; round++) {
            struct life l;

            begin(&l, mx_policy_at(at), round % 8 == 0 ? 1 : 0, 0, &s);
            look(&l);
            for (int i = 0; i < 120; i++) {
                step(&l, &s.dice, NULL);
                look(&l);
            }
            end(&l);
        }
    }
}

/* A state that was saved and loaded goes on like the one that stayed: nothing is kept beside it. */
static void state_is_all_there_is(void **state)
{
    struct seeded s = {{draw}, {test_seed("state_is_all_there_is", 42)}};

    (void)state;
    for (size_t at = 0; mx_policy_at(at) != NULL; at++) {
        for (int round = 0; round < 20; round++) {
            struct life l;
            double *copy, *w;

            begin(&l, mx_policy_at(at), 0, round == 0, &s);
            copy = block(l.words);
            w = block(l.w.c.k);
            for (int i = 0; i < 60; i++) {
                memcpy(copy, l.state, l.words * sizeof *copy);
                for (int more = 0; more < 3; more++) {
                    step(&l, &s.dice, copy);
                }
                assert_memory_equal(copy, l.state, l.words * sizeof *copy);
                look(&l);
                l.ops->weights(copy, &l.w.c, w);
                assert_memory_equal(w, l.weights, l.w.c.k * sizeof *w);
            }
            check_block(copy, l.words);
            free(copy);
            free(w);
            end(&l);
        }
    }
}

/* A state from outside is refused, or whatever it says leads nowhere out of its block. */
static void bent_states_do_no_harm(void **state)
{
    static const double odd[] = {-1.0, 0.5, 1e300, -1e300, NAN, INFINITY, -INFINITY, 0x1p53, 1e9};
    struct seeded s = {{draw}, {test_seed("bent_states_do_no_harm", 47)}};

    (void)state;
    for (size_t at = 0; mx_policy_at(at) != NULL; at++) {
        for (int round = 0; round < 200; round++) {
            struct life l;

            begin(&l, mx_policy_at(at), 0, 0, &s);
            for (int i = 0; i < 5; i++) {
                step(&l, &s.dice, NULL);
            }
            /* half of them where counters and places are */
            l.state[below(&s.dice, round % 2 && l.words > 12 ? 12 : l.words)] =
                odd[below(&s.dice, sizeof odd / sizeof odd[0])];
            l.works = WORKS_MAX;
            for (int i = 0; i < 5; i++) {
                if (l.ops->sane == NULL || l.ops->sane(l.state, &l.w.c)) {
                    step(&l, &s.dice, NULL);
                    l.ops->weights(l.state, &l.w.c, l.weights);
                }
            }
            check_block(l.state, l.words);
            check_block(l.weights, l.w.c.k);
            end(&l);
        }
    }
}

static void one_domain_has_it_all(void **state)
{
    struct seeded s = {{draw}, {test_seed("one_domain_has_it_all", 48)}};

    (void)state;
    for (size_t at = 0; mx_policy_at(at) != NULL; at++) {
        struct life l;

        begin(&l, mx_policy_at(at), 1, 1, &s);
        for (int i = 0; i < 50; i++) {
            look(&l);
            assert_true(fabs(l.weights[0] - 1.0) < 1e-12);
            step(&l, &s.dice, NULL);
        }
        end(&l);
    }
}

static void what_does_not_adapt_stays(void **state)
{
    struct seeded s = {{draw}, {test_seed("what_does_not_adapt_stays", 49)}};

    (void)state;
    for (size_t at = 0; mx_policy_at(at) != NULL; at++) {
        struct life l;

        begin(&l, mx_policy_at(at), 7, 0, &s);
        for (int i = 0; i < 50 && !l.ops->adapts; i++) {
            step(&l, &s.dice, NULL);
            look(&l);
            assert_memory_equal(l.weights, l.w.prior, 7 * sizeof(double));
        }
        end(&l);
    }
}

static void names_find_their_policies(void **state)
{
    (void)state;
    for (size_t i = 0; mx_policy_at(i) != NULL; i++) {
        const struct mx_policy_ops *p = mx_policy_at(i);

        assert_ptr_equal(mx_policy_find(p->name), p);
        assert_true(p->what[0] != '\0' && p->n_tables <= MX_POLICY_TABLES_MAX);
        assert_true(p->n_terms <= MX_POLICY_TERMS_MAX && (p->n_terms == 0 || p->explain != NULL));
        assert_true((p->wants_work == NULL) == (p->work == NULL));
        assert_true((p->wants_work == NULL) == (p->worked == NULL));
        assert_true(!p->adapts || p->uses_train || p->uses_eval || p->uses_reward || p->uses_grad);
        for (size_t j = 0; j < p->n_params; j++) {
            const struct mx_policy_param *q = &p->params[j];

            assert_true(q->min <= q->fallback && q->fallback <= q->max && q->what[0] != '\0');
            assert_true((q->kind == MX_PARAM_CHOICE) == (q->choices != NULL));
        }
        for (size_t j = 0; j < p->n_tables; j++) {
            assert_true(p->tables[j].min < p->tables[j].max && p->tables[j].what[0] != '\0');
        }
    }
    assert_ptr_equal(mx_policy_at(1), mx_policy_find("odm"));
    assert_null(mx_policy_find(""));
    assert_null(mx_policy_find("od"));
    assert_null(mx_policy_find("odm "));
    assert_null(mx_policy_find("odm-"));
}

/* ---- for those of the bandit family --------------------------------------------------------- */

static int param_at(const struct mx_policy_ops *ops, const char *name)
{
    for (size_t i = 0; i < ops->n_params; i++) {
        if (strcmp(ops->params[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int is_bandit(const struct mx_policy_ops *ops)
{
    return param_at(ops, "warmup_steps") >= 0 && param_at(ops, "update_frequency") >= 0;
}

static void warm_up_and_frequency_drop_feedback(void **state)
{
    struct seeded s = {{draw}, {test_seed("warm_up_and_frequency", 43)}};
    int tried = 0;

    (void)state;
    for (size_t at = 0; mx_policy_at(at) != NULL; at++) {
        struct life l;
        double *copy;

        if (!is_bandit(mx_policy_at(at))) {
            continue;
        }
        begin(&l, mx_policy_at(at), 5, 1, &s);
        tried++;
        copy = block(l.words);
        l.w.params[param_at(l.ops, "warmup_steps")] = 20;
        l.w.params[param_at(l.ops, "update_frequency")] = 3;
        l.ops->init(l.state, &l.w.c);
        for (uint64_t t = 1; t < 40; t++) {
            struct mx_domain_stats stats[5];
            struct mx_observation o = {.t = t, .train = stats, .n_train = 5};
            int due = t > 20 && t % 3 == 0;

            for (uint32_t i = 0; i < 5; i++) {
                stats[i] = (struct mx_domain_stats){i, 10, 0, 1.0 + unit(&s.dice)};
            }
            memcpy(copy, l.state, l.words * sizeof *copy);
            l.ops->observe(l.state, &l.w.c, &o);
            assert_int_equal(memcmp(copy, l.state, l.words * sizeof *copy) != 0, due);
            look(&l);
            if (t <= 20) {
                assert_memory_equal(l.weights, l.w.prior, sizeof(double) * 5);
            }
        }
        free(copy);
        end(&l);
    }
    assert_true(tried >= 6);
}

/* The bandit's reason to be: what is hard gets more, and everything gets eps_t. */
static void hard_domains_get_more(void **state)
{
    struct seeded s = {{draw}, {44}};

    (void)state;
    for (size_t at = 0; mx_policy_at(at) != NULL; at++) {
        double eps = sqrt(log(4) / (4 * 400.0));
        struct life l;

        if (!is_bandit(mx_policy_at(at))) {
            continue;
        }
        begin(&l, mx_policy_at(at), 4, 1, &s);
        for (uint64_t t = 1; t <= 400; t++) {
            struct mx_domain_stats stats[4];
            struct mx_observation o = {.t = t, .train = stats, .n_train = 4};

            for (uint32_t i = 0; i < 4; i++) {
                stats[i] = (struct mx_domain_stats){i, 10, 0, 1.0 + i};
            }
            l.ops->observe(l.state, &l.w.c, &o);
        }
        look(&l);
        for (int i = 0; i < 3; i++) {
            assert_true(l.weights[i] <= l.weights[i + 1]);
        }
        assert_true(l.weights[3] > l.weights[0]);
        assert_true(strcmp(l.ops->name, "odm") != 0 || l.weights[0] > eps);
        end(&l);
    }
}

static void nothing_reported_keeps_the_prior(void **state)
{
    struct seeded s = {{draw}, {45}};
    struct life l;

    (void)state;
    begin(&l, mx_policy_find("odm"), 7, 0, &s);
    for (uint64_t t = 1; t < 10; t++) {
        l.ops->observe(l.state, &l.w.c, &(struct mx_observation){.t = t});
    }
    look(&l);
    assert_memory_equal(l.weights, l.w.prior, 7 * sizeof(double));
    end(&l);
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

static void the_largest_rewards_of_all_ranks_fit(void **state)
{
    struct mx_reward r = {0, MX_REWARD_COUNT_MAX, -MX_REWARD_MAX * (double)MX_REWARD_COUNT_MAX};
    struct mx_fixed sum = {0, 0};

    (void)state;
    assert_true(mx_reward_ok(&r));
    for (uint32_t rank = 0; rank < MX_WORLD_MAX; rank++) {
        mx_fixed_add(&sum, r.sum);
    }
    assert_true(mx_fixed_get_signed(&sum) == r.sum * MX_WORLD_MAX);
    r.count++;
    assert_false(mx_reward_ok(&r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_breaks_a_policy),
        cmocka_unit_test(state_is_all_there_is),
        cmocka_unit_test(bent_states_do_no_harm),
        cmocka_unit_test(one_domain_has_it_all),
        cmocka_unit_test(what_does_not_adapt_stays),
        cmocka_unit_test(warm_up_and_frequency_drop_feedback),
        cmocka_unit_test(hard_domains_get_more),
        cmocka_unit_test(nothing_reported_keeps_the_prior),
        cmocka_unit_test(names_find_their_policies),
        cmocka_unit_test(bad_losses_are_kept_back),
        cmocka_unit_test(sums_do_not_depend_on_order),
        cmocka_unit_test(one_term_comes_back_as_it_was),
        cmocka_unit_test(the_largest_rewards_of_all_ranks_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
