/* test_source.c - lines and bytes of files as they come: ends of lines, compression, damage. */
#include "check.h"

#include "store/source.h"
#include "store/zcodec.h"

#include <unistd.h>

/* All lines of a file as "number@byte[text] ". */
static int lines_of(const char *path, enum mx_source_kind kind, char *ret, size_t room,
                    struct mx_err *err)
{
    struct mx_source *s;
    struct mx_line l;
    size_t n = 0;
    int rc = mx_source_open(path, kind, NULL, NULL, &s, err);

    ret[0] = '\0';
    if (rc != 0) {
        return rc;
    }
    while ((rc = mx_source_line(s, &l, err)) == 1) {
        n += (size_t)snprintf(ret + n, room - n, "%d@%d%s[%.*s] ", (int)l.number, (int)l.byte,
                              l.too_long ? "!" : "", (int)l.text.n, (const char *)l.text.p);
    }
    mx_source_close(s);
    return rc;
}

static void test_lines(void **state)
{
    static const struct {
        const char *in, *want;
    } cases[] = {
        {"", ""},
        {"a", "1@0[a] "},
        {"a\n", "1@0[a] "},
        {"a\nb", "1@0[a] 2@2[b] "},
        {"a\r\nb\r\n", "1@0[a] 2@3[b] "},
        {"\n\na\n", "1@0[] 2@1[] 3@2[a] "},
        {"\xef\xbb\xbf" "a\n\xef\xbb\xbf" "b\n", "1@0[a] 2@5[\xef\xbb\xbf" "b] "},
        {"\xef\xbb\xbf", "1@0[] "},
        {"a\rb\n", "1@0[a\rb] "},
        {"\r\n\r", "1@0[] 2@2[] "},
    };
    char *path = path_in(*state, "in"), got[512];
    struct mx_err err;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(path, cases[i].in, strlen(cases[i].in));
        assert_ok(lines_of(path, MX_SOURCE_TEXT, got, sizeof got, &err), &err);
        assert_string_equal(got, cases[i].want);
    }
    free(path);
}

/* Lines of all lengths around the buffer's, and the places that are said of them. */
static void test_many_lines(void **state)
{
    struct dice d = {test_seed("many lines", 71)};
    char *path = path_in(*state, "in");
    size_t room = 4 << 20, n = 0, k = 0;
    char *text = malloc(room);
    struct mx_source *s;
    struct mx_line l;
    struct mx_err err;
    size_t starts[500], ends[500];
    int rc;

    assert_non_null(text);
    while (k < 500 && n < room - 700000) {
        size_t len = k % 50 == 0 ? (size_t)below(&d, 600000) : (size_t)below(&d, 3000);
        starts[k] = n;
        memset(text + n, 'a' + (int)(k % 26), len);
        n += len;
        ends[k++] = n;
        text[n++] = '\n';
    }
    write_file(path, text, n);
    assert_ok(mx_source_open(path, MX_SOURCE_TEXT, NULL, NULL, &s, &err), &err);
    for (size_t i = 0; i < k; i++) {
        rc = mx_source_line(s, &l, &err);
        assert_int_equal(rc, 1);
        assert_int_equal(l.number, i + 1);
        assert_int_equal(l.byte, starts[i]);
        assert_int_equal(l.text.n, ends[i] - starts[i]);
        assert_memory_equal(l.text.p, text + starts[i], l.text.n);
    }
    assert_int_equal(mx_source_line(s, &l, &err), 0);
    assert_int_equal(mx_source_line(s, &l, &err), 0);
    assert_int_equal(mx_source_disk_bytes(s), n);
    assert_int_equal(mx_source_stream_bytes(s), n);
    mx_source_close(s);
    free(text);
    free(path);
}

/* A line over the limit is passed over, and the next one is where it should be. */
static void test_too_long(void **state)
{
    char *path = path_in(*state, "in");
    struct mx_source *s;
    struct mx_line l;
    struct mx_err err;
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_true(fputs("first\n", f) >= 0);
    assert_int_equal(fflush(f), 0);
    /* A hole of zero bytes: long, and costs nothing. */
    assert_int_equal(fseek(f, (long)MX_LINE_MAX + 1 + 6, SEEK_SET), 0);
    assert_true(fputs("\nlast", f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_ok(mx_source_open(path, MX_SOURCE_TEXT, NULL, NULL, &s, &err), &err);
    assert_int_equal(mx_source_line(s, &l, &err), 1);
    assert_int_equal(mx_source_line(s, &l, &err), 1);
    assert_true(l.too_long);
    assert_int_equal(l.text.n, 0);
    assert_int_equal(l.byte, 6);
    assert_int_equal(mx_source_line(s, &l, &err), 1);
    assert_false(l.too_long);
    assert_int_equal(l.number, 3);
    assert_int_equal(l.byte, 6 + MX_LINE_MAX + 2);
    assert_int_equal(l.text.n, 4);
    assert_int_equal(mx_source_line(s, &l, &err), 0);
    mx_source_close(s);
    free(path);
}

static void test_units(void **state)
{
    char *path = path_in(*state, "in");
    struct mx_source *s;
    struct mx_span part;
    struct mx_err err;
    uint8_t bytes[11] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    uint64_t at;

    write_file(path, bytes, 11);
    assert_ok(mx_source_open(path, MX_SOURCE_BINARY, NULL, NULL, &s, &err), &err);
    assert_int_equal(mx_source_bytes(s, 4, &part, &at, &err), 1);
    assert_int_equal(part.n, 8);
    assert_int_equal(at, 0);
    assert_memory_equal(part.p, bytes, 8);
    assert_fails(mx_source_bytes(s, 4, &part, &at, &err), MX_EINVALID, &err, "byte 8");
    mx_source_close(s);
    write_file(path, bytes, 0);
    assert_ok(mx_source_open(path, MX_SOURCE_BINARY, NULL, NULL, &s, &err), &err);
    assert_int_equal(mx_source_bytes(s, 2, &part, &at, &err), 0);
    mx_source_close(s);
    free(path);
}

/* ---- zstd ---- */

static size_t add_frame(uint8_t *to, size_t room, const char *text)
{
    struct mx_zpacker *z;
    struct mx_err err;
    size_t n;

    assert_ok(mx_zpacker_new(3, NULL, 0, &z, &err), &err);
    assert_ok(mx_zpacker_pack(z, text, strlen(text), to, room, &n, &err), &err);
    mx_zpacker_free(z);
    return n;
}

static size_t add_skippable(uint8_t *to, uint32_t n)
{
    mx_store_u32(to, 0x184D2A53u);
    mx_store_u32(to + 4, n);
    memset(to + 8, 's', n);
    return 8 + n;
}

static void test_frames(void **state)
{
    char *path = path_in(*state, "in.zst"), got[512];
    uint8_t z[4096];
    size_t n = 0, first, second;
    struct mx_err err;

    n += add_skippable(z + n, 5);
    first = n;
    n += add_frame(z + n, 1000, "one\ntw");
    second = n;
    n += add_frame(z + n, 1000, "");
    n += add_skippable(z + n, 0);
    n += add_frame(z + n, 1000, "o\nthree");
    write_file(path, z, n);
    assert_ok(lines_of(path, MX_SOURCE_ZSTD, got, sizeof got, &err), &err);
    assert_string_equal(got, "1@0[one] 2@4[two] 3@8[three] ");
    /* Cut at any byte: only the ends of frames are ends of files. */
    for (size_t cut = 1; cut < n; cut++) {
        char where[64];
        int rc;
        write_file(path, z, cut);
        rc = lines_of(path, MX_SOURCE_ZSTD, got, sizeof got, &err);
        if (cut > first && cut < second) {
            (void)snprintf(where, sizeof where, "starts at byte %zu", first);
            assert_fails(rc, MX_EINVALID, &err, where);
            (void)snprintf(where, sizeof where, "compressed byte %zu", cut);
            assert_fails(rc, MX_EINVALID, &err, where);
        }
    }
    free(path);
}

static void test_bad_zstd(void **state)
{
    char *path = path_in(*state, "in.zst"), got[512];
    /* A frame that wants a window of 2^31 bytes. */
    static const uint8_t wide[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00};
    uint8_t z[4096];
    size_t n;
    struct mx_err err;

    write_file(path, "{\"text\":\"not compressed at all\"}\n", 33);
    assert_fails(lines_of(path, MX_SOURCE_ZSTD, got, sizeof got, &err), MX_EINVALID, &err, path);
    write_file(path, wide, sizeof wide);
    assert_fails(lines_of(path, MX_SOURCE_ZSTD, got, sizeof got, &err), MX_EINVALID, &err,
                 "too much memory");
    n = add_frame(z, 1000, "some text that is long enough to be changed");
    memcpy(z + n, "garbage after the frame", 23);
    write_file(path, z, n + 23);
    assert_fails(lines_of(path, MX_SOURCE_ZSTD, got, sizeof got, &err), MX_EINVALID, &err,
                 "bad zstd frame");
    z[n / 2] ^= 0x10;
    write_file(path, z, n);
    assert_fails(lines_of(path, MX_SOURCE_ZSTD, got, sizeof got, &err), MX_EINVALID, &err, path);
    write_file(path, z, 0);
    assert_ok(lines_of(path, MX_SOURCE_ZSTD, got, sizeof got, &err), &err);
    assert_string_equal(got, "");
    free(path);
}

static void test_refused(void **state)
{
    char *path = path_in(*state, "in"), got[64];
    uint8_t z[1000];
    size_t n = add_frame(z, sizeof z, "text");
    struct mx_err err;

    write_file(path, z, n);
    assert_fails(lines_of(path, MX_SOURCE_TEXT, got, sizeof got, &err), MX_EINVALID, &err, "zstd");
    write_file(path, "\x1f\x8b\x08 and so on", 12);
    assert_fails(lines_of(path, MX_SOURCE_TEXT, got, sizeof got, &err), MX_EINVALID, &err, "gzip");
    assert_fails(lines_of(*state, MX_SOURCE_TEXT, got, sizeof got, &err), MX_EINVALID, &err,
                 "folder");
    assert_int_equal(unlink(path), 0);
    assert_fails(lines_of(path, MX_SOURCE_TEXT, got, sizeof got, &err), MX_ENOTFOUND, &err, path);
    free(path);
}

/* What a dictionary and blocks claim is checked before anything is made of it. */
static void test_unpack_claims(void **state)
{
    static uint8_t zeros[1 << 20], frame[1 << 16], out[1 << 20];
    struct mx_zpacker *p;
    struct mx_zunpacker *u;
    struct mx_err err;
    size_t n;

    (void)state;
    assert_ok(mx_zpacker_new(3, NULL, 0, &p, &err), &err);
    assert_ok(mx_zunpacker_new(&u, &err), &err);
    assert_ok(mx_zpacker_pack(p, zeros, sizeof zeros, frame, sizeof frame, &n, &err), &err);
    memset(out, 1, sizeof out);
    assert_null(mx_zunpack(u, NULL, frame, n, out, sizeof out));
    assert_memory_equal(out, zeros, sizeof out);
    memset(out, 1, sizeof out);
    assert_non_null(mx_zunpack(u, NULL, frame, n, out, 4096));
    assert_int_equal(out[0], 1);
    assert_non_null(mx_zunpack(u, NULL, frame, n - 1, out, sizeof out));
    assert_non_null(mx_zunpack(u, NULL, frame, 0, out, sizeof out));
    frame[n] = 0;
    assert_non_null(mx_zunpack(u, NULL, frame, n + 1, out, sizeof out));
    mx_zpacker_free(p);
    mx_zunpacker_free(u);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_lines), TEST(test_many_lines), TEST(test_too_long), TEST(test_units),
        TEST(test_frames), TEST(test_bad_zstd), TEST(test_refused), TEST(test_unpack_claims),
    };
    return cmocka_run_group_tests_name("store-source", tests, NULL, NULL);
}
