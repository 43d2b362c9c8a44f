/* fuzz_jsonl.c - any line: refused with a reason, or a text and an id that are what they promise.
 *
 * Properties: memory outside of line and scratch isn't touched (the sanitizer sees); an accepted
 * text is UTF-8 and no longer than the line; what was accepted, written as JSON again, is accepted
 * and gives the same text. */
#include "store/jsonl.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mx_span span_of(const char *s)
{
    return (struct mx_span){.p = (const uint8_t *)s, .n = strlen(s)};
}

static int scan(const uint8_t *line, size_t n, uint8_t *scratch, struct mx_jsonl_record *ret,
                struct mx_err *err)
{
    struct mx_jsonl_keys keys = {.text = span_of("text"), .id = span_of("id")};

    return mx_jsonl_scan(line, n, &keys, scratch, ret, err);
}

/* A decoder of UTF-8 that shares nothing with the scanner's: characters, then their ranges. */
static void require_utf8(struct mx_span s)
{
    size_t at = 0;

    while (at < s.n) {
        uint32_t c = s.p[at++];
        unsigned more = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : 9;
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        MX_REQUIRE(more <= 3 && more <= s.n - at);
        c = more == 0 ? c : c & (0x3fu >> more);
        for (unsigned i = 0; i < more; i++, at++) {
            MX_REQUIRE((s.p[at] & 0xc0) == 0x80);
            c = c << 6 | (s.p[at] & 0x3fu);
        }
        MX_REQUIRE(c >= least[more] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff));
    }
}

/* The text with its ASCII escaped, so that the other path of the scanner is taken. */
static void write_again(struct mx_span text)
{
    uint8_t *line = malloc(text.n * 6 + 16), *scratch, *p = line;
    struct mx_jsonl_record r;
    struct mx_err err;

    MX_REQUIRE(line != NULL);
    memcpy(p, "{\"text\":\"", 9);
    p += 9;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < 0x80) {
            p += sprintf((char *)p, "\\u%04x", text.p[i]);
        } else {
            *p++ = text.p[i];
        }
    }
    memcpy(p, "\"}", 2);
    p += 2;
    scratch = malloc((size_t)(p - line));
    MX_REQUIRE(scratch != NULL);
    MX_REQUIRE(scan(line, (size_t)(p - line), scratch, &r, &err) == 0);
    MX_REQUIRE(r.text.n == text.n && (text.n == 0 || memcmp(r.text.p, text.p, text.n) == 0));
    MX_REQUIRE(r.id.n == 0);
    free(scratch);
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *scratch = malloc(size > 0 ? size : 1);
    struct mx_jsonl_record r;
    struct mx_err err = {0, ""};
    int rc;

    MX_REQUIRE(scratch != NULL);
    rc = scan(data, size, scratch, &r, &err);
    if (rc != 0) {
        MX_REQUIRE(rc == MX_EINVALID && err.code == rc && strstr(err.text, "byte ") != NULL);
    } else {
        MX_REQUIRE(r.text.n + r.id.n <= size);
        require_utf8(r.text);
        require_utf8(r.id);
        write_again(r.text);
    }
    (void)mx_jsonl_blank((struct mx_span){.p = data, .n = size});
    free(scratch);
    return 0;
}
