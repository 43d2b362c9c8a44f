/* sync.c - one operation that the caller waits for: attach, control, stats. See internal.h.
 *
 * A control operation may change something, so it isn't sent again once it may have arrived; the
 * others are repeated until the deadline. */
#include "client/internal.h"

static struct mxc_sync *sync_of(struct mxc_job *job)
{
    return (struct mxc_sync *)job; /* job is its first member */
}

static void sync_encode(struct mxc_job *job, struct mx_writer *w)
{
    mx_write_bytes(w, sync_of(job)->body, sync_of(job)->n);
}

static int sync_reply(struct mxc_job *job, struct mx_span body, struct mxc_msg **msg,
                      struct mxc_error *err)
{
    struct mxc_sync *s = sync_of(job);

    (void)err;
    s->reply = body;
    s->msg = *msg;
    *msg = NULL;
    return 0;
}

static void sync_failed(struct mxc_job *job, const struct mxc_error *err)
{
    sync_of(job)->error = *err;
}

const struct mxc_job_ops mxc_attach_ops = {
    .type = MX_MSG_ATTACH,
    .encode = sync_encode,
    .reply = sync_reply,
    .failed = sync_failed,
};
const struct mxc_job_ops mxc_control_ops = {
    .type = MX_MSG_CONTROL,
    .once = true,
    .encode = sync_encode,
    .reply = sync_reply,
    .failed = sync_failed,
};
const struct mxc_job_ops mxc_stats_ops = {
    .type = MX_MSG_STATS,
    .encode = sync_encode,
    .reply = sync_reply,
    .failed = sync_failed,
};

static bool sync_done(const void *arg)
{
    const struct mxc_sync *s = arg;

    return s->msg != NULL || s->error.code != 0;
}

int mxc_exchange(struct mxc_client *c, const struct mxc_job_ops *ops, const void *body, size_t n,
                 int64_t deadline_ns, struct mxc_msg **ret_msg, struct mx_span *ret_body,
                 struct mxc_error *err)
{
    struct mxc_sync s = {.job = {.ops = ops}, .body = body, .n = n};
    int rc;

    mxc_job_start(&s.job, mxc_now_ns());
    c->sync = &s;
    rc = mxc_block(c, sync_done, &s, deadline_ns, err);
    mxc_job_stop(c, &s.job);
    c->sync = NULL;
    if (rc == MXC_TIMEOUT && s.job.put_off == MX_STATUS_BUSY) {
        return mxc_fail(err, MXC_BUSY, "%s", s.job.put_off_text);
    }
    if (rc < 0) {
        return rc;
    }
    if (s.error.code != 0) {
        mxc_copy_error(err, &s.error);
        return s.error.code;
    }
    *ret_msg = s.msg;
    *ret_body = s.reply;
    return 0;
}
