/* run_policy.c - what a run's policies are shown of a step, the long computations they ask for, and
 * what its shadows would do. See run.h. Knows nothing of requests, ranks or of how mixes are made.
 *
 * A long computation is asked for whenever a policy's state wants one; what comes back becomes a FIT
 * entry, and the fold takes its values as they are: it never computes them again. So a crash between
 * the two costs the computation alone. In lockstep the run's own policy takes no further step, and
 * no mix is made of the last one, until the FIT is in. */
#include "daemon/core/run_state.h"

#include <math.h>
#include <string.h>

/* ---- showing -------------------------------------------------------------------------------- */

static uint32_t train_of(struct mx_run *r, const struct mx_open_step *o)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->k; i++) {
        if (o->tokens[i] > 0) {
            r->stats[n] = (struct mx_domain_stats){
                i, o->tokens[i], o->samples[i],
                mx_fixed_get(&o->loss[i]) / (double)o->tokens[i]};
            r->loss[i] = r->stats[n].loss;
            r->loss_step[i] = o->step;
            n++;
        }
    }
    return n;
}

/* All sets' members; the statistics hold the member's number in its own set. *ret_first[s] .. are
 * the set's. */
static void evals_of(struct mx_run *r, const struct mx_open_step *o,
                     uint32_t ret_first[MX_EVAL_SETS_MAX + 1])
{
    uint32_t n = 0;

    ret_first[0] = 0;
    for (uint32_t s = 0; s < r->c.n_eval_sets; s++) {
        for (uint32_t i = r->eval_first[s]; i < r->eval_first[s + 1]; i++) {
            if (o->eval_tokens[i] > 0) {
                r->eval_stats[n] = (struct mx_domain_stats){
                    i - r->eval_first[s], o->eval_tokens[i], 0,
                    mx_fixed_get(&o->eval_loss[i]) / (double)o->eval_tokens[i]};
                r->eval_loss[i] = r->eval_stats[n].loss;
                r->eval_step[i] = o->step;
                n++;
            }
        }
        ret_first[s + 1] = n;
    }
}

static uint32_t rewards_of(struct mx_run *r, const struct mx_open_step *o)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->k && r->uses_reward; i++) {
        if (o->reward_count[i] > 0) {
            r->reward_stats[n++] = (struct mx_reward_stats){
                i, o->reward_count[i],
                mx_fixed_get_signed(&o->reward[i]) / (double)o->reward_count[i]};
        }
    }
    return n;
}

/* The full matrix of what was reported as a triangle. */
static int grad_of(struct mx_run *r, const struct mx_open_step *o, struct mx_grad_stats *ret)
{
    uint32_t n = o->n_gram;
    const double *from = o->gram;

    if (!r->uses_grad || n == 0) {
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = i; j < n; j++) {
            r->gram[(size_t)i * n + j] = r->gram[(size_t)j * n + i] = *from++;
        }
    }
    *ret = (struct mx_grad_stats){n, o->gram_domains, r->gram, o->lr};
    return 1;
}

/* The policy has moved: a mix of it is wanted. In lockstep that is one for the step `from`, and
 * none if the policy has no say there. */
static void moved(struct mx_run *r, uint64_t last, uint64_t from)
{
    r->last_moved = last;
    r->policy_wanted = r->c.lag == 0 || mx_schedule_asks_policy(&r->schedule, from);
}

/* Whether what is measured after the step can be of the policy's own weights: from before the first
 * step of a phase in which it has a say to after the last. */
static int has_say(const struct mx_run *r, uint64_t step)
{
    return mx_schedule_asks_policy(&r->schedule, step) ||
           mx_schedule_asks_policy(&r->schedule, step + 1);
}

/* How many mixes were made since the one that a step was planned under. Those that the schedule has
 * for later steps don't count: made ahead, they say nothing of how old a report is. */
static uint64_t staleness(const struct mx_run *r, const struct mx_open_step *o)
{
    uint64_t stale = o->version > 0 && r->versions > o->version ? r->versions - o->version : 0;
    uint64_t at = mx_schedule_next(&r->schedule, o->step);

    for (; stale > 0 && at <= r->point; at = mx_schedule_next(&r->schedule, at)) {
        stale--;
    }
    return stale;
}

void mx_run_show(struct mx_run *r, const struct mx_open_step *o)
{
    uint32_t first[MX_EVAL_SETS_MAX + 1];
    struct mx_grad_stats grad;
    struct mx_observation seen = {.t = o->step + 1, .mix_version = o->version};
    uint64_t stale = staleness(r, o);

    seen.train = r->stats;
    seen.n_train = train_of(r, o);
    evals_of(r, o, first);
    seen.reward = r->reward_stats;
    seen.n_reward = rewards_of(r, o);
    seen.grad = grad_of(r, o, &grad) ? &grad : NULL;
    if (seen.n_train + first[r->c.n_eval_sets] + seen.n_reward == 0 && seen.grad == NULL) {
        return; /* quarantine left nothing of it: the last good mix stays */
    }
    for (uint32_t i = 0; i < r->c.n_mixers; i++) {
        struct mx_mixer *m = &r->mixers[i];
        uint32_t set = m->conf.eval_set;
        int changed;

        if (i == 0 && m->conf.policy.ops->in_force != NULL && !has_say(r, o->step)) {
            continue; /* what it prescribes is not what was trained */
        }
        seen.n_eval = set < r->c.n_eval_sets ? first[set + 1] - first[set] : 0;
        seen.eval = set < r->c.n_eval_sets ? r->eval_stats + first[set] : NULL;
        changed = mx_mixer_observe(m->state, &m->conf, &seen, stale, r->mixer_scratch);
        if (i == 0 && changed) {
            moved(r, o->step, o->step + r->c.lag);
        }
    }
}

/* Whether a step's evaluation won't come any more: later steps are through. */
static int is_missed(const struct mx_run *r, uint64_t step)
{
    for (uint32_t i = 0; i < r->open_cap; i++) {
        if (r->open[i].used && r->open[i].step == step) {
            return 0;
        }
    }
    return step < r->highest_closed;
}

/* How many steps are asked for again: more than are served ahead of reports. */
#define MISSED_ASKED 64u

/* A shadow has no say in what trainers do. */
uint32_t mx_run_requests(const struct mx_run *r, uint64_t *ret_steps, uint32_t cap)
{
    struct mx_policy_request asked[8];
    uint32_t n = mx_mixer_requests(r->mixers[0].state, &r->mixers[0].conf, asked, 8), kept = 0;
    uint64_t last = 0, again = 0;
    int missed = n > 0;

    for (uint32_t i = 0; i < n; i++) {
        last = asked[i].eval_after - 1; /* a policy numbers steps from 1 */
        again = asked[i].again;
        missed = missed && is_missed(r, last);
        if (kept < cap && has_say(r, last)) {
            ret_steps[kept++] = last;
        }
    }
    if (!missed || again == 0) {
        return kept;
    }
    last += (r->highest_closed - last) / again * again;
    kept = 0;
    for (uint32_t i = 0; i < MISSED_ASKED && kept < cap; i++) {
        last += again;
        if (has_say(r, last)) {
            ret_steps[kept++] = last;
        }
    }
    return kept;
}

const struct mx_mixer_conf *mx_run_mixer(const struct mx_run *r, uint32_t mixer)
{
    MX_CORE_REQUIRE(mixer < r->c.n_mixers);
    return &r->mixers[mixer].conf;
}

const double *mx_run_mixer_state(const struct mx_run *r, uint32_t mixer)
{
    MX_CORE_REQUIRE(mixer < r->c.n_mixers);
    return r->mixers[mixer].state;
}

/* ---- long computations ---------------------------------------------------------------------- */

int mx_run_working(const struct mx_run *r)
{
    return mx_mixer_wants_work(r->mixers[0].state, &r->mixers[0].conf);
}

void mx_run_forget_work(struct mx_run *r)
{
    for (uint32_t i = 0; i < r->c.n_mixers; i++) {
        r->mixers[i].working = 0;
        r->mixers[i].fitting = 0;
    }
}

void mx_run_drop_work(struct mx_run *r, uint64_t handle)
{
    for (uint32_t i = 0; i < r->c.n_mixers; i++) {
        r->mixers[i].working = r->mixers[i].working == handle ? 0 : r->mixers[i].working;
    }
}

/* Asked for at once; more follow with the next entries. */
#define WORKS_MAX 3u

void mx_run_want_work(struct mx_run *r, struct mx_effects *fx)
{
    uint32_t asked = 0;

    for (uint32_t i = 0; i < r->c.n_mixers && asked < WORKS_MAX && r->created; i++) {
        struct mx_mixer *m = &r->mixers[i];

        if (m->working == 0 && !m->fitting && mx_mixer_wants_work(m->state, &m->conf)) {
            m->working = ++r->work_handle;
            mx_run_push(fx, MX_FX_WORK, m->working)->u[0] = i;
            asked++;
        }
    }
}

void mx_run_on_worked(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    for (uint32_t i = 0; i < r->c.n_mixers; i++) {
        struct mx_mixer *m = &r->mixers[i];
        struct mx_entry *e;

        if (ev->handle == 0 || m->working != ev->handle) {
            continue; /* else it is of a state that is gone */
        }
        m->working = 0;
        if (ev->entry->n_values != mx_mixer_work_size(&m->conf)) {
            return; /* it failed: it is asked for again with the next entry or request */
        }
        memcpy(r->fit_buffer, ev->entry->values, ev->entry->n_values * sizeof *r->fit_buffer);
        m->fitting = 1;
        e = mx_run_append(r, fx, 0, MX_ENTRY_FIT);
        e->step = r->highest_closed;
        e->domain = i;
        e->values = r->fit_buffer;
        e->n_values = ev->entry->n_values;
        return;
    }
}

int mx_run_fit_apply(struct mx_run *r, const struct mx_entry *e)
{
    struct mx_mixer *m;

    if (e->domain >= r->c.n_mixers) {
        return -1;
    }
    m = &r->mixers[e->domain];
    if (e->n_values == 0 || e->n_values != mx_mixer_work_size(&m->conf)) {
        return -1;
    }
    m->fitting = 0;
    if (mx_mixer_worked(m->state, &m->conf, e->values, r->mixer_scratch) && e->domain == 0) {
        moved(r, r->last_closed, r->consumed + r->c.lag - 1);
    }
    mx_run_consume(r);
    return 0;
}

/* ---- shadows -------------------------------------------------------------------------------- */

void mx_run_would(struct mx_run *r, uint32_t mixer, uint64_t *ret_shares)
{
    double *projected = r->limit_scratch + 4 * (size_t)r->k;

    MX_CORE_REQUIRE(mixer < r->c.n_mixers);
    mx_limits_project(mx_schedule_limits(&r->schedule, r->frontier),
                      mx_mixer_weights(r->mixers[mixer].state), r->k, projected, r->limit_scratch);
    mx_shares_quantise(projected, r->k, ret_shares, r->share_scratch);
}

void mx_run_want_shadow(struct mx_run *r, struct mx_effects *fx)
{
    uint32_t n = r->c.n_mixers - 1;
    struct mx_entry *e;

    if (n == 0 || !r->created || r->pending_shadow || r->steps_closed == 0 ||
        (r->shadow_at > 0 && r->highest_closed - (r->shadow_at - 1) < r->c.shadow_steps)) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        const double *w = mx_mixer_weights(r->mixers[i + 1].state);

        memcpy(r->shadow_weights + (size_t)i * r->k, w, r->k * sizeof *w);
        mx_run_would(r, i + 1, r->shadow_shares + (size_t)i * r->k);
    }
    r->pending_shadow = 1;
    e = mx_run_append(r, fx, 0, MX_ENTRY_SHADOW);
    e->step = r->highest_closed;
    e->n = n;
    e->shares = r->shadow_shares;
    e->weights = r->shadow_weights;
}

int mx_run_shadow_apply(struct mx_run *r, const struct mx_entry *e)
{
    r->pending_shadow = 0;
    if (e->n != r->c.n_mixers - 1 || e->n == 0 || e->step >= r->frontier) {
        return -1;
    }
    r->shadow_at = e->step + 1;
    return 0;
}
