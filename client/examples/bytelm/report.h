/* report.h - what bytelm says while it trains: a line on stdout every few seconds, and the same
 * numbers as a line of JSON in a file. Owns the sums since the last line. Knows neither the model
 * nor the daemon. One thread. */
#ifndef BL_REPORT_H
#define BL_REPORT_H

#include "client/examples/bytelm/heldout.h"

#include <stdint.h>
#include <stdio.h>

struct bl_sums {
    double loss;     /* nats */
    uint64_t tokens; /* positions trained */
    uint64_t slots;  /* samples seen */
};

struct bl_report {
    FILE *log;                  /* NULL: none */
    const char *const *domains; /* n; borrowed */
    uint32_t n;
    struct bl_sums *sums; /* n, since the last line */
    uint64_t skipped;     /* steps without an update since the last line */
    uint64_t begin_ns;    /* of the training */
    uint64_t last_ns, last_wait_ns;
};

/* path NULL: no file. 0, or -1 with a line of text. */
int bl_report_open(struct bl_report *r, const char *path, const char *const *domains, uint32_t n,
                   uint64_t now_ns, char *text, size_t text_size);
void bl_report_close(struct bl_report *r);

/* One line about the steps since the last one: loss, speed, share of the time spent waiting for
 * data (wait_ns: all of it so far), the share of samples that each domain had. */
void bl_report_train(struct bl_report *r, uint64_t step, uint64_t mix_version, uint64_t now_ns,
                     uint64_t wait_ns);
/* One line about an evaluation; `final` is marked as such in the log. */
void bl_report_eval(struct bl_report *r, uint64_t step, uint64_t now_ns,
                    const struct bl_score *scores, int final);
/* Time that was spent on something else than training doesn't count in the next line's speed. */
void bl_report_pause(struct bl_report *r, uint64_t spent_ns);

#endif
