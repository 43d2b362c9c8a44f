/* runpolicy.h - the part of a run's config that is about policies: the run's own, its shadows, the
 * evaluation sets they look at, the attributes of domains. See runconf.h. Pure but for malloc; any
 * thread. */
#ifndef MX_DAEMON_RUNPOLICY_H
#define MX_DAEMON_RUNPOLICY_H

#include "daemon/runconf.h"

/* Names may be of any length in a text, but not here. */
int mx_runpolicy_name(const struct mx_json_doc *d, const mx_json *at, const char *name,
                      const char *what, struct mx_err *err) MX_MUST_CHECK;
/* Root keys "eval_sets", "policy", "shadows" and "shadow_steps", and "attributes" of the domains,
 * which c must have by now. */
int mx_runpolicy_parse(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                       struct mx_err *err) MX_MUST_CHECK;
void mx_runpolicy_clear(struct mx_runconf *c);

/* Of these, what is known before any policy: sets, attributes, names. runevals.c. */
int mx_runevals_parse(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                      struct mx_err *err) MX_MUST_CHECK;
void mx_runevals_clear(struct mx_runconf *c);

#endif
