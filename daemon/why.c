/* why.c - see why.h. */
#include "daemon/why.h"

#include <stdlib.h>
#include <string.h>

void mx_why_forget(struct mx_why_entry *e)
{
    if (e->bytes != NULL) {
        mx_entry_box_clear(&e->box);
    }
    free(e->bytes);
    *e = (struct mx_why_entry){.bytes = NULL};
}

void mx_why_clear(struct mx_why_mix *m)
{
    mx_why_forget(&m->made);
    mx_why_forget(&m->before);
    free(m->shares);
    free(m->was);
    *m = (struct mx_why_mix){.shares = NULL};
}

int mx_why_keep(struct mx_why_entry *e, uint64_t index, struct mx_span bytes, uint32_t k,
                struct mx_err *err)
{
    int rc;

    e->bytes = malloc(bytes.n + 1);
    if (e->bytes == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for a journal entry");
    }
    memcpy(e->bytes, bytes.p, bytes.n);
    rc = mx_entry_decode((struct mx_span){e->bytes, bytes.n}, k, &e->box, err);
    if (rc < 0) {
        free(e->bytes);
        e->bytes = NULL;
        return rc;
    }
    e->box.entry.index = index;
    return 0;
}

struct reading {
    uint64_t index;
    uint32_t k;
    struct mx_why_entry *ret;
    struct mx_err *err;
};

static int entry_cb(void *arg, uint64_t index, struct mx_span bytes)
{
    struct reading *x = arg;
    int rc = index == x->index ? mx_why_keep(x->ret, index, bytes, x->k, x->err) : 0;

    return rc < 0 ? rc : 1;
}

/* One entry; none if it was compacted away. */
static int read_entry(const struct mx_why_source *s, uint64_t index, struct mx_why_entry *ret,
                      struct mx_err *err)
{
    struct reading x = {index, s->conf->k, ret, err};
    int rc = mx_journal_read(s->journal, s->run, index, entry_cb, &x, err);

    return rc < 0 && rc != MX_EGONE ? rc : 0;
}

static uint64_t *copy_shares(const struct mx_replay_mixes *m, uint32_t at, uint32_t k,
                             struct mx_err *err)
{
    uint64_t *shares = malloc(k * sizeof *shares);

    if (shares == NULL) {
        (void)mx_fail(err, MX_ENOMEM, "no memory for a mix");
        return NULL;
    }
    memcpy(shares, m->plan[at].shares, k * sizeof *shares);
    return shares;
}

int mx_why_newest(const struct mx_why_source *s, uint64_t step, struct mx_why_mix *ret,
                  struct mx_err *err)
{
    struct mx_replay_mixes m = {.n = 0};
    uint32_t newest = 0;
    int rc = mx_replay_mixes(s->catalog, s->run, s->conf->name, s->ground, step, 2 * MX_STEP_MAX,
                             &m, err);

    *ret = (struct mx_why_mix){.shares = NULL};
    if (rc < 0) {
        return rc;
    }
    for (uint32_t i = 0; i < m.n; i++) {
        newest = m.mixes[i].version > m.mixes[newest].version ? i : newest;
    }
    ret->mix = m.mixes[newest];
    ret->shares = copy_shares(&m, newest, s->conf->k, err);
    rc = ret->shares == NULL ? MX_ENOMEM : read_entry(s, ret->mix.index, &ret->made, err);
    mx_replay_mixes_clear(&m);
    if (rc == 0 && ret->made.bytes != NULL) {
        rc = mx_why_before(s, &ret->made.box.entry, ret, err);
    }
    if (rc < 0) {
        mx_why_clear(ret);
    }
    return rc;
}

int mx_why_before(const struct mx_why_source *s, const struct mx_entry *e, struct mx_why_mix *ret,
                  struct mx_err *err)
{
    struct mx_replay_mixes m = {.n = 0};
    int rc;

    /* Of a branch that was left the catalog doesn't know any more what was before. */
    if (e->step <= s->ground->first_step ||
        !mx_ground_mix_holds(s->ground, e->step, e->mix_version)) {
        return 0;
    }
    rc = mx_replay_mixes(s->catalog, s->run, s->conf->name, s->ground, e->step - 1, e->step - 1, &m,
                         err);
    if (rc < 0) {
        return rc;
    }
    ret->was = copy_shares(&m, m.n - 1, s->conf->k, err);
    rc = ret->was == NULL ? MX_ENOMEM : read_entry(s, m.mixes[m.n - 1].index, &ret->before, err);
    mx_replay_mixes_clear(&m);
    return rc == MX_EDAMAGED ? 0 : rc; /* that one is damaged, not this: less is known of it */
}

void mx_why_write(struct mx_jsonw *w, const struct mx_why_source *s, const struct mx_entry *e,
                  const struct mx_why_mix *m)
{
    const struct mx_entry *b = &m->before.box.entry;
    uint32_t k = s->conf->k;
    struct mx_why y = {.conf = s->conf, .prior = s->prior, .was = m->was, .shares = e->shares,
                       .n_shares = e->n_shares, .weights = e->weights, .policy = s->policy,
                       .terms = e->terms, .n_terms = e->n_terms, .bound = e->bound,
                       .single = true};

    if (m->before.bytes != NULL && b->terms != NULL && b->n_terms == e->n_terms) {
        y.was_terms = b->terms;
    }
    if (m->before.bytes != NULL && b->n_shares == 2 * k) {
        y.was_loss = b->shares + k;
    }
    mx_explain_mix(w, &y, MX_EXPLAIN_LISTED);
}
