/* test_elastic.c - what is in a step doesn't depend on how many ask for it, in which order, or for
 * which slots of it at once. */
#include "tests/core/check.h"
#include "tests/core/journal.h"

#include <math.h>

#define K 4
#define BATCH_MAX 40
#define STEPS 24
#define WORLD_MOST 64

struct config {
    struct mx_plan_domain domains[K];
    struct mx_limit limits[K];
    double prior[K];
    struct mx_mixer_conf mixer;
    struct mx_run_config c;
};

static void make_config(struct config *f, struct dice *d)
{
    memset(f, 0, sizeof *f);
    for (uint32_t i = 0; i < K; i++) {
        f->domains[i] = (struct mx_plan_domain){.samples = 1 + below(d, 60),
                                                .budget = MX_NO_BUDGET,
                                                .chunk = 1 + (uint32_t)below(d, 4),
                                                .window = 2};
        if (i > 0 && below(d, 3) == 0) {
            f->domains[i].budget = below(d, 200);
        }
        f->limits[i] = (struct mx_limit){0.0, 1.0, NAN, 1};
        f->prior[i] = 0.1 + unit(d);
    }
    f->c = (struct mx_run_config){.plan = {.seed = roll(d),
                                           .k = 1 + (uint32_t)below(d, K),
                                           .block = 1,
                                           .domains = f->domains,
                                           .sampling = (enum mx_sampling)below(d, 2)},
                                  .seq_len = 100,
                                  .max_ahead = 1 + (uint32_t)below(d, 6),
                                  .reserve_steps = 1 + (uint32_t)below(d, 8),
                                  .snapshot_steps = 1 + (uint32_t)below(d, 9),
                                  .end_step = STEPS,
                                  .feedback_timeout_ms = 1000,
                                  .loss_max = 50.0,
                                  .prior = f->prior,
                                  .limits = f->limits,
                                  .mixers = &f->mixer,
                                  .n_mixers = 1};
    f->mixer.policy.ops = mx_policy_find("static");
    f->mixer.guards = mx_guards_none(f->mixer.policy.ops);
    f->c.plan.batch = 1 + (uint32_t)below(d, BATCH_MAX);
}

/* ---- any world, any order ------------------------------------------------------------------- */

struct trainers {
    const struct config *f;
    struct mx_run *run;
    struct journal queue;
    uint32_t world;
    uint64_t next[WORLD_MOST]; /* of each rank, the step that it wants */
    int known[STEPS][BATCH_MAX];
    struct mx_plan_item items[STEPS][BATCH_MAX];
};

static void collect(struct trainers *t, const struct mx_effects *fx)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        if (fx->fx[i].kind == MX_FX_APPEND) {
            journal_put(&t->queue, &fx->fx[i].entry, t->f->c.plan.k, 0);
        }
    }
}

static void write_all(struct trainers *t)
{
    while (t->queue.n > 0) {
        struct mx_effects fx;

        assert_int_equal(mx_run_apply(t->run, &t->queue.entries[0], 1, &fx), MX_APPLIED);
        journal_shift(&t->queue);
        collect(t, &fx);
    }
}

/* What a rank gets must be what those slots held before, if anybody has asked for them. */
static void take(struct trainers *t, uint64_t step, uint32_t first, uint32_t n)
{
    const struct mx_plan_spec *p = &t->f->c.plan;
    struct mx_plan_item items[BATCH_MAX];
    struct mx_step at;

    assert_int_equal(mx_run_step(t->run, step, 0, &at), MX_STEP_HERE);
    mx_plan_items(p, step, at.cursors, at.prefix, first, n, items);
    for (uint32_t i = 0; i < n; i++) {
        struct mx_plan_item *was = &t->items[step][first + i];

        if (t->known[step][first + i]) {
            assert_true(was->domain == items[i].domain && was->sample == items[i].sample &&
                        was->epoch == items[i].epoch);
        }
        *was = items[i];
        t->known[step][first + i] = 1;
    }
}

/* A rank asks for its slots of a step; whether it got them. */
static int ask(struct trainers *t, uint32_t rank, uint64_t step)
{
    uint64_t batch = t->f->c.plan.batch;
    uint32_t first = (uint32_t)(rank * batch / t->world);
    uint32_t n = (uint32_t)((rank + 1) * batch / t->world) - first;
    struct mx_event ev = {.kind = MX_EV_REQUEST,
                          .handle = 1,
                          .step = step,
                          .oldest = step,
                          .rank = rank,
                          .world = t->world,
                          .first = first,
                          .count = n};

    for (int tries = 0; n > 0; tries++) {
        struct mx_effects fx;
        enum mx_effect_kind answer = MX_FX_DROP;

        assert_true(tries < 100);
        mx_run_event(t->run, &ev, &fx);
        collect(t, &fx);
        for (uint32_t i = 0; i < fx.n; i++) {
            answer = fx.fx[i].handle == 1 ? fx.fx[i].kind : answer;
        }
        if (answer == MX_FX_SERVE) {
            take(t, step, first, n);
            return 1;
        }
        if (answer == MX_FX_REFUSE) { /* it is too far ahead of another */
            return 0;
        }
        assert_true(answer == MX_FX_HOLD || answer == MX_FX_AGAIN);
        write_all(t);
    }
    return 1;
}

static uint32_t slowest(const struct trainers *t)
{
    uint32_t rank = 0;

    for (uint32_t i = 1; i < t->world; i++) {
        rank = t->next[i] < t->next[rank] ? i : rank;
    }
    return rank;
}

/* All steps, by so many ranks that ask in an order of their own, also again for old steps. */
static void train(const struct config *f, uint32_t world, struct dice *d, struct trainers *t)
{
    void *memory = test_get(1, mx_run_size(&f->c));
    struct mx_entry first;

    memset(t, 0, sizeof *t);
    t->f = f;
    t->world = world;
    t->run = mx_run_init(memory, &f->c);
    mx_run_first_entry(t->run, 1, &first);
    journal_put(&t->queue, &first, f->c.plan.k, 0);
    while (t->next[slowest(t)] < STEPS) {
        uint32_t rank = below(d, 4) == 0 ? slowest(t) : (uint32_t)below(d, world);

        if (below(d, 8) == 0 && t->next[rank] > 0) {
            assert_true(ask(t, rank, below(d, t->next[rank])));
        } else if (t->next[rank] < STEPS) {
            t->next[rank] += (uint64_t)ask(t, rank, t->next[rank]);
        }
    }
    journal_free(&t->queue);
    free(memory);
}

static void the_world_changes_no_step(void **state)
{
    struct dice d = {test_seed("the_world_changes_no_step", 5)};
    struct trainers *one = test_get(1, sizeof *one), *other = test_get(1, sizeof *other);

    (void)state;
    for (int round = 0; round < 120; round++) {
        struct config f;

        make_config(&f, &d);
        train(&f, 1 + (uint32_t)below(&d, WORLD_MOST), &d, one);
        train(&f, 1 + (uint32_t)below(&d, 9), &d, other);
        for (uint64_t step = 0; step < STEPS; step++) {
            for (uint32_t slot = 0; slot < f.c.plan.batch; slot++) {
                const struct mx_plan_item *a = &one->items[step][slot];
                const struct mx_plan_item *b = &other->items[step][slot];

                assert_true(one->known[step][slot] && other->known[step][slot]);
                assert_true(a->domain == b->domain && a->sample == b->sample &&
                            a->epoch == b->epoch);
            }
        }
    }
    free(one);
    free(other);
}

/* ---- any slots ------------------------------------------------------------------------------ */

#define CHANGES 6

/* A step of domains that have grown and lost samples. */
struct step {
    struct mx_stretch stretches[K][CHANGES];
    struct mx_gone gone[K][CHANGES];
    struct mx_plan_domain domains[K];
    struct mx_plan_spec spec;
    uint64_t cursors[K];
    uint32_t prefix[K + 1];
};

static void change_domain(struct step *s, uint32_t i, struct dice *d)
{
    struct mx_plan_domain *m = &s->domains[i];
    uint64_t samples = m->samples, from = 0;

    for (uint64_t n = below(d, CHANGES); n > 0; n--) {
        struct mx_series series = {s->spec.seed, m, i, 1};
        struct mx_stretch stretch;
        uint32_t keep;

        from += below(d, 30);
        samples += below(d, 20);
        if (samples >= (m->n_stretches > 0 ? m->stretches[m->n_stretches - 1].samples : 0) &&
            mx_series_grow(&series, from, samples, 2, below(d, 2) == 0, &stretch, &keep) == 0) {
            s->stretches[i][keep] = stretch;
            m->n_stretches = keep + 1;
        }
    }
    for (uint32_t n = (uint32_t)below(d, 3); n > 0 && m->samples > 20; n--) {
        s->gone[i][m->n_gone] = (struct mx_gone){m->n_gone * 5, 1 + below(d, 3), below(d, 60)};
        m->n_gone++;
    }
}

static void make_step(struct step *s, struct dice *d)
{
    uint32_t counts[K];
    uint64_t shares[K] = {MX_SHARE_ONE / 2, MX_SHARE_ONE / 4, MX_SHARE_ONE / 8, MX_SHARE_ONE / 8};

    memset(s, 0, sizeof *s);
    s->spec = (struct mx_plan_spec){.seed = roll(d),
                                    .batch = 1 + (uint32_t)below(d, BATCH_MAX),
                                    .k = K,
                                    .block = 1,
                                    .domains = s->domains,
                                    .sampling = (enum mx_sampling)below(d, 2)};
    for (uint32_t i = 0; i < K; i++) {
        s->domains[i] = (struct mx_plan_domain){.samples = 1 + below(d, 50),
                                                .budget = MX_NO_BUDGET,
                                                .chunk = 3,
                                                .window = 2,
                                                .stretches = s->stretches[i],
                                                .gone = s->gone[i]};
        change_domain(s, i, d);
        s->cursors[i] = below(d, 200);
    }
    assert_int_equal(mx_plan_counts(&s->spec, shares, 7, s->cursors, counts), -1);
    for (uint32_t i = 0; i < K; i++) {
        s->prefix[i + 1] = s->prefix[i] + counts[i];
    }
}

static void slots_come_in_any_parts(void **state)
{
    struct dice d = {test_seed("slots_come_in_any_parts", 6)};

    (void)state;
    for (int round = 0; round < 4000; round++) {
        struct mx_plan_item whole[BATCH_MAX], parts[BATCH_MAX];
        struct step s;

        make_step(&s, &d);
        mx_plan_items(&s.spec, 7, s.cursors, s.prefix, 0, s.spec.batch, whole);
        for (uint32_t at = 0; at < s.spec.batch;) {
            uint32_t left = s.spec.batch - at, n = (uint32_t)below(&d, left + 1);

            n = below(&d, 2) == 0 && n > 3 ? 3 : n;
            mx_plan_items(&s.spec, 7, s.cursors, s.prefix, at, n, parts + at);
            at += n;
        }
        for (uint32_t i = 0; i < s.spec.batch; i++) {
            assert_true(whole[i].domain == parts[i].domain && whole[i].sample == parts[i].sample &&
                        whole[i].epoch == parts[i].epoch);
            for (uint32_t j = 0; j < i; j++) { /* each sample comes once an epoch */
                assert_true(whole[i].domain != whole[j].domain ||
                            whole[i].sample != whole[j].sample || whole[i].epoch != whole[j].epoch);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_world_changes_no_step),
        cmocka_unit_test(slots_come_in_any_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
