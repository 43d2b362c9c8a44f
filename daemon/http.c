/* http.c - see http.h; the only file that knows libmicrohttpd. */
#include "daemon/http.h"

#include "daemon/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

struct mx_http {
    struct mx_daemon *d;
    struct MHD_Daemon *mhd;
    uv_poll_t poll;
    uv_timer_t timer;
};

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *type,
                             char *body, size_t n)
{
    struct MHD_Response *r;
    enum MHD_Result ok;

    if (body == NULL) {
        status = MHD_HTTP_SERVICE_UNAVAILABLE;
        type = "text/plain; charset=utf-8";
        body = strdup("out of memory\n");
        n = body != NULL ? strlen(body) : 0;
    }
    r = MHD_create_response_from_buffer(n, body, MHD_RESPMEM_MUST_FREE);
    if (r == NULL) {
        free(body);
        return MHD_NO;
    }
    (void)MHD_add_response_header(r, "Content-Type", type);
    (void)MHD_add_response_header(r, "Cache-Control", "no-store");
    (void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    (void)MHD_add_response_header(r, "Content-Security-Policy",
                                  "default-src 'none'; style-src 'unsafe-inline'");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        (void)MHD_add_response_header(r, "Allow", "GET, HEAD");
    }
    ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result plain(struct MHD_Connection *c, unsigned status, const char *text)
{
    char *copy = strdup(text);

    return reply(c, status, "text/plain; charset=utf-8", copy, copy != NULL ? strlen(copy) : 0);
}

static enum MHD_Result json(struct MHD_Connection *c, char *body, size_t n)
{
    return reply(c, MHD_HTTP_OK, "application/json", body, n);
}

static enum MHD_Result runs(struct mx_http *h, struct MHD_Connection *c)
{
    struct mx_jsonw w;
    size_t n = 0;
    char *body;

    mx_jsonw_init(&w, 64u << 20);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_array(&w, "runs");
    for (uint32_t i = 0; i < h->d->n_hosts; i++) {
        mx_stats_run_summary(h->d->hosts[i], &w, NULL);
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_end_object(&w);
    body = mx_jsonw_take(&w, &n);
    return json(c, body, n);
}

static enum MHD_Result route(struct mx_http *h, struct MHD_Connection *c, const char *path)
{
    char why[256];
    struct mx_host *run;
    size_t n = 0;
    char *body;

    if (strcmp(path, "/healthz") == 0) {
        bool ok = mx_healthy(h->d, why, sizeof why - 1);
        (void)strncat(why, "\n", sizeof why - strlen(why) - 1);
        return plain(c, ok ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, ok ? "ok\n" : why);
    }
    if (strcmp(path, "/") == 0) {
        body = mx_page(h->d, &n);
        return reply(c, MHD_HTTP_OK, "text/html; charset=utf-8", body, n);
    }
    if (strcmp(path, "/metrics") == 0) {
        body = mx_metrics(h->d, &n);
        return reply(c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", body, n);
    }
    if (strcmp(path, "/api/v1/stats") == 0) {
        body = mx_stats_daemon(h->d, &n);
        return json(c, body, n);
    }
    if (strcmp(path, "/api/v1/runs") == 0) {
        return runs(h, c);
    }
    if (strncmp(path, "/api/v1/runs/", 13) == 0) {
        run = mx_host_find(h->d, path + 13);
        if (run == NULL) {
            return plain(c, MHD_HTTP_NOT_FOUND, "no such run\n");
        }
        if (run->failed[0] != '\0') {
            return plain(c, MHD_HTTP_INTERNAL_SERVER_ERROR, run->failed);
        }
        body = mx_stats_run(run, &n);
        return json(c, body, n);
    }
    return plain(c, MHD_HTTP_NOT_FOUND, "not found; there are /, /api/v1/stats, /api/v1/runs, "
                 "/api/v1/runs/NAME, /metrics and /healthz\n");
}

static enum MHD_Result handle_cb(void *arg, struct MHD_Connection *c, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *data_n, void **state)
{
    static char seen; /* its address marks a request whose headers have been looked at */

    (void)version;
    (void)data;
    if (*state == NULL) {
        *state = &seen;
        return MHD_YES;
    }
    if (*data_n > 0) {
        *data_n = 0; /* a body is read and forgotten, so that the reply can be sent */
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        return plain(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    return route(arg, c, url);
}

/* ---- in the loop ---- */

static void run_mhd(struct mx_http *h);

static void timer_cb(uv_timer_t *t)
{
    run_mhd(t->data);
}

static void poll_cb(uv_poll_t *p, int status, int events)
{
    (void)status;
    (void)events;
    run_mhd(p->data);
}

static void run_mhd(struct mx_http *h)
{
    MHD_UNSIGNED_LONG_LONG ms;

    (void)MHD_run(h->mhd);
    if (MHD_get_timeout(h->mhd, &ms) == MHD_YES) {
        (void)uv_timer_start(&h->timer, timer_cb, ms, 0);
    } else {
        (void)uv_timer_stop(&h->timer);
    }
}

static void panic_cb(void *arg, const char *file, unsigned line, const char *reason)
{
    (void)arg;
    mx_log(MX_LOG_ERROR, "http.panic", "at=%s:%u reason=\"%s\"", file, line,
           reason != NULL ? reason : "");
    abort();
}

static int resolve(const char *address, struct sockaddr_storage *ret, socklen_t *ret_n,
                   struct mx_err *err)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list;
    size_t n = (size_t)(colon - address);
    int rc;

    if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
        address++;
        n -= 2;
    }
    (void)snprintf(host, sizeof host, "%.*s", (int)n, address);
    rc = getaddrinfo(host, colon + 1, &hints, &list);
    if (rc != 0) {
        return mx_fail(err, MX_EINVALID, "http %s: %s", address, gai_strerror(rc));
    }
    memcpy(ret, list->ai_addr, list->ai_addrlen);
    *ret_n = list->ai_addrlen;
    freeaddrinfo(list);
    return 0;
}

int mx_http_start(struct mx_daemon *d, const char *address, char *ret_address, size_t n,
                  struct mx_http **ret, struct mx_err *err)
{
    struct sockaddr_storage sa;
    socklen_t sa_n;
    struct mx_http *h = calloc(1, sizeof *h);
    const union MHD_DaemonInfo *info;
    int rc = h != NULL ? resolve(address, &sa, &sa_n, err)
                       : mx_fail(err, MX_ENOMEM, "no memory for HTTP");

    if (rc < 0) {
        free(h);
        return rc;
    }
    h->d = d;
    MHD_set_panic_func(panic_cb, NULL);
    h->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | (sa.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0), 0, NULL, NULL, handle_cb, h,
        MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&sa, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)d->config.http_connections, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)d->config.http_timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)32768,
        MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    info = h->mhd != NULL ? MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (info == NULL || uv_poll_init(&d->loop, &h->poll, info->epoll_fd) != 0 ||
        uv_timer_init(&d->loop, &h->timer) != 0) {
        return mx_fail(err, MX_EBUSY, "http %s: can't listen: %s", address, strerror(errno));
    }
    h->poll.data = h;
    h->timer.data = h;
    if (uv_poll_start(&h->poll, UV_READABLE, poll_cb) != 0) {
        return mx_fail(err, MX_EIO, "http %s: can't be polled", address);
    }
    info = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_BIND_PORT);
    (void)snprintf(ret_address, n, "%.*s:%u", (int)(strrchr(address, ':') - address), address,
                   info != NULL ? info->port : 0u);
    *ret = h;
    return 0;
}

void mx_http_stop(struct mx_http *h)
{
    (void)uv_poll_stop(&h->poll);
    (void)uv_timer_stop(&h->timer);
    MHD_stop_daemon(h->mhd);
}
