/* model_world.c - a run, its journal, its trainers and its disk, and the model beside it. See
 * model_world.h.
 *
 * Each call of the core is told to the model first, which says what must come of it: the answer,
 * the entries, the numbers to be seen afterwards. Nothing here asserts: the first difference is
 * written down, and what follows is left out. */
#include "tests/core/model_drive.h"

#include <math.h>

int flunk(struct world *w, const char *format, ...)
{
    va_list args;

    if (!w->out->failed) {
        va_start(args, format);
        (void)vsnprintf(w->out->why, sizeof w->out->why, format, args);
        va_end(args);
        w->out->failed = 1;
    }
    return -1;
}

void count(struct world *w, int what)
{
    w->out->counts[what]++;
}

/* ---- what is seen --------------------------------------------------------------------------- */

/* What lies in slots [first, first + n) of a step that was planned, by the domains of today. */
static int check_slots(struct world *w, const struct side *s, uint64_t step,
                       const struct m_step *want, uint32_t first, uint32_t n)
{
    struct mx_plan_spec spec = w->c.plan;
    struct mx_plan_item items[MODEL_BATCH];

    spec.domains = mx_run_domains(s->run);
    mx_plan_items(&spec, step, want->cursors, want->prefix, first, n, items);
    for (uint32_t i = 0; i < n; i++) {
        const struct m_item *at = &want->slots[first + i];

        CHECK(w,
              items[i].domain == at->domain && items[i].sample == at->sample &&
                  items[i].epoch == at->epoch,
              "step %llu, slot %u: domain %u, sample %llu, epoch %u; it must be %u, %llu, %u",
              U(step), first + i, items[i].domain, U(items[i].sample), items[i].epoch, at->domain,
              U(at->sample), at->epoch);
    }
    return 0;
}

int check_step(struct world *w, const struct side *s, uint64_t step, const struct mx_step *got,
               const struct m_step *want)
{
    CHECK(w, got->step == step && got->mix_version == want->version,
          "step %llu is planned under mix %llu, not %llu", U(step), U(got->mix_version),
          U(want->version));
    for (uint32_t i = 0; i < w->c.plan.k; i++) {
        CHECK(w, got->cursors[i] == want->cursors[i], "step %llu, domain %u: cursor %llu, not %llu",
              U(step), i, U(got->cursors[i]), U(want->cursors[i]));
        CHECK(w, got->prefix[i + 1] == want->prefix[i + 1],
              "step %llu, domain %u: its slots end at %u, not %u", U(step), i, got->prefix[i + 1],
              want->prefix[i + 1]);
    }
    w->out->counts[COUNT_LATER] += m_part(&w->c, step).from_step > 0;
    w->out->counts[COUNT_LONGER] += m_part(&w->c, step).length != m_part(&w->c, 0).length;
    return check_slots(w, s, step, want, 0, m_part(&w->c, step).batch);
}

static int check_served(struct world *w, struct side *s, const struct mx_event *ev)
{
    const struct m_step *want = &s->m->s->steps[ev->step];
    int old = ev->step < s->m->known_from;
    struct mx_step at;
    enum mx_step_found found = mx_run_step(s->run, ev->step, 0, &at);

    CHECK(w, found == (old ? MX_STEP_OLD : MX_STEP_HERE), "step %llu is served: found %d",
          U(ev->step), (int)found);
    count(w, COUNT_SERVED);
    w->out->counts[COUNT_OLD] += (uint64_t)old;
    if (!old && check_step(w, s, ev->step, &at, want) != 0) {
        return -1;
    }
    return check_slots(w, s, ev->step, want, ev->first, ev->count);
}

#define SAME(field) \
    CHECK(w, v.field == m->field, #field " is %llu, not %llu", U(v.field), U(m->field))

static int check_mixes(struct world *w, const struct side *s, const struct mx_run_view *v)
{
    const struct m_mix *mix = m_mix_of(s->m->s, s->m->s->frontier);
    const struct m_mix *next = mix + 1 < s->m->s->mixes + s->m->s->n_mixes ? mix + 1 : NULL;

    CHECK(w, v->mix_version == mix->version && v->mix_step == mix->from,
          "mix %llu from %llu is in force, not %llu from %llu", U(v->mix_version), U(v->mix_step),
          U(mix->version), U(mix->from));
    CHECK(w, memcmp(v->shares, mix->shares, w->c.plan.k * sizeof *mix->shares) == 0,
          "the shares of mix %llu are others", U(mix->version));
    CHECK(w,
          v->next_version == (next != NULL ? next->version : 0) &&
              v->next_step == (next != NULL ? next->from : 0),
          "the next mix is %llu from %llu, not %llu", U(v->next_version), U(v->next_step),
          U(next != NULL ? next->version : 0));
    return 0;
}

static int check_policy(struct world *w, const struct side *s, const struct mx_run_view *v)
{
    const struct m_state *m = s->m->s;

    for (uint32_t i = 0; i < w->c.plan.k; i++) {
        double off = fabs(v->weights[i] - m->weights[i]);

        CHECK(w, off == 0.0 || (!w->mixer.policy.ops->adapts && off < 1e-12),
              "domain %u: the policy's weight is %.17g, not %.17g", i, v->weights[i],
              m->weights[i]);
        CHECK(w,
              memcmp(&v->loss[i], &m->loss[i], sizeof m->loss[i]) == 0 ||
                  (isnan(v->loss[i]) && isnan(m->loss[i])),
              "domain %u: its loss is %.17g, not %.17g", i, v->loss[i], m->loss[i]);
        CHECK(w, v->loss_step[i] == m->loss_step[i], "domain %u: its loss is of step %llu", i,
              U(v->loss_step[i]));
        CHECK(w, v->cursors[i] == m->domains[i].cursor, "domain %u: cursor %llu, not %llu", i,
              U(v->cursors[i]), U(m->domains[i].cursor));
        CHECK(w, mx_run_drawn(s->run, i) == m->domains[i].cursor - m->domains[i].passed,
              "domain %u: drawn %llu, not %llu", i, U(mx_run_drawn(s->run, i)),
              U(m->domains[i].cursor - m->domains[i].passed));
        CHECK(w, mx_run_withdrawn(s->run, i) == m->domains[i].serial,
              "domain %u: withdrawal %u is the last", i, mx_run_withdrawn(s->run, i));
    }
    return 0;
}

static int check_history(struct world *w, const struct side *s)
{
    const struct m_state *m = s->m->s;
    uint32_t n;
    const struct mx_turn *turns = mx_run_turns(s->run, &n);

    CHECK(w, n == m->n_turns, "%u turns, not %u", n, m->n_turns);
    for (uint32_t i = 0; i < n; i++) {
        CHECK(w,
              turns[i].step == m->turns[i].step && turns[i].version == m->turns[i].version &&
                  turns[i].index == m->turns[i].index,
              "turn %u is at step %llu, version %llu, entry %llu", i, U(turns[i].step),
              U(turns[i].version), U(turns[i].index));
    }
    for (uint64_t step = m->frontier < 8 ? 0 : m->frontier - 8; step < m->frontier + 4; step++) {
        uint64_t next = 0;
        int skipped = mx_run_skipped(s->run, step, &next);

        CHECK(w,
              step >= MODEL_STEPS ||
                  (skipped == m->skipped[step] && (!skipped || next == model_not_skipped(m, step))),
              "step %llu: passed over %d, until %llu", U(step), skipped, U(next));
    }
    return 0;
}

static int check_view(struct world *w, struct side *s)
{
    const struct m_state *m = s->m->s;
    struct mx_run_view v;
    uint32_t open = 0;

    mx_run_view(s->run, &v);
    SAME(frontier);
    SAME(reserved);
    SAME(first_step);
    SAME(versions);
    SAME(consumed);
    SAME(branch);
    SAME(steps_closed);
    SAME(last_closed);
    SAME(last_delay);
    SAME(accepted);
    SAME(timeouts);
    SAME(below_quorum);
    SAME(duplicates);
    SAME(late);
    CHECK(w, v.applied == s->disk.n, "applied is %llu, not %zu", U(v.applied), s->disk.n);
    CHECK(w, v.quarantined == s->m->quarantined, "quarantined is %llu", U(v.quarantined));
    CHECK(w, v.stopped == (m->stop != MODEL_NEVER), "stopped is %d", v.stopped);
    CHECK(w,
          m->exhausted == MODEL_NEVER
              ? v.exhausted == 0 && v.exhausted_step == 0
              : v.exhausted == (int)m->exhausted_domain + 1 && v.exhausted_step == m->exhausted,
          "exhausted is %d at %llu", v.exhausted, U(v.exhausted_step));
    CHECK(w, m->frontier <= m->reserved, "the frontier is past what is reserved");
    for (uint32_t i = 0; i < MODEL_STEPS; i++) {
        open += m->feedback[i] == M_OPEN || m->feedback[i] == M_WAITS;
    }
    CHECK(w, v.open_steps == open, "%u steps are open, not %u", v.open_steps, open);
    if (m->created && check_mixes(w, s, &v) != 0) {
        return -1;
    }
    return check_policy(w, s, &v) != 0 || check_history(w, s) != 0 ? -1 : 0;
}

/* ---- carrying out effects ------------------------------------------------------------------- */

static int on_append(struct world *w, struct side *s, struct call *c, const struct mx_effect *f)
{
    struct m_entry e = model_entry(&f->entry, w->c.plan.k), same = e;
    const struct m_entry *next = c->wanted < c->x.n ? &c->x.want[c->wanted] : NULL;
    uint64_t handle = 0;
    const char *wrong;

    same.index = 0;
    CHECK(w, e.index == s->disk.n + s->queue.n + 1, "entry %llu is to follow %zu", U(e.index),
          s->disk.n + s->queue.n);
    if (next != NULL && memcmp(next, &same, sizeof same) == 0) {
        c->wanted++;
        handle = c->ev != NULL && e.kind != MX_ENTRY_MIX && e.kind != MX_ENTRY_EXHAUSTED
                     ? c->ev->handle
                     : 0;
    } else {
        wrong = model_allows(s->m, &e);
        CHECK(w, wrong == NULL, "%s%s: kind %u, step %llu, frontier %llu, version %llu, cause %llu",
              wrong, next != NULL && next->kind == e.kind ? ", but one like it" : "", e.kind,
              U(e.step), U(e.frontier), U(e.version), U(e.cause_step));
    }
    CHECK(w, f->handle == handle, "entry %llu of kind %u: handle %llu", U(e.index), e.kind,
          U(f->handle));
    CHECK(w, f->quarantined == c->x.quarantined || e.kind != MX_ENTRY_FEEDBACK,
          "%u losses are left out", f->quarantined);
    CHECK(w, e.kind != MX_ENTRY_FEEDBACK || f->quarantined == 0 || f->bad_domain == c->x.bad_domain,
          "domain %u is the first left out", f->bad_domain);
    CHECK(w, e.kind != MX_ENTRY_RESERVE || f->entry.digest_from + f->entry.n == e.frontier,
          "a RESERVE's digests end at %llu", U(f->entry.digest_from + f->entry.n));
    w->out->counts[COUNT_QUARANTINES] += f->quarantined;
    count(w, COUNT_ENTRIES + (int)e.kind);
    journal_put(&s->queue, &f->entry, w->c.plan.k, f->handle);
    return 0;
}

static int on_answer(struct world *w, struct side *s, struct call *c, const struct mx_effect *f)
{
    enum m_answer got = f->kind == MX_FX_SERVE  ? M_SERVE
                        : f->kind == MX_FX_HOLD ? M_HOLD
                                                : M_REFUSE;

    CHECK(w, c->ev != NULL && c->answers++ == 0, "an answer to nobody");
    CHECK(w, f->handle == c->ev->handle, "an answer to another");
    CHECK(w, got == c->x.answer, "answer %d (verdict %d, %llu), not %d (verdict %d, %llu)",
          (int)got, (int)f->verdict, U(f->u[0]), (int)c->x.answer, (int)c->x.verdict, U(c->x.u[0]));
    if (got == M_REFUSE) {
        CHECK(w, f->verdict == c->x.verdict && f->u[0] == c->x.u[0] && f->u[1] == c->x.u[1],
              "verdict %d (%llu, %llu), not %d (%llu, %llu)", (int)f->verdict, U(f->u[0]),
              U(f->u[1]), (int)c->x.verdict, U(c->x.u[0]), U(c->x.u[1]));
        count(w, COUNT_VERDICTS + (int)f->verdict);
        return 0;
    }
    CHECK(w, f->step == c->ev->step, "an answer for step %llu", U(f->step));
    if (got == M_SERVE) {
        return check_served(w, s, c->ev);
    }
    count(w, COUNT_HELD);
    if (s->n_held < HELD_MAX) {
        s->held[s->n_held++] = *c->ev;
    }
    return 0;
}

static void take_snapshot(struct side *s)
{
    struct mx_run_view v;

    free(s->snapshot);
    s->snapshot = saved(s->run, &s->snapshot_n);
    mx_run_view(s->run, &v);
    s->snapshot_applied = v.applied;
    s->snapshot_step = v.frontier;
}

int carry_out(struct world *w, struct side *s, struct call *c, const struct mx_effects *fx)
{
    c->again = 0;
    for (uint32_t i = 0; i < fx->n; i++) {
        const struct mx_effect *f = &fx->fx[i];
        int rc = 0;

        switch (f->kind) {
        case MX_FX_SERVE:
        case MX_FX_HOLD:
        case MX_FX_REFUSE: rc = on_answer(w, s, c, f); break;
        case MX_FX_AGAIN:
            count(w, COUNT_AGAIN);
            c->again = 1;
            break;
        case MX_FX_APPEND: rc = on_append(w, s, c, f); break;
        case MX_FX_DROP:
            CHECK(w, c->ev == NULL && f->step <= c->x.drop, "a DROP from step %llu, not %llu",
                  U(f->step), U(c->x.drop));
            c->dropped = 1;
            count(w, COUNT_DROPS);
            break;
        case MX_FX_SNAPSHOT: take_snapshot(s); break;
        case MX_FX_ARM: s->timer_ms = f->at_ms; break;
        case MX_FX_WORK: CHECK(w, 0, "work is asked for, by a policy that has none"); break;
        }
        if (rc != 0) {
            return -1;
        }
    }
    return 0;
}

int settle(struct world *w, struct side *s, const struct call *c)
{
    const char *missing = model_misses(s->m, s->timer_ms);

    CHECK(w, c->wanted == c->x.n, "no entry of kind %u for step %llu", c->x.want[c->wanted].kind,
          U(c->x.want[c->wanted].step));
    CHECK(w, c->answers == (c->x.answer != M_NOTHING), "no answer");
    CHECK(w, c->dropped || c->x.drop == MODEL_NEVER, "no DROP from step %llu", U(c->x.drop));
    CHECK(w, missing == NULL || s->timer_ms <= w->now_ms, "%s", missing);
    CHECK(w, s->n_held == 0 || s->queue.n > 0 || s->m->frozen || w->c.lag > 0,
          "a request is held, and nothing is on its way");
    return check_view(w, s);
}

int give(struct world *w, struct side *s, struct mx_event *ev)
{
    struct call c = {.ev = ev};
    struct mx_effects fx;
    struct mx_run_view v;
    uint64_t before;

    ev->now_ms = w->now_ms;
    ev->wall_ms = w->now_ms + 1000000;
    model_event(s->m, ev, &c.x);
    do {
        mx_run_view(s->run, &v);
        before = v.frontier;
        mx_run_event(s->run, ev, &fx);
        if (carry_out(w, s, &c, &fx) != 0) {
            return -1;
        }
        mx_run_view(s->run, &v);
        CHECK(w, !c.again || v.frontier > before, "asked to ask again, and nothing has moved");
    } while (c.again);
    return settle(w, s, &c);
}

int command(struct world *w, struct side *s, enum mx_event_kind kind, struct mx_entry *e)
{
    struct mx_event ev = {.kind = kind, .handle = ++w->handle, .entry = e};

    return give(w, s, &ev);
}

int give_all(struct world *w, struct side *s, struct mx_event *evs, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (give(w, s, &evs[i]) != 0) {
            return -1;
        }
    }
    return 0;
}

int write_one(struct world *w, struct side *s)
{
    struct mx_event held[HELD_MAX];
    uint32_t n = s->n_held;
    struct call c = {.ev = NULL};
    struct mx_effects fx;
    struct mx_entry *e = &s->queue.entries[0];
    struct m_entry plain = model_entry(e, w->c.plan.k);
    enum mx_applied rc;

    s->m->now_ms = w->now_ms;
    CHECK(w, model_apply(s->m, &plain, &c.x) == 0, "entry %llu isn't in flight", U(e->index));
    journal_put(&s->disk, e, w->c.plan.k, 0);
    journal_shift(&s->queue);
    rc = mx_run_apply(s->run, &s->disk.entries[s->disk.n - 1], w->now_ms, &fx);
    CHECK(w, rc == MX_APPLIED, "entry %llu of kind %u isn't applied: %d", U(plain.index),
          plain.kind, (int)rc);
    CHECK(w, plain.kind != MX_ENTRY_FEEDBACK || fx.counted == c.x.counted,
          "entry %llu: counted is %d", U(plain.index), fx.counted);
    s->n_held = 0;
    memcpy(held, s->held, sizeof held);
    if (carry_out(w, s, &c, &fx) != 0 || settle(w, s, &c) != 0) {
        return -1;
    }
    return give_all(w, s, held, n);
}
