/* test_sim.c - thousands of simulated runs, each from its seed. What is played is sim.c's, what
 * must hold sim_model.c's. A seed that failed is run again alone by MX_TEST_SEED;
 * MX_TEST_SIM_SEEDS says how many there are. */
#include "tests/core/sim.h"

#define EVENTS 1200
#define SEEDS 2000

static uint64_t seeds(void)
{
    const char *given = getenv("MX_TEST_SIM_SEEDS");

    return given != NULL ? strtoull(given, NULL, 0) : getenv("MX_TEST_SEED") != NULL ? 1 : SEEDS;
}

static void runs_keep_their_promises(void **state)
{
    static const char *const names[] = {
#define SIM_COUNT_NAME(name) #name,
        SIM_COUNTS(SIM_COUNT_NAME)
#undef SIM_COUNT_NAME
    };
    uint64_t first = test_seed("runs_keep_their_promises", 1000), total[SIM_COUNTS_N] = {0};
    uint64_t used[POLICIES_MAX] = {0};
    struct sim *s = test_get(1, sizeof *s);

    (void)state;
    for (uint64_t seed = first; seed < first + seeds(); seed++) {
        print_message("\rseed %llu", (unsigned long long)seed); /* the last one seen failed */
        sim_play(s, seed, EVENTS);
        for (int i = 0; i < SIM_COUNTS_N; i++) {
            total[i] += s->counts[i];
        }
        for (size_t i = 0; i < POLICIES_MAX; i++) {
            used[i] += s->used[i];
        }
        sim_free(s);
    }
    print_message("\n");
    for (int i = 0; i < SIM_COUNTS_N; i++) {
        print_message("%-24s %llu\n", names[i], (unsigned long long)total[i]);
        assert_true(total[i] > 0 || seeds() < SEEDS); /* the simulation does reach all of it */
    }
    for (size_t i = 0; mx_policy_at(i) != NULL; i++) {
        print_message("%-24s %llu\n", mx_policy_at(i)->name, (unsigned long long)used[i]);
        assert_true(used[i] > 0 || seeds() < SEEDS);
    }
    free(s);
}

static void a_seed_gives_the_same_run_twice(void **state)
{
    struct sim *s = test_get(1, sizeof *s);

    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        uint64_t hash;

        sim_play(s, seed, 800);
        hash = s->hash;
        sim_free(s);
        sim_play(s, seed, 800);
        assert_true(hash == s->hash && hash != 0);
        sim_free(s);
    }
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_keep_their_promises),
        cmocka_unit_test(a_seed_gives_the_same_run_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
