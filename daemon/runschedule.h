/* runschedule.h - what a phase of a run's config says about the mix: whose weights it is made of,
 * and under which limits. See runphases.h and core/schedule.h. Pure but for malloc; any thread. */
#ifndef MX_DAEMON_RUNSCHEDULE_H
#define MX_DAEMON_RUNSCHEDULE_H

#include "daemon/runconf.h"

/* Keys "kind", "mix", "shape", "freeze" and "limits" of the phase at `v`. The run's domains, their
 * limits and its names are known. */
int mx_runschedule_parse(const struct mx_json_doc *d, const mx_json *v, const struct mx_runconf *c,
                         struct mx_runconf_phase *p, struct mx_err *err) MX_MUST_CHECK;
/* The schedule that the phases make: c->schedule, of c->n_phases. */
int mx_runschedule_make(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                        struct mx_err *err) MX_MUST_CHECK;
void mx_runschedule_clear(struct mx_runconf *c);

#endif
