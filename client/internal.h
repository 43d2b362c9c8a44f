/* internal.h - what the parts of libmixclient share.
 *
 * A job is one thing that needs an exchange with the daemon: a hello, an operation, a range of
 * slots, a post. pump.c puts jobs on calls, asks again when a reply says so or doesn't come, and
 * hands good replies to the job. Everything here belongs to the thread that uses the client; only
 * net_nng.c has others. */
#ifndef MXC_INTERNAL_H
#define MXC_INTERNAL_H

#include "client/mixclient.h"
#include "client/net.h"
#include "proto/msg.h"

#define MXC_FOREVER INT64_MAX
/* Calls of a client: hello, one operation, posts, batches. */
#define MXC_CALL_HELLO 0u
#define MXC_CALL_SYNC 1u
#define MXC_CALL_POST 2u
#define MXC_CALL_BATCH (MXC_CALL_POST + MX_CLIENT_POST_CALLS)
#define MXC_CALLS (MXC_CALL_BATCH + MX_CLIENT_CALLS_MAX)

/* ---- errors ---- */

/* Fills *err (may be NULL); returns code. */
int mxc_fail(struct mxc_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A peer's nonsense, as proto/ describes it. */
int mxc_fail_proto(struct mxc_error *err, const struct mx_err *e);
void mxc_copy_error(struct mxc_error *to, const struct mxc_error *from); /* to may be NULL */
/* Bytes of the peer's as one terminated line; control characters become '?'. */
void mxc_copy_text(char *to, size_t n, struct mx_span text);

/* ---- jobs ---- */

struct mxc_job;

struct mxc_job_ops {
    uint16_t type; /* enum mx_message */
    /* An operation that must not be done twice: not sent again once it may have arrived. */
    bool once;
    /* Appends the body of the request. */
    void (*encode)(struct mxc_job *job, struct mx_writer *w);
    /* An OK reply. *msg is the whole frame; taken by setting *msg to NULL. The job is idle, and may
     * be started again from here. A code and *err if the reply makes no sense. */
    int (*reply)(struct mxc_job *job, struct mx_span body, struct mxc_msg **msg,
                 struct mxc_error *err);
    /* It won't be done: a refusal, or nonsense. The job is idle. */
    void (*failed)(struct mxc_job *job, const struct mxc_error *err);
};

enum mxc_job_state { MXC_JOB_IDLE, MXC_JOB_PENDING, MXC_JOB_ASKED };

struct mxc_job {
    const struct mxc_job_ops *ops;
    enum mxc_job_state state;
    unsigned call;          /* while asked */
    uint64_t id;            /* of the request */
    int64_t not_before_ns;  /* while pending */
    int64_t resend_ns;      /* while asked */
    int64_t patience_ns;    /* how long a reply may take before the request is sent again */
    uint64_t replies;       /* that the client had when this was asked */
    uint64_t *retries;      /* counts each repetition; borrowed, may be NULL */
    uint32_t put_off;       /* the last reply's status, WAIT or BUSY, or OK */
    char put_off_text[160]; /* and its text */
    uint64_t skipped_to;    /* when it failed with MXC_SKIPPED: the step to go on at */
};

/* ---- batches ---- */

/* A range of slots of a fetch, asked for until all of it is there. */
struct mxc_range {
    struct mxc_job job;
    struct mxc_fetch *fetch;
    uint32_t index;      /* which range of the fetch */
    uint32_t slot, left; /* what is still to come; left 0: this one rests */
    uint32_t token;      /* of the first slot, if it comes in parts */
};

/* Document starts of one range, as they came. */
struct mxc_starts {
    uint32_t *p;
    uint32_t n, cap;
};

/* A batch with what it owns. */
struct mxc_full {
    struct mxc_batch pub; /* must be first: mxc_batch_free finds the rest by it */
    float *weights;       /* NULL if the run has none */
    struct mxc_msg *msg;  /* the tokens lie in it, if not NULL */
    void *token_buf;      /* or here */
    uint64_t *samples;
    uint32_t *tables; /* domains, epochs, start_index: 3 * slots + 1 */
    uint32_t *starts;
};

enum mxc_fetch_state { MXC_FETCH_OPEN, MXC_FETCH_COMPLETE, MXC_FETCH_FAILED };

struct mxc_fetch {
    struct mxc_run *run;
    uint64_t step;
    struct mxc_part part; /* in which the step lies */
    uint32_t first_slot, slots;
    uint32_t per_range, range_count; /* ranges of per_range slots each, the last maybe shorter */
    uint32_t range_next, range_done;
    uint32_t n_ranges;
    struct mxc_range *ranges;  /* n_ranges of them work through the range_count */
    struct mxc_starts *starts; /* range_count */
    struct mxc_full *full;     /* NULL until the first reply */
    enum mxc_fetch_state state;
    bool current; /* somebody waits for it: a failure counts */
    struct mxc_error error;
    uint64_t skipped_to; /* when the error is MXC_SKIPPED: the step to go on at, > step */
};

/* NULL if there is no memory. Its ranges are pending. */
struct mxc_fetch *mxc_fetch_new(struct mxc_run *r, uint64_t step, uint32_t first, uint32_t slots);
void mxc_fetch_free(struct mxc_fetch *f); /* gives up what is asked; NULL is fine */
/* A complete fetch's batch; the fetch is freed. */
struct mxc_batch *mxc_fetch_take(struct mxc_fetch *f);

/* ---- posts ---- */

struct mxc_post {
    struct mxc_job job;
    struct mxc_client *client;
    struct mxc_run *run; /* NULL once detached */
    uint64_t order;
    uint8_t *body; /* owned */
    size_t n;
};

/* Forgets the run in its undelivered posts. */
void mxc_posts_detach(struct mxc_run *r);
/* Frees every post. */
void mxc_posts_clear(struct mxc_client *c);

/* ---- the client ---- */

/* What a daemon said when last a connection was made. */
struct mxc_hello {
    struct mxc_job job;
    struct mxc_client *client;
    uint64_t epoch; /* that it has answered in; 0: none yet */
    bool ok;
    uint64_t store; /* of the first answer */
    bool have_store;
    struct mxc_error error; /* if !ok */
    char server[MX_NAME_MAX + 1];
};

/* One operation that the caller is waiting for. */
struct mxc_sync {
    struct mxc_job job;
    const void *body; /* borrowed */
    size_t n;
    struct mxc_msg *msg; /* the reply */
    struct mx_span reply;
    struct mxc_error error;
};

struct mxc_client {
    struct mxc_net *net;
    char *url;
    char name[MX_NAME_MAX + 1];
    int64_t timeout_ms;
    uint32_t inflight;
    uint64_t last_id;
    bool closing;
    bool renew;               /* the socket is to be replaced */
    int64_t down_since_ns;    /* 0: it is connected */
    int64_t down_patience_ns; /* how long it may be down before it is replaced */
    struct mxc_hello hello;
    struct mxc_sync *sync;    /* the operation in progress, or NULL */
    struct mxc_fetch *direct; /* the batch that mxc_slots_at waits for, or NULL */
    struct mxc_run *runs;
    struct mxc_post *posts[MX_CLIENT_POSTS_MAX]; /* NULL: free */
    uint32_t n_posts;
    uint64_t posts_made;
    struct mxc_job *calls[MXC_CALLS]; /* what each call is for, or NULL */
    uint8_t *frame;                   /* MX_REQUEST_MAX bytes to build requests in */
};

struct mxc_run {
    struct mxc_client *client;
    struct mxc_run *next;
    struct mxc_run_info info;
    char name[MX_NAME_MAX + 1];
    char **names; /* owned: of the domains, then of each eval set and its members */
    uint32_t name_count;
    uint32_t n_eval_sets, eval_sizes[MX_EVAL_SETS_MAX]; /* as the daemon has them; maybe none */
    struct mxc_eval_set *eval_sets;                     /* owned */
    uint32_t id, rank, world;
    struct mxc_part *parts;    /* owned, info.n_parts */
    uint32_t *slots_per_reply; /* owned, of each part */
    uint64_t step; /* that mxc_next returns next */
    bool started;
    uint64_t returned;                               /* the step it returned last, if started */
    struct mxc_fetch *ahead[MX_CLIENT_INFLIGHT_MAX]; /* step s at s % inflight */
    struct {
        uint64_t step, version;
    } versions[MX_CLIENT_INFLIGHT_MAX]; /* of batches handed out, for feedback */
    struct mxc_wait_stats wait;
    struct mxc_feedback_counts counts;
    struct mxc_error refused; /* the first refusal since the last flush; code 0 if none */
    uint32_t undelivered;
};

/* ---- run.c ---- */

/* The slots of this rank in a step of so many; *ret_first: the first. */
uint32_t mxc_rank_slots(const struct mxc_run *r, uint32_t batch_size, uint32_t *ret_first);
/* How many slots of a step to ask for at once. */
uint32_t mxc_slots_per_reply(const struct mxc_run *r, uint64_t step);

/* ---- report.c ---- */

/* Appends a report's sections, sorted and checked; the writer fails if they don't fit. */
int mxc_report_encode(const struct mxc_run *r, const struct mxc_report *report,
                      struct mx_writer *w, struct mxc_error *err);

/* ---- pump.c ---- */

/* Makes an idle job pending. */
void mxc_job_start(struct mxc_job *job, int64_t now_ns);
/* Idle, whatever it was. */
void mxc_job_stop(struct mxc_client *c, struct mxc_job *job);
/* Takes replies in and sends what is due. Returns when something is due next. */
int64_t mxc_pump(struct mxc_client *c, int64_t now_ns);
/* Pumps until done(arg). 0, or MXC_TIMEOUT or MXC_UNREACHABLE at the deadline, or what the daemon's
 * last hello has failed with. */
int mxc_block(struct mxc_client *c, bool (*done)(const void *arg), const void *arg,
              int64_t deadline_ns, struct mxc_error *err);
/* Now plus the client's timeout. */
int64_t mxc_deadline(const struct mxc_client *c);

/* ---- sync.c ---- */

/* One operation with a body: its reply's message, to be freed by the caller, and the body in it. */
int mxc_exchange(struct mxc_client *c, const struct mxc_job_ops *ops, const void *body, size_t n,
                 int64_t deadline_ns, struct mxc_msg **ret_msg, struct mx_span *ret_body,
                 struct mxc_error *err);
extern const struct mxc_job_ops mxc_attach_ops, mxc_control_ops, mxc_stats_ops;

/* ---- hello.c ---- */

void mxc_hello_init(struct mxc_client *c);

#endif
