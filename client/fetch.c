/* fetch.c - one batch in the making: asked for in ranges of slots, laid side by side.
 *
 * Each range of per_range slots is asked for; a reply brings some of its slots, or a part of one
 * that is larger than a reply, and the rest is asked for until nothing is left. A bounded number of
 * ranges is under way at once. A batch that comes in one reply keeps the reply's message and points
 * into it; any other is copied into one buffer. A reply that isn't what was asked for fails the
 * fetch. Knows nothing of steps in a row. */
#include "client/internal.h"

#include <inttypes.h>
#include <string.h>

#define TOKEN_ALIGN 64u

static struct mxc_range *range_of(struct mxc_job *job)
{
    return (struct mxc_range *)job; /* job is its first member */
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void full_free(struct mxc_full *b)
{
    if (b != NULL) {
        mxc_msg_free(b->msg);
        free(b->token_buf);
        free(b->samples);
        free(b->tables);
        free(b->starts);
        free(b->weights);
        free(b);
    }
}

void mxc_batch_free(struct mxc_batch *b)
{
    full_free((struct mxc_full *)b); /* pub is its first member */
}

/* A batch with its tables, without tokens. */
static struct mxc_full *full_new(const struct mxc_fetch *f, bool weighted)
{
    struct mxc_full *b = calloc(1, sizeof *b);
    size_t n = f->slots;

    if (b == NULL || (b->samples = malloc(n * sizeof *b->samples)) == NULL ||
        (b->tables = calloc(3 * n + 1, sizeof *b->tables)) == NULL ||
        (weighted && (b->weights = calloc(n, sizeof *b->weights)) == NULL)) {
        full_free(b);
        return NULL;
    }
    b->pub = (struct mxc_batch){
        .step = f->step,
        .first_slot = f->first_slot,
        .slots = f->slots,
        .seq_len = f->part.seq_len,
        .width = f->run->info.width,
        .samples = b->samples,
        .domains = b->tables,
        .epochs = b->tables + n,
        .start_index = b->tables + 2 * n,
        .weights = b->weights,
    };
    return b;
}

/* ---- replies ---- */

static int check_reply(const struct mxc_range *g, const struct mx_batch_reply *m,
                       struct mxc_error *err)
{
    const struct mxc_fetch *f = g->fetch;
    uint32_t seq_len = f->part.seq_len;

    if (m->step != f->step || m->run != f->run->id || m->slot_first != g->slot ||
        m->token_first != g->token || m->slot_count > g->left) {
        return mxc_fail(err, MXC_PROTOCOL,
                        "BATCH reply: run %" PRIu32 " step %" PRIu64 " slots %" PRIu32 "+%" PRIu32
                        " token %" PRIu32 ", asked was run %" PRIu32 " step %" PRIu64
                        " slots %" PRIu32 "+%" PRIu32 " token %" PRIu32,
                        m->run, m->step, m->slot_first, m->slot_count, m->token_first, f->run->id,
                        f->step, g->slot, g->left, g->token);
    }
    if (m->batch_size != f->part.batch_size || m->seq_len != seq_len) {
        return mxc_fail(err, MXC_PROTOCOL,
                        "BATCH reply: step %" PRIu64 " is %" PRIu32 " x %" PRIu32
                        " tokens, by the run's parts %" PRIu32 " x %" PRIu32,
                        f->step, m->batch_size, m->seq_len, f->part.batch_size, seq_len);
    }
    if (m->width != f->run->info.width || m->token_count > seq_len - g->token ||
        (m->slot_count > 1 && m->token_count != seq_len)) {
        return mxc_fail(
            err, MXC_PROTOCOL,
            "BATCH reply: %" PRIu32 " slots of %" PRIu32 " tokens of %" PRIu32
            " bytes from token %" PRIu32 " on, in a run of %" PRIu32 " tokens of %" PRIu32 " bytes",
            m->slot_count, m->token_count, m->width, m->token_first, seq_len, f->run->info.width);
    }
    if (f->full != NULL &&
        (f->full->weights != NULL) != ((m->flags & MX_BATCH_WEIGHTS) != 0)) {
        return mxc_fail(err, MXC_PROTOCOL,
                        "BATCH reply: step %" PRIu64 " has weights for some of its slots alone",
                        m->step);
    }
    if (f->full != NULL && f->full->pub.mix_version != m->mix_version) {
        return mxc_fail(err, MXC_PROTOCOL,
                        "BATCH reply: step %" PRIu64 " under mix %" PRIu64
                        ", another part of it came under mix %" PRIu64,
                        m->step, m->mix_version, f->full->pub.mix_version);
    }
    return 0;
}

/* Room for a range's further document starts. */
static int starts_grow(struct mxc_starts *s, uint32_t more)
{
    uint64_t need = (uint64_t)s->n + more;
    uint64_t cap = s->cap < 16 ? 16 : s->cap;
    uint32_t *p;

    if (need <= s->cap) {
        return 0;
    }
    while (cap < need) {
        cap *= 2;
    }
    if (cap > UINT32_MAX || (p = realloc(s->p, cap * sizeof *p)) == NULL) {
        return MXC_NOMEM;
    }
    s->p = p;
    s->cap = (uint32_t)cap;
    return 0;
}

/* The per-sample tables. start_index[i + 1] counts the starts of slot i until the batch is done. */
static int take_tables(struct mxc_range *g, const uint8_t *frame, const struct mx_batch_reply *m,
                       const struct mx_batch_layout *at, struct mxc_error *err)
{
    struct mxc_fetch *f = g->fetch;
    struct mxc_starts *s = &f->starts[g->index];
    size_t slots = f->slots;
    uint32_t *domains = f->full->tables;
    uint32_t *epochs = domains + slots;
    uint32_t *counts = epochs + slots + 1;

    for (uint32_t i = 0; i < m->slot_count; i++) {
        size_t to = m->slot_first - f->first_slot + i;
        uint64_t sample = mx_load_u64(frame + at->samples + 8 * (size_t)i);
        uint32_t domain = mx_load_u32(frame + at->domains + 4 * (size_t)i);
        uint32_t epoch = mx_load_u32(frame + at->epochs + 4 * (size_t)i);

        if (domain >= f->run->info.domain_count ||
            (g->token > 0 &&
             (sample != f->full->samples[to] || domain != domains[to] || epoch != epochs[to]))) {
            return mxc_fail(err, MXC_PROTOCOL,
                            "BATCH reply: step %" PRIu64 " slot %" PRIu32 " is sample %" PRIu64
                            " of domain %" PRIu32 ", which %s",
                            f->step, m->slot_first + i, sample, domain,
                            g->token > 0 ? "its first part wasn't" : "the run hasn't");
        }
        f->full->samples[to] = sample;
        domains[to] = domain;
        epochs[to] = epoch;
        counts[to] += mx_load_u32(frame + at->bounds + 4 * (size_t)i);
        if (f->full->weights != NULL) {
            f->full->weights[to] = mx_load_f32(frame + at->weights + 4 * (size_t)i);
        }
    }
    if (starts_grow(s, m->bound_count) < 0) {
        return mxc_fail(err, MXC_NOMEM, "no memory for %" PRIu32 " document starts",
                        m->bound_count);
    }
    for (uint32_t i = 0; i < m->bound_count; i++) {
        s->p[s->n++] = mx_load_u32(frame + at->starts + 4 * (size_t)i);
    }
    return 0;
}

/* n bytes of little-endian tokens to host order. */
static void copy_tokens(uint8_t *to, const uint8_t *from, size_t n, uint32_t width)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    (void)width;
    memcpy(to, from, n);
#else
    for (size_t i = 0; i < n; i++) {
        to[i] = from[i - i % width + (width - 1 - i % width)];
    }
#endif
}

/* The tokens, by keeping the message if it holds the whole batch. */
static int take_tokens(struct mxc_range *g, const uint8_t *frame, const struct mx_batch_reply *m,
                       const struct mx_batch_layout *at, struct mxc_msg **msg,
                       struct mxc_error *err)
{
    struct mxc_fetch *f = g->fetch;
    struct mxc_full *b = f->full;
    size_t row = (size_t)b->pub.seq_len * b->pub.width;
    size_t bytes = (size_t)f->slots * row;
    size_t to;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (m->slot_count == f->slots && m->token_count == b->pub.seq_len &&
        (uintptr_t)(frame + at->tokens) % b->pub.width == 0) {
        b->pub.tokens = frame + at->tokens;
        b->msg = *msg;
        *msg = NULL;
        return 0;
    }
#endif
    if (b->token_buf == NULL) {
        size_t rounded = (bytes + TOKEN_ALIGN - 1) / TOKEN_ALIGN * TOKEN_ALIGN;
        b->token_buf = aligned_alloc(TOKEN_ALIGN, rounded);
        if (b->token_buf == NULL) {
            return mxc_fail(err, MXC_NOMEM, "no memory for a batch of %zu bytes", bytes);
        }
        b->pub.tokens = b->token_buf;
    }
    to = (size_t)(m->slot_first - f->first_slot) * row + (size_t)m->token_first * b->pub.width;
    copy_tokens((uint8_t *)b->token_buf + to, frame + at->tokens,
                (size_t)m->slot_count * m->token_count * m->width, m->width);
    return 0;
}

/* Puts all ranges' starts behind each other and makes counts offsets. */
static int finish(struct mxc_fetch *f, struct mxc_error *err)
{
    struct mxc_full *b = f->full;
    uint32_t *index = b->tables + 2 * (size_t)f->slots;
    uint64_t total = 0;
    size_t at = 0;

    for (uint32_t i = 0; i < f->range_count; i++) {
        total += f->starts[i].n;
    }
    b->starts = total <= UINT32_MAX ? malloc((total + 1) * sizeof *b->starts) : NULL;
    if (b->starts == NULL) {
        return mxc_fail(err, MXC_NOMEM, "no memory for %" PRIu64 " document starts", total);
    }
    for (uint32_t i = 0; i < f->range_count; i++) {
        if (f->starts[i].n > 0) {
            memcpy(b->starts + at, f->starts[i].p, f->starts[i].n * sizeof *b->starts);
        }
        at += f->starts[i].n;
    }
    for (uint32_t i = 0; i < f->slots; i++) {
        index[i + 1] += index[i];
    }
    b->pub.starts = b->starts;
    f->state = MXC_FETCH_COMPLETE;
    return 0;
}

/* Gives a range that has nothing left the next one, if there is one. */
static void next_range(struct mxc_range *g)
{
    struct mxc_fetch *f = g->fetch;

    g->left = 0;
    g->token = 0;
    if (f->range_next < f->range_count) {
        g->index = f->range_next++;
        g->slot = f->first_slot + g->index * f->per_range;
        g->left = min_u32(f->per_range, f->first_slot + f->slots - g->slot);
    }
}

static int range_reply(struct mxc_job *job, struct mx_span body, struct mxc_msg **msg,
                       struct mxc_error *err)
{
    struct mxc_range *g = range_of(job);
    struct mxc_fetch *f = g->fetch;
    struct mx_batch_reply m;
    struct mx_batch_layout at;
    struct mx_err e;
    size_t n;
    const uint8_t *frame = mxc_msg_frame(*msg, &n);
    int rc;

    if (mx_batch_reply_decode(body.p, body.n, &m, &e) < 0 ||
        mx_batch_check(frame, n, &m, &at, &e) < 0) {
        return mxc_fail_proto(err, &e);
    }
    rc = check_reply(g, &m, err);
    if (rc < 0) {
        return rc;
    }
    if (f->full == NULL) {
        f->full = full_new(f, (m.flags & MX_BATCH_WEIGHTS) != 0);
        if (f->full == NULL) {
            return mxc_fail(err, MXC_NOMEM, "no memory for a batch of %" PRIu32 " slots", f->slots);
        }
        f->full->pub.mix_version = m.mix_version;
    }
    if ((m.flags & MX_BATCH_EVAL_WANTED) != 0) {
        f->full->pub.eval_wanted = 1;
    }
    f->run->wait.bytes += n;
    rc = take_tables(g, frame, &m, &at, err);
    rc = rc < 0 ? rc : take_tokens(g, frame, &m, &at, msg, err);
    if (rc < 0) {
        return rc;
    }
    if (m.token_first + m.token_count < f->part.seq_len) {
        g->token = m.token_first + m.token_count;
    } else {
        g->token = 0;
        g->slot += m.slot_count;
        g->left -= m.slot_count;
    }
    if (g->left == 0) {
        f->range_done++;
        next_range(g);
    }
    if (f->range_done == f->range_count) {
        return finish(f, err);
    }
    if (g->left > 0) {
        mxc_job_start(&g->job, mxc_now_ns());
    }
    return 0;
}

/* ---- requests ---- */

static void range_encode(struct mxc_job *job, struct mx_writer *w)
{
    const struct mxc_range *g = range_of(job);
    const struct mxc_fetch *f = g->fetch;
    const struct mxc_run *r = f->run;
    /* The oldest step still in use: it lets the daemon know how far it may plan ahead. */
    uint64_t oldest = r->started ? r->returned : f == r->client->direct ? f->step : r->step;

    mx_batch_request_encode(
        w, &(struct mx_batch_request){.step = f->step,
                                      .oldest = oldest < f->step ? oldest : f->step,
                                      .run = r->id,
                                      .rank = r->rank,
                                      .world = r->world,
                                      .slot_first = g->slot,
                                      .slot_count = g->token > 0 ? 1 : g->left,
                                      .token_first = g->token});
}

static void range_failed(struct mxc_job *job, const struct mxc_error *err)
{
    struct mxc_fetch *f = range_of(job)->fetch;

    if (f->state != MXC_FETCH_OPEN) {
        return;
    }
    f->state = MXC_FETCH_FAILED;
    f->error = *err;
    if (err->code == MXC_SKIPPED) {
        f->skipped_to = job->skipped_to;
        if (f->skipped_to > f->step) {
            (void)mxc_fail(&f->error, MXC_SKIPPED,
                           "run %s: step %" PRIu64 " is passed over, go on at step %" PRIu64
                           ": %.800s",
                           f->run->name, f->step, f->skipped_to, err->text);
        } else { /* following it could go round for ever */
            (void)mxc_fail(&f->error, MXC_PROTOCOL,
                           "BATCH reply: step %" PRIu64 " is passed over up to step %" PRIu64,
                           f->step, f->skipped_to);
        }
    }
    for (uint32_t i = 0; i < f->n_ranges; i++) {
        mxc_job_stop(f->run->client, &f->ranges[i].job);
    }
}

static const struct mxc_job_ops range_ops = {
    .type = MX_MSG_BATCH,
    .encode = range_encode,
    .reply = range_reply,
    .failed = range_failed,
};

struct mxc_fetch *mxc_fetch_new(struct mxc_run *r, uint64_t step, uint32_t first, uint32_t slots)
{
    struct mxc_fetch *f = calloc(1, sizeof *f);
    int64_t now = mxc_now_ns();

    if (f == NULL) {
        return NULL;
    }
    f->run = r;
    f->step = step;
    f->part = mxc_part_of(r, step);
    f->first_slot = first;
    f->slots = slots;
    f->per_range = min_u32(mxc_slots_per_reply(r, step), slots);
    f->range_count = (slots - 1) / f->per_range + 1;
    f->n_ranges = min_u32(f->range_count, MX_CLIENT_CALLS_MAX);
    f->ranges = calloc(f->n_ranges, sizeof *f->ranges);
    f->starts = calloc(f->range_count, sizeof *f->starts);
    if (f->ranges == NULL || f->starts == NULL) {
        free(f->ranges);
        free(f->starts);
        free(f);
        return NULL;
    }
    for (uint32_t i = 0; i < f->n_ranges; i++) {
        struct mxc_range *g = &f->ranges[i];

        g->fetch = f;
        g->job.ops = &range_ops;
        g->job.retries = &r->wait.retries;
        next_range(g);
        mxc_job_start(&g->job, now);
    }
    return f;
}

void mxc_fetch_free(struct mxc_fetch *f)
{
    if (f == NULL) {
        return;
    }
    for (uint32_t i = 0; i < f->n_ranges; i++) {
        mxc_job_stop(f->run->client, &f->ranges[i].job);
    }
    for (uint32_t i = 0; i < f->range_count; i++) {
        free(f->starts[i].p);
    }
    full_free(f->full);
    free(f->starts);
    free(f->ranges);
    free(f);
}

struct mxc_batch *mxc_fetch_take(struct mxc_fetch *f)
{
    struct mxc_batch *b = &f->full->pub;

    f->full = NULL;
    mxc_fetch_free(f);
    return b;
}
