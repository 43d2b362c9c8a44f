/* shard_read.c - opens sealed shards and reads them (shard.h, shard_impl.h).
 *
 * Nothing of the file is believed: its tree is walked before LMDB sees it, and every record is
 * checked against the checksum that is bound to its place, in the call that uses it. So damage is
 * an error that names the file and the record, and never wrong tokens. An open shard is immutable;
 * any thread may read it, each in a transaction of its own. */
#include "store/files.h"
#include "store/kv_check.h"
#include "store/shard_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int mx_shard_damaged(const struct mx_shard *s, const char *what, uint64_t number, const char *why,
                     struct mx_err *err)
{
    return mx_fail(err, MX_EDAMAGED, "%s: %s %" PRIu64 " is damaged: %s", s->path, what, number,
                   why);
}

int mx_shard_get(const struct mx_shard *s, struct mx_kv_txn *t, enum mx_shard_key_kind kind,
                 uint64_t number, const char *what, struct mx_span *ret, struct mx_err *err)
{
    uint8_t key[MX_SHARD_KEY_MAX];
    size_t n = mx_shard_key(kind, number, key);
    int rc = mx_kv_get(t, MX_KV_MAIN, key, n, ret, err);

    return rc == MX_ENOTFOUND ? mx_shard_damaged(s, what, number, "it isn't there", err) : rc;
}

/* ---- opening ---- */

/* Is the file there, as long as it says, and sound enough for LMDB? */
static int check_file(const char *path, uint64_t *ret_bytes, struct mx_err *err)
{
    struct stat st;
    uint64_t page = 0, bytes = 0;
    const char *why;
    void *map;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) != 0) {
        int number = errno;
        if (fd >= 0) {
            close(fd);
        }
        return mx_fail(err, number == ENOENT ? MX_EGONE : mx_errno_code(number),
                       "%s: cannot open: %s", path, strerror(number));
    }
    if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        close(fd);
        return mx_fail(err, MX_EDAMAGED, "%s: is no shard: it is empty or no plain file", path);
    }
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) {
        return mx_fail(err, MX_ENOMEM, "%s: cannot map %lld bytes: %s", path,
                       (long long)st.st_size, strerror(errno));
    }
    (void)madvise(map, (size_t)st.st_size, MADV_RANDOM);
    why = mx_kv_check(map, (size_t)st.st_size, &page, &bytes);
    (void)munmap(map, (size_t)st.st_size);
    if (why != NULL) {
        return mx_fail(err, MX_EDAMAGED, "%s: page %" PRIu64 ": %s", path, page, why);
    }
    if (bytes != (uint64_t)st.st_size) {
        return mx_fail(err, MX_EDAMAGED, "%s: has %lld bytes where its map says %" PRIu64, path,
                       (long long)st.st_size, bytes);
    }
    *ret_bytes = bytes;
    return 0;
}

static int read_header(struct mx_shard *s, struct mx_kv_txn *t, struct mx_err *err)
{
    struct mx_span v;
    uint32_t version;
    const char *why;
    int rc = mx_shard_get(s, t, MX_KEY_HEADER, 0, "header", &v, err);

    if (rc != 0) {
        return rc;
    }
    why = mx_shard_header_decode(v, &s->header, &version);
    if (why != NULL && version != MX_SHARD_VERSION) {
        return mx_fail(err, MX_EVERSION,
                       "%s: has version %u of the shard format; this program reads version %u",
                       s->path, version, MX_SHARD_VERSION);
    }
    return why != NULL ? mx_shard_damaged(s, "header", 0, why, err) : 0;
}

static int read_dictionary(struct mx_shard *s, struct mx_kv_txn *t, struct mx_err *err)
{
    struct mx_span v, bytes;
    const char *why;
    int rc;

    if (s->header.dictionary_bytes == 0) {
        return 0;
    }
    rc = mx_shard_get(s, t, MX_KEY_DICTIONARY, 0, "dictionary", &v, err);
    if (rc != 0) {
        return rc;
    }
    why = mx_sealed_decode(s->header.info.id, MX_KEY_DICTIONARY, 0, v, &bytes);
    if (why == NULL && bytes.n != s->header.dictionary_bytes) {
        why = "its length is wrong";
    }
    if (why != NULL) {
        return mx_shard_damaged(s, "dictionary", 0, why, err);
    }
    rc = mx_zdict_new(bytes.p, bytes.n, &s->dictionary, err);
    if (rc != 0) {
        (void)mx_wrap(err, "%s", s->path);
    }
    return rc;
}

int mx_shard_open(const char *path, struct mx_shard **ret, struct mx_err *err)
{
    struct mx_kv_options o = {.mode = MX_KV_SEALED};
    struct mx_kv_txn t = {0};
    struct mx_shard *s;
    uint64_t bytes = 0;
    int rc = check_file(path, &bytes, err);

    if (rc != 0) {
        return rc;
    }
    s = calloc(1, sizeof *s);
    if (s == NULL || (s->path = strdup(path)) == NULL) {
        free(s);
        return mx_fail(err, MX_ENOMEM, "%s: out of memory", path);
    }
    rc = mx_kv_open(path, &o, &s->kv, err);
    if (rc == 0) {
        rc = mx_kv_begin(s->kv, false, &t, err);
    }
    if (rc == 0) {
        rc = read_header(s, &t, err);
    }
    if (rc == 0) {
        rc = read_dictionary(s, &t, err);
    }
    mx_kv_abort(&t);
    if (rc != 0) {
        mx_shard_close(s);
        return rc;
    }
    s->header.info.bytes = bytes;
    *ret = s;
    return 0;
}

void mx_shard_close(struct mx_shard *s)
{
    if (s == NULL) {
        return;
    }
    mx_zdict_free(s->dictionary);
    mx_kv_close(s->kv);
    free(s->path);
    free(s);
}

const struct mx_shard_info *mx_shard_get_info(const struct mx_shard *s)
{
    return &s->header.info;
}

int mx_shard_source(const struct mx_shard *s, uint32_t i, char *buf, size_t n, struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    struct mx_span v, path;
    const char *why;
    int rc;

    if (i >= s->header.sources) {
        return mx_fail(err, MX_ENOTFOUND, "%s: has no source %u, only %u", s->path, i,
                       s->header.sources);
    }
    rc = mx_kv_begin(s->kv, false, &t, err);
    if (rc == 0) {
        rc = mx_shard_get(s, &t, MX_KEY_SOURCE, i, "source", &v, err);
    }
    if (rc == 0) {
        why = mx_sealed_decode(s->header.info.id, MX_KEY_SOURCE, i, v, &path);
        if (why != NULL) {
            rc = mx_shard_damaged(s, "source", i, why, err);
        } else if (path.n >= n) {
            rc = mx_fail(err, MX_EINVALID, "%s: source %u has %zu bytes, room is for %zu", s->path,
                         i, path.n, n);
        } else {
            memcpy(buf, path.p, path.n);
            buf[path.n] = '\0';
        }
    }
    mx_kv_abort(&t);
    return rc;
}

/* ---- blocks ---- */

void mx_tokens_copy(uint8_t *dst, uint32_t width, const uint8_t *src, uint32_t src_width, size_t n)
{
    if (width == src_width) {
        memcpy(dst, src, n * width);
        return;
    }
    MX_REQUIRE(width == 4 && src_width == 2);
    for (size_t i = 0; i < n; i++) {
        dst[4 * i] = src[2 * i];
        dst[4 * i + 1] = src[2 * i + 1];
        dst[4 * i + 2] = 0;
        dst[4 * i + 3] = 0;
    }
}

static int get_block(const struct mx_shard *s, struct mx_kv_txn *t, uint32_t number,
                     struct mx_block *ret, struct mx_err *err)
{
    struct mx_span v;
    const char *why;
    int rc = mx_shard_get(s, t, MX_KEY_BLOCK, number, "block", &v, err);

    if (rc != 0) {
        return rc;
    }
    why = mx_block_decode(&s->header.info, number, v, ret);
    if (why == NULL && ret->codec == MX_CODEC_ZSTD_DICTIONARY && s->dictionary == NULL) {
        why = "it needs a dictionary and the shard has none";
    }
    return why != NULL ? mx_shard_damaged(s, "block", number, why, err) : 0;
}

int mx_shard_copy_raw(const struct mx_shard *s, struct mx_kv_txn *t, uint32_t block, uint32_t from,
                      uint32_t n, uint32_t width, uint8_t *dst, bool *ret_packed,
                      struct mx_err *err)
{
    const struct mx_shard_info *i = &s->header.info;
    struct mx_block b;
    int rc = get_block(s, t, block, &b, err);

    if (rc != 0) {
        return rc;
    }
    *ret_packed = b.codec != MX_CODEC_RAW;
    if (*ret_packed) {
        return 0;
    }
    MX_REQUIRE(from < b.tokens && n <= b.tokens - from);
    if (!mx_block_verify(i->id, block, &b, (size_t)from * i->width, (size_t)n * i->width)) {
        return mx_shard_damaged(s, "block", block, "the checksum of a granule is wrong", err);
    }
    mx_tokens_copy(dst, width, b.data.p + (size_t)from * i->width, i->width, n);
    return 0;
}

/* The whole block, checked and decompressed. */
static int unpack(const struct mx_shard *s, struct mx_kv_txn *t, uint32_t number,
                  struct mx_zunpacker *z, uint8_t *dst, struct mx_err *err)
{
    struct mx_block b;
    const char *why;
    size_t bytes;
    int rc = get_block(s, t, number, &b, err);

    if (rc != 0) {
        return rc;
    }
    if (!mx_block_verify(s->header.info.id, number, &b, 0, b.data.n)) {
        return mx_shard_damaged(s, "block", number, "the checksum of its data is wrong", err);
    }
    bytes = (size_t)b.tokens * s->header.info.width;
    if (b.codec == MX_CODEC_RAW) {
        memcpy(dst, b.data.p, bytes);
        return 0;
    }
    why = mx_zunpack(z, b.codec == MX_CODEC_ZSTD_DICTIONARY ? s->dictionary : NULL, b.data.p,
                     b.data.n, dst, bytes);
    return why != NULL ? mx_shard_damaged(s, "block", number, why, err) : 0;
}

int mx_shard_unpack(const struct mx_shard *s, uint32_t block, struct mx_zunpacker *z, uint8_t *dst,
                    struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    int rc = mx_kv_begin(s->kv, false, &t, err);

    if (rc == 0) {
        rc = unpack(s, &t, block, z, dst, err);
    }
    mx_kv_abort(&t);
    return rc;
}
