/* explain.c - see explain.h. */
#include "daemon/explain.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *mx_bound_name(enum mx_bound b)
{
    static const char *const names[] = {"none", "floor", "ceiling", "pin", "closed"};

    return (size_t)b < sizeof names / sizeof names[0] ? names[b] : "unknown";
}

const char *mx_cause_name(enum mx_mix_cause cause)
{
    static const char *const names[] = {"none",   "create", "feedback", "operator",
                                        "rewind", "fork",   "phase"};

    return (size_t)cause < sizeof names / sizeof names[0] ? names[cause] : "unknown";
}

const char *mx_absent_name(enum mx_absent a)
{
    static const char *const names[] = {"skip", "hold", "decay"};

    return (size_t)a < sizeof names / sizeof names[0] ? names[a] : "unknown";
}

/* ---- numbers -------------------------------------------------------------------------------- */

static double share(uint64_t v)
{
    return (double)v / (double)MX_SHARE_ONE;
}

double mx_explain_kl(const uint64_t *shares, const double *prior, uint32_t k)
{
    double sum = 0;

    for (uint32_t i = 0; i < k; i++) {
        if (shares[i] > 0) {
            sum += share(shares[i]) * log(share(shares[i]) / prior[i]);
        }
    }
    return sum > 0 ? sum : 0; /* rounding alone makes it negative */
}

double mx_explain_effective(const uint64_t *shares, uint32_t k)
{
    double entropy = 0;

    for (uint32_t i = 0; i < k; i++) {
        if (shares[i] > 0) {
            entropy -= share(shares[i]) * log(share(shares[i]));
        }
    }
    return exp(entropy);
}

/* The shortest number that is the same in single precision; infinite if too large for that. */
static double tidy(double v)
{
    char text[40];

    if (fabs(v) >= (double)FLT_MAX) {
        return v > 0 ? INFINITY : -INFINITY;
    }

    for (int digits = 6; digits < 9 && isfinite(v); digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, v);
        if ((float)strtod(text, NULL) == (float)v) {
            return strtod(text, NULL);
        }
    }
    return v;
}

/* A smaller change than this may be one of precision alone. */
#define CHANGE_LEAST 1e-6

/* How much a term has changed, relative to what it was and is: 0 .. 2. */
static double change(double was, double now)
{
    double size = fmax(fabs(was), fabs(now));

    if (!isfinite(was) || !isfinite(now)) {
        return isfinite(was) == isfinite(now) ? 0 : 2;
    }
    return size > 0 ? fabs(now - was) / size : 0;
}

/* ---- which domains are listed --------------------------------------------------------------- */

struct moved {
    uint64_t by;
    uint32_t domain;
};

static int most_first(const void *a, const void *b)
{
    const struct moved *x = a, *y = b;

    return x->by != y->by ? (x->by < y->by ? 1 : -1) : x->domain < y->domain ? -1 : 1;
}

/* Which domains are listed, as k flags: all, or those whose shares moved most. NULL if memory is
 * out. */
static char *choose(const struct mx_why *y, uint32_t most)
{
    uint32_t k = y->conf->k;
    char *listed = malloc(k);
    struct moved *m = k > most ? malloc(k * sizeof *m) : NULL;

    for (uint32_t i = 0; listed != NULL && i < k; i++) {
        listed[i] = k <= most;
    }
    for (uint32_t i = 0; m != NULL && i < k; i++) {
        uint64_t was = y->was != NULL ? y->was[i] : 0;

        m[i] = (struct moved){was > y->shares[i] ? was - y->shares[i] : y->shares[i] - was, i};
    }
    if (m != NULL) {
        qsort(m, k, sizeof *m, most_first);
    }
    for (uint32_t i = 0; m != NULL && listed != NULL && i < most; i++) {
        listed[m[i].domain] = 1;
    }
    free(m);
    return listed;
}

/* ---- members -------------------------------------------------------------------------------- */

static void numbers(struct mx_jsonw *w, const char *key, const struct mx_why *y,
                    const char *listed, const double *v)
{
    mx_jsonw_object(w, key);
    for (uint32_t i = 0; i < y->conf->k; i++) {
        if (listed[i]) {
            mx_jsonw_double(w, y->conf->domains[i].name, y->single ? tidy(v[i]) : v[i]);
        }
    }
    mx_jsonw_end_object(w);
}

static void shares(struct mx_jsonw *w, const char *key, const struct mx_why *y, const char *listed,
                   const uint64_t *v)
{
    mx_jsonw_object(w, key);
    for (uint32_t i = 0; i < y->conf->k; i++) {
        if (listed[i]) {
            mx_jsonw_double(w, y->conf->domains[i].name, share(v[i]));
        }
    }
    mx_jsonw_end_object(w);
}

static void terms(struct mx_jsonw *w, const struct mx_why *y, const char *listed)
{
    mx_jsonw_object(w, "terms");
    for (uint32_t t = 0; t < y->n_terms; t++) {
        numbers(w, t < y->policy->n_terms ? y->policy->terms[t] : "unknown", y, listed,
                y->terms + (size_t)t * y->conf->k);
    }
    mx_jsonw_end_object(w);
}

static void moved_most(struct mx_jsonw *w, const struct mx_why *y, const char *listed)
{
    uint32_t k = y->conf->k;

    mx_jsonw_object(w, "moved_most");
    for (uint32_t i = 0; i < k; i++) {
        const char *term = NULL;
        double most = CHANGE_LEAST;

        for (uint32_t t = 0; t < y->n_terms && t < y->policy->n_terms; t++) {
            double by = change(tidy(y->was_terms[(size_t)t * k + i]),
                               tidy(y->terms[(size_t)t * k + i]));

            if (by > most) {
                most = by;
                term = y->policy->terms[t];
            }
        }
        if (listed[i] && term != NULL) {
            mx_jsonw_string(w, y->conf->domains[i].name, term);
        }
    }
    mx_jsonw_end_object(w);
}

static void bounds(struct mx_jsonw *w, const struct mx_why *y, const char *listed)
{
    mx_jsonw_object(w, "bound");
    for (uint32_t i = 0; i < y->conf->k; i++) {
        if (listed[i] && y->bound[i] != MX_BOUND_NONE) {
            mx_jsonw_string(w, y->conf->domains[i].name, mx_bound_name(y->bound[i]));
        }
    }
    mx_jsonw_end_object(w);
}

void mx_explain_mix(struct mx_jsonw *w, const struct mx_why *y, uint32_t most)
{
    uint32_t k = y->conf->k;
    char *listed = choose(y, most);
    bool lossy = y->n_shares == 2 * k;
    const uint64_t *told = lossy ? y->shares + k : y->shares;

    if (listed == NULL) {
        w->failed = true;
        return;
    }
    if (y->was != NULL) {
        shares(w, "was", y, listed, y->was);
    }
    if (y->weights != NULL) {
        numbers(w, "weights", y, listed, y->weights);
    }
    if (y->raw != NULL) {
        numbers(w, "raw", y, listed, y->raw);
    }
    if (y->mean != NULL) {
        numbers(w, "mean_weights", y, listed, y->mean);
    }
    if (lossy) {
        shares(w, "loss_weights", y, listed, told);
    }
    if (lossy && y->was_loss != NULL) {
        shares(w, "loss_was", y, listed, y->was_loss);
    }
    if (y->terms != NULL && y->policy != NULL) {
        terms(w, y, listed);
    }
    if (y->terms != NULL && y->policy != NULL && y->was_terms != NULL) {
        moved_most(w, y, listed);
    }
    if (y->bound != NULL) {
        bounds(w, y, listed);
    }
    if (y->prior != NULL) {
        mx_jsonw_double(w, "kl_prior", mx_explain_kl(told, y->prior, k));
    }
    mx_jsonw_double(w, "effective_domains", mx_explain_effective(told, k));
    free(listed);
}

void mx_explain_phase(struct mx_jsonw *w, const struct mx_runconf *conf, uint32_t phase)
{
    if (phase < conf->n_phases) {
        mx_jsonw_u64(w, "phase", phase);
        mx_jsonw_string(w, "phase_name", conf->phases[phase].name);
    }
}

void mx_explain_numbers(struct mx_jsonw *w, const char *key, const struct mx_runconf *conf,
                        const double *v)
{
    mx_jsonw_object(w, key);
    for (uint32_t i = 0; i < conf->k; i++) {
        mx_jsonw_double(w, conf->domains[i].name, v[i]);
    }
    mx_jsonw_end_object(w);
}

void mx_explain_shares(struct mx_jsonw *w, const char *key, const struct mx_runconf *conf,
                       const uint64_t *v)
{
    mx_jsonw_object(w, key);
    for (uint32_t i = 0; i < conf->k; i++) {
        mx_jsonw_double(w, conf->domains[i].name, share(v[i]));
    }
    mx_jsonw_end_object(w);
}

void mx_explain_counts(struct mx_jsonw *w, const char *key, const double *mixer_state)
{
    struct mx_mixer_counts n = mx_mixer_counts(mixer_state);

    mx_jsonw_object(w, key);
    mx_jsonw_u64(w, "updates", n.updates);
    mx_jsonw_u64(w, "clipped", n.clipped);
    mx_jsonw_u64(w, "filled", n.filled);
    mx_jsonw_u64(w, "stale", n.stale);
    mx_jsonw_u64(w, "broken", n.broken);
    mx_jsonw_end_object(w);
}
