/* ops_mix.c - operations on a run's mix. See ops.c. */
#include "daemon/log.h"
#include "daemon/ops.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static void write_mix(struct mx_host *h, struct mx_jsonw *w)
{
    struct mx_run_view v;

    mx_run_view(h->core, &v);
    mx_jsonw_string(w, "run", h->conf.name);
    mx_jsonw_string(w, "policy", h->conf.mixers[0].policy.ops->name);
    mx_jsonw_u64(w, "version", v.mix_version);
    mx_jsonw_u64(w, "from_step", v.mix_step);
    mx_jsonw_u64(w, "next_version", v.next_version);
    mx_jsonw_u64(w, "next_step", v.next_step);
    mx_jsonw_u64(w, "frontier", v.frontier);
}

int mx_op_mix_show(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    struct mx_run_view v;
    struct mx_jsonw w;
    double drawn = 0;

    if (h == NULL) {
        return err->code;
    }
    mx_jsonw_init(&w, MX_ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    write_mix(h, &w);
    mx_run_view(h->core, &v);
    for (uint32_t i = 0; i < h->conf.k; i++) {
        drawn += (double)mx_run_drawn(h->core, i);
    }
    mx_jsonw_array(&w, "domains");
    for (uint32_t i = 0; i < h->conf.k; i++) {
        mx_jsonw_object(&w, NULL);
        mx_jsonw_string(&w, "name", h->conf.domains[i].name);
        mx_jsonw_double(&w, "share", (double)v.shares[i] / (double)MX_SHARE_ONE);
        mx_jsonw_double(&w, "weight", v.weights[i]);
        mx_jsonw_double(&w, "achieved", drawn > 0 ? (double)mx_run_drawn(h->core, i) / drawn : 0);
        mx_jsonw_end_object(&w);
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_end_object(&w);
    mx_op_send(op->d, op->req, &w);
    return 0;
}

/* The weights that {"web": 0.5} means: named domains get what is said. If not all are named these
 * are shares of the whole, and the others keep their proportions in what is left. */
static int take_weights(const struct mx_op *op, struct mx_host *h, double *w, struct mx_err *err)
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
        int i = mx_op_domain_index(h, mx_json_key(m));
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

/* "at": a step, or "+N" for so many past the frontier; 0: as soon as can be. */
static int take_at(const struct mx_op *op, struct mx_host *h, uint64_t *ret, struct mx_err *err)
{
    const mx_json *at = mx_json_get(op->o, "at");
    struct mx_run_view v;
    const char *text;
    char *end;
    uint64_t n;

    if (at == NULL || mx_json_is_number(at)) {
        return mx_json_take_u64(op->doc, op->o, "at", false, 1, MX_STEP_MAX, ret, err);
    }
    text = mx_json_string(at);
    errno = 0;
    n = text[0] == '+' && text[1] >= '0' && text[1] <= '9' ? strtoull(text + 1, &end, 10) : 0;
    if (n == 0 || errno != 0 || *end != '\0' || n > MX_STEP_MAX) {
        return mx_json_fail(op->doc, at, err, "must be a step, or \"+N\" for N steps past the "
                            "frontier");
    }
    mx_run_view(h->core, &v);
    *ret = v.frontier + n;
    return 0;
}

int mx_op_mix_set(const struct mx_op *op, struct mx_err *err)
{
    struct mx_host *h = mx_op_run(op, false, err);
    struct mx_entry e = {.kind = MX_ENTRY_SET};
    struct mx_event ev = {.kind = MX_EV_SET, .handle = (uint64_t)(uintptr_t)op->req, .entry = &e};
    double *w;
    int rc;

    if (h == NULL) {
        return err->code;
    }
    if ((rc = mx_op_author(op, &e, err)) < 0 || (rc = take_at(op, h, &e.step, err)) < 0) {
        return rc;
    }
    w = calloc(h->conf.k, sizeof *w);
    if (w == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " weights", h->conf.k);
    }
    rc = take_weights(op, h, w, err);
    if (rc == 0) {
        e.weights = w;
        mx_host_event(h, &ev);
    }
    free(w);
    return rc;
}

/* The answer to mix.set, with or without the list of domains. */
static char *write_set(struct mx_host *h, const struct mx_entry *e, bool list, size_t *ret_n)
{
    struct mx_run_view v;
    struct mx_jsonw w;

    mx_run_view(h->core, &v);
    mx_jsonw_init(&w, MX_ANSWER_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "run", h->conf.name);
    mx_jsonw_u64(&w, "version", e->mix_version);
    mx_jsonw_u64(&w, "from_step", e->step);
    mx_jsonw_array(&w, "domains");
    for (uint32_t i = 0; list && i < h->conf.k; i++) {
        mx_jsonw_object(&w, NULL);
        mx_jsonw_string(&w, "name", h->conf.domains[i].name);
        mx_jsonw_double(&w, "share", (double)e->shares[i] / (double)MX_SHARE_ONE);
        mx_jsonw_double(&w, "before", (double)v.shares[i] / (double)MX_SHARE_ONE);
        mx_jsonw_end_object(&w);
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_string(&w, "note", !list ? "there are too many domains to list them here"
                    : h->conf.mixers[0].policy.ops->adapts
                        ? "the policy goes on adapting from its next update" : "");
    mx_jsonw_end_object(&w);
    return mx_jsonw_take(&w, ret_n);
}

void mx_op_set_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *e)
{
    size_t n = 0;
    char *json = write_set(h, e, true, &n);

    mx_log(MX_LOG_INFO, "mix.set", "run=%s version=%" PRIu64 " from_step=%" PRIu64, h->conf.name,
           e->mix_version, e->step);
    if (n > MX_JSON_MAX) { /* what has been done can't be refused any more */
        free(json);
        json = write_set(h, e, false, &n);
    }
    mx_serve_json(h->d, req, json, n);
}
