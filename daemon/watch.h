/* watch.h - the daemon looks after itself: descriptors and, where there is a checker, leaks. */
#ifndef MX_DAEMON_WATCH_H
#define MX_DAEMON_WATCH_H

#include "daemon/daemon.h"

void mx_watch_start(struct mx_daemon *d);
/* Counts descriptors now and then, and warns once while nearly none are left. */
void mx_watch_tick(struct mx_daemon *d, uint64_t now_ns);
/* What other programs do at exit, and this one must do itself since it ends by _exit: the leak
 * checker's look and the coverage's record, in builds that have them. */
void mx_watch_end(void);

#endif
