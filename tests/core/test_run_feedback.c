/* test_run_feedback.c - what a run makes of reports, one rule at a time. See test_run.c. */
#include "tests/core/run_bench.h"

static void feedback_that_makes_no_sense_is_refused(void **state)
{
    struct bench b;
    struct mx_loss losses[2] = {{1, 1, 10, 20.0}, {1, 1, 10, 20.0}};
    struct mx_entry e = {.world = 2, .losses = losses, .n = 1};
    struct mx_event ev = {.kind = MX_EV_FEEDBACK, .handle = 9, .entry = &e};

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 3);
    e.rank = 2;
    give(&b, &ev);
    assert_refused(&b, MX_BAD_RANK, 2);
    e.rank = 0;
    e.step = 3;
    give(&b, &ev);
    assert_refused(&b, MX_NOT_SERVED, 3);
    e.step = 0;
    losses[0].domain = K;
    give(&b, &ev);
    assert_refused(&b, MX_BAD_DOMAIN, K);
    losses[0].domain = 1;
    e.n = 2; /* twice the same */
    give(&b, &ev);
    assert_refused(&b, MX_BAD_DOMAIN, 1);
    e.n = 1;
    e.mix_version = 2;
    give(&b, &ev);
    assert_refused(&b, MX_BAD_VERSION, 2);
    e.mix_version = 1;
    give(&b, &ev);
    assert_int_equal(must(&b, MX_FX_APPEND)->handle, 9);
    write_all(&b);
    give(&b, &ev);
    assert_refused(&b, MX_DUPLICATE, 0);
    e.rank = 1;
    e.world = 3;
    give(&b, &ev);
    assert_refused(&b, MX_BAD_WORLD, 2);
    e.world = 2;
    give(&b, &ev);
    write_all(&b);
    assert_int_equal(view(&b).steps_closed, 1);
    give(&b, &ev); /* all ranks have reported: so this one has */
    assert_refused(&b, MX_DUPLICATE, 0);
    assert_int_equal(view(&b).duplicates, 2);
    assert_int_equal(view(&b).accepted, 2);
    teardown(&b);
}

/* Trainers that came back in another number report anew what the others left half reported. */
static void those_who_ask_now_replace_a_half_report(void **state)
{
    struct bench b;
    struct mx_event ev = ask(3);

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 3);
    post(&b, 1, 0, 2, 0, 9.0);
    write_all(&b);
    post(&b, 1, 0, 3, 0, 1.0);
    assert_refused(&b, MX_BAD_WORLD, 2);
    ev.world = 3; /* three are there now */
    give(&b, &ev);
    write_all(&b);
    for (uint32_t rank = 0; rank < 3; rank++) {
        assert_int_equal(view(&b).steps_closed, 0);
        post(&b, 1, rank, 3, 0, 1.0);
        assert_non_null(effect(&b, MX_FX_APPEND));
        write_all(&b);
    }
    assert_int_equal(view(&b).steps_closed, 1);
    assert_true(view(&b).loss[0] == 1.0); /* nothing is left of the first report */
    teardown(&b);
}

static void too_many_open_steps_are_refused(void **state)
{
    struct bench b;
    uint64_t step;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 80);
    for (step = 0; step < 64; step++) {
        post(&b, step, 0, 2, 0, 1.0);
        write_all(&b);
    }
    assert_int_equal(view(&b).open_steps, 64);
    post(&b, 64, 0, 2, 0, 1.0);
    assert_refused(&b, MX_TOO_MANY_OPEN, 64);
    post(&b, 3, 1, 2, 0, 1.0); /* of an open step: welcome, and it closes it */
    post(&b, 70, 0, 2, 0, 1.0);
    assert_refused(&b, MX_TOO_MANY_OPEN, 64);
    write_all(&b);
    post(&b, 70, 0, 2, 0, 1.0);
    post(&b, 71, 0, 2, 0, 1.0); /* both see the one place: the oldest open step gives way */
    write_all(&b);
    assert_int_equal(view(&b).open_steps, 64);
    assert_int_equal(view(&b).timeouts, 1);
    post(&b, 0, 1, 2, 0, 1.0);
    assert_refused(&b, MX_LATE, 0);
    teardown(&b);
}

static void bad_losses_are_quarantined(void **state)
{
    struct bench b;
    struct mx_loss losses[K] = {{0, 1, 10, NAN}, {1, 1, 10, 30.0}, {2, 1, 10, 501.0}};
    struct mx_entry e = {.world = 1, .losses = losses, .n = K};
    struct mx_event ev = {.kind = MX_EV_FEEDBACK, .handle = 9, .entry = &e};
    const struct mx_effect *f;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 20);
    give(&b, &ev);
    f = must(&b, MX_FX_APPEND);
    assert_int_equal(f->quarantined, 2);
    assert_int_equal(f->bad_domain, 0);
    assert_true(isnan(f->bad_value));
    assert_int_equal(f->entry.n, 1);
    assert_int_equal(f->entry.losses[0].domain, 1);
    write_all(&b);
    assert_int_equal(view(&b).quarantined, 2);
    assert_true(isnan(view(&b).loss[0]) && view(&b).loss[1] == 3.0);
    /* A step of which nothing is left: the last good mix stays, even if the policy would go on. */
    {
        uint64_t version = view(&b).mix_version;
        double before[K];

        memcpy(before, view(&b).weights, sizeof before);
        e.step = 19;
        losses[1].loss_sum = -1.0;
        give(&b, &ev);
        assert_int_equal(must(&b, MX_FX_APPEND)->entry.n, 0);
        write_all(&b);
        assert_int_equal(view(&b).steps_closed, 2);
        assert_int_equal(view(&b).mix_version, version);
        assert_memory_equal(before, view(&b).weights, sizeof before);
    }
    teardown(&b);
}

/* Losses 4 and 1: after the first steps the first domain gets more. */
static void feedback_moves_the_mix(void **state)
{
    struct bench b;
    struct mx_step at;
    uint64_t before, from;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 10);
    assert_int_equal(mx_run_step(b.run, 13, 1, &at), MX_STEP_HERE); /* on trial */
    post(&b, 9, 0, 1, 0, 4.0);
    assert_int_equal(b.queue.n, 1);
    write_one(&b); /* the feedback: the step closes and a mix is made */
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.kind, MX_ENTRY_MIX);
    from = must(&b, MX_FX_APPEND)->entry.step;
    assert_int_equal(from, 10);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.cause, MX_CAUSE_FEEDBACK);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.cause_step, 9);
    assert_int_equal(mx_run_step(b.run, 13, 1, &at), MX_STEP_UNKNOWN); /* its mix isn't durable */
    request(&b, 10);
    assert_non_null(effect(&b, MX_FX_HOLD));
    request(&b, 9);
    assert_non_null(effect(&b, MX_FX_SERVE));
    before = view(&b).shares[0];
    write_one(&b);
    assert_int_equal(must(&b, MX_FX_DROP)->step, 10);
    assert_int_equal(view(&b).mix_version, 2);
    assert_int_equal(view(&b).mix_step, 10);
    assert_int_equal(view(&b).last_delay, 1);
    assert_true(view(&b).shares[0] > before);
    request(&b, 10);
    assert_non_null(effect(&b, MX_FX_SERVE));
    assert_int_equal(mx_run_step(b.run, 10, 0, &at), MX_STEP_HERE);
    assert_int_equal(at.mix_version, 2);
    assert_int_equal(mx_run_step(b.run, 9, 0, &at), MX_STEP_HERE);
    assert_int_equal(at.mix_version, 1);
    teardown(&b);
}

static void feedback_during_an_append_is_in_the_next_mix(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 12);
    post(&b, 9, 0, 1, 0, 4.0);
    write_one(&b); /* closes 9; version 2 is under way */
    assert_int_equal(b.queue.n, 1);
    post(&b, 10, 0, 1, 1, 2.0);
    post(&b, 11, 0, 1, 2, 3.0);
    assert_int_equal(b.queue.n, 3);
    {
        /* The two reports are durable before the mix: they close steps while it is under way. */
        struct mx_entry mix = b.queue.entries[0];

        b.queue.entries[0] = b.queue.entries[1];
        b.queue.entries[1] = b.queue.entries[2];
        b.queue.entries[2] = mix;
        for (size_t i = 0; i < 3; i++) {
            b.queue.entries[i].index = b.disk.n + 1 + i;
        }
    }
    write_one(&b);
    write_one(&b);
    assert_int_equal(view(&b).steps_closed, 3);
    assert_int_equal(b.queue.n, 1); /* no second mix beside the first */
    write_one(&b);
    assert_int_equal(view(&b).mix_version, 2);
    assert_int_equal(b.queue.n, 1); /* but at once after it */
    assert_int_equal(b.queue.entries[0].kind, MX_ENTRY_MIX);
    assert_int_equal(b.queue.entries[0].cause_step, 11);
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 3);
    teardown(&b);
}

/* Two reports of one rank in flight at once, and one behind the timeout: each counts once. */
static void reports_in_flight_count_once(void **state)
{
    struct bench b, once;
    struct mx_event timer = {.kind = MX_EV_TIMER};

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 8);
    setup(&once, "odm");
    open_run(&once);
    serve_upto(&once, 8);
    post(&once, 5, 0, 1, 0, 4.0);
    write_all(&once);
    post(&b, 5, 0, 1, 0, 4.0);
    post(&b, 5, 0, 1, 0, 9.0);
    assert_int_equal(b.queue.n, 2);
    write_all(&b);
    assert_int_equal(view(&b).steps_closed, 1);
    assert_int_equal(view(&b).accepted, 1);
    assert_memory_equal(view(&b).weights, view(&once).weights, K * sizeof(double));
    post(&b, 6, 0, 2, 0, 1.0);
    write_all(&b);
    b.now_ms += 600;
    give(&b, &timer);
    post(&b, 6, 1, 2, 0, 2.0); /* behind the CLOSE */
    assert_int_equal(b.queue.n, 2);
    write_all(&b);
    assert_int_equal(view(&b).steps_closed, 2);
    assert_int_equal(view(&b).open_steps, 0);
    teardown(&b);
    teardown(&once);
}

static void ranks_may_report_in_any_order(void **state)
{
    static const uint32_t orders[3][4] = {{0, 1, 2, 3}, {3, 1, 0, 2}, {2, 3, 1, 0}};
    static const double means[4] = {0.1, 3.7, 1e-7, 12.345678901};
    uint64_t *words[3];
    size_t n[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct bench b;

        setup(&b, "odm");
        open_run(&b);
        serve_upto(&b, 8);
        for (int j = 0; j < 4; j++) {
            post(&b, 7, orders[i][j], 4, 1, means[orders[i][j]]);
            write_one(&b);
        }
        write_all(&b);
        words[i] = saved(b.run, &n[i]);
        teardown(&b);
    }
    for (int i = 1; i < 3; i++) {
        assert_int_equal(n[0], n[i]);
        assert_memory_equal(words[0], words[i], n[0] * sizeof **words);
    }
    for (int i = 0; i < 3; i++) {
        free(words[i]);
    }
}

static void missing_ranks_time_out(void **state)
{
    struct bench b;
    struct mx_event timer = {.kind = MX_EV_TIMER};

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 8);
    post(&b, 5, 0, 2, 0, 4.0);
    write_one(&b);
    assert_int_equal(must(&b, MX_FX_ARM)->at_ms, 1500);
    b.now_ms = 1200;
    post(&b, 6, 0, 2, 0, 4.0);
    write_one(&b);
    assert_null(effect(&b, MX_FX_ARM)); /* the first still comes first */
    b.now_ms = 1500;
    give(&b, &timer);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.kind, MX_ENTRY_CLOSE);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.step, 5);
    assert_int_equal(must(&b, MX_FX_ARM)->at_ms, 1700);
    give(&b, &timer); /* asked for once */
    assert_null(effect(&b, MX_FX_APPEND));
    write_all(&b);
    assert_int_equal(view(&b).timeouts, 1);
    assert_int_equal(view(&b).steps_closed, 1);
    assert_true(view(&b).loss[0] == 4.0);
    assert_int_equal(view(&b).loss_step[0], 5);
    post(&b, 5, 1, 2, 0, 4.0);
    assert_refused(&b, MX_LATE, 0);
    assert_int_equal(view(&b).late, 1);
    teardown(&b);
}

static void many_timeouts_come_in_portions(void **state)
{
    struct bench b;
    struct mx_event timer = {.kind = MX_EV_TIMER};
    uint64_t closed = 0;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 30);
    for (uint64_t step = 0; step < 30; step++) {
        post(&b, step, 0, 2, 0, 1.0);
        write_all(&b);
    }
    b.now_ms += 10000;
    for (int turns = 0; closed < 30; turns++) {
        assert_true(turns < 10);
        give(&b, &timer);
        closed += b.queue.n;
        assert_true(b.queue.n > 0);
        assert_true(closed == 30 || must(&b, MX_FX_ARM)->at_ms <= b.now_ms);
        write_all(&b);
    }
    assert_int_equal(view(&b).steps_closed, 30);
    teardown(&b);
}

static void steps_long_closed_stay_closed(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "static");
    b.c.reserve_steps = 2000;
    open_run(&b);
    serve_upto(&b, 6000);
    post(&b, 100, 0, 1, 0, 1.0);
    write_all(&b);
    post(&b, 5000, 0, 1, 0, 1.0);
    write_all(&b);
    post(&b, 100, 0, 1, 0, 1.0); /* out of the window: closed is all that is known */
    assert_refused(&b, MX_LATE, 0);
    post(&b, 905, 0, 1, 0, 1.0); /* the first within it, never reported */
    assert_non_null(effect(&b, MX_FX_APPEND));
    post(&b, 904, 0, 1, 0, 1.0);
    assert_refused(&b, MX_LATE, 0);
    write_all(&b);
    post(&b, 905, 0, 1, 0, 1.0);
    assert_refused(&b, MX_DUPLICATE, 0);
    post(&b, 5999, 0, 1, 0, 1.0);
    write_all(&b);
    post(&b, 5000, 0, 1, 0, 1.0);
    assert_refused(&b, MX_DUPLICATE, 0);
    post(&b, 5001, 0, 1, 0, 1.0); /* places in the window were cleared when it moved */
    assert_non_null(effect(&b, MX_FX_APPEND));
    assert_int_equal(view(&b).mix_version, 1); /* static: nothing comes of it but the charts */
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(feedback_that_makes_no_sense_is_refused),
        cmocka_unit_test(those_who_ask_now_replace_a_half_report),
        cmocka_unit_test(too_many_open_steps_are_refused),
        cmocka_unit_test(bad_losses_are_quarantined),
        cmocka_unit_test(feedback_moves_the_mix),
        cmocka_unit_test(feedback_during_an_append_is_in_the_next_mix),
        cmocka_unit_test(reports_in_flight_count_once),
        cmocka_unit_test(ranks_may_report_in_any_order),
        cmocka_unit_test(missing_ranks_time_out),
        cmocka_unit_test(many_timeouts_come_in_portions),
        cmocka_unit_test(steps_long_closed_stay_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
