/* test_entries.c - damage to what is kept of a run: an entry, a base or a report that was changed
 * or is missing is named, and the other runs are read as ever. */
#include "catalog_check.h"

#include "store/catalog_impl.h"

/* Two runs of five entries each; the entries of run 1 are given. */
static struct mx_catalog *two_runs(const char *dir, const char *const texts[5])
{
    struct mx_catalog *c = open_store(dir);
    struct mx_domain web = add_domain(c, "web", 71);
    struct mx_err err;

    assert_ok(add_run(c, 1, "a", web.id, &err), &err);
    assert_ok(add_run(c, 2, "b", web.id, &err), &err);
    for (uint64_t i = 1; i <= 5; i++) {
        assert_ok(put(c, MX_PUT_ENTRY, 1, i, texts[i - 1], &err), &err);
        assert_ok(put(c, MX_PUT_ENTRY, 2, i, "other", &err), &err);
    }
    return c;
}

static const char *const plain[5] = {"one", "two", "three", "four", "five"};

static void assert_other_run(struct mx_catalog *c)
{
    struct mx_err err;
    struct log l = {0};

    assert_ok(mx_journal_read(mx_journal_of_catalog(c), 2, 0, log_cb, &l, &err), &err);
    assert_string_equal(l.text, "1:other 2:other 3:other 4:other 5:other ");
}

static int count_cb(void *arg, uint64_t index, struct mx_span bytes)
{
    unsigned *calls = arg;

    (void)index;
    (void)bytes;
    ++*calls;
    return 0;
}

/* Reads run 1 from an index: how many entries came before the code. */
static int read_from(struct mx_catalog *c, uint64_t from, unsigned *ret_calls, struct mx_err *err)
{
    *ret_calls = 0;
    return mx_journal_read(mx_journal_of_catalog(c), 1, from, count_cb, ret_calls, err);
}

/* Takes a record away, or puts one, past all that the catalog checks. */
static void take(struct mx_catalog *c, enum mx_table table, const void *key, size_t n)
{
    struct mx_kv_txn t;
    struct mx_err err;

    assert_ok(mx_kv_begin(c->kv, true, &t, &err), &err);
    assert_ok(mx_kv_delete(&t, c->tables[table], key, n, &err), &err);
    assert_ok(mx_kv_commit(&t, &err), &err);
}

static void set(struct mx_catalog *c, enum mx_table table, const void *key, size_t key_n,
                const void *payload, size_t n)
{
    struct mx_kv_txn t;
    struct mx_err err;

    assert_ok(mx_kv_begin(c->kv, true, &t, &err), &err);
    assert_ok(mx_record_put(c, &t, table, key, key_n, payload, n, false, &err), &err);
    assert_ok(mx_kv_commit(&t, &err), &err);
}

/* Every copy of `what` in a file: pages that are free again may still have one. */
static unsigned flip_all(const char *path, const char *what, ptrdiff_t at, unsigned bit)
{
    size_t n, what_n = strlen(what);
    uint8_t *bytes = read_file(path, &n), *original = malloc(n);
    unsigned found = 0;

    assert_non_null(original);
    memcpy(original, bytes, n);
    for (size_t i = MX_SEAL_BYTES; i + what_n <= n; i++) {
        if (memcmp(original + i, what, what_n) == 0) {
            bytes[(ptrdiff_t)i + at] ^= (uint8_t)(1u << bit);
            found++;
        }
    }
    write_file(path, bytes, n);
    free(original);
    free(bytes);
    return found;
}

/* Entry 3 of run 1 is changed in the file: each byte of its seal and its payload, in turn. */
static void flip_each(const char *dir, const char *const texts[5], size_t step)
{
    char *path = path_in(dir, "catalog");
    struct mx_catalog *c = two_runs(dir, texts);
    struct mx_err err;
    unsigned calls;
    size_t n, saved_n;
    uint8_t *saved;

    mx_catalog_close(c);
    saved = read_file(path, &saved_n);
    n = strlen(texts[2]);
    for (size_t i = 0; i < n + MX_SEAL_BYTES; i += i < MX_SEAL_BYTES ? 1 : step) {
        assert_true(flip_all(path, texts[2], (ptrdiff_t)i - (ptrdiff_t)MX_SEAL_BYTES, i % 8) > 0);
        assert_ok(mx_catalog_open(dir, false, &c, &err), &err);
        assert_fails(read_from(c, 0, &calls, &err), MX_EDAMAGED, &err,
                     "record 1/3 of table 'journal'");
        assert_int_equal(calls, 2);
        assert_int_equal(read_from(c, 3, &calls, &err), MX_EDAMAGED);
        assert_ok(read_from(c, 4, &calls, &err), &err);
        assert_int_equal(calls, 2);
        assert_other_run(c);
        mx_catalog_close(c);
        write_file(path, saved, saved_n);
    }
    assert_ok(mx_catalog_open(dir, false, &c, &err), &err);
    assert_ok(read_from(c, 0, &calls, &err), &err);
    assert_int_equal(calls, 5);
    mx_catalog_close(c);
    free(saved);
    free(path);
}

static void test_flipped_in_a_page(void **state)
{
    static const char *const texts[5] = {"one", "two", "an entry that is found by its text", "4",
                                         "5"};

    flip_each(*state, texts, 1);
}

/* An entry so long that it has pages of its own. */
static void test_flipped_in_pages_of_its_own(void **state)
{
    static char large[30001];
    const char *texts[5] = {"one", "two", large, "four", "five"};

    for (size_t i = 0; i < sizeof large - 1; i++) {
        large[i] = (char)('a' + i * 7 % 23);
    }
    flip_each(*state, texts, 4999);
}

static void test_missing(void **state)
{
    static const struct {
        uint64_t index;
        unsigned calls; /* entries before it */
    } cases[] = {{3, 2}, {2, 1}, {1, 0}};
    struct mx_catalog *c = two_runs(*state, plain);
    struct mx_journal *j = mx_journal_of_catalog(c);
    uint8_t key[MX_CATALOG_KEY_MAX];
    uint64_t first, last;
    struct mx_err err;
    unsigned calls;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "record 1/%u of", (unsigned)cases[i].index);
        take(c, MX_TABLE_JOURNAL, key, mx_key_u32_u64(1, cases[i].index, key));
        assert_fails(read_from(c, 0, &calls, &err), MX_EDAMAGED, &err, name);
        assert_int_equal(calls, cases[i].calls);
        assert_fails(read_from(c, cases[i].index, &calls, &err), MX_EDAMAGED, &err, name);
        assert_int_equal(calls, 0);
    }
    assert_ok(read_from(c, 4, &calls, &err), &err);
    assert_int_equal(calls, 2);
    /* Without its first entry it isn't taken for one that was compacted. */
    assert_fails(mx_journal_bounds(j, 1, &first, &last, &err), MX_EDAMAGED, &err, "1/1");
    assert_fails(put(c, MX_PUT_COMPACT, 1, 4, "", &err), MX_EDAMAGED, &err, "1/1");
    assert_ok(mx_journal_bounds(j, 2, &first, &last, &err), &err);
    assert_int_equal(last, 5);
    assert_other_run(c);
    mx_catalog_close(c);
}

static void test_base(void **state)
{
    struct mx_catalog *c = two_runs(*state, plain);
    struct mx_journal *j = mx_journal_of_catalog(c);
    uint8_t base[MX_CATALOG_KEY_MAX], key[MX_CATALOG_KEY_MAX], number[8];
    size_t n = mx_key_u32_u64(1, 0, base);
    uint64_t first, last;
    struct mx_err err;
    unsigned calls;

    assert_ok(put(c, MX_PUT_COMPACT, 1, 3, "", &err), &err);
    assert_ok(read_from(c, 4, &calls, &err), &err);
    assert_int_equal(calls, 2);
    /* Gone: then entries are missing. */
    take(c, MX_TABLE_JOURNAL, base, n);
    assert_fails(read_from(c, 0, &calls, &err), MX_EDAMAGED, &err, "1/1");
    assert_fails(mx_journal_bounds(j, 1, &first, &last, &err), MX_EDAMAGED, &err, "1/1");
    /* Of a length or a number that can't be. */
    mx_store_u64(number, 1);
    set(c, MX_TABLE_JOURNAL, base, n, number, 8);
    assert_fails(read_from(c, 4, &calls, &err), MX_EDAMAGED, &err, "1/0");
    mx_store_u64(number, 4);
    set(c, MX_TABLE_JOURNAL, base, n, number, 7);
    assert_fails(mx_journal_bounds(j, 1, &first, &last, &err), MX_EDAMAGED, &err, "1/0");
    set(c, MX_TABLE_JOURNAL, base, n, number, 8);
    assert_ok(mx_journal_bounds(j, 1, &first, &last, &err), &err);
    assert_int_equal(first, 4);
    /* The entry that it names, and then all of them. */
    take(c, MX_TABLE_JOURNAL, key, mx_key_u32_u64(1, 4, key));
    assert_fails(read_from(c, 4, &calls, &err), MX_EDAMAGED, &err, "1/4");
    assert_fails(mx_journal_bounds(j, 1, &first, &last, &err), MX_EDAMAGED, &err, "1/4");
    take(c, MX_TABLE_JOURNAL, key, mx_key_u32_u64(1, 5, key));
    assert_fails(read_from(c, 4, &calls, &err), MX_EDAMAGED, &err, "1/4");
    assert_fails(mx_journal_bounds(j, 1, &first, &last, &err), MX_EDAMAGED, &err, "1/0");
    assert_fails(put(c, MX_PUT_ENTRY, 1, 1, "anew", &err), MX_EDAMAGED, &err, "1/0");
    assert_other_run(c);
    mx_catalog_close(c);
}

static void test_short_report(void **state)
{
    struct mx_catalog *c = two_runs(*state, plain);
    struct mx_put p = {.kind = MX_PUT_REPORT, .run = 1, .key = 7, .rank = 3, .bytes = "12345678",
                       .n = 8};
    uint8_t key[MX_CATALOG_KEY_MAX], got[16];
    size_t n = mx_key_u32_u64_u32(1, 7, 3, key), got_n;
    struct mx_err err;

    set(c, MX_TABLE_REPORTS, key, n, "1234567", 7);
    assert_fails(mx_catalog_report(c, 1, 7, 3, got, sizeof got, &got_n, &err), MX_EDAMAGED, &err,
                 "record 1/7/3 of table 'reports'");
    assert_int_equal(mx_journal_append(mx_journal_of_catalog(c), &p, 1, &err), MX_EDAMAGED);
    mx_catalog_close(c);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_flipped_in_a_page), TEST(test_flipped_in_pages_of_its_own), TEST(test_missing),
        TEST(test_base), TEST(test_short_report),
    };
    return cmocka_run_group_tests_name("store-entries", tests, NULL, NULL);
}
