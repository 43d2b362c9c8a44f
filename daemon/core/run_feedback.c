/* run_feedback.c - reports of ranks, taken together per step and handed to the policy. See run.h.
 * Knows nothing of batches.
 *
 * A step is open from its first durable report until all its ranks have reported or its time is
 * up. Then the policy gets the means over tokens, once; steps reach it in the order in which the
 * journal closes them, or in lockstep strictly in their own: a closed step keeps its place until
 * those before it are through, and until the mix that the last one made is durable. A step that
 * closes without one usable loss, or with fewer reports than the quorum, is not shown to it: the
 * last good mix stays. A report that the journal holds but that fits no more (a duplicate that was
 * being appended at the same time, a step closed meanwhile) changes nothing, live and in recovery
 * alike; so a repeat may be acknowledged as soon as it is durable itself. */
#include "daemon/core/run_state.h"

#include <math.h>
#include <string.h>

uint32_t mx_run_open_cap(uint32_t k)
{
    size_t one = MX_RANK_WORDS * sizeof(uint64_t) +
                 k * (sizeof(struct mx_fixed) + 2 * sizeof(uint64_t));
    size_t n = MX_OPEN_BYTES / one;

    return n < MX_OPEN_MIN ? MX_OPEN_MIN : n > MX_OPEN_MAX ? MX_OPEN_MAX : (uint32_t)n;
}

/* ---- closed steps --------------------------------------------------------------------------- */

static int bit_get(const uint64_t *words, uint64_t i)
{
    return (words[i / 64] >> (i % 64)) & 1;
}

static void bit_put(uint64_t *words, uint64_t i, int value)
{
    uint64_t mask = (uint64_t)1 << (i % 64);

    words[i / 64] = value ? words[i / 64] | mask : words[i / 64] & ~mask;
}

static int is_closed(const struct mx_run *r, uint64_t step)
{
    return step < r->closed_base || (step - r->closed_base < MX_CLOSED_STEPS &&
                                     bit_get(r->closed, step % MX_CLOSED_STEPS));
}

static int is_complete(const struct mx_run *r, uint64_t step)
{
    return step >= r->closed_base && is_closed(r, step) &&
           bit_get(r->complete, step % MX_CLOSED_STEPS);
}

static void mark_closed(struct mx_run *r, uint64_t step, int complete)
{
    if (step < r->closed_base) {
        return;
    }
    if (step - r->closed_base >= MX_CLOSED_STEPS) {
        uint64_t base = step - MX_CLOSED_STEPS + 1;
        uint64_t fresh = base - r->closed_base; /* places that now stand for later steps */

        if (fresh >= MX_CLOSED_STEPS) {
            memset(r->closed, 0, sizeof r->closed);
            memset(r->complete, 0, sizeof r->complete);
        } else {
            for (uint64_t s = r->closed_base; s < base; s++) {
                bit_put(r->closed, s % MX_CLOSED_STEPS, 0);
                bit_put(r->complete, s % MX_CLOSED_STEPS, 0);
            }
        }
        r->closed_base = base;
    }
    bit_put(r->closed, step % MX_CLOSED_STEPS, 1);
    bit_put(r->complete, step % MX_CLOSED_STEPS, complete);
}

/* ---- open steps ----------------------------------------------------------------------------- */

struct mx_open_step *mx_run_find_open(struct mx_run *r, uint64_t step)
{
    for (uint32_t i = 0; i < r->open_cap; i++) {
        if (r->open[i].used && r->open[i].step == step) {
            return &r->open[i];
        }
    }
    return NULL;
}

static void clear_open(const struct mx_run *r, struct mx_open_step *o, uint32_t world)
{
    o->world = world;
    o->reported = 0;
    memset(o->ranks, 0, ((size_t)world + 63) / 64 * sizeof *o->ranks);
    memset(o->loss, 0, r->k * sizeof *o->loss);
    memset(o->tokens, 0, r->k * sizeof *o->tokens);
    memset(o->samples, 0, r->k * sizeof *o->samples);
    memset(o->eval_loss, 0, r->members * sizeof *o->eval_loss);
    memset(o->eval_tokens, 0, r->members * sizeof *o->eval_tokens);
    if (r->uses_reward) {
        memset(o->reward, 0, r->k * sizeof *o->reward);
        memset(o->reward_count, 0, r->k * sizeof *o->reward_count);
    }
    o->n_gram = 0;
    o->version = 0;
}

struct mx_open_step *mx_run_open(struct mx_run *r, uint64_t step, uint32_t world)
{
    struct mx_open_step *o = r->open;

    while (o->used) {
        o++;
        MX_CORE_REQUIRE(o < r->open + r->open_cap);
    }
    o->step = step;
    o->used = 1;
    o->closed = 0;
    o->close_pending = 0;
    clear_open(r, o, world);
    r->open_count++;
    return o;
}

static void drop_open(struct mx_run *r, struct mx_open_step *o)
{
    o->used = 0;
    r->open_count--;
}

static int below_quorum(const struct mx_run *r, const struct mx_open_step *o)
{
    return (double)o->reported < r->c.quorum * (double)o->world;
}

/* The policies learn what was reported of a step. */
static void show(struct mx_run *r, const struct mx_open_step *o)
{
    if (!below_quorum(r, o)) {
        mx_run_show(r, o);
    }
}

int mx_run_owes_mix(const struct mx_run *r, uint64_t *ret)
{
    *ret = r->consumed + r->c.lag - 1;
    return r->c.lag > 0 && (r->policy_wanted || mx_run_working(r));
}

void mx_run_consume(struct mx_run *r)
{
    while (r->c.lag > 0 && !r->policy_wanted && !mx_run_working(r) && !mx_run_point_due(r)) {
        struct mx_open_step *o;

        if (mx_run_skipped(r, r->consumed, &r->consumed)) {
            continue;
        }
        o = mx_run_find_open(r, r->consumed);
        if (o == NULL && r->consumed < r->first_step) {
            r->consumed++; /* nobody reports it any more: see mx_run_close_open */
            continue;
        }
        if (o == NULL || !o->closed) {
            return;
        }
        show(r, o);
        drop_open(r, o);
        r->consumed++;
    }
}

/* Ends a step. */
static void close_step(struct mx_run *r, struct mx_open_step *o)
{
    mark_closed(r, o->step, o->reported == o->world);
    r->steps_closed++;
    r->below_quorum += (uint64_t)below_quorum(r, o);
    r->last_closed = o->step;
    r->highest_closed = o->step > r->highest_closed ? o->step : r->highest_closed;
    o->closed = 1;
    if (r->c.lag == 0) {
        show(r, o);
        drop_open(r, o);
    } else {
        mx_run_consume(r);
    }
}

void mx_run_skip_open(struct mx_run *r, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < r->open_cap; i++) {
        struct mx_open_step *o = &r->open[i];

        if (o->used && o->step >= from && o->step < to) {
            mark_closed(r, o->step, 0);
            drop_open(r, o);
        }
    }
    mx_run_consume(r);
}

/* Ends the oldest step that waits for reports, with those that it has. Whether there was one. */
static int close_oldest(struct mx_run *r)
{
    struct mx_open_step *oldest = NULL;

    for (uint32_t i = 0; i < r->open_cap; i++) {
        struct mx_open_step *o = &r->open[i];

        if (o->used && !o->closed && (oldest == NULL || o->step < oldest->step)) {
            oldest = o;
        }
    }
    if (oldest != NULL) {
        r->timeouts++;
        close_step(r, oldest);
    }
    return oldest != NULL;
}

void mx_run_close_open(struct mx_run *r)
{
    while (close_oldest(r)) {
    }
    mx_run_consume(r);
}

/* ---- events --------------------------------------------------------------------------------- */

/* The first loss whose domain doesn't exist or doesn't rise, or n. */
static uint32_t check_domains(const struct mx_run *r, const struct mx_loss *losses, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (losses[i].domain >= r->k || (i > 0 && losses[i].domain <= losses[i - 1].domain)) {
            return i;
        }
    }
    return n;
}

/* Whether what it says beside the losses is of things that exist, in their order; else told in fx
 * (NULL: not told). */
static int parts_exist(const struct mx_run *r, const struct mx_entry *e, uint64_t handle,
                       struct mx_effects *fx)
{
    enum mx_verdict verdict = MX_OK;
    uint64_t u[2] = {0, 0};

    for (uint32_t i = 0; i < e->n_evals && verdict == MX_OK; i++) {
        const struct mx_eval_loss *l = &e->evals[i], *before = &e->evals[i > 0 ? i - 1 : 0];

        if (l->set >= r->c.n_eval_sets ||
            l->member >= r->eval_first[l->set + 1] - r->eval_first[l->set] ||
            (i > 0 && (l->set < before->set || (l->set == before->set &&
                                                l->member <= before->member)))) {
            verdict = MX_BAD_EVAL;
            u[0] = l->set;
            u[1] = l->member;
        }
    }
    for (uint32_t i = 0; i < e->n_rewards && verdict == MX_OK; i++) {
        if (e->rewards[i].domain >= r->k ||
            (i > 0 && e->rewards[i].domain <= e->rewards[i - 1].domain)) {
            verdict = MX_BAD_REWARD;
            u[0] = e->rewards[i].domain;
        }
    }
    for (uint32_t i = 0; i < e->n_scores && verdict == MX_OK; i++) {
        if (e->scores[i].domain >= r->k) {
            verdict = MX_BAD_SCORE;
            u[0] = e->scores[i].domain;
        }
    }
    for (uint32_t i = 0; i < e->n_gram && verdict == MX_OK; i++) {
        if (e->n_gram > MX_GRAM_MAX || e->gram_domains[i] >= r->k ||
            (i > 0 && e->gram_domains[i] <= e->gram_domains[i - 1])) {
            verdict = MX_BAD_GRAM;
            u[0] = e->n_gram;
        }
    }
    if (verdict != MX_OK && fx != NULL) {
        mx_run_refuse(fx, handle, verdict, u[0])->u[1] = u[1];
    }
    return verdict == MX_OK;
}

/* Whether it claims another mix than the step was planned under. 0: it doesn't say. */
static int wrong_version(const struct mx_run *r, const struct mx_entry *e)
{
    uint64_t planned = mx_run_version_of(r, e->step);

    for (uint32_t i = 0; i < r->n_turns && e->mix_version != 0; i++) { /* of another branch */
        if ((e->step >= r->turns[i].step) != (e->mix_version >= r->turns[i].version)) {
            return 1;
        }
    }
    return e->mix_version > r->versions ||
           (e->mix_version != 0 && planned != 0 && e->mix_version != planned);
}

/* Trainers that came back in another number report a step which the others left half reported: what
 * they say replaces it, if they are the ones that ask for batches now. */
static int world_changed(const struct mx_run *r, const struct mx_open_step *o, uint32_t world)
{
    return o->world != world && world == r->trainers_world;
}

/* Whether a report can't be taken, told in fx. */
static int refused(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    const struct mx_entry *e = ev->entry;
    const struct mx_open_step *o;
    uint64_t skip;
    uint32_t bad;

    if (e->world == 0 || e->world > MX_WORLD_MAX || e->rank >= e->world) {
        mx_run_refuse(fx, ev->handle, MX_BAD_RANK, e->world);
        return 1;
    }
    if (e->step >= r->frontier) {
        mx_run_refuse(fx, ev->handle, MX_NOT_SERVED, r->frontier);
        return 1;
    }
    if (e->step < r->first_step) {
        mx_run_refuse(fx, ev->handle, MX_BEFORE_FORK, r->first_step);
        return 1;
    }
    if (mx_run_skipped(r, e->step, &skip)) {
        mx_run_refuse(fx, ev->handle, MX_SKIPPED, skip);
        return 1;
    }
    bad = check_domains(r, e->losses, e->n);
    if (bad < e->n) {
        mx_run_refuse(fx, ev->handle, MX_BAD_DOMAIN, e->losses[bad].domain);
        return 1;
    }
    if (!parts_exist(r, e, ev->handle, fx)) {
        return 1;
    }
    if (wrong_version(r, e)) {
        mx_run_refuse(fx, ev->handle, MX_BAD_VERSION, e->mix_version);
        return 1;
    }
    o = mx_run_find_open(r, e->step);
    o = o != NULL && o->closed ? NULL : o; /* it only waits for its turn */
    if (o == NULL && is_complete(r, e->step)) {
        r->duplicates++;
        mx_run_refuse(fx, ev->handle, MX_DUPLICATE, 0);
    } else if (o == NULL && is_closed(r, e->step)) {
        r->late++;
        mx_run_refuse(fx, ev->handle, MX_LATE, 0);
    } else if (o == NULL && r->open_count == r->open_cap) {
        mx_run_refuse(fx, ev->handle, MX_TOO_MANY_OPEN, r->open_cap);
    } else if (o != NULL && o->world != e->world && !world_changed(r, o, e->world)) {
        mx_run_refuse(fx, ev->handle, MX_BAD_WORLD, o->world);
    } else if (o != NULL && o->world == e->world && bit_get(o->ranks, e->rank)) {
        r->duplicates++;
        mx_run_refuse(fx, ev->handle, MX_DUPLICATE, 0);
    } else {
        return 0;
    }
    return 1;
}

/* Tells of the first value that is left out of a report. */
static void quarantine(struct mx_effect *f, const char *part, uint32_t domain, double value)
{
    if (f->quarantined++ == 0) {
        f->bad_part = part;
        f->bad_domain = domain;
        f->bad_value = value;
    }
}

static void keep_losses(struct mx_run *r, const struct mx_entry *in, struct mx_effect *f)
{
    struct mx_loss_bounds bounds = {r->c.loss_max, mx_run_step_tokens(&r->c, in->step)};
    struct mx_entry *e = &f->entry;

    for (uint32_t i = 0; i < in->n; i++) {
        const struct mx_loss *l = &in->losses[i];

        if (mx_loss_ok(l, &bounds)) {
            r->loss_buffer[e->n++] = *l;
        } else {
            quarantine(f, "train", l->domain,
                       l->tokens > 0 ? l->loss_sum / (double)l->tokens : l->loss_sum);
        }
    }
    e->losses = r->loss_buffer;
}

static void keep_evals(struct mx_run *r, const struct mx_entry *in, struct mx_effect *f)
{
    struct mx_entry *e = &f->entry;

    for (uint32_t i = 0; i < in->n_evals; i++) {
        const struct mx_eval_loss *l = &in->evals[i];

        if (mx_eval_ok(l, r->c.loss_max)) {
            r->eval_buffer[e->n_evals++] = *l;
        } else {
            quarantine(f, "eval", r->eval_first[l->set] + l->member,
                       l->tokens > 0 ? l->loss_sum / (double)l->tokens : l->loss_sum);
        }
    }
    e->evals = r->eval_buffer;
}

static void keep_rewards(struct mx_run *r, const struct mx_entry *in, struct mx_effect *f)
{
    struct mx_entry *e = &f->entry;

    for (uint32_t i = 0; i < in->n_rewards; i++) {
        const struct mx_reward *w = &in->rewards[i];

        if (mx_reward_ok(w)) {
            r->reward_buffer[e->n_rewards++] = *w;
        } else {
            quarantine(f, "reward", w->domain,
                       w->count > 0 ? w->sum / (double)w->count : w->sum);
        }
    }
    e->rewards = r->reward_buffer;
}

/* Inner products belong together, and so do scores: one that is no number keeps all of them out. */
static void keep_whole(const struct mx_entry *in, struct mx_effect *f)
{
    struct mx_entry *e = &f->entry;
    uint32_t bad = 0, row = 0;
    double value;

    if (in->n_gram > 0 && mx_gram_ok(in->gram, in->n_gram, in->lr, &row, &value)) {
        e->n_gram = in->n_gram;
        e->gram_domains = in->gram_domains;
        e->gram = in->gram;
        e->lr = in->lr;
    } else if (in->n_gram > 0) {
        quarantine(f, "grad", in->gram_domains[row], value);
    }
    while (bad < in->n_scores && isfinite(in->scores[bad].score)) {
        bad++;
    }
    if (bad == in->n_scores) {
        e->n_scores = in->n_scores;
        e->scores = in->scores;
    } else {
        quarantine(f, "scores", in->scores[bad].domain, in->scores[bad].score);
    }
}

void mx_run_on_feedback(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    const struct mx_entry *in = ev->entry;
    struct mx_effect *f;
    struct mx_entry *e;

    if (refused(r, ev, fx)) {
        return;
    }
    e = mx_run_append(r, fx, ev->handle, MX_ENTRY_FEEDBACK);
    e->step = in->step;
    e->rank = in->rank;
    e->world = in->world;
    e->flags = in->flags;
    e->mix_version = in->mix_version != 0 ? in->mix_version : mx_run_version_of(r, in->step);
    f = &fx->fx[fx->n - 1];
    keep_losses(r, in, f);
    keep_evals(r, in, f);
    keep_rewards(r, in, f);
    keep_whole(in, f);
    r->quarantined += f->quarantined;
}

/* Closes that one timer may ask for; more follow at once. */
#define CLOSES_MAX (MX_EFFECTS_MAX - 2)

void mx_run_on_timer(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    int asked = 0;

    r->armed_ms = MX_NEVER;
    for (uint32_t i = 0; i < r->open_cap && asked < CLOSES_MAX; i++) {
        struct mx_open_step *o = &r->open[i];

        if (o->used && !o->closed && !o->close_pending && o->deadline_ms <= ev->now_ms) {
            mx_run_append(r, fx, 0, MX_ENTRY_CLOSE)->step = o->step;
            o->close_pending = 1;
            asked++;
        }
    }
    mx_run_want_timer(r, fx);
}

void mx_run_want_timer(struct mx_run *r, struct mx_effects *fx)
{
    uint64_t next = MX_NEVER;

    for (uint32_t i = 0; i < r->open_cap; i++) {
        const struct mx_open_step *o = &r->open[i];

        if (o->used && !o->closed && !o->close_pending && o->deadline_ms < next) {
            next = o->deadline_ms;
        }
    }
    if (next != MX_NEVER && next != r->armed_ms) {
        r->armed_ms = next;
        mx_run_push(fx, MX_FX_ARM, 0)->at_ms = next;
    }
}

static uint64_t deadline(const struct mx_run *r, uint64_t now_ms)
{
    uint64_t most = MX_NEVER - 1 - now_ms;

    if (r->c.feedback_timeout_ms == MX_NEVER) {
        return MX_NEVER;
    }
    return now_ms + (r->c.feedback_timeout_ms < most ? r->c.feedback_timeout_ms : most);
}

void mx_run_rearm(struct mx_run *r, uint64_t now_ms)
{
    for (uint32_t i = 0; i < r->open_cap; i++) {
        r->open[i].deadline_ms = deadline(r, now_ms);
        r->open[i].close_pending = 0;
    }
}

/* ---- entries -------------------------------------------------------------------------------- */

/* Whether the sums can take an entry's values. What quarantines is the config of the day, these are
 * the bounds of the arithmetic. */
static int summable(const struct mx_entry *e)
{
    struct mx_loss_bounds widest = {0x1p14, (uint64_t)1 << 40};
    uint32_t row;
    double bad;

    for (uint32_t i = 0; i < e->n; i++) {
        if (!mx_loss_ok(&e->losses[i], &widest)) {
            return 0;
        }
    }
    for (uint32_t i = 0; i < e->n_evals; i++) {
        if (!mx_eval_ok(&e->evals[i], 0x1p14)) {
            return 0;
        }
    }
    for (uint32_t i = 0; i < e->n_rewards; i++) {
        if (!mx_reward_ok(&e->rewards[i])) {
            return 0;
        }
    }
    return e->n_gram == 0 || mx_gram_ok(e->gram, e->n_gram, e->lr, &row, &bad);
}

/* Adds a report to what the step has so far. */
static void take_report(struct mx_run *r, struct mx_open_step *o, const struct mx_entry *e)
{
    for (uint32_t i = 0; i < e->n; i++) {
        const struct mx_loss *l = &e->losses[i];

        mx_fixed_add(&o->loss[l->domain], l->loss_sum);
        o->tokens[l->domain] += l->tokens;
        o->samples[l->domain] += l->samples;
    }
    for (uint32_t i = 0; i < e->n_evals; i++) {
        uint32_t at = r->eval_first[e->evals[i].set] + e->evals[i].member;

        mx_fixed_add(&o->eval_loss[at], e->evals[i].loss_sum);
        o->eval_tokens[at] += e->evals[i].tokens;
    }
    for (uint32_t i = 0; i < e->n_rewards && r->uses_reward; i++) {
        mx_fixed_add(&o->reward[e->rewards[i].domain], e->rewards[i].sum);
        o->reward_count[e->rewards[i].domain] += e->rewards[i].count;
    }
    if (r->uses_grad && e->n_gram > 0 && (o->n_gram == 0 || e->rank < o->gram_rank)) {
        o->gram_rank = e->rank;
        o->n_gram = e->n_gram;
        o->lr = e->lr;
        memcpy(o->gram_domains, e->gram_domains, e->n_gram * sizeof *o->gram_domains);
        memcpy(o->gram, e->gram,
               (size_t)e->n_gram * (e->n_gram + 1u) / 2u * sizeof *o->gram);
    }
    o->version = e->mix_version > o->version ? e->mix_version : o->version;
    r->evals += e->n_evals;
    r->rewards += e->n_rewards;
    r->grads += e->n_gram > 0;
    r->scores += e->n_scores;
    r->steps_skipped += (e->flags & MX_REPORT_FLAG_SKIPPED) != 0;
    r->nonfinite += (e->flags & MX_REPORT_FLAG_NONFINITE) != 0;
    bit_put(o->ranks, e->rank, 1);
    o->reported++;
    r->accepted++;
}

int mx_run_feedback_apply(struct mx_run *r, const struct mx_entry *e, uint64_t now_ms,
                          struct mx_effects *fx)
{
    struct mx_open_step *o;
    uint64_t skip;

    if (e->world == 0 || e->world > MX_WORLD_MAX || e->rank >= e->world ||
        e->step >= r->frontier || e->step < r->first_step ||
        check_domains(r, e->losses, e->n) < e->n || !parts_exist(r, e, 0, NULL) || !summable(e)) {
        return -1;
    }
    o = mx_run_find_open(r, e->step);
    if (o != NULL ? o->closed
                  : is_closed(r, e->step) || mx_run_skipped(r, e->step, &skip) ||
                        e->step < r->consumed) {
        r->late++;
        return 0;
    }
    if (o == NULL) {
        /* Two in flight may both open a step when there is room for one: the oldest gives way. */
        if (r->open_count == r->open_cap) {
            (void)close_oldest(r);
        }
        o = mx_run_open(r, e->step, e->world);
        o->deadline_ms = deadline(r, now_ms);
    }
    if (o->world != e->world) {
        clear_open(r, o, e->world); /* see world_changed */
    }
    if (bit_get(o->ranks, e->rank)) {
        r->duplicates++;
        return 0;
    }
    take_report(r, o, e);
    fx->counted = 1;
    if (o->reported == o->world) {
        close_step(r, o);
    }
    return 0;
}

void mx_run_close_apply(struct mx_run *r, const struct mx_entry *e)
{
    struct mx_open_step *o = mx_run_find_open(r, e->step);

    if (o != NULL && !o->closed) {
        r->timeouts++;
        close_step(r, o);
    }
}
