/* sweep.c - what dead writers leave behind, and how the living keep theirs (shard.h, shard_impl.h).
 *
 * An unfinished shard is ID.tmp, locked by its writer. A finished one is ID.mxs; until the catalog
 * knows it, the ingest that wrote it lives and lists it in its hold, a locked file. A sweep lists
 * the folder first, reads the holds next and asks the catalog last; since an ingest adds a shard to
 * its hold before the rename, and drops the hold only after the catalog has the shard, a living
 * ingest's shard is seen in the one or in the other. */
#include "store/files.h"
#include "store/shard_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX_HOLD ".ingest"
#define HOLD_LINE 17 /* 16 digits and a newline */

struct mx_hold {
    int fd;
    char *path;
};

int mx_hold_new(const char *dir, struct mx_hold **ret, struct mx_err *err)
{
    struct mx_hold *h = calloc(1, sizeof *h);
    int rc;

    if (h == NULL) {
        return mx_fail(err, MX_ENOMEM, "out of memory");
    }
    do {
        uint64_t id;
        free(h->path);
        h->path = NULL;
        rc = mx_random_id(&id, err);
        if (rc == 0 && (h->path = mx_store_path(dir, id, SUFFIX_HOLD)) == NULL) {
            rc = mx_fail(err, MX_ENOMEM, "out of memory");
        }
        if (rc == 0) {
            rc = mx_file_create_locked(h->path, &h->fd, err);
        }
    } while (rc == MX_EEXISTS);
    if (rc != 0) {
        free(h->path);
        free(h);
        return rc;
    }
    *ret = h;
    return 0;
}

int mx_hold_add(struct mx_hold *h, uint64_t shard, struct mx_err *err)
{
    char line[HOLD_LINE + 1];

    (void)snprintf(line, sizeof line, "%016" PRIx64 "\n", shard);
    if (write(h->fd, line, HOLD_LINE) != HOLD_LINE) {
        return mx_fail(err, mx_errno_code(errno), "%s: cannot write: %s", h->path, strerror(errno));
    }
    return 0;
}

void mx_hold_free(struct mx_hold *h)
{
    if (h == NULL) {
        return;
    }
    (void)unlink(h->path);
    close(h->fd);
    free(h->path);
    free(h);
}

/* A growing list of shards. */
struct ids {
    uint64_t *p;
    size_t n, cap;
};

static int ids_add(struct ids *l, uint64_t id, struct mx_err *err)
{
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 64 : l->cap * 2;
        uint64_t *p = reallocarray(l->p, cap, sizeof *p);
        if (p == NULL) {
            return mx_fail(err, MX_ENOMEM, "out of memory while sweeping %zu files", l->n);
        }
        l->p = p;
        l->cap = cap;
    }
    l->p[l->n++] = id;
    return 0;
}

static int ids_compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static bool ids_has(const struct ids *l, uint64_t id)
{
    return l->n > 0 && bsearch(&id, l->p, l->n, sizeof id, ids_compare) != NULL;
}

/* All files of the folder with a suffix. */
static int list(const char *dir, const char *suffix, struct ids *ret, struct mx_err *err)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int rc = 0;

    if (d == NULL) {
        return mx_fail(err, mx_errno_code(errno), "%s: cannot list: %s", dir, strerror(errno));
    }
    while (rc == 0 && (e = readdir(d)) != NULL) {
        uint64_t id = mx_store_name_parse(e->d_name, suffix);
        if (id != 0) {
            rc = ids_add(ret, id, err);
        }
    }
    closedir(d);
    return rc;
}

/* Adds what a living ingest's hold lists; removes the hold of a dead one. */
static int read_hold(const char *path, struct ids *held, struct mx_err *err)
{
    char line[HOLD_LINE + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;

    if (fd < 0) {
        return errno == ENOENT ? 0 : mx_fail(err, mx_errno_code(errno), "%s: cannot open: %s", path,
                                             strerror(errno));
    }
    if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
        (void)unlink(path);
    } else {
        while (rc == 0 && read(fd, line, HOLD_LINE) == HOLD_LINE) {
            line[16] = '\0';
            rc = ids_add(held, mx_store_name_parse(line, ""), err);
        }
    }
    close(fd);
    return rc;
}

static int read_holds(const char *dir, struct ids *held, struct mx_err *err)
{
    struct ids holds = {0};
    int rc = list(dir, SUFFIX_HOLD, &holds, err);

    for (size_t i = 0; rc == 0 && i < holds.n; i++) {
        char *path = mx_store_path(dir, holds.p[i], SUFFIX_HOLD);
        rc = path == NULL ? mx_fail(err, MX_ENOMEM, "out of memory") : read_hold(path, held, err);
        free(path);
    }
    free(holds.p);
    if (held->n > 0) {
        qsort(held->p, held->n, sizeof *held->p, ids_compare);
    }
    return rc;
}

/* Removes dir/id.suffix if nobody has it locked; adds to *count. */
static int remove_one(const char *dir, uint64_t id, const char *suffix, int *count,
                      struct mx_err *err)
{
    char *path = mx_store_path(dir, id, suffix);
    int rc = path == NULL ? mx_fail(err, MX_ENOMEM, "out of memory")
                          : mx_file_remove_unlocked(path, err);

    free(path);
    if (rc < 0) {
        return rc;
    }
    *count += rc;
    return 0;
}

int mx_shard_sweep(const char *dir, bool (*registered)(void *arg, uint64_t id), void *arg,
                   struct mx_err *err)
{
    struct ids sealed = {0}, temporary = {0}, held = {0};
    int count = 0;
    int rc = list(dir, ".tmp", &temporary, err);

    if (rc == 0) {
        rc = list(dir, ".mxs", &sealed, err);
    }
    if (rc == 0) {
        rc = read_holds(dir, &held, err);
    }
    for (size_t i = 0; rc == 0 && i < temporary.n; i++) {
        rc = remove_one(dir, temporary.p[i], ".tmp", &count, err);
    }
    for (size_t i = 0; rc == 0 && i < sealed.n; i++) {
        if (!ids_has(&held, sealed.p[i]) && !registered(arg, sealed.p[i])) {
            rc = remove_one(dir, sealed.p[i], ".mxs", &count, err);
        }
    }
    free(sealed.p);
    free(temporary.p);
    free(held.p);
    return rc != 0 ? rc : count;
}
