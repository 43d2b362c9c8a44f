/* runevals.c - evaluation sets and attributes of domains: see runpolicy.h. */
#include "daemon/runpolicy.h"
#include "store/catalog.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

int mx_runpolicy_name(const struct mx_json_doc *d, const mx_json *at, const char *name,
                      const char *what, struct mx_err *err)
{
    struct mx_err why;

    return mx_name_check(name, strlen(name), what, &why) < 0
               ? mx_json_fail(d, at, err, "%s", why.text) : 0;
}

/* ---- evaluation sets ---- */

static int parse_members(const struct mx_json_doc *d, const mx_json *v, struct mx_runconf_evals *e,
                         uint32_t room, struct mx_err *err)
{
    uint32_t n = mx_json_is_array(v) ? mx_json_count(v) : 0;
    int rc;

    if (n == 0 || n > room) {
        return mx_json_fail(d, v, err, "must be a list of names, at least 1; all sets together "
                            "have at most %u; it has %" PRIu32, MX_EVAL_MEMBERS_MAX, n);
    }
    e->members = calloc(n, sizeof *e->members);
    if (e->members == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " members", n);
    }
    for (const mx_json *m = mx_json_first(v); m != NULL; m = mx_json_next(m)) {
        const char *name = mx_json_string(m);

        if (!mx_json_is_string(m)) {
            return mx_json_fail(d, m, err, "must be a member's name");
        }
        if ((rc = mx_runpolicy_name(d, m, name, "a member", err)) < 0) {
            return rc;
        }
        (void)snprintf(e->members[e->m++], sizeof *e->members, "%s", name);
    }
    return 0;
}

/* The domains themselves. */
static int imply_evals(struct mx_runconf *c, struct mx_err *err)
{
    struct mx_runconf_evals *e = c->eval_sets = calloc(1, sizeof *e);

    if (e == NULL || (e->members = calloc(c->k, sizeof *e->members)) == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " members", c->k);
    }
    c->n_eval_sets = 1;
    c->evals_implied = true;
    (void)snprintf(e->name, sizeof e->name, "eval");
    for (uint32_t i = 0; i < c->k; i++) {
        memcpy(e->members[e->m++], c->domains[i].name, sizeof *e->members);
    }
    return 0;
}

static int parse_evals(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                       struct mx_err *err)
{
    const mx_json *list = mx_json_get(root, "eval_sets");
    uint32_t n = mx_json_is_object(list) ? mx_json_count(list) : 0, room = MX_EVAL_MEMBERS_MAX;
    int rc;

    if (list == NULL) {
        return imply_evals(c, err);
    }
    if (n == 0 || n > MX_EVAL_SETS_MAX) {
        return mx_json_fail(d, list, err, "must be an object of 1 to %u sets by name, each a list "
                            "of its members' names", MX_EVAL_SETS_MAX);
    }
    c->eval_sets = calloc(n, sizeof *c->eval_sets);
    if (c->eval_sets == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " eval sets", n);
    }
    for (const mx_json *v = mx_json_first(list); v != NULL; v = mx_json_next(v)) {
        struct mx_runconf_evals *e = &c->eval_sets[c->n_eval_sets++];

        if ((rc = mx_runpolicy_name(d, v, mx_json_key(v), "an eval set", err)) < 0 ||
            (rc = parse_members(d, v, e, room, err)) < 0) {
            return rc;
        }
        (void)snprintf(e->name, sizeof e->name, "%s", mx_json_key(v));
        room -= e->m;
    }
    return 0;
}

/* Names that stand twice in a set would make what is reported of them a matter of luck. */
static int check_members(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                         struct mx_err *err)
{
    const mx_json *v = mx_json_first(mx_json_get(root, "eval_sets"));

    for (uint32_t s = 0; v != NULL; s++, v = mx_json_next(v)) {
        const mx_json *m = mx_json_first(v);

        for (uint32_t i = 0; m != NULL; i++, m = mx_json_next(m)) {
            uint32_t other = mx_names_member(c->names, s, mx_json_string(m));

            if (other != i) {
                return mx_json_fail(d, m, err, "member \"%s\" stands twice, also at place %" PRIu32,
                                    mx_json_string(m), other);
            }
        }
    }
    return 0;
}

static int make_names(struct mx_runconf *c, struct mx_err *err)
{
    struct mx_name_set sets[MX_EVAL_SETS_MAX];
    uint32_t total = c->k, at;
    const char **all;

    for (uint32_t s = 0; s < c->n_eval_sets; s++) {
        total += c->eval_sets[s].m;
    }
    all = calloc(total, sizeof *all);
    for (at = 0; all != NULL && at < c->k; at++) {
        all[at] = c->domains[at].name;
    }
    for (uint32_t s = 0; all != NULL && s < c->n_eval_sets; s++) {
        sets[s] = (struct mx_name_set){c->eval_sets[s].name, c->eval_sets[s].m, all + at};
        c->eval_sizes[s] = c->eval_sets[s].m;
        for (uint32_t i = 0; i < c->eval_sets[s].m; i++) {
            all[at++] = c->eval_sets[s].members[i];
        }
    }
    c->names = all != NULL ? mx_names_new(c->k, all, c->n_eval_sets, sets, c->evals_implied) : NULL;
    free(all);
    return c->names != NULL ? 0 : mx_fail(err, MX_ENOMEM, "no memory for names");
}

/* ---- attributes ---- */

/* The number of a value among those of its attribute, which may get it now; -1: no memory. */
static int64_t value_number(struct mx_runconf_attribute *a, const char *value)
{
    char (*more)[MX_NAME_MAX + 1];

    for (uint32_t i = 0; i < a->n_values; i++) {
        if (strcmp(a->values[i], value) == 0) {
            return i;
        }
    }
    more = realloc(a->values, (a->n_values + 1) * sizeof *more);
    if (more == NULL) {
        return -1;
    }
    a->values = more;
    (void)snprintf(more[a->n_values], sizeof *more, "%s", value);
    return a->n_values++;
}

static int parse_attribute(const struct mx_json_doc *d, const mx_json *v, struct mx_runconf *c,
                           uint32_t domain, struct mx_err *err)
{
    const char *name = mx_json_key(v);
    uint32_t at = 0;
    int64_t value;
    int rc;

    while (at < c->n_attributes && strcmp(c->attribute[at].name, name) != 0) {
        at++;
    }
    if (at == MX_POLICY_ATTRIBUTES_MAX) {
        return mx_json_fail(d, v, err, "domains have more than %u attributes",
                            MX_POLICY_ATTRIBUTES_MAX);
    }
    if (!mx_json_is_string(v)) {
        return mx_json_fail(d, v, err, "must be a string: the value that this domain has");
    }
    if ((rc = mx_runpolicy_name(d, v, name, "an attribute", err)) < 0 ||
        (rc = mx_runpolicy_name(d, v, mx_json_string(v), "an attribute's value", err)) < 0) {
        return rc;
    }
    if (at == c->n_attributes) {
        (void)snprintf(c->attribute[at].name, sizeof c->attribute[at].name, "%s", name);
        c->n_attributes++;
    }
    value = value_number(&c->attribute[at], mx_json_string(v));
    if (value < 0) {
        return mx_fail(err, MX_ENOMEM, "no memory for attributes");
    }
    c->attributes[(size_t)domain * MX_POLICY_ATTRIBUTES_MAX + at] = (double)value;
    return 0;
}

static int parse_attributes(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                            struct mx_err *err)
{
    const mx_json *v = mx_json_first(mx_json_get(root, "domains"));
    size_t n = (size_t)c->k * MX_POLICY_ATTRIBUTES_MAX;

    c->attributes = malloc(n * sizeof *c->attributes);
    if (c->attributes == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for attributes");
    }
    for (size_t i = 0; i < n; i++) {
        c->attributes[i] = -1;
    }
    for (uint32_t i = 0; v != NULL; i++, v = mx_json_next(v)) {
        const mx_json *o = mx_json_get(v, "attributes");

        if (o != NULL && !mx_json_is_object(o)) {
            return mx_json_fail(d, o, err, "must be an object, like {\"topic\": \"law\"}");
        }
        for (const mx_json *a = mx_json_first(o); a != NULL; a = mx_json_next(a)) {
            int rc = parse_attribute(d, a, c, i, err);

            if (rc < 0) {
                return rc;
            }
        }
    }
    for (uint32_t i = 0; i < c->k; i++) { /* close together, now that it is known how many */
        memmove(c->attributes + (size_t)i * c->n_attributes,
                c->attributes + (size_t)i * MX_POLICY_ATTRIBUTES_MAX,
                c->n_attributes * sizeof *c->attributes);
    }
    return 0;
}

int mx_runevals_parse(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                      struct mx_err *err)
{
    int rc;

    if ((rc = parse_evals(d, root, c, err)) < 0 || (rc = make_names(c, err)) < 0 ||
        (rc = check_members(d, root, c, err)) < 0) {
        return rc;
    }
    return parse_attributes(d, root, c, err);
}

void mx_runevals_clear(struct mx_runconf *c)
{
    for (uint32_t i = 0; i < c->n_eval_sets; i++) {
        free(c->eval_sets[i].members);
    }
    for (uint32_t i = 0; i < c->n_attributes; i++) {
        free(c->attribute[i].values);
    }
    free(c->eval_sets);
    free(c->attributes);
    mx_names_free(c->names);
    c->eval_sets = NULL;
    c->attributes = NULL;
    c->names = NULL;
    c->n_eval_sets = c->n_attributes = 0;
}
