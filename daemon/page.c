/* page.c - the page at /: what runs there are and where their mixes stand, for a person with a
 * browser. One static document without scripts that loads itself again every few seconds; the
 * numbers are those of stats.c. Knows no HTTP. */
#include "daemon/daemon.h"

#include <inttypes.h>
#include <math.h>

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>mixd</title>\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta http-equiv=\"refresh\" content=\"3\">\n"
    "<style>:root{color-scheme:light dark}body{font:15px sans-serif;max-width:60em;margin:2em auto;"
    "padding:0 1em}table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:.2em "
    ".6em;border-bottom:1px solid #8884}th:first-child,td:first-child{text-align:left}td.bar{width:"
    "30%}td.bar div{background:#4e79a7;height:.8em}p.small{color:#888}</style></head><body>\n"
    "<h1>mixd</h1>\n";

/* Text that may hold anything. */
static void put_text(FILE *f, const char *s)
{
    for (; *s != '\0'; s++) {
        switch (*s) {
        case '<': (void)fputs("&lt;", f); break;
        case '>': (void)fputs("&gt;", f); break;
        case '&': (void)fputs("&amp;", f); break;
        default: (void)fputc(*s, f); break;
        }
    }
}

static void put_domain(FILE *f, struct mx_host *h, const struct mx_run_view *v, uint32_t i,
                       double drawn)
{
    double share = (double)v->shares[i] / (double)MX_SHARE_ONE;

    /* Names have no character that HTML minds. */
    (void)fprintf(f, "<tr><td>%s</td><td>%.2f %%</td><td class=\"bar\"><div style=\"width:%.1f%%\">"
                  "</div></td><td>%.2f %%</td>", h->conf.domains[i].name, 100 * share, 100 * share,
                  drawn > 0 ? 100 * (double)mx_run_drawn(h->core, i) / drawn : 0);
    (void)fprintf(f, "<td>%.3f</td>", mx_epochs(h, i, v->cursors[i]));
    if (isnan(v->loss[i])) {
        (void)fputs("<td>-</td></tr>\n", f);
    } else {
        (void)fprintf(f, "<td>%.4f</td></tr>\n", v->loss[i]);
    }
}

static void put_run(FILE *f, struct mx_host *h)
{
    struct mx_run_view v;
    double drawn = 0;

    (void)fprintf(f, "<h2>%s</h2>\n<p>%s", h->conf.name, mx_host_state(h));
    if (h->failed[0] != '\0') {
        (void)fputs(": ", f);
        put_text(f, h->failed);
        (void)fputs("</p>\n", f);
        return;
    }
    mx_run_view(h->core, &v);
    (void)fprintf(f, ", policy %s, step %" PRIu64, h->conf.mixers[0].policy.ops->name, v.frontier);
    if (v.end_step != UINT64_MAX) {
        (void)fprintf(f, " of %" PRIu64, v.end_step);
    }
    (void)fprintf(f, ", mix version %" PRIu64 ", %" PRIu64 " reports. "
                  "<a href=\"/api/v1/runs/%s\">All of it as JSON</a></p>\n<table><tr><th>domain</th>"
                  "<th>share</th><th></th><th>achieved</th><th>epochs</th><th>loss</th></tr>\n",
                  v.mix_version, v.accepted, h->conf.name);
    for (uint32_t i = 0; i < h->conf.k; i++) {
        drawn += (double)mx_run_drawn(h->core, i);
    }
    for (uint32_t i = 0; i < h->conf.k && i < 200; i++) {
        put_domain(f, h, &v, i, drawn);
    }
    (void)fputs("</table>\n", f);
    if (h->conf.k > 200) {
        (void)fprintf(f, "<p>and %" PRIu32 " domains more</p>\n", h->conf.k - 200);
    }
}

char *mx_page(struct mx_daemon *d, size_t *ret_n)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, ret_n);
    char why[256];

    if (f == NULL) {
        return NULL;
    }
    (void)fputs(head, f);
    if (!mx_healthy(d, why, sizeof why)) {
        (void)fputs("<p><strong>Not healthy: ", f);
        put_text(f, why);
        (void)fputs("</strong></p>\n", f);
    }
    if (d->n_hosts == 0) {
        (void)fputs("<p>No runs yet: mixctl run create NAME -f FILE</p>\n", f);
    }
    for (uint32_t i = 0; i < d->n_hosts; i++) {
        put_run(f, d->hosts[i]);
    }
    (void)fprintf(f, "<p class=\"small\">mixd %s, up for %.0f s. <a href=\"/api/v1/stats\">stats</a> "
                  "<a href=\"/metrics\">metrics</a></p>\n</body></html>\n", MIXD_VERSION,
                  (double)(uv_hrtime() - d->started_ns) / 1e9);
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
