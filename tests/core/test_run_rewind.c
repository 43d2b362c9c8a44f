/* test_run_rewind.c - a run goes back to a step, and another goes on from there, one rule at a
 * time. See test_run.c. */
#include "tests/core/run_bench.h"

#include "proto/limits.h"

/* ---- going back ----------------------------------------------------------------------------- */

static void thaw(struct bench *b)
{
    struct mx_event ev = {.kind = MX_EV_THAW};

    give(b, &ev);
}

static uint64_t version_of(const struct bench *b, uint64_t step)
{
    struct mx_step at;

    assert_int_equal(mx_run_step(b->run, step, 0, &at), MX_STEP_HERE);
    return at.mix_version;
}

/* Serves [from, to) and posts a loss of each. */
static void train(struct bench *b, uint64_t from, uint64_t to, double loss)
{
    for (uint64_t step = from; step < to; step++) {
        serve(b, step);
        post(b, step, 0, 1, (uint32_t)step % K, loss + (double)step / 10);
        write_all(b);
    }
}

/* The journal alone gives the run as it is. */
static void check_fold(struct bench *b)
{
    size_t n, m;
    uint64_t *live = saved(b->run, &n), *folded;
    void *memory = test_get(1, mx_run_size(&b->c));
    struct mx_run *r = mx_run_init(memory, &b->c);
    struct mx_effects fx;
    struct mx_run_view v;

    for (size_t i = 0; i < b->disk.n; i++) {
        assert_int_equal(mx_run_apply(r, &b->disk.entries[i], 0, &fx), MX_APPLIED);
    }
    mx_run_view(r, &v);
    if (v.frontier == view(b).frontier) { /* else the live one has gone on since the last entry */
        folded = saved(r, &m);
        assert_int_equal(n, m);
        assert_memory_equal(live, folded, n * sizeof *live);
        free(folded);
    }
    free(live);
    free(memory);
}

static void a_frozen_run_stands_still(void **state)
{
    struct bench b;
    struct mx_event timer = {.kind = MX_EV_TIMER};
    struct mx_step at;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 12);
    post(&b, 3, 0, 2, 0, 4.0);
    write_all(&b);
    post(&b, 11, 0, 1, 0, 4.0);
    freeze(&b); /* what is on its way still comes, and nothing of it asks for more */
    assert_int_equal(b.queue.n, 0);
    assert_int_equal(view(&b).steps_closed, 1);
    assert_int_equal(view(&b).versions, 1);
    request(&b, 11);
    assert_non_null(effect(&b, MX_FX_SERVE));
    request(&b, 12);
    assert_non_null(effect(&b, MX_FX_HOLD));
    assert_int_equal(mx_run_step(b.run, 12, 1, &at), MX_STEP_UNKNOWN);
    post(&b, 4, 0, 1, 0, 4.0);
    assert_refused(&b, MX_CHANGING, 12);
    set_weights(&b, 1, 0, 0);
    assert_refused(&b, MX_CHANGING, 12);
    pass_over(&b, 4, 5);
    assert_refused(&b, MX_CHANGING, 12);
    adopt(&b, 0, 2000, 0);
    assert_refused(&b, MX_CHANGING, 12);
    withdraw(&b, 0, 1, 0, 1);
    assert_refused(&b, MX_CHANGING, 12);
    command(&b, MX_EV_STOP, (struct mx_entry){.step = 0});
    assert_refused(&b, MX_CHANGING, 12);
    b.now_ms += 10000;
    give(&b, &timer);
    assert_int_equal(b.fx.n, 0);
    thaw(&b); /* what was left undone is asked for */
    assert_int_equal(b.queue.n, 1);
    assert_int_equal(b.queue.entries[0].kind, MX_ENTRY_MIX);
    assert_true(must(&b, MX_FX_ARM)->at_ms <= b.now_ms);
    give(&b, &timer);
    write_all(&b);
    assert_int_equal(view(&b).timeouts, 1);
    serve(&b, 12);
    teardown(&b);
}

static void only_what_fits_goes_back(void **state)
{
    struct bench b;
    uint64_t shares[K], *words;
    struct mx_entry e = {.step = 5, .shares = shares};

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    train(&b, 0, 12, 2.0);
    words = unwound(&b.c, &b.disk, NULL, 0, 5, shares, &e.n_words);
    assert_non_null(words);
    e.words = words;
    command(&b, MX_EV_REWIND, e); /* not frozen */
    assert_refused(&b, MX_CHANGING, 12);
    freeze(&b);
    e.step = 13;
    command(&b, MX_EV_REWIND, e);
    assert_refused(&b, MX_BAD_RANGE, 12);
    e.step = 6; /* not what the words are of */
    command(&b, MX_EV_REWIND, e);
    assert_refused(&b, MX_CHANGING, 12);
    e.step = 5;
    e.n_words = 3;
    command(&b, MX_EV_REWIND, e);
    assert_refused(&b, MX_CHANGING, 12);
    free(words);
    thaw(&b);
    write_all(&b);
    freeze(&b);
    words = unwound(&b.c, &b.disk, NULL, 0, 5, shares, &e.n_words);
    e.words = words;
    thaw(&b);
    post(&b, 3, 0, 1, 1, 4.0); /* a duplicate */
    train(&b, 12, 13, 3.0);
    freeze(&b);
    command(&b, MX_EV_REWIND, e); /* the journal has gone on */
    assert_refused(&b, MX_CHANGING, 13);
    free(words);
    assert_null(unwound(&b.c, &b.disk, NULL, 0, view(&b).reserved + 1, shares, &e.n_words));
    teardown(&b);
}

static void history_goes_another_way(void **state)
{
    struct bench b;
    struct mx_step at;
    uint64_t before[K], versions;
    const struct mx_turn *turns;
    uint32_t n;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    train(&b, 0, 12, 2.0);
    assert_int_equal(mx_run_step(b.run, 8, 0, &at), MX_STEP_HERE);
    memcpy(before, at.cursors, sizeof before);
    versions = view(&b).versions;
    freeze(&b);
    ask_back(&b, 8);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.branch, 1);
    assert_int_equal(must(&b, MX_FX_APPEND)->entry.mix_version, versions + 1);
    thaw(&b); /* not heard: it is on its way */
    assert_int_equal(b.fx.n, 0);
    request(&b, 12);
    assert_non_null(effect(&b, MX_FX_HOLD));
    write_one(&b);
    assert_int_equal(must(&b, MX_FX_DROP)->step, 8);
    assert_int_equal(must(&b, MX_FX_SNAPSHOT)->step, 8);
    assert_int_equal(view(&b).frontier, 8);
    assert_int_equal(view(&b).branch, 1);
    assert_int_equal(view(&b).mix_version, versions + 1);
    assert_int_equal(view(&b).steps_closed, 8);
    turns = mx_run_turns(b.run, &n);
    assert_int_equal(n, 1);
    assert_int_equal(turns[0].step, 8);
    assert_int_equal(turns[0].version, versions + 1);
    assert_int_equal(turns[0].index, b.disk.n);
    check_fold(&b);
    request(&b, 11);
    assert_non_null(effect(&b, MX_FX_HOLD)); /* nothing is reserved any more */
    post(&b, 11, 0, 1, 0, 3.0);
    assert_refused(&b, MX_NOT_SERVED, 8);
    train(&b, 8, 30, 5.0);
    assert_int_equal(mx_run_step(b.run, 8, 0, &at), MX_STEP_HERE);
    assert_int_equal(at.mix_version, versions + 1); /* a name of its own */
    assert_memory_equal(before, at.cursors, sizeof before);
    check_fold(&b);
    crash(&b);
    assert_true(view(&b).frontier >= 30);
    assert_int_equal(view(&b).branch, 1);
    teardown(&b);
}

/* Reports of steps before S count however late, mixes and commands only with effect before S. */
static void what_concerns_earlier_steps_is_kept(void **state)
{
    struct bench b;
    double weights[K];

    (void)state;
    setup(&b, "ema");
    b.c.max_ahead = 100;
    open_run(&b);
    train(&b, 0, 10, 2.0);
    set_weights_at(&b, 15, 0, 0, 1);
    write_all(&b);
    pass_over(&b, 12, 18);
    write_all(&b);
    serve_upto(&b, 12);
    serve(&b, 18);
    train(&b, 19, 25, 3.0);
    post(&b, 10, 0, 1, 1, 9.0); /* late */
    write_all(&b);
    set_weights_at(&b, 40, 1, 0, 0);
    write_all(&b);
    command(&b, MX_EV_STOP, (struct mx_entry){.step = 0});
    write_all(&b);
    go_back(&b, 14);
    assert_int_equal(view(&b).frontier, 14);
    assert_int_equal(view(&b).stopped, 0);
    assert_int_equal(view(&b).next_version, 0); /* none is set for a step to come */
    assert_int_equal(view(&b).last_closed, 10);
    assert_true(view(&b).loss[1] == 9.0);
    memcpy(weights, view(&b).weights, sizeof weights);
    request(&b, 13);
    assert_refused(&b, MX_SKIPPED, 14); /* as far as it went before the step */
    write_all(&b); /* what the late report taught is the branch's first mix */
    assert_int_equal(view(&b).mix_version, view(&b).versions);
    assert_int_equal(view(&b).mix_step, 14);
    serve(&b, 50);
    assert_memory_equal(weights, view(&b).weights, sizeof weights);
    check_fold(&b);
    teardown(&b);
}

static void what_was_withdrawn_stays_gone(void **state)
{
    struct bench b;
    uint64_t shares[K];
    size_t n;

    (void)state;
    setup(&b, "static");
    b.domains[0].samples = 100;
    b.domains[1].samples = 100;
    open_run(&b);
    serve_upto(&b, 10);
    adopt(&b, 0, 1000, 1);
    write_all(&b);
    withdraw(&b, 1, 1, 0, 50);
    write_all(&b);
    serve_upto(&b, 20);
    withdraw(&b, 0, 1, 0, 51);
    write_all(&b);
    serve_upto(&b, 30);
    freeze(&b);
    /* Over half of what the first domain was then. */
    assert_null(unwound(&b.c, &b.disk, NULL, 0, 9, shares, &n));
    assert_null(unwound(&b.c, &b.disk, NULL, 0, 10, shares, &n));
    ask_back(&b, 11);
    write_all(&b);
    assert_int_equal(mx_run_domains(b.run)[0].n_gone, 1);
    assert_int_equal(mx_run_domains(b.run)[0].gone[0].from, view(&b).cursors[0]);
    assert_int_equal(mx_run_domains(b.run)[1].n_gone, 1);
    assert_true(mx_run_domains(b.run)[1].gone[0].from < view(&b).cursors[1]);
    assert_int_equal(mx_run_withdrawn(b.run, 0), 1);
    assert_int_equal(mx_run_domains(b.run)[0].n_stretches, 1);
    serve_upto(&b, 40);
    check_fold(&b);
    go_back(&b, 11);
    assert_int_equal(mx_run_domains(b.run)[0].n_gone, 1);
    teardown(&b);
}

static void growth_after_the_step_is_undone(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "static");
    b.domains[2].samples = 100;
    b.domains[2].max_epochs = 3;
    b.domains[2].budget = 300;
    open_run(&b);
    serve_upto(&b, 10);
    adopt(&b, 2, 500, 1);
    write_all(&b);
    serve_upto(&b, 15);
    assert_true(mx_run_domains(b.run)[2].budget > 1000);
    go_back(&b, 10);
    assert_int_equal(mx_run_domains(b.run)[2].n_stretches, 0);
    assert_int_equal(mx_run_domains(b.run)[2].budget, 300);
    serve_upto(&b, 60);
    assert_int_equal(view(&b).cursors[2], 300);
    check_fold(&b);
    teardown(&b);
}

/* To before an earlier rewind, and to behind one. */
static void a_run_goes_back_again(void **state)
{
    struct bench b;
    const struct mx_turn *turns;
    uint32_t n;
    uint64_t old;

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    train(&b, 0, 20, 2.0);
    go_back(&b, 12);
    train(&b, 12, 30, 4.0);
    go_back(&b, 25); /* behind it */
    turns = mx_run_turns(b.run, &n);
    assert_int_equal(n, 2);
    assert_int_equal(turns[0].step, 12);
    assert_int_equal(turns[1].step, 25);
    train(&b, 25, 35, 1.0);
    old = version_of(&b, 27);
    go_back(&b, 6); /* before both */
    turns = mx_run_turns(b.run, &n);
    assert_int_equal(n, 1);
    assert_int_equal(turns[0].step, 6);
    assert_int_equal(view(&b).branch, 3);
    train(&b, 6, 40, 3.0);
    assert_true(version_of(&b, 27) > old);
    check_fold(&b);
    go_back(&b, 40); /* to where it is: the same again under a new version */
    assert_int_equal(view(&b).frontier, 40);
    assert_int_equal(view(&b).branch, 4);
    write_all(&b);
    check_fold(&b);
    crash(&b);
    assert_int_equal(view(&b).branch, 4);
    teardown(&b);
}

static void an_end_can_be_gone_back_from(void **state)
{
    struct bench b;
    uint64_t end;

    (void)state;
    setup(&b, "static");
    b.domains[2].budget = 100;
    b.domains[2].on_exhausted = MX_EXHAUSTED_STOP;
    open_run(&b);
    serve_upto(&b, 16);
    request(&b, 16);
    write_all(&b);
    end = view(&b).exhausted_step;
    assert_int_equal(end, 16);
    go_back(&b, end);
    assert_int_equal(view(&b).exhausted, 0);
    set_weights(&b, 1, 1, 0);
    write_all(&b);
    serve_upto(&b, 40);
    check_fold(&b);
    teardown(&b);
}

/* Ranks that were missing when the run went back have their time anew. */
static void open_steps_have_their_time_anew(void **state)
{
    struct bench b;
    struct mx_event timer = {.kind = MX_EV_TIMER};

    (void)state;
    setup(&b, "odm");
    open_run(&b);
    serve_upto(&b, 12);
    post(&b, 5, 0, 2, 0, 4.0);
    post(&b, 9, 0, 2, 0, 4.0);
    write_all(&b);
    b.now_ms += 300;
    freeze(&b);
    ask_back(&b, 8);
    write_one(&b);
    assert_int_equal(view(&b).open_steps, 1);
    assert_int_equal(must(&b, MX_FX_ARM)->at_ms, b.now_ms + 500);
    write_all(&b);
    b.now_ms += 499;
    give(&b, &timer);
    assert_int_equal(b.queue.n, 0);
    b.now_ms += 1;
    give(&b, &timer);
    write_all(&b);
    assert_int_equal(view(&b).timeouts, 1);
    teardown(&b);
}

static void a_left_branch_is_known_by_its_versions(void **state)
{
    struct bench b;
    struct mx_entry e = {.world = 1};
    struct mx_event ev = {.kind = MX_EV_FEEDBACK, .handle = 9, .entry = &e};
    uint64_t old, turn, *words;
    size_t n;

    (void)state;
    setup(&b, "ema");
    open_run(&b);
    train(&b, 0, 20, 2.0);
    old = version_of(&b, 15);
    go_back(&b, 10);
    turn = view(&b).mix_version;
    write_all(&b);
    serve_upto(&b, 16);
    words = saved(b.run, &n);
    b.run = mx_run_init(b.memory, &b.c); /* a restart: steps are no longer in memory */
    assert_int_equal(mx_run_load(b.run, words, n), 0);
    free(words);
    while (mx_run_recovered(b.run, b.now_ms, b.now_ms, &b.fx)) {
    }
    collect(&b);
    write_all(&b);
    e.step = 15;
    e.mix_version = old;
    give(&b, &ev);
    assert_refused(&b, MX_BAD_VERSION, old);
    e.step = 9;
    e.mix_version = turn;
    give(&b, &ev);
    assert_refused(&b, MX_BAD_VERSION, turn);
    e.step = 15;
    give(&b, &ev);
    assert_non_null(effect(&b, MX_FX_APPEND));
    teardown(&b);
}

/* ---- snapshots to begin with ---------------------------------------------------------------- */

static void a_snapshot_gives_the_same_state(void **state)
{
    struct bench b;
    uint64_t *snapshot, *a, *c, shares[K], others[K];
    size_t n, a_n, c_n;

    (void)state;
    setup(&b, "ema");
    b.c.max_ahead = 100;
    open_run(&b);
    train(&b, 0, 10, 2.0);
    set_weights_at(&b, 11, 0, 0, 1);
    write_all(&b);
    serve_upto(&b, 12);
    snapshot = saved(b.run, &n);
    post(&b, 10, 0, 1, 1, 3.0);
    write_all(&b);
    train(&b, 12, 20, 5.0);
    withdraw(&b, 1, 1, 5, 10);
    write_all(&b);
    train(&b, 20, 30, 1.0);
    for (uint64_t step = 13; step <= 25; step += 4) {
        a = unwound(&b.c, &b.disk, NULL, 0, step, shares, &a_n);
        c = unwound(&b.c, &b.disk, snapshot, n, step, others, &c_n);
        assert_non_null(a);
        assert_non_null(c);
        assert_int_equal(a_n, c_n);
        assert_memory_equal(a, c, a_n * sizeof *a);
        assert_memory_equal(shares, others, sizeof shares);
        free(a);
        free(c);
    }
    free(snapshot);
    teardown(&b);
}

/* Whether a snapshot of the present state would do to go back to a step. */
static int would_do(struct bench *b, uint64_t step)
{
    void *memory = test_get(1, mx_run_size(&b->c));
    struct mx_run *r = mx_run_init(memory, &b->c);
    size_t n;
    uint64_t *words = saved(b->run, &n);
    int will;

    assert_int_equal(mx_run_load(r, words, n), 0);
    will = mx_run_unwinds(r, step);
    free(words);
    free(memory);
    return will;
}

static void a_snapshot_that_knows_too_much_is_told(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, "static");
    b.c.max_ahead = 100;
    open_run(&b);
    serve_upto(&b, 10);
    assert_false(would_do(&b, 9));
    assert_false(would_do(&b, 10)); /* something may have acted at the frontier */
    assert_true(would_do(&b, 11));
    set_weights_at(&b, 20, 1, 0, 0);
    write_all(&b);
    assert_false(would_do(&b, 20));
    assert_true(would_do(&b, 21));
    pass_over(&b, 15, 30);
    write_all(&b);
    assert_false(would_do(&b, 29));
    assert_true(would_do(&b, 30));
    freeze(&b);
    ask_back(&b, 8);
    write_one(&b);
    assert_true(would_do(&b, 8)); /* as the entry has made it */
    assert_false(would_do(&b, 7));
    write_all(&b);
    request(&b, 8);
    write_all(&b);
    assert_false(would_do(&b, 8));
    command(&b, MX_EV_STOP, (struct mx_entry){.step = 0});
    write_all(&b);
    assert_false(would_do(&b, 9));
    teardown(&b);
}

/* ---- forks ---------------------------------------------------------------------------------- */

/* A run of the same config that goes on from another's step; its first entry is on its way. */
static void fork_run(struct bench *from, uint64_t step, struct bench *to)
{
    uint64_t shares[K];
    struct mx_entry e = {.step = step, .shares = shares, .source = 4, .author = "op",
                         .author_len = 2, .mix_version = view(from).versions + 1};
    struct mx_entry first;
    uint64_t *words = unwound(&from->c, &from->disk, NULL, 0, step, shares, &e.n_words);

    assert_non_null(words);
    e.words = words;
    *to = (struct bench){.c = from->c, .now_ms = 1000};
    memcpy(to->params, from->params, sizeof to->params);
    to->mixer = from->mixer;
    to->mixer.policy.params = to->params;
    to->c.mixers = &to->mixer;
    to->memory = test_get(1, mx_run_size(&to->c));
    to->run = mx_run_init(to->memory, &to->c);
    mx_run_fork_entry(to->run, 1, &e, &first);
    assert_int_equal(first.source, 4);
    journal_put(&to->queue, &first, K, 0);
    free(words);
}

static void a_fork_goes_on_alone(void **state)
{
    struct bench a, b;
    struct mx_step at;
    uint64_t cursors[K], version;

    (void)state;
    setup(&a, "odm");
    open_run(&a);
    train(&a, 0, 20, 2.0);
    version = view(&a).versions + 1;
    assert_int_equal(mx_run_step(a.run, 12, 0, &at), MX_STEP_HERE);
    memcpy(cursors, at.cursors, sizeof cursors);
    fork_run(&a, 12, &b);
    assert_int_equal(view(&b).applied, 0);
    assert_int_equal(view(&b).frontier, 12);
    request(&b, 12); /* behind its first entry, which is on its way */
    assert_non_null(effect(&b, MX_FX_HOLD));
    request(&b, 11);
    assert_refused(&b, MX_BEFORE_FORK, 12);
    set_weights(&b, 1, 0, 0);
    assert_refused(&b, MX_CHANGING, 12);
    write_one(&b);
    assert_int_equal(must(&b, MX_FX_SNAPSHOT)->step, 12);
    write_all(&b);
    assert_int_equal(view(&b).first_step, 12);
    assert_int_equal(view(&b).mix_version, version);
    assert_int_equal(view(&b).branch, 0);
    serve(&b, 12);
    assert_int_equal(mx_run_step(b.run, 12, 0, &at), MX_STEP_HERE);
    assert_memory_equal(cursors, at.cursors, sizeof cursors);
    post(&b, 11, 0, 1, 0, 3.0);
    assert_refused(&b, MX_BEFORE_FORK, 12);
    pass_over(&b, 11, 13);
    assert_int_equal(refusal(&b).verdict, MX_BAD_RANGE);
    assert_int_equal(refusal(&b).u[1], 12);
    train(&b, 12, 40, 7.0);
    check_fold(&b);
    crash(&b);
    write_all(&b);
    assert_int_equal(view(&b).first_step, 12);
    go_back(&b, 20); /* and back in its turn */
    train(&b, 20, 30, 3.0);
    check_fold(&b);
    assert_null(unwound(&b.c, &b.disk, NULL, 0, 11, cursors, &(size_t){0}));
    go_back(&b, 12);
    check_fold(&b);
    teardown(&b);
    teardown(&a);
}

/* Steps before its first are nobody's to report. */
static void a_fork_in_lockstep_begins(void **state)
{
    struct bench a, b;

    (void)state;
    setup(&a, "ema");
    a.c.lag = 3;
    open_run(&a);
    write_all(&a);
    train(&a, 0, 9, 2.0);
    serve(&a, 9);
    serve(&a, 10);
    post(&a, 10, 0, 4, 0, 4.0); /* a quarter of step 10, nothing of step 9 */
    write_all(&a);
    fork_run(&a, 11, &b);
    write_all(&b);
    assert_int_equal(view(&b).open_steps, 0);
    assert_int_equal(view(&b).timeouts, 1);
    assert_int_equal(view(&b).consumed, 11);
    for (uint64_t step = 11; step < 14; step++) {
        serve(&b, step);
    }
    request(&b, 14);
    assert_non_null(effect(&b, MX_FX_HOLD));
    train(&b, 11, 30, 3.0);
    check_fold(&b);
    request(&a, 12); /* the other run still waits */
    assert_non_null(effect(&a, MX_FX_HOLD));
    teardown(&b);
    teardown(&a);
}

/* The same losses again make the same steps again. */
static void going_back_in_lockstep(void **state)
{
    struct bench b;
    uint64_t cursors[K], shares[K];

    (void)state;
    setup(&b, "ema");
    b.c.lag = 2;
    open_run(&b);
    write_all(&b);
    train(&b, 0, 20, 2.0);
    memcpy(cursors, view(&b).cursors, sizeof cursors);
    memcpy(shares, view(&b).shares, sizeof shares);
    serve(&b, 21);
    go_back(&b, 13);
    train(&b, 13, 20, 2.0);
    assert_int_equal(view(&b).frontier, 20);
    assert_memory_equal(cursors, view(&b).cursors, sizeof cursors);
    assert_memory_equal(shares, view(&b).shares, sizeof shares);
    check_fold(&b);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frozen_run_stands_still),
        cmocka_unit_test(only_what_fits_goes_back),
        cmocka_unit_test(history_goes_another_way),
        cmocka_unit_test(what_concerns_earlier_steps_is_kept),
        cmocka_unit_test(what_was_withdrawn_stays_gone),
        cmocka_unit_test(growth_after_the_step_is_undone),
        cmocka_unit_test(a_run_goes_back_again),
        cmocka_unit_test(an_end_can_be_gone_back_from),
        cmocka_unit_test(open_steps_have_their_time_anew),
        cmocka_unit_test(a_left_branch_is_known_by_its_versions),
        cmocka_unit_test(a_snapshot_gives_the_same_state),
        cmocka_unit_test(a_snapshot_that_knows_too_much_is_told),
        cmocka_unit_test(a_fork_goes_on_alone),
        cmocka_unit_test(a_fork_in_lockstep_begins),
        cmocka_unit_test(going_back_in_lockstep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
