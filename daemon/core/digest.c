/* digest.c - see digest.h. Knows nothing of what is digested. */
#include "daemon/core/digest.h"

#define P1 0x9E3779B185EBCA87u
#define P2 0xC2B2AE3D27D4EB4Fu
#define P3 0x165667B19E3779F9u
#define P4 0x85EBCA77C2B2AE63u
#define P5 0x27D4EB2F165667C5u

static inline uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static inline uint64_t round_of(uint64_t lane, uint64_t word)
{
    return rotate(lane + word * P2, 31) * P1;
}

void mx_digest_begin(struct mx_digest *d, uint64_t seed)
{
    d->lanes[0] = seed + P1 + P2;
    d->lanes[1] = seed + P2;
    d->lanes[2] = seed;
    d->lanes[3] = seed - P1;
    d->seed = seed;
    d->words = 0;
}

void mx_digest_word(struct mx_digest *d, uint64_t word)
{
    d->held[d->words++ % 4] = word;
    if (d->words % 4 == 0) {
        for (int i = 0; i < 4; i++) {
            d->lanes[i] = round_of(d->lanes[i], d->held[i]);
        }
    }
}

void mx_digest_words(struct mx_digest *d, const uint64_t *words, size_t n)
{
    uint64_t lanes[4];
    size_t i = 0;

    while (i < n && d->words % 4 != 0) {
        mx_digest_word(d, words[i++]);
    }
    for (int j = 0; j < 4; j++) {
        lanes[j] = d->lanes[j];
    }
    for (; n - i >= 4; i += 4) { /* the most of them, without a detour through `held` */
        for (size_t j = 0; j < 4; j++) {
            lanes[j] = round_of(lanes[j], words[i + j]);
        }
        d->words += 4;
    }
    for (int j = 0; j < 4; j++) {
        d->lanes[j] = lanes[j];
    }
    while (i < n) {
        mx_digest_word(d, words[i++]);
    }
}

uint64_t mx_digest_end(const struct mx_digest *d)
{
    const uint64_t *v = d->lanes;
    uint64_t h;

    if (d->words >= 4) {
        h = rotate(v[0], 1) + rotate(v[1], 7) + rotate(v[2], 12) + rotate(v[3], 18);
        for (int i = 0; i < 4; i++) {
            h = (h ^ round_of(0, v[i])) * P1 + P4;
        }
    } else {
        h = d->seed + P5;
    }
    h += d->words * 8;
    for (uint64_t i = 0; i < d->words % 4; i++) {
        h = rotate(h ^ round_of(0, d->held[i]), 27) * P1 + P4;
    }
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}
