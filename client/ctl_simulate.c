/* ctl_simulate.c - mixctl simulate: what a run would make of reports in a file, without a daemon.
 *
 * Reads reports line by line, gives them to a run in memory (simulate.h) and writes a line for
 * each.
 * docs/operations.md has the format. */
#include "client/ctl.h"
#include "client/simulate.h"

#include "daemon/explain.h"
#include "daemon/report_json.h"
#include "proto/limits.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Of one line that is written: ten thousand domains and eight shadows. */
#define OUT_LINE_MAX (64u << 20)

struct work {
    struct ctl *c;
    const char *in_path, *out_path;
    FILE *in, *out;
    struct mx_runconf conf;
    struct sim *sim;
    double *raw, *terms; /* k; MX_POLICY_TERMS_MAX * k */
    uint64_t *shares;    /* k */
    bool keep_going;
    uint64_t limit, events, mixes, errors;
};

/* ---- a line that is written ----------------------------------------------------------------- */

static void write_bad(struct mx_jsonw *w, const struct work *x, const struct sim_outcome *o)
{
    mx_jsonw_array(w, "quarantined");
    for (uint32_t i = 0; i < o->n_bad; i++) {
        const struct sim_bad *b = &o->bad[i];

        mx_jsonw_object(w, NULL);
        mx_jsonw_string(w, "part", b->part);
        if (strcmp(b->part, "eval") == 0) {
            mx_jsonw_string(w, "set", x->conf.eval_sets[b->set].name);
            mx_jsonw_string(w, "domain", x->conf.eval_sets[b->set].members[b->domain]);
        } else {
            mx_jsonw_string(w, "domain", x->conf.domains[b->domain].name);
        }
        mx_jsonw_double(w, "value", b->value);
        mx_jsonw_end_object(w);
    }
    mx_jsonw_end_array(w);
}

static void write_shadows(struct mx_jsonw *w, struct work *x)
{
    mx_jsonw_array(w, "shadows");
    for (uint32_t i = 1; i < x->conf.n_mixers; i++) {
        mx_jsonw_object(w, NULL);
        mx_jsonw_string(w, "label", x->conf.policies[i].label);
        mx_jsonw_string(w, "policy", mx_run_mixer(sim_run(x->sim), i)->policy.ops->name);
        mx_explain_numbers(w, "weights", &x->conf,
                           mx_mixer_weights(mx_run_mixer_state(sim_run(x->sim), i)));
        mx_run_would(sim_run(x->sim), i, x->shares);
        mx_explain_shares(w, "mix", &x->conf, x->shares);
        mx_jsonw_end_object(w);
    }
    mx_jsonw_end_array(w);
}

static void write_explain(struct mx_jsonw *w, struct work *x, const struct sim_outcome *o)
{
    const struct mx_mixer_conf *m = mx_run_mixer(sim_run(x->sim), 0);
    const double *state = mx_run_mixer_state(sim_run(x->sim), 0);
    const struct mx_entry *before = sim_mix_before(x->sim);
    const uint64_t *was;
    const struct mx_entry *mix = sim_mix(x->sim, &was);
    uint32_t n_terms = m->policy.ops->n_terms;
    struct mx_why y = {.conf = &x->conf, .prior = m->policy.prior, .was = o->moved ? was : NULL,
                       .shares = mix->shares, .n_shares = mix->n_shares,
                       .weights = mx_mixer_weights(state), .policy = m->policy.ops,
                       .terms = n_terms > 0 ? x->terms : NULL, .n_terms = n_terms,
                       .bound = mix->bound};

    mx_mixer_explain(state, m, x->terms);
    if (o->moved && before != NULL && before->n_terms == n_terms) {
        y.was_terms = before->terms;
    }
    mx_jsonw_object(w, "explain");
    mx_jsonw_u64(w, "version", mix->mix_version);
    mx_jsonw_u64(w, "from_step", mix->step);
    mx_jsonw_string(w, "cause", mx_cause_name(mix->cause));
    mx_explain_phase(w, &x->conf, mix->phase);
    mx_jsonw_bool(w, "moved", o->moved);
    mx_jsonw_string(w, "outcome", o->what);
    mx_explain_mix(w, &y, UINT32_MAX);
    mx_explain_counts(w, "counts", state);
    write_bad(w, x, o);
    write_shadows(w, x);
    mx_jsonw_end_object(w);
}

/* The line of an event, or of one that was refused: error says why. */
static int write_line(struct work *x, uint64_t step, bool has_step, const struct sim_outcome *o,
                      const char *error)
{
    const uint64_t *was;
    struct mx_jsonw w;
    char *line;
    size_t n;

    mx_jsonw_init(&w, OUT_LINE_MAX);
    mx_jsonw_object(&w, NULL);
    if (has_step) {
        mx_jsonw_u64(&w, "step", step);
    } else {
        mx_jsonw_null(&w, "step");
    }
    if (error != NULL) {
        mx_jsonw_string(&w, "error", error);
    } else {
        mx_mixer_raw(mx_run_mixer_state(sim_run(x->sim), 0), mx_run_mixer(sim_run(x->sim), 0),
                     x->raw);
        mx_explain_numbers(&w, "policy", &x->conf, x->raw);
        mx_explain_shares(&w, "mix", &x->conf, sim_mix(x->sim, &was)->shares);
        write_explain(&w, x, o);
    }
    mx_jsonw_end_object(&w);
    line = mx_jsonw_take(&w, &n);
    if (line == NULL) {
        return ctl_fail("out of memory");
    }
    if (fwrite(line, 1, n, x->out) != n || fputc('\n', x->out) == EOF) {
        free(line);
        return ctl_fail("%.900s: %s", x->out_path, strerror(errno));
    }
    free(line);
    return CTL_DONE;
}

/* ---- lines that are read -------------------------------------------------------------------- */

static int refuse_line(struct work *x, uint64_t number, uint64_t step, bool has_step,
                       const char *why)
{
    char text[1200];

    if (!has_step) { /* what can't be read tells its place itself */
        (void)snprintf(text, sizeof text, "%.1100s", why);
    } else {
        (void)snprintf(text, sizeof text, "%.500s:%" PRIu64 ": step %" PRIu64 ": %.500s",
                       x->in_path, number, step, why);
    }
    x->errors++;
    return x->keep_going ? write_line(x, step, has_step, NULL, text) : ctl_fail("%s", text);
}

static int take_line(struct work *x, uint64_t number, const char *text, size_t n)
{
    struct sim_outcome o = {0};
    struct mx_report report;
    struct mx_err err = {0};
    int rc;

    if (mx_report_parse(x->in_path, number, text, n, x->conf.names, &report, &err) < 0) {
        return refuse_line(x, number, 0, false, err.text);
    }
    if (sim_report(x->sim, &report.entry, &o, &err) < 0) {
        rc = refuse_line(x, number, report.entry.step, true, err.text);
    } else {
        x->mixes += o.moved;
        rc = write_line(x, report.entry.step, true, &o, NULL);
    }
    mx_report_clear(&report);
    return rc;
}

/* A line without its end, of which one byte more than is allowed is kept; false at the end. */
static bool next_line(FILE *f, char *line, size_t *ret_n)
{
    size_t n = 0;
    int ch;

    while ((ch = getc_unlocked(f)) != EOF && ch != '\n') {
        if (n <= MX_REPORT_LINE_MAX) {
            line[n++] = (char)ch;
        }
    }
    *ret_n = n;
    return ch != EOF || n > 0;
}

static bool is_blank(const char *s, size_t n)
{
    while (n > 0 && (*s == ' ' || *s == '\t' || *s == '\r')) {
        s++;
        n--;
    }
    return n == 0;
}

static int read_lines(struct work *x)
{
    char *line = malloc(MX_REPORT_LINE_MAX + 1);
    uint64_t number = 0;
    int rc = line != NULL ? CTL_DONE : ctl_fail("out of memory");
    size_t n;

    while (rc == CTL_DONE && x->events < x->limit && next_line(x->in, line, &n)) {
        number++;
        if (!is_blank(line, n)) {
            x->events++;
            rc = take_line(x, number, line, n);
        }
    }
    if (rc == CTL_DONE && ferror(x->in)) {
        rc = ctl_fail("%.900s: %s", x->in_path, strerror(errno));
    }
    free(line);
    return rc;
}

/* ---- the config ----------------------------------------------------------------------------- */

/* What a simulation does otherwise than a daemon is said once. */
static void say_differences(const struct work *x, const char *path)
{
    bool weighed = true, bounded = false;

    for (uint32_t i = 0; i < x->conf.k; i++) {
        weighed &= !isnan(x->conf.domains[i].weight);
        bounded |= x->conf.domains[i].max_epochs > 0;
    }
    if (!weighed) {
        fprintf(stderr, "mixctl: %s: the domains have no weights and their sizes aren't known "
                "here: all begin alike\n", path);
    }
    if (bounded) {
        fprintf(stderr, "mixctl: %s: no domain runs out in a simulation: max_epochs isn't looked "
                "at\n", path);
    }
}

static int parse_config(struct work *x, const char *path)
{
    struct mx_json_doc *doc;
    struct mx_err err;
    char *text = NULL;
    size_t n = 0;
    int rc = ctl_read_config(path, &text, &n);

    if (rc != CTL_DONE) {
        return rc;
    }
    if (mx_json_parse(path, text, n, &doc, &err) < 0) {
        free(text);
        return ctl_fail("%s", err.text);
    }
    if (mx_runconf_parse(path, text, n,
                         mx_json_get(mx_json_root(doc), "name") == NULL ? "simulation" : NULL,
                         &x->conf, &err) < 0) {
        rc = ctl_fail("%s", err.text);
    } else if (mx_json_get(mx_json_root(doc), "lead") == NULL) {
        x->conf.lead = 0; /* nothing has to become durable here */
    }
    mx_json_free(doc);
    free(text);
    return rc;
}

static int begin(struct work *x, const char *path)
{
    struct mx_err err;
    int rc = parse_config(x, path);
    size_t k = x->conf.k;

    if (rc != CTL_DONE) {
        return rc;
    }
    say_differences(x, path);
    x->raw = calloc(k, sizeof *x->raw);
    x->terms = calloc(k * MX_POLICY_TERMS_MAX, sizeof *x->terms);
    x->shares = calloc(k, sizeof *x->shares);
    if (x->shares == NULL || x->raw == NULL || x->terms == NULL) {
        return ctl_fail("out of memory");
    }
    x->sim = sim_new(&x->conf, &err);
    return x->sim == NULL ? ctl_fail("%s", err.text) : CTL_DONE;
}

static void end(struct work *x)
{
    sim_free(x->sim);
    mx_runconf_clear(&x->conf);
    free(x->raw);
    free(x->terms);
    free(x->shares);
    if (x->in != NULL && x->in != stdin) {
        (void)fclose(x->in);
    }
}

/* ---- the command ---------------------------------------------------------------------------- */

static int open_files(struct work *x)
{
    x->in = strcmp(x->in_path, "-") == 0 ? stdin : fopen(x->in_path, "re");
    if (x->in == NULL) {
        return ctl_fail("%.900s: %s", x->in_path, strerror(errno));
    }
    x->out = strcmp(x->out_path, "-") == 0 ? stdout : fopen(x->out_path, "we");
    return x->out == NULL ? ctl_fail("%.900s: %s", x->out_path, strerror(errno)) : CTL_DONE;
}

static void say_totals(const struct work *x)
{
    if (x->c->json) {
        (void)printf("{\"events\":%" PRIu64 ",\"mixes\":%" PRIu64 ",\"errors\":%" PRIu64 "}\n",
                     x->events, x->mixes, x->errors);
    } else {
        (void)printf("%" PRIu64 " reports made %" PRIu64 " new mixes\n", x->events, x->mixes);
    }
}

static int simulate(struct ctl *c)
{
    struct work x = {.c = c, .in_path = ctl_opt(c, CTL_FEEDBACK), .out_path = ctl_opt(c, CTL_OUT),
                     .keep_going = ctl_opt(c, CTL_KEEP_GOING) != NULL, .limit = UINT64_MAX};
    const char *path = ctl_opt(c, CTL_FILE), *limit = ctl_opt(c, CTL_LIMIT);
    int rc;

    x.out_path = x.out_path == NULL ? "-" : x.out_path;
    if (path == NULL || x.in_path == NULL) {
        return ctl_usage("simulate needs a run's config and the reports: -f FILE --feedback FILE");
    }
    if (limit != NULL && !ctl_u64("--limit", limit, 1, UINT64_MAX >> 12, &x.limit)) {
        return CTL_USAGE;
    }
    rc = begin(&x, path);
    rc = rc == CTL_DONE ? open_files(&x) : rc;
    rc = rc == CTL_DONE ? read_lines(&x) : rc;
    if (x.out != NULL && (x.out == stdout ? fflush(stdout) : fclose(x.out)) != 0 &&
        rc == CTL_DONE) {
        rc = ctl_fail("%.900s: %s", x.out_path, strerror(errno));
    }
    if (rc == CTL_DONE && x.out != stdout) {
        say_totals(&x);
    }
    if (rc == CTL_DONE && x.errors > 0) {
        rc = ctl_fail("%" PRIu64 " of %" PRIu64 " reports were refused", x.errors, x.events);
    }
    end(&x);
    return rc;
}

static const struct argp_option simulate_options[] = {
    {"file", 'f', "FILE", 0, "The run's config, JSON; - is stdin", 0},
    {"feedback", CTL_FEEDBACK, "FILE", 0, "Reports of trainers, a line of JSON each; - for stdin",
     0},
    {"out", CTL_OUT, "FILE", 0, "A line of JSON for each report; default: stdout", 0},
    {"limit", CTL_LIMIT, "N", 0, "End after so many reports", 0},
    {"keep-going", CTL_KEEP_GOING, NULL, 0, "Write what is wrong with a report and go on", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

const struct ctl_command ctl_simulate_commands[] = {
    {"simulate", "", 0, 0, "Show what a run would make of recorded reports, without a daemon.",
     "The run's config decides about policies, guards, limits, phases and lockstep as it would in "
     "a daemon; domains don't run out. A report that can't be read or is refused ends it with exit "
     "code 1, unless --keep-going.",
     "Example: mixctl simulate -f run.json --feedback events.jsonl --out mixes.jsonl",
     simulate_options, simulate},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
