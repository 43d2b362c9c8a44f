/* fuzz_policy.c - any sequence of steps, for every policy, with any config that it accepts: through
 * guards and limits come weights that are finite, on the simplex and within the limits; and a state
 * saved and loaded in the middle goes on exactly like the one that stayed. */
#include "tests/core/policy_world.h"

#include "daemon/core/mixer.h"
#include "daemon/core/shares.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 64
#define WORKS_MAX 2

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok, const char *policy, const char *what)
{
    if (!ok) {
        fprintf(stderr, "fuzz_policy: %s: %s\n", policy, what);
        abort();
    }
}

/* Two bytes a draw, spread over 64 bits; zeros at the end. */
struct bytes {
    struct policy_source source; /* first */
    const uint8_t *p;
    size_t left;
};

static uint64_t draw(struct policy_source *s)
{
    struct bytes *b = (struct bytes *)(void *)s;
    uint64_t v = 0;

    for (int i = 0; i < 2 && b->left > 0; i++, b->left--) {
        v = v << 8 | *b->p++;
    }
    return v * 0x9e3779b97f4a7c15u ^ v;
}

static uint64_t below(struct bytes *b, uint64_t n)
{
    return draw(&b->source) % n;
}

static struct mx_guards some_guards(const struct mx_policy_ops *ops, struct bytes *b)
{
    static const double clips[] = {INFINITY, 20.0, 0.5, 0.0}, parts[] = {0.0, 0.5, 0.999};
    static const double changes[] = {1.0, 0.1, 1e-6}, discounts[] = {1.0, 0.5, 1e-3};
    struct mx_guards g = mx_guards_none(ops);

    g.loss_clip = clips[below(b, 4)];
    g.prior_decay = parts[below(b, 3)];
    g.absent_decay = parts[below(b, 3)];
    g.max_change = changes[below(b, 3)];
    g.stale_discount = discounts[below(b, 3)];
    g.stale_max = below(b, 2) ? 3.0 : INFINITY;
    g.absent = (enum mx_absent)below(b, 3);
    return g;
}

/* Limits that can be met. */
static void some_limits(struct mx_limit *limits, uint32_t k, struct bytes *b)
{
    size_t bad;
    double sum;

    for (uint32_t i = 0; i < k; i++) {
        limits[i] = (struct mx_limit){0.0, 1.0, NAN, 1};
        switch (below(b, 8)) {
        case 0: limits[i].floor = 0.5 / k; break;
        case 1: limits[i].ceiling = fmin(1.0, 2.5 / k); break;
        case 2: limits[i].pin = 0.25 / k; break;
        default: break;
        }
    }
    if (mx_limits_check(limits, k, &bad, &sum) != MX_LIMITS_OK) {
        for (uint32_t i = 0; i < k; i++) {
            limits[i] = (struct mx_limit){0.0, 1.0, NAN, 1};
        }
    }
}

static void check_mix(const char *policy, const double *weights, const struct mx_limit *limits,
                      uint32_t k)
{
    double p[WORLD_K_MAX], scratch[4 * WORLD_K_MAX];
    uint64_t shares[WORLD_K_MAX], ints[WORLD_K_MAX], sum = 0;

    require(policy_world_sound(weights, k), policy, "these aren't weights");
    mx_limits_project(limits, weights, k, p, scratch);
    require(policy_world_sound(p, k), policy, "the limits leave no weights");
    mx_shares_quantise(p, k, shares, ints);
    for (uint32_t i = 0; i < k; i++) {
        double low = isnan(limits[i].pin) ? limits[i].floor : limits[i].pin;
        double high = isnan(limits[i].pin) ? limits[i].ceiling : limits[i].pin;

        require(p[i] >= low - 1e-9 && p[i] <= high + 1e-9, policy, "a limit isn't kept");
        sum += shares[i];
    }
    require(sum == MX_SHARE_ONE, policy, "shares don't sum to one");
}

/* A long computation, if one is wanted: the same result for both. */
static void work(const struct mx_mixer_conf *c, double *state, double *other, double *scratch)
{
    double *result = malloc((mx_mixer_work_size(c) + 1) * sizeof *result);
    double *room = malloc((mx_mixer_work_scratch(c) + 1) * sizeof *room);

    if (result != NULL && room != NULL) {
        mx_mixer_work(state, c, result, room);
        (void)mx_mixer_worked(state, c, result, scratch);
        if (other != NULL) {
            (void)mx_mixer_worked(other, c, result, scratch);
        }
    }
    free(result);
    free(room);
}

static void live(struct policy_world *w, const struct mx_mixer_conf *c, struct bytes *b)
{
    const char *name = c->policy.ops->name;
    size_t words = mx_mixer_size(c);
    double *state = malloc((words + 1) * sizeof *state), *other = NULL;
    double *scratch = malloc((mx_mixer_scratch(c) + 1) * sizeof *scratch);
    struct mx_limit limits[WORLD_K_MAX];
    size_t half = below(b, STEPS_MAX);
    const double *own = state + words - c->policy.ops->state_size(&c->policy); /* the policy's */
    int works = 0;

    if (state == NULL || scratch == NULL) {
        abort();
    }
    some_limits(limits, c->policy.k, b);
    mx_mixer_init(state, c);
    for (size_t i = 0; i < STEPS_MAX && b->left > 0; i++) {
        struct mx_observation o = policy_world_observe(w, own);
        uint64_t stale = below(b, 6);
        int moved;

        if (i == half) { /* saved and loaded */
            other = malloc((words + 1) * sizeof *other);
            memcpy(other, state, words * sizeof *state);
        }
        moved = mx_mixer_observe(state, c, &o, stale, scratch);
        if (other != NULL) {
            require(mx_mixer_observe(other, c, &o, stale, scratch) == moved, name, "not the same");
        }
        if (works < WORKS_MAX && mx_mixer_wants_work(state, c)) {
            works++;
            work(c, state, other, scratch);
        }
        if (moved && below(b, 2)) {
            mx_mixer_in_force(state, c, o.t + 1);
            if (other != NULL) {
                mx_mixer_in_force(other, c, o.t + 1);
            }
        }
        require(mx_mixer_sane(state, c), name, "its own state isn't sane to it");
        check_mix(name, mx_mixer_weights(state), limits, c->policy.k);
    }
    require(mx_mixer_counts(state).broken == 0, name, "it made weights that are none");
    require(other == NULL || memcmp(other, state, words * sizeof *state) == 0, name,
            "saved and loaded, it goes on in another way");
    free(state);
    free(other);
    free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes b = {{draw}, data, size};
    const struct mx_policy_ops *ops;
    struct policy_world w;
    char text[256];
    size_t n = 0;

    while (mx_policy_at(n) != NULL) {
        n++;
    }
    if (size == 0) {
        return 0;
    }
    ops = mx_policy_at(below(&b, n));
    if (policy_world_begin(&w, ops, 1 + (uint32_t)below(&b, 12), (int)below(&b, 2), &b.source, text,
                           sizeof text) == 0) {
        struct mx_mixer_conf c = {.policy = w.c, .guards = some_guards(ops, &b)};

        live(&w, &c, &b);
    }
    policy_world_end(&w);
    return 0;
}
