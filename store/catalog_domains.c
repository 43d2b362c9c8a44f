/* catalog_domains.c - domains and their shards in the catalog (catalog.h). */
#include "store/catalog_impl.h"
#include "store/files.h"

#include <inttypes.h>
#include <string.h>

int mx_name_check(const char *name, size_t n, const char *what, struct mx_err *err)
{
    if (n == 0 || n > MX_NAME_MAX) {
        return mx_fail(err, MX_EINVALID, "%s: a name has 1 to %u bytes, not %zu", what, MX_NAME_MAX,
                       n);
    }
    for (size_t i = 0; i < n; i++) {
        char ch = name[i];
        bool word =
            (ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
        if (!word && (i == 0 || (ch != '.' && ch != '_' && ch != '-'))) {
            return mx_fail(err, MX_EINVALID,
                           "%s: byte %zu (0x%02x) of the name may not be there: A-Z a-z 0-9 . _ - "
                           "may, and a letter or digit comes first",
                           what, i, (unsigned)(unsigned char)ch);
        }
    }
    return 0;
}

/* ---- reading ---- */

int mx_domain_get(struct mx_catalog *c, struct mx_kv_txn *t, uint32_t id, struct mx_domain *ret,
                  struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u32(id, key);
    struct mx_span v;
    int rc = mx_record_get(c, t, MX_TABLE_DOMAINS, key, n, &v, err);

    if (rc == MX_ENOTFOUND) {
        return mx_fail(err, MX_ENOTFOUND, "there is no domain with id %u", id);
    }
    if (rc == 0 && (!mx_domain_decode(v, ret) || ret->id != id)) {
        rc = mx_record_damaged(c, MX_TABLE_DOMAINS, mx_span_of(key, n), "it makes no sense", err);
    }
    return rc;
}

/* A number of 4 bytes that a name leads to. */
static int id_of_name(struct mx_catalog *c, struct mx_kv_txn *t, struct mx_span v,
                      struct mx_span name, struct mx_domain *ret, struct mx_err *err)
{
    int rc;

    if (v.n != 4) {
        return mx_record_damaged(c, MX_TABLE_DOMAIN_NAMES, name, "its length is wrong", err);
    }
    rc = mx_domain_get(c, t, mx_load_u32(v.p), ret, err);
    return rc == MX_ENOTFOUND
               ? mx_record_damaged(c, MX_TABLE_DOMAIN_NAMES, name, "it leads nowhere", err)
               : rc;
}

static int get_by_name(struct mx_catalog *c, struct mx_kv_txn *t, const char *name,
                       struct mx_domain *ret, struct mx_err *err)
{
    struct mx_span v;
    size_t n = strlen(name);
    int rc = n == 0 || n > MX_NAME_MAX
                 ? MX_ENOTFOUND
                 : mx_record_get(c, t, MX_TABLE_DOMAIN_NAMES, name, n, &v, err);

    if (rc == MX_ENOTFOUND) {
        return mx_fail(err, MX_ENOTFOUND, "there is no domain '%.64s'", name);
    }
    return rc != 0 ? rc : id_of_name(c, t, v, mx_span_of(name, n), ret, err);
}

int mx_catalog_domain(struct mx_catalog *c, const char *name, struct mx_domain *ret,
                      struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    int rc = mx_kv_begin(c->kv, false, &t, err);

    if (rc == 0) {
        rc = get_by_name(c, &t, name, ret, err);
    }
    mx_kv_abort(&t);
    return rc;
}

int mx_catalog_domain_by_id(struct mx_catalog *c, uint32_t id, struct mx_domain *ret,
                            struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    int rc = mx_kv_begin(c->kv, false, &t, err);

    if (rc == 0) {
        rc = mx_domain_get(c, &t, id, ret, err);
    }
    mx_kv_abort(&t);
    return rc;
}

int mx_catalog_domains(struct mx_catalog *c, int (*cb)(void *arg, const struct mx_domain *d),
                       void *arg, struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    struct mx_kv_cursor cursor = {0};
    struct mx_span key = {NULL, 0}, value = {NULL, 0}, v;
    struct mx_domain d;
    int rc = mx_kv_begin(c->kv, false, &t, err);

    if (rc != 0) {
        return rc;
    }
    rc = mx_kv_cursor_open(&t, c->tables[MX_TABLE_DOMAIN_NAMES], &cursor, err);
    if (rc == 0) {
        int moved = mx_kv_seek_first_at(&cursor, "\0", 1, &key, &value, err);
        while (moved == 1 && rc == 0) {
            rc = mx_record_open(c, MX_TABLE_DOMAIN_NAMES, key, value, &v, err);
            if (rc == 0) {
                rc = id_of_name(c, &t, v, key, &d, err);
            }
            if (rc == 0) {
                rc = cb(arg, &d);
            }
            if (rc == 0) {
                moved = mx_kv_next(&cursor, &key, &value, err);
            }
        }
        rc = rc == 0 && moved < 0 ? moved : rc;
        mx_kv_cursor_close(&cursor);
    }
    mx_kv_abort(&t);
    return rc;
}

int mx_catalog_shards(struct mx_catalog *c, uint32_t domain, uint32_t first, uint32_t n,
                      struct mx_shard_info *ret, struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    int rc = mx_kv_begin(c->kv, false, &t, err);

    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        uint8_t key[MX_CATALOG_KEY_MAX];
        size_t key_n = mx_key_u32_u32(domain, first + i, key);
        struct mx_span v;
        rc = mx_record_get(c, &t, MX_TABLE_SHARDS, key, key_n, &v, err);
        if (rc == MX_ENOTFOUND) {
            rc = mx_fail(err, MX_ENOTFOUND, "domain %u has no shard %u", domain, first + i);
        } else if (rc == 0 && !mx_shard_info_decode(v, &ret[i])) {
            rc = mx_record_damaged(c, MX_TABLE_SHARDS, mx_span_of(key, key_n), "it makes no sense",
                                   err);
        }
    }
    mx_kv_abort(&t);
    return rc;
}

int mx_catalog_dictionary(struct mx_catalog *c, uint32_t domain, void **ret, size_t *ret_n,
                          struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u32(domain, key);
    struct mx_span v = {NULL, 0};
    void *copy = NULL;
    int rc = mx_kv_begin(c->kv, false, &t, err);

    if (rc != 0) {
        return rc;
    }
    rc = mx_record_get(c, &t, MX_TABLE_DICTIONARIES, key, n, &v, err);
    if (rc == 0) {
        copy = malloc(v.n > 0 ? v.n : 1);
        if (copy == NULL) {
            rc = mx_fail(err, MX_ENOMEM, "out of memory for a dictionary of %zu bytes", v.n);
        } else {
            memcpy(copy, v.p, v.n);
        }
    } else if (rc == MX_ENOTFOUND) {
        rc = 0;
        v.n = 0;
    }
    mx_kv_abort(&t);
    if (rc == 0) {
        *ret = copy;
        *ret_n = v.n;
    }
    return rc;
}

int mx_catalog_has_shard(struct mx_catalog *c, uint64_t shard, struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u64(shard, key);
    struct mx_span v;
    int rc = mx_kv_begin(c->kv, false, &t, err);

    if (rc == 0) {
        rc = mx_record_get(c, &t, MX_TABLE_FILES, key, n, &v, err);
        rc = rc == MX_ENOTFOUND ? 0 : rc == 0 ? 1 : rc;
    }
    mx_kv_abort(&t);
    return rc;
}

/* ---- registering ---- */

int mx_domain_agree(const struct mx_domain *have, const struct mx_domain *d, struct mx_err *err)
{
    if (have->width != d->width) {
        return mx_fail(err, MX_EEXISTS, "domain '%s' has tokens of %u bytes, not %u", have->name,
                       have->width, d->width);
    }
    if (strcmp(have->tokenizer, d->tokenizer) != 0) {
        return mx_fail(err, MX_EEXISTS, "domain '%s' has tokens of '%s', not of '%s'", have->name,
                       have->tokenizer, d->tokenizer);
    }
    if (have->eod != d->eod) {
        return mx_fail(err, MX_EEXISTS,
                       "domain '%s' ends its documents with token %" PRId64 ", not %" PRId64
                       " (-1 is none)",
                       have->name, have->eod == UINT32_MAX ? -1 : (int64_t)have->eod,
                       d->eod == UINT32_MAX ? -1 : (int64_t)d->eod);
    }
    return 0;
}

static int create_domain(struct mx_catalog *c, struct mx_kv_txn *t, struct mx_domain *d,
                         const void *dictionary, size_t dictionary_bytes, struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX], id[4];
    uint64_t last = 0;
    int rc = mx_name_check(d->name, strlen(d->name), "domain", err);

    if (rc == 0) {
        rc = mx_meta_get(c, t, MX_META_LAST_DOMAIN, &last, err);
    }
    if (rc == 0 && last >= UINT32_MAX - 1) {
        rc = mx_fail(err, MX_EFULL, "no domain ids are left");
    }
    if (rc == 0) {
        d->id = (uint32_t)last + 1;
        d->shards = 0;
        d->tokens = d->documents = d->bytes = d->source_bytes = 0;
        d->created_ms = mx_wall_ms();
        rc = mx_meta_put(c, t, MX_META_LAST_DOMAIN, d->id, err);
    }
    if (rc == 0) {
        mx_store_u32(id, d->id);
        rc = mx_record_put(c, t, MX_TABLE_DOMAIN_NAMES, d->name, strlen(d->name), id, sizeof id,
                           true, err);
    }
    if (rc == 0 && dictionary_bytes > 0) {
        size_t n = mx_key_u32(d->id, key);
        rc = mx_record_put(c, t, MX_TABLE_DICTIONARIES, key, n, dictionary, dictionary_bytes, true,
                           err);
    }
    return rc;
}

/* The domain that *d means: the one with its id, the one with its name, or a new one. */
static int find_or_create(struct mx_catalog *c, struct mx_kv_txn *t, struct mx_domain *d,
                          const void *dictionary, size_t dictionary_bytes, struct mx_err *err)
{
    struct mx_domain have;
    int rc = d->id != 0 ? mx_domain_get(c, t, d->id, &have, err)
                        : get_by_name(c, t, d->name, &have, err);

    if (rc == MX_ENOTFOUND) {
        return d->id == 0
                   ? create_domain(c, t, d, dictionary, dictionary_bytes, err)
                   : mx_fail(err, MX_EGONE, "domain '%s' has been removed meanwhile", d->name);
    }
    if (rc == 0) {
        rc = mx_domain_agree(&have, d, err);
    }
    if (rc == 0) {
        *d = have;
    }
    return rc;
}

static int add_shard(struct mx_catalog *c, struct mx_kv_txn *t, struct mx_domain *d,
                     const struct mx_shard_info *i, struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX], place[8], info[MX_SHARD_INFO_BYTES];
    size_t n = mx_key_u64(i->id, key);
    int rc;

    if (i->width != d->width || i->id == 0) {
        return mx_fail(err, MX_EINVALID,
                       "shard %016" PRIx64 " has tokens of %u bytes, domain '%s' of %u", i->id,
                       i->width, d->name, d->width);
    }
    if (d->shards >= MX_SHARDS_MAX) {
        return mx_fail(err, MX_EFULL, "domain '%s' has %u shards, which is the most", d->name,
                       d->shards);
    }
    mx_store_u32(place, d->id);
    mx_store_u32(place + 4, d->shards);
    rc = mx_record_put(c, t, MX_TABLE_FILES, key, n, place, sizeof place, true, err);
    if (rc == MX_EEXISTS) {
        return mx_fail(err, MX_EEXISTS, "shard %016" PRIx64 " is registered already", i->id);
    }
    if (rc == 0) {
        n = mx_key_u32_u32(d->id, d->shards, key);
        mx_shard_info_encode(i, info);
        rc = mx_record_put(c, t, MX_TABLE_SHARDS, key, n, info, sizeof info, true, err);
    }
    d->shards++;
    d->tokens += i->tokens;
    d->documents += i->documents;
    d->bytes += i->bytes;
    d->source_bytes += i->source_bytes;
    return rc;
}

static int next_generation(struct mx_catalog *c, struct mx_kv_txn *t, struct mx_err *err)
{
    uint64_t g = 0;
    int rc = mx_meta_get(c, t, MX_META_GENERATION, &g, err);

    return rc != 0 ? rc : mx_meta_put(c, t, MX_META_GENERATION, g + 1, err);
}

int mx_catalog_register(struct mx_catalog *c, struct mx_domain *d, const void *dictionary,
                        size_t dictionary_bytes, const struct mx_shard_info *shards, uint32_t n,
                        struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX], record[MX_DOMAIN_BYTES_MAX];
    struct mx_domain next = *d;
    struct mx_kv_txn t = {0};
    int rc;

    if (n == 0 || dictionary_bytes > MX_DICTIONARY_MAX || (d->width != 2 && d->width != 4)) {
        return mx_fail(err, MX_EINVALID,
                       "domain '%s': %u shards, tokens of %u bytes or a dictionary of %zu bytes "
                       "can't be registered",
                       d->name, n, d->width, dictionary_bytes);
    }
    rc = mx_kv_begin(c->kv, true, &t, err);
    if (rc != 0) {
        return rc;
    }
    rc = find_or_create(c, &t, &next, dictionary, dictionary_bytes, err);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rc = add_shard(c, &t, &next, &shards[i], err);
    }
    if (rc == 0) {
        size_t bytes = mx_domain_encode(&next, record);
        size_t key_n = mx_key_u32(next.id, key);
        rc = mx_record_put(c, &t, MX_TABLE_DOMAINS, key, key_n, record, bytes, false, err);
    }
    if (rc == 0) {
        rc = next_generation(c, &t, err);
    }
    if (rc != 0) {
        mx_kv_abort(&t);
        return rc;
    }
    rc = mx_kv_commit(&t, err);
    if (rc == 0) {
        *d = next;
    }
    return rc;
}

/* ---- withdrawals ---- */

int mx_withdrawal_put(struct mx_catalog *c, struct mx_kv_txn *t, const struct mx_put *p,
                      struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    struct mx_kv_cursor cursor = {0};
    struct mx_span k = {NULL, 0}, v = {NULL, 0};
    struct mx_domain d;
    uint64_t next = 1;
    int moved, rc = mx_domain_get(c, t, p->run, &d, err);

    if (rc == 0) {
        rc = mx_kv_cursor_open(t, c->tables[MX_TABLE_WITHDRAWALS], &cursor, err);
    }
    if (rc != 0) {
        return rc;
    }
    moved = mx_kv_seek_last_at(&cursor, key, mx_key_u32_u32(p->run, UINT32_MAX, key), &k, &v, err);
    if (moved == 1 && k.n == 8 && memcmp(k.p, key, 4) == 0) {
        next = 1 + (((uint64_t)k.p[4] << 24) | (uint64_t)k.p[5] << 16 | (uint64_t)k.p[6] << 8 |
                    k.p[7]);
    }
    mx_kv_cursor_close(&cursor);
    if (moved < 0) {
        return moved;
    }
    if (p->key != next || p->key > UINT32_MAX || p->n > MX_ENTRY_MAX) {
        return mx_fail(err, MX_EEXISTS, "withdrawal %" PRIu64 " of domain '%s' can't be recorded: "
                       "the next is %" PRIu64, p->key, d.name, next);
    }
    rc = mx_record_put(c, t, MX_TABLE_WITHDRAWALS, key,
                       mx_key_u32_u32(p->run, (uint32_t)p->key, key), p->bytes, p->n, true, err);
    return rc != 0 ? rc : next_generation(c, t, err);
}

int mx_catalog_withdrawals(struct mx_catalog *c, uint32_t domain, uint32_t from,
                           int (*cb)(void *arg, uint32_t serial, struct mx_span bytes), void *arg,
                           struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    struct mx_record_walk w;
    struct mx_span v;
    uint32_t serial = from > 0 ? from : 1;
    int moved, rc = mx_walk_open(c, MX_TABLE_WITHDRAWALS, &w, err);

    if (rc != 0) {
        return rc;
    }
    moved = mx_kv_seek_first_at(&w.cursor, key, mx_key_u32_u32(domain, serial, key), &w.key,
                                &w.value, err);
    while (rc == 0 && moved == 1 && w.key.n == 8 && memcmp(w.key.p, key, 4) == 0) {
        (void)mx_key_u32_u32(domain, serial, key);
        if (memcmp(w.key.p, key, 8) != 0) {
            rc = mx_record_damaged(c, MX_TABLE_WITHDRAWALS, mx_span_of(key, 8),
                                   "it isn't there, but later ones are", err);
            break;
        }
        rc = mx_record_open(c, MX_TABLE_WITHDRAWALS, w.key, w.value, &v, err);
        if (rc == 0) {
            rc = cb(arg, serial++, v);
        }
        if (rc == 0) {
            moved = mx_kv_next(&w.cursor, &w.key, &w.value, err);
        }
    }
    mx_walk_close(&w);
    return rc == 0 && moved < 0 ? moved : rc;
}

/* ---- removing ---- */

struct removal {
    struct mx_catalog *c;
    struct mx_kv_txn *t;
    struct mx_domain d;
    struct mx_err *err;
    uint64_t *files;
    uint32_t n;
};

static int uses_cb(void *arg, const struct mx_run_view *r, struct mx_err *err)
{
    struct removal *m = arg;

    for (uint32_t i = 0; i < r->k; i++) {
        if (mx_load_u32(r->domains + (size_t)i * 8) == m->d.id) {
            return mx_fail(err, MX_EBUSY, "domain '%s' is used by run '%.*s'", m->d.name,
                           (int)r->name.n, (const char *)r->name.p);
        }
    }
    return 0;
}

static int shard_cb(void *arg, struct mx_span key, struct mx_span payload)
{
    struct removal *m = arg;
    uint8_t file[MX_CATALOG_KEY_MAX];
    struct mx_shard_info i;

    if (!mx_shard_info_decode(payload, &i) || m->n >= m->d.shards) {
        return mx_record_damaged(m->c, MX_TABLE_SHARDS, key, "it makes no sense", m->err);
    }
    m->files[m->n++] = i.id;
    return mx_kv_delete(m->t, m->c->tables[MX_TABLE_FILES], file, mx_key_u64(i.id, file), m->err);
}

static int remove_records(struct removal *m, struct mx_err *err)
{
    struct mx_catalog *c = m->c;
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u32(m->d.id, key);
    int rc = mx_records_remove(c, m->t, MX_TABLE_SHARDS, m->d.id, shard_cb, m, err);

    if (rc == 0) {
        rc = mx_records_remove(c, m->t, MX_TABLE_DICTIONARIES, m->d.id, NULL, NULL, err);
    }
    if (rc == 0) {
        rc = mx_records_remove(c, m->t, MX_TABLE_WITHDRAWALS, m->d.id, NULL, NULL, err);
    }
    if (rc == 0) {
        rc = mx_kv_delete(m->t, c->tables[MX_TABLE_DOMAINS], key, n, err);
    }
    if (rc == 0) {
        rc = mx_kv_delete(m->t, c->tables[MX_TABLE_DOMAIN_NAMES], m->d.name, strlen(m->d.name),
                          err);
    }
    return rc != 0 ? rc : next_generation(c, m->t, err);
}

int mx_catalog_domain_remove(struct mx_catalog *c, const char *name,
                             void (*cb)(void *arg, uint64_t shard), void *arg, struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    struct removal m = {.c = c, .t = &t, .err = err};
    int rc = mx_kv_begin(c->kv, true, &t, err);

    if (rc != 0) {
        return rc;
    }
    rc = get_by_name(c, &t, name, &m.d, err);
    if (rc == 0) {
        rc = mx_runs_walk(c, &t, uses_cb, &m, err);
    }
    if (rc == 0) {
        m.files = calloc(m.d.shards > 0 ? m.d.shards : 1, sizeof *m.files);
        rc = m.files == NULL ? mx_fail(err, MX_ENOMEM, "out of memory for %u shards", m.d.shards)
                             : remove_records(&m, err);
    }
    if (rc != 0) {
        mx_kv_abort(&t);
    } else {
        rc = mx_kv_commit(&t, err);
    }
    for (uint32_t i = 0; rc == 0 && cb != NULL && i < m.n; i++) {
        cb(arg, m.files[i]);
    }
    free(m.files);
    return rc;
}
