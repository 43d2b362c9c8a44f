/* softmax.h - weights from exponents, whatever these are. Internal to the core; pure.
 *
 * Everything is formed relative to the largest exponent: no finite one overflows. An exponent may
 * be -INFINITY (a weight of 0), but not all of them. */
#ifndef MX_CORE_SOFTMAX_H
#define MX_CORE_SOFTMAX_H

#include <stdint.h>

/* ret_i = exp(x_i) / sum exp(x); ret may be x. */
void mx_softmax(const double *x, uint32_t k, double *ret);

/* One step of exponentiated weights with smoothing. In logs, which is the logarithm of weights up
 * to a constant, with what is to be added already added:
 *     p <- (1 - eps) softmax(logs) + eps / n,     logs <- ln p
 * eps goes to the n of which `among` (k) is over 0; NULL: to all. The logarithms keep a weight that
 * has become too small for a double apart from one that is 0. */
void mx_smoothed(double *logs, uint32_t k, double eps, const double *among, double *p);

#endif
