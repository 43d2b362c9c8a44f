/* sim_policies.c - what decides about a simulated run's weights: its policy and its shadows, any of
 * the registry in any config that it accepts, behind any guards; what ranks report to them beside
 * losses; and their long computations, which end late, in failure or never. See sim.h. */
#include "tests/core/sim.h"

/* ---- a policy of long computations ---------------------------------------------------------- */

/* Its weights follow the mean of what it was told, but only as a computation has found it, which it
 * asks for after every few reports. */
enum { TOLD, WANTS, DONE, HEAD };

static size_t late_size(const struct mx_policy_conf *c)
{
    return HEAD + 2 * (size_t)c->k;
}

static void late_init(double *state, const struct mx_policy_conf *c)
{
    memset(state, 0, (HEAD + c->k) * sizeof *state);
    memcpy(state + HEAD + c->k, c->prior, c->k * sizeof *state);
}

static void late_observe(double *state, const struct mx_policy_conf *c,
                         const struct mx_observation *o)
{
    for (uint32_t i = 0; i < o->n_train; i++) {
        state[HEAD + o->train[i].domain] += o->train[i].loss;
    }
    state[TOLD]++;
    state[WANTS] = fmod(state[TOLD], 1.0 + c->k) == 0.0 ? 1.0 : state[WANTS];
}

static void late_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + HEAD + c->k, c->k * sizeof *ret);
}

static int late_wants(const double *state, const struct mx_policy_conf *c)
{
    (void)c;
    return state[WANTS] == 1.0;
}

static size_t late_work_size(const struct mx_policy_conf *c)
{
    return 1 + (size_t)c->k;
}

static size_t late_work_scratch(const struct mx_policy_conf *c)
{
    return c->k;
}

static void late_work(const double *state, const struct mx_policy_conf *c, double *ret,
                      double *scratch)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < c->k; i++) {
        scratch[i] = 1.0 + state[HEAD + i] / state[TOLD];
        sum += scratch[i];
    }
    ret[0] = state[DONE] + 1.0;
    for (uint32_t i = 0; i < c->k; i++) {
        ret[1 + i] = scratch[i] / sum;
    }
}

static void late_worked(double *state, const struct mx_policy_conf *c, const double *result)
{
    state[DONE] = result[0];
    state[WANTS] = 0.0;
    memcpy(state + HEAD + c->k, result + 1, c->k * sizeof *result);
}

static const struct mx_policy_ops late = {
    .name = "late", .what = "weights that a long computation finds", .uses_train = 1, .adapts = 1,
    .state_size = late_size, .init = late_init, .observe = late_observe, .weights = late_weights,
    .wants_work = late_wants, .work_size = late_work_size, .work_scratch = late_work_scratch,
    .work = late_work, .worked = late_worked,
};

/* ---- configs -------------------------------------------------------------------------------- */

/* Larger states make simulations slow, and show nothing more. */
#define STATE_MOST 1500u

static uint64_t draw(struct policy_source *source)
{
    return roll(((struct sim_source *)source)->d);
}

static size_t n_policies(void)
{
    size_t n = 0;

    while (mx_policy_at(n) != NULL) {
        n++;
    }
    return n;
}

/* Any config of a policy that is of a small size, else its plain one. */
static void configure(struct sim *s, struct mx_mixer_conf *c, struct policy_world *w,
                      const struct mx_policy_ops *ops)
{
    struct mx_policy_conf sized;
    char text[256];

    for (int tries = 0; tries < 20; tries++) {
        policy_world_end(w);
        if (policy_world_begin(w, ops, s->c.plan.k, tries == 19, &s->source.base, text,
                               sizeof text) == 0 &&
            w->c.m <= EVALS_MOST && ops->state_size(&w->c) <= STATE_MOST) {
            break;
        }
    }
    sized = w->c;
    assert_true(ops->check == NULL || ops->check(&sized, text, sizeof text) == NULL);
    c->policy = sized;
}

/* As most runs have it: defaults, but updates begin some time later. */
static void configure_plainly(struct sim *s, struct mx_mixer_conf *c, struct policy_world *w,
                              const struct mx_policy_ops *ops)
{
    char text[256];

    assert_int_equal(policy_world_begin(w, ops, s->c.plan.k, 1, &s->source.base, text,
                                        sizeof text), 0);
    for (size_t i = 0; i < ops->n_params; i++) {
        if (strcmp(ops->params[i].name, "warmup_steps") == 0) {
            w->params[i] = (double)below(&s->d, 20);
        }
    }
    c->policy = w->c;
}

static struct mx_guards some_guards(struct sim *s, const struct mx_policy_ops *ops, int shadow)
{
    struct mx_guards g = below(&s->d, 2) ? mx_guards_none(ops) : mx_guards_default(ops);

    if (below(&s->d, 2) == 0) {
        return g;
    }
    g.loss_clip = below(&s->d, 2) ? 1 + 6 * unit(&s->d) : g.loss_clip;
    g.prior_decay = below(&s->d, 2) ? 0.99 * unit(&s->d) : 0.0;
    g.absent = (enum mx_absent)below(&s->d, 3);
    g.absent_decay = unit(&s->d);
    g.stale_discount = below(&s->d, 2) ? 0.1 + 0.9 * unit(&s->d) : 1.0;
    g.stale_max = below(&s->d, 2) ? (double)(1 + below(&s->d, 4)) : INFINITY;
    g.max_change = below(&s->d, 2) ? 0.01 + 0.5 * unit(&s->d) : 1.0;
    g.apply = !shadow && below(&s->d, 2) ? MX_APPLY_LOSS : MX_APPLY_SAMPLER;
    return g;
}

static void make_mixer(struct sim *s, uint32_t i)
{
    struct mx_mixer_conf *c = &s->mixers[i];
    uint64_t kind = below(&s->d, 8);

    if (kind < 3 && i == 0) {
        configure_plainly(s, c, &s->worlds[i], mx_policy_find(below(&s->d, 2) ? "ema" : "odm"));
    } else if (kind == 3) {
        configure(s, c, &s->worlds[i], &late);
    } else {
        size_t which = below(&s->d, n_policies());

        configure(s, c, &s->worlds[i], mx_policy_at(which));
        assert_true(which < POLICIES_MAX);
        s->used[which]++;
    }
    c->guards = some_guards(s, c->policy.ops, i > 0);
    c->eval_set = i;
    s->eval_sets[i] = c->policy.m;
}

void sim_make_policies(struct sim *s)
{
    s->source = (struct sim_source){{draw}, &s->d};
    s->c.n_mixers = 1 + (below(&s->d, 2) ? (uint32_t)below(&s->d, MIXERS_MAX) : 0);
    for (uint32_t i = 0; i < s->c.n_mixers; i++) {
        make_mixer(s, i);
    }
    s->c.mixers = s->mixers;
    s->c.shadow_steps = 1 + (uint32_t)below(&s->d, 12);
    s->c.eval_sets = s->eval_sets;
    s->c.n_eval_sets = s->c.n_mixers;
}

/* What guards have done in all, and that none of them had to refuse a policy's weights. */
void sim_end_policies(struct sim *s)
{
    for (uint32_t i = 0; i < s->c.n_mixers; i++) {
        struct mx_mixer_counts n = mx_mixer_counts(mx_run_mixer_state(s->run, i));

        assert_int_equal(n.broken, 0);
        s->counts[SIM_CLIPPED] += n.clipped;
        s->counts[SIM_FILLED] += n.filled;
        s->counts[SIM_STALE] += n.stale;
    }
}

void sim_free_policies(struct sim *s)
{
    sim_forget_works(s);
    for (uint32_t i = 0; i < MIXERS_MAX; i++) {
        policy_world_end(&s->worlds[i]);
    }
}

/* ---- reports -------------------------------------------------------------------------------- */

static double or_odd(struct sim *s, double v)
{
    static const double odd[] = {NAN, -INFINITY, -1e3, 1e300, 0.0, 1e9};

    return below(&s->d, 40) == 0 ? odd[below(&s->d, sizeof odd / sizeof odd[0])] : v;
}

/* An evaluation of one set: whole, or of some members. */
static void fill_evals(struct sim *s, struct message *m, uint32_t set, int whole)
{
    double level = 1 + 8 * unit(&s->d);

    for (uint32_t i = 0; i < s->eval_sets[set]; i++) {
        if (whole || below(&s->d, 4) != 0) {
            double mean = level * (0.5 + unit(&s->d));

            m->evals[m->n_evals++] =
                (struct mx_eval_loss){set, i, 2, 20, whole ? 20 * mean : or_odd(s, 20 * mean)};
        }
    }
}

static void fill_rewards(struct sim *s, struct message *m)
{
    for (uint32_t i = 0; i < s->c.plan.k; i++) {
        if (below(&s->d, 3) != 0) {
            uint64_t count = 1 + below(&s->d, 20);

            m->rewards[m->n_rewards++] =
                (struct mx_reward){i, count, or_odd(s, (double)count * (unit(&s->d) - 0.2))};
        }
    }
}

/* Of vectors of two dimensions. */
static void fill_gradients(struct sim *s, struct message *m)
{
    double v[K_MAX][2], *to = m->gram;

    for (uint32_t i = 0; i < s->c.plan.k; i++) {
        if (below(&s->d, 4) != 0) {
            v[m->n_gram][0] = unit(&s->d);
            v[m->n_gram][1] = unit(&s->d) - 0.5;
            m->gram_domains[m->n_gram++] = i;
        }
    }
    for (uint32_t i = 0; i < m->n_gram; i++) {
        for (uint32_t j = i; j < m->n_gram; j++) {
            *to++ = v[i][0] * v[j][0] + v[i][1] * v[j][1];
        }
    }
    if (m->n_gram > 0) {
        m->gram[0] = or_odd(s, m->gram[0]);
    }
    m->lr = 1e-4 * (1 + unit(&s->d));
}

/* Now and then a report names what isn't there, and is refused. */
static void misname(struct sim *s, struct message *m)
{
    switch (below(&s->d, 400)) {
    case 0: m->evals[m->n_evals++] = (struct mx_eval_loss){MIXERS_MAX, 0, 1, 10, 10.0}; break;
    case 1: m->rewards[m->n_rewards++] = (struct mx_reward){K_MAX, 1, 1.0}; break;
    case 2: m->scores[m->n_scores++] = (struct mx_score){K_MAX, 0, 1.0}; break;
    default: break;
    }
}

static int is_asked(const struct sim *s, uint64_t step)
{
    uint64_t steps[8];
    uint32_t n = mx_run_requests(s->run, steps, 8);

    while (n > 0 && steps[n - 1] != step) {
        n--;
    }
    return n > 0;
}

void sim_fill_report(struct sim *s, struct message *m)
{
    int asked = is_asked(s, m->step) && below(&s->d, 8) != 0;

    for (uint32_t set = 0; set < s->c.n_eval_sets; set++) {
        if ((asked && set == 0) || below(&s->d, 5) == 0) {
            fill_evals(s, m, set, (asked && set == 0) || below(&s->d, 2));
        }
    }
    s->counts[SIM_ASKED_EVALS] += (uint64_t)asked;
    if (below(&s->d, 3) == 0) {
        fill_rewards(s, m);
    }
    if (below(&s->d, 4) == 0) {
        fill_gradients(s, m);
    }
    for (uint32_t i = 0; i < SCORES_MOST && below(&s->d, 6) == 0; i++) {
        m->scores[m->n_scores++] = (struct mx_score){(uint32_t)below(&s->d, s->c.plan.k),
                                                     below(&s->d, 20), or_odd(s, unit(&s->d))};
    }
    m->flags = (uint32_t)below(&s->d, 16) == 0 ? MX_REPORT_FLAG_NONFINITE : 0;
    misname(s, m);
}

/* ---- long computations ---------------------------------------------------------------------- */

void sim_forget_works(struct sim *s)
{
    while (s->works_n > 0) {
        free(s->works[--s->works_n].state);
    }
    memset(s->idle, 0, sizeof s->idle);
    memset(s->failed_work, 0, sizeof s->failed_work);
}

void sim_on_work(struct sim *s, const struct mx_effect *f)
{
    uint32_t mixer = (uint32_t)f->u[0];
    size_t bytes = mx_mixer_size(mx_run_mixer(s->run, mixer)) * sizeof(double);
    struct work *w;

    assert_true(mixer < s->c.n_mixers && f->handle != 0);
    for (uint32_t i = 0; i < s->works_n; i++) {
        assert_int_not_equal(s->works[i].handle, f->handle);
    }
    s->counts[SIM_WORKS]++;
    s->failed_work[mixer] = 0;
    s->idle[mixer] = below(&s->d, 24) == 0 || s->works_n == WORKS_MOST;
    if (s->idle[mixer]) { /* nobody ever does it */
        s->counts[SIM_LOST_WORKS]++;
        return;
    }
    w = &s->works[s->works_n++];
    *w = (struct work){f->handle, mixer, s->model.branches, test_get(1, bytes)};
    memcpy(w->state, mx_run_mixer_state(s->run, mixer), bytes);
}

/* One of them ends, whichever began first. */
void sim_work(struct sim *s)
{
    struct work w;
    const struct mx_mixer_conf *c;
    double *scratch, *result;
    struct mx_entry e = {.step = 0};
    struct mx_event ev = {.kind = MX_EV_WORKED, .entry = &e};
    size_t at, entries;

    if (s->works_n == 0) {
        return;
    }
    at = below(&s->d, s->works_n);
    w = s->works[at];
    s->works[at] = s->works[--s->works_n];
    c = mx_run_mixer(s->run, w.mixer);
    e.n_values = mx_mixer_work_size(c);
    scratch = test_get(mx_mixer_work_scratch(c), sizeof *scratch);
    e.values = result = test_get(e.n_values, sizeof *result);
    mx_mixer_work(w.state, c, result, scratch);
    if (below(&s->d, 10) == 0) {
        e.n_values = 0; /* nothing came of it */
        s->failed_work[w.mixer] = w.branch == s->model.branches;
        s->counts[SIM_FAILED_WORKS]++;
    }
    ev.handle = w.handle;
    entries = s->disk.n + s->queue.n;
    sim_give(s, &ev);
    s->counts[SIM_STALE_WORKS] += w.branch != s->model.branches;
    /* What was begun before history turned is of no use. */
    assert_true(w.branch == s->model.branches || s->disk.n + s->queue.n == entries);
    free(result);
    free(scratch);
    free(w.state);
}
