/* shard.h - one sealed shard file: how it is written once and read for ever.
 *
 * A shard is an LMDB environment in a single file, written under a temporary name, synced, renamed
 * and never changed again; it is opened read-only and without locks, by any number of processes,
 * and can be copied as a plain file. Tokens lie in blocks of MX_BLOCK_TOKENS (the last may be
 * short), raw or zstd-compressed; every block, document group and the header carries an XXH3-64
 * checksum bound to its key (shard id and number), and raw blocks one per granule of
 * MX_GRANULE_BYTES, so that reading one sample verifies exactly what it reads. The format is
 * specified in docs/disk-format.md. */
#ifndef MX_STORE_SHARD_H
#define MX_STORE_SHARD_H

#include "proto/err.h"
#include "proto/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a sealed shard says of itself; also its record in the catalog. */
struct mx_shard_info {
    uint64_t id;           /* random, never 0; names the file: shards/%016x.mxs */
    uint64_t tokens;
    uint64_t documents;
    uint64_t bytes;        /* of the file */
    uint64_t source_bytes; /* of the input that went in, after decompression */
    uint64_t created_ms;   /* wall clock */
    uint32_t width;        /* bytes of a token: 2 or 4 */
    uint32_t blocks;
    uint32_t block_tokens;
    uint32_t max_token;    /* the largest id inside */
    int32_t level;         /* zstd level, or MX_LEVEL_RAW */
    uint64_t digest[2];    /* XXH3-128 over the XXH3-64 of each block's tokens: the identity of the
                              contents, whatever id and codec the file has */
};

#define MX_LEVEL_RAW (-1000)
#define MX_GRANULE_BYTES 4096u
#define MX_DOC_ID_MAX 255u /* a longer id is kept as its first bytes and an XXH3-64 of all */

/* Where a document came from. */
struct mx_document {
    uint64_t first_token;  /* in the shard */
    uint64_t tokens;       /* with its end-of-document token */
    uint64_t source_byte;  /* offset of its line or text in the (decompressed) input */
    uint64_t source_line;  /* from 1; 0 if the input has no lines */
    uint32_t source;       /* index in the shard's list of source files */
    uint32_t id_len;
    char id[MX_DOC_ID_MAX + 1]; /* "" if the input gives none */
};

/* Gives it an id of any length, as a shard keeps it: one of more than MX_DOC_ID_MAX bytes is cut,
 * between characters, and followed by '~' and the hash of all of it. n = 0: none. */
void mx_document_set_id(struct mx_document *d, const void *id, size_t n);

/* ---- writing: ingest's thread only ---- */
struct mx_shard_writer;

struct mx_shard_options {
    uint32_t width;
    int level;                /* zstd level or MX_LEVEL_RAW */
    const void *dictionary;   /* borrowed until the writer is done; NULL for none */
    size_t dictionary_bytes;
};

/* Starts a shard in dir (DIR/shards) under a temporary name that carries this process's lock, so
 * that a later ingest can tell a dead one's leftovers. */
int mx_shard_writer_new(const char *dir, const struct mx_shard_options *o,
                        struct mx_shard_writer **ret, struct mx_err *err) MX_MUST_CHECK;
/* Registers a source file's path (borrowed for the call); its index goes into documents. */
int mx_shard_writer_source(struct mx_shard_writer *w, const char *path, uint32_t *ret,
                           struct mx_err *err) MX_MUST_CHECK;
/* Begins a document here: tokens that follow belong to it. Token files without boundaries begin one
 * document per file. doc->first_token and tokens aren't looked at. A document without tokens leaves
 * no trace. MX_EINVALID if it comes before the last one in (source, source_byte): look-ups by
 * origin rest on that order. */
int mx_shard_writer_document(struct mx_shard_writer *w, const struct mx_document *doc,
                             struct mx_err *err) MX_MUST_CHECK;
/* n tokens of `width` bytes in host order. */
int mx_shard_writer_tokens(struct mx_shard_writer *w, const void *tokens, size_t n,
                           struct mx_err *err) MX_MUST_CHECK;
/* How large it has become: tokens, documents, bytes on disk about. */
uint64_t mx_shard_writer_token_count(const struct mx_shard_writer *w);
uint64_t mx_shard_writer_document_count(const struct mx_shard_writer *w);
uint64_t mx_shard_writer_bytes(const struct mx_shard_writer *w);
/* Writes what is left, syncs and renames to the final name; the shard is complete on disk but
 * registered nowhere. Frees w in any case. */
int mx_shard_writer_seal(struct mx_shard_writer *w, struct mx_shard_info *ret, struct mx_err *err)
    MX_MUST_CHECK;
/* Removes what was written. NULL is fine. */
void mx_shard_writer_abort(struct mx_shard_writer *w);
/* Removes temporary files of dead writers and sealed files that `registered` doesn't know and that
 * no living ingest holds. Returns how many, or a code. */
int mx_shard_sweep(const char *dir, bool (*registered)(void *arg, uint64_t id), void *arg,
                   struct mx_err *err) MX_MUST_CHECK;

/* ---- reading ---- */
struct mx_shard;

/* Opens read-only and without locks; checks that LMDB can read the file safely, magic, version and
 * header. MX_EGONE if there is no such file. One process must not open the same file twice (see
 * shardset.h). */
int mx_shard_open(const char *path, struct mx_shard **ret, struct mx_err *err) MX_MUST_CHECK;
void mx_shard_close(struct mx_shard *s);
const struct mx_shard_info *mx_shard_get_info(const struct mx_shard *s);
/* The i-th source file's path, copied into buf (terminated); MX_ENOTFOUND past the last. */
int mx_shard_source(const struct mx_shard *s, uint32_t i, char *buf, size_t n, struct mx_err *err)
    MX_MUST_CHECK;
/* The document that holds a token; the next one is at its first_token + tokens. Any thread. */
int mx_shard_document_at(const struct mx_shard *s, uint64_t token, struct mx_document *ret,
                         struct mx_err *err) MX_MUST_CHECK;
/* Look-ups tell cb of each document that they find. It may look into the shard; what it returns, if
 * not 0, ends the look-up and is returned by it. */

/* The documents that hold a token of [first, first + n), in order. Any thread. */
int mx_shard_documents(const struct mx_shard *s, uint64_t first, uint64_t n,
                       int (*cb)(void *arg, const struct mx_document *d), void *arg,
                       struct mx_err *err) MX_MUST_CHECK;
/* The documents whose id that is, in order; none is no error. The id is the whole one, or as it is
 * stored where it is longer than MX_DOC_ID_MAX. Any thread. */
int mx_shard_find_id(const struct mx_shard *s, const char *id, size_t n,
                     int (*cb)(void *arg, const struct mx_document *d), void *arg,
                     struct mx_err *err) MX_MUST_CHECK;
/* For each source file of that path: the last document of it that begins at or before a byte; none
 * is no error. The path is the one that was ingested or, without a slash, its last component.
 * Where the file goes on in another shard, the document may be there: see mx_lookup_origin. Reads
 * the path of every source. Any thread. */
int mx_shard_find_origin(const struct mx_shard *s, const char *path, size_t n, uint64_t byte,
                         int (*cb)(void *arg, const struct mx_document *d), void *arg,
                         struct mx_err *err) MX_MUST_CHECK;
/* Reads every block, document and index and checks all of it; progress may be NULL. Takes 16 bytes
 * of memory for each document that has an id. */
int mx_shard_verify(const struct mx_shard *s, void (*progress)(void *arg, uint32_t block),
                    void *arg, struct mx_err *err) MX_MUST_CHECK;

#endif
