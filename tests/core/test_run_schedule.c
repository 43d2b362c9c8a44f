/* test_run_schedule.c - a run with phases: which mix each step is planned under, one rule at a time.
 * See test_run.c; test_run_phases.c has history, and all at once. */
#include "tests/core/phases_bench.h"

static void each_phase_holds_from_its_step(void **state)
{
    struct mx_limit limits[K] = {{0, 1, 0.5, 1}, {0, 1, NAN, 1}, {0, 1, NAN, 1}};
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_WARMUP},
        {.from = 20, .kind = MX_PHASE_MIX, .mix = target},
        {.from = 21, .kind = MX_PHASE_MIX, .mix = other},
        {.from = 60, .kind = MX_PHASE_WARMUP, .limits = limits},
    };
    struct bench b;

    (void)state;
    setup_phases(&b, "static", phases, 4);
    open_run(&b);
    serve_upto(&b, 80);
    assert_mix(&b, 0, prior);
    assert_mix(&b, 19, prior);
    assert_mix(&b, 20, target);
    assert_mix(&b, 21, other);
    assert_mix(&b, 59, other);
    assert_mix(&b, 60, (const double[]){0.5, 0.2, 0.3});
    assert_mix(&b, 79, (const double[]){0.5, 0.2, 0.3});
    assert_int_equal(view(&b).versions, 4);
    assert_int_equal(mix_of(&b, 0)->phase, 0);
    assert_int_equal(mix_of(&b, 21)->phase, 2);
    assert_int_equal(mix_of(&b, 60)->phase, 3);
    assert_int_equal(mix_of(&b, 60)->bound[0], MX_BOUND_PIN);
    assert_int_equal(view(&b).phase, 3);
    assert_true(view(&b).next_point == UINT64_MAX);
    teardown(&b);
}

/* The mix is asked for before anybody needs it, and nobody gets past its step without it. */
static void steps_wait_for_the_mix_of_a_point(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 40, .kind = MX_PHASE_MIX, .mix = target},
    };
    struct bench b;
    struct mx_step at;
    uint64_t step = 0;

    (void)state;
    setup_phases(&b, "static", phases, 2);
    open_run(&b);
    while (b.queue.n == 0 || b.queue.entries[0].kind != MX_ENTRY_MIX) {
        request(&b, step);
        step += effect(&b, MX_FX_SERVE) != NULL;
        while (b.queue.n > 0 && b.queue.entries[0].kind != MX_ENTRY_MIX) {
            write_one(&b);
        }
    }
    assert_true(step <= 30);
    assert_int_equal(b.queue.entries[0].step, 40);
    assert_int_equal(b.queue.entries[0].cause, MX_CAUSE_PHASE);
    for (; step < 40; step++) { /* what is reserved is behind it in the queue */
        request(&b, step);
        if (effect(&b, MX_FX_SERVE) == NULL) {
            break;
        }
    }
    journal_cut(&b.queue, 0); /* the power goes */
    crash(&b);
    assert_true(view(&b).frontier <= 40);
    while (b.queue.n > 0 && b.queue.entries[0].kind != MX_ENTRY_MIX) {
        write_one(&b);
    }
    request(&b, 40);
    assert_non_null(effect(&b, MX_FX_HOLD));
    assert_int_equal(mx_run_step(b.run, 40, 1, &at), MX_STEP_UNKNOWN);
    serve(&b, 40);
    assert_mix(&b, 39, prior);
    assert_mix(&b, 40, target);
    assert_int_equal(mixes_by(&b, MX_CAUSE_PHASE, 0, UINT64_MAX), 1);
    teardown(&b);
}

/* After a crash the run goes on at the end of what it had reserved: that is no way past a point. */
static void a_reservation_is_no_way_past_a_point(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 90, .kind = MX_PHASE_MIX, .mix = target},
    };
    struct bench b;

    (void)state;
    setup_phases(&b, "static", phases, 2);
    b.c.reserve_steps = 100;
    b.c.max_ahead = 1000;
    open_run(&b);
    write_one(&b);
    request(&b, 0);
    while (b.queue.n > 0 && b.queue.entries[0].kind == MX_ENTRY_RESERVE) {
        write_one(&b);
    }
    assert_true(view(&b).reserved > 90);
    crash(&b);
    assert_int_equal(view(&b).frontier, 90);
    serve(&b, 90);
    assert_mix(&b, 89, prior);
    assert_mix(&b, 90, target);
    teardown(&b);
}

static void in_warmup_the_policy_learns_and_moves_nothing(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_WARMUP},
        {.from = 30, .kind = MX_PHASE_ADAPT},
        {.from = 60, .kind = MX_PHASE_MIX, .mix = target},
    };
    struct bench b;
    uint32_t after;

    (void)state;
    setup_phases(&b, "ema", phases, 3);
    open_run(&b);
    train(&b, 0, 90);
    assert_int_equal(mixes_by(&b, MX_CAUSE_FEEDBACK, 0, 30), 0);
    assert_int_equal(mixes_by(&b, MX_CAUSE_PHASE, 0, 90), 2);
    for (uint64_t step = 0; step < 30; step++) {
        assert_int_equal(version_of(&b, step), 1);
    }
    assert_true(mix_of(&b, 30)->shares[0] != mix_of(&b, 0)->shares[0]); /* it has learned */
    after = mixes_by(&b, MX_CAUSE_FEEDBACK, 30, 60);
    assert_true(after > 20);
    assert_int_equal(mixes_by(&b, MX_CAUSE_FEEDBACK, 60, 90), 0);
    assert_mix(&b, 60, target);
    assert_mix(&b, 89, target);
    assert_true(view(&b).weights[0] != mix_of(&b, 30)->weights[0]); /* and goes on */
    teardown(&b);
}

/* A phase that changes batches alone is none that the policy or an operator has to know of. */
static void a_phase_that_goes_on_makes_no_mix(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 20, .kind = MX_PHASE_ADAPT},
        {.from = 40, .kind = MX_PHASE_ADAPT},
    };
    struct bench b;

    (void)state;
    setup_phases(&b, "static", phases, 3);
    open_run(&b);
    serve_upto(&b, 10);
    set_weights(&b, 1, 0, 0);
    write_all(&b);
    serve_upto(&b, 60);
    assert_mix(&b, 59, (const double[]){1, 0, 0});
    assert_int_equal(view(&b).versions, 2);
    assert_int_equal(view(&b).phase, 2);
    teardown(&b);
}

/* What the policy learns after a point's mix was asked for counts before the point and behind. */
static void a_points_mix_made_ahead_does_not_turn_the_policy_back(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 40, .kind = MX_PHASE_ADAPT, .limits = loose},
    };
    struct bench b;
    const struct mx_entry *before, *after;

    (void)state;
    setup_phases(&b, "ema", phases, 2);
    open_run(&b);
    train(&b, 0, 80);
    assert_true(mixes_by(&b, MX_CAUSE_FEEDBACK, 25, 40) >= 14);
    before = mix_of(&b, 39);
    after = mix_of(&b, 41);
    assert_int_equal(before->cause, MX_CAUSE_FEEDBACK);
    assert_int_equal(before->cause_step, 38);
    assert_int_equal(after->cause, MX_CAUSE_FEEDBACK);
    assert_int_equal(after->cause_step, 40);
    after = mix_of(&b, 40); /* under what 39 taught, though the phase's mix was made long before */
    assert_int_equal(after->cause, MX_CAUSE_FEEDBACK);
    assert_int_equal(after->cause_step, 39);
    teardown(&b);
}

/* Also if no report comes between the one and the other. */
static void what_was_learned_last_counts_from_the_point_on(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 40, .kind = MX_PHASE_ADAPT, .limits = loose},
        {.from = 60, .kind = MX_PHASE_WARMUP},
        {.from = 80, .kind = MX_PHASE_ADAPT},
    };
    uint64_t last[] = {35, 75};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct bench b;
        uint64_t point = i == 0 ? 40 : 80;
        const struct mx_entry *e;

        setup_phases(&b, "ema", phases, 4);
        b.c.reserve_steps = 64;
        open_run(&b);
        train(&b, 0, last[i]);
        for (uint64_t step = last[i]; step <= point; step++) {
            serve(&b, step);
        }
        assert_int_equal(mixes_by(&b, MX_CAUSE_PHASE, point, point + 1), 1);
        e = mix_of(&b, point);
        assert_int_equal(e->cause, MX_CAUSE_FEEDBACK);
        assert_int_equal(e->cause_step, last[i] - 1);
        teardown(&b);
    }
}

static void check_anneal(enum mx_anneal_shape shape, int blend)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 40, .kind = MX_PHASE_ANNEAL, .shape = shape, .blend = blend, .mix = target},
        {.from = 80, .kind = MX_PHASE_WARMUP},
    };
    struct bench b;
    double from[K], w[K];
    struct mx_schedule s;

    setup_phases(&b, "ema", phases, 3);
    open_run(&b);
    train(&b, 0, 100);
    s = (struct mx_schedule){phases, 3, K, UINT64_MAX, prior, b.limits};
    assert_int_equal(mixes_by(&b, MX_CAUSE_PHASE, 40, 80), 40);
    assert_int_equal(mixes_by(&b, MX_CAUSE_FEEDBACK, 40, 80) > 0, blend);
    for (int i = 0; i < K; i++) {
        from[i] = (double)mix_of(&b, 39)->shares[i] / (double)MX_SHARE_ONE;
    }
    for (uint64_t step = 40; step < 80; step++) {
        mx_schedule_weights(&s, step, mix_of(&b, step)->weights, from, w);
        if (blend) {
            assert_mix(&b, step, w);
        } else { /* it may have been made while the last mixes before it were under way */
            for (int i = 0; i < K; i++) {
                double share = (double)mix_of(&b, step)->shares[i] / (double)MX_SHARE_ONE;

                assert_true(fabs(share - w[i]) < 0.05);
            }
        }
    }
    assert_mix(&b, 79, target);
    assert_mix(&b, 80, prior);
    teardown(&b);
}

static void an_anneal_gets_to_its_mix(void **state)
{
    (void)state;
    check_anneal(MX_ANNEAL_LINEAR, 0);
    check_anneal(MX_ANNEAL_COSINE, 0);
    check_anneal(MX_ANNEAL_LINEAR, 1);
    check_anneal(MX_ANNEAL_COSINE, 1);
}

static void an_operators_mix_lasts_until_the_schedule_goes_on(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_MIX, .mix = other},
        {.from = 60, .kind = MX_PHASE_ANNEAL, .mix = target},
        {.from = 64, .kind = MX_PHASE_MIX, .mix = target},
    };
    struct bench b;

    (void)state;
    setup_phases(&b, "static", phases, 3);
    open_run(&b);
    serve_upto(&b, 10);
    set_weights_at(&b, 20, 1, 0, 0);
    write_all(&b);
    serve_upto(&b, 70);
    assert_mix(&b, 19, other);
    assert_mix(&b, 20, (const double[]){1, 0, 0});
    assert_mix(&b, 59, (const double[]){1, 0, 0});
    assert_mix(&b, 61, (const double[]){0.625, 0.375, 0}); /* it goes out from there */
    assert_mix(&b, 63, target);
    assert_mix(&b, 64, target);
    teardown(&b);
}

/* Where the policy weighs the loss, phases say what is sampled and the policy the rest. */
static void phases_say_what_is_sampled_where_the_policy_weighs_the_loss(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 40, .kind = MX_PHASE_MIX, .mix = target},
        {.from = 60, .kind = MX_PHASE_ADAPT},
    };
    struct bench b;
    const struct mx_entry *e;

    (void)state;
    setup_phases(&b, "ema", phases, 3);
    b.mixer.guards.apply = MX_APPLY_LOSS;
    open_run(&b);
    train(&b, 0, 80);
    assert_mix(&b, 39, prior);
    assert_mix(&b, 40, target);
    assert_mix(&b, 59, target);
    assert_mix(&b, 60, prior);
    assert_mix(&b, 79, prior);
    e = mix_of(&b, 79);
    assert_int_equal(e->n_shares, 2 * K);
    assert_int_equal(e->cause, MX_CAUSE_FEEDBACK);
    for (int i = 0; i < K; i++) {
        assert_true(fabs((double)e->shares[K + i] / (double)MX_SHARE_ONE - e->weights[i]) < 1e-9);
    }
    assert_int_equal(mixes_by(&b, MX_CAUSE_FEEDBACK, 40, 60), 0);
    teardown(&b);
}

/* ---- lockstep ------------------------------------------------------------------------------- */

/* Steps 0 .. n - 1 with reports as late as can be or early, with crashes or without. */
static uint64_t lockstep_digest(const struct mx_phase *phases, uint32_t n_phases, uint32_t lag,
                                uint64_t n, int late, int crashes)
{
    struct bench b;
    uint64_t digest;

    setup_phases(&b, "ema", phases, n_phases);
    b.c.lag = lag;
    b.c.end_step = 2 * n;
    open_run(&b);
    write_all(&b);
    for (uint64_t step = 0; step < n; step++) {
        if (late && step >= lag) {
            request(&b, step);
            assert_non_null(effect(&b, MX_FX_HOLD));
            post(&b, step - lag, 0, 1, (uint32_t)step % K, 1.0 + (double)((step - lag) % 5));
            write_all(&b);
        }
        if (crashes && step % 5 == 3) {
            crash(&b);
            if (step % 2 == 0) {
                write_all(&b);
            }
        }
        serve(&b, step);
        if (!late) {
            post(&b, step, 0, 1, (uint32_t)(step + lag) % K, 1.0 + (double)(step % 5));
            write_all(&b);
        }
    }
    crash(&b);
    write_all(&b);
    digest = 0;
    for (uint64_t step = 0; step < n; step++) {
        struct mx_step at;

        assert_int_equal(mx_run_step(b.run, step, 0, &at), MX_STEP_HERE);
        digest = digest * 31 + at.mix_version;
        for (int i = 0; i < K; i++) {
            digest = digest * 31 + at.cursors[i];
        }
    }
    for (uint32_t i = 1; i < n_phases && phases[i].from < n; i++) {
        assert_int_equal(mixes_by(&b, MX_CAUSE_PHASE, phases[i].from, phases[i].from + 1), 1);
        assert_int_equal(mixes_by(&b, MX_CAUSE_FEEDBACK, phases[i].from, phases[i].from + 1), 0);
        assert_int_equal(mix_of(&b, phases[i].from)->cause, MX_CAUSE_PHASE);
    }
    teardown(&b);
    return digest;
}

static void in_lockstep_timing_and_crashes_change_nothing(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_WARMUP},
        {.from = 1, .kind = MX_PHASE_ADAPT}, /* before the first report counts */
        {.from = 10, .kind = MX_PHASE_WARMUP},
        {.from = 15, .kind = MX_PHASE_ADAPT},
        {.from = 22, .kind = MX_PHASE_ANNEAL, .mix = target, .blend = 1},
        {.from = 28, .kind = MX_PHASE_ADAPT},
        {.from = 29, .kind = MX_PHASE_ANNEAL, .mix = other},
        {.from = 36, .kind = MX_PHASE_ADAPT},
    };

    (void)state;
    for (uint32_t lag = 1; lag <= 4; lag += 3) {
        uint64_t digest = lockstep_digest(phases, 8, lag, 45, 0, 0);

        assert_true(digest == lockstep_digest(phases, 8, lag, 45, 1, 0));
        assert_true(digest == lockstep_digest(phases, 8, lag, 45, 0, 1));
        assert_true(digest == lockstep_digest(phases, 8, lag, 45, 1, 1));
    }
}

static void in_lockstep_a_points_mix_is_of_the_step_before(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_WARMUP},
        {.from = 6, .kind = MX_PHASE_ADAPT},
    };
    struct bench b;
    double weights[8];

    (void)state;
    setup_phases(&b, "ema", phases, 2);
    b.c.lag = 2;
    open_run(&b);
    for (uint64_t step = 0; step < 8; step++) {
        serve(&b, step);
        if (step == 6) { /* the reports up to 4 are in */
            assert_int_equal(view(&b).consumed, 6);
        }
        post(&b, step, 0, 1, (uint32_t)step % K, 1.0 + (double)step);
        write_all(&b);
        weights[step] = view(&b).weights[0];
    }
    assert_int_equal(mixes_by(&b, MX_CAUSE_FEEDBACK, 0, 6), 0);
    assert_true(fabs((double)mix_of(&b, 6)->shares[0] / (double)MX_SHARE_ONE - weights[4]) < 1e-9);
    assert_true(fabs((double)mix_of(&b, 7)->shares[0] / (double)MX_SHARE_ONE - weights[5]) < 1e-9);
    teardown(&b);
}

/* Reports that come late and all at once are taken as if they had come in their order, also where
 * the last one that counts for a point says nothing. */
static void in_lockstep_a_points_mix_waits_for_no_later_step(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_WARMUP},
        {.from = 6, .kind = MX_PHASE_ADAPT},
    };
    uint64_t shares[2][K];

    (void)state;
    for (int late = 0; late < 2; late++) {
        struct bench b;

        setup_phases(&b, "ema", phases, 2);
        b.c.lag = 4;
        open_run(&b);
        serve_upto(&b, 4);
        for (uint64_t i = 0; i < 4; i++) {
            uint64_t step = late ? 3 - i : i;

            post(&b, step, 0, 1, (uint32_t)step % K, step == 2 ? NAN : 1.0 + (double)step);
            write_all(&b);
        }
        serve_upto(&b, 7);
        memcpy(shares[late], mix_of(&b, 6)->shares, sizeof shares[late]);
        teardown(&b);
    }
    assert_memory_equal(shares[0], shares[1], sizeof shares[0]);
}

/* Steps that are passed over give no report; the points among them are met all the same. */
static void in_lockstep_points_among_skipped_steps_are_met(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 6, .kind = MX_PHASE_MIX, .mix = target},
        {.from = 8, .kind = MX_PHASE_MIX, .mix = other},
        {.from = 20, .kind = MX_PHASE_ADAPT},
    };
    struct bench b;

    (void)state;
    setup_phases(&b, "ema", phases, 4);
    b.c.lag = 1;
    open_run(&b);
    train(&b, 0, 4);
    pass_over(&b, 5, 12);
    write_all(&b);
    train(&b, 4, 5);
    train(&b, 12, 30);
    assert_mix(&b, 6, target);
    assert_mix(&b, 12, other);
    assert_mix(&b, 19, other);
    assert_int_equal(mixes_by(&b, MX_CAUSE_PHASE, 0, 30), 3);
    assert_true(mixes_by(&b, MX_CAUSE_FEEDBACK, 21, 30) > 5);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_phase_holds_from_its_step),
        cmocka_unit_test(steps_wait_for_the_mix_of_a_point),
        cmocka_unit_test(a_reservation_is_no_way_past_a_point),
        cmocka_unit_test(in_warmup_the_policy_learns_and_moves_nothing),
        cmocka_unit_test(a_phase_that_goes_on_makes_no_mix),
        cmocka_unit_test(a_points_mix_made_ahead_does_not_turn_the_policy_back),
        cmocka_unit_test(what_was_learned_last_counts_from_the_point_on),
        cmocka_unit_test(an_anneal_gets_to_its_mix),
        cmocka_unit_test(an_operators_mix_lasts_until_the_schedule_goes_on),
        cmocka_unit_test(phases_say_what_is_sampled_where_the_policy_weighs_the_loss),
        cmocka_unit_test(in_lockstep_timing_and_crashes_change_nothing),
        cmocka_unit_test(in_lockstep_a_points_mix_is_of_the_step_before),
        cmocka_unit_test(in_lockstep_a_points_mix_waits_for_no_later_step),
        cmocka_unit_test(in_lockstep_points_among_skipped_steps_are_met),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
