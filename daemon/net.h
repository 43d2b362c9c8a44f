/* net.h - requests in and replies out: connections that speak SP REQ/REP, as nng clients do.
 *
 * The daemon's end of the protocol is ours, on libuv, and not nng's: nng 1.5.2 loses the thread
 * that closes connections when a peer goes away between two parts of a reply, and from then on
 * leaks a descriptor for each peer that leaves (docs/architecture.md tells how). On the wire there
 * is no difference. All of it runs on the loop but mx_reply_*, which any thread may call on a reply
 * that it owns.
 *
 * Bounded: connections, requests in all and by one connection, replies that wait to be read (over
 * a limit no more requests are read until there is room), bytes of a message. A peer that reads nothing for send_timeout_ms while replies wait
 * for it is closed, as is one that doesn't finish its greeting or a message it began. */
#ifndef MX_DAEMON_NET_H
#define MX_DAEMON_NET_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct mx_net;
struct mx_reply; /* a message being made; owned by one party at a time */
struct mx_reply_pool;

/* One request. Owned by the receiver of on_request until mx_net_send or mx_net_drop. */
struct mx_req {
    const uint8_t *frame; /* borrowed until sent or dropped */
    size_t n;
    uint64_t id;          /* for the owner: the frame's id once decoded */
    uint64_t since_ns;    /* when it came */
    struct mx_req *next;  /* for the owner's lists */
};

struct mx_net_options {
    uint32_t connections;      /* open at once */
    uint32_t requests;         /* in the daemon at once */
    uint32_t requests_per_peer;
    uint64_t queue_bytes;      /* of replies that peers haven't read, in all: see mx_net_has_room */
    uint64_t send_timeout_ms;
    void (*on_request)(void *arg, struct mx_req *req);
    void *arg;
};

struct mx_net_stats {
    uint64_t opened, closed; /* connections */
    uint64_t expelled;       /* closed by us: didn't read, or broke the protocol */
    uint64_t refused;        /* closed at once: too many connections */
    uint64_t dropped;        /* requests dropped without a reply */
    uint64_t sent_bytes;
    uint32_t requests;       /* in the daemon now */
    uint32_t paused;         /* connections not read from now, because of a limit */
    uint64_t queued_bytes;   /* of replies that the system hasn't taken yet */
};

int mx_net_new(uv_loop_t *loop, const struct mx_net_options *o, struct mx_net **ret,
               struct mx_err *err) MX_MUST_CHECK;
/* url: tcp://HOST:PORT (port 0: any free one) or ipc://PATH. The address really listened on goes
 * into ret_url (n bytes). A Unix socket left by a dead process is replaced. */
int mx_net_listen(struct mx_net *net, const char *url, char *ret_url, size_t n,
                  struct mx_err *err) MX_MUST_CHECK;
/* Takes over req and reply. A peer that has gone meanwhile is no error. */
void mx_net_send(struct mx_net *net, struct mx_req *req, struct mx_reply *reply);
/* No reply at all: the peer asks again or goes away. */
void mx_net_drop(struct mx_net *net, struct mx_req *req);
/* Whether what peers haven't read is below queue_bytes: large replies wait until it is. */
bool mx_net_has_room(const struct mx_net *net);
/* No new connections and no more reading; replies under way still leave. */
void mx_net_stop(struct mx_net *net);
void mx_net_set_send_timeout(struct mx_net *net, uint64_t ms);
void mx_net_get_stats(const struct mx_net *net, struct mx_net_stats *ret);

/* n bytes, uninitialised; NULL if memory is out. */
struct mx_reply *mx_reply_new(size_t n);
/* A few large replies that were sent are kept and used again, the last one first, while it is still
 * in the processor's cache. Any thread; it has a lock inside, held for an
 * exchange of pointers. The pool lives as long as the process. */
struct mx_reply_pool *mx_reply_pool_new(void);
struct mx_reply *mx_reply_take(struct mx_reply_pool *pool, size_t n);
uint8_t *mx_reply_data(struct mx_reply *r);
size_t mx_reply_size(const struct mx_reply *r);
void mx_reply_trim(struct mx_reply *r, size_t n); /* keeps the first n */
struct mx_reply *mx_reply_copy(const struct mx_reply *r);
void mx_reply_free(struct mx_reply *r);

#endif
