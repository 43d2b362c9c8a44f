/* inbox.h - how other threads hand work to the loop: one locked list and one wake-up.
 *
 * The one mutex-guarded queue of the daemon. The writer thread puts items, the loop takes all of
 * them when it wakes. Items are intrusive and owned by whoever put them until the
 * loop has them. mx_inbox_put is safe from any thread; all else is the loop's. */
#ifndef MX_DAEMON_INBOX_H
#define MX_DAEMON_INBOX_H

#include "proto/err.h"

#include <uv.h>

struct mx_inbox_item {
    struct mx_inbox_item *next;
    void (*handle)(struct mx_inbox_item *item); /* called on the loop */
};

struct mx_inbox {
    uv_mutex_t lock;
    uv_async_t wake;
    struct mx_inbox_item *head, **tail; /* under lock */
};

int mx_inbox_init(struct mx_inbox *b, uv_loop_t *loop, struct mx_err *err) MX_MUST_CHECK;
void mx_inbox_put(struct mx_inbox *b, struct mx_inbox_item *item);
/* Handles what has come, now. */
void mx_inbox_drain(struct mx_inbox *b);

#endif
