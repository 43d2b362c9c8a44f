/* sim_model.c - what must hold of a simulated run whatever happens. See sim.h.
 *
 * Kept apart from the core's own bookkeeping: it learns from the entries that were applied and from
 * the steps that the run shows, each as soon as it is planned. */
#include "tests/core/sim.h"

/* ---- entries -------------------------------------------------------------------------------- */

void model_clear(struct model *m)
{
    for (size_t i = 0; i < STEPS_MAX; i++) {
        free(m->names[i].at);
    }
    memset(m, 0, sizeof *m);
}

static void report(struct model *m, const struct mx_entry *e)
{
    if (m->closed[e->step] || m->skipped[e->step]) {
        return;
    }
    if (m->ranks[e->step] != 0 && m->worlds[e->step] != e->world) {
        m->ranks[e->step] = 0;
    }
    m->worlds[e->step] = (uint8_t)e->world;
    m->ranks[e->step] |= (uint8_t)(1u << e->rank);
    m->closed[e->step] = m->ranks[e->step] == (1u << e->world) - 1;
}

static void withdrawn(struct sim *s, const struct mx_entry *e)
{
    for (uint32_t i = 0; i < e->n; i++) {
        for (uint64_t j = 0; j < e->ranges[i].count; j++) {
            s->model.gone[e->domain][e->ranges[i].first + j] = 1;
        }
    }
    s->withdrawals[e->domain] = e->serial;
}

/* Nothing is known of steps from there on. */
static void forget_from(struct model *m, uint64_t step)
{
    m->noted = m->noted < step ? m->noted : step;
    for (uint64_t i = step; i < STEPS_MAX; i++) {
        m->skipped[i] = m->closed[i] = m->ranks[i] = 0;
    }
}

void model_apply(struct sim *s, const struct mx_entry *e)
{
    struct model *m = &s->model;

    if (e->kind != MX_ENTRY_FEEDBACK && e->mix_version > 0) {
        assert_true(e->mix_version > m->versions);
        m->versions = e->mix_version;
    }
    switch (e->kind) {
    case MX_ENTRY_RESERVE: m->reserved = e->step; break;
    case MX_ENTRY_FEEDBACK: report(m, e); break;
    case MX_ENTRY_CLOSE: m->closed[e->step] |= m->ranks[e->step] != 0; break;
    case MX_ENTRY_SKIP: memset(m->skipped + e->step, 1, e->to - e->step); break;
    case MX_ENTRY_WITHDRAW:
        withdrawn(s, e);
        m->changed = 1;
        break;
    case MX_ENTRY_ADOPT: m->changed = 1; break;
    case MX_ENTRY_REWIND:
    case MX_ENTRY_FORK:
        forget_from(m, e->step);
        m->reserved = e->step;
        m->changed = 1;
        m->branches++;
        if (e->kind == MX_ENTRY_FORK) {
            m->first_step = m->noted = e->step;
            m->set = 1;
        }
        break;
    case MX_ENTRY_SET: m->set = 1; break;
    case MX_ENTRY_FIT: s->counts[SIM_FITS]++; break;
    case MX_ENTRY_CREATE:
    case MX_ENTRY_MIX:
    case MX_ENTRY_STOP:
    case MX_ENTRY_SHADOW:
    case MX_ENTRY_EXHAUSTED: break;
    }
}

/* ---- steps ---------------------------------------------------------------------------------- */

static void mix_in(uint64_t *hash, uint64_t v)
{
    *hash = (*hash ^ v) * 0x100000001b3u;
    *hash ^= *hash >> 29;
}

static void items_of(const struct sim *s, struct mx_run *r, const struct mx_step *at,
                     struct mx_plan_item *items)
{
    struct mx_plan_spec spec = s->c.plan;

    spec.domains = mx_run_domains(r);
    mx_plan_items(&spec, at->step, at->cursors, at->prefix, 0,
                  mx_plan_part_of(&spec, at->step).batch, items);
}

uint64_t model_hash(const struct sim *s, struct mx_run *r, const struct mx_step *at)
{
    struct mx_plan_item items[BATCH_MOST];
    uint64_t hash = 1;

    items_of(s, r, at, items);
    for (uint32_t i = 0; i < s->c.plan.k; i++) {
        mix_in(&hash, at->cursors[i]);
        mix_in(&hash, at->prefix[i + 1]);
    }
    for (uint32_t i = 0; i < at->prefix[s->c.plan.k]; i++) {
        mix_in(&hash, items[i].sample);
        mix_in(&hash, (uint64_t)items[i].domain << 32 | items[i].epoch);
    }
    return hash;
}

/* (step, version) names one content, in whatever branch and after whatever crash. */
static void check_name(struct model *m, uint64_t step, uint64_t version, uint64_t hash)
{
    struct names *n = &m->names[step];

    for (size_t i = 0; i < n->n; i++) {
        if (n->at[i].version == version) {
            assert_true(n->at[i].hash == hash);
            return;
        }
    }
    n->at = realloc(n->at, (n->n + 1) * sizeof *n->at);
    assert_non_null(n->at);
    n->at[n->n++] = (struct name){version, hash};
}

/* The first step whose feedback isn't in. */
static uint64_t first_missing(const struct model *m)
{
    uint64_t step = m->first_step;

    while (step < STEPS_MAX && (m->closed[step] || m->skipped[step])) {
        step++;
    }
    return step;
}

/* Exactly a batch, within ceilings; no sample that is gone. */
static void check_contents(const struct sim *s, const struct mx_step *at)
{
    struct mx_plan_part part = mx_plan_part_of(&s->c.plan, at->step);
    struct mx_plan_item items[BATCH_MOST];

    assert_int_equal(at->prefix[0], 0);
    assert_int_equal(at->prefix[s->c.plan.k], part.batch);
    for (uint32_t i = 0; i < s->c.plan.k; i++) {
        double most = isnan(s->limits[i].pin) ? s->limits[i].ceiling : s->limits[i].pin;

        assert_true(at->prefix[i] <= at->prefix[i + 1]);
        assert_true(s->c.plan.sampling != MX_SAMPLING_SYSTEMATIC ||
                    at->prefix[i + 1] - at->prefix[i] <= ceil(most * part.batch - 1e-9));
    }
    items_of(s, s->run, at, items);
    for (uint32_t i = 0; i < part.batch; i++) {
        for (uint64_t j = items[i].sample; j < items[i].sample + part.length; j++) {
            assert_true(j < SAMPLES_MOST);
            assert_false(s->model.gone[items[i].domain][j]);
        }
    }
}

static void note_steps(struct sim *s, uint64_t frontier)
{
    struct model *m = &s->model;
    uint64_t missing = s->c.lag > 0 ? first_missing(m) : 0;

    for (; m->noted < frontier; m->noted++) {
        struct planned *p = &m->planned[m->noted];
        struct mx_step at;

        assert_int_equal(mx_run_step(s->run, m->noted, 0, &at), MX_STEP_HERE);
        assert_true(at.mix_version >= 1 && at.mix_version <= m->versions);
        assert_true(s->c.lag == 0 || m->noted < missing + s->c.lag);
        check_contents(s, &at);
        s->counts[SIM_LATER_PARTS] += mx_plan_part_of(&s->c.plan, m->noted).from_step > 0;
        p->version = at.mix_version;
        p->hash = model_hash(s, s->run, &at);
        memcpy(p->cursors, at.cursors, s->c.plan.k * sizeof *at.cursors);
        check_name(m, m->noted, p->version, p->hash);
    }
}

void model_look(struct sim *s)
{
    const struct mx_plan_domain *d = mx_run_domains(s->run);
    struct mx_run_view v;
    double sum = 0.0;
    uint64_t total = 0;

    mx_run_view(s->run, &v);
    assert_int_equal(v.applied, s->applied);
    assert_true(v.frontier <= v.reserved && v.frontier <= s->c.end_step);
    assert_true(v.applied == 0 || v.reserved == s->model.reserved);
    assert_true(v.applied == 0 || v.versions == s->model.versions);
    for (uint32_t i = 0; i < s->c.plan.k; i++) {
        assert_true(isfinite(v.weights[i]) && v.weights[i] >= 0.0);
        sum += v.weights[i];
        total += v.shares[i];
        assert_true(d[i].on_exhausted == MX_EXHAUSTED_REPEAT || v.cursors[i] <= d[i].budget);
    }
    assert_true(fabs(sum - 1.0) < 1e-9);
    assert_true(v.applied == 0 || total == MX_SHARE_ONE);
    if (v.applied > 0) {
        assert_true(v.frontier >= s->model.noted); /* it goes back by a REWIND alone */
        note_steps(s, v.frontier);
    }
}

/* By epoch: a small domain may have several in one step. */
static int by_epoch(const void *a, const void *b)
{
    const struct mx_plan_item *x = a, *y = b;

    return (x->epoch > y->epoch) - (x->epoch < y->epoch);
}

/* No sample twice in an epoch of its domain. Steps come in the order in which they draw. */
static void check_epochs(struct sim *s)
{
    static uint64_t last_seen[K_MAX][SAMPLES_MOST]; /* epoch + 1 */

    memset(last_seen, 0, sizeof last_seen);
    for (uint64_t step = s->model.first_step; step < s->model.noted; step++) {
        struct mx_plan_part part = mx_plan_part_of(&s->c.plan, step);
        struct mx_plan_item items[BATCH_MOST];
        struct mx_step at;

        if (mx_run_step(s->run, step, 0, &at) != MX_STEP_HERE) {
            continue;
        }
        items_of(s, s->run, &at, items);
        qsort(items, part.batch, sizeof *items, by_epoch);
        for (uint32_t i = 0; i < part.batch * part.length; i++) {
            const struct mx_plan_item *item = &items[i / part.length];
            uint64_t *seen = &last_seen[item->domain][item->sample + i % part.length];

            assert_true(*seen < item->epoch + (uint64_t)1);
            *seen = item->epoch + (uint64_t)1;
        }
    }
}

void model_look_back(struct sim *s)
{
    const struct model *m = &s->model;

    for (uint64_t step = m->first_step; step < m->noted; step++) {
        struct mx_step at;

        if (mx_run_step(s->run, step, 0, &at) == MX_STEP_HERE) {
            assert_int_equal(at.mix_version, m->planned[step].version);
            assert_true(model_hash(s, s->run, &at) == m->planned[step].hash);
        }
    }
    check_epochs(s);
}

void model_served(struct sim *s, uint64_t step)
{
    struct model *m = &s->model;
    struct mx_step at;

    assert_true(step < m->reserved && step >= m->first_step);
    assert_false(m->skipped[step]);
    note_steps(s, step + 1);
    if (mx_run_step(s->run, step, 0, &at) == MX_STEP_OLD) {
        return; /* after a recovery: it is in no way to be changed, and is seen again at the end */
    }
    assert_int_equal(at.step, step);
    assert_int_equal(at.mix_version, m->planned[step].version);
    assert_memory_equal(at.cursors, m->planned[step].cursors, s->c.plan.k * sizeof *at.cursors);
    if (s->trial[step].here && s->trial[step].version == at.mix_version) {
        assert_true(s->trial[step].hash == m->planned[step].hash);
    }
}

int model_waits(const struct sim *s)
{
    int works = s->idle[0] || s->failed_work[0];

    for (uint32_t i = 0; i < s->works_n; i++) {
        works |= s->works[i].mixer == 0;
    }
    return s->queue.n > 0 || s->applied < s->disk.n || (s->c.lag > 0 && works) ||
           (s->c.lag > 0 && s->model.noted >= first_missing(&s->model) + s->c.lag);
}

/* ---- the end -------------------------------------------------------------------------------- */

/* The version in force at a step, by the journal's mixes: the latest step; an operator's before one
 * by feedback; of those the later. */
static const struct mx_entry *in_force(const struct journal *j, uint64_t step)
{
    const struct mx_entry *best = &j->entries[0]; /* the CREATE */

    for (size_t i = 0; i < j->n; i++) {
        const struct mx_entry *e = &j->entries[i];

        if ((e->kind == MX_ENTRY_CREATE || e->kind == MX_ENTRY_MIX || e->kind == MX_ENTRY_SET) &&
            e->step <= step &&
            (e->step > best->step ||
             (e->step == best->step &&
              (e->kind == MX_ENTRY_SET || best->kind != MX_ENTRY_SET)))) {
            best = e;
        }
    }
    return best;
}

/* The last step up to that one at which the schedule has a mix of its own. */
static uint64_t last_point(const struct sim *s, uint64_t step)
{
    struct mx_schedule schedule = {s->c.phases, s->c.n_phases, s->c.plan.k, s->c.end_step, s->prior,
                                   s->limits};

    while (step > 0 && !mx_schedule_is_point(&schedule, step)) {
        step--;
    }
    return step;
}

/* Where mixes alone have made the plan it is computed from them, without a run. */
static void check_by_mixes(struct sim *s)
{
    uint64_t cursors[K_MAX] = {0};
    uint32_t counts[K_MAX];

    for (uint64_t step = 0; step < s->model.noted; step++) {
        const struct planned *p = &s->model.planned[step];
        const struct mx_entry *e = in_force(&s->disk, step);
        struct mx_plan_mix mix = {0, 1, e->shares};

        assert_int_equal(p->version, e->mix_version);
        assert_true(e->step >= last_point(s, step));
        assert_memory_equal(p->cursors, cursors, s->c.plan.k * sizeof *cursors);
        assert_int_equal(mx_plan_advance(&s->c.plan, &mix, 1, step, step + 1, cursors, counts), -1);
    }
}

/* A run that knows nothing but the journal plans the same in every branch. */
void model_check_journal(struct sim *s)
{
    void *memory = test_get(1, mx_run_size(&s->c));
    struct mx_run *r = mx_run_init(memory, &s->c);
    struct mx_effects fx;
    struct mx_run_view v;
    uint64_t seen = 0;

    for (size_t i = 0; i < s->disk.n; i++) {
        const struct mx_entry *e = &s->disk.entries[i];

        assert_int_equal(mx_run_apply(r, e, 0, &fx), MX_APPLIED);
        mx_run_view(r, &v);
        if (e->kind == MX_ENTRY_REWIND || e->kind == MX_ENTRY_FORK) {
            seen = e->step;
        }
        for (; seen < v.frontier; seen++) {
            struct mx_step at;

            assert_int_equal(mx_run_step(r, seen, 0, &at), MX_STEP_HERE);
            check_name(&s->model, seen, at.mix_version, model_hash(s, r, &at));
        }
    }
    free(memory);
    if (!s->model.changed) {
        check_by_mixes(s);
    }
}
