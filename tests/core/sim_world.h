/* sim_world.h - the random worlds of test_sim.c: a run's config, its trainers, its disk. */
#ifndef MX_TESTS_CORE_SIM_WORLD_H
#define MX_TESTS_CORE_SIM_WORLD_H

#include "tests/core/check.h"
#include "tests/core/journal.h"

#include <math.h>

#define K_MAX 6
#define WORLD_MAX 6
#define STEPS_MAX 400
#define HELD_MAX 64
#define PARAMS_MAX 16

struct served {
    int here;
    uint64_t version, cursors[K_MAX];
    uint32_t prefix[K_MAX + 1];
};

struct trainer {
    uint64_t next;    /* the step it wants */
    uint64_t to_post; /* the first step that it hasn't posted feedback of */
};

struct sim {
    struct dice d;
    struct mx_plan_domain domains[K_MAX];
    struct mx_limit limits[K_MAX];
    double prior[K_MAX], params[PARAMS_MAX];
    struct mx_run_config c;
    void *memory;
    struct mx_run *run;
    struct journal disk, queue; /* durable and applied; on their way */
    uint64_t *snapshot;
    size_t snapshot_words;
    uint64_t now_ms, timer_ms; /* timer_ms: UINT64_MAX for none */
    struct mx_event held[HELD_MAX];
    size_t held_n;
    struct trainer trainers[WORLD_MAX];
    uint32_t world;
    struct served served[STEPS_MAX], trial[STEPS_MAX];
    uint64_t hash; /* of all effects */
    uint64_t counts[32]; /* what came up: see main */
};

enum { CRASHES = 8, SNAPSHOT_LOADS, SERVES, HOLDS, REFUSALS, MIXES, CLOSES, STOPS, EXHAUSTIONS,
       DROPS, TRIALS, QUARANTINES };

/* ---- a random world ------------------------------------------------------------------------- */

static inline void make_params(struct sim *s)
{
    const struct mx_policy_ops *p = s->c.policy;

    assert_true(p->n_params <= PARAMS_MAX);
    for (size_t i = 0; i < p->n_params; i++) {
        s->params[i] = p->params[i].fallback;
        if (strcmp(p->params[i].name, "warmup_steps") == 0) {
            s->params[i] = (double)below(&s->d, 20);
        }
    }
}

static inline void make_world(struct sim *s, uint64_t seed)
{
    struct mx_run_config *c = &s->c;
    size_t policies = 0;

    memset(s, 0, sizeof *s);
    s->d.state = seed;
    while (mx_policy_at(policies) != NULL) {
        policies++;
    }
    c->plan = (struct mx_plan_spec){.seed = roll(&s->d), .k = 1 + (uint32_t)below(&s->d, K_MAX),
                                    .block = 1, .domains = s->domains,
                                    .sampling = (enum mx_sampling)below(&s->d, 3)};
    if (c->plan.sampling == MX_SAMPLING_BLOCK) {
        c->plan.block = 1 + (uint32_t)below(&s->d, 3);
    }
    c->plan.batch = c->plan.block * (1 + (uint32_t)below(&s->d, 16));
    for (uint32_t i = 0; i < c->plan.k; i++) {
        s->domains[i] = (struct mx_plan_domain){1 + below(&s->d, 300), MX_NO_BUDGET, 4, 2,
                                                MX_EXHAUSTED_REDISTRIBUTE};
        if (below(&s->d, 12) == 0) {
            s->domains[i].budget = 50 + below(&s->d, 1000);
            s->domains[i].on_exhausted = (enum mx_on_exhausted)below(&s->d, 3);
        }
        s->limits[i] = (struct mx_limit){below(&s->d, 4) == 0 ? 0.5 / c->plan.k : 0.0, 1.0, NAN, 1};
        s->prior[i] = 0.1 + unit(&s->d);
    }
    c->seq_len = 128;
    c->max_ahead = 1 + (uint32_t)below(&s->d, 10);
    c->reserve_steps = 1 + (uint32_t)below(&s->d, 20);
    c->snapshot_steps = 1 + (uint32_t)below(&s->d, 40);
    c->lead = below(&s->d, 3) == 0 ? (uint32_t)below(&s->d, 90) : 0;
    c->end_step = below(&s->d, 4) == 0 ? below(&s->d, STEPS_MAX) : UINT64_MAX;
    c->feedback_timeout_ms = below(&s->d, 3) == 0 ? 50 + below(&s->d, 1000) : 100000000;
    c->loss_max = 50.0;
    c->prior = s->prior;
    c->limits = s->limits;
    c->policy = mx_policy_at(below(&s->d, 3) == 0 ? below(&s->d, policies) : 1);
    make_params(s);
    c->params = s->params;
    s->world = 1 + (uint32_t)below(&s->d, WORLD_MAX);
    s->now_ms = 1000;
    s->timer_ms = UINT64_MAX;
    s->memory = test_get(1, mx_run_size(c));
    s->run = mx_run_init(s->memory, c);
}

static inline void free_world(struct sim *s)
{
    journal_free(&s->disk);
    journal_free(&s->queue);
    free(s->snapshot);
    free(s->memory);
}

#endif
