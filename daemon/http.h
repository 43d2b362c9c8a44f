/* http.h - the HTTP side: stats, metrics and health for dashboards.
 *
 * libmicrohttpd without threads, its epoll descriptor in the loop, so handlers run on the loop and
 * need no lock. Only GET and HEAD; nothing can be changed from here. */
#ifndef MX_DAEMON_HTTP_H
#define MX_DAEMON_HTTP_H

#include "daemon/daemon.h"

/* address: "ADDR:PORT" (port 0: any free one); what is really listened on goes to ret_address. */
int mx_http_start(struct mx_daemon *d, const char *address, char *ret_address, size_t n,
                  struct mx_http **ret, struct mx_err *err) MX_MUST_CHECK;
void mx_http_stop(struct mx_http *h);

#endif
