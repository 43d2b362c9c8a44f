/* mixctl.c - the command line: which command, its options, help. The commands are in ctl_*.c.
 *
 * argp parses the options before the command and, with the command's own beside them, after it. */
#include "client/ctl.h"

#include <string.h>

#define URL_DEFAULT "tcp://127.0.0.1:7117"
#define TIMEOUT_DEFAULT_MS 5000
#define TIMEOUT_MAX_S 86400.0
enum { GLOBAL_CONNECT = 0x200, GLOBAL_DATA, GLOBAL_JSON, GLOBAL_TIMEOUT, GLOBAL_VERSION };

/* What the parsers share; argp hands it through. */
struct parse {
    struct ctl *c;
    const struct ctl_command *command; /* NULL: before the command is known */
    bool version;
    char **rest; /* from the command's name on */
    int n_rest;
};

static const struct argp_option global_options[] = {
    {"connect", GLOBAL_CONNECT, "URL", 0,
     "The daemon: tcp://HOST:PORT or ipc://PATH (default $MIXD_URL, else " URL_DEFAULT ")", 10},
    {"data", GLOBAL_DATA, "DIR", 0,
     "The store's directory, for commands that work without a daemon "
     "(ingest also takes it from $MIXD_DATA)",
     10},
    {"json", GLOBAL_JSON, NULL, 0, "Print one JSON document and nothing else", 10},
    {"timeout", GLOBAL_TIMEOUT, "SECONDS", 0, "How long to wait for the daemon (default 5)", 10},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const struct argp_option version_option[] = {
    {"version", GLOBAL_VERSION, NULL, 0, "Print the version", -1},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse_global(int key, char *arg, struct argp_state *state)
{
    struct parse *p = state->input;
    double s;

    switch (key) {
    case GLOBAL_CONNECT:
        p->c->url = arg;
        p->c->url_given = true;
        return 0;
    case GLOBAL_DATA: p->c->data = arg; return 0;
    case GLOBAL_JSON: p->c->json = true; return 0;
    case GLOBAL_TIMEOUT:
        if (!ctl_double("--timeout", arg, &s)) {
            exit(CTL_USAGE);
        }
        if (s < 0.001 || s > TIMEOUT_MAX_S) {
            exit(ctl_usage("--timeout must be from 0.001 to %g seconds, not %g", TIMEOUT_MAX_S, s));
        }
        p->c->timeout_ms = (int64_t)(s * 1000);
        p->c->timeout_given = true;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp global_argp = {global_options, parse_global, NULL, NULL, NULL, NULL, NULL};
static const struct argp_child global_child[] = {{&global_argp, 0, NULL, 10}, {NULL, 0, NULL, 0}};

/* Options and words up to the command's name, or of the command. */
static error_t parse_words(int key, char *arg, struct argp_state *state)
{
    struct parse *p = state->input;

    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = p;
        return 0;
    }
    if (key == GLOBAL_VERSION) {
        p->version = true;
        return 0;
    }
    if (key == ARGP_KEY_ARG && p->command == NULL) {
        p->rest = &state->argv[state->next - 1];
        p->n_rest = state->argc - (state->next - 1);
        state->next = state->argc;
        return 0;
    }
    if (key == ARGP_KEY_ARGS && p->command != NULL) {
        p->c->words = &state->argv[state->next];
        p->c->n_words = state->argc - state->next;
        return 0;
    }
    if (key == 'f') {
        key = CTL_FILE; /* the one option with a letter */
    }
    if (key == CTL_KIND) {
        if (p->c->n_kinds == CTL_KINDS_MAX) {
            exit(ctl_usage("--kind may be given %u times", CTL_KINDS_MAX));
        }
        p->c->kinds[p->c->n_kinds++] = arg;
    }
    if (key >= CTL_FORMAT && key < CTL_OPTION_END) {
        p->c->opt[key - CTL_FORMAT] = arg != NULL ? arg : "";
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

/* ---- the commands ---- */

/* Calls each command until fn returns true; the command it returned true for. */
static const struct ctl_command *each_command(bool (*fn)(const struct ctl_command *k, void *arg),
                                              void *arg)
{
    const struct ctl_command *const nouns[] = {
        ctl_ingest_commands, ctl_domain_commands, ctl_run_commands, ctl_mix_commands,
        ctl_batch_commands,  ctl_stats_commands,  ctl_log_commands, ctl_trace_commands,
        ctl_simulate_commands, ctl_policy_commands,
    };

    for (size_t i = 0; i < sizeof nouns / sizeof nouns[0]; i++) {
        for (const struct ctl_command *k = nouns[i]; k->name != NULL; k++) {
            if (fn(k, arg)) {
                return k;
            }
        }
    }
    return NULL;
}

struct words {
    char **word;
    int n;
    int used; /* by the command's name */
};

/* Whether the words begin with the command's name. */
static bool matches(const struct ctl_command *k, void *arg)
{
    struct words *w = arg;
    const char *second = strchr(k->name, ' ');
    size_t first = second != NULL ? (size_t)(second - k->name) : strlen(k->name);

    if (w->n < 1 || strlen(w->word[0]) != first || memcmp(w->word[0], k->name, first) != 0 ||
        (second != NULL && (w->n < 2 || strcmp(w->word[1], second + 1) != 0))) {
        return false;
    }
    w->used = second != NULL ? 2 : 1;
    return true;
}

struct verbs {
    const char *noun;
    char list[128];
};

/* Adds the command's verb if it is one of the noun's. */
static bool add_verb(const struct ctl_command *k, void *arg)
{
    struct verbs *v = arg;
    size_t n = strlen(v->noun);
    size_t at = strlen(v->list);

    if (strncmp(k->name, v->noun, n) == 0 && k->name[n] == ' ') {
        (void)snprintf(v->list + at, sizeof v->list - at, "%s%s", at > 0 ? ", " : "",
                       k->name + n + 1);
    }
    return false;
}

static bool print_summary(const struct ctl_command *k, void *arg)
{
    (void)arg;
    (void)printf("  %-15s %s\n", k->name, k->summary);
    return false;
}

static int print_overview(void)
{
    (void)printf("usage: mixctl [--connect URL] [--data DIR] [--json] [--timeout S] COMMAND ...\n\n"
                 "Commands:\n");
    (void)each_command(print_summary, NULL);
    (void)printf("  %-15s %s\n", "help", "explain a command: mixctl help run create");
    (void)printf("\nThe daemon is found at --connect, $MIXD_URL or " URL_DEFAULT ".\n"
                 "Exit codes: 0 done, 1 refused or failed (stderr says why), 2 usage, 3 no daemon "
                 "reached.\n");
    return CTL_DONE;
}

static int parse_command(struct parse *p, int used, bool help)
{
    const struct ctl_command *k = p->command;
    char args_doc[128], doc[2048], name[64];
    const struct argp argp = {k->options, parse_words, args_doc, doc, global_child, NULL, NULL};
    char **argv = p->rest + used - 1;

    (void)snprintf(name, sizeof name, "mixctl %s", k->name);
    (void)snprintf(args_doc, sizeof args_doc, "%s", k->words);
    (void)snprintf(doc, sizeof doc, "%s%s%s\v%s", k->summary, k->more[0] != '\0' ? "\n\n" : "",
                   k->more, k->example);
    if (help) {
        argp_help(&argp, stdout, ARGP_HELP_STD_HELP & ~(unsigned)ARGP_HELP_EXIT_OK, name);
        return CTL_DONE;
    }
    /* The name in argp's messages. The words before it are done with. */
    argv[0] = name;
    if (argp_parse(&argp, p->n_rest - used + 1, argv, 0, NULL, p) != 0) {
        return ctl_usage("the arguments can't be read");
    }
    if (p->c->n_words < k->words_min || (k->words_max >= 0 && p->c->n_words > k->words_max)) {
        return ctl_usage("usage: mixctl %s %s (mixctl help %s)", k->name, k->words, k->name);
    }
    return k->run(p->c);
}

static int dispatch(struct parse *p)
{
    struct words w = {p->rest, p->n_rest, 0};
    bool help = p->n_rest > 0 && strcmp(p->rest[0], "help") == 0;

    if (help) {
        w.word++;
        w.n--;
    }
    if (p->version) {
        (void)printf("mixctl %s\n", mxc_version());
        return CTL_DONE;
    }
    if (w.n == 0) {
        return help ? print_overview() : ctl_usage("which command? 'mixctl help' lists them");
    }
    p->command = each_command(matches, &w);
    if (p->command == NULL) {
        struct verbs v = {.noun = w.word[0]};

        (void)each_command(add_verb, &v);
        if (v.list[0] != '\0') {
            return ctl_usage("'%s' goes with one of: %s", v.noun, v.list);
        }
        return ctl_usage("there is no command '%.80s'; 'mixctl help' lists them", w.word[0]);
    }
    return parse_command(p, w.used, help);
}

int main(int argc, char **argv)
{
    static const struct argp argp = {version_option,
                                     parse_words,
                                     "COMMAND ...",
                                     "Everything an operator does with mixd: ingest text, start "
                                     "runs, watch and shift their mix.\v'mixctl help' lists the "
                                     "commands, 'mixctl help COMMAND' explains one.",
                                     global_child,
                                     NULL,
                                     NULL};
    const char *url = getenv("MIXD_URL");
    struct ctl c = {.url = url != NULL && url[0] != '\0' ? url : URL_DEFAULT,
                    .timeout_ms = TIMEOUT_DEFAULT_MS};
    struct parse p = {.c = &c};
    int rc;

    argp_err_exit_status = CTL_USAGE;
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &p) != 0) {
        return ctl_usage("the arguments can't be read");
    }
    rc = dispatch(&p);
    mxc_close(c.client);
    if (fflush(stdout) != 0 && rc == CTL_DONE) {
        rc = ctl_fail("the output can't be written");
    }
    return rc;
}
