/* image_check.h - is this store what a power cut may leave of that one?
 *
 * The reference is the undisturbed store at its end. An image is good if it opens, and the journal
 * of each run is a prefix, byte for byte, of the reference's, with all that is needed; and if mixes
 * and snapshots can be read. Knows nothing of writes and syncs. */
#ifndef MX_TESTS_FAULTS_IMAGE_CHECK_H
#define MX_TESTS_FAULTS_IMAGE_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#define RUNS_MAX 8u /* ids 1 .. 7 */

enum result {
    GOOD,
    LOST,    /* sound, but something that was acknowledged isn't there */
    DAMAGED, /* doesn't open, has other bytes or a gap, crashes or hangs */
    RESULTS,
};

/* What an image must have. */
struct need {
    uint64_t domains, entries[RUNS_MAX];
};

struct verdict {
    enum result result;
    int signal; /* that ended the opening, or 0 */
    char text[512];
};

/* A message, and exit code 2: the test itself is in trouble. */
void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Before all others; once. */
void reference_read(const char *store);
uint64_t reference_count(uint32_t run); /* entries of its journal */
/* The entry that had to be durable before a step was served under a mix: the last of that which
 * reserves the step and that which makes the mix. */
uint64_t reference_served(uint32_t run, uint64_t step, uint64_t version);

/* Opens the store in a process of its own, which may crash. If `commit`, it must take one more, and
 * is changed by it. The verdict is good until the next call. */
const struct verdict *image_check(const char *dir, const struct need *need, bool commit);

#endif
