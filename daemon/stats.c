/* stats.c - what dashboards see, as JSON. Reads the loop's objects, changes none. */
#include "daemon/daemon.h"
#include "daemon/fill.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define STATS_MAX (64u << 20)

static void write_statuses(struct mx_jsonw *w, const uint64_t *statuses)
{
    mx_jsonw_object(w, "replies");
#define STATUS_COUNT(code, name, text) mx_jsonw_u64(w, #name, statuses[code]);
    MX_STATUSES(STATUS_COUNT)
    mx_jsonw_end_object(w);
}

/* Of the step at the frontier. */
static void write_batch(struct mx_jsonw *w, const struct mx_host *h, uint64_t frontier)
{
    mx_jsonw_u64(w, "batch_size", mx_plan_part_of(&h->plan, frontier).batch);
    mx_jsonw_u64(w, "seq_len", mx_host_seq_len(h, frontier));
}

static void write_parts(struct mx_jsonw *w, const struct mx_host *h)
{
    mx_jsonw_array(w, "parts");
    for (uint32_t i = 0; i < h->conf.n_parts; i++) {
        const struct mx_plan_part *p = &h->conf.parts[i];

        mx_jsonw_object(w, NULL);
        mx_jsonw_u64(w, "from_step", p->from_step);
        mx_jsonw_u64(w, "batch_size", p->batch);
        mx_jsonw_u64(w, "seq_len", mx_host_seq_len(h, p->from_step));
        mx_jsonw_end_object(w);
    }
    mx_jsonw_end_array(w);
}

/* Of the step at the frontier: numbered from 0, what comes before the first that is listed too. */
static void write_phase(struct mx_jsonw *w, const struct mx_host *h, const struct mx_run_view *v)
{
    const struct mx_runconf_phase *p;

    if (h->conf.n_phases == 0) {
        return;
    }
    p = h->conf.phases + v->phase;
    mx_jsonw_object(w, "phase");
    mx_jsonw_u64(w, "number", v->phase);
    mx_jsonw_string(w, "name", p->name);
    mx_jsonw_string(w, "kind", mx_phase_kind_name(p->kind));
    mx_jsonw_u64(w, "from_step", p->from);
    if (v->phase + 1 < h->conf.n_phases) {
        mx_jsonw_u64(w, "next_step", p[1].from);
    } else {
        mx_jsonw_null(w, "next_step");
    }
    mx_jsonw_end_object(w);
}

void mx_stats_run_summary(struct mx_host *h, struct mx_jsonw *w, const char *key)
{
    struct mx_run_view v;

    mx_jsonw_object(w, key);
    mx_jsonw_string(w, "name", h->conf.name);
    mx_jsonw_string(w, "state", mx_host_state(h));
    if (h->failed[0] != '\0') {
        mx_jsonw_string(w, "error", h->failed);
        mx_jsonw_end_object(w);
        return;
    }
    mx_run_view(h->core, &v);
    mx_jsonw_string(w, "policy", h->conf.mixers[0].policy.ops->name);
    mx_jsonw_u64(w, "frontier", v.frontier);
    if (v.end_step != UINT64_MAX) {
        mx_jsonw_u64(w, "end_step", v.end_step);
    } else {
        mx_jsonw_null(w, "end_step");
    }
    mx_jsonw_u64(w, "mix_version", v.mix_version);
    write_batch(w, h, v.frontier);
    mx_jsonw_u64(w, "domain_count", h->conf.k);
    mx_jsonw_u64(w, "created_ms", h->created_ms);
    mx_jsonw_end_object(w);
}

static void write_u64_or_null(struct mx_jsonw *w, const char *key, uint64_t v)
{
    if (v != UINT64_MAX) {
        mx_jsonw_u64(w, key, v);
    } else {
        mx_jsonw_null(w, key);
    }
}

static uint64_t gone_of(const struct mx_plan_domain *m)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < m->n_gone; i++) {
        n += m->gone[i].count;
    }
    return n;
}

/* What the operator should know without looking at every number. */
static void write_warnings(struct mx_host *h, struct mx_jsonw *w)
{
    char text[256];

    mx_jsonw_array(w, "warnings");
    for (uint32_t i = 0; i < h->conf.k; i++) {
        uint64_t left = h->conf.domains[i].max_epochs > 0 ? mx_outlook(h, i) : UINT64_MAX;

        if (left > h->conf.warn_steps) {
            continue;
        }
        if (left > 0) {
            (void)snprintf(text, sizeof text, "domain %s runs out in %" PRIu64 " steps",
                           h->conf.domains[i].name, left);
        } else {
            (void)snprintf(text, sizeof text, "domain %s is used up", h->conf.domains[i].name);
        }
        mx_jsonw_string(w, NULL, text);
    }
    if (h->diverged > 0) {
        (void)snprintf(text, sizeof text, "%" PRIu64 " reports that were posted again differ from "
                       "the journal, the last one of step %" PRIu64 ", rank %" PRIu32, h->diverged,
                       h->divergence.step, h->divergence.rank);
        mx_jsonw_string(w, NULL, text);
    }
    mx_jsonw_end_array(w);
}

static void write_domains(struct mx_host *h, const struct mx_run_view *v, struct mx_jsonw *w)
{
    double drawn = 0;

    for (uint32_t i = 0; i < h->conf.k; i++) {
        drawn += (double)mx_run_drawn(h->core, i);
    }
    mx_jsonw_array(w, "domains");
    for (uint32_t i = 0; i < h->conf.k; i++) {
        const struct mx_runconf_domain *c = &h->conf.domains[i];
        const struct mx_limit *l = mx_runconf_limit(&h->conf, v->frontier, i);
        const struct mx_plan_domain *m = &mx_run_domains(h->core)[i];
        uint64_t n = mx_series_samples(m, v->cursors[i]), own = mx_run_drawn(h->core, i);

        mx_jsonw_object(w, NULL);
        mx_jsonw_string(w, "name", c->name);
        mx_jsonw_double(w, "share", (double)v->shares[i] / (double)MX_SHARE_ONE);
        mx_jsonw_double(w, "weight", v->weights[i]);
        mx_jsonw_double(w, "achieved", drawn > 0 ? (double)own / drawn : 0);
        mx_jsonw_u64(w, "samples", n);
        mx_jsonw_u64(w, "drawn", own);
        mx_jsonw_u64(w, "tokens", own * h->conf.unit);
        mx_jsonw_double(w, "epoch", mx_epochs(h, i, v->cursors[i]));
        mx_jsonw_double(w, "loss", v->loss[i]);
        if (isnan(v->loss[i])) {
            mx_jsonw_null(w, "loss_step");
        } else {
            mx_jsonw_u64(w, "loss_step", v->loss_step[i]);
        }
        mx_jsonw_double(w, "floor", l->floor);
        mx_jsonw_double(w, "ceiling", l->ceiling);
        mx_jsonw_double(w, "pin", l->pin);
        mx_jsonw_double(w, "max_epochs", c->max_epochs > 0 ? c->max_epochs : NAN);
        mx_jsonw_u64(w, "withdrawn_samples", gone_of(m));
        write_u64_or_null(w, "runs_out_in_steps", mx_outlook(h, i));
        mx_jsonw_end_object(w);
    }
    mx_jsonw_end_array(w);
}

static void write_trainers(struct mx_host *h, struct mx_jsonw *w)
{
    uint64_t now = mx_now_ms();

    mx_jsonw_array(w, "trainers");
    for (uint32_t i = 0; i < h->n_trainers; i++) {
        const struct mx_trainer *t = &h->trainers[i];

        mx_jsonw_object(w, NULL);
        mx_jsonw_u64(w, "rank", t->rank);
        mx_jsonw_u64(w, "world", t->world);
        mx_jsonw_u64(w, "step", t->step);
        mx_jsonw_u64(w, "feedback_step", t->feedback_step);
        mx_jsonw_u64(w, "batches", t->batches);
        mx_jsonw_u64(w, "reports", t->reports);
        mx_jsonw_double(w, "seen_s_ago", (double)(now - t->seen_ms) / 1000);
        mx_jsonw_end_object(w);
    }
    mx_jsonw_end_array(w);
}

static void write_feedback(const struct mx_host *h, const struct mx_run_view *v,
                           struct mx_jsonw *w)
{
    mx_jsonw_object(w, "feedback");
    mx_jsonw_u64(w, "accepted", v->accepted);
    mx_jsonw_u64(w, "duplicates", v->duplicates);
    mx_jsonw_u64(w, "late", v->late);
    mx_jsonw_u64(w, "quarantined_losses", v->quarantined);
    mx_jsonw_u64(w, "evals", v->evals);
    mx_jsonw_u64(w, "rewards", v->rewards);
    mx_jsonw_u64(w, "grads", v->grads);
    mx_jsonw_u64(w, "scores", v->scores);
    mx_jsonw_u64(w, "steps_skipped", v->steps_skipped);
    mx_jsonw_u64(w, "nonfinite_losses", v->nonfinite);
    mx_jsonw_u64(w, "timeouts", v->timeouts);
    mx_jsonw_u64(w, "below_quorum", v->below_quorum);
    mx_jsonw_u64(w, "diverged", h->diverged);
    if (h->diverged > 0) {
        mx_jsonw_object(w, "last_divergence");
        mx_jsonw_u64(w, "step", h->divergence.step);
        mx_jsonw_u64(w, "rank", h->divergence.rank);
        mx_jsonw_string(w, "part", h->divergence.part);
        mx_jsonw_string(w, "domain", h->divergence.name);
        mx_jsonw_double(w, "was", h->divergence.was);
        mx_jsonw_double(w, "now", h->divergence.now);
        mx_jsonw_end_object(w);
    }
    if (h->conf.lag > 0) {
        mx_jsonw_u64(w, "lag", h->conf.lag);
        mx_jsonw_u64(w, "consumed", v->consumed);
    }
    mx_jsonw_u64(w, "steps_closed", v->steps_closed);
    mx_jsonw_u64(w, "last_closed", v->last_closed);
    mx_jsonw_u64(w, "delay_steps", v->last_delay);
    mx_jsonw_u64(w, "open_steps", v->open_steps);
    mx_jsonw_end_object(w);
}

/* The last evaluation of each member that has been reported. */
static void write_evals(const struct mx_host *h, const struct mx_run_view *v, struct mx_jsonw *w)
{
    const double *loss = v->eval_loss;
    const uint64_t *step = v->eval_step;

    mx_jsonw_array(w, "eval_sets");
    for (uint32_t i = 0; i < h->conf.n_eval_sets; i++) {
        const struct mx_runconf_evals *e = &h->conf.eval_sets[i];

        mx_jsonw_object(w, NULL);
        mx_jsonw_string(w, "name", e->name);
        mx_jsonw_array(w, "members");
        for (uint32_t j = 0; j < e->m; j++, loss++, step++) {
            if (!isnan(*loss)) {
                mx_jsonw_object(w, NULL);
                mx_jsonw_string(w, "name", e->members[j]);
                mx_jsonw_double(w, "loss", *loss);
                mx_jsonw_u64(w, "step", *step);
                mx_jsonw_end_object(w);
            }
        }
        mx_jsonw_end_array(w);
        mx_jsonw_end_object(w);
    }
    mx_jsonw_end_array(w);
}

char *mx_stats_run(struct mx_host *h, size_t *ret_n)
{
    char digest[24];
    struct mx_run_view v;
    struct mx_jsonw w;

    mx_run_view(h->core, &v);
    mx_jsonw_init(&w, STATS_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "name", h->conf.name);
    mx_jsonw_string(&w, "state", mx_host_state(h));
    mx_jsonw_string(&w, "policy", h->conf.mixers[0].policy.ops->name);
    mx_jsonw_string(&w, "sampling", mx_sampling_name(h->conf.sampling));
    mx_jsonw_u64(&w, "seed", h->conf.seed);
    write_batch(&w, h, v.frontier);
    write_parts(&w, h);
    write_phase(&w, h, &v);
    mx_jsonw_u64(&w, "width", h->width);
    mx_jsonw_u64(&w, "frontier", v.frontier);
    mx_jsonw_u64(&w, "reserved", v.reserved);
    if (v.end_step != UINT64_MAX) {
        mx_jsonw_u64(&w, "end_step", v.end_step);
    } else {
        mx_jsonw_null(&w, "end_step");
    }
    mx_jsonw_u64(&w, "mix_version", v.mix_version);
    mx_jsonw_u64(&w, "mix_step", v.mix_step);
    mx_jsonw_u64(&w, "next_version", v.next_version);
    mx_jsonw_u64(&w, "next_step", v.next_step);
    mx_jsonw_u64(&w, "journal_entries", v.applied);
    mx_jsonw_u64(&w, "first_step", v.first_step);
    mx_jsonw_u64(&w, "branch", v.branch);
    (void)snprintf(digest, sizeof digest, "%016" PRIx64, v.digest);
    mx_jsonw_string(&w, "digest", digest);
    mx_jsonw_u64(&w, "batches", h->batches);
    mx_jsonw_u64(&w, "samples", h->samples);
    mx_jsonw_u64(&w, "bytes", h->bytes);
    mx_jsonw_u64(&w, "ready_hits", h->hits);
    mx_jsonw_u64(&w, "ready_misses", h->misses);
    mx_jsonw_u64(&w, "held", h->n_held);
    write_statuses(&w, h->statuses);
    write_warnings(h, &w);
    write_feedback(h, &v, &w);
    write_domains(h, &v, &w);
    write_evals(h, &v, &w);
    write_trainers(h, &w);
    mx_jsonw_object(&w, "policy_detail");
    mx_policy_detail(h, &w);
    mx_jsonw_end_object(&w);
    mx_jsonw_raw(&w, "config", h->record.config);
    mx_jsonw_end_object(&w);
    return mx_jsonw_take(&w, ret_n);
}

static void write_store(struct mx_daemon *d, struct mx_jsonw *w)
{
    struct mx_shardset_stats s;
    struct mx_writer_stats wr;
    struct mx_err err;
    uint64_t used = 0, size = 0;

    mx_shardset_get_stats(d->shards, &s);
    mx_writer_get_stats(d->writer, &wr);
    mx_jsonw_object(w, "store");
    if (mx_catalog_usage(d->catalog, &used, &size, &err) == 0) {
        mx_jsonw_u64(w, "catalog_bytes", used);
        mx_jsonw_u64(w, "catalog_bytes_max", size);
    }
    mx_jsonw_u64(w, "commits", wr.commits);
    mx_jsonw_u64(w, "commit_jobs", wr.jobs);
    mx_jsonw_u64(w, "commit_queue", wr.queued);
    mx_jsonw_double(w, "commit_s_max", (double)wr.commit_ns_max / 1e9);
    mx_jsonw_bool(w, "journal_ok", wr.broken == 0);
    mx_jsonw_u64(w, "block_hits", s.hits);
    mx_jsonw_u64(w, "block_misses", s.misses);
    mx_jsonw_u64(w, "raw_reads", s.raw_reads);
    mx_jsonw_u64(w, "damaged_reads", s.damaged);
    mx_jsonw_u64(w, "cache_bytes", s.cache_bytes);
    mx_jsonw_u64(w, "cache_bytes_max", s.cache_bytes_max);
    mx_jsonw_u64(w, "open_shards", s.open);
    mx_jsonw_end_object(w);
}

static void write_network(struct mx_daemon *d, struct mx_jsonw *w)
{
    struct mx_net_stats n;

    mx_net_get_stats(d->net, &n);
    mx_jsonw_object(w, "network");
    mx_jsonw_u64(w, "connections", n.opened - n.closed);
    mx_jsonw_u64(w, "connections_opened", n.opened);
    mx_jsonw_u64(w, "connections_expelled", n.expelled);
    mx_jsonw_u64(w, "requests", d->requests);
    mx_jsonw_u64(w, "requests_malformed", d->malformed);
    mx_jsonw_u64(w, "requests_dropped", n.dropped);
    mx_jsonw_u64(w, "connections_refused", n.refused);
    mx_jsonw_u64(w, "connections_paused", n.paused);
    mx_jsonw_u64(w, "requests_open", n.requests);
    mx_jsonw_u64(w, "queued_bytes", n.queued_bytes);
    mx_jsonw_u64(w, "sent_bytes", n.sent_bytes);
    mx_jsonw_end_object(w);
}

/* Resident memory, and what of it isn't backed by a file. */
static void write_process(struct mx_daemon *d, struct mx_jsonw *w)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long long size, resident, shared;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    if (f == NULL) {
        return; /* no descriptor left: the answer is still worth sending */
    }
    if (fscanf(f, "%llu %llu %llu", &size, &resident, &shared) == 3) {
        mx_jsonw_object(w, "process");
        mx_jsonw_u64(w, "resident_bytes", resident * page);
        mx_jsonw_u64(w, "private_bytes", (resident - shared) * page);
        mx_jsonw_u64(w, "descriptors", d->watch.open);
        mx_jsonw_u64(w, "descriptors_max", d->watch.limit);
        mx_jsonw_end_object(w);
    }
    (void)fclose(f);
}

char *mx_stats_daemon(struct mx_daemon *d, size_t *ret_n)
{
    struct mx_fills_stats f;
    struct mx_jsonw w;
    char why[256];

    mx_fills_get_stats(d, &f);
    mx_jsonw_init(&w, STATS_MAX);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "version", MIXD_VERSION);
    mx_jsonw_double(&w, "uptime_s", (double)(uv_hrtime() - d->started_ns) / 1e9);
    mx_jsonw_bool(&w, "healthy", mx_healthy(d, why, sizeof why));
    write_statuses(&w, d->statuses);
    mx_jsonw_object(&w, "ready");
    mx_jsonw_u64(&w, "batches", f.ready);
    mx_jsonw_u64(&w, "bytes", f.ready_bytes);
    mx_jsonw_u64(&w, "filling", f.filling);
    mx_jsonw_u64(&w, "filled", f.filled);
    mx_jsonw_u64(&w, "dropped", f.dropped);
    mx_jsonw_u64(&w, "kept", f.kept);
    mx_jsonw_u64(&w, "expired", f.expired);
    mx_jsonw_end_object(&w);
    write_network(d, &w);
    write_store(d, &w);
    write_process(d, &w);
    mx_jsonw_array(&w, "runs");
    for (uint32_t i = 0; i < d->n_hosts; i++) {
        mx_stats_run_summary(d->hosts[i], &w, NULL);
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_end_object(&w);
    return mx_jsonw_take(&w, ret_n);
}

bool mx_healthy(struct mx_daemon *d, char *why, size_t n)
{
    struct mx_writer_stats wr;

    mx_writer_get_stats(d->writer, &wr);
    why[0] = '\0';
    if (wr.broken != 0) {
        (void)snprintf(why, n, "the journal can't be written (%s)", mx_error_meaning(wr.broken));
    } else if (d->draining) {
        (void)snprintf(why, n, "stopping");
    }
    return why[0] == '\0';
}
