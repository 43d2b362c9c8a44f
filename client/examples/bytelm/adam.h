/* adam.h - the optimiser: Adam (Kingma and Ba 2015, algorithm 1), after a limit on the gradient's
 * norm. Pure functions over the caller's arrays; any thread. */
#ifndef BL_ADAM_H
#define BL_ADAM_H

#include "client/examples/bytelm/real.h"

#include <stddef.h>
#include <stdint.h>

struct bl_adam {
    double rate, beta1, beta2, epsilon;
};

/* The learning rate of optimiser step t (from 1): rises linearly to `peak` over the first `warmup`
 * steps, then falls as 1 / sqrt(1 + (t - warmup) / decay). It doesn't depend on when training is
 * going to end, so that a longer run begins like a shorter one. */
double bl_rate(double peak, double warmup, double decay, uint64_t t);

/* Scales grads so that their Euclidean norm is at most `most`; returns the norm before. A norm that
 * isn't finite is returned and nothing is scaled. */
double bl_clip(real *grads, size_t n, double most);

/* One step, t from 1: params moved, first and second moments m and v updated. n numbers each. */
void bl_adam_step(const struct bl_adam *a, uint64_t t, size_t n, real *restrict params,
                  const real *restrict grads, real *restrict m, real *restrict v);

#endif
