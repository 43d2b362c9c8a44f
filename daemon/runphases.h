/* runphases.h - the `phases` of a run's config: what changes at fixed steps.
 *
 * A phase says from which step on it holds, and what then differs from the run's own keys. Of
 * phases the plan knows batches alone: mx_runphases_parts makes its parts of them. Pure but for
 * malloc; any thread. */
#ifndef MX_DAEMON_RUNPHASES_H
#define MX_DAEMON_RUNPHASES_H

#include "daemon/runconf.h"

/* The key `phases` of a run's config, whose own batch_size, seq_len and block are known. */
int mx_runphases_parse(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                       struct mx_err *err) MX_MUST_CHECK;
/* The parts of the plan and the unit of samples that follow from them: c->parts (NULL if there is
 * one), c->n_parts and c->unit. Phases that don't change batches make none. */
int mx_runphases_parts(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                       struct mx_err *err) MX_MUST_CHECK;

#endif
