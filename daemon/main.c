/* main.c - the command line, the order of starting and the order of dying.
 *
 * Start: config, store lock, catalog, runs, threads, listeners, ready. Stop (SIGTERM, SIGINT):
 * take no new work, let what is in flight leave, commit, exit.
 * Stopping is an optimisation: a kill -9 at any instant loses nothing that was acknowledged. */
#include "daemon/daemon.h"
#include "daemon/fill.h"
#include "daemon/http.h"
#include "daemon/task.h"
#include "daemon/work.h"
#include "daemon/watch.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

const char *argp_program_version = "mixd " MIXD_VERSION;

static const struct argp_option options[] = {
    {"data", 'd', "DIR", 0, "the store's folder; made if there is none", 0},
    {"listen", 'l', "URL", 0, "tcp://HOST:PORT or ipc:///PATH; may be given several times; port 0 "
     "means any free one (default tcp://127.0.0.1:7117 and ipc://DIR/mixd.sock)", 0},
    {"http", 'H', "ADDR:PORT", 0, "stats and metrics (default 127.0.0.1:7118; off for none)", 0},
    {"config", 'c', "FILE", 0, "settings in JSON; the command line wins", 0},
    {"check-config", 'C', NULL, 0, "check the settings and exit", 0},
    {"ready-fd", 'r', "FD", 0, "write one line of JSON to this descriptor when ready", 0},
    {"insecure", 'I', NULL, 0, "allow addresses that other machines can reach", 0},
    {"log-level", 'v', "LEVEL", 0, "debug, info, warn or error", 0},
    {0},
};

struct arguments {
    struct mx_config given;    /* what the command line says */
    const char *config_path;
    bool check, has_http, has_level;
    int ready_fd;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    char *end;

    switch (key) {
    case 'd':
        if (arg[0] == '\0' || strlen(arg) >= sizeof a->given.data - 64) {
            argp_error(state, "--data: no folder, or too long a name");
        }
        (void)snprintf(a->given.data, sizeof a->given.data, "%s", arg);
        return 0;
    case 'l':
        if (a->given.n_listen == MX_LISTEN_MAX || strlen(arg) >= MX_PATH_MAX) {
            argp_error(state, "--listen: at most %d URLs", MX_LISTEN_MAX);
        }
        (void)snprintf(a->given.listen[a->given.n_listen++], MX_PATH_MAX, "%s", arg);
        return 0;
    case 'H':
        if (strlen(arg) >= sizeof a->given.http) {
            argp_error(state, "--http: too long");
        }
        (void)snprintf(a->given.http, sizeof a->given.http, "%s", arg);
        a->has_http = true;
        return 0;
    case 'c': a->config_path = arg; return 0;
    case 'C': a->check = true; return 0;
    case 'I': a->given.insecure = true; return 0;
    case 'r':
        a->ready_fd = (int)strtol(arg, &end, 10);
        if (*arg == '\0' || *end != '\0' || a->ready_fd < 0) {
            argp_error(state, "--ready-fd: \"%s\" is no descriptor", arg);
        }
        return 0;
    case 'v':
        if (mx_log_parse_level(arg, &a->given.log_level) < 0) {
            argp_error(state, "--log-level: \"%s\" is none of debug, info, warn, error", arg);
        }
        a->has_level = true;
        return 0;
    case ARGP_KEY_ARG: argp_error(state, "unexpected argument \"%s\"", arg); return EINVAL;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* Defaults, then the file, then the command line. */
static int make_config(const struct arguments *a, struct mx_config *ret, struct mx_err *err)
{
    int rc = 0;

    mx_config_defaults(ret);
    if (a->config_path != NULL) {
        rc = mx_config_read(a->config_path, ret, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (a->given.data[0] != '\0') {
        memcpy(ret->data, a->given.data, sizeof ret->data);
    }
    if (a->given.n_listen > 0) {
        memcpy(ret->listen, a->given.listen, sizeof ret->listen);
        ret->n_listen = a->given.n_listen;
    }
    if (a->has_http) {
        memcpy(ret->http, a->given.http, sizeof ret->http);
    }
    if (a->has_level) {
        ret->log_level = a->given.log_level;
    }
    ret->insecure |= a->given.insecure;
    return 0;
}

/* ---- signals and the tick ---- */

static void *watchdog_main(void *arg)
{
    (void)arg;
    (void)sleep(5);
    mx_log(MX_LOG_ERROR, "stop.hang", "exit=75");
    _exit(75); /* the stop itself hangs; durability never depended on it */
}

/* What was in flight has left, or had its time: commit and end. */
static void finish(struct mx_daemon *d)
{
    struct mx_fills_stats f;
    struct mx_net_stats n;

    mx_writer_stop(d->writer);
    mx_inbox_drain(&d->inbox);
    mx_fills_get_stats(d, &f);
    mx_net_get_stats(d->net, &n);
    if (f.filling == 0 && mx_tasks_running(d->tasks) == 0 && n.requests == 0) {
        mx_catalog_close(d->catalog); /* else threads that didn't end in time read it */
    }
    for (uint32_t i = 0; i < d->config.n_listen; i++) {
        if (strncmp(d->urls[i], "ipc://", 6) == 0) {
            (void)unlink(d->urls[i] + 6);
        }
    }
    mx_log(MX_LOG_INFO, "stopped", "why=\"%s\" exit=%d", d->stop_why, d->stop_code);
    mx_watch_end();
    _exit(d->stop_code);
}

static void drain_cb(uv_timer_t *t)
{
    struct mx_daemon *d = t->data;
    struct mx_fills_stats f;
    struct mx_writer_stats w;
    struct mx_net_stats n;

    mx_fills_get_stats(d, &f);
    mx_writer_get_stats(d->writer, &w);
    mx_net_get_stats(d->net, &n);
    if ((f.filling == 0 && mx_tasks_running(d->tasks) == 0 && w.queued == 0 && n.requests == 0 &&
         n.queued_bytes == 0) ||
        uv_hrtime() > d->stop_deadline_ns) {
        finish(d);
    }
}

static void stop(struct mx_daemon *d, const char *why, int code)
{
    pthread_t watchdog;
    pthread_attr_t attr;

    if (d->draining) {
        return;
    }
    d->draining = true;
    d->stop_code = code;
    d->stop_deadline_ns = uv_hrtime() + 2000000000u;
    (void)snprintf(d->stop_why, sizeof d->stop_why, "%s", why);
    mx_log(MX_LOG_INFO, "stop", "why=\"%s\"", why);
    if (pthread_attr_init(&attr) == 0 &&
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0) {
        (void)pthread_create(&watchdog, &attr, watchdog_main, NULL);
    }
    mx_logs_look(d, true);
    mx_ops_withdrawn(d);
    mx_tasks_stop(d->tasks);
    mx_works_stop(d->works);
    mx_net_stop(d->net);
    if (d->http != NULL) {
        mx_http_stop(d->http);
    }
    for (uint32_t i = 0; i < d->n_hosts; i++) {
        mx_host_sweep(d->hosts[i], UINT64_MAX); /* held requests are answered WAIT */
    }
    (void)uv_timer_stop(&d->tick);
    (void)uv_timer_start(&d->tick, drain_cb, 1, 2);
}

static void reload(struct mx_daemon *d)
{
    struct mx_config fresh = d->config;
    struct mx_err err;

    if (d->config_path == NULL) {
        mx_log(MX_LOG_WARN, "config.reload", "text=\"started without --config: nothing to read\"");
        return;
    }
    if (mx_config_read(d->config_path, &fresh, &err) < 0) {
        mx_log(MX_LOG_ERROR, "config.reload", "error=\"%s\" effect=\"nothing changed\"", err.text);
        return;
    }
    mx_config_reload(&d->config, &fresh);
    mx_net_set_send_timeout(d->net, d->config.send_timeout_ms);
    mx_log(MX_LOG_INFO, "config.reload", "file=%s", d->config_path);
}

static void signal_cb(uv_signal_t *s, int number)
{
    struct mx_daemon *d = s->data;

    if (number == SIGHUP) {
        reload(d);
    } else {
        stop(d, number == SIGTERM ? "SIGTERM" : "SIGINT", 0);
    }
}

/* Other processes ingest into the catalog. When a commit of ours has failed that has been said
 * once, and LMDB may refuse to read. */
static void look_at_catalog(struct mx_daemon *d)
{
    uint64_t generation;
    struct mx_writer_stats w;
    struct mx_err err;

    mx_writer_get_stats(d->writer, &w);
    if (w.broken != 0) {
        return;
    }
    if (mx_catalog_generation(d->catalog, &generation, &err) < 0) {
        mx_log(MX_LOG_ERROR, "catalog.read", "error=\"%s\"", err.text);
    } else if (generation != d->generation) {
        d->generation = generation;
        mx_log(MX_LOG_INFO, "catalog.changed", "generation=%" PRIu64, generation);
        d->lagging = true;
    }
}

static void tick_cb(uv_timer_t *t)
{
    struct mx_daemon *d = t->data;
    uint64_t now = uv_hrtime();

    for (uint32_t i = 0; i < d->n_hosts; i++) {
        mx_host_sweep(d->hosts[i], now);
        mx_outlook_tick(d->hosts[i]);
    }
    mx_fills_sweep(d, now);
    mx_logs_look(d, false);
    look_at_catalog(d);
    if (d->lagging) {
        mx_sync(d);
    }
    mx_watch_tick(d, now);
}

/* ---- starting ---- */

static int start_threads(struct mx_daemon *d, struct mx_err *err)
{
    struct mx_net_options net = {
        .connections = (uint32_t)d->config.connections,
        .requests = (uint32_t)d->config.requests,
        .requests_per_peer = (uint32_t)d->config.requests_per_peer,
        .queue_bytes = d->config.queue_mib << 20,
        .send_timeout_ms = d->config.send_timeout_ms,
        .on_request = mx_serve_request, .arg = d,
    };
    int rc;

    if ((rc = mx_inbox_init(&d->inbox, &d->loop, err)) < 0 ||
        (rc = mx_net_new(&d->loop, &net, &d->net, err)) < 0 ||
        (rc = mx_writer_start(d->journal, &d->inbox, &d->writer, err)) < 0) {
        return rc;
    }
    d->replies = mx_reply_pool_new();
    if (d->replies == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for replies");
    }
    d->tasks = mx_tasks_new(&d->inbox);
    d->works = mx_works_new(&d->inbox);
    d->logs = mx_logs_new(d);
    if (d->tasks == NULL || d->works == NULL || d->logs == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for tasks");
    }
    return mx_fills_new(d, &d->fills, err);
}

static int start_signals(struct mx_daemon *d, struct mx_err *err)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    int rc;

    for (int i = 0; i < 3; i++) {
        if ((rc = uv_signal_init(&d->loop, &d->signals[i])) != 0 ||
            (rc = uv_signal_start(&d->signals[i], signal_cb, numbers[i])) != 0) {
            return mx_fail(err, MX_EIO, "signal: %s", uv_strerror(rc));
        }
        d->signals[i].data = d;
    }
    if ((rc = uv_timer_init(&d->loop, &d->tick)) != 0 ||
        (rc = uv_timer_start(&d->tick, tick_cb, 200, 200)) != 0) {
        return mx_fail(err, MX_EIO, "timer: %s", uv_strerror(rc));
    }
    d->tick.data = d;
    return 0;
}

static int listen_all(struct mx_daemon *d, struct mx_err *err)
{
    int rc;

    for (uint32_t i = 0; i < d->config.n_listen; i++) {
        rc = mx_net_listen(d->net, d->config.listen[i], d->urls[i], sizeof d->urls[i], err);
        if (rc < 0) {
            return rc;
        }
        mx_log(MX_LOG_INFO, "listen", "url=%s", d->urls[i]);
    }
    (void)snprintf(d->http_address, sizeof d->http_address, "off");
    if (strcmp(d->config.http, "off") != 0) {
        rc = mx_http_start(d, d->config.http, d->http_address, sizeof d->http_address, &d->http,
                           err);
        if (rc < 0) {
            return rc;
        }
        mx_log(MX_LOG_INFO, "listen", "url=http://%s/", d->http_address);
    }
    return 0;
}

/* One line of JSON for whoever started us. */
static void tell_ready(struct mx_daemon *d)
{
    struct mx_jsonw w;
    size_t n;
    char *json;

    mx_log(MX_LOG_INFO, "ready", "pid=%d runs=%" PRIu32 " start_ms=%" PRIu64, (int)getpid(),
           d->n_hosts, (uv_hrtime() - d->started_ns) / 1000000u);
    if (d->ready_fd < 0) {
        return;
    }
    mx_jsonw_init(&w, 1u << 20);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_array(&w, "listen");
    for (uint32_t i = 0; i < d->config.n_listen; i++) {
        mx_jsonw_string(&w, NULL, d->urls[i]);
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_string(&w, "http", d->http_address);
    mx_jsonw_u64(&w, "pid", (uint64_t)getpid());
    mx_jsonw_end_object(&w);
    json = mx_jsonw_take(&w, &n);
    if (json == NULL || dprintf(d->ready_fd, "%s\n", json) < 0) {
        mx_log(MX_LOG_WARN, "ready", "error=\"can't write to descriptor %d\"", d->ready_fd);
    }
    free(json);
    (void)close(d->ready_fd);
    d->ready_fd = -1;
}

static int start(struct mx_daemon *d, struct mx_err *err)
{
    char fillers[16], path[MX_PATH_MAX + 16];
    int rc;

    d->started_ns = uv_hrtime();
    (void)snprintf(fillers, sizeof fillers, "%" PRIu64, d->config.fillers);
    if (setenv("UV_THREADPOOL_SIZE", fillers, 1) != 0 || (rc = uv_loop_init(&d->loop)) != 0) {
        return mx_fail(err, MX_ENOMEM, "the event loop can't start");
    }
    (void)signal(SIGPIPE, SIG_IGN);
    /* Replies come and go by the thousand: from the heap, which is kept, and not from fresh pages
     * that the kernel must clear each time. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
    if ((rc = mx_catalog_open(d->config.data, true, &d->catalog, err)) < 0 ||
        (rc = mx_store_lock(d->config.data, &d->lock_fd, err)) < 0) {
        return rc;
    }
    d->journal = mx_journal_of_catalog(d->catalog);
    (void)snprintf(path, sizeof path, "%s/shards", d->config.data);
    if ((rc = mx_shardset_new(path, (uint32_t)d->config.open_shards, d->config.cache_mib << 20,
                              &d->shards, err)) < 0 ||
        (rc = mx_catalog_generation(d->catalog, &d->generation, err)) < 0 ||
        (rc = start_threads(d, err)) < 0 || (rc = mx_hosts_load(d, err)) < 0 ||
        (rc = start_signals(d, err)) < 0 || (rc = listen_all(d, err)) < 0) {
        return rc;
    }
    mx_sync(d);
    mx_watch_start(d);
    tell_ready(d);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        options, parse_option, NULL,
        "Holds domains of training text, mixes them into batches, serves the batches to trainers "
        "and shifts the mix from the losses that they report.", NULL, NULL, NULL};
    static struct mx_daemon daemon; /* too large for a stack; hangs from nothing else */
    static struct arguments a = {.ready_fd = -1};
    struct mx_daemon *d = &daemon;
    struct mx_err err = {0};
    int rc;

    if (argp_parse(&argp, argc, argv, 0, NULL, &a) != 0) {
        return 2;
    }
    rc = make_config(&a, &d->config, &err);
    if (rc == 0) {
        mx_log_set_level(d->config.log_level);
        rc = mx_config_finish(&d->config, &err);
    }
    if (rc < 0) {
        (void)fprintf(stderr, "mixd: %s\n", err.text);
        return 1;
    }
    if (a.check) {
        (void)printf("mixd: the settings are good\n");
        return 0;
    }
    d->config_path = a.config_path;
    d->ready_fd = a.ready_fd;
    rc = start(d, &err);
    if (rc < 0) {
        (void)fprintf(stderr, "mixd: %s\n", err.text);
        _exit(1); /* threads may run: no orderly way out, nothing to lose */
    }
    (void)uv_run(&d->loop, UV_RUN_DEFAULT);
    MX_UNREACHABLE("the loop ended by itself");
}
