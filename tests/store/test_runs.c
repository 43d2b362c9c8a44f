/* test_runs.c - runs, journals, mixes and snapshots: what was committed is read again, all of a
 * commit or nothing, and a journal has no gaps. */
#include "catalog_check.h"

static void test_runs(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain web = add_domain(c, "web", 41);
    struct mx_err err;
    struct log l = {0}, some = {.stop_after = 1}, after = {0};
    uint32_t next;

    assert_ok(mx_catalog_next_run(c, &next, &err), &err);
    assert_int_equal(next, 1);
    assert_ok(add_run(c, 1, "a", web.id, &err), &err);
    assert_ok(add_run(c, 2, "b", web.id, &err), &err);
    assert_fails(add_run(c, 3, "a", web.id, &err), MX_EEXISTS, &err, "'a'");
    assert_fails(add_run(c, 2, "c", web.id, &err), MX_EEXISTS, &err, "the next is 3");
    assert_int_equal(add_run(c, 3, "c d", web.id, &err), MX_EINVALID);
    assert_int_equal(add_run(c, 3, "c", 99, &err), MX_ENOTFOUND);
    assert_ok(mx_catalog_runs(c, run_cb, &l, &err), &err);
    assert_string_equal(l.text, "1:a:{\"seed\": 1}:1 2:b:{\"seed\": 1}:1 ");
    assert_int_equal(mx_catalog_runs(c, run_cb, &some, &err), 42);
    assert_ok(put(c, MX_PUT_REMOVE, 2, 0, "", &err), &err);
    assert_int_equal(put(c, MX_PUT_REMOVE, 2, 0, "", &err), MX_ENOTFOUND);
    assert_ok(mx_catalog_next_run(c, &next, &err), &err);
    assert_int_equal(next, 3);
    assert_ok(add_run(c, 3, "b", web.id, &err), &err);
    assert_ok(mx_catalog_runs(c, run_cb, &after, &err), &err);
    assert_string_equal(after.text, "1:a:{\"seed\": 1}:1 3:b:{\"seed\": 1}:1 ");
    mx_catalog_close(c);
}

static void test_journal(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain web = add_domain(c, "web", 51);
    struct mx_err err;
    struct log l = {0}, some = {.stop_after = 2}, none = {0}, tail = {0};
    static char large[MX_ENTRY_MAX + 2];

    assert_int_equal(put(c, MX_PUT_ENTRY, 1, 1, "early", &err), MX_ENOTFOUND);
    assert_ok(add_run(c, 1, "a", web.id, &err), &err);
    assert_ok(add_run(c, 2, "b", web.id, &err), &err);
    assert_fails(put(c, MX_PUT_ENTRY, 1, 2, "gap", &err), MX_EEXISTS, &err, "the next is 1");
    assert_int_equal(put(c, MX_PUT_ENTRY, 1, 0, "zero", &err), MX_EEXISTS);
    assert_ok(put(c, MX_PUT_ENTRY, 1, 1, "one", &err), &err);
    assert_fails(put(c, MX_PUT_ENTRY, 1, 1, "again", &err), MX_EEXISTS, &err, "the next is 2");
    assert_ok(put(c, MX_PUT_ENTRY, 2, 1, "other", &err), &err);
    assert_ok(put(c, MX_PUT_ENTRY, 1, 2, "two", &err), &err);
    assert_ok(put(c, MX_PUT_ENTRY, 1, 3, "", &err), &err);
    memset(large, 'x', MX_ENTRY_MAX + 1);
    assert_int_equal(put(c, MX_PUT_ENTRY, 1, 4, large, &err), MX_EINVALID);
    large[MX_ENTRY_MAX] = '\0';
    assert_ok(put(c, MX_PUT_ENTRY, 1, 4, large, &err), &err);
    assert_ok(mx_catalog_entries(c, 1, 0, log_cb, &l, &err), &err);
    assert_int_equal(strncmp(l.text, "1:one 2:two 3: 4:xxx", 20), 0);
    assert_int_equal(l.calls, 4);
    assert_int_equal(mx_catalog_entries(c, 1, 1, log_cb, &some, &err), 42);
    assert_string_equal(some.text, "1:one 2:two ");
    assert_ok(mx_catalog_entries(c, 2, 1, log_cb, &tail, &err), &err);
    assert_string_equal(tail.text, "1:other ");
    assert_ok(mx_catalog_entries(c, 1, 5, log_cb, &none, &err), &err);
    assert_ok(mx_catalog_entries(c, 9, 0, log_cb, &none, &err), &err);
    assert_int_equal(none.calls, 0);
    mx_catalog_close(c);
}

/* One commit is all or nothing, and sees what it wrote itself. */
static void test_group_commit(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain web = add_domain(c, "web", 52);
    struct mx_run_domain domains[1] = {{web.id, 1}};
    char config[] = "{}";
    struct mx_run_record r = {.id = 1, .name = "a", .config = config, .config_bytes = 2, .k = 1,
                              .domains = domains};
    struct mx_put puts[4] = {
        {.kind = MX_PUT_RUN, .run = 1, .record = &r},
        {.kind = MX_PUT_ENTRY, .run = 1, .key = 1, .bytes = "x", .n = 1},
        {.kind = MX_PUT_ENTRY, .run = 1, .key = 2, .bytes = "y", .n = 1},
        {.kind = MX_PUT_ENTRY, .run = 1, .key = 4, .bytes = "z", .n = 1},
    };
    struct mx_err err;
    struct log none = {0}, l = {0};

    assert_int_equal(mx_catalog_commit(c, puts, 4, &err), MX_EEXISTS);
    assert_ok(mx_catalog_runs(c, run_cb, &none, &err), &err);
    assert_ok(mx_catalog_entries(c, 1, 0, log_cb, &none, &err), &err);
    assert_int_equal(none.calls, 0);
    puts[3].key = 3;
    assert_ok(mx_catalog_commit(c, puts, 4, &err), &err);
    assert_ok(mx_catalog_entries(c, 1, 0, log_cb, &l, &err), &err);
    assert_string_equal(l.text, "1:x 2:y 3:z ");
    mx_catalog_close(c);
}

static void test_mixes_and_snapshots(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain web = add_domain(c, "web", 61);
    struct mx_err err;
    uint8_t *bytes;
    uint64_t step;
    size_t n;
    static const struct {
        uint64_t from, to;
        const char *want;
    } cases[] = {
        {0, 5, ""}, {0, 10, "10:a "}, {10, 10, "10:a "}, {15, 15, "10:a "}, {15, 20, "10:a 20:B "},
        {20, 100, "20:B 30:c "}, {31, UINT64_MAX, "30:c "}, {0, UINT64_MAX, "10:a 20:B 30:c "},
    };

    assert_ok(add_run(c, 1, "a", web.id, &err), &err);
    assert_ok(add_run(c, 2, "b", web.id, &err), &err);
    assert_ok(put(c, MX_PUT_MIX, 1, 10, "a", &err), &err);
    assert_ok(put(c, MX_PUT_MIX, 1, 20, "b", &err), &err);
    assert_ok(put(c, MX_PUT_MIX, 1, 20, "B", &err), &err);
    assert_ok(put(c, MX_PUT_MIX, 1, 30, "c", &err), &err);
    assert_ok(put(c, MX_PUT_MIX, 2, 5, "other", &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct log l = {0};
        assert_ok(mx_catalog_mixes(c, 1, cases[i].from, cases[i].to, log_cb, &l, &err), &err);
        assert_string_equal(l.text, cases[i].want);
    }
    assert_int_equal(mx_catalog_snapshot(c, 1, 100, &step, &bytes, &n, &err), MX_ENOTFOUND);
    assert_ok(put(c, MX_PUT_SNAPSHOT, 1, 10, "ten", &err), &err);
    assert_ok(put(c, MX_PUT_SNAPSHOT, 2, 7, "seven", &err), &err);
    assert_ok(put(c, MX_PUT_SNAPSHOT, 1, 50, "fifty", &err), &err);
    assert_int_equal(mx_catalog_snapshot(c, 1, 9, &step, &bytes, &n, &err), MX_ENOTFOUND);
    assert_int_equal(mx_catalog_snapshot(c, 2, 6, &step, &bytes, &n, &err), MX_ENOTFOUND);
    assert_ok(mx_catalog_snapshot(c, 1, 49, &step, &bytes, &n, &err), &err);
    assert_int_equal(step, 10);
    assert_memory_equal(bytes, "ten", n);
    free(bytes);
    assert_ok(mx_catalog_snapshot(c, 1, UINT64_MAX, &step, &bytes, &n, &err), &err);
    assert_int_equal(step, 50);
    free(bytes);
    assert_ok(put(c, MX_PUT_REMOVE, 1, 0, "", &err), &err);
    assert_int_equal(mx_catalog_snapshot(c, 1, 100, &step, &bytes, &n, &err), MX_ENOTFOUND);
    assert_ok(mx_catalog_snapshot(c, 2, 100, &step, &bytes, &n, &err), &err);
    free(bytes);
    mx_catalog_close(c);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_runs), TEST(test_journal), TEST(test_group_commit),
        TEST(test_mixes_and_snapshots),
    };
    return cmocka_run_group_tests_name("store-runs", tests, NULL, NULL);
}
