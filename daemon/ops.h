/* ops.h - what the files of control operations share. See ops.c. The loop's. */
#ifndef MX_DAEMON_OPS_H
#define MX_DAEMON_OPS_H

#include "daemon/daemon.h"
#include "daemon/task.h"
#include "daemon/why.h"
#include "proto/json.h"

#define MX_ANSWER_MAX (64u << 20) /* of one JSON text; the wire's own limit comes on top */
/* What one page of a long answer may have: with what stands around it, it fits one reply. */
#define MX_PAGE_MAX 120000u

struct mx_op {
    struct mx_daemon *d;
    struct mx_req *req;
    const struct mx_json_doc *doc;
    const mx_json *o;
};

/* Each operation: 0: answered, or will be, and req is taken over; else *err says what to answer. */
int mx_op_info(const struct mx_op *op, struct mx_err *err);
int mx_op_domain_ls(const struct mx_op *op, struct mx_err *err);
int mx_op_domain_show(const struct mx_op *op, struct mx_err *err);
int mx_op_domain_rm(const struct mx_op *op, struct mx_err *err);
int mx_op_domain_adopt(const struct mx_op *op, struct mx_err *err);
int mx_op_domain_withdraw(const struct mx_op *op, struct mx_err *err);
int mx_op_run_create(const struct mx_op *op, struct mx_err *err);
int mx_op_run_ls(const struct mx_op *op, struct mx_err *err);
int mx_op_run_show(const struct mx_op *op, struct mx_err *err);
int mx_op_run_stop(const struct mx_op *op, struct mx_err *err);
int mx_op_run_skip(const struct mx_op *op, struct mx_err *err);
int mx_op_run_rewind(const struct mx_op *op, struct mx_err *err);
int mx_op_run_fork(const struct mx_op *op, struct mx_err *err);
int mx_op_run_replay(const struct mx_op *op, struct mx_err *err);
int mx_op_run_compact(const struct mx_op *op, struct mx_err *err);
int mx_op_run_log(const struct mx_op *op, struct mx_err *err);
int mx_op_step_show(const struct mx_op *op, struct mx_err *err);
int mx_op_where(const struct mx_op *op, struct mx_err *err);
int mx_op_mix_show(const struct mx_op *op, struct mx_err *err);
int mx_op_mix_set(const struct mx_op *op, struct mx_err *err);
int mx_op_policy_show(const struct mx_op *op, struct mx_err *err);
int mx_op_plan(const struct mx_op *op, struct mx_err *err);

/* The answers to operations whose entry e is durable and applied. */
void mx_op_set_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *e);
void mx_op_skip_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *e);
void mx_op_rewind_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *e);
void mx_op_adopt_done(struct mx_host *h, struct mx_req *req, const struct mx_entry *e);
/* A run's summary as the answer. */
void mx_op_send_summary(struct mx_host *h, struct mx_req *req);

/* A run has refused what the request asked of it. */
void mx_op_adopt_refused(struct mx_daemon *d, const struct mx_req *req);

/* ---- helpers ---- */
/* Where what made a run's mixes is read; the ground must be held. */
struct mx_why_source mx_op_whence(const struct mx_host *h, const struct mx_ground *ground);
/* "FILE:BYTE" into its parts. */
int mx_op_origin(const char *text, char *ret_path, size_t n, uint64_t *ret_byte,
                 struct mx_err *err) MX_MUST_CHECK;
void mx_op_send(struct mx_daemon *d, struct mx_req *req, struct mx_jsonw *w); /* takes w */
void mx_op_refuse(struct mx_daemon *d, struct mx_req *req, const struct mx_err *err);
/* Whether what the journal said is a refusal of this job alone. */
bool mx_op_refused(int rc);
/* Answers a request whose job, one without an entry, was refused or failed. */
void mx_op_unwritten(struct mx_daemon *d, struct mx_req *req, const struct mx_err *err);
/* The run that key "run" names, or NULL with *err set. A failed run is found only if `any`. */
struct mx_host *mx_op_run(const struct mx_op *op, bool any, struct mx_err *err);
/* Keys author and why into an entry; they are borrowed from the request. */
int mx_op_author(const struct mx_op *op, struct mx_entry *e, struct mx_err *err) MX_MUST_CHECK;
/* The number of a run's domain, or -1. */
int mx_op_domain_index(const struct mx_host *h, const char *name);

#endif
