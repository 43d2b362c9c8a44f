/* schedule.c - see schedule.h. */
#include "daemon/core/schedule.h"

#include "proto/limits.h"

#include <math.h>
#include <string.h>

/* The mixes of configs are divided by their sums: rounding is all that is left. */
#define SUM_SLACK 1e-9

static const struct mx_phase the_only = {.kind = MX_PHASE_ADAPT};

static const struct mx_phase *phase_of(const struct mx_schedule *s, uint64_t step)
{
    return s->n > 0 ? &s->phases[mx_schedule_phase_at(s, step)] : &the_only;
}

static uint64_t end_of(const struct mx_schedule *s, const struct mx_phase *p)
{
    return p + 1 < s->phases + s->n ? p[1].from : s->end_step;
}

/* Whether a phase changes neither weights nor limits where it begins. */
static int goes_on(const struct mx_phase *p)
{
    return p->kind == p[-1].kind && (p->kind == MX_PHASE_ADAPT || p->kind == MX_PHASE_WARMUP) &&
           p->limits == p[-1].limits;
}

static int is_mix(const double *w, uint32_t k)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < k; i++) {
        if (!(w[i] >= 0.0)) {
            return 0;
        }
        sum += w[i];
    }
    return fabs(sum - 1.0) <= SUM_SLACK;
}

static int phase_ok(const struct mx_schedule *s, const struct mx_phase *p)
{
    int given = p->kind == MX_PHASE_MIX || p->kind == MX_PHASE_ANNEAL;
    size_t domain;
    double sum;

    if (p == s->phases ? p->from != 0 : p->from <= p[-1].from) {
        return 0;
    }
    if (p->from >= s->end_step || p->from > MX_STEP_MAX || (given && !is_mix(p->mix, s->k)) ||
        (p->kind == MX_PHASE_ANNEAL && end_of(s, p) == UINT64_MAX)) {
        return 0;
    }
    if (p->limits == NULL) {
        return 1;
    }
    for (uint32_t i = 0; i < s->k; i++) {
        if (p->limits[i].open != s->limits[i].open) {
            return 0;
        }
    }
    return mx_limits_check(p->limits, s->k, &domain, &sum) == MX_LIMITS_OK;
}

int mx_schedule_ok(const struct mx_schedule *s)
{
    if (s->n > MX_PARTS_MAX) {
        return 0;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        if (!phase_ok(s, &s->phases[i])) {
            return 0;
        }
    }
    return 1;
}

uint32_t mx_schedule_phase_at(const struct mx_schedule *s, uint64_t step)
{
    uint32_t i = s->n;

    while (i > 1 && s->phases[i - 1].from > step) {
        i--;
    }
    return i > 0 ? i - 1 : 0;
}

/* ---- ticks ---------------------------------------------------------------------------------- */

/* Tick j of n begins at from + j * length / n, rounded down: n <= length, so that they rise. */
struct ticks {
    uint64_t length, n;
};

static struct ticks ticks_of(const struct mx_schedule *s, const struct mx_phase *p)
{
    uint64_t length = end_of(s, p) - p->from;

    return (struct ticks){length, length < MX_ANNEAL_TICKS ? length : MX_ANNEAL_TICKS};
}

/* The tick in which the step lies. */
static uint64_t tick_at(const struct mx_schedule *s, const struct mx_phase *p, uint64_t step)
{
    struct ticks t = ticks_of(s, p);

    return ((step - p->from + 1) * t.n - 1) / t.length;
}

static uint64_t tick_begin(const struct mx_schedule *s, const struct mx_phase *p, uint64_t tick)
{
    struct ticks t = ticks_of(s, p);

    return p->from + tick * t.length / t.n;
}

/* How much of the way to the mix is done at a step. Exactly 1 in the last tick. */
static double way(const struct mx_schedule *s, const struct mx_phase *p, uint64_t step)
{
    uint64_t through = tick_at(s, p, step) + 1, n = ticks_of(s, p).n;
    double x = (double)through / (double)n;

    if (through == n) {
        return 1.0;
    }
    return p->shape == MX_ANNEAL_COSINE ? (1.0 - cos(M_PI * x)) / 2.0 : x;
}

/* ---- points --------------------------------------------------------------------------------- */

uint64_t mx_schedule_next(const struct mx_schedule *s, uint64_t after)
{
    const struct mx_phase *p = phase_of(s, after);
    uint64_t tick;

    if (s->n == 0) {
        return UINT64_MAX;
    }
    if (p->kind == MX_PHASE_ANNEAL && after < end_of(s, p)) {
        tick = tick_at(s, p, after) + 1;
        if (tick < ticks_of(s, p).n) {
            return tick_begin(s, p, tick);
        }
    }
    for (p++; p < s->phases + s->n; p++) {
        if (!goes_on(p)) {
            return p->from;
        }
    }
    return UINT64_MAX;
}

int mx_schedule_is_point(const struct mx_schedule *s, uint64_t step)
{
    return s->n > 0 && (step == 0 || mx_schedule_next(s, step - 1) == step);
}

int mx_schedule_departs(const struct mx_schedule *s, uint64_t step)
{
    const struct mx_phase *p = phase_of(s, step);

    return p->kind == MX_PHASE_ANNEAL && !p->blend && p->from == step;
}

int mx_schedule_asks_policy(const struct mx_schedule *s, uint64_t step)
{
    const struct mx_phase *p = phase_of(s, step);

    return p->kind == MX_PHASE_ADAPT || (p->kind == MX_PHASE_ANNEAL && p->blend);
}

/* ---- weights and limits --------------------------------------------------------------------- */

static void between(const double *from, const double *to, double a, uint32_t k, double *ret)
{
    for (uint32_t i = 0; i < k; i++) {
        ret[i] = a < 1.0 ? (1.0 - a) * from[i] + a * to[i] : to[i];
    }
}

void mx_schedule_weights(const struct mx_schedule *s, uint64_t step, const double *policy,
                         const double *departure, double *ret)
{
    const struct mx_phase *p = phase_of(s, step);

    switch (p->kind) {
    case MX_PHASE_ADAPT: memcpy(ret, policy, s->k * sizeof *ret); return;
    case MX_PHASE_WARMUP: memcpy(ret, s->prior, s->k * sizeof *ret); return;
    case MX_PHASE_MIX: memcpy(ret, p->mix, s->k * sizeof *ret); return;
    case MX_PHASE_ANNEAL:
        between(p->blend ? policy : departure, p->mix,
                step < end_of(s, p) ? way(s, p, step) : 1.0, s->k, ret);
        return;
    }
}

const struct mx_limit *mx_schedule_limits(const struct mx_schedule *s, uint64_t step)
{
    const struct mx_phase *p = phase_of(s, step);

    return p->limits != NULL ? p->limits : s->limits;
}
