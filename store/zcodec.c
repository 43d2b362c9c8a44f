/* zcodec.c - see zcodec.h. The only file that knows zstd. */
#include "store/zcodec.h"

#include "proto/limits.h"

#include <zdict.h>
#include <zstd.h>

bool mx_zlevel_ok(int level)
{
    return level >= -100 && level <= ZSTD_maxCLevel();
}

/* ---- compressing blocks ---- */

struct mx_zpacker {
    ZSTD_CCtx *context;
};

int mx_zpacker_new(int level, const void *dictionary, size_t dictionary_bytes,
                   struct mx_zpacker **ret, struct mx_err *err)
{
    struct mx_zpacker *z = calloc(1, sizeof *z);
    size_t rc;

    if (z == NULL || (z->context = ZSTD_createCCtx()) == NULL) {
        free(z);
        return mx_fail(err, MX_ENOMEM, "out of memory for compressing");
    }
    rc = ZSTD_CCtx_setParameter(z->context, ZSTD_c_compressionLevel, level);
    if (!ZSTD_isError(rc)) {
        rc = ZSTD_CCtx_setParameter(z->context, ZSTD_c_checksumFlag, 1);
    }
    if (!ZSTD_isError(rc)) {
        rc = ZSTD_CCtx_setParameter(z->context, ZSTD_c_contentSizeFlag, 1);
    }
    if (!ZSTD_isError(rc) && dictionary != NULL) {
        rc = ZSTD_CCtx_loadDictionary(z->context, dictionary, dictionary_bytes);
    }
    if (ZSTD_isError(rc)) {
        mx_zpacker_free(z);
        return mx_fail(err, MX_EINVALID, "zstd refuses level %d or its dictionary: %s", level,
                       ZSTD_getErrorName(rc));
    }
    *ret = z;
    return 0;
}

void mx_zpacker_free(struct mx_zpacker *z)
{
    if (z != NULL) {
        ZSTD_freeCCtx(z->context);
        free(z);
    }
}

size_t mx_zpacker_bound(size_t n)
{
    return ZSTD_compressBound(n);
}

int mx_zpacker_pack(struct mx_zpacker *z, const void *p, size_t n, void *ret, size_t room,
                    size_t *ret_n, struct mx_err *err)
{
    size_t rc = ZSTD_compress2(z->context, ret, room, p, n);

    if (ZSTD_isError(rc)) {
        return mx_fail(err, MX_EIO, "zstd cannot compress %zu bytes: %s", n, ZSTD_getErrorName(rc));
    }
    *ret_n = rc;
    return 0;
}

/* ---- decompressing blocks ---- */

struct mx_zdict {
    ZSTD_DDict *dict;
};

struct mx_zunpacker {
    ZSTD_DCtx *context;
};

int mx_zdict_new(const void *p, size_t n, struct mx_zdict **ret, struct mx_err *err)
{
    struct mx_zdict *d = calloc(1, sizeof *d);

    if (d == NULL || (d->dict = ZSTD_createDDict(p, n)) == NULL) {
        free(d);
        return mx_fail(err, MX_EDAMAGED, "zstd refuses the dictionary of %zu bytes", n);
    }
    *ret = d;
    return 0;
}

void mx_zdict_free(struct mx_zdict *d)
{
    if (d != NULL) {
        ZSTD_freeDDict(d->dict);
        free(d);
    }
}

int mx_zunpacker_new(struct mx_zunpacker **ret, struct mx_err *err)
{
    struct mx_zunpacker *z = calloc(1, sizeof *z);

    if (z == NULL || (z->context = ZSTD_createDCtx()) == NULL) {
        free(z);
        return mx_fail(err, MX_ENOMEM, "out of memory for decompressing");
    }
    *ret = z;
    return 0;
}

void mx_zunpacker_free(struct mx_zunpacker *z)
{
    if (z != NULL) {
        ZSTD_freeDCtx(z->context);
        free(z);
    }
}

const char *mx_zunpack(struct mx_zunpacker *z, const struct mx_zdict *d, const void *frame,
                       size_t frame_n, void *ret, size_t n)
{
    unsigned long long claimed = ZSTD_getFrameContentSize(frame, frame_n);
    size_t rc;

    if (claimed == ZSTD_CONTENTSIZE_UNKNOWN || claimed == ZSTD_CONTENTSIZE_ERROR || claimed != n) {
        return "its frame doesn't hold what its block says";
    }
    if (ZSTD_findFrameCompressedSize(frame, frame_n) != frame_n) {
        return "its frame is cut short, or more follows it";
    }
    rc = d != NULL ? ZSTD_decompress_usingDDict(z->context, ret, n, frame, frame_n, d->dict)
                   : ZSTD_decompressDCtx(z->context, ret, n, frame, frame_n);
    if (ZSTD_isError(rc)) {
        return ZSTD_getErrorName(rc);
    }
    return rc == n ? NULL : "its frame holds fewer bytes than it says";
}

int mx_zdict_train(const void *samples, const size_t *sizes, unsigned n_samples, void *ret,
                   size_t room, size_t *ret_n, struct mx_err *err)
{
    size_t rc = ZDICT_trainFromBuffer(ret, room, samples, sizes, n_samples);

    if (ZDICT_isError(rc)) {
        return mx_fail(err, MX_EINVALID,
                       "cannot train a dictionary of %zu bytes from %u samples (%s): give more "
                       "input, a smaller dictionary or none",
                       room, n_samples, ZDICT_getErrorName(rc));
    }
    *ret_n = rc;
    return 0;
}

/* ---- streams ---- */

int mx_zstream_init(struct mx_zstream *z, struct mx_err *err)
{
    *z = (struct mx_zstream){.context = ZSTD_createDCtx()};
    if (z->context == NULL) {
        return mx_fail(err, MX_ENOMEM, "out of memory for decompressing");
    }
    if (ZSTD_isError(ZSTD_DCtx_setParameter(z->context, ZSTD_d_windowLogMax,
                                            MX_ZSTD_WINDOW_LOG_MAX))) {
        mx_zstream_fini(z);
        return mx_fail(err, MX_EINVALID, "zstd refuses a window limit of 2^%d bytes",
                       MX_ZSTD_WINDOW_LOG_MAX);
    }
    return 0;
}

void mx_zstream_fini(struct mx_zstream *z)
{
    ZSTD_freeDCtx(z->context);
    z->context = NULL;
}

int mx_zstream_run(struct mx_zstream *z, const void *in, size_t in_n, size_t *in_at, void *out,
                   size_t out_n, size_t *out_at, struct mx_err *err)
{
    ZSTD_inBuffer i = {.src = in, .size = in_n, .pos = *in_at};
    ZSTD_outBuffer o = {.dst = out, .size = out_n, .pos = *out_at};

    while (o.pos < o.size) {
        size_t before_in = i.pos, before_out = o.pos, rc;
        if (!z->in_frame) {
            if (i.pos == i.size) {
                break;
            }
            z->frame_start = z->consumed;
        }
        rc = ZSTD_decompressStream(z->context, &o, &i);
        z->consumed += i.pos - before_in;
        if (ZSTD_isError(rc)) {
            return mx_fail(err, MX_EINVALID,
                           "compressed byte %llu: bad zstd frame (it starts at byte %llu): %s",
                           (unsigned long long)z->consumed, (unsigned long long)z->frame_start,
                           ZSTD_getErrorName(rc));
        }
        z->in_frame = rc != 0;
        if (i.pos == before_in && o.pos == before_out) {
            break;
        }
    }
    *in_at = i.pos;
    *out_at = o.pos;
    return 0;
}

int mx_zstream_end(const struct mx_zstream *z, struct mx_err *err)
{
    if (z->in_frame) {
        return mx_fail(err, MX_EINVALID,
                       "compressed byte %llu: the file ends inside the zstd frame that starts at "
                       "byte %llu",
                       (unsigned long long)z->consumed, (unsigned long long)z->frame_start);
    }
    return 0;
}
