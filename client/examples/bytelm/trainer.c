/* trainer.c - see trainer.h. */
#include "client/examples/bytelm/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int bl_trainer_init(struct bl_trainer *t, const struct bl_shape *shape, uint64_t seed,
                    const char *run)
{
    memset(t, 0, sizeof *t);
    if (bl_model_init(&t->model, shape, seed) < 0)
        return -1;
    t->m = calloc(t->model.n, sizeof *t->m);
    t->v = calloc(t->model.n, sizeof *t->v);
    if (t->m == NULL || t->v == NULL) {
        bl_trainer_fini(t);
        return -1;
    }
    t->seed = seed;
    snprintf(t->run, sizeof t->run, "%s", run);
    return 0;
}

void bl_trainer_fini(struct bl_trainer *t)
{
    bl_model_fini(&t->model);
    free(t->m);
    free(t->v);
    memset(t, 0, sizeof *t);
}

int bl_trainer_step(struct bl_trainer *t, const struct bl_recipe *r, const uint16_t *contexts,
                    const uint16_t *targets, size_t n, real *losses)
{
    struct bl_model *m = &t->model;
    struct bl_adam adam = {0, 0.9, 0.99, 1e-8};
    double sum = 0, norm;

    t->next_step++;
    bl_model_begin(m);
    bl_model_backprop(m, contexts, targets, n, (real)(1.0 / (double)n), losses);
    bl_model_end(m);
    for (size_t i = 0; i < n; i++)
        sum += (double)losses[i];
    norm = bl_clip(m->grads, m->n, r->clip);
    if (!isfinite(sum) || !isfinite(norm))
        return -1;
    t->updates++;
    t->tokens += n;
    adam.rate = bl_rate(r->rate, r->warmup, r->decay, t->updates);
    bl_adam_step(&adam, t->updates, m->n, m->params, m->grads, t->m, t->v);
    return 0;
}
