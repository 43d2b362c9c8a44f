/* hello.c - who answers: the version spoken and which store it is. See internal.h.
 *
 * Asked once for every connection made. Another store behind the same address would serve other
 * samples under the same run number, so it is an error until the first one is back. */
#include "client/internal.h"

#include <inttypes.h>
#include <string.h>

static struct mxc_hello *hello_of(struct mxc_job *job)
{
    return (struct mxc_hello *)job; /* job is its first member */
}

static void hello_encode(struct mxc_job *job, struct mx_writer *w)
{
    const char *name = hello_of(job)->client->name;

    mx_hello_request_encode(
        w, &(struct mx_hello_request){.version_min = MX_PROTOCOL_VERSION,
                                      .version_max = MX_PROTOCOL_VERSION,
                                      .client = {(const uint8_t *)name, strlen(name)}});
}

static int hello_reply(struct mxc_job *job, struct mx_span body, struct mxc_msg **msg,
                       struct mxc_error *err)
{
    struct mxc_hello *h = hello_of(job);
    struct mx_hello_reply m;
    struct mx_err e;

    (void)msg;
    if (mx_hello_reply_decode(body.p, body.n, &m, &e) < 0) {
        return mxc_fail_proto(err, &e);
    }
    mxc_copy_text(h->server, sizeof h->server, m.server);
    if (m.version != MX_PROTOCOL_VERSION) {
        return mxc_fail(err, MXC_PROTOCOL, "%s at %s speaks protocol version %u, this library %u",
                        h->server, h->client->url, m.version, MX_PROTOCOL_VERSION);
    }
    if (h->have_store && m.store != h->store) {
        return mxc_fail(err, MXC_PROTOCOL,
                        "another store answers at %s now: %016" PRIx64 ", not %016" PRIx64,
                        h->client->url, m.store, h->store);
    }
    h->store = m.store;
    h->have_store = true;
    h->ok = true;
    return 0;
}

static void hello_failed(struct mxc_job *job, const struct mxc_error *err)
{
    struct mxc_hello *h = hello_of(job);

    h->ok = false;
    h->error = *err;
}

static const struct mxc_job_ops hello_ops = {
    .type = MX_MSG_HELLO,
    .encode = hello_encode,
    .reply = hello_reply,
    .failed = hello_failed,
};

void mxc_hello_init(struct mxc_client *c)
{
    c->hello = (struct mxc_hello){.job = {.ops = &hello_ops}, .client = c};
}
