/* test_trainer.c - bytelm's training: it learns, a checkpoint brings it back bit by bit, and what
 * isn't a checkpoint is refused by name. */
#include "tests/examples/check.h"

#include "client/examples/bytelm/checkpoint.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct bl_shape shape = {.context = 4, .embed = 16, .wide = 32, .hidden = 32};
static const struct bl_recipe recipe = {.rate = 0.01, .warmup = 10, .decay = 1000, .clip = 1};

enum { N = 256 };

struct fixture {
    char dir[64], path[96];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    snprintf(f->dir, sizeof f->dir, "/tmp/bytelm-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/model", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    unlink(f->path);
    assert_int_equal(rmdir(f->dir), 0); /* nothing else is left in it */
    free(f);
    return 0;
}

/* Step `step` of a toy language: after two letters comes a letter that depends on both, and at
 * times, by chance, another one. */
static void toy_batch(uint64_t step, uint16_t *contexts, uint16_t *targets)
{
    struct dice d = {7, step, 0};

    for (size_t i = 0; i < N; i++) {
        uint16_t *c = contexts + i * shape.context;

        for (size_t j = 0; j < shape.context; j++)
            c[j] = (uint16_t)('a' + below(&d, 8));
        targets[i] = (uint16_t)('a' + (c[0] * 3 + c[1] * 5) % 8);
        if (below(&d, 50) == 0)
            targets[i] = (uint16_t)below(&d, BL_VOCAB);
    }
}

/* Trains steps next_step .. until-1; the mean loss of the last one. */
static double toy_train(struct bl_trainer *t, uint64_t until)
{
    uint16_t contexts[N * 4], targets[N];
    real losses[N];
    double sum = 0;

    while (t->next_step < until) {
        toy_batch(t->next_step, contexts, targets);
        assert_int_equal(bl_trainer_step(t, &recipe, contexts, targets, N, losses), 0);
    }
    for (size_t i = 0; i < N; i++)
        sum += (double)losses[i];
    return sum / N;
}

static void assert_same(const struct bl_trainer *a, const struct bl_trainer *b)
{
    assert_int_equal(a->model.n, b->model.n);
    assert_memory_equal(a->model.params, b->model.params, a->model.n * sizeof(real));
    assert_memory_equal(a->m, b->m, a->model.n * sizeof(real));
    assert_memory_equal(a->v, b->v, a->model.n * sizeof(real));
    assert_string_equal(a->run, b->run);
    assert_int_equal(a->seed, b->seed);
    assert_int_equal(a->next_step, b->next_step);
    assert_int_equal(a->updates, b->updates);
    assert_int_equal(a->tokens, b->tokens);
}

static void test_it_learns(void **state)
{
    struct bl_trainer t;
    double first, last;

    (void)state;
    assert_int_equal(bl_trainer_init(&t, &shape, 1, "toy"), 0);
    first = toy_train(&t, 1);
    last = toy_train(&t, 500);
    print_message("toy task: %.3f nats, then %.3f\n", first, last);
    assert_true(fabs(first - log(BL_VOCAB)) < 0.2); /* it knows nothing */
    assert_true(last < 0.5);                        /* chance alone costs 0.2 */
    assert_int_equal(t.tokens, 500 * N);
    bl_trainer_fini(&t);
}

static void test_resumed_is_uninterrupted(void **state)
{
    struct fixture *f = *state;
    struct bl_trainer whole, half, resumed;
    char text[1200];

    assert_int_equal(bl_trainer_init(&whole, &shape, 5, "toy"), 0);
    toy_train(&whole, 80);
    assert_int_equal(bl_trainer_init(&half, &shape, 5, "toy"), 0);
    toy_train(&half, 40);
    assert_int_equal(bl_checkpoint_save(&half, f->path, text, sizeof text), BL_OK);
    assert_int_equal(bl_checkpoint_load(&resumed, f->path, text, sizeof text), BL_OK);
    assert_same(&half, &resumed);
    toy_train(&resumed, 80);
    assert_same(&whole, &resumed);
    bl_trainer_fini(&whole);
    bl_trainer_fini(&half);
    bl_trainer_fini(&resumed);
}

static void test_seeds_differ(void **state)
{
    struct bl_trainer a, b;

    (void)state;
    assert_int_equal(bl_trainer_init(&a, &shape, 5, "toy"), 0);
    assert_int_equal(bl_trainer_init(&b, &shape, 6, "toy"), 0);
    assert_memory_not_equal(a.model.params, b.model.params, a.model.n * sizeof(real));
    bl_trainer_fini(&a);
    bl_trainer_fini(&b);
}

static void test_infinite_loss_changes_nothing(void **state)
{
    struct bl_trainer t;
    uint16_t contexts[N * 4], targets[N];
    real losses[N], *v;

    (void)state;
    assert_int_equal(bl_trainer_init(&t, &shape, 1, "toy"), 0);
    toy_train(&t, 3);
    v = malloc(t.model.n * sizeof *v);
    assert_non_null(v);
    memcpy(v, t.v, t.model.n * sizeof *v);
    t.model.params[t.model.tensors[BL_T_B3].offset] = NAN;
    toy_batch(3, contexts, targets);
    assert_int_equal(bl_trainer_step(&t, &recipe, contexts, targets, N, losses), -1);
    assert_memory_equal(v, t.v, t.model.n * sizeof *v);
    assert_int_equal(t.updates, 3);
    assert_int_equal(t.next_step, 4);
    t.model.params[t.model.tensors[BL_T_B3].offset] = 0; /* and it can go on */
    assert_int_equal(bl_trainer_step(&t, &recipe, contexts, targets, N, losses), 0);
    assert_int_equal(t.updates, 4);
    free(v);
    bl_trainer_fini(&t);
}

static uint8_t *slurp(const char *path, size_t *ret_n)
{
    FILE *f = fopen(path, "rb");
    uint8_t *p = malloc(1 << 20);

    assert_non_null(f);
    assert_non_null(p);
    *ret_n = fread(p, 1, 1 << 20, f);
    fclose(f);
    return p;
}

static void spill(const char *path, const uint8_t *p, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void refused(struct fixture *f, int code, const char *what)
{
    struct bl_trainer t;
    char text[1200] = "";

    assert_int_equal(bl_checkpoint_load(&t, f->path, text, sizeof text), code);
    if (strstr(text, f->path) == NULL || strstr(text, what) == NULL)
        fail_msg("\"%s\" should name %s and say \"%s\"", text, f->path, what);
    assert_null(t.model.params);
}

static void test_damage_is_refused_by_name(void **state)
{
    struct fixture *f = *state;
    const struct bl_shape least = {1, 16, 16, 16};
    struct bl_trainer t;
    char text[1200];
    uint8_t *bytes;
    size_t n;

    refused(f, BL_MISSING, "No such file");
    assert_int_equal(bl_trainer_init(&t, &least, 1, "toy"), 0);
    assert_int_equal(bl_checkpoint_save(&t, f->path, text, sizeof text), BL_OK);
    bl_trainer_fini(&t);
    bytes = slurp(f->path, &n);
    /* Every byte of the header and the end, and every thousandth between. */
    for (size_t i = 0; i < n; i += i < 100 || i + 20 > n ? 1 : 997) {
        bytes[i] ^= 0x10;
        spill(f->path, bytes, n);
        refused(f, BL_DAMAGED, i < 8 ? "begin" : i < 12 ? "version" : "checksum");
        bytes[i] ^= 0x10;
    }
    for (size_t cut = 0; cut < n; cut += 1 + cut / 2) {
        spill(f->path, bytes, cut);
        refused(f, BL_DAMAGED, "damaged");
    }
    bytes = realloc(bytes, n + 1);
    assert_non_null(bytes);
    bytes[n] = 0;
    spill(f->path, bytes, n + 1);
    refused(f, BL_DAMAGED, "checksum");
    free(bytes);
}

static void test_failed_save_keeps_the_old(void **state)
{
    struct fixture *f = *state;
    struct bl_trainer t, old;
    char text[1200] = "", next[128];

    assert_int_equal(bl_trainer_init(&t, &shape, 1, "toy"), 0);
    assert_int_equal(bl_checkpoint_save(&t, "/nowhere/at/all", text, sizeof text), BL_FAILED);
    assert_non_null(strstr(text, "/nowhere/at/all"));
    assert_int_equal(bl_checkpoint_save(&t, f->path, text, sizeof text), BL_OK);
    toy_train(&t, 2);
    snprintf(next, sizeof next, "%s.new", f->path);
    assert_int_equal(mkdir(next, 0700), 0); /* in the new file's way */
    assert_int_equal(bl_checkpoint_save(&t, f->path, text, sizeof text), BL_FAILED);
    assert_non_null(strstr(text, f->path));
    assert_int_equal(rmdir(next), 0);
    assert_int_equal(bl_checkpoint_load(&old, f->path, text, sizeof text), BL_OK);
    assert_int_equal(old.updates, 0);
    assert_int_equal(bl_checkpoint_save(&t, f->path, text, sizeof text), BL_OK);
    bl_trainer_fini(&old);
    assert_int_equal(bl_checkpoint_load(&old, f->path, text, sizeof text), BL_OK);
    assert_same(&t, &old);
    bl_trainer_fini(&old);
    bl_trainer_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_learns),
        cmocka_unit_test_setup_teardown(test_resumed_is_uninterrupted, setup, teardown),
        cmocka_unit_test(test_seeds_differ),
        cmocka_unit_test(test_infinite_loss_changes_nothing),
        cmocka_unit_test_setup_teardown(test_damage_is_refused_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_save_keeps_the_old, setup, teardown),
    };

    return cmocka_run_group_tests_name("bytelm trainer", tests, NULL, NULL);
}
