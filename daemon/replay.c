/* replay.c - see replay.h. Knows nothing of requests or samples. */
#include "daemon/replay.h"

#include "daemon/entry.h"

#include <inttypes.h>
#include <string.h>

/* ---- snapshots ---- */

/* The words of one snapshot; MX_ENOTFOUND if there is none at or before the step. */
static int read_words(struct mx_catalog *c, uint32_t run, uint64_t step, uint64_t *ret_step,
                      uint64_t **ret, size_t *ret_n, struct mx_err *err)
{
    uint8_t *bytes;
    size_t n;
    int rc = mx_catalog_snapshot(c, run, step, ret_step, &bytes, &n, err);

    if (rc < 0) {
        return rc;
    }
    rc = mx_words_decode((struct mx_span){bytes, n}, ret, ret_n, err);
    free(bytes);
    return rc;
}

/* Where every run began that isn't a fork. */
static int from_nothing(const struct mx_ground *g, uint64_t *ret_from, uint64_t *ret_applied,
                        uint64_t *cursors)
{
    memset(cursors, 0, g->plan.k * sizeof *cursors);
    *ret_from = 0;
    if (ret_applied != NULL) {
        *ret_applied = 0;
    }
    return 0;
}

int mx_replay_start(struct mx_catalog *c, uint32_t run, const char *what,
                    const struct mx_ground *g, uint64_t step, uint64_t *ret_from,
                    uint64_t *ret_applied, uint64_t *cursors, struct mx_err *err)
{
    for (;;) {
        uint64_t at, *words, applied = 0;
        size_t n;
        int rc = read_words(c, run, step, &at, &words, &n, err);

        if (rc == MX_ENOTFOUND && g->first_step == 0) {
            return from_nothing(g, ret_from, ret_applied, cursors);
        }
        if (rc < 0) {
            return rc;
        }
        rc = mx_run_saved_cursors(words, n, g->plan.k, ret_from, &applied, cursors);
        free(words);
        if (rc < 0 || *ret_from > step) {
            return mx_fail(err, MX_EDAMAGED, "run %s: the snapshot at step %" PRIu64
                           " makes no sense", what, at);
        }
        if (mx_ground_state_holds(g, at, applied)) {
            if (ret_applied != NULL) {
                *ret_applied = applied;
            }
            return 0;
        }
        if (at == 0) {
            return from_nothing(g, ret_from, ret_applied, cursors);
        }
        step = at - 1; /* it is of a branch that was left */
    }
}

/* ---- mixes ---- */

struct gather {
    struct mx_replay_mixes *to;
    uint64_t *both; /* NULL, or room for the last mix's 2 k shares */
    const struct mx_ground *g;
    struct mx_err *err;
};

static int grow(struct mx_replay_mixes *m, uint32_t k, struct mx_err *err)
{
    uint32_t cap = m->cap * 2 + 16;
    uint64_t *shares = realloc(m->shares, (size_t)cap * k * sizeof *shares);
    struct mx_replay_mix *mixes;

    if (shares != NULL) {
        m->shares = shares;
    }
    mixes = realloc(m->mixes, cap * sizeof *mixes);
    if (mixes != NULL) {
        m->mixes = mixes;
    }
    if (shares == NULL || mixes == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " mixes", cap);
    }
    m->cap = cap;
    return 0;
}

static int mix_cb(void *arg, uint64_t order, struct mx_span bytes)
{
    struct gather *x = arg;
    struct mx_replay_mixes *m = x->to;
    uint32_t k = x->g->plan.k;
    struct mx_replay_mix *mix;
    int rc = m->n == m->cap ? grow(m, k, x->err) : 0;

    if (rc < 0) {
        return rc;
    }
    mix = &m->mixes[m->n];
    mix->from_step = order / 2;
    mix->set = order % 2;
    rc = mx_mix_decode(bytes, k, k, &mix->version, &mix->index, m->shares + (size_t)m->n * k,
                       x->err);
    if (rc == 0 && mx_ground_mix_holds(x->g, mix->from_step, mix->version)) {
        m->n++;
        if (x->both != NULL) {
            rc = mx_mix_decode(bytes, k, 2 * k, &mix->version, &mix->index, x->both, x->err);
        }
    }
    return rc;
}

/* The one at or before `from` may be of a branch that was left: then the one before it is looked
 * for, and so on. */
static int find_mixes(struct mx_catalog *c, uint32_t run, const char *what,
                      const struct mx_ground *g, uint64_t from, uint64_t to,
                      struct mx_replay_mixes *ret, uint64_t *both, struct mx_err *err)
{
    struct gather x = {ret, both, g, err};
    uint64_t look = from, stride = 64;
    int rc;

    *ret = (struct mx_replay_mixes){.n = 0};
    for (;;) {
        ret->n = 0;
        rc = mx_catalog_mixes(c, run, mx_mix_order(look, false), mx_mix_order(to, true), mix_cb, &x,
                              err);
        if (rc < 0 || (ret->n > 0 && ret->mixes[0].from_step <= from) || look == g->first_step) {
            break;
        }
        look = look > g->first_step + stride ? look - stride : g->first_step;
        stride *= 2;
    }
    if (rc == 0 && (ret->n == 0 || ret->mixes[0].from_step > from)) {
        rc = mx_fail(err, MX_EDAMAGED, "run %s: no mix is recorded for step %" PRIu64, what, from);
    }
    ret->plan = rc == 0 ? malloc(ret->n * sizeof *ret->plan) : NULL;
    if (rc == 0 && ret->plan == NULL) {
        rc = mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " mixes", ret->n);
    }
    if (rc < 0) {
        mx_replay_mixes_clear(ret);
        return rc;
    }
    for (uint32_t i = 0; i < ret->n; i++) {
        ret->plan[i] = (struct mx_plan_mix){ret->mixes[i].from_step, ret->mixes[i].version,
                                            ret->shares + (size_t)i * g->plan.k};
    }
    return 0;
}

int mx_replay_mixes(struct mx_catalog *c, uint32_t run, const char *what,
                    const struct mx_ground *g, uint64_t from, uint64_t to,
                    struct mx_replay_mixes *ret, struct mx_err *err)
{
    return find_mixes(c, run, what, g, from, to, ret, NULL, err);
}

int mx_replay_loss(struct mx_catalog *c, uint32_t run, const char *what, const struct mx_ground *g,
                   uint64_t step, uint64_t *ret_version, uint64_t *ret_shares, struct mx_err *err)
{
    struct mx_replay_mixes m;
    int rc = find_mixes(c, run, what, g, step, step, &m, ret_shares, err);

    if (rc == 0) {
        *ret_version = m.mixes[m.n - 1].version;
        mx_replay_mixes_clear(&m);
    }
    return rc;
}

void mx_replay_mixes_clear(struct mx_replay_mixes *m)
{
    free(m->plan);
    free(m->mixes);
    free(m->shares);
    *m = (struct mx_replay_mixes){.n = 0};
}

/* ---- steps ---- */

static int get_memory(struct mx_replayed *r, uint32_t k, struct mx_err *err)
{
    r->cursors = r->cursors != NULL ? r->cursors : malloc(k * sizeof *r->cursors);
    r->prefix = r->prefix != NULL ? r->prefix : malloc((k + 1) * sizeof *r->prefix);
    r->shares = r->shares != NULL ? r->shares : malloc(k * sizeof *r->shares);
    if (r->cursors == NULL || r->prefix == NULL || r->shares == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory to replay a step of %" PRIu32 " domains", k);
    }
    return 0;
}

int mx_replay_step(struct mx_catalog *c, uint32_t run, const char *what,
                   const struct mx_ground *g, uint64_t step, struct mx_replayed *ret,
                   struct mx_err *err)
{
    struct mx_replay_mixes m = {.n = 0};
    uint32_t k = g->plan.k, *counts = malloc(k * sizeof *counts);
    uint64_t from = 0;
    int rc = counts == NULL ? mx_fail(err, MX_ENOMEM, "no memory to replay a step")
                            : get_memory(ret, k, err);

    if (rc == 0) {
        rc = mx_replay_start(c, run, what, g, step, &from, NULL, ret->cursors, err);
    }
    if (rc == 0) {
        rc = mx_replay_mixes(c, run, what, g, from, step, &m, err);
    }
    if (rc == 0 &&
        (mx_plan_advance(&g->plan, m.plan, m.n, from, step, ret->cursors, counts) >= 0 ||
         mx_plan_counts(&g->plan, m.plan[m.n - 1].shares, step, ret->cursors, counts) >= 0)) {
        rc = mx_fail(err, MX_EDAMAGED, "run %s: step %" PRIu64 " was planned but can't be again",
                     what, step);
    }
    if (rc == 0) {
        ret->step = step;
        ret->mix = m.mixes[m.n - 1];
        memcpy(ret->shares, m.plan[m.n - 1].shares, k * sizeof *ret->shares);
        ret->prefix[0] = 0;
        for (uint32_t i = 0; i < k; i++) {
            ret->prefix[i + 1] = ret->prefix[i] + counts[i];
        }
    }
    mx_replay_mixes_clear(&m);
    free(counts);
    return rc;
}

void mx_replayed_clear(struct mx_replayed *r)
{
    free(r->cursors);
    free(r->prefix);
    free(r->shares);
    *r = (struct mx_replayed){.step = 0};
}
