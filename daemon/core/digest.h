/* digest.h - a rolling digest of what a run has planned: XXH64 over 64-bit words.
 *
 * Yann Collet's xxHash (https://xxhash.com, specification 0.1.1, "XXH64 Algorithm"), for input that
 * is a whole number of words, each taken in little-endian order. The digest before is the seed of
 * the next, so that one number speaks for all steps up to it. Internal to the core; any thread. */
#ifndef MX_CORE_DIGEST_H
#define MX_CORE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

struct mx_digest {
    uint64_t lanes[4];
    uint64_t held[4]; /* words that don't fill four lanes yet */
    uint64_t seed, words;
};

void mx_digest_begin(struct mx_digest *d, uint64_t seed);
void mx_digest_word(struct mx_digest *d, uint64_t word);
void mx_digest_words(struct mx_digest *d, const uint64_t *words, size_t n);
/* XXH64 of the words' bytes. */
uint64_t mx_digest_end(const struct mx_digest *d);

#endif
