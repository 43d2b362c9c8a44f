/* history.c - going back to a step, going on from it in another run, and looking whether all of a
 * run's history still gives what it gave.
 *
 * Each reads the journal on a thread of its own, into a core made for it: the run itself only
 * learns the result. For a rewind the run is frozen first, so that the journal stands still; a fork
 * takes the journal as it finds it. */
#include "daemon/entry.h"
#include "daemon/ops.h"
#include "daemon/replay.h"

#include <inttypes.h>
#include <string.h>

enum kind { REWIND, FORK, REPLAY };

struct history {
    struct mx_task task; /* first */
    enum kind kind;
    struct mx_host *h;
    struct mx_req *req;
    struct mx_ground *ground;
    struct mx_run *core; /* folded into */
    uint64_t step;       /* REWIND, FORK */
    char name[MX_NAME_MAX + 1]; /* FORK */
    char author[MX_WHY_MAX + 1], why[MX_WHY_MAX + 1];
    /* the result */
    int rc;
    struct mx_err err;
    uint64_t *words;
    size_t n_words;
    uint64_t first_entry, entries, first_step;
};

static void free_history(struct history *x)
{
    mx_ground_give(x->ground);
    free(x->core);
    free(x->words);
    free(x);
}

/* ---- on the task's thread ---- */

static int fold_cb(void *arg, uint64_t index, struct mx_span bytes)
{
    struct history *x = arg;
    struct mx_effects fx;
    struct mx_entry_box box;
    enum mx_applied applied;
    int rc = mx_entry_decode(bytes, x->h->conf.k, &box, &x->err);

    if (rc < 0) {
        (void)mx_wrap(&x->err, "run %s: journal entry %" PRIu64, x->h->conf.name, index);
        return rc;
    }
    box.entry.index = index;
    applied = x->kind == REPLAY ? mx_run_apply(x->core, &box.entry, 0, &fx)
                                : mx_run_unwind(x->core, &box.entry, x->step);
    rc = mx_host_applied(x->h, x->core, &box.entry, applied, &x->err);
    mx_entry_box_clear(&box);
    x->entries++;
    if (rc == 0 && mx_task_stopped(&x->task)) {
        rc = mx_fail(&x->err, MX_ECANCELLED, "the daemon is stopping");
    }
    return rc;
}

/* Brings the state of a snapshot into the core. */
static int load_words(struct history *x, uint64_t step, struct mx_span bytes)
{
    uint64_t *words = NULL;
    size_t n;
    int rc = mx_words_decode(bytes, &words, &n, &x->err);

    if (rc == 0 && mx_run_load(x->core, words, n) < 0) {
        rc = mx_fail(&x->err, MX_EDAMAGED, "run %s: the snapshot at step %" PRIu64 " makes no sense",
                     x->h->conf.name, step);
    }
    if (rc == 0) {
        x->first_step = step;
    }
    free(words);
    return rc;
}

/* The latest snapshot of the present branch at or before *step: its words into the core, its step
 * into *step. *found: whether there is one. */
static int load_before(struct history *x, uint64_t *step, uint64_t *cursors, bool *found)
{
    struct mx_catalog *c = x->h->d->catalog;
    uint64_t from, applied;
    uint8_t *bytes;
    size_t n;
    int rc = mx_replay_start(c, x->h->id, x->h->conf.name, x->ground, *step, &from, &applied,
                             cursors, &x->err);

    *found = rc == 0 && applied > 0;
    if (!*found) {
        return rc == MX_ENOTFOUND ? 0 : rc;
    }
    rc = mx_catalog_snapshot(c, x->h->id, from, step, &bytes, &n, &x->err);
    if (rc == 0) {
        rc = load_words(x, *step, (struct mx_span){bytes, n});
        free(bytes);
    }
    return rc;
}

static int blank_core(struct history *x)
{
    free(x->core);
    x->core = mx_host_blank_core(x->h);
    x->first_step = 0;
    return x->core != NULL ? 0 : mx_fail(&x->err, MX_ENOMEM, "no memory to go through a journal");
}

/* A state to go on from to the step, nothing in which is of a later one: that of the latest
 * snapshot for which this is so, or the journal's beginning. */
static int load_near(struct history *x)
{
    uint64_t step = x->step;
    uint64_t *cursors = malloc(x->h->conf.k * sizeof *cursors);
    bool found = false;
    int rc = cursors != NULL ? 0 : mx_fail(&x->err, MX_ENOMEM, "no memory for a snapshot");

    while (rc == 0) {
        rc = load_before(x, &step, cursors, &found);
        if (rc < 0 || !found || mx_run_unwinds(x->core, x->step)) {
            break;
        }
        rc = blank_core(x);
        if (step <= x->ground->first_step) {
            break;
        }
        step--;
    }
    free(cursors);
    return rc;
}

struct earliest {
    struct history *x;
    uint64_t first;         /* the first entry kept */
    uint64_t step, applied; /* of the snapshot that holds the fewest entries; UINT64_MAX for none */
};

/* Of the snapshots from which the entries kept go on, the earliest. It may be of a branch that was
 * left: the entries behind it then say so. */
static int earliest_cb(void *arg, uint64_t step, struct mx_span bytes)
{
    struct earliest *e = arg;
    struct history *x = e->x;
    uint64_t at, applied, *cursors, *words;
    size_t n;
    int rc = mx_words_decode(bytes, &words, &n, &x->err);

    if (rc < 0) {
        return rc;
    }
    cursors = malloc(x->h->conf.k * sizeof *cursors);
    rc = cursors == NULL ? -1 : mx_run_saved_cursors(words, n, x->h->conf.k, &at, &applied, cursors);
    free(cursors);
    free(words);
    if (rc == 0 && applied + 1 >= e->first && applied < e->applied) {
        e->step = step;
        e->applied = applied;
    }
    return 0;
}

/* For a replay of all that is kept: nothing, or where a compaction left off. */
static int load_earliest(struct history *x)
{
    struct mx_daemon *d = x->h->d;
    struct earliest e = {.x = x, .applied = UINT64_MAX};
    uint64_t last, found;
    uint8_t *bytes;
    size_t n;
    int rc = mx_journal_bounds(d->journal, x->h->id, &e.first, &last, &x->err);

    if (rc < 0 || e.first <= 1) {
        return rc;
    }
    rc = mx_catalog_snapshots(d->catalog, x->h->id, 0, MX_SNAPSHOT_LAST - 1, earliest_cb, &e,
                              &x->err);
    if (rc == 0 && e.applied == UINT64_MAX) {
        return mx_fail(&x->err, MX_EDAMAGED, "run %s: no snapshot goes with journal entry %" PRIu64
                       ", the first one kept", x->h->conf.name, e.first);
    }
    rc = rc < 0 ? rc : mx_catalog_snapshot(d->catalog, x->h->id, e.step, &found, &bytes, &n, &x->err);
    if (rc == 0) {
        rc = load_words(x, found, (struct mx_span){bytes, n});
        free(bytes);
    }
    return rc;
}

static int save_words(struct history *x)
{
    uint64_t step;

    if (mx_run_unwound(x->core, x->step) < 0) {
        return mx_fail(&x->err, MX_EINVALID, "run %s: it can't go on from step %" PRIu64 ": that was "
                       "never planned, or too many of a domain's samples are withdrawn since",
                       x->h->conf.name, x->step);
    }
    x->n_words = mx_run_save(x->core, NULL, 0, &step);
    x->words = malloc(x->n_words * sizeof *x->words);
    if (x->words == NULL || x->n_words * sizeof *x->words > MX_SNAPSHOT_MAX) {
        return mx_fail(&x->err, MX_EFULL, "run %s: a state of %zu words is too large for an entry",
                       x->h->conf.name, x->n_words);
    }
    x->n_words = mx_run_save(x->core, x->words, x->n_words, &step);
    return 0;
}

/* The state that was loaded, and the entries behind it. */
static int begin(struct history *x)
{
    uint64_t first, last;
    struct mx_run_view v;
    int rc = x->kind == REPLAY ? load_earliest(x) : load_near(x);

    if (rc == 0) {
        rc = mx_journal_bounds(x->h->d->journal, x->h->id, &first, &last, &x->err);
    }
    if (rc < 0) {
        return rc;
    }
    mx_run_view(x->core, &v);
    x->first_entry = v.applied + 1;
    return x->first_entry >= first ? 0
         : mx_fail(&x->err, MX_EGONE, "run %s: the journal begins with entry %" PRIu64
                   ": what step %" PRIu64 " needs was removed from it", x->h->conf.name, first,
                   x->step);
}

static void history_work(struct mx_task *t)
{
    struct history *x = (struct history *)t;

    x->rc = begin(x);
    if (x->rc < 0) {
        return;
    }
    x->rc = mx_journal_read(x->h->d->journal, x->h->id, x->first_entry, fold_cb, x, &x->err);
    if (x->rc == 0 && x->kind != REPLAY) {
        x->rc = save_words(x);
    }
}

/* ---- on the loop ---- */

static void thaw(struct mx_host *h)
{
    struct mx_event ev = {.kind = MX_EV_THAW};

    h->frozen = false;
    h->rewind = NULL;
    mx_host_event(h, &ev);
    if (h->d->journal_error[0] == '\0') {
        mx_sync_host(h); /* what it was frozen for meanwhile */
    }
    mx_host_again(h);
}

/* The entry's fields, from a state that was saved. */
static struct mx_entry entry_of(const struct history *x, struct mx_run_view *v)
{
    mx_run_view(x->core, v);
    return (struct mx_entry){
        .step = x->step, .words = x->words, .n_words = x->n_words, .shares = v->shares,
        .n_shares = v->n_shares,
        .mix_version = v->versions + 1, .source = x->h->id,
        .author = x->author, .author_len = (uint32_t)strlen(x->author),
        .why = x->why, .why_len = (uint32_t)strlen(x->why),
    };
}

static void rewind_done(struct history *x)
{
    struct mx_run_view v;
    struct mx_entry e;
    struct mx_event ev = {.kind = MX_EV_REWIND, .handle = (uint64_t)(uintptr_t)x->req, .entry = &e};

    if (x->rc < 0) {
        mx_op_refuse(x->h->d, x->req, &x->err);
        thaw(x->h);
        return;
    }
    e = entry_of(x, &v);
    mx_host_event(x->h, &ev);
    if (x->h->jobs == 0) {
        thaw(x->h); /* it was refused */
    }
}

static void fork_done(struct history *x)
{
    struct mx_run_view v;
    struct mx_entry e;

    if (x->rc == 0) {
        e = entry_of(x, &v);
        x->rc = mx_host_fork(x->h, x->req, x->name, &e, &x->err);
    }
    if (x->rc < 0) {
        mx_op_refuse(x->h->d, x->req, &x->err);
    }
}

static void replay_done(struct history *x)
{
    struct mx_run_view v;
    struct mx_jsonw w;
    uint64_t first;
    char digest[24];

    if (x->rc < 0) {
        mx_log(MX_LOG_ERROR, "run.replay", "run=%s error=\"%s\"", x->h->conf.name, x->err.text);
        mx_op_refuse(x->h->d, x->req, &x->err);
        return;
    }
    mx_run_view(x->core, &v);
    first = x->first_step > v.first_step ? x->first_step : v.first_step;
    first = first < v.frontier ? first : v.frontier;
    (void)snprintf(digest, sizeof digest, "%016" PRIx64, v.digest);
    mx_jsonw_init(&w, MX_ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "run", x->h->conf.name);
    mx_jsonw_u64(&w, "entries", x->entries);
    mx_jsonw_u64(&w, "first_entry", x->first_entry);
    mx_jsonw_u64(&w, "steps", v.frontier - first);
    mx_jsonw_u64(&w, "first_step", first);
    mx_jsonw_u64(&w, "branches", (uint64_t)v.branch + 1);
    mx_jsonw_string(&w, "digest", digest);
    mx_jsonw_bool(&w, "ok", true);
    mx_jsonw_end_object(&w);
    mx_op_send(x->h->d, x->req, &w);
}

static void history_done(struct mx_task *t)
{
    struct history *x = (struct history *)t;

    switch (x->kind) {
    case REWIND: rewind_done(x); break;
    case FORK: fork_done(x); break;
    case REPLAY: replay_done(x); break;
    }
    free_history(x);
}

static struct history *new_history(const struct mx_op *op, enum kind kind, struct mx_host *h,
                                   struct mx_err *err)
{
    struct mx_entry e = {0};
    struct history *x;

    if (mx_op_author(op, &e, err) < 0) {
        return NULL;
    }
    x = calloc(1, sizeof *x);
    if (x == NULL || (x->core = mx_host_blank_core(h)) == NULL) {
        free(x);
        (void)mx_fail(err, MX_ENOMEM, "no memory to go through a journal");
        return NULL;
    }
    x->task.work = history_work;
    x->task.done = history_done;
    x->kind = kind;
    x->h = h;
    x->req = op->req;
    x->ground = mx_ground_take(h->ground);
    (void)snprintf(x->author, sizeof x->author, "%s", e.author);
    (void)snprintf(x->why, sizeof x->why, "%s", e.why);
    return x;
}

static int start(struct history *x, struct mx_err *err)
{
    int rc = mx_task_start(x->h->d->tasks, &x->task, err);

    if (rc < 0) {
        free_history(x);
    }
    return rc;
}

/* A step that has been planned, of the present branch. */
static int take_step(const struct mx_op *op, struct mx_host *h, const char *key, uint64_t *ret,
                     struct mx_err *err)
{
    struct mx_run_view v;
    int rc = mx_json_take_u64(op->doc, op->o, key, true, 0, MX_STEP_MAX, ret, err);

    mx_run_view(h->core, &v);
    if (rc == 0 && *ret > v.frontier) {
        rc = mx_fail(err, MX_EINVALID, "run %s: step %" PRIu64 " is beyond the frontier, step %"
                     PRIu64, h->conf.name, *ret, v.frontier);
    } else if (rc == 0 && *ret < v.first_step) {
        rc = mx_fail(err, MX_EINVALID, "run %s: step %" PRIu64 " is before step %" PRIu64
                     ", with which the run begins", h->conf.name, *ret, v.first_step);
    }
    return rc;
}

int mx_op_run_rewind(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    struct mx_event ev = {.kind = MX_EV_FREEZE};
    struct history *x;
    uint64_t step = 0;
    int rc;

    if (h == NULL) {
        return err->code;
    }
    if ((rc = take_step(op, h, "to", &step, err)) < 0) {
        return rc;
    }
    if (h->frozen) {
        return mx_fail(err, MX_EBUSY, "run %s: it is being rewound already", h->conf.name);
    }
    x = new_history(op, REWIND, h, err);
    if (x == NULL) {
        return err->code;
    }
    x->step = step;
    h->rewind = x;
    h->frozen = true;
    mx_host_event(h, &ev);
    if (h->jobs == 0) {
        mx_rewind_still(h);
    }
    return 0;
}

void mx_rewind_still(struct mx_host *h)
{
    struct history *x = h->rewind;
    struct mx_err err;

    if (x == NULL) {
        return; /* its entry is on its way */
    }
    h->rewind = NULL;
    /* Changes of domains that were on their way have come. */
    mx_ground_give(x->ground);
    x->ground = mx_ground_take(h->ground);
    if (mx_task_start(h->d->tasks, &x->task, &err) < 0) {
        mx_op_refuse(h->d, x->req, &err);
        thaw(h);
        free_history(x);
    }
}

int mx_op_run_fork(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    const char *name = NULL;
    struct history *x;
    uint64_t step = 0;
    int rc;

    if (h == NULL) {
        return err->code;
    }
    if ((rc = mx_json_take_string(op->doc, op->o, "name", true, &name, err)) < 0 ||
        (rc = mx_name_check(name, strlen(name), "a run", err)) < 0 ||
        (rc = take_step(op, h, "at", &step, err)) < 0) {
        return rc;
    }
    if (mx_host_find(h->d, name) != NULL) {
        return mx_fail(err, MX_EEXISTS, "there is a run %s already", name);
    }
    x = new_history(op, FORK, h, err);
    if (x == NULL) {
        return err->code;
    }
    x->step = step;
    (void)snprintf(x->name, sizeof x->name, "%s", name);
    return start(x, err);
}

int mx_op_run_replay(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    struct history *x = h == NULL ? NULL : new_history(op, REPLAY, h, err);

    return x == NULL ? err->code : start(x, err);
}
