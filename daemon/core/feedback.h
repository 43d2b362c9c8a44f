/* feedback.h - which reported losses may reach a policy, and sums that don't depend on the order in
 * which ranks report. Internal to the core but for mx_loss_ok and mx_loss_clean. Pure; any
 * thread. */
#ifndef MX_CORE_FEEDBACK_H
#define MX_CORE_FEEDBACK_H

#include "daemon/core/run.h"

/* What a loss must keep to. */
struct mx_loss_bounds {
    double loss_max;     /* nats: the most that a mean over tokens may be */
    uint64_t tokens_max; /* the most that one rank can have seen of a step */
};

/* Whether a rank's sum is finite, not negative, over at least one and at most tokens_max tokens,
 * and its mean at most loss_max. */
int mx_loss_ok(const struct mx_loss *l, const struct mx_loss_bounds *b);

/* The same for an evaluation's: it may be over any number of tokens. */
int mx_eval_ok(const struct mx_eval_loss *l, double loss_max);
/* A reward's mean may be as large as MX_REWARD_MAX, of either sign. */
#define MX_REWARD_MAX 1e6
#define MX_REWARD_COUNT_MAX ((uint64_t)1 << 34) /* of one report: so sums over all ranks fit */
int mx_reward_ok(const struct mx_reward *r);
/* Inner products (upper triangle of n domains) that are finite, of sane size, with no negative
 * square, and a learning rate over 0. If not, the number that isn't, and the row that it is of. */
int mx_gram_ok(const double *gram, uint32_t n, double lr, uint32_t *ret_row, double *ret_bad);

/* Copies the losses that are ok to ret (room for n) and returns how many; the others are
 * quarantined. *ret_first: index of the first of those, or n. */
uint32_t mx_loss_clean(const struct mx_loss *losses, uint32_t n, const struct mx_loss_bounds *b,
                       struct mx_loss *ret, uint32_t *ret_first);

/* A sum of doubles in fixed point: 72 bits before the point and 56 behind it. Addition of integers
 * gives the same in any order, and one term below 2^72 comes back as it went in, if its last bit
 * is worth 2^-56 or more. Largest sum: 2^16 ranks * 2^40 tokens * 2^14 nats = 2^70, and as large
 * for rewards: 2^16 * 2^34 * 2^20; with its sign that is all there is room for. */
struct mx_fixed {
    uint64_t high, low;
};

void mx_fixed_add(struct mx_fixed *sum, double v); /* |v| < 2^71 */
double mx_fixed_get(const struct mx_fixed *sum);   /* of a sum that isn't negative */
double mx_fixed_get_signed(const struct mx_fixed *sum);

#endif
