/* catalog.h - the small, durable environment: domains, shards, runs, and the embedded journal with
 * what is derived from it.
 *
 * One LMDB environment (DIR/catalog), synchronous commits, its map size set once. Several processes
 * may have it open: the daemon, and an ingest or mixctl beside it. Every record carries a checksum
 * bound to its key. What is written here is the truth; mixes, snapshots and reports are indexes
 * derived from the journals so that old steps can be planned, and old reports answered, without
 * reading all of one.
 *
 * Threads: reads from any thread (each call is one short transaction); appends to its journal from
 * the one writer thread of a process. A failed append other than MX_EFULL must be taken as fatal by
 * the daemon: LMDB goes on after an fdatasync error as if nothing had been. */
#ifndef MX_STORE_CATALOG_H
#define MX_STORE_CATALOG_H

#include "proto/wire.h"
#include "store/journal.h"
#include "store/shard.h"

#define MX_CATALOG_FORMAT 3u

struct mx_catalog;

/* Opens DIR/catalog, making DIR, DIR/catalog and DIR/shards if `create`: a whole catalog, durable
 * with its name, or none. MX_EVERSION names the version that wrote it if that is another;
 * MX_ENOTFOUND if there is none and !create, or it is no store's. */
int mx_catalog_open(const char *dir, bool create, struct mx_catalog **ret, struct mx_err *err)
    MX_MUST_CHECK;
void mx_catalog_close(struct mx_catalog *c);
/* Has this shard file been registered? 1, 0 or a code. */
int mx_catalog_has_shard(struct mx_catalog *c, uint64_t shard, struct mx_err *err) MX_MUST_CHECK;
/* Random, given when the store was made; tells a client that it is talking to another store. */
uint64_t mx_catalog_store_id(const struct mx_catalog *c);
/* Rises with every commit that changes domains or shards, by any process: what a daemon polls. */
int mx_catalog_generation(struct mx_catalog *c, uint64_t *ret, struct mx_err *err) MX_MUST_CHECK;
/* Bytes up to the last page in use (freed pages before it are used again) and the map's size. */
int mx_catalog_usage(struct mx_catalog *c, uint64_t *ret_used, uint64_t *ret_size,
                     struct mx_err *err) MX_MUST_CHECK;

/* Takes the store for one daemon: an exclusive lock on DIR/lock holding this process's pid, until
 * the process ends. MX_EBUSY names the pid that has it. */
int mx_store_lock(const char *dir, int *ret_fd, struct mx_err *err) MX_MUST_CHECK;

/* ---- domains and shards ---- */
struct mx_domain {
    uint32_t id;                        /* never reused */
    char name[MX_NAME_MAX + 1];
    char tokenizer[MX_NAME_MAX + 1];    /* "bytes", or what --tokenizer names for token files */
    uint32_t width;                     /* bytes of a token */
    uint32_t eod;                       /* end-of-document id, UINT32_MAX for none */
    int32_t level;                      /* for new shards: zstd level or MX_LEVEL_RAW */
    uint32_t shards;                    /* sealed shards 0 .. shards-1 */
    uint64_t tokens, documents, bytes, source_bytes; /* sums over them */
    uint64_t created_ms;
};

/* A domain name is 1..MX_NAME_MAX of A-Z a-z 0-9 . _ - and starts with a letter or digit; run names
 * likewise. MX_EINVALID names the byte that is wrong. */
int mx_name_check(const char *name, size_t n, const char *what, struct mx_err *err) MX_MUST_CHECK;

int mx_catalog_domain(struct mx_catalog *c, const char *name, struct mx_domain *ret,
                      struct mx_err *err) MX_MUST_CHECK;
int mx_catalog_domain_by_id(struct mx_catalog *c, uint32_t id, struct mx_domain *ret,
                            struct mx_err *err) MX_MUST_CHECK;
/* Calls each domain in order of names until cb returns nonzero, which is returned. */
int mx_catalog_domains(struct mx_catalog *c,
                       int (*cb)(void *arg, const struct mx_domain *d), void *arg,
                       struct mx_err *err) MX_MUST_CHECK;
/* The infos of shards [first, first + n) of a domain; MX_ENOTFOUND if it hasn't so many. */
int mx_catalog_shards(struct mx_catalog *c, uint32_t domain, uint32_t first, uint32_t n,
                      struct mx_shard_info *ret, struct mx_err *err) MX_MUST_CHECK;
/* The dictionary of a domain, malloc'ed (NULL, 0 for none). */
int mx_catalog_dictionary(struct mx_catalog *c, uint32_t domain, void **ret, size_t *ret_n,
                          struct mx_err *err) MX_MUST_CHECK;
/* Registers sealed shards, all or none, in one transaction: creates the domain if it is new with
 * what *d says, else checks that width, tokenizer and eod agree (MX_EEXISTS names what doesn't).
 * d->id 0: new, or made by another meanwhile and joined; else MX_EGONE if it has been removed. A
 * shard that is registered already: MX_EEXISTS. *d is updated. Its own write transaction: for
 * ingest, not for the daemon. */
int mx_catalog_register(struct mx_catalog *c, struct mx_domain *d, const void *dictionary,
                        size_t dictionary_bytes, const struct mx_shard_info *shards, uint32_t n,
                        struct mx_err *err) MX_MUST_CHECK;
/* Removes a domain and its shards' records; MX_EBUSY names a run that uses it. The files' ids are
 * given to cb, to be unlinked after the commit. */
int mx_catalog_domain_remove(struct mx_catalog *c, const char *name,
                             void (*cb)(void *arg, uint64_t shard), void *arg,
                             struct mx_err *err) MX_MUST_CHECK;

/* Withdrawals of a domain with serial >= from, in order, until cb returns nonzero (returned); what
 * the bytes say is the daemon's. borrowed for the call. */
int mx_catalog_withdrawals(struct mx_catalog *c, uint32_t domain, uint32_t from,
                           int (*cb)(void *arg, uint32_t serial, struct mx_span bytes), void *arg,
                           struct mx_err *err) MX_MUST_CHECK;

/* ---- runs ---- */
/* The id that a new run must have: one more than any run ever had. */
int mx_catalog_next_run(struct mx_catalog *c, uint32_t *ret, struct mx_err *err) MX_MUST_CHECK;
/* Each run in order of ids until cb returns nonzero, which is returned; the record is borrowed for
 * the call. */
int mx_catalog_runs(struct mx_catalog *c, int (*cb)(void *arg, const struct mx_run_record *r),
                    void *arg, struct mx_err *err) MX_MUST_CHECK;

/* ---- the journal and what is derived from it ---- */
/* The journal that is in this catalog; lives as long. */
struct mx_journal *mx_journal_of_catalog(struct mx_catalog *c);

/* Mixes of a run by their order, a number that the daemon chooses: the last one at or before `from`
 * and all later ones up to and with `to`, rising, until cb returns nonzero (returned). bytes are
 * borrowed for the call, here and below. */
int mx_catalog_mixes(struct mx_catalog *c, uint32_t run, uint64_t from, uint64_t to,
                     int (*cb)(void *arg, uint64_t order, struct mx_span bytes), void *arg,
                     struct mx_err *err) MX_MUST_CHECK;
/* The snapshot with the largest step <= step, malloc'ed into *ret; MX_ENOTFOUND if none. */
int mx_catalog_snapshot(struct mx_catalog *c, uint32_t run, uint64_t step, uint64_t *ret_step,
                        uint8_t **ret, size_t *ret_n, struct mx_err *err) MX_MUST_CHECK;
/* Snapshots of a run with from_step <= step <= to_step, rising, until cb returns nonzero
 * (returned). */
int mx_catalog_snapshots(struct mx_catalog *c, uint32_t run, uint64_t from_step, uint64_t to_step,
                         int (*cb)(void *arg, uint64_t step, struct mx_span bytes), void *arg,
                         struct mx_err *err) MX_MUST_CHECK;
/* The report of a rank for a step, copied into buf; MX_ENOTFOUND if none, MX_EINVALID if it is
 * longer than room. */
int mx_catalog_report(struct mx_catalog *c, uint32_t run, uint64_t step, uint32_t rank, void *buf,
                      size_t room, size_t *ret_n, struct mx_err *err) MX_MUST_CHECK;

#endif
