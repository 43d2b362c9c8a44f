/* ingest_read.c - reads the files of an ingest and gives their documents to a sink.
 *
 * Knows formats, malformed lines and their limit, cancelling and progress; nothing of shards or the
 * catalog. One thread. */
#include "store/ingest_impl.h"
#include "store/jsonl.h"
#include "store/tokenize.h"

#include <inttypes.h>
#include <string.h>

#define TOKENS_PART 65536u /* tokens made at a time */
#define EARLY_LINES 1000u  /* before that many lines no share is judged */
#define EARLY_FACTOR 10.0

/* enum, name, what the file's name ends in (NULL: AUTO never chooses it) */
#define FORMATS(X)                                                                                \
    X(MX_FORMAT_JSONL_ZST, "jsonl.zst", ".jsonl.zst")                                             \
    X(MX_FORMAT_JSONL, "jsonl", ".jsonl")                                                         \
    X(MX_FORMAT_TEXT, "text", ".txt")                                                             \
    X(MX_FORMAT_U16, "u16", NULL)                                                                 \
    X(MX_FORMAT_U32, "u32", NULL)                                                                 \
    X(MX_FORMAT_AUTO, "auto", NULL)

static const struct {
    enum mx_format format;
    const char *name, *suffix;
} formats[] = {
#define FORMAT_ROW(f, n, s) {f, n, s},
    FORMATS(FORMAT_ROW)
#undef FORMAT_ROW
};

#define N_FORMATS (sizeof formats / sizeof *formats)

int mx_format_parse(const char *name, enum mx_format *ret, struct mx_err *err)
{
    for (size_t i = 0; i < N_FORMATS; i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *ret = formats[i].format;
            return 0;
        }
    }
    return mx_fail(err, MX_EINVALID,
                   "unknown format '%.64s': there are jsonl, jsonl.zst, text, u16, u32 and auto",
                   name);
}

int mx_file_format(const struct mx_ingest_options *o, const char *path, enum mx_format *ret,
                   struct mx_err *err)
{
    size_t n = strlen(path);

    if (o->format != MX_FORMAT_AUTO) {
        *ret = o->format;
        return 0;
    }
    for (size_t i = 0; i < N_FORMATS; i++) {
        size_t m = formats[i].suffix != NULL ? strlen(formats[i].suffix) : 0;
        if (m > 0 && n >= m && strcmp(path + n - m, formats[i].suffix) == 0) {
            *ret = formats[i].format;
            return 0;
        }
    }
    return mx_fail(err, MX_EINVALID,
                   "%s: the name doesn't tell the format (.jsonl .jsonl.zst .txt do): give it "
                   "(--format jsonl, jsonl.zst, text, u16 or u32)",
                   path);
}

uint64_t mx_walk_source_bytes(const struct mx_walk *w)
{
    return w->stream_before + (w->source != NULL ? mx_source_stream_bytes(w->source) : 0);
}

static void report(struct mx_walk *w)
{
    w->p.bytes = w->disk_before + (w->source != NULL ? mx_source_disk_bytes(w->source) : 0);
    w->p.source_bytes = mx_walk_source_bytes(w);
    if (w->o->progress != NULL && !w->rehearsal) {
        w->o->progress(w->o->arg, &w->p);
    }
}

static bool cancelled(const struct mx_walk *w)
{
    return w->o->cancelled != NULL && w->o->cancelled(w->o->arg) != 0;
}

/* Before each part of a file is read. */
static int poll_cb(void *arg)
{
    struct mx_walk *w = arg;

    report(w);
    return cancelled(w);
}

/* ---- documents ---- */

static int begin_document(struct mx_walk *w, const struct mx_document *d, struct mx_err *err)
{
    if (cancelled(w)) {
        return mx_fail(err, MX_ECANCELLED, "interrupted at byte %" PRIu64 " of %s", d->source_byte,
                       w->files[w->file]);
    }
    w->p.documents++;
    return w->sink.document(w->sink.arg, d, err);
}

static int give_tokens(struct mx_walk *w, const void *tokens, size_t n, struct mx_err *err)
{
    w->p.tokens += n;
    return w->sink.tokens(w->sink.arg, tokens, n, err);
}

/* Text becomes tokens in parts, so that memory doesn't grow with a document. */
static int give_text(struct mx_walk *w, struct mx_span text, struct mx_err *err)
{
    int rc = 0;

    for (size_t at = 0; rc == 0 && at < text.n;) {
        size_t n = text.n - at < TOKENS_PART ? text.n - at : TOKENS_PART;
        mx_bytes_tokenize(text.p + at, n, w->tokens);
        rc = give_tokens(w, w->tokens, n, err);
        at += n;
    }
    return rc;
}

static int end_text(struct mx_walk *w, struct mx_err *err)
{
    static const uint16_t eod = MX_BYTES_EOD;

    return give_tokens(w, &eod, 1, err);
}

/* ---- JSONL ---- */

static int too_many(const struct mx_walk *w, struct mx_err *err)
{
    return mx_fail(err, MX_EINVALID,
                   "%s; %" PRIu64 " of %" PRIu64
                   " lines are malformed, which is more than the share of %g that is allowed "
                   "(--bad-limit raises it)",
                   w->first_bad, w->p.bad_lines, w->p.lines, w->o->bad_limit);
}

static int bad_line(struct mx_walk *w, const struct mx_line *line, const char *what,
                    struct mx_err *err)
{
    const char *file = w->files[w->file];

    w->p.bad_lines++;
    if (w->rehearsal) {
        return 0;
    }
    if (w->p.bad_lines == 1) {
        (void)snprintf(w->first_bad, sizeof w->first_bad,
                       "%.200s: line %" PRIu64 ", at byte %" PRIu64 ": %s", file, line->number,
                       line->byte, what);
    }
    if (w->o->bad_line != NULL) {
        w->o->bad_line(w->o->arg, file, line->number, line->byte, what);
    }
    /* More lines can't mend a limit of none, and hardly ten times another. */
    if ((w->o->bad_limit <= 0.0) ||
        (w->p.lines > EARLY_LINES &&
         (double)w->p.bad_lines > EARLY_FACTOR * w->o->bad_limit * (double)w->p.lines)) {
        return too_many(w, err);
    }
    return 0;
}

static int need_scratch(struct mx_walk *w, size_t n, struct mx_err *err)
{
    size_t room = w->scratch_room > 0 ? w->scratch_room : 65536;
    uint8_t *p;

    if (n <= w->scratch_room) {
        return 0;
    }
    while (room < n) {
        room *= 2;
    }
    p = realloc(w->scratch, room);
    if (p == NULL) {
        return mx_fail(err, MX_ENOMEM, "%s: out of memory for a line of %zu bytes",
                       w->files[w->file], n);
    }
    w->scratch = p;
    w->scratch_room = room;
    return 0;
}

static int one_line(struct mx_walk *w, const struct mx_line *line, struct mx_err *err)
{
    struct mx_jsonl_keys keys = {
        .text = {.p = (const uint8_t *)w->o->text_field, .n = strlen(w->o->text_field)},
        .id = {.p = (const uint8_t *)w->o->id_field, .n = strlen(w->o->id_field)},
    };
    struct mx_document d = {.source = w->file, .source_byte = line->byte,
                            .source_line = line->number};
    struct mx_jsonl_record r;
    struct mx_err why;
    int rc;

    if (!line->too_long && mx_jsonl_blank(line->text)) {
        return 0;
    }
    w->p.lines++;
    if (line->too_long) {
        (void)mx_fail(&why, MX_EINVALID, "a line of more than %zu bytes", MX_LINE_MAX);
        return bad_line(w, line, why.text, err);
    }
    rc = need_scratch(w, line->text.n, err);
    if (rc != 0) {
        return rc;
    }
    if (mx_jsonl_scan(line->text.p, line->text.n, &keys, w->scratch, &r, &why) != 0) {
        return bad_line(w, line, why.text, err);
    }
    if (r.text.n == 0) {
        return 0;
    }
    mx_document_set_id(&d, r.id.p, r.id.n);
    rc = begin_document(w, &d, err);
    if (rc == 0) {
        rc = give_text(w, r.text, err);
    }
    return rc != 0 ? rc : end_text(w, err);
}

static int read_jsonl(struct mx_walk *w, struct mx_err *err)
{
    struct mx_line line;
    int rc;

    while ((rc = mx_source_line(w->source, &line, err)) == 1) {
        rc = one_line(w, &line, err);
        if (rc != 0) {
            return rc;
        }
    }
    return rc;
}

/* ---- plain text, and files of tokens ---- */

static int read_text(struct mx_walk *w, struct mx_err *err)
{
    struct mx_document d = {.source = w->file};
    struct mx_span part;
    uint64_t byte;
    bool any = false;
    int rc;

    while ((rc = mx_source_bytes(w->source, 1, &part, &byte, err)) == 1) {
        rc = any ? 0 : begin_document(w, &d, err);
        any = true;
        if (rc == 0) {
            rc = give_text(w, part, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return rc == 0 && any ? end_text(w, err) : rc;
}

/* How many of n tokens belong to the document in hand: up to and with the end-of-document id.
 * *ret_ends if that id is the last of them. */
static size_t until_eod(const struct mx_span *part, size_t width, int64_t eod, bool *ret_ends)
{
    size_t n = part->n / width;

    *ret_ends = false;
    for (size_t i = 0; eod >= 0 && i < n; i++) {
        const uint8_t *p = part->p + i * width;
        uint32_t token = width == 2 ? (uint32_t)p[0] | (uint32_t)p[1] << 8 : mx_load_u32(p);
        if (token == (uint64_t)eod) {
            *ret_ends = true;
            return i + 1;
        }
    }
    return n;
}

static int read_tokens(struct mx_walk *w, size_t width, struct mx_err *err)
{
    struct mx_document d = {.source = w->file};
    struct mx_span part;
    uint64_t byte;
    bool inside = false, ends;
    int rc;

    while ((rc = mx_source_bytes(w->source, width, &part, &byte, err)) == 1) {
        while (part.n > 0) {
            size_t n = until_eod(&part, width, w->o->eod, &ends);
            d.source_byte = byte;
            rc = inside ? 0 : begin_document(w, &d, err);
            if (rc == 0) {
                rc = give_tokens(w, part.p, n, err);
            }
            if (rc != 0) {
                return rc;
            }
            inside = !ends;
            part.p += n * width;
            part.n -= n * width;
            byte += n * width;
        }
    }
    return rc;
}

/* ---- the walk ---- */

static int read_file(struct mx_walk *w, enum mx_format format, struct mx_err *err)
{
    switch (format) {
    case MX_FORMAT_JSONL:
    case MX_FORMAT_JSONL_ZST: return read_jsonl(w, err);
    case MX_FORMAT_TEXT: return read_text(w, err);
    case MX_FORMAT_U16: return read_tokens(w, 2, err);
    case MX_FORMAT_U32: return read_tokens(w, 4, err);
    case MX_FORMAT_AUTO: break;
    }
    MX_REQUIRE(false);
}

static int walk_file(struct mx_walk *w, struct mx_err *err)
{
    const char *path = w->files[w->file];
    enum mx_source_kind kind = MX_SOURCE_TEXT;
    enum mx_format format;
    int rc = mx_file_format(w->o, path, &format, err);

    if (rc != 0) {
        return rc;
    }
    if (format == MX_FORMAT_JSONL_ZST) {
        kind = MX_SOURCE_ZSTD;
    } else if (format == MX_FORMAT_U16 || format == MX_FORMAT_U32) {
        kind = MX_SOURCE_BINARY;
    }
    rc = mx_source_open(path, kind, poll_cb, w, &w->source, err);
    if (rc != 0) {
        w->source = NULL;
        return rc;
    }
    rc = read_file(w, format, err);
    w->disk_before += mx_source_disk_bytes(w->source);
    w->stream_before += mx_source_stream_bytes(w->source);
    mx_source_close(w->source);
    w->source = NULL;
    return rc;
}

int mx_walk_run(struct mx_walk *w, struct mx_err *err)
{
    int rc = 0;

    w->tokens = malloc(TOKENS_PART * sizeof *w->tokens);
    if (w->tokens == NULL) {
        return mx_fail(err, MX_ENOMEM, "out of memory for reading");
    }
    for (w->file = 0; rc == 0 && w->file < w->n_files; w->file++) {
        rc = walk_file(w, err);
    }
    report(w);
    free(w->tokens);
    free(w->scratch);
    w->tokens = NULL;
    w->scratch = NULL;
    w->scratch_room = 0;
    if (rc == 0 && !w->rehearsal &&
        (double)w->p.bad_lines > w->o->bad_limit * (double)w->p.lines) {
        rc = too_many(w, err);
    }
    return rc;
}
