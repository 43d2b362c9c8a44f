/* peer.c - see peer.h.
 *
 * nng can't be used across a fork, so a process that forks peers on demand is forked before the
 * first use of nng. What a peer knows lies in memory shared by all of them; its lock is held while
 * it is killed, so that it never dies with the lock taken. */
#include "tests/client/peer.h"

#include <errno.h>
#include <inttypes.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PEERS 64

struct peer {
    pthread_mutex_t lock;
    sem_t listening;
    struct peer_knobs knobs;
    pid_t pid;
    char url[160], listen[160];
    uint64_t posted[1024]; /* steps of posts seen */
    size_t entries_posted[1024];
    uint32_t n_posted;
    uint8_t out[MX_REPLY_MAX];
};

/* A test program's; the only state that isn't in a fixture, as peers are forked from it. */
static struct {
    struct peer *peers; /* shared memory */
    unsigned used;
    int sock; /* to the process that forks */
} farm;

/* Peers end with the process that made them; that one ends with the test. */
static void die_with_parent(void)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
}

uint32_t peer_token(uint64_t step, uint32_t slot, uint32_t place, uint32_t width)
{
    uint64_t x = (step + 1) * 0x9e3779b97f4a7c15u ^ (slot + 1) * 0xc2b2ae3d27d4eb4fu ^
                 (place + 1) * 0x165667b19e3779f9u;

    x ^= x >> 29;
    return (uint32_t)(x & (width == 2 ? 0xffff : 0xffffffff));
}

bool peer_starts(uint32_t slot, uint32_t place)
{
    return (place + slot) % 7 == 3;
}

static void write_trouble(struct mx_writer *w, uint16_t type, uint64_t id, uint32_t status,
                          uint32_t wait_ms, const char *text)
{
    mx_frame_begin(w, type | MX_REPLY_BIT, status, id);
    mx_trouble_encode(w, &(struct mx_trouble){.wait_ms = wait_ms,
                                              .text = {(const uint8_t *)text, strlen(text)},
                                              .next = 5,
                                              .has_next = status == MX_STATUS_SKIPPED});
}

/* The gap that a step lies in says where it ends; false if it is in none. */
static bool write_skipped(const struct peer_knobs *k, const struct mx_batch_request *q,
                          const struct mx_header *h, struct mx_writer *w)
{
    for (size_t i = 0; i < sizeof k->gaps / sizeof k->gaps[0]; i++) {
        if (q->step >= k->gaps[i].from && q->step < k->gaps[i].to) {
            mx_frame_begin(w, h->type | MX_REPLY_BIT, MX_STATUS_SKIPPED, h->id);
            mx_trouble_encode(w, &(struct mx_trouble){.text = {(const uint8_t *)"bad data", 8},
                                                      .next = k->gaps[i].to,
                                                      .has_next = true});
            return true;
        }
    }
    return false;
}

/* Part i of the run. */
static struct mx_part_entry part_at(const struct peer_knobs *k, uint32_t i)
{
    return k->n_parts > 0 ? k->parts[i]
                          : (struct mx_part_entry){.batch_size = k->batch_size,
                                                   .seq_len = k->seq_len,
                                                   .slots_per_reply = k->slots_per_reply};
}

static struct mx_part_entry part_of(const struct peer_knobs *k, uint64_t step)
{
    uint32_t i = 0;

    while (i + 1 < k->n_parts && k->parts[i + 1].from_step <= step) {
        i++;
    }
    return part_at(k, i);
}

/* Name i of all: of the domains, then of each set and its members. */
static void name_at(const struct peer_knobs *k, uint32_t i, char *name, size_t n)
{
    uint32_t set = 0;

    if (i < k->domains) {
        (void)snprintf(name, n, "domain-%" PRIu32, i);
        return;
    }
    for (i -= k->domains; i > k->eval_sizes[set]; set++) {
        i -= 1 + k->eval_sizes[set];
    }
    if (i == 0) {
        (void)snprintf(name, n, "set-%" PRIu32, set);
    } else {
        (void)snprintf(name, n, "member-%" PRIu32, i - 1);
    }
}

static void answer_attach(const struct peer_knobs *k, const struct mx_attach_request *q,
                          const struct mx_header *h, struct mx_writer *w)
{
    uint32_t names = k->domains, last;

    for (uint32_t i = 0; i < k->n_evals; i++) {
        names += 1 + k->eval_sizes[i];
    }
    last = k->names_per_page > 0 && q->name_first + k->names_per_page < names
               ? q->name_first + k->names_per_page
               : names;
    mx_frame_begin(w, MX_MSG_ATTACH | MX_REPLY_BIT, MX_STATUS_OK, h->id);
    mx_attach_reply_encode(w, &(struct mx_attach_reply){.run = 5,
                                                        .frontier = 3,
                                                        .end_step = k->end_step,
                                                        .mix_version = 7,
                                                        .batch_size = k->batch_size,
                                                        .seq_len = k->seq_len,
                                                        .width = k->width,
                                                        .eod = 256,
                                                        .slots_per_reply = k->slots_per_reply,
                                                        .max_ahead = 16,
                                                        .domain_count = k->domains,
                                                        .eval_set_count = k->n_evals,
                                                        .name_count = names,
                                                        .name_first = q->name_first,
                                                        .part_count =
                                                            k->n_parts > 0 ? k->n_parts : 1,
                                                        .tables = {(const uint8_t *)"", 0}});
    for (uint32_t i = 0; i == 0 || i < k->n_parts; i++) {
        struct mx_part_entry part = part_at(k, i);

        mx_part_encode(w, &part);
    }
    for (uint32_t i = 0; i < k->n_evals; i++) {
        mx_write_u32(w, k->eval_sizes[i]);
    }
    for (uint32_t i = q->name_first; i < last; i++) {
        char name[32];
        name_at(k, i, name, sizeof name);
        mx_write_str(w, name, strlen(name));
    }
}

static void answer_batch(const struct peer_knobs *k, const struct mx_batch_request *q,
                         const struct mx_header *h, struct mx_writer *w)
{
    struct mx_part_entry part = part_of(k, q->step);
    struct mx_batch_reply m = {
        .step = q->step,
        .mix_version = q->step >= k->version_step ? 8 : 7,
        .run = q->run,
        .slot_first = q->slot_first,
        .slot_count = q->slot_count,
        .token_first = q->token_first,
        .token_count = part.seq_len - q->token_first,
        .width = k->width,
        .batch_size = part.batch_size,
        .seq_len = part.seq_len,
        .tables = {(const uint8_t *)"", 0},
    };
    struct mx_batch_layout at;
    uint32_t bounds[4096] = {0};
    uint8_t *p;
    size_t n;

    m.slot_count = k->slots_max > 0 && m.slot_count > k->slots_max ? k->slots_max : m.slot_count;
    if (k->tokens_max > 0) {
        uint32_t left = part.seq_len - q->token_first;
        m.slot_count = 1;
        m.token_count = left < k->tokens_max ? left : k->tokens_max;
    }
    for (uint32_t i = 0; i < m.slot_count; i++) {
        for (uint32_t t = m.token_first; t < m.token_first + m.token_count; t++) {
            bounds[i] += peer_starts(m.slot_first + i, t);
        }
        m.bound_count += bounds[i];
    }
    mx_batch_layout(m.slot_count, m.bound_count, m.token_count, m.width, k->weights, &at);
    m.tokens_at = (uint32_t)at.tokens;
    m.weights_at = (uint32_t)at.weights;
    m.flags = (k->weights ? MX_BATCH_WEIGHTS : 0) |
              (k->eval_step > 0 && k->eval_step == q->step ? MX_BATCH_EVAL_WANTED : 0);
    mx_frame_begin(w, MX_MSG_BATCH | MX_REPLY_BIT, MX_STATUS_OK, h->id);
    mx_batch_reply_encode(w, &m);
    n = at.bytes - mx_writer_len(w);
    p = mx_write_room(w, n);
    if (p == NULL) {
        abort();
    }
    memset(p, 0, n);
    p = w->base;
    n = at.starts;
    for (uint32_t i = 0; i < m.slot_count; i++) {
        uint32_t slot = m.slot_first + i;

        mx_store_u64(p + at.samples + 8 * i, q->step * 1000 + slot);
        mx_store_u32(p + at.domains + 4 * i, k->swap_domain ? k->swap_domain : slot % k->domains);
        mx_store_u32(p + at.epochs + 4 * i, (uint32_t)(q->step % 3));
        mx_store_u32(p + at.bounds + 4 * i, bounds[i]);
        if (k->weights) {
            mx_store_f32(p + at.weights + 4 * i, (float)slot / 4);
        }
        for (uint32_t t = m.token_first; t < m.token_first + m.token_count; t++) {
            size_t to = at.tokens + ((size_t)i * m.token_count + t - m.token_first) * m.width;
            uint32_t token = peer_token(q->step, slot, t, m.width);

            p[to] = (uint8_t)token;
            p[to + 1] = (uint8_t)(token >> 8);
            if (m.width == 4) {
                mx_store_u32(p + to, token);
            }
            if (peer_starts(slot, t)) {
                mx_store_u32(p + n, t);
                n += 4;
            }
        }
    }
}

static void answer_feedback(struct peer *p, const struct mx_feedback_request *q,
                            const struct mx_header *h, struct mx_writer *w)
{
    struct peer_knobs *k = &p->knobs;
    struct mx_feedback_reply m = {.entry = p->n_posted, .text = {(const uint8_t *)"", 0}};
    struct mx_sections s;

    k->post = *q;
    if (mx_sections_decode(q->sections, &s, NULL) < 0 || s.train.n > 64) {
        write_trouble(w, h->type, h->id, MX_STATUS_BAD_REQUEST, 0, "no train section");
        return;
    }
    k->n_entries = s.train.n;
    k->n_sections = q->sections.n <= sizeof k->sections ? q->sections.n : 0;
    memcpy(k->sections, q->sections.p, k->n_sections);
    for (uint32_t i = 0; i < s.train.n; i++) {
        mx_train_get(&s.train, i, &k->entries[i]);
        if (k->entries[i].loss_sum < 0) {
            m.quarantined++;
            m.text = (struct mx_span){(const uint8_t *)"a negative loss", 15};
        }
    }
    for (uint32_t i = 0; i < p->n_posted; i++) {
        if (p->posted[i] == q->step) {
            m.outcome =
                k->n_entries == p->entries_posted[i] ? MX_FEEDBACK_DUPLICATE : MX_FEEDBACK_DIVERGED;
        }
    }
    if (m.outcome == MX_FEEDBACK_ACCEPTED && p->n_posted < 1024) {
        p->entries_posted[p->n_posted] = k->n_entries;
        p->posted[p->n_posted++] = q->step;
    }
    mx_frame_begin(w, MX_MSG_FEEDBACK | MX_REPLY_BIT, MX_STATUS_OK, h->id);
    mx_feedback_reply_encode(w, &m);
}

static void answer_text(const struct mx_header *h, const char *text, struct mx_writer *w)
{
    mx_frame_begin(w, h->type | MX_REPLY_BIT, MX_STATUS_OK, h->id);
    mx_write_bytes(w, text, strlen(text));
}

/* The reply's body for a well-formed request; -1 if it isn't one. */
static int answer_ok(struct peer *p, const struct mx_header *h, const uint8_t *body, size_t n,
                     struct mx_writer *w)
{
    struct peer_knobs *k = &p->knobs;
    union {
        struct mx_hello_request hello;
        struct mx_attach_request attach;
        struct mx_batch_request batch;
        struct mx_feedback_request feedback;
        struct mx_control_request control;
        struct mx_stats_request stats;
    } q;

    switch (h->type) {
    case MX_MSG_HELLO:
        if (mx_hello_request_decode(body, n, &q.hello, NULL) < 0) {
            return -1;
        }
        (void)snprintf(k->client, sizeof k->client, "%.*s", (int)q.hello.client.n,
                       (const char *)q.hello.client.p);
        mx_frame_begin(w, MX_MSG_HELLO | MX_REPLY_BIT, MX_STATUS_OK, h->id);
        mx_hello_reply_encode(
            w, &(struct mx_hello_reply){.version = MX_PROTOCOL_VERSION,
                                        .reply_max = MX_REPLY_MAX,
                                        .store = k->store,
                                        .server = {(const uint8_t *)"peer", 4}});
        return 0;
    case MX_MSG_ATTACH:
        if (mx_attach_request_decode(body, n, &q.attach, NULL) < 0) {
            return -1;
        }
        answer_attach(k, &q.attach, h, w);
        return 0;
    case MX_MSG_BATCH:
        if (mx_batch_request_decode(body, n, &q.batch, NULL) < 0) {
            return -1;
        }
        k->oldest_seen = q.batch.oldest;
        k->largest_ask = q.batch.slot_count > k->largest_ask ? q.batch.slot_count : k->largest_ask;
        if (q.batch.step < PEER_ASKED) {
            k->asked[q.batch.step]++;
        }
        if (q.batch.step >= k->end_step) {
            write_trouble(w, h->type, h->id, MX_STATUS_END, 0, "the run has ended");
        } else if (q.batch.step >= k->hold_from && q.batch.step < k->hold_to) {
            write_trouble(w, h->type, h->id, MX_STATUS_WAIT, 5, "too far ahead");
        } else if (!write_skipped(k, &q.batch, h, w)) {
            answer_batch(k, &q.batch, h, w);
        }
        return 0;
    case MX_MSG_FEEDBACK:
        if (mx_feedback_request_decode(body, n, &q.feedback, NULL) < 0) {
            return -1;
        }
        answer_feedback(p, &q.feedback, h, w);
        return 0;
    case MX_MSG_CONTROL:
        (void)snprintf(k->control, sizeof k->control, "%.*s", (int)n, (const char *)body);
        answer_text(h, "{\"done\":true}", w);
        return 0;
    case MX_MSG_STATS:
        if (mx_stats_request_decode(body, n, &q.stats, NULL) < 0) {
            return -1;
        }
        answer_text(h, q.stats.run.n > 0 ? "{\"run\":1}" : "{\"all\":1}", w);
        return 0;
    default: return -1;
    }
}

/* The reply's bytes in p->out, or 0 for none. */
static size_t answer(struct peer *p, const uint8_t *frame, size_t n)
{
    struct peer_knobs *k = &p->knobs;
    struct mx_header h = {0};
    struct mx_writer w;
    unsigned t;

    mx_writer_init(&w, p->out, sizeof p->out);
    if (mx_header_decode(frame, n, &h, NULL) < 0 || h.type > 6) {
        fprintf(stderr, "peer: a request that is none\n");
        abort();
    }
    t = h.type;
    k->requests[t]++;
    if (k->mute) {
        return 0;
    }
    if (k->on[t].lose > 0) {
        k->on[t].lose--;
        /* A post is taken in, only the reply is lost. */
        (void)answer_ok(p, &h, frame + MX_HEADER_BYTES, h.length, &w);
        return 0;
    }
    if (k->on[t].put_off > 0) {
        k->on[t].put_off--;
        write_trouble(&w, h.type, h.id, k->on[t].put_off_status, k->on[t].wait_ms, "not now");
    } else if (k->on[t].refuse_status != MX_STATUS_OK) {
        write_trouble(&w, h.type, h.id, k->on[t].refuse_status, 0, k->on[t].text);
    } else if (answer_ok(p, &h, frame + MX_HEADER_BYTES, h.length, &w) < 0) {
        fprintf(stderr, "peer: a %s request that doesn't decode\n", mx_message_name(h.type));
        abort();
    }
    n = mx_frame_end(&w);
    if (n == 0) {
        abort();
    }
    if (k->mangle != NULL) {
        k->mangle(&h, p->out, &n);
    }
    return n;
}

/* A peer's process: listens, and serves until it is killed. */
static void serve(struct peer *p)
{
    nng_socket sock;
    nng_listener listener;
    int port;

    if (nng_rep0_open(&sock) != 0 || nng_socket_set_ms(sock, NNG_OPT_SENDTIMEO, 500) != 0 ||
        nng_listen(sock, p->listen, &listener, 0) != 0) {
        fprintf(stderr, "peer: can't listen on %s\n", p->listen);
        _exit(1);
    }
    (void)snprintf(p->url, sizeof p->url, "%s", p->listen);
    if (strncmp(p->listen, "tcp:", 4) == 0) {
        if (nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) != 0) {
            _exit(1);
        }
        (void)snprintf(p->url, sizeof p->url, "tcp://127.0.0.1:%d", port);
    }
    (void)sem_post(&p->listening);
    for (;;) {
        nng_msg *m;
        nng_msg *reply = NULL;
        size_t n;

        if (nng_recvmsg(sock, &m, 0) != 0) {
            continue;
        }
        (void)pthread_mutex_lock(&p->lock);
        n = answer(p, nng_msg_body(m), nng_msg_len(m));
        if (n > 0 && nng_msg_alloc(&reply, n) == 0) {
            memcpy(nng_msg_body(reply), p->out, n);
        }
        (void)pthread_mutex_unlock(&p->lock);
        nng_msg_free(m);
        if (reply != NULL && nng_sendmsg(sock, reply, 0) != 0) {
            nng_msg_free(reply);
        }
    }
}

/* What the forking process is asked for: a peer made (by its number) or killed (negative pid). */
static void fork_on_demand(int sock)
{
    int32_t want;

    while (read(sock, &want, sizeof want) == (ssize_t)sizeof want) {
        int32_t done = 0;

        if (want < 0) {
            (void)kill(-want, SIGKILL);
            (void)waitpid(-want, NULL, 0);
        } else {
            done = fork();
            if (done == 0) {
                (void)close(sock);
                die_with_parent();
                serve(&farm.peers[want]);
            }
        }
        if (write(sock, &done, sizeof done) != (ssize_t)sizeof done) {
            break;
        }
    }
    _exit(0);
}

static int32_t ask(int32_t want)
{
    int32_t done;

    if (write(farm.sock, &want, sizeof want) != (ssize_t)sizeof want ||
        read(farm.sock, &done, sizeof done) != (ssize_t)sizeof done || done < 0) {
        abort();
    }
    return done;
}

void peer_init(void)
{
    int pair[2];
    pid_t pid;

    farm.peers = mmap(NULL, PEERS * sizeof *farm.peers, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (farm.peers == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0 ||
        (pid = fork()) < 0) {
        abort();
    }
    if (pid == 0) {
        (void)close(pair[0]);
        die_with_parent();
        fork_on_demand(pair[1]);
    }
    (void)close(pair[1]);
    farm.sock = pair[0];
}

void peer_revive(struct peer *p)
{
    p->pid = (pid_t)ask((int32_t)(p - farm.peers));
    while (sem_wait(&p->listening) != 0 && errno == EINTR) {
    }
}

struct peer *peer_new(const char *path)
{
    struct peer *p = &farm.peers[farm.used++];
    pthread_mutexattr_t attr;

    if (farm.used > PEERS || pthread_mutexattr_init(&attr) != 0 ||
        pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) != 0 ||
        pthread_mutex_init(&p->lock, &attr) != 0 || sem_init(&p->listening, 1, 0) != 0) {
        abort();
    }
    (void)pthread_mutexattr_destroy(&attr);
    p->knobs = (struct peer_knobs){
        .batch_size = 8,
        .seq_len = 32,
        .width = 2,
        .domains = 3,
        .slots_per_reply = 8,
        .end_step = UINT64_MAX,
        .store = 77,
        .version_step = UINT64_MAX,
        .hold_from = UINT64_MAX,
        .hold_to = UINT64_MAX,
    };
    if (path != NULL) {
        (void)snprintf(p->listen, sizeof p->listen, "ipc://%s", path);
    } else {
        (void)snprintf(p->listen, sizeof p->listen, "tcp://127.0.0.1:0");
    }
    peer_revive(p);
    return p;
}

const char *peer_url(const struct peer *p)
{
    return p->url;
}

struct peer_knobs *peer_lock(struct peer *p)
{
    (void)pthread_mutex_lock(&p->lock);
    return &p->knobs;
}

void peer_unlock(struct peer *p)
{
    (void)pthread_mutex_unlock(&p->lock);
}

struct peer_knobs peer_look(struct peer *p)
{
    struct peer_knobs k = *peer_lock(p);

    peer_unlock(p);
    return k;
}

void peer_die(struct peer *p)
{
    (void)peer_lock(p);
    (void)ask(-(int32_t)p->pid);
    peer_unlock(p);
    p->pid = 0;
}

void peer_free(struct peer *p)
{
    if (p->pid != 0) {
        peer_die(p);
    }
    (void)sem_destroy(&p->listening);
    (void)pthread_mutex_destroy(&p->lock);
}
