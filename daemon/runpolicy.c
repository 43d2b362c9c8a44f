/* runpolicy.c - see runpolicy.h. */
#include "daemon/runpolicy.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Keys that every policy takes, beside its own. */
static const char *const policy_keys[] = {
    "name", "eval_set", "loss_clip", "prior_decay", "absent", "absent_decay", "stale_discount",
    "stale_max", "max_change", "apply", NULL};

#define POLICY_KEYS (sizeof policy_keys / sizeof policy_keys[0] - 1)

/* What is known of one policy while it is read. */
struct reading {
    const struct mx_json_doc *d;
    struct mx_runconf *c;
    const mx_json *at; /* its object, or NULL if the run has none */
    struct mx_mixer_conf *mixer;
    struct mx_runconf_policy *own;
    bool shadow;
    struct mx_err *err;
};

/* ---- parameters ---- */

/* The place of a string among `choices`. */
static int take_choice(const struct reading *r, const char *key, const char *const *choices,
                       double *ret)
{
    const char *s = NULL;
    int rc = mx_json_take_string(r->d, r->at, key, false, &s, r->err);
    char all[256] = "";

    if (rc < 0 || s == NULL) {
        return rc;
    }
    for (size_t i = 0; choices[i] != NULL; i++) {
        if (strcmp(s, choices[i]) == 0) {
            *ret = (double)i;
            return 0;
        }
        (void)snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i > 0 ? ", " : "",
                       choices[i]);
    }
    return mx_json_fail(r->d, mx_json_get(r->at, key), r->err, "\"%.63s\" is none of %s", s, all);
}

static int take_param(const struct reading *r, const struct mx_policy_param *q, double *ret)
{
    bool on = *ret != 0;
    int rc;

    switch (q->kind) {
    case MX_PARAM_CHOICE: return take_choice(r, q->name, q->choices, ret);
    case MX_PARAM_SWITCH:
        rc = mx_json_take_bool(r->d, r->at, q->name, false, &on, r->err);
        *ret = on;
        return rc;
    case MX_PARAM_NUMBER:
    case MX_PARAM_INTEGER: break;
    }
    rc = mx_json_take_double(r->d, r->at, q->name, false, q->min, q->max, ret, r->err);
    if (rc == 0 && q->kind == MX_PARAM_INTEGER && *ret != floor(*ret)) {
        return mx_json_fail(r->d, mx_json_get(r->at, q->name), r->err,
                            "must be a whole number, but it is %g", *ret);
    }
    return rc;
}

static int take_params(const struct reading *r)
{
    const struct mx_policy_ops *p = r->mixer->policy.ops;
    int rc = 0;

    r->own->params = calloc(p->n_params + 1, sizeof *r->own->params);
    if (r->own->params == NULL) {
        return mx_fail(r->err, MX_ENOMEM, "no memory for a policy's parameters");
    }
    r->mixer->policy.params = r->own->params;
    for (size_t i = 0; rc == 0 && i < p->n_params; i++) {
        r->own->params[i] = p->params[i].fallback;
        rc = r->at != NULL ? take_param(r, &p->params[i], &r->own->params[i]) : 0;
    }
    return rc;
}

/* ---- tables ---- */

static int take_number(const struct reading *r, const struct mx_policy_table *t, const mx_json *v,
                       double *ret)
{
    double x = mx_json_number(v);

    if (!mx_json_is_number(v)) {
        return mx_json_fail(r->d, v, r->err, "must be a number from %.10g to %.10g", t->min, t->max);
    }
    if (!(x >= t->min && x <= t->max)) {
        return mx_json_fail(r->d, v, r->err, "must be a number from %.10g to %.10g, but it is %.10g",
                            t->min, t->max, x);
    }
    *ret = x;
    return 0;
}

/* The number of a domain, or of a member of the policy's eval set. */
static int find_name(const struct reading *r, bool member, const mx_json *at, const char *name,
                     uint32_t *ret)
{
    const struct mx_names *names = r->c->names;
    uint32_t set = r->mixer->eval_set;
    char list[400];

    *ret = member ? mx_names_member(names, set, name) : mx_names_domain(names, name);
    if (*ret != MX_NO_NAME) {
        return 0;
    }
    if (!member) {
        return mx_json_fail(r->d, at, r->err, "there is no domain \"%.63s\"; there are %s", name,
                            mx_names_domains(names, list, sizeof list));
    }
    return mx_json_fail(r->d, at, r->err, "eval set \"%s\" has no member \"%.63s\"; it has %s",
                        r->c->eval_sets[set].name, name,
                        mx_names_members(names, set, list, sizeof list));
}

static const char *name_of(const struct reading *r, bool member, uint32_t i)
{
    return member ? r->c->eval_sets[r->mixer->eval_set].members[i] : r->c->domains[i].name;
}

/* n numbers: a list in order, or an object by name, of all or (sparse) of some. ret is 0 before. */
static int take_row(const struct reading *r, const struct mx_policy_table *t, const mx_json *v,
                    bool member, bool sparse, double *ret)
{
    uint32_t n = member ? r->mixer->policy.m : r->c->k, count = mx_json_count(v), i = 0;
    const char *what = member ? "members of the eval set" : "domains";
    int rc = 0;

    if (!mx_json_is_array(v) && !mx_json_is_object(v)) {
        return mx_json_fail(r->d, v, r->err, "must be a list of %" PRIu32 " numbers, or an object "
                            "of numbers by name", n);
    }
    if (count != n && (count > n || mx_json_is_array(v))) {
        return mx_json_fail(r->d, v, r->err, "%" PRIu32 " numbers, there are %" PRIu32 " %s", count,
                            n, what);
    }
    for (const mx_json *x = mx_json_first(v); rc == 0 && x != NULL; x = mx_json_next(x)) {
        uint32_t at = i++;

        rc = mx_json_is_object(v) ? find_name(r, member, x, mx_json_key(x), &at) : 0;
        rc = rc == 0 ? take_number(r, t, x, &ret[at]) : rc;
    }
    for (i = 0; rc == 0 && !sparse && count < n && i < n; i++) {
        if (mx_json_get(v, name_of(r, member, i)) == NULL) {
            rc = mx_json_fail(r->d, v, r->err, "\"%s\" is missing: %" PRIu32 " numbers, there are %"
                              PRIu32 " %s", name_of(r, member, i), count, n, what);
        }
    }
    return rc;
}

/* k rows of m numbers, or an object of objects, in which what isn't named is 0. */
static int take_graph(const struct reading *r, const struct mx_policy_table *t, const mx_json *v,
                      double *ret)
{
    uint32_t k = r->c->k, m = r->mixer->policy.m, i = 0, count = mx_json_count(v);
    int rc = 0;

    if (!mx_json_is_array(v) && !mx_json_is_object(v)) {
        return mx_json_fail(r->d, v, r->err, "must be a list of %" PRIu32 " rows of %" PRIu32
                            " numbers, or an object of objects by name", k, m);
    }
    if (mx_json_is_array(v) && count != k) {
        return mx_json_fail(r->d, v, r->err, "%" PRIu32 " rows, the run has %" PRIu32 " domains",
                            count, k);
    }
    for (const mx_json *row = mx_json_first(v); rc == 0 && row != NULL; row = mx_json_next(row)) {
        uint32_t at = i++;

        rc = mx_json_is_object(v) ? find_name(r, false, row, mx_json_key(row), &at) : 0;
        rc = rc == 0 ? take_row(r, t, row, true, mx_json_is_object(row), ret + (size_t)at * m) : rc;
    }
    return rc;
}

static int take_members(const struct reading *r, const mx_json *v, double *ret)
{
    int rc;

    if (!mx_json_is_array(v) || mx_json_count(v) == 0) {
        return mx_json_fail(r->d, v, r->err, "must be a list of members' names, at least one");
    }
    for (const mx_json *x = mx_json_first(v); x != NULL; x = mx_json_next(x)) {
        uint32_t at;

        if (!mx_json_is_string(x)) {
            return mx_json_fail(r->d, x, r->err, "must be a member's name");
        }
        if ((rc = find_name(r, true, x, mx_json_string(x), &at)) < 0) {
            return rc;
        }
        ret[at] = 1;
    }
    return 0;
}

static int take_table(const struct reading *r, const struct mx_policy_table *t, const mx_json *v,
                      double **ret)
{
    size_t k = r->c->k, m = r->mixer->policy.m, n = 0;

    switch (t->shape) {
    case MX_TABLE_DOMAINS: n = k; break;
    case MX_TABLE_EVALS:
    case MX_TABLE_MEMBERS: n = m; break;
    case MX_TABLE_GRAPH:
        if (k * m > MX_GRAPH_MAX) {
            return mx_json_fail(r->d, v, r->err, "%zu domains times %zu members of the eval set "
                                "are over %u, the most that a graph can have", k, m, MX_GRAPH_MAX);
        }
        n = k * m;
        break;
    }
    *ret = calloc(n, sizeof **ret);
    if (*ret == NULL) {
        return mx_fail(r->err, MX_ENOMEM, "no memory for a table of %zu numbers", n);
    }
    switch (t->shape) {
    case MX_TABLE_DOMAINS: return take_row(r, t, v, false, false, *ret);
    case MX_TABLE_EVALS: return take_row(r, t, v, true, false, *ret);
    case MX_TABLE_GRAPH: return take_graph(r, t, v, *ret);
    case MX_TABLE_MEMBERS: break;
    }
    return take_members(r, v, *ret);
}

static int take_tables(const struct reading *r)
{
    const struct mx_policy_ops *p = r->mixer->policy.ops;

    MX_REQUIRE(p->n_tables <= MX_POLICY_TABLES_MAX);
    for (size_t i = 0; i < p->n_tables; i++) {
        const mx_json *v = mx_json_get(r->at, p->tables[i].name);
        int rc;

        if (v == NULL && p->tables[i].required) {
            return mx_json_fail(r->d, r->at, r->err, "policy %s needs \"%s\": %s", p->name,
                                p->tables[i].name, p->tables[i].what);
        }
        rc = v != NULL ? take_table(r, &p->tables[i], v, &r->own->tables[i]) : 0;
        if (rc < 0) {
            return rc;
        }
        r->mixer->policy.tables[i] = r->own->tables[i];
    }
    return 0;
}

/* ---- guards ---- */

static int take_guards(const struct reading *r)
{
    static const char *const absents[] = {"skip", "hold", "decay", NULL};
    static const char *const applies[] = {"sampler", "loss", NULL};
    struct mx_guards *g = &r->mixer->guards;
    double absent = (double)g->absent, apply = (double)g->apply;
    uint64_t versions = UINT64_MAX;
    int rc;

    if (r->at == NULL) {
        return 0;
    }
    if ((rc = mx_json_take_double(r->d, r->at, "loss_clip", false, 0, MX_LOSS_MAX, &g->loss_clip,
                                  r->err)) < 0 ||
        (rc = mx_json_take_double(r->d, r->at, "prior_decay", false, 0, 0.999999999,
                                  &g->prior_decay, r->err)) < 0 ||
        (rc = take_choice(r, "absent", absents, &absent)) < 0 ||
        (rc = mx_json_take_double(r->d, r->at, "absent_decay", false, 0, 1, &g->absent_decay,
                                  r->err)) < 0 ||
        (rc = mx_json_take_double(r->d, r->at, "stale_discount", false, 1e-9, 1,
                                  &g->stale_discount, r->err)) < 0 ||
        (rc = mx_json_take_u64(r->d, r->at, "stale_max", false, 1, MX_STEP_MAX, &versions,
                               r->err)) < 0 ||
        (rc = mx_json_take_double(r->d, r->at, "max_change", false, 1e-9, 1, &g->max_change,
                                  r->err)) < 0 ||
        (rc = take_choice(r, "apply", applies, &apply)) < 0) {
        return rc;
    }
    g->loss_clip = g->loss_clip > 0 ? g->loss_clip : INFINITY;
    g->absent = (enum mx_absent)absent;
    g->apply = (enum mx_apply)apply;
    if (versions != UINT64_MAX) {
        g->stale_max = (double)versions;
    }
    if (mx_json_get(r->at, "absent_decay") != NULL && g->absent != MX_ABSENT_DECAY) {
        return mx_json_fail(r->d, mx_json_get(r->at, "absent_decay"), r->err,
                            "only \"absent\": \"decay\" has one, and it is \"%s\"",
                            absents[g->absent]);
    }
    if (r->shadow && mx_json_get(r->at, "apply") != NULL) {
        return mx_json_fail(r->d, mx_json_get(r->at, "apply"), r->err,
                            "a shadow's weights go nowhere");
    }
    return 0;
}

/* ---- a policy ---- */

static int find_policy(const struct reading *r)
{
    const char *name = "static";
    char all[512] = "";
    int rc = 0;

    if (r->at != NULL && !mx_json_is_object(r->at)) {
        return mx_json_fail(r->d, r->at, r->err, "must be an object, like {\"name\": \"odm\"}");
    }
    if (r->at != NULL &&
        (rc = mx_json_take_string(r->d, r->at, "name", true, &name, r->err)) < 0) {
        return rc;
    }
    r->mixer->policy.ops = mx_policy_find(name);
    if (r->mixer->policy.ops != NULL) {
        return 0;
    }
    for (size_t i = 0; mx_policy_at(i) != NULL; i++) {
        (void)snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i > 0 ? ", " : "",
                       mx_policy_at(i)->name);
    }
    return mx_json_fail(r->d, mx_json_get(r->at, "name"), r->err,
                        "no policy \"%.63s\"; there are %s", name, all);
}

static int check_keys(const struct reading *r)
{
    const struct mx_policy_ops *p = r->mixer->policy.ops;
    size_t n = 0;
    const char **keys = calloc(POLICY_KEYS + p->n_params + p->n_tables + 2, sizeof *keys);
    int rc;

    if (keys == NULL) {
        return mx_fail(r->err, MX_ENOMEM, "no memory for a policy's keys");
    }
    keys[n++] = "name";
    for (size_t i = 0; i < p->n_params; i++) {
        keys[n++] = p->params[i].name;
    }
    for (size_t i = 0; i < p->n_tables; i++) {
        keys[n++] = p->tables[i].name;
    }
    if (r->shadow) {
        keys[n++] = "label";
    }
    for (size_t i = 1; i < POLICY_KEYS; i++) {
        keys[n++] = policy_keys[i];
    }
    rc = mx_json_known_keys(r->d, r->at, keys, r->err);
    free(keys);
    return rc;
}

/* Whether it is told of evaluations, or has a table by their members. */
static bool looks_at_evals(const struct mx_policy_ops *p)
{
    bool looks = p->uses_eval != 0;

    for (size_t i = 0; i < p->n_tables; i++) {
        looks = looks || p->tables[i].shape != MX_TABLE_DOMAINS;
    }
    return looks;
}

static int take_eval_set(const struct reading *r)
{
    const char *name = NULL;
    char list[400];
    int rc = r->at != NULL
                 ? mx_json_take_string(r->d, r->at, "eval_set", false, &name, r->err) : 0;

    if (rc < 0) {
        return rc;
    }
    if (name != NULL && !looks_at_evals(r->mixer->policy.ops)) {
        return mx_json_fail(r->d, mx_json_get(r->at, "eval_set"), r->err,
                            "policy %s looks at no eval set", r->mixer->policy.ops->name);
    }
    r->mixer->eval_set = name != NULL ? mx_names_set(r->c->names, name) : 0;
    if (r->mixer->eval_set == MX_NO_NAME) {
        return mx_json_fail(r->d, mx_json_get(r->at, "eval_set"), r->err,
                            "there is no eval set \"%.63s\"; there are %s", name,
                            mx_names_sets(r->c->names, list, sizeof list));
    }
    r->mixer->policy.m = looks_at_evals(r->mixer->policy.ops)
                             ? r->c->eval_sizes[r->mixer->eval_set] : r->c->k;
    return 0;
}

/* What the policy itself finds wrong, and what it can't do without. */
static int check_policy(const struct reading *r, const double *prior)
{
    struct mx_policy_conf conf = r->mixer->policy;
    size_t before = 0;
    char text[256];
    const char *wrong;

    if (r->shadow && conf.ops->requests != NULL) {
        return mx_json_fail(r->d, r->at, r->err, "policy %s prescribes what is served and when to "
                            "evaluate: it can't be a shadow", conf.ops->name);
    }
    if (conf.ops->requests != NULL && r->mixer->guards.apply == MX_APPLY_LOSS) {
        return mx_json_fail(r->d, mx_json_get(r->at, "apply"), r->err, "policy %s prescribes what "
                            "is served: it can't weigh the loss", conf.ops->name);
    }
    if (conf.ops->uses_attributes && conf.n_attributes == 0) {
        return mx_json_fail(r->d, r->at, r->err, "policy %s needs \"attributes\" of the domains; "
                            "there are none", conf.ops->name);
    }
    conf.prior = prior;
    for (const struct mx_mixer_conf *m = r->c->mixers; m < r->mixer; m++) {
        before += mx_mixer_size(m);
    }
    if (before + mx_mixer_size(r->mixer) > MX_POLICY_STATE_MAX) {
        return mx_json_fail(r->d, r->at, r->err, "policy %s keeps %zu numbers for %" PRIu32
                            " domains and %" PRIu32 " members, and those before it %zu; at most %u "
                            "fit a snapshot", conf.ops->name, mx_mixer_size(r->mixer), conf.k,
                            conf.m, before, MX_POLICY_STATE_MAX);
    }
    wrong = conf.ops->check != NULL ? conf.ops->check(&conf, text, sizeof text) : NULL;
    return wrong == NULL ? 0 : mx_json_fail(r->d, r->at, r->err, "policy %s: %s", conf.ops->name,
                                            wrong);
}

static int parse_one(const struct reading *r, const double *prior)
{
    struct mx_mixer_conf *m = r->mixer;
    int rc = find_policy(r);

    if (rc < 0 || (r->at != NULL && (rc = check_keys(r)) < 0)) {
        return rc;
    }
    m->guards = mx_guards_default(m->policy.ops);
    m->policy.k = r->c->k;
    m->policy.attributes = r->c->attributes;
    m->policy.n_attributes = r->c->n_attributes;
    for (uint32_t i = 0; i < r->c->n_attributes; i++) {
        m->policy.n_values[i] = r->c->attribute[i].n_values;
    }
    if ((rc = take_eval_set(r)) < 0 || (rc = take_params(r)) < 0 || (rc = take_tables(r)) < 0 ||
        (rc = take_guards(r)) < 0) {
        return rc;
    }
    return check_policy(r, prior);
}

/* A shadow is known by its label: the one that it has, or its policy's name, or that and its
 * number. */
static int take_label(const struct reading *r)
{
    uint32_t i = r->c->n_mixers; /* this one's place */
    const char *name = NULL;
    int rc = mx_json_take_string(r->d, r->at, "label", false, &name, r->err);

    if (rc < 0 ||
        (name != NULL && (rc = mx_runpolicy_name(r->d, mx_json_get(r->at, "label"), name, "a label",
                                                 r->err)) < 0)) {
        return rc;
    }
    (void)snprintf(r->own->label, sizeof r->own->label, "%s",
                   name != NULL ? name : r->mixer->policy.ops->name);
    for (uint32_t j = 1; j < i; j++) {
        if (strcmp(r->c->policies[j].label, r->own->label) == 0) {
            if (name != NULL) {
                return mx_json_fail(r->d, mx_json_get(r->at, "label"), r->err,
                                    "shadow %" PRIu32 " has the label \"%s\" too", j, name);
            }
            (void)snprintf(r->own->label, sizeof r->own->label, "%.40s-%" PRIu32,
                           r->mixer->policy.ops->name, i);
            j = 0; /* it may be another's by now */
        }
    }
    return 0;
}

/* Weights of the domains as the config has them; where they come from sizes, all alike. */
static double *stand_in_prior(const struct mx_runconf *c)
{
    double *prior = malloc(c->k * sizeof *prior), sum = 0;

    for (uint32_t i = 0; prior != NULL && i < c->k; i++) {
        prior[i] = isnan(c->domains[i].weight) ? 1 : c->domains[i].weight;
        sum += prior[i];
    }
    for (uint32_t i = 0; prior != NULL && i < c->k; i++) {
        prior[i] /= sum;
    }
    return prior;
}

static int parse_policies(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                          struct mx_err *err)
{
    const mx_json *shadows = mx_json_get(root, "shadows"), *at = mx_json_get(root, "policy");
    uint32_t n = mx_json_is_array(shadows) ? mx_json_count(shadows) : 0;
    double *prior;
    int rc = 0;

    if (shadows != NULL && (!mx_json_is_array(shadows) || n > MX_SHADOWS_MAX)) {
        return mx_json_fail(d, shadows, err, "must be a list of at most %u policies",
                            MX_SHADOWS_MAX);
    }
    c->mixers = calloc(n + 1, sizeof *c->mixers);
    c->policies = calloc(n + 1, sizeof *c->policies);
    prior = stand_in_prior(c);
    if (c->mixers == NULL || c->policies == NULL || prior == NULL) {
        free(prior);
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " policies", n + 1);
    }
    for (uint32_t i = 0; rc == 0 && i <= n; i++) {
        struct reading r = {d, c, at, &c->mixers[i], &c->policies[i], i > 0, err};

        rc = parse_one(&r, prior);
        rc = rc == 0 && i > 0 ? take_label(&r) : rc;
        c->n_mixers++;
        at = i == 0 ? mx_json_first(shadows) : mx_json_next(at);
    }
    free(prior);
    return rc;
}

int mx_runpolicy_parse(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                       struct mx_err *err)
{
    int rc;

    if ((rc = mx_runevals_parse(d, root, c, err)) < 0 ||
        (rc = parse_policies(d, root, c, err)) < 0) {
        return rc;
    }
    return mx_json_take_u64(d, root, "shadow_steps", false, 1, 1u << 20, &c->shadow_steps, err);
}

void mx_runpolicy_clear(struct mx_runconf *c)
{
    for (uint32_t i = 0; i < c->n_mixers; i++) {
        free(c->policies[i].params);
        for (uint32_t j = 0; j < MX_POLICY_TABLES_MAX; j++) {
            free(c->policies[i].tables[j]);
        }
    }
    free(c->mixers);
    free(c->policies);
    c->mixers = NULL;
    c->policies = NULL;
    c->n_mixers = 0;
    mx_runevals_clear(c);
}
