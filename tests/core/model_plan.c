/* model_plan.c - domains as lists of what is left of their epoch, steps as lists of slots. See
 * model.h. Knows nothing of entries. */
#include "tests/core/model.h"

#include "daemon/core/rng.h"
#include "daemon/core/shares.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- parts ---------------------------------------------------------------------------------- */

struct mx_plan_part m_part(const struct mx_run_config *c, uint64_t step)
{
    struct mx_plan_part part = {0, c->plan.batch, c->plan.block, 1};

    for (uint32_t i = 0; i < c->plan.n_parts && c->plan.parts[i].from_step <= step; i++) {
        part = c->plan.parts[i];
    }
    return part;
}

uint32_t m_longest(const struct mx_run_config *c)
{
    uint32_t longest = 1;

    for (uint32_t i = 0; i < c->plan.n_parts; i++) {
        longest = c->plan.parts[i].length > longest ? c->plan.parts[i].length : longest;
    }
    return longest;
}

/* ---- domains -------------------------------------------------------------------------------- */

static void lay_epoch(const struct mx_run_config *c, uint32_t domain, struct m_domain *d)
{
    struct mx_order_window w = {.size = 0};
    struct mx_order order;

    mx_order_init_long(&order, d->samples, d->chunk, c->plan.domains[domain].window, d->length,
                       mx_rand64(c->plan.seed, MX_STREAM_ORDER, d->epoch, domain));
    d->first = 0;
    d->n = (uint32_t)d->samples;
    for (uint32_t i = 0; i < d->n; i++) {
        d->left[i] = MODEL_NOTHING;
        d->window_at[i] = mx_order_window_end(&order, i, &w) == i;
    }
    for (uint64_t i = mx_order_next(&order, 0, &w); i < d->n;
         i = mx_order_next(&order, i + d->length, &w)) {
        d->left[i] = (uint16_t)mx_order_at(&order, i);
    }
    d->used = 0;
    d->joins = 0;
}

void m_domain_begin(const struct mx_run_config *c, uint32_t domain, struct m_domain *d)
{
    memset(d, 0, sizeof *d);
    d->samples = c->plan.domains[domain].samples;
    d->chunk = c->plan.domains[domain].chunk;
    d->length = m_part(c, 0).length;
    lay_epoch(c, domain, d);
}

/* How many places of an epoch of `samples` may be used. */
static double allowance(const struct mx_run_config *c, uint32_t domain, const struct m_domain *d,
                        uint64_t samples)
{
    return floor((c->plan.domains[domain].max_epochs - (double)d->epoch) * (double)samples);
}

/* Whether the next so many places lie within what the domain may be drawn. */
static int may(const struct mx_run_config *c, uint32_t domain, const struct m_domain *d,
               uint32_t places)
{
    const struct mx_plan_domain *p = &c->plan.domains[domain];

    return p->max_epochs <= 0.0 || p->on_exhausted == MX_EXHAUSTED_REPEAT ||
           (double)(d->used + places) <= allowance(c, domain, d, d->samples);
}

/* Takes places off the list. */
static void pop(const struct mx_run_config *c, uint32_t domain, struct m_domain *d, uint32_t places)
{
    d->first += places;
    d->n -= places;
    d->used += places;
    d->cursor += places;
    if (d->n == 0) {
        d->epoch++;
        if (d->later > 0) {
            d->samples = d->later;
            d->chunk = d->later_chunk;
            d->later = 0;
        }
        lay_epoch(c, domain, d);
    }
}

static int any_gone(const struct m_domain *d, uint64_t first, uint64_t n)
{
    int gone = 0;

    for (uint64_t i = first; i < first + n && i < MODEL_SAMPLES; i++) {
        gone |= d->gone[i];
    }
    return gone;
}

/* The next sample that isn't withdrawn: 0, or -1 and nothing has changed. */
static int draw(const struct mx_run_config *c, uint32_t domain, struct m_domain *d,
                struct m_item *ret)
{
    struct m_domain was = *d;

    while (may(c, domain, d, 1)) {
        ret->epoch = (uint32_t)d->epoch;
        ret->domain = domain;
        ret->sample = d->left[d->first];
        if (ret->sample == MODEL_NOTHING) {
            pop(c, domain, d, 1);
            continue;
        }
        if (!may(c, domain, d, d->length)) {
            break;
        }
        pop(c, domain, d, d->length);
        if (!any_gone(d, ret->sample, d->length)) {
            return 0;
        }
    }
    *d = was;
    return -1;
}

/* Goes on with another number of samples in a row, where the next window begins. */
static void change_length(const struct mx_run_config *c, uint32_t domain, struct m_domain *d,
                          uint32_t length)
{
    uint64_t used;

    if (length == d->length) {
        return;
    }
    while (!d->window_at[d->first] && may(c, domain, d, 1)) {
        pop(c, domain, d, 1);
        d->passed++;
    }
    used = d->used;
    d->length = length;
    lay_epoch(c, domain, d);
    d->first = (uint32_t)used;
    d->n -= (uint32_t)used;
    d->used = used;
}

int m_domain_spent(const struct mx_run_config *c, uint32_t domain, const struct m_domain *d)
{
    struct m_domain copy = *d;
    struct m_item item;

    return draw(c, domain, &copy, &item) != 0;
}

int m_over_half(const struct mx_run_config *c, const struct m_domain *d, uint64_t samples)
{
    uint64_t gone = 0, longest = m_longest(c), rows = samples / longest;

    for (uint64_t i = 0; i < rows && i * longest < MODEL_SAMPLES; i++) {
        gone += (uint64_t)any_gone(d, i * longest, longest);
    }
    return gone > rows / 2;
}

/* Deals new samples evenly into what is left: of R places `rest` are old, floor(r * rest / R) of
 * them before place r. */
static void join(const struct mx_run_config *c, uint32_t domain, struct m_domain *d,
                 uint64_t samples, uint32_t chunk)
{
    uint32_t rest = d->n, fresh = (uint32_t)(samples - d->samples), all = rest + fresh;
    uint16_t old[MODEL_SAMPLES];
    struct mx_order order;
    uint32_t from_old = 0, from_new = 0;

    memcpy(old, d->left + d->first, rest * sizeof *old);
    mx_order_init(&order, fresh, chunk, c->plan.domains[domain].window,
                  mx_rand64(c->plan.seed, MX_STREAM_JOIN, d->cursor, domain));
    for (uint32_t r = 0; r < all; r++) {
        if (from_old < (r + 1) * rest / all) {
            d->left[r] = old[from_old++];
        } else {
            d->left[r] = (uint16_t)(d->samples + mx_order_at(&order, from_new++));
        }
    }
    d->first = 0;
    d->n = all;
    d->joins++;
}

void m_domain_grow(const struct mx_run_config *c, uint32_t domain, struct m_domain *d,
                   uint64_t samples, uint32_t chunk, int now)
{
    if (d->used > 0 && !(now && samples > d->samples)) {
        d->later = samples;
        d->later_chunk = chunk;
        return;
    }
    if (d->used > 0) {
        join(c, domain, d, samples, chunk);
    }
    d->samples = samples;
    d->chunk = chunk;
    d->later = 0;
    if (d->used == 0) {
        lay_epoch(c, domain, d);
    }
}

/* ---- how many of each domain ---------------------------------------------------------------- */

/* Where a point of [0, 2^32 * units) falls among the shares, each `units` times as wide. */
static uint32_t domain_at(const struct mx_run_config *c, const uint64_t *shares, uint64_t units,
                          uint64_t point)
{
    uint64_t upto = 0;
    uint32_t i = 0;

    for (; i + 1 < c->plan.k; i++) {
        upto += shares[i] * units;
        if (point < upto) {
            break;
        }
    }
    return i;
}

static void sample_counts(const struct mx_run_config *c, const uint64_t *shares, uint64_t step,
                          uint32_t units, uint32_t *counts)
{
    uint64_t offset = mx_rand64(c->plan.seed, MX_STREAM_OFFSET, step, 0) >> 32;

    memset(counts, 0, MODEL_K * sizeof *counts);
    for (uint32_t j = 0; j < units; j++) {
        if (c->plan.sampling == MX_SAMPLING_SYSTEMATIC) {
            counts[domain_at(c, shares, units, (uint64_t)j * MX_SHARE_ONE + offset)]++;
        } else {
            counts[domain_at(c, shares, 1,
                             mx_rand64(c->plan.seed, MX_STREAM_IID, step, j) >> 32)]++;
        }
    }
}

/* How many units a domain can give to one step: by trying. */
static uint32_t can_give(const struct mx_run_config *c, uint32_t domain, const struct m_domain *d,
                         uint32_t batch, uint32_t unit)
{
    struct m_domain copy = *d;
    struct m_item item;
    uint32_t got = 0;

    while (got < batch && draw(c, domain, &copy, &item) == 0) {
        got++;
    }
    return got / unit;
}

/* One round of dealing out; what is left over. */
static uint32_t deal(const struct mx_run_config *c, const uint64_t *shares, const uint32_t *most,
                     uint32_t excess, int zeros, uint32_t *counts)
{
    uint64_t claim[MODEL_K], remainder[MODEL_K], sum = 0;
    uint32_t give[MODEL_K], left = excess;

    for (uint32_t i = 0; i < c->plan.k; i++) {
        claim[i] = counts[i] >= most[i] ? 0 : zeros ? shares[i] == 0 : shares[i];
        sum += claim[i];
    }
    if (sum == 0) {
        return excess;
    }
    for (uint32_t i = 0; i < c->plan.k; i++) {
        give[i] = (uint32_t)(excess * claim[i] / sum);
        remainder[i] = excess * claim[i] % sum;
        left -= give[i];
    }
    for (; left > 0; left--) { /* the largest remainder, the first of equals */
        uint32_t best = 0;

        for (uint32_t i = 1; i < c->plan.k; i++) {
            best = remainder[i] > remainder[best] ? i : best;
        }
        give[best]++;
        remainder[best] = 0;
    }
    for (uint32_t i = 0; i < c->plan.k; i++) {
        uint32_t room = counts[i] < most[i] ? most[i] - counts[i] : 0;

        give[i] = give[i] < room ? give[i] : room;
        counts[i] += give[i];
        excess -= give[i];
    }
    return excess;
}

/* Keeps the counts within what domains can give: -1, or the domain that stops the step. */
static int64_t keep_budgets(const struct mx_run_config *c, const uint64_t *shares, uint64_t step,
                            const struct m_domain *domains, uint32_t unit, uint32_t *counts)
{
    uint32_t part = 0;
    uint32_t most[MODEL_K], excess = 0;
    int64_t capped = -1;

    while (part + 1 < c->plan.n_parts && c->plan.parts[part + 1].from_step <= step) {
        part++;
    }
    for (uint32_t i = 0; i < c->plan.k; i++) {
        const struct mx_plan_domain *p = &c->plan.domains[i];
        uint32_t takes = c->plan.n_parts > 0 ? c->plan.takes_below[part * c->plan.k + i]
                                             : p->takes_below;
        uint32_t below = takes > 0 ? (takes - 1) / unit : UINT32_MAX;

        most[i] = can_give(c, i, &domains[i], m_part(c, step).batch, unit);
        if (counts[i] > most[i]) {
            if (p->on_exhausted == MX_EXHAUSTED_STOP) {
                return i;
            }
            capped = capped < 0 ? i : capped;
            excess += counts[i] - most[i];
            counts[i] = most[i];
        }
        most[i] = most[i] < below ? most[i] : below;
    }
    for (int zeros = 0; excess > 0;) {
        uint32_t left = deal(c, shares, most, excess, zeros, counts);

        if (left == excess && zeros) {
            return capped;
        }
        zeros |= left == excess;
        excess = left;
    }
    return -1;
}

/* ---- steps ---------------------------------------------------------------------------------- */

int64_t m_plan(const struct mx_run_config *c, const struct m_mix *mix, uint64_t step,
               struct m_domain *domains, struct m_step *ret)
{
    struct mx_plan_part part = m_part(c, step);
    uint32_t unit = c->plan.sampling == MX_SAMPLING_BLOCK ? part.block : 1, counts[MODEL_K];
    struct mx_perm slots;
    uint32_t j = 0;
    int64_t stopped;

    sample_counts(c, mix->shares, step, part.batch / unit, counts);
    stopped = keep_budgets(c, mix->shares, step, domains, unit, counts);
    if (stopped >= 0) {
        return stopped;
    }
    memset(ret, 0, sizeof *ret);
    ret->version = mix->version;
    mx_perm_init(&slots, part.batch, mx_rand64(c->plan.seed, MX_STREAM_SLOTS, step, 0));
    for (uint32_t i = 0; i < c->plan.k; i++) {
        ret->cursors[i] = domains[i].cursor;
        for (uint32_t n = counts[i] * unit; n > 0; n--) {
            if (draw(c, i, &domains[i], &ret->slots[mx_perm_at(&slots, j++)]) != 0) {
                abort(); /* can_give said that it can */
            }
        }
        ret->prefix[i + 1] = j;
        change_length(c, i, &domains[i], m_part(c, step + 1).length);
    }
    return -1;
}
