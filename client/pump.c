/* pump.c - puts jobs on calls and brings replies back; the library's heart. See internal.h.
 *
 * Happy path: a pending job gets a free call of its kind, its reply's header is checked, the job
 * gets the body. WAIT and BUSY put it off; a reply that doesn't come within the job's patience, or
 * a broken connection, makes it ask again (every request but an operation is idempotent). Replies
 * that came over a connection whose hello isn't answered yet are held back, so that another
 * daemon's data at the same address is never taken for this one's. Runs on the caller's thread;
 * never blocks but in mxc_block. */
#include "client/internal.h"

#include <inttypes.h>
#include <string.h>

#define MS 1000000ll
#define PATIENCE_NS (2000 * MS)
#define PATIENCE_MAX_NS (30000 * MS)
/* After this long without one reply, or without a connection, the socket is taken for dead. */
#define SILENT_NS (8000 * MS)
#define DOWN_NS (1000 * MS)
#define DOWN_MAX_NS (30000 * MS)
#define LOST_DELAY_NS (10 * MS)
#define PUT_OFF_MAX_MS 2000u

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void mxc_job_start(struct mxc_job *job, int64_t now_ns)
{
    MX_REQUIRE(job->state == MXC_JOB_IDLE);
    job->state = MXC_JOB_PENDING;
    job->not_before_ns = now_ns;
    job->patience_ns = PATIENCE_NS;
    job->put_off = MX_STATUS_OK;
}

static void leave_call(struct mxc_client *c, struct mxc_job *job)
{
    if (job->state == MXC_JOB_ASKED) {
        if (!c->closing) { /* else the net lets the replies in before it closes */
            mxc_call_cancel(c->net, job->call);
        }
        c->calls[job->call] = NULL;
    }
}

void mxc_job_stop(struct mxc_client *c, struct mxc_job *job)
{
    leave_call(c, job);
    job->state = MXC_JOB_IDLE;
}

static void fail_job(struct mxc_job *job, const struct mxc_error *err)
{
    job->state = MXC_JOB_IDLE;
    job->ops->failed(job, err);
}

static void ask_again(struct mxc_job *job, int64_t not_before_ns)
{
    job->state = MXC_JOB_PENDING;
    job->not_before_ns = not_before_ns;
    if (job->retries != NULL) {
        ++*job->retries;
    }
}

/* ---- replies ---- */

static int code_of(uint32_t status)
{
    switch (status) {
    case MX_STATUS_END: return MXC_END;
    case MX_STATUS_EXHAUSTED: return MXC_EXHAUSTED;
    case MX_STATUS_GONE: return MXC_GONE;
    case MX_STATUS_DENIED: return MXC_DENIED;
    case MX_STATUS_BAD_REQUEST: return MXC_INVALID;
    case MX_STATUS_DAMAGED: return MXC_DAMAGED;
    case MX_STATUS_SKIPPED: return MXC_SKIPPED;
    default: return MXC_PROTOCOL;
    }
}

/* A reply whose status isn't OK. */
static void take_trouble(struct mxc_job *job, const struct mx_header *h, struct mx_span body,
                         int64_t now_ns)
{
    struct mx_trouble t;
    struct mx_err e;
    struct mxc_error err = {0};

    if (mx_trouble_decode(body.p, body.n, h->status, &t, &e) < 0) {
        (void)mxc_fail_proto(&err, &e);
        fail_job(job, &err);
    } else if (h->status == MX_STATUS_WAIT || h->status == MX_STATUS_BUSY) {
        uint32_t ms = t.wait_ms < 1 ? 1 : t.wait_ms > PUT_OFF_MAX_MS ? PUT_OFF_MAX_MS : t.wait_ms;

        job->put_off = h->status;
        job->patience_ns = PATIENCE_NS;
        mxc_copy_text(job->put_off_text, sizeof job->put_off_text, t.text);
        ask_again(job, now_ns + ms * MS);
    } else {
        err.code = code_of(h->status);
        job->skipped_to = t.next;
        mxc_copy_text(err.text, sizeof err.text, t.text);
        if (err.code == MXC_PROTOCOL) {
            (void)mxc_fail(&err, MXC_PROTOCOL, "reply: status %" PRIu32 " is unknown", h->status);
        } else if (err.text[0] == '\0') {
            (void)mxc_fail(&err, err.code, "the daemon says %s", mx_status_name(h->status));
        }
        fail_job(job, &err);
    }
}

static void take_reply(struct mxc_job *job, struct mxc_msg *msg, int64_t now_ns)
{
    struct mx_header h = {0};
    struct mx_err e;
    struct mxc_error err = {0};
    size_t n;
    const uint8_t *frame = mxc_msg_frame(msg, &n);
    struct mx_span body;

    if (mx_header_decode(frame, n, &h, &e) < 0) {
        (void)mxc_fail_proto(&err, &e);
        fail_job(job, &err);
        mxc_msg_free(msg);
        return;
    }
    body = (struct mx_span){frame + MX_HEADER_BYTES, h.length};
    if (h.type != (job->ops->type | MX_REPLY_BIT) || h.id != job->id) {
        (void)mxc_fail(&err, MXC_PROTOCOL,
                       "reply: %s 0x%04x with id %" PRIu64 " isn't the reply to "
                       "%s request %" PRIu64,
                       mx_message_name(h.type), h.type, h.id, mx_message_name(job->ops->type),
                       job->id);
        fail_job(job, &err);
    } else if (h.status != MX_STATUS_OK) {
        take_trouble(job, &h, body, now_ns);
    } else {
        job->state = MXC_JOB_IDLE;
        job->put_off = MX_STATUS_OK;
        if (job->ops->reply(job, body, &msg, &err) < 0) {
            fail_job(job, &err);
        }
    }
    mxc_msg_free(msg);
}

/* No reply in time: sends again over another call; a socket that brings nothing is replaced. */
static void take_silence(struct mxc_client *c, struct mxc_job *job, bool queued, uint64_t replies,
                         int64_t now_ns)
{
    /* Not even sent, over a connection that seems to be there: nng hasn't told of its end. */
    if (queued || (job->patience_ns >= SILENT_NS && job->replies == replies)) {
        c->renew = true;
    }
    leave_call(c, job);
    job->patience_ns =
        job->patience_ns * 2 < PATIENCE_MAX_NS ? job->patience_ns * 2 : PATIENCE_MAX_NS;
    ask_again(job, now_ns);
}

/* A broken connection, or a reply from one that nobody vouches for. */
static void take_loss(struct mxc_job *job, int64_t now_ns)
{
    struct mxc_error err = {0};

    if (job->ops->once) {
        (void)mxc_fail(&err, MXC_UNREACHABLE,
                       "the connection broke before the daemon answered: the "
                       "operation may or may not have been done");
        fail_job(job, &err);
    } else {
        job->patience_ns = PATIENCE_NS;
        ask_again(job, now_ns + LOST_DELAY_NS);
    }
}

static void look_at_call(struct mxc_client *c, unsigned i, const struct mxc_net_state *net,
                         int64_t now_ns)
{
    struct mxc_job *job = c->calls[i];
    bool hello = job == &c->hello.job;
    uint64_t epoch;
    enum mxc_call_state state = mxc_call_look(c->net, i, &epoch);

    switch (state) {
    case MXC_CALL_QUEUED:
    case MXC_CALL_WAITING:
        if (now_ns >= job->resend_ns && !job->ops->once && net->up) {
            take_silence(c, job, state == MXC_CALL_QUEUED, net->replies, now_ns);
        }
        break;
    case MXC_CALL_LOST:
        (void)mxc_call_take(c->net, i);
        c->calls[i] = NULL;
        take_loss(job, now_ns);
        break;
    case MXC_CALL_REPLIED:
        if (!hello && epoch > c->hello.epoch) {
            break; /* until its hello is answered */
        }
        c->calls[i] = NULL;
        if (hello) {
            take_reply(job, mxc_call_take(c->net, i), now_ns);
            if (job->state == MXC_JOB_IDLE) { /* answered, and not put off */
                c->hello.epoch = epoch;
            }
        } else if (epoch < c->hello.epoch || !c->hello.ok) {
            mxc_msg_free(mxc_call_take(c->net, i));
            take_loss(job, now_ns);
        } else {
            take_reply(job, mxc_call_take(c->net, i), now_ns);
        }
        break;
    case MXC_CALL_IDLE:
    case MXC_CALL_DRAINING: MX_REQUIRE(job == NULL); break;
    }
}

/* ---- requests ---- */

static void send_job(struct mxc_client *c, struct mxc_job *job, unsigned call, uint64_t replies,
                     int64_t now_ns)
{
    struct mx_writer w;
    struct mxc_error err = {0};
    size_t n;

    job->id = ++c->last_id;
    mx_writer_init(&w, c->frame, MX_REQUEST_MAX);
    mx_frame_begin(&w, job->ops->type, MX_STATUS_OK, job->id);
    job->ops->encode(job, &w);
    n = mx_frame_end(&w);
    if (n == 0) {
        (void)mxc_fail(&err, MXC_INVALID, "%s request: larger than the %u bytes allowed",
                       mx_message_name(job->ops->type), MX_REQUEST_MAX);
        fail_job(job, &err);
        return;
    }
    if (mxc_call_send(c->net, call, c->frame, n, &err) < 0) {
        fail_job(job, &err);
        return;
    }
    job->state = MXC_JOB_ASKED;
    job->call = call;
    job->resend_ns = now_ns + job->patience_ns;
    job->replies = replies;
    c->calls[call] = job;
}

/* A walk over the free calls of one kind. */
struct free_calls {
    struct mxc_client *c;
    unsigned next, end;
    uint64_t replies;
    int64_t now_ns, due_ns; /* due: the earliest not_before seen */
};

/* Sends the job if it is due; false once no call is free. */
static bool offer(struct free_calls *f, struct mxc_job *job)
{
    uint64_t epoch;

    if (job->state != MXC_JOB_PENDING) {
        return true;
    }
    if (job->not_before_ns > f->now_ns) {
        f->due_ns = job->not_before_ns < f->due_ns ? job->not_before_ns : f->due_ns;
        return true;
    }
    for (; f->next < f->end; f->next++) {
        if (f->c->calls[f->next] != NULL) {
            continue;
        }
        if (mxc_call_look(f->c->net, f->next, &epoch) == MXC_CALL_IDLE) {
            break;
        }
        /* Given up and draining: looked at again soon, in case the cancel came too early. */
        f->due_ns = f->now_ns + LOST_DELAY_NS < f->due_ns ? f->now_ns + LOST_DELAY_NS : f->due_ns;
    }
    if (f->next == f->end) {
        return false;
    }
    send_job(f->c, job, f->next, f->replies, f->now_ns);
    return true;
}

static bool offer_fetch(struct free_calls *f, struct mxc_fetch *fetch)
{
    if (fetch == NULL || fetch->state != MXC_FETCH_OPEN) {
        return true;
    }
    for (uint32_t i = 0; i < fetch->n_ranges && fetch->state == MXC_FETCH_OPEN; i++) {
        if (!offer(f, &fetch->ranges[i].job)) {
            return false;
        }
    }
    return true;
}

/* What somebody waits for goes first, then what comes soonest. */
static int64_t offer_batches(struct mxc_client *c, uint64_t replies, int64_t now_ns)
{
    struct free_calls f = {c, MXC_CALL_BATCH, MXC_CALLS, replies, now_ns, MXC_FOREVER};
    bool room = offer_fetch(&f, c->direct);

    for (struct mxc_run *r = c->runs; r != NULL && room; r = r->next) {
        for (uint64_t i = 0; i < c->inflight && room; i++) {
            room = offer_fetch(&f, r->ahead[(r->step + i) % c->inflight]);
        }
    }
    return f.due_ns;
}

/* The oldest first. */
static int64_t offer_posts(struct mxc_client *c, uint64_t replies, int64_t now_ns)
{
    struct free_calls f = {c, MXC_CALL_POST, MXC_CALL_BATCH, replies, now_ns, MXC_FOREVER};
    uint64_t after = 0;

    for (uint32_t sent = 0; sent <= MX_CLIENT_POST_CALLS; sent++) {
        struct mxc_post *oldest = NULL;

        for (uint32_t i = 0; i < MX_CLIENT_POSTS_MAX; i++) {
            struct mxc_post *p = c->posts[i];

            if (p == NULL || p->job.state != MXC_JOB_PENDING || p->order <= after) {
                continue;
            }
            if (p->job.not_before_ns > now_ns) {
                f.due_ns = p->job.not_before_ns < f.due_ns ? p->job.not_before_ns : f.due_ns;
            } else if (oldest == NULL || p->order < oldest->order) {
                oldest = p;
            }
        }
        if (oldest == NULL) {
            break;
        }
        after = oldest->order; /* the post is freed if it can't be sent */
        if (!offer(&f, &oldest->job)) {
            break;
        }
    }
    return f.due_ns;
}

/* Gives up every call before its socket goes. An operation that hasn't been sent is sent later. */
static void lose_calls(struct mxc_client *c, int64_t now_ns)
{
    for (unsigned i = 0; i < MXC_CALLS; i++) {
        struct mxc_job *job = c->calls[i];
        uint64_t epoch;

        if (job == NULL) {
            continue;
        }
        if (mxc_call_look(c->net, i, &epoch) == MXC_CALL_QUEUED) {
            ask_again(job, now_ns);
        } else {
            take_loss(job, now_ns);
        }
        mxc_call_cancel(c->net, i);
        c->calls[i] = NULL;
    }
}

/* Replaces a socket that is silent, or isn't connected for some time. When that is due next. */
static int64_t renew(struct mxc_client *c, const struct mxc_net_state *net, int64_t now_ns)
{
    if (net->up && !c->renew) {
        c->down_since_ns = 0;
        return MXC_FOREVER;
    }
    if (c->down_since_ns == 0) {
        c->down_since_ns = now_ns;
        c->down_patience_ns = DOWN_NS;
    }
    if (!c->renew && now_ns - c->down_since_ns < c->down_patience_ns) {
        return c->down_since_ns + c->down_patience_ns;
    }
    c->renew = false;
    c->down_since_ns = now_ns;
    c->down_patience_ns = earlier(c->down_patience_ns * 2, DOWN_MAX_NS);
    lose_calls(c, now_ns);
    (void)mxc_net_renew(c->net);
    return now_ns + c->down_patience_ns;
}

int64_t mxc_pump(struct mxc_client *c, int64_t now_ns)
{
    struct mxc_net_state net;
    struct free_calls hello = {c, MXC_CALL_HELLO, MXC_CALL_HELLO + 1, 0, now_ns, MXC_FOREVER};
    struct free_calls sync = {c, MXC_CALL_SYNC, MXC_CALL_SYNC + 1, 0, now_ns, MXC_FOREVER};
    int64_t due;
    uint64_t vouched;

    mxc_net_look(c->net, &net);
    do {
        vouched = c->hello.epoch;
        /* The hello's call comes last, so that replies of the connection before it are still taken;
         * then comes another round for the replies that were held back for it. */
        for (unsigned i = MXC_CALLS; i-- > 0;) {
            if (c->calls[i] != NULL) {
                look_at_call(c, i, &net, now_ns);
            }
        }
    } while (c->hello.epoch != vouched);
    due = renew(c, &net, now_ns);
    if (c->hello.epoch < net.epoch && c->hello.job.state == MXC_JOB_IDLE) {
        mxc_job_start(&c->hello.job, now_ns);
    }
    hello.replies = sync.replies = net.replies;
    (void)offer(&hello, &c->hello.job);
    if (c->sync != NULL) {
        (void)offer(&sync, &c->sync->job);
    }
    due = earlier(due, earlier(hello.due_ns, sync.due_ns));
    if (c->n_posts > 0) {
        due = earlier(due, offer_posts(c, net.replies, now_ns));
    }
    due = earlier(due, offer_batches(c, net.replies, now_ns));
    for (unsigned i = 0; i < MXC_CALLS; i++) {
        if (c->calls[i] != NULL && !c->calls[i]->ops->once && net.up) {
            due = earlier(due, c->calls[i]->resend_ns);
        }
    }
    return due;
}

int64_t mxc_deadline(const struct mxc_client *c)
{
    return c->timeout_ms < 0 ? MXC_FOREVER : mxc_now_ns() + c->timeout_ms * MS;
}

int mxc_block(struct mxc_client *c, bool (*done)(const void *arg), const void *arg,
              int64_t deadline_ns, struct mxc_error *err)
{
    for (;;) {
        struct mxc_net_state net;
        int64_t now = mxc_now_ns();
        int64_t due;

        mxc_net_look(c->net, &net);
        due = mxc_pump(c, now);
        if (done(arg)) {
            return 0;
        }
        if (net.up && c->hello.epoch == net.epoch && !c->hello.ok) {
            mxc_copy_error(err, &c->hello.error);
            return c->hello.error.code;
        }
        if (now >= deadline_ns && !net.up) {
            return mxc_fail(err, MXC_UNREACHABLE, "no daemon answers at %s", c->url);
        }
        if (now >= deadline_ns) {
            return mxc_fail(err, MXC_TIMEOUT,
                            "the daemon at %s gave no answer within %" PRId64 " ms", c->url,
                            c->timeout_ms);
        }
        /* An hour bounds the wait so that adding to it can't overflow a time. */
        mxc_net_wait(c->net, net.events, earlier(earlier(due, deadline_ns), now + 3600000 * MS));
    }
}
