/* plan.h - what is in a step: a pure function of seed, mix, cursors and step. Integers only.
 *
 * What a domain draws from a cursor on is series.h's.
 *
 * A step has exactly `batch` slots. How many each domain gets (counts) comes from the mix and one
 * random offset; which samples, from the domain's cursor and the order of its epoch; which slot,
 * from a permutation keyed by (seed, step). The world size appears nowhere. Any thread. */
#ifndef MX_CORE_PLAN_H
#define MX_CORE_PLAN_H

#include "daemon/core/series.h"

#include <stdint.h>

enum mx_sampling {
    MX_SAMPLING_SYSTEMATIC = 0, /* floor or ceil of batch * share, exactly batch in all, unbiased */
    MX_SAMPLING_IID = 1,        /* independent draws per slot */
    MX_SAMPLING_BLOCK = 2,      /* independent draws per micro-batch of `block` slots */
};

struct mx_plan_spec {
    uint64_t seed;
    uint32_t batch; /* slots in a step, 1 .. MX_BATCH_MAX */
    uint32_t k;     /* domains */
    uint32_t block; /* slots in a micro-batch; divides batch; 1 unless MX_SAMPLING_BLOCK */
    enum mx_sampling sampling;
    const struct mx_plan_domain *domains; /* k of them, borrowed as long as the spec is used */
};

/* Writes how many slots each domain gets in `step` under `shares`, with `cursors` samples drawn of
 * each before. Sums to exactly batch. Returns -1, or the index of a domain whose budget this step
 * would break where that stops the run (MX_EXHAUSTED_STOP, or nothing open is left to take over);
 * then counts are not to be used. With REDISTRIBUTE a domain's count never passes its budget and
 * the excess goes to the domains with room in proportion to their shares (largest remainder, ties
 * to the lower index), repeatedly until placed; domains of share 0 take it only if no other can.
 * None takes it up to its takes_below (what a ceiling or a pin allows) or beyond.
 * BLOCK sampling moves whole micro-batches, so a domain with less than a block left has none. */
int64_t mx_plan_counts(const struct mx_plan_spec *s, const uint64_t *shares, uint64_t step,
                       const uint64_t *cursors, uint32_t *ret_counts);

/* Moves the cursors on by what a step draws. */
void mx_plan_move(const struct mx_plan_spec *s, const uint32_t *counts, uint64_t *cursors);

struct mx_plan_item {
    uint64_t sample; /* number in the domain */
    uint32_t domain;
    uint32_t epoch;
};

/* What lies in slots [first, first + n) of a step, given each domain's cursor before the step and
 * prefix[k + 1], the running sums of its counts (prefix[0] = 0, prefix[k] = batch). */
void mx_plan_items(const struct mx_plan_spec *s, uint64_t step, const uint64_t *cursors,
                   const uint32_t *prefix, uint32_t first, uint32_t n, struct mx_plan_item *ret);

/* The inverse: in which slot of the step the j-th sample that it draws of `domain` lies. */
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
