/* test_run_policy.c - what a run's policies are shown, the long computations they ask for, shadows,
 * and weights for the loss. One rule at a time, with a policy of the test's own that shows what it
 * has seen. See test_run.c. */
#include "tests/core/run_bench.h"

#include "daemon/core/feedback.h"

/* ---- a policy that keeps what it sees ------------------------------------------------------- */

enum { SEEN, WANTS, FITS, TRAIN, EVAL, REWARD, GRAM, LR, COUNT, VERSION, SPY_WORDS };

static const struct mx_policy_param spy_params[] = {
    {"every", 0, 0, 100, MX_PARAM_INTEGER, "observations between two computations; 0: none", NULL},
};

static size_t spy_size(const struct mx_policy_conf *c)
{
    (void)c;
    return SPY_WORDS;
}

static void spy_init(double *state, const struct mx_policy_conf *c)
{
    (void)c;
    memset(state, 0, SPY_WORDS * sizeof *state);
}

static void spy_observe(double *state, const struct mx_policy_conf *c,
                        const struct mx_observation *o)
{
    state[SEEN]++;
    state[TRAIN] = state[EVAL] = state[REWARD] = state[GRAM] = state[LR] = 0.0;
    state[COUNT] = o->n_train + 100.0 * o->n_eval + 1e4 * o->n_reward;
    state[VERSION] = (double)o->mix_version;
    for (uint32_t i = 0; i < o->n_train; i++) {
        state[TRAIN] += o->train[i].loss;
    }
    for (uint32_t i = 0; i < o->n_eval; i++) {
        state[EVAL] += o->eval[i].loss * (1 + o->eval[i].domain);
    }
    for (uint32_t i = 0; i < o->n_reward; i++) {
        state[REWARD] += o->reward[i].mean * (1 + o->reward[i].domain);
    }
    if (o->grad != NULL) {
        for (uint32_t i = 0; i < o->grad->n * o->grad->n; i++) {
            state[GRAM] += o->grad->gram[i] * (i + 1);
        }
        state[LR] = o->grad->lr;
    }
    state[WANTS] = c->params[0] > 0.0 && fmod(state[SEEN], c->params[0]) == 0.0 ? 1.0 : state[WANTS];
}

/* Domain 0 grows with each observation, domain 1 with each computation. */
static void spy_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < c->k; i++) {
        ret[i] = 1.0 + (i == 0 ? state[SEEN] : i == 1 ? 10 * state[FITS] : 0.0);
        sum += ret[i];
    }
    for (uint32_t i = 0; i < c->k; i++) {
        ret[i] /= sum;
    }
}

static void spy_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    for (uint32_t i = 0; i < c->k; i++) {
        ret[i] = state[SEEN] + i;
    }
}

static int spy_wants(const double *state, const struct mx_policy_conf *c)
{
    (void)c;
    return state[WANTS] == 1.0;
}

static size_t spy_work_size(const struct mx_policy_conf *c)
{
    (void)c;
    return 1;
}

static void spy_work(const double *state, const struct mx_policy_conf *c, double *ret,
                     double *scratch)
{
    (void)c;
    (void)scratch;
    ret[0] = state[FITS] + 1;
}

static void spy_worked(double *state, const struct mx_policy_conf *c, const double *result)
{
    (void)c;
    state[FITS] = result[0];
    state[WANTS] = 0.0;
}

static const struct mx_policy_ops spy = {
    .name = "spy", .what = "shows what it sees", .params = spy_params, .n_params = 1,
    .uses_train = 1, .uses_eval = 1, .uses_reward = 1, .uses_grad = 1, .adapts = 1,
    .state_size = spy_size, .init = spy_init, .observe = spy_observe, .weights = spy_weights,
    .n_terms = 1, .terms = {"estimate"}, .explain = spy_explain, .wants_work = spy_wants,
    .work_size = spy_work_size, .work = spy_work, .worked = spy_worked,
};

static const uint32_t sets[] = {2, K};

static void setup_spy(struct bench *b, double every)
{
    setup(b, "static");
    b->mixer.policy.ops = &spy;
    b->mixer.policy.m = K;
    b->mixer.guards = mx_guards_none(&spy);
    b->mixer.eval_set = 1;
    b->params[0] = every;
    b->c.eval_sets = sets;
    b->c.n_eval_sets = 2;
}

/* What the spy holds: its words are the last of its mixer's. */
static double spied(const struct bench *b, int what)
{
    const struct mx_mixer_conf *c = mx_run_mixer(b->run, 0);

    return mx_run_mixer_state(b->run, 0)[mx_mixer_size(c) - SPY_WORDS + (size_t)what];
}

static void report(struct bench *b, const struct mx_entry *e)
{
    struct mx_event ev = {.kind = MX_EV_FEEDBACK, .handle = 9, .entry = e};

    give(b, &ev);
}

/* ---- the parts of a report ------------------------------------------------------------------ */

static void ranks_add_up_in_any_order(void **state)
{
    const struct mx_loss loss = {1, 2, 10, 30.0};
    const struct mx_eval_loss evals[2][2] = {{{1, 0, 0, 10, 20.0}, {1, 2, 0, 30, 90.0}},
                                             {{0, 1, 0, 5, 5.0}, {1, 2, 0, 10, 70.0}}};
    const struct mx_reward rewards[2] = {{2, 3, -1.5}, {2, 1, 0.1}};
    const uint32_t domains[2] = {0, 2};
    const double grams[2][3] = {{1.0, 0.5, 2.0}, {9.0, 9.0, 9.0}};
    double seen[2][SPY_WORDS];

    (void)state;
    for (int order = 0; order < 2; order++) {
        struct bench b;

        setup_spy(&b, 0);
        open_run(&b);
        serve(&b, 0);
        for (int i = 0; i < 2; i++) {
            uint32_t rank = (uint32_t)(order ? 1 - i : i);
            struct mx_entry e = {.step = 0, .rank = rank, .world = 2, .losses = &loss, .n = 1,
                                 .evals = evals[rank], .n_evals = 2, .rewards = &rewards[rank],
                                 .n_rewards = 1, .gram_domains = domains, .gram = grams[rank],
                                 .n_gram = 2, .lr = 0.1 * (rank + 1)};

            report(&b, &e);
            write_all(&b);
        }
        assert_int_equal(view(&b).evals, 4);
        assert_int_equal(view(&b).rewards, 2);
        assert_int_equal(view(&b).grads, 2);
        assert_true(view(&b).eval_loss[1] == 1.0 && isnan(view(&b).eval_loss[0]));
        for (int i = 0; i < SPY_WORDS; i++) {
            seen[order][i] = spied(&b, i);
        }
        teardown(&b);
    }
    assert_memory_equal(seen[0], seen[1], sizeof seen[0]);
    assert_true(seen[0][TRAIN] == 3.0);
    assert_true(seen[0][EVAL] == 2.0 + 4.0 * 3);       /* its own set alone: 160 / 40 */
    assert_true(fabs(seen[0][REWARD] + 0.35 * 3) < 1e-15); /* (0.1 - 1.5) / 4 */
    assert_true(seen[0][GRAM] == 1.0 + 0.5 * 2 + 0.5 * 3 + 2.0 * 4); /* the lowest rank's */
    assert_true(seen[0][LR] == 0.1);
    assert_true(seen[0][COUNT] == 1 + 200 + 1e4);
    assert_true(seen[0][VERSION] == 1); /* the one that planned it: no rank has said */
}

static void what_is_no_number_is_left_out(void **state)
{
    const struct mx_eval_loss evals[3] = {{0, 0, 0, 1, NAN}, {1, 0, 0, 0, 1.0}, {1, 1, 0, 1, 2.0}};
    const struct mx_reward rewards[3] = {{0, 0, 1.0}, {1, 1, INFINITY}, {2, 2, 2e7}};
    const struct mx_score scores[2] = {{0, 5, 0.5}, {1, 6, NAN}};
    const uint32_t domains[2] = {0, 1};
    const double gram[3] = {-1.0, 0.0, 1.0};
    struct mx_entry e = {.step = 0, .world = 1, .evals = evals, .n_evals = 3, .rewards = rewards,
                         .n_rewards = 3, .scores = scores, .n_scores = 2, .gram_domains = domains,
                         .gram = gram, .n_gram = 2, .lr = 1e-3};
    const struct mx_effect *f;
    struct bench b;

    (void)state;
    setup_spy(&b, 0);
    open_run(&b);
    serve(&b, 0);
    report(&b, &e);
    f = must(&b, MX_FX_APPEND);
    assert_int_equal(f->quarantined, 2 + 3 + 1 + 1);
    assert_string_equal(f->bad_part, "eval");
    assert_int_equal(f->bad_domain, 0);
    assert_int_equal(f->entry.n_evals, 1);
    assert_int_equal(f->entry.n_rewards + f->entry.n_scores + f->entry.n_gram, 0);
    write_all(&b);
    assert_true(spied(&b, COUNT) == 100);
    assert_int_equal(view(&b).quarantined, 7);
    teardown(&b);
}

static void what_does_not_exist_is_refused(void **state)
{
    const struct mx_eval_loss no_set = {2, 0, 0, 1, 1.0}, no_member = {0, 2, 0, 1, 1.0};
    const struct mx_eval_loss falling[2] = {{1, 1, 0, 1, 1.0}, {1, 1, 0, 1, 1.0}};
    const struct mx_reward no_domain = {K, 1, 1.0};
    const struct mx_score no_score = {K, 1, 1.0};
    const uint32_t twice[2] = {1, 1};
    const double gram[3] = {1.0, 0.0, 1.0};
    const struct {
        struct mx_entry e;
        enum mx_verdict verdict;
    } cases[] = {
        {{.world = 1, .evals = &no_set, .n_evals = 1}, MX_BAD_EVAL},
        {{.world = 1, .evals = &no_member, .n_evals = 1}, MX_BAD_EVAL},
        {{.world = 1, .evals = falling, .n_evals = 2}, MX_BAD_EVAL},
        {{.world = 1, .rewards = &no_domain, .n_rewards = 1}, MX_BAD_REWARD},
        {{.world = 1, .scores = &no_score, .n_scores = 1}, MX_BAD_SCORE},
        {{.world = 1, .gram_domains = twice, .gram = gram, .n_gram = 2}, MX_BAD_GRAM},
        {{.world = 1, .gram_domains = twice, .gram = gram, .n_gram = MX_GRAM_MAX + 1}, MX_BAD_GRAM},
    };
    struct bench b;

    (void)state;
    setup_spy(&b, 0);
    open_run(&b);
    serve(&b, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        report(&b, &cases[i].e);
        assert_int_equal(must(&b, MX_FX_REFUSE)->verdict, cases[i].verdict);
        assert_int_equal(b.queue.n, 0);
    }
    teardown(&b);
}

/* ---- long computations ---------------------------------------------------------------------- */

/* The work of the last effect, done: its FIT is under way. */
static void do_work(struct bench *b)
{
    const struct mx_effect *f = must(b, MX_FX_WORK);
    double result;
    struct mx_entry e = {.values = &result, .n_values = 1};
    struct mx_event ev = {.kind = MX_EV_WORKED, .handle = f->handle, .entry = &e};

    mx_mixer_work(mx_run_mixer_state(b->run, (uint32_t)f->u[0]),
                  mx_run_mixer(b->run, (uint32_t)f->u[0]), &result, NULL);
    give(b, &ev);
}

static void a_computation_becomes_an_entry(void **state)
{
    struct mx_entry none = {.n_values = 0};
    struct mx_event ev = {.kind = MX_EV_WORKED, .handle = 77, .entry = &none};
    const struct mx_effect *f;
    struct bench b;
    uint64_t handle;

    (void)state;
    setup_spy(&b, 2);
    open_run(&b);
    serve_upto(&b, 3);
    post(&b, 0, 0, 1, 1, 4.0);
    write_one(&b);
    assert_null(effect(&b, MX_FX_WORK));
    write_all(&b);
    post(&b, 1, 0, 1, 1, 4.0);
    write_one(&b);
    handle = must(&b, MX_FX_WORK)->handle;
    assert_true(view(&b).working);
    give(&b, &ev); /* of another handle */
    write_all(&b);
    assert_null(effect(&b, MX_FX_WORK)); /* asked for once */
    ev.handle = handle;
    give(&b, &ev); /* nothing came of it */
    post(&b, 2, 0, 1, 1, 4.0);
    write_one(&b);
    assert_true(must(&b, MX_FX_WORK)->handle > handle);
    do_work(&b);
    f = must(&b, MX_FX_APPEND);
    assert_int_equal(f->entry.kind, MX_ENTRY_FIT);
    assert_int_equal(f->entry.step, 2);
    assert_true(f->entry.values[0] == 1.0);
    write_all(&b);
    assert_true(spied(&b, FITS) == 1.0 && !view(&b).working);
    assert_true(view(&b).weights[1] > 0.6);
    request(&b, 3);
    request(&b, 4);
    assert_true(view(&b).shares[1] > MX_SHARE_ONE / 2);
    teardown(&b);
}

static void a_crash_costs_the_computation_alone(void **state)
{
    struct bench b;
    struct mx_run *before;

    (void)state;
    setup_spy(&b, 1);
    open_run(&b);
    serve_upto(&b, 1);
    post(&b, 0, 0, 1, 1, 4.0);
    write_all(&b);
    before = b.run;
    b.run = mx_run_init(test_get(1, mx_run_size(&b.c)), &b.c);
    for (size_t i = 0; i < b.disk.n; i++) {
        assert_int_equal(mx_run_apply(b.run, &b.disk.entries[i], 0, &b.fx), MX_APPLIED);
        assert_null(effect(&b, MX_FX_WORK));
    }
    assert_int_equal(mx_run_recovered(b.run, 1000, 1000, &b.fx), 0);
    collect(&b);
    do_work(&b);
    write_all(&b);
    assert_true(spied(&b, FITS) == 1.0);
    free(b.run);
    b.run = before;
    teardown(&b);
}

static void lockstep_waits_for_the_computation(void **state)
{
    struct bench b;

    (void)state;
    setup_spy(&b, 2);
    b.c.lag = 2;
    open_run(&b);
    serve_upto(&b, 2);
    post(&b, 0, 0, 1, 1, 4.0);
    write_all(&b);
    serve(&b, 2);
    post(&b, 1, 0, 1, 1, 4.0);
    write_one(&b);
    assert_non_null(effect(&b, MX_FX_WORK));
    assert_null(effect(&b, MX_FX_APPEND)); /* no mix before it */
    do_work(&b);
    post(&b, 2, 0, 1, 1, 4.0); /* closes meanwhile, and waits for its turn */
    write_one(&b);
    assert_int_equal(view(&b).consumed, 2);
    request(&b, 3);
    assert_non_null(effect(&b, MX_FX_HOLD));
    write_all(&b);
    assert_int_equal(view(&b).consumed, 3);
    serve(&b, 3);
    assert_true(view(&b).shares[1] > MX_SHARE_ONE / 2);
    teardown(&b);
}

/* All wait for it then, so that no entry comes. */
static void lockstep_asks_again_for_one_that_failed(void **state)
{
    struct mx_entry none = {.n_values = 0};
    struct mx_event ev = {.kind = MX_EV_WORKED, .entry = &none};
    struct bench b;

    (void)state;
    setup_spy(&b, 1);
    b.c.lag = 1;
    open_run(&b);
    serve_upto(&b, 1);
    post(&b, 0, 0, 1, 1, 4.0);
    write_all(&b);
    ev.handle = must(&b, MX_FX_WORK)->handle;
    request(&b, 1);
    assert_non_null(effect(&b, MX_FX_HOLD));
    assert_null(effect(&b, MX_FX_WORK)); /* it is under way */
    give(&b, &ev);
    assert_int_equal(b.fx.n, 0);
    assert_int_equal(b.queue.n, 0);
    request(&b, 1);
    assert_non_null(effect(&b, MX_FX_HOLD));
    do_work(&b);
    serve(&b, 1);
    assert_true(spied(&b, FITS) == 1.0);
    teardown(&b);
}

/* ---- shadows -------------------------------------------------------------------------------- */

static void shadows_are_recorded_and_no_more(void **state)
{
    struct mx_mixer_conf both[2];
    const struct mx_effect *f = NULL;
    struct bench b;
    uint32_t records = 0;

    (void)state;
    setup(&b, "static");
    open_run(&b); /* for its mixer */
    free(b.memory);
    journal_free(&b.queue);
    both[0] = both[1] = b.mixer;
    both[1].policy.ops = mx_policy_find("ema");
    both[1].guards = mx_guards_none(both[1].policy.ops);
    b.params[1] = 1; /* its update_frequency */
    b.c.mixers = both;
    b.c.n_mixers = 2;
    b.c.shadow_steps = 3;
    b.memory = test_get(1, mx_run_size(&b.c));
    b.run = mx_run_init(b.memory, &b.c);
    {
        struct mx_entry first;

        mx_run_first_entry(b.run, 1, &first);
        journal_put(&b.queue, &first, K, 0);
    }
    serve_upto(&b, 10);
    for (uint64_t step = 0; step < 10; step++) {
        post(&b, step, 0, 1, 2, 8.0);
        while (b.queue.n > 0) {
            write_one(&b);
            f = effect(&b, MX_FX_APPEND);
            if (f != NULL && f->entry.kind == MX_ENTRY_SHADOW) {
                records++;
                assert_int_equal(f->entry.step, step);
                assert_int_equal(step % 3, 0);
                assert_int_equal(f->entry.n, 1);
                assert_true(f->entry.shares[2] > MX_SHARE_ONE / 2);
                assert_true(f->entry.weights[2] > 0.5);
            }
        }
    }
    assert_int_equal(records, 4);
    assert_int_equal(view(&b).versions, 1); /* the run's own policy has its way */
    teardown(&b);
}

/* ---- weights for the loss ------------------------------------------------------------------- */

static void weights_for_the_loss_leave_the_sampling_alone(void **state)
{
    static const double set[K] = {1, 1, 2};
    struct mx_entry e = {.weights = set};
    struct mx_event ev = {.kind = MX_EV_SET, .handle = 3, .entry = &e};
    struct bench b;

    (void)state;
    setup(&b, "ema");
    b.mixer.guards.apply = MX_APPLY_LOSS;
    open_run(&b);
    assert_int_equal(b.queue.entries[0].n_shares, 2 * K);
    serve_upto(&b, 2);
    assert_int_equal(view(&b).n_shares, 2 * K);
    assert_int_equal(view(&b).shares[2], MX_SHARE_ONE / 2);
    post(&b, 0, 0, 1, 0, 8.0);
    write_all(&b);
    request(&b, 2);
    request(&b, 3);
    assert_true(view(&b).mix_version == 2);
    assert_int_equal(view(&b).shares[2], MX_SHARE_ONE / 2);
    assert_true(view(&b).shares[K] > MX_SHARE_ONE / 2); /* the policy's weight of domain 0 */
    give(&b, &ev);
    write_all(&b);
    request(&b, 6);
    assert_int_equal(view(&b).shares[0], MX_SHARE_ONE / 4);
    assert_true(view(&b).shares[K] > MX_SHARE_ONE / 2);
    teardown(&b);
}

/* ---- saved and gone on with ----------------------------------------------------------------- */

static void half_a_report_outlives_a_snapshot(void **state)
{
    const struct mx_eval_loss eval = {1, 2, 0, 30, 90.0};
    const struct mx_reward reward = {2, 3, -1.5};
    const uint32_t domains[2] = {0, 2};
    const double gram[3] = {1.0, 0.5, 2.0};
    struct mx_entry e = {.step = 0, .rank = 0, .world = 2, .evals = &eval, .n_evals = 1,
                         .rewards = &reward, .n_rewards = 1, .gram_domains = domains, .gram = gram,
                         .n_gram = 2, .lr = 0.5, .mix_version = 1};
    struct mx_entry rest = {.kind = MX_ENTRY_FEEDBACK, .step = 0, .rank = 1, .world = 2,
                            .evals = &eval, .n_evals = 1, .mix_version = 1};
    struct bench b;
    struct mx_run *other;
    uint64_t *words, step;
    size_t n;

    (void)state;
    setup_spy(&b, 0);
    open_run(&b);
    serve(&b, 0);
    report(&b, &e);
    write_all(&b);
    n = mx_run_save(b.run, NULL, 0, &step);
    words = test_get(n, sizeof *words);
    assert_int_equal(mx_run_save(b.run, words, n, &step), n);
    other = mx_run_init(test_get(1, mx_run_size(&b.c)), &b.c);
    assert_int_equal(mx_run_load(other, words, n), 0);
    rest.index = view(&b).applied + 1;
    rest.frontier = view(&b).frontier;
    assert_int_equal(mx_run_apply(b.run, &rest, 0, &b.fx), MX_APPLIED);
    assert_int_equal(mx_run_apply(other, &rest, 0, &b.fx), MX_APPLIED);
    assert_true(spied(&b, COUNT) == 100 + 1e4);
    assert_memory_equal(mx_run_mixer_state(b.run, 0) + 1, mx_run_mixer_state(other, 0) + 1,
                        (mx_mixer_size(mx_run_mixer(b.run, 0)) - 1) * sizeof(double));
    /* A matrix that is no longer one isn't taken. */
    for (size_t i = 0; i < n; i++) {
        uint64_t two;
        double v = 2.0, bad = NAN;
        uint64_t kept = words[i];

        memcpy(&two, &v, sizeof two);
        if (words[i] == two) {
            memcpy(&words[i], &bad, sizeof bad);
            free(other);
            other = mx_run_init(test_get(1, mx_run_size(&b.c)), &b.c);
            (void)mx_run_load(other, words, n); /* may be another 2: must only not break */
            words[i] = kept;
        }
    }
    free(other);
    free(words);
    teardown(&b);
}

/* ---- a policy that prescribes ---------------------------------------------------------------- */

static const uint32_t one_set[] = {K};

static void setup_aioli(struct bench *b)
{
    setup(b, "aioli");
    b->mixer.policy.m = K;
    b->c.eval_sets = one_set;
    b->c.n_eval_sets = 1;
}

/* An evaluation of all members with a step. */
static void evaluate(struct bench *b, uint64_t step)
{
    struct mx_eval_loss evals[K];
    struct mx_entry e = {.step = step, .world = 1, .evals = evals, .n_evals = K};

    for (uint32_t i = 0; i < K; i++) {
        evals[i] = (struct mx_eval_loss){0, i, 1, 10, 30.0 + i};
    }
    report(b, &e);
}

static int wants_evaluation(const struct bench *b, uint64_t step)
{
    uint64_t steps[64];
    uint32_t n = mx_run_requests(b->run, steps, 64);

    while (n > 0 && steps[n - 1] != step) {
        n--;
    }
    return n > 0;
}

static int wants_some(const struct bench *b, uint64_t from)
{
    int some = 0;

    for (uint64_t step = from; step < from + 64; step++) {
        some |= wants_evaluation(b, step);
    }
    return some;
}

static void an_operator_does_not_end_a_burst(void **state)
{
    struct bench b;

    (void)state;
    setup_aioli(&b);
    open_run(&b);
    serve_upto(&b, 2);
    assert_true(wants_evaluation(&b, 0));
    evaluate(&b, 0);
    set_weights(&b, 1, 1, 1); /* durable before the mix that the evaluation leads to is made */
    write_all(&b);
    serve_upto(&b, 4);
    assert_true(wants_some(&b, 4));
    teardown(&b);
}

/* Steps go by without the evaluation that was asked for: it is asked for again, as often as need be,
 * and a whole burst is measured in the end though trainers are always some steps ahead. */
static void a_lost_evaluation_is_asked_for_again(void **state)
{
    int flagged[512] = {0}, asked = 0, versions, lost = 6;
    struct bench b;

    (void)state;
    setup_aioli(&b);
    open_run(&b);
    serve_upto(&b, 8);
    versions = (int)view(&b).versions;
    for (uint64_t step = 0; step < 400; step++) {
        serve(&b, step + 8);
        flagged[step + 8] = wants_evaluation(&b, step + 8);
        asked += flagged[step];
        if (step == 0 || (flagged[step] && --lost < 0)) {
            evaluate(&b, step);
        } else {
            post(&b, step, 0, 1, 0, 3.0);
        }
        write_all(&b);
    }
    assert_true(asked > 10);
    assert_true(view(&b).versions > (uint64_t)versions + 10); /* bursts */
    teardown(&b);
}

static void only_what_it_has_prescribed_is_shown(void **state)
{
    const double mix[K] = {0.2, 0.2, 0.6};
    const struct mx_phase phases[] = {{.kind = MX_PHASE_MIX, .mix = mix},
                                      {.from = 10, .kind = MX_PHASE_ADAPT}};
    struct bench b;

    (void)state;
    setup_aioli(&b);
    b.c.phases = phases;
    b.c.n_phases = 2;
    open_run(&b);
    serve_upto(&b, 8);
    assert_false(wants_some(&b, 0));
    for (uint64_t step = 0; step < 8; step++) {
        evaluate(&b, step);
    }
    write_all(&b);
    assert_int_equal(mx_mixer_counts(mx_run_mixer_state(b.run, 0)).updates, 0);
    assert_true(wants_some(&b, 9));
    serve_upto(&b, 13);
    evaluate(&b, 12);
    write_all(&b);
    assert_int_equal(mx_mixer_counts(mx_run_mixer_state(b.run, 0)).updates, 1);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_add_up_in_any_order),
        cmocka_unit_test(what_is_no_number_is_left_out),
        cmocka_unit_test(what_does_not_exist_is_refused),
        cmocka_unit_test(a_computation_becomes_an_entry),
        cmocka_unit_test(a_crash_costs_the_computation_alone),
        cmocka_unit_test(lockstep_waits_for_the_computation),
        cmocka_unit_test(lockstep_asks_again_for_one_that_failed),
        cmocka_unit_test(shadows_are_recorded_and_no_more),
        cmocka_unit_test(weights_for_the_loss_leave_the_sampling_alone),
        cmocka_unit_test(half_a_report_outlives_a_snapshot),
        cmocka_unit_test(an_operator_does_not_end_a_burst),
        cmocka_unit_test(a_lost_evaluation_is_asked_for_again),
        cmocka_unit_test(only_what_it_has_prescribed_is_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
