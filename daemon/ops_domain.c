/* ops_domain.c - operations on domains: what there is, and removing one. See ops.c;
 * adopting and withdrawing are in ops_change.c. */
#include "daemon/log.h"
#include "daemon/ops.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

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

int mx_op_domain_ls(const struct mx_op *op, struct mx_err *err)
{
    struct mx_jsonw w;
    int rc;

    mx_jsonw_init(&w, MX_ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_array(&w, "domains");
    rc = mx_catalog_domains(op->d->catalog, domain_cb, &w, err);
    if (rc < 0) {
        mx_jsonw_fini(&w);
        return rc;
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_end_object(&w);
    mx_op_send(op->d, op->req, &w);
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

int mx_op_domain_show(const struct mx_op *op, struct mx_err *err)
{
    const char *name = NULL;
    struct mx_domain m;
    struct mx_jsonw w;
    int rc = mx_json_take_string(op->doc, op->o, "name", true, &name, err);

    if (rc < 0 || (rc = mx_catalog_domain(op->d->catalog, name, &m, err)) < 0) {
        return rc;
    }
    mx_jsonw_init(&w, MX_ANSWER_MAX);
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
    mx_op_send(op->d, op->req, &w);
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
int mx_op_domain_rm(const struct mx_op *op, struct mx_err *err)
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
    mx_jsonw_init(&w, MX_ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "removed", name);
    mx_jsonw_end_object(&w);
    mx_op_send(op->d, op->req, &w);
    return 0;
}
