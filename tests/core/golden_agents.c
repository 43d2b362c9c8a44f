/* golden_agents.c - replays traces of multi-agent collaborative selection.
 *
 * A trace gives feedback per attribute value, and records the agents' weights of their values and
 * the console's of the agents; there is no mix in it. So each value becomes a domain that has this
 * one value alone, the n-th feedback of each value the n-th step of a round, and prior and
 * sharpness such that a domain's weight is theta_A w(value): the sums over an agent's values are
 * the theta, and the parts of it the w. */
#include "tests/core/golden.h"

#define AGENTS 3
#define ROUND_MAX 1000

/* Agents in the order of the reference's merged table; where each finds its feedback and weights.
 * */
static const struct {
    const char *weights, *before, *after; /* feedback's key: before + value's name + after */
    const char *prefix, *file_prefix;     /* of the value's name, in weights and in feedback */
} agents[AGENTS] = {
    {"quality_weights", "edu/", ".jsonl", "quality_", "edu_bin_"},
    {"weights", "domain/", ".jsonl", "", ""},
    {"topic_weights", "topic/", ".jsonl", "", ""},
};

struct replay {
    struct golden_mixer m;
    double attributes[GOLDEN_K_MAX * AGENTS];
    uint32_t n_values[AGENTS];
    int round; /* the most feedbacks that a value has in a step */
};

static const cJSON *feedback_of(const cJSON *step, int agent, const char *value)
{
    char key[256];

    (void)snprintf(key, sizeof key, "%s%s%s%s", agents[agent].before, agents[agent].file_prefix,
                   value + strlen(agents[agent].prefix), agents[agent].after);
    return golden_item(golden_item(step, "input"), key);
}

/* A domain per value, in the agents' order. How many, or 0. */
static uint32_t shape_of(struct golden *g, struct replay *r)
{
    const cJSON *first = cJSON_GetArrayItem(golden_item(g->root, "steps"), 0), *value;
    uint32_t k = 0;

    r->round = 0;
    for (int a = 0; a < AGENTS; a++) {
        r->n_values[a] = 0;
        cJSON_ArrayForEach(value, golden_item(first, agents[a].weights)) {
            int n = cJSON_GetArraySize(feedback_of(first, a, value->string));

            if (k == GOLDEN_K_MAX || n > ROUND_MAX) {
                golden_fail(g, "feedback of %s can't be read", value->string);
                return 0;
            }
            r->round = n > r->round ? n : r->round;
            for (int b = 0; b < AGENTS; b++) {
                r->attributes[k * AGENTS + (uint32_t)b] = b == a ? r->n_values[a] : -1.0;
            }
            r->n_values[a]++;
            r->m.prior[k++] = 1.0;
        }
    }
    return k;
}

static void set_params(struct golden *g, struct replay *r)
{
    static const struct {
        const char *trace, *param;
    } names[] = {{"eta", "eta"}, {"scale_score", "scale"}, {"initial_agent_weight", "initial"},
                 {"beta", "beta"}};
    const cJSON *theta;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const cJSON *v = golden_item(g->params, names[i].trace);

        if (cJSON_IsNumber(v)) {
            golden_param(g, &r->m, names[i].param, v->valuedouble);
        }
    }
    cJSON_ArrayForEach(theta, golden_item(g->params, "initial_collaborative")) {
        if (fabs(theta->valuedouble - 1.0 / AGENTS) > GOLDEN_TOLERANCE) {
            golden_fail(g, "initial_collaborative: agents don't begin alike");
        }
    }
    golden_param(g, &r->m, "console", 1); /* reference */
    golden_param(g, &r->m, "normalize", 0);
    golden_param(g, &r->m, "round", r->round);
    r->m.c.policy.n_attributes = AGENTS;
    r->m.c.policy.attributes = r->attributes;
    memcpy(r->m.c.policy.n_values, r->n_values, sizeof r->n_values);
}

/* The i-th feedback of each value that has so many. How many, or -1. */
static int feedbacks_of(const cJSON *step, int i, uint32_t k, struct mx_reward_stats *ret)
{
    uint32_t domain = 0;
    int n = 0;

    for (int a = 0; a < AGENTS; a++) {
        const cJSON *value;

        cJSON_ArrayForEach(value, golden_item(step, agents[a].weights)) {
            const cJSON *v = cJSON_GetArrayItem(feedback_of(step, a, value->string), i);

            if (domain == k) {
                return -1;
            }
            ret[n] = (struct mx_reward_stats){.domain = domain++, .count = 1};
            if (v != NULL && (golden_number(v, &ret[n].mean) != 0 || !isfinite(ret[n++].mean))) {
                return -1;
            }
        }
    }
    return n;
}

/* A round: a step per feedback. All steps of a trace have to have as many, or rounds would not end.
 * */
static void show(struct golden *g, struct replay *r, const cJSON *step, int at)
{
    struct mx_reward_stats rewards[GOLDEN_K_MAX];

    for (int i = 0; i <= r->round; i++) {
        int n = feedbacks_of(step, i, r->m.c.policy.k, rewards);

        if (n < 0 || (n > 0) != (i < r->round)) {
            golden_fail(g, "step %d: %d-th feedback can't be read", at, i);
            return;
        }
        if (n > 0) {
            golden_observe(&r->m, &(struct mx_observation){(uint64_t)(at * r->round + i) + 1,
                                                           .reward = rewards,
                                                           .n_reward = (uint32_t)n});
        }
    }
}

static void check(struct golden *g, const double *got, uint32_t n, const double *want,
                  const char *what, int at)
{
    for (uint32_t i = 0; i < n; i++) {
        double error = fabs(got[i] - want[i]) / fabs(want[i]);

        g->error = fmax(g->error, error);
        if (!(error <= GOLDEN_TOLERANCE)) {
            golden_fail(g, "step %d: %s %u is %.17g, not %.17g", at, what, i, got[i], want[i]);
        }
    }
}

static void compare_step(struct golden *g, const struct replay *r, const cJSON *step, int at)
{
    double theta[AGENTS], want_theta[AGENTS];
    uint32_t k = 0;

    for (int a = 0; a < AGENTS; a++) {
        double part[GOLDEN_K_MAX], want[GOLDEN_K_MAX];
        const cJSON *value;
        uint32_t n = 0;

        theta[a] = 0.0;
        cJSON_ArrayForEach(value, golden_item(step, agents[a].weights)) {
            want[n] = value->valuedouble;
            part[n] = r->m.weights[k++];
            theta[a] += part[n++];
        }
        for (uint32_t i = 0; i < n; i++) {
            part[i] /= theta[a];
        }
        check(g, part, n, want, agents[a].weights, at);
    }
    if (golden_numbers(golden_item(step, "collaborative_weights"), want_theta, AGENTS) != AGENTS) {
        golden_fail(g, "step %d: no collaborative_weights", at);
        return;
    }
    check(g, theta, AGENTS, want_theta, "collaborative weight", at);
    golden_sound(g, r->m.weights, k, at);
    g->steps++;
}

void golden_agents(struct golden *g)
{
    struct replay r;
    const cJSON *step;
    uint32_t k = shape_of(g, &r);
    int at = 0;

    if (k == 0) {
        golden_fail(g, "no step says what values there are");
        return;
    }
    golden_begin(g, &r.m, "agents", k, k);
    set_params(g, &r);
    golden_ready(g, &r.m);
    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        if (g->trouble[0] == '\0') {
            show(g, &r, step, at);
        }
        if (g->trouble[0] == '\0') {
            compare_step(g, &r, step, at++);
        }
    }
    golden_end(&r.m);
}
