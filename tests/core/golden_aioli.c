/* golden_aioli.c - replays traces of Aioli: rounds of bursts with their evaluations.
 *
 * A step of the trace is a round. Its step c (done so far) is our step c + 1, so that an
 * evaluation before any training has a step to be reported with. Every mix is in force from the
 * step after the evaluation that made it, as in the reference. The order of bursts is the recorded
 * one, put into the policy's state; so the policy is driven behind its guards, which change
 * nothing here. Compared are the mixture of every burst, that it asks for the very evaluation that
 * comes, and the weights of the rest of the round. */
#include "daemon/core/policies.h"
#include "tests/core/golden.h"

struct sweep {
    struct golden_mixer m;
    const struct mx_policy_conf *p;
    double *state; /* the policy's, last in the mixer's block */
    double weights[GOLDEN_K_MAX];
    uint64_t t;
};

static double number_or(const cJSON *o, const char *key, double fallback)
{
    double v = fallback;

    if (cJSON_IsBool(golden_item(o, key))) {
        return cJSON_IsTrue(golden_item(o, key));
    }
    return golden_number(golden_item(o, key), &v) == 0 ? v : fallback;
}

static void set_params(struct golden *g, struct golden_mixer *m)
{
    static const struct {
        const char *theirs, *ours;
    } same[] = {
        {"lp_rounds", "lp_rounds"},           {"lp_steps", "lp_steps"},
        {"update_steps", "update_steps"},     {"eta", "eta"},
        {"one_hot_factor", "one_hot_factor"}, {"aioli_normalize_A", "normalize"},
        {"aioli_diagonal", "diagonal"},       {"ema", "ema"},
    };

    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        double v = number_or(g->params, same[i].theirs, NAN);

        if (!isnan(v)) {
            golden_param(g, m, same[i].ours, v);
        } else if (strcmp(same[i].theirs, "ema") != 0) {
            golden_fail(g, "no %s", same[i].theirs);
        }
    }
    golden_param(g, m, "accumulate", isnan(number_or(g->params, "ema", NAN)));
}

/* Shows an evaluation after step s->t, for which the policy must have asked. */
static void show(struct golden *g, struct sweep *s, const cJSON *losses, int round)
{
    struct mx_domain_stats stats[GOLDEN_K_MAX];
    struct mx_policy_request asked;
    double values[GOLDEN_K_MAX];
    uint32_t k = s->p->k;

    if (golden_numbers(losses, values, GOLDEN_K_MAX) != (int)k) {
        golden_fail(g, "round %d: an evaluation hasn't %u losses", round, k);
        return;
    }
    if (s->p->ops->requests(s->state, s->p, &asked, 1) != 1 || asked.eval_after != s->t) {
        golden_fail(g, "round %d: no evaluation asked for after step %llu", round,
                    (unsigned long long)s->t);
    }
    for (uint32_t i = 0; i < k; i++) {
        stats[i] = (struct mx_domain_stats){i, 1, 0, values[i]};
    }
    s->p->ops->observe(s->state, s->p,
                       &(struct mx_observation){.t = s->t, .eval = stats, .n_eval = k});
}

/* The order of the sweep that begins with burst `at`, from the trace. */
static void put_order(struct golden *g, struct sweep *s, const cJSON *sweeps, int at, int round)
{
    double *order = mx_aioli_order(s->state);

    for (int i = 0; i < (int)s->p->k; i++) {
        order[i] = number_or(cJSON_GetArrayItem(sweeps, at + i), "onehot", -1.0);
        if (!(order[i] >= 0.0 && order[i] < s->p->k)) {
            golden_fail(g, "round %d: burst %d is of no domain", round, at + i);
            order[i] = 0.0;
        }
    }
}

static void replay_round(struct golden *g, struct sweep *s, const cJSON *step, int round)
{
    const cJSON *input = golden_item(step, "input"), *sweeps = golden_item(input, "sweeps"), *burst;
    uint64_t lp_steps = (uint64_t)number_or(g->params, "lp_steps", 0.0);
    int at = 0, before = g->steps;

    s->t = (uint64_t)number_or(input, "counter_before", NAN) + 1;
    show(g, s, golden_item(input, "loss_before"), round);
    cJSON_ArrayForEach(burst, sweeps) {
        if (g->trouble[0] != '\0') {
            return;
        }
        if (at % (int)s->p->k == 0) {
            put_order(g, s, sweeps, at, round);
        }
        s->p->ops->in_force(s->state, s->p, s->t + 1);
        s->p->ops->weights(s->state, s->p, s->weights);
        golden_compare(g, s->weights, s->p->k, golden_item(burst, "mixture"), GOLDEN_TOLERANCE,
                       round);
        s->t += lp_steps;
        show(g, s, golden_item(burst, "loss_after"), round);
        at++;
    }
    s->p->ops->in_force(s->state, s->p, s->t + 1);
    s->p->ops->weights(s->state, s->p, s->weights);
    golden_compare(g, s->weights, s->p->k, golden_item(step, "weights"), GOLDEN_TOLERANCE, round);
    g->steps = before + 1;
}

void golden_aioli(struct golden *g)
{
    double k = number_or(g->params, "K", 0.0);
    const cJSON *step;
    struct sweep s;
    int round = 0;

    if (!(k >= 1.0 && k <= GOLDEN_K_MAX)) {
        golden_fail(g, "no K");
        return;
    }
    for (uint32_t i = 0; i < (uint32_t)k; i++) {
        s.m.prior[i] = 1.0;
    }
    golden_begin(g, &s.m, "aioli", (uint32_t)k, (uint32_t)k);
    set_params(g, &s.m);
    golden_ready(g, &s.m);
    if (g->trouble[0] == '\0') {
        s.p = &s.m.c.policy;
        s.state = s.m.state + mx_mixer_size(&s.m.c) - s.p->ops->state_size(s.p);
    }
    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        if (g->trouble[0] == '\0') {
            replay_round(g, &s, step, round++);
        }
    }
    golden_end(&s.m);
}
