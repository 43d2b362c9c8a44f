/* test_shardset.c - many threads, few open shards, a small cache: the same bytes for all. */
#include "check.h"

#include "store/lookup.h"

#include <pthread.h>
#include <unistd.h>

#define N_SHARDS 5
#define N_THREADS 4
#define ROUNDS 1500

struct worker {
    pthread_t thread;
    struct mx_shardset *s;
    const struct model *models;
    uint64_t seed;
    unsigned wrong;
    struct mx_err err;
};

static unsigned read_once(struct worker *w, const struct model *m, struct dice *d)
{
    uint8_t got[3000 * 4], want[3000 * 4];
    uint32_t starts[3000], expected[3000];
    uint64_t first = below(d, m->n);
    size_t most = m->n - first < 3000 ? (size_t)(m->n - first) : 3000;
    size_t n = 1 + (size_t)below(d, most), found, wanted;

    if (mx_shardset_read(w->s, m->info.id, first, n, 4, got, &w->err) != 0) {
        return 1;
    }
    model_bytes(m, first, n, 4, want);
    if (memcmp(got, want, n * 4) != 0) {
        return 1;
    }
    if (below(d, 8) == 0) {
        if (mx_shardset_starts(w->s, m->info.id, first, n, starts, 3000, &found, &w->err) != 0) {
            return 1;
        }
        wanted = model_starts(m, first, n, expected, 3000);
        return found != wanted || memcmp(starts, expected, found * sizeof *starts) != 0;
    }
    return 0;
}

static int found_cb(void *arg, const struct mx_found *f)
{
    (void)f;
    ++*(unsigned *)arg;
    return 0;
}

/* Each model has a document of that id, or none if i is a multiple of three. */
static unsigned look_up(struct worker *w, uint64_t i)
{
    struct mx_view_shard shards[N_SHARDS];
    struct mx_view v = {.n = N_SHARDS, .seq_len = 1000, .shards = shards};
    unsigned found = 0;
    char id[32];

    for (unsigned k = 0; k < N_SHARDS; k++) {
        shards[k] = (struct mx_view_shard){v.samples, w->models[k].info.id};
        v.samples += w->models[k].n / 1000;
    }
    (void)snprintf(id, sizeof id, "document-%u", (unsigned)i);
    if (mx_lookup_id(w->s, &v, id, strlen(id), found_cb, &found, &w->err) != 0) {
        return 1;
    }
    return found != (i % 3 != 0 ? N_SHARDS : 0);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct dice d = {w->seed};

    for (unsigned i = 0; i < ROUNDS && w->wrong == 0; i++) {
        const struct model *m = &w->models[below(&d, N_SHARDS)];
        const struct mx_shard *held;
        if (below(&d, 50) == 0) {
            /* Holds one open while another is read: must neither hang nor close it. */
            if (mx_shardset_get(w->s, m->info.id, &held, &w->err) != 0) {
                w->wrong++;
                break;
            }
            w->wrong += read_once(w, &w->models[below(&d, N_SHARDS)], &d);
            w->wrong += mx_shard_get_info(held)->id != m->info.id;
            mx_shardset_put(w->s, held);
            w->wrong += look_up(w, below(&d, 100));
        } else {
            w->wrong += read_once(w, m, &d);
        }
    }
    return NULL;
}

static void make_models(struct model *models, const char *dir, struct dice *d)
{
    for (unsigned i = 0; i < N_SHARDS; i++) {
        struct model_options o = {
            .width = i % 2 == 0 ? 2 : 4,
            .level = i % 3 == 0 ? MX_LEVEL_RAW : 1,
            .tokens = 150000 + 30000 * i,
            .document_max = 400,
            .noise = i == 4,
        };
        model_make(&models[i], dir, &o, d);
    }
}

static void run_threads(const char *dir, const struct model *models, uint32_t open_max,
                        size_t cache_bytes, uint64_t seed)
{
    struct worker workers[N_THREADS];
    struct mx_shardset_stats stats;
    struct mx_shardset *s;
    struct mx_err err;

    assert_ok(mx_shardset_new(dir, open_max, cache_bytes, &s, &err), &err);
    for (unsigned i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){.s = s, .models = models, .seed = seed + i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        if (workers[i].wrong != 0) {
            fail_msg("thread %u: wrong: '%s'", i, workers[i].err.text);
        }
    }
    mx_shardset_get_stats(s, &stats);
    assert_true(stats.open <= open_max);
    assert_true(stats.cache_bytes <= cache_bytes);
    assert_int_equal(stats.damaged, 0);
    assert_true(stats.raw_reads > 0);
    assert_true(stats.misses > 0);
    mx_shardset_free(s);
}

static void test_threads(void **state)
{
    uint64_t seed = test_seed("threads", 61);
    struct dice d = {seed};
    struct model models[N_SHARDS];

    make_models(models, *state, &d);
    run_threads(*state, models, 1, 0, seed + 100);
    run_threads(*state, models, 1, 600000, seed + 200);
    run_threads(*state, models, 2, 100000, seed + 300); /* smaller than one block */
    run_threads(*state, models, N_SHARDS, 1 << 24, seed + 400);
    for (unsigned i = 0; i < N_SHARDS; i++) {
        model_free(&models[i]);
    }
}

/* What the cache counts, and that it forgets the block that was used longest ago. */
static void test_cache(void **state)
{
    struct model_options o = {.width = 2, .level = 3, .tokens = 4 * MX_BLOCK_TOKENS,
                              .document_max = 400};
    struct dice d = {62};
    struct mx_shardset_stats stats;
    struct mx_shardset *s;
    struct mx_err err;
    struct model m;
    uint8_t got[64];
    static const struct {
        uint32_t block;
        uint64_t hits, misses;
    } steps[] = {{0, 0, 1}, {0, 1, 1}, {1, 1, 2}, {0, 2, 2}, {2, 2, 3}, {0, 3, 3}, {1, 3, 4}};

    model_make(&m, *state, &o, &d);
    assert_ok(mx_shardset_new(*state, 1, 2 * MX_BLOCK_TOKENS * 2, &s, &err), &err);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        uint64_t first = (uint64_t)steps[i].block * MX_BLOCK_TOKENS + 5;
        assert_ok(mx_shardset_read(s, m.info.id, first, 16, 2, got, &err), &err);
        mx_shardset_get_stats(s, &stats);
        assert_int_equal(stats.hits, steps[i].hits);
        assert_int_equal(stats.misses, steps[i].misses);
        assert_true(stats.cache_bytes <= stats.cache_bytes_max);
    }
    mx_shardset_free(s);
    model_free(&m);
}

/* A file that is removed: what is open goes on, what isn't is gone, with its name. */
static void test_gone(void **state)
{
    struct model_options o = {.width = 2, .level = MX_LEVEL_RAW, .tokens = 100, .document_max = 9};
    struct dice d = {63};
    struct mx_shardset *s;
    struct mx_err err;
    struct model a, b;
    uint8_t got[4];

    model_make(&a, *state, &o, &d);
    model_make(&b, *state, &o, &d);
    assert_int_equal(mx_shardset_new(*state, 0, 0, &s, &err), MX_EINVALID);
    assert_ok(mx_shardset_new(*state, 1, 0, &s, &err), &err);
    assert_ok(mx_shardset_read(s, a.info.id, 0, 2, 2, got, &err), &err);
    assert_int_equal(unlink(a.path), 0);
    assert_ok(mx_shardset_read(s, a.info.id, 0, 2, 2, got, &err), &err);
    assert_ok(mx_shardset_read(s, b.info.id, 0, 2, 2, got, &err), &err);
    assert_fails(mx_shardset_read(s, a.info.id, 0, 2, 2, got, &err), MX_EGONE, &err, a.path);
    mx_shardset_free(s);
    model_free(&a);
    model_free(&b);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {TEST(test_threads), TEST(test_cache), TEST(test_gone)};
    return cmocka_run_group_tests_name("store-shardset", tests, NULL, NULL);
}
