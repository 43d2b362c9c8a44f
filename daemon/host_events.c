/* host_events.c - feeds events to a run's core and does what its effects say.
 *
 * The order that makes it safe: an entry is encoded when the core asks for it, committed by the
 * writer thread, and only then decoded from those same bytes and applied. Requests that the core
 * holds are given to it again after each apply. */
#include "daemon/daemon.h"
#include "daemon/entry.h"
#include "daemon/fill.h"
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
    uint8_t *bytes, *mix;
    size_t n;
    uint64_t index;
    uint32_t quarantined, bad_domain;
    double bad_value;
};

uint64_t mx_now_ms(void)
{
    return uv_hrtime() / 1000000u;
}

void mx_host_event(struct mx_host *h, struct mx_event *ev)
{
    struct mx_effects fx;

    fx.n = 0;
    ev->now_ms = mx_now_ms();
    ev->wall_ms = mx_wall_ms();
    mx_run_event(h->core, ev, &fx);
    mx_host_effects(h, &fx, NULL);
}

/* ---- held requests ---- */

static void hold(struct mx_host *h, struct mx_req *req)
{
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

static void again_held(struct mx_host *h)
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
    free(j);
}

/* A journal that can't be written ends in refusals, not in silence. */
static void job_failed(struct mx_host_job *j, const struct mx_err *err)
{
    struct mx_host *h = j->host;

    if (j->kind == MX_ENTRY_CREATE && !j->snapshot) {
        (void)snprintf(h->failed, sizeof h->failed, "it could not be recorded: %.900s", err->text);
    }
    if (j->req != NULL) {
        mx_serve_refuse(h->d, h, j->req, MX_STATUS_BUSY, 1000, "the journal can't be written: %s",
                        err->text);
    }
}

static void answer(struct mx_host_job *j, const struct mx_entry *mix)
{
    struct mx_host *h = j->host;
    char text[256] = "";

    switch (j->kind) {
    case MX_ENTRY_FEEDBACK:
        if (j->quarantined > 0) {
            (void)snprintf(text, sizeof text, "%" PRIu32 " of the losses left out: domain %s has "
                           "%g, not finite or out of range", j->quarantined,
                           h->conf.domains[j->bad_domain].name, j->bad_value);
        }
        mx_serve_feedback_done(h, j->req, j->index, MX_FEEDBACK_ACCEPTED, j->quarantined, text);
        break;
    case MX_ENTRY_SET: mx_ops_set_done(h, j->req, mix); break;
    case MX_ENTRY_MIX: mx_ops_set_done(h, j->req, mix); break;
    case MX_ENTRY_STOP: mx_ops_stop_done(h, j->req); break;
    case MX_ENTRY_CREATE: mx_ops_create_done(h, j->req); break;
    case MX_ENTRY_RESERVE:
    case MX_ENTRY_CLOSE:
    case MX_ENTRY_EXHAUSTED: MX_UNREACHABLE("an entry that nobody waits for has someone waiting");
    }
}

/* Whether among the effects is a mix being appended. */
static bool makes_mix(const struct mx_effects *fx)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        if (fx->fx[i].kind == MX_FX_APPEND && fx->fx[i].entry.kind == MX_ENTRY_MIX) {
            return true;
        }
    }
    return false;
}

static void apply_job(struct mx_host_job *j)
{
    struct mx_host *h = j->host;
    struct mx_entry_box box;
    struct mx_effects fx;
    struct mx_err err;
    struct mx_req *set_req = NULL;

    fx.n = 0;
    /* These bytes are ours: that they don't decode or follow is a bug, and serving must stop. */
    MX_REQUIRE(mx_entry_decode((struct mx_span){j->bytes, j->n}, h->conf.k, &box, &err) == 0);
    box.entry.index = j->index;
    MX_REQUIRE(mx_run_apply(h->core, &box.entry, mx_now_ms(), &fx) == 0);
    if (j->req != NULL) {
        if (j->kind == MX_ENTRY_SET && makes_mix(&fx)) {
            set_req = j->req; /* answered when the mix that it makes is durable too */
        } else {
            answer(j, j->kind == MX_ENTRY_MIX ? &box.entry : NULL);
        }
    }
    mx_host_effects(h, &fx, set_req);
    mx_entry_box_clear(&box);
}

static void job_done(struct mx_job *job, int rc, const struct mx_err *err)
{
    struct mx_host_job *j = (struct mx_host_job *)job;
    struct mx_host *h = j->host;

    h->jobs--;
    if (rc < 0) {
        job_failed(j, err);
    } else if (!j->snapshot) {
        apply_job(j);
        again_held(h);
    }
    free_job(j);
}

int mx_host_append(struct mx_host *h, const struct mx_entry *e, struct mx_req *req,
                   const struct mx_effect *fx, const struct mx_run_record *record)
{
    struct mx_host_job *j = calloc(1, sizeof *j);
    uint32_t k = h->conf.k;
    uint32_t n = 0;
    size_t mix_n = 0;
    bool mix = e->kind == MX_ENTRY_MIX || e->kind == MX_ENTRY_CREATE;

    if (j == NULL || (j->bytes = mx_entry_encode(e, k, &j->n)) == NULL ||
        (mix && (j->mix = mx_mix_encode(e->mix_version, e->shares, k, &mix_n)) == NULL)) {
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
        j->quarantined = fx->quarantined;
        j->bad_domain = fx->bad_domain;
        j->bad_value = fx->bad_value;
    }
    if (record != NULL) {
        j->job.puts[n++] = (struct mx_put){.kind = MX_PUT_RUN, .run = h->id, .record = record};
    }
    j->job.puts[n++] = (struct mx_put){.kind = MX_PUT_ENTRY, .run = h->id, .key = e->index,
                                       .bytes = j->bytes, .n = j->n};
    if (mix) {
        j->job.puts[n++] = (struct mx_put){.kind = MX_PUT_MIX, .run = h->id, .key = 2 * e->step,
                                           .bytes = j->mix, .n = mix_n};
    }
    j->job.n_puts = n;
    j->job.done = job_done;
    h->jobs++;
    mx_writer_put(h->d->writer, &j->job);
    return 0;
}

static void snapshot(struct mx_host *h)
{
    uint64_t step;
    size_t n = mx_run_save(h->core, NULL, 0, &step);
    uint64_t *words = malloc(n * sizeof *words);
    struct mx_host_job *j = calloc(1, sizeof *j);
    size_t bytes_n;

    if (words != NULL && j != NULL) {
        n = mx_run_save(h->core, words, n, &step);
        j->bytes = mx_words_encode(words, n, &bytes_n);
    }
    free(words);
    if (j == NULL || j->bytes == NULL) {
        free(j);
        mx_log(MX_LOG_WARN, "run.snapshot", "run=%s error=\"out of memory\"", h->conf.name);
        return; /* it costs a longer replay, nothing else */
    }
    j->host = h;
    j->snapshot = true;
    j->job.puts[0] = (struct mx_put){.kind = MX_PUT_SNAPSHOT, .run = h->id, .key = step,
                                     .bytes = j->bytes, .n = bytes_n};
    j->job.n_puts = 1;
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

static void one_effect(struct mx_host *h, const struct mx_effect *fx, struct mx_req **set_req)
{
    struct mx_req *req = (struct mx_req *)(uintptr_t)fx->handle;
    uint64_t now = mx_now_ms();

    switch (fx->kind) {
    case MX_FX_SERVE: serve(h, req); break;
    case MX_FX_HOLD: hold(h, req); break;
    case MX_FX_REFUSE: mx_serve_verdict(h, req, fx); break;
    case MX_FX_APPEND:
        if (fx->entry.kind == MX_ENTRY_MIX && req == NULL) {
            req = *set_req;
            *set_req = NULL;
        }
        /* Out of memory here would leave the core waiting for ever for an entry. */
        MX_REQUIRE(mx_host_append(h, &fx->entry, req, fx, NULL) == 0);
        break;
    case MX_FX_DROP: mx_fills_drop(h, fx->step); break;
    case MX_FX_SNAPSHOT: snapshot(h); break;
    case MX_FX_ARM:
        (void)uv_timer_start(&h->timer, arm_cb, fx->at_ms > now ? fx->at_ms - now : 0, 0);
        break;
    }
}

void mx_host_effects(struct mx_host *h, const struct mx_effects *fx, struct mx_req *set_req)
{
    /* Entries borrow from the run until its next call, so appends come before anything that could
     * make one (serving asks the core for steps). */
    for (uint32_t i = 0; i < fx->n; i++) {
        if (fx->fx[i].kind == MX_FX_APPEND || fx->fx[i].kind == MX_FX_SNAPSHOT) {
            one_effect(h, &fx->fx[i], &set_req);
        }
    }
    for (uint32_t i = 0; i < fx->n; i++) {
        if (fx->fx[i].kind != MX_FX_APPEND && fx->fx[i].kind != MX_FX_SNAPSHOT) {
            one_effect(h, &fx->fx[i], &set_req);
        }
    }
    MX_REQUIRE(set_req == NULL);
}
