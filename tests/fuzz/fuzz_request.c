/* fuzz_request.c - any bytes as a request: what decodes encodes to the same bytes. */
#include "proto/msg.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_same(struct mx_writer *w, const uint8_t *data, size_t size)
{
    MX_REQUIRE(mx_frame_end(w) == size && memcmp(w->base, data, size) == 0);
}

/* The train section of an accepted feedback, there and back. */
static void train(struct mx_span sections)
{
    struct mx_train_entry *e;
    struct mx_span entries;
    struct mx_writer w;
    struct mx_err err;
    uint8_t *again;
    size_t n;

    if (mx_train_decode(sections, &entries, &n, &err) < 0) {
        MX_REQUIRE(err.text[0] != '\0');
        return;
    }
    if (sections.n == 0 || n > MX_DOMAINS_MAX) {
        return;
    }
    e = malloc((n + 1) * sizeof *e);
    again = malloc(sections.n);
    MX_REQUIRE(e != NULL && again != NULL);
    for (size_t i = 0; i < n; i++) {
        mx_train_get(entries, i, &e[i]);
    }
    mx_writer_init(&w, again, sections.n);
    mx_train_encode(&w, e, n);
    MX_REQUIRE(!w.failed && mx_writer_len(&w) == sections.n &&
               memcmp(again, sections.p, sections.n) == 0);
    free(again);
    free(e);
}

#define ONE(id, NAME, name)                                                                        \
    case id: {                                                                                     \
        struct mx_##name##_request m;                                                              \
        if (mx_##name##_request_decode(data + MX_HEADER_BYTES, size - MX_HEADER_BYTES, &m, &err) < \
            0) {                                                                                   \
            MX_REQUIRE(err.text[0] != '\0');                                                       \
            break;                                                                                 \
        }                                                                                          \
        mx_##name##_request_encode(&w, &m);                                                        \
        must_be_same(&w, data, size);                                                              \
        break;                                                                                     \
    }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mx_feedback_request f;
    struct mx_header h;
    struct mx_writer w;
    struct mx_err err;
    uint8_t *again;

    if (mx_header_decode(data, size, &h, &err) < 0) {
        MX_REQUIRE(err.text[0] != '\0');
        return 0;
    }
    again = malloc(size);
    MX_REQUIRE(again != NULL);
    mx_writer_init(&w, again, size);
    mx_frame_begin(&w, h.type, h.status, h.id);
    switch (h.type) {
        MX_MESSAGES(ONE)
    default: break;
    }
    if (h.type == MX_MSG_FEEDBACK &&
        mx_feedback_request_decode(data + MX_HEADER_BYTES, size - MX_HEADER_BYTES, &f, NULL) == 0) {
        train(f.sections);
    }
    free(again);
    return 0;
}
