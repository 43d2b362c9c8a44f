/* test_run_lockstep.c - steps that wait for feedback, one rule at a time. See test_run.c. */
#include "tests/core/run_bench.h"

static void setup_lockstep(struct bench *b, const char *policy, uint32_t lag)
{
    setup(b, policy);
    b->c.lag = lag;
}

/* One rank's report of a whole step, and all that comes of it. */
static void report(struct bench *b, uint64_t step, double loss)
{
    post(b, step, 0, 1, (uint32_t)step % K, loss);
    write_all(b);
}

static uint64_t version_of(const struct bench *b, uint64_t step)
{
    struct mx_step at;

    assert_int_equal(mx_run_step(b->run, step, 0, &at), MX_STEP_HERE);
    return at.mix_version;
}

static void a_step_waits_for_the_mix_of_one_before(void **state)
{
    struct bench b;
    struct mx_step at;

    (void)state;
    setup_lockstep(&b, "ema", 2);
    open_run(&b);
    serve_upto(&b, 2);
    request(&b, 2);
    assert_non_null(effect(&b, MX_FX_HOLD));
    assert_int_equal(b.queue.n, 0); /* it's for the trainers to go on */
    assert_int_equal(mx_run_step(b.run, 2, 1, &at), MX_STEP_UNKNOWN);
    post(&b, 0, 0, 1, 1, 4.0);
    request(&b, 2);
    assert_non_null(effect(&b, MX_FX_HOLD)); /* the report isn't durable */
    write_one(&b);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.kind, MX_ENTRY_MIX);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.step, 2);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.cause_step, 0);
    request(&b, 2);
    assert_non_null(effect(&b, MX_FX_HOLD)); /* its mix isn't */
    write_all(&b);
    request(&b, 2);
    assert_non_null(effect(&b, MX_FX_SERVE));
    assert_int_equal(version_of(&b, 2), 2);
    assert_int_equal(version_of(&b, 1), 1);
    assert_int_equal(view(&b).last_delay, 2);
    assert_int_equal(view(&b).consumed, 1);
    request(&b, 3);
    assert_non_null(effect(&b, MX_FX_HOLD));
    teardown(&b);
}

static void reports_wait_for_their_turn(void **state)
{
    struct bench b;

    (void)state;
    setup_lockstep(&b, "ema", 3);
    open_run(&b);
    serve_upto(&b, 3);
    report(&b, 2, 4.0);
    report(&b, 1, 3.0);
    assert_int_equal(view(&b).steps_closed, 2);
    assert_int_equal(view(&b).open_steps, 2);
    assert_int_equal(view(&b).versions, 1); /* nothing is learned of them yet */
    post(&b, 2, 0, 1, 2, 4.0);
    assert_refused(&b, MX_DUPLICATE, 0);
    post(&b, 0, 0, 1, 0, 2.0);
    write_one(&b);
    for (uint64_t step = 3; step < 6; step++) { /* a mix for each, one after the other */
        assert_int_equal(b.queue.n, 1);
        assert_int_equal(b.queue.entries[0].kind, MX_ENTRY_MIX);
        assert_int_equal(b.queue.entries[0].step, step);
        assert_int_equal(b.queue.entries[0].cause_step, step - 3);
        write_one(&b);
    }
    assert_int_equal(view(&b).consumed, 3);
    assert_int_equal(view(&b).open_steps, 0);
    serve_upto(&b, 6);
    for (uint64_t step = 3; step < 6; step++) {
        assert_int_equal(version_of(&b, step), step - 1);
    }
    teardown(&b);
}

/* Steps 0 .. n - 1 under lag 2, reports as late as can be or as early, with crashes or without. */
static uint64_t digest_of(uint64_t n, int late, int crashes)
{
    struct bench b;
    uint64_t digest;

    setup_lockstep(&b, "ema", 2);
    open_run(&b);
    write_all(&b);
    for (uint64_t step = 0; step < n; step++) {
        if (late && step >= 2) {
            request(&b, step);
            assert_non_null(effect(&b, MX_FX_HOLD));
            report(&b, step - 2, 1.0 + (double)((step - 2) % 5));
        }
        if (crashes && step % 7 == 3) {
            crash(&b);
            write_all(&b);
        }
        serve(&b, step);
        if (!late) {
            report(&b, step, 1.0 + (double)(step % 5));
        }
    }
    crash(&b);
    assert_int_equal(view(&b).frontier, late ? n : n + 2); /* not the reservation's end */
    digest = 0;
    for (uint64_t step = 0; step < n; step++) {
        struct mx_step at;

        assert_int_equal(mx_run_step(b.run, step, 0, &at), MX_STEP_HERE);
        digest = digest * 31 + at.mix_version;
        for (int i = 0; i < K; i++) {
            digest = digest * 31 + at.cursors[i];
        }
    }
    teardown(&b);
    return digest;
}

static void timing_and_crashes_change_nothing(void **state)
{
    (void)state;
    assert_true(digest_of(40, 0, 0) == digest_of(40, 1, 0));
    assert_true(digest_of(40, 0, 0) == digest_of(40, 0, 1));
    assert_true(digest_of(40, 0, 0) == digest_of(40, 1, 1));
}

static void a_static_mix_waits_as_well(void **state)
{
    struct bench b;

    (void)state;
    setup_lockstep(&b, "static", 1);
    open_run(&b);
    serve_upto(&b, 1);
    for (uint64_t step = 1; step < 20; step++) {
        request(&b, step);
        assert_non_null(effect(&b, MX_FX_HOLD));
        report(&b, step - 1, 3.0);
        serve(&b, step);
    }
    assert_int_equal(view(&b).versions, 1);
    teardown(&b);
}

/* An operator's mix has its step; the policy goes on with the next. */
static void a_set_mix_has_its_step(void **state)
{
    struct bench b;

    (void)state;
    setup_lockstep(&b, "ema", 1);
    open_run(&b);
    serve_upto(&b, 1);
    set_weights_at(&b, 3, 0.0, 0.0, 1.0);
    write_all(&b);
    for (uint64_t step = 0; step < 5; step++) {
        report(&b, step, 4.0 + (double)step);
        serve(&b, step + 1);
    }
    assert_int_equal(version_of(&b, 2), 4);
    assert_int_equal(version_of(&b, 3), 2);
    assert_int_equal(version_of(&b, 4), 6); /* 5 was that of step 3 */
    teardown(&b);
}

static void a_step_below_the_quorum_counts_as_none(void **state)
{
    struct bench b;
    struct mx_event timer = {.kind = MX_EV_TIMER};
    double before[K];

    (void)state;
    setup_lockstep(&b, "ema", 1);
    b.c.quorum = 0.5;
    open_run(&b);
    serve_upto(&b, 1);
    memcpy(before, view(&b).weights, sizeof before);
    for (uint32_t rank = 0; rank < 2; rank++) {
        post(&b, 0, rank, 5, 1, 4.0);
    }
    write_all(&b);
    b.now_ms += 500;
    give(&b, &timer);
    write_all(&b);
    assert_int_equal(view(&b).timeouts, 1);
    assert_int_equal(view(&b).below_quorum, 1);
    assert_int_equal(view(&b).versions, 1);
    assert_memory_equal(before, view(&b).weights, sizeof before);
    serve(&b, 1); /* under the last good mix */
    assert_int_equal(version_of(&b, 1), 1);
    for (uint32_t rank = 0; rank < 3; rank++) {
        post(&b, 1, rank, 5, 1, 4.0);
    }
    write_all(&b);
    b.now_ms += 500;
    give(&b, &timer);
    write_all(&b);
    assert_int_equal(view(&b).below_quorum, 1);
    assert_int_equal(view(&b).versions, 2);
    teardown(&b);
}

static void steps_passed_over_are_not_waited_for(void **state)
{
    struct bench b;

    (void)state;
    setup_lockstep(&b, "ema", 2);
    open_run(&b);
    serve_upto(&b, 2);
    post(&b, 1, 0, 2, 0, 4.0); /* half of step 1 */
    write_all(&b);
    pass_over(&b, 1, 5);
    write_all(&b);
    assert_int_equal(view(&b).open_steps, 0);
    request(&b, 2);
    assert_refused(&b, MX_SKIPPED, 5);
    request(&b, 5);
    assert_non_null(effect(&b, MX_FX_HOLD));
    report(&b, 0, 4.0);
    assert_int_equal(view(&b).consumed, 5);
    serve(&b, 6); /* two steps ahead of what isn't passed over */
    request(&b, 7);
    assert_non_null(effect(&b, MX_FX_HOLD));
    assert_int_equal(version_of(&b, 1), 1);
    assert_int_equal(version_of(&b, 2), 2);
    report(&b, 5, 3.0);
    serve(&b, 7);
    assert_int_equal(version_of(&b, 7), 3);
    teardown(&b);
}

/* An entry that says that a step was planned before its feedback was in. */
static void a_fold_knows_the_order(void **state)
{
    struct bench b;
    struct mx_effects fx;
    struct mx_entry e = {.kind = MX_ENTRY_RESERVE};

    (void)state;
    setup_lockstep(&b, "ema", 2);
    open_run(&b);
    serve_upto(&b, 2);
    e.index = view(&b).applied + 1;
    e.step = view(&b).reserved;
    e.frontier = 3;
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), MX_APPLY_ORDER);
    e.frontier = 2;
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), MX_APPLIED);
    teardown(&b);
}

static void the_end_is_reached(void **state)
{
    struct bench b;

    (void)state;
    setup_lockstep(&b, "ema", 3);
    b.c.end_step = 10;
    open_run(&b);
    write_all(&b);
    for (uint64_t step = 0; step < 10; step++) {
        serve(&b, step);
        report(&b, step, 2.0 + (double)step);
    }
    assert_int_equal(view(&b).frontier, 10);
    assert_int_equal(view(&b).steps_closed, 10);
    assert_int_equal(view(&b).versions, 8); /* none for steps that don't exist */
    assert_int_equal(b.queue.n, 0);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_waits_for_the_mix_of_one_before),
        cmocka_unit_test(reports_wait_for_their_turn),
        cmocka_unit_test(timing_and_crashes_change_nothing),
        cmocka_unit_test(a_static_mix_waits_as_well),
        cmocka_unit_test(a_set_mix_has_its_step),
        cmocka_unit_test(a_step_below_the_quorum_counts_as_none),
        cmocka_unit_test(steps_passed_over_are_not_waited_for),
        cmocka_unit_test(a_fold_knows_the_order),
        cmocka_unit_test(the_end_is_reached),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
