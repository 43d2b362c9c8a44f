/* ctl_domain.c - mixctl domain: the domains of a store, by way of a daemon or of the catalog
 * itself.
 *
 * With --data the catalog is read directly, beside a daemon or without one, and what is printed is
 * the same. */
#include "client/ctl.h"

#include "store/catalog.h"

#include <inttypes.h>
#include <string.h>

#define JSON_MAX (64u << 20)

/* ---- printing ---- */

static void print_list(const mx_json *domains)
{
    static const char *const heads[] = {"DOMAIN",  "TOKENS>", "DOCUMENTS>", "SIZE>", "SOURCE>",
                                        "SHARDS>", "WIDTH>",  "TOKENIZER",  "CODEC"};
    struct ctl_table *t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
    char buf[CTL_CHARS];

    for (const mx_json *d = mx_json_first(domains); d != NULL; d = mx_json_next(d)) {
        ctl_table_cell(t, ctl_member(buf, d, "name"));
        ctl_table_cell(t, ctl_member(buf, d, "tokens"));
        ctl_table_cell(t, ctl_member(buf, d, "documents"));
        ctl_table_cell(t, ctl_bytes(buf, mx_json_number(mx_json_get(d, "bytes"))));
        ctl_table_cell(t, ctl_bytes(buf, mx_json_number(mx_json_get(d, "source_bytes"))));
        ctl_table_cell(t, ctl_member(buf, d, "shards"));
        ctl_table_cell(t, ctl_member(buf, d, "width"));
        ctl_table_cell(t, ctl_member(buf, d, "tokenizer"));
        ctl_table_cell(t, ctl_member(buf, d, "codec"));
    }
    ctl_table_print(t, stdout);
}

static void print_one(const mx_json *d)
{
    static const char *const heads[] = {"SHARD", "TOKENS>", "DOCUMENTS>", "SIZE>", "BLOCKS>"};
    struct ctl_table *t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
    const mx_json *runs = mx_json_get(d, "runs");
    char a[CTL_CHARS], b[CTL_CHARS];

    (void)printf("domain     %s (id %s)\n", ctl_member(a, d, "name"), ctl_member(b, d, "id"));
    (void)printf("tokens     %s of %s bytes, %s\n", ctl_member(a, d, "tokens"),
                 ctl_member(b, d, "width"), mx_json_string(mx_json_get(d, "tokenizer")));
    (void)printf("documents  %s\n", ctl_member(a, d, "documents"));
    (void)printf("size       %s (%s)", ctl_bytes(a, mx_json_number(mx_json_get(d, "bytes"))),
                 mx_json_string(mx_json_get(d, "codec")));
    (void)printf(", from %s\n", ctl_bytes(a, mx_json_number(mx_json_get(d, "source_bytes"))));
    if (runs != NULL) {
        (void)printf("runs      ");
        for (const mx_json *r = mx_json_first(runs); r != NULL; r = mx_json_next(r)) {
            (void)printf(" %s", mx_json_string(r));
        }
        (void)printf("%s\n", mx_json_count(runs) == 0 ? " none" : "");
    }
    for (const mx_json *s = mx_json_first(mx_json_get(d, "shard_list")); s != NULL;
         s = mx_json_next(s)) {
        ctl_table_cell(t, ctl_member(a, s, "id"));
        ctl_table_cell(t, ctl_member(a, s, "tokens"));
        ctl_table_cell(t, ctl_member(a, s, "documents"));
        ctl_table_cell(t, ctl_bytes(a, mx_json_number(mx_json_get(s, "bytes"))));
        ctl_table_cell(t, ctl_member(a, s, "blocks"));
    }
    (void)printf("\n");
    ctl_table_print(t, stdout);
}

/* ---- straight from the catalog ---- */

static bool direct(const struct ctl *c)
{
    return c->data != NULL && !c->url_given;
}

static void write_domain(struct mx_jsonw *w, const struct mx_domain *d)
{
    char codec[32] = "raw";

    if (d->level != MX_LEVEL_RAW) {
        (void)snprintf(codec, sizeof codec, "zstd:%" PRId32, d->level);
    }
    mx_jsonw_string(w, "name", d->name);
    mx_jsonw_u64(w, "id", d->id);
    mx_jsonw_u64(w, "tokens", d->tokens);
    mx_jsonw_u64(w, "documents", d->documents);
    mx_jsonw_u64(w, "bytes", d->bytes);
    mx_jsonw_u64(w, "source_bytes", d->source_bytes);
    mx_jsonw_u64(w, "shards", d->shards);
    mx_jsonw_u64(w, "width", d->width);
    mx_jsonw_string(w, "tokenizer", d->tokenizer);
    mx_jsonw_string(w, "codec", codec);
}

static int add_domain(void *arg, const struct mx_domain *d)
{
    mx_jsonw_object(arg, NULL);
    write_domain(arg, d);
    mx_jsonw_end_object(arg);
    return 0;
}

static int write_list(struct mx_catalog *cat, struct mx_jsonw *w, struct mx_err *err)
{
    int rc;

    mx_jsonw_array(w, "domains");
    rc = mx_catalog_domains(cat, add_domain, w, err);
    mx_jsonw_end_array(w);
    return rc;
}

struct users {
    struct mx_jsonw *w;
    uint32_t domain;
};

static int add_run(void *arg, const struct mx_run_record *r)
{
    struct users *u = arg;

    for (uint32_t i = 0; i < r->k; i++) {
        if (r->domains[i].id == u->domain) {
            mx_jsonw_string(u->w, NULL, r->name);
            break;
        }
    }
    return 0;
}

static int write_one(struct mx_catalog *cat, const char *name, struct mx_jsonw *w,
                     struct mx_err *err)
{
    struct mx_domain d;
    struct mx_shard_info s;
    int rc = mx_catalog_domain(cat, name, &d, err);

    if (rc < 0) {
        return rc;
    }
    write_domain(w, &d);
    mx_jsonw_array(w, "shard_list");
    for (uint32_t i = 0; i < d.shards; i++) {
        char id[24];

        rc = mx_catalog_shards(cat, d.id, i, 1, &s, err);
        if (rc < 0) {
            return rc;
        }
        (void)snprintf(id, sizeof id, "%016" PRIx64, s.id);
        mx_jsonw_object(w, NULL);
        mx_jsonw_string(w, "id", id);
        mx_jsonw_u64(w, "tokens", s.tokens);
        mx_jsonw_u64(w, "documents", s.documents);
        mx_jsonw_u64(w, "bytes", s.bytes);
        mx_jsonw_u64(w, "blocks", s.blocks);
        mx_jsonw_end_object(w);
    }
    mx_jsonw_end_array(w);
    mx_jsonw_array(w, "runs");
    rc = mx_catalog_runs(cat, add_run, &(struct users){w, d.id}, err);
    mx_jsonw_end_array(w);
    return rc;
}

/* The list, or the domain `name`, as the daemon would say it. */
static int read_catalog(struct ctl *c, const char *name, struct mx_json_doc **ret)
{
    struct mx_catalog *cat;
    struct mx_jsonw w;
    struct mx_err err;
    char *json;
    int rc = mx_catalog_open(c->data, false, &cat, &err);

    if (rc < 0) {
        return ctl_fail("%s", err.text);
    }
    mx_jsonw_init(&w, JSON_MAX);
    mx_jsonw_object(&w, NULL);
    rc = name == NULL ? write_list(cat, &w, &err) : write_one(cat, name, &w, &err);
    mx_catalog_close(cat);
    if (rc < 0) {
        mx_jsonw_fini(&w);
        return ctl_fail("%s", err.text);
    }
    mx_jsonw_end_object(&w);
    json = mx_jsonw_take(&w, NULL);
    return json != NULL ? ctl_answer(c, json, ret) : ctl_fail("out of memory");
}

/* ---- commands ---- */

static int domain_ls(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    int rc;

    if (direct(c)) {
        rc = read_catalog(c, NULL, &d);
    } else {
        ctl_op(&w, "domain.ls");
        rc = ctl_ask(c, &w, &d);
    }
    if (rc == CTL_DONE && d != NULL) {
        print_list(mx_json_get(mx_json_root(d), "domains"));
    }
    mx_json_free(d);
    return rc;
}

static int domain_show(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    int rc;

    if (direct(c)) {
        rc = read_catalog(c, c->words[0], &d);
    } else {
        ctl_op(&w, "domain.show");
        mx_jsonw_string(&w, "name", c->words[0]);
        rc = ctl_ask(c, &w, &d);
    }
    if (rc == CTL_DONE && d != NULL) {
        print_one(mx_json_root(d));
    }
    mx_json_free(d);
    return rc;
}

static int domain_rm(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    int rc;

    ctl_op(&w, "domain.rm");
    mx_jsonw_string(&w, "name", c->words[0]);
    ctl_author(c, &w);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        (void)printf("removed domain %s\n", c->words[0]);
    }
    mx_json_free(d);
    return rc;
}

static int domain_adopt(struct ctl *c)
{
    static const char *const heads[] = {"RUN", "FROM_STEP>", "WHEN", "SAMPLES_BEFORE>", "SAMPLES>"};
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    struct ctl_table *t;
    char buf[CTL_CHARS];
    int rc;

    ctl_op(&w, "domain.adopt");
    mx_jsonw_string(&w, "name", c->words[0]);
    if (ctl_opt(c, CTL_RUN) != NULL) {
        mx_jsonw_string(&w, "run", ctl_opt(c, CTL_RUN));
    }
    mx_jsonw_bool(&w, "now", ctl_opt(c, CTL_NOW) != NULL);
    ctl_author(c, &w);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        const mx_json *r = mx_json_first(mx_json_get(mx_json_root(d), "runs"));

        if (r == NULL) {
            (void)printf("no run takes anything of domain %s that it hasn't yet\n", c->words[0]);
        } else {
            t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
            for (; r != NULL; r = mx_json_next(r)) {
                bool epoch = mx_json_true(mx_json_get(r, "epoch_boundary"));

                ctl_table_cell(t, ctl_member(buf, r, "run"));
                ctl_table_cell(t, ctl_member(buf, r, "step"));
                ctl_table_cell(t, epoch ? "next epoch" : "at once");
                ctl_table_cell(t, ctl_member(buf, r, "samples_before"));
                ctl_table_cell(t, ctl_member(buf, r, "samples"));
            }
            ctl_table_print(t, stdout);
        }
    }
    mx_json_free(d);
    return rc;
}

static void print_withdrawn(const mx_json *o)
{
    static const char *const doc_heads[] = {"DOCUMENT", "SOURCE", "LINE>", "BYTE>", "TOKENS>"};
    static const char *const doc_keys[] = {"id", "source", "line", "byte", "tokens"};
    static const char *const run_heads[] = {"RUN", "FROM_STEP>", "SAMPLES>"};
    static const char *const run_keys[] = {"run", "from_step", "samples"};
    struct ctl_table *t = ctl_table_new(doc_heads, sizeof doc_heads / sizeof doc_heads[0]);
    const mx_json *v;
    char buf[CTL_CHARS];

    for (v = mx_json_first(mx_json_get(o, "documents")); v != NULL; v = mx_json_next(v)) {
        for (size_t i = 0; i < sizeof doc_keys / sizeof doc_keys[0]; i++) {
            ctl_table_cell(t, ctl_member(buf, v, doc_keys[i]));
        }
    }
    (void)printf("%s from domain %s:\n\n",
                 mx_json_true(mx_json_get(o, "dry_run")) ? "would be withdrawn" : "withdrawn",
                 mx_json_string(mx_json_get(o, "domain")));
    ctl_table_print(t, stdout);
    (void)printf("\n");
    v = mx_json_first(mx_json_get(o, "runs"));
    if (v == NULL) {
        (void)printf("no run has it\n");
        return;
    }
    t = ctl_table_new(run_heads, sizeof run_heads / sizeof run_heads[0]);
    for (; v != NULL; v = mx_json_next(v)) {
        for (size_t i = 0; i < sizeof run_keys / sizeof run_keys[0]; i++) {
            ctl_table_cell(t, ctl_member(buf, v, run_keys[i]));
        }
    }
    ctl_table_print(t, stdout);
}

static int domain_withdraw(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    int rc;

    if (!ctl_need_why(c)) {
        return CTL_USAGE;
    }
    ctl_op(&w, "domain.withdraw");
    mx_jsonw_string(&w, "name", c->words[0]);
    if (!ctl_document(c, &w)) {
        mx_jsonw_fini(&w);
        return CTL_USAGE;
    }
    mx_jsonw_bool(&w, "dry_run", ctl_opt(c, CTL_DRY_RUN) != NULL);
    ctl_author(c, &w);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        print_withdrawn(mx_json_root(d));
    }
    mx_json_free(d);
    return rc;
}

static const struct argp_option adopt_options[] = {
    {"run", CTL_RUN, "RUN", 0, "This run alone (default: all runs that use the domain)", 0},
    {"now", CTL_NOW, NULL, 0, "Don't wait for the domain's next epoch", 0},
    {"why", CTL_WHY, "TEXT", 0, "The reason, kept in the runs' logs", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};
static const struct argp_option withdraw_options[] = {
    {"doc", CTL_DOC, "ID", 0, "The document with this id, as its source gave it", 0},
    {"origin", CTL_ORIGIN, "FILE:BYTE", 0, "The document that holds this byte of a source file", 0},
    {"dry-run", CTL_DRY_RUN, NULL, 0, "Only show what it would do", 0},
    {"why", CTL_WHY, "TEXT", 0, "The reason, kept in the runs' logs", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

const struct ctl_command ctl_domain_commands[] = {
    {"domain ls", "", 0, 0, "List the domains of the store.",
     "With --data the store is read without a daemon.",
     "Example: mixctl --data /srv/mixd domain ls", NULL, domain_ls},
    {"domain show", "NAME", 1, 1, "Show one domain, its shards and the runs that use it.",
     "With --data the store is read without a daemon.", "Example: mixctl domain show web", NULL,
     domain_show},
    {"domain rm", "NAME", 1, 1, "Remove a domain that no run uses, with its shards.", "",
     "Example: mixctl domain rm scratch", NULL, domain_rm},
    {"domain adopt", "NAME", 1, 1, "Let runs use what was ingested after they began.",
     "A run keeps the samples that its domain had when it was created, so that its epochs are "
     "what they were. With this it takes in all that is there now, from its next epoch of the "
     "domain on, or at once with --now.",
     "Example: mixctl domain adopt web --run demo --why 'the crawl of May'", adopt_options,
     domain_adopt},
    {"domain withdraw", "NAME", 1, 1, "Take a document out of a domain, for all runs.",
     "Samples that hold a part of it are not drawn any more, from the step that is shown for each "
     "run. There is no way back but ingesting the document anew. What stays: steps before that "
     "one, which are served as they were, and the log of it. --dry-run shows what it would do.",
     "Example: mixctl domain withdraw web --doc 3f2a --why 'the author asked for it'",
     withdraw_options, domain_withdraw},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
