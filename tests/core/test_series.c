/* test_series.c - what a domain draws, while it grows and loses samples: against a plain list. */
#include "tests/core/check.h"

#include "daemon/core/digest.h"
#include "daemon/core/series.h"

#include <xxhash.h>

#define STRETCHES 40
#define GONE 40
#define PLACES 3000
#define SAMPLES 900

struct world {
    struct dice d;
    struct mx_plan_domain domain;
    struct mx_stretch stretches[STRETCHES];
    struct mx_gone gone[GONE];
    struct mx_series s;
};

/* The first PLACES places: sample, epoch, whether it is drawn. */
struct list {
    uint64_t sample[PLACES], epoch[PLACES];
    int drawn[PLACES];
};

static void make_world(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->d.state = seed;
    w->domain = (struct mx_plan_domain){.samples = 1 + below(&w->d, 200),
                                        .budget = MX_NO_BUDGET,
                                        .chunk = 1 + (uint32_t)below(&w->d, 9),
                                        .window = 1 + (uint32_t)below(&w->d, 4),
                                        .stretches = w->stretches,
                                        .gone = w->gone};
    w->s = (struct mx_series){roll(&w->d), &w->domain, (uint32_t)below(&w->d, 5), 1};
}

static void fill_list(const struct world *w, struct dice *d, struct list *l)
{
    struct mx_series_cache cache = {.valid = 0};
    uint64_t c = 0;

    while (c < PLACES) {
        uint32_t want = 1 + (uint32_t)below(d, 80), m;
        uint64_t sample[MX_SERIES_RUN], epoch;

        want = want < PLACES - c ? want : (uint32_t)(PLACES - c);
        m = mx_series_run(&w->s, &c, want, sample, &epoch, &cache);
        assert_true(m >= 1 && m <= want && m <= MX_SERIES_RUN);
        for (uint32_t i = 0; i < m; i++, c++) {
            assert_true(sample[i] < mx_series_samples(&w->domain, c));
            l->sample[c] = sample[i];
            l->epoch[c] = epoch;
            l->drawn[c] = !mx_series_gone(&w->s, c, sample[i]);
        }
    }
}

/* Each sample once in each epoch that ends within the list, and as many as there are. */
static void check_epochs(const struct world *w, const struct list *l)
{
    static uint64_t last_seen[SAMPLES]; /* epoch + 1 */
    uint64_t in_epoch = 0;

    memset(last_seen, 0, sizeof last_seen);
    for (uint64_t c = 0; c < PLACES; c++) {
        uint64_t epoch, left;

        if (c > 0 && l->epoch[c] != l->epoch[c - 1]) {
            assert_int_equal(l->epoch[c], l->epoch[c - 1] + 1);
            assert_int_equal(in_epoch, mx_series_samples(&w->domain, c - 1));
            in_epoch = 0;
        }
        assert_true(last_seen[l->sample[c]] != l->epoch[c] + 1);
        last_seen[l->sample[c]] = l->epoch[c] + 1;
        in_epoch++;
        mx_series_epoch(&w->s, c, &epoch, &left);
        assert_int_equal(epoch, l->epoch[c]);
        assert_true(left >= 1 && in_epoch - 1 + left == mx_series_samples(&w->domain, c));
    }
}

static void check_find(const struct world *w, struct dice *d, const struct list *l)
{
    for (int i = 0; i < 60; i++) {
        uint64_t sample = below(d, w->domain.samples + 200), c = below(d, PLACES);
        uint64_t at = c, end = c + below(d, PLACES - c + 1), epoch = 0;
        int found = mx_series_find(&w->s, sample, &at, end, &epoch);

        for (; c < end && !(l->sample[c] == sample && l->drawn[c]); c++) {
        }
        assert_int_equal(found, c < end);
        if (found) {
            assert_int_equal(at, c);
            assert_int_equal(epoch, l->epoch[c]);
        }
    }
}

static void check_draw(struct world *w, struct dice *d, const struct list *l)
{
    for (int i = 0; i < 30; i++) {
        uint64_t c = below(d, PLACES / 2), budget = c + below(d, 300), after, want_after = c;
        uint32_t want = (uint32_t)below(d, 200), got = 0, had;

        w->domain.budget = below(d, 2) == 0 ? MX_NO_BUDGET : budget;
        had = mx_series_draw(&w->s, c, want, &after);
        for (uint64_t at = c; at < PLACES && at < w->domain.budget && got < want; at++) {
            got += (uint32_t)l->drawn[at];
            want_after = l->drawn[at] ? at + 1 : want_after;
        }
        w->domain.budget = MX_NO_BUDGET;
        assert_int_equal(had, got);
        assert_int_equal(after, want_after);
    }
}

static void grow(struct world *w, uint64_t cursor)
{
    uint64_t samples = mx_series_samples(&w->domain, cursor) + below(&w->d, 60);
    struct mx_stretch stretch;
    uint32_t keep;

    if (w->domain.n_stretches == STRETCHES || samples > SAMPLES) {
        return;
    }
    for (uint32_t i = 0; i < w->domain.n_stretches;
         i++) { /* nothing shrinks, not even what is to come */
        samples = samples > w->stretches[i].samples ? samples : w->stretches[i].samples;
    }
    if (mx_series_grow(&w->s, cursor, samples, 1 + (uint32_t)below(&w->d, 9), below(&w->d, 2) == 0,
                       &stretch, &keep) == 0) {
        assert_true(keep <= w->domain.n_stretches && stretch.from >= cursor);
        w->stretches[keep] = stretch;
        w->domain.n_stretches = keep + 1;
    }
}

static void withdraw(struct world *w, uint64_t cursor)
{
    uint64_t first = below(&w->d, w->domain.samples), count = 1 + below(&w->d, 3);
    uint32_t at = 0, n = w->domain.n_gone;

    while (at < n && w->gone[at].first <= first) {
        at++;
    }
    if (n == GONE || (at > 0 && w->gone[at - 1].first + w->gone[at - 1].count > first) ||
        (at < n && w->gone[at].first < first + count)) {
        return;
    }
    memmove(w->gone + at + 1, w->gone + at, (n - at) * sizeof *w->gone);
    w->gone[at] = (struct mx_gone){first, count, cursor};
    w->domain.n_gone++;
}

static void a_series_is_what_a_list_says(void **state)
{
    uint64_t first = test_seed("a_series_is_what_a_list_says", 1);
    static struct list before, after;
    uint64_t joined = 0, passed = 0;

    (void)state;
    for (uint64_t seed = first; seed < first + 120; seed++) {
        struct dice d = {seed * 77};
        struct world w;
        uint64_t cursor = 0;

        make_world(&w, seed);
        fill_list(&w, &d, &before);
        for (int i = 0; i < 12; i++) {
            cursor += below(&w.d, 120);
            if (below(&w.d, 3) == 0) {
                withdraw(&w, cursor);
            } else {
                grow(&w, cursor);
            }
            fill_list(&w, &d, &after);
            /* What lies before stays as it was. */
            assert_memory_equal(before.sample, after.sample, cursor * sizeof *before.sample);
            assert_memory_equal(before.epoch, after.epoch, cursor * sizeof *before.epoch);
            assert_memory_equal(before.drawn, after.drawn, cursor * sizeof *before.drawn);
            before = after;
        }
        check_epochs(&w, &after);
        check_find(&w, &d, &after);
        check_draw(&w, &d, &after);
        for (uint32_t i = 0; i < w.domain.n_stretches; i++) {
            joined += w.stretches[i].depth > 1;
        }
        for (uint64_t c = 0; c < PLACES; c++) {
            passed += !after.drawn[c];
        }
    }
    assert_true(joined > 5 && passed > 200);
}

/* max_epochs times each sample, also when the domain has grown: counted from the list. */
static void a_budget_is_so_many_epochs(void **state)
{
    uint64_t first = test_seed("a_budget_is_so_many_epochs", 7);
    static struct list l;

    (void)state;
    for (uint64_t seed = first; seed < first + 100; seed++) {
        struct dice d = {seed};
        struct world w;
        uint64_t cursor = 0, budget;
        double whole;

        make_world(&w, seed);
        for (int i = 0; i < 6; i++) {
            cursor += below(&w.d, 150);
            grow(&w, cursor);
        }
        fill_list(&w, &d, &l);
        w.domain.max_epochs = whole = (double)(1 + below(&d, 6));
        budget = mx_series_budget(&w.domain);
        assert_true(budget >= PLACES || l.epoch[budget - 1] + 1 == (uint64_t)whole);
        assert_true(budget >= PLACES || l.epoch[budget] == (uint64_t)whole);
        w.domain.max_epochs = whole + 0.5;
        assert_true(mx_series_budget(&w.domain) >= budget);
        w.domain.max_epochs = whole + 1.0;
        assert_true(mx_series_budget(&w.domain) > budget);
        w.domain.max_epochs = 0.0;
        assert_true(mx_series_budget(&w.domain) == MX_NO_BUDGET);
    }
}

static void the_digest_is_xxh64(void **state)
{
    struct dice d = {5};
    uint64_t words[40];

    (void)state;
    for (int turn = 0; turn < 2000; turn++) {
        struct mx_digest g;
        size_t n = below(&d, 41);
        uint64_t seed = roll(&d);

        for (size_t i = 0; i < n; i++) {
            words[i] = roll(&d);
        }
        mx_digest_begin(&g, seed);
        mx_digest_words(&g, words, n);
        assert_true(mx_digest_end(&g) == XXH64(words, n * sizeof *words, seed));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_series_is_what_a_list_says),
        cmocka_unit_test(a_budget_is_so_many_epochs),
        cmocka_unit_test(the_digest_is_xxh64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
