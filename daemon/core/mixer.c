/* mixer.c - see mixer.h. Knows policies by their interface alone. */
#include "daemon/core/mixer.h"

#include "daemon/core/check.h"

#include <math.h>
#include <string.h>

/* The block: head; last values of training losses (k), evaluation (m), rewards (k), each only where
 * the policy uses them, NAN where there was none; weights (k); their mean (k); the policy's state. */
struct head {
    double updates; /* observations taken */
    double moves;   /* of these, since the policy's weights first left the prior */
    double clipped, filled, stale, broken;
    double means; /* weights in the mean */
};

#define HEAD (sizeof(struct head) / sizeof(double))

static struct head *head_of(double *state)
{
    return (struct head *)(void *)state;
}

static size_t last_size(const struct mx_policy_conf *p)
{
    return (p->ops->uses_train ? p->k : 0) + (p->ops->uses_eval ? p->m : 0) +
           (p->ops->uses_reward ? p->k : 0);
}

static double *last_train(double *state, const struct mx_policy_conf *p)
{
    return state + HEAD + 2 * (size_t)p->k;
}

static double *last_eval(double *state, const struct mx_policy_conf *p)
{
    return last_train(state, p) + (p->ops->uses_train ? p->k : 0);
}

static double *last_reward(double *state, const struct mx_policy_conf *p)
{
    return last_eval(state, p) + (p->ops->uses_eval ? p->m : 0);
}

static const double *policy_state(const double *state, const struct mx_policy_conf *p)
{
    return state + HEAD + 2 * (size_t)p->k + last_size(p);
}

static double *policy_state_of(double *state, const struct mx_policy_conf *p)
{
    return state + HEAD + 2 * (size_t)p->k + last_size(p);
}

struct mx_guards mx_guards_none(const struct mx_policy_ops *ops)
{
    return (struct mx_guards){.loss_clip = INFINITY, .absent_decay = ops->absent_decay,
                              .stale_discount = 1.0, .stale_max = INFINITY, .max_change = 1.0,
                              .absent = (enum mx_absent)ops->absent};
}

struct mx_guards mx_guards_default(const struct mx_policy_ops *ops)
{
    struct mx_guards g = mx_guards_none(ops);

    g.loss_clip = 20.0; /* over the loss of a model that knows nothing, for every vocabulary */
    return g;
}

size_t mx_mixer_size(const struct mx_mixer_conf *c)
{
    return HEAD + 2 * (size_t)c->policy.k + last_size(&c->policy) +
           c->policy.ops->state_size(&c->policy);
}

#define STATS_DOUBLES (sizeof(struct mx_domain_stats) / sizeof(double))
#define REWARD_DOUBLES (sizeof(struct mx_reward_stats) / sizeof(double))

size_t mx_mixer_scratch(const struct mx_mixer_conf *c)
{
    size_t k = c->policy.k, m = c->policy.m;

    return (k + m) * STATS_DOUBLES + k * REWARD_DOUBLES + 2 * k;
}

static int are_weights(const double *w, uint32_t k)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < k; i++) {
        if (!(w[i] >= 0.0 && w[i] <= 1.0 + 1e-9)) {
            return 0;
        }
        sum += w[i];
    }
    return fabs(sum - 1.0) < 1e-6;
}

void mx_mixer_init(double *state, const struct mx_mixer_conf *c)
{
    const struct mx_policy_conf *p = &c->policy;
    double *last = last_train(state, p), *weights = state + HEAD;

    memset(state, 0, HEAD * sizeof *state);
    for (size_t i = 0; i < last_size(p); i++) {
        last[i] = NAN;
    }
    p->ops->init(policy_state_of(state, p), p);
    p->ops->weights(policy_state(state, p), p, weights);
    if (!are_weights(weights, p->k)) {
        head_of(state)->broken++;
        memcpy(weights, p->prior, p->k * sizeof *weights);
    }
    memcpy(weights + p->k, weights, p->k * sizeof *weights);
}

/* ---- what the policy is shown --------------------------------------------------------------- */

/* What counts for a domain, or a member: *v as it was measured, or, where it was not seen, what its
 * last value makes of it. Whether anything does. */
static int guard_value(struct head *h, const struct mx_guards *g, double worth, double *last,
                       int seen, double *v)
{
    if (seen) {
        /* A stale report moves it from the last one known by a part of the way only. */
        *v = worth < 1.0 && !isnan(*last) ? *last + worth * (*v - *last) : *v;
        *last = *v;
        return 1;
    }
    if (g->absent == MX_ABSENT_SKIP || isnan(*last)) {
        return 0;
    }
    *last *= g->absent == MX_ABSENT_DECAY ? g->absent_decay : 1.0;
    *v = *last;
    h->filled++;
    return 1;
}

static uint32_t guard_losses(struct head *h, const struct mx_guards *g, double worth, uint32_t k,
                             double *last, const struct mx_domain_stats *in, uint32_t n,
                             struct mx_domain_stats *out)
{
    uint32_t at = 0, kept = 0;

    for (uint32_t i = 0; i < k && n > 0; i++) {
        int seen = at < n && in[at].domain == i;
        struct mx_domain_stats *to = &out[kept];

        *to = seen ? in[at++] : (struct mx_domain_stats){.domain = i};
        h->clipped += seen && to->loss > g->loss_clip;
        to->loss = fmin(to->loss, g->loss_clip);
        kept += (uint32_t)guard_value(h, g, worth, &last[i], seen, &to->loss);
    }
    MX_CORE_REQUIRE(at == n);
    return kept;
}

static uint32_t guard_rewards(struct head *h, const struct mx_guards *g, double worth, uint32_t k,
                              double *last, const struct mx_reward_stats *in, uint32_t n,
                              struct mx_reward_stats *out)
{
    uint32_t at = 0, kept = 0;

    for (uint32_t i = 0; i < k && n > 0; i++) {
        int seen = at < n && in[at].domain == i;
        struct mx_reward_stats *to = &out[kept];

        *to = seen ? in[at++] : (struct mx_reward_stats){.domain = i};
        kept += (uint32_t)guard_value(h, g, worth, &last[i], seen, &to->mean);
    }
    MX_CORE_REQUIRE(at == n);
    return kept;
}

/* ---- what comes out ------------------------------------------------------------------------- */

static double largest_change(const double *a, const double *b, uint32_t k)
{
    double most = 0.0;

    for (uint32_t i = 0; i < k; i++) {
        most = fmax(most, fabs(a[i] - b[i]));
    }
    return most;
}

/* The policy's weights through the guards behind it. Whether they have moved. */
static int take_weights(double *state, const struct mx_mixer_conf *c, double *raw)
{
    const struct mx_policy_conf *p = &c->policy;
    struct head *h = head_of(state);
    double *weights = state + HEAD, *mean = weights + p->k, most, kept;
    int moved;

    p->ops->weights(policy_state(state, p), p, raw);
    if (!are_weights(raw, p->k)) {
        h->broken++;
        return 0;
    }
    h->moves += h->moves > 0.0 || memcmp(raw, p->prior, p->k * sizeof *raw) != 0;
    kept = c->guards.prior_decay > 0.0 ? pow(c->guards.prior_decay, h->moves) : 0.0;
    for (uint32_t i = 0; i < p->k && kept > 0.0; i++) {
        raw[i] = kept * p->prior[i] + (1.0 - kept) * raw[i];
    }
    most = largest_change(raw, weights, p->k);
    for (uint32_t i = 0; i < p->k && most > c->guards.max_change; i++) {
        raw[i] = weights[i] + c->guards.max_change / most * (raw[i] - weights[i]);
    }
    moved = memcmp(raw, weights, p->k * sizeof *raw) != 0;
    memcpy(weights, raw, p->k * sizeof *raw);
    h->means++;
    for (uint32_t i = 0; i < p->k; i++) {
        mean[i] += (weights[i] - mean[i]) / h->means;
    }
    return moved;
}

/* Whether it holds something that the policy looks at. A report of nothing at all is a step gone
 * by, which policies of training losses count. */
static int concerns(const struct mx_policy_ops *ops, const struct mx_observation *o)
{
    int nothing = o->n_train == 0 && o->n_eval == 0 && o->n_reward == 0 && o->grad == NULL;

    return (ops->uses_train && (o->n_train > 0 || nothing)) || (ops->uses_eval && o->n_eval > 0) ||
           (ops->uses_reward && o->n_reward > 0) || (ops->uses_grad && o->grad != NULL);
}

int mx_mixer_observe(double *state, const struct mx_mixer_conf *c, const struct mx_observation *o,
                     uint64_t stale, double *scratch)
{
    const struct mx_policy_conf *p = &c->policy;
    const struct mx_policy_ops *ops = p->ops;
    struct mx_domain_stats *train = (struct mx_domain_stats *)(void *)scratch;
    struct mx_domain_stats *eval = train + p->k;
    struct mx_reward_stats *reward = (struct mx_reward_stats *)(void *)(eval + p->m);
    double *raw = (double *)(void *)(reward + p->k);
    struct head *h = head_of(state);
    struct mx_observation seen = {.t = o->t, .mix_version = o->mix_version};
    double worth = stale > 0 ? pow(c->guards.stale_discount, (double)stale) : 1.0;

    if (!ops->adapts || !concerns(ops, o)) {
        return 0;
    }
    if ((double)stale > c->guards.stale_max) {
        h->stale++;
        return 0;
    }
    if (ops->uses_train) {
        seen.n_train = guard_losses(h, &c->guards, worth, p->k, last_train(state, p), o->train,
                                    o->n_train, train);
        seen.train = train;
    }
    if (ops->uses_eval) {
        seen.n_eval = guard_losses(h, &c->guards, worth, p->m, last_eval(state, p), o->eval,
                                   o->n_eval, eval);
        seen.eval = eval;
    }
    if (ops->uses_reward) {
        seen.n_reward = guard_rewards(h, &c->guards, worth, p->k, last_reward(state, p), o->reward,
                                      o->n_reward, reward);
        seen.reward = reward;
    }
    seen.grad = ops->uses_grad ? o->grad : NULL;
    ops->observe(policy_state_of(state, p), p, &seen);
    h->updates++;
    return take_weights(state, c, raw);
}

void mx_mixer_put(double *state, const struct mx_mixer_conf *c, const double *weights)
{
    memcpy(state + HEAD, weights, c->policy.k * sizeof *weights);
}

/* ---- looking -------------------------------------------------------------------------------- */

const double *mx_mixer_weights(const double *state)
{
    return state + HEAD;
}

const double *mx_mixer_mean(const double *state, const struct mx_mixer_conf *c)
{
    return state + HEAD + c->policy.k;
}

void mx_mixer_raw(const double *state, const struct mx_mixer_conf *c, double *ret)
{
    c->policy.ops->weights(policy_state(state, &c->policy), &c->policy, ret);
}

void mx_mixer_explain(const double *state, const struct mx_mixer_conf *c, double *ret)
{
    if (c->policy.ops->n_terms > 0) {
        c->policy.ops->explain(policy_state(state, &c->policy), &c->policy, ret);
    }
}

struct mx_mixer_counts mx_mixer_counts(const double *state)
{
    const struct head *h = (const struct head *)(const void *)state;

    return (struct mx_mixer_counts){(uint64_t)h->updates, (uint64_t)h->clipped,
                                    (uint64_t)h->filled, (uint64_t)h->stale, (uint64_t)h->broken};
}

int mx_mixer_sane(const double *state, const struct mx_mixer_conf *c)
{
    const struct mx_policy_conf *p = &c->policy;
    const double *last = state + HEAD + 2 * (size_t)p->k;

    for (size_t i = 0; i < HEAD; i++) {
        if (!(state[i] >= 0.0 && state[i] <= 0x1p53)) {
            return 0;
        }
    }
    for (size_t i = 0; i < last_size(p); i++) {
        if (isinf(last[i])) { /* NAN: there is none */
            return 0;
        }
    }
    return are_weights(state + HEAD, p->k) && are_weights(state + HEAD + p->k, p->k) &&
           (p->ops->sane == NULL || p->ops->sane(policy_state(state, p), p));
}

/* ---- what only some policies have ----------------------------------------------------------- */

int mx_mixer_wants_work(const double *state, const struct mx_mixer_conf *c)
{
    const struct mx_policy_conf *p = &c->policy;

    return p->ops->wants_work != NULL && p->ops->wants_work(policy_state(state, p), p);
}

size_t mx_mixer_work_size(const struct mx_mixer_conf *c)
{
    return c->policy.ops->work_size != NULL ? c->policy.ops->work_size(&c->policy) : 0;
}

size_t mx_mixer_work_scratch(const struct mx_mixer_conf *c)
{
    return c->policy.ops->work_scratch != NULL ? c->policy.ops->work_scratch(&c->policy) : 0;
}

void mx_mixer_work(const double *state, const struct mx_mixer_conf *c, double *ret, double *scratch)
{
    c->policy.ops->work(policy_state(state, &c->policy), &c->policy, ret, scratch);
}

int mx_mixer_worked(double *state, const struct mx_mixer_conf *c, const double *result,
                    double *scratch)
{
    c->policy.ops->worked(policy_state_of(state, &c->policy), &c->policy, result);
    return take_weights(state, c, scratch);
}

void mx_mixer_in_force(double *state, const struct mx_mixer_conf *c, uint64_t t)
{
    if (c->policy.ops->in_force != NULL) {
        c->policy.ops->in_force(policy_state_of(state, &c->policy), &c->policy, t);
    }
}

uint32_t mx_mixer_requests(const double *state, const struct mx_mixer_conf *c,
                           struct mx_policy_request *ret, uint32_t cap)
{
    const struct mx_policy_conf *p = &c->policy;

    return p->ops->requests != NULL ? p->ops->requests(policy_state(state, p), p, ret, cap) : 0;
}
