/* test_run.c - a run's answers to requests, and entries that don't follow, one rule at a time. The
 * rest has files of its own; what must hold whatever happens is test_sim.c's. */
#include "tests/core/run_bench.h"

#include "proto/limits.h"

/* ---- requests ------------------------------------------------------------------------------- */

static void a_run_can_be_looked_at_before_it_is_created(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    assert_int_equal(view(&b).applied, 0);
    assert_int_equal(view(&b).mix_version, 0);
    request(&b, 0); /* behind the CREATE entry, which is under way */
    assert_non_null(effect(&b, MX_FX_HOLD));
    post(&b, 0, 0, 1, 0, 1.0);
    assert_refused(&b, MX_NOT_SERVED, 0);
    write_all(&b);
    assert_int_equal(view(&b).mix_version, 1);
    request(&b, 0);
    assert_non_null(effect(&b, MX_FX_SERVE));
    teardown(&b);
}

static void steps_are_reserved_before_they_are_served(void **state)
{
    struct bench b;
    struct mx_step first, again;

    (void)state;
    setup(&b, "static");
    b.c.end_step = 15;
    open_run(&b);
    write_one(&b); /* CREATE */
    assert_int_equal(view(&b).reserved, 0);
    request(&b, 0);
    assert_non_null(effect(&b, MX_FX_HOLD));
    assert_int_equal(mx_run_step(b.run, 0, 0, &first), MX_STEP_UNKNOWN);
    write_all(&b);
    assert_int_equal(view(&b).reserved, 9); /* the step asked for, and eight more */
    request(&b, 0);
    assert_non_null(effect(&b, MX_FX_SERVE));
    assert_int_equal(mx_run_step(b.run, 0, 0, &first), MX_STEP_HERE);
    assert_int_equal(first.mix_version, 1);
    assert_int_equal(first.prefix[K], BATCH);
    request(&b, 4);
    assert_null(effect(&b, MX_FX_APPEND));
    b.now_ms += 1000;
    request(&b, 5); /* less than half is left: the next block is asked for in time */
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.kind, MX_ENTRY_RESERVE);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.step, 14);
    assert_non_null(effect(&b, MX_FX_SERVE));
    write_all(&b);
    request(&b, 0);
    assert_non_null(effect(&b, MX_FX_SERVE));
    assert_int_equal(mx_run_step(b.run, 0, 0, &again), MX_STEP_HERE);
    assert_ptr_equal(first.cursors, again.cursors);
    serve_upto(&b, 15);
    assert_int_equal(view(&b).reserved, 15); /* not past the end */
    request(&b, 15);
    assert_refused(&b, MX_ENDED, 15);
    teardown(&b);
}

/* Between its first entry and its first request a run may have to learn what was withdrawn before
 * it began; a crash in between must not move the frontier. */
static void nothing_is_reserved_before_a_step_is_asked_for(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "static");
    b.c.lag = 2;
    open_run(&b);
    write_all(&b);
    assert_int_equal(b.disk.n, 1);
    crash(&b);
    write_all(&b);
    assert_int_equal(b.disk.n, 1);
    crash(&b);
    assert_int_equal(view(&b).frontier, 0);
    request(&b, 0);
    write_all(&b);
    crash(&b);
    assert_int_equal(view(&b).frontier, 2);
    teardown(&b);
}

static void requests_that_make_no_sense_are_refused(void **state)
{
    struct bench b;
    struct mx_event ev;

    (void)state;
    setup(&b, "static");
    open_run(&b);
    serve_upto(&b, 3);
    ev = ask(0);
    ev.world = 0;
    give(&b, &ev);
    assert_refused(&b, MX_BAD_RANK, 0);
    ev.world = MX_WORLD_MAX + 1;
    give(&b, &ev);
    assert_refused(&b, MX_BAD_RANK, MX_WORLD_MAX + 1);
    ev.world = ev.rank = 2;
    give(&b, &ev);
    assert_refused(&b, MX_BAD_RANK, 2);
    for (int i = 0; i < 3; i++) {
        static const uint32_t bad[3][2] = {{0, 0}, {BATCH, 1}, {1, BATCH}};

        ev = ask(0);
        ev.first = bad[i][0];
        ev.count = bad[i][1];
        give(&b, &ev);
        assert_refused(&b, MX_BAD_SLOTS, BATCH);
    }
    ev = ask(0);
    ev.first = UINT32_MAX;
    ev.count = UINT32_MAX;
    give(&b, &ev);
    assert_refused(&b, MX_BAD_SLOTS, BATCH);
    ev = ask(MX_STEP_MAX + 1);
    give(&b, &ev);
    assert_refused(&b, MX_BAD_STEP, MX_STEP_MAX);
    ev = ask(1);
    ev.oldest = 2;
    give(&b, &ev);
    assert_refused(&b, MX_BAD_STEP, MX_STEP_MAX);
    request(&b, 14); /* frontier 3, max_ahead 10 */
    assert_refused(&b, MX_LEAP, 3);
    request(&b, 13);
    assert_non_null(effect(&b, MX_FX_HOLD));
    write_all(&b);
    request(&b, 13);
    assert_non_null(effect(&b, MX_FX_SERVE));
    assert_int_equal(view(&b).frontier, 14);
    teardown(&b);
}

static void the_fastest_waits_for_the_slowest(void **state)
{
    struct bench b;
    struct mx_event slow = ask(0), fast;

    (void)state;
    setup(&b, "static");
    b.c.reserve_steps = 100;
    open_run(&b);
    write_all(&b);
    slow.world = 2;
    give(&b, &slow); /* held or not, it is using step 0 */
    write_all(&b);
    for (uint64_t step = 0; step <= 10; step++) {
        fast = ask(step);
        fast.rank = 1;
        fast.world = 2;
        give(&b, &fast);
        assert_non_null(effect(&b, MX_FX_SERVE));
    }
    fast.step = fast.oldest = 11;
    give(&b, &fast);
    assert_refused(&b, MX_WAIT_AHEAD, 0);
    slow = ask(5); /* it catches up */
    slow.world = 2;
    give(&b, &slow);
    give(&b, &fast);
    assert_non_null(effect(&b, MX_FX_SERVE));
    fast.step = fast.oldest = 16;
    give(&b, &fast);
    assert_refused(&b, MX_WAIT_AHEAD, 5);
    b.now_ms += 59999;
    give(&b, &fast);
    assert_refused(&b, MX_WAIT_AHEAD, 5);
    b.now_ms += 1; /* a minute without a word: it doesn't count any more */
    give(&b, &fast);
    assert_non_null(effect(&b, MX_FX_SERVE));
    slow = ask(0); /* somebody looks at an old batch: that holds nobody back */
    slow.world = 2;
    give(&b, &slow);
    fast.step = fast.oldest = 20;
    give(&b, &fast);
    assert_non_null(effect(&b, MX_FX_SERVE));
    fast = ask(25); /* another world takes over: the old one's trainers are forgotten */
    fast.world = 3;
    give(&b, &fast);
    assert_non_null(effect(&b, MX_FX_SERVE));
    teardown(&b);
}

static void a_stopped_run_serves_what_it_planned(void **state)
{
    struct bench b;
    struct mx_entry e = {.author = "op", .author_len = 2};
    struct mx_event stop = {.kind = MX_EV_STOP, .handle = 3, .entry = &e};

    (void)state;
    setup(&b, "static");
    open_run(&b);
    serve_upto(&b, 4);
    give(&b, &stop);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.step, 4);
    assert_int_equal(must(&b, MX_FX_APPEND)->handle, 3);
    request(&b, 4); /* not until it is known to be durable or not */
    assert_non_null(effect(&b, MX_FX_HOLD));
    write_all(&b);
    request(&b, 4);
    assert_refused(&b, MX_STOPPED, 4);
    request(&b, 3);
    assert_non_null(effect(&b, MX_FX_SERVE));
    give(&b, &stop);
    assert_refused(&b, MX_STOPPED, 4);
    assert_int_equal(view(&b).stopped, 1);
    teardown(&b);
}

static void an_exhausted_domain_ends_the_run(void **state)
{
    struct bench b;
    struct mx_effect f;
    uint64_t step = 0;

    (void)state;
    setup(&b, "static");
    b.domains[2].budget = 50;
    b.domains[2].on_exhausted = MX_EXHAUSTED_STOP;
    open_run(&b);
    write_all(&b);
    for (;; step++) { /* about 6 of 12 a step */
        request(&b, step);
        if (effect(&b, MX_FX_HOLD) != NULL) {
            int exhausted = 0;

            for (size_t i = 0; i < b.queue.n; i++) {
                exhausted |= b.queue.entries[i].kind == MX_ENTRY_EXHAUSTED;
            }
            request(&b, step);
            for (uint32_t i = 0; i < b.fx.n; i++) { /* asked for once */
                assert_true(b.fx.fx[i].kind != MX_FX_APPEND);
            }
            write_all(&b);
            request(&b, step);
            if (exhausted) {
                break;
            }
        }
        assert_non_null(effect(&b, MX_FX_SERVE));
    }
    f = refusal(&b);
    assert_int_equal(f.verdict, MX_OUT_OF_SAMPLES);
    assert_int_equal(f.u[0], 2);
    assert_int_equal(f.u[1], step);
    assert_true(step == 8 || step == 7);
    assert_int_equal(view(&b).exhausted, 3);
    assert_int_equal(view(&b).exhausted_step, step);
    request(&b, step - 1);
    assert_non_null(effect(&b, MX_FX_SERVE));
    teardown(&b);
}

/* ---- what is stored ------------------------------------------------------------------------- */

/* An entry that can follow in place and frontier, and says nothing else. */
static struct mx_entry next_entry(const struct bench *b, enum mx_entry_kind kind)
{
    return (struct mx_entry){.kind = kind, .index = view(b).applied + 1,
                             .frontier = view(b).frontier};
}

static void assert_not_applied(struct bench *b, const struct mx_entry *e)
{
    struct mx_effects fx;

    assert_int_equal(mx_run_apply(b->run, e, 0, &fx), MX_APPLY_ORDER);
    assert_int_equal(fx.n, 0);
}

static void entries_that_do_not_follow_are_refused(void **state)
{
    struct bench b;
    struct mx_entry e;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    e = (struct mx_entry){.kind = MX_ENTRY_RESERVE, .index = 1, .step = 8};
    assert_not_applied(&b, &e); /* before there is a run */
    serve_upto(&b, 3);
    e = next_entry(&b, MX_ENTRY_RESERVE);
    e.step = 12;
    e.index++;
    assert_not_applied(&b, &e); /* a gap */
    e.index -= 2;
    assert_not_applied(&b, &e); /* again */
    e = next_entry(&b, MX_ENTRY_RESERVE);
    e.step = 1;
    assert_not_applied(&b, &e); /* backwards */
    e.step = (uint64_t)1 << 30;
    assert_not_applied(&b, &e); /* more than any run reserves */
    e.step = 12;
    e.frontier = view(&b).reserved + 1;
    assert_not_applied(&b, &e); /* planned what was never reserved */
    e = next_entry(&b, MX_ENTRY_STOP);
    e.step = 4;
    assert_not_applied(&b, &e); /* not at the frontier */
    e = next_entry(&b, MX_ENTRY_EXHAUSTED);
    e.domain = K;
    assert_not_applied(&b, &e);
    e.domain = 0;
    e.flag = 1;
    e.step = 4;
    assert_not_applied(&b, &e);
    e = next_entry(&b, (enum mx_entry_kind)99);
    assert_not_applied(&b, &e);
    assert_int_equal(view(&b).applied, b.disk.n);
    teardown(&b);
}

static void mixes_and_reports_that_do_not_follow_are_refused(void **state)
{
    struct bench b;
    uint64_t shares[K] = {MX_SHARE_ONE, 0, 0};
    double weights[K] = {NAN, 1, 1};
    struct mx_loss bad = {0, 1, 10, NAN};
    struct mx_entry e;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 3);
    e = next_entry(&b, MX_ENTRY_MIX);
    e.step = 5;
    e.shares = shares;
    e.n_shares = K;
    e.mix_version = 1;
    assert_not_applied(&b, &e); /* a version that exists */
    e.mix_version = 2;
    shares[1] = 1;
    assert_not_applied(&b, &e); /* not the right sum */
    shares[1] = 0;
    e.step = 2;
    assert_not_applied(&b, &e); /* below the frontier */
    e = next_entry(&b, MX_ENTRY_SET);
    e.step = 5;
    e.shares = shares;
    e.n_shares = K;
    e.mix_version = 2;
    e.weights = weights;
    assert_not_applied(&b, &e);
    e = next_entry(&b, MX_ENTRY_FEEDBACK);
    e.world = 1;
    e.losses = &bad;
    e.n = 1;
    assert_not_applied(&b, &e); /* a sum that is none */
    bad.loss_sum = 1.0;
    bad.domain = K;
    assert_not_applied(&b, &e);
    bad.domain = 0;
    e.rank = 1;
    assert_not_applied(&b, &e);
    e.rank = 0;
    e.step = 3;
    assert_not_applied(&b, &e); /* of a step not planned */
    e = next_entry(&b, MX_ENTRY_CREATE);
    e.shares = shares;
    e.n_shares = K;
    e.mix_version = 1;
    assert_not_applied(&b, &e); /* twice */
    assert_int_equal(view(&b).applied, b.disk.n);
    teardown(&b);
}

static void snapshots_are_asked_for(void **state)
{
    struct bench b;
    int seen = 0;

    (void)state;
    setup(&b, "static");
    b.c.snapshot_steps = 5;
    open_run(&b);
    write_all(&b);
    for (uint64_t step = 0; step < 22; step++) {
        request(&b, step);
        if (effect(&b, MX_FX_HOLD) != NULL) {
            write_all(&b);
            request(&b, step);
        }
        seen += effect(&b, MX_FX_SNAPSHOT) != NULL;
    }
    assert_int_equal(seen, 4);
    teardown(&b);
}

/* ---- steps in memory -------------------------------------------------------------------------*/

enum { MANY = 3000 }; /* domains: so many that few steps fit into the ring */

static void old_steps_leave_memory(void **state)
{
    struct bench b;
    struct mx_plan_domain *domains = test_get(MANY, sizeof *domains);
    struct mx_limit *limits = test_get(MANY, sizeof *limits);
    double *prior = test_get(MANY, sizeof *prior);
    uint64_t *cursors = test_get(MANY, sizeof *cursors), *shares, kept = 0;
    uint32_t *counts = test_get(MANY, sizeof *counts);
    struct mx_plan_mix mix;
    struct mx_step at;

    (void)state;
    setup(&b, "static");
    for (int i = 0; i < MANY; i++) {
        domains[i] = b.domains[0];
        limits[i] = b.limits[0];
        prior[i] = 1.0 + i;
    }
    b.c.plan.k = MANY;
    b.c.plan.batch = 1000;
    b.c.plan.domains = domains;
    b.c.limits = limits;
    b.c.prior = prior;
    open_run(&b);
    assert_true(mx_run_size(&b.c) < (size_t)16 << 20);
    write_all(&b);
    shares = test_get(MANY, sizeof *shares);
    memcpy(shares, view(&b).shares, MANY * sizeof *shares);
    mix = (struct mx_plan_mix){0, 1, shares};
    for (uint64_t step = 0; step < 400; step++) {
        struct mx_event ev = ask(step);

        ev.count = 10;
        give(&b, &ev);
        write_all(&b);
        give(&b, &ev);
        assert_non_null(effect(&b, MX_FX_SERVE));
        assert_int_equal(mx_run_step(b.run, step + 20, 1, &at), MX_STEP_HERE);
        assert_int_equal(mx_run_step(b.run, step + 2000, 1, &at), MX_STEP_UNKNOWN);
        assert_int_equal(mx_run_step(b.run, step, 0, &at), MX_STEP_HERE);
        assert_memory_equal(at.cursors, cursors, MANY * sizeof *cursors);
        assert_int_equal(mx_plan_advance(&b.c.plan, &mix, 1, step, step + 1, cursors, counts), -1);
        for (uint32_t i = 0; i < MANY; i++) {
            assert_int_equal(at.prefix[i + 1] - at.prefix[i], counts[i]);
        }
    }
    for (uint64_t step = 0; step < 400; step++) {
        kept += mx_run_step(b.run, step, 0, &at) == MX_STEP_HERE;
        assert_true(kept == 0 || at.step == step); /* the last ones, without a gap */
    }
    assert_true(kept >= 16 && kept < 200);
    assert_int_equal(mx_run_step(b.run, 0, 0, &at), MX_STEP_OLD);
    teardown(&b);
    free(domains);
    free(limits);
    free(prior);
    free(cursors);
    free(counts);
    free(shares);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_can_be_looked_at_before_it_is_created),
        cmocka_unit_test(steps_are_reserved_before_they_are_served),
        cmocka_unit_test(nothing_is_reserved_before_a_step_is_asked_for),
        cmocka_unit_test(requests_that_make_no_sense_are_refused),
        cmocka_unit_test(the_fastest_waits_for_the_slowest),
        cmocka_unit_test(a_stopped_run_serves_what_it_planned),
        cmocka_unit_test(an_exhausted_domain_ends_the_run),
        cmocka_unit_test(entries_that_do_not_follow_are_refused),
        cmocka_unit_test(mixes_and_reports_that_do_not_follow_are_refused),
        cmocka_unit_test(snapshots_are_asked_for),
        cmocka_unit_test(old_steps_leave_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
