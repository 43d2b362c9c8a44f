/* feedback.c - see feedback.h. Knows nothing of steps or of who reports. */
#include "daemon/core/feedback.h"

#include "daemon/core/check.h"

#include <math.h>

#define FRACTION_BITS 56

int mx_loss_ok(const struct mx_loss *l, const struct mx_loss_bounds *b)
{
    if (l->tokens == 0 || l->tokens > b->tokens_max) {
        return 0;
    }
    return isfinite(l->loss_sum) && l->loss_sum >= 0.0 &&
           l->loss_sum / (double)l->tokens <= b->loss_max;
}

int mx_eval_ok(const struct mx_eval_loss *l, double loss_max)
{
    struct mx_loss loss = {.tokens = l->tokens, .loss_sum = l->loss_sum};
    struct mx_loss_bounds b = {loss_max, (uint64_t)1 << 40};

    return mx_loss_ok(&loss, &b);
}

int mx_reward_ok(const struct mx_reward *r)
{
    return r->count > 0 && r->count <= MX_REWARD_COUNT_MAX && isfinite(r->sum) &&
           fabs(r->sum) / (double)r->count <= MX_REWARD_MAX;
}

/* What squares and sums over all domains still keep finite. */
#define GRAM_MAX 1e100

int mx_gram_ok(const double *gram, uint32_t n, double lr, uint32_t *ret_row, double *ret_bad)
{
    *ret_bad = lr;
    for (uint32_t i = 0; i < n; i++) {
        *ret_row = i;
        for (uint32_t j = i; j < n; j++, gram++) {
            if (!(fabs(*gram) <= GRAM_MAX) || (j == i && *gram < 0.0)) {
                *ret_bad = *gram;
                return 0;
            }
        }
    }
    *ret_row = 0;
    return n > 0 && lr > 0.0 && lr <= 1e6;
}

uint32_t mx_loss_clean(const struct mx_loss *losses, uint32_t n, const struct mx_loss_bounds *b,
                       struct mx_loss *ret, uint32_t *ret_first)
{
    uint32_t kept = 0;

    *ret_first = n;
    for (uint32_t i = 0; i < n; i++) {
        if (mx_loss_ok(&losses[i], b)) {
            ret[kept++] = losses[i];
        } else if (*ret_first == n) {
            *ret_first = i;
        }
    }
    return kept;
}

void mx_fixed_add(struct mx_fixed *sum, double v)
{
    unsigned __int128 total = (unsigned __int128)sum->high << 64 | sum->low;
    unsigned __int128 term = 0;
    uint64_t mantissa;
    int exponent;

    MX_CORE_REQUIRE(fabs(v) < 0x1p71);
    if (v == 0.0) {
        return;
    }
    mantissa = (uint64_t)ldexp(frexp(fabs(v), &exponent), 53); /* mantissa * 2^(exponent - 53) */
    exponent += FRACTION_BITS - 53;
    if (exponent >= 0) {
        term = (unsigned __int128)mantissa << exponent;
    } else if (exponent > -64) {
        term = mantissa >> -exponent;
    }
    total = v < 0.0 ? total - term : total + term; /* two's complement */
    sum->high = (uint64_t)(total >> 64);
    sum->low = (uint64_t)total;
}

double mx_fixed_get(const struct mx_fixed *sum)
{
    return ldexp((double)sum->high, 64 - FRACTION_BITS) + ldexp((double)sum->low, -FRACTION_BITS);
}

double mx_fixed_get_signed(const struct mx_fixed *sum)
{
    unsigned __int128 total = (unsigned __int128)sum->high << 64 | sum->low;
    struct mx_fixed v = *sum;

    if (sum->high >> 63 == 0) {
        return mx_fixed_get(&v);
    }
    total = -total;
    v = (struct mx_fixed){(uint64_t)(total >> 64), (uint64_t)total};
    return -mx_fixed_get(&v);
}
