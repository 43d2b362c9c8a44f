/* entry.h - journal entries, mixes and snapshots as bytes, and back.
 *
 * The core speaks in structs and the catalog in bytes; this is between them. Little-endian,
 * versioned by the catalog's format number, described in docs/disk-format.md. Decoders take any
 * bytes. Pure; any thread. */
#ifndef MX_DAEMON_ENTRY_H
#define MX_DAEMON_ENTRY_H

#include "daemon/core/run.h"
#include "proto/err.h"
#include "proto/wire.h"

#include <stdbool.h>

/* An entry decoded, with the memory that its pointers point into. */
struct mx_entry_box {
    struct mx_entry entry;
    void *memory[6];
};

/* Malloc'ed bytes of an entry of a run of k domains; NULL if memory is out. */
uint8_t *mx_entry_encode(const struct mx_entry *e, uint32_t k, size_t *ret_n);
/* MX_EDAMAGED says what is wrong. k: the run's domains. */
int mx_entry_decode(struct mx_span bytes, uint32_t k, struct mx_entry_box *ret,
                    struct mx_err *err) MX_MUST_CHECK;
void mx_entry_box_clear(struct mx_entry_box *b);
const char *mx_entry_name(enum mx_entry_kind kind); /* "feedback" */

/* Whether entries of the kind hold a mix: mix_version and shares, in force from step. */
bool mx_entry_makes_mix(enum mx_entry_kind kind);
/* Where a mix stands in the catalog's index: an operator's behind one by feedback from the same
 * step. */
uint64_t mx_mix_order(uint64_t step, bool set);

/* The mix of an entry as the catalog indexes it: version, the entry's index, its shares: k, or 2 k
 * with the weights of the loss. */
uint8_t *mx_mix_encode(const struct mx_entry *e, size_t *ret_n);
/* n_shares: how many are wanted, k or 2 k; of a mix that has 2 k the first k can be had. */
int mx_mix_decode(struct mx_span bytes, uint32_t k, uint32_t n_shares, uint64_t *ret_version,
                  uint64_t *ret_index, uint64_t *ret_shares, struct mx_err *err) MX_MUST_CHECK;

/* In the place of a step: the record that names the step of the snapshot made last (u64). */
#define MX_SNAPSHOT_LAST UINT64_MAX
/* The words of mx_run_save as bytes. */
uint8_t *mx_words_encode(const uint64_t *words, size_t n, size_t *ret_n);
/* Malloc'ed words; MX_EDAMAGED if the size isn't a multiple of 8. */
int mx_words_decode(struct mx_span bytes, uint64_t **ret, size_t *ret_n, struct mx_err *err)
    MX_MUST_CHECK;

#endif
