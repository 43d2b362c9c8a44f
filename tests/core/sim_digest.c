/* sim_digest.c - one number for all that simulated runs do: every effect, every entry, every state.
 * Prints it; builds by other compilers, or with other optimisation, must print the same. */
#include "tests/core/sim.h"

#include <inttypes.h>

#define SEEDS 60
#define EVENTS 1000

int main(void)
{
    struct sim *s = test_get(1, sizeof *s);
    uint64_t hash = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        sim_play(s, seed, EVENTS);
        hash = (hash ^ s->hash) * 0x100000001b3u;
        sim_free(s);
    }
    free(s);
    return printf("%016" PRIx64 "\n", hash) == 17 ? 0 : 1;
}
