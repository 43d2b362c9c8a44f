/* kv.c - see kv.h. The only file that knows LMDB.
 *
 * No WRITEMAP anywhere: a stray write of ours must not reach the file. NOSYNC only in BUILD, where
 * nothing refers to the file until it has been synced and sealed. */
#include "store/kv.h"

#include <errno.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <string.h>

_Static_assert(MX_KV_MAIN == 1, "LMDB's main database has handle 1");

struct mx_kv {
    MDB_env *env;
    enum mx_kv_mode mode;
    char *path;
    atomic_bool failed; /* a commit did */
};

/* What an LMDB or system code is called here. */
static int translate(int rc)
{
    switch (rc) {
    case MDB_NOTFOUND:
    case ENOENT: return MX_ENOTFOUND;
    case MDB_KEYEXIST: return MX_EEXISTS;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return MX_EFULL;
    case MDB_READERS_FULL:
    case MDB_MAP_RESIZED:
    case EAGAIN:
    case EMFILE:
    case ENFILE:
    case MDB_PANIC: /* nothing is wrong with what is stored */
    case EBUSY: return MX_EBUSY;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID: return MX_EDAMAGED;
    case MDB_VERSION_MISMATCH: return MX_EVERSION;
    case ENOMEM: return MX_ENOMEM;
    case EACCES:
    case EPERM:
    case EROFS: return MX_EDENIED;
    default: return MX_EIO;
    }
}

static int kv_fail(const struct mx_kv *kv, int rc, const char *doing, struct mx_err *err)
{
    const char *hint = "";

    if (rc == MDB_MAP_FULL) {
        hint = " (its map is full)";
    } else if (rc == MDB_PANIC) {
        hint = " (a commit of this process failed: it must be restarted)";
    } else if (rc == MDB_MAP_RESIZED) {
        hint = " (another process made it larger than our map: restart this one)";
    }
    return mx_fail(err, translate(rc), "%s: cannot %s: %s%s", kv->path, doing, mdb_strerror(rc),
                   hint);
}

/* A sealed file is mapped to its last page and not beyond; address space is what a map costs. */
static int set_map(struct mx_kv *kv, uint64_t bytes)
{
    if (bytes > SIZE_MAX) {
        return ENOMEM;
    }
    return mdb_env_set_mapsize(kv->env, (size_t)bytes);
}

/* LMDB learns how keys of the main database compare only when that is opened by somebody. */
static int open_main(struct mx_kv *kv)
{
    MDB_txn *txn;
    MDB_dbi dbi;
    int rc = mdb_txn_begin(kv->env, NULL, kv->mode == MX_KV_SEALED ? MDB_RDONLY : 0, &txn);

    if (rc != 0) {
        return rc;
    }
    rc = mdb_dbi_open(txn, NULL, 0, &dbi);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    MX_REQUIRE(dbi == MX_KV_MAIN);
    return mdb_txn_commit(txn);
}

static int open_env(struct mx_kv *kv, const struct mx_kv_options *o, uint64_t map_bytes)
{
    unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD;
    int rc = mdb_env_create(&kv->env);

    if (rc != 0) {
        kv->env = NULL;
        return rc;
    }
    switch (o->mode) {
    case MX_KV_SEALED: flags |= MDB_RDONLY | MDB_NOLOCK; break;
    case MX_KV_BUILD: flags |= MDB_NOLOCK | MDB_NOSYNC; break;
    case MX_KV_SHARED: break;
    }
    rc = set_map(kv, o->mode == MX_KV_SEALED ? 4096 : map_bytes);
    if (rc == 0 && o->dbs > 0) {
        rc = mdb_env_set_maxdbs(kv->env, o->dbs);
    }
    if (rc == 0 && o->readers > 0) {
        rc = mdb_env_set_maxreaders(kv->env, o->readers);
    }
    if (rc == 0) {
        rc = mdb_env_open(kv->env, kv->path, flags, 0640);
    }
    if (rc == 0 && o->dbs == 0) {
        rc = open_main(kv);
    }
    if (rc != 0) {
        /* LMDB demands a close after a failed open. */
        mdb_env_close(kv->env);
        kv->env = NULL;
    }
    return rc;
}

int mx_kv_open(const char *path, const struct mx_kv_options *o, struct mx_kv **ret,
               struct mx_err *err)
{
    struct mx_kv *kv = calloc(1, sizeof *kv);
    uint64_t map_bytes = o->map_bytes;
    int rc;

    if (kv == NULL || (kv->path = strdup(path)) == NULL) {
        free(kv);
        return mx_fail(err, MX_ENOMEM, "%s: cannot open: out of memory", path);
    }
    kv->mode = o->mode;
    rc = open_env(kv, o, map_bytes);
    while (rc == ENOMEM && o->mode == MX_KV_SHARED && map_bytes / 2 >= o->map_bytes_min) {
        map_bytes /= 2;
        rc = open_env(kv, o, map_bytes);
    }
    if (rc == ENOMEM) {
        rc = mx_fail(err, MX_ENOMEM,
                     "%s: cannot map it: no room in this process's address space (see ulimit -v)",
                     path);
    } else if (rc != 0) {
        rc = kv_fail(kv, rc, "open it", err);
    }
    if (rc != 0) {
        free(kv->path);
        free(kv);
        return rc;
    }
    *ret = kv;
    return 0;
}

void mx_kv_close(struct mx_kv *kv)
{
    if (kv == NULL) {
        return;
    }
    mdb_env_close(kv->env);
    free(kv->path);
    free(kv);
}

const char *mx_kv_path(const struct mx_kv *kv)
{
    return kv->path;
}

void mx_kv_reap_readers(struct mx_kv *kv)
{
    int dead = 0;

    /* A failure here means only that dead readers keep their slots for a while longer. */
    (void)mdb_reader_check(kv->env, &dead);
}

void mx_kv_usage(struct mx_kv *kv, uint64_t *ret_used, uint64_t *ret_size)
{
    MDB_envinfo info;
    MDB_stat stat;

    MX_REQUIRE(mdb_env_info(kv->env, &info) == 0 && mdb_env_stat(kv->env, &stat) == 0);
    *ret_used = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
    *ret_size = info.me_mapsize;
}

int mx_kv_grow(struct mx_kv *kv, uint64_t map_bytes, struct mx_err *err)
{
    uint64_t used, size;
    int rc;

    mx_kv_usage(kv, &used, &size);
    if (size >= map_bytes) {
        return 0;
    }
    rc = set_map(kv, map_bytes);
    return rc == 0 ? 0 : kv_fail(kv, rc, "enlarge its map", err);
}

int mx_kv_begin(struct mx_kv *kv, bool write, struct mx_kv_txn *ret, struct mx_err *err)
{
    unsigned flags = write ? 0 : MDB_RDONLY;
    int rc = mdb_txn_begin(kv->env, NULL, flags, &ret->txn);

    if (rc == MDB_READERS_FULL) {
        mx_kv_reap_readers(kv);
        rc = mdb_txn_begin(kv->env, NULL, flags, &ret->txn);
    }
    ret->kv = kv;
    if (rc != 0) {
        ret->txn = NULL;
        return kv_fail(kv, rc, write ? "begin writing" : "begin reading", err);
    }
    return 0;
}

/* After a commit that failed LMDB would go on. But when a sync has failed nobody knows what is on
 * the disk, and the next one that succeeds says nothing of it. */
int mx_kv_commit(struct mx_kv_txn *t, struct mx_err *err)
{
    int rc = MDB_PANIC;

    if (atomic_load(&t->kv->failed)) {
        mdb_txn_abort(t->txn);
    } else {
        rc = mdb_txn_commit(t->txn);
    }
    t->txn = NULL;
    if (rc != 0 && rc != MDB_MAP_FULL) {
        atomic_store(&t->kv->failed, true);
    }
    return rc == 0 ? 0 : kv_fail(t->kv, rc, "commit", err);
}

void mx_kv_abort(struct mx_kv_txn *t)
{
    if (t->txn != NULL) {
        mdb_txn_abort(t->txn);
        t->txn = NULL;
    }
}

int mx_kv_db(struct mx_kv_txn *t, const char *name, bool create, unsigned *ret,
             struct mx_err *err)
{
    MDB_dbi dbi;
    int rc = mdb_dbi_open(t->txn, name, create ? MDB_CREATE : 0, &dbi);

    if (rc != 0) {
        char doing[96];
        (void)snprintf(doing, sizeof doing, "open its table '%s'", name);
        return kv_fail(t->kv, rc, doing, err);
    }
    *ret = dbi;
    return 0;
}

static MDB_val val(const void *p, size_t n)
{
    /* LMDB's struct has no const; it doesn't write through keys and values that it is given. */
    union {
        const void *in;
        void *out;
    } u = {.in = p};
    return (MDB_val){.mv_size = n, .mv_data = u.out};
}

static struct mx_span span(const MDB_val *v)
{
    return (struct mx_span){.p = v->mv_data, .n = v->mv_size};
}

int mx_kv_get(struct mx_kv_txn *t, unsigned db, const void *key, size_t key_n, struct mx_span *ret,
              struct mx_err *err)
{
    MDB_val k = val(key, key_n), v;
    int rc = mdb_get(t->txn, db, &k, &v);

    if (rc != 0) {
        return kv_fail(t->kv, rc, "get a record", err);
    }
    *ret = span(&v);
    return 0;
}

int mx_kv_put(struct mx_kv_txn *t, unsigned db, const void *key, size_t key_n, const void *value,
              size_t n, bool fresh, struct mx_err *err)
{
    MDB_val k = val(key, key_n), v = val(value, n);
    int rc = mdb_put(t->txn, db, &k, &v, fresh ? MDB_NOOVERWRITE : 0);

    return rc == 0 ? 0 : kv_fail(t->kv, rc, "put a record", err);
}

int mx_kv_delete(struct mx_kv_txn *t, unsigned db, const void *key, size_t key_n,
                 struct mx_err *err)
{
    MDB_val k = val(key, key_n);
    int rc = mdb_del(t->txn, db, &k, NULL);

    return rc == 0 ? 0 : kv_fail(t->kv, rc, "remove a record", err);
}

int mx_kv_cursor_open(struct mx_kv_txn *t, unsigned db, struct mx_kv_cursor *ret,
                      struct mx_err *err)
{
    int rc = mdb_cursor_open(t->txn, db, &ret->cursor);

    ret->kv = t->kv;
    return rc == 0 ? 0 : kv_fail(t->kv, rc, "open a cursor", err);
}

void mx_kv_cursor_close(struct mx_kv_cursor *c)
{
    mdb_cursor_close(c->cursor);
    c->cursor = NULL;
}

/* The end of each move: 1, 0 for none, or a code. */
static int moved(const struct mx_kv_cursor *c, int rc, const MDB_val *k, const MDB_val *v,
                 struct mx_span *ret_key, struct mx_span *ret, struct mx_err *err)
{
    if (rc == MDB_NOTFOUND) {
        return 0;
    }
    if (rc != 0) {
        return kv_fail(c->kv, rc, "walk its records", err);
    }
    *ret_key = span(k);
    *ret = span(v);
    return 1;
}

int mx_kv_seek_first_at(struct mx_kv_cursor *c, const void *key, size_t key_n,
                        struct mx_span *ret_key, struct mx_span *ret, struct mx_err *err)
{
    MDB_val k = val(key, key_n), v = {0, NULL};
    int rc = mdb_cursor_get(c->cursor, &k, &v, MDB_SET_RANGE);

    return moved(c, rc, &k, &v, ret_key, ret, err);
}

int mx_kv_seek_last_at(struct mx_kv_cursor *c, const void *key, size_t key_n,
                       struct mx_span *ret_key, struct mx_span *ret, struct mx_err *err)
{
    MDB_val k = val(key, key_n), v = {0, NULL};
    int rc = mdb_cursor_get(c->cursor, &k, &v, MDB_SET_RANGE);

    if (rc == 0 && k.mv_size == key_n && memcmp(k.mv_data, key, key_n) == 0) {
        return moved(c, rc, &k, &v, ret_key, ret, err);
    }
    if (rc == 0) {
        rc = mdb_cursor_get(c->cursor, &k, &v, MDB_PREV);
    } else if (rc == MDB_NOTFOUND) {
        rc = mdb_cursor_get(c->cursor, &k, &v, MDB_LAST);
    }
    return moved(c, rc, &k, &v, ret_key, ret, err);
}

int mx_kv_next(struct mx_kv_cursor *c, struct mx_span *ret_key, struct mx_span *ret,
               struct mx_err *err)
{
    MDB_val k = {0, NULL}, v = {0, NULL};
    int rc = mdb_cursor_get(c->cursor, &k, &v, MDB_NEXT);

    return moved(c, rc, &k, &v, ret_key, ret, err);
}

int mx_kv_cursor_delete(struct mx_kv_cursor *c, struct mx_err *err)
{
    int rc = mdb_cursor_del(c->cursor, 0);

    return rc == 0 ? 0 : kv_fail(c->kv, rc, "remove a record", err);
}
