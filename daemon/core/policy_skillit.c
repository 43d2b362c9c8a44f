/* policy_skillit.c - Skill-It: domains that teach what is not yet known get more, by a graph of
 * which domain helps which evaluated skill.
 *
 * Chen, Roberts, Bhatia, Wang, Zhang, Sala and Re, "Skill-it! A Data-Driven Skills Framework for
 * Understanding and Training Language Models", 2023 (arXiv 2307.14430), as their code computes it.
 *
 * A (k x m, `graph`): how much training on domain i helps member j of the eval set; of any sign. An
 * edge of exactly 1 between two different skills counts 1/2 (unit_edges). Not given: the identity.
 *     first mix:   w_i = prior_i exp(eta (A f)_i), f = first_losses, ones unless given; or `init`
 *     an update:   w_i = prior_i exp(eta_t (A ell)_i),   p = w / sum w
 * ell_j (nats): sum of the last `window` evaluations' losses of member j; their mean where
 * `targets` are given, and then only their columns count. So weights come from the prior and the
 * last few evaluations alone: nothing accumulates.
 *     eta_schedule     eta_t = eta sum(loss_0) / sum(last losses)
 *     normalize_loss   ell_j / loss_0,j in place of ell_j
 *     initialize_loss  one more record before the first, all of it the mean of loss_0
 *     dynamic_lambda   each update halves A's positive edges for the next; not an (i, i) where
 *                      domains and members correspond
 *     lone_nodes       skills whose row and column hold nothing but a 1 on the diagonal: `learn`
 *                      like all; `keep` their prior; `reference`: 1/K each, and the prior of the
 *                      others is their last weight: in the authors' code an accident of aliasing
 * loss_0 is the second evaluation (the first until there is one), as there. variant `static`: the
 * first mix, for ever; force_diagonal gives it the 1s that the authors' reader of graph files
 * writes.
 *
 * An evaluation that lacks a member whose column counts isn't used. The first evaluation at or
 * after every `update_steps`-th step makes an update; the others enter the window only.
 *
 * Traps. The authors wait with an update for the end of a round, so that with an evaluation at its
 * start they act on losses a round old. The window is over evaluations, not rounds: how often the
 * trainer evaluates changes what eta means. A sum over the window makes weights sharp: 3 records
 * of 4 nats and eta 0.5 are exponents of 6. There is no floor: limits are the run's. Theirs
 * overflows at an exponent of 709; here the largest is subtracted first. */
#include "daemon/core/clash.h"
#include "daemon/core/policies.h"

#include <math.h>
#include <string.h>

enum {
    VARIANT, ETA, WINDOW, UPDATE_STEPS, ETA_SCHEDULE, NORMALIZE_LOSS, INITIALIZE_LOSS,
    DYNAMIC_LAMBDA, UNIT_EDGES, FORCE_DIAGONAL, LONE_NODES,
};
enum { ONLINE, STATIC };
enum { LEARN, KEEP, REFERENCE };
enum { GRAPH, TARGETS, INIT, FIRST_LOSSES };

/* Losses that are divided by count at least this, nats. */
#define LOSS_LEAST 1e-6
/* More halvings leave nothing of any edge. */
#define HALVINGS_MAX 2000.0

static const char *const variants[] = {"online", "static", NULL};
static const char *const lone_nodes[] = {"learn", "keep", "reference", NULL};

static const struct mx_policy_param skillit_params[] = {
    [VARIANT] = {"variant", ONLINE, 0, 1, MX_PARAM_CHOICE, "static: the first mix stays", variants},
    [ETA] = {"eta", 0.5, 0, 1e3, MX_PARAM_NUMBER, "how sharply weights follow, 1/nats", NULL},
    [WINDOW] = {"window", 3, 1, 64, MX_PARAM_INTEGER, "evaluations that an update looks at", NULL},
    [UPDATE_STEPS] = {"update_steps", 1, 1, 1e12, MX_PARAM_INTEGER,
                      "steps of a round; a round makes one update", NULL},
    [ETA_SCHEDULE] = {"eta_schedule", 0, 0, 1, MX_PARAM_SWITCH, "eta grows as losses fall", NULL},
    [NORMALIZE_LOSS] = {"normalize_loss", 0, 0, 1, MX_PARAM_SWITCH,
                        "losses count relative to the initial ones", NULL},
    [INITIALIZE_LOSS] = {"initialize_loss", 0, 0, 1, MX_PARAM_SWITCH,
                         "the window begins with a record of the mean initial loss", NULL},
    [DYNAMIC_LAMBDA] = {"dynamic_lambda", 0, 0, 1, MX_PARAM_SWITCH,
                        "every update halves the graph's positive edges", NULL},
    [UNIT_EDGES] = {"unit_edges", 1, 0, 1, MX_PARAM_SWITCH,
                    "edges of 1 between different skills count 1/2", NULL},
    [FORCE_DIAGONAL] = {"force_diagonal", 0, 0, 1, MX_PARAM_SWITCH,
                        "the graph's diagonal counts as 1", NULL},
    [LONE_NODES] = {"lone_nodes", LEARN, 0, 2, MX_PARAM_CHOICE,
                    "what skills without edges get", lone_nodes},
};

static const struct mx_policy_table skillit_tables[] = {
    [GRAPH] = {"graph", MX_TABLE_GRAPH, 0, -1e3, 1e3, "how much a domain helps a member"},
    [TARGETS] = {"targets", MX_TABLE_MEMBERS, 0, 0, 1, "members that count; all if not given"},
    [INIT] = {"init", MX_TABLE_DOMAINS, 0, 0, 1e9, "the first mix, as it stands"},
    [FIRST_LOSSES] = {"first_losses", MX_TABLE_EVALS, 0, 0, 1e4,
                      "what stands for losses before the first evaluation; ones if not given"},
};

/* The block: this, loss_0 (m), the window's records (window x m), what enters an update (m),
 * weights (k), their logarithms but for a constant (k), exponents of the last update (k). */
struct head {
    double evals;      /* used so far */
    double records;    /* in the window so far; the next goes to place records % window */
    double last_round; /* that made an update */
    double halvings;   /* of the graph */
};

#define HEAD (sizeof(struct head) / sizeof(double))

struct view {
    struct head *head;
    double *loss0, *window, *ell, *p, *log_w, *exponent;
};

static struct view view_of(double *state, const struct mx_policy_conf *c)
{
    size_t k = c->k, m = c->m, w = (size_t)c->params[WINDOW];
    double *loss0 = state + HEAD, *ell = loss0 + m + w * m, *p = ell + m;

    return (struct view){(struct head *)(void *)state, loss0, loss0 + m, ell, p, p + k, p + 2 * k};
}

static size_t skillit_state_size(const struct mx_policy_conf *c)
{
    return HEAD + ((size_t)c->params[WINDOW] + 2) * c->m + 3 * (size_t)c->k;
}

static const char *skillit_check(const struct mx_policy_conf *c, char *text, size_t cap)
{
    uint64_t km[] = {c->k, c->m};
    double targets = 0.0, init = 0.0;

    if (c->tables[GRAPH] == NULL && c->k != c->m) {
        return mx_clash(text, cap,
                        "graph: needed where # domains are not # members of the eval set", km);
    }
    if (c->params[LONE_NODES] != LEARN && c->k != c->m) {
        return mx_clash(text, cap,
                        "lone_nodes: # domains and # members of the eval set are no same skills",
                        km);
    }
    for (uint32_t j = 0; c->tables[TARGETS] != NULL && j < c->m; j++) {
        targets += c->tables[TARGETS][j];
    }
    if (c->tables[TARGETS] != NULL && targets == 0.0) {
        return mx_clash(text, cap, "targets: none of # members", &km[1]);
    }
    for (uint32_t i = 0; c->tables[INIT] != NULL && i < c->k; i++) {
        init += c->tables[INIT][i];
    }
    return c->tables[INIT] != NULL && init == 0.0
               ? mx_clash(text, cap, "init: the # weights sum to 0", &km[0])
               : NULL;
}

/* ---- the graph ------------------------------------------------------------------------------ */

static int counts(const struct mx_policy_conf *c, uint32_t member)
{
    return c->tables[TARGETS] == NULL || c->tables[TARGETS][member] != 0.0;
}

static double edge(const struct mx_policy_conf *c, uint32_t i, uint32_t j)
{
    double a = c->tables[GRAPH] != NULL ? c->tables[GRAPH][(size_t)i * c->m + j] : i == j;

    if (i == j) {
        return c->params[FORCE_DIAGONAL] != 0.0 ? 1.0 : a;
    }
    return a == 1.0 && c->params[UNIT_EDGES] != 0.0 ? 0.5 : a;
}

/* (A x)_i, over the columns that count, positive edges times lambda. */
static double row(const struct mx_policy_conf *c, double lambda, uint32_t i, const double *x)
{
    int own = c->k == c->m || c->tables[TARGETS] != NULL; /* (i, i) is a skill's own: not halved */
    double sum = 0.0;

    if (c->tables[GRAPH] == NULL) {
        return counts(c, i) ? x[i] : 0.0;
    }
    for (uint32_t j = 0; j < c->m; j++) {
        double a = counts(c, j) ? edge(c, i, j) : 0.0;

        sum += (a > 0.0 && !(i == j && own) ? lambda * a : a) * x[j];
    }
    return sum;
}

/* k == m. */
static int is_lone(const struct mx_policy_conf *c, uint32_t i)
{
    int lone = edge(c, i, i) == 1.0;

    for (uint32_t j = 0; j < c->m && lone; j++) {
        lone = i == j || (edge(c, i, j) == 0.0 && edge(c, j, i) == 0.0);
    }
    return lone;
}

/* ---- weights -------------------------------------------------------------------------------- */

/* log_w becomes log(prior) + exponent (in `reference`: the last log_w + exponent). */
static void multiply(const struct view *v, const struct mx_policy_conf *c)
{
    for (uint32_t i = 0; i < c->k; i++) {
        if (c->params[LONE_NODES] != REFERENCE) {
            v->log_w[i] = log(c->prior[i]);
        }
        v->log_w[i] += v->exponent[i];
    }
}

/* p from log_w, and log_w relative to its largest. p is -1 where lone: such skills have no part in
 * it. */
static void softmax(const struct view *v, uint32_t k, double share)
{
    double largest = -INFINITY, sum = 0.0;

    for (uint32_t i = 0; i < k; i++) {
        largest = v->p[i] < 0.0 ? largest : fmax(largest, v->log_w[i]);
    }
    for (uint32_t i = 0; i < k; i++) {
        v->log_w[i] -= largest > -INFINITY ? largest : 0.0;
        if (v->p[i] >= 0.0) {
            v->p[i] = exp(v->log_w[i]);
            sum += v->p[i];
        }
    }
    for (uint32_t i = 0; i < k; i++) {
        v->p[i] *= v->p[i] >= 0.0 && sum > 0.0 ? share / sum : 1.0;
    }
}

static void make_weights(const struct view *v, const struct mx_policy_conf *c)
{
    int choice = (int)c->params[LONE_NODES];
    double taken = 0.0;

    multiply(v, c);
    for (uint32_t i = 0; i < c->k; i++) {
        v->p[i] = 0.0;
        if (choice != LEARN && is_lone(c, i)) {
            taken += choice == KEEP ? c->prior[i] : 1.0 / c->k;
            v->p[i] = -1.0;
        }
    }
    softmax(v, c->k, fmax(0.0, 1.0 - taken));
    for (uint32_t i = 0; i < c->k; i++) {
        if (v->p[i] < 0.0) {
            v->p[i] = choice == KEEP ? c->prior[i] : 1.0 / c->k;
        }
    }
}

static void skillit_init(double *state, const struct mx_policy_conf *c)
{
    struct view v;
    double sum = 0.0;

    memset(state, 0, skillit_state_size(c) * sizeof *state);
    v = view_of(state, c);
    for (uint32_t j = 0; j < c->m; j++) {
        v.ell[j] = c->tables[FIRST_LOSSES] != NULL ? c->tables[FIRST_LOSSES][j] : 1.0;
    }
    for (uint32_t i = 0; i < c->k; i++) {
        v.exponent[i] = c->params[ETA] * row(c, 1.0, i, v.ell);
        v.log_w[i] = log(c->prior[i]);
        sum += c->tables[INIT] != NULL ? c->tables[INIT][i] : 0.0;
    }
    if (c->tables[INIT] == NULL) {
        make_weights(&v, c);
        return;
    }
    for (uint32_t i = 0; i < c->k; i++) {
        v.exponent[i] = 0.0;
        v.p[i] = c->tables[INIT][i] / sum;
        v.log_w[i] = log(v.p[i]);
    }
}

/* ---- evaluations ---------------------------------------------------------------------------- */

/* Whether every member that counts is there. */
static int complete(const struct mx_policy_conf *c, const struct mx_observation *o)
{
    uint32_t at = 0;

    for (uint32_t j = 0; j < c->m; j++) {
        int there = at < o->n_eval && o->eval[at].domain == j;

        if (!there && counts(c, j)) {
            return 0;
        }
        at += (uint32_t)there;
    }
    return 1;
}

/* The place of record number n, from 0. */
static double *place(const struct view *v, const struct mx_policy_conf *c, double n)
{
    return v->window + (size_t)((uint64_t)n % (uint64_t)c->params[WINDOW]) * c->m;
}

/* A new record of the window; members that are not there count nothing. */
static double *new_record(const struct view *v, const struct mx_policy_conf *c)
{
    double *r = place(v, c, v->head->records++);

    memset(r, 0, c->m * sizeof *r);
    return r;
}

static double sum_counted(const struct mx_policy_conf *c, const double *losses, uint32_t *ret_n)
{
    double sum = 0.0;

    *ret_n = 0;
    for (uint32_t j = 0; j < c->m; j++) {
        if (counts(c, j)) {
            sum += losses[j];
            (*ret_n)++;
        }
    }
    return sum;
}

static void take_record(const struct view *v, const struct mx_policy_conf *c,
                        const struct mx_observation *o)
{
    uint32_t n;
    double *r, mean;

    if (v->head->evals < 2.0) {
        memset(v->loss0, 0, c->m * sizeof *v->loss0);
        for (uint32_t i = 0; i < o->n_eval; i++) {
            v->loss0[o->eval[i].domain] = o->eval[i].loss;
        }
    }
    if (v->head->evals++ == 0.0 && c->params[INITIALIZE_LOSS] != 0.0) {
        mean = sum_counted(c, v->loss0, &n);
        mean /= n;
        r = new_record(v, c);
        for (uint32_t j = 0; j < c->m; j++) {
            r[j] = mean;
        }
    }
    r = new_record(v, c);
    for (uint32_t i = 0; i < o->n_eval; i++) {
        r[o->eval[i].domain] = o->eval[i].loss;
    }
}

/* What the window says of each member, oldest record first; the last record. */
static const double *gather(const struct view *v, const struct mx_policy_conf *c)
{
    double have = fmin(v->head->records, c->params[WINDOW]);
    const double *r = NULL;

    memset(v->ell, 0, c->m * sizeof *v->ell);
    for (double back = have; back >= 1.0; back--) {
        r = place(v, c, v->head->records - back);
        for (uint32_t j = 0; j < c->m; j++) {
            v->ell[j] += r[j];
        }
    }
    for (uint32_t j = 0; j < c->m; j++) {
        v->ell[j] /= c->tables[TARGETS] != NULL ? have : 1.0;
        v->ell[j] /= c->params[NORMALIZE_LOSS] != 0.0 ? fmax(v->loss0[j], LOSS_LEAST) : 1.0;
    }
    return r;
}

static void skillit_observe(double *state, const struct mx_policy_conf *c,
                            const struct mx_observation *o)
{
    struct view v = view_of(state, c);
    double round = floor((double)o->t / c->params[UPDATE_STEPS]), eta = c->params[ETA], lambda;
    const double *last;
    uint32_t n;

    if (c->params[VARIANT] == STATIC || o->n_eval == 0 || !complete(c, o)) {
        return;
    }
    take_record(&v, c, o);
    if (round <= v.head->last_round) {
        return;
    }
    v.head->last_round = round;
    last = gather(&v, c);
    if (c->params[ETA_SCHEDULE] != 0.0) {
        eta /= fmax(sum_counted(c, last, &n), LOSS_LEAST) /
               fmax(sum_counted(c, v.loss0, &n), LOSS_LEAST);
    }
    lambda = ldexp(1.0, -(int)v.head->halvings);
    for (uint32_t i = 0; i < c->k; i++) {
        v.exponent[i] = eta * row(c, lambda, i, v.ell);
    }
    make_weights(&v, c);
    if (c->params[DYNAMIC_LAMBDA] != 0.0) {
        v.head->halvings = fmin(v.head->halvings + 1.0, HALVINGS_MAX);
    }
}

static void skillit_weights(const double *state, const struct mx_policy_conf *c, double *ret)
{
    size_t at = HEAD + ((size_t)c->params[WINDOW] + 2) * c->m;

    memcpy(ret, state + at, c->k * sizeof *ret);
}

static void skillit_explain(const double *state, const struct mx_policy_conf *c, double *ret)
{
    size_t at = HEAD + ((size_t)c->params[WINDOW] + 2) * c->m + 2 * (size_t)c->k;

    memcpy(ret, state + at, c->k * sizeof *ret);
}

static int skillit_sane(const double *state, const struct mx_policy_conf *c)
{
    const struct head *h = (const struct head *)(const void *)state;

    (void)c;
    for (size_t i = 0; i < HEAD; i++) {
        if (!(state[i] >= 0.0 && state[i] <= 0x1p53 && floor(state[i]) == state[i])) {
            return 0;
        }
    }
    return h->halvings <= HALVINGS_MAX;
}

void mx_skillit_counts(const double *weights, uint32_t k, uint64_t n, uint64_t *ret)
{
    double sum = 0.0;
    uint64_t left = n;

    for (uint32_t i = 0; i < k; i++) {
        sum += weights[i];
    }
    for (uint32_t i = 0; i + 1 < k; i++) {
        ret[i] = (uint64_t)floor(weights[i] / sum * (double)n);
        ret[i] = ret[i] < left ? ret[i] : left;
        left -= ret[i];
    }
    ret[k - 1] = left;
}

const struct mx_policy_ops mx_policy_skillit = {
    .name = "skillit",
    .what = "Skill-It: a graph of which domain helps which skill, and what isn't yet known",
    .params = skillit_params,
    .n_params = sizeof skillit_params / sizeof skillit_params[0],
    .tables = skillit_tables,
    .n_tables = sizeof skillit_tables / sizeof skillit_tables[0],
    .uses_eval = 1,
    .adapts = 1,
    .check = skillit_check,
    .state_size = skillit_state_size,
    .init = skillit_init,
    .observe = skillit_observe,
    .weights = skillit_weights,
    .n_terms = 1,
    .terms = {"estimate"},
    .explain = skillit_explain,
    .sane = skillit_sane,
};
