/* fill.h - batch replies: made by filler threads, ahead of being asked where that is possible.
 *
 * A fill is one reply for (run, step, slots). When a request may be served (the core says so) and
 * its fill is ready, the message moves out with no copy and no disk; else the request waits for it.
 * Each request makes the fills of the same slots in the next steps start. Those are speculation: if
 * a new mix changes their step they are made again (mx_fills_drop). All calls are the loop's. */
#ifndef MX_DAEMON_FILL_H
#define MX_DAEMON_FILL_H

#include "daemon/daemon.h"

int mx_fills_new(struct mx_daemon *d, struct mx_fills **ret, struct mx_err *err) MX_MUST_CHECK;
/* Serves req, whose decoded form is m; the core has allowed the step. */
void mx_fills_serve(struct mx_host *h, struct mx_req *req, const struct mx_batch_request *m);
/* Steps >= step may hold something else now. */
void mx_fills_drop(struct mx_host *h, uint64_t step);
/* Forgets ready replies that nobody came for; frees memory over the limit. */
void mx_fills_sweep(struct mx_daemon *d, uint64_t now_ns);

struct mx_fills_stats {
    uint32_t ready, filling;
    uint64_t ready_bytes;
    uint64_t filled, dropped, kept, expired; /* kept: a new mix left them as they were */
};
void mx_fills_get_stats(const struct mx_daemon *d, struct mx_fills_stats *ret);

#endif
