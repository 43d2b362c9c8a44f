/* ctl_run.c - mixctl run: making, listing, showing and stopping runs, all by way of the daemon. */
#include "client/ctl.h"

#include "proto/limits.h"

#include <errno.h>
#include <string.h>

/* The file's text, malloc'ed and terminated; "-" is stdin. */
static int read_config(const char *path, char **ret, size_t *ret_n)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char *text = malloc(MX_JSON_MAX + 2);
    size_t n = 0;
    int rc = CTL_DONE;

    if (f == NULL || text == NULL) {
        rc = ctl_fail("%.900s: %s", path, strerror(errno));
        goto close;
    }
    n = fread(text, 1, MX_JSON_MAX + 1, f);
    if (ferror(f)) {
        rc = ctl_fail("%.900s: %s", path, strerror(errno));
    } else if (n > MX_JSON_MAX) {
        rc = ctl_fail("%.900s: larger than the %u bytes a config may have", path, MX_JSON_MAX);
    } else {
        text[n] = '\0';
        *ret = text;
        *ret_n = n;
        text = NULL;
    }
close:
    if (f != NULL && f != stdin) {
        (void)fclose(f);
    }
    free(text);
    return rc;
}

static int run_create(struct ctl *c)
{
    const char *path = ctl_opt(c, CTL_FILE);
    struct mx_json_doc *d = NULL;
    struct mx_json_doc *check;
    struct mx_jsonw w;
    struct mx_err err;
    char *text = NULL;
    char a[CTL_CHARS], b[CTL_CHARS];
    size_t n = 0;
    int rc;

    if (path == NULL) {
        return ctl_usage("run create needs the run's config: -f FILE");
    }
    rc = read_config(path, &text, &n);
    if (rc != CTL_DONE) {
        return rc;
    }
    /* What isn't JSON is refused here, with the file's own name. */
    if (mx_json_parse(path, text, n, &check, &err) < 0) {
        free(text);
        return ctl_fail("%s", err.text);
    }
    mx_json_free(check);
    ctl_op(&w, "run.create");
    mx_jsonw_string(&w, "name", c->words[0]);
    mx_jsonw_string_n(&w, "config", text, n);
    ctl_author(c, &w);
    free(text);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        (void)printf("created run %s: batches of %s x %s tokens\n", c->words[0],
                     ctl_member(a, mx_json_root(d), "batch_size"),
                     ctl_member(b, mx_json_root(d), "seq_len"));
    }
    mx_json_free(d);
    return rc;
}

static int run_ls(struct ctl *c)
{
    static const char *const heads[] = {"RUN",  "STATE",  "POLICY",   "FRONTIER>", "END>",
                                        "MIX>", "BATCH>", "SEQ_LEN>", "DOMAINS>"};
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    struct ctl_table *t;
    char buf[CTL_CHARS];
    int rc;

    ctl_op(&w, "run.ls");
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        const mx_json *r = mx_json_first(mx_json_get(mx_json_root(d), "runs"));

        t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
        for (; r != NULL; r = mx_json_next(r)) {
            bool counted = mx_json_get(r, "domain_count") != NULL;

            ctl_table_cell(t, ctl_member(buf, r, "name"));
            ctl_table_cell(t, ctl_member(buf, r, "state"));
            ctl_table_cell(t, ctl_member(buf, r, "policy"));
            ctl_table_cell(t, ctl_member(buf, r, "frontier"));
            ctl_table_cell(t, ctl_member(buf, r, "end_step"));
            ctl_table_cell(t, ctl_member(buf, r, "mix_version"));
            ctl_table_cell(t, ctl_member(buf, r, "batch_size"));
            ctl_table_cell(t, ctl_member(buf, r, "seq_len"));
            ctl_table_cell(t, ctl_member(buf, r, counted ? "domain_count" : "domains"));
        }
        ctl_table_print(t, stdout);
    }
    mx_json_free(d);
    return rc;
}

void ctl_print_run(const mx_json *o)
{
    static const char *const heads[] = {"DOMAIN", "SHARE>",   "ACHIEVED>", "WEIGHT>",
                                        "EPOCH>", "DRAWN>",   "SAMPLES>",  "LOSS>",
                                        "FLOOR>", "CEILING>", "PIN>"};
    static const char *const keys[] = {"share",   "achieved", "weight", "epoch",   "drawn",
                                       "samples", "loss",     "floor",  "ceiling", "pin"};
    struct ctl_table *t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
    char a[CTL_CHARS], b[CTL_CHARS];
    const mx_json *v;

    (void)printf("run       %s (%s)\n", ctl_member(a, o, "name"), ctl_member(b, o, "state"));
    (void)printf("policy    %s\n", ctl_member(a, o, "policy"));
    (void)printf("batch     %s x %s tokens\n", ctl_member(a, o, "batch_size"),
                 ctl_member(b, o, "seq_len"));
    (void)printf("frontier  step %s, end %s\n", ctl_member(a, o, "frontier"),
                 ctl_member(b, o, "end_step"));
    (void)printf("mix       version %s\n", ctl_member(a, o, "mix_version"));
    if ((v = mx_json_get(o, "feedback")) != NULL) {
        (void)printf("feedback  %s steps closed, moved the mix %s steps later\n",
                     ctl_member(a, v, "steps_closed"), ctl_member(b, v, "delay_steps"));
    }
    if (mx_json_get(o, "error") != NULL) {
        (void)printf("error     %s\n", mx_json_string(mx_json_get(o, "error")));
    }
    (void)printf("\n");
    for (const mx_json *d = mx_json_first(mx_json_get(o, "domains")); d != NULL;
         d = mx_json_next(d)) {
        ctl_table_cell(t, ctl_member(a, d, "name"));
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
            ctl_table_cell(t, i < 3 ? ctl_share(a, mx_json_get(d, keys[i]))
                                    : ctl_member(a, d, keys[i]));
        }
    }
    ctl_table_print(t, stdout);
}

static int run_show(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    int rc;

    ctl_op(&w, "run.show");
    mx_jsonw_string(&w, "run", c->words[0]);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        ctl_print_run(mx_json_root(d));
    }
    mx_json_free(d);
    return rc;
}

static int run_stop(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    char a[CTL_CHARS];
    int rc;

    ctl_op(&w, "run.stop");
    mx_jsonw_string(&w, "run", c->words[0]);
    ctl_author(c, &w);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        (void)printf("stopped run %s before step %s\n", c->words[0],
                     ctl_member(a, mx_json_root(d), "frontier"));
    }
    mx_json_free(d);
    return rc;
}

static const struct argp_option create_options[] = {
    {"file", 'f', "FILE", 0, "The run's config, JSON; - is stdin", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};
static const struct argp_option stop_options[] = {
    {"why", CTL_WHY, "TEXT", 0, "The reason, kept with the run", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

const struct ctl_command ctl_run_commands[] = {
    {"run create", "NAME", 1, 1, "Start a run from a config.",
     "docs/config.md has every key of a config.", "Example: mixctl run create demo -f demo.json",
     create_options, run_create},
    {"run ls", "", 0, 0, "List the runs.", "", "Example: mixctl run ls", NULL, run_ls},
    {"run show", "NAME", 1, 1, "Show a run: where it is, and each domain's share and loss.", "",
     "Example: mixctl run show demo", NULL, run_show},
    {"run stop", "NAME", 1, 1, "Stop a run: trainers are told that it has ended.", "",
     "Example: mixctl run stop demo --why 'diverged at step 12000'", stop_options, run_stop},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
