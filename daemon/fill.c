/* fill.c - the table of fills and its life on the loop. What a filler thread does is in
 * fill_work.c. See fill.h. */
#include "daemon/fill.h"

#include "daemon/fill_work.h"
#include "daemon/log.h"

#include <string.h>

#define BUCKETS 4096u
#define SPECULATIVE_MAX 64u
/* The deepest that a run fills ahead by itself: deeper only pushes batches out of the caches. */
#define DEEPEST 16u
#define EXPIRE_NS (60ull * 1000000000ull)
/* Fills in progress over which parked requests stay parked: more would not be faster. */
#define BUSY_FILLS 32u

/* Fills that one thread makes one after the other. */
struct mx_chain {
    uv_work_t work;
    struct mx_fill *first;
};

struct mx_fills {
    struct mx_fill *buckets[BUCKETS];
    struct mx_fill *oldest, *newest; /* ready ones, in order of time */
    struct mx_fills_stats stats;
    uint32_t speculative;            /* filling with nobody waiting */
    struct mx_req *parked, **parked_tail; /* until peers have read what they were sent */
    uint32_t n_parked;
    struct mx_fill *started[2];      /* in this turn of the loop: waited for, speculative */
    uint32_t n_started[2];
    uv_prepare_t turn;
};

static uint32_t bucket_of(const struct mx_host *h, uint64_t step, uint32_t first)
{
    uint64_t x = (step * 0x9e3779b97f4a7c15u) ^ ((uint64_t)first << 20) ^ h->id;

    x ^= x >> 31;
    x *= 0xbf58476d1ce4e5b9u;
    return (uint32_t)(x >> 40) % BUCKETS;
}

static struct mx_fill *find(struct mx_host *h, uint64_t step, uint32_t first, uint32_t count,
                            uint32_t token_first)
{
    struct mx_fill *f = h->d->fills->buckets[bucket_of(h, step, first)];

    while (f != NULL && !(f->host == h && f->step == step && f->first == first &&
                          f->count == count && f->token_first == token_first)) {
        f = f->next_in_bucket;
    }
    return f;
}

static void unlink_ready(struct mx_fills *t, struct mx_fill *f)
{
    if (f->older != NULL) {
        f->older->newer = f->newer;
    } else {
        t->oldest = f->newer;
    }
    if (f->newer != NULL) {
        f->newer->older = f->older;
    } else {
        t->newest = f->older;
    }
    t->stats.ready--;
    t->stats.ready_bytes -= mx_reply_size(f->reply);
}

static void link_ready(struct mx_fills *t, struct mx_fill *f)
{
    f->older = t->newest;
    f->newer = NULL;
    if (t->newest != NULL) {
        t->newest->newer = f;
    } else {
        t->oldest = f;
    }
    t->newest = f;
    t->stats.ready++;
    t->stats.ready_bytes += mx_reply_size(f->reply);
}

/* Out of the table and freed; the reply too if it is still there. */
static void remove_fill(struct mx_fills *t, struct mx_fill *f)
{
    struct mx_fill **at = &t->buckets[bucket_of(f->host, f->step, f->first)];

    while (*at != f) {
        at = &(*at)->next_in_bucket;
    }
    *at = f->next_in_bucket;
    if (f->state == MX_FILL_READY) {
        unlink_ready(t, f);
    }
    mx_reply_free(f->reply);
    mx_fill_free(f);
}

/* Whether trainers are asked to evaluate after a step, as of now. */
static bool eval_wanted(struct mx_host *h, uint64_t step)
{
    uint64_t steps[64];
    uint32_t n = mx_run_requests(h->core, steps, 64);

    while (n > 0 && steps[n - 1] != step) {
        n--;
    }
    return n > 0;
}

static void send_batch(struct mx_host *h, struct mx_req *req, struct mx_reply *reply)
{
    struct mx_daemon *d = h->d;
    uint8_t *p = mx_reply_data(reply);
    uint32_t flags = mx_load_u32(p + MX_BATCH_FLAGS_AT) & ~MX_BATCH_EVAL_WANTED;
    uint64_t us = (uv_hrtime() - req->since_ns) / 1000;
    unsigned bucket = us == 0 ? 0 : 64 - (unsigned)__builtin_clzll(us);

    mx_store_u64(p + 16, req->id);
    if (eval_wanted(h, mx_load_u64(p + MX_HEADER_BYTES))) {
        flags |= MX_BATCH_EVAL_WANTED;
    }
    mx_store_u32(p + MX_BATCH_FLAGS_AT, flags);
    h->batches++;
    h->samples += mx_load_u32(p + MX_HEADER_BYTES + 24);
    h->bytes += mx_reply_size(reply);
    h->statuses[MX_STATUS_OK]++;
    d->statuses[MX_STATUS_OK]++;
    d->latency[bucket < 32 ? bucket : 31]++;
    d->latency_sum_us += us;
    mx_net_send(d->net, req, reply);
}

static struct mx_fill *start(struct mx_host *h, uint64_t step, uint32_t first, uint32_t count,
                             uint32_t token_first, bool speculative)
{
    struct mx_fills *t = h->d->fills;
    struct mx_step at;
    enum mx_step_found found = mx_run_step(h->core, step, speculative, &at);
    struct mx_fill *f;
    uint32_t b = bucket_of(h, step, first);

    if (found == MX_STEP_UNKNOWN || (found == MX_STEP_OLD && speculative)) {
        return NULL;
    }
    f = mx_fill_new(h, step, first, count, token_first, found == MX_STEP_HERE ? &at : NULL);
    if (f == NULL) {
        return NULL;
    }
    f->speculative = speculative;
    f->next_in_bucket = t->buckets[b];
    t->buckets[b] = f;
    t->stats.filling++;
    t->speculative += speculative;
    f->next_in_chain = t->started[speculative];
    t->started[speculative] = f;
    t->n_started[speculative]++;
    return f;
}

/* A trainer that keeps many batches in flight needs more than the setting says. */
static void deeper(struct mx_host *h)
{
    uint64_t ahead = h->d->config.fill_ahead;

    if (ahead > 0) {
        h->ahead = h->ahead > ahead ? h->ahead + 1 : ahead + 1;
        h->ahead = h->ahead < DEEPEST ? h->ahead : DEEPEST;
    }
}

/* What whoever asks for these slots of a step will ask for in another one, whose batch may be of
 * another size: the first slots of its rank, if these are that. False if it can't be told. */
static bool same_slots(const struct mx_host *h, const struct mx_batch_request *m, uint64_t step,
                       uint32_t *ret_first, uint32_t *ret_count)
{
    uint64_t batch = mx_plan_part_of(&h->plan, m->step).batch;
    uint64_t other = mx_plan_part_of(&h->plan, step).batch, first, end;
    uint32_t most = mx_host_slots_per_reply(h, step);

    *ret_first = m->slot_first;
    *ret_count = m->slot_count;
    if (batch == other && mx_host_seq_len(h, m->step) == mx_host_seq_len(h, step)) {
        return true;
    }
    if (m->token_first > 0 || m->slot_first != m->rank * batch / m->world) {
        return false;
    }
    first = m->rank * other / m->world;
    end = (m->rank + (uint64_t)1) * other / m->world;
    *ret_first = (uint32_t)first;
    *ret_count = (uint32_t)(end - first < most ? end - first : most);
    return end > first;
}

/* Starts the fills of the same slots in the steps that will be asked for next. */
static void fill_ahead(struct mx_host *h, const struct mx_batch_request *m)
{
    struct mx_fills *t = h->d->fills;
    uint64_t limit = h->d->config.ready_mib << 20;
    uint64_t setting = h->d->config.fill_ahead;
    uint64_t ahead = setting > 0 && h->ahead > setting ? h->ahead : setting;

    for (uint64_t s = m->step + 1; s <= m->step + ahead; s++) {
        uint32_t first, count;

        if (t->speculative >= SPECULATIVE_MAX || t->stats.ready_bytes >= limit ||
            !same_slots(h, m, s, &first, &count)) {
            return;
        }
        if (find(h, s, first, count, m->token_first) == NULL &&
            start(h, s, first, count, m->token_first, true) == NULL) {
            return; /* not planned: under a mix that isn't durable, or beyond the end */
        }
    }
}

static void park(struct mx_fills *t, struct mx_req *req)
{
    req->next = NULL;
    *t->parked_tail = req;
    t->parked_tail = &req->next;
    t->n_parked++;
}

static void submit(struct mx_daemon *d, int speculative);

/* Runs once each turn of the loop: peers may have read, and fills have been started. */
static void turn_cb(uv_prepare_t *p)
{
    struct mx_daemon *d = p->data;
    struct mx_fills *t = d->fills;
    uint32_t n = t->n_parked;

    while (n-- > 0 && mx_net_has_room(d->net) && t->stats.filling - t->speculative < BUSY_FILLS) {
        struct mx_req *req = t->parked;

        t->parked = req->next;
        if (t->parked == NULL) {
            t->parked_tail = &t->parked;
        }
        t->n_parked--;
        mx_serve_again(d, req);
    }
    submit(d, 0);
    submit(d, 1);
}

void mx_fills_serve(struct mx_host *h, struct mx_req *req, const struct mx_batch_request *m)
{
    struct mx_fills *t = h->d->fills;
    struct mx_fill *f = find(h, m->step, m->slot_first, m->slot_count, m->token_first);

    if (!mx_net_has_room(h->d->net)) {
        park(t, req);
        return;
    }
    if (f != NULL && f->state == MX_FILL_READY) {
        struct mx_reply *reply = f->reply;
        unlink_ready(t, f);
        f->state = MX_FILL_TAKEN;
        f->reply = NULL;
        h->hits++;
        send_batch(h, req, reply);
        remove_fill(t, f);
    } else {
        if (f == NULL || f->stale) {
            f = start(h, m->step, m->slot_first, m->slot_count, m->token_first, false);
        }
        if (f == NULL) {
            mx_serve_refuse(h->d, h, req, MX_STATUS_BUSY, 100, "no memory for a batch just now");
            return;
        }
        h->misses++;
        if (f->speculative || f->waiters != NULL) {
            deeper(h); /* it was on its way, but not early enough */
        }
        if (f->speculative) {
            f->speculative = false;
            t->speculative--;
        }
        req->next = f->waiters;
        f->waiters = req;
    }
    fill_ahead(h, m);
}

/* Takes f->reply if the last of them gets it. */
static void give_to_waiters(struct mx_fill *f)
{
    struct mx_daemon *d = f->host->d;
    struct mx_req *req = f->waiters;

    f->waiters = NULL;
    while (req != NULL) {
        struct mx_req *next = req->next;
        struct mx_reply *reply;

        if (f->status != MX_STATUS_OK) {
            mx_serve_refuse(d, f->host, req, f->status, f->status == MX_STATUS_BUSY ? 100 : 0,
                            "%s", f->err.text);
        } else if (!mx_net_has_room(d->net)) {
            park(d->fills, req);
        } else if (next == NULL) {
            reply = f->reply;
            f->reply = NULL;
            send_batch(f->host, req, reply);
        } else if ((reply = mx_reply_copy(f->reply)) != NULL) {
            send_batch(f->host, req, reply);
        } else {
            mx_serve_refuse(d, f->host, req, MX_STATUS_BUSY, 100, "no memory for a reply");
        }
        req = next;
    }
}

static void fill_done(struct mx_fill *f)
{
    struct mx_host *h = f->host;
    struct mx_fills *t = h->d->fills;
    bool wanted;

    t->stats.filling--;
    t->stats.filled++;
    t->speculative -= f->speculative;
    f->speculative = false;
    if (f->status != MX_STATUS_OK && f->status != MX_STATUS_BUSY) {
        mx_log(MX_LOG_ERROR, "fill.failed", "run=%s step=%llu error=\"%s\"", h->conf.name,
               (unsigned long long)f->step, f->err.text);
    }
    if (f->stale) {
        struct mx_req *req = f->waiters;
        uint64_t step = f->step;
        uint32_t first = f->first, count = f->count, token_first = f->token_first;

        f->waiters = NULL;
        f->state = MX_FILL_TAKEN;
        remove_fill(t, f);
        if (req == NULL && find(h, step, first, count, token_first) == NULL) {
            (void)start(h, step, first, count, token_first, true);
        }
        while (req != NULL) {
            struct mx_req *next = req->next;
            mx_serve_again(h->d, req);
            req = next;
        }
        return;
    }
    if (f->status == MX_STATUS_OK && f->mix_version != 0) {
        /* A new mix may have left the step as it was while the thread worked (see redo). */
        mx_store_u64(mx_reply_data(f->reply) + MX_BATCH_VERSION_AT, f->mix_version);
    }
    f->state = MX_FILL_TAKEN;
    wanted = f->waiters != NULL;
    give_to_waiters(f);
    if (f->reply == NULL || (wanted && t->stats.ready_bytes >= h->d->config.ready_mib << 20)) {
        remove_fill(t, f);
    } else {
        f->state = MX_FILL_READY;
        f->ready_ns = uv_hrtime();
        link_ready(t, f);
    }
}

static void chain_work(uv_work_t *work)
{
    struct mx_chain *c = work->data;

    for (struct mx_fill *f = c->first; f != NULL; f = f->next_in_chain) {
        mx_fill_work(f);
    }
}

static void chain_done(uv_work_t *work, int status)
{
    struct mx_chain *c = work->data;
    struct mx_fill *f = c->first;

    MX_REQUIRE(status == 0); /* nobody cancels work */
    free(c);
    while (f != NULL) {
        struct mx_fill *next = f->next_in_chain; /* fill_done frees it */
        fill_done(f);
        f = next;
    }
}

/* Gives the fills of one kind to the fillers, a chain for each: waking a thread costs as much as
 * half a fill, and requests come in bursts. */
static void submit(struct mx_daemon *d, int speculative)
{
    struct mx_fills *t = d->fills;
    uint32_t chains = t->n_started[speculative];

    chains = chains < d->config.fillers ? chains : (uint32_t)d->config.fillers;
    for (; chains > 0; chains--) {
        struct mx_chain *c = malloc(sizeof *c);
        uint32_t n = (t->n_started[speculative] + chains - 1) / chains;

        if (c == NULL) {
            return; /* the next turn tries again */
        }
        c->work.data = c;
        c->first = NULL;
        t->n_started[speculative] -= n;
        for (; n > 0; n--) {
            struct mx_fill *f = t->started[speculative];
            t->started[speculative] = f->next_in_chain;
            f->next_in_chain = c->first;
            c->first = f;
        }
        MX_REQUIRE(uv_queue_work(&d->loop, &c->work, chain_work, chain_done) == 0);
    }
}

/* Whether the step's plan is, under the new mix, what the fill is made from. One that is replayed
 * (version 0) may have its thread still at it. */
static bool same_plan(const struct mx_fill *f, const struct mx_step *at)
{
    uint32_t k = f->host->conf.k;

    return f->mix_version != 0 && f->ground == f->host->ground &&
           (f->mix_version == at->mix_version || !mx_host_weighted(f->host)) &&
           memcmp(f->cursors, at->cursors, k * sizeof *f->cursors) == 0 &&
           memcmp(f->prefix, at->prefix, (k + 1) * sizeof *f->prefix) == 0;
}

/* Makes a fill right under the mixes now known; at: what its step holds now, or NULL. */
static void redo(struct mx_host *h, struct mx_fill *f, const struct mx_step *at)
{
    struct mx_fills *t = h->d->fills;
    uint64_t step = f->step;
    uint32_t first = f->first, count = f->count, token_first = f->token_first;

    if (at != NULL && same_plan(f, at)) {
        t->stats.kept++;
        f->mix_version = at->mix_version;
        if (f->state == MX_FILL_READY) {
            mx_store_u64(mx_reply_data(f->reply) + MX_BATCH_VERSION_AT, f->mix_version);
        }
        return;
    }
    t->stats.dropped++;
    if (f->state == MX_FILL_FILLING) {
        f->stale = true; /* made again when its thread is done */
        return;
    }
    remove_fill(t, f);
    (void)start(h, step, first, count, token_first, true);
}

/* Up to n fills of steps >= step that were made under another mix than the step has now, or behind
 * one (then it begins elsewhere in its domains), or before a change of the domains. */
static uint32_t find_outdated(struct mx_host *h, uint64_t step, struct mx_fill **ret, uint32_t n)
{
    struct mx_step at;
    uint32_t found = 0;

    for (uint32_t b = 0; b < BUCKETS; b++) {
        struct mx_fill *f = h->d->fills->buckets[b];
        for (; f != NULL && found < n; f = f->next_in_bucket) {
            if (f->host == h && f->step >= step && !f->stale &&
                (mx_run_step(h->core, f->step, 1, &at) != MX_STEP_HERE ||
                 at.mix_version != f->mix_version || !same_plan(f, &at))) {
                ret[found++] = f;
            }
        }
    }
    return found;
}

void mx_fills_drop(struct mx_host *h, uint64_t step)
{
    struct mx_fill *outdated[256];
    struct mx_step at;
    uint32_t n;

    /* Collected first, since redoing one changes the buckets; each round leaves fewer. */
    while ((n = find_outdated(h, step, outdated, 256)) > 0) {
        for (uint32_t i = 0; i < n; i++) {
            bool here = mx_run_step(h->core, outdated[i]->step, 1, &at) == MX_STEP_HERE;
            redo(h, outdated[i], here ? &at : NULL);
        }
    }
}

void mx_fills_sweep(struct mx_daemon *d, uint64_t now_ns)
{
    struct mx_fills *t = d->fills;

    while (t->oldest != NULL && (now_ns - t->oldest->ready_ns > EXPIRE_NS ||
                                 t->stats.ready_bytes > d->config.ready_mib << 20)) {
        struct mx_fill *f = t->oldest;
        t->stats.expired++;
        remove_fill(t, f);
    }
}

void mx_fills_get_stats(const struct mx_daemon *d, struct mx_fills_stats *ret)
{
    *ret = d->fills->stats;
}

int mx_fills_new(struct mx_daemon *d, struct mx_fills **ret, struct mx_err *err)
{
    struct mx_fills *t = calloc(1, sizeof *t);

    if (t == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for the table of fills");
    }
    t->parked_tail = &t->parked;
    t->turn.data = d;
    if (uv_prepare_init(&d->loop, &t->turn) != 0 ||
        uv_prepare_start(&t->turn, turn_cb) != 0) {
        free(t);
        return mx_fail(err, MX_EIO, "the fills can't hook into the loop");
    }
    *ret = t;
    return 0;
}
