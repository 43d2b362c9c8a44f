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
    CTL_OPTION_END
};

struct ctl {
    const char *url;  /* never NULL */
    bool url_given;   /* by --connect */
    const char *data; /* --data, or NULL */
    bool json;
    int64_t timeout_ms;
    const char *opt[CTL_OPTION_END - CTL_FORMAT];
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
    ctl_mix_commands[], ctl_batch_commands[], ctl_stats_commands[];

const char *ctl_opt(const struct ctl *c, enum ctl_option o);

/* Prints "mixctl: ..." on stderr; returns CTL_FAILED, or CTL_USAGE. */
int ctl_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int ctl_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A whole number in [min, max] that an option or word named `what` must be. false: said so. */
bool ctl_u64(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *ret);
/* A finite number. */
bool ctl_double(const char *what, const char *text, double *ret);

/* Connects if it hasn't yet. CTL_DONE or an exit code, said why. */
int ctl_connect(struct ctl *c);
/* Says what a library call failed with; the exit code for it. */
int ctl_client_fail(const struct mxc_error *err);
/* Sends the operation in w (taken) and parses the answer. With --json the answer is printed as it
 * came, *ret is NULL and the command is done. */
int ctl_ask(struct ctl *c, struct mx_jsonw *w, struct mx_json_doc **ret);
/* Same for an answer that is there already; json is freed. */
int ctl_answer(struct ctl *c, char *json, struct mx_json_doc **ret);
/* A writer with {"op": op begun. */
void ctl_op(struct mx_jsonw *w, const char *op);
/* Adds "why" if --why was given, and "author": user@host. */
void ctl_author(struct ctl *c, struct mx_jsonw *w);

/* A run's state and domains as tables; for run show and stats. */
void ctl_print_run(const mx_json *run);

/* ---- text ---- */

/* "12,345"; "1.5 GiB"; "0.1234", or "-" for null. buf holds CTL_CHARS. */
#define CTL_CHARS 40
const char *ctl_count(char *buf, double n);
const char *ctl_bytes(char *buf, double n);
const char *ctl_share(char *buf, const mx_json *v);
/* A member of an object as text, for tables: strings as they are, counts grouped, "-" if missing.
 */
const char *ctl_member(char *buf, const mx_json *o, const char *key);

/* A table whose columns are as wide as they must be. Numbers to the right: a head that ends in '>'
 * (not printed) aligns its column so. Rows may have fewer cells than heads. */
struct ctl_table;
struct ctl_table *ctl_table_new(const char *const *heads, size_t n);
void ctl_table_cell(struct ctl_table *t, const char *text); /* the next cell, copied */
void ctl_table_print(struct ctl_table *t, FILE *f);         /* and frees */

#endif
