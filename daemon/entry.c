/* entry.c - see entry.h. */
#include "daemon/entry.h"

#include "proto/limits.h"

#include <inttypes.h>
#include <string.h>

/* kind u16, author u16-string, why u16-string, time u64, step u64, then what the kind has. The
 * index is the catalog's key. */

const char *mx_entry_name(enum mx_entry_kind kind)
{
    switch (kind) {
#define ENTRY_NAME(id, NAME, name)                                                                \
    case id: return #name;
        MX_ENTRIES(ENTRY_NAME)
    }
    return "unknown";
}

static void encode_losses(struct mx_writer *w, const struct mx_entry *e)
{
    mx_write_u32(w, e->rank);
    mx_write_u32(w, e->world);
    mx_write_u32(w, e->flags);
    mx_write_u64(w, e->mix_version);
    mx_write_u32(w, e->n);
    for (uint32_t i = 0; i < e->n; i++) {
        mx_write_u32(w, e->losses[i].domain);
        mx_write_u32(w, e->losses[i].samples);
        mx_write_u64(w, e->losses[i].tokens);
        mx_write_f64(w, e->losses[i].loss_sum);
    }
}

static void encode_mix(struct mx_writer *w, const struct mx_entry *e, uint32_t k)
{
    mx_write_u64(w, e->mix_version);
    mx_write_u32(w, (uint32_t)e->cause);
    mx_write_u64(w, e->cause_step);
    mx_write_u32(w, k);
    for (uint32_t i = 0; i < k; i++) {
        mx_write_u64(w, e->shares[i]);
    }
}

static void encode_weights(struct mx_writer *w, const struct mx_entry *e, uint32_t k)
{
    mx_write_u32(w, k);
    for (uint32_t i = 0; i < k; i++) {
        mx_write_f64(w, e->weights[i]);
    }
}

uint8_t *mx_entry_encode(const struct mx_entry *e, uint32_t k, size_t *ret_n)
{
    size_t cap = 256 + (size_t)e->author_len + e->why_len + 8 * (size_t)k +
                 (e->kind == MX_ENTRY_FEEDBACK ? 24 * (size_t)e->n : 0);
    uint8_t *p = malloc(cap);
    struct mx_writer w;

    if (p == NULL) {
        return NULL;
    }
    mx_writer_init(&w, p, cap);
    mx_write_u16(&w, (uint16_t)e->kind);
    mx_write_str(&w, e->author, e->author_len);
    mx_write_str(&w, e->why, e->why_len);
    mx_write_u64(&w, e->time_ms);
    mx_write_u64(&w, e->step);
    switch (e->kind) {
    case MX_ENTRY_FEEDBACK: encode_losses(&w, e); break;
    case MX_ENTRY_CREATE:
    case MX_ENTRY_MIX: encode_mix(&w, e, k); break;
    case MX_ENTRY_SET: encode_weights(&w, e, k); break;
    case MX_ENTRY_EXHAUSTED: mx_write_u32(&w, e->domain); break;
    case MX_ENTRY_RESERVE:
    case MX_ENTRY_CLOSE:
    case MX_ENTRY_STOP: break;
    }
    MX_REQUIRE(!w.failed);
    *ret_n = mx_writer_len(&w);
    return p;
}

static int decode_losses(struct mx_reader *r, struct mx_entry *e, void **memory)
{
    struct mx_loss *losses;

    e->rank = mx_read_u32(r);
    e->world = mx_read_u32(r);
    e->flags = mx_read_u32(r);
    e->mix_version = mx_read_u64(r);
    e->n = mx_read_u32(r);
    if (r->failed || e->n > mx_reader_left(r) / 24) {
        return -1;
    }
    losses = malloc(((size_t)e->n + 1) * sizeof *losses);
    if (losses == NULL) {
        return MX_ENOMEM;
    }
    for (uint32_t i = 0; i < e->n; i++) {
        losses[i].domain = mx_read_u32(r);
        losses[i].samples = mx_read_u32(r);
        losses[i].tokens = mx_read_u64(r);
        losses[i].loss_sum = mx_read_f64(r);
    }
    e->losses = losses;
    *memory = losses;
    return 0;
}

/* k 64-bit values: shares, or weights by their bits. */
static int decode_values(struct mx_reader *r, uint32_t k, void **memory)
{
    uint64_t *v;

    if (mx_read_u32(r) != k || mx_reader_left(r) != 8 * (size_t)k) {
        return -1;
    }
    v = malloc(8 * ((size_t)k + 1));
    if (v == NULL) {
        return MX_ENOMEM;
    }
    for (uint32_t i = 0; i < k; i++) {
        v[i] = mx_read_u64(r);
    }
    *memory = v;
    return 0;
}

static int decode_body(struct mx_reader *r, uint32_t k, struct mx_entry *e, void **memory)
{
    int rc;

    switch (e->kind) {
    case MX_ENTRY_FEEDBACK: return decode_losses(r, e, memory);
    case MX_ENTRY_CREATE:
    case MX_ENTRY_MIX:
        e->mix_version = mx_read_u64(r);
        e->cause = (enum mx_mix_cause)mx_read_u32(r);
        e->cause_step = mx_read_u64(r);
        rc = decode_values(r, k, memory);
        e->shares = *memory;
        e->n = k;
        return rc;
    case MX_ENTRY_SET:
        rc = decode_values(r, k, memory);
        e->weights = *memory;
        e->n = k;
        return rc;
    case MX_ENTRY_EXHAUSTED: e->domain = mx_read_u32(r); return 0;
    case MX_ENTRY_RESERVE:
    case MX_ENTRY_CLOSE:
    case MX_ENTRY_STOP: return 0;
    }
    return -1;
}

int mx_entry_decode(struct mx_span bytes, uint32_t k, struct mx_entry_box *ret, struct mx_err *err)
{
    struct mx_entry *e = &ret->entry;
    struct mx_reader r;
    struct mx_span author, why;
    int rc;

    memset(ret, 0, sizeof *ret);
    mx_reader_init(&r, bytes.p, bytes.n);
    e->kind = (enum mx_entry_kind)mx_read_u16(&r);
    author = mx_read_str(&r, MX_WHY_MAX);
    why = mx_read_str(&r, MX_WHY_MAX);
    e->time_ms = mx_read_u64(&r);
    e->step = mx_read_u64(&r);
    e->author = (const char *)author.p;
    e->author_len = (uint32_t)author.n;
    e->why = (const char *)why.p;
    e->why_len = (uint32_t)why.n;
    rc = r.failed ? -1 : decode_body(&r, k, e, &ret->memory);
    if (rc == 0 && mx_reader_done(&r)) {
        return 0;
    }
    mx_entry_box_clear(ret);
    if (rc == MX_ENOMEM) {
        return mx_fail(err, MX_ENOMEM, "no memory for a journal entry");
    }
    return mx_fail(err, MX_EDAMAGED, "an entry of kind %u (%s) with %zu bytes makes no sense",
                   (unsigned)e->kind, mx_entry_name(e->kind), bytes.n);
}

void mx_entry_box_clear(struct mx_entry_box *b)
{
    free(b->memory);
    b->memory = NULL;
    b->entry.losses = NULL;
    b->entry.shares = NULL;
    b->entry.weights = NULL;
}

uint8_t *mx_mix_encode(uint64_t version, const uint64_t *shares, uint32_t k, size_t *ret_n)
{
    size_t n = 8 + 8 * (size_t)k;
    uint8_t *p = malloc(n);

    if (p != NULL) {
        mx_store_u64(p, version);
        for (uint32_t i = 0; i < k; i++) {
            mx_store_u64(p + 8 + 8 * (size_t)i, shares[i]);
        }
        *ret_n = n;
    }
    return p;
}

int mx_mix_decode(struct mx_span bytes, uint32_t k, uint64_t *ret_version, uint64_t *ret_shares,
                  struct mx_err *err)
{
    if (bytes.n != 8 + 8 * (size_t)k) {
        return mx_fail(err, MX_EDAMAGED, "a mix of %zu bytes isn't one of %" PRIu32 " domains",
                       bytes.n, k);
    }
    *ret_version = mx_load_u64(bytes.p);
    for (uint32_t i = 0; i < k; i++) {
        ret_shares[i] = mx_load_u64(bytes.p + 8 + 8 * (size_t)i);
    }
    return 0;
}

uint8_t *mx_words_encode(const uint64_t *words, size_t n, size_t *ret_n)
{
    uint8_t *p = malloc(8 * n + 1);

    if (p != NULL) {
        for (size_t i = 0; i < n; i++) {
            mx_store_u64(p + 8 * i, words[i]);
        }
        *ret_n = 8 * n;
    }
    return p;
}

int mx_words_decode(struct mx_span bytes, uint64_t **ret, size_t *ret_n, struct mx_err *err)
{
    uint64_t *words;

    if (bytes.n % 8 != 0) {
        return mx_fail(err, MX_EDAMAGED, "a snapshot of %zu bytes isn't made of words", bytes.n);
    }
    words = malloc(bytes.n + 8);
    if (words == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for a snapshot of %zu bytes", bytes.n);
    }
    for (size_t i = 0; i < bytes.n / 8; i++) {
        words[i] = mx_load_u64(bytes.p + 8 * i);
    }
    *ret = words;
    *ret_n = bytes.n / 8;
    return 0;
}
