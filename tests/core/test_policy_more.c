/* test_policy_more.c - what the traces of proxies, rewards and agents don't cover: feedback in
 * parts, tables, absent domains by the guard, and what a console makes of its agents' merits. */
#include "tests/core/check.h"

#include "daemon/core/mixer.h"

#include <math.h>

#define K_MAX 16
#define PARAMS_MAX 16

struct rig {
    struct mx_mixer_conf c;
    double prior[K_MAX], params[PARAMS_MAX];
    double *state, *scratch;
    const double *w;
    uint64_t t;
};

static void rig_begin(struct rig *r, const char *name, uint32_t k)
{
    const struct mx_policy_ops *ops = mx_policy_find(name);

    assert_non_null(ops);
    memset(r, 0, sizeof *r);
    r->c.policy = (struct mx_policy_conf){.ops = ops, .k = k, .m = k};
    r->c.guards = mx_guards_none(ops);
    for (size_t i = 0; i < ops->n_params; i++) {
        r->params[i] = ops->params[i].fallback;
    }
    for (uint32_t i = 0; i < k; i++) {
        r->prior[i] = 1.0 / k;
    }
}

static void rig_param(struct rig *r, const char *name, double v)
{
    const struct mx_policy_ops *ops = r->c.policy.ops;

    for (size_t i = 0; i < ops->n_params; i++) {
        if (strcmp(ops->params[i].name, name) == 0) {
            r->params[i] = v;
            return;
        }
    }
    fail_msg("%s has no param %s", ops->name, name);
}

static void rig_choose(struct rig *r, const char *name, const char *choice)
{
    const struct mx_policy_ops *ops = r->c.policy.ops;

    for (size_t i = 0; i < ops->n_params; i++) {
        for (int j = 0; strcmp(ops->params[i].name, name) == 0; j++) {
            assert_non_null(ops->params[i].choices[j]);
            if (strcmp(ops->params[i].choices[j], choice) == 0) {
                r->params[i] = j;
                return;
            }
        }
    }
    fail_msg("%s has no param %s", ops->name, name);
}

static const char *rig_check(struct rig *r, char *text, size_t cap)
{
    r->c.policy.prior = r->prior;
    r->c.policy.params = r->params;
    return r->c.policy.ops->check != NULL ? r->c.policy.ops->check(&r->c.policy, text, cap) : NULL;
}

static void rig_ready(struct rig *r)
{
    char text[200];

    assert_null(rig_check(r, text, sizeof text));
    r->state = test_get(mx_mixer_size(&r->c), sizeof *r->state);
    r->scratch = test_get(mx_mixer_scratch(&r->c), sizeof *r->scratch);
    mx_mixer_init(r->state, &r->c);
    r->w = mx_mixer_weights(r->state);
}

static void rig_end(struct rig *r)
{
    free(r->state);
    free(r->scratch);
}

static void rig_show(struct rig *r, struct mx_observation o)
{
    double sum = 0.0;

    o.t = ++r->t;
    (void)mx_mixer_observe(r->state, &r->c, &o, 0, r->scratch);
    for (uint32_t i = 0; i < r->c.policy.k; i++) {
        assert_true(r->w[i] >= 0.0);
        sum += r->w[i];
    }
    assert_true(fabs(sum - 1.0) < 1e-12);
    assert_int_equal(mx_mixer_counts(r->state).broken, 0);
}

/* Values by domain, NAN for one that isn't seen; count each. */
static void reward(struct rig *r, const double *values, uint64_t count)
{
    struct mx_reward_stats stats[K_MAX];
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->c.policy.k; i++) {
        if (!isnan(values[i])) {
            stats[n++] = (struct mx_reward_stats){i, count, values[i]};
        }
    }
    rig_show(r, (struct mx_observation){.reward = stats, .n_reward = n});
}

static void train(struct rig *r, const double *losses)
{
    struct mx_domain_stats stats[K_MAX];
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->c.policy.k; i++) {
        if (!isnan(losses[i])) {
            stats[n++] = (struct mx_domain_stats){i, 100, 1, losses[i]};
        }
    }
    rig_show(r, (struct mx_observation){.train = stats, .n_train = n});
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12 * fmax(1.0, fabs(want)))) {
        fail_msg("%.17g, not %.17g", got, want);
    }
}

/* ---- DoReMi ---------------------------------------------------------------------------------- */

static void doremi_takes_losses_over_the_reference(void **state)
{
    const double reference[3] = {2.0, 3.0, 1.0}, losses[3] = {2.5, 2.9, NAN};
    double z;
    struct rig r;

    (void)state;
    rig_begin(&r, "doremi", 3);
    rig_choose(&r, "excess", "reference");
    r.c.policy.tables[0] = reference;
    rig_param(&r, "eps", 0.03);
    rig_ready(&r);
    train(&r, losses);
    z = exp(0.5) + 1.0 + 1.0; /* what is under its reference, or was never seen, isn't pushed */
    near(r.w[0], 0.97 * exp(0.5) / z + 0.01);
    near(r.w[1], 0.97 / z + 0.01);
    near(r.w[2], r.w[1]);
    rig_end(&r);
}

static void doremi_holds_what_it_has_seen(void **state)
{
    const double both[2] = {0.4, 0.1}, one[2] = {NAN, 0.1};
    double held;
    struct rig r;

    (void)state;
    for (int skip = 0; skip < 2; skip++) {
        rig_begin(&r, "doremi", 2);
        rig_choose(&r, "excess", "reward");
        rig_param(&r, "eps", 0.0);
        r.c.guards.absent = skip ? MX_ABSENT_SKIP : r.c.guards.absent;
        rig_ready(&r);
        reward(&r, both, 10);
        reward(&r, one, 10);
        held = skip ? exp(0.4) : exp(0.8);
        near(r.w[0] / r.w[1], held / exp(0.2));
        near(mx_mixer_mean(r.state, &r.c)[0],
             0.5 * (r.w[0] + exp(0.4) / (exp(0.4) + exp(0.1))));
        rig_end(&r);
    }
}

static void doremi_may_push_what_was_never_seen(void **state)
{
    const double one[2] = {0.5, NAN}, under[2] = {-3.0, NAN};
    struct rig r;

    (void)state;
    rig_begin(&r, "doremi", 2);
    rig_choose(&r, "excess", "reward");
    rig_param(&r, "eps", 0.0);
    rig_param(&r, "initial_score", log(50257.0));
    rig_ready(&r);
    reward(&r, one, 10);
    near(r.w[1] / r.w[0] / (50257.0 / exp(0.5)), 1.0);
    reward(&r, under, 10); /* counts as 0 */
    near(r.w[1] / r.w[0] / (50257.0 * 50257.0 / exp(0.5)), 1.0);
    rig_end(&r);
}

static void doremi_takes_a_reference_or_none(void **state)
{
    const double reference[3] = {2.0, 3.0, 1.0};
    char text[200];
    struct rig r;

    (void)state;
    rig_begin(&r, "doremi", 3);
    assert_null(rig_check(&r, text, sizeof text));
    rig_choose(&r, "excess", "reference");
    assert_non_null(rig_check(&r, text, sizeof text));
    assert_non_null(strstr(text, "reference: missing"));
    r.c.policy.tables[0] = reference;
    assert_null(rig_check(&r, text, sizeof text));
    rig_choose(&r, "excess", "reward");
    assert_non_null(rig_check(&r, text, sizeof text));
    assert_non_null(strstr(text, "reference: given"));
}

/* Its logarithms outlive weights that a double can't hold. */
static void doremi_comes_back_from_nothing(void **state)
{
    const double first[2] = {100.0, 0.0}, second[2] = {0.0, 100.0};
    struct rig r;

    (void)state;
    rig_begin(&r, "doremi", 2);
    rig_choose(&r, "excess", "reward");
    rig_param(&r, "eps", 0.0);
    rig_ready(&r);
    for (int i = 0; i < 100; i++) {
        reward(&r, first, 1);
    }
    assert_true(r.w[1] == 0.0);
    for (int i = 0; i < 100; i++) {
        reward(&r, second, 1);
    }
    near(r.w[0], 0.5);
    rig_end(&r);
}

/* ---- DoGE ------------------------------------------------------------------------------------ */

static void gradients(struct rig *r, const uint32_t *domains, uint32_t n, const double *gram,
                      double lr)
{
    struct mx_grad_stats g = {n, domains, gram, lr};

    rig_show(r, (struct mx_observation){.grad = &g});
}

static void doge_moves_what_the_matrix_covers(void **state)
{
    const double gram[4] = {4.0, 1.0, 1.0, 1.0};
    const uint32_t domains[2] = {0, 2};
    double s0 = 0.01 * 5.0 / (1.5 + 1e-6), s2 = 0.01 * 2.0 / (1.5 + 1e-6);
    struct rig r;

    (void)state;
    for (int diagonal = 0; diagonal < 2; diagonal++) {
        rig_begin(&r, "doge", 3);
        rig_param(&r, "mu", 0.02);
        rig_param(&r, "include_diagonal", diagonal);
        rig_ready(&r);
        gradients(&r, domains, 2, gram, 0.01);
        if (!diagonal) {
            s0 = s2 = 0.01 / (1.5 + 1e-6);
        } else {
            s0 = 0.01 * 5.0 / (1.5 + 1e-6);
            s2 = 0.01 * 2.0 / (1.5 + 1e-6);
        }
        near(r.w[0] / r.w[1], exp(s0 / 0.02));
        near(r.w[2] / r.w[1], exp(s2 / 0.02));
        rig_end(&r);
    }
}

static void doge_clips_its_scores(void **state)
{
    const double gram[4] = {1e6, -1e9, -1e9, 2e9};
    const uint32_t domains[2] = {0, 1};
    const double up[4] = {1e6, 0.0, 0.0, 1e-6};
    struct rig r;

    (void)state;
    rig_begin(&r, "doge", 2);
    rig_ready(&r);
    gradients(&r, domains, 2, gram, 0.01); /* far under 0, and far over 5 learning rates */
    near(log(r.w[1] / r.w[0]), 5.0);
    gradients(&r, domains, 2, up, 0.01);
    near(log(r.w[1] / r.w[0]), 1e-6 / (500.0005 + 1e-6));
    rig_end(&r);
}

/* A target that isn't trained on: never a weight, no part of the mean norm. */
static void doge_targets_need_no_prior(void **state)
{
    const double gram[9] = {1.0, 0.0, 0.6, 0.0, 1.0, 0.1, 0.6, 0.1, 100.0};
    const double targets[3] = {0.0, 0.0, 1.0}, none[3] = {0.0, 0.0, 0.0};
    const uint32_t domains[3] = {0, 1, 2};
    char text[200];
    struct rig r;

    (void)state;
    rig_begin(&r, "doge", 3);
    r.prior[0] = r.prior[1] = 0.5;
    r.prior[2] = 0.0;
    rig_param(&r, "eps", 0.1);
    r.c.policy.tables[0] = none;
    assert_non_null(rig_check(&r, text, sizeof text));
    assert_non_null(strstr(text, "targets: all 3"));
    r.c.policy.tables[0] = targets;
    rig_ready(&r);
    gradients(&r, domains, 3, gram, 0.01);
    assert_true(r.w[2] == 0.0);
    near((r.w[0] - 0.05) / (r.w[1] - 0.05), exp(0.5 / (1.0 + 1e-6)));
    rig_end(&r);
}

/* ---- bandits over rewards -------------------------------------------------------------------- */

/* The policy's first term of a domain: of ucb the mean of its window. */
static double term(struct rig *r, uint32_t which, uint32_t domain)
{
    double terms[MX_POLICY_TERMS_MAX * K_MAX];

    mx_mixer_explain(r->state, &r->c, terms);
    return terms[which * r->c.policy.k + domain];
}

static void ucb_counts_the_oldest_report_in_part(void **state)
{
    const double a[2] = {1.0, NAN}, b[2] = {3.0, NAN};
    struct rig r;

    (void)state;
    rig_begin(&r, "ucb", 2);
    rig_param(&r, "window", 10);
    rig_ready(&r);
    reward(&r, a, 8);
    near(term(&r, 0, 0), 1.0);
    reward(&r, b, 6);
    near(term(&r, 0, 0), (6 * 3.0 + 4 * 1.0) / 10);
    near(term(&r, 1, 0), sqrt(2 * log(15.0) / 15));
    near(term(&r, 1, 1), sqrt(2 * log(15.0)));
    near(log(r.w[1] / r.w[0]), (term(&r, 1, 1) - term(&r, 1, 0) - term(&r, 0, 0)) / 0.1);
    assert_true(isnan(term(&r, 0, 1)));
    reward(&r, a, 1000000); /* one report may be more than the window */
    near(term(&r, 0, 0), 1.0);
    reward(&r, b, 9);
    near(term(&r, 0, 0), (9 * 3.0 + 1.0) / 10);
    for (int i = 0; i < 3; i++) { /* and its places are whole numbers all the same */
        reward(&r, a, ((uint64_t)1 << 52) + 1);
        reward(&r, b, 3);
        assert_true(mx_mixer_sane(r.state, &r.c));
    }
    near(term(&r, 0, 0), (3 * 3.0 + 7 * 1.0) / 10);
    rig_end(&r);
}

/* A short ring keeps the mean of all that is in the window; only its far end is coarse. */
static void ucb_merges_what_a_ring_cannot_hold(void **state)
{
    struct dice d = {test_seed("ucb_merges_what_a_ring_cannot_hold", 71)};
    double sum = 0.0;
    struct rig r;

    (void)state;
    rig_begin(&r, "ucb", 2);
    rig_param(&r, "window", 1000);
    rig_param(&r, "chunks", 2);
    rig_ready(&r);
    for (int i = 1; i <= 1000; i++) {
        double v[2] = {unit(&d), NAN};

        sum += v[0];
        reward(&r, v, 1);
        near(term(&r, 0, 0), sum / i);
    }
    rig_end(&r);
}

/* Against a window that keeps every sample. */
static void ucb_is_exact_where_its_ring_is_long_enough(void **state)
{
    struct dice d = {test_seed("ucb_is_exact_where_its_ring_is_long_enough", 72)};
    double samples[600];
    struct rig r;

    (void)state;
    rig_begin(&r, "ucb", 2);
    rig_param(&r, "window", 7);
    rig_param(&r, "chunks", 7);
    rig_ready(&r);
    for (int i = 0; i < 600; i++) {
        double v[2] = {unit(&d), NAN}, sum = 0.0;
        int n = i < 6 ? i + 1 : 7;

        samples[i] = v[0];
        reward(&r, v, 1);
        for (int j = i - n + 1; j <= i; j++) {
            sum += samples[j];
        }
        near(term(&r, 0, 0), sum / n);
    }
    rig_end(&r);
}

static void ucb_is_bounded_and_knows_its_state(void **state)
{
    const double v[2] = {1.0, 2.0};
    char text[200];
    struct rig r;
    double *own;

    (void)state;
    rig_begin(&r, "ucb", 2);
    r.c.policy.k = 10000;
    assert_null(rig_check(&r, text, sizeof text));
    rig_param(&r, "chunks", 300);
    assert_non_null(rig_check(&r, text, sizeof text));
    assert_non_null(strstr(text, "chunks: 300 for each of 10000 domains make 6050000 numbers"));
    r.c.policy.k = 2;
    rig_param(&r, "chunks", 4);
    rig_ready(&r);
    reward(&r, v, 1);
    assert_true(mx_mixer_sane(r.state, &r.c));
    own = r.state + mx_mixer_size(&r.c) - r.c.policy.ops->state_size(&r.c.policy);
    for (int field = 2; field < 5; field++) { /* held, first, used of the first domain */
        double was = own[1 + field];

        own[1 + field] = 4.5;
        assert_false(mx_mixer_sane(r.state, &r.c));
        own[1 + field] = NAN;
        assert_false(mx_mixer_sane(r.state, &r.c));
        own[1 + field] = 1e9;
        assert_false(mx_mixer_sane(r.state, &r.c));
        own[1 + field] = was;
        assert_true(mx_mixer_sane(r.state, &r.c));
    }
    rig_end(&r);
}

static void boltzmann_forgets_what_it_does_not_see(void **state)
{
    const double both[2] = {0.8, 0.8}, one[2] = {NAN, 0.8};
    static const double want[3] = {0.2, 0.4, 0.6}; /* decay, skip, hold: Q of the absent one */
    static const enum mx_absent rules[3] = {MX_ABSENT_DECAY, MX_ABSENT_SKIP, MX_ABSENT_HOLD};
    struct rig r;

    (void)state;
    for (int i = 0; i < 3; i++) {
        rig_begin(&r, "boltzmann", 2);
        assert_int_equal(r.c.guards.absent, MX_ABSENT_DECAY);
        r.c.guards.absent = rules[i];
        rig_ready(&r);
        reward(&r, both, 5);
        reward(&r, one, 5);
        near(term(&r, 0, 0), want[i]);
        near(term(&r, 0, 1), 0.6);
        near(log(r.w[1] / r.w[0]), (0.6 - want[i]) / 0.4);
        rig_end(&r);
    }
}

static void boltzmann_may_go_by_the_estimate_itself(void **state)
{
    const double v[3] = {0.6, 0.2, -1.0};
    struct rig r;

    (void)state;
    rig_begin(&r, "boltzmann", 3);
    rig_choose(&r, "method", "normalized_q");
    rig_ready(&r);
    reward(&r, v, 5);
    near(r.w[0], 0.3 / 0.41);
    near(r.w[1], 0.1 / 0.41);
    near(r.w[2], 0.01 / 0.41);
    rig_end(&r);
}

static void exp3_classic_never_overflows(void **state)
{
    const double both[2] = {3.0, 1.0}, other[2] = {1.0, 3.0};
    struct rig r;

    (void)state;
    rig_begin(&r, "exp3-classic", 2);
    rig_choose(&r, "signal", "loss");
    rig_ready(&r);
    for (int i = 0; i < 100000; i++) {
        train(&r, both);
    }
    assert_true(r.w[0] > 0.6 && r.w[1] >= 0.05 - 1e-12);
    for (int i = 0; i < 100000; i++) {
        train(&r, other);
    }
    assert_true(r.w[1] > 0.6);
    rig_end(&r);
}

static void loss_average_gives_the_unseen_a_chance(void **state)
{
    const double two[3] = {3.0, 1.0, NAN}, three[3] = {3.0, 1.0, 4.0};
    struct rig r;

    (void)state;
    for (int zero = 0; zero < 2; zero++) {
        rig_begin(&r, "loss-average", 3);
        rig_choose(&r, "unseen", zero ? "zero" : "mean");
        rig_ready(&r);
        train(&r, two);
        near(r.w[0], zero ? 0.75 : 0.5);
        near(r.w[2], zero ? 0.0 : 1.0 / 3);
        train(&r, three);
        near(r.w[2], 0.5);
        rig_end(&r);
    }
}

/* ---- agents ---------------------------------------------------------------------------------- */

/* Four domains: every pair of two sources and two topics; the last two columns of it. */
static const double grid[8] = {0, 0, 0, 1, 1, 0, 1, 1};

static void grid_of_agents(struct rig *r)
{
    rig_begin(r, "agents", 4);
    r->c.policy.n_attributes = 2;
    r->c.policy.attributes = grid;
    r->c.policy.n_values[0] = r->c.policy.n_values[1] = 2;
}

static double of_source(const struct rig *r, int source)
{
    return r->w[2 * source] + r->w[2 * source + 1];
}

static double of_topic(const struct rig *r, int topic)
{
    return r->w[topic] + r->w[2 + topic];
}

static void agents_need_attributes(void **state)
{
    char text[200];
    struct rig r;

    (void)state;
    rig_begin(&r, "agents", 3);
    assert_non_null(rig_check(&r, text, sizeof text));
    assert_non_null(strstr(text, "attributes:"));
    grid_of_agents(&r);
    r.c.policy.n_values[1] = 0;
    assert_non_null(rig_check(&r, text, sizeof text));
    assert_non_null(strstr(text, "attributes: of number 2 none of the 4 domains has a value"));
}

/* What is good about a domain is its source: its agent learns it, and the console sides with it. */
static void agents_find_the_attribute_that_matters(void **state)
{
    struct dice d = {test_seed("agents_find_the_attribute_that_matters", 73)};
    double alone = 0.0;
    struct rig r;

    (void)state;
    for (int console = 0; console < 2; console++) {
        grid_of_agents(&r);
        rig_param(&r, "console_eta", console ? 0.1 : 0.0);
        rig_ready(&r);
        for (int i = 0; i < 300; i++) {
            double v[4];

            for (int j = 0; j < 4; j++) {
                v[j] = (j < 2 ? 1.0 : -1.0) + 0.2 * (unit(&d) - 0.5);
            }
            reward(&r, v, 10);
        }
        assert_true(of_source(&r, 0) > 0.55);
        assert_true(fabs(of_topic(&r, 0) - 0.5) < 0.02);
        if (console) {
            assert_true(of_source(&r, 0) > alone + 0.05);
        }
        alone = of_source(&r, 0);
        rig_end(&r);
    }
}

/* Then it is the topic that matters: the console turns to the other agent. */
static void agents_lose_what_they_had_gained(void **state)
{
    const double by_source[4] = {1.0, 1.0, -1.0, -1.0}, by_topic[4] = {1.0, -1.0, 1.0, -1.0};
    double before;
    struct rig r;

    (void)state;
    grid_of_agents(&r);
    rig_ready(&r);
    for (int i = 0; i < 300; i++) {
        reward(&r, by_source, 10);
    }
    assert_true(of_source(&r, 0) > 0.6);
    before = of_source(&r, 0);
    for (int i = 0; i < 600; i++) {
        reward(&r, by_topic, 10);
    }
    assert_true(of_topic(&r, 0) > 0.6);
    assert_true(fabs(of_source(&r, 0) - 0.5) < 0.02);
    near(of_topic(&r, 0), before); /* the two attributes are alike */
    rig_end(&r);
}

/* Without merits to tell them apart, a step by hand: one round, two agents of equal say. */
static void agents_score_is_the_consoles_mean(void **state)
{
    const double v[4] = {2.0, 2.0, 0.0, 0.0};
    double w0 = 0.9 + 0.1 * exp(0.5 * 2.0), w1 = 1.0;
    double q0 = 2 * w0 / (w0 + w1), q1 = 2 * w1 / (w0 + w1);
    struct rig r;

    (void)state;
    grid_of_agents(&r);
    r.prior[0] = 0.4;
    r.prior[1] = 0.1;
    rig_param(&r, "normalize", 0);
    rig_ready(&r);
    reward(&r, v, 10);
    near(term(&r, 1, 0), 0.5 * q0 + 0.5);
    near(term(&r, 1, 3), 0.5 * q1 + 0.5);
    near(r.w[0] / r.w[1], 4.0); /* the prior within alike domains */
    near(r.w[1] / r.w[2], 0.1 / 0.25 * (0.5 * q0 + 0.5) / (0.5 * q1 + 0.5));
    rig_end(&r);
}

/* The second round's merit is by what an agent thought after the first. */
static void agents_merit_moves_the_console(void **state)
{
    const double v[4] = {1.0, 1.0, 0.0, 0.0};
    double w0 = 0.9 + 0.1 * exp(0.5), q0 = 2 * w0 / (w0 + 1.0), merit = 0.5 * q0 - 0.5, theta;
    struct rig r;

    (void)state;
    grid_of_agents(&r);
    rig_param(&r, "normalize", 0);
    rig_param(&r, "console_eta", 0.5);
    rig_ready(&r);
    reward(&r, v, 10);
    near(term(&r, 1, 0), 0.5 * q0 + 0.5);
    reward(&r, v, 10);
    theta = 0.5 + 0.5 * (merit / 2);
    w0 = 0.9 * w0 + 0.1 * exp(0.5);
    q0 = 2 * w0 / (w0 + 1.0);
    near(term(&r, 1, 0), theta * q0 + (1 - theta));
    rig_end(&r);
}

static void agents_normalised_know_no_scale(void **state)
{
    struct dice d = {test_seed("agents_normalised_know_no_scale", 74)};
    struct rig a, b;

    (void)state;
    grid_of_agents(&a);
    grid_of_agents(&b);
    rig_ready(&a);
    rig_ready(&b);
    for (int i = 0; i < 100; i++) {
        double v[4], small[4];

        for (int j = 0; j < 4; j++) {
            v[j] = below(&d, 4) == 0 ? NAN : unit(&d) + 0.5 * j;
            small[j] = 5.0 + 0x1p-10 * v[j];
        }
        reward(&a, v, 3);
        reward(&b, small, 3);
        for (int j = 0; j < 4; j++) {
            assert_true(fabs(a.w[j] - b.w[j]) < 1e-9);
        }
    }
    rig_end(&a);
    rig_end(&b);
}

static void agents_follow_what_is_being_learned(void **state)
{
    double losses[4] = {5.0, 5.0, 2.0, 2.0};
    struct rig r;

    (void)state;
    grid_of_agents(&r);
    rig_choose(&r, "signal", "loss_drop");
    rig_ready(&r);
    train(&r, losses);
    near(r.w[0], 0.25); /* one loss alone says nothing of learning */
    for (int i = 0; i < 100; i++) {
        losses[2] -= 0.01;
        losses[3] -= 0.01;
        train(&r, losses);
    }
    assert_true(of_source(&r, 1) > 0.6);
    rig_end(&r);
}

/* A domain without a value: its agent holds it for the middling one; no score is over the best. */
static void agents_are_neutral_without_a_value(void **state)
{
    static const double partly[6] = {0, 0, 1, 0, -1, 0};
    const double v[3] = {1.0, -1.0, 0.0};
    struct rig r;

    (void)state;
    rig_begin(&r, "agents", 3);
    r.c.policy.n_attributes = 2;
    r.c.policy.attributes = partly;
    r.c.policy.n_values[0] = 2;
    r.c.policy.n_values[1] = 1;
    rig_param(&r, "sharpness", 3);
    rig_ready(&r);
    for (int i = 0; i < 50; i++) {
        reward(&r, v, 10);
    }
    assert_true(r.w[0] > r.w[2] && r.w[2] > r.w[1]);
    near(term(&r, 1, 2), 1.0);
    near(log(r.w[0] / r.w[2]), 3 * log(term(&r, 1, 0)));
    rig_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doremi_takes_losses_over_the_reference),
        cmocka_unit_test(doremi_holds_what_it_has_seen),
        cmocka_unit_test(doremi_may_push_what_was_never_seen),
        cmocka_unit_test(doremi_takes_a_reference_or_none),
        cmocka_unit_test(doremi_comes_back_from_nothing),
        cmocka_unit_test(doge_moves_what_the_matrix_covers),
        cmocka_unit_test(doge_clips_its_scores),
        cmocka_unit_test(doge_targets_need_no_prior),
        cmocka_unit_test(ucb_counts_the_oldest_report_in_part),
        cmocka_unit_test(ucb_merges_what_a_ring_cannot_hold),
        cmocka_unit_test(ucb_is_exact_where_its_ring_is_long_enough),
        cmocka_unit_test(ucb_is_bounded_and_knows_its_state),
        cmocka_unit_test(boltzmann_forgets_what_it_does_not_see),
        cmocka_unit_test(boltzmann_may_go_by_the_estimate_itself),
        cmocka_unit_test(exp3_classic_never_overflows),
        cmocka_unit_test(loss_average_gives_the_unseen_a_chance),
        cmocka_unit_test(agents_need_attributes),
        cmocka_unit_test(agents_find_the_attribute_that_matters),
        cmocka_unit_test(agents_lose_what_they_had_gained),
        cmocka_unit_test(agents_score_is_the_consoles_mean),
        cmocka_unit_test(agents_merit_moves_the_console),
        cmocka_unit_test(agents_normalised_know_no_scale),
        cmocka_unit_test(agents_follow_what_is_being_learned),
        cmocka_unit_test(agents_are_neutral_without_a_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
