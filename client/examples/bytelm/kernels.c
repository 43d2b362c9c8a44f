/* kernels.c - see kernels.h. The vectors are those of the compiler's vector extension: SSE on plain
 * x86-64, whatever the target has elsewhere. The product itself is in gemm.c. */
#include "client/examples/bytelm/kernels.h"

#include <math.h>
#include <string.h>

#define LANES (16 / BL_REAL_BYTES)

typedef real vec __attribute__((vector_size(16)));
#ifdef BL_DOUBLE
typedef int64_t ivec __attribute__((vector_size(16)));
#else
typedef int32_t ivec __attribute__((vector_size(16)));
#endif

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

static inline vec spread(real x)
{
    vec v;

    for (size_t i = 0; i < LANES; i++)
        v[i] = x;
    return v;
}

void bl_gemm(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_col, const real *b,
             size_t b_row, real *c, size_t c_row, int add)
{
#ifdef BL_HAVE_WIDE
    if (__builtin_cpu_supports("avx2")) {
        bl_gemm_wide(m, n, k, a, a_row, a_col, b, b_row, c, c_row, add);
        return;
    }
#endif
    bl_gemm_plain(m, n, k, a, a_row, a_col, b, b_row, c, c_row, add);
}

void bl_add(real *restrict y, const real *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        store(y + i, load(y + i) + load(x + i));
}

#ifdef BL_DOUBLE

static inline vec vexp(vec x)
{
    for (size_t i = 0; i < LANES; i++)
        x[i] = exp(x[i]);
    return x;
}

#else

/* 2^(x log2 e) = 2^n 2^f with n whole and |f| <= 1/2. 2^f is its Taylor series to the sixth power
 * (the rest is below 1.3e-7 of it); 2^n is put together as bits. Below -87 the result would be
 * denormal and counts for nothing beside the softmax's largest term, 1. */
static inline vec vexp(vec x)
{
    const vec magic = spread(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    const vec least = spread(-87.0f);
    ivec small = x < least;
    vec y, n, f, p, scale;
    ivec bits;

    x = (vec)(((ivec)x & ~small) | ((ivec)least & small));
    y = x * 1.44269504f;
    n = (y + magic) - magic;
    /* In two parts, as x log2 e alone has lost some bits of f. */
    f = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    p = spread(1.38888889e-3f);
    p = p * f + 8.33333333e-3f;
    p = p * f + 4.16666667e-2f;
    p = p * f + 1.66666667e-1f;
    p = p * f + 0.5f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
    bits = (__builtin_convertvector(n, ivec) + 127) << 23;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

#endif

real bl_exp(real x)
{
    return vexp(spread(x))[0];
}

real bl_softmax(real *row, size_t n, size_t padded, real scale)
{
    vec sums = {0};
    real top = row[0], sum = 0;

    for (size_t i = 1; i < n; i++)
        top = row[i] > top ? row[i] : top;
    for (size_t i = n; i < padded; i++)
        row[i] = -INFINITY;
    for (size_t i = 0; i < padded; i += LANES) {
        vec e = vexp(load(row + i) - top);

        store(row + i, e);
        sums += e;
    }
    for (size_t i = 0; i < LANES; i++)
        sum += sums[i];
    for (size_t i = 0; i < padded; i++)
        row[i] *= scale / sum;
    for (size_t i = n; i < padded; i++)
        row[i] = 0;
    return top + (real)log((double)sum);
}
