/* test_run_mix.c - how a run makes mixes of what operators set, and when they are in force, one
 * rule at a time. See test_run.c. */
#include "tests/core/run_bench.h"

#include "proto/limits.h"

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

/* What the operator sets stays until the policy itself moves: not merely until the next report. It
 * holds for one step at least. */
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
    assert_int_equal(view(&b).versions, 2);
    assert_int_equal(view(&b).shares[0], MX_SHARE_ONE);
    post(&b, 25, 0, 1, 1, 5.0);
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 2);
    assert_int_equal(view(&b).next_version, 3);
    assert_int_equal(view(&b).next_step, 31);
    serve(&b, 30);
    assert_int_equal(view(&b).mix_version, 3);
    assert_true(view(&b).shares[1] > MX_SHARE_ONE / 2);
    set_weights(&b, 0.0, 0.0, 1.0); /* and is not undone by what the policy wanted before */
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 4);
    assert_int_equal(view(&b).shares[2], MX_SHARE_ONE);
    assert_int_equal(b.queue.n, 0);
    teardown(&b);
}

static void a_set_mix_stands_between_mixes_by_feedback(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 20);
    post(&b, 10, 0, 1, 0, 5.0);
    write_one(&b); /* version 2 is under way */
    set_weights(&b, 0.0, 0.0, 1.0);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.cause, MX_CAUSE_OPERATOR);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.mix_version, 3);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.shares[2], MX_SHARE_ONE);
    post(&b, 11, 0, 1, 1, 5.0);
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 3);
    assert_int_equal(view(&b).shares[2], MX_SHARE_ONE);
    assert_int_equal(view(&b).next_version, 4); /* and then the policy goes on */
    serve(&b, 20);
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
    set_weights(&b, 0.0, 0.0, 1.0);
    write_one(&b); /* closes 10; a mix of it would be in force where the operator's is to be */
    assert_int_equal(b.queue.n, 1);
    write_all(&b);
    assert_int_equal(view(&b).versions, 2);
    assert_int_equal(view(&b).shares[2], MX_SHARE_ONE);
    serve_upto(&b, 40);
    assert_int_equal(view(&b).versions, 2);
    teardown(&b);
}

/* A step that closes while a mix is on its way, and moves nothing, isn't news for a later one. */
static void a_set_mix_is_not_undone_by_a_step_that_moves_nothing(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "ema");
    b.params[1] = 2; /* update_frequency: the feedback of every other step */
    open_run(&b);
    serve_upto(&b, 4);
    set_weights_at(&b, 6, 1, 1, 1);
    write_all(&b);
    post(&b, 1, 0, 1, 0, 2.0);
    post(&b, 2, 0, 1, 0, 3.0);
    write_one(&b);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.kind, MX_ENTRY_MIX);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.cause_step, 1);
    write_all(&b);
    assert_int_equal(view(&b).steps_closed, 2);
    assert_int_equal(view(&b).mix_version, 3);
    serve_upto(&b, 9);
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 2);
    assert_int_equal(view(&b).versions, 3);
    post(&b, 3, 0, 1, 0, 3.0); /* this one does */
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 4);
    teardown(&b);
}

static void a_set_survives_a_crash(void **state)
{
    struct bench b;
    struct mx_step at;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 3);
    set_weights(&b, 0.0, 1.0, 0.0);
    write_one(&b);
    assert_int_equal(b.queue.n, 0); /* the entry is its own mix */
    crash(&b);
    assert_int_equal(view(&b).frontier, 9);
    assert_int_equal(mx_run_step(b.run, 2, 0, &at), MX_STEP_HERE);
    assert_int_equal(at.mix_version, 1);
    assert_int_equal(mx_run_step(b.run, 3, 0, &at), MX_STEP_HERE);
    assert_int_equal(at.mix_version, 2);
    assert_int_equal(at.prefix[2] - at.prefix[1], BATCH);
    teardown(&b);
}

static void a_mix_lost_in_a_crash_is_made_again(void **state)
{
    struct bench b;
    uint64_t wanted[K];

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 3);
    post(&b, 2, 0, 1, 1, 5.0);
    write_one(&b);
    assert_int_equal(b.queue.n, 1); /* the mix, which the crash takes */
    memcpy(wanted, b.queue.entries[0].shares, sizeof wanted);
    crash(&b);
    assert_int_equal(b.queue.entries[0].kind, MX_ENTRY_MIX);
    assert_int_equal(b.queue.entries[0].step, 9); /* the end of what was reserved */
    assert_memory_equal(b.queue.entries[0].shares, wanted, sizeof wanted);
    write_all(&b);
    assert_memory_equal(view(&b).shares, wanted, sizeof wanted);
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

/* From a step that the operator names, whatever comes before; several of them in their order. */
static void a_mix_is_set_from_a_step_on(void **state)
{
    static const uint64_t versions[] = {3, 3, 3, 2, 2, 4, 4};
    struct bench b;
    struct mx_step at;

    (void)state;
    setup(&b, "static");
    b.c.max_ahead = 100;
    open_run(&b);
    serve_upto(&b, 3);
    set_weights_at(&b, 2, 1.0, 0.0, 0.0);
    assert_refused(&b, MX_BAD_AT, 3);
    set_weights_at(&b, MX_STEP_MAX + 1, 1.0, 0.0, 0.0);
    assert_refused(&b, MX_BAD_AT, 3);
    set_weights_at(&b, 23, 0.0, 1.0, 0.0);
    set_weights(&b, 1.0, 0.0, 0.0); /* goes before the first */
    set_weights_at(&b, 25, 0.0, 0.0, 1.0);
    request(&b, 3);
    assert_non_null(effect(&b, MX_FX_HOLD));
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 3);
    assert_int_equal(view(&b).next_version, 2);
    assert_int_equal(view(&b).next_step, 23);
    serve(&b, 26);
    for (uint64_t i = 0; i < 7; i++) {
        assert_int_equal(mx_run_step(b.run, 20 + i, 0, &at), MX_STEP_HERE);
        assert_int_equal(at.mix_version, versions[i]);
    }
    set_weights_at(&b, 90, 1.0, 0.0, 0.0);
    set_weights_at(&b, 90, 0.0, 1.0, 0.0); /* the later one counts */
    write_all(&b);
    assert_int_equal(view(&b).next_version, 6);
    serve(&b, 95);
    assert_int_equal(mx_run_step(b.run, 89, 0, &at), MX_STEP_HERE);
    assert_int_equal(at.mix_version, 4);
    assert_int_equal(mx_run_step(b.run, 90, 0, &at), MX_STEP_HERE);
    assert_int_equal(at.mix_version, 6);
    teardown(&b);
}

static void too_many_set_mixes_are_refused(void **state)
{
    struct bench b;
    uint64_t n = 0;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 3);
    for (;; n++) {
        set_weights_at(&b, 1000 + n, 1.0, 0.0, 0.0);
        if (effect(&b, MX_FX_REFUSE) != NULL) {
            break;
        }
    }
    assert_refused(&b, MX_TOO_MANY_MIXES, n + 1); /* with the one in force */
    write_all(&b);
    set_weights_at(&b, 5000, 1.0, 0.0, 0.0);
    assert_refused(&b, MX_TOO_MANY_MIXES, n + 1);
    post(&b, 2, 0, 1, 1, 5.0); /* feedback has a place of its own */
    write_all(&b);
    assert_int_equal(view(&b).mix_version, n + 2);
    teardown(&b);
}

/* More mixes than the table of those to come holds: the next one waits for the frontier, and a
 * fold of the journal comes to the same. */
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
            assert_true(view(&b).versions < 70); /* 64 fit */
        }
    }
    assert_true(view(&b).versions > 100);
    live = saved(b.run, &n);
    for (int from_words = 0; from_words < 2; from_words++) {
        b.run = mx_run_init(b.memory, &b.c);
        if (from_words) {
            assert_int_equal(mx_run_load(b.run, live, n), 0);
        }
        for (size_t i = view(&b).applied; i < b.disk.n; i++) {
            assert_int_equal(mx_run_apply(b.run, &b.disk.entries[i], 0, &b.fx), MX_APPLIED);
        }
        assert_true(view(&b).frontier <= view(&b).reserved);
        assert_int_equal(mx_run_recovered(b.run, b.now_ms, b.now_ms, &b.fx), 0);
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
        cmocka_unit_test(a_set_mix_stands_between_mixes_by_feedback),
        cmocka_unit_test(a_set_mix_is_not_undone_by_older_feedback),
        cmocka_unit_test(a_set_mix_is_not_undone_by_a_step_that_moves_nothing),
        cmocka_unit_test(a_set_survives_a_crash),
        cmocka_unit_test(a_mix_lost_in_a_crash_is_made_again),
        cmocka_unit_test(lead_delays_a_mix),
        cmocka_unit_test(a_mix_is_set_from_a_step_on),
        cmocka_unit_test(too_many_set_mixes_are_refused),
        cmocka_unit_test(mixes_wait_while_too_many_are_to_come),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
