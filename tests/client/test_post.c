/* test_post.c - feedback: delivered once, in spite of loss; refused and quarantined ones are told.
 */
#include "tests/client/check.h"

#include <math.h>

static const struct mxc_loss some[] = {{2, 0, 512, 700.5}, {0, 4, 128, 3.25}};

static void test_delivered(void **state)
{
    struct fixture *f = *state;
    struct mxc_feedback_counts n;
    struct mxc_batch *b;
    struct peer_knobs k;

    attach(f, 5000, 2);
    OK(mxc_next(f->run, &b, &f->err));
    OK(mxc_feedback(f->run, b->step, some, 2, &f->err));
    mxc_batch_free(b);
    OK(mxc_flush(f->run, &f->err));
    k = peer_look(f->peer);
    assert_int_equal(k.post.step, 0);
    assert_int_equal(k.post.run, 5);
    assert_int_equal(k.post.mix_version, 7);
    assert_int_equal(k.post.world, 1);
    assert_int_equal(k.n_entries, 2);
    /* In rising order of domains, whatever the order they were given in. */
    assert_int_equal(k.entries[0].domain, 0);
    assert_int_equal(k.entries[0].samples, 4);
    assert_int_equal(k.entries[0].tokens, 128);
    assert_true(k.entries[0].loss_sum == 3.25);
    assert_int_equal(k.entries[1].domain, 2);
    assert_true(k.entries[1].loss_sum == 700.5);
    mxc_feedback_get_counts(f->run, &n);
    assert_int_equal(n.posted, 1);
    assert_int_equal(n.accepted, 1);
    assert_int_equal(n.duplicate + n.late + n.refused + n.quarantined, 0);
    assert_string_equal(n.last_text, "");
    /* The same step again, a step that wasn't taken, and no losses at all. */
    OK(mxc_feedback(f->run, 0, some, 1, &f->err));
    OK(mxc_feedback(f->run, 900, NULL, 0, &f->err));
    OK(mxc_flush(f->run, &f->err));
    mxc_feedback_get_counts(f->run, &n);
    assert_int_equal(n.accepted, 2);
    assert_int_equal(n.duplicate + n.diverged, 1);
    assert_int_equal(n.diverged, 1); /* one loss now, two before */
    assert_int_equal(peer_look(f->peer).post.mix_version, 0);
    OK(mxc_feedback(f->run, 0, some, 2, &f->err));
    OK(mxc_flush(f->run, &f->err));
    mxc_feedback_get_counts(f->run, &n);
    assert_int_equal(n.posted, 4);
    assert_int_equal(n.duplicate, 1);
    assert_int_equal(n.accepted + n.duplicate + n.diverged + n.late + n.refused, 4);
}

/* The post arrives, its reply is lost; it is sent again and found to be there. */
static void test_reply_lost(void **state)
{
    struct fixture *f = *state;
    struct mxc_feedback_counts n;
    struct peer_knobs *k;

    attach(f, 20000, 2);
    k = peer_lock(f->peer);
    k->on[MX_MSG_FEEDBACK].lose = 1;
    peer_unlock(f->peer);
    OK(mxc_feedback(f->run, 3, some, 2, &f->err));
    OK(mxc_flush(f->run, &f->err));
    mxc_feedback_get_counts(f->run, &n);
    assert_int_equal(n.posted, 1);
    assert_int_equal(n.accepted + n.duplicate, 1);
    assert_int_equal(n.duplicate, 1);
    assert_int_equal(peer_look(f->peer).requests[MX_MSG_FEEDBACK], 2);
}

static void test_refused(void **state)
{
    static const struct mxc_loss negative[] = {{1, 1, 10, -5.0}, {0, 1, 10, 5.0}};
    static const struct mxc_loss twice[] = {{1, 1, 10, 5.0}, {1, 1, 10, 5.0}};
    static const struct mxc_loss beyond[] = {{3, 1, 10, 5.0}};
    struct fixture *f = *state;
    struct mxc_feedback_counts n;
    struct peer_knobs *k;

    attach(f, 5000, 2);
    OK(mxc_feedback(f->run, 0, negative, 2, &f->err));
    OK(mxc_flush(f->run, &f->err));
    mxc_feedback_get_counts(f->run, &n);
    assert_int_equal(n.accepted, 1);
    assert_int_equal(n.quarantined, 1);
    assert_string_equal(n.last_text, "a negative loss");
    FAILS(mxc_feedback(f->run, 1, twice, 2, &f->err), MXC_INVALID, "domain 1 stands twice");
    FAILS(mxc_feedback(f->run, 1, beyond, 1, &f->err), MXC_INVALID, "domain 3 that the run hasn't");
    FAILS(mxc_feedback(f->run, UINT64_MAX, some, 1, &f->err), MXC_INVALID, "out of range");
    k = peer_lock(f->peer);
    k->on[MX_MSG_FEEDBACK].refuse_status = MX_STATUS_BAD_REQUEST;
    k->on[MX_MSG_FEEDBACK].text = "rank 7 >= world 4";
    peer_unlock(f->peer);
    OK(mxc_feedback(f->run, 1, some, 2, &f->err));
    OK(mxc_feedback(f->run, 2, some, 2, &f->err));
    FAILS(mxc_flush(f->run, &f->err), MXC_INVALID, "rank 7 >= world 4");
    OK(mxc_flush(f->run, &f->err)); /* told once */
    mxc_feedback_get_counts(f->run, &n);
    assert_int_equal(n.refused, 2);
    assert_string_equal(n.last_text, "rank 7 >= world 4");
}

/* While the daemon is away posts wait, up to a bound; then all of them arrive. */
static void test_outage(void **state)
{
    struct fixture *f = *state;
    struct mxc_feedback_counts n;
    uint64_t step = 0;

    attach(f, 500, 1);
    peer_die(f->peer);
    while (step < MX_CLIENT_POSTS_MAX) {
        OK(mxc_feedback(f->run, step++, some, 2, &f->err));
    }
    FAILS(mxc_feedback(f->run, step, some, 2, &f->err), MXC_BUSY, "256 posts are undelivered");
    FAILS(mxc_flush(f->run, &f->err), MXC_UNREACHABLE, "no daemon answers");
    peer_revive(f->peer);
    for (int i = 0; i < 20 && mxc_flush(f->run, &f->err) != 0; i++) {
    }
    OK(mxc_flush(f->run, &f->err));
    mxc_feedback_get_counts(f->run, &n);
    assert_int_equal(n.posted, MX_CLIENT_POSTS_MAX);
    assert_int_equal(n.accepted + n.duplicate, MX_CLIENT_POSTS_MAX);
    OK(mxc_feedback(f->run, step, some, 2, &f->err));
    OK(mxc_flush(f->run, &f->err));
}

/* Closing doesn't wait for posts, and a detached run's posts still go out. */
static void test_close_and_detach(void **state)
{
    struct fixture *f = *state;
    struct mxc_run *other;
    struct peer_knobs *k;
    char *json;
    int64_t t0;
    uint32_t seen = 0;

    attach(f, 5000, 1);
    OK(mxc_attach(f->client, "demo", 0, 1, 0, &other, &f->err));
    k = peer_lock(f->peer);
    k->on[MX_MSG_FEEDBACK].put_off = 1;
    k->on[MX_MSG_FEEDBACK].put_off_status = MX_STATUS_BUSY;
    k->on[MX_MSG_FEEDBACK].wait_ms = 30;
    peer_unlock(f->peer);
    OK(mxc_feedback(f->run, 5, some, 2, &f->err));
    mxc_detach(f->run);
    for (int i = 0; i < 500 && seen < 2; i++) {
        OK(mxc_stats(f->client, NULL, &json, &f->err));
        free(json);
        (void)usleep(1000);
        seen = peer_look(f->peer).requests[MX_MSG_FEEDBACK];
    }
    assert_int_equal(seen, 2);
    OK(mxc_flush(other, &f->err));
    peer_lock(f->peer)->mute = 1;
    peer_unlock(f->peer);
    for (uint64_t step = 0; step < 100; step++) {
        OK(mxc_feedback(other, step, some, 2, &f->err));
    }
    t0 = mxc_now_ns();
    mxc_close(f->client);
    f->client = NULL;
    assert_true(ms_since(t0) < 2000);
}

static void test_values(void **state)
{
    const struct mxc_loss odd[] = {{0, UINT32_MAX, UINT64_MAX, (double)NAN},
                                   {1, 0, 0, (double)INFINITY}};
    struct fixture *f = *state;
    struct peer_knobs k;

    attach(f, 5000, 1);
    OK(mxc_feedback(f->run, MX_STEP_MAX, odd, 2, &f->err));
    OK(mxc_flush(f->run, &f->err));
    k = peer_look(f->peer);
    assert_int_equal(k.post.step, MX_STEP_MAX);
    assert_true(isnan(k.entries[0].loss_sum) && k.entries[0].tokens == UINT64_MAX);
    assert_true(isinf(k.entries[1].loss_sum) && k.entries[0].samples == UINT32_MAX);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_delivered), TEST(test_reply_lost),       TEST(test_refused),
        TEST(test_outage),    TEST(test_close_and_detach), TEST(test_values),
    };
    peer_init();
    return cmocka_run_group_tests_name("client-post", tests, NULL, NULL);
}
