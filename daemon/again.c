/* again.c - a report that was posted before: is it the same?
 *
 * A trainer that resumes posts again what it posted before it died. Nothing of that is applied; but
 * if its losses are others than those in the journal, its run isn't the one that it was, and its
 * owner wants to know. The journal is read on a filler's thread: two look-ups. */
#include "daemon/core/feedback.h"
#include "daemon/daemon.h"
#include "daemon/entry.h"
#include "store/catalog.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct again {
    uv_work_t work;
    struct mx_host *h;
    struct mx_req *req;
    bool late;
    uint64_t step, floor; /* entries before `floor` are of a branch that was left */
    uint32_t rank, world, n; /* losses kept */
    struct mx_loss *losses;
    /* the answer */
    enum mx_feedback_outcome outcome;
    uint64_t entry;
    struct mx_divergence how;
    char text[256];
};

static double mean_of(const struct mx_loss *l)
{
    return l->loss_sum / (double)l->tokens;
}

/* Whether two means of a domain, NAN for none, are further apart than the run allows. */
static bool apart(const struct again *a, double was, double now)
{
    double largest = fmax(fabs(was), fabs(now));

    if (isnan(was) || isnan(now)) {
        return isnan(was) != isnan(now);
    }
    return fabs(was - now) > a->h->conf.divergence * largest;
}

/* Both lists rise by domain. */
static void compare(struct again *a, const struct mx_entry *e)
{
    uint32_t i = 0, j = 0;

    while (i < e->n || j < a->n) {
        uint32_t was_domain = i < e->n ? e->losses[i].domain : UINT32_MAX;
        uint32_t now_domain = j < a->n ? a->losses[j].domain : UINT32_MAX;
        uint32_t domain = was_domain < now_domain ? was_domain : now_domain;
        double was = was_domain == domain ? mean_of(&e->losses[i++]) : NAN;
        double now = now_domain == domain ? mean_of(&a->losses[j++]) : NAN;

        if (apart(a, was, now)) {
            a->outcome = MX_FEEDBACK_DIVERGED;
            a->how = (struct mx_divergence){a->step, a->rank, domain, was, now};
            (void)snprintf(a->text, sizeof a->text, "this rank has reported step %" PRIu64
                           " before (entry %" PRIu64 ") with another loss for domain %s: %g then, "
                           "%g now; nothing changed", a->step, a->entry,
                           a->h->conf.domains[domain].name, was, now);
            return;
        }
    }
}

static int entry_cb(void *arg, uint64_t index, struct mx_span bytes)
{
    struct again *a = arg;
    struct mx_entry_box box;
    struct mx_err err;

    if (index == a->entry && mx_entry_decode(bytes, a->h->conf.k, &box, &err) == 0) {
        if (box.entry.kind == MX_ENTRY_FEEDBACK && box.entry.step == a->step &&
            box.entry.world == a->world) {
            compare(a, &box.entry);
        }
        mx_entry_box_clear(&box);
    }
    return 1; /* one is enough */
}

static void again_work(uv_work_t *work)
{
    struct again *a = work->data;
    struct mx_daemon *d = a->h->d;
    uint8_t record[8];
    struct mx_err err;
    size_t n;
    int rc = mx_catalog_report(d->catalog, a->h->id, a->step, a->rank, record, sizeof record, &n,
                               &err);

    a->outcome = a->late ? MX_FEEDBACK_LATE : MX_FEEDBACK_DUPLICATE;
    (void)snprintf(a->text, sizeof a->text, "%s", a->late
                   ? "the step was closed before; nothing changed"
                   : "this rank has reported this step before; nothing changed");
    if (rc == MX_ENOTFOUND || (rc == 0 && n == sizeof record && mx_load_u64(record) < a->floor)) {
        return;
    }
    a->outcome = MX_FEEDBACK_DUPLICATE;
    (void)snprintf(a->text, sizeof a->text, "this rank has reported this step before; nothing "
                   "changed");
    if (rc == 0 && n == sizeof record) {
        a->entry = mx_load_u64(record);
        /* An entry that was compacted away can't be compared with: it is a repeat. */
        rc = mx_journal_read(d->journal, a->h->id, a->entry, entry_cb, a, &err);
    }
    if (rc < 0 && rc != MX_EGONE) {
        (void)snprintf(a->text, sizeof a->text, "this rank has reported this step before, but what "
                       "it said can't be read: %.150s", err.text);
    }
}

static void again_done(uv_work_t *work, int status)
{
    struct again *a = work->data;
    struct mx_host *h = a->h;

    MX_REQUIRE(status == 0); /* nobody cancels work */
    if (a->outcome == MX_FEEDBACK_DIVERGED) {
        h->diverged++;
        h->divergence = a->how;
        mx_log(MX_LOG_WARN, "feedback.diverged", "run=%s step=%" PRIu64 " rank=%" PRIu32
               " domain=%s was=%g now=%g", h->conf.name, a->step, a->rank,
               h->conf.domains[a->how.domain].name, a->how.was, a->how.now);
    }
    mx_serve_feedback_done(h, a->req, a->outcome == MX_FEEDBACK_LATE ? 0 : a->entry, a->outcome, 0,
                           a->text);
    free(a->losses);
    free(a);
}

/* The request's losses as the core would have kept them. */
static int take_losses(struct again *a)
{
    struct mx_loss_bounds bounds = {.loss_max = a->h->conf.loss_max};
    struct mx_feedback_request m;
    struct mx_span entries;
    struct mx_loss *all;
    struct mx_err err;
    uint32_t first;
    size_t n;

    /* It was decoded before it came to the core. */
    MX_REQUIRE(mx_feedback_request_decode(a->req->frame + MX_HEADER_BYTES,
                                          a->req->n - MX_HEADER_BYTES, &m, &err) == 0);
    MX_REQUIRE(mx_train_decode(m.sections, &entries, &n, &err) == 0);
    bounds.tokens_max = (uint64_t)mx_plan_part_of(&a->h->plan, m.step).batch *
                        mx_host_seq_len(a->h, m.step);
    a->step = m.step;
    a->rank = m.rank;
    a->world = m.world;
    all = malloc((n + 1) * sizeof *all);
    a->losses = malloc((n + 1) * sizeof *a->losses);
    if (all == NULL || a->losses == NULL) {
        free(all);
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        struct mx_train_entry x;
        mx_train_get(entries, i, &x);
        all[i] = (struct mx_loss){x.domain, x.samples, x.tokens, x.loss_sum};
    }
    a->n = mx_loss_clean(all, (uint32_t)n, &bounds, a->losses, &first);
    free(all);
    return 0;
}

void mx_again_check(struct mx_host *h, struct mx_req *req, bool late)
{
    struct again *a = calloc(1, sizeof *a);

    if (a != NULL) {
        a->h = h;
        a->req = req;
        a->late = late;
        a->work.data = a;
    }
    if (a == NULL || take_losses(a) < 0) {
        if (a != NULL) {
            free(a->losses);
            free(a);
        }
        mx_serve_refuse(h->d, h, req, MX_STATUS_BUSY, 1000, "no memory for a feedback");
        return;
    }
    a->floor = mx_host_branch_index(h, a->step);
    MX_REQUIRE(uv_queue_work(&h->d->loop, &a->work, again_work, again_done) == 0);
}
