/* ops_run.c - operations on runs: making, showing, stopping and compacting them, steps to pass
 * over. See ops.c; going back and forking are in history.c. */
#include "daemon/log.h"
#include "daemon/ops.h"
#include "daemon/replay.h"

#include <inttypes.h>
#include <string.h>

int mx_op_run_create(const struct mx_op *op, struct mx_err *err)
{
    const char *name = NULL, *config = NULL;
    struct mx_entry e = {0};
    int rc;

    if ((rc = mx_json_take_string(op->doc, op->o, "name", false, &name, err)) < 0 ||
        (rc = mx_json_take_string(op->doc, op->o, "config", true, &config, err)) < 0 ||
        (rc = mx_op_author(op, &e, err)) < 0) {
        return rc;
    }
    return mx_host_create(op->d, op->req, config, strlen(config), name, &e, err);
}

void mx_op_send_summary(struct mx_host *h, struct mx_req *req)
{
    struct mx_jsonw w;

    mx_jsonw_init(&w, MX_ANSWER_MAX);
    mx_stats_run_summary(h, &w, NULL);
    mx_op_send(h->d, req, &w);
}

int mx_op_run_ls(const struct mx_op *op, struct mx_err *err)
{
    struct mx_jsonw w;

    (void)err;
    mx_jsonw_init(&w, MX_ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_array(&w, "runs");
    for (uint32_t i = 0; i < op->d->n_hosts; i++) {
        mx_stats_run_summary(op->d->hosts[i], &w, NULL);
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_end_object(&w);
    mx_op_send(op->d, op->req, &w);
    return 0;
}

int mx_op_run_show(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, true, err);
    size_t n = 0;
    char *json;

    if (h == NULL) {
        return err->code;
    }
    if (h->failed[0] != '\0') {
        mx_op_send_summary(h, op->req);
        return 0;
    }
    json = mx_stats_run(h, &n);
    mx_serve_json(op->d, op->req, json, n);
    return 0;
}

int mx_op_run_stop(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    struct mx_entry e = {.kind = MX_ENTRY_STOP};
    struct mx_event ev = {.kind = MX_EV_STOP, .handle = (uint64_t)(uintptr_t)op->req, .entry = &e};
    int rc;

    if (h == NULL) {
        return err->code;
    }
    if ((rc = mx_op_author(op, &e, err)) < 0) {
        return rc;
    }
    mx_host_event(h, &ev);
    return 0;
}

/* ---- steps to pass over ---- */

int mx_op_run_skip(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    struct mx_entry e = {.kind = MX_ENTRY_SKIP};
    struct mx_event ev = {.kind = MX_EV_SKIP, .handle = (uint64_t)(uintptr_t)op->req, .entry = &e};
    int rc;

    if (h == NULL) {
        return err->code;
    }
    if ((rc = mx_json_take_u64(op->doc, op->o, "from", true, 0, MX_STEP_MAX, &e.step, err)) < 0 ||
        (rc = mx_json_take_u64(op->doc, op->o, "to", true, 0, MX_STEP_MAX, &e.to, err)) < 0 ||
        (rc = mx_op_author(op, &e, err)) < 0) {
        return rc;
    }
    if (e.step >= e.to) {
        return mx_fail(err, MX_EINVALID, "from step %" PRIu64 " to before step %" PRIu64
                       " there are no steps", e.step, e.to);
    }
    mx_host_event(h, &ev);
    return 0;
}

void mx_op_skip_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *e)
{
    struct mx_jsonw w;

    mx_log(MX_LOG_INFO, "run.skip", "run=%s from=%" PRIu64 " to=%" PRIu64, h->conf.name, e->step,
           e->to);
    mx_jsonw_init(&w, MX_ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "run", h->conf.name);
    mx_jsonw_u64(&w, "from", e->step);
    mx_jsonw_u64(&w, "to", e->to);
    mx_jsonw_end_object(&w);
    mx_op_send(h->d, req, &w);
}

void mx_op_rewind_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *e)
{
    struct mx_jsonw w;

    mx_log(MX_LOG_INFO, "run.rewind", "run=%s to=%" PRIu64 " branch=%" PRIu32, h->conf.name,
           e->step, e->branch);
    mx_jsonw_init(&w, MX_ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "run", h->conf.name);
    mx_jsonw_u64(&w, "to", e->step);
    mx_jsonw_u64(&w, "branch", e->branch);
    mx_jsonw_u64(&w, "mix_version", e->mix_version);
    mx_jsonw_u64(&w, "entry", e->index);
    mx_jsonw_end_object(&w);
    mx_op_send(h->d, req, &w);
}

/* ---- compacting ---- */

/* Entries go a slice at a time, each a job of the writer; the run is served meanwhile. */
struct compaction {
    struct mx_job job; /* first */
    struct mx_host *h;
    struct mx_req *req;
    uint64_t first, upto, step, removed; /* first: kept before the next slice; upto: to be removed */
    char author[MX_WHY_MAX + 1], why[MX_WHY_MAX + 1]; /* for the daemon's log: the run's is no place
                                                         to say what it lacks */
};

static void compact_slice(struct compaction *c);

static void compact_done(struct mx_job *job, int rc, const struct mx_err *err)
{
    struct compaction *c = (struct compaction *)job;
    char author[2 * MX_WHY_MAX + 8], why[2 * MX_WHY_MAX + 8];
    struct mx_jsonw w;

    if (rc < 0) {
        mx_op_unwritten(c->h->d, c->req, err);
        free(c);
        return;
    }
    c->removed += job->puts[0].key + 1 - c->first;
    c->first = job->puts[0].key + 1;
    if (c->first <= c->upto) {
        compact_slice(c);
        return;
    }
    mx_log(MX_LOG_INFO, "run.compact", "run=%s removed=%" PRIu64 " first_entry=%" PRIu64
           " author=%s why=%s", c->h->conf.name, c->removed, c->first,
           mx_log_quote(c->author, author, sizeof author), mx_log_quote(c->why, why, sizeof why));
    mx_jsonw_init(&w, MX_ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "run", c->h->conf.name);
    mx_jsonw_u64(&w, "removed", c->removed);
    mx_jsonw_u64(&w, "first_entry", c->first);
    mx_jsonw_u64(&w, "step", c->step);
    mx_jsonw_end_object(&w);
    mx_op_send(c->h->d, c->req, &w);
    free(c);
}

static void compact_slice(struct compaction *c)
{
    uint64_t key = c->upto - c->first < MX_COMPACT_SLICE ? c->upto
                                                        : c->first + MX_COMPACT_SLICE - 1;

    c->job.puts[0] = (struct mx_put){.kind = MX_PUT_COMPACT, .run = c->h->id, .key = key};
    c->job.n_puts = 1;
    c->job.done = compact_done;
    mx_writer_put(c->h->d->writer, &c->job);
}

/* Everything up to what the latest snapshot at or before the step holds: from there the run can
 * still be rebuilt, and steps before it are planned from snapshots and mixes, which stay. */
int mx_op_run_compact(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    struct mx_entry e = {0};
    struct compaction *c;
    struct mx_run_view v;
    uint64_t before = 0, last, *cursors;
    int rc;

    if (h == NULL) {
        return err->code;
    }
    if ((rc = mx_json_take_u64(op->doc, op->o, "before", true, 0, MX_STEP_MAX, &before, err)) < 0 ||
        (rc = mx_op_author(op, &e, err)) < 0) {
        return rc;
    }
    c = calloc(1, sizeof *c);
    cursors = malloc(h->conf.k * sizeof *cursors);
    if (c == NULL || cursors == NULL) {
        free(c);
        free(cursors);
        return mx_fail(err, MX_ENOMEM, "no memory to compact a journal");
    }
    c->h = h;
    c->req = op->req;
    (void)snprintf(c->author, sizeof c->author, "%s", e.author);
    (void)snprintf(c->why, sizeof c->why, "%s", e.why);
    mx_run_view(h->core, &v);
    before = before < v.frontier ? before : v.frontier; /* what is beyond is of branches left */
    before = before > h->ground->first_step ? before : h->ground->first_step;
    rc = mx_replay_start(op->d->catalog, h->id, h->conf.name, h->ground, before, &c->step, &c->upto,
                         cursors, err);
    free(cursors);
    if (rc == 0) {
        rc = mx_journal_bounds(op->d->journal, h->id, &c->first, &last, err);
    }
    if (rc == 0 && c->upto >= last) {
        c->upto = last - 1; /* the store keeps the last entry, to know the next one's index */
    }
    if (rc == 0 && c->upto < c->first) {
        rc = mx_fail(err, MX_EINVALID, "run %s: there is nothing to remove before step %" PRIu64
                     ": the latest snapshot there is of step %" PRIu64 ", the first entry kept is %"
                     PRIu64, h->conf.name, before, c->step, c->first);
    }
    if (rc < 0) {
        free(c);
        return rc;
    }
    compact_slice(c);
    return 0;
}
