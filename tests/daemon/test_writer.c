/* test_writer.c - what the writer does with jobs whose commit fails, on a journal that fails as it
 * is told. */
#include "daemon/writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <cmocka.h>

/* A journal that fails groups which hold an entry. */
struct failing {
    struct mx_journal journal; /* first */
    atomic_int code;           /* 0: all goes well */
};

static int append(struct mx_journal *j, const struct mx_put *puts, size_t n, struct mx_err *err)
{
    struct failing *f = (struct failing *)j;
    int code = atomic_load(&f->code);

    for (size_t i = 0; code != 0 && i < n; i++) {
        if (puts[i].kind == MX_PUT_ENTRY) {
            return mx_fail(err, code, "as told");
        }
    }
    return 0;
}

static const struct mx_journal_ops failing_ops = {.name = "failing", .append = append};

struct done {
    struct mx_job job; /* first */
    int rc, called;
};

static uint32_t waiting;

static void done_cb(struct mx_job *job, int rc, const struct mx_err *err)
{
    struct done *d = (struct done *)job;

    d->rc = rc;
    d->called++;
    assert_true(rc == 0 || err->text[0] != '\0');
    waiting--;
}

static void put(struct mx_writer_thread *w, struct done *d, enum mx_put_kind kind)
{
    *d = (struct done){.job = {.n_puts = 1, .done = done_cb}};
    d->job.puts[0] = (struct mx_put){.kind = kind, .run = 1, .key = 1};
    waiting++;
    mx_writer_put(w, &d->job);
}

static void wait_all(uv_loop_t *loop)
{
    while (waiting > 0) {
        (void)uv_run(loop, UV_RUN_ONCE);
    }
}

struct fixture {
    uv_loop_t loop;
    struct mx_inbox inbox;
    struct failing journal;
    struct mx_writer_thread *w;
};

static int setup(void **state)
{
    static struct fixture f;
    struct mx_err err;

    f = (struct fixture){.journal = {.journal = {&failing_ops}}};
    assert_int_equal(uv_loop_init(&f.loop), 0);
    assert_int_equal(mx_inbox_init(&f.inbox, &f.loop, &err), 0);
    assert_int_equal(mx_writer_start(&f.journal.journal, &f.inbox, &f.w, &err), 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    mx_writer_stop(f->w);
    free(f->w); /* in a daemon it lives as long as the process */
    uv_close((uv_handle_t *)&f->inbox.wake, NULL);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    return uv_loop_close(&f->loop);
}

/* Nothing more is recorded, but there is a way out: entries may be removed. */
static void test_a_full_store_can_be_compacted(void **state)
{
    struct fixture *f = *state;
    struct mx_writer_stats stats;
    struct done entry, later, compact;

    atomic_store(&f->journal.code, MX_EFULL);
    put(f->w, &entry, MX_PUT_ENTRY);
    wait_all(&f->loop);
    assert_int_equal(entry.rc, MX_EFULL);
    put(f->w, &later, MX_PUT_ENTRY);
    put(f->w, &compact, MX_PUT_COMPACT);
    wait_all(&f->loop);
    assert_int_equal(later.rc, MX_EFULL);
    assert_int_equal(compact.rc, 0);
    mx_writer_get_stats(f->w, &stats);
    assert_int_equal(stats.broken, MX_EFULL);
    assert_int_equal(entry.called + later.called + compact.called, 3);
}

static void test_after_another_failure_nothing_is_written(void **state)
{
    struct fixture *f = *state;
    struct done entry, compact;

    atomic_store(&f->journal.code, MX_EIO);
    put(f->w, &entry, MX_PUT_ENTRY);
    wait_all(&f->loop);
    assert_int_equal(entry.rc, MX_EIO);
    atomic_store(&f->journal.code, 0);
    put(f->w, &compact, MX_PUT_COMPACT);
    put(f->w, &entry, MX_PUT_ENTRY);
    wait_all(&f->loop);
    assert_int_equal(compact.rc, MX_EIO);
    assert_int_equal(entry.rc, MX_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_full_store_can_be_compacted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_after_another_failure_nothing_is_written, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
