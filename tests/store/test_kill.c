/* test_kill.c - ingests that are killed at any instant leave the store as it was, and two at a time
 * leave each other alone. */
#include "ingest_check.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DOCUMENTS 6000u

/* A corpus of some megabytes: long enough to be killed in the middle, in many small shards. */
static char *make_corpus(size_t *ret_n)
{
    char *text = malloc(DOCUMENTS * 700), *p = text;

    assert_non_null(text);
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        p += sprintf(p, "{\"id\":%u,\"text\":\"", i);
        memset(p, 'a' + (int)(i % 26), 600);
        p = stpcpy(p + 600, "\"}\n");
    }
    *ret_n = (size_t)(p - text);
    return text;
}

static pid_t start_ingest(const char *dir, const char *domain)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct mx_ingest_options o = ingest_options(domain, MX_FORMAT_JSONL);
        char *path = path_in(dir, "corpus"), *store = path_in(dir, "store");
        const char *files[1] = {path};
        struct mx_ingest_result r;
        o.level = MX_LEVEL_RAW;
        o.shard_bytes = 300000;
        _exit(mx_ingest(store, files, 1, &o, &r, NULL) == 0 ? 0 : 1);
    }
    return pid;
}

/* Bytes of input that the domain in the catalog was made of; 0 for none. */
static uint64_t source_bytes_of(const char *dir, const char *domain)
{
    char *store = path_in(dir, "store");
    struct mx_catalog *c;
    struct mx_domain d = {0};
    struct mx_err err;
    int rc = mx_catalog_open(store, true, &c, &err);

    assert_ok(rc, &err);
    rc = mx_catalog_domain(c, domain, &d, &err);
    assert_true(rc == 0 || rc == MX_ENOTFOUND);
    mx_catalog_close(c);
    free(store);
    return rc == 0 ? d.source_bytes : 0;
}

static double seconds(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void wait_for(pid_t pid, int *ret_status)
{
    assert_int_equal(waitpid(pid, ret_status, 0), pid);
}

static void test_kill(void **state)
{
    struct dice d = {test_seed("kill", 91)};
    char *path = path_in(*state, "corpus");
    size_t n;
    char *corpus = make_corpus(&n);
    uint64_t before, after;
    unsigned killed = 0;
    double took;
    int status;
    struct whole w;
    struct mx_err err;

    write_file(path, corpus, n);
    took = seconds();
    wait_for(start_ingest(*state, "web"), &status);
    took = seconds() - took;
    assert_int_equal(status, 0);
    before = source_bytes_of(*state, "web");
    assert_int_equal(before, n);
    for (unsigned round = 0; round < 40; round++) {
        pid_t pid = start_ingest(*state, "web");
        struct timespec t = {0, (long)((double)below(&d, 1000) / 1000.0 * took * 1.05e9)};
        t.tv_sec = t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        (void)nanosleep(&t, NULL);
        assert_int_equal(kill(pid, SIGKILL), 0);
        wait_for(pid, &status);
        killed += WIFSIGNALED(status);
        after = source_bytes_of(*state, "web");
        /* As before, or all of it: the kill came after the commit. */
        assert_true(after == before || after == before + n);
        before = after;
    }
    print_message("%u of 40 were killed in the middle\n", killed);
    assert_true(killed > 10);
    wait_for(start_ingest(*state, "web"), &status);
    assert_int_equal(status, 0);
    assert_int_equal(source_bytes_of(*state, "web"), before + n);
    assert_ok(whole_read(*state, "web", &w, &err), &err);
    assert_clean(*state, w.domain.shards);
    whole_free(&w);
    free(corpus);
    free(path);
}

/* Each of them sweeps when it starts; neither may take the other's files. */
static void test_beside_each_other(void **state)
{
    char *path = path_in(*state, "corpus");
    size_t n;
    char *corpus = make_corpus(&n);
    struct whole w;
    struct mx_err err;

    write_file(path, corpus, n);
    for (unsigned round = 0; round < 5; round++) {
        pid_t pids[3];
        for (unsigned i = 0; i < 3; i++) {
            const struct timespec t = {0, 3000000};
            pids[i] = start_ingest(*state, i == 2 ? "code" : "web");
            (void)nanosleep(&t, NULL);
        }
        for (unsigned i = 0; i < 3; i++) {
            int status;
            wait_for(pids[i], &status);
            assert_int_equal(status, 0);
        }
    }
    assert_int_equal(source_bytes_of(*state, "web"), 10 * n);
    assert_int_equal(source_bytes_of(*state, "code"), 5 * n);
    assert_ok(whole_read(*state, "web", &w, &err), &err);
    assert_int_equal(w.n, 10 * DOCUMENTS * 601);
    whole_free(&w);
    assert_ok(whole_read(*state, "code", &w, &err), &err);
    assert_int_equal(w.n, 5 * DOCUMENTS * 601);
    whole_free(&w);
    free(corpus);
    free(path);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {TEST(test_kill), TEST(test_beside_each_other)};
    return cmocka_run_group_tests_name("store-kill", tests, NULL, NULL);
}
