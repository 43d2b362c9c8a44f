/* runconf.h - a run's config: from the JSON an operator wrote to what the core takes.
 *
 * Parsing (keys, types, ranges, lines) is split from resolving (what domains there are, how many
 * samples, weights from sizes), so that a file can be checked without a store. docs/config.md lists
 * every key. Pure but for malloc; any thread. */
#ifndef MX_DAEMON_RUNCONF_H
#define MX_DAEMON_RUNCONF_H

#include "daemon/core/run.h"
#include "proto/json.h"
#include "proto/limits.h"

struct mx_runconf_domain {
    char name[MX_NAME_MAX + 1];
    double weight;        /* NAN: none given */
    double max_epochs;    /* 0: none */
    struct mx_limit limit;
    enum mx_on_exhausted on_exhausted;
};

/* What holds from a step on, in place of the run's own. */
struct mx_runconf_phase {
    uint64_t from;
    uint64_t batch_size, seq_len, block;
};

struct mx_runconf {
    char name[MX_NAME_MAX + 1];
    uint64_t seed, window;
    uint64_t batch_size, seq_len, block; /* of step 0 */
    struct mx_runconf_phase *phases;     /* owned; rising in `from` */
    uint32_t n_phases;
    struct mx_plan_part *parts;          /* owned; what the phases make of it, 1 at least */
    uint32_t n_parts;
    uint64_t unit;                       /* tokens of a sample: the shortest seq_len */
    uint64_t max_ahead, reserve_steps, snapshot_steps, lead;
    uint64_t end_steps;      /* UINT64_MAX: none */
    uint64_t lag;            /* of lockstep; 0: async */
    uint64_t timeout_s;      /* 0: none */
    uint64_t warn_steps;
    double loss_max, quorum, divergence;
    bool adopt;              /* new shards are taken where a domain's next epoch begins */
    enum mx_sampling sampling;
    const struct mx_policy_ops *policy;
    double *params;          /* policy->n_params; owned */
    uint32_t k;
    struct mx_runconf_domain *domains; /* owned; in the file's order */
};

/* name: the file's, for errors. run_name: overrides the file's "name" key, or NULL. */
int mx_runconf_parse(const char *name, const char *text, size_t n, const char *run_name,
                     struct mx_runconf *ret, struct mx_err *err) MX_MUST_CHECK;
void mx_runconf_clear(struct mx_runconf *c);
const char *mx_sampling_name(enum mx_sampling s);

#endif
