/* test_damage.c - flipped bits in a shard file: the right bytes or an error, never wrong bytes, and
 * never a crash. Each flip is read by a child process, so that a crash is one failed child. */
#include "check.h"

#include "store/shardset.h"

#include <inttypes.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum verdict { ALL_RIGHT = 10, SOME_REFUSED = 11, WRONG_TOKENS = 12, WRONG_DOCUMENTS = 13 };

/* Reads all of the shard by a set, comparing with the model. */
static enum verdict read_tokens(const struct model *m, struct mx_shardset *s, uint8_t *got,
                                uint8_t *want)
{
    enum verdict v = ALL_RIGHT;

    for (uint64_t first = 0; first < m->n; first += 2048) {
        size_t n = m->n - first < 2048 ? (size_t)(m->n - first) : 2048;
        uint32_t starts[2048], expected[2048];
        size_t found, wanted;
        model_bytes(m, first, n, m->width, want);
        if (mx_shardset_read(s, m->info.id, first, n, m->width, got, NULL) != 0) {
            v = SOME_REFUSED;
        } else if (memcmp(got, want, n * m->width) != 0) {
            return WRONG_TOKENS;
        }
        if (mx_shardset_starts(s, m->info.id, first, n, starts, 2048, &found, NULL) != 0) {
            v = SOME_REFUSED;
            continue;
        }
        wanted = model_starts(m, first, n, expected, 2048);
        if (found != wanted || memcmp(starts, expected, found * sizeof *starts) != 0) {
            return WRONG_DOCUMENTS;
        }
    }
    return v;
}

/* What a look-up finds, against the one document that there is to find. */
struct search {
    const struct mx_document *want;
    unsigned right, wrong;
};

static int search_cb(void *arg, const struct mx_document *d)
{
    struct search *s = arg;
    bool right = d->first_token == s->want->first_token && d->tokens == s->want->tokens &&
                 d->source_byte == s->want->source_byte && strcmp(d->id, s->want->id) == 0;

    s->right += right;
    s->wrong += !right;
    return 0;
}

static enum verdict look_up(const struct mx_shard *shard, const struct mx_document *want)
{
    const char *path = want->source == 0 ? "/corpus/first.jsonl" : "second.jsonl";
    struct search by_id = {.want = want}, by_origin = {.want = want};
    int rc = mx_shard_find_id(shard, want->id, want->id_len, search_cb, &by_id, NULL);
    int rc2 = mx_shard_find_origin(shard, path, strlen(path), want->source_byte + 1, search_cb,
                                   &by_origin, NULL);

    if (by_id.wrong > 0 || by_origin.wrong > 0 || by_id.right > 1 || by_origin.right > 1 ||
        (rc == 0 && want->id_len > 0 && by_id.right == 0) || (rc2 == 0 && by_origin.right == 0)) {
        return WRONG_DOCUMENTS;
    }
    return rc != 0 || rc2 != 0 ? SOME_REFUSED : ALL_RIGHT;
}

static enum verdict read_documents(const struct model *m, struct mx_shardset *s)
{
    enum verdict v = ALL_RIGHT;
    const struct mx_shard *shard;

    if (mx_shardset_get(s, m->info.id, &shard, NULL) != 0) {
        return SOME_REFUSED;
    }
    for (uint64_t i = 0; i < m->documents; i += 37) {
        struct mx_document got, want;
        model_document(m, i, &want);
        if (mx_shard_document_at(shard, want.first_token, &got, NULL) != 0) {
            v = SOME_REFUSED;
        } else if (got.first_token != want.first_token || got.tokens != want.tokens ||
                   got.source != want.source || got.source_byte != want.source_byte ||
                   got.source_line != want.source_line || strcmp(got.id, want.id) != 0) {
            return WRONG_DOCUMENTS;
        }
        switch (look_up(shard, &want)) {
        case ALL_RIGHT: break;
        case SOME_REFUSED: v = SOME_REFUSED; break;
        default: return WRONG_DOCUMENTS;
        }
    }
    if (mx_shard_verify(shard, NULL, NULL, NULL) != 0) {
        v = SOME_REFUSED;
    }
    mx_shardset_put(s, shard);
    return v;
}

static enum verdict read_all(const struct model *m, const char *dir)
{
    uint8_t *got = malloc(2048 * 4), *want = malloc(2048 * 4);
    struct mx_shardset *s;
    enum verdict a, b;

    if (got == NULL || want == NULL || mx_shardset_new(dir, 1, 1 << 20, &s, NULL) != 0) {
        return SOME_REFUSED;
    }
    a = read_tokens(m, s, got, want);
    b = read_documents(m, s);
    mx_shardset_free(s);
    free(got);
    free(want);
    return a > b ? a : b;
}

/* A byte of a page of the tree (half the time, as there are few of them), or any byte. */
static size_t choose(const uint8_t *bytes, size_t n, struct dice *d)
{
    for (unsigned tries = 0; tries < 2000; tries++) {
        size_t at = (size_t)below(d, n), page = at / 4096 * 4096;
        unsigned flags = (unsigned)bytes[page + 10] | (unsigned)bytes[page + 11] << 8;
        if (page < 8192 || flags == 1 || flags == 2) {
            return at;
        }
    }
    return (size_t)below(d, n);
}

static void flip_and_read(const struct model *m, const char *dir, const uint8_t *bytes, size_t n,
                          struct dice *d, unsigned rounds)
{
    unsigned counts[16] = {0};

    for (unsigned round = 0; round < rounds; round++) {
        uint8_t *hurt = malloc(n);
        size_t at = 0;
        unsigned flips = 1 + (unsigned)below(d, 3);
        int status;
        pid_t pid;
        assert_non_null(hurt);
        memcpy(hurt, bytes, n);
        for (unsigned f = 0; f < flips; f++) {
            at = round % 2 == 0 ? choose(bytes, n, d) : (size_t)below(d, n);
            hurt[at] ^= (uint8_t)(1u << below(d, 8));
        }
        write_file(m->path, hurt, n);
        free(hurt);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            (void)alarm(20);
            _exit((int)read_all(m, dir));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status) > SOME_REFUSED) {
            fail_msg("round %u, last flip at byte %zu: status 0x%x (12 is wrong tokens, 13 wrong "
                     "documents)", round, at, (unsigned)status);
        }
        counts[WEXITSTATUS(status)]++;
    }
    print_message("%u flips: %u harmless, %u refused\n", rounds, counts[ALL_RIGHT],
                  counts[SOME_REFUSED]);
    /* Free pages and unused parts of pages are harmless; they must not be all there is. */
    assert_true(counts[SOME_REFUSED] > rounds / 4);
}

static void test_flips(void **state, struct model_options *o, uint64_t seed)
{
    struct dice d = {seed};
    struct model m;
    uint8_t *bytes;
    size_t n;

    model_make(&m, *state, o, &d);
    bytes = read_file(m.path, &n);
    assert_int_equal(read_all(&m, *state), ALL_RIGHT);
    flip_and_read(&m, *state, bytes, n, &d, 400);
    free(bytes);
    model_free(&m);
}

static void test_flips_raw(void **state)
{
    struct model_options o = {.width = 2, .level = MX_LEVEL_RAW, .tokens = 100000,
                              .document_max = 60};
    test_flips(state, &o, test_seed("flips in a raw shard", 31));
}

static void test_flips_zstd(void **state)
{
    struct model_options o = {.width = 4, .level = 3, .tokens = 150000, .document_max = 500};
    test_flips(state, &o, test_seed("flips in a compressed shard", 32));
}

/* Two whole records in each other's place: each is sound, and still in the wrong place. */
static void test_swapped_blocks(void **state)
{
    struct model_options o = {.width = 2, .level = MX_LEVEL_RAW, .tokens = 2 * MX_BLOCK_TOKENS,
                              .document_max = 1000};
    struct dice d = {33};
    struct mx_shardset *s;
    struct mx_err err;
    struct model m;
    uint8_t *bytes, first[24], *a, *b, *copy, got[4096];
    size_t n, block = MX_BLOCK_HEAD_BYTES + 32 * 8 + MX_BLOCK_TOKENS * 2;

    model_make(&m, *state, &o, &d);
    bytes = read_file(m.path, &n);
    /* The blocks' data in the file, by the first bytes of each, with the head before them. */
    model_bytes(&m, 0, 12, 2, first);
    a = memmem(bytes, n, first, sizeof first);
    assert_non_null(a);
    a -= MX_BLOCK_HEAD_BYTES + 32 * 8;
    b = bytes + (a - bytes) % 4096 + 4096;
    while (mx_load_u32(b + 8) != MX_BLOCK_TOKENS || b == a || mx_load_u32(b + 20) != 32) {
        b += 4096;
        assert_true(b + block <= bytes + n);
    }
    copy = malloc(block);
    assert_non_null(copy);
    memcpy(copy, a, block);
    memcpy(a, b, block);
    memcpy(b, copy, block);
    write_file(m.path, bytes, n);
    assert_ok(mx_shardset_new(*state, 1, 0, &s, &err), &err);
    assert_fails(mx_shardset_read(s, m.info.id, 0, 2048, 2, got, &err), MX_EDAMAGED, &err,
                 "block 0 is damaged");
    assert_fails(mx_shardset_read(s, m.info.id, MX_BLOCK_TOKENS, 2048, 2, got, &err), MX_EDAMAGED,
                 &err, "block 1 is damaged");
    mx_shardset_free(s);
    free(copy);
    free(bytes);
    model_free(&m);
}

/* Only what is read is checked: damage in one granule leaves samples beside it readable. */
static void test_granules(void **state)
{
    struct model_options o = {.width = 2, .level = MX_LEVEL_RAW, .tokens = MX_BLOCK_TOKENS,
                              .document_max = 1000, .noise = true};
    struct dice d = {34};
    struct mx_shardset_stats stats;
    struct mx_shardset *s;
    struct mx_err err;
    struct model m;
    uint8_t *bytes, mark[64], *at, got[8192], want[8192];
    size_t n;

    model_make(&m, *state, &o, &d);
    bytes = read_file(m.path, &n);
    model_bytes(&m, 5 * 2048 + 700, 32, 2, mark);
    at = memmem(bytes, n, mark, sizeof mark);
    assert_non_null(at);
    *at ^= 4;
    write_file(m.path, bytes, n);
    assert_ok(mx_shardset_new(*state, 1, 0, &s, &err), &err);
    for (uint64_t g = 0; g < 32; g++) {
        int rc = mx_shardset_read(s, m.info.id, g * 2048, 2048, 2, got, &err);
        assert_int_equal(rc, g == 5 ? MX_EDAMAGED : 0);
        model_bytes(&m, g * 2048, 2048, 2, want);
        assert_true(g == 5 || memcmp(got, want, 4096) == 0);
    }
    assert_ok(mx_shardset_read(s, m.info.id, 4 * 2048, 2048, 2, got, &err), &err);
    assert_int_equal(mx_shardset_read(s, m.info.id, 5 * 2048 - 1, 2, 2, got, &err), MX_EDAMAGED);
    mx_shardset_get_stats(s, &stats);
    assert_int_equal(stats.damaged, 2);
    assert_int_equal(stats.raw_reads, 32);
    mx_shardset_free(s);
    free(bytes);
    model_free(&m);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_flips_raw), TEST(test_flips_zstd), TEST(test_swapped_blocks), TEST(test_granules),
    };
    return cmocka_run_group_tests_name("store-damage", tests, NULL, NULL);
}
