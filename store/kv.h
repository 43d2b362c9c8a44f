/* kv.h - the key-value environment under catalog and shards: LMDB, with our errors.
 *
 * kv.c is the only file that includes lmdb.h. Foreign codes are translated here once; every text
 * names the file and the operation. Knows nothing of what is stored.
 *
 * Threads: a read transaction belongs to the thread that began it; any number at a time. One write
 * transaction at a time over all processes (the second waits). Spans point into the map and are
 * good until the transaction ends (in a write transaction: until its next write). */
#ifndef MX_STORE_KV_H
#define MX_STORE_KV_H

#include "proto/err.h"
#include "proto/wire.h"

struct mx_kv;        /* an open environment: one file */
struct MDB_txn;
struct MDB_cursor;

enum mx_kv_mode {
    MX_KV_SEALED, /* a file that never changes: read-only, no locks, mapped exactly */
    MX_KV_BUILD,  /* a new file of one writer: no locks and no syncs; the caller syncs the file */
    MX_KV_SHARED, /* a file that several processes read and write: locks, synchronous commits */
};

struct mx_kv_options {
    enum mx_kv_mode mode;
    uint64_t map_bytes;     /* BUILD, SHARED */
    uint64_t map_bytes_min; /* SHARED: halves down to this where address space is short */
    unsigned dbs;           /* named databases at most; 0: only the main one */
    unsigned readers;       /* SHARED */
};

struct mx_kv_txn {
    struct mx_kv *kv;
    struct MDB_txn *txn; /* NULL when none is running */
};

struct mx_kv_cursor {
    struct mx_kv *kv;
    struct MDB_cursor *cursor;
};

/* The main database, which needs no mx_kv_db. */
#define MX_KV_MAIN 1u

/* The path is copied. One process must not open the same file twice at a time. MX_ENOTFOUND if a
 * SEALED file isn't there. */
int mx_kv_open(const char *path, const struct mx_kv_options *o, struct mx_kv **ret,
               struct mx_err *err) MX_MUST_CHECK;
void mx_kv_close(struct mx_kv *kv); /* NULL is fine; no transaction may be running */
const char *mx_kv_path(const struct mx_kv *kv);

/* A SHARED environment outlives readers that were killed: gives their slots back. */
void mx_kv_reap_readers(struct mx_kv *kv);
/* Bytes up to the last page in use, and the map's size. */
void mx_kv_usage(struct mx_kv *kv, uint64_t *ret_used, uint64_t *ret_size);
/* Makes the map of a BUILD file at least so large; no transaction may be running. */
int mx_kv_grow(struct mx_kv *kv, uint64_t map_bytes, struct mx_err *err) MX_MUST_CHECK;

int mx_kv_begin(struct mx_kv *kv, bool write, struct mx_kv_txn *ret, struct mx_err *err)
    MX_MUST_CHECK;
/* Ends the transaction in any case. After an error other than MX_EFULL by a full map no commit
 * through *kv succeeds any more, and reading may be refused as well: MX_EBUSY. Whether this one is
 * there sees who opens the file next. */
int mx_kv_commit(struct mx_kv_txn *t, struct mx_err *err) MX_MUST_CHECK;
void mx_kv_abort(struct mx_kv_txn *t); /* fine if none is running */

/* Opens a named database; MX_ENOTFOUND if it isn't there and !create. The handle is good for the
 * environment's life once this transaction has been committed. */
int mx_kv_db(struct mx_kv_txn *t, const char *name, bool create, unsigned *ret,
             struct mx_err *err) MX_MUST_CHECK;

/* MX_ENOTFOUND (with a text) if the key isn't there. */
int mx_kv_get(struct mx_kv_txn *t, unsigned db, const void *key, size_t key_n, struct mx_span *ret,
              struct mx_err *err) MX_MUST_CHECK;
/* Replaces what is there, unless `fresh`: then MX_EEXISTS. */
int mx_kv_put(struct mx_kv_txn *t, unsigned db, const void *key, size_t key_n, const void *value,
              size_t n, bool fresh, struct mx_err *err) MX_MUST_CHECK;
/* MX_ENOTFOUND if it isn't there. */
int mx_kv_delete(struct mx_kv_txn *t, unsigned db, const void *key, size_t key_n,
                 struct mx_err *err) MX_MUST_CHECK;

/* Cursors end before their transaction. Each move returns 1 and the record, or 0 if there is none,
 * or a code. */
int mx_kv_cursor_open(struct mx_kv_txn *t, unsigned db, struct mx_kv_cursor *ret,
                      struct mx_err *err) MX_MUST_CHECK;
void mx_kv_cursor_close(struct mx_kv_cursor *c);
int mx_kv_seek_first_at(struct mx_kv_cursor *c, const void *key, size_t key_n,
                        struct mx_span *ret_key, struct mx_span *ret, struct mx_err *err)
    MX_MUST_CHECK; /* the first record with a key >= key */
int mx_kv_seek_last_at(struct mx_kv_cursor *c, const void *key, size_t key_n,
                       struct mx_span *ret_key, struct mx_span *ret, struct mx_err *err)
    MX_MUST_CHECK; /* the last record with a key <= key */
int mx_kv_next(struct mx_kv_cursor *c, struct mx_span *ret_key, struct mx_span *ret,
               struct mx_err *err) MX_MUST_CHECK;
int mx_kv_cursor_delete(struct mx_kv_cursor *c, struct mx_err *err)
    MX_MUST_CHECK; /* the record it stands on; then mx_kv_next gives the one after it */

#endif
