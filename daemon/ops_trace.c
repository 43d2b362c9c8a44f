/* ops_trace.c - where it came from, and where it went: what a step held and why it was mixed so,
 * and which steps saw a document. See ops.c; trace.c does the arithmetic. */
#include "daemon/entry.h"
#include "daemon/ops.h"
#include "daemon/trace.h"
#include "store/lookup.h"

#include <inttypes.h>
#include <string.h>

/* Occurrences of one sample in an answer, and samples of one document. */
#define STEPS_LIMIT 64u
#define SAMPLES_MAX 256u
/* Domains that a step is told with; of more, those that have slots. */
#define DOMAINS_LISTED 1000u

struct question {
    struct mx_task task; /* first */
    struct mx_host *h;
    struct mx_req *req;
    struct mx_traced t;
    struct mx_range *skips;
    uint32_t n_skips, branch;
    /* step.show */
    uint64_t step;
    uint32_t first, count;
    /* where */
    uint64_t from, to, sample, byte, horizon;
    uint32_t limit;
    int domain; /* -1: all */
    char what[MX_PATH_MAX];
    enum { BY_SAMPLE, BY_ID, BY_ORIGIN } by;
    uint64_t first_found, found, next; /* samples of documents: passed over before, found, and the
                                          first that has no room in this answer, or 0 */
    uint32_t samples, at; /* written; the domain that is looked through */
    /* the answer */
    struct mx_jsonw w;
    int rc;
    struct mx_err err;
};

static void free_question(struct question *x)
{
    mx_ground_give(x->t.ground);
    free(x->t.cursors);
    mx_trace_clear(&x->t);
    free(x->skips);
    mx_jsonw_fini(&x->w);
    free(x);
}

static void question_done(struct mx_task *t)
{
    struct question *x = (struct question *)t;

    if (x->rc < 0) {
        mx_op_refuse(x->h->d, x->req, &x->err);
    } else {
        mx_op_send(x->h->d, x->req, &x->w);
    }
    free_question(x);
}

/* The run as it stands, copied for a task. */
static struct question *new_question(const struct mx_op *op, struct mx_host *h,
                                     struct mx_err *err)
{
    struct question *x = calloc(1, sizeof *x);
    const struct mx_range *skips;
    struct mx_run_view v;
    size_t k = h->conf.k;

    if (x != NULL) {
        x->t.cursors = malloc(k * sizeof *x->t.cursors);
        skips = mx_run_skips(h->core, &x->n_skips);
        x->skips = malloc((x->n_skips + 1) * sizeof *x->skips);
    }
    if (x == NULL || x->t.cursors == NULL || x->skips == NULL) {
        if (x != NULL) {
            free_question(x);
        }
        (void)mx_fail(err, MX_ENOMEM, "no memory for a question");
        return NULL;
    }
    mx_run_view(h->core, &v);
    memcpy(x->skips, skips, x->n_skips * sizeof *skips);
    memcpy(x->t.cursors, v.cursors, k * sizeof *v.cursors);
    x->t.catalog = h->d->catalog;
    x->t.run = h->id;
    x->t.name = h->conf.name;
    x->t.ground = mx_ground_take(h->ground);
    x->t.frontier = v.frontier;
    x->t.end_step = v.end_step;
    x->branch = v.branch;
    x->h = h;
    x->req = op->req;
    x->task.done = question_done;
    mx_jsonw_init(&x->w, MX_ANSWER_MAX);
    return x;
}

static int ask(struct question *x, struct mx_err *err)
{
    int rc = mx_task_start(x->h->d->tasks, &x->task, err);

    if (rc < 0) {
        free_question(x);
    }
    return rc;
}

static bool skipped(const struct question *x, uint64_t step)
{
    for (uint32_t i = 0; i < x->n_skips; i++) {
        if (step >= x->skips[i].first && step - x->skips[i].first < x->skips[i].count) {
            return true;
        }
    }
    return false;
}

static void write_document(struct mx_jsonw *w, const char *key, const struct mx_document *d,
                           const char *source)
{
    mx_jsonw_object(w, key);
    mx_jsonw_string(w, "id", d->id);
    mx_jsonw_string(w, "source", source);
    mx_jsonw_u64(w, "byte", d->source_byte);
    mx_jsonw_u64(w, "line", d->source_line);
}

/* ---- what a step held ---- */

struct why {
    struct question *x;
    uint64_t index;
};

/* The entry that made the mix: who, when and why. */
static int why_cb(void *arg, uint64_t index, struct mx_span bytes)
{
    struct why *y = arg;
    struct mx_jsonw *w = &y->x->w;
    struct mx_entry_box box;
    int rc;

    if (index != y->index) {
        return 1;
    }
    rc = mx_entry_decode(bytes, y->x->h->conf.k, &box, &y->x->err);
    if (rc < 0) {
        return rc;
    }
    mx_jsonw_string(w, "cause", mx_cause_name(box.entry.cause));
    mx_jsonw_u64(w, "cause_step", box.entry.cause_step);
    mx_jsonw_string_n(w, "author", box.entry.author, box.entry.author_len);
    mx_jsonw_string_n(w, "why", box.entry.why, box.entry.why_len);
    mx_jsonw_u64(w, "time_ms", box.entry.time_ms);
    mx_entry_box_clear(&box);
    return 1;
}

static int write_mix(struct question *x, const struct mx_replay_mix *mix)
{
    struct why y = {x, mix->index};
    int rc;

    mx_jsonw_object(&x->w, "mix");
    mx_jsonw_u64(&x->w, "version", mix->version);
    mx_jsonw_u64(&x->w, "from_step", mix->from_step);
    mx_jsonw_u64(&x->w, "entry", mix->index);
    rc = mx_journal_read(x->h->d->journal, x->h->id, mix->index, why_cb, &y, &x->err);
    mx_jsonw_end_object(&x->w);
    return rc < 0 && rc != MX_EGONE ? rc : 0; /* compacted: then the audit copy knows */
}

static void write_shares(struct question *x, const struct mx_replayed *r)
{
    uint32_t k = x->h->conf.k;

    mx_jsonw_array(&x->w, "shares");
    for (uint32_t i = 0; i < k; i++) {
        uint32_t n = r->prefix[i + 1] - r->prefix[i];

        if (k > DOMAINS_LISTED && (n == 0 || x->w.n > MX_PAGE_MAX)) {
            continue;
        }
        mx_jsonw_object(&x->w, NULL);
        mx_jsonw_string(&x->w, "domain", x->h->conf.domains[i].name);
        mx_jsonw_double(&x->w, "share", (double)r->shares[i] / (double)MX_SHARE_ONE);
        mx_jsonw_u64(&x->w, "count", n);
        mx_jsonw_u64(&x->w, "cursor", r->cursors[i]);
        mx_jsonw_end_object(&x->w);
    }
    mx_jsonw_end_array(&x->w);
}

/* The documents of a slot, whose samples are looked at one after the other: one that goes on in the
 * next sample is told once. */
struct documents {
    struct question *x;
    uint64_t shard;       /* of the sample that is looked at */
    uint32_t at;          /* where it begins in the slot */
    bool held;            /* what follows is yet to be written */
    uint64_t held_shard;
    struct mx_document document;
    char source[MX_PATH_MAX + 1];
    uint32_t first, tokens;
};

static void write_held(struct documents *s)
{
    if (s->held) {
        write_document(&s->x->w, NULL, &s->document, s->source);
        mx_jsonw_u64(&s->x->w, "first_token", s->first);
        mx_jsonw_u64(&s->x->w, "tokens", s->tokens);
        mx_jsonw_end_object(&s->x->w);
    }
    s->held = false;
}

static int document_cb(void *arg, const struct mx_document *d, const char *source,
                       uint32_t first_token, uint32_t tokens)
{
    struct documents *s = arg;

    if (s->held && s->held_shard == s->shard && s->document.first_token == d->first_token &&
        s->first + s->tokens == s->at + first_token) {
        s->tokens += tokens;
        return 0;
    }
    write_held(s);
    s->held = true;
    s->held_shard = s->shard;
    s->document = *d;
    (void)snprintf(s->source, sizeof s->source, "%s", source);
    s->first = s->at + first_token;
    s->tokens = tokens;
    return s->x->w.n > 2 * MX_PAGE_MAX ? 1 : 0; /* of very many documents the first ones */
}

static int write_documents(struct question *x, const struct mx_plan_item *item, uint32_t length)
{
    const struct mx_view *view = x->t.ground->views[item->domain];
    struct documents s = {.x = x};
    int rc = 0;

    mx_jsonw_array(&x->w, "documents");
    for (uint32_t i = 0; i < length && rc == 0; i++) {
        uint64_t token;

        mx_view_find(view, item->sample + i, &s.shard, &token);
        s.at = i * view->seq_len;
        rc = mx_lookup_sample(x->h->d->shards, view, item->sample + i, document_cb, &s, &x->err);
    }
    write_held(&s);
    mx_jsonw_end_array(&x->w);
    return rc;
}

static int write_slots(struct question *x, const struct mx_replayed *r)
{
    const struct mx_plan_spec *plan = &x->t.ground->plan;
    struct mx_plan_part part = mx_plan_part_of(plan, x->step);
    struct mx_plan_item *items = malloc(x->count * sizeof *items);
    uint32_t i = 0;
    int rc = 0;

    if (items == NULL) {
        return mx_fail(&x->err, MX_ENOMEM, "no memory for %" PRIu32 " slots", x->count);
    }
    mx_plan_items(plan, x->step, r->cursors, r->prefix, x->first, x->count, items);
    mx_jsonw_array(&x->w, "slots");
    /* One at least, so that the next page isn't this one again. */
    for (; i < x->count && rc >= 0 && (i == 0 || x->w.n < MX_PAGE_MAX); i++) {
        mx_jsonw_object(&x->w, NULL);
        mx_jsonw_u64(&x->w, "slot", x->first + i);
        mx_jsonw_string(&x->w, "domain", x->h->conf.domains[items[i].domain].name);
        mx_jsonw_u64(&x->w, "sample", items[i].sample);
        mx_jsonw_u64(&x->w, "epoch", items[i].epoch);
        rc = write_documents(x, &items[i], part.length);
        mx_jsonw_end_object(&x->w);
    }
    free(items);
    mx_jsonw_end_array(&x->w);
    if (x->first + i < part.batch) {
        mx_jsonw_u64(&x->w, "next_slot", x->first + i);
    } else {
        mx_jsonw_null(&x->w, "next_slot");
    }
    return rc < 0 ? rc : 0;
}

static void step_work(struct mx_task *t)
{
    struct question *x = (struct question *)t;
    struct mx_replayed r = {.step = 0};

    x->rc = mx_replay_step(x->t.catalog, x->t.run, x->t.name, x->t.ground, x->step, &r, &x->err);
    if (x->rc == 0) {
        mx_jsonw_object(&x->w, NULL);
        mx_jsonw_string(&x->w, "run", x->t.name);
        mx_jsonw_u64(&x->w, "step", x->step);
        mx_jsonw_u64(&x->w, "branch", x->branch);
        mx_jsonw_u64(&x->w, "mix_version", r.mix.version);
        mx_jsonw_u64(&x->w, "samples_per_slot", mx_plan_part_of(&x->t.ground->plan,
                                                                x->step).length);
        mx_jsonw_bool(&x->w, "skipped", skipped(x, x->step));
        x->rc = write_mix(x, &r.mix);
    }
    if (x->rc == 0) {
        if (x->first == 0) {
            write_shares(x, &r);
        }
        x->rc = write_slots(x, &r);
        mx_jsonw_end_object(&x->w);
    }
    mx_replayed_clear(&r);
}

int mx_op_step_show(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    uint64_t step = 0, first = 0, count = 0, batch;
    struct mx_run_view v;
    struct question *x;
    int rc;

    if (h == NULL) {
        return err->code;
    }
    if ((rc = mx_json_take_u64(op->doc, op->o, "step", true, 0, MX_STEP_MAX, &step, err)) < 0) {
        return rc;
    }
    batch = mx_plan_part_of(&h->plan, step).batch;
    if ((rc = mx_json_take_u64(op->doc, op->o, "slot_first", false, 0, batch - 1, &first,
                               err)) < 0) {
        return rc;
    }
    count = batch - first;
    if ((rc = mx_json_take_u64(op->doc, op->o, "slot_count", false, 1, count, &count, err)) < 0) {
        return rc;
    }
    mx_run_view(h->core, &v);
    if (step >= v.frontier || step < v.first_step) {
        return mx_fail(err, MX_EINVALID, "run %s: step %" PRIu64 " isn't one of those that are "
                       "planned, %" PRIu64 " to before %" PRIu64, h->conf.name, step, v.first_step,
                       v.frontier);
    }
    x = new_question(op, h, err);
    if (x == NULL) {
        return err->code;
    }
    x->step = step;
    x->first = (uint32_t)first;
    x->count = (uint32_t)count;
    x->task.work = step_work;
    return ask(x, err);
}

/* ---- where something was ---- */

static int write_steps(struct question *x, uint32_t domain, uint64_t sample)
{
    struct mx_occurrence *o = malloc(x->limit * sizeof *o);
    uint32_t n = 0;
    bool more = false;
    int rc = o == NULL ? mx_fail(&x->err, MX_ENOMEM, "no memory for an answer")
                       : mx_trace_sample(&x->t, domain, sample, x->from, x->to, o, x->limit, &n,
                                         &more, &x->horizon, &x->err);

    mx_jsonw_array(&x->w, "steps");
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        mx_jsonw_object(&x->w, NULL);
        mx_jsonw_u64(&x->w, "step", o[i].step);
        mx_jsonw_u64(&x->w, "slot", o[i].slot);
        mx_jsonw_u64(&x->w, "epoch", o[i].epoch);
        mx_jsonw_bool(&x->w, "planned", o[i].planned);
        mx_jsonw_bool(&x->w, "skipped", skipped(x, o[i].step));
        mx_jsonw_end_object(&x->w);
    }
    mx_jsonw_end_array(&x->w);
    mx_jsonw_bool(&x->w, "more", more);
    free(o);
    return rc;
}

static int found_cb(void *arg, const struct mx_found *f)
{
    struct question *x = arg;
    int rc = 0;

    for (uint64_t i = 0; i < f->samples && rc == 0; i++) {
        if (x->found++ < x->first_found) {
            continue;
        }
        if (x->samples == SAMPLES_MAX || x->w.n > MX_PAGE_MAX) {
            x->next = x->found - 1;
            return 1;
        }
        x->samples++;
        mx_jsonw_object(&x->w, NULL);
        mx_jsonw_string(&x->w, "domain", x->h->conf.domains[x->at].name);
        mx_jsonw_u64(&x->w, "sample", f->first_sample + i);
        write_document(&x->w, "document", &f->document, f->source_path);
        mx_jsonw_end_object(&x->w);
        rc = write_steps(x, x->at, f->first_sample + i);
        mx_jsonw_end_object(&x->w);
        if (rc == 0 && mx_task_stopped(&x->task)) {
            rc = mx_fail(&x->err, MX_ECANCELLED, "the daemon is stopping");
        }
    }
    return rc;
}

/* The documents that match, of one domain or of all. */
static int find_documents(struct question *x)
{
    struct mx_shardset *set = x->h->d->shards;
    size_t n = strlen(x->what);
    int rc = 0;

    for (x->at = 0; x->at < x->h->conf.k && rc == 0; x->at++) {
        const struct mx_view *v = x->t.ground->views[x->at];

        if (x->domain >= 0 && (uint32_t)x->domain != x->at) {
            continue;
        }
        rc = x->by == BY_ID ? mx_lookup_id(set, v, x->what, n, found_cb, x, &x->err)
                            : mx_lookup_origin(set, v, x->what, n, x->byte, found_cb, x, &x->err);
    }
    if (rc == 0 && x->found == 0) {
        rc = mx_fail(&x->err, MX_ENOTFOUND, "run %s: no sample of its domains holds a document %s %s",
                     x->t.name, x->by == BY_ID ? "with the id" : "of", x->what);
    }
    return rc < 0 ? rc : 0;
}

static void where_work(struct mx_task *t)
{
    struct question *x = (struct question *)t;

    mx_jsonw_object(&x->w, NULL);
    mx_jsonw_string(&x->w, "run", x->t.name);
    mx_jsonw_u64(&x->w, "frontier", x->t.frontier);
    mx_jsonw_array(&x->w, "samples");
    if (x->by == BY_SAMPLE) {
        mx_jsonw_object(&x->w, NULL);
        mx_jsonw_string(&x->w, "domain", x->h->conf.domains[x->domain].name);
        mx_jsonw_u64(&x->w, "sample", x->sample);
        mx_jsonw_null(&x->w, "document");
        x->rc = write_steps(x, (uint32_t)x->domain, x->sample);
        mx_jsonw_end_object(&x->w);
    } else {
        x->rc = find_documents(x);
    }
    mx_jsonw_end_array(&x->w);
    mx_jsonw_u64(&x->w, "horizon", x->horizon);
    if (x->next > 0) {
        mx_jsonw_u64(&x->w, "next_sample", x->next);
    } else {
        mx_jsonw_null(&x->w, "next_sample");
    }
    mx_jsonw_end_object(&x->w);
}

/* Which of the three ways the request asks. */
static int take_what(const struct mx_op *op, struct question *x, struct mx_err *err)
{
    const char *domain = NULL, *doc = NULL, *origin = NULL;
    uint64_t limit = STEPS_LIMIT;
    int rc;

    x->to = UINT64_MAX;
    if ((rc = mx_json_take_string(op->doc, op->o, "domain", false, &domain, err)) < 0 ||
        (rc = mx_json_take_string(op->doc, op->o, "doc", false, &doc, err)) < 0 ||
        (rc = mx_json_take_string(op->doc, op->o, "origin", false, &origin, err)) < 0 ||
        (rc = mx_json_take_u64(op->doc, op->o, "sample", false, 0, MX_SAMPLES_MAX, &x->sample,
                               err)) < 0 ||
        (rc = mx_json_take_u64(op->doc, op->o, "from", false, 0, MX_STEP_MAX, &x->from, err)) < 0 ||
        (rc = mx_json_take_u64(op->doc, op->o, "to", false, 0, MX_STEP_MAX, &x->to, err)) < 0 ||
        (rc = mx_json_take_u64(op->doc, op->o, "sample_first", false, 0, MX_SAMPLES_MAX,
                               &x->first_found, err)) < 0 ||
        (rc = mx_json_take_u64(op->doc, op->o, "limit", false, 1, 1000, &limit, err)) < 0) {
        return rc;
    }
    x->limit = (uint32_t)limit;
    x->domain = domain != NULL ? mx_op_domain_index(x->h, domain) : -1;
    if (domain != NULL && x->domain < 0) {
        return mx_fail(err, MX_EINVALID, "run %s has no domain %s", x->h->conf.name, domain);
    }
    if (doc != NULL && origin == NULL && strlen(doc) < sizeof x->what) {
        x->by = BY_ID;
        (void)snprintf(x->what, sizeof x->what, "%s", doc);
        return 0;
    }
    if (origin != NULL && doc == NULL) {
        x->by = BY_ORIGIN;
        return mx_op_origin(origin, x->what, sizeof x->what, &x->byte, err);
    }
    x->by = BY_SAMPLE;
    if (doc != NULL || domain == NULL || mx_json_get(op->o, "sample") == NULL) {
        return mx_fail(err, MX_EINVALID, "what to look for: a \"domain\" and a \"sample\" of it, a "
                       "\"doc\", or an \"origin\"");
    }
    if (x->sample >= x->t.ground->views[x->domain]->samples) {
        return mx_fail(err, MX_EINVALID, "run %s: domain %s has samples 0 to before %" PRIu64,
                       x->h->conf.name, domain, x->t.ground->views[x->domain]->samples);
    }
    return 0;
}

int mx_op_where(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    struct question *x = h == NULL ? NULL : new_question(op, h, err);
    int rc;

    if (x == NULL) {
        return err->code;
    }
    if ((rc = take_what(op, x, err)) < 0) {
        free_question(x);
        return rc;
    }
    x->task.work = where_work;
    return ask(x, err);
}
