/* ops_policy.c - what a run's policy does and why, for operators and dashboards. See ops.c.
 *
 * The newest mix is read from the store when somebody asks and there is a newer one than was read
 * before; the rest is the run's state as it stands. The loop's. */
#include "daemon/log.h"
#include "daemon/ops.h"
#include "daemon/why.h"

#include <math.h>
#include <string.h>

/* Requests for evaluations that are listed. */
#define REQUESTS_LISTED 64u

struct mx_why_source mx_op_whence(const struct mx_host *h, const struct mx_ground *ground)
{
    const struct mx_policy_conf *p = &mx_run_mixer(h->core, 0)->policy;

    return (struct mx_why_source){.catalog = h->d->catalog, .journal = h->d->journal, .run = h->id,
                                  .conf = &h->conf, .ground = ground, .policy = p->ops,
                                  .prior = p->prior};
}

/* ---- values left out ------------------------------------------------------------------------ */

static const char *const parts[MX_REPORT_PARTS] = {"train", "eval", "reward", "grad", "scores"};

const char *mx_policy_part(unsigned part)
{
    return parts[part];
}

void mx_policy_quarantined(struct mx_host *h, const struct mx_effect *fx)
{
    for (unsigned i = 0; fx->quarantined > 0 && i < MX_REPORT_PARTS; i++) {
        if (strcmp(parts[i], fx->bad_part) == 0) {
            h->quarantined[i]++;
        }
    }
}

/* ---- the newest mix ------------------------------------------------------------------------- */

void mx_policy_forget(struct mx_host *h)
{
    if (h->why != NULL) {
        mx_why_clear(h->why);
    }
    free(h->why);
    h->why = NULL;
}

/* NULL if there is none yet, or it can't be read. */
static const struct mx_why_mix *newest(struct mx_host *h, const struct mx_run_view *v)
{
    struct mx_why_source s = mx_op_whence(h, h->ground);
    struct mx_err err;

    if (h->why != NULL && h->why_version == v->versions) {
        return h->why;
    }
    mx_policy_forget(h);
    if (v->mix_version == 0 || (h->why = calloc(1, sizeof *h->why)) == NULL) {
        return NULL;
    }
    if (mx_why_newest(&s, v->frontier, h->why, &err) < 0) {
        mx_log(MX_LOG_WARN, "policy.show", "run=%s error=\"%s\"", h->conf.name, err.text);
        free(h->why);
        h->why = NULL;
        return NULL;
    }
    h->why_version = v->versions;
    return h->why;
}

static void write_shares(struct mx_jsonw *w, const struct mx_host *h, const uint64_t *shares)
{
    mx_jsonw_object(w, "shares");
    for (uint32_t i = 0; i < h->conf.k && h->conf.k <= MX_EXPLAIN_LISTED; i++) {
        mx_jsonw_double(w, h->conf.domains[i].name, (double)shares[i] / (double)MX_SHARE_ONE);
    }
    mx_jsonw_end_object(w);
}

static void write_mix(struct mx_jsonw *w, const struct mx_host *h, const struct mx_why_mix *m)
{
    const struct mx_entry *e = &m->made.box.entry;
    struct mx_why_source s = mx_op_whence(h, h->ground);

    mx_jsonw_object(w, "mix");
    mx_jsonw_u64(w, "version", m->mix.version);
    mx_jsonw_u64(w, "from_step", m->mix.from_step);
    mx_jsonw_u64(w, "entry", m->mix.index);
    write_shares(w, h, m->shares);
    if (m->made.bytes != NULL) { /* else it was compacted away */
        mx_jsonw_u64(w, "time_ms", e->time_ms);
        mx_jsonw_string(w, "cause", mx_cause_name(e->cause));
        mx_jsonw_u64(w, "cause_step", e->cause_step);
        mx_explain_phase(w, &h->conf, e->phase);
        mx_jsonw_string_n(w, "author", e->author, e->author_len);
        mx_jsonw_string_n(w, "why", e->why, e->why_len);
        mx_why_write(w, &s, e, m);
    }
    mx_jsonw_end_object(w);
}

/* ---- the state as it stands ----------------------------------------------------------------- */

static void write_guards(struct mx_jsonw *w, const struct mx_guards *g)
{
    mx_jsonw_object(w, "guards");
    mx_jsonw_double(w, "loss_clip", g->loss_clip);
    mx_jsonw_double(w, "prior_decay", g->prior_decay);
    mx_jsonw_string(w, "absent", mx_absent_name(g->absent));
    mx_jsonw_double(w, "absent_decay", g->absent_decay);
    mx_jsonw_double(w, "stale_discount", g->stale_discount);
    mx_jsonw_double(w, "stale_max", g->stale_max);
    mx_jsonw_double(w, "max_change", g->max_change);
    mx_jsonw_end_object(w);
}

static void write_quarantined(struct mx_jsonw *w, const struct mx_host *h)
{
    mx_jsonw_object(w, "quarantined_reports");
    for (unsigned i = 0; i < MX_REPORT_PARTS; i++) {
        mx_jsonw_u64(w, parts[i], h->quarantined[i]);
    }
    mx_jsonw_end_object(w);
}

/* What the policy says now, whether a mix was made of it or not. */
static void write_now(struct mx_jsonw *w, const struct mx_host *h, const struct mx_run_view *v,
                      const struct mx_why_mix *m)
{
    const struct mx_mixer_conf *c = mx_run_mixer(h->core, 0);
    const double *state = mx_run_mixer_state(h->core, 0);
    size_t k = h->conf.k;
    uint32_t n_terms = c->policy.ops->n_terms;
    double *raw = malloc(k * sizeof *raw), *terms = malloc((n_terms + 1) * k * sizeof *terms);
    struct mx_why y = {.conf = &h->conf, .prior = c->policy.prior, .was = m != NULL ? m->was : NULL,
                       .shares = v->shares, .n_shares = h->conf.k, .raw = raw,
                       .weights = mx_mixer_weights(state), .mean = mx_mixer_mean(state, c),
                       .policy = c->policy.ops, .terms = n_terms > 0 ? terms : NULL,
                       .n_terms = n_terms};

    if (raw == NULL || terms == NULL) {
        w->failed = true;
    } else {
        mx_mixer_raw(state, c, raw);
        mx_mixer_explain(state, c, terms);
        mx_jsonw_object(w, "now");
        mx_jsonw_u64(w, "version", v->mix_version);
        mx_explain_mix(w, &y, MX_EXPLAIN_LISTED);
        mx_jsonw_end_object(w);
    }
    free(raw);
    free(terms);
}

static void write_requests(struct mx_jsonw *w, const struct mx_host *h)
{
    uint64_t steps[REQUESTS_LISTED];
    uint32_t n = mx_run_requests(h->core, steps, REQUESTS_LISTED);

    mx_jsonw_array(w, "evaluate_after");
    for (uint32_t i = 0; i < n; i++) {
        mx_jsonw_u64(w, NULL, steps[i]);
    }
    mx_jsonw_end_array(w);
}

/* A shadow, with the mix that it would make. Of many domains the shares are left out. */
static void write_shadow(struct mx_jsonw *w, const struct mx_host *h, uint32_t i, uint64_t *shares)
{
    const struct mx_mixer_conf *c = mx_run_mixer(h->core, i);
    const double *state = mx_run_mixer_state(h->core, i);
    struct mx_why y = {.conf = &h->conf, .prior = c->policy.prior, .shares = shares,
                       .n_shares = h->conf.k, .weights = mx_mixer_weights(state)};

    mx_run_would(h->core, i, shares);
    mx_jsonw_object(w, NULL);
    mx_jsonw_string(w, "label", h->conf.policies[i].label);
    mx_jsonw_string(w, "policy", c->policy.ops->name);
    write_shares(w, h, shares);
    mx_explain_mix(w, &y, MX_EXPLAIN_LISTED / 4);
    mx_explain_counts(w, "counts", state);
    mx_jsonw_bool(w, "working", mx_mixer_wants_work(state, c) != 0);
    mx_jsonw_end_object(w);
}

static void write_shadows(struct mx_jsonw *w, const struct mx_host *h)
{
    uint64_t *shares = malloc(h->conf.k * sizeof *shares);

    if (shares == NULL) {
        w->failed = true;
        return;
    }
    mx_jsonw_array(w, "shadows");
    for (uint32_t i = 1; i < h->conf.n_mixers; i++) {
        write_shadow(w, h, i, shares);
    }
    mx_jsonw_end_array(w);
    free(shares);
}

void mx_policy_detail(struct mx_host *h, struct mx_jsonw *w)
{
    const struct mx_mixer_conf *c = mx_run_mixer(h->core, 0);
    const struct mx_why_mix *m;
    struct mx_run_view v;

    mx_run_view(h->core, &v);
    m = newest(h, &v);
    mx_jsonw_string(w, "policy", c->policy.ops->name);
    mx_jsonw_string(w, "apply", c->guards.apply == MX_APPLY_LOSS ? "loss" : "sampler");
    if (m != NULL) {
        write_mix(w, h, m);
    } else {
        mx_jsonw_null(w, "mix");
    }
    write_now(w, h, &v, m);
    write_guards(w, &c->guards);
    mx_explain_counts(w, "counts", mx_run_mixer_state(h->core, 0));
    write_quarantined(w, h);
    write_requests(w, h);
    mx_jsonw_bool(w, "working", v.working != 0);
    write_shadows(w, h);
}

int mx_op_policy_show(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    struct mx_run_view v;
    struct mx_jsonw w;

    if (h == NULL) {
        return err->code;
    }
    mx_run_view(h->core, &v);
    mx_jsonw_init(&w, MX_ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "run", h->conf.name);
    mx_jsonw_u64(&w, "frontier", v.frontier);
    mx_policy_detail(h, &w);
    mx_jsonw_end_object(&w);
    mx_op_send(op->d, op->req, &w);
    return 0;
}
