/* test_ingest.c - what lies in files is what a domain holds afterwards; bad input is refused,
 * named, and leaves nothing behind. */
#include "ingest_check.h"

#include "store/zcodec.h"

#include <inttypes.h>
#include <unistd.h>

/* Each malformed line as "line@byte:what|". */
struct told {
    char text[4096];
    size_t n;
    unsigned progress, polls, cancel_at;
    uint64_t last_bytes;
};

static void bad_cb(void *arg, const char *file, uint64_t line, uint64_t byte, const char *what)
{
    struct told *t = arg;

    assert_non_null(strstr(file, "in."));
    t->n += (size_t)snprintf(t->text + t->n, sizeof t->text - t->n, "%" PRIu64 "@%" PRIu64 ":%s|",
                             line, byte, what);
}

static void progress_cb(void *arg, const struct mx_ingest_progress *p)
{
    struct told *t = arg;

    assert_true(p->bytes >= t->last_bytes && p->bytes <= p->bytes_total);
    t->last_bytes = p->bytes;
    t->progress++;
}

static int cancelled_cb(void *arg)
{
    struct told *t = arg;

    return ++t->polls >= t->cancel_at && t->cancel_at > 0;
}

static void assert_tokens(const struct whole *w, uint64_t from, const char *text)
{
    for (size_t i = 0; i < strlen(text); i++) {
        assert_int_equal(w->tokens[from + i], (uint8_t)text[i]);
    }
}

static void test_jsonl(void **state)
{
    static const char text[] =
        "\xef\xbb\xbf{\"text\":\"hello\",\"id\":\"a\"}\r\n"
        "\n"
        "  \t\r\n"
        "{\"text\":\"\"}\n"
        "{\"id\":9007199254740993,\"text\":\"w\\u00f6rld\"}";
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_AUTO);
    struct mx_ingest_result r;
    struct mx_err err;
    struct whole w;

    assert_ok(ingest_text(*state, "in.jsonl", text, sizeof text - 1, &o, &r, &err), &err);
    assert_int_equal(r.total.documents, 2);
    assert_int_equal(r.total.lines, 3);
    assert_int_equal(r.total.bad_lines, 0);
    assert_int_equal(r.total.tokens, 6 + 7);
    assert_int_equal(r.total.shards, 1);
    assert_int_equal(r.total.bytes, sizeof text - 1);
    assert_int_equal(r.total.source_bytes, sizeof text - 1);
    assert_ok(whole_read(*state, "web", &w, &err), &err);
    assert_int_equal(w.domain.width, 2);
    assert_int_equal(w.domain.eod, 256);
    assert_int_equal(w.domain.level, 3);
    assert_string_equal(w.domain.tokenizer, "bytes");
    assert_int_equal(w.domain.source_bytes, sizeof text - 1);
    assert_int_equal(w.n, 13);
    assert_tokens(&w, 0, "hello");
    assert_int_equal(w.tokens[5], 256);
    assert_tokens(&w, 6, "w\xc3\xb6rld");
    assert_int_equal(w.tokens[12], 256);
    assert_int_equal(w.n_documents, 2);
    assert_string_equal(w.documents[0].id, "a");
    assert_int_equal(w.documents[0].source_line, 1);
    assert_int_equal(w.documents[0].source_byte, 0);
    assert_string_equal(w.documents[1].id, "9007199254740993");
    assert_int_equal(w.documents[1].source_line, 5);
    assert_int_equal(w.documents[1].source_byte, strrchr(text, '{') - text);
    assert_non_null(strstr(w.source, "in.jsonl"));
    whole_free(&w);
    assert_clean(*state, 1);
}

static void test_fields_and_long_ids(void **state)
{
    char text[2048], id[400], *p = text;
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_JSONL);
    struct mx_ingest_result r;
    struct mx_err err;
    struct whole w;

    memset(id, 'i', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    p += sprintf(p, "{\"content\":\"a\",\"text\":5,\"url\":\"%s\"}\n", id);
    id[398] = 'j';
    p += sprintf(p, "{\"content\":\"b\",\"url\":\"%s\"}\n", id);
    o.text_field = "content";
    o.id_field = "url";
    assert_ok(ingest_text(*state, "in.x", text, (size_t)(p - text), &o, &r, &err), &err);
    assert_ok(whole_read(*state, "web", &w, &err), &err);
    assert_int_equal(w.documents[0].id_len, MX_DOC_ID_MAX);
    assert_memory_equal(w.documents[0].id, id, MX_DOC_ID_MAX - 17);
    assert_int_equal(w.documents[0].id[MX_DOC_ID_MAX - 17], '~');
    assert_string_not_equal(w.documents[0].id, w.documents[1].id);
    whole_free(&w);
    o.id_field = "content";
    assert_int_equal(ingest_text(*state, "in.x", text, 5, &o, &r, &err), MX_EINVALID);
}

static void test_text_and_append(void **state)
{
    struct mx_ingest_options o = ingest_options("prose", MX_FORMAT_AUTO);
    struct mx_ingest_result r;
    struct mx_err err;
    struct whole w;

    assert_ok(ingest_text(*state, "in.txt", "one\r\ntwo\xff\n", 10, &o, &r, &err), &err);
    assert_ok(ingest_text(*state, "in.txt", "more", 4, &o, &r, &err), &err);
    assert_int_equal(r.domain.shards, 2);
    assert_int_equal(r.total.shards, 1);
    assert_ok(whole_read(*state, "prose", &w, &err), &err);
    assert_int_equal(w.n, 11 + 5);
    assert_tokens(&w, 0, "one\r\ntwo\xff\n");
    assert_int_equal(w.tokens[10], 256);
    assert_tokens(&w, 11, "more");
    assert_int_equal(w.n_documents, 2);
    assert_int_equal(w.documents[0].source_line, 0);
    whole_free(&w);
    assert_clean(*state, 2);
}

static void test_tokens(void **state)
{
    static const uint16_t narrow[] = {5, 6, 0, 7, 0, 0, 65535};
    static const uint32_t wide[] = {100000, 3, 4};
    struct mx_ingest_options o = ingest_options("t16", MX_FORMAT_U16);
    struct mx_ingest_result r;
    struct mx_err err;
    struct whole w;

    o.eod = 0;
    o.tokenizer = "gpt2";
    assert_ok(ingest_text(*state, "in.bin", (const char *)narrow, sizeof narrow, &o, &r, &err),
              &err);
    assert_ok(whole_read(*state, "t16", &w, &err), &err);
    assert_int_equal(w.domain.level, MX_LEVEL_RAW);
    assert_int_equal(w.domain.eod, 0);
    assert_string_equal(w.domain.tokenizer, "gpt2");
    assert_int_equal(w.n, 7);
    assert_int_equal(w.tokens[6], 65535);
    assert_int_equal(w.n_documents, 4);
    assert_int_equal(w.documents[1].first_token, 3);
    assert_int_equal(w.documents[1].source_byte, 6);
    assert_int_equal(w.documents[2].first_token, 5);
    assert_int_equal(w.documents[3].first_token, 6);
    whole_free(&w);
    o = ingest_options("t32", MX_FORMAT_U32);
    assert_ok(ingest_text(*state, "in.bin", (const char *)wide, sizeof wide, &o, &r, &err), &err);
    assert_ok(whole_read(*state, "t32", &w, &err), &err);
    assert_int_equal(w.domain.width, 4);
    assert_int_equal(w.domain.eod, UINT32_MAX);
    assert_string_equal(w.domain.tokenizer, "tokens");
    assert_int_equal(w.tokens[0], 100000);
    assert_int_equal(w.n_documents, 1);
    whole_free(&w);
    assert_fails(ingest_text(*state, "in.bin", (const char *)wide, 7, &o, &r, &err), MX_EINVALID,
                 &err, "begins at byte 4");
    o = ingest_options("t16", MX_FORMAT_U32);
    assert_fails(ingest_text(*state, "in.bin", (const char *)wide, 8, &o, &r, &err), MX_EEXISTS,
                 &err, "2 bytes");
    o = ingest_options("t16", MX_FORMAT_U16);
    o.eod = 65536;
    assert_fails(ingest_text(*state, "in.bin", (const char *)wide, 8, &o, &r, &err), MX_EINVALID,
                 &err, "65536");
}

/* Documents of all sizes over many small shards: whole blocks but for the last shard, and every
 * token in its place. */
static void test_many_shards(void **state)
{
    struct dice d = {test_seed("many shards", 81)};
    size_t room = 3 << 20, n = 0, documents = 0;
    char *text = malloc(room + 1000);
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_JSONL);
    struct mx_ingest_result r;
    struct mx_err err;
    struct whole w;
    uint64_t k = 0, token = 0;

    assert_non_null(text);
    while (n < room - 400000) {
        size_t len = 1 + (size_t)below(&d, documents % 40 == 0 ? 300000 : 2000);
        n += (size_t)sprintf(text + n, "{\"id\":%zu,\"text\":\"", documents);
        for (size_t i = 0; i < len; i++) {
            text[n++] = (char)('a' + below(&d, 26));
        }
        n += (size_t)sprintf(text + n, "\"}\n");
        documents++;
    }
    o.shard_bytes = 300000;
    assert_ok(ingest_text(*state, "in.jsonl", text, n, &o, &r, &err), &err);
    assert_int_equal(r.total.documents, documents);
    assert_true(r.total.shards > 5);
    assert_ok(whole_read(*state, "web", &w, &err), &err);
    assert_int_equal(w.domain.source_bytes, n);
    assert_true(w.n_documents >= documents);
    for (uint64_t i = 0; i < w.n_documents; i++) {
        const struct mx_document *doc = &w.documents[i];
        uint64_t id = strtoull(doc->id, NULL, 10);
        if (i > 0 && id == k) {
            continue; /* goes on from the shard before */
        }
        assert_int_equal(id, i == 0 ? 0 : k + 1);
        k = id;
        {
            /* The text as it is in the file, from the document's origin. */
            const char *p = strstr(text + doc->source_byte, "\"text\":\"") + 8;
            assert_int_equal(doc->source_line, id + 1);
            assert_int_equal(doc->first_token, token);
            for (; *p != '"'; p++) {
                assert_int_equal(w.tokens[token++], (uint8_t)*p);
            }
            assert_int_equal(w.tokens[token++], 256);
        }
    }
    assert_int_equal(token, w.n);
    assert_int_equal(k + 1, documents);
    assert_clean(*state, w.domain.shards);
    whole_free(&w);
    free(text);
}

static void test_whole_blocks(void **state)
{
    char *text = malloc(1000000), *store = path_in(*state, "store");
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_TEXT);
    struct mx_ingest_result r;
    struct mx_shard_info i[8];
    struct mx_catalog *c;
    struct mx_err err;

    assert_non_null(text);
    memset(text, 'x', 1000000);
    o.shard_bytes = 400000; /* 200,000 tokens, so 4 blocks of 65,536 */
    assert_ok(ingest_text(*state, "in.txt", text, 1000000, &o, &r, &err), &err);
    assert_int_equal(r.domain.shards, 4);
    assert_ok(mx_catalog_open(store, false, &c, &err), &err);
    assert_ok(mx_catalog_shards(c, r.domain.id, 0, 4, i, &err), &err);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(i[k].tokens, 4 * MX_BLOCK_TOKENS);
        assert_int_equal(i[k].documents, 1);
    }
    assert_int_equal(i[3].tokens, 1000001 - 12 * MX_BLOCK_TOKENS);
    mx_catalog_close(c);
    free(text);
    free(store);
}

/* ---- malformed lines ---- */

/* n lines, of which every bad_every-th is malformed. */
static size_t make_lines(char *text, unsigned n, unsigned bad_every)
{
    char *p = text;

    for (unsigned i = 1; i <= n; i++) {
        p = stpcpy(p, i % bad_every == 0 ? "{\"text\":bad}\n" : "{\"text\":\"good\"}\n");
    }
    return (size_t)(p - text);
}

static void test_bad_lines(void **state)
{
    char *text = malloc(200000);
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_JSONL);
    struct mx_ingest_result r;
    struct told t = {0};
    struct mx_err err;
    size_t n;

    assert_non_null(text);
    o.bad_line = bad_cb;
    o.progress = progress_cb;
    o.arg = &t;
    n = make_lines(text, 5000, 1000);
    assert_ok(ingest_text(*state, "in.jsonl", text, n, &o, &r, &err), &err);
    assert_int_equal(r.total.bad_lines, 5);
    assert_int_equal(r.total.lines, 5000);
    assert_int_equal(r.total.documents, 4995);
    assert_int_equal(strncmp(t.text, "1000@15984:byte 8 of the line: a value should", 20), 0);
    assert_true(t.progress > 0);
    assert_int_equal(t.last_bytes, n);
    t.last_bytes = 0;
    /* One more is too many, and the first one is named. */
    n = make_lines(text, 5000, 833);
    assert_fails(ingest_text(*state, "in.jsonl", text, n, &o, &r, &err), MX_EINVALID, &err,
                 "in.jsonl: line 833, at byte 13312");
    assert_non_null(strstr(err.text, "6 of 5000 lines"));
    assert_non_null(strstr(err.text, "--bad-limit"));
    o.bad_limit = 0.5;
    t.last_bytes = 0;
    assert_ok(ingest_text(*state, "in.jsonl", text, n, &o, &r, &err), &err);
    assert_int_equal(r.domain.shards, 2);
    assert_clean(*state, 2);
    free(text);
}

static void test_gives_up_early(void **state)
{
    char *text = malloc(400000);
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_JSONL);
    struct mx_ingest_result r;
    struct mx_err err;
    size_t n = 0;

    assert_non_null(text);
    /* Over ten times the limit, but only after 1,000 lines is it judged. */
    n = make_lines(text, 20000, 10);
    assert_fails(ingest_text(*state, "in.jsonl", text, n, &o, &r, &err), MX_EINVALID, &err,
                 "of 1010 lines");
    o.bad_limit = 0.0;
    assert_fails(ingest_text(*state, "in.jsonl", text, n, &o, &r, &err), MX_EINVALID, &err,
                 "1 of 10 lines");
    /* Few lines: a single bad one is over a thousandth. */
    o.bad_limit = -1.0;
    n = make_lines(text, 20, 20);
    assert_fails(ingest_text(*state, "in.jsonl", text, n, &o, &r, &err), MX_EINVALID, &err,
                 "1 of 20 lines");
    assert_clean(*state, 0);
    free(text);
}

/* ---- refusals ---- */

static void test_refusals(void **state)
{
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_AUTO);
    struct mx_ingest_result r;
    struct mx_err err;
    enum mx_format f;

    assert_fails(ingest_text(*state, "in.gz", "x", 1, &o, &r, &err), MX_EINVALID, &err, "in.gz");
    assert_fails(ingest_text(*state, "in.jsonl", "", 0, &o, &r, &err), MX_EINVALID, &err,
                 "nothing to register");
    assert_fails(ingest_text(*state, "in.jsonl", "\n{\"text\":\"\"}\n", 13, &o, &r, &err),
                 MX_EINVALID, &err, "nothing to register");
    assert_fails(ingest_text(*state, "in.jsonl.zst", "plain", 5, &o, &r, &err), MX_EINVALID, &err,
                 "bad zstd frame");
    o.domain = "we b";
    assert_fails(ingest_text(*state, "in.txt", "x", 1, &o, &r, &err), MX_EINVALID, &err, "byte 2");
    o = ingest_options("web", MX_FORMAT_TEXT);
    o.tokenizer = "sentencepiece:x";
    assert_fails(ingest_text(*state, "in.txt", "x", 1, &o, &r, &err), MX_EINVALID, &err,
                 "sentencepiece:x");
    o = ingest_options("web", MX_FORMAT_TEXT);
    o.level = 77;
    assert_fails(ingest_text(*state, "in.txt", "x", 1, &o, &r, &err), MX_EINVALID, &err, "77");
    o.level = MX_LEVEL_DEFAULT;
    o.bad_limit = 1.5;
    assert_fails(ingest_text(*state, "in.txt", "x", 1, &o, &r, &err), MX_EINVALID, &err, "1.5");
    o.bad_limit = 0.0;
    assert_fails(mx_ingest(*state, NULL, 0, &o, &r, &err), MX_EINVALID, &err, "no files");
    assert_int_equal(mx_format_parse("jsonl.zst", &f, &err), 0);
    assert_int_equal(f, MX_FORMAT_JSONL_ZST);
    assert_fails(mx_format_parse("parquet", &f, &err), MX_EINVALID, &err, "u32");
    {
        char *missing = path_in(*state, "missing.txt"), *store = path_in(*state, "store");
        const char *files[1] = {missing};
        assert_fails(mx_ingest(store, files, 1, &o, &r, &err), MX_ENOTFOUND, &err, missing);
        free(missing);
        free(store);
    }
    assert_clean(*state, 0);
}

static void test_cancel(void **state)
{
    char *text = malloc(4000000);
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_TEXT);
    struct mx_ingest_result r;
    struct mx_err err;

    assert_non_null(text);
    memset(text, 'y', 4000000);
    o.shard_bytes = 1000000;
    o.cancelled = cancelled_cb;
    for (unsigned at = 1; at < 12; at += 5) {
        struct told t = {.cancel_at = at};
        o.arg = &t;
        assert_fails(ingest_text(*state, "in.txt", text, 4000000, &o, &r, &err), MX_ECANCELLED,
                     &err, "in.txt");
        assert_clean(*state, 0);
    }
    {
        struct told t = {0};
        o.arg = &t;
        assert_ok(ingest_text(*state, "in.txt", text, 4000000, &o, &r, &err), &err);
        assert_true(t.polls >= 4);
        assert_clean(*state, r.domain.shards);
    }
    free(text);
}

/* ---- compression ---- */

static void test_dictionary(void **state)
{
    char *text = malloc(1000000), *p = text, *store = path_in(*state, "store");
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_JSONL);
    struct mx_ingest_result r;
    struct mx_catalog *c;
    struct mx_err err;
    struct whole w;
    void *dictionary;
    size_t n;

    assert_non_null(text);
    for (unsigned i = 0; p < text + 900000; i++) {
        p += sprintf(p, "{\"text\":\"the %uth of the documents, which says %u times %u\"}\n", i,
                     i * 7919 % 1000, i * 104729 % 997);
    }
    o.dictionary_bytes = 4096;
    assert_fails(ingest_text(*state, "in.jsonl", text, 100, &o, &r, &err), MX_EINVALID, &err, "");
    assert_ok(ingest_text(*state, "in.jsonl", text, (size_t)(p - text), &o, &r, &err), &err);
    o.dictionary_bytes = 0;
    assert_ok(ingest_text(*state, "in2.jsonl", text, (size_t)(p - text), &o, &r, &err), &err);
    assert_ok(mx_catalog_open(store, false, &c, &err), &err);
    assert_ok(mx_catalog_dictionary(c, r.domain.id, &dictionary, &n, &err), &err);
    assert_true(n > 0 && n <= 4096);
    free(dictionary);
    mx_catalog_close(c);
    assert_ok(whole_read(*state, "web", &w, &err), &err);
    assert_int_equal(w.domain.shards, 2);
    assert_int_equal(w.n % 2, 0);
    assert_memory_equal(w.tokens, w.tokens + w.n / 2, w.n / 2 * sizeof *w.tokens);
    whole_free(&w);
    free(text);
    free(store);
}

static void test_jsonl_zst(void **state)
{
    static const char one[] = "{\"text\":\"first fr", two[] = "ame\"}\n{\"text\":\"b\"}\n";
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_AUTO);
    struct mx_ingest_result r;
    struct mx_zpacker *z;
    struct mx_err err;
    struct whole w;
    char frames[1000];
    size_t n, m;

    assert_ok(mx_zpacker_new(3, NULL, 0, &z, &err), &err);
    assert_ok(mx_zpacker_pack(z, one, sizeof one - 1, frames, 500, &n, &err), &err);
    assert_ok(mx_zpacker_pack(z, two, sizeof two - 1, frames + n, 500, &m, &err), &err);
    mx_zpacker_free(z);
    assert_ok(ingest_text(*state, "in.jsonl.zst", frames, n + m, &o, &r, &err), &err);
    assert_int_equal(r.total.bytes, n + m);
    assert_int_equal(r.total.source_bytes, sizeof one + sizeof two - 2);
    assert_ok(whole_read(*state, "web", &w, &err), &err);
    assert_tokens(&w, 0, "first frame");
    assert_int_equal(w.documents[1].source_byte, 23);
    whole_free(&w);
    /* Cut in the second frame: refused, though the first documents were fine. */
    assert_fails(ingest_text(*state, "in.jsonl.zst", frames, n + m - 3, &o, &r, &err), MX_EINVALID,
                 &err, "the file ends inside the zstd frame");
    assert_clean(*state, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_jsonl), TEST(test_fields_and_long_ids), TEST(test_text_and_append),
        TEST(test_tokens), TEST(test_many_shards), TEST(test_whole_blocks), TEST(test_bad_lines),
        TEST(test_gives_up_early), TEST(test_refusals), TEST(test_cancel), TEST(test_dictionary),
        TEST(test_jsonl_zst),
    };
    return cmocka_run_group_tests_name("store-ingest", tests, NULL, NULL);
}
