/* ingest.c - see ingest.h. Documents into shards, and shards into the catalog at the very end.
 *
 * Every shard but the last holds whole blocks. A document that runs over a shard's end goes on in
 * the next one, with a record of the same origin there. Until the registration commits, the shards'
 * files belong to this ingest's hold; on a failure they are removed here, and after a kill by the
 * sweep of the next ingest. */
#include "store/ingest.h"

#include "store/catalog_impl.h"
#include "store/files.h"
#include "store/ingest_impl.h"
#include "store/shard_impl.h"
#include "store/tokenize.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAMPLE_BYTES_MAX 8192u /* of one sample for the dictionary */

struct ingest {
    struct mx_ingest_options o; /* with defaults filled in */
    struct mx_walk walk;
    char shards_dir[MX_PATH_MAX + 1];
    struct mx_catalog *catalog;
    struct mx_hold *hold;
    struct mx_domain domain;
    int level;
    void *dictionary;
    size_t dictionary_bytes;
    /* the shard in hand */
    struct mx_shard_writer *writer; /* NULL until tokens come */
    bool begun;                     /* the document in hand has its record in it */
    uint32_t file, source;          /* the last file registered in it, and as what */
    uint64_t source_bytes_before;
    struct mx_document document;
    /* sealed ones */
    struct mx_shard_info *sealed;
    uint32_t n_sealed, sealed_room;
};

/* ---- the sink that writes shards ---- */

static int document_cb(void *arg, const struct mx_document *doc, struct mx_err *err)
{
    struct ingest *g = arg;

    (void)err;
    g->document = *doc;
    g->begun = false;
    return 0;
}

static int open_writer(struct ingest *g, struct mx_err *err)
{
    struct mx_shard_options o = {
        .width = g->domain.width,
        .level = g->level,
        .dictionary = g->dictionary,
        .dictionary_bytes = g->dictionary_bytes,
    };
    int rc = mx_shard_writer_new(g->shards_dir, &o, &g->writer, err);

    if (rc != 0) {
        g->writer = NULL;
        return rc;
    }
    g->begun = false;
    g->file = UINT32_MAX;
    return 0;
}

/* The document in hand gets its record in the shard in hand. */
static int begin_here(struct ingest *g, struct mx_err *err)
{
    struct mx_document d = g->document;
    int rc = 0;

    if (g->file != g->document.source) {
        g->file = g->document.source;
        rc = mx_shard_writer_source(g->writer, g->walk.files[g->file], &g->source, err);
    }
    d.source = g->source;
    g->begun = true;
    return rc != 0 ? rc : mx_shard_writer_document(g->writer, &d, err);
}

static int seal(struct ingest *g, struct mx_err *err)
{
    uint64_t at = mx_walk_source_bytes(&g->walk);
    struct mx_shard_writer *w = g->writer;
    int rc;

    if (g->n_sealed == g->sealed_room) {
        uint32_t room = g->sealed_room == 0 ? 16 : g->sealed_room * 2;
        struct mx_shard_info *p = reallocarray(g->sealed, room, sizeof *p);
        if (p == NULL) {
            return mx_fail(err, MX_ENOMEM, "out of memory for %u shards", room);
        }
        g->sealed = p;
        g->sealed_room = room;
    }
    if (g->n_sealed + g->domain.shards >= MX_SHARDS_MAX) {
        return mx_fail(err, MX_EFULL, "domain '%s': more than %u shards: give larger ones",
                       g->domain.name, MX_SHARDS_MAX);
    }
    rc = mx_hold_add(g->hold, mx_shard_writer_id(w), err);
    if (rc != 0) {
        return rc;
    }
    mx_shard_writer_add_source_bytes(w, at - g->source_bytes_before);
    g->source_bytes_before = at;
    g->writer = NULL;
    rc = mx_shard_writer_seal(w, &g->sealed[g->n_sealed], err);
    if (rc == 0) {
        g->n_sealed++;
        g->walk.p.shards = g->n_sealed;
    }
    return rc;
}

/* At a block's end: is the shard large enough? Its tokens count, or, where documents are tiny, what
 * their records take, and how many there are. */
static bool is_large(const struct ingest *g)
{
    uint64_t bytes = mx_shard_writer_token_count(g->writer) * g->domain.width;

    return bytes >= g->o.shard_bytes || mx_shard_writer_bytes(g->writer) / 2 >= g->o.shard_bytes ||
           mx_shard_writer_document_count(g->writer) >= MX_SHARD_DOCUMENTS;
}

static int tokens_cb(void *arg, const void *tokens, size_t n, struct mx_err *err)
{
    struct ingest *g = arg;
    const uint8_t *p = tokens;
    int rc = 0;

    while (rc == 0 && n > 0) {
        uint64_t fill;
        size_t part;
        rc = g->writer == NULL ? open_writer(g, err) : 0;
        if (rc == 0 && !g->begun) {
            rc = begin_here(g, err);
        }
        if (rc != 0) {
            break;
        }
        fill = mx_shard_writer_token_count(g->writer) % MX_BLOCK_TOKENS;
        part = n < MX_BLOCK_TOKENS - fill ? n : (size_t)(MX_BLOCK_TOKENS - fill);
        rc = mx_shard_writer_tokens(g->writer, p, part, err);
        p += part * g->domain.width;
        n -= part;
        if (rc == 0 && fill + part == MX_BLOCK_TOKENS && is_large(g)) {
            rc = seal(g, err);
        }
    }
    return rc;
}

/* ---- the dictionary ---- */

struct samples {
    uint8_t *p;
    size_t n, room;
    size_t *sizes;
    unsigned count, count_max;
    uint32_t width;
};

static int sample_document_cb(void *arg, const struct mx_document *doc, struct mx_err *err)
{
    (void)arg;
    (void)doc;
    (void)err;
    return 0;
}

/* Keeps what it is given until it has enough; 1 ends the walk. */
static int sample_tokens_cb(void *arg, const void *tokens, size_t n, struct mx_err *err)
{
    struct samples *s = arg;
    const uint8_t *p = tokens;
    size_t bytes = n * s->width;

    (void)err;
    while (bytes > 0) {
        size_t part = bytes < SAMPLE_BYTES_MAX ? bytes : SAMPLE_BYTES_MAX;
        if (part > s->room - s->n || s->count == s->count_max) {
            return 1;
        }
        memcpy(s->p + s->n, p, part);
        s->n += part;
        s->sizes[s->count++] = part;
        p += part;
        bytes -= part;
    }
    return 0;
}

/* A rehearsal over the first documents, whose blocks the dictionary is trained for. */
static int train(struct ingest *g, struct mx_err *err)
{
    size_t wanted = g->o.dictionary_bytes * 100;
    struct samples s = {.width = g->domain.width};
    struct mx_walk walk = g->walk;
    int rc;

    s.room = wanted < MX_DICTIONARY_SAMPLE_MAX ? wanted : MX_DICTIONARY_SAMPLE_MAX;
    s.count_max = (unsigned)(s.room / 64);
    s.p = malloc(s.room);
    s.sizes = calloc(s.count_max, sizeof *s.sizes);
    g->dictionary = malloc(g->o.dictionary_bytes);
    if (s.p == NULL || s.sizes == NULL || g->dictionary == NULL) {
        rc = mx_fail(err, MX_ENOMEM, "out of memory for training a dictionary");
    } else {
        walk.rehearsal = true;
        walk.sink = (struct mx_sink){sample_document_cb, sample_tokens_cb, &s};
        rc = mx_walk_run(&walk, err);
    }
    if (rc >= 0) {
        rc = mx_zdict_train(s.p, s.sizes, s.count, g->dictionary, g->o.dictionary_bytes,
                            &g->dictionary_bytes, err);
    }
    free(s.p);
    free(s.sizes);
    return rc;
}

/* ---- before ---- */

static bool is_tokens(enum mx_format f)
{
    return f == MX_FORMAT_U16 || f == MX_FORMAT_U32;
}

/* What the options say of the domain, if it is new. */
static int describe_domain(struct ingest *g, struct mx_err *err)
{
    struct mx_ingest_options *o = &g->o;
    struct mx_domain *d = &g->domain;
    bool tokens = is_tokens(o->format);
    int64_t eod_max = o->format == MX_FORMAT_U16 ? UINT16_MAX : (int64_t)UINT32_MAX - 1;

    if (o->tokenizer == NULL || o->tokenizer[0] == '\0') {
        o->tokenizer = tokens ? "tokens" : MX_BYTES_TOKENIZER;
    }
    if (strlen(o->tokenizer) > MX_NAME_MAX) {
        return mx_fail(err, MX_EINVALID, "the tokenizer's name has more than %u bytes",
                       MX_NAME_MAX);
    }
    if (!tokens && strcmp(o->tokenizer, MX_BYTES_TOKENIZER) != 0) {
        return mx_fail(err, MX_EINVALID, "unknown tokenizer '%s': there is '%s'", o->tokenizer,
                       MX_BYTES_TOKENIZER);
    }
    if (tokens && (o->eod < -1 || o->eod > eod_max)) {
        return mx_fail(err, MX_EINVALID,
                       "the end-of-document id %" PRId64 " is no token: -1 (none) to %" PRId64,
                       o->eod, eod_max);
    }
    (void)snprintf(d->name, sizeof d->name, "%s", o->domain);
    (void)snprintf(d->tokenizer, sizeof d->tokenizer, "%s", o->tokenizer);
    d->width = o->format == MX_FORMAT_U32 ? 4 : 2;
    d->eod = MX_BYTES_EOD;
    if (tokens) {
        d->eod = o->eod < 0 ? UINT32_MAX : (uint32_t)o->eod;
    }
    d->level = o->level;
    if (o->level == MX_LEVEL_DEFAULT) {
        d->level = tokens ? MX_LEVEL_RAW : 3;
    }
    return 0;
}

static int check_options(struct ingest *g, struct mx_err *err)
{
    struct mx_ingest_options *o = &g->o;
    int rc = o->domain == NULL ? mx_fail(err, MX_EINVALID, "no domain is named")
                               : mx_name_check(o->domain, strlen(o->domain), "domain", err);

    if (rc != 0) {
        return rc;
    }
    o->text_field = o->text_field != NULL ? o->text_field : "text";
    o->id_field = o->id_field != NULL ? o->id_field : "id";
    o->shard_bytes = o->shard_bytes != 0 ? o->shard_bytes : MX_SHARD_BYTES_DEFAULT;
    o->bad_limit = o->bad_limit < 0.0 ? MX_BAD_LIMIT_DEFAULT : o->bad_limit;
    if (strcmp(o->text_field, o->id_field) == 0) {
        return mx_fail(err, MX_EINVALID, "text and id can't both be the key '%.64s'", o->id_field);
    }
    if (!(o->bad_limit <= 1.0)) {
        return mx_fail(err, MX_EINVALID, "%g is no share of lines: 0 to 1", o->bad_limit);
    }
    if (o->level != MX_LEVEL_DEFAULT && o->level != MX_LEVEL_RAW && !mx_zlevel_ok(o->level)) {
        return mx_fail(err, MX_EINVALID, "zstd has no level %d", o->level);
    }
    if (o->dictionary_bytes > MX_DICTIONARY_MAX) {
        return mx_fail(err, MX_EINVALID, "a dictionary of %zu bytes is more than %u",
                       o->dictionary_bytes, MX_DICTIONARY_MAX);
    }
    return describe_domain(g, err);
}

/* Every file is looked at before the first is read: a typing error shouldn't show after hours. */
static int check_files(struct ingest *g, struct mx_err *err)
{
    struct mx_walk *w = &g->walk;

    if (w->n_files == 0) {
        return mx_fail(err, MX_EINVALID, "no files are named");
    }
    for (size_t i = 0; i < w->n_files; i++) {
        const char *path = w->files[i];
        enum mx_format f;
        struct stat st;
        int rc = mx_file_format(&g->o, path, &f, err);
        if (rc != 0) {
            return rc;
        }
        if (stat(path, &st) != 0 || access(path, R_OK) != 0) {
            return mx_fail(err, mx_errno_code(errno), "%s: cannot open: %s", path, strerror(errno));
        }
        if (is_tokens(f) && S_ISREG(st.st_mode) && st.st_size % g->domain.width != 0) {
            return mx_fail(err, MX_EINVALID,
                           "%s: %lld bytes aren't a whole number of %u-byte tokens: the last one "
                           "begins at byte %lld and is cut short",
                           path, (long long)st.st_size, g->domain.width,
                           (long long)(st.st_size - st.st_size % g->domain.width));
        }
        w->p.bytes_total += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    }
    return 0;
}

/* The domain as it is in the catalog, if it is: its dictionary is used, its level by default. */
static int meet_domain(struct ingest *g, struct mx_err *err)
{
    struct mx_domain have;
    int rc = mx_catalog_domain(g->catalog, g->domain.name, &have, err);

    g->level = g->domain.level;
    if (rc == MX_ENOTFOUND) {
        return g->o.dictionary_bytes > 0 && g->level != MX_LEVEL_RAW ? train(g, err) : 0;
    }
    if (rc == 0) {
        rc = mx_domain_agree(&have, &g->domain, err);
    }
    if (rc == 0) {
        g->level = g->o.level == MX_LEVEL_DEFAULT ? have.level : g->o.level;
        g->domain = have;
        rc = mx_catalog_dictionary(g->catalog, have.id, &g->dictionary, &g->dictionary_bytes, err);
    }
    return rc;
}

static bool registered_cb(void *arg, uint64_t id)
{
    struct ingest *g = arg;

    /* What can't be asked about is kept. */
    return mx_catalog_has_shard(g->catalog, id, NULL) != 0;
}

static int prepare(struct ingest *g, const char *dir, struct mx_err *err)
{
    int rc = check_options(g, err);

    if (rc == 0) {
        rc = check_files(g, err);
    }
    if (rc == 0 && snprintf(g->shards_dir, sizeof g->shards_dir, "%s/shards", dir) >=
                       (int)sizeof g->shards_dir) {
        rc = mx_fail(err, MX_EINVALID, "%s: this path is too long", dir);
    }
    if (rc == 0) {
        rc = mx_catalog_open(dir, true, &g->catalog, err);
    }
    if (rc == 0) {
        rc = mx_shard_sweep(g->shards_dir, registered_cb, g, err);
        rc = rc > 0 ? 0 : rc;
    }
    if (rc == 0) {
        rc = mx_hold_new(g->shards_dir, &g->hold, err);
    }
    return rc != 0 ? rc : meet_domain(g, err);
}

/* ---- after ---- */

/* Removes the files of shards that the catalog doesn't have; in doubt, the next sweep decides. */
static void undo(struct ingest *g)
{
    mx_shard_writer_abort(g->writer);
    g->writer = NULL;
    for (uint32_t i = 0; i < g->n_sealed; i++) {
        char *path = mx_store_path(g->shards_dir, g->sealed[i].id, ".mxs");
        if (path != NULL && mx_catalog_has_shard(g->catalog, g->sealed[i].id, NULL) == 0) {
            (void)unlink(path);
        }
        free(path);
    }
}

static int finish(struct ingest *g, struct mx_err *err)
{
    int rc = g->writer != NULL ? seal(g, err) : 0;

    if (rc == 0 && g->n_sealed == 0) {
        rc = mx_fail(err, MX_EINVALID, "%s%s: no text and no tokens in it: nothing to register",
                     g->walk.files[0], g->walk.n_files > 1 ? " and the other files" : "");
    }
    return rc != 0 ? rc
                   : mx_catalog_register(g->catalog, &g->domain, g->dictionary,
                                         g->dictionary_bytes, g->sealed, g->n_sealed, err);
}

int mx_ingest(const char *dir, const char *const *files, size_t n_files,
              const struct mx_ingest_options *o, struct mx_ingest_result *ret, struct mx_err *err)
{
    struct ingest *g = calloc(1, sizeof *g);
    int rc;

    if (g == NULL) {
        return mx_fail(err, MX_ENOMEM, "out of memory");
    }
    g->o = *o;
    g->walk.files = files;
    g->walk.n_files = n_files;
    g->walk.o = &g->o;
    g->walk.sink = (struct mx_sink){document_cb, tokens_cb, g};
    rc = prepare(g, dir, err);
    if (rc == 0) {
        rc = mx_walk_run(&g->walk, err);
    }
    if (rc == 0) {
        rc = finish(g, err);
    }
    if (rc != 0) {
        undo(g);
    } else {
        ret->total = g->walk.p;
        ret->domain = g->domain;
    }
    mx_hold_free(g->hold);
    mx_catalog_close(g->catalog);
    free(g->dictionary);
    free(g->sealed);
    free(g);
    return rc;
}
