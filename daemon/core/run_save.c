/* run_save.c - a run's fold as 64-bit words, and back. See run.h. The words don't depend on how the
 * state came about: the same journal gives the same words. Loading trusts nothing in them.
 *
 * Version ritual: a change of what is written, or of what a policy's state means, takes a new
 * SAVE_MAGIC; old snapshots are then refused, and a run without one is folded from its start. */
#include "daemon/core/run_state.h"

#include <math.h>
#include <string.h>

#define SAVE_MAGIC 0x31305641534e5552u /* "RUNSAV01" */
/* Words before the cursors: magic, k, policy's name, words of its state, position. */
#define CURSORS_AT 5u

/* ---- cursors over words --------------------------------------------------------------------- */

struct sink {
    uint64_t *words;
    size_t n, cap; /* n goes on counting past cap */
};

static void put(struct sink *s, uint64_t v)
{
    if (s->n < s->cap) {
        s->words[s->n] = v;
    }
    s->n++;
}

static void put_double(struct sink *s, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    put(s, bits);
}

static void put_all(struct sink *s, const uint64_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put(s, v[i]);
    }
}

struct source {
    const uint64_t *words;
    size_t left;
    int failed; /* sticky */
};

static uint64_t get(struct source *s)
{
    if (s->left == 0) {
        s->failed = 1;
        return 0;
    }
    s->left--;
    return *s->words++;
}

/* A value that must not be over max. */
static uint64_t get_upto(struct source *s, uint64_t max)
{
    uint64_t v = get(s);

    if (v > max) {
        s->failed = 1;
        return 0;
    }
    return v;
}

static double get_double(struct source *s)
{
    uint64_t bits = get(s);
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

static void get_all(struct source *s, uint64_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        v[i] = get(s);
    }
}

static uint64_t name_hash(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

    for (; *name != '\0'; name++) {
        h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    }
    return h;
}

/* ---- saving --------------------------------------------------------------------------------- */

static void save_mixes(const struct mx_run *r, struct sink *s)
{
    const struct mx_known_mix *m = mx_run_mix_of(r, r->frontier);
    const struct mx_known_mix *end = r->mixes + r->mix_count;

    put(s, (uint64_t)(end - m));
    for (; m < end; m++) {
        put(s, m->from);
        put(s, m->version);
        put_all(s, m->shares, r->k);
    }
}

/* The open step that follows `after` (NULL: the first), so that they are written rising. */
static const struct mx_open_step *next_open(const struct mx_run *r,
                                            const struct mx_open_step *after)
{
    const struct mx_open_step *next = NULL;

    for (uint32_t i = 0; i < r->open_cap; i++) {
        const struct mx_open_step *o = &r->open[i];

        if (o->used && (after == NULL || o->step > after->step) &&
            (next == NULL || o->step < next->step)) {
            next = o;
        }
    }
    return next;
}

static void save_open(const struct mx_run *r, struct sink *s)
{
    const struct mx_open_step *o = NULL;

    put(s, r->open_count);
    while ((o = next_open(r, o)) != NULL) {
        put(s, o->step);
        put(s, o->world);
        put_all(s, o->ranks, ((size_t)o->world + 63) / 64);
        for (uint32_t i = 0; i < r->k; i++) {
            put(s, o->loss[i].high);
            put(s, o->loss[i].low);
            put(s, o->tokens[i]);
            put(s, o->samples[i]);
        }
    }
}

size_t mx_run_save(const struct mx_run *r, uint64_t *words, size_t cap, uint64_t *ret_step)
{
    struct sink s = {words, 0, cap};

    MX_CORE_REQUIRE(r->created);
    put(&s, SAVE_MAGIC);
    put(&s, r->k);
    put(&s, name_hash(r->c.policy->name));
    put(&s, r->policy_words);
    put(&s, r->frontier);
    put_all(&s, mx_run_cursors(r), r->k);
    put(&s, r->applied);
    put(&s, r->reserved);
    put(&s, r->stop_step);
    put(&s, r->exhausted_step);
    put(&s, r->exhausted_domain);
    save_mixes(r, &s);
    for (size_t i = 0; i < r->policy_words; i++) {
        put_double(&s, r->policy_state[i]);
    }
    put(&s, (uint64_t)r->set_wanted);
    if (r->set_wanted) {
        put_all(&s, r->set_shares, r->k);
    }
    put(&s, (uint64_t)r->policy_wanted);
    put(&s, r->steps_closed);
    put(&s, r->last_closed);
    put(&s, r->last_delay);
    put(&s, r->accepted);
    put(&s, r->timeouts);
    for (uint32_t i = 0; i < r->k; i++) {
        put_double(&s, r->loss[i]);
        put(&s, r->loss_step[i]);
    }
    save_open(r, &s);
    put(&s, r->closed_base);
    put_all(&s, r->closed, MX_CLOSED_WORDS);
    put_all(&s, r->complete, MX_CLOSED_WORDS);
    *ret_step = r->frontier;
    return s.n;
}

/* ---- loading -------------------------------------------------------------------------------- */

static void load_mixes(struct mx_run *r, struct source *s)
{
    uint64_t n = get_upto(s, r->mix_cap), from, version;

    for (uint64_t i = 0; i < n && !s->failed; i++) {
        from = get_upto(s, MX_NEVER - 1);
        version = get(s);
        get_all(s, r->want_shares, r->k);
        if (i == 0 ? from > r->frontier || version == 0
                   : from <= r->mixes[i - 1].from || version <= r->mixes[i - 1].version) {
            s->failed = 1;
        } else if (!s->failed && mx_run_add_mix(r, i == 0 ? r->frontier : from, version,
                                                r->want_shares) != 0) {
            s->failed = 1;
        } else if (!s->failed) {
            r->mixes[i].from = from;
        }
    }
    if (r->mix_count == 0 || r->mix_count != n) {
        s->failed = 1;
    }
}

static uint32_t ones(uint64_t v)
{
    uint32_t n = 0;

    for (; v != 0; v &= v - 1) {
        n++;
    }
    return n;
}

static void load_open(struct mx_run *r, struct source *s)
{
    uint64_t n = get_upto(s, r->open_cap);

    for (uint64_t i = 0; i < n && !s->failed; i++) {
        uint64_t step = get_upto(s, MX_STEP_MAX), world = get_upto(s, MX_WORLD_MAX);
        struct mx_open_step *o;

        if (world == 0 || mx_run_find_open(r, step) != NULL) {
            s->failed = 1;
            return;
        }
        o = mx_run_open(r, step, (uint32_t)world);
        for (uint64_t w = 0; w < (world + 63) / 64; w++) {
            uint64_t most = world - w * 64 >= 64 ? UINT64_MAX
                                                 : ((uint64_t)1 << (world - w * 64)) - 1;

            o->ranks[w] = get(s);
            s->failed |= (o->ranks[w] & ~most) != 0;
            o->reported += ones(o->ranks[w]);
        }
        s->failed |= o->reported == 0 || o->reported >= o->world;
        for (uint32_t d = 0; d < r->k; d++) {
            o->loss[d].high = get_upto(s, (uint64_t)1 << 62);
            o->loss[d].low = get(s);
            o->tokens[d] = get_upto(s, (uint64_t)1 << 56);
            o->samples[d] = get_upto(s, (uint64_t)1 << 56);
        }
    }
}

/* Weights must be weights, whatever the words of the policy's state say. */
static void load_policy(struct mx_run *r, struct source *s)
{
    double sum = 0.0;

    for (size_t i = 0; i < r->policy_words; i++) {
        r->policy_state[i] = get_double(s);
    }
    r->c.policy->weights(r->policy_state, r->k, r->weights);
    for (uint32_t i = 0; i < r->k; i++) {
        s->failed |= !(r->weights[i] >= 0.0 && r->weights[i] <= 1.0 + 1e-9);
        sum += r->weights[i];
    }
    s->failed |= !(fabs(sum - 1.0) < 1e-6);
}

static void load_wanted(struct mx_run *r, struct source *s)
{
    uint64_t sum = 0;

    r->set_wanted = (int)get_upto(s, 1);
    for (uint32_t i = 0; r->set_wanted && i < r->k; i++) {
        r->set_shares[i] = get_upto(s, MX_SHARE_ONE);
        sum += r->set_shares[i];
    }
    s->failed |= r->set_wanted && sum != MX_SHARE_ONE;
    r->policy_wanted = (int)get_upto(s, 1);
}

static int load_head(struct mx_run *r, struct source *s)
{
    if (get(s) != SAVE_MAGIC || get(s) != r->k || get(s) != name_hash(r->c.policy->name) ||
        get(s) != r->policy_words) {
        return -1;
    }
    mx_run_plan_reset(r, get_upto(s, MX_STEP_MAX * 2));
    get_all(s, r->tail, r->k);
    r->applied = get(s);
    r->reserved = get_upto(s, MX_STEP_MAX * 2);
    r->stop_step = get(s);
    r->exhausted_step = get(s);
    r->exhausted_domain = (uint32_t)get_upto(s, r->k - 1);
    s->failed |= r->applied == 0 || r->frontier > r->reserved;
    return s->failed ? -1 : 0;
}

int mx_run_load(struct mx_run *r, const uint64_t *words, size_t n)
{
    struct source s = {words, n, 0};

    MX_CORE_REQUIRE(!r->created);
    if (load_head(r, &s) != 0) {
        return -1;
    }
    load_mixes(r, &s);
    load_policy(r, &s);
    load_wanted(r, &s);
    r->steps_closed = get(&s);
    r->last_closed = get(&s);
    r->last_delay = get(&s);
    r->accepted = get(&s);
    r->timeouts = get(&s);
    for (uint32_t i = 0; i < r->k; i++) {
        r->loss[i] = get_double(&s);
        r->loss_step[i] = get(&s);
    }
    load_open(r, &s);
    r->closed_base = get_upto(&s, MX_STEP_MAX);
    get_all(&s, r->closed, MX_CLOSED_WORDS);
    get_all(&s, r->complete, MX_CLOSED_WORDS);
    if (s.failed || s.left != 0) {
        return -1;
    }
    r->appended = r->applied;
    r->snapshot_at = r->frontier;
    r->created = 1;
    return 0;
}

int mx_run_saved_cursors(const uint64_t *words, size_t n, uint32_t k, uint64_t *ret_step,
                         uint64_t *ret_cursors)
{
    if (n < CURSORS_AT + (size_t)k || words[0] != SAVE_MAGIC || words[1] != k) {
        return -1;
    }
    *ret_step = words[CURSORS_AT - 1];
    memcpy(ret_cursors, words + CURSORS_AT, k * sizeof *ret_cursors);
    return 0;
}
