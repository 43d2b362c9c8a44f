/* runconf.h - a run's config: from the JSON an operator wrote to what the core takes.
 *
 * Parsing (keys, types, ranges, lines) is split from resolving (what domains there are, how many
 * samples, weights from sizes), so that a file can be checked without a store. docs/config.md lists
 * every key. Pure but for malloc; any thread. */
#ifndef MX_DAEMON_RUNCONF_H
#define MX_DAEMON_RUNCONF_H

#include "daemon/core/run.h"
#include "daemon/names.h"
#include "proto/json.h"
#include "proto/limits.h"

struct mx_runconf_domain {
    char name[MX_NAME_MAX + 1];
    double weight;        /* NAN: none given */
    double max_epochs;    /* 0: none */
    struct mx_limit limit;
    enum mx_on_exhausted on_exhausted;
};

/* One policy of a run: what its mixer conf points to. All owned. */
struct mx_runconf_policy {
    char label[MX_NAME_MAX + 1]; /* of a shadow: as given, or its name and, if need be, its number */
    double *params;
    double *tables[MX_POLICY_TABLES_MAX];
};

struct mx_runconf_evals {
    char name[MX_NAME_MAX + 1];
    uint32_t m;
    char (*members)[MX_NAME_MAX + 1]; /* owned */
};

/* An attribute that domains have values of. */
struct mx_runconf_attribute {
    char name[MX_NAME_MAX + 1];
    uint32_t n_values;
    char (*values)[MX_NAME_MAX + 1]; /* owned; in order of first appearance */
};

/* What holds from a step on, in place of the run's own. */
struct mx_runconf_phase {
    char name[MX_NAME_MAX + 1];
    uint64_t from;
    uint64_t batch_size, seq_len, block;
    enum mx_phase_kind kind;
    enum mx_anneal_shape shape;
    bool blend;              /* an anneal goes out from the policy's present weights */
    double *mix;             /* k, sum 1; owned; NULL if the kind has none */
    struct mx_limit *limits; /* k; owned; NULL: the run's own */
};

struct mx_runconf {
    char name[MX_NAME_MAX + 1];
    uint64_t seed, window;
    uint64_t batch_size, seq_len, block; /* of step 0 */
    struct mx_runconf_phase *phases;     /* owned; rising in `from`, the first one's is 0 */
    uint32_t n_phases;                   /* 0: none */
    struct mx_phase *schedule;           /* owned; n_phases: what they say about the mix */
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
    /* The run's policy, then its shadows; k and prior are for the run to fill in. Owned, and valid
     * until mx_runconf_clear, wherever the struct itself goes. */
    struct mx_mixer_conf *mixers;
    struct mx_runconf_policy *policies; /* n_mixers likewise */
    uint32_t n_mixers;
    uint64_t shadow_steps;
    struct mx_runconf_evals *eval_sets; /* owned */
    uint32_t n_eval_sets;               /* >= 1 */
    bool evals_implied;                 /* none was named: one of the domains, "eval" */
    uint32_t eval_sizes[MX_EVAL_SETS_MAX];
    double *attributes;                 /* k x n_attributes: number of the value, -1 for none */
    struct mx_runconf_attribute attribute[MX_POLICY_ATTRIBUTES_MAX];
    uint32_t n_attributes;
    struct mx_names *names;             /* of domains, sets, members; owned */
    uint32_t k;
    struct mx_runconf_domain *domains; /* owned; in the file's order */
};

/* name: the file's, for errors. run_name: overrides the file's "name" key, or NULL. */
int mx_runconf_parse(const char *name, const char *text, size_t n, const char *run_name,
                     struct mx_runconf *ret, struct mx_err *err) MX_MUST_CHECK;
void mx_runconf_clear(struct mx_runconf *c);
/* What the core takes of it, for a run of this plan; prior and limits are still to be set. What it
 * points to is the config's. */
struct mx_run_config mx_runconf_core(const struct mx_runconf *c, const struct mx_plan_spec *plan);
/* The limits in force at a step, for domain i. */
const struct mx_limit *mx_runconf_limit(const struct mx_runconf *c, uint64_t step, uint32_t i);
/* The phase that a step lies in, or NULL of a run without any. */
const struct mx_runconf_phase *mx_runconf_phase_at(const struct mx_runconf *c, uint64_t step);
const char *mx_phase_kind_name(enum mx_phase_kind kind);
const char *mx_sampling_name(enum mx_sampling s);

/* ---- for the files runconf.c and run*.c of the config alone ---- */
/* The index of a string member among `names`; *ret is left alone if the key is missing. */
int mx_runconf_choice(const struct mx_json_doc *d, const mx_json *o, const char *key,
                      const char *const *names, int n, int *ret, struct mx_err *err) MX_MUST_CHECK;
/* Whether limits (k) can be met together; list: the object that says them by domain. */
int mx_runconf_check_limits(const struct mx_json_doc *d, const mx_json *list,
                            const struct mx_runconf *c, const struct mx_limit *limits,
                            struct mx_err *err) MX_MUST_CHECK;

#endif
