/* checkpoint.c - see checkpoint.h. The file is put together in memory (a few megabytes) and written
 * or checked as a whole. */
#include "client/examples/bytelm/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "BYTELM\r\n"
#define FIXED (8 + 6 * 4 + 5 * 8)
/* The largest shape has some 4 million parameters; more than this is no checkpoint. */
#define FILE_MAX ((size_t)128 << 20)

_Static_assert(sizeof(float) == 4, "a checkpoint holds 32-bit floats");

static uint64_t fnv1a(const uint8_t *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static uint8_t *put(uint8_t *p, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> (8 * i));
    return p + bytes;
}

static uint64_t get(const uint8_t **p, size_t bytes)
{
    uint64_t v = 0;

    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)(*p)[i] << (8 * i);
    *p += bytes;
    return v;
}

static uint8_t *put_reals(uint8_t *p, const real *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float f = (float)x[i];
        uint32_t bits;

        memcpy(&bits, &f, sizeof bits);
        p = put(p, bits, 4);
    }
    return p;
}

static void get_reals(const uint8_t **p, real *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)get(p, 4);
        float f;

        memcpy(&f, &bits, sizeof f);
        x[i] = (real)f;
    }
}

static size_t encoded_size(size_t params, size_t name)
{
    return FIXED + name + 3 * 4 * params + 8;
}

static void encode(const struct bl_trainer *t, uint8_t *p)
{
    const struct bl_shape *s = &t->model.shape;
    uint8_t *start = p;
    size_t name = strlen(t->run);

    memcpy(p, MAGIC, 8);
    p = put(p + 8, BL_CHECKPOINT_VERSION, 4);
    p = put(p, s->context, 4);
    p = put(p, s->embed, 4);
    p = put(p, s->wide, 4);
    p = put(p, s->hidden, 4);
    p = put(p, name, 4);
    p = put(p, t->seed, 8);
    p = put(p, t->next_step, 8);
    p = put(p, t->updates, 8);
    p = put(p, t->tokens, 8);
    p = put(p, t->model.n, 8);
    memcpy(p, t->run, name);
    p = put_reals(p + name, t->model.params, t->model.n);
    p = put_reals(p, t->m, t->model.n);
    p = put_reals(p, t->v, t->model.n);
    put(p, fnv1a(start, (size_t)(p - start)), 8);
}

static bool write_all(int fd, const uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t k = write(fd, p, n);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

/* The rename is durable once the folder is synced. */
static bool sync_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
    int fd;
    bool ok;

    if (n >= sizeof folder)
        return false;
    memcpy(folder, slash == NULL ? "." : path, n);
    folder[n] = '\0';
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ok = fsync(fd) == 0;
    return close(fd) == 0 && ok;
}

int bl_checkpoint_save(const struct bl_trainer *t, const char *path, char *text, size_t text_size)
{
    char next[PATH_MAX];
    size_t n = encoded_size(t->model.n, strlen(t->run));
    uint8_t *bytes;
    int fd, k = snprintf(next, sizeof next, "%s.new", path);
    bool ok;

    if (k < 0 || (size_t)k >= sizeof next) {
        snprintf(text, text_size, "checkpoint %.100s...: the path is too long", path);
        return BL_FAILED;
    }
    bytes = malloc(n);
    if (bytes == NULL) {
        snprintf(text, text_size, "checkpoint %s: out of memory", path);
        return BL_FAILED;
    }
    encode(t, bytes);
    fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    ok = fd >= 0 && write_all(fd, bytes, n) && fsync(fd) == 0;
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    ok = ok && rename(next, path) == 0 && sync_folder(path);
    if (!ok) {
        snprintf(text, text_size, "checkpoint %s: not written: %s", path, strerror(errno));
        unlink(next);
    }
    free(bytes);
    return ok ? BL_OK : BL_FAILED;
}

/* The whole file, malloc'ed. */
static int read_file(const char *path, uint8_t **ret, size_t *ret_n, char *text, size_t text_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), code = BL_FAILED;
    struct stat st;
    uint8_t *p = NULL;
    size_t n = 0;

    if (fd < 0 || fstat(fd, &st) < 0) {
        code = fd < 0 && errno == ENOENT ? BL_MISSING : BL_FAILED;
        snprintf(text, text_size, "checkpoint %s: %s", path, strerror(errno));
        goto out;
    }
    if (st.st_size < FIXED + 8 || (uint64_t)st.st_size > FILE_MAX) {
        code = BL_DAMAGED;
        snprintf(text, text_size, "checkpoint %s: damaged: %lld bytes can't be a checkpoint", path,
                 (long long)st.st_size);
        goto out;
    }
    p = malloc((size_t)st.st_size);
    while (p != NULL && n < (size_t)st.st_size) {
        ssize_t k = read(fd, p + n, (size_t)st.st_size - n);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            break;
        n += (size_t)k;
    }
    if (p == NULL || n < (size_t)st.st_size) {
        snprintf(text, text_size, "checkpoint %s: %s", path,
                 p == NULL ? "out of memory" : "can't be read to its end");
        free(p);
        goto out;
    }
    *ret = p;
    *ret_n = n;
    code = BL_OK;
out:
    if (fd >= 0)
        close(fd);
    return code;
}

/* NULL and *t filled, or what is wrong with n bytes >= FIXED + 8. */
static const char *decode(struct bl_trainer *t, const uint8_t *p, size_t n)
{
    const uint8_t *start = p, *end = p + n - 8;
    char run[BL_NAME_MAX + 1] = "";
    struct bl_shape s;
    uint64_t name, seed, next_step, updates, tokens, params;

    if (memcmp(p, MAGIC, 8) != 0)
        return "it doesn't begin like one";
    p += 8;
    if (get(&p, 4) != BL_CHECKPOINT_VERSION)
        return "another version of this program wrote it";
    if (get(&end, 8) != fnv1a(start, n - 8))
        return "its checksum fails";
    s.context = (uint32_t)get(&p, 4);
    s.embed = (uint32_t)get(&p, 4);
    s.wide = (uint32_t)get(&p, 4);
    s.hidden = (uint32_t)get(&p, 4);
    name = get(&p, 4);
    seed = get(&p, 8);
    next_step = get(&p, 8);
    updates = get(&p, 8);
    tokens = get(&p, 8);
    params = get(&p, 8);
    if (bl_shape_check(&s) != NULL || name > BL_NAME_MAX || params > n / 12 ||
        encoded_size((size_t)params, (size_t)name) != n)
        return "its header makes no sense";
    memcpy(run, p, (size_t)name);
    p += name;
    if (bl_trainer_init(t, &s, seed, run) < 0)
        return "out of memory";
    if (t->model.n != params) {
        bl_trainer_fini(t);
        return "it has another number of parameters than its shape";
    }
    get_reals(&p, t->model.params, t->model.n);
    get_reals(&p, t->m, t->model.n);
    get_reals(&p, t->v, t->model.n);
    t->next_step = next_step;
    t->updates = updates;
    t->tokens = tokens;
    return NULL;
}

int bl_checkpoint_load(struct bl_trainer *t, const char *path, char *text, size_t text_size)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    const char *wrong;
    int code;

    memset(t, 0, sizeof *t);
    code = read_file(path, &bytes, &n, text, text_size);
    if (code < 0)
        return code;
    wrong = decode(t, bytes, n);
    free(bytes);
    if (wrong == NULL)
        return BL_OK;
    snprintf(text, text_size, "checkpoint %s: damaged: %s", path, wrong);
    return BL_DAMAGED;
}
