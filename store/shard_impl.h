/* shard_impl.h - what the files of the store share about shards and others don't see.
 *
 * The hold of an ingest, the parts of an open shard that the shard set reads through. */
#ifndef MX_STORE_SHARD_IMPL_H
#define MX_STORE_SHARD_IMPL_H

#include "store/kv.h"
#include "store/shard_format.h"
#include "store/zcodec.h"

/* ---- writing ---- */

/* A mark that an ingest is alive, and which sealed shards are its own until they are registered: a
 * locked file DIR/shards/ID.ingest that lists their ids. One thread. */
struct mx_hold;
int mx_hold_new(const char *dir, struct mx_hold **ret, struct mx_err *err) MX_MUST_CHECK;
/* Before the shard gets its final name. */
int mx_hold_add(struct mx_hold *h, uint64_t shard, struct mx_err *err) MX_MUST_CHECK;
/* After registration, or after the files have been removed. NULL is fine. */
void mx_hold_free(struct mx_hold *h);

/* The id that the shard will have. */
uint64_t mx_shard_writer_id(const struct mx_shard_writer *w);
/* Counts bytes of (decompressed) input for the shard's info. */
void mx_shard_writer_add_source_bytes(struct mx_shard_writer *w, uint64_t n);

/* ---- reading ---- */
struct mx_shard {
    struct mx_kv *kv;
    char *path;
    struct mx_shard_header header;
    struct mx_zdict *dictionary; /* NULL for none */
};

/* Tokens [from, from + n) of a block, n > 0, to dst as `width` bytes each. If the block is raw, its
 * granules are verified and copied. If it is compressed, *ret_packed is set and nothing is copied.
 * t is a read transaction of the shard. Any thread, one transaction each. */
int mx_shard_copy_raw(const struct mx_shard *s, struct mx_kv_txn *t, uint32_t block, uint32_t from,
                      uint32_t n, uint32_t width, uint8_t *dst, bool *ret_packed,
                      struct mx_err *err) MX_MUST_CHECK;
/* A whole block, checked, as it was before it was compressed: dst has room for its tokens times the
 * shard's width. Any thread, one unpacker each. */
int mx_shard_unpack(const struct mx_shard *s, uint32_t block, struct mx_zunpacker *z, uint8_t *dst,
                    struct mx_err *err) MX_MUST_CHECK;
/* As mx_shardset_starts. */
int mx_shard_starts(const struct mx_shard *s, uint64_t first, size_t n, uint32_t *starts,
                    size_t cap, size_t *ret_n, struct mx_err *err) MX_MUST_CHECK;
/* Copies n tokens, widening 2 bytes to 4 where asked to. */
void mx_tokens_copy(uint8_t *dst, uint32_t width, const uint8_t *src, uint32_t src_width, size_t n);

#endif
