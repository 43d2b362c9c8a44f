/* test_policy_eval.c - policies that learn from evaluations: skillit, dbl and aioli, in what golden
 * traces don't show. */
#include "tests/core/check.h"

#include "daemon/core/clash.h"
#include "daemon/core/policies.h"

#include <math.h>

#define MOST 8

struct setup {
    struct mx_policy_conf c;
    double prior[MOST], params[16], tables[MX_POLICY_TABLES_MAX][MOST * MOST];
    double *state, w[MOST];
    char text[160];
};

static void setup(struct setup *s, const char *name, uint32_t k, uint32_t m)
{
    memset(s, 0, sizeof *s);
    s->c = (struct mx_policy_conf){.ops = mx_policy_find(name), .k = k, .m = m, .prior = s->prior,
                                   .params = s->params};
    assert_true(s->c.ops != NULL && s->c.ops->n_params <= 16);
    for (size_t i = 0; i < s->c.ops->n_params; i++) {
        s->params[i] = s->c.ops->params[i].fallback;
    }
    for (uint32_t i = 0; i < k && i < MOST; i++) {
        s->prior[i] = 1.0 / k;
    }
}

static void set(struct setup *s, const char *name, double v)
{
    size_t i = 0;

    while (i < s->c.ops->n_params && strcmp(s->c.ops->params[i].name, name) != 0) {
        i++;
    }
    assert_true(i < s->c.ops->n_params);
    s->params[i] = v;
}

static void table(struct setup *s, const char *name, const double *v, size_t n)
{
    size_t i = 0;

    while (i < s->c.ops->n_tables && strcmp(s->c.ops->tables[i].name, name) != 0) {
        i++;
    }
    assert_true(i < s->c.ops->n_tables && n <= MOST * MOST);
    memcpy(s->tables[i], v, n * sizeof *v);
    s->c.tables[i] = s->tables[i];
}

static void start(struct setup *s)
{
    const char *clash = s->c.ops->check(&s->c, s->text, sizeof s->text);

    if (clash != NULL) {
        fail_msg("%s", clash);
    }
    free(s->state);
    s->state = test_get(s->c.ops->state_size(&s->c), sizeof *s->state);
    s->c.ops->init(s->state, &s->c);
    s->c.ops->weights(s->state, &s->c, s->w);
}

/* An evaluation of step t: losses of members 0 .. n - 1, NAN for one that is missing. */
static void eval(struct setup *s, uint64_t t, const double *losses, uint32_t n)
{
    struct mx_domain_stats stats[MOST];
    struct mx_observation o = {.t = t, .eval = stats};

    for (uint32_t i = 0; i < n; i++) {
        if (!isnan(losses[i])) {
            stats[o.n_eval++] = (struct mx_domain_stats){i, 1, 1, losses[i]};
        }
    }
    s->c.ops->observe(s->state, &s->c, &o);
    s->c.ops->weights(s->state, &s->c, s->w);
}

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-12)) {
        fail_msg("%.17g is not %.17g", a, b);
    }
}

/* ---- skillit -------------------------------------------------------------------------------- */

static void skillit_needs_the_members_that_count(void **state)
{
    const double all[] = {3.0, 2.0, 1.0}, some[] = {3.0, NAN, 1.0}, target[] = {1, 0, 1};
    double before[3];
    struct setup s;

    (void)state;
    setup(&s, "skillit", 3, 3);
    start(&s);
    eval(&s, 1, all, 3);
    near(s.w[0] / s.w[1], exp(0.5));
    memcpy(before, s.w, sizeof before);
    eval(&s, 2, some, 3);
    assert_memory_equal(before, s.w, sizeof before);
    eval(&s, 3, all, 3);
    near(s.w[0] / s.w[1], exp(2 * 0.5)); /* the second in the window, not the third */

    table(&s, "targets", target, 3);
    start(&s);
    eval(&s, 1, some, 3);
    near(s.w[0] / s.w[2], exp(0.5 * 2.0));
    near(s.w[2] / s.w[1], exp(0.5));
    free(s.state);
}

static void skillit_updates_once_a_round(void **state)
{
    const double v[][2] = {{1, 2}, {1, 3}, {1, 5}, {1, 9}};
    struct setup s;

    (void)state;
    setup(&s, "skillit", 2, 2);
    set(&s, "update_steps", 10);
    set(&s, "window", 2);
    start(&s);
    near(s.w[0], 0.5);
    eval(&s, 4, v[0], 2);
    near(s.w[0], 0.5);
    eval(&s, 10, v[1], 2);
    near(s.w[1] / s.w[0], exp(0.5 * (1 + 2)));
    eval(&s, 14, v[2], 2);
    near(s.w[1] / s.w[0], exp(0.5 * (1 + 2)));
    eval(&s, 31, v[3], 2); /* nothing came at 20: the first of a later round */
    near(log(s.w[1] / s.w[0]), 0.5 * (4 + 8));
    eval(&s, 39, v[0], 2);
    near(log(s.w[1] / s.w[0]), 0.5 * (4 + 8));
    free(s.state);
}

static void skillit_static_stays(void **state)
{
    const double graph[] = {1, 1, -0.5, 0, 1, 0.25}, losses[] = {5, 1, 2};
    struct setup s;

    (void)state;
    setup(&s, "skillit", 2, 3);
    set(&s, "variant", 1);
    s.prior[0] = 0.75;
    s.prior[1] = 0.25;
    table(&s, "graph", graph, 6);
    start(&s);
    near(s.w[0] / s.w[1], 3.0 * exp(0.5 * (1 + 0.5 - 0.5 - 1.25)));
    eval(&s, 1, losses, 3);
    near(s.w[0] / s.w[1], 3.0 * exp(0.5 * (1 + 0.5 - 0.5 - 1.25)));
    set(&s, "unit_edges", 0);
    start(&s);
    near(s.w[0] / s.w[1], 3.0 * exp(0.5 * (1 + 1 - 0.5 - 1.25)));
    free(s.state);
}

static void skillit_lone_skills_keep_their_prior(void **state)
{
    const double graph[] = {1, 0, 0.5, 0, 1, 0, 0, 0, 1}, losses[] = {2, 4, 3};
    struct setup s;

    (void)state;
    setup(&s, "skillit", 3, 3);
    set(&s, "lone_nodes", 1);
    s.prior[0] = 0.5;
    s.prior[1] = 0.125;
    s.prior[2] = 0.375;
    table(&s, "graph", graph, 9);
    for (int again = 0; again < 2; again++) {
        start(&s);
        eval(&s, 1, losses, 3);
        near(s.w[1], 0.125);
        near(s.w[0] + s.w[2], 0.875);
        near(s.w[0] / s.w[2], 4.0 / 3.0 * exp(0.5 * (2 + 1.5 - 3)));
    }
    s.prior[0] = s.prior[2] = 0.0; /* nothing is left for the others: none of it is lost */
    s.prior[1] = 1.0;
    start(&s);
    eval(&s, 1, losses, 3);
    near(s.w[1], 1.0);
    free(s.state);
}

static void skillit_losses_of_zero_divide_nothing(void **state)
{
    const double zero[] = {0, 0}, some[] = {1, 2};
    struct setup s;

    (void)state;
    setup(&s, "skillit", 2, 2);
    set(&s, "normalize_loss", 1);
    set(&s, "eta_schedule", 1);
    start(&s);
    for (uint64_t t = 1; t < 6; t++) {
        eval(&s, t, t % 2 ? zero : some, 2);
        assert_true(s.w[0] >= 0.0 && s.w[1] >= 0.0);
        near(s.w[0] + s.w[1], 1.0);
    }
    free(s.state);
}

/* ---- dbl ------------------------------------------------------------------------------------ */

static void dbl_clips_or_starves(void **state)
{
    const double target[] = {2, 2}, losses[] = {1, 3};
    struct setup s;

    (void)state;
    setup(&s, "dbl", 2, 2);
    set(&s, "c", 0);
    table(&s, "target", target, 2);
    start(&s);
    eval(&s, 1, losses, 2);
    near(log(s.w[1] / s.w[0]), 2.0);
    set(&s, "clip", 1);
    start(&s);
    eval(&s, 1, losses, 2);
    near(log(s.w[1] / s.w[0]), 1.0);
    free(s.state);
}

static void dbl_starved_domains_come_back(void **state)
{
    const double target[] = {2, 2}, low[] = {2, 1002}, high[] = {1001, 2}, part[] = {NAN, 9};
    double before[2];
    struct setup s;

    (void)state;
    setup(&s, "dbl", 2, 2);
    set(&s, "c", 0);
    table(&s, "target", target, 2);
    start(&s);
    eval(&s, 1, low, 2);
    assert_true(s.w[0] == 0.0 && s.w[1] == 1.0);
    eval(&s, 2, high, 2);
    near(s.w[1] / s.w[0], exp(1.0));
    memcpy(before, s.w, sizeof before);
    eval(&s, 3, part, 2);
    assert_memory_equal(before, s.w, sizeof before);
    free(s.state);
}

/* ---- aioli ---------------------------------------------------------------------------------- */

/* A trainer whose losses fall by a linear law of the mix that is in force. */
struct linear {
    double losses[2], law[2][2];
    uint64_t t; /* steps done */
};

static void train(struct linear *l, const double *mix, uint64_t to)
{
    for (; l->t < to; l->t++) {
        for (int i = 0; i < 2; i++) {
            l->losses[i] -= 1e-3 * (l->law[i][0] * mix[0] + l->law[i][1] * mix[1]);
        }
    }
}

static uint64_t asked(const struct setup *s)
{
    struct mx_policy_request r[2];

    return s->c.ops->requests(s->state, &s->c, r, 2) > 0 ? r[0].eval_after : 0;
}

static void begin_aioli(struct setup *s, struct linear *l, uint64_t seed)
{
    *l = (struct linear){{5, 4}, {{0.9, 0.1}, {0.4, 0.2}}, 0};
    setup(s, "aioli", 2, 2);
    set(s, "lp_rounds", 3);
    set(s, "lp_steps", 5);
    set(s, "update_steps", 100);
    set(s, "ema", 0);
    set(s, "seed", (double)seed);
    start(s);
    near(s->w[0], 0.5);
    assert_int_equal(asked(s), 1);
}

/* Trains under `mix` to the step that is asked for, and tells its losses. Whether weights moved. */
static int fulfil(struct setup *s, struct linear *l, const double *mix)
{
    double before[2] = {s->w[0], s->w[1]};
    uint64_t t = asked(s);

    assert_true(t >= l->t);
    train(l, mix, t);
    eval(s, t, l->losses, 2);
    return memcmp(before, s->w, sizeof before) != 0;
}

static void aioli_finds_the_law_whatever_the_delay(void **state)
{
    int same = 0;

    (void)state;
    for (uint64_t lag = 1; lag <= 7; lag++) {
        double total = 0.9 + 0.1 + 0.4 + 0.2, mix[2] = {0.5, 0.5}, ended;
        struct linear l;
        struct setup s;
        int bursts = 0, moved;

        begin_aioli(&s, &l, lag);
        moved = fulfil(&s, &l, mix);
        while (fabs(s.w[0] - 0.75) < 1e-9 || fabs(s.w[1] - 0.75) < 1e-9) {
            if (moved) { /* a new mixture: in force some steps later */
                uint64_t from = l.t + lag;

                s.c.ops->in_force(s.state, &s.c, from);
                if (lag > 2) {
                    train(&l, mix, l.t + 1); /* an evaluation that nobody has asked for */
                    eval(&s, l.t, l.losses, 2);
                }
                if (asked(&s) == from - 1) {
                    (void)fulfil(&s, &l, mix);
                }
                memcpy(mix, s.w, sizeof mix);
            }
            train(&l, mix, l.t + 2); /* and another */
            eval(&s, l.t, l.losses, 2);
            moved = fulfil(&s, &l, mix);
            same += !moved;
            bursts++;
        }
        assert_int_equal(bursts, 6);
        assert_true(fabs(log(s.w[0] / s.w[1]) - 0.2 * (1.3 - 0.3) / total) < 1e-9);
        assert_int_equal(asked(&s), 0);
        ended = (double)l.t;
        s.c.ops->in_force(s.state, &s.c, l.t + lag);
        assert_int_equal(asked(&s), (uint64_t)ended + lag + (100 - 30) - 1);
        assert_int_equal(fulfil(&s, &l, s.w), 1);
        free(s.state);
    }
    assert_true(same > 0); /* bursts of one domain behind each other */
}

static void aioli_measures_anew_what_was_missed(void **state)
{
    double mix[2] = {0.5, 0.5}, part[2];
    struct linear l;
    struct setup s;

    (void)state;
    begin_aioli(&s, &l, 0);
    (void)fulfil(&s, &l, mix);
    s.c.ops->in_force(s.state, &s.c, 2);
    memcpy(mix, s.w, sizeof mix);
    assert_int_equal(asked(&s), 6);
    train(&l, mix, 6);
    part[0] = l.losses[0];
    part[1] = NAN;
    eval(&s, 6, part, 2); /* not whole: as if it hadn't come */
    assert_memory_equal(mix, s.w, sizeof mix);
    train(&l, mix, 9);
    eval(&s, 9, l.losses, 2);
    assert_memory_equal(mix, s.w, sizeof mix);
    assert_int_equal(asked(&s), 14);
    eval(&s, 8, l.losses, 2); /* late, of an earlier step */
    assert_int_equal(asked(&s), 14);
    (void)fulfil(&s, &l, mix);
    assert_true(asked(&s) == 0 || asked(&s) == 19); /* the next burst, maybe of the same domain */
    free(s.state);
}

/* A mixture that is in force already makes no mix of its own, of which a policy would be told. */
static void aioli_goes_on_where_weights_stay(void **state)
{
    const double losses[] = {3, 2};
    int stays = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 16; seed++) {
        double before[2];
        struct setup s;

        setup(&s, "aioli", 2, 2);
        s.prior[0] = 0.6;
        s.prior[1] = 0.4;
        set(&s, "one_hot_factor", 0.6);
        set(&s, "lp_rounds", 1);
        set(&s, "lp_steps", 5);
        set(&s, "update_steps", 100);
        set(&s, "eta", 0);
        set(&s, "seed", (double)seed);
        start(&s);
        for (int i = 0; i < 12; i++) { /* four rounds */
            uint64_t t = asked(&s);

            assert_true(t > 0);
            memcpy(before, s.w, sizeof before);
            eval(&s, t, losses, 2);
            if (memcmp(before, s.w, sizeof before) != 0) {
                s.c.ops->in_force(s.state, &s.c, t + 1);
            } else {
                stays++;
            }
        }
        free(s.state);
    }
    assert_true(stays > 8);
}

static void aioli_sweeps_visit_every_domain(void **state)
{
    double order[2][MOST], losses[MOST] = {0};
    int differ = 0;

    (void)state;
    for (int seed = 0; seed < 20; seed++) {
        struct setup s;
        double sum = 0.0, squares = 0.0;

        setup(&s, "aioli", 6, 6);
        set(&s, "seed", seed);
        start(&s);
        eval(&s, 1, losses, 6);
        memcpy(order[seed % 2], mx_aioli_order(s.state), 6 * sizeof(double));
        for (int i = 0; i < 6; i++) {
            sum += order[seed % 2][i];
            squares += order[seed % 2][i] * order[seed % 2][i];
        }
        assert_true(sum == 15.0 && squares == 55.0);
        differ += seed > 0 && memcmp(order[0], order[1], 6 * sizeof(double)) != 0;
        free(s.state);
    }
    assert_true(differ > 10);
}

/* A sweep that has had all its rounds would never end. */
static void aioli_knows_a_state_that_leads_nowhere(void **state)
{
    enum { SWEEPING, ROUND, LP };
    const double losses[] = {3, 2};
    struct setup s;

    (void)state;
    setup(&s, "aioli", 2, 2);
    start(&s);
    assert_true(s.c.ops->sane(s.state, &s.c));
    eval(&s, 1, losses, 2);
    assert_true(s.state[SWEEPING] == 1.0 && s.c.ops->sane(s.state, &s.c));
    s.state[LP] = s.params[0];
    assert_false(s.c.ops->sane(s.state, &s.c));
    s.state[SWEEPING] = 0.0;
    assert_true(s.c.ops->sane(s.state, &s.c));
    s.state[ROUND] = 0x1p52;
    assert_false(s.c.ops->sane(s.state, &s.c));
    free(s.state);
}

/* ---- refusals, counts ----------------------------------------------------------------------- */

static void refused(struct setup *s, const char *words)
{
    const char *clash = s->c.ops->check(&s->c, s->text, sizeof s->text);

    assert_non_null(clash);
    assert_string_equal(clash, words);
}

static void what_does_not_fit_is_refused(void **state)
{
    const double none[] = {0, 0, 0};
    struct setup s;

    (void)state;
    setup(&s, "skillit", 3, 4);
    refused(&s, "graph: needed where 3 domains are not 4 members of the eval set");
    setup(&s, "skillit", 3, 3);
    table(&s, "targets", none, 3);
    refused(&s, "targets: none of 3 members");
    setup(&s, "skillit", 3, 3);
    table(&s, "init", none, 3);
    refused(&s, "init: the 3 weights sum to 0");
    setup(&s, "skillit", 3, 2);
    table(&s, "graph", none, 3);
    set(&s, "lone_nodes", 1);
    refused(&s, "lone_nodes: 3 domains and 2 members of the eval set are no same skills");
    setup(&s, "dbl", 3, 2);
    refused(&s, "eval set: 3 domains but 2 members: one each is needed");
    setup(&s, "aioli", 3, 2);
    refused(&s, "eval set: 3 domains but 2 members: one each is needed");
    setup(&s, "aioli", 4, 4);
    set(&s, "one_hot_factor", 0.25);
    refused(&s, "one_hot_factor: not over 1/4 for 4 domains");
    set(&s, "one_hot_factor", 0.5);
    set(&s, "update_steps", 64);
    refused(&s, "update_steps: the bursts of 4 domains take 64, not under 64");
    set(&s, "update_steps", 65);
    assert_null(s.c.ops->check(&s.c, s.text, sizeof s.text));
    setup(&s, "aioli", 300, 300);
    refused(&s, "aioli: 300 domains, at most 256 are possible");
}

static void clashes_fit_their_room(void **state)
{
    const uint64_t n[] = {0, 18446744073709551615u};
    char text[40];

    (void)state;
    assert_string_equal(mx_clash(text, sizeof text, "a # b #", n), "a 0 b 18446744073709551615");
    assert_string_equal(mx_clash(text, 10, "a # b # c", n), "a 0 b 184");
    assert_string_equal(mx_clash(text, 1, "a # b # c", n), "");
}

static void counts_leave_the_last_the_rest(void **state)
{
    const double w[] = {1, 1, 1}, rounding[] = {0.5, 0.5, 0.0};
    uint64_t n[3];

    (void)state;
    mx_skillit_counts(w, 3, 8, n);
    assert_true(n[0] == 2 && n[1] == 2 && n[2] == 4);
    mx_skillit_counts(rounding, 3, 1000000007, n);
    assert_true(n[0] == 500000003 && n[1] == 500000003 && n[2] == 1);
    mx_skillit_counts(w, 1, 7, n);
    assert_true(n[0] == 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(skillit_needs_the_members_that_count),
        cmocka_unit_test(skillit_updates_once_a_round),
        cmocka_unit_test(skillit_static_stays),
        cmocka_unit_test(skillit_lone_skills_keep_their_prior),
        cmocka_unit_test(skillit_losses_of_zero_divide_nothing),
        cmocka_unit_test(dbl_clips_or_starves),
        cmocka_unit_test(dbl_starved_domains_come_back),
        cmocka_unit_test(aioli_finds_the_law_whatever_the_delay),
        cmocka_unit_test(aioli_measures_anew_what_was_missed),
        cmocka_unit_test(aioli_goes_on_where_weights_stay),
        cmocka_unit_test(aioli_sweeps_visit_every_domain),
        cmocka_unit_test(aioli_knows_a_state_that_leads_nowhere),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(clashes_fit_their_room),
        cmocka_unit_test(counts_leave_the_last_the_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
