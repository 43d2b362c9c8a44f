/* fuzz_report.c - a line of a file of reports: any bytes are refused with a text that names the line,
 * or give a report whose every number is of something that there is. */
#include "daemon/report_json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mx_names *names_of(int any_set)
{
    static const char *const domains[] = {"web", "code", "books"};
    static const char *const members[] = {"law", "web"};
    const struct mx_name_set sets[] = {{"heldout", 2, members}, {"eval", 3, domains}};

    return mx_names_new(3, domains, any_set ? 1 : 2, any_set ? &sets[1] : sets, any_set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mx_names *names = names_of(size % 2);
    struct mx_report r;
    struct mx_err err = {0};
    const struct mx_entry *e = &r.entry;

    MX_REQUIRE(names != NULL);
    if (mx_report_parse("fuzz", 7, (const char *)data, size, names, &r, &err) < 0) {
        MX_REQUIRE(strncmp(err.text, "fuzz:", 5) == 0 && strchr(err.text, '\n') == NULL);
        mx_names_free(names);
        return 0;
    }
    MX_REQUIRE(e->rank < e->world && (e->flags & ~3u) == 0);
    for (uint32_t i = 0; i < e->n; i++) {
        MX_REQUIRE(e->losses[i].domain < 3 && (i == 0 || e->losses[i].domain >
                                                             e->losses[i - 1].domain));
    }
    for (uint32_t i = 0; i < e->n_evals; i++) {
        MX_REQUIRE(e->evals[i].set < mx_names_n_sets(names) &&
                   e->evals[i].member < mx_names_m(names, e->evals[i].set));
    }
    for (uint32_t i = 0; i < e->n_rewards; i++) {
        MX_REQUIRE(e->rewards[i].domain < 3);
    }
    for (uint32_t i = 0; i < e->n_scores; i++) {
        MX_REQUIRE(e->scores[i].domain < 3);
    }
    MX_REQUIRE(e->n_gram <= 3);
    for (uint32_t i = 1; i < e->n_gram; i++) {
        MX_REQUIRE(e->gram_domains[i] > e->gram_domains[i - 1]);
    }
    mx_report_clear(&r);
    mx_names_free(names);
    return 0;
}
