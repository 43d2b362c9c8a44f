/* perm.h - keyed, invertible shuffles without index arrays.
 *
 * mx_perm: a bijection of [0, n) by an alternating unbalanced Feistel network with cycle-walking
 * (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002).
 * mx_order: the order in which an epoch of a domain visits its samples. With chunk > 1 it works on
 * two levels, so that a compressed block is needed in one stretch: the chunks (runs of `chunk`
 * consecutive samples; the last may be short) are permuted, then the samples inside each window of
 * `window` permuted chunks. With length > 1 it is groups of `length` consecutive samples that a
 * window permutes: group j is the samples from j * length on, and takes as many places in a row.
 * Windows lie in the same places whatever the length; samples at the end that make no whole group
 * have no place, and the places that they leave stand empty at the end of their window. Pure, no
 * memory; any thread. */
#ifndef MX_CORE_PERM_H
#define MX_CORE_PERM_H

#include <stdint.h>

#define MX_PERM_ROUNDS 6

struct mx_perm {
    uint64_t n;
    unsigned low_bits, high_bits;
    uint64_t keys[MX_PERM_ROUNDS];
};

/* n >= 1. */
void mx_perm_init(struct mx_perm *p, uint64_t n, uint64_t key);
uint64_t mx_perm_at(const struct mx_perm *p, uint64_t i);      /* i < n */
/* ret[i] = at(first + i) for i < n; faster than one by one. */
void mx_perm_run(const struct mx_perm *p, uint64_t first, uint32_t n, uint64_t *ret);
uint64_t mx_perm_inverse(const struct mx_perm *p, uint64_t x); /* x < n; inverse of at */

struct mx_order {
    uint64_t n;             /* samples */
    uint32_t chunk, window; /* samples in a chunk, chunks in a window */
    uint32_t length;        /* samples in a group; divides chunk */
    uint32_t chunk_groups;  /* chunk / length */
    uint64_t chunks;
    uint64_t short_at;      /* where the chunk permutation puts the last, maybe short, chunk */
    uint64_t key;
    struct mx_perm outer;   /* over chunks */
};

/* What one window of an order has worked out; for many places of the same window in a row. */
struct mx_order_window {
    uint64_t number;
    uint64_t start, size; /* its places in the epoch: [start, start + size); size 0: none yet */
    uint64_t groups;      /* that begin in it: groups * length <= size */
    uint64_t short_end;   /* its group number where the short chunk ends, or UINT64_MAX */
    struct mx_perm inner; /* over its groups */
};

/* n, chunk, window >= 1. chunk == 1 is a single permutation of all samples. Of length 1. */
void mx_order_init(struct mx_order *o, uint64_t n, uint32_t chunk, uint32_t window, uint64_t key);
/* Of any length that divides chunk and isn't over n. */
void mx_order_init_long(struct mx_order *o, uint64_t n, uint32_t chunk, uint32_t window,
                        uint32_t length, uint64_t key);
/* Place in the epoch -> the group that begins there: its first sample. */
uint64_t mx_order_at(const struct mx_order *o, uint64_t i);
/* Sample -> the place at which its group begins. It must be of a whole group: mx_order_whole. */
uint64_t mx_order_inverse(const struct mx_order *o, uint64_t s);
/* As mx_order_at. *w (size 0 at first) is moved to the window of i where it isn't there. */
uint64_t mx_order_at_in(const struct mx_order *o, uint64_t i, struct mx_order_window *w);
/* ret[j] = mx_order_at_in(o, first + j * length, w) for j < n; faster than one by one. Returns how
 * many: fewer than n where empty places or the end of the epoch come before the next one. */
uint32_t mx_order_run(const struct mx_order *o, uint64_t first, uint32_t n, uint64_t *ret,
                      struct mx_order_window *w);
/* The samples of whole groups: 0 .. that - 1. */
uint64_t mx_order_whole(const struct mx_order *o);
/* The first place, from i <= n on, at which a group begins; n if none does. */
uint64_t mx_order_next(const struct mx_order *o, uint64_t i, struct mx_order_window *w);
/* The first place, from i <= n on, at which a window begins; n if none does. */
uint64_t mx_order_window_end(const struct mx_order *o, uint64_t i, struct mx_order_window *w);

#endif
