/* core_bench.c - how long the core's hot paths take: planning a step and moving the mix.
 *
 * Prints one line per measurement: name, microseconds (the median of REPEATS timings), limit.
 * Exit code 0 whatever the numbers are: the machine is not ours to judge here. */
#include "daemon/core/plan.h"
#include "daemon/core/policy.h"
#include "daemon/core/shares.h"
#include "proto/err.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REPEATS 21

static double now_us(void)
{
    struct timespec t;

    MX_REQUIRE(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void *get(size_t n, size_t size)
{
    void *p = calloc(n, size);

    MX_REQUIRE(p != NULL);
    return p;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void report(const char *name, double *us, double limit)
{
    qsort(us, REPEATS, sizeof *us, by_value);
    printf("%-44s %10.2f us   limit %8.0f us\n", name, us[REPEATS / 2], limit);
}

/* ---- planning -------------------------------------------------------------------------------- */

static void shares_of(uint32_t k, uint64_t *shares)
{
    double *p = get(k, sizeof *p);
    uint64_t *scratch = get(k, sizeof *scratch);

    for (uint32_t i = 0; i < k; i++) {
        p[i] = 1.0 / (1 + i % 40);
    }
    mx_shares_quantise(p, k, shares, scratch);
    free(p);
    free(scratch);
}

/* One step whole: counts, running sums, the items of all its slots taken in `parts` requests. */
static void bench_plan(const char *name, uint32_t k, uint32_t batch, uint32_t chunk,
                       enum mx_sampling sampling, uint32_t parts, double limit)
{
    struct mx_plan_domain *domains = get(k, sizeof *domains);
    uint64_t *shares = get(k, sizeof *shares), *cursors = get(k, sizeof *cursors);
    uint32_t *counts = get(k, sizeof *counts), *prefix = get(k + 1, sizeof *prefix);
    struct mx_plan_item *items = get(batch, sizeof *items);
    struct mx_plan_spec spec = {.seed = 7, .batch = batch, .k = k, .block = 1,
                                .sampling = sampling, .domains = domains};
    double us[REPEATS];
    uint64_t step = 0, seen = 0;

    shares_of(k, shares);
    for (uint32_t i = 0; i < k; i++) {
        domains[i] = (struct mx_plan_domain){.samples = 1000003 + 7919 * i,
                                             .budget = MX_NO_BUDGET, .chunk = chunk, .window = 64};
        cursors[i] = 997 * i;
    }
    for (int n = 0; n < REPEATS; n++) {
        double start = now_us();

        for (int j = 0; j < 20; j++, step++) {
            MX_REQUIRE(mx_plan_counts(&spec, shares, step, cursors, counts) == -1);
            for (uint32_t i = 0; i < k; i++) {
                prefix[i + 1] = prefix[i] + counts[i];
            }
            for (uint32_t p = 0; p < parts; p++) {
                mx_plan_items(&spec, step, cursors, prefix, p * (batch / parts), batch / parts,
                              items);
                seen += items[0].sample;
            }
            for (uint32_t i = 0; i < k; i++) {
                cursors[i] += counts[i];
            }
        }
        us[n] = (now_us() - start) / 20;
    }
    MX_REQUIRE(seen > 0);
    report(name, us, limit);
    free(domains);
    free(shares);
    free(cursors);
    free(counts);
    free(prefix);
    free(items);
}

/* ---- the mix --------------------------------------------------------------------------------- */

/* One step's feedback of all domains to a new mix: update, limits, integers. */
static void bench_mix(const char *name, uint32_t k, double floor_share, double limit)
{
    const struct mx_policy_ops *odm = mx_policy_find("odm");
    struct mx_domain_stats *stats = get(k, sizeof *stats);
    struct mx_limit *limits = get(k, sizeof *limits);
    double *state, *w = get(k, sizeof *w), *scratch = get(4 * (size_t)k, sizeof *scratch);
    double params[8], us[REPEATS];
    uint64_t *shares = get(k, sizeof *shares), *ints = get(k, sizeof *ints), seen = 0, t = 1;

    MX_REQUIRE(odm != NULL && odm->n_params <= 8);
    state = get(odm->state_size(k), sizeof *state);
    for (size_t i = 0; i < odm->n_params; i++) {
        params[i] = odm->params[i].fallback;
    }
    for (uint32_t i = 0; i < k; i++) {
        w[i] = 1.0 / k;
        limits[i] = (struct mx_limit){floor_share / k, 1.0, NAN, 1};
    }
    odm->init(state, k, w, params);
    for (int n = 0; n < REPEATS; n++) {
        int rounds = k < 100 ? 200 : 5;
        double start = now_us();

        for (int j = 0; j < rounds; j++, t += 100) {
            for (uint32_t i = 0; i < k; i++) {
                stats[i] = (struct mx_domain_stats){i, 4096, 2, 2.0 + (double)((i * t) % 97) / 50};
            }
            odm->on_train(state, k, params, t, stats, k);
            odm->weights(state, k, w);
            mx_limits_project(limits, w, k, w, scratch);
            mx_shares_quantise(w, k, shares, ints);
            seen += shares[0];
        }
        us[n] = (now_us() - start) / rounds;
    }
    MX_REQUIRE(seen > 0);
    report(name, us, limit);
    free(stats);
    free(limits);
    free(state);
    free(w);
    free(scratch);
    free(shares);
    free(ints);
}

int main(void)
{
    bench_plan("plan K=22 B=1024", 22, 1024, 1, MX_SAMPLING_SYSTEMATIC, 1, 50);
    bench_plan("plan K=22 B=1024, chunks of 256", 22, 1024, 256, MX_SAMPLING_SYSTEMATIC, 1, 50);
    bench_plan("plan K=22 B=1024, iid", 22, 1024, 1, MX_SAMPLING_IID, 1, 50);
    bench_plan("plan K=22 B=1024, in 32 requests", 22, 1024, 256, MX_SAMPLING_SYSTEMATIC, 32, 150);
    bench_plan("plan K=10000 B=1024", 10000, 1024, 1, MX_SAMPLING_SYSTEMATIC, 1, 500);
    bench_mix("odm update, limits, shares K=22", 22, 0.0, 10);
    bench_mix("odm update, binding floors, shares K=22", 22, 0.9, 10);
    bench_mix("odm update, limits, shares K=10000", 10000, 0.0, 2000);
    bench_mix("odm update, binding floors, shares K=10000", 10000, 0.9, 2000);
    return 0;
}
