/* test_mixer.c - the guards, one at a time, around a policy of the test's own that does as it is
 * told. */
#include "tests/core/check.h"

#include "daemon/core/mixer.h"

#include <math.h>

#define K 3u

/* The block: observations; losses and rewards as last shown, NAN if they weren't. Its weights are
 * what `wanted` says. */
enum { SEEN, LOSSES, REWARDS = LOSSES + K, WORDS = REWARDS + K };

static double wanted[K];

static size_t told_size(const struct mx_policy_conf *c)
{
    (void)c;
    return WORDS;
}

static void told_init(double *state, const struct mx_policy_conf *c)
{
    (void)c;
    state[SEEN] = 0.0;
    for (size_t i = LOSSES; i < WORDS; i++) {
        state[i] = NAN;
    }
}

static void told_observe(double *state, const struct mx_policy_conf *c,
                         const struct mx_observation *o)
{
    double seen = state[SEEN];

    told_init(state, c);
    state[SEEN] = seen + 1.0;
    for (uint32_t i = 0; i < o->n_train; i++) {
        state[LOSSES + o->train[i].domain] = o->train[i].loss;
    }
    for (uint32_t i = 0; i < o->n_reward; i++) {
        state[REWARDS + o->reward[i].domain] = o->reward[i].mean;
    }
}

static void told_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    (void)state;
    memcpy(ret, wanted, c->k * sizeof *ret);
}

static const struct mx_policy_ops told = {
    .name = "told", .what = "does as it is told", .uses_train = 1, .uses_reward = 1, .adapts = 1,
    .state_size = told_size, .init = told_init, .observe = told_observe, .weights = told_weights,
};

static const double prior[K] = {0.5, 0.25, 0.25};

struct rig {
    struct mx_mixer_conf c;
    double *state, *scratch;
};

static void want(double a, double b, double c)
{
    wanted[0] = a;
    wanted[1] = b;
    wanted[2] = c;
}

static void begin(struct rig *r)
{
    r->c = (struct mx_mixer_conf){.policy = {.ops = &told, .k = K, .m = K, .prior = prior},
                                  .guards = mx_guards_none(&told)};
    r->state = test_get(mx_mixer_size(&r->c), sizeof *r->state);
    r->scratch = test_get(mx_mixer_scratch(&r->c), sizeof *r->scratch);
    memcpy(wanted, prior, sizeof wanted);
    mx_mixer_init(r->state, &r->c);
}

static void end(struct rig *r)
{
    free(r->state);
    free(r->scratch);
}

/* Losses and rewards of a step, NAN where there is none. Whether weights moved. */
static int show(struct rig *r, uint64_t stale, const double *losses, const double *rewards)
{
    struct mx_domain_stats train[K];
    struct mx_reward_stats reward[K];
    struct mx_observation o = {.t = 1, .train = train, .reward = reward};

    for (uint32_t i = 0; i < K; i++) {
        if (losses != NULL && !isnan(losses[i])) {
            train[o.n_train++] = (struct mx_domain_stats){i, 10, 1, losses[i]};
        }
        if (rewards != NULL && !isnan(rewards[i])) {
            reward[o.n_reward++] = (struct mx_reward_stats){i, 2, rewards[i]};
        }
    }
    return mx_mixer_observe(r->state, &r->c, &o, stale, r->scratch);
}

/* What the policy holds: its words are the last of the block. */
static double held(const struct rig *r, uint32_t what)
{
    return r->state[mx_mixer_size(&r->c) - WORDS + what];
}

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-12)) {
        fail_msg("%.17g is not %.17g", a, b);
    }
}

/* ---- what a policy is shown ----------------------------------------------------------------- */

static void losses_are_clipped(void **state)
{
    const double losses[] = {3.0, 90.0, NAN};
    struct rig r;

    (void)state;
    begin(&r);
    r.c.guards.loss_clip = 5.0;
    (void)show(&r, 0, losses, NULL);
    near(held(&r, LOSSES), 3.0);
    near(held(&r, LOSSES + 1), 5.0);
    assert_true(isnan(held(&r, LOSSES + 2)));
    assert_int_equal(mx_mixer_counts(r.state).clipped, 1);
    end(&r);
}

static void stale_reports_count_less_or_nothing(void **state)
{
    const double first[] = {4.0, NAN, NAN}, second[] = {2.0, 3.0, NAN}, gain[] = {NAN, -8.0, NAN};
    struct rig r;

    (void)state;
    begin(&r);
    r.c.guards.stale_discount = 0.5;
    r.c.guards.stale_max = 2.0;
    (void)show(&r, 0, first, NULL);
    (void)show(&r, 2, second, gain);
    near(held(&r, LOSSES), 3.5);        /* a quarter of the way from 4 to 2 */
    near(held(&r, LOSSES + 1), 3.0);    /* nothing to go out from */
    near(held(&r, REWARDS + 1), -8.0);
    (void)show(&r, 3, first, NULL);
    near(held(&r, SEEN), 2.0);
    assert_int_equal(mx_mixer_counts(r.state).stale, 1);
    assert_int_equal(mx_mixer_counts(r.state).updates, 2);
    (void)show(&r, 1, first, NULL);
    near(held(&r, LOSSES), 3.75);       /* from what was shown */
    end(&r);
}

static void absent_domains_go_by_their_rule(void **state)
{
    const double first[] = {4.0, 6.0, NAN}, second[] = {2.0, NAN, NAN}, gain[] = {NAN, -8.0, 1.0};

    (void)state;
    for (int rule = MX_ABSENT_SKIP; rule <= MX_ABSENT_DECAY; rule++) {
        struct rig r;

        begin(&r);
        r.c.guards.absent = (enum mx_absent)rule;
        r.c.guards.absent_decay = 0.5;
        (void)show(&r, 0, first, gain);
        (void)show(&r, 0, second, NULL);
        near(held(&r, LOSSES), 2.0);
        assert_true(isnan(held(&r, LOSSES + 2)));  /* never seen */
        assert_true(isnan(held(&r, REWARDS + 1))); /* no rewards in the step at all */
        if (rule == MX_ABSENT_SKIP) {
            assert_true(isnan(held(&r, LOSSES + 1)));
        } else {
            near(held(&r, LOSSES + 1), rule == MX_ABSENT_HOLD ? 6.0 : 3.0);
            (void)show(&r, 0, second, NULL);
            near(held(&r, LOSSES + 1), rule == MX_ABSENT_HOLD ? 6.0 : 1.5);
        }
        assert_int_equal(mx_mixer_counts(r.state).filled, rule == MX_ABSENT_SKIP ? 0 : 2);
        end(&r);
    }
}

/* ---- what comes out ------------------------------------------------------------------------- */

static void the_prior_goes_little_by_little(void **state)
{
    const double losses[] = {1.0, 1.0, 1.0};
    struct rig r;

    (void)state;
    begin(&r);
    r.c.guards.prior_decay = 0.9;
    for (int i = 0; i < 5; i++) { /* a policy that warms up isn't counted */
        assert_int_equal(show(&r, 0, losses, NULL), 0);
    }
    want(0.0, 0.0, 1.0);
    for (int n = 1; n <= 30; n++) {
        assert_int_equal(show(&r, 0, losses, NULL), 1);
        near(mx_mixer_weights(r.state)[0], pow(0.9, n) * 0.5);
        near(mx_mixer_weights(r.state)[2], pow(0.9, n) * 0.25 + 1.0 - pow(0.9, n));
    }
    end(&r);
}

static void a_change_is_shortened_as_a_whole(void **state)
{
    const double losses[] = {1.0, 1.0, 1.0};
    double before[K];
    struct rig r;

    (void)state;
    begin(&r);
    r.c.guards.max_change = 0.05;
    want(0.0, 0.0, 1.0);
    for (int i = 0; i < 40; i++) {
        const double *w = mx_mixer_weights(r.state);
        double sum = 0.0, ratio;

        memcpy(before, w, sizeof before);
        (void)show(&r, 0, losses, NULL);
        ratio = (before[0] - w[0]) / 0.5;
        for (uint32_t j = 0; j < K; j++) {
            assert_true(fabs(w[j] - before[j]) <= 0.05 + 1e-12 && w[j] >= 0.0);
            sum += w[j];
        }
        near(ratio, (before[1] - w[1]) / 0.25); /* along the straight line */
        near(sum, 1.0);
    }
    near(mx_mixer_weights(r.state)[2], 1.0);
    end(&r);
}

static void broken_weights_are_not_taken(void **state)
{
    const double losses[] = {1.0, 1.0, 1.0};
    const double bad[][K] = {{NAN, 0.5, 0.5}, {INFINITY, 0.0, 0.0}, {-0.1, 0.6, 0.5},
                             {0.0, 0.0, 0.0}, {0.5, 0.5, 0.5}};
    struct rig r;

    (void)state;
    begin(&r);
    want(0.2, 0.2, 0.6);
    (void)show(&r, 0, losses, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        want(bad[i][0], bad[i][1], bad[i][2]);
        assert_int_equal(show(&r, 0, losses, NULL), 0);
        near(mx_mixer_weights(r.state)[2], 0.6);
        assert_int_equal(mx_mixer_counts(r.state).broken, i + 1);
        assert_true(mx_mixer_sane(r.state, &r.c));
    }
    want(0.5, 0.3, 0.2);
    assert_int_equal(show(&r, 0, losses, NULL), 1);
    want(NAN, 1.0, 0.0); /* from the beginning */
    mx_mixer_init(r.state, &r.c);
    assert_memory_equal(mx_mixer_weights(r.state), prior, sizeof prior);
    assert_int_equal(mx_mixer_counts(r.state).broken, 1);
    assert_true(mx_mixer_sane(r.state, &r.c));
    end(&r);
}

static void a_block_from_outside_is_checked(void **state)
{
    const double losses[] = {1.0, NAN, 1.0};
    struct rig r;
    size_t before; /* words before the policy's own */

    (void)state;
    begin(&r);
    (void)show(&r, 0, losses, NULL);
    before = mx_mixer_size(&r.c) - WORDS;
    assert_true(mx_mixer_sane(r.state, &r.c));
    for (size_t i = 0; i < before; i++) {
        double kept = r.state[i];

        r.state[i] = INFINITY;
        assert_false(mx_mixer_sane(r.state, &r.c));
        r.state[i] = -INFINITY;
        assert_false(mx_mixer_sane(r.state, &r.c));
        r.state[i] = kept;
    }
    end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_are_clipped),
        cmocka_unit_test(stale_reports_count_less_or_nothing),
        cmocka_unit_test(absent_domains_go_by_their_rule),
        cmocka_unit_test(the_prior_goes_little_by_little),
        cmocka_unit_test(a_change_is_shortened_as_a_whole),
        cmocka_unit_test(broken_weights_are_not_taken),
        cmocka_unit_test(a_block_from_outside_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
