/* scaling_fit.c - see scaling_fit.h. Knows nothing of histories, steps or policies.
 *
 * The Huber losses are smooth (their second derivative jumps), the penalties have kinks: four
 * values of single parameters, and good fits often lie on them. So a step is that of a damped
 * Newton method on the smooth part, cut short at the first kink that it meets; a parameter that
 * lies on a kink moves only where one of the two slopes leads down, and to that side. Every step
 * that is taken lowers the objective.
 *
 * With delta as small as 1e-3 nearly all residuals are on the straight part, and steps from far
 * away creep along a polygon. So the search begins with a wide delta, whose minimum is easy to
 * reach, and narrows it in turns. It also runs with the right delta at once: where there are few
 * points, the wide one can lead away from a good minimum nearby. The polygon has small minima of
 * its own; so the best that was found is shaken at the end, by widening delta a little and
 * narrowing it again. */
#include "daemon/core/scaling_fit.h"

#include <math.h>
#include <string.h>

#define P 3 /* parameters: a, e, alpha */
/* Objectives that one search looks at, at most, or a few more. */
#define OBJECTIVES_MAX 100
/* The first delta, and each after it, in terms of the next. */
#define WIDEST 64.0
#define NARROWING 4.0
/* A search ends where a step promises less than this share of the objective: at the right delta,
 * where rounding is near; before, where the next delta will do better. */
#define PROMISE_LEAST 1e-12
#define PROMISE_WIDE 1e-4
/* Or this share of what residuals of delta would sum up to: a law meets all points. */
#define PROMISE_EXACT 1e-13
/* The longest step of a parameter: where the law is flat Newton's method would go anywhere. */
#define STEP_MAX 2.0
#define DAMPING_MIN 1e-8
#define DAMPING_MAX 1e10

static const double A_STARTS[] = {-2, -1, 0, 1, 2, 3, 4, 5};
static const double E_STARTS[] = {-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5};
static const double E_STARTS_MIXTERA[] = {-2, -1.5, -1, -0.5, 1, 1.5};
static const double ALPHA_STARTS[] = {0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7};

const struct mx_fit_options mx_fit_ado = {
    1e-3, 1.0, -1e-3, 0, {A_STARTS, 8}, {E_STARTS, 8}, {ALPHA_STARTS, 8}};
const struct mx_fit_options mx_fit_mixtera = {
    1e-3, 1e3, 0.0, 1, {A_STARTS, 8}, {E_STARTS_MIXTERA, 6}, {ALPHA_STARTS, 8}};

/* Where the penalties set in: above the value, or below it. */
static const struct kink {
    size_t of;
    double at;
    int above;
} KINKS[] = {{0, 6.5, 1}, {1, 0.5, 0}, {2, 0.8, 1}, {2, 0.001, 0}};

#define KINKS_N (sizeof KINKS / sizeof KINKS[0])

/* What is minimised: the sum of the Huber losses, and penalties weighed to match. A wider delta
 * comes with a smaller scale: the straight parts keep their slope. */
struct problem {
    const double *log_x, *log_y;
    size_t n;
    double delta, scale; /* of the Huber losses */
    double penalty;
};

/* A place, with what is known of the objective around it. The second derivatives of the Huber
 * losses are in two parts: what they are if the residuals were linear, never negative, and what the
 * residuals' bend adds. (Lower triangles.) */
struct place {
    double v[P];
    double f;            /* the objective */
    double g[P];         /* gradient of the Huber losses' sum */
    double linear[P][P]; /* second derivatives, first part */
    double bend[P][P];   /* second part */
    double above[P][P];  /* those of a quadratic that lies above the losses, residuals linear */
};

/* ---- the objective -------------------------------------------------------------------------- */

/* logsumexp(u, e) - log y and, with ret_share, the share of exp(u) in the sum. */
static double residual(double u, double e, double log_y, double *ret_share)
{
    double d = u - e, small = exp(-fabs(d));

    if (ret_share != NULL) {
        *ret_share = (d >= 0.0 ? 1.0 : small) / (1.0 + small);
    }
    return fmax(u, e) + log1p(small) - log_y;
}

static double huber(double r, double delta)
{
    double size = fabs(r);

    return size <= delta ? 0.5 * r * r : delta * (size - 0.5 * delta);
}

static double penalties(const double *v)
{
    double sum = 0.0;

    for (size_t i = 0; i < KINKS_N; i++) {
        double over = v[KINKS[i].of] - KINKS[i].at;

        sum += fmax(KINKS[i].above ? over : -over, 0.0);
    }
    return sum;
}

static double objective(const struct problem *p, const double *v)
{
    double sum = 0.0;

    for (size_t i = 0; i < p->n; i++) {
        sum += huber(residual(v[0] - v[2] * p->log_x[i], v[1], p->log_y[i], NULL), p->delta);
    }
    return p->scale * sum + p->penalty * penalties(v);
}

/* Gradient and second derivatives of the Huber losses at q->v. */
static void look_around(const struct problem *p, struct place *q)
{
    memset(q->g, 0, sizeof q->g);
    memset(q->linear, 0, sizeof q->linear);
    memset(q->bend, 0, sizeof q->bend);
    memset(q->above, 0, sizeof q->above);
    for (size_t i = 0; i < p->n; i++) {
        double l = p->log_x[i], s, r = residual(q->v[0] - q->v[2] * l, q->v[1], p->log_y[i], &s);
        double slope = p->scale * fmax(-p->delta, fmin(p->delta, r));
        double inside = fabs(r) <= p->delta ? p->scale : 0.0;
        double bend = slope * s * (1.0 - s), upper = p->scale * fmin(1.0, p->delta / fabs(r));
        double by[P] = {s, 1.0 - s, -s * l}, turn[P] = {1.0, -1.0, -l};

        for (size_t j = 0; j < P; j++) {
            q->g[j] += slope * by[j];
            for (size_t m = 0; m <= j; m++) {
                q->linear[j][m] += inside * by[j] * by[m];
                q->bend[j][m] += bend * turn[j] * turn[m];
                q->above[j][m] += upper * by[j] * by[m];
            }
        }
    }
}

/* The slope of the penalties of parameter j towards lower (side -1) or higher values. */
static double penalty_slope(const double *v, size_t j, int side)
{
    double slope = 0.0;

    for (size_t i = 0; i < KINKS_N; i++) {
        const struct kink *k = &KINKS[i];

        if (k->of == j && k->above && (v[j] > k->at || (v[j] == k->at && side > 0))) {
            slope += 1.0;
        } else if (k->of == j && !k->above && (v[j] < k->at || (v[j] == k->at && side < 0))) {
            slope -= 1.0;
        }
    }
    return slope;
}

double mx_scaling_objective(const struct mx_fit_options *options, const struct mx_scaling_law *law,
                            const double *x, const double *y, size_t n, double *ret_gradient)
{
    const double v[P] = {law->a, law->e, law->alpha};
    double scale = options->mean ? 1.0 / (double)n : 1.0, sum = 0.0, g[P] = {0};

    for (size_t i = 0; i < n; i++) {
        double l = log(x[i]), s, r = residual(v[0] - v[2] * l, v[1], log(y[i]), &s);
        double slope = fmax(-options->delta, fmin(options->delta, r));

        sum += huber(r, options->delta);
        g[0] += slope * s;
        g[1] += slope * (1.0 - s);
        g[2] -= slope * s * l;
    }
    for (size_t j = 0; ret_gradient != NULL && j < P; j++) {
        /* On a kink one side has no penalty: the lower for one that sets in above. */
        double low = penalty_slope(v, j, -1), high = penalty_slope(v, j, 1);

        ret_gradient[j] = scale * g[j] + options->penalty * (fabs(low) < fabs(high) ? low : high);
    }
    return scale * sum + options->penalty * penalties(v) + options->offset;
}

/* ---- a step --------------------------------------------------------------------------------- */

/* Which way a parameter may go, and the slope that way. */
struct way {
    int open; /* 0: neither side leads down from its kink */
    int side; /* -1, 1: only that way; 0: both */
    double g;
};

static struct way way_of(const struct problem *p, const struct place *q, size_t j)
{
    double low = q->g[j] + p->penalty * penalty_slope(q->v, j, -1);
    double high = q->g[j] + p->penalty * penalty_slope(q->v, j, 1);

    if (low == high) {
        return (struct way){1, 0, low};
    }
    if (low > 0.0) {
        return (struct way){1, -1, low};
    }
    if (high < 0.0) {
        return (struct way){1, 1, high};
    }
    return (struct way){0, 0, 0.0};
}

/* Whether the lower triangle of c is positive definite; then it holds the Cholesky factor. */
static int factor(double c[P][P])
{
    for (size_t j = 0; j < P; j++) {
        for (size_t m = 0; m <= j; m++) {
            for (size_t i = 0; i < m; i++) {
                c[j][m] -= c[j][i] * c[m][i];
            }
            if (m < j) {
                c[j][m] /= c[m][m];
            } else if (c[j][j] > 0.0) {
                c[j][j] = sqrt(c[j][j]);
            } else {
                return 0;
            }
        }
    }
    return 1;
}

/* The matrix of a step, with `bend` of the residuals' bend, over the parameters of the set. */
static int factor_for(const struct place *q, double bend, double damping, const int *in_set,
                      double c[P][P])
{
    for (size_t j = 0; j < P; j++) {
        for (size_t m = 0; m <= j; m++) {
            double v = q->linear[j][m] + bend * q->bend[j][m] + damping * q->above[j][m];

            c[j][m] = in_set[j] && in_set[m] ? v : 0.0;
        }
        /* The share of the diagonal keeps it definite where points are too few for the law. */
        c[j][j] = in_set[j] ? c[j][j] + damping * 1e-9 * q->above[j][j] : 1.0;
    }
    return factor(c);
}

/* The step d over the parameters of the set, 0 in the others. Returns -g.d, of which one half is
 * what the step promises, if not cut short; negative if there is no step at this damping. */
static double solve(const struct place *q, double damping, const struct way *ways,
                    const int *in_set, double *d)
{
    double c[P][P], promise = 0.0;

    /* Where the bend makes a saddle, the step goes without it. */
    if (!factor_for(q, 1.0, damping, in_set, c) && !factor_for(q, 0.0, damping, in_set, c)) {
        return -1.0;
    }
    for (size_t j = 0; j < P; j++) {
        d[j] = in_set[j] ? -ways[j].g : 0.0;
        for (size_t i = 0; i < j; i++) {
            d[j] -= c[j][i] * d[i];
        }
        d[j] /= c[j][j];
    }
    for (size_t j = P; j-- > 0;) {
        for (size_t i = j + 1; i < P; i++) {
            d[j] -= c[i][j] * d[i];
        }
        d[j] /= c[j][j];
        promise -= in_set[j] ? ways[j].g * d[j] : 0.0;
    }
    return promise;
}

/* A step d from q; returns as solve does. If the free parameters
 * together would take one of them to the side of its kink that it may not go to, then either those
 * move or the others do, whichever promises more. */
static double propose(const struct problem *p, const struct place *q, double damping, double *d)
{
    struct way ways[P];
    double other[P], promise, other_promise;
    int all[P], bad[P], rest[P], any = 0;

    for (size_t j = 0; j < P; j++) {
        ways[j] = way_of(p, q, j);
        all[j] = ways[j].open;
    }
    promise = solve(q, damping, ways, all, d);
    for (size_t j = 0; j < P; j++) {
        bad[j] = all[j] && ways[j].side * d[j] < 0.0;
        rest[j] = all[j] && !bad[j];
        any |= bad[j];
    }
    if (promise < 0.0 || !any) {
        return promise;
    }
    promise = solve(q, damping, ways, rest, d);
    other_promise = solve(q, damping, ways, bad, other);
    for (size_t j = 0; j < P; j++) {
        other_promise = ways[j].side * other[j] < 0.0 ? -1.0 : other_promise;
    }
    if (other_promise > promise) {
        memcpy(d, other, sizeof other);
        return other_promise;
    }
    return promise;
}

/* Goes along `part` of d from v, or less: up to the first kink on the way, and to the longest step.
 * Returns the part of d that was gone. */
static double go(const double *v, const double *d, double part, double *ret)
{
    const struct kink *met = NULL;

    for (size_t j = 0; j < P; j++) {
        part = fabs(d[j]) * part > STEP_MAX ? STEP_MAX / fabs(d[j]) : part;
    }
    for (size_t i = 0; i < KINKS_N; i++) {
        double ahead = KINKS[i].at - v[KINKS[i].of], move = d[KINKS[i].of];

        if (ahead * move > 0.0 && fabs(ahead) < part * fabs(move)) {
            part = ahead / move;
            met = &KINKS[i];
        }
    }
    for (size_t j = 0; j < P; j++) {
        ret[j] = v[j] + part * d[j];
    }
    if (met != NULL) {
        ret[met->of] = met->at; /* to the bit: it lies on the kink now */
    }
    return part;
}

/* ---- the search ----------------------------------------------------------------------------- */

/* Takes the longest of the parts 1, 1/4, 1/16, ... of d that keeps enough of what d promises.
 * Returns the part, 0 for none. *looked counts objectives. */
static double take(const struct problem *p, struct place *q, const double *d, double promise,
                   int *looked)
{
    for (double part = 1.0; part > 1e-3; part /= 4.0) {
        double next[P], gone = go(q->v, d, part, next), f = objective(p, next);

        *looked += 1;
        if (q->f - f >= 1e-4 * promise * (gone - 0.5 * gone * gone)) {
            memcpy(q->v, next, sizeof next);
            q->f = f;
            return part;
        }
        part = fmin(part, gone);
    }
    return 0.0;
}

/* Lowers the objective from v as far as it goes, until a step promises less than `least` of it.
 * Returns what is reached, at v. */
static double descend(const struct problem *p, double least, double *v)
{
    double damping = 1.0, exact = PROMISE_EXACT * p->scale * p->delta * p->delta * (double)p->n;
    struct place q;
    int looked = 1;

    memcpy(q.v, v, sizeof q.v);
    q.f = objective(p, q.v);
    look_around(p, &q);
    while (looked < OBJECTIVES_MAX && damping <= DAMPING_MAX) {
        double d[P], promise = propose(p, &q, damping, d), part = 0.0;

        if (promise >= 0.0 && promise <= least * q.f + exact) {
            break;
        }
        if (promise >= 0.0) {
            part = take(p, &q, d, promise, &looked);
        }
        if (part > 0.0) {
            look_around(p, &q);
        }
        damping = part == 1.0 ? fmax(damping / 8.0, DAMPING_MIN) : damping * 4.0;
    }
    memcpy(v, q.v, sizeof q.v);
    return q.f;
}

/* Lowers the objective from v, by way of wider deltas up to `widest` times the right one. */
static double narrow_down(const struct problem *right, double widest, double *v)
{
    struct problem p = *right;

    for (double by = widest; by > 1.0; by /= NARROWING) {
        p.delta = right->delta * by;
        p.scale = right->scale / by;
        (void)descend(&p, PROMISE_WIDE, v);
    }
    return descend(right, PROMISE_LEAST, v);
}

/* The best start at this alpha, into v. */
static void best_start(const struct problem *p, const struct mx_fit_options *o, double alpha,
                       double *v)
{
    double best = INFINITY;

    for (uint32_t i = 0; i < o->a.n; i++) {
        for (uint32_t j = 0; j < o->e.n; j++) {
            const double start[P] = {o->a.at[i], o->e.at[j], alpha};
            double f = objective(p, start);

            if (f < best || (i == 0 && j == 0)) {
                best = f;
                memcpy(v, start, sizeof start);
            }
        }
    }
}

/* Searches from `from`, and keeps what is reached where it is lower than *best, finite. */
static void search(const struct problem *p, double widest, const double *from, double *best,
                   double *best_v)
{
    double v[P], f;

    memcpy(v, from, sizeof v);
    f = narrow_down(p, widest, v);
    if (f < *best && isfinite(v[0]) && isfinite(v[1]) && isfinite(v[2])) {
        *best = f;
        memcpy(best_v, v, sizeof v);
    }
}

int mx_scaling_fit(const struct mx_fit_options *options, const double *x, const double *y, size_t n,
                   double *scratch, struct mx_scaling_law *ret)
{
    struct problem p = {scratch, scratch + n, n, options->delta, 1.0, options->penalty};
    double per = options->mean ? (double)n : 1.0, best = INFINITY, v[P] = {0}, start[P];

    for (size_t i = 0; i < n; i++) {
        if (!(x[i] > 0.0 && x[i] < INFINITY && y[i] > 0.0 && y[i] < INFINITY)) {
            return 0;
        }
        scratch[i] = log(x[i]);
        scratch[n + i] = log(y[i]);
    }
    if (n == 0) {
        return 0;
    }
    p.penalty *= per;
    for (uint32_t i = 0; i < options->alpha.n; i++) {
        best_start(&p, options, options->alpha.at[i], start);
        search(&p, 1.0, start, &best, v);
        search(&p, WIDEST, start, &best, v);
    }
    for (double widest = 2.0; best < INFINITY && widest <= WIDEST / 2.0; widest *= 2.0) {
        search(&p, widest, v, &best, v);
    }
    *ret = (struct mx_scaling_law){v[0], v[1], v[2], best / per + options->offset};
    return best < INFINITY;
}
