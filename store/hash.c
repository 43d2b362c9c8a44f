/* hash.c - see hash.h. The only file that knows xxHash.
 *
 * Where the library offers it, the variants that choose AVX2 or AVX-512 at run time are used: they
 * give the same values at about twice the speed. */
#include "store/hash.h"

#include "proto/wire.h"

#ifdef MX_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

uint64_t mx_hash64(const void *p, size_t n, uint64_t seed)
{
    return XXH3_64bits_withSeed(p, n, seed);
}

uint64_t mx_hash_seed(uint64_t owner, char kind, uint64_t number, uint64_t part)
{
    uint8_t b[25];

    mx_store_u64(b, owner);
    mx_store_u64(b + 8, number);
    mx_store_u64(b + 16, part);
    b[24] = (uint8_t)kind;
    return XXH3_64bits_withSeed(b, sizeof b, 0);
}

void mx_hash128(const void *p, size_t n, uint64_t ret[2])
{
    XXH128_hash_t h = XXH3_128bits_withSeed(p, n, 0);

    ret[0] = h.low64;
    ret[1] = h.high64;
}
