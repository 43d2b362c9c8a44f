/* scaling_fit.h - a domain's scaling law, loss = exp(e) + exp(a) / count^alpha, fitted to points.
 *
 * Jiang et al., "Adaptive Data Optimization: Dynamic Sample Selection with Scaling Laws", 2024
 * (arXiv 2410.11820). What is minimised over (a, e, alpha), over points (n, L):
 *     sum or mean of huber_delta(logsumexp(a - alpha log n, e) - log L)
 *     + penalty * (max(alpha - 0.8, 0) + max(0.001 - alpha, 0) + max(0.5 - e, 0) + max(a - 6.5, 0))
 *     + offset
 * huber_d(r) is r^2 / 2 up to |r| = d, and d (|r| - d/2) beyond. a is the log of the reducible loss
 * at one count, e that of the loss that no count removes; counts are samples where the bounds above
 * are to mean what the authors meant.
 *
 * The authors write the second penalty -min(alpha, 0.001), hence ADO's offset of -0.001. They run
 * L-BFGS in float32 from each of 512 starts. Here all starts are scored, and a damped Newton method
 * runs from the best start of each alpha, 8 of them: for one alpha the law is linear in exp(a) and
 * exp(e), so it is along alpha that the objective has several minima. The best end is the fit. What
 * is alike is the objective reached: it is as low as theirs or lower; and as low as if the method
 * ran from every start, to a thousandth. The parameters may differ, the more the fewer points there
 * are: fewer than three determine nothing, and each law through them is as good as the next.
 *
 * Pure; the caller brings the scratch memory. */
#ifndef MX_CORE_SCALING_FIT_H
#define MX_CORE_SCALING_FIT_H

#include <stddef.h>
#include <stdint.h>

/* The starting values of one parameter. */
struct mx_fit_axis {
    const double *at;
    uint32_t n;
};

struct mx_fit_options {
    double delta;   /* of the Huber loss */
    double penalty; /* weight of each penalty */
    double offset;
    int mean; /* of the Huber losses; else their sum */
    struct mx_fit_axis a, e, alpha;
};

/* As ADO's authors set it (sum, penalty 1), and as Mixtera does (mean, penalty 1000). */
extern const struct mx_fit_options mx_fit_ado;
extern const struct mx_fit_options mx_fit_mixtera;

struct mx_scaling_law {
    double a, e, alpha;
    double objective;
};

/* The objective at `law` (its a, e, alpha), and with ret_gradient its derivatives by them; where a
 * penalty sets in, that of the side where it is 0. x, y: n points, > 0. */
double mx_scaling_objective(const struct mx_fit_options *options, const struct mx_scaling_law *law,
                            const double *x, const double *y, size_t n, double *ret_gradient);

/* Fits one domain: counts x and losses y, n of them. Returns whether *ret holds a law, all of it
 * finite; it doesn't where n is 0 or a point has no logarithm. scratch: 2 * n doubles. The work is
 * bounded: one objective for each start, about 500 at most for each alpha, and 2000 at the end. */
int mx_scaling_fit(const struct mx_fit_options *options, const double *x, const double *y, size_t n,
                   double *scratch, struct mx_scaling_law *ret);

#endif
