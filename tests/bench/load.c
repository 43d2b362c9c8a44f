/* load.c - see load.h. The only file of the benchmark that knows nng. */
#include "load.h"

#include "proto/err.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec t;

    MX_REQUIRE(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#define SAMPLES_MAX (4u << 20)

struct load {
    size_t (*request)(void *arg, uint64_t n, uint8_t *buf, size_t cap);
    int (*check)(void *arg, const uint8_t *reply, size_t size);
    void *arg;
    uint64_t end_ns;
    pthread_mutex_t lock; /* all below */
    pthread_cond_t done;
    uint64_t next, replies, bytes, bad;
    unsigned running;
    uint32_t *samples;    /* latencies in ns, capped at 4 s */
};

struct slot {
    struct load *l;
    nng_ctx ctx;
    nng_aio *aio;
    uint64_t sent_ns;
    int receiving;
};

static void send_next(struct slot *s)
{
    uint8_t buf[4096];
    uint64_t n;
    size_t size;
    nng_msg *m;

    pthread_mutex_lock(&s->l->lock);
    n = s->l->next++;
    pthread_mutex_unlock(&s->l->lock);
    size = s->l->request(s->l->arg, n, buf, sizeof buf);
    MX_REQUIRE(nng_msg_alloc(&m, 0) == 0 && nng_msg_append(m, buf, size) == 0);
    nng_aio_set_msg(s->aio, m);
    s->receiving = 0;
    s->sent_ns = now_ns();
    nng_ctx_send(s->ctx, s->aio);
}

static void slot_cb(void *arg)
{
    struct slot *s = arg;
    struct load *l = s->l;
    uint64_t now, took;
    nng_msg *m;
    int good;

    MX_REQUIRE(nng_aio_result(s->aio) == 0);
    if (!s->receiving) {
        s->receiving = 1;
        nng_ctx_recv(s->ctx, s->aio);
        return;
    }
    now = now_ns();
    m = nng_aio_get_msg(s->aio);
    good = l->check(l->arg, nng_msg_body(m), nng_msg_len(m));
    took = now - s->sent_ns;
    pthread_mutex_lock(&l->lock);
    if (l->replies < SAMPLES_MAX) {
        l->samples[l->replies] = took < 4000000000u ? (uint32_t)took : 4000000000u;
    }
    l->replies++;
    l->bad += !good;
    l->bytes += nng_msg_len(m);
    if (now >= l->end_ns) {
        l->running--;
        pthread_cond_signal(&l->done);
        pthread_mutex_unlock(&l->lock);
        nng_msg_free(m);
        return;
    }
    pthread_mutex_unlock(&l->lock);
    nng_msg_free(m);
    send_next(s);
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

void load_run(const char *url, unsigned inflight, double seconds,
              size_t (*request)(void *arg, uint64_t n, uint8_t *buf, size_t cap),
              int (*check)(void *arg, const uint8_t *reply, size_t size), void *arg,
              struct load_result *ret)
{
    struct load l = {.request = request, .check = check, .arg = arg, .running = inflight};
    struct slot slots[64] = {0};
    nng_socket sock;
    uint64_t start;
    size_t n;

    MX_REQUIRE(inflight <= 64);
    l.samples = malloc(SAMPLES_MAX * sizeof *l.samples);
    MX_REQUIRE(l.samples != NULL && pthread_mutex_init(&l.lock, NULL) == 0 &&
               pthread_cond_init(&l.done, NULL) == 0);
    MX_REQUIRE(nng_req0_open(&sock) == 0 && nng_dial(sock, url, NULL, 0) == 0);
    start = now_ns();
    l.end_ns = start + (uint64_t)(seconds * 1e9);
    for (unsigned i = 0; i < inflight; i++) {
        slots[i].l = &l;
        MX_REQUIRE(nng_ctx_open(&slots[i].ctx, sock) == 0 &&
                   nng_aio_alloc(&slots[i].aio, slot_cb, &slots[i]) == 0);
        send_next(&slots[i]);
    }
    pthread_mutex_lock(&l.lock);
    while (l.running > 0) {
        pthread_cond_wait(&l.done, &l.lock);
    }
    pthread_mutex_unlock(&l.lock);
    seconds = (double)(now_ns() - start) / 1e9;
    for (unsigned i = 0; i < inflight; i++) {
        nng_aio_stop(slots[i].aio);
        nng_aio_free(slots[i].aio);
    }
    MX_REQUIRE(nng_close(sock) == 0); /* idle: nothing is in flight */
    n = l.replies < SAMPLES_MAX ? l.replies : SAMPLES_MAX;
    qsort(l.samples, n, sizeof *l.samples, by_value);
    ret->replies = l.replies;
    ret->bad = l.bad;
    ret->per_s = (double)l.replies / seconds;
    ret->bytes_per_s = (double)l.bytes / seconds;
    ret->p50_us = l.samples[n / 2] / 1e3;
    ret->p99_us = l.samples[n * 99 / 100] / 1e3;
    free(l.samples);
}

/* ---- the bare pair's other end ---- */

struct bare {
    nng_ctx ctx;
    nng_aio *aio;
    int sending;
    size_t size;
    const uint8_t *bytes;
};

static void bare_cb(void *arg)
{
    struct bare *b = arg;
    nng_msg *m;

    if (nng_aio_result(b->aio) != 0) {
        return; /* the benchmark is over */
    }
    if (b->sending) {
        b->sending = 0;
        nng_ctx_recv(b->ctx, b->aio);
        return;
    }
    nng_msg_free(nng_aio_get_msg(b->aio));
    MX_REQUIRE(nng_msg_alloc(&m, b->size) == 0);
    memcpy(nng_msg_body(m), b->bytes, b->size);
    nng_aio_set_msg(b->aio, m);
    b->sending = 1;
    nng_ctx_send(b->ctx, b->aio);
}

static void bare_main(const char *url, size_t size, unsigned contexts, int fd)
{
    uint8_t *bytes = malloc(size);
    struct bare *b = calloc(contexts, sizeof *b);
    nng_socket sock;
    nng_listener l;
    int port = 0;

    MX_REQUIRE(bytes != NULL && b != NULL);
    memset(bytes, 'x', size);
    MX_REQUIRE(nng_rep0_open(&sock) == 0 && nng_listen(sock, url, &l, 0) == 0);
    for (unsigned i = 0; i < contexts; i++) {
        b[i].size = size;
        b[i].bytes = bytes;
        MX_REQUIRE(nng_ctx_open(&b[i].ctx, sock) == 0 &&
                   nng_aio_alloc(&b[i].aio, bare_cb, &b[i]) == 0);
        nng_ctx_recv(b[i].ctx, b[i].aio);
    }
    (void)nng_listener_get_int(l, NNG_OPT_TCP_BOUND_PORT, &port);
    MX_REQUIRE(write(fd, &port, sizeof port) == (ssize_t)sizeof port);
    for (;;) {
        (void)pause();
    }
}

int load_bare_server(const char *url, size_t size, unsigned contexts, char *ret_url, size_t n)
{
    int fds[2], port, pid;

    MX_REQUIRE(pipe(fds) == 0);
    pid = fork(); /* before this process has started any nng thread of its own */
    MX_REQUIRE(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        bare_main(url, size, contexts, fds[1]);
    }
    MX_REQUIRE(read(fds[0], &port, sizeof port) == (ssize_t)sizeof port);
    (void)snprintf(ret_url, n, "%.*s:%d", (int)(strrchr(url, ':') - url), url, port);
    return pid;
}
