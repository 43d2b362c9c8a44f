/* report_json.h - one report of a trainer as a line of JSON: the feedback message as files have it.
 *
 *     {"step": 12, "rank": 0, "world": 4, "mix_version": 7,
 *      "train": {"web": {"loss_sum": 81920.5, "tokens": 32768, "samples": 16}},
 *      "eval": {"heldout": {"web": {"loss_sum": 5120.0, "tokens": 2048}}},
 *      "grad": {"domains": ["web", "code"], "gram": [[1.0, 0.2], [0.2, 0.8]], "lr": 3e-4},
 *      "reward": {"web": {"sum": 1.5, "count": 16}},
 *      "scores": [["web", 123456, 0.71]],
 *      "flags": ["nonfinite_loss", "step_skipped"]}
 *
 * "step" and one part or flag must be there; rank is 0, world 1 and mix_version 0 (not told) if
 * they aren't. A domain not seen is absent. A sum, score or entry of a matrix that is no number
 * (NaN, infinite) is written as null, and left to the guards. A matrix must be symmetric.
 * docs/protocol.md says the same of the message. Pure but for malloc; any thread. */
#ifndef MX_DAEMON_REPORT_JSON_H
#define MX_DAEMON_REPORT_JSON_H

#include "daemon/names.h"
#include "daemon/report.h"

/* text, n: one line without its end. MX_EINVALID with "FILE:LINE: key 'train.web': ..." otherwise.
 * What it says isn't checked against a run: that is the run's business. */
int mx_report_parse(const char *file, size_t line, const char *text, size_t n,
                    const struct mx_names *names, struct mx_report *ret, struct mx_err *err)
    MX_MUST_CHECK;

#endif
