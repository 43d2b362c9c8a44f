/* host.c - runs come into memory: created by an operator, or recovered from the catalog.
 *
 * A host joins what the core must not know (names, shards, files, requests) with the core's run.
 * Recovery is the fold of the journal from the latest snapshot; nothing is indexed at start. */
#include "daemon/daemon.h"
#include "daemon/entry.h"
#include "store/files.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct mx_host *mx_host_find(struct mx_daemon *d, const char *name)
{
    for (uint32_t i = 0; i < d->n_hosts; i++) {
        if (strcmp(d->hosts[i]->conf.name, name) == 0) {
            return d->hosts[i];
        }
    }
    return NULL;
}

struct mx_host *mx_host_by_id(struct mx_daemon *d, uint32_t id)
{
    for (uint32_t i = 0; i < d->n_hosts; i++) {
        if (d->hosts[i]->id == id) {
            return d->hosts[i];
        }
    }
    return NULL;
}

const char *mx_host_state(struct mx_host *h)
{
    struct mx_run_view v;

    if (h->failed[0] != '\0') {
        return "failed";
    }
    mx_run_view(h->core, &v);
    if (v.stopped) {
        return "stopped";
    }
    if (v.exhausted != 0) {
        return "exhausted";
    }
    return v.frontier >= v.end_step ? "ended" : "active";
}

static void free_view(struct mx_view *v)
{
    if (v != NULL) {
        mx_view_clear(v);
        free(v);
    }
}

static void free_host(struct mx_host *h)
{
    for (uint32_t i = 0; h->views != NULL && i < h->conf.k; i++) {
        free_view(h->views[i]);
    }
    for (uint32_t i = 0; i < h->n_retired; i++) {
        free_view(h->retired[i]);
    }
    mx_policy_forget(h);
    mx_ground_give(h->ground);
    free(h->retired);
    mx_run_record_clear(&h->record);
    mx_runconf_clear(&h->conf);
    free(h->views);
    free(h->plan_domains);
    free(h->takes_below);
    free(h->core);
    free(h->trainers);
    free(h->low);
    free(h);
}

/* ---- putting a host together ---- */

/* The slots under which a domain takes over others' in a batch: those up to its share, rounded up
 * as sampling may do; 1e-9: what rounding can add. 0: no limit. */
static uint32_t takes_below(const struct mx_limit *limit, uint32_t batch)
{
    double most = isnan(limit->pin) ? limit->ceiling : limit->pin;

    return most < 1 ? (uint32_t)ceil(most * (double)batch - 1e-9) + 1 : 0;
}

/* What the plan needs to know of a domain whose view is made. */
static int plan_domain(struct mx_host *h, uint32_t i, struct mx_err *err)
{
    const struct mx_runconf_domain *c = &h->conf.domains[i];
    const struct mx_view *v = h->views[i];
    double budget;
    struct mx_plan_domain *p = &h->plan_domains[i];

    *p = (struct mx_plan_domain){.samples = v->samples, .budget = MX_NO_BUDGET,
                                 .chunk = mx_plan_chunk(&h->plan, v->chunk),
                                 .window = (uint32_t)h->conf.window,
                                 .on_exhausted = c->on_exhausted, .max_epochs = c->max_epochs};
    p->takes_below = takes_below(mx_runconf_limit(&h->conf, 0, i), h->plan.batch);
    for (uint32_t j = 0; j < h->plan.n_parts; j++) {
        const struct mx_plan_part *part = &h->plan.parts[j];

        h->takes_below[(size_t)j * h->conf.k + i] =
            takes_below(mx_runconf_limit(&h->conf, part->from_step, i), part->batch);
    }
    if (c->max_epochs > 0) {
        budget = floor(c->max_epochs * (double)v->samples);
        if (budget < 1) {
            return mx_fail(err, MX_EINVALID, "domain %s: max_epochs %g of %" PRIu64
                           " samples is less than one", c->name, c->max_epochs, v->samples);
        }
        p->budget = budget < 9e15 ? (uint64_t)budget : MX_NO_BUDGET;
    }
    return 0;
}

/* Looks a domain up, by id where the run has one already, and cuts its shards into samples. */
static int open_domain(struct mx_host *h, uint32_t i, bool fresh, struct mx_domain *ret,
                       struct mx_err *err)
{
    struct mx_runconf_domain *c = &h->conf.domains[i];
    struct mx_run_domain *r = &h->record.domains[i];
    struct mx_view *v;
    int rc;

    rc = fresh ? mx_catalog_domain(h->d->catalog, c->name, ret, err)
               : mx_catalog_domain_by_id(h->d->catalog, r->id, ret, err);
    if (rc == MX_ENOTFOUND) {
        return mx_fail(err, MX_ENOTFOUND, "run %s: no domain \"%s\" in the store", h->conf.name,
                       c->name);
    }
    if (rc < 0) {
        return rc;
    }
    if (fresh) {
        r->id = ret->id;
        r->shards = ret->shards;
    }
    v = h->views[i] = calloc(1, sizeof *v);
    if (v == NULL) {
        return mx_fail(err, MX_ENOMEM, "run %s: no memory", h->conf.name);
    }
    rc = mx_view_make(h->d->catalog, ret, r->shards, (uint32_t)h->conf.unit, v, err);
    if (rc < 0) {
        return rc;
    }
    if (v->samples < mx_plan_longest(&h->plan)) {
        return mx_fail(err, MX_EINVALID, "domain %s: its %" PRIu64 " tokens don't hold one sample "
                       "of seq_len %" PRIu64, c->name, ret->tokens,
                       mx_plan_longest(&h->plan) * h->conf.unit);
    }
    return plan_domain(h, i, err);
}

/* All domains, which must speak of the same tokens. */
static int open_domains(struct mx_host *h, bool fresh, struct mx_err *err)
{
    struct mx_domain first = {0};

    h->eod = UINT32_MAX;
    for (uint32_t i = 0; i < h->conf.k; i++) {
        struct mx_domain d;
        int rc = open_domain(h, i, fresh, &d, err);

        if (rc < 0) {
            return rc;
        }
        if (i == 0) {
            first = d;
        } else if (strcmp(first.tokenizer, d.tokenizer) != 0) {
            return mx_fail(err, MX_EINVALID, "domains %s and %s have different tokenizers, \"%s\" "
                           "and \"%s\": their tokens mean different things", first.name, d.name,
                           first.tokenizer, d.tokenizer);
        }
        h->width = d.width > h->width ? d.width : h->width;
        h->eod = d.eod != UINT32_MAX ? d.eod : h->eod;
    }
    return 0;
}

bool mx_host_weighted(const struct mx_host *h)
{
    return h->conf.mixers[0].guards.apply == MX_APPLY_LOSS;
}

uint32_t mx_host_seq_len(const struct mx_host *h, uint64_t step)
{
    return mx_plan_part_of(&h->plan, step).length * (uint32_t)h->conf.unit;
}

uint32_t mx_host_slots_per_reply(const struct mx_host *h, uint64_t step)
{
    uint64_t seq_len = mx_host_seq_len(h, step);
    uint64_t slot = (mx_host_weighted(h) ? 24u : 20u) + seq_len * h->width +
                    4 * (1 + seq_len / 64);
    uint64_t n = (MX_REPLY_MAX - MX_BATCH_FIXED_BYTES - 8) / slot;

    return n == 0 ? 1 : (uint32_t)n;
}

static void fill_prior(const struct mx_host *h, double *prior)
{
    for (uint32_t i = 0; i < h->conf.k; i++) {
        double w = h->conf.domains[i].weight;
        prior[i] = isnan(w) ? (double)h->plan_domains[i].samples : w;
    }
}

struct mx_run *mx_host_blank_core(const struct mx_host *h)
{
    uint32_t k = h->conf.k;
    double *prior = calloc(k, sizeof *prior);
    struct mx_limit *limits = calloc(k, sizeof *limits);
    struct mx_run_config c = mx_runconf_core(&h->conf, &h->plan);
    void *memory = malloc(mx_run_size(&c));
    struct mx_run *run = NULL;

    c.prior = prior;
    c.limits = limits;
    if (prior != NULL && limits != NULL && memory != NULL) {
        fill_prior(h, prior);
        for (uint32_t i = 0; i < k; i++) {
            limits[i] = h->conf.domains[i].limit;
        }
        run = mx_run_init(memory, &c);
        memory = NULL;
    }
    free(prior);
    free(limits);
    free(memory);
    return run;
}

static int open_core(struct mx_host *h, struct mx_err *err)
{
    h->core = mx_host_blank_core(h);
    if (h->core == NULL) {
        return mx_fail(err, MX_ENOMEM, "run %s: no memory for %" PRIu32 " domains", h->conf.name,
                       h->conf.k);
    }
    return 0;
}

/* A domain that the core knows to have grown gets a view of its new shards. */
static int refresh_view(struct mx_host *h, uint32_t i, struct mx_err *err)
{
    uint32_t shards = mx_run_shards(h->core, i);
    struct mx_view **retired, *v;
    struct mx_domain d;
    int rc;

    if (shards == 0 || shards == h->views[i]->n) {
        return 0;
    }
    retired = realloc(h->retired, (h->n_retired + 1) * sizeof *retired);
    if (retired == NULL || (v = calloc(1, sizeof *v)) == NULL) {
        h->retired = retired != NULL ? retired : h->retired;
        return mx_fail(err, MX_ENOMEM, "no memory for a view");
    }
    h->retired = retired;
    rc = mx_catalog_domain_by_id(h->d->catalog, h->record.domains[i].id, &d, err);
    if (rc == 0) {
        rc = mx_view_make(h->d->catalog, &d, shards, (uint32_t)h->conf.unit, v, err);
    }
    if (rc < 0) {
        free(v);
        return rc;
    }
    h->retired[h->n_retired++] = h->views[i];
    h->views[i] = v;
    return 0;
}

/* Each run has its ground before anybody asks for a step; where the domains' new shards can't be
 * read, the run can't go on: a fault of memory or disk, not of the run. */
static int refresh(struct mx_host *h, struct mx_err *err)
{
    struct mx_run_view v;
    struct mx_ground *g;

    mx_run_view(h->core, &v);
    for (uint32_t i = 0; i < h->conf.k; i++) {
        int rc = refresh_view(h, i, err);

        if (rc < 0) {
            return rc;
        }
    }
    g = mx_ground_new(h->core, &h->plan, (const struct mx_view *const *)h->views);
    if (g == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " domains", h->conf.k);
    }
    mx_ground_give(h->ground);
    h->ground = g;
    h->plan_changes = v.plan_changes;
    return 0;
}

void mx_host_refresh(struct mx_host *h)
{
    struct mx_run_view v;
    struct mx_err err = {0};

    mx_run_view(h->core, &v);
    if (v.plan_changes == h->plan_changes) {
        return;
    }
    if (refresh(h, &err) < 0) {
        (void)snprintf(h->failed, sizeof h->failed, "its domains have changed, and can't be read: "
                       "%.900s", err.text);
        mx_log(MX_LOG_ERROR, "run.failed", "run=%s error=\"%s\"", h->conf.name, h->failed);
    }
}

/* What a forecast needs nothing of: feedback to wait for, time to make mixes durable in, reports of
 * what shadows would do. */
static void loosen(struct mx_runconf *c)
{
    c->lag = 0;
    c->lead = 0;
    c->reserve_steps = 1024;
    c->snapshot_steps = 1u << 20;
}

/* From h->record (id, name, config, and for an old run its domains) to a run that can go. */
static int open_host(struct mx_host *h, bool fresh, const char *config_name, struct mx_err *err)
{
    int rc = mx_runconf_parse(config_name, h->record.config, h->record.config_bytes,
                              h->record.name[0] != '\0' ? h->record.name : NULL, &h->conf, err);
    uint32_t k = h->conf.k;

    if (rc < 0) {
        return rc;
    }
    (void)snprintf(h->record.name, sizeof h->record.name, "%s", h->conf.name);
    h->held_tail = &h->held;
    if (h->draft) {
        loosen(&h->conf);
    }
    if (fresh) {
        h->record.k = k;
        h->record.domains = calloc(k, sizeof *h->record.domains);
    } else if (h->record.k != k) {
        return mx_fail(err, MX_EDAMAGED, "run %s: its record has %" PRIu32 " domains, its config %"
                       PRIu32, h->conf.name, h->record.k, k);
    }
    h->views = calloc(k, sizeof *h->views);
    h->plan_domains = calloc(k, sizeof *h->plan_domains);
    h->takes_below = calloc((size_t)k * h->conf.n_parts, sizeof *h->takes_below);
    h->trainers = calloc(MX_TRAINERS_MAX, sizeof *h->trainers);
    h->low = calloc(k, sizeof *h->low);
    if (h->views == NULL || h->plan_domains == NULL || h->takes_below == NULL ||
        h->trainers == NULL || h->low == NULL || h->record.domains == NULL) {
        return mx_fail(err, MX_ENOMEM, "run %s: no memory", h->conf.name);
    }
    h->plan = (struct mx_plan_spec){.seed = h->conf.seed, .batch = (uint32_t)h->conf.batch_size,
                                    .k = k, .block = (uint32_t)h->conf.block,
                                    .sampling = h->conf.sampling, .domains = h->plan_domains};
    if (h->conf.n_parts > 1) {
        h->plan.parts = h->conf.parts;
        h->plan.n_parts = h->conf.n_parts;
        h->plan.takes_below = h->takes_below;
    }
    if ((rc = open_domains(h, fresh, err)) < 0) {
        return rc;
    }
    rc = open_core(h, err);
    return rc < 0 ? rc : refresh(h, err);
}

/* From here on the loop knows the host, which can't be freed any more. */
static void join_loop(struct mx_host *h)
{
    MX_REQUIRE(uv_timer_init(&h->d->loop, &h->timer) == 0); /* it can't fail */
    h->timer.data = h;
}

/* ---- recovery ---- */

struct fold {
    struct mx_host *h;
    struct mx_err *err;
};

static int fold_cb(void *arg, uint64_t index, struct mx_span bytes)
{
    struct fold *f = arg;
    struct mx_effects fx = {0};
    struct mx_entry_box box;
    int rc = mx_entry_decode(bytes, f->h->conf.k, &box, f->err);

    if (rc < 0) {
        (void)mx_wrap(f->err, "run %s: journal entry %" PRIu64, f->h->conf.name, index);
        return rc;
    }
    box.entry.index = index;
    rc = mx_host_applied(f->h, f->h->core, &box.entry,
                         mx_run_apply(f->h->core, &box.entry, mx_now_ms(), &fx), f->err);
    mx_entry_box_clear(&box);
    if (rc == 0) {
        mx_host_effects(f->h, &fx); /* a snapshot that the crash may have taken */
    }
    return rc;
}

int mx_host_applied(const struct mx_host *h, struct mx_run *run, const struct mx_entry *e,
                    enum mx_applied applied, struct mx_err *err)
{
    struct mx_run_view v;

    switch (applied) {
    case MX_APPLIED: return 0;
    case MX_APPLY_ORDER:
        return mx_fail(err, MX_EDAMAGED, "run %s: journal entry %" PRIu64 " (%s) can't follow the "
                       "ones before", h->conf.name, e->index, mx_entry_name(e->kind));
    case MX_APPLY_DIGEST: break;
    }
    mx_run_view(run, &v);
    return mx_fail(err, MX_EDAMAGED, "run %s: step %" PRIu64 ", planned again from the journal, isn't "
                   "what was planned: its digest differs from the one in entry %" PRIu64,
                   h->conf.name, v.bad_step, e->index);
}

static int load_words(struct mx_host *h, uint64_t step, struct mx_span bytes, struct mx_err *err)
{
    uint64_t *words;
    size_t n;
    int rc = mx_words_decode(bytes, &words, &n, err);

    if (rc < 0) {
        return rc;
    }
    if (mx_run_load(h->core, words, n) < 0) {
        rc = mx_fail(err, MX_EDAMAGED, "run %s: the snapshot at step %" PRIu64 " makes no sense",
                     h->conf.name, step);
    }
    free(words);
    return rc;
}

/* The snapshot made last, which the record behind all steps names: after a rewind it isn't the one
 * of the largest step. */
static int load_snapshot(struct mx_host *h, struct mx_err *err)
{
    uint64_t step, found;
    uint8_t *bytes;
    size_t n;
    int rc = mx_catalog_snapshot(h->d->catalog, h->id, MX_SNAPSHOT_LAST, &step, &bytes, &n, err);

    if (rc < 0) {
        return rc == MX_ENOTFOUND ? 0 : rc;
    }
    found = n == 8 ? mx_load_u64(bytes) : UINT64_MAX;
    free(bytes);
    if (step != MX_SNAPSHOT_LAST || found >= MX_SNAPSHOT_LAST) {
        return mx_fail(err, MX_EDAMAGED, "run %s: which snapshot is the last isn't recorded",
                       h->conf.name);
    }
    rc = mx_catalog_snapshot(h->d->catalog, h->id, found, &step, &bytes, &n, err);
    if (rc == 0 && step != found) {
        free(bytes);
        rc = MX_ENOTFOUND;
    }
    if (rc < 0) {
        return rc != MX_ENOTFOUND ? rc : mx_fail(err, MX_EDAMAGED, "run %s: the snapshot at step %"
                                                 PRIu64 " is missing", h->conf.name, found);
    }
    rc = load_words(h, step, (struct mx_span){bytes, n}, err);
    free(bytes);
    return rc;
}

/* What the snapshot holds must be in the journal: else its end has been lost. */
static int check_bounds(struct mx_host *h, struct mx_err *err)
{
    uint64_t first, last;
    struct mx_run_view v;
    int rc = mx_journal_bounds(h->d->journal, h->id, &first, &last, err);

    mx_run_view(h->core, &v);
    if (rc == 0 && last < v.applied) {
        rc = mx_fail(err, MX_EDAMAGED, "run %s: the journal ends with entry %" PRIu64
                     ", but a snapshot holds entry %" PRIu64, h->conf.name, last, v.applied);
    }
    return rc;
}

static int recover(struct mx_host *h, struct mx_err *err)
{
    struct fold f = {.h = h, .err = err};
    struct mx_effects fx = {0};
    struct mx_run_view v;
    int rc, more;

    if ((rc = load_snapshot(h, err)) < 0 || (rc = check_bounds(h, err)) < 0) {
        return rc;
    }
    mx_run_view(h->core, &v);
    rc = mx_journal_read(h->d->journal, h->id, v.applied + 1, fold_cb, &f, err);
    if (rc < 0 || (rc = refresh(h, err)) < 0) {
        return rc;
    }
    do {
        more = mx_run_recovered(h->core, mx_now_ms(), mx_wall_ms(), &fx);
        mx_host_effects(h, &fx);
    } while (more);
    mx_run_view(h->core, &v);
    mx_log(MX_LOG_INFO, "run.recovered", "run=%s entries=%" PRIu64 " frontier=%" PRIu64 " mix=%"
           PRIu64 " branch=%" PRIu32, h->conf.name, v.applied, v.frontier, v.mix_version, v.branch);
    return 0;
}

static int copy_record(struct mx_run_record *to, const struct mx_run_record *from)
{
    *to = *from;
    to->config = malloc(from->config_bytes + 1);
    to->domains = malloc(from->k * sizeof *to->domains);
    if (to->config == NULL || to->domains == NULL) {
        return -1;
    }
    memcpy(to->config, from->config, from->config_bytes);
    to->config[from->config_bytes] = '\0';
    memcpy(to->domains, from->domains, from->k * sizeof *to->domains);
    return 0;
}

/* Reads of the catalog can't be made inside its own walk, so records are copied first. */
static int load_cb(void *arg, const struct mx_run_record *r)
{
    struct mx_daemon *d = arg;
    struct mx_host *h;

    if (d->n_hosts == MX_RUNS_MAX) {
        mx_log(MX_LOG_ERROR, "run.skipped", "run=%s reason=\"over %u runs\"", r->name, MX_RUNS_MAX);
        return 0;
    }
    h = calloc(1, sizeof *h);
    if (h == NULL || copy_record(&h->record, r) < 0) {
        return MX_ENOMEM;
    }
    h->d = d;
    h->id = r->id;
    h->created_ms = r->created_ms;
    h->held_tail = &h->held;
    d->hosts[d->n_hosts++] = h;
    return 0;
}

int mx_hosts_load(struct mx_daemon *d, struct mx_err *err)
{
    int rc;

    rc = mx_catalog_next_run(d->catalog, &d->next_run, err);
    if (rc == 0) {
        rc = mx_catalog_runs(d->catalog, load_cb, d, err);
    }
    if (rc < 0) {
        return rc == MX_ENOMEM ? mx_fail(err, rc, "no memory for the runs") : rc;
    }
    for (uint32_t i = 0; i < d->n_hosts; i++) {
        struct mx_host *h = d->hosts[i];
        struct mx_err why = {0};

        rc = open_host(h, false, h->record.name, &why);
        if (rc == 0) {
            join_loop(h);
            rc = recover(h, &why);
        }
        if (rc < 0) {
            (void)snprintf(h->conf.name, sizeof h->conf.name, "%s", h->record.name);
            (void)snprintf(h->failed, sizeof h->failed, "%s", why.text);
            mx_log(MX_LOG_ERROR, "run.failed", "run=%s error=\"%s\"", h->conf.name, why.text);
        }
    }
    return 0;
}

/* ---- creation ---- */

/* A host with a record of its own; the config is copied. */
static struct mx_host *blank_host(struct mx_daemon *d, const char *config, size_t n)
{
    struct mx_host *h = calloc(1, sizeof *h);

    if (h == NULL || (h->record.config = malloc(n + 1)) == NULL) {
        free(h);
        return NULL;
    }
    memcpy(h->record.config, config, n);
    h->record.config[n] = '\0';
    h->record.config_bytes = n;
    h->d = d;
    h->id = h->record.id = d->next_run;
    h->created_ms = h->record.created_ms = mx_wall_ms();
    h->behind = true; /* until its first entry is applied, and it has looked */
    return h;
}

static int check_new(struct mx_daemon *d, const char *name, struct mx_err *err)
{
    int rc = name != NULL ? mx_name_check(name, strlen(name), "a run", err) : 0;

    if (rc == 0 && d->n_hosts == MX_RUNS_MAX) {
        rc = mx_fail(err, MX_EFULL, "there are %u runs already, the most that one daemon holds",
                     MX_RUNS_MAX);
    }
    return rc;
}

/* A host that is put together joins the others; its first entry goes into the journal. */
static int join(struct mx_daemon *d, struct mx_host *h, struct mx_req *req,
                const struct mx_entry *first, struct mx_err *err)
{
    int rc;

    join_loop(h);
    rc = mx_host_append(h, first, req, NULL, &h->record);
    if (rc < 0) {
        return mx_fail(err, rc, "no memory for the run's first entry");
    }
    d->next_run++;
    d->hosts[d->n_hosts++] = h;
    return 0;
}

int mx_host_create(struct mx_daemon *d, struct mx_req *req, const char *config, size_t n,
                   const char *name, const struct mx_entry *author, struct mx_err *err)
{
    struct mx_host *h;
    struct mx_entry first;
    int rc = check_new(d, name, err);

    if (rc < 0) {
        return rc;
    }
    h = blank_host(d, config, n);
    if (h == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for a run");
    }
    if (name != NULL) {
        (void)snprintf(h->record.name, sizeof h->record.name, "%s", name);
    }
    rc = open_host(h, true, "config", err);
    if (rc == 0 && mx_host_find(d, h->conf.name) != NULL) {
        rc = mx_fail(err, MX_EEXISTS, "there is a run %s already", h->conf.name);
    }
    rc = rc == 0 ? mx_sync_check_new(h, err) : rc;
    if (rc < 0) {
        free_host(h);
        return rc;
    }
    mx_run_first_entry(h->core, mx_wall_ms(), &first);
    first.author = author->author;
    first.author_len = author->author_len;
    first.why = author->why;
    first.why_len = author->why_len;
    rc = join(d, h, req, &first, err);
    if (rc == 0) {
        mx_log(MX_LOG_INFO, "run.create", "run=%s id=%" PRIu32 " policy=%s domains=%" PRIu32,
               h->conf.name, h->id, h->conf.mixers[0].policy.ops->name, h->conf.k);
    }
    return rc;
}

int mx_host_fork(struct mx_host *source, struct mx_req *req, const char *name,
                 const struct mx_entry *from, struct mx_err *err)
{
    struct mx_daemon *d = source->d;
    struct mx_host *h;
    struct mx_entry first;
    size_t domains = source->record.k * sizeof *source->record.domains;
    int rc = check_new(d, name, err);

    if (rc == 0 && mx_host_find(d, name) != NULL) {
        rc = mx_fail(err, MX_EEXISTS, "there is a run %s already", name);
    }
    if (rc < 0) {
        return rc;
    }
    h = blank_host(d, source->record.config, source->record.config_bytes);
    if (h == NULL || (h->record.domains = malloc(domains)) == NULL) {
        if (h != NULL) {
            free_host(h);
        }
        return mx_fail(err, MX_ENOMEM, "no memory for a run");
    }
    (void)snprintf(h->record.name, sizeof h->record.name, "%s", name);
    h->record.k = source->record.k;
    memcpy(h->record.domains, source->record.domains, domains);
    rc = open_host(h, false, "config", err);
    if (rc < 0) {
        free_host(h);
        return rc;
    }
    mx_run_fork_entry(h->core, mx_wall_ms(), from, &first);
    rc = join(d, h, req, &first, err);
    if (rc == 0) {
        mx_log(MX_LOG_INFO, "run.fork", "run=%s id=%" PRIu32 " source=%s step=%" PRIu64,
               h->conf.name, h->id, source->conf.name, from->step);
    }
    return rc;
}

/* ---- drafts ---- */

struct mx_host *mx_host_draft(struct mx_daemon *d, const char *config, size_t n, const char *name)
{
    struct mx_host *h = blank_host(d, config, n);

    if (h != NULL) {
        h->draft = true;
        (void)snprintf(h->record.name, sizeof h->record.name, "%s", name != NULL ? name : "");
    }
    return h;
}

int mx_host_draft_open(struct mx_host *h, struct mx_err *err)
{
    return open_host(h, true, "config", err);
}

void mx_host_draft_free(struct mx_host *h)
{
    free_host(h);
}
