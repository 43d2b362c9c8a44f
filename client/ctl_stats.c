/* ctl_stats.c - mixctl stats: the daemon's numbers, or a run's. */
#include "client/ctl.h"

#include <string.h>

/* Prints the scalar members of an object, one a line, and of the objects in it. */
static void print_members(const mx_json *o, const char *prefix)
{
    char buf[CTL_CHARS], name[128];

    for (const mx_json *v = mx_json_first(o); v != NULL; v = mx_json_next(v)) {
        size_t n = strlen(mx_json_key(v));
        bool size = n > 5 && strstr(mx_json_key(v), "bytes") != NULL;

        (void)snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "",
                       mx_json_key(v));
        if (mx_json_is_object(v) && prefix[0] == '\0') {
            print_members(v, mx_json_key(v));
        } else if (mx_json_is_number(v) && size) {
            (void)printf("%-28s %s\n", name, ctl_bytes(buf, mx_json_number(v)));
        } else if (!mx_json_is_array(v) && !mx_json_is_object(v)) {
            (void)printf("%-28s %s\n", name, ctl_member(buf, o, mx_json_key(v)));
        }
    }
}

static void print_runs(const mx_json *runs)
{
    static const char *const heads[] = {"RUN", "STATE", "FRONTIER>", "MIX>"};
    struct ctl_table *t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
    char buf[CTL_CHARS];

    for (const mx_json *r = mx_json_first(runs); r != NULL; r = mx_json_next(r)) {
        ctl_table_cell(t, ctl_member(buf, r, "name"));
        ctl_table_cell(t, ctl_member(buf, r, "state"));
        ctl_table_cell(t, ctl_member(buf, r, "frontier"));
        ctl_table_cell(t, ctl_member(buf, r, "mix_version"));
    }
    (void)printf("\n");
    ctl_table_print(t, stdout);
}

static int stats(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mxc_error err;
    char *json;
    int rc = ctl_connect(c);

    if (rc != CTL_DONE) {
        return rc;
    }
    if (mxc_stats(c->client, c->n_words > 0 ? c->words[0] : NULL, &json, &err) < 0) {
        return ctl_client_fail(&err);
    }
    rc = ctl_answer(c, json, &d);
    if (rc == CTL_DONE && d != NULL) {
        const mx_json *o = mx_json_root(d);

        if (c->n_words > 0) {
            ctl_print_run(o);
        } else {
            print_members(o, "");
            print_runs(mx_json_get(o, "runs"));
        }
    }
    mx_json_free(d);
    return rc;
}

const struct ctl_command ctl_stats_commands[] = {
    {"stats", "[RUN]", 0, 1, "Show the daemon's numbers, or a run's.", "",
     "Example: mixctl stats demo --json", NULL, stats},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
