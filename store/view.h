/* view.h - the samples of one domain as one run sees them.
 *
 * A fixed list of sealed shards cut into samples of seq_len tokens: shard i holds
 * floor(tokens / seq_len) of them, numbered on from shard i-1's. A shard that is too small for one
 * is in the list all the same, for its documents (lookup.h). Immutable after it is made, so any
 * thread may look up. */
#ifndef MX_STORE_VIEW_H
#define MX_STORE_VIEW_H

#include "store/catalog.h"

struct mx_view_shard {
    uint64_t first_sample;
    uint64_t id;
};

struct mx_view {
    uint32_t n;        /* shards */
    uint32_t seq_len;
    uint32_t width;
    uint32_t chunk;    /* samples to keep together while shuffling: those of one compressed block;
                          1 if every shard is raw */
    uint64_t samples;
    struct mx_view_shard *shards; /* owned */
};

/* Of the domain's shards 0 .. shards-1. */
int mx_view_make(struct mx_catalog *c, const struct mx_domain *d, uint32_t shards,
                 uint32_t seq_len, struct mx_view *ret, struct mx_err *err) MX_MUST_CHECK;
void mx_view_clear(struct mx_view *v);
/* How many samples its shard number i holds. */
uint64_t mx_view_shard_samples(const struct mx_view *v, uint32_t i);
/* Where a sample lies; sample < v->samples. */
void mx_view_find(const struct mx_view *v, uint64_t sample, uint64_t *ret_shard,
                  uint64_t *ret_token);

#endif
