/* metrics.c - what Prometheus scrapes: its text exposition format 0.0.4.
 *
 * Names follow its conventions: unit suffixes, _total for counters. Label values come from run and
 * domain names, whose alphabet needs no escaping. */
#include "daemon/daemon.h"
#include "daemon/explain.h"
#include "daemon/fill.h"

#include <inttypes.h>
#include <math.h>

static void head(FILE *f, const char *name, const char *type, const char *help)
{
    (void)fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(FILE *f, const char *name, const char *type, const char *help, double value)
{
    head(f, name, type, help);
    (void)fprintf(f, "%s %.17g\n", name, value);
}

static void write_latency(FILE *f, const struct mx_daemon *d)
{
    uint64_t sum = 0;

    head(f, "mixd_batch_seconds", "histogram",
         "Time from a batch request's arrival to its reply, within the daemon.");
    for (unsigned i = 0; i < 24; i++) {
        sum += d->latency[i];
        (void)fprintf(f, "mixd_batch_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
                      (double)((uint64_t)1 << i) / 1e6, sum);
    }
    for (unsigned i = 24; i < 32; i++) {
        sum += d->latency[i];
    }
    (void)fprintf(f, "mixd_batch_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n"
                  "mixd_batch_seconds_sum %.17g\nmixd_batch_seconds_count %" PRIu64 "\n",
                  sum, (double)d->latency_sum_us / 1e6, sum);
}

static void write_daemon(FILE *f, struct mx_daemon *d)
{
    struct mx_net_stats n;
    struct mx_fills_stats r;
    struct mx_shardset_stats s;
    struct mx_writer_stats w;
    char why[256];

    mx_net_get_stats(d->net, &n);
    mx_fills_get_stats(d, &r);
    mx_shardset_get_stats(d->shards, &s);
    mx_writer_get_stats(d->writer, &w);
    head(f, "mixd_build_info", "gauge", "The daemon's version.");
    (void)fprintf(f, "mixd_build_info{version=\"%s\"} 1\n", MIXD_VERSION);
    one(f, "mixd_healthy", "gauge", "1 while the daemon can keep its promises.",
        mx_healthy(d, why, sizeof why));
    one(f, "mixd_uptime_seconds", "gauge", "Since the daemon started.",
        (double)(uv_hrtime() - d->started_ns) / 1e9);
    head(f, "mixd_replies_total", "counter", "Replies by status.");
#define STATUS_LINE(code, name, text)                                                             \
    (void)fprintf(f, "mixd_replies_total{status=\"%s\"} %" PRIu64 "\n", #name, d->statuses[code]);
    MX_STATUSES(STATUS_LINE)
    one(f, "mixd_requests_total", "counter", "Requests received.", (double)d->requests);
    one(f, "mixd_requests_malformed_total", "counter", "Requests that didn't decode.",
        (double)d->malformed);
    one(f, "mixd_requests_dropped_total", "counter", "Requests left without a reply.",
        (double)n.dropped);
    one(f, "mixd_connections", "gauge", "Open connections.", (double)(n.opened - n.closed));
    one(f, "mixd_connections_expelled_total", "counter",
        "Connections closed because the peer did not read or broke the protocol.",
        (double)n.expelled);
    one(f, "mixd_connections_refused_total", "counter",
        "Connections closed at once because there were too many.", (double)n.refused);
    one(f, "mixd_requests_open", "gauge", "Requests in the daemon now.", n.requests);
    one(f, "mixd_queued_bytes", "gauge", "Replies that peers have not read yet.",
        (double)n.queued_bytes);
    one(f, "mixd_descriptors", "gauge", "Open descriptors.", d->watch.open);
    one(f, "mixd_sent_bytes_total", "counter", "Bytes of replies sent.", (double)n.sent_bytes);
    one(f, "mixd_ready_batches", "gauge", "Batches filled ahead.", r.ready);
    one(f, "mixd_ready_bytes", "gauge", "Memory of batches filled ahead.", (double)r.ready_bytes);
    one(f, "mixd_fills_total", "counter", "Batches filled.", (double)r.filled);
    one(f, "mixd_fills_dropped_total", "counter", "Batches filled in vain: the mix had changed.",
        (double)r.dropped);
    one(f, "mixd_block_hits_total", "counter", "Compressed blocks found in the cache.",
        (double)s.hits);
    one(f, "mixd_block_misses_total", "counter", "Compressed blocks decompressed.",
        (double)s.misses);
    one(f, "mixd_damaged_reads_total", "counter", "Reads that failed a checksum.",
        (double)s.damaged);
    one(f, "mixd_open_shards", "gauge", "Shard files open.", s.open);
    one(f, "mixd_journal_commits_total", "counter", "Durable commits.", (double)w.commits);
    one(f, "mixd_journal_commit_seconds_total", "counter", "Time spent in durable commits.",
        (double)w.commit_ns / 1e9);
    one(f, "mixd_journal_queue", "gauge", "Jobs that wait for a commit.", w.queued);
    one(f, "mixd_log_warnings_total", "counter", "Warnings logged.",
        (double)mx_log_count(MX_LOG_WARN));
    one(f, "mixd_log_errors_total", "counter", "Errors logged.",
        (double)mx_log_count(MX_LOG_ERROR));
    write_latency(f, d);
}

static double policy_value(struct mx_host *h, const struct mx_run_view *v, unsigned which)
{
    const struct mx_mixer_conf *c = mx_run_mixer(h->core, 0);
    struct mx_mixer_counts n = mx_mixer_counts(mx_run_mixer_state(h->core, 0));
    uint32_t k = h->conf.k;
    const uint64_t *told = v->n_shares > k && v->mix_version > 0 ? v->shares + k : v->shares;

    switch (which) {
    case 0: return mx_explain_kl(told, c->policy.prior, k);
    case 1: return mx_explain_effective(told, k);
    case 2: return (double)n.updates;
    case 3: return (double)n.clipped;
    case 4: return (double)n.filled;
    case 5: return (double)n.stale;
    case 6: return (double)n.broken;
    default: return v->working;
    }
}

static double run_value(struct mx_host *h, const struct mx_run_view *v, unsigned which)
{
    switch (which) {
    case 0: return (double)v->frontier;
    case 1: return (double)v->mix_version;
    case 2: return (double)h->batches;
    case 3: return (double)h->bytes;
    case 4: return (double)v->accepted;
    case 5: return (double)v->quarantined;
    case 6: return (double)v->last_delay;
    case 7: return h->hits + h->misses > 0 ? (double)h->misses : 0;
    case 8: return h->n_held;
    case 9: return (double)h->diverged;
    case 10: return v->branch;
    default: return policy_value(h, v, which - 11);
    }
}

static const struct {
    const char *name, *type, *help;
} run_metrics[] = {
    {"mixd_run_frontier_step", "gauge", "First step of the run that is not planned yet."},
    {"mixd_run_mix_version", "gauge", "Version of the mix in force."},
    {"mixd_run_batches_total", "counter", "Batch replies sent."},
    {"mixd_run_sent_bytes_total", "counter", "Bytes of batch replies sent."},
    {"mixd_run_feedback_total", "counter", "Feedback reports accepted."},
    {"mixd_run_feedback_quarantined_total", "counter", "Losses left out as not finite or out of range."},
    {"mixd_run_feedback_delay_steps", "gauge", "Steps from a feedback to the first step it moved."},
    {"mixd_run_ready_misses_total", "counter", "Batches that were not ready when asked for."},
    {"mixd_run_held_requests", "gauge", "Requests held until their step is ready."},
    {"mixd_run_feedback_diverged_total", "counter",
     "Reports that were posted again with other losses."},
    {"mixd_run_branch", "gauge", "Times that the run was rewound."},
    {"mixd_run_prior_divergence_nats", "gauge", "KL divergence of the mix in force to the prior."},
    {"mixd_run_effective_domains", "gauge", "Exponential of the entropy of the mix in force."},
    {"mixd_run_policy_updates_total", "counter", "Steps that the policy has learned from."},
    {"mixd_run_policy_clipped_total", "counter", "Losses that were clipped for the policy."},
    {"mixd_run_policy_filled_total", "counter", "Values filled in for domains that a step lacked."},
    {"mixd_run_policy_stale_total", "counter", "Steps not shown to the policy, being stale."},
    {"mixd_run_policy_broken_total", "counter", "Weights of the policy that were refused."},
    {"mixd_run_policy_working", "gauge", "1 while the policy waits for a long computation."},
};

static double domain_value(struct mx_host *h, const struct mx_run_view *v, uint32_t i,
                           unsigned which)
{
    switch (which) {
    case 0: return (double)v->shares[i] / (double)MX_SHARE_ONE;
    case 1: return (double)mx_run_drawn(h->core, i);
    case 2: return (double)mx_run_drawn(h->core, i) * (double)h->conf.unit;
    case 3: return mx_epochs(h, i, v->cursors[i]);
    case 4: return mx_outlook(h, i) != UINT64_MAX ? (double)mx_outlook(h, i) : NAN;
    default: return v->loss[i];
    }
}

static const struct {
    const char *name, *type, *help;
} domain_metrics[] = {
    {"mixd_domain_share", "gauge", "Target share of the domain in the mix in force."},
    {"mixd_domain_samples_total", "counter", "Samples drawn."},
    {"mixd_domain_tokens_total", "counter", "Tokens drawn."},
    {"mixd_domain_epochs", "gauge", "Passes over the domain's samples."},
    {"mixd_domain_steps_left", "gauge",
     "Steps until the domain reaches its max_epochs under the mix in force; absent for never."},
    {"mixd_domain_loss_nats", "gauge", "Mean training loss last reported, in nats per token."},
};

/* One series a run, or a run's domain; a value that isn't known yet has no line. */
static void write_runs(FILE *f, struct mx_daemon *d)
{
    struct mx_run_view v;

    for (unsigned m = 0; m < sizeof run_metrics / sizeof run_metrics[0]; m++) {
        head(f, run_metrics[m].name, run_metrics[m].type, run_metrics[m].help);
        for (uint32_t i = 0; i < d->n_hosts; i++) {
            struct mx_host *h = d->hosts[i];
            if (h->failed[0] == '\0') {
                mx_run_view(h->core, &v);
                double x = run_value(h, &v, m);
                if (isfinite(x)) {
                    (void)fprintf(f, "%s{run=\"%s\"} %.17g\n", run_metrics[m].name, h->conf.name,
                                  x);
                }
            }
        }
    }
    for (unsigned m = 0; m < sizeof domain_metrics / sizeof domain_metrics[0]; m++) {
        head(f, domain_metrics[m].name, domain_metrics[m].type, domain_metrics[m].help);
        for (uint32_t i = 0; i < d->n_hosts; i++) {
            struct mx_host *h = d->hosts[i];
            if (h->failed[0] != '\0') {
                continue;
            }
            mx_run_view(h->core, &v);
            for (uint32_t j = 0; j < h->conf.k; j++) {
                double x = domain_value(h, &v, j, m);
                if (isfinite(x)) {
                    (void)fprintf(f, "%s{run=\"%s\",domain=\"%s\"} %.17g\n",
                                  domain_metrics[m].name, h->conf.name, h->conf.domains[j].name, x);
                }
            }
        }
    }
}

static void write_parts(FILE *f, struct mx_daemon *d)
{
    head(f, "mixd_run_feedback_quarantined_reports_total", "counter",
         "Reports with values left out since the daemon started, by the first part that had one.");
    for (uint32_t i = 0; i < d->n_hosts; i++) {
        for (unsigned p = 0; p < MX_REPORT_PARTS && d->hosts[i]->failed[0] == '\0'; p++) {
            (void)fprintf(f, "mixd_run_feedback_quarantined_reports_total{run=\"%s\",part=\"%s\"} %"
                          PRIu64 "\n", d->hosts[i]->conf.name, mx_policy_part(p),
                          d->hosts[i]->quarantined[p]);
        }
    }
}

char *mx_metrics(struct mx_daemon *d, size_t *ret_n)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, ret_n);

    if (f == NULL) {
        return NULL;
    }
    write_daemon(f, d);
    write_runs(f, d);
    write_parts(f, d);
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
