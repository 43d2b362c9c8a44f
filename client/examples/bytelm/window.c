/* window.c - see window.h. */
#include "client/examples/bytelm/window.h"

#include "client/examples/bytelm/model.h"

static uint32_t token(const struct bl_sample *s, uint32_t i)
{
    return s->width == 2 ? ((const uint16_t *)s->tokens)[i] : ((const uint32_t *)s->tokens)[i];
}

int bl_window(const struct bl_sample *s, uint32_t context, uint32_t first, uint32_t stride,
              uint16_t *contexts, uint16_t *targets, size_t *ret_n, uint32_t *ret_bad)
{
    uint32_t next = 0;                       /* of s->starts */
    uint32_t begin = 0, before = BL_UNKNOWN; /* the document's first token, what stands before it */
    size_t n = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        if (token(s, i) >= BL_VOCAB) {
            *ret_bad = i;
            return -1;
        }
    }
    for (uint32_t i = first; i < s->n; i += stride) {
        for (; next < s->n_starts && s->starts[next] <= i; next++) {
            begin = s->starts[next];
            before = BL_EOD;
        }
        for (uint32_t j = 0; j < context; j++)
            contexts[n * context + j] = (uint16_t)(j < i - begin ? token(s, i - 1 - j) : before);
        targets[n++] = (uint16_t)token(s, i);
    }
    *ret_n = n;
    return 0;
}
