/* json_write.c - JSON out: a growing buffer with a ceiling and a sticky failure. See json.h.
 *
 * Always valid JSON: bytes that aren't UTF-8 become U+FFFD, numbers that aren't finite null. Knows
 * nothing of what is written. */
#include "proto/json.h"

#include "proto/json_scan.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

void mx_jsonw_init(struct mx_jsonw *w, size_t max)
{
    *w = (struct mx_jsonw){.max = max};
}

void mx_jsonw_fini(struct mx_jsonw *w)
{
    free(w->p);
    mx_jsonw_init(w, w->max);
}

static void put(struct mx_jsonw *w, const char *p, size_t n)
{
    if (w->failed || n > w->max - w->n) {
        w->failed = true;
        return;
    }
    if (w->n + n + 1 > w->cap) {
        size_t cap = w->cap < 256 ? 256 : w->cap;
        char *grown;

        while (cap < w->n + n + 1) {
            cap *= 2;
        }
        grown = realloc(w->p, cap);
        if (grown == NULL) {
            w->failed = true;
            return;
        }
        w->p = grown;
        w->cap = cap;
    }
    memcpy(w->p + w->n, p, n);
    w->n += n;
}

static void put_quoted(struct mx_jsonw *w, const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t i = 0;

    put(w, "\"", 1);
    while (i < n && !w->failed) {
        size_t plain = i;

        while (i < n && p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' && p[i] != '\\') {
            i++;
        }
        put(w, s + plain, i - plain);
        if (i == n) {
            break;
        }
        if (p[i] == '"' || p[i] == '\\') {
            char two[2] = {'\\', (char)p[i++]};
            put(w, two, 2);
        } else if (p[i] == '\n') {
            put(w, "\\n", 2);
            i++;
        } else if (p[i] == '\t') {
            put(w, "\\t", 2);
            i++;
        } else if (p[i] < 0x20 || p[i] == 0x7f) {
            char six[8];
            (void)snprintf(six, sizeof six, "\\u%04x", p[i++]);
            put(w, six, 6);
        } else {
            size_t len = mx_json_utf8(p + i, n - i);
            put(w, len > 0 ? s + i : "\xef\xbf\xbd", len > 0 ? len : 3);
            i += len > 0 ? len : 1;
        }
    }
    put(w, "\"", 1);
}

/* The comma and the key before a value. */
static void begin(struct mx_jsonw *w, const char *key)
{
    if (w->comma) {
        put(w, ",", 1);
    }
    w->comma = true;
    if (key != NULL) {
        put_quoted(w, key, strlen(key));
        put(w, ":", 1);
    }
}

static void open_container(struct mx_jsonw *w, const char *key, const char *bracket)
{
    begin(w, key);
    put(w, bracket, 1);
    w->depth++;
    w->comma = false;
}

static void close_container(struct mx_jsonw *w, const char *bracket)
{
    MX_REQUIRE(w->depth > 0);
    put(w, bracket, 1);
    w->depth--;
    w->comma = true;
}

void mx_jsonw_object(struct mx_jsonw *w, const char *key)
{
    open_container(w, key, "{");
}

void mx_jsonw_array(struct mx_jsonw *w, const char *key)
{
    open_container(w, key, "[");
}

void mx_jsonw_end_object(struct mx_jsonw *w)
{
    close_container(w, "}");
}

void mx_jsonw_end_array(struct mx_jsonw *w)
{
    close_container(w, "]");
}

static void put_text(struct mx_jsonw *w, const char *key, const char *text)
{
    begin(w, key);
    put(w, text, strlen(text));
}

void mx_jsonw_u64(struct mx_jsonw *w, const char *key, uint64_t v)
{
    char buf[24];

    (void)snprintf(buf, sizeof buf, "%" PRIu64, v);
    put_text(w, key, buf);
}

void mx_jsonw_i64(struct mx_jsonw *w, const char *key, int64_t v)
{
    char buf[24];

    (void)snprintf(buf, sizeof buf, "%" PRId64, v);
    put_text(w, key, buf);
}

void mx_jsonw_double(struct mx_jsonw *w, const char *key, double v)
{
    char buf[40];

    if (!isfinite(v)) {
        mx_jsonw_null(w, key);
        return;
    }
    /* The shortest of these that reads back as the same number. */
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(buf, sizeof buf, "%.*g", digits, v);
        if (strtod(buf, NULL) == v) {
            break;
        }
    }
    put_text(w, key, buf);
}

void mx_jsonw_bool(struct mx_jsonw *w, const char *key, bool v)
{
    put_text(w, key, v ? "true" : "false");
}

void mx_jsonw_null(struct mx_jsonw *w, const char *key)
{
    put_text(w, key, "null");
}

void mx_jsonw_string_n(struct mx_jsonw *w, const char *key, const char *s, size_t n)
{
    begin(w, key);
    put_quoted(w, s, n);
}

void mx_jsonw_string(struct mx_jsonw *w, const char *key, const char *s)
{
    mx_jsonw_string_n(w, key, s, strlen(s));
}

void mx_jsonw_raw(struct mx_jsonw *w, const char *key, const char *json)
{
    if (json == NULL || json[0] == '\0') {
        w->failed = true;
        return;
    }
    put_text(w, key, json);
}

char *mx_jsonw_take(struct mx_jsonw *w, size_t *ret_n)
{
    char *p = w->p;

    if (w->failed || w->depth > 0 || p == NULL) {
        mx_jsonw_fini(w);
        return NULL;
    }
    p[w->n] = '\0';
    if (ret_n != NULL) {
        *ret_n = w->n;
    }
    mx_jsonw_init(w, w->max);
    return p;
}
