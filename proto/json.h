/* json.h - JSON in (strict, bounded, with line numbers in errors) and JSON out (streamed).
 *
 * The only file that includes cJSON is json.c. A library of its own beside proto, so that proto
 * itself needs libc alone. cJSON's laxities are closed here: trailing bytes, numbers that overflow,
 * "\u0000" in strings, duplicate keys, too deep nesting and invalid UTF-8 are refused. */
#ifndef MX_PROTO_JSON_H
#define MX_PROTO_JSON_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- in ---- */
struct mx_json_doc;               /* a parsed document; owns everything */
typedef struct cJSON mx_json;     /* a value in it; borrowed from the document */

/* Parses n bytes. `name` (a file's name, or "config") is copied and stands in every error text:
 * "name:LINE: ...". At most MX_JSON_MAX bytes. */
int mx_json_parse(const char *name, const char *text, size_t n, struct mx_json_doc **ret,
                  struct mx_err *err) MX_MUST_CHECK;
/* The same of one line of a file, whose number errors tell, of at most `max` bytes. */
int mx_json_parse_line(const char *name, size_t line, const char *text, size_t n, size_t max,
                       struct mx_json_doc **ret, struct mx_err *err) MX_MUST_CHECK;
void mx_json_free(struct mx_json_doc *d);
const mx_json *mx_json_root(const struct mx_json_doc *d);

/* Fails with "name:LINE: key 'a.b': text": the place of a value in the document. */
int mx_json_fail(const struct mx_json_doc *d, const mx_json *at, struct mx_err *err,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Every key of object `o` must be in the NULL-terminated list; the error lists what there is. */
int mx_json_known_keys(const struct mx_json_doc *d, const mx_json *o, const char *const *keys,
                       struct mx_err *err) MX_MUST_CHECK;

/* A member by exact name, or NULL. */
const mx_json *mx_json_get(const mx_json *object, const char *key);
bool mx_json_is_object(const mx_json *v);
bool mx_json_is_array(const mx_json *v);
bool mx_json_is_string(const mx_json *v);
bool mx_json_is_number(const mx_json *v);
bool mx_json_is_bool(const mx_json *v);
bool mx_json_is_null(const mx_json *v);
const char *mx_json_key(const mx_json *v);     /* the member's name, "" in arrays */
const char *mx_json_string(const mx_json *v);  /* "" if it is no string */
double mx_json_number(const mx_json *v);       /* 0 if it is no number */
bool mx_json_true(const mx_json *v);
/* Children of an object or array: for (v = mx_json_first(o); v != NULL; v = mx_json_next(v)) */
const mx_json *mx_json_first(const mx_json *v);
const mx_json *mx_json_next(const mx_json *v);
uint32_t mx_json_count(const mx_json *v);

/* Typed members of object `o`. A missing key leaves *ret alone, or fails if `required`. Wrong type
 * or out of [min, max]: an error with line, key and value. Integers must be whole; up to 2^53. */
int mx_json_take_u64(const struct mx_json_doc *d, const mx_json *o, const char *key, bool required,
                     uint64_t min, uint64_t max, uint64_t *ret, struct mx_err *err) MX_MUST_CHECK;
int mx_json_take_double(const struct mx_json_doc *d, const mx_json *o, const char *key,
                        bool required, double min, double max, double *ret, struct mx_err *err)
    MX_MUST_CHECK;
int mx_json_take_string(const struct mx_json_doc *d, const mx_json *o, const char *key,
                        bool required, const char **ret, struct mx_err *err) MX_MUST_CHECK;
int mx_json_take_bool(const struct mx_json_doc *d, const mx_json *o, const char *key,
                      bool required, bool *ret, struct mx_err *err) MX_MUST_CHECK;

/* ---- out ---- */
/* Builds a document in a growing buffer up to a ceiling. Sticky: once memory or the ceiling is
 * reached the writer fails and mx_jsonw_take says so. Commas and quoting are its business. */
struct mx_jsonw {
    char *p;
    size_t n, cap, max;
    unsigned depth;
    bool failed, comma;
};

void mx_jsonw_init(struct mx_jsonw *w, size_t max);
void mx_jsonw_object(struct mx_jsonw *w, const char *key); /* key: NULL in arrays and at the root */
void mx_jsonw_array(struct mx_jsonw *w, const char *key);
void mx_jsonw_end_object(struct mx_jsonw *w);
void mx_jsonw_end_array(struct mx_jsonw *w);
void mx_jsonw_u64(struct mx_jsonw *w, const char *key, uint64_t v);
void mx_jsonw_i64(struct mx_jsonw *w, const char *key, int64_t v);
void mx_jsonw_double(struct mx_jsonw *w, const char *key, double v); /* not finite: null */
void mx_jsonw_bool(struct mx_jsonw *w, const char *key, bool v);
void mx_jsonw_null(struct mx_jsonw *w, const char *key);
void mx_jsonw_string(struct mx_jsonw *w, const char *key, const char *s);
void mx_jsonw_string_n(struct mx_jsonw *w, const char *key, const char *s, size_t n);
/* A value that is JSON already. */
void mx_jsonw_raw(struct mx_jsonw *w, const char *key, const char *json);
/* The terminated text, malloc'ed and owned by the caller, or NULL if anything failed. Resets w. */
char *mx_jsonw_take(struct mx_jsonw *w, size_t *ret_n);
void mx_jsonw_fini(struct mx_jsonw *w);

#endif
