/* plan.c - what is in a step: counts, samples and slots. See plan.h. Integers only. Knows nothing
 * of how a mix came about, of ranks, or of where samples are stored. */
#include "daemon/core/plan.h"

#include "daemon/core/check.h"
#include "daemon/core/plan_budget.h"
#include "daemon/core/rng.h"
#include "daemon/core/shares.h"

#include <string.h>

/* ---- parts ---------------------------------------------------------------------------------- */

static uint32_t part_index(const struct mx_plan_spec *s, uint64_t step)
{
    uint32_t i = s->n_parts > 0 ? s->n_parts - 1 : 0;

    while (i > 0 && s->parts[i].from_step > step) {
        i--;
    }
    return i;
}

struct mx_plan_part mx_plan_part_of(const struct mx_plan_spec *s, uint64_t step)
{
    return s->n_parts > 0 ? s->parts[part_index(s, step)]
                          : (struct mx_plan_part){0, s->batch, s->block, 1};
}

uint64_t mx_plan_part_end(const struct mx_plan_spec *s, uint64_t step)
{
    uint32_t next = part_index(s, step) + 1;

    return next < s->n_parts ? s->parts[next].from_step : UINT64_MAX;
}

uint32_t mx_plan_longest(const struct mx_plan_spec *s)
{
    uint32_t longest = 1;

    for (uint32_t i = 0; i < s->n_parts; i++) {
        longest = s->parts[i].length > longest ? s->parts[i].length : longest;
    }
    return longest;
}

uint32_t mx_plan_batch_most(const struct mx_plan_spec *s)
{
    uint32_t most = s->batch;

    for (uint32_t i = 0; i < s->n_parts; i++) {
        most = s->parts[i].batch > most ? s->parts[i].batch : most;
    }
    return most;
}

uint32_t mx_plan_chunk(const struct mx_plan_spec *s, uint32_t chunk)
{
    uint32_t longest = mx_plan_longest(s);

    return (chunk + longest - 1) / longest * longest;
}

struct mx_series mx_plan_series(const struct mx_plan_spec *s, uint64_t step, uint32_t domain)
{
    return (struct mx_series){s->seed, &s->domains[domain], domain,
                              mx_plan_part_of(s, step).length};
}

/* ---- how many of each domain ---------------------------------------------------------------- */

/* The integers j >= 0 with j * 2^32 + u < x number ceil((x - u) / 2^32), which is the expression
 * below also where x < u. x is units * cumulative share <= 2^20 * 2^32. */
static void systematic(uint64_t u, const uint64_t *shares, uint32_t k, uint64_t units,
                       uint32_t *ret_counts)
{
    uint64_t cumulative = 0, before = 0;

    for (uint32_t i = 0; i < k; i++) {
        uint64_t upto;

        cumulative += shares[i];
        upto = (units * cumulative + (MX_SHARE_ONE - 1 - u)) >> 32;
        ret_counts[i] = (uint32_t)(upto - before);
        before = upto;
    }
    MX_CORE_REQUIRE(before == units && cumulative == MX_SHARE_ONE);
}

#define TABLE_MAX 256

/* Independent draws: each takes the domain in whose stretch of the cumulative shares it falls. The
 * table holds every stride-th cumulative share, so that the search needs no memory of k. */
static void independent(const struct mx_plan_spec *s, const uint64_t *shares, uint64_t step,
                        uint32_t units, uint32_t *ret_counts)
{
    uint64_t table[TABLE_MAX + 1];
    uint32_t stride = (s->k + TABLE_MAX - 1) / TABLE_MAX, entries = 0;
    uint64_t cumulative = 0;

    for (uint32_t i = 0; i < s->k; i++) {
        if (i % stride == 0) {
            table[entries++] = cumulative;
        }
        cumulative += shares[i];
    }
    MX_CORE_REQUIRE(cumulative == MX_SHARE_ONE);
    memset(ret_counts, 0, s->k * sizeof *ret_counts);
    for (uint32_t b = 0; b < units; b++) {
        uint64_t r = mx_rand64(s->seed, MX_STREAM_IID, step, b) >> 32;
        uint32_t low = 0, left = entries, domain;

        while (left > 1) { /* the last entry that is <= r, without branches to mispredict */
            uint32_t half = left / 2;

            low += table[low + half] <= r ? half : 0;
            left -= half;
        }
        domain = low * stride;
        cumulative = table[low] + shares[domain];
        while (cumulative <= r) {
            cumulative += shares[++domain];
        }
        ret_counts[domain]++;
    }
}

int64_t mx_plan_counts(const struct mx_plan_spec *s, const uint64_t *shares, uint64_t step,
                       const uint64_t *cursors, uint32_t *ret_counts)
{
    struct mx_plan_part part = mx_plan_part_of(s, step);
    uint32_t unit = s->sampling == MX_SAMPLING_BLOCK ? part.block : 1;
    uint32_t units = part.batch / unit;
    struct mx_plan_room room = {s, shares, cursors, unit, part.batch, part.length, NULL};
    int64_t stopped;

    MX_CORE_REQUIRE(s->k >= 1 && unit >= 1 && units * unit == part.batch);
    if (s->takes_below != NULL) {
        room.takes_below = s->takes_below + (size_t)part_index(s, step) * s->k;
    }
    if (s->sampling == MX_SAMPLING_SYSTEMATIC) {
        uint64_t u = mx_rand64(s->seed, MX_STREAM_OFFSET, step, 0) >> 32;

        systematic(u, shares, s->k, units, ret_counts);
    } else {
        independent(s, shares, step, units, ret_counts);
    }
    stopped = mx_plan_keep_budgets(&room, ret_counts);
    if (stopped < 0 && unit > 1) {
        for (uint32_t i = 0; i < s->k; i++) {
            ret_counts[i] *= unit;
        }
    }
    return stopped;
}

/* ---- which samples, in which slots ---------------------------------------------------------- */

static void slots_init(const struct mx_plan_spec *s, uint64_t step, uint32_t batch,
                       struct mx_perm *ret)
{
    mx_perm_init(ret, batch, mx_rand64(s->seed, MX_STREAM_SLOTS, step, 0));
}

/* Another length begins behind the step. */
static void round_cursors(const struct mx_plan_spec *s, uint64_t step, uint64_t *cursors)
{
    for (uint32_t i = 0; i < s->k; i++) {
        struct mx_series series = mx_plan_series(s, step, i);

        cursors[i] = mx_series_round(&series, cursors[i]);
    }
}

void mx_plan_move(const struct mx_plan_spec *s, uint64_t step, const uint32_t *counts,
                  uint64_t *cursors)
{
    uint32_t length = mx_plan_part_of(s, step).length;

    for (uint32_t i = 0; i < s->k; i++) {
        struct mx_series series = {s->seed, &s->domains[i], i, length};

        if (counts[i] == 0) {
            continue;
        }
        if (length == 1 && s->domains[i].n_gone == 0) {
            cursors[i] += counts[i];
        } else {
            /* Fewer only where the budget ends, and then the counts are within it. */
            MX_CORE_REQUIRE(mx_series_draw(&series, cursors[i], counts[i], &cursors[i]) ==
                            counts[i]);
        }
    }
    if (mx_plan_part_of(s, step + 1).length != length) {
        round_cursors(s, step, cursors);
    }
}

#define STRETCH MX_SERIES_RUN

/* The samples [from, upto) of a step, which are all of one domain, drawn from cursor c on. */
static void items_of_domain(const struct mx_series *series, const struct mx_perm *slots,
                            uint64_t c, uint32_t from, uint32_t upto, uint32_t first, uint32_t n,
                            struct mx_plan_item *ret)
{
    struct mx_series_cache cache = {.valid = 0};
    uint64_t slot[STRETCH], sample[STRETCH], epoch;

    while (from < upto) {
        uint32_t m = upto - from < STRETCH ? upto - from : STRETCH, drawn = 0;

        m = mx_series_run(series, &c, m, sample, &epoch, &cache);
        for (uint32_t i = 0; i < m; i++, c += series->length) {
            if (!mx_series_gone(series, c, sample[i])) {
                sample[drawn++] = sample[i];
            }
        }
        mx_perm_run(slots, from, drawn, slot);
        for (uint32_t i = 0; i < drawn; i++) {
            if (slot[i] - first < n) { /* wraps for slots before the first */
                ret[slot[i] - first] =
                    (struct mx_plan_item){sample[i], series->domain, (uint32_t)epoch};
            }
        }
        from += drawn;
    }
}

/* Most of a step is wanted: domain by domain, so that each order is made once and a cursor is
 * divided once, and the samples fall into their slots. */
static void items_by_domain(const struct mx_plan_spec *s, uint32_t length,
                            const struct mx_perm *slots, const uint64_t *cursors,
                            const uint32_t *prefix, uint32_t first, uint32_t n,
                            struct mx_plan_item *ret)
{
    for (uint32_t d = 0; d < s->k; d++) {
        struct mx_series series = {s->seed, &s->domains[d], d, length};

        if (prefix[d] < prefix[d + 1]) {
            items_of_domain(&series, slots, cursors[d], prefix[d], prefix[d + 1], first, n, ret);
        }
    }
}

/* The domain of the j-th sample of a step: the last d with prefix[d] <= j (empty ones before it
 * share its start, and are passed over). */
static uint32_t domain_of(const uint32_t *prefix, uint32_t k, uint32_t j)
{
    uint32_t low = 0, n = k;

    while (n > 1) {
        uint32_t half = n / 2;

        low += prefix[low + half] <= j ? half : 0;
        n -= half;
    }
    return low;
}

/* The j-th sample that a domain draws from cursor c on, where places are passed over. */
static void item_drawn(const struct mx_series *series, uint64_t c, uint32_t j,
                       struct mx_plan_item *ret)
{
    struct mx_series_cache cache = {.valid = 0};
    uint64_t sample[STRETCH], epoch;

    for (;;) {
        uint32_t m = mx_series_run(series, &c, j < STRETCH ? j + 1 : STRETCH, sample, &epoch,
                                   &cache);

        for (uint32_t i = 0; i < m; i++, c += series->length) {
            if (!mx_series_gone(series, c, sample[i]) && j-- == 0) {
                *ret = (struct mx_plan_item){sample[i], series->domain, (uint32_t)epoch};
                return;
            }
        }
    }
}

#define ORDERS 32
/* As many slots at most, where one that is looked for may lie behind all others of its domain. */
#define FEW_SLOTS 4

/* Few slots are wanted: each asks which sample is its own. Neighbouring slots are of different
 * domains, so a few orders are kept at hand, found by the low bits of the domain. */
static void items_by_slot(const struct mx_plan_spec *s, uint32_t length,
                          const struct mx_perm *slots, const uint64_t *cursors,
                          const uint32_t *prefix, uint32_t first, uint32_t n,
                          struct mx_plan_item *ret)
{
    struct {
        struct mx_series_cache cache;
        uint32_t domain;
    } kept[ORDERS];

    for (uint32_t i = 0; i < ORDERS; i++) {
        kept[i].domain = UINT32_MAX;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = (uint32_t)mx_perm_inverse(slots, first + i);
        uint32_t d = domain_of(prefix, s->k, j);
        struct mx_series series = {s->seed, &s->domains[d], d, length};
        uint64_t cursor = cursors[d] + (j - prefix[d]), sample, epoch;

        if (length > 1 || s->domains[d].n_gone > 0) {
            item_drawn(&series, cursors[d], j - prefix[d], &ret[i]);
            continue;
        }
        if (kept[d % ORDERS].domain != d) {
            kept[d % ORDERS].cache.valid = 0;
            kept[d % ORDERS].domain = d;
        }
        (void)mx_series_run(&series, &cursor, 1, &sample, &epoch, &kept[d % ORDERS].cache);
        ret[i] = (struct mx_plan_item){sample, d, (uint32_t)epoch};
    }
}

/* Whether a domain of the step passes places over: then the j-th that it draws isn't the j-th
 * place. */
static int passes_over(const struct mx_plan_spec *s, const uint32_t *prefix)
{
    for (uint32_t d = 0; d < s->k; d++) {
        if (prefix[d] < prefix[d + 1] && s->domains[d].n_gone > 0) {
            return 1;
        }
    }
    return 0;
}

void mx_plan_items(const struct mx_plan_spec *s, uint64_t step, const uint64_t *cursors,
                   const uint32_t *prefix, uint32_t first, uint32_t n, struct mx_plan_item *ret)
{
    struct mx_plan_part part = mx_plan_part_of(s, step);
    struct mx_perm slots;

    MX_CORE_REQUIRE(first <= part.batch && n <= part.batch - first && prefix[s->k] == part.batch);
    slots_init(s, step, part.batch, &slots);
    if (n > part.batch / 2 || (n > FEW_SLOTS && (part.length > 1 || passes_over(s, prefix)))) {
        items_by_domain(s, part.length, &slots, cursors, prefix, first, n, ret);
    } else {
        items_by_slot(s, part.length, &slots, cursors, prefix, first, n, ret);
    }
}

uint32_t mx_plan_slot(const struct mx_plan_spec *s, uint64_t step, const uint32_t *prefix,
                      uint32_t domain, uint32_t j)
{
    struct mx_perm slots;

    MX_CORE_REQUIRE(domain < s->k && j < prefix[domain + 1] - prefix[domain]);
    slots_init(s, step, mx_plan_part_of(s, step).batch, &slots);
    return (uint32_t)mx_perm_at(&slots, prefix[domain] + j);
}

int64_t mx_plan_advance(const struct mx_plan_spec *s, const struct mx_plan_mix *mixes, uint32_t n,
                        uint64_t from, uint64_t to, uint64_t *cursors, uint32_t *counts)
{
    uint32_t mix = 0;

    MX_CORE_REQUIRE(n >= 1 && mixes[0].from_step <= from);
    for (uint64_t step = from; step < to; step++) {
        int64_t stopped;

        while (mix + 1 < n && mixes[mix + 1].from_step <= step) {
            mix++;
        }
        stopped = mx_plan_counts(s, mixes[mix].shares, step, cursors, counts);
        if (stopped >= 0) {
            return stopped;
        }
        mx_plan_move(s, step, counts, cursors);
    }
    return -1;
}
