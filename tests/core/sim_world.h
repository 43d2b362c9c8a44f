/* sim_world.h - what a simulation of one run consists of, and the random worlds that it plays in: a
 * config, trainers, a network, a disk. sim.c plays; sim_model.c knows what must hold. */
#ifndef MX_TESTS_CORE_SIM_WORLD_H
#define MX_TESTS_CORE_SIM_WORLD_H

#include "tests/core/check.h"
#include "tests/core/journal.h"
#include "tests/core/policy_world.h"

#include <math.h>

#define K_MAX 6
#define RANKS_MAX 6
#define BATCH_MOST 48
#define STEPS_MAX 900u /* below what a run keeps in memory, so that every step can be looked at */
#define SAMPLES_MOST 2400u
#define HELD_MAX 64
#define NET_MAX 48
#define SNAPSHOTS_MAX 5
#define MIXERS_MAX 4 /* a policy and its shadows */
#define POLICIES_MAX 32
#define EVALS_MOST 12u /* members of a set */
#define SCORES_MOST 3
#define WORKS_MOST 8u
#define PHASES_MOST 5

/* A step that was planned, in the present branch. */
struct planned {
    uint64_t version, hash; /* of all that is in it */
    uint64_t cursors[K_MAX];
};

/* All that a step was ever planned to be, in any branch. */
struct name {
    uint64_t version, hash;
};

struct names {
    struct name *at;
    size_t n;
};

/* What the entries that have been applied say of steps and samples, kept apart from the core. */
struct model {
    uint64_t reserved, first_step;
    uint64_t noted; /* steps below it are in `planned`: the frontier as last seen */
    struct planned planned[STEPS_MAX];
    struct names names[STEPS_MAX];
    uint8_t skipped[STEPS_MAX];
    uint8_t closed[STEPS_MAX], ranks[STEPS_MAX], worlds[STEPS_MAX]; /* reports */
    uint8_t gone[K_MAX][SAMPLES_MOST];
    uint64_t versions; /* the highest that is durable */
    uint64_t branches; /* rewinds so far */
    int set;           /* weights have been set, or another run gone on from */
    int changed; /* a domain has, or history: plans are not a function of mixes alone */
};

struct trainer {
    uint64_t next;    /* the step it wants */
    uint64_t to_post; /* the first step that it hasn't posted feedback of */
};

/* On its way from a trainer. */
struct message {
    int is_request;
    uint32_t rank, world, n;
    uint64_t step, oldest, mix_version;
    struct mx_loss losses[K_MAX];
    uint32_t n_evals, n_rewards, n_scores, n_gram, flags;
    struct mx_eval_loss evals[MIXERS_MAX * EVALS_MOST + 1];
    struct mx_reward rewards[K_MAX + 1];
    struct mx_score scores[SCORES_MOST + 1];
    uint32_t gram_domains[K_MAX];
    double gram[K_MAX * (K_MAX + 1) / 2], lr;
};

/* A long computation that is under way, of the state as it was. */
struct work {
    uint64_t handle;
    uint32_t mixer;
    uint64_t branch;
    double *state;
};

struct sim_source {
    struct policy_source base;
    struct dice *d;
};

struct snapshot {
    uint64_t *words;
    size_t n;
    uint64_t step;
    int durable;
};

struct sim {
    struct dice d;
    struct mx_plan_domain domains[K_MAX];
    struct mx_plan_part parts[3];
    uint32_t takes[3 * K_MAX];
    struct mx_limit limits[K_MAX], phase_limits[K_MAX];
    struct mx_phase phases[PHASES_MOST];
    double targets[PHASES_MOST * K_MAX];
    double prior[K_MAX];
    struct sim_source source;
    struct policy_world worlds[MIXERS_MAX];
    struct mx_mixer_conf mixers[MIXERS_MAX];
    uint32_t eval_sets[MIXERS_MAX];
    uint64_t used[POLICIES_MAX]; /* by number in the registry */
    struct work works[WORKS_MOST];
    uint32_t works_n;
    uint8_t idle[MIXERS_MAX];        /* it waits for a computation that nobody does */
    uint8_t failed_work[MIXERS_MAX]; /* nothing came of it: to be asked for again */
    struct mx_run_config c;
    void *memory;
    struct mx_run *run;
    struct journal disk, queue; /* durable; on their way */
    size_t applied;             /* of the disk's: the rest are late */
    int failed;                 /* the disk takes nothing more until the restart */
    struct journal origin;      /* a fork's first entry */
    struct snapshot snapshots[SNAPSHOTS_MAX];
    uint32_t snapshots_n;
    uint64_t now_ms, timer_ms; /* timer_ms: UINT64_MAX for none */
    struct mx_event held[HELD_MAX];
    size_t held_n;
    struct message net[NET_MAX];
    size_t net_n;
    struct trainer trainers[RANKS_MAX];
    uint32_t world;
    uint64_t got[STEPS_MAX]; /* version of the batch that trainers got last */
    int frozen, rewinding;   /* rewinding: to that step, once the journal stands still */
    uint64_t rewind_to;
    uint32_t withdrawals[K_MAX];
    struct { int here; uint64_t version, hash; } trial[STEPS_MAX];
    struct model model;
    uint64_t hash; /* of all effects and entries */
    uint64_t counts[80];
};

#define SIM_COUNTS(X)                                                                             \
    X(CRASHES) X(FAILURES) X(SNAPSHOT_LOADS) X(SNAPSHOTS) X(SERVES) X(HOLDS) X(AGAINS)            \
    X(REFUSALS) X(MIXES) X(SETS) X(FUTURE_SETS) X(CLOSES) X(STOPS) X(ENDS) X(NOTES) X(DROPS)      \
    X(TRIALS) X(QUARANTINES) X(BELOW_QUORUM) X(SKIPS) X(ADOPTS) X(JOINS) X(WITHDRAWALS)           \
    X(REWINDS) X(UNWINDS_FROM_SNAPSHOT) X(FORKS) X(REFUSED_UNWINDS) X(WORLDS) X(LOCKSTEP_WAITS)   \
    X(LATE_ENTRIES) X(REPLACED_REPORTS) X(LATER_PARTS) X(EVALS) X(ASKED_EVALS) X(REWARDS)         \
    X(GRADIENTS) X(SCORES) X(SHADOWS) X(LOSS_MIXES) X(CLIPPED) X(FILLED) X(STALE) X(WORKS)        \
    X(FITS) X(FAILED_WORKS) X(LOST_WORKS) X(STALE_WORKS) X(CRASHED_WORKS) X(POINTS)

/* Shares of a mix. */
static inline uint32_t sim_shares(const struct sim *s)
{
    return s->c.plan.k * (s->mixers[0].guards.apply == MX_APPLY_LOSS ? 2 : 1);
}

enum sim_count {
#define SIM_COUNT_ENUM(name) SIM_##name,
    SIM_COUNTS(SIM_COUNT_ENUM)
#undef SIM_COUNT_ENUM
    SIM_COUNTS_N
};

/* ---- a random world ------------------------------------------------------------------------- */

/* sim_policies.c: n_mixers, mixers and evaluation sets of the config. */
void sim_make_policies(struct sim *s);

/* Limits that can be met, and what a domain may take over by them. */
static inline void make_limits(struct sim *s)
{
    uint32_t k = s->c.plan.k;
    size_t at;
    double sum;

    for (uint32_t i = 0; i < k; i++) {
        s->limits[i] = (struct mx_limit){below(&s->d, 4) == 0 ? 0.5 / k : 0.0, 1.0, NAN, 1};
        if (below(&s->d, 6) == 0) {
            s->limits[i].ceiling = 0.5 + (double)below(&s->d, 24) / 64;
        } else if (below(&s->d, 12) == 0) {
            s->limits[i].pin = (double)below(&s->d, 16) / 64;
        }
    }
    if (mx_limits_check(s->limits, k, &at, &sum) != MX_LIMITS_OK) {
        for (uint32_t i = 0; i < k; i++) {
            s->limits[i] = (struct mx_limit){0.0, 1.0, NAN, 1};
        }
    }
    for (uint32_t i = 0; i < k; i++) {
        double most = isnan(s->limits[i].pin) ? s->limits[i].ceiling : s->limits[i].pin;

        if (most < 1) {
            s->domains[i].takes_below = (uint32_t)ceil(most * s->c.plan.batch - 1e-9) + 1;
        }
        for (uint32_t p = 0; p < s->c.plan.n_parts; p++) {
            s->takes[p * k + i] =
                most < 1 ? (uint32_t)ceil(most * s->parts[p].batch - 1e-9) + 1 : 0;
        }
    }
    s->c.limits = s->limits;
}

/* Some runs change the size and length of their batches. */
static inline void make_parts(struct sim *s)
{
    struct mx_plan_spec *p = &s->c.plan;
    uint64_t from = 0;

    if (below(&s->d, 3) != 0) {
        return;
    }
    p->parts = s->parts;
    p->takes_below = s->takes;
    p->n_parts = 2 + (uint32_t)below(&s->d, 2);
    for (uint32_t i = 0; i < p->n_parts; i++) {
        s->parts[i] = (struct mx_plan_part){from, p->block * (1 + (uint32_t)below(&s->d, 8)),
                                            p->block, 1u << below(&s->d, 3)};
        from += 1 + below(&s->d, 40);
    }
    p->batch = s->parts[0].batch;
}

static inline void make_plan(struct sim *s)
{
    struct mx_plan_spec *p = &s->c.plan;

    *p = (struct mx_plan_spec){.seed = roll(&s->d), .k = 1 + (uint32_t)below(&s->d, K_MAX),
                               .block = 1, .domains = s->domains,
                               .sampling = (enum mx_sampling)below(&s->d, 5)};
    if (p->sampling > MX_SAMPLING_BLOCK) {
        p->sampling = MX_SAMPLING_SYSTEMATIC;
    }
    if (p->sampling == MX_SAMPLING_BLOCK) {
        p->block = 1 + (uint32_t)below(&s->d, 3);
    }
    p->batch = p->block * (1 + (uint32_t)below(&s->d, 16));
    make_parts(s);
    for (uint32_t i = 0; i < p->k; i++) {
        struct mx_plan_domain *d = &s->domains[i];

        *d = (struct mx_plan_domain){.samples = 20 + below(&s->d, 300), .budget = MX_NO_BUDGET,
                                     .chunk = mx_plan_chunk(p, 1 + (uint32_t)below(&s->d, 5)),
                                     .window = 1 + (uint32_t)below(&s->d, 3)};
        if (below(&s->d, 4) == 0) {
            d->max_epochs = 0.5 + (double)below(&s->d, 40) / 8;
            d->budget = (uint64_t)floor(d->max_epochs * (double)d->samples);
            d->on_exhausted = (enum mx_on_exhausted)below(&s->d, 3);
        }
        s->prior[i] = 0.1 + unit(&s->d);
    }
    s->c.prior = s->prior;
}

/* Some runs have phases; their limits let each domain take over what the run's own do. */
static inline void make_phases(struct sim *s)
{
    uint32_t k = s->c.plan.k;
    uint64_t from = 0;

    if (below(&s->d, 3) != 0) {
        return;
    }
    memcpy(s->phase_limits, s->limits, k * sizeof *s->limits);
    for (uint32_t i = 0; i < k; i++) {
        s->phase_limits[i].floor = 0.0;
    }
    for (uint32_t i = 0; i < PHASES_MOST && from < s->c.end_step; i++) {
        struct mx_phase *p = &s->phases[i];
        double *target = s->targets + i * K_MAX, sum = 0.0;

        *p = (struct mx_phase){.from = from, .kind = (enum mx_phase_kind)below(&s->d, 4),
                               .shape = (enum mx_anneal_shape)below(&s->d, 2),
                               .blend = (int)below(&s->d, 2), .mix = target,
                               .limits = below(&s->d, 2) == 0 ? s->phase_limits : NULL};
        for (uint32_t j = 0; j < k; j++) {
            sum += target[j] = 0.01 + unit(&s->d);
        }
        for (uint32_t j = 0; j < k; j++) {
            target[j] /= sum;
        }
        from += 1 + below(&s->d, below(&s->d, 2) == 0 ? 8 : 60);
        s->c.n_phases = i + 1;
    }
    s->c.phases = s->phases;
}

static inline void make_world(struct sim *s, uint64_t seed)
{
    struct mx_run_config *c = &s->c;

    memset(s, 0, sizeof *s);
    s->d.state = seed;
    make_plan(s);
    make_limits(s);
    sim_make_policies(s);
    c->seq_len = 128;
    c->max_ahead = 1 + (uint32_t)below(&s->d, 10);
    c->reserve_steps = 1 + (uint32_t)below(&s->d, 20);
    c->snapshot_steps = 1 + (uint32_t)below(&s->d, 40);
    c->end_step = below(&s->d, 4) == 0 ? 1 + below(&s->d, STEPS_MAX) : STEPS_MAX;
    make_phases(s);
    c->quorum = below(&s->d, 3) == 0 ? unit(&s->d) : 0.0;
    c->loss_max = 50.0;
    if (below(&s->d, 3) == 0) {
        c->lag = 1 + (uint32_t)below(&s->d, below(&s->d, 4) == 0 ? mx_run_lag_max(c->plan.k) : 4);
    } else {
        c->lead = below(&s->d, 3) == 0 ? (uint32_t)below(&s->d, 90) : 0;
    }
    c->feedback_timeout_ms =
        c->lag > 0 || below(&s->d, 3) == 0 ? 50 + below(&s->d, 3000) : UINT64_MAX;
    s->world = 1 + (uint32_t)below(&s->d, RANKS_MAX);
    s->now_ms = 1000;
    s->timer_ms = UINT64_MAX;
    s->memory = test_get(1, mx_run_size(c));
    s->run = mx_run_init(s->memory, c);
}

#endif
