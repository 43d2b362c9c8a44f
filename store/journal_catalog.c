/* journal_catalog.c - the journal's embedded form: a table of the catalog (journal.h).
 *
 * An entry's key is (run, index), from 1 and without gaps. A journal that was compacted has a base
 * record under (run, 0): the index of the first entry kept. A journal that begins later without one
 * is damaged. The last entry is never compacted, so the next index can always be told. */
#include "store/catalog_impl.h"

#include <inttypes.h>

#define BASE_BYTES 8u

static int entry_missing(struct mx_catalog *c, uint32_t run, uint64_t index, const char *why,
                         struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];

    return mx_record_damaged(c, MX_TABLE_JOURNAL,
                             mx_span_of(key, mx_key_u32_u64(run, index, key)), why, err);
}

/* The first entry kept: 1 where there is no base record. */
static int first_kept(struct mx_catalog *c, struct mx_kv_txn *t, uint32_t run, uint64_t *ret,
                      struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u32_u64(run, 0, key);
    struct mx_span v;
    int rc = mx_record_get(c, t, MX_TABLE_JOURNAL, key, n, &v, err);

    if (rc == MX_ENOTFOUND) {
        *ret = 1;
        return 0;
    }
    if (rc == 0 && (v.n != BASE_BYTES || mx_load_u64(v.p) < 2)) {
        rc = mx_record_damaged(c, MX_TABLE_JOURNAL, mx_span_of(key, n), "it makes no sense", err);
    }
    if (rc == 0) {
        *ret = mx_load_u64(v.p);
    }
    return rc;
}

/* The last entry, 0 for none. */
static int last_entry(struct mx_catalog *c, struct mx_kv_cursor *cursor, uint32_t run,
                      uint64_t *ret, struct mx_err *err)
{
    struct mx_span key = {NULL, 0}, value = {NULL, 0};
    uint64_t last = 0;
    int moved = mx_record_last(cursor, run, UINT64_MAX, &last, &key, &value, err);

    if (moved == 1 && last == 0) {
        return mx_record_damaged(c, MX_TABLE_JOURNAL, key, "no entry comes after it", err);
    }
    *ret = last;
    return moved < 0 ? moved : 0;
}

/* A cursor comes back standing on the first entry, if there is one. */
static int find_bounds(struct mx_catalog *c, struct mx_kv_txn *t, struct mx_kv_cursor *cursor,
                       uint32_t run, uint64_t *ret_first, uint64_t *ret_last, struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    struct mx_span k = {NULL, 0}, v = {NULL, 0};
    uint64_t first = 1, last = 0, at = 0;
    int moved, rc = last_entry(c, cursor, run, &last, err);

    if (rc == 0 && last > 0) {
        rc = first_kept(c, t, run, &first, err);
    }
    if (rc == 0 && last > 0) {
        moved = mx_kv_seek_first_at(cursor, key, mx_key_u32_u64(run, first, key), &k, &v, err);
        if (moved < 0) {
            rc = moved;
        } else if (moved == 0 || !mx_key_parse_u32_u64(k, run, &at) || at != first) {
            rc = entry_missing(c, run, first, "it isn't there, but the journal begins with it",
                               err);
        }
    }
    if (rc == 0) {
        *ret_first = first;
        *ret_last = last;
    }
    return rc;
}

/* ---- writing ---- */

int mx_entry_put(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_put *p,
                 struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u32_u64(p->run, p->key, key);
    struct mx_kv_cursor cursor = {0};
    uint64_t last = 0;
    int rc = mx_kv_cursor_open(t, c->tables[MX_TABLE_JOURNAL], &cursor, err);

    if (rc != 0) {
        return rc;
    }
    rc = last_entry(c, &cursor, p->run, &last, err);
    mx_kv_cursor_close(&cursor);
    if (rc != 0) {
        return rc;
    }
    if (p->key != last + 1) {
        return mx_fail(err, MX_EEXISTS,
                       "entry %" PRIu64 " of run %u can't be appended: the next is %" PRIu64,
                       p->key, p->run, last + 1);
    }
    return mx_record_put(c, t, MX_TABLE_JOURNAL, key, n, p->bytes, p->n, true, err);
}

/* Removes from where the cursor stands up to and with `to`. */
static int remove_entries(struct mx_kv_cursor *cursor, uint32_t run, uint64_t from, uint64_t to,
                          struct mx_err *err)
{
    struct mx_span k = {NULL, 0}, v = {NULL, 0};
    uint64_t index = from;
    int moved = 1, rc = 0;

    while (rc == 0 && moved == 1 && index <= to) {
        rc = mx_kv_cursor_delete(cursor, err);
        if (rc == 0) {
            moved = mx_kv_next(cursor, &k, &v, err);
        }
        if (rc == 0 && moved == 1 && !mx_key_parse_u32_u64(k, run, &index)) {
            moved = 0;
        }
    }
    return rc == 0 && moved < 0 ? moved : rc;
}

int mx_entries_compact(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_put *p,
                       struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX], base[BASE_BYTES];
    struct mx_kv_cursor cursor = {0};
    uint64_t first = 1, last = 0;
    int rc = mx_kv_cursor_open(t, c->tables[MX_TABLE_JOURNAL], &cursor, err);

    if (rc != 0) {
        return rc;
    }
    rc = find_bounds(c, t, &cursor, p->run, &first, &last, err);
    if (rc == 0 && p->key >= last) {
        rc = mx_fail(err, MX_EINVALID, "run %u can't be compacted up to entry %" PRIu64
                     ": the last one, %" PRIu64 ", must stay", p->run, p->key, last);
    } else if (rc == 0 && p->key >= first && p->key - first >= MX_COMPACT_SLICE) {
        rc = mx_fail(err, MX_EINVALID, "run %u can't be compacted up to entry %" PRIu64
                     " at once: the first one is %" PRIu64 ", and %u are the most", p->run, p->key,
                     first, MX_COMPACT_SLICE);
    } else if (rc == 0 && p->key >= first) {
        rc = remove_entries(&cursor, p->run, first, p->key, err);
    }
    mx_kv_cursor_close(&cursor);
    if (rc != 0 || p->key < first) {
        return rc;
    }
    mx_store_u64(base, p->key + 1);
    return mx_record_put(c, t, MX_TABLE_JOURNAL, key, mx_key_u32_u64(p->run, 0, key), base,
                         sizeof base, false, err);
}

/* ---- the interface ---- */

static struct mx_catalog *catalog_of(struct mx_journal *j)
{
    return (struct mx_catalog *)((char *)j - offsetof(struct mx_catalog, journal));
}

static void tell(struct mx_catalog *c, const struct mx_put *puts, size_t n)
{
    const struct mx_put *last = NULL;

    (void)pthread_mutex_lock(&c->watch_lock);
    for (size_t i = 0; c->watch != NULL && i < n; i++) {
        if (puts[i].kind != MX_PUT_ENTRY) {
            continue;
        }
        if (last != NULL && last->run != puts[i].run) {
            c->watch(c->watch_arg, last->run, last->key);
        }
        last = &puts[i];
    }
    if (last != NULL) {
        c->watch(c->watch_arg, last->run, last->key);
    }
    (void)pthread_mutex_unlock(&c->watch_lock);
}

static int journal_append(struct mx_journal *j, const struct mx_put *puts, size_t n,
                          struct mx_err *err)
{
    struct mx_catalog *c = catalog_of(j);
    int rc = mx_catalog_commit(c, puts, n, err);

    if (rc == 0) {
        tell(c, puts, n);
    }
    return rc;
}

/* The entries from `next` on; *next is the one after the last that was read. */
static int read_entries(struct mx_catalog *c, struct mx_record_walk *w, uint32_t run,
                        uint64_t *next, mx_journal_read_fn *cb, void *arg, struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    struct mx_span v;
    uint64_t index = 0;
    int moved = mx_kv_seek_first_at(&w->cursor, key, mx_key_u32_u64(run, *next, key), &w->key,
                                    &w->value, err);

    while (moved == 1 && mx_key_parse_u32_u64(w->key, run, &index)) {
        int rc;
        if (index != *next) {
            return entry_missing(c, run, *next, "it isn't there, but later ones are", err);
        }
        rc = mx_record_open(c, MX_TABLE_JOURNAL, w->key, w->value, &v, err);
        if (rc == 0) {
            rc = cb(arg, index, v);
        }
        if (rc != 0) {
            return rc;
        }
        ++*next;
        moved = mx_kv_next(&w->cursor, &w->key, &w->value, err);
    }
    return moved < 0 ? moved : 0;
}

static int journal_read(struct mx_journal *j, uint32_t run, uint64_t from, mx_journal_read_fn *cb,
                        void *arg, struct mx_err *err)
{
    struct mx_catalog *c = catalog_of(j);
    struct mx_record_walk w;
    uint64_t first = 1, next = from > 0 ? from : 1;
    int rc = mx_walk_open(c, MX_TABLE_JOURNAL, &w, err);

    if (rc != 0) {
        return rc;
    }
    rc = first_kept(c, &w.txn, run, &first, err);
    if (rc == 0 && next < first) {
        rc = mx_fail(err, MX_EGONE, "entries before %" PRIu64 " of run %u were compacted", first,
                     run);
    }
    if (rc == 0) {
        rc = read_entries(c, &w, run, &next, cb, arg, err);
    }
    if (rc == 0 && first > 1 && next == first) {
        rc = entry_missing(c, run, first, "it isn't there, but the journal begins with it", err);
    }
    mx_walk_close(&w);
    return rc;
}

static int journal_bounds(struct mx_journal *j, uint32_t run, uint64_t *ret_first,
                          uint64_t *ret_last, struct mx_err *err)
{
    struct mx_catalog *c = catalog_of(j);
    struct mx_record_walk w;
    int rc = mx_walk_open(c, MX_TABLE_JOURNAL, &w, err);

    if (rc != 0) {
        return rc;
    }
    rc = find_bounds(c, &w.txn, &w.cursor, run, ret_first, ret_last, err);
    mx_walk_close(&w);
    return rc;
}

static void journal_watch(struct mx_journal *j, mx_journal_watch_fn *fn, void *arg)
{
    struct mx_catalog *c = catalog_of(j);

    (void)pthread_mutex_lock(&c->watch_lock);
    c->watch = fn;
    c->watch_arg = arg;
    (void)pthread_mutex_unlock(&c->watch_lock);
}

const struct mx_journal_ops mx_catalog_journal_ops = {
    .name = "catalog",
    .append = journal_append,
    .read = journal_read,
    .bounds = journal_bounds,
    .watch = journal_watch,
};

struct mx_journal *mx_journal_of_catalog(struct mx_catalog *c)
{
    return &c->journal;
}
