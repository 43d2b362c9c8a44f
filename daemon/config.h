/* config.h - the daemon's own settings: defaults, a JSON file, the command line, in that order.
 *
 * One table of numeric keys serves parsing, range checks, docs/config.md's check and SIGHUP. Knows
 * nothing of runs (runconf.h does). */
#ifndef MX_DAEMON_CONFIG_H
#define MX_DAEMON_CONFIG_H

#include "daemon/log.h"
#include "proto/limits.h"

#include <stdbool.h>
#include <stdint.h>

/* key, default, min, max, whether SIGHUP changes it live, what it is */
#define MX_SETTINGS(X)                                                                            \
    X(connections, 16384, 4, 1048576, 0, "connections open at once")                              \
    X(requests, 4096, 8, 1048576, 0, "requests in the daemon at once; more aren't read yet")      \
    X(requests_per_peer, 128, 1, 65536, 0, "of them by one connection")                           \
    X(queue_mib, 32, 1, 65536, 0, "memory for replies that peers haven't read yet")               \
    X(send_timeout_ms, 2000, 50, 600000, 1, "a peer that reads nothing of its replies for so long is closed") \
    X(hold_ms, 2000, 10, 60000, 1, "how long a request is held before it is answered WAIT")       \
    X(fillers, 2, 1, 64, 0, "threads that read and decompress")                                   \
    X(fill_ahead, 4, 0, 256, 1, "steps filled ahead for each slot range that trainers ask for")   \
    X(ready_mib, 64, 1, 65536, 1, "memory for batches filled ahead")                              \
    X(cache_mib, 64, 0, 1048576, 0, "memory for decompressed blocks")                             \
    X(open_shards, 512, 1, 16384, 0, "shard files open at once")                                  \
    X(http_connections, 64, 2, 1024, 0, "HTTP connections at once")                               \
    X(http_timeout_s, 15, 1, 3600, 0, "an HTTP connection silent for so long is closed")

#define MX_LISTEN_MAX 8

struct mx_config {
    char data[MX_PATH_MAX];
    char listen[MX_LISTEN_MAX][MX_PATH_MAX];
    uint32_t n_listen;
    char http[256];            /* ADDR:PORT, or "off" */
    bool insecure;
    enum mx_log_level log_level;
#define MX_SETTING_FIELD(key, def, min, max, live, what) uint64_t key;
    MX_SETTINGS(MX_SETTING_FIELD)
#undef MX_SETTING_FIELD
};

void mx_config_defaults(struct mx_config *c);
/* Reads a file over what *c holds. Errors: "FILE:LINE: key 'k': ...". */
int mx_config_read(const char *path, struct mx_config *c, struct mx_err *err) MX_MUST_CHECK;
/* Fills in what follows from the rest (default addresses) and checks the whole. */
int mx_config_finish(struct mx_config *c, struct mx_err *err) MX_MUST_CHECK;
/* Copies the settings that may change live from `fresh`; logs those that need a restart. */
void mx_config_reload(struct mx_config *c, const struct mx_config *fresh);

/* A whole file of at most max bytes, malloc'ed and terminated. */
int mx_read_file(const char *path, size_t max, char **ret, size_t *ret_n, struct mx_err *err)
    MX_MUST_CHECK;

#endif
