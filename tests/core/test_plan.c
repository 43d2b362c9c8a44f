/* test_plan.c - what a step holds, against what planning promises and against a slow model of
 * budgets. */
#include "tests/core/check.h"

#include "daemon/core/plan.h"
#include "daemon/core/shares.h"

#include <math.h>

#define K_MAX 12

struct setup {
    struct mx_plan_spec spec;
    struct mx_plan_domain domains[K_MAX];
    uint64_t shares[K_MAX], cursors[K_MAX];
    uint32_t counts[K_MAX], prefix[K_MAX + 1];
};

static void make_shares(struct dice *d, uint64_t *shares, uint32_t k)
{
    double p[K_MAX], sum = 0.0;
    uint64_t scratch[K_MAX];

    for (uint32_t i = 0; i < k; i++) {
        p[i] = below(d, 5) == 0 ? 0.0 : exp(-6 * unit(d));
        sum += p[i];
    }
    if (sum == 0.0) {
        p[below(d, k)] = 1.0;
    }
    mx_shares_quantise(p, k, shares, scratch);
}

static void make_setup(struct dice *d, struct setup *s, enum mx_sampling sampling)
{
    memset(s, 0, sizeof *s);
    s->spec.seed = roll(d);
    s->spec.k = 1 + (uint32_t)below(d, K_MAX);
    s->spec.sampling = sampling;
    s->spec.block = sampling == MX_SAMPLING_BLOCK ? 1 + (uint32_t)below(d, 8) : 1;
    s->spec.batch = s->spec.block * (1 + (uint32_t)below(d, 60));
    s->spec.domains = s->domains;
    for (uint32_t i = 0; i < s->spec.k; i++) {
        s->domains[i] = (struct mx_plan_domain){.samples = 1 + below(d, 500),
                                                .budget = MX_NO_BUDGET,
                                                .chunk = 1 + (uint32_t)below(d, 20),
                                                .window = 1 + (uint32_t)below(d, 5)};
        s->cursors[i] = below(d, 2000);
    }
    make_shares(d, s->shares, s->spec.k);
}

static void plan(struct setup *s, uint64_t step)
{
    uint64_t total = 0;

    assert_int_equal(mx_plan_counts(&s->spec, s->shares, step, s->cursors, s->counts), -1);
    for (uint32_t i = 0; i < s->spec.k; i++) {
        s->prefix[i + 1] = s->prefix[i] + s->counts[i];
        total += s->counts[i];
    }
    assert_int_equal(total, s->spec.batch);
}

static void move_on(struct setup *s)
{
    for (uint32_t i = 0; i < s->spec.k; i++) {
        s->cursors[i] += s->counts[i];
    }
}

/* ---- counts --------------------------------------------------------------------------------- */

static void every_step_has_exactly_its_batch(void **state)
{
    struct dice d = {test_seed("every_step_has_exactly_its_batch", 31)};

    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct setup s;

        make_setup(&d, &s, (enum mx_sampling)(round % 3));
        plan(&s, roll(&d) >> 24);
        for (uint32_t i = 0; i < s.spec.k; i++) {
            assert_int_equal(s.counts[i] % s.spec.block, 0);
            assert_true(s.shares[i] > 0 || s.counts[i] == 0);
        }
    }
}

static void systematic_counts_are_floor_or_ceiling(void **state)
{
    struct dice d = {test_seed("systematic_counts_are_floor_or_ceiling", 32)};

    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct setup s;

        make_setup(&d, &s, MX_SAMPLING_SYSTEMATIC);
        plan(&s, roll(&d) >> 24);
        for (uint32_t i = 0; i < s.spec.k; i++) {
            uint64_t exact = s.spec.batch * s.shares[i], whole = exact >> 32;

            assert_true(s.counts[i] == whole ||
                        (s.counts[i] == whole + 1 && exact % MX_SHARE_ONE != 0));
        }
    }
}

/* The definition, literally: the points j * 2^32 + u in the stretch of each domain. */
static void systematic_counts_are_points_in_stretches(void **state)
{
    struct mx_plan_domain domains[3];
    uint64_t shares[3] = {MX_SHARE_ONE / 2, 3, MX_SHARE_ONE / 2 - 3}, cursors[3] = {0};
    struct mx_plan_spec spec = {.seed = 5, .batch = 5, .k = 3, .block = 1, .domains = domains};
    int seen_tiny = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        domains[i] = (struct mx_plan_domain){.samples = 10, .budget = MX_NO_BUDGET,
                                              .chunk = 1, .window = 1};
    }
    for (uint64_t step = 0; step < 2000; step++) {
        uint32_t counts[3];
        int fits = 0;

        assert_int_equal(mx_plan_counts(&spec, shares, step, cursors, counts), -1);
        /* Some offset must explain all three counts: it is enough to try those at the edges. */
        for (uint64_t edge = 0; edge < 6 && !fits; edge++) {
            uint64_t bounds[3] = {0, 5 * shares[0], 5 * (shares[0] + shares[1])};
            uint64_t u = (bounds[edge / 2] + edge % 2 + MX_SHARE_ONE - 1) % MX_SHARE_ONE;
            uint32_t at[3] = {0};

            for (uint64_t j = 0; j < 5; j++) {
                uint64_t x = j * MX_SHARE_ONE + u;

                at[x < bounds[1] ? 0 : x < bounds[2] ? 1 : 2]++;
            }
            fits = memcmp(at, counts, sizeof at) == 0;
        }
        assert_true(fits);
        seen_tiny += counts[1] > 0;
    }
    assert_true(seen_tiny < 5); /* 15 in 2^32 */
}

/* Means over T steps. Per step and domain a count has a standard deviation of at most 1/2
 * (systematic), sqrt(B w (1 - w)) (iid), m sqrt(B/m w (1 - w)) (block of m); offsets and draws of
 * different steps are independent. At 5 standard deviations one of these 3 * 20 * ~6 comparisons
 * fails by chance with a probability of 2e-4; the seeds are fixed. */
static void counts_are_unbiased(void **state)
{
    struct dice d = {test_seed("counts_are_unbiased", 33)};
    enum { STEPS = 1500 };

    (void)state;
    for (int round = 0; round < 60; round++) {
        struct setup s;
        double sums[K_MAX] = {0};

        make_setup(&d, &s, (enum mx_sampling)(round % 3));
        for (uint64_t step = 0; step < STEPS; step++) {
            plan(&s, step);
            for (uint32_t i = 0; i < s.spec.k; i++) {
                sums[i] += s.counts[i];
            }
        }
        for (uint32_t i = 0; i < s.spec.k; i++) {
            double w = (double)s.shares[i] / 0x1p32, units = s.spec.batch / s.spec.block;
            double sigma = s.spec.sampling == MX_SAMPLING_SYSTEMATIC
                               ? 0.5
                               : s.spec.block * sqrt(units * w * (1 - w));

            assert_true(fabs(sums[i] - STEPS * w * s.spec.batch) <= 5 * sigma * sqrt(STEPS) + 1e-6);
        }
    }
}

static void many_domains_are_drawn_alike(void **state)
{
    enum { K = 1000, STEPS = 300 };
    struct mx_plan_domain *domains = test_get(K, sizeof *domains);
    uint64_t *shares = test_get(K, sizeof *shares), *cursors = test_get(K, sizeof *cursors);
    uint32_t *counts = test_get(K, sizeof *counts);
    double *sums = test_get(K, sizeof *sums), chi = 0.0;
    struct mx_plan_spec spec = {.seed = 3, .batch = 2000, .k = K, .block = 1,
                                .sampling = MX_SAMPLING_IID, .domains = domains};

    (void)state;
    for (uint32_t i = 0; i < K; i++) {
        domains[i] = (struct mx_plan_domain){.samples = 10, .budget = MX_NO_BUDGET,
                                              .chunk = 1, .window = 1};
        shares[i] = MX_SHARE_ONE / K + (i < MX_SHARE_ONE % K);
    }
    for (uint64_t step = 0; step < STEPS; step++) {
        uint64_t total = 0;

        assert_int_equal(mx_plan_counts(&spec, shares, step, cursors, counts), -1);
        for (uint32_t i = 0; i < K; i++) {
            sums[i] += counts[i];
            total += counts[i];
        }
        assert_int_equal(total, spec.batch);
    }
    for (uint32_t i = 0; i < K; i++) {
        chi += (sums[i] - 600) * (sums[i] - 600) / 600;
    }
    assert_true(fabs(chi - (K - 1)) < 5 * sqrt(2.0 * K)); /* 5 standard deviations */
    free(domains);
    free(shares);
    free(cursors);
    free(counts);
    free(sums);
}

/* ---- samples and slots ---------------------------------------------------------------------- */

static void every_sample_comes_once_an_epoch(void **state)
{
    struct dice d = {test_seed("every_sample_comes_once_an_epoch", 34)};

    (void)state;
    for (int round = 0; round < 60; round++) {
        struct setup s;
        struct mx_plan_item items[512];
        unsigned char *seen[K_MAX];
        uint32_t epochs = 6;

        make_setup(&d, &s, (enum mx_sampling)(round % 3));
        memset(s.cursors, 0, sizeof s.cursors);
        for (uint32_t i = 0; i < s.spec.k; i++) {
            seen[i] = test_get(s.domains[i].samples * epochs, 1);
        }
        for (uint64_t step = 0; step < 200; step++) {
            plan(&s, step);
            mx_plan_items(&s.spec, step, s.cursors, s.prefix, 0, s.spec.batch, items);
            for (uint32_t i = 0; i < s.spec.batch; i++) {
                const struct mx_plan_item *it = &items[i];
                uint64_t at;

                assert_true(it->domain < s.spec.k);
                assert_true(it->sample < s.domains[it->domain].samples);
                at = it->epoch * s.domains[it->domain].samples + it->sample;
                if (it->epoch < epochs) {
                    assert_int_equal(seen[it->domain][at], 0);
                    seen[it->domain][at] = 1;
                }
            }
            move_on(&s);
        }
        for (uint32_t i = 0; i < s.spec.k; i++) {
            uint64_t upto = s.cursors[i] / s.domains[i].samples * s.domains[i].samples;

            for (uint64_t at = 0; at < upto && at < s.domains[i].samples * epochs; at++) {
                assert_int_equal(seen[i][at], 1);
            }
            free(seen[i]);
        }
    }
}

static void the_world_size_changes_nothing(void **state)
{
    struct dice d = {test_seed("the_world_size_changes_nothing", 35)};

    (void)state;
    for (int round = 0; round < 600; round++) {
        struct setup s;
        struct mx_plan_item whole[512], part[512];
        uint64_t step = roll(&d) >> 30;
        uint32_t world = 1 + (uint32_t)below(&d, 20);

        make_setup(&d, &s, (enum mx_sampling)(round % 3));
        plan(&s, step);
        mx_plan_items(&s.spec, step, s.cursors, s.prefix, 0, s.spec.batch, whole);
        for (uint32_t r = 0; r < world; r++) {
            uint32_t from = r * s.spec.batch / world, upto = (r + 1) * s.spec.batch / world;

            mx_plan_items(&s.spec, step, s.cursors, s.prefix, from, upto - from, part + from);
        }
        for (uint32_t i = 0; i < s.spec.batch; i++) {
            assert_int_equal(whole[i].sample, part[i].sample);
            assert_int_equal(whole[i].domain, part[i].domain);
            assert_int_equal(whole[i].epoch, part[i].epoch);
        }
    }
}

/* However few slots are asked for, where domains pass places over. */
static void parts_are_the_whole_with_samples_gone(void **state)
{
    struct dice d = {test_seed("parts_are_the_whole_with_samples_gone", 40)};

    (void)state;
    for (int round = 0; round < 400; round++) {
        struct setup s;
        struct mx_gone gone[K_MAX];
        struct mx_plan_item whole[512], part[512];
        uint64_t step = roll(&d) >> 30;

        make_setup(&d, &s, (enum mx_sampling)(round % 3));
        for (uint32_t i = 0; i < s.spec.k; i++) { /* up to half of the samples, of some of them */
            gone[i] = (struct mx_gone){0, s.domains[i].samples / 2, below(&d, 2500)};
            s.domains[i].gone = &gone[i];
            s.domains[i].n_gone = gone[i].count > 0 && below(&d, 2) == 0;
        }
        plan(&s, step);
        mx_plan_items(&s.spec, step, s.cursors, s.prefix, 0, s.spec.batch, whole);
        for (uint32_t at = 0; at < s.spec.batch;) {
            uint32_t n = 1 + (uint32_t)below(&d, 8);

            n = n < s.spec.batch - at ? n : s.spec.batch - at;
            mx_plan_items(&s.spec, step, s.cursors, s.prefix, at, n, part + at);
            at += n;
        }
        for (uint32_t i = 0; i < s.spec.batch; i++) {
            assert_int_equal(whole[i].sample, part[i].sample);
            assert_int_equal(whole[i].domain, part[i].domain);
            assert_int_equal(whole[i].epoch, part[i].epoch);
        }
    }
}

static void slots_can_be_asked_for(void **state)
{
    struct dice d = {test_seed("slots_can_be_asked_for", 36)};

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct setup s;
        uint64_t step = roll(&d) >> 30;
        unsigned char taken[512] = {0};

        make_setup(&d, &s, (enum mx_sampling)(round % 3));
        plan(&s, step);
        for (uint32_t i = 0; i < s.spec.k; i++) {
            for (uint32_t j = 0; j < s.counts[i]; j++) {
                uint32_t slot = mx_plan_slot(&s.spec, step, s.prefix, i, j);
                struct mx_plan_item one;

                assert_true(slot < s.spec.batch && !taken[slot]);
                taken[slot] = 1;
                mx_plan_items(&s.spec, step, s.cursors, s.prefix, slot, 1, &one);
                assert_int_equal(one.domain, i);
                assert_int_equal(one.epoch, (s.cursors[i] + j) / s.domains[i].samples);
            }
        }
    }
}

static void steps_are_laid_out_differently(void **state)
{
    struct mx_plan_domain domains[2] = {
        {.samples = 100000, .budget = MX_NO_BUDGET, .chunk = 1, .window = 1},
        {.samples = 100000, .budget = MX_NO_BUDGET, .chunk = 1, .window = 1}};
    struct mx_plan_spec spec = {.seed = 1, .batch = 64, .k = 2, .block = 1, .domains = domains};
    uint64_t cursors[2] = {0, 0};
    uint32_t prefix[3] = {0, 32, 64};
    struct mx_plan_item a[64], b[64];
    int same = 0;

    (void)state;
    mx_plan_items(&spec, 1, cursors, prefix, 0, 64, a);
    mx_plan_items(&spec, 2, cursors, prefix, 0, 64, b);
    for (int i = 0; i < 64; i++) {
        same += a[i].sample == b[i].sample;
    }
    assert_true(same < 10);
    spec.seed = 2;
    mx_plan_items(&spec, 1, cursors, prefix, 0, 64, b);
    same = 0;
    for (int i = 0; i < 64; i++) {
        same += a[i].sample == b[i].sample;
    }
    assert_true(same < 10);
}

/* ---- budgets -------------------------------------------------------------------------------- */

/* What is left of a domain, in units, in the plainest terms. */
static uint64_t slow_room(const struct setup *s, uint32_t i, uint64_t units_taken)
{
    const struct mx_plan_domain *p = &s->domains[i];

    if (p->budget == MX_NO_BUDGET || p->on_exhausted == MX_EXHAUSTED_REPEAT) {
        return UINT64_MAX / 2;
    }
    return s->cursors[i] >= p->budget
               ? 0
               : (p->budget - s->cursors[i]) / s->spec.block - units_taken;
}

/* The rule of plan.h once more: sorted remainders, everything recomputed in every round. */
static int64_t slow_budgets(const struct setup *s, uint64_t *units)
{
    uint64_t excess = 0;
    int64_t capped = -1;

    for (uint32_t i = 0; i < s->spec.k; i++) {
        uint64_t room = slow_room(s, i, 0);

        if (units[i] > room) {
            if (s->domains[i].on_exhausted == MX_EXHAUSTED_STOP) {
                return (int64_t)i;
            }
            capped = capped < 0 ? (int64_t)i : capped;
            excess += units[i] - room;
            units[i] = room;
        }
    }
    while (excess > 0) {
        uint64_t claim[K_MAX], give[K_MAX], rest[K_MAX], sum = 0, left = excess;

        for (int round = 0; round < 2 && sum == 0; round++) {
            for (uint32_t i = 0; i < s->spec.k; i++) {
                uint64_t c = round == 0 ? s->shares[i] : 1;

                claim[i] = slow_room(s, i, units[i]) > 0 ? c : 0;
                sum += claim[i];
            }
        }
        if (sum == 0) {
            return capped;
        }
        for (uint32_t i = 0; i < s->spec.k; i++) {
            give[i] = excess * claim[i] / sum;
            rest[i] = excess * claim[i] % sum;
            left -= give[i];
        }
        for (; left > 0; left--) {
            uint32_t best = K_MAX;

            for (uint32_t i = 0; i < s->spec.k; i++) {
                if (claim[i] > 0 && rest[i] != UINT64_MAX &&
                    (best == K_MAX || rest[i] > rest[best])) {
                    best = i;
                }
            }
            assert_true(best < K_MAX);
            give[best]++;
            rest[best] = UINT64_MAX;
        }
        for (uint32_t i = 0; i < s->spec.k; i++) {
            uint64_t room = slow_room(s, i, units[i]);
            uint64_t given = give[i] < room ? give[i] : room;

            units[i] += given;
            excess -= given;
        }
    }
    return -1;
}

static void budgets_are_kept_as_the_slow_model_does(void **state)
{
    struct dice d = {test_seed("budgets_are_kept", 37)};
    int stopped = 0, moved = 0;

    (void)state;
    for (int round = 0; round < 8000; round++) {
        struct setup s;
        uint64_t units[K_MAX];
        uint64_t step = roll(&d) >> 30;
        int64_t want, got;

        make_setup(&d, &s, (enum mx_sampling)(round % 3));
        plan(&s, step);
        for (uint32_t i = 0; i < s.spec.k; i++) {
            units[i] = s.counts[i] / s.spec.block;
            if (below(&d, 2) == 0) {
                s.domains[i].budget = s.cursors[i] + below(&d, s.spec.batch + 20);
                s.domains[i].budget -= below(&d, 4) == 0 ? s.domains[i].budget / 2 : 0;
            }
            s.domains[i].on_exhausted = (enum mx_on_exhausted)(below(&d, 8) == 0 ? 1 + below(&d, 2)
                                                                                 : 0);
        }
        want = slow_budgets(&s, units);
        got = mx_plan_counts(&s.spec, s.shares, step, s.cursors, s.counts);
        assert_int_equal(got, want);
        stopped += got >= 0;
        for (uint32_t i = 0; got < 0 && i < s.spec.k; i++) {
            moved += s.counts[i] != s.prefix[i + 1] - s.prefix[i];
            assert_int_equal(s.counts[i], units[i] * s.spec.block);
        }
    }
    assert_true(stopped > 500 && moved > 500); /* the cases did come up */
}

/* Runs to its end: no domain passes its budget, and where one stops it, none had to be passed. */
static void budgets_last_to_the_last_sample(void **state)
{
    struct dice d = {test_seed("budgets_last", 38)};

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct setup s;
        uint64_t room = 0, step = 0;

        make_setup(&d, &s, (enum mx_sampling)(round % 3));
        for (uint32_t i = 0; i < s.spec.k; i++) {
            s.cursors[i] = 0;
            s.domains[i].budget = s.domains[i].samples * (1 + below(&d, 3));
            room += s.domains[i].budget / s.spec.block;
        }
        while (mx_plan_counts(&s.spec, s.shares, step, s.cursors, s.counts) < 0) {
            for (uint32_t i = 0; i < s.spec.k; i++) {
                s.cursors[i] += s.counts[i];
                assert_true(s.cursors[i] <= s.domains[i].budget);
            }
            step++;
        }
        /* All that there is was used, up to less than a batch. */
        assert_int_equal(step, room / (s.spec.batch / s.spec.block));
    }
}

static void advancing_is_planning_step_by_step(void **state)
{
    struct dice d = {test_seed("advancing", 39)};

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct setup s;
        struct mx_plan_mix mixes[4];
        uint64_t shares[4][K_MAX], slow[K_MAX], fast[K_MAX];
        uint64_t from = below(&d, 50), upto = from + below(&d, 40);
        uint32_t counts[K_MAX];

        make_setup(&d, &s, (enum mx_sampling)(round % 3));
        for (int m = 0; m < 4; m++) {
            make_shares(&d, shares[m], s.spec.k);
            mixes[m] = (struct mx_plan_mix){m == 0 ? below(&d, from + 1)
                                                   : mixes[m - 1].from_step + below(&d, 20),
                                            (uint64_t)m + 1, shares[m]};
        }
        memcpy(slow, s.cursors, sizeof slow);
        memcpy(fast, s.cursors, sizeof fast);
        for (uint64_t step = from; step < upto; step++) {
            int last = 0;

            for (int m = 0; m < 4; m++) {
                last = mixes[m].from_step <= step ? m : last;
            }
            assert_int_equal(mx_plan_counts(&s.spec, shares[last], step, slow, counts), -1);
            for (uint32_t i = 0; i < s.spec.k; i++) {
                slow[i] += counts[i];
            }
        }
        assert_int_equal(mx_plan_advance(&s.spec, mixes, 4, from, upto, fast, counts), -1);
        assert_memory_equal(slow, fast, s.spec.k * sizeof *slow);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_has_exactly_its_batch),
        cmocka_unit_test(systematic_counts_are_floor_or_ceiling),
        cmocka_unit_test(systematic_counts_are_points_in_stretches),
        cmocka_unit_test(counts_are_unbiased),
        cmocka_unit_test(many_domains_are_drawn_alike),
        cmocka_unit_test(every_sample_comes_once_an_epoch),
        cmocka_unit_test(the_world_size_changes_nothing),
        cmocka_unit_test(parts_are_the_whole_with_samples_gone),
        cmocka_unit_test(slots_can_be_asked_for),
        cmocka_unit_test(steps_are_laid_out_differently),
        cmocka_unit_test(budgets_are_kept_as_the_slow_model_does),
        cmocka_unit_test(budgets_last_to_the_last_sample),
        cmocka_unit_test(advancing_is_planning_step_by_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
