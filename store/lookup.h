/* lookup.h - documents over all shards of a domain, as a run sees them: by id, by origin, by
 * sample.
 *
 * Shards are asked in the order of the view, each opened through the set; so a look-up by id or
 * origin costs by the number of shards, not of documents, and in a domain with more shards than may
 * be open it opens files. A sample is seq_len tokens of one shard: tokens at a shard's tail that
 * fill none belong to none. A document that an ingest continued in the next shard shows up as a
 * piece in each. Any thread, each call by itself; it blocks on the disk. Knows nothing of steps and
 * runs. */
#ifndef MX_STORE_LOOKUP_H
#define MX_STORE_LOOKUP_H

#include "store/shardset.h"
#include "store/view.h"

struct mx_found {
    struct mx_document document; /* as its shard has it: first_token counts there */
    uint64_t shard;              /* its id */
    uint64_t first_sample;       /* the samples of the view that hold a token of it ... */
    uint64_t samples;            /* ... are so many from there on; 0: none */
    char source_path[MX_PATH_MAX + 1];
};

/* Both tell cb of each document that they find, in the order of the view; to find none is no error.
 * What cb returns, if not 0, ends the look-up and is returned by it. MX_EDAMAGED and MX_EGONE name
 * the file. */

/* By id, which is the whole one or, if that is longer than MX_DOC_ID_MAX, as it is stored. Ids need
 * not be unique. */
int mx_lookup_id(struct mx_shardset *set, const struct mx_view *view, const char *id, size_t n,
                 int (*cb)(void *arg, const struct mx_found *f), void *arg, struct mx_err *err)
    MX_MUST_CHECK;

/* By source file and byte of the (decompressed) source: the document whose line or text holds that
 * byte, which is the last one of the file that begins at or before it. The path is as it was
 * ingested or, without a slash, its last component. More than one document is found where several
 * files match or a file was ingested more than once, and more than one piece of a document that
 * goes on from shard to shard. A byte past the file's end is taken for its last document's. */
int mx_lookup_origin(struct mx_shardset *set, const struct mx_view *view, const char *path,
                     size_t n, uint64_t byte, int (*cb)(void *arg, const struct mx_found *f),
                     void *arg, struct mx_err *err) MX_MUST_CHECK;

/* The documents that have tokens in a sample, in order: which tokens of the sample are theirs, and
 * where they came from. MX_EINVALID if the view has no such sample. */
int mx_lookup_sample(struct mx_shardset *set, const struct mx_view *view, uint64_t sample,
                     int (*cb)(void *arg, const struct mx_document *d, const char *source_path,
                               uint32_t first_token_in_sample, uint32_t tokens_in_sample),
                     void *arg, struct mx_err *err) MX_MUST_CHECK;

#endif
