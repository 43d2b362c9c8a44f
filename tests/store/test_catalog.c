/* test_catalog.c - domains and shards come back as they went in; conflicts and damage are errors;
 * other processes see commits without reopening. */
#include "catalog_check.h"

#include "store/catalog_impl.h"
#include "store/view.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* gcc says so with macros, clang with features. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MX_SANITIZED 1
#elif defined(__has_feature)
#define MX_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define MX_SANITIZED 0
#endif

/* ---- opening ---- */

static void test_open(void **state)
{
    char *dir = path_in(*state, "store"), *shards = path_in(*state, "store/shards");
    struct mx_catalog *c;
    struct mx_err err;
    uint64_t id, used, size, generation;

    assert_fails(mx_catalog_open(dir, false, &c, &err), MX_ENOTFOUND, &err, dir);
    c = open_store(dir);
    assert_int_equal(access(shards, F_OK), 0);
    id = mx_catalog_store_id(c);
    assert_int_not_equal(id, 0);
    assert_ok(mx_catalog_generation(c, &generation, &err), &err);
    assert_int_equal(generation, 0);
    assert_ok(mx_catalog_usage(c, &used, &size, &err), &err);
    assert_true(used > 0 && used < size && size <= MX_CATALOG_MAP_BYTES);
    mx_catalog_close(c);
    assert_ok(mx_catalog_open(dir, false, &c, &err), &err);
    assert_int_equal(mx_catalog_store_id(c), id);
    mx_catalog_close(c);
    assert_int_equal(mx_catalog_open("/nowhere/at/all", true, &c, &err), MX_ENOTFOUND);
    free(dir);
    free(shards);
}

/* A store as another version would have made it, which has the meta table and maybe no other. */
static void set_version(const char *dir, uint32_t version)
{
    struct mx_store_format f = {.version = version, .store_id = 1};
    struct mx_catalog *c = open_store(dir);
    struct mx_kv_txn t;
    uint8_t b[MX_FORMAT_BYTES];
    struct mx_err err;

    mx_store_format_encode(&f, b);
    assert_ok(mx_kv_begin(c->kv, true, &t, &err), &err);
    assert_ok(mx_record_put(c, &t, MX_TABLE_META, MX_META_FORMAT, 6, b, sizeof b, false, &err),
              &err);
    assert_ok(mx_kv_commit(&t, &err), &err);
    mx_catalog_close(c);
}

static void test_older_version(void **state)
{
    struct mx_catalog *c;
    struct mx_err err;

    set_version(*state, 2);
    assert_fails(mx_catalog_open(*state, true, &c, &err), MX_EVERSION, &err,
                 "made by an older mixd (store format 2; this one writes 3): ingest again into a "
                 "new folder");
    assert_fails(mx_catalog_open(*state, false, &c, &err), MX_EVERSION, &err, "store format 2;");
}

static void test_newer_version(void **state)
{
    struct mx_catalog *c;
    struct mx_err err;

    set_version(*state, 4);
    assert_fails(mx_catalog_open(*state, true, &c, &err), MX_EVERSION, &err,
                 "made by a newer mixd (store format 4, this one knows 3): use that one");
    assert_fails(mx_catalog_open(*state, false, &c, &err), MX_EVERSION, &err, "store format 4,");
}

static void test_not_a_catalog(void **state)
{
    char *path = path_in(*state, "catalog"), junk[20000];
    struct mx_catalog *c;
    struct mx_err err;

    memset(junk, 'j', sizeof junk);
    write_file(path, junk, sizeof junk);
    assert_fails(mx_catalog_open(*state, true, &c, &err), MX_EDAMAGED, &err, path);
    free(path);
}

static void test_lock(void **state)
{
    struct mx_err err;
    char pid[32];
    int fd, other;

    assert_ok(mx_store_lock(*state, &fd, &err), &err);
    (void)snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_fails(mx_store_lock(*state, &other, &err), MX_EBUSY, &err, pid);
    close(fd);
    assert_ok(mx_store_lock(*state, &fd, &err), &err);
    close(fd);
    assert_int_equal(mx_store_lock("/nowhere/at/all", &fd, &err), MX_ENOTFOUND);
}

/* Where there is little address space the map is smaller; where there is too little, it says so. */
static void test_address_space(void **state)
{
    static const struct {
        rlim_t bytes;
        int want;
    } cases[] = {{(rlim_t)3 << 30, 0}, {(rlim_t)200 << 20, MX_ENOMEM}};

#if MX_SANITIZED
    skip(); /* sanitizers take terabytes of it themselves */
#endif
    for (size_t i = 0; i < 2; i++) {
        int status;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct rlimit r = {cases[i].bytes, cases[i].bytes};
            struct mx_catalog *c;
            struct mx_err err = {0, ""};
            int rc = setrlimit(RLIMIT_AS, &r) != 0 ? 1 : mx_catalog_open(*state, true, &c, &err);
            _exit(rc == cases[i].want && (rc == 0 || strstr(err.text, "ulimit") != NULL) ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

/* ---- domains ---- */

static void test_names(void **state)
{
    static const char *const good[] = {"a", "Web", "web-2.0_x", "0"};
    static const char *const bad[] = {"", ".web", "-web", "_web", "we b", "we/b", "w\xc3\xa9"};
    char longest[MX_NAME_MAX + 2];
    struct mx_err err;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_ok(mx_name_check(good[i], strlen(good[i]), "domain", &err), &err);
    }
    for (size_t i = 0; i < 7; i++) {
        assert_fails(mx_name_check(bad[i], strlen(bad[i]), "domain", &err), MX_EINVALID, &err,
                     "domain");
    }
    assert_fails(mx_name_check("we b", 4, "run", &err), MX_EINVALID, &err, "byte 2 (0x20)");
    memset(longest, 'x', sizeof longest);
    assert_ok(mx_name_check(longest, MX_NAME_MAX, "run", &err), &err);
    assert_int_equal(mx_name_check(longest, MX_NAME_MAX + 1, "run", &err), MX_EINVALID);
}

static void test_register(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_shard_info in[3] = {shard_info(11, 100), shard_info(12, 200), shard_info(13, 300)};
    struct mx_shard_info out[3];
    struct mx_domain d = new_domain("web"), got;
    struct mx_err err;
    uint64_t generation;
    void *dictionary;
    size_t n;

    assert_fails(mx_catalog_domain(c, "web", &got, &err), MX_ENOTFOUND, &err, "'web'");
    assert_ok(mx_catalog_register(c, &d, "dict", 4, in, 2, &err), &err);
    assert_int_equal(d.id, 1);
    assert_int_equal(d.shards, 2);
    assert_int_equal(d.tokens, 300);
    assert_int_equal(d.documents, 4);
    assert_int_equal(d.bytes, 600);
    assert_int_equal(d.source_bytes, 80);
    assert_ok(mx_catalog_register(c, &d, NULL, 0, in + 2, 1, &err), &err);
    assert_ok(mx_catalog_domain(c, "web", &got, &err), &err);
    assert_int_equal(got.shards, 3);
    assert_int_equal(got.tokens, 600);
    assert_string_equal(got.tokenizer, "bytes");
    assert_ok(mx_catalog_domain_by_id(c, 1, &got, &err), &err);
    assert_string_equal(got.name, "web");
    assert_ok(mx_catalog_shards(c, 1, 0, 3, out, &err), &err);
    for (int i = 0; i < 3; i++) {
        assert_true(same_info(&out[i], &in[i]));
    }
    assert_ok(mx_catalog_shards(c, 1, 1, 1, out, &err), &err);
    assert_int_equal(out[0].id, 12);
    assert_int_equal(mx_catalog_shards(c, 1, 2, 2, out, &err), MX_ENOTFOUND);
    assert_ok(mx_catalog_dictionary(c, 1, &dictionary, &n, &err), &err);
    assert_int_equal(n, 4);
    assert_memory_equal(dictionary, "dict", 4);
    free(dictionary);
    assert_int_equal(mx_catalog_has_shard(c, 12, &err), 1);
    assert_int_equal(mx_catalog_has_shard(c, 14, &err), 0);
    assert_ok(mx_catalog_generation(c, &generation, &err), &err);
    assert_int_equal(generation, 2);
    mx_catalog_close(c);
}

static void test_register_conflicts(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain first = add_domain(c, "web", 21), d = new_domain("web");
    struct mx_shard_info i = shard_info(22, 100), two[2] = {shard_info(23, 1), shard_info(21, 1)};
    struct mx_err err;
    struct log l = {0};

    d.width = 4;
    assert_fails(mx_catalog_register(c, &d, NULL, 0, &i, 1, &err), MX_EEXISTS, &err, "2 bytes");
    d = new_domain("web");
    d.eod = UINT32_MAX;
    assert_fails(mx_catalog_register(c, &d, NULL, 0, &i, 1, &err), MX_EEXISTS, &err, "256, not -1");
    d = new_domain("web");
    (void)snprintf(d.tokenizer, sizeof d.tokenizer, "gpt2");
    assert_fails(mx_catalog_register(c, &d, NULL, 0, &i, 1, &err), MX_EEXISTS, &err, "gpt2");
    d = new_domain("we b");
    assert_int_equal(mx_catalog_register(c, &d, NULL, 0, &i, 1, &err), MX_EINVALID);
    d = new_domain("web");
    i.width = 4;
    assert_int_equal(mx_catalog_register(c, &d, NULL, 0, &i, 1, &err), MX_EINVALID);
    assert_int_equal(mx_catalog_register(c, &d, NULL, 0, &i, 0, &err), MX_EINVALID);
    /* All or none: the second shard is there already, so the first isn't registered either. */
    assert_fails(mx_catalog_register(c, &d, NULL, 0, two, 2, &err), MX_EEXISTS, &err,
                 "0000000000000015");
    assert_int_equal(mx_catalog_has_shard(c, 23, &err), 0);
    assert_int_equal(d.id, 0);
    /* Made by another meanwhile: joined. */
    i.width = 2;
    assert_ok(mx_catalog_register(c, &d, NULL, 0, &i, 1, &err), &err);
    assert_int_equal(d.id, first.id);
    assert_int_equal(d.shards, 2);
    /* Removed meanwhile: gone, and its id isn't used again. */
    assert_ok(mx_catalog_domain_remove(c, "web", forget_cb, &l, &err), &err);
    assert_string_equal(l.text, "15 16 ");
    assert_fails(mx_catalog_register(c, &d, NULL, 0, &i, 1, &err), MX_EGONE, &err, "web");
    assert_int_equal(add_domain(c, "web", 22).id, 2);
    mx_catalog_close(c);
}

static void test_domains_in_order(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_err err;
    struct log all = {0}, some = {.stop_after = 2};

    (void)add_domain(c, "web", 1);
    (void)add_domain(c, "code", 2);
    (void)add_domain(c, "Z", 3);
    (void)add_domain(c, "papers", 4);
    assert_ok(mx_catalog_domains(c, domain_cb, &all, &err), &err);
    assert_string_equal(all.text, "Z code papers web ");
    assert_int_equal(mx_catalog_domains(c, domain_cb, &some, &err), 42);
    assert_string_equal(some.text, "Z code ");
    mx_catalog_close(c);
}

static void test_remove_domain(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain web = add_domain(c, "web", 31), code = add_domain(c, "code", 32);
    struct mx_err err;
    struct log l = {0}, left = {0};
    uint64_t before, after;
    void *dictionary = (void *)1;
    size_t n = 1;

    assert_ok(add_run(c, 1, "train", web.id, &err), &err);
    assert_fails(mx_catalog_domain_remove(c, "web", forget_cb, &l, &err), MX_EBUSY, &err, "train");
    assert_int_equal(l.n, 0);
    assert_int_equal(mx_catalog_domain_remove(c, "nothing", NULL, NULL, &err), MX_ENOTFOUND);
    assert_ok(mx_catalog_generation(c, &before, &err), &err);
    assert_ok(mx_catalog_domain_remove(c, "code", forget_cb, &l, &err), &err);
    assert_ok(mx_catalog_generation(c, &after, &err), &err);
    assert_true(after > before);
    assert_string_equal(l.text, "20 ");
    assert_int_equal(mx_catalog_has_shard(c, 32, &err), 0);
    assert_int_equal(mx_catalog_domain_by_id(c, code.id, &code, &err), MX_ENOTFOUND);
    assert_ok(mx_catalog_dictionary(c, code.id, &dictionary, &n, &err), &err);
    assert_null(dictionary);
    assert_ok(put(c, MX_PUT_REMOVE, 1, 0, "", &err), &err);
    assert_ok(mx_catalog_domain_remove(c, "web", NULL, NULL, &err), &err);
    assert_ok(mx_catalog_domains(c, domain_cb, &left, &err), &err);
    assert_int_equal(left.calls, 0);
    mx_catalog_close(c);
}

/* ---- damage, and other processes ---- */

/* Changes one stored byte under the catalog's feet, past its checksums. */
static void hurt(struct mx_catalog *c, enum mx_table table, const void *key, size_t n)
{
    struct mx_kv_txn t;
    struct mx_span v;
    struct mx_err err;
    uint8_t copy[600];

    assert_ok(mx_kv_begin(c->kv, true, &t, &err), &err);
    assert_ok(mx_kv_get(&t, c->tables[table], key, n, &v, &err), &err);
    assert_true(v.n <= sizeof copy);
    memcpy(copy, v.p, v.n);
    copy[v.n - 1] ^= 1;
    assert_ok(mx_kv_put(&t, c->tables[table], key, n, copy, v.n, false, &err), &err);
    assert_ok(mx_kv_commit(&t, &err), &err);
}

static void test_damaged_records(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_domain web = add_domain(c, "web", 71), d;
    struct mx_shard_info i;
    struct mx_err err;
    uint8_t key[MX_CATALOG_KEY_MAX];
    struct log l = {0};
    uint64_t generation;

    assert_ok(add_run(c, 1, "a", web.id, &err), &err);
    for (uint64_t k = 1; k <= 5; k++) {
        assert_ok(put(c, MX_PUT_ENTRY, 1, k, "entry", &err), &err);
    }
    hurt(c, MX_TABLE_JOURNAL, key, mx_key_u32_u64(1, 4, key));
    assert_fails(mx_journal_read(mx_journal_of_catalog(c), 1, 0, log_cb, &l, &err), MX_EDAMAGED,
                 &err, "record 1/4 of table 'journal'");
    assert_int_equal(l.calls, 3);
    hurt(c, MX_TABLE_SHARDS, key, mx_key_u32_u32(web.id, 0, key));
    assert_fails(mx_catalog_shards(c, web.id, 0, 1, &i, &err), MX_EDAMAGED, &err, "1/0");
    hurt(c, MX_TABLE_DOMAINS, key, mx_key_u32(web.id, key));
    assert_fails(mx_catalog_domain(c, "web", &d, &err), MX_EDAMAGED, &err, "'domains'");
    hurt(c, MX_TABLE_DOMAIN_NAMES, "web", 3);
    assert_fails(mx_catalog_domains(c, domain_cb, &l, &err), MX_EDAMAGED, &err, "'web'");
    hurt(c, MX_TABLE_RUNS, key, mx_key_u32(1, key));
    assert_fails(mx_catalog_runs(c, run_cb, &l, &err), MX_EDAMAGED, &err, "'runs'");
    hurt(c, MX_TABLE_META, "generation", 10);
    assert_fails(mx_catalog_generation(c, &generation, &err), MX_EDAMAGED, &err, "'generation'");
    hurt(c, MX_TABLE_META, "format", 6);
    mx_catalog_close(c);
    assert_fails(mx_catalog_open(*state, false, &c, &err), MX_EDAMAGED, &err, "'format'");
}

/* This process sees what another one registers, without opening anything again. */
static void test_two_processes(void **state)
{
    int ready[2], status;
    pid_t pid;
    char byte = 0;
    struct mx_catalog *c;
    struct mx_err err;
    struct mx_domain d;
    uint64_t generation;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct mx_domain mine = new_domain("late");
        struct mx_shard_info i = shard_info(81, 100);
        /* Waits until the parent has looked. */
        bool ok = read(ready[0], &byte, 1) == 1 && mx_catalog_open(*state, true, &c, &err) == 0 &&
                  mx_catalog_register(c, &mine, NULL, 0, &i, 1, &err) == 0;
        _exit(ok ? 0 : 1);
    }
    c = open_store(*state);
    assert_int_equal(mx_catalog_domain(c, "late", &d, &err), MX_ENOTFOUND);
    assert_int_equal(write(ready[1], &byte, 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_ok(mx_catalog_generation(c, &generation, &err), &err);
    assert_int_equal(generation, 1);
    assert_ok(mx_catalog_domain(c, "late", &d, &err), &err);
    assert_int_equal(d.shards, 1);
    mx_catalog_close(c);
    close(ready[0]);
    close(ready[1]);
}

/* Several at once make one store, and what one that was killed has left is no hindrance. */
static void test_making(void **state)
{
    char *dir = path_in(*state, "store"), *tmp = path_in(*state, "store/catalog.tmp");
    struct mx_catalog *c;
    struct mx_err err;
    uint64_t ids[2] = {0, 0};
    int out[2];

    assert_int_equal(mkdir(dir, 0700), 0);
    write_file(tmp, "half of a catalog", 17);
    assert_int_equal(pipe(out), 0);
    for (int i = 0; i < 8; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            if (mx_catalog_open(dir, true, &c, &err) == 0) {
                ids[0] = mx_catalog_store_id(c);
            }
            _exit(write(out[1], ids, sizeof ids[0]) == sizeof ids[0] ? 0 : 1);
        }
    }
    for (int i = 0; i < 8; i++) {
        int status;
        assert_int_equal(read(out[0], &ids[i > 0], sizeof ids[0]), sizeof ids[0]);
        assert_int_not_equal(ids[0], 0);
        assert_true(i == 0 || ids[1] == ids[0]);
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_int_not_equal(access(tmp, F_OK), 0);
    close(out[0]);
    close(out[1]);
    free(dir);
    free(tmp);
}

/* An environment that is nobody's store is left as it is. */
static void test_empty_catalog(void **state)
{
    char *path = path_in(*state, "catalog");
    struct mx_kv_options o = {.mode = MX_KV_BUILD, .map_bytes = 1 << 20, .dbs = 1};
    struct mx_catalog *c;
    struct mx_kv *kv;
    struct mx_err err;

    assert_ok(mx_kv_open(path, &o, &kv, &err), &err);
    mx_kv_close(kv);
    assert_fails(mx_catalog_open(*state, true, &c, &err), MX_ENOTFOUND, &err, "is empty");
    free(path);
}

/* ---- views ---- */

static void test_view(void **state)
{
    struct mx_catalog *c = open_store(*state);
    struct mx_shard_info in[4] = {shard_info(91, 1000), shard_info(92, 99), shard_info(93, 100),
                                  shard_info(94, 350)};
    struct mx_domain d = new_domain("web");
    struct mx_view v;
    struct mx_err err;
    uint64_t shard, token;

    assert_ok(mx_catalog_register(c, &d, NULL, 0, in, 4, &err), &err);
    assert_ok(mx_view_make(c, &d, 4, 100, &v, &err), &err);
    assert_int_equal(v.n, 4);
    assert_int_equal(mx_view_shard_samples(&v, 0), 10);
    assert_int_equal(mx_view_shard_samples(&v, 1), 0);
    assert_int_equal(mx_view_shard_samples(&v, 3), 3);
    assert_int_equal(v.samples, 10 + 0 + 1 + 3);
    assert_int_equal(v.chunk, 1);
    assert_int_equal(v.width, 2);
    for (uint64_t i = 0; i < v.samples; i++) {
        mx_view_find(&v, i, &shard, &token);
        assert_int_equal(shard, i < 10 ? 91 : i < 11 ? 93 : 94);
        assert_int_equal(token, (i < 10 ? i : i < 11 ? 0 : i - 11) * 100);
    }
    mx_view_clear(&v);
    assert_ok(mx_view_make(c, &d, 2, 100, &v, &err), &err);
    assert_int_equal(v.samples, 10);
    mx_view_clear(&v);
    assert_ok(mx_view_make(c, &d, 4, 5000, &v, &err), &err);
    assert_int_equal(v.samples, 0);
    mx_view_clear(&v);
    assert_int_equal(mx_view_make(c, &d, 5, 100, &v, &err), MX_EINVALID);
    assert_int_equal(mx_view_make(c, &d, 4, 0, &v, &err), MX_EINVALID);
    in[0] = shard_info(95, 200);
    in[0].level = 3;
    assert_ok(mx_catalog_register(c, &d, NULL, 0, in, 1, &err), &err);
    assert_ok(mx_view_make(c, &d, 5, 100, &v, &err), &err);
    assert_int_equal(v.chunk, 655);
    assert_int_equal(v.samples, 16);
    mx_view_clear(&v);
    mx_catalog_close(c);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_open), TEST(test_older_version), TEST(test_newer_version),
        TEST(test_not_a_catalog), TEST(test_lock),
        TEST(test_address_space), TEST(test_names), TEST(test_register),
        TEST(test_register_conflicts), TEST(test_domains_in_order), TEST(test_remove_domain),
        TEST(test_damaged_records), TEST(test_two_processes), TEST(test_making),
        TEST(test_empty_catalog), TEST(test_view),
    };
    return cmocka_run_group_tests_name("store-catalog", tests, NULL, NULL);
}
