/* serve.c - requests from the wire: decode, find the run, ask the core, reply.
 *
 * Every request ends here in data, in a status with a text, or (held) in another try. Nothing in
 * it blocks: what needs disk goes to fillers or the writer. */
#include "daemon/daemon.h"
#include "daemon/fill.h"
#include "daemon/report.h"
#include "proto/json_scan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

static uint16_t reply_type(const struct mx_req *req)
{
    struct mx_header h = {0};
    struct mx_err err;

    (void)!mx_header_decode(req->frame, req->n, &h, &err);
    return (uint16_t)(h.type | MX_REPLY_BIT);
}

static void send_frame(struct mx_daemon *d, struct mx_req *req, struct mx_reply *reply,
                       struct mx_writer *w)
{
    size_t n = mx_frame_end(w);

    MX_REQUIRE(n > 0);
    mx_reply_trim(reply, n);
    mx_net_send(d->net, req, reply);
}

/* What a peer said may be part of a text, and a text may have been cut: makes it UTF-8 again. */
static void make_utf8(char *text, size_t n)
{
    size_t at = 0;

    while (at < n) {
        size_t len = mx_json_utf8((const unsigned char *)text + at, n - at);
        if (len == 0) {
            text[at] = '?';
        }
        at += len > 0 ? len : 1;
    }
}

void mx_serve_refuse(struct mx_daemon *d, struct mx_host *h, struct mx_req *req,
                     enum mx_status status, uint32_t wait_ms, const char *fmt, ...)
{
    char text[MX_TEXT_MAX];
    struct mx_trouble t = {.wait_ms = wait_ms};
    struct mx_reply *reply = mx_reply_new(MX_HEADER_BYTES + 8 + sizeof text);
    struct mx_writer w;
    va_list ap;
    int n;

    d->statuses[status]++;
    if (h != NULL) {
        h->statuses[status]++;
    }
    if (reply == NULL) {
        mx_net_drop(d->net, req);
        return;
    }
    va_start(ap, fmt);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    t.text.p = (const uint8_t *)text;
    t.text.n = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    make_utf8(text, t.text.n);
    mx_writer_init(&w, mx_reply_data(reply), mx_reply_size(reply));
    mx_frame_begin(&w, reply_type(req), status, req->id);
    mx_trouble_encode(&w, &t);
    send_frame(d, req, reply, &w);
}

/* The step isn't there to be had: `next` is the first one after it that is. */
static void refuse_skipped(struct mx_host *h, struct mx_req *req, uint64_t next)
{
    static const char text[] = "an operator has these steps passed over";
    struct mx_reply *reply = mx_reply_new(MX_HEADER_BYTES + 16 + sizeof text);
    struct mx_trouble t = {.next = next, .has_next = true,
                           .text = {(const uint8_t *)text, sizeof text - 1}};
    struct mx_writer w;

    h->d->statuses[MX_STATUS_SKIPPED]++;
    h->statuses[MX_STATUS_SKIPPED]++;
    if (reply == NULL) {
        mx_net_drop(h->d->net, req);
        return;
    }
    mx_writer_init(&w, mx_reply_data(reply), mx_reply_size(reply));
    mx_frame_begin(&w, reply_type(req), MX_STATUS_SKIPPED, req->id);
    mx_trouble_encode(&w, &t);
    send_frame(h->d, req, reply, &w);
}

void mx_serve_json(struct mx_daemon *d, struct mx_req *req, char *json, size_t n)
{
    struct mx_reply *reply;
    struct mx_writer w;

    if (json == NULL) {
        mx_serve_refuse(d, NULL, req, MX_STATUS_BUSY, 1000, "no memory for the answer");
        return;
    }
    if (n > MX_REPLY_MAX - MX_HEADER_BYTES) {
        free(json);
        mx_serve_refuse(d, NULL, req, MX_STATUS_BAD_REQUEST, 0, "the answer has %zu bytes, a reply "
                        "at most %u; ask for one run, or over HTTP", n, MX_REPLY_MAX);
        return;
    }
    reply = mx_reply_new(MX_HEADER_BYTES + n);
    if (reply == NULL) {
        free(json);
        mx_serve_refuse(d, NULL, req, MX_STATUS_BUSY, 1000, "no memory for the answer");
        return;
    }
    mx_writer_init(&w, mx_reply_data(reply), mx_reply_size(reply));
    mx_frame_begin(&w, reply_type(req), MX_STATUS_OK, req->id);
    mx_write_bytes(&w, json, n);
    free(json);
    d->statuses[MX_STATUS_OK]++;
    send_frame(d, req, reply, &w);
}

/* ---- verdicts of the core ---- */

/* An evaluation of a set or member that the run hasn't, or one out of order. */
static void refuse_eval(struct mx_host *h, struct mx_req *req, uint64_t set, uint64_t member)
{
    char list[400];

    if (set >= h->conf.n_eval_sets) {
        mx_serve_refuse(h->d, h, req, MX_STATUS_BAD_REQUEST, 0, "run %s: feedback for eval set %"
                        PRIu64 "; there are %" PRIu32 ": %s", h->conf.name, set,
                        h->conf.n_eval_sets, mx_names_sets(h->conf.names, list, sizeof list));
    } else {
        mx_serve_refuse(h->d, h, req, MX_STATUS_BAD_REQUEST, 0, "run %s: feedback for member %"
                        PRIu64 " of eval set %s; it has %" PRIu32 ", and they must rise",
                        h->conf.name, member, h->conf.eval_sets[set].name,
                        h->conf.eval_sets[set].m);
    }
}

void mx_serve_verdict(struct mx_host *h, struct mx_req *req, const struct mx_effect *fx)
{
    struct mx_daemon *d = h->d;
    const char *run = h->conf.name;
    uint64_t a = fx->u[0], b = fx->u[1];

#define REFUSE(status, ms, ...) mx_serve_refuse(d, h, req, MX_STATUS_##status, ms, __VA_ARGS__)
    switch (fx->verdict) {
    case MX_WAIT_AHEAD:
        REFUSE(WAIT, 50, "run %s: step %" PRIu64 " is more than %" PRIu64 " past step %" PRIu64
               ", the oldest in use", run, fx->step, h->conf.max_ahead, a);
        return;
    case MX_ENDED: REFUSE(END, 0, "run %s ends before step %" PRIu64, run, a); return;
    case MX_STOPPED: REFUSE(END, 0, "run %s was stopped at step %" PRIu64, run, a); return;
    case MX_OUT_OF_SAMPLES:
        REFUSE(EXHAUSTED, 0, "run %s: domain %s has no samples left for step %" PRIu64, run,
               a < h->conf.k ? h->conf.domains[a].name : "?", b);
        return;
    case MX_BAD_RANK:
        REFUSE(BAD_REQUEST, 0, "run %s: rank must be below world, and world in 1..%u", run,
               MX_WORLD_MAX);
        return;
    case MX_BAD_SLOTS:
        REFUSE(BAD_REQUEST, 0, "run %s: the slots asked for are none, or beyond the batch of %"
               PRIu64, run, a);
        return;
    case MX_BAD_STEP:
        REFUSE(BAD_REQUEST, 0, "run %s: step %" PRIu64 " is over the limit, or before the oldest "
               "step in use", run, fx->step);
        return;
    case MX_LEAP:
        REFUSE(BAD_REQUEST, 0, "run %s: step %" PRIu64 " is more than max_ahead (%" PRIu64
               ") past the frontier, step %" PRIu64, run, fx->step, h->conf.max_ahead, a);
        return;
    case MX_NOT_SERVED:
        REFUSE(BAD_REQUEST, 0, "run %s: feedback for step %" PRIu64 ", which was never served; the "
               "frontier is step %" PRIu64, run, fx->step, a);
        return;
    case MX_BAD_WORLD:
        REFUSE(BAD_REQUEST, 0, "run %s: feedback for step %" PRIu64 " says another world than %"
               PRIu64 ", which another rank said", run, fx->step, a);
        return;
    case MX_BAD_DOMAIN:
        REFUSE(BAD_REQUEST, 0, "run %s: feedback for domain %" PRIu64 "; there are %" PRIu32, run,
               a, h->conf.k);
        return;
    case MX_BAD_EVAL: refuse_eval(h, req, a, b); return;
    case MX_BAD_REWARD:
        REFUSE(BAD_REQUEST, 0, "run %s: feedback with a reward of domain %" PRIu64 "; there are %"
               PRIu32 ", and they must rise", run, a, h->conf.k);
        return;
    case MX_BAD_SCORE:
        REFUSE(BAD_REQUEST, 0, "run %s: feedback with a score of domain %" PRIu64 "; there are %"
               PRIu32, run, a, h->conf.k);
        return;
    case MX_BAD_GRAM:
        REFUSE(BAD_REQUEST, 0, "run %s: feedback with gradients of %" PRIu64 " domains: at most %u, "
               "rising, of the run's %" PRIu32, run, a, MX_GRAM_MAX, h->conf.k);
        return;
    case MX_BAD_VERSION:
        REFUSE(BAD_REQUEST, 0, "run %s: feedback for step %" PRIu64 " names mix version %" PRIu64
               ", under which it wasn't planned", run, fx->step, a);
        return;
    case MX_BAD_WEIGHTS:
        REFUSE(BAD_REQUEST, 0, "run %s: the weights don't make a mix: %s%s", run,
               a < h->conf.k ? "that of a domain is negative, no number or not allowed: " :
               "all are 0", a < h->conf.k ? h->conf.domains[a].name : "");
        return;
    case MX_TOO_MANY_OPEN:
        REFUSE(BUSY, 1000, "run %s: too many steps wait for feedback of other ranks", run);
        return;
    case MX_DUPLICATE: mx_again_check(h, req, false); return;
    case MX_LATE: mx_again_check(h, req, true); return;
    case MX_SKIPPED:
        if (reply_type(req) == (MX_MSG_FEEDBACK | MX_REPLY_BIT)) {
            mx_serve_feedback_done(h, req, 0, MX_FEEDBACK_LATE, 0,
                                   "the step is passed over; nothing changed");
        } else {
            refuse_skipped(h, req, a);
        }
        return;
    case MX_BEFORE_FORK:
        REFUSE(GONE, 0, "run %s begins with step %" PRIu64 ": what was before is the other run's, "
               "from which it was forked", run, a);
        return;
    case MX_BAD_AT:
        REFUSE(BAD_REQUEST, 0, "run %s: a change can have effect from step %" PRIu64 " to %" PRIu64,
               run, a, b);
        return;
    case MX_TOO_MANY_MIXES:
        REFUSE(BUSY, 1000, "run %s: %" PRIu64 " mixes wait for their steps already, the most there "
               "can be", run, a);
        return;
    case MX_BAD_RANGE:
        REFUSE(BAD_REQUEST, 0, "run %s: there are steps %" PRIu64 " to %" PRIu64 " to choose from",
               run, b, a);
        return;
    case MX_TOO_MANY_SKIPS:
        REFUSE(BAD_REQUEST, 0, "run %s: %" PRIu64 " ranges of steps are passed over already, the "
               "most there can be", run, a);
        return;
    case MX_CHANGING:
        REFUSE(BUSY, 100, "run %s: another change of the run is being recorded", run);
        return;
    case MX_NOT_GROWN:
        REFUSE(BAD_REQUEST, 0, "run %s: the domain has %" PRIu64 " samples already", run, a);
        return;
    case MX_NO_JOINS:
        REFUSE(BAD_REQUEST, 0, "run %s: its phases have samples of up to %" PRIu64 " times the "
               "shortest seq_len, so a domain takes new shards only where its next epoch begins, "
               "not at once", run, a);
        return;
    case MX_TOO_MANY_CHANGES:
        REFUSE(BAD_REQUEST, 0, "run %s: there have been %" PRIu64 " such changes, the most that a "
               "run can keep", run, a);
        return;
    case MX_JOINED_TOO_OFTEN:
        REFUSE(BAD_REQUEST, 0, "run %s: the domain has grown %" PRIu64 " times in this epoch; it "
               "can again at once in the next", run, a);
        return;
    case MX_TOO_MUCH_GONE:
        REFUSE(BAD_REQUEST, 0, "run %s: over half of the domain's %" PRIu64 " samples would be "
               "withdrawn; ingest what is left as a new domain", run, a);
        return;
    case MX_OK: break;
    }
#undef REFUSE
    MX_UNREACHABLE("the core refused without a verdict");
}

/* ---- messages ---- */

/* True if the body decoded; else the reply has been sent. */
static bool decoded(struct mx_daemon *d, struct mx_req *req, int rc, const struct mx_err *err)
{
    if (rc < 0) {
        d->malformed++;
        mx_serve_refuse(d, NULL, req, MX_STATUS_BAD_REQUEST, 0, "%s", err->text);
    }
    return rc == 0;
}

static void hello(struct mx_daemon *d, struct mx_req *req, const struct mx_hello_request *m)
{
    static const char server[] = "mixd " MIXD_VERSION;
    struct mx_hello_reply r = {
        .version = MX_PROTOCOL_VERSION, .reply_max = MX_REPLY_MAX,
        .store = mx_catalog_store_id(d->catalog),
        .server = {(const uint8_t *)server, sizeof server - 1},
    };
    struct mx_reply *reply;
    struct mx_writer w;

    if (m->version_min > MX_PROTOCOL_VERSION || m->version_max < MX_PROTOCOL_VERSION) {
        mx_serve_refuse(d, NULL, req, MX_STATUS_BAD_REQUEST, 0, "HELLO: this daemon speaks protocol "
                        "version %u, the client %u to %u", MX_PROTOCOL_VERSION, m->version_min,
                        m->version_max);
        return;
    }
    reply = mx_reply_new(256);
    if (reply == NULL) {
        mx_net_drop(d->net, req);
        return;
    }
    mx_writer_init(&w, mx_reply_data(reply), mx_reply_size(reply));
    mx_frame_begin(&w, MX_MSG_HELLO | MX_REPLY_BIT, MX_STATUS_OK, req->id);
    mx_hello_reply_encode(&w, &r);
    d->statuses[MX_STATUS_OK]++;
    send_frame(d, req, reply, &w);
}

static struct mx_host *host_of(struct mx_daemon *d, struct mx_req *req, struct mx_host *h,
                               const char *what, size_t n)
{
    if (h == NULL) {
        mx_serve_refuse(d, NULL, req, MX_STATUS_GONE, 0, "there is no run %.*s", (int)n, what);
    } else if (h->failed[0] != '\0') {
        mx_serve_refuse(d, h, req, MX_STATUS_DAMAGED, 0, "run %s: %s", h->conf.name, h->failed);
        return NULL;
    }
    return h;
}

/* Domains, then each eval set and its members; none for a set that nobody has named. */
static uint32_t count_names(const struct mx_runconf *c)
{
    uint32_t n = c->k;

    for (uint32_t i = 0; i < c->n_eval_sets && !c->evals_implied; i++) {
        n += 1 + c->eval_sets[i].m;
    }
    return n;
}

static const char *name_at(const struct mx_runconf *c, uint32_t at)
{
    uint32_t set = 0;

    if (at < c->k) {
        return c->domains[at].name;
    }
    for (at -= c->k; at > c->eval_sets[set].m; set++) {
        at -= 1 + c->eval_sets[set].m;
    }
    return at == 0 ? c->eval_sets[set].name : c->eval_sets[set].members[at - 1];
}

static void write_parts(const struct mx_host *h, struct mx_writer *w)
{
    for (uint32_t i = 0; i < h->conf.n_parts; i++) {
        const struct mx_plan_part *p = &h->conf.parts[i];

        mx_part_encode(w, &(struct mx_part_entry){
            .from_step = p->from_step, .batch_size = p->batch,
            .seq_len = mx_host_seq_len(h, p->from_step),
            .slots_per_reply = mx_host_slots_per_reply(h, p->from_step)});
    }
}

/* The sizes of the eval sets, and as many names from `first` on as fit. */
static void write_names(const struct mx_host *h, uint32_t first, struct mx_writer *w)
{
    uint32_t n = count_names(&h->conf);

    for (uint32_t i = 0; i < h->conf.n_eval_sets && !h->conf.evals_implied; i++) {
        mx_write_u32(w, h->conf.eval_sets[i].m);
    }
    for (uint32_t i = first; i < n; i++) {
        const char *name = name_at(&h->conf, i);
        size_t len = strlen(name);

        if (mx_writer_len(w) + 2 + len > MX_REPLY_MAX) {
            return;
        }
        mx_write_str(w, name, len);
    }
}

static uint32_t state_number(struct mx_host *h)
{
    const char *s = mx_host_state(h);

    return strcmp(s, "active") == 0 ? 1 : strcmp(s, "stopped") == 0 ? 2
         : strcmp(s, "exhausted") == 0 ? 3 : 4;
}

static void attach(struct mx_daemon *d, struct mx_req *req, const struct mx_attach_request *m)
{
    char name[MX_NAME_MAX + 1];
    struct mx_host *h;
    struct mx_run_view v;
    struct mx_reply *reply;
    struct mx_writer w;

    (void)snprintf(name, sizeof name, "%.*s", (int)m->run.n, (const char *)m->run.p);
    h = host_of(d, req, mx_host_find(d, name), name, strlen(name));
    if (h == NULL) {
        return;
    }
    if (m->world == 0 || m->world > MX_WORLD_MAX || m->rank >= m->world ||
        m->name_first > count_names(&h->conf)) {
        mx_serve_refuse(d, h, req, MX_STATUS_BAD_REQUEST, 0, "run %s: rank %" PRIu32 " of world %"
                        PRIu32 " from name %" PRIu32 " on makes no sense", h->conf.name, m->rank,
                        m->world, m->name_first);
        return;
    }
    mx_run_view(h->core, &v);
    if (v.applied == 0) { /* after a crash its number could be another run's */
        mx_serve_refuse(d, h, req, MX_STATUS_WAIT, 20, "run %s is being created", h->conf.name);
        return;
    }
    reply = mx_reply_new(MX_REPLY_MAX);
    if (reply == NULL) {
        mx_net_drop(d->net, req);
        return;
    }
    mx_writer_init(&w, mx_reply_data(reply), mx_reply_size(reply));
    mx_frame_begin(&w, MX_MSG_ATTACH | MX_REPLY_BIT, MX_STATUS_OK, req->id);
    mx_attach_reply_encode(&w, &(struct mx_attach_reply){
        .run = h->id, .state = state_number(h), .frontier = v.frontier, .end_step = v.end_step,
        .mix_version = v.mix_version, .batch_size = mx_plan_part_of(&h->plan, v.frontier).batch,
        .seq_len = mx_host_seq_len(h, v.frontier), .width = h->width, .eod = h->eod,
        .slots_per_reply = mx_host_slots_per_reply(h, v.frontier),
        .max_ahead = (uint32_t)h->conf.max_ahead, .domain_count = h->conf.k,
        .name_count = count_names(&h->conf),
        .eval_set_count = h->conf.evals_implied ? 0 : h->conf.n_eval_sets,
        .name_first = m->name_first, .part_count = h->conf.n_parts,
        .tables = {(const uint8_t *)"", 0}});
    write_parts(h, &w);
    write_names(h, m->name_first, &w);
    (void)mx_trainer_seen(h, m->rank, m->world);
    h->statuses[MX_STATUS_OK]++;
    d->statuses[MX_STATUS_OK]++;
    send_frame(d, req, reply, &w);
}

struct mx_trainer *mx_trainer_seen(struct mx_host *h, uint32_t rank, uint32_t world)
{
    struct mx_trainer *free_one = NULL;
    uint64_t now = mx_now_ms();

    for (uint32_t i = 0; i < h->n_trainers; i++) {
        struct mx_trainer *t = &h->trainers[i];
        if (t->rank == rank && t->world == world) {
            t->seen_ms = now;
            return t;
        }
        if (free_one == NULL || t->seen_ms < free_one->seen_ms) {
            free_one = t; /* the one unseen for longest gives way when the table is full */
        }
    }
    if (h->n_trainers < MX_TRAINERS_MAX) {
        free_one = &h->trainers[h->n_trainers++];
    }
    *free_one = (struct mx_trainer){.rank = rank, .world = world, .seen_ms = now};
    return free_one;
}

static void batch(struct mx_daemon *d, struct mx_req *req, const struct mx_batch_request *m)
{
    struct mx_host *h = mx_host_by_id(d, m->run);
    struct mx_event ev = {
        .kind = MX_EV_REQUEST, .handle = (uint64_t)(uintptr_t)req, .step = m->step,
        .oldest = m->oldest, .rank = m->rank, .world = m->world, .first = m->slot_first,
        .count = m->slot_count,
    };
    struct mx_trainer *t;
    uint32_t seq_len;
    char number[16];

    (void)snprintf(number, sizeof number, "%" PRIu32, m->run);
    if (host_of(d, req, h, number, strlen(number)) == NULL) {
        return;
    }
    if (h->behind) { /* documents were withdrawn: no step is planned before it knows of them */
        mx_host_hold(h, req);
        return;
    }
    seq_len = mx_host_seq_len(h, m->step);
    if (m->token_first >= seq_len || (m->token_first > 0 && m->slot_count != 1)) {
        mx_serve_refuse(d, h, req, MX_STATUS_BAD_REQUEST, 0, "run %s: token %" PRIu32 " on of %"
                        PRIu32 " slots: a part is of one slot, and within seq_len %" PRIu32,
                        h->conf.name, m->token_first, m->slot_count, seq_len);
        return;
    }
    if (m->world > 0 && m->world <= MX_WORLD_MAX && m->rank < m->world) {
        t = mx_trainer_seen(h, m->rank, m->world);
        t->step = m->step;
        t->batches++;
    }
    mx_host_event(h, &ev);
}

void mx_serve_again(struct mx_daemon *d, struct mx_req *req)
{
    struct mx_batch_request m;
    struct mx_err err;

    MX_REQUIRE(mx_batch_request_decode(req->frame + MX_HEADER_BYTES, req->n - MX_HEADER_BYTES, &m,
                                       &err) == 0);
    if (d->draining) {
        mx_serve_refuse(d, NULL, req, MX_STATUS_BUSY, 1000, "the daemon is stopping");
        return;
    }
    batch(d, req, &m);
}

static void feedback(struct mx_daemon *d, struct mx_req *req, const struct mx_feedback_request *m)
{
    struct mx_host *h = mx_host_by_id(d, m->run);
    struct mx_report report;
    struct mx_event ev = {.kind = MX_EV_FEEDBACK, .handle = (uint64_t)(uintptr_t)req,
                          .step = m->step, .rank = m->rank, .world = m->world,
                          .entry = &report.entry};
    struct mx_err err;
    struct mx_trainer *t;
    char number[16];
    int rc;

    (void)snprintf(number, sizeof number, "%" PRIu32, m->run);
    if (host_of(d, req, h, number, strlen(number)) == NULL) {
        return;
    }
    rc = mx_report_decode(m, &report, &err);
    if (rc == MX_ENOMEM) {
        mx_serve_refuse(d, h, req, MX_STATUS_BUSY, 1000, "no memory for a feedback");
        return;
    }
    if (!decoded(d, req, rc, &err)) {
        return;
    }
    if (m->world > 0 && m->world <= MX_WORLD_MAX && m->rank < m->world) {
        t = mx_trainer_seen(h, m->rank, m->world);
        t->feedback_step = m->step;
        t->reports++;
    }
    mx_host_event(h, &ev);
    mx_report_clear(&report);
}

void mx_serve_feedback_done(struct mx_host *h, struct mx_req *req, uint64_t entry,
                            enum mx_feedback_outcome outcome, uint32_t quarantined,
                            const char *text)
{
    struct mx_feedback_reply r = {.entry = entry, .outcome = outcome, .quarantined = quarantined,
                                  .text = {(const uint8_t *)text, strlen(text)}};
    struct mx_reply *reply = mx_reply_new(MX_HEADER_BYTES + 64 + MX_TEXT_MAX);
    struct mx_writer w;

    if (reply == NULL) {
        mx_net_drop(h->d->net, req);
        return;
    }
    mx_writer_init(&w, mx_reply_data(reply), mx_reply_size(reply));
    mx_frame_begin(&w, MX_MSG_FEEDBACK | MX_REPLY_BIT, MX_STATUS_OK, req->id);
    mx_feedback_reply_encode(&w, &r);
    h->statuses[MX_STATUS_OK]++;
    h->d->statuses[MX_STATUS_OK]++;
    send_frame(h->d, req, reply, &w);
}

static void stats(struct mx_daemon *d, struct mx_req *req, const struct mx_stats_request *m)
{
    char name[MX_NAME_MAX + 1];
    struct mx_host *h;
    size_t n = 0;
    char *json;

    (void)snprintf(name, sizeof name, "%.*s", (int)m->run.n, (const char *)m->run.p);
    if (name[0] == '\0') {
        json = mx_stats_daemon(d, &n);
    } else {
        h = host_of(d, req, mx_host_find(d, name), name, strlen(name));
        if (h == NULL) {
            return;
        }
        json = mx_stats_run(h, &n);
    }
    mx_serve_json(d, req, json, n);
}

#define DECODE(name, NAME)                                                                        \
    case MX_MSG_##NAME: {                                                                         \
        struct mx_##name##_request m;                                                             \
        if (decoded(d, req, mx_##name##_request_decode(body, n, &m, &err), &err)) {               \
            HANDLE_##NAME(d, req, &m);                                                            \
        }                                                                                         \
        return;                                                                                   \
    }
#define HANDLE_HELLO hello
#define HANDLE_ATTACH attach
#define HANDLE_BATCH batch
#define HANDLE_FEEDBACK feedback
#define HANDLE_STATS stats
#define HANDLE_CONTROL(d, req, m) mx_ops_control(d, req, (const char *)(m)->json.p, (m)->json.n)

void mx_serve_request(void *daemon, struct mx_req *req)
{
    struct mx_daemon *d = daemon;
    struct mx_header h = {0};
    struct mx_err err;
    const uint8_t *body = req->frame + MX_HEADER_BYTES;
    size_t n;
    int rc = mx_header_decode(req->frame, req->n, &h, &err);

    d->requests++;
    req->id = h.id;
    if (!decoded(d, req, rc, &err)) {
        return;
    }
    n = h.length;
    if (d->draining) {
        mx_serve_refuse(d, NULL, req, MX_STATUS_BUSY, 1000, "the daemon is stopping");
        return;
    }
    if (h.status != MX_STATUS_OK) {
        rc = mx_fail(&err, MX_EPROTOCOL, "frame: a request's status must be 0, not %" PRIu32,
                     h.status);
        (void)decoded(d, req, rc, &err);
        return;
    }
    switch (h.type) {
        DECODE(hello, HELLO)
        DECODE(attach, ATTACH)
        DECODE(batch, BATCH)
        DECODE(feedback, FEEDBACK)
        DECODE(control, CONTROL)
        DECODE(stats, STATS)
    default: break;
    }
    rc = mx_fail(&err, MX_EPROTOCOL, "frame: there is no message of type %u", h.type);
    (void)decoded(d, req, rc, &err);
}
