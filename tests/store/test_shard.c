/* test_shard.c - what goes into a shard comes out of it, whatever codec and width. */
#include "check.h"

#include "store/files.h"
#include "store/shardset.h"

#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

static void check_reads(const struct model *m, struct mx_shardset *s, uint32_t width,
                        struct dice *d, unsigned rounds)
{
    size_t max = m->n < 70000 ? (size_t)m->n : 70000;
    uint8_t *got = malloc(max * width + 8), *want = malloc(max * width + 8);
    struct mx_err err;

    assert_non_null(got);
    assert_non_null(want);
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t first = below(d, m->n);
        size_t most = m->n - first < max ? (size_t)(m->n - first) : max;
        size_t n = i % 4 == 0 ? most : 1 + (size_t)below(d, most < 3000 ? most : 3000);
        memset(got, 0xee, max * width + 8);
        assert_ok(mx_shardset_read(s, m->info.id, first, n, width, got, &err), &err);
        model_bytes(m, first, n, width, want);
        assert_memory_equal(got, want, n * width);
        assert_int_equal(got[n * width], 0xee);
    }
    free(got);
    free(want);
}

static void check_starts(const struct model *m, struct mx_shardset *s, struct dice *d,
                         unsigned rounds)
{
    uint32_t got[512], want[512];
    struct mx_err err;

    for (unsigned i = 0; i < rounds; i++) {
        uint64_t first = below(d, m->n);
        uint64_t most = m->n - first;
        size_t n = 1 + (size_t)below(d, i % 2 == 0 || most < 3000 ? most : 3000);
        size_t cap = (size_t)below(d, 513), found, expected;
        assert_ok(mx_shardset_starts(s, m->info.id, first, n, got, cap, &found, &err), &err);
        expected = model_starts(m, first, n, want, cap);
        assert_int_equal(found, expected);
        assert_memory_equal(got, want, (found < cap ? found : cap) * sizeof *got);
    }
}

/* From document to document in one place: back, on, and to the same one again. */
static void check_place(const struct model *m, const struct mx_shard *s, struct dice *d)
{
    struct mx_shard_place p;
    struct mx_document got, want;
    struct mx_err err;

    assert_ok(mx_place_open(s, &p, &err), &err);
    for (unsigned i = 0; i < 300; i++) {
        uint64_t k = below(d, m->documents);
        for (unsigned again = 0; again < 2; again++) {
            model_document(m, k, &want);
            assert_ok(mx_place_seek(&p, want.first_token + below(d, want.tokens), &got, &err),
                      &err);
            assert_int_equal(got.source_byte, want.source_byte);
        }
        for (; k + 1 < m->documents && below(d, 8) > 0; k++) {
            model_document(m, k + 1, &want);
            assert_int_equal(mx_place_next(&p, &got, &err), 1);
            assert_int_equal(got.first_token, want.first_token);
            assert_int_equal(got.tokens, want.tokens);
            assert_string_equal(got.id, want.id);
        }
        if (k + 1 == m->documents) {
            assert_int_equal(mx_place_next(&p, &got, &err), 0);
        }
    }
    mx_place_close(&p);
}

static void check_documents(const struct model *m, const struct mx_shard *s, struct dice *d)
{
    struct mx_document got, want;
    struct mx_err err;

    for (unsigned i = 0; i < 200; i++) {
        uint64_t k = below(d, m->documents);
        model_document(m, k, &want);
        assert_ok(mx_shard_document_at(s, want.first_token + below(d, want.tokens), &got, &err),
                  &err);
        assert_int_equal(got.first_token, want.first_token);
        assert_int_equal(got.tokens, want.tokens);
        assert_int_equal(got.source, want.source);
        assert_int_equal(got.source_byte, want.source_byte);
        assert_int_equal(got.source_line, want.source_line);
        assert_int_equal(got.id_len, want.id_len);
        assert_string_equal(got.id, want.id);
    }
    assert_int_equal(mx_shard_document_at(s, m->n, &got, &err), MX_EINVALID);
}

static void check_info(const struct model *m, const struct mx_shard *s)
{
    const struct mx_shard_info *i = mx_shard_get_info(s);
    char path[64];
    struct mx_err err;
    struct stat st;

    assert_int_equal(i->tokens, m->n);
    assert_int_equal(i->documents, m->documents);
    assert_int_equal(i->width, m->width);
    assert_int_equal(i->blocks, (m->n + MX_BLOCK_TOKENS - 1) / MX_BLOCK_TOKENS);
    assert_int_equal(stat(m->path, &st), 0);
    assert_int_equal(i->bytes, st.st_size);
    assert_true(same_info(i, &m->info));
    assert_ok(mx_shard_source(s, 1, path, sizeof path, &err), &err);
    assert_string_equal(path, "/corpus/second.jsonl");
    assert_int_equal(mx_shard_source(s, 2, path, sizeof path, &err), MX_ENOTFOUND);
    assert_int_equal(mx_shard_source(s, 1, path, 5, &err), MX_EINVALID);
}

static void round_trip(void **state, const struct model_options *o, uint64_t seed)
{
    struct dice d = {seed};
    struct mx_shardset *s;
    const struct mx_shard *shard;
    struct mx_err err;
    struct model m;
    uint8_t b[8];

    model_make(&m, *state, o, &d);
    assert_ok(mx_shardset_new(*state, 4, 600000, &s, &err), &err);
    check_reads(&m, s, o->width, &d, 300);
    check_reads(&m, s, 4, &d, 100);
    check_starts(&m, s, &d, 200);
    assert_ok(mx_shardset_get(s, m.info.id, &shard, &err), &err);
    check_info(&m, shard);
    check_documents(&m, shard, &d);
    check_place(&m, shard, &d);
    assert_ok(mx_shard_verify(shard, NULL, NULL, &err), &err);
    mx_shardset_put(s, shard);
    assert_fails(mx_shardset_read(s, m.info.id, m.n - 1, 2, 4, b, &err), MX_EINVALID, &err,
                 "aren't in it");
    assert_int_equal(mx_shardset_read(s, m.info.id, UINT64_MAX, 2, 4, b, &err), MX_EINVALID);
    assert_int_equal(mx_shardset_read(s, m.info.id, 0, 1, 3, b, &err), MX_EINVALID);
    assert_fails(mx_shardset_read(s, 12345, 0, 1, 4, b, &err), MX_EGONE, &err, "0000000000003039");
    if (o->width == 4) {
        assert_int_equal(mx_shardset_read(s, m.info.id, 0, 1, 2, b, &err), MX_EINVALID);
    }
    mx_shardset_free(s);
    model_free(&m);
}

static void test_raw_u16(void **state)
{
    struct model_options o = {.width = 2, .level = MX_LEVEL_RAW, .tokens = 300001,
                              .document_max = 900};
    round_trip(state, &o, test_seed("raw u16", 1));
}

static void test_raw_u32(void **state)
{
    struct model_options o = {.width = 4, .level = MX_LEVEL_RAW, .tokens = 2 * MX_BLOCK_TOKENS,
                              .document_max = 100000, .noise = true};
    round_trip(state, &o, test_seed("raw u32", 2));
}

static void test_zstd_u16(void **state)
{
    struct model_options o = {.width = 2, .level = 3, .tokens = 400000, .document_max = 20};
    round_trip(state, &o, test_seed("zstd u16", 3));
}

static void test_zstd_u32(void **state)
{
    struct model_options o = {.width = 4, .level = -5, .tokens = 100000, .document_max = 3};
    round_trip(state, &o, test_seed("zstd u32", 4));
}

/* Blocks that don't shrink are kept raw in a compressed shard. */
static void test_zstd_noise(void **state)
{
    struct model_options o = {.width = 2, .level = 1, .tokens = 140000, .document_max = 5000,
                              .noise = true};
    round_trip(state, &o, test_seed("zstd noise", 5));
}

static void test_tiny(void **state)
{
    for (uint64_t n = 1; n < 6; n++) {
        struct model_options o = {.width = 2, .level = n % 2 == 0 ? 3 : MX_LEVEL_RAW, .tokens = n,
                                  .document_max = 2};
        round_trip(state, &o, test_seed("tiny", 6 + n));
    }
}

static void test_dictionary(void **state)
{
    struct dice d = {test_seed("dictionary", 12)};
    size_t sizes[300], n = 0, dictionary_n;
    uint8_t *samples = malloc(300 * 2000), dictionary[8192];
    struct model_options o = {.width = 2, .level = 3, .tokens = 200000, .document_max = 300};
    struct mx_err err;

    assert_non_null(samples);
    for (unsigned i = 0; i < 300; i++) {
        sizes[i] = 500 + (size_t)below(&d, 1500);
        for (size_t k = 0; k < sizes[i]; k++) {
            samples[n++] = k % 2 == 1 ? 0 : (uint8_t)("the quick brown fox "[(k / 2 + i) % 20]);
        }
    }
    assert_ok(mx_zdict_train(samples, sizes, 300, dictionary, sizeof dictionary, &dictionary_n,
                             &err), &err);
    o.dictionary = dictionary;
    o.dictionary_bytes = dictionary_n;
    round_trip(state, &o, 13);
    free(samples);
}

/* Larger than one transaction and than the map at first: commits on the way, and grows. */
static void test_large(void **state)
{
    struct mx_shard_options o = {.width = 2, .level = MX_LEVEL_RAW};
    struct mx_document doc = {.source = 0};
    struct mx_shard_writer *w;
    struct mx_shard_info info;
    struct mx_shardset *s;
    const struct mx_shard *shard;
    struct mx_err err;
    static uint16_t part[MX_BLOCK_TOKENS + 1], got[5000];
    uint64_t n = 0;
    uint32_t source;

    assert_ok(mx_shard_writer_new(*state, &o, &w, &err), &err);
    assert_ok(mx_shard_writer_source(w, "x", &source, &err), &err);
    for (unsigned i = 0; i < 700; i++) {
        for (size_t k = 0; k < MX_BLOCK_TOKENS + 1; k++) {
            part[k] = (uint16_t)((n + k) * 40503 >> 8);
        }
        assert_ok(mx_shard_writer_document(w, &doc, &err), &err);
        assert_ok(mx_shard_writer_tokens(w, part, MX_BLOCK_TOKENS + 1, &err), &err);
        n += MX_BLOCK_TOKENS + 1;
    }
    assert_true(mx_shard_writer_bytes(w) > n * 2);
    assert_ok(mx_shard_writer_seal(w, &info, &err), &err);
    assert_int_equal(info.tokens, n);
    assert_true(info.bytes > n * 2 && info.bytes < n * 2 + n / 10);
    assert_ok(mx_shardset_new(*state, 1, 0, &s, &err), &err);
    for (uint64_t at = 0; at + 5000 <= n; at += 777777) {
        assert_ok(mx_shardset_read(s, info.id, at, 5000, 2, got, &err), &err);
        for (size_t k = 0; k < 5000; k++) {
            assert_int_equal(got[k], (uint16_t)((at + k) * 40503 >> 8));
        }
    }
    assert_ok(mx_shardset_get(s, info.id, &shard, &err), &err);
    assert_ok(mx_shard_verify(shard, NULL, NULL, &err), &err);
    mx_shardset_put(s, shard);
    mx_shardset_free(s);
}

/* The digest names contents, not files: id and codec don't matter, a single token does. */
static void test_digest(void **state)
{
    struct model_options o = {.width = 2, .level = 3, .tokens = 70000, .document_max = 50};
    struct dice a = {99}, b = {99}, c = {100};
    struct model x, y, z;

    model_make(&x, *state, &o, &a);
    o.level = MX_LEVEL_RAW;
    model_make(&y, *state, &o, &b);
    model_make(&z, *state, &o, &c);
    assert_int_not_equal(x.info.id, y.info.id);
    assert_memory_equal(x.info.digest, y.info.digest, sizeof x.info.digest);
    assert_memory_not_equal(x.info.digest, z.info.digest, sizeof x.info.digest);
    model_free(&x);
    model_free(&y);
    model_free(&z);
}

static void test_writer_refuses(void **state)
{
    struct mx_shard_options o = {.width = 2, .level = MX_LEVEL_RAW};
    struct mx_shard_writer *w;
    struct mx_shard_info info;
    struct mx_document doc = {.source = 0};
    struct mx_err err;
    uint16_t t = 1;
    uint32_t source;

    o.width = 3;
    assert_int_equal(mx_shard_writer_new(*state, &o, &w, &err), MX_EINVALID);
    o.width = 2;
    o.level = 99;
    assert_int_equal(mx_shard_writer_new(*state, &o, &w, &err), MX_EINVALID);
    o.level = 3;
    assert_int_equal(mx_shard_writer_new("/nowhere/at/all", &o, &w, &err), MX_ENOTFOUND);
    assert_ok(mx_shard_writer_new(*state, &o, &w, &err), &err);
    assert_int_equal(count_files(*state, ".tmp"), 1);
    assert_int_equal(mx_shard_writer_document(w, &doc, &err), MX_EINVALID);
    assert_int_equal(mx_shard_writer_tokens(w, &t, 1, &err), MX_EINVALID);
    assert_ok(mx_shard_writer_source(w, "x", &source, &err), &err);
    assert_ok(mx_shard_writer_document(w, &doc, &err), &err);
    assert_int_equal(mx_shard_writer_seal(w, &info, &err), MX_EINVALID);
    assert_int_equal(count_files(*state, ".tmp") + count_files(*state, ".mxs"), 0);
}

/* A file under another shard's name, cut, empty, or of another kind. */
static void test_wrong_files(void **state)
{
    struct model_options o = {.width = 2, .level = MX_LEVEL_RAW, .tokens = 200000,
                              .document_max = 50};
    struct dice d = {21};
    struct mx_shardset *s;
    struct mx_shard *shard;
    struct mx_err err;
    struct model m;
    char *other = path_in(*state, "00000000000000aa.mxs");
    uint8_t *bytes, b[2];
    size_t n;

    model_make(&m, *state, &o, &d);
    bytes = read_file(m.path, &n);
    write_file(other, bytes, n);
    assert_ok(mx_shardset_new(*state, 4, 0, &s, &err), &err);
    assert_fails(mx_shardset_read(s, 0xaa, 0, 1, 2, b, &err), MX_EDAMAGED, &err, "holds shard");
    mx_shardset_free(s);
    for (size_t cut = 0; cut < n; cut = cut < 9000 ? cut + 500 : cut + 4096) {
        write_file(other, bytes, cut);
        assert_int_equal(mx_shard_open(other, &shard, &err), MX_EDAMAGED);
    }
    write_file(other, bytes, n - 1);
    assert_fails(mx_shard_open(other, &shard, &err), MX_EDAMAGED, &err, "cut short");
    write_file(other, "this is no shard, but some text", 31);
    assert_fails(mx_shard_open(other, &shard, &err), MX_EDAMAGED, &err, other);
    assert_fails(mx_shard_open(*state, &shard, &err), MX_EDAMAGED, &err, "no plain file");
    free(bytes);
    free(other);
    model_free(&m);
}

static bool never(void *arg, uint64_t id)
{
    (void)id;
    ++*(unsigned *)arg;
    return false;
}

/* A sweep takes what the dead left and nothing of the living. */
static void test_sweep(void **state)
{
    struct mx_shard_options o = {.width = 2, .level = MX_LEVEL_RAW};
    struct model_options mo = {.width = 2, .level = MX_LEVEL_RAW, .tokens = 10, .document_max = 5};
    struct dice d = {22};
    struct mx_shard_writer *w;
    struct mx_hold *hold;
    struct mx_err err;
    struct model held, loose;
    char *dead = path_in(*state, "00000000000000bb.tmp");
    char *dead_hold = path_in(*state, "00000000000000cc.ingest");
    char *alien = path_in(*state, "notes.txt");
    unsigned asked = 0;

    assert_ok(mx_shard_writer_new(*state, &o, &w, &err), &err);
    model_make(&held, *state, &mo, &d);
    model_make(&loose, *state, &mo, &d);
    assert_ok(mx_hold_new(*state, &hold, &err), &err);
    assert_ok(mx_hold_add(hold, held.info.id, &err), &err);
    write_file(dead, "x", 1);
    write_file(dead_hold, "00000000000000bb\n", 17);
    write_file(alien, "x", 1);
    assert_int_equal(mx_shard_sweep(*state, never, &asked, &err), 2); /* dead and loose */
    assert_int_equal(asked, 1);
    assert_int_equal(access(held.path, F_OK), 0);
    assert_int_not_equal(access(loose.path, F_OK), 0);
    assert_int_not_equal(access(dead, F_OK), 0);
    assert_int_not_equal(access(dead_hold, F_OK), 0);
    assert_int_equal(access(alien, F_OK), 0);
    assert_int_equal(count_files(*state, ".tmp"), 1);
    mx_shard_writer_abort(w);
    mx_hold_free(hold);
    assert_int_equal(mx_shard_sweep(*state, never, &asked, &err), 1);
    assert_int_equal(count_files(*state, ".mxs") + count_files(*state, ".tmp") +
                     count_files(*state, ".ingest"), 0);
    free(dead);
    free(dead_hold);
    free(alien);
    model_free(&held);
    model_free(&loose);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_raw_u16), TEST(test_raw_u32), TEST(test_zstd_u16), TEST(test_zstd_u32),
        TEST(test_zstd_noise), TEST(test_tiny), TEST(test_dictionary), TEST(test_large),
        TEST(test_digest),
        TEST(test_writer_refuses), TEST(test_wrong_files), TEST(test_sweep),
    };
    return cmocka_run_group_tests_name("store-shard", tests, NULL, NULL);
}
