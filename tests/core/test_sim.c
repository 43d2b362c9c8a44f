/* test_sim.c - a run, its trainers, its disk and its crashes, all simulated: a virtual clock,
 * random requests, repeats and orders, durability that comes late, and crashes at any time with
 * recovery from the journal, with and without a snapshot.
 *
 * Checked all along: nothing is served past what is reserved; a mix never takes effect below the
 * frontier of its making; a held request always has something under way; whatever is served twice
 * is the same. At the end every step that was served must be what the journal alone says, and
 * every way to rebuild the run must give the same words. One failing seed is run again alone by
 * MX_TEST_SEED. */
#include "tests/core/sim_world.h"

/* ---- what must always hold ------------------------------------------------------------------ */

static void check_view(struct sim *s)
{
    struct mx_run_view v;
    double sum = 0.0;
    uint64_t total = 0;

    mx_run_view(s->run, &v);
    assert_true(v.frontier <= v.reserved);
    assert_true(v.frontier <= s->c.end_step);
    assert_true(v.applied == s->disk.n);
    for (uint32_t i = 0; i < s->c.plan.k; i++) {
        assert_true(isfinite(v.weights[i]) && v.weights[i] >= 0.0);
        assert_true(v.shares[i] <= MX_SHARE_ONE);
        sum += v.weights[i];
        total += v.shares[i];
    }
    assert_true(fabs(sum - 1.0) < 1e-9);
    assert_true(v.applied == 0 || total == MX_SHARE_ONE);
}

static void remember(const struct sim *s, const struct mx_step *at, struct served *to)
{
    to->here = 1;
    to->version = at->mix_version;
    memcpy(to->cursors, at->cursors, s->c.plan.k * sizeof *to->cursors);
    memcpy(to->prefix, at->prefix, (s->c.plan.k + 1) * sizeof *to->prefix);
}

static void check_same(const struct sim *s, const struct mx_step *at, const struct served *before)
{
    assert_int_equal(before->version, at->mix_version);
    assert_memory_equal(before->cursors, at->cursors, s->c.plan.k * sizeof *at->cursors);
    assert_memory_equal(before->prefix, at->prefix, (s->c.plan.k + 1) * sizeof *at->prefix);
}

/* A step goes out: it must be planned, reserved on disk, and what it was before. */
static void serve(struct sim *s, uint64_t step)
{
    struct mx_step at;
    struct mx_run_view v;

    mx_run_view(s->run, &v);
    assert_true(step < v.frontier);
    if (mx_run_step(s->run, step, 0, &at) == MX_STEP_OLD) {
        return; /* after a recovery: what it holds is checked from the journal in the end */
    }
    assert_int_equal(mx_run_step(s->run, step, 0, &at), MX_STEP_HERE);
    assert_int_equal(at.step, step);
    assert_true(step < STEPS_MAX);
    if (s->served[step].here) {
        check_same(s, &at, &s->served[step]);
    }
    if (s->trial[step].here) {
        check_same(s, &at, &s->trial[step]);
    }
    remember(s, &at, &s->served[step]);
    s->counts[SERVES]++;
}

/* ---- carrying out effects ------------------------------------------------------------------- */

static void hash_word(struct sim *s, uint64_t v)
{
    s->hash = (s->hash ^ v) * 0x100000001b3u;
    s->hash ^= s->hash >> 29;
}

static void hash_effect(struct sim *s, const struct mx_effect *f)
{
    hash_word(s, (uint64_t)f->kind);
    hash_word(s, (uint64_t)f->verdict);
    hash_word(s, f->handle);
    hash_word(s, f->step);
    hash_word(s, f->at_ms);
    hash_word(s, f->u[0]);
    hash_word(s, (uint64_t)f->entry.kind);
    hash_word(s, f->entry.step);
    for (uint32_t i = 0; f->entry.shares != NULL && i < f->entry.n; i++) {
        hash_word(s, f->entry.shares[i]);
    }
}

static void on_append(struct sim *s, const struct mx_effect *f)
{
    const struct mx_entry *e = &f->entry;
    struct mx_run_view v;

    mx_run_view(s->run, &v);
    assert_int_equal(e->index, s->disk.n + s->queue.n + 1);
    for (size_t i = 0; i < s->queue.n; i++) { /* these are under way one at a time */
        assert_true(e->kind != s->queue.entries[i].kind || (e->kind != MX_ENTRY_MIX &&
                    e->kind != MX_ENTRY_RESERVE && e->kind != MX_ENTRY_EXHAUSTED));
    }
    if (e->kind == MX_ENTRY_MIX) {
        assert_true(e->step >= v.frontier + s->c.lead && e->step >= v.mix_step);
        assert_int_equal(e->mix_version, v.mix_version + 1);
        s->counts[MIXES]++;
    }
    if (e->kind == MX_ENTRY_FEEDBACK) {
        for (uint32_t i = 0; i < e->n; i++) {
            assert_true(isfinite(e->losses[i].loss_sum) && e->losses[i].tokens > 0);
        }
        s->counts[QUARANTINES] += f->quarantined;
    }
    s->counts[CLOSES] += e->kind == MX_ENTRY_CLOSE;
    s->counts[EXHAUSTIONS] += e->kind == MX_ENTRY_EXHAUSTED;
    journal_put(&s->queue, e, f->handle);
}

static void carry_out(struct sim *s, const struct mx_effects *fx, const struct mx_event *asked)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        const struct mx_effect *f = &fx->fx[i];

        hash_effect(s, f);
        switch (f->kind) {
        case MX_FX_SERVE: serve(s, f->step); break;
        case MX_FX_HOLD:
            assert_non_null(asked);
            if (s->held_n < HELD_MAX) {
                s->held[s->held_n++] = *asked;
            }
            s->counts[HOLDS]++;
            break;
        case MX_FX_REFUSE: s->counts[REFUSALS]++; break;
        case MX_FX_APPEND: on_append(s, f); break;
        case MX_FX_DROP:
            for (uint64_t step = f->step; step < STEPS_MAX; step++) {
                s->trial[step].here = 0;
            }
            s->counts[DROPS]++;
            break;
        case MX_FX_SNAPSHOT:
            free(s->snapshot);
            s->snapshot = saved(s->run, &s->snapshot_words);
            break;
        case MX_FX_ARM: s->timer_ms = f->at_ms; break;
        }
    }
    for (uint32_t i = 0; i < fx->n; i++) { /* whoever waits, waits for something */
        assert_true(fx->fx[i].kind != MX_FX_HOLD || s->queue.n > 0);
    }
    check_view(s);
}

static void give(struct sim *s, struct mx_event *ev)
{
    struct mx_effects fx;

    ev->now_ms = s->now_ms;
    ev->wall_ms = s->now_ms + 1000000;
    mx_run_event(s->run, ev, &fx);
    carry_out(s, &fx, ev);
}

/* ---- what happens --------------------------------------------------------------------------- */

static void request(struct sim *s, uint32_t rank, uint64_t step)
{
    const struct trainer *t = &s->trainers[rank];
    struct mx_event ev = {.kind = MX_EV_REQUEST, .handle = rank + 1, .step = step, .rank = rank,
                          .world = s->world, .count = s->c.plan.batch};

    ev.oldest = t->to_post < step ? t->to_post : step;
    give(s, &ev);
}

static void a_trainer_asks(struct sim *s)
{
    uint32_t rank = (uint32_t)below(&s->d, s->world);
    struct trainer *t = &s->trainers[rank];
    uint64_t step = t->next;

    switch (below(&s->d, 12)) {
    case 0: step = below(&s->d, t->next + 1); break; /* once more */
    case 1: step = t->next + below(&s->d, 15); break; /* ahead, maybe too far */
    default: break;
    }
    if (step + 1 >= STEPS_MAX) {
        return;
    }
    request(s, rank, step);
    if (step == t->next && s->served[step].here) {
        t->next++;
    }
}

static void a_trainer_posts(struct sim *s)
{
    static const double odd[] = {NAN, INFINITY, -1.0, 1e300, 0.0, 1e6};
    uint32_t rank = (uint32_t)below(&s->d, s->world);
    struct trainer *t = &s->trainers[rank];
    struct mx_loss losses[K_MAX];
    struct mx_entry e = {.rank = rank, .world = s->world, .losses = losses};
    struct mx_event ev = {.kind = MX_EV_FEEDBACK, .handle = 100, .entry = &e};
    int again = below(&s->d, 6) == 0;

    e.step = again ? below(&s->d, t->to_post + 1) : t->to_post;
    if (!again && t->to_post >= t->next) {
        return;
    }
    for (uint32_t i = 0; i < s->c.plan.k; i++) {
        if (below(&s->d, 3) != 0) {
            double mean = 1 + 8 * unit(&s->d) * (i + 1) / K_MAX;

            losses[e.n++] = (struct mx_loss){i, 1, 10, 10 * mean};
            if (below(&s->d, 30) == 0) {
                losses[e.n - 1].loss_sum = odd[below(&s->d, sizeof odd / sizeof odd[0])];
            }
        }
    }
    if (below(&s->d, 10) == 0) {
        e.mix_version = below(&s->d, 5);
    }
    e.world += below(&s->d, 100) == 0;
    give(s, &ev);
    if (!again && below(&s->d, 10) != 0) { /* else it posts this one again */
        t->to_post++;
    }
    if (!again && below(&s->d, 40) == 0) {
        t->to_post = t->next; /* it forgets the rest: those steps run into their timeout */
    }
}

static void an_operator_acts(struct sim *s)
{
    double weights[K_MAX];
    struct mx_entry e = {.weights = weights, .n = s->c.plan.k, .author = "me", .author_len = 2};
    struct mx_event ev = {.kind = MX_EV_SET, .handle = 200, .entry = &e};

    for (uint32_t i = 0; i < s->c.plan.k; i++) {
        weights[i] = below(&s->d, 3) == 0 ? 0.0 : 1e3 * unit(&s->d);
    }
    if (below(&s->d, 10) == 0) {
        weights[0] = -1.0;
    }
    if (below(&s->d, 60) == 0) {
        ev.kind = MX_EV_STOP;
        s->counts[STOPS]++;
    }
    give(s, &ev);
}

/* Some of what is under way becomes durable and is applied; who was held asks again. */
static void the_disk_writes(struct sim *s)
{
    size_t n = 1 + below(&s->d, 5);

    for (; n > 0 && s->queue.n > 0; n--) {
        struct mx_event held[HELD_MAX];
        struct mx_effects fx;
        size_t held_n = s->held_n;

        journal_put(&s->disk, &s->queue.entries[0], 0);
        free((void *)(uintptr_t)s->queue.entries[0].losses);
        free((void *)(uintptr_t)s->queue.entries[0].shares);
        free((void *)(uintptr_t)s->queue.entries[0].weights);
        memmove(s->queue.entries, s->queue.entries + 1, --s->queue.n * sizeof *s->queue.entries);
        assert_int_equal(
            mx_run_apply(s->run, &s->disk.entries[s->disk.n - 1], s->now_ms, &fx), 0);
        carry_out(s, &fx, NULL);
        memcpy(held, s->held, sizeof held);
        s->held_n = 0;
        for (size_t i = 0; i < held_n; i++) {
            give(s, &held[i]);
        }
    }
}

static void look_ahead(struct sim *s)
{
    struct mx_run_view v;
    struct mx_step at;
    uint64_t step;

    mx_run_view(s->run, &v);
    step = v.frontier + below(&s->d, 20);
    if (step < STEPS_MAX && mx_run_step(s->run, step, 1, &at) == MX_STEP_HERE) {
        if (s->trial[step].here) {
            check_same(s, &at, &s->trial[step]);
        }
        for (size_t i = 0; i < s->queue.n; i++) { /* not under a mix that isn't durable */
            assert_true(s->queue.entries[i].kind != MX_ENTRY_MIX ||
                        s->queue.entries[i].step > step);
        }
        remember(s, &at, &s->trial[step]);
        s->counts[TRIALS]++;
    }
    check_view(s);
}

static void time_passes(struct sim *s)
{
    s->now_ms += below(&s->d, 200);
    if (s->now_ms >= s->timer_ms) {
        struct mx_event ev = {.kind = MX_EV_TIMER};

        s->timer_ms = UINT64_MAX;
        give(s, &ev);
    }
}

/* A run rebuilt from the first `words` of a snapshot (0: none) and the journal behind it. */
static struct mx_run *rebuild(struct sim *s, void *memory, const uint64_t *words, size_t n)
{
    struct mx_run *r = mx_run_init(memory, &s->c);
    struct mx_run_view v;
    struct mx_effects fx;

    if (n > 0) {
        assert_int_equal(mx_run_load(r, words, n), 0);
    }
    mx_run_view(r, &v);
    for (size_t i = v.applied; i < s->disk.n; i++) {
        assert_int_equal(mx_run_apply(r, &s->disk.entries[i], s->now_ms, &fx), 0);
        assert_int_equal(fx.n, 0);
    }
    return r;
}

static void a_crash(struct sim *s)
{
    size_t durable = below(&s->d, s->queue.n + 1);
    struct mx_effects fx;
    int load = s->snapshot != NULL && below(&s->d, 3) != 0;

    /* The disk may have taken some of what was under way without anybody hearing of it. */
    for (size_t i = 0; i < durable; i++) {
        journal_put(&s->disk, &s->queue.entries[i], 0);
    }
    journal_cut(&s->queue, 0);
    s->held_n = 0;
    s->timer_ms = UINT64_MAX;
    memset(s->trial, 0, sizeof s->trial);
    memset(s->memory, 0xa5, mx_run_size(&s->c)); /* init must not rely on zeroed memory */
    s->run = rebuild(s, s->memory, s->snapshot, load ? s->snapshot_words : 0);
    mx_run_recovered(s->run, s->now_ms, s->now_ms, &fx);
    carry_out(s, &fx, NULL);
    s->counts[CRASHES]++;
    s->counts[SNAPSHOT_LOADS] += (uint64_t)load;
}

/* ---- the end -------------------------------------------------------------------------------- */

/* Every step served must be what the mixes in the journal say, computed from step 0. */
static void check_against_journal(struct sim *s)
{
    struct mx_plan_mix *mixes = test_get(s->disk.n, sizeof *mixes);
    uint64_t cursors[K_MAX] = {0}, stop = UINT64_MAX;
    uint32_t counts[K_MAX], n = 0;

    for (size_t i = 0; i < s->disk.n; i++) {
        const struct mx_entry *e = &s->disk.entries[i];

        if (e->kind == MX_ENTRY_CREATE || e->kind == MX_ENTRY_MIX) {
            mixes[n++] = (struct mx_plan_mix){e->step, e->mix_version, e->shares};
        }
        if ((e->kind == MX_ENTRY_STOP || e->kind == MX_ENTRY_EXHAUSTED) && e->step < stop) {
            stop = e->step;
        }
    }
    for (uint64_t step = 0; step < STEPS_MAX; step++) {
        const struct served *g = &s->served[step];
        uint32_t mix = 0, sum = 0;
        uint64_t before[K_MAX];

        assert_true(!g->here || step < stop);
        memcpy(before, cursors, sizeof before);
        if (mx_plan_advance(&s->c.plan, mixes, n, step, step + 1, cursors, counts) >= 0) {
            for (; step < STEPS_MAX; step++) {
                assert_true(!s->served[step].here);
            }
            break;
        }
        if (!g->here) {
            continue;
        }
        while (mix + 1 < n && mixes[mix + 1].from_step <= step) {
            mix++;
        }
        assert_int_equal(g->version, mixes[mix].version);
        assert_memory_equal(g->cursors, before, s->c.plan.k * sizeof *before);
        for (uint32_t i = 0; i < s->c.plan.k; i++) {
            assert_int_equal(g->prefix[i], sum);
            sum += counts[i];
        }
    }
    free(mixes);
}

static uint64_t *recovered_words(struct sim *s, const uint64_t *words, size_t n, size_t *ret_n)
{
    void *memory = test_get(1, mx_run_size(&s->c));
    struct mx_run *r = rebuild(s, memory, words, n);
    struct mx_effects fx;
    uint64_t *got;

    mx_run_recovered(r, s->now_ms, s->now_ms, &fx);
    got = saved(r, ret_n);
    free(memory);
    return got;
}

/* The whole journal; the last snapshot and the rest; the live state and the rest: the same run. */
static void check_rebuilds(struct sim *s)
{
    size_t live_n, a_n, b_n, c_n;
    uint64_t *live = saved(s->run, &live_n);
    uint64_t *a = recovered_words(s, NULL, 0, &a_n);
    uint64_t *b = recovered_words(s, s->snapshot, s->snapshot_words, &b_n);
    uint64_t *c = recovered_words(s, live, live_n, &c_n);

    assert_int_equal(a_n, b_n);
    assert_memory_equal(a, b, a_n * sizeof *a);
    assert_int_equal(a_n, c_n);
    assert_memory_equal(a, c, a_n * sizeof *a);
    free(live);
    free(a);
    free(b);
    free(c);
}

static void create(struct sim *s)
{
    struct mx_entry first;

    mx_run_first_entry(s->run, 5, &first);
    journal_put(&s->queue, &first, 0);
}

static void simulate(struct sim *s, uint64_t seed, int events)
{
    make_world(s, seed);
    create(s);
    for (int i = 0; i < events; i++) {
        uint64_t what = below(&s->d, 1000);

        if (what < 380) {
            a_trainer_asks(s);
        } else if (what < 680) {
            a_trainer_posts(s);
        } else if (what < 880) {
            the_disk_writes(s);
        } else if (what < 940) {
            look_ahead(s);
        } else if (what < 980) {
            time_passes(s);
        } else if (what < 990) {
            an_operator_acts(s);
        } else if (s->disk.n > 0 && below(&s->d, 3) == 0) {
            a_crash(s);
        }
    }
    while (s->queue.n > 0) {
        the_disk_writes(s);
    }
    assert_int_equal(s->held_n, 0); /* nobody is left waiting */
    check_against_journal(s);
    check_rebuilds(s);
}

static void runs_keep_their_promises(void **state)
{
    uint64_t first = test_seed("runs_keep_their_promises", 1000), total[32] = {0};
    int only = getenv("MX_TEST_SEED") != NULL;
    struct sim *s = test_get(1, sizeof *s);

    (void)state;
    for (uint64_t seed = first; seed < first + (only ? 1 : 500); seed++) {
        print_message("\rseed %llu", (unsigned long long)seed); /* the last one seen failed */
        simulate(s, seed, 1500);
        for (int i = 0; i < 32; i++) {
            total[i] += s->counts[i];
        }
        free_world(s);
    }
    print_message("\n%llu crashes, %llu snapshots loaded, %llu served, %llu held, %llu refused, "
                  "%llu mixes, %llu timeouts, %llu stops, %llu exhausted, %llu drops, %llu tried "
                  "ahead, %llu quarantined\n",
                  (unsigned long long)total[CRASHES], (unsigned long long)total[SNAPSHOT_LOADS],
                  (unsigned long long)total[SERVES], (unsigned long long)total[HOLDS],
                  (unsigned long long)total[REFUSALS], (unsigned long long)total[MIXES],
                  (unsigned long long)total[CLOSES], (unsigned long long)total[STOPS],
                  (unsigned long long)total[EXHAUSTIONS], (unsigned long long)total[DROPS],
                  (unsigned long long)total[TRIALS], (unsigned long long)total[QUARANTINES]);
    for (int i = CRASHES; i <= QUARANTINES && !only; i++) {
        assert_true(total[i] > 0); /* the simulation does reach all of it */
    }
    free(s);
}

static void a_seed_gives_the_same_run_twice(void **state)
{
    struct sim *s = test_get(1, sizeof *s);

    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        uint64_t hash;

        simulate(s, seed, 800);
        hash = s->hash;
        free_world(s);
        simulate(s, seed, 800);
        assert_true(hash == s->hash && hash != 0);
        free_world(s);
    }
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_keep_their_promises),
        cmocka_unit_test(a_seed_gives_the_same_run_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
