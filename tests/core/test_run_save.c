/* test_run_save.c - a run's state in words and back, damaged words, and the digests by which a fold
 * is known to be the same, one rule at a time. See test_run.c. */
#include "tests/core/run_bench.h"

#include "proto/limits.h"

static void saved_words_give_the_cursors(void **state)
{
    struct bench b;
    uint64_t *words, step, applied, cursors[K];
    size_t n;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 7);
    words = saved(b.run, &n);
    assert_int_equal(mx_run_saved_cursors(words, n, K, &step, &applied, cursors), 0);
    assert_int_equal(step, 7);
    assert_int_equal(applied, b.disk.n);
    assert_memory_equal(cursors, view(&b).cursors, sizeof cursors);
    assert_int_equal(cursors[0] + cursors[1] + cursors[2], 7 * BATCH);
    assert_int_equal(mx_run_saved_cursors(words, 7, K, &step, &applied, cursors), -1);
    assert_int_equal(mx_run_saved_cursors(words, n, K + 1, &step, &applied, cursors), -1);
    free(words);
    teardown(&b);
}

/* ---- a state of everything ------------------------------------------------------------------ */

static uint64_t *go_back_with_words(struct bench *b, uint64_t step)
{
    struct mx_event ev = {.kind = MX_EV_FREEZE};
    uint64_t shares[K];
    struct mx_entry e = {.step = step, .shares = shares};
    uint64_t *words;

    give(b, &ev);
    write_all(b);
    words = unwound(&b->c, &b->disk, NULL, 0, step, shares, &e.n_words);
    assert_non_null(words);
    e.words = words;
    command(b, MX_EV_REWIND, e);
    write_all(b);
    return words;
}

/* A run that has everything that words hold: turns, skips, growth at once (twice in an epoch) and
 * to come, withdrawals, mixes to come, open steps, a domain used up. In lockstep: closed steps
 * that wait. */
static void make_rich(struct bench *b, uint32_t lag)
{
    setup(b, "ema");
    b->c.lag = lag;
    b->c.max_ahead = 100;
    b->domains[1].max_epochs = 1;
    b->domains[1].samples = 60;
    b->domains[1].budget = 60;
    open_run(b);
    write_all(b);
    for (uint64_t step = 0; step < 14; step++) {
        serve(b, step);
        post(b, step, 0, 1, (uint32_t)step % K, 2.0 + (double)step / 7);
        write_all(b);
    }
    free(go_back_with_words(b, 11));
    free(go_back_with_words(b, 9));
    write_all(b);
    if (lag == 0) {
        serve_upto(b, 30);
    } else {
        pass_over(b, 10, 28);
        write_all(b);
        serve(b, 9);
        post(b, 9, 0, 1, 0, 3.0);
        write_all(b);
        serve_upto(b, 10);
        serve(b, 29);
    }
    adopt(b, 0, 1500, 1);
    write_all(b);
    adopt(b, 0, 1600, 1);
    write_all(b);
    adopt(b, 0, 1700, 0);
    write_all(b);
    withdraw(b, 2, 1, 7, 20);
    write_all(b);
    withdraw(b, 2, 2, 100, 1);
    write_all(b);
    withdraw(b, 0, 1, 0, 5);
    write_all(b);
    pass_over(b, 3, 5);
    write_all(b);
    set_weights_at(b, 300, 0, 0, 1);
    set_weights_at(b, 305, 0, 1, 1);
    write_all(b);
    if (lag == 0) {
        serve_upto(b, 3);
        serve(b, 40);
        post(b, 33, 1, 70, 1, 2.0);
        post(b, 31, 0, 2, 0, 2.0);
    } else {
        post(b, 29, 0, 1, 0, 3.0); /* waits for step 28 */
        post(b, 28, 3, 70, 0, 3.0);
    }
    write_all(b);
    assert_int_equal(view(b).open_steps, 2);
}

static void check_rich(const struct bench *b)
{
    const struct mx_plan_domain *d = mx_run_domains(b->run);
    uint32_t turns;

    (void)mx_run_turns(b->run, &turns);
    assert_int_equal(turns, 1);
    assert_int_equal(view(b).branch, 2);
    assert_int_equal(d[0].n_stretches, 3);
    assert_int_equal(d[0].stretches[1].depth, 2);
    assert_int_equal(d[0].n_gone, 1);
    assert_int_equal(d[2].n_gone, 2);
    assert_int_equal(view(b).next_step, 300);
}

/* Saved, loaded and saved: the same words; and what is done to both runs does the same. */
static void every_part_comes_back(void **state)
{
    (void)state;
    for (uint32_t lag = 0; lag <= 3; lag += 3) {
        struct bench b;
        void *memory;
        struct mx_run *r;
        uint64_t *words, *again;
        size_t n, m;

        make_rich(&b, lag);
        check_rich(&b);
        words = saved(b.run, &n);
        memory = test_get(1, mx_run_size(&b.c));
        r = mx_run_init(memory, &b.c);
        assert_int_equal(mx_run_load(r, words, n), 0);
        again = saved(r, &m);
        assert_int_equal(n, m);
        assert_memory_equal(words, again, n * sizeof *words);
        free(again);
        free(b.memory);
        b.memory = memory;
        b.run = r;
        check_rich(&b);
        assert_int_equal(mx_run_withdrawn(b.run, 2), 2);
        assert_int_equal(mx_run_shards(b.run, 0), 2);
        free(words);
        /* From the journal alone it is the same again. */
        words = saved(b.run, &n);
        r = mx_run_init(test_get(1, mx_run_size(&b.c)), &b.c);
        for (size_t i = 0; i < b.disk.n; i++) {
            assert_int_equal(mx_run_apply(r, &b.disk.entries[i], 0, &b.fx), MX_APPLIED);
        }
        again = saved(r, &m);
        assert_int_equal(n, m);
        assert_memory_equal(words, again, n * sizeof *words);
        free(words);
        free(again);
        free(r);
        teardown(&b);
    }
}

/* ---- damage --------------------------------------------------------------------------------- */

/* Whatever can be done with a run. What it says doesn't matter, if it says it. */
static void use(struct bench *b, struct mx_run *r, struct dice *d)
{
    struct mx_effects fx;
    struct mx_run_view v;
    struct mx_step at;
    uint64_t step, next;
    int more = 3;

    while (more > 0 && mx_run_recovered(r, 5, 5, &fx)) {
        more--;
    }
    if (more == 0) {
        return; /* snapshots on the way without end; it isn't live */
    }
    b->run = r;
    mx_run_view(r, &v);
    for (int i = 0; i < 12; i++) {
        step = v.frontier + below(d, 5) - below(d, 3);
        switch (below(d, 8)) {
        case 0: post(b, step, 0, 1 + (uint32_t)below(d, 2), (uint32_t)below(d, K), 3.0); break;
        case 1: set_weights(b, unit(d), unit(d), 1.0); break;
        case 2: pass_over(b, step, step + below(d, 4)); break;
        case 3: adopt(b, (uint32_t)below(d, K), 900 + below(d, 3000), below(d, 2) == 0); break;
        case 4:
            withdraw(b, (uint32_t)below(d, K), 1 + (uint32_t)below(d, 4), below(d, 2000),
                     1 + below(d, 50));
            break;
        default: request(b, step); break;
        }
        (void)mx_run_step(r, step + below(d, 30), 1, &at);
        (void)mx_run_skipped(r, step, &next);
        (void)mx_run_steps_left(r, (uint32_t)below(d, K));
        while (b->queue.n > 0) {
            /* Its own entries; they may no longer fit a state that never was. */
            enum mx_applied rc = mx_run_apply(r, &b->queue.entries[0], 5, &b->fx);

            journal_shift(&b->queue);
            if (rc != MX_APPLIED) {
                journal_cut(&b->queue, 0);
                return;
            }
            collect(b);
            if (b->queue.n > 20) {
                journal_cut(&b->queue, 0);
                return;
            }
        }
    }
    mx_run_view(r, &v);
    assert_true(v.frontier <= v.reserved);
}

/* Whatever the words are, loading says yes or no; if yes, the run can be used and saved. */
static void damaged_words_are_harmless(void **state)
{
    struct dice d = {test_seed("damaged_words_are_harmless", 61)};

    (void)state;
    for (uint32_t lag = 0; lag <= 3; lag += 3) {
        struct bench b;
        uint64_t *words, *damaged;
        size_t n, at;
        void *memory;
        int refused = 0, taken = 0;

        make_rich(&b, lag);
        words = saved(b.run, &n);
        damaged = test_get(n + 8, sizeof *damaged);
        memory = test_get(1, mx_run_size(&b.c));
        for (size_t cut = 0; cut < n; cut++) {
            assert_int_equal(mx_run_load(mx_run_init(memory, &b.c), words, cut), -1);
        }
        for (int round = 0; round < 15000; round++) {
            struct mx_run *r = mx_run_init(memory, &b.c);
            uint64_t step;

            memcpy(damaged, words, n * sizeof *words);
            for (uint64_t flips = 1 + below(&d, 3); flips > 0; flips--) {
                at = below(&d, 4) == 0 ? below(&d, n) : below(&d, n < 220 ? n : 220);
                damaged[at] = below(&d, 3) == 0 ? roll(&d) >> below(&d, 64)
                                                : damaged[at] ^ (uint64_t)1 << below(&d, 64);
            }
            if (mx_run_load(r, damaged, n + (below(&d, 20) == 0)) != 0) {
                refused++;
                continue;
            }
            taken++;
            assert_int_equal(mx_run_save(r, NULL, 0, &step), n);
            use(&b, r, &d);
        }
        assert_true(refused > 1000 && taken > 1000);
        free(words);
        free(damaged);
        free(memory);
        teardown(&b);
    }
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

/* ---- digests -------------------------------------------------------------------------------- */

/* Folds the journal, whose n-th digest among those of the steps has been changed by one bit. */
static void check_bad_digest(struct bench *b, uint64_t step)
{
    void *memory = test_get(1, mx_run_size(&b->c));
    struct mx_run *r = mx_run_init(memory, &b->c);
    struct mx_run_view v;
    struct mx_effects fx;
    enum mx_applied rc = MX_APPLIED;

    for (size_t i = 0; i < b->disk.n && rc == MX_APPLIED; i++) {
        struct mx_entry *e = &b->disk.entries[i];
        uint64_t *digest = NULL;

        if (e->kind == MX_ENTRY_RESERVE && step >= e->digest_from &&
            step - e->digest_from < e->n) {
            digest = (uint64_t *)(uintptr_t)&e->digests[step - e->digest_from];
            *digest ^= (uint64_t)1 << (step % 64);
        }
        rc = mx_run_apply(r, e, 0, &fx);
        assert_int_equal(rc, digest != NULL ? MX_APPLY_DIGEST : MX_APPLIED);
        if (digest != NULL) {
            *digest ^= (uint64_t)1 << (step % 64);
        }
    }
    assert_int_equal(rc, MX_APPLY_DIGEST);
    mx_run_view(r, &v);
    assert_int_equal(v.bad_step, step);
    free(memory);
}

static void a_fold_checks_every_step(void **state)
{
    struct bench b;
    uint64_t upto = 0;

    (void)state;
    setup(&b, "ema");
    b.c.end_step = 60;
    open_run(&b);
    write_all(&b);
    for (uint64_t step = 0; step < 60; step++) {
        serve(&b, step);
        post(&b, step, 0, 1, (uint32_t)step % K, 2.0 + (double)(step % 4));
        write_all(&b);
        if (step == 20) {
            adopt(&b, 1, 2000, 1);
        } else if (step == 30) {
            withdraw(&b, 2, 1, 10, 300);
        } else if (step == 40) {
            crash(&b);
        }
    }
    for (size_t i = 0; i < b.disk.n; i++) { /* each step's is there, once and in order */
        const struct mx_entry *e = &b.disk.entries[i];

        if (e->kind == MX_ENTRY_RESERVE) {
            assert_int_equal(e->digest_from, upto);
            upto += e->n;
        }
    }
    assert_int_equal(upto, 60);
    for (uint64_t step = 0; step < 60; step++) {
        check_bad_digest(&b, step);
    }
    teardown(&b);
}

/* Another seed, a domain of another size, another order of its samples: it is seen at once. */
static void another_plan_has_another_digest(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "ema");
    open_run(&b);
    serve_upto(&b, 30);
    for (int what = 0; what < 4; what++) {
        struct bench other = b;
        struct mx_run_view v;
        struct mx_effects fx;
        enum mx_applied rc = MX_APPLIED;

        other.c.plan.domains = other.domains;
        other.c.plan.seed += what == 1;
        other.domains[2].samples += what == 2;
        other.domains[1].window += what == 3;
        other.run = mx_run_init(test_get(1, mx_run_size(&other.c)), &other.c);
        for (size_t i = 0; i < b.disk.n && rc == MX_APPLIED; i++) {
            rc = mx_run_apply(other.run, &b.disk.entries[i], 0, &fx);
        }
        assert_int_equal(rc, what == 0 ? MX_APPLIED : MX_APPLY_DIGEST);
        mx_run_view(other.run, &v);
        assert_int_equal(v.bad_step, 0);
        free(other.run);
    }
    teardown(&b);
}

/* A domain that grew or lost samples otherwise, even if the steps at hand draw none of them. */
static void another_change_has_another_digest(void **state)
{
    struct bench b;
    struct mx_range *range = NULL;

    (void)state;
    setup(&b, "static");
    b.domains[1].samples = 1000000;
    open_run(&b);
    serve_upto(&b, 5);
    withdraw(&b, 1, 1, 1000, 3);
    write_all(&b);
    adopt(&b, 1, 2000000, 0);
    write_all(&b);
    serve_upto(&b, 30);
    for (int what = 0; what < 3; what++) {
        struct mx_run *r = mx_run_init(test_get(1, mx_run_size(&b.c)), &b.c);
        enum mx_applied rc = MX_APPLIED;
        struct mx_effects fx;

        for (size_t i = 0; i < b.disk.n && rc == MX_APPLIED; i++) {
            struct mx_entry e = b.disk.entries[i];

            if (e.kind == MX_ENTRY_WITHDRAW) {
                range = (struct mx_range *)(uintptr_t)e.ranges;
                range->first += what == 1;
            }
            e.samples += e.kind == MX_ENTRY_ADOPT && what == 2;
            rc = mx_run_apply(r, &e, 0, &fx);
        }
        assert_int_equal(rc, what == 0 ? MX_APPLIED : MX_APPLY_DIGEST);
        assert_non_null(range);
        range->first -= what == 1;
        free(r);
    }
    teardown(&b);
}

/* From a snapshot on, those before it are taken as given. */
static void a_fold_from_a_snapshot_checks_the_rest(void **state)
{
    struct bench b;
    struct mx_run *r;
    struct mx_run_view v;
    struct mx_effects fx;
    uint64_t *words;
    size_t n;

    (void)state;
    setup(&b, "static");
    open_run(&b);
    serve_upto(&b, 19);
    words = saved(b.run, &n);
    serve_upto(&b, 40);
    r = mx_run_init(test_get(1, mx_run_size(&b.c)), &b.c);
    for (int bad = 0; bad < 2; bad++) {
        uint64_t *digest = NULL;
        enum mx_applied rc = MX_APPLIED;

        r = mx_run_init(r, &b.c);
        assert_int_equal(mx_run_load(r, words, n), 0);
        mx_run_view(r, &v);
        for (size_t i = v.applied; i < b.disk.n && rc == MX_APPLIED; i++) {
            struct mx_entry *e = &b.disk.entries[i];

            if (bad && e->kind == MX_ENTRY_RESERVE && e->digest_from <= 25 &&
                e->digest_from + e->n > 25) {
                digest = (uint64_t *)(uintptr_t)&e->digests[25 - e->digest_from];
                *digest ^= 1;
            }
            rc = mx_run_apply(r, e, 0, &fx);
        }
        assert_int_equal(rc, bad ? MX_APPLY_DIGEST : MX_APPLIED);
        mx_run_view(r, &v);
        assert_int_equal(v.bad_step, bad ? 25 : 0);
    }
    free(words);
    free(r);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_words_give_the_cursors),
        cmocka_unit_test(every_part_comes_back),
        cmocka_unit_test(damaged_words_are_harmless),
        cmocka_unit_test(a_state_of_another_policy_is_refused),
        cmocka_unit_test(a_fold_checks_every_step),
        cmocka_unit_test(another_plan_has_another_digest),
        cmocka_unit_test(another_change_has_another_digest),
        cmocka_unit_test(a_fold_from_a_snapshot_checks_the_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
