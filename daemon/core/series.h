/* series.h - what a domain draws: from a cursor to a sample, and back. Integers only.
 *
 * A domain's series is an endless list of places, numbered by its cursor from 0. Epoch e is one
 * keyed shuffle of all samples (perm.h). The list is a function of the seed and of the changes that
 * the domain has gone through; a change is bound to the cursor from which it holds, so that what
 * lies before it stays as it was, and the whole list, past and to come, follows from the latest
 * description:
 *
 *   - a stretch: from cursor `from` on the domain has `samples` samples. It begins with an epoch
 *     or, `joined`, inside one: then the new samples are dealt evenly into what is left of that
 *     epoch, both in their own shuffled order, so that each sample still comes once.
 *   - a withdrawal: from cursor `from` on, places that hold one of its samples are passed over:
 *     they count for the cursor and are not drawn.
 *
 * Samples can be drawn in groups of `length` in a row (perm.h), each taking as many places. Then
 * what begins at a place is a group, named by its first sample; it is passed over if one of its
 * samples is withdrawn, and places where none begins are too. Where the length changes, the cursor
 * goes on to the next window (mx_series_round), so that no sample comes twice in an epoch. Domains
 * that are drawn in groups don't join.
 *
 * Pure; any thread. */
#ifndef MX_CORE_SERIES_H
#define MX_CORE_SERIES_H

#include "daemon/core/perm.h"
#include "proto/limits.h"

#include <stdint.h>

enum mx_on_exhausted {
    MX_EXHAUSTED_REDISTRIBUTE = 0, /* the others take its slots, by their shares */
    MX_EXHAUSTED_STOP = 1,         /* the run stops at the step that would need more */
    MX_EXHAUSTED_REPEAT = 2,       /* go on beyond max_epochs */
};

#define MX_NO_BUDGET UINT64_MAX

/* The domain as it is from a cursor on. */
struct mx_stretch {
    uint64_t from;    /* cursor */
    uint64_t samples; /* 0 .. samples-1 exist from there on; at least as many as before */
    uint64_t epoch;   /* the epoch that begins there, or is under way */
    uint64_t rest;    /* joined: places of that epoch that were left; else 0 */
    uint32_t chunk;   /* see perm.h */
    uint32_t depth;   /* how many stretches have joined this epoch: 0 unless joined */
    uint32_t shards;  /* the domain's shards then; means nothing here */
};

/* Samples that are passed over from a cursor on. */
struct mx_gone {
    uint64_t first, count;
    uint64_t from;
};

struct mx_plan_domain {
    uint64_t samples; /* N at the beginning, >= 1 */
    uint64_t budget;  /* the cursor that may not be passed (max_epochs * N), or MX_NO_BUDGET */
    uint32_t chunk, window; /* see perm.h; chunk 1: nothing to keep together */
    enum mx_on_exhausted on_exhausted;
    uint32_t takes_below; /* it takes slots over from others as long as it has fewer in a step than
                             this, as a ceiling or a pin demands; 0: no limit */
    double max_epochs;    /* what the budget follows from when the domain grows; 0: none */
    const struct mx_stretch *stretches; /* changes, rising in `from`; borrowed */
    const struct mx_gone *gone;         /* withdrawn samples, rising, none twice; borrowed */
    uint32_t n_stretches, n_gone;
};

/* One domain's series: `domain` is its number in the run, which keys its shuffles. */
struct mx_series {
    uint64_t seed;
    const struct mx_plan_domain *d;
    uint32_t domain;
    uint32_t length; /* samples in a group, >= 1 */
};

/* What a look-up has worked out, for the next one nearby. */
struct mx_series_cache {
    int valid;
    uint64_t epoch;
    uint32_t stretch; /* number of the stretch + 1; 0 for the beginning */
    uint32_t length;
    struct mx_order order;
    struct mx_order_window window;
};

/* Groups, by their first samples, and epoch of the places *cursor, *cursor + length, ...: m of
 * them, m <= n, as many as lie in one epoch in a row. Where none begins at *cursor it first moves
 * on to where one does. Returns m, >= 1 for n >= 1; n <= MX_SERIES_RUN. Those that are passed over
 * for a withdrawal come too. */
#define MX_SERIES_RUN 64u
uint32_t mx_series_run(const struct mx_series *s, uint64_t *cursor, uint32_t n,
                       uint64_t *ret_sample, uint64_t *ret_epoch, struct mx_series_cache *cache);

/* Whether the group that begins at a place is passed over. */
int mx_series_gone(const struct mx_series *s, uint64_t cursor, uint64_t sample);

/* How many groups can be drawn from a cursor on within the budget, at most `want`; *ret_cursor:
 * where the cursor stands after them. */
uint32_t mx_series_draw(const struct mx_series *s, uint64_t cursor, uint32_t want,
                        uint64_t *ret_cursor);

/* The first place in [*cursor, end) that draws `sample`, alone or in its group: 1 and *cursor is
 * there, or 0. By inverse permutations: the work is in the number of epochs, not of places.
 * *ret_epoch: its epoch. */
int mx_series_find(const struct mx_series *s, uint64_t sample, uint64_t *cursor, uint64_t end,
                   uint64_t *ret_epoch);

/* Where drawing in groups of another length goes on: at the window's end, if the cursor is inside
 * one, but not past the budget. */
uint64_t mx_series_round(const struct mx_series *s, uint64_t cursor);

/* The epoch that is under way at a cursor, and how many of its places are left (>= 1: at an epoch's
 * first place all of them). */
void mx_series_epoch(const struct mx_series *s, uint64_t cursor, uint64_t *ret_epoch,
                     uint64_t *ret_left);

/* How many samples the domain has at a cursor. */
uint64_t mx_series_samples(const struct mx_plan_domain *d, uint64_t cursor);

/* The stretch with which a domain has `samples` samples (at least as many as it has) as of
 * `cursor`: at once (`now`), or from where the present epoch ends. Stretches that haven't begun are
 * replaced: *ret_keep is how many of d->stretches stay before it. 0, or -1 if this epoch has been
 * joined MX_JOINS_MAX times already. */
#define MX_JOINS_MAX 8u
int mx_series_grow(const struct mx_series *s, uint64_t cursor, uint64_t samples, uint32_t chunk,
                   int now, struct mx_stretch *ret, uint32_t *ret_keep);

/* The budget of a domain that may be drawn max_epochs times in all, by its stretches. */
uint64_t mx_series_budget(const struct mx_plan_domain *d);

#endif
