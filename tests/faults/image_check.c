/* image_check.c - see image_check.h. */
#include "image_check.h"

#include "daemon/entry.h"
#include "store/catalog.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENTRIES_MAX 4096u /* of a run, with one at 0 that isn't used */

struct journal {
    uint8_t *bytes[ENTRIES_MAX];
    size_t n[ENTRIES_MAX];
    enum mx_entry_kind kind[ENTRIES_MAX];
    uint64_t step[ENTRIES_MAX], version[ENTRIES_MAX];
    uint64_t count;
};

static struct journal reference[RUNS_MAX];
static uint32_t reference_k[RUNS_MAX];
static struct verdict *verdict; /* shared with the child */

void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)fputs("power_loss: ", stderr);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
    va_end(ap);
    exit(2);
}

/* ---- the undisturbed journal ---- */

static int reference_cb(void *arg, uint64_t index, struct mx_span bytes)
{
    uint32_t run = *(uint32_t *)arg;
    struct journal *j = &reference[run];
    struct mx_entry_box box;
    struct mx_err err;

    if (index >= ENTRIES_MAX) {
        die("too long a journal");
    }
    if (mx_entry_decode(bytes, reference_k[run], &box, &err) != 0) {
        die("%s", err.text);
    }
    j->bytes[index] = malloc(bytes.n + 1);
    if (j->bytes[index] == NULL) {
        die("out of memory");
    }
    memcpy(j->bytes[index], bytes.p, bytes.n);
    j->n[index] = bytes.n;
    j->kind[index] = box.entry.kind;
    j->step[index] = box.entry.step;
    j->version[index] = box.entry.mix_version;
    j->count = index;
    mx_entry_box_clear(&box);
    return 0;
}

static int reference_run_cb(void *arg, const struct mx_run_record *r)
{
    (void)arg;
    if (r->id >= RUNS_MAX) {
        die("too many runs");
    }
    reference_k[r->id] = r->k;
    return 0;
}

void reference_read(const char *store)
{
    struct mx_catalog *c;
    struct mx_err err;
    int rc = mx_catalog_open(store, false, &c, &err);

    if (rc == 0) {
        rc = mx_catalog_runs(c, reference_run_cb, NULL, &err);
    }
    for (uint32_t run = 1; rc == 0 && run < RUNS_MAX; run++) {
        rc = reference_k[run] == 0 ? 0
                                   : mx_journal_read(mx_journal_of_catalog(c), run, 1,
                                                     reference_cb, &run, &err);
    }
    if (rc != 0) {
        die("%s", err.text);
    }
    mx_catalog_close(c);
    verdict = mmap(NULL, sizeof *verdict, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                   0);
    if (verdict == MAP_FAILED) {
        die("out of memory");
    }
}

uint64_t reference_count(uint32_t run)
{
    return reference[run].count;
}

static uint64_t entry_of_step(const struct journal *j, uint64_t step)
{
    for (uint64_t i = 1; i <= j->count; i++) {
        if (j->kind[i] == MX_ENTRY_RESERVE && j->step[i] > step) {
            return i;
        }
    }
    die("step %" PRIu64 " was served and never reserved", step);
    return 0;
}

static uint64_t entry_of_mix(const struct journal *j, uint64_t version)
{
    for (uint64_t i = 1; i <= j->count; i++) {
        if (mx_entry_makes_mix(j->kind[i]) && j->version[i] == version) {
            return i;
        }
    }
    die("a step was served under mix %" PRIu64 ", which was never made", version);
    return 0;
}

uint64_t reference_served(uint32_t run, uint64_t step, uint64_t version)
{
    uint64_t a = entry_of_step(&reference[run], step), b = entry_of_mix(&reference[run], version);

    return a > b ? a : b;
}

/* ---- checking an image, in the child ---- */

__attribute__((format(printf, 2, 3), noreturn)) static void say(enum result result,
                                                                const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(verdict->text, sizeof verdict->text, fmt, ap);
    va_end(ap);
    verdict->result = result;
    _exit(0);
}

struct walk {
    uint32_t run;
    uint64_t count;
};

static int compare_cb(void *arg, uint64_t index, struct mx_span bytes)
{
    struct walk *w = arg;
    const struct journal *j = &reference[w->run];

    if (index > j->count || bytes.n != j->n[index] ||
        memcmp(bytes.p, j->bytes[index], bytes.n) != 0) {
        say(DAMAGED, "entry %" PRIu64 " of run %" PRIu32 " isn't what was written", index, w->run);
    }
    w->count = index;
    return 0;
}

static int count_cb(void *arg, const struct mx_domain *d)
{
    (void)d;
    ++*(uint64_t *)arg;
    return 0;
}

static int mark_cb(void *arg, const struct mx_run_record *r)
{
    if (r->id < RUNS_MAX) {
        ((bool *)arg)[r->id] = true;
    }
    return 0;
}

static int any_cb(void *arg, uint64_t step, struct mx_span bytes)
{
    (void)arg;
    (void)step;
    (void)bytes;
    return 0;
}

static void must(int rc, const struct mx_err *err)
{
    if (rc != 0) {
        say(DAMAGED, "%s", err->text);
    }
}

/* Everything that is keyed by a run is there with it, or isn't there at all. */
static uint64_t check_run(struct mx_catalog *c, uint32_t run, bool known, uint64_t needed)
{
    struct walk w = {.run = run};
    uint64_t step;
    uint8_t *bytes = NULL;
    size_t n;
    struct mx_err err;
    int rc;

    must(mx_journal_read(mx_journal_of_catalog(c), run, 1, compare_cb, &w, &err), &err);
    must(mx_catalog_mixes(c, run, 0, UINT64_MAX, any_cb, NULL, &err), &err);
    rc = mx_catalog_snapshot(c, run, UINT64_MAX, &step, &bytes, &n, &err);
    must(rc == MX_ENOTFOUND ? 0 : rc, &err);
    free(bytes);
    if (known != (w.count > 0)) {
        say(DAMAGED, "run %" PRIu32 " has %" PRIu64 " entries and %s record", run, w.count,
            known ? "a" : "no");
    }
    if (w.count < needed) {
        say(LOST, "run %" PRIu32 " has %" PRIu64 " entries, and %" PRIu64 " were acknowledged", run,
            w.count, needed);
    }
    return w.count;
}

static void commit_one(struct mx_catalog *c, uint32_t run, uint64_t index)
{
    struct mx_put p = {.kind = MX_PUT_ENTRY, .run = run, .key = index, .bytes = "new", .n = 3};
    struct mx_err err;

    must(mx_journal_append(mx_journal_of_catalog(c), &p, 1, &err), &err);
    must(mx_journal_read(mx_journal_of_catalog(c), run, index, any_cb, NULL, &err), &err);
}

static void check(const char *dir, const struct need *need, bool commit)
{
    struct mx_catalog *c;
    struct mx_err err = {0};
    bool known[RUNS_MAX] = {false};
    uint64_t domains = 0, count;

    (void)alarm(20);                                      /* a hang is a crash */
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); /* and a crash is only counted */
    must(mx_catalog_open(dir, false, &c, &err), &err);
    must(mx_catalog_domains(c, count_cb, &domains, &err), &err);
    if (domains < need->domains) {
        say(LOST, "there are %" PRIu64 " domains, and %" PRIu64 " were ingested", domains,
            need->domains);
    }
    must(mx_catalog_runs(c, mark_cb, known, &err), &err);
    for (uint32_t run = 1; run < RUNS_MAX; run++) {
        count = check_run(c, run, known[run], need->entries[run]);
        if (commit && count > 0) {
            commit_one(c, run, count + 1);
        }
    }
    mx_catalog_close(c);
    say(GOOD, "good");
}

const struct verdict *image_check(const char *dir, const struct need *need, bool commit)
{
    int status;
    pid_t pid;

    *verdict = (struct verdict){.result = DAMAGED};
    pid = fork();
    if (pid < 0) {
        die("cannot fork: %s", strerror(errno));
    }
    if (pid == 0) {
        check(dir, need, commit);
    }
    if (waitpid(pid, &status, 0) != pid) {
        die("cannot wait: %s", strerror(errno));
    }
    if (!WIFEXITED(status)) {
        verdict->result = DAMAGED;
        verdict->signal = WTERMSIG(status);
        (void)snprintf(verdict->text, sizeof verdict->text, "opening it ends in signal %d",
                       verdict->signal);
    }
    return verdict;
}
