/* sim.c - plays a simulation: a virtual clock, trainers whose messages are lost, repeated and
 * reordered, a disk that is late or fails, an operator, and crashes at any moment. Does what the
 * effects say, as the daemon's shell does. See sim.h. */
#include "tests/core/sim.h"

/* ---- carrying out effects ------------------------------------------------------------------- */

static void hash_word(struct sim *s, uint64_t v)
{
    s->hash = (s->hash ^ v) * 0x100000001b3u;
    s->hash ^= s->hash >> 29;
}

static void hash_words(struct sim *s, const void *from, size_t bytes)
{
    for (size_t i = 0; from != NULL && i + 8 <= bytes; i += 8) {
        uint64_t word;

        memcpy(&word, (const char *)from + i, sizeof word);
        hash_word(s, word);
    }
}

/* Whatever a NAN's bits are. */
static void hash_doubles(struct sim *s, const double *from, size_t n)
{
    for (size_t i = 0; from != NULL && i < n; i++) {
        double v = isnan(from[i]) ? 0.0 : from[i];

        hash_words(s, &v, sizeof v);
        hash_word(s, (uint64_t)isnan(from[i]));
    }
}

static void hash_entry(struct sim *s, const struct mx_entry *e)
{
    uint32_t k = s->c.plan.k;
    size_t shadows = e->kind == MX_ENTRY_SHADOW ? (size_t)e->n * k : 0;
    const uint64_t numbers[] = {(uint64_t)e->kind, e->index, e->time_ms, e->step, e->frontier,
                                e->rank, e->world, e->mix_version, e->n, (uint64_t)e->cause,
                                e->cause_step, e->digest_from, e->to, e->domain, e->flag,
                                e->samples, e->chunk, e->shards, e->serial, e->branch, e->source,
                                e->flags, e->n_evals, e->n_rewards, e->n_scores, e->n_gram,
                                e->n_shares, e->n_terms, e->n_values};

    hash_words(s, numbers, sizeof numbers);
    for (uint32_t i = 0; e->losses != NULL && i < e->n; i++) {
        hash_word(s, e->losses[i].domain);
        hash_word(s, e->losses[i].tokens);
        hash_words(s, &e->losses[i].loss_sum, sizeof(double));
    }
    hash_words(s, e->shares, (shadows > 0 ? shadows : e->n_shares) * sizeof *e->shares);
    hash_doubles(s, e->weights, shadows > 0 ? shadows : k);
    hash_doubles(s, e->terms, (size_t)e->n_terms * k);
    hash_doubles(s, e->values, e->n_values);
    hash_words(s, e->digests, e->n * sizeof *e->digests);
    hash_words(s, e->ranges, e->n * sizeof *e->ranges);
    hash_words(s, e->words, e->n_words * sizeof *e->words);
}

static void hash_effect(struct sim *s, const struct mx_effect *f)
{
    const uint64_t numbers[] = {(uint64_t)f->kind, (uint64_t)f->verdict, f->handle, f->step,
                                f->at_ms, f->u[0], f->u[1], f->quarantined};

    hash_words(s, numbers, sizeof numbers);
    if (f->kind == MX_FX_APPEND) {
        hash_entry(s, &f->entry);
    }
}

static void on_mix(struct sim *s, const struct mx_entry *e, const struct mx_run_view *v)
{
    if (e->kind == MX_ENTRY_SET) {
        assert_true(e->step >= v->frontier + s->c.lead);
        s->counts[SIM_SETS]++;
        s->counts[SIM_FUTURE_SETS] += e->step > v->frontier + s->c.lead;
        return;
    }
    s->counts[SIM_MIXES]++;
    if (e->cause == MX_CAUSE_PHASE) {
        assert_true(e->step == v->next_point && e->step >= v->frontier);
        s->counts[SIM_POINTS]++;
        return;
    }
    assert_true(e->step < v->next_point);
    if (s->c.lag > 0) {
        assert_int_equal(e->step, e->cause_step + s->c.lag);
        assert_true(e->step >= v->frontier);
    } else {
        assert_true(e->step >= v->frontier + s->c.lead && e->step > e->cause_step);
    }
}

static uint64_t sum_of(const uint64_t *shares, uint32_t k)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < k; i++) {
        sum += shares[i];
    }
    return sum;
}

/* Only what is a number is taken down. */
static void on_report(struct sim *s, const struct mx_entry *e)
{
    for (uint32_t i = 0; i < e->n; i++) {
        assert_true(isfinite(e->losses[i].loss_sum) && e->losses[i].tokens > 0);
    }
    for (uint32_t i = 0; i < e->n_evals; i++) {
        assert_true(isfinite(e->evals[i].loss_sum) && e->evals[i].tokens > 0);
        assert_true(e->evals[i].member < s->eval_sets[e->evals[i].set]);
    }
    for (uint32_t i = 0; i < e->n_rewards; i++) {
        assert_true(isfinite(e->rewards[i].sum) && e->rewards[i].count > 0);
    }
    for (uint32_t i = 0; i < e->n_gram * (e->n_gram + 1) / 2; i++) {
        assert_true(isfinite(e->gram[i]));
    }
    for (uint32_t i = 0; i < e->n_scores; i++) {
        assert_true(isfinite(e->scores[i].score));
    }
    s->counts[SIM_EVALS] += e->n_evals;
    s->counts[SIM_REWARDS] += e->n_rewards;
    s->counts[SIM_GRADIENTS] += e->n_gram > 0;
    s->counts[SIM_SCORES] += e->n_scores;
}

/* Where a policy weighs the loss, what is sampled by stays as long as no one else changes it. */
static void on_shares(struct sim *s, const struct mx_entry *e)
{
    uint32_t k = s->c.plan.k;

    assert_int_equal(e->n_shares, sim_shares(s));
    assert_true(sum_of(e->shares, k) == MX_SHARE_ONE);
    if (e->n_shares == k) {
        return;
    }
    assert_true(sum_of(e->shares + k, k) == MX_SHARE_ONE);
    s->counts[SIM_LOSS_MIXES]++;
    if (e->kind == MX_ENTRY_MIX && !s->model.set && s->c.n_phases == 0 && s->disk.n > 0) {
        assert_memory_equal(e->shares, s->disk.entries[0].shares, k * sizeof *e->shares);
    }
}

static void on_shadow(struct sim *s, const struct mx_entry *e)
{
    uint32_t k = s->c.plan.k;

    assert_int_equal(e->n, s->c.n_mixers - 1);
    for (uint32_t i = 0; i < e->n; i++) {
        assert_true(sum_of(e->shares + (size_t)i * k, k) == MX_SHARE_ONE);
        assert_true(policy_world_sound(e->weights + (size_t)i * k, k));
    }
    s->counts[SIM_SHADOWS]++;
}

static void on_append(struct sim *s, const struct mx_effect *f)
{
    const struct mx_entry *e = &f->entry;
    uint64_t versions = s->model.versions;
    struct mx_run_view v;

    mx_run_view(s->run, &v);
    assert_true(!s->frozen || e->kind == MX_ENTRY_REWIND);
    assert_int_equal(e->frontier, v.frontier);
    for (size_t i = s->applied; i < s->disk.n + s->queue.n; i++) {
        const struct mx_entry *other = i < s->disk.n ? &s->disk.entries[i]
                                                     : &s->queue.entries[i - s->disk.n];

        /* These are under way one at a time. */
        assert_true(e->kind != other->kind || e->flag != other->flag ||
                    e->cause != other->cause ||
                    (e->kind != MX_ENTRY_MIX && e->kind != MX_ENTRY_RESERVE &&
                     e->kind != MX_ENTRY_EXHAUSTED && e->kind != MX_ENTRY_REWIND &&
                     e->kind != MX_ENTRY_SHADOW &&
                     (e->kind != MX_ENTRY_FIT || e->domain != other->domain)));
        versions = other->kind != MX_ENTRY_FEEDBACK && other->mix_version > versions
                       ? other->mix_version
                       : versions;
    }
    if (e->kind == MX_ENTRY_MIX || e->kind == MX_ENTRY_SET) {
        assert_true(s->failed || e->mix_version == versions + 1);
        on_mix(s, e, &v);
        on_shares(s, e);
    } else if (e->kind == MX_ENTRY_FEEDBACK) {
        on_report(s, e);
    } else if (e->kind == MX_ENTRY_SHADOW) {
        on_shadow(s, e);
    }
    s->counts[SIM_QUARANTINES] += f->quarantined;
    s->counts[SIM_CLOSES] += e->kind == MX_ENTRY_CLOSE;
    s->counts[SIM_STOPS] += e->kind == MX_ENTRY_STOP;
    s->counts[SIM_ENDS] += e->kind == MX_ENTRY_EXHAUSTED && e->flag;
    s->counts[SIM_NOTES] += e->kind == MX_ENTRY_EXHAUSTED && !e->flag;
    s->counts[SIM_ADOPTS] += e->kind == MX_ENTRY_ADOPT;
    s->counts[SIM_JOINS] += e->kind == MX_ENTRY_ADOPT && e->flag;
    s->counts[SIM_WITHDRAWALS] += e->kind == MX_ENTRY_WITHDRAW;
    s->counts[SIM_SKIPS] += e->kind == MX_ENTRY_SKIP;
    if (!s->failed) { /* else whoever waits for it is told that it wasn't taken */
        assert_int_equal(e->index, s->disk.n + s->queue.n + 1);
        journal_put(&s->queue, e, s->c.plan.k, f->handle);
    }
}

/* At an exact boundary, or where history turns; it is durable some time later. */
static void on_snapshot(struct sim *s, uint64_t step, int exact)
{
    struct snapshot *to = &s->snapshots[s->snapshots_n];
    struct mx_run_view v;

    mx_run_view(s->run, &v);
    assert_int_equal(v.frontier, step);
    assert_true(!exact || step % s->c.snapshot_steps == 0);
    if (s->snapshots_n == SNAPSHOTS_MAX) {
        to = &s->snapshots[below(&s->d, SNAPSHOTS_MAX)];
        free(to->words);
    } else {
        s->snapshots_n++;
    }
    to->step = step;
    to->words = saved(s->run, &to->n);
    to->durable = below(&s->d, 3) == 0;
    s->counts[SIM_SNAPSHOTS]++;
}

static void on_serve(struct sim *s, const struct mx_effect *f)
{
    struct trainer *t = &s->trainers[f->handle - 1];

    model_served(s, f->step);
    s->got[f->step] = s->model.planned[f->step].version;
    t->next += f->step == t->next && f->step + 1 < STEPS_MAX;
    s->counts[SIM_SERVES]++;
}

/* A trainer that is told where to go on does so. */
static void on_refusal(struct sim *s, const struct mx_effect *f)
{
    s->counts[SIM_REFUSALS]++;
    if (f->handle >= 1 && f->handle <= RANKS_MAX &&
        (f->verdict == MX_SKIPPED || f->verdict == MX_BEFORE_FORK || f->verdict == MX_LEAP) &&
        f->u[0] + 1 < STEPS_MAX) {
        s->trainers[f->handle - 1].next = f->u[0];
    }
}

static void hold(struct sim *s, const struct mx_event *asked)
{
    assert_non_null(asked);
    if (s->held_n < HELD_MAX) {
        s->held[s->held_n++] = *asked;
    }
    s->counts[SIM_HOLDS]++;
}

static void carry_out(struct sim *s, const struct mx_effects *fx, const struct mx_event *asked,
                      int exact)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        const struct mx_effect *f = &fx->fx[i];

        hash_effect(s, f);
        switch (f->kind) {
        case MX_FX_SERVE: on_serve(s, f); break;
        case MX_FX_HOLD: hold(s, asked); break;
        case MX_FX_AGAIN: s->counts[SIM_AGAINS]++; break;
        case MX_FX_REFUSE: on_refusal(s, f); break;
        case MX_FX_APPEND: on_append(s, f); break;
        case MX_FX_DROP:
            for (uint64_t step = f->step; step < STEPS_MAX; step++) {
                s->trial[step].here = 0;
            }
            s->counts[SIM_DROPS]++;
            break;
        case MX_FX_SNAPSHOT: on_snapshot(s, f->step, exact); break;
        case MX_FX_ARM: s->timer_ms = f->at_ms; break;
        case MX_FX_WORK: sim_on_work(s, f); break;
        }
    }
    model_look(s);
}

void sim_give(struct sim *s, struct mx_event *ev)
{
    struct mx_effects fx;
    int again;

    ev->now_ms = s->now_ms;
    ev->wall_ms = s->now_ms + 1000000;
    do {
        mx_run_event(s->run, ev, &fx);
        carry_out(s, &fx, ev, 1);
        again = 0;
        for (uint32_t i = 0; i < fx.n; i++) {
            again |= fx.fx[i].kind == MX_FX_AGAIN;
        }
    } while (again);
    if (ev->kind == MX_EV_REQUEST && !s->frozen && s->c.lag > 0) { /* else all might wait for it */
        assert_false(s->failed_work[0]);
    }
}

void sim_ask_held_again(struct sim *s)
{
    struct mx_event held[HELD_MAX];
    size_t n = s->held_n;

    memcpy(held, s->held, n * sizeof *held);
    s->held_n = 0;
    for (size_t i = 0; i < n; i++) {
        sim_give(s, &held[i]);
    }
}

/* ---- the disk ------------------------------------------------------------------------------- */

/* An entry that is in force now. */
static void take(struct sim *s, const struct mx_entry *e)
{
    s->applied++;
    model_apply(s, e);
    if (e->kind == MX_ENTRY_REWIND) {
        s->frozen = 0;
        memset(s->idle, 0, sizeof s->idle);
        memset(s->failed_work, 0, sizeof s->failed_work);
        s->counts[SIM_REWINDS]++;
        if (below(&s->d, 4) != 0) { /* else nobody tells the trainers */
            sim_trainers_start(s, e->step);
        }
    }
}

/* Entries become durable, and the loop hears of some. */
static void the_disk_writes(struct sim *s)
{
    for (size_t n = 1 + below(&s->d, 5); n > 0 && s->queue.n > 0; n--) {
        journal_put(&s->disk, &s->queue.entries[0], s->c.plan.k, 0);
        hash_entry(s, &s->queue.entries[0]);
        journal_shift(&s->queue);
    }
}

static void the_loop_hears(struct sim *s)
{
    for (size_t n = 1 + below(&s->d, 4); n > 0 && s->applied < s->disk.n; n--) {
        const struct mx_entry *e = &s->disk.entries[s->applied];
        struct mx_run_view v;
        struct mx_effects fx;
        uint64_t open_world = e->kind == MX_ENTRY_FEEDBACK && s->model.ranks[e->step] != 0
                                  ? s->model.worlds[e->step]
                                  : 0;

        s->counts[SIM_LATE_ENTRIES] += s->applied + 1 < s->disk.n;
        s->counts[SIM_REPLACED_REPORTS] += open_world != 0 && open_world != e->world;
        assert_int_equal(mx_run_apply(s->run, e, s->now_ms, &fx), MX_APPLIED);
        take(s, e);
        carry_out(s, &fx, NULL, e->kind != MX_ENTRY_REWIND && e->kind != MX_ENTRY_FORK);
        sim_ask_held_again(s);
        mx_run_view(s->run, &v);
        s->counts[SIM_BELOW_QUORUM] += v.below_quorum > 0;
    }
}

/* This write fails, and from now on each: who waits is told, and the process will end. */
static void the_disk_fails(struct sim *s)
{
    journal_cut(&s->queue, 0);
    s->failed = 1;
    s->counts[SIM_FAILURES]++;
}

static void a_snapshot_is_durable(struct sim *s)
{
    if (s->snapshots_n > 0) {
        s->snapshots[below(&s->d, s->snapshots_n)].durable = 1;
    }
}

/* ---- crashes -------------------------------------------------------------------------------- */

static void create(struct sim *s)
{
    struct mx_entry first;

    memset(s->memory, 0xa5, mx_run_size(&s->c)); /* init must not rely on zeroed memory */
    s->run = mx_run_init(s->memory, &s->c);
    if (s->origin.n > 0) {
        mx_run_fork_entry(s->run, 5, &s->origin.entries[0], &first);
    } else {
        mx_run_first_entry(s->run, 5, &first);
    }
    journal_put(&s->queue, &first, s->c.plan.k, 0);
}

/* All that a recovery may ask for on its way. */
static void take_snapshot(struct sim *s, const struct mx_effects *fx, int exact, int carry)
{
    assert_true(fx->n == 0 || (fx->n == 1 && fx->fx[0].kind == MX_FX_SNAPSHOT));
    if (fx->n > 0 && carry) {
        on_snapshot(s, fx->fx[0].step, exact);
    }
}

/* A run rebuilt from a snapshot's words (NULL: none) and the journal behind it. With `carry` it is
 * the simulation's, and what it asks for is carried out. */
static struct mx_run *rebuild(struct sim *s, void *memory, const uint64_t *words, size_t n,
                              int carry)
{
    struct mx_run *r = mx_run_init(memory, &s->c);
    struct mx_run_view v;
    struct mx_effects fx;

    if (words != NULL) {
        assert_int_equal(mx_run_load(r, words, n), 0);
    }
    s->run = carry ? r : s->run;
    mx_run_view(r, &v);
    for (size_t i = v.applied; i < s->disk.n; i++) {
        assert_int_equal(mx_run_apply(r, &s->disk.entries[i], s->now_ms, &fx), MX_APPLIED);
        take_snapshot(s, &fx, 0, carry);
    }
    while (mx_run_recovered(r, s->now_ms, s->now_ms, &fx)) {
        assert_int_equal(fx.n, 1);
        take_snapshot(s, &fx, 1, carry);
    }
    if (carry) {
        carry_out(s, &fx, NULL, 1);
    }
    return r;
}

static void lose_snapshots(struct sim *s, int all)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < s->snapshots_n; i++) {
        if (s->snapshots[i].durable && !all) {
            s->snapshots[kept++] = s->snapshots[i];
        } else {
            free(s->snapshots[i].words);
        }
    }
    s->snapshots_n = kept;
}

static void a_crash(struct sim *s)
{
    struct snapshot copy = {.words = NULL};

    /* The disk may have taken some of what was on its way without anybody hearing of it. */
    for (size_t i = s->failed ? 0 : below(&s->d, s->queue.n + 1); i > 0; i--) {
        journal_put(&s->disk, &s->queue.entries[0], s->c.plan.k, 0);
        journal_shift(&s->queue);
    }
    journal_cut(&s->queue, 0);
    s->held_n = 0;
    s->counts[SIM_CRASHED_WORKS] += s->works_n;
    sim_forget_works(s);
    s->failed = s->frozen = s->rewinding = 0;
    s->timer_ms = UINT64_MAX;
    memset(s->trial, 0, sizeof s->trial);
    s->counts[SIM_CRASHES]++;
    lose_snapshots(s, 0);
    if (s->disk.n == 0) {
        create(s);
        return;
    }
    while (s->applied < s->disk.n) {
        take(s, &s->disk.entries[s->applied]);
    }
    if (s->snapshots_n > 0 && below(&s->d, 3) != 0) {
        const struct snapshot *from = &s->snapshots[below(&s->d, s->snapshots_n)];

        copy.words = test_get(from->n, sizeof *copy.words);
        copy.n = from->n;
        memcpy(copy.words, from->words, from->n * sizeof *copy.words);
        s->counts[SIM_SNAPSHOT_LOADS]++;
    }
    memset(s->memory, 0xa5, mx_run_size(&s->c));
    (void)rebuild(s, s->memory, copy.words, copy.n, 1);
    free(copy.words);
    model_look_back(s);
}

/* The simulation goes on in a fork. */
static void a_fork(struct sim *s)
{
    uint64_t shares[2 * K_MAX];
    struct mx_entry e = {.shares = shares, .n_shares = sim_shares(s),
                         .mix_version = s->model.versions + 1, .source = 1};
    struct mx_run_view v;
    uint64_t *words;

    mx_run_view(s->run, &v);
    if (s->applied == 0 || s->applied < s->disk.n) {
        return;
    }
    e.step = v.first_step + below(&s->d, v.frontier - v.first_step + 1);
    words = sim_words_at(s, e.step, shares, &e.n_words);
    if (words == NULL) {
        return;
    }
    model_look_back(s);
    model_check_journal(s);
    e.words = words;
    journal_free(&s->origin);
    journal_put(&s->origin, &e, s->c.plan.k, 0);
    free(words);
    journal_free(&s->disk);
    journal_free(&s->queue);
    lose_snapshots(s, 1);
    {
        uint8_t gone[K_MAX][SAMPLES_MOST];

        memcpy(gone, s->model.gone, sizeof gone); /* stays so */
        model_clear(&s->model);
        memcpy(s->model.gone, gone, sizeof gone);
    }
    sim_forget_works(s);
    s->applied = s->held_n = s->net_n = 0;
    s->failed = s->frozen = s->rewinding = 0;
    s->timer_ms = UINT64_MAX;
    memset(s->trial, 0, sizeof s->trial);
    create(s);
    sim_trainers_start(s, e.step);
    s->counts[SIM_FORKS]++;
}

/* ---- play ----------------------------------------------------------------------------------- */

static void look_ahead(struct sim *s)
{
    struct mx_run_view v;
    struct mx_step at;
    uint64_t step;

    mx_run_view(s->run, &v);
    step = v.frontier + below(&s->d, 20);
    if (step >= STEPS_MAX || mx_run_step(s->run, step, 1, &at) != MX_STEP_HERE) {
        return;
    }
    assert_false(s->frozen);
    assert_true(at.mix_version <= s->model.versions);
    for (size_t i = s->applied; i < s->disk.n + s->queue.n; i++) {
        const struct mx_entry *e = i < s->disk.n ? &s->disk.entries[i]
                                                 : &s->queue.entries[i - s->disk.n];

        /* Not under a mix that may yet change. */
        assert_true((e->kind != MX_ENTRY_MIX && e->kind != MX_ENTRY_SET) || e->step > step ||
                    s->failed);
    }
    if (s->trial[step].here) {
        assert_int_equal(s->trial[step].version, at.mix_version);
        assert_true(s->trial[step].hash == model_hash(s, s->run, &at));
    }
    s->trial[step].here = 1;
    s->trial[step].version = at.mix_version;
    s->trial[step].hash = model_hash(s, s->run, &at);
    s->counts[SIM_TRIALS]++;
    model_look(s);
}

static void time_passes(struct sim *s)
{
    s->now_ms += below(&s->d, 1200);
    if (s->now_ms >= s->timer_ms) {
        struct mx_event ev = {.kind = MX_EV_TIMER};

        s->timer_ms = UINT64_MAX;
        sim_give(s, &ev);
    }
}

static void something_happens(struct sim *s)
{
    uint64_t what = below(&s->d, 1000);

    if (s->rewinding && s->queue.n == 0 && s->applied == s->disk.n && !s->failed) {
        sim_rewind(s);
    } else if (s->failed && below(&s->d, 20) == 0) {
        a_crash(s);
    } else if (s->works_n > 0 && below(&s->d, 12) == 0) {
        sim_work(s);
    } else if (what < 200) {
        sim_ask(s);
    } else if (what < 380) {
        sim_post(s);
    } else if (what < 680) {
        sim_deliver(s);
    } else if (what < 800) {
        the_disk_writes(s);
    } else if (what < 900) {
        the_loop_hears(s);
    } else if (what < 930) {
        look_ahead(s);
    } else if (what < 965) {
        time_passes(s);
    } else if (what < 985) {
        sim_operate(s);
    } else if (what < 990) {
        a_snapshot_is_durable(s);
    } else if (what < 992) {
        sim_change_world(s);
    } else if (what < 993) {
        the_disk_fails(s);
    } else if (what < 997) {
        a_crash(s);
    } else if (what < 998 && below(&s->d, 2) == 0) {
        a_fork(s);
    }
}

/* The whole journal; each snapshot and the rest; the live state and the rest: the same run. */
static void check_rebuilds(struct sim *s)
{
    void *memory = test_get(1, mx_run_size(&s->c));
    size_t n, m, live_n;
    uint64_t *live = saved(s->run, &live_n);
    uint64_t *words = saved(rebuild(s, memory, NULL, 0, 0), &n);

    for (uint32_t i = 0; i <= s->snapshots_n; i++) {
        const struct snapshot *from = &s->snapshots[i];
        uint64_t *others = saved(i < s->snapshots_n ? rebuild(s, memory, from->words, from->n, 0)
                                                    : rebuild(s, memory, live, live_n, 0),
                                 &m);

        assert_int_equal(n, m);
        assert_memory_equal(words, others, n * sizeof *words);
        free(others);
    }
    hash_words(s, words, n * sizeof *words);
    free(words);
    free(live);
    free(memory);
}

void sim_play(struct sim *s, uint64_t seed, int events)
{
    make_world(s, seed);
    create(s);
    for (int i = 0; i < events; i++) {
        something_happens(s);
        if (s->held_n > 0 && !s->frozen && !s->failed) { /* whoever waits, waits for something */
            assert_true(model_waits(s));
            s->counts[SIM_LOCKSTEP_WAITS] += s->queue.n == 0 && s->applied == s->disk.n;
        }
    }
    if (s->failed) {
        a_crash(s);
    }
    while (s->queue.n > 0 || s->applied < s->disk.n || s->frozen) {
        the_disk_writes(s);
        the_loop_hears(s);
        if (s->frozen && s->queue.n == 0 && s->applied == s->disk.n) {
            sim_thaw(s);
        }
    }
    assert_true(s->held_n == 0 || model_waits(s)); /* nobody is left waiting for nothing */
    sim_end_policies(s);
    model_look_back(s);
    model_check_journal(s);
    check_rebuilds(s);
}

void sim_free(struct sim *s)
{
    journal_free(&s->disk);
    journal_free(&s->queue);
    journal_free(&s->origin);
    lose_snapshots(s, 1);
    sim_free_policies(s);
    model_clear(&s->model);
    free(s->memory);
}
