/* model.h - bytelm's language model: the next byte from the bytes before it.
 *
 *     a1 = b1 + sum over j of embed[c_j] w1_j      c: the last `context` ids, nearest first
 *     h1 = max(a1, 0)^2                            [wide]
 *     h2 = max(b2 + h1 w2, 0)                      [hidden]
 *     p  = softmax(b3 + h2 w3)                     [BL_VOCAB]
 *
 * The square makes products of what two places of the context say; a second one would make the
 * model explode on contexts that it has never seen. Gradients are written by hand; a test holds
 * them against finite differences. Since an embedding meets a matrix of its own at each place of
 * the context, embed[c] w1_j is tabulated once per step for all c and j, and the first layer costs
 * additions alone (as does its gradient).
 *
 * Owns the parameters, their gradients and scratch memory. Pure otherwise: no I/O, clock or global.
 * One thread at a time per model. Same inputs, same bits. */
#ifndef BL_MODEL_H
#define BL_MODEL_H

#include "client/examples/bytelm/real.h"

#include <stddef.h>
#include <stdint.h>

#define BL_EOD 256u     /* the id that ends a document */
#define BL_UNKNOWN 257u /* in contexts alone: a place before the sample's first token */
#define BL_VOCAB 257u   /* ids that are predicted: bytes and BL_EOD */
#define BL_INPUTS 258u  /* ids in contexts */
#define BL_COLUMNS 272u /* BL_VOCAB, padded for the kernels; the rest stays zero */

/* Bounded, as 32 places of 1024 numbers for 258 ids are a table of 34 MB: more than caches hold. */
#define BL_CONTEXT_MAX 32u
#define BL_EMBED_MAX 64u
#define BL_LAYER_MAX 1024u

struct bl_shape {
    uint32_t context; /* 1..BL_CONTEXT_MAX */
    uint32_t embed;   /* numbers per id; multiple of 16, up to BL_EMBED_MAX */
    uint32_t wide;    /* first hidden layer; multiple of 16, up to BL_LAYER_MAX */
    uint32_t hidden;  /* second hidden layer; likewise */
};

enum { BL_T_EMBED, BL_T_W1, BL_T_B1, BL_T_W2, BL_T_B2, BL_T_W3, BL_T_B3, BL_TENSORS };

struct bl_tensor {
    const char *name;
    size_t offset; /* into params and grads */
    size_t rows, cols;
};

struct bl_scratch; /* what a pass needs beside the parameters */

struct bl_model {
    struct bl_shape shape;
    struct bl_tensor tensors[BL_TENSORS];
    size_t n;     /* parameters in all */
    real *params; /* n: the tensors one after another, each row by row */
    real *grads;  /* n: of the sum of scale * loss since bl_model_begin */
    struct bl_scratch *scratch;
};

/* NULL if the shape is fine, else what is wrong with it. */
const char *bl_shape_check(const struct bl_shape *s);
/* Allocates and draws the parameters from `seed`. 0, or -1 if the shape is no good or memory is
 * out; then there is nothing to free. */
int bl_model_init(struct bl_model *m, const struct bl_shape *shape, uint64_t seed);
void bl_model_fini(struct bl_model *m);

/* After any change of params: fills the tables that passes read, and zeroes the gradients. */
void bl_model_begin(struct bl_model *m);
/* losses[i] = -log p(targets[i] | contexts[i]) in nats, for n positions. contexts: n rows of
 * shape.context ids < BL_INPUTS; targets < BL_VOCAB. */
void bl_model_loss(struct bl_model *m, const uint16_t *contexts, const uint16_t *targets, size_t n,
                   real *losses);
/* The same, and adds the gradient of scale * (sum of losses) to what bl_model_end completes. If a
 * loss isn't finite, the gradients are no good until the next bl_model_begin. */
void bl_model_backprop(struct bl_model *m, const uint16_t *contexts, const uint16_t *targets,
                       size_t n, real scale, real *losses);
/* Carries the tables' gradients over to embed and w1: grads is complete. Once per begin. */
void bl_model_end(struct bl_model *m);

/* x of a counter-based generator: 64 bits that depend on (seed, stream, i) alone. */
uint64_t bl_random(uint64_t seed, uint64_t stream, uint64_t i);

#endif
