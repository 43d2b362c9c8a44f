/* savgol.c - see savgol.h. Knows nothing of losses. */
#include "daemon/core/savgol.h"

#include "daemon/core/check.h"

int mx_savgol_window_ok(size_t window)
{
    return window == 1 || (window >= 5 && window <= MX_SAVGOL_WINDOW && window % 2 == 1);
}

/* The polynomials of degree 0 to 3 that are orthogonal over -h .. h, at i. In them the least
 * squares are four independent products, with no matrix to solve and nothing to lose in it. */
static void basis(double h, double i, double *ret)
{
    ret[0] = 1.0;
    ret[1] = i;
    ret[2] = i * i - h * (h + 1.0) / 3.0;
    ret[3] = i * (i * i - (3.0 * h * h + 3.0 * h - 1.0) / 5.0);
}

void mx_savgol_weights(size_t window, size_t at, double *ret)
{
    double h = (double)(window / 2), norm[4] = {0}, q[4], here[4];

    MX_CORE_REQUIRE(mx_savgol_window_ok(window) && at < window);
    if (window == 1) {
        ret[0] = 1.0;
        return;
    }
    for (size_t i = 0; i < window; i++) {
        basis(h, (double)i - h, q);
        for (size_t j = 0; j < 4; j++) {
            norm[j] += q[j] * q[j];
        }
    }
    basis(h, (double)at - h, here);
    for (size_t i = 0; i < window; i++) {
        basis(h, (double)i - h, q);
        ret[i] = 0.0;
        for (size_t j = 0; j < 4; j++) {
            ret[i] += q[j] * here[j] / norm[j];
        }
    }
}

size_t mx_savgol_start(size_t n, size_t window, size_t row)
{
    size_t half = window / 2, start = row > half ? row - half : 0;

    return start < n - window ? start : n - window;
}

void mx_savgol_filter(const double *y, size_t n, size_t window, double *out)
{
    double w[MX_SAVGOL_WINDOW];
    size_t made_for = window; /* the place that w was made for; none yet */

    MX_CORE_REQUIRE(n >= window);
    for (size_t row = 0; row < n; row++) {
        size_t start = mx_savgol_start(n, window, row);

        if (row - start != made_for) {
            made_for = row - start;
            mx_savgol_weights(window, made_for, w);
        }
        out[row] = 0.0;
        for (size_t i = 0; i < window; i++) {
            out[row] += w[i] * y[start + i];
        }
    }
}
