/* kernels.h - the three loops in which bytelm spends its time: a matrix product, a softmax, a sum
 * of rows. Pure functions over the caller's memory; any thread; results depend on the inputs alone
 * (the order of the additions is fixed), so that a resumed training repeats itself bit by bit. */
#ifndef BL_KERNELS_H
#define BL_KERNELS_H

#include "client/examples/bytelm/real.h"

#include <stddef.h>
#include <stdint.h>

#define BL_PAD 16u         /* columns come in multiples of this: two of the widest vectors */
#define BL_INNER_MAX 1024u /* longest inner dimension of a product */

/* c[m][n] = a b, or += if `add`. a[i][p] is a[i * a_row + p * a_col], so that a transposed matrix
 * is a matter of strides; b is [k][n] with rows b_row apart, c has rows c_row apart. n is a
 * multiple of BL_PAD, k at most BL_INNER_MAX. c overlaps neither a nor b. */
void bl_gemm(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_col, const real *b,
             size_t b_row, real *c, size_t c_row, int add);
/* The two builds of it, which give the same bits; `wide` only where the processor has AVX2. */
void bl_gemm_plain(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_col,
                   const real *b, size_t b_row, real *c, size_t c_row, int add);
void bl_gemm_wide(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_col,
                  const real *b, size_t b_row, real *c, size_t c_row, int add);

/* Row of `padded` (multiple of BL_PAD) logits, of which the first n are real: replaces them by
 * their softmax times `scale` and the padding by zeros. Returns the log of the softmax's
 * denominator, i.e. -log p(i) = result - logit(i). Not finite if a logit isn't. */
real bl_softmax(real *row, size_t n, size_t padded, real scale);

/* y += x, n a multiple of BL_PAD. */
void bl_add(real *restrict y, const real *restrict x, size_t n);

/* e^x to a few units in the last place, for x <= 0; what bl_softmax uses. */
real bl_exp(real x);

#endif
