/* check.h - cmocka with what it needs, a temporary folder, and random numbers for bytelm's tests.
 */
#ifndef BL_TESTS_CHECK_H
#define BL_TESTS_CHECK_H

#include "client/examples/bytelm/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

/* The seed of a randomised test: BL_TEST_SEED or 1; printed, so that a failure can be repeated. */
static inline uint64_t test_seed(const char *test)
{
    const char *given = getenv("BL_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : 1;

    print_message("%s: seed %llu (set BL_TEST_SEED to repeat or change)\n", test,
                  (unsigned long long)seed);
    return seed;
}

struct dice {
    uint64_t seed, stream, i;
};

static inline uint64_t below(struct dice *d, uint64_t n)
{
    return bl_random(d->seed, d->stream, d->i++) % n;
}

/* In [-1, 1). */
static inline double number(struct dice *d)
{
    return (double)(bl_random(d->seed, d->stream, d->i++) >> 11) * 0x1p-52 - 1.0;
}

#endif
