/* runphases.h - the `phases` of a run's config: what changes at fixed steps.
 *
 * A phase says from which step on it holds, and what then differs from the run's own keys. The plan
 * knows its batches, and what its limits let a domain take over from others: mx_runphases_parts makes
 * parts of them. The schedule knows the rest (runschedule.h). Pure but for malloc; any thread. */
#ifndef MX_DAEMON_RUNPHASES_H
#define MX_DAEMON_RUNPHASES_H

#include "daemon/runconf.h"

/* The key `phases` of a run's config, of which all but its parts is known. What comes before the
 * first one is a phase as well. */
int mx_runphases_parse(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                       struct mx_err *err) MX_MUST_CHECK;
/* The parts of the plan and the unit of samples that follow from them: c->parts, c->n_parts and
 * c->unit. Phases that change neither batches nor limits make none. */
int mx_runphases_parts(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                       struct mx_err *err) MX_MUST_CHECK;

#endif
