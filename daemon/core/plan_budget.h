/* plan_budget.h - the part of planning that keeps domains within their budgets. Internal to the
 * core. Integers only; any thread. */
#ifndef MX_CORE_PLAN_BUDGET_H
#define MX_CORE_PLAN_BUDGET_H

#include "daemon/core/plan.h"

/* What the counts of a step are corrected by. */
struct mx_plan_room {
    const struct mx_plan_spec *spec;
    const uint64_t *shares, *cursors;
    uint32_t unit;   /* slots that are moved at once: counts are of so many */
    uint32_t batch;  /* of the step's part */
    uint32_t length; /* likewise */
    const uint32_t *takes_below; /* k, of the step's part; NULL: the domains' own */
};

/* Corrects counts so that no budget is broken, as mx_plan_counts says. -1, or the domain that stops
 * the run. */
int64_t mx_plan_keep_budgets(const struct mx_plan_room *r, uint32_t *counts);

#endif
