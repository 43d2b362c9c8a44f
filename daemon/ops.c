/* ops.c - control operations: what mixctl asks, JSON in and JSON out.
 *
 * Each operation is a line in one table; they are in ops_*.c and history.c. An operation that only
 * reads answers at once, or from a task of its own; one that changes a run answers when its journal
 * entry is durable and applied. */
#include "daemon/ops.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* ---- helpers ---- */

void mx_op_send(struct mx_daemon *d, struct mx_req *req, struct mx_jsonw *w)
{
    size_t n = 0;
    char *json = mx_jsonw_take(w, &n);

    mx_serve_json(d, req, json, n);
}

void mx_op_refuse(struct mx_daemon *d, struct mx_req *req, const struct mx_err *err)
{
    enum mx_status status = MX_STATUS_BAD_REQUEST;

    switch (err->code) {
    case MX_ENOTFOUND:
    case MX_EGONE: status = MX_STATUS_GONE; break;
    case MX_EBUSY:
    case MX_ENOMEM:
    case MX_EFULL:
    case MX_ECANCELLED: status = MX_STATUS_BUSY; break;
    case MX_EDAMAGED:
    case MX_EIO: status = MX_STATUS_DAMAGED; break;
    case MX_EDENIED: status = MX_STATUS_DENIED; break;
    default: break;
    }
    mx_serve_refuse(d, NULL, req, status, status == MX_STATUS_BUSY ? 1000 : 0, "%s", err->text);
}

bool mx_op_refused(int rc)
{
    return rc == MX_EEXISTS || rc == MX_EINVALID || rc == MX_ENOTFOUND;
}

void mx_op_unwritten(struct mx_daemon *d, struct mx_req *req, const struct mx_err *err)
{
    if (mx_op_refused(err->code)) {
        mx_op_refuse(d, req, err);
        return;
    }
    mx_journal_failed(d, err);
    mx_serve_refuse(d, NULL, req, MX_STATUS_BUSY, 1000, "the journal can't be written: %s",
                    err->text);
}

struct mx_host *mx_op_run(const struct mx_op *op, bool any, struct mx_err *err)
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

int mx_op_author(const struct mx_op *op, struct mx_entry *e, struct mx_err *err)
{
    int rc;

    e->author = "";
    e->why = "";
    if ((rc = mx_json_take_string(op->doc, op->o, "author", false, &e->author, err)) < 0 ||
        (rc = mx_json_take_string(op->doc, op->o, "why", false, &e->why, err)) < 0) {
        return rc;
    }
    if (strlen(e->author) > MX_WHY_MAX || strlen(e->why) > MX_WHY_MAX) {
        return mx_fail(err, MX_EINVALID, "author and why may have %u bytes each", MX_WHY_MAX);
    }
    e->author_len = (uint32_t)strlen(e->author);
    e->why_len = (uint32_t)strlen(e->why);
    return 0;
}

int mx_op_domain_index(const struct mx_host *h, const char *name)
{
    for (uint32_t i = 0; i < h->conf.k; i++) {
        if (strcmp(h->conf.domains[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

int mx_op_info(const struct mx_op *op, struct mx_err *err)
{
    struct mx_daemon *d = op->d;
    struct mx_jsonw w;
    char store[24], data[MX_PATH_MAX];

    (void)err;
    (void)snprintf(store, sizeof store, "%016" PRIx64, mx_catalog_store_id(d->catalog));
    if (realpath(d->config.data, data) == NULL) {
        (void)snprintf(data, sizeof data, "%s", d->config.data);
    }
    mx_jsonw_init(&w, MX_ANSWER_MAX);
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
    mx_op_send(d, op->req, &w);
    return 0;
}

/* ---- dispatch ---- */

#define MX_OPS(X)                                                                                 \
    X("info", info)                                                                               \
    X("domain.ls", domain_ls)                                                                     \
    X("domain.show", domain_show)                                                                 \
    X("domain.rm", domain_rm)                                                                     \
    X("domain.adopt", domain_adopt)                                                               \
    X("domain.withdraw", domain_withdraw)                                                         \
    X("run.create", run_create)                                                                   \
    X("run.ls", run_ls)                                                                           \
    X("run.show", run_show)                                                                       \
    X("run.stop", run_stop)                                                                       \
    X("run.skip", run_skip)                                                                       \
    X("run.rewind", run_rewind)                                                                   \
    X("run.fork", run_fork)                                                                       \
    X("run.replay", run_replay)                                                                   \
    X("run.compact", run_compact)                                                                 \
    X("run.log", run_log)                                                                         \
    X("step.show", step_show)                                                                     \
    X("where", where)                                                                             \
    X("mix.show", mix_show)                                                                       \
    X("mix.set", mix_set)                                                                         \
    X("policy.show", policy_show)                                                                 \
    X("plan", plan)

static const struct {
    const char *name;
    int (*run)(const struct mx_op *op, struct mx_err *err);
} ops[] = {
#define OP_ROW(name, fn) {name, mx_op_##fn},
    MX_OPS(OP_ROW)
};

void mx_ops_control(struct mx_daemon *d, struct mx_req *req, const char *json, size_t n)
{
    struct mx_op op = {.d = d, .req = req};
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
        mx_op_refuse(d, req, &err);
    }
    mx_json_free(doc);
}

void mx_ops_entry_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *e)
{
    switch (e->kind) {
    case MX_ENTRY_CREATE:
    case MX_ENTRY_FORK:
    case MX_ENTRY_STOP: mx_op_send_summary(h, req); return;
    case MX_ENTRY_SET: mx_op_set_done(h, req, e); return;
    case MX_ENTRY_SKIP: mx_op_skip_done(h, req, e); return;
    case MX_ENTRY_REWIND: mx_op_rewind_done(h, req, e); return;
    case MX_ENTRY_ADOPT: mx_op_adopt_done(h, req, e); return;
    case MX_ENTRY_RESERVE:
    case MX_ENTRY_FEEDBACK:
    case MX_ENTRY_CLOSE:
    case MX_ENTRY_MIX:
    case MX_ENTRY_EXHAUSTED:
    case MX_ENTRY_FIT:
    case MX_ENTRY_SHADOW:
    case MX_ENTRY_WITHDRAW: break;
    }
    MX_UNREACHABLE("an entry that nobody waits for has someone waiting");
}
