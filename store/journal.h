/* journal.h - the durable, ordered record of every input that changed a run, wherever it is kept.
 *
 * What serves runs appends, reads and watches through this and doesn't know where the journal
 * lives. The embedded form is the catalog's (mx_journal_of_catalog); another one, on several
 * machines, has the same functions and passes the same test (tests/store/test_journal.c). Knows
 * nothing of what an entry says.
 *
 * Threads: read and bounds from any thread; append from one thread of a process at a time. */
#ifndef MX_STORE_JOURNAL_H
#define MX_STORE_JOURNAL_H

#include "proto/err.h"
#include "proto/limits.h"
#include "proto/wire.h"

struct mx_run_record {
    uint32_t id;                 /* from 1, never reused */
    char name[MX_NAME_MAX + 1];
    uint64_t created_ms;
    char *config;                /* the JSON as given; owned by whoever filled the record */
    size_t config_bytes;
    uint32_t k;
    struct mx_run_domain {
        uint32_t id;             /* the store's id of a domain */
        uint32_t shards;         /* the run uses shards 0 .. shards-1 of it */
    } *domains;                  /* owned likewise; k */
};

void mx_run_record_clear(struct mx_run_record *r); /* frees what it owns */

/* ---- writing: everything that one group holds ---- */

/* All but a new run needs its run: else MX_ENOTFOUND. */
enum mx_put_kind {
    MX_PUT_RUN,      /* a new run: record; MX_EEXISTS if its name is taken or its id has ever been
                        used, MX_ENOTFOUND if a domain or a shard of it isn't there */
    MX_PUT_ENTRY,    /* key index, bytes; MX_EEXISTS unless it is the next of its run (the first
                        is 1), MX_EINVALID over MX_ENTRY_MAX bytes */
    MX_PUT_MIX,      /* key order, bytes; replaces one of the same order */
    MX_PUT_SNAPSHOT, /* key step, bytes; replaces one of the same step */
    MX_PUT_REPORT,   /* key step, rank, floor, bytes, whose first u64 is the index of its entry: one
                        of the same step and rank is kept if its index is floor or more, else
                        replaced. So the first report in the present branch of history stays */
    MX_PUT_COMPACT,  /* removes the entries up to and with index key, which must be before the last
                        one and less than MX_COMPACT_SLICE after the first one: else MX_EINVALID. A
                        key before the first one changes nothing */
    MX_PUT_REMOVE,   /* removes a run and all that is keyed by it */
    MX_PUT_WITHDRAW, /* for a domain, not a run (`run` is its id): key serial, bytes; MX_EEXISTS
                        unless serial is the next of the domain (the first is 1), MX_ENOTFOUND if
                        there is no such domain */
};

/* Entries that one put removes at most: a transaction is bounded. Rising keys remove more. */
#define MX_COMPACT_SLICE 4096u

struct mx_put {
    enum mx_put_kind kind;
    uint32_t run;
    uint64_t key;      /* index, order or step */
    uint32_t rank;     /* MX_PUT_REPORT, as is floor */
    uint64_t floor;
    const void *bytes; /* borrowed for the call */
    size_t n;
    const struct mx_run_record *record; /* MX_PUT_RUN; borrowed likewise */
};

/* ---- the interface ---- */

struct mx_journal;

/* Nonzero ends the reading. bytes are borrowed for the call. */
typedef int mx_journal_read_fn(void *arg, uint64_t index, struct mx_span bytes);
typedef void mx_journal_watch_fn(void *arg, uint32_t run, uint64_t last);

struct mx_journal_ops {
    const char *name;
    /* Makes all puts of a group durable, in their order and each on top of those before it, or
     * none. After a failure other than a refusal or MX_EFULL nothing more may be written: what is
     * durable isn't known. */
    int (*append)(struct mx_journal *j, const struct mx_put *puts, size_t n, struct mx_err *err);
    /* Calls cb with the entries of a run from an index on (0 is 1), in order, until it returns
     * nonzero, which is returned; none for a run that isn't there. MX_EGONE if `from` is before the
     * first entry kept. MX_EDAMAGED names the entry whose bytes are wrong or that is missing. */
    int (*read)(struct mx_journal *j, uint32_t run, uint64_t from, mx_journal_read_fn *cb,
                void *arg, struct mx_err *err);
    /* The first entry kept (1 unless compacted) and the last one: 0 for none. */
    int (*bounds)(struct mx_journal *j, uint32_t run, uint64_t *ret_first, uint64_t *ret_last,
                  struct mx_err *err);
    /* Has fn called after each append through j that made entries durable: for each stretch of the
     * group's entries of one run with the index of its last one, in the group's order, from the
     * appending thread and before append returns. fn may read, but not append or watch. Replaces
     * the fn before, which is not running and won't be called again when this returns; NULL for
     * none. */
    void (*watch)(struct mx_journal *j, mx_journal_watch_fn *fn, void *arg);
};

/* What a form puts first into its own struct. */
struct mx_journal {
    const struct mx_journal_ops *ops;
};

MX_MUST_CHECK
static inline int mx_journal_append(struct mx_journal *j, const struct mx_put *puts, size_t n,
                                    struct mx_err *err)
{
    return j->ops->append(j, puts, n, err);
}

MX_MUST_CHECK
static inline int mx_journal_read(struct mx_journal *j, uint32_t run, uint64_t from,
                                  mx_journal_read_fn *cb, void *arg, struct mx_err *err)
{
    return j->ops->read(j, run, from, cb, arg, err);
}

MX_MUST_CHECK
static inline int mx_journal_bounds(struct mx_journal *j, uint32_t run, uint64_t *ret_first,
                                    uint64_t *ret_last, struct mx_err *err)
{
    return j->ops->bounds(j, run, ret_first, ret_last, err);
}

static inline void mx_journal_watch(struct mx_journal *j, mx_journal_watch_fn *fn, void *arg)
{
    j->ops->watch(j, fn, arg);
}

#endif
