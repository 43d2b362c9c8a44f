/* fill_work.c - what a filler thread does: plan the slots, look up the samples, copy the tokens
 * into a message that needs nothing more than an id. Reads the catalog and shards, touches nothing
 * of the loop's. See fill_work.h. */
#include "daemon/fill_work.h"

#include "daemon/replay.h"

#include <inttypes.h>
#include <string.h>

struct mx_fill *mx_fill_new(struct mx_host *h, uint64_t step, uint32_t first, uint32_t count,
                            uint32_t token_first, const struct mx_step *plan)
{
    uint32_t k = h->conf.k;
    struct mx_fill *f = calloc(1, sizeof *f);

    if (f == NULL) {
        return NULL;
    }
    f->host = h;
    f->ground = mx_ground_take(h->ground);
    f->step = step;
    f->first = first;
    f->count = count;
    f->token_first = token_first;
    f->prefix = malloc((k + 1) * sizeof *f->prefix);
    f->cursors = malloc((size_t)k * sizeof *f->cursors);
    if (f->prefix == NULL || f->cursors == NULL) {
        mx_fill_free(f);
        return NULL;
    }
    if (plan != NULL) {
        memcpy(f->prefix, plan->prefix, (k + 1) * sizeof *f->prefix);
        memcpy(f->cursors, plan->cursors, k * sizeof *f->cursors);
        f->mix_version = f->work_version = plan->mix_version;
    } else {
        free(f->cursors);
        f->cursors = NULL;
    }
    return f;
}

void mx_fill_free(struct mx_fill *f)
{
    mx_ground_give(f->ground);
    free(f->prefix);
    free(f->cursors);
    free(f);
}

/* A step planned too long ago to be in memory. */
static int replay(struct mx_fill *f, struct mx_err *err)
{
    struct mx_replayed r = {.prefix = f->prefix};
    const struct mx_host *h = f->host;
    int rc = mx_replay_step(h->d->catalog, h->id, h->conf.name, f->ground, f->step, &r, err);

    f->prefix = r.prefix;
    f->cursors = r.cursors;
    f->work_version = r.mix.version;
    free(r.shares);
    return rc;
}

/* ---- weights of the loss ---- */

/* Of each domain: its share of the loss over its share of the samples, scaled so that the mean over
 * a batch is expected to be 1 also where a domain with a share of the loss is never drawn. */
static int loss_weights(const struct mx_fill *f, float **ret, struct mx_err *err)
{
    const struct mx_host *h = f->host;
    uint32_t k = h->conf.k;
    uint64_t *shares = malloc(2 * (size_t)k * sizeof *shares), version = 0, drawn = 0;
    float *weights = malloc(k * sizeof *weights);
    int rc;

    if (shares == NULL || weights == NULL) {
        free(shares);
        free(weights);
        return mx_fail(err, MX_ENOMEM, "no memory for the weights of %" PRIu32 " domains", k);
    }
    rc = mx_replay_loss(h->d->catalog, h->id, h->conf.name, f->ground, f->step, &version, shares,
                        err);
    if (rc == 0 && version != f->work_version) {
        rc = mx_fail(err, MX_EBUSY, "run %s: step %" PRIu64 " has got another mix", h->conf.name,
                     f->step);
    }
    for (uint32_t i = 0; rc == 0 && i < k; i++) {
        drawn += shares[i] > 0 ? shares[k + i] : 0;
    }
    for (uint32_t i = 0; rc == 0 && i < k; i++) {
        double part = drawn > 0 ? (double)shares[k + i] / (double)drawn
                                : (double)shares[i] / (double)MX_SHARE_ONE;

        weights[i] = shares[i] > 0
                         ? (float)(part * (double)MX_SHARE_ONE / (double)shares[i]) : 0;
    }
    free(shares);
    if (rc < 0) {
        free(weights);
        return rc;
    }
    *ret = weights;
    return 0;
}

/* ---- the reply ---- */

/* What is being put together: the slots that fit, where their tokens lie, where documents start. */
struct making {
    struct mx_fill *f;
    uint32_t seq_len, batch;   /* of the step */
    uint32_t n, tokens;        /* slots, tokens of each */
    struct mx_plan_item *items;
    uint32_t *bounds;          /* document starts in each */
    uint32_t *starts;
    size_t n_starts, cap;
    bool weighted;
    float *weights;            /* of the loss, by domain; if weighted */
    struct mx_batch_layout at;
};

/* Tokens that lie in a row in one shard. */
struct stretch {
    uint64_t shard, token;
    uint32_t at, n; /* in the slot: tokens [at, at + n) */
};

/* The stretch of slot i's tokens that begins with its token `at`: up to `end`, or where its next
 * sample lies in another shard. */
static struct stretch stretch_from(const struct making *m, uint32_t i, uint32_t at, uint32_t end)
{
    const struct mx_view *v = m->f->ground->views[m->items[i].domain];
    uint32_t unit = v->seq_len, upto = (at / unit + 1) * unit;
    struct stretch s = {.at = at};
    uint64_t shard, token;

    mx_view_find(v, m->items[i].sample + at / unit, &s.shard, &s.token);
    s.token += at % unit;
    for (; upto < end; upto += unit) {
        mx_view_find(v, m->items[i].sample + upto / unit, &shard, &token);
        if (shard != s.shard || token != s.token + (upto - at)) {
            break;
        }
    }
    s.n = (upto < end ? upto : end) - at;
    return s;
}

/* Appends the document starts of slot i; MX_EFULL if they don't fit any reply. Every shard begins
 * with a document, so there is one where two stretches meet. */
static int add_starts(struct making *m, uint32_t i, struct mx_err *err)
{
    uint32_t at = m->f->token_first, end = at + m->tokens;
    size_t before = m->n_starts;

    while (at < end) {
        struct stretch s = stretch_from(m, i, at, end);
        size_t n;
        int rc = mx_shardset_starts(m->f->host->d->shards, s.shard, s.token, s.n,
                                    m->starts + m->n_starts, m->cap - m->n_starts, &n, err);

        if (rc < 0) {
            return rc;
        }
        if (n > m->cap - m->n_starts) {
            return MX_EFULL;
        }
        for (size_t j = 0; j < n; j++) {
            m->starts[m->n_starts + j] += s.at;
        }
        m->n_starts += n;
        at += s.n;
    }
    m->bounds[i] = (uint32_t)(m->n_starts - before);
    return 0;
}

/* How many whole slots fit; 0 if not even one does. */
static int gather_slots(struct making *m, struct mx_err *err)
{
    const struct mx_host *h = m->f->host;

    m->tokens = m->seq_len;
    for (uint32_t i = 0; i < m->n; i++) {
        size_t before = m->n_starts;
        int rc = add_starts(m, i, err);

        if (rc == 0) {
            mx_batch_layout(i + 1, (uint32_t)m->n_starts, m->tokens, h->width, m->weighted,
                            &m->at);
        }
        if (rc == MX_EFULL || (rc == 0 && m->at.bytes > MX_REPLY_MAX)) {
            m->n_starts = before;
            m->n = i;
            return 0;
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* The part of one slot, from token_first on, that fits. */
static int gather_part(struct making *m, struct mx_err *err)
{
    const struct mx_host *h = m->f->host;
    size_t room = MX_REPLY_MAX - MX_BATCH_FIXED_BYTES - 32;
    uint32_t left = m->seq_len - m->f->token_first;

    m->n = 1;
    m->tokens = room / h->width < left ? (uint32_t)(room / h->width) : left;
    for (;;) {
        int rc;

        m->n_starts = 0;
        rc = add_starts(m, 0, err);
        if (rc < 0 && rc != MX_EFULL) {
            return rc;
        }
        if (rc == 0) {
            mx_batch_layout(1, (uint32_t)m->n_starts, m->tokens, h->width, m->weighted, &m->at);
            if (m->at.bytes <= MX_REPLY_MAX) {
                return 0;
            }
        }
        m->tokens = m->tokens / 2 + 1; /* at worst one start for each token */
    }
}

static void write_tables(const struct making *m, uint8_t *p)
{
    const struct mx_fill *f = m->f;
    struct mx_batch_reply reply = {
        .step = f->step, .mix_version = f->work_version, .run = f->host->id,
        .slot_first = f->first, .slot_count = m->n, .token_first = f->token_first,
        .token_count = m->tokens, .width = f->host->width, .bound_count = (uint32_t)m->n_starts,
        .tokens_at = (uint32_t)m->at.tokens, .batch_size = m->batch, .seq_len = m->seq_len,
        .flags = m->weighted ? MX_BATCH_WEIGHTS : 0, .weights_at = (uint32_t)m->at.weights,
    };
    struct mx_writer w;

    mx_writer_init(&w, p, MX_BATCH_FIXED_BYTES);
    mx_frame_begin(&w, MX_MSG_BATCH | MX_REPLY_BIT, MX_STATUS_OK, 0);
    mx_batch_reply_encode(&w, &reply);
    MX_REQUIRE(!w.failed && mx_writer_len(&w) == MX_BATCH_FIXED_BYTES);
    mx_store_u32(p + 8, (uint32_t)(m->at.bytes - MX_HEADER_BYTES));
    for (uint32_t i = 0; i < m->n; i++) {
        mx_store_u64(p + m->at.samples + 8 * (size_t)i, m->items[i].sample);
        mx_store_u32(p + m->at.domains + 4 * (size_t)i, m->items[i].domain);
        mx_store_u32(p + m->at.epochs + 4 * (size_t)i, m->items[i].epoch);
        mx_store_u32(p + m->at.bounds + 4 * (size_t)i, m->bounds[i]);
        if (m->weighted) {
            mx_store_f32(p + m->at.weights + 4 * (size_t)i, m->weights[m->items[i].domain]);
        }
    }
    for (size_t i = 0; i < m->n_starts; i++) {
        mx_store_u32(p + m->at.starts + 4 * i, m->starts[i]);
    }
    memset(p + m->at.starts + 4 * m->n_starts, 0,
           m->at.tokens - m->at.starts - 4 * m->n_starts);
}

/* The tokens of slot i. */
static int read_slot(const struct making *m, uint32_t i, uint8_t *to, struct mx_err *err)
{
    struct mx_host *h = m->f->host;
    uint32_t at = m->f->token_first, end = at + m->tokens;

    while (at < end) {
        struct stretch s = stretch_from(m, i, at, end);
        int rc = mx_shardset_read(h->d->shards, s.shard, s.token, s.n, h->width, to, err);

        if (rc < 0) {
            return mx_wrap(err, "domain %s, sample %" PRIu64,
                           h->conf.domains[m->items[i].domain].name,
                           m->items[i].sample + at / (uint32_t)h->conf.unit);
        }
        to += (size_t)s.n * h->width;
        at += s.n;
    }
    return 0;
}

static int make_reply(struct making *m, struct mx_err *err)
{
    struct mx_fill *f = m->f;
    struct mx_host *h = f->host;
    uint8_t *p;

    f->reply = mx_reply_take(h->d->replies, m->at.bytes);
    if (f->reply == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for a reply of %zu bytes", m->at.bytes);
    }
    p = mx_reply_data(f->reply);
    write_tables(m, p);
    for (uint32_t i = 0; i < m->n; i++) {
        int rc = read_slot(m, i, p + m->at.tokens + (size_t)i * m->tokens * h->width, err);

        if (rc < 0) {
            mx_reply_free(f->reply);
            f->reply = NULL;
            return rc;
        }
    }
    return 0;
}

static int make(struct mx_fill *f, struct mx_err *err)
{
    struct mx_host *h = f->host;
    struct making m = {.f = f, .n = f->count, .weighted = mx_host_weighted(h),
                       .seq_len = mx_host_seq_len(h, f->step),
                       .batch = mx_plan_part_of(&h->plan, f->step).batch};
    size_t slot = (m.weighted ? 24u : 20u) + (size_t)m.seq_len * h->width;
    size_t fit = (MX_REPLY_MAX - MX_BATCH_FIXED_BYTES) / slot;
    int rc = 0;

    if (m.n > fit) {
        m.n = fit > 0 ? (uint32_t)fit : 1;
    }
    m.cap = (size_t)m.n * m.seq_len;
    m.cap = m.cap < MX_REPLY_MAX / 4 ? m.cap : MX_REPLY_MAX / 4;
    m.items = malloc(m.n * sizeof *m.items);
    m.bounds = malloc(m.n * sizeof *m.bounds);
    m.starts = malloc((m.cap + 1) * sizeof *m.starts);
    if (m.items == NULL || m.bounds == NULL || m.starts == NULL) {
        rc = mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " slots", m.n);
    }
    if (rc == 0 && m.weighted) {
        rc = loss_weights(f, &m.weights, err);
    }
    if (rc == 0) {
        mx_plan_items(&f->ground->plan, f->step, f->cursors, f->prefix, f->first, m.n, m.items);
        if (f->token_first == 0 && fit > 0) {
            rc = gather_slots(&m, err);
        } else {
            m.n = 0;
        }
    }
    if (rc == 0 && m.n == 0) {
        rc = gather_part(&m, err);
    }
    if (rc == 0) {
        mx_batch_layout(m.n, (uint32_t)m.n_starts, m.tokens, h->width, m.weighted, &m.at);
        rc = make_reply(&m, err);
    }
    free(m.items);
    free(m.bounds);
    free(m.starts);
    free(m.weights);
    return rc;
}

void mx_fill_work(struct mx_fill *f)
{
    int rc = f->cursors == NULL ? replay(f, &f->err) : 0;

    if (rc == 0) {
        rc = make(f, &f->err);
    }
    switch (rc) {
    case 0: f->status = MX_STATUS_OK; break;
    case MX_ENOMEM:
    case MX_EBUSY: f->status = MX_STATUS_BUSY; break;
    case MX_EGONE:
    case MX_ENOTFOUND: f->status = MX_STATUS_GONE; break;
    default: f->status = MX_STATUS_DAMAGED; break;
    }
}
