/* blockcache.c - see blockcache.h. */
#include "store/blockcache.h"

#include <pthread.h>
#include <string.h>

#define UNPACKERS_MAX 32u /* idle contexts kept; more threads than that make new ones */

enum state { LOADING, READY, FAILED };

struct mx_cached {
    struct mx_cached *chain;        /* of its bucket */
    struct mx_cached *newer, *older; /* while unpinned and READY */
    uint64_t shard;
    uint32_t block;
    uint32_t pins;
    enum state state;
    size_t bytes;
    uint8_t data[];
};

struct mx_blockcache {
    pthread_mutex_t lock;
    pthread_cond_t settled; /* some block is no longer LOADING */
    size_t bytes, bytes_max;
    uint64_t hits, misses;
    struct mx_cached *newest, *oldest;
    struct mx_zunpacker *idle[UNPACKERS_MAX];
    unsigned n_idle;
    size_t buckets; /* a power of two */
    struct mx_cached **table;
};

int mx_blockcache_new(size_t bytes_max, struct mx_blockcache **ret, struct mx_err *err)
{
    struct mx_blockcache *c = calloc(1, sizeof *c);
    size_t buckets = 64;

    while (buckets < bytes_max / (MX_BLOCK_BYTES_MAX / 4) && buckets < (1u << 20)) {
        buckets *= 2;
    }
    if (c == NULL || (c->table = calloc(buckets, sizeof *c->table)) == NULL) {
        free(c);
        return mx_fail(err, MX_ENOMEM, "out of memory for a cache of %zu bytes", bytes_max);
    }
    c->buckets = buckets;
    c->bytes_max = bytes_max;
    (void)pthread_mutex_init(&c->lock, NULL);
    (void)pthread_cond_init(&c->settled, NULL);
    *ret = c;
    return 0;
}

static struct mx_cached **bucket(struct mx_blockcache *c, uint64_t shard, uint32_t block)
{
    uint64_t h = (shard ^ (uint64_t)block * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;

    return &c->table[(h >> 32) & (c->buckets - 1)];
}

static struct mx_cached *look_up(struct mx_blockcache *c, uint64_t shard, uint32_t block)
{
    struct mx_cached *b = *bucket(c, shard, block);

    while (b != NULL && (b->shard != shard || b->block != block)) {
        b = b->chain;
    }
    return b;
}

static void lru_remove(struct mx_blockcache *c, struct mx_cached *b)
{
    *(b->newer != NULL ? &b->newer->older : &c->newest) = b->older;
    *(b->older != NULL ? &b->older->newer : &c->oldest) = b->newer;
}

static void lru_add(struct mx_blockcache *c, struct mx_cached *b)
{
    b->newer = NULL;
    b->older = c->newest;
    *(c->newest != NULL ? &c->newest->newer : &c->oldest) = b;
    c->newest = b;
}

static void table_remove(struct mx_blockcache *c, struct mx_cached *b)
{
    struct mx_cached **at = bucket(c, b->shard, b->block);

    while (*at != b) {
        at = &(*at)->chain;
    }
    *at = b->chain;
}

/* Under the lock. */
static void shrink(struct mx_blockcache *c)
{
    while (c->bytes > c->bytes_max && c->oldest != NULL) {
        struct mx_cached *b = c->oldest;
        lru_remove(c, b);
        table_remove(c, b);
        c->bytes -= b->bytes;
        free(b);
    }
}

void mx_blockcache_free(struct mx_blockcache *c)
{
    if (c == NULL) {
        return;
    }
    c->bytes_max = 0;
    shrink(c);
    MX_REQUIRE(c->bytes == 0);
    for (unsigned i = 0; i < c->n_idle; i++) {
        mx_zunpacker_free(c->idle[i]);
    }
    (void)pthread_cond_destroy(&c->settled);
    (void)pthread_mutex_destroy(&c->lock);
    free(c->table);
    free(c);
}

/* Under the lock: unpins; the last one to leave decides what becomes of the block. */
static void unpin(struct mx_blockcache *c, struct mx_cached *b)
{
    MX_REQUIRE(b->pins > 0);
    if (--b->pins > 0) {
        return;
    }
    if (b->state == FAILED) {
        c->bytes -= b->bytes;
        free(b);
        return;
    }
    lru_add(c, b);
    shrink(c);
}

/* Under the lock, which is let go while waiting. NULL if it isn't there, or failed on its way. */
static struct mx_cached *pin(struct mx_blockcache *c, uint64_t shard, uint32_t block)
{
    struct mx_cached *b = look_up(c, shard, block);

    if (b == NULL) {
        return NULL;
    }
    if (b->pins++ == 0) {
        lru_remove(c, b);
    }
    while (b->state == LOADING) {
        (void)pthread_cond_wait(&c->settled, &c->lock);
    }
    if (b->state == FAILED) {
        unpin(c, b);
        return NULL;
    }
    c->hits++;
    return b;
}

struct mx_cached *mx_blockcache_find(struct mx_blockcache *c, uint64_t shard, uint32_t block)
{
    struct mx_cached *b;

    (void)pthread_mutex_lock(&c->lock);
    b = pin(c, shard, block);
    (void)pthread_mutex_unlock(&c->lock);
    return b;
}

/* Under the lock: an entry that says this thread is loading the block. */
static struct mx_cached *begin_load(struct mx_blockcache *c, const struct mx_shard *s,
                                    uint32_t block)
{
    const struct mx_shard_info *i = mx_shard_get_info(s);
    size_t bytes = (size_t)mx_block_tokens(i, block) * i->width;
    struct mx_cached *b = malloc(sizeof *b + bytes);
    struct mx_cached **at = bucket(c, i->id, block);

    if (b == NULL) {
        return NULL;
    }
    *b = (struct mx_cached){.chain = *at, .shard = i->id, .block = block, .pins = 1,
                            .state = LOADING, .bytes = bytes};
    *at = b;
    c->bytes += bytes;
    c->misses++;
    shrink(c);
    return b;
}

/* Without the lock; makes a context if *z is NULL. */
static int unpack(const struct mx_shard *s, struct mx_cached *b, struct mx_zunpacker **z,
                  struct mx_err *err)
{
    int rc = *z != NULL ? 0 : mx_zunpacker_new(z, err);

    return rc != 0 ? rc : mx_shard_unpack(s, b->block, *z, b->data, err);
}

int mx_blockcache_load(struct mx_blockcache *c, const struct mx_shard *s, uint32_t block,
                       struct mx_cached **ret, struct mx_err *err)
{
    struct mx_zunpacker *z = NULL;
    struct mx_cached *b;
    int rc;

    (void)pthread_mutex_lock(&c->lock);
    b = pin(c, mx_shard_get_info(s)->id, block);
    if (b != NULL) {
        (void)pthread_mutex_unlock(&c->lock);
        *ret = b;
        return 0;
    }
    b = begin_load(c, s, block);
    if (b != NULL && c->n_idle > 0) {
        z = c->idle[--c->n_idle];
    }
    (void)pthread_mutex_unlock(&c->lock);
    if (b == NULL) {
        return mx_fail(err, MX_ENOMEM, "out of memory for a decompressed block");
    }

    rc = unpack(s, b, &z, err);

    (void)pthread_mutex_lock(&c->lock);
    if (z != NULL && c->n_idle < UNPACKERS_MAX) {
        c->idle[c->n_idle++] = z;
        z = NULL;
    }
    b->state = rc == 0 ? READY : FAILED;
    if (rc != 0) {
        table_remove(c, b);
        unpin(c, b);
    }
    (void)pthread_cond_broadcast(&c->settled);
    (void)pthread_mutex_unlock(&c->lock);
    mx_zunpacker_free(z);
    if (rc == 0) {
        *ret = b;
    }
    return rc;
}

const uint8_t *mx_cached_bytes(const struct mx_cached *b)
{
    return b->data;
}

void mx_blockcache_unpin(struct mx_blockcache *c, struct mx_cached *b)
{
    (void)pthread_mutex_lock(&c->lock);
    unpin(c, b);
    (void)pthread_mutex_unlock(&c->lock);
}

void mx_blockcache_stats(struct mx_blockcache *c, uint64_t *ret_hits, uint64_t *ret_misses,
                         uint64_t *ret_bytes)
{
    (void)pthread_mutex_lock(&c->lock);
    *ret_hits = c->hits;
    *ret_misses = c->misses;
    *ret_bytes = c->bytes;
    (void)pthread_mutex_unlock(&c->lock);
}
