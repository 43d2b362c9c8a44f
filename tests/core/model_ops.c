/* model_ops.c - what each operation of a sequence does. See model_world.h. */
#include "tests/core/model_drive.h"

/* ---- config --------------------------------------------------------------------------------- */

static void make_parts(struct world *w)
{
    struct mx_plan_spec *p = &w->c.plan;
    const int *cfg = w->cfg;

    if (cfg[CFG_second] == 0) {
        return;
    }
    p->n_parts = cfg[CFG_third] > 0 ? 3 : 2;
    p->parts = w->parts;
    w->parts[0] = (struct mx_plan_part){0, p->batch, p->block, 1u << cfg[CFG_length0]};
    w->parts[1] = (struct mx_plan_part){(uint64_t)cfg[CFG_second],
                                        (uint32_t)cfg[CFG_units1] * p->block, p->block,
                                        1u << cfg[CFG_length1]};
    w->parts[2] = (struct mx_plan_part){(uint64_t)cfg[CFG_second] + (uint64_t)cfg[CFG_third],
                                        (uint32_t)cfg[CFG_units2], 1, 1u << cfg[CFG_length2]};
    p->takes_below = w->takes;
}

static void make_domains(struct world *w)
{
    uint32_t longest = m_longest(&w->c);

    for (uint32_t i = 0; i < w->c.plan.k; i++) {
        struct mx_plan_domain *d = &w->domains[i];

        *d = (struct mx_plan_domain){.samples = (uint64_t)w->cfg[CFG_samples0 + i] + longest - 1,
                                     .chunk = (uint32_t)w->cfg[CFG_chunk0 + i] * longest,
                                     .window = 2,
                                     .on_exhausted =
                                         (enum mx_on_exhausted)w->cfg[CFG_exhausted0 + i],
                                     .takes_below = (uint32_t)w->cfg[CFG_takes0 + i],
                                     .max_epochs = w->cfg[CFG_epochs0 + i] / 4.0};
        d->budget = d->max_epochs > 0.0 ? (uint64_t)floor(d->max_epochs * (double)d->samples)
                                        : MX_NO_BUDGET;
        w->limits[i] = (struct mx_limit){0.0, 1.0, NAN, 1};
        w->prior[i] = w->cfg[CFG_prior0 + i] + (i == 0);
        for (uint32_t p = 0; p < w->c.plan.n_parts; p++) {
            w->takes[p * w->c.plan.k + i] = ((uint32_t)w->cfg[CFG_takes0 + i] + p) % 7;
        }
    }
    w->limits[0].floor = w->cfg[CFG_floor0] ? 0.25 : 0.0;
    w->limits[0].ceiling = w->cfg[CFG_ceiling0] && w->c.plan.k > 1 ? 0.5 : 1.0;
}

/* As the run does it, so that the model starts from the same weights to the last bit. */
static void normalise_prior(struct world *w)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < w->c.plan.k; i++) {
        sum += w->prior[i];
    }
    for (uint32_t i = 0; i < w->c.plan.k; i++) {
        w->whole_prior[i] = w->prior[i] / sum;
    }
}

static void make_config(struct world *w)
{
    static const char *const policies[] = {"static", "ema", "odm", "exp3"};
    const int *cfg = w->cfg;

    w->c = (struct mx_run_config){.plan = {.seed = (uint64_t)cfg[CFG_seed],
                                           .k = (uint32_t)cfg[CFG_k],
                                           .sampling = (enum mx_sampling)cfg[CFG_sampling],
                                           .domains = w->domains},
                                  .seq_len = 100,
                                  .max_ahead = (uint32_t)cfg[CFG_max_ahead],
                                  .reserve_steps = (uint32_t)cfg[CFG_reserve],
                                  .snapshot_steps = (uint32_t)cfg[CFG_snapshot],
                                  .lead = (uint32_t)cfg[CFG_lead],
                                  .end_step = (uint64_t)(MODEL_STEPS - cfg[CFG_end]),
                                  .lag = (uint32_t)cfg[CFG_lag],
                                  .quorum = cfg[CFG_quorum] / 4.0,
                                  .feedback_timeout_ms = cfg[CFG_timeout] > 0
                                                             ? (uint64_t)cfg[CFG_timeout] * 100
                                                             : MODEL_NEVER,
                                  .loss_max = 50.0,
                                  .prior = w->prior,
                                  .limits = w->limits,
                                  .mixers = &w->mixer,
                                  .n_mixers = 1};
    w->c.plan.block = w->c.plan.sampling == MX_SAMPLING_BLOCK ? (uint32_t)cfg[CFG_block] : 1;
    w->c.plan.batch = w->c.plan.block * (uint32_t)cfg[CFG_units];
    w->mixer.policy = (struct mx_policy_conf){.ops = mx_policy_find(policies[cfg[CFG_policy]]),
                                              .params = w->params, .prior = w->whole_prior,
                                              .k = (uint32_t)cfg[CFG_k]};
    w->mixer.guards = mx_guards_none(w->mixer.policy.ops);
    for (size_t i = 0; i < w->mixer.policy.ops->n_params; i++) {
        w->params[i] = w->mixer.policy.ops->params[i].fallback;
    }
    make_parts(w);
    make_domains(w);
    normalise_prior(w);
}

/* ---- trainers ------------------------------------------------------------------------------- */

/* A step told from the frontier; not below 0, and -99 for one that no run has. */
static uint64_t step_at(const struct side *s, int ahead)
{
    uint64_t frontier = s->m->s->frontier;

    if (ahead == -99) {
        return UINT64_MAX;
    }
    return ahead < 0 && (uint64_t)-ahead > frontier ? 0 : frontier + (uint64_t)(int64_t)ahead;
}

static int ask(struct world *w, struct side *s, const int *arg)
{
    struct mx_event ev = {.kind = MX_EV_REQUEST,
                          .handle = ++w->handle,
                          .rank = (uint32_t)arg[0],
                          .world = (uint32_t)arg[1],
                          .step = step_at(s, arg[2]),
                          .first = (uint32_t)arg[4],
                          .count = (uint32_t)arg[5]};

    ev.oldest = arg[3] < 0                   ? ev.step + 1
                : (uint64_t)arg[3] > ev.step ? 0
                                             : ev.step - (uint64_t)arg[3];
    if (ev.count == 0) { /* the rest of the step */
        uint32_t batch = m_part(&w->c, ev.step).batch;

        ev.count = ev.first < batch ? batch - ev.first : 0;
    }
    return give(w, s, &ev);
}

/* Losses that follow from a number: each an eighth of a nat times a few tokens, so that sums of
 * them are exact. */
static uint32_t make_losses(const struct world *w, int number, struct mx_loss *ret)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->c.plan.k; i++) {
        uint32_t x = ((uint32_t)number + 1) * 2654435761u ^ (i + 1) * 40503u;

        x ^= x >> 13;
        if (x % 4 != 0) {
            uint32_t tokens = 1 + x / 4 % 30;

            ret[n++] = (struct mx_loss){i, 1, tokens, tokens * (double)(x / 128 % 80) / 8};
        }
    }
    return n;
}

/* What is odd about a report's losses. */
static uint32_t spoil(struct mx_loss *losses, uint32_t n, int odd)
{
    if (n == 0) {
        return 0;
    }
    switch (odd) {
    case 1: losses[0].loss_sum = NAN; break;
    case 2: losses[n - 1].loss_sum = INFINITY; break;
    case 3: losses[0].loss_sum = -1.0; break;
    case 4: losses[0].loss_sum = 50.5 * (double)losses[0].tokens; break;
    case 5: losses[0].tokens = 0; break;
    case 6: losses[n - 1].tokens = 100 * MODEL_BATCH * MODEL_LONGEST + 1; break;
    case 7: losses[n - 1].domain = MODEL_K; break;
    case 8: losses[n - 1].domain = losses[0].domain + (n == 1 ? MODEL_K : 0); break;
    case 9: return 0;
    default: break;
    }
    return n;
}

static uint64_t version_at(const struct side *s, uint64_t step, int what)
{
    uint64_t planned = step < s->m->s->frontier ? s->m->s->steps[step].version : 1;

    return what == 0   ? 0
           : what == 1 ? planned
           : what == 2 ? planned + 1
           : what == 3 ? planned - 1
                       : model_versions(s->m) + 1;
}

static int report(struct world *w, struct side *s, uint64_t step, uint32_t rank, uint32_t world,
                  int losses, int odd, int version)
{
    struct mx_loss l[MODEL_K];
    struct mx_entry e = {
        .step = step, .rank = rank, .world = world, .losses = l, .flags = (uint32_t)losses % 3};

    e.n = spoil(l, make_losses(w, losses, l), odd);
    e.mix_version = version_at(s, step, version);
    return command(w, s, MX_EV_FEEDBACK, &e);
}

static int post(struct world *w, struct side *s, const int *arg)
{
    return report(w, s, step_at(s, -1 - arg[2]), (uint32_t)arg[0], (uint32_t)arg[1], arg[3], arg[4],
                  arg[5]);
}

static int flush(struct world *w, struct side *s)
{
    while (s->queue.n > 0) {
        if (write_one(w, s) != 0) {
            return -1;
        }
    }
    return 0;
}

static int post_all(struct world *w, struct side *s, const int *arg)
{
    uint64_t last = step_at(s, -1 - arg[1]);

    for (int i = arg[3]; i >= 0; i--) {
        for (int rank = 0; rank < (arg[4] > 0 ? arg[4] : arg[0]); rank++) {
            if (last >= (uint64_t)i && report(w, s, last - (uint64_t)i, (uint32_t)rank,
                                              (uint32_t)arg[0], arg[2] + rank + 7 * i, 0, 0) != 0) {
                return -1;
            }
        }
        if (arg[3] > 9 && flush(w, s) != 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- operators ------------------------------------------------------------------------------ */

static int set(struct world *w, struct side *s, const int *arg)
{
    double weights[MODEL_K];
    struct mx_entry e = {.weights = weights, .n = w->c.plan.k};

    for (uint32_t i = 0; i < MODEL_K; i++) { /* 3 bits each: 7 is no weight */
        int x = arg[1] >> (3 * i) & 7;

        weights[i] = x == 7 ? -1.0 : x;
    }
    for (int i = 0; i <= arg[2]; i++) {
        e.step = arg[0] == 0 ? 0 : step_at(s, (int)w->c.lead - 2 + arg[0] + i);
        if (command(w, s, MX_EV_SET, &e) != 0) {
            return -1;
        }
    }
    return 0;
}

static int pass_over(struct world *w, struct side *s, const int *arg)
{
    struct mx_entry e = {.step = step_at(s, arg[0])};

    e.to = e.step + (uint64_t)(int64_t)arg[1];
    return command(w, s, MX_EV_SKIP, &e);
}

static int adopt(struct world *w, struct side *s, const int *arg)
{
    struct mx_entry e = {.domain = (uint32_t)arg[0],
                         .chunk = (uint32_t)arg[3],
                         .shards = 2,
                         .flag = (uint32_t)arg[2]};
    const struct m_domain *d = &s->m->s->domains[arg[0] % MODEL_K];

    for (int i = 0; i <= arg[4]; i++) {
        e.samples = (d->later > 0 ? d->later : d->samples) + (uint64_t)(int64_t)arg[1];
        if (e.samples > MODEL_SAMPLES) {
            break;
        }
        w->out->counts[COUNT_JOINS] += e.flag && d->used > 0;
        if (command(w, s, MX_EV_ADOPT, &e) != 0 || (arg[4] > 0 && flush(w, s) != 0)) {
            return -1;
        }
        d = &s->m->s->domains[arg[0] % MODEL_K];
    }
    return 0;
}

static int withdraw(struct world *w, struct side *s, const int *arg)
{
    struct mx_range ranges[MODEL_RANGES] = {{(uint64_t)arg[1], (uint64_t)arg[2]},
                                            {(uint64_t)(arg[1] + arg[2] + arg[3] - 2), 1}};
    struct mx_entry e = {.domain = (uint32_t)arg[0], .ranges = ranges, .n = arg[3] > 0 ? 2 : 1};

    e.serial = s->m->s->domains[arg[0] % MODEL_K].serial + 1 - (uint32_t)arg[4];
    return command(w, s, MX_EV_WITHDRAW, &e);
}

/* The words of the run as it was before `step`, by the journal and, where it will do, also by the
 * last snapshot: the same. NULL: there is no going back there, as the model must say as well. */
static uint64_t *lead_back(struct world *w, struct side *s, uint64_t step, uint64_t *ret_shares,
                           uint64_t *ret_versions, size_t *ret_n)
{
    void *memory = test_get(1, mx_run_size(&w->c));
    uint64_t *words[2] = {NULL, NULL};
    size_t n[2] = {0, 0};

    for (int way = 0; way < (s->snapshot_n > 0 ? 2 : 1) && !w->out->failed; way++) {
        struct mx_run *r = mx_run_init(memory, &w->c);
        enum mx_applied rc = MX_APPLIED;
        struct mx_run_view v;

        if (way == 1 &&
            (mx_run_load(r, s->snapshot, s->snapshot_n) != 0 || !mx_run_unwinds(r, step))) {
            break;
        }
        mx_run_view(r, &v);
        for (size_t i = v.applied; i < s->disk.n && rc == MX_APPLIED; i++) {
            rc = mx_run_unwind(r, &s->disk.entries[i], step);
        }
        if (rc != MX_APPLIED) {
            (void)flunk(w, "going back to step %llu stops in the journal: %d", U(step), (int)rc);
        } else if (mx_run_unwound(r, step) == 0) {
            mx_run_view(r, &v);
            memcpy(ret_shares, v.shares, w->c.plan.k * sizeof *ret_shares);
            *ret_versions = v.versions;
            words[way] = saved(r, &n[way]);
        }
        count(w, way == 0 ? COUNT_BACK : COUNT_BACK_LOADED);
        if (way == 1 && (n[0] != n[1] || memcmp(words[0], words[1], n[0] * sizeof **words) != 0)) {
            (void)flunk(w, "back to step %llu, journal and snapshot give different states",
                        U(step));
        }
    }
    free(words[1]);
    free(memory);
    *ret_n = n[0];
    return words[0];
}

/* Whether the model can go back to a step that was planned. */
static int can_go_back(struct side *s, uint64_t step)
{
    struct m_state *then = test_get(1, sizeof *then);
    struct m_list line = {0};
    int can;

    m_refold(s->m, step, then, &line);
    can = m_enough_stays(s->m, then);
    free(line.at);
    free(then);
    return can;
}

static int thaw(struct world *w, struct side *s)
{
    struct mx_event ev = {.kind = MX_EV_THAW, .handle = ++w->handle}, held[HELD_MAX];
    uint32_t n = s->n_held;

    memcpy(held, s->held, sizeof held);
    s->n_held = 0;
    return give(w, s, &ev) != 0 ? -1 : give_all(w, s, held, n);
}

/* As the shell does it: frozen, then nothing on its way, then back. Or, `unready`, at once. */
static int rewind_to(struct world *w, struct side *s, const int *arg)
{
    struct mx_event freeze = {.kind = MX_EV_FREEZE, .handle = ++w->handle};
    uint64_t step = step_at(s, -arg[0]), shares[MODEL_K] = {0}, versions;
    struct mx_entry e = {.step = step, .shares = shares};
    uint64_t *words = NULL;
    int rc;

    if (!arg[1] && ((!s->m->frozen && give(w, s, &freeze) != 0) || flush(w, s) != 0)) {
        return -1;
    }
    if (s->m->s->created && step >= s->m->s->first_step && step <= s->m->s->frontier) {
        words = lead_back(w, s, step, shares, &versions, &e.n_words);
        CHECK(w, w->out->failed || (words != NULL) == can_go_back(s, step),
              "there is %s way back to step %llu", words != NULL ? "a" : "no", U(step));
        if (words == NULL) {
            return w->out->failed ? -1 : thaw(w, s);
        }
    }
    e.words = words;
    rc = command(w, s, MX_EV_REWIND, &e);
    free(words);
    count(w, COUNT_REWINDS);
    return rc;
}

/* ---- runs that begin and begin again -------------------------------------------------------- */

static void close_side(struct side *s)
{
    journal_free(&s->disk);
    journal_free(&s->queue);
    free(s->snapshot);
    free(s->memory);
    model_free(s->m);
    memset(s, 0, sizeof *s);
}

static void begin(struct world *w, struct side *s, const struct mx_entry *first)
{
    struct m_entry plain = model_entry(first, w->c.plan.k);

    plain.index = 0;
    model_flies(s->m, &plain);
    journal_put(&s->queue, first, w->c.plan.k, 0);
    s->timer_ms = UINT64_MAX;
}

static void create(struct world *w, struct side *s)
{
    struct mx_entry first;

    s->memory = test_get(1, mx_run_size(&w->c));
    s->run = mx_run_init(s->memory, &w->c);
    s->m = model_new(&w->c);
    mx_run_first_entry(s->run, 5, &first);
    begin(w, s, &first);
}

static int fork_at(struct world *w, struct side *s, struct side *to, const int *arg)
{
    uint64_t shares[MODEL_K], *words, step = step_at(s, -arg[0]);
    struct mx_entry from = {.step = step, .shares = shares}, first;

    if (!s->m->s->created || step < s->m->s->first_step) {
        return 0;
    }
    words = lead_back(w, s, step, shares, &from.mix_version, &from.n_words);
    CHECK(w, w->out->failed || (words != NULL) == can_go_back(s, step),
          "there is %s way back to step %llu", words != NULL ? "a" : "no", U(step));
    if (words == NULL) {
        return w->out->failed ? -1 : 0;
    }
    close_side(to);
    from.words = words;
    from.mix_version++;
    to->memory = test_get(1, mx_run_size(&w->c));
    to->run = mx_run_init(to->memory, &w->c);
    to->m = model_fork(s->m, step, from.mix_version);
    mx_run_fork_entry(to->run, 5, &from, &first);
    begin(w, to, &first);
    free(words);
    count(w, COUNT_FORKS);
    return 0;
}

/* A run from the journal, or from a snapshot and what follows it. NULL: core and model parted. */
static struct mx_run *rebuild(struct world *w, struct side *s, void *memory, int snapshot)
{
    struct mx_run *r = mx_run_init(memory, &w->c);
    size_t from = snapshot ? s->snapshot_applied : 0;
    struct mx_effects fx;
    enum mx_applied rc;

    if (snapshot && mx_run_load(r, s->snapshot, s->snapshot_n) != 0) {
        (void)flunk(w, "the snapshot of %zu entries can't be loaded", from);
        return NULL;
    }
    for (size_t i = from; i < s->disk.n; i++) {
        rc = mx_run_apply(r, &s->disk.entries[i], w->now_ms, &fx);
        if (rc != MX_APPLIED || fx.n > 1 || (fx.n == 1 && fx.fx[0].kind != MX_FX_SNAPSHOT)) {
            (void)flunk(w, "in recovery entry %zu of kind %d gives %d and %u effects", i + 1,
                        (int)s->disk.entries[i].kind, (int)rc, fx.n);
            return NULL;
        }
    }
    return r;
}

/* Every way to rebuild a run gives the same words. */
static int check_words(struct world *w, struct side *s)
{
    void *memory[2] = {test_get(1, mx_run_size(&w->c)), test_get(1, mx_run_size(&w->c))};
    uint64_t *words[2] = {NULL, NULL};
    size_t n[2] = {0, 0};
    struct mx_effects fx;
    int ways = s->snapshot_n > 0 ? 2 : 1;

    for (int i = 0; i < ways && !w->out->failed; i++) {
        struct mx_run *r = rebuild(w, s, memory[i], i);

        if (r != NULL) {
            while (mx_run_recovered(r, w->now_ms, w->now_ms, &fx) == 1) {
            }
            words[i] = saved(r, &n[i]);
        }
    }
    if (!w->out->failed && ways == 2 &&
        (n[0] != n[1] || memcmp(words[0], words[1], n[0] * sizeof **words) != 0)) {
        size_t at = 0;

        while (at < n[0] && at < n[1] && words[0][at] == words[1][at]) {
            at++;
        }
        (void)flunk(w, "journal and snapshot give different states: word %zu of %zu and %zu", at,
                    n[0], n[1]);
    }
    for (int i = 0; i < 2; i++) {
        free(words[i]);
        free(memory[i]);
    }
    return w->out->failed ? -1 : 0;
}

/* The disk may have taken some of what was on its way without anybody hearing of it. */
static int crash(struct world *w, struct side *s, const int *arg)
{
    uint32_t durable = (uint32_t)arg[0] < s->queue.n ? (uint32_t)arg[0] : (uint32_t)s->queue.n;
    int load = arg[1] && s->snapshot_n > 0, more;
    struct m_list list = {0};
    struct call c = {.ev = NULL};
    struct mx_effects fx;

    durable += s->disk.n + durable == 0;
    for (uint32_t i = 0; i < durable; i++) {
        struct m_entry e = model_entry(&s->queue.entries[i], w->c.plan.k);

        m_push(s->m, &list, &e);
        journal_put(&s->disk, &s->queue.entries[i], w->c.plan.k, 0);
    }
    journal_cut(&s->queue, 0);
    s->n_held = 0;
    s->timer_ms = UINT64_MAX;
    s->m->now_ms = w->now_ms;
    if (model_crash(s->m, &list, load ? s->snapshot_applied : 0, s->snapshot_step, &c.x) != 0) {
        (void)flunk(w, "the journal plans a step in another way than it was");
    }
    free(list.at);
    memset(s->memory, 0xa5, mx_run_size(&w->c)); /* init must not rely on zeroed memory */
    s->run = rebuild(w, s, s->memory, load);
    count(w, COUNT_CRASHES);
    w->out->counts[COUNT_LOADED] += (uint64_t)load;
    if (s->run == NULL || w->out->failed) {
        return -1;
    }
    do {
        more = mx_run_recovered(s->run, w->now_ms, w->now_ms, &fx);
        if (carry_out(w, s, &c, &fx) != 0) {
            return -1;
        }
    } while (more == 1);
    return settle(w, s, &c) != 0 ? -1 : check_words(w, s);
}

/* ---- time, disk, filling ahead -------------------------------------------------------------- */

static int pass(struct world *w, const int *arg)
{
    w->now_ms += (uint64_t)arg[0];
    for (int i = 0; i < 2; i++) {
        struct side *s = &w->sides[i];

        for (int n = 0; s->run != NULL && s->timer_ms <= w->now_ms; n++) {
            struct mx_event ev = {.kind = MX_EV_TIMER};

            s->timer_ms = UINT64_MAX;
            CHECK(w, n < 100, "timers without end");
            if (give(w, s, &ev) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

static int write_some(struct world *w, struct side *s, const int *arg)
{
    for (int i = 0; i < arg[0] && s->queue.n > 0; i++) {
        if (write_one(w, s) != 0) {
            return -1;
        }
    }
    return 0;
}

static int look(struct world *w, struct side *s, const int *arg)
{
    uint64_t step = step_at(s, arg[0]);
    struct m_step want;
    struct mx_step at;
    int here = step < MODEL_STEPS && model_trial(s->m, step, &want) == 0;
    enum mx_step_found found = mx_run_step(s->run, step, 1, &at);

    CHECK(w, found == (here ? MX_STEP_HERE : MX_STEP_UNKNOWN), "step %llu ahead: found %d", U(step),
          (int)found);
    if (!here) {
        return 0;
    }
    count(w, COUNT_TRIALS);
    s->m->trial_end = s->m->trial_end > step + 1 ? s->m->trial_end : step + 1;
    return check_step(w, s, step, &at, &want);
}

/* A trainer goes on, and the disk keeps up. */
static int drive(struct world *w, struct side *s, const int *arg)
{
    const int next[MODEL_ARGS] = {[1] = arg[1]};

    for (int i = 0; i < arg[0]; i++) {
        if (ask(w, s, next) != 0 || flush(w, s) != 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- sequences ------------------------------------------------------------------------------ */

static int carry_out_op(struct world *w, const struct model_op *op)
{
    struct side *s = &w->sides[op->run], *other = &w->sides[!op->run];
    struct mx_entry none = {.step = 0};
    struct mx_event freeze = {.kind = MX_EV_FREEZE, .handle = ++w->handle};

    if (s->run == NULL) {
        return 0;
    }
    switch ((enum model_op_kind)op->kind) {
    case OP_ASK: return ask(w, s, op->arg);
    case OP_POST: return post(w, s, op->arg);
    case OP_POST_ALL: return post_all(w, s, op->arg);
    case OP_SET: return set(w, s, op->arg);
    case OP_STOP: return command(w, s, MX_EV_STOP, &none);
    case OP_SKIP: return pass_over(w, s, op->arg);
    case OP_ADOPT: return adopt(w, s, op->arg);
    case OP_WITHDRAW: return withdraw(w, s, op->arg);
    case OP_FREEZE: return give(w, s, &freeze);
    case OP_THAW: return thaw(w, s);
    case OP_REWIND: return rewind_to(w, s, op->arg);
    case OP_FORK: return fork_at(w, s, other, op->arg);
    case OP_TIME: return pass(w, op->arg);
    case OP_WRITE: return write_some(w, s, op->arg);
    case OP_CRASH: return crash(w, s, op->arg);
    case OP_DRIVE: return drive(w, s, op->arg);
    case OP_LOOK: return look(w, s, op->arg);
    case MODEL_OPS_N: break;
    }
    return 0;
}

/* All becomes durable; nobody is left waiting without a reason; and then a last crash. */
static int finish(struct world *w, struct side *s)
{
    static const int last[MODEL_ARGS] = {0, 0};

    if (flush(w, s) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < s->n_held; i++) {
        CHECK(w, s->held[i].step >= model_barrier(s->m),
              "step %llu is held, and nothing is on its way", U(s->held[i].step));
    }
    w->out->counts[COUNT_BELOW_QUORUM] += s->m->s->below_quorum;
    w->out->counts[COUNT_LOCKSTEP] += w->c.lag > 0 ? s->m->s->consumed : 0;
    return crash(w, s, last);
}

void model_world_run(const struct model_sequence *seq, struct model_outcome *ret)
{
    struct world *w = test_get(1, sizeof *w);

    ret->failed = 0;
    w->cfg = seq->config;
    w->out = ret;
    w->now_ms = 1000;
    make_config(w);
    create(w, &w->sides[0]);
    for (ret->op = 0; ret->op < seq->n && !ret->failed; ret->op++) {
        (void)carry_out_op(w, &seq->ops[ret->op]);
        for (int i = 0; i < 2; i++) {
            if (w->sides[i].run != NULL && w->sides[i].m->overflow) {
                count(w, COUNT_OVERFLOWS);
                ret->failed = 0;
                goto out;
            }
        }
        if (ret->failed) {
            goto out;
        }
    }
    for (int i = 0; i < 2 && !ret->failed; i++) {
        if (w->sides[i].run != NULL) {
            (void)finish(w, &w->sides[i]);
        }
    }
out:
    close_side(&w->sides[0]);
    close_side(&w->sides[1]);
    free(w);
}
