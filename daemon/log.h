/* log.h - structured lines on stderr: one event, one line, `time level event key=value ...`.
 *
 * The one process-wide object of the daemon (its level and its line counters). Any thread; a line
 * is one write. Values with spaces or quotes are quoted. No secret is ever given to it. */
#ifndef MX_DAEMON_LOG_H
#define MX_DAEMON_LOG_H

#include "proto/err.h"

#include <stdint.h>

enum mx_log_level { MX_LOG_DEBUG = 0, MX_LOG_INFO = 1, MX_LOG_WARN = 2, MX_LOG_ERROR = 3 };

void mx_log_set_level(enum mx_log_level level);
/* "debug" "info" "warn" "error"; MX_EINVALID else. */
int mx_log_parse_level(const char *name, enum mx_log_level *ret) MX_MUST_CHECK;

/* event: a stable word for machines, like "run.create"; fmt: `key=value` pairs for the line. Use
 * mx_log_quote for values that come from outside. */
void mx_log(enum mx_log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The value quoted where needed, into buf; returns buf. */
const char *mx_log_quote(const char *value, char *buf, size_t n);

/* How many lines of WARN and ERROR there have been. */
uint64_t mx_log_count(enum mx_log_level level);

#endif
