/* plan_budget.h - the part of planning that keeps domains within their budgets. Internal to the
 * core. Integers only; any thread. */
#ifndef MX_CORE_PLAN_BUDGET_H
#define MX_CORE_PLAN_BUDGET_H

#include "daemon/core/plan.h"

/* Corrects counts (in units of `unit` slots) so that no budget is broken, as mx_plan_counts says.
 * -1, or the domain that stops the run. */
int64_t mx_plan_keep_budgets(const struct mx_plan_spec *s, const uint64_t *shares,
                             const uint64_t *cursors, uint32_t unit, uint32_t *counts);

#endif
