/* golden.h - what the replays of golden traces have in common. For golden*.c alone.
 *
 * golden.c finds the files, reads them and prints; each family of algorithms has a file that
 * replays its traces through a mixer (daemon/core/mixer.h) and compares. Nothing here is random, and
 * policy and parameters come from the file's own fields. */
#ifndef MX_TESTS_GOLDEN_H
#define MX_TESTS_GOLDEN_H

#include "daemon/core/feedback.h"
#include "daemon/core/mixer.h"
#include "proto/err.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_K_MAX 256
#define GOLDEN_PARAMS_MAX 32
/* Double-precision traces: libm and the order of sums account for less. */
#define GOLDEN_TOLERANCE 1e-12
/* Single-precision ones, compared one step at a time from the recorded state before. */
#define GOLDEN_TOLERANCE_SINGLE 1e-6

struct golden {
    const cJSON *root, *params; /* of the file */
    const char *policy;         /* for the printed line: what it was replayed with */
    int steps;                  /* replayed and compared */
    int refused;                /* inputs refused or quarantined, where the reference broke */
    double error;               /* the largest, relative */
    char trouble[240];          /* "" while all is well; the first trouble stays */
};

/* A policy with its guards, as the family sets it up. */
struct golden_mixer {
    struct mx_mixer_conf c;
    double prior[GOLDEN_K_MAX], params[GOLDEN_PARAMS_MAX];
    double *tables[MX_POLICY_TABLES_MAX]; /* malloc'ed by the family, freed by golden_end */
    double *state, *scratch;
    const double *weights; /* k, after guards */
};

const cJSON *golden_item(const cJSON *o, const char *key);
/* A number, or one of the strings that stand for numbers that JSON lacks. 0 or -1. */
int golden_number(const cJSON *v, double *ret);
/* An array of numbers into ret. How many, or -1 if it isn't one or has more than cap. */
int golden_numbers(const cJSON *v, double *ret, int cap);
/* The first trouble, with printf's arguments. */
void golden_fail(struct golden *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Starts a mixer with policy `name`, k domains, m members of the eval set, m->prior (normalised
 * here; NULL in it is not possible: fill it first), fallbacks for every parameter, no guards. The
 * family sets what the file says with golden_param between the two. */
void golden_begin(struct golden *g, struct golden_mixer *m, const char *name, uint32_t k,
                  uint32_t members);
void golden_param(struct golden *g, struct golden_mixer *m, const char *name, double value);
/* To be called when parameters and tables are set; allocates and initialises the state. */
void golden_ready(struct golden *g, struct golden_mixer *m);
/* Shows the mixer a step. */
void golden_observe(struct golden_mixer *m, const struct mx_observation *o);
void golden_end(struct golden_mixer *m);

/* Weights n against the trace's array, relative to each. Counts the step. */
void golden_compare(struct golden *g, const double *weights, uint32_t n, const cJSON *expected,
                    double tolerance, int step);
/* Where the reference has broken down: finite, >= 0, sum 1. */
void golden_sound(struct golden *g, const double *weights, uint32_t n, int step);
/* That a refused input has left the weights as they were. */
void golden_kept(struct golden *g, const double *before, const double *weights, uint32_t n,
                 int step);

/* Families: each replays g->root. */
void golden_odm(struct golden *g);      /* golden_odm.c: odm*, dataflexodm* */
void golden_skillit(struct golden *g);  /* golden_skillit.c: skillit*, aioli_06 */
void golden_aioli(struct golden *g);    /* golden_aioli.c: aioli_01..05 */
void golden_shearing(struct golden *g); /* golden_shearing.c */
void golden_proxy(struct golden *g);    /* golden_proxy.c: doremi*, doge* */
void golden_rewards(struct golden *g);  /* golden_rewards.c: dump, sec, fmsodm, mixtera_loss_avg */
void golden_agents(struct golden *g);   /* golden_agents.c: multiactor */
void golden_ado(struct golden *g);      /* golden_ado.c: ado*, mixtera_ado* */

#endif
