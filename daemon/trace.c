/* trace.c - see trace.h. Knows nothing of documents or of who asks. */
#include "daemon/trace.h"

#include <inttypes.h>
#include <string.h>

/* Steps whose mixes are read at once. */
#define MIXES_READ 256u
/* Steps to come between two whose cursors are kept. */
#define MARK_STEPS 256u
/* How much is done to look at steps to come, some 10 ms: the unit is to count a domain's samples in
 * a step. Where some are withdrawn, or samples are drawn in a row, so many units for such a domain
 * and for each sample drawn. */
#define AHEAD_WORK (1u << 22)
#define GONE_DOMAIN 64u
#define GONE_SAMPLE 32u

/* Steps under mixes that are known, one after the other. */
struct walk {
    const struct mx_plan_spec *plan;
    const struct mx_plan_mix *mixes;
    uint32_t n, mix;
    uint64_t step;     /* the one that counts and cursors are of, once walked */
    uint64_t *before;  /* k: cursors before it */
    uint64_t *after;   /* k */
    uint32_t *counts;  /* k */
};

static int walk_memory(struct walk *w, uint32_t k, struct mx_err *err)
{
    w->before = malloc(k * sizeof *w->before);
    w->after = malloc(k * sizeof *w->after);
    w->counts = malloc(k * sizeof *w->counts);
    if (w->before == NULL || w->after == NULL || w->counts == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory to look for a sample");
    }
    return 0;
}

static void walk_clear(struct walk *w)
{
    free(w->before);
    free(w->after);
    free(w->counts);
}

/* Plans step `step`, the one after those walked; false if it can't be. */
static bool walk_one(struct walk *w, uint64_t step)
{
    while (w->mix + 1 < w->n && w->mixes[w->mix + 1].from_step <= step) {
        w->mix++;
    }
    memcpy(w->before, w->after, w->plan->k * sizeof *w->before);
    if (mx_plan_counts(w->plan, w->mixes[w->mix].shares, step, w->before, w->counts) >= 0) {
        return false;
    }
    mx_plan_move(w->plan, step, w->counts, w->after);
    w->step = step;
    return true;
}

/* How many times it is drawn from the places [from, to). */
static uint32_t drawn(const struct mx_series *s, uint64_t from, uint64_t to)
{
    struct mx_series_cache cache = {.valid = 0};
    uint64_t sample[MX_SERIES_RUN], epoch;
    uint32_t n = 0;

    if (s->d->n_gone == 0 && s->length == 1) {
        return (uint32_t)(to - from);
    }
    while (from < to) {
        uint32_t m = mx_series_run(s, &from, to - from < MX_SERIES_RUN ? (uint32_t)(to - from)
                                                                      : MX_SERIES_RUN,
                                   sample, &epoch, &cache);

        for (uint32_t i = 0; i < m && from < to; i++, from += s->length) {
            n += !mx_series_gone(s, from, sample[i]);
        }
    }
    return n;
}

/* The slot of the step that was walked in which place c of the domain lies; false if it is one of
 * those behind its last draw that are passed over, where another length begins. */
static bool slot_of(const struct walk *w, const struct mx_series *s, uint64_t c, uint32_t *prefix,
                    uint32_t *ret)
{
    uint32_t j = drawn(s, w->before[s->domain], c);

    if (j >= w->counts[s->domain]) {
        return false;
    }
    prefix[0] = 0;
    for (uint32_t i = 0; i < w->plan->k; i++) {
        prefix[i + 1] = prefix[i] + w->counts[i];
    }
    *ret = mx_plan_slot(w->plan, w->step, prefix, s->domain, j);
    return true;
}

/* ---- steps that are planned ---- */

/* The latest snapshot at which the domain's cursor isn't past c: its step, and the cursors there. What
 * a probe has found is kept: more snapshots become durable meanwhile, and asked again for the same
 * step the catalog may answer with a later one. */
static int find_snapshot(const struct mx_traced *t, uint32_t domain, uint64_t c, uint64_t *cursors,
                         uint64_t *ret, struct mx_err *err)
{
    uint64_t low = t->ground->first_step, high = t->frontier > low ? t->frontier - 1 : low, from;
    uint32_t k = t->ground->plan.k;
    uint64_t *probed = malloc(k * sizeof *probed);
    int rc = probed == NULL ? mx_fail(err, MX_ENOMEM, "no memory to look for a sample")
                            : mx_replay_start(t->catalog, t->run, t->name, t->ground, low, ret,
                                              NULL, cursors, err);

    while (rc == 0 && low < high) {
        uint64_t mid = low + (high - low + 1) / 2;

        rc = mx_replay_start(t->catalog, t->run, t->name, t->ground, mid, &from, NULL, probed, err);
        if (rc == 0 && probed[domain] <= c) {
            low = mid;
            *ret = from;
            memcpy(cursors, probed, k * sizeof *cursors);
        } else if (rc == 0) {
            high = from - 1; /* from > first_step: there the cursor isn't past any place looked for */
        }
    }
    free(probed);
    return rc;
}

/* The step and slot in which place c of the domain lies, which is before the frontier's cursor; or
 * *ret_drawn is false. */
static int locate(const struct mx_traced *t, const struct mx_series *s, uint64_t c,
                  struct walk *w, uint32_t *prefix, struct mx_occurrence *ret, bool *ret_drawn,
                  struct mx_err *err)
{
    uint64_t from = 0;
    int rc = find_snapshot(t, s->domain, c, w->after, &from, err);

    w->plan = &t->ground->plan;
    while (rc == 0 && w->after[s->domain] <= c) {
        struct mx_replay_mixes m;
        uint64_t upto = from + MIXES_READ;

        rc = mx_replay_mixes(t->catalog, t->run, t->name, t->ground, from, upto - 1, &m, err);
        if (rc < 0) {
            return rc;
        }
        w->mixes = m.plan;
        w->n = m.n;
        w->mix = 0;
        while (rc == 0 && from < upto && w->after[s->domain] <= c) {
            if (from >= t->frontier || !walk_one(w, from++)) {
                rc = mx_fail(err, MX_EDAMAGED, "run %s: step %" PRIu64 " was planned but can't be "
                             "again", t->name, from);
            }
        }
        mx_replay_mixes_clear(&m);
    }
    if (rc == 0) {
        ret->step = w->step;
        *ret_drawn = slot_of(w, s, c, prefix, &ret->slot);
        ret->planned = true;
    }
    return rc;
}

/* The domain's cursor before a planned step. */
static int cursor_at(const struct mx_traced *t, uint32_t domain, uint64_t step, uint64_t *ret,
                     struct mx_err *err)
{
    struct mx_replayed r = {.step = 0};
    int rc;

    if (step >= t->frontier) {
        *ret = t->cursors[domain];
        return 0;
    }
    rc = mx_replay_step(t->catalog, t->run, t->name, t->ground, step, &r, err);
    *ret = rc == 0 ? r.cursors[domain] : 0;
    mx_replayed_clear(&r);
    return rc;
}

/* ---- steps to come ---- */

struct looking {
    struct mx_traced *t;
    struct mx_series series; /* of the part that is looked through */
    uint64_t sample;
    struct mx_occurrence *ret;
    uint32_t n, cap;
    bool more;
    struct walk walk;
    uint32_t *prefix; /* k + 1 */
};

/* How many steps to come are looked at. */
static uint64_t steps_ahead(const struct mx_plan_spec *plan)
{
    uint64_t cost = plan->k, n;
    bool in_rows = mx_plan_longest(plan) > 1, gone = in_rows;

    for (uint32_t i = 0; i < plan->k; i++) {
        cost += in_rows || plan->domains[i].n_gone > 0 ? GONE_DOMAIN : 0;
        gone |= plan->domains[i].n_gone > 0;
    }
    cost += gone ? (uint64_t)mx_plan_batch_most(plan) * GONE_SAMPLE : 0;
    n = AHEAD_WORK / cost;
    return n < MARK_STEPS ? MARK_STEPS : n < MX_TRACE_AHEAD ? n : MX_TRACE_AHEAD;
}

void mx_trace_clear(struct mx_traced *t)
{
    mx_replay_mixes_clear(&t->mixes);
    free(t->marks);
    t->marks = NULL;
    t->n_marks = 0;
}

/* The mixes known for steps to come, and the cursors that they begin with. */
static int begin_ahead(struct mx_traced *t, struct mx_err *err)
{
    uint32_t k = t->ground->plan.k;
    uint64_t ahead = steps_ahead(&t->ground->plan);
    int rc;

    if (t->marks != NULL) {
        return 0;
    }
    rc = mx_replay_mixes(t->catalog, t->run, t->name, t->ground, t->frontier,
                         t->frontier + ahead - 1, &t->mixes, err);
    if (rc < 0) {
        return rc;
    }
    t->marks = malloc((ahead / MARK_STEPS + 1) * k * sizeof *t->marks);
    if (t->marks == NULL) {
        mx_trace_clear(t);
        return mx_fail(err, MX_ENOMEM, "no memory to look for a sample");
    }
    memcpy(t->marks, t->cursors, k * sizeof *t->marks);
    t->n_marks = 1;
    return 0;
}

/* Goes to the last mark that isn't past place c of the domain nor step `to`, if the walk isn't
 * nearer. `*step` is the next one to be walked. */
static void near_mark(struct looking *x, uint64_t c, uint64_t to, uint64_t *step)
{
    const struct mx_traced *t = x->t;
    uint32_t k = x->walk.plan->k, low = 0, n = t->n_marks;

    if ((to - t->frontier) / MARK_STEPS + 1 < n) {
        n = (uint32_t)((to - t->frontier) / MARK_STEPS + 1);
    }
    while (n > 1) {
        uint32_t half = n / 2;

        low += t->marks[(size_t)(low + half) * k + x->series.domain] <= c ? half : 0;
        n -= half;
    }
    if (*step < t->frontier + (uint64_t)low * MARK_STEPS) {
        *step = t->frontier + (uint64_t)low * MARK_STEPS;
        memcpy(x->walk.after, t->marks + (size_t)low * k, k * sizeof *x->walk.after);
    }
}

/* Walks until place c is passed, or up to `to`. False if a step on the way can't be planned. */
static bool walk_ahead(struct looking *x, uint64_t c, uint64_t to, uint64_t *step)
{
    struct mx_traced *t = x->t;
    struct walk *w = &x->walk;
    uint32_t k = w->plan->k;

    if (w->after[x->series.domain] <= c) {
        near_mark(x, c, to, step);
    }
    while (*step < to && w->after[x->series.domain] <= c) {
        if (!walk_one(w, *step)) {
            return false;
        }
        ++*step;
        if (*step == t->frontier + (uint64_t)t->n_marks * MARK_STEPS) {
            memcpy(t->marks + (size_t)t->n_marks * k, w->after, k * sizeof *t->marks);
            t->n_marks++;
        }
    }
    return true;
}

/* Under the mixes that are known, in steps up to `to` of one part of the run, maybe the `last` that
 * is looked at. False if no more is to be. */
static bool look_in_part(struct looking *x, uint64_t from, uint64_t to, bool last, uint64_t *step)
{
    struct walk *w = &x->walk;
    uint64_t c = w->after[x->series.domain], epoch;
    uint32_t slot;

    x->series = mx_plan_series(w->plan, *step, x->series.domain);
    for (;; c++) {
        if (!mx_series_find(&x->series, x->sample, &c, MX_STEP_MAX * MX_STEP_UNITS_MAX, &epoch)) {
            c = UINT64_MAX; /* nowhere */
        }
        if ((last && c == UINT64_MAX) || !walk_ahead(x, c, to, step)) {
            return false;
        }
        if (w->after[x->series.domain] <= c || !slot_of(w, &x->series, c, x->prefix, &slot)) {
            return true;
        }
        if (w->step >= from && x->n == x->cap) {
            x->more = true;
            return false;
        }
        if (w->step >= from) {
            x->ret[x->n++] = (struct mx_occurrence){w->step, epoch, slot, false};
        }
    }
}

/* Steps to come, as far as it is looked. */
static int look_ahead(struct looking *x, uint64_t from, uint64_t to, struct mx_err *err)
{
    struct mx_traced *t = x->t;
    struct walk *w = &x->walk;
    uint64_t step = t->frontier;
    bool on = true;
    int rc = begin_ahead(t, err);

    if (rc < 0) {
        return rc;
    }
    w->plan = &t->ground->plan;
    w->mixes = t->mixes.plan;
    w->n = t->mixes.n;
    w->mix = 0;
    memcpy(w->after, t->cursors, w->plan->k * sizeof *w->after);
    while (on && step < to) {
        uint64_t end = mx_plan_part_end(w->plan, step);

        on = look_in_part(x, from, end < to ? end : to, end >= to, &step);
    }
    return 0;
}

/* Planned steps of one part, [from, to). */
static int look_back(struct looking *x, uint64_t from, uint64_t to, struct mx_err *err)
{
    struct mx_traced *t = x->t;
    uint32_t domain = x->series.domain;
    uint64_t c = 0, end = 0;
    bool there = true;
    int rc = cursor_at(t, domain, from, &c, err);

    rc = rc == 0 ? cursor_at(t, domain, to, &end, err) : rc;
    x->series = mx_plan_series(&t->ground->plan, from, domain);
    for (; rc == 0; c++) {
        struct mx_occurrence o = {.step = 0};

        if (c >= end || !mx_series_find(&x->series, x->sample, &c, end, &o.epoch)) {
            break;
        }
        rc = locate(t, &x->series, c, &x->walk, x->prefix, &o, &there, err);
        if (rc < 0 || !there) {
            break;
        }
        if (x->n == x->cap) {
            x->more = true;
            break;
        }
        x->ret[x->n++] = o;
    }
    return rc;
}

int mx_trace_sample(struct mx_traced *t, uint32_t domain, uint64_t sample, uint64_t from,
                    uint64_t to, struct mx_occurrence *ret, uint32_t cap, uint32_t *ret_n,
                    bool *ret_more, uint64_t *ret_horizon, struct mx_err *err)
{
    const struct mx_plan_spec *plan = &t->ground->plan;
    struct looking x = {.t = t, .series = mx_plan_series(plan, from, domain), .sample = sample,
                        .ret = ret, .cap = cap,
                        .prefix = malloc((plan->k + 1) * sizeof *x.prefix)};
    uint64_t ahead = t->frontier + steps_ahead(plan), end;
    int rc = x.prefix == NULL ? mx_fail(err, MX_ENOMEM, "no memory to look for a sample")
                              : walk_memory(&x.walk, plan->k, err);

    from = from > t->ground->first_step ? from : t->ground->first_step;
    to = to < ahead ? to : ahead;
    to = to < t->end_step ? to : t->end_step;
    for (uint64_t step = from; rc == 0 && step < to && step < t->frontier && !x.more; step = end) {
        end = mx_plan_part_end(plan, step);
        end = end < to ? end : to;
        rc = look_back(&x, step, end < t->frontier ? end : t->frontier, err);
    }
    if (rc == 0 && to > t->frontier && !x.more) {
        rc = look_ahead(&x, from, to, err);
    }
    walk_clear(&x.walk);
    free(x.prefix);
    *ret_n = x.n;
    *ret_more = x.more;
    *ret_horizon = to;
    return rc;
}
