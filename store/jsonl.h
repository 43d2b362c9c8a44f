/* jsonl.h - one line of a JSONL file: checks it whole, and takes out a text and an id.
 *
 * A strict scanner for one JSON object (RFC 8259) that builds nothing: memory is the caller's
 * scratch, time is linear, nesting is bounded by MX_JSONL_DEPTH_MAX. Stricter than the RFC where
 * data would be lost: raw bytes that aren't UTF-8, escapes that make half a surrogate pair and a
 * wanted key that comes twice are errors. Pure; any thread. */
#ifndef MX_STORE_JSONL_H
#define MX_STORE_JSONL_H

#include "proto/err.h"
#include "proto/wire.h"

struct mx_jsonl_keys {
    struct mx_span text; /* must be there, and a string */
    struct mx_span id;   /* may be there; n = 0: none is wanted */
};

struct mx_jsonl_record {
    struct mx_span text; /* unescaped UTF-8, may hold zero bytes */
    struct mx_span id;   /* a string unescaped, or a number as it is written; n = 0 for none, and
                            for a value of another type */
};

/* Spans in *ret point into the line or into scratch, which has room for n bytes. MX_EINVALID names
 * the byte of the line, counted from 0, and what is wrong there. */
int mx_jsonl_scan(const uint8_t *line, size_t n, const struct mx_jsonl_keys *keys,
                  uint8_t *scratch, struct mx_jsonl_record *ret, struct mx_err *err) MX_MUST_CHECK;

/* Only spaces and tabs. */
bool mx_jsonl_blank(struct mx_span line);

#endif
