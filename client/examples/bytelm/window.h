/* window.h - from a sample's tokens to what the model wants: for each position the ids before it,
 * nearest first, and the id that stands there. Pure; any thread. */
#ifndef BL_WINDOW_H
#define BL_WINDOW_H

#include <stddef.h>
#include <stdint.h>

struct bl_sample {
    const void *tokens; /* n of uint16_t or uint32_t; borrowed for the call */
    uint32_t width;     /* 2 or 4 */
    uint32_t n;
    const uint32_t *starts; /* rising offsets at which a document begins; borrowed for the call */
    uint32_t n_starts;
};

/* Positions first, first + stride, ... of the sample: `context` ids each into contexts, one into
 * targets. A context never reaches over the beginning of a document: places before it hold BL_EOD,
 * as at the beginning of any document; where the beginning lies before the sample, places before
 * the sample hold BL_UNKNOWN. *ret_n: how many positions. 0, or -1 if some token is no byte and not
 * BL_EOD; *ret_bad is its offset. */
int bl_window(const struct bl_sample *s, uint32_t context, uint32_t first, uint32_t stride,
              uint16_t *contexts, uint16_t *targets, size_t *ret_n, uint32_t *ret_bad);

#endif
