/* ctl_log.c - mixctl log: a run's journal, entry by entry.
 *
 * The daemon gives it in pages; each is printed and forgotten before the next is asked for, so that
 * a journal of any length fits. What an entry means is said here in words; --json passes entries on
 * as they came. */
#include "client/ctl.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define SHARES_SHOWN 8u
#define WAIT_MAX_MS 10000

static const char *const kinds[] = {"create",   "reserve", "feedback",  "close", "mix",
                                    "set",      "stop",    "exhausted", "skip",  "adopt",
                                    "withdraw", "rewind",  "fork",      "fit",   "shadow"};

struct wanted {
    uint64_t from, to; /* entries from..to-1 */
    bool from_given;   /* else from the first that is kept */
    bool follow;
    uint64_t printed; /* entries */
};

/* ---- an entry in words ---- */

/* The members of an object of numbers: "web 0.7000, code 0.3000". */
static void say_shares(FILE *f, const mx_json *shares)
{
    char buf[CTL_CHARS];
    uint32_t n = 0;

    for (const mx_json *v = mx_json_first(shares); v != NULL; v = mx_json_next(v), n++) {
        if (n < SHARES_SHOWN) {
            fprintf(f, "%s%s %s", n > 0 ? ", " : ": ", mx_json_key(v), ctl_share(buf, v));
        }
    }
    if (n > SHARES_SHOWN) {
        fprintf(f, " and %" PRIu32 " more", n - SHARES_SHOWN);
    }
}

/* The domain whose share moved most, with the term that moved it, and all that limits bind. */
static void say_why(FILE *f, const mx_json *e)
{
    const mx_json *was = mx_json_get(e, "was"), *shares = mx_json_get(e, "shares");
    const mx_json *bound = mx_json_get(e, "bound"), *most = NULL;
    uint32_t n = 0;
    double by = 0;

    for (const mx_json *v = mx_json_first(was); v != NULL; v = mx_json_next(v)) {
        const mx_json *now = mx_json_get(shares, mx_json_key(v));
        double d = now != NULL ? fabs(mx_json_number(now) - mx_json_number(v)) : 0;

        if (d > by) {
            by = d;
            most = v;
        }
    }
    if (most != NULL) {
        const char *term = mx_json_string(mx_json_get(mx_json_get(e, "moved_most"),
                                                      mx_json_key(most)));

        fprintf(f, "; most moved %s, from %.4f", mx_json_key(most), mx_json_number(most));
        fprintf(f, term[0] != '\0' ? " (%s)" : "%s", term);
    }
    for (const mx_json *v = mx_json_first(bound); v != NULL && n < SHARES_SHOWN;
         v = mx_json_next(v), n++) {
        fprintf(f, "%s%s at its %s", n == 0 ? "; " : ", ", mx_json_key(v), mx_json_string(v));
    }
}

static void say_mix(FILE *f, const mx_json *e)
{
    const char *cause = mx_json_string(mx_json_get(e, "cause"));

    fprintf(f, "mix version %" PRIu64, ctl_number(e, "mix_version"));
    if (strcmp(cause, "feedback") == 0) {
        fprintf(f, ", by the feedback of step %" PRIu64, ctl_number(e, "cause_step"));
    } else if (cause[0] != '\0') {
        fprintf(f, ", by %s", cause);
    }
    if (strcmp(cause, "phase") == 0) {
        fprintf(f, " %s", mx_json_string(mx_json_get(e, "phase_name")));
    }
    say_shares(f, mx_json_get(e, "shares"));
    say_why(f, e);
}

/* The mixes that shadows would have made. */
static void say_shadows(FILE *f, const mx_json *e)
{
    const mx_json *first = mx_json_first(mx_json_get(e, "shadows"));

    for (const mx_json *s = first; s != NULL; s = mx_json_next(s)) {
        fprintf(f, "%s%s would", s != first ? "; " : "", mx_json_string(mx_json_get(s, "label")));
        say_shares(f, mx_json_get(s, "shares"));
    }
}

/* Mean losses in nats, domain by domain. */
static void say_feedback(FILE *f, const mx_json *e)
{
    const mx_json *flags = mx_json_get(e, "flags");
    uint32_t n = 0;

    fprintf(f, "rank %" PRIu64 " of %" PRIu64 ", mix version %" PRIu64, ctl_number(e, "rank"),
            ctl_number(e, "world"), ctl_number(e, "mix_version"));
    for (const mx_json *l = mx_json_first(mx_json_get(e, "losses")); l != NULL;
         l = mx_json_next(l), n++) {
        double tokens = mx_json_number(mx_json_get(l, "tokens"));
        double sum = mx_json_number(mx_json_get(l, "loss_sum"));

        if (n < SHARES_SHOWN) {
            fprintf(f, "%s%s %.4f", n > 0 ? ", " : ": loss ",
                    mx_json_string(mx_json_get(l, "domain")), tokens > 0 ? sum / tokens : 0);
        }
    }
    if (n > SHARES_SHOWN) {
        fprintf(f, " and %" PRIu32 " more", n - SHARES_SHOWN);
    }
    if (mx_json_number(flags) > 0) {
        fprintf(f, ", flags %g", mx_json_number(flags));
    }
    for (const mx_json *v = mx_json_first(flags); v != NULL; v = mx_json_next(v)) {
        fprintf(f, ", %s", mx_json_string(v));
    }
}

/* How many: a number, or the length of a list. */
static uint64_t count_of(const mx_json *e, const char *key)
{
    const mx_json *v = mx_json_get(e, key);

    return v != NULL && mx_json_is_array(v) ? mx_json_count(v) : ctl_number(e, key);
}

static void say_domain(FILE *f, const char *kind, const mx_json *e)
{
    fprintf(f, "domain %s: ", mx_json_string(mx_json_get(e, "domain")));
    if (strcmp(kind, "exhausted") == 0) {
        fputs(mx_json_true(mx_json_get(e, "ends")) ? "no samples left, the run ends here"
                                                   : "no samples left, the others take its share",
              f);
    } else if (strcmp(kind, "adopt") == 0) {
        fprintf(f, "%" PRIu64 " samples in %" PRIu64 " shards, %s", count_of(e, "samples"),
                count_of(e, "shards"),
                mx_json_true(mx_json_get(e, "now")) ? "at once" : "from its next epoch on");
    } else {
        fprintf(f, "%" PRIu64 " documents, %" PRIu64 " samples", count_of(e, "documents"),
                count_of(e, "samples"));
    }
}

static void say_what(FILE *f, const char *kind, const mx_json *e)
{
    const uint64_t step = ctl_number(e, "step");

    if (strcmp(kind, "create") == 0 || strcmp(kind, "mix") == 0 || strcmp(kind, "set") == 0) {
        say_mix(f, e);
    } else if (strcmp(kind, "fit") == 0) {
        fprintf(f, "policy %s has fitted %" PRIu64 " numbers",
                mx_json_string(mx_json_get(e, "policy")), ctl_number(e, "values"));
    } else if (strcmp(kind, "shadow") == 0) {
        say_shadows(f, e);
    } else if (strcmp(kind, "reserve") == 0) {
        fprintf(f, "steps up to %" PRIu64 " may be served", ctl_number(e, "upto"));
    } else if (strcmp(kind, "feedback") == 0) {
        say_feedback(f, e);
    } else if (strcmp(kind, "close") == 0) {
        fprintf(f, "step %" PRIu64 " waits for no more reports", step);
    } else if (strcmp(kind, "stop") == 0) {
        fprintf(f, "the run ends here");
    } else if (strcmp(kind, "skip") == 0) {
        fprintf(f, "passed over, up to step %" PRIu64, ctl_number(e, "to"));
    } else if (strcmp(kind, "rewind") == 0) {
        fprintf(f, "back to step %" PRIu64 ": branch %" PRIu64 ", mix version %" PRIu64, step,
                ctl_number(e, "branch"), ctl_number(e, "mix_version"));
    } else if (strcmp(kind, "fork") == 0) {
        fprintf(f, "from run %s at its step %" PRIu64, mx_json_string(mx_json_get(e, "source")),
                ctl_number(e, "source_step"));
    } else if (mx_json_get(e, "domain") != NULL) {
        say_domain(f, kind, e);
    }
}

static int print_entry(const mx_json *e)
{
    const char *kind = mx_json_string(mx_json_get(e, "kind"));
    const char *author = mx_json_string(mx_json_get(e, "author"));
    const char *why = mx_json_string(mx_json_get(e, "why"));
    char time[CTL_CHARS];
    char *line = NULL;
    size_t n;
    FILE *f = open_memstream(&line, &n);

    if (f == NULL) {
        return ctl_fail("out of memory");
    }
    fprintf(f, "%8" PRIu64 "  %s  %-9s  step %-9" PRIu64 "  %-20s  ", ctl_number(e, "index"),
            ctl_time(time, mx_json_get(e, "time_ms")), kind, ctl_number(e, "step"),
            author[0] != '\0' ? author : "-");
    say_what(f, kind, e);
    if (why[0] != '\0') {
        fprintf(f, " (%s)", why);
    }
    if (fclose(f) != 0) {
        free(line);
        return ctl_fail("out of memory");
    }
    ctl_print_line(line);
    return CTL_DONE;
}

/* ---- pages ---- */

static bool kind_wanted(const struct ctl *c, const mx_json *e)
{
    for (unsigned i = 0; i < c->n_kinds; i++) {
        if (strcmp(c->kinds[i], mx_json_string(mx_json_get(e, "kind"))) == 0) {
            return true;
        }
    }
    return c->n_kinds == 0;
}

/* Prints a page's entries that are wanted, and moves `from` past the last one of them. */
static int print_entries(const struct ctl *c, struct wanted *want, const char *text,
                         const mx_json *page)
{
    struct ctl_raw key, value, list;
    struct ctl_walk walk;
    int rc = CTL_DONE;

    if (!mx_json_is_array(mx_json_get(page, "entries")) ||
        !ctl_raw_member(text, "entries", &list)) {
        return ctl_fail("the daemon's answer is no good: it has no list of entries");
    }
    ctl_walk_init(&walk, list.p);
    for (const mx_json *e = mx_json_first(mx_json_get(page, "entries"));
         e != NULL && rc == CTL_DONE && ctl_walk_next(&walk, &key, &value); e = mx_json_next(e)) {
        uint64_t index = ctl_number(e, "index");

        if (index >= want->to) {
            want->from = want->to;
            break;
        }
        want->from = index + 1;
        if (!kind_wanted(c, e)) {
            continue;
        }
        if (c->json) {
            (void)printf("%s%.*s", want->printed > 0 ? ",\n" : "", (int)value.n, value.p);
        } else {
            rc = print_entry(e);
        }
        want->printed++;
    }
    return rc;
}

static int ask_page(struct ctl *c, const struct wanted *want, char **text, struct mx_json_doc **ret)
{
    struct mx_jsonw w;

    ctl_op(&w, "run.log");
    mx_jsonw_string(&w, "run", c->words[0]);
    if (want->from_given) {
        mx_jsonw_u64(&w, "from", want->from);
        if (want->to != UINT64_MAX) {
            mx_jsonw_u64(&w, "limit", want->to - want->from);
        }
    }
    if (want->follow) {
        int64_t wait = c->timeout_ms / 2;

        mx_jsonw_u64(&w, "wait_ms", (uint64_t)(wait < WAIT_MAX_MS ? wait : WAIT_MAX_MS));
    }
    return ctl_ask_both(c, &w, text, ret);
}

/* {"run", "first", "last" as the daemon says them, and the beginning of the entries. */
static void begin_document(const char *text)
{
    static const char *const keys[] = {"run", "first", "last"};
    struct ctl_raw v;

    (void)printf("{");
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (ctl_raw_member(text, keys[i], &v)) {
            (void)printf("\"%s\":%.*s,", keys[i], (int)v.n, v.p);
        }
    }
    (void)printf("\"entries\":[");
}

/* Prints a page. *ret_more: there is another one to ask for. */
static int take_page(struct ctl *c, struct wanted *want, bool first, const char *text,
                     const mx_json *page, bool *ret_more)
{
    const mx_json *last = mx_json_get(page, "last");
    const mx_json *next = mx_json_get(page, "next");
    uint64_t before = want->from_given ? want->from : 0;
    int rc;

    /* What comes in while it is being printed isn't in it: a log that grows has an end too. */
    if (first && !want->follow && mx_json_is_number(last) && want->to > ctl_number(page, "last")) {
        want->to = ctl_number(page, "last") + 1;
    }
    if (first && c->json) {
        begin_document(text);
    }
    rc = print_entries(c, want, text, page);
    if (rc != CTL_DONE) {
        return rc;
    }
    if (next != NULL && mx_json_is_number(next)) {
        if (ctl_number(page, "next") <= before) {
            return ctl_fail("the daemon's answer is no good: after entry %" PRIu64
                            " comes entry %" PRIu64,
                            before, ctl_number(page, "next"));
        }
        want->from = ctl_number(page, "next");
        want->from_given = true;
        *ret_more = want->from < want->to;
        return CTL_DONE;
    }
    if (want->follow && !want->from_given && mx_json_first(mx_json_get(page, "entries")) == NULL) {
        want->from = mx_json_is_number(last) ? ctl_number(page, "last") + 1 : 0;
    }
    want->from_given = true;
    *ret_more = want->follow && want->from < want->to;
    return CTL_DONE;
}

static bool parse_wanted(const struct ctl *c, struct wanted *ret)
{
    const char *from = ctl_opt(c, CTL_FROM);
    const char *to = ctl_opt(c, CTL_TO);

    *ret = (struct wanted){
        .to = UINT64_MAX, .from_given = from != NULL, .follow = ctl_opt(c, CTL_FOLLOW) != NULL};
    if ((from != NULL && !ctl_u64("--from", from, 0, UINT64_MAX >> 12, &ret->from)) ||
        (to != NULL && !ctl_u64("--to", to, ret->from + 1, UINT64_MAX >> 12, &ret->to))) {
        return false;
    }
    for (unsigned i = 0; i < c->n_kinds; i++) {
        size_t k = 0;

        while (k < sizeof kinds / sizeof kinds[0] && strcmp(kinds[k], c->kinds[i]) != 0) {
            k++;
        }
        if (k == sizeof kinds / sizeof kinds[0]) {
            (void)ctl_usage("there is no kind of entry '%.40s' (mixctl help log)", c->kinds[i]);
            return false;
        }
    }
    if (ret->follow && c->json) {
        (void)ctl_usage("--follow has no end, so it can't be one JSON document");
        return false;
    }
    return true;
}

static int log_run(struct ctl *c)
{
    struct wanted want;
    bool more = true;
    int rc = CTL_DONE;

    if (!parse_wanted(c, &want)) {
        return CTL_USAGE;
    }
    for (bool first = true; more && rc == CTL_DONE; first = false) {
        struct mx_json_doc *page;
        char *text;

        rc = ask_page(c, &want, &text, &page);
        if (rc == CTL_DONE) {
            rc = take_page(c, &want, first, text, mx_json_root(page), &more);
        }
        if (want.follow && fflush(stdout) != 0) {
            rc = ctl_fail("the output can't be written");
        }
        mx_json_free(page);
        free(text);
    }
    if (rc == CTL_DONE && c->json) {
        (void)printf("]}\n");
    }
    return rc;
}

static const struct argp_option log_options[] = {
    {"from", CTL_FROM, "INDEX", 0, "From this entry on (default: the first that is kept)", 0},
    {"to", CTL_TO, "INDEX", 0, "Up to this entry, without it", 0},
    {"kind", CTL_KIND, "KIND", 0, "Entries of this kind; may be given several times", 0},
    {"follow", CTL_FOLLOW, NULL, 0, "Then print what comes in, until it is interrupted", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

const struct ctl_command ctl_log_commands[] = {
    {"log", "RUN", 1, 1, "Show what has changed a run, and who, when and why.",
     "A line is an entry of the run's journal: its index, the local time, its kind, the step from "
     "which it has effect, the author, what it says and why. Kinds: create, reserve, feedback, "
     "close, mix, set, stop, exhausted, skip, adopt, withdraw, rewind, fork, fit, "
     "shadow.",
     "Example: mixctl log demo --kind set --kind skip --kind rewind", log_options, log_run},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
