/* shares.h - from a policy's weights to a mix: limits, then integers.
 *
 * A mix is K shares in 64-bit integers that sum to exactly MX_SHARE_ONE. From here on nothing is
 * floating point. Pure; the caller brings the scratch memory. */
#ifndef MX_CORE_SHARES_H
#define MX_CORE_SHARES_H

#include <stddef.h>
#include <stdint.h>

#define MX_SHARE_ONE ((uint64_t)1 << 32)

/* What an operator allows a domain. pin: exact share, NAN for none; it wins over floor and ceiling.
 * open: whether the domain can be drawn at all; a closed one gets exactly 0. */
struct mx_limit {
    double floor;   /* >= 0 */
    double ceiling; /* <= 1 */
    double pin;
    int open;
};

enum mx_limits_verdict {
    MX_LIMITS_OK = 0,
    MX_LIMITS_RANGE,    /* *ret_domain: a floor, ceiling or pin outside [0, 1] or not a number */
    MX_LIMITS_CROSSED,  /* *ret_domain: floor over ceiling */
    MX_LIMITS_OVER,     /* floors and pins sum to *ret_sum > 1 */
    MX_LIMITS_UNDER,    /* ceilings and pins sum to *ret_sum < 1 */
    MX_LIMITS_CLOSED,   /* no domain is open */
};

/* Whether the limits can be met together. */
enum mx_limits_verdict mx_limits_check(const struct mx_limit *limits, size_t k, size_t *ret_domain,
                                       double *ret_sum);

/* Projects w (>= 0, finite, not all 0 over the open domains; any scale) onto the simplex cut by the
 * limits: the nearest point in relative entropy, which keeps the ratios of all domains that no
 * limit binds: p_i = clip(w_i * t, floor_i, ceiling_i) with the one t that makes the sum 1. Which
 * limits bind is found by bisecting the bits of t, then t itself in closed form. Domains of weight
 * 0 keep their floors and share what is left over only if the others' ceilings leave some. out may
 * be w. limits must have passed mx_limits_check. scratch: 4 * k doubles. Not a multiple of
 * clamp-and-renormalise. */
void mx_limits_project(const struct mx_limit *limits, const double *w, size_t k, double *out,
                       double *scratch);

/* Which limit has made each p of a projection what it is; ret: k of enum mx_bound. */
enum mx_bound { MX_BOUND_NONE = 0, MX_BOUND_FLOOR, MX_BOUND_CEILING, MX_BOUND_PIN, MX_BOUND_CLOSED };
void mx_limits_bound(const struct mx_limit *limits, size_t k, const double *p, uint8_t *ret);

/* Quantises p (>= 0, finite, sums to about 1) to shares that sum to exactly MX_SHARE_ONE, by
 * largest remainder, ties to the lower index; a domain of p == 0 gets 0. scratch: k uint64. */
void mx_shares_quantise(const double *p, size_t k, uint64_t *ret_shares, uint64_t *scratch);

#endif
