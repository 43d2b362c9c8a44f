/* core_bench.c - how long the core's hot paths take: planning a step and moving the mix, by every
 * policy.
 *
 * Prints one line per measurement: name, microseconds of processor time (the median of REPEATS
 * timings; what else the machine does isn't in it), limit. Of a policy one with 22 domains and one
 * with 10,000, or as many as it can have: all that it looks at is reported in every step, of
 * gradients as much as a report can hold. The slowest of some updates, the numbers that it keeps
 * and the memory of a run with it stand behind.
 * Exit code 0 whatever the numbers are: the machine is not ours to judge here. */
#include "daemon/core/mixer.h"
#include "daemon/core/plan.h"
#include "daemon/core/run.h"
#include "daemon/core/shares.h"
#include "proto/err.h"
#include "proto/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REPEATS 21

static double now_us(void)
{
    struct timespec t;

    MX_REQUIRE(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0);
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

#define PARAMS_MAX 48u
/* What a step tells: some are made beforehand. */
#define STEPS 8u

struct setting {
    const char *key; /* of a parameter, or of a table to be given */
    double value;    /* a table: all of it */
};

#define SETTINGS_MAX 4

struct mix_case {
    const char *policy;
    struct setting settings[SETTINGS_MAX];
    uint32_t m; /* members of the eval set; 0: one a domain */
};

/* The policies that have others than their defaults alone: what they can do nothing without, or
 * what makes them work harder. */
static const struct mix_case cases[] = {
    {"ucb", {{0}}, 0},
    {"ucb", {{"chunks", 7}}, 0},
    {"skillit", {{0}}, 0},
    {"skillit", {{"graph", 0.25}}, 12},
    {"dbl", {{"target", 2.0}}, 0},
    {"aioli", {{"lp_rounds", 1}, {"lp_steps", 1}, {"update_steps", 300}}, 0},
    {"ado", {{"update_interval", 200}, {"start_step", 200}, {"ignore_steps", 0},
             {"min_prob", 1e-4}}, 0},
};
#define CASES (sizeof cases / sizeof cases[0])

struct mix {
    struct mx_mixer_conf c;
    struct mx_limit *limits;
    double *prior, *params, *attributes, *state, *scratch, *w, *projected, *limit_scratch;
    double *tables[MX_POLICY_TABLES_MAX];
    uint64_t *shares, *ints;
    struct mx_observation seen[STEPS];
    struct mx_grad_stats grad[STEPS];
    uint64_t t, moved;
    size_t doubles; /* of the mixer */
};

static size_t table_size(const struct mx_policy_table *t, uint32_t k, uint32_t m)
{
    return t->shape == MX_TABLE_DOMAINS ? k : t->shape == MX_TABLE_GRAPH ? (size_t)k * m : m;
}

static void set_up_policy(struct mix *x, const struct mix_case *of, uint32_t k)
{
    struct mx_policy_conf *p = &x->c.policy;

    p->k = k;
    p->m = of->m > 0 ? of->m : k;
    p->prior = x->prior = get(k, sizeof *x->prior);
    p->params = x->params = get(PARAMS_MAX, sizeof *x->params);
    for (uint32_t i = 0; i < k; i++) {
        x->prior[i] = 1.0 / k;
    }
    for (size_t i = 0; i < p->ops->n_params; i++) {
        x->params[i] = p->ops->params[i].fallback;
        for (int j = 0; j < SETTINGS_MAX && of->settings[j].key != NULL; j++) {
            if (strcmp(of->settings[j].key, p->ops->params[i].name) == 0) {
                x->params[i] = of->settings[j].value;
            }
        }
    }
    for (size_t i = 0; i < p->ops->n_tables; i++) {
        size_t n = table_size(&p->ops->tables[i], k, p->m);

        for (int j = 0; j < SETTINGS_MAX && of->settings[j].key != NULL; j++) {
            if (strcmp(of->settings[j].key, p->ops->tables[i].name) == 0) {
                p->tables[i] = x->tables[i] = get(n, sizeof(double));
                for (size_t at = 0; at < n; at++) {
                    x->tables[i][at] = of->settings[j].value + 0.01 * (double)(at % 7);
                }
            }
        }
    }
    if (p->ops->uses_attributes) { /* as the paper's: quality bins, sources, topics */
        static const uint32_t values[] = {5, 7, 13};

        p->attributes = x->attributes = get(3 * (size_t)k, sizeof *x->attributes);
        p->n_attributes = 3;
        for (uint32_t i = 0; i < 3 * k; i++) {
            p->n_values[i % 3] = values[i % 3];
            x->attributes[i] = (double)(i / 3 * 31 % values[i % 3]);
        }
    }
    x->c.guards = mx_guards_default(p->ops);
}

static void make_grad(struct mx_grad_stats *g, uint32_t k, uint32_t step)
{
    uint32_t n = k < MX_GRAM_MAX ? k : MX_GRAM_MAX;
    uint32_t *domains = get(n, sizeof *domains);
    double *gram = get((size_t)n * n, sizeof *gram);

    for (uint32_t i = 0; i < n; i++) {
        domains[i] = i;
        for (uint32_t j = 0; j < n; j++) {
            gram[(size_t)i * n + j] = cos(0.1 * (i + step)) * cos(0.1 * (j + step)) + (i == j);
        }
    }
    *g = (struct mx_grad_stats){n, domains, gram, 1e-4};
}

/* All that the policy looks at, of all domains and members. */
static void make_steps(struct mix *x)
{
    const struct mx_policy_conf *p = &x->c.policy;

    for (uint32_t s = 0; s < STEPS; s++) {
        struct mx_domain_stats *train = get(p->k, sizeof *train), *eval = get(p->m, sizeof *eval);
        struct mx_reward_stats *reward = get(p->k, sizeof *reward);

        for (uint32_t i = 0; i < p->k; i++) {
            double loss = 2.0 + (double)((i * (s + 7)) % 97) / 50;

            train[i] = (struct mx_domain_stats){i, 4096, 2, loss};
            reward[i] = (struct mx_reward_stats){i, 16, loss / 8};
        }
        for (uint32_t i = 0; i < p->m; i++) {
            eval[i] = (struct mx_domain_stats){i, 4096, 2, 2.0 + (double)((i * s) % 89) / 50};
        }
        make_grad(&x->grad[s], p->k, s);
        x->seen[s] = (struct mx_observation){
            .train = train, .n_train = p->k, .eval = eval, .n_eval = p->m, .reward = reward,
            .n_reward = p->k, .grad = &x->grad[s]};
    }
}

static void tear_down(struct mix *x)
{
    void *all[] = {x->limits, x->prior, x->params, x->attributes, x->state, x->scratch, x->w,
                   x->projected, x->limit_scratch, x->shares, x->ints};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        free(all[i]);
    }
    for (uint32_t i = 0; i < MX_POLICY_TABLES_MAX; i++) {
        free(x->tables[i]);
    }
    for (uint32_t s = 0; s < STEPS; s++) {
        free((void *)(uintptr_t)x->seen[s].train);
        free((void *)(uintptr_t)x->seen[s].eval);
        free((void *)(uintptr_t)x->seen[s].reward);
        free((void *)(uintptr_t)x->grad[s].domains);
        free((void *)(uintptr_t)x->grad[s].gram);
    }
    memset(x, 0, sizeof *x);
}

/* Whether a run can have the policy with so many domains; then x is to be torn down. */
static int set_up(struct mix *x, const struct mix_case *of, uint32_t k, double floor_share)
{
    char text[256];

    memset(x, 0, sizeof *x);
    x->c.policy.ops = mx_policy_find(of->policy);
    MX_REQUIRE(x->c.policy.ops != NULL && x->c.policy.ops->n_params <= PARAMS_MAX);
    set_up_policy(x, of, k);
    if ((x->c.policy.ops->check != NULL &&
         x->c.policy.ops->check(&x->c.policy, text, sizeof text) != NULL) ||
        mx_mixer_size(&x->c) > MX_POLICY_STATE_MAX) {
        tear_down(x);
        return 0;
    }
    make_steps(x);
    x->doubles = mx_mixer_size(&x->c);
    x->state = get(x->doubles, sizeof *x->state);
    x->scratch = get(mx_mixer_scratch(&x->c), sizeof *x->scratch);
    x->limits = get(k, sizeof *x->limits);
    x->w = get(k, sizeof *x->w);
    x->projected = get(k, sizeof *x->projected);
    x->limit_scratch = get(4 * (size_t)k, sizeof *x->limit_scratch);
    x->shares = get(k, sizeof *x->shares);
    x->ints = get(k, sizeof *x->ints);
    for (uint32_t i = 0; i < k; i++) {
        x->limits[i] = (struct mx_limit){floor_share / k, 1.0, NAN, 1};
    }
    mx_mixer_init(x->state, &x->c);
    return 1;
}

/* A step's report to a new mix: guards, policy, limits, integers. */
static void update(struct mix *x)
{
    struct mx_observation *o = &x->seen[x->t % STEPS];
    uint32_t k = x->c.policy.k;

    o->t = ++x->t;
    x->moved += (uint64_t)mx_mixer_observe(x->state, &x->c, o, 0, x->scratch);
    memcpy(x->w, mx_mixer_weights(x->state), k * sizeof *x->w);
    mx_limits_project(x->limits, x->w, k, x->projected, x->limit_scratch);
    mx_shares_quantise(x->projected, k, x->shares, x->ints);
    mx_mixer_in_force(x->state, &x->c, x->t + 1);
}

/* Steps up to the first long computation, and that: what needs one does nothing before. Returns the
 * microseconds that it took, 0 if there was none. */
static double first_work(struct mix *x)
{
    double *result, *scratch, start, took = 0.0;

    if (x->c.policy.ops->wants_work == NULL) {
        return 0.0;
    }
    result = get(mx_mixer_work_size(&x->c) + 1, sizeof *result);
    scratch = get(mx_mixer_work_scratch(&x->c) + 1, sizeof *scratch);
    for (int i = 0; i < 1000 && !mx_mixer_wants_work(x->state, &x->c); i++) {
        update(x);
    }
    if (mx_mixer_wants_work(x->state, &x->c)) {
        start = now_us();
        mx_mixer_work(x->state, &x->c, result, scratch);
        took = now_us() - start;
        (void)mx_mixer_worked(x->state, &x->c, result, x->scratch);
    }
    free(result);
    free(scratch);
    return took;
}

/* Memory of a run that has the policy, and shadows of its kind, in bytes. */
static size_t run_bytes(const struct mix *x, uint32_t n_mixers)
{
    struct mx_mixer_conf mixers[1 + MX_SHADOWS_MAX];
    struct mx_plan_domain *domains = get(x->c.policy.k, sizeof *domains);
    uint32_t sets[] = {x->c.policy.m};
    struct mx_run_config c = {
        .plan = {.seed = 1, .batch = 1024, .k = x->c.policy.k, .block = 1, .domains = domains},
        .seq_len = 4096, .max_ahead = 1024, .reserve_steps = 64, .snapshot_steps = 256,
        .lead = 1, .end_step = UINT64_MAX, .feedback_timeout_ms = 60000, .loss_max = 100,
        .prior = x->prior, .limits = x->limits, .mixers = mixers, .n_mixers = n_mixers,
        .shadow_steps = 10, .eval_sets = sets, .n_eval_sets = 1};
    size_t n;

    for (uint32_t i = 0; i < n_mixers; i++) {
        mixers[i] = x->c;
    }
    for (uint32_t i = 0; i < x->c.policy.k; i++) {
        domains[i] = (struct mx_plan_domain){.samples = 1000000, .budget = MX_NO_BUDGET,
                                             .chunk = 1, .window = 64};
    }
    n = mx_run_size(&c);
    free(domains);
    return n;
}

/* The largest number of domains, up to k, that a run can have with the policy. */
static uint32_t most_domains(const struct mix_case *of, uint32_t k)
{
    uint32_t low = 1, high = k + 1;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        struct mix x;

        if (set_up(&x, of, middle, 0)) {
            tear_down(&x);
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static void bench_mix(const struct mix_case *of, uint32_t k, double floor_share, double limit)
{
    static struct mix x;
    double us[REPEATS], slowest[REPEATS], work;
    char name[128];

    if (!set_up(&x, of, k, floor_share)) {
        k = most_domains(of, k);
        MX_REQUIRE(set_up(&x, of, k, floor_share));
    }
    work = first_work(&x);
    for (int n = 0; n < REPEATS; n++) {
        int rounds = k < 100 ? 400 : 12;
        double start = now_us();

        for (int j = 0; j < rounds; j++) {
            update(&x);
        }
        us[n] = (now_us() - start) / rounds;
    }
    /* Of two rounds of aioli, or of a few updates. */
    for (int n = 0; n < REPEATS; n++) {
        slowest[n] = 0.0;
        for (uint32_t j = 0; j < (k < 300 ? 600 : 8); j++) {
            double start = now_us();

            update(&x);
            slowest[n] = fmax(slowest[n], now_us() - start);
        }
    }
    MX_REQUIRE(x.moved > 0 || !x.c.policy.ops->adapts);
    (void)snprintf(name, sizeof name, "%s%s%s K=%u%s%s", of->policy,
                   of->settings[0].key != NULL ? ", " : "",
                   of->settings[0].key != NULL ? of->settings[0].key : "", k,
                   x.c.policy.ops->uses_grad && x.grad[0].n < k ? ", gradients of 128" : "",
                   floor_share > 0.5 ? ", binding floors" : "");
    qsort(us, REPEATS, sizeof *us, by_value);
    qsort(slowest, REPEATS, sizeof *slowest, by_value);
    printf("%-44s %10.2f us   limit %8.0f us   slowest %8.1f us   %7zu doubles, run %8.2f MiB, "
           "with 8 shadows %8.2f MiB\n", name, us[REPEATS / 2], limit, slowest[REPEATS / 2],
           x.doubles, (double)run_bytes(&x, 1) * 0x1p-20,
           (double)run_bytes(&x, 1 + MX_SHADOWS_MAX) * 0x1p-20);
    if (work > 0.0) {
        printf("%-44s %10.0f us   limit %8.0f us (of 22 domains)\n", "  its first fit", work,
               1e6);
    }
    tear_down(&x);
}

static void bench_policy(const char *name)
{
    const struct mix_case plain = {name, {{0}}, 0};
    int found = 0;

    for (size_t i = 0; i < CASES; i++) {
        if (strcmp(cases[i].policy, name) == 0) {
            bench_mix(&cases[i], 22, 0.0, 10);
            bench_mix(&cases[i], 10000, 0.0, 2000);
            found = 1;
        }
    }
    if (!found) {
        bench_mix(&plain, 22, 0.0, 10);
        bench_mix(&plain, 10000, 0.0, 2000);
    }
}

int main(void)
{
    bench_plan("plan K=22 B=1024", 22, 1024, 1, MX_SAMPLING_SYSTEMATIC, 1, 50);
    bench_plan("plan K=22 B=1024, chunks of 256", 22, 1024, 256, MX_SAMPLING_SYSTEMATIC, 1, 50);
    bench_plan("plan K=22 B=1024, iid", 22, 1024, 1, MX_SAMPLING_IID, 1, 50);
    bench_plan("plan K=22 B=1024, in 32 requests", 22, 1024, 256, MX_SAMPLING_SYSTEMATIC, 32, 150);
    bench_plan("plan K=10000 B=1024", 10000, 1024, 1, MX_SAMPLING_SYSTEMATIC, 1, 500);
    for (size_t i = 0; mx_policy_at(i) != NULL; i++) {
        bench_policy(mx_policy_at(i)->name);
    }
    bench_mix(&(struct mix_case){"odm", {{0}}, 0}, 22, 0.9, 10);
    bench_mix(&(struct mix_case){"odm", {{0}}, 0}, 10000, 0.9, 2000);
    return 0;
}
