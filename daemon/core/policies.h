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

#endif
