/* softmax.c - see softmax.h. */
#include "daemon/core/softmax.h"

#include <math.h>
#include <stddef.h>

void mx_softmax(const double *x, uint32_t k, double *ret)
{
    double largest = x[0], sum = 0.0;

    for (uint32_t i = 1; i < k; i++) {
        largest = fmax(largest, x[i]);
    }
    for (uint32_t i = 0; i < k; i++) {
        ret[i] = exp(x[i] - largest);
        sum += ret[i];
    }
    for (uint32_t i = 0; i < k; i++) {
        ret[i] /= sum;
    }
}

void mx_smoothed(double *logs, uint32_t k, double eps, const double *among, double *p)
{
    double largest = logs[0], sum = 0.0, total = 0.0, n = 0.0, shift;

    for (uint32_t i = 1; i < k; i++) {
        largest = fmax(largest, logs[i]);
    }
    for (uint32_t i = 0; i < k; i++) {
        p[i] = exp(logs[i] - largest);
        sum += p[i];
        n += among == NULL || among[i] > 0.0;
    }
    shift = largest + log(sum);
    for (uint32_t i = 0; i < k; i++) {
        p[i] = (1.0 - eps) * (p[i] / sum) + (among == NULL || among[i] > 0.0 ? eps / n : 0.0);
        total += p[i];
        logs[i] = eps > 0.0 ? log(p[i]) : logs[i] - shift;
    }
    for (uint32_t i = 0; i < k; i++) {
        p[i] /= total;
    }
}
