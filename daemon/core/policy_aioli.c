/* policy_aioli.c - Aioli: in every round, short bursts on mixtures that each favour one domain
 * measure which domain lowers whose loss; the rest of the round is trained on what follows.
 *
 * Chen, Hu, Lourie, Cho and Re, "Aioli: A Unified Optimization Framework for Language Model Data
 * Mixing", 2024 (arXiv 2411.05735), as their code computes it. It prescribes: while it sweeps, its
 * weights are the mixture of a burst, and it asks for the evaluations that it needs. A round:
 *     lp_rounds times, over all domains j in a random order: lp_steps steps on the mixture that has
 *     one_hot_factor = o of j and b = (1 - o) / (K - 1) of each other;
 *     D_ij += loss of i before - loss of i after   (nats)
 *     A = D / lp_rounds; row by row solve W a = D_i, W the matrix of the mixtures: with
 *         W = (o - b) I + b J, whose rows sum to 1:   a_j = (D_ij - b sum_l D_il) / (o - b)
 *     (`diagonal`: A_ii = D_ii / o and nothing else)
 *     normalize: minus its smallest entry if that is negative, then divided by the sum of all
 *     A <- ema A_old + (1 - ema) A, the first as it is;  p ~ prior exp(eta colsum A)
 *     `accumulate`, the paper's form: no averaging, and w <- w exp(eta colsum A) over the rounds
 *     p for the rest of the round's update_steps
 * The prior stands where theirs starts from uniform weights. Member i of the eval set is domain i.
 *
 * Whatever lies between a decision and the step from which it is in force is no part of a burst: a
 * burst is measured from an evaluation under its mixture (or after the step before it) to the one
 * exactly lp_steps later; what is trained in between under an old mixture lengthens the round. An
 * evaluation that wasn't asked for changes nothing. If one that was asked for doesn't come, the
 * burst (or the rest of the round) is held; the next whole evaluation begins its measurement anew.
 *
 * Traps. What stands between these weights and the sampler (limits, max_change, prior_decay) bends
 * the bursts, and A with them. The sweeps cost lp_rounds lp_steps K steps of every round. A that
 * sums to 1 bounds max p / min p by e^eta where it isn't accumulated: at the authors' settings,
 * weights hardly move. State: 2 K^2 numbers, so K is limited. */
#include "daemon/core/clash.h"
#include "daemon/core/policies.h"
#include "daemon/core/rng.h"

#include <math.h>
#include <string.h>

enum {
    LP_ROUNDS, LP_STEPS, UPDATE_STEPS, ETA, EMA, ACCUMULATE, ONE_HOT, NORMALIZE, DIAGONAL, SEED,
};

#define K_MAX 256u

static const struct mx_policy_param aioli_params[] = {
    [LP_ROUNDS] = {"lp_rounds", 4, 1, 1e4, MX_PARAM_INTEGER, "sweeps over all domains in a round",
                   NULL},
    [LP_STEPS] = {"lp_steps", 4, 1, 1e6, MX_PARAM_INTEGER, "steps of a burst", NULL},
    [UPDATE_STEPS] = {"update_steps", 1000, 1, 1e12, MX_PARAM_INTEGER,
                      "steps of a round, bursts and rest", NULL},
    [ETA] = {"eta", 0.2, 0, 1e3, MX_PARAM_NUMBER, "how sharply weights follow", NULL},
    [EMA] = {"ema", 0.1, 0, 1, MX_PARAM_NUMBER, "how much of the old matrix stays", NULL},
    [ACCUMULATE] = {"accumulate", 0, 0, 1, MX_PARAM_SWITCH,
                    "rounds multiply the weights; ema isn't used", NULL},
    [ONE_HOT] = {"one_hot_factor", 0.75, 0, 1, MX_PARAM_NUMBER,
                 "share of its own domain in a burst; over 1/K", NULL},
    [NORMALIZE] = {"normalize", 1, 0, 1, MX_PARAM_SWITCH, "the matrix is made to sum to 1", NULL},
    [DIAGONAL] = {"diagonal", 0, 0, 1, MX_PARAM_SWITCH, "only what a domain does for itself", NULL},
    [SEED] = {"seed", 0, 0, 0x1p53, MX_PARAM_INTEGER, "of the order of bursts", NULL},
};

/* The block: this, the order of the present sweep (k), losses of the last evaluation kept (k), sums
 * of D (k x k), A (k x k), ln w (k), column sums of A (k). */
struct head {
    double sweeping; /* 1: the weights are a burst's; 0: those of the rest of a round */
    double round;    /* done */
    double lp;       /* sweeps done in this round */
    double burst;    /* bursts done in this sweep */
    double from;     /* the first step under the present weights, 0: not known yet */
    double at;       /* the step after which the losses kept were measured */
    double begun;    /* they are the burst's losses before */
    double next;     /* of the rest: the step whose evaluation begins a round; 0: not known */
};

#define HEAD (sizeof(struct head) / sizeof(double))

struct view {
    struct head *head;
    double *order, *losses, *d, *a, *log_w, *columns;
};

static struct view view_of(double *state, uint32_t k)
{
    size_t kk = (size_t)k * k;
    double *order = state + HEAD, *d = order + 2 * k, *log_w = d + 2 * kk;

    return (struct view){(struct head *)(void *)state, order, order + k, d, d + kk, log_w,
                         log_w + k};
}

static size_t aioli_state_size(const struct mx_policy_conf *c)
{
    return HEAD + 4 * (size_t)c->k + 2 * (size_t)c->k * c->k;
}

static double sweep_steps(const struct mx_policy_conf *c)
{
    return c->params[LP_ROUNDS] * c->params[LP_STEPS] * c->k;
}

static const char *aioli_check(const struct mx_policy_conf *c, char *text, size_t cap)
{
    uint64_t n[3] = {c->k, c->m, 0};

    if (c->k != c->m) {
        return mx_clash(text, cap, "eval set: # domains but # members: one each is needed", n);
    }
    if (c->k > K_MAX) {
        n[1] = K_MAX;
        return mx_clash(text, cap, "aioli: # domains, at most # are possible", n);
    }
    if (c->k > 1 && c->params[ONE_HOT] * c->k < 1.001) {
        return mx_clash(text, cap, "one_hot_factor: not over 1/# for # domains", n);
    }
    if (c->params[UPDATE_STEPS] <= sweep_steps(c)) {
        n[1] = (uint64_t)sweep_steps(c);
        n[2] = (uint64_t)c->params[UPDATE_STEPS];
        return mx_clash(text, cap, "update_steps: the bursts of # domains take #, not under #", n);
    }
    return NULL;
}

/* ---- bursts --------------------------------------------------------------------------------- */

static void new_order(const struct view *v, const struct mx_policy_conf *c)
{
    uint64_t sweep = (uint64_t)(v->head->round * c->params[LP_ROUNDS] + v->head->lp);

    for (uint32_t i = 0; i < c->k; i++) {
        v->order[i] = i;
    }
    for (uint32_t i = c->k - 1; i > 0; i--) {
        uint64_t r = mx_rand64((uint64_t)c->params[SEED], MX_STREAM_SWEEP, sweep, i);
        uint32_t j = (uint32_t)(r % (i + 1));
        double swap = v->order[i];

        v->order[i] = v->order[j];
        v->order[j] = swap;
    }
}

static uint32_t burst_domain(const struct view *v)
{
    return (uint32_t)v->order[(size_t)v->head->burst];
}

static double others_share(const struct mx_policy_conf *c)
{
    return c->k > 1 ? (1.0 - c->params[ONE_HOT]) / (c->k - 1.0) : 0.0;
}

static void keep_losses(const struct view *v, const struct mx_observation *o)
{
    for (uint32_t i = 0; i < o->n_eval; i++) {
        v->losses[i] = o->eval[i].loss;
    }
    v->head->at = (double)o->t;
}

static void aioli_init(double *state, const struct mx_policy_conf *c)
{
    struct view v = view_of(state, c->k);

    memset(state, 0, aioli_state_size(c) * sizeof *state);
    for (uint32_t i = 0; i < c->k; i++) {
        v.log_w[i] = log(c->prior[i]);
    }
    v.head->next = 1.0;
}

static void begin_round(const struct view *v, const struct mx_policy_conf *c)
{
    v->head->sweeping = 1.0;
    v->head->lp = v->head->burst = v->head->from = v->head->begun = v->head->next = 0.0;
    memset(v->d, 0, (size_t)c->k * c->k * sizeof *v->d);
    new_order(v, c);
}

/* ---- a round's end -------------------------------------------------------------------------- */

/* A row of A from a row of D, in its place. */
static void solve_row(const struct mx_policy_conf *c, uint32_t i, double *row)
{
    double b = others_share(c), sum = 0.0;

    for (uint32_t j = 0; j < c->k; j++) {
        row[j] /= c->params[LP_ROUNDS];
        sum += row[j];
    }
    for (uint32_t j = 0; j < c->k; j++) {
        if (c->params[DIAGONAL] != 0.0) {
            row[j] = i == j ? row[j] / c->params[ONE_HOT] : 0.0;
        } else {
            row[j] = (row[j] - b * sum) / (c->params[ONE_HOT] - b);
        }
    }
}

static void normalise(double *a, size_t n)
{
    double least = 0.0, sum = 0.0;

    for (size_t i = 0; i < n; i++) {
        least = fmin(least, a[i]);
    }
    for (size_t i = 0; i < n; i++) {
        a[i] -= least;
        sum += a[i];
    }
    for (size_t i = 0; i < n && sum > 0.0; i++) {
        a[i] /= sum;
    }
}

static void end_round(const struct view *v, const struct mx_policy_conf *c)
{
    size_t kk = (size_t)c->k * c->k;
    int accumulate = c->params[ACCUMULATE] != 0.0;
    double old = accumulate || v->head->round == 0.0 ? 0.0 : c->params[EMA], largest = -INFINITY;

    for (uint32_t i = 0; i < c->k; i++) {
        solve_row(c, i, v->d + (size_t)i * c->k);
    }
    if (c->params[NORMALIZE] != 0.0) {
        normalise(v->d, kk);
    }
    for (size_t i = 0; i < kk; i++) {
        v->a[i] = old * v->a[i] + (1.0 - old) * v->d[i];
    }
    for (uint32_t j = 0; j < c->k; j++) {
        v->columns[j] = 0.0;
        for (uint32_t i = 0; i < c->k; i++) {
            v->columns[j] += v->a[(size_t)i * c->k + j];
        }
        v->log_w[j] = (accumulate ? v->log_w[j] : log(c->prior[j])) +
                      c->params[ETA] * v->columns[j];
        largest = fmax(largest, v->log_w[j]);
    }
    for (uint32_t j = 0; j < c->k; j++) {
        v->log_w[j] -= largest;
    }
    v->head->sweeping = v->head->from = v->head->next = 0.0;
    v->head->round++;
}

/* The burst has its losses before and after. */
static void end_burst(const struct view *v, const struct mx_policy_conf *c,
                      const struct mx_observation *o)
{
    uint32_t domain = burst_domain(v);
    struct head *h = v->head;

    for (uint32_t i = 0; i < c->k; i++) {
        v->d[(size_t)i * c->k + domain] += v->losses[i] - o->eval[i].loss;
    }
    if (++h->burst == c->k) {
        h->burst = 0.0;
        if (++h->lp == c->params[LP_ROUNDS]) {
            end_round(v, c);
            return;
        }
        new_order(v, c);
    }
    keep_losses(v, o);
    h->begun = h->from = 0.0;
}

static void aioli_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    const struct head *h = (const struct head *)(const void *)state;
    const double *order = state + HEAD, *log_w = order + 2 * c->k + 2 * (size_t)c->k * c->k;
    double largest = -INFINITY, sum = 0.0;

    if (h->sweeping != 0.0) {
        for (uint32_t i = 0; i < c->k; i++) {
            ret[i] = others_share(c);
        }
        ret[(size_t)order[(size_t)h->burst]] = c->params[ONE_HOT];
        return;
    }
    for (uint32_t i = 0; i < c->k; i++) {
        largest = fmax(largest, log_w[i]);
    }
    for (uint32_t i = 0; i < c->k; i++) {
        ret[i] = exp(log_w[i] - largest);
        sum += ret[i];
    }
    for (uint32_t i = 0; i < c->k; i++) {
        ret[i] /= sum;
    }
}

static void aioli_in_force(double *state, const struct mx_policy_conf *c, uint64_t t)
{
    struct head *h = (struct head *)(void *)state;

    if (h->sweeping != 0.0 && h->from == 0.0) {
        h->from = (double)t;
        h->begun = h->at == h->from - 1.0;
    } else if (h->sweeping == 0.0 && h->next == 0.0) {
        h->from = (double)t;
        h->next = h->from + (c->params[UPDATE_STEPS] - sweep_steps(c)) - 1.0;
    }
}

static void take_losses(const struct view *v, const struct mx_policy_conf *c,
                        const struct mx_observation *o)
{
    struct head *h = v->head;
    double t = (double)o->t;

    if (h->sweeping == 0.0) {
        if (h->next > 0.0 && t >= h->next) {
            begin_round(v, c);
            keep_losses(v, o);
        }
    } else if (h->from == 0.0) {
        keep_losses(v, o); /* maybe the step before the burst's first */
    } else if (h->begun == 0.0 ? t >= h->from - 1.0 : t > h->at + c->params[LP_STEPS]) {
        keep_losses(v, o);
        h->begun = 1.0;
    } else if (h->begun != 0.0 && t == h->at + c->params[LP_STEPS]) {
        end_burst(v, c, o);
    }
}

static void aioli_observe(double *state, const struct mx_policy_conf *c,
                          const struct mx_observation *o)
{
    struct view v = view_of(state, c->k);
    double known = v.head->from + v.head->next, before[K_MAX], after[K_MAX];

    if (c->k == 1 || o->n_eval != c->k) {
        return;
    }
    aioli_weights(state, c, before);
    take_losses(&v, c, o);
    aioli_weights(state, c, after);
    /* The same weights again make no new mix, of which it would be told: they are in force. */
    if (known > 0.0 && v.head->from + v.head->next == 0.0 &&
        memcmp(before, after, c->k * sizeof *after) == 0) {
        aioli_in_force(state, c, o->t + 1);
    }
}

static uint32_t aioli_requests(const double *state, const struct mx_policy_conf *c,
                               struct mx_policy_request *ret, uint32_t cap)
{
    const struct head *h = (const struct head *)(const void *)state;
    double after[2];
    uint32_t n = 0, kept = 0;

    if (h->sweeping == 0.0) {
        after[n++] = h->next;
    } else if (h->from > 0.0) {
        if (h->begun == 0.0) {
            after[n++] = h->from - 1.0;
        }
        after[n++] = (h->begun != 0.0 ? h->at : h->from - 1.0) + c->params[LP_STEPS];
    }
    for (uint32_t i = 0; i < n && kept < cap && c->k > 1; i++) {
        if (after[i] >= 1.0) {
            ret[kept++] = (struct mx_policy_request){.eval_after = (uint64_t)after[i],
                                                     .again = (uint64_t)c->params[LP_STEPS]};
        }
    }
    return kept;
}

/* ---- looking -------------------------------------------------------------------------------- */

static void aioli_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    size_t at = aioli_state_size(c) - c->k;

    memcpy(ret, state + at, c->k * sizeof *ret);
}

static int aioli_sane(const double *state, const struct mx_policy_conf *c)
{
    const struct head *h = (const struct head *)(const void *)state;

    for (size_t i = 0; i < HEAD + c->k; i++) {
        if (!(state[i] >= 0.0 && state[i] <= 0x1p53 && floor(state[i]) == state[i]) ||
            (i >= HEAD && state[i] >= c->k)) {
            return 0;
        }
    }
    return h->burst < c->k && h->lp <= c->params[LP_ROUNDS] - h->sweeping && h->sweeping <= 1.0 &&
           h->round <= 0x1p48; /* its sweeps are counted in 64 bits */
}

double *mx_aioli_order(double *state)
{
    return state + HEAD;
}

const struct mx_policy_ops mx_policy_aioli = {
    .name = "aioli",
    .what = "Aioli: bursts that favour one domain measure what helps whom; asks for evaluations",
    .params = aioli_params,
    .n_params = sizeof aioli_params / sizeof aioli_params[0],
    .uses_eval = 1,
    .adapts = 1,
    .check = aioli_check,
    .state_size = aioli_state_size,
    .init = aioli_init,
    .observe = aioli_observe,
    .weights = aioli_weights,
    .n_terms = 1,
    .terms = {"estimate"},
    .explain = aioli_explain,
    .sane = aioli_sane,
    .in_force = aioli_in_force,
    .requests = aioli_requests,
};
