/* plan.h - what is in a step: a pure function of seed, mix, cursors and step. Integers only.
 *
 * What a domain draws from a cursor on is series.h's.
 *
 * A step has exactly `batch` slots, each of one sample. A run can have parts, in which batches are
 * of another size or samples are longer: the parts begin at fixed steps, and what is drawn in a
 * slot is then `length` samples in a row, named by the first. Cursors, budgets and withdrawals
 * count single samples in every part. Where the length changes, what is left of each domain's
 * present window is passed over (series.h). How many each domain gets (counts) comes from the mix
 * and one random offset; which samples, from the domain's cursor and the order of its epoch; which
 * slot, from a permutation keyed by (seed, step). The world size appears nowhere. Any thread. */
#ifndef MX_CORE_PLAN_H
#define MX_CORE_PLAN_H

#include "daemon/core/series.h"

#include <stdint.h>

enum mx_sampling {
    MX_SAMPLING_SYSTEMATIC = 0, /* floor or ceil of batch * share, exactly batch in all, unbiased */
    MX_SAMPLING_IID = 1,        /* independent draws per slot */
    MX_SAMPLING_BLOCK = 2,      /* independent draws per micro-batch of `block` slots */
};

struct mx_plan_part {
    uint64_t from_step; /* the first one's is 0; rising */
    uint32_t batch;     /* slots in a step, 1 .. MX_BATCH_MAX */
    uint32_t block;     /* slots in a micro-batch; divides batch; 1 unless MX_SAMPLING_BLOCK */
    uint32_t length;    /* samples in a slot; divides the longest, which divides all chunks */
};

struct mx_plan_spec {
    uint64_t seed;
    uint32_t batch; /* of a step; with parts, of the first one */
    uint32_t k;     /* domains */
    uint32_t block; /* likewise */
    enum mx_sampling sampling;
    const struct mx_plan_domain *domains; /* k of them, borrowed as long as the spec is used */
    const struct mx_plan_part *parts;     /* 2 .. MX_PARTS_MAX; NULL: one, of length 1. Borrowed */
    uint32_t n_parts;                     /* 0: one */
    /* n_parts * k: a domain's takes_below in each part, in place of its own. NULL without parts, or
     * where none has any. Borrowed. */
    const uint32_t *takes_below;
};

/* The part in which a step lies. */
struct mx_plan_part mx_plan_part_of(const struct mx_plan_spec *s, uint64_t step);
/* The first step of the part after that, or UINT64_MAX. */
uint64_t mx_plan_part_end(const struct mx_plan_spec *s, uint64_t step);
/* The longest part's length; a domain has at least so many samples. */
uint32_t mx_plan_longest(const struct mx_plan_spec *s);
/* The most slots that a step of any part has. */
uint32_t mx_plan_batch_most(const struct mx_plan_spec *s);
/* A chunk that keeps together at least what `chunk` does, for a domain of this plan. */
uint32_t mx_plan_chunk(const struct mx_plan_spec *s, uint32_t chunk);
/* What a domain draws in a step. */
struct mx_series mx_plan_series(const struct mx_plan_spec *s, uint64_t step, uint32_t domain);

/* Writes how many slots each domain gets in `step` under `shares`, with `cursors` samples drawn of
 * each before. Sums to exactly the part's batch. Returns -1, or the index of a domain whose budget
 * this step would break where that stops the run (MX_EXHAUSTED_STOP, or nothing open is left to
 * take over); then counts are not to be used. With REDISTRIBUTE a domain's count never passes its
 * budget and the excess goes to the domains with room in proportion to their shares (largest remainder, ties
 * to the lower index), repeatedly until placed; domains of share 0 take it only if no other can.
 * None takes it up to its takes_below (what a ceiling or a pin allows) or beyond.
 * BLOCK sampling moves whole micro-batches, so a domain with less than a block left has none. */
int64_t mx_plan_counts(const struct mx_plan_spec *s, const uint64_t *shares, uint64_t step,
                       const uint64_t *cursors, uint32_t *ret_counts);

/* Moves the cursors on by what a step draws: to where the step after it begins. */
void mx_plan_move(const struct mx_plan_spec *s, uint64_t step, const uint32_t *counts,
                  uint64_t *cursors);

struct mx_plan_item {
    uint64_t sample; /* number in the domain; of several in the slot, the first */
    uint32_t domain;
    uint32_t epoch;
};

/* What lies in slots [first, first + n) of a step, given each domain's cursor before the step and
 * prefix[k + 1], the running sums of its counts (prefix[0] = 0, prefix[k] = the part's batch). */
void mx_plan_items(const struct mx_plan_spec *s, uint64_t step, const uint64_t *cursors,
                   const uint32_t *prefix, uint32_t first, uint32_t n, struct mx_plan_item *ret);

/* The inverse: in which slot of the step what it draws of `domain` as the j-th lies. */
uint32_t mx_plan_slot(const struct mx_plan_spec *s, uint64_t step, const uint32_t *prefix,
                      uint32_t domain, uint32_t j);

/* A mix and the first step that it is in force. */
struct mx_plan_mix {
    uint64_t from_step;
    uint64_t version;
    const uint64_t *shares;
};

/* Advances cursors, which hold the state before `from`, to the state before `to`, under the mixes
 * (rising in from_step, the first one <= from; of several with the same step the last counts).
 * counts is scratch of k. Returns -1, or as mx_plan_counts the domain that stops the run on the
 * way. */
int64_t mx_plan_advance(const struct mx_plan_spec *s, const struct mx_plan_mix *mixes, uint32_t n,
                        uint64_t from, uint64_t to, uint64_t *cursors, uint32_t *counts);

#endif
