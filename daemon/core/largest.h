/* largest.h - the last step of the method of largest remainders, shared by shares and plan.
 *
 * Pure, no memory of its own; any thread. */
#ifndef MX_CORE_LARGEST_H
#define MX_CORE_LARGEST_H

#include <stddef.h>
#include <stdint.h>

/* Which of k remainders round up, when `left` of them do: those over *ret_over, and of those equal
 * to it the first *ret_ties by index. A remainder is 0 for an entry that may not round up at all,
 * and at most 2^33 otherwise. left must not be more than the entries that are not 0. */
void mx_largest(const uint64_t *remainders, size_t k, uint64_t left, uint64_t *ret_over,
                uint64_t *ret_ties);

#endif
