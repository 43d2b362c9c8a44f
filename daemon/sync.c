/* sync.c - runs follow what happens to their domains: see daemon.h.
 *
 * What a run has taken is in its own journal; what there is to take, in the catalog. This compares
 * the two and gives the core an event for each difference, one at a time, so that it doesn't matter
 * when the daemon learns of a change, or what a crash came between. A run that has withdrawals to
 * take (`behind`) plans no step until it has. */
#include "daemon/log.h"
#include "daemon/withdrawal.h"
#include "daemon/daemon.h"

#include <inttypes.h>
#include <string.h>

/* All that the catalog has of a run's domain, cut as the run does. */
static int whole_view(struct mx_host *h, uint32_t i, struct mx_view *ret, uint32_t *ret_shards,
                      struct mx_err *err)
{
    struct mx_domain d;
    int rc = mx_catalog_domain_by_id(h->d->catalog, h->record.domains[i].id, &d, err);

    if (rc == 0) {
        *ret_shards = d.shards;
        rc = mx_view_make(h->d->catalog, &d, d.shards, (uint32_t)h->conf.unit, ret, err);
    }
    return rc;
}

static uint32_t known_shards(const struct mx_host *h, uint32_t i)
{
    uint32_t n = mx_run_shards(h->core, i);

    return n > 0 ? n : h->record.domains[i].shards;
}

int mx_sync_adopt(struct mx_host *h, uint32_t domain, bool now, const struct mx_entry *author,
                  struct mx_req *req, struct mx_err *err)
{
    struct mx_entry e = {.domain = domain, .flag = now};
    struct mx_event ev = {.kind = MX_EV_ADOPT, .handle = (uint64_t)(uintptr_t)req, .entry = &e};
    struct mx_view v = {0};
    int rc = whole_view(h, domain, &v, &e.shards, err);

    if (rc < 0) {
        return rc;
    }
    e.samples = v.samples;
    e.chunk = v.chunk;
    mx_view_clear(&v);
    if (author != NULL) {
        e.author = author->author;
        e.author_len = author->author_len;
        e.why = author->why;
        e.why_len = author->why_len;
    } else {
        e.author = "mixd";
        e.author_len = 4;
        e.why = "new shards";
        e.why_len = 10;
    }
    mx_host_event(h, &ev);
    return 0;
}

/* ---- withdrawals ---- */

struct pending {
    struct mx_host *h;
    uint32_t domain, serial; /* the last one */
    struct mx_withdrawn all; /* the pieces of all of them; who and why of the last */
    char author[MX_WHY_MAX], why[MX_WHY_MAX];
    struct mx_err *err;
};

static int pending_cb(void *arg, uint32_t serial, struct mx_span bytes)
{
    struct pending *p = arg;
    struct mx_withdrawn w;
    struct mx_withdrawn_piece *pieces;
    int rc = mx_withdrawn_decode(bytes, &w, p->err);

    if (rc < 0) {
        return rc;
    }
    pieces = realloc(p->all.pieces, (p->all.n + w.n + 1) * sizeof *pieces);
    if (pieces != NULL) {
        p->all.pieces = pieces;
        memcpy(pieces + p->all.n, w.pieces, w.n * sizeof *pieces);
        p->all.n += w.n;
        p->serial = serial;
        memcpy(p->author, w.author, w.author_len);
        memcpy(p->why, w.why, w.why_len);
        p->all.author_len = w.author_len;
        p->all.why_len = w.why_len;
    }
    free(w.pieces);
    return pieces != NULL ? 0 : mx_fail(p->err, MX_ENOMEM, "no memory for withdrawals");
}

/* The samples of a run's domain that withdrawals are of. */
static int ranges_of(struct mx_host *h, struct pending *p, struct mx_range **ret, uint32_t *ret_n,
                     struct mx_err *err)
{
    struct mx_view v = {0};
    uint32_t shards;
    int rc = whole_view(h, p->domain, &v, &shards, err);

    if (rc == 0) {
        rc = mx_withdrawn_ranges(&v, p->all.pieces, p->all.n, ret, ret_n, err);
        mx_view_clear(&v);
    }
    return rc;
}

static int withdraw(struct mx_host *h, struct pending *p, struct mx_err *err)
{
    struct mx_entry e = {.domain = p->domain, .serial = p->serial, .author = p->author,
                         .author_len = p->all.author_len, .why = p->why,
                         .why_len = p->all.why_len};
    struct mx_event ev = {.kind = MX_EV_WITHDRAW, .entry = &e};
    struct mx_range *ranges;
    int rc = ranges_of(h, p, &ranges, &e.n, err);

    if (rc == 0) {
        e.ranges = ranges;
        h->behind = true; /* a refusal is about this */
        mx_host_event(h, &ev);
        free(ranges);
    }
    return rc;
}

int mx_sync_spares(struct mx_host *h, uint32_t domain, const struct mx_range *ranges, uint32_t n,
                   uint64_t grown, struct mx_err *err)
{
    const char *name = h->conf.domains[domain].name;
    uint64_t most;

    switch (mx_run_spares(h->core, domain, ranges, n, grown, &most)) {
    case MX_OK: return 0;
    case MX_TOO_MUCH_GONE:
        return mx_fail(err, MX_EINVALID, "run %s: over half of domain %s's %" PRIu64 " samples would "
                       "be withdrawn; ingest what is left as a new domain", h->conf.name, name, most);
    default:
        return mx_fail(err, MX_EINVALID, "run %s: withdrawals would be of over %" PRIu64 " ranges of "
                       "samples; ingest what is left of domain %s as a new one", h->conf.name, most,
                       name);
    }
}

static int check_new(struct mx_host *h, struct pending *p, struct mx_err *err)
{
    struct mx_range *ranges;
    uint32_t n;
    int rc = ranges_of(h, p, &ranges, &n, err);

    if (rc == 0) {
        rc = mx_sync_spares(h, p->domain, ranges, n, 0, err);
        free(ranges);
    }
    return rc;
}

int mx_sync_withdrawn(struct mx_host *h, uint32_t domain, struct mx_range **ret, uint32_t *ret_n,
                      uint32_t *ret_serial, struct mx_err *err)
{
    struct pending p = {.h = h, .domain = domain, .err = err};
    int rc = mx_catalog_withdrawals(h->d->catalog, h->record.domains[domain].id, 1, pending_cb, &p,
                                    err);

    if (rc == 0 && p.serial > 0) {
        rc = ranges_of(h, &p, ret, ret_n, err);
        *ret_serial = p.serial;
    }
    free(p.all.pieces);
    return rc;
}

int mx_sync_check_new(struct mx_host *h, struct mx_err *err)
{
    int rc = 0;

    for (uint32_t i = 0; i < h->conf.k && rc == 0; i++) {
        struct pending p = {.h = h, .domain = i, .err = err};

        rc = mx_catalog_withdrawals(h->d->catalog, h->record.domains[i].id, 1, pending_cb, &p, err);
        if (rc == 0 && p.serial > 0) {
            rc = check_new(h, &p, err);
        }
        free(p.all.pieces);
    }
    return rc;
}

/* ---- one run ---- */

/* Gives the core the first thing that the run has yet to take of a domain. 1: it did, 0: there is
 * none, or a code. */
static int sync_domain(struct mx_host *h, uint32_t i, bool withdrawals, struct mx_err *err)
{
    struct pending p = {.h = h, .domain = i, .err = err};
    struct mx_domain d;
    int rc;

    if (withdrawals) {
        rc = mx_catalog_withdrawals(h->d->catalog, h->record.domains[i].id,
                                    mx_run_withdrawn(h->core, i) + 1, pending_cb, &p, err);
        if (rc == 0 && p.serial > 0) {
            rc = withdraw(h, &p, err);
            rc = rc == 0 ? 1 : rc;
        }
        free(p.all.pieces);
        return rc;
    }
    if (!h->conf.adopt) {
        return 0;
    }
    rc = mx_catalog_domain_by_id(h->d->catalog, h->record.domains[i].id, &d, err);
    if (rc == 0 && d.shards > known_shards(h, i)) {
        rc = mx_sync_adopt(h, i, false, NULL, NULL, err);
        rc = rc == 0 ? 1 : rc;
    }
    return rc;
}

void mx_sync_host(struct mx_host *h)
{
    struct mx_run_view v;
    struct mx_err err = {0};
    int rc = 0;

    if (h->failed[0] != '\0') {
        return;
    }
    mx_run_view(h->core, &v);
    if (v.applied == 0 || h->frozen) {
        h->d->lagging = true; /* the next entry or tick looks again */
        return;
    }
    /* What is withdrawn comes first: steps wait for that. */
    for (int withdrawals = 1; withdrawals >= 0 && rc == 0; withdrawals--) {
        for (uint32_t i = 0; i < h->conf.k && rc == 0; i++) {
            rc = sync_domain(h, i, withdrawals, &err);
        }
        if (withdrawals) {
            h->behind = rc == 1;
        }
    }
    if (rc < 0) {
        (void)snprintf(h->failed, sizeof h->failed, "what became of its domains can't be read: "
                       "%.900s", err.text);
        mx_log(MX_LOG_ERROR, "run.failed", "run=%s error=\"%s\"", h->conf.name, h->failed);
        return;
    }
    h->d->lagging |= rc == 1;
}

void mx_sync(struct mx_daemon *d)
{
    if (d->journal_error[0] != '\0') {
        mx_ops_withdrawn(d); /* nothing can be recorded, and LMDB may refuse to read */
        return;
    }
    d->lagging = false;
    for (uint32_t i = 0; i < d->n_hosts; i++) {
        mx_sync_host(d->hosts[i]);
    }
    mx_ops_withdrawn(d);
}

void mx_sync_applied(struct mx_host *h, const struct mx_entry *e)
{
    if (e->kind == MX_ENTRY_CREATE || e->kind == MX_ENTRY_FORK || e->kind == MX_ENTRY_WITHDRAW ||
        e->kind == MX_ENTRY_ADOPT || e->kind == MX_ENTRY_REWIND) {
        mx_sync_host(h);
    }
    if (e->kind == MX_ENTRY_WITHDRAW) {
        mx_ops_withdrawal_taken(h, e);
    }
}

/* A run that can't do without what was withdrawn must not go on with it. One that can't take new
 * shards goes on without them. */
void mx_sync_refused(struct mx_host *h, const struct mx_effect *fx)
{
    if (fx->verdict == MX_CHANGING) {
        h->d->lagging = true;
        return;
    }
    if (!h->behind) {
        h->conf.adopt = false; /* until the daemon is started again */
        mx_log(MX_LOG_WARN, "run.adopt", "run=%s error=\"%s\"", h->conf.name,
               fx->verdict == MX_TOO_MANY_CHANGES
                   ? "its domains have changed as often as a run can keep: new shards are left out"
                   : "new shards can't be taken");
        return;
    }
    if (fx->verdict == MX_TOO_MUCH_GONE || fx->verdict == MX_TOO_MANY_CHANGES) {
        (void)snprintf(h->failed, sizeof h->failed, "%s", fx->verdict == MX_TOO_MUCH_GONE
                       ? "over half of a domain's samples have been withdrawn: it can't go on"
                       : "more has been withdrawn than a run can keep in mind: it can't go on");
        mx_log(MX_LOG_ERROR, "run.failed", "run=%s error=\"%s\"", h->conf.name, h->failed);
        return;
    }
    mx_log(MX_LOG_WARN, "run.sync", "run=%s verdict=%d", h->conf.name, (int)fx->verdict);
}

bool mx_sync_all_have(struct mx_daemon *d, uint32_t domain, uint32_t serial)
{
    for (uint32_t i = 0; i < d->n_hosts; i++) {
        struct mx_host *h = d->hosts[i];

        for (uint32_t j = 0; j < h->conf.k && h->failed[0] == '\0'; j++) {
            if (h->record.domains[j].id == domain && mx_run_withdrawn(h->core, j) < serial) {
                return false;
            }
        }
    }
    return true;
}
