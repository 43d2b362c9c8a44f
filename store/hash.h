/* hash.h - the checksums of the store: XXH3, bound to what the bytes are.
 *
 * hash.c is the only file that includes xxhash.h. A checksum is seeded with where its bytes belong
 * (the shard, the kind of record, its number), so that the right bytes in the wrong place are as
 * wrong as a flipped bit. Any thread. */
#ifndef MX_STORE_HASH_H
#define MX_STORE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3-64 of n bytes with a seed. */
uint64_t mx_hash64(const void *p, size_t n, uint64_t seed);

/* The seed for record `number` of a kind (a letter) in the shard or run `owner`, part `part` of it
 * (a granule; 0 for the whole). XXH3-64 over the four, 25 bytes little-endian, seed 0. */
uint64_t mx_hash_seed(uint64_t owner, char kind, uint64_t number, uint64_t part);

/* XXH3-128 of n bytes: [0] is the low half. */
void mx_hash128(const void *p, size_t n, uint64_t ret[2]);

#endif
