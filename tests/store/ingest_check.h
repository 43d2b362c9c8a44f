/* ingest_check.h - ingests files made of strings, and reads a whole domain back. */
#ifndef MX_TESTS_STORE_INGEST_CHECK_H
#define MX_TESTS_STORE_INGEST_CHECK_H

#include "check.h"

#include "store/ingest.h"

/* The defaults, with eod -1. */
struct mx_ingest_options ingest_options(const char *domain, enum mx_format format);

/* Writes `text` to dir/name and ingests it into dir/store. */
int ingest_text(const char *dir, const char *name, const char *text, size_t n,
                const struct mx_ingest_options *o, struct mx_ingest_result *ret,
                struct mx_err *err);

/* All of a domain of dir/store; after a move from shard to shard its documents go on. */
struct whole {
    struct mx_domain domain;
    uint32_t *tokens;
    uint64_t n;
    struct mx_document *documents; /* first_token counted over all shards */
    uint64_t n_documents;
    char source[512]; /* the last one */
};

int whole_read(const char *dir, const char *domain, struct whole *ret, struct mx_err *err);
void whole_free(struct whole *w);

/* Nothing half made lies in dir/store/shards, and just so many shards. */
void assert_clean(const char *dir, unsigned shards);

#endif
