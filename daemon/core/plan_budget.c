/* plan_budget.c - see plan_budget.h. Knows nothing of steps or random numbers. */
#include "daemon/core/plan_budget.h"

#include "daemon/core/check.h"
#include "daemon/core/largest.h"
#include "proto/limits.h"

/* How many more units a domain's budget lets it give. */
static uint64_t room(const struct mx_plan_room *r, uint32_t i, uint32_t count)
{
    const struct mx_plan_domain *d = &r->spec->domains[i];
    struct mx_series series = {r->spec->seed, d, i, r->length};
    uint64_t cursor = r->cursors[i], places, units, after;

    if (d->budget == MX_NO_BUDGET || d->on_exhausted == MX_EXHAUSTED_REPEAT) {
        return UINT64_MAX;
    }
    places = cursor < d->budget ? d->budget - cursor : 0;
    if ((d->n_gone > 0 || r->length > 1) && places > 0) { /* not each place gives a sample */
        places = mx_series_draw(&series, cursor, r->batch, &after);
    }
    units = places / r->unit;
    return units > count ? units - count : 0;
}

/* How many more units it may take over from others. */
static uint64_t takes(const struct mx_plan_room *r, uint32_t i, uint32_t count)
{
    uint64_t most = room(r, i, count);
    uint64_t below = r->takes_below != NULL  ? r->takes_below[i]
                     : r->spec->n_parts == 0 ? r->spec->domains[i].takes_below
                                             : 0;
    uint64_t units = below > 0 ? (below - 1) / r->unit : UINT64_MAX;

    units = units > count ? units - count : 0;
    return most < units ? most : units;
}

/* The weight by which a domain takes over slots: its share, or, when only domains of share 0 have
 * room (`last_resort`), the same for each of those. 0: takes none. */
static uint64_t claim(const struct mx_plan_room *r, const uint32_t *counts, uint32_t i,
                      int last_resort)
{
    if (takes(r, i, counts[i]) == 0) {
        return 0;
    }
    return last_resort ? r->shares[i] == 0 : r->shares[i];
}

/* One round: deals `excess` units out by largest remainder, as far as rooms allow. Returns what is
 * left over; the same as came in only if no domain claims any. */
static uint64_t deal(const struct mx_plan_room *r, uint32_t *counts, uint64_t excess,
                     int last_resort)
{
    uint64_t remainders[MX_DOMAINS_MAX];
    uint64_t sum = 0, left = excess, over, ties, unplaced = excess;

    for (uint32_t i = 0; i < r->spec->k; i++) {
        sum += claim(r, counts, i, last_resort);
    }
    if (sum == 0) {
        return excess;
    }
    for (uint32_t i = 0; i < r->spec->k; i++) {
        uint64_t c = claim(r, counts, i, last_resort);

        remainders[i] = c == 0 ? 0 : excess * c % sum + 1; /* excess <= 2^20, c <= 2^32 */
        left -= excess * c / sum;
    }
    mx_largest(remainders, r->spec->k, left, &over, &ties);
    for (uint32_t i = 0; i < r->spec->k; i++) {
        uint64_t c = claim(r, counts, i, last_resort);
        uint64_t given = excess * c / sum;
        uint64_t most = takes(r, i, counts[i]);

        if (remainders[i] > over) {
            given++;
        } else if (remainders[i] == over && ties > 0) {
            given++;
            ties--;
        }
        given = given < most ? given : most;
        counts[i] += (uint32_t)given;
        unplaced -= given;
    }
    return unplaced;
}

int64_t mx_plan_keep_budgets(const struct mx_plan_room *r, uint32_t *counts)
{
    uint64_t excess = 0;
    int64_t capped = -1;
    int last_resort = 0;

    MX_CORE_REQUIRE(r->spec->k <= MX_DOMAINS_MAX);
    for (uint32_t i = 0; i < r->spec->k; i++) {
        uint64_t most;

        if (counts[i] == 0) {
            continue;
        }
        most = room(r, i, 0);
        if (counts[i] <= most) {
            continue;
        }
        if (r->spec->domains[i].on_exhausted == MX_EXHAUSTED_STOP) {
            return (int64_t)i;
        }
        capped = capped < 0 ? (int64_t)i : capped;
        excess += counts[i] - most;
        counts[i] = (uint32_t)most;
    }
    /* Every round that leaves something over has filled a domain, so that this ends. */
    while (excess > 0) {
        uint64_t unplaced = deal(r, counts, excess, last_resort);

        if (unplaced == excess) {
            if (last_resort) {
                return capped;
            }
            last_resort = 1;
        }
        excess = unplaced;
    }
    return -1;
}
