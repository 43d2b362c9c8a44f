/* explain.h - why a mix is as it is, as JSON: one form for the journal's listing, mixctl policy,
 * dashboards and simulations.
 *
 * Says what the parts of a mix are: shares before and now, the policy's weights, the terms that
 * they come from, which limit made a share what it is. Knows names and numbers, nothing of hosts,
 * requests or files. Pure but for malloc; any thread. */
#ifndef MX_DAEMON_EXPLAIN_H
#define MX_DAEMON_EXPLAIN_H

#include "daemon/core/run.h"
#include "daemon/runconf.h"
#include "proto/json.h"

/* Domains that an explanation lists: of more, those whose shares moved most. With their names and
 * all terms they leave room for the rest of a reply. */
#define MX_EXPLAIN_LISTED 96u

/* What is known of a mix; what isn't is NULL and left out. */
struct mx_why {
    const struct mx_runconf *conf; /* for names */
    const double *prior;           /* k, sum 1 */
    const uint64_t *was;           /* shares before; k */
    const uint64_t *shares;        /* n_shares: k, or 2 k with weights of the loss behind */
    uint32_t n_shares;
    const double *weights;         /* k: the policy's, after its guards */
    const double *raw;             /* k: its own, before them */
    const double *mean;            /* k: the mean of all that were in force */
    const struct mx_policy_ops *policy; /* what the terms are called */
    const double *terms;           /* n_terms * k */
    const double *was_terms;       /* of the mix before; n_terms * k */
    uint32_t n_terms;
    const uint8_t *bound;          /* k: enum mx_bound */
    const uint64_t *was_loss;      /* k: weights of the loss before */
    bool single;                   /* weights and terms are of single precision, as the journal's */
};

/* Adds members to the object that is open in w:
 *   "was", "weights", "raw", "mean_weights" {domain: number}
 *   "loss_weights", "loss_was" {domain: number}, where the mix has them
 *   "terms"                   {term: {domain: number or null}}
 *   "moved_most"              {domain: term}: of the terms, the one that changed most, relatively
 *   "bound"                   {domain: "floor"}: those alone that a limit binds
 *   "kl_prior"                of the mix to the prior, nats; null if it isn't finite
 *   "effective_domains"       exp(entropy of the mix)
 * most: domains listed, of more those whose shares moved most; the mix itself isn't among them.
 * Where weights go with the loss, the last two are of these. */
void mx_explain_mix(struct mx_jsonw *w, const struct mx_why *y, uint32_t most);

/* "phase" and "phase_name", of a run that has phases. */
void mx_explain_phase(struct mx_jsonw *w, const struct mx_runconf *conf, uint32_t phase);
/* {domain: number} for each of the k domains, as member `key`. */
void mx_explain_numbers(struct mx_jsonw *w, const char *key, const struct mx_runconf *conf,
                        const double *v);
void mx_explain_shares(struct mx_jsonw *w, const char *key, const struct mx_runconf *conf,
                       const uint64_t *shares);
/* {"updates", "clipped", ...} of a policy's guards, as member `key`. */
void mx_explain_counts(struct mx_jsonw *w, const char *key, const double *mixer_state);
/* KL of shares to a prior, nats: INFINITY where a domain has a share and no prior. */
double mx_explain_kl(const uint64_t *shares, const double *prior, uint32_t k);
/* exp(entropy): k if all are alike, 1 if there is but one. */
double mx_explain_effective(const uint64_t *shares, uint32_t k);
/* "floor", ...; "none" */
const char *mx_bound_name(enum mx_bound b);
const char *mx_cause_name(enum mx_mix_cause cause);
const char *mx_absent_name(enum mx_absent a);

#endif
