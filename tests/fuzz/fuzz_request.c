/* fuzz_request.c - any bytes as a request: what decodes encodes to the same bytes. */
#include "proto/msg.h"
#include "proto/sections.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_same(struct mx_writer *w, const uint8_t *data, size_t size)
{
    MX_REQUIRE(mx_frame_end(w) == size && memcmp(w->base, data, size) == 0);
}

/* The sections of an accepted feedback, there and back. */
static void write_losses(const struct mx_section_entries *in, int eval, uint32_t set,
                         struct mx_writer *w)
{
    struct mx_train_entry *e = calloc(in->n + 1, sizeof *e);

    MX_REQUIRE(e != NULL);
    for (uint32_t i = 0; i < in->n; i++) {
        mx_train_get(in, i, &e[i]);
    }
    if (eval) {
        mx_eval_encode(w, set, e, in->n);
    } else {
        mx_train_encode(w, e, in->n);
    }
    free(e);
}

static void write_others(const struct mx_sections *s, struct mx_writer *w)
{
    struct mx_reward_entry *r = calloc(s->rewards.n + 1, sizeof *r);
    struct mx_score_entry *c = calloc(s->scores.n + 1, sizeof *c);
    double gram[MX_GRAM_MAX * (MX_GRAM_MAX + 1) / 2];
    uint32_t domains[MX_GRAM_MAX];

    MX_REQUIRE(r != NULL && c != NULL);
    for (uint32_t i = 0; i < s->rewards.n; i++) {
        mx_reward_get(&s->rewards, i, &r[i]);
    }
    if (s->rewards.present) {
        mx_reward_encode(w, r, s->rewards.n);
    }
    for (uint32_t i = 0; i < s->n_gram; i++) {
        domains[i] = mx_gram_domain(s, i);
    }
    for (uint32_t i = 0; i < s->n_gram * (s->n_gram + 1) / 2; i++) {
        gram[i] = mx_gram_value(s, i);
    }
    if (s->n_gram > 0) {
        mx_grad_encode(w, domains, s->n_gram, gram, s->lr);
    }
    for (uint32_t i = 0; i < s->scores.n; i++) {
        mx_score_get(&s->scores, i, &c[i]);
    }
    if (s->scores.present) {
        mx_scores_encode(w, c, s->scores.n);
    }
    free(r);
    free(c);
}

static void sections(struct mx_span bytes)
{
    struct mx_sections s;
    struct mx_writer w;
    struct mx_err err;
    uint8_t *again;

    if (mx_sections_decode(bytes, &s, &err) < 0) {
        MX_REQUIRE(err.text[0] != '\0');
        return;
    }
    if (bytes.n > MX_REQUEST_MAX) { /* more than any message has room for */
        return;
    }
    again = malloc(bytes.n + 1);
    MX_REQUIRE(again != NULL);
    mx_writer_init(&w, again, bytes.n);
    if (s.train.present) {
        write_losses(&s.train, 0, 0, &w);
    }
    for (uint32_t i = 0; i < s.n_eval_sets; i++) {
        write_losses(&s.evals[i], 1, s.eval_sets[i], &w);
    }
    write_others(&s, &w);
    MX_REQUIRE(!w.failed && mx_writer_len(&w) == bytes.n &&
               (bytes.n == 0 || memcmp(again, bytes.p, bytes.n) == 0));
    free(again);
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
        sections(f.sections);
    }
    free(again);
    return 0;
}
