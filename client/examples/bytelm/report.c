/* report.c - see report.h. Domain names consist of letters, digits, dots, dashes and underscores,
 * so that they need no escapes in JSON. A sum that isn't finite is never added by the caller. */
#include "client/examples/bytelm/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int bl_report_open(struct bl_report *r, const char *path, const char *const *domains, uint32_t n,
                   uint64_t now_ns, char *text, size_t text_size)
{
    *r = (struct bl_report){.domains = domains, .n = n, .begin_ns = now_ns, .last_ns = now_ns};
    r->sums = calloc(n, sizeof *r->sums);
    if (r->sums == NULL) {
        snprintf(text, text_size, "out of memory");
        return -1;
    }
    if (path == NULL)
        return 0;
    r->log = fopen(path, "a");
    if (r->log == NULL) {
        snprintf(text, text_size, "log %s: %s", path, strerror(errno));
        free(r->sums);
        return -1;
    }
    return 0;
}

void bl_report_close(struct bl_report *r)
{
    if (r->log != NULL && fclose(r->log) != 0)
        fprintf(stderr, "bytelm: the log wasn't written to its end: %s\n", strerror(errno));
    free(r->sums);
}

static double seconds(uint64_t ns)
{
    return (double)ns * 1e-9;
}

static void log_train(struct bl_report *r, uint64_t step, uint64_t mix_version, double at_s,
                      double loss, double rate, double waiting, uint64_t slots)
{
    const char *comma = "";

    if (r->log == NULL)
        return;
    fprintf(r->log,
            "{\"kind\":\"train\",\"time_s\":%.3f,\"step\":%llu,\"loss\":%.6f,\"tokens_per_s\":%.0f,"
            "\"wait_share\":%.4f,\"mix_version\":%llu,\"skipped\":%llu,\"domains\":{",
            at_s, (unsigned long long)step, loss, rate, waiting, (unsigned long long)mix_version,
            (unsigned long long)r->skipped);
    for (uint32_t i = 0; i < r->n; i++) {
        const struct bl_sums *s = &r->sums[i];

        if (s->slots == 0)
            continue;
        fprintf(r->log, "%s\"%s\":{\"share\":%.6f,\"tokens\":%llu", comma, r->domains[i],
                (double)s->slots / (double)slots, (unsigned long long)s->tokens);
        if (s->tokens > 0)
            fprintf(r->log, ",\"loss\":%.6f", s->loss / (double)s->tokens);
        fputs("}", r->log);
        comma = ",";
    }
    fputs("}}\n", r->log);
    fflush(r->log);
}

void bl_report_train(struct bl_report *r, uint64_t step, uint64_t mix_version, uint64_t now_ns,
                     uint64_t wait_ns)
{
    struct bl_sums all = {0, 0, 0};
    double spent = seconds(now_ns - r->last_ns), loss, rate, waiting;

    for (uint32_t i = 0; i < r->n; i++) {
        all.loss += r->sums[i].loss;
        all.tokens += r->sums[i].tokens;
        all.slots += r->sums[i].slots;
    }
    if (all.slots == 0 || spent <= 0)
        return;
    loss = all.tokens > 0 ? all.loss / (double)all.tokens : 0;
    rate = (double)all.tokens / spent;
    waiting = seconds(wait_ns - r->last_wait_ns) / spent;
    printf("step %llu  loss %.3f  %.0fk tokens/s  waiting %.1f%%  mix v%llu:",
           (unsigned long long)step, loss, rate / 1000, 100 * waiting,
           (unsigned long long)mix_version);
    for (uint32_t i = 0; i < r->n; i++)
        printf(" %s %.0f%%", r->domains[i], 100.0 * (double)r->sums[i].slots / (double)all.slots);
    if (r->skipped > 0)
        printf("  (%llu steps skipped: loss not finite)", (unsigned long long)r->skipped);
    puts("");
    fflush(stdout);
    log_train(r, step, mix_version, seconds(now_ns - r->begin_ns), loss, rate, waiting, all.slots);
    memset(r->sums, 0, r->n * sizeof *r->sums);
    r->skipped = 0;
    r->last_ns = now_ns;
    r->last_wait_ns = wait_ns;
}

void bl_report_eval(struct bl_report *r, uint64_t step, uint64_t now_ns,
                    const struct bl_score *scores, int final)
{
    const char *comma = "";
    double mean = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->n; i++) {
        if (scores[i].tokens > 0) {
            mean += scores[i].loss_sum / (double)scores[i].tokens;
            n++;
        }
    }
    mean /= n > 0 ? n : 1;
    printf("step %llu  held out: mean %.3f nats/byte:", (unsigned long long)step, mean);
    for (uint32_t i = 0; i < r->n; i++)
        if (scores[i].tokens > 0)
            printf(" %s %.3f", r->domains[i], scores[i].loss_sum / (double)scores[i].tokens);
    puts("");
    fflush(stdout);
    if (r->log == NULL)
        return;
    fprintf(r->log,
            "{\"kind\":\"eval\",\"time_s\":%.3f,\"step\":%llu,\"final\":%s,\"mean\":%.6f,"
            "\"domains\":{",
            seconds(now_ns - r->begin_ns), (unsigned long long)step, final ? "true" : "false",
            mean);
    for (uint32_t i = 0; i < r->n; i++) {
        if (scores[i].tokens == 0)
            continue;
        fprintf(r->log, "%s\"%s\":{\"loss\":%.6f,\"tokens\":%llu}", comma, r->domains[i],
                scores[i].loss_sum / (double)scores[i].tokens,
                (unsigned long long)scores[i].tokens);
        comma = ",";
    }
    fputs("}}\n", r->log);
    fflush(r->log);
}

void bl_report_pause(struct bl_report *r, uint64_t spent_ns)
{
    r->last_ns += spent_ns;
}
