/* runphases.c - see runphases.h. Knows nothing of domains or policies. */
#include "daemon/runphases.h"

#include "daemon/runschedule.h"
#include "store/catalog.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* The step that "from" says, or the part of the run that "at" does. */
static int take_begin(const struct mx_json_doc *d, const mx_json *v, const struct mx_runconf *c,
                      struct mx_runconf_phase *p, struct mx_err *err)
{
    const struct mx_runconf_phase *before = c->n_phases > 0 ? &c->phases[c->n_phases - 1] : NULL;
    const mx_json *from = mx_json_get(v, "from"), *at = mx_json_get(v, "at");
    double part = 0;
    int rc;

    if (from != NULL && at != NULL) {
        return mx_json_fail(d, at, err, "a phase has \"from\" (a step) or \"at\" (a part of the "
                            "run), not both");
    }
    if (at != NULL && c->end_steps == UINT64_MAX) {
        return mx_json_fail(d, at, err, "is a part of \"end\": {\"steps\": N}, which this run "
                            "doesn't have");
    }
    if ((rc = mx_json_take_u64(d, v, "from", before != NULL && at == NULL, 0, MX_STEP_MAX,
                               &p->from, err)) < 0 ||
        (rc = mx_json_take_double(d, v, "at", false, 0, 1, &part, err)) < 0) {
        return rc;
    }
    if (at != NULL) {
        p->from = (uint64_t)llround(part * (double)c->end_steps);
    }
    at = at != NULL ? at : from;
    if (before != NULL && p->from <= before->from) {
        return mx_json_fail(d, at, err, "phases must rise: %" PRIu64 " comes after %" PRIu64,
                            p->from, before->from);
    }
    if (p->from >= c->end_steps) {
        return mx_json_fail(d, at, err, "step %" PRIu64 " isn't one of the run's %" PRIu64, p->from,
                            c->end_steps);
    }
    return 0;
}

static int take_name(const struct mx_json_doc *d, const mx_json *v, struct mx_runconf_phase *p,
                     struct mx_err *err)
{
    const char *name = mx_phase_kind_name(p->kind);
    int rc = mx_json_take_string(d, v, "name", false, &name, err);
    struct mx_err why;

    if (rc < 0) {
        return rc;
    }
    if (mx_name_check(name, strlen(name), "a phase", &why) < 0) {
        return mx_json_fail(d, mx_json_get(v, "name"), err, "%s", why.text);
    }
    (void)snprintf(p->name, sizeof p->name, "%s", name);
    return 0;
}

static int parse_phase(const struct mx_json_doc *d, const mx_json *v, const struct mx_runconf *c,
                       struct mx_runconf_phase *p, struct mx_err *err)
{
    static const char *const keys[] = {"name", "from", "at", "kind", "mix", "shape", "freeze",
                                       "limits", "batch_size", "seq_len", "block", NULL};
    int rc;

    if (!mx_json_is_object(v)) {
        return mx_json_fail(d, v, err,
                            "must be an object, like {\"from\": 1000, \"seq_len\": 512}");
    }
    if ((rc = mx_json_known_keys(d, v, keys, err)) < 0 || (rc = take_begin(d, v, c, p, err)) < 0 ||
        (rc = mx_json_take_u64(d, v, "batch_size", false, 1, MX_BATCH_MAX, &p->batch_size,
                               err)) < 0 ||
        (rc = mx_json_take_u64(d, v, "seq_len", false, 1, MX_SEQ_LEN_MAX, &p->seq_len, err)) < 0 ||
        (rc = mx_json_take_u64(d, v, "block", false, 1, MX_BATCH_MAX, &p->block, err)) < 0) {
        return rc;
    }
    if (c->sampling != MX_SAMPLING_BLOCK && mx_json_get(v, "block") != NULL) {
        return mx_json_fail(d, mx_json_get(v, "block"), err,
                            "only \"sampling\": \"block\" has blocks");
    }
    if (p->batch_size % p->block != 0) {
        return mx_json_fail(d, v, err, "block %" PRIu64 " doesn't divide batch_size %" PRIu64,
                            p->block, p->batch_size);
    }
    rc = mx_runschedule_parse(d, v, c, p, err);
    return rc < 0 ? rc : take_name(d, v, p, err);
}

static struct mx_runconf_phase the_runs_own(const struct mx_runconf *c)
{
    return (struct mx_runconf_phase){.name = "adapt", .batch_size = c->batch_size,
                                     .seq_len = c->seq_len, .block = c->block};
}

int mx_runphases_parse(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                       struct mx_err *err)
{
    const mx_json *list = mx_json_get(root, "phases");
    uint32_t n;

    if (list == NULL) {
        return 0;
    }
    n = mx_json_is_array(list) ? mx_json_count(list) : 0;
    if (n == 0 || n >= MX_PARTS_MAX) { /* and there may be one before them */
        return mx_json_fail(d, list, err, "must be a list of 1 to %u phases", MX_PARTS_MAX - 1);
    }
    c->phases = calloc(n + 1, sizeof *c->phases);
    if (c->phases == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " phases", n);
    }
    for (const mx_json *v = mx_json_first(list); v != NULL; v = mx_json_next(v)) {
        struct mx_runconf_phase p = the_runs_own(c);
        int rc = parse_phase(d, v, c, &p, err);

        if (c->n_phases == 0 && p.from > 0) {
            c->phases[c->n_phases++] = the_runs_own(c);
        }
        c->phases[c->n_phases++] = p; /* what it owns is cleared with the others */
        if (rc < 0) {
            return rc;
        }
    }
    return mx_runschedule_make(d, root, c, err);
}

/* ---- parts ---- */

/* The unit divides every length, and each length the longest. */
static int check_lengths(const struct mx_json_doc *d, const mx_json *list,
                         const struct mx_runconf_phase *all, uint32_t n, uint64_t *ret_unit,
                         struct mx_err *err)
{
    uint64_t unit = UINT64_MAX, longest = 0;

    for (uint32_t i = 0; i < n; i++) {
        unit = all[i].seq_len < unit ? all[i].seq_len : unit;
        longest = all[i].seq_len > longest ? all[i].seq_len : longest;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (all[i].seq_len % unit != 0) {
            return mx_json_fail(d, list, err, "seq_len %" PRIu64 " from step %" PRIu64
                                " isn't a multiple of the run's shortest, %" PRIu64,
                                all[i].seq_len, all[i].from, unit);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t length = all[i].seq_len / unit;

        if (longest % all[i].seq_len != 0) {
            return mx_json_fail(d, list, err, "seq_len %" PRIu64 " from step %" PRIu64
                                " doesn't divide the run's longest, %" PRIu64, all[i].seq_len,
                                all[i].from, longest);
        }
        if (all[i].batch_size * length > MX_STEP_UNITS_MAX) {
            return mx_json_fail(d, list, err, "batch_size %" PRIu64 " of seq_len %" PRIu64
                                " from step %" PRIu64 " makes %" PRIu64 " times the shortest, %"
                                PRIu64 "; the most is %u", all[i].batch_size, all[i].seq_len,
                                all[i].from, all[i].batch_size * length, unit, MX_STEP_UNITS_MAX);
        }
    }
    *ret_unit = unit;
    return 0;
}

int mx_runphases_parts(const struct mx_json_doc *d, const mx_json *root, struct mx_runconf *c,
                       struct mx_err *err)
{
    const struct mx_runconf_phase own = the_runs_own(c);
    const struct mx_runconf_phase *all = c->n_phases > 0 ? c->phases : &own;
    uint32_t n = c->n_phases > 0 ? c->n_phases : 1;
    int rc = check_lengths(d, mx_json_get(root, "phases"), all, n, &c->unit, err);

    if (rc < 0) {
        return rc;
    }
    c->parts = calloc(n, sizeof *c->parts);
    if (c->parts == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for %" PRIu32 " phases", n);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct mx_plan_part *last = c->n_parts > 0 ? &c->parts[c->n_parts - 1] : NULL;
        struct mx_plan_part part = {all[i].from, (uint32_t)all[i].batch_size,
                                    (uint32_t)all[i].block, (uint32_t)(all[i].seq_len / c->unit)};

        if (last == NULL || last->batch != part.batch || last->block != part.block ||
            last->length != part.length || all[i].limits != all[i - 1].limits) {
            c->parts[c->n_parts++] = part;
        }
    }
    c->batch_size = c->parts[0].batch;
    c->block = c->parts[0].block;
    c->seq_len = c->parts[0].length * c->unit;
    return 0;
}
