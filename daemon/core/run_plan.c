/* run_plan.c - the planned steps of a run: a ring of records and the frontier in it. See run.h.
 * Knows nothing of requests or feedback.
 *
 * A record is words: the mix's version, k cursors before the step, then k + 1 running sums of 32
 * bits. Steps from the frontier on are on trial: the same records, but a new mix may take them. */
#include "daemon/core/run_state.h"

#include <string.h>

size_t mx_run_record_words(uint32_t k)
{
    return 1 + (size_t)k + ((size_t)k + 2) / 2;
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
    return (uint32_t *)(void *)(record + 1 + r->k);
}

void mx_run_plan_reset(struct mx_run *r, uint64_t step)
{
    r->frontier = step;
    r->ring_low = step;
    r->ring_end = step;
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
    memcpy(record + 1, r->tail, r->k * sizeof *r->tail);
    prefix[0] = 0;
    for (uint32_t i = 0; i < r->k; i++) {
        prefix[i + 1] = prefix[i] + r->counts[i];
        r->tail[i] += r->counts[i];
    }
    MX_CORE_REQUIRE(prefix[r->k] == r->c.plan.batch);
    r->ring_end++;
    return -1;
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
    }
    return -1;
}

int mx_run_truncate(struct mx_run *r, uint64_t step)
{
    step = step > r->frontier ? step : r->frontier;
    if (r->ring_end <= step) {
        return 0;
    }
    memcpy(r->tail, record_of(r, step) + 1, r->k * sizeof *r->tail);
    r->ring_end = step;
    return 1;
}

const uint64_t *mx_run_cursors(const struct mx_run *r)
{
    return r->frontier == r->ring_end ? r->tail : record_of(r, r->frontier) + 1;
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
    *ret = (struct mx_step){step, record[0], record + 1, prefix_of(r, record)};
    return MX_STEP_HERE;
}
