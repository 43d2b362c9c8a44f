/* ops_log.c - the journal as operators read it: entries as JSON, in pages, and waiting for more.
 * See ops.c. Reads the journal on a task's thread; the run isn't asked. */
#include "daemon/entry.h"
#include "daemon/ops.h"
#include "daemon/why.h"
#include "store/catalog.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#define WAIT_MAX_MS 30000u
/* Domains that an entry is written with: one of more is told without them. */
#define LISTED_MAX 500u
/* Likewise in each shadow's mix. */
#define SHADOWED_MAX 64u
/* Values of a part of a report, beside its losses. */
#define PART_LISTED_MAX 100u

struct source {
    uint32_t id;
    char name[MX_NAME_MAX + 1]; /* "" if there is no such run */
};

struct reading {
    struct mx_task task;
    struct reading *next; /* of those that wait */
    struct mx_host *h;
    struct mx_req *req;
    uint64_t from, limit, given, next_index, first, last;
    uint64_t until_ms; /* monotonic; 0: doesn't wait */
    struct source source; /* of a fork */
    struct mx_ground *ground; /* taken */
    struct mx_why_source whence;
    struct mx_why_entry mix;   /* an entry that is to be explained */
    struct mx_why_mix *why;    /* of the entry being written, or NULL */
    struct mx_jsonw w;
    int rc;
    struct mx_err err;
};

/* ---- entries ---- */

static void write_shares(struct mx_jsonw *w, const struct mx_host *h, const struct mx_entry *e)
{
    mx_jsonw_u64(w, "mix_version", e->mix_version);
    mx_jsonw_object(w, "shares");
    for (uint32_t i = 0; i < h->conf.k && h->conf.k <= LISTED_MAX; i++) {
        mx_jsonw_double(w, h->conf.domains[i].name, (double)e->shares[i] / (double)MX_SHARE_ONE);
    }
    mx_jsonw_end_object(w);
}

static void write_losses(struct mx_jsonw *w, const struct mx_host *h, const struct mx_entry *e)
{
    mx_jsonw_u64(w, "rank", e->rank);
    mx_jsonw_u64(w, "world", e->world);
    mx_jsonw_u64(w, "mix_version", e->mix_version);
    mx_jsonw_u64(w, "flags", e->flags);
    mx_jsonw_u64(w, "loss_count", e->n);
    mx_jsonw_array(w, "losses");
    for (uint32_t i = 0; i < e->n && i < LISTED_MAX; i++) {
        const struct mx_loss *l = &e->losses[i];

        mx_jsonw_object(w, NULL);
        mx_jsonw_string(w, "domain", l->domain < h->conf.k ? h->conf.domains[l->domain].name : "?");
        mx_jsonw_u64(w, "samples", l->samples);
        mx_jsonw_u64(w, "tokens", l->tokens);
        mx_jsonw_double(w, "loss_sum", l->loss_sum);
        mx_jsonw_end_object(w);
    }
    mx_jsonw_end_array(w);
}

static void write_set(struct mx_jsonw *w, const struct mx_host *h, const struct mx_entry *e)
{
    write_shares(w, h, e);
    mx_jsonw_object(w, "weights");
    for (uint32_t i = 0; i < h->conf.k && h->conf.k <= LISTED_MAX; i++) {
        mx_jsonw_double(w, h->conf.domains[i].name, e->weights[i]);
    }
    mx_jsonw_end_object(w);
}

static void write_reserve(struct mx_jsonw *w, const struct mx_entry *e)
{
    char digest[24] = "";

    mx_jsonw_u64(w, "upto", e->step);
    mx_jsonw_u64(w, "digest_from", e->digest_from);
    mx_jsonw_u64(w, "digests", e->n);
    if (e->n > 0) {
        (void)snprintf(digest, sizeof digest, "%016" PRIx64, e->digests[e->n - 1]);
    }
    mx_jsonw_string(w, "digest", digest);
}

static const char *domain_name(const struct mx_host *h, const struct mx_entry *e)
{
    return e->domain < h->conf.k ? h->conf.domains[e->domain].name : "?";
}

/* The other parts of a report, as far as they are short: matrices and scores are counted. */
static void write_parts(struct mx_jsonw *w, const struct mx_host *h, const struct mx_entry *e)
{
    mx_jsonw_u64(w, "gradient_domains", e->n_gram);
    mx_jsonw_u64(w, "score_count", e->n_scores);
    mx_jsonw_u64(w, "eval_count", e->n_evals);
    mx_jsonw_array(w, "evals");
    for (uint32_t i = 0; i < e->n_evals && i < PART_LISTED_MAX; i++) {
        const struct mx_eval_loss *l = &e->evals[i];
        const struct mx_runconf_evals *set = l->set < h->conf.n_eval_sets
                                                 ? &h->conf.eval_sets[l->set] : NULL;

        mx_jsonw_object(w, NULL);
        mx_jsonw_string(w, "set", set != NULL ? set->name : "?");
        mx_jsonw_string(w, "member", set != NULL && l->member < set->m ? set->members[l->member]
                                                                       : "?");
        mx_jsonw_u64(w, "tokens", l->tokens);
        mx_jsonw_double(w, "loss_sum", l->loss_sum);
        mx_jsonw_end_object(w);
    }
    mx_jsonw_end_array(w);
    mx_jsonw_u64(w, "reward_count", e->n_rewards);
    mx_jsonw_array(w, "rewards");
    for (uint32_t i = 0; i < e->n_rewards && i < PART_LISTED_MAX; i++) {
        const struct mx_reward *r = &e->rewards[i];

        mx_jsonw_object(w, NULL);
        mx_jsonw_string(w, "domain", r->domain < h->conf.k ? h->conf.domains[r->domain].name : "?");
        mx_jsonw_u64(w, "count", r->count);
        mx_jsonw_double(w, "sum", r->sum);
        mx_jsonw_end_object(w);
    }
    mx_jsonw_end_array(w);
}

/* A mix by policy or schedule, with all that it comes from. */
static void write_mix(struct reading *x, const struct mx_entry *e)
{
    struct mx_jsonw *w = &x->w;

    mx_jsonw_string(w, "cause", mx_cause_name(e->cause));
    mx_jsonw_u64(w, "cause_step", e->cause_step);
    mx_explain_phase(w, &x->h->conf, e->phase);
    write_shares(w, x->h, e);
    if (x->why != NULL) {
        mx_why_write(w, &x->whence, e, x->why);
    }
}

/* The result of a long computation: which policy's, and how much of it. */
static void write_fit(struct reading *x, const struct mx_entry *e)
{
    const struct mx_runconf *c = &x->h->conf;

    mx_jsonw_string(&x->w, "label", e->domain < c->n_mixers ? c->policies[e->domain].label : "?");
    mx_jsonw_string(&x->w, "policy",
                    e->domain < c->n_mixers ? c->mixers[e->domain].policy.ops->name : "?");
    mx_jsonw_u64(&x->w, "values", e->n_values);
}

/* What the shadows would do. */
static void write_shadows(struct reading *x, const struct mx_entry *e)
{
    const struct mx_runconf *c = &x->h->conf;
    struct mx_jsonw *w = &x->w;

    mx_jsonw_array(w, "shadows");
    for (uint32_t i = 0; i < e->n && i + 1 < c->n_mixers; i++) {
        struct mx_why y = {.conf = c, .prior = x->whence.prior,
                           .shares = e->shares + (size_t)i * c->k, .n_shares = c->k,
                           .weights = e->weights != NULL ? e->weights + (size_t)i * c->k : NULL,
                           .single = true};

        mx_jsonw_object(w, NULL);
        mx_jsonw_string(w, "label", c->policies[i + 1].label);
        mx_jsonw_string(w, "policy", c->mixers[i + 1].policy.ops->name);
        if (c->k <= SHADOWED_MAX) {
            mx_explain_shares(w, "shares", c, y.shares);
        }
        mx_explain_mix(w, &y, SHADOWED_MAX);
        mx_jsonw_end_object(w);
    }
    mx_jsonw_end_array(w);
}

static void write_body(struct reading *x, const struct mx_entry *e)
{
    const struct mx_host *h = x->h;
    struct mx_jsonw *w = &x->w;
    uint64_t samples = 0;

    switch (e->kind) {
    case MX_ENTRY_CREATE: write_shares(w, h, e); break;
    case MX_ENTRY_RESERVE: write_reserve(w, e); break;
    case MX_ENTRY_FEEDBACK:
        write_losses(w, h, e);
        write_parts(w, h, e);
        break;
    case MX_ENTRY_MIX: write_mix(x, e); break;
    case MX_ENTRY_FIT: write_fit(x, e); break;
    case MX_ENTRY_SHADOW: write_shadows(x, e); break;
    case MX_ENTRY_SET: write_set(w, h, e); break;
    case MX_ENTRY_EXHAUSTED:
        mx_jsonw_string(w, "domain", domain_name(h, e));
        mx_jsonw_bool(w, "ends", e->flag != 0);
        break;
    case MX_ENTRY_SKIP: mx_jsonw_u64(w, "to", e->to); break;
    case MX_ENTRY_ADOPT:
        mx_jsonw_string(w, "domain", domain_name(h, e));
        mx_jsonw_u64(w, "samples", e->samples);
        mx_jsonw_u64(w, "shards", e->shards);
        mx_jsonw_bool(w, "now", e->flag != 0);
        break;
    case MX_ENTRY_WITHDRAW:
        for (uint32_t i = 0; i < e->n; i++) {
            samples += e->ranges[i].count;
        }
        mx_jsonw_string(w, "domain", domain_name(h, e));
        mx_jsonw_u64(w, "serial", e->serial);
        mx_jsonw_u64(w, "samples", samples);
        break;
    case MX_ENTRY_REWIND:
        mx_jsonw_u64(w, "branch", e->branch);
        write_shares(w, h, e);
        break;
    case MX_ENTRY_FORK:
        /* By its name: numbers are the wire's. */
        if (x->source.name[0] != '\0') {
            mx_jsonw_string(w, "source", x->source.name);
        } else {
            mx_jsonw_null(w, "source");
        }
        mx_jsonw_u64(w, "source_step", e->step);
        write_shares(w, h, e);
        break;
    case MX_ENTRY_CLOSE:
    case MX_ENTRY_STOP: break;
    }
}

static void write_entry(struct reading *x, const struct mx_entry *e)
{
    struct mx_jsonw *w = &x->w;

    mx_jsonw_object(w, NULL);
    mx_jsonw_u64(w, "index", e->index);
    mx_jsonw_u64(w, "time_ms", e->time_ms);
    mx_jsonw_string(w, "kind", mx_entry_name(e->kind));
    mx_jsonw_u64(w, "step", e->step);
    mx_jsonw_u64(w, "frontier", e->frontier);
    mx_jsonw_string_n(w, "author", e->author, e->author_len);
    mx_jsonw_string_n(w, "why", e->why, e->why_len);
    write_body(x, e);
    mx_jsonw_end_object(w);
}

/* ---- reading ---- */

/* What was before a mix can't be looked up inside this reading: it ends here, and goes on behind
 * the mix. */
static int keep_mix(struct reading *x, struct mx_entry_box *box, struct mx_span bytes)
{
    uint64_t index = box->entry.index;

    mx_entry_box_clear(box);
    return mx_why_keep(&x->mix, index, bytes, x->h->conf.k, &x->err) < 0 ? x->err.code : 1;
}

static int read_cb(void *arg, uint64_t index, struct mx_span bytes)
{
    struct reading *x = arg;
    struct mx_entry_box box;
    int rc;

    if (x->given == x->limit || x->w.n > MX_PAGE_MAX) {
        return 1;
    }
    rc = mx_entry_decode(bytes, x->h->conf.k, &box, &x->err);
    if (rc < 0) {
        return mx_wrap(&x->err, "run %s: journal entry %" PRIu64, x->h->conf.name, index);
    }
    box.entry.index = index;
    if (box.entry.kind == MX_ENTRY_MIX) {
        return keep_mix(x, &box, bytes);
    }
    write_entry(x, &box.entry);
    mx_entry_box_clear(&box);
    x->given++;
    x->next_index = index + 1;
    return mx_task_stopped(&x->task) ? 1 : 0;
}

/* Entries until the page is full; mixes with what was before each. */
static int read_page(struct reading *x)
{
    struct mx_journal *j = x->h->d->journal;
    int rc;

    for (;;) {
        struct mx_why_mix why = {.shares = NULL};

        rc = mx_journal_read(j, x->h->id, x->next_index, read_cb, x, &x->err);
        if (rc < 0 || x->mix.bytes == NULL) {
            return rc < 0 ? rc : 0;
        }
        rc = mx_why_before(&x->whence, &x->mix.box.entry, &why, &x->err);
        x->why = &why;
        if (rc == 0) {
            write_entry(x, &x->mix.box.entry);
            x->given++;
            x->next_index = x->mix.box.entry.index + 1;
        }
        x->why = NULL;
        mx_why_clear(&why);
        mx_why_forget(&x->mix);
        if (rc < 0 || mx_task_stopped(&x->task) || x->next_index > x->last) {
            return rc;
        }
    }
}

static int source_entry_cb(void *arg, uint64_t index, struct mx_span bytes)
{
    struct reading *x = arg;
    struct mx_entry_box box;
    struct mx_err err;

    (void)index;
    if (mx_entry_decode(bytes, x->h->conf.k, &box, &err) == 0) {
        x->source.id = box.entry.kind == MX_ENTRY_FORK ? box.entry.source : 0;
        mx_entry_box_clear(&box);
    }
    return 1;
}

static int source_run_cb(void *arg, const struct mx_run_record *r)
{
    struct source *s = arg;

    if (r->id != s->id) {
        return 0;
    }
    (void)snprintf(s->name, sizeof s->name, "%s", r->name);
    return 1;
}

/* Which run a fork's first entry names. The loop's runs aren't for this thread to look at, and the
 * catalog can't be asked in the middle of reading it. */
static int find_source(struct reading *x)
{
    int rc = mx_journal_read(x->h->d->journal, x->h->id, x->from, source_entry_cb, x, &x->err);

    if (rc >= 0 && x->source.id != 0) {
        rc = mx_catalog_runs(x->h->d->catalog, source_run_cb, &x->source, &x->err);
    }
    return rc;
}

static void read_work(struct mx_task *t)
{
    struct reading *x = (struct reading *)t;
    struct mx_journal *j = x->h->d->journal;

    x->rc = mx_journal_bounds(j, x->h->id, &x->first, &x->last, &x->err);
    if (x->rc < 0) {
        return;
    }
    x->from = x->from > 0 ? x->from : x->first;
    if (x->from < x->first) {
        x->rc = mx_fail(&x->err, MX_EGONE, "run %s: the journal begins with entry %" PRIu64
                        ": those before it were removed", x->h->conf.name, x->first);
        return;
    }
    if (x->from == 1 && (x->rc = find_source(x)) < 0) {
        return;
    }
    x->next_index = x->from;
    mx_jsonw_init(&x->w, MX_ANSWER_MAX);
    mx_jsonw_object(&x->w, NULL);
    mx_jsonw_string(&x->w, "run", x->h->conf.name);
    mx_jsonw_u64(&x->w, "first", x->first);
    mx_jsonw_u64(&x->w, "last", x->last);
    mx_jsonw_array(&x->w, "entries");
    x->rc = read_page(x);
    mx_jsonw_end_array(&x->w);
    if (x->next_index <= x->last) {
        mx_jsonw_u64(&x->w, "next", x->next_index);
    } else {
        mx_jsonw_null(&x->w, "next");
    }
    mx_jsonw_end_object(&x->w);
}

static void free_reading(struct reading *x)
{
    mx_ground_give(x->ground);
    mx_why_forget(&x->mix);
    mx_jsonw_fini(&x->w);
    free(x);
}

static void read_done(struct mx_task *t)
{
    struct reading *x = (struct reading *)t;

    if (x->rc < 0) {
        mx_op_refuse(x->h->d, x->req, &x->err);
    } else {
        mx_op_send(x->h->d, x->req, &x->w);
    }
    free_reading(x);
}

/* With what never changes meanwhile. */
static int begin(struct reading *x, struct mx_err *err)
{
    x->ground = mx_ground_take(x->h->ground);
    x->whence = mx_op_whence(x->h, x->ground);
    return mx_task_start(x->h->d->tasks, &x->task, err);
}

static void start(struct reading *x)
{
    struct mx_err err;

    if (begin(x, &err) < 0) {
        mx_op_refuse(x->h->d, x->req, &err);
        free_reading(x);
    }
}

/* ---- waiting ---- */

struct mx_logs {
    struct mx_inbox_item item;
    atomic_bool queued; /* the item is in the inbox */
    struct mx_inbox *inbox;
    struct reading *waiting;
};

/* Those whose entry has come or whose time is up are answered. */
void mx_logs_look(struct mx_daemon *d, bool all)
{
    struct reading **at = &d->logs->waiting;
    uint64_t now = mx_now_ms();

    while (*at != NULL) {
        struct reading *x = *at;
        struct mx_run_view v;

        mx_run_view(x->h->core, &v);
        if (all || v.applied >= x->from || now >= x->until_ms) {
            *at = x->next;
            start(x);
        } else {
            at = &x->next;
        }
    }
}

static void moved_handle(struct mx_inbox_item *item)
{
    struct mx_logs *logs = (struct mx_logs *)item;
    struct reading *x = logs->waiting;

    atomic_store(&logs->queued, false);
    if (x != NULL) {
        mx_logs_look(x->h->d, false);
    }
}

/* From the writer's thread: the journal has new entries. */
static void moved(void *arg, uint32_t run, uint64_t last)
{
    struct mx_logs *logs = arg;

    (void)run;
    (void)last;
    if (!atomic_exchange(&logs->queued, true)) {
        mx_inbox_put(logs->inbox, &logs->item);
    }
}

struct mx_logs *mx_logs_new(struct mx_daemon *d)
{
    struct mx_logs *logs = calloc(1, sizeof *logs);

    if (logs != NULL) {
        logs->item.handle = moved_handle;
        logs->inbox = &d->inbox;
        mx_journal_watch(d->journal, moved, logs);
    }
    return logs;
}

int mx_op_run_log(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    uint64_t from = 0, limit = UINT32_MAX, wait_ms = 0;
    struct mx_run_view v;
    struct reading *x;
    int rc;

    if (h == NULL) {
        return err->code;
    }
    if ((rc = mx_json_take_u64(op->doc, op->o, "from", false, 0, (uint64_t)1 << 53, &from,
                               err)) < 0 ||
        (rc = mx_json_take_u64(op->doc, op->o, "limit", false, 1, UINT32_MAX, &limit, err)) < 0 ||
        (rc = mx_json_take_u64(op->doc, op->o, "wait_ms", false, 0, WAIT_MAX_MS, &wait_ms,
                               err)) < 0) {
        return rc;
    }
    x = calloc(1, sizeof *x);
    if (x == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory to read a journal");
    }
    x->task.work = read_work;
    x->task.done = read_done;
    x->h = h;
    x->req = op->req;
    x->from = from;
    x->limit = limit;
    mx_run_view(h->core, &v);
    if (wait_ms > 0 && from > v.applied) {
        x->until_ms = mx_now_ms() + wait_ms;
        x->next = op->d->logs->waiting;
        op->d->logs->waiting = x;
        return 0;
    }
    rc = begin(x, err);
    if (rc < 0) {
        free_reading(x);
    }
    return rc;
}
