/* run.c - attaching to a run and taking its batches, in a row or by address.
 *
 * mxc_next keeps the next `inflight` steps being fetched, so that the daemon works while the
 * trainer does. A fetch that fails before anybody waits for it says nothing yet (the run may be
 * extended, a domain come back): it is made again when its step is the current one. A step that is
 * passed over moves mxc_next on to the step that the daemon names; it keeps what is fetched of that
 * one and later ones. */
#include "client/internal.h"

#include <inttypes.h>
#include <string.h>

/* ---- attaching ---- */

/* Names of a page into the run's table. */
static int take_names(struct mxc_run *r, uint32_t *count, struct mx_span names,
                      struct mxc_error *err)
{
    struct mx_reader in;
    uint32_t before = *count;

    mx_reader_init(&in, names.p, names.n);
    while (mx_reader_left(&in) > 0 && *count < r->name_count) {
        struct mx_span name = mx_read_str(&in, MX_NAME_MAX);

        if (in.failed || name.n == 0 || memchr(name.p, 0, name.n) != NULL) {
            return mxc_fail(err, MXC_PROTOCOL,
                            "ATTACH reply: name %" PRIu32 " is cut short, empty or too long",
                            *count);
        }
        r->names[*count] = strndup((const char *)name.p, name.n);
        if (r->names[*count] == NULL) {
            return mxc_fail(err, MXC_NOMEM, "no memory for the names of domains");
        }
        ++*count;
    }
    if (!mx_reader_done(&in) || (*count == before && *count < r->name_count)) {
        return mxc_fail(err, MXC_PROTOCOL,
                        "ATTACH reply: %" PRIu32 " names from name %" PRIu32 " on of %" PRIu32
                        ", then %zu bytes more",
                        *count - before, before, r->name_count, mx_reader_left(&in));
    }
    return 0;
}

/* The parts of the run. */
static int take_parts(struct mxc_run *r, const struct mx_attach_reply *m, struct mxc_error *err)
{
    r->parts = calloc(m->part_count, sizeof *r->parts);
    r->slots_per_reply = calloc(m->part_count, sizeof *r->slots_per_reply);
    if (r->parts == NULL || r->slots_per_reply == NULL) {
        return mxc_fail(err, MXC_NOMEM, "no memory for the parts of a run");
    }
    for (uint32_t i = 0; i < m->part_count; i++) {
        struct mx_part_entry e;

        mx_part_get(m->tables, i, &e);
        r->parts[i] = (struct mxc_part){e.from_step, e.batch_size, e.seq_len};
        r->slots_per_reply[i] = e.slots_per_reply > 0 ? e.slots_per_reply : 1;
    }
    r->info.parts = r->parts;
    r->info.n_parts = m->part_count;
    return 0;
}

/* From the present step on this rank has slots in every step. */
static int check_slots(const struct mxc_run *r, struct mxc_error *err)
{
    for (uint32_t i = 0; i < r->info.n_parts; i++) {
        const struct mxc_part *p = &r->parts[i];
        uint64_t end = i + 1 < r->info.n_parts ? p[1].from_step : UINT64_MAX;
        uint32_t first;

        if (end > r->step && p->from_step < r->info.end_step &&
            mxc_rank_slots(r, p->batch_size, &first) == 0) {
            return mxc_fail(err, MXC_INVALID,
                            "run %s: rank %" PRIu32 " of world %" PRIu32
                            " gets none of the %" PRIu32 " slots of a batch from step %" PRIu64
                            " on",
                            r->name, r->rank, r->world, p->batch_size, p->from_step);
        }
    }
    return 0;
}

/* The sizes of the evaluation sets, before the names; *names is what lies behind them. */
static int take_eval_sizes(struct mxc_run *r, const struct mx_attach_reply *m,
                           struct mx_span *names, struct mxc_error *err)
{
    uint64_t total = m->domain_count, members = 0;
    struct mx_reader in;

    mx_reader_init(&in, names->p, names->n);
    for (uint32_t i = 0; i < m->eval_set_count && i < MX_EVAL_SETS_MAX; i++) {
        r->eval_sizes[i] = mx_read_u32(&in);
        members += r->eval_sizes[i];
        total += 1 + (uint64_t)r->eval_sizes[i];
    }
    if (in.failed || m->eval_set_count > MX_EVAL_SETS_MAX || members > MX_EVAL_MEMBERS_MAX ||
        total != m->name_count) {
        return mxc_fail(err, MXC_PROTOCOL,
                        "ATTACH reply: %" PRIu32 " names of %" PRIu32 " domains and %" PRIu32
                        " eval sets with %" PRIu64 " members",
                        m->name_count, m->domain_count, m->eval_set_count, members);
    }
    r->n_eval_sets = m->eval_set_count;
    *names = mx_read_rest(&in);
    return 0;
}

/* What the names behind the domains' mean, once all are there. A run that has named no set has one:
 * its domains. */
static int make_eval_sets(struct mxc_run *r, struct mxc_error *err)
{
    const char *const *names = (const char *const *)r->names;
    uint32_t n = r->n_eval_sets > 0 ? r->n_eval_sets : 1, at = r->info.domain_count;

    r->eval_sets = calloc(n, sizeof *r->eval_sets);
    if (r->eval_sets == NULL) {
        return mxc_fail(err, MXC_NOMEM, "no memory for eval sets");
    }
    r->eval_sets[0] = (struct mxc_eval_set){"eval", r->info.domain_count, names};
    for (uint32_t i = 0; i < r->n_eval_sets; i++) {
        r->eval_sets[i] = (struct mxc_eval_set){names[at], r->eval_sizes[i], names + at + 1};
        at += 1 + r->eval_sizes[i];
    }
    r->info.domains = names;
    r->info.eval_set_count = n;
    r->info.eval_sets = r->eval_sets;
    return 0;
}

/* What the first page says of the run. */
static int take_info(struct mxc_run *r, const struct mx_attach_reply *m, struct mxc_error *err)
{
    struct mxc_part part;
    int rc;

    if ((m->width != 2 && m->width != 4) || m->domain_count == 0 ||
        m->domain_count > MX_DOMAINS_MAX) {
        return mxc_fail(err, MXC_PROTOCOL,
                        "ATTACH reply: tokens of %" PRIu32 " bytes from %" PRIu32
                        " domains are out of range",
                        m->width, m->domain_count);
    }
    rc = take_parts(r, m, err);
    if (rc < 0) {
        return rc;
    }
    part = mxc_part_of(r, r->step);
    r->id = m->run;
    r->info.batch_size = part.batch_size;
    r->info.seq_len = part.seq_len;
    r->info.width = m->width;
    r->info.eod = m->eod;
    r->info.end_step = m->end_step;
    r->info.frontier = m->frontier;
    r->info.domain_count = m->domain_count;
    rc = check_slots(r, err);
    if (rc < 0) {
        return rc;
    }
    r->names = calloc(m->name_count, sizeof *r->names);
    if (r->names == NULL) {
        return mxc_fail(err, MXC_NOMEM, "no memory for the names of domains");
    }
    r->name_count = m->name_count;
    return 0;
}

/* One page of names; the first also has the rest. */
static int attach_page(struct mxc_run *r, uint32_t *count, int64_t deadline, struct mxc_error *err)
{
    uint8_t body[64 + MX_NAME_MAX];
    struct mx_attach_reply m;
    struct mx_attach_request q = {.rank = r->rank,
                                  .world = r->world,
                                  .name_first = *count,
                                  .run = {(const uint8_t *)r->name, strlen(r->name)}};
    struct mx_writer w;
    struct mx_span reply, names = {NULL, 0};
    struct mxc_msg *msg;
    struct mx_err e;
    int rc;

    mx_writer_init(&w, body, sizeof body);
    mx_attach_request_encode(&w, &q);
    MX_REQUIRE(!w.failed);
    rc = mxc_exchange(r->client, &mxc_attach_ops, body, mx_writer_len(&w), deadline, &msg, &reply,
                      err);
    if (rc < 0) {
        return rc;
    }
    if (mx_attach_reply_decode(reply.p, reply.n, &m, &e) < 0 ||
        mx_parts_check(&m, &names, &e) < 0) {
        rc = mxc_fail_proto(err, &e);
    } else if (r->names != NULL && (m.run != r->id || m.domain_count != r->info.domain_count ||
                                    m.name_count != r->name_count)) {
        rc = mxc_fail(err, MXC_PROTOCOL,
                      "ATTACH reply: run %" PRIu32 " of %" PRIu32 " domains was run %" PRIu32
                      " of %" PRIu32 " before",
                      m.run, m.domain_count, r->id, r->info.domain_count);
    } else {
        rc = take_eval_sizes(r, &m, &names, err);
    }
    if (rc == 0 && r->names == NULL) {
        rc = take_info(r, &m, err);
    }
    if (rc == 0 && m.name_first != *count) {
        rc = mxc_fail(err, MXC_PROTOCOL,
                      "ATTACH reply: names from name %" PRIu32 " on, not from %" PRIu32,
                      m.name_first, *count);
    }
    rc = rc < 0 ? rc : take_names(r, count, names, err);
    mxc_msg_free(msg);
    return rc;
}

static void run_free(struct mxc_run *r)
{
    for (uint32_t i = 0; i < r->name_count; i++) {
        free(r->names[i]);
    }
    free(r->names);
    free(r->eval_sets);
    free(r->parts);
    free(r->slots_per_reply);
    free(r);
}

int mxc_attach(struct mxc_client *c, const char *run, uint32_t rank, uint32_t world,
               uint64_t start_step, struct mxc_run **ret, struct mxc_error *err)
{
    int64_t deadline = mxc_deadline(c);
    struct mxc_run *r;
    uint32_t count = 0;
    int rc = 0;

    if (run == NULL || run[0] == '\0' || strlen(run) > MX_NAME_MAX) {
        return mxc_fail(err, MXC_INVALID, "a run's name has 1 to %u bytes", MX_NAME_MAX);
    }
    if (world == 0 || world > MX_WORLD_MAX || rank >= world) {
        return mxc_fail(err, MXC_INVALID,
                        "rank %" PRIu32 " of world %" PRIu32
                        ": a world has 1 to %u ranks, counted from 0",
                        rank, world, MX_WORLD_MAX);
    }
    if (start_step > MX_STEP_MAX) {
        return mxc_fail(err, MXC_INVALID, "step %" PRIu64 " is beyond the last one possible",
                        start_step);
    }
    r = calloc(1, sizeof *r);
    if (r == NULL) {
        return mxc_fail(err, MXC_NOMEM, "no memory for a run");
    }
    r->client = c;
    r->rank = rank;
    r->world = world;
    r->step = start_step;
    (void)snprintf(r->name, sizeof r->name, "%s", run);
    r->info.name = r->name;
    do {
        rc = attach_page(r, &count, deadline, err);
    } while (rc == 0 && count < r->name_count);
    rc = rc < 0 ? rc : make_eval_sets(r, err);
    if (rc < 0) {
        run_free(r);
        return rc;
    }
    for (unsigned i = 0; i < MX_CLIENT_INFLIGHT_MAX; i++) {
        r->versions[i].step = UINT64_MAX;
    }
    r->next = c->runs;
    c->runs = r;
    *ret = r;
    return 0;
}

static void drop_ahead(struct mxc_run *r)
{
    for (unsigned i = 0; i < MX_CLIENT_INFLIGHT_MAX; i++) {
        mxc_fetch_free(r->ahead[i]);
        r->ahead[i] = NULL;
    }
}

void mxc_detach(struct mxc_run *r)
{
    struct mxc_run **at;

    if (r == NULL) {
        return;
    }
    for (at = &r->client->runs; *at != r; at = &(*at)->next) {
    }
    *at = r->next;
    drop_ahead(r);
    mxc_posts_detach(r);
    run_free(r);
}

const struct mxc_run_info *mxc_run_get_info(const struct mxc_run *r)
{
    return &r->info;
}

/* ---- parts ---- */

static uint32_t part_index(const struct mxc_run *r, uint64_t step)
{
    uint32_t i = r->info.n_parts - 1;

    while (i > 0 && r->parts[i].from_step > step) {
        i--;
    }
    return i;
}

struct mxc_part mxc_part_of(const struct mxc_run *r, uint64_t step)
{
    return r->parts[part_index(r, step)];
}

uint32_t mxc_slots_per_reply(const struct mxc_run *r, uint64_t step)
{
    return r->slots_per_reply[part_index(r, step)];
}

uint32_t mxc_rank_slots(const struct mxc_run *r, uint32_t batch_size, uint32_t *ret_first)
{
    *ret_first = (uint32_t)((uint64_t)r->rank * batch_size / r->world);
    return (uint32_t)(((uint64_t)r->rank + 1) * batch_size / r->world) - *ret_first;
}

/* ---- batches ---- */

static bool fetch_done(const void *arg)
{
    const struct mxc_fetch *f = arg;

    return f->state != MXC_FETCH_OPEN;
}

/* Says why a fetch didn't end in time: what the daemon put it off with, if it did. */
static int timed_out(const struct mxc_fetch *f, struct mxc_error *err)
{
    for (uint32_t i = 0; i < f->n_ranges; i++) {
        const struct mxc_job *job = &f->ranges[i].job;

        if (job->state != MXC_JOB_IDLE && job->put_off != MX_STATUS_OK) {
            return mxc_fail(err, job->put_off == MX_STATUS_BUSY ? MXC_BUSY : MXC_TIMEOUT,
                            "run %s step %" PRIu64 ": the daemon still says %s%s%s", f->run->name,
                            f->step, mx_status_name(job->put_off),
                            job->put_off_text[0] != '\0' ? ": " : "", job->put_off_text);
        }
    }
    if (err != NULL) {
        char text[sizeof err->text];

        (void)snprintf(text, sizeof text, "%s", err->text);
        return mxc_fail(err, MXC_TIMEOUT, "run %s step %" PRIu64 ": %.900s", f->run->name, f->step,
                        text);
    }
    return MXC_TIMEOUT;
}

/* Waits for a fetch that somebody needs now. The fetch stays the caller's. */
static int await(struct mxc_fetch *f, int64_t deadline, struct mxc_error *err)
{
    int rc;

    f->current = true;
    rc = mxc_block(f->run->client, fetch_done, f, deadline, err);
    if (rc == MXC_TIMEOUT) {
        return timed_out(f, err);
    }
    if (rc == 0 && f->state == MXC_FETCH_FAILED) {
        mxc_copy_error(err, &f->error);
        rc = f->error.code;
    }
    return rc;
}

/* Begins what is to be fetched ahead and isn't. False if there's no memory for the current step. */
static bool fill_ahead(struct mxc_run *r)
{
    uint32_t n = r->client->inflight, first, slots;

    for (uint64_t s = r->step; s < r->step + n && s < r->info.end_step && s <= MX_STEP_MAX; s++) {
        struct mxc_fetch **f = &r->ahead[s % n];

        /* That a step is passed over is as good as its batch; other failures ahead are asked for
         * again. */
        if (*f != NULL && (*f)->step == s &&
            !(s == r->step && (*f)->state == MXC_FETCH_FAILED && !(*f)->current &&
              (*f)->error.code != MXC_SKIPPED)) {
            continue;
        }
        mxc_fetch_free(*f);
        slots = mxc_rank_slots(r, mxc_part_of(r, s).batch_size, &first);
        *f = slots > 0 ? mxc_fetch_new(r, s, first, slots) : NULL;
    }
    return r->ahead[r->step % n] != NULL;
}

/* Where the fetch of the current step is, if there is one. */
static struct mxc_fetch **current(struct mxc_run *r)
{
    return &r->ahead[r->step % r->client->inflight];
}

/* Goes on at step `next`: what was fetched of the steps before is forgotten. */
static void pass_over(struct mxc_run *r, uint64_t next)
{
    for (unsigned i = 0; i < MX_CLIENT_INFLIGHT_MAX; i++) {
        if (r->ahead[i] != NULL && r->ahead[i]->step < next) {
            mxc_fetch_free(r->ahead[i]);
            r->ahead[i] = NULL;
        }
    }
    r->step = next;
    /* The oldest step in use is `next` now: told the one from before the gap, a daemon would wait
     * for the steps between to be finished, which never are. */
    r->started = false;
}

/* Waits for the batch of the current step, or of the first one that isn't passed over. If one gap
 * follows the other without end, then what is asked for after the deadline isn't there in time. */
static int await_next(struct mxc_run *r, int64_t deadline, bool *ret_ready, struct mxc_error *err)
{
    *ret_ready = true;
    for (;;) {
        int rc;

        if (r->step >= r->info.end_step || r->step > MX_STEP_MAX) {
            return mxc_fail(err, MXC_END, "run %s ends before step %" PRIu64, r->name, r->step);
        }
        rc = check_slots(r, err); /* mxc_seek may have gone to a part of smaller batches */
        if (rc < 0) {
            return rc;
        }
        if (!fill_ahead(r)) {
            return mxc_fail(err, MXC_NOMEM, "no memory for a batch");
        }
        *ret_ready = *ret_ready && (*current(r))->state != MXC_FETCH_OPEN;
        rc = await(*current(r), deadline, err);
        if (rc != MXC_SKIPPED) {
            return rc;
        }
        pass_over(r, (*current(r))->skipped_to);
    }
}

int mxc_next(struct mxc_run *r, struct mxc_batch **ret, struct mxc_error *err)
{
    int64_t began = mxc_now_ns();
    struct mxc_fetch **f;
    bool ready;
    int rc;

    (void)mxc_pump(r->client, began);
    rc = await_next(r, mxc_deadline(r->client), &ready, err);
    f = current(r);
    r->wait.wait_ns += (uint64_t)(mxc_now_ns() - began);
    if (rc < 0) {
        if (*f != NULL && (*f)->state == MXC_FETCH_FAILED) {
            mxc_fetch_free(*f);
            *f = NULL;
        }
        return rc;
    }
    *ret = mxc_fetch_take(*f);
    *f = NULL;
    r->wait.batches++;
    r->wait.ready += ready;
    r->started = true;
    r->returned = r->step;
    r->versions[r->step % MX_CLIENT_INFLIGHT_MAX].step = r->step;
    r->versions[r->step % MX_CLIENT_INFLIGHT_MAX].version = (*ret)->mix_version;
    r->step++;
    if (r->step < r->info.end_step) {
        (void)fill_ahead(r); /* without memory the next call says so */
    }
    (void)mxc_pump(r->client, mxc_now_ns());
    return 0;
}

int mxc_slots_at(struct mxc_run *r, uint64_t step, uint32_t first_slot, uint32_t slots,
                 struct mxc_batch **ret, struct mxc_error *err)
{
    int64_t deadline = mxc_deadline(r->client);
    uint32_t batch = mxc_part_of(r, step).batch_size;
    struct mxc_fetch *f;
    int rc;

    if (slots == 0 || first_slot >= batch || slots > batch - first_slot) {
        return mxc_fail(err, MXC_INVALID,
                        "run %s step %" PRIu64 ": slots %" PRIu32 "+%" PRIu32
                        " of a batch that has %" PRIu32,
                        r->name, step, first_slot, slots, batch);
    }
    if (step > MX_STEP_MAX) {
        return mxc_fail(err, MXC_INVALID, "step %" PRIu64 " is beyond the last one possible", step);
    }
    f = mxc_fetch_new(r, step, first_slot, slots);
    if (f == NULL) {
        return mxc_fail(err, MXC_NOMEM, "no memory for a batch");
    }
    r->client->direct = f;
    rc = await(f, deadline, err);
    r->client->direct = NULL;
    if (rc < 0) {
        mxc_fetch_free(f);
        return rc;
    }
    *ret = mxc_fetch_take(f);
    return 0;
}

int mxc_batch_at(struct mxc_run *r, uint64_t step, struct mxc_batch **ret, struct mxc_error *err)
{
    uint32_t first, slots = mxc_rank_slots(r, mxc_part_of(r, step).batch_size, &first);

    return mxc_slots_at(r, step, first, slots, ret, err);
}

void mxc_seek(struct mxc_run *r, uint64_t step)
{
    drop_ahead(r);
    r->step = step;
    r->started = false;
}

void mxc_get_wait_stats(struct mxc_run *r, struct mxc_wait_stats *ret)
{
    struct mxc_net_state net;

    mxc_net_look(r->client->net, &net);
    *ret = r->wait;
    ret->reconnects = net.epoch > 0 ? net.epoch - 1 : 0;
}
