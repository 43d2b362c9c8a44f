/* ctl_mix.c - mixctl mix: a run's mix, seen and set. What a change means is the daemon's to say. */
#include "client/ctl.h"

#include "proto/limits.h"

#include <string.h>

static int mix_show(struct ctl *c)
{
    static const char *const heads[] = {"DOMAIN", "SHARE>", "WEIGHT>", "ACHIEVED>"};
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    char a[CTL_CHARS], b[CTL_CHARS];
    int rc;

    ctl_op(&w, "mix.show");
    mx_jsonw_string(&w, "run", c->words[0]);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        const mx_json *o = mx_json_root(d);
        struct ctl_table *t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
        const mx_json *version = mx_json_get(o, "version");
        const mx_json *next = mx_json_get(o, "next_version");

        (void)printf("mix version %s of run %s, from step %s", ctl_member(a, o, "version"),
                     c->words[0], ctl_member(b, o, "from_step"));
        (void)printf(", policy %s\n", ctl_member(a, o, "policy"));
        if (next != NULL && mx_json_is_number(next) &&
            mx_json_number(next) > mx_json_number(version)) {
            (void)printf("version %s follows from step %s\n", ctl_member(a, o, "next_version"),
                         ctl_member(b, o, "next_step"));
        }
        (void)printf("\n");
        for (const mx_json *m = mx_json_first(mx_json_get(o, "domains")); m != NULL;
             m = mx_json_next(m)) {
            ctl_table_cell(t, ctl_member(a, m, "name"));
            ctl_table_cell(t, ctl_share(a, mx_json_get(m, "share")));
            ctl_table_cell(t, ctl_share(a, mx_json_get(m, "weight")));
            ctl_table_cell(t, ctl_share(a, mx_json_get(m, "achieved")));
        }
        ctl_table_print(t, stdout);
    }
    mx_json_free(d);
    return rc;
}

/* "web=0.5" words as {"web": 0.5}; false if one is none, which is said. */
static bool write_weights(struct ctl *c, struct mx_jsonw *w)
{
    mx_jsonw_object(w, "weights");
    for (int i = 1; i < c->n_words; i++) {
        char *eq = strchr(c->words[i], '=');
        double v;

        if (eq == NULL || eq == c->words[i]) {
            (void)ctl_usage("a change is DOMAIN=SHARE, like web=0.5, not '%.80s'", c->words[i]);
            return false;
        }
        *eq = '\0';
        if (!ctl_double(c->words[i], eq + 1, &v)) {
            return false;
        }
        mx_jsonw_double(w, c->words[i], v);
    }
    mx_jsonw_end_object(w);
    return true;
}

/* From which step on: a step, or "+N" for N steps past the frontier, which the daemon knows. */
static bool write_at(const struct ctl *c, struct mx_jsonw *w)
{
    const char *at = ctl_opt(c, CTL_AT);
    uint64_t v;

    if (at == NULL) {
        return true;
    }
    if (!ctl_u64("--at STEP or +N", at[0] == '+' ? at + 1 : at, 0, MX_STEP_MAX, &v)) {
        return false;
    }
    if (at[0] == '+') {
        mx_jsonw_string(w, "at", at);
    } else {
        mx_jsonw_u64(w, "at", v);
    }
    return true;
}

static void print_change(const mx_json *o)
{
    static const char *const heads[] = {"DOMAIN", "BEFORE>", "SHARE>"};
    struct ctl_table *t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
    const char *note = mx_json_string(mx_json_get(o, "note"));
    char a[CTL_CHARS], b[CTL_CHARS];

    if (mx_json_is_number(mx_json_get(o, "version"))) {
        (void)printf("mix version %s of run %s", ctl_member(a, o, "version"),
                     ctl_member(b, o, "run"));
        (void)printf(", from step %s\n", ctl_member(a, o, "from_step"));
    }
    if (note[0] != '\0') {
        (void)printf("%s\n", note);
    }
    (void)printf("\n");
    for (const mx_json *m = mx_json_first(mx_json_get(o, "domains")); m != NULL;
         m = mx_json_next(m)) {
        ctl_table_cell(t, ctl_member(a, m, "name"));
        ctl_table_cell(t, ctl_share(a, mx_json_get(m, "before")));
        ctl_table_cell(t, ctl_share(a, mx_json_get(m, "share")));
    }
    ctl_table_print(t, stdout);
}

static int mix_set(struct ctl *c)
{
    struct mx_json_doc *d = NULL;
    struct mx_jsonw w;
    int rc;

    ctl_op(&w, "mix.set");
    mx_jsonw_string(&w, "run", c->words[0]);
    if (!write_weights(c, &w)) {
        mx_jsonw_fini(&w);
        return CTL_USAGE;
    }
    if (!write_at(c, &w)) {
        mx_jsonw_fini(&w);
        return CTL_USAGE;
    }
    ctl_author(c, &w);
    rc = ctl_ask(c, &w, &d);
    if (rc == CTL_DONE && d != NULL) {
        print_change(mx_json_root(d));
    }
    mx_json_free(d);
    return rc;
}

static const struct argp_option set_options[] = {
    {"at", CTL_AT, "STEP|+N", 0, "From this step on, or from N steps past the frontier", 0},
    {"why", CTL_WHY, "TEXT", 0, "The reason, kept with the change", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

const struct ctl_command ctl_mix_commands[] = {
    {"mix show", "RUN", 1, 1, "Show the mix in force, and what has been drawn in all.", "",
     "Example: mixctl mix show demo", NULL, mix_show},
    {"mix set", "RUN DOMAIN=SHARE...", 2, -1, "Set shares of a run's mix.",
     "Domains that aren't named keep their proportions in what is left. The change takes effect "
     "with the first step that isn't planned yet, or later with --at.",
     "Example: mixctl mix set demo web=0.5 code=0.3 --at +200 --why 'code is behind'", set_options,
     mix_set},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
