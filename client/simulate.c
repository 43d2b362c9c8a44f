/* simulate.c - see simulate.h. */
#include "client/simulate.h"

#include "daemon/dryrun.h"
#include "daemon/entry.h"
#include "proto/limits.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of every domain: more than any simulation draws, and far from where cursors end. */
#define SIM_SAMPLES ((uint64_t)1 << 40)

/* An entry with the bytes that it points into; none if bytes is NULL. */
struct kept {
    struct mx_entry_box box;
    uint8_t *bytes;
};

struct sim {
    const struct mx_runconf *conf;
    struct mx_run *run;
    struct mx_dryrun dry;
    double *prior;
    struct mx_limit *limits;
    struct mx_plan_domain *domains;
    struct kept mix, before;
    uint64_t *was; /* k: shares of the mix before */
    bool has_was;
    const struct mx_entry *report; /* that is being given */
    struct sim_bad *bad;
    uint32_t n_bad, cap_bad;
};

struct mx_run *sim_run(struct sim *s)
{
    return s->run;
}

const struct mx_entry *sim_mix(const struct sim *s, const uint64_t **ret_was)
{
    *ret_was = s->has_was ? s->was : NULL;
    return &s->mix.box.entry;
}

const struct mx_entry *sim_mix_before(const struct sim *s)
{
    return s->before.bytes != NULL ? &s->before.box.entry : NULL;
}

static int no_memory(struct mx_err *err)
{
    return mx_fail(err, MX_ENOMEM, "no memory to simulate a run");
}

/* ---- mixes ---------------------------------------------------------------------------------- */

static void forget(struct kept *x)
{
    if (x->bytes != NULL) {
        mx_entry_box_clear(&x->box);
    }
    free(x->bytes);
    *x = (struct kept){.bytes = NULL};
}

/* An entry that makes a mix is kept, for explanations. */
static int on_applied(void *arg, const struct mx_entry *e, struct mx_err *err)
{
    struct sim *s = arg;
    uint32_t k = s->conf->k;
    size_t n;

    if (!mx_entry_makes_mix(e->kind)) {
        return 0;
    }
    if (s->mix.bytes != NULL) {
        memcpy(s->was, s->mix.box.entry.shares, k * sizeof *s->was);
        s->has_was = true;
        forget(&s->before);
        s->before = s->mix;
        s->mix = (struct kept){.bytes = NULL};
    }
    s->mix.bytes = mx_entry_encode(e, k, &n);
    if (s->mix.bytes == NULL) {
        return no_memory(err);
    }
    return mx_entry_decode((struct mx_span){s->mix.bytes, n}, k, &s->mix.box, err);
}

/* ---- steps ---------------------------------------------------------------------------------- */

static int refuse(const struct sim *s, struct mx_err *err)
{
    uint64_t a = s->dry.refusal.u[0], b = s->dry.refusal.u[1];

    switch (s->dry.refusal.verdict) {
    case MX_ENDED: return mx_fail(err, MX_EINVALID, "the run ends before step %" PRIu64, a);
    case MX_OUT_OF_SAMPLES:
        return mx_fail(err, MX_EINVALID, "domain %s has no samples left for step %" PRIu64,
                       a < s->conf->k ? s->conf->domains[a].name : "?", b);
    case MX_BAD_RANK:
        return mx_fail(err, MX_EINVALID, "rank must be below world, and world in 1..%u",
                       MX_WORLD_MAX);
    case MX_BAD_STEP: return mx_fail(err, MX_EINVALID, "the step is over the limit");
    case MX_BAD_WORLD:
        return mx_fail(err, MX_EINVALID, "the step's other reports are of a world of %" PRIu64, a);
    case MX_BAD_DOMAIN:
        return mx_fail(err, MX_EINVALID, "there is no domain number %" PRIu64, a);
    case MX_BAD_EVAL:
        return mx_fail(err, MX_EINVALID, "eval set %" PRIu64 " or its member %" PRIu64
                       " doesn't exist or comes twice", a, b);
    case MX_BAD_REWARD:
        return mx_fail(err, MX_EINVALID, "the reward of domain %" PRIu64
                       " is of none or comes twice", a);
    case MX_BAD_SCORE:
        return mx_fail(err, MX_EINVALID, "a score is of domain %" PRIu64 ", which isn't there", a);
    case MX_BAD_GRAM:
        return mx_fail(err, MX_EINVALID, "gradients of %" PRIu64 " domains: over %u, or one comes "
                       "twice", a, MX_GRAM_MAX);
    case MX_TOO_MANY_OPEN:
        return mx_fail(err, MX_EINVALID, "%" PRIu64 " steps wait for reports of other ranks, and "
                       "feedback.timeout_s is none", a);
    default:
        return mx_fail(err, MX_EINVALID, "the run refuses it (verdict %d)",
                       (int)s->dry.refusal.verdict);
    }
}

/* Has the steps up to and with `step` planned. */
static int plan_to(struct sim *s, uint64_t step, uint32_t world, struct mx_err *err)
{
    struct mx_run_view v;
    int rc = mx_dryrun_plan(&s->dry, step, s->conf->max_ahead, world, err);

    if (rc < 0 || (!s->dry.refused && !s->dry.held)) {
        return rc;
    }
    if (s->dry.refused) {
        return refuse(s, err);
    }
    mx_run_view(s->run, &v);
    return mx_fail(err, MX_EINVALID, "step %" PRIu64 " can't be planned before the feedback of "
                   "step %" PRIu64 " is there (lockstep)", v.frontier, v.consumed);
}

/* ---- reports -------------------------------------------------------------------------------- */

static int add_bad(struct sim *s, struct sim_bad bad, struct mx_err *err)
{
    if (s->n_bad == s->cap_bad) {
        uint32_t cap = s->cap_bad * 2 + 16;
        struct sim_bad *more = realloc(s->bad, cap * sizeof *more);

        if (more == NULL) {
            return no_memory(err);
        }
        s->bad = more;
        s->cap_bad = cap;
    }
    s->bad[s->n_bad++] = bad;
    return 0;
}

static double mean(double sum, uint64_t n)
{
    return n > 0 ? sum / (double)n : sum;
}

/* What the report had and the entry that the run asks for hasn't. Both rise. */
static int on_append(void *arg, const struct mx_effect *fx, struct mx_err *err)
{
    struct sim *s = arg;
    const struct mx_entry *in = s->report, *kept = &fx->entry;
    uint32_t at = 0;
    int rc = 0;

    if (kept->kind != MX_ENTRY_FEEDBACK) {
        return 0;
    }

    for (uint32_t i = 0; i < in->n && rc == 0; i++) {
        const struct mx_loss *l = &in->losses[i];

        if (at < kept->n && kept->losses[at].domain == l->domain) {
            at++;
        } else {
            rc = add_bad(s, (struct sim_bad){"train", 0, l->domain, mean(l->loss_sum, l->tokens)},
                         err);
        }
    }
    at = 0;
    for (uint32_t i = 0; i < in->n_evals && rc == 0; i++) {
        const struct mx_eval_loss *l = &in->evals[i];

        if (at < kept->n_evals && kept->evals[at].set == l->set &&
            kept->evals[at].member == l->member) {
            at++;
        } else {
            rc = add_bad(s, (struct sim_bad){"eval", l->set, l->member,
                                             mean(l->loss_sum, l->tokens)}, err);
        }
    }
    at = 0;
    for (uint32_t i = 0; i < in->n_rewards && rc == 0; i++) {
        const struct mx_reward *r = &in->rewards[i];

        if (at < kept->n_rewards && kept->rewards[at].domain == r->domain) {
            at++;
        } else {
            rc = add_bad(s, (struct sim_bad){"reward", 0, r->domain, mean(r->sum, r->count)}, err);
        }
    }
    if (rc == 0 && in->n_gram > 0 && kept->n_gram == 0) {
        rc = add_bad(s, (struct sim_bad){"grad", 0, in->gram_domains[0], in->gram[0]}, err);
    }
    if (rc == 0 && in->n_scores > 0 && kept->n_scores == 0) {
        rc = add_bad(s, (struct sim_bad){"scores", 0, in->scores[0].domain, in->scores[0].score},
                     err);
    }
    return rc;
}

static int give_report(struct sim *s, const struct mx_entry *report, struct mx_err *err)
{
    struct mx_event ev = {.kind = MX_EV_FEEDBACK, .entry = report};

    s->report = report;
    s->n_bad = 0;
    return mx_dryrun_play(&s->dry, &ev, err);
}

/* The ranks that are missing are no longer waited for. */
static int time_out(struct sim *s, struct mx_err *err)
{
    struct mx_event ev = {.kind = MX_EV_TIMER};

    s->dry.now_ms = s->dry.timer_ms;
    s->dry.timer_ms = UINT64_MAX;
    return mx_dryrun_play(&s->dry, &ev, err);
}

int sim_report(struct sim *s, const struct mx_entry *report, struct sim_outcome *ret,
               struct mx_err *err)
{
    struct mx_entry e = *report;
    uint64_t version;
    struct mx_run_view v;
    int rc;

    e.mix_version = 0;
    if (e.world == 0 || e.world > MX_WORLD_MAX || e.rank >= e.world) {
        s->dry.refusal.verdict = MX_BAD_RANK;
        return refuse(s, err);
    }
    if ((rc = plan_to(s, e.step, e.world, err)) < 0) {
        return rc;
    }
    mx_run_view(s->run, &v);
    version = v.versions;
    rc = give_report(s, &e, err);
    if (rc == 0 && s->dry.refused && s->dry.refusal.verdict == MX_TOO_MANY_OPEN &&
        s->dry.timer_ms != UINT64_MAX) {
        rc = time_out(s, err);
        rc = rc == 0 ? give_report(s, &e, err) : rc;
    }
    if (rc < 0) {
        return rc;
    }
    mx_run_view(s->run, &v);
    *ret = (struct sim_outcome){.what = "accepted", .moved = v.versions != version, .bad = s->bad,
                                .n_bad = s->n_bad};
    if (s->dry.refused && s->dry.refusal.verdict == MX_DUPLICATE) {
        ret->what = "duplicate";
    } else if (s->dry.refused && (s->dry.refusal.verdict == MX_LATE ||
                                  s->dry.refusal.verdict == MX_SKIPPED)) {
        ret->what = "late";
    } else if (s->dry.refused) {
        return refuse(s, err);
    } else if (!s->dry.counted) {
        ret->what = "late";
    }
    return 0;
}

/* ---- beginning ------------------------------------------------------------------------------ */

static struct mx_plan_spec plan_of(const struct mx_runconf *c, const struct mx_plan_domain *domains)
{
    struct mx_plan_spec plan = {.seed = c->seed, .batch = (uint32_t)c->batch_size, .k = c->k,
                                .block = (uint32_t)c->block, .sampling = c->sampling,
                                .domains = domains};

    if (c->n_parts > 1) {
        plan.parts = c->parts;
        plan.n_parts = c->n_parts;
    }
    return plan;
}

/* Weights as given, or all alike; domains that never run out. */
static void make_domains(struct sim *s, const struct mx_plan_spec *plan)
{
    for (uint32_t i = 0; i < s->conf->k; i++) {
        double w = s->conf->domains[i].weight;

        s->prior[i] = isnan(w) ? 1 : w;
        s->limits[i] = s->conf->domains[i].limit;
        s->domains[i] = (struct mx_plan_domain){.samples = SIM_SAMPLES, .budget = MX_NO_BUDGET,
                                                .chunk = mx_plan_chunk(plan, 1),
                                                .window = (uint32_t)s->conf->window};
    }
}

struct sim *sim_new(const struct mx_runconf *conf, struct mx_err *err)
{
    struct sim *s = calloc(1, sizeof *s);
    uint32_t k = conf->k;
    struct mx_plan_spec plan;
    struct mx_run_config c;
    void *memory;

    if (s == NULL) {
        (void)no_memory(err);
        return NULL;
    }
    s->conf = conf;
    s->prior = calloc(k, sizeof *s->prior);
    s->limits = calloc(k, sizeof *s->limits);
    s->domains = calloc(k, sizeof *s->domains);
    s->was = calloc(k, sizeof *s->was);
    if (s->prior == NULL || s->limits == NULL || s->domains == NULL || s->was == NULL) {
        (void)no_memory(err);
        sim_free(s);
        return NULL;
    }
    plan = plan_of(conf, s->domains);
    make_domains(s, &plan);
    c = mx_runconf_core(conf, &plan);
    c.prior = s->prior;
    c.limits = s->limits;
    c.seq_len = MX_SEQ_LEN_MAX; /* what is simulated may be of larger batches than the config's */
    memory = malloc(mx_run_size(&c));
    if (memory == NULL) {
        (void)no_memory(err);
        sim_free(s);
        return NULL;
    }
    s->run = mx_run_init(memory, &c);
    mx_dryrun_init(&s->dry, s->run, k);
    s->dry.on_append = on_append;
    s->dry.on_applied = on_applied;
    s->dry.arg = s;
    if (mx_dryrun_begin(&s->dry, err) < 0) {
        sim_free(s);
        return NULL;
    }
    return s;
}

void sim_free(struct sim *s)
{
    if (s == NULL) {
        return;
    }
    if (s->run != NULL) {
        mx_dryrun_fini(&s->dry);
    }
    forget(&s->mix);
    forget(&s->before);
    free(s->was);
    free(s->bad);
    free(s->prior);
    free(s->limits);
    free(s->domains);
    free(s->run);
    free(s);
}
