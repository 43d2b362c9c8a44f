/* gemm.c - the matrix product of kernels.h, built once for plain x86-64 (or whatever the target is)
 * and once with 256-bit vectors (-DBL_WIDE -mavx2), between which bl_gemm chooses at run time.
 *
 * Works on tiles of 4 rows by two vectors, whose sums stay in registers, over a panel of b that is
 * first copied to contiguous memory. Each number of c is summed in the same order in both builds,
 * and -ffp-contract=off forbids fused multiplications: they agree bit by bit. */
#include "client/examples/bytelm/kernels.h"

#include <string.h>

#ifdef BL_WIDE
#define BYTES 32
#define NAME bl_gemm_wide
#else
#define BYTES 16
#define NAME bl_gemm_plain
#endif
#define LANES (BYTES / BL_REAL_BYTES)
#define ROWS 4
#define PANEL (2 * LANES)

typedef real vec __attribute__((vector_size(BYTES)));

static inline vec load(const real *p)
{
    vec v;

    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(real *p, vec v)
{
    memcpy(p, &v, sizeof v);
}

/* `rows` rows of c, one panel wide. Inlined with a constant `rows`, so that acc is registers. */
static inline __attribute__((always_inline)) void tile(size_t rows, size_t k, const real *a,
                                                       size_t a_row, size_t a_col,
                                                       const real *panel, real *c, size_t c_row,
                                                       int add)
{
    vec acc[ROWS][2];

    for (size_t r = 0; r < rows; r++) {
        acc[r][0] = add ? load(c + r * c_row) : (vec){0};
        acc[r][1] = add ? load(c + r * c_row + LANES) : (vec){0};
    }
    for (size_t p = 0; p < k; p++) {
        vec b0 = load(panel + p * PANEL), b1 = load(panel + p * PANEL + LANES);

        for (size_t r = 0; r < rows; r++) {
            real x = a[r * a_row + p * a_col];

            acc[r][0] += x * b0;
            acc[r][1] += x * b1;
        }
    }
    for (size_t r = 0; r < rows; r++) {
        store(c + r * c_row, acc[r][0]);
        store(c + r * c_row + LANES, acc[r][1]);
    }
}

void NAME(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_col, const real *b,
          size_t b_row, real *c, size_t c_row, int add)
{
    real panel[BL_INNER_MAX * PANEL] __attribute__((aligned(64)));

    for (size_t j = 0; j < n; j += PANEL) {
        size_t i = 0;

        for (size_t p = 0; p < k; p++)
            memcpy(panel + p * PANEL, b + p * b_row + j, PANEL * sizeof(real));
        for (; i + ROWS <= m; i += ROWS)
            tile(ROWS, k, a + i * a_row, a_row, a_col, panel, c + i * c_row + j, c_row, add);
        for (; i < m; i++)
            tile(1, k, a + i * a_row, a_row, a_col, panel, c + i * c_row + j, c_row, add);
    }
}
