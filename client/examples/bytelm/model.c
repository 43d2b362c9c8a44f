/* model.c - see model.h. Positions go through in groups of BATCH, so that their activations stay in
 * the processor's nearest caches. */
#include "client/examples/bytelm/model.h"

#include "client/examples/bytelm/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64u

struct bl_scratch {
    real *table;        /* [context][BL_INPUTS][wide]: embed w1, per place of the context */
    real *dtable;       /* its gradient */
    real *w1t;          /* [wide][embed]: one place's part of w1 transposed */
    real *w2t;          /* [hidden][wide]: w2 transposed */
    real *w3t;          /* [BL_COLUMNS][hidden]: w3 transposed */
    real *a1, *h1, *d1; /* [BATCH][wide] */
    real *h2, *d2;      /* [BATCH][hidden] */
    real *out;          /* [BATCH][BL_COLUMNS] */
};

uint64_t bl_random(uint64_t seed, uint64_t stream, uint64_t i)
{
    /* splitmix64's finaliser (Steele, Lea, Flood 2014) over a sum of odd multiples. */
    uint64_t z =
        seed * 0x9e3779b97f4a7c15u + stream * 0xd1342543de82ef95u + i * 0xbf58476d1ce4e5b9u;

    for (int round = 0; round < 2; round++) {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
    }
    return z;
}

const char *bl_shape_check(const struct bl_shape *s)
{
    if (s->context < 1 || s->context > BL_CONTEXT_MAX)
        return "the context must have 1 to 32 places";
    if (s->embed < 16 || s->embed > BL_EMBED_MAX || s->embed % 16 != 0)
        return "an embedding must have 16 to 64 numbers, a multiple of 16";
    if (s->wide < 16 || s->wide > BL_LAYER_MAX || s->wide % 16 != 0 || s->hidden < 16 ||
        s->hidden > BL_LAYER_MAX || s->hidden % 16 != 0)
        return "a hidden layer must have 16 to 1024 numbers, a multiple of 16";
    return NULL;
}

static void lay_out(struct bl_model *m)
{
    size_t c = m->shape.context, e = m->shape.embed, w = m->shape.wide, h = m->shape.hidden;
    const struct bl_tensor plan[BL_TENSORS] = {
        [BL_T_EMBED] = {"embed", 0, BL_INPUTS, e},
        [BL_T_W1] = {"w1", 0, c * e, w},
        [BL_T_B1] = {"b1", 0, 1, w},
        [BL_T_W2] = {"w2", 0, w, h},
        [BL_T_B2] = {"b2", 0, 1, h},
        [BL_T_W3] = {"w3", 0, h, BL_COLUMNS},
        [BL_T_B3] = {"b3", 0, 1, BL_COLUMNS},
    };

    m->n = 0;
    for (size_t i = 0; i < BL_TENSORS; i++) {
        m->tensors[i] = plan[i];
        m->tensors[i].offset = m->n;
        m->n += plan[i].rows * plan[i].cols;
    }
}

static real *param(struct bl_model *m, int tensor)
{
    return m->params + m->tensors[tensor].offset;
}

static real *grad(struct bl_model *m, int tensor)
{
    return m->grads + m->tensors[tensor].offset;
}

static struct bl_scratch *scratch_new(const struct bl_shape *s)
{
    struct bl_scratch *x = calloc(1, sizeof *x);
    size_t table = (size_t)s->context * BL_INPUTS * s->wide;
    size_t wide = (size_t)BATCH * s->wide, hidden = (size_t)BATCH * s->hidden;
    size_t w1 = (size_t)s->wide * s->embed, w2 = (size_t)s->wide * s->hidden;
    size_t w3 = (size_t)BL_COLUMNS * s->hidden;
    size_t total = 2 * table + w1 + w2 + w3 + 3 * wide + 2 * hidden + (size_t)BATCH * BL_COLUMNS;
    real *p;

    if (x == NULL)
        return NULL;
    p = calloc(total, sizeof *p);
    if (p == NULL) {
        free(x);
        return NULL;
    }
    x->table = p;
    x->dtable = x->table + table;
    x->w1t = x->dtable + table;
    x->w2t = x->w1t + w1;
    x->w3t = x->w2t + w2;
    x->a1 = x->w3t + w3;
    x->h1 = x->a1 + wide;
    x->d1 = x->h1 + wide;
    x->h2 = x->d1 + wide;
    x->d2 = x->h2 + hidden;
    x->out = x->d2 + hidden;
    return x;
}

/* Uniform with the given standard deviation; the padding columns of w3 stay zero. */
static void draw(struct bl_model *m, int tensor, uint64_t seed, double deviation)
{
    const struct bl_tensor *t = &m->tensors[tensor];
    real *p = param(m, tensor);

    for (size_t i = 0; i < t->rows * t->cols; i++) {
        double u = (double)(bl_random(seed, (uint64_t)tensor, i) >> 11) * 0x1p-53;

        if (tensor == BL_T_W3 && i % BL_COLUMNS >= BL_VOCAB)
            continue;
        p[i] = (real)((2 * u - 1) * sqrt(3) * deviation);
    }
}

int bl_model_init(struct bl_model *m, const struct bl_shape *shape, uint64_t seed)
{
    memset(m, 0, sizeof *m);
    if (bl_shape_check(shape) != NULL)
        return -1;
    m->shape = *shape;
    lay_out(m);
    m->params = calloc(m->n, sizeof *m->params);
    m->grads = calloc(m->n, sizeof *m->grads);
    m->scratch = scratch_new(shape);
    if (m->params == NULL || m->grads == NULL || m->scratch == NULL) {
        bl_model_fini(m);
        return -1;
    }
    /* Deviations that keep each layer's inputs near 1: the square of a rectified normal number has
     * a mean square of 3/2. The last layer starts near the uniform distribution. */
    draw(m, BL_T_EMBED, seed, 1.0);
    draw(m, BL_T_W1, seed, 1.0 / sqrt((double)shape->context * shape->embed));
    draw(m, BL_T_W2, seed, 1.0 / sqrt(1.5 * shape->wide));
    draw(m, BL_T_W3, seed, 0.1 / sqrt(0.5 * shape->hidden));
    return 0;
}

void bl_model_fini(struct bl_model *m)
{
    if (m->scratch != NULL)
        free(m->scratch->table);
    free(m->scratch);
    free(m->params);
    free(m->grads);
    memset(m, 0, sizeof *m);
}

static void transpose(const real *from, size_t rows, size_t cols, real *to)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            to[j * rows + i] = from[i * cols + j];
}

void bl_model_begin(struct bl_model *m)
{
    struct bl_scratch *x = m->scratch;
    size_t c = m->shape.context, e = m->shape.embed, w = m->shape.wide, h = m->shape.hidden;

    for (size_t j = 0; j < c; j++)
        bl_gemm(BL_INPUTS, w, e, param(m, BL_T_EMBED), e, 1, param(m, BL_T_W1) + j * e * w, w,
                x->table + j * BL_INPUTS * w, w, 0);
    transpose(param(m, BL_T_W2), w, h, x->w2t);
    transpose(param(m, BL_T_W3), h, BL_COLUMNS, x->w3t);
    memset(m->grads, 0, m->n * sizeof *m->grads);
    memset(x->dtable, 0, c * BL_INPUTS * w * sizeof *x->dtable);
}

void bl_model_end(struct bl_model *m)
{
    struct bl_scratch *x = m->scratch;
    size_t c = m->shape.context, e = m->shape.embed, w = m->shape.wide;

    for (size_t j = 0; j < c; j++) {
        const real *d = x->dtable + j * BL_INPUTS * w;

        bl_gemm(e, w, BL_INPUTS, param(m, BL_T_EMBED), 1, e, d, w, grad(m, BL_T_W1) + j * e * w, w,
                1);
        transpose(param(m, BL_T_W1) + j * e * w, e, w, x->w1t);
        bl_gemm(BL_INPUTS, e, w, d, w, 1, x->w1t, e, grad(m, BL_T_EMBED), e, 1);
    }
}

static void fill_rows(real *rows, size_t n, size_t width, const real *bias)
{
    for (size_t i = 0; i < n; i++)
        memcpy(rows + i * width, bias, width * sizeof *rows);
}

static void add_rows(real *sum, const real *rows, size_t n, size_t width)
{
    for (size_t i = 0; i < n; i++)
        bl_add(sum, rows + i * width, width);
}

static void square(const real *restrict a, real *restrict h, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        real r = a[i] > 0 ? a[i] : 0;

        h[i] = r * r;
    }
}

/* d *= derivative of square at a */
static void unsquare(const real *restrict a, real *restrict d, size_t n)
{
    for (size_t i = 0; i < n; i++)
        d[i] *= a[i] > 0 ? 2 * a[i] : 0;
}

static void rectify(real *h, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h[i] = h[i] > 0 ? h[i] : 0;
}

/* d *= derivative of rectify, whose result h is */
static void unrectify(const real *restrict h, real *restrict d, size_t n)
{
    for (size_t i = 0; i < n; i++)
        d[i] = h[i] > 0 ? d[i] : 0;
}

/* At most BATCH positions, up to the logits. */
static void forward(struct bl_model *m, const uint16_t *contexts, size_t n)
{
    struct bl_scratch *x = m->scratch;
    size_t c = m->shape.context, w = m->shape.wide, h = m->shape.hidden;

    fill_rows(x->a1, n, w, param(m, BL_T_B1));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < c; j++)
            bl_add(x->a1 + i * w, x->table + (j * BL_INPUTS + contexts[i * c + j]) * w, w);
    square(x->a1, x->h1, n * w);
    fill_rows(x->h2, n, h, param(m, BL_T_B2));
    bl_gemm(n, h, w, x->h1, w, 1, param(m, BL_T_W2), h, x->h2, h, 1);
    rectify(x->h2, n * h);
    fill_rows(x->out, n, BL_COLUMNS, param(m, BL_T_B3));
    bl_gemm(n, BL_COLUMNS, h, x->h2, h, 1, param(m, BL_T_W3), BL_COLUMNS, x->out, BL_COLUMNS, 1);
}

/* Logits to losses; leaves scale * softmax in their place. */
static void score(struct bl_model *m, const uint16_t *targets, size_t n, real scale, real *losses)
{
    for (size_t i = 0; i < n; i++) {
        real *row = m->scratch->out + i * BL_COLUMNS;
        real logit = row[targets[i]];

        losses[i] = bl_softmax(row, BL_VOCAB, BL_COLUMNS, scale) - logit;
    }
}

/* From scale * softmax in `out` down to the tables. */
static void backward(struct bl_model *m, const uint16_t *contexts, const uint16_t *targets,
                     size_t n, real scale)
{
    struct bl_scratch *x = m->scratch;
    size_t c = m->shape.context, w = m->shape.wide, h = m->shape.hidden;

    for (size_t i = 0; i < n; i++)
        x->out[i * BL_COLUMNS + targets[i]] -= scale;
    add_rows(grad(m, BL_T_B3), x->out, n, BL_COLUMNS);
    bl_gemm(h, BL_COLUMNS, n, x->h2, 1, h, x->out, BL_COLUMNS, grad(m, BL_T_W3), BL_COLUMNS, 1);
    bl_gemm(n, h, BL_COLUMNS, x->out, BL_COLUMNS, 1, x->w3t, h, x->d2, h, 0);
    unrectify(x->h2, x->d2, n * h);
    add_rows(grad(m, BL_T_B2), x->d2, n, h);
    bl_gemm(w, h, n, x->h1, 1, w, x->d2, h, grad(m, BL_T_W2), h, 1);
    bl_gemm(n, w, h, x->d2, h, 1, x->w2t, w, x->d1, w, 0);
    unsquare(x->a1, x->d1, n * w);
    add_rows(grad(m, BL_T_B1), x->d1, n, w);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < c; j++)
            bl_add(x->dtable + (j * BL_INPUTS + contexts[i * c + j]) * w, x->d1 + i * w, w);
}

static size_t batch_at(size_t i, size_t n)
{
    return n - i < BATCH ? n - i : BATCH;
}

void bl_model_loss(struct bl_model *m, const uint16_t *contexts, const uint16_t *targets, size_t n,
                   real *losses)
{
    for (size_t i = 0; i < n; i += BATCH) {
        forward(m, contexts + i * m->shape.context, batch_at(i, n));
        score(m, targets + i, batch_at(i, n), 1, losses + i);
    }
}

void bl_model_backprop(struct bl_model *m, const uint16_t *contexts, const uint16_t *targets,
                       size_t n, real scale, real *losses)
{
    for (size_t i = 0; i < n; i += BATCH) {
        const uint16_t *c = contexts + i * m->shape.context;
        size_t k = batch_at(i, n);

        forward(m, c, k);
        score(m, targets + i, k, scale, losses + i);
        backward(m, c, targets + i, k, scale);
    }
}
