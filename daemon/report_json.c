/* report_json.c - see report_json.h. */
#include "daemon/report_json.h"

#include "proto/json.h"
#include "proto/limits.h"
#include "proto/sections.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- values ---- */

struct parse {
    const struct mx_json_doc *d;
    const struct mx_names *names;
    struct mx_err *err;
    struct mx_entry *e;
    struct mx_report_rooms to; /* the report's memory */
};

/* A number, or for what isn't finite null or its name. */
static int take_value(const struct parse *p, const mx_json *v, double *ret)
{
    const char *name = mx_json_string(v);

    if (mx_json_is_number(v)) {
        *ret = mx_json_number(v);
    } else if (mx_json_is_null(v) || strcmp(name, "NaN") == 0) {
        *ret = NAN;
    } else if (strcmp(name, "Infinity") == 0 || strcmp(name, "-Infinity") == 0) {
        *ret = name[0] == '-' ? -INFINITY : INFINITY;
    } else {
        return mx_json_fail(p->d, v, p->err, "must be a number, or null for one that isn't finite");
    }
    return 0;
}

/* A required member of o that is such a number. */
static int take_member(const struct parse *p, const mx_json *o, const char *key, double *ret)
{
    const mx_json *v = mx_json_get(o, key);

    return v != NULL ? take_value(p, v, ret)
                     : mx_json_fail(p->d, o, p->err, "'%s' is missing", key);
}

static int find_domain(const struct parse *p, const mx_json *at, const char *name, uint32_t *ret)
{
    char list[400];

    *ret = mx_names_domain(p->names, name);
    return *ret != MX_NO_NAME
               ? 0 : mx_json_fail(p->d, at, p->err, "there is no domain \"%.63s\"; there are %s",
                                  name, mx_names_domains(p->names, list, sizeof list));
}

/* An object of at most `most` members. */
static int check_object(const struct parse *p, const mx_json *v, const char *what, uint32_t most)
{
    uint32_t n;

    if (!mx_json_is_object(v)) {
        return mx_json_fail(p->d, v, p->err, "must be an object of %s by name", what);
    }
    n = mx_json_count(v);
    return n <= most ? 0 : mx_json_fail(p->d, v, p->err, "%" PRIu32 " %s; there are %" PRIu32, n,
                                        what, most);
}

static int take_loss(const struct parse *p, const mx_json *v, uint64_t *samples, uint64_t *tokens,
                     double *sum)
{
    static const char *const keys[] = {"loss_sum", "tokens", "samples", NULL};
    int rc;

    *samples = 0;
    if (!mx_json_is_object(v)) {
        return mx_json_fail(p->d, v, p->err, "must be an object, like {\"loss_sum\": 81920.5, "
                            "\"tokens\": 32768}");
    }
    if ((rc = mx_json_known_keys(p->d, v, keys, p->err)) < 0 ||
        (rc = take_member(p, v, "loss_sum", sum)) < 0 ||
        (rc = mx_json_take_u64(p->d, v, "tokens", true, 0, UINT64_MAX, tokens, p->err)) < 0) {
        return rc;
    }
    return mx_json_take_u64(p->d, v, "samples", false, 0, UINT32_MAX, samples, p->err);
}

/* ---- parts ---- */

static int cmp_u32(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

static int loss_cmp(const void *a, const void *b)
{
    return cmp_u32(((const struct mx_loss *)a)->domain, ((const struct mx_loss *)b)->domain);
}

static int reward_cmp(const void *a, const void *b)
{
    return cmp_u32(((const struct mx_reward *)a)->domain, ((const struct mx_reward *)b)->domain);
}

static int eval_cmp(const void *a, const void *b)
{
    const struct mx_eval_loss *x = a, *y = b;

    return x->set != y->set ? cmp_u32(x->set, y->set) : cmp_u32(x->member, y->member);
}

static int parse_train(struct parse *p, const mx_json *v)
{
    int rc = v != NULL ? check_object(p, v, "domains", mx_names_k(p->names)) : 0;

    for (const mx_json *c = mx_json_first(v); rc == 0 && c != NULL; c = mx_json_next(c)) {
        struct mx_loss *l = &p->to.losses[p->e->n];
        uint64_t samples;

        if ((rc = find_domain(p, c, mx_json_key(c), &l->domain)) == 0 &&
            (rc = take_loss(p, c, &samples, &l->tokens, &l->loss_sum)) == 0) {
            l->samples = (uint32_t)samples;
            p->e->n++;
        }
    }
    qsort(p->to.losses, p->e->n, sizeof *p->to.losses, loss_cmp);
    return rc;
}

static int parse_eval_set(struct parse *p, const mx_json *v)
{
    const struct mx_names *n = p->names;
    uint32_t set = mx_names_set(n, mx_json_key(v));
    char list[400];
    int rc;

    if (set == MX_NO_NAME) {
        return mx_json_fail(p->d, v, p->err, "there is no eval set of that name; there are %s",
                            mx_names_sets(n, list, sizeof list));
    }
    rc = check_object(p, v, "members", mx_names_m(n, set));
    for (const mx_json *c = mx_json_first(v); rc == 0 && c != NULL; c = mx_json_next(c)) {
        struct mx_eval_loss *l = &p->to.evals[p->e->n_evals];

        l->set = set;
        l->member = mx_names_member(n, set, mx_json_key(c));
        if (l->member == MX_NO_NAME) {
            return mx_json_fail(p->d, c, p->err, "the eval set has no such member; it has %s",
                                mx_names_members(n, set, list, sizeof list));
        }
        rc = take_loss(p, c, &l->samples, &l->tokens, &l->loss_sum);
        p->e->n_evals += rc == 0;
    }
    return rc;
}

static int parse_eval(struct parse *p, const mx_json *v)
{
    int rc = v != NULL ? check_object(p, v, "eval sets", mx_names_n_sets(p->names)) : 0;

    for (const mx_json *c = mx_json_first(v); rc == 0 && c != NULL; c = mx_json_next(c)) {
        rc = parse_eval_set(p, c);
    }
    qsort(p->to.evals, p->e->n_evals, sizeof *p->to.evals, eval_cmp);
    return rc;
}

static int parse_reward(struct parse *p, const mx_json *v)
{
    static const char *const keys[] = {"sum", "count", NULL};
    int rc = v != NULL ? check_object(p, v, "domains", mx_names_k(p->names)) : 0;

    for (const mx_json *c = mx_json_first(v); rc == 0 && c != NULL; c = mx_json_next(c)) {
        struct mx_reward *r = &p->to.rewards[p->e->n_rewards];

        if (!mx_json_is_object(c)) {
            return mx_json_fail(p->d, c, p->err,
                                "must be an object, like {\"sum\": 1.5, \"count\": 16}");
        }
        if ((rc = find_domain(p, c, mx_json_key(c), &r->domain)) == 0 &&
            (rc = mx_json_known_keys(p->d, c, keys, p->err)) == 0 &&
            (rc = take_member(p, c, "sum", &r->sum)) == 0 &&
            (rc = mx_json_take_u64(p->d, c, "count", true, 0, UINT64_MAX, &r->count, p->err)) == 0) {
            p->e->n_rewards++;
        }
    }
    qsort(p->to.rewards, p->e->n_rewards, sizeof *p->to.rewards, reward_cmp);
    return rc;
}

static int parse_scores(struct parse *p, const mx_json *v)
{
    if (v != NULL && !mx_json_is_array(v)) {
        return mx_json_fail(p->d, v, p->err,
                            "must be an array of [domain, sample, score], like [\"web\", 12, 0.7]");
    }
    for (const mx_json *c = mx_json_first(v); c != NULL; c = mx_json_next(c)) {
        const mx_json *name = mx_json_first(c), *sample, *score;
        struct mx_score *s = &p->to.scores[p->e->n_scores];
        double number;
        int rc;

        if (!mx_json_is_array(c) || mx_json_count(c) != 3 || !mx_json_is_string(name)) {
            return mx_json_fail(p->d, c, p->err,
                                "must be [domain, sample, score], like [\"web\", 12, 0.7]");
        }
        sample = mx_json_next(name);
        score = mx_json_next(sample);
        number = mx_json_number(sample);
        if (!mx_json_is_number(sample) || number < 0 || number != floor(number) ||
            number >= (double)MX_SAMPLES_MAX) {
            return mx_json_fail(p->d, sample, p->err, "must be the number of a sample, from 0");
        }
        if ((rc = find_domain(p, name, mx_json_string(name), &s->domain)) < 0 ||
            (rc = take_value(p, score, &s->score)) < 0) {
            return rc;
        }
        s->sample = (uint64_t)number;
        p->e->n_scores++;
    }
    return 0;
}

/* The matrix as it stands in the text, and in the order of the run's domains. */
struct gram {
    uint32_t n;
    uint32_t domains[MX_GRAM_MAX], order[MX_GRAM_MAX];
    const mx_json *names[MX_GRAM_MAX];
    double cells[MX_GRAM_MAX * MX_GRAM_MAX];
};

static int gram_domains(const struct parse *p, const mx_json *list, struct gram *g)
{
    uint32_t n = mx_json_is_array(list) ? mx_json_count(list) : 0;

    if (n == 0 || n > MX_GRAM_MAX) {
        return mx_json_fail(p->d, list, p->err, "must be an array of 1 to %u domains' names",
                            MX_GRAM_MAX);
    }
    for (const mx_json *c = mx_json_first(list); c != NULL; c = mx_json_next(c)) {
        uint32_t domain, at = g->n;
        int rc;

        if (!mx_json_is_string(c)) {
            return mx_json_fail(p->d, c, p->err, "must be a domain's name");
        }
        if ((rc = find_domain(p, c, mx_json_string(c), &domain)) < 0) {
            return rc;
        }
        g->domains[g->n] = domain;
        g->names[g->n] = c;
        for (; at > 0 && g->domains[g->order[at - 1]] >= domain; at--) {
            if (g->domains[g->order[at - 1]] == domain) {
                return mx_json_fail(p->d, c, p->err, "domain \"%s\" stands twice in one list",
                                    mx_json_string(c));
            }
            g->order[at] = g->order[at - 1];
        }
        g->order[at] = g->n++;
    }
    return 0;
}

static int gram_cells(const struct parse *p, const mx_json *rows, struct gram *g)
{
    uint32_t i = 0, n = mx_json_is_array(rows) ? mx_json_count(rows) : 0;

    if (n != g->n) {
        return mx_json_fail(p->d, rows, p->err, "must be an array of rows, one for each of the %"
                            PRIu32 " domains; it has %" PRIu32, g->n, n);
    }
    for (const mx_json *r = mx_json_first(rows); r != NULL; r = mx_json_next(r), i++) {
        uint32_t j = 0, m = mx_json_is_array(r) ? mx_json_count(r) : 0;

        if (m != g->n) {
            return mx_json_fail(p->d, r, p->err, "must be an array of %" PRIu32 " numbers; it has %"
                                PRIu32, g->n, m);
        }
        for (const mx_json *c = mx_json_first(r); c != NULL; c = mx_json_next(c), j++) {
            int rc = take_value(p, c, &g->cells[i * g->n + j]);

            if (rc < 0) {
                return rc;
            }
        }
    }
    return 0;
}

static int check_symmetric(const struct parse *p, const mx_json *rows, const struct gram *g)
{
    uint32_t i = 0;

    for (const mx_json *r = mx_json_first(rows); r != NULL; r = mx_json_next(r), i++) {
        uint32_t j = 0;

        for (const mx_json *c = mx_json_first(r); j < i; c = mx_json_next(c), j++) {
            double a = g->cells[i * g->n + j], b = g->cells[j * g->n + i];

            if (!mx_gram_alike(a, b, g->cells[i * g->n + i], g->cells[j * g->n + j])) {
                return mx_json_fail(p->d, c, p->err, "the matrix isn't symmetric: row %s column %s "
                                    "is %.17g, row %s column %s is %.17g",
                                    mx_json_string(g->names[i]), mx_json_string(g->names[j]), a,
                                    mx_json_string(g->names[j]), mx_json_string(g->names[i]), b);
            }
        }
    }
    return 0;
}

/* Norms say nothing that the diagonal doesn't; but what says otherwise is wrong. */
static int check_norms(const struct parse *p, const mx_json *list, const struct gram *g)
{
    uint32_t i = 0, n = mx_json_is_array(list) ? mx_json_count(list) : 0;

    if (list == NULL) {
        return 0;
    }
    if (n != g->n) {
        return mx_json_fail(p->d, list, p->err, "must be an array of %" PRIu32 " numbers, as the "
                            "domains are", g->n);
    }
    for (const mx_json *c = mx_json_first(list); c != NULL; c = mx_json_next(c), i++) {
        double norm, square = g->cells[i * g->n + i];
        int rc = take_value(p, c, &norm);

        if (rc < 0) {
            return rc;
        }
        if (isfinite(norm) && isfinite(square) &&
            !(norm >= 0.0 && fabs(norm * norm - square) <= 1e-3 * fabs(square))) {
            return mx_json_fail(p->d, c, p->err, "the norm of %s is %.17g, its square in the matrix "
                                "%.17g", mx_json_string(g->names[i]), norm, square);
        }
    }
    return 0;
}

static int parse_grad(struct parse *p, const mx_json *v)
{
    static const char *const keys[] = {"domains", "gram", "norms", "lr", NULL};
    const mx_json *domains = mx_json_get(v, "domains"), *rows = mx_json_get(v, "gram");
    struct gram *g;
    double *cell = p->to.gram;
    int rc;

    if (v == NULL) {
        return 0;
    }
    if (!mx_json_is_object(v) || domains == NULL || rows == NULL) {
        return mx_json_fail(p->d, v, p->err, "must be an object with \"domains\", \"gram\" and "
                            "\"lr\"");
    }
    g = calloc(1, sizeof *g);
    if (g == NULL) {
        return mx_fail(p->err, MX_ENOMEM, "no memory for a matrix");
    }
    if ((rc = mx_json_known_keys(p->d, v, keys, p->err)) == 0 &&
        (rc = take_member(p, v, "lr", &p->e->lr)) == 0 &&
        (rc = gram_domains(p, domains, g)) == 0 && (rc = gram_cells(p, rows, g)) == 0 &&
        (rc = check_symmetric(p, rows, g)) == 0 &&
        (rc = check_norms(p, mx_json_get(v, "norms"), g)) == 0) {
        p->e->n_gram = g->n;
        for (uint32_t i = 0; i < g->n; i++) {
            p->to.gram_domains[i] = g->domains[g->order[i]];
            for (uint32_t j = i; j < g->n; j++) {
                *cell++ = g->cells[g->order[i] * g->n + g->order[j]];
            }
        }
    }
    free(g);
    return rc;
}

static int parse_flags(struct parse *p, const mx_json *v)
{
    if (v != NULL && !mx_json_is_array(v)) {
        return mx_json_fail(p->d, v, p->err, "must be an array of flags' names");
    }
    for (const mx_json *c = mx_json_first(v); c != NULL; c = mx_json_next(c)) {
        if (strcmp(mx_json_string(c), "nonfinite_loss") == 0) {
            p->e->flags |= MX_REPORT_FLAG_NONFINITE;
        } else if (strcmp(mx_json_string(c), "step_skipped") == 0) {
            p->e->flags |= MX_REPORT_FLAG_SKIPPED;
        } else {
            return mx_json_fail(p->d, c, p->err, "must be \"nonfinite_loss\" or \"step_skipped\"");
        }
    }
    return 0;
}

/* ---- the line ---- */

static uint32_t count(const mx_json *root, const char *key)
{
    const mx_json *v = mx_json_get(root, key);

    return v != NULL ? mx_json_count(v) : 0;
}

/* Memory for all that the line can hold. */
static int make_room(struct parse *p, const mx_json *root, struct mx_report *ret)
{
    uint32_t n_eval = 0;
    int rc;

    for (const mx_json *c = mx_json_first(mx_json_get(root, "eval")); c != NULL;
         c = mx_json_next(c)) {
        n_eval += mx_json_count(c);
    }
    rc = mx_report_room(ret, count(root, "train"), n_eval, count(root, "reward"),
                        count(root, "scores"), mx_json_get(root, "grad") != NULL ? MX_GRAM_MAX : 0,
                        p->err);
    p->to = ret->rooms;
    return rc;
}

static int parse_root(struct parse *p, const mx_json *root, struct mx_report *ret)
{
    enum { FIRST_PART = 4 };
    static const char *const keys[] = {"step", "rank", "world", "mix_version", "train", "eval",
                                       "grad", "reward", "scores", "flags", NULL};
    uint64_t rank = 0, world = 1;
    uint32_t parts = 0;
    struct mx_entry *e = p->e;
    int rc;

    if (!mx_json_is_object(root)) {
        return mx_json_fail(p->d, root, p->err, "a report must be one object");
    }
    if ((rc = mx_json_known_keys(p->d, root, keys, p->err)) < 0 ||
        (rc = mx_json_take_u64(p->d, root, "step", true, 0, MX_STEP_MAX, &e->step, p->err)) < 0 ||
        (rc = mx_json_take_u64(p->d, root, "world", false, 1, MX_WORLD_MAX, &world, p->err)) < 0 ||
        (rc = mx_json_take_u64(p->d, root, "rank", false, 0, world - 1, &rank, p->err)) < 0 ||
        (rc = mx_json_take_u64(p->d, root, "mix_version", false, 0, UINT64_MAX, &e->mix_version,
                               p->err)) < 0 ||
        (rc = make_room(p, root, ret)) < 0 ||
        (rc = parse_train(p, mx_json_get(root, "train"))) < 0 ||
        (rc = parse_eval(p, mx_json_get(root, "eval"))) < 0 ||
        (rc = parse_reward(p, mx_json_get(root, "reward"))) < 0 ||
        (rc = parse_grad(p, mx_json_get(root, "grad"))) < 0 ||
        (rc = parse_scores(p, mx_json_get(root, "scores"))) < 0 ||
        (rc = parse_flags(p, mx_json_get(root, "flags"))) < 0) {
        return rc;
    }
    e->rank = (uint32_t)rank;
    e->world = (uint32_t)world;
    for (size_t i = FIRST_PART; keys[i] != NULL; i++) {
        parts += mx_json_get(root, keys[i]) != NULL;
    }
    if (parts == 0) { /* an empty one says that the rank saw nothing: that is a report too */
        return mx_json_fail(p->d, root, p->err, "a report has at least one part or flag: train, "
                            "eval, grad, reward, scores, flags");
    }
    return 0;
}

/* What Python's json module writes for numbers that aren't finite is no JSON: outside of strings,
 * such words become null. To be freed; NULL without memory. */
static char *words_to_null(const char *text, size_t n, size_t *ret_n)
{
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    char *ret = malloc(2 * n + 1), *to = ret;
    bool quoted = false;

    for (size_t i = 0; ret != NULL && i < n;) {
        size_t w = 0, length = 0;

        while (!quoted && w < 3 && length == 0) {
            length = strlen(words[w]);
            length = n - i >= length && memcmp(text + i, words[w], length) == 0 ? length : 0;
            w++;
        }
        if (length > 0) {
            memcpy(to, "null", 4);
            to += 4;
            i += length;
            continue;
        }
        if (quoted && text[i] == '\\' && i + 1 < n) {
            *to++ = text[i++];
        } else if (text[i] == '"') {
            quoted = !quoted;
        }
        *to++ = text[i++];
    }
    *ret_n = ret != NULL ? (size_t)(to - ret) : 0;
    return ret;
}

int mx_report_parse(const char *file, size_t line, const char *text, size_t n,
                    const struct mx_names *names, struct mx_report *ret, struct mx_err *err)
{
    struct parse p = {.names = names, .err = err, .e = &ret->entry};
    struct mx_json_doc *d;
    char *plain;
    int rc;

    if (n > MX_REPORT_LINE_MAX) {
        return mx_json_parse_line(file, line, text, n, MX_REPORT_LINE_MAX, &d, err);
    }
    plain = words_to_null(text, n, &n);
    if (plain == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for a report");
    }
    rc = mx_json_parse_line(file, line, plain, n, 2 * MX_REPORT_LINE_MAX, &d, err);
    free(plain);
    if (rc < 0) {
        return rc;
    }
    memset(ret, 0, sizeof *ret);
    ret->entry.kind = MX_ENTRY_FEEDBACK;
    p.d = d;
    rc = parse_root(&p, mx_json_root(d), ret);
    mx_json_free(d);
    if (rc < 0) {
        mx_report_clear(ret);
    }
    return rc;
}
