/* trainer.h - a model in training: parameters, the optimiser's moments and where it is in the run.
 * All that a checkpoint holds, and the one function that moves it. Pure: no I/O or clock. One
 * thread at a time. */
#ifndef BL_TRAINER_H
#define BL_TRAINER_H

#include "client/examples/bytelm/adam.h"
#include "client/examples/bytelm/model.h"

#define BL_NAME_MAX 63

struct bl_recipe {
    double rate;   /* peak learning rate */
    double warmup; /* steps */
    double decay;  /* steps, see bl_rate */
    double clip;   /* limit of the gradient's norm */
};

struct bl_trainer {
    struct bl_model model;
    real *m, *v;               /* model.n each */
    char run[BL_NAME_MAX + 1]; /* the run whose batches it has seen */
    uint64_t seed;             /* of the parameters and of the positions' choice */
    uint64_t next_step;        /* the first step of the run that it hasn't seen */
    uint64_t updates;          /* steps that moved the parameters */
    uint64_t tokens;           /* positions trained */
};

/* 0, or -1: bad shape or no memory; then there is nothing to free. */
int bl_trainer_init(struct bl_trainer *t, const struct bl_shape *shape, uint64_t seed,
                    const char *run);
void bl_trainer_fini(struct bl_trainer *t);

/* One step: losses of n positions in nats, and an update on their mean. Moves next_step on. If a
 * loss or the gradient's norm isn't finite, returns -1 and leaves the parameters, moments and
 * `updates` alone. */
int bl_trainer_step(struct bl_trainer *t, const struct bl_recipe *r, const uint16_t *contexts,
                    const uint16_t *targets, size_t n, real *losses);

#endif
