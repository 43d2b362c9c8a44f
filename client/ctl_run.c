/* ctl_run.c - mixctl run and skip: making, listing, showing and stopping runs, and going back and
 * forth in one, all by way of the daemon. */
#include "client/ctl.h"

#include "proto/limits.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* A replay goes through all that a run has ever done. */
#define REPLAY_TIMEOUT_MS 600000

/* The file's text, malloc'ed and terminated; "-" is stdin. */
int ctl_read_config(const char *path, char **ret, size_t *ret_n)
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
    rc = ctl_read_config(path, &text, &n);
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
    v = mx_json_get(o, "parts");
    for (const mx_json *p = mx_json_first(v); p != NULL && mx_json_count(v) > 1;
         p = mx_json_next(p)) {
        char from[CTL_CHARS];

        (void)printf("          %s x %s tokens from step %s on\n", ctl_member(a, p, "batch_size"),
                     ctl_member(b, p, "seq_len"), ctl_member(from, p, "from_step"));
    }
    (void)printf("frontier  step %s, end %s\n", ctl_member(a, o, "frontier"),
                 ctl_member(b, o, "end_step"));
    (void)printf("mix       version %s\n", ctl_member(a, o, "mix_version"));
    if ((v = mx_json_get(o, "phase")) != NULL) {
        char from[CTL_CHARS], next[CTL_CHARS];

        (void)printf("phase     %s (%s) from step %s on, next at %s\n", ctl_member(a, v, "name"),
                     ctl_member(b, v, "kind"), ctl_member(from, v, "from_step"),
                     ctl_member(next, v, "next_step"));
    }
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

/* ---- back and forth ---- */

static int skip(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    uint64_t from, to;
    char a[CTL_CHARS], b[CTL_CHARS];
    int rc;

    if (!ctl_step(c, CTL_FROM, "--from", &from) || !ctl_step(c, CTL_TO, "--to", &to) ||
        !ctl_need_why(c)) {
        return CTL_USAGE;
    }
    if (from >= to) {
        return ctl_usage("--from must be less than --to, the first step that isn't passed over");
    }
    ctl_op(&w, "run.skip");
    mx_jsonw_string(&w, "run", c->words[0]);
    mx_jsonw_u64(&w, "from", from);
    mx_jsonw_u64(&w, "to", to);
    ctl_author(c, &w);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        (void)printf("run %s passes over steps from %s on and goes on at step %s\n", c->words[0],
                     ctl_member(a, mx_json_root(d), "from"), ctl_member(b, mx_json_root(d), "to"));
    }
    mx_json_free(d);
    return rc;
}

static int run_rewind(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    uint64_t to;
    char a[CTL_CHARS], b[CTL_CHARS];
    int rc;

    if (!ctl_step(c, CTL_TO, "--to", &to)) {
        return CTL_USAGE;
    }
    ctl_op(&w, "run.rewind");
    mx_jsonw_string(&w, "run", c->words[0]);
    mx_jsonw_u64(&w, "to", to);
    ctl_author(c, &w);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        (void)printf("run %s is back at step %s", c->words[0],
                     ctl_member(a, mx_json_root(d), "to"));
        (void)printf(": branch %s, mix version %s\n", ctl_member(a, mx_json_root(d), "branch"),
                     ctl_member(b, mx_json_root(d), "mix_version"));
    }
    mx_json_free(d);
    return rc;
}

static int run_fork(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    uint64_t at;
    int rc;

    if (!ctl_step(c, CTL_AT, "--at", &at)) {
        return CTL_USAGE;
    }
    ctl_op(&w, "run.fork");
    mx_jsonw_string(&w, "run", c->words[0]);
    mx_jsonw_string(&w, "name", c->words[1]);
    mx_jsonw_u64(&w, "at", at);
    ctl_author(c, &w);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        (void)printf("created run %s: run %s up to step %" PRIu64 "\n", c->words[1], c->words[0],
                     at);
    }
    mx_json_free(d);
    return rc;
}

static int run_replay(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    char a[CTL_CHARS], b[CTL_CHARS];
    int rc;

    if (!c->timeout_given) {
        c->timeout_ms = REPLAY_TIMEOUT_MS;
    }
    ctl_op(&w, "run.replay");
    mx_jsonw_string(&w, "run", c->words[0]);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        const mx_json *o = mx_json_root(d);

        (void)printf("replayed  %s entries from entry %s on\n", ctl_member(a, o, "entries"),
                     ctl_member(b, o, "first_entry"));
        (void)printf("planned   %s steps from step %s on\n", ctl_member(a, o, "steps"),
                     ctl_member(b, o, "first_step"));
        (void)printf("branches  %s\n", ctl_member(a, o, "branches"));
        (void)printf("digest    %s\n", ctl_member(a, o, "digest"));
        (void)printf("run %s is what its log says\n", c->words[0]);
    }
    mx_json_free(d);
    return rc;
}

static int run_compact(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    uint64_t before;
    char a[CTL_CHARS], b[CTL_CHARS];
    int rc;

    if (!ctl_step(c, CTL_BEFORE, "--before", &before)) {
        return CTL_USAGE;
    }
    ctl_op(&w, "run.compact");
    mx_jsonw_string(&w, "run", c->words[0]);
    mx_jsonw_u64(&w, "before", before);
    ctl_author(c, &w);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        (void)printf("removed %s entries of run %s", ctl_member(a, mx_json_root(d), "removed"),
                     c->words[0]);
        (void)printf(": its log begins with entry %s, its history with step %s\n",
                     ctl_member(a, mx_json_root(d), "first_entry"),
                     ctl_member(b, mx_json_root(d), "step"));
    }
    mx_json_free(d);
    return rc;
}

#define WHY                                                               \
    {                                                                     \
        "why", CTL_WHY, "TEXT", 0, "The reason, kept in the run's log", 0 \
    }
#define END                       \
    {                             \
        NULL, 0, NULL, 0, NULL, 0 \
    }
static const struct argp_option skip_options[] = {
    {"from", CTL_FROM, "A", 0, "The first step that is passed over", 0},
    {"to", CTL_TO, "B", 0, "The first one after it that isn't", 0},
    WHY,
    END,
};
static const struct argp_option rewind_options[] = {
    {"to", CTL_TO, "S", 0, "The step to go back to: the first that is planned anew", 0},
    WHY,
    END,
};
static const struct argp_option fork_options[] = {
    {"at", CTL_AT, "S", 0, "The first step that is the new run's own", 0},
    WHY,
    END,
};
static const struct argp_option compact_options[] = {
    {"before", CTL_BEFORE, "STEP", 0, "Forget what is only of use for steps before this one", 0},
    WHY,
    END,
};
static const struct argp_option create_options[] = {
    {"file", 'f', "FILE", 0, "The run's config, JSON; - is stdin", 0},
    END,
};
static const struct argp_option stop_options[] = {WHY, END};

const struct ctl_command ctl_run_commands[] = {
    {"run create", "NAME", 1, 1, "Start a run from a config.",
     "docs/config.md has every key of a config.", "Example: mixctl run create demo -f demo.json",
     create_options, run_create},
    {"run ls", "", 0, 0, "List the runs.", "", "Example: mixctl run ls", NULL, run_ls},
    {"run show", "NAME", 1, 1, "Show a run: where it is, and each domain's share and loss.", "",
     "Example: mixctl run show demo", NULL, run_show},
    {"run stop", "NAME", 1, 1, "Stop a run: trainers are told that it has ended.", "",
     "Example: mixctl run stop demo --why 'diverged at step 12000'", stop_options, run_stop},
    {"run fork", "SRC NEW", 2, 2, "Start a run that is the same as another up to a step.",
     "The new run has the same steps before S, byte for byte, and the mix that was in force there; "
     "from S on both go their own ways. The other run isn't touched.",
     "Example: mixctl run fork demo demo-more-code --at 12000 --why 'try more code'", fork_options,
     run_fork},
    {"run rewind", "NAME", 1, 1, "Go back to a step and plan everything from there on anew.",
     "Stop the trainers first and start them from their checkpoint of step S. Steps before S stay "
     "as they are, byte for byte. From S on the run is as it was when step S had not been planned: "
     "mixes made later, by feedback or by hand, are gone, and so is what was reported for steps "
     "from S on. Another rewind doesn't bring them back: to keep the present course, fork the run "
     "first. What stays is the log: it keeps all of the old branch, and who went back and why.",
     "Example: mixctl run rewind demo --to 12000 --why 'loss spike at 12180'", rewind_options,
     run_rewind},
    {"run replay", "NAME", 1, 1, "Prove that a run is what its log says.",
     "The daemon goes through the journal from its beginning and compares every mix, cursor and "
     "digest with what is stored. It fails with the first step and entry that differ. May take "
     "minutes: it waits for 600 seconds unless --timeout says otherwise.",
     "Example: mixctl run replay demo", NULL, run_replay},
    {"run compact", "NAME", 1, 1, "Forget the history of a run before a step.",
     "What the journal needs for steps before STEP alone is removed, for good: those steps can't "
     "be served, shown, forked or gone back to any more. What stays is the run from STEP on, byte "
     "for byte, and the log of that.",
     "Example: mixctl run compact demo --before 100000 --why 'that year is over'", compact_options,
     run_compact},
    {"skip", "RUN", 1, 1, "Pass over steps A to B-1 of a run: trainers go on at step B.",
     "Those steps are served to nobody from now on, whether they were before or not. Trainers that "
     "ask for one are told to go on at B; libmixclient does so by itself. The other steps keep "
     "their samples.",
     "Example: mixctl skip demo --from 12150 --to 12350 --why 'loss spike at 12180'", skip_options,
     skip},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
