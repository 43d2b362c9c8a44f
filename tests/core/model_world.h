/* model_world.h - sequences of operations as data, and what carries one out on the core and on the
 * model at once. */
#ifndef MX_TESTS_CORE_MODEL_WORLD_H
#define MX_TESTS_CORE_MODEL_WORLD_H

#include <stdint.h>

/* name, from, to: numbers that make a run's config. Those of a domain come MODEL_K times. Smaller
 * is simpler, so that shrinking makes a config plain. */
#define MODEL_OF_DOMAINS(X, name, from, to)                                                       \
    X(name##0, from, to) X(name##1, from, to) X(name##2, from, to) X(name##3, from, to)
#define MODEL_CONFIG(X)                                                                           \
    X(seed, 0, 1 << 20)                                                                           \
    X(k, 1, 4)                                                                                    \
    X(units, 1, 8) /* batch = units * block */                                                    \
    X(block, 1, 2)                                                                                \
    X(sampling, 0, 2)                                                                             \
    X(policy, 0, 3)                                                                               \
    X(max_ahead, 1, 12)                                                                           \
    X(reserve, 1, 12)                                                                             \
    X(snapshot, 1, 30)                                                                            \
    X(lead, 0, 4)                                                                                 \
    X(lag, 0, 4)                                                                                  \
    X(quorum, 0, 4) /* quarters */                                                                \
    X(timeout, 0, 5) /* 0: none; else hundreds of milliseconds */                                 \
    X(end, 0, 370) /* 400 - end */                                                                \
    X(second, 0, 60) /* step from which a second part is; 0: there is none */                     \
    X(third, 0, 60)  /* steps after it, a third */                                                \
    X(length0, 0, 2) /* samples in a slot: 1 << length */                                         \
    X(length1, 0, 2)                                                                              \
    X(length2, 0, 2)                                                                              \
    X(units1, 1, 8)                                                                               \
    X(units2, 1, 8)                                                                               \
    MODEL_OF_DOMAINS(X, samples, 1, 60)                                                           \
    MODEL_OF_DOMAINS(X, epochs, 0, 24) /* quarters; 0: any number */                              \
    MODEL_OF_DOMAINS(X, exhausted, 0, 2)                                                          \
    MODEL_OF_DOMAINS(X, takes, 0, 6)                                                              \
    MODEL_OF_DOMAINS(X, chunk, 1, 5)                                                              \
    MODEL_OF_DOMAINS(X, prior, 0, 9)                                                              \
    X(floor0, 0, 1)                                                                               \
    X(ceiling0, 0, 1)

enum {
#define MODEL_CONFIG_ENUM(name, from, to) CFG_##name,
    MODEL_CONFIG(MODEL_CONFIG_ENUM)
#undef MODEL_CONFIG_ENUM
    MODEL_CONFIG_N
};

/* name, then what a .. f are. Steps are told from the frontier, so that an operation keeps its
 * sense when others before it are taken away. */
#define MODEL_OPS(X)                                                                              \
    X(ASK, "rank", "world", "ahead", "behind", "first", "count") /* step = frontier + ahead */    \
    X(POST, "rank", "world", "back", "losses", "odd", "version") /* step = frontier - 1 - back */ \
    X(POST_ALL, "world", "back", "losses", "more", "ranks", "")  /* ranks: 0 for all of them */   \
    X(SET, "at", "weights", "again", "", "", "")                 /* at: 0 now, else later */      \
    X(STOP, "", "", "", "", "", "")                                                               \
    X(SKIP, "ahead", "length", "", "", "", "")                                                    \
    X(ADOPT, "domain", "more", "now", "chunk", "again", "")                                       \
    X(WITHDRAW, "domain", "first", "count", "gap", "stale", "")                                   \
    X(FREEZE, "", "", "", "", "", "")                                                             \
    X(THAW, "", "", "", "", "", "")                                                               \
    X(REWIND, "back", "unready", "", "", "", "")                                                  \
    X(FORK, "back", "", "", "", "", "") /* the other run anew */                                  \
    X(TIME, "ms", "", "", "", "", "")                                                             \
    X(WRITE, "entries", "", "", "", "", "")                                                       \
    X(CRASH, "durable", "snapshot", "", "", "", "")                                               \
    X(DRIVE, "steps", "world", "", "", "", "") /* each asked for, held, written and served */     \
    X(LOOK, "ahead", "", "", "", "", "")

enum model_op_kind {
#define MODEL_OP_ENUM(NAME, a, b, c, d, e, f) OP_##NAME,
    MODEL_OPS(MODEL_OP_ENUM)
#undef MODEL_OP_ENUM
    MODEL_OPS_N
};

#define MODEL_ARGS 6
#define MODEL_OPS_MAX 130

struct model_op {
    int kind, run; /* run: 0, or 1 for the fork */
    int arg[MODEL_ARGS];
};

struct model_sequence {
    int config[MODEL_CONFIG_N];
    struct model_op ops[MODEL_OPS_MAX];
    uint32_t n;
};

/* What came up, so that a test can tell that it reaches all of it. */
#define MODEL_TALLIES(X)                                                                          \
    X(SERVED, "served")                                                                           \
    X(OLD, "of them old")                                                                         \
    X(HELD, "held")                                                                               \
    X(TRIALS, "tried ahead")                                                                      \
    X(DROPS, "drops")                                                                             \
    X(AGAIN, "asked to ask again")                                                                \
    X(CRASHES, "crashes")                                                                         \
    X(LOADED, "snapshots loaded")                                                                 \
    X(JOINS, "joins")                                                                             \
    X(FORKS, "forks")                                                                             \
    X(REWINDS, "rewinds")                                                                         \
    X(BACK, "ways back")                                                                          \
    X(BACK_LOADED, "of them by a snapshot")                                                       \
    X(QUARANTINES, "losses left out")                                                             \
    X(BELOW_QUORUM, "below quorum")                                                               \
    X(LOCKSTEP, "in lockstep")                                                                    \
    X(LATER, "steps of later parts")                                                              \
    X(LONGER, "of another length")

enum {
#define MODEL_TALLY_ENUM(NAME, what) COUNT_##NAME,
    MODEL_TALLIES(MODEL_TALLY_ENUM)
#undef MODEL_TALLY_ENUM
    COUNT_TALLIES,
    COUNT_OVERFLOWS = COUNT_TALLIES, /* sequences that were too long for the model's lists */
    COUNT_VERDICTS = 30,
    COUNT_ENTRIES = 70,
    MODEL_COUNTS = 90,
};

struct model_outcome {
    uint64_t counts[MODEL_COUNTS];
    uint32_t op; /* being carried out; n of them: the end */
    int failed;
    char why[400];
};

/* Carries a sequence out; ret->failed says whether the core and the model parted. */
void model_world_run(const struct model_sequence *seq, struct model_outcome *ret);

#endif
