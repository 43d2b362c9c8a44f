/* ops.c - control operations: what mixctl asks, JSON in and JSON out.
 *
 * Each operation is a line in one table. An operation that only reads answers at once; one that
 * changes a run answers when its journal entry is durable (the *_done functions). */
#include "daemon/daemon.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MAX (64u << 20) /* of one JSON text; the wire's own limit comes on top */

struct op {
    struct mx_daemon *d;
    struct mx_req *req;
    const struct mx_json_doc *doc;
    const mx_json *o;
};

static void send_json(struct mx_daemon *d, struct mx_req *req, struct mx_jsonw *w)
{
    size_t n = 0;
    char *json = mx_jsonw_take(w, &n);

    mx_serve_json(d, req, json, n);
}

static void refuse(const struct op *op, const struct mx_err *err)
{
    enum mx_status status = MX_STATUS_BAD_REQUEST;

    switch (err->code) {
    case MX_ENOTFOUND:
    case MX_EGONE: status = MX_STATUS_GONE; break;
    case MX_EBUSY:
    case MX_ENOMEM:
    case MX_EFULL: status = MX_STATUS_BUSY; break;
    case MX_EDAMAGED:
    case MX_EIO: status = MX_STATUS_DAMAGED; break;
    case MX_EDENIED: status = MX_STATUS_DENIED; break;
    default: break;
    }
    mx_serve_refuse(op->d, NULL, op->req, status, status == MX_STATUS_BUSY ? 1000 : 0, "%s",
                    err->text);
}

/* The run that key "run" names, or NULL with *err set. A failed run is found only if `any`. */
static struct mx_host *take_run(const struct op *op, bool any, struct mx_err *err)
{
    const char *name = NULL;
    struct mx_host *h;

    if (mx_json_take_string(op->doc, op->o, "run", true, &name, err) < 0) {
        return NULL;
    }
    h = mx_host_find(op->d, name);
    if (h == NULL) {
        (void)mx_fail(err, MX_ENOTFOUND, "there is no run %s", name);
    } else if (h->failed[0] != '\0' && !any) {
        (void)mx_fail(err, MX_EDAMAGED, "run %s: %s", name, h->failed);
        return NULL;
    }
    return h;
}

static int op_info(const struct op *op, struct mx_err *err)
{
    struct mx_daemon *d = op->d;
    struct mx_jsonw w;
    char store[24], data[MX_PATH_MAX];

    (void)err;
    (void)snprintf(store, sizeof store, "%016" PRIx64, mx_catalog_store_id(d->catalog));
    if (realpath(d->config.data, data) == NULL) {
        (void)snprintf(data, sizeof data, "%s", d->config.data);
    }
    mx_jsonw_init(&w, ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "version", MIXD_VERSION);
    mx_jsonw_string(&w, "store", store);
    mx_jsonw_string(&w, "data", data);
    mx_jsonw_u64(&w, "pid", (uint64_t)getpid());
    mx_jsonw_double(&w, "uptime_s", (double)(uv_hrtime() - d->started_ns) / 1e9);
    mx_jsonw_array(&w, "listen");
    for (uint32_t i = 0; i < d->config.n_listen; i++) {
        mx_jsonw_string(&w, NULL, d->urls[i]);
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_string(&w, "http", d->http_address);
    mx_jsonw_end_object(&w);
    send_json(d, op->req, &w);
    return 0;
}

/* ---- domains ---- */

static void write_domain(struct mx_jsonw *w, const struct mx_domain *m)
{
    char codec[32] = "raw";

    if (m->level != MX_LEVEL_RAW) {
        (void)snprintf(codec, sizeof codec, "zstd:%" PRId32, m->level);
    }
    mx_jsonw_string(w, "name", m->name);
    mx_jsonw_u64(w, "id", m->id);
    mx_jsonw_u64(w, "tokens", m->tokens);
    mx_jsonw_u64(w, "documents", m->documents);
    mx_jsonw_u64(w, "bytes", m->bytes);
    mx_jsonw_u64(w, "source_bytes", m->source_bytes);
    mx_jsonw_u64(w, "shards", m->shards);
    mx_jsonw_u64(w, "width", m->width);
    mx_jsonw_string(w, "tokenizer", m->tokenizer);
    mx_jsonw_string(w, "codec", codec);
}

static int domain_cb(void *arg, const struct mx_domain *m)
{
    mx_jsonw_object(arg, NULL);
    write_domain(arg, m);
    mx_jsonw_end_object(arg);
    return 0;
}

static int op_domain_ls(const struct op *op, struct mx_err *err)
{
    struct mx_jsonw w;
    int rc;

    mx_jsonw_init(&w, ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_array(&w, "domains");
    rc = mx_catalog_domains(op->d->catalog, domain_cb, &w, err);
    if (rc < 0) {
        mx_jsonw_fini(&w);
        return rc;
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_end_object(&w);
    send_json(op->d, op->req, &w);
    return 0;
}

static bool uses(const struct mx_host *h, uint32_t domain)
{
    for (uint32_t i = 0; i < h->record.k; i++) {
        if (h->record.domains[i].id == domain) {
            return true;
        }
    }
    return false;
}

static int write_shards(struct mx_daemon *d, const struct mx_domain *m, struct mx_jsonw *w,
                        struct mx_err *err)
{
    for (uint32_t i = 0; i < m->shards; i++) {
        struct mx_shard_info s;
        char id[24];
        int rc = mx_catalog_shards(d->catalog, m->id, i, 1, &s, err);

        if (rc < 0) {
            return rc;
        }
        (void)snprintf(id, sizeof id, "%016" PRIx64, s.id);
        mx_jsonw_object(w, NULL);
        mx_jsonw_string(w, "id", id);
        mx_jsonw_u64(w, "tokens", s.tokens);
        mx_jsonw_u64(w, "documents", s.documents);
        mx_jsonw_u64(w, "bytes", s.bytes);
        mx_jsonw_u64(w, "blocks", s.blocks);
        mx_jsonw_end_object(w);
    }
    return 0;
}

static int op_domain_show(const struct op *op, struct mx_err *err)
{
    const char *name = NULL;
    struct mx_domain m;
    struct mx_jsonw w;
    int rc = mx_json_take_string(op->doc, op->o, "name", true, &name, err);

    if (rc < 0 || (rc = mx_catalog_domain(op->d->catalog, name, &m, err)) < 0) {
        return rc;
    }
    mx_jsonw_init(&w, ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    write_domain(&w, &m);
    mx_jsonw_array(&w, "shard_list");
    rc = write_shards(op->d, &m, &w, err);
    if (rc < 0) {
        mx_jsonw_fini(&w);
        return rc;
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_array(&w, "runs");
    for (uint32_t i = 0; i < op->d->n_hosts; i++) {
        if (uses(op->d->hosts[i], m.id)) {
            mx_jsonw_string(&w, NULL, op->d->hosts[i]->conf.name);
        }
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_end_object(&w);
    send_json(op->d, op->req, &w);
    return 0;
}

static void unlink_cb(void *arg, uint64_t shard)
{
    struct mx_daemon *d = arg;
    char path[MX_PATH_MAX + 64];

    (void)snprintf(path, sizeof path, "%s/shards/%016" PRIx64 ".mxs", d->config.data, shard);
    if (unlink(path) != 0) {
        mx_log(MX_LOG_WARN, "shard.unlink", "path=\"%s\" text=\"left behind\"", path);
    }
}

/* The catalog refuses by the runs that it has; one that is being created isn't there yet. */
static int op_domain_rm(const struct op *op, struct mx_err *err)
{
    const char *name = NULL;
    struct mx_domain m;
    struct mx_jsonw w;
    int rc = mx_json_take_string(op->doc, op->o, "name", true, &name, err);

    if (rc < 0 || (rc = mx_catalog_domain(op->d->catalog, name, &m, err)) < 0) {
        return rc;
    }
    for (uint32_t i = 0; i < op->d->n_hosts; i++) {
        struct mx_host *h = op->d->hosts[i];
        if (uses(h, m.id)) {
            return mx_fail(err, MX_EBUSY, "domain '%s' is used by run '%s'", name, h->conf.name);
        }
    }
    if ((rc = mx_catalog_domain_remove(op->d->catalog, name, unlink_cb, op->d, err)) < 0) {
        return rc;
    }
    mx_log(MX_LOG_INFO, "domain.rm", "domain=%s", name);
    mx_jsonw_init(&w, ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "removed", name);
    mx_jsonw_end_object(&w);
    send_json(op->d, op->req, &w);
    return 0;
}

/* ---- runs ---- */

static int take_author(const struct op *op, const char **author, const char **why,
                       struct mx_err *err)
{
    int rc;

    *author = "";
    *why = "";
    if ((rc = mx_json_take_string(op->doc, op->o, "author", false, author, err)) < 0 ||
        (rc = mx_json_take_string(op->doc, op->o, "why", false, why, err)) < 0) {
        return rc;
    }
    if (strlen(*author) > MX_WHY_MAX || strlen(*why) > MX_WHY_MAX) {
        return mx_fail(err, MX_EINVALID, "author and why may have %u bytes each", MX_WHY_MAX);
    }
    return 0;
}

static int op_run_create(const struct op *op, struct mx_err *err)
{
    const char *name = NULL, *config = NULL, *author, *why;
    int rc;

    if ((rc = mx_json_take_string(op->doc, op->o, "name", false, &name, err)) < 0 ||
        (rc = mx_json_take_string(op->doc, op->o, "config", true, &config, err)) < 0 ||
        (rc = take_author(op, &author, &why, err)) < 0) {
        return rc;
    }
    return mx_host_create(op->d, op->req, config, strlen(config), name, author, err);
}

static void send_summary(struct mx_host *h, struct mx_req *req)
{
    struct mx_jsonw w;

    mx_jsonw_init(&w, ANSWER_MAX);
    mx_stats_run_summary(h, &w, NULL);
    send_json(h->d, req, &w);
}

void mx_ops_create_done(struct mx_host *h, struct mx_req *req)
{
    send_summary(h, req);
}

void mx_ops_stop_done(struct mx_host *h, struct mx_req *req)
{
    mx_log(MX_LOG_INFO, "run.stop", "run=%s", h->conf.name);
    send_summary(h, req);
}

static int op_run_ls(const struct op *op, struct mx_err *err)
{
    struct mx_jsonw w;

    (void)err;
    mx_jsonw_init(&w, ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_array(&w, "runs");
    for (uint32_t i = 0; i < op->d->n_hosts; i++) {
        mx_stats_run_summary(op->d->hosts[i], &w, NULL);
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_end_object(&w);
    send_json(op->d, op->req, &w);
    return 0;
}

static int op_run_show(const struct op *op, struct mx_err *err)
{
    struct mx_host *h = take_run(op, true, err);
    size_t n = 0;
    char *json;

    if (h == NULL) {
        return err->code;
    }
    if (h->failed[0] != '\0') {
        send_summary(h, op->req);
        return 0;
    }
    json = mx_stats_run(h, &n);
    mx_serve_json(op->d, op->req, json, n);
    return 0;
}

static int op_run_stop(const struct op *op, struct mx_err *err)
{
    struct mx_host *h = take_run(op, false, err);
    const char *author, *why;
    struct mx_entry e = {.kind = MX_ENTRY_STOP};
    struct mx_event ev = {.kind = MX_EV_STOP, .handle = (uint64_t)(uintptr_t)op->req, .entry = &e};
    int rc;

    if (h == NULL) {
        return err->code;
    }
    if ((rc = take_author(op, &author, &why, err)) < 0) {
        return rc;
    }
    e.author = author;
    e.author_len = (uint32_t)strlen(author);
    e.why = why;
    e.why_len = (uint32_t)strlen(why);
    mx_host_event(h, &ev);
    return 0;
}

/* ---- the mix ---- */

static void write_mix(struct mx_host *h, struct mx_jsonw *w)
{
    struct mx_run_view v;

    mx_run_view(h->core, &v);
    mx_jsonw_string(w, "run", h->conf.name);
    mx_jsonw_string(w, "policy", h->conf.policy->name);
    mx_jsonw_u64(w, "version", v.mix_version);
    mx_jsonw_u64(w, "from_step", v.mix_step);
    mx_jsonw_u64(w, "next_version", v.next_version);
    mx_jsonw_u64(w, "next_step", v.next_step);
    mx_jsonw_u64(w, "frontier", v.frontier);
}

static int op_mix_show(const struct op *op, struct mx_err *err)
{
    struct mx_host *h = take_run(op, false, err);
    struct mx_run_view v;
    struct mx_jsonw w;
    double drawn = 0;

    if (h == NULL) {
        return err->code;
    }
    mx_jsonw_init(&w, ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    write_mix(h, &w);
    mx_run_view(h->core, &v);
    for (uint32_t i = 0; i < h->conf.k; i++) {
        drawn += (double)v.cursors[i];
    }
    mx_jsonw_array(&w, "domains");
    for (uint32_t i = 0; i < h->conf.k; i++) {
        mx_jsonw_object(&w, NULL);
        mx_jsonw_string(&w, "name", h->conf.domains[i].name);
        mx_jsonw_double(&w, "share", (double)v.shares[i] / (double)MX_SHARE_ONE);
        mx_jsonw_double(&w, "weight", v.weights[i]);
        mx_jsonw_double(&w, "achieved", drawn > 0 ? (double)v.cursors[i] / drawn : 0);
        mx_jsonw_end_object(&w);
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_end_object(&w);
    send_json(op->d, op->req, &w);
    return 0;
}

static int domain_index(const struct mx_host *h, const char *name)
{
    for (uint32_t i = 0; i < h->conf.k; i++) {
        if (strcmp(h->conf.domains[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* The weights that {"web": 0.5} means: named domains get what is said. If not all are named these
 * are shares of the whole, and the others keep their proportions in what is left. */
static int take_weights(const struct op *op, struct mx_host *h, double *w, struct mx_err *err)
{
    const mx_json *o = mx_json_get(op->o, "weights");
    struct mx_run_view v;
    double named = 0, others = 0;
    uint32_t n = 0;

    if (o == NULL || !mx_json_is_object(o) || mx_json_count(o) == 0) {
        return mx_json_fail(op->doc, op->o, err, "\"weights\" must name domains, like "
                            "{\"web\": 0.5}");
    }
    mx_run_view(h->core, &v);
    for (uint32_t i = 0; i < h->conf.k; i++) {
        w[i] = NAN;
    }
    for (const mx_json *m = mx_json_first(o); m != NULL; m = mx_json_next(m), n++) {
        int i = domain_index(h, mx_json_key(m));
        double x = mx_json_number(m);

        if (i < 0) {
            return mx_fail(err, MX_EINVALID, "run %s has no domain %s", h->conf.name,
                           mx_json_key(m));
        }
        if (!mx_json_is_number(m) || !isfinite(x) || x < 0) {
            return mx_fail(err, MX_EINVALID, "the weight of %s must be a number of 0 or more",
                           mx_json_key(m));
        }
        w[i] = x;
        named += x;
    }
    if (n == h->conf.k) {
        return named > 0 ? 0 : mx_fail(err, MX_EINVALID, "the weights sum to 0");
    }
    if (named > 1 + 1e-9) {
        return mx_fail(err, MX_EINVALID, "the shares given sum to %g, over 1, and %" PRIu32
                       " domains aren't named", named, h->conf.k - n);
    }
    for (uint32_t i = 0; i < h->conf.k; i++) {
        others += isnan(w[i]) ? (double)v.shares[i] : 0;
    }
    for (uint32_t i = 0; i < h->conf.k; i++) {
        if (isnan(w[i])) {
            double part = others > 0 ? (double)v.shares[i] / others : 1.0 / (h->conf.k - n);
            w[i] = (named < 1 ? 1 - named : 0) * part;
        }
    }
    return 0;
}

static int op_mix_set(const struct op *op, struct mx_err *err)
{
    struct mx_host *h = take_run(op, false, err);
    struct mx_entry e = {.kind = MX_ENTRY_SET};
    struct mx_event ev = {.kind = MX_EV_SET, .handle = (uint64_t)(uintptr_t)op->req, .entry = &e};
    const char *author, *why;
    double *w;
    int rc;

    if (h == NULL) {
        return err->code;
    }
    if ((rc = take_author(op, &author, &why, err)) < 0) {
        return rc;
    }
    w = calloc(h->conf.k, sizeof *w);
    if (w == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " weights", h->conf.k);
    }
    rc = take_weights(op, h, w, err);
    if (rc == 0) {
        e.weights = w;
        e.n = h->conf.k;
        e.author = author;
        e.author_len = (uint32_t)strlen(author);
        e.why = why;
        e.why_len = (uint32_t)strlen(why);
        mx_host_event(h, &ev);
    }
    free(w);
    return rc;
}

/* The answer to mix.set, with or without the list of domains. */
static char *write_set(struct mx_host *h, const struct mx_entry *mix, bool list, size_t *ret_n)
{
    struct mx_run_view v;
    struct mx_jsonw w;

    mx_run_view(h->core, &v);
    mx_jsonw_init(&w, ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "run", h->conf.name);
    if (mix != NULL) {
        mx_jsonw_u64(&w, "version", mix->mix_version);
        mx_jsonw_u64(&w, "from_step", mix->step);
    } else {
        mx_jsonw_null(&w, "version");
        mx_jsonw_null(&w, "from_step");
    }
    mx_jsonw_array(&w, "domains");
    for (uint32_t i = 0; list && i < h->conf.k; i++) {
        const uint64_t *shares = mix != NULL ? mix->shares : v.shares;
        mx_jsonw_object(&w, NULL);
        mx_jsonw_string(&w, "name", h->conf.domains[i].name);
        mx_jsonw_double(&w, "share", (double)shares[i] / (double)MX_SHARE_ONE);
        mx_jsonw_double(&w, "before", (double)v.shares[i] / (double)MX_SHARE_ONE);
        mx_jsonw_end_object(&w);
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_string(&w, "note", mix == NULL
                    ? "recorded; it changes nothing, or takes effect after the mix now being made"
                    : !list ? "there are too many domains to list them here"
                    : h->conf.policy->adapts ? "the policy goes on adapting from its next update"
                    : "");
    mx_jsonw_end_object(&w);
    return mx_jsonw_take(&w, ret_n);
}

void mx_ops_set_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *mix)
{
    size_t n = 0;
    char *json = write_set(h, mix, true, &n);

    if (mix != NULL) {
        mx_log(MX_LOG_INFO, "mix.set", "run=%s version=%" PRIu64 " from_step=%" PRIu64,
               h->conf.name, mix->mix_version, mix->step);
    }
    if (n > MX_REPLY_MAX - MX_HEADER_BYTES) { /* what has been done can't be refused any more */
        free(json);
        json = write_set(h, mix, false, &n);
    }
    mx_serve_json(h->d, req, json, n);
}

/* ---- dispatch ---- */

#define MX_OPS(X)                                                                                 \
    X("info", op_info)                                                                            \
    X("domain.ls", op_domain_ls)                                                                  \
    X("domain.show", op_domain_show)                                                              \
    X("domain.rm", op_domain_rm)                                                                  \
    X("run.create", op_run_create)                                                                \
    X("run.ls", op_run_ls)                                                                        \
    X("run.show", op_run_show)                                                                    \
    X("run.stop", op_run_stop)                                                                    \
    X("mix.show", op_mix_show)                                                                    \
    X("mix.set", op_mix_set)

static const struct {
    const char *name;
    /* 0: answered, or will be; else *err says what to answer. */
    int (*run)(const struct op *op, struct mx_err *err);
} ops[] = {
#define OP_ROW(name, fn) {name, fn},
    MX_OPS(OP_ROW)
};

void mx_ops_control(struct mx_daemon *d, struct mx_req *req, const char *json, size_t n)
{
    struct op op = {.d = d, .req = req};
    struct mx_json_doc *doc = NULL;
    struct mx_err err = {0};
    const char *name = NULL;
    int rc = mx_json_parse("request", json, n, &doc, &err);

    if (rc == 0) {
        op.doc = doc;
        op.o = mx_json_root(doc);
        rc = mx_json_is_object(op.o)
                 ? mx_json_take_string(doc, op.o, "op", true, &name, &err)
                 : mx_fail(&err, MX_EINVALID, "request: must be an object with an \"op\"");
    }
    if (rc == 0) {
        rc = mx_fail(&err, MX_EINVALID, "request: there is no operation \"%.64s\"", name);
        for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
            if (strcmp(ops[i].name, name) == 0) {
                rc = ops[i].run(&op, &err);
                break;
            }
        }
    }
    if (rc < 0) {
        refuse(&op, &err);
    }
    mx_json_free(doc);
}
