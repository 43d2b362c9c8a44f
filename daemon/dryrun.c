/* dryrun.c - see dryrun.h. */
#include "daemon/dryrun.h"

#include "daemon/entry.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* An entry, or a finished computation, on its way back to the run. */
struct mx_dry_pending {
    struct mx_dry_pending *next;
    uint64_t handle; /* of a computation; 0: it is an entry */
    uint64_t index;
    size_t n;        /* bytes of the entry, or doubles of the result */
    uint8_t *bytes;
    double *values;
};

static int no_memory(struct mx_err *err)
{
    return mx_fail(err, MX_ENOMEM, "no memory for a run's journal");
}

static void free_pending(struct mx_dry_pending *p)
{
    free(p->bytes);
    free(p->values);
    free(p);
}

static struct mx_dry_pending *put(struct mx_dryrun *d)
{
    struct mx_dry_pending *p = calloc(1, sizeof *p);

    if (p != NULL) {
        *d->last = p;
        d->last = &p->next;
    }
    return p;
}

/* The bytes that a journal would hold. */
static int append(struct mx_dryrun *d, const struct mx_entry *e, struct mx_err *err)
{
    struct mx_dry_pending *p = put(d);

    if (p == NULL || (p->bytes = mx_entry_encode(e, d->k, &p->n)) == NULL) {
        return no_memory(err);
    }
    p->index = e->index;
    return 0;
}

static int compute(struct mx_dryrun *d, uint32_t mixer, uint64_t handle, struct mx_err *err)
{
    const struct mx_mixer_conf *c = mx_run_mixer(d->run, mixer);
    double *scratch = malloc((mx_mixer_work_scratch(c) + 1) * sizeof *scratch);
    struct mx_dry_pending *p = put(d);
    int rc = 0;

    if (scratch == NULL || p == NULL ||
        (p->values = malloc((mx_mixer_work_size(c) + 1) * sizeof *p->values)) == NULL) {
        rc = no_memory(err);
    } else {
        p->handle = handle;
        p->n = mx_mixer_work_size(c);
        mx_mixer_work(mx_run_mixer_state(d->run, mixer), c, p->values, scratch);
    }
    free(scratch);
    return rc;
}

/* again: whether a request is to be given once more. */
static int carry_out(struct mx_dryrun *d, const struct mx_effects *fx, bool *again,
                     struct mx_err *err)
{
    int rc = 0;

    for (uint32_t i = 0; i < fx->n && rc == 0; i++) {
        const struct mx_effect *f = &fx->fx[i];

        switch (f->kind) {
        case MX_FX_SERVE: d->served = true; break;
        case MX_FX_HOLD: d->held = true; break;
        case MX_FX_AGAIN: *again = true; break;
        case MX_FX_REFUSE:
            d->refused = true;
            d->refusal = *f;
            break;
        case MX_FX_APPEND:
            rc = d->on_append != NULL ? d->on_append(d->arg, f, err) : 0;
            rc = rc == 0 ? append(d, &f->entry, err) : rc;
            break;
        case MX_FX_WORK: rc = compute(d, (uint32_t)f->u[0], f->handle, err); break;
        case MX_FX_ARM: d->timer_ms = f->at_ms; break;
        case MX_FX_DROP:
        case MX_FX_SNAPSHOT: break; /* nothing is filled ahead, nothing can be lost */
        }
    }
    return rc;
}

static int apply(struct mx_dryrun *d, const struct mx_dry_pending *p, bool *again,
                 struct mx_err *err)
{
    struct mx_effects fx = {0};
    struct mx_entry_box box;
    int rc = mx_entry_decode((struct mx_span){p->bytes, p->n}, d->k, &box, err);

    if (rc < 0) {
        return rc;
    }
    box.entry.index = p->index;
    if (mx_run_apply(d->run, &box.entry, d->now_ms, &fx) != MX_APPLIED) {
        rc = mx_fail(err, MX_EDAMAGED, "entry %" PRIu64 " (%s) can't follow the ones before",
                     p->index, mx_entry_name(box.entry.kind));
    }
    d->applied++;
    d->counted |= fx.counted != 0;
    if (rc == 0 && d->on_applied != NULL) {
        rc = d->on_applied(d->arg, &box.entry, err);
    }
    rc = rc == 0 ? carry_out(d, &fx, again, err) : rc;
    mx_entry_box_clear(&box);
    return rc;
}

static int give(struct mx_dryrun *d, struct mx_event *ev, bool *again, struct mx_err *err)
{
    struct mx_effects fx = {0};

    ev->now_ms = d->now_ms;
    mx_run_event(d->run, ev, &fx);
    return carry_out(d, &fx, again, err);
}

/* Until nothing is under way. */
static int settle(struct mx_dryrun *d, bool *again, struct mx_err *err)
{
    int rc = 0;

    while (rc == 0 && d->first != NULL) {
        struct mx_dry_pending *p = d->first;

        d->first = p->next;
        d->last = d->first == NULL ? &d->first : d->last;
        if (p->handle == 0) {
            rc = apply(d, p, again, err);
        } else {
            struct mx_entry e = {.values = p->values, .n_values = p->n};
            struct mx_event ev = {.kind = MX_EV_WORKED, .handle = p->handle, .entry = &e};

            rc = give(d, &ev, again, err);
        }
        free_pending(p);
    }
    return rc;
}

void mx_dryrun_init(struct mx_dryrun *d, struct mx_run *run, uint32_t k)
{
    *d = (struct mx_dryrun){.run = run, .k = k, .timer_ms = UINT64_MAX};
    d->last = &d->first;
}

int mx_dryrun_begin(struct mx_dryrun *d, struct mx_err *err)
{
    struct mx_entry first;
    bool again = false;
    int rc;

    mx_run_first_entry(d->run, 0, &first);
    rc = append(d, &first, err);
    return rc == 0 ? settle(d, &again, err) : rc;
}

void mx_dryrun_fini(struct mx_dryrun *d)
{
    while (d->first != NULL) {
        struct mx_dry_pending *p = d->first;

        d->first = p->next;
        free_pending(p);
    }
    d->last = &d->first;
}

int mx_dryrun_play(struct mx_dryrun *d, struct mx_event *ev, struct mx_err *err)
{
    bool again;
    int rc;

    do {
        again = false;
        d->served = d->held = d->refused = d->counted = false;
        rc = give(d, ev, &again, err);
        rc = rc == 0 ? settle(d, &again, err) : rc;
    } while (rc == 0 && again);
    return rc;
}

int mx_dryrun_plan(struct mx_dryrun *d, uint64_t step, uint64_t ahead, uint32_t world,
                   struct mx_err *err)
{
    struct mx_run_view v;
    int rc = 0;

    d->refused = d->held = false;
    mx_run_view(d->run, &v);
    while (rc == 0 && v.frontier <= step) {
        uint64_t most = v.frontier + ahead, before = d->applied;
        struct mx_event ev = {.kind = MX_EV_REQUEST, .step = step < most ? step : most,
                              .world = world, .count = 1};

        ev.oldest = ev.step;
        rc = mx_dryrun_play(d, &ev, err);
        mx_run_view(d->run, &v);
        if (d->refused || (d->held && d->applied == before)) {
            break;
        }
    }
    return rc;
}
