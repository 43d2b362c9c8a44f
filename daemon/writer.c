/* writer.c - see writer.h. */
#include "daemon/writer.h"

#include "daemon/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#define GROUP_PUTS 1024u

struct mx_writer_thread {
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t wake;
    struct mx_job *head, **tail; /* under lock, as is all up to stats */
    bool stop;
    struct mx_writer_stats stats;
    /* the thread's own */
    struct mx_journal *journal;
    struct mx_inbox *inbox;
    struct mx_put puts[GROUP_PUTS];
    int broken;        /* as in stats */
    struct mx_err err; /* of the last failure */
    struct mx_err why; /* of the one that broke it */
};

static void job_handle(struct mx_inbox_item *item)
{
    struct mx_job *job = (struct mx_job *)((char *)item - offsetof(struct mx_job, item));
    struct mx_err *err = job->err;
    struct mx_err none = {.code = job->rc, .text = "out of memory"};

    job->done(job, job->rc, err != NULL ? err : &none);
    free(err);
}

/* What a job failed with, copied: the next failure may come before the loop looks. */
static void fail_job(struct mx_job *job, int rc, const struct mx_err *err)
{
    job->rc = rc;
    job->err = malloc(sizeof *job->err);
    if (job->err != NULL) {
        *job->err = *err;
    }
}

static void stop_writing(struct mx_writer_thread *w, int rc)
{
    w->broken = rc;
    w->why = w->err;
    mx_log(MX_LOG_ERROR, "journal.broken",
           "error=\"%s\" effect=\"nothing more is written until a restart\"", w->err.text);
}

/* Takes from the front of *list as many jobs as fit one transaction. */
static size_t take_group(struct mx_writer_thread *w, struct mx_job **list, struct mx_job **ret)
{
    size_t n = 0;
    struct mx_job **end = list;

    while (*end != NULL && n + (*end)->n_puts <= GROUP_PUTS) {
        for (uint32_t i = 0; i < (*end)->n_puts; i++) {
            w->puts[n++] = (*end)->puts[i];
        }
        end = &(*end)->next;
    }
    *ret = *list;
    *list = *end;
    *end = NULL;
    return n;
}

/* A refusal: nothing was written, and what is durable is known. */
static bool refused(int rc)
{
    return rc == MX_EEXISTS || rc == MX_EINVALID || rc == MX_ENOTFOUND;
}

static bool has_entry(const struct mx_job *job)
{
    for (uint32_t i = 0; i < job->n_puts; i++) {
        if (job->puts[i].kind == MX_PUT_ENTRY) {
            return true;
        }
    }
    return false;
}

/* Jobs of a group that failed, each by itself. One that holds no entry may be refused alone; after
 * a lost entry a run's journal can't go on, and what is written has to stop. */
static void commit_each(struct mx_writer_thread *w, struct mx_job *group)
{
    for (struct mx_job *job = group; job != NULL; job = job->next) {
        bool full = w->broken == MX_EFULL && !has_entry(job); /* compacting is what helps */
        const struct mx_err *err = &w->why;
        int rc = w->broken;

        if (rc == 0 || full) {
            rc = mx_journal_append(w->journal, job->puts, job->n_puts, &w->err);
            err = &w->err;
            if (rc != 0 && w->broken == 0 && (has_entry(job) || !refused(rc))) {
                stop_writing(w, rc);
            }
        }
        if (rc != 0) {
            fail_job(job, rc, err);
        }
    }
}

static void commit_group(struct mx_writer_thread *w, struct mx_job *group, size_t n_puts)
{
    uint64_t start = uv_hrtime();
    uint64_t took, jobs = 0, commits = 0;
    int rc = w->broken != 0 ? w->broken : mx_journal_append(w->journal, w->puts, n_puts, &w->err);

    if (rc == 0) {
        commits = 1;
    } else {
        if (w->broken == 0 && !refused(rc)) {
            stop_writing(w, rc);
        }
        commit_each(w, group);
    }
    took = uv_hrtime() - start;
    while (group != NULL) {
        struct mx_job *next = group->next;
        commits += rc != 0 && group->rc == 0;
        mx_inbox_put(w->inbox, &group->item);
        group = next;
        jobs++;
    }
    uv_mutex_lock(&w->lock);
    w->stats.broken = w->broken;
    w->stats.commits += commits;
    w->stats.jobs += jobs;
    w->stats.queued -= (uint32_t)jobs;
    w->stats.commit_ns += took;
    w->stats.commit_ns_max = took > w->stats.commit_ns_max ? took : w->stats.commit_ns_max;
    uv_mutex_unlock(&w->lock);
}

static void writer_main(void *arg)
{
    struct mx_writer_thread *w = arg;

    for (;;) {
        struct mx_job *list, *group;

        uv_mutex_lock(&w->lock);
        while (w->head == NULL && !w->stop) {
            uv_cond_wait(&w->wake, &w->lock);
        }
        list = w->head;
        w->head = NULL;
        w->tail = &w->head;
        uv_mutex_unlock(&w->lock);
        if (list == NULL) {
            return; /* stopped, and nothing left */
        }
        while (list != NULL) {
            size_t n = take_group(w, &list, &group);
            commit_group(w, group, n);
        }
    }
}

int mx_writer_start(struct mx_journal *journal, struct mx_inbox *inbox,
                    struct mx_writer_thread **ret, struct mx_err *err)
{
    struct mx_writer_thread *w = calloc(1, sizeof *w);
    int rc;

    if (w == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for the writer");
    }
    w->tail = &w->head;
    w->journal = journal;
    w->inbox = inbox;
    if ((rc = uv_mutex_init(&w->lock)) != 0 || (rc = uv_cond_init(&w->wake)) != 0 ||
        (rc = uv_thread_create(&w->thread, writer_main, w)) != 0) {
        free(w);
        return mx_fail(err, MX_EIO, "writer thread: %s", uv_strerror(rc));
    }
    *ret = w;
    return 0;
}

void mx_writer_put(struct mx_writer_thread *w, struct mx_job *job)
{
    MX_REQUIRE(job->n_puts <= MX_JOB_PUTS);
    job->item.handle = job_handle;
    job->next = NULL;
    job->rc = 0;
    job->err = NULL;
    uv_mutex_lock(&w->lock);
    *w->tail = job;
    w->tail = &job->next;
    w->stats.queued++;
    uv_cond_signal(&w->wake);
    uv_mutex_unlock(&w->lock);
}

void mx_writer_stop(struct mx_writer_thread *w)
{
    uv_mutex_lock(&w->lock);
    w->stop = true;
    uv_cond_signal(&w->wake);
    uv_mutex_unlock(&w->lock);
    (void)uv_thread_join(&w->thread);
}

void mx_writer_get_stats(struct mx_writer_thread *w, struct mx_writer_stats *ret)
{
    uv_mutex_lock(&w->lock);
    *ret = w->stats;
    uv_mutex_unlock(&w->lock);
}
