/* ctl_ingest.c - mixctl ingest: options, progress, and the way from Ctrl-C to a clean end.
 *
 * Works on the store's directory itself, beside a daemon that serves from it; store/ingest.h does
 * the work. SIGINT and SIGTERM are blocked and looked for between documents, so that an ingest ends
 * with the store as it was. */
#include "client/ctl.h"

#include "store/ingest.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BAD_LINES_NAMED 20
#define TTY_NS 100000000ll    /* between two changes of the line on a terminal */
#define PLAIN_NS 5000000000ll /* between two lines elsewhere */

struct progress {
    const char *domain;
    bool tty, drawn; /* drawn: the cursor stands in a progress line */
    int64_t begun_ns, printed_ns;
    uint64_t bad_lines;
};

static int64_t now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- what the ingest calls ---- */

static int cancelled(void *arg)
{
    sigset_t pending;

    (void)arg;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1);
}

static void erase(struct progress *p)
{
    if (p->drawn) {
        fputs("\r\033[K", stderr);
        p->drawn = false;
    }
}

static void bad_line(void *arg, const char *file, uint64_t line, uint64_t byte, const char *what)
{
    struct progress *p = arg;

    if (++p->bad_lines <= BAD_LINES_NAMED) {
        erase(p);
        fprintf(stderr, "%s:%" PRIu64 ": byte %" PRIu64 ": %s\n", file, line, byte, what);
    }
}

static void draw(struct progress *p, const struct mx_ingest_progress *i, int64_t now)
{
    double s = (double)(now - p->begun_ns) / 1e9;
    double rate = s > 0 ? (double)i->bytes / s : 0;
    char done[CTL_CHARS], all[CTL_CHARS], documents[CTL_CHARS], left[64] = "";
    char line[256];

    if (rate > 0 && i->bytes_total > i->bytes) {
        uint64_t t = (uint64_t)((double)(i->bytes_total - i->bytes) / rate + 0.5);

        (void)snprintf(left, sizeof left, ", %" PRIu64 ":%02u:%02u left", t / 3600,
                       (unsigned)(t / 60 % 60), (unsigned)(t % 60));
    }
    (void)snprintf(line, sizeof line, "ingest %s: %s of %s (%.0f %%), %s documents, %.1f MB/s%s",
                   p->domain, ctl_bytes(done, (double)i->bytes),
                   ctl_bytes(all, (double)i->bytes_total),
                   i->bytes_total > 0 ? 100.0 * (double)i->bytes / (double)i->bytes_total : 100.0,
                   ctl_count(documents, (double)i->documents), rate / 1e6, left);
    if (p->tty) {
        struct winsize size = {0};

        erase(p);
        if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 &&
            size.ws_col < sizeof line) {
            line[size.ws_col - 1] = '\0';
        }
        fputs(line, stderr);
        p->drawn = true;
    } else {
        fprintf(stderr, "%s\n", line);
    }
}

static void progress(void *arg, const struct mx_ingest_progress *i)
{
    struct progress *p = arg;
    int64_t now = now_ns();

    if (now - p->printed_ns >= (p->tty ? TTY_NS : PLAIN_NS)) {
        draw(p, i, now);
        p->printed_ns = now;
    }
}

/* ---- options ---- */

/* "raw", "zstd" or "zstd:LEVEL". */
static bool parse_codec(const char *text, int *ret)
{
    uint64_t level;

    if (strcmp(text, "raw") == 0) {
        *ret = MX_LEVEL_RAW;
    } else if (strcmp(text, "zstd") == 0) {
        *ret = 3;
    } else if (strncmp(text, "zstd:", 5) == 0) {
        if (!ctl_u64("the level in --codec zstd:LEVEL", text + 5, 1, 22, &level)) {
            return false;
        }
        *ret = (int)level;
    } else {
        (void)ctl_usage("--codec must be raw, zstd or zstd:LEVEL, not '%.40s'", text);
        return false;
    }
    return true;
}

/* The options as given; false if one makes no sense, which is said. */
static bool parse_options(struct ctl *c, struct mx_ingest_options *o)
{
    struct mx_err err;
    uint64_t v;

    if (ctl_opt(c, CTL_FORMAT) != NULL &&
        mx_format_parse(ctl_opt(c, CTL_FORMAT), &o->format, &err) < 0) {
        (void)ctl_usage("--format: %s", err.text);
        return false;
    }
    o->text_field = ctl_opt(c, CTL_FIELD);
    o->id_field = ctl_opt(c, CTL_ID_FIELD);
    o->tokenizer = ctl_opt(c, CTL_TOKENIZER);
    if (ctl_opt(c, CTL_EOD) != NULL) {
        if (!ctl_u64("--eod", ctl_opt(c, CTL_EOD), 0, UINT32_MAX - 1, &v)) {
            return false;
        }
        o->eod = (int64_t)v;
    }
    if (ctl_opt(c, CTL_CODEC) != NULL && !parse_codec(ctl_opt(c, CTL_CODEC), &o->level)) {
        return false;
    }
    if (ctl_opt(c, CTL_DICTIONARY) != NULL) {
        if (!ctl_u64("--dictionary", ctl_opt(c, CTL_DICTIONARY), 1, 1024, &v)) {
            return false;
        }
        o->dictionary_bytes = (size_t)v << 10;
    }
    if (ctl_opt(c, CTL_SHARD_MIB) != NULL) {
        if (!ctl_u64("--shard-mib", ctl_opt(c, CTL_SHARD_MIB), 1, 1u << 20, &v)) {
            return false;
        }
        o->shard_bytes = v << 20;
    }
    if (ctl_opt(c, CTL_BAD_LIMIT) != NULL &&
        !ctl_double("--bad-limit", ctl_opt(c, CTL_BAD_LIMIT), &o->bad_limit)) {
        return false;
    }
    if (o->bad_limit > 1 || (ctl_opt(c, CTL_BAD_LIMIT) != NULL && o->bad_limit < 0)) {
        (void)ctl_usage("--bad-limit is a share of lines, from 0 to 1, not %g", o->bad_limit);
        return false;
    }
    return true;
}

/* The store's directory, malloc'ed: --data, $MIXD_DATA, or what the daemon says. */
static int find_store(struct ctl *c, char **ret)
{
    const char *env = getenv("MIXD_DATA");
    const char *dir = c->data != NULL ? c->data : env != NULL && env[0] != '\0' ? env : NULL;
    struct mx_json_doc *d = NULL;
    char *answer;
    struct mxc_error err;
    struct mx_err e;
    int rc;

    if (dir == NULL) {
        rc = ctl_connect(c);
        if (rc != CTL_DONE) {
            return rc;
        }
        if (mxc_control(c->client, "{\"op\":\"info\"}", &answer, &err) < 0) {
            return ctl_client_fail(&err);
        }
        rc = mx_json_parse("answer", answer, strlen(answer), &d, &e);
        free(answer);
        if (rc < 0 || mx_json_take_string(d, mx_json_root(d), "data", true, &dir, &e) < 0) {
            mx_json_free(d);
            return ctl_fail("the daemon doesn't say where its store is: %s", e.text);
        }
    }
    *ret = strdup(dir);
    mx_json_free(d);
    return *ret != NULL ? CTL_DONE : ctl_fail("out of memory");
}

/* ---- the command ---- */

static void print_result(const struct ctl *c, const struct mx_ingest_result *r, double s)
{
    const struct mx_ingest_progress *t = &r->total;
    char a[CTL_CHARS], b[CTL_CHARS], d[CTL_CHARS], e[CTL_CHARS];
    struct mx_jsonw w;
    char *json;

    if (!c->json) {
        (void)printf("ingested %s documents, %s tokens from %s into %s",
                     ctl_count(a, (double)t->documents), ctl_count(b, (double)t->tokens),
                     ctl_bytes(d, (double)t->bytes), r->domain.name);
        (void)printf(" (%" PRIu32 " shards, %.1f s); it has %s tokens now\n", t->shards, s,
                     ctl_count(e, (double)r->domain.tokens));
        return;
    }
    mx_jsonw_init(&w, 1u << 16);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "domain", r->domain.name);
    mx_jsonw_u64(&w, "documents", t->documents);
    mx_jsonw_u64(&w, "tokens", t->tokens);
    mx_jsonw_u64(&w, "bytes", t->bytes);
    mx_jsonw_u64(&w, "source_bytes", t->source_bytes);
    mx_jsonw_u64(&w, "lines", t->lines);
    mx_jsonw_u64(&w, "bad_lines", t->bad_lines);
    mx_jsonw_u64(&w, "shards", t->shards);
    mx_jsonw_double(&w, "seconds", s);
    mx_jsonw_u64(&w, "domain_tokens", r->domain.tokens);
    mx_jsonw_u64(&w, "domain_documents", r->domain.documents);
    mx_jsonw_u64(&w, "domain_shards", r->domain.shards);
    mx_jsonw_end_object(&w);
    json = mx_jsonw_take(&w, NULL);
    (void)puts(json != NULL ? json : "null");
    free(json);
}

static int ingest(struct ctl *c)
{
    struct progress p = {
        .domain = c->words[0], .tty = isatty(STDERR_FILENO) == 1, .begun_ns = now_ns()};
    struct mx_ingest_options o = {
        .domain = c->words[0],
        .eod = -1,
        .level = MX_LEVEL_DEFAULT,
        .bad_limit = -1,
        .cancelled = cancelled,
        .bad_line = bad_line,
        .progress = progress,
        .arg = &p,
    };
    struct mx_ingest_result r;
    struct mx_err err;
    sigset_t stop;
    char *dir;
    int rc;

    if (!parse_options(c, &o)) {
        return CTL_USAGE;
    }
    rc = find_store(c, &dir);
    if (rc != CTL_DONE) {
        return rc;
    }
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGINT);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &stop, NULL);
    p.printed_ns = p.begun_ns;
    rc = mx_ingest(dir, (const char *const *)c->words + 1, (size_t)c->n_words - 1, &o, &r, &err);
    erase(&p);
    if (p.bad_lines > BAD_LINES_NAMED) {
        fprintf(stderr, "and %" PRIu64 " malformed lines more\n", p.bad_lines - BAD_LINES_NAMED);
    }
    if (rc < 0) {
        rc = err.code == MX_ECANCELLED ? ctl_fail("interrupted: the store is as it was before")
                                       : ctl_fail("%s", err.text);
    } else {
        print_result(c, &r, (double)(now_ns() - p.begun_ns) / 1e9);
        rc = CTL_DONE;
    }
    free(dir);
    return rc;
}

static const struct argp_option ingest_options[] = {
    {"format", CTL_FORMAT, "FORMAT", 0,
     "jsonl, jsonl.zst, text, u16 or u32 (default: by the file's name)", 0},
    {"field", CTL_FIELD, "KEY", 0, "The text's key in a line of JSONL (default text)", 0},
    {"id-field", CTL_ID_FIELD, "KEY", 0, "The id's key in a line of JSONL (default id)", 0},
    {"tokenizer", CTL_TOKENIZER, "NAME", 0,
     "bytes for text; for token files the name of what made them", 0},
    {"eod", CTL_EOD, "ID", 0, "Token files: the id that ends a document", 0},
    {"codec", CTL_CODEC, "CODEC", 0, "raw, zstd or zstd:LEVEL", 0},
    {"dictionary", CTL_DICTIONARY, "KIB", 0, "Train a dictionary for a new domain", 0},
    {"shard-mib", CTL_SHARD_MIB, "N", 0, "Seal a shard at about this many MiB of tokens", 0},
    {"bad-limit", CTL_BAD_LIMIT, "SHARE", 0,
     "Fail if more than this share of lines is malformed (default 0.001)", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

const struct ctl_command ctl_ingest_commands[] = {
    {"ingest", "DOMAIN FILE...", 2, -1, "Add files of text or tokens to a domain.",
     "Works on the store's directory (--data, $MIXD_DATA, or asked from the daemon), beside a "
     "daemon that serves from it. An ingest that fails or is interrupted adds nothing.",
     "Example: mixctl ingest web part-*.jsonl.zst --field content --codec zstd:6", ingest_options,
     ingest},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
