/* heldout.c - see heldout.h. */
#include "client/examples/bytelm/heldout.h"

#include "client/examples/bytelm/window.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A held-out set is some hundred kilobytes; what is longer makes evaluation take minutes. */
#define FILE_MAX ((size_t)64 << 20)
#define CHUNK 1024u /* positions evaluated at once */

struct text {
    uint8_t *bytes; /* NULL: no file */
    size_t n;
};

struct bl_heldout {
    uint32_t n;
    struct text *texts;
};

/* 0 (also if there is no such file), or -1 and text. */
static int read_text(const char *path, struct text *ret, char *text, size_t text_size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *p;
    size_t n;

    if (f == NULL && errno == ENOENT)
        return 0;
    if (f == NULL) {
        snprintf(text, text_size, "%s: %s", path, strerror(errno));
        return -1;
    }
    p = malloc(FILE_MAX + 1);
    n = p == NULL ? 0 : fread(p, 1, FILE_MAX + 1, f);
    if (p == NULL || ferror(f) || n == 0 || n > FILE_MAX) {
        snprintf(text, text_size, "%s: %s", path,
                 p == NULL   ? "out of memory"
                 : ferror(f) ? strerror(errno)
                 : n == 0    ? "empty"
                             : "more than 64 MiB: too much for held-out text");
        free(p);
        fclose(f);
        return -1;
    }
    fclose(f);
    ret->n = n;
    ret->bytes = realloc(p, n);
    if (ret->bytes == NULL)
        ret->bytes = p;
    return 0;
}

struct bl_heldout *bl_heldout_open(const char *dir, const char *const *domains, uint32_t n,
                                   char *text, size_t text_size)
{
    struct bl_heldout *h = calloc(1, sizeof *h);
    uint32_t found = 0;

    if (h != NULL)
        h->texts = calloc(n, sizeof *h->texts);
    if (h == NULL || h->texts == NULL) {
        snprintf(text, text_size, "held-out texts: out of memory");
        free(h);
        return NULL;
    }
    h->n = n;
    for (uint32_t i = 0; i < n; i++) {
        char path[4096];
        int k = snprintf(path, sizeof path, "%s/%s.txt", dir, domains[i]);

        if (k < 0 || (size_t)k >= sizeof path) {
            snprintf(text, text_size, "%.100s...: the path is too long", dir);
            goto fail;
        }
        if (read_text(path, &h->texts[i], text, text_size) < 0)
            goto fail;
        found += h->texts[i].bytes != NULL;
    }
    if (found == 0) {
        snprintf(text, text_size, "%s: no file there is called like a domain of the run (%s.txt)",
                 dir, n > 0 ? domains[0] : "DOMAIN");
        goto fail;
    }
    return h;
fail:
    bl_heldout_close(h);
    return NULL;
}

void bl_heldout_close(struct bl_heldout *h)
{
    if (h == NULL)
        return;
    for (uint32_t i = 0; i < h->n; i++)
        free(h->texts[i].bytes);
    free(h->texts);
    free(h);
}

struct buffers {
    uint16_t *tokens, *contexts, *targets;
    real *losses;
};

/* One document of n bytes: its tokens with the end, CHUNK positions at a time. Chunks after the
 * first begin `context` tokens early, so that each position sees all of its context. */
static void score_document(struct bl_model *m, const uint8_t *bytes, size_t n, struct buffers *b,
                           struct bl_score *score)
{
    const uint32_t context = m->shape.context, start = 0;

    for (size_t at = 0; at <= n; at += CHUNK) {
        uint32_t lead = at == 0 ? 0 : context;
        uint32_t fresh = (uint32_t)(n + 1 - at < CHUNK ? n + 1 - at : CHUNK), bad;
        struct bl_sample s = {b->tokens, 2, lead + fresh, &start, at == 0 ? 1 : 0};
        size_t count = 0;

        for (uint32_t i = 0; i < lead + fresh; i++) {
            size_t from = at + i - lead;

            b->tokens[i] = from < n ? bytes[from] : BL_EOD;
        }
        if (bl_window(&s, context, lead, 1, b->contexts, b->targets, &count, &bad) < 0)
            abort(); /* bytes are tokens */
        bl_model_loss(m, b->contexts, b->targets, count, b->losses);
        for (size_t i = 0; i < count; i++)
            score->loss_sum += (double)b->losses[i];
        score->tokens += count;
    }
}

static void score_text(struct bl_model *m, const struct text *t, size_t bytes_max,
                       struct buffers *b, struct bl_score *score)
{
    for (size_t at = 0; at < t->n && at < bytes_max;) {
        const uint8_t *zero = memchr(t->bytes + at, 0, t->n - at);
        size_t n = zero != NULL ? (size_t)(zero - (t->bytes + at)) : t->n - at;

        score_document(m, t->bytes + at, n, b, score);
        at += n + 1;
    }
}

int bl_heldout_score(const struct bl_heldout *h, struct bl_model *m, size_t bytes_max,
                     struct bl_score *scores)
{
    const size_t room = CHUNK + m->shape.context;
    struct buffers b = {
        .tokens = calloc(room, sizeof(uint16_t)),
        .contexts = calloc(room * m->shape.context, sizeof(uint16_t)),
        .targets = calloc(room, sizeof(uint16_t)),
        .losses = calloc(room, sizeof(real)),
    };
    bool ok = b.tokens != NULL && b.contexts != NULL && b.targets != NULL && b.losses != NULL;

    memset(scores, 0, h->n * sizeof *scores);
    bl_model_begin(m);
    for (uint32_t i = 0; ok && i < h->n; i++)
        if (h->texts[i].bytes != NULL)
            score_text(m, &h->texts[i], bytes_max, &b, &scores[i]);
    free(b.tokens);
    free(b.contexts);
    free(b.targets);
    free(b.losses);
    return ok ? 0 : -1;
}
