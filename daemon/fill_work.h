/* fill_work.h - one fill, and what a filler thread does with it.
 *
 * Between mx_fill_new and the end of mx_fill_work the fields under "the thread's" belong to the
 * filler; all others are the loop's. */
#ifndef MX_DAEMON_FILL_WORK_H
#define MX_DAEMON_FILL_WORK_H

#include "daemon/daemon.h"

enum mx_fill_state { MX_FILL_FILLING, MX_FILL_READY, MX_FILL_TAKEN };

struct mx_fill {
    struct mx_fill *next_in_bucket, *older, *newer;
    struct mx_host *host;
    struct mx_ground *ground;           /* as of the fill's beginning */
    uint64_t step;
    uint64_t mix_version;               /* of the step; 0 if it is replayed from a snapshot */
    uint32_t first, count, token_first; /* as asked for */
    enum mx_fill_state state;
    bool stale, speculative;
    struct mx_req *waiters;
    uint64_t ready_ns;
    struct mx_fill *next_in_chain;
    /* the thread's */
    uint64_t *cursors;      /* k; NULL for a step that must be replayed from a snapshot */
    uint32_t *prefix;       /* k + 1 */
    uint64_t work_version;  /* the mix version it is made under */
    struct mx_reply *reply; /* the result, if status is OK */
    enum mx_status status;
    struct mx_err err;
};

/* plan: what the step holds, copied; NULL to have it replayed. NULL if memory is out. */
struct mx_fill *mx_fill_new(struct mx_host *h, uint64_t step, uint32_t first, uint32_t count,
                            uint32_t token_first, const struct mx_step *plan);
void mx_fill_free(struct mx_fill *f);
/* The filler thread's. */
void mx_fill_work(struct mx_fill *f);

#endif
