/* daemon.h - the one object that everything in the daemon hangs from, and the hosted run.
 *
 * The loop thread owns all of it. Who else touches what: fillers read a fill's own fields, the
 * catalog and the shard set (both safe from any thread) and the immutable parts of a host (views,
 * plan, names); the writer thread reads jobs' bytes. Nothing else crosses threads. */
#ifndef MX_DAEMON_DAEMON_H
#define MX_DAEMON_DAEMON_H

#include "daemon/config.h"
#include "daemon/core/run.h"
#include "daemon/net.h"
#include "daemon/runconf.h"
#include "daemon/writer.h"
#include "proto/msg.h"
#include "store/shardset.h"
#include "store/view.h"

struct mx_http;
struct mx_fills;

/* What dashboards see of a trainer: the last rank-and-world that asked or reported. */
struct mx_trainer {
    uint32_t rank, world;
    uint64_t step, feedback_step;
    uint64_t batches, reports;
    uint64_t seen_ms; /* monotonic */
};

#define MX_TRAINERS_MAX 1024u

/* A run in memory. */
struct mx_host {
    struct mx_daemon *d;
    uint32_t id;
    uint64_t created_ms;
    struct mx_run_record record;         /* owns config and domains */
    struct mx_runconf conf;
    struct mx_view *views;               /* k, immutable */
    struct mx_plan_domain *plan_domains; /* k, immutable */
    struct mx_plan_spec plan;            /* immutable */
    struct mx_run *core;
    uint32_t width, eod, slots_per_reply;
    char failed[MX_TEXT_MAX];            /* why the run can't be served, or "" */
    uint32_t pending;                    /* entries being made durable */
    struct mx_req *held, **held_tail;
    uint32_t n_held;
    uv_timer_t timer;
    uint64_t jobs;                       /* all jobs with the writer, to know when it is free */
    uint64_t ahead;                      /* steps to fill ahead: the setting, or more if needed */
    /* for stats */
    uint64_t statuses[MX_STATUS_COUNT];
    uint64_t batches, samples, bytes, hits, misses;
    struct mx_trainer *trainers;         /* MX_TRAINERS_MAX */
    uint32_t n_trainers;
};

/* What watch.c keeps. */
struct mx_watch {
    uint64_t looked_ns;
    uint64_t limit;  /* of descriptors */
    uint32_t open;   /* descriptors, as last counted */
    bool warned;
};

struct mx_daemon {
    struct mx_config config;
    const char *config_path;
    uv_loop_t loop;
    struct mx_inbox inbox;
    struct mx_net *net;
    struct mx_reply_pool *replies;
    struct mx_catalog *catalog;
    struct mx_journal *journal;          /* where it lives is main.c's business */
    struct mx_shardset *shards;
    struct mx_writer_thread *writer;
    struct mx_fills *fills;
    struct mx_http *http;
    uv_signal_t signals[3];
    uv_timer_t tick;
    char urls[MX_LISTEN_MAX][MX_PATH_MAX];
    char http_address[256];
    int ready_fd;
    int lock_fd;
    bool draining;                       /* stopping: new work is refused */
    int stop_code;
    uint64_t stop_deadline_ns;
    char stop_why[256];
    struct mx_host *hosts[MX_RUNS_MAX];
    uint32_t n_hosts;
    uint32_t next_run;                   /* id of the next run */
    uint64_t generation;                 /* of the catalog, as last seen */
    uint64_t started_ns;
    uint64_t statuses[MX_STATUS_COUNT];
    uint64_t requests, malformed;
    uint64_t latency[32];                /* batch replies by log2 of microseconds in the daemon */
    uint64_t latency_sum_us;
    struct mx_watch watch;
};

/* ---- host.c: runs come and go ---- */
struct mx_host *mx_host_find(struct mx_daemon *d, const char *name);
struct mx_host *mx_host_by_id(struct mx_daemon *d, uint32_t id);
/* Every run of the catalog, its state folded from snapshot and journal. A run whose journal is
 * damaged is hosted as failed, with the entry's index in the text; the others are served. */
int mx_hosts_load(struct mx_daemon *d, struct mx_err *err) MX_MUST_CHECK;
/* A new run from its config; it is served once its first entry is durable. The reply to req (a
 * control request) follows by itself. On failure req is still the caller's. */
int mx_host_create(struct mx_daemon *d, struct mx_req *req, const char *config, size_t n,
                   const char *name, const char *author, struct mx_err *err) MX_MUST_CHECK;
/* "active", "stopped", "exhausted", "ended" or "failed". */
const char *mx_host_state(struct mx_host *h);

/* ---- host_events.c: the core's events and effects ---- */
uint64_t mx_now_ms(void); /* monotonic */
/* Hands an event to the core and does what it says. */
void mx_host_event(struct mx_host *h, struct mx_event *ev);
void mx_host_effects(struct mx_host *h, const struct mx_effects *fx, struct mx_req *set_req);
/* Answers WAIT to requests that have been held for too long. */
void mx_host_sweep(struct mx_host *h, uint64_t now_ns);
/* A job of the writer for this run with one or two puts; bytes become the job's. */
struct mx_host_job;
int mx_host_append(struct mx_host *h, const struct mx_entry *e, struct mx_req *req,
                   const struct mx_effect *fx, const struct mx_run_record *record);

/* ---- serve.c: requests from the wire ---- */
void mx_serve_request(void *daemon, struct mx_req *req);
/* A batch request that the core has been asked about before (held), once more. */
void mx_serve_again(struct mx_daemon *d, struct mx_req *req);
/* Replies with a status that isn't OK and a text, counted against h if there is one. */
void mx_serve_refuse(struct mx_daemon *d, struct mx_host *h, struct mx_req *req,
                     enum mx_status status, uint32_t wait_ms, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
/* Refuses as the core's verdict says. */
void mx_serve_verdict(struct mx_host *h, struct mx_req *req, const struct mx_effect *fx);
void mx_serve_feedback_done(struct mx_host *h, struct mx_req *req, uint64_t entry,
                            enum mx_feedback_outcome outcome, uint32_t quarantined,
                            const char *text);
/* A reply of type (MX_MSG_CONTROL or MX_MSG_STATS) with JSON; takes the text over. */
void mx_serve_json(struct mx_daemon *d, struct mx_req *req, char *json, size_t n);
struct mx_trainer *mx_trainer_seen(struct mx_host *h, uint32_t rank, uint32_t world);

/* ---- ops.c: control operations ---- */
void mx_ops_control(struct mx_daemon *d, struct mx_req *req, const char *json, size_t n);
/* The reply to mix.set and run.stop, when the entry is durable; mix: the entry made by it or NULL.*/
void mx_ops_set_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *mix);
void mx_ops_stop_done(struct mx_host *h, struct mx_req *req);
void mx_ops_create_done(struct mx_host *h, struct mx_req *req);

/* ---- stats.c, metrics.c, page.c: what dashboards see; text malloc'ed, NULL if memory is out ---- */
char *mx_stats_daemon(struct mx_daemon *d, size_t *ret_n);
char *mx_stats_run(struct mx_host *h, size_t *ret_n);
void mx_stats_run_summary(struct mx_host *h, struct mx_jsonw *w, const char *key);
char *mx_metrics(struct mx_daemon *d, size_t *ret_n);
char *mx_page(struct mx_daemon *d, size_t *ret_n);
bool mx_healthy(struct mx_daemon *d, char *why, size_t n);

#endif
