/* sp.h - the byte stream of one connection that speaks Scalability Protocols REQ/REP, taken apart.
 *
 * What nng and nanomsg put on TCP and Unix sockets: a greeting of 8 bytes, then messages of a
 * length and a payload that begins with the request's number (docs/protocol.md, section 1). The
 * decoder is fed whatever bytes come and never reads past them, allocates no more than has arrived
 * (in doublings), and refuses a message over its limit before the first byte of it. No I/O; one
 * thread at a time. */
#ifndef MX_DAEMON_SP_H
#define MX_DAEMON_SP_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MX_SP_GREETING_BYTES 8u
/* A request that came through devices has a trail of hops; more than nng's own limit are refused. */
#define MX_SP_TRAIL_MAX 8u

enum mx_sp_state { MX_SP_GREETING, MX_SP_LENGTH, MX_SP_PAYLOAD, MX_SP_BROKEN };

struct mx_sp {
    enum mx_sp_state state;
    bool ipc;           /* Unix sockets have one byte more before each length */
    uint32_t limit;     /* of a frame, without its trail */
    uint8_t head[9];
    size_t have;        /* of what the state waits for */
    uint64_t length;    /* of the payload */
    uint8_t *payload;   /* being received; owned */
    size_t cap;
};

/* A whole request. */
struct mx_sp_message {
    uint8_t *payload;    /* malloc'ed, the receiver's: the trail, then the frame */
    size_t trail;        /* bytes of the trail, to be repeated before the reply */
    size_t n;            /* bytes of the frame, at payload + trail */
};

void mx_sp_init(struct mx_sp *s, bool ipc, uint32_t limit);
void mx_sp_fini(struct mx_sp *s);
/* Takes from p until a message is whole or the bytes are used up. 1: *ret is a message; 0: all is
 * used; MX_EPROTOCOL or MX_ENOMEM with a text: close the connection. *ret_used says how much of p
 * was taken. */
int mx_sp_feed(struct mx_sp *s, const uint8_t *p, size_t n, size_t *ret_used,
               struct mx_sp_message *ret, struct mx_err *err) MX_MUST_CHECK;

/* Our greeting. */
void mx_sp_greeting(uint8_t ret[MX_SP_GREETING_BYTES]);
/* What goes before a reply of n bytes: length and trail. ret has room for 9 + 4 * MX_SP_TRAIL_MAX.
 * Returns its size. */
size_t mx_sp_reply_head(bool ipc, const uint8_t *trail, size_t trail_n, size_t n, uint8_t *ret);

#endif
