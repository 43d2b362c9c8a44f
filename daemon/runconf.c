/* runconf.c - see runconf.h. */
#include "daemon/runconf.h"

#include "daemon/runphases.h"
#include "daemon/runpolicy.h"
#include "daemon/runschedule.h"
#include "store/catalog.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char *const sampling_names[] = {"systematic", "iid", "block"};
static const char *const exhausted_names[] = {"redistribute", "stop", "repeat"};

const char *mx_sampling_name(enum mx_sampling s)
{
    return sampling_names[s];
}

int mx_runconf_choice(const struct mx_json_doc *d, const mx_json *o, const char *key,
                      const char *const *names, int n, int *ret, struct mx_err *err)
{
    const char *s = NULL;
    int rc = mx_json_take_string(d, o, key, false, &s, err);
    char all[128] = "";

    if (rc < 0 || s == NULL) {
        return rc;
    }
    for (int i = 0; i < n; i++) {
        if (strcmp(s, names[i]) == 0) {
            *ret = i;
            return 0;
        }
        (void)snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i > 0 ? ", " : "",
                       names[i]);
    }
    return mx_json_fail(d, mx_json_get(o, key), err, "\"%s\" is none of %s", s, all);
}

const struct mx_runconf_phase *mx_runconf_phase_at(const struct mx_runconf *c, uint64_t step)
{
    uint32_t i = c->n_phases;

    while (i > 1 && c->phases[i - 1].from > step) {
        i--;
    }
    return i > 0 ? &c->phases[i - 1] : NULL;
}

const struct mx_limit *mx_runconf_limit(const struct mx_runconf *c, uint64_t step, uint32_t i)
{
    const struct mx_runconf_phase *p = mx_runconf_phase_at(c, step);

    return p != NULL && p->limits != NULL ? &p->limits[i] : &c->domains[i].limit;
}

static int parse_domain(const struct mx_json_doc *d, const mx_json *v, struct mx_runconf_domain *ret,
                        struct mx_err *err)
{
    static const char *const keys[] = {"weight", "max_epochs", "floor", "ceiling", "pin",
                                       "on_exhausted", "attributes", NULL};
    int exhausted = MX_EXHAUSTED_REDISTRIBUTE;
    struct mx_err why;
    int rc;

    if (mx_name_check(mx_json_key(v), strlen(mx_json_key(v)), "a domain", &why) < 0) {
        return mx_json_fail(d, v, err, "%s", why.text);
    }
    (void)snprintf(ret->name, sizeof ret->name, "%s", mx_json_key(v));
    ret->weight = NAN;
    ret->limit = (struct mx_limit){.floor = 0, .ceiling = 1, .pin = NAN, .open = 1};
    if (!mx_json_is_object(v)) {
        return mx_json_fail(d, v, err, "must be an object, like {\"weight\": 0.5}");
    }
    if ((rc = mx_json_known_keys(d, v, keys, err)) < 0 ||
        (rc = mx_json_take_double(d, v, "weight", false, 0, 1e12, &ret->weight, err)) < 0 ||
        (rc = mx_json_take_double(d, v, "max_epochs", false, 1e-6, 1e9, &ret->max_epochs, err)) < 0 ||
        (rc = mx_json_take_double(d, v, "floor", false, 0, 1, &ret->limit.floor, err)) < 0 ||
        (rc = mx_json_take_double(d, v, "ceiling", false, 0, 1, &ret->limit.ceiling, err)) < 0 ||
        (rc = mx_json_take_double(d, v, "pin", false, 0, 1, &ret->limit.pin, err)) < 0 ||
        (rc = mx_runconf_choice(d, v, "on_exhausted", exhausted_names, 3, &exhausted, err)) < 0) {
        return rc;
    }
    ret->on_exhausted = (enum mx_on_exhausted)exhausted;
    return 0;
}

int mx_runconf_check_limits(const struct mx_json_doc *d, const mx_json *list,
                            const struct mx_runconf *c, const struct mx_limit *limits,
                            struct mx_err *err)
{
    size_t bad = 0;
    double sum = 0;

    for (uint32_t i = 0; i < c->k; i++) { /* live, a pin wins; in one config it is a mistake */
        const struct mx_limit *l = &limits[i];

        if (l->pin < l->floor || l->pin > l->ceiling) {
            return mx_json_fail(d, mx_json_get(list, c->domains[i].name), err,
                                "pin %g is %s %g", l->pin,
                                l->pin < l->floor ? "under floor" : "over ceiling",
                                l->pin < l->floor ? l->floor : l->ceiling);
        }
    }
    switch (mx_limits_check(limits, c->k, &bad, &sum)) {
    case MX_LIMITS_OK: return 0;
    case MX_LIMITS_RANGE:
        return mx_json_fail(d, mx_json_get(list, c->domains[bad].name), err,
                            "a floor, ceiling or pin isn't in 0..1");
    case MX_LIMITS_CROSSED:
        return mx_json_fail(d, mx_json_get(list, c->domains[bad].name), err,
                            "floor %g is over ceiling %g", limits[bad].floor, limits[bad].ceiling);
    case MX_LIMITS_OVER:
        return mx_json_fail(d, list, err, "floors and pins sum to %g, over 1", sum);
    case MX_LIMITS_UNDER:
        return mx_json_fail(d, list, err, "ceilings and pins sum to %g, under 1", sum);
    case MX_LIMITS_CLOSED: break;
    }
    return mx_json_fail(d, list, err, "no domain can be drawn from");
}

/* Weights of all or of none, not all zero; limits that can be met together. */
static int check_domains(const struct mx_json_doc *d, const mx_json *list, struct mx_runconf *c,
                         struct mx_err *err)
{
    uint32_t with = 0;
    double sum = 0;
    struct mx_limit *limits;
    int rc;

    for (uint32_t i = 0; i < c->k; i++) {
        with += isnan(c->domains[i].weight) ? 0 : 1;
        sum += isnan(c->domains[i].weight) ? 0 : c->domains[i].weight;
    }
    if (with != 0 && with != c->k) {
        return mx_json_fail(d, list, err, "%" PRIu32 " of %" PRIu32 " domains have a \"weight\"; "
                            "give it to all, or to none for weights by size", with, c->k);
    }
    if (with > 0 && !(sum > 0)) {
        return mx_json_fail(d, list, err, "the weights sum to %g; at least one must be over 0",
                            sum);
    }
    limits = calloc(c->k, sizeof *limits);
    if (limits == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " domains", c->k);
    }
    for (uint32_t i = 0; i < c->k; i++) {
        limits[i] = c->domains[i].limit;
    }
    rc = mx_runconf_check_limits(d, list, c, limits, err);
    free(limits);
    return rc;
}

static int parse_domains(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                         struct mx_err *err)
{
    const mx_json *list = mx_json_get(root, "domains");
    uint32_t n;
    int rc;

    if (list == NULL) {
        return mx_json_fail(d, root, err, "key \"domains\" is missing");
    }
    n = mx_json_is_object(list) ? mx_json_count(list) : 0;
    if (n == 0 || n > MX_DOMAINS_MAX) {
        return mx_json_fail(d, list, err, "must be an object of 1 to %u domains", MX_DOMAINS_MAX);
    }
    c->domains = calloc(n, sizeof *c->domains);
    if (c->domains == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " domains", n);
    }
    for (const mx_json *v = mx_json_first(list); v != NULL; v = mx_json_next(v)) {
        if ((rc = parse_domain(d, v, &c->domains[c->k], err)) < 0) {
            return rc;
        }
        c->k++;
    }
    return check_domains(d, list, c, err);
}

static int parse_feedback(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                          struct mx_err *err)
{
    static const char *const keys[] = {"mode", "lag", "timeout_s", "quorum", "loss_max",
                                       "divergence", NULL};
    static const char *const modes[] = {"async", "lockstep"};
    const mx_json *o = mx_json_get(root, "feedback");
    int mode = 0;
    int rc;

    if (o == NULL) {
        return 0;
    }
    if (!mx_json_is_object(o)) {
        return mx_json_fail(d, o, err, "must be an object");
    }
    if ((rc = mx_json_known_keys(d, o, keys, err)) < 0 ||
        (rc = mx_runconf_choice(d, o, "mode", modes, 2, &mode, err)) < 0) {
        return rc;
    }
    if (mode == 1) { /* whoever is missing is waited for: what is planned hangs on no clock */
        c->lag = 1;
        c->timeout_s = 0;
    } else if (mx_json_get(o, "lag") != NULL) {
        return mx_json_fail(d, mx_json_get(o, "lag"), err, "only \"mode\": \"lockstep\" has a lag");
    }
    if ((rc = mx_json_take_u64(d, o, "lag", false, 1, mx_run_lag_max(c->k), &c->lag, err)) < 0 ||
        (rc = mx_json_take_u64(d, o, "timeout_s", false, 1, 86400, &c->timeout_s, err)) < 0 ||
        (rc = mx_json_take_double(d, o, "quorum", false, 0, 1, &c->quorum, err)) < 0 ||
        (rc = mx_json_take_double(d, o, "divergence", false, 0, 1, &c->divergence, err)) < 0) {
        return rc;
    }
    return mx_json_take_double(d, o, "loss_max", false, 1e-3, 1e4, &c->loss_max, err);
}

static int parse_numbers(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                         struct mx_err *err)
{
    static const char *const end_keys[] = {"steps", NULL};
    const mx_json *end = mx_json_get(root, "end");
    int sampling = 0;
    int rc;

    if ((rc = mx_json_take_u64(d, root, "seed", false, 0, (uint64_t)1 << 53, &c->seed, err)) < 0 ||
        (rc = mx_json_take_u64(d, root, "batch_size", true, 1, MX_BATCH_MAX, &c->batch_size,
                               err)) < 0 ||
        (rc = mx_json_take_u64(d, root, "seq_len", true, 1, MX_SEQ_LEN_MAX, &c->seq_len, err)) < 0 ||
        (rc = mx_runconf_choice(d, root, "sampling", sampling_names, 3, &sampling, err)) < 0 ||
        (rc = mx_json_take_u64(d, root, "block", false, 1, MX_BATCH_MAX, &c->block, err)) < 0 ||
        (rc = mx_json_take_u64(d, root, "window", false, 1, 65536, &c->window, err)) < 0 ||
        (rc = mx_json_take_u64(d, root, "max_ahead", false, 1, 1u << 20, &c->max_ahead, err)) < 0 ||
        (rc = mx_json_take_u64(d, root, "reserve_steps", false, 1, 1u << 20, &c->reserve_steps,
                               err)) < 0 ||
        (rc = mx_json_take_u64(d, root, "snapshot_steps", false, 1, 1u << 20, &c->snapshot_steps,
                               err)) < 0 ||
        (rc = mx_json_take_u64(d, root, "lead", false, 0, 1u << 20, &c->lead, err)) < 0 ||
        (rc = mx_json_take_u64(d, root, "warn_steps", false, 0, MX_STEP_MAX, &c->warn_steps,
                               err)) < 0) {
        return rc;
    }
    c->sampling = (enum mx_sampling)sampling;
    if (c->sampling != MX_SAMPLING_BLOCK && mx_json_get(root, "block") != NULL) {
        return mx_json_fail(d, mx_json_get(root, "block"), err,
                            "only \"sampling\": \"block\" has blocks");
    }
    if (c->batch_size % c->block != 0) {
        return mx_json_fail(d, mx_json_get(root, "block"), err, "%" PRIu64 " doesn't divide "
                            "batch_size %" PRIu64, c->block, c->batch_size);
    }
    if (end == NULL) {
        return 0;
    }
    if (!mx_json_is_object(end)) {
        return mx_json_fail(d, end, err, "must be an object, like {\"steps\": 10000}");
    }
    if ((rc = mx_json_known_keys(d, end, end_keys, err)) < 0) {
        return rc;
    }
    return mx_json_take_u64(d, end, "steps", false, 1, MX_STEP_MAX, &c->end_steps, err);
}

static int parse_root(const struct mx_json_doc *d, const char *run_name, struct mx_runconf *c,
                      struct mx_err *err)
{
    static const char *const keys[] = {
        "name", "seed", "batch_size", "seq_len", "sampling", "block", "window", "max_ahead",
        "reserve_steps", "snapshot_steps", "lead", "warn_steps", "adopt", "domains", "policy",
        "eval_sets", "shadows", "shadow_steps", "feedback", "end", "phases", NULL};
    static const char *const adopts[] = {"epoch", "never"};
    const mx_json *root = mx_json_root(d);
    const char *name = run_name;
    struct mx_err why;
    int rc, adopt = 0;

    if (!mx_json_is_object(root)) {
        return mx_json_fail(d, root, err, "a run's config must be one object");
    }
    if ((rc = mx_json_known_keys(d, root, keys, err)) < 0) {
        return rc;
    }
    if (name == NULL && (rc = mx_json_take_string(d, root, "name", true, &name, err)) < 0) {
        return rc;
    }
    if ((rc = mx_name_check(name, strlen(name), "a run", &why)) < 0) {
        return mx_json_fail(d, mx_json_get(root, "name"), err, "%s", why.text);
    }
    (void)snprintf(c->name, sizeof c->name, "%s", name);
    if ((rc = parse_numbers(d, root, c, err)) < 0 ||
        (rc = parse_domains(d, root, c, err)) < 0 ||
        (rc = mx_runpolicy_parse(d, root, c, err)) < 0 ||
        (rc = mx_runphases_parse(d, root, c, err)) < 0 ||
        (rc = mx_runphases_parts(d, root, c, err)) < 0 ||
        (rc = mx_runconf_choice(d, root, "adopt", adopts, 2, &adopt, err)) < 0) {
        return rc;
    }
    c->adopt = adopt == 0;
    return parse_feedback(d, root, c, err);
}

int mx_runconf_parse(const char *name, const char *text, size_t n, const char *run_name,
                     struct mx_runconf *ret, struct mx_err *err)
{
    struct mx_json_doc *d;
    int rc = mx_json_parse(name, text, n, &d, err);

    if (rc < 0) {
        return rc;
    }
    *ret = (struct mx_runconf){
        .block = 1, .window = 64, .max_ahead = 1024, .reserve_steps = 64, .snapshot_steps = 256,
        .lead = 1, .end_steps = UINT64_MAX, .timeout_s = 60, .loss_max = 100,
        .divergence = 1e-6, .warn_steps = 1000, .shadow_steps = 10,
    };
    rc = parse_root(d, run_name, ret, err);
    mx_json_free(d);
    if (rc < 0) {
        mx_runconf_clear(ret);
    }
    return rc;
}

void mx_runconf_clear(struct mx_runconf *c)
{
    mx_runpolicy_clear(c);
    mx_runschedule_clear(c);
    free(c->domains);
    free(c->phases);
    free(c->parts);
    c->domains = NULL;
    c->phases = NULL;
    c->n_phases = 0;
    c->parts = NULL;
}

struct mx_run_config mx_runconf_core(const struct mx_runconf *c, const struct mx_plan_spec *plan)
{
    return (struct mx_run_config){
        .plan = *plan, .seq_len = (uint32_t)c->unit, .max_ahead = (uint32_t)c->max_ahead,
        .reserve_steps = (uint32_t)c->reserve_steps,
        .snapshot_steps = (uint32_t)c->snapshot_steps, .lead = (uint32_t)c->lead,
        .end_step = c->end_steps, .lag = (uint32_t)c->lag, .quorum = c->quorum,
        .feedback_timeout_ms = c->timeout_s > 0 ? c->timeout_s * 1000 : UINT64_MAX,
        .loss_max = c->loss_max, .phases = c->schedule, .n_phases = c->n_phases,
        .mixers = c->mixers, .n_mixers = c->n_mixers, .shadow_steps = (uint32_t)c->shadow_steps,
        .eval_sets = c->eval_sizes, .n_eval_sets = c->n_eval_sets,
    };
}
