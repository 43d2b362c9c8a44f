/* task.h - questions that take longer than the loop may: a thread for each, a few at a time.
 *
 * Fillers are for batches alone: a look through a whole journal must not stand in a trainer's way.
 * A task is embedded in what it works on. All calls are the loop's. */
#ifndef MX_DAEMON_TASK_H
#define MX_DAEMON_TASK_H

#include "daemon/inbox.h"

#include <stdbool.h>

/* Tasks at once; more are refused BUSY. */
#define MX_TASKS_MAX 4u

struct mx_tasks;

struct mx_task {
    struct mx_inbox_item item;
    uv_thread_t thread;
    struct mx_tasks *owner;
    void (*work)(struct mx_task *t); /* on its thread; reads what never changes meanwhile */
    void (*done)(struct mx_task *t); /* on the loop, afterwards; frees the task */
};

/* NULL if memory is out. */
struct mx_tasks *mx_tasks_new(struct mx_inbox *inbox);
/* MX_EBUSY if there are too many; then the task is still the caller's. */
int mx_task_start(struct mx_tasks *tasks, struct mx_task *t, struct mx_err *err) MX_MUST_CHECK;
/* Asks those that run to end early, and lets none begin. */
void mx_tasks_stop(struct mx_tasks *tasks);
/* Whether it is to end early; for long work to look at now and then, on its thread. */
bool mx_task_stopped(const struct mx_task *t);
uint32_t mx_tasks_running(const struct mx_tasks *tasks);

#endif
