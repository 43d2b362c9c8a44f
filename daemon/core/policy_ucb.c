/* policy_ucb.c - DUMP: an upper confidence bound on how much is to be learned from each domain.
 *
 * Wang, Cui, Li, Wan and Zhao, "DUMP: Automated Distribution-Level Curriculum Learning for RL-based
 * LLM Post-training", 2025 (arXiv 2504.09710). Rewards are |advantage| of rollouts. After each
 * report
 *     score_i = mean reward of the last `window` samples of i
 *               + exploration sqrt(2 ln(N + 1) / (n_i + 1))
 *     p       = softmax(score / temperature)
 * n_i: samples of i so far (all, not only those in the window), N their sum over the domains. The
 * mean of a domain never seen is 0. Weights don't depend on the prior after the first report.
 *
 * A report is a mean over `count` samples. Each domain keeps its last reports in a ring; of the
 * oldest of them as many samples count as the window still has room for. With one sample a report,
 * or reports that the window is a multiple of, that is exact; else the oldest report's samples
 * count as their mean. A ring holds `chunks` reports: where the window would need more, the two
 * oldest become one. So memory is K (5 + 2 chunks) doubles, whatever the window, and at most 2^21
 * (16 MiB).
 *
 * Traps. What is reported must be the mean of |advantage|: that of the advantage itself is about 0
 * for every domain. The authors' code feeds validation too, with plain rewards in place of
 * advantages. What a guard fills in for a domain that wasn't seen (hold, decay) is no sample and
 * isn't taken: the window holds by itself. */
#include "daemon/core/clash.h"
#include "daemon/core/policies.h"
#include "daemon/core/softmax.h"
#include "proto/limits.h"

#include <math.h>
#include <string.h>

enum { WINDOW, TEMPERATURE, EXPLORATION, CHUNKS };

static const struct mx_policy_param ucb_params[] = {
    [WINDOW] = {"window", 300, 1, 1e9, MX_PARAM_INTEGER,
                "samples of a domain that its mean is over", NULL},
    [TEMPERATURE] = {"temperature", 0.1, 1e-3, 1e6, MX_PARAM_NUMBER,
                     "what a score is divided by", NULL},
    [EXPLORATION] = {"exploration", 1, 0, 1e6, MX_PARAM_NUMBER,
                     "what the bonus is multiplied by", NULL},
    [CHUNKS] = {"chunks", 32, 2, 4096, MX_PARAM_INTEGER,
                "reports of a domain that are kept apart", NULL},
};

/* The block: N; then for each domain this head, means and counts of its ring (chunks each); p (k).
 * */
struct arm {
    double n;     /* samples so far */
    double mean;  /* of the window */
    double held;  /* samples in the ring */
    double first; /* place of the oldest report */
    double used;  /* reports in the ring */
};

#define ARM (sizeof(struct arm) / sizeof(double))

static uint32_t chunks_of(const struct mx_policy_conf *c)
{
    return (uint32_t)c->params[CHUNKS];
}

static size_t stride(const struct mx_policy_conf *c)
{
    return ARM + 2 * (size_t)chunks_of(c);
}

static struct arm *arm_at(double *state, const struct mx_policy_conf *c, uint32_t domain)
{
    return (struct arm *)(void *)(state + 1 + domain * stride(c));
}

static const struct arm *arm_of(const double *state, const struct mx_policy_conf *c,
                                uint32_t domain)
{
    return (const struct arm *)(const void *)(state + 1 + domain * stride(c));
}

static size_t p_at(const struct mx_policy_conf *c)
{
    return 1 + c->k * stride(c);
}

static const char *ucb_check(const struct mx_policy_conf *c, char *text, size_t cap)
{
    uint64_t numbers[] = {chunks_of(c), c->k, c->k * stride(c), MX_POLICY_STATE_MAX};

    return numbers[2] <= MX_POLICY_STATE_MAX
               ? NULL
               : mx_clash(text, cap, "chunks: # for each of # domains make # numbers, over the # "
                          "that a policy may keep", numbers);
}

static size_t ucb_size(const struct mx_policy_conf *c)
{
    return p_at(c) + c->k;
}

static void ucb_init(double *state, const struct mx_policy_conf *c)
{
    memset(state, 0, p_at(c) * sizeof *state);
    memcpy(state + p_at(c), c->prior, c->k * sizeof *c->prior);
}

/* ---- a ring --------------------------------------------------------------------------------- */

struct ring {
    struct arm *arm;
    double *means, *counts;
    uint32_t cap;
};

static struct ring ring_at(double *state, const struct mx_policy_conf *c, uint32_t domain)
{
    struct arm *arm = arm_at(state, c, domain);
    double *chunks = (double *)(void *)(arm + 1);

    return (struct ring){arm, chunks, chunks + chunks_of(c), chunks_of(c)};
}

/* Place of the i-th report from the oldest. */
static uint32_t place(const struct ring *r, uint32_t i)
{
    uint32_t at = (uint32_t)r->arm->first + i;

    return at < r->cap ? at : at - r->cap;
}

static void drop_oldest(struct ring *r)
{
    r->arm->held -= r->counts[place(r, 0)];
    r->arm->first = place(r, 1);
    r->arm->used--;
}

/* The second oldest takes in the oldest. */
static void merge_oldest(struct ring *r)
{
    uint32_t a = place(r, 0), b = place(r, 1);
    double both = r->counts[a] + r->counts[b];

    r->means[b] += (r->means[a] - r->means[b]) * (r->counts[a] / both);
    r->counts[b] = both;
    r->arm->first = b;
    r->arm->used--;
}

static double window_mean(const struct ring *r, double window)
{
    double sum = 0.0, room = fmin(window, r->arm->held), left = room;
    uint32_t used = (uint32_t)r->arm->used, at = place(r, used - 1);

    for (uint32_t i = 0; i < used; i++) {
        double count = r->counts[at] < left ? r->counts[at] : left;

        sum += count * r->means[at];
        left -= count;
        at = (at > 0 ? at : r->cap) - 1;
    }
    return sum / room;
}

static void take(struct ring *r, double window, double mean, double count)
{
    double counts = fmin(count, window);

    while (r->arm->used > 0.0 && r->arm->held - r->counts[place(r, 0)] + counts >= window) {
        drop_oldest(r);
    }
    if ((uint32_t)r->arm->used == r->cap) {
        merge_oldest(r);
    }
    r->means[place(r, (uint32_t)r->arm->used)] = mean;
    r->counts[place(r, (uint32_t)r->arm->used)] = counts;
    r->arm->used++;
    r->arm->held += counts;
    r->arm->n += count;
    r->arm->mean = window_mean(r, window);
}

/* ---- the policy ----------------------------------------------------------------------------- */

static double bonus(const struct mx_policy_conf *c, double all, const struct arm *arm)
{
    return c->params[EXPLORATION] * sqrt(2.0 * log(all + 1.0) / (arm->n + 1.0));
}

static void ucb_observe(double *state, const struct mx_policy_conf *c,
                        const struct mx_observation *o)
{
    double *p = state + p_at(c);
    uint32_t taken = 0;

    for (uint32_t i = 0; i < o->n_reward; i++) {
        struct ring r = ring_at(state, c, o->reward[i].domain);

        if (o->reward[i].count > 0) {
            take(&r, c->params[WINDOW], o->reward[i].mean, (double)o->reward[i].count);
            state[0] += (double)o->reward[i].count;
            taken++;
        }
    }
    if (taken == 0) {
        return;
    }
    for (uint32_t i = 0; i < c->k; i++) {
        const struct arm *arm = arm_at(state, c, i);

        p[i] = (arm->mean + bonus(c, state[0], arm)) / c->params[TEMPERATURE];
    }
    mx_softmax(p, c->k, p);
}

static void ucb_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + p_at(c), c->k * sizeof *ret);
}

static void ucb_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    for (uint32_t i = 0; i < c->k; i++) {
        const struct arm *arm = arm_of(state, c, i);

        ret[i] = arm->n > 0.0 ? arm->mean : NAN;
        ret[c->k + i] = bonus(c, state[0], arm);
    }
}

static int is_place(double v, double max)
{
    return v >= 0.0 && v <= max && v == floor(v);
}

static int ucb_sane(const double *state, const struct mx_policy_conf *c)
{
    for (uint32_t i = 0; i < c->k; i++) {
        const struct arm *arm = arm_of(state, c, i);
        const double *counts = (const double *)(const void *)(arm + 1) + chunks_of(c);
        double held = 0.0;

        if (!is_place(arm->first, chunks_of(c) - 1.0) || !is_place(arm->used, chunks_of(c)) ||
            !(arm->n >= 0.0) || (arm->n > 0.0) != (arm->used > 0.0)) {
            return 0;
        }
        for (uint32_t j = 0; j < (uint32_t)arm->used; j++) {
            double count = counts[((uint32_t)arm->first + j) % chunks_of(c)];

            if (!(count > 0.0 && count <= 0x1p53)) {
                return 0;
            }
            held += count;
        }
        if (held != arm->held) {
            return 0;
        }
    }
    return 1;
}

const struct mx_policy_ops mx_policy_ucb = {
    .name = "ucb",
    .what = "DUMP: softmax of an upper confidence bound on each domain's mean reward",
    .params = ucb_params,
    .n_params = sizeof ucb_params / sizeof ucb_params[0],
    .uses_reward = 1,
    .adapts = 1,
    .check = ucb_check,
    .state_size = ucb_size,
    .init = ucb_init,
    .observe = ucb_observe,
    .weights = ucb_weights,
    .n_terms = 2,
    .terms = {"reward", "exploration"},
    .explain = ucb_explain,
    .sane = ucb_sane,
};
