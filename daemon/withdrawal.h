/* withdrawal.h - a domain's withdrawals as the catalog keeps them, and what they are in a run.
 *
 * A withdrawal says which documents of which shards are not to be seen any more; which samples hold
 * a part of them depends on a run's seq_len. Little-endian, described in docs/disk-format.md.
 * Decoders take any bytes. Any thread. */
#ifndef MX_DAEMON_WITHDRAWAL_H
#define MX_DAEMON_WITHDRAWAL_H

#include "daemon/core/run.h"
#include "store/view.h"

struct mx_withdrawn_piece {
    uint64_t shard, first_token, tokens;
};

struct mx_withdrawn {
    uint64_t time_ms;
    const char *author, *why; /* borrowed from the bytes, not terminated */
    uint32_t author_len, why_len;
    uint32_t n;
    struct mx_withdrawn_piece *pieces; /* malloc'ed */
};

/* Malloc'ed bytes; NULL if memory is out. */
uint8_t *mx_withdrawn_encode(const struct mx_withdrawn *w, size_t *ret_n);
int mx_withdrawn_decode(struct mx_span bytes, struct mx_withdrawn *ret, struct mx_err *err)
    MX_MUST_CHECK;

/* The samples of a view that hold a token of the pieces: rising ranges that don't touch, malloc'ed.
 * *ret_n may be 0. MX_ENOMEM. */
int mx_withdrawn_ranges(const struct mx_view *v, const struct mx_withdrawn_piece *pieces,
                        uint32_t n, struct mx_range **ret, uint32_t *ret_n, struct mx_err *err)
    MX_MUST_CHECK;

#endif
