/* ingest_impl.h - between reading files (ingest_read.c) and writing shards (ingest.c). */
#ifndef MX_STORE_INGEST_IMPL_H
#define MX_STORE_INGEST_IMPL_H

#include "store/ingest.h"
#include "store/source.h"

/* Where documents go. A nonzero return ends the walk and is returned by it. */
struct mx_sink {
    /* A document begins; doc->source is the file's index in the walk. */
    int (*document)(void *arg, const struct mx_document *doc, struct mx_err *err);
    /* n > 0 tokens of it, in host order, borrowed for the call. */
    int (*tokens)(void *arg, const void *tokens, size_t n, struct mx_err *err);
    void *arg;
};

/* One pass over the files. One thread. */
struct mx_walk {
    const char *const *files; /* borrowed, as is o; its defaults are filled in */
    size_t n_files;
    const struct mx_ingest_options *o;
    bool rehearsal; /* malformed lines are passed over in silence */
    struct mx_sink sink;
    struct mx_ingest_progress p;

    /* the walk's own */
    uint32_t file;
    struct mx_source *source; /* open, or NULL */
    uint64_t disk_before, stream_before;
    uint8_t *scratch;
    size_t scratch_room;
    uint16_t *tokens;
    char first_bad[512];
};

/* The format of a file; MX_EINVALID if AUTO can't tell. */
int mx_file_format(const struct mx_ingest_options *o, const char *path, enum mx_format *ret,
                   struct mx_err *err) MX_MUST_CHECK;
/* Reads all files into the sink. Fails if more lines are malformed than allowed. */
int mx_walk_run(struct mx_walk *w, struct mx_err *err) MX_MUST_CHECK;
/* Bytes of the decompressed input so far. */
uint64_t mx_walk_source_bytes(const struct mx_walk *w);

#endif
