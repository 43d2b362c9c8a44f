/* files.c - see files.h. */
#include "store/files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int mx_errno_code(int number)
{
    switch (number) {
    case ENOENT: return MX_ENOTFOUND;
    case EEXIST: return MX_EEXISTS;
    case ENOMEM: return MX_ENOMEM;
    case EACCES:
    case EPERM:
    case EROFS: return MX_EDENIED;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return MX_EFULL;
    case EMFILE:
    case ENFILE: return MX_EBUSY; /* for the time being */
    default: return MX_EIO;
    }
}

int mx_random_id(uint64_t *ret, struct mx_err *err)
{
    do {
        if (getrandom(ret, sizeof *ret, 0) != (ssize_t)sizeof *ret && errno != EINTR) {
            return mx_fail(err, MX_EIO, "no random numbers: %s", strerror(errno));
        }
    } while (*ret == 0);
    return 0;
}

char *mx_store_path(const char *dir, uint64_t id, const char *suffix)
{
    char *path;

    return asprintf(&path, "%s/%016" PRIx64 "%s", dir, id, suffix) < 0 ? NULL : path;
}

uint64_t mx_store_name_parse(const char *name, const char *suffix)
{
    uint64_t id = 0;

    for (int i = 0; i < 16; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *d = name[i] != '\0' ? strchr(digits, name[i]) : NULL;
        if (d == NULL) {
            return 0;
        }
        id = id << 4 | (uint64_t)(d - digits);
    }
    return strcmp(name + 16, suffix) == 0 ? id : 0;
}

int mx_file_create_locked(const char *path, int *ret_fd, struct mx_err *err)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);

    if (fd < 0) {
        return mx_fail(err, mx_errno_code(errno), "%s: cannot create: %s", path, strerror(errno));
    }
    /* A sweep may see the file before it is locked, and take it for a dead writer's. */
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &st) != 0 || st.st_nlink == 0) {
        close(fd);
        return mx_fail(err, MX_EEXISTS, "%s: cannot lock: a sweep was faster", path);
    }
    *ret_fd = fd;
    return 0;
}

int mx_file_remove_unlocked(const char *path, struct mx_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc = 0;

    if (fd < 0) {
        return errno == ENOENT ? 0 : mx_fail(err, mx_errno_code(errno), "%s: cannot open: %s", path,
                                             strerror(errno));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        if (unlink(path) == 0) {
            rc = 1;
        } else if (errno != ENOENT) {
            rc = mx_fail(err, mx_errno_code(errno), "%s: cannot remove: %s", path, strerror(errno));
        }
    }
    close(fd);
    return rc;
}

static int sync_path(const char *path, int flags, struct mx_err *err)
{
    int fd = open(path, flags | O_CLOEXEC), rc = 0;

    if (fd < 0 || fsync(fd) != 0) {
        rc = mx_fail(err, mx_errno_code(errno), "%s: cannot sync: %s", path, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

int mx_dir_sync(const char *dir, struct mx_err *err)
{
    return sync_path(dir, O_RDONLY | O_DIRECTORY, err);
}

int mx_file_sync(const char *path, struct mx_err *err)
{
    return sync_path(path, O_RDONLY, err);
}

int mx_dir_make(const char *dir, struct mx_err *err)
{
    struct stat st;

    if (mkdir(dir, 0750) == 0) {
        return 0;
    }
    if (errno == EEXIST && stat(dir, &st) == 0 && S_ISDIR(st.st_mode)) {
        return 0;
    }
    return mx_fail(err, errno == EEXIST ? MX_EINVALID : mx_errno_code(errno),
                   "%s: cannot make this folder: %s", dir,
                   errno == EEXIST ? "something else has its name" : strerror(errno));
}

uint64_t mx_wall_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}
