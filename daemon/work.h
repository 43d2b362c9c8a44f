/* work.h - long computations that runs' policies ask for (ado's fit), off the loop and off the
 * fillers.
 *
 * One at a time over the whole daemon, on a thread of its own, from a copy of the policy's state;
 * the others wait in a row. The result comes to the core as an event on the loop, and into the
 * journal from there. All calls are the loop's. */
#ifndef MX_DAEMON_WORK_H
#define MX_DAEMON_WORK_H

#include "daemon/inbox.h"

#include <stdbool.h>

struct mx_host;
struct mx_works;

/* NULL if memory is out. */
struct mx_works *mx_works_new(struct mx_inbox *inbox);
/* Computes for a mixer of the host's run as its state is now; the core is told with the handle,
 * also if nothing comes of it for want of memory or threads. */
void mx_works_start(struct mx_works *works, struct mx_host *h, uint32_t mixer, uint64_t handle);
/* Lets none begin any more. One that is being computed may be left to the process's end: nothing
 * of it is lost that isn't asked for again. */
void mx_works_stop(struct mx_works *works);

#endif
