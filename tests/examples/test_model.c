/* test_model.c - bytelm's arithmetic: kernels against loops, the model against its definition,
 * gradients against finite differences, Adam against its paper. Built with floats and doubles. */
#include "tests/examples/check.h"

#include "client/examples/bytelm/adam.h"
#include "client/examples/bytelm/kernels.h"
#include "client/examples/bytelm/trainer.h"

#include <math.h>

#ifdef BL_DOUBLE
#define LOSS_TOLERANCE 1e-12
#else
#define LOSS_TOLERANCE 2e-5
#endif

static const struct bl_shape small = {.context = 3, .embed = 16, .wide = 32, .hidden = 16};

/* Contexts with all kinds of ids, some often, so that table rows are met more than once. */
static void draw_positions(struct dice *d, uint32_t context, size_t n, uint16_t *contexts,
                           uint16_t *targets)
{
    for (size_t i = 0; i < n * context; i++)
        contexts[i] = (uint16_t)(below(d, 2) == 0 ? below(d, BL_INPUTS) : 254 + below(d, 4));
    for (size_t i = 0; i < n; i++)
        targets[i] = (uint16_t)(below(d, 4) == 0 ? BL_EOD : below(d, BL_VOCAB));
}

/* A model none of whose parameters is zero, but for the padding. */
static void draw_model(struct bl_model *m, struct dice *d)
{
    assert_int_equal(bl_model_init(m, &small, d->seed), 0);
    for (size_t t = 0; t < BL_TENSORS; t++) {
        const struct bl_tensor *x = &m->tensors[t];

        for (size_t i = 0; i < x->rows * x->cols; i++) {
            int padding = x->cols == BL_COLUMNS && i % BL_COLUMNS >= BL_VOCAB;

            if (!padding && (t == BL_T_B1 || t == BL_T_B2 || t == BL_T_W3 || t == BL_T_B3))
                m->params[x->offset + i] = (real)(0.5 * number(d));
        }
    }
}

static double at(const struct bl_model *m, int tensor, size_t row, size_t col)
{
    const struct bl_tensor *t = &m->tensors[tensor];

    return (double)m->params[t->offset + row * t->cols + col];
}

/* model.h's formulas, number by number. */
static double defined_loss(const struct bl_model *m, const uint16_t *context, uint32_t target)
{
    double h1[64], h2[64], logits[BL_VOCAB], sum = 0;

    for (size_t i = 0; i < m->shape.wide; i++) {
        double a = at(m, BL_T_B1, 0, i);

        for (size_t j = 0; j < m->shape.context; j++)
            for (size_t e = 0; e < m->shape.embed; e++)
                a += at(m, BL_T_EMBED, context[j], e) * at(m, BL_T_W1, j * m->shape.embed + e, i);
        h1[i] = a > 0 ? a * a : 0;
    }
    for (size_t i = 0; i < m->shape.hidden; i++) {
        double a = at(m, BL_T_B2, 0, i);

        for (size_t j = 0; j < m->shape.wide; j++)
            a += h1[j] * at(m, BL_T_W2, j, i);
        h2[i] = a > 0 ? a : 0;
    }
    for (size_t i = 0; i < BL_VOCAB; i++) {
        logits[i] = at(m, BL_T_B3, 0, i);
        for (size_t j = 0; j < m->shape.hidden; j++)
            logits[i] += h2[j] * at(m, BL_T_W3, j, i);
        sum += exp(logits[i]);
    }
    return log(sum) - logits[target];
}

static void test_loss_is_the_defined_one(void **state)
{
    struct dice d = {test_seed("loss"), 1, 0};
    enum { N = 150 }; /* more than two groups of positions, and a rest */
    uint16_t contexts[N * 3], targets[N];
    real losses[N], again[N];
    struct bl_model m;

    (void)state;
    draw_model(&m, &d);
    draw_positions(&d, 3, N, contexts, targets);
    bl_model_begin(&m);
    bl_model_loss(&m, contexts, targets, N, losses);
    bl_model_backprop(&m, contexts, targets, N, (real)0.1, again);
    for (size_t i = 0; i < N; i++) {
        double want = defined_loss(&m, contexts + i * 3, targets[i]);

        if (!(fabs((double)losses[i] - want) <= LOSS_TOLERANCE * (1 + fabs(want))))
            fail_msg("position %zu: %.17g, should be %.17g", i, (double)losses[i], want);
        assert_true(fabs((double)(again[i] - losses[i])) <= LOSS_TOLERANCE);
    }
    bl_model_fini(&m);
}

#ifdef BL_DOUBLE

static double total(struct bl_model *m, const uint16_t *contexts, const uint16_t *targets, size_t n,
                    real *losses)
{
    double sum = 0;

    bl_model_begin(m); /* the tables follow the parameters */
    bl_model_loss(m, contexts, targets, n, losses);
    for (size_t i = 0; i < n; i++)
        sum += losses[i];
    return sum;
}

static void test_gradients_are_differences(void **state)
{
    struct dice d = {test_seed("gradients"), 2, 0};
    enum { N = 70, PICKS = 60 };
    const double h = 1e-5, scale = 0.7;
    uint16_t contexts[N * 3], targets[N];
    real losses[N], *grads;
    struct bl_model m;

    (void)state;
    draw_model(&m, &d);
    draw_positions(&d, 3, N, contexts, targets);
    bl_model_begin(&m);
    bl_model_backprop(&m, contexts, targets, 40, scale, losses); /* in two parts: they add up */
    bl_model_backprop(&m, contexts + 40 * 3, targets + 40, N - 40, scale, losses + 40);
    bl_model_end(&m);
    grads = malloc(m.n * sizeof *grads);
    assert_non_null(grads);
    memcpy(grads, m.grads, m.n * sizeof *grads);
    for (size_t t = 0; t < BL_TENSORS; t++) {
        const struct bl_tensor *x = &m.tensors[t];
        size_t moved = 0;

        for (size_t k = 0; k < PICKS; k++) {
            /* Half of the picks among rows and columns that the positions surely touch. */
            size_t row = t == BL_T_EMBED && k % 2 == 0 ? 254 + below(&d, 4) : below(&d, x->rows);
            size_t i = x->offset + row * x->cols + below(&d, x->cols);
            real before = m.params[i];
            double up, down, want;

            m.params[i] = before + h;
            up = total(&m, contexts, targets, N, losses);
            m.params[i] = before - h;
            down = total(&m, contexts, targets, N, losses);
            m.params[i] = before;
            want = scale * (up - down) / (2 * h);
            if (!(fabs(grads[i] - want) <= 1e-5 * fmax(fabs(want), fabs(grads[i])) + 1e-8))
                fail_msg("%s[%zu]: gradient %.12g, difference %.12g", x->name, i - x->offset,
                         grads[i], want);
            moved += fabs(want) > 1e-3;
        }
        if (moved < PICKS / 4)
            fail_msg("%s: only %zu of %d picks have a gradient at all", x->name, moved, PICKS);
    }
    free(grads);
    bl_model_fini(&m);
}

#else

static void test_exp(void **state)
{
    double worst = 0;

    (void)state;
    for (int i = 0; i <= 870000; i++) {
        float x = (float)-i * 1e-4f;
        double want = exp((double)x), error = fabs((double)bl_exp(x) - want) / want;

        worst = error > worst ? error : worst;
    }
    print_message("exp: relative error at most %.3g\n", worst);
    assert_true(worst < 5e-7);
    assert_true(bl_exp(-1000.0f) < 1e-37f);
    assert_true(isnan(bl_exp(NAN)));
}

#endif

static void test_padding_stays_zero(void **state)
{
    struct dice d = {test_seed("padding"), 3, 0};
    enum { N = 64 };
    const struct bl_recipe recipe = {0.01, 1, 1000, 1};
    uint16_t contexts[N * 3], targets[N];
    real losses[N];
    struct bl_trainer t;

    (void)state;
    assert_int_equal(bl_trainer_init(&t, &small, d.seed, "run"), 0);
    draw_positions(&d, 3, N, contexts, targets);
    for (int i = 0; i < 5; i++)
        assert_int_equal(bl_trainer_step(&t, &recipe, contexts, targets, N, losses), 0);
    for (size_t k = BL_T_W3; k <= BL_T_B3; k++) {
        const struct bl_tensor *x = &t.model.tensors[k];

        for (size_t i = 0; i < x->rows * x->cols; i++)
            if (i % BL_COLUMNS >= BL_VOCAB)
                assert_true(t.model.params[x->offset + i] == 0);
    }
    bl_trainer_fini(&t);
}

static void test_products(void **state)
{
    struct dice d = {test_seed("products"), 4, 0};
    enum { M = 11, N = 48, K = 37 };
    real a[M * K], b[K * N], c[M * N], wide[M * N], start[M * N];

    (void)state;
    for (int round = 0; round < 40; round++) {
        size_t m = 1 + below(&d, M), n = BL_PAD * (1 + below(&d, 3)), k = 1 + below(&d, K);
        int transposed = below(&d, 2) == 0, add = below(&d, 2) == 0;
        size_t a_row = transposed ? 1 : k, a_col = transposed ? m : 1;

        for (size_t i = 0; i < m * k; i++)
            a[i] = (real)number(&d);
        for (size_t i = 0; i < k * n; i++)
            b[i] = (real)number(&d);
        for (size_t i = 0; i < m * n; i++)
            start[i] = (real)number(&d);
        memcpy(c, start, sizeof c);
        bl_gemm_plain(m, n, k, a, a_row, a_col, b, n, c, n, add);
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < n; j++) {
                double want = add ? (double)start[i * n + j] : 0;

                for (size_t p = 0; p < k; p++)
                    want += (double)a[i * a_row + p * a_col] * (double)b[p * n + j];
                assert_true(fabs((double)c[i * n + j] - want) < LOSS_TOLERANCE);
            }
        }
        /* The processor's wider vectors must not change a bit. */
        memcpy(wide, start, sizeof wide);
        bl_gemm(m, n, k, a, a_row, a_col, b, n, wide, n, add);
        assert_memory_equal(wide, c, m * n * sizeof *c);
    }
}

static void test_softmax_of_extremes(void **state)
{
    real row[16] = {1000, 999, -1000, 0}, nan[16] = {1, NAN, 2}, inf[16] = {1, INFINITY, 2};
    double sum = 0;
    real lse = bl_softmax(row, 4, 16, 1);

    (void)state;
    assert_true(fabs((double)lse - (1000 + log(1 + exp(-1)))) < 1e-3);
    for (size_t i = 0; i < 16; i++) {
        assert_true(row[i] >= 0 && (i < 4 || row[i] == 0));
        sum += (double)row[i];
    }
    assert_true(fabs(sum - 1) < 1e-6);
    assert_true(isnan(bl_softmax(nan, 3, 16, 1)));
    assert_true(!isfinite(bl_softmax(inf, 3, 16, 1)));
}

/* Algorithm 1 of Kingma and Ba, as written there. */
static void test_adam_is_the_papers(void **state)
{
    struct dice d = {test_seed("adam"), 5, 0};
    enum { N = 37, STEPS = 50 };
    const struct bl_adam adam = {.rate = 0.01, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8};
    real params[N], grads[N], m[N] = {0}, v[N] = {0};
    double p[N], pm[N] = {0}, pv[N] = {0};

    (void)state;
    for (size_t i = 0; i < N; i++) {
        params[i] = (real)number(&d);
        p[i] = (double)params[i];
    }
    for (uint64_t t = 1; t <= STEPS; t++) {
        for (size_t i = 0; i < N; i++) {
            double g;

            grads[i] = (real)(number(&d) * pow(10, (double)(i % 7) - 3));
            g = (double)grads[i];
            pm[i] = adam.beta1 * pm[i] + (1 - adam.beta1) * g;
            pv[i] = adam.beta2 * pv[i] + (1 - adam.beta2) * g * g;
            p[i] -= adam.rate * (pm[i] / (1 - pow(adam.beta1, (double)t))) /
                    (sqrt(pv[i] / (1 - pow(adam.beta2, (double)t))) + adam.epsilon);
        }
        bl_adam_step(&adam, t, N, params, grads, m, v);
        for (size_t i = 0; i < N; i++)
            assert_true(fabs((double)params[i] - p[i]) < LOSS_TOLERANCE);
    }
}

static void test_clip_and_rate(void **state)
{
    real g[4] = {3, 0, 4, 0}, bad[2] = {1, INFINITY};

    (void)state;
    assert_true(fabs(bl_clip(g, 4, 10) - 5) < 1e-9 && g[0] == 3);
    assert_true(fabs(bl_clip(g, 4, 1) - 5) < 1e-9);
    assert_true(fabs((double)g[0] - 0.6) < 1e-6 && fabs((double)g[2] - 0.8) < 1e-6);
    assert_true(!isfinite(bl_clip(bad, 2, 1)));
    assert_true(bad[0] == 1);
    assert_true(fabs(bl_rate(0.1, 10, 100, 1) - 0.01) < 1e-12);
    assert_true(fabs(bl_rate(0.1, 10, 100, 10) - 0.1) < 1e-12);
    assert_true(fabs(bl_rate(0.1, 10, 100, 310) - 0.05) < 1e-12);
}

static void test_bad_shapes_are_refused(void **state)
{
    const struct bl_shape bad[] = {{0, 16, 16, 16}, {33, 16, 16, 16},        {1, 8, 16, 16},
                                   {1, 80, 16, 16}, {1, 16, 24, 16},         {1, 16, 1040, 16},
                                   {1, 16, 16, 0},  {1, 16, 16, 4000000000u}};
    struct bl_model m;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_non_null(bl_shape_check(&bad[i]));
        assert_int_equal(bl_model_init(&m, &bad[i], 1), -1);
    }
    assert_null(bl_shape_check(&small));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_is_the_defined_one),
#ifdef BL_DOUBLE
        cmocka_unit_test(test_gradients_are_differences),
#else
        cmocka_unit_test(test_exp),
#endif
        cmocka_unit_test(test_padding_stays_zero),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_softmax_of_extremes),
        cmocka_unit_test(test_adam_is_the_papers),
        cmocka_unit_test(test_clip_and_rate),
        cmocka_unit_test(test_bad_shapes_are_refused),
    };

    return cmocka_run_group_tests_name("bytelm model", tests, NULL, NULL);
}
