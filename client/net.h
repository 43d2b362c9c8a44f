/* net.h - requests out and replies in, for one client; net_nng.c is the only file that knows nng.
 *
 * A fixed number of calls, each one request and its reply at a time. nng's threads only store a
 * result under the one mutex and wake the caller, who does everything else. No call blocks but
 * mxc_net_wait. Deadlines are on CLOCK_MONOTONIC, by the caller; nng's own are not used.
 *
 * Connections are counted by epochs: a reply carries the epoch in which it came, so that the caller
 * can hold it back until a hello has shown who is there now. */
#ifndef MXC_NET_H
#define MXC_NET_H

#include "client/mixclient.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mxc_net;
struct mxc_msg; /* a received frame, owned by one party; outlives the net */

struct mxc_net_state {
    bool up;         /* a connection is there now */
    uint64_t epoch;  /* connections made so far */
    uint64_t events; /* rises with everything that happens */
    uint64_t replies;
};

enum mxc_call_state {
    MXC_CALL_IDLE,     /* may be used */
    MXC_CALL_QUEUED,   /* waits for a connection, or to be sent */
    MXC_CALL_WAITING,  /* sent */
    MXC_CALL_REPLIED,  /* mxc_call_take has the frame */
    MXC_CALL_LOST,     /* the connection broke after it was sent: mxc_call_take resets */
    MXC_CALL_DRAINING, /* cancelled, becomes idle by itself */
};

/* Starts connecting in the background. MXC_INVALID for a URL that makes no sense. */
int mxc_net_open(const char *url, unsigned calls, struct mxc_net **ret, struct mxc_error *err);
/* Returns within half a second, whatever nng does: it is closed by a thread of its own, which is
 * left behind if it hangs (nng 1.5.2 can). */
void mxc_net_close(struct mxc_net *n);

void mxc_net_look(struct mxc_net *n, struct mxc_net_state *ret);
/* Until something has happened since `events`, or until_ns. */
void mxc_net_wait(struct mxc_net *n, uint64_t events, int64_t until_ns);
/* Starts anew with a socket of its own: nng may have lost the ability to reconnect (its reaper
 * thread waits for ever) or to count time (its timers ride the wall clock). Every call becomes idle
 * and what it waited for is lost. False, and nothing done, if too many old sockets are stuck or
 * there is no memory. */
bool mxc_net_renew(struct mxc_net *n);

/* Sends a copy of the frame on an idle call. MXC_NOMEM. */
int mxc_call_send(struct mxc_net *n, unsigned call, const void *frame, size_t bytes,
                  struct mxc_error *err);
/* The state, and the epoch in which a reply came. */
enum mxc_call_state mxc_call_look(struct mxc_net *n, unsigned call, uint64_t *ret_epoch);
/* Makes a replied or lost call idle; the frame, or NULL if it was lost. */
struct mxc_msg *mxc_call_take(struct mxc_net *n, unsigned call);
/* Gives up a call in any state. */
void mxc_call_cancel(struct mxc_net *n, unsigned call);

const void *mxc_msg_frame(const struct mxc_msg *m, size_t *ret_n);
void mxc_msg_free(struct mxc_msg *m); /* NULL is fine */

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t mxc_now_ns(void);

#endif
