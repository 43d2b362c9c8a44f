/* report.c - see report.h. */
#include "daemon/report.h"

#include "proto/sections.h"

#include <string.h>

int mx_report_room(struct mx_report *r, size_t losses, size_t evals, size_t rewards, size_t scores,
                   size_t gram, struct mx_err *err)
{
    struct mx_report_rooms *ret = &r->rooms;
    size_t cells = gram * (gram + 1) / 2;
    char *m = calloc(1, losses * sizeof *ret->losses + evals * sizeof *ret->evals +
                            rewards * sizeof *ret->rewards + scores * sizeof *ret->scores +
                            cells * sizeof *ret->gram + gram * sizeof *ret->gram_domains + 1);

    r->memory = m;
    if (m == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for a report");
    }
    /* All but the last are multiples of 8 bytes. */
    ret->losses = (struct mx_loss *)(void *)m;
    ret->evals = (struct mx_eval_loss *)(void *)(ret->losses + losses);
    ret->rewards = (struct mx_reward *)(void *)(ret->evals + evals);
    ret->scores = (struct mx_score *)(void *)(ret->rewards + rewards);
    ret->gram = (double *)(void *)(ret->scores + scores);
    ret->gram_domains = (uint32_t *)(void *)(ret->gram + cells);
    r->entry.losses = ret->losses;
    r->entry.evals = ret->evals;
    r->entry.rewards = ret->rewards;
    r->entry.scores = ret->scores;
    r->entry.gram = ret->gram;
    r->entry.gram_domains = ret->gram_domains;
    return 0;
}

static void take_losses(const struct mx_sections *s, const struct mx_report_rooms *to)
{
    struct mx_train_entry x;
    uint32_t at = 0;

    for (uint32_t i = 0; i < s->train.n; i++) {
        mx_train_get(&s->train, i, &x);
        to->losses[i] = (struct mx_loss){x.domain, x.samples, x.tokens, x.loss_sum};
    }
    for (uint32_t k = 0; k < s->n_eval_sets; k++) {
        for (uint32_t i = 0; i < s->evals[k].n; i++) {
            mx_train_get(&s->evals[k], i, &x);
            to->evals[at++] = (struct mx_eval_loss){s->eval_sets[k], x.domain, x.samples, x.tokens,
                                                    x.loss_sum};
        }
    }
}

static void take_others(const struct mx_sections *s, const struct mx_report_rooms *to)
{
    for (uint32_t i = 0; i < s->rewards.n; i++) {
        struct mx_reward_entry x;

        mx_reward_get(&s->rewards, i, &x);
        to->rewards[i] = (struct mx_reward){x.domain, x.count, x.sum};
    }
    for (uint32_t i = 0; i < s->scores.n; i++) {
        struct mx_score_entry x;

        mx_score_get(&s->scores, i, &x);
        to->scores[i] = (struct mx_score){x.domain, x.sample, x.score};
    }
    for (uint32_t i = 0; i < s->n_gram; i++) {
        to->gram_domains[i] = mx_gram_domain(s, i);
    }
    for (uint32_t i = 0; i < s->n_gram * (s->n_gram + 1) / 2; i++) {
        to->gram[i] = mx_gram_value(s, i);
    }
}

int mx_report_decode(const struct mx_feedback_request *m, struct mx_report *ret,
                     struct mx_err *err)
{
    struct mx_entry *e = &ret->entry;
    struct mx_sections s;
    int rc = mx_sections_decode(m->sections, &s, err);

    if (rc < 0) {
        return rc;
    }
    if (!s.any && m->flags == 0) {
        return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: neither a section nor a flag: it says "
                       "nothing");
    }
    memset(ret, 0, sizeof *ret);
    rc = mx_report_room(ret, s.train.n, s.n_evals, s.rewards.n, s.scores.n, s.n_gram, err);
    if (rc < 0) {
        return rc;
    }
    e->kind = MX_ENTRY_FEEDBACK;
    e->step = m->step;
    e->mix_version = m->mix_version;
    e->rank = m->rank;
    e->world = m->world;
    e->flags = m->flags;
    e->n = s.train.n;
    e->n_evals = s.n_evals;
    e->n_rewards = s.rewards.n;
    e->n_scores = s.scores.n;
    e->n_gram = s.n_gram;
    e->lr = s.lr;
    take_losses(&s, &ret->rooms);
    take_others(&s, &ret->rooms);
    return 0;
}

void mx_report_clear(struct mx_report *r)
{
    free(r->memory);
    r->memory = NULL;
}
