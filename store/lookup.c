/* lookup.c - see lookup.h. */
#include "store/lookup.h"

#include <inttypes.h>
#include <string.h>

struct lookup {
    struct mx_shardset *set;
    const struct mx_view *view;
    const char *key; /* an id, or a path */
    size_t key_n;
    uint64_t byte; /* by origin */
    int (*cb)(void *arg, const struct mx_found *f);
    void *arg;
    struct mx_err *err;
    uint32_t at; /* the shard in hand */
    const struct mx_shard *shard;
    struct mx_found found;
};

/* Which samples of the view hold a token of the document. */
static void place(const struct mx_view *v, uint32_t shard, struct mx_found *f)
{
    uint64_t samples = mx_view_shard_samples(v, shard);
    uint64_t first = f->document.first_token / v->seq_len;
    uint64_t last = (f->document.first_token + f->document.tokens - 1) / v->seq_len;

    f->samples = first < samples ? (last < samples ? last + 1 : samples) - first : 0;
    f->first_sample = f->samples > 0 ? v->shards[shard].first_sample + first : 0;
}

/* Gives the document that was found to who asked. */
static int give(struct lookup *l, const struct mx_document *d)
{
    struct mx_found *f = &l->found;
    int rc = mx_shard_source(l->shard, d->source, f->source_path, sizeof f->source_path, l->err);

    if (rc != 0) {
        return rc;
    }
    f->document = *d;
    f->shard = mx_shard_get_info(l->shard)->id;
    place(l->view, l->at, f);
    return l->cb(l->arg, f);
}

/* Asks each shard in turn. */
static int each_shard(struct lookup *l, int (*ask)(struct lookup *l))
{
    int rc = 0;

    for (l->at = 0; rc == 0 && l->at < l->view->n; l->at++) {
        rc = mx_shardset_get(l->set, l->view->shards[l->at].id, &l->shard, l->err);
        if (rc == 0) {
            rc = mx_shardset_done(l->set, l->shard, ask(l));
        }
    }
    return rc;
}

/* ---- by id ---- */

static int id_cb(void *arg, const struct mx_document *d)
{
    return give(arg, d);
}

static int ask_id(struct lookup *l)
{
    return mx_shard_find_id(l->shard, l->key, l->key_n, id_cb, l, l->err);
}

int mx_lookup_id(struct mx_shardset *set, const struct mx_view *view, const char *id, size_t n,
                 int (*cb)(void *arg, const struct mx_found *f), void *arg, struct mx_err *err)
{
    struct lookup l = {.set = set, .view = view, .key = id, .key_n = n, .cb = cb, .arg = arg,
                       .err = err};

    return each_shard(&l, ask_id);
}

/* ---- by origin ---- */

/* Says of a document that is the last of its shard what the beginning of the next shard knows of
 * the byte: 1, a later document of the same source has it; 0, none has; 2, the document itself
 * goes on to the shard's end, and the shard after that must be asked; or a code. */
static int ask_next(const struct lookup *l, const struct mx_shard *next, const char *source_path,
                    const struct mx_document *d)
{
    char path[MX_PATH_MAX + 1];
    uint64_t tokens = mx_shard_get_info(next)->tokens;
    struct mx_document n;
    uint32_t source;
    int rc = mx_shard_document_at(next, 0, &n, l->err);

    if (rc == 0) {
        rc = mx_shard_source(next, n.source, path, sizeof path, l->err);
    }
    if (rc != 0) {
        return rc;
    }
    if (strcmp(path, source_path) != 0 || n.source_byte < d->source_byte ||
        n.source_byte > l->byte) {
        return 0;
    }
    if (n.source_byte > d->source_byte) {
        return 1;
    }
    if (n.tokens >= tokens) {
        return 2;
    }
    source = n.source;
    rc = mx_shard_document_at(next, n.tokens, &n, l->err);
    return rc != 0 ? rc : n.source == source && n.source_byte <= l->byte;
}

/* Does the source go on in the next shards with a document that begins after this one, and at or
 * before the byte? 1, 0 or a code. */
static int goes_on(const struct lookup *l, const struct mx_document *d)
{
    char path[MX_PATH_MAX + 1];
    int rc = 2;

    if (d->first_token + d->tokens < mx_shard_get_info(l->shard)->tokens) {
        return 0;
    }
    for (uint32_t i = l->at + 1; rc == 2 && i < l->view->n; i++) {
        const struct mx_shard *next;
        rc = mx_shard_source(l->shard, d->source, path, sizeof path, l->err);
        if (rc == 0) {
            rc = mx_shardset_get(l->set, l->view->shards[i].id, &next, l->err);
        }
        if (rc == 0) {
            rc = mx_shardset_done(l->set, next, ask_next(l, next, path, d));
        }
    }
    return rc == 2 ? 0 : rc;
}

static int origin_cb(void *arg, const struct mx_document *d)
{
    struct lookup *l = arg;
    int rc = goes_on(l, d);

    if (rc < 0) {
        return rc;
    }
    return rc == 1 ? 0 : give(l, d);
}

static int ask_origin(struct lookup *l)
{
    return mx_shard_find_origin(l->shard, l->key, l->key_n, l->byte, origin_cb, l, l->err);
}

int mx_lookup_origin(struct mx_shardset *set, const struct mx_view *view, const char *path,
                     size_t n, uint64_t byte, int (*cb)(void *arg, const struct mx_found *f),
                     void *arg, struct mx_err *err)
{
    struct lookup l = {.set = set, .view = view, .key = path, .key_n = n, .byte = byte,
                       .cb = cb, .arg = arg, .err = err};

    return each_shard(&l, ask_origin);
}

/* ---- by sample ---- */

struct sample {
    const struct mx_shard *shard;
    uint64_t first; /* token */
    uint32_t n;
    uint32_t source; /* whose path is in `path`, if any is */
    char path[MX_PATH_MAX + 1];
    int (*cb)(void *arg, const struct mx_document *d, const char *source_path,
              uint32_t first_token_in_sample, uint32_t tokens_in_sample);
    void *arg;
    struct mx_err *err;
};

static int sample_cb(void *arg, const struct mx_document *d)
{
    struct sample *s = arg;
    uint64_t end = s->first + s->n, from = d->first_token, to = d->first_token + d->tokens;

    if (s->path[0] == '\0' || s->source != d->source) {
        int rc = mx_shard_source(s->shard, d->source, s->path, sizeof s->path, s->err);
        if (rc != 0) {
            return rc;
        }
        s->source = d->source;
    }
    from = from > s->first ? from : s->first;
    to = to < end ? to : end;
    return s->cb(s->arg, d, s->path, (uint32_t)(from - s->first), (uint32_t)(to - from));
}

int mx_lookup_sample(struct mx_shardset *set, const struct mx_view *view, uint64_t sample,
                     int (*cb)(void *arg, const struct mx_document *d, const char *source_path,
                               uint32_t first_token_in_sample, uint32_t tokens_in_sample),
                     void *arg, struct mx_err *err)
{
    struct sample s = {.n = view->seq_len, .cb = cb, .arg = arg, .err = err};
    uint64_t id;
    int rc;

    if (sample >= view->samples) {
        return mx_fail(err, MX_EINVALID, "there is no sample %" PRIu64 ", only %" PRIu64, sample,
                       view->samples);
    }
    mx_view_find(view, sample, &id, &s.first);
    rc = mx_shardset_get(set, id, &s.shard, err);
    if (rc != 0) {
        return rc;
    }
    return mx_shardset_done(set, s.shard,
                            mx_shard_documents(s.shard, s.first, s.n, sample_cb, &s, err));
}
