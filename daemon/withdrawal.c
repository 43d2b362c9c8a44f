/* withdrawal.c - see withdrawal.h. */
#include "daemon/withdrawal.h"

#include <inttypes.h>
#include <string.h>

/* time u64, author u16-string, why u16-string, n u32, n times shard u64, first token u64, tokens
 * u64. */

#define PIECE_BYTES 24u

uint8_t *mx_withdrawn_encode(const struct mx_withdrawn *w, size_t *ret_n)
{
    size_t cap = 64 + (size_t)w->author_len + w->why_len + PIECE_BYTES * (size_t)w->n;
    uint8_t *p = malloc(cap);
    struct mx_writer out;

    if (p == NULL) {
        return NULL;
    }
    mx_writer_init(&out, p, cap);
    mx_write_u64(&out, w->time_ms);
    mx_write_str(&out, w->author, w->author_len);
    mx_write_str(&out, w->why, w->why_len);
    mx_write_u32(&out, w->n);
    for (uint32_t i = 0; i < w->n; i++) {
        mx_write_u64(&out, w->pieces[i].shard);
        mx_write_u64(&out, w->pieces[i].first_token);
        mx_write_u64(&out, w->pieces[i].tokens);
    }
    MX_REQUIRE(!out.failed);
    *ret_n = mx_writer_len(&out);
    return p;
}

int mx_withdrawn_decode(struct mx_span bytes, struct mx_withdrawn *ret, struct mx_err *err)
{
    struct mx_withdrawn w = {0};
    struct mx_span author, why;
    struct mx_reader r;

    mx_reader_init(&r, bytes.p, bytes.n);
    w.time_ms = mx_read_u64(&r);
    author = mx_read_str(&r, MX_WHY_MAX);
    why = mx_read_str(&r, MX_WHY_MAX);
    w.n = mx_read_u32(&r);
    if (r.failed || mx_reader_left(&r) != PIECE_BYTES * (size_t)w.n) {
        return mx_fail(err, MX_EDAMAGED, "a withdrawal of %zu bytes makes no sense", bytes.n);
    }
    w.pieces = malloc((w.n + 1) * sizeof *w.pieces);
    if (w.pieces == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for a withdrawal");
    }
    for (uint32_t i = 0; i < w.n; i++) {
        w.pieces[i].shard = mx_read_u64(&r);
        w.pieces[i].first_token = mx_read_u64(&r);
        w.pieces[i].tokens = mx_read_u64(&r);
    }
    w.author = (const char *)author.p;
    w.author_len = (uint32_t)author.n;
    w.why = (const char *)why.p;
    w.why_len = (uint32_t)why.n;
    *ret = w;
    return 0;
}

static int by_first(const void *a, const void *b)
{
    const struct mx_range *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

/* The samples of one piece; false if there are none. *at: where its shard is looked for first, and
 * is found. */
static bool range_of(const struct mx_view *v, const struct mx_withdrawn_piece *p, uint32_t *at,
                     struct mx_range *ret)
{
    for (uint32_t looked = 0; looked < v->n; looked++) {
        uint32_t i = *at + looked < v->n ? *at + looked : *at + looked - v->n;
        uint64_t samples = mx_view_shard_samples(v, i), first, end;

        if (v->shards[i].id != p->shard) {
            continue;
        }
        *at = i;
        first = p->first_token / v->seq_len;
        end = p->tokens == 0 ? first : (p->first_token + p->tokens - 1) / v->seq_len + 1;
        end = end < samples ? end : samples; /* tokens at the tail fill no sample */
        if (first >= end) {
            return false;
        }
        *ret = (struct mx_range){v->shards[i].first_sample + first, end - first};
        return true;
    }
    return false;
}

int mx_withdrawn_ranges(const struct mx_view *v, const struct mx_withdrawn_piece *pieces,
                        uint32_t n, struct mx_range **ret, uint32_t *ret_n, struct mx_err *err)
{
    struct mx_range *ranges = malloc((n + 1) * sizeof *ranges);
    uint32_t found = 0, kept = 0, at = 0; /* pieces were found shard by shard */

    if (ranges == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " documents", n);
    }
    for (uint32_t i = 0; i < n; i++) {
        found += range_of(v, &pieces[i], &at, &ranges[found]);
    }
    qsort(ranges, found, sizeof *ranges, by_first);
    for (uint32_t i = 0; i < found; i++) { /* neighbours share samples */
        struct mx_range *last = kept > 0 ? &ranges[kept - 1] : NULL;

        if (last != NULL && ranges[i].first <= last->first + last->count) {
            uint64_t end = ranges[i].first + ranges[i].count;

            last->count = end > last->first + last->count ? end - last->first : last->count;
        } else {
            ranges[kept++] = ranges[i];
        }
    }
    *ret = ranges;
    *ret_n = kept;
    return 0;
}
