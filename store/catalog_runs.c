/* catalog_runs.c - runs, journals, mixes and snapshots in the catalog (catalog.h). */
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

/* The last record of a run at or before `number`: 1, or 0 if there is none, or a code. The key that
 * was found stays in *cursor. */
static int seek_last(struct mx_kv_cursor *cursor, uint32_t run, uint64_t number, uint64_t *ret,
                     struct mx_span *ret_key, struct mx_span *ret_value, struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u32_u64(run, number, key);
    int moved = mx_kv_seek_last_at(cursor, key, n, ret_key, ret_value, err);

    return moved == 1 && !mx_key_parse_u32_u64(*ret_key, run, ret) ? 0 : moved;
}

static int put_entry(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_put *p,
                     struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u32_u64(p->run, p->key, key);
    struct mx_kv_cursor cursor = {0};
    struct mx_span k = {NULL, 0}, v = {NULL, 0};
    uint64_t last = 0;
    int rc = mx_kv_cursor_open(t, c->tables[MX_TABLE_JOURNAL], &cursor, err);

    if (rc == 0) {
        rc = seek_last(&cursor, p->run, UINT64_MAX, &last, &k, &v, err);
        mx_kv_cursor_close(&cursor);
    }
    if (rc < 0) {
        return rc;
    }
    if (p->key != last + 1) {
        return mx_fail(err, MX_EEXISTS,
                       "entry %" PRIu64 " of run %u can't be appended: the next is %" PRIu64,
                       p->key, p->run, last + 1);
    }
    return mx_record_put(c, t, MX_TABLE_JOURNAL, key, n, p->bytes, p->n, true, err);
}

static int remove_run(struct mx_catalog *c, struct mx_kv_txn *t, uint32_t run, struct mx_err *err)
{
    static const enum mx_table keyed[] = {MX_TABLE_JOURNAL, MX_TABLE_MIXES, MX_TABLE_SNAPSHOTS};
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

static int put_one(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_put *p,
                   struct mx_err *err)
{
    enum mx_table table = p->kind == MX_PUT_MIX ? MX_TABLE_MIXES : MX_TABLE_SNAPSHOTS;
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t max = p->kind == MX_PUT_ENTRY ? MX_ENTRY_MAX : MX_SNAPSHOT_MAX;
    int rc;

    if (p->kind == MX_PUT_RUN) {
        return put_run(c, t, p->record, err);
    }
    rc = need_run(c, t, p->run, err);
    if (rc != 0) {
        return rc;
    }
    if (p->kind == MX_PUT_REMOVE) {
        return remove_run(c, t, p->run, err);
    }
    if (p->n > max) {
        return mx_fail(err, MX_EINVALID, "run %u: a record of %zu bytes is more than %zu", p->run,
                       p->n, max);
    }
    if (p->kind == MX_PUT_ENTRY) {
        return put_entry(c, t, p, err);
    }
    MX_REQUIRE(p->kind == MX_PUT_MIX || p->kind == MX_PUT_SNAPSHOT);
    return mx_record_put(c, t, table, key, mx_key_u32_u64(p->run, p->key, key), p->bytes, p->n,
                         false, err);
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

struct reader {
    struct mx_kv_txn txn;
    struct mx_kv_cursor cursor;
    struct mx_span key, value;
};

static int reader_open(struct mx_catalog *c, enum mx_table table, struct reader *r,
                       struct mx_err *err)
{
    int rc;

    *r = (struct reader){0};
    rc = mx_kv_begin(c->kv, false, &r->txn, err);
    if (rc == 0) {
        rc = mx_kv_cursor_open(&r->txn, c->tables[table], &r->cursor, err);
        if (rc != 0) {
            mx_kv_abort(&r->txn);
        }
    }
    return rc;
}

static void reader_close(struct reader *r)
{
    mx_kv_cursor_close(&r->cursor);
    mx_kv_abort(&r->txn);
}

int mx_catalog_entries(struct mx_catalog *c, uint32_t run, uint64_t from,
                       int (*cb)(void *arg, uint64_t index, struct mx_span bytes), void *arg,
                       struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    struct reader r;
    struct mx_span v;
    uint64_t index, next = from > 0 ? from : 1;
    int moved, rc = reader_open(c, MX_TABLE_JOURNAL, &r, err);

    if (rc != 0) {
        return rc;
    }
    moved = mx_kv_seek_first_at(&r.cursor, key, mx_key_u32_u64(run, next, key), &r.key, &r.value,
                                err);
    while (moved == 1 && rc == 0 && mx_key_parse_u32_u64(r.key, run, &index)) {
        if (index != next) {
            rc = mx_record_damaged(c, MX_TABLE_JOURNAL,
                                   mx_span_of(key, mx_key_u32_u64(run, next, key)),
                                   "it isn't there, but later ones are", err);
            break;
        }
        rc = mx_record_open(c, MX_TABLE_JOURNAL, r.key, r.value, &v, err);
        if (rc == 0) {
            rc = cb(arg, index, v);
        }
        if (rc == 0) {
            next++;
            moved = mx_kv_next(&r.cursor, &r.key, &r.value, err);
        }
    }
    reader_close(&r);
    return rc == 0 && moved < 0 ? moved : rc;
}

int mx_catalog_mixes(struct mx_catalog *c, uint32_t run, uint64_t from, uint64_t to,
                     int (*cb)(void *arg, uint64_t step, struct mx_span bytes), void *arg,
                     struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    struct reader r;
    struct mx_span v;
    uint64_t step = 0;
    int moved, rc = reader_open(c, MX_TABLE_MIXES, &r, err);

    if (rc != 0) {
        return rc;
    }
    moved = seek_last(&r.cursor, run, from, &step, &r.key, &r.value, err);
    if (moved == 0) {
        moved = mx_kv_seek_first_at(&r.cursor, key, mx_key_u32_u64(run, from, key), &r.key,
                                    &r.value, err);
    }
    while (moved == 1 && rc == 0 && mx_key_parse_u32_u64(r.key, run, &step) && step <= to) {
        rc = mx_record_open(c, MX_TABLE_MIXES, r.key, r.value, &v, err);
        if (rc == 0) {
            rc = cb(arg, step, v);
        }
        if (rc == 0) {
            moved = mx_kv_next(&r.cursor, &r.key, &r.value, err);
        }
    }
    reader_close(&r);
    return rc == 0 && moved < 0 ? moved : rc;
}

int mx_catalog_snapshot(struct mx_catalog *c, uint32_t run, uint64_t step, uint64_t *ret_step,
                        uint8_t **ret, size_t *ret_n, struct mx_err *err)
{
    struct reader r;
    struct mx_span v = {NULL, 0};
    uint8_t *copy = NULL;
    uint64_t found = 0;
    int rc = reader_open(c, MX_TABLE_SNAPSHOTS, &r, err);

    if (rc != 0) {
        return rc;
    }
    rc = seek_last(&r.cursor, run, step, &found, &r.key, &r.value, err);
    if (rc == 1) {
        rc = mx_record_open(c, MX_TABLE_SNAPSHOTS, r.key, r.value, &v, err);
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
    reader_close(&r);
    return rc;
}
