/* test_run.c - a run's answers to requests, and its state in words, one rule at a time. Feedback
 * and mixes have files of their own; what must hold whatever happens is test_sim.c's. */
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

static void entries_that_do_not_follow_are_refused(void **state)
{
    struct bench b;
    uint64_t shares[K] = {MX_SHARE_ONE, 0, 0};
    double weights[K] = {1, 1, 1};
    struct mx_loss bad = {0, 1, 10, NAN};
    struct mx_entry e;
    struct mx_effects fx;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 3);
    e = (struct mx_entry){.kind = MX_ENTRY_RESERVE, .index = b.disk.n + 2, .step = 100};
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1); /* a gap */
    e.index = b.disk.n;
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1); /* again */
    e.index = b.disk.n + 1;
    e.step = 1;
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1); /* backwards */
    e = (struct mx_entry){.kind = MX_ENTRY_MIX, .index = b.disk.n + 1, .step = 5, .n = K,
                          .shares = shares, .mix_version = 3};
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1); /* a version left out */
    e.mix_version = 2;
    e.n = K - 1;
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1);
    e.n = K;
    shares[1] = 1;
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1); /* not the right sum */
    shares[1] = 0;
    e.step = 2;
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1); /* below the frontier */
    e = (struct mx_entry){.kind = MX_ENTRY_FEEDBACK, .index = b.disk.n + 1, .world = 1, .n = 1,
                          .losses = &bad};
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1); /* a sum that is none */
    bad.loss_sum = 1.0;
    bad.domain = K;
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1);
    bad.domain = 0;
    e.rank = 1;
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1);
    e = (struct mx_entry){.kind = MX_ENTRY_SET, .index = b.disk.n + 1, .n = K,
                          .weights = weights};
    weights[0] = NAN;
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1);
    e = (struct mx_entry){.kind = MX_ENTRY_EXHAUSTED, .index = b.disk.n + 1, .domain = K};
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1);
    e = (struct mx_entry){.kind = MX_ENTRY_CREATE, .index = b.disk.n + 1, .n = K,
                          .shares = shares, .mix_version = 1};
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1); /* twice */
    e = (struct mx_entry){.kind = (enum mx_entry_kind)99, .index = b.disk.n + 1};
    assert_int_equal(mx_run_apply(b.run, &e, 0, &fx), -1);
    assert_int_equal(view(&b).applied, b.disk.n);
    teardown(&b);
}

static void saved_words_give_the_cursors(void **state)
{
    struct bench b;
    uint64_t *words, step, cursors[K];
    size_t n;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 7);
    words = saved(b.run, &n);
    assert_int_equal(mx_run_saved_cursors(words, n, K, &step, cursors), 0);
    assert_int_equal(step, 7);
    assert_memory_equal(cursors, view(&b).cursors, sizeof cursors);
    assert_int_equal(cursors[0] + cursors[1] + cursors[2], 7 * BATCH);
    assert_int_equal(mx_run_saved_cursors(words, 7, K, &step, cursors), -1);
    assert_int_equal(mx_run_saved_cursors(words, n, K + 1, &step, cursors), -1);
    free(words);
    teardown(&b);
}

/* Whatever the words are, loading says yes or no; if yes, the run can be looked at and saved. */
static void damaged_words_are_harmless(void **state)
{
    struct dice d = {test_seed("damaged_words_are_harmless", 61)};
    struct bench b;
    uint64_t *words, *damaged;
    size_t n, m;
    void *memory;
    int refused = 0;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 20);
    post(&b, 3, 0, 1, 1, 2.0);
    post(&b, 4, 0, 70, 0, 2.0);
    post(&b, 5, 3, 4, 2, 2.0);
    write_all(&b);
    words = saved(b.run, &n);
    damaged = test_get(n + 8, sizeof *damaged);
    memory = test_get(1, mx_run_size(&b.c));
    for (size_t cut = 0; cut < n; cut++) {
        assert_int_equal(mx_run_load(mx_run_init(memory, &b.c), words, cut), -1);
    }
    for (int round = 0; round < 20000; round++) {
        struct mx_run *r = mx_run_init(memory, &b.c);
        struct mx_run_view v;
        uint64_t step;

        m = n + (below(&d, 20) == 0);
        memcpy(damaged, words, n * sizeof *words);
        for (uint64_t flips = 1 + below(&d, 3); flips > 0; flips--) {
            size_t at = below(&d, 2) ? below(&d, n) : below(&d, n < 120 ? n : 120);

            damaged[at] = below(&d, 3) == 0 ? roll(&d) >> below(&d, 64)
                                            : damaged[at] ^ (uint64_t)1 << below(&d, 64);
        }
        if (mx_run_load(r, damaged, m) != 0) {
            refused++;
            continue;
        }
        mx_run_view(r, &v);
        assert_true(v.frontier <= v.reserved);
        assert_int_equal(mx_run_save(r, NULL, 0, &step), n);
    }
    assert_true(refused > 1000);
    free(words);
    free(damaged);
    free(memory);
    teardown(&b);
}

static void a_state_of_another_policy_is_refused(void **state)
{
    struct bench b, other;
    uint64_t *words;
    size_t n;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    write_all(&b);
    words = saved(b.run, &n);
    setup(&other, "odm-single"); /* of the same size */
    open_run(&other);
    assert_int_equal(mx_run_load(mx_run_init(other.memory, &other.c), words, n), -1);
    assert_int_equal(mx_run_load(mx_run_init(b.memory, &b.c), words, n), 0);
    free(words);
    teardown(&b);
    teardown(&other);
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
        cmocka_unit_test(requests_that_make_no_sense_are_refused),
        cmocka_unit_test(the_fastest_waits_for_the_slowest),
        cmocka_unit_test(a_stopped_run_serves_what_it_planned),
        cmocka_unit_test(an_exhausted_domain_ends_the_run),
        cmocka_unit_test(entries_that_do_not_follow_are_refused),
        cmocka_unit_test(saved_words_give_the_cursors),
        cmocka_unit_test(damaged_words_are_harmless),
        cmocka_unit_test(a_state_of_another_policy_is_refused),
        cmocka_unit_test(snapshots_are_asked_for),
        cmocka_unit_test(old_steps_leave_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
