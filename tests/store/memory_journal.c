/* memory_journal.c - see memory_journal.h.
 *
 * An append works on a copy of the runs' bounds, which takes their place if all went well; entries
 * that a refused append laid down are past the last one and are laid over by the next. */
#include "memory_journal.h"

#include "check.h"

#include <pthread.h>

struct cell {
    uint8_t *bytes;
    size_t n;
};

struct memory_run {
    bool present;
    char name[MX_NAME_MAX + 1];
    uint64_t first, last;
    struct cell *cells; /* by index */
    uint64_t room;
};

struct memory_journal {
    struct mx_journal journal; /* the first */
    pthread_mutex_t lock;      /* the runs */
    struct memory_run runs[MEMORY_RUNS];
    uint32_t last_run;
    pthread_mutex_t watch_lock;
    mx_journal_watch_fn *watch;
    void *watch_arg;
};

static int put_run(struct memory_journal *m, const struct mx_put *p, uint32_t *last_run,
                   struct mx_err *err)
{
    struct memory_run *r = &m->runs[p->record->id % MEMORY_RUNS];

    assert_in_range(p->record->id, 1, MEMORY_RUNS - 1);
    for (uint32_t i = 0; i < MEMORY_RUNS; i++) {
        if (m->runs[i].present && strcmp(m->runs[i].name, p->record->name) == 0) {
            return mx_fail(err, MX_EEXISTS, "run '%s' is there", p->record->name);
        }
    }
    if (p->record->id <= *last_run) {
        return mx_fail(err, MX_EEXISTS, "run id %u has been used", p->record->id);
    }
    r->present = true;
    (void)snprintf(r->name, sizeof r->name, "%s", p->record->name);
    r->first = 1;
    r->last = 0;
    *last_run = p->record->id;
    return 0;
}

static int put_entry(struct memory_run *r, const struct mx_put *p, struct mx_err *err)
{
    struct cell *cell;

    if (p->n > MX_ENTRY_MAX) {
        return mx_fail(err, MX_EINVALID, "%zu bytes are too many", p->n);
    }
    if (p->key != r->last + 1) {
        return mx_fail(err, MX_EEXISTS, "the next is %llu", (unsigned long long)r->last + 1);
    }
    if (p->key >= r->room) {
        uint64_t room = r->room * 2 + 64;
        struct cell *cells = realloc(r->cells, (size_t)room * sizeof *cells);
        assert_non_null(cells);
        memset(cells + r->room, 0, (size_t)(room - r->room) * sizeof *cells);
        r->cells = cells;
        r->room = room;
    }
    cell = &r->cells[p->key];
    free(cell->bytes);
    cell->bytes = malloc(p->n + 1);
    assert_non_null(cell->bytes);
    if (p->n > 0) {
        memcpy(cell->bytes, p->bytes, p->n);
    }
    cell->n = p->n;
    r->last = p->key;
    return 0;
}

static int put_one(struct memory_journal *m, const struct mx_put *p, uint32_t *last_run,
                   struct mx_err *err)
{
    struct memory_run *r = &m->runs[p->run % MEMORY_RUNS];

    if (p->kind == MX_PUT_RUN) {
        return put_run(m, p, last_run, err);
    }
    if (p->run >= MEMORY_RUNS || !r->present) {
        return mx_fail(err, MX_ENOTFOUND, "no run %u", p->run);
    }
    switch (p->kind) {
    case MX_PUT_ENTRY: return put_entry(r, p, err);
    case MX_PUT_COMPACT:
        if (p->key >= r->last || (p->key >= r->first && p->key - r->first >= MX_COMPACT_SLICE)) {
            return mx_fail(err, MX_EINVALID, "can't compact so far");
        }
        r->first = p->key >= r->first ? p->key + 1 : r->first;
        return 0;
    case MX_PUT_REMOVE: r->present = false; return 0;
    default: return 0;
    }
}

/* A refused append puts back the bounds, but not the cells, which may have moved. */
static void put_back(struct memory_run *now, const struct memory_run *before)
{
    struct cell *cells = now->cells;
    uint64_t room = now->room;

    *now = *before;
    now->cells = cells;
    now->room = room;
}

static int memory_append(struct mx_journal *j, const struct mx_put *puts, size_t n,
                         struct mx_err *err)
{
    struct memory_journal *m = (struct memory_journal *)j;
    struct memory_run before[MEMORY_RUNS];
    uint32_t last_run;
    int rc = 0;

    pthread_mutex_lock(&m->lock);
    memcpy(before, m->runs, sizeof before);
    last_run = m->last_run;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = put_one(m, &puts[i], &last_run, err);
    }
    for (uint32_t i = 0; rc != 0 && i < MEMORY_RUNS; i++) {
        put_back(&m->runs[i], &before[i]);
    }
    m->last_run = rc == 0 ? last_run : m->last_run;
    pthread_mutex_unlock(&m->lock);
    pthread_mutex_lock(&m->watch_lock);
    for (size_t i = 0; rc == 0 && m->watch != NULL && i < n; i++) {
        size_t next = i + 1;
        while (next < n && puts[next].kind != MX_PUT_ENTRY) {
            next++;
        }
        if (puts[i].kind == MX_PUT_ENTRY && (next == n || puts[next].run != puts[i].run)) {
            m->watch(m->watch_arg, puts[i].run, puts[i].key);
        }
    }
    pthread_mutex_unlock(&m->watch_lock);
    return rc;
}

static int memory_read(struct mx_journal *j, uint32_t run, uint64_t from, mx_journal_read_fn *cb,
                       void *arg, struct mx_err *err)
{
    struct memory_journal *m = (struct memory_journal *)j;
    struct memory_run *r = &m->runs[run % MEMORY_RUNS];
    int rc = 0;

    from = from > 0 ? from : 1;
    pthread_mutex_lock(&m->lock);
    if (run < MEMORY_RUNS && r->present) {
        if (from < r->first) {
            rc = mx_fail(err, MX_EGONE, "entries before %llu of run %u were compacted",
                         (unsigned long long)r->first, run);
        }
        for (uint64_t i = from; rc == 0 && i <= r->last; i++) {
            rc = cb(arg, i, (struct mx_span){.p = r->cells[i].bytes, .n = r->cells[i].n});
        }
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static int memory_bounds(struct mx_journal *j, uint32_t run, uint64_t *ret_first,
                         uint64_t *ret_last, struct mx_err *err)
{
    struct memory_journal *m = (struct memory_journal *)j;
    struct memory_run *r = &m->runs[run % MEMORY_RUNS];
    bool there;

    (void)err;
    pthread_mutex_lock(&m->lock);
    there = run < MEMORY_RUNS && r->present;
    *ret_first = there ? r->first : 1;
    *ret_last = there ? r->last : 0;
    pthread_mutex_unlock(&m->lock);
    return 0;
}

static void memory_watch(struct mx_journal *j, mx_journal_watch_fn *fn, void *arg)
{
    struct memory_journal *m = (struct memory_journal *)j;

    pthread_mutex_lock(&m->watch_lock);
    m->watch = fn;
    m->watch_arg = arg;
    pthread_mutex_unlock(&m->watch_lock);
}

struct mx_journal *memory_journal_new(void)
{
    static const struct mx_journal_ops ops = {
        .name = "memory", .append = memory_append, .read = memory_read, .bounds = memory_bounds,
        .watch = memory_watch,
    };
    struct memory_journal *m = calloc(1, sizeof *m);

    assert_non_null(m);
    m->journal.ops = &ops;
    assert_int_equal(pthread_mutex_init(&m->lock, NULL), 0);
    assert_int_equal(pthread_mutex_init(&m->watch_lock, NULL), 0);
    return &m->journal;
}

void memory_journal_free(struct mx_journal *j)
{
    struct memory_journal *m = (struct memory_journal *)j;

    for (uint32_t i = 0; i < MEMORY_RUNS; i++) {
        for (uint64_t k = 0; k < m->runs[i].room; k++) {
            free(m->runs[i].cells[k].bytes);
        }
        free(m->runs[i].cells);
    }
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->watch_lock);
    free(m);
}
