/* ops_change.c - operators change what domains hold: new shards taken at once, documents withdrawn.
 * See ops.c; sync.c brings the changes into the runs.
 *
 * A withdrawal is recorded in the catalog first, for runs to come as well, then taken by every run
 * that uses the domain; the answer is given when all have it in their journals. */
#include "daemon/log.h"
#include "daemon/ops.h"
#include "daemon/withdrawal.h"
#include "store/files.h"
#include "store/lookup.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

/* Documents that an answer lists; a withdrawal may be of more. */
#define LISTED_MAX 200u
/* Pieces of documents in one withdrawal. */
#define PIECES_MAX 100000u

static int uses(const struct mx_host *h, uint32_t domain)
{
    for (uint32_t i = 0; i < h->conf.k; i++) {
        if (h->record.domains[i].id == domain) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- adopting ---- */

/* One run after the other; the request goes along with each entry. */
struct adoption {
    struct adoption *next;
    struct mx_req *req;
    uint32_t domain; /* its id */
    bool now, single;
    uint32_t at;     /* number of the host that is asked now */
    char name[MX_NAME_MAX + 1];
    char author[MX_WHY_MAX + 1], why[MX_WHY_MAX + 1];
    struct mx_jsonw w;
};

static void answer_adoption(struct mx_daemon *d, struct adoption *a)
{
    mx_jsonw_end_array(&a->w);
    mx_jsonw_end_object(&a->w);
    mx_op_send(d, a->req, &a->w);
    free(a);
}

/* Asks the next run that uses the domain; answers when there is none. */
static void adopt_next(struct mx_daemon *d, struct adoption *a)
{
    struct mx_entry e = {.author = a->author, .author_len = (uint32_t)strlen(a->author),
                         .why = a->why, .why_len = (uint32_t)strlen(a->why)};
    struct mx_err err;

    for (; a->at < d->n_hosts; a->at++) {
        struct mx_host *h = d->hosts[a->at];
        int i = h->failed[0] == '\0' ? uses(h, a->domain) : -1;

        if (i < 0) {
            continue;
        }
        /* Before it is asked: it may be refused at once, and then nobody comes back for this. */
        a->next = d->adoptions;
        d->adoptions = a;
        if (mx_sync_adopt(h, (uint32_t)i, a->now, &e, a->req, &err) < 0) {
            d->adoptions = a->next;
            mx_op_refuse(d, a->req, &err);
            mx_jsonw_fini(&a->w);
            free(a);
        }
        return;
    }
    answer_adoption(d, a);
}

/* The one that goes with a request, out of the list; NULL if there is none. */
static struct adoption *take_adoption(struct mx_daemon *d, const struct mx_req *req)
{
    for (struct adoption **at = &d->adoptions; *at != NULL; at = &(*at)->next) {
        struct adoption *a = *at;

        if (a->req == req) {
            *at = a->next;
            return a;
        }
    }
    return NULL;
}

void mx_op_adopt_refused(struct mx_daemon *d, const struct mx_req *req)
{
    struct adoption *a = take_adoption(d, req);

    if (a != NULL) {
        mx_jsonw_fini(&a->w);
        free(a);
    }
}

void mx_op_adopt_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *e)
{
    const struct mx_plan_domain *m = &mx_run_domains(h->core)[e->domain];
    const struct mx_stretch *last = &m->stretches[m->n_stretches - 1];
    struct adoption *a = take_adoption(h->d, req);

    MX_REQUIRE(a != NULL);
    mx_log(MX_LOG_INFO, "domain.adopt", "run=%s domain=%s samples=%" PRIu64 " from_cursor=%" PRIu64,
           h->conf.name, a->name, e->samples, last->from);
    mx_jsonw_object(&a->w, NULL);
    mx_jsonw_string(&a->w, "run", h->conf.name);
    mx_jsonw_u64(&a->w, "step", e->step);
    mx_jsonw_bool(&a->w, "epoch_boundary", last->depth == 0);
    mx_jsonw_u64(&a->w, "samples_before", m->n_stretches > 1
                 ? m->stretches[m->n_stretches - 2].samples : m->samples);
    mx_jsonw_u64(&a->w, "samples", last->samples);
    mx_jsonw_end_object(&a->w);
    a->at = a->single ? h->d->n_hosts : a->at + 1;
    adopt_next(h->d, a);
}

int mx_op_domain_adopt(const struct mx_op *op, struct mx_err *err)
{
    const char *name = NULL, *run = NULL;
    struct mx_host *h = NULL;
    struct mx_entry e = {0};
    struct adoption *a;
    struct mx_domain m;
    bool now = false;
    int rc;

    if ((rc = mx_json_take_string(op->doc, op->o, "name", true, &name, err)) < 0 ||
        (rc = mx_json_take_string(op->doc, op->o, "run", false, &run, err)) < 0 ||
        (rc = mx_json_take_bool(op->doc, op->o, "now", false, &now, err)) < 0 ||
        (rc = mx_op_author(op, &e, err)) < 0 ||
        (rc = mx_catalog_domain(op->d->catalog, name, &m, err)) < 0) {
        return rc;
    }
    if (run != NULL && (h = mx_op_run(op, false, err)) == NULL) {
        return err->code;
    }
    if (h != NULL && uses(h, m.id) < 0) {
        return mx_fail(err, MX_EINVALID, "run %s doesn't use domain %s", run, name);
    }
    a = calloc(1, sizeof *a);
    if (a == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for an adoption");
    }
    a->req = op->req;
    a->domain = m.id;
    a->now = now;
    a->single = h != NULL;
    (void)snprintf(a->name, sizeof a->name, "%s", m.name);
    (void)snprintf(a->author, sizeof a->author, "%s", e.author);
    (void)snprintf(a->why, sizeof a->why, "%s", e.why);
    for (a->at = 0; h != NULL && op->d->hosts[a->at] != h; a->at++) {
    }
    mx_jsonw_init(&a->w, MX_ANSWER_MAX);
    mx_jsonw_object(&a->w, NULL);
    mx_jsonw_string(&a->w, "domain", m.name);
    mx_jsonw_array(&a->w, "runs");
    adopt_next(op->d, a);
    return 0;
}

/* ---- withdrawing ---- */

/* A run that a withdrawal is of. */
struct taker {
    const struct mx_host *host;
    uint64_t from_step; /* the step that it will be, or has been, taken at */
    uint64_t samples;
};

struct mx_withdrawal {
    struct mx_withdrawal *next; /* see daemon.h */
    struct mx_task task;
    struct mx_job job;
    struct mx_daemon *d;
    struct mx_req *req;
    struct mx_domain domain;
    char what[MX_PATH_MAX];     /* an id, or a file */
    uint64_t byte;
    bool by_origin, dry, recorded;
    char author[MX_WHY_MAX + 1], why[MX_WHY_MAX + 1];
    struct mx_err err;
    int rc;
    struct mx_withdrawn_piece *pieces;
    uint32_t n, cap;
    struct taker *takers;
    uint32_t n_takers;
    struct mx_jsonw w;          /* the documents, then the answer */
    uint32_t serial;
    uint8_t *bytes;
};

static void free_withdrawal(struct mx_withdrawal *x)
{
    mx_jsonw_fini(&x->w);
    free(x->takers);
    free(x->pieces);
    free(x->bytes);
    free(x);
}

static int found_cb(void *arg, const struct mx_found *f)
{
    struct mx_withdrawal *x = arg;

    if (x->n == PIECES_MAX) {
        return mx_fail(&x->err, MX_EINVALID, "over %u documents match", PIECES_MAX);
    }
    if (x->n == x->cap) {
        uint32_t cap = x->cap * 2 + 16;
        struct mx_withdrawn_piece *pieces = realloc(x->pieces, cap * sizeof *pieces);

        if (pieces == NULL) {
            return mx_fail(&x->err, MX_ENOMEM, "no memory for %" PRIu32 " documents", cap);
        }
        x->pieces = pieces;
        x->cap = cap;
    }
    x->pieces[x->n++] = (struct mx_withdrawn_piece){f->shard, f->document.first_token,
                                                    f->document.tokens};
    if (x->n <= LISTED_MAX && x->w.n < MX_PAGE_MAX) {
        mx_jsonw_object(&x->w, NULL);
        mx_jsonw_string(&x->w, "id", f->document.id);
        mx_jsonw_string(&x->w, "source", f->source_path);
        mx_jsonw_u64(&x->w, "byte", f->document.source_byte);
        mx_jsonw_u64(&x->w, "line", f->document.source_line);
        mx_jsonw_u64(&x->w, "tokens", f->document.tokens);
        mx_jsonw_end_object(&x->w);
    }
    return 0;
}

/* On the task's thread. Where a token stands is all that is asked for, so samples are of one. */
static void find_work(struct mx_task *t)
{
    struct mx_withdrawal *x =
        (struct mx_withdrawal *)((char *)t - offsetof(struct mx_withdrawal, task));
    struct mx_view v = {0};

    x->rc = mx_view_make(x->d->catalog, &x->domain, x->domain.shards, 1, &v, &x->err);
    if (x->rc == 0 && x->by_origin) {
        x->rc = mx_lookup_origin(x->d->shards, &v, x->what, strlen(x->what), x->byte, found_cb, x,
                                 &x->err);
    } else if (x->rc == 0) {
        x->rc = mx_lookup_id(x->d->shards, &v, x->what, strlen(x->what), found_cb, x, &x->err);
    }
    mx_view_clear(&v);
    if (x->rc == 0 && x->n == 0) {
        x->rc = x->by_origin
                    ? mx_fail(&x->err, MX_ENOTFOUND, "domain %s has no document of %s", x->domain.name,
                              x->what)
                    : mx_fail(&x->err, MX_ENOTFOUND, "domain %s has no document with the id %s",
                              x->domain.name, x->what);
    }
}

/* How many of a run's samples the documents touch; an error if the run couldn't go on. */
static int count_samples(struct mx_withdrawal *x, struct mx_host *h, uint32_t i, uint64_t *ret,
                         struct mx_err *err)
{
    struct mx_view v = {0};
    struct mx_range *ranges;
    uint32_t n;
    int rc = mx_view_make(x->d->catalog, &x->domain, x->domain.shards, (uint32_t)h->conf.unit,
                          &v, err);

    if (rc < 0) {
        return rc;
    }
    rc = mx_withdrawn_ranges(&v, x->pieces, x->n, &ranges, &n, err);
    if (rc == 0) {
        *ret = 0;
        for (uint32_t j = 0; j < n; j++) {
            *ret += ranges[j].count;
        }
        rc = mx_sync_spares(h, i, ranges, n, v.samples, err);
        free(ranges);
    }
    mx_view_clear(&v);
    return rc;
}

/* The runs that it is of, as things stand now; an error if one of them couldn't go on. */
static int find_takers(struct mx_withdrawal *x, struct mx_err *err)
{
    x->takers = malloc((x->d->n_hosts + 1) * sizeof *x->takers);
    if (x->takers == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for the runs of a withdrawal");
    }
    for (uint32_t i = 0; i < x->d->n_hosts; i++) {
        struct mx_host *h = x->d->hosts[i];
        int domain = h->failed[0] == '\0' ? uses(h, x->domain.id) : -1, rc;
        struct taker *t = &x->takers[x->n_takers];
        struct mx_run_view v;

        if (domain < 0) {
            continue;
        }
        rc = count_samples(x, h, (uint32_t)domain, &t->samples, err);
        if (rc < 0) {
            return rc;
        }
        mx_run_view(h->core, &v);
        t->host = h;
        t->from_step = v.frontier;
        x->n_takers++;
    }
    return 0;
}

static void answer(struct mx_withdrawal *x)
{
    mx_jsonw_array(&x->w, "runs");
    for (uint32_t i = 0; i < x->n_takers; i++) {
        mx_jsonw_object(&x->w, NULL);
        mx_jsonw_string(&x->w, "run", x->takers[i].host->conf.name);
        mx_jsonw_u64(&x->w, "from_step", x->takers[i].from_step);
        mx_jsonw_u64(&x->w, "samples", x->takers[i].samples);
        mx_jsonw_end_object(&x->w);
    }
    mx_jsonw_end_array(&x->w);
    mx_jsonw_bool(&x->w, "dry_run", x->dry);
    mx_jsonw_end_object(&x->w);
    mx_op_send(x->d, x->req, &x->w);
}

/* What it waits for can't come any more: whoever asked hears so. */
static bool gave_up(struct mx_withdrawal *x)
{
    struct mx_daemon *d = x->d;

    if (!d->draining && d->journal_error[0] == '\0') {
        return false;
    }
    mx_serve_refuse(d, NULL, x->req, MX_STATUS_BUSY, 1000, "%s: %s", x->recorded
                    ? "the withdrawal is recorded, but not all runs can take it before the daemon is "
                      "started again"
                    : "the withdrawal can't be recorded",
                    d->draining ? "it is stopping" : d->journal_error);
    return true;
}

static void begin_first(struct mx_daemon *d);

/* The first of those that change something is over with. */
static void end_first(struct mx_daemon *d)
{
    struct mx_withdrawal *x = d->withdrawals;

    d->withdrawals = x->next;
    free_withdrawal(x);
    begin_first(d);
}

static void put_done(struct mx_job *job, int rc, const struct mx_err *err)
{
    struct mx_withdrawal *x =
        (struct mx_withdrawal *)((char *)job - offsetof(struct mx_withdrawal, job));

    if (rc < 0) {
        mx_op_unwritten(x->d, x->req, err);
        end_first(x->d);
        return;
    }
    x->recorded = true;
    mx_log(MX_LOG_INFO, "domain.withdraw", "domain=%s serial=%" PRIu32 " documents=%" PRIu32,
           x->domain.name, x->serial, x->n);
    mx_sync(x->d);
}

static int last_cb(void *arg, uint32_t serial, struct mx_span bytes)
{
    (void)bytes;
    *(uint32_t *)arg = serial;
    return 0;
}

static int record(struct mx_withdrawal *x, struct mx_err *err)
{
    struct mx_withdrawn w = {.time_ms = mx_wall_ms(), .author = x->author,
                             .author_len = (uint32_t)strlen(x->author), .why = x->why,
                             .why_len = (uint32_t)strlen(x->why), .n = x->n, .pieces = x->pieces};
    size_t n = 0;
    int rc = mx_catalog_withdrawals(x->d->catalog, x->domain.id, 0, last_cb, &x->serial, err);

    if (rc < 0) {
        return rc;
    }
    x->bytes = mx_withdrawn_encode(&w, &n);
    if (x->bytes == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for a withdrawal");
    }
    x->serial++;
    x->job.puts[0] = (struct mx_put){.kind = MX_PUT_WITHDRAW, .run = x->domain.id,
                                     .key = x->serial, .bytes = x->bytes, .n = n};
    x->job.n_puts = 1;
    x->job.done = put_done;
    mx_writer_put(x->d->writer, &x->job);
    return 0;
}

/* One after the other: whether the runs can do without the documents is asked of runs that have
 * taken all withdrawals before. */
static void begin_first(struct mx_daemon *d)
{
    while (d->withdrawals != NULL) {
        struct mx_withdrawal *x = d->withdrawals;

        if (!gave_up(x)) {
            int rc = find_takers(x, &x->err);

            rc = rc == 0 ? record(x, &x->err) : rc;
            if (rc == 0) {
                return;
            }
            mx_op_refuse(d, x->req, &x->err);
        }
        d->withdrawals = x->next;
        free_withdrawal(x);
    }
}

static void find_done(struct mx_task *t)
{
    struct mx_withdrawal *x =
        (struct mx_withdrawal *)((char *)t - offsetof(struct mx_withdrawal, task));
    struct mx_withdrawal **last = &x->d->withdrawals;
    int rc = x->rc;

    mx_jsonw_end_array(&x->w);
    if (rc == 0 && !x->dry) {
        while (*last != NULL) {
            last = &(*last)->next;
        }
        *last = x;
        if (x->d->withdrawals == x) {
            begin_first(x->d);
        }
        return;
    }
    rc = rc == 0 ? find_takers(x, &x->err) : rc;
    if (rc < 0) {
        mx_op_refuse(x->d, x->req, &x->err);
    } else {
        answer(x);
    }
    free_withdrawal(x);
}

void mx_ops_withdrawal_taken(struct mx_host *h, const struct mx_entry *e)
{
    struct mx_withdrawal *x = h->d->withdrawals;

    for (uint32_t i = 0; x != NULL && x->recorded && i < x->n_takers; i++) {
        if (x->takers[i].host == h && h->record.domains[e->domain].id == x->domain.id) {
            x->takers[i].from_step = e->step;
        }
    }
    mx_ops_withdrawn(h->d);
}

void mx_ops_withdrawn(struct mx_daemon *d)
{
    struct mx_withdrawal *x = d->withdrawals;

    if (x == NULL || !x->recorded) {
        return;
    }
    if (mx_sync_all_have(d, x->domain.id, x->serial)) {
        answer(x);
        end_first(d);
    } else if (gave_up(x)) {
        end_first(d);
    }
}

int mx_op_origin(const char *text, char *ret_path, size_t n, uint64_t *ret_byte, struct mx_err *err)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;

    errno = 0;
    if (colon != NULL && colon > text && colon[1] >= '0' && colon[1] <= '9') {
        *ret_byte = strtoull(colon + 1, &end, 10);
    }
    if (end == NULL || *end != '\0' || errno != 0 || (size_t)(colon - text) >= n) {
        return mx_fail(err, MX_EINVALID, "an origin is FILE:BYTE, like part-7.jsonl:1048576, not "
                       "%.200s", text);
    }
    memcpy(ret_path, text, (size_t)(colon - text));
    ret_path[colon - text] = '\0';
    return 0;
}

/* What the request names, into a fresh withdrawal. */
static int take_withdrawal(const struct mx_op *op, struct mx_withdrawal *x, struct mx_err *err)
{
    const char *name = NULL, *doc = NULL, *origin = NULL;
    struct mx_entry e = {0};
    bool dry = false;
    int rc;

    if ((rc = mx_json_take_string(op->doc, op->o, "name", true, &name, err)) < 0 ||
        (rc = mx_json_take_string(op->doc, op->o, "doc", false, &doc, err)) < 0 ||
        (rc = mx_json_take_string(op->doc, op->o, "origin", false, &origin, err)) < 0 ||
        (rc = mx_json_take_bool(op->doc, op->o, "dry_run", false, &dry, err)) < 0 ||
        (rc = mx_op_author(op, &e, err)) < 0 ||
        (rc = mx_catalog_domain(op->d->catalog, name, &x->domain, err)) < 0) {
        return rc;
    }
    if ((doc == NULL) == (origin == NULL)) {
        return mx_fail(err, MX_EINVALID, "either \"doc\" or \"origin\" says what to withdraw");
    }
    if (e.why_len == 0) {
        return mx_fail(err, MX_EINVALID, "\"why\" is missing: a withdrawal is kept with its reason");
    }
    if (doc != NULL && strlen(doc) >= sizeof x->what) {
        return mx_fail(err, MX_EINVALID, "an id has at most %zu bytes", sizeof x->what - 1);
    }
    x->by_origin = origin != NULL;
    x->dry = dry;
    (void)snprintf(x->author, sizeof x->author, "%s", e.author);
    (void)snprintf(x->why, sizeof x->why, "%s", e.why);
    if (origin != NULL) {
        return mx_op_origin(origin, x->what, sizeof x->what, &x->byte, err);
    }
    (void)snprintf(x->what, sizeof x->what, "%s", doc);
    return 0;
}

int mx_op_domain_withdraw(const struct mx_op *op, struct mx_err *err)
{
    struct mx_withdrawal *x = calloc(1, sizeof *x);
    int rc;

    if (x == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for a withdrawal");
    }
    mx_jsonw_init(&x->w, MX_ANSWER_MAX);
    rc = take_withdrawal(op, x, err);
    if (rc == 0) {
        x->d = op->d;
        x->req = op->req;
        x->task.work = find_work;
        x->task.done = find_done;
        mx_jsonw_object(&x->w, NULL);
        mx_jsonw_string(&x->w, "domain", x->domain.name);
        mx_jsonw_array(&x->w, "documents");
        rc = mx_task_start(op->d->tasks, &x->task, err);
    }
    if (rc < 0) {
        free_withdrawal(x);
    }
    return rc;
}
