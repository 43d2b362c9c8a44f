/* shard_documents.c - finds documents in a shard by their tokens (shard.h, shard_impl.h).
 *
 * Groups are keyed by their first token, so the group of a token is the last one at or before it;
 * each says where it ends, which is where the next one must begin. */
#include "store/shard_impl.h"

#include <inttypes.h>

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
        return mx_shard_damaged(s, "the documents at token", token, "they aren't there", err);
    }
    why = mx_group_decode(s->header.info.id, first, v, ret);
    if (why != NULL) {
        return mx_shard_damaged(s, "the group of documents at token", first, why, err);
    }
    if (token < ret->first || token >= ret->end || ret->end > s->header.info.tokens) {
        return mx_shard_damaged(s, "the documents at token", token, "they aren't there", err);
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
        return mx_shard_damaged(s, "the documents at token", end, "they aren't there", err);
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

/* ---- from document to document ---- */

int mx_place_open(const struct mx_shard *s, struct mx_shard_place *ret, struct mx_err *err)
{
    int rc;

    *ret = (struct mx_shard_place){.s = s};
    rc = mx_kv_begin(s->kv, false, &ret->t, err);
    if (rc == 0) {
        rc = mx_kv_cursor_open(&ret->t, MX_KV_MAIN, &ret->c, err);
        if (rc != 0) {
            mx_kv_abort(&ret->t);
        }
    }
    return rc;
}

void mx_place_close(struct mx_shard_place *p)
{
    mx_kv_cursor_close(&p->c);
    mx_kv_abort(&p->t);
}

/* A group that has just been found becomes the place's, with the origins of its documents. */
static int enter(struct mx_shard_place *p, const struct mx_group *g, struct mx_err *err)
{
    struct mx_span v;
    const char *why;
    int rc;

    for (uint32_t i = 1; i < g->n; i++) {
        if (mx_group_start(g, i) <= mx_group_start(g, i - 1)) {
            return mx_shard_damaged(p->s, "the group of documents at token", g->first,
                                    "its documents don't rise", err);
        }
    }
    rc = mx_shard_get(p->s, &p->t, MX_KEY_ORIGIN, g->first, "the origins of documents at token",
                      &v, err);
    if (rc != 0) {
        return rc;
    }
    why = mx_origins_open(p->s->header.info.id, g->first, g->n, v, &p->start);
    if (why != NULL) {
        return mx_shard_damaged(p->s, "the origins of documents at token", g->first, why, err);
    }
    p->origins = p->start;
    p->g = *g;
    return 0;
}

/* The next document of the place's group. */
static int take(struct mx_shard_place *p, struct mx_document *ret, struct mx_err *err)
{
    uint32_t i = p->origins.next;
    const char *why = mx_origins_next(&p->origins, ret);

    if (why == NULL && ret->source >= p->s->header.sources) {
        why = "a source isn't in the list";
    }
    if (why != NULL) {
        return mx_shard_damaged(p->s, "the origins of documents at token", p->g.first, why, err);
    }
    ret->first_token = mx_group_start(&p->g, i);
    ret->tokens = mx_group_start(&p->g, i + 1) - ret->first_token;
    return 0;
}

int mx_place_seek(struct mx_shard_place *p, uint64_t token, struct mx_document *ret,
                  struct mx_err *err)
{
    struct mx_group g;
    uint32_t i;
    int rc = check_range(p->s, token, 1, err);

    if (rc == 0 && (p->g.n == 0 || token < p->g.first || token >= p->g.end)) {
        p->g.n = 0;
        rc = seek_group(p->s, &p->c, token, &g, err);
        if (rc == 0) {
            rc = enter(p, &g, err);
        }
    }
    if (rc != 0) {
        return rc;
    }
    i = mx_group_find(&p->g, token + 1) - 1;
    if (i < p->origins.next) {
        p->origins = p->start;
    }
    do {
        rc = take(p, ret, err);
    } while (rc == 0 && p->origins.next <= i);
    return rc;
}

int mx_place_next(struct mx_shard_place *p, struct mx_document *ret, struct mx_err *err)
{
    struct mx_group g;
    int rc = 0;

    if (p->origins.next == p->g.n) {
        if (p->g.end >= p->s->header.info.tokens) {
            return 0;
        }
        rc = next_group(p->s, &p->c, p->g.end, &g, err);
        if (rc == 0) {
            rc = enter(p, &g, err);
        }
    }
    if (rc == 0) {
        rc = take(p, ret, err);
    }
    return rc == 0 ? 1 : rc;
}

int mx_shard_document_at(const struct mx_shard *s, uint64_t token, struct mx_document *ret,
                         struct mx_err *err)
{
    struct mx_shard_place p;
    struct mx_document d = {0};
    int rc = mx_place_open(s, &p, err);

    if (rc != 0) {
        return rc;
    }
    rc = mx_place_seek(&p, token, &d, err);
    mx_place_close(&p);
    if (rc == 0) {
        *ret = d;
    }
    return rc;
}

int mx_shard_documents(const struct mx_shard *s, uint64_t first, uint64_t n,
                       int (*cb)(void *arg, const struct mx_document *d), void *arg,
                       struct mx_err *err)
{
    struct mx_shard_place p;
    struct mx_document d = {0};
    int rc = check_range(s, first, n, err);
    int more;

    if (rc != 0 || (rc = mx_place_open(s, &p, err)) != 0) {
        return rc;
    }
    rc = mx_place_seek(&p, first, &d, err);
    more = rc == 0;
    while (more == 1 && d.first_token < first + n) {
        rc = cb(arg, &d);
        more = rc == 0 ? mx_place_next(&p, &d, err) : 0;
    }
    mx_place_close(&p);
    return more < 0 ? more : rc;
}
