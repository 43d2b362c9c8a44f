/* simulate.h - a run without a daemon: the core's own state machine, with a journal in memory, a
 * clock that stands still and domains that don't run out.
 *
 * It is the run that a daemon would have (dryrun.h): the same entries make the same mixes of the
 * same reports. Steps are planned as reports come in for them. Time moves only where the run waits
 * for ranks that don't report and has no room for another step: then its timeout passes. Long
 * computations are done at once. One thread. */
#ifndef MX_CTL_SIMULATE_H
#define MX_CTL_SIMULATE_H

#include "daemon/runconf.h"

struct sim;

/* A value that a report had and that was left out. */
struct sim_bad {
    const char *part; /* "train", "eval", "reward", "grad", "scores" */
    uint32_t set;     /* of "eval" */
    uint32_t domain;  /* or the set's member */
    double value;
};

/* What came of a report. */
struct sim_outcome {
    const char *what;    /* "accepted", "duplicate", "late" */
    bool moved;          /* a new mix was made of it */
    struct sim_bad *bad; /* n_bad; good until the next report */
    uint32_t n_bad;
};

/* conf is borrowed. */
struct sim *sim_new(const struct mx_runconf *conf, struct mx_err *err);
void sim_free(struct sim *s); /* NULL is fine */

/* Plans the report's step, and gives it to the run. Its mix_version isn't looked at: the mixes are
 * this run's own. MX_EINVALID says why the run refuses it. */
int sim_report(struct sim *s, const struct mx_entry *report, struct sim_outcome *ret,
               struct mx_err *err) MX_MUST_CHECK;

/* The entry that made the last mix, and the shares before it (NULL for the first). */
const struct mx_entry *sim_mix(const struct sim *s, const uint64_t **ret_was);
/* The entry that made the one before and told its terms; NULL if there is none. */
const struct mx_entry *sim_mix_before(const struct sim *s);
struct mx_run *sim_run(struct sim *s);

#endif
