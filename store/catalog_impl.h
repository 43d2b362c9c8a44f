/* catalog_impl.h - what the catalog's files share: tables, sealed records.
 *
 * Every record goes through these functions, so none is read without its checksum. */
#ifndef MX_STORE_CATALOG_IMPL_H
#define MX_STORE_CATALOG_IMPL_H

#include "store/catalog_format.h"
#include "store/kv.h"

#include <pthread.h>

struct mx_catalog {
    struct mx_journal journal; /* the embedded form: journal_catalog.c */
    pthread_mutex_t watch_lock; /* held while watch is called: so that it can be ended */
    mx_journal_watch_fn *watch; /* NULL for none */
    void *watch_arg;
    struct mx_kv *kv;
    uint64_t store_id;
    unsigned tables[MX_TABLE_COUNT];
    uint8_t *scratch; /* a value being put; whoever has the write transaction has it */
    size_t scratch_room;
};

struct mx_span mx_span_of(const void *p, size_t n);

/* The payload of a record. MX_ENOTFOUND leaves a text that only says so: wrap or replace it. */
int mx_record_get(struct mx_catalog *c, struct mx_kv_txn *t, enum mx_table table, const void *key,
                  size_t key_n, struct mx_span *ret, struct mx_err *err) MX_MUST_CHECK;
/* Checks what a cursor gave. */
int mx_record_open(struct mx_catalog *c, enum mx_table table, struct mx_span key,
                   struct mx_span value, struct mx_span *ret, struct mx_err *err) MX_MUST_CHECK;
int mx_record_put(struct mx_catalog *c, struct mx_kv_txn *t, enum mx_table table, const void *key,
                  size_t key_n, const void *payload, size_t n, bool fresh, struct mx_err *err)
    MX_MUST_CHECK;
/* MX_EDAMAGED, naming table and key. */
int mx_record_damaged(struct mx_catalog *c, enum mx_table table, struct mx_span key,
                      const char *why, struct mx_err *err) MX_MUST_CHECK;
/* Removes every record whose key begins with the four bytes of a number; each is given to cb
 * before (NULL for none), whose code, if not 0, ends it. */
int mx_records_remove(struct mx_catalog *c, struct mx_kv_txn *t, enum mx_table table,
                      uint32_t first,
                      int (*cb)(void *arg, struct mx_span key, struct mx_span payload), void *arg,
                      struct mx_err *err) MX_MUST_CHECK;

/* A read of records in the order of their keys: one transaction with one cursor. */
struct mx_record_walk {
    struct mx_kv_txn txn;
    struct mx_kv_cursor cursor;
    struct mx_span key, value; /* where it is */
};
int mx_walk_open(struct mx_catalog *c, enum mx_table table, struct mx_record_walk *ret,
                 struct mx_err *err) MX_MUST_CHECK;
void mx_walk_close(struct mx_record_walk *w);
/* The last record of a run at or before `number`, in a table keyed by both: 1, or 0 if there is
 * none, or a code. */
int mx_record_last(struct mx_kv_cursor *cursor, uint32_t run, uint64_t number, uint64_t *ret,
                   struct mx_span *ret_key, struct mx_span *ret_value, struct mx_err *err)
    MX_MUST_CHECK;

/* A number in the table META. */
int mx_meta_get(struct mx_catalog *c, struct mx_kv_txn *t, const char *name, uint64_t *ret,
                struct mx_err *err) MX_MUST_CHECK;
int mx_meta_put(struct mx_catalog *c, struct mx_kv_txn *t, const char *name, uint64_t v,
                struct mx_err *err) MX_MUST_CHECK;
#define MX_META_GENERATION "generation"
#define MX_META_LAST_DOMAIN "last-domain"
#define MX_META_LAST_RUN "last-run"
#define MX_META_FORMAT "format"

/* What MX_PUT_WITHDRAW does. */
int mx_withdrawal_put(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_put *p,
                      struct mx_err *err) MX_MUST_CHECK;
/* The domain's record inside a transaction; MX_ENOTFOUND names it. */
int mx_domain_get(struct mx_catalog *c, struct mx_kv_txn *t, uint32_t id, struct mx_domain *ret,
                  struct mx_err *err) MX_MUST_CHECK;
/* MX_EEXISTS unless width, tokenizer and eod of a domain are those that *d wants. */
int mx_domain_agree(const struct mx_domain *have, const struct mx_domain *d, struct mx_err *err)
    MX_MUST_CHECK;
/* Puts of the kinds ENTRY and COMPACT; the run is there. */
int mx_entry_put(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_put *p,
                 struct mx_err *err) MX_MUST_CHECK;
int mx_entries_compact(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_put *p,
                       struct mx_err *err) MX_MUST_CHECK;
/* All of the puts durable, or none; tells no watcher. */
int mx_catalog_commit(struct mx_catalog *c, const struct mx_put *puts, size_t n,
                      struct mx_err *err) MX_MUST_CHECK;
/* The ops of the embedded journal. */
extern const struct mx_journal_ops mx_catalog_journal_ops;

/* Each run's record inside a transaction, until cb returns nonzero, which is returned. */
int mx_runs_walk(struct mx_catalog *c, struct mx_kv_txn *t,
                 int (*cb)(void *arg, const struct mx_run_view *r, struct mx_err *err), void *arg,
                 struct mx_err *err) MX_MUST_CHECK;

#endif
