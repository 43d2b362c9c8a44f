/* task.c - see task.h. */
#include "daemon/task.h"

#include <stdatomic.h>
#include <stddef.h>

struct mx_tasks {
    struct mx_inbox *inbox;
    uint32_t running;
    atomic_bool stopped;
};

struct mx_tasks *mx_tasks_new(struct mx_inbox *inbox)
{
    struct mx_tasks *tasks = calloc(1, sizeof *tasks);

    if (tasks != NULL) {
        tasks->inbox = inbox;
    }
    return tasks;
}

static void task_handle(struct mx_inbox_item *item)
{
    struct mx_task *t = (struct mx_task *)((char *)item - offsetof(struct mx_task, item));

    (void)uv_thread_join(&t->thread);
    t->owner->running--;
    t->done(t);
}

static void task_main(void *arg)
{
    struct mx_task *t = arg;

    t->work(t);
    mx_inbox_put(t->owner->inbox, &t->item);
}

int mx_task_start(struct mx_tasks *tasks, struct mx_task *t, struct mx_err *err)
{
    int rc;

    if (tasks->running == MX_TASKS_MAX || atomic_load(&tasks->stopped)) {
        return mx_fail(err, MX_EBUSY, "%u long questions are being answered already: ask again "
                       "later", MX_TASKS_MAX);
    }
    t->item.handle = task_handle;
    t->owner = tasks;
    tasks->running++;
    rc = uv_thread_create(&t->thread, task_main, t);
    if (rc != 0) {
        tasks->running--;
        return mx_fail(err, MX_EBUSY, "no thread for it: %s", uv_strerror(rc));
    }
    return 0;
}

void mx_tasks_stop(struct mx_tasks *tasks)
{
    atomic_store(&tasks->stopped, true);
}

bool mx_task_stopped(const struct mx_task *t)
{
    return atomic_load(&t->owner->stopped);
}

uint32_t mx_tasks_running(const struct mx_tasks *tasks)
{
    return tasks->running;
}
