/* model_life.c - the model's beginning, its entries and its crashes. See model.h. */
#include "tests/core/model.h"

#include <stdlib.h>
#include <string.h>

static void *get(size_t bytes)
{
    void *p = calloc(1, bytes);

    if (p == NULL) {
        abort();
    }
    return p;
}

struct model *model_new(const struct mx_run_config *c)
{
    struct model *m = get(sizeof *m);

    m->c = c;
    m->s = get(sizeof *m->s);
    m->base = get(sizeof *m->base);
    m->set_from = MODEL_NEVER;
    m_state_begin(c, m->s);
    return m;
}

void model_free(struct model *m)
{
    if (m != NULL) {
        free(m->s);
        free(m->base);
        free(m->journal.at);
        free(m->line.at);
        free(m->flight.at);
        free(m);
    }
}

struct m_entry model_entry(const struct mx_entry *e, uint32_t k)
{
    struct m_entry r;

    memset(&r, 0, sizeof r); /* compared as bytes */
    r.kind = (uint32_t)e->kind;
    r.index = e->index;
    r.step = e->step;
    r.frontier = e->frontier;
    r.version = e->mix_version;
    r.cause = (uint32_t)e->cause;
    r.cause_step = e->cause_step;
    r.to = e->to;
    r.samples = e->samples;
    r.rank = e->rank;
    r.world = e->world;
    r.flags = e->flags;
    r.domain = e->domain;
    r.flag = e->flag;
    r.chunk = e->chunk;
    r.shards = e->shards;
    r.serial = e->serial;
    r.branch = e->branch;
    r.n = e->kind == MX_ENTRY_FEEDBACK || e->kind == MX_ENTRY_WITHDRAW ? e->n : 0;
    for (uint32_t i = 0; i < r.n && e->losses != NULL && i < MODEL_K; i++) {
        r.losses[i] = e->losses[i];
    }
    for (uint32_t i = 0; i < r.n && e->ranges != NULL && i < MODEL_RANGES; i++) {
        r.ranges[i] = e->ranges[i];
    }
    for (uint32_t i = 0; i < k; i++) {
        r.shares[i] = e->shares != NULL ? e->shares[i] : 0;
        r.weights[i] = e->kind == MX_ENTRY_SET ? e->weights[i] : 0.0;
    }
    return r;
}

/* All that awaits reports has its time anew. */
static void rearm(struct model *m)
{
    for (uint32_t i = 0; i < MODEL_STEPS; i++) {
        m->s->deadline[i] = m->c->feedback_timeout_ms == MODEL_NEVER
                                ? MODEL_NEVER
                                : m->now_ms + m->c->feedback_timeout_ms;
    }
}

static void apply_turn(struct model *m, const struct m_entry *e)
{
    struct m_state *then = get(sizeof *then), *old = m->s;
    struct m_list line = {0};
    struct m_expect x;

    m_refold(m, e->step, then, &line);
    then->duplicates = old->duplicates;
    then->late = old->late;
    m->s = then;
    m_fold(m, then, e, &x);
    m_push(m, &line, e);
    free(m->line.at);
    free(old);
    m->line = line;
    m->known_from = e->step;
    m->frozen = 0;
    rearm(m);
}

static void apply_one(struct model *m, const struct m_entry *e, struct m_expect *x)
{
    if (e->kind == MX_ENTRY_REWIND) {
        apply_turn(m, e);
    } else {
        m_fold(m, m->s, e, x);
        m_push(m, &m->line, e);
        m->known_from = e->kind == MX_ENTRY_FORK ? e->step : m->known_from;
    }
    m_push(m, &m->journal, e);
}

/* From which step on what was filled ahead is wrong after an entry. */
static uint64_t spoils(const struct m_entry *e)
{
    switch ((enum mx_entry_kind)e->kind) {
    case MX_ENTRY_MIX:
    case MX_ENTRY_SET:
    case MX_ENTRY_STOP:
    case MX_ENTRY_ADOPT:
    case MX_ENTRY_WITHDRAW:
    case MX_ENTRY_REWIND: return e->step;
    case MX_ENTRY_CREATE:
    case MX_ENTRY_RESERVE:
    case MX_ENTRY_FEEDBACK:
    case MX_ENTRY_CLOSE:
    case MX_ENTRY_EXHAUSTED:
    case MX_ENTRY_SKIP:
    case MX_ENTRY_FIT:
    case MX_ENTRY_SHADOW:
    case MX_ENTRY_FORK: break;
    }
    return MODEL_NEVER;
}

int model_apply(struct model *m, const struct m_entry *e, struct m_expect *x)
{
    struct m_entry same = *e;
    uint32_t at = 0;

    memset(x, 0, sizeof *x);
    x->drop = MODEL_NEVER;
    same.index = 0;
    while (at < m->flight.n && memcmp(&m->flight.at[at], &same, sizeof same) != 0) {
        at++;
    }
    if (at == m->flight.n) {
        return -1;
    }
    memmove(m->flight.at + at, m->flight.at + at + 1,
            (m->flight.n - at - 1) * sizeof *m->flight.at);
    m->flight.n--;
    if (e->kind == MX_ENTRY_SET && model_in_flight(m, MX_ENTRY_SET) == 0) {
        m->set_from = MODEL_NEVER;
    }
    apply_one(m, e, x);
    if (e->kind == MX_ENTRY_REWIND) {
        memset(m->trainers, 0, sizeof m->trainers);
        x->drop = e->step;
    } else if (spoils(e) < m->trial_end) {
        x->drop = e->step;
    }
    m->trial_end = m->trial_end < x->drop ? m->trial_end : x->drop;
    if (!m->frozen) {
        model_want_mix(m, x);
    }
    return 0;
}

int model_crash(struct model *m, const struct m_list *more, uint64_t snapshot, uint64_t step,
                struct m_expect *x)
{
    struct m_list journal = m->journal;
    struct m_state *old = m->s;
    uint64_t same = old->created ? old->frontier : 0, upto;
    int64_t stopped;
    int rc;

    m->journal = (struct m_list){0};
    m->line.n = m->flight.n = 0;
    m->set_from = MODEL_NEVER;
    m->frozen = m->waiting = 0;
    m->known_from = m->trial_end = m->quarantined = 0;
    m->world = 0;
    memset(m->trainers, 0, sizeof m->trainers);
    memset(x, 0, sizeof *x);
    x->drop = MODEL_NEVER;
    m->s = get(sizeof *m->s);
    m_state_begin(m->c, m->s);
    for (uint32_t i = 0; i < journal.n + more->n; i++) {
        const struct m_entry *e = i < journal.n ? &journal.at[i] : &more->at[i - journal.n];

        apply_one(m, e, x);
        if (i >= journal.n && e->kind == MX_ENTRY_REWIND && e->step < same) {
            same = e->step;
        }
        if (e->index == snapshot) {
            m->s->duplicates = m->s->late = 0;
            m->known_from = step;
        }
    }
    upto = m->s->reserved < model_limit(m) ? m->s->reserved : model_limit(m);
    upto = upto < model_barrier(m) ? upto : model_barrier(m);
    stopped = m_advance(m, m->s, upto);
    same = same < m->s->frontier ? same : m->s->frontier;
    rc = memcmp(old->steps, m->s->steps, same * sizeof *old->steps) == 0 ? 0 : -1;
    if (stopped >= 0) {
        model_want_exhausted(m, stopped, x);
    }
    rearm(m);
    model_want_mix(m, x);
    free(old);
    free(journal.at);
    return rc;
}

struct model *model_fork(struct model *m, uint64_t step, uint64_t version)
{
    struct model *f = model_new(m->c);
    struct m_list line = {0};
    struct m_entry e = {.kind = MX_ENTRY_FORK, .index = 1, .step = step, .version = version};
    struct m_expect x;

    m_refold(m, step, f->base, &line);
    memcpy(e.shares, m_mix_of(f->base, step)->shares, sizeof e.shares);
    f->base->n_turns = 0;
    f->base->first_step = step;
    f->base->duplicates = f->base->late = 0;
    e.kind = MX_ENTRY_REWIND; /* the same, in a run of its own */
    m_fold(f, f->base, &e, &x);
    m_close_open(f, f->base);
    f->s->frontier = f->s->reserved = f->s->first_step = step;
    f->known_from = step;
    free(line.at);
    return f;
}

/* ---- where the core is free ----------------------------------------------------------------- */

static const char *allows_reserve(const struct model *m, const struct m_entry *e)
{
    uint64_t most = model_limit(m) > m->s->reserved ? model_limit(m) : m->s->reserved;

    if (model_in_flight(m, MX_ENTRY_RESERVE) > 0) {
        return "a second RESERVE";
    }
    if (e->step < m->s->reserved || e->step > most) {
        return "a RESERVE of steps that are reserved or don't exist";
    }
    return NULL;
}

static const char *allows_spent(const struct model *m, const struct m_entry *e)
{
    const struct m_domain *d = &m->s->domains[e->domain];

    for (uint32_t i = 0; i < m->flight.n; i++) {
        if (m->flight.at[i].kind == MX_ENTRY_EXHAUSTED && !m->flight.at[i].flag) {
            return "a second note of a domain that is used up";
        }
    }
    if (d->spent == 1 || !m_domain_spent(m->c, e->domain, d)) {
        return "a note that a domain is used up which isn't, or is known to be";
    }
    return NULL;
}

static int close_in_flight(const struct model *m, uint64_t step)
{
    for (uint32_t i = 0; i < m->flight.n; i++) {
        if (m->flight.at[i].kind == MX_ENTRY_CLOSE && m->flight.at[i].step == step) {
            return 1;
        }
    }
    return 0;
}

const char *model_allows(struct model *m, const struct m_entry *e)
{
    const char *wrong = NULL;

    if (m->frozen) {
        wrong = "an entry of a frozen run";
    } else if (e->frontier > m->s->frontier) {
        wrong = "an entry from a frontier that isn't reached";
    } else if (e->kind == MX_ENTRY_RESERVE) {
        wrong = allows_reserve(m, e);
    } else if (e->kind == MX_ENTRY_EXHAUSTED && !e->flag) {
        wrong = allows_spent(m, e);
    } else if (e->kind != MX_ENTRY_CLOSE) {
        wrong = "an entry that there is no reason for";
    } else if (m->s->feedback[e->step] != M_OPEN || m->s->deadline[e->step] > m->now_ms ||
               close_in_flight(m, e->step)) {
        wrong = "a CLOSE of a step that isn't open, is in time or is being closed";
    }
    if (wrong == NULL) {
        struct m_entry same = *e;

        same.index = 0;
        model_flies(m, &same);
    }
    return wrong;
}

const char *model_misses(const struct model *m, uint64_t timer_ms)
{
    uint64_t next = MODEL_NEVER;
    int noted = 0;

    if (m->frozen || !m->s->created) {
        return NULL;
    }
    for (uint32_t i = 0; i < MODEL_STEPS; i++) {
        if (m->s->feedback[i] == M_OPEN && !close_in_flight(m, i) && m->s->deadline[i] < next) {
            next = m->s->deadline[i];
        }
    }
    if (next != MODEL_NEVER && next != timer_ms) {
        return "the timer isn't set to the first deadline";
    }
    for (uint32_t i = 0; i < m->flight.n; i++) {
        noted |= m->flight.at[i].kind == MX_ENTRY_EXHAUSTED && !m->flight.at[i].flag;
    }
    for (uint32_t i = 0; i < m->c->plan.k && !noted; i++) {
        if (!m->s->domains[i].spent && m_domain_spent(m->c, i, &m->s->domains[i])) {
            return "no note of a domain that is used up";
        }
    }
    return NULL;
}

int model_trial(const struct model *m, uint64_t step, struct m_step *ret)
{
    struct m_domain domains[MODEL_K];

    if (!m->s->created || step >= model_limit(m) || step >= model_barrier(m)) {
        return -1;
    }
    memcpy(domains, m->s->domains, sizeof domains);
    for (uint64_t at = m->s->frontier; at <= step; at++) {
        if (m_plan(m->c, m_mix_of(m->s, at), at, domains, ret) >= 0) {
            return -1;
        }
    }
    return 0;
}
