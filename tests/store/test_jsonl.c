/* test_jsonl.c - lines that are right, lines that are wrong, and every beginning of each. */
#include "check.h"

#include "store/jsonl.h"

#include <sys/mman.h>
#include <unistd.h>

struct line {
    const char *in;
    const char *text; /* NULL: malformed */
    const char *id;   /* of a good line; of a bad one: what the error says */
    size_t text_n;    /* 0: as long as the string is */
};

#define GOOD(in, text, id) {in, text, id, 0}
#define BAD(in, why) {in, NULL, why, 0}

static const struct line lines[] = {
    GOOD("{\"text\":\"hello\"}", "hello", ""),
    GOOD("{\"text\": \"a b\", \"id\": \"x1\"}", "a b", "x1"),
    GOOD("{\"id\": 9007199254740993, \"text\": \"t\"}", "t", "9007199254740993"),
    GOOD("{\"id\": 18446744073709551615, \"text\": \"t\"}", "t", "18446744073709551615"),
    GOOD("{\"id\": -1.5e+300, \"text\": \"t\"}", "t", "-1.5e+300"),
    GOOD("{\"id\": null, \"text\": \"t\"}", "t", ""),
    GOOD("{\"id\": true, \"text\": \"t\"}", "t", ""),
    GOOD("{\"id\": [1, 2], \"text\": \"t\"}", "t", ""),
    GOOD("{\"id\": {\"id\": \"inner\"}, \"text\": \"t\"}", "t", ""),
    GOOD("{\"id\": \"\", \"text\": \"\"}", "", ""),
    GOOD(" \t{ \"text\" : \"spaces\" } \t", "spaces", ""),
    GOOD("{\"text\":\"tab\\tnew\\nquote\\\"back\\\\slash\\/\\b\\f\\r\"}",
         "tab\tnew\nquote\"back\\slash/\b\f\r", ""),
    GOOD("{\"text\":\"\\u0041\\u00e9\\u20ac\\uD83D\\uDE00\"}",
         "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", ""),
    GOOD("{\"text\":\"\\ud83d\\ude00 lower\"}", "\xf0\x9f\x98\x80 lower", ""),
    {"{\"text\":\"a\\u0000b\"}", "a\0b", "", 3},
    {"{\"text\":\"\\u0000\"}", "\0", "", 1},
    GOOD("{\"text\":\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xef\xbf\xbf\"}",
         "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xef\xbf\xbf", ""),
    GOOD("{\"text\":\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"}",
         "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", ""),
    GOOD("{\"text\":\"long enough for words of eight bytes, then \\u00e9 and on and on\"}",
         "long enough for words of eight bytes, then \xc3\xa9 and on and on", ""),
    GOOD("{\"text\":\"\x7f\"}", "\x7f", ""),
    GOOD("{\"te\\u0078t\":\"escaped key\"}", "escaped key", ""),
    GOOD("{\"text\":\"t\",\"\\u0069d\":\"escaped\\u0021\"}", "t", "escaped!"),
    GOOD("{\"TEXT\":1,\"Text\":2,\"text\":\"case matters\"}", "case matters", ""),
    GOOD("{\"meta\":{\"text\":\"inner\",\"a\":[1,{\"b\":[]},\"c\"]},\"text\":\"outer\"}", "outer",
         ""),
    GOOD("{\"a\":[],\"b\":{},\"c\":[[[]]],\"text\":\"t\"}", "t", ""),
    GOOD("{\"a\":true,\"b\":false,\"c\":null,\"text\":\"t\"}", "t", ""),
    GOOD("{\"a\":0,\"b\":-0,\"c\":0.5,\"d\":1e9,\"e\":1E-9,\"f\":-10.25e+0,\"text\":\"t\"}", "t",
         ""),
    GOOD("{\"a\":1e999,\"text\":\"t\"}", "t", ""),
    GOOD("{\"a\":1,\"a\":2,\"text\":\"other keys may repeat\"}", "other keys may repeat", ""),
    GOOD("{\"\":1,\"text\":\"t\"}", "t", ""),
    GOOD("{\"a\":[1 , 2 ,\t3],\"text\":\"t\"}", "t", ""),
    GOOD("{\"id\":\"first\\\\\",\"text\":\"both \\\"escaped\\\"\"}", "both \"escaped\"", "first\\"),

    BAD("{}", "has no text"),
    BAD("{\"id\":\"x\"}", "has no text"),
    BAD("{\"meta\":{\"text\":\"t\"}}", "has no text"),
    BAD("{\"text\":5}", "no string"),
    BAD("{\"text\":null}", "no string"),
    BAD("{\"text\":[\"t\"]}", "no string"),
    BAD("{\"text\":{\"text\":\"t\"}}", "no string"),
    BAD("{\"text\":\"a\",\"text\":\"b\"}", "second time"),
    BAD("{\"text\":\"a\",\"te\\u0078t\":\"b\"}", "second time"),
    BAD("{\"id\":1,\"text\":\"a\",\"id\":1}", "second time"),
    BAD("[\"text\"]", "object should begin"),
    BAD("\"text\"", "object should begin"),
    BAD("null", "object should begin"),
    BAD("text", "object should begin"),
    BAD("", "object should begin"),
    BAD("\xef\xbb\xbf{\"text\":\"a BOM in the middle of a file\"}", "object should begin"),
    BAD("{\"text\":\"a\"}{\"text\":\"b\"}", "follows"),
    BAD("{\"text\":\"a\"},", "follows"),
    BAD("{\"text\":\"a\"} x", "follows"),
    BAD("{\"text\":\"a\",}", "string should begin"),
    BAD("{,\"text\":\"a\"}", "string should begin"),
    BAD("{text:\"a\"}", "string should begin"),
    BAD("{'text':'a'}", "string should begin"),
    BAD("{\"text\" \"a\"}", "':'"),
    BAD("{\"text\":\"a\" \"b\":1}", "'}'"),
    BAD("{\"text\":\"a\"", "'}'"),
    BAD("{\"text\":\"a", "inside a string"),
    BAD("{\"text\":\"a\\", "escape"),
    BAD("{\"text\":\"a\\x41\"}", "escape"),
    BAD("{\"text\":\"a\\u12\"}", "hexadecimal"),
    BAD("{\"text\":\"a\\u12g4\"}", "hexadecimal"),
    BAD("{\"text\":\"\\ud83d\"}", "surrogate"),
    BAD("{\"text\":\"\\ud83d\\n\"}", "surrogate"),
    BAD("{\"text\":\"\\ud83dx\"}", "surrogate"),
    BAD("{\"text\":\"\\ud83d\\u0041\"}", "surrogate"),
    BAD("{\"text\":\"\\ud83d\\ud83d\"}", "surrogate"),
    BAD("{\"text\":\"\\ude00\"}", "surrogate"),
    BAD("{\"text\":\"\\ud83d\\u00\"}", "hexadecimal"),
    BAD("{\"text\":\"tab\there\"}", "control"),
    BAD("{\"text\":\"line\nhere\"}", "control"),
    BAD("{\"text\":\"\x80\"}", "UTF-8"),
    BAD("{\"text\":\"\xff\"}", "UTF-8"),
    BAD("{\"text\":\"\xc0\xaf\"}", "UTF-8"),
    BAD("{\"text\":\"\xc1\xbf\"}", "UTF-8"),
    BAD("{\"text\":\"\xe0\x9f\xbf\"}", "UTF-8"),
    BAD("{\"text\":\"\xed\xa0\x80\"}", "UTF-8"),
    BAD("{\"text\":\"\xf0\x8f\xbf\xbf\"}", "UTF-8"),
    BAD("{\"text\":\"\xf4\x90\x80\x80\"}", "UTF-8"),
    BAD("{\"text\":\"\xf5\x80\x80\x80\"}", "UTF-8"),
    BAD("{\"text\":\"\xe2\x82\"}", "UTF-8"),
    BAD("{\"text\":\"caf\xe9 in latin-1\"}", "UTF-8"),
    BAD("{\"a\":\"\xff\",\"text\":\"t\"}", "UTF-8"),
    BAD("{\"\xff\":1,\"text\":\"t\"}", "UTF-8"),
    BAD("{\"a\":01,\"text\":\"t\"}", "0"),
    BAD("{\"a\":-,\"text\":\"t\"}", "digit"),
    BAD("{\"a\":1.,\"text\":\"t\"}", "digit"),
    BAD("{\"a\":1e,\"text\":\"t\"}", "digit"),
    BAD("{\"a\":.5,\"text\":\"t\"}", "value"),
    BAD("{\"a\":+1,\"text\":\"t\"}", "value"),
    BAD("{\"a\":0x10,\"text\":\"t\"}", "'}'"),
    BAD("{\"a\":NaN,\"text\":\"t\"}", "value"),
    BAD("{\"a\":Infinity,\"text\":\"t\"}", "value"),
    BAD("{\"a\":tru,\"text\":\"t\"}", "value"),
    BAD("{\"a\":nulll,\"text\":\"t\"}", "'}'"),
    BAD("{\"a\":,\"text\":\"t\"}", "value"),
    BAD("{\"a\":[1,],\"text\":\"t\"}", "value"),
    BAD("{\"a\":[1 2],\"text\":\"t\"}", "']'"),
    BAD("{\"a\":[1},\"text\":\"t\"}", "']'"),
    BAD("{\"a\":{\"b\":1],\"text\":\"t\"}", "'}'"),
    BAD("{\"a\":{\"b\"},\"text\":\"t\"}", "':'"),
    BAD("{\"a\":{1:2},\"text\":\"t\"}", "string should begin"),
    BAD("{\"id\":01,\"text\":\"t\"}", "0"),
    BAD("{\"text\":\"t\" /* no */}", "'}'"),
};

#define N_LINES (sizeof lines / sizeof *lines)

static struct mx_span span_of(const char *s)
{
    return (struct mx_span){.p = (const uint8_t *)s, .n = strlen(s)};
}

/* Line and scratch each end at a page that must not be touched, so a byte too far is a crash. */
struct guarded {
    uint8_t *map;
    uint8_t *p;
    size_t bytes;
};

static struct guarded guard(const void *p, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct guarded g = {.bytes = (n + page - 1) / page * page + page};

    g.map = mmap(NULL, g.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + g.bytes - page, page, PROT_NONE), 0);
    g.p = g.map + g.bytes - page - n;
    if (p != NULL && n > 0) {
        memcpy(g.p, p, n);
    }
    return g;
}

static int scan(const char *in, size_t n, struct mx_jsonl_record *r, struct guarded *line,
                struct guarded *scratch, struct mx_err *err)
{
    struct mx_jsonl_keys keys = {.text = span_of("text"), .id = span_of("id")};

    *line = guard(in, n);
    *scratch = guard(NULL, n);
    return mx_jsonl_scan(line->p, n, &keys, scratch->p, r, err);
}

static void drop(struct guarded *a, struct guarded *b)
{
    (void)munmap(a->map, a->bytes);
    (void)munmap(b->map, b->bytes);
}

static void test_table(void **state)
{
    (void)state;
    assert_true(N_LINES >= 60);
    for (size_t i = 0; i < N_LINES; i++) {
        const struct line *l = &lines[i];
        struct mx_jsonl_record r;
        struct guarded line, scratch;
        struct mx_err err = {0, ""};
        int rc = scan(l->in, strlen(l->in), &r, &line, &scratch, &err);
        if (l->text == NULL) {
            if (rc != MX_EINVALID || strstr(err.text, l->id) == NULL) {
                fail_msg("'%s': %d '%s', wanted '%s'", l->in, rc, err.text, l->id);
            }
        } else {
            size_t n = l->text_n > 0 ? l->text_n : strlen(l->text);
            if (rc != 0) {
                fail_msg("'%s': %d '%s'", l->in, rc, err.text);
            }
            assert_int_equal(r.text.n, n);
            assert_true(n == 0 || memcmp(r.text.p, l->text, n) == 0);
            assert_int_equal(r.id.n, strlen(l->id));
            assert_true(r.id.n == 0 || memcmp(r.id.p, l->id, r.id.n) == 0);
        }
        drop(&line, &scratch);
    }
}

/* No beginning of a line is a line: an object ends with its last byte (but for space after it). */
static void test_prefixes(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_LINES; i++) {
        const char *in = lines[i].in;
        const char *end = strrchr(in, '}');
        for (size_t n = 0; n < strlen(in); n++) {
            struct mx_jsonl_record r;
            struct guarded line, scratch;
            struct mx_err err;
            int rc = scan(in, n, &r, &line, &scratch, &err);
            if (lines[i].text != NULL && (end == NULL || n <= (size_t)(end - in))) {
                assert_int_equal(rc, MX_EINVALID);
            }
            drop(&line, &scratch);
        }
    }
}

static void test_error_place(void **state)
{
    struct mx_jsonl_record r;
    struct guarded line, scratch;
    struct mx_err err;

    (void)state;
    assert_int_equal(scan("{\"text\":\"ab\xff\"}", 13, &r, &line, &scratch, &err), MX_EINVALID);
    assert_non_null(strstr(err.text, "byte 11 of the line"));
    drop(&line, &scratch);
    assert_int_equal(scan("{\"text\":\"\\ud800\"}", 17, &r, &line, &scratch, &err), MX_EINVALID);
    assert_non_null(strstr(err.text, "byte 11 of the line"));
    drop(&line, &scratch);
}

static void nest(size_t depth, bool object, int want)
{
    const char *open = object ? "{\"a\":" : "[", *close = object ? "}" : "]";
    size_t room = depth * 6 + 64;
    char *text = malloc(room), *p = text;
    struct mx_jsonl_record r;
    struct guarded line, scratch;
    struct mx_err err;

    assert_non_null(text);
    p = stpcpy(p, "{\"text\":\"t\",\"a\":");
    for (size_t i = 0; i < depth; i++) {
        p = stpcpy(p, open);
    }
    p = stpcpy(p, "1");
    for (size_t i = 0; i < depth; i++) {
        p = stpcpy(p, close);
    }
    p = stpcpy(p, "}");
    assert_int_equal(scan(text, (size_t)(p - text), &r, &line, &scratch, &err), want);
    if (want != 0) {
        assert_non_null(strstr(err.text, "too deeply"));
    }
    drop(&line, &scratch);
    free(text);
}

static void test_depth(void **state)
{
    (void)state;
    for (int object = 0; object < 2; object++) {
        nest(10, object != 0, 0);
        nest(70, object != 0, 0);
        nest(MX_JSONL_DEPTH_MAX - 1, object != 0, 0);
        nest(MX_JSONL_DEPTH_MAX, object != 0, MX_EINVALID);
        nest(100000, object != 0, MX_EINVALID);
    }
}

/* Any text, escaped at random, comes back as it was. */
static void test_random_round_trip(void **state)
{
    struct dice d = {test_seed("jsonl round trip", 41)};

    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        char line[4096], *p = stpcpy(line, "{\"id\":7,\"text\":\"");
        char want[1024], *w = want;
        size_t n = (size_t)below(&d, 200);
        struct mx_jsonl_record r;
        struct guarded a, b;
        struct mx_err err;
        for (size_t i = 0; i < n; i++) {
            char c = (char)below(&d, 128);
            if (below(&d, 4) == 0 || c < 0x20 || c == '"' || c == '\\') {
                p += sprintf(p, "\\u%04x", (unsigned)c);
                *w++ = c;
            } else if (below(&d, 9) == 0) {
                p = stpcpy(p, "\xe2\x82\xac");
                w = stpcpy(w, "\xe2\x82\xac");
            } else {
                *p++ = c;
                *w++ = c;
            }
        }
        p = stpcpy(p, "\",\"z\":[]}");
        assert_ok(scan(line, (size_t)(p - line), &r, &a, &b, &err), &err);
        assert_int_equal(r.text.n, w - want);
        assert_true(r.text.n == 0 || memcmp(r.text.p, want, r.text.n) == 0);
        drop(&a, &b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),       cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_error_place), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_random_round_trip),
    };
    return cmocka_run_group_tests_name("store-jsonl", tests, NULL, NULL);
}
