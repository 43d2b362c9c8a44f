/* test_journal.c - what store/journal.h promises, asked of every form of the journal: the
 * catalog's, and one in memory. Then both are given the same random groups and must say the
 * same. */
#include "catalog_check.h"
#include "memory_journal.h"

#include <inttypes.h>
#include <pthread.h>

/* ---- the forms ---- */

struct form {
    const char *name;
    struct mx_journal *(*make)(const char *dir, void **ret_owner);
    void (*end)(void *owner);
};

static struct mx_journal *catalog_make(const char *dir, void **ret_owner)
{
    struct mx_catalog *c = open_store(dir);

    *ret_owner = c;
    return mx_journal_of_catalog(c);
}

static void catalog_end(void *owner)
{
    mx_catalog_close(owner);
}

static struct mx_journal *memory_make(const char *dir, void **ret_owner)
{
    struct mx_journal *j = memory_journal_new();

    (void)dir;
    *ret_owner = j;
    return j;
}

static void memory_end(void *owner)
{
    memory_journal_free(owner);
}

static struct form catalog_form = {"catalog", catalog_make, catalog_end};
static struct form memory_form = {"memory", memory_make, memory_end};

struct fixture {
    const struct form *form;
    void *dir, *owner;
    struct mx_journal *j;
    struct mx_err err;
};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof *x);

    assert_non_null(x);
    x->form = *state;
    assert_int_equal(folder_make(&x->dir), 0);
    x->j = x->form->make(x->dir, &x->owner);
    assert_string_equal(x->j->ops->name, x->form->name);
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    int rc;

    x->form->end(x->owner);
    rc = folder_remove(&x->dir);
    free(x);
    return rc;
}

/* ---- puts ---- */

static char config[] = "{}";
static const struct mx_run_record records[] = {
    {.id = 1, .name = "a", .config = config, .config_bytes = 2},
    {.id = 2, .name = "b", .config = config, .config_bytes = 2},
    {.id = 3, .name = "c", .config = config, .config_bytes = 2},
};

static struct mx_put run_put(uint32_t run)
{
    return (struct mx_put){.kind = MX_PUT_RUN, .run = run, .record = &records[run - 1]};
}

static struct mx_put entry_put(uint32_t run, uint64_t index, const char *text)
{
    return (struct mx_put){.kind = MX_PUT_ENTRY, .run = run, .key = index, .bytes = text,
                           .n = strlen(text)};
}

static int append_run(struct fixture *x, uint32_t run)
{
    struct mx_put p = run_put(run);

    return mx_journal_append(x->j, &p, 1, &x->err);
}

static int append_entry(struct fixture *x, uint32_t run, uint64_t index, const char *text)
{
    struct mx_put p = entry_put(run, index, text);

    return mx_journal_append(x->j, &p, 1, &x->err);
}

static int append_key(struct fixture *x, enum mx_put_kind kind, uint32_t run, uint64_t key)
{
    struct mx_put p = {.kind = kind, .run = run, .key = key};

    return mx_journal_append(x->j, &p, 1, &x->err);
}

/* Entries with nothing in them, in groups. */
static void append_many(struct fixture *x, uint32_t run, uint64_t from, uint64_t to)
{
    static struct mx_put puts[1000];

    while (from <= to) {
        size_t n = 0;
        while (n < 1000 && from <= to) {
            puts[n++] = entry_put(run, from++, "");
        }
        assert_ok(mx_journal_append(x->j, puts, n, &x->err), &x->err);
    }
}

static void assert_entries(struct fixture *x, uint32_t run, uint64_t from, const char *want)
{
    struct log l = {0};

    assert_ok(mx_journal_read(x->j, run, from, log_cb, &l, &x->err), &x->err);
    assert_string_equal(l.text, want);
}

static void assert_bounds(struct fixture *x, uint32_t run, uint64_t first, uint64_t last)
{
    uint64_t got_first = 99, got_last = 99;

    assert_ok(mx_journal_bounds(x->j, run, &got_first, &got_last, &x->err), &x->err);
    assert_int_equal(got_first, first);
    assert_int_equal(got_last, last);
}

/* ---- what every form must do ---- */

static void test_next_index(void **state)
{
    struct fixture *x = *state;
    static char large[MX_ENTRY_MAX + 2];

    assert_int_equal(append_entry(x, 1, 1, "early"), MX_ENOTFOUND);
    assert_ok(append_run(x, 1), &x->err);
    assert_ok(append_run(x, 2), &x->err);
    assert_bounds(x, 1, 1, 0);
    assert_fails(append_entry(x, 1, 2, "gap"), MX_EEXISTS, &x->err, "the next is 1");
    assert_int_equal(append_entry(x, 1, 0, "zero"), MX_EEXISTS);
    assert_ok(append_entry(x, 1, 1, "one"), &x->err);
    assert_fails(append_entry(x, 1, 1, "again"), MX_EEXISTS, &x->err, "the next is 2");
    assert_int_equal(append_entry(x, 1, UINT64_MAX, "far"), MX_EEXISTS);
    assert_ok(append_entry(x, 2, 1, "other"), &x->err);
    assert_ok(append_entry(x, 1, 2, "two"), &x->err);
    memset(large, 'x', MX_ENTRY_MAX + 1);
    assert_int_equal(append_entry(x, 1, 3, large), MX_EINVALID);
    large[MX_ENTRY_MAX] = '\0';
    assert_ok(append_entry(x, 1, 3, large), &x->err);
    assert_bounds(x, 1, 1, 3);
    assert_bounds(x, 2, 1, 1);
    assert_entries(x, 2, 1, "1:other ");
}

static void test_all_or_none(void **state)
{
    struct fixture *x = *state;
    struct mx_put puts[7] = {run_put(1), entry_put(1, 1, "x"), run_put(2), entry_put(1, 2, "y"),
                             entry_put(2, 1, "z"), entry_put(1, 4, "w")};

    assert_int_equal(mx_journal_append(x->j, puts, 6, &x->err), MX_EEXISTS);
    assert_bounds(x, 1, 1, 0);
    assert_entries(x, 1, 0, "");
    assert_entries(x, 2, 0, "");
    assert_int_equal(append_entry(x, 1, 1, "x"), MX_ENOTFOUND);
    puts[5].key = 3;
    assert_ok(mx_journal_append(x->j, puts, 6, &x->err), &x->err);
    assert_entries(x, 1, 0, "1:x 2:y 3:w ");
    assert_entries(x, 2, 0, "1:z ");
    /* What a refused group removed is there again. */
    puts[0] = entry_put(1, 4, "v");
    puts[1] = (struct mx_put){.kind = MX_PUT_COMPACT, .run = 1, .key = 3};
    puts[2] = (struct mx_put){.kind = MX_PUT_REMOVE, .run = 2};
    puts[3] = entry_put(2, 2, "gone");
    assert_int_equal(mx_journal_append(x->j, puts, 4, &x->err), MX_ENOTFOUND);
    assert_entries(x, 1, 0, "1:x 2:y 3:w ");
    assert_entries(x, 2, 0, "1:z ");
    assert_ok(mx_journal_append(x->j, puts, 3, &x->err), &x->err);
    assert_entries(x, 1, 4, "4:v ");
    assert_bounds(x, 1, 4, 4);
    assert_entries(x, 2, 0, "");
    assert_ok(mx_journal_append(x->j, puts, 0, &x->err), &x->err);
}

static void test_read_ranges(void **state)
{
    struct fixture *x = *state;
    struct log some = {.stop_after = 2};
    static const struct {
        uint64_t from;
        const char *want;
    } cases[] = {{0, "1:one 2:two 3: 4:four "}, {1, "1:one 2:two 3: 4:four "},
                 {2, "2:two 3: 4:four "}, {4, "4:four "}, {5, ""}, {UINT64_MAX, ""}};

    for (uint32_t run = 1; run <= 3; run++) {
        assert_ok(append_run(x, run), &x->err);
    }
    assert_ok(append_entry(x, 1, 1, "before"), &x->err);
    assert_ok(append_entry(x, 3, 1, "after"), &x->err);
    assert_ok(append_entry(x, 2, 1, "one"), &x->err);
    assert_ok(append_entry(x, 2, 2, "two"), &x->err);
    assert_ok(append_entry(x, 2, 3, ""), &x->err);
    assert_ok(append_entry(x, 2, 4, "four"), &x->err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_entries(x, 2, cases[i].from, cases[i].want);
    }
    assert_int_equal(mx_journal_read(x->j, 2, 2, log_cb, &some, &x->err), 42);
    assert_string_equal(some.text, "2:two 3: ");
    assert_entries(x, 9, 0, "");
    assert_bounds(x, 9, 1, 0);
}

static void test_compact(void **state)
{
    struct fixture *x = *state;
    struct log none = {0};

    assert_ok(append_run(x, 1), &x->err);
    assert_ok(append_run(x, 2), &x->err);
    assert_int_equal(append_key(x, MX_PUT_COMPACT, 3, 1), MX_ENOTFOUND);
    assert_int_equal(append_key(x, MX_PUT_COMPACT, 1, 0), MX_EINVALID);
    append_many(x, 1, 1, 2 * MX_COMPACT_SLICE + 4);
    assert_ok(append_entry(x, 2, 1, "other"), &x->err);
    assert_ok(append_key(x, MX_PUT_COMPACT, 1, 0), &x->err);
    assert_bounds(x, 1, 1, 2 * MX_COMPACT_SLICE + 4);
    assert_int_equal(append_key(x, MX_PUT_COMPACT, 1, MX_COMPACT_SLICE + 1), MX_EINVALID);
    assert_int_equal(append_key(x, MX_PUT_COMPACT, 1, UINT64_MAX), MX_EINVALID);
    assert_ok(append_key(x, MX_PUT_COMPACT, 1, MX_COMPACT_SLICE), &x->err);
    assert_bounds(x, 1, MX_COMPACT_SLICE + 1, 2 * MX_COMPACT_SLICE + 4);
    assert_fails(mx_journal_read(x->j, 1, 0, log_cb, &none, &x->err), MX_EGONE, &x->err,
                 "entries before 4097 of run 1 were compacted");
    assert_int_equal(mx_journal_read(x->j, 1, MX_COMPACT_SLICE, log_cb, &none, &x->err), MX_EGONE);
    assert_int_equal(none.calls, 0);
    /* The same again, and less, change nothing. */
    assert_ok(append_key(x, MX_PUT_COMPACT, 1, MX_COMPACT_SLICE), &x->err);
    assert_ok(append_key(x, MX_PUT_COMPACT, 1, 7), &x->err);
    assert_bounds(x, 1, MX_COMPACT_SLICE + 1, 2 * MX_COMPACT_SLICE + 4);
    assert_ok(append_key(x, MX_PUT_COMPACT, 1, 2 * MX_COMPACT_SLICE), &x->err);
    assert_entries(x, 1, 8193, "8193: 8194: 8195: 8196: ");
    assert_int_equal(append_key(x, MX_PUT_COMPACT, 1, 8196), MX_EINVALID);
    assert_ok(append_key(x, MX_PUT_COMPACT, 1, 8195), &x->err);
    assert_bounds(x, 1, 8196, 8196);
    assert_int_equal(append_entry(x, 1, 1, "anew"), MX_EEXISTS);
    assert_int_equal(append_entry(x, 1, 8196, "again"), MX_EEXISTS);
    assert_ok(append_entry(x, 1, 8197, "next"), &x->err);
    assert_entries(x, 1, 8196, "8196: 8197:next ");
    assert_entries(x, 1, 8198, "");
    assert_entries(x, 2, 0, "1:other ");
}

static void test_remove(void **state)
{
    struct fixture *x = *state;

    assert_ok(append_run(x, 1), &x->err);
    append_many(x, 1, 1, 10);
    assert_ok(append_key(x, MX_PUT_COMPACT, 1, 4), &x->err);
    assert_ok(append_key(x, MX_PUT_REMOVE, 1, 0), &x->err);
    assert_bounds(x, 1, 1, 0);
    assert_entries(x, 1, 0, "");
    assert_int_equal(append_entry(x, 1, 11, "late"), MX_ENOTFOUND);
    assert_int_equal(append_key(x, MX_PUT_REMOVE, 1, 0), MX_ENOTFOUND);
    assert_int_equal(append_run(x, 1), MX_EEXISTS);
    assert_ok(append_run(x, 2), &x->err);
    assert_bounds(x, 2, 1, 0);
}

/* ---- watching ---- */

struct watcher {
    struct fixture *x;
    struct log told, read;
};

/* Says what it was told, and that it can be read already. */
static void watch_cb(void *arg, uint32_t run, uint64_t last)
{
    struct watcher *w = arg;
    struct mx_err err;

    w->told.n += (size_t)snprintf(w->told.text + w->told.n, sizeof w->told.text - w->told.n,
                                  "%u/%" PRIu64 " ", run, last);
    assert_ok(mx_journal_read(w->x->j, run, last, log_cb, &w->read, &err), &err);
}

static void test_watch(void **state)
{
    struct fixture *x = *state;
    struct watcher w = {.x = x}, other = {.x = x};
    struct mx_put puts[] = {run_put(2), entry_put(1, 2, "b"), entry_put(1, 3, "c"),
                            entry_put(2, 1, "A"),
                            {.kind = MX_PUT_MIX, .run = 2, .key = 0, .bytes = "mix", .n = 3},
                            entry_put(2, 2, "B"), entry_put(1, 4, "d"),
                            {.kind = MX_PUT_COMPACT, .run = 1, .key = 1}};

    assert_ok(append_run(x, 1), &x->err);
    mx_journal_watch(x->j, watch_cb, &w);
    assert_ok(append_entry(x, 1, 1, "a"), &x->err);
    assert_string_equal(w.told.text, "1/1 ");
    assert_int_equal(append_entry(x, 1, 1, "refused"), MX_EEXISTS);
    assert_ok(mx_journal_append(x->j, puts, sizeof puts / sizeof *puts, &x->err), &x->err);
    assert_string_equal(w.told.text, "1/1 1/3 2/2 1/4 ");
    assert_string_equal(w.read.text, "1:a 3:c 4:d 2:B 4:d ");
    assert_ok(append_key(x, MX_PUT_COMPACT, 1, 2), &x->err);
    mx_journal_watch(x->j, watch_cb, &other);
    assert_ok(append_entry(x, 1, 5, "e"), &x->err);
    mx_journal_watch(x->j, NULL, NULL);
    assert_ok(append_entry(x, 1, 6, "f"), &x->err);
    assert_string_equal(w.told.text, "1/1 1/3 2/2 1/4 ");
    assert_string_equal(other.told.text, "1/5 ");
}

/* ---- several threads ---- */

#define FOLLOWED 400u

struct follow {
    struct fixture *x;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    uint64_t told; /* under lock */
    uint64_t read; /* the reader's */
    int rc;
};

static void follow_cb(void *arg, uint32_t run, uint64_t last)
{
    struct follow *f = arg;

    pthread_mutex_lock(&f->lock);
    f->rc = run == 1 && last > f->told ? f->rc : 1;
    f->told = last;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->lock);
}

static int count_cb(void *arg, uint64_t index, struct mx_span bytes)
{
    struct follow *f = arg;

    if (index != f->read + 1 || bytes.n != 1 || bytes.p[0] != 'x') {
        return 43;
    }
    f->read = index;
    return 0;
}

/* Reads on whenever the watch says that there is more: all that it has been told of is there. */
static void *follow_main(void *arg)
{
    struct follow *f = arg;
    int rc = 0;

    while (rc == 0 && f->read < FOLLOWED) {
        uint64_t told;
        pthread_mutex_lock(&f->lock);
        while (f->told <= f->read) {
            pthread_cond_wait(&f->wake, &f->lock);
        }
        told = f->told;
        pthread_mutex_unlock(&f->lock);
        rc = mx_journal_read(f->x->j, 1, f->read + 1, count_cb, f, NULL);
        if (rc == 0 && f->read < told) {
            rc = 44;
        }
    }
    return rc == 0 ? NULL : f;
}

/* Reads what is at the end all the while. */
static void *bystander_main(void *arg)
{
    struct fixture *x = arg;
    bool ok = true;

    for (int i = 0; ok && i < 200; i++) {
        struct log l = {.stop_after = 3};
        uint64_t first = 0, last = 0;
        ok = mx_journal_bounds(x->j, 1, &first, &last, NULL) == 0 && first == 1 &&
             last <= FOLLOWED;
        if (ok && last > 2) {
            ok = mx_journal_read(x->j, 1, last - 2, log_cb, &l, NULL) == 42;
        }
    }
    return ok ? NULL : arg;
}

static void test_follow(void **state)
{
    struct fixture *x = *state;
    struct follow f = {.x = x};
    pthread_t follower, bystander;
    void *bad, *bad2;

    assert_int_equal(pthread_mutex_init(&f.lock, NULL), 0);
    assert_int_equal(pthread_cond_init(&f.wake, NULL), 0);
    assert_ok(append_run(x, 1), &x->err);
    mx_journal_watch(x->j, follow_cb, &f);
    assert_int_equal(pthread_create(&follower, NULL, follow_main, &f), 0);
    assert_int_equal(pthread_create(&bystander, NULL, bystander_main, x), 0);
    for (uint64_t i = 1; i <= FOLLOWED; i++) {
        assert_ok(append_entry(x, 1, i, "x"), &x->err);
    }
    assert_int_equal(pthread_join(follower, &bad), 0);
    assert_int_equal(pthread_join(bystander, &bad2), 0);
    mx_journal_watch(x->j, NULL, NULL);
    assert_null(bad);
    assert_null(bad2);
    assert_int_equal(f.rc, 0);
    assert_int_equal(f.read, FOLLOWED);
    pthread_cond_destroy(&f.wake);
    pthread_mutex_destroy(&f.lock);
}

static void counter_cb(void *arg, uint32_t run, uint64_t last)
{
    (void)run;
    *(uint64_t *)arg = last;
}

/* What a watch was given can be freed as soon as the watch has ended. */
static void *unwatch_main(void *arg)
{
    struct fixture *x = arg;

    for (int i = 0; i < 300; i++) {
        uint64_t *last = calloc(1, sizeof *last);
        if (last == NULL) {
            return arg;
        }
        mx_journal_watch(x->j, counter_cb, last);
        mx_journal_watch(x->j, NULL, NULL);
        free(last);
    }
    return NULL;
}

static void test_unwatch(void **state)
{
    struct fixture *x = *state;
    pthread_t thread;
    void *bad;

    assert_ok(append_run(x, 1), &x->err);
    assert_int_equal(pthread_create(&thread, NULL, unwatch_main, x), 0);
    for (uint64_t i = 1; i <= 100; i++) {
        assert_ok(append_entry(x, 1, i, "x"), &x->err);
    }
    assert_int_equal(pthread_join(thread, &bad), 0);
    assert_null(bad);
    assert_bounds(x, 1, 1, 100);
}

/* ---- both at once ---- */

static struct mx_put random_put(struct fixture *x, struct dice *d)
{
    static const char *const texts[] = {"", "a", "some bytes", "more bytes than that"};
    uint32_t run = 1 + (uint32_t)below(d, 3);
    uint64_t first = 1, last = 0, kind = below(d, 40);

    assert_ok(mx_journal_bounds(x->j, run, &first, &last, &x->err), &x->err);
    if (kind == 0) {
        return run_put(run);
    }
    if (kind == 1 && run == 3) { /* the others stay: ids aren't used again */
        return (struct mx_put){.kind = MX_PUT_REMOVE, .run = run};
    }
    if (kind < 10) {
        return (struct mx_put){.kind = MX_PUT_COMPACT, .run = run,
                               .key = first + below(d, last - first + 3) - 1};
    }
    return entry_put(run, last + (below(d, 10) > 0 ? 1 : below(d, 3)), texts[below(d, 4)]);
}

/* Groups of puts, most of which are right alone; both must take the same ones and then hold the
 * same entries. */
static void test_same(void **state)
{
    struct fixture x = {.form = &catalog_form}, y = {.form = &memory_form};
    struct dice d = {test_seed("same", 11)};
    unsigned taken = 0, refused = 0;

    x.j = catalog_make(*state, &x.owner);
    y.j = memory_make(*state, &y.owner);
    for (uint32_t run = 1; run <= 3; run++) {
        assert_ok(append_run(&x, run), &x.err);
        assert_ok(append_run(&y, run), &y.err);
    }
    for (unsigned round = 0; round < 600; round++) {
        struct mx_put puts[4];
        size_t n = 1 + (size_t)below(&d, 4);
        int rc;
        for (size_t i = 0; i < n; i++) {
            puts[i] = random_put(&y, &d);
        }
        for (size_t i = 1; i < n; i++) {
            /* Else two entries of a run would both be the next. */
            puts[i].key += puts[i].kind == MX_PUT_ENTRY && puts[i - 1].kind == MX_PUT_ENTRY &&
                           puts[i].run == puts[i - 1].run;
        }
        rc = mx_journal_append(x.j, puts, n, &x.err);
        assert_int_equal(mx_journal_append(y.j, puts, n, &y.err), rc);
        taken += rc == 0;
        refused += rc != 0;
        for (uint32_t run = 1; run <= 3; run++) {
            struct log a = {0}, b = {0};
            uint64_t first, last, from;
            assert_ok(mx_journal_bounds(y.j, run, &first, &last, &y.err), &y.err);
            assert_bounds(&x, run, first, last);
            /* From before the first entry now and then. */
            from = (last - first > 50 && last > 0 ? last - 50 : first) - below(&d, 2);
            rc = mx_journal_read(y.j, run, from, log_cb, &b, &y.err);
            assert_int_equal(mx_journal_read(x.j, run, from, log_cb, &a, &x.err), rc);
            assert_string_equal(a.text, b.text);
        }
    }
    assert_true(taken > 100 && refused > 20);
    catalog_end(x.owner);
    memory_end(y.owner);
}

#define EACH(f)                                                                                   \
    {#f " (catalog)", f, setup, teardown, &catalog_form},                                         \
    {#f " (memory)", f, setup, teardown, &memory_form}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_next_index), EACH(test_all_or_none), EACH(test_read_ranges), EACH(test_compact),
        EACH(test_remove), EACH(test_watch), EACH(test_follow), EACH(test_unwatch),
        cmocka_unit_test_setup_teardown(test_same, folder_make, folder_remove),
    };
    return cmocka_run_group_tests_name("store-journal", tests, NULL, NULL);
}
