/* shardset.c - see shardset.h.
 *
 * An open shard in use is pinned. Unpinned ones stay open, in order of use, until another shard
 * needs the place. If every open shard is pinned, one more than open_max is opened rather than a
 * thread made to wait for others that may be waiting for it; it is closed when it is put back.
 * Opening and closing happen without the lock, under an entry in the table that makes other threads
 * wait for that shard alone; so a file is never open twice. */
#include "store/shardset.h"

#include "store/blockcache.h"
#include "store/files.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define BUCKETS 1024u

enum state { OPENING, OPEN, CLOSING };

struct entry {
    struct entry *chain;
    struct entry *newer, *older; /* while unpinned and OPEN */
    uint64_t id;
    uint32_t pins;
    enum state state;
    struct mx_shard *shard;
};

struct mx_shardset {
    char *dir;
    struct mx_blockcache *cache;
    size_t cache_bytes_max;
    atomic_uint_least64_t raw_reads, damaged;
    pthread_mutex_t lock;
    pthread_cond_t settled; /* some entry is no longer OPENING or CLOSING */
    uint32_t open, open_max; /* open counts OPENING ones too */
    struct entry *newest, *oldest;
    struct entry *table[BUCKETS];
};

int mx_shardset_new(const char *dir, uint32_t open_max, size_t cache_bytes,
                    struct mx_shardset **ret, struct mx_err *err)
{
    struct mx_shardset *s;
    int rc;

    if (open_max == 0) {
        return mx_fail(err, MX_EINVALID, "at least one shard must be allowed to be open");
    }
    s = calloc(1, sizeof *s);
    if (s == NULL || (s->dir = strdup(dir)) == NULL) {
        free(s);
        return mx_fail(err, MX_ENOMEM, "out of memory for the set of shards");
    }
    rc = mx_blockcache_new(cache_bytes, &s->cache, err);
    if (rc != 0) {
        free(s->dir);
        free(s);
        return rc;
    }
    s->cache_bytes_max = cache_bytes;
    s->open_max = open_max;
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->settled, NULL);
    *ret = s;
    return 0;
}

static struct entry **bucket(struct mx_shardset *s, uint64_t id)
{
    return &s->table[(id * 0x9E3779B97F4A7C15u) >> 54]; /* the top ten bits */
}

static struct entry *look_up(struct mx_shardset *s, uint64_t id)
{
    struct entry *e = *bucket(s, id);

    while (e != NULL && e->id != id) {
        e = e->chain;
    }
    return e;
}

static void lru_remove(struct mx_shardset *s, struct entry *e)
{
    *(e->newer != NULL ? &e->newer->older : &s->newest) = e->older;
    *(e->older != NULL ? &e->older->newer : &s->oldest) = e->newer;
}

static void lru_add(struct mx_shardset *s, struct entry *e)
{
    e->newer = NULL;
    e->older = s->newest;
    *(s->newest != NULL ? &s->newest->newer : &s->oldest) = e;
    s->newest = e;
}

/* Under the lock: the entry leaves the table and whoever waits for it looks again. */
static void forget(struct mx_shardset *s, struct entry *e)
{
    struct entry **at = bucket(s, e->id);

    while (*at != e) {
        at = &(*at)->chain;
    }
    *at = e->chain;
    s->open--;
    free(e);
    (void)pthread_cond_broadcast(&s->settled);
}

/* Under the lock, which is let go while files are closed. */
static void shrink(struct mx_shardset *s)
{
    while (s->open > s->open_max && s->oldest != NULL) {
        struct entry *e = s->oldest;
        lru_remove(s, e);
        e->state = CLOSING;
        (void)pthread_mutex_unlock(&s->lock);
        mx_shard_close(e->shard);
        (void)pthread_mutex_lock(&s->lock);
        forget(s, e);
    }
}

void mx_shardset_free(struct mx_shardset *s)
{
    if (s == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&s->lock);
    s->open_max = 0;
    shrink(s);
    MX_REQUIRE(s->open == 0);
    (void)pthread_mutex_unlock(&s->lock);
    mx_blockcache_free(s->cache);
    (void)pthread_cond_destroy(&s->settled);
    (void)pthread_mutex_destroy(&s->lock);
    free(s->dir);
    free(s);
}

/* Without the lock. */
static int open_shard(struct mx_shardset *s, uint64_t id, struct mx_shard **ret,
                      struct mx_err *err)
{
    char *path = mx_store_path(s->dir, id, ".mxs");
    struct mx_shard *shard = NULL;
    int rc;

    if (path == NULL) {
        return mx_fail(err, MX_ENOMEM, "out of memory");
    }
    rc = mx_shard_open(path, &shard, err);
    if (rc == 0 && mx_shard_get_info(shard)->id != id) {
        rc = mx_fail(err, MX_EDAMAGED, "%s: holds shard %016" PRIx64, path,
                     mx_shard_get_info(shard)->id);
        mx_shard_close(shard);
    }
    free(path);
    if (rc == 0) {
        *ret = shard;
    }
    return rc;
}

/* Under the lock: pins the shard's entry if it is open, waiting for whoever opens or closes it. */
static struct entry *pin(struct mx_shardset *s, uint64_t id)
{
    struct entry *e;

    while ((e = look_up(s, id)) != NULL && e->state != OPEN) {
        (void)pthread_cond_wait(&s->settled, &s->lock);
    }
    if (e != NULL && e->pins++ == 0) {
        lru_remove(s, e);
    }
    return e;
}

static int get_entry(struct mx_shardset *s, uint64_t id, struct entry **ret, struct mx_err *err)
{
    struct entry *e;
    int rc;

    (void)pthread_mutex_lock(&s->lock);
    e = pin(s, id);
    if (e != NULL) {
        (void)pthread_mutex_unlock(&s->lock);
        *ret = e;
        return 0;
    }
    e = malloc(sizeof *e);
    if (e == NULL) {
        (void)pthread_mutex_unlock(&s->lock);
        return mx_fail(err, MX_ENOMEM, "out of memory for an open shard");
    }
    *e = (struct entry){.chain = *bucket(s, id), .id = id, .pins = 1, .state = OPENING};
    *bucket(s, id) = e;
    s->open++;
    shrink(s);
    (void)pthread_mutex_unlock(&s->lock);

    rc = open_shard(s, id, &e->shard, err);

    (void)pthread_mutex_lock(&s->lock);
    if (rc == 0) {
        e->state = OPEN;
        (void)pthread_cond_broadcast(&s->settled);
    } else {
        forget(s, e);
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (rc == MX_EDAMAGED) {
        atomic_fetch_add_explicit(&s->damaged, 1, memory_order_relaxed);
    }
    if (rc == 0) {
        *ret = e;
    }
    return rc;
}

static void put_entry(struct mx_shardset *s, struct entry *e)
{
    (void)pthread_mutex_lock(&s->lock);
    MX_REQUIRE(e->pins > 0);
    if (--e->pins == 0) {
        lru_add(s, e);
        shrink(s);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

int mx_shardset_get(struct mx_shardset *s, uint64_t id, const struct mx_shard **ret,
                    struct mx_err *err)
{
    struct entry *e;
    int rc = get_entry(s, id, &e, err);

    if (rc == 0) {
        *ret = e->shard;
    }
    return rc;
}

/* Ends a call on an entry. */
static int done(struct mx_shardset *s, struct entry *e, int rc)
{
    put_entry(s, e);
    if (rc == MX_EDAMAGED) {
        atomic_fetch_add_explicit(&s->damaged, 1, memory_order_relaxed);
    }
    return rc;
}

int mx_shardset_done(struct mx_shardset *s, const struct mx_shard *shard, int rc)
{
    struct entry *e;

    (void)pthread_mutex_lock(&s->lock);
    e = look_up(s, mx_shard_get_info(shard)->id);
    (void)pthread_mutex_unlock(&s->lock);
    MX_REQUIRE(e != NULL && e->shard == shard);
    return done(s, e, rc);
}

void mx_shardset_put(struct mx_shardset *s, const struct mx_shard *shard)
{
    (void)mx_shardset_done(s, shard, 0);
}

/* ---- reading ---- */

static void copy_cached(struct mx_shardset *s, struct mx_cached *b, const struct mx_shard_info *i,
                        uint32_t from, uint32_t n, uint32_t width, uint8_t *dst)
{
    mx_tokens_copy(dst, width, mx_cached_bytes(b) + (size_t)from * i->width, i->width, n);
    mx_blockcache_unpin(s->cache, b);
}

/* Tokens [from, from + n) of one block. */
static int read_part(struct mx_shardset *s, const struct mx_shard *shard, struct mx_kv_txn *t,
                     uint32_t block, uint32_t from, uint32_t n, uint32_t width, uint8_t *dst,
                     struct mx_err *err)
{
    const struct mx_shard_info *i = mx_shard_get_info(shard);
    struct mx_cached *b = NULL;
    bool packed = false;
    int rc;

    if (i->level != MX_LEVEL_RAW) {
        b = mx_blockcache_find(s->cache, i->id, block);
    }
    if (b != NULL) {
        copy_cached(s, b, i, from, n, width, dst);
        return 0;
    }
    /* A compressed shard keeps blocks raw that didn't shrink: only the block itself knows. */
    rc = mx_shard_copy_raw(shard, t, block, from, n, width, dst, &packed, err);
    if (rc != 0) {
        return rc;
    }
    if (!packed) {
        atomic_fetch_add_explicit(&s->raw_reads, 1, memory_order_relaxed);
        return 0;
    }
    rc = mx_blockcache_load(s->cache, shard, block, &b, err);
    if (rc == 0) {
        copy_cached(s, b, i, from, n, width, dst);
    }
    return rc;
}

static int read_all(struct mx_shardset *s, const struct mx_shard *shard, uint64_t first, size_t n,
                    uint32_t width, uint8_t *dst, struct mx_err *err)
{
    const struct mx_shard_info *i = mx_shard_get_info(shard);
    struct mx_kv_txn t = {0};
    int rc;

    if ((width != 2 && width != 4) || width < i->width) {
        return mx_fail(err, MX_EINVALID,
                       "shard %016" PRIx64 ": tokens of %u bytes can't be had as %u", i->id,
                       i->width, width);
    }
    if (first > i->tokens || n > i->tokens - first) {
        return mx_fail(err, MX_EINVALID,
                       "shard %016" PRIx64 ": tokens %" PRIu64 " to %" PRIu64
                       " aren't in it: it has %" PRIu64,
                       i->id, first, first + n, i->tokens);
    }
    rc = mx_kv_begin(shard->kv, false, &t, err);
    while (rc == 0 && n > 0) {
        uint32_t from = (uint32_t)(first % MX_BLOCK_TOKENS);
        uint32_t part = n < MX_BLOCK_TOKENS - from ? (uint32_t)n : MX_BLOCK_TOKENS - from;
        rc = read_part(s, shard, &t, (uint32_t)(first / MX_BLOCK_TOKENS), from, part, width, dst,
                       err);
        first += part;
        n -= part;
        dst += (size_t)part * width;
    }
    mx_kv_abort(&t);
    return rc;
}

int mx_shardset_read(struct mx_shardset *s, uint64_t id, uint64_t first, size_t n, uint32_t width,
                     void *dst, struct mx_err *err)
{
    struct entry *e;
    int rc = get_entry(s, id, &e, err);

    return rc != 0 ? rc : done(s, e, read_all(s, e->shard, first, n, width, dst, err));
}

int mx_shardset_starts(struct mx_shardset *s, uint64_t id, uint64_t first, size_t n,
                       uint32_t *starts, size_t cap, size_t *ret_n, struct mx_err *err)
{
    struct entry *e;
    int rc = get_entry(s, id, &e, err);

    return rc != 0 ? rc : done(s, e, mx_shard_starts(e->shard, first, n, starts, cap, ret_n, err));
}

void mx_shardset_get_stats(struct mx_shardset *s, struct mx_shardset_stats *ret)
{
    mx_blockcache_stats(s->cache, &ret->hits, &ret->misses, &ret->cache_bytes);
    ret->cache_bytes_max = s->cache_bytes_max;
    ret->raw_reads = atomic_load_explicit(&s->raw_reads, memory_order_relaxed);
    ret->damaged = atomic_load_explicit(&s->damaged, memory_order_relaxed);
    (void)pthread_mutex_lock(&s->lock);
    ret->open = s->open;
    ret->open_max = s->open_max;
    (void)pthread_mutex_unlock(&s->lock);
}
