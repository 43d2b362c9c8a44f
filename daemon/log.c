/* log.c - see log.h. */
#include "daemon/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static atomic_int log_level = MX_LOG_INFO;
static atomic_uint_fast64_t log_counts[4];

void mx_log_set_level(enum mx_log_level level)
{
    atomic_store(&log_level, (int)level);
}

int mx_log_parse_level(const char *name, enum mx_log_level *ret)
{
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret = (enum mx_log_level)i;
            return 0;
        }
    }
    return MX_EINVALID;
}

uint64_t mx_log_count(enum mx_log_level level)
{
    return atomic_load(&log_counts[level]);
}

const char *mx_log_quote(const char *value, char *buf, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    size_t at = 0;

    MX_REQUIRE(n >= 8);
    buf[at++] = '"';
    for (; *value != '\0' && at < n - 6; value++) {
        unsigned char c = (unsigned char)*value;
        if (c == '"' || c == '\\') {
            buf[at++] = '\\';
            buf[at++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            buf[at++] = '\\';
            buf[at++] = 'x';
            buf[at++] = hex[c >> 4];
            buf[at++] = hex[c & 15];
        } else {
            buf[at++] = (char)c;
        }
    }
    buf[at++] = '"';
    buf[at] = '\0';
    return buf;
}

void mx_log(enum mx_log_level level, const char *event, const char *fmt, ...)
{
    char line[2048];
    struct timespec ts;
    struct tm tm;
    size_t at;
    int n;
    va_list ap;

    atomic_fetch_add(&log_counts[level], 1);
    if ((int)level < atomic_load(&log_level)) {
        return;
    }
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    (void)gmtime_r(&ts.tv_sec, &tm);
    at = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    n = snprintf(line + at, sizeof line - at, ".%03ldZ %s %s ", ts.tv_nsec / 1000000,
                 level_names[level], event);
    at += n > 0 ? (size_t)n : 0;
    va_start(ap, fmt);
    n = vsnprintf(line + at, sizeof line - at - 1, fmt, ap);
    va_end(ap);
    if (n > 0) {
        at = at + (size_t)n < sizeof line - 1 ? at + (size_t)n : sizeof line - 2;
    }
    line[at++] = '\n';
    /* A log that can't be written can't be reported either. */
    if (write(STDERR_FILENO, line, at) < 0) {
        return;
    }
}
