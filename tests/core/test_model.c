/* test_model.c - random sequences of all that can happen to a run, on the core and on the model at
 * once.
 *
 * A sequence is data, made from a seed before anything happens. It runs in a process of its own, so
 * that a trap in the core, or a hang, is an outcome like any other. One that fails is shrunk while
 * it goes on failing, printed, and named by its seed: MX_TEST_SEED runs that one alone. */
#include "tests/core/check.h"
#include "tests/core/model.h"
#include "tests/core/model_world.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SEQUENCES 1000
#else
#define SEQUENCES 3000
#endif
#define IN_ONE_PROCESS 100
#define SHRINK_TRIES 4000
#define HANG_S 30

/* ---- names ---------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int from, to;
} config_keys[] = {
#define CONFIG_KEY(name, from, to) {#name, from, to},
    MODEL_CONFIG(CONFIG_KEY)
#undef CONFIG_KEY
};

static const struct {
    const char *name, *args[MODEL_ARGS];
} op_names[] = {
#define OP_NAME(NAME, a, b, c, d, e, f) {#NAME, {a, b, c, d, e, f}},
    MODEL_OPS(OP_NAME)
#undef OP_NAME
};

static void print_sequence(const struct model_sequence *s)
{
    print_message("config:");
    for (int i = 0; i < MODEL_CONFIG_N; i++) {
        if (s->config[i] != config_keys[i].from) {
            print_message(" %s=%d", config_keys[i].name, s->config[i]);
        }
    }
    print_message("\n");
    for (uint32_t i = 0; i < s->n; i++) {
        const struct model_op *op = &s->ops[i];

        print_message("  %2u: run %d %s", i, op->run, op_names[op->kind].name);
        for (int j = 0; j < MODEL_ARGS; j++) {
            if (op_names[op->kind].args[j][0] != '\0') {
                print_message(" %s=%d", op_names[op->kind].args[j], op->arg[j]);
            }
        }
        print_message("\n");
    }
}

/* ---- making sequences ----------------------------------------------------------------------- */

static int upto(struct dice *d, int from, int to)
{
    return from + (int)below(d, (uint64_t)(to - from) + 1);
}

static int rarely(struct dice *d, uint64_t one_in)
{
    return below(d, one_in) == 0;
}

static void make_config(struct dice *d, int *config)
{
    for (int i = 0; i < MODEL_CONFIG_N; i++) {
        config[i] = upto(d, config_keys[i].from, config_keys[i].to);
    }
    for (int i = 0; i < MODEL_K; i++) { /* most domains are plain */
        config[CFG_epochs0 + i] *= rarely(d, 2);
        config[CFG_exhausted0 + i] *= rarely(d, 2);
        config[CFG_takes0 + i] *= rarely(d, 5);
    }
    config[CFG_floor0] = rarely(d, 5);
    config[CFG_ceiling0] = rarely(d, 5);
    config[CFG_sampling] *= rarely(d, 2);
    config[CFG_lead] *= rarely(d, 3);
    config[CFG_lag] *= rarely(d, 4);
    config[CFG_quorum] *= rarely(d, 2);
    config[CFG_end] *= rarely(d, 3);
    config[CFG_second] *= rarely(d, 3);
}

static int ask_ahead(struct dice *d)
{
    switch (below(d, 20)) {
    case 0: return rarely(d, 10) ? -99 : upto(d, 4, 15);
    case 1:
    case 2:
    case 3: return -upto(d, 1, 15);
    case 4:
    case 5:
    case 6:
    case 7: return upto(d, 1, 4);
    default: return 0;
    }
}

/* Sometimes the world is another than that of most trainers. */
static void make_rank(struct dice *d, int world, int *ret_rank, int *ret_world)
{
    *ret_world = rarely(d, 15) ? upto(d, 0, 5) : world;
    *ret_rank = rarely(d, 30) ? upto(d, 0, 5) : upto(d, 0, *ret_world > 0 ? *ret_world - 1 : 0);
}

static void make_ask(struct dice *d, int world, int *arg)
{
    make_rank(d, world, &arg[0], &arg[1]);
    arg[2] = ask_ahead(d);
    arg[3] = rarely(d, 60) ? -1 : rarely(d, 6) ? upto(d, 0, 20) : upto(d, 0, 2);
    arg[4] = rarely(d, 2) ? upto(d, 0, 12) % (rarely(d, 9) ? 99 : 4) : 0;
    arg[5] = rarely(d, 2) ? upto(d, 0, 12) % (rarely(d, 9) ? 99 : 3) : 0;
}

static void make_post(struct dice *d, int world, int *arg)
{
    make_rank(d, world, &arg[0], &arg[1]);
    arg[2] = rarely(d, 20) ? -upto(d, 1, 3) : upto(d, 0, rarely(d, 4) ? 12 : 3);
    arg[3] = upto(d, 0, 255);
    arg[4] = rarely(d, 6) ? upto(d, 1, 9) : 0;
    arg[5] = rarely(d, 4) ? upto(d, 1, 4) : 0;
}

static void make_post_all(struct dice *d, int world, int *arg)
{
    arg[0] = world;
    arg[1] = upto(d, 0, rarely(d, 3) ? 8 : 2);
    arg[2] = upto(d, 0, 255);
    arg[3] = rarely(d, 12) ? upto(d, 60, 80) : upto(d, 0, 3);
    arg[4] = rarely(d, arg[3] > 3 ? 2 : 5) ? 1 : 0;
    if (arg[3] > 3 && arg[4] > 0) { /* so many that wait for a second rank */
        arg[0] = 2;
        arg[3] += 20;
    }
}

static void make_adopt(struct dice *d, int *arg)
{
    arg[0] = rarely(d, 30) ? MODEL_K : upto(d, 0, MODEL_K - 1);
    arg[1] = rarely(d, 8) ? upto(d, -1, 0) : upto(d, 1, 40);
    arg[2] = !rarely(d, 3);
    arg[3] = rarely(d, 30) ? 0 : upto(d, 1, 5);
    arg[4] = rarely(d, 15) ? upto(d, 8, 10) : 0;
}

static void make_withdraw(struct dice *d, int *arg)
{
    arg[0] = rarely(d, 30) ? MODEL_K : upto(d, 0, MODEL_K - 1);
    arg[1] = upto(d, 0, 60);
    arg[2] = rarely(d, 20) ? 0 : upto(d, 1, rarely(d, 4) ? 30 : 5);
    arg[3] = rarely(d, 3) ? upto(d, 1, 9) : 0;
    arg[4] = rarely(d, 20);
}

static void make_args(struct dice *d, int kind, int world, int *arg)
{
    switch ((enum model_op_kind)kind) {
    case OP_ASK: make_ask(d, world, arg); break;
    case OP_POST: make_post(d, world, arg); break;
    case OP_POST_ALL: make_post_all(d, world, arg); break;
    case OP_SET:
        arg[0] = rarely(d, 2) ? 0 : upto(d, 1, 9);
        arg[1] = rarely(d, 20) ? 0 : upto(d, 0, 4095);
        arg[2] = rarely(d, 30) ? upto(d, 60, 70) : 0;
        break;
    case OP_SKIP:
        arg[0] = upto(d, -6, 8);
        arg[1] = upto(d, rarely(d, 9) ? -1 : 1, 5);
        break;
    case OP_ADOPT: make_adopt(d, arg); break;
    case OP_WITHDRAW: make_withdraw(d, arg); break;
    case OP_REWIND:
        arg[0] = rarely(d, 15) ? -1 : upto(d, 0, rarely(d, 3) ? 40 : 8);
        arg[1] = rarely(d, 15);
        break;
    case OP_FORK: arg[0] = upto(d, 0, 12); break;
    case OP_TIME: arg[0] = rarely(d, 30) ? 60000 : upto(d, 0, 1500); break;
    case OP_WRITE: arg[0] = upto(d, 1, 8); break;
    case OP_CRASH:
        arg[0] = upto(d, 0, 9);
        arg[1] = rarely(d, 2);
        break;
    case OP_DRIVE:
        arg[0] = rarely(d, 15) ? upto(d, 70, 90) : upto(d, 1, 5);
        arg[1] = world;
        break;
    case OP_LOOK: arg[0] = upto(d, 0, 8); break;
    case OP_STOP:
    case OP_FREEZE:
    case OP_THAW:
    case MODEL_OPS_N: break;
    }
}

static void make_sequence(uint64_t seed, struct model_sequence *s)
{
    static const int often[MODEL_OPS_N] = {
        [OP_ASK] = 330,   [OP_POST] = 150, [OP_POST_ALL] = 90, [OP_SET] = 45,    [OP_STOP] = 3,
        [OP_SKIP] = 20,   [OP_ADOPT] = 45, [OP_WITHDRAW] = 30, [OP_FREEZE] = 4,  [OP_THAW] = 20,
        [OP_REWIND] = 20, [OP_FORK] = 10,  [OP_TIME] = 60,     [OP_WRITE] = 200, [OP_CRASH] = 25,
        [OP_LOOK] = 30,   [OP_DRIVE] = 40,
    };
    struct dice d = {seed};
    int world = upto(&d, 1, 3), all = 0;

    memset(s, 0, sizeof *s);
    make_config(&d, s->config);
    s->n = (uint32_t)upto(&d, 20, 120);
    for (int i = 0; i < MODEL_OPS_N; i++) {
        all += often[i];
    }
    for (uint32_t i = 0; i < s->n; i++) {
        struct model_op *op = &s->ops[i];
        int left = upto(&d, 0, all - 1);

        while (left >= often[op->kind]) {
            left -= often[op->kind++];
        }
        op->run = rarely(&d, 3);
        make_args(&d, op->kind, world, op->arg);
    }
}

/* ---- running them --------------------------------------------------------------------------- */

/* What the process that runs sequences leaves for the one that waits for it. */
struct shared {
    uint64_t seed;
    uint64_t total[MODEL_COUNTS];
    struct model_outcome outcome;
};

static struct shared *share(void)
{
    void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                   -1, 0);

    assert_true(p != MAP_FAILED);
    return p;
}

static void run_here(const struct model_sequence *s, struct shared *to)
{
    memset(&to->outcome, 0, sizeof to->outcome);
    model_world_run(s, &to->outcome);
    for (int i = 0; i < MODEL_COUNTS; i++) {
        to->total[i] += to->outcome.counts[i];
    }
}

/* Waits for the process; whether what it ran last failed, in whatever way. */
static int failed(pid_t pid, struct shared *from)
{
    int status;

    assert_true(waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return from->outcome.failed;
    }
    from->outcome.failed = 1;
    (void)snprintf(from->outcome.why, sizeof from->outcome.why, "%s %d",
                   WIFSIGNALED(status) ? "ended by signal" : "exit status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return 1;
}

/* In a process of its own: a trap or a hang ends it, and cmocka, which would catch it, is not
 * asked. */
static void isolate(void)
{
    static const int signals[] = {SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGABRT};

    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        (void)signal(signals[i], SIG_DFL);
    }
}

static int fails(const struct model_sequence *s, struct shared *to)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        isolate();
        alarm(HANG_S);
        run_here(s, to);
        _exit(0);
    }
    return failed(pid, to);
}

/* Sequences of the seeds [from, upto_seed), until one fails. */
static int some_fail(uint64_t from, uint64_t upto_seed, struct shared *to)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct model_sequence s;

        isolate();
        for (to->seed = from; to->seed < upto_seed; to->seed++) {
            alarm(HANG_S);
            make_sequence(to->seed, &s);
            run_here(&s, to);
            if (to->outcome.failed) {
                _exit(0);
            }
        }
        _exit(0);
    }
    return failed(pid, to);
}

/* ---- shrinking ------------------------------------------------------------------------------ */

struct shrink {
    struct model_sequence best;
    struct shared *shared;
    int tries;
};

/* Leaves operations out, many at a time and then fewer. Whether any went. */
static int drop_ops(struct shrink *k)
{
    int any = 0;

    for (uint32_t size = k->best.n / 2 + 1; size >= 1; size /= 2) {
        for (uint32_t at = 0; at + size <= k->best.n;) {
            struct model_sequence s = k->best;

            memmove(s.ops + at, s.ops + at + size, (s.n - at - size) * sizeof *s.ops);
            s.n -= size;
            if (k->tries++ < SHRINK_TRIES && fails(&s, k->shared)) {
                k->best = s;
                any = 1;
            } else {
                at += size;
            }
        }
    }
    return any;
}

/* A number of k->best comes as near to `least` as it can: by all of the way, by half of it, ... */
static int lower(struct shrink *k, int *number, int least)
{
    int any = 0;

    for (int off = *number - least; off != 0; off /= 2) {
        if (off > 0 ? *number - off >= least : *number - off <= least) {
            struct model_sequence before = k->best;

            *number -= off;
            if (k->tries++ < SHRINK_TRIES && fails(&k->best, k->shared)) {
                any = 1;
            } else {
                k->best = before;
            }
        }
    }
    return any;
}

static int lower_numbers(struct shrink *k)
{
    int any = 0;

    for (uint32_t i = 0; i < k->best.n; i++) {
        any |= lower(k, &k->best.ops[i].run, 0);
        for (int j = 0; j < MODEL_ARGS; j++) {
            any |= lower(k, &k->best.ops[i].arg[j], 0);
        }
    }
    for (int i = 0; i < MODEL_CONFIG_N; i++) {
        any |= lower(k, &k->best.config[i], config_keys[i].from);
    }
    return any;
}

static void show_failure(uint64_t seed, struct shared *shared)
{
    struct shrink k = {.shared = shared};

    print_message("seed %llu fails: %s\n", (unsigned long long)seed, shared->outcome.why);
    make_sequence(seed, &k.best);
    while (k.tries < SHRINK_TRIES && (drop_ops(&k) | lower_numbers(&k))) {
    }
    if (fails(&k.best, shared)) {
        print_message("shrunk, it fails at operation %u: %s\n", shared->outcome.op,
                      shared->outcome.why);
    }
    print_sequence(&k.best);
}

/* ---- the test ------------------------------------------------------------------------------- */

static const char *const tallies[] = {
#define TALLY_NAME(NAME, what) what,
    MODEL_TALLIES(TALLY_NAME)
#undef TALLY_NAME
};

/* All that a sequence can reach is reached by some. */
static void check_reach(const uint64_t *total)
{
    for (int i = 0; i < COUNT_TALLIES; i++) {
        print_message("%s%llu %s", i > 0 ? ", " : "", (unsigned long long)total[i], tallies[i]);
    }
    print_message("\n");
    for (int i = 0; i < COUNT_TALLIES; i++) {
        assert_true(total[i] > 0);
    }
    for (int v = MX_WAIT_AHEAD; v <= MX_TOO_MUCH_GONE; v++) {
        int other_parts = v >= MX_BAD_EVAL && v <= MX_BAD_GRAM; /* these trainers report losses */

        if (total[COUNT_VERDICTS + v] == 0 && v != MX_TOO_MANY_SKIPS &&
            v != MX_TOO_MANY_CHANGES && !other_parts) {
            print_message("verdict %d never came up\n", v);
            fail();
        }
    }
    for (int kind = MX_ENTRY_RESERVE; kind <= MX_ENTRY_REWIND; kind++) {
        assert_true(total[COUNT_ENTRIES + kind] > 0);
    }
    assert_true(total[COUNT_OVERFLOWS] * 100 < SEQUENCES); /* else the lists are to be longer */
}

static void the_core_does_what_the_model_says(void **state)
{
    const char *only = getenv("MX_TEST_SEED");
    uint64_t first = test_seed("the_core_does_what_the_model_says", 1);
    uint64_t end = first + (only != NULL ? 1 : SEQUENCES);
    struct shared *shared = share();

    (void)state;
    for (uint64_t seed = first; seed < end; seed += IN_ONE_PROCESS) {
        uint64_t stop = seed + IN_ONE_PROCESS < end ? seed + IN_ONE_PROCESS : end;

        if (some_fail(seed, stop, shared)) {
            show_failure(shared->seed, shared);
            fail_msg("MX_TEST_SEED=%llu", (unsigned long long)shared->seed);
        }
    }
    if (only == NULL) {
        check_reach(shared->total);
    }
    assert_int_equal(munmap(shared, sizeof *shared), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_core_does_what_the_model_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
