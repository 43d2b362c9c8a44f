/* ingest_check.c - see ingest_check.h. */
#include "ingest_check.h"

#include "store/shardset.h"

struct mx_ingest_options ingest_options(const char *domain, enum mx_format format)
{
    return (struct mx_ingest_options){
        .domain = domain,
        .format = format,
        .eod = -1,
        .level = MX_LEVEL_DEFAULT,
        .bad_limit = -1.0,
    };
}

int ingest_text(const char *dir, const char *name, const char *text, size_t n,
                const struct mx_ingest_options *o, struct mx_ingest_result *ret,
                struct mx_err *err)
{
    char *path = path_in(dir, name), *store = path_in(dir, "store");
    const char *files[1] = {path};
    int rc;

    write_file(path, text, n);
    rc = mx_ingest(store, files, 1, o, ret, err);
    free(path);
    free(store);
    return rc;
}

static int read_shard(struct whole *w, struct mx_shardset *s, const struct mx_shard_info *i,
                      struct mx_err *err)
{
    const struct mx_shard *shard;
    uint64_t base = w->n;
    int rc = mx_shardset_get(s, i->id, &shard, err);

    if (rc != 0) {
        return rc;
    }
    w->tokens = reallocarray(w->tokens, w->n + i->tokens, sizeof *w->tokens);
    assert_non_null(w->tokens);
    rc = mx_shardset_read(s, i->id, 0, i->tokens, 4, w->tokens + w->n, err);
    w->n += i->tokens;
    if (rc == 0) {
        rc = mx_shard_verify(shard, NULL, NULL, err);
    }
    for (uint64_t at = 0; rc == 0 && at < i->tokens;) {
        struct mx_document *d;
        if ((w->n_documents & (w->n_documents - 1)) == 0) {
            /* full at each power of two */
            size_t room = w->n_documents > 0 ? w->n_documents * 2 : 1;
            w->documents = reallocarray(w->documents, room, sizeof *d);
            assert_non_null(w->documents);
        }
        d = &w->documents[w->n_documents++];
        rc = mx_shard_document_at(shard, at, d, err);
        if (rc == 0) {
            rc = mx_shard_source(shard, d->source, w->source, sizeof w->source, err);
            at += d->tokens;
            d->first_token += base;
        }
    }
    mx_shardset_put(s, shard);
    return rc;
}

int whole_read(const char *dir, const char *domain, struct whole *ret, struct mx_err *err)
{
    char *store = path_in(dir, "store"), *shards = path_in(dir, "store/shards");
    struct mx_catalog *c;
    struct mx_shardset *s;
    int rc = mx_catalog_open(store, false, &c, err);

    memset(ret, 0, sizeof *ret);
    if (rc == 0) {
        rc = mx_catalog_domain(c, domain, &ret->domain, err);
        assert_int_equal(mx_shardset_new(shards, 2, 1 << 20, &s, err), 0);
        for (uint32_t i = 0; rc == 0 && i < ret->domain.shards; i++) {
            struct mx_shard_info info;
            rc = mx_catalog_shards(c, ret->domain.id, i, 1, &info, err);
            if (rc == 0) {
                rc = read_shard(ret, s, &info, err);
            }
        }
        mx_shardset_free(s);
        mx_catalog_close(c);
    }
    free(store);
    free(shards);
    return rc;
}

void whole_free(struct whole *w)
{
    free(w->tokens);
    free(w->documents);
}

void assert_clean(const char *dir, unsigned shards)
{
    char *path = path_in(dir, "store/shards");

    assert_int_equal(count_files(path, ".tmp"), 0);
    assert_int_equal(count_files(path, ".ingest"), 0);
    assert_int_equal(count_files(path, ".mxs"), shards);
    free(path);
}
