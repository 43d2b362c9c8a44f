/* ctl_trace.c - mixctl step and where: which samples a step had, and which steps had a sample.
 *
 * A step's slots come in pages, which are printed one by one. */
#include "client/ctl.h"

#include "proto/limits.h"

#include <inttypes.h>
#include <string.h>

#define DOCUMENTS_SHOWN 4u

/* A document's id, or else where in its source it is. */
static void say_document(FILE *f, const mx_json *d)
{
    const char *id = mx_json_string(mx_json_get(d, "id"));
    const mx_json *line = mx_json_get(d, "line");

    if (id[0] != '\0') {
        fputs(id, f);
    } else if (line != NULL && mx_json_is_number(line)) {
        fprintf(f, "%s:%" PRIu64, mx_json_string(mx_json_get(d, "source")), ctl_number(d, "line"));
    } else {
        fprintf(f, "%s, byte %" PRIu64, mx_json_string(mx_json_get(d, "source")),
                ctl_number(d, "byte"));
    }
}

/* ---- step ---- */

/* What made a mix, in words. */
static void print_cause(const mx_json *m)
{
    const char *cause = mx_json_string(mx_json_get(m, "cause"));
    const char *author = mx_json_string(mx_json_get(m, "author"));
    const char *why = mx_json_string(mx_json_get(m, "why"));
    char time[CTL_CHARS];
    char *line = NULL;
    size_t n;
    FILE *f = open_memstream(&line, &n);

    if (f == NULL) {
        exit(ctl_fail("out of memory"));
    }
    fprintf(f, "mix version %" PRIu64 " is in force from step %" PRIu64 ", by ",
            ctl_number(m, "version"), ctl_number(m, "from_step"));
    if (strcmp(cause, "feedback") == 0) {
        fprintf(f, "the feedback of step %" PRIu64, ctl_number(m, "cause_step"));
    } else if (strcmp(cause, "create") == 0) {
        fputs("the run's config", f);
    } else {
        fputs(cause[0] != '\0' ? cause : "(unknown)", f);
    }
    if (author[0] != '\0') {
        fprintf(f, ", %s", author);
    }
    fprintf(f, ", %s", ctl_time(time, mx_json_get(m, "time_ms")));
    if (mx_json_is_number(mx_json_get(m, "entry"))) {
        fprintf(f, ", entry %" PRIu64, ctl_number(m, "entry"));
    }
    if (why[0] != '\0') {
        fprintf(f, " (%s)", why);
    }
    if (fclose(f) != 0) {
        exit(ctl_fail("out of memory"));
    }
    ctl_print_line(line);
}

static void print_header(const mx_json *o)
{
    static const char *const heads[] = {"DOMAIN", "SHARE>", "COUNT>", "CURSOR>"};
    struct ctl_table *t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
    const mx_json *m = mx_json_get(o, "mix");
    char a[CTL_CHARS], b[CTL_CHARS];

    (void)printf("step %s of run %s", ctl_member(a, o, "step"), ctl_member(b, o, "run"));
    if (mx_json_get(o, "branch") != NULL) {
        (void)printf(", branch %s", ctl_member(a, o, "branch"));
    }
    (void)printf(", mix version %s\n", ctl_member(a, o, "mix_version"));
    if (m != NULL && mx_json_is_object(m)) {
        print_cause(m);
    }
    if (mx_json_true(mx_json_get(o, "skipped"))) {
        (void)printf("it is passed over: trainers don't get it\n");
    }
    (void)printf("\n");
    for (const mx_json *s = mx_json_first(mx_json_get(o, "shares")); s != NULL;
         s = mx_json_next(s)) {
        ctl_table_cell(t, ctl_member(a, s, "domain"));
        ctl_table_cell(t, ctl_share(a, mx_json_get(s, "share")));
        ctl_table_cell(t, ctl_member(a, s, "count"));
        ctl_table_cell(t, ctl_member(a, s, "cursor"));
    }
    ctl_table_print(t, stdout);
}

/* As wide as the longest name of a domain, so that all pages have the same columns. */
static int domain_width(const mx_json *o)
{
    size_t width = strlen("DOMAIN");

    for (const mx_json *s = mx_json_first(mx_json_get(o, "shares")); s != NULL;
         s = mx_json_next(s)) {
        size_t n = strlen(mx_json_string(mx_json_get(s, "domain")));

        width = n > width ? n : width;
    }
    return (int)width;
}

static void print_slot(const mx_json *s, int width)
{
    const mx_json *documents = mx_json_get(s, "documents");
    char *line = NULL;
    uint32_t shown = 0;
    size_t n;
    FILE *f = open_memstream(&line, &n);

    if (f == NULL) {
        exit(ctl_fail("out of memory"));
    }
    fprintf(f, "%7" PRIu64 "  %-*s  %12" PRIu64 "  %5" PRIu64 "  ", ctl_number(s, "slot"), width,
            mx_json_string(mx_json_get(s, "domain")), ctl_number(s, "sample"),
            ctl_number(s, "epoch"));
    for (const mx_json *d = mx_json_first(documents); d != NULL && shown < DOCUMENTS_SHOWN;
         d = mx_json_next(d), shown++) {
        fputs(shown > 0 ? ", " : "", f);
        say_document(f, d);
    }
    if (documents != NULL && mx_json_count(documents) > shown) {
        fprintf(f, " and %" PRIu32 " more", mx_json_count(documents) - shown);
    }
    if (fclose(f) != 0) {
        exit(ctl_fail("out of memory"));
    }
    ctl_print_line(line);
}

struct slots {
    uint64_t first, count; /* what is still wanted; count 0: all the rest */
    bool some;             /* a slot has been printed */
    int width;
};

static bool is_key(const struct ctl_raw *key, const char *name)
{
    return key->n == strlen(name) + 2 && memcmp(key->p + 1, name, key->n - 2) == 0;
}

/* All members of a page but its list and where the next page begins, and the list's beginning. */
static void begin_document(const char *text, const char *list, const char *next)
{
    struct ctl_walk w;
    struct ctl_raw key, value;

    (void)printf("{");
    ctl_walk_init(&w, text);
    while (ctl_walk_next(&w, &key, &value)) {
        if (!is_key(&key, list) && !is_key(&key, next)) {
            (void)printf("%.*s:%.*s,", (int)key.n, key.p, (int)value.n, value.p);
        }
    }
    (void)printf("\"%s\":[", list);
}

/* The values of a page's list, as they are. */
static void continue_document(const struct ctl_raw *list, bool *some)
{
    struct ctl_walk w;
    struct ctl_raw key, value;

    ctl_walk_init(&w, list->p);
    while (ctl_walk_next(&w, &key, &value)) {
        (void)printf("%s%.*s", *some ? ",\n" : "", (int)value.n, value.p);
        *some = true;
    }
}

static int print_slots(const struct ctl *c, struct slots *want, const char *text,
                       const mx_json *page)
{
    struct ctl_raw list;

    if (!mx_json_is_array(mx_json_get(page, "slots")) || !ctl_raw_member(text, "slots", &list)) {
        return ctl_fail("the daemon's answer is no good: it has no list of slots");
    }
    if (c->json) {
        continue_document(&list, &want->some);
        return CTL_DONE;
    }
    for (const mx_json *s = mx_json_first(mx_json_get(page, "slots")); s != NULL;
         s = mx_json_next(s)) {
        if (!want->some) {
            (void)printf("\n%7s  %-*s  %12s  %5s  DOCUMENTS\n", "SLOT", want->width, "DOMAIN",
                         "SAMPLE", "EPOCH");
        }
        print_slot(s, want->width);
        want->some = true;
    }
    return CTL_DONE;
}

static int ask_step(struct ctl *c, uint64_t step, const struct slots *want, char **text,
                    struct mx_json_doc **ret)
{
    struct mx_jsonw w;

    ctl_op(&w, "step.show");
    mx_jsonw_string(&w, "run", c->words[0]);
    mx_jsonw_u64(&w, "step", step);
    mx_jsonw_u64(&w, "slot_first", want->first);
    if (want->count > 0) {
        mx_jsonw_u64(&w, "slot_count", want->count);
    }
    return ctl_ask_both(c, &w, text, ret);
}

/* Prints a page; *ret_more: another one is to be asked for. */
static int take_step(struct ctl *c, struct slots *want, bool first, const char *text,
                     const mx_json *page, bool *ret_more)
{
    const mx_json *next = mx_json_get(page, "next_slot");
    uint64_t at = ctl_number(page, "next_slot");
    int rc;

    if (first && c->json) {
        begin_document(text, "slots", "next_slot");
    } else if (first) {
        want->width = domain_width(page);
        print_header(page);
    }
    rc = print_slots(c, want, text, page);
    *ret_more = next != NULL && mx_json_is_number(next);
    if (rc != CTL_DONE || !*ret_more) {
        return rc;
    }
    if (at <= want->first) {
        return ctl_fail("the daemon's answer is no good: after slot %" PRIu64
                        " comes slot %" PRIu64,
                        want->first, at);
    }
    if (want->count > 0) {
        *ret_more = at - want->first < want->count;
        want->count -= *ret_more ? at - want->first : 0;
    }
    want->first = at;
    return CTL_DONE;
}

static int step_show(struct ctl *c)
{
    const char *slots = ctl_opt(c, CTL_SLOTS);
    struct slots want = {0};
    uint64_t step;
    bool more = true;
    int rc = CTL_DONE;

    if (!ctl_u64("STEP", c->words[1], 0, MX_STEP_MAX, &step) ||
        (slots != NULL && !ctl_slots(slots, &want.first, &want.count))) {
        return CTL_USAGE;
    }
    for (bool first = true; more && rc == CTL_DONE; first = false) {
        struct mx_json_doc *page;
        char *text;

        rc = ask_step(c, step, &want, &text, &page);
        if (rc == CTL_DONE) {
            rc = take_step(c, &want, first, text, mx_json_root(page), &more);
        }
        mx_json_free(page);
        free(text);
    }
    if (rc == CTL_DONE && c->json) {
        (void)printf("]}\n");
    }
    return rc;
}

/* ---- where ---- */

static void print_sample(const mx_json *s)
{
    static const char *const heads[] = {"STEP>", "SLOT>", "EPOCH>", "NOTE"};
    const mx_json *d = mx_json_get(s, "document");
    const mx_json *steps = mx_json_get(s, "steps");
    struct ctl_table *t;
    char a[CTL_CHARS];
    char *line = NULL;
    size_t n;
    FILE *f = open_memstream(&line, &n);

    if (f == NULL) {
        exit(ctl_fail("out of memory"));
    }
    fprintf(f, "domain %s, sample %" PRIu64, mx_json_string(mx_json_get(s, "domain")),
            ctl_number(s, "sample"));
    if (d != NULL && mx_json_is_object(d)) {
        fputs(", document ", f);
        say_document(f, d);
    }
    if (mx_json_first(steps) == NULL) {
        fputs(": in no step that was looked at", f);
    }
    if (fclose(f) != 0) {
        exit(ctl_fail("out of memory"));
    }
    ctl_print_line(line);
    if (mx_json_first(steps) == NULL) {
        return;
    }
    t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
    for (const mx_json *v = mx_json_first(steps); v != NULL; v = mx_json_next(v)) {
        const mx_json *planned = mx_json_get(v, "planned");
        bool ahead = planned != NULL && !mx_json_true(planned);

        ctl_table_cell(t, ctl_member(a, v, "step"));
        ctl_table_cell(t, ctl_member(a, v, "slot"));
        ctl_table_cell(t, ctl_member(a, v, "epoch"));
        ctl_table_cell(t, mx_json_true(mx_json_get(v, "skipped")) ? "passed over"
                          : ahead ? "will be, if the mix stays as it is"
                                  : "");
    }
    ctl_table_print(t, stdout);
    if (mx_json_true(mx_json_get(s, "more"))) {
        (void)printf("and more: ask with --from\n");
    }
}

/* Prints a page of samples; *ret_next: the first of the next page, 0 if it was the last. */
static int take_where(struct ctl *c, uint64_t first, const char *text, const mx_json *o,
                      uint64_t *ret_next)
{
    const mx_json *samples = mx_json_get(o, "samples");
    char a[CTL_CHARS], b[CTL_CHARS];
    bool some = first > 0;
    struct ctl_raw list;

    if (!mx_json_is_array(samples) || !ctl_raw_member(text, "samples", &list)) {
        return ctl_fail("the daemon's answer is no good: it has no list of samples");
    }
    *ret_next = mx_json_is_number(mx_json_get(o, "next_sample")) ? ctl_number(o, "next_sample") : 0;
    if (*ret_next > 0 && *ret_next <= first) {
        return ctl_fail("the daemon's answer is no good: after sample %" PRIu64 " comes %" PRIu64,
                        first, *ret_next);
    }
    if (c->json) {
        if (first == 0) {
            begin_document(text, "samples", "next_sample");
        }
        continue_document(&list, &some);
        (void)printf("%s", *ret_next > 0 ? "" : "]}\n");
        return CTL_DONE;
    }
    for (const mx_json *s = mx_json_first(samples); s != NULL; s = mx_json_next(s)) {
        print_sample(s);
        (void)printf("\n");
    }
    if (first == 0 && mx_json_first(samples) == NULL) {
        (void)printf("no sample of the run's domains holds it\n");
    }
    if (*ret_next == 0 && mx_json_get(o, "horizon") != NULL) {
        (void)printf("looked at: steps before %s; planned so far: those before %s\n",
                     ctl_member(a, o, "horizon"), ctl_member(b, o, "frontier"));
    }
    return CTL_DONE;
}

/* What is looked for; false: said why it can't be. */
static bool write_where(struct ctl *c, struct mx_jsonw *w)
{
    uint64_t v;

    if (ctl_opt(c, CTL_DOC) != NULL || ctl_opt(c, CTL_ORIGIN) != NULL) {
        if (c->n_words > 1) {
            (void)ctl_usage("either DOMAIN SAMPLE, or a document and at most its DOMAIN");
            return false;
        }
        if (!ctl_document(c, w)) {
            return false;
        }
    } else {
        if (c->n_words != 2) {
            (void)ctl_usage("where is what? DOMAIN SAMPLE, --doc ID or --origin FILE:BYTE");
            return false;
        }
        if (!ctl_u64("SAMPLE", c->words[1], 0, MX_SAMPLES_MAX, &v)) {
            return false;
        }
        mx_jsonw_u64(w, "sample", v);
    }
    if (c->n_words > 0) {
        mx_jsonw_string(w, "domain", c->words[0]);
    }
    if (ctl_opt(c, CTL_RUN) == NULL) {
        (void)ctl_usage("in which run? --run RUN");
        return false;
    }
    mx_jsonw_string(w, "run", ctl_opt(c, CTL_RUN));
    if (ctl_opt(c, CTL_FROM) != NULL) {
        if (!ctl_step(c, CTL_FROM, "--from", &v)) {
            return false;
        }
        mx_jsonw_u64(w, "from", v);
    }
    if (ctl_opt(c, CTL_TO) != NULL) {
        if (!ctl_step(c, CTL_TO, "--to", &v)) {
            return false;
        }
        mx_jsonw_u64(w, "to", v);
    }
    return true;
}

static int where(struct ctl *c)
{
    uint64_t first = 0, next = 0;
    int rc;

    do {
        struct mx_json_doc *d = NULL;
        char *text = NULL;
        struct mx_jsonw w;

        ctl_op(&w, "where");
        if (!write_where(c, &w)) {
            mx_jsonw_fini(&w);
            return CTL_USAGE;
        }
        if (next > 0) {
            mx_jsonw_u64(&w, "sample_first", next);
        }
        first = next;
        rc = ctl_ask_both(c, &w, &text, &d);
        if (rc == CTL_DONE) {
            rc = take_where(c, first, text, mx_json_root(d), &next);
        }
        mx_json_free(d);
        free(text);
    } while (rc == CTL_DONE && next > 0);
    return rc;
}

static const struct argp_option step_options[] = {
    {"slots", CTL_SLOTS, "FIRST:COUNT", 0, "These slots of it (default: all)", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};
static const struct argp_option where_options[] = {
    {"run", CTL_RUN, "RUN", 0, "The run whose steps are looked at", 0},
    {"doc", CTL_DOC, "ID", 0, "The document with this id, as its source gave it", 0},
    {"origin", CTL_ORIGIN, "FILE:BYTE", 0, "The document that holds this byte of a source file", 0},
    {"from", CTL_FROM, "S", 0, "Steps from this one on", 0},
    {"to", CTL_TO, "S", 0, "Steps up to this one, without it", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

const struct ctl_command ctl_trace_commands[] = {
    {"step", "RUN STEP", 2, 2, "Show what is in a step, and why it was that mix.",
     "Each slot's sample is named with the documents in it, by their ids or as file:line. Nothing "
     "is planned by this.",
     "Example: mixctl step demo 1200 --slots 0:8", step_options, step_show},
    {"where", "[DOMAIN [SAMPLE]]", 0, 2, "Show which steps of a run a sample or document is in.",
     "One of: DOMAIN SAMPLE; --doc ID with or without DOMAIN; --origin FILE:BYTE with or without "
     "DOMAIN. Steps that aren't planned yet are told as they would be under the mix in force.",
     "Example: mixctl where web --doc 3f2a --run demo", where_options, where},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
