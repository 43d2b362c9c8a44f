/* zcodec.h - zstd: blocks in and out, dictionaries, and compressed files as streams.
 *
 * zcodec.c is the only file that includes zstd.h and zdict.h. Contexts belong to one thread at a
 * time; dictionaries are immutable and may be shared. */
#ifndef MX_STORE_ZCODEC_H
#define MX_STORE_ZCODEC_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The levels that a zstd shard may have. */
bool mx_zlevel_ok(int level);

/* ---- compressing blocks ---- */
struct mx_zpacker;

/* The dictionary (NULL for none) is copied. Frames carry zstd's checksum and their size. */
int mx_zpacker_new(int level, const void *dictionary, size_t dictionary_bytes,
                   struct mx_zpacker **ret, struct mx_err *err) MX_MUST_CHECK;
void mx_zpacker_free(struct mx_zpacker *z);
/* The most that n bytes can become. */
size_t mx_zpacker_bound(size_t n);
int mx_zpacker_pack(struct mx_zpacker *z, const void *p, size_t n, void *ret, size_t room,
                    size_t *ret_n, struct mx_err *err) MX_MUST_CHECK;

/* ---- decompressing blocks ---- */
struct mx_zdict;     /* a dictionary made ready */
struct mx_zunpacker; /* a context */

int mx_zdict_new(const void *p, size_t n, struct mx_zdict **ret, struct mx_err *err) MX_MUST_CHECK;
void mx_zdict_free(struct mx_zdict *d);
int mx_zunpacker_new(struct mx_zunpacker **ret, struct mx_err *err) MX_MUST_CHECK;
void mx_zunpacker_free(struct mx_zunpacker *z);
/* One frame that says it holds exactly n bytes, and does: NULL, or a reason. A frame that claims
 * another size is refused before anything is decompressed. d may be NULL. */
const char *mx_zunpack(struct mx_zunpacker *z, const struct mx_zdict *d, const void *frame,
                       size_t frame_n, void *ret, size_t n) MX_MUST_CHECK;

/* A dictionary of at most `room` bytes from samples that lie back to back. */
int mx_zdict_train(const void *samples, const size_t *sizes, unsigned n_samples, void *ret,
                   size_t room, size_t *ret_n, struct mx_err *err) MX_MUST_CHECK;

/* ---- streams ---- */
struct mx_zstream {
    struct ZSTD_DCtx_s *context;
    bool in_frame;        /* a frame has begun and not ended */
    uint64_t consumed;    /* compressed bytes so far */
    uint64_t frame_start; /* where the frame in hand begins */
};

int mx_zstream_init(struct mx_zstream *z, struct mx_err *err) MX_MUST_CHECK;
void mx_zstream_fini(struct mx_zstream *z);
/* Takes from in[*in_at, in_n) and gives to out[*out_at, out_n), moving both on. Frames follow each
 * other, skippable ones too. Errors name the byte of the compressed input, not the file. */
int mx_zstream_run(struct mx_zstream *z, const void *in, size_t in_n, size_t *in_at, void *out,
                   size_t out_n, size_t *out_at, struct mx_err *err) MX_MUST_CHECK;
/* The input has ended: fails if it ended inside a frame. */
int mx_zstream_end(const struct mx_zstream *z, struct mx_err *err) MX_MUST_CHECK;

#endif
