/* net_nng.c - one REQ socket of nng with a context per call. See net.h.
 *
 * The socket and its contexts are a link. nng 1.5.2 can wedge its one reaper thread when a peer
 * dies in the middle of replies; from then on no socket of the process reconnects, nor closes. So
 * the caller may have the link replaced: the old one is closed by a thread, and left to the process
 * if that hangs; new sockets connect even then.
 *
 * A call goes idle -> sending -> receiving -> replied or lost -> idle, on one aio that is used for
 * the send and then for the receive. nng's own resending is off: when a connection breaks, the
 * calls on it are reported lost and the caller sends again. Callbacks run on nng's task threads;
 * they take the one mutex, store a result, and start the receive. Nothing calls into nng while it
 * holds the mutex. */
#include "client/net.h"

#include "client/internal.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define DRAIN_NS 250000000      /* how long a close waits for replies that are on their way */
#define QUIET_NS 3000000        /* after which nng's threads are done with the last of them */
#define CLOSE_WAIT_NS 500000000 /* how long mxc_net_close waits for a close that may hang */
#define ORPHANS_MAX 64          /* sockets left behind, of some 60 KB each, before giving up */
#define RECONNECT_MIN_MS 20
#define RECONNECT_MAX_MS 500
/* A frame at its largest and the request id that nng puts before it. */
#define RECEIVE_MAX (MX_REPLY_MAX + 64u)

enum stage { IDLE, SENDING, RECEIVING, REPLIED, LOST };

struct link;

struct call {
    struct link *link;
    nng_ctx ctx;
    nng_aio *aio;
    enum stage stage;
    bool cancelled; /* what comes is thrown away */
    uint64_t epoch; /* in which it was sent, then of the reply */
    nng_msg *reply;
};

struct link {
    struct mxc_net *net;
    nng_socket sock;
    bool orphan; /* replaced: what it brings is thrown away. Under the net's lock */
    unsigned n_calls;
    struct call calls[];
};

struct mxc_net {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct mxc_net_state state; /* under lock, like all below */
    struct link *link;
    uint32_t pipe;    /* the last connection made */
    unsigned refs;    /* the owner and each link */
    unsigned orphans; /* replaced links that aren't closed yet */
    bool hangs;       /* one of them is being closed */
    unsigned n_calls;
    char *url;
};

int64_t mxc_now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void happened(struct mxc_net *n)
{
    n->state.events++;
    (void)pthread_cond_broadcast(&n->cond);
}

/* ---- nng's threads ---- */

static void pipe_cb(nng_pipe p, nng_pipe_ev ev, void *arg)
{
    struct link *k = arg;
    struct mxc_net *n = k->net;
    uint32_t id = (uint32_t)nng_pipe_id(p);

    (void)pthread_mutex_lock(&n->lock);
    if (!k->orphan) {
        if (ev == NNG_PIPE_EV_ADD_PRE) {
            /* Before its first byte, so that no reply of it counts for the connection before. */
            n->state.epoch++;
            n->pipe = id;
        } else if (id == n->pipe) {
            n->state.up = ev == NNG_PIPE_EV_ADD_POST;
        }
        happened(n);
    }
    (void)pthread_mutex_unlock(&n->lock);
}

/* The end of a send or of a receive, under the lock. Returns a message that nobody wants. */
static nng_msg *call_ended(struct call *c, int rc)
{
    struct mxc_net *n = c->link->net;
    nng_msg *m = NULL;

    if (c->stage == (rc == 0 ? RECEIVING : SENDING)) {
        m = nng_aio_get_msg(c->aio); /* the reply, or the request back */
    }
    nng_aio_set_msg(c->aio, NULL);
    if (c->stage == RECEIVING && rc == NNG_ECONNRESET && c->epoch == n->state.epoch) {
        n->state.up = false; /* said here as well, as a wedged reaper says nothing */
    }
    if (c->stage == RECEIVING && rc == 0 && !c->cancelled && !c->link->orphan) {
        c->reply = m;
        c->epoch = n->state.epoch;
        c->stage = REPLIED;
        n->state.replies++;
        m = NULL;
    } else {
        c->stage = c->cancelled ? IDLE : LOST;
    }
    c->cancelled = false;
    happened(n);
    return m;
}

static void call_cb(void *arg)
{
    struct call *c = arg;
    struct mxc_net *n = c->link->net;
    int rc = nng_aio_result(c->aio);
    nng_msg *unwanted = NULL;
    bool receive = false;

    (void)pthread_mutex_lock(&n->lock);
    if (c->stage == SENDING && rc == 0 && !c->cancelled && !c->link->orphan) {
        c->stage = RECEIVING;
        c->epoch = n->state.epoch;
        receive = true;
    } else {
        unwanted = call_ended(c, rc);
    }
    (void)pthread_mutex_unlock(&n->lock);
    if (unwanted != NULL) {
        nng_msg_free(unwanted);
    }
    if (receive) {
        nng_ctx_recv(c->ctx, c->aio);
    }
}

/* ---- opening and closing ---- */

/* Waits for the condition variable until a time of CLOCK_MONOTONIC; false if it has come. */
static bool wait_until(struct mxc_net *n, int64_t until_ns)
{
    struct timespec t = {.tv_sec = (time_t)(until_ns / 1000000000),
                         .tv_nsec = (long)(until_ns % 1000000000)};

    return pthread_cond_timedwait(&n->cond, &n->lock, &t) == 0;
}

/* Drops one reference; the last one frees. */
static void net_unref(struct mxc_net *n)
{
    bool last;

    (void)pthread_mutex_lock(&n->lock);
    last = --n->refs == 0;
    (void)pthread_mutex_unlock(&n->lock);
    if (last) {
        (void)pthread_cond_destroy(&n->cond);
        (void)pthread_mutex_destroy(&n->lock);
        free(n->url);
        free(n);
    }
}

static bool running(const struct link *k)
{
    for (unsigned i = 0; i < k->n_calls; i++) {
        if (k->calls[i].stage == SENDING || k->calls[i].stage == RECEIVING) {
            return true;
        }
    }
    return false;
}

/* A connection that is closed while messages come in over it is what wedges the reaper. So the
 * replies that were asked for are let in first, if they come soon. */
static void drain(struct link *k)
{
    struct mxc_net *n = k->net;
    int64_t until = mxc_now_ns() + DRAIN_NS;

    (void)pthread_mutex_lock(&n->lock);
    while (!k->orphan && n->state.up && running(k) && wait_until(n, until)) {
    }
    (void)pthread_mutex_unlock(&n->lock);
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = QUIET_NS}, NULL);
}

/* Closes a link; may hang. */
static void link_close(struct link *k)
{
    for (unsigned i = 0; i < k->n_calls; i++) {
        if (k->calls[i].aio != NULL) {
            nng_aio_stop(k->calls[i].aio);
        }
    }
    (void)nng_close(k->sock);
    for (unsigned i = 0; i < k->n_calls; i++) {
        if (k->calls[i].aio != NULL) {
            nng_aio_free(k->calls[i].aio);
        }
        if (k->calls[i].reply != NULL) {
            nng_msg_free(k->calls[i].reply);
        }
    }
}

static void *closer(void *arg)
{
    struct link *k = arg;
    struct mxc_net *n = k->net;

    drain(k);
    link_close(k);
    (void)pthread_mutex_lock(&n->lock);
    n->hangs = false;
    if (k->orphan) {
        n->orphans--;
    } else {
        n->link = NULL;
    }
    (void)pthread_cond_broadcast(&n->cond);
    (void)pthread_mutex_unlock(&n->lock);
    free(k);
    net_unref(n);
    return NULL;
}

/* Has a link closed by a thread; it frees the link. False if there is no thread to be had: there is
 * no safe way to close then, and the socket is left to the process. */
static bool close_by_thread(struct link *k)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, closer, k) != 0) {
        return false;
    }
    (void)pthread_detach(thread);
    return true;
}

void mxc_net_close(struct mxc_net *n)
{
    int64_t until = mxc_now_ns() + CLOSE_WAIT_NS;

    if (close_by_thread(n->link)) {
        (void)pthread_mutex_lock(&n->lock);
        while (n->link != NULL && wait_until(n, until)) {
        }
        (void)pthread_mutex_unlock(&n->lock);
    }
    net_unref(n);
}

static int net_fail(struct mxc_error *err, int rc, const char *what)
{
    return mxc_fail(err, rc == NNG_ENOMEM ? MXC_NOMEM : MXC_INVALID, "%s: %s", what,
                    nng_strerror(rc));
}

static int socket_options(struct link *k)
{
    int rc = nng_socket_set_size(k->sock, NNG_OPT_RECVMAXSZ, RECEIVE_MAX);

    rc = rc != 0 ? rc : nng_socket_set_ms(k->sock, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    rc = rc != 0 ? rc : nng_socket_set_ms(k->sock, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);
    rc = rc != 0 ? rc : nng_socket_set_ms(k->sock, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
    for (int ev = NNG_PIPE_EV_ADD_PRE; ev <= NNG_PIPE_EV_REM_POST; ev++) {
        rc = rc != 0 ? rc : nng_pipe_notify(k->sock, (nng_pipe_ev)ev, pipe_cb, k);
    }
    return rc;
}

static int open_calls(struct link *k)
{
    for (unsigned i = 0; i < k->n_calls; i++) {
        struct call *c = &k->calls[i];
        int rc;

        c->link = k;
        rc = nng_ctx_open(&c->ctx, k->sock);
        rc = rc != 0 ? rc : nng_aio_alloc(&c->aio, call_cb, c);
        if (rc != 0) {
            return rc;
        }
        nng_aio_set_timeout(c->aio, NNG_DURATION_INFINITE);
    }
    return 0;
}

static int dial(struct link *k, const char *url)
{
    nng_dialer d;
    int rc = nng_dialer_create(&d, k->sock, url);

    if (rc == 0 && strncmp(url, "tcp://", 6) == 0) {
        rc = nng_dialer_set_bool(d, NNG_OPT_TCP_KEEPALIVE, true);
    }
    return rc != 0 ? rc : nng_dialer_start(d, NNG_FLAG_NONBLOCK);
}

/* A link that begins to connect. */
static int link_open(struct mxc_net *n, struct link **ret, struct mxc_error *err)
{
    struct link *k = calloc(1, sizeof *k + n->n_calls * sizeof k->calls[0]);
    int rc;

    if (k == NULL) {
        return mxc_fail(err, MXC_NOMEM, "no memory for a socket");
    }
    k->net = n;
    k->n_calls = n->n_calls;
    rc = nng_req0_open(&k->sock);
    if (rc != 0) {
        free(k);
        return net_fail(err, rc, "opening a socket");
    }
    rc = socket_options(k);
    rc = rc != 0 ? rc : open_calls(k);
    rc = rc != 0 ? rc : dial(k, n->url);
    if (rc != 0) {
        link_close(k); /* nothing has been connected, so this doesn't hang */
        free(k);
        return net_fail(err, rc, n->url);
    }
    *ret = k;
    return 0;
}

static int init_lock(struct mxc_net *n)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);

    if (rc != 0) {
        return rc;
    }
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rc = rc != 0 ? rc : pthread_cond_init(&n->cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    return rc != 0 ? rc : pthread_mutex_init(&n->lock, NULL);
}

int mxc_net_open(const char *url, unsigned calls, struct mxc_net **ret, struct mxc_error *err)
{
    struct mxc_net *n = calloc(1, sizeof *n);
    int rc;

    if (n == NULL || (n->url = strdup(url)) == NULL || init_lock(n) != 0) {
        rc = mxc_fail(err, MXC_NOMEM, "no memory for a client");
        goto free_net;
    }
    n->n_calls = calls;
    rc = link_open(n, &n->link, err);
    if (rc < 0) {
        (void)pthread_cond_destroy(&n->cond);
        (void)pthread_mutex_destroy(&n->lock);
        goto free_net;
    }
    n->refs = 2;
    *ret = n;
    return 0;

free_net:
    if (n != NULL) {
        free(n->url);
        free(n);
    }
    return rc;
}

bool mxc_net_renew(struct mxc_net *n)
{
    struct link *old = n->link;
    struct link *fresh = NULL;
    bool close = false;

    (void)pthread_mutex_lock(&n->lock);
    /* Before the new one can connect, so that what the old one says isn't taken for the new. */
    old->orphan = n->orphans < ORPHANS_MAX;
    n->state.up = n->state.up && !old->orphan;
    (void)pthread_mutex_unlock(&n->lock);
    if (!old->orphan) {
        return false;
    }
    if (link_open(n, &fresh, NULL) < 0) {
        fresh = NULL;
    }
    (void)pthread_mutex_lock(&n->lock);
    if (fresh == NULL) {
        old->orphan = false;
    } else {
        n->link = fresh;
        n->refs++;
        n->orphans++;
        /* While one close hangs another would too; it isn't worth a thread. */
        close = !n->hangs;
        n->hangs = true;
    }
    (void)pthread_mutex_unlock(&n->lock);
    if (close) {
        (void)close_by_thread(old);
    }
    return fresh != NULL;
}

/* ---- the caller's thread ---- */

void mxc_net_look(struct mxc_net *n, struct mxc_net_state *ret)
{
    (void)pthread_mutex_lock(&n->lock);
    *ret = n->state;
    (void)pthread_mutex_unlock(&n->lock);
}

void mxc_net_wait(struct mxc_net *n, uint64_t events, int64_t until_ns)
{
    (void)pthread_mutex_lock(&n->lock);
    while (n->state.events == events && wait_until(n, until_ns)) {
    }
    (void)pthread_mutex_unlock(&n->lock);
}

int mxc_call_send(struct mxc_net *n, unsigned call, const void *frame, size_t bytes,
                  struct mxc_error *err)
{
    struct call *c = &n->link->calls[call];
    nng_msg *m;

    if (nng_msg_alloc(&m, bytes) != 0) {
        return mxc_fail(err, MXC_NOMEM, "no memory for a request of %zu bytes", bytes);
    }
    memcpy(nng_msg_body(m), frame, bytes);
    (void)pthread_mutex_lock(&n->lock);
    MX_REQUIRE(c->stage == IDLE);
    c->stage = SENDING;
    (void)pthread_mutex_unlock(&n->lock);
    nng_aio_set_msg(c->aio, m);
    nng_ctx_send(c->ctx, c->aio);
    return 0;
}

enum mxc_call_state mxc_call_look(struct mxc_net *n, unsigned call, uint64_t *ret_epoch)
{
    static const enum mxc_call_state states[] = {
        [IDLE] = MXC_CALL_IDLE,       [SENDING] = MXC_CALL_QUEUED, [RECEIVING] = MXC_CALL_WAITING,
        [REPLIED] = MXC_CALL_REPLIED, [LOST] = MXC_CALL_LOST,
    };
    struct call *c = &n->link->calls[call];
    enum mxc_call_state s;

    (void)pthread_mutex_lock(&n->lock);
    s = c->cancelled ? MXC_CALL_DRAINING : states[c->stage];
    *ret_epoch = c->epoch;
    (void)pthread_mutex_unlock(&n->lock);
    if (s == MXC_CALL_DRAINING) {
        /* The cancel may have come between the send's end and the receive's beginning. */
        nng_aio_cancel(c->aio);
    }
    return s;
}

struct mxc_msg *mxc_call_take(struct mxc_net *n, unsigned call)
{
    struct call *c = &n->link->calls[call];
    nng_msg *m;

    (void)pthread_mutex_lock(&n->lock);
    MX_REQUIRE(c->stage == REPLIED || c->stage == LOST);
    m = c->reply;
    c->reply = NULL;
    c->stage = IDLE;
    (void)pthread_mutex_unlock(&n->lock);
    return (struct mxc_msg *)m;
}

void mxc_call_cancel(struct mxc_net *n, unsigned call)
{
    struct call *c = &n->link->calls[call];
    nng_msg *unwanted = NULL;
    bool running = false;

    (void)pthread_mutex_lock(&n->lock);
    if (c->stage == SENDING || c->stage == RECEIVING) {
        c->cancelled = true;
        running = true;
    } else {
        unwanted = c->reply;
        c->reply = NULL;
        c->stage = IDLE;
    }
    (void)pthread_mutex_unlock(&n->lock);
    if (running) {
        nng_aio_cancel(c->aio);
    } else if (unwanted != NULL) {
        nng_msg_free(unwanted);
    }
}

const void *mxc_msg_frame(const struct mxc_msg *m, size_t *ret_n)
{
    nng_msg *msg = (nng_msg *)(uintptr_t)m;

    *ret_n = nng_msg_len(msg);
    return nng_msg_body(msg);
}

void mxc_msg_free(struct mxc_msg *m)
{
    if (m != NULL) {
        nng_msg_free((nng_msg *)m);
    }
}
