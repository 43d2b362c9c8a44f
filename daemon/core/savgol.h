/* savgol.h - the Savitzky-Golay filter of order 3: each value is replaced by what a cubic, fitted
 * by least squares to the window around it, says there. At both ends, where no window is centred,
 * the cubic of the first or last whole window is read off its centre (scipy.signal.savgol_filter
 * with mode='interp'). Pure. */
#ifndef MX_CORE_SAVGOL_H
#define MX_CORE_SAVGOL_H

#include <stddef.h>

/* The window of ADO's authors, and the longest that this unit takes. */
#define MX_SAVGOL_WINDOW 101

/* Whether `window` can be one: 1 (nothing is smoothed), or odd and from 5 to MX_SAVGOL_WINDOW. */
int mx_savgol_window_ok(size_t window);

/* The weights, `window` of them, whose product with a window's values is the cubic's value at
 * place `at` of it, 0 .. window - 1. */
void mx_savgol_weights(size_t window, size_t at, double *ret);

/* Which window smooths row `row` of n >= window rows: the row where it starts. */
size_t mx_savgol_start(size_t n, size_t window, size_t row);

/* The whole of y, n >= window values, into out, which may not be y. */
void mx_savgol_filter(const double *y, size_t n, size_t window, double *out);

#endif
