/* sp.c - see sp.h. */
#include "daemon/sp.h"

#include <inttypes.h>
#include <string.h>

#define REQ_PROTOCOL 0x30u
#define REP_PROTOCOL 0x31u
#define FIRST_BYTES 4096u

void mx_sp_init(struct mx_sp *s, bool ipc, uint32_t limit)
{
    memset(s, 0, sizeof *s);
    s->ipc = ipc;
    s->limit = limit;
}

void mx_sp_fini(struct mx_sp *s)
{
    free(s->payload);
    s->payload = NULL;
    s->state = MX_SP_BROKEN;
}

void mx_sp_greeting(uint8_t ret[MX_SP_GREETING_BYTES])
{
    static const uint8_t greeting[MX_SP_GREETING_BYTES] = {0, 'S', 'P', 0, 0, REP_PROTOCOL, 0, 0};

    memcpy(ret, greeting, sizeof greeting);
}

size_t mx_sp_reply_head(bool ipc, const uint8_t *trail, size_t trail_n, size_t n, uint8_t *ret)
{
    uint64_t length = trail_n + n;
    size_t at = 0;

    if (ipc) {
        ret[at++] = 1;
    }
    for (int shift = 56; shift >= 0; shift -= 8) {
        ret[at++] = (uint8_t)(length >> shift);
    }
    memcpy(ret + at, trail, trail_n);
    return at + trail_n;
}

/* Fills s->head up to `need`; true when it is whole. */
static bool take_head(struct mx_sp *s, size_t need, const uint8_t *p, size_t n, size_t *used)
{
    size_t part = need - s->have < n - *used ? need - s->have : n - *used;

    memcpy(s->head + s->have, p + *used, part);
    s->have += part;
    *used += part;
    return s->have == need;
}

static int take_greeting(struct mx_sp *s, struct mx_err *err)
{
    static const uint8_t expected[MX_SP_GREETING_BYTES] = {0, 'S', 'P', 0, 0, REQ_PROTOCOL, 0, 0};

    s->have = 0;
    if (memcmp(s->head, expected, sizeof expected) != 0) {
        return mx_fail(err, MX_EPROTOCOL, "the peer's greeting is none of a REQ client");
    }
    s->state = MX_SP_LENGTH;
    return 0;
}

static int take_length(struct mx_sp *s, struct mx_err *err)
{
    const uint8_t *p = s->head + (s->ipc ? 1 : 0);

    s->have = 0;
    if (s->ipc && s->head[0] != 1) {
        return mx_fail(err, MX_EPROTOCOL, "a message begins with byte %u, not 1", s->head[0]);
    }
    s->length = 0;
    for (int i = 0; i < 8; i++) {
        s->length = s->length << 8 | p[i];
    }
    if (s->length < 4 || s->length > (uint64_t)s->limit + (size_t)4 * MX_SP_TRAIL_MAX) {
        return mx_fail(err, MX_EPROTOCOL, "a message of %" PRIu64 " bytes; 4 to %" PRIu32
                       " are allowed", s->length, s->limit);
    }
    s->state = MX_SP_PAYLOAD;
    return 0;
}

/* Room for what has come and `more` bytes, never more than the message's length. */
static int grow(struct mx_sp *s, size_t more)
{
    size_t cap = s->cap > 0 ? s->cap : FIRST_BYTES;
    uint8_t *p;

    while (cap < s->have + more) {
        cap *= 2;
    }
    cap = cap < s->length ? cap : (size_t)s->length;
    if (cap == s->cap) {
        return 0;
    }
    p = realloc(s->payload, cap);
    if (p == NULL) {
        return -1;
    }
    s->payload = p;
    s->cap = cap;
    return 0;
}

/* The message is whole: finds where its trail ends (the word with the top bit). */
static int hand_over(struct mx_sp *s, struct mx_sp_message *ret, struct mx_err *err)
{
    size_t trail = 4;

    while ((s->payload[trail - 4] & 0x80) == 0) {
        trail += 4;
        if (trail > s->length || trail > (size_t)4 * MX_SP_TRAIL_MAX) {
            return mx_fail(err, MX_EPROTOCOL, "a message without a request number");
        }
    }
    if (s->length - trail > s->limit) {
        return mx_fail(err, MX_EPROTOCOL, "a frame of %" PRIu64 " bytes; %" PRIu32 " are allowed",
                       s->length - trail, s->limit);
    }
    *ret = (struct mx_sp_message){s->payload, trail, (size_t)s->length - trail};
    s->payload = NULL;
    s->cap = 0;
    s->have = 0;
    s->state = MX_SP_LENGTH;
    return 1;
}

static int take_payload(struct mx_sp *s, const uint8_t *p, size_t n, size_t *used,
                        struct mx_sp_message *ret, struct mx_err *err)
{
    size_t part = (size_t)s->length - s->have < n - *used ? (size_t)s->length - s->have : n - *used;

    if (grow(s, part) < 0) {
        return mx_fail(err, MX_ENOMEM, "no memory for a message of %" PRIu64 " bytes", s->length);
    }
    memcpy(s->payload + s->have, p + *used, part);
    s->have += part;
    *used += part;
    return s->have == s->length ? hand_over(s, ret, err) : 0;
}

int mx_sp_feed(struct mx_sp *s, const uint8_t *p, size_t n, size_t *ret_used,
               struct mx_sp_message *ret, struct mx_err *err)
{
    int rc = 0;

    *ret_used = 0;
    while (rc == 0 && *ret_used < n) {
        switch (s->state) {
        case MX_SP_GREETING:
            if (take_head(s, MX_SP_GREETING_BYTES, p, n, ret_used)) {
                rc = take_greeting(s, err);
            }
            break;
        case MX_SP_LENGTH:
            if (take_head(s, s->ipc ? 9 : 8, p, n, ret_used)) {
                rc = take_length(s, err);
            }
            break;
        case MX_SP_PAYLOAD: rc = take_payload(s, p, n, ret_used, ret, err); break;
        case MX_SP_BROKEN: rc = mx_fail(err, MX_EPROTOCOL, "the connection is broken"); break;
        }
    }
    if (rc < 0) {
        mx_sp_fini(s);
    }
    return rc;
}
