/* json_scan.c - a recursive walk over JSON text, as deep as limits.h allows. See json_scan.h.
 *
 * Stricter than cJSON where cJSON is lax: UTF-8, control characters, "\u0000", lone surrogates, the
 * form of numbers, bytes after the end. Knows nothing of trees. */
#include "proto/json_scan.h"

#include "proto/limits.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* cJSON reads at most this many characters of a number. */
#define NUMBER_CHARS_MAX 63u
_Static_assert(MX_JSON_DEPTH_MAX == 16, "the text of the refusal names the depth");

struct scan {
    const char *name;
    size_t first_line;
    const unsigned char *text;
    size_t n, at;
    uint64_t count, target; /* values begun so far; the one that is looked for */
    struct mx_json_place place;
    bool found;
    struct mx_err *err;
};

size_t mx_json_line(const char *text, size_t at)
{
    size_t line = 1;

    for (size_t i = 0; i < at; i++) {
        line += text[i] == '\n';
    }
    return line;
}

/* Fails at byte `at` with what is wrong and what stands there. */
static int refuse(struct scan *s, size_t at, const char *what)
{
    size_t line = s->first_line - 1 + mx_json_line((const char *)s->text, at);
    size_t column = 1;
    char found[32];

    while (column <= at && s->text[at - column] != '\n') {
        column++;
    }
    if (at >= s->n) {
        (void)snprintf(found, sizeof found, "the end");
    } else if (s->text[at] > 0x20 && s->text[at] < 0x7f) {
        (void)snprintf(found, sizeof found, "'%c'", s->text[at]);
    } else {
        (void)snprintf(found, sizeof found, "byte 0x%02x", s->text[at]);
    }
    return mx_fail(s->err, MX_EINVALID, "%s:%zu: column %zu: %s, found %s", s->name, line, column,
                   what, found);
}

static int peek(const struct scan *s)
{
    return s->at < s->n ? s->text[s->at] : -1;
}

static void skip_space(struct scan *s)
{
    while (s->at < s->n && (s->text[s->at] == ' ' || s->text[s->at] == '\t' ||
                            s->text[s->at] == '\n' || s->text[s->at] == '\r')) {
        s->at++;
    }
}

size_t mx_json_utf8(const unsigned char *p, size_t n)
{
    size_t len = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

    if (p[0] < 0x80) {
        return 1;
    }
    if (len == 0 || len > n) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    /* Overlong forms, surrogates, beyond U+10FFFF. */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) {
        return 0;
    }
    return len;
}

/* The four hexadecimal digits at byte `at`, or -1. */
static long hex4(const struct scan *s, size_t at)
{
    long v = 0;

    if (at + 4 > s->n) {
        return -1;
    }
    for (size_t i = at; i < at + 4; i++) {
        int c = s->text[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) {
            return -1;
        }
        v = v * 16 + d;
    }
    return v;
}

/* After a backslash at s->at. */
static int scan_escape(struct scan *s)
{
    size_t at = s->at;
    long v;

    s->at++;
    if (peek(s) < 0 || strchr("\"\\/bfnrtu", peek(s)) == NULL || peek(s) == 0) {
        return refuse(s, s->at, "expected one of \" \\ / b f n r t u after a backslash");
    }
    if (s->text[s->at++] != 'u') {
        return 0;
    }
    v = hex4(s, s->at);
    if (v < 0) {
        return refuse(s, s->at, "expected four hexadecimal digits after \\u");
    }
    s->at += 4;
    if (v == 0) {
        return refuse(s, at, "\\u0000 is not allowed in a string");
    }
    if (v >= 0xd800 && v <= 0xdbff) {
        long low = s->at + 2 <= s->n && s->text[s->at] == '\\' && s->text[s->at + 1] == 'u'
                       ? hex4(s, s->at + 2)
                       : -1;
        if (low < 0xdc00 || low > 0xdfff) {
            return refuse(s, at, "half of a surrogate pair");
        }
        s->at += 6;
    } else if (v >= 0xdc00 && v <= 0xdfff) {
        return refuse(s, at, "half of a surrogate pair");
    }
    return 0;
}

static int scan_string(struct scan *s)
{
    size_t open = s->at++;

    for (;;) {
        int c = peek(s);
        size_t len;

        if (c < 0) {
            return refuse(s, open, "a string without an end");
        }
        if (c == '"') {
            s->at++;
            return 0;
        }
        if (c < 0x20) {
            return refuse(s, s->at, "a control character in a string must be escaped");
        }
        if (c == '\\') {
            int rc = scan_escape(s);
            if (rc < 0) {
                return rc;
            }
            continue;
        }
        len = mx_json_utf8(s->text + s->at, s->n - s->at);
        if (len == 0) {
            return refuse(s, s->at, "a string that isn't UTF-8");
        }
        s->at += len;
    }
}

static size_t digits(struct scan *s)
{
    size_t from = s->at;

    while (peek(s) >= '0' && peek(s) <= '9') {
        s->at++;
    }
    return s->at - from;
}

static int scan_number(struct scan *s)
{
    size_t from = s->at;
    char copy[NUMBER_CHARS_MAX + 1];

    if (peek(s) == '-') {
        s->at++;
    }
    if (peek(s) == '0') {
        s->at++;
        if (peek(s) >= '0' && peek(s) <= '9') {
            return refuse(s, from, "a number must not begin with a zero");
        }
    } else if (digits(s) == 0) {
        return refuse(s, s->at, "expected a digit");
    }
    if (peek(s) == '.') {
        s->at++;
        if (digits(s) == 0) {
            return refuse(s, s->at, "expected a digit after the decimal point");
        }
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-') {
            s->at++;
        }
        if (digits(s) == 0) {
            return refuse(s, s->at, "expected a digit in the exponent");
        }
    }
    if (s->at - from > NUMBER_CHARS_MAX) {
        return refuse(s, from, "a number longer than 63 characters");
    }
    memcpy(copy, s->text + from, s->at - from);
    copy[s->at - from] = '\0';
    if (!isfinite(strtod(copy, NULL))) {
        return refuse(s, from, "a number too large to be held");
    }
    return 0;
}

static int scan_word(struct scan *s, const char *word)
{
    size_t n = strlen(word);

    if (s->n - s->at < n || memcmp(s->text + s->at, word, n) != 0) {
        return refuse(s, s->at, "expected a value");
    }
    s->at += n;
    return 0;
}

static int scan_value(struct scan *s, size_t key, unsigned depth);

/* The children of an object or array whose opening bracket is at s->at. */
static int scan_container(struct scan *s, unsigned depth)
{
    bool object = s->text[s->at] == '{';
    int close = object ? '}' : ']';
    int rc;

    if (depth == MX_JSON_DEPTH_MAX) {
        return refuse(s, s->at, "nested deeper than 16 levels");
    }
    s->at++;
    skip_space(s);
    if (peek(s) == close) {
        s->at++;
        return 0;
    }
    for (;;) {
        size_t key = s->at;

        if (object) {
            if (peek(s) != '"') {
                return refuse(s, s->at, "expected a key in quotes");
            }
            rc = scan_string(s);
            if (rc < 0) {
                return rc;
            }
            skip_space(s);
            if (peek(s) != ':') {
                return refuse(s, s->at, "expected ':' after a key");
            }
            s->at++;
            skip_space(s);
        }
        rc = scan_value(s, key, depth + 1);
        if (rc < 0 || s->found) {
            return rc;
        }
        skip_space(s);
        if (peek(s) == close) {
            s->at++;
            return 0;
        }
        if (peek(s) != ',') {
            return refuse(s, s->at, object ? "expected ',' or '}'" : "expected ',' or ']'");
        }
        s->at++;
        skip_space(s);
    }
}

static int scan_value(struct scan *s, size_t key, unsigned depth)
{
    bool wanted = s->count++ == s->target;
    size_t from = s->at;
    int c = peek(s);
    int rc;

    if (wanted && (c == '{' || c == '[')) {
        rc = 0; /* what it holds isn't of interest */
    } else if (c == '{' || c == '[') {
        rc = scan_container(s, depth);
    } else if (c == '"') {
        rc = scan_string(s);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        rc = scan_number(s);
    } else if (c == 't') {
        rc = scan_word(s, "true");
    } else if (c == 'f') {
        rc = scan_word(s, "false");
    } else if (c == 'n') {
        rc = scan_word(s, "null");
    } else {
        rc = refuse(s, s->at, "expected a value");
    }
    if (rc == 0 && wanted) {
        s->place = (struct mx_json_place){.key = key, .value = from, .end = s->at};
        s->found = true;
    }
    return rc;
}

int mx_json_scan(const char *name, size_t line, const char *text, size_t n, uint64_t target,
                 struct mx_json_place *ret, struct mx_err *err)
{
    struct scan s = {
        .name = name, .first_line = line, .text = (const unsigned char *)text, .n = n,
        .target = target, .err = err};
    int rc;

    skip_space(&s);
    rc = scan_value(&s, s.at, 0);
    if (rc < 0) {
        return rc;
    }
    if (s.found) {
        *ret = s.place;
        return 0;
    }
    skip_space(&s);
    if (s.at < s.n) {
        return refuse(&s, s.at, "expected nothing more after the document");
    }
    if (target != MX_JSON_ALL) {
        return mx_fail(err, MX_ENOTFOUND, "%s: it has no value number %llu", name,
                       (unsigned long long)target);
    }
    return 0;
}
