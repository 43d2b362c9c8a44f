/* test_report.c - reports of every kind as a client makes them, and what else batches bring: weights of
 * the loss, evaluations that are wanted, names of evaluation sets. */
#include "tests/client/check.h"

#include <math.h>

static void with_evals(struct fixture *f)
{
    struct peer_knobs *k = peer_lock(f->peer);

    k->n_evals = 2;
    k->eval_sizes[0] = 1;
    k->eval_sizes[1] = 4;
    peer_unlock(f->peer);
}

static void test_names(void **state)
{
    struct fixture *f = *state;
    const struct mxc_run_info *info;
    struct peer_knobs *k;

    with_evals(f);
    k = peer_lock(f->peer);
    k->names_per_page = 2; /* pages end anywhere: within the domains, a set, its members */
    peer_unlock(f->peer);
    attach(f, 20000, 2);
    info = mxc_run_get_info(f->run);
    assert_int_equal(info->domain_count, 3);
    assert_string_equal(info->domains[2], "domain-2");
    assert_int_equal(info->eval_set_count, 2);
    assert_string_equal(info->eval_sets[0].name, "set-0");
    assert_int_equal(info->eval_sets[0].member_count, 1);
    assert_string_equal(info->eval_sets[1].name, "set-1");
    assert_int_equal(info->eval_sets[1].member_count, 4);
    assert_string_equal(info->eval_sets[1].members[3], "member-3");
}

/* A run that names no set has one: its domains. */
static void test_implied_set(void **state)
{
    struct fixture *f = *state;
    const struct mxc_run_info *info;

    attach(f, 20000, 2);
    info = mxc_run_get_info(f->run);
    assert_int_equal(info->eval_set_count, 1);
    assert_string_equal(info->eval_sets[0].name, "eval");
    assert_int_equal(info->eval_sets[0].member_count, 3);
    assert_string_equal(info->eval_sets[0].members[1], "domain-1");
}

/* Sections of the last post, which must make sense. The knobs hold what they point to. */
static void take_sections(const struct peer_knobs *k, struct mx_sections *ret)
{
    struct mx_err err;

    assert_true(k->n_sections > 0);
    if (mx_sections_decode((struct mx_span){k->sections, k->n_sections}, ret, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static void test_everything(void **state)
{
    static const struct mxc_loss losses[] = {{2, 0, 512, 700.5}, {0, 4, 128, 3.25}};
    static const struct mxc_eval_loss evals[] = {
        {1, 3, 2, 64, 1.5}, {0, 0, 0, 32, 2.5}, {1, 0, 0, 16, 3.5}};
    static const struct mxc_reward rewards[] = {{1, 16, -1.5}, {0, 8, 2.0}};
    static const struct mxc_score scores[] = {{2, 99, 0.5}, {0, 1, (double)NAN}};
    static const uint32_t grads[] = {2, 0};
    static const double gram[] = {4.0, 0.5, 0.5, 1.0};
    struct mxc_report report = {
        .losses = losses, .n_losses = 2, .evals = evals, .n_evals = 3, .rewards = rewards,
        .n_rewards = 2, .scores = scores, .n_scores = 2, .grad_domains = grads, .gram = gram,
        .n_grad = 2, .lr = 3e-4, .flags = MXC_FLAG_STEP_SKIPPED};
    struct fixture *f = *state;
    struct mx_train_entry t;
    struct mx_reward_entry r;
    struct mx_score_entry c;
    struct mx_sections s;
    struct peer_knobs k;

    with_evals(f);
    attach(f, 20000, 2);
    OK(mxc_report_post(f->run, 4, &report, &f->err));
    OK(mxc_flush(f->run, &f->err));
    k = peer_look(f->peer);
    assert_int_equal(k.post.step, 4);
    assert_int_equal(k.post.flags, 2);
    take_sections(&k, &s);
    assert_int_equal(s.train.n, 2);
    mx_train_get(&s.train, 0, &t);
    assert_true(t.domain == 0 && t.loss_sum == 3.25);
    assert_true(s.n_eval_sets == 2 && s.n_evals == 3 && s.eval_sets[0] == 0 && s.eval_sets[1] == 1);
    mx_train_get(&s.evals[1], 1, &t);
    assert_true(t.domain == 3 && t.samples == 2 && t.tokens == 64 && t.loss_sum == 1.5);
    mx_reward_get(&s.rewards, 1, &r);
    assert_true(r.domain == 1 && r.count == 16 && r.sum == -1.5);
    mx_score_get(&s.scores, 0, &c); /* in the order in which they were given */
    assert_true(c.domain == 2 && c.sample == 99 && c.score == 0.5);
    assert_true(s.n_gram == 2 && mx_gram_domain(&s, 0) == 0 && mx_gram_domain(&s, 1) == 2);
    assert_true(mx_gram_value(&s, 0) == 1.0 && mx_gram_value(&s, 1) == 0.5 &&
                mx_gram_value(&s, 2) == 4.0 && s.lr == 3e-4);
    /* Evaluations alone: then nothing is said of training. */
    report = (struct mxc_report){.evals = evals, .n_evals = 1};
    OK(mxc_report_post(f->run, 5, &report, &f->err));
    OK(mxc_flush(f->run, &f->err));
    k = peer_look(f->peer);
    take_sections(&k, &s);
    assert_true(!s.train.present && s.n_evals == 1);
    /* A flag alone is a report, and so is that nothing was seen. */
    report = (struct mxc_report){.flags = MXC_FLAG_NONFINITE_LOSS};
    OK(mxc_report_post(f->run, 6, &report, &f->err));
    OK(mxc_flush(f->run, &f->err));
    k = peer_look(f->peer);
    assert_int_equal(k.n_sections, 0);
    report.flags = 0;
    OK(mxc_report_post(f->run, 7, &report, &f->err));
    OK(mxc_flush(f->run, &f->err));
    k = peer_look(f->peer);
    take_sections(&k, &s);
    assert_true(s.train.present && s.train.n == 0);
}

static void refused(struct fixture *f, const struct mxc_report *report, const char *text)
{
    struct mxc_feedback_counts n;

    assert_int_equal(mxc_report_post(f->run, 0, report, &f->err), MXC_INVALID);
    if (strstr(f->err.text, text) == NULL) {
        fail_msg("'%s' isn't in '%s'", text, f->err.text);
    }
    mxc_feedback_get_counts(f->run, &n);
    assert_int_equal(n.posted, 0);
}

static void test_refused(void **state)
{
    static const struct mxc_eval_loss set[] = {{2, 0, 0, 1, 1}}, member[] = {{0, 1, 0, 1, 1}};
    static const struct mxc_eval_loss twice[] = {{1, 2, 0, 1, 1}, {0, 0, 0, 1, 1}, {1, 2, 0, 1, 1}};
    static const struct mxc_reward reward[] = {{0, 1, 1}, {3, 1, 1}};
    static const struct mxc_score score[] = {{0, 1, 1}, {9, 1, 1}};
    static const uint32_t same[] = {1, 1}, beyond[] = {0, 3}, two[] = {0, 1};
    static const double skew[] = {1.0, 0.5, 0.25, 1.0}, even[] = {1, 0, 0, 1};
    struct mxc_score *many = calloc(20000, sizeof *many);
    struct fixture *f = *state;

    assert_non_null(many);
    with_evals(f);
    attach(f, 20000, 2);
    refused(f, &(struct mxc_report){.evals = set, .n_evals = 1},
            "an evaluation of set 2; there are 2");
    refused(f, &(struct mxc_report){.evals = member, .n_evals = 1},
            "member 1 of eval set set-0 that it hasn't");
    refused(f, &(struct mxc_report){.evals = twice, .n_evals = 3},
            "member 2 of eval set set-1 stands twice");
    refused(f, &(struct mxc_report){.rewards = reward, .n_rewards = 2},
            "a reward of domain 3 that the run hasn't");
    refused(f, &(struct mxc_report){.scores = score, .n_scores = 2},
            "a score of domain 9 that the run hasn't");
    refused(f, &(struct mxc_report){.grad_domains = same, .gram = even, .n_grad = 2, .lr = 1},
            "a gradient of domain 1 stands twice");
    refused(f, &(struct mxc_report){.grad_domains = beyond, .gram = even, .n_grad = 2, .lr = 1},
            "a gradient of domain 3 that the run hasn't");
    refused(f, &(struct mxc_report){.grad_domains = two, .gram = skew, .n_grad = 2, .lr = 1},
            "row 1 column 0 is 0.25, row 0 column 1 is 0.5");
    refused(f, &(struct mxc_report){.grad_domains = two, .gram = even, .n_grad = 129, .lr = 1},
            "gradients of 129 domains; at most 128");
    refused(f, &(struct mxc_report){.scores = many, .n_scores = 20000},
            "20000 scores and 0 gradients is larger than a message");
    /* As many as fit go out in one message. */
    OK(mxc_report_post(f->run, 1, &(struct mxc_report){.scores = many, .n_scores = 10900},
                       &f->err));
    OK(mxc_flush(f->run, &f->err));
    assert_int_equal(peer_look(f->peer).post.step, 1);
    free(many);
}

static void test_weights(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;
    struct peer_knobs *k;

    attach(f, 20000, 2);
    OK(mxc_next(f->run, &b, &f->err));
    assert_null(b->weights);
    assert_int_equal(b->eval_wanted, 0);
    mxc_batch_free(b);
    k = peer_lock(f->peer);
    k->weights = true;
    k->eval_step = 30;
    k->slots_max = 3; /* the batch comes in pieces */
    peer_unlock(f->peer);
    OK(mxc_batch_at(f->run, 30, &b, &f->err));
    assert_non_null(b->weights);
    for (uint32_t i = 0; i < b->slots; i++) {
        assert_true(b->weights[i] == (float)(b->first_slot + i) / 4);
    }
    assert_int_equal(b->eval_wanted, 1);
    mxc_batch_free(b);
    OK(mxc_batch_at(f->run, 31, &b, &f->err));
    assert_int_equal(b->eval_wanted, 0);
    mxc_batch_free(b);
}

/* Names that aren't as many as the reply says, sets without end. */
static void bend_names(const struct mx_header *request, uint8_t *frame, size_t *n)
{
    (void)n;
    if (request->type == MX_MSG_ATTACH) {
        mx_store_u32(frame + MX_HEADER_BYTES + 60, 4); /* eval_set_count */
    }
}

static void bend_sets(const struct mx_header *request, uint8_t *frame, size_t *n)
{
    (void)n;
    if (request->type == MX_MSG_ATTACH) {
        mx_store_u32(frame + MX_HEADER_BYTES + 60, UINT32_MAX);
    }
}

static void test_bent_attach(void **state)
{
    void (*const bends[])(const struct mx_header *, uint8_t *, size_t *) = {bend_names, bend_sets};
    struct fixture *f = *state;

    for (size_t i = 0; i < 2; i++) {
        struct peer_knobs *k = peer_lock(f->peer);

        k->mangle = bends[i];
        peer_unlock(f->peer);
        OK(mxc_open(peer_url(f->peer), &(struct mxc_options){.timeout_ms = 5000}, &f->client,
                    &f->err));
        assert_int_equal(mxc_attach(f->client, "demo", 0, 1, 0, &f->run, &f->err), MXC_PROTOCOL);
        assert_non_null(strstr(f->err.text, "eval sets"));
        mxc_close(f->client);
        f->client = NULL;
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_names), TEST(test_implied_set), TEST(test_everything),
        TEST(test_refused), TEST(test_weights), TEST(test_bent_attach),
    };

    peer_init();
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
