/* fuzz_json.c - any bytes as JSON: refused with a line, or a tree whose every value has a place and
 * that reads the same when it is written and parsed again. */
#include "proto/json.h"
#include "proto/limits.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VALUES_PLACED 64 /* finding a place reads the text up to it */

struct walk {
    const struct mx_json_doc *doc;
    struct mx_jsonw w;
    unsigned values;
};

static void visit(struct walk *k, const mx_json *v, bool member)
{
    const char *key = member ? mx_json_key(v) : NULL;
    struct mx_err err;

    if (k->values++ < VALUES_PLACED) {
        MX_REQUIRE(mx_json_fail(k->doc, v, &err, "here") == MX_EINVALID);
        MX_REQUIRE(strncmp(err.text, "fuzz:", 5) == 0 && err.text[5] >= '1' && err.text[5] <= '9');
    }
    if (mx_json_is_object(v) || mx_json_is_array(v)) {
        bool object = mx_json_is_object(v);

        (object ? mx_jsonw_object : mx_jsonw_array)(&k->w, key);
        for (const mx_json *c = mx_json_first(v); c != NULL; c = mx_json_next(c)) {
            MX_REQUIRE(!object || mx_json_get(v, mx_json_key(c)) == c);
            visit(k, c, object);
        }
        (object ? mx_jsonw_end_object : mx_jsonw_end_array)(&k->w);
    } else if (mx_json_is_string(v)) {
        mx_jsonw_string(&k->w, key, mx_json_string(v));
    } else if (mx_json_is_number(v)) {
        MX_REQUIRE(isfinite(mx_json_number(v)));
        mx_jsonw_double(&k->w, key, mx_json_number(v));
    } else if (mx_json_is_bool(v)) {
        mx_jsonw_bool(&k->w, key, mx_json_true(v));
    } else {
        MX_REQUIRE(mx_json_is_null(v));
        mx_jsonw_null(&k->w, key);
    }
}

static char *written(const struct mx_json_doc *d, size_t *ret_n)
{
    struct walk k = {.doc = d};
    char *text;

    mx_jsonw_init(&k.w, 8u << 20);
    visit(&k, mx_json_root(d), false);
    text = mx_jsonw_take(&k.w, ret_n);
    MX_REQUIRE(text != NULL);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mx_json_doc *d, *again;
    struct mx_err err;
    char *a, *b;
    size_t n, m;

    if (mx_json_parse("fuzz", (const char *)data, size, &d, &err) < 0) {
        MX_REQUIRE(strncmp(err.text, "fuzz:", 5) == 0);
        return 0;
    }
    a = written(d, &n);
    if (n <= MX_JSON_MAX) { /* escapes may have made it longer */
        MX_REQUIRE(mx_json_parse("fuzz", a, n, &again, &err) == 0);
        b = written(again, &m);
        MX_REQUIRE(n == m && memcmp(a, b, n) == 0);
        free(b);
        mx_json_free(again);
    }
    free(a);
    mx_json_free(d);
    return 0;
}
