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
    uint64_t mantissa;
    int exponent;

    MX_CORE_REQUIRE(v >= 0.0 && v < 0x1p71);
    if (v == 0.0) {
        return;
    }
    mantissa = (uint64_t)ldexp(frexp(v, &exponent), 53); /* v = mantissa * 2^(exponent - 53) */
    exponent += FRACTION_BITS - 53;
    if (exponent >= 0) {
        total += (unsigned __int128)mantissa << exponent;
    } else if (exponent > -64) {
        total += mantissa >> -exponent;
    }
    sum->high = (uint64_t)(total >> 64);
    sum->low = (uint64_t)total;
}

double mx_fixed_get(const struct mx_fixed *sum)
{
    return ldexp((double)sum->high, 64 - FRACTION_BITS) + ldexp((double)sum->low, -FRACTION_BITS);
}
