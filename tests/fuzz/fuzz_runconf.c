/* fuzz_runconf.c - a run's config: any bytes are refused with a text, or give a config in range. */
#include "daemon/runconf.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a config lets through the core takes. */
static void check_schedule(const struct mx_runconf *c)
{
    struct mx_limit *limits = calloc(c->k, sizeof *limits);
    struct mx_schedule s = {c->schedule, c->n_phases, c->k, c->end_steps, NULL, limits};

    MX_REQUIRE(limits != NULL);
    for (uint32_t i = 0; i < c->k; i++) {
        limits[i] = c->domains[i].limit;
    }
    MX_REQUIRE(mx_schedule_ok(&s));
    MX_REQUIRE(c->n_parts >= 1 && c->parts[0].from_step == 0);
    for (uint32_t i = 0; i < c->n_phases; i++) {
        MX_REQUIRE(mx_runconf_phase_at(c, c->phases[i].from) == &c->phases[i]);
        MX_REQUIRE(c->phases[i].name[0] != '\0');
    }
    free(limits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mx_runconf c;
    struct mx_err err = {0};

    if (mx_runconf_parse("fuzz", (const char *)data, size, NULL, &c, &err) < 0) {
        MX_REQUIRE(err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
        return 0;
    }
    MX_REQUIRE(c.batch_size >= 1 && c.batch_size <= MX_BATCH_MAX && c.seq_len >= 1);
    MX_REQUIRE(c.batch_size % c.block == 0 && c.k >= 1 && c.n_mixers >= 1);
    MX_REQUIRE(c.n_parts >= 1 && c.parts[0].from_step == 0 && c.unit >= 1);
    for (uint32_t i = 0; i < c.n_parts; i++) {
        MX_REQUIRE(c.parts[i].batch % c.parts[i].block == 0 && c.parts[i].length >= 1);
        MX_REQUIRE(c.parts[i].batch <= MX_BATCH_MAX);
        MX_REQUIRE(c.parts[i].length * c.unit <= MX_SEQ_LEN_MAX);
        MX_REQUIRE(i == 0 || c.parts[i].from_step > c.parts[i - 1].from_step);
    }
    for (uint32_t i = 0; i < c.k; i++) {
        MX_REQUIRE(c.domains[i].limit.floor >= 0 && c.domains[i].limit.ceiling <= 1);
        MX_REQUIRE(isnan(c.domains[i].weight) || c.domains[i].weight >= 0);
    }
    for (uint32_t i = 0; i < c.n_mixers; i++) {
        const struct mx_mixer_conf *m = &c.mixers[i];

        MX_REQUIRE(m->policy.ops != NULL && m->policy.k == c.k && m->policy.m >= 1);
        MX_REQUIRE(m->eval_set < c.n_eval_sets && m->guards.max_change > 0);
        for (size_t j = 0; j < m->policy.ops->n_params; j++) {
            MX_REQUIRE(isfinite(m->policy.params[j]));
        }
    }
    check_schedule(&c);
    mx_runconf_clear(&c);
    return 0;
}
