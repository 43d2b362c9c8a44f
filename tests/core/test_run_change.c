/* test_run_change.c - steps that are passed over, domains that grow, lose samples or run out, one
 * rule at a time. See test_run.c. */
#include "tests/core/run_bench.h"

/* ---- steps ---------------------------------------------------------------------------------- */

static void skipped_steps_are_not_served(void **state)
{
    struct bench b;
    uint64_t next;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 5);
    pass_over(&b, 3, 3);
    assert_refused(&b, MX_BAD_RANGE, 15);
    pass_over(&b, 3, 16); /* frontier 5, max_ahead 10 */
    assert_refused(&b, MX_BAD_RANGE, 15);
    pass_over(&b, 3, 15);
    assert_int_equal(must(&b, MX_FX_APPEND)->handle, 11);
    request(&b, 3);
    assert_non_null(effect(&b, MX_FX_SERVE)); /* not yet */
    write_all(&b);
    request(&b, 3);
    assert_refused(&b, MX_SKIPPED, 15);
    request(&b, 14);
    assert_refused(&b, MX_SKIPPED, 15);
    post(&b, 4, 0, 1, 0, 1.0);
    assert_refused(&b, MX_SKIPPED, 15);
    request(&b, 2);
    assert_non_null(effect(&b, MX_FX_SERVE));
    serve(&b, 15); /* what the others would have drawn is drawn */
    assert_int_equal(view(&b).cursors[0] + view(&b).cursors[1] + view(&b).cursors[2], 16 * BATCH);
    assert_true(mx_run_skipped(b.run, 7, &next) && next == 15);
    assert_false(mx_run_skipped(b.run, 15, &next));
    teardown(&b);
}

static void skips_that_touch_are_one(void **state)
{
    struct bench b;
    uint64_t next;

    (void)state;
    setup(&b, "static");
    b.c.max_ahead = 1000;
    open_run(&b);
    write_all(&b);
    pass_over(&b, 10, 20);
    pass_over(&b, 40, 50);
    pass_over(&b, 60, 70);
    pass_over(&b, 20, 30);
    pass_over(&b, 45, 60);
    write_all(&b);
    assert_true(mx_run_skipped(b.run, 10, &next) && next == 30);
    assert_true(mx_run_skipped(b.run, 69, &next) && next == 70);
    assert_true(mx_run_skipped(b.run, 40, &next) && next == 70);
    assert_false(mx_run_skipped(b.run, 9, &next));
    assert_false(mx_run_skipped(b.run, 30, &next));
    assert_false(mx_run_skipped(b.run, 39, &next));
    pass_over(&b, 5, 100);
    write_all(&b);
    assert_true(mx_run_skipped(b.run, 5, &next) && next == 100);
    teardown(&b);
}

static void too_many_skips_are_refused(void **state)
{
    struct bench b;
    uint64_t n = 0, next;

    (void)state;
    setup(&b, "static");
    b.c.max_ahead = 10000;
    open_run(&b);
    write_all(&b);
    for (;; n++) {
        pass_over(&b, 2 * n, 2 * n + 1);
        if (effect(&b, MX_FX_REFUSE) != NULL) {
            break;
        }
    }
    assert_refused(&b, MX_TOO_MANY_SKIPS, n); /* also those on their way */
    write_all(&b);
    for (uint64_t i = 0; i < n; i++) {
        assert_true(mx_run_skipped(b.run, 2 * i, &next));
    }
    pass_over(&b, 2 * n, 2 * n + 1);
    assert_refused(&b, MX_TOO_MANY_SKIPS, n);
    teardown(&b);
}

static void a_skip_drops_what_was_half_reported(void **state)
{
    struct bench b;
    struct mx_event timer = {.kind = MX_EV_TIMER};

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 8);
    post(&b, 4, 0, 2, 0, 4.0);
    post(&b, 5, 0, 2, 0, 4.0);
    write_all(&b);
    post(&b, 4, 1, 2, 0, 4.0); /* comes behind the skip */
    {
        struct mx_entry late = b.queue.entries[0];

        b.queue.n = 0;
        pass_over(&b, 4, 5);
        b.queue.entries[1] = late;
        b.queue.n = 2;
        b.queue.entries[0].index = b.disk.n + 1;
        b.queue.entries[1].index = b.disk.n + 2;
    }
    write_all(&b);
    assert_int_equal(view(&b).open_steps, 1);
    assert_int_equal(view(&b).steps_closed, 0);
    assert_int_equal(view(&b).late, 1);
    b.now_ms += 500;
    give(&b, &timer);
    write_all(&b);
    assert_int_equal(view(&b).steps_closed, 1);
    assert_int_equal(view(&b).last_closed, 5);
    teardown(&b);
}

/* ---- growth --------------------------------------------------------------------------------- */

/* What the domain draws in the steps [from, to): how often each sample, and the largest. */
static uint64_t count_samples(const struct bench *b, uint64_t from, uint64_t to, uint32_t domain,
                              uint32_t *ret_times, uint64_t n)
{
    struct mx_plan_spec spec = b->c.plan;
    uint64_t largest = 0;

    spec.domains = mx_run_domains(b->run);
    memset(ret_times, 0, n * sizeof *ret_times);
    for (uint64_t step = from; step < to; step++) {
        struct mx_plan_item items[BATCH];
        struct mx_step at;

        assert_int_equal(mx_run_step(b->run, step, 0, &at), MX_STEP_HERE);
        mx_plan_items(&spec, step, at.cursors, at.prefix, 0, BATCH, items);
        for (int i = 0; i < BATCH; i++) {
            if (items[i].domain == domain) {
                assert_true(items[i].sample < n);
                ret_times[items[i].sample]++;
                largest = items[i].sample > largest ? items[i].sample : largest;
            }
        }
    }
    return largest;
}

/* A run of one domain in effect, so that its epochs are easily counted. */
static void setup_one(struct bench *b, uint64_t samples)
{
    setup(b, "static");
    b->prior[0] = 1;
    b->prior[1] = b->prior[2] = 0;
    b->domains[0].samples = samples;
}

static void growth_waits_for_the_epoch(void **state)
{
    struct bench b;
    uint32_t times[200];

    (void)state;
    setup_one(&b, 120);
    open_run(&b);
    serve_upto(&b, 3);
    adopt(&b, 3, 200, 0);
    assert_refused(&b, MX_BAD_DOMAIN, 3);
    adopt(&b, 0, 119, 0);
    assert_refused(&b, MX_NOT_GROWN, 120);
    adopt(&b, 0, 200, 0);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.step, 3);
    adopt(&b, 1, 2000, 0);
    assert_refused(&b, MX_CHANGING, 3);
    request(&b, 3); /* the frontier stays until it's durable */
    assert_non_null(effect(&b, MX_FX_HOLD));
    request(&b, 2);
    assert_non_null(effect(&b, MX_FX_SERVE));
    write_all(&b);
    assert_int_equal(mx_run_shards(b.run, 0), 2);
    serve_upto(&b, 10);
    count_samples(&b, 0, 10, 0, times, 200);
    for (int i = 0; i < 200; i++) { /* an epoch of the old ones */
        assert_int_equal(times[i], i < 120);
    }
    adopt(&b, 0, 199, 0); /* less than is to come */
    assert_refused(&b, MX_NOT_GROWN, 200);
    serve_upto(&b, 35);
    count_samples(&b, 10, 26, 0, times, 200);
    for (int i = 0; i < 200; i++) { /* and 192 places of the new epoch */
        assert_true(times[i] <= 1);
    }
    assert_true(count_samples(&b, 10, 35, 0, times, 200) >= 120);
    teardown(&b);
}

static void growth_joins_the_epoch(void **state)
{
    struct bench b;
    uint32_t times[240];
    struct mx_step at;

    (void)state;
    setup_one(&b, 120);
    open_run(&b);
    serve_upto(&b, 4);
    assert_int_equal(mx_run_step(b.run, 6, 1, &at), MX_STEP_HERE); /* on trial */
    adopt(&b, 0, 240, 1);
    write_one(&b);
    assert_int_equal(must(&b, MX_FX_DROP)->step, 4);
    write_all(&b);
    serve_upto(&b, 20);
    count_samples(&b, 0, 20, 0, times, 240);
    for (int i = 0; i < 240; i++) { /* 240 places: each once, in one epoch */
        assert_int_equal(times[i], 1);
    }
    assert_true(count_samples(&b, 4, 6, 0, times, 240) >= 120); /* the new ones at once */
    teardown(&b);
}

static void an_epoch_can_be_joined_so_often(void **state)
{
    struct bench b;
    uint64_t samples = 1000;

    (void)state;
    setup_one(&b, samples);
    open_run(&b);
    for (uint64_t i = 0; i < MX_JOINS_MAX; i++) {
        serve_upto(&b, i + 1);
        adopt(&b, 0, ++samples, 1);
        assert_non_null(effect(&b, MX_FX_APPEND));
        write_all(&b);
    }
    serve_upto(&b, MX_JOINS_MAX + 1);
    adopt(&b, 0, samples + 1, 1);
    assert_refused(&b, MX_JOINED_TOO_OFTEN, MX_JOINS_MAX);
    adopt(&b, 0, samples + 1, 0); /* but it can be waited for */
    write_all(&b);
    adopt(&b, 0, samples + 2, 0); /* and what waits be replaced */
    write_all(&b);
    serve_upto(&b, 84);
    adopt(&b, 0, samples + 3, 1); /* in the next epoch again */
    assert_non_null(effect(&b, MX_FX_APPEND));
    teardown(&b);
}

static void growth_and_budgets(void **state)
{
    struct bench b;
    int notes = 0;

    (void)state;
    setup(&b, "static");
    b.domains[0].samples = 30;
    b.domains[0].max_epochs = 2;
    b.domains[0].budget = 60;
    open_run(&b);
    serve_upto(&b, 60); /* 2 of 12 a step, until it is used up; then the others take over */
    assert_int_equal(view(&b).cursors[0], 60);
    assert_int_equal(mx_run_steps_left(b.run, 0), 0);
    assert_int_equal(mx_run_steps_left(b.run, 1), UINT64_MAX);
    assert_int_equal(view(&b).exhausted, 0);
    adopt(&b, 0, 50, 0); /* it is at an epoch's beginning: 2 epochs are over */
    write_all(&b);
    serve_upto(&b, 70);
    assert_int_equal(view(&b).cursors[0], 60);
    for (size_t i = 0; i < b.disk.n; i++) {
        const struct mx_entry *e = &b.disk.entries[i];

        if (e->kind == MX_ENTRY_EXHAUSTED) {
            assert_int_equal(e->domain, 0);
            assert_int_equal(e->flag, 0);
            notes++;
        }
    }
    assert_int_equal(notes, 1);
    teardown(&b);
}

static void a_budget_grows_with_the_domain(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "static");
    b.domains[0].samples = 30;
    b.domains[0].max_epochs = 2;
    b.domains[0].budget = 60;
    open_run(&b);
    serve_upto(&b, 5); /* 10 of them drawn */
    adopt(&b, 0, 90, 1);
    write_all(&b);
    assert_int_equal(mx_run_domains(b.run)[0].budget, 180);
    serve_upto(&b, 120);
    assert_int_equal(view(&b).cursors[0], 180);
    teardown(&b);
}

/* A domain of 40 samples that may be drawn one and a half times. */
static void open_half_epoch(struct bench *b)
{
    setup(b, "static");
    b->domains[0].samples = 40;
    b->domains[0].max_epochs = 1.5;
    b->domains[0].budget = 60;
    open_run(b);
}

/* What is new at once belongs to the epoch in which the budget ran out. */
static void a_used_up_domain_goes_on_with_what_is_new(void **state)
{
    struct bench b;

    (void)state;
    open_half_epoch(&b);
    serve_upto(&b, 80);
    assert_int_equal(view(&b).cursors[0], 60);
    adopt(&b, 0, 80, 1);
    write_all(&b);
    assert_int_equal(mx_run_domains(b.run)[0].budget, 80); /* 40, and half of 80 */
    serve_upto(&b, 160);
    assert_int_equal(view(&b).cursors[0], 80);
    teardown(&b);
}

/* One that was used up inside an epoch goes on when it grows, and is used up once more. */
static void growth_revives_a_domain(void **state)
{
    struct bench b;
    int notes = 0;

    (void)state;
    open_half_epoch(&b);
    serve_upto(&b, 40);
    assert_int_equal(view(&b).cursors[0], 60);
    adopt(&b, 0, 100, 1); /* half of 100 may be drawn a second time, and 20 have been */
    write_all(&b);
    serve_upto(&b, 80);
    assert_int_equal(view(&b).cursors[0], 90);
    for (size_t i = 0; i < b.disk.n; i++) {
        notes += b.disk.entries[i].kind == MX_ENTRY_EXHAUSTED;
    }
    assert_int_equal(notes, 2);
    teardown(&b);
}

/* ---- withdrawals ---------------------------------------------------------------------------- */

/* Half of the samples must stay at each time: what comes later doesn't count before. */
static void half_of_what_is_there_stays(void **state)
{
    struct bench b;

    (void)state;
    setup_one(&b, 120);
    open_run(&b);
    serve_upto(&b, 4);
    withdraw(&b, 0, 1, 0, 60);
    write_all(&b);
    withdraw(&b, 0, 2, 0, 60); /* the same ones again */
    write_all(&b);
    withdraw(&b, 0, 3, 59, 2);
    assert_refused(&b, MX_TOO_MUCH_GONE, 120);
    withdraw(&b, 0, 3, 120, 200); /* of shards that it hasn't taken */
    write_all(&b);
    adopt(&b, 0, 320, 0);
    assert_refused(&b, MX_TOO_MUCH_GONE, 320);
    adopt(&b, 0, 520, 0);
    write_all(&b);
    withdraw(&b, 0, 4, 320, 1);
    assert_refused(&b, MX_TOO_MUCH_GONE, 520);
    serve_upto(&b, 60);
    teardown(&b);
}

static void withdrawn_samples_are_not_drawn(void **state)
{
    struct bench b;
    uint32_t times[120];

    (void)state;
    setup_one(&b, 120);
    open_run(&b);
    serve_upto(&b, 4);
    withdraw(&b, 3, 1, 0, 10);
    assert_refused(&b, MX_BAD_DOMAIN, 3);
    withdraw(&b, 0, 1, 0, 0);
    assert_refused(&b, MX_BAD_DOMAIN, 0);
    withdraw(&b, 0, 1, 0, 61);
    assert_refused(&b, MX_TOO_MUCH_GONE, 120);
    withdraw(&b, 0, 1, 10, 20);
    withdraw(&b, 0, 2, 50, 1);
    assert_refused(&b, MX_CHANGING, 4);
    request(&b, 4);
    assert_non_null(effect(&b, MX_FX_HOLD));
    write_all(&b);
    assert_int_equal(mx_run_withdrawn(b.run, 0), 1);
    withdraw(&b, 0, 1, 50, 1);
    assert_refused(&b, MX_DUPLICATE, 1);
    withdraw(&b, 0, 2, 0, 20); /* half of them are gone already */
    write_all(&b);
    withdraw(&b, 0, 3, 40, 31);
    assert_refused(&b, MX_TOO_MUCH_GONE, 120);
    withdraw(&b, 0, 3, 40, 30);
    write_all(&b);
    serve_upto(&b, 40);
    count_samples(&b, 4, 40, 0, times, 120);
    for (int i = 0; i < 120; i++) {
        assert_int_equal(times[i] == 0, i < 30 || (i >= 40 && i < 70));
    }
    assert_true(count_samples(&b, 0, 4, 0, times, 120) > 0); /* what was served is what it was */
    teardown(&b);
}

static void a_domain_can_end_in_withdrawn_places(void **state)
{
    struct bench b;
    struct mx_series series;
    struct mx_series_cache cache = {.valid = 0};
    uint64_t samples[4], epoch, cursor = 36;

    (void)state;
    setup(&b, "static");
    b.domains[0].samples = 40;
    b.domains[0].budget = 40;
    open_run(&b);
    write_all(&b);
    series = (struct mx_series){b.c.plan.seed, mx_run_domains(b.run), 0, 1};
    assert_int_equal(mx_series_run(&series, &cursor, 4, samples, &epoch, &cache), 4);
    for (uint32_t serial = 1; serial <= 4; serial++) { /* the last four places */
        withdraw(&b, 0, serial, samples[serial - 1], 1);
        write_all(&b);
    }
    serve_upto(&b, 40);
    assert_int_equal(view(&b).cursors[0], 36);
    for (size_t i = 0, notes = 0; i <= b.disk.n; i++) {
        if (i == b.disk.n) {
            assert_int_equal(notes, 1);
        } else {
            notes += b.disk.entries[i].kind == MX_ENTRY_EXHAUSTED;
        }
    }
    teardown(&b);
}

static void withdrawals_have_a_limit(void **state)
{
    struct bench b;
    struct mx_range *ranges = test_get(9000, sizeof *ranges);
    struct mx_entry e = {.domain = 1, .serial = 1, .ranges = ranges, .n = 9000};

    (void)state;
    setup(&b, "static");
    b.domains[1].samples = 1000000;
    open_run(&b);
    write_all(&b);
    for (uint64_t i = 0; i < 9000; i++) {
        ranges[i] = (struct mx_range){10 * i, 2};
    }
    command(&b, MX_EV_WITHDRAW, e);
    assert_refused(&b, MX_TOO_MANY_CHANGES, 8192);
    ranges[1].first = 1; /* they overlap */
    command(&b, MX_EV_WITHDRAW, e);
    assert_refused(&b, MX_BAD_DOMAIN, 1);
    ranges[1].first = 10;
    e.n = 8192;
    command(&b, MX_EV_WITHDRAW, e);
    write_all(&b);
    assert_int_equal(mx_run_domains(b.run)[1].n_gone, 8192);
    withdraw(&b, 0, 1, 0, 1);
    assert_refused(&b, MX_TOO_MANY_CHANGES, 8192);
    withdraw(&b, 1, 2, 10, 2); /* gone already: it takes no room */
    write_all(&b);
    assert_int_equal(mx_run_withdrawn(b.run, 1), 2);
    serve_upto(&b, 10);
    free(ranges);
    teardown(&b);
}

/* ---- domains that run out ------------------------------------------------------------------- */

static uint32_t count_of(const struct bench *b, uint64_t step, uint32_t domain)
{
    struct mx_step at;

    assert_int_equal(mx_run_step(b->run, step, 0, &at), MX_STEP_HERE);
    return at.prefix[domain + 1] - at.prefix[domain];
}

/* The one that is left takes over only up to what its ceiling allows. */
static void a_ceiling_holds_when_others_run_out(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "static");
    b.prior[0] = b.prior[1] = b.prior[2] = 1;
    b.domains[0].budget = 40;
    b.domains[1].takes_below = 6;
    open_run(&b);
    serve_upto(&b, 30);
    assert_int_equal(view(&b).cursors[0], 40);
    for (uint64_t step = 11; step < 30; step++) {
        assert_int_equal(count_of(&b, step, 0), 0);
        assert_int_equal(count_of(&b, step, 1), 5);
        assert_int_equal(count_of(&b, step, 2), 7);
    }
    teardown(&b);
}

static void nobody_left_to_take_over_ends_the_run(void **state)
{
    struct bench b;
    uint64_t step = 0;

    (void)state;
    setup(&b, "static");
    b.prior[0] = b.prior[1] = b.prior[2] = 1;
    b.domains[0].budget = 40;
    b.domains[1].takes_below = b.domains[2].takes_below = 6;
    open_run(&b);
    write_all(&b);
    for (;; step++) {
        request(&b, step);
        while (effect(&b, MX_FX_HOLD) != NULL) {
            write_all(&b);
            request(&b, step);
        }
        if (effect(&b, MX_FX_REFUSE) != NULL) {
            break;
        }
    }
    assert_int_equal(step, 10);
    assert_refused(&b, MX_OUT_OF_SAMPLES, 0);
    write_all(&b);
    assert_int_equal(view(&b).exhausted, 1);
    assert_int_equal(view(&b).exhausted_step, 10);
    /* The end's digests are in the journal. */
    assert_int_equal(b.disk.entries[b.disk.n - 1].kind, MX_ENTRY_RESERVE);
    assert_int_equal(b.disk.entries[b.disk.n - 1].digest_from +
                         b.disk.entries[b.disk.n - 1].n, 10);
    teardown(&b);
}

static void notes_of_a_domain_come_once(void **state)
{
    struct bench b;
    int notes[K] = {0};

    (void)state;
    setup(&b, "static");
    for (int i = 0; i < 2; i++) {
        b.domains[i].budget = 24;
    }
    open_run(&b);
    serve_upto(&b, 40);
    crash(&b);
    serve_upto(&b, 60);
    for (size_t i = 0; i < b.disk.n; i++) {
        if (b.disk.entries[i].kind == MX_ENTRY_EXHAUSTED) {
            assert_int_equal(b.disk.entries[i].flag, 0);
            notes[b.disk.entries[i].domain]++;
        }
    }
    assert_int_equal(notes[0], 1);
    assert_int_equal(notes[1], 1);
    assert_int_equal(notes[2], 0);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(skipped_steps_are_not_served),
        cmocka_unit_test(skips_that_touch_are_one),
        cmocka_unit_test(too_many_skips_are_refused),
        cmocka_unit_test(a_skip_drops_what_was_half_reported),
        cmocka_unit_test(growth_waits_for_the_epoch),
        cmocka_unit_test(growth_joins_the_epoch),
        cmocka_unit_test(an_epoch_can_be_joined_so_often),
        cmocka_unit_test(growth_and_budgets),
        cmocka_unit_test(a_budget_grows_with_the_domain),
        cmocka_unit_test(a_used_up_domain_goes_on_with_what_is_new),
        cmocka_unit_test(half_of_what_is_there_stays),
        cmocka_unit_test(growth_revives_a_domain),
        cmocka_unit_test(withdrawn_samples_are_not_drawn),
        cmocka_unit_test(a_domain_can_end_in_withdrawn_places),
        cmocka_unit_test(withdrawals_have_a_limit),
        cmocka_unit_test(a_ceiling_holds_when_others_run_out),
        cmocka_unit_test(nobody_left_to_take_over_ends_the_run),
        cmocka_unit_test(notes_of_a_domain_come_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
