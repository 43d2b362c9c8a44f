/* entry.c - see entry.h. */
#include "daemon/entry.h"

#include "proto/limits.h"

#include <inttypes.h>
#include <string.h>

/* kind u16, author u16-string, why u16-string, time u64, step u64, frontier u64, then what the kind
 * has. The index is the journal's key. */

const char *mx_entry_name(enum mx_entry_kind kind)
{
    switch (kind) {
#define ENTRY_NAME(id, NAME, name)                                                                \
    case id: return #name;
        MX_ENTRIES(ENTRY_NAME)
    }
    return "unknown";
}

/* ---- encoding ------------------------------------------------------------------------------- */

static void write_u64s(struct mx_writer *w, const uint64_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mx_write_u64(w, v[i]);
    }
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

/* A mix, as all entries that make one have it first. */
static void encode_mix(struct mx_writer *w, const struct mx_entry *e, uint32_t k)
{
    mx_write_u64(w, e->mix_version);
    mx_write_u32(w, (uint32_t)e->cause);
    mx_write_u64(w, e->cause_step);
    mx_write_u32(w, k);
    write_u64s(w, e->shares, k);
}

static void encode_set(struct mx_writer *w, const struct mx_entry *e, uint32_t k)
{
    encode_mix(w, e, k);
    for (uint32_t i = 0; i < k; i++) {
        mx_write_f64(w, e->weights[i]);
    }
}

static void encode_adopt(struct mx_writer *w, const struct mx_entry *e)
{
    mx_write_u32(w, e->domain);
    mx_write_u32(w, e->flag);
    mx_write_u64(w, e->samples);
    mx_write_u32(w, e->chunk);
    mx_write_u32(w, e->shards);
}

static void encode_withdraw(struct mx_writer *w, const struct mx_entry *e)
{
    mx_write_u32(w, e->domain);
    mx_write_u32(w, e->serial);
    mx_write_u32(w, e->n);
    for (uint32_t i = 0; i < e->n; i++) {
        mx_write_u64(w, e->ranges[i].first);
        mx_write_u64(w, e->ranges[i].count);
    }
}

static void encode_state(struct mx_writer *w, const struct mx_entry *e, uint32_t k)
{
    encode_mix(w, e, k);
    mx_write_u32(w, e->branch);
    mx_write_u32(w, e->source);
    write_u64s(w, e->words, e->n_words);
}

/* More than any entry of this content takes. */
static size_t room_for(const struct mx_entry *e, uint32_t k)
{
    return 256 + (size_t)e->author_len + e->why_len + 16 * (size_t)k + 24 * (size_t)e->n +
           8 * e->n_words;
}

uint8_t *mx_entry_encode(const struct mx_entry *e, uint32_t k, size_t *ret_n)
{
    size_t cap = room_for(e, k);
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
    mx_write_u64(&w, e->frontier);
    switch (e->kind) {
    case MX_ENTRY_FEEDBACK: encode_losses(&w, e); break;
    case MX_ENTRY_CREATE:
    case MX_ENTRY_MIX: encode_mix(&w, e, k); break;
    case MX_ENTRY_SET: encode_set(&w, e, k); break;
    case MX_ENTRY_RESERVE:
        mx_write_u64(&w, e->digest_from);
        mx_write_u32(&w, e->n);
        write_u64s(&w, e->digests, e->n);
        break;
    case MX_ENTRY_EXHAUSTED:
        mx_write_u32(&w, e->domain);
        mx_write_u32(&w, e->flag);
        break;
    case MX_ENTRY_SKIP: mx_write_u64(&w, e->to); break;
    case MX_ENTRY_ADOPT: encode_adopt(&w, e); break;
    case MX_ENTRY_WITHDRAW: encode_withdraw(&w, e); break;
    case MX_ENTRY_REWIND:
    case MX_ENTRY_FORK: encode_state(&w, e, k); break;
    case MX_ENTRY_CLOSE:
    case MX_ENTRY_STOP: break;
    }
    MX_REQUIRE(!w.failed);
    *ret_n = mx_writer_len(&w);
    return p;
}

/* ---- decoding ------------------------------------------------------------------------------- */

static int decode_losses(struct mx_reader *r, struct mx_entry *e, struct mx_entry_box *box)
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
    losses = box->memory[0] = malloc(((size_t)e->n + 1) * sizeof *losses);
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
    return 0;
}

/* n 64-bit values into memory of the box: whole numbers, or doubles by their bits. */
static int decode_values(struct mx_reader *r, size_t n, void **memory)
{
    uint64_t *v;

    if (r->failed || mx_reader_left(r) / 8 < n) {
        return -1;
    }
    v = *memory = malloc(8 * (n + 1));
    if (v == NULL) {
        return MX_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        v[i] = mx_read_u64(r);
    }
    return 0;
}

static int decode_mix(struct mx_reader *r, uint32_t k, struct mx_entry *e, struct mx_entry_box *box)
{
    int rc;

    e->mix_version = mx_read_u64(r);
    e->cause = (enum mx_mix_cause)mx_read_u32(r);
    e->cause_step = mx_read_u64(r);
    rc = mx_read_u32(r) == k ? decode_values(r, k, &box->memory[0]) : -1;
    e->shares = box->memory[0];
    return rc;
}

static int decode_set(struct mx_reader *r, uint32_t k, struct mx_entry *e, struct mx_entry_box *box)
{
    int rc = decode_mix(r, k, e, box);

    rc = rc == 0 ? decode_values(r, k, &box->memory[1]) : rc;
    e->weights = box->memory[1];
    return rc;
}

static int decode_reserve(struct mx_reader *r, struct mx_entry *e, struct mx_entry_box *box)
{
    int rc;

    e->digest_from = mx_read_u64(r);
    e->n = mx_read_u32(r);
    rc = decode_values(r, e->n, &box->memory[0]);
    e->digests = box->memory[0];
    return rc;
}

static int decode_withdraw(struct mx_reader *r, struct mx_entry *e, struct mx_entry_box *box)
{
    struct mx_range *ranges;

    e->domain = mx_read_u32(r);
    e->serial = mx_read_u32(r);
    e->n = mx_read_u32(r);
    if (r->failed || e->n > mx_reader_left(r) / 16) {
        return -1;
    }
    ranges = box->memory[0] = malloc(((size_t)e->n + 1) * sizeof *ranges);
    if (ranges == NULL) {
        return MX_ENOMEM;
    }
    for (uint32_t i = 0; i < e->n; i++) {
        ranges[i].first = mx_read_u64(r);
        ranges[i].count = mx_read_u64(r);
    }
    e->ranges = ranges;
    return 0;
}

static int decode_state(struct mx_reader *r, uint32_t k, struct mx_entry *e,
                        struct mx_entry_box *box)
{
    int rc = decode_mix(r, k, e, box);

    e->branch = mx_read_u32(r);
    e->source = mx_read_u32(r);
    e->n_words = mx_reader_left(r) / 8;
    rc = rc == 0 ? decode_values(r, e->n_words, &box->memory[1]) : rc;
    e->words = box->memory[1];
    return rc;
}

static int decode_body(struct mx_reader *r, uint32_t k, struct mx_entry *e,
                       struct mx_entry_box *box)
{
    switch (e->kind) {
    case MX_ENTRY_FEEDBACK: return decode_losses(r, e, box);
    case MX_ENTRY_CREATE:
    case MX_ENTRY_MIX: return decode_mix(r, k, e, box);
    case MX_ENTRY_SET: return decode_set(r, k, e, box);
    case MX_ENTRY_RESERVE: return decode_reserve(r, e, box);
    case MX_ENTRY_EXHAUSTED:
        e->domain = mx_read_u32(r);
        e->flag = mx_read_u32(r);
        return 0;
    case MX_ENTRY_SKIP: e->to = mx_read_u64(r); return 0;
    case MX_ENTRY_ADOPT:
        e->domain = mx_read_u32(r);
        e->flag = mx_read_u32(r);
        e->samples = mx_read_u64(r);
        e->chunk = mx_read_u32(r);
        e->shards = mx_read_u32(r);
        return 0;
    case MX_ENTRY_WITHDRAW: return decode_withdraw(r, e, box);
    case MX_ENTRY_REWIND:
    case MX_ENTRY_FORK: return decode_state(r, k, e, box);
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
    e->frontier = mx_read_u64(&r);
    e->author = (const char *)author.p;
    e->author_len = (uint32_t)author.n;
    e->why = (const char *)why.p;
    e->why_len = (uint32_t)why.n;
    rc = r.failed ? -1 : decode_body(&r, k, e, ret);
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
    free(b->memory[0]);
    free(b->memory[1]);
    memset(b, 0, sizeof *b);
}

bool mx_entry_makes_mix(enum mx_entry_kind kind)
{
    return kind == MX_ENTRY_CREATE || kind == MX_ENTRY_MIX || kind == MX_ENTRY_SET ||
           kind == MX_ENTRY_REWIND || kind == MX_ENTRY_FORK;
}

uint64_t mx_mix_order(uint64_t step, bool set)
{
    return 2 * step + set;
}

uint8_t *mx_mix_encode(const struct mx_entry *e, uint32_t k, size_t *ret_n)
{
    size_t n = 16 + 8 * (size_t)k;
    uint8_t *p = malloc(n);

    if (p != NULL) {
        mx_store_u64(p, e->mix_version);
        mx_store_u64(p + 8, e->index);
        for (uint32_t i = 0; i < k; i++) {
            mx_store_u64(p + 16 + 8 * (size_t)i, e->shares[i]);
        }
        *ret_n = n;
    }
    return p;
}

int mx_mix_decode(struct mx_span bytes, uint32_t k, uint64_t *ret_version, uint64_t *ret_index,
                  uint64_t *ret_shares, struct mx_err *err)
{
    if (bytes.n != 16 + 8 * (size_t)k) {
        return mx_fail(err, MX_EDAMAGED, "a mix of %zu bytes isn't one of %" PRIu32 " domains",
                       bytes.n, k);
    }
    *ret_version = mx_load_u64(bytes.p);
    *ret_index = mx_load_u64(bytes.p + 8);
    for (uint32_t i = 0; i < k; i++) {
        ret_shares[i] = mx_load_u64(bytes.p + 16 + 8 * (size_t)i);
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
