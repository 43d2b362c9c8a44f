/* catalog.c - opens the catalog and keeps its records sealed (catalog.h, catalog_impl.h).
 *
 * Knows tables, checksums, the format's version and the meta table; what the other tables mean is
 * the business of catalog_domains.c and catalog_runs.c. */
#include "store/catalog_impl.h"
#include "store/files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define FIRST_MAP_BYTES (1u << 20) /* many times what the tables and the first records need */

struct mx_span mx_span_of(const void *p, size_t n)
{
    return (struct mx_span){.p = p, .n = n};
}

/* ---- records ---- */

int mx_record_damaged(struct mx_catalog *c, enum mx_table table, struct mx_span key,
                      const char *why, struct mx_err *err)
{
    char text[128];

    mx_key_text(table, key, text, sizeof text);
    return mx_fail(err, MX_EDAMAGED, "%s: record %s of table '%s' is damaged: %s",
                   mx_kv_path(c->kv), text, mx_table_name(table), why);
}

int mx_record_open(struct mx_catalog *c, enum mx_table table, struct mx_span key,
                   struct mx_span value, struct mx_span *ret, struct mx_err *err)
{
    if (!mx_unseal(table, key, value, ret)) {
        return mx_record_damaged(c, table, key, "its checksum is wrong", err);
    }
    return 0;
}

int mx_record_get(struct mx_catalog *c, struct mx_kv_txn *t, enum mx_table table, const void *key,
                  size_t key_n, struct mx_span *ret, struct mx_err *err)
{
    struct mx_span value;
    int rc = mx_kv_get(t, c->tables[table], key, key_n, &value, err);

    return rc != 0 ? rc : mx_record_open(c, table, mx_span_of(key, key_n), value, ret, err);
}

int mx_record_put(struct mx_catalog *c, struct mx_kv_txn *t, enum mx_table table, const void *key,
                  size_t key_n, const void *payload, size_t n, bool fresh, struct mx_err *err)
{
    size_t bytes = MX_SEAL_BYTES + n;

    if (bytes > c->scratch_room) {
        uint8_t *p = realloc(c->scratch, bytes);
        if (p == NULL) {
            return mx_fail(err, MX_ENOMEM, "out of memory for a record of %zu bytes", bytes);
        }
        c->scratch = p;
        c->scratch_room = bytes;
    }
    mx_store_u64(c->scratch, mx_seal(table, mx_span_of(key, key_n), mx_span_of(payload, n)));
    if (n > 0) {
        memcpy(c->scratch + MX_SEAL_BYTES, payload, n);
    }
    return mx_kv_put(t, c->tables[table], key, key_n, c->scratch, bytes, fresh, err);
}

int mx_records_remove(struct mx_catalog *c, struct mx_kv_txn *t, enum mx_table table,
                      uint32_t first,
                      int (*cb)(void *arg, struct mx_span key, struct mx_span payload), void *arg,
                      struct mx_err *err)
{
    uint8_t prefix[MX_CATALOG_KEY_MAX];
    struct mx_kv_cursor cursor = {0};
    struct mx_span key = {NULL, 0}, value = {NULL, 0}, payload;
    size_t n = mx_key_u32(first, prefix);
    int rc = mx_kv_cursor_open(t, c->tables[table], &cursor, err);

    if (rc != 0) {
        return rc;
    }
    rc = mx_kv_seek_first_at(&cursor, prefix, n, &key, &value, err);
    while (rc == 1 && key.n >= n && memcmp(key.p, prefix, n) == 0) {
        rc = cb == NULL ? 0 : mx_record_open(c, table, key, value, &payload, err);
        if (rc == 0 && cb != NULL) {
            rc = cb(arg, key, payload);
        }
        if (rc == 0) {
            rc = mx_kv_cursor_delete(&cursor, err);
        }
        if (rc == 0) {
            rc = mx_kv_next(&cursor, &key, &value, err);
        }
    }
    mx_kv_cursor_close(&cursor);
    return rc == 1 ? 0 : rc;
}

int mx_walk_open(struct mx_catalog *c, enum mx_table table, struct mx_record_walk *ret,
                 struct mx_err *err)
{
    int rc;

    *ret = (struct mx_record_walk){0};
    rc = mx_kv_begin(c->kv, false, &ret->txn, err);
    if (rc == 0) {
        rc = mx_kv_cursor_open(&ret->txn, c->tables[table], &ret->cursor, err);
        if (rc != 0) {
            mx_kv_abort(&ret->txn);
        }
    }
    return rc;
}

void mx_walk_close(struct mx_record_walk *w)
{
    mx_kv_cursor_close(&w->cursor);
    mx_kv_abort(&w->txn);
}

int mx_record_last(struct mx_kv_cursor *cursor, uint32_t run, uint64_t number, uint64_t *ret,
                   struct mx_span *ret_key, struct mx_span *ret_value, struct mx_err *err)
{
    uint8_t key[MX_CATALOG_KEY_MAX];
    size_t n = mx_key_u32_u64(run, number, key);
    int moved = mx_kv_seek_last_at(cursor, key, n, ret_key, ret_value, err);

    return moved == 1 && !mx_key_parse_u32_u64(*ret_key, run, ret) ? 0 : moved;
}

int mx_meta_get(struct mx_catalog *c, struct mx_kv_txn *t, const char *name, uint64_t *ret,
                struct mx_err *err)
{
    struct mx_span v;
    int rc = mx_record_get(c, t, MX_TABLE_META, name, strlen(name), &v, err);

    if (rc == 0 && v.n != 8) {
        rc = mx_record_damaged(c, MX_TABLE_META, mx_span_of(name, strlen(name)),
                               "its length is wrong", err);
    }
    if (rc == 0) {
        *ret = mx_load_u64(v.p);
    }
    return rc;
}

int mx_meta_put(struct mx_catalog *c, struct mx_kv_txn *t, const char *name, uint64_t v,
                struct mx_err *err)
{
    uint8_t b[8];

    mx_store_u64(b, v);
    return mx_record_put(c, t, MX_TABLE_META, name, strlen(name), b, sizeof b, false, err);
}

/* ---- opening ---- */

static int check_format(struct mx_catalog *c, struct mx_kv_txn *t, struct mx_err *err)
{
    struct mx_store_format f;
    struct mx_span v;
    int rc = mx_record_get(c, t, MX_TABLE_META, MX_META_FORMAT, strlen(MX_META_FORMAT), &v, err);

    if (rc != 0) {
        return rc;
    }
    if (!mx_store_format_decode(v, &f)) {
        return mx_record_damaged(c, MX_TABLE_META,
                                 mx_span_of(MX_META_FORMAT, strlen(MX_META_FORMAT)),
                                 "its length is wrong", err);
    }
    if (f.version < MX_CATALOG_FORMAT) {
        return mx_fail(err, MX_EVERSION,
                       "%s: made by an older mixd (store format %u; this one writes %u): ingest "
                       "again into a new folder", mx_kv_path(c->kv), f.version, MX_CATALOG_FORMAT);
    }
    if (f.version > MX_CATALOG_FORMAT) {
        return mx_fail(err, MX_EVERSION,
                       "%s: made by a newer mixd (store format %u, this one knows %u): use that "
                       "one", mx_kv_path(c->kv), f.version, MX_CATALOG_FORMAT);
    }
    c->store_id = f.store_id;
    return 0;
}

/* Opens every table, making them if `create`; the format is checked before any other is touched. */
static int open_tables(struct mx_catalog *c, struct mx_kv_txn *t, bool create, struct mx_err *err)
{
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < MX_TABLE_COUNT; i++) {
        rc = mx_kv_db(t, mx_table_name((enum mx_table)i), create, &c->tables[i], err);
        if (rc == 0 && i == MX_TABLE_META && !create) {
            rc = check_format(c, t, err);
        }
    }
    return rc;
}

static int write_first(struct mx_catalog *c, struct mx_kv_txn *t, struct mx_err *err)
{
    struct mx_store_format f = {.version = MX_CATALOG_FORMAT, .created_ms = mx_wall_ms()};
    uint8_t b[MX_FORMAT_BYTES];
    int rc = mx_random_id(&f.store_id, err);

    if (rc != 0) {
        return rc;
    }
    mx_store_format_encode(&f, b);
    rc = mx_record_put(c, t, MX_TABLE_META, MX_META_FORMAT, strlen(MX_META_FORMAT), b, sizeof b,
                       true, err);
    if (rc == 0) {
        rc = mx_meta_put(c, t, MX_META_GENERATION, 0, err);
    }
    if (rc == 0) {
        rc = mx_meta_put(c, t, MX_META_LAST_DOMAIN, 0, err);
    }
    if (rc == 0) {
        rc = mx_meta_put(c, t, MX_META_LAST_RUN, 0, err);
    }
    c->store_id = f.store_id;
    return rc;
}

/* Makes a whole catalog of one commit in a file that nobody knows. */
static int build(const char *path, struct mx_err *err)
{
    struct mx_kv_options o = {.mode = MX_KV_BUILD, .map_bytes = FIRST_MAP_BYTES,
                              .dbs = MX_TABLE_COUNT};
    struct mx_catalog c = {0};
    struct mx_kv_txn t = {0};
    int rc = mx_kv_open(path, &o, &c.kv, err);

    if (rc == 0) {
        rc = mx_kv_begin(c.kv, true, &t, err);
    }
    if (rc == 0) {
        rc = open_tables(&c, &t, true, err);
    }
    if (rc == 0) {
        rc = write_first(&c, &t, err);
    }
    if (rc == 0) {
        rc = mx_kv_commit(&t, err);
    }
    mx_kv_abort(&t);
    mx_kv_close(c.kv);
    free(c.scratch);
    return rc == 0 ? mx_file_sync(path, err) : rc;
}

static int open_env(const char *path, struct mx_catalog *c, struct mx_err *err)
{
    struct mx_kv_options o = {
        .mode = MX_KV_SHARED,
        .map_bytes = MX_CATALOG_MAP_BYTES,
        .map_bytes_min = MX_CATALOG_MAP_BYTES_MIN,
        .dbs = MX_TABLE_COUNT,
        .readers = MX_CATALOG_READERS,
    };
    struct mx_kv_txn t = {0};
    int rc = mx_kv_open(path, &o, &c->kv, err);

    if (rc != 0) {
        return rc;
    }
    mx_kv_reap_readers(c->kv);
    rc = mx_kv_begin(c->kv, false, &t, err);
    if (rc != 0) {
        return rc;
    }
    rc = open_tables(c, &t, false, err);
    if (rc == 0) {
        return mx_kv_commit(&t, err);
    }
    mx_kv_abort(&t);
    return rc == MX_ENOTFOUND
               ? mx_fail(err, rc, "%s: is no store: its catalog is empty", path) : rc;
}

/* The catalog gets its name when all of it is on the disk: a full disk or a crash leaves a whole
 * one or none. */
static int make_catalog(const char *path, struct mx_err *err)
{
    char tmp[MX_PATH_MAX + 8];
    int rc;

    (void)snprintf(tmp, sizeof tmp, "%s.tmp", path);
    (void)unlink(tmp); /* of one that died */
    rc = build(tmp, err);
    if (rc == 0 && rename(tmp, path) != 0) {
        rc = mx_fail(err, mx_errno_code(errno), "%s: cannot rename: %s", tmp, strerror(errno));
    }
    if (rc != 0) {
        (void)unlink(tmp);
    }
    return rc;
}

/* The folders and the catalog, unless they are there. Two at a time: the second waits. */
static int make_store(const char *dir, const char *path, struct mx_err *err)
{
    char shards[MX_PATH_MAX + 1];
    int rc = mx_dir_make(dir, err), fd;

    if (rc == 0 && snprintf(shards, sizeof shards, "%s/shards", dir) >= (int)sizeof shards) {
        rc = mx_fail(err, MX_EINVALID, "%s: this path is too long", dir);
    }
    if (rc == 0) {
        rc = mx_dir_make(shards, err);
    }
    if (rc != 0 || access(path, F_OK) == 0) {
        return rc;
    }
    fd = open(shards, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        rc = mx_fail(err, mx_errno_code(errno), "%s: cannot lock: %s", shards, strerror(errno));
    } else if (access(path, F_OK) != 0) {
        rc = make_catalog(path, err);
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

/* Makes the names durable. Each time, since whoever made them may have died before. */
static int sync_names(const char *dir, struct mx_err *err)
{
    char parent[MX_PATH_MAX + 8];
    int rc = mx_dir_sync(dir, err);

    if (rc == 0) {
        (void)snprintf(parent, sizeof parent, "%s/..", dir);
        rc = mx_dir_sync(parent, err);
    }
    return rc == MX_EDENIED ? 0 : rc; /* a folder that isn't ours to read isn't ours to sync */
}

int mx_catalog_open(const char *dir, bool create, struct mx_catalog **ret, struct mx_err *err)
{
    char path[MX_PATH_MAX + 1];
    struct mx_catalog *c;
    int rc;

    if (snprintf(path, sizeof path, "%s/catalog", dir) >= (int)sizeof path) {
        return mx_fail(err, MX_EINVALID, "%s: this path is too long", dir);
    }
    if (!create && access(path, F_OK) != 0) {
        return mx_fail(err, MX_ENOTFOUND, "%s: there is no store: no file '%s'", dir, path);
    }
    rc = create ? make_store(dir, path, err) : 0;
    if (rc == 0 && create) {
        rc = sync_names(dir, err);
    }
    if (rc != 0) {
        return rc;
    }
    c = calloc(1, sizeof *c);
    if (c == NULL) {
        return mx_fail(err, MX_ENOMEM, "%s: out of memory", dir);
    }
    c->journal.ops = &mx_catalog_journal_ops;
    (void)pthread_mutex_init(&c->watch_lock, NULL);
    rc = open_env(path, c, err);
    if (rc != 0) {
        mx_catalog_close(c);
        return rc;
    }
    *ret = c;
    return 0;
}

void mx_catalog_close(struct mx_catalog *c)
{
    if (c != NULL) {
        mx_kv_close(c->kv);
        (void)pthread_mutex_destroy(&c->watch_lock);
        free(c->scratch);
        free(c);
    }
}

uint64_t mx_catalog_store_id(const struct mx_catalog *c)
{
    return c->store_id;
}

int mx_catalog_generation(struct mx_catalog *c, uint64_t *ret, struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    int rc = mx_kv_begin(c->kv, false, &t, err);

    if (rc == 0) {
        rc = mx_meta_get(c, &t, MX_META_GENERATION, ret, err);
    }
    mx_kv_abort(&t);
    return rc;
}

int mx_catalog_usage(struct mx_catalog *c, uint64_t *ret_used, uint64_t *ret_size,
                     struct mx_err *err)
{
    (void)err; /* asking LMDB about an open environment can't fail */
    mx_kv_usage(c->kv, ret_used, ret_size);
    return 0;
}

/* ---- the daemon's lock ---- */

int mx_store_lock(const char *dir, int *ret_fd, struct mx_err *err)
{
    char path[MX_PATH_MAX + 1], pid[32] = "";
    ssize_t n;
    int fd;

    if (snprintf(path, sizeof path, "%s/lock", dir) >= (int)sizeof path) {
        return mx_fail(err, MX_EINVALID, "%s: this path is too long", dir);
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        return mx_fail(err, mx_errno_code(errno), "%s: cannot open: %s", path, strerror(errno));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int number = errno;
        n = read(fd, pid, sizeof pid - 1);
        pid[n > 0 ? n : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        close(fd);
        if (number != EWOULDBLOCK) {
            return mx_fail(err, mx_errno_code(number), "%s: cannot lock: %s", path,
                           strerror(number));
        }
        return mx_fail(err, MX_EBUSY, "%s: a daemon has this store already: process %s", dir,
                       pid[0] != '\0' ? pid : "unknown");
    }
    n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n) {
        int rc = mx_fail(err, mx_errno_code(errno), "%s: cannot write: %s", path, strerror(errno));
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}
