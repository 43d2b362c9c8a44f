/* catalog_runs.c - runs, and what is derived from their journals: mixes, snapshots and reports
 * (catalog.h); the group commit. Entries are the business of journal_catalog.c. */
#include "store/catalog_impl.h"

#include <inttypes.h>
#include <string.h>

/* ---- runs ---- */

void mx_run_record_clear(struct mx_run_record *r)
{
    free(r->config);
    free(r->domains);
    r->config = NULL;
    r->domains = NULL;
    r->config_bytes = 0;
    r->k = 0;
}

int mx_runs_walk(struct mx_catalog *c, struct mx_kv_txn *t,
                 int (*cb)(void *arg, const struct mx_run_view *r, struct mx_err *err), void *arg,
                 struct mx_err *err)
{
    struct mx_kv_cursor cursor = {0};
    struct mx_span key = {NULL, 0}, value = {NULL, 0}, v;
    struct mx_run_view r;
    int moved, rc = mx_kv_cursor_open(t, c->tables[MX_TABLE_RUNS], &cursor, err);

    if (rc != 0) {
        return rc;
    }
    moved = mx_kv_seek_first_at(&cursor, "\0", 1, &key, &value, err);
    while (moved == 1 && rc == 0) {
        rc = mx_record_open(c, MX_TABLE_RUNS, key, value, &v, err);
        if (rc == 0 && !mx_run_decode(v, &r)) {
            rc = mx_record_damaged(c, MX_TABLE_RUNS, key, "it makes no sense", err);
        }
        if (rc == 0) {
            rc = cb(arg, &r, err);
        }
        if (rc == 0) {
            moved = mx_kv_next(&cursor, &key, &value, err);
        }
    }
    mx_kv_cursor_close(&cursor);
    return rc == 0 && moved < 0 ? moved : rc;
}

static int copy_run(const struct mx_run_view *v, struct mx_run_record *ret, struct mx_err *err)
{
    *ret = (struct mx_run_record){.id = v->id, .created_ms = v->created_ms, .k = v->k,
                                  .config_bytes = v->config.n};
    memcpy(ret->name, v->name.p, v->name.n);
    ret->config = malloc(v->config.n + 1);
    ret->domains = calloc(v->k > 0 ? v->k : 1, sizeof *ret->domains);
    if (ret->config == NULL || ret->domains == NULL) {
        mx_run_record_clear(ret);
        return mx_fail(err, MX_ENOMEM, "out of memory for run '%s'", ret->name);
    }
    memcpy(ret->config, v->config.p, v->config.n);
    ret->config[v->config.n] = '\0';
    for (uint32_t i = 0; i < v->k; i++) {
        ret->domains[i].id = mx_load_u32(v->domains + (size_t)i * 8);
        ret->domains[i].shards = mx_load_u32(v->domains + (size_t)i * 8 + 4);
    }
    return 0;
}

struct lister {
    int (*cb)(void *arg, const struct mx_run_record *r);
    void *arg;
};

static int list_cb(void *arg, const struct mx_run_view *v, struct mx_err *err)
{
    struct lister *l = arg;
    struct mx_run_record r;
    int rc = copy_run(v, &r, err);

    if (rc == 0) {
        rc = l->cb(l->arg, &r);
        mx_run_record_clear(&r);
    }
    return rc;
}

int mx_catalog_runs(struct mx_catalog *c, int (*cb)(void *arg, const struct mx_run_record *r),
                    void *arg, struct mx_err *err)
{
    struct lister l = {.cb = cb, .arg = arg};
    struct mx_kv_txn t = {0};
    int rc = mx_kv_begin(c->kv, false, &t, err);

    if (rc == 0) {
        rc = mx_runs_walk(c, &t, list_cb, &l, err);
    }
    mx_kv_abort(&t);
    return rc;
}

int mx_catalog_next_run(struct mx_catalog *c, uint32_t *ret, struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    uint64_t last = 0;
    int rc = mx_kv_begin(c->kv, false, &t, err);

    if (rc == 0) {
        rc = mx_meta_get(c, &t, MX_META_LAST_RUN, &last, err);
    }
    mx_kv_abort(&t);
    if (rc == 0 && last >= UINT32_MAX - 1) {
        rc = mx_fail(err, MX_EFULL, "no run ids are left");
    }
    if (rc == 0) {
        *ret = (uint32_t)last + 1;
    }
    return rc;
}

/* ---- writing ---- */

/* A run may only be made of what is there: a domain can have been removed since it was read. */
static int check_run(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_run_record *r,
                     struct mx_err *err)
{
    struct mx_domain d;
    uint64_t last = 0;
    int rc = mx_name_check(r->name, strlen(r->name), "run", err);

    if (rc == 0 && (r->config_bytes > MX_JSON_MAX || r->k > MX_DOMAINS_MAX)) {
        rc = mx_fail(err, MX_EINVALID, "run '%s': a config of %zu bytes or %u domains are too many",
                     r->name, r->config_bytes, r->k);
    }
    if (rc == 0) {
        rc = mx_meta_get(c, t, MX_META_LAST_RUN, &last, err);
    }
    if (rc == 0 && (r->id <= last || r->id == UINT32_MAX)) {
        rc = mx_fail(err, MX_EEXISTS, "run id %u has been used; the next is %" PRIu64, r->id,
                     last + 1);
    }
    for (uint32_t i = 0; rc == 0 && i < r->k; i++) {
        rc = mx_domain_get(c, t, r->domains[i].id, &d, err);
        if (rc == 0 && r->domains[i].shards > d.shards) {
            rc = mx_fail(err, MX_ENOTFOUND, "run '%s': domain '%s' has %u shards, not %u", r->name,
                         d.name, d.shards, r->domains[i].shards);
        }
    }
    return rc;
}

static int put_run(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_run_record *r,
                   struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX], id[4], *bytes;
    size_t n;
    int rc = check_run(c, t, r, err);

    if (rc != 0) {
        return rc;
    }
    mx_store_u32(id, r->id);
    rc = mx_record_put(c, t, MX_TABLE_RUN_NAMES, r->name, strlen(r->name), id, sizeof id, true,
                       err);
    if (rc == MX_EEXISTS) {
        return mx_fail(err, MX_EEXISTS, "there is a run '%s' already", r->name);
    }
    if (rc != 0) {
        return rc;
    }
    bytes = malloc(mx_run_bytes(r));
    if (bytes == NULL) {
        return mx_fail(err, MX_ENOMEM, "out of memory for run '%s'", r->name);
    }
    mx_run_encode(r, bytes);
    n = mx_key_u32(r->id, key);
    rc = mx_record_put(c, t, MX_TABLE_RUNS, key, n, bytes, mx_run_bytes(r), true, err);
    free(bytes);
    return rc != 0 ? rc : mx_meta_put(c, t, MX_META_LAST_RUN, r->id, err);
}

static int need_run(struct mx_catalog *c, struct mx_kv_txn *t, uint32_t run, struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u32(run, key);
    struct mx_span v;
    int rc = mx_kv_get(t, c->tables[MX_TABLE_RUNS], key, n, &v, err);

    return rc == MX_ENOTFOUND ? mx_fail(err, MX_ENOTFOUND, "there is no run with id %u", run) : rc;
}

/* The index of a report's entry, which its payload begins with. */
static int report_index(struct mx_catalog *c, struct mx_span key, struct mx_span payload,
                        uint64_t *ret, struct mx_err *err)
{
    if (payload.n < 8) {
        return mx_record_damaged(c, MX_TABLE_REPORTS, key, "it is too short", err);
    }
    *ret = mx_load_u64(payload.p);
    return 0;
}

static int put_report(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_put *p,
                      struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u32_u64_u32(p->run, p->key, p->rank, key);
    struct mx_span v;
    uint64_t index = 0;
    int rc;

    if (p->n < 8) {
        return mx_fail(err, MX_EINVALID, "run %u: a report of %zu bytes names no entry", p->run,
                       p->n);
    }
    rc = mx_record_get(c, t, MX_TABLE_REPORTS, key, n, &v, err);
    if (rc == 0) {
        rc = report_index(c, mx_span_of(key, n), v, &index, err);
        if (rc != 0 || index >= p->floor) {
            return rc;
        }
    } else if (rc != MX_ENOTFOUND) {
        return rc;
    }
    return mx_record_put(c, t, MX_TABLE_REPORTS, key, n, p->bytes, p->n, false, err);
}

static int remove_run(struct mx_catalog *c, struct mx_kv_txn *t, uint32_t run, struct mx_err *err)
{
    static const enum mx_table keyed[] = {MX_TABLE_JOURNAL, MX_TABLE_MIXES, MX_TABLE_SNAPSHOTS,
                                          MX_TABLE_REPORTS};
    uint8_t key[MX_CATALOG_KEY_MAX];
    char name[MX_NAME_MAX + 1];
    size_t n = mx_key_u32(run, key), name_n;
    struct mx_run_view r;
    struct mx_span v;
    int rc = mx_record_get(c, t, MX_TABLE_RUNS, key, n, &v, err);

    if (rc == 0 && !mx_run_decode(v, &r)) {
        rc = mx_record_damaged(c, MX_TABLE_RUNS, mx_span_of(key, n), "it makes no sense", err);
    }
    if (rc != 0) {
        return rc;
    }
    name_n = r.name.n; /* the span is gone with the first write */
    memcpy(name, r.name.p, name_n);
    rc = mx_kv_delete(t, c->tables[MX_TABLE_RUN_NAMES], name, name_n, err);
    if (rc == 0) {
        rc = mx_kv_delete(t, c->tables[MX_TABLE_RUNS], key, n, err);
    }
    for (size_t i = 0; rc == 0 && i < sizeof keyed / sizeof *keyed; i++) {
        rc = mx_records_remove(c, t, keyed[i], run, NULL, NULL, err);
    }
    return rc;
}

static int put_bytes(struct mx_catalog *c, struct mx_kv_txn *t, enum mx_table table, size_t max,
                     const struct mx_put *p, struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];

    if (p->n > max) {
        return mx_fail(err, MX_EINVALID, "run %u: a record of %zu bytes is more than %zu", p->run,
                       p->n, max);
    }
    if (table == MX_TABLE_JOURNAL) {
        return mx_entry_put(c, t, p, err);
    }
    if (table == MX_TABLE_REPORTS) {
        return put_report(c, t, p, err);
    }
    return mx_record_put(c, t, table, key, mx_key_u32_u64(p->run, p->key, key), p->bytes, p->n,
                         false, err);
}

static int put_one(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_put *p,
                   struct mx_err *err)
{
    int rc = p->kind == MX_PUT_RUN || p->kind == MX_PUT_WITHDRAW ? 0 : need_run(c, t, p->run, err);

    if (rc != 0) {
        return rc;
    }
    switch (p->kind) {
    case MX_PUT_RUN: return put_run(c, t, p->record, err);
    case MX_PUT_ENTRY: return put_bytes(c, t, MX_TABLE_JOURNAL, MX_ENTRY_MAX, p, err);
    case MX_PUT_MIX: return put_bytes(c, t, MX_TABLE_MIXES, MX_SNAPSHOT_MAX, p, err);
    case MX_PUT_SNAPSHOT: return put_bytes(c, t, MX_TABLE_SNAPSHOTS, MX_SNAPSHOT_MAX, p, err);
    case MX_PUT_REPORT: return put_bytes(c, t, MX_TABLE_REPORTS, MX_ENTRY_MAX, p, err);
    case MX_PUT_COMPACT: return mx_entries_compact(c, t, p, err);
    case MX_PUT_REMOVE: return remove_run(c, t, p->run, err);
    case MX_PUT_WITHDRAW: return mx_withdrawal_put(c, t, p, err);
    }
    MX_UNREACHABLE("a put of no kind");
}

int mx_catalog_commit(struct mx_catalog *c, const struct mx_put *puts, size_t n,
                      struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    int rc = mx_kv_begin(c->kv, true, &t, err);

    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = put_one(c, &t, &puts[i], err);
    }
    if (rc != 0) {
        mx_kv_abort(&t);
        return rc;
    }
    return mx_kv_commit(&t, err);
}

/* ---- reading ---- */

/* Records of a run from `first` to `last`, in a table keyed by both. */
static int walk_range(struct mx_catalog *c, struct mx_record_walk *w, enum mx_table table,
                      uint32_t run, uint64_t first, uint64_t last,
                      int (*cb)(void *arg, uint64_t number, struct mx_span bytes), void *arg,
                      struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    struct mx_span v;
    uint64_t at = 0;
    int rc, moved = mx_kv_seek_first_at(&w->cursor, key, mx_key_u32_u64(run, first, key), &w->key,
                                        &w->value, err);

    while (moved == 1 && mx_key_parse_u32_u64(w->key, run, &at) && at <= last) {
        rc = mx_record_open(c, table, w->key, w->value, &v, err);
        if (rc == 0) {
            rc = cb(arg, at, v);
        }
        if (rc != 0) {
            return rc;
        }
        moved = mx_kv_next(&w->cursor, &w->key, &w->value, err);
    }
    return moved < 0 ? moved : 0;
}

int mx_catalog_mixes(struct mx_catalog *c, uint32_t run, uint64_t from, uint64_t to,
                     int (*cb)(void *arg, uint64_t order, struct mx_span bytes), void *arg,
                     struct mx_err *err)
{
    struct mx_record_walk w;
    uint64_t order = 0;
    int moved, rc = mx_walk_open(c, MX_TABLE_MIXES, &w, err);

    if (rc != 0) {
        return rc;
    }
    moved = mx_record_last(&w.cursor, run, from, &order, &w.key, &w.value, err);
    rc = moved < 0 ? moved : walk_range(c, &w, MX_TABLE_MIXES, run, moved == 1 ? order : from, to,
                                        cb, arg, err);
    mx_walk_close(&w);
    return rc;
}

int mx_catalog_snapshots(struct mx_catalog *c, uint32_t run, uint64_t from_step, uint64_t to_step,
                         int (*cb)(void *arg, uint64_t step, struct mx_span bytes), void *arg,
                         struct mx_err *err)
{
    struct mx_record_walk w;
    int rc = mx_walk_open(c, MX_TABLE_SNAPSHOTS, &w, err);

    if (rc != 0) {
        return rc;
    }
    rc = walk_range(c, &w, MX_TABLE_SNAPSHOTS, run, from_step, to_step, cb, arg, err);
    mx_walk_close(&w);
    return rc;
}

int mx_catalog_snapshot(struct mx_catalog *c, uint32_t run, uint64_t step, uint64_t *ret_step,
                        uint8_t **ret, size_t *ret_n, struct mx_err *err)
{
    struct mx_record_walk w;
    struct mx_span v = {NULL, 0};
    uint8_t *copy = NULL;
    uint64_t found = 0;
    int rc = mx_walk_open(c, MX_TABLE_SNAPSHOTS, &w, err);

    if (rc != 0) {
        return rc;
    }
    rc = mx_record_last(&w.cursor, run, step, &found, &w.key, &w.value, err);
    if (rc == 1) {
        rc = mx_record_open(c, MX_TABLE_SNAPSHOTS, w.key, w.value, &v, err);
    } else if (rc == 0) {
        rc = mx_fail(err, MX_ENOTFOUND, "run %u has no snapshot at or before step %" PRIu64, run,
                     step);
    }
    if (rc == 0 && (copy = malloc(v.n > 0 ? v.n : 1)) == NULL) {
        rc = mx_fail(err, MX_ENOMEM, "out of memory for a snapshot of %zu bytes", v.n);
    }
    if (rc == 0) {
        memcpy(copy, v.p, v.n);
        *ret_step = found;
        *ret = copy;
        *ret_n = v.n;
    }
    mx_walk_close(&w);
    return rc;
}

int mx_catalog_report(struct mx_catalog *c, uint32_t run, uint64_t step, uint32_t rank, void *buf,
                      size_t room, size_t *ret_n, struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u32_u64_u32(run, step, rank, key);
    struct mx_kv_txn t = {0};
    struct mx_span v = {NULL, 0};
    uint64_t index;
    int rc = mx_kv_begin(c->kv, false, &t, err);

    if (rc != 0) {
        return rc;
    }
    rc = mx_record_get(c, &t, MX_TABLE_REPORTS, key, n, &v, err);
    if (rc == MX_ENOTFOUND) {
        rc = mx_fail(err, rc, "run %u has no report of rank %u for step %" PRIu64, run, rank, step);
    } else if (rc == 0) {
        rc = report_index(c, mx_span_of(key, n), v, &index, err);
    }
    if (rc == 0 && v.n > room) {
        rc = mx_fail(err, MX_EINVALID, "run %u: the report of rank %u for step %" PRIu64
                     " has %zu bytes, not up to %zu", run, rank, step, v.n, room);
    }
    if (rc == 0) {
        memcpy(buf, v.p, v.n);
        *ret_n = v.n;
    }
    mx_kv_abort(&t);
    return rc;
}
