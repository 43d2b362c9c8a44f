/* report.h - what one rank reports of a step, as the core takes it.
 *
 * Reports come from the wire (here) and from files (report_json.h). Pure but for malloc; any
 * thread. */
#ifndef MX_DAEMON_REPORT_H
#define MX_DAEMON_REPORT_H

#include "daemon/core/run.h"
#include "proto/err.h"
#include "proto/msg.h"

/* The pieces of a report's memory, which is one. */
struct mx_report_rooms {
    struct mx_loss *losses;
    struct mx_eval_loss *evals;
    struct mx_reward *rewards;
    struct mx_score *scores;
    double *gram;
    uint32_t *gram_domains;
};

struct mx_report {
    struct mx_entry entry;        /* of kind FEEDBACK: all parts, ready for MX_EV_FEEDBACK */
    struct mx_report_rooms rooms; /* what its pointers point to, to be written */
    void *memory;                 /* owned */
};

/* What a feedback request says. MX_EPROTOCOL if its sections make no sense, MX_ENOMEM. */
int mx_report_decode(const struct mx_feedback_request *m, struct mx_report *ret,
                     struct mx_err *err) MX_MUST_CHECK;
void mx_report_clear(struct mx_report *r);

/* Makes room for so many of each, in one piece, and points the entry to it. */
int mx_report_room(struct mx_report *r, size_t losses, size_t evals, size_t rewards, size_t scores,
                   size_t gram, struct mx_err *err) MX_MUST_CHECK;

#endif
