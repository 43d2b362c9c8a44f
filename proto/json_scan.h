/* json_scan.h - the strict reader of JSON's grammar that stands before cJSON.
 *
 * Walks a text once, allocates nothing and names the line and column of the first thing that is
 * wrong. Internal to the json library. Pure; any thread. */
#ifndef MX_PROTO_JSON_SCAN_H
#define MX_PROTO_JSON_SCAN_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

/* Where a value stands in the text, as byte offsets. */
struct mx_json_place {
    size_t key; /* its key's opening quote; the value itself in an array and at the root */
    size_t value;
    size_t end; /* one past a string, number, true, false or null; the opening bracket else */
};

#define MX_JSON_ALL UINT64_MAX

/* Checks the whole text, or only up to value number `target` (in order of appearance, the root is
 * 0), whose place goes to *ret. MX_EINVALID "name:LINE: column C: ..." for what isn't JSON or is
 * over a limit, where the text's first line is number `line`; MX_ENOTFOUND if there is no such
 * value. ret may be NULL with MX_JSON_ALL. */
int mx_json_scan(const char *name, size_t line, const char *text, size_t n, uint64_t target,
                 struct mx_json_place *ret, struct mx_err *err) MX_MUST_CHECK;

/* The line, from 1, in which byte `at` stands. */
size_t mx_json_line(const char *text, size_t at);

/* Bytes of the well-formed UTF-8 character (RFC 3629) at the n > 0 bytes p; 0 if it is none. */
size_t mx_json_utf8(const unsigned char *p, size_t n);

#endif
