/* test_parts.c - runs whose batches change their size and length: orders of groups, and plans over
 * several parts against a slow model that lists each epoch place by place. */
#include "tests/core/check.h"

#include "daemon/core/plan.h"
#include "daemon/core/rng.h"
#include "daemon/core/shares.h"

#include <math.h>

#define K_MAX 4
#define STEPS 60u
#define BATCH_MOST 24u
#define SAMPLES_MOST 500u
#define DRAWN_MOST 2000
#define NONE UINT64_MAX

/* ---- orders of groups ----------------------------------------------------------------------- */

/* An epoch as it must be, from the permutation of its chunks alone: where windows begin, and how
 * many whole groups the chunks of each hold. */
struct frame {
    uint64_t starts[SAMPLES_MOST + 1], groups[SAMPLES_MOST];
    uint32_t window_of[SAMPLES_MOST]; /* of each sample */
    uint32_t n;                       /* windows; starts[n] is the end */
};

static void make_frame(struct frame *f, uint64_t n, uint32_t chunk, uint32_t window,
                       uint32_t length, uint64_t key)
{
    uint64_t chunks = (n + chunk - 1) / chunk, at = 0;
    struct mx_perm outer;

    memset(f, 0, sizeof *f);
    mx_perm_init(&outer, chunks, key);
    for (uint64_t i = 0; i < chunks; i++) {
        uint64_t first = mx_perm_at(&outer, i) * chunk;
        uint64_t end = first + chunk < n ? first + chunk : n;

        if (i % window == 0) {
            f->starts[f->n++] = at;
        }
        f->groups[f->n - 1] += (end - first) / length;
        for (uint64_t s = first; s < end; s++) {
            f->window_of[s] = f->n - 1;
        }
        at += end - first;
    }
    f->starts[f->n] = at;
    assert_int_equal(at, n);
}

static void check_window(const struct frame *f, uint32_t number, const struct mx_order *o,
                         uint8_t *seen)
{
    struct mx_order_window w = {.size = 0};
    uint64_t start = f->starts[number], end = start + f->groups[number] * o->length;

    for (uint64_t i = start; i < f->starts[number + 1]; i++) {
        uint64_t next = mx_order_next(o, i, &w);
        uint64_t aligned = start + (i - start + o->length - 1) / o->length * o->length;
        uint64_t sample;

        assert_int_equal(mx_order_window_end(o, i, &w), i == start ? i : f->starts[number + 1]);
        assert_true(aligned < end ? next == aligned : next >= f->starts[number + 1]);
        if (i >= end || (i - start) % o->length != 0) {
            continue;
        }
        sample = mx_order_at(o, i);
        assert_int_equal(sample % o->length, 0);
        for (uint32_t j = 0; j < o->length; j++) {
            assert_true(sample + j < o->n && f->window_of[sample + j] == number);
            assert_false(seen[sample + j]++);
            assert_int_equal(mx_order_inverse(o, sample + j), i);
        }
    }
}

/* Every whole group once, its samples in a row, in the window where its chunk is; of length 1 it is
 * the order as it always was. */
static void orders_of_groups_hold_each_group_once(void **state)
{
    struct dice d = {test_seed("orders_of_groups_hold_each_group_once", 71)};
    static struct frame f;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint32_t length = 1 + (uint32_t)below(&d, 6), window = 1 + (uint32_t)below(&d, 5);
        uint32_t chunk = length * (1 + (uint32_t)below(&d, 6));
        uint64_t n = length + below(&d, SAMPLES_MOST - length), key = roll(&d), at = 0;
        uint64_t some[64];
        uint8_t seen[SAMPLES_MOST] = {0};
        struct mx_order_window w = {.size = 0};
        struct mx_order o, plain;

        mx_order_init_long(&o, n, chunk, window, length, key);
        mx_order_init(&plain, n, chunk, window, key);
        make_frame(&f, n, chunk, window, length, key);
        for (uint32_t i = 0; i < f.n && chunk > 1; i++) {
            check_window(&f, i, &o, seen);
        }
        assert_int_equal(mx_order_whole(&o), n / length * length);
        for (uint64_t s = 0; s < n && chunk > 1; s++) {
            assert_int_equal(seen[s], s < mx_order_whole(&o));
        }
        while ((at = mx_order_next(&o, at, &w)) < n) {
            uint32_t want = 1 + (uint32_t)below(&d, 64);
            uint32_t left = (uint32_t)(n - at);
            uint32_t got = mx_order_run(&o, at, want < left ? want : left, some, &w);

            assert_true(got >= 1 && got <= want);
            for (uint32_t i = 0; i < got; i++, at += length) {
                assert_int_equal(some[i], mx_order_at(&o, at));
                assert_true(length > 1 || some[i] == mx_order_at(&plain, at));
            }
        }
    }
}

/* ---- a run in parts ------------------------------------------------------------------------- */

/* One thing that was drawn. */
struct drawn {
    uint64_t step, cursor, sample;
    uint32_t epoch, slot;
};

/* A domain, place by place. */
struct list {
    uint64_t samples, later, epoch, begin, cursor; /* begin: where the epoch began */
    uint32_t chunk;
    uint64_t laid_epoch;
    uint32_t laid_length; /* 0: nothing is laid */
    struct frame frame;
    uint64_t at[SAMPLES_MOST]; /* what begins at each place of the epoch, or NONE */
    uint8_t gone[SAMPLES_MOST];
    uint64_t gone_from[SAMPLES_MOST];
    uint64_t seen[SAMPLES_MOST]; /* epoch + 1 in which each was drawn last */
    struct drawn drawn[DRAWN_MOST];
    int n_drawn;
};

struct world {
    struct dice d;
    struct mx_plan_spec spec;
    struct mx_plan_part parts[3];
    struct mx_plan_domain domains[K_MAX];
    struct mx_stretch stretches[K_MAX][8];
    struct mx_gone gone[K_MAX][8];
    uint32_t takes[3 * K_MAX];
    uint64_t shares[K_MAX], cursors[K_MAX];
    uint64_t at_step[STEPS + 1][K_MAX]; /* cursors before each step */
    struct list lists[K_MAX];
    uint64_t roundings, empties, overs, gone_groups;
};

static void make_parts(struct world *w)
{
    static const uint32_t lengths[][3] = {{1, 2, 4}, {1, 4, 2}, {4, 1, 2}, {1, 1, 3}, {1, 3, 3},
                                          {2, 1, 2}, {1, 6, 2}, {1, 1, 1}, {1, 5, 1}};
    const uint32_t *lots = lengths[below(&w->d, 9)];
    uint64_t from = 0;

    w->spec.n_parts = 2 + (uint32_t)below(&w->d, 2);
    w->spec.parts = w->parts;
    for (uint32_t i = 0; i < w->spec.n_parts; i++) {
        struct mx_plan_part *p = &w->parts[i];

        p->from_step = from;
        p->length = lots[i];
        p->block = w->spec.sampling == MX_SAMPLING_BLOCK ? 1 + (uint32_t)below(&w->d, 3) : 1;
        p->batch = p->block * (1 + (uint32_t)below(&w->d, BATCH_MOST / 3));
        from += 1 + below(&w->d, 25);
    }
    w->spec.batch = w->parts[0].batch;
    w->spec.block = w->parts[0].block;
}

/* A few ranges, to be gone at some time: each M samples at most a quarter of all. */
static void make_gone(struct world *w, uint32_t i)
{
    struct mx_plan_domain *d = &w->domains[i];
    uint64_t at = below(&w->d, 20);

    d->gone = w->gone[i];
    while (d->n_gone < 4 && below(&w->d, 3) != 0 && at + 8 < d->samples) {
        uint64_t count = 1 + below(&w->d, 4);

        w->gone[i][d->n_gone++] = (struct mx_gone){at, count, NONE};
        at += count + d->samples / 4;
    }
}

static void make_world(struct world *w, uint64_t seed)
{
    uint64_t scratch[K_MAX];
    double p[K_MAX], sum = 0.0;

    memset(w, 0, sizeof *w);
    w->d.state = seed;
    w->spec = (struct mx_plan_spec){.seed = roll(&w->d), .k = 1 + (uint32_t)below(&w->d, K_MAX),
                                    .sampling = (enum mx_sampling)below(&w->d, 3),
                                    .domains = w->domains};
    make_parts(w);
    for (uint32_t i = 0; i < w->spec.k; i++) {
        struct mx_plan_domain *d = &w->domains[i];

        *d = (struct mx_plan_domain){
            .samples = 40 + below(&w->d, 200), .budget = MX_NO_BUDGET,
            .chunk = mx_plan_chunk(&w->spec, 1 + (uint32_t)below(&w->d, 9)),
            .window = 1 + (uint32_t)below(&w->d, 4), .stretches = w->stretches[i]};
        if (below(&w->d, 3) == 0) {
            d->max_epochs = 0.3 + 2 * unit(&w->d);
            d->budget = (uint64_t)floor(d->max_epochs * (double)d->samples);
            d->on_exhausted = (enum mx_on_exhausted)below(&w->d, 3);
        }
        make_gone(w, i);
        w->lists[i] = (struct list){.samples = d->samples, .chunk = d->chunk};
        p[i] = 0.1 + unit(&w->d);
        sum += p[i];
    }
    for (uint32_t i = 0; i < w->spec.k; i++) {
        p[i] /= sum;
    }
    mx_shares_quantise(p, w->spec.k, w->shares, scratch);
    if (below(&w->d, 3) == 0) {
        w->spec.takes_below = w->takes;
        for (uint32_t i = 0; i < w->spec.n_parts * w->spec.k; i++) {
            w->takes[i] = (uint32_t)below(&w->d, 12);
        }
    }
}

/* ---- the model ------------------------------------------------------------------------------ */

static void lay(const struct world *w, uint32_t domain, struct list *l, uint32_t length)
{
    uint32_t window = w->domains[domain].window;
    uint64_t key;
    struct mx_order o;

    while (l->cursor - l->begin >= l->samples) { /* the next epoch */
        l->begin += l->samples;
        l->epoch++;
        l->samples = l->later > 0 ? l->later : l->samples;
        l->later = 0;
        l->laid_length = 0;
    }
    if (l->laid_length == length && l->laid_epoch == l->epoch) {
        return;
    }
    key = mx_rand64(w->spec.seed, MX_STREAM_ORDER, l->epoch, domain);
    make_frame(&l->frame, l->samples, l->chunk, window, length, key);
    mx_order_init_long(&o, l->samples, l->chunk, window, length, key);
    for (uint64_t i = 0; i < l->samples; i++) {
        l->at[i] = NONE;
    }
    for (uint32_t i = 0; i < l->frame.n; i++) {
        for (uint64_t g = 0; g < l->frame.groups[i]; g++) {
            uint64_t place = l->frame.starts[i] + g * length;

            l->at[place] = l->chunk == 1 ? mx_perm_at(&o.outer, place) : mx_order_at(&o, place);
        }
    }
    l->laid_epoch = l->epoch;
    l->laid_length = length;
}

static uint64_t most_of(const struct mx_plan_domain *d)
{
    return d->on_exhausted == MX_EXHAUSTED_REPEAT ? MX_NO_BUDGET : d->budget;
}

/* 0, or -1 and nothing has changed. */
static int draw(struct world *w, uint32_t domain, uint32_t length, struct drawn *ret)
{
    struct list *l = &w->lists[domain], was = *l;
    uint64_t most = most_of(&w->domains[domain]);

    for (;;) {
        uint64_t sample;
        int gone = 0;

        lay(w, domain, l, length);
        sample = l->at[l->cursor - l->begin];
        if (l->cursor + (sample == NONE ? 0 : length) > most || l->cursor >= most) {
            *l = was;
            return -1;
        }
        if (sample == NONE) {
            l->cursor++;
            w->empties++;
            continue;
        }
        for (uint32_t j = 0; j < length; j++) {
            gone |= l->gone[sample + j] && l->cursor >= l->gone_from[sample + j];
        }
        *ret = (struct drawn){0, l->cursor, sample, (uint32_t)l->epoch, 0};
        l->cursor += length;
        w->gone_groups += (uint64_t)(gone && length > 1);
        if (!gone) {
            return 0;
        }
    }
}

static void round_up(struct world *w, uint32_t domain, uint32_t length)
{
    struct list *l = &w->lists[domain];
    uint64_t most = most_of(&w->domains[domain]), place;
    uint32_t i = 0;

    lay(w, domain, l, length);
    place = l->cursor - l->begin;
    while (l->frame.starts[i] < place) {
        i++;
    }
    w->roundings += l->frame.starts[i] != place;
    if (l->begin + l->frame.starts[i] <= most) {
        l->cursor = l->begin + l->frame.starts[i];
    } else if (l->cursor < most) {
        l->cursor = most;
    }
    lay(w, domain, l, length);
}

/* ---- comparing ------------------------------------------------------------------------------ */

/* The most that a domain could give in a step, by trying. */
static uint32_t can_give(struct world *w, uint32_t domain, const struct mx_plan_part *part)
{
    struct list *copy = test_get(1, sizeof *copy);
    uint64_t empties = w->empties, gone = w->gone_groups;
    struct drawn x;
    uint32_t n = 0;

    memcpy(copy, &w->lists[domain], sizeof *copy);
    while (n < part->batch && draw(w, domain, part->length, &x) == 0) {
        n++;
    }
    memcpy(&w->lists[domain], copy, sizeof *copy);
    free(copy);
    w->empties = empties;
    w->gone_groups = gone;
    return n;
}

static void check_counts(struct world *w, uint32_t part_index, const uint32_t *counts)
{
    const struct mx_plan_part *part = &w->parts[part_index];
    uint32_t total = 0;

    for (uint32_t i = 0; i < w->spec.k; i++) {
        double share = (double)w->shares[i] / (double)MX_SHARE_ONE * part->batch;

        total += counts[i];
        assert_int_equal(counts[i] % part->block, 0);
        assert_true(counts[i] <= can_give(w, i, part));
        if (w->spec.takes_below != NULL && w->takes[part_index * w->spec.k + i] > 0 &&
            w->spec.sampling == MX_SAMPLING_SYSTEMATIC && counts[i] > ceil(share)) {
            w->overs++;
            assert_true(counts[i] < w->takes[part_index * w->spec.k + i]);
        }
    }
    assert_int_equal(total, part->batch);
}

static void check_items(struct world *w, uint64_t step, const struct mx_plan_part *part,
                        const uint32_t *prefix)
{
    struct mx_plan_item whole[BATCH_MOST], some[BATCH_MOST];
    uint32_t first = (uint32_t)below(&w->d, part->batch);
    uint32_t n = (uint32_t)below(&w->d, part->batch - first + 1);

    mx_plan_items(&w->spec, step, w->cursors, prefix, 0, part->batch, whole);
    mx_plan_items(&w->spec, step, w->cursors, prefix, first, n, some);
    assert_memory_equal(some, whole + first, n * sizeof *some);
    for (uint32_t i = 0; i < w->spec.k; i++) {
        struct list *l = &w->lists[i];

        for (uint32_t j = 0; j < prefix[i + 1] - prefix[i]; j++) {
            uint32_t slot = mx_plan_slot(&w->spec, step, prefix, i, j);
            struct drawn x;

            assert_int_equal(draw(w, i, part->length, &x), 0);
            assert_true(whole[slot].domain == i && whole[slot].sample == x.sample);
            assert_int_equal(whole[slot].epoch, x.epoch);
            for (uint32_t m = 0; m < part->length; m++) { /* in no epoch twice, in any length */
                assert_true(x.sample + m < l->samples);
                assert_true(l->seen[x.sample + m] < x.epoch + (uint64_t)1);
                l->seen[x.sample + m] = x.epoch + (uint64_t)1;
            }
            x.step = step;
            x.slot = slot;
            assert_true(l->n_drawn < DRAWN_MOST);
            l->drawn[l->n_drawn++] = x;
        }
    }
}

/* Samples come or go between two steps. */
static void change(struct world *w, uint64_t step, uint32_t i)
{
    struct mx_plan_domain *d = &w->domains[i];
    struct mx_series s = mx_plan_series(&w->spec, step, i);
    struct list *l = &w->lists[i];

    if (d->n_gone > 0 && below(&w->d, 15) == 0) {
        struct mx_gone *g = &w->gone[i][below(&w->d, d->n_gone)];

        if (g->from == NONE) {
            g->from = w->cursors[i];
            for (uint64_t j = g->first; j < g->first + g->count; j++) {
                l->gone[j] = 1;
                l->gone_from[j] = g->from;
            }
        }
    }
    if (d->n_stretches < 8 && below(&w->d, 40) == 0) {
        uint64_t samples = (l->later > 0 ? l->later : l->samples) + 1 + below(&w->d, 30);
        struct mx_stretch stretch;
        uint32_t keep;

        assert_int_equal(mx_series_grow(&s, w->cursors[i], samples, d->chunk, 0, &stretch, &keep),
                         0);
        w->stretches[i][keep] = stretch;
        d->n_stretches = keep + 1;
        d->budget = d->max_epochs > 0.0 ? mx_series_budget(d) : d->budget;
        lay(w, i, l, s.length);
        if (l->cursor == l->begin) {
            l->samples = samples;
            l->later = 0;
            l->laid_length = 0;
        } else {
            l->later = samples;
        }
    }
}

/* Where the last place drawn in [from, upto) ends: what lies between there and the next part is
 * passed over. */
static uint64_t end_of(const struct world *w, uint32_t domain, uint64_t from, uint64_t upto)
{
    const struct list *l = &w->lists[domain];
    uint64_t end = w->at_step[from][domain];

    for (int n = 0; n < l->n_drawn; n++) {
        if (l->drawn[n].step >= from && l->drawn[n].step < upto) {
            end = l->drawn[n].cursor + mx_plan_part_of(&w->spec, from).length;
        }
    }
    return end;
}

/* By looking back: the first draw in one part that holds the sample. */
static void check_find(struct world *w, uint32_t part, uint64_t from, uint64_t upto)
{
    for (int i = 0; i < 40 && from < upto; i++) {
        uint32_t domain = (uint32_t)below(&w->d, w->spec.k);
        struct mx_series s = mx_plan_series(&w->spec, from, domain);
        const struct list *l = &w->lists[domain];
        uint64_t sample = below(&w->d, l->samples), epoch = 0;
        uint64_t c = w->at_step[from][domain], end = end_of(w, domain, from, upto);
        int found = mx_series_find(&s, sample, &c, end, &epoch), n = 0;

        assert_int_equal(s.length, w->parts[part].length);
        while (n < l->n_drawn &&
               (l->drawn[n].step < from || l->drawn[n].step >= upto ||
                sample - l->drawn[n].sample >= s.length)) {
            n++;
        }
        assert_int_equal(found, n < l->n_drawn);
        if (found) {
            assert_int_equal(c, l->drawn[n].cursor);
            assert_int_equal(epoch, l->drawn[n].epoch);
        }
    }
}

/* Steps until one can't be planned. */
static uint64_t play(struct world *w)
{
    uint32_t counts[K_MAX], prefix[K_MAX + 1] = {0};
    uint64_t step = 0;

    for (; step < STEPS; step++) {
        struct mx_plan_part part = mx_plan_part_of(&w->spec, step);
        uint32_t index = 0;

        while (index + 1 < w->spec.n_parts && w->parts[index + 1].from_step <= step) {
            index++;
        }
        assert_memory_equal(&part, &w->parts[index], sizeof part);
        for (uint32_t i = 0; i < w->spec.k; i++) {
            change(w, step, i);
            assert_true(w->cursors[i] <= most_of(&w->domains[i]));
        }
        memcpy(w->at_step[step], w->cursors, sizeof w->cursors);
        if (mx_plan_counts(&w->spec, w->shares, step, w->cursors, counts) >= 0) {
            break;
        }
        for (uint32_t i = 0; i < w->spec.k; i++) {
            prefix[i + 1] = prefix[i] + counts[i];
        }
        check_counts(w, index, counts);
        check_items(w, step, &part, prefix);
        mx_plan_move(&w->spec, step, counts, w->cursors);
        for (uint32_t i = 0; i < w->spec.k; i++) {
            if (mx_plan_part_of(&w->spec, step + 1).length != part.length) {
                round_up(w, i, part.length);
            }
            assert_int_equal(w->cursors[i], w->lists[i].cursor);
        }
    }
    memcpy(w->at_step[step], w->cursors, sizeof w->cursors);
    return step;
}

static void parts_are_planned_as_lists_say(void **state)
{
    uint64_t seed = test_seed("parts_are_planned_as_lists_say", 5000);
    uint64_t roundings = 0, empties = 0, overs = 0, gone = 0, changes = 0;
    struct world *w = test_get(1, sizeof *w);

    (void)state;
    for (int round = 0; round < 600; round++) {
        uint64_t n;

        make_world(w, seed + (uint64_t)round);
        n = play(w);
        for (uint32_t i = 0; i < w->spec.n_parts; i++) {
            uint64_t from = w->parts[i].from_step, end = mx_plan_part_end(&w->spec, from);

            changes += i > 0 && n > from;
            check_find(w, i, from, end < n ? end : n);
        }
        roundings += w->roundings;
        empties += w->empties;
        overs += w->overs;
        gone += w->gone_groups;
    }
    print_message("changes %llu, roundings %llu, empty places %llu, groups gone %llu, over %llu\n",
                  (unsigned long long)changes, (unsigned long long)roundings,
                  (unsigned long long)empties, (unsigned long long)gone,
                  (unsigned long long)overs);
    assert_true(changes > 0 && roundings > 0 && empties > 0 && overs > 0 && gone > 0);
    free(w);
}

/* A plan in one go is the plan step by step; parts that are all alike change nothing. */
static void advancing_and_equal_parts(void **state)
{
    struct dice d = {test_seed("advancing_and_equal_parts", 77)};
    struct world *w = test_get(1, sizeof *w);

    (void)state;
    for (int round = 0; round < 300; round++) {
        uint64_t cursors[K_MAX] = {0}, plain_cursors[K_MAX] = {0};
        struct mx_plan_mix mix = {0, 1, w->shares};
        struct mx_plan_spec plain;
        uint32_t counts[K_MAX];
        uint64_t n;

        make_world(w, roll(&d));
        for (uint32_t i = 0; i < w->spec.k; i++) {
            w->domains[i].n_gone = 0;
            w->domains[i].budget = MX_NO_BUDGET;
            w->domains[i].on_exhausted = MX_EXHAUSTED_REPEAT;
        }
        n = 1 + below(&d, STEPS - 1);
        for (uint64_t step = 0; step < n; step++) {
            assert_int_equal(mx_plan_counts(&w->spec, w->shares, step, w->cursors, counts), -1);
            mx_plan_move(&w->spec, step, counts, w->cursors);
        }
        assert_int_equal(mx_plan_advance(&w->spec, &mix, 1, 0, n, cursors, counts), -1);
        assert_memory_equal(cursors, w->cursors, w->spec.k * sizeof *cursors);
        for (uint32_t i = 0; i < w->spec.n_parts; i++) {
            w->parts[i].length = 1;
            w->parts[i].batch = w->spec.batch;
            w->parts[i].block = w->spec.block;
        }
        w->spec.takes_below = NULL;
        memset(cursors, 0, sizeof cursors);
        plain = w->spec;
        plain.parts = NULL;
        plain.n_parts = 0;
        assert_int_equal(mx_plan_advance(&w->spec, &mix, 1, 0, n, cursors, counts), -1);
        assert_int_equal(mx_plan_advance(&plain, &mix, 1, 0, n, plain_cursors, counts), -1);
        assert_memory_equal(cursors, plain_cursors, sizeof cursors);
    }
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_of_groups_hold_each_group_once),
        cmocka_unit_test(parts_are_planned_as_lists_say),
        cmocka_unit_test(advancing_and_equal_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
