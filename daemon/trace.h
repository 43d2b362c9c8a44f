/* trace.h - what was in a step, and which steps drew a sample: exact, for any step of the present
 * branch of a run's history. Reads the catalog and shards; a task's thread, with what was copied
 * for it on the loop. */
#ifndef MX_DAEMON_TRACE_H
#define MX_DAEMON_TRACE_H

#include "daemon/replay.h"

/* A run as it stood when it was asked about. */
struct mx_traced {
    struct mx_catalog *catalog;
    uint32_t run;
    const char *name;         /* of the host: lives as long */
    struct mx_ground *ground; /* taken */
    uint64_t frontier, end_step;
    uint64_t *cursors; /* k: at the frontier */
    /* Steps to come, once they have been looked at: see mx_trace_clear */
    struct mx_replay_mixes mixes;
    uint64_t *marks; /* cursors before every MARK_STEPSth step from the frontier on */
    uint32_t n_marks;
};

/* One place where a sample was drawn, or will be. */
struct mx_occurrence {
    uint64_t step, epoch;
    uint32_t slot;
    bool planned; /* false: under the mixes that are known now, if nothing changes */
};

/* Steps past the frontier that are looked at; fewer with many domains or with samples withdrawn, so
 * that the answer comes soon. */
#define MX_TRACE_AHEAD 50000u

/* Where `sample` of `domain` lies in the steps [from, to), rising, at most `cap`: *ret_n of them.
 * In a step they are in the order of
 * drawing. *ret_more: whether there were more than that. *ret_horizon: the first step not looked
 * at. By inverse permutations and a search over snapshots: the work is in the number of
 * occurrences. */
int mx_trace_sample(struct mx_traced *t, uint32_t domain, uint64_t sample, uint64_t from,
                    uint64_t to, struct mx_occurrence *ret, uint32_t cap, uint32_t *ret_n,
                    bool *ret_more, uint64_t *ret_horizon, struct mx_err *err) MX_MUST_CHECK;
/* Frees what looking at steps to come has left, for the next samples. */
void mx_trace_clear(struct mx_traced *t);

#endif
