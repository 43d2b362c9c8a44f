/* ground.h - what a run draws from and plans with, as of the last change of its domains.
 *
 * A run's domains can grow and lose documents while filler threads work on its steps. So what they
 * read is never changed: after each change the loop makes a new ground, and the old one goes when
 * the last work on it is done. The latest ground is right for every step of the present branch of
 * history, past and to come (daemon/core/series.h says why).
 *
 * The loop makes, takes and gives back; what a ground holds may be read by whoever holds one. */
#ifndef MX_DAEMON_GROUND_H
#define MX_DAEMON_GROUND_H

#include "daemon/core/run.h"
#include "store/view.h"

struct mx_ground {
    uint32_t refs;
    uint32_t n_turns;
    uint64_t first_step;            /* of the run */
    struct mx_plan_spec plan;       /* with domains, stretches and gone of its own */
    const struct mx_view **views;   /* k; they live as long as the host */
    struct mx_plan_domain *domains; /* what plan points to, and they */
    struct mx_stretch *stretches;
    struct mx_gone *gone;
    struct mx_turn *turns;
};

/* Of a run as it is now, with one reference. spec: all but the domains. NULL if memory is out. */
struct mx_ground *mx_ground_new(struct mx_run *run, const struct mx_plan_spec *spec,
                                const struct mx_view *const *views);
struct mx_ground *mx_ground_take(struct mx_ground *g);
void mx_ground_give(struct mx_ground *g); /* NULL is fine */

/* Whether what was made for a step - a mix with its version, a state with the index of its last
 * entry - belongs to the branch of history in force: no later turn has done away with it. */
bool mx_ground_mix_holds(const struct mx_ground *g, uint64_t step, uint64_t version);
bool mx_ground_state_holds(const struct mx_ground *g, uint64_t step, uint64_t applied);

#endif
