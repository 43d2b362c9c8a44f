/* ground.c - see ground.h. */
#include "daemon/ground.h"

#include <string.h>

static void free_ground(struct mx_ground *g)
{
    free(g->views);
    free(g->domains);
    free(g->stretches);
    free(g->gone);
    free(g->turns);
    free(g);
}

/* The domains and what they point to, copied. */
static void copy_domains(struct mx_ground *g, const struct mx_plan_domain *from)
{
    struct mx_stretch *stretch = g->stretches;
    struct mx_gone *gone = g->gone;

    for (uint32_t i = 0; i < g->plan.k; i++) {
        struct mx_plan_domain *d = &g->domains[i];

        *d = from[i];
        d->stretches = stretch;
        d->gone = gone;
        memcpy(stretch, from[i].stretches, d->n_stretches * sizeof *stretch);
        memcpy(gone, from[i].gone, d->n_gone * sizeof *gone);
        stretch += d->n_stretches;
        gone += d->n_gone;
    }
}

struct mx_ground *mx_ground_new(struct mx_run *run, const struct mx_plan_spec *spec,
                                const struct mx_view *const *views)
{
    const struct mx_plan_domain *from = mx_run_domains(run);
    struct mx_ground *g = calloc(1, sizeof *g);
    const struct mx_turn *turns;
    struct mx_run_view v;
    size_t stretches = 0, gone = 0;

    if (g == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < spec->k; i++) {
        stretches += from[i].n_stretches;
        gone += from[i].n_gone;
    }
    turns = mx_run_turns(run, &g->n_turns);
    g->views = malloc(spec->k * sizeof *g->views);
    g->domains = malloc(spec->k * sizeof *g->domains);
    g->stretches = malloc((stretches + 1) * sizeof *g->stretches);
    g->gone = malloc((gone + 1) * sizeof *g->gone);
    g->turns = malloc((g->n_turns + 1) * sizeof *g->turns);
    if (g->views == NULL || g->domains == NULL || g->stretches == NULL || g->gone == NULL ||
        g->turns == NULL) {
        free_ground(g);
        return NULL;
    }
    g->refs = 1;
    g->plan = *spec;
    g->plan.domains = g->domains;
    copy_domains(g, from);
    memcpy(g->views, views, spec->k * sizeof *views);
    memcpy(g->turns, turns, g->n_turns * sizeof *turns);
    mx_run_view(run, &v);
    g->first_step = v.first_step;
    return g;
}

struct mx_ground *mx_ground_take(struct mx_ground *g)
{
    g->refs++;
    return g;
}

void mx_ground_give(struct mx_ground *g)
{
    if (g != NULL && --g->refs == 0) {
        free_ground(g);
    }
}

bool mx_ground_mix_holds(const struct mx_ground *g, uint64_t step, uint64_t version)
{
    for (uint32_t i = 0; i < g->n_turns; i++) {
        if (g->turns[i].step <= step && version < g->turns[i].version) {
            return false;
        }
    }
    return true;
}

bool mx_ground_state_holds(const struct mx_ground *g, uint64_t step, uint64_t applied)
{
    for (uint32_t i = 0; i < g->n_turns; i++) {
        if (g->turns[i].step <= step && applied < g->turns[i].index) {
            return false;
        }
    }
    return true;
}
