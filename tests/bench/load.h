/* load.h - a load generator over nng REQ, the same for mixd and for the bare pair beside it. */
#ifndef MX_BENCH_LOAD_H
#define MX_BENCH_LOAD_H

#include <stddef.h>
#include <stdint.h>

struct load_result {
    double per_s;        /* replies */
    double p50_us, p99_us;
    double bytes_per_s;
    uint64_t replies, bad;
};

/* Keeps `inflight` requests open for `seconds`. request writes the n-th request into buf (at most
 * cap bytes) and returns its size; check says whether a reply is right. Any failure ends the
 * program. */
void load_run(const char *url, unsigned inflight, double seconds,
              size_t (*request)(void *arg, uint64_t n, uint8_t *buf, size_t cap),
              int (*check)(void *arg, const uint8_t *reply, size_t size), void *arg,
              struct load_result *ret);

/* A bare REP server in a process of its own that answers every request with `size` fixed bytes,
 * through `contexts` contexts. Returns its pid and writes the URL it listens on. */
int load_bare_server(const char *url, size_t size, unsigned contexts, char *ret_url, size_t n);

#endif
