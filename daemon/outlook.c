/* outlook.c - how far domains are; and those that will run out, said while there is time to do
 * something about it. See daemon.h. What will be is reckoned from the mix in force: a mix that
 * moves moves it as well. */
#include "daemon/daemon.h"
#include "daemon/log.h"

#include <inttypes.h>

uint64_t mx_outlook(struct mx_host *h, uint32_t domain)
{
    uint64_t left = mx_run_steps_left(h->core, domain);
    struct mx_run_view v;

    mx_run_view(h->core, &v);
    return left == UINT64_MAX || (v.end_step != UINT64_MAX && left >= v.end_step - v.frontier)
               ? UINT64_MAX : left;
}

double mx_epochs(const struct mx_host *h, uint32_t domain, uint64_t cursor)
{
    const struct mx_plan_domain *m = &mx_run_domains(h->core)[domain];
    struct mx_series series = {h->conf.seed, m, domain, 1};
    uint64_t epoch, left;

    mx_series_epoch(&series, cursor, &epoch, &left);
    return (double)epoch + 1.0 - (double)left / (double)mx_series_samples(m, cursor);
}

static void warn(struct mx_host *h, uint32_t domain, uint64_t left)
{
    struct mx_run_view v;

    mx_run_view(h->core, &v);
    mx_log(MX_LOG_WARN, "domain.low", "run=%s domain=%s steps_left=%" PRIu64 " at_step=%" PRIu64
           " then=%s", h->conf.name, h->conf.domains[domain].name, left, v.frontier + left,
           h->conf.domains[domain].on_exhausted == MX_EXHAUSTED_STOP
               ? "\"the run stops\"" : "\"others take over\"");
}

void mx_outlook_tick(struct mx_host *h)
{
    for (uint32_t i = 0; i < h->conf.k && h->failed[0] == '\0'; i++) {
        uint64_t left;

        if (h->conf.domains[i].max_epochs <= 0) {
            continue;
        }
        left = mx_outlook(h, i);
        if (left <= h->conf.warn_steps && !h->low[i]) {
            warn(h, i, left);
        }
        h->low[i] = left <= h->conf.warn_steps;
    }
}
