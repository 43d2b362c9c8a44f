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

/* The entries of an index of ids, gathered in the order of documents and sorted at the end: by who
 * writes it, and by who verifies it. Begins as zeros. One thread. */
struct mx_id_list {
    struct mx_id_entry *p;
    size_t n, room;
};

/* A document without id adds nothing. */
int mx_id_list_add(struct mx_id_list *l, const struct mx_document *d, uint64_t token,
                   struct mx_err *err) MX_MUST_CHECK;
void mx_id_list_sort(struct mx_id_list *l);
void mx_id_list_free(struct mx_id_list *l); /* what it holds */

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
/* MX_EDAMAGED, naming the file, what, its number and why. */
int mx_shard_damaged(const struct mx_shard *s, const char *what, uint64_t number, const char *why,
                     struct mx_err *err);
/* A record by its key; one that isn't there is damage, since the caller knows that it must be. */
int mx_shard_get(const struct mx_shard *s, struct mx_kv_txn *t, enum mx_shard_key_kind kind,
                 uint64_t number, const char *what, struct mx_span *ret, struct mx_err *err)
    MX_MUST_CHECK;

/* A place among a shard's documents, for a look-up that goes from one to others: what it has
 * checked of a group isn't checked again while it stays in it. One thread. */
struct mx_shard_place {
    const struct mx_shard *s;
    struct mx_kv_txn t;
    struct mx_kv_cursor c;
    struct mx_group g;                /* n 0: none yet */
    struct mx_origins origins, start; /* of g: the next one to read; the first */
};

int mx_place_open(const struct mx_shard *s, struct mx_shard_place *ret, struct mx_err *err)
    MX_MUST_CHECK;
void mx_place_close(struct mx_shard_place *p);
/* The document that holds a token. */
int mx_place_seek(struct mx_shard_place *p, uint64_t token, struct mx_document *ret,
                  struct mx_err *err) MX_MUST_CHECK;
/* After mx_place_seek: 1 and the document after the last one, 0 at the shard's end, or a code. */
int mx_place_next(struct mx_shard_place *p, struct mx_document *ret, struct mx_err *err)
    MX_MUST_CHECK;
/* Record `number` of the index of ids. */
int mx_place_ids(struct mx_shard_place *p, uint64_t number, struct mx_ids *ret,
                 struct mx_err *err) MX_MUST_CHECK;

/* As mx_shardset_starts. */
int mx_shard_starts(const struct mx_shard *s, uint64_t first, size_t n, uint32_t *starts,
                    size_t cap, size_t *ret_n, struct mx_err *err) MX_MUST_CHECK;
/* Copies n tokens, widening 2 bytes to 4 where asked to. */
void mx_tokens_copy(uint8_t *dst, uint32_t width, const uint8_t *src, uint32_t src_width, size_t n);

#endif
