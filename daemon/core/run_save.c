/* run_save.c - a run's fold as 64-bit words, and back. See run.h. The words don't depend on how the
 * state came about: the same journal gives the same words. Loading trusts nothing in them.
 *
 * Version ritual: a change of what is written, or of what a policy's state means, takes a new
 * SAVE_MAGIC; old snapshots are then refused, and a run without one is folded from its start. */
#include "daemon/core/run_state.h"

#include <math.h>
#include <string.h>

#define SAVE_MAGIC 0x33305641534e5552u /* "RUNSAV03" */
/* Words before the cursors: magic, k, policy's name, words of its state, position. */
#define CURSORS_AT 5u
/* No cursor gets there in MX_STEP_MAX steps, so that none overflows. */
#define CURSOR_MAX ((uint64_t)1 << 62)

/* ---- cursors over words --------------------------------------------------------------------- */

struct sink {
    uint64_t *words;
    size_t n, cap; /* n goes on counting past cap */
};

static void put(struct sink *s, uint64_t v)
{
    if (s->n < s->cap) {
        s->words[s->n] = v;
    }
    s->n++;
}

static void put_double(struct sink *s, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    put(s, bits);
}

static void put_all(struct sink *s, const uint64_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put(s, v[i]);
    }
}

struct source {
    const uint64_t *words;
    size_t left;
    int failed; /* sticky */
};

static uint64_t get(struct source *s)
{
    if (s->left == 0) {
        s->failed = 1;
        return 0;
    }
    s->left--;
    return *s->words++;
}

/* A value that must not be over max. */
static uint64_t get_upto(struct source *s, uint64_t max)
{
    uint64_t v = get(s);

    if (v > max) {
        s->failed = 1;
        return 0;
    }
    return v;
}

static double get_double(struct source *s)
{
    uint64_t bits = get(s);
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

static void get_all(struct source *s, uint64_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        v[i] = get(s);
    }
}

static uint64_t name_hash(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

    for (; *name != '\0'; name++) {
        h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    }
    return h;
}

/* ---- saving --------------------------------------------------------------------------------- */

static void save_mixes(const struct mx_run *r, struct sink *s)
{
    const struct mx_known_mix *m = mx_run_mix_of(r, r->frontier);
    const struct mx_known_mix *end = r->mixes + r->mix_count;

    put(s, (uint64_t)(end - m));
    for (; m < end; m++) {
        put(s, m->from);
        put(s, (uint64_t)m->set);
        put(s, m->version);
        put_all(s, m->shares, r->n_shares);
    }
}

/* The open step that follows `after` (NULL: the first), so that they are written rising. */
static const struct mx_open_step *next_open(const struct mx_run *r,
                                            const struct mx_open_step *after)
{
    const struct mx_open_step *next = NULL;

    for (uint32_t i = 0; i < r->open_cap; i++) {
        const struct mx_open_step *o = &r->open[i];

        if (o->used && (after == NULL || o->step > after->step) &&
            (next == NULL || o->step < next->step)) {
            next = o;
        }
    }
    return next;
}

static void put_fixed(struct sink *s, const struct mx_fixed *f)
{
    put(s, f->high);
    put(s, f->low);
}

static void save_gram(const struct mx_open_step *o, struct sink *s)
{
    size_t words = (size_t)o->n_gram * (o->n_gram + 1u) / 2u;

    put(s, (uint64_t)o->n_gram << 32 | (o->n_gram > 0 ? o->gram_rank : 0));
    put_double(s, o->n_gram > 0 ? o->lr : 0.0);
    for (uint32_t i = 0; i < o->n_gram; i++) {
        put(s, o->gram_domains[i]);
    }
    for (size_t i = 0; i < words; i++) {
        put_double(s, o->gram[i]);
    }
}

static void save_open(const struct mx_run *r, struct sink *s)
{
    const struct mx_open_step *o = NULL;

    put(s, r->open_count);
    while ((o = next_open(r, o)) != NULL) {
        put(s, o->step);
        put(s, o->world);
        put(s, (uint64_t)o->closed);
        put(s, o->version);
        put_all(s, o->ranks, ((size_t)o->world + 63) / 64);
        for (uint32_t i = 0; i < r->k; i++) {
            put_fixed(s, &o->loss[i]);
            put(s, o->tokens[i]);
            put(s, o->samples[i]);
        }
        for (uint32_t i = 0; i < r->members; i++) {
            put_fixed(s, &o->eval_loss[i]);
            put(s, o->eval_tokens[i]);
        }
        for (uint32_t i = 0; i < r->k && r->uses_reward; i++) {
            put_fixed(s, &o->reward[i]);
            put(s, o->reward_count[i]);
        }
        if (r->uses_grad) {
            save_gram(o, s);
        }
    }
}

static void save_history(const struct mx_run *r, struct sink *s)
{
    put(s, mx_run_digest(r));
    put(s, r->first_step);
    put(s, r->versions);
    put(s, r->branch);
    put(s, r->n_turns);
    for (uint32_t i = 0; i < r->n_turns; i++) {
        put(s, r->turns[i].step);
        put(s, r->turns[i].version);
        put(s, r->turns[i].index);
    }
    put(s, r->n_skips);
    for (uint32_t i = 0; i < r->n_skips; i++) {
        put(s, r->skips[i].first);
        put(s, r->skips[i].count);
    }
}

static void save_domains(const struct mx_run *r, struct sink *s)
{
    uint32_t longest = mx_plan_longest(&r->c.plan);

    for (uint32_t i = 0; i < r->k; i++) {
        const struct mx_plan_domain *d = &r->domains[i];

        put(s, (uint64_t)r->withdrawn[i] << 1 | r->spent[i]);
        if (longest > 1) {
            put(s, r->passed[i]);
        }
        put(s, d->n_stretches);
        for (uint32_t j = 0; j < d->n_stretches; j++) {
            const struct mx_stretch *a = &d->stretches[j];

            put(s, a->from);
            put(s, a->samples);
            put(s, a->epoch);
            put(s, a->rest);
            put(s, (uint64_t)a->chunk << 32 | a->depth);
            put(s, a->shards);
        }
        put(s, d->n_gone);
        for (uint32_t j = 0; j < d->n_gone; j++) {
            put(s, d->gone[j].first);
            put(s, d->gone[j].count);
            put(s, d->gone[j].from);
        }
    }
}

/* What the policies are, in order: a state is of these and of no others. */
static uint64_t policies_hash(const struct mx_run *r)
{
    uint64_t h = r->members;

    for (uint32_t i = 0; i < r->c.n_mixers; i++) {
        h = (h ^ name_hash(r->mixers[i].conf.policy.ops->name)) * 0x100000001b3u;
    }
    return h;
}

static uint64_t policy_words(const struct mx_run *r)
{
    uint64_t words = 0;

    for (uint32_t i = 0; i < r->c.n_mixers; i++) {
        words += r->mixers[i].words;
    }
    return words;
}

static void save_counts(const struct mx_run *r, struct sink *s)
{
    put(s, r->rewards);
    put(s, r->scores);
    put(s, r->grads);
    put(s, r->evals);
    put(s, r->steps_skipped);
    put(s, r->nonfinite);
}

static void load_counts(struct mx_run *r, struct source *s)
{
    r->rewards = get(s);
    r->scores = get(s);
    r->grads = get(s);
    r->evals = get(s);
    r->steps_skipped = get(s);
    r->nonfinite = get(s);
}

static void save_schedule(const struct mx_run *r, struct sink *s)
{
    put(s, r->point);
    for (uint32_t i = 0; i < r->k && mx_run_departed(r); i++) {
        put_double(s, r->departure[i]);
    }
}

/* Where the run stands in its schedule: at a point, and past no other. */
static void load_schedule(struct mx_run *r, struct source *s)
{
    uint64_t point = get_upto(s, MX_STEP_MAX);
    double sum = 0.0;

    if (point > 0 && !mx_schedule_is_point(&r->schedule, point)) {
        s->failed = 1;
        return;
    }
    mx_run_set_point(r, point);
    s->failed |= r->frontier > r->next_point || !mx_run_points_there(r);
    if (!mx_run_departed(r)) {
        return;
    }
    for (uint32_t i = 0; i < r->k; i++) {
        r->departure[i] = get_double(s);
        s->failed |= !(r->departure[i] >= 0.0 && r->departure[i] <= 1.0);
        sum += r->departure[i];
    }
    s->failed |= !(fabs(sum - 1.0) < 1e-6);
}

size_t mx_run_save(const struct mx_run *r, uint64_t *words, size_t cap, uint64_t *ret_step)
{
    struct sink s = {words, 0, cap};

    MX_CORE_REQUIRE(r->created);
    put(&s, SAVE_MAGIC);
    put(&s, r->k);
    put(&s, policies_hash(r));
    put(&s, policy_words(r));
    put(&s, r->frontier);
    put_all(&s, mx_run_cursors(r), r->k);
    put(&s, r->applied);
    put(&s, r->reserved);
    put(&s, r->stop_step);
    put(&s, r->exhausted_step);
    put(&s, r->exhausted_domain);
    save_history(r, &s);
    save_domains(r, &s);
    save_mixes(r, &s);
    for (uint32_t i = 0; i < r->c.n_mixers; i++) {
        for (size_t j = 0; j < r->mixers[i].words; j++) {
            put_double(&s, r->mixers[i].state[j]);
        }
    }
    save_schedule(r, &s);
    put(&s, (uint64_t)r->policy_wanted);
    put(&s, r->last_moved);
    put(&s, r->consumed);
    put(&s, r->steps_closed);
    put(&s, r->last_closed);
    put(&s, r->last_delay);
    put(&s, r->accepted);
    put(&s, r->timeouts);
    put(&s, r->below_quorum);
    put(&s, r->highest_closed);
    put(&s, r->shadow_at);
    save_counts(r, &s);
    for (uint32_t i = 0; i < r->k; i++) {
        put_double(&s, r->loss[i]);
        put(&s, r->loss_step[i]);
    }
    for (uint32_t i = 0; i < r->members; i++) {
        put_double(&s, r->eval_loss[i]);
        put(&s, r->eval_step[i]);
    }
    save_open(r, &s);
    put(&s, r->closed_base);
    put_all(&s, r->closed, MX_CLOSED_WORDS);
    put_all(&s, r->complete, MX_CLOSED_WORDS);
    *ret_step = r->frontier;
    return s.n;
}

/* ---- loading -------------------------------------------------------------------------------- */

static void load_history(struct mx_run *r, struct source *s)
{
    r->tail_digest = get(s);
    r->first_step = get_upto(s, r->frontier);
    r->versions = get_upto(s, MX_NEVER - 1);
    r->branch = (uint32_t)get_upto(s, UINT32_MAX - 1);
    r->n_turns = (uint32_t)get_upto(s, MX_TURNS_MAX);
    for (uint32_t i = 0; i < r->n_turns; i++) {
        r->turns[i].step = get_upto(s, MX_STEP_MAX * 2);
        r->turns[i].version = get_upto(s, r->versions);
        r->turns[i].index = get_upto(s, r->applied);
        s->failed |= i > 0 && r->turns[i].step <= r->turns[i - 1].step;
    }
    r->n_skips = (uint32_t)get_upto(s, MX_SKIPS_MAX);
    for (uint32_t i = 0; i < r->n_skips; i++) {
        r->skips[i].first = get_upto(s, MX_STEP_MAX * 2);
        r->skips[i].count = get_upto(s, MX_STEP_MAX * 2);
        s->failed |= r->skips[i].count == 0 ||
                     (i > 0 && r->skips[i].first <= r->skips[i - 1].first + r->skips[i - 1].count);
    }
}

static void load_stretches(struct mx_run *r, struct source *s, struct mx_plan_domain *d)
{
    uint64_t samples = d->samples, from = 0, joined = 0; /* places of the epoch that it joins */
    uint32_t longest = mx_plan_longest(&r->c.plan);

    d->n_stretches = (uint32_t)get_upto(s, MX_STRETCHES_MAX - r->n_stretches);
    for (uint32_t j = 0; j < d->n_stretches; j++) {
        struct mx_stretch *a = &r->stretches[r->n_stretches + j];
        uint64_t chunk_depth;

        a->from = get_upto(s, CURSOR_MAX * 2);
        a->samples = get_upto(s, MX_SAMPLES_MAX);
        a->epoch = get_upto(s, MX_NEVER >> 1);
        a->rest = get_upto(s, MX_SAMPLES_MAX);
        chunk_depth = get(s);
        a->chunk = (uint32_t)(chunk_depth >> 32);
        a->depth = (uint32_t)chunk_depth;
        a->shards = (uint32_t)get_upto(s, UINT32_MAX);
        /* What series.c reads without looking: that nothing shrinks, and joins have what they
         * join. */
        s->failed |= a->from < from || a->samples < samples || a->chunk == 0 ||
                     a->depth > MX_JOINS_MAX || a->depth > j + 1 ||
                     (a->depth > 0 && (a->rest == 0 || a->samples == samples)) ||
                     (a->depth > 1 && a[-1].depth != a->depth - 1) || a->chunk % longest != 0 ||
                     (longest > 1 && a->depth > 0) ||
                     a->rest > (a->depth > 1 ? joined : a->depth == 1 ? samples : 0);
        joined = a->rest + (a->samples - samples);
        samples = a->samples;
        from = a->from;
    }
    r->n_stretches += d->n_stretches;
}

static void load_domains(struct mx_run *r, struct source *s)
{
    uint32_t longest = mx_plan_longest(&r->c.plan);

    for (uint32_t i = 0; i < r->k && !s->failed; i++) {
        struct mx_plan_domain *d = &r->domains[i];
        uint64_t word = get_upto(s, (uint64_t)UINT32_MAX << 1 | 1);

        r->withdrawn[i] = (uint32_t)(word >> 1);
        r->spent[i] = word & 1;
        r->passed[i] = longest > 1 ? get_upto(s, r->tail[i]) : 0;
        load_stretches(r, s, d);
        d->n_gone = (uint32_t)get_upto(s, MX_GONE_MAX - r->n_gone);
        for (uint32_t j = 0; j < d->n_gone; j++) {
            struct mx_gone *g = &r->gone[r->n_gone + j];

            g->first = get_upto(s, MX_SAMPLES_MAX);
            g->count = get_upto(s, MX_SAMPLES_MAX);
            g->from = get(s);
            s->failed |= g->count == 0 || (j > 0 && g->first < g[-1].first + g[-1].count);
        }
        r->n_gone += d->n_gone;
    }
    if (s->failed) {
        return;
    }
    mx_run_point_domains(r);
    for (uint32_t i = 0; i < r->k; i++) {
        if (r->domains[i].n_stretches > 0 && r->domains[i].max_epochs > 0.0) {
            r->domains[i].budget = mx_series_budget(&r->domains[i]);
        }
    }
    s->failed |= !mx_run_enough_stays(r);
}

static void load_mixes(struct mx_run *r, struct source *s)
{
    uint64_t n = get_upto(s, r->mix_cap), versions = r->versions;

    for (uint64_t i = 0; i < n && !s->failed; i++) {
        uint64_t from = get_upto(s, MX_STEP_MAX * 2), set = get_upto(s, 1);
        uint64_t version = get_upto(s, versions);

        get_all(s, r->want_shares, r->n_shares);
        if (s->failed || version == 0 || (i == 0 ? from > r->frontier : from <= r->frontier) ||
            mx_run_add_mix(r, i == 0 ? r->frontier : from, (int)set, version, r->want_shares) != 0) {
            s->failed = 1;
        } else if (i == 0) {
            r->mixes[0].from = from;
        }
    }
    if (r->mix_count == 0 || r->mix_count != n) {
        s->failed = 1;
    }
}

static uint32_t ones(uint64_t v)
{
    uint32_t n = 0;

    for (; v != 0; v &= v - 1) {
        n++;
    }
    return n;
}

static void get_fixed(struct source *s, struct mx_fixed *f)
{
    f->high = get(s);
    f->low = get(s);
}

/* Sums as reports give them: else a mean would be none. */
static void load_losses(struct source *s, struct mx_fixed *loss, uint64_t *tokens)
{
    get_fixed(s, loss);
    *tokens = get_upto(s, (uint64_t)1 << 56);
    s->failed |= loss->high > (uint64_t)1 << 62 ||
                 mx_fixed_get(loss) > 0x1p14 * (double)*tokens;
}

static void load_sums(struct mx_run *r, struct source *s, struct mx_open_step *o)
{
    for (uint32_t d = 0; d < r->k; d++) {
        load_losses(s, &o->loss[d], &o->tokens[d]);
        o->samples[d] = get_upto(s, (uint64_t)1 << 56);
    }
    for (uint32_t i = 0; i < r->members; i++) {
        load_losses(s, &o->eval_loss[i], &o->eval_tokens[i]);
    }
    for (uint32_t d = 0; d < r->k && r->uses_reward; d++) {
        get_fixed(s, &o->reward[d]);
        o->reward_count[d] = get_upto(s, (uint64_t)1 << 56);
        s->failed |= fabs(mx_fixed_get_signed(&o->reward[d])) >
                     MX_REWARD_MAX * (double)o->reward_count[d] * 1.0001;
    }
}

static void load_gram(struct mx_run *r, struct source *s, struct mx_open_step *o)
{
    uint32_t row;
    double bad;
    uint64_t word = get(s);
    uint32_t n = (uint32_t)(word >> 32);

    o->gram_rank = (uint32_t)word;
    o->lr = get_double(s);
    if (n > MX_GRAM_MAX || o->gram_rank >= o->world) {
        s->failed = 1;
        return;
    }
    o->n_gram = n;
    for (uint32_t i = 0; i < n; i++) {
        o->gram_domains[i] = (uint32_t)get_upto(s, r->k - 1);
        s->failed |= i > 0 && o->gram_domains[i] <= o->gram_domains[i - 1];
    }
    for (size_t i = 0; i < (size_t)n * (n + 1u) / 2u; i++) {
        o->gram[i] = get_double(s);
    }
    s->failed |= n > 0 && !mx_gram_ok(o->gram, n, o->lr, &row, &bad);
}

static void load_open(struct mx_run *r, struct source *s)
{
    uint64_t n = get_upto(s, r->open_cap), least = r->consumed;

    for (uint64_t i = 0; i < n && !s->failed; i++) {
        uint64_t step = get_upto(s, MX_STEP_MAX), world = get_upto(s, MX_WORLD_MAX);
        struct mx_open_step *o;

        if (world == 0 || step < least || step >= r->frontier) {
            s->failed = 1;
            return;
        }
        least = step + 1;
        o = mx_run_open(r, step, (uint32_t)world);
        o->closed = (int)get_upto(s, r->c.lag > 0);
        o->version = get_upto(s, r->versions);
        for (uint64_t w = 0; w < (world + 63) / 64; w++) {
            uint64_t most = world - w * 64 >= 64 ? UINT64_MAX
                                                 : ((uint64_t)1 << (world - w * 64)) - 1;

            o->ranks[w] = get(s);
            s->failed |= (o->ranks[w] & ~most) != 0;
            o->reported += ones(o->ranks[w]);
        }
        s->failed |= o->reported == 0 ||
                     (!o->closed && (o->reported == o->world || step < r->first_step));
        load_sums(r, s, o);
        if (r->uses_grad) {
            load_gram(r, s, o);
        }
    }
}

/* Weights must be weights, whatever the words of the policies' states say. */
static void load_policies(struct mx_run *r, struct source *s)
{
    for (uint32_t i = 0; i < r->c.n_mixers; i++) {
        struct mx_mixer *m = &r->mixers[i];

        for (size_t j = 0; j < m->words; j++) {
            m->state[j] = get_double(s);
        }
        s->failed |= !mx_mixer_sane(m->state, &m->conf);
    }
}

static int load_head(struct mx_run *r, struct source *s)
{
    if (get(s) != SAVE_MAGIC || get(s) != r->k || get(s) != policies_hash(r) ||
        get(s) != policy_words(r)) {
        return -1;
    }
    mx_run_plan_reset(r, get_upto(s, MX_STEP_MAX * 2));
    for (uint32_t i = 0; i < r->k; i++) {
        r->tail[i] = get_upto(s, CURSOR_MAX);
    }
    r->applied = get_upto(s, MX_NEVER >> 1);
    r->reserved = get_upto(s, r->frontier + MX_DIGESTS);
    r->stop_step = get(s);
    r->exhausted_step = get(s);
    r->exhausted_domain = (uint32_t)get_upto(s, r->k - 1);
    s->failed |= r->applied == 0 || r->frontier > r->reserved || r->stop_step < r->frontier ||
                 r->exhausted_step < r->frontier;
    return s->failed ? -1 : 0;
}

int mx_run_load(struct mx_run *r, const uint64_t *words, size_t n)
{
    struct source s = {words, n, 0};

    MX_CORE_REQUIRE(!r->created);
    if (load_head(r, &s) != 0) {
        return -1;
    }
    load_history(r, &s);
    load_domains(r, &s);
    if (s.failed) {
        return -1;
    }
    load_mixes(r, &s);
    load_policies(r, &s);
    if (s.failed) {
        return -1;
    }
    load_schedule(r, &s);
    if (s.failed) {
        return -1;
    }
    r->policy_wanted = (int)get_upto(&s, r->c.lag > 0 ? 1 : 2);
    r->last_moved = get_upto(&s, r->frontier);
    r->consumed = get_upto(&s, r->c.lag > 0 ? MX_STEP_MAX * 2 : 0);
    s.failed |= r->frontier > mx_run_lockstep_barrier(r) ||
                (r->c.lag > 0 && r->consumed == 0 && (r->policy_wanted || mx_run_working(r)));
    r->steps_closed = get(&s);
    r->last_closed = get(&s);
    r->last_delay = get(&s);
    r->accepted = get(&s);
    r->timeouts = get(&s);
    r->below_quorum = get(&s);
    r->highest_closed = get_upto(&s, r->frontier);
    r->shadow_at = get_upto(&s, r->frontier);
    load_counts(r, &s);
    for (uint32_t i = 0; i < r->k; i++) {
        r->loss[i] = get_double(&s);
        r->loss_step[i] = get(&s);
    }
    for (uint32_t i = 0; i < r->members; i++) {
        r->eval_loss[i] = get_double(&s);
        r->eval_step[i] = get(&s);
    }
    load_open(r, &s);
    r->closed_base = get_upto(&s, r->frontier);
    get_all(&s, r->closed, MX_CLOSED_WORDS);
    get_all(&s, r->complete, MX_CLOSED_WORDS);
    if (s.failed || s.left != 0) {
        return -1;
    }
    r->appended = r->applied;
    r->versions_asked = r->versions_asked > r->versions ? r->versions_asked : r->versions;
    r->snapshot_at = r->frontier;
    r->created = 1;
    return 0;
}

int mx_run_restore(struct mx_run *r, const uint64_t *words, size_t n)
{
    uint64_t appended = r->appended; /* of this run's journal, which the words may not be of */
    int rc;

    mx_run_clear_fold(r);
    rc = mx_run_load(r, words, n);
    r->appended = appended;
    return rc;
}

int mx_run_saved_cursors(const uint64_t *words, size_t n, uint32_t k, uint64_t *ret_step,
                         uint64_t *ret_applied, uint64_t *ret_cursors)
{
    if (n < CURSORS_AT + (size_t)k + 1 || words[0] != SAVE_MAGIC || words[1] != k) {
        return -1;
    }
    *ret_step = words[CURSORS_AT - 1];
    memcpy(ret_cursors, words + CURSORS_AT, k * sizeof *ret_cursors);
    *ret_applied = words[CURSORS_AT + k];
    return 0;
}
