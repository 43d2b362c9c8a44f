/* run_plan.c - the planned steps of a run: a ring of records and the frontier in it. See run.h.
 * Knows nothing of requests or feedback.
 *
 * A record is words: the mix's version, the digest of all steps before it, k cursors before it,
 * then k + 1 running sums of 32 bits. Steps from the frontier on are on trial: the same records,
 * but a new mix may take them.
 *
 * The digest of a step goes on from that of the step before. It holds the step's number, version,
 * cursors and counts, and what lies in one of its slots, which the digest itself picks: so the
 * shuffles are under watch as well, at the price of one look-up. */
#include "daemon/core/run_state.h"

#include <string.h>

/* Words of a record before its cursors. */
#define CURSORS_AT 2u

size_t mx_run_record_words(uint32_t k)
{
    return CURSORS_AT + (size_t)k + ((size_t)k + 2) / 2;
}

uint32_t mx_run_ring_cap(uint32_t k)
{
    size_t n = MX_RING_BYTES / (mx_run_record_words(k) * sizeof(uint64_t));

    return n < MX_RING_MIN ? MX_RING_MIN : n > MX_RING_MAX ? MX_RING_MAX : (uint32_t)n;
}

static uint64_t *record_of(const struct mx_run *r, uint64_t step)
{
    return r->ring + (step % r->ring_cap) * r->record_words;
}

static uint32_t *prefix_of(const struct mx_run *r, uint64_t *record)
{
    return (uint32_t *)(void *)(record + CURSORS_AT + r->k);
}

void mx_run_plan_reset(struct mx_run *r, uint64_t step)
{
    r->frontier = step;
    r->ring_low = step;
    r->ring_end = step;
    r->digest_low = step;
    r->digest_asked = step;
}

const struct mx_known_mix *mx_run_mix_of(const struct mx_run *r, uint64_t step)
{
    uint32_t i = r->mix_count;

    while (i > 0 && r->mixes[i - 1].from > step) {
        i--;
    }
    MX_CORE_REQUIRE(i > 0);
    return &r->mixes[i - 1];
}

/* ---- digests -------------------------------------------------------------------------------- */

uint64_t mx_run_first_digest(const struct mx_run *r)
{
    const struct mx_plan_spec *p = &r->c.plan;
    struct mx_digest d;

    mx_digest_begin(&d, 0);
    mx_digest_word(&d, p->seed);
    mx_digest_word(&d, (uint64_t)p->batch << 32 | p->block);
    mx_digest_word(&d, (uint64_t)p->k << 32 | (uint64_t)p->sampling);
    for (uint32_t i = 0; i < p->k; i++) {
        const struct mx_plan_domain *m = &p->domains[i];

        mx_digest_word(&d, m->samples);
        mx_digest_word(&d, (uint64_t)m->chunk << 32 | m->window);
        mx_digest_word(&d, (uint64_t)m->takes_below << 32 | (uint64_t)m->on_exhausted);
    }
    for (uint32_t i = 0; i < p->n_parts; i++) {
        const struct mx_plan_part *part = &p->parts[i];

        mx_digest_word(&d, part->from_step);
        mx_digest_word(&d, (uint64_t)part->batch << 32 | part->block);
        mx_digest_word(&d, part->length);
        for (uint32_t j = 0; p->takes_below != NULL && j < p->k; j++) {
            mx_digest_word(&d, p->takes_below[(size_t)i * p->k + j]);
        }
    }
    return mx_digest_end(&d);
}

static uint64_t digest_step(const struct mx_run *r, uint64_t step, const uint64_t *record,
                            const uint32_t *prefix)
{
    struct mx_plan_item item;
    struct mx_digest d;

    mx_plan_items(&r->c.plan, step, record + CURSORS_AT, prefix,
                  (uint32_t)(record[1] % mx_plan_part_of(&r->c.plan, step).batch), 1, &item);
    mx_digest_begin(&d, record[1]);
    mx_digest_word(&d, step);
    mx_digest_word(&d, record[0]);
    mx_digest_words(&d, record + CURSORS_AT, r->k);
    for (uint32_t i = 0; i < r->k; i += 2) {
        mx_digest_word(&d, (uint64_t)prefix[i + 1] << 32 | (i + 2 <= r->k ? prefix[i + 2] : 0));
    }
    mx_digest_word(&d, item.sample);
    mx_digest_word(&d, (uint64_t)item.domain << 32 | item.epoch);
    return mx_digest_end(&d);
}

void mx_run_digest_change(struct mx_run *r, const uint64_t *words, size_t n)
{
    struct mx_digest d;

    MX_CORE_REQUIRE(r->frontier == r->ring_end);
    mx_digest_begin(&d, r->tail_digest);
    mx_digest_words(&d, words, n);
    r->tail_digest = mx_digest_end(&d);
}

uint64_t mx_run_digest(const struct mx_run *r)
{
    return r->frontier == r->ring_end ? r->tail_digest : record_of(r, r->frontier)[1];
}

int mx_run_digests_hold(struct mx_run *r, const struct mx_entry *e)
{
    if (e->n > MX_DIGESTS || e->digest_from > MX_STEP_MAX || e->digest_from + e->n > r->frontier) {
        r->bad_step = e->digest_from;
        return 0;
    }
    for (uint32_t i = 0; i < e->n; i++) {
        uint64_t step = e->digest_from + i;

        /* Those before digest_low were planned by whoever made the snapshot. */
        if (step >= r->digest_low && step + MX_DIGESTS >= r->frontier &&
            r->digests[step % MX_DIGESTS] != e->digests[i]) {
            r->bad_step = step;
            return 0;
        }
    }
    if (r->digest_asked < e->digest_from + e->n) {
        r->digest_asked = e->digest_from + e->n;
    }
    return 1;
}

/* ---- planning ------------------------------------------------------------------------------- */

/* Plans the step at the ring's end. -1, or the domain that stops it; then nothing has changed. */
static int64_t plan_next(struct mx_run *r)
{
    const struct mx_known_mix *mix = mx_run_mix_of(r, r->ring_end);
    uint64_t *record = record_of(r, r->ring_end);
    uint32_t *prefix = prefix_of(r, record);
    int64_t stopped;

    stopped = mx_plan_counts(&r->c.plan, mix->shares, r->ring_end, r->tail, r->counts);
    if (stopped >= 0) {
        return stopped;
    }
    if (r->ring_end - r->ring_low == r->ring_cap) {
        r->ring_low++;
    }
    record[0] = mix->version;
    record[1] = r->tail_digest;
    memcpy(record + CURSORS_AT, r->tail, r->k * sizeof *r->tail);
    prefix[0] = 0;
    for (uint32_t i = 0; i < r->k; i++) {
        prefix[i + 1] = prefix[i] + r->counts[i];
    }
    MX_CORE_REQUIRE(prefix[r->k] == mx_plan_part_of(&r->c.plan, r->ring_end).batch);
    mx_plan_move(&r->c.plan, r->ring_end, r->counts, r->tail);
    r->tail_digest = digest_step(r, r->ring_end, record, prefix);
    r->ring_end++;
    return -1;
}

/* The frontier has moved past the last step of a part: what the cursors were moved on by but not
 * drawn is counted. */
static void note_passed(struct mx_run *r)
{
    uint64_t last = r->frontier - 1, *record = record_of(r, last);
    const uint64_t *before = record + CURSORS_AT, *now = mx_run_cursors(r);
    const uint32_t *prefix = prefix_of(r, record);

    if (mx_plan_part_of(&r->c.plan, last).length ==
        mx_plan_part_of(&r->c.plan, r->frontier).length) {
        return;
    }
    for (uint32_t i = 0; i < r->k; i++) {
        struct mx_series s = mx_plan_series(&r->c.plan, last, i);
        uint64_t after;

        (void)mx_series_draw(&s, before[i], prefix[i + 1] - prefix[i], &after);
        r->passed[i] += now[i] - after;
    }
}

int64_t mx_run_advance(struct mx_run *r, uint64_t step)
{
    while (r->frontier < step) {
        if (r->frontier == r->ring_end) {
            int64_t stopped = plan_next(r);

            if (stopped >= 0) {
                return stopped;
            }
        }
        r->frontier++;
        note_passed(r);
        r->digests[(r->frontier - 1) % MX_DIGESTS] = mx_run_digest(r);
    }
    return -1;
}

int mx_run_truncate(struct mx_run *r, uint64_t step)
{
    step = step > r->frontier ? step : r->frontier;
    if (r->ring_end <= step) {
        return 0;
    }
    memcpy(r->tail, record_of(r, step) + CURSORS_AT, r->k * sizeof *r->tail);
    r->tail_digest = record_of(r, step)[1];
    r->ring_end = step;
    return 1;
}

const uint64_t *mx_run_cursors(const struct mx_run *r)
{
    return r->frontier == r->ring_end ? r->tail : record_of(r, r->frontier) + CURSORS_AT;
}

uint64_t mx_run_version_of(const struct mx_run *r, uint64_t step)
{
    return step >= r->ring_low && step < r->frontier ? record_of(r, step)[0] : 0;
}

/* Trial steps take at most half the ring, so that the ones served lately stay. */
static int plan_on_trial(struct mx_run *r, uint64_t step)
{
    if (!r->created || step >= mx_run_limit(r) || step >= mx_run_barrier(r) ||
        step - r->frontier >= r->ring_cap / 2) {
        return 0;
    }
    while (r->ring_end <= step) {
        if (plan_next(r) >= 0) {
            return 0; /* the request that gets there has it journaled */
        }
    }
    return 1;
}

enum mx_step_found mx_run_step(struct mx_run *r, uint64_t step, int ahead, struct mx_step *ret)
{
    uint64_t *record;

    if (step < r->ring_low) {
        return MX_STEP_OLD;
    }
    if (step >= r->frontier && (!ahead || !r->live || !plan_on_trial(r, step))) {
        return MX_STEP_UNKNOWN;
    }
    record = record_of(r, step);
    *ret = (struct mx_step){step, record[0], record + CURSORS_AT, prefix_of(r, record)};
    return MX_STEP_HERE;
}
