/* policies.h - what the registry knows of each policy's file. Internal to the core. */
#ifndef MX_CORE_POLICIES_H
#define MX_CORE_POLICIES_H

#include "daemon/core/policy.h"

extern const struct mx_policy_ops mx_policy_static;
extern const struct mx_policy_ops mx_policy_odm;
extern const struct mx_policy_ops mx_policy_odm_single;
extern const struct mx_policy_ops mx_policy_odm_paper;
extern const struct mx_policy_ops mx_policy_exp3;
extern const struct mx_policy_ops mx_policy_ema;
extern const struct mx_policy_ops mx_policy_naive_validation;
extern const struct mx_policy_ops mx_policy_exp3_classic;
extern const struct mx_policy_ops mx_policy_loss_average;
extern const struct mx_policy_ops mx_policy_doremi;
extern const struct mx_policy_ops mx_policy_doge;
extern const struct mx_policy_ops mx_policy_ucb;
extern const struct mx_policy_ops mx_policy_boltzmann;
extern const struct mx_policy_ops mx_policy_agents;
extern const struct mx_policy_ops mx_policy_skillit;
extern const struct mx_policy_ops mx_policy_dbl;
extern const struct mx_policy_ops mx_policy_aioli;
extern const struct mx_policy_ops mx_policy_ado;

/* How Skill-It's authors draw the n samples of a round: floor(p_i n) of each domain, and the last
 * takes the whole remainder. weights: k, >= 0, sum > 0. Here for comparison: a plan's shares are
 * exact. */
void mx_skillit_counts(const double *weights, uint32_t k, uint64_t n, uint64_t *ret);

/* In a state of aioli: the order of the domains' bursts in the present sweep, k. To be replaced where
 * a recorded order is replayed. */
double *mx_aioli_order(double *state);

/* ADO's floor, as its authors have it: no p under min_prob, then normalised; so one may end a bit
 * under it. p: k, >= 0, sum > 0. */
void mx_ado_clip(double *p, uint32_t k, double min_prob);

/* In a state of ado: the points that a fit of `domain` would be made of now. x, y: room for
 * history_rows each. How many. */
size_t mx_ado_points(const double *state, const struct mx_policy_conf *c, uint32_t domain,
                     double *x, double *y);

#endif
