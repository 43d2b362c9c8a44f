/* loss_history.c - see loss_history.h. Knows how rows are kept and smoothed; nothing of what is
 * fitted to them. */
#include "daemon/core/loss_history.h"

#include "daemon/core/check.h"
#include "daemon/core/savgol.h"

#include <math.h>
#include <string.h>

/* The block: this header, then `window` rows of raw losses (row number modulo window), then the
 * kept rows' counts, then their smoothed losses. A row has a double for each domain. */
struct head {
    double rows, window, first, shrink; /* options */
    double stride;                      /* the present one */
    double n;                           /* rows added */
    double kept;                        /* kept row j is row first + j * stride */
    double final;                       /* of these, those that are smoothed for good */
};

#define HEAD (sizeof(struct head) / sizeof(double))

struct view {
    struct head *head;
    double *ring, *counts, *smooth;
};

static struct view view_of(double *history, uint32_t k)
{
    struct view v = {(struct head *)(void *)history, history + HEAD, NULL, NULL};

    v.counts = v.ring + (size_t)v.head->window * k;
    v.smooth = v.counts + (size_t)v.head->rows * k;
    return v;
}

size_t mx_loss_history_size(uint32_t k, const struct mx_loss_options *options)
{
    return HEAD + ((size_t)options->window + 2 * (size_t)options->rows) * k;
}

void mx_loss_history_init(double *history, uint32_t k, const struct mx_loss_options *options)
{
    MX_CORE_REQUIRE(options->rows >= 2 && options->rows % 2 == 0 && options->stride >= 1);
    MX_CORE_REQUIRE(mx_savgol_window_ok(options->window));
    memset(history, 0, mx_loss_history_size(k, options) * sizeof *history);
    *(struct head *)(void *)history = (struct head){
        .rows = options->rows,
        .window = options->window,
        .first = (double)options->first,
        .shrink = options->shrink != 0,
        .stride = options->stride,
    };
}

uint64_t mx_loss_history_n(const double *history)
{
    return (uint64_t)((const struct head *)(const void *)history)->n;
}

static int is_whole(double v, double max)
{
    return v >= 0.0 && v <= max && floor(v) == v;
}

/* Kept rows up to row `last`. */
static double rows_to(const struct head *h, double last)
{
    return last >= h->first ? floor((last - h->first) / h->stride) + 1.0 : 0.0;
}

int mx_loss_history_sane(const double *history, const struct mx_loss_options *options)
{
    const struct head *h = (const struct head *)(const void *)history;
    int doublings;

    if (h->rows != options->rows || h->window != options->window ||
        h->first != (double)options->first || h->shrink != (options->shrink != 0) ||
        !is_whole(h->n, 0x1p53) || !is_whole(h->stride, 0x1p53) || !(h->kept <= h->rows) ||
        frexp(h->stride / options->stride, &doublings) != 0.5 || doublings < 1) {
        return 0;
    }
    return h->kept == rows_to(h, h->n - 1.0) &&
           h->final == (h->n < h->window ? 0.0
                                         : rows_to(h, h->n - 1.0 - floor(h->window / 2.0)));
}

static size_t row_of(const struct head *h, size_t j)
{
    return (size_t)h->first + j * (size_t)h->stride;
}

/* ---- adding --------------------------------------------------------------------------------- */

/* Drops the second of every two kept rows. Those that are final come first, so they stay so. */
static void thin(const struct view *v, uint32_t k)
{
    size_t left = (size_t)v->head->kept / 2;

    for (size_t j = 1; j < left; j++) {
        memcpy(v->counts + j * k, v->counts + 2 * j * k, k * sizeof(double));
        memcpy(v->smooth + j * k, v->smooth + 2 * j * k, k * sizeof(double));
    }
    v->head->kept = (double)left;
    v->head->final = (double)(((size_t)v->head->final + 1) / 2);
    v->head->stride *= 2.0;
}

/* Smooths kept row j, whose window is the ring's, for all domains. Row by row through the ring:
 * memory is read in its order, however many domains there are. */
static void finish(const struct view *v, uint32_t k, size_t j)
{
    size_t window = (size_t)v->head->window, start = (size_t)v->head->n - window;
    double w[MX_SAVGOL_WINDOW], *out = v->smooth + j * k;

    mx_savgol_weights(window, row_of(v->head, j) - start, w);
    memset(out, 0, k * sizeof *out);
    for (size_t i = 0; i < window; i++) {
        const double *raw = v->ring + (start + i) % window * k;

        for (uint32_t d = 0; d < k; d++) {
            out[d] += w[i] * raw[d];
        }
    }
}

void mx_loss_history_add(double *history, uint32_t k, const double *counts, const double *losses)
{
    struct view v = view_of(history, k);
    struct head *h = v.head;
    size_t window = (size_t)h->window, row = (size_t)h->n;

    memcpy(v.ring + row % window * k, losses, k * sizeof *losses);
    h->n += 1.0;
    if (row >= (size_t)h->first && (row - (size_t)h->first) % (size_t)h->stride == 0) {
        if (h->kept == h->rows) {
            thin(&v, k); /* rows is even: this row is the next one at the doubled stride too */
        }
        memcpy(v.counts + (size_t)h->kept * k, counts, k * sizeof *counts);
        memset(v.smooth + (size_t)h->kept * k, 0, k * sizeof *v.smooth);
        h->kept += 1.0;
    }
    while (row + 1 >= window && h->final < h->kept &&
           row_of(h, (size_t)h->final) + window / 2 <= row) {
        finish(&v, k, (size_t)h->final);
        h->final += 1.0;
    }
}

/* ---- points --------------------------------------------------------------------------------- */

/* The window that n rows fill; 0 for none. */
static size_t window_for(const struct head *h)
{
    size_t window = (size_t)h->window, n = (size_t)h->n;

    if (n >= window) {
        return window;
    }
    if (h->shrink == 0.0 || n == 0) {
        return 0;
    }
    return n < 5 ? 1 : n - 1 + n % 2;
}

/* A row that isn't final, by the rows that there are. */
static double smoothed_now(const struct head *h, const double *ring, uint32_t k, uint32_t domain,
                           size_t window, size_t row)
{
    size_t start = mx_savgol_start((size_t)h->n, window, row);
    double w[MX_SAVGOL_WINDOW], sum = 0.0;

    mx_savgol_weights(window, row - start, w);
    for (size_t i = 0; i < window; i++) {
        sum += w[i] * ring[(start + i) % (size_t)h->window * k + domain];
    }
    return sum;
}

size_t mx_loss_history_points(const double *history, uint32_t k, uint32_t domain, double *x,
                              double *y)
{
    const struct head *h = (const struct head *)(const void *)history;
    const double *ring = history + HEAD, *counts = ring + (size_t)h->window * k;
    size_t window = window_for(h), n = 0;

    if (window == 0) {
        return 0;
    }
    for (size_t j = 0; j < (size_t)h->kept; j++) {
        double count = counts[j * k + domain], loss = counts[((size_t)h->rows + j) * k + domain];

        if (j >= (size_t)h->final) {
            loss = smoothed_now(h, ring, k, domain, window, row_of(h, j));
        }
        if (count > 0.0 && loss > 0.0) {
            x[n] = count;
            y[n++] = loss;
        }
    }
    return n;
}
