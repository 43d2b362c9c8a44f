/* fuzz_sp.c - a connection's bytes: taken apart to the same messages however they are cut. */
#include "daemon/sp.h"
#include "proto/limits.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Feeds all of it in pieces of `piece` bytes; a digest of the messages, and how it ended. */
static uint64_t digest(const uint8_t *p, size_t n, size_t piece, bool ipc, int *ret_rc)
{
    struct mx_sp s;
    struct mx_sp_message m;
    struct mx_err err = {0};
    uint64_t h = 1469598103934665603u;
    int rc = 0;

    mx_sp_init(&s, ipc, 1024);
    for (size_t at = 0; rc >= 0 && at < n;) {
        size_t part = n - at < piece ? n - at : piece;
        size_t used = 0;

        rc = mx_sp_feed(&s, p + at, part, &used, &m, &err);
        MX_REQUIRE(used <= part && (rc != 0 || used == part));
        at += used;
        if (rc == 1) {
            MX_REQUIRE(m.n <= 1024 && m.trail >= 4 && m.trail <= 4 * MX_SP_TRAIL_MAX);
            for (size_t i = 0; i < m.trail + m.n; i++) {
                h = (h ^ m.payload[i]) * 1099511628211u;
            }
            h = (h ^ m.trail) * 1099511628211u;
            free(m.payload);
        }
        MX_REQUIRE(rc >= 0 || err.text[0] != '\0');
        MX_REQUIRE(s.cap <= 1024 + 4 * MX_SP_TRAIL_MAX);
    }
    mx_sp_fini(&s);
    *ret_rc = rc < 0 ? rc : 0;
    return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int rc_whole, rc_pieces;
    bool ipc;
    size_t piece;

    if (size < 2) {
        return 0;
    }
    ipc = data[0] & 1;
    piece = 1 + data[1] % 64;
    MX_REQUIRE(digest(data + 2, size - 2, size, ipc, &rc_whole) ==
               digest(data + 2, size - 2, piece, ipc, &rc_pieces));
    MX_REQUIRE(rc_whole == rc_pieces);
    return 0;
}
