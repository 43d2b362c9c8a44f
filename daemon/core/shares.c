/* shares.c - from weights to a mix. See shares.h. The only place where floating point becomes
 * integers; knows nothing of policies, steps or runs. */
#include "daemon/core/shares.h"

#include "daemon/core/check.h"
#include "daemon/core/largest.h"

#include <math.h>
#include <string.h>

/* Operators write 0.1 and mean it ten times: sums may be off by rounding. */
#define SUM_SLACK 1e-9
/* Weights this much smaller than the largest count as 0: scaling them up would overflow. */
#define WEIGHT_LEAST 1e-200

static int in_unit(double v)
{
    return v >= 0.0 && v <= 1.0; /* false for NAN */
}

enum mx_limits_verdict mx_limits_check(const struct mx_limit *limits, size_t k, size_t *ret_domain,
                                       double *ret_sum)
{
    double low = 0.0, high = 0.0;
    size_t open = 0;

    for (size_t i = 0; i < k; i++) {
        const struct mx_limit *l = &limits[i];
        int pinned = !isnan(l->pin);

        if (!in_unit(l->floor) || !in_unit(l->ceiling) || (pinned && !in_unit(l->pin))) {
            *ret_domain = i;
            return MX_LIMITS_RANGE;
        }
        if (l->floor > l->ceiling) {
            *ret_domain = i;
            return MX_LIMITS_CROSSED;
        }
        if (l->open) {
            open++;
            low += pinned ? l->pin : l->floor;
            high += pinned ? l->pin : l->ceiling;
        }
    }
    if (open == 0) {
        return MX_LIMITS_CLOSED;
    }
    if (low > 1.0 + SUM_SLACK) {
        *ret_sum = low;
        return MX_LIMITS_OVER;
    }
    if (high < 1.0 - SUM_SLACK) {
        *ret_sum = high;
        return MX_LIMITS_UNDER;
    }
    return MX_LIMITS_OK;
}

/* ---- projection ----------------------------------------------------------------------------- */

/* The domains that are neither closed nor pinned, packed into the caller's scratch memory. */
struct free_set {
    double *w, *low, *high;
    double *index; /* exact: far below 2^53 */
    size_t n;
};

static double clip(double v, double low, double high)
{
    return v < low ? low : v > high ? high : v;
}

/* Rises with t, and so does its rounded value: every operation in it is monotone. */
static double clipped_sum(const struct free_set *f, double t)
{
    double sum = 0.0;

    for (size_t i = 0; i < f->n; i++) {
        sum += clip(f->w[i] * t, f->low[i], f->high[i]);
    }
    return sum;
}

/* The largest t >= 0 whose clipped sum does not pass the target, within `most`. The bits of a
 * double that is not negative rise with it, so bisecting the bits takes at most 64 turns. */
static double bisect_scale(const struct free_set *f, double target, double most)
{
    uint64_t low = 0, high;

    memcpy(&high, &most, sizeof high);
    while (low < high) {
        uint64_t mid = low + (high - low + 1) / 2;
        double t;

        memcpy(&t, &mid, sizeof t);
        if (clipped_sum(f, t) <= target) {
            low = mid;
        } else {
            high = mid - 1;
        }
    }
    memcpy(&most, &low, sizeof most);
    return most;
}

/* Which limits bind is known from t to the last bit; the scale of the others follows in closed
 * form, so that no rounding of the bisection's sums stays in the result. */
static double polish_scale(const struct free_set *f, double target, double t)
{
    double fixed = 0.0, loose = 0.0;

    for (size_t i = 0; i < f->n; i++) {
        double v = f->w[i] * t;

        if (v <= f->low[i]) {
            fixed += f->low[i];
        } else if (v >= f->high[i]) {
            fixed += f->high[i];
        } else {
            loose += f->w[i];
        }
    }
    return loose > 0.0 && target > fixed ? (target - fixed) / loose : t;
}

/* Fills out for the free domains, whose w are all > 0 and at most 1. */
static void spread(const struct free_set *f, double target, double *out)
{
    double total = 0.0, t, all_at_ceiling = 0.0;
    int bound = 0;

    for (size_t i = 0; i < f->n; i++) {
        total += f->w[i];
    }
    t = target / total;
    for (size_t i = 0; i < f->n; i++) {
        double v = f->w[i] * t;

        bound |= v < f->low[i] || v > f->high[i];
        all_at_ceiling = fmax(all_at_ceiling, f->high[i] / f->w[i]);
    }
    if (bound) {
        t = bisect_scale(f, target, all_at_ceiling);
        t = polish_scale(f, target, t);
    }
    for (size_t i = 0; i < f->n; i++) {
        out[(size_t)f->index[i]] = clip(f->w[i] * t, f->low[i], f->high[i]);
    }
}

/* Packs the free domains: those of positive weight into *some from the front of the scratch memory,
 * those of weight 0 (which share alike) into *none behind them. Everything later is read from the
 * copies, since the weights may lie where the result goes. */
static void gather(const struct mx_limit *limits, const double *w, size_t k, double *scratch,
                   struct free_set *some, struct free_set *none)
{
    double largest = 0.0;
    size_t front = 0, back = k;

    for (size_t i = 0; i < k; i++) {
        if (limits[i].open && isnan(limits[i].pin) && w[i] > largest) {
            largest = w[i];
        }
    }
    for (size_t i = 0; i < k; i++) {
        int positive = largest > 0.0 && w[i] / largest >= WEIGHT_LEAST;
        size_t at;

        if (!limits[i].open || !isnan(limits[i].pin)) {
            continue;
        }
        at = positive ? front++ : --back;
        scratch[at] = positive ? w[i] / largest : 1.0;
        scratch[k + at] = limits[i].floor;
        scratch[2 * k + at] = limits[i].ceiling;
        scratch[3 * k + at] = (double)i;
    }
    *some = (struct free_set){scratch, scratch + k, scratch + 2 * k, scratch + 3 * k, front};
    *none = (struct free_set){scratch + back, scratch + k + back, scratch + 2 * k + back,
                              scratch + 3 * k + back, k - back};
}

static double sum_of(const double *v, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++) {
        sum += v[i];
    }
    return sum;
}

void mx_limits_project(const struct mx_limit *limits, const double *w, size_t k, double *out,
                       double *scratch)
{
    struct free_set some, none;
    double target = 1.0, ceilings, floors;

    gather(limits, w, k, scratch, &some, &none);
    for (size_t i = 0; i < k; i++) {
        if (!limits[i].open || !isnan(limits[i].pin)) {
            out[i] = limits[i].open ? limits[i].pin : 0.0;
            target -= out[i];
        }
    }
    target = target > 0.0 ? target : 0.0;
    ceilings = sum_of(some.high, some.n);
    floors = sum_of(none.low, none.n);
    if (none.n > 0 && ceilings < target - floors) {
        /* The domains with weight are all at their ceilings; the others share what is left. */
        spread(&none, target - ceilings, out);
        spread(&some, ceilings, out);
        return;
    }
    for (size_t i = 0; i < none.n; i++) {
        out[(size_t)none.index[i]] = none.low[i];
    }
    if (some.n > 0) {
        spread(&some, target - floors, out);
    }
}

/* ---- integers ------------------------------------------------------------------------------- */

static uint64_t fill_floors(const double *p, size_t k, uint64_t *ret_shares, uint64_t *remainders)
{
    double sum = 0.0;
    uint64_t total = 0;

    for (size_t i = 0; i < k; i++) {
        sum += p[i];
    }
    MX_CORE_REQUIRE(sum > 0.0 && isfinite(sum));
    for (size_t i = 0; i < k; i++) {
        double x = p[i] / sum * (double)MX_SHARE_ONE;
        double whole = floor(x);

        ret_shares[i] = (uint64_t)whole;
        remainders[i] = p[i] > 0.0 ? (uint64_t)((x - whole) * (double)MX_SHARE_ONE) + 1 : 0;
        total += ret_shares[i];
    }
    return total;
}

static void take_back(uint64_t *shares, size_t k, uint64_t over)
{
    size_t largest = 0;

    for (size_t i = 1; i < k; i++) {
        largest = shares[i] > shares[largest] ? i : largest;
    }
    MX_CORE_REQUIRE(shares[largest] >= over);
    shares[largest] -= over;
}

void mx_limits_bound(const struct mx_limit *limits, size_t k, const double *p, uint8_t *ret)
{
    for (size_t i = 0; i < k; i++) {
        const struct mx_limit *l = &limits[i];

        ret[i] = (uint8_t)(!l->open                                ? MX_BOUND_CLOSED
                           : !isnan(l->pin)                        ? MX_BOUND_PIN
                           : l->floor > 0.0 && p[i] <= l->floor    ? MX_BOUND_FLOOR
                           : l->ceiling < 1.0 && p[i] >= l->ceiling ? MX_BOUND_CEILING
                                                                   : MX_BOUND_NONE);
    }
}

void mx_shares_quantise(const double *p, size_t k, uint64_t *ret_shares, uint64_t *scratch)
{
    uint64_t *remainders = scratch;
    uint64_t total = fill_floors(p, k, ret_shares, remainders);
    uint64_t left, over, ties;

    if (total > MX_SHARE_ONE) {
        /* Only rounding can do that: by less than one unit a domain. */
        take_back(ret_shares, k, total - MX_SHARE_ONE);
        return;
    }
    left = MX_SHARE_ONE - total;
    mx_largest(remainders, k, left, &over, &ties);
    for (size_t i = 0; i < k; i++) {
        if (remainders[i] > over) {
            ret_shares[i]++;
        } else if (remainders[i] == over && ties > 0) {
            ret_shares[i]++;
            ties--;
        }
    }
}
