/* runschedule.c - see runschedule.h. Knows nothing of batches. */
#include "daemon/runschedule.h"

#include <inttypes.h>
#include <math.h>

static const char *const kinds[] = {"adapt", "warmup", "mix", "anneal"};
static const char *const shapes[] = {"linear", "cosine"};

const char *mx_phase_kind_name(enum mx_phase_kind kind)
{
    return kinds[kind];
}

static int find_domain(const struct mx_json_doc *d, const mx_json *v, const struct mx_runconf *c,
                       uint32_t *ret, struct mx_err *err)
{
    char all[256];

    *ret = mx_names_domain(c->names, mx_json_key(v));
    if (*ret == MX_NO_NAME) {
        return mx_json_fail(d, v, err, "the run has no such domain; there are %s",
                            mx_names_domains(c->names, all, sizeof all));
    }
    return 0;
}

static int parse_mix(const struct mx_json_doc *d, const mx_json *list, const struct mx_runconf *c,
                     double *mix, struct mx_err *err)
{
    double sum = 0;
    uint32_t i;
    int rc;

    for (const mx_json *v = mx_json_first(list); v != NULL; v = mx_json_next(v)) {
        if ((rc = find_domain(d, v, c, &i, err)) < 0 ||
            (rc = mx_json_take_double(d, list, mx_json_key(v), true, 0, 1e12, &mix[i], err)) < 0) {
            return rc;
        }
        sum += mix[i];
    }
    if (!(sum > 0)) {
        return mx_json_fail(d, list, err, "the weights sum to %g; at least one must be over 0",
                            sum);
    }
    for (i = 0; i < c->k; i++) {
        mix[i] /= sum;
    }
    return 0;
}

static int take_mix(const struct mx_json_doc *d, const mx_json *v, const struct mx_runconf *c,
                    struct mx_runconf_phase *p, struct mx_err *err)
{
    const mx_json *list = mx_json_get(v, "mix");
    bool needed = p->kind == MX_PHASE_MIX || p->kind == MX_PHASE_ANNEAL;

    if (!needed) {
        return list == NULL ? 0 : mx_json_fail(d, list, err, "only kinds mix and anneal have one; "
                                               "this is %s", kinds[p->kind]);
    }
    if (list == NULL) {
        return mx_json_fail(d, v, err, "kind %s needs a \"mix\"", kinds[p->kind]);
    }
    if (!mx_json_is_object(list)) {
        return mx_json_fail(d, list, err, "must be an object of weights, like {\"web\": 0.7}");
    }
    p->mix = calloc(c->k, sizeof *p->mix);
    if (p->mix == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for a mix of %" PRIu32 " domains", c->k);
    }
    return parse_mix(d, list, c, p->mix, err);
}

/* How an anneal gets to its mix. */
static int take_anneal(const struct mx_json_doc *d, const mx_json *v, struct mx_runconf_phase *p,
                       struct mx_err *err)
{
    static const char *const own[] = {"shape", "freeze"};
    int rc, shape = MX_ANNEAL_LINEAR;
    bool freeze = true;

    for (int i = 0; i < 2 && p->kind != MX_PHASE_ANNEAL; i++) {
        if (mx_json_get(v, own[i]) != NULL) {
            return mx_json_fail(d, mx_json_get(v, own[i]), err, "only kind anneal has one; this is "
                                "%s", kinds[p->kind]);
        }
    }
    if ((rc = mx_runconf_choice(d, v, "shape", shapes, 2, &shape, err)) < 0 ||
        (rc = mx_json_take_bool(d, v, "freeze", false, &freeze, err)) < 0) {
        return rc;
    }
    p->shape = (enum mx_anneal_shape)shape;
    p->blend = !freeze;
    return 0;
}

/* Of a domain that is named, all three are as said here. */
static int parse_limit(const struct mx_json_doc *d, const mx_json *v, struct mx_limit *ret,
                       struct mx_err *err)
{
    static const char *const keys[] = {"floor", "ceiling", "pin", NULL};
    int rc;

    ret->floor = 0;
    ret->ceiling = 1;
    ret->pin = NAN;
    if (!mx_json_is_object(v)) {
        return mx_json_fail(d, v, err, "must be an object, like {\"floor\": 0.05}");
    }
    if ((rc = mx_json_known_keys(d, v, keys, err)) < 0 ||
        (rc = mx_json_take_double(d, v, "floor", false, 0, 1, &ret->floor, err)) < 0 ||
        (rc = mx_json_take_double(d, v, "ceiling", false, 0, 1, &ret->ceiling, err)) < 0) {
        return rc;
    }
    return mx_json_take_double(d, v, "pin", false, 0, 1, &ret->pin, err);
}

static int take_limits(const struct mx_json_doc *d, const mx_json *phase,
                       const struct mx_runconf *c, struct mx_runconf_phase *p, struct mx_err *err)
{
    const mx_json *list = mx_json_get(phase, "limits");
    uint32_t i;
    int rc;

    if (list == NULL) {
        return 0;
    }
    if (!mx_json_is_object(list)) {
        return mx_json_fail(d, list, err, "must be an object, like {\"web\": {\"floor\": 0.05}}");
    }
    p->limits = calloc(c->k, sizeof *p->limits);
    if (p->limits == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for limits of %" PRIu32 " domains", c->k);
    }
    for (i = 0; i < c->k; i++) {
        p->limits[i] = c->domains[i].limit;
    }
    for (const mx_json *v = mx_json_first(list); v != NULL; v = mx_json_next(v)) {
        if ((rc = find_domain(d, v, c, &i, err)) < 0 ||
            (rc = parse_limit(d, v, &p->limits[i], err)) < 0) {
            return rc;
        }
    }
    return mx_runconf_check_limits(d, list, c, p->limits, err);
}

int mx_runschedule_parse(const struct mx_json_doc *d, const mx_json *v, const struct mx_runconf *c,
                         struct mx_runconf_phase *p, struct mx_err *err)
{
    int kind = MX_PHASE_ADAPT;
    int rc = mx_runconf_choice(d, v, "kind", kinds, 4, &kind, err);

    p->kind = (enum mx_phase_kind)kind;
    if (rc < 0 || (rc = take_mix(d, v, c, p, err)) < 0 || (rc = take_anneal(d, v, p, err)) < 0) {
        return rc;
    }
    return take_limits(d, v, c, p, err);
}

int mx_runschedule_make(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                        struct mx_err *err)
{
    if (c->n_phases == 0) {
        return 0;
    }
    if (c->phases[c->n_phases - 1].kind == MX_PHASE_ANNEAL && c->end_steps == UINT64_MAX) {
        return mx_json_fail(d, mx_json_get(root, "phases"), err, "the last phase is an anneal, "
                            "which needs an end: a phase behind it, or \"end\": {\"steps\": N}");
    }
    c->schedule = calloc(c->n_phases, sizeof *c->schedule);
    if (c->schedule == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " phases", c->n_phases);
    }
    for (uint32_t i = 0; i < c->n_phases; i++) {
        const struct mx_runconf_phase *p = &c->phases[i];

        c->schedule[i] = (struct mx_phase){p->from, p->kind, p->shape, p->blend, p->mix, p->limits};
    }
    return 0;
}

void mx_runschedule_clear(struct mx_runconf *c)
{
    for (uint32_t i = 0; i < c->n_phases; i++) {
        free(c->phases[i].mix);
        free(c->phases[i].limits);
    }
    free(c->schedule);
    c->schedule = NULL;
}
