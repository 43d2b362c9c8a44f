/* replay.h - what a step held that was planned too long ago to be in memory.
 *
 * From the nearest snapshot at or before it, and the mixes since: a few hundred steps of integer
 * arithmetic. Reads the catalog; any thread that holds the ground. */
#ifndef MX_DAEMON_REPLAY_H
#define MX_DAEMON_REPLAY_H

#include "daemon/ground.h"
#include "store/catalog.h"

/* A mix that is in force from a step on. */
struct mx_replay_mix {
    uint64_t from_step, version, index; /* index: of the entry that made it */
    bool set;                           /* by an operator */
};

/* What a step holds. Zeroed, or filled before: its memory is used again. */
struct mx_replayed {
    uint64_t step;
    struct mx_replay_mix mix;
    uint64_t *cursors; /* k: before the step */
    uint32_t *prefix;  /* k + 1 */
    uint64_t *shares;  /* k: of the mix */
};

/* run: the number, what: its name, for texts. MX_EDAMAGED if the step can't be planned from what is
 * there. */
int mx_replay_step(struct mx_catalog *c, uint32_t run, const char *what,
                   const struct mx_ground *g, uint64_t step, struct mx_replayed *ret,
                   struct mx_err *err) MX_MUST_CHECK;
void mx_replayed_clear(struct mx_replayed *r);

/* Cursors at the latest usable snapshot at or before a step, its step and, if not NULL, the index
 * of the last entry that it holds; zeros if there is none and the run begins at 0. */
int mx_replay_start(struct mx_catalog *c, uint32_t run, const char *what,
                    const struct mx_ground *g, uint64_t step, uint64_t *ret_from,
                    uint64_t *ret_applied, uint64_t *cursors, struct mx_err *err) MX_MUST_CHECK;

/* The mixes in force in [from, to], rising, as mx_plan_advance takes them. */
struct mx_replay_mixes {
    struct mx_plan_mix *plan; /* n, pointing into shares */
    struct mx_replay_mix *mixes; /* the same ones */
    uint64_t *shares;
    uint32_t n, cap;
};
int mx_replay_mixes(struct mx_catalog *c, uint32_t run, const char *what,
                    const struct mx_ground *g, uint64_t from, uint64_t to,
                    struct mx_replay_mixes *ret, struct mx_err *err) MX_MUST_CHECK;
void mx_replay_mixes_clear(struct mx_replay_mixes *m);

/* The mix in force at a step of a run whose policy weighs the loss: 2 k shares, those to sample by
 * and then the weights. */
int mx_replay_loss(struct mx_catalog *c, uint32_t run, const char *what, const struct mx_ground *g,
                   uint64_t step, uint64_t *ret_version, uint64_t *ret_shares, struct mx_err *err)
    MX_MUST_CHECK;

#endif
