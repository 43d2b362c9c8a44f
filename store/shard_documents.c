/* shard_documents.c - finds documents in a shard, and verifies a shard as a whole (shard.h).
 *
 * Groups are keyed by their first token, so the group of a token is the last one at or before it;
 * each says where it ends, which is where the next one must begin. */
#include "store/hash.h"
#include "store/shard_impl.h"

#include <inttypes.h>
#include <string.h>

static int damaged(const struct mx_shard *s, const char *what, uint64_t number, const char *why,
                   struct mx_err *err)
{
    return mx_fail(err, MX_EDAMAGED, "%s: %s %" PRIu64 " is damaged: %s", s->path, what, number,
                   why);
}

/* What a cursor's move found, as a group that holds `token` or, when walking, begins there. */
static int take_group(const struct mx_shard *s, int moved, uint64_t token, struct mx_span key,
                      struct mx_span v, struct mx_group *ret, struct mx_err *err)
{
    uint64_t first;
    const char *why;

    if (moved < 0) {
        return moved;
    }
    if (moved == 0 || !mx_shard_key_parse(key, MX_KEY_GROUP, &first)) {
        return damaged(s, "the documents at token", token, "they aren't there", err);
    }
    why = mx_group_decode(s->header.info.id, first, v, ret);
    if (why != NULL) {
        return damaged(s, "the group of documents at token", first, why, err);
    }
    if (token < ret->first || token >= ret->end || ret->end > s->header.info.tokens) {
        return damaged(s, "the documents at token", token, "they aren't there", err);
    }
    return 0;
}

static int seek_group(const struct mx_shard *s, struct mx_kv_cursor *c, uint64_t token,
                      struct mx_group *ret, struct mx_err *err)
{
    uint8_t wanted[MX_SHARD_KEY_MAX];
    size_t n = mx_shard_key(MX_KEY_GROUP, token, wanted);
    struct mx_span key = {NULL, 0}, v = {NULL, 0};
    int moved = mx_kv_seek_last_at(c, wanted, n, &key, &v, err);

    return take_group(s, moved, token, key, v, ret, err);
}

/* The group after one that ended at `end`, which is before the shard's end. */
static int next_group(const struct mx_shard *s, struct mx_kv_cursor *c, uint64_t end,
                      struct mx_group *ret, struct mx_err *err)
{
    struct mx_span key = {NULL, 0}, v = {NULL, 0};
    int moved = mx_kv_next(c, &key, &v, err);
    int rc = take_group(s, moved, end, key, v, ret, err);

    if (rc == 0 && ret->first != end) {
        return damaged(s, "the documents at token", end, "they aren't there", err);
    }
    return rc;
}

static int check_range(const struct mx_shard *s, uint64_t first, size_t n, struct mx_err *err)
{
    if (n == 0 || first >= s->header.info.tokens || n > s->header.info.tokens - first) {
        return mx_fail(err, MX_EINVALID,
                       "%s: tokens %" PRIu64 " to %" PRIu64 " aren't in it: it has %" PRIu64,
                       s->path, first, first + n, s->header.info.tokens);
    }
    return 0;
}

int mx_shard_starts(const struct mx_shard *s, uint64_t first, size_t n, uint32_t *starts,
                    size_t cap, size_t *ret_n, struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    struct mx_kv_cursor c = {0};
    struct mx_group g;
    uint64_t end = first + n;
    size_t found = 0;
    int rc = check_range(s, first, n, err);

    if (rc == 0 && n - 1 > UINT32_MAX) {
        rc = mx_fail(err, MX_EINVALID, "%s: %zu tokens are too many at once", s->path, n);
    }
    if (rc != 0 || (rc = mx_kv_begin(s->kv, false, &t, err)) != 0) {
        return rc;
    }
    rc = mx_kv_cursor_open(&t, MX_KV_MAIN, &c, err);
    if (rc == 0) {
        rc = seek_group(s, &c, first, &g, err);
        while (rc == 0) {
            for (uint32_t i = mx_group_find(&g, first); i < g.n; i++) {
                uint64_t start = mx_group_start(&g, i);
                if (start >= end) {
                    break;
                }
                if (found < cap) {
                    starts[found] = (uint32_t)(start - first);
                }
                found++;
            }
            if (g.end >= end) {
                break;
            }
            rc = next_group(s, &c, g.end, &g, err);
        }
        mx_kv_cursor_close(&c);
    }
    mx_kv_abort(&t);
    if (rc == 0) {
        *ret_n = found;
    }
    return rc;
}

static int get_origin(const struct mx_shard *s, struct mx_kv_txn *t, const struct mx_group *g,
                      uint32_t index, struct mx_document *ret, struct mx_err *err)
{
    uint8_t key[MX_SHARD_KEY_MAX];
    size_t n = mx_shard_key(MX_KEY_ORIGIN, g->first, key);
    struct mx_span v;
    const char *why;
    int rc = mx_kv_get(t, MX_KV_MAIN, key, n, &v, err);

    if (rc == MX_ENOTFOUND) {
        return damaged(s, "the origins of documents at token", g->first, "they aren't there", err);
    }
    if (rc != 0) {
        return rc;
    }
    why = mx_origin_decode(s->header.info.id, g->first, g->n, index, v, ret);
    if (why == NULL && ret->source >= s->header.sources) {
        why = "a source isn't in the list";
    }
    return why != NULL ? damaged(s, "the origins of documents at token", g->first, why, err) : 0;
}

int mx_shard_document_at(const struct mx_shard *s, uint64_t token, struct mx_document *ret,
                         struct mx_err *err)
{
    struct mx_kv_txn t = {0};
    struct mx_kv_cursor c = {0};
    struct mx_group g;
    struct mx_document d = {0};
    int rc = check_range(s, token, 1, err);

    if (rc != 0 || (rc = mx_kv_begin(s->kv, false, &t, err)) != 0) {
        return rc;
    }
    rc = mx_kv_cursor_open(&t, MX_KV_MAIN, &c, err);
    if (rc == 0) {
        rc = seek_group(s, &c, token, &g, err);
        mx_kv_cursor_close(&c);
    }
    if (rc == 0) {
        uint32_t i = mx_group_find(&g, token + 1) - 1;
        d.first_token = mx_group_start(&g, i);
        d.tokens = mx_group_start(&g, i + 1) - d.first_token;
        rc = get_origin(s, &t, &g, i, &d, err);
    }
    mx_kv_abort(&t);
    if (rc == 0) {
        *ret = d;
    }
    return rc;
}

/* ---- the whole shard ---- */

struct verify {
    uint8_t *block;
    uint64_t *sums;
    struct mx_zunpacker *z;
};

static int verify_blocks(const struct mx_shard *s, struct verify *v,
                         void (*progress)(void *arg, uint32_t block), void *arg,
                         struct mx_err *err)
{
    const struct mx_shard_info *i = &s->header.info;
    uint64_t digest[2];
    uint32_t max = 0;

    for (uint32_t b = 0; b < i->blocks; b++) {
        uint32_t n = mx_block_tokens(i, b);
        int rc = mx_shard_unpack(s, b, v->z, v->block, err);
        if (rc != 0) {
            return rc;
        }
        mx_store_u64((uint8_t *)&v->sums[b], mx_hash64(v->block, (size_t)n * i->width, 0));
        for (uint32_t k = 0; k < n; k++) {
            const uint8_t *p = v->block + (size_t)k * i->width;
            uint32_t token = i->width == 2 ? (uint32_t)p[0] | (uint32_t)p[1] << 8 : mx_load_u32(p);
            max = token > max ? token : max;
        }
        if (progress != NULL) {
            progress(arg, b);
        }
    }
    mx_hash128(v->sums, (size_t)i->blocks * 8, digest);
    if (digest[0] != i->digest[0] || digest[1] != i->digest[1] || max != i->max_token) {
        return damaged(s, "header", 0, "its digest isn't that of the blocks", err);
    }
    return 0;
}

static int verify_documents(const struct mx_shard *s, struct mx_err *err)
{
    const struct mx_shard_info *i = &s->header.info;
    struct mx_kv_txn t = {0};
    struct mx_kv_cursor c = {0};
    struct mx_group g = {0};
    struct mx_document d;
    uint64_t documents = 0, groups = 0;
    int rc = mx_kv_begin(s->kv, false, &t, err);

    if (rc != 0) {
        return rc;
    }
    rc = mx_kv_cursor_open(&t, MX_KV_MAIN, &c, err);
    if (rc == 0) {
        rc = seek_group(s, &c, 0, &g, err);
        while (rc == 0) {
            for (uint32_t k = 1; rc == 0 && k < g.n; k++) {
                if (mx_group_start(&g, k) <= mx_group_start(&g, k - 1)) {
                    rc = damaged(s, "the group of documents at token", g.first,
                                 "its documents don't rise", err);
                }
            }
            if (rc == 0) {
                rc = get_origin(s, &t, &g, g.n - 1, &d, err);
            }
            documents += g.n;
            groups++;
            if (rc != 0 || g.end >= i->tokens) {
                break;
            }
            rc = next_group(s, &c, g.end, &g, err);
        }
        mx_kv_cursor_close(&c);
    }
    mx_kv_abort(&t);
    if (rc == 0 && (documents != i->documents || groups != s->header.groups)) {
        rc = damaged(s, "header", 0, "its number of documents isn't that of the groups", err);
    }
    return rc;
}

int mx_shard_verify(const struct mx_shard *s, void (*progress)(void *arg, uint32_t block),
                    void *arg, struct mx_err *err)
{
    char path[MX_PATH_MAX + 1];
    struct verify v = {
        .block = malloc(MX_BLOCK_BYTES_MAX),
        .sums = calloc(s->header.info.blocks, sizeof *v.sums),
    };
    int rc = v.block == NULL || v.sums == NULL
                 ? mx_fail(err, MX_ENOMEM, "%s: out of memory for verifying", s->path)
                 : mx_zunpacker_new(&v.z, err);

    if (rc == 0) {
        rc = verify_blocks(s, &v, progress, arg, err);
    }
    if (rc == 0) {
        rc = verify_documents(s, err);
    }
    for (uint32_t k = 0; rc == 0 && k < s->header.sources; k++) {
        rc = mx_shard_source(s, k, path, sizeof path, err);
    }
    mx_zunpacker_free(v.z);
    free(v.block);
    free(v.sums);
    return rc;
}
