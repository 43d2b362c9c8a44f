/* blockcache.h - decompressed blocks of shards, shared by threads and bounded by bytes.
 *
 * A block in use is pinned; the least recently used unpinned ones go when the bound is passed, so
 * the cache is over it by at most what is pinned at the time. A block that one thread is
 * decompressing is waited for by the others. The lock is held over table look-ups alone. */
#ifndef MX_STORE_BLOCKCACHE_H
#define MX_STORE_BLOCKCACHE_H

#include "store/shard_impl.h"

struct mx_blockcache;
struct mx_cached;

int mx_blockcache_new(size_t bytes_max, struct mx_blockcache **ret, struct mx_err *err)
    MX_MUST_CHECK;
void mx_blockcache_free(struct mx_blockcache *c); /* nothing may be pinned; NULL is fine */

/* Pins the block if it is there or on its way, waiting for it; NULL if not. */
struct mx_cached *mx_blockcache_find(struct mx_blockcache *c, uint64_t shard, uint32_t block);
/* As find, but decompresses the block if it isn't there. */
int mx_blockcache_load(struct mx_blockcache *c, const struct mx_shard *s, uint32_t block,
                       struct mx_cached **ret, struct mx_err *err) MX_MUST_CHECK;
const uint8_t *mx_cached_bytes(const struct mx_cached *b);
void mx_blockcache_unpin(struct mx_blockcache *c, struct mx_cached *b);

void mx_blockcache_stats(struct mx_blockcache *c, uint64_t *ret_hits, uint64_t *ret_misses,
                         uint64_t *ret_bytes);

#endif
