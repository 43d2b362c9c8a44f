/* sim_people.c - who asks a simulated run for what: trainers, over a network that loses, repeats
 * and reorders, and an operator. See sim.h. */
#include "tests/core/sim.h"

/* ---- trainers and their network ------------------------------------------------------------- */

static struct message *new_message(struct sim *s, uint32_t rank)
{
    struct message *m = &s->net[s->net_n < NET_MAX ? s->net_n++ : below(&s->d, NET_MAX)];

    *m = (struct message){.rank = rank, .world = s->world};
    return m;
}

void sim_ask(struct sim *s)
{
    uint32_t rank = (uint32_t)below(&s->d, s->world);
    struct trainer *t = &s->trainers[rank];
    struct message *m = new_message(s, rank);

    m->is_request = 1;
    m->step = t->next;
    switch (below(&s->d, 14)) {
    case 0: m->step = below(&s->d, t->next + 1); break; /* once more */
    case 1: m->step = t->next + below(&s->d, 15); break; /* ahead, maybe too far */
    default: break;
    }
    m->step = m->step < STEPS_MAX ? m->step : STEPS_MAX - 1;
    m->oldest = t->to_post < m->step ? t->to_post : m->step;
}

static void fill_losses(struct sim *s, struct message *m)
{
    static const double odd[] = {NAN, INFINITY, -1.0, 1e300, 0.0, 1e6};

    for (uint32_t i = 0; i < s->c.plan.k; i++) {
        if (below(&s->d, 3) != 0) {
            double mean = 1 + 8 * unit(&s->d) * (i + 1) / K_MAX;

            m->losses[m->n++] = (struct mx_loss){i, 1, 10, 10 * mean};
            if (below(&s->d, 30) == 0) {
                m->losses[m->n - 1].loss_sum = odd[below(&s->d, sizeof odd / sizeof odd[0])];
            }
        }
    }
}

void sim_post(struct sim *s)
{
    uint32_t rank = (uint32_t)below(&s->d, s->world);
    struct trainer *t = &s->trainers[rank];
    int again = below(&s->d, 8) == 0;
    struct message *m;

    if (!again && t->to_post >= t->next) {
        return;
    }
    m = new_message(s, rank);
    m->step = again ? below(&s->d, t->to_post + 1) : t->to_post;
    fill_losses(s, m);
    sim_fill_report(s, m);
    switch (below(&s->d, 10)) {
    case 0: m->mix_version = below(&s->d, 8); break;
    case 1: break;
    default: m->mix_version = s->got[m->step]; break;
    }
    m->world += below(&s->d, 100) == 0;
    if (!again && below(&s->d, 12) != 0) { /* else it posts this one again */
        t->to_post++;
    }
    if (!again && below(&s->d, 60) == 0) {
        t->to_post = t->next; /* it forgets the rest: those steps run into their timeout */
    }
}

/* Any message that is on its way, whichever was sent first. */
void sim_deliver(struct sim *s)
{
    struct message m;
    size_t at;

    if (s->net_n == 0) {
        return;
    }
    at = below(&s->d, s->net_n);
    m = s->net[at];
    if (below(&s->d, 12) != 0) { /* else it will come once more */
        s->net[at] = s->net[--s->net_n];
    }
    if (below(&s->d, 20) == 0) {
        return; /* lost */
    }
    if (m.is_request) {
        struct mx_event ev = {.kind = MX_EV_REQUEST, .handle = m.rank + 1, .step = m.step,
                              .oldest = m.oldest, .rank = m.rank, .world = m.world,
                              .count = mx_plan_part_of(&s->c.plan, m.step).batch};

        sim_give(s, &ev);
    } else {
        struct mx_entry e = {.step = m.step, .rank = m.rank, .world = m.world, .n = m.n,
                             .losses = m.losses, .mix_version = m.mix_version, .flags = m.flags,
                             .n_evals = m.n_evals, .evals = m.evals, .n_rewards = m.n_rewards,
                             .rewards = m.rewards, .n_scores = m.n_scores, .scores = m.scores,
                             .n_gram = m.n_gram, .gram_domains = m.gram_domains, .gram = m.gram,
                             .lr = m.lr};
        struct mx_event ev = {.kind = MX_EV_FEEDBACK, .handle = 100, .entry = &e};

        sim_give(s, &ev);
    }
}

/* Another set of trainers goes on; in lockstep with the first step that lacks a report. */
void sim_trainers_start(struct sim *s, uint64_t step)
{
    for (uint32_t i = 0; i < RANKS_MAX; i++) {
        s->trainers[i] = (struct trainer){step, step};
    }
}

void sim_change_world(struct sim *s)
{
    uint64_t step = s->model.noted;

    for (uint32_t i = 0; i < s->world; i++) {
        step = s->trainers[i].to_post < step ? s->trainers[i].to_post : step;
    }
    for (uint64_t u = s->model.first_step; u < step && s->c.lag > 0; u++) {
        step = s->model.closed[u] || s->model.skipped[u] ? step : u;
    }
    s->world = 1 + (uint32_t)below(&s->d, RANKS_MAX);
    sim_trainers_start(s, step);
    s->counts[SIM_WORLDS]++;
}

/* ---- the operator --------------------------------------------------------------------------- */

static void command(struct sim *s, enum mx_event_kind kind, struct mx_entry *e)
{
    struct mx_event ev = {.kind = kind, .handle = 200, .entry = e};

    e->author = "me";
    e->author_len = 2;
    sim_give(s, &ev);
}

static void sets(struct sim *s, uint64_t frontier)
{
    double weights[K_MAX];
    struct mx_entry e = {.weights = weights};

    for (uint32_t i = 0; i < s->c.plan.k; i++) {
        weights[i] = below(&s->d, 3) == 0 ? 0.0 : 1e3 * unit(&s->d);
    }
    if (below(&s->d, 10) == 0) {
        weights[0] = -1.0;
    }
    if (below(&s->d, 2) == 0) {
        e.step = frontier + below(&s->d, 60);
    }
    command(s, MX_EV_SET, &e);
}

static void adopts(struct sim *s)
{
    uint32_t domain = (uint32_t)below(&s->d, s->c.plan.k);
    const struct mx_plan_domain *d = &mx_run_domains(s->run)[domain];
    uint64_t samples = d->n_stretches > 0 ? d->stretches[d->n_stretches - 1].samples : d->samples;
    struct mx_entry e = {.domain = domain, .samples = samples + below(&s->d, 150),
                         .chunk = 1 + (uint32_t)below(&s->d, 4), .shards = 3,
                         .flag = (uint32_t)below(&s->d, 2)};

    if (e.samples < SAMPLES_MOST) {
        command(s, MX_EV_ADOPT, &e);
    }
}

static void withdraws(struct sim *s)
{
    struct mx_range ranges[3];
    struct mx_entry e = {.domain = (uint32_t)below(&s->d, s->c.plan.k), .ranges = ranges};
    uint64_t at = below(&s->d, 60);

    e.n = 1 + (uint32_t)below(&s->d, 3);
    e.serial = s->withdrawals[e.domain] + 1;
    for (uint32_t i = 0; i < e.n; i++) {
        ranges[i] = (struct mx_range){at, 1 + below(&s->d, 15)};
        at += ranges[i].count + below(&s->d, 30);
    }
    command(s, MX_EV_WITHDRAW, &e);
}

static void freeze(struct sim *s, uint64_t frontier)
{
    struct mx_event ev = {.kind = MX_EV_FREEZE};

    if (s->applied == 0 || s->failed) {
        return;
    }
    s->rewinding = 1;
    s->rewind_to = s->model.first_step + below(&s->d, frontier - s->model.first_step + 1);
    if (s->snapshots_n > 0 && below(&s->d, 3) == 0) { /* where one was taken, if it's still there */
        uint64_t step = s->snapshots[below(&s->d, s->snapshots_n)].step;

        s->rewind_to = step >= s->model.first_step && step <= frontier ? step : s->rewind_to;
    }
    sim_give(s, &ev);
    s->frozen = 1;
}

void sim_thaw(struct sim *s)
{
    struct mx_event ev = {.kind = MX_EV_THAW};

    s->rewinding = s->frozen = 0;
    sim_give(s, &ev);
    sim_ask_held_again(s);
}

/* What the run goes on from at a step: whatever it is made of, it must be the same. */
uint64_t *sim_words_at(struct sim *s, uint64_t step, uint64_t *ret_shares, size_t *ret_n)
{
    uint64_t *words = unwound(&s->c, &s->disk, NULL, 0, step, ret_shares, ret_n);
    uint64_t at, applied, cursors[K_MAX];

    for (uint32_t i = 0; i < s->snapshots_n; i++) {
        const struct snapshot *from = &s->snapshots[i];
        uint64_t shares[2 * K_MAX], *others;
        size_t n;

        if (!from->durable || words == NULL) {
            continue;
        }
        others = unwound(&s->c, &s->disk, from->words, from->n, step, shares, &n);
        if (others != NULL) {
            assert_int_equal(n, *ret_n);
            assert_memory_equal(others, words, n * sizeof *words);
            assert_memory_equal(shares, ret_shares, sim_shares(s) * sizeof *shares);
            s->counts[SIM_UNWINDS_FROM_SNAPSHOT]++;
        }
        free(others);
    }
    if (words == NULL) {
        s->counts[SIM_REFUSED_UNWINDS]++;
        return NULL;
    }
    assert_int_equal(mx_run_saved_cursors(words, *ret_n, s->c.plan.k, &at, &applied, cursors), 0);
    if (s->applied == s->disk.n && step < s->model.noted) {
        assert_memory_equal(cursors, s->model.planned[step].cursors,
                            s->c.plan.k * sizeof *cursors);
    }
    return words;
}

/* The journal stands still: the REWIND is made, or given up. */
void sim_rewind(struct sim *s)
{
    uint64_t shares[2 * K_MAX];
    struct mx_entry e = {.step = s->rewind_to, .shares = shares};
    uint64_t *words;

    words = below(&s->d, 6) == 0 ? NULL : sim_words_at(s, s->rewind_to, shares, &e.n_words);
    if (words == NULL) {
        sim_thaw(s);
        return;
    }
    s->rewinding = 0;
    e.words = words;
    command(s, MX_EV_REWIND, &e);
    assert_int_equal(s->queue.n, 1); /* nothing is in its way */
    free(words);
    if (below(&s->d, 4) == 0) { /* too late: it isn't heard */
        struct mx_event ev = {.kind = MX_EV_THAW};

        sim_give(s, &ev);
    }
}

void sim_operate(struct sim *s)
{
    struct mx_entry e = {.step = 0};
    struct mx_run_view v;
    uint64_t what = below(&s->d, 100);

    mx_run_view(s->run, &v);
    if (v.stopped || v.exhausted || v.frontier >= s->c.end_step) {
        what = 70 + what * 3 / 10; /* most of what helps now */
    }
    if (what < 30) {
        sets(s, v.frontier);
    } else if (what < 45) {
        e.step = v.frontier - below(&s->d, v.frontier > 8 ? 8 : v.frontier + 1);
        e.to = e.step + below(&s->d, 8);
        command(s, MX_EV_SKIP, &e);
    } else if (what < 60) {
        adopts(s);
    } else if (what < 70) {
        withdraws(s);
    } else if (what < 95 && !s->frozen) {
        freeze(s, v.frontier);
    } else if (what < 97) {
        command(s, MX_EV_STOP, &e);
    }
}
