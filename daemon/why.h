/* why.h - what made a mix of a run, read from catalog and journal.
 *
 * The journal's entry of a mix says where its shares come from; what they were before is the mix of
 * the step before the first one that it is in force for. Both are read here, for explain.h to
 * write.
 * Any thread that holds the ground, but not inside another reading of the store. */
#ifndef MX_DAEMON_WHY_H
#define MX_DAEMON_WHY_H

#include "daemon/entry.h"
#include "daemon/explain.h"
#include "daemon/replay.h"
#include "store/journal.h"

/* Where it is read from. */
struct mx_why_source {
    struct mx_catalog *catalog;
    struct mx_journal *journal;
    uint32_t run;
    const struct mx_runconf *conf;
    const struct mx_ground *ground;
    const struct mx_policy_ops *policy; /* the run's */
    const double *prior;                /* k, sum 1 */
};

/* An entry that was read, with the bytes that it points into. kind 0: there is none. */
struct mx_why_entry {
    struct mx_entry_box box;
    uint8_t *bytes;
};

/* A mix and the one before it. */
struct mx_why_mix {
    struct mx_replay_mix mix;
    struct mx_why_entry made;   /* what made it; none if it was compacted away */
    struct mx_why_entry before; /* what made the one before; likewise */
    uint64_t *shares, *was;     /* k; was: NULL if there is none or it isn't known */
};

/* Copies an entry's bytes and decodes them. */
int mx_why_keep(struct mx_why_entry *e, uint64_t index, struct mx_span bytes, uint32_t k,
                struct mx_err *err) MX_MUST_CHECK;
void mx_why_forget(struct mx_why_entry *e); /* one that is none is fine */

/* The newest mix that there is from a step on: in force there, or later. */
int mx_why_newest(const struct mx_why_source *s, uint64_t step, struct mx_why_mix *ret,
                  struct mx_err *err) MX_MUST_CHECK;
/* What was before the mix of an entry: was, before. Leaves the rest alone. */
int mx_why_before(const struct mx_why_source *s, const struct mx_entry *e, struct mx_why_mix *ret,
                  struct mx_err *err) MX_MUST_CHECK;
void mx_why_clear(struct mx_why_mix *m);

/* Adds to an object in w what explain.h says of the mix of an entry; m: with what was before. */
void mx_why_write(struct mx_jsonw *w, const struct mx_why_source *s, const struct mx_entry *e,
                  const struct mx_why_mix *m);

#endif
