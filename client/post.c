/* post.c - feedback: posted now, delivered in the background.
 *
 * A post is a job that lives until the daemon has acknowledged it, i.e. until it is durable there,
 * or refused it. At most MX_CLIENT_POSTS_MAX wait; each holds its encoded body, so the memory is
 * bounded by that many times MX_REQUEST_MAX. A repeated post is a duplicate to the daemon and does
 * nothing. */
#include "client/internal.h"

#include <inttypes.h>
#include <string.h>

static struct mxc_post *post_of(struct mxc_job *job)
{
    return (struct mxc_post *)job; /* job is its first member */
}

static void post_free(struct mxc_post *p)
{
    struct mxc_client *c = p->client;

    for (uint32_t i = 0; i < MX_CLIENT_POSTS_MAX; i++) {
        if (c->posts[i] == p) {
            c->posts[i] = NULL;
            c->n_posts--;
        }
    }
    if (p->run != NULL) {
        p->run->undelivered--;
    }
    free(p->body);
    free(p);
}

static void post_encode(struct mxc_job *job, struct mx_writer *w)
{
    mx_write_bytes(w, post_of(job)->body, post_of(job)->n);
}

static int post_reply(struct mxc_job *job, struct mx_span body, struct mxc_msg **msg,
                      struct mxc_error *err)
{
    struct mxc_post *p = post_of(job);
    struct mx_feedback_reply m;
    struct mx_err e;

    (void)msg;
    if (mx_feedback_reply_decode(body.p, body.n, &m, &e) < 0) {
        return mxc_fail_proto(err, &e);
    }
    if (m.outcome > MX_FEEDBACK_DIVERGED) {
        return mxc_fail(err, MXC_PROTOCOL, "FEEDBACK reply: outcome %" PRIu32 " is unknown",
                        m.outcome);
    }
    if (p->run != NULL) {
        struct mxc_feedback_counts *n = &p->run->counts;

        n->accepted += m.outcome == MX_FEEDBACK_ACCEPTED;
        n->duplicate += m.outcome == MX_FEEDBACK_DUPLICATE;
        n->late += m.outcome == MX_FEEDBACK_LATE;
        n->diverged += m.outcome == MX_FEEDBACK_DIVERGED;
        n->quarantined += m.quarantined;
        if (m.text.n > 0) {
            mxc_copy_text(n->last_text, sizeof n->last_text, m.text);
        }
    }
    post_free(p);
    return 0;
}

static void post_failed(struct mxc_job *job, const struct mxc_error *err)
{
    struct mxc_post *p = post_of(job);

    if (p->run != NULL) {
        p->run->counts.refused++;
        (void)snprintf(p->run->counts.last_text, sizeof p->run->counts.last_text, "%s", err->text);
        if (p->run->refused.code == 0) {
            p->run->refused = *err;
        }
    }
    post_free(p);
}

static const struct mxc_job_ops post_ops = {
    .type = MX_MSG_FEEDBACK,
    .encode = post_encode,
    .reply = post_reply,
    .failed = post_failed,
};

void mxc_posts_detach(struct mxc_run *r)
{
    for (uint32_t i = 0; i < MX_CLIENT_POSTS_MAX; i++) {
        struct mxc_post *p = r->client->posts[i];

        if (p != NULL && p->run == r) {
            p->run = NULL;
            p->job.retries = NULL;
        }
    }
}

void mxc_posts_clear(struct mxc_client *c)
{
    for (uint32_t i = 0; i < MX_CLIENT_POSTS_MAX; i++) {
        if (c->posts[i] != NULL) {
            mxc_job_stop(c, &c->posts[i]->job);
            post_free(c->posts[i]);
        }
    }
}

/* The request's body as it is put together: owned by the post once it is whole. */
static int start_post(struct mxc_run *r, struct mx_span body, struct mxc_error *err)
{
    struct mxc_client *c = r->client;
    struct mxc_post *p = calloc(1, sizeof *p);
    uint32_t at = 0;

    if (p == NULL || (p->body = malloc(body.n)) == NULL) {
        free(p);
        return mxc_fail(err, MXC_NOMEM, "no memory for a post of %zu bytes", body.n);
    }
    memcpy(p->body, body.p, body.n);
    p->n = body.n;
    p->client = c;
    p->run = r;
    p->job.ops = &post_ops;
    p->job.retries = &r->wait.retries;
    p->order = ++c->posts_made;
    while (c->posts[at] != NULL) {
        at++;
    }
    c->posts[at] = p;
    c->n_posts++;
    r->undelivered++;
    r->counts.posted++;
    mxc_job_start(&p->job, mxc_now_ns());
    (void)mxc_pump(c, mxc_now_ns());
    return 0;
}

int mxc_report_post(struct mxc_run *r, uint64_t step, const struct mxc_report *report,
                    struct mxc_error *err)
{
    struct mxc_client *c = r->client;
    struct mx_feedback_request m = {.step = step, .run = r->id, .rank = r->rank, .world = r->world,
                                    .flags = report->flags};
    uint8_t *body;
    struct mx_writer w;
    int rc;

    (void)mxc_pump(c, mxc_now_ns());
    if (step > MX_STEP_MAX) {
        return mxc_fail(err, MXC_INVALID, "run %s: feedback of step %" PRIu64 " is out of range",
                        r->name, step);
    }
    if (c->n_posts == MX_CLIENT_POSTS_MAX) {
        return mxc_fail(err, MXC_BUSY, "run %s: %u posts are undelivered", r->name,
                        MX_CLIENT_POSTS_MAX);
    }
    if (r->versions[step % MX_CLIENT_INFLIGHT_MAX].step == step) {
        m.mix_version = r->versions[step % MX_CLIENT_INFLIGHT_MAX].version;
    }
    body = malloc(MX_REQUEST_MAX - MX_HEADER_BYTES);
    if (body == NULL) {
        return mxc_fail(err, MXC_NOMEM, "no memory for a post");
    }
    mx_writer_init(&w, body, MX_REQUEST_MAX - MX_HEADER_BYTES);
    mx_feedback_request_encode(&w, &m);
    rc = mxc_report_encode(r, report, &w, err);
    if (rc == 0 && w.failed) {
        rc = mxc_fail(err, MXC_INVALID,
                      "run %s: a report of %zu losses, %zu evaluations, %zu rewards, %zu scores "
                      "and %zu gradients is larger than a message, %u bytes",
                      r->name, report->n_losses, report->n_evals, report->n_rewards,
                      report->n_scores, report->n_grad, MX_REQUEST_MAX);
    }
    rc = rc < 0 ? rc : start_post(r, (struct mx_span){body, mx_writer_len(&w)}, err);
    free(body);
    return rc;
}

int mxc_feedback(struct mxc_run *r, uint64_t step, const struct mxc_loss *losses, size_t n,
                 struct mxc_error *err)
{
    struct mxc_report report = {.losses = losses, .n_losses = n};

    if (n > MX_DOMAINS_MAX) {
        return mxc_fail(err, MXC_INVALID,
                        "run %s: feedback of step %" PRIu64 " with %zu losses is out of range",
                        r->name, step, n);
    }
    return mxc_report_post(r, step, &report, err);
}

void mxc_feedback_get_counts(struct mxc_run *r, struct mxc_feedback_counts *ret)
{
    (void)mxc_pump(r->client, mxc_now_ns());
    *ret = r->counts;
}

static bool all_delivered(const void *arg)
{
    const struct mxc_run *r = arg;

    return r->undelivered == 0;
}

int mxc_flush(struct mxc_run *r, struct mxc_error *err)
{
    int rc = mxc_block(r->client, all_delivered, r, mxc_deadline(r->client), err);

    if (rc < 0) {
        return rc;
    }
    if (r->refused.code != 0) {
        rc = mxc_fail(err, MXC_INVALID, "%s", r->refused.text);
        r->refused.code = 0;
    }
    return rc;
}
