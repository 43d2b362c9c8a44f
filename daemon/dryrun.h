/* dryrun.h - a run with a journal in memory and a clock that stands still.
 *
 * Does what the effects of a run's core say, as the daemon does, but that all entries are "durable"
 * at once: they go through their bytes (entry.h) and come back in their order. Long computations
 * are done on the spot. For simulations and forecasts: what it plans is what a daemon would plan.
 * One thread at a time. */
#ifndef MX_DAEMON_DRYRUN_H
#define MX_DAEMON_DRYRUN_H

#include "daemon/core/run.h"
#include "proto/err.h"

#include <stdbool.h>

struct mx_dry_pending;

struct mx_dryrun {
    struct mx_run *run; /* borrowed */
    uint32_t k;         /* domains */
    uint64_t now_ms;
    uint64_t timer_ms;  /* that the run has asked for; UINT64_MAX for none */
    uint64_t applied;   /* entries */
    /* What came of the last event. */
    bool served, held, refused;
    bool counted;             /* a report was the first of its rank */
    struct mx_effect refusal; /* if refused */
    /* Called for each entry that is asked for and, later, applied; NULL for none. 0 or an error. */
    int (*on_append)(void *arg, const struct mx_effect *fx, struct mx_err *err);
    int (*on_applied)(void *arg, const struct mx_entry *e, struct mx_err *err);
    void *arg;
    struct mx_dry_pending *first, **last;
};

/* run: fresh from mx_run_init. The callbacks are to be set between the two. */
void mx_dryrun_init(struct mx_dryrun *d, struct mx_run *run, uint32_t k);
/* The run's first entry. */
int mx_dryrun_begin(struct mx_dryrun *d, struct mx_err *err) MX_MUST_CHECK;
void mx_dryrun_fini(struct mx_dryrun *d); /* the run stays the caller's */

/* One event and all that follows from it. A refusal is no error. */
int mx_dryrun_play(struct mx_dryrun *d, struct mx_event *ev, struct mx_err *err) MX_MUST_CHECK;
/* Asks for steps up to and with `step`, at most `ahead` at once, as a world of trainers would:
 * until they are planned (0), or one is refused (d->refused) or waits for what only a report can bring
 * (d->held). */
int mx_dryrun_plan(struct mx_dryrun *d, uint64_t step, uint64_t ahead, uint32_t world,
                   struct mx_err *err) MX_MUST_CHECK;

#endif
