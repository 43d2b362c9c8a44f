/* power_loss.c - what a power cut can leave of a store, tried: reads a log of a daemon's writes,
 * syncs and acknowledgements (disk_log.h), builds what may be on the disk if the power goes at each
 * point of it, opens each such image and checks it.
 *
 * A write may be on the disk from the moment that it is begun, and is surely there after a sync.
 * Until then any subset of the writes may have got there, each of them whole or in some of its
 * sectors. From the subsets these are tried: none, all, each write alone, all but each, some at
 * random; the same with one write torn: its first sectors, its last ones, some at random. It is
 * done before each sync and at each mark, where most is pending; at other points less is pending,
 * and no image is possible that isn't possible there too.
 *
 * What an image must have is what had been acknowledged by then; image_check.h says what makes it
 * good. Until the catalog gets its name there is no image: what is written before nobody looks at.
 *
 * It prints one line of JSON; the exit code is 0 if all was checked, however bad it was. */
#include "disk_log.h"
#include "image_check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512u
#define PENDING_MAX 4096u
#define EACH_MAX 12u    /* of more pending writes so many are left out, left alone and torn */
#define RANDOM_SETS 48u
#define COMMIT_EVERY 7u /* one image of so many takes a commit */

struct image {
    uint8_t *bytes;
    size_t size, room;
};

static const uint8_t *records;
static size_t records_n;

static struct image durable, image;
static struct need need;
static const struct mx_disk_record *pending[PENDING_MAX];
static size_t pending_n;
static bool explored; /* since pending or need changed */
static bool named, name_kept;

static const char *dir;
static int image_fd;
static uint64_t ahead, enough;
static uint64_t random_state;
static struct {
    uint64_t points, images, commits, crashed, results[RESULTS];
    char first[512];
} found;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

/* ---- making images ---- */

static void apply(struct image *to, const struct mx_disk_record *r, size_t from, size_t n)
{
    size_t at = (size_t)r->offset + from;

    if (at + n > to->room) {
        die("the catalog grows beyond %zu bytes", to->room);
    }
    memcpy(to->bytes + at, (const uint8_t *)(r + 1) + from, n);
    to->size = at + n > to->size ? at + n : to->size;
}

static void begin_image(void)
{
    memset(image.bytes, 0, image.size); /* where nothing was written a file has zeros */
    memcpy(image.bytes, durable.bytes, durable.size);
    image.size = durable.size;
}

static void bad(enum result result, const char *text)
{
    found.results[result]++;
    if (found.first[0] == '\0') {
        (void)snprintf(found.first, sizeof found.first, "%s", text);
    }
}

static void end_image(void)
{
    bool commit = found.images % COMMIT_EVERY == 0;
    const struct verdict *v;

    if (ftruncate(image_fd, (off_t)image.size) != 0 ||
        pwrite(image_fd, image.bytes, image.size, 0) != (ssize_t)image.size) {
        die("%s: cannot write an image: %s", dir, strerror(errno));
    }
    v = image_check(dir, &need, commit);
    found.images++;
    found.commits += commit;
    found.crashed += v->signal != 0;
    if (v->result != GOOD) {
        bad(v->result, v->text);
    }
}

/* Which sectors of a write get to the disk. */
enum tear { TEAR_FIRST, TEAR_LAST, TEAR_RANDOM, TEARS };

static void apply_torn(const struct mx_disk_record *r, enum tear tear)
{
    size_t first = (size_t)r->offset / SECTOR;
    uint32_t n = (uint32_t)((r->offset + r->bytes - 1) / SECTOR - first + 1);
    uint32_t cut = n > 1 ? 1 + random_below(n - 1) : 1;

    for (uint32_t i = 0; i < n; i++) {
        size_t from = i == 0 ? 0 : (first + i) * SECTOR - (size_t)r->offset;
        size_t to = i == n - 1 ? r->bytes : (first + i + 1) * SECTOR - (size_t)r->offset;

        if (tear == TEAR_FIRST ? i < cut : tear == TEAR_LAST ? i >= cut : random_below(2) == 0) {
            apply(&image, r, from, to - from);
        }
    }
}

static bool tears(const struct mx_disk_record *r)
{
    return r->offset / SECTOR != (r->offset + r->bytes - 1) / SECTOR;
}

/* The pending writes but `which`, all or none of them, and of that one what `tear` says. */
static void one_torn(size_t which, bool others, enum tear tear)
{
    begin_image();
    for (size_t i = 0; i < pending_n; i++) {
        if (i == which) {
            apply_torn(pending[i], tear);
        } else if (others) {
            apply(&image, pending[i], 0, pending[i]->bytes);
        }
    }
    end_image();
}

static void one_alone(size_t which, bool others)
{
    begin_image();
    for (size_t i = 0; i < pending_n; i++) {
        if ((i == which) != others) {
            apply(&image, pending[i], 0, pending[i]->bytes);
        }
    }
    end_image();
}

static void some(void)
{
    begin_image();
    for (size_t i = 0; i < pending_n; i++) {
        switch (random_below(5)) {
        case 0:
        case 1: apply(&image, pending[i], 0, pending[i]->bytes); break;
        case 2: apply_torn(pending[i], (enum tear)random_below(TEARS)); break;
        default: break;
        }
    }
    end_image();
}

/* Everything that may be there if the power goes now. */
static void explore(void)
{
    size_t each = pending_n < EACH_MAX ? pending_n : EACH_MAX;

    if (!named || explored ||
        (enough > 0 && found.results[LOST] + found.results[DAMAGED] >= enough)) {
        return;
    }
    explored = true;
    found.points++;
    one_alone(pending_n, false); /* none */
    if (pending_n == 0) {
        return;
    }
    one_alone(pending_n, true); /* all */
    for (size_t i = 0; i < each; i++) {
        size_t which = each == pending_n ? i : random_below((uint32_t)pending_n);

        if (pending_n > 1) {
            one_alone(which, false);
            one_alone(which, true);
        }
        for (unsigned tear = 0; tear < TEARS && tears(pending[which]); tear++) {
            one_torn(which, false, (enum tear)tear);
            if (pending_n > 1) {
                one_torn(which, true, (enum tear)tear);
            }
        }
    }
    for (unsigned i = 0; i < RANDOM_SETS && (pending_n > 1 || tears(pending[0])); i++) {
        some();
    }
}

/* ---- following the log ---- */

static void note_need(const struct mx_disk_record *r)
{
    const uint32_t *words = (const uint32_t *)(r + 1);
    uint32_t run = r->bytes > 0 ? words[0] : 0;
    uint64_t n = 0;

    if (run >= RUNS_MAX) {
        die("a mark of run %" PRIu32, run);
    }
    switch (r->kind) {
    case MX_DISK_MADE:
        if (!name_kept) {
            bad(LOST, "the daemon was ready before its catalog had a durable name");
        }
        break;
    case MX_DISK_DOMAINS: need.domains = r->offset; break;
    case MX_DISK_ENTRY: n = r->offset; break;
    case MX_DISK_SERVED: n = reference_served(run, r->offset, words[1]); break;
    default: die("a record of kind %" PRIu32, r->kind);
    }
    if (n > 0) {
        n = n + ahead < reference_count(run) ? n + ahead : reference_count(run);
        need.entries[run] = n > need.entries[run] ? n : need.entries[run];
    }
}

/* The write that has just been done through a descriptor that syncs: it alone is durable. */
static void sync_one(uint64_t offset)
{
    for (size_t i = pending_n; i-- > 0;) {
        if (pending[i]->offset == offset) {
            apply(&durable, pending[i], 0, pending[i]->bytes);
            memmove(&pending[i], &pending[i + 1], (--pending_n - i) * sizeof pending[0]);
            return;
        }
    }
    die("a sync of a write that wasn't begun");
}

static void follow(const struct mx_disk_record *r)
{
    switch (r->kind) {
    case MX_DISK_WRITE:
        if (pending_n == PENDING_MAX) {
            die("over %u writes without a sync", PENDING_MAX);
        }
        pending[pending_n++] = r;
        break;
    case MX_DISK_WRITE_SYNCED:
        explore();
        sync_one(r->offset);
        break;
    case MX_DISK_SYNCED:
        explore();
        for (size_t i = 0; i < pending_n; i++) {
            apply(&durable, pending[i], 0, pending[i]->bytes);
        }
        pending_n = 0;
        break;
    case MX_DISK_NAMED: named = true; break;
    case MX_DISK_FOLDER_SYNCED: name_kept = named; break;
    case MX_DISK_TRUNCATE: die("the catalog was truncated: this program doesn't know how");
    default:
        note_need(r);
        explored = false;
        explore();
        return;
    }
    explored = false;
}

static const struct mx_disk_record *record_at(size_t at)
{
    return (const struct mx_disk_record *)(const void *)(records + at);
}

static size_t next_record(size_t at)
{
    size_t next = at + sizeof(struct mx_disk_record) + (record_at(at)->bytes + 7u) / 8 * 8;

    if (next > records_n) {
        die("the log ends in the middle of a record");
    }
    return next;
}

static void read_log(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *p;

    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0) {
        die("%s: no log", path);
    }
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        die("%s: %s", path, strerror(errno));
    }
    (void)close(fd);
    records = p;
    records_n = (size_t)st.st_size;
}

static void prepare(const char *work)
{
    char path[4096];
    size_t room = 0;

    for (size_t at = 0; at < records_n; at = next_record(at)) {
        const struct mx_disk_record *r = record_at(at);
        size_t end = (size_t)r->offset + r->bytes;
        room = r->kind == MX_DISK_WRITE && end > room ? end : room;
    }
    durable = (struct image){calloc(1, room + 1), 0, room};
    image = (struct image){calloc(1, room + 1), 0, room};
    if (durable.bytes == NULL || image.bytes == NULL) {
        die("out of memory");
    }
    dir = work;
    (void)snprintf(path, sizeof path, "%s/catalog", dir);
    image_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (image_fd < 0) {
        die("%s: %s", path, strerror(errno));
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        (void)fputs("usage: power_loss LOG STORE FOLDER SEED AHEAD ENOUGH\n"
                    "  STORE: the undisturbed one; FOLDER: empty, for images\n"
                    "  AHEAD: so many entries more are taken to have been acknowledged\n"
                    "  ENOUGH: images are made until so many were bad; 0 for all\n", stderr);
        return 2;
    }
    random_state = strtoull(argv[4], NULL, 10);
    ahead = strtoull(argv[5], NULL, 10);
    enough = strtoull(argv[6], NULL, 10);
    read_log(argv[1]);
    reference_read(argv[2]);
    prepare(argv[3]);
    for (size_t at = 0; at < records_n; at = next_record(at)) {
        follow(record_at(at));
    }
    explore();
    (void)printf("{\"points\": %" PRIu64 ", \"images\": %" PRIu64 ", \"commits\": %" PRIu64
                 ", \"lost\": %" PRIu64 ", \"damaged\": %" PRIu64 ", \"crashed\": %" PRIu64
                 ", \"first\": \"", found.points, found.images, found.commits, found.results[LOST],
                 found.results[DAMAGED], found.crashed);
    for (const char *p = found.first; *p != '\0'; p++) {
        (void)putchar(*p == '"' || *p == '\\' || (unsigned char)*p < ' ' ? '\'' : *p);
    }
    (void)puts("\"}");
    return fflush(stdout) == 0 ? 0 : 2;
}
