/* check.h - what the tests of libmixclient share: a peer on a socket in a folder of its own, and a
 * client of it. */
#ifndef MX_TESTS_CLIENT_CHECK_H
#define MX_TESTS_CLIENT_CHECK_H

#include "client/mixclient.h"
#include "client/net.h"
#include "tests/client/peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct fixture {
    char dir[64], path[80];
    struct peer *peer;
    struct mxc_client *client;
    struct mxc_run *run;
    struct mxc_error err;
};

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/mixclient-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof f->path, "%s/sock", f->dir);
    f->peer = peer_new(f->path);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;

    mxc_close(f->client);
    peer_free(f->peer);
    (void)unlink(f->path);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

/* A call that must succeed. */
#define OK(call)                                                                    \
    do {                                                                            \
        if ((call) != 0) {                                                          \
            fail_msg("%s: %s: %s", #call, mxc_code_name(f->err.code), f->err.text); \
        }                                                                           \
    } while (0)

/* A call that must fail with a code and a text that holds `what`. */
#define FAILS(call, want, what)                                                            \
    do {                                                                                   \
        int rc_ = (call);                                                                  \
        if (rc_ != (want) || f->err.code != (want) || strstr(f->err.text, what) == NULL) { \
            fail_msg("%s: %s, \"%s\", should be %s, \"%s\"", #call, mxc_code_name(rc_),    \
                     f->err.text, mxc_code_name(want), what);                              \
        }                                                                                  \
    } while (0)

static inline void connect_to(struct fixture *f, int64_t timeout_ms, uint32_t inflight)
{
    struct mxc_options o = {.name = "test", .timeout_ms = timeout_ms, .inflight = inflight};

    OK(mxc_open(peer_url(f->peer), &o, &f->client, &f->err));
}

static inline void attach(struct fixture *f, int64_t timeout_ms, uint32_t inflight)
{
    connect_to(f, timeout_ms, inflight);
    OK(mxc_attach(f->client, "demo", 0, 1, 0, &f->run, &f->err));
}

/* Every field of a batch is what the peer's run serves. */
static inline void check_batch(const struct mxc_run *run, const struct mxc_batch *b, uint64_t step,
                               uint32_t first, uint32_t slots)
{
    const struct mxc_run_info *info = mxc_run_get_info(run);

    assert_int_equal(b->step, step);
    assert_int_equal(b->mix_version, 7);
    assert_int_equal(b->first_slot, first);
    assert_int_equal(b->slots, slots);
    assert_int_equal(b->seq_len, mxc_part_of(run, step).seq_len);
    assert_int_equal(b->width, info->width);
    assert_int_equal(b->start_index[0], 0);
    for (uint32_t i = 0; i < slots; i++) {
        uint32_t slot = first + i;
        uint32_t s = b->start_index[i];

        assert_int_equal(b->samples[i], step * 1000 + slot);
        assert_int_equal(b->domains[i], slot % info->domain_count);
        assert_int_equal(b->epochs[i], step % 3);
        for (uint32_t t = 0; t < b->seq_len; t++) {
            size_t at = (size_t)i * b->seq_len + t;
            uint32_t token = b->width == 2 ? ((const uint16_t *)b->tokens)[at]
                                           : ((const uint32_t *)b->tokens)[at];
            if (token != peer_token(step, slot, t, b->width)) {
                fail_msg("step %d slot %u token %u is %u", (int)step, slot, t, token);
            }
            if (peer_starts(slot, t)) {
                assert_true(s < b->start_index[i + 1]);
                assert_int_equal(b->starts[s++], t);
            }
        }
        assert_int_equal(s, b->start_index[i + 1]);
    }
}

static inline int64_t ms_since(int64_t from_ns)
{
    return (mxc_now_ns() - from_ns) / 1000000;
}

#endif
