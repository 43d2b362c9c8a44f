/* shardset.h - the open shards of one process, and the decompressed blocks they share.
 *
 * Every process opens a shard at most once; a bounded number is open, the least recently used one
 * is closed when another is needed. Decompressed blocks are kept in a cache bounded by bytes; raw
 * blocks are read straight from the map. Called by many filler threads: this is one of the two
 * types in the tree with a lock inside, held only while a table is looked up, never over I/O or
 * decompression (a thread that needs a block which another is just decompressing waits for it). */
#ifndef MX_STORE_SHARDSET_H
#define MX_STORE_SHARDSET_H

#include "store/shard.h"

struct mx_shardset;

struct mx_shardset_stats {
    uint64_t hits, misses;   /* decompressed blocks */
    uint64_t raw_reads;      /* reads served from a map */
    uint64_t damaged;        /* checksum failures met */
    uint64_t cache_bytes, cache_bytes_max;
    uint32_t open, open_max;
};

/* dir: DIR/shards, copied. open_max >= 1 shards, cache_bytes of decompressed blocks. */
int mx_shardset_new(const char *dir, uint32_t open_max, size_t cache_bytes,
                    struct mx_shardset **ret, struct mx_err *err) MX_MUST_CHECK;
void mx_shardset_free(struct mx_shardset *s); /* no call may be in progress */

/* Copies tokens [first, first + n) of shard `id` to dst as width-byte tokens in little-endian order
 * (u16 shards are widened if width is 4; a u32 shard can't be had as 2: MX_EINVALID). Every byte
 * copied has been checked against its checksum in this call, or since it was decompressed.
 * MX_EDAMAGED names shard and block; MX_EGONE if the file isn't there. Any thread. */
int mx_shardset_read(struct mx_shardset *s, uint64_t id, uint64_t first, size_t n, uint32_t width,
                     void *dst, struct mx_err *err) MX_MUST_CHECK;

/* Where documents start inside [first, first + n): offsets from `first`, rising, at most cap
 * written; *ret_n is how many there are (may be over cap). Any thread. */
int mx_shardset_starts(struct mx_shardset *s, uint64_t id, uint64_t first, size_t n,
                       uint32_t *starts, size_t cap, size_t *ret_n, struct mx_err *err)
    MX_MUST_CHECK;

/* A shard to look into (documents, sources); it stays open until put back. Any thread. */
int mx_shardset_get(struct mx_shardset *s, uint64_t id, const struct mx_shard **ret,
                    struct mx_err *err) MX_MUST_CHECK;
void mx_shardset_put(struct mx_shardset *s, const struct mx_shard *shard);
/* Puts it back after a call on it that returned rc, which is counted if it was damage. Returns
 * rc. */
int mx_shardset_done(struct mx_shardset *s, const struct mx_shard *shard, int rc);

void mx_shardset_get_stats(struct mx_shardset *s, struct mx_shardset_stats *ret);

#endif
