/* rng.h - counter-based random numbers: Philox4x32-10.
 *
 * Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11. A number is a pure function
 * of (seed, stream, a, b): no state, so any step of any run can be drawn again anywhere. */
#ifndef MX_CORE_RNG_H
#define MX_CORE_RNG_H

#include <stdint.h>

/* One draw of the generator: four words from a key of two and a counter of four. */
void mx_philox4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t ret[4]);

/* What a number is for; two streams never share one. */
enum mx_stream {
    MX_STREAM_OFFSET = 1, /* the systematic offset of step a */
    MX_STREAM_IID = 2,    /* the domain of slot (or micro-batch) b of step a */
    MX_STREAM_SLOTS = 3,  /* the key of the slot permutation of step a */
    MX_STREAM_ORDER = 4,  /* the key of the order of domain b in epoch a */
    MX_STREAM_JOIN = 5,   /* the key of the order of samples that joined domain b at cursor a */
    MX_STREAM_SWEEP = 6,  /* place b of a policy's sweep a over the domains */
};

/* 64 random bits for (seed, stream, a, b). */
uint64_t mx_rand64(uint64_t seed, enum mx_stream stream, uint64_t a, uint32_t b);

#endif
