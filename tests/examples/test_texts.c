/* test_texts.c - what goes into bytelm: contexts at the edges of documents and samples, held-out
 * texts, the command line; and what comes out: the log. */
#include "tests/examples/check.h"

#include "client/examples/bytelm/heldout.h"
#include "client/examples/bytelm/options.h"
#include "client/examples/bytelm/report.h"
#include "client/examples/bytelm/window.h"

#include <fcntl.h>
#include <math.h>
#include <unistd.h>

#define U BL_UNKNOWN
#define E BL_EOD

static void test_contexts_end_at_documents(void **state)
{
    const uint16_t tokens[] = {'x', 'y', E, 'a', 'b', E, E, 'c'};
    const uint32_t wide[] = {'x', 'y', E, 'a', 'b', E, E, 'c'};
    const uint32_t starts[] = {3, 6, 7};
    const uint16_t want[8][3] = {{U, U, U},   {'x', U, U},   {'y', 'x', U}, {E, E, E},
                                 {'a', E, E}, {'b', 'a', E}, {E, E, E},     {E, E, E}};
    struct bl_sample s = {tokens, 2, 8, starts, 3};
    uint16_t contexts[24], targets[8];
    uint32_t bad;
    size_t n;

    (void)state;
    for (int width = 2; width <= 4; width += 2) {
        s.tokens = width == 2 ? (const void *)tokens : (const void *)wide;
        s.width = (uint32_t)width;
        assert_int_equal(bl_window(&s, 3, 0, 1, contexts, targets, &n, &bad), 0);
        assert_int_equal(n, 8);
        assert_memory_equal(contexts, want, sizeof want);
        assert_memory_equal(targets, tokens, sizeof tokens);
    }
    assert_int_equal(bl_window(&s, 3, 1, 3, contexts, targets, &n, &bad), 0);
    assert_int_equal(n, 3); /* positions 1, 4, 7 */
    assert_memory_equal(contexts, want[1], sizeof want[1]);
    assert_memory_equal(contexts + 3, want[4], sizeof want[4]);
    assert_memory_equal(contexts + 6, want[7], sizeof want[7]);
    assert_int_equal(targets[1], 'b');
    /* A sample that begins with a document. */
    s.starts = (const uint32_t[]){0};
    s.n_starts = 1;
    assert_int_equal(bl_window(&s, 3, 0, 1, contexts, targets, &n, &bad), 0);
    assert_int_equal(contexts[0], E);
}

static void test_other_tokens_are_refused(void **state)
{
    const uint32_t tokens[] = {1, 2, 257, 3};
    const struct bl_sample s = {tokens, 4, 4, NULL, 0};
    uint16_t contexts[8], targets[4];
    uint32_t bad = 99;
    size_t n;

    (void)state;
    assert_int_equal(bl_window(&s, 2, 0, 1, contexts, targets, &n, &bad), -1);
    assert_int_equal(bad, 2);
}

struct folder {
    char dir[64], path[96];
};

static int setup(void **state)
{
    struct folder *f = calloc(1, sizeof *f);

    assert_non_null(f);
    snprintf(f->dir, sizeof f->dir, "/tmp/bytelm-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/b.txt", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct folder *f = *state;

    unlink(f->path);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

/* Loss of a whole document at once. */
static double plain_loss(struct bl_model *m, const char *text, size_t n)
{
    uint16_t *tokens = calloc(n + 1, 2), *targets = calloc(n + 1, 2);
    uint16_t *contexts = calloc((n + 1) * m->shape.context, 2);
    real *losses = calloc(n + 1, sizeof *losses);
    const uint32_t start = 0;
    struct bl_sample s = {tokens, 2, (uint32_t)n + 1, &start, 1};
    uint32_t bad;
    size_t count;
    double sum = 0;

    assert_true(tokens != NULL && targets != NULL && contexts != NULL && losses != NULL);
    for (size_t i = 0; i < n; i++)
        tokens[i] = (uint8_t)text[i];
    tokens[n] = E;
    assert_int_equal(bl_window(&s, m->shape.context, 0, 1, contexts, targets, &count, &bad), 0);
    bl_model_loss(m, contexts, targets, count, losses);
    for (size_t i = 0; i < count; i++)
        sum += (double)losses[i];
    free(tokens);
    free(targets);
    free(contexts);
    free(losses);
    return sum;
}

static void test_held_out_documents(void **state)
{
    struct folder *f = *state;
    const struct bl_shape shape = {5, 16, 32, 16};
    const char *const domains[] = {"a", "b"};
    struct dice d = {test_seed("held out"), 1, 0};
    struct bl_score scores[2];
    struct bl_heldout *h;
    struct bl_model m;
    char text[1200] = "", doc[3000];
    double one, two;
    FILE *out;

    assert_null(bl_heldout_open(f->dir, domains, 2, text, sizeof text));
    assert_non_null(strstr(text, f->dir));
    for (size_t i = 0; i < sizeof doc; i++)
        doc[i] = (char)(1 + below(&d, 255));
    out = fopen(f->path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite("Hello.", 1, 7, out), 7); /* with its zero */
    assert_int_equal(fwrite(doc, 1, sizeof doc, out), sizeof doc);
    assert_int_equal(fclose(out), 0);
    h = bl_heldout_open(f->dir, domains, 2, text, sizeof text);
    assert_non_null(h);
    assert_int_equal(bl_model_init(&m, &shape, 3), 0);
    assert_int_equal(bl_heldout_score(h, &m, SIZE_MAX, scores), 0);
    one = plain_loss(&m, "Hello.", 6);
    two = plain_loss(&m, doc, sizeof doc);
    assert_int_equal(scores[0].tokens, 0);
    assert_int_equal(scores[1].tokens, 7 + sizeof doc + 1);
    assert_true(fabs(scores[1].loss_sum - one - two) < 1e-6 * (one + two));
    assert_int_equal(bl_heldout_score(h, &m, 5, scores), 0); /* the first document alone */
    assert_int_equal(scores[1].tokens, 7);
    bl_heldout_close(h);
    bl_model_fini(&m);
}

static int parse(struct bl_options *o, const char *line)
{
    char copy[256], *argv[32];
    int argc = 0, saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY), code;

    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = copy; word != NULL;) {
        char *space = strchr(word, ' ');

        argv[argc++] = word;
        if (space != NULL)
            *space++ = '\0';
        word = space;
    }
    assert_true(saved >= 0 && null >= 0);
    dup2(null, STDERR_FILENO); /* refusals say so there */
    code = bl_options_parse(argc, argv, o);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(null);
    return code;
}

static void test_command_line(void **state)
{
    struct bl_options o;

    (void)state;
    assert_int_equal(parse(&o, "bytelm --run x"), 0);
    assert_true(o.steps == UINT64_MAX && o.world == 1 && o.stride == 1 && !o.shape_given);
    assert_int_equal(parse(&o, "bytelm --run x --steps 12 --lr 1e-3 --wide 64 --rank 1 --world 2"),
                     0);
    assert_true(o.steps == 12 && fabs(o.recipe.rate - 1e-3) < 1e-12 && o.shape.wide == 64 &&
                o.shape_given && o.rank == 1);
    assert_int_equal(parse(&o, "bytelm"), -1);
    assert_int_equal(parse(&o, "bytelm --run"), -1);
    assert_int_equal(parse(&o, "bytelm --run x --steps"), -1);
    assert_int_equal(parse(&o, "bytelm --run x --steps 1.5"), -1);
    assert_int_equal(parse(&o, "bytelm --run x --steps 0"), -1);
    assert_int_equal(parse(&o, "bytelm --run x --steps 10x"), -1);
    assert_int_equal(parse(&o, "bytelm --run x --lr nan"), -1);
    assert_int_equal(parse(&o, "bytelm --run x --wide 100"), -1);
    assert_int_equal(parse(&o, "bytelm --run x --rank 2 --world 2"), -1);
    assert_int_equal(parse(&o, "bytelm --run x --nonsense 1"), -1);
}

static void test_log_lines(void **state)
{
    struct folder *f = *state;
    const char *const domains[] = {"a", "b"};
    const struct bl_score scores[2] = {{.loss_sum = 4, .tokens = 2}, {.loss_sum = 0, .tokens = 0}};
    struct bl_report r;
    char text[1200], log[4096] = "";
    FILE *in;

    assert_int_equal(bl_report_open(&r, f->path, domains, 2, 0, text, sizeof text), 0);
    r.sums[0] = (struct bl_sums){.loss = 30, .tokens = 10, .slots = 3};
    r.sums[1] = (struct bl_sums){.loss = 10, .tokens = 30, .slots = 1};
    bl_report_pause(&r, 1000000000);
    bl_report_train(&r, 9, 4, 3000000000, 500000000);
    bl_report_train(&r, 9, 4, 4000000000, 500000000); /* nothing new: no line */
    bl_report_eval(&r, 9, 4000000000, scores, 1);
    bl_report_close(&r);
    in = fopen(f->path, "r");
    assert_non_null(in);
    assert_true(fread(log, 1, sizeof log - 1, in) > 0);
    fclose(in);
    assert_string_equal(
        log,
        "{\"kind\":\"train\",\"time_s\":3.000,\"step\":9,\"loss\":1.000000,\"tokens_per_s\":20,"
        "\"wait_share\":0.2500,\"mix_version\":4,\"skipped\":0,\"domains\":{"
        "\"a\":{\"share\":0.750000,\"tokens\":10,\"loss\":3.000000},"
        "\"b\":{\"share\":0.250000,\"tokens\":30,\"loss\":0.333333}}}\n"
        "{\"kind\":\"eval\",\"time_s\":4.000,\"step\":9,\"final\":true,\"mean\":2.000000,"
        "\"domains\":{\"a\":{\"loss\":2.000000,\"tokens\":2}}}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contexts_end_at_documents),
        cmocka_unit_test(test_other_tokens_are_refused),
        cmocka_unit_test_setup_teardown(test_held_out_documents, setup, teardown),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test_setup_teardown(test_log_lines, setup, teardown),
    };

    return cmocka_run_group_tests_name("bytelm texts", tests, NULL, NULL);
}
