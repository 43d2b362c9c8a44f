/* host_events.c - feeds events to a run's core and does what its effects say.
 *
 * The order that makes it safe: an entry is encoded when the core asks for it, committed by the
 * writer thread, and only then decoded from those same bytes and applied. Requests that the core
 * holds are given to it again after each apply. */
#include "daemon/daemon.h"
#include "daemon/entry.h"
#include "daemon/fill.h"
#include "daemon/ops.h"
#include "daemon/work.h"
#include "store/files.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct mx_host_job {
    struct mx_job job;   /* first */
    struct mx_host *host;
    struct mx_req *req;  /* who waits for it, or NULL */
    enum mx_entry_kind kind;
    bool snapshot;
    uint8_t *bytes, *mix, *state;
    uint8_t number[8];   /* the record of a report, or of which snapshot is the last */
    size_t n;
    uint64_t index;
    uint32_t quarantined, bad_domain;
    const char *bad_part;
    double bad_value;
};

uint64_t mx_now_ms(void)
{
    return uv_hrtime() / 1000000u;
}

/* A request that stopped on its way for a snapshot. */
static bool asks_again(const struct mx_effects *fx)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        if (fx->fx[i].kind == MX_FX_AGAIN) {
            return true;
        }
    }
    return false;
}

void mx_host_event(struct mx_host *h, struct mx_event *ev)
{
    struct mx_effects fx;

    fx.n = 0;
    ev->now_ms = mx_now_ms();
    ev->wall_ms = mx_wall_ms();
    do {
        mx_run_event(h->core, ev, &fx);
        mx_host_effects(h, &fx);
    } while (asks_again(&fx));
}

/* ---- held requests ---- */

void mx_host_hold(struct mx_host *h, struct mx_req *req)
{
    if (h->d->journal_error[0] != '\0') { /* what it would wait for can't come */
        mx_serve_refuse(h->d, h, req, MX_STATUS_BUSY, 1000, "the journal can't be written: %s",
                        h->d->journal_error);
        return;
    }
    if (h->n_held >= h->d->config.requests / 4) {
        /* Feedback must find room, or what is waited for could never come. */
        mx_serve_refuse(h->d, h, req, MX_STATUS_WAIT, 20, "the step isn't ready yet");
        return;
    }
    req->next = NULL;
    *h->held_tail = req;
    h->held_tail = &req->next;
    h->n_held++;
}

void mx_host_again(struct mx_host *h)
{
    struct mx_req *req = h->held;

    h->held = NULL;
    h->held_tail = &h->held;
    h->n_held = 0;
    while (req != NULL) {
        struct mx_req *next = req->next;
        mx_serve_again(h->d, req);
        req = next;
    }
}

void mx_host_sweep(struct mx_host *h, uint64_t now_ns)
{
    struct mx_req *req = h->held;
    uint64_t limit = h->d->config.hold_ms * 1000000u;

    h->held = NULL;
    h->held_tail = &h->held;
    h->n_held = 0;
    while (req != NULL) {
        struct mx_req *next = req->next;
        if (now_ns - req->since_ns > limit) {
            mx_serve_refuse(h->d, h, req, MX_STATUS_WAIT, 50, "the step isn't ready yet");
        } else {
            req->next = NULL;
            *h->held_tail = req;
            h->held_tail = &req->next;
            h->n_held++;
        }
        req = next;
    }
}

/* ---- appending ---- */

static void free_job(struct mx_host_job *j)
{
    free(j->bytes);
    free(j->mix);
    free(j->state);
    free(j);
}

void mx_journal_failed(struct mx_daemon *d, const struct mx_err *err)
{
    if (d->journal_error[0] == '\0') {
        (void)snprintf(d->journal_error, sizeof d->journal_error, "%.250s", err->text);
        mx_ops_withdrawn(d);
    }
}

/* A journal that can't be written ends in refusals, not in silence. */
static void job_failed(struct mx_host_job *j, const struct mx_err *err)
{
    struct mx_host *h = j->host;

    if ((j->kind == MX_ENTRY_CREATE || j->kind == MX_ENTRY_FORK) && !j->snapshot) {
        (void)snprintf(h->failed, sizeof h->failed, "it could not be recorded: %.900s", err->text);
    }
    mx_journal_failed(h->d, err);
    if (j->req != NULL) {
        mx_op_adopt_refused(h->d, j->req);
        mx_serve_refuse(h->d, h, j->req, MX_STATUS_BUSY, 1000, "the journal can't be written: %s",
                        err->text);
    }
}

/* What was left out of a report. */
static void tell_quarantined(const struct mx_host_job *j, char *text, size_t n)
{
    const struct mx_runconf *c = &j->host->conf;
    uint32_t at = j->bad_domain, set = 0;

    if (strcmp(j->bad_part, "eval") == 0) {
        for (; at >= c->eval_sizes[set]; set++) { /* counted over all sets */
            at -= c->eval_sizes[set];
        }
        (void)snprintf(text, n, "%" PRIu32 " values left out, of eval: member %s of eval set %s has "
                       "%g, not finite or out of range", j->quarantined,
                       c->eval_sets[set].members[at], c->eval_sets[set].name, j->bad_value);
    } else if (strcmp(j->bad_part, "grad") == 0) {
        (void)snprintf(text, n, "%" PRIu32 " values left out, of grad: the matrix or its learning "
                       "rate is not finite or out of range (domain %s has %g), so none of it is "
                       "used", j->quarantined, c->domains[at].name, j->bad_value);
    } else {
        (void)snprintf(text, n, "%" PRIu32 " values left out, of %s: domain %s has %g, not finite "
                       "or out of range%s", j->quarantined, j->bad_part, c->domains[at].name,
                       j->bad_value,
                       strcmp(j->bad_part, "scores") == 0 ? ", so none of them is kept" : "");
    }
}

/* A report that is durable. One that crossed with another of its rank is a repeat all the same. */
static void answer_feedback(struct mx_host_job *j, bool counted)
{
    struct mx_host *h = j->host;
    char text[512] = "";

    if (!counted) {
        mx_again_check(h, j->req, false);
        return;
    }
    if (j->quarantined > 0) {
        tell_quarantined(j, text, sizeof text);
    }
    mx_serve_feedback_done(h, j->req, j->index, MX_FEEDBACK_ACCEPTED, j->quarantined, text);
}

static void apply_job(struct mx_host_job *j)
{
    struct mx_host *h = j->host;
    struct mx_entry_box box;
    struct mx_effects fx;
    struct mx_err err;

    fx.n = 0;
    /* These bytes are ours: that they don't decode or follow is a bug, and serving must stop. */
    MX_REQUIRE(mx_entry_decode((struct mx_span){j->bytes, j->n}, h->conf.k, &box, &err) == 0);
    box.entry.index = j->index;
    MX_REQUIRE(mx_run_apply(h->core, &box.entry, mx_now_ms(), &fx) == MX_APPLIED);
    mx_host_refresh(h);
    if (j->kind == MX_ENTRY_REWIND) {
        h->frozen = false;
    }
    if (j->req != NULL && j->kind == MX_ENTRY_FEEDBACK) {
        answer_feedback(j, fx.counted);
    } else if (j->req != NULL) {
        mx_ops_entry_done(h, j->req, &box.entry);
    }
    mx_host_effects(h, &fx);
    mx_sync_applied(h, &box.entry);
    mx_entry_box_clear(&box);
}

static void job_done(struct mx_job *job, int rc, const struct mx_err *err)
{
    struct mx_host_job *j = (struct mx_host_job *)job;
    struct mx_host *h = j->host;

    h->jobs--;
    if (rc < 0 && j->snapshot && mx_op_refused(rc)) {
        mx_log(MX_LOG_WARN, "run.snapshot", "run=%s error=\"%s\"", h->conf.name, err->text);
    } else if (rc < 0) {
        job_failed(j, err);
        mx_host_again(h);
    } else if (!j->snapshot) {
        apply_job(j);
        mx_host_again(h);
    }
    free_job(j);
    if (h->frozen && h->jobs == 0) {
        mx_rewind_still(h); /* the journal stands still */
    }
}

uint64_t mx_host_branch_index(const struct mx_host *h, uint64_t step)
{
    uint32_t n;
    const struct mx_turn *turns = mx_run_turns(h->core, &n);

    while (n > 0 && turns[n - 1].step > step) {
        n--;
    }
    return n > 0 ? turns[n - 1].index : 0;
}

/* What goes into the catalog with an entry, beside itself. */
static void add_indexes(struct mx_host_job *j, const struct mx_entry *e, size_t mix_n)
{
    struct mx_host *h = j->host;
    struct mx_put *put = &j->job.puts[j->job.n_puts];

    if (j->mix != NULL) {
        *put++ = (struct mx_put){.kind = MX_PUT_MIX, .run = h->id,
                                 .key = mx_mix_order(e->step, e->kind == MX_ENTRY_SET),
                                 .bytes = j->mix, .n = mix_n};
    }
    if (e->kind == MX_ENTRY_FEEDBACK) {
        mx_store_u64(j->number, e->index);
        *put++ = (struct mx_put){.kind = MX_PUT_REPORT, .run = h->id, .key = e->step,
                                 .rank = e->rank, .floor = mx_host_branch_index(h, e->step),
                                 .bytes = j->number, .n = sizeof j->number};
    }
    j->job.n_puts = (uint32_t)(put - j->job.puts);
}

/* A run's state as a snapshot, and that it is the last one. False if memory is out, or if the state
 * is larger than a snapshot may be: a commit that can't be would stop the journal of all runs. */
static bool add_state(const struct mx_host *h, struct mx_host_job *j, const struct mx_run *run)
{
    struct mx_put *put = &j->job.puts[j->job.n_puts];
    uint64_t step, *words;
    size_t n = mx_run_save(run, NULL, 0, &step), bytes_n;

    words = malloc(n * sizeof *words);
    if (words == NULL) {
        return false;
    }
    n = mx_run_save(run, words, n, &step);
    j->state = mx_words_encode(words, n, &bytes_n);
    free(words);
    if (j->state == NULL || bytes_n > MX_SNAPSHOT_MAX) {
        free(j->state);
        j->state = NULL;
        return false;
    }
    mx_store_u64(j->number, step);
    *put++ = (struct mx_put){.kind = MX_PUT_SNAPSHOT, .run = h->id, .key = step,
                             .bytes = j->state, .n = bytes_n};
    *put++ = (struct mx_put){.kind = MX_PUT_SNAPSHOT, .run = h->id, .key = MX_SNAPSHOT_LAST,
                             .bytes = j->number, .n = sizeof j->number};
    j->job.n_puts = (uint32_t)(put - j->job.puts);
    return true;
}

/* An entry from which history goes on anew has the state that it makes beside it: no step from
 * there on can be planned again from an older one. */
static void add_beginning(const struct mx_host *h, struct mx_host_job *j, const struct mx_entry *e)
{
    struct mx_run *run = mx_host_blank_core(h);
    struct mx_entry own = *e;
    struct mx_effects fx;

    own.frontier = own.step; /* the words are of a run that was never further */
    if (run != NULL) {
        MX_REQUIRE(e->kind == MX_ENTRY_FORK || mx_run_load(run, e->words, e->n_words) == 0);
        MX_REQUIRE(mx_run_apply(run, &own, 0, &fx) == MX_APPLIED);
    }
    if (run == NULL || !add_state(h, j, run)) {
        mx_log(MX_LOG_WARN, "run.snapshot", "run=%s error=\"out of memory\"", h->conf.name);
    }
    free(run);
}

int mx_host_append(struct mx_host *h, const struct mx_entry *e, struct mx_req *req,
                   const struct mx_effect *fx, const struct mx_run_record *record)
{
    struct mx_host_job *j = calloc(1, sizeof *j);
    uint32_t k = h->conf.k;
    size_t mix_n = 0;

    if (j == NULL || (j->bytes = mx_entry_encode(e, k, &j->n)) == NULL ||
        (mx_entry_makes_mix(e->kind) && (j->mix = mx_mix_encode(e, &mix_n)) == NULL)) {
        if (j != NULL) {
            free_job(j);
        }
        return MX_ENOMEM;
    }
    j->host = h;
    j->req = req;
    j->kind = e->kind;
    j->index = e->index;
    if (fx != NULL) {
        mx_policy_quarantined(h, fx);
        j->quarantined = fx->quarantined;
        j->bad_domain = fx->bad_domain;
        j->bad_part = fx->bad_part;
        j->bad_value = fx->bad_value;
    }
    if (record != NULL) {
        j->job.puts[j->job.n_puts++] = (struct mx_put){.kind = MX_PUT_RUN, .run = h->id,
                                                       .record = record};
    }
    j->job.puts[j->job.n_puts++] = (struct mx_put){.kind = MX_PUT_ENTRY, .run = h->id,
                                                   .key = e->index, .bytes = j->bytes, .n = j->n};
    add_indexes(j, e, mix_n);
    if (e->words != NULL) {
        add_beginning(h, j, e);
    }
    j->job.done = job_done;
    h->jobs++;
    mx_writer_put(h->d->writer, &j->job);
    return 0;
}

static void snapshot(struct mx_host *h)
{
    struct mx_host_job *j = calloc(1, sizeof *j);

    if (j == NULL || !add_state(h, j, h->core)) {
        free(j);
        mx_log(MX_LOG_WARN, "run.snapshot",
               "run=%s error=\"no memory for it, or it is over %u bytes\"", h->conf.name,
               MX_SNAPSHOT_MAX);
        return; /* it costs a longer replay, nothing else */
    }
    j->host = h;
    j->snapshot = true;
    j->job.done = job_done;
    h->jobs++;
    mx_writer_put(h->d->writer, &j->job);
}

/* ---- effects ---- */

static void arm_cb(uv_timer_t *t)
{
    struct mx_host *h = t->data;
    struct mx_event ev = {.kind = MX_EV_TIMER};

    mx_host_event(h, &ev);
}

static void serve(struct mx_host *h, struct mx_req *req)
{
    struct mx_batch_request m;
    struct mx_err err;

    /* It was decoded before it came to the core. */
    MX_REQUIRE(mx_batch_request_decode(req->frame + MX_HEADER_BYTES, req->n - MX_HEADER_BYTES, &m,
                                       &err) == 0);
    mx_fills_serve(h, req, &m);
}

static void one_effect(struct mx_host *h, const struct mx_effect *fx)
{
    struct mx_req *req = (struct mx_req *)(uintptr_t)fx->handle;
    uint64_t now = mx_now_ms();

    switch (fx->kind) {
    case MX_FX_SERVE: serve(h, req); break;
    case MX_FX_HOLD: mx_host_hold(h, req); break;
    case MX_FX_AGAIN: break; /* mx_host_event's */
    case MX_FX_REFUSE:
        if (req != NULL) {
            mx_op_adopt_refused(h->d, req);
            mx_serve_verdict(h, req, fx);
        } else {
            mx_sync_refused(h, fx);
        }
        break;
    case MX_FX_APPEND:
        /* Out of memory here would leave the core waiting for ever for an entry. */
        MX_REQUIRE(mx_host_append(h, &fx->entry, req, fx, NULL) == 0);
        break;
    case MX_FX_DROP: mx_fills_drop(h, fx->step); break;
    case MX_FX_SNAPSHOT: snapshot(h); break;
    case MX_FX_WORK: mx_works_start(h->d->works, h, (uint32_t)fx->u[0], fx->handle); break;
    case MX_FX_ARM:
        (void)uv_timer_start(&h->timer, arm_cb, fx->at_ms > now ? fx->at_ms - now : 0, 0);
        break;
    }
}

/* What must be done before the core is called again, since it borrows from the core or is about its
 * present state. */
static bool comes_first(const struct mx_effect *fx)
{
    return fx->kind == MX_FX_APPEND || fx->kind == MX_FX_SNAPSHOT || fx->kind == MX_FX_WORK;
}

void mx_host_effects(struct mx_host *h, const struct mx_effects *fx)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        if (comes_first(&fx->fx[i])) {
            one_effect(h, &fx->fx[i]);
        }
    }
    for (uint32_t i = 0; i < fx->n; i++) {
        if (!comes_first(&fx->fx[i])) {
            one_effect(h, &fx->fx[i]);
        }
    }
}
