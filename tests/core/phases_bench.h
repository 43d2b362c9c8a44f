/* phases_bench.h - run_bench.h for runs with phases: each step's mix, and whose it is. */
#ifndef MX_TESTS_CORE_PHASES_BENCH_H
#define MX_TESTS_CORE_PHASES_BENCH_H

#include "tests/core/run_bench.h"

#include "daemon/core/schedule.h"

static const double target[K] = {0.25, 0.75, 0.0};
static const double other[K] = {0.0, 0.5, 0.5};
static const struct mx_limit loose[K] = {{0, 1, NAN, 1}, {0, 1, NAN, 1}, {0, 1, NAN, 1}};
static const double prior[K] = {1.0 / 6, 2.0 / 6, 3.0 / 6};

static inline void setup_phases(struct bench *b, const char *policy,
                                const struct mx_phase *phases, uint32_t n)
{
    setup(b, policy);
    b->c.phases = phases;
    b->c.n_phases = n;
}

static inline uint64_t version_of(const struct bench *b, uint64_t step)
{
    struct mx_step at;

    assert_int_equal(mx_run_step(b->run, step, 0, &at), MX_STEP_HERE);
    return at.mix_version;
}

/* The entry that made the mix which a step is planned under. */
static inline const struct mx_entry *mix_of(const struct bench *b, uint64_t step)
{
    uint64_t version = version_of(b, step);

    for (size_t i = 0; i < b->disk.n; i++) {
        const struct mx_entry *e = &b->disk.entries[i];

        if (e->shares != NULL && e->mix_version == version && e->kind != MX_ENTRY_SHADOW) {
            return e;
        }
    }
    fail();
    abort(); /* not reached; compilers don't know that the line above doesn't return */
}

static inline void assert_mix(const struct bench *b, uint64_t step, const double *w)
{
    const struct mx_entry *e = mix_of(b, step);

    for (int i = 0; i < K; i++) {
        assert_true(fabs((double)e->shares[i] / (double)MX_SHARE_ONE - w[i]) < 1e-9);
    }
}

static inline uint32_t mixes_by(const struct bench *b, enum mx_mix_cause cause, uint64_t from,
                                uint64_t to)
{
    uint32_t n = 0;

    for (size_t i = 0; i < b->disk.n; i++) {
        const struct mx_entry *e = &b->disk.entries[i];

        n += e->kind == MX_ENTRY_MIX && e->cause == cause && e->step >= from && e->step < to;
    }
    return n;
}

/* Serves [from, to) and posts a loss of each. */
static inline void train(struct bench *b, uint64_t from, uint64_t to)
{
    for (uint64_t step = from; step < to; step++) {
        serve(b, step);
        post(b, step, 0, 1, (uint32_t)step % K, 2.0 + (double)(step % 7) / 3);
        write_all(b);
    }
}

#endif
