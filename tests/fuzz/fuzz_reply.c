/* fuzz_reply.c - any bytes as a reply: what decodes encodes to the same bytes, and a batch whose
 * tables are accepted can be read to its last byte. */
#include "proto/msg.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads all that an accepted batch promises; a sanitizer sees a byte too many. */
static void read_batch(const uint8_t *data, size_t size, const struct mx_batch_reply *m)
{
    struct mx_batch_layout at;
    struct mx_err err;
    uint64_t sum = 0;

    if (mx_batch_check(data, size, m, &at, &err) < 0) {
        MX_REQUIRE(err.text[0] != '\0');
        return;
    }
    MX_REQUIRE(at.bytes == size && at.tokens % 8 == 0);
    for (uint32_t i = 0; i < m->slot_count; i++) {
        sum += mx_load_u64(data + at.samples + 8 * (size_t)i);
        sum += mx_load_u32(data + at.domains + 4 * (size_t)i);
        sum += mx_load_u32(data + at.epochs + 4 * (size_t)i);
        sum += mx_load_u32(data + at.bounds + 4 * (size_t)i);
    }
    for (uint32_t i = 0; i < m->bound_count; i++) {
        uint32_t start = mx_load_u32(data + at.starts + 4 * (size_t)i);
        MX_REQUIRE(start >= m->token_first && start - m->token_first < m->token_count);
    }
    for (size_t i = at.tokens; i < size; i++) {
        sum += data[i];
    }
    MX_REQUIRE((sum | 1) != 0);
}

#define ONE(id, NAME, name)                                                     \
    case id: {                                                                  \
        struct mx_##name##_reply m;                                             \
        if (mx_##name##_reply_decode(body, n, &m, &err) < 0) {                  \
            MX_REQUIRE(err.text[0] != '\0');                                    \
            break;                                                              \
        }                                                                       \
        mx_##name##_reply_encode(&w, &m);                                       \
        MX_REQUIRE(mx_frame_end(&w) == size && memcmp(again, data, size) == 0); \
        break;                                                                  \
    }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *body = data + MX_HEADER_BYTES;
    struct mx_batch_reply batch;
    struct mx_trouble trouble;
    struct mx_header h;
    struct mx_writer w;
    struct mx_err err;
    uint8_t *again;
    size_t n;

    if (mx_header_decode(data, size, &h, &err) < 0) {
        MX_REQUIRE(err.text[0] != '\0');
        return 0;
    }
    n = h.length;
    again = malloc(size);
    MX_REQUIRE(again != NULL);
    mx_writer_init(&w, again, size);
    mx_frame_begin(&w, h.type, h.status, h.id);
    if (h.status != MX_STATUS_OK) {
        if (mx_trouble_decode(body, n, h.status, &trouble, &err) == 0) {
            mx_trouble_encode(&w, &trouble);
            MX_REQUIRE(mx_frame_end(&w) == size && memcmp(again, data, size) == 0);
        }
    } else {
        switch (h.type & ~MX_REPLY_BIT) {
            MX_MESSAGES(ONE)
        default: break;
        }
        if (h.type == (MX_MSG_BATCH | MX_REPLY_BIT) &&
            mx_batch_reply_decode(body, n, &batch, NULL) == 0) {
            read_batch(data, size, &batch);
        }
    }
    free(again);
    return 0;
}
