/* largest.c - see largest.h. Knows nothing of what the remainders are of. */
#include "daemon/core/largest.h"

#include "daemon/core/check.h"

#define REMAINDER_BITS 34

static uint64_t count_from(const uint64_t *v, size_t k, uint64_t least)
{
    uint64_t n = 0;

    for (size_t i = 0; i < k; i++) {
        n += v[i] >= least;
    }
    return n;
}

/* Builds the largest value that still has `left` entries at or over it, from the top bit down: no
 * sorting, no memory, and the time depends on k alone. */
void mx_largest(const uint64_t *remainders, size_t k, uint64_t left, uint64_t *ret_over,
                uint64_t *ret_ties)
{
    uint64_t value = 0;

    if (left == 0) {
        *ret_over = UINT64_MAX;
        *ret_ties = 0;
        return;
    }
    MX_CORE_REQUIRE(left <= count_from(remainders, k, 1));
    for (int bit = REMAINDER_BITS - 1; bit >= 0; bit--) {
        uint64_t try = value | (uint64_t)1 << bit;

        if (count_from(remainders, k, try) >= left) {
            value = try;
        }
    }
    *ret_over = value;
    *ret_ties = left - count_from(remainders, k, value + 1);
}
