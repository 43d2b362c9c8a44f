/* ctl.h - what the commands of mixctl share: options, the daemon, exit codes, tables.
 *
 * A command gets its words and options parsed, does one thing and returns an exit code. What it has
 * to say goes to stdout, a reason for failing in one line to stderr. One thread. */
#ifndef MX_CTL_H
#define MX_CTL_H

#include "client/mixclient.h"
#include "proto/json.h"

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

enum ctl_exit { CTL_DONE = 0, CTL_FAILED = 1, CTL_USAGE = 2, CTL_UNREACHED = 3 };

/* Options of single commands; their values lie in ctl.opt, NULL if not given. */
enum ctl_option {
    CTL_FORMAT = 0x100,
    CTL_FIELD,
    CTL_ID_FIELD,
    CTL_TOKENIZER,
    CTL_EOD,
    CTL_CODEC,
    CTL_DICTIONARY,
    CTL_SHARD_MIB,
    CTL_BAD_LIMIT,
    CTL_FILE,
    CTL_WHY,
    CTL_STEP,
    CTL_SLOTS,
    CTL_RANK,
    CTL_WORLD,
    CTL_TEXT,
    CTL_HASH,
    CTL_RUN,
    CTL_FROM,
    CTL_TO,
    CTL_AT,
    CTL_BEFORE,
    CTL_DOC,
    CTL_ORIGIN,
    CTL_KIND, /* may be given several times: all are in ctl.kinds */
    CTL_FOLLOW,
    CTL_NOW,
    CTL_DRY_RUN,
    CTL_FEEDBACK,
    CTL_OUT,
    CTL_LIMIT,
    CTL_KEEP_GOING,
    CTL_STEPS,
    CTL_OPTION_END
};

#define CTL_KINDS_MAX 16u

struct ctl {
    const char *url;  /* never NULL */
    bool url_given;   /* by --connect */
    const char *data; /* --data, or NULL */
    bool json;
    int64_t timeout_ms;
    bool timeout_given;
    const char *opt[CTL_OPTION_END - CTL_FORMAT];
    const char *kinds[CTL_KINDS_MAX];
    unsigned n_kinds;
    char **words; /* after the command's name; borrowed from argv */
    int n_words;
    struct mxc_client *client; /* once ctl_connect was called */
};

struct ctl_command {
    const char *name;         /* "domain ls" */
    const char *words;        /* "NAME", for the usage line */
    int words_min, words_max; /* max -1: any number */
    const char *summary;      /* a sentence in the list of commands */
    const char *more;         /* the rest of the help, or "" */
    const char *example;
    const struct argp_option *options; /* ends with a zero entry; NULL for none */
    int (*run)(struct ctl *c);
};

/* Each noun's commands; the arrays end with a NULL name. */
extern const struct ctl_command ctl_ingest_commands[], ctl_domain_commands[], ctl_run_commands[],
    ctl_mix_commands[], ctl_batch_commands[], ctl_stats_commands[], ctl_log_commands[],
    ctl_trace_commands[], ctl_simulate_commands[], ctl_policy_commands[];

const char *ctl_opt(const struct ctl *c, enum ctl_option o);

/* Prints "mixctl: ..." on stderr; returns CTL_FAILED, or CTL_USAGE. */
int ctl_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int ctl_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A whole number in [min, max] that an option or word named `what` must be. false: said so. */
bool ctl_u64(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *ret);
/* A finite number. */
bool ctl_double(const char *what, const char *text, double *ret);
/* The step that an option must give, named like "--to". false: it doesn't, said so. */
bool ctl_step(const struct ctl *c, enum ctl_option o, const char *name, uint64_t *ret);
/* "A:N" as N slots from A on. false: it isn't, said so. */
bool ctl_slots(const char *text, uint64_t *ret_first, uint64_t *ret_count);
/* That there is a reason. false: there is none, said so. */
bool ctl_need_why(const struct ctl *c);
/* Adds the document that --doc or --origin names; exactly one must be given. false: said so. */
bool ctl_document(const struct ctl *c, struct mx_jsonw *w);

/* A run's config, a file or - for stdin; *ret is malloc'ed. Else an exit code, said why. */
int ctl_read_config(const char *path, char **ret, size_t *ret_n);

/* Connects if it hasn't yet. CTL_DONE or an exit code, said why. */
int ctl_connect(struct ctl *c);
/* Says what a library call failed with; the exit code for it. */
int ctl_client_fail(const struct mxc_error *err);
/* Sends the operation in w (taken) and parses the answer. With --json the answer is printed as it
 * came, *ret is NULL and the command is done. */
int ctl_ask(struct ctl *c, struct mx_jsonw *w, struct mx_json_doc **ret);
/* Same for an answer that is there already; json is freed. */
int ctl_answer(struct ctl *c, char *json, struct mx_json_doc **ret);
/* Sends the operation in w (taken); its answer as text, an object, and parsed, for the caller to
 * free. */
int ctl_ask_both(struct ctl *c, struct mx_jsonw *w, char **ret_text, struct mx_json_doc **ret);
/* A writer with {"op": op begun. */
void ctl_op(struct mx_jsonw *w, const char *op);
/* Adds "why" if --why was given, and "author": user@host. */
void ctl_author(struct ctl *c, struct mx_jsonw *w);

/* A run's state and domains as tables; for run show and stats. */
void ctl_print_run(const mx_json *run);

/* ---- answers as the text they are ----
 *
 * Answers that come in pages are printed as one document, from pieces of the daemon's own text.
 * The text must be valid JSON: ctl_ask_both has seen to that. */
struct ctl_raw {
    const char *p;
    size_t n;
};
/* Over an object's members or an array's items; text is at its opening bracket. */
struct ctl_walk {
    const char *p;
    bool object;
};
void ctl_walk_init(struct ctl_walk *w, const char *text);
/* The next one, with its key in quotes if it has one; false at the end. */
bool ctl_walk_next(struct ctl_walk *w, struct ctl_raw *ret_key, struct ctl_raw *ret_value);
/* The value of a member whose key has no escapes; false if there is none. */
bool ctl_raw_member(const char *object, const char *key, struct ctl_raw *ret);

/* ---- text ---- */

/* "12,345"; "1.5 GiB"; "0.1234", or "-" for null. buf holds CTL_CHARS. */
#define CTL_CHARS 40
const char *ctl_count(char *buf, double n);
const char *ctl_bytes(char *buf, double n);
const char *ctl_share(char *buf, const mx_json *v);
/* A member of an object as text, for tables: strings as they are, counts grouped, "-" if missing.
 */
const char *ctl_member(char *buf, const mx_json *o, const char *key);
/* A whole number of an object; 0 if it is none. */
uint64_t ctl_number(const mx_json *o, const char *key);
/* Milliseconds since 1970 as local time, "2026-01-31 12:00:00". */
const char *ctl_time(char *buf, const mx_json *v);
/* Prints a line; what isn't printable in it becomes '?'. The line is freed. */
void ctl_print_line(char *line);

/* A table whose columns are as wide as they must be. Numbers to the right: a head that ends in '>'
 * (not printed) aligns its column so. Rows may have fewer cells than heads. */
struct ctl_table;
struct ctl_table *ctl_table_new(const char *const *heads, size_t n);
void ctl_table_cell(struct ctl_table *t, const char *text); /* the next cell, copied */
void ctl_table_print(struct ctl_table *t, FILE *f);         /* and frees */

#endif
