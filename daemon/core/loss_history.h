/* loss_history.h - the losses of a run's steps as a scaling law is fitted to them, in bounded
 * memory.
 *
 * ADO's authors keep every step's losses, smooth the whole history (savgol.h) at each fit and take
 * the rows first, first + 10, first + 20, ... of it. Here those rows alone are kept, each with the
 * count of its step, and the last `window` losses beside them. A row's smoothed value is final
 * once window/2 more rows have come. Until then it is made anew at each fit, from the cubic of the
 * last window. So the points are exactly the authors' while all rows fit: up to row
 * first + stride * rows, 512 * 10 steps as ADO is set here. Then every second kept row is dropped
 * and the stride doubles, as often as needed: from rows/2 to rows points remain, evenly spaced over
 * the whole history, each of them with its exact value.
 *
 * The history is a block of doubles (counts are exact up to 2^53) that can be saved, restored and
 * compared bit by bit. A count is cumulative and a domain's own; with ADO's use_same_step_size all
 * domains are given the same. Pure; one thread at a time. */
#ifndef MX_CORE_LOSS_HISTORY_H
#define MX_CORE_LOSS_HISTORY_H

#include <stddef.h>
#include <stdint.h>

struct mx_loss_options {
    uint32_t rows;   /* the most that are kept: even, >= 2 */
    uint32_t window; /* of the filter: see mx_savgol_window_ok */
    uint32_t stride; /* of kept rows while none has been dropped: >= 1 */
    uint64_t first;  /* number of the first row that may be kept, from 0 */
    /* What there is before `window` rows have come: no point (ADO: its filter raises), or with
     * shrink the points of the longest window that the rows fill, unsmoothed below 5 (Mixtera). */
    int shrink;
};

/* Doubles of a history of k domains. */
size_t mx_loss_history_size(uint32_t k, const struct mx_loss_options *options);
void mx_loss_history_init(double *history, uint32_t k, const struct mx_loss_options *options);

/* The next row: each domain's count so far, and its loss, finite. A domain that was not seen brings
 * the value that the caller imputes. */
void mx_loss_history_add(double *history, uint32_t k, const double *counts, const double *losses);

/* Whether a history that comes from outside is one with these options. Its counts and losses may be
 * any numbers; its places, and how many there are, are what its number of rows makes them. */
int mx_loss_history_sane(const double *history, const struct mx_loss_options *options);

/* How many rows have been added. */
uint64_t mx_loss_history_n(const double *history);

/* The points of one domain, in the order of steps: counts into x and smoothed losses into y, each
 * with room for options.rows. Returns how many. Points that have no logarithm (count 0: the domain
 * hadn't been seen; a smoothed loss that isn't positive) are left out: in the authors' code one of
 * them makes the fit NaN. */
size_t mx_loss_history_points(const double *history, uint32_t k, uint32_t domain, double *x,
                              double *y);

#endif
