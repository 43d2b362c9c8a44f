/* mixclient.h - the C client of mixd: libmixclient.
 *
 * Open a daemon, attach to a run as rank r of w, take batches, post losses:
 *
 *     struct mxc_client *c;
 *     struct mxc_run *run;
 *     struct mxc_batch *b;
 *     struct mxc_error err;
 *
 *     if (mxc_open("tcp://127.0.0.1:7117", NULL, &c, &err) < 0 ||
 *         mxc_attach(c, "demo", 0, 1, 0, &run, &err) < 0) { puts(err.text); exit(1); }
 *     while (mxc_next(run, &b, &err) == 0) {
 *         ... train on b->tokens ...
 *         mxc_feedback(run, b->step, losses, n, &err);
 *         mxc_batch_free(b);
 *     }
 *
 * Batches are addressed: the batch of (run, step, rank, world) is the same bytes whenever and from
 * wherever it is asked for. The library keeps a number of them in flight, splits large ones,
 * reconnects and asks again by itself; every call ends within its timeout. An outage is
 * MXC_TIMEOUT or MXC_UNREACHABLE, never MXC_END.
 *
 * Threads: a client and all that comes from it belong to one thread at a time; different clients
 * are independent. Every call returns 0 or a negative code and puts one line of text into *err
 * (which may be NULL). A client doesn't survive a fork: open it in the process that uses it.
 *
 * Memory: up to `inflight` + 1 batches of a run, 8 MiB of replies on their way, and at most 256
 * undelivered posts. A daemon that comes back with another store at the same address is
 * MXC_PROTOCOL, as its batches would be other ones; the first store may come back. */
#ifndef MIXCLIENT_H
#define MIXCLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MXC_API __attribute__((visibility("default")))

enum mxc_code {
    MXC_OK = 0,
    MXC_NOMEM = -1,
    MXC_INVALID = -2,      /* the arguments, or what the daemon was asked, make no sense */
    MXC_TIMEOUT = -3,      /* a daemon is there but gave no answer in time */
    MXC_UNREACHABLE = -4,  /* no daemon answered in time */
    MXC_END = -5,          /* the run is over: no such step will ever come */
    MXC_EXHAUSTED = -6,    /* the run stops because a domain has no samples left */
    MXC_GONE = -7,         /* the run, or its data, was removed */
    MXC_DENIED = -8,
    MXC_PROTOCOL = -9,     /* the peer isn't a mixd, speaks another version, or sent nonsense */
    MXC_DAMAGED = -10,     /* the daemon's stored data fails its checksum */
    MXC_BUSY = -11,        /* the daemon was too busy until the timeout */
    MXC_SKIPPED = -12,     /* an operator has this step passed over; the text names the next one */
};

struct mxc_error {
    int code;
    char text[1024];
};

struct mxc_client;
struct mxc_run;

struct mxc_options {
    const char *name;       /* shown to operators; default: the program's name and pid */
    int64_t timeout_ms;     /* for every call; default 30000; -1: wait for ever */
    uint32_t inflight;      /* batches asked for ahead by mxc_next; default 3, 1..64 */
};

/* url: tcp://HOST:PORT or ipc://PATH. options may be NULL; copied. Connects in the background:
 * returns MXC_UNREACHABLE if no daemon says hello within the timeout. */
MXC_API int mxc_open(const char *url, const struct mxc_options *options, struct mxc_client **ret,
                     struct mxc_error *err);
/* Never blocks for long; frees every run and outstanding request of the client. Batches already
 * handed out stay valid until freed. NULL is fine. */
MXC_API void mxc_close(struct mxc_client *c);

/* What a run's policy is evaluated on: reports name a set and a member by their numbers. */
struct mxc_eval_set {
    const char *name;
    uint32_t member_count;
    const char *const *members;
};

/* A run's batches from a step on. */
struct mxc_part {
    uint64_t from_step;  /* of the first part 0 */
    uint32_t batch_size; /* samples in a global step */
    uint32_t seq_len;    /* tokens in a sample */
};

/* What a run is, fixed for its life. Borrowed from the run. A run may change its batches' size and
 * its samples' length at fixed steps: then it has several parts, and batch_size and seq_len are
 * those of start_step. */
struct mxc_run_info {
    const char *name;
    uint32_t batch_size;        /* samples in a global step */
    uint32_t seq_len;           /* tokens in a sample */
    const struct mxc_part *parts; /* rising; 1 at least */
    uint32_t n_parts;
    uint32_t width;             /* bytes of a token: 2 or 4 */
    uint32_t eod;               /* end-of-document token, UINT32_MAX for none */
    uint64_t end_step;          /* first step that doesn't exist; UINT64_MAX if unlimited */
    uint64_t frontier;          /* first step not planned when attached */
    uint32_t domain_count;
    const char *const *domains; /* names; an index into this is "domain" everywhere else */
    uint32_t eval_set_count;    /* 1 at least: a run that names none has "eval", its domains */
    const struct mxc_eval_set *eval_sets;
};

/* Attaches as rank of world (rank < world): this run object takes slots
 * [rank*B/world, (rank+1)*B/world) of each step, starting at start_step, B being the step's batch
 * size. MXC_INVALID if those are none in start_step or a later part of the run, as world is larger
 * than B. */
MXC_API int mxc_attach(struct mxc_client *c, const char *run, uint32_t rank, uint32_t world,
                       uint64_t start_step, struct mxc_run **ret, struct mxc_error *err);
/* Posts that aren't delivered yet still go out. NULL is fine. */
MXC_API void mxc_detach(struct mxc_run *r);
MXC_API const struct mxc_run_info *mxc_run_get_info(const struct mxc_run *r);

/* One rank's part of a step. Arrays are per sample (slots of them), owned by the batch. */
struct mxc_batch {
    uint64_t step;
    uint64_t mix_version;
    uint32_t first_slot, slots;
    uint32_t seq_len;
    uint32_t width;
    const void *tokens;          /* [slots][seq_len] of uint16_t or uint32_t in host order */
    const uint32_t *domains;     /* index into info.domains */
    const uint32_t *epochs;      /* how many times the domain had been seen in full before */
    const uint64_t *samples;     /* number of the sample in its domain; in a run of several lengths
                                    they are numbered in the shortest, and this is the first */
    const uint32_t *start_index; /* [slots + 1]: sample i's document starts are
                                    starts[start_index[i] .. start_index[i + 1]) */
    const uint32_t *starts;      /* token offsets in the sample at which a document begins */
    const float *weights;        /* [slots]: what each sample's loss counts in the batch's mean, in a
                                    run whose policy weighs the loss; their mean is expected to be 1.
                                    NULL in others */
    int eval_wanted;             /* the run's policy asks for an evaluation after this step, to be
                                    reported with it */
};

/* The batch size and length of a step. */
MXC_API struct mxc_part mxc_part_of(const struct mxc_run *r, uint64_t step);
/* The next step's batch, from start_step on; its slots and seq_len are those of the step. Steps that
 * an operator has passed over are left out: batch->step says which one it is. Blocks up to the
 * timeout; on MXC_TIMEOUT, BUSY and UNREACHABLE the same step is asked for by the next call. MXC_END
 * after the last step. */
MXC_API int mxc_next(struct mxc_run *r, struct mxc_batch **ret, struct mxc_error *err);
/* Any step, without changing where mxc_next is. MXC_SKIPPED if it is passed over. */
MXC_API int mxc_batch_at(struct mxc_run *r, uint64_t step, struct mxc_batch **ret,
                         struct mxc_error *err);
/* Any slots of a step, whatever the rank. */
MXC_API int mxc_slots_at(struct mxc_run *r, uint64_t step, uint32_t first_slot, uint32_t slots,
                         struct mxc_batch **ret, struct mxc_error *err);
/* Where mxc_next goes on; requests in flight are abandoned. */
MXC_API void mxc_seek(struct mxc_run *r, uint64_t step);
MXC_API void mxc_batch_free(struct mxc_batch *b); /* NULL is fine */

struct mxc_loss {
    uint32_t domain;  /* index into info.domains; each at most once, any order */
    uint32_t samples; /* 0 if not counted */
    uint64_t tokens;  /* how many tokens' losses are summed */
    double loss_sum;  /* nats */
};

/* Posts this rank's losses of a step. Returns at once; delivered in the background (retried over
 * reconnects) as long as the program makes calls on the client. A domain not seen is left out.
 * Errors of earlier posts come out of mxc_flush. MXC_BUSY if 256 posts are undelivered. */
MXC_API int mxc_feedback(struct mxc_run *r, uint64_t step, const struct mxc_loss *losses, size_t n,
                         struct mxc_error *err);

/* All that a rank can report of a step; every part may be empty. Lists may be in any order, each
 * thing at most once; what wasn't seen is left out, and never 0. */
struct mxc_eval_loss {
    uint32_t set, member; /* indexes into info.eval_sets and its members */
    uint32_t samples;     /* 0 if not counted */
    uint64_t tokens;
    double loss_sum;      /* nats */
};

struct mxc_reward {
    uint32_t domain;
    uint64_t count; /* of what is summed: |advantages|, accuracies, ... */
    double sum;
};

struct mxc_score {
    uint32_t domain;
    uint64_t sample; /* its number in the domain, as in mxc_batch.samples */
    double score;
};

#define MXC_FLAG_NONFINITE_LOSS 1u /* the step's loss was not finite */
#define MXC_FLAG_STEP_SKIPPED 2u   /* the optimiser skipped the step */

struct mxc_report {
    const struct mxc_loss *losses;
    size_t n_losses;
    const struct mxc_eval_loss *evals;
    size_t n_evals;
    const struct mxc_reward *rewards;
    size_t n_rewards;
    const struct mxc_score *scores;
    size_t n_scores;
    /* Inner products of the gradients of n_grad domains, at most 128: n_grad x n_grad numbers, row
     * by row, symmetric; lr: the step's learning rate, > 0. */
    const uint32_t *grad_domains;
    const double *gram;
    size_t n_grad;
    double lr;
    uint32_t flags; /* MXC_FLAG_ */
};

/* As mxc_feedback, which is the same with losses alone: one report of a rank and step, all in one
 * message of at most 256 KiB, some 10,900 losses, rewards and scores together. A matrix that isn't
 * symmetric, or a number that doesn't exist, is MXC_INVALID at once. */
MXC_API int mxc_report_post(struct mxc_run *r, uint64_t step, const struct mxc_report *report,
                            struct mxc_error *err);

/* Outcomes of the run's delivered posts so far. */
struct mxc_feedback_counts {
    uint64_t posted, accepted, duplicate, late, refused;
    uint64_t diverged;    /* posted before, with other losses: the first ones count */
    uint64_t quarantined; /* single losses that the daemon left out of accepted posts */
    char last_text[1024]; /* what the daemon last said about a refused or quarantined one, or "" */
};
MXC_API void mxc_feedback_get_counts(struct mxc_run *r, struct mxc_feedback_counts *ret);
/* Waits until every post has been acknowledged, i.e. is durable. MXC_INVALID with the daemon's text
 * if one was refused since the last flush. */
MXC_API int mxc_flush(struct mxc_run *r, struct mxc_error *err);

/* How long mxc_next has waited for data in all, and how often it didn't have to. */
struct mxc_wait_stats {
    uint64_t batches, ready, wait_ns, retries, reconnects, bytes;
};
MXC_API void mxc_get_wait_stats(struct mxc_run *r, struct mxc_wait_stats *ret);

/* One control operation: JSON in, JSON out (malloc'ed, terminated, for the caller to free).
 * docs/protocol.md lists the operations. MXC_INVALID etc. with the daemon's text. It isn't repeated
 * by itself: if the connection breaks after it was sent, MXC_UNREACHABLE says that it may or may
 * not have been done. */
MXC_API int mxc_control(struct mxc_client *c, const char *json, char **ret, struct mxc_error *err);
/* Statistics of a run, or of the daemon if run is NULL, as JSON. */
MXC_API int mxc_stats(struct mxc_client *c, const char *run, char **ret, struct mxc_error *err);

MXC_API const char *mxc_code_name(int code);
MXC_API const char *mxc_version(void);

#ifdef __cplusplus
}
#endif

#endif
