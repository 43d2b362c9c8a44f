/* client.c - opening and closing a client, operations on it, and errors. */
#include "client/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_DEFAULT_MS 30000
#define INFLIGHT_DEFAULT 3u

/* ---- errors ---- */

int mxc_fail(struct mxc_error *err, int code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;

        err->code = code;
        va_start(ap, fmt);
        (void)vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return code;
}

int mxc_fail_proto(struct mxc_error *err, const struct mx_err *e)
{
    return mxc_fail(err, MXC_PROTOCOL, "%s", e->text);
}

void mxc_copy_error(struct mxc_error *to, const struct mxc_error *from)
{
    if (to != NULL) {
        *to = *from;
    }
}

void mxc_copy_text(char *to, size_t n, struct mx_span text)
{
    size_t len = text.n < n - 1 ? text.n : n - 1;

    for (size_t i = 0; i < len; i++) {
        to[i] = text.p[i] < 0x20 || text.p[i] == 0x7f ? '?' : (char)text.p[i];
    }
    to[len] = '\0';
}

const char *mxc_code_name(int code)
{
    switch (code) {
    case MXC_OK: return "OK";
    case MXC_NOMEM: return "NOMEM";
    case MXC_INVALID: return "INVALID";
    case MXC_TIMEOUT: return "TIMEOUT";
    case MXC_UNREACHABLE: return "UNREACHABLE";
    case MXC_END: return "END";
    case MXC_EXHAUSTED: return "EXHAUSTED";
    case MXC_GONE: return "GONE";
    case MXC_DENIED: return "DENIED";
    case MXC_PROTOCOL: return "PROTOCOL";
    case MXC_DAMAGED: return "DAMAGED";
    case MXC_BUSY: return "BUSY";
    case MXC_SKIPPED: return "SKIPPED";
    default: return "UNKNOWN";
    }
}

const char *mxc_version(void)
{
    return MIXD_VERSION;
}

/* ---- opening and closing ---- */

static int check_options(const char *url, const struct mxc_options *o, struct mxc_error *err)
{
    if (url == NULL || strlen(url) > MX_PATH_MAX ||
        (strncmp(url, "tcp://", 6) != 0 && strncmp(url, "ipc://", 6) != 0)) {
        return mxc_fail(err, MXC_INVALID, "%.200s: a URL is tcp://HOST:PORT or ipc://PATH",
                        url != NULL ? url : "(none)");
    }
    if (o->inflight > MX_CLIENT_INFLIGHT_MAX) {
        return mxc_fail(err, MXC_INVALID, "%u batches in flight, at most %u are allowed",
                        o->inflight, MX_CLIENT_INFLIGHT_MAX);
    }
    if (o->name != NULL && (o->name[0] == '\0' || strlen(o->name) > MX_NAME_MAX)) {
        return mxc_fail(err, MXC_INVALID, "a client's name has 1 to %u bytes", MX_NAME_MAX);
    }
    if (o->timeout_ms > INT64_MAX / 4000000) {
        return mxc_fail(err, MXC_INVALID, "a timeout of %lld ms is too long; -1 is for ever",
                        (long long)o->timeout_ms);
    }
    return 0;
}

static bool greeted(const void *arg)
{
    const struct mxc_client *c = arg;

    return c->hello.ok;
}

int mxc_open(const char *url, const struct mxc_options *options, struct mxc_client **ret,
             struct mxc_error *err)
{
    struct mxc_options o = options != NULL ? *options : (struct mxc_options){0};
    struct mxc_client *c;
    int rc = check_options(url, &o, err);

    if (rc < 0) {
        return rc;
    }
    c = calloc(1, sizeof *c);
    if (c == NULL || (c->url = strdup(url)) == NULL ||
        (c->frame = malloc(MX_REQUEST_MAX)) == NULL) {
        rc = mxc_fail(err, MXC_NOMEM, "no memory for a client");
        goto close;
    }
    c->timeout_ms = o.timeout_ms != 0 ? o.timeout_ms : TIMEOUT_DEFAULT_MS;
    c->inflight = o.inflight != 0 ? o.inflight : INFLIGHT_DEFAULT;
    if (o.name != NULL) {
        (void)snprintf(c->name, sizeof c->name, "%s", o.name);
    } else {
        (void)snprintf(c->name, sizeof c->name, "%.40s/%ld", program_invocation_short_name,
                       (long)getpid());
    }
    mxc_hello_init(c);
    rc = mxc_net_open(url, MXC_CALLS, &c->net, err);
    if (rc < 0) {
        goto close;
    }
    rc = mxc_block(c, greeted, c, mxc_deadline(c), err);
    if (rc == MXC_TIMEOUT) {
        bool busy = c->hello.job.put_off == MX_STATUS_BUSY;

        rc = mxc_fail(err, busy ? MXC_BUSY : MXC_UNREACHABLE, "something listens at %s, but %s%s",
                      url, busy ? "it is busy: " : "no daemon says hello",
                      busy ? c->hello.job.put_off_text : "");
    }
    if (rc < 0) {
        goto close;
    }
    *ret = c;
    return 0;

close:
    mxc_close(c);
    return rc;
}

void mxc_close(struct mxc_client *c)
{
    if (c == NULL) {
        return;
    }
    c->closing = true;
    if (c->net != NULL) {
        while (c->runs != NULL) {
            mxc_detach(c->runs);
        }
        mxc_posts_clear(c);
        mxc_net_close(c->net);
    }
    free(c->frame);
    free(c->url);
    free(c);
}

/* ---- operations ---- */

/* Runs an operation whose reply is all text. */
static int text_exchange(struct mxc_client *c, const struct mxc_job_ops *ops, const void *body,
                         size_t n, char **ret, struct mxc_error *err)
{
    struct mxc_msg *msg;
    struct mx_span reply;
    int rc = mxc_exchange(c, ops, body, n, mxc_deadline(c), &msg, &reply, err);

    if (rc < 0) {
        return rc;
    }
    if (memchr(reply.p, 0, reply.n) != NULL) {
        rc = mxc_fail(err, MXC_PROTOCOL, "%s reply: it has a zero byte, so it's no JSON",
                      mx_message_name(ops->type));
    } else {
        *ret = strndup((const char *)reply.p, reply.n);
        rc = *ret != NULL ? 0
                          : mxc_fail(err, MXC_NOMEM, "no memory for a reply of %zu bytes", reply.n);
    }
    mxc_msg_free(msg);
    return rc;
}

int mxc_control(struct mxc_client *c, const char *json, char **ret, struct mxc_error *err)
{
    if (json == NULL || json[0] == '\0') {
        return mxc_fail(err, MXC_INVALID, "an operation is a JSON object");
    }
    return text_exchange(c, &mxc_control_ops, json, strlen(json), ret, err);
}

int mxc_stats(struct mxc_client *c, const char *run, char **ret, struct mxc_error *err)
{
    uint8_t body[8 + MX_NAME_MAX];
    const char *name = run != NULL ? run : "";
    struct mx_stats_request m = {.run = {(const uint8_t *)name, strlen(name)}};
    struct mx_writer w;

    mx_writer_init(&w, body, sizeof body);
    mx_stats_request_encode(&w, &m);
    if (w.failed) {
        return mxc_fail(err, MXC_INVALID, "a run's name has 1 to %u bytes", MX_NAME_MAX);
    }
    return text_exchange(c, &mxc_stats_ops, body, mx_writer_len(&w), ret, err);
}
