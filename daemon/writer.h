/* writer.h - the one thread that appends to the journal; many jobs, one group.
 *
 * The loop puts jobs; the thread takes all that are queued, commits them together and puts them
 * into the inbox, so that their `done` runs on the loop, in order. A commit that fails breaks the
 * writer for good: the failed jobs and all later ones come back with the error and nothing more is
 * written, since what a failed sync left behind can't be trusted, and a run that lost an entry
 * can't go on. A job without an entry may be refused alone; and where the store is full, such jobs
 * are still tried, since compacting is what helps. */
#ifndef MX_DAEMON_WRITER_H
#define MX_DAEMON_WRITER_H

#include "daemon/inbox.h"
#include "store/journal.h"

#define MX_JOB_PUTS 5

struct mx_job {
    struct mx_inbox_item item;
    struct mx_job *next;
    struct mx_put puts[MX_JOB_PUTS]; /* bytes belong to the job's owner until done */
    uint32_t n_puts;
    void (*done)(struct mx_job *job, int rc, const struct mx_err *err); /* on the loop */
    int rc;
    struct mx_err *err; /* if rc isn't 0, or NULL where memory was out */
};

struct mx_writer_thread;

int mx_writer_start(struct mx_journal *journal, struct mx_inbox *inbox,
                    struct mx_writer_thread **ret, struct mx_err *err) MX_MUST_CHECK;
void mx_writer_put(struct mx_writer_thread *w, struct mx_job *job); /* the loop */
/* Commits what is queued and ends the thread; completions are in the inbox when it returns. */
void mx_writer_stop(struct mx_writer_thread *w);

struct mx_writer_stats {
    uint64_t commits, jobs, commit_ns, commit_ns_max;
    uint32_t queued;
    int broken; /* 0, or the code of the commit that failed */
};
void mx_writer_get_stats(struct mx_writer_thread *w, struct mx_writer_stats *ret);

#endif
