/* run_bench.h - a small run with a journal that a test makes durable when it wants to. */
#ifndef MX_TESTS_CORE_RUN_BENCH_H
#define MX_TESTS_CORE_RUN_BENCH_H

#include "tests/core/check.h"
#include "tests/core/journal.h"

#include <math.h>

#define K 3
#define BATCH 12

struct bench {
    struct mx_plan_domain domains[K];
    struct mx_limit limits[K];
    double prior[K], params[16];
    struct mx_mixer_conf mixer;
    struct mx_run_config c;
    void *memory;
    struct mx_run *run;
    struct journal disk, queue;
    struct mx_effects fx; /* of the last call */
    uint64_t now_ms;
};

static inline void open_run(struct bench *b)
{
    struct mx_entry first;

    b->mixer.policy.params = b->params;
    b->c.mixers = &b->mixer;
    b->memory = test_get(1, mx_run_size(&b->c));
    b->run = mx_run_init(b->memory, &b->c);
    mx_run_first_entry(b->run, 1, &first);
    journal_put(&b->queue, &first, b->c.plan.k, 0);
}

static inline void setup(struct bench *b, const char *policy)
{
    memset(b, 0, sizeof *b);
    b->now_ms = 1000;
    for (int i = 0; i < K; i++) {
        b->domains[i] = (struct mx_plan_domain){.samples = 1000, .budget = MX_NO_BUDGET,
                                                .chunk = 1, .window = 1};
        b->limits[i] = (struct mx_limit){0.0, 1.0, NAN, 1};
        b->prior[i] = i + 1;
    }
    b->c = (struct mx_run_config){
        .plan = {.seed = 1, .batch = BATCH, .k = K, .block = 1, .domains = b->domains},
        .seq_len = 100, .max_ahead = 10, .reserve_steps = 8, .snapshot_steps = 1000,
        .end_step = UINT64_MAX, .feedback_timeout_ms = 500, .loss_max = 50.0, .prior = b->prior,
        .limits = b->limits, .n_mixers = 1};
    b->mixer.policy.ops = mx_policy_find(policy);
    b->mixer.guards = mx_guards_none(b->mixer.policy.ops);
    for (size_t i = 0; i < b->mixer.policy.ops->n_params; i++) {
        b->params[i] = b->mixer.policy.ops->params[i].fallback;
    }
}

static inline void teardown(struct bench *b)
{
    journal_free(&b->disk);
    journal_free(&b->queue);
    free(b->memory);
}

static inline void collect(struct bench *b)
{
    for (uint32_t i = 0; i < b->fx.n; i++) {
        if (b->fx.fx[i].kind == MX_FX_APPEND) {
            journal_put(&b->queue, &b->fx.fx[i].entry, b->c.plan.k, b->fx.fx[i].handle);
        }
    }
}

/* The first entry that is under way becomes durable. */
static inline void write_one(struct bench *b)
{
    assert_true(b->queue.n > 0);
    journal_put(&b->disk, &b->queue.entries[0], b->c.plan.k, 0);
    journal_shift(&b->queue);
    assert_int_equal(mx_run_apply(b->run, &b->disk.entries[b->disk.n - 1], b->now_ms, &b->fx),
                     MX_APPLIED);
    collect(b);
}

static inline void write_all(struct bench *b)
{
    while (b->queue.n > 0) {
        write_one(b);
    }
}

static inline const struct mx_effect *effect(const struct bench *b, enum mx_effect_kind kind)
{
    for (uint32_t i = 0; i < b->fx.n; i++) {
        if (b->fx.fx[i].kind == kind) {
            return &b->fx.fx[i];
        }
    }
    return NULL;
}

static inline void give(struct bench *b, struct mx_event *ev)
{
    ev->now_ms = b->now_ms;
    ev->wall_ms = b->now_ms;
    mx_run_event(b->run, ev, &b->fx);
    collect(b);
}

static inline struct mx_event ask(uint64_t step)
{
    return (struct mx_event){.kind = MX_EV_REQUEST, .handle = 7, .step = step, .oldest = step,
                             .world = 1, .count = BATCH};
}

static inline void request(struct bench *b, uint64_t step)
{
    struct mx_event ev = ask(step);

    give(b, &ev);
}

/* Until it is served: the disk writes, and snapshots are taken. */
static inline void serve(struct bench *b, uint64_t step)
{
    request(b, step);
    while (effect(b, MX_FX_SERVE) == NULL) {
        if (effect(b, MX_FX_AGAIN) == NULL) {
            assert_non_null(effect(b, MX_FX_HOLD));
            write_all(b);
        }
        request(b, step);
    }
}

static inline void serve_upto(struct bench *b, uint64_t steps)
{
    for (uint64_t step = 0; step < steps; step++) {
        serve(b, step);
    }
    write_all(b);
}

/* The same, where there must be one. */
static inline const struct mx_effect *must(const struct bench *b, enum mx_effect_kind kind)
{
    const struct mx_effect *f = effect(b, kind);

    assert_non_null(f);
    if (f == NULL) {
        abort(); /* not reached; compilers don't know that the line above doesn't return */
    }
    return f;
}

static inline struct mx_effect refusal(const struct bench *b)
{
    assert_int_equal(b->fx.n, 1);
    return *must(b, MX_FX_REFUSE);
}

static inline void assert_refused(const struct bench *b, enum mx_verdict verdict, uint64_t u)
{
    assert_int_equal(refusal(b).verdict, verdict);
    assert_int_equal(refusal(b).u[0], u);
}

/* An operator's command. */
static inline void command(struct bench *b, enum mx_event_kind kind, struct mx_entry e)
{
    struct mx_event ev = {.kind = kind, .handle = 11, .entry = &e};

    e.author = "op";
    e.author_len = 2;
    give(b, &ev);
}

static inline void pass_over(struct bench *b, uint64_t from, uint64_t to)
{
    command(b, MX_EV_SKIP, (struct mx_entry){.step = from, .to = to});
}

static inline void adopt(struct bench *b, uint32_t domain, uint64_t samples, int now)
{
    command(b, MX_EV_ADOPT, (struct mx_entry){.domain = domain, .samples = samples, .chunk = 1,
                                              .shards = 2, .flag = (uint32_t)now});
}

static inline void withdraw(struct bench *b, uint32_t domain, uint32_t serial, uint64_t first,
                            uint64_t count)
{
    struct mx_range range = {first, count};

    command(b, MX_EV_WITHDRAW, (struct mx_entry){.domain = domain, .serial = serial,
                                                 .ranges = &range, .n = 1});
}

/* One domain's mean loss over 10 tokens. */
static inline void post(struct bench *b, uint64_t step, uint32_t rank, uint32_t world,
                        uint32_t domain, double mean)
{
    struct mx_loss loss = {domain, 1, 10, mean * 10};
    struct mx_entry e = {.step = step, .rank = rank, .world = world, .losses = &loss, .n = 1};
    struct mx_event ev = {.kind = MX_EV_FEEDBACK, .handle = 9, .entry = &e};

    give(b, &ev);
}

/* step 0: from as soon as can be. */
static inline void set_weights_at(struct bench *b, uint64_t step, double x, double y, double z)
{
    double w[K] = {x, y, z};
    struct mx_entry e = {.step = step, .weights = w, .author = "op", .author_len = 2};
    struct mx_event ev = {.kind = MX_EV_SET, .handle = 11, .entry = &e};

    give(b, &ev);
}

static inline void set_weights(struct bench *b, double x, double y, double z)
{
    set_weights_at(b, 0, x, y, z);
}

/* The process ends: what isn't durable is lost, and the run comes back from the journal. */
static inline void crash(struct bench *b)
{
    int more;

    journal_cut(&b->queue, 0);
    b->run = mx_run_init(b->memory, &b->c);
    for (size_t i = 0; i < b->disk.n; i++) {
        assert_int_equal(mx_run_apply(b->run, &b->disk.entries[i], b->now_ms, &b->fx), MX_APPLIED);
    }
    do {
        more = mx_run_recovered(b->run, b->now_ms, b->now_ms, &b->fx);
    } while (more);
    collect(b);
}

static inline struct mx_run_view view(const struct bench *b)
{
    struct mx_run_view v;

    mx_run_view(b->run, &v);
    return v;
}

/* Nothing is asked for any more, and what was is durable. */
static inline void freeze(struct bench *b)
{
    struct mx_event ev = {.kind = MX_EV_FREEZE};

    give(b, &ev);
    assert_int_equal(b->fx.n, 0);
    write_all(b);
}

/* The REWIND of a frozen run, made of the whole journal. */
static inline void ask_back(struct bench *b, uint64_t step)
{
    uint64_t shares[K];
    struct mx_entry e = {.step = step, .shares = shares};
    uint64_t *words = unwound(&b->c, &b->disk, NULL, 0, step, shares, &e.n_words);

    assert_non_null(words);
    e.words = words;
    command(b, MX_EV_REWIND, e);
    free(words);
}

static inline void go_back(struct bench *b, uint64_t step)
{
    freeze(b);
    ask_back(b, step);
    assert_int_equal(must(b, MX_FX_APPEND)->entry.kind, MX_ENTRY_REWIND);
    write_all(b);
}

#endif
