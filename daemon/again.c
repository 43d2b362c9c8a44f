/* again.c - a report that was posted before: is it the same?
 *
 * A trainer that resumes posts again what it posted before it died. Nothing of that is applied; but
 * if its losses are others than those in the journal, its run isn't the one that it was, and its
 * owner wants to know. The journal is read on a filler's thread: two look-ups. */
#include "daemon/core/feedback.h"
#include "daemon/daemon.h"
#include "daemon/entry.h"
#include "daemon/report.h"
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
    uint32_t rank, world;
    struct mx_report report; /* as the core would have kept it */
    /* the answer */
    enum mx_feedback_outcome outcome;
    uint64_t entry;
    struct mx_divergence how;
    char text[MX_TEXT_MAX];
};

/* Whether two values, NAN for none, are further apart than the run allows. scale: of the numbers
 * that they stand among. */
static bool apart(const struct again *a, double was, double now, double scale)
{
    if (isnan(was) || isnan(now)) {
        return isnan(was) != isnan(now);
    }
    return fabs(was - now) > a->h->conf.divergence * fmax(scale, fmax(fabs(was), fabs(now)));
}

/* Whether they differ; the first that do are told: a part ("loss") of something ("domain ") with a
 * name. */
static bool differ(struct again *a, const char *part, const char *of, const char *name, double was,
                   double now, double scale)
{
    if (!apart(a, was, now, scale)) {
        return false;
    }
    a->outcome = MX_FEEDBACK_DIVERGED;
    a->how = (struct mx_divergence){a->step, a->rank, part, name, was, now};
    (void)snprintf(a->text, sizeof a->text, "this rank has reported step %" PRIu64 " before (entry %"
                   PRIu64 ") with another %s for %s%s: %g then, %g now; nothing changed", a->step,
                   a->entry, part, of, name, was, now);
    return true;
}

static const char *domain_name(const struct again *a, uint32_t domain)
{
    return a->h->conf.domains[domain].name;
}

/* The lists rise by domain, so that they are walked side by side. */
static bool losses_differ(struct again *a, const struct mx_entry *x, const struct mx_entry *y)
{
    uint32_t i = 0, j = 0;

    while (i < x->n || j < y->n) {
        uint32_t was_domain = i < x->n ? x->losses[i].domain : UINT32_MAX;
        uint32_t now_domain = j < y->n ? y->losses[j].domain : UINT32_MAX;
        uint32_t domain = was_domain < now_domain ? was_domain : now_domain;
        const struct mx_loss *was = was_domain == domain ? &x->losses[i++] : NULL;
        const struct mx_loss *now = now_domain == domain ? &y->losses[j++] : NULL;

        if (differ(a, "loss", "domain ", domain_name(a, domain),
                   was != NULL ? was->loss_sum / (double)was->tokens : NAN,
                   now != NULL ? now->loss_sum / (double)now->tokens : NAN, 0)) {
            return true;
        }
    }
    return false;
}

static uint64_t eval_key(const struct mx_eval_loss *l)
{
    return (uint64_t)l->set << 32 | l->member;
}

static bool evals_differ(struct again *a, const struct mx_entry *x, const struct mx_entry *y)
{
    uint32_t i = 0, j = 0;

    while (i < x->n_evals || j < y->n_evals) {
        uint64_t was_key = i < x->n_evals ? eval_key(&x->evals[i]) : UINT64_MAX;
        uint64_t now_key = j < y->n_evals ? eval_key(&y->evals[j]) : UINT64_MAX;
        uint64_t key = was_key < now_key ? was_key : now_key;
        const struct mx_eval_loss *was = was_key == key ? &x->evals[i++] : NULL;
        const struct mx_eval_loss *now = now_key == key ? &y->evals[j++] : NULL;
        const char *name = a->h->conf.eval_sets[key >> 32].members[(uint32_t)key];

        if (differ(a, "evaluation loss", "member ", name,
                   was != NULL ? was->loss_sum / (double)was->tokens : NAN,
                   now != NULL ? now->loss_sum / (double)now->tokens : NAN, 0)) {
            return true;
        }
    }
    return false;
}

static bool rewards_differ(struct again *a, const struct mx_entry *x, const struct mx_entry *y)
{
    uint32_t i = 0, j = 0;

    while (i < x->n_rewards || j < y->n_rewards) {
        uint32_t was_domain = i < x->n_rewards ? x->rewards[i].domain : UINT32_MAX;
        uint32_t now_domain = j < y->n_rewards ? y->rewards[j].domain : UINT32_MAX;
        uint32_t domain = was_domain < now_domain ? was_domain : now_domain;
        const struct mx_reward *was = was_domain == domain ? &x->rewards[i++] : NULL;
        const struct mx_reward *now = now_domain == domain ? &y->rewards[j++] : NULL;

        if (differ(a, "reward", "domain ", domain_name(a, domain),
                   was != NULL ? was->sum / (double)was->count : NAN,
                   now != NULL ? now->sum / (double)now->count : NAN, 0)) {
            return true;
        }
    }
    return false;
}

/* Products of directions that have little to do with each other are noise: what counts is how far
 * they are apart beside the largest. */
static bool grads_differ(struct again *a, const struct mx_entry *x, const struct mx_entry *y)
{
    size_t n = (size_t)x->n_gram * (x->n_gram + 1) / 2;
    double scale = 0;

    if (x->n_gram != y->n_gram ||
        memcmp(x->gram_domains, y->gram_domains, x->n_gram * sizeof *x->gram_domains) != 0) {
        return differ(a, "number of gradients", "", "all domains", x->n_gram,
                      x->n_gram != y->n_gram ? (double)y->n_gram : (double)NAN, 0);
    }
    for (size_t i = 0; i < n; i++) {
        scale = fmax(scale, fabs(x->gram[i]));
    }
    for (uint32_t i = 0; i < x->n_gram; i++) {
        for (uint32_t j = i; j < x->n_gram; j++) {
            size_t at = (size_t)i * x->n_gram - (size_t)i * (i + 1) / 2 + j;

            if (differ(a, "product of gradients", "domain ", domain_name(a, x->gram_domains[i]),
                       x->gram[at], y->gram[at], scale)) {
                return true;
            }
        }
    }
    return n > 0 && differ(a, "learning rate", "", "the gradients", x->lr, y->lr, 0);
}

static bool scores_differ(struct again *a, const struct mx_entry *x, const struct mx_entry *y)
{
    if (x->n_scores != y->n_scores) {
        return differ(a, "number of scores", "", "all domains", x->n_scores, y->n_scores, 0);
    }
    for (uint32_t i = 0; i < x->n_scores; i++) {
        const struct mx_score *was = &x->scores[i], *now = &y->scores[i];
        bool same = was->domain == now->domain && was->sample == now->sample;

        if (differ(a, "score", "domain ", domain_name(a, was->domain), was->score,
                   same ? now->score : NAN, 0)) {
            return true;
        }
    }
    return false;
}

static void compare(struct again *a, const struct mx_entry *e)
{
    const struct mx_entry *now = &a->report.entry;

    (void)(losses_differ(a, e, now) || evals_differ(a, e, now) || rewards_differ(a, e, now) ||
           grads_differ(a, e, now) || scores_differ(a, e, now) ||
           differ(a, "set of flags", "", "the step", e->flags, now->flags, 0));
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
               " part=\"%s\" of=\"%s\" was=%g now=%g", h->conf.name, a->step, a->rank, a->how.part,
               a->how.name, a->how.was, a->how.now);
    }
    mx_serve_feedback_done(h, a->req, a->outcome == MX_FEEDBACK_LATE ? 0 : a->entry, a->outcome, 0,
                           a->text);
    mx_report_clear(&a->report);
    free(a);
}

/* What the core would have kept of a report: the same in place. */
static void clean(const struct mx_host *h, struct mx_report *r)
{
    uint32_t row;
    double bad;
    uint64_t step = r->entry.step;
    struct mx_loss_bounds bounds = {h->conf.loss_max,
                                    (uint64_t)mx_plan_part_of(&h->plan, step).batch *
                                        mx_host_seq_len(h, step)};
    struct mx_loss *losses = r->rooms.losses;
    struct mx_eval_loss *evals = r->rooms.evals;
    struct mx_reward *rewards = r->rooms.rewards;
    struct mx_entry *e = &r->entry;
    uint32_t n = 0;

    for (uint32_t i = 0; i < e->n; i++) {
        if (mx_loss_ok(&losses[i], &bounds)) {
            losses[n++] = losses[i];
        }
    }
    e->n = n;
    n = 0;
    for (uint32_t i = 0; i < e->n_evals; i++) {
        if (mx_eval_ok(&evals[i], h->conf.loss_max)) {
            evals[n++] = evals[i];
        }
    }
    e->n_evals = n;
    n = 0;
    for (uint32_t i = 0; i < e->n_rewards; i++) {
        if (mx_reward_ok(&rewards[i])) {
            rewards[n++] = rewards[i];
        }
    }
    e->n_rewards = n;
    if (e->n_gram > 0 && !mx_gram_ok(e->gram, e->n_gram, e->lr, &row, &bad)) {
        e->n_gram = 0;
    }
    for (n = 0; n < e->n_scores && isfinite(e->scores[n].score); n++) {
    }
    e->n_scores = n == e->n_scores ? n : 0;
}

static int take_report(struct again *a)
{
    struct mx_feedback_request m;
    struct mx_err err;
    int rc;

    /* It was decoded before it came to the core. */
    MX_REQUIRE(mx_feedback_request_decode(a->req->frame + MX_HEADER_BYTES,
                                          a->req->n - MX_HEADER_BYTES, &m, &err) == 0);
    rc = mx_report_decode(&m, &a->report, &err);
    MX_REQUIRE(rc == 0 || rc == MX_ENOMEM);
    if (rc == 0) {
        a->step = m.step;
        a->rank = m.rank;
        a->world = m.world;
        clean(a->h, &a->report);
    }
    return rc;
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
    if (a == NULL || take_report(a) < 0) {
        free(a);
        mx_serve_refuse(h->d, h, req, MX_STATUS_BUSY, 1000, "no memory for a feedback");
        return;
    }
    a->floor = mx_host_branch_index(h, a->step);
    MX_REQUIRE(uv_queue_work(&h->d->loop, &a->work, again_work, again_done) == 0);
}
