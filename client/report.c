/* report.c - what a trainer reports, as sections of the message: sorted, and checked as far as a client
 * can. Knows nothing of posts. */
#include "client/internal.h"
#include "proto/sections.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static int cmp_u32(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

static int train_cmp(const void *a, const void *b)
{
    return cmp_u32(((const struct mx_train_entry *)a)->domain,
                   ((const struct mx_train_entry *)b)->domain);
}

static int eval_cmp(const void *a, const void *b)
{
    const struct mxc_eval_loss *x = a;
    const struct mxc_eval_loss *y = b;

    return x->set != y->set ? cmp_u32(x->set, y->set) : cmp_u32(x->member, y->member);
}

static int reward_cmp(const void *a, const void *b)
{
    return cmp_u32(((const struct mx_reward_entry *)a)->domain,
                   ((const struct mx_reward_entry *)b)->domain);
}

static int no_memory(struct mxc_error *err)
{
    return mxc_fail(err, MXC_NOMEM, "no memory for a report");
}

/* "the run hasn't", or that it stands twice; what: "a loss". */
static int bad_domain(const struct mxc_run *r, const char *what, uint32_t domain,
                      struct mxc_error *err)
{
    return mxc_fail(err, MXC_INVALID, "run %s: %s of domain %" PRIu32 " %s", r->name, what, domain,
                    domain >= r->info.domain_count ? "that the run hasn't" : "stands twice");
}

static int encode_losses(const struct mxc_run *r, const struct mxc_report *p, struct mx_writer *w,
                         struct mxc_error *err)
{
    struct mx_train_entry *e = malloc((p->n_losses + 1) * sizeof *e);
    int rc = 0;

    if (e == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < p->n_losses; i++) {
        const struct mxc_loss *l = &p->losses[i];

        e[i] = (struct mx_train_entry){l->domain, l->samples, l->tokens, l->loss_sum};
    }
    qsort(e, p->n_losses, sizeof *e, train_cmp);
    for (size_t i = 0; i < p->n_losses && rc == 0; i++) {
        if (e[i].domain >= r->info.domain_count || (i > 0 && e[i].domain == e[i - 1].domain)) {
            rc = bad_domain(r, "a loss", e[i].domain, err);
        }
    }
    if (rc == 0) {
        mx_train_encode(w, e, p->n_losses);
    }
    free(e);
    return rc;
}

/* Checks sorted evaluations and writes each set's. e: room for n. */
static int write_evals(const struct mxc_run *r, const struct mxc_eval_loss *l, size_t n,
                       struct mx_train_entry *e, struct mx_writer *w, struct mxc_error *err)
{
    size_t from = 0;

    for (size_t i = 0; i < n; i++) {
        const struct mxc_run_info *info = &r->info;

        if (l[i].set >= info->eval_set_count) {
            return mxc_fail(err, MXC_INVALID,
                            "run %s: an evaluation of set %" PRIu32 "; there are %" PRIu32, r->name,
                            l[i].set, info->eval_set_count);
        }
        if (l[i].member >= info->eval_sets[l[i].set].member_count ||
            (i > 0 && eval_cmp(&l[i - 1], &l[i]) == 0)) {
            return mxc_fail(err, MXC_INVALID,
                            "run %s: an evaluation of member %" PRIu32 " of eval set %s %s", r->name,
                            l[i].member, info->eval_sets[l[i].set].name,
                            l[i].member >= info->eval_sets[l[i].set].member_count
                                ? "that it hasn't"
                                : "stands twice");
        }
        e[i] = (struct mx_train_entry){l[i].member, l[i].samples, l[i].tokens, l[i].loss_sum};
        if (i + 1 == n || l[i + 1].set != l[i].set) {
            mx_eval_encode(w, l[i].set, e + from, i + 1 - from);
            from = i + 1;
        }
    }
    return 0;
}

static int encode_evals(const struct mxc_run *r, const struct mxc_report *p, struct mx_writer *w,
                        struct mxc_error *err)
{
    struct mxc_eval_loss *l = malloc((p->n_evals + 1) * sizeof *l);
    struct mx_train_entry *e = malloc((p->n_evals + 1) * sizeof *e);
    int rc;

    if (l == NULL || e == NULL) {
        free(l);
        free(e);
        return no_memory(err);
    }
    memcpy(l, p->evals, p->n_evals * sizeof *l);
    qsort(l, p->n_evals, sizeof *l, eval_cmp);
    rc = write_evals(r, l, p->n_evals, e, w, err);
    free(l);
    free(e);
    return rc;
}

static int encode_rewards(const struct mxc_run *r, const struct mxc_report *p, struct mx_writer *w,
                          struct mxc_error *err)
{
    struct mx_reward_entry *e = malloc((p->n_rewards + 1) * sizeof *e);
    int rc = 0;

    if (e == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < p->n_rewards; i++) {
        e[i] = (struct mx_reward_entry){p->rewards[i].domain, p->rewards[i].count,
                                        p->rewards[i].sum};
    }
    qsort(e, p->n_rewards, sizeof *e, reward_cmp);
    for (size_t i = 0; i < p->n_rewards && rc == 0; i++) {
        if (e[i].domain >= r->info.domain_count || (i > 0 && e[i].domain == e[i - 1].domain)) {
            rc = bad_domain(r, "a reward", e[i].domain, err);
        }
    }
    if (rc == 0) {
        mx_reward_encode(w, e, p->n_rewards);
    }
    free(e);
    return rc;
}

/* The places of the matrix's rows, by rising domain. */
static int order_rows(const struct mxc_run *r, const struct mxc_report *p, size_t *order,
                      struct mxc_error *err)
{
    for (size_t i = 0; i < p->n_grad; i++) {
        uint32_t domain = p->grad_domains[i];
        size_t at = i;

        for (; at > 0 && p->grad_domains[order[at - 1]] > domain; at--) {
            order[at] = order[at - 1];
        }
        order[at] = i;
        if (domain >= r->info.domain_count ||
            (at > 0 && p->grad_domains[order[at - 1]] == domain)) {
            return bad_domain(r, "a gradient", domain, err);
        }
    }
    return 0;
}

static int check_symmetric(const struct mxc_run *r, const struct mxc_report *p,
                           struct mxc_error *err)
{
    for (size_t i = 0; i < p->n_grad; i++) {
        for (size_t j = 0; j < i; j++) {
            double a = p->gram[i * p->n_grad + j], b = p->gram[j * p->n_grad + i];

            if (!mx_gram_alike(a, b, p->gram[i * p->n_grad + i], p->gram[j * p->n_grad + j])) {
                return mxc_fail(err, MXC_INVALID,
                                "run %s: the matrix of gradients isn't symmetric: row %zu column "
                                "%zu is %.17g, row %zu column %zu is %.17g",
                                r->name, i, j, a, j, i, b);
            }
        }
    }
    return 0;
}

static int encode_grad(const struct mxc_run *r, const struct mxc_report *p, struct mx_writer *w,
                       struct mxc_error *err)
{
    size_t order[MX_GRAM_MAX], n = p->n_grad;
    uint32_t domains[MX_GRAM_MAX];
    double *upper, *to;
    int rc;

    if (n > MX_GRAM_MAX) {
        return mxc_fail(err, MXC_INVALID, "run %s: gradients of %zu domains; at most %u", r->name,
                        n, MX_GRAM_MAX);
    }
    rc = order_rows(r, p, order, err);
    rc = rc < 0 ? rc : check_symmetric(r, p, err);
    if (rc < 0) {
        return rc;
    }
    to = upper = malloc(n * (n + 1) / 2 * sizeof *upper);
    if (upper == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        domains[i] = p->grad_domains[order[i]];
        for (size_t j = i; j < n; j++) {
            *to++ = p->gram[order[i] * n + order[j]];
        }
    }
    mx_grad_encode(w, domains, n, upper, p->lr);
    free(upper);
    return 0;
}

static int encode_scores(const struct mxc_run *r, const struct mxc_report *p, struct mx_writer *w,
                         struct mxc_error *err)
{
    struct mx_score_entry *e = malloc(p->n_scores * sizeof *e);
    int rc = 0;

    if (e == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < p->n_scores && rc == 0; i++) {
        e[i] = (struct mx_score_entry){p->scores[i].domain, p->scores[i].sample,
                                       p->scores[i].score};
        if (e[i].domain >= r->info.domain_count) {
            rc = bad_domain(r, "a score", e[i].domain, err);
        }
    }
    if (rc == 0) {
        mx_scores_encode(w, e, p->n_scores);
    }
    free(e);
    return rc;
}

int mxc_report_encode(const struct mxc_run *r, const struct mxc_report *p, struct mx_writer *w,
                      struct mxc_error *err)
{
    bool others = p->n_evals + p->n_rewards + p->n_grad + p->n_scores > 0 || p->flags != 0;
    int rc = 0;

    /* A rank that saw nothing says so: that is a report too. */
    if (p->n_losses > 0 || !others) {
        rc = encode_losses(r, p, w, err);
    }
    if (rc == 0 && p->n_evals > 0) {
        rc = encode_evals(r, p, w, err);
    }
    if (rc == 0 && p->n_rewards > 0) {
        rc = encode_rewards(r, p, w, err);
    }
    if (rc == 0 && p->n_grad > 0) {
        rc = encode_grad(r, p, w, err);
    }
    if (rc == 0 && p->n_scores > 0) {
        rc = encode_scores(r, p, w, err);
    }
    return rc;
}
