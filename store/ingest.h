/* ingest.h - from files of text or tokens to sealed, registered shards.
 *
 * Reads the files in order, tokenises, writes shards of a bounded size and registers all of them
 * in one transaction at the end: an ingest that fails, is interrupted or killed leaves the store as
 * it was. Works beside a daemon that serves from the same store. One thread; the callbacks are
 * called on it. */
#ifndef MX_STORE_INGEST_H
#define MX_STORE_INGEST_H

#include "store/catalog.h"

enum mx_format { MX_FORMAT_AUTO, MX_FORMAT_JSONL, MX_FORMAT_JSONL_ZST, MX_FORMAT_TEXT,
                 MX_FORMAT_U16, MX_FORMAT_U32 };

struct mx_ingest_progress {
    uint64_t bytes, bytes_total;  /* of the files as they lie on disk */
    uint64_t source_bytes;        /* after decompression */
    uint64_t documents, tokens, lines, bad_lines;
    uint32_t shards;              /* sealed so far */
};

struct mx_ingest_options {
    const char *domain;
    enum mx_format format;     /* AUTO: by the file's name (.jsonl .jsonl.zst .txt), else refused */
    const char *text_field;    /* JSONL: key of the text, default "text" */
    const char *id_field;      /* JSONL: key of the id if present, default "id" */
    const char *tokenizer;     /* text: "bytes"; tokens: any name, default "tokens" */
    int64_t eod;               /* tokens: end-of-document id that marks boundaries; -1 for none */
    int level;                 /* zstd level, MX_LEVEL_RAW, or MX_LEVEL_DEFAULT */
    size_t dictionary_bytes;   /* > 0: train one from the first documents if the domain is new */
    uint64_t shard_bytes;      /* seal a shard at about this many bytes of tokens; 0: default */
    double bad_limit;          /* share of lines that may be malformed, 0 .. 1: over it at the end
                                  nothing is registered; negative: MX_BAD_LIMIT_DEFAULT */
    /* The callbacks may be NULL. Polled between documents and for every part of a file that is
     * read; nonzero ends the ingest with MX_ECANCELLED. */
    int (*cancelled)(void *arg);
    /* A malformed line: file, line from 1, byte offset of the line's start, what is wrong. */
    void (*bad_line)(void *arg, const char *file, uint64_t line, uint64_t byte, const char *what);
    /* Called often; the callee decides when to print. */
    void (*progress)(void *arg, const struct mx_ingest_progress *p);
    void *arg;
};

#define MX_BAD_LIMIT_DEFAULT 0.001

/* The domain's own level; for a new one zstd 3 for text, raw for tokens. */
#define MX_LEVEL_DEFAULT (-1001)

struct mx_ingest_result {
    struct mx_ingest_progress total;
    struct mx_domain domain;      /* after registration */
};

/* dir: the store's directory, made if there is none. Errors name file, line and byte.
 *
 * JSONL: blank lines are skipped and not counted; a line that isn't one JSON object with the text
 * key as a string is malformed: counted, told to bad_line and skipped. If after the last line more
 * than bad_limit of the lines were malformed the ingest fails; it gives up early when after 1,000
 * lines it stands at over ten times the limit. A document without text is skipped. A text file is
 * one document, byte for byte. MX_EINVALID if no token is left to register. Leftovers of ingests
 * that died are removed first (mx_shard_sweep). */
int mx_ingest(const char *dir, const char *const *files, size_t n_files,
              const struct mx_ingest_options *o, struct mx_ingest_result *ret, struct mx_err *err)
    MX_MUST_CHECK;

/* "jsonl" and so on; MX_EINVALID lists what there is. */
int mx_format_parse(const char *name, enum mx_format *ret, struct mx_err *err) MX_MUST_CHECK;

#endif
