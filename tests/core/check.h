/* check.h - cmocka with what it needs, and the random numbers of these tests: seeded, so that a
 * failure names what to run again. */
#ifndef MX_TESTS_CORE_CHECK_H
#define MX_TESTS_CORE_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* splitmix64; not the core's own generator, which is under test. */
struct dice {
    uint64_t state;
};

static inline uint64_t roll(struct dice *d)
{
    uint64_t x = d->state += 0x9E3779B97F4A7C15u;

    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* 0 .. n - 1. */
static inline uint64_t below(struct dice *d, uint64_t n)
{
    return roll(d) % n;
}

/* [0, 1) */
static inline double unit(struct dice *d)
{
    return (double)(roll(d) >> 11) * 0x1p-53;
}

/* The seed of a test: `fallback`, or what MX_TEST_SEED says. Printed, to be given there again. */
static inline uint64_t test_seed(const char *test, uint64_t fallback)
{
    const char *given = getenv("MX_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : fallback;

    print_message("%s: MX_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

static inline void *test_get(size_t n, size_t size)
{
    void *p = calloc(n > 0 ? n : 1, size);

    assert_non_null(p);
    return p;
}

#endif
