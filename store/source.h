/* source.h - an input file as a stream of bytes or lines, plain or zstd-compressed.
 *
 * Knows where it is: offsets in the decompressed stream, bytes taken from the disk. Memory is
 * bounded by MX_LINE_MAX and zstd's window. One thread. Errors name the file and the byte. */
#ifndef MX_STORE_SOURCE_H
#define MX_STORE_SOURCE_H

#include "proto/wire.h"
#include "proto/err.h"

enum mx_source_kind {
    MX_SOURCE_TEXT,   /* plain; refused if it begins like a compressed file */
    MX_SOURCE_ZSTD,
    MX_SOURCE_BINARY, /* plain, any bytes */
};

struct mx_line {
    struct mx_span text;  /* without its end (LF or CRLF), without a BOM on line 1; borrowed until
                             the next call */
    uint64_t number;      /* from 1 */
    uint64_t byte;        /* of its first byte in the stream */
    bool too_long;        /* over MX_LINE_MAX: text is empty, the line has been skipped */
};

struct mx_source;

/* `poll` is called with arg before each part of the file is read; nonzero ends the call in hand
 * with MX_ECANCELLED. May be NULL. The path is borrowed until the source is closed. */
int mx_source_open(const char *path, enum mx_source_kind kind, int (*poll)(void *arg), void *arg,
                   struct mx_source **ret, struct mx_err *err) MX_MUST_CHECK;
void mx_source_close(struct mx_source *s); /* NULL is fine */

/* 1 and the next line, 0 at the end, or a code. */
int mx_source_line(struct mx_source *s, struct mx_line *ret, struct mx_err *err) MX_MUST_CHECK;
/* 1 and the next bytes, a multiple of `unit` many and as aligned as that (unit: 1, 2 or 4), with
 * their offset in the stream; 0 at the end, or a code: MX_EINVALID if the file ends inside a unit.
 * Borrowed until the next call. */
int mx_source_bytes(struct mx_source *s, size_t unit, struct mx_span *ret, uint64_t *ret_byte,
                    struct mx_err *err) MX_MUST_CHECK;

/* Bytes taken from the disk, and from the (decompressed) stream, so far. */
uint64_t mx_source_disk_bytes(const struct mx_source *s);
uint64_t mx_source_stream_bytes(const struct mx_source *s);

#endif
