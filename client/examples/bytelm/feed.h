/* feed.h - the daemon's side of bytelm: attach, take batches, post losses of training and of
 * evaluations, over libmixclient. The only file of bytelm that knows the library. Owns the client.
 * One thread. */
#ifndef BL_FEED_H
#define BL_FEED_H

#include "client/examples/bytelm/options.h"
#include "client/examples/bytelm/report.h"
#include "client/mixclient.h"

#include <stdbool.h>

struct bl_feed {
    struct mxc_client *client;
    struct mxc_run *run;
    const struct mxc_run_info *info; /* of run */
    struct mxc_loss *losses;         /* info->domain_count */
    const struct mxc_eval_set *set;  /* what evaluations are posted as */
    struct mxc_eval_loss *evals;     /* set->member_count */
    uint16_t *contexts, *targets;    /* of the present batch */
    real *values;                    /* its losses, one per position */
    uint32_t *counts;                /* positions per sample */
    uint32_t slots_max;              /* in any step */
};

enum { BL_FEED_OK = 0, BL_FEED_OVER = 1, BL_FEED_STOPPED = 2, BL_FEED_FAILED = -1 };

/* True if SIGINT or SIGTERM is pending (they are to be blocked in every thread); takes it. */
bool bl_stop_asked(void);
uint64_t bl_now_ns(void);

/* Attaches to o->run at next_step. BL_FEED_FAILED: said so on stderr, nothing to close. */
int bl_feed_open(struct bl_feed *f, const struct bl_options *o, uint64_t next_step,
                 uint32_t context);
void bl_feed_close(struct bl_feed *f);

/* The next batch. OVER: the run has no more (stderr says if for lack of data); STOPPED: a signal
 * came while waiting; FAILED: as stderr says. While the daemon is away it waits up to
 * o->patience_s, and says so. */
int bl_feed_next(struct bl_feed *f, const struct bl_options *o, struct mxc_batch **ret);

/* Fills contexts, targets and counts with the positions to train. *ret_n: how many. 0, or -1: the
 * batch isn't text as bytes; said so on stderr. */
int bl_feed_windows(struct bl_feed *f, const struct bl_options *o, const struct mxc_batch *b,
                    uint64_t seed, uint32_t context, size_t *ret_n);

/* Sums `values` by domain into the report, and posts them for the batch's step, with the scores of
 * the model after that step (domain by domain; NULL: it wasn't evaluated) in the same message. */
int bl_feed_post(struct bl_feed *f, const struct mxc_batch *b, struct bl_report *r,
                 const struct bl_score *scores);

/* Waits until all posts are durable, half a minute at most; says so on stderr if they aren't. */
int bl_feed_flush(struct bl_feed *f, const struct bl_options *o);

#endif
