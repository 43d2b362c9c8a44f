/* series.c - places, epochs and their changes. See series.h. Knows nothing of steps or mixes. */
#include "daemon/core/series.h"

#include "daemon/core/check.h"
#include "daemon/core/rng.h"

#include <math.h>

/* ---- stretches ----------------------------------------------------------------------------------
 */

/* Stretches are numbered from 1 here; 0 is the domain as it began. */
static struct mx_stretch stretch_of(const struct mx_plan_domain *d, uint32_t i)
{
    return i > 0 ? d->stretches[i - 1]
                 : (struct mx_stretch){.samples = d->samples, .chunk = d->chunk};
}

static uint32_t stretch_at(const struct mx_plan_domain *d, uint64_t cursor)
{
    uint32_t i = d->n_stretches;

    while (i > 0 && d->stretches[i - 1].from > cursor) {
        i--;
    }
    return i;
}

/* Places of the epoch that stretch i joins, from its beginning on. */
static uint64_t joined_places(const struct mx_plan_domain *d, uint32_t i)
{
    struct mx_stretch a = stretch_of(d, i);

    return a.depth == 0 ? 0 : a.rest + (a.samples - stretch_of(d, i - 1).samples);
}

/* Where a cursor is. */
struct where {
    uint32_t stretch;
    int joined; /* in the epoch that the stretch has joined */
    uint64_t epoch;
    uint64_t place;  /* in the epoch, or in what the stretch made of its rest */
    uint64_t places; /* how many there are */
};

static struct where locate(const struct mx_plan_domain *d, uint64_t cursor)
{
    uint32_t i = stretch_at(d, cursor);
    struct mx_stretch a = stretch_of(d, i);
    uint64_t off = cursor - a.from, joined = joined_places(d, i);

    if (off < joined) {
        return (struct where){i, 1, a.epoch, off, joined};
    }
    off -= joined;
    return (struct where){i, 0, a.epoch + (a.depth > 0) + off / a.samples, off % a.samples,
                          a.samples};
}

/* ---- orders --------------------------------------------------------------------------------- */

static void epoch_order(const struct mx_series *s, const struct mx_stretch *a, uint64_t epoch,
                        struct mx_order *ret)
{
    mx_order_init_long(ret, a->samples, a->chunk, s->d->window, s->length,
                       mx_rand64(s->seed, MX_STREAM_ORDER, epoch, s->domain));
}

/* The order in which the samples that came with a joined stretch are dealt. */
static void new_order(const struct mx_series *s, uint32_t i, struct mx_order *ret)
{
    struct mx_stretch a = stretch_of(s->d, i), before = stretch_of(s->d, i - 1);

    mx_order_init(ret, a.samples - before.samples, a.chunk, s->d->window,
                  mx_rand64(s->seed, MX_STREAM_JOIN, a.from, s->domain));
}

static uint64_t scale(uint64_t x, uint64_t by, uint64_t over)
{
    return (uint64_t)((unsigned __int128)x * by / over);
}

/* The place, in the epoch as it was before stretch i joined it, at which the stretch found it. */
static uint64_t found_at(const struct mx_plan_domain *d, uint32_t i)
{
    struct mx_stretch a = stretch_of(d, i);

    return (a.depth > 1 ? joined_places(d, i - 1) : stretch_of(d, i - 1).samples) - a.rest;
}

/* Of the R places of a joined epoch, `rest` go to what was left, spread evenly: the number of those
 * before place r is floor(r * rest / R). */
static uint64_t joined_sample(const struct mx_series *s, uint32_t i, uint64_t place)
{
    struct mx_order order;

    for (;; i--) {
        struct mx_stretch a = stretch_of(s->d, i), before = stretch_of(s->d, i - 1);
        uint64_t all = joined_places(s->d, i);
        uint64_t old = scale(place, a.rest, all);

        if (scale(place + 1, a.rest, all) == old) {
            new_order(s, i, &order);
            return before.samples + mx_order_at(&order, place - old);
        }
        place = found_at(s->d, i) + old;
        if (a.depth == 1) {
            epoch_order(s, &before, a.epoch, &order);
            return mx_order_at(&order, place);
        }
    }
}

/* The inverse: the place of a sample in the epoch that stretch i has joined; 0 if it came before.
 */
static int joined_place(const struct mx_series *s, uint32_t i, uint64_t sample, uint64_t *ret)
{
    uint32_t first = i - stretch_of(s->d, i).depth; /* the stretch whose epoch was joined */
    struct mx_stretch root = stretch_of(s->d, first);
    struct mx_order order;
    uint64_t place = 0;

    if (sample < root.samples) {
        epoch_order(s, &root, stretch_of(s->d, i).epoch, &order);
        place = mx_order_inverse(&order, sample);
    }
    for (uint32_t l = first + 1; l <= i; l++) {
        struct mx_stretch a = stretch_of(s->d, l), before = stretch_of(s->d, l - 1);
        uint64_t all = joined_places(s->d, l);

        if (sample < before.samples) {
            uint64_t found = found_at(s->d, l);

            if (place < found) {
                return 0;
            }
            place = scale(place - found + 1, all, a.rest) -
                    ((unsigned __int128)(place - found + 1) * all % a.rest == 0);
        } else if (sample < a.samples) {
            new_order(s, l, &order);
            place = scale(mx_order_inverse(&order, sample - before.samples), all,
                          a.samples - before.samples);
        }
    }
    *ret = place;
    return sample < stretch_of(s->d, i).samples;
}

/* ---- from cursors to samples ---------------------------------------------------------------- */

/* Makes the cache that of the epoch in which w is. */
static void cache_epoch(const struct mx_series *s, const struct where *w,
                        struct mx_series_cache *cache)
{
    struct mx_stretch a = stretch_of(s->d, w->stretch);

    if (cache->valid && cache->stretch == w->stretch && cache->epoch == w->epoch &&
        cache->length == s->length) {
        return;
    }
    epoch_order(s, &a, w->epoch, &cache->order);
    cache->window.size = 0;
    cache->valid = 1;
    cache->stretch = w->stretch;
    cache->epoch = w->epoch;
    cache->length = s->length;
}

/* Places from a cursor on that are of its stretch. */
static uint64_t stretch_left(const struct mx_plan_domain *d, uint32_t stretch, uint64_t cursor)
{
    return stretch < d->n_stretches ? d->stretches[stretch].from - cursor : UINT64_MAX;
}

/* Goes on from where a group may begin to where one does, in this epoch or the next. */
static struct where next_group(const struct mx_series *s, uint64_t *cursor,
                               struct mx_series_cache *cache)
{
    for (;;) {
        struct where w = locate(s->d, *cursor);
        uint64_t next = stretch_left(s->d, w.stretch, *cursor), place;

        if (w.joined) {
            MX_CORE_REQUIRE(s->length == 1);
            return w;
        }
        cache_epoch(s, &w, cache);
        place = mx_order_next(&cache->order, w.place, &cache->window);
        if (place < w.places && next >= s->length && place - w.place <= next - s->length) {
            *cursor += place - w.place;
            w.place = place;
            return w;
        }
        *cursor += w.places - w.place < next ? w.places - w.place : next;
    }
}

uint32_t mx_series_run(const struct mx_series *s, uint64_t *cursor, uint32_t n,
                       uint64_t *ret_sample, uint64_t *ret_epoch, struct mx_series_cache *cache)
{
    struct where w = next_group(s, cursor, cache);
    uint64_t next = stretch_left(s->d, w.stretch, *cursor);
    uint64_t left = w.places - w.place < next ? w.places - w.place : next;

    left = s->length == 1 ? left : left / s->length;
    n = n < MX_SERIES_RUN ? n : MX_SERIES_RUN;
    n = left < n ? (uint32_t)left : n;
    *ret_epoch = w.epoch;
    if (w.joined) {
        for (uint32_t i = 0; i < n; i++) {
            ret_sample[i] = joined_sample(s, w.stretch, w.place + i);
        }
        return n;
    }
    return mx_order_run(&cache->order, w.place, n, ret_sample, &cache->window);
}

/* Whether the range of gone samples holds one of [sample, sample + length) at that cursor. */
static int touches(const struct mx_gone *g, uint64_t cursor, uint64_t sample, uint32_t length)
{
    return sample < g->first + g->count && g->first < sample + length && cursor >= g->from;
}

int mx_series_gone(const struct mx_series *s, uint64_t cursor, uint64_t sample)
{
    const struct mx_gone *g = s->d->gone;
    uint32_t low = 0, n = s->d->n_gone, end = n;

    if (n == 0) {
        return 0;
    }
    while (n > 1) {
        uint32_t half = n / 2;

        low += g[low + half].first <= sample ? half : 0;
        n -= half;
    }
    for (; low < end && g[low].first < sample + s->length; low++) {
        if (touches(&g[low], cursor, sample, s->length)) {
            return 1;
        }
    }
    return 0;
}

/* Whether no place stands empty: then n groups take n * length places. */
static int no_gaps(const struct mx_series *s)
{
    const struct mx_plan_domain *d = s->d;

    if (s->length == 1) {
        return 1;
    }
    for (uint32_t i = 0; i < d->n_stretches; i++) {
        if (d->stretches[i].samples % s->length != 0) {
            return 0;
        }
    }
    return d->samples % s->length == 0;
}

uint32_t mx_series_draw(const struct mx_series *s, uint64_t cursor, uint32_t want,
                        uint64_t *ret_cursor)
{
    const struct mx_plan_domain *d = s->d;
    uint64_t end = d->on_exhausted == MX_EXHAUSTED_REPEAT ? MX_NO_BUDGET : d->budget;
    struct mx_series_cache cache = {.valid = 0};
    uint64_t sample[MX_SERIES_RUN], epoch;
    uint32_t got = 0;

    if (d->n_gone == 0 && no_gaps(s)) {
        uint64_t room = (cursor < end ? end - cursor : 0) / s->length;

        got = room < want ? (uint32_t)room : want;
        *ret_cursor = cursor + (uint64_t)got * s->length;
        return got;
    }
    *ret_cursor = cursor;
    while (got < want && cursor < end) {
        uint32_t n = mx_series_run(s, &cursor, want - got, sample, &epoch, &cache);

        for (uint32_t i = 0; i < n && got < want && cursor < end; i++, cursor += s->length) {
            if (end - cursor >= s->length && !mx_series_gone(s, cursor, sample[i])) {
                got++;
                *ret_cursor = cursor + s->length;
            }
        }
    }
    return got;
}

/* ---- and back ------------------------------------------------------------------------------- */

/* The first place of the sample in [cursor, end) under stretch i, whose whole epochs begin at
 * `base`. */
static int find_whole(const struct mx_series *s, uint32_t i, uint64_t sample, uint64_t base,
                      uint64_t *cursor, uint64_t end, uint64_t *ret_epoch)
{
    struct mx_stretch a = stretch_of(s->d, i);
    uint64_t turn = *cursor > base ? (*cursor - base) / a.samples : 0;
    struct mx_order order;

    for (;; turn++) {
        uint64_t start = base + turn * a.samples, at;

        if (start >= end) {
            return 0;
        }
        *ret_epoch = a.epoch + (a.depth > 0) + turn;
        epoch_order(s, &a, *ret_epoch, &order);
        if (sample >= mx_order_whole(&order)) {
            return 0; /* of no whole group, in this stretch */
        }
        at = start + mx_order_inverse(&order, sample);
        if (at >= end) {
            return 0;
        }
        if (at >= *cursor) {
            *cursor = at;
            return 1;
        }
    }
}

static int find_place(const struct mx_series *s, uint64_t sample, uint64_t *cursor, uint64_t end,
                      uint64_t *ret_epoch)
{
    for (uint32_t i = stretch_at(s->d, *cursor); i <= s->d->n_stretches; i++) {
        struct mx_stretch a = stretch_of(s->d, i);
        uint64_t until =
            i < s->d->n_stretches && s->d->stretches[i].from < end ? s->d->stretches[i].from : end;
        uint64_t place;

        if (a.from >= end) {
            return 0;
        }
        if (sample >= a.samples || *cursor >= until) {
            continue;
        }
        if (a.depth > 0 && joined_place(s, i, sample, &place) && a.from + place >= *cursor &&
            a.from + place < until) {
            *cursor = a.from + place;
            *ret_epoch = a.epoch;
            return 1;
        }
        if (find_whole(s, i, sample, a.from + joined_places(s->d, i), cursor, until, ret_epoch)) {
            return 1;
        }
    }
    return 0;
}

int mx_series_find(const struct mx_series *s, uint64_t sample, uint64_t *cursor, uint64_t end,
                   uint64_t *ret_epoch)
{
    /* Once withdrawn it is so for ever: no later place can draw it, or its group. */
    return find_place(s, sample, cursor, end, ret_epoch) &&
           !mx_series_gone(s, *cursor, sample - sample % s->length);
}

/* ---- another length ------------------------------------------------------------------------- */

uint64_t mx_series_round(const struct mx_series *s, uint64_t cursor)
{
    const struct mx_plan_domain *d = s->d;
    struct where w = locate(d, cursor);
    struct mx_stretch a = stretch_of(d, w.stretch);
    struct mx_order_window window = {.size = 0};
    struct mx_order order;
    uint64_t end = d->on_exhausted == MX_EXHAUSTED_REPEAT ? MX_NO_BUDGET : d->budget;
    uint64_t rounded;

    MX_CORE_REQUIRE(!w.joined);
    epoch_order(s, &a, w.epoch, &order);
    rounded = cursor + (mx_order_window_end(&order, w.place, &window) - w.place);
    return rounded <= end ? rounded : cursor < end ? end : cursor;
}

/* ---- growing -------------------------------------------------------------------------------- */

void mx_series_epoch(const struct mx_series *s, uint64_t cursor, uint64_t *ret_epoch,
                     uint64_t *ret_left)
{
    struct where w = locate(s->d, cursor);

    *ret_epoch = w.epoch;
    *ret_left = w.places - w.place;
}

uint64_t mx_series_samples(const struct mx_plan_domain *d, uint64_t cursor)
{
    return stretch_of(d, stretch_at(d, cursor)).samples;
}

int mx_series_grow(const struct mx_series *s, uint64_t cursor, uint64_t samples, uint32_t chunk,
                   int now, struct mx_stretch *ret, uint32_t *ret_keep)
{
    struct where w = locate(s->d, cursor);
    struct mx_stretch a = stretch_of(s->d, w.stretch);
    int boundary = !w.joined && w.place == 0;
    uint32_t depth = w.joined ? a.depth + 1 : 1;

    MX_CORE_REQUIRE(samples >= a.samples && chunk >= 1);
    if (now && !boundary && depth > MX_JOINS_MAX) {
        return -1;
    }
    *ret_keep = w.stretch;
    *ret =
        (struct mx_stretch){.from = cursor, .samples = samples, .epoch = w.epoch, .chunk = chunk};
    if (boundary) {
        *ret_keep -= w.stretch > 0 && a.depth == 0 && a.from == cursor; /* it has drawn nothing */
    } else if (now && samples > a.samples) {
        ret->rest = w.places - w.place;
        ret->depth = depth;
    } else {
        ret->from = cursor + (w.places - w.place);
        ret->epoch = w.epoch + 1;
    }
    return 0;
}

/* How many places of an epoch with `samples` may be used when `epochs` of it may. */
static uint64_t part(double epochs, uint64_t samples)
{
    double n = floor(epochs * (double)samples);

    return n <= 0.0 ? 0 : n < 9e15 ? (uint64_t)n : MX_NO_BUDGET;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    return b == MX_NO_BUDGET ? MX_NO_BUDGET : a + b;
}

/* The budget as if stretch i were the last. */
static uint64_t budget_of(const struct mx_plan_domain *d, uint32_t i)
{
    struct mx_stretch a = stretch_of(d, i);
    uint64_t joined = joined_places(d, i), used, most;
    double left = d->max_epochs - (double)a.epoch;

    if (a.depth == 0) {
        return plus(a.from, part(left, a.samples));
    }
    if (left >= 1.0) {
        return plus(a.from + joined, part(left - 1.0, a.samples));
    }
    used = a.samples - joined; /* each sample comes once an epoch */
    most = part(left, a.samples);
    most = most > used ? most - used : 0;
    return a.from + (most < joined ? most : joined);
}

uint64_t mx_series_budget(const struct mx_plan_domain *d)
{
    if (d->max_epochs <= 0.0) {
        return MX_NO_BUDGET;
    }
    for (uint32_t i = 0; i < d->n_stretches; i++) {
        uint64_t b = budget_of(d, i);

        if (b < d->stretches[i].from) { /* used up before; there it goes on with what is new */
            return b;
        }
    }
    return budget_of(d, d->n_stretches);
}
