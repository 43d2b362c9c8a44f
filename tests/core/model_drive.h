/* model_drive.h - a run of the core, the model beside it, and what compares them: for model_world.c
 * and model_ops.c alone. */
#ifndef MX_TESTS_CORE_MODEL_DRIVE_H
#define MX_TESTS_CORE_MODEL_DRIVE_H

#include "tests/core/journal.h"
#include "tests/core/model.h"
#include "tests/core/model_world.h"

#include <math.h>

#define HELD_MAX 64

struct side {
    struct mx_run *run;
    void *memory;
    struct model *m;
    struct journal disk, queue; /* durable and applied; on their way */
    uint64_t *snapshot;
    size_t snapshot_n;
    uint64_t snapshot_applied, snapshot_step;
    uint64_t timer_ms;
    struct mx_event held[HELD_MAX];
    uint32_t n_held;
};

struct world {
    const int *cfg;
    struct mx_plan_domain domains[MODEL_K];
    struct mx_plan_part parts[MODEL_PARTS];
    uint32_t takes[MODEL_PARTS * MODEL_K];
    struct mx_limit limits[MODEL_K];
    double prior[MODEL_K], whole_prior[MODEL_K], params[16];
    struct mx_mixer_conf mixer;
    struct mx_run_config c;
    struct side sides[2];
    uint64_t now_ms, handle;
    struct model_outcome *out;
};

#define CHECK(w, cond, ...)               \
    do {                                  \
        if (!(cond)) {                    \
            return flunk(w, __VA_ARGS__); \
        }                                 \
    } while (0)
#define U(x) ((unsigned long long)(x))

/* One call of the core and what must come of it. */
struct call {
    const struct mx_event *ev; /* NULL: an entry was applied */
    struct m_expect x;
    uint32_t wanted; /* of x.want: those that have come */
    int answers, dropped, again;
};

/* model_world.c. All give 0, or -1 when core and model have parted. */
int __attribute__((format(printf, 2, 3))) flunk(struct world *w, const char *format, ...);
void count(struct world *w, int what);
int carry_out(struct world *w, struct side *s, struct call *c, const struct mx_effects *fx);
/* What a call must have come to by its end. */
int settle(struct world *w, struct side *s, const struct call *c);
int give(struct world *w, struct side *s, struct mx_event *ev);
int give_all(struct world *w, struct side *s, struct mx_event *evs, uint32_t n);
/* Gives a command; a fresh handle each time. */
int command(struct world *w, struct side *s, enum mx_event_kind kind, struct mx_entry *e);
/* The first entry on its way becomes durable and is applied; who was held asks again. */
int write_one(struct world *w, struct side *s);
/* A step that the core tells of against what the model says of it. */
int check_step(struct world *w, const struct side *s, uint64_t step, const struct mx_step *got,
               const struct m_step *want);

#endif
