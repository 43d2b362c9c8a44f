/* fault_shim.c - a disk for tests, preloaded into a program: it fails, lies, or takes notes.
 *
 * It looks at calls that write to, sync or rename files whose path begins with MX_SHIM_FILES
 * (resolved, from the root) and doesn't end with MX_SHIM_SKIP; everything else goes through
 * untouched. What it does with them:
 *
 *   MX_SHIM_FAIL="N ERRNO once|on no|all|half"
 *       The Nth call (from 1, over all of them) fails with ERRNO, alone or with all after it. `no`:
 *       nothing of it is done. `all`: it is done, and then fails, as a sync that fails leaves its
 *       pages in the cache. `half`: a write does the first half and says so; a sync or a
 *       truncation is as with `no`.
 *   MX_SHIM_REPORT=FILE
 *       Where it counts: u64 calls, u64 of them that failed, the name of the first that did. The
 *       file is shared memory, so that it's there however the program ends.
 *   MX_SHIM_LOG=FILE
 *       Takes down each write before it is done and each sync after (disk_log.h): those of the file
 *       MX_SHIM_FILES, also while it has a longer name, and the syncs of its folder.
 *   MX_SHIM_LIE=1
 *       Syncs do nothing and say that they did: a disk with a cache and no battery.
 *   MX_SHIM_SLOW_US=N
 *       Syncs take so much longer, so that whoever doesn't wait for them is seen not to.
 *
 * A call is recognised by asking the kernel which file the descriptor has, each time: descriptors
 * are used again, and a table of them would have to follow every way to get one. msync isn't here,
 * since the store writes to no map. */
#undef _FILE_OFFSET_BITS /* else pwrite would be named pwrite64, and there are both */
#include "disk_log.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define PATH_BYTES 4096
#define PIECES_MAX 64 /* LMDB's writev has as many at most */

struct report {
    atomic_uint_fast64_t calls, failed;
    char first[16];
};

static struct {
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    ssize_t (*pwritev)(int, const struct iovec *, int, off_t);
    int (*fdatasync)(int);
    int (*fsync)(int);
    int (*ftruncate)(int, off_t);
    int (*rename)(const char *, const char *);
} real;

static struct {
    char files[PATH_BYTES], skip[32];
    size_t files_n, skip_n; /* files_n 0: watch nothing */
    uint64_t fail_at;       /* 0: nothing fails */
    int fail_errno;
    bool fail_on, fail_all, fail_half;
    int log;                /* -1: none */
    bool lie;
    useconds_t slow_us;
    struct report *report;  /* in the file, or own */
    struct report own;
} shim = {.log = -1};

/* ---- setting up ---- */

static void die(const char *what)
{
    (void)fprintf(stderr, "fault_shim: %s: %s\n", what, strerror(errno));
    abort();
}

static void *find(const char *name)
{
    void *f = dlsym(RTLD_NEXT, name);

    if (f == NULL) {
        die(name);
    }
    return f;
}

static void set_fail(const char *text)
{
    char reach[8], how[8];
    unsigned long long n;

    if (sscanf(text, "%llu %d %7s %7s", &n, &shim.fail_errno, reach, how) != 4) {
        die("MX_SHIM_FAIL");
    }
    shim.fail_at = n;
    shim.fail_on = strcmp(reach, "on") == 0;
    shim.fail_all = strcmp(how, "all") == 0;
    shim.fail_half = strcmp(how, "half") == 0;
}

static void set_report(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *p;

    if (fd < 0 || real.ftruncate(fd, sizeof *shim.report) != 0) {
        die(path);
    }
    p = mmap(NULL, sizeof *shim.report, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        die(path);
    }
    (void)close(fd);
    shim.report = p;
}

__attribute__((constructor)) static void set_up(void)
{
    const char *files = getenv("MX_SHIM_FILES"), *v;

    *(void **)&real.write = find("write");
    *(void **)&real.writev = find("writev");
    *(void **)&real.pwrite = find("pwrite");
    *(void **)&real.pwritev = find("pwritev");
    *(void **)&real.fdatasync = find("fdatasync");
    *(void **)&real.fsync = find("fsync");
    *(void **)&real.ftruncate = find("ftruncate");
    *(void **)&real.rename = find("rename");
    shim.report = &shim.own;
    if (files == NULL) {
        return;
    }
    if ((v = getenv("MX_SHIM_FAIL")) != NULL) {
        set_fail(v);
    }
    if ((v = getenv("MX_SHIM_REPORT")) != NULL) {
        set_report(v);
    }
    if ((v = getenv("MX_SHIM_LOG")) != NULL) {
        shim.log = open(v, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (shim.log < 0) {
            die(v);
        }
    }
    shim.lie = getenv("MX_SHIM_LIE") != NULL;
    if ((v = getenv("MX_SHIM_SLOW_US")) != NULL) {
        shim.slow_us = (useconds_t)strtoul(v, NULL, 10);
    }
    if ((v = getenv("MX_SHIM_SKIP")) != NULL) {
        (void)snprintf(shim.skip, sizeof shim.skip, "%s", v);
        shim.skip_n = strlen(shim.skip);
    }
    (void)snprintf(shim.files, sizeof shim.files, "%s", files);
    shim.files_n = strlen(shim.files);
}

/* ---- what becomes of a call ---- */

/* The path of an open file; "" if it has none. */
static void path_of(int fd, char path[PATH_BYTES])
{
    char link[32];
    int saved = errno;
    ssize_t n;

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, PATH_BYTES - 1);
    path[n > 0 ? n : 0] = '\0';
    errno = saved;
}

static bool watched_path(const char *path)
{
    size_t n = strlen(path);

    return strncmp(path, shim.files, shim.files_n) == 0 &&
           (shim.skip_n == 0 || n < shim.skip_n || strcmp(path + n - shim.skip_n, shim.skip) != 0);
}

static bool watched(int fd)
{
    char path[PATH_BYTES];

    if (shim.files_n == 0) {
        return false;
    }
    path_of(fd, path);
    return watched_path(path);
}

/* Is it the folder of the file whose log is taken? */
static bool watched_folder(int fd)
{
    char path[PATH_BYTES];
    size_t n;

    if (shim.log < 0) {
        return false;
    }
    path_of(fd, path);
    n = strlen(path);
    return n < shim.files_n && strncmp(path, shim.files, n) == 0 &&
           strrchr(shim.files, '/') == shim.files + n;
}

/* Counts a call; true if it is to fail. */
static bool fails(const char *name)
{
    uint64_t n = atomic_fetch_add(&shim.report->calls, 1) + 1;

    if (shim.fail_at == 0 || n < shim.fail_at || (n > shim.fail_at && !shim.fail_on)) {
        return false;
    }
    if (atomic_fetch_add(&shim.report->failed, 1) == 0) {
        (void)snprintf(shim.report->first, sizeof shim.report->first, "%s", name);
    }
    return true;
}

static void note(uint32_t kind, const struct iovec *pieces, int n, uint64_t at)
{
    struct mx_disk_record r = {.kind = kind, .offset = at};
    static char zeros[8];
    struct iovec all[PIECES_MAX + 2] = {{&r, sizeof r}};
    size_t bytes = 0, pad;

    if (shim.log < 0) {
        return;
    }
    if (n > PIECES_MAX) {
        die("a write of too many pieces");
    }
    for (int i = 0; i < n; i++) {
        all[i + 1] = pieces[i];
        bytes += pieces[i].iov_len;
    }
    r.bytes = (uint32_t)bytes;
    pad = -bytes % 8;
    all[n + 1] = (struct iovec){zeros, pad};
    if (real.writev(shim.log, all, n + 2) != (ssize_t)(sizeof r + bytes + pad)) {
        die("cannot write the log");
    }
}

static ssize_t put(int fd, const struct iovec *pieces, int n, off_t at)
{
    return at < 0 ? real.writev(fd, pieces, n) : real.pwritev(fd, pieces, n, at);
}

static ssize_t put_half(int fd, const struct iovec *pieces, int n, size_t bytes, off_t at)
{
    struct iovec some[PIECES_MAX];
    size_t left = bytes / 2;
    int m = 0;

    if (left == 0) {
        errno = shim.fail_errno;
        return -1;
    }
    for (; m < n && m < PIECES_MAX && left > 0; m++) {
        some[m] = pieces[m];
        some[m].iov_len = some[m].iov_len < left ? some[m].iov_len : left;
        left -= some[m].iov_len;
    }
    return put(fd, some, m, at);
}

/* A write to a watched file; `at` is -1 for where the descriptor stands. */
static ssize_t watched_write(const char *name, int fd, const struct iovec *pieces, int n, off_t at)
{
    off_t start = at < 0 ? lseek(fd, 0, SEEK_CUR) : at;
    bool synced = (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
    size_t bytes = 0;
    ssize_t rc;

    for (int i = 0; i < n; i++) {
        bytes += pieces[i].iov_len;
    }
    if (fails(name)) {
        if (shim.fail_half) {
            return put_half(fd, pieces, n, bytes, at);
        }
        if (shim.fail_all && put(fd, pieces, n, at) != (ssize_t)bytes) {
            die(name);
        }
        errno = shim.fail_errno;
        return -1;
    }
    note(MX_DISK_WRITE, pieces, n, (uint64_t)start);
    rc = put(fd, pieces, n, at);
    if (shim.log >= 0 && rc != (ssize_t)bytes) {
        die("a write that the log has was not done");
    }
    if (synced && !shim.lie) {
        (void)usleep(shim.slow_us);
        note(MX_DISK_WRITE_SYNCED, NULL, 0, (uint64_t)start);
    }
    return rc;
}

static int watched_sync(const char *name, int fd, uint32_t kind, int (*sync)(int))
{
    int rc;

    if (fails(name)) {
        if (shim.fail_all && sync(fd) != 0) {
            die(name);
        }
        errno = shim.fail_errno;
        return -1;
    }
    if (shim.lie) {
        return 0;
    }
    rc = sync(fd);
    if (rc == 0) {
        (void)usleep(shim.slow_us);
        note(kind, NULL, 0, 0);
    }
    return rc;
}

static int watched_truncate(int fd, off_t n)
{
    if (fails("ftruncate")) {
        if (shim.fail_all && real.ftruncate(fd, n) != 0) {
            die("ftruncate");
        }
        errno = shim.fail_errno;
        return -1;
    }
    note(MX_DISK_TRUNCATE, NULL, 0, (uint64_t)n);
    return real.ftruncate(fd, n);
}

static int watched_rename(const char *from, const char *to)
{
    if (fails("rename")) {
        if (shim.fail_all && real.rename(from, to) != 0) {
            die("rename");
        }
        errno = shim.fail_errno;
        return -1;
    }
    if (strcmp(to, shim.files) == 0) {
        note(MX_DISK_NAMED, NULL, 0, 0);
    }
    return real.rename(from, to);
}

/* ---- the calls ---- */

static struct iovec piece(const void *p, size_t n)
{
    union {
        const void *in;
        void *out;
    } u = {.in = p};
    return (struct iovec){.iov_base = u.out, .iov_len = n};
}

EXPORT ssize_t write(int fd, const void *p, size_t n)
{
    struct iovec v = piece(p, n);

    return watched(fd) ? watched_write("write", fd, &v, 1, -1) : real.write(fd, p, n);
}

EXPORT ssize_t writev(int fd, const struct iovec *pieces, int n)
{
    return watched(fd) ? watched_write("writev", fd, pieces, n, -1) : real.writev(fd, pieces, n);
}

EXPORT ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    struct iovec v = piece(p, n);

    return watched(fd) ? watched_write("pwrite", fd, &v, 1, at) : real.pwrite(fd, p, n, at);
}

EXPORT ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    return pwrite(fd, p, n, (off_t)at);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *pieces, int n, off_t at)
{
    return watched(fd) ? watched_write("pwritev", fd, pieces, n, at)
                       : real.pwritev(fd, pieces, n, at);
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *pieces, int n, off64_t at)
{
    return pwritev(fd, pieces, n, (off_t)at);
}

EXPORT int fdatasync(int fd)
{
    return watched(fd) ? watched_sync("fdatasync", fd, MX_DISK_SYNCED, real.fdatasync) : real.fdatasync(fd);
}

EXPORT int fsync(int fd)
{
    if (watched_folder(fd)) {
        return watched_sync("fsync", fd, MX_DISK_FOLDER_SYNCED, real.fsync);
    }
    return watched(fd) ? watched_sync("fsync", fd, MX_DISK_SYNCED, real.fsync) : real.fsync(fd);
}

EXPORT int ftruncate(int fd, off_t n)
{
    return watched(fd) ? watched_truncate(fd, n) : real.ftruncate(fd, n);
}

EXPORT int ftruncate64(int fd, off64_t n)
{
    return ftruncate(fd, (off_t)n);
}

EXPORT int rename(const char *from, const char *to)
{
    return shim.files_n > 0 && watched_path(from) ? watched_rename(from, to)
                                                  : real.rename(from, to);
}
