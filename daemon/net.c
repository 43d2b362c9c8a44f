/* net.c - see net.h. Connections are libuv streams; sp.c takes their bytes apart. */
#include "daemon/net.h"

#include "daemon/log.h"
#include "daemon/sp.h"
#include "proto/limits.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 1024
#define READ_BYTES 65536u
#define SWEEP_MS 100u
/* A peer that has so much to read isn't asked for more requests. */
#define PEER_QUEUE_BYTES (2u << 20)
/* A greeting or a message that was begun must be whole by then. */
#define UNFINISHED_NS (30ull * 1000000000ull)

struct conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct mx_net *net;
    struct conn *prev, *next;
    struct conn *next_paused;
    uint32_t id;
    struct mx_sp sp;
    uint32_t requests;        /* of it in the daemon */
    bool ipc, closing, paused, reading;
    uint64_t unfinished_ns;   /* since when a greeting or message has been incomplete; 0: none is */
    size_t queued;            /* write_queue_size when last looked at */
    uint64_t progress_ns;     /* when it last fell, or was empty */
    uint8_t *left;            /* bytes read but not taken apart while paused */
    size_t left_n, left_at;
    struct request *first;    /* requests of it that the daemon has */
};

/* A request in the daemon. Its connection may go away before it is answered. */
struct request {
    struct mx_req req; /* first */
    struct conn *conn; /* NULL: gone */
    struct request *prev, *next;
    uint8_t *payload;
    size_t trail;
};

struct mx_reply {
    uv_write_t write;
    struct conn *conn;
    struct mx_reply_pool *pool; /* NULL: of its own */
    size_t n, cap;
    uint8_t head[9 + 4 * MX_SP_TRAIL_MAX];
    _Alignas(16) uint8_t data[];
};

#define POOL_MAX 16u

struct mx_reply_pool {
    uv_mutex_t lock;
    struct mx_reply *kept[POOL_MAX]; /* under lock */
    uint32_t n;
};

struct mx_net {
    uv_loop_t *loop;
    struct mx_net_options o;
    struct mx_net_stats stats;
    uint32_t n_conns, next_id;
    struct conn *conns;
    struct conn *paused, **paused_tail;
    struct {
        union {
            uv_handle_t handle;
            uv_stream_t stream;
            uv_tcp_t tcp;
            uv_pipe_t pipe;
        } uv;
        bool ipc, open;
    } listeners[16];
    uint32_t n_listeners;
    uv_timer_t sweep;
    uv_prepare_t resume;
    bool stopping;
    uint8_t buf[READ_BYTES];
};

/* ---- replies ---- */

struct mx_reply *mx_reply_new(size_t n)
{
    struct mx_reply *r = malloc(sizeof *r + n);

    if (r != NULL) {
        r->n = r->cap = n;
        r->pool = NULL;
    }
    return r;
}

struct mx_reply_pool *mx_reply_pool_new(void)
{
    struct mx_reply_pool *pool = calloc(1, sizeof *pool);

    if (pool != NULL && uv_mutex_init(&pool->lock) != 0) {
        free(pool);
        return NULL;
    }
    return pool;
}

struct mx_reply *mx_reply_take(struct mx_reply_pool *pool, size_t n)
{
    struct mx_reply *r = NULL;

    uv_mutex_lock(&pool->lock);
    if (pool->n > 0 && pool->kept[pool->n - 1]->cap >= n) {
        r = pool->kept[--pool->n];
    }
    uv_mutex_unlock(&pool->lock);
    if (r == NULL) {
        r = mx_reply_new((n + 16383) & ~(size_t)16383); /* so that the next one fits too */
    }
    if (r != NULL) {
        r->n = n;
        r->pool = pool;
    }
    return r;
}

uint8_t *mx_reply_data(struct mx_reply *r)
{
    return r->data;
}

size_t mx_reply_size(const struct mx_reply *r)
{
    return r->n;
}

void mx_reply_trim(struct mx_reply *r, size_t n)
{
    MX_REQUIRE(n <= r->n);
    r->n = n;
}

struct mx_reply *mx_reply_copy(const struct mx_reply *r)
{
    struct mx_reply *copy = mx_reply_new(r->n);

    if (copy != NULL) {
        memcpy(copy->data, r->data, r->n);
    }
    return copy;
}

void mx_reply_free(struct mx_reply *r)
{
    struct mx_reply_pool *pool = r != NULL ? r->pool : NULL;

    if (pool != NULL) {
        uv_mutex_lock(&pool->lock);
        if (pool->n < POOL_MAX) {
            pool->kept[pool->n++] = r;
            r = NULL;
        }
        uv_mutex_unlock(&pool->lock);
    }
    free(r);
}

/* ---- the end of a connection ---- */

static void closed_cb(uv_handle_t *h)
{
    struct conn *c = h->data;

    mx_sp_fini(&c->sp);
    free(c->left);
    free(c);
}

static void unlink_paused(struct mx_net *net, struct conn *c)
{
    struct conn **at = &net->paused;

    while (*at != NULL && *at != c) {
        at = &(*at)->next_paused;
    }
    if (*at == c) {
        *at = c->next_paused;
        if (net->paused_tail == &c->next_paused) {
            net->paused_tail = at;
        }
        net->stats.paused--;
    }
}

static void close_conn(struct conn *c)
{
    struct mx_net *net = c->net;

    if (c->closing) {
        return;
    }
    c->closing = true;
    if (c->paused) {
        unlink_paused(net, c);
    }
    while (c->first != NULL) { /* they are answered into the void */
        struct request *r = c->first;
        c->first = r->next;
        r->conn = NULL;
        r->prev = r->next = NULL;
    }
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        net->conns = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    net->n_conns--;
    net->stats.closed++;
    uv_close(&c->uv.handle, closed_cb); /* writes under way end with ECANCELED first */
}

static void expel(struct conn *c, const char *why)
{
    if (!c->closing) {
        c->net->stats.expelled++;
        mx_log(MX_LOG_WARN, "net.expel", "peer=%" PRIu32 " reason=\"%s\"", c->id, why);
        close_conn(c);
    }
}

/* ---- reading ---- */

static void alloc_cb(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct conn *c = h->data;

    (void)suggested;
    *buf = uv_buf_init((char *)c->net->buf, READ_BYTES);
}

bool mx_net_has_room(const struct mx_net *net)
{
    return net->stats.queued_bytes < net->o.queue_bytes;
}

static bool may_take(const struct conn *c)
{
    const struct mx_net *net = c->net;

    return c->requests < net->o.requests_per_peer && net->stats.requests < net->o.requests &&
           mx_net_has_room(net) &&
           uv_stream_get_write_queue_size(&c->uv.stream) < PEER_QUEUE_BYTES;
}

static void deliver(struct conn *c, const struct mx_sp_message *m)
{
    struct mx_net *net = c->net;
    struct request *r = calloc(1, sizeof *r);

    if (r == NULL) {
        free(m->payload);
        expel(c, "no memory for its request");
        return;
    }
    r->conn = c;
    r->payload = m->payload;
    r->trail = m->trail;
    r->req.frame = m->payload + m->trail;
    r->req.n = m->n;
    r->req.since_ns = uv_hrtime();
    r->next = c->first;
    if (c->first != NULL) {
        c->first->prev = r;
    }
    c->first = r;
    c->requests++;
    net->stats.requests++;
    net->o.on_request(net->o.arg, &r->req);
}

/* Takes bytes apart until they are used up, the connection closes or a limit pauses it. Returns how
 * many are used. */
static size_t take_apart(struct conn *c, const uint8_t *p, size_t n)
{
    size_t at = 0;

    while (at < n && !c->closing && may_take(c)) {
        struct mx_sp_message m;
        struct mx_err err;
        size_t used;
        int rc = mx_sp_feed(&c->sp, p + at, n - at, &used, &m, &err);

        at += used;
        if (rc < 0) {
            expel(c, err.text);
        } else if (rc == 1) {
            deliver(c, &m);
        }
    }
    if (!c->closing) {
        bool whole = c->sp.state == MX_SP_LENGTH && c->sp.have == 0;
        c->unfinished_ns = whole ? 0 : c->unfinished_ns != 0 ? c->unfinished_ns : uv_hrtime();
    }
    return at;
}

static void pause_conn(struct conn *c)
{
    struct mx_net *net = c->net;

    if (c->reading) {
        (void)uv_read_stop(&c->uv.stream);
        c->reading = false;
    }
    c->paused = true;
    c->next_paused = NULL;
    *net->paused_tail = c;
    net->paused_tail = &c->next_paused;
    net->stats.paused++;
}

static void read_cb(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = s->data;
    size_t used;

    if (n < 0) {
        close_conn(c);
        return;
    }
    used = take_apart(c, (const uint8_t *)buf->base, (size_t)n);
    if (c->closing || (used == (size_t)n && may_take(c))) {
        return;
    }
    if (used < (size_t)n) {
        c->left_n = (size_t)n - used;
        c->left_at = 0;
        c->left = malloc(c->left_n);
        if (c->left == NULL) {
            expel(c, "no memory for what it sent");
            return;
        }
        memcpy(c->left, buf->base + used, c->left_n);
    }
    pause_conn(c);
}

static void start_reading(struct conn *c)
{
    if (!c->closing && !c->reading && !c->net->stopping) {
        c->reading = true;
        if (uv_read_start(&c->uv.stream, alloc_cb, read_cb) != 0) {
            expel(c, "can't be read");
        }
    }
}

/* Goes on with connections that were paused, in the order in which they were. */
static void resume_paused(struct mx_net *net)
{
    uint32_t n = net->stats.paused;

    while (n-- > 0 && net->paused != NULL && net->stats.requests < net->o.requests) {
        struct conn *c = net->paused;

        unlink_paused(net, c);
        c->paused = false;
        if (c->unfinished_ns != 0) {
            c->unfinished_ns = uv_hrtime(); /* it was we who didn't read */
        }
        if (c->left != NULL) {
            c->left_at += take_apart(c, c->left + c->left_at, c->left_n - c->left_at);
            if (c->closing) {
                continue;
            }
            if (c->left_at == c->left_n) {
                free(c->left);
                c->left = NULL;
            }
        }
        if (c->left == NULL && may_take(c)) {
            start_reading(c);
        } else {
            pause_conn(c);
        }
    }
}

/* ---- answering ---- */

static void forget(struct mx_net *net, struct request *r)
{
    struct conn *c = r->conn;

    if (c != NULL) {
        if (r->prev != NULL) {
            r->prev->next = r->next;
        } else {
            c->first = r->next;
        }
        if (r->next != NULL) {
            r->next->prev = r->prev;
        }
        c->requests--;
    }
    net->stats.requests--;
    free(r->payload);
    free(r);
}

static void written_cb(uv_write_t *w, int status)
{
    struct mx_reply *reply = w->data;
    struct conn *c = reply->conn;

    c->net->stats.queued_bytes -= reply->n;
    if (status == 0) {
        c->net->stats.sent_bytes += reply->n;
    } else {
        close_conn(c);
    }
    mx_reply_free(reply);
}

void mx_net_send(struct mx_net *net, struct mx_req *req, struct mx_reply *reply)
{
    struct request *r = (struct request *)req;
    struct conn *c = r->conn;
    uv_buf_t bufs[2];
    size_t head;

    if (c == NULL) {
        mx_reply_free(reply);
        forget(net, r);
        return;
    }
    head = mx_sp_reply_head(c->ipc, r->payload, r->trail, reply->n, reply->head);
    bufs[0] = uv_buf_init((char *)reply->head, (unsigned)head);
    bufs[1] = uv_buf_init((char *)reply->data, (unsigned)reply->n);
    reply->conn = c;
    reply->write.data = reply;
    forget(net, r);
    if (uv_stream_get_write_queue_size(&c->uv.stream) == 0) {
        c->progress_ns = uv_hrtime();
    }
    net->stats.queued_bytes += reply->n;
    if (uv_write(&reply->write, &c->uv.stream, bufs, 2, written_cb) != 0) {
        net->stats.queued_bytes -= reply->n;
        mx_reply_free(reply);
        close_conn(c);
    }
}

void mx_net_drop(struct mx_net *net, struct mx_req *req)
{
    net->stats.dropped++;
    forget(net, (struct request *)req);
}

/* ---- accepting ---- */

static void accept_cb(uv_stream_t *listener, int status)
{
    struct mx_net *net = listener->data;
    bool ipc = listener->type == UV_NAMED_PIPE;
    struct conn *c;
    uv_buf_t greeting;
    uint8_t bytes[MX_SP_GREETING_BYTES];
    int rc;

    if (status < 0) {
        mx_log(MX_LOG_WARN, "net.accept", "error=\"%s\"", uv_strerror(status));
        return;
    }
    c = calloc(1, sizeof *c);
    if (c == NULL) {
        return; /* it stays in the backlog until there is memory */
    }
    c->net = net;
    c->ipc = ipc;
    c->id = ++net->next_id;
    c->unfinished_ns = c->progress_ns = uv_hrtime();
    rc = ipc ? uv_pipe_init(net->loop, &c->uv.pipe, 0) : uv_tcp_init(net->loop, &c->uv.tcp);
    MX_REQUIRE(rc == 0);
    c->uv.handle.data = c;
    mx_sp_init(&c->sp, ipc, MX_REQUEST_MAX);
    c->next = net->conns;
    if (net->conns != NULL) {
        net->conns->prev = c;
    }
    net->conns = c;
    net->n_conns++;
    net->stats.opened++;
    if (uv_accept(listener, &c->uv.stream) != 0) {
        close_conn(c);
        return;
    }
    if (net->stopping || net->n_conns > net->o.connections) {
        net->stats.refused++;
        close_conn(c);
        return;
    }
    if (!ipc) {
        (void)uv_tcp_nodelay(&c->uv.tcp, 1);
    }
    mx_sp_greeting(bytes);
    greeting = uv_buf_init((char *)bytes, sizeof bytes);
    if (uv_try_write(&c->uv.stream, &greeting, 1) != (int)sizeof bytes) {
        close_conn(c); /* a new connection that doesn't take 8 bytes */
        return;
    }
    start_reading(c);
}

static int listen_failed(const char *url, int rc, struct mx_err *err)
{
    return mx_fail(err, rc == UV_EADDRINUSE ? MX_EBUSY : MX_EIO, "%s: %s", url, uv_strerror(rc));
}

/* A socket file that nobody listens on any more is in the way of a new one. */
static void remove_stale(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct stat st;
    int fd;

    if (lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode) || strlen(path) >= sizeof sa.sun_path) {
        return;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0 && errno == ECONNREFUSED) {
        (void)unlink(path);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

static int bind_tcp(struct mx_net *net, uv_tcp_t *tcp, const char *url, char *ret_url, size_t n,
                    struct mx_err *err)
{
    const char *colon = strrchr(url, ':');
    const char *host = url + strlen("tcp://");
    size_t host_n = (size_t)(colon - host);
    char name[256];
    uv_getaddrinfo_t look;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct sockaddr_storage sa;
    int sa_n = sizeof sa;
    int rc;

    if (host_n >= 2 && host[0] == '[' && host[host_n - 1] == ']') {
        host++;
        host_n -= 2;
    }
    (void)snprintf(name, sizeof name, "%.*s", (int)host_n, host);
    rc = uv_getaddrinfo(net->loop, &look, NULL, name, colon + 1, &hints);
    if (rc != 0) {
        return listen_failed(url, rc, err);
    }
    rc = uv_tcp_init(net->loop, tcp);
    if (rc == 0) {
        rc = uv_tcp_bind(tcp, look.addrinfo->ai_addr, 0);
    }
    uv_freeaddrinfo(look.addrinfo);
    if (rc == 0) {
        rc = uv_tcp_getsockname(tcp, (struct sockaddr *)&sa, &sa_n);
    }
    if (rc != 0) {
        return listen_failed(url, rc, err);
    }
    (void)snprintf(ret_url, n, "%.*s:%u", (int)(colon - url), url,
                   ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                                  : ((struct sockaddr_in *)&sa)->sin_port));
    return 0;
}

int mx_net_listen(struct mx_net *net, const char *url, char *ret_url, size_t n, struct mx_err *err)
{
    bool ipc = strncmp(url, "ipc://", 6) == 0;
    int rc;

    MX_REQUIRE(net->n_listeners < sizeof net->listeners / sizeof net->listeners[0]);
    if (ipc) {
        uv_pipe_t *pipe = &net->listeners[net->n_listeners].uv.pipe;
        remove_stale(url + 6);
        rc = uv_pipe_init(net->loop, pipe, 0);
        if (rc == 0) {
            rc = uv_pipe_bind(pipe, url + 6);
        }
        if (rc != 0) {
            return listen_failed(url, rc, err);
        }
        (void)snprintf(ret_url, n, "%s", url);
    } else {
        rc = bind_tcp(net, &net->listeners[net->n_listeners].uv.tcp, url, ret_url, n, err);
        if (rc < 0) {
            return rc;
        }
    }
    net->listeners[net->n_listeners].uv.handle.data = net;
    net->listeners[net->n_listeners].ipc = ipc;
    net->listeners[net->n_listeners].open = true;
    rc = uv_listen(&net->listeners[net->n_listeners].uv.stream, LISTEN_BACKLOG, accept_cb);
    net->n_listeners++;
    return rc == 0 ? 0 : listen_failed(url, rc, err);
}

/* ---- looking after them ---- */

static void sweep_conn(struct conn *c, uint64_t now)
{
    size_t queued = uv_stream_get_write_queue_size(&c->uv.stream);

    if (queued == 0 || queued < c->queued) {
        c->progress_ns = now;
    } else if (now - c->progress_ns > c->net->o.send_timeout_ms * 1000000u) {
        expel(c, "doesn't read its replies");
        return;
    }
    c->queued = queued;
    if (c->unfinished_ns != 0 && !c->paused && now - c->unfinished_ns > UNFINISHED_NS) {
        expel(c, "began a message and didn't end it");
    }
}

static void sweep_cb(uv_timer_t *t)
{
    struct mx_net *net = t->data;
    struct conn *c = net->conns;
    uint64_t now = uv_hrtime();

    while (c != NULL) {
        struct conn *next = c->next;
        sweep_conn(c, now);
        c = next;
    }
    resume_paused(net);
}

/* Runs once each turn of the loop: answers may have made room. */
static void prepare_cb(uv_prepare_t *p)
{
    struct mx_net *net = p->data;

    if (net->paused != NULL) {
        resume_paused(net);
    }
}

void mx_net_set_send_timeout(struct mx_net *net, uint64_t ms)
{
    net->o.send_timeout_ms = ms;
}

void mx_net_get_stats(const struct mx_net *net, struct mx_net_stats *ret)
{
    *ret = net->stats;
}

int mx_net_new(uv_loop_t *loop, const struct mx_net_options *o, struct mx_net **ret,
               struct mx_err *err)
{
    struct mx_net *net = calloc(1, sizeof *net);
    int rc;

    if (net == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for the network");
    }
    net->loop = loop;
    net->o = *o;
    net->paused_tail = &net->paused;
    if ((rc = uv_timer_init(loop, &net->sweep)) != 0 ||
        (rc = uv_timer_start(&net->sweep, sweep_cb, SWEEP_MS, SWEEP_MS)) != 0 ||
        (rc = uv_prepare_init(loop, &net->resume)) != 0 ||
        (rc = uv_prepare_start(&net->resume, prepare_cb)) != 0) {
        free(net);
        return mx_fail(err, MX_EIO, "timer: %s", uv_strerror(rc));
    }
    net->sweep.data = net;
    net->resume.data = net;
    *ret = net;
    return 0;
}

void mx_net_stop(struct mx_net *net)
{
    net->stopping = true;
    for (uint32_t i = 0; i < net->n_listeners; i++) {
        if (net->listeners[i].open) {
            net->listeners[i].open = false;
            uv_close(&net->listeners[i].uv.handle, NULL);
        }
    }
    for (struct conn *c = net->conns; c != NULL; c = c->next) {
        if (c->reading) {
            (void)uv_read_stop(&c->uv.stream);
            c->reading = false;
        }
    }
}
