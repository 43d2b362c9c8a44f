/* adam.c - see adam.h. */
#include "client/examples/bytelm/adam.h"

#include <math.h>

double bl_rate(double peak, double warmup, double decay, uint64_t t)
{
    double at = (double)t;

    if (at < warmup)
        return peak * at / warmup;
    return peak / sqrt(1.0 + (at - warmup) / decay);
}

double bl_clip(real *grads, size_t n, double most)
{
    double sum = 0, norm;
    real factor;

    for (size_t i = 0; i < n; i++)
        sum += (double)grads[i] * (double)grads[i];
    norm = sqrt(sum);
    if (!isfinite(norm) || norm <= most)
        return norm;
    factor = (real)(most / norm);
    for (size_t i = 0; i < n; i++)
        grads[i] *= factor;
    return norm;
}

void bl_adam_step(const struct bl_adam *a, uint64_t t, size_t n, real *restrict params,
                  const real *restrict grads, real *restrict m, real *restrict v)
{
    /* The bias corrections 1 / (1 - beta^t) folded into the rate and into the root. */
    const real rate = (real)(a->rate / (1.0 - pow(a->beta1, (double)t)));
    const real unbias = (real)(1.0 / sqrt(1.0 - pow(a->beta2, (double)t)));
    const real b1 = (real)a->beta1, b2 = (real)a->beta2, epsilon = (real)a->epsilon;

    for (size_t i = 0; i < n; i++) {
        real g = grads[i];

        m[i] = b1 * m[i] + (1 - b1) * g;
        v[i] = b2 * v[i] + (1 - b2) * g * g;
        params[i] -= rate * m[i] / ((real)sqrt((double)v[i]) * unbias + epsilon);
    }
}
