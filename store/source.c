/* source.c - see source.h. */
#include "store/source.h"

#include "proto/limits.h"
#include "store/files.h"
#include "store/zcodec.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_BYTES ((size_t)256 << 10) /* of one read, and the first size of the buffer */
#define ROOM_MAX (MX_LINE_MAX + PART_BYTES) /* a line is known to be too long before it is full */

struct mx_source {
    const char *path;
    int fd;
    bool zstd, input_ended;
    int (*poll)(void *arg);
    void *poll_arg;
    struct mx_zstream z;
    uint8_t *in; /* compressed bytes [in_at, in_n) */
    size_t in_at, in_n;
    uint8_t *buf; /* stream bytes [begin, end), of room */
    size_t begin, end, room;
    uint64_t disk, byte; /* taken from the disk; offset in the stream of buf[begin] */
    uint64_t lines;
};

static int refuse_magic(const struct mx_source *s, struct mx_err *err)
{
    static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    static const uint8_t gzip[] = {0x1f, 0x8b};
    const uint8_t *p = s->buf;

    if (s->end >= sizeof zstd && memcmp(p, zstd, sizeof zstd) == 0) {
        return mx_fail(err, MX_EINVALID,
                       "%s: byte 0: this file is compressed with zstd (format jsonl.zst?)",
                       s->path);
    }
    if (s->end >= sizeof gzip && memcmp(p, gzip, sizeof gzip) == 0) {
        return mx_fail(err, MX_EINVALID,
                       "%s: byte 0: this file is compressed with gzip: recompress it with zstd",
                       s->path);
    }
    return 0;
}

/* Up to n bytes from the disk; 0 is the end. */
static int read_disk(struct mx_source *s, uint8_t *p, size_t n, size_t *ret, struct mx_err *err)
{
    ssize_t got;

    if (s->poll != NULL && s->poll(s->poll_arg) != 0) {
        return mx_fail(err, MX_ECANCELLED, "interrupted at byte %" PRIu64 " of %s", s->disk,
                       s->path);
    }
    do {
        got = read(s->fd, p, n);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return mx_fail(err, mx_errno_code(errno), "%s: byte %" PRIu64 ": cannot read: %s", s->path,
                       s->disk, strerror(errno));
    }
    s->disk += (uint64_t)got;
    *ret = (size_t)got;
    return 0;
}

static int fill_zstd(struct mx_source *s, struct mx_err *err)
{
    size_t before = s->end;
    int rc = 0;

    while (rc == 0 && s->end == before) {
        if (s->in_at == s->in_n && !s->input_ended) {
            s->in_at = 0;
            rc = read_disk(s, s->in, PART_BYTES, &s->in_n, err);
            s->input_ended = rc == 0 && s->in_n == 0;
            if (rc != 0) {
                return rc;
            }
        }
        rc = mx_zstream_run(&s->z, s->in, s->in_n, &s->in_at, s->buf, s->room, &s->end, err);
        if (rc == 0 && s->end == before && s->input_ended) {
            rc = mx_zstream_end(&s->z, err);
            break;
        }
    }
    if (rc != 0) {
        (void)mx_wrap(err, "%s", s->path);
    }
    return rc;
}

/* More stream bytes after `end`, making room. *ret_more is false at the end of the stream. */
static int fill(struct mx_source *s, bool *ret_more, struct mx_err *err)
{
    size_t before, got = 0, want;
    int rc;

    if (s->begin > 0) {
        memmove(s->buf, s->buf + s->begin, s->end - s->begin);
        s->end -= s->begin;
        s->begin = 0;
    }
    if (s->end == s->room) {
        size_t room = s->room * 2 < ROOM_MAX ? s->room * 2 : ROOM_MAX;
        uint8_t *p = realloc(s->buf, room);
        MX_REQUIRE(room > s->room);
        if (p == NULL) {
            return mx_fail(err, MX_ENOMEM, "%s: out of memory for a line at byte %" PRIu64, s->path,
                           s->byte);
        }
        s->buf = p;
        s->room = room;
    }
    before = s->end;
    if (s->zstd) {
        rc = fill_zstd(s, err);
    } else {
        want = s->room - s->end < PART_BYTES ? s->room - s->end : PART_BYTES;
        rc = read_disk(s, s->buf + s->end, want, &got, err);
        s->end += got;
    }
    *ret_more = s->end > before;
    return rc;
}

static void consume(struct mx_source *s, size_t n)
{
    s->begin += n;
    s->byte += n;
}

int mx_source_open(const char *path, enum mx_source_kind kind, int (*poll)(void *arg), void *arg,
                   struct mx_source **ret, struct mx_err *err)
{
    struct mx_source *s = calloc(1, sizeof *s);
    struct stat st;
    bool more;
    int rc = 0;

    if (s == NULL) {
        return mx_fail(err, MX_ENOMEM, "%s: out of memory", path);
    }
    s->path = path;
    s->poll = poll;
    s->poll_arg = arg;
    s->room = PART_BYTES;
    s->buf = malloc(s->room);
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0) {
        rc = mx_fail(err, mx_errno_code(errno), "%s: cannot open: %s", path, strerror(errno));
    } else if (fstat(s->fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        rc = mx_fail(err, MX_EINVALID, "%s: is a folder", path);
    } else if (s->buf == NULL) {
        rc = mx_fail(err, MX_ENOMEM, "%s: out of memory", path);
    }
    if (rc == 0 && kind == MX_SOURCE_ZSTD) {
        s->in = malloc(PART_BYTES);
        s->zstd = true;
        rc = s->in == NULL ? mx_fail(err, MX_ENOMEM, "%s: out of memory", path)
                           : mx_zstream_init(&s->z, err);
    }
    if (rc == 0) {
        (void)posix_fadvise(s->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        rc = fill(s, &more, err);
    }
    if (rc == 0 && kind == MX_SOURCE_TEXT) {
        rc = refuse_magic(s, err);
    }
    if (rc != 0) {
        mx_source_close(s);
        return rc;
    }
    *ret = s;
    return 0;
}

void mx_source_close(struct mx_source *s)
{
    if (s == NULL) {
        return;
    }
    if (s->fd >= 0) {
        close(s->fd);
    }
    mx_zstream_fini(&s->z);
    free(s->in);
    free(s->buf);
    free(s);
}

/* Drops bytes up to the next newline, or the end. */
static int skip_line(struct mx_source *s, struct mx_err *err)
{
    bool more = true;
    int rc = 0;

    while (rc == 0 && more) {
        const uint8_t *at = memchr(s->buf + s->begin, '\n', s->end - s->begin);
        if (at != NULL) {
            consume(s, (size_t)(at - (s->buf + s->begin)) + 1);
            return 0;
        }
        consume(s, s->end - s->begin);
        rc = fill(s, &more, err);
    }
    return rc;
}

/* What a line's bytes say without its end and its BOM. */
static struct mx_span trim(const uint8_t *p, size_t n, bool first)
{
    if (first && n >= 3 && p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf) {
        p += 3;
        n -= 3;
    }
    if (n > 0 && p[n - 1] == '\r') {
        n--;
    }
    return (struct mx_span){.p = p, .n = n};
}

int mx_source_line(struct mx_source *s, struct mx_line *ret, struct mx_err *err)
{
    size_t seen = 0; /* bytes after begin that have no newline */
    bool more = true;
    int rc;

    *ret = (struct mx_line){.number = s->lines + 1, .byte = s->byte};
    for (;;) {
        const uint8_t *line = s->buf + s->begin;
        size_t have = s->end - s->begin;
        const uint8_t *at = have > seen ? memchr(line + seen, '\n', have - seen) : NULL;
        size_t n = at != NULL ? (size_t)(at - line) : have;
        if (n > MX_LINE_MAX) {
            ret->too_long = true;
            s->lines++;
            rc = skip_line(s, err);
            return rc == 0 ? 1 : rc;
        }
        if (at != NULL || !more) {
            if (at == NULL && have == 0) {
                return 0;
            }
            ret->text = trim(line, n, s->lines == 0);
            s->lines++;
            consume(s, n + (at != NULL ? 1 : 0));
            return 1;
        }
        seen = have;
        rc = fill(s, &more, err);
        if (rc != 0) {
            return rc;
        }
    }
}

int mx_source_bytes(struct mx_source *s, size_t unit, struct mx_span *ret, uint64_t *ret_byte,
                    struct mx_err *err)
{
    bool more = true;

    while (s->end - s->begin < unit && more) {
        int rc = fill(s, &more, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (s->end == s->begin) {
        return 0;
    }
    if (s->end - s->begin < unit) {
        return mx_fail(err, MX_EINVALID,
                       "%s: byte %" PRIu64 ": the file ends inside a token of %zu bytes", s->path,
                       s->byte, unit);
    }
    ret->p = s->buf + s->begin;
    ret->n = (s->end - s->begin) / unit * unit;
    *ret_byte = s->byte;
    consume(s, ret->n);
    return 1;
}

uint64_t mx_source_disk_bytes(const struct mx_source *s)
{
    return s->disk;
}

uint64_t mx_source_stream_bytes(const struct mx_source *s)
{
    return s->byte;
}
