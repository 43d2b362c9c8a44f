/* fuzz_state.c - the words of a saved run: whatever they say, a run that accepts them can be asked,
 * told, saved and gone on with; and what it saves it accepts again, unchanged. */
#include "daemon/core/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define K 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same configs for all inputs; the first byte chooses. */
static struct mx_run *make_run(int which)
{
    static struct mx_plan_domain domains[K];
    static struct mx_limit limits[K];
    static const double prior[K] = {0.5, 0.3, 0.2};
    static double params[16];
    static struct mx_mixer_conf mixer;
    static const struct mx_plan_part parts[] = {{0, 8, 1, 1}, {20, 8, 1, 2}, {50, 8, 1, 6}};
    static const double target[K] = {0.0, 0.25, 0.75};
    static const struct mx_phase phases[] = {
        {.from = 0, .kind = MX_PHASE_WARMUP}, {.from = 10, .kind = MX_PHASE_ADAPT},
        {.from = 22, .kind = MX_PHASE_ANNEAL, .mix = target},
        {.from = 60, .kind = MX_PHASE_ANNEAL, .mix = target, .blend = 1},
        {.from = 70, .kind = MX_PHASE_MIX, .mix = target}};
    struct mx_run_config c = {
        .plan = {.seed = 7, .batch = 8, .k = K, .block = 1, .domains = domains},
        .seq_len = 32, .max_ahead = 16, .reserve_steps = 8, .snapshot_steps = 16, .lead = 1,
        .end_step = UINT64_MAX, .feedback_timeout_ms = 1000, .loss_max = 100, .prior = prior,
        .limits = limits, .mixers = &mixer, .n_mixers = 1};

    mixer.policy = (struct mx_policy_conf){.ops = mx_policy_find(which & 1 ? "odm" : "static"),
                                           .params = params};
    mixer.guards = mx_guards_none(mixer.policy.ops);
    for (uint32_t i = 0; i < K; i++) {
        domains[i] = (struct mx_plan_domain){.samples = 40 + 7 * i, .budget = MX_NO_BUDGET,
                                             .chunk = 1 + i, .window = 2};
        limits[i] = (struct mx_limit){0.0, 1.0, NAN, 1};
    }
    if (which & 4) {
        c.plan.parts = parts;
        c.plan.n_parts = 3;
        for (uint32_t i = 0; i < K; i++) {
            domains[i].chunk = mx_plan_chunk(&c.plan, domains[i].chunk);
        }
    }
    if (which & 8) {
        c.phases = phases;
        c.n_phases = 5;
    }
    for (size_t i = 0; i < mixer.policy.ops->n_params; i++) {
        params[i] = mixer.policy.ops->params[i].fallback;
    }
    c.lag = which & 2 ? 2 : 0;
    return mx_run_init(malloc(mx_run_size(&c)), &c);
}

static void require(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "fuzz_state: %s\n", what);
        abort();
    }
}

/* A trainer asks, reports, and an operator acts; nothing becomes durable. */
static void use(struct mx_run *r)
{
    struct mx_loss loss = {1, 1, 32, 64.0};
    double weights[K] = {1, 2, 3};
    struct mx_entry report = {.world = 1, .losses = &loss, .n = 1}, set = {.weights = weights};
    struct mx_run_view v;
    struct mx_effects fx;
    struct mx_step at;

    while (mx_run_recovered(r, 1, 1, &fx)) { /* a snapshot on the way */
    }
    mx_run_view(r, &v);
    for (uint64_t step = v.frontier; step < v.frontier + 3; step++) {
        struct mx_event ask = {.kind = MX_EV_REQUEST, .handle = 1, .step = step, .oldest = step,
                               .world = 1, .count = 8, .now_ms = 2, .wall_ms = 2};

        mx_run_event(r, &ask, &fx);
        (void)mx_run_step(r, step, 1, &at);
    }
    report.step = v.frontier > 0 ? v.frontier - 1 : 0;
    mx_run_event(r, &(struct mx_event){.kind = MX_EV_FEEDBACK, .entry = &report}, &fx);
    mx_run_event(r, &(struct mx_event){.kind = MX_EV_SET, .entry = &set}, &fx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n = size / 8, saved_n;
    uint64_t *words, *saved, step;
    struct mx_run *r;
    int which;

    if (size < 9) {
        return 0;
    }
    which = data[0];
    words = malloc(n * 8 + 8);
    memcpy(words, data + 1, (size - 1) / 8 * 8);
    r = make_run(which);
    if (mx_run_load(r, words, (size - 1) / 8) == 0) {
        struct mx_run *again = make_run(which);

        saved_n = mx_run_save(r, NULL, 0, &step);
        saved = malloc(saved_n * 8);
        require(mx_run_save(r, saved, saved_n, &step) == saved_n, "a size that changes");
        require(mx_run_load(again, saved, saved_n) == 0, "what was saved isn't accepted");
        free(again);
        free(saved);
        use(r);
    }
    free(r);
    free(words);
    return 0;
}
