/* test_runs.c - runs, mixes, snapshots and reports: what was committed is read again, all of a
 * commit or nothing. Journals have test_journal.c. */
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

    assert_int_equal(mx_journal_append(mx_journal_of_catalog(c), puts, 4, &err), MX_EEXISTS);
    assert_ok(mx_catalog_runs(c, run_cb, &none, &err), &err);
    assert_ok(mx_journal_read(mx_journal_of_catalog(c), 1, 0, log_cb, &none, &err), &err);
    assert_int_equal(none.calls, 0);
    puts[3].key = 3;
    assert_ok(mx_journal_append(mx_journal_of_catalog(c), puts, 4, &err), &err);
    assert_ok(mx_journal_read(mx_journal_of_catalog(c), 1, 0, log_cb, &l, &err), &err);
    assert_string_equal(l.text, "1:x 2:y 3:z ");
    mx_catalog_close(c);
}

static void test_mixes(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain web = add_domain(c, "web", 61);
    struct mx_err err;
    struct log some = {.stop_after = 2}, gone = {0};
    static const struct {
        uint64_t from, to;
        const char *want;
    } cases[] = {
        {0, 5, ""}, {0, 10, "10:a "}, {10, 10, "10:a "}, {15, 15, "10:a "}, {15, 20, "10:a 20:B "},
        {20, 20, "20:B "}, {20, 21, "20:B 21:op "}, {21, 100, "21:op 30:c "},
        {31, UINT64_MAX, "30:c "}, {0, UINT64_MAX, "10:a 20:B 21:op 30:c "}, {15, 12, "10:a "},
    };

    assert_ok(add_run(c, 1, "a", web.id, &err), &err);
    assert_ok(add_run(c, 2, "b", web.id, &err), &err);
    assert_ok(put(c, MX_PUT_MIX, 1, 10, "a", &err), &err);
    assert_ok(put(c, MX_PUT_MIX, 1, 20, "b", &err), &err);
    assert_ok(put(c, MX_PUT_MIX, 1, 21, "op", &err), &err);
    assert_ok(put(c, MX_PUT_MIX, 1, 20, "B", &err), &err);
    assert_ok(put(c, MX_PUT_MIX, 1, 30, "c", &err), &err);
    assert_ok(put(c, MX_PUT_MIX, 2, 5, "other", &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct log l = {0};
        assert_ok(mx_catalog_mixes(c, 1, cases[i].from, cases[i].to, log_cb, &l, &err), &err);
        assert_string_equal(l.text, cases[i].want);
    }
    assert_int_equal(mx_catalog_mixes(c, 1, 0, 100, log_cb, &some, &err), 42);
    assert_string_equal(some.text, "10:a 20:B ");
    assert_ok(put(c, MX_PUT_REMOVE, 1, 0, "", &err), &err);
    assert_ok(mx_catalog_mixes(c, 1, 0, UINT64_MAX, log_cb, &gone, &err), &err);
    assert_int_equal(gone.calls, 0);
    mx_catalog_close(c);
}

static void test_snapshot(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain web = add_domain(c, "web", 61);
    struct mx_err err;
    uint8_t *bytes;
    uint64_t step;
    size_t n;

    assert_ok(add_run(c, 1, "a", web.id, &err), &err);
    assert_ok(add_run(c, 2, "b", web.id, &err), &err);
    assert_int_equal(mx_catalog_snapshot(c, 1, 100, &step, &bytes, &n, &err), MX_ENOTFOUND);
    assert_ok(put(c, MX_PUT_SNAPSHOT, 1, 10, "ten", &err), &err);
    assert_ok(put(c, MX_PUT_SNAPSHOT, 2, 7, "seven", &err), &err);
    assert_ok(put(c, MX_PUT_SNAPSHOT, 1, 50, "fifty", &err), &err);
    assert_int_equal(mx_catalog_snapshot(c, 1, 9, &step, &bytes, &n, &err), MX_ENOTFOUND);
    assert_int_equal(mx_catalog_snapshot(c, 2, 6, &step, &bytes, &n, &err), MX_ENOTFOUND);
    assert_ok(mx_catalog_snapshot(c, 1, 49, &step, &bytes, &n, &err), &err);
    assert_int_equal(step, 10);
    assert_int_equal(n, 3);
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

static void test_snapshots(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain web = add_domain(c, "web", 61);
    struct mx_err err;
    struct log some = {.stop_after = 2};
    static const struct {
        uint64_t from, to;
        const char *want;
    } cases[] = {
        {0, 9, ""}, {0, 10, "10:ten "}, {10, 10, "10:ten "}, {11, 49, ""}, {11, 50, "50:fifty "},
        {0, UINT64_MAX, "10:ten 50:fifty 70:seventy "}, {71, UINT64_MAX, ""}, {50, 10, ""},
    };

    assert_ok(add_run(c, 1, "a", web.id, &err), &err);
    assert_ok(add_run(c, 2, "b", web.id, &err), &err);
    assert_ok(put(c, MX_PUT_SNAPSHOT, 1, 50, "50", &err), &err);
    assert_ok(put(c, MX_PUT_SNAPSHOT, 1, 70, "seventy", &err), &err);
    assert_ok(put(c, MX_PUT_SNAPSHOT, 1, 10, "ten", &err), &err);
    assert_ok(put(c, MX_PUT_SNAPSHOT, 1, 50, "fifty", &err), &err);
    assert_ok(put(c, MX_PUT_SNAPSHOT, 2, 20, "other", &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct log l = {0};
        assert_ok(mx_catalog_snapshots(c, 1, cases[i].from, cases[i].to, log_cb, &l, &err), &err);
        assert_string_equal(l.text, cases[i].want);
    }
    assert_int_equal(mx_catalog_snapshots(c, 1, 0, 100, log_cb, &some, &err), 42);
    assert_string_equal(some.text, "10:ten 50:fifty ");
    mx_catalog_close(c);
}

/* ---- reports ---- */

static int put_report(struct mx_catalog *c, uint32_t run, uint64_t step, uint32_t rank,
                      uint64_t floor, uint64_t index, const char *text, struct mx_err *err)
{
    uint8_t b[64];
    struct mx_put p = {.kind = MX_PUT_REPORT, .run = run, .key = step, .rank = rank,
                       .floor = floor, .bytes = b, .n = 8 + strlen(text)};

    assert_true(p.n <= sizeof b);
    mx_store_u64(b, index);
    memcpy(b + 8, text, strlen(text));
    return mx_journal_append(mx_journal_of_catalog(c), &p, 1, err);
}

static void assert_report(struct mx_catalog *c, uint32_t run, uint64_t step, uint32_t rank,
                          uint64_t index, const char *text)
{
    uint8_t b[64];
    size_t n = 0;
    struct mx_err err;

    assert_ok(mx_catalog_report(c, run, step, rank, b, sizeof b, &n, &err), &err);
    assert_int_equal(n, 8 + strlen(text));
    assert_int_equal(mx_load_u64(b), index);
    assert_memory_equal(b + 8, text, strlen(text));
}

static void test_reports(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain web = add_domain(c, "web", 61);
    struct mx_put tiny = {.kind = MX_PUT_REPORT, .run = 1, .bytes = "1234567", .n = 7};
    uint8_t b[16];
    size_t n = 77;
    struct mx_err err;

    assert_int_equal(put_report(c, 1, 0, 0, 0, 1, "early", &err), MX_ENOTFOUND);
    assert_ok(add_run(c, 1, "a", web.id, &err), &err);
    assert_ok(add_run(c, 2, "b", web.id, &err), &err);
    assert_fails(mx_catalog_report(c, 1, 5, 0, b, sizeof b, &n, &err), MX_ENOTFOUND, &err,
                 "run 1 has no report of rank 0 for step 5");
    assert_int_equal(mx_journal_append(mx_journal_of_catalog(c), &tiny, 1, &err), MX_EINVALID);
    assert_ok(put_report(c, 1, 5, 0, 0, 10, "first", &err), &err);
    assert_ok(put_report(c, 1, 5, 1, 0, 11, "rank 1", &err), &err);
    assert_ok(put_report(c, 1, 6, 0, 0, 12, "step 6", &err), &err);
    assert_ok(put_report(c, 2, 5, 0, 0, 1, "run 2", &err), &err);
    /* Kept: it is of the floor or later. */
    assert_ok(put_report(c, 1, 5, 0, 10, 13, "second", &err), &err);
    assert_report(c, 1, 5, 0, 10, "first");
    /* Replaced: what it was in is undone. */
    assert_ok(put_report(c, 1, 5, 0, 11, 14, "third", &err), &err);
    assert_report(c, 1, 5, 0, 14, "third");
    assert_ok(put_report(c, 1, 5, 0, 11, 15, "fourth", &err), &err);
    assert_report(c, 1, 5, 0, 14, "third");
    assert_report(c, 1, 5, 1, 11, "rank 1");
    assert_report(c, 1, 6, 0, 12, "step 6");
    assert_report(c, 2, 5, 0, 1, "run 2");
    assert_ok(put_report(c, 1, MX_STEP_MAX, UINT32_MAX, 0, 16, "", &err), &err);
    assert_report(c, 1, MX_STEP_MAX, UINT32_MAX, 16, "");
    assert_fails(mx_catalog_report(c, 2, 5, 0, b, 12, &n, &err), MX_EINVALID, &err, "13 bytes");
    assert_int_equal(n, 77);
    assert_ok(mx_catalog_report(c, 2, 5, 0, b, 13, &n, &err), &err);
    assert_ok(put(c, MX_PUT_REMOVE, 1, 0, "", &err), &err);
    assert_int_equal(mx_catalog_report(c, 1, 5, 0, b, sizeof b, &n, &err), MX_ENOTFOUND);
    assert_int_equal(mx_catalog_report(c, 1, 6, 0, b, sizeof b, &n, &err), MX_ENOTFOUND);
    assert_report(c, 2, 5, 0, 1, "run 2");
    mx_catalog_close(c);
}

/* Two of the same step and rank in one group: the second meets the first. */
static void test_reports_in_a_group(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain web = add_domain(c, "web", 61);
    uint8_t one[8], two[8];
    struct mx_put puts[2] = {
        {.kind = MX_PUT_REPORT, .run = 1, .key = 3, .rank = 2, .floor = 1, .bytes = one, .n = 8},
        {.kind = MX_PUT_REPORT, .run = 1, .key = 3, .rank = 2, .floor = 1, .bytes = two, .n = 8},
    };
    struct mx_err err;

    mx_store_u64(one, 1);
    mx_store_u64(two, 2);
    assert_ok(add_run(c, 1, "a", web.id, &err), &err);
    assert_ok(mx_journal_append(mx_journal_of_catalog(c), puts, 2, &err), &err);
    assert_report(c, 1, 3, 2, 1, "");
    mx_catalog_close(c);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_runs), TEST(test_group_commit),
        TEST(test_mixes), TEST(test_snapshot), TEST(test_snapshots), TEST(test_reports),
        TEST(test_reports_in_a_group),
    };
    return cmocka_run_group_tests_name("store-runs", tests, NULL, NULL);
}
