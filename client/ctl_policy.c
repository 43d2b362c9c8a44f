/* ctl_policy.c - mixctl policy and plan: why a run's mix is what it is, and what a run would draw.
 * What it means is the daemon's to say; here it is printed. */
#include "client/ctl.h"

#include "proto/limits.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Planning many steps takes a while. */
#define PLAN_TIMEOUT_MS 600000
#define TERMS_SHOWN 3u

/* A number for a table: as many digits as tell it apart. */
static const char *figure(char *buf, const mx_json *v)
{
    if (v == NULL || !mx_json_is_number(v)) {
        return "-";
    }
    (void)snprintf(buf, CTL_CHARS, "%.4g", mx_json_number(v));
    return buf;
}

static const char *text_of(const mx_json *o, const char *key)
{
    const mx_json *v = mx_json_get(o, key);

    return v != NULL && mx_json_is_string(v) ? mx_json_string(v) : "";
}

/* ---- policy --------------------------------------------------------------------------------- */

static void print_made(const mx_json *o, const mx_json *mix)
{
    const char *cause = text_of(mix, "cause");
    char a[CTL_CHARS], b[CTL_CHARS];

    (void)printf("run %s, policy %s", text_of(o, "run"), text_of(o, "policy"));
    (void)printf(", frontier step %s", ctl_member(a, o, "frontier"));
    if (strcmp(text_of(o, "apply"), "loss") == 0) {
        (void)printf(", its weights go with the batches as weights of the loss");
    }
    (void)printf("\nmix version %s, from step %s", ctl_member(a, mix, "version"),
                 ctl_member(b, mix, "from_step"));
    if (strcmp(cause, "feedback") == 0) {
        (void)printf(", by the feedback of step %s", ctl_member(a, mix, "cause_step"));
    } else if (cause[0] != '\0') {
        (void)printf(", by %s", cause);
    }
    if (text_of(mix, "author")[0] != '\0') {
        (void)printf(" (%s)", text_of(mix, "author"));
    }
    (void)printf("\nKL to the prior %s nats", figure(a, mx_json_get(mix, "kl_prior")));
    (void)printf(", as good as %s domains of equal share\n\n",
                 figure(b, mx_json_get(mix, "effective_domains")));
}

/* Heads of the table, into `heads`; the terms' names point into the answer. */
static size_t heads_of(const mx_json *mix, char names[TERMS_SHOWN][CTL_CHARS], const char **heads,
                       const mx_json **terms)
{
    static const char *const first[] = {"DOMAIN", "BEFORE>", "SHARE>", "WEIGHT>"};
    size_t n = 0, t = 0;

    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        heads[n++] = first[i];
    }
    for (const mx_json *v = mx_json_first(mx_json_get(mix, "terms")); v != NULL && t < TERMS_SHOWN;
         v = mx_json_next(v)) {
        size_t at = 0;

        for (const char *p = mx_json_key(v); *p != '\0' && at + 2 < CTL_CHARS; p++) {
            names[t][at++] = (char)(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
        }
        names[t][at++] = '>';
        names[t][at] = '\0';
        terms[t] = v;
        heads[n++] = names[t++];
    }
    heads[n++] = "MOVED MOST";
    heads[n++] = "LIMIT";
    return n;
}

static const char *or_dash(const char *text)
{
    return text[0] != '\0' ? text : "-";
}

static void print_domains(const mx_json *mix)
{
    const char *heads[6 + TERMS_SHOWN];
    char names[TERMS_SHOWN][CTL_CHARS], buf[CTL_CHARS];
    const mx_json *terms[TERMS_SHOWN];
    size_t n = heads_of(mix, names, heads, terms);
    const mx_json *list = mx_json_get(mix, "shares");
    struct ctl_table *t = ctl_table_new(heads, n);

    if (mx_json_first(list) == NULL) { /* too many: those are listed that moved most */
        list = mx_json_get(mix, "was");
    }
    for (const mx_json *v = mx_json_first(list); v != NULL; v = mx_json_next(v)) {
        const char *domain = mx_json_key(v);

        ctl_table_cell(t, domain);
        ctl_table_cell(t, ctl_share(buf, mx_json_get(mx_json_get(mix, "was"), domain)));
        ctl_table_cell(t, ctl_share(buf, mx_json_get(mx_json_get(mix, "shares"), domain)));
        ctl_table_cell(t, ctl_share(buf, mx_json_get(mx_json_get(mix, "weights"), domain)));
        for (size_t i = 0; i + 6 < n; i++) {
            ctl_table_cell(t, figure(buf, mx_json_get(terms[i], domain)));
        }
        ctl_table_cell(t, or_dash(text_of(mx_json_get(mix, "moved_most"), domain)));
        ctl_table_cell(t, or_dash(text_of(mx_json_get(mix, "bound"), domain)));
    }
    ctl_table_print(t, stdout);
}

static void print_counts(const mx_json *o)
{
    static const char *const counts[] = {"updates", "clipped", "filled", "stale", "broken"};
    const mx_json *guards = mx_json_get(o, "guards"), *steps = mx_json_get(o, "evaluate_after");
    char buf[CTL_CHARS];

    (void)printf("\nguards: ");
    for (const mx_json *v = mx_json_first(guards); v != NULL; v = mx_json_next(v)) {
        (void)printf("%s%s %s", v == mx_json_first(guards) ? "" : ", ", mx_json_key(v),
                     ctl_member(buf, guards, mx_json_key(v)));
    }
    (void)printf("\ncounts: ");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        (void)printf("%s%s %s", i > 0 ? ", " : "", counts[i],
                     ctl_member(buf, mx_json_get(o, "counts"), counts[i]));
    }
    for (const mx_json *v = mx_json_first(mx_json_get(o, "quarantined_reports")); v != NULL;
         v = mx_json_next(v)) {
        if (mx_json_number(v) > 0) {
            (void)printf(", reports with %s left out %s", mx_json_key(v),
                         ctl_count(buf, mx_json_number(v)));
        }
    }
    if (mx_json_first(steps) != NULL) {
        (void)printf("\nto be evaluated after steps:");
        for (const mx_json *v = mx_json_first(steps); v != NULL; v = mx_json_next(v)) {
            (void)printf(" %" PRIu64, (uint64_t)mx_json_number(v));
        }
    }
    (void)printf("%s\n", mx_json_true(mx_json_get(o, "working"))
                             ? "\nthe policy waits for a long computation" : "");
}

/* A row a domain, a column a shadow. */
static void print_shadows(const mx_json *mix, const mx_json *shadows)
{
    uint32_t n = mx_json_count(shadows);
    const char **heads = calloc(n + 2, sizeof *heads);
    char(*names)[MX_NAME_MAX + 2] = calloc(n + 1, sizeof *names);
    const mx_json *list = mx_json_get(mix, "shares");
    char buf[CTL_CHARS];
    struct ctl_table *t;

    if (heads == NULL || names == NULL) {
        exit(ctl_fail("out of memory"));
    }
    heads[0] = "DOMAIN";
    heads[1] = "SHARE>";
    n = 0;
    for (const mx_json *s = mx_json_first(shadows); s != NULL; s = mx_json_next(s), n++) {
        (void)snprintf(names[n], sizeof names[n], "%.*s>", MX_NAME_MAX, text_of(s, "label"));
        heads[n + 2] = names[n];
    }
    (void)printf("\nwhat the shadows would make of it:\n\n");
    t = ctl_table_new(heads, n + 2);
    for (const mx_json *v = mx_json_first(list); v != NULL; v = mx_json_next(v)) {
        ctl_table_cell(t, mx_json_key(v));
        ctl_table_cell(t, ctl_share(buf, v));
        for (const mx_json *s = mx_json_first(shadows); s != NULL; s = mx_json_next(s)) {
            ctl_table_cell(t, ctl_share(buf, mx_json_get(mx_json_get(s, "shares"),
                                                         mx_json_key(v))));
        }
    }
    ctl_table_print(t, stdout);
    free(heads);
    free(names);
}

static int policy(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    int rc;

    ctl_op(&w, "policy.show");
    mx_jsonw_string(&w, "run", c->words[0]);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        const mx_json *o = mx_json_root(d), *mix = mx_json_get(o, "mix");

        if (mx_json_is_object(mix)) {
            print_made(o, mix);
            print_domains(mix);
        } else {
            (void)printf("run %s, policy %s: there is no mix yet\n", text_of(o, "run"),
                         text_of(o, "policy"));
        }
        print_counts(o);
        if (mx_json_count(mx_json_get(o, "shadows")) > 0 && mx_json_is_object(mix)) {
            print_shadows(mix, mx_json_get(o, "shadows"));
        }
    }
    mx_json_free(d);
    return rc;
}

/* ---- plan ----------------------------------------------------------------------------------- */

static void print_plan(const mx_json *o)
{
    static const char *const heads[] = {"DOMAIN", "SHARE>", "TOKENS>", "EPOCHS>", "OF>",
                                        "SEEN ONCE>", "RUNS OUT>", "READS>"};
    struct ctl_table *t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
    const mx_json *ends = mx_json_get(o, "ends");
    char a[CTL_CHARS], b[CTL_CHARS];

    (void)printf("%s steps of run %s", ctl_member(a, o, "planned"), text_of(o, "run"));
    (void)printf(": %s tokens", ctl_member(a, o, "tokens"));
    (void)printf(", %s read from disk\n",
                 ctl_bytes(b, mx_json_number(mx_json_get(o, "read_bytes"))));
    if (mx_json_is_object(ends) && strcmp(text_of(ends, "why"), "exhausted") == 0) {
        (void)printf("it stops before step %s: domain %s has no samples left\n",
                     ctl_member(a, ends, "step"), text_of(ends, "domain"));
    } else if (mx_json_is_object(ends)) {
        (void)printf("it ends before step %s\n", ctl_member(a, ends, "step"));
    }
    if (mx_json_true(mx_json_get(o, "adapts"))) {
        (void)printf("policy %s adapts: what it learns will move this forecast\n",
                     text_of(o, "policy"));
    }
    (void)printf("\n");
    for (const mx_json *m = mx_json_first(mx_json_get(o, "domains")); m != NULL;
         m = mx_json_next(m)) {
        ctl_table_cell(t, text_of(m, "name"));
        ctl_table_cell(t, ctl_share(a, mx_json_get(m, "share_last")));
        ctl_table_cell(t, ctl_member(a, m, "tokens"));
        ctl_table_cell(t, figure(a, mx_json_get(m, "epochs")));
        ctl_table_cell(t, figure(a, mx_json_get(m, "max_epochs")));
        ctl_table_cell(t, ctl_member(a, m, "seen_once_step"));
        ctl_table_cell(t, ctl_member(a, m, "runs_out_step"));
        ctl_table_cell(t, ctl_bytes(a, mx_json_number(mx_json_get(m, "read_bytes"))));
    }
    ctl_table_print(t, stdout);
}

static int plan(struct ctl *c)
{
    const char *path = ctl_opt(c, CTL_FILE), *steps = ctl_opt(c, CTL_STEPS);
    struct mx_json_doc *d = NULL, *check;
    struct mx_jsonw w;
    struct mx_err err;
    char *text = NULL;
    uint64_t count;
    size_t n = 0;
    int rc;

    if (path == NULL || steps == NULL) {
        return ctl_usage("plan needs a run's config and how many steps: -f FILE --steps N");
    }
    if (!ctl_u64("--steps", steps, 1, MX_STEP_MAX, &count)) {
        return CTL_USAGE;
    }
    if ((rc = ctl_read_config(path, &text, &n)) != CTL_DONE) {
        return rc;
    }
    if (mx_json_parse(path, text, n, &check, &err) < 0) {
        free(text);
        return ctl_fail("%s", err.text);
    }
    if (!c->timeout_given) {
        c->timeout_ms = PLAN_TIMEOUT_MS;
    }
    ctl_op(&w, "plan");
    if (mx_json_get(mx_json_root(check), "name") == NULL) {
        mx_jsonw_string(&w, "name", "plan");
    }
    mx_json_free(check);
    mx_jsonw_string_n(&w, "config", text, n);
    mx_jsonw_u64(&w, "steps", count);
    free(text);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        print_plan(mx_json_root(d));
    }
    mx_json_free(d);
    return rc;
}

static const struct argp_option plan_options[] = {
    {"file", 'f', "FILE", 0, "The run's config, JSON; - is stdin", 0},
    {"steps", CTL_STEPS, "N", 0, "Steps to plan", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

const struct ctl_command ctl_policy_commands[] = {
    {"policy", "RUN", 1, 1, "Show what a run's policy does, and why the mix is what it is.",
     "For each domain: its share before and now, the policy's weight, the terms that the weight "
     "comes from, which of these moved most and which limit binds the share. Then the policy's "
     "guards and counts, and what the run's shadows would do.",
     "Example: mixctl policy demo", NULL, policy},
    {"plan", "", 0, 0, "Show what a run of a config would draw, from the domains there are.",
     "Plans the steps as the daemon would, without any feedback: tokens and epochs of each domain, "
     "when it has been seen once and when it runs out, and how much is read from disk. Nothing is "
     "created. Waits for 600 seconds unless --timeout says otherwise.",
     "Example: mixctl plan -f run.json --steps 100000", plan_options, plan},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
