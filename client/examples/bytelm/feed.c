/* feed.c - see feed.h. */
#include "client/examples/bytelm/feed.h"

#include "client/examples/bytelm/window.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Each call of the library ends after this, so that a signal is noticed soon. */
#define CALL_MS 1000
#define CONNECT_NS ((uint64_t)10 * 1000000000)
#define SAY_NS ((uint64_t)10 * 1000000000)
#define FLUSH_NS ((uint64_t)30 * 1000000000)

bool bl_stop_asked(void)
{
    const struct timespec now = {0, 0};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    return sigtimedwait(&set, NULL, &now) > 0;
}

uint64_t bl_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What may be over after a while; everything else is final. */
static bool passing(int code)
{
    return code == MXC_TIMEOUT || code == MXC_UNREACHABLE || code == MXC_BUSY;
}

static int connect_and_attach(struct bl_feed *f, const struct bl_options *o, uint64_t next_step)
{
    const struct mxc_options options = {.timeout_ms = CALL_MS, .inflight = o->inflight};
    const uint64_t until = bl_now_ns() + CONNECT_NS;
    struct mxc_error err = {0, ""};
    int code;

    do {
        code = mxc_open(o->url, &options, &f->client, &err);
    } while (passing(code) && bl_now_ns() < until && !bl_stop_asked());
    if (code < 0) {
        fprintf(stderr, "bytelm: %s: %s\n", o->url, err.text);
        return -1;
    }
    do {
        code = mxc_attach(f->client, o->run, o->rank, o->world, next_step, &f->run, &err);
    } while (passing(code) && bl_now_ns() < until && !bl_stop_asked());
    if (code < 0) {
        fprintf(stderr, "bytelm: run %s: %s\n", o->run, err.text);
        mxc_close(f->client);
        return -1;
    }
    return 0;
}

/* Room for the largest batches of any part of the run. */
static int make_room(struct bl_feed *f, const struct bl_options *o, uint32_t context)
{
    const struct mxc_run_info *info = f->info;
    size_t tokens = 0;

    for (uint32_t i = 0; i < info->n_parts; i++) {
        const struct mxc_part *p = &info->parts[i];
        uint32_t slots = p->batch_size / o->world + 1;

        f->slots_max = slots > f->slots_max ? slots : f->slots_max;
        tokens = (size_t)slots * p->seq_len > tokens ? (size_t)slots * p->seq_len : tokens;
    }
    f->losses = calloc(info->domain_count, sizeof *f->losses);
    f->evals = calloc(f->set->member_count, sizeof *f->evals);
    f->contexts = calloc(tokens * context, sizeof *f->contexts);
    f->targets = calloc(tokens, sizeof *f->targets);
    f->values = calloc(tokens, sizeof *f->values);
    f->counts = calloc(f->slots_max, sizeof *f->counts);
    if (f->losses == NULL || f->evals == NULL || f->contexts == NULL || f->targets == NULL ||
        f->values == NULL || f->counts == NULL) {
        fprintf(stderr, "bytelm: out of memory for batches of %u samples\n", f->slots_max);
        return -1;
    }
    return 0;
}

/* The set that evaluations are posted as: the one asked for, or the run's first. */
static int choose_set(struct bl_feed *f, const struct bl_options *o)
{
    const struct mxc_run_info *info = f->info;

    for (uint32_t i = 0; i < info->eval_set_count; i++) {
        f->set = &info->eval_sets[i];
        if (o->eval_set == NULL || strcmp(f->set->name, o->eval_set) == 0)
            return 0;
    }
    fprintf(stderr, "bytelm: run %s has no eval set %s\n", o->run,
            o->eval_set != NULL ? o->eval_set : "at all");
    return -1;
}

int bl_feed_open(struct bl_feed *f, const struct bl_options *o, uint64_t next_step,
                 uint32_t context)
{
    memset(f, 0, sizeof *f);
    if (connect_and_attach(f, o, next_step) < 0)
        return BL_FEED_FAILED;
    f->info = mxc_run_get_info(f->run);
    if (choose_set(f, o) < 0 || make_room(f, o, context) < 0) {
        bl_feed_close(f);
        return BL_FEED_FAILED;
    }
    return BL_FEED_OK;
}

void bl_feed_close(struct bl_feed *f)
{
    mxc_close(f->client);
    free(f->losses);
    free(f->evals);
    free(f->contexts);
    free(f->targets);
    free(f->values);
    free(f->counts);
    memset(f, 0, sizeof *f);
}

int bl_feed_next(struct bl_feed *f, const struct bl_options *o, struct mxc_batch **ret)
{
    const uint64_t begin = bl_now_ns();
    uint64_t said = begin;

    for (;;) {
        struct mxc_error err = {0, ""};
        int code = mxc_next(f->run, ret, &err);
        uint64_t now;

        if (code == 0)
            return BL_FEED_OK;
        if (code == MXC_END)
            return BL_FEED_OVER;
        if (code == MXC_EXHAUSTED) {
            fprintf(stderr, "bytelm: run %s: %s\n", o->run, err.text);
            return BL_FEED_OVER;
        }
        now = bl_now_ns();
        if (!passing(code) || (double)(now - begin) * 1e-9 > o->patience_s) {
            fprintf(stderr, "bytelm: run %s: %s\n", o->run, err.text);
            return BL_FEED_FAILED;
        }
        if (bl_stop_asked())
            return BL_FEED_STOPPED;
        if (now - said > SAY_NS) {
            fprintf(stderr, "bytelm: waiting for data since %.0f s: %s\n",
                    (double)(now - begin) * 1e-9, err.text);
            said = now;
        }
    }
}

int bl_feed_windows(struct bl_feed *f, const struct bl_options *o, const struct mxc_batch *b,
                    uint64_t seed, uint32_t context, size_t *ret_n)
{
    const struct mxc_part part = mxc_part_of(f->run, b->step);
    size_t n = 0;

    if (b->slots > part.batch_size / o->world + 1 || b->seq_len != part.seq_len) {
        fprintf(stderr, "bytelm: step %llu: a batch of another shape than the run's\n",
                (unsigned long long)b->step);
        return -1;
    }
    if (b->weights != NULL) {
        fprintf(stderr, "bytelm: run %s: its policy weighs the loss, which bytelm can't do\n",
                o->run);
        return -1;
    }
    for (uint32_t i = 0; i < b->slots; i++) {
        const struct bl_sample s = {
            .tokens = (const char *)b->tokens + (size_t)i * b->seq_len * b->width,
            .width = b->width,
            .n = b->seq_len,
            .starts = b->starts + b->start_index[i],
            .n_starts = b->start_index[i + 1] - b->start_index[i],
        };
        /* Where the stride begins changes from sample to sample, so that all positions get their
         * turn; from the seed and the slot alone, so that a resumed training repeats it. */
        uint32_t first = (uint32_t)(bl_random(seed, b->step + 1000, b->first_slot + i) % o->stride);
        uint32_t bad = 0;
        size_t k = 0;

        if (bl_window(&s, context, first, o->stride, f->contexts + n * context, f->targets + n, &k,
                      &bad) < 0) {
            fprintf(stderr,
                    "bytelm: step %llu, slot %u, token %u: neither a byte nor the end of a "
                    "document; is domain %s text ingested with the bytes tokenizer?\n",
                    (unsigned long long)b->step, b->first_slot + i, bad,
                    f->info->domains[b->domains[i]]);
            return -1;
        }
        f->counts[i] = (uint32_t)k;
        n += k;
    }
    *ret_n = n;
    return 0;
}

/* f->losses by domain, of those seen; adds them to the report. Returns how many. */
static size_t sum_by_domain(struct bl_feed *f, const struct mxc_batch *b, struct bl_report *r)
{
    size_t n = 0, at = 0;

    memset(f->losses, 0, f->info->domain_count * sizeof *f->losses);
    for (uint32_t i = 0; i < b->slots; i++) {
        struct mxc_loss *l = &f->losses[b->domains[i]];

        for (uint32_t j = 0; j < f->counts[i]; j++)
            l->loss_sum += (double)f->values[at++];
        l->tokens += f->counts[i];
        l->samples++;
    }
    for (uint32_t d = 0; d < f->info->domain_count; d++) {
        struct mxc_loss l = f->losses[d];

        r->sums[d].loss += l.loss_sum;
        r->sums[d].tokens += l.tokens;
        r->sums[d].slots += l.samples;
        if (l.tokens == 0)
            continue;
        l.domain = d;
        f->losses[n++] = l;
    }
    return n;
}

/* f->evals: the scores of those domains that the set has as members. Returns how many. */
static size_t evals_of(struct bl_feed *f, const struct bl_score *scores)
{
    size_t n = 0;

    for (uint32_t m = 0; m < f->set->member_count; m++)
        for (uint32_t d = 0; d < f->info->domain_count; d++)
            if (scores[d].tokens > 0 && strcmp(f->set->members[m], f->info->domains[d]) == 0)
                f->evals[n++] = (struct mxc_eval_loss){
                    .set = (uint32_t)(f->set - f->info->eval_sets),
                    .member = m,
                    .tokens = scores[d].tokens,
                    .loss_sum = scores[d].loss_sum,
                };
    return n;
}

int bl_feed_post(struct bl_feed *f, const struct mxc_batch *b, struct bl_report *r,
                 const struct bl_score *scores)
{
    const struct mxc_report report = {
        .losses = f->losses,
        .n_losses = sum_by_domain(f, b, r),
        .evals = f->evals,
        .n_evals = scores != NULL ? evals_of(f, scores) : 0,
    };
    struct mxc_error err = {0, ""};
    int code = report.n_losses + report.n_evals == 0
                   ? 0
                   : mxc_report_post(f->run, b->step, &report, &err);

    if (code == MXC_BUSY) { /* many posts under way: wait for them, then once more */
        code = mxc_flush(f->run, &err);
        if (code == 0 || code == MXC_INVALID)
            code = mxc_report_post(f->run, b->step, &report, &err);
    }
    if (code < 0)
        fprintf(stderr, "bytelm: the losses of step %llu weren't posted: %s\n",
                (unsigned long long)b->step, err.text);
    return code;
}

int bl_feed_flush(struct bl_feed *f, const struct bl_options *o)
{
    const uint64_t begin = bl_now_ns();
    struct mxc_error err = {0, ""};
    int code;

    do {
        code = mxc_flush(f->run, &err);
    } while (passing(code) && bl_now_ns() - begin < FLUSH_NS && !bl_stop_asked());
    if (code < 0)
        fprintf(stderr, "bytelm: losses posted to run %s: %s\n", o->run, err.text);
    return code;
}
