/* golden_proxy.c - replays traces of DoReMi and DoGE: single precision, so each step is compared
 * from the recorded weights before it.
 *
 * Of DoReMi's per-token losses this does what a trainer does: sums of what is over 0, over the
 * tokens that aren't masked, each through the same guard as a run's losses (feedback.h). A domain
 * with all tokens masked has no mean; the guard refuses it. Beside that the whole trace is replayed
 * in one piece, through the guard for absent domains, to the mean of the weights that the method
 * ends in. DoGE's gradients become their Gram matrix. */
#include "tests/core/golden.h"

#define GRADIENT_MAX 4096
/* Where single precision has gone after some dozen steps of its own. */
#define DRIFT_TOLERANCE 1e-4
#define EXCESS_MAX 1e4

/* Recorded weights become the next step's prior. 0 or -1. */
static int recorded(const cJSON *v, double *ret, uint32_t k)
{
    if (golden_numbers(v, ret, (int)k) != (int)k) {
        return -1;
    }
    for (uint32_t i = 0; i < k; i++) {
        if (!isfinite(ret[i])) {
            return -1;
        }
    }
    return 0;
}

/* As golden_compare, but of weights n that single precision has made from their logarithms:
 * rounding of ln p is a part of ln p. */
static void compare_single(struct golden *g, const double *weights, uint32_t n,
                           const cJSON *expected, int step)
{
    double want[GOLDEN_K_MAX];

    g->steps++;
    if (golden_numbers(expected, want, GOLDEN_K_MAX) != (int)n) {
        golden_fail(g, "step %d: no %u weights to compare with", step, n);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        double error = fabs(weights[i] - want[i]) / fmax(want[i], 1e-45);

        error /= fmax(1.0, fabs(log(fmax(want[i], 1e-45))));
        g->error = fmax(g->error, error);
        if (!(error <= GOLDEN_TOLERANCE_SINGLE)) {
            golden_fail(g, "step %d: weight %u is %.17g, not %.17g", step, i, weights[i], want[i]);
        }
    }
    golden_sound(g, weights, n, step);
}

/* ---- DoReMi ---------------------------------------------------------------------------------- */

static void set_doremi(struct golden *g, struct golden_mixer *m)
{
    static const struct {
        const char *trace, *param;
    } names[] = {{"reweight_eta", "eta"}, {"reweight_eps", "eps"}};
    const cJSON *initial = golden_item(g->params, "perdomain_scores_init");
    double v;

    golden_param(g, m, "excess", 0); /* rewards */
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const cJSON *given = golden_item(g->params, names[i].trace);

        if (cJSON_IsNumber(given)) {
            golden_param(g, m, names[i].param, given->valuedouble);
        }
    }
    if (cJSON_IsNumber(initial)) {
        golden_param(g, m, "initial_score", initial->valuedouble);
    } else if (cJSON_IsString(initial) && sscanf(initial->valuestring, "ln(%lf)", &v) == 1) {
        golden_param(g, m, "initial_score", log(v));
    } else if (initial != NULL) {
        golden_fail(g, "perdomain_scores_init can't be read");
    }
}

/* A step's sums per domain: of what is over 0, over unmasked tokens. 0 or -1. */
static int excess_of(const cJSON *input, uint32_t k, struct mx_loss *ret, int *present)
{
    const cJSON *ids = golden_item(input, "domain_ids"), *losses, *masks, *id;
    int row = 0;

    losses = golden_item(input, "excess_token_loss");
    masks = golden_item(input, "token_mask");
    for (uint32_t i = 0; i < k; i++) {
        ret[i] = (struct mx_loss){.domain = i};
        present[i] = 0;
    }
    cJSON_ArrayForEach(id, ids) {
        const cJSON *values = cJSON_GetArrayItem(losses, row), *mask, *e;

        mask = cJSON_GetArrayItem(masks, row++);
        mask = mask != NULL ? mask->child : NULL;
        if (!cJSON_IsNumber(id) || id->valueint < 0 || id->valueint >= (int)k) {
            return -1;
        }
        present[id->valueint] = 1;
        cJSON_ArrayForEach(e, values) {
            double v;

            if (mask == NULL || golden_number(e, &v) != 0) {
                return -1;
            }
            if (mask->valuedouble != 0.0) {
                ret[id->valueint].tokens++;
                ret[id->valueint].loss_sum += v > 0.0 || isnan(v) ? v : 0.0;
            }
            mask = mask->next;
        }
    }
    return row > 0 ? 0 : -1;
}

/* What is left of a step after the guard, as rewards. How many, or -1. */
static int rewards_of(struct golden *g, const cJSON *input, uint32_t k, struct mx_reward_stats *ret)
{
    const struct mx_loss_bounds bounds = {EXCESS_MAX, (uint64_t)1 << 40};
    struct mx_loss losses[GOLDEN_K_MAX], kept;
    int present[GOLDEN_K_MAX], n = 0;
    uint32_t first;

    if (excess_of(input, k, losses, present) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < k; i++) {
        if (!present[i]) {
            continue;
        }
        if (mx_loss_clean(&losses[i], 1, &bounds, &kept, &first) == 1) {
            ret[n++] = (struct mx_reward_stats){i, kept.tokens,
                                                kept.loss_sum / (double)kept.tokens};
        } else {
            g->refused++;
        }
    }
    return n;
}

/* One step from the recorded weights before it. last: the recorded scores, where domains not seen
 * count again (the mixer is new, so that its guard can't know them); NAN for never. */
static void doremi_step(struct golden *g, const double *prior, const double *last,
                        const struct mx_reward_stats *given, uint32_t n, uint32_t k,
                        const cJSON *expected, int step)
{
    struct mx_reward_stats all[GOLDEN_K_MAX];
    struct golden_mixer m;
    uint32_t at = 0, total = 0;

    memcpy(m.prior, prior, k * sizeof *prior);
    golden_begin(g, &m, "doremi", k, k);
    set_doremi(g, &m);
    golden_ready(g, &m);
    for (uint32_t i = 0; i < k; i++) {
        if (at < n && given[at].domain == i) {
            all[total++] = given[at++];
        } else if (!isnan(last[i])) {
            all[total++] = (struct mx_reward_stats){.domain = i, .mean = last[i]};
        }
    }
    if (g->trouble[0] == '\0') {
        golden_observe(&m, &(struct mx_observation){(uint64_t)step + 1, .reward = all,
                                                    .n_reward = total});
        compare_single(g, m.weights, k, expected, step);
    }
    golden_end(&m);
}

struct doremi {
    struct golden_mixer whole; /* the trace in one piece */
    double prior[GOLDEN_K_MAX], last[GOLDEN_K_MAX];
    uint32_t k;
    int parted; /* the reference has broken down */
};

static void doremi_replay_step(struct golden *g, struct doremi *d, const cJSON *step, int at)
{
    const cJSON *expected = golden_item(step, "weights");
    const cJSON *mean = golden_item(golden_item(step, "state"), "avg_weights");
    struct mx_reward_stats rewards[GOLDEN_K_MAX];
    double next[GOLDEN_K_MAX], scores[GOLDEN_K_MAX];
    uint32_t k = d->k;
    int n = rewards_of(g, golden_item(step, "input"), k, rewards), refused = g->refused;

    if (n < 0) {
        golden_fail(g, "step %d can't be read", at);
        return;
    }
    d->parted |= recorded(expected, next, k) != 0;
    if (d->parted && refused == 0) {
        golden_fail(g, "step %d: no weights, and nothing was refused", at);
    }
    golden_observe(&d->whole, &(struct mx_observation){(uint64_t)at + 1, .reward = rewards,
                                                       .n_reward = (uint32_t)n});
    golden_sound(g, d->whole.weights, k, at);
    if (d->parted) {
        g->steps++;
        return;
    }
    doremi_step(g, d->prior, d->last, rewards, (uint32_t)n, k, expected, at);
    if (recorded(mean, scores, k) == 0) {
        double error = g->error;

        golden_compare(g, mx_mixer_mean(d->whole.state, &d->whole.c), k, mean, DRIFT_TOLERANCE, at);
        g->steps--; /* the same step */
        g->error = error; /* what is printed is of the one-step comparison */
    }
    memcpy(d->prior, next, sizeof next);
    for (int i = 0; i < n; i++) {
        d->last[rewards[i].domain] = rewards[i].mean;
    }
}

static void golden_doremi(struct golden *g)
{
    const cJSON *step;
    struct doremi d = {.parted = 0};
    int k = golden_numbers(golden_item(g->params, "initial_weights"), d.prior, GOLDEN_K_MAX);
    int at = 0;

    if (k <= 0) {
        golden_fail(g, "no initial_weights");
        return;
    }
    d.k = (uint32_t)k;
    for (int i = 0; i < k; i++) {
        d.last[i] = NAN;
    }
    memcpy(d.whole.prior, d.prior, sizeof d.prior);
    golden_begin(g, &d.whole, "doremi", d.k, d.k);
    set_doremi(g, &d.whole);
    golden_ready(g, &d.whole);
    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        if (g->trouble[0] == '\0') {
            doremi_replay_step(g, &d, step, at++);
        }
    }
    golden_end(&d.whole);
}

/* ---- DoGE ------------------------------------------------------------------------------------ */

/* K x K products of the rows of a K x P matrix. 0 or -1. */
static int gram_of(const cJSON *rows, uint32_t k, double *gram)
{
    static double gradients[GOLDEN_K_MAX][GRADIENT_MAX];
    int p = 0;

    for (uint32_t i = 0; i < k; i++) {
        int n = golden_numbers(cJSON_GetArrayItem(rows, (int)i), gradients[i], GRADIENT_MAX);

        if (n <= 0 || (i > 0 && n != p)) {
            return -1;
        }
        p = n;
    }
    for (uint32_t i = 0; i < k; i++) {
        for (uint32_t j = 0; j < k; j++) {
            double sum = 0.0;

            for (int l = 0; l < p; l++) {
                sum += gradients[i][l] * gradients[j][l];
            }
            gram[(size_t)i * k + j] = sum;
        }
    }
    return 0;
}

static void set_doge(struct golden *g, struct golden_mixer *m)
{
    static const struct {
        const char *trace, *param;
    } names[] = {{"mu", "mu"}, {"dw_min", "dw_min"}, {"dw_max", "dw_max"}, {"reweight_eps", "eps"}};
    const cJSON *targets = golden_item(g->params, "tgt_ids"), *e;
    double *table;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const cJSON *given = golden_item(g->params, names[i].trace);

        if (cJSON_IsNumber(given)) {
            golden_param(g, m, names[i].param, given->valuedouble);
        }
    }
    if (targets == NULL) {
        return;
    }
    table = calloc(m->c.policy.k, sizeof *table);
    MX_REQUIRE(table != NULL);
    cJSON_ArrayForEach(e, targets) {
        if (!cJSON_IsNumber(e) || e->valueint < 0 || e->valueint >= (int)m->c.policy.k) {
            golden_fail(g, "tgt_ids: not a domain");
        } else {
            table[e->valueint] = 1.0;
        }
    }
    m->tables[0] = table;
}

/* One step from `prior`; ret: its weights. A matrix that isn't finite is refused. Without
 * `expected` the weights need only be sound. */
static void doge_step(struct golden *g, const double *prior, uint32_t k, const cJSON *input,
                      const cJSON *expected, double *ret, int at)
{
    const cJSON *lr = golden_item(input, "lr");
    double gram[GOLDEN_K_MAX * GOLDEN_K_MAX];
    uint32_t domains[GOLDEN_K_MAX];
    struct golden_mixer m;
    int finite = 1;

    memcpy(m.prior, prior, k * sizeof *prior);
    golden_begin(g, &m, "doge", k, k);
    set_doge(g, &m);
    golden_ready(g, &m);
    for (uint32_t i = 0; i < k; i++) {
        domains[i] = i;
    }
    if (!cJSON_IsNumber(lr) || gram_of(golden_item(input, "grads_clipped"), k, gram) != 0) {
        golden_fail(g, "step %d can't be read", at);
    }
    if (g->trouble[0] == '\0') {
        struct mx_grad_stats grad = {k, domains, gram, lr->valuedouble};

        for (uint32_t i = 0; i < k * k; i++) {
            finite &= isfinite(gram[i]) != 0;
        }
        g->refused += !finite;
        if (finite) {
            golden_observe(&m, &(struct mx_observation){(uint64_t)at + 1, .grad = &grad});
        }
        if (expected != NULL) {
            compare_single(g, m.weights, k, expected, at);
        } else {
            golden_sound(g, m.weights, k, at);
            g->steps++;
        }
        memcpy(ret, m.weights, k * sizeof *ret);
    }
    golden_end(&m);
}

/* The recorded mean of weights must be that of the recorded weights: what the mixer's mean is. */
static void doge_mean(struct golden *g, double *mean, const double *weights, uint32_t k,
                      const cJSON *expected, int at)
{
    double want[GOLDEN_K_MAX];
    int given = recorded(expected, want, k) == 0;

    for (uint32_t i = 0; i < k; i++) {
        mean[i] += (weights[i] - mean[i]) / (at + 1);
        if (given && fabs(mean[i] - want[i]) > GOLDEN_TOLERANCE_SINGLE * want[i]) {
            golden_fail(g, "step %d: mean weight %u is %.17g, not %.17g", at, i, mean[i], want[i]);
        }
    }
}

static void golden_doge(struct golden *g)
{
    const cJSON *step, *count = golden_item(g->params, "K");
    const cJSON *trained = golden_item(g->params, "train_ids");
    double prior[GOLDEN_K_MAX], next[GOLDEN_K_MAX], mean[GOLDEN_K_MAX] = {0};
    uint32_t k = cJSON_IsNumber(count) && count->valueint > 0 ? (uint32_t)count->valueint : 0;
    int at = 0, parted = 0;

    if (k == 0 || k > GOLDEN_K_MAX) {
        golden_fail(g, "no K");
        return;
    }
    for (uint32_t i = 0; i < k; i++) {
        prior[i] = trained == NULL ? 1.0 / k : 0.0;
    }
    cJSON_ArrayForEach(step, trained) {
        if (cJSON_IsNumber(step) && step->valueint >= 0 && step->valueint < (int)k) {
            prior[step->valueint] = 1.0 / cJSON_GetArraySize(trained);
        }
    }
    if (golden_item(g->params, "initial_weights") != NULL &&
        recorded(golden_item(g->params, "initial_weights"), prior, k) != 0) {
        golden_fail(g, "initial_weights can't be read");
    }
    cJSON_ArrayForEach(step, golden_item(g->root, "steps")) {
        if (g->trouble[0] != '\0') {
            return;
        }
        parted |= recorded(golden_item(step, "weights"), next, k) != 0;
        doge_step(g, prior, k, golden_item(step, "input"),
                  parted ? NULL : golden_item(step, "weights"), prior, at);
        if (parted && g->refused == 0) {
            golden_fail(g, "step %d: no weights, and nothing was refused", at);
        }
        if (!parted) {
            memcpy(prior, next, k * sizeof *prior);
            doge_mean(g, mean, prior, k, golden_item(step, "avg_weights"), at);
        }
        at++;
    }
}

void golden_proxy(struct golden *g)
{
    if (strncmp(golden_item(g->root, "algorithm")->valuestring, "doremi", 6) == 0) {
        golden_doremi(g);
    } else {
        golden_doge(g);
    }
}
