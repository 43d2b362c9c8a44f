/* policy_agents.c - multi-agent collaborative selection: an agent per attribute, a console over
 * them.
 *
 * Bai, Yang, Wong, Peng and others, "Multi-Agent Collaborative Data Selection for Efficient LLM
 * Pretraining", 2024 (arXiv 2410.08102; ACL 2025 as "... via Multi-Actor Collaboration"). Every
 * domain has a value of each attribute (source, topic, quality bin, ...). One agent A per attribute
 * keeps a weight w per value; the console keeps a collaborative weight theta_A per agent, 1 / A at
 * first. With each step's feedback, v being a value's mean over its domains, by what was seen of
 * each,
 *     w_A     <- (1 - eta) w_A + eta exp(scale v)           for the values seen
 *     q_A      = w_A / mean of w_A over A's values          what the agent thinks of a value
 *     R_A      = sum r q_A / sum q_A                        over the round's feedback r
 *     theta_A <- theta_A + console_eta (R_A - mean R)       not under 0, then to the sum 1
 *     score_d  = sum_A theta_A q_A(value of d)
 *     p_d      ~ prior_d score_d^sharpness
 * A round is `round` steps with feedback; the console and the weights move at its end.
 *
 * Where the paper leaves room, this was chosen. R_A is the mean reward of the round's data as the
 * agent would have weighed it, by what it thought before it saw the reward: agents without an
 * opinion have the same, so the console moves by their judgement alone. q_A has the mean 1, so that
 * an agent with few values doesn't outweigh one with many; a domain without a value of an attribute
 * (-1) counts 1 with its agent. The paper takes the best N samples by score; a mix can't, and
 * `sharpness` stands for it: 0 leaves the prior, more comes closer to taking the best alone. The
 * paper divides a sample's score by 1 + 0.1 times used: here epochs are limited (limits).
 * `normalize`: v in standard deviations from its running mean, at most 4; else its size is the
 * user's to know, through `scale`.
 *
 * v, by `signal`: reward (the mean that trainers report, for instance the influence of the domain's
 * data on reference tasks, as in the paper), loss (training loss: what is hard gets more),
 * loss_drop (the domain's last loss less this one: what is being learned gets more).
 *
 * console "reference": as the authors' code has it, for comparison. There w is scaled to the sum 1
 * at the end of each round, and q_A = w. With S = w (exp(0.6 v) / 100 - 1) / n for each value of
 * all agents, one agent's after the other's (v: the last of its n feedbacks of the round), it has
 *     theta_i <- theta_i + sgn(d) |d|^beta,  d = S_i - mean S
 * where S_i is of the i-th value of all, not of the i-th agent: so with three agents, of three
 * values of the first. It computes a z-score and doesn't use it: `normalize` false.
 *
 * Traps. Merits add up: an agent that is right for long comes to have all the say, as in the paper.
 * The others are still heard, and come back by their merits. exp(scale v) is held within e^-300 ..
 * e^300. An agent of an attribute with one value thinks the same of all and only pulls towards the
 * prior. Domains of prior 0 stay at 0. */
#include "daemon/core/clash.h"
#include "daemon/core/policies.h"

#include <math.h>
#include <string.h>

enum { ETA, SCALE, SIGNAL, NORMALIZE, ROUND, CONSOLE, CONSOLE_ETA, SHARPNESS, BETA, INITIAL };
enum { SIGNAL_REWARD, SIGNAL_LOSS, SIGNAL_LOSS_DROP };
enum { CONSOLE_PAPER, CONSOLE_REFERENCE };

#define EXPONENT_MAX 300.0
#define DEVIATIONS_MAX 4.0

static const char *const signals[] = {"reward", "loss", "loss_drop", NULL};
static const char *const consoles[] = {"paper", "reference", NULL};

static const struct mx_policy_param agents_params[] = {
    [ETA] = {"eta", 0.1, 0, 1, MX_PARAM_NUMBER,
             "how much of new feedback an agent takes over", NULL},
    [SCALE] = {"scale", 0.5, -1e3, 1e3, MX_PARAM_NUMBER,
               "what feedback is multiplied by in exp()", NULL},
    [SIGNAL] = {"signal", SIGNAL_REWARD, 0, 2, MX_PARAM_CHOICE, "what counts as feedback", signals},
    [NORMALIZE] = {"normalize", 1, 0, 1, MX_PARAM_SWITCH,
                   "whether feedback counts in standard deviations from its running mean", NULL},
    [ROUND] = {"round", 1, 1, 1e6, MX_PARAM_INTEGER,
                   "steps with feedback to a round, at the end of which weights move", NULL},
    [CONSOLE] = {"console", CONSOLE_PAPER, 0, 1, MX_PARAM_CHOICE,
                 "how agents are merged", consoles},
    [CONSOLE_ETA] = {"console_eta", 0.1, 0, 1e3, MX_PARAM_NUMBER,
                     "how far an agent's merit moves its collaborative weight", NULL},
    [SHARPNESS] = {"sharpness", 1, 0, 100, MX_PARAM_NUMBER, "power of a domain's score", NULL},
    [BETA] = {"beta", 1, 0.01, 10, MX_PARAM_NUMBER, "power of a merit; console reference", NULL},
    [INITIAL] = {"initial", 1, 1e-9, 1e9, MX_PARAM_NUMBER,
                 "an agent's weight of a value at first", NULL},
};

/* The block: this head; an agent per attribute; its values, agent by agent, each with one more at
 * the end for domains that have none; last feedback (k) and last loss (k), NAN if never; p (k). */
struct head {
    double round;              /* steps with feedback in this round */
    double moments;            /* whether there are any: */
    double mean, variance;     /* of feedback */
};

struct agent {
    double theta;
    double gained, weighed; /* sum r q and sum q of the round */
};

struct value {
    double weight;
    double opinion;     /* q as of the round's beginning */
    double sum, seen;   /* of the step: feedback by what was seen, and what was seen */
    double last, count; /* of the round: last feedback, and how many */
};

#define HEAD (sizeof(struct head) / sizeof(double))
#define AGENT (sizeof(struct agent) / sizeof(double))
#define VALUE (sizeof(struct value) / sizeof(double))

static size_t values_of(const struct mx_policy_conf *c)
{
    size_t n = 0;

    for (uint32_t a = 0; a < c->n_attributes; a++) {
        n += c->n_values[a] + 1;
    }
    return n;
}

static size_t feedback_at(const struct mx_policy_conf *c)
{
    return HEAD + c->n_attributes * AGENT + values_of(c) * VALUE;
}

static struct head *head_of(double *state)
{
    return (struct head *)(void *)state;
}

static struct agent *agents_of(double *state)
{
    return (struct agent *)(void *)(state + HEAD);
}

static struct value *all_values(double *state, const struct mx_policy_conf *c)
{
    return (struct value *)(void *)(state + HEAD + c->n_attributes * AGENT);
}

/* Which of an agent's values a domain has. */
static uint32_t value_of(const struct mx_policy_conf *c, uint32_t domain, uint32_t agent)
{
    double v = c->attributes[(size_t)domain * c->n_attributes + agent];

    return v < 0.0 ? c->n_values[agent] : (uint32_t)v;
}

static int by_reference(const struct mx_policy_conf *c)
{
    return (int)c->params[CONSOLE] == CONSOLE_REFERENCE;
}

static const char *agents_check(const struct mx_policy_conf *c, char *text, size_t cap)
{
    if (c->n_attributes == 0) {
        return mx_clash(text, cap, "attributes: none given: agents needs at least one, such as a "
                        "source, with the domains' values", NULL);
    }
    for (uint32_t a = 0; a < c->n_attributes; a++) {
        uint64_t numbers[] = {a + 1, c->k};

        if (c->n_values[a] == 0) {
            return mx_clash(text, cap,
                            "attributes: of number # none of the # domains has a value", numbers);
        }
    }
    return NULL;
}

static size_t agents_size(const struct mx_policy_conf *c)
{
    return feedback_at(c) + 3 * (size_t)c->k;
}

/* ---- what agents think ----------------------------------------------------------------------- */

/* Opinions from weights: of the mean 1; by the reference's console of the sum 1, and so are the
 * weights from then on. Of a domain without a value: 1, or nothing. */
static void think(const struct mx_policy_conf *c, uint32_t agent, struct value *v)
{
    uint32_t n = c->n_values[agent];
    double sum = 0.0;

    for (uint32_t i = 0; i < n; i++) {
        sum += v[i].weight;
    }
    for (uint32_t i = 0; i < n; i++) {
        v[i].opinion = v[i].weight / sum;
        if (by_reference(c)) {
            v[i].weight = v[i].opinion;
        } else {
            v[i].opinion *= n;
        }
    }
    v[n].opinion = by_reference(c) ? 0.0 : 1.0;
}

static void agents_init(double *state, const struct mx_policy_conf *c)
{
    struct value *v = all_values(state, c);
    double *last = state + feedback_at(c);

    memset(state, 0, feedback_at(c) * sizeof *state);
    for (uint32_t a = 0; a < c->n_attributes; a++) {
        agents_of(state)[a].theta = 1.0 / c->n_attributes;
        for (uint32_t i = 0; i < c->n_values[a]; i++) {
            v[i].weight = c->params[INITIAL];
            v[i].opinion = by_reference(c) ? 1.0 / c->n_values[a] : 1.0;
        }
        v[c->n_values[a]].opinion = by_reference(c) ? 0.0 : 1.0;
        v += c->n_values[a] + 1;
    }
    for (uint32_t i = 0; i < 2 * c->k; i++) {
        last[i] = NAN;
    }
    memcpy(last + 2 * (size_t)c->k, c->prior, c->k * sizeof *c->prior);
}

/* ---- the console ----------------------------------------------------------------------------- */

static void to_sum_one(struct agent *agents, uint32_t n)
{
    double sum = 0.0;

    for (uint32_t a = 0; a < n; a++) {
        agents[a].theta = fmax(0.0, agents[a].theta);
        sum += agents[a].theta;
    }
    for (uint32_t a = 0; a < n; a++) {
        agents[a].theta = sum > 0.0 ? agents[a].theta / sum : 1.0 / n;
    }
}

static void console_of_paper(double *state, const struct mx_policy_conf *c)
{
    struct agent *agents = agents_of(state);
    double mean = 0.0, heard = 0.0;

    for (uint32_t a = 0; a < c->n_attributes; a++) {
        if (agents[a].weighed > 0.0) {
            agents[a].gained /= agents[a].weighed;
            mean += agents[a].gained;
            heard++;
        }
    }
    for (uint32_t a = 0; a < c->n_attributes; a++) {
        if (agents[a].weighed > 0.0) {
            agents[a].theta += c->params[CONSOLE_ETA] * (agents[a].gained - mean / heard);
        }
        agents[a].gained = agents[a].weighed = 0.0;
    }
    to_sum_one(agents, c->n_attributes);
}

static double merit(const struct value *v)
{
    return v->weight * (exp(fmin(0.6 * v->last, EXPONENT_MAX)) / 100.0 - 1.0) / v->count;
}

static void console_of_reference(double *state, const struct mx_policy_conf *c)
{
    struct agent *agents = agents_of(state);
    struct value *values = all_values(state, c), *v = values;
    double first[MX_POLICY_ATTRIBUTES_MAX] = {0}, mean = 0.0, merits = 0.0;
    uint32_t n = 0;

    for (uint32_t a = 0; a < c->n_attributes; a++) {
        for (uint32_t i = 0; i <= c->n_values[a]; i++, v++) {
            if (i == c->n_values[a]) {
                continue;
            }
            if (v->count > 0.0) {
                mean += merit(v);
                merits++;
            }
            if (n < c->n_attributes) {
                first[n++] = v->count > 0.0 ? merit(v) : NAN;
            }
        }
    }
    for (uint32_t a = 0; a < c->n_attributes; a++) {
        double d = first[a] - mean / merits;

        if (!isnan(d)) { /* one not seen in this round has no merit */
            agents[a].theta += (d < 0.0 ? -1.0 : 1.0) * pow(fabs(d), c->params[BETA]);
        }
    }
    to_sum_one(agents, c->n_attributes);
}

/* ---- feedback -------------------------------------------------------------------------------- */

/* How much a report counts; what a guard has filled in has no count, and counts as one. */
static double heft(uint64_t count)
{
    return count > 0 ? (double)count : 1.0;
}

static double deviations(const struct head *h, double v)
{
    double sd = sqrt(h->variance);

    if (!(sd > 1e-12 * fabs(h->mean))) {
        return 0.0;
    }
    return fmin(fmax((v - h->mean) / sd, -DEVIATIONS_MAX), DEVIATIONS_MAX);
}

/* The i-th domain that the step tells of. */
static uint32_t told(const struct mx_policy_conf *c, const struct mx_observation *o, uint32_t i)
{
    return (int)c->params[SIGNAL] == SIGNAL_REWARD ? o->reward[i].domain : o->train[i].domain;
}

static uint32_t n_told(const struct mx_policy_conf *c, const struct mx_observation *o)
{
    return (int)c->params[SIGNAL] == SIGNAL_REWARD ? o->n_reward : o->n_train;
}

/* Running mean and variance, with a step's feedback in at the rate at which agents take it. */
static void count_moments(double *state, const struct mx_policy_conf *c,
                          const struct mx_observation *o)
{
    const double *last = state + feedback_at(c);
    struct head *h = head_of(state);
    double n = 0.0, mean = 0.0, squares = 0.0, rate = c->params[ETA], d;

    for (uint32_t i = 0; i < n_told(c, o); i++) {
        double r = last[told(c, o, i)];

        if (!isnan(r)) {
            d = r - mean;
            mean += d / ++n;
            squares += d * (r - mean);
        }
    }
    if (h->moments == 0.0) {
        h->moments = 1.0;
        h->mean = mean;
        h->variance = squares / n;
        return;
    }
    d = mean - h->mean;
    h->mean += rate * d;
    h->variance = (1.0 - rate) * (h->variance + rate * d * d) + rate * (squares / n);
}

/* A step's feedback on one domain reaches all agents' values. */
static void hear(double *state, const struct mx_policy_conf *c, uint32_t domain, double r, double n)
{
    struct value *v = all_values(state, c);

    for (uint32_t a = 0; a < c->n_attributes; a++) {
        struct value *mine = &v[value_of(c, domain, a)];
        struct agent *agent = &agents_of(state)[a];

        agent->gained += n * mine->opinion * r;
        agent->weighed += n * mine->opinion;
        mine->sum += n * r;
        mine->seen += n;
        v += c->n_values[a] + 1;
    }
}

/* Agents take over what they have heard in the step. */
static void learn(double *state, const struct mx_policy_conf *c)
{
    struct value *v = all_values(state, c);
    double eta = c->params[ETA];

    for (uint32_t a = 0; a < c->n_attributes; a++) {
        for (uint32_t i = 0; i <= c->n_values[a]; i++, v++) {
            if (v->seen > 0.0 && i < c->n_values[a]) {
                double r = v->sum / v->seen;
                double exponent = fmin(fmax(c->params[SCALE] * r, -EXPONENT_MAX), EXPONENT_MAX);

                v->weight = (1.0 - eta) * v->weight + eta * exp(exponent);
                v->last = r;
                v->count++;
            }
            v->sum = v->seen = 0.0;
        }
    }
}

/* The step's feedback becomes each domain's last one, NAN if there can't be any yet. Whether there
 * is any. */
static int feedback(double *state, const struct mx_policy_conf *c, const struct mx_observation *o)
{
    double *last = state + feedback_at(c), *loss = last + c->k;
    int signal = (int)c->params[SIGNAL], any = 0;

    for (uint32_t i = 0; i < n_told(c, o); i++) {
        uint32_t d = told(c, o, i);

        if (signal == SIGNAL_REWARD) {
            last[d] = o->reward[i].mean;
        } else {
            last[d] = signal == SIGNAL_LOSS ? o->train[i].loss : loss[d] - o->train[i].loss;
            loss[d] = o->train[i].loss;
        }
        any |= !isnan(last[d]);
    }
    return any;
}

/* ---- the mix --------------------------------------------------------------------------------- */

static double score(const double *state, const struct mx_policy_conf *c, uint32_t domain)
{
    const struct agent *agents = (const struct agent *)(const void *)(state + HEAD);
    const struct value *v =
        (const struct value *)(const void *)(state + HEAD + c->n_attributes * AGENT);
    double sum = 0.0;

    for (uint32_t a = 0; a < c->n_attributes; a++) {
        sum += agents[a].theta * v[value_of(c, domain, a)].opinion;
        v += c->n_values[a] + 1;
    }
    return sum;
}

static void mix(double *state, const struct mx_policy_conf *c)
{
    double *p = state + feedback_at(c) + 2 * (size_t)c->k, largest = 0.0, sum = 0.0;

    for (uint32_t i = 0; i < c->k; i++) {
        p[i] = score(state, c, i);
        largest = fmax(largest, c->prior[i] > 0.0 ? p[i] : 0.0);
    }
    for (uint32_t i = 0; i < c->k; i++) {
        p[i] = largest > 0.0 ? p[i] / largest : 1.0;
        if (c->params[SHARPNESS] != 1.0) {
            p[i] = pow(p[i], c->params[SHARPNESS]);
        }
        p[i] = c->prior[i] > 0.0 ? c->prior[i] * p[i] : 0.0;
        sum += p[i];
    }
    for (uint32_t i = 0; i < c->k; i++) {
        p[i] /= sum;
    }
}

static void end_round(double *state, const struct mx_policy_conf *c)
{
    struct value *v = all_values(state, c);

    if (!by_reference(c)) {
        console_of_paper(state, c);
    }
    for (uint32_t a = 0; a < c->n_attributes; a++) {
        think(c, a, v);
        v += c->n_values[a] + 1;
    }
    if (by_reference(c)) {
        console_of_reference(state, c);
    }
    v = all_values(state, c);
    for (size_t i = 0; i < values_of(c); i++) {
        v[i].count = 0.0;
    }
    head_of(state)->round = 0.0;
    mix(state, c);
}

static void agents_observe(double *state, const struct mx_policy_conf *c,
                           const struct mx_observation *o)
{
    const double *last = state + feedback_at(c);
    int reward = (int)c->params[SIGNAL] == SIGNAL_REWARD, normalize = c->params[NORMALIZE] != 0.0;

    if (!feedback(state, c, o)) {
        return;
    }
    if (normalize) {
        count_moments(state, c, o);
    }
    for (uint32_t i = 0; i < n_told(c, o); i++) {
        double r = last[told(c, o, i)];

        if (!isnan(r)) {
            hear(state, c, told(c, o, i), normalize ? deviations(head_of(state), r) : r,
                 heft(reward ? o->reward[i].count : o->train[i].tokens));
        }
    }
    learn(state, c);
    if (++head_of(state)->round >= c->params[ROUND]) {
        end_round(state, c);
    }
}

static void agents_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + feedback_at(c) + 2 * (size_t)c->k, c->k * sizeof *ret);
}

static void agents_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    memcpy(ret, state + feedback_at(c), c->k * sizeof *ret);
    for (uint32_t i = 0; i < c->k; i++) {
        ret[c->k + i] = score(state, c, i);
    }
}

const struct mx_policy_ops mx_policy_agents = {
    .name = "agents",
    .what = "multi-agent selection: an agent per attribute, merged by a console by their merits",
    .params = agents_params,
    .n_params = sizeof agents_params / sizeof agents_params[0],
    .uses_train = 1,
    .uses_reward = 1,
    .uses_attributes = 1,
    .adapts = 1,
    .check = agents_check,
    .state_size = agents_size,
    .init = agents_init,
    .observe = agents_observe,
    .weights = agents_weights,
    .n_terms = 2,
    .terms = {"reward", "estimate"},
    .explain = agents_explain,
};
