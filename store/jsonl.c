/* jsonl.c - see jsonl.h. A cursor that stops at the first wrong byte, and says why. */
#include "store/jsonl.h"

#include "proto/limits.h"

#include <string.h>

struct scan {
    const uint8_t *start, *p, *end;
    uint8_t *out; /* scratch not used yet */
    const char *why; /* sticky; NULL while all is well */
    uint64_t objects[MX_JSONL_DEPTH_MAX / 64]; /* a bit a level: object or array */
    unsigned depth;
};

static bool fail(struct scan *s, const char *why)
{
    if (s->why == NULL) {
        s->why = why;
    }
    return false;
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\r' || *s->p == '\n')) {
        s->p++;
    }
}

static int peek(const struct scan *s)
{
    return s->p < s->end ? *s->p : -1;
}

static bool expect(struct scan *s, uint8_t c, const char *why)
{
    if (peek(s) != c) {
        return fail(s, why);
    }
    s->p++;
    return true;
}

/* ---- strings ---- */

/* Bytes from p on that are plain: ASCII, no quote, backslash or control character. */
static size_t plain_run(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *q = p;
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;

    while (end - q >= 8) {
        uint64_t x, quote, slash;
        memcpy(&x, q, sizeof x);
        quote = x ^ ones * '"';
        slash = x ^ ones * '\\';
        if (((x | (x - ones * 0x20) | (quote - ones) | (slash - ones)) & tops) != 0) {
            break;
        }
        q += 8;
    }
    while (q < end && *q >= 0x20 && *q < 0x80 && *q != '"' && *q != '\\') {
        q++;
    }
    return (size_t)(q - p);
}

/* The length of the UTF-8 sequence at p that begins with a byte >= 0x80, or 0 if it is wrong. */
static size_t utf8_sequence(const uint8_t *p, const uint8_t *end)
{
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    uint8_t low = 0x80, high = 0xbf;

    if (p[0] < 0xc2 || p[0] > 0xf4 || (size_t)(end - p) < n) {
        return 0;
    }
    switch (p[0]) {
    case 0xe0: low = 0xa0; break;  /* overlong */
    case 0xed: high = 0x9f; break; /* surrogates */
    case 0xf0: low = 0x90; break;  /* overlong */
    case 0xf4: high = 0x8f; break; /* over U+10FFFF */
    default: break;
    }
    for (size_t i = 1; i < n; i++) {
        if (p[i] < low || p[i] > high) {
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return n;
}

static bool hex4(struct scan *s, uint32_t *ret)
{
    uint32_t v = 0;

    for (int i = 0; i < 4; i++) {
        int c = peek(s);
        uint32_t digit;
        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f' && c > 0) {
            digit = (uint32_t)((c | 0x20) - 'a') + 10;
        } else {
            return fail(s, "a \\u needs four hexadecimal digits");
        }
        v = v << 4 | digit;
        s->p++;
    }
    *ret = v;
    return true;
}

static uint8_t *put_utf8(uint8_t *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (uint8_t)c;
    } else if (c < 0x800) {
        *to++ = (uint8_t)(0xc0 | c >> 6);
        *to++ = (uint8_t)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *to++ = (uint8_t)(0xe0 | c >> 12);
        *to++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        *to++ = (uint8_t)(0x80 | (c & 0x3f));
    } else {
        *to++ = (uint8_t)(0xf0 | c >> 18);
        *to++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
        *to++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        *to++ = (uint8_t)(0x80 | (c & 0x3f));
    }
    return to;
}

/* After "\u": a character, from one escape or from a pair of surrogates. */
static bool unicode_escape(struct scan *s, uint32_t *ret)
{
    const uint8_t *at = s->p;
    uint32_t c, low;

    if (!hex4(s, &c)) {
        return false;
    }
    if (c >= 0xd800 && c < 0xdc00) {
        if (s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u') {
            s->p = at;
            return fail(s, "half of a surrogate pair");
        }
        s->p += 2;
        if (!hex4(s, &low)) {
            return false;
        }
        if (low < 0xdc00 || low > 0xdfff) {
            s->p = at;
            return fail(s, "half of a surrogate pair");
        }
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c <= 0xdfff) {
        s->p = at;
        return fail(s, "half of a surrogate pair");
    }
    *ret = c;
    return true;
}

/* After the backslash; appends the character at *to. */
static bool escape(struct scan *s, uint8_t **to)
{
    uint32_t c;

    switch (peek(s)) {
    case '"': c = '"'; break;
    case '\\': c = '\\'; break;
    case '/': c = '/'; break;
    case 'b': c = '\b'; break;
    case 'f': c = '\f'; break;
    case 'n': c = '\n'; break;
    case 'r': c = '\r'; break;
    case 't': c = '\t'; break;
    case 'u': c = UINT32_MAX; break;
    default: return fail(s, "an unknown escape");
    }
    s->p++;
    if (c == UINT32_MAX && !unicode_escape(s, &c)) {
        return false;
    }
    *to = put_utf8(*to, c);
    return true;
}

/* A string whose first quote is at p. *ret is in the line if it has no escapes, else at the start
 * of the unused scratch, which stays unused: the caller moves s->out on to keep it. An escape is
 * never shorter than what it stands for, so the scratch suffices. */
static bool string(struct scan *s, struct mx_span *ret)
{
    const uint8_t *from;
    uint8_t *to = s->out;
    bool copied = false;

    if (!expect(s, '"', "a string should begin here")) {
        return false;
    }
    from = s->p;
    for (;;) {
        size_t n = plain_run(s->p, s->end);
        if (copied) {
            memmove(to, s->p, n);
            to += n;
        }
        s->p += n;
        if (s->p == s->end) {
            return fail(s, "the line ends inside a string");
        }
        if (*s->p == '"') {
            break;
        }
        if (*s->p == '\\') {
            if (!copied) {
                memmove(to, from, (size_t)(s->p - from));
                to += s->p - from;
                copied = true;
            }
            s->p++;
            if (!escape(s, &to)) {
                return false;
            }
            continue;
        }
        n = *s->p >= 0x80 ? utf8_sequence(s->p, s->end) : 0;
        if (n == 0) {
            return fail(s, *s->p < 0x20 ? "a control character inside a string"
                                        : "bytes that aren't UTF-8");
        }
        if (copied) {
            memmove(to, s->p, n);
            to += n;
        }
        s->p += n;
    }
    *ret = copied ? (struct mx_span){.p = s->out, .n = (size_t)(to - s->out)}
                  : (struct mx_span){.p = from, .n = (size_t)(s->p - from)};
    s->p++;
    return true;
}

/* ---- numbers and words ---- */

static bool digits(struct scan *s)
{
    const uint8_t *at = s->p;

    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        s->p++;
    }
    return s->p > at ? true : fail(s, "a number needs a digit here");
}

static bool number(struct scan *s)
{
    if (peek(s) == '-') {
        s->p++;
    }
    if (peek(s) == '0') {
        s->p++;
        if (peek(s) >= '0' && peek(s) <= '9') {
            return fail(s, "a number can't begin with 0 and go on");
        }
    } else if (!digits(s)) {
        return false;
    }
    if (peek(s) == '.') {
        s->p++;
        if (!digits(s)) {
            return false;
        }
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->p++;
        if (peek(s) == '+' || peek(s) == '-') {
            s->p++;
        }
        return digits(s);
    }
    return true;
}

static bool word(struct scan *s, const char *w)
{
    size_t n = strlen(w);

    if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n) != 0) {
        return fail(s, "a value should be here");
    }
    s->p += n;
    return true;
}

/* ---- nesting ---- */

static bool push(struct scan *s, bool object)
{
    uint64_t bit = (uint64_t)1 << (s->depth % 64);

    if (s->depth == MX_JSONL_DEPTH_MAX) {
        return fail(s, "nested too deeply");
    }
    if (object) {
        s->objects[s->depth / 64] |= bit;
    } else {
        s->objects[s->depth / 64] &= ~bit;
    }
    s->depth++;
    return true;
}

static bool in_object(const struct scan *s)
{
    return (s->objects[(s->depth - 1) / 64] >> ((s->depth - 1) % 64) & 1) != 0;
}

/* "key": and the space around it. */
static bool key(struct scan *s, struct mx_span *ret)
{
    skip_space(s);
    if (!string(s, ret)) {
        return false;
    }
    skip_space(s);
    if (!expect(s, ':', "a ':' should be here")) {
        return false;
    }
    skip_space(s);
    return true;
}

/* One value that isn't an object or array with something in it: those are opened. *ret_done is
 * false if a value must follow. */
static bool open_value(struct scan *s, bool *ret_done)
{
    struct mx_span unused;
    int c = peek(s);

    *ret_done = true;
    switch (c) {
    case '"': return string(s, &unused);
    case 't': return word(s, "true");
    case 'f': return word(s, "false");
    case 'n': return word(s, "null");
    case '{':
    case '[':
        if (!push(s, c == '{')) {
            return false;
        }
        s->p++;
        skip_space(s);
        if (peek(s) == (c == '{' ? '}' : ']')) {
            s->p++;
            s->depth--;
            return true;
        }
        *ret_done = false;
        return c == '{' ? key(s, &unused) : true;
    default:
        return c == '-' || (c >= '0' && c <= '9') ? number(s) : fail(s, "a value should be here");
    }
}

/* After a value, inside what was opened since depth `base`: closes what ends here. *ret_done is
 * false if another value follows. */
static bool close_values(struct scan *s, unsigned base, bool *ret_done)
{
    struct mx_span unused;

    *ret_done = true;
    while (s->depth > base) {
        bool object = in_object(s);
        skip_space(s);
        if (peek(s) == ',') {
            s->p++;
            skip_space(s);
            *ret_done = false;
            return object ? key(s, &unused) : true;
        }
        if (peek(s) != (object ? '}' : ']')) {
            return fail(s, object ? "a ',' or '}' should be here" : "a ',' or ']' should be here");
        }
        s->p++;
        s->depth--;
    }
    return true;
}

/* Any value, checked and passed over. */
static bool skip_value(struct scan *s)
{
    unsigned base = s->depth;
    bool done = false;

    while (!done) {
        if (!open_value(s, &done)) {
            return false;
        }
        if (done && !close_values(s, base, &done)) {
            return false;
        }
    }
    return true;
}

/* ---- the line ---- */

static bool same(struct mx_span a, struct mx_span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* A string that is kept. */
static bool take_string(struct scan *s, struct mx_span *ret)
{
    if (!string(s, ret)) {
        return false;
    }
    if (ret->p == s->out) {
        s->out += ret->n;
    }
    return true;
}

static bool take_id(struct scan *s, struct mx_span *ret)
{
    const uint8_t *at = s->p;
    int c = peek(s);

    if (c == '"') {
        return take_string(s, ret);
    }
    if (!skip_value(s)) {
        return false;
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
        *ret = (struct mx_span){.p = at, .n = (size_t)(s->p - at)};
    }
    return true;
}

struct found {
    bool text, id;
};

/* One member of the line's object. */
static bool member(struct scan *s, const struct mx_jsonl_keys *keys, struct found *f,
                   struct mx_jsonl_record *ret)
{
    const uint8_t *at;
    struct mx_span name;
    bool text, id;

    skip_space(s);
    at = s->p;
    if (!key(s, &name)) {
        return false;
    }
    text = same(name, keys->text);
    id = keys->id.n > 0 && same(name, keys->id);
    if ((text && f->text) || (id && f->id)) {
        s->p = at;
        return fail(s, "this key comes a second time");
    }
    f->text = f->text || text;
    f->id = f->id || id;
    if (text) {
        return peek(s) == '"' ? take_string(s, &ret->text) : fail(s, "the text is no string");
    }
    return id ? take_id(s, &ret->id) : skip_value(s);
}

static bool object(struct scan *s, const struct mx_jsonl_keys *keys, struct mx_jsonl_record *ret)
{
    struct found f = {false, false};

    skip_space(s);
    if (!expect(s, '{', "an object should begin here") || !push(s, true)) {
        return false;
    }
    skip_space(s);
    if (peek(s) == '}') {
        s->p++;
    } else {
        do {
            if (!member(s, keys, &f, ret)) {
                return false;
            }
            skip_space(s);
        } while (peek(s) == ',' && s->p++ < s->end);
        if (!expect(s, '}', "a ',' or '}' should be here")) {
            return false;
        }
    }
    skip_space(s);
    if (s->p < s->end) {
        return fail(s, "something follows the object");
    }
    return f.text ? true : fail(s, "the object has no text");
}

int mx_jsonl_scan(const uint8_t *line, size_t n, const struct mx_jsonl_keys *keys,
                  uint8_t *scratch, struct mx_jsonl_record *ret, struct mx_err *err)
{
    struct scan s = {.start = line, .p = line, .end = line + n, .out = scratch};
    struct mx_jsonl_record r = {{NULL, 0}, {NULL, 0}};

    if (!object(&s, keys, &r)) {
        return mx_fail(err, MX_EINVALID, "byte %zu of the line: %s (the text's key is '%.*s')",
                       (size_t)(s.p - s.start), s.why, (int)keys->text.n,
                       (const char *)keys->text.p);
    }
    *ret = r;
    return 0;
}

bool mx_jsonl_blank(struct mx_span line)
{
    for (size_t i = 0; i < line.n; i++) {
        if (line.p[i] != ' ' && line.p[i] != '\t' && line.p[i] != '\r') {
            return false;
        }
    }
    return true;
}
