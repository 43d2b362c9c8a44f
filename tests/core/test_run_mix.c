/* test_run_mix.c - how a run makes mixes of what operators set, and when they are in force, one
 * rule at a time. See test_run.c. */
#include "tests/core/run_bench.h"

static void an_operator_sets_a_static_mix(void **state)
{
    struct bench b;
    struct mx_run_view v;

    (void)state;
    setup(&b, "static");
    open_run(&b);
    serve_upto(&b, 3);
    set_weights(&b, 1.0, 1.0, -1.0);
    assert_refused(&b, MX_BAD_WEIGHTS, 2);
    set_weights(&b, NAN, 1.0, 1.0);
    assert_refused(&b, MX_BAD_WEIGHTS, 0);
    set_weights(&b, 1.0, INFINITY, 1.0);
    assert_refused(&b, MX_BAD_WEIGHTS, 1);
    set_weights(&b, 0.0, 0.0, 0.0);
    assert_refused(&b, MX_BAD_WEIGHTS, K);
    set_weights(&b, 1e308, 1e308, 0.0); /* any scale */
    assert_int_equal(must(&b, MX_FX_APPEND)->handle, 11);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.author_len, 2);
    write_all(&b);
    v = view(&b);
    assert_int_equal(v.mix_version, 2);
    assert_int_equal(v.shares[0], MX_SHARE_ONE / 2);
    assert_int_equal(v.shares[2], 0);
    assert_true(v.weights[0] == 0.5);
    teardown(&b);
}

static void closed_domains_can_not_be_given_weight(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "static");
    b.limits[1].open = 0;
    open_run(&b);
    write_all(&b);
    assert_int_equal(view(&b).shares[1], 0);
    set_weights(&b, 1.0, 1.0, 1.0);
    assert_refused(&b, MX_BAD_WEIGHTS, 1);
    set_weights(&b, 1.0, 0.0, 1.0);
    write_all(&b);
    assert_int_equal(view(&b).shares[0], MX_SHARE_ONE / 2);
    teardown(&b);
}

/* What the operator sets stays until the policy itself moves: not merely until the next report. */
static void a_set_mix_lasts_until_the_policy_moves(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "odm");
    b.params[0] = 20; /* warm-up */
    open_run(&b);
    serve_upto(&b, 30);
    set_weights(&b, 1.0, 0.0, 0.0);
    write_all(&b);
    assert_int_equal(view(&b).shares[0], MX_SHARE_ONE);
    post(&b, 3, 0, 1, 1, 5.0);
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 2);
    assert_int_equal(view(&b).shares[0], MX_SHARE_ONE);
    post(&b, 25, 0, 1, 1, 5.0);
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 3);
    assert_true(view(&b).shares[1] > MX_SHARE_ONE / 2);
    set_weights(&b, 0.0, 0.0, 1.0); /* and is not undone by what the policy wanted before */
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 4);
    assert_int_equal(view(&b).shares[2], MX_SHARE_ONE);
    assert_int_equal(b.queue.n, 0);
    teardown(&b);
}

static void a_set_mix_is_made_even_if_feedback_comes_between(void **state)
{
    struct bench b;
    int set_seen = 0;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 20);
    post(&b, 10, 0, 1, 0, 5.0);
    write_one(&b); /* version 2 is under way */
    set_weights(&b, 0.0, 0.0, 1.0);
    post(&b, 11, 0, 1, 1, 5.0);
    while (b.queue.n > 0) {
        const struct mx_entry *e = &b.queue.entries[0];

        if (e->kind == MX_ENTRY_MIX && e->cause == MX_CAUSE_OPERATOR) {
            assert_int_equal(e->shares[2], MX_SHARE_ONE);
            assert_int_equal(e->mix_version, 3);
            set_seen = 1;
        }
        write_one(&b);
    }
    assert_true(set_seen);
    assert_int_equal(view(&b).mix_version, 4); /* and then the policy goes on */
    assert_true(view(&b).shares[2] < MX_SHARE_ONE);
    teardown(&b);
}

/* Reports that closed before the operator acted don't undo what was set. */
static void a_set_mix_is_not_undone_by_older_feedback(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 20);
    post(&b, 10, 0, 1, 0, 5.0);
    post(&b, 11, 0, 1, 1, 5.0);
    set_weights(&b, 0.0, 0.0, 1.0);
    write_one(&b); /* closes 10; its mix goes behind the other two */
    write_one(&b); /* closes 11, which that mix doesn't hold */
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 3);
    assert_int_equal(view(&b).shares[2], MX_SHARE_ONE);
    teardown(&b);
}

static void a_set_without_its_mix_survives_a_crash(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 3);
    set_weights(&b, 0.0, 1.0, 0.0);
    write_one(&b);
    assert_int_equal(b.queue.n, 1); /* the mix, which the crash takes */
    journal_cut(&b.queue, 0);
    b.run = mx_run_init(b.memory, &b.c);
    for (size_t i = 0; i < b.disk.n; i++) {
        assert_int_equal(mx_run_apply(b.run, &b.disk.entries[i], 0, &b.fx), 0);
        assert_int_equal(b.fx.n, 0);
    }
    mx_run_recovered(b.run, b.now_ms, b.now_ms, &b.fx);
    collect(&b);
    assert_int_equal(b.queue.entries[0].kind, MX_ENTRY_MIX);
    assert_int_equal(b.queue.entries[0].step, 9); /* the end of what was reserved */
    write_all(&b);
    assert_int_equal(view(&b).shares[1], MX_SHARE_ONE);
    teardown(&b);
}

static void lead_delays_a_mix(void **state)
{
    struct bench b;
    struct mx_step at;

    (void)state;
    setup(&b, "static");
    b.c.lead = 5;
    open_run(&b);
    serve_upto(&b, 3);
    set_weights(&b, 0.0, 1.0, 0.0);
    write_one(&b);
    assert_int_equal(b.queue.entries[0].step, 8);
    request(&b, 7); /* below it nothing has to wait */
    assert_non_null(effect(&b, MX_FX_SERVE));
    request(&b, 8);
    assert_non_null(effect(&b, MX_FX_HOLD));
    write_all(&b);
    assert_int_equal(view(&b).next_version, 0); /* in force at the frontier, which is 8 by now */
    assert_int_equal(mx_run_step(b.run, 7, 0, &at), MX_STEP_HERE);
    assert_int_equal(at.mix_version, 1);
    request(&b, 8);
    assert_int_equal(mx_run_step(b.run, 8, 0, &at), MX_STEP_HERE);
    assert_int_equal(at.mix_version, 2);
    assert_int_equal(at.prefix[2] - at.prefix[1], BATCH);
    set_weights(&b, 1.0, 0.0, 0.0);
    write_all(&b);
    assert_int_equal(view(&b).next_version, 3);
    assert_int_equal(view(&b).next_step, 14);
    assert_int_equal(view(&b).shares[1], MX_SHARE_ONE);
    teardown(&b);
}

/* More mixes than the table of those to come holds: the next one waits for the frontier, and a
 * fold of the journal, which sees no frontier, comes to the same. */
static void mixes_wait_while_too_many_are_to_come(void **state)
{
    struct bench b;
    uint64_t *live, *folded = NULL;
    size_t n, m = 0;

    (void)state;
    setup(&b, "odm");
    b.c.lead = 200;
    open_run(&b);
    for (uint64_t step = 0; step < 300; step++) {
        serve_upto(&b, step + 1);
        post(&b, step, 0, 1, (uint32_t)step % K, 1.0 + (double)(step % 7));
        write_all(&b);
        if (step == 150) {
            assert_true(view(&b).mix_version < 70); /* 64 fit */
        }
    }
    assert_true(view(&b).mix_version > 100);
    live = saved(b.run, &n);
    for (int from_words = 0; from_words < 2; from_words++) {
        b.run = mx_run_init(b.memory, &b.c);
        if (from_words) {
            assert_int_equal(mx_run_load(b.run, live, n), 0);
        }
        for (size_t i = view(&b).applied; i < b.disk.n; i++) {
            assert_int_equal(mx_run_apply(b.run, &b.disk.entries[i], 0, &b.fx), 0);
        }
        assert_true(view(&b).frontier <= view(&b).reserved);
        mx_run_recovered(b.run, b.now_ms, b.now_ms, &b.fx);
        if (!from_words) {
            folded = saved(b.run, &m);
        }
    }
    free(live);
    live = saved(b.run, &n);
    assert_int_equal(n, m);
    assert_memory_equal(live, folded, n * sizeof *live);
    free(live);
    free(folded);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_operator_sets_a_static_mix),
        cmocka_unit_test(closed_domains_can_not_be_given_weight),
        cmocka_unit_test(a_set_mix_lasts_until_the_policy_moves),
        cmocka_unit_test(a_set_mix_is_made_even_if_feedback_comes_between),
        cmocka_unit_test(a_set_mix_is_not_undone_by_older_feedback),
        cmocka_unit_test(a_set_without_its_mix_survives_a_crash),
        cmocka_unit_test(lead_delays_a_mix),
        cmocka_unit_test(mixes_wait_while_too_many_are_to_come),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
