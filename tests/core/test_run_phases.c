/* test_run_phases.c - runs with phases that go back, fork, crash and are told anything, in any order.
 * See test_run_schedule.c. */
#include "tests/core/phases_bench.h"

/* ---- going back ----------------------------------------------------------------------------- */

static void a_run_that_goes_back_meets_its_points_again(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 20, .kind = MX_PHASE_ANNEAL, .mix = target},
        {.from = 40, .kind = MX_PHASE_MIX, .mix = other},
    };
    /* Before all points, at one, within the anneal, at its end's point, behind all. */
    uint64_t back[] = {10, 20, 33, 40, 55};

    (void)state;
    for (size_t i = 0; i < sizeof back / sizeof *back; i++) {
        for (uint32_t lag = 0; lag < 3; lag += 2) {
            struct bench b;
            uint64_t before[K];

            setup_phases(&b, "ema", phases, 3);
            b.c.lag = lag;
            open_run(&b);
            train(&b, 0, 60);
            memcpy(before, mix_of(&b, 35)->shares, sizeof before);
            go_back(&b, back[i]);
            train(&b, back[i], 60);
            crash(&b);
            assert_true(view(&b).frontier >= 60);
            write_all(&b);
            train(&b, lag > 0 ? 60 : view(&b).frontier, 70);
            assert_mix(&b, 69, other);
            if (back[i] > 20 && back[i] < 35) { /* the anneal goes on from where it went out */
                assert_memory_equal(mix_of(&b, 35)->shares, before, sizeof before);
            }
            teardown(&b);
        }
    }
}

static void a_fork_keeps_the_schedule(void **state)
{
    struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_ADAPT},
        {.from = 20, .kind = MX_PHASE_ANNEAL, .mix = target},
        {.from = 40, .kind = MX_PHASE_MIX, .mix = other},
    };
    struct bench b, f;
    uint64_t shares[K], in_force[K];
    struct mx_entry from = {.step = 30, .shares = shares, .n_shares = K, .mix_version = 1000};
    struct mx_entry first;
    uint64_t *words;

    (void)state;
    setup_phases(&b, "ema", phases, 3);
    open_run(&b);
    train(&b, 0, 50);
    memcpy(in_force, mix_of(&b, 35)->shares, sizeof in_force);
    words = unwound(&b.c, &b.disk, NULL, 0, 30, shares, &from.n_words);
    assert_non_null(words);
    from.words = words;
    setup_phases(&f, "ema", phases, 3);
    f.mixer.policy.params = f.params;
    f.c.mixers = &f.mixer;
    f.memory = test_get(1, mx_run_size(&f.c));
    f.run = mx_run_init(f.memory, &f.c);
    mx_run_fork_entry(f.run, 1, &from, &first);
    journal_put(&f.queue, &first, K, 0);
    write_all(&f);
    free(words);
    train(&f, 30, 50);
    assert_memory_equal(mix_of(&f, 35)->shares, in_force, sizeof in_force);
    assert_mix(&f, 39, target);
    assert_mix(&f, 40, other);
    teardown(&f);
    teardown(&b);
}

/* ---- anything ------------------------------------------------------------------------------- */

static uint32_t draw_phases(struct dice *d, struct mx_phase *ret)
{
    uint32_t n = 1 + (uint32_t)below(d, 5);
    uint64_t from = 0;

    for (uint32_t i = 0; i < n; i++) {
        ret[i] = (struct mx_phase){.from = from, .kind = (enum mx_phase_kind)below(d, 4),
                                   .shape = (enum mx_anneal_shape)below(d, 2),
                                   .blend = (int)below(d, 2),
                                   .mix = below(d, 2) == 1 ? target : other};
        from += 1 + below(d, 40);
    }
    return n;
}

/* Each step is under the mix of the last point before it, or under one that feedback made since. */
static void check_steps(struct bench *b, const struct mx_schedule *s)
{
    const struct mx_entry *point = &b->disk.entries[0];
    double from[K], w[K];

    memcpy(from, prior, sizeof from);
    for (uint64_t step = 0; step < view(b).frontier && step < s->end_step; step++) {
        const struct mx_entry *e = mix_of(b, step);

        if (step > 0 && mx_schedule_is_point(s, step)) {
            assert_int_equal(mixes_by(b, MX_CAUSE_PHASE, step, step + 1), 1);
            for (size_t i = 0; i < b->disk.n; i++) {
                const struct mx_entry *at = &b->disk.entries[i];

                if (at->kind == MX_ENTRY_MIX && at->step == step && at->cause == MX_CAUSE_PHASE) {
                    point = at;
                }
            }
        }
        assert_true(e->step >= point->step);
        assert_int_equal(e->phase, mx_schedule_phase_at(s, e->step));
        if (!mx_schedule_asks_policy(s, step)) {
            assert_ptr_equal(e, point);
        }
        mx_schedule_weights(s, step, e->weights, from, w);
        if (s->phases[e->phase].kind != MX_PHASE_ANNEAL || s->phases[e->phase].blend ||
            memcmp(w, s->phases[e->phase].mix, sizeof w) == 0) {
            assert_mix(b, step, w); /* else it hangs on where the anneal began */
        }
    }
}

/* A snapshot has all of it, and words that can't be are refused. */
static void check_saved(struct bench *b)
{
    size_t n, m;
    uint64_t *words = saved(b->run, &n), *again;
    void *memory = test_get(1, mx_run_size(&b->c));
    struct mx_run *r = mx_run_init(memory, &b->c);
    struct mx_run_view v;

    assert_int_equal(mx_run_load(r, words, n), 0);
    again = saved(r, &m);
    assert_int_equal(n, m);
    assert_memory_equal(words, again, n * sizeof *words);
    mx_run_view(r, &v);
    assert_true(v.next_point == view(b).next_point);
    free(again);
    free(words);
    free(memory);
}

static void whatever_happens_each_step_has_its_phases_mix(void **state)
{
    static const char *const policies[] = {"static", "ema", "odm-paper"};
    struct dice d = {test_seed("whatever_happens_each_step_has_its_phases_mix", 1)};

    (void)state;
    for (int i = 0; i < 300; i++) {
        struct mx_phase phases[5];
        uint32_t n = draw_phases(&d, phases);
        struct bench b;
        struct mx_schedule s;
        uint64_t step = 0, reported = 0;

        setup_phases(&b, policies[below(&d, 3)], phases, n);
        b.c.end_step = phases[n - 1].from + 1 + below(&d, 40);
        b.c.lag = below(&d, 3) == 0 ? 1 + (uint32_t)below(&d, 4) : 0;
        b.c.lead = (uint32_t)below(&d, 3) * 2;
        b.c.reserve_steps = 1 + (uint32_t)below(&d, 20);
        b.c.snapshot_steps = 7;
        s = (struct mx_schedule){phases, n, K, b.c.end_step, prior, b.limits};
        open_run(&b);
        write_one(&b);
        while (step < b.c.end_step) {
            switch (below(&d, 8)) {
            case 0:
                if (below(&d, 4) == 0) {
                    crash(&b);
                }
                break;
            case 1:
            case 2:
                if (reported < step) {
                    post(&b, reported, 0, 1, (uint32_t)below(&d, K), 1.0 + unit(&d));
                    reported++;
                }
                break;
            case 3:
            case 4:
            case 5:
                if (b.queue.n > 0) {
                    write_one(&b);
                }
                break;
            default:
                if (b.queue.n == 0) {
                    check_saved(&b);
                }
                request(&b, step);
                step += effect(&b, MX_FX_SERVE) != NULL;
                break;
            }
            b.now_ms += below(&d, 50);
            if (b.c.lag > 0 && reported == step && step > 0 && b.queue.n == 0) {
                reported -= below(&d, 2); /* what a crash has lost is posted again */
            } else if (b.queue.n == 0 && below(&d, 16) == 0) {
                reported = step > b.c.lag + 4 ? step - b.c.lag - 4 : 0;
            }
        }
        write_all(&b);
        check_steps(&b, &s);
        crash(&b);
        write_all(&b);
        check_steps(&b, &s);
        check_saved(&b);
        teardown(&b);
    }
}

/* The mixes of an anneal are made some steps ahead: that makes no report old. One that is old is
 * dropped as ever. */
static void ticks_made_ahead_make_no_report_stale(void **state)
{
    const double mix[K] = {0.2, 0.2, 0.6};
    const struct mx_phase blend[] = {
        {.kind = MX_PHASE_ADAPT},
        {.from = 40, .kind = MX_PHASE_ANNEAL, .blend = 1, .mix = mix}};
    struct mx_mixer_counts counts;
    struct bench b;

    (void)state;
    setup(&b, "odm");
    b.mixer.guards.stale_max = 3;
    b.c.phases = blend;
    b.c.n_phases = 2;
    b.c.end_step = 240;
    b.c.feedback_timeout_ms = UINT64_MAX;
    open_run(&b);
    for (uint64_t step = 0; step < 150; step++) {
        serve(&b, step);
        write_all(&b);
        if (step != 50) {
            post(&b, step, 0, 1, (uint32_t)step % K, 2.0 + (double)(step % 4));
        }
        write_all(&b);
    }
    counts = mx_mixer_counts(mx_run_mixer_state(b.run, 0));
    assert_int_equal(counts.stale, 0);
    assert_int_equal(counts.updates, 149);
    post(&b, 50, 0, 1, 0, 2.0);
    write_all(&b);
    counts = mx_mixer_counts(mx_run_mixer_state(b.run, 0));
    assert_int_equal(counts.stale, 1);
    assert_int_equal(counts.updates, 149);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_that_goes_back_meets_its_points_again),
        cmocka_unit_test(a_fork_keeps_the_schedule),
        cmocka_unit_test(whatever_happens_each_step_has_its_phases_mix),
        cmocka_unit_test(ticks_made_ahead_make_no_report_stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
