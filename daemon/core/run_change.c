/* run_change.c - steps that are passed over, and domains that grow or lose samples. See run.h and
 * series.h. Knows nothing of shards or documents: a domain is a number of samples.
 *
 * A change of a domain acts at the frontier: from the cursor that stands there. What was planned
 * before keeps its cursors, and with them its samples. */
#include "daemon/core/run_state.h"

#include <string.h>

/* ---- steps ---------------------------------------------------------------------------------- */

int mx_run_skipped(const struct mx_run *r, uint64_t step, uint64_t *ret)
{
    for (uint32_t i = 0; i < r->n_skips; i++) {
        const struct mx_range *s = &r->skips[i];

        if (step >= s->first && step - s->first < s->count) {
            *ret = s->first + s->count;
            return 1;
        }
    }
    return 0;
}

const struct mx_range *mx_run_skips(const struct mx_run *r, uint32_t *ret_n)
{
    *ret_n = r->n_skips;
    return r->skips;
}

/* The furthest that a skip may reach: what trainers can get to at once. */
static uint64_t skip_most(const struct mx_run *r)
{
    uint64_t most = r->frontier + r->c.max_ahead;

    return most < mx_run_limit(r) ? most : mx_run_limit(r);
}

void mx_run_on_skip(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    const struct mx_entry *in = ev->entry;
    struct mx_effect *f;
    struct mx_entry *e;

    if (in->step >= in->to || in->to > skip_most(r) || in->step < r->first_step) {
        f = mx_run_refuse(fx, ev->handle, MX_BAD_RANGE, skip_most(r));
        f->u[1] = r->first_step;
    } else if (r->n_skips + r->pending_skips >= MX_SKIPS_MAX) {
        mx_run_refuse(fx, ev->handle, MX_TOO_MANY_SKIPS, MX_SKIPS_MAX);
    } else {
        r->pending_skips++;
        e = mx_run_append(r, fx, ev->handle, MX_ENTRY_SKIP);
        e->step = in->step;
        e->to = in->to;
        mx_run_copy_author(e, in);
    }
}

int mx_run_skip_apply(struct mx_run *r, const struct mx_entry *e)
{
    uint64_t from = e->step, to = e->to;
    uint32_t at = 0;

    if (r->live) {
        r->pending_skips--;
    }
    if (from >= to || to > MX_STEP_MAX * 2) {
        return -1;
    }
    while (at < r->n_skips && r->skips[at].first + r->skips[at].count < from) {
        at++;
    }
    while (at < r->n_skips && r->skips[at].first <= to) { /* they touch: one range of them all */
        uint64_t end = r->skips[at].first + r->skips[at].count;

        from = r->skips[at].first < from ? r->skips[at].first : from;
        to = end > to ? end : to;
        memmove(r->skips + at, r->skips + at + 1, (r->n_skips - at - 1) * sizeof *r->skips);
        r->n_skips--;
    }
    if (r->n_skips == MX_SKIPS_MAX) {
        return -1;
    }
    memmove(r->skips + at + 1, r->skips + at, (r->n_skips - at) * sizeof *r->skips);
    r->skips[at] = (struct mx_range){from, to - from};
    r->n_skips++;
    mx_run_skip_open(r, from, to);
    return 0;
}

/* ---- domains -------------------------------------------------------------------------------- */

void mx_run_point_domains(struct mx_run *r)
{
    struct mx_stretch *stretch = r->stretches;
    struct mx_gone *gone = r->gone;

    for (uint32_t i = 0; i < r->k; i++) {
        r->domains[i].stretches = stretch;
        r->domains[i].gone = gone;
        stretch += r->domains[i].n_stretches;
        gone += r->domains[i].n_gone;
    }
    r->n_stretches = (uint32_t)(stretch - r->stretches);
    r->n_gone = (uint32_t)(gone - r->gone);
    r->plan_changes++;
}

static struct mx_series series_of(const struct mx_run *r, uint32_t domain)
{
    return mx_plan_series(&r->c.plan, r->frontier, domain);
}

/* What a domain will have at most: a grown one's samples may be yet to come. */
static uint64_t samples_of(const struct mx_plan_domain *d)
{
    return d->n_stretches > 0 ? d->stretches[d->n_stretches - 1].samples : d->samples;
}

/* Makes room for a domain's n stretches, of which `keep` stay. */
static void resize_stretches(struct mx_run *r, uint32_t domain, uint32_t n, uint32_t keep)
{
    struct mx_plan_domain *d = &r->domains[domain];
    size_t begin = (size_t)(d->stretches - r->stretches);
    size_t behind = begin + d->n_stretches;

    memmove(r->stretches + begin + n, r->stretches + behind,
            (r->n_stretches - behind) * sizeof *r->stretches);
    MX_CORE_REQUIRE(keep <= n);
    d->n_stretches = n;
    mx_run_point_domains(r);
}

/* Of the first `samples`, how many are gone or would be; `length` are one: they go together, since
 * they may be drawn so. */
static uint64_t gone_below(const struct mx_plan_domain *d, const struct mx_range *ranges,
                           uint32_t n, uint64_t samples, uint32_t length)
{
    uint64_t gone = 0, at = 0; /* those before `at` are counted */
    uint32_t i = 0, j = 0;

    while (at < samples) {
        uint64_t first = UINT64_MAX, end = 0;

        if (i < d->n_gone) {
            first = d->gone[i].first;
            end = first + d->gone[i].count;
        }
        if (j < n && ranges[j].first < first) {
            first = ranges[j].first;
            end = first + ranges[j].count;
            j++;
        } else {
            i += i < d->n_gone;
        }
        if (first >= samples) {
            break;
        }
        first -= first % length;
        end += (length - end % length) % length;
        first = first > at ? first : at;
        end = end < samples ? end : samples;
        gone += end > first ? end - first : 0;
        at = end > at ? end : at;
    }
    return gone;
}

static int over_half(const struct mx_run *r, uint32_t domain, const struct mx_range *ranges,
                     uint32_t n, uint64_t samples)
{
    uint32_t length = mx_plan_longest(&r->c.plan);
    uint64_t groups = samples / length;

    return gone_below(&r->domains[domain], ranges, n, groups * length, length) / length >
           groups / 2;
}

void mx_run_on_adopt(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    const struct mx_entry *in = ev->entry;
    struct mx_series series;
    struct mx_stretch stretch;
    struct mx_entry *e;
    uint32_t keep, longest = mx_plan_longest(&r->c.plan);

    if (in->domain >= r->k) {
        mx_run_refuse(fx, ev->handle, MX_BAD_DOMAIN, in->domain);
        return;
    }
    series = series_of(r, in->domain);
    if (r->pending_here > 0) {
        mx_run_refuse(fx, ev->handle, MX_CHANGING, r->frontier);
    } else if (in->samples < samples_of(series.d) || in->samples > MX_SAMPLES_MAX ||
               in->chunk == 0) {
        mx_run_refuse(fx, ev->handle, MX_NOT_GROWN, samples_of(series.d));
    } else if (in->flag && longest > 1) {
        mx_run_refuse(fx, ev->handle, MX_NO_JOINS, longest);
    } else if (r->n_stretches == MX_STRETCHES_MAX) {
        mx_run_refuse(fx, ev->handle, MX_TOO_MANY_CHANGES, MX_STRETCHES_MAX);
    } else if (over_half(r, in->domain, NULL, 0, in->samples)) {
        mx_run_refuse(fx, ev->handle, MX_TOO_MUCH_GONE, in->samples);
    } else if (mx_series_grow(&series, mx_run_cursors(r)[in->domain], in->samples, in->chunk,
                              (int)in->flag, &stretch, &keep) != 0) {
        mx_run_refuse(fx, ev->handle, MX_JOINED_TOO_OFTEN, MX_JOINS_MAX);
    } else {
        r->pending_here++;
        e = mx_run_append(r, fx, ev->handle, MX_ENTRY_ADOPT);
        e->step = r->frontier;
        e->domain = in->domain;
        e->samples = in->samples;
        e->chunk = mx_plan_chunk(&r->c.plan, in->chunk);
        e->shards = in->shards;
        e->flag = in->flag;
        mx_run_copy_author(e, in);
    }
}

/* The frontier is where the entry says; nothing stays on trial. */
static int begin_change(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx)
{
    if (r->live) {
        r->pending_here--;
    }
    if (e->step != r->frontier || e->domain >= r->k) {
        return -1;
    }
    if (mx_run_truncate(r, r->frontier) && r->live) {
        mx_run_push(fx, MX_FX_DROP, 0)->step = r->frontier;
    }
    return 0;
}

int mx_run_adopt_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx)
{
    struct mx_series series;
    struct mx_stretch stretch;
    struct mx_plan_domain *d;
    uint32_t keep, longest = mx_plan_longest(&r->c.plan);

    if (begin_change(r, e, fx) != 0) {
        return -1;
    }
    series = series_of(r, e->domain);
    d = &r->domains[e->domain];
    if (e->samples < samples_of(d) || e->samples > MX_SAMPLES_MAX || e->chunk == 0 ||
        r->n_stretches == MX_STRETCHES_MAX || e->chunk % longest != 0 ||
        (e->flag && longest > 1)) {
        return -1;
    }
    if (mx_series_grow(&series, r->tail[e->domain], e->samples, e->chunk, (int)e->flag, &stretch,
                       &keep) != 0) {
        return -1;
    }
    stretch.shards = e->shards;
    resize_stretches(r, e->domain, keep + 1, keep);
    r->stretches[(size_t)(d->stretches - r->stretches) + keep] = stretch;
    if (d->max_epochs > 0.0) {
        uint64_t budget = mx_series_budget(d);

        r->spent[e->domain] &= budget <= d->budget; /* else it goes on */
        d->budget = budget;
    }
    mx_run_digest_change(r, (const uint64_t[]){MX_ENTRY_ADOPT, e->domain, stretch.from,
                                               stretch.samples, stretch.chunk, stretch.depth}, 6);
    return 0;
}

/* ---- withdrawals ---------------------------------------------------------------------------- */

/* Adds what isn't gone yet of a range to the domain's table, or with `dry` only counts: *ranges
 * grows by how many ranges that makes. */
static void add_gone(struct mx_run *r, uint32_t domain, struct mx_range range, uint64_t from,
                         int dry, uint32_t *ranges)
{
    struct mx_plan_domain *d = &r->domains[domain];
    struct mx_gone *gone = r->gone + (d->gone - r->gone);
    uint64_t at = range.first, end = range.first + range.count;
    uint32_t i = 0;

    while (at < end) {
        uint64_t next, upto;

        while (i < d->n_gone && gone[i].first + gone[i].count <= at) {
            i++;
        }
        next = i < d->n_gone ? gone[i].first : UINT64_MAX;
        if (next <= at) {
            at = next + gone[i].count;
            continue;
        }
        upto = next < end ? next : end;
        ++*ranges;
        if (!dry) {
            memmove(gone + i + 1, gone + i,
                    (size_t)(r->gone + r->n_gone - (gone + i)) * sizeof *gone);
            gone[i++] = (struct mx_gone){at, upto - at, from};
            d->n_gone++;
            r->n_gone++;
        }
        at = upto;
    }
}

static int ranges_ok(const struct mx_entry *e)
{
    for (uint32_t i = 0; i < e->n; i++) {
        if (e->ranges[i].count == 0 || e->ranges[i].first > MX_SAMPLES_MAX ||
            e->ranges[i].count > MX_SAMPLES_MAX ||
            (i > 0 && e->ranges[i].first < e->ranges[i - 1].first + e->ranges[i - 1].count)) {
            return 0;
        }
    }
    return 1;
}

/* The number of samples of which over half are gone or would be: of those that there are, that
 * there will be, or `grown`. 0: there is none such. */
static uint64_t too_much_gone(const struct mx_run *r, uint32_t domain,
                              const struct mx_range *ranges, uint32_t n, uint64_t grown)
{
    const struct mx_plan_domain *d = &r->domains[domain];
    uint64_t cursor = mx_run_cursors(r)[domain], samples = mx_series_samples(d, cursor);

    if (over_half(r, domain, ranges, n, samples)) {
        return samples;
    }
    for (uint32_t i = 0; i < d->n_stretches; i++) {
        if (d->stretches[i].from > cursor &&
            over_half(r, domain, ranges, n, d->stretches[i].samples)) {
            return d->stretches[i].samples;
        }
    }
    return over_half(r, domain, ranges, n, grown) ? grown : 0;
}

enum mx_verdict mx_run_spares(struct mx_run *r, uint32_t domain, const struct mx_range *ranges,
                              uint32_t n, uint64_t grown, uint64_t *ret_most)
{
    uint32_t more = 0;

    for (uint32_t i = 0; i < n; i++) {
        add_gone(r, domain, ranges[i], 0, 1, &more);
    }
    *ret_most = MX_GONE_MAX;
    if (n > MX_GONE_MAX || r->n_gone + more > MX_GONE_MAX) {
        return MX_TOO_MANY_CHANGES;
    }
    *ret_most = too_much_gone(r, domain, ranges, n, grown);
    return *ret_most != 0 ? MX_TOO_MUCH_GONE : MX_OK;
}

int mx_run_enough_stays(const struct mx_run *r)
{
    for (uint32_t i = 0; i < r->k; i++) {
        if (too_much_gone(r, i, NULL, 0, 0) != 0) {
            return 0;
        }
    }
    return 1;
}

void mx_run_on_withdraw(struct mx_run *r, const struct mx_event *ev, struct mx_effects *fx)
{
    const struct mx_entry *in = ev->entry;
    enum mx_verdict verdict;
    struct mx_entry *e;
    uint64_t most;

    if (in->domain >= r->k || !ranges_ok(in)) {
        mx_run_refuse(fx, ev->handle, MX_BAD_DOMAIN, in->domain);
        return;
    }
    verdict = mx_run_spares(r, in->domain, in->ranges, in->n, 0, &most);
    if (r->pending_here > 0) {
        mx_run_refuse(fx, ev->handle, MX_CHANGING, r->frontier);
    } else if (in->serial <= r->withdrawn[in->domain]) {
        mx_run_refuse(fx, ev->handle, MX_DUPLICATE, r->withdrawn[in->domain]);
    } else if (verdict != MX_OK) {
        mx_run_refuse(fx, ev->handle, verdict, most);
    } else {
        r->pending_here++;
        e = mx_run_append(r, fx, ev->handle, MX_ENTRY_WITHDRAW);
        e->step = r->frontier;
        e->domain = in->domain;
        e->serial = in->serial;
        memcpy(r->range_buffer, in->ranges, in->n * sizeof *in->ranges);
        e->ranges = r->range_buffer;
        e->n = in->n;
        mx_run_copy_author(e, in);
    }
}

int mx_run_withdraw_apply(struct mx_run *r, const struct mx_entry *e, struct mx_effects *fx)
{
    uint32_t ranges = 0;

    if (begin_change(r, e, fx) != 0 || !ranges_ok(e) || e->serial <= r->withdrawn[e->domain]) {
        return -1;
    }
    for (uint32_t i = 0; i < e->n; i++) {
        add_gone(r, e->domain, e->ranges[i], 0, 1, &ranges);
    }
    if (r->n_gone + ranges > MX_GONE_MAX) {
        return -1;
    }
    mx_run_digest_change(r, (const uint64_t[]){MX_ENTRY_WITHDRAW, e->domain, e->serial}, 3);
    for (uint32_t i = 0; i < e->n; i++) {
        const struct mx_range *range = &e->ranges[i];

        add_gone(r, e->domain, *range, r->tail[e->domain], 0, &ranges);
        mx_run_digest_change(r, (const uint64_t[]){range->first, range->count}, 2);
    }
    r->withdrawn[e->domain] = e->serial;
    mx_run_point_domains(r);
    return 0;
}
