/* daemon.h - the one object that everything in the daemon hangs from, and the hosted run.
 *
 * The loop thread owns all of it. Who else touches what: fillers read a fill's own fields, the
 * catalog and the shard set (both safe from any thread) and the immutable parts of a host (views,
 * plan, names); the writer thread reads jobs' bytes. Nothing else crosses threads. */
#ifndef MX_DAEMON_DAEMON_H
#define MX_DAEMON_DAEMON_H

#include "daemon/config.h"
#include "daemon/ground.h"
#include "daemon/net.h"
#include "daemon/runconf.h"
#include "daemon/writer.h"
#include "proto/msg.h"
#include "store/shardset.h"
#include "store/view.h"

struct mx_http;
struct mx_fills;
struct mx_why_mix;

/* Parts that a report can have. */
#define MX_REPORT_PARTS 5u

/* What dashboards see of a trainer: the last rank-and-world that asked or reported. */
struct mx_trainer {
    uint32_t rank, world;
    uint64_t step, feedback_step;
    uint64_t batches, reports;
    uint64_t seen_ms; /* monotonic */
};

#define MX_TRAINERS_MAX 1024u

/* A report that was posted again, with other values. */
struct mx_divergence {
    uint64_t step;
    uint32_t rank;
    const char *part, *name; /* "train", ...; the domain or member of it that differs */
    double was, now;         /* means, or what the part has; NAN for none */
};

/* A run in memory. */
struct mx_host {
    struct mx_daemon *d;
    uint32_t id;
    uint64_t created_ms;
    struct mx_run_record record;         /* owns config and domains */
    struct mx_runconf conf;
    struct mx_view **views;              /* k; each immutable */
    struct mx_view **retired;            /* views of domains that have grown since: still read */
    uint32_t n_retired;
    struct mx_plan_domain *plan_domains; /* k: as the run began */
    struct mx_plan_spec plan;            /* likewise */
    uint32_t *takes_below;               /* what plan points to, if the run has parts */
    struct mx_run *core;
    bool draft;                          /* for a forecast: the loop doesn't know it */
    struct mx_ground *ground;            /* what fillers and look-ups read now */
    uint64_t plan_changes;               /* of the core, that the ground is as of */
    bool frozen;                         /* a rewind is being made */
    struct history *rewind;              /* which waits for the journal to stand still; history.c */
    bool behind;                         /* withdrawals that it must take before it plans a step,
                                            or it has yet to look for them */
    uint32_t width, eod;
    char failed[MX_TEXT_MAX];            /* why the run can't be served, or "" */
    struct mx_req *held, **held_tail;
    uint32_t n_held;
    uv_timer_t timer;
    uint64_t jobs;                       /* all jobs with the writer, to know when it is free */
    uint64_t ahead;                      /* steps to fill ahead: the setting, or more if needed */
    /* for stats */
    uint64_t statuses[MX_STATUS_COUNT];
    uint64_t batches, samples, bytes, hits, misses;
    uint64_t diverged;                   /* reports posted again with other losses */
    struct mx_divergence divergence;     /* the last of them */
    uint64_t quarantined[MX_REPORT_PARTS];      /* reports with values left out, by the first part that
                                            had one: mx_policy_part */
    struct mx_why_mix *why;              /* the newest mix as read last, or NULL; ops_policy.c */
    uint64_t why_version;
    uint8_t *low;                        /* k: that the domain runs out soon has been said */
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
    struct mx_tasks *tasks;
    struct mx_works *works;
    struct mx_logs *logs;
    bool lagging;                        /* a run has yet to take a change of a domain */
    struct adoption *adoptions;          /* that go from run to run: ops_change.c */
    struct mx_withdrawal *withdrawals;   /* the first is being recorded and taken by all runs, the
                                            others come after it: ops_change.c */
    uint64_t generation;                 /* of the catalog, as last seen */
    char journal_error[256];             /* why the journal can't be written any more, or "" */
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
                   const char *name, const struct mx_entry *author, struct mx_err *err)
    MX_MUST_CHECK;
/* A run that goes on from another's step, with its state in *from (step, words, shares, version,
 * author, why). As mx_host_create. */
int mx_host_fork(struct mx_host *source, struct mx_req *req, const char *name,
                 const struct mx_entry *from, struct mx_err *err) MX_MUST_CHECK;
/* A host for a forecast, put together from its config as by mx_host_create, but served to nobody and
 * unknown to the loop: opened, used and freed by any one thread. name as there. NULL if memory is
 * out. */
struct mx_host *mx_host_draft(struct mx_daemon *d, const char *config, size_t n, const char *name);
int mx_host_draft_open(struct mx_host *h, struct mx_err *err) MX_MUST_CHECK;
void mx_host_draft_free(struct mx_host *h);
/* A core of the run's own kind in fresh memory, to fold its journal into once more. NULL if memory
 * is out. */
struct mx_run *mx_host_blank_core(const struct mx_host *h);
/* Whether the run's policy weighs the loss: weights come with its batches. */
bool mx_host_weighted(const struct mx_host *h);
/* What applying an entry to a core of this run came to, as an error's text. */
int mx_host_applied(const struct mx_host *h, struct mx_run *run, const struct mx_entry *e,
                    enum mx_applied applied, struct mx_err *err) MX_MUST_CHECK;
/* Tokens in a slot of a step. */
uint32_t mx_host_seq_len(const struct mx_host *h, uint64_t step);
/* Slots of a step that surely fit one reply if documents are 64 tokens and longer; 1 at least. */
uint32_t mx_host_slots_per_reply(const struct mx_host *h, uint64_t step);
/* Brings the ground up to the core's changes of domains. */
void mx_host_refresh(struct mx_host *h);
/* "active", "stopped", "exhausted", "ended" or "failed". */
const char *mx_host_state(struct mx_host *h);

/* ---- host_events.c: the core's events and effects ---- */
uint64_t mx_now_ms(void); /* monotonic */
/* Hands an event to the core and does what it says. */
void mx_host_event(struct mx_host *h, struct mx_event *ev);
void mx_host_effects(struct mx_host *h, const struct mx_effects *fx);
/* Keeps a request until the next entry is applied, or the run thaws. */
void mx_host_hold(struct mx_host *h, struct mx_req *req);
/* Gives all of them to the core once more. */
void mx_host_again(struct mx_host *h);
/* Answers WAIT to requests that have been held for too long. */
void mx_host_sweep(struct mx_host *h, uint64_t now_ns);
/* Nothing more can be recorded: whoever waits for that is told. */
void mx_journal_failed(struct mx_daemon *d, const struct mx_err *err);
/* The index of the first entry of the branch of history to which a step belongs. */
uint64_t mx_host_branch_index(const struct mx_host *h, uint64_t step);
/* Makes an entry durable, with all that goes with it, and then applies it. */
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
/* Those who wait for entries of a journal: ops_log.c. NULL if memory is out. */
struct mx_logs *mx_logs_new(struct mx_daemon *d);
/* Answers whose entries have come, or whose time is up, or all. */
void mx_logs_look(struct mx_daemon *d, bool all);
/* Runs have taken withdrawals, or can't any more: whoever waits for that may be answered. */
void mx_ops_withdrawn(struct mx_daemon *d);
/* A run has taken one, with the entry e. */
void mx_ops_withdrawal_taken(struct mx_host *h, const struct mx_entry *e);
/* The answer to the operation that asked for an entry, when it is durable and applied. */
void mx_ops_entry_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *e);

/* ---- sync.c: runs follow what happens to their domains ---- */
/* Has every run take what its domains have got or lost since it last looked: shards where the next
 * epoch begins, withdrawals at once. At start, when the catalog changes and while a run lags. */
void mx_sync(struct mx_daemon *d);
void mx_sync_host(struct mx_host *h);
/* An entry of the run has been applied. */
void mx_sync_applied(struct mx_host *h, const struct mx_entry *e);
/* A change that nobody asked for by hand was refused by the core. */
void mx_sync_refused(struct mx_host *h, const struct mx_effect *fx);
/* Has one run take a domain's new shards; author, why: of who asked, or NULL. The answer to req
 * follows when the entry is applied. */
int mx_sync_adopt(struct mx_host *h, uint32_t domain, bool now, const struct mx_entry *author,
                  struct mx_req *req, struct mx_err *err) MX_MUST_CHECK;
/* Refuses to withdraw samples of a run's domain that the run couldn't do without, when the domain
 * has `grown` samples in all. */
int mx_sync_spares(struct mx_host *h, uint32_t domain, const struct mx_range *ranges, uint32_t n,
                   uint64_t grown, struct mx_err *err) MX_MUST_CHECK;
/* The samples that were withdrawn from a run's domain so far, malloc'ed, and the last withdrawal's
 * serial: 0 for none. */
int mx_sync_withdrawn(struct mx_host *h, uint32_t domain, struct mx_range **ret, uint32_t *ret_n,
                      uint32_t *ret_serial, struct mx_err *err) MX_MUST_CHECK;
/* Refuses a new run that can't do without what has been withdrawn from its domains. */
int mx_sync_check_new(struct mx_host *h, struct mx_err *err) MX_MUST_CHECK;
/* Whether all runs that use a domain have taken its withdrawals up to a serial, or can't be served
 * any more. */
bool mx_sync_all_have(struct mx_daemon *d, uint32_t domain, uint32_t serial);

/* ---- outlook.c: how far domains are, and which will run out ---- */
/* Steps from the frontier on until the domain has reached its budget, as far as is known;
 * UINT64_MAX: not within the run. */
uint64_t mx_outlook(struct mx_host *h, uint32_t domain);
/* Passes over the domain's samples, at a cursor. */
double mx_epochs(const struct mx_host *h, uint32_t domain, uint64_t cursor);
/* Says once of each domain that it runs out within warn_steps. */
void mx_outlook_tick(struct mx_host *h);

/* ---- history.c: going back, going on elsewhere, looking over all of it ---- */
/* The journal of a frozen run stands still: its rewind can be made. */
void mx_rewind_still(struct mx_host *h);

/* ---- again.c: reports that were posted before ---- */
/* Answers DUPLICATE, DIVERGED or LATE by what the journal holds; takes req over. */
void mx_again_check(struct mx_host *h, struct mx_req *req, bool late);

/* ---- ops_policy.c: what a run's policy does and why ---- */
/* Adds members to the object open in w; docs/protocol.md lists them. */
void mx_policy_detail(struct mx_host *h, struct mx_jsonw *w);
/* Frees what was read for it. */
void mx_policy_forget(struct mx_host *h);
/* An APPEND that leaves out values of a report is counted. */
void mx_policy_quarantined(struct mx_host *h, const struct mx_effect *fx);
const char *mx_policy_part(unsigned part); /* "train", ...; part < MX_REPORT_PARTS */

/* ---- stats.c, metrics.c, page.c: what dashboards see; malloc'ed, NULL if memory is out ---- */
char *mx_stats_daemon(struct mx_daemon *d, size_t *ret_n);
char *mx_stats_run(struct mx_host *h, size_t *ret_n);
void mx_stats_run_summary(struct mx_host *h, struct mx_jsonw *w, const char *key);
char *mx_metrics(struct mx_daemon *d, size_t *ret_n);
char *mx_page(struct mx_daemon *d, size_t *ret_n);
bool mx_healthy(struct mx_daemon *d, char *why, size_t n);

#endif
