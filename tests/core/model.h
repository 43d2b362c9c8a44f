/* model.h - what a run must do, said a second time: small, slow, and by lists one can look at.
 *
 * A domain is the list of what is left of its present epoch. A step is the list of its slots. A mix
 * is a line in a sorted list, a report a line in another. History is the list of entries that hold
 * in the present branch; going back is to filter it and to begin again. Of the core the model uses
 * the random numbers, the shuffles, the projection of weights and the policies' own functions, and
 * the types in which the two are compared.
 *
 * Where the core is free (when it reserves, how many closes one timer asks for, when it says that
 * a domain is used up) the model takes the entry as it comes and says whether it may come. */
#ifndef MX_TESTS_CORE_MODEL_H
#define MX_TESTS_CORE_MODEL_H

#include "daemon/core/run.h"

#include <stddef.h>
#include <stdint.h>

#define MODEL_K 4
#define MODEL_BATCH 16
#define MODEL_PARTS 3
#define MODEL_LONGEST 4
#define MODEL_NOTHING UINT16_MAX
#define MODEL_STEPS 400   /* no run has more: its end_step */
#define MODEL_SAMPLES 640 /* of a domain, with all that it may grow to */
#define MODEL_MIXES 400
#define MODEL_REPORTS 900
#define MODEL_TURNS 64
#define MODEL_TRAINERS 8
#define MODEL_RANGES 2
#define MODEL_POLICY 128 /* doubles of a policy with its guards, and of their scratch */
#define MODEL_NEVER UINT64_MAX

/* What an entry says, without pointers. */
struct m_entry {
    uint64_t index, step, frontier, version, cause_step, to, samples;
    uint32_t kind, rank, world, flags, n, cause, domain, flag, chunk, shards, serial, branch;
    struct mx_loss losses[MODEL_K];
    uint64_t shares[MODEL_K];
    double weights[MODEL_K];
    struct mx_range ranges[MODEL_RANGES];
};

struct m_domain {
    uint64_t samples, epoch;
    uint64_t used;   /* places of the epoch that are behind the cursor */
    uint64_t cursor; /* places in all that are */
    uint64_t passed; /* of these, passed over where the length changed */
    uint32_t chunk, joins;
    uint64_t later; /* what it has from the next epoch on, or 0 */
    uint32_t later_chunk;
    uint32_t length;   /* samples in a slot, by which the list is laid */
    uint32_t first, n; /* of left: */
    uint16_t left[MODEL_SAMPLES];   /* the sample, or the first of those in a row, that begins at a
                                       place; or MODEL_NOTHING */
    uint8_t window_at[MODEL_SAMPLES]; /* whether a window begins there */
    uint8_t gone[MODEL_SAMPLES];
    int spent; /* 1: that is noted; 2: it may be noted again, as it has grown */
    uint32_t serial;
};

struct m_item {
    uint64_t sample;
    uint32_t domain, epoch;
};

struct m_step {
    uint64_t version, cursors[MODEL_K];
    uint32_t prefix[MODEL_K + 1];
    struct m_item slots[MODEL_BATCH];
};

struct m_mix {
    uint64_t from, version;
    int set;
    uint64_t shares[MODEL_K];
};

struct m_report {
    uint64_t step;
    uint32_t rank, n;
    struct mx_loss losses[MODEL_K];
};

enum m_feedback { M_NONE = 0, M_OPEN, M_WAITS, M_CLOSED };

struct m_state {
    int created;
    uint64_t frontier, reserved, first_step, versions, consumed;
    uint64_t stop, exhausted;
    uint32_t exhausted_domain, branch;
    struct m_domain domains[MODEL_K];
    struct m_step steps[MODEL_STEPS];
    struct m_mix mixes[MODEL_MIXES]; /* rising by from, an operator's behind the policy's */
    uint32_t n_mixes;
    uint8_t skipped[MODEL_STEPS];
    enum m_feedback feedback[MODEL_STEPS];
    uint8_t complete[MODEL_STEPS];
    uint32_t world[MODEL_STEPS];
    uint64_t deadline[MODEL_STEPS];
    struct m_report reports[MODEL_REPORTS]; /* of steps that are open or wait */
    uint32_t n_reports;
    double policy[MODEL_POLICY], weights[MODEL_K];
    int wanted; /* the weights have moved since the last mix that holds them */
    struct {
        uint64_t step;
        int moved; /* and what the policy made of it is in no mix yet */
    } closings[MODEL_STEPS];
    uint32_t n_closings;
    double loss[MODEL_K];
    uint64_t loss_step[MODEL_K];
    uint64_t steps_closed, last_closed, last_delay, accepted, timeouts, below_quorum;
    uint64_t duplicates, late; /* since the process began */
    struct mx_turn turns[MODEL_TURNS];
    uint32_t n_turns;
};

struct m_list {
    struct m_entry *at;
    uint32_t n, cap;
};

struct model {
    const struct mx_run_config *c; /* borrowed */
    struct m_state *s;
    struct m_state *base;  /* what the journal begins with: nothing, or where a fork stood */
    struct m_list journal; /* all entries that were applied */
    struct m_list line;    /* those that hold in the present branch */
    struct m_list flight;  /* those asked for */
    uint64_t set_from;     /* the least step of the SETs since none was in flight */
    uint64_t now_ms;
    int frozen, waiting;
    uint64_t known_from; /* steps before it are not in the core's memory */
    uint64_t trial_end;  /* steps before it may have been filled ahead */
    uint64_t quarantined;
    uint32_t world;
    struct {
        int used;
        uint32_t rank;
        uint64_t oldest, seen_ms;
    } trainers[MODEL_TRAINERS];
    int overflow; /* a list above was too short: the sequence says nothing */
};

enum m_answer { M_NOTHING = 0, M_SERVE, M_HOLD, M_REFUSE };

/* What a call must come to. */
struct m_expect {
    enum m_answer answer;
    enum mx_verdict verdict;
    uint64_t u[2];
    uint32_t n;
    struct m_entry want[2]; /* in this order, but for entries that the core is free to ask for */
    uint32_t quarantined, bad_domain;
    int counted;
    uint64_t drop; /* steps from there on that were filled ahead are to be dropped; or NEVER */
};

/* model_plan.c: domains and steps */
void m_domain_begin(const struct mx_run_config *c, uint32_t domain, struct m_domain *d);
void m_domain_grow(const struct mx_run_config *c, uint32_t domain, struct m_domain *d,
                   uint64_t samples, uint32_t chunk, int now);
/* Whether over half of a domain's first `samples` samples are gone, or of those in a row. */
int m_over_half(const struct mx_run_config *c, const struct m_domain *d, uint64_t samples);
/* Whether there is nothing that may be drawn. */
int m_domain_spent(const struct mx_run_config *c, uint32_t domain, const struct m_domain *d);
/* The part in which a step lies, and the most samples that any part has in a slot. */
struct mx_plan_part m_part(const struct mx_run_config *c, uint64_t step);
uint32_t m_longest(const struct mx_run_config *c);
/* Plans a step: -1 and the domains have moved on, or the domain that stops it. */
int64_t m_plan(const struct mx_run_config *c, const struct m_mix *mix, uint64_t step,
               struct m_domain *domains, struct m_step *ret);

/* model_fold.c: entries */
void m_state_begin(const struct mx_run_config *c, struct m_state *s);
const struct m_mix *m_mix_of(const struct m_state *s, uint64_t step);
void m_shares(const struct mx_run_config *c, const double *weights, uint64_t *ret);
/* Moves the frontier: -1 or the domain that stops it. */
int64_t m_advance(struct model *m, struct m_state *s, uint64_t step);
void m_fold(struct model *m, struct m_state *s, const struct m_entry *e, struct m_expect *x);
/* The state of the present branch as it was at `step`, and what it is made of. */
void m_refold(struct model *m, uint64_t step, struct m_state *ret, struct m_list *ret_line);
int m_has_reported(const struct m_state *s, uint64_t step, uint32_t rank);
/* Whether half of what each domain has may still be drawn: else its state is none to go on from. */
int m_enough_stays(const struct model *m, const struct m_state *s);
/* What a fork does with steps that nobody reports any more. */
void m_close_open(struct model *m, struct m_state *s);
void m_push(struct model *m, struct m_list *l, const struct m_entry *e);

/* model.c: what a run says when something happens */
void model_event(struct model *m, const struct mx_event *ev, struct m_expect *x);
void model_want_mix(struct model *m, struct m_expect *x);
void model_want_exhausted(struct model *m, int64_t domain, struct m_expect *x);
void model_flies(struct model *m, const struct m_entry *e);
uint32_t model_in_flight(const struct model *m, enum mx_entry_kind kind);
uint64_t model_limit(const struct model *m);
/* The first step that isn't to be planned now. */
uint64_t model_barrier(const struct model *m);
uint64_t model_versions(const struct model *m);
/* How many mixes a step from the frontier on can be planned under. */
uint64_t model_count_mixes(const struct m_state *s);
/* The first step from `step` on that isn't passed over. */
uint64_t model_not_skipped(const struct m_state *s, uint64_t step);

/* model_life.c: a run's beginning, its entries, its crashes */
struct model *model_new(const struct mx_run_config *c);
/* A run that goes on from m's `step` under a mix of that version; then its FORK entry is applied.
 */
struct model *model_fork(struct model *m, uint64_t step, uint64_t version);
void model_free(struct model *m);
struct m_entry model_entry(const struct mx_entry *e, uint32_t k);
/* An entry that was in flight has become durable: -1 if it wasn't in flight. */
int model_apply(struct model *m, const struct m_entry *e, struct m_expect *x);
/* The process died: the journal begins with what was applied, and `more` follows. A snapshot holds
 * `snapshot` entries and stands at `step`; 0 for none. -1 if a planned step is another now. */
int model_crash(struct model *m, const struct m_list *more, uint64_t snapshot, uint64_t step,
                struct m_expect *x);
/* An entry that the core is free to ask for. NULL, and it is in flight, or what is wrong with it.
 */
const char *model_allows(struct model *m, const struct m_entry *e);
/* NULL, or what the core should have asked for by now. timer_ms: the timer that it has set. */
const char *model_misses(const struct model *m, uint64_t timer_ms);
/* A step at or past the frontier as it would be planned now; -1 if it can't be told. */
int model_trial(const struct model *m, uint64_t step, struct m_step *ret);

#endif
