/* msg.c - the codec made from msg.h's tables, and the checks of the two messages with tables.
 *
 * Knows bytes and limits; knows nothing of sockets, runs or stores. */
#include "proto/msg.h"

#include <inttypes.h>
#include <string.h>

static void write_span(struct mx_writer *w, struct mx_span s, size_t max)
{
    if (s.n > max) {
        w->failed = true;
        return;
    }
    mx_write_str(w, s.p, s.n);
}

#define READ_u16(r) mx_read_u16(r)
#define READ_u32(r) mx_read_u32(r)
#define READ_u64(r) mx_read_u64(r)
#define READ_name(r) mx_read_str(r, MX_NAME_MAX)
#define READ_text(r) mx_read_str(r, MX_TEXT_MAX)
#define READ_rest(r) mx_read_rest(r)
#define WRITE_u16(w, v) mx_write_u16(w, v)
#define WRITE_u32(w, v) mx_write_u32(w, v)
#define WRITE_u64(w, v) mx_write_u64(w, v)
#define WRITE_name(w, v) write_span(w, v, MX_NAME_MAX)
#define WRITE_text(w, v) write_span(w, v, MX_TEXT_MAX)
#define WRITE_rest(w, v) mx_write_bytes(w, (v).p, (v).n)

#define FIELD_READ(kind, field) ret->field = READ_##kind(&r);
#define FIELD_WRITE(kind, field) WRITE_##kind(w, m->field);

static int decoded(const struct mx_reader *r, const char *what, size_t n, struct mx_err *err)
{
    if (mx_reader_done(r)) {
        return 0;
    }
    if (r->failed) {
        return mx_fail(err, MX_EPROTOCOL, "%s: its body of %zu bytes is cut short or a length in "
                       "it is over its limit", what, n);
    }
    return mx_fail(err, MX_EPROTOCOL, "%s: %zu bytes too many at the end of its body of %zu", what,
                   mx_reader_left(r), n);
}

#define CODEC(type, what, FIELDS)                                                                 \
    void mx_##type##_encode(struct mx_writer *w, const struct mx_##type *m)                       \
    {                                                                                             \
        FIELDS(FIELD_WRITE)                                                                       \
    }                                                                                             \
    int mx_##type##_decode(const void *body, size_t n, struct mx_##type *ret, struct mx_err *err) \
    {                                                                                             \
        struct mx_reader r;                                                                       \
        mx_reader_init(&r, body, n);                                                              \
        FIELDS(FIELD_READ)                                                                        \
        return decoded(&r, what, n, err);                                                         \
    }
#define CODECS(id, NAME, name)                                                                    \
    CODEC(name##_request, #NAME " request", MX_##NAME##_REQUEST)                                  \
    CODEC(name##_reply, #NAME " reply", MX_##NAME##_REPLY)
MX_MESSAGES(CODECS)

void mx_trouble_encode(struct mx_writer *w, const struct mx_trouble *m)
{
    MX_TROUBLE(FIELD_WRITE)
    if (m->has_next) {
        mx_write_u64(w, m->next);
    }
}

int mx_trouble_decode(const void *body, size_t n, uint32_t status, struct mx_trouble *ret,
                      struct mx_err *err)
{
    struct mx_reader r;

    mx_reader_init(&r, body, n);
    MX_TROUBLE(FIELD_READ)
    ret->has_next = status == MX_STATUS_SKIPPED;
    ret->next = ret->has_next ? mx_read_u64(&r) : 0;
    return decoded(&r, "reply", n, err);
}

const char *mx_message_name(unsigned type)
{
    switch (type & ~MX_REPLY_BIT) {
#define MESSAGE_NAME(id, NAME, name)                                                              \
    case id: return #NAME;
        MX_MESSAGES(MESSAGE_NAME)
    default: return "UNKNOWN";
    }
}

const char *mx_status_name(uint32_t status)
{
    switch (status) {
#define STATUS_NAME(code, name, text)                                                             \
    case code: return #name;
        MX_STATUSES(STATUS_NAME)
    default: return "UNKNOWN";
    }
}

int mx_header_decode(const void *frame, size_t n, struct mx_header *h, struct mx_err *err)
{
    struct mx_reader r;
    uint32_t magic;
    uint16_t version;

    mx_reader_init(&r, frame, n);
    magic = mx_read_u32(&r);
    version = mx_read_u16(&r);
    h->type = mx_read_u16(&r);
    h->length = mx_read_u32(&r);
    h->status = mx_read_u32(&r);
    h->id = mx_read_u64(&r);
    if (r.failed) {
        return mx_fail(err, MX_EPROTOCOL, "frame: %zu bytes are no header, which has %u", n,
                       MX_HEADER_BYTES);
    }
    if (magic != MX_MAGIC) {
        return mx_fail(err, MX_EPROTOCOL, "frame: magic 0x%08" PRIx32 ", not 0x%08" PRIx32, magic,
                       MX_MAGIC);
    }
    if (version != MX_PROTOCOL_VERSION) {
        return mx_fail(err, MX_EVERSION, "frame: protocol version %u, not %u", version,
                       MX_PROTOCOL_VERSION);
    }
    if (h->length != n - MX_HEADER_BYTES) {
        return mx_fail(err, MX_EPROTOCOL, "frame: the header says %" PRIu32
                       " bytes of body, %zu came", h->length, n - MX_HEADER_BYTES);
    }
    return 0;
}

void mx_frame_begin(struct mx_writer *w, uint16_t type, uint32_t status, uint64_t id)
{
    mx_write_u32(w, MX_MAGIC);
    mx_write_u16(w, MX_PROTOCOL_VERSION);
    mx_write_u16(w, type);
    mx_write_u32(w, 0);
    mx_write_u32(w, status);
    mx_write_u64(w, id);
}

size_t mx_frame_end(struct mx_writer *w)
{
    size_t n = mx_writer_len(w);

    if (w->failed || n < MX_HEADER_BYTES || n - MX_HEADER_BYTES > UINT32_MAX) {
        return 0;
    }
    mx_store_u32(w->base + 8, (uint32_t)(n - MX_HEADER_BYTES));
    return n;
}

void mx_part_encode(struct mx_writer *w, const struct mx_part_entry *e)
{
    mx_write_u64(w, e->from_step);
    mx_write_u32(w, e->batch_size);
    mx_write_u32(w, e->seq_len);
    mx_write_u32(w, e->slots_per_reply);
}

void mx_part_get(struct mx_span tables, size_t i, struct mx_part_entry *ret)
{
    const uint8_t *p = tables.p + i * MX_PART_BYTES;

    *ret = (struct mx_part_entry){.from_step = mx_load_u64(p), .batch_size = mx_load_u32(p + 8),
                                  .seq_len = mx_load_u32(p + 12),
                                  .slots_per_reply = mx_load_u32(p + 16)};
}

int mx_parts_check(const struct mx_attach_reply *m, struct mx_span *ret_names, struct mx_err *err)
{
    uint64_t before = 0;

    if (m->part_count == 0 || m->part_count > MX_PARTS_MAX ||
        m->tables.n < (size_t)m->part_count * MX_PART_BYTES) {
        return mx_fail(err, MX_EPROTOCOL, "ATTACH reply: %" PRIu32 " parts in tables of %zu bytes",
                       m->part_count, m->tables.n);
    }
    for (uint32_t i = 0; i < m->part_count; i++) {
        struct mx_part_entry e;

        mx_part_get(m->tables, i, &e);
        if (e.batch_size == 0 || e.batch_size > MX_BATCH_MAX || e.seq_len == 0 ||
            e.seq_len > MX_SEQ_LEN_MAX || (i == 0 ? e.from_step != 0 : e.from_step <= before)) {
            return mx_fail(err, MX_EPROTOCOL, "ATTACH reply: part %" PRIu32 ", a batch of %" PRIu32
                           " x %" PRIu32 " tokens from step %" PRIu64
                           " on, is out of range or out of order", i, e.batch_size, e.seq_len,
                           e.from_step);
        }
        before = e.from_step;
    }
    *ret_names = (struct mx_span){m->tables.p + (size_t)m->part_count * MX_PART_BYTES,
                                  m->tables.n - (size_t)m->part_count * MX_PART_BYTES};
    return 0;
}

void mx_batch_layout(uint32_t slot_count, uint32_t bound_count, uint32_t token_count,
                     uint32_t width, bool weighted, struct mx_batch_layout *ret)
{
    size_t n = slot_count;

    ret->samples = MX_BATCH_FIXED_BYTES;
    ret->domains = ret->samples + 8 * n;
    ret->epochs = ret->domains + 4 * n;
    ret->bounds = ret->epochs + 4 * n;
    ret->weights = weighted ? ret->bounds + 4 * n : 0;
    ret->starts = ret->bounds + 4 * n * (weighted ? 2 : 1);
    ret->tokens = (ret->starts + 4 * (size_t)bound_count + 7) & ~(size_t)7;
    ret->bytes = ret->tokens + n * token_count * width;
}

int mx_batch_check(const void *frame, size_t n, const struct mx_batch_reply *m,
                   struct mx_batch_layout *ret, struct mx_err *err)
{
    const uint8_t *p = frame;
    uint64_t sum = 0;
    size_t at;

    if ((m->width != 2 && m->width != 4) || m->slot_count == 0 || m->slot_count > MX_BATCH_MAX ||
        m->token_count == 0 || m->token_count > MX_SEQ_LEN_MAX || m->bound_count > MX_REPLY_MAX ||
        m->batch_size > MX_BATCH_MAX || m->seq_len > MX_SEQ_LEN_MAX ||
        m->slot_first >= m->batch_size || m->slot_count > m->batch_size - m->slot_first ||
        m->token_first >= m->seq_len || m->token_count > m->seq_len - m->token_first) {
        return mx_fail(err, MX_EPROTOCOL, "BATCH reply: %" PRIu32 " slots of %" PRIu32
                       " tokens of %" PRIu32 " bytes with %" PRIu32 " bounds, of a batch of %"
                       PRIu32 " x %" PRIu32 ", is out of range", m->slot_count, m->token_count,
                       m->width, m->bound_count, m->batch_size, m->seq_len);
    }
    if ((m->flags & ~(MX_BATCH_EVAL_WANTED | MX_BATCH_WEIGHTS)) != 0) {
        return mx_fail(err, MX_EPROTOCOL, "BATCH reply: flags 0x%" PRIx32 " are unknown", m->flags);
    }
    mx_batch_layout(m->slot_count, m->bound_count, m->token_count, m->width,
                    (m->flags & MX_BATCH_WEIGHTS) != 0, ret);
    if (ret->bytes != n || ret->tokens != m->tokens_at || ret->weights != m->weights_at) {
        return mx_fail(err, MX_EPROTOCOL, "BATCH reply: %zu bytes with weights at %" PRIu32
                       ", tokens at %" PRIu32 ", its fields make %zu with weights at %zu, tokens "
                       "at %zu", n, m->weights_at, m->tokens_at, ret->bytes, ret->weights,
                       ret->tokens);
    }
    for (uint32_t i = 0; ret->weights != 0 && i < m->slot_count; i++) {
        float weight = mx_load_f32(p + ret->weights + 4 * (size_t)i);

        if (!(weight >= 0 && weight <= MX_LOSS_WEIGHT_MAX)) {
            return mx_fail(err, MX_EPROTOCOL, "BATCH reply: the weight of slot %" PRIu32 " is %g",
                           m->slot_first + i, (double)weight);
        }
    }
    at = ret->starts;
    for (uint32_t i = 0; i < m->slot_count; i++) {
        uint32_t k = mx_load_u32(p + ret->bounds + 4 * (size_t)i);
        uint32_t last = 0;

        sum += k;
        if (sum > m->bound_count) {
            break;
        }
        for (uint32_t j = 0; j < k; j++, at += 4) {
            uint32_t start = mx_load_u32(p + at);
            if (start < m->token_first || start - m->token_first >= m->token_count ||
                (j > 0 && start <= last)) {
                return mx_fail(err, MX_EPROTOCOL, "BATCH reply: slot %" PRIu32 " has a document "
                               "start at token %" PRIu32 ", outside or out of order",
                               m->slot_first + i, start);
            }
            last = start;
        }
    }
    if (sum != m->bound_count) {
        return mx_fail(err, MX_EPROTOCOL, "BATCH reply: its slots have %" PRIu64
                       " document starts in all, the header says %" PRIu32, sum, m->bound_count);
    }
    return 0;
}
