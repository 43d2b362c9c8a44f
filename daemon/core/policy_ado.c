/* policy_ado.c - Adaptive Data Optimization: domains whose scaling law says that they are still
 * learned from get more.
 *
 * Jiang, Zhou, Feng, Malladi and Kolter, "Adaptive Data Optimization: Dynamic Sample Selection with
 * Scaling Laws", 2024 (arXiv 2410.11820), as their code computes it. Of step t, from 1: c_k samples
 * of domain k, their mean loss_k (nats); that of the last step it was in where it is absent, the
 * first step's mean where it was in none.
 *     n_k    += sum c    (same_step_size: what one domain teaches all learn from), else c_k
 *     h       = (1 - gamma1) h + gamma1 c / sum c                        credit
 *     law     loss_k(n) = exp(e_k) + exp(a_k) / n^alpha_k, fitted every update_interval steps
 *     slope_k = max(alpha_k, min_alpha) exp(a_k) n_k^-alpha_k / n_k      nats a sample
 *     rho     = slope_k prior_k h_k^s / sum, none under min_prob, normalised
 *     p       = (1 - gamma2) x + gamma2 rho                              the weights
 *     x       = (1 - 1/t) x + rho / t                                    average
 * h, x and p begin as the prior, and p stays it until there are laws.
 *
 * variant `mixtera` is what the Mixtera data service made of it (arXiv 2502.19790): n_k grows from
 * a domain's first sample on; rho without floor and min_alpha; p normalised, none of the domains
 * seen under min_prob, normalised again; x normalised, with 1/(t + 1); after that
 * h = (1 - gamma1) h + gamma1 p. Its `adjusted` allows for trainers that use a mix later than it is
 * made: v1 moves h with the first step of a newer mix only; v2 too, by 1 - (1 - gamma1)^n for the n
 * steps since h moved; v3 moves everything once, 15 steps after a newer mix arrived, and with each
 * fit.
 *
 * Fits (scaling_fit.h) are long computations. They are asked for at step start_step or later where
 * update_interval divides t - 1; mixtera: at start_step and each update_interval after it. When the
 * laws come, the weights of the last step are made again by them; in lockstep it is the very step.
 * A fit that holds anything not finite is rejected whole. A domain of fewer than min_points points
 * keeps its law. One without a law or a sample has its prior share of rho, and the others share the
 * rest; there it turns all weights to NaN. Points come from a history in bounded memory
 * (loss_history.h): every `stride`th row after the first ignore_steps, smoothed over `window` rows,
 * thinned when there are more than history_rows of them.
 *
 * Units: the bounds of a fit are for counts of samples of about 1024 tokens. A domain whose samples
 * aren't counted counts its tokens / 1024; with tokens_per_sample, tokens / that are what counts,
 * whatever the samples are.
 *
 * Defaults are those of the authors' configs. Traps. These ask for the first fit at step 1000 and
 * ignore 1000 steps: it has one point, which any law meets. By min_points the second fit, of 101
 * points, is the first here. Without `window` rows there is no point at all (mixtera: it shrinks).
 * With same_step_size the authors count a domain that was never seen and fit a law to the loss
 * imputed to it. Their floor lifts domains of prior 0, too; floors of over 1 together, which they
 * turn into equal shares, are refused. min_prob bounds rho: p may be under it. A domain that isn't
 * drawn loses its credit, and by it its rho: then the floor alone keeps it alive. The loss imputed
 * before a domain's first step is smoothed into its first points. Their first release had
 * sqrt(h (1 - h)). */
#include "daemon/core/clash.h"
#include "daemon/core/loss_history.h"
#include "daemon/core/policies.h"
#include "daemon/core/savgol.h"
#include "daemon/core/scaling_fit.h"
#include "proto/limits.h"

#include <math.h>
#include <string.h>

enum {
    VARIANT, ADJUSTED, GAMMA1, GAMMA2, S, MIN_PROB, MIN_ALPHA, START_STEP, IGNORE_STEPS,
    UPDATE_INTERVAL, SAME_STEP_SIZE, STRIDE, WINDOW, HISTORY_ROWS, MIN_POINTS, TOKENS_PER_SAMPLE,
};
enum { ADO, MIXTERA };
enum { VANILLA, V1, V2, V3 };

/* Of a sample, where they aren't counted: the authors' context. */
#define TOKENS_OF_SAMPLE 1024.0
/* v3: steps from a newer mix's arrival to the next move. */
#define V3_DELAY 15.0
/* Numbers of a domain in the result of a fit: 1 or 0 for fitted or not, a, e, alpha. */
#define RESULT 4u

static const char *const variants[] = {"ado", "mixtera", NULL};
static const char *const adjusted[] = {"vanilla", "v1", "v2", "v3", NULL};

static const struct mx_policy_param ado_params[] = {
    [VARIANT] = {"variant", ADO, 0, 1, MX_PARAM_CHOICE, "whose code", variants},
    [ADJUSTED] = {"adjusted", VANILLA, 0, 3, MX_PARAM_CHOICE,
                  "mixtera: how it allows for mixes that are in use late", adjusted},
    [GAMMA1] = {"gamma1", 0.1, 0, 1, MX_PARAM_NUMBER, "a step's part in the credit", NULL},
    [GAMMA2] = {"gamma2", 0.1, 0, 1, MX_PARAM_NUMBER,
                "part of the weights that is not their average", NULL},
    [S] = {"s", 0.5, 0, 10, MX_PARAM_NUMBER, "exponent of the credit", NULL},
    [MIN_PROB] = {"min_prob", 0.01, 0, 1, MX_PARAM_NUMBER,
                  "floor of each domain, at most 1 / domains", NULL},
    [MIN_ALPHA] = {"min_alpha", 0.05, 0, 1, MX_PARAM_NUMBER,
                   "ado: the least exponent that a slope is made of", NULL},
    [START_STEP] = {"start_step", 500, 0, 1e12, MX_PARAM_INTEGER, "no fit before it", NULL},
    [IGNORE_STEPS] = {"ignore_steps", 1000, 0, 1e12, MX_PARAM_INTEGER,
                      "first steps whose losses aren't fitted", NULL},
    [UPDATE_INTERVAL] = {"update_interval", 1000, 1, 1e12, MX_PARAM_INTEGER,
                         "steps between fits", NULL},
    [SAME_STEP_SIZE] = {"same_step_size", 1, 0, 1, MX_PARAM_SWITCH,
                        "a step counts for each domain with all its samples", NULL},
    [STRIDE] = {"stride", 10, 1, 1e6, MX_PARAM_INTEGER, "steps between the points of a fit", NULL},
    [WINDOW] = {"window", MX_SAVGOL_WINDOW, 1, MX_SAVGOL_WINDOW, MX_PARAM_INTEGER,
                "steps that a loss is smoothed over: odd and from 5, or 1", NULL},
    [HISTORY_ROWS] = {"history_rows", 512, 2, 8192, MX_PARAM_INTEGER,
                      "most points of a fit: even", NULL},
    [MIN_POINTS] = {"min_points", 3, 1, 8192, MX_PARAM_INTEGER,
                    "fewer points make no law", NULL},
    [TOKENS_PER_SAMPLE] = {"tokens_per_sample", 0, 0, 1e9, MX_PARAM_INTEGER,
                           "count tokens, so many as one; 0: count samples", NULL},
};

/* The block: this, then view's arrays in their order, then the history. */
struct head {
    double t;           /* of the last step */
    double wanted;      /* whether a fit has been asked for */
    double rounds;      /* that have asked for theirs, with those passed over */
    double active;      /* whether there are laws */
    double handed;      /* whether they have made weights */
    double version;     /* the newest mix that a step was of */
    double resume_at;   /* v3: the next move, 0 if none is due */
    double credited_at; /* when h last moved */
    double moves;       /* whether the last step moves weights */
    double gamma;       /* mixtera: p's part in h at the last step */
};

#define HEAD (sizeof(struct head) / sizeof(double))
#define VECTORS 11u

struct view {
    struct head *head;
    double *h, *h_before; /* credit, and as it was before the last step */
    double *x, *x_before; /* average, likewise */
    double *p, *rho;
    double *n, *loss;          /* counts so far; last losses */
    double *a, *e, *alpha;     /* laws, NAN where there is none */
    double *history;
};

static struct view view_of(double *state, const struct mx_policy_conf *c)
{
    size_t k = c->k;
    double *at = state + HEAD;

    return (struct view){(struct head *)(void *)state, at, at + k, at + 2 * k, at + 3 * k,
                         at + 4 * k, at + 5 * k, at + 6 * k, at + 7 * k, at + 8 * k, at + 9 * k,
                         at + 10 * k, at + VECTORS * k};
}

static struct mx_loss_options history_of(const struct mx_policy_conf *c)
{
    const double *p = c->params;
    int mixtera = p[VARIANT] == MIXTERA;

    return (struct mx_loss_options){
        .rows = (uint32_t)p[HISTORY_ROWS], .window = (uint32_t)p[WINDOW],
        .stride = (uint32_t)p[STRIDE], .first = (uint64_t)p[IGNORE_STEPS] + (mixtera ? 1 : 0),
        .shrink = mixtera};
}

static size_t ado_state_size(const struct mx_policy_conf *c)
{
    struct mx_loss_options o = history_of(c);

    return HEAD + VECTORS * (size_t)c->k + mx_loss_history_size(c->k, &o);
}

static const char *ado_check(const struct mx_policy_conf *c, char *text, size_t cap)
{
    const double *p = c->params;
    uint64_t size[] = {c->k, (uint64_t)p[HISTORY_ROWS], (uint64_t)p[WINDOW], 0,
                       MX_POLICY_STATE_MAX};
    uint64_t window = (uint64_t)p[WINDOW], floors[] = {(uint64_t)c->k, (uint64_t)c->k};

    if (p[ADJUSTED] != VANILLA && p[VARIANT] != MIXTERA) {
        return mx_clash(text, cap, "adjusted: of the variant mixtera alone", NULL);
    }
    if (!mx_savgol_window_ok((size_t)window)) {
        return mx_clash(text, cap, "window: # is neither 1 nor odd and from 5 on", &window);
    }
    if (size[1] % 2 != 0) {
        return mx_clash(text, cap, "history_rows: # is odd", &size[1]);
    }
    if (p[MIN_POINTS] > p[HISTORY_ROWS]) {
        uint64_t points[] = {(uint64_t)p[MIN_POINTS], size[1]};

        return mx_clash(text, cap, "min_points: # are more than # history_rows", points);
    }
    if (p[MIN_PROB] * c->k > 1.0 + 1e-9) {
        return mx_clash(text, cap, "min_prob: over 1 for # domains together: at most 1/# each",
                        floors);
    }
    size[3] = ado_state_size(c);
    return size[3] <= MX_POLICY_STATE_MAX
               ? NULL
               : mx_clash(text, cap,
                          "history_rows: # domains with # rows and a window of # are # numbers; "
                          "# can be kept", size);
}

static void ado_init(double *state, const struct mx_policy_conf *c)
{
    struct view v = view_of(state, c);
    struct mx_loss_options o = history_of(c);

    memset(state, 0, (HEAD + VECTORS * (size_t)c->k) * sizeof *state);
    for (uint32_t i = 0; i < c->k; i++) {
        v.h[i] = v.h_before[i] = v.x[i] = v.x_before[i] = v.p[i] = c->prior[i];
        v.a[i] = v.e[i] = v.alpha[i] = NAN;
    }
    mx_loss_history_init(v.history, c->k, &o);
}

/* ---- weights -------------------------------------------------------------------------------- */

static int has_estimate(const struct view *v, uint32_t i)
{
    return !isnan(v->alpha[i]) && v->n[i] > 0.0;
}

/* The logarithm of the slope; -INFINITY where the law says that nothing more is learned. */
static double log_slope(const struct view *v, const struct mx_policy_conf *c, uint32_t i)
{
    double log_n = log(v->n[i]), rate = v->alpha[i];

    rate = c->params[VARIANT] == ADO ? fmax(rate, c->params[MIN_ALPHA]) : rate;
    return rate > 0.0 ? log(rate) + v->a[i] - v->alpha[i] * log_n - log_n : -INFINITY;
}

/* Laws may be anything finite: where sums of logarithms leave the numbers, they stay at the end. */
static double bounded(double log_weight)
{
    return isnan(log_weight) ? -INFINITY : fmin(log_weight, 1e300);
}

/* The shares of those that have an estimate, relative to their largest; the others' prior. Returns
 * what the former have of the prior's sum in *ret_left, and their sum. */
static double weigh(const struct view *v, const struct mx_policy_conf *c, double *ret_left)
{
    const double *credit = c->params[VARIANT] == ADO ? v->h : v->h_before;
    double largest = -INFINITY, sum = 0.0, s = c->params[S];

    *ret_left = 1.0;
    for (uint32_t i = 0; i < c->k; i++) {
        if (!has_estimate(v, i)) {
            v->rho[i] = c->prior[i];
            *ret_left -= c->prior[i];
            continue;
        }
        v->rho[i] = bounded(log_slope(v, c, i) + log(c->prior[i]) +
                            (s > 0.0 ? s * log(credit[i]) : 0.0));
        largest = fmax(largest, v->rho[i]);
    }
    for (uint32_t i = 0; i < c->k; i++) {
        if (has_estimate(v, i)) {
            v->rho[i] = largest > -INFINITY ? exp(v->rho[i] - largest) : 0.0;
            sum += v->rho[i];
        }
    }
    *ret_left = fmax(*ret_left, 0.0);
    return sum;
}

static void make_rho(const struct view *v, const struct mx_policy_conf *c)
{
    double left, sum = weigh(v, c, &left);

    for (uint32_t i = 0; i < c->k; i++) {
        if (sum <= 0.0) {
            v->rho[i] = c->prior[i];
        } else if (has_estimate(v, i)) {
            v->rho[i] *= left / sum;
        }
    }
}

void mx_ado_clip(double *p, uint32_t k, double min_prob)
{
    double sum = 0.0, after = 0.0, scale;

    for (uint32_t i = 0; i < k; i++) {
        sum += p[i];
    }
    scale = (1.0 - fmax(min_prob * k - sum, 0.0)) / sum;
    for (uint32_t i = 0; i < k; i++) {
        p[i] = fmax(p[i] * scale, min_prob);
        after += p[i];
    }
    for (uint32_t i = 0; i < k; i++) {
        p[i] /= after;
    }
}

static void normalise(double *p, uint32_t k)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < k; i++) {
        sum += p[i];
    }
    for (uint32_t i = 0; i < k; i++) {
        p[i] /= sum;
    }
}

static void mix(const struct view *v, const struct mx_policy_conf *c, double worth)
{
    double gamma2 = c->params[GAMMA2];

    for (uint32_t i = 0; i < c->k; i++) {
        v->p[i] = (1.0 - gamma2) * v->x_before[i] + gamma2 * v->rho[i];
        v->x[i] = (1.0 - worth) * v->x_before[i] + worth * v->rho[i];
    }
}

/* Weights, average and (mixtera) credit of the last step, from what they were before it. */
static void apply(const struct view *v, const struct mx_policy_conf *c)
{
    struct head *h = v->head;
    double min_prob = c->params[MIN_PROB];

    if (h->active == 0.0 || h->moves == 0.0) {
        return;
    }
    h->handed = 1.0;
    make_rho(v, c);
    if (c->params[VARIANT] == ADO) {
        mx_ado_clip(v->rho, c->k, min_prob);
        mix(v, c, 1.0 / h->t);
        return;
    }
    mix(v, c, 1.0 / (h->t + 1.0));
    normalise(v->x, c->k);
    normalise(v->p, c->k);
    for (uint32_t i = 0; i < c->k; i++) {
        v->p[i] = v->n[i] > 0.0 ? fmax(v->p[i], min_prob) : v->p[i];
    }
    normalise(v->p, c->k);
    for (uint32_t i = 0; i < c->k; i++) {
        v->h[i] = h->gamma * v->p[i] + (1.0 - h->gamma) * v->h_before[i];
    }
    h->credited_at = h->gamma > 0.0 ? h->t : h->credited_at;
}

/* ---- steps ---------------------------------------------------------------------------------- */

static double count_of(const struct mx_policy_conf *c, const struct mx_domain_stats *s)
{
    double per_sample = c->params[TOKENS_PER_SAMPLE];

    if (per_sample > 0.0) {
        return (double)s->tokens / per_sample;
    }
    return s->samples > 0 ? (double)s->samples : (double)s->tokens / TOKENS_OF_SAMPLE;
}

/* Counts, losses and credit. Returns whether there was anything in the step. */
static int take_step(const struct view *v, const struct mx_policy_conf *c,
                     const struct mx_observation *o)
{
    double *count = v->rho, all = 0.0, loss_sum = 0.0, gamma1 = c->params[GAMMA1];
    int ado = c->params[VARIANT] == ADO, same = c->params[SAME_STEP_SIZE] != 0.0;

    for (uint32_t i = 0; i < o->n_train; i++) {
        double n = count_of(c, &o->train[i]);

        all += n;
        loss_sum += n * o->train[i].loss;
    }
    if (all == 0.0) {
        return 0;
    }
    memset(count, 0, c->k * sizeof *count);
    for (uint32_t i = 0; i < c->k && mx_loss_history_n(v->history) == 0; i++) {
        v->loss[i] = loss_sum / all;
    }
    for (uint32_t i = 0; i < o->n_train; i++) {
        count[o->train[i].domain] = count_of(c, &o->train[i]);
        v->loss[o->train[i].domain] = o->train[i].loss;
    }
    memcpy(v->x_before, v->x, c->k * sizeof *v->x);
    memcpy(v->h_before, v->h, c->k * sizeof *v->h);
    for (uint32_t i = 0; i < c->k; i++) {
        int counted = ado || v->n[i] > 0.0 || count[i] > 0.0;

        v->n[i] += !same ? count[i] : counted ? all : 0.0;
        v->h[i] = ado ? (1.0 - gamma1) * v->h[i] + gamma1 * (count[i] / all) : v->h[i];
    }
    mx_loss_history_add(v->history, c->k, v->n, v->loss);
    return 1;
}

/* Whether step t is one that asks for a fit, or the first after one that was passed over. */
static int fit_is_due(struct head *h, const struct mx_policy_conf *c)
{
    double start = c->params[START_STEP], interval = c->params[UPDATE_INTERVAL];
    double from = c->params[VARIANT] == ADO ? 0.0 : start, at = h->t;
    double rounds;

    at -= c->params[VARIANT] == ADO ? 1.0 : 0.0; /* the authors' steps begin with 0 */
    if (at < start) {
        return 0;
    }
    rounds = floor((at - from) / interval) + 1.0;
    if (from + (rounds - 1.0) * interval < start || rounds <= h->rounds) {
        return 0;
    }
    h->rounds = rounds;
    return 1;
}

/* What `adjusted` makes of a step: whether it moves weights, and how much of them goes into h. */
static void adjust(struct head *h, const struct mx_policy_conf *c, uint64_t version, int due)
{
    double choice = c->params[ADJUSTED], gamma1 = c->params[GAMMA1];
    int newer = (double)version > h->version;

    h->version = newer ? (double)version : h->version;
    h->moves = 1.0;
    h->gamma = choice == VANILLA || choice == V3 || newer ? gamma1 : 0.0;
    if (choice == V2 && newer && h->t > h->credited_at) {
        h->gamma = 1.0 - pow(1.0 - gamma1, h->t - h->credited_at);
    }
    if (choice == V3 && h->handed != 0.0) {
        h->resume_at = newer ? h->t + V3_DELAY : h->resume_at;
        h->moves = due || (h->resume_at > 0.0 && h->t >= h->resume_at);
        h->resume_at = h->resume_at > h->t ? h->resume_at : 0.0;
    }
}

static void ado_observe(double *state, const struct mx_policy_conf *c,
                        const struct mx_observation *o)
{
    struct view v = view_of(state, c);
    int due;

    if (!take_step(&v, c, o)) {
        return;
    }
    v.head->t = (double)o->t;
    due = fit_is_due(v.head, c);
    v.head->wanted = due ? 1.0 : v.head->wanted;
    adjust(v.head, c, o->mix_version, due);
    apply(&v, c);
}

/* ---- fits ----------------------------------------------------------------------------------- */

static int ado_wants_work(const double *state, const struct mx_policy_conf *c)
{
    (void)c;
    return ((const struct head *)(const void *)state)->wanted != 0.0;
}

static size_t ado_work_size(const struct mx_policy_conf *c)
{
    return RESULT * (size_t)c->k;
}

static size_t ado_work_scratch(const struct mx_policy_conf *c)
{
    return 4 * (size_t)c->params[HISTORY_ROWS];
}

size_t mx_ado_points(const double *state, const struct mx_policy_conf *c, uint32_t domain,
                     double *x, double *y)
{
    return mx_loss_history_points(state + HEAD + VECTORS * (size_t)c->k, c->k, domain, x, y);
}

static void ado_work(const double *state, const struct mx_policy_conf *c, double *ret,
                     double *scratch)
{
    const struct mx_fit_options *o = c->params[VARIANT] == ADO ? &mx_fit_ado : &mx_fit_mixtera;
    size_t rows = (size_t)c->params[HISTORY_ROWS];
    double *x = scratch, *y = x + rows;

    for (uint32_t i = 0; i < c->k; i++) {
        struct mx_scaling_law law = {NAN, NAN, NAN, NAN};
        size_t n = mx_ado_points(state, c, i, x, y);
        int fitted = (double)n >= c->params[MIN_POINTS];

        if (fitted && !mx_scaling_fit(o, x, y, n, y + rows, &law)) {
            law.alpha = NAN;
        }
        ret[RESULT * i] = fitted;
        ret[RESULT * i + 1] = law.a;
        ret[RESULT * i + 2] = law.e;
        ret[RESULT * i + 3] = law.alpha;
    }
}

static void ado_worked(double *state, const struct mx_policy_conf *c, const double *result)
{
    struct view v = view_of(state, c);
    uint32_t fitted = 0;

    v.head->wanted = 0.0;
    for (uint32_t i = 0; i < c->k; i++) {
        const double *r = result + RESULT * (size_t)i;

        if (r[0] != 0.0 && !(isfinite(r[1]) && isfinite(r[2]) && isfinite(r[3]))) {
            return;
        }
        fitted += r[0] != 0.0;
    }
    for (uint32_t i = 0; i < c->k && fitted > 0; i++) {
        const double *r = result + RESULT * (size_t)i;

        if (r[0] != 0.0) {
            v.a[i] = r[1];
            v.e[i] = r[2];
            v.alpha[i] = r[3];
        }
    }
    if (fitted > 0 && v.head->t > 0.0) {
        v.head->active = 1.0;
        v.head->moves = 1.0;
        apply(&v, c);
    }
}

/* ---- looking -------------------------------------------------------------------------------- */

static void ado_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + HEAD + 4 * (size_t)c->k, c->k * sizeof *ret);
}

static void ado_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    size_t k = c->k;
    const double *h = state + HEAD;
    /* Nothing is written through it. */
    struct view v = view_of((double *)(uintptr_t)state, c);

    for (uint32_t i = 0; i < k; i++) {
        ret[i] = has_estimate(&v, i) ? exp(log_slope(&v, c, i)) : NAN;
    }
    memcpy(ret + k, h, k * sizeof *ret);
    memcpy(ret + 2 * k, h + 2 * k, k * sizeof *ret);
}

static int are_within(const double *v, size_t n, double max)
{
    for (size_t i = 0; i < n; i++) {
        if (!(v[i] >= 0.0 && v[i] <= max)) {
            return 0;
        }
    }
    return 1;
}

static int ado_sane(const double *state, const struct mx_policy_conf *c)
{
    size_t k = c->k;
    const double *law = state + HEAD + 8 * k;
    struct mx_loss_options o = history_of(c);

    if (!are_within(state, HEAD, 0x1p53) || !are_within(state + HEAD, 6 * k, 0x1p64) ||
        !are_within(state + HEAD + 6 * k, 2 * k, 1e300) ||
        ((const struct head *)(const void *)state)->gamma > 1.0) {
        return 0;
    }
    for (size_t i = 0; i < 3 * k; i++) {
        if (!isnan(law[i]) && !isfinite(law[i])) {
            return 0;
        }
    }
    return mx_loss_history_sane(state + HEAD + VECTORS * k, &o);
}

const struct mx_policy_ops mx_policy_ado = {
    .name = "ado",
    .what = "adaptive data optimization: scaling laws tell where more is still learned",
    .params = ado_params,
    .n_params = sizeof ado_params / sizeof ado_params[0],
    .uses_train = 1,
    .adapts = 1,
    .check = ado_check,
    .state_size = ado_state_size,
    .init = ado_init,
    .observe = ado_observe,
    .weights = ado_weights,
    .n_terms = 3,
    .terms = {"estimate", "credit", "average"},
    .explain = ado_explain,
    .sane = ado_sane,
    .wants_work = ado_wants_work,
    .work_size = ado_work_size,
    .work_scratch = ado_work_scratch,
    .work = ado_work,
    .worked = ado_worked,
};
