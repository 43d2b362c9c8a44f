/* run_mix.c - how mixes come about: from the policy's weights or an operator's, through limits,
 * into the journal. See run.h. Knows nothing of requests or of ranks.
 *
 * What is wanted is part of the fold, so that a crash between a cause and its mix loses nothing.
 * An operator's weights are always made into a mix of their own, even while another one is being
 * appended. They become the prior of a policy that doesn't adapt; one that does keeps what it has
 * learned, and its next change goes on from there. */
#include "daemon/core/run_state.h"

#include <math.h>
#include <string.h>

uint32_t mx_run_mix_cap(uint32_t k)
{
    size_t n = MX_MIXES_BYTES / (k * sizeof(uint64_t));

    return n < MX_MIXES_MIN ? MX_MIXES_MIN : n > MX_MIXES_MAX ? MX_MIXES_MAX : (uint32_t)n;
}

void mx_run_shares(struct mx_run *r, const double *weights, uint64_t *ret_shares)
{
    double *projected = r->limit_scratch + 4 * (size_t)r->k;

    mx_limits_project(r->c.limits, weights, r->k, projected, r->limit_scratch);
    mx_shares_quantise(projected, r->k, ret_shares, r->share_scratch);
}

/* Takes the first mix away; its memory goes to the end of the table. */
static void drop_first(struct mx_run *r)
{
    uint64_t *shares = r->mixes[0].shares;

    memmove(r->mixes, r->mixes + 1, (r->mix_cap - 1) * sizeof r->mixes[0]);
    r->mixes[r->mix_cap - 1].shares = shares;
    r->mix_count--;
}

void mx_run_trim_mixes(struct mx_run *r)
{
    while (r->mix_count > 1 && r->mixes[1].from <= r->frontier) {
        drop_first(r);
    }
}

/* Adds a mix after all others, or over the last if it starts at the same step. When the table is
 * full (in a recovery alone) the frontier moves to where the second mix starts: no later entry can
 * change a step before that. */
int mx_run_add_mix(struct mx_run *r, uint64_t from, uint64_t version, const uint64_t *shares)
{
    struct mx_known_mix *m;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < r->k; i++) {
        if (shares[i] > MX_SHARE_ONE) {
            return -1;
        }
        sum += shares[i];
    }
    if (sum != MX_SHARE_ONE || from < r->frontier) {
        return -1;
    }
    mx_run_trim_mixes(r);
    if (r->mix_count > 0 && r->mixes[r->mix_count - 1].from == from) {
        r->mix_count--;
    } else if (r->mix_count == r->mix_cap) {
        if (mx_run_advance(r, r->mixes[1].from) < 0) {
            drop_first(r);
        } else {
            r->mix_count--; /* a domain is exhausted before that: no later mix is ever in force */
        }
    }
    m = &r->mixes[r->mix_count++];
    m->from = from;
    m->version = version;
    memcpy(m->shares, shares, r->k * sizeof *shares);
    return 0;
}

void mx_run_want_mix(struct mx_run *r, struct mx_effects *fx)
{
    const struct mx_known_mix *latest = &r->mixes[r->mix_count - 1];
    uint64_t from = r->frontier + r->c.lead;
    struct mx_entry *e;

    r->mix_waiting = 0;
    from = from > latest->from ? from : latest->from;
    if (r->pending_mix != MX_NEVER || from >= mx_run_limit(r) || from >= mx_run_barrier(r)) {
        return; /* one at a time; and none that no step would ever be planned under */
    }
    if (r->set_wanted) {
        memcpy(r->want_shares, r->set_shares, r->k * sizeof *r->want_shares);
    } else if (r->policy_wanted) {
        mx_run_shares(r, r->weights, r->want_shares);
        if (memcmp(r->want_shares, latest->shares, r->k * sizeof *r->want_shares) == 0) {
            return;
        }
    } else {
        return;
    }
    mx_run_trim_mixes(r);
    if (r->mix_count == r->mix_cap) {
        r->mix_waiting = 1; /* asked again when the frontier has moved */
        return;
    }
    e = mx_run_append(r, fx, 0, MX_ENTRY_MIX);
    e->step = from;
    e->mix_version = r->mixes[r->mix_count - 1].version + 1;
    e->shares = r->want_shares;
    e->n = r->k;
    e->cause = r->set_wanted ? MX_CAUSE_OPERATOR : MX_CAUSE_FEEDBACK;
    e->cause_step = r->set_wanted ? 0 : r->last_closed;
    r->pending_mix = from;
}

int mx_run_mix_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx)
{
    const struct mx_known_mix *latest = &r->mixes[r->mix_count - 1];

    if (e->n != r->k || e->mix_version != latest->version + 1 || e->step < latest->from ||
        e->step > MX_STEP_MAX * 2 ||
        mx_run_add_mix(r, e->step, e->mix_version, e->shares) != 0) {
        return -1;
    }
    r->pending_mix = MX_NEVER;
    if (e->cause == MX_CAUSE_OPERATOR) {
        /* Weights that were set while the mix was being appended are for the next one. */
        r->set_wanted = r->set_wanted &&
                        memcmp(e->shares, r->set_shares, r->k * sizeof *e->shares) != 0;
    } else {
        /* Steps that were closed while the mix was being appended are for the next one. */
        r->policy_wanted = r->policy_wanted && e->cause_step != r->last_closed;
        r->last_delay = e->step > e->cause_step ? e->step - e->cause_step : 0;
    }
    if (mx_run_truncate(r, e->step) && r->live) {
        mx_run_push(fx, MX_FX_DROP, 0)->step = e->step;
    }
    return 0;
}

/* k if the weights can be set, else the index of the first that can't be or, where all that may be
 * drawn are 0, *ret_all_zero. */
static uint32_t check_weights(const struct mx_run *r, const double *w, uint32_t n,
                              int *ret_all_zero)
{
    int some = 0;

    *ret_all_zero = 0;
    if (n != r->k) {
        return n < r->k ? n : r->k - 1;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(w[i]) || w[i] < 0.0 || (w[i] > 0.0 && !r->c.limits[i].open)) {
            return i;
        }
        some |= w[i] > 0.0;
    }
    *ret_all_zero = !some;
    return n;
}

/* To the sum 1, with the largest taken out first so that no sum overflows. */
static void normalise(const double *w, uint32_t k, double *ret)
{
    double largest = 0.0, sum = 0.0;

    for (uint32_t i = 0; i < k; i++) {
        largest = fmax(largest, w[i]);
    }
    for (uint32_t i = 0; i < k; i++) {
        ret[i] = w[i] / largest;
        sum += ret[i];
    }
    for (uint32_t i = 0; i < k; i++) {
        ret[i] /= sum;
    }
}

void mx_run_on_set(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    int all_zero;
    uint32_t bad = check_weights(r, ev->entry->weights, ev->entry->n, &all_zero);
    struct mx_entry *e;

    if (bad != r->k || all_zero) {
        mx_run_refuse(fx, ev->handle, MX_BAD_WEIGHTS, bad);
        return;
    }
    e = mx_run_append(r, fx, ev->handle, MX_ENTRY_SET);
    memcpy(r->weight_buffer, ev->entry->weights, r->k * sizeof *r->weight_buffer);
    e->weights = r->weight_buffer;
    e->n = r->k;
    e->author = ev->entry->author;
    e->author_len = ev->entry->author_len;
    e->why = ev->entry->why;
    e->why_len = ev->entry->why_len;
}

int mx_run_set_apply(struct mx_run *r, const struct mx_entry *e)
{
    int all_zero;

    if (check_weights(r, e->weights, e->n, &all_zero) != r->k || all_zero) {
        return -1;
    }
    normalise(e->weights, r->k, r->weight_buffer);
    if (!r->c.policy->adapts) {
        r->c.policy->init(r->policy_state, r->k, r->weight_buffer, r->c.params);
        r->c.policy->weights(r->policy_state, r->k, r->weights);
    }
    mx_run_shares(r, r->weight_buffer, r->set_shares);
    r->set_wanted = 1;
    r->policy_wanted = 0;
    return 0;
}
