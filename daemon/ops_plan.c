/* ops_plan.c - what a run would draw, from its config and the domains there are: the answer to
 * plan. See ops.c.
 *
 * A run is put together as for run.create, but served to nobody; its steps are planned one after
 * the other without any feedback, on a task's thread. So the forecast is exact for what it assumes:
 * that the policy moves nothing. It takes as long as planning takes, and has a limit for that. */
#include "daemon/dryrun.h"
#include "daemon/ops.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Steps times what a step costs, in domains: half a minute of planning. */
#define PLAN_WORK_MAX ((uint64_t)1 << 30)
/* A step costs as much as so many domains, beside its own. */
#define STEP_COST 64u
/* Domains in an answer; of more, those of which most is drawn. */
#define PLAN_LISTED 400u
/* Steps between two looks at whether the daemon stops. */
#define STOP_LOOKS 1024u

struct forecast {
    struct mx_task task; /* first */
    struct mx_daemon *d;
    struct mx_req *req;
    struct mx_host *h; /* of its own */
    struct mx_dryrun dry;
    uint64_t steps, planned;
    uint64_t *once, *out; /* k: the steps in which a domain has been seen once, and has run out */
    uint32_t *waiting;    /* domains that haven't been seen once */
    uint32_t n_waiting;
    uint64_t mixes;
    uint64_t *drawn;      /* k: samples, without those passed over */
    uint64_t *first;      /* k: shares of step 0 */
    uint32_t stopped_by;  /* domain + 1 */
    struct mx_jsonw w;
    int rc;
    struct mx_err err;
};

static void free_forecast(struct forecast *f)
{
    mx_dryrun_fini(&f->dry);
    mx_host_draft_free(f->h);
    free(f->once);
    free(f->out);
    free(f->waiting);
    free(f->first);
    free(f->drawn);
    mx_jsonw_fini(&f->w);
    free(f);
}

/* ---- planning ------------------------------------------------------------------------------- */

static int on_applied(void *arg, const struct mx_entry *e, struct mx_err *err)
{
    struct forecast *f = arg;

    (void)err;
    if (e->kind == MX_ENTRY_EXHAUSTED && !e->flag) {
        f->out[e->domain] = e->step;
    } else if (e->kind == MX_ENTRY_EXHAUSTED) {
        f->stopped_by = e->domain + 1;
    } else if (e->kind == MX_ENTRY_CREATE) {
        memcpy(f->first, e->shares, f->h->conf.k * sizeof *f->first);
    }
    f->mixes += e->kind == MX_ENTRY_MIX;
    return 0;
}

static int begin(struct forecast *f, struct mx_err *err)
{
    struct mx_host *h = f->h;
    uint32_t k;
    int rc;

    if ((rc = mx_host_draft_open(h, err)) < 0 || (rc = mx_sync_check_new(h, err)) < 0) {
        return rc;
    }
    k = h->conf.k;
    f->once = malloc(k * sizeof *f->once);
    f->out = malloc(k * sizeof *f->out);
    f->first = malloc(k * sizeof *f->first);
    f->drawn = calloc(k, sizeof *f->drawn);
    f->waiting = malloc(k * sizeof *f->waiting);
    if (f->once == NULL || f->out == NULL || f->first == NULL ||
        f->drawn == NULL || f->waiting == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory to plan %" PRIu32 " domains", k);
    }
    for (uint32_t i = 0; i < k; i++) {
        f->once[i] = f->out[i] = UINT64_MAX;
        f->waiting[i] = i;
    }
    f->n_waiting = k;
    mx_dryrun_init(&f->dry, h->core, k);
    f->dry.on_applied = on_applied;
    f->dry.arg = f;
    return mx_dryrun_begin(&f->dry, err);
}

/* What was withdrawn from the domains before the run began. */
static int withdraw(struct forecast *f, struct mx_err *err)
{
    int rc = 0;

    for (uint32_t i = 0; i < f->h->conf.k && rc == 0; i++) {
        struct mx_entry e = {.domain = i};
        struct mx_event ev = {.kind = MX_EV_WITHDRAW, .entry = &e};
        struct mx_range *ranges = NULL;

        rc = mx_sync_withdrawn(f->h, i, &ranges, &e.n, &e.serial, err);
        if (rc == 0 && e.serial > 0) {
            e.ranges = ranges;
            rc = mx_dryrun_play(&f->dry, &ev, err);
            rc = rc == 0 && f->dry.refused
                     ? mx_fail(err, MX_EINVALID, "domain %s: what was withdrawn from it can't be "
                               "taken out", f->h->conf.domains[i].name) : rc;
        }
        free(ranges);
    }
    return rc;
}

/* What a step draws, and which domains have been gone through once with it. */
static void look(struct forecast *f, uint64_t step)
{
    uint32_t length = mx_plan_part_of(&f->h->plan, step).length;
    struct mx_run_view v;
    struct mx_step s;

    MX_REQUIRE(mx_run_step(f->h->core, step, 0, &s) == MX_STEP_HERE);
    for (uint32_t i = 0; i < f->h->conf.k; i++) {
        f->drawn[i] += (uint64_t)(s.prefix[i + 1] - s.prefix[i]) * length;
    }
    mx_run_view(f->h->core, &v);
    for (uint32_t j = 0; j < f->n_waiting;) {
        uint32_t i = f->waiting[j];

        if (v.cursors[i] >= mx_run_domains(f->h->core)[i].samples) {
            f->once[i] = step;
            f->waiting[j] = f->waiting[--f->n_waiting];
        } else {
            j++;
        }
    }
}

static int check_work(const struct forecast *f, struct mx_err *err)
{
    const struct mx_runconf *c = &f->h->conf;
    uint64_t cost = STEP_COST + c->k;

    if (c->sampling != MX_SAMPLING_SYSTEMATIC) { /* every slot is drawn by itself */
        cost += mx_plan_batch_most(&f->h->plan);
    }
    if (f->steps > PLAN_WORK_MAX / cost) {
        return mx_fail(err, MX_EINVALID, "%" PRIu64 " steps of %" PRIu32 " domains take too long "
                       "to plan; at most %" PRIu64 " do", f->steps, c->k, PLAN_WORK_MAX / cost);
    }
    return 0;
}

static int walk(struct forecast *f, struct mx_err *err)
{
    int rc = 0;

    while (rc == 0 && f->planned < f->steps) {
        if (f->planned % STOP_LOOKS == 0 && mx_task_stopped(&f->task)) {
            return mx_fail(err, MX_EBUSY, "the daemon is stopping");
        }
        rc = mx_dryrun_plan(&f->dry, f->planned, 1, 1, err);
        if (rc < 0 || f->dry.refused) {
            return rc; /* refused: the run's end, or a domain's */
        }
        if (f->dry.held) {
            return mx_fail(err, MX_EINVALID, "step %" PRIu64 " can't be planned without feedback",
                           f->planned);
        }
        look(f, f->planned);
        f->planned++;
    }
    return rc;
}

/* ---- the answer ----------------------------------------------------------------------------- */

static void write_step(struct mx_jsonw *w, const char *key, uint64_t step)
{
    if (step != UINT64_MAX) {
        mx_jsonw_u64(w, key, step);
    } else {
        mx_jsonw_null(w, key);
    }
}

/* Bytes that are read of a domain to draw up to a cursor. Of raw shards what is drawn; of
 * compressed ones each stored block once for each pass over the domain, since a window's blocks are
 * kept while its samples are drawn. */
static int read_bytes(const struct forecast *f, uint32_t i, uint64_t cursor, double *ret,
                      struct mx_err *err)
{
    const struct mx_view *v = f->h->views[i];
    struct mx_domain d;
    int rc;

    if (v->chunk <= 1) {
        *ret = (double)f->drawn[i] * (double)v->seq_len * (double)v->width;
        return 0;
    }
    rc = mx_catalog_domain_by_id(f->h->d->catalog, f->h->record.domains[i].id, &d, err);
    *ret = rc == 0 ? mx_epochs(f->h, i, cursor) * (double)d.bytes : 0;
    return rc;
}

static int write_domain(struct forecast *f, const struct mx_run_view *v, uint32_t i)
{
    const struct mx_runconf_domain *c = &f->h->conf.domains[i];
    struct mx_jsonw *w = &f->w;
    double bytes = 0;
    int rc = read_bytes(f, i, v->cursors[i], &bytes, &f->err);

    mx_jsonw_object(w, NULL);
    mx_jsonw_string(w, "name", c->name);
    mx_jsonw_double(w, "share_first", (double)f->first[i] / (double)MX_SHARE_ONE);
    mx_jsonw_double(w, "share_last", (double)v->shares[i] / (double)MX_SHARE_ONE);
    mx_jsonw_u64(w, "samples", f->h->views[i]->samples);
    mx_jsonw_u64(w, "drawn", f->drawn[i]);
    mx_jsonw_u64(w, "tokens", f->drawn[i] * f->h->views[i]->seq_len);
    mx_jsonw_double(w, "epochs", mx_epochs(f->h, i, v->cursors[i]));
    mx_jsonw_double(w, "max_epochs", c->max_epochs > 0 ? c->max_epochs : NAN);
    write_step(w, "seen_once_step", f->once[i]);
    write_step(w, "runs_out_step", f->out[i]);
    mx_jsonw_string(w, "storage", f->h->views[i]->chunk > 1 ? "compressed" : "raw");
    mx_jsonw_double(w, "read_bytes", bytes);
    mx_jsonw_end_object(w);
    return rc;
}

struct drawn {
    uint64_t n;
    uint32_t domain;
};

static int most_first(const void *a, const void *b)
{
    const struct drawn *x = a, *y = b;

    return x->n != y->n ? (x->n < y->n ? 1 : -1) : x->domain < y->domain ? -1 : 1;
}

static int write_domains(struct forecast *f, const struct mx_run_view *v)
{
    uint32_t k = f->h->conf.k, n = k < PLAN_LISTED ? k : PLAN_LISTED;
    struct drawn *order = malloc(k * sizeof *order);
    int rc = 0;

    if (order == NULL) {
        return mx_fail(&f->err, MX_ENOMEM, "no memory for a list of domains");
    }
    for (uint32_t i = 0; i < k; i++) {
        order[i] = (struct drawn){f->drawn[i], i};
    }
    if (k > n) {
        qsort(order, k, sizeof *order, most_first);
    }
    mx_jsonw_array(&f->w, "domains");
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        rc = write_domain(f, v, order[i].domain);
    }
    mx_jsonw_end_array(&f->w);
    free(order);
    return rc;
}

/* What ends it before the steps that were asked for. */
static void write_end(struct forecast *f)
{
    struct mx_jsonw *w = &f->w;

    if (f->planned == f->steps) {
        mx_jsonw_null(w, "ends");
        return;
    }
    mx_jsonw_object(w, "ends");
    mx_jsonw_u64(w, "step", f->planned);
    mx_jsonw_string(w, "why", f->stopped_by > 0 ? "exhausted" : "end");
    if (f->stopped_by > 0) {
        mx_jsonw_string(w, "domain", f->h->conf.domains[f->stopped_by - 1].name);
    } else {
        mx_jsonw_null(w, "domain");
    }
    mx_jsonw_end_object(w);
}

static int write_answer(struct forecast *f)
{
    const struct mx_policy_ops *policy = mx_run_mixer(f->h->core, 0)->policy.ops;
    struct mx_jsonw *w = &f->w;
    struct mx_run_view v;
    uint64_t drawn = 0, tokens = 0;
    double bytes = 0, one = 0;
    int rc = 0;

    mx_run_view(f->h->core, &v);
    for (uint32_t i = 0; i < f->h->conf.k && rc == 0; i++) {
        drawn += f->drawn[i];
        tokens += f->drawn[i] * f->h->views[i]->seq_len;
        rc = read_bytes(f, i, v.cursors[i], &one, &f->err);
        bytes += one;
    }
    mx_jsonw_init(w, MX_ANSWER_MAX);
    mx_jsonw_object(w, NULL);
    mx_jsonw_string(w, "run", f->h->conf.name);
    mx_jsonw_u64(w, "steps", f->steps);
    mx_jsonw_u64(w, "planned", f->planned);
    write_end(f);
    mx_jsonw_string(w, "policy", policy->name);
    mx_jsonw_bool(w, "adapts", policy->adapts != 0);
    mx_jsonw_u64(w, "mixes", f->mixes);
    mx_jsonw_u64(w, "samples", drawn);
    mx_jsonw_u64(w, "tokens", tokens);
    mx_jsonw_double(w, "read_bytes", bytes);
    mx_jsonw_u64(w, "domain_count", f->h->conf.k);
    rc = rc == 0 ? write_domains(f, &v) : rc;
    mx_jsonw_end_object(w);
    return rc;
}

/* ---- the operation -------------------------------------------------------------------------- */

static void forecast_work(struct mx_task *t)
{
    struct forecast *f = (struct forecast *)t;

    f->rc = begin(f, &f->err);
    f->rc = f->rc == 0 ? check_work(f, &f->err) : f->rc;
    f->rc = f->rc == 0 ? withdraw(f, &f->err) : f->rc;
    f->rc = f->rc == 0 ? walk(f, &f->err) : f->rc;
    f->rc = f->rc == 0 ? write_answer(f) : f->rc;
}

static void forecast_done(struct mx_task *t)
{
    struct forecast *f = (struct forecast *)t;

    if (f->rc < 0) {
        mx_op_refuse(f->d, f->req, &f->err);
    } else {
        mx_op_send(f->d, f->req, &f->w);
    }
    free_forecast(f);
}

int mx_op_plan(const struct mx_op *op, struct mx_err *err)
{
    const char *config = NULL, *name = NULL;
    struct forecast *f;
    uint64_t steps = 0;
    int rc;

    if ((rc = mx_json_take_string(op->doc, op->o, "name", false, &name, err)) < 0 ||
        (rc = mx_json_take_string(op->doc, op->o, "config", true, &config, err)) < 0 ||
        (rc = mx_json_take_u64(op->doc, op->o, "steps", true, 1, MX_STEP_MAX, &steps, err)) < 0) {
        return rc;
    }
    f = calloc(1, sizeof *f);
    if (f == NULL || (f->h = mx_host_draft(op->d, config, strlen(config), name)) == NULL) {
        free(f);
        return mx_fail(err, MX_ENOMEM, "no memory to plan a run");
    }
    f->d = op->d;
    f->req = op->req;
    f->steps = steps;
    f->task.work = forecast_work;
    f->task.done = forecast_done;
    rc = mx_task_start(op->d->tasks, &f->task, err);
    if (rc < 0) {
        free_forecast(f);
    }
    return rc;
}
