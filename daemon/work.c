/* work.c - see work.h. Knows policies by their interface alone. */
#include "daemon/work.h"

#include "daemon/daemon.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

struct mx_work {
    struct mx_inbox_item item;
    struct mx_work *next;
    struct mx_works *owner;
    struct mx_host *host;
    uint64_t handle; /* the core's */
    uint64_t began_ns;
    struct mx_mixer_conf conf;       /* what it points to lives as long as the host */
    double *state, *result, *scratch; /* malloc'ed */
    size_t n_result;
    uv_thread_t thread;
};

struct mx_works {
    struct mx_inbox *inbox;
    struct mx_work *first, **last; /* the first one is being computed */
    bool stopped;
};

struct mx_works *mx_works_new(struct mx_inbox *inbox)
{
    struct mx_works *w = calloc(1, sizeof *w);

    if (w != NULL) {
        w->inbox = inbox;
        w->last = &w->first;
    }
    return w;
}

static void free_work(struct mx_work *w)
{
    free(w->state);
    free(w->result);
    free(w->scratch);
    free(w);
}

static void start_first(struct mx_works *works);

/* Tells the core. With n_result 0: that nothing came of it; it asks again with the next entry or
 * request. */
static void tell(struct mx_host *h, uint64_t handle, const double *result, size_t n)
{
    struct mx_entry e = {.values = result, .n_values = n};
    struct mx_event ev = {.kind = MX_EV_WORKED, .handle = handle, .entry = &e};

    if (h->failed[0] == '\0') {
        mx_host_event(h, &ev);
    }
}

static void work_handle(struct mx_inbox_item *item)
{
    struct mx_work *w = (struct mx_work *)((char *)item - offsetof(struct mx_work, item));
    struct mx_works *works = w->owner;

    (void)uv_thread_join(&w->thread);
    works->first = w->next;
    if (works->first == NULL) {
        works->last = &works->first;
    }
    mx_log(MX_LOG_INFO, "policy.fit", "run=%s policy=%s ms=%" PRIu64, w->host->conf.name,
           w->conf.policy.ops->name, (uv_hrtime() - w->began_ns) / 1000000u);
    tell(w->host, w->handle, w->result, w->n_result);
    free_work(w);
    start_first(works);
}

static void work_main(void *arg)
{
    struct mx_work *w = arg;

    mx_mixer_work(w->state, &w->conf, w->result, w->scratch);
    mx_inbox_put(w->owner->inbox, &w->item);
}

static void start_first(struct mx_works *works)
{
    struct mx_work *w;

    while ((w = works->first) != NULL && !works->stopped) {
        int rc;

        w->began_ns = uv_hrtime();
        rc = uv_thread_create(&w->thread, work_main, w);
        if (rc == 0) {
            return;
        }
        mx_log(MX_LOG_WARN, "policy.fit", "run=%s error=\"no thread for it: %s\"",
               w->host->conf.name, uv_strerror(rc));
        works->first = w->next;
        works->last = works->first == NULL ? &works->first : works->last;
        tell(w->host, w->handle, NULL, 0);
        free_work(w);
    }
}

void mx_works_start(struct mx_works *works, struct mx_host *h, uint32_t mixer, uint64_t handle)
{
    const struct mx_mixer_conf *c = mx_run_mixer(h->core, mixer);
    struct mx_work *w = calloc(1, sizeof *w);
    size_t words = mx_mixer_size(c);

    if (w != NULL) {
        w->n_result = mx_mixer_work_size(c);
        w->state = malloc(words * sizeof *w->state);
        w->result = calloc(w->n_result + 1, sizeof *w->result);
        w->scratch = malloc((mx_mixer_work_scratch(c) + 1) * sizeof *w->scratch);
    }
    if (w == NULL || w->state == NULL || w->result == NULL || w->scratch == NULL) {
        mx_log(MX_LOG_WARN, "policy.fit", "run=%s error=\"no memory for it\"", h->conf.name);
        if (w != NULL) {
            free_work(w);
        }
        tell(h, handle, NULL, 0);
        return;
    }
    memcpy(w->state, mx_run_mixer_state(h->core, mixer), words * sizeof *w->state);
    w->conf = *c;
    w->item.handle = work_handle;
    w->owner = works;
    w->host = h;
    w->handle = handle;
    *works->last = w;
    works->last = &w->next;
    if (works->first == w) {
        start_first(works);
    }
}

void mx_works_stop(struct mx_works *works)
{
    works->stopped = true;
}
