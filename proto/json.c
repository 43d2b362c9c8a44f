/* json.c - the only file that knows cJSON: strict parsing, typed members, errors with lines.
 *
 * json_scan.c has accepted a text before cJSON sees it, so cJSON only builds the tree. A tree has
 * no places; the line of a value is found when an error needs it, by its number in order of
 * appearance, which is the same in the tree and in the text. cJSON_Parse writes a global that holds
 * its last error, which nothing here reads: parse on one thread, or accept that benign write. */
#include "proto/json.h"

#include "proto/json_scan.h"
#include "proto/limits.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#define INTEGER_MAX ((uint64_t)1 << 53) /* doubles hold every integer up to here */
#define PATH_CHARS 256

struct mx_json_doc {
    char *name;
    size_t line; /* number of the text's first line */
    char *text;
    size_t n;
    cJSON *root;
};

void mx_json_free(struct mx_json_doc *d)
{
    if (d != NULL) {
        cJSON_Delete(d->root);
        free(d->text);
        free(d->name);
        free(d);
    }
}

const mx_json *mx_json_root(const struct mx_json_doc *d)
{
    return d->root;
}

/* ---- places ---- */

/* A step down the tree: which child of its parent. */
struct step {
    const cJSON *node;
    size_t index;
};

/* Finds `at` in order of appearance: its number, and the steps that lead to it. False if the value
 * isn't of this document. */
static bool find_node(const cJSON *root, const cJSON *at, uint64_t *ret_number, struct step *path,
                      size_t *ret_depth)
{
    const cJSON *node = root;
    size_t depth = 0;
    size_t index = 0;
    uint64_t number = 0;

    for (;;) {
        path[depth] = (struct step){node, index};
        if (node == at) {
            *ret_number = number;
            *ret_depth = depth;
            return true;
        }
        number++;
        if (node->child != NULL) {
            MX_REQUIRE(depth < MX_JSON_DEPTH_MAX);
            depth++;
            node = node->child;
            index = 0;
            continue;
        }
        while (depth > 0 && path[depth].node->next == NULL) {
            depth--;
        }
        if (depth == 0) {
            return false;
        }
        node = path[depth].node->next;
        index = path[depth].index + 1;
    }
}

/* "a.b[3].c"; a path too long for buf is cut. */
static void format_path(const struct step *path, size_t depth, char *buf, size_t n)
{
    size_t at = 0;

    buf[0] = '\0';
    for (size_t i = 1; i <= depth && at < n; i++) {
        const char *key = path[i].node->string;
        int k = key != NULL ? snprintf(buf + at, n - at, "%s%s", i > 1 ? "." : "", key)
                            : snprintf(buf + at, n - at, "[%zu]", path[i].index);
        at += k > 0 ? (size_t)k : 0;
    }
}

int mx_json_fail(const struct mx_json_doc *d, const mx_json *at, struct mx_err *err,
                 const char *fmt, ...)
{
    struct step path[MX_JSON_DEPTH_MAX + 1];
    struct mx_json_place place = {0};
    char key[PATH_CHARS];
    char text[sizeof err->text];
    uint64_t number;
    size_t depth;
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (at == NULL || !find_node(d->root, at, &number, path, &depth) ||
        mx_json_scan(d->name, d->line, d->text, d->n, number, &place, NULL) < 0) {
        return mx_fail(err, MX_EINVALID, "%s: %s", d->name, text);
    }
    if (depth == 0) {
        return mx_fail(err, MX_EINVALID, "%s:%zu: %s", d->name,
                       d->line - 1 + mx_json_line(d->text, place.key), text);
    }
    format_path(path, depth, key, sizeof key);
    return mx_fail(err, MX_EINVALID, "%s:%zu: key '%s': %s", d->name,
                   d->line - 1 + mx_json_line(d->text, place.key), key, text);
}

/* ---- parsing ---- */

struct member {
    const cJSON *node;
    size_t index;
};

static int member_cmp(const void *a, const void *b)
{
    const struct member *x = a;
    const struct member *y = b;
    int c = strcmp(x->node->string, y->node->string);

    return c != 0 ? c : (x->index > y->index) - (x->index < y->index);
}

/* Refuses an object, here or deeper, that has a key twice. Recursion is bounded by the scan. */
static int check_unique(const struct mx_json_doc *d, const cJSON *v, struct mx_err *err)
{
    struct member *m;
    size_t n = 0;
    int rc = 0;

    for (const cJSON *c = v->child; c != NULL && rc == 0; c = c->next, n++) {
        rc = check_unique(d, c, err);
    }
    if (rc < 0 || !cJSON_IsObject(v) || n < 2) {
        return rc;
    }
    m = malloc(n * sizeof *m);
    if (m == NULL) {
        return mx_fail(err, MX_ENOMEM, "%s: no memory for an object of %zu keys", d->name, n);
    }
    n = 0;
    for (const cJSON *c = v->child; c != NULL; c = c->next, n++) {
        m[n] = (struct member){c, n};
    }
    qsort(m, n, sizeof *m, member_cmp);
    for (size_t i = 1; i < n && rc == 0; i++) {
        if (strcmp(m[i - 1].node->string, m[i].node->string) == 0) {
            rc = mx_json_fail(d, m[i].node, err, "this key stands twice in one object");
        }
    }
    free(m);
    return rc;
}

int mx_json_parse(const char *name, const char *text, size_t n, struct mx_json_doc **ret,
                  struct mx_err *err)
{
    return n <= MX_JSON_MAX ? mx_json_parse_line(name, 1, text, n, MX_JSON_MAX, ret, err)
                            : mx_fail(err, MX_EINVALID, "%s: %zu bytes, at most %u are read", name,
                                      n, MX_JSON_MAX);
}

int mx_json_parse_line(const char *name, size_t line, const char *text, size_t n, size_t max,
                       struct mx_json_doc **ret, struct mx_err *err)
{
    struct mx_json_doc *d;
    int rc;

    if (n > max) {
        return mx_fail(err, MX_EINVALID, "%s:%zu: %zu bytes, at most %zu are read", name, line, n,
                       max);
    }
    rc = mx_json_scan(name, line, text, n, MX_JSON_ALL, NULL, err);
    if (rc < 0) {
        return rc;
    }
    d = calloc(1, sizeof *d);
    if (d == NULL || (d->name = strdup(name)) == NULL || (d->text = malloc(n + 1)) == NULL) {
        rc = mx_fail(err, MX_ENOMEM, "%s: no memory for %zu bytes of JSON", name, n);
        goto free_doc;
    }
    d->line = line;
    memcpy(d->text, text, n);
    d->text[n] = '\0';
    d->n = n;
    d->root = cJSON_ParseWithLengthOpts(d->text, n + 1, NULL, 1);
    if (d->root == NULL) {
        rc = mx_fail(err, MX_ENOMEM, "%s: no memory for the tree of %zu bytes of JSON", name, n);
        goto free_doc;
    }
    rc = check_unique(d, d->root, err);
    if (rc < 0) {
        goto free_doc;
    }
    *ret = d;
    return 0;

free_doc:
    mx_json_free(d);
    return rc;
}

/* ---- values ---- */

const mx_json *mx_json_get(const mx_json *object, const char *key)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

bool mx_json_is_object(const mx_json *v)
{
    return cJSON_IsObject(v);
}

bool mx_json_is_array(const mx_json *v)
{
    return cJSON_IsArray(v);
}

bool mx_json_is_string(const mx_json *v)
{
    return cJSON_IsString(v);
}

bool mx_json_is_number(const mx_json *v)
{
    return cJSON_IsNumber(v);
}

bool mx_json_is_bool(const mx_json *v)
{
    return cJSON_IsBool(v);
}

bool mx_json_is_null(const mx_json *v)
{
    return cJSON_IsNull(v);
}

const char *mx_json_key(const mx_json *v)
{
    return v != NULL && v->string != NULL ? v->string : "";
}

const char *mx_json_string(const mx_json *v)
{
    return cJSON_IsString(v) ? v->valuestring : "";
}

double mx_json_number(const mx_json *v)
{
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

bool mx_json_true(const mx_json *v)
{
    return cJSON_IsTrue(v);
}

const mx_json *mx_json_first(const mx_json *v)
{
    return v != NULL ? v->child : NULL;
}

const mx_json *mx_json_next(const mx_json *v)
{
    return v->next;
}

uint32_t mx_json_count(const mx_json *v)
{
    uint32_t n = 0;

    for (const mx_json *c = mx_json_first(v); c != NULL; c = c->next) {
        n++;
    }
    return n;
}

int mx_json_known_keys(const struct mx_json_doc *d, const mx_json *o, const char *const *keys,
                       struct mx_err *err)
{
    for (const mx_json *c = mx_json_first(o); c != NULL; c = c->next) {
        char list[512] = "";
        size_t at = 0;
        size_t i = 0;

        while (keys[i] != NULL && strcmp(keys[i], mx_json_key(c)) != 0) {
            i++;
        }
        if (keys[i] != NULL) {
            continue;
        }
        for (i = 0; keys[i] != NULL && at < sizeof list; i++) {
            int k = snprintf(list + at, sizeof list - at, "%s%s", i > 0 ? ", " : "", keys[i]);
            at += k > 0 ? (size_t)k : 0;
        }
        return mx_json_fail(d, c, err, "unknown; known here: %s", list);
    }
    return 0;
}

/* ---- typed members ---- */

/* What a value is, for "..., but it is %s". */
static const char *describe(const mx_json *v, char *buf, size_t n)
{
    if (cJSON_IsNumber(v)) {
        (void)snprintf(buf, n, "%.17g", v->valuedouble);
        for (int digits = 6; digits < 17; digits++) {
            char shorter[32];
            (void)snprintf(shorter, sizeof shorter, "%.*g", digits, v->valuedouble);
            if (strtod(shorter, NULL) == v->valuedouble) {
                (void)snprintf(buf, n, "%s", shorter);
                break;
            }
        }
    } else if (cJSON_IsString(v)) {
        (void)snprintf(buf, n, "the string \"%.40s\"", v->valuestring);
    } else {
        (void)snprintf(buf, n, "%s",
                       cJSON_IsObject(v)  ? "an object"
                       : cJSON_IsArray(v) ? "an array"
                       : cJSON_IsTrue(v)  ? "true"
                       : cJSON_IsFalse(v) ? "false"
                                          : "null");
    }
    return buf;
}

/* The member, or NULL with *ret_rc 0 if it may be missing and is. */
static const mx_json *member(const struct mx_json_doc *d, const mx_json *o, const char *key,
                             bool required, int *ret_rc, struct mx_err *err)
{
    const mx_json *v = mx_json_get(o, key);

    *ret_rc = 0;
    if (v == NULL && required) {
        *ret_rc = mx_json_fail(d, o, err, "'%s' is missing", key);
    }
    return v;
}

/* 2^53 + 1 is read as 2^53: only the digits tell. */
static bool integer_is_exact(const struct mx_json_doc *d, const mx_json *v)
{
    struct step path[MX_JSON_DEPTH_MAX + 1];
    struct mx_json_place place;
    uint64_t number;
    size_t depth;

    if (v->valuedouble < (double)INTEGER_MAX) {
        return true;
    }
    return find_node(d->root, v, &number, path, &depth) &&
           mx_json_scan(d->name, d->line, d->text, d->n, number, &place, NULL) == 0 &&
           place.end - place.value == strlen("9007199254740992") &&
           memcmp(d->text + place.value, "9007199254740992", place.end - place.value) == 0;
}

int mx_json_take_u64(const struct mx_json_doc *d, const mx_json *o, const char *key, bool required,
                     uint64_t min, uint64_t max, uint64_t *ret, struct mx_err *err)
{
    char buf[64];
    int rc;
    const mx_json *v = member(d, o, key, required, &rc, err);
    double x = mx_json_number(v);

    if (v == NULL) {
        return rc;
    }
    max = max < INTEGER_MAX ? max : INTEGER_MAX;
    if (!cJSON_IsNumber(v) || x != floor(x) || x < (double)min || x > (double)max ||
        !integer_is_exact(d, v)) {
        return mx_json_fail(d, v, err,
                            "must be a whole number from %" PRIu64 " to %" PRIu64 ", but it is %s",
                            min, max, describe(v, buf, sizeof buf));
    }
    *ret = (uint64_t)x;
    return 0;
}

int mx_json_take_double(const struct mx_json_doc *d, const mx_json *o, const char *key,
                        bool required, double min, double max, double *ret, struct mx_err *err)
{
    char buf[64];
    int rc;
    const mx_json *v = member(d, o, key, required, &rc, err);

    if (v == NULL) {
        return rc;
    }
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= min && v->valuedouble <= max)) {
        return mx_json_fail(d, v, err, "must be a number from %.10g to %.10g, but it is %s", min,
                            max, describe(v, buf, sizeof buf));
    }
    *ret = v->valuedouble;
    return 0;
}

int mx_json_take_string(const struct mx_json_doc *d, const mx_json *o, const char *key,
                        bool required, const char **ret, struct mx_err *err)
{
    char buf[64];
    int rc;
    const mx_json *v = member(d, o, key, required, &rc, err);

    if (v == NULL) {
        return rc;
    }
    if (!cJSON_IsString(v)) {
        return mx_json_fail(d, v, err, "must be a string, but it is %s",
                            describe(v, buf, sizeof buf));
    }
    *ret = v->valuestring;
    return 0;
}

int mx_json_take_bool(const struct mx_json_doc *d, const mx_json *o, const char *key, bool required,
                      bool *ret, struct mx_err *err)
{
    char buf[64];
    int rc;
    const mx_json *v = member(d, o, key, required, &rc, err);

    if (v == NULL) {
        return rc;
    }
    if (!cJSON_IsBool(v)) {
        return mx_json_fail(d, v, err, "must be true or false, but it is %s",
                            describe(v, buf, sizeof buf));
    }
    *ret = cJSON_IsTrue(v);
    return 0;
}
