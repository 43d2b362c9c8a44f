/* test_skip.c - steps that are passed over: mxc_next goes on behind them, with what it has already.
 */
#include "tests/client/check.h"

/* Makes the peer pass over these steps; the gaps before are gone. */
static void pass_over(struct fixture *f, uint64_t from, uint64_t to, uint64_t from2, uint64_t to2)
{
    struct peer_knobs *k = peer_lock(f->peer);

    k->gaps[0].from = from;
    k->gaps[0].to = to;
    k->gaps[1].from = from2;
    k->gaps[1].to = to2;
    k->hold_from = UINT64_MAX;
    peer_unlock(f->peer);
}

static void take(struct fixture *f, uint64_t step)
{
    struct mxc_batch *b;

    OK(mxc_next(f->run, &b, &f->err));
    check_batch(f->run, b, step, 0, 8);
    mxc_batch_free(b);
}

static void take_all(struct fixture *f, uint64_t from, uint64_t to)
{
    for (uint64_t step = from; step < to; step++) {
        take(f, step);
    }
}

/* Until the peer has had requests for this step. */
static void await_asked(struct fixture *f, uint64_t step)
{
    struct mxc_feedback_counts n;

    for (int i = 0; i < 10000 && peer_look(f->peer).asked[step] == 0; i++) {
        mxc_feedback_get_counts(f->run, &n); /* pumps */
        (void)usleep(1000);
    }
    assert_int_not_equal(peer_look(f->peer).asked[step], 0);
}

static void test_middle(void **state)
{
    struct fixture *f = *state;
    struct mxc_wait_stats w;
    char *json;

    pass_over(f, 4, 6, 0, 0);
    attach(f, 5000, 3);
    take_all(f, 0, 4);
    /* Replies come in order: when this one is there, that of step 4 is. */
    OK(mxc_stats(f->client, "demo", &json, &f->err));
    free(json);
    take_all(f, 6, 12);
    mxc_get_wait_stats(f->run, &w);
    assert_int_equal(w.batches, 10);
    assert_int_equal(w.retries, 0);
    assert_int_equal(peer_look(f->peer).asked[4], 1); /* ahead, and not again */
}

static void test_first(void **state)
{
    struct fixture *f = *state;

    pass_over(f, 0, 3, 0, 0);
    attach(f, 5000, 3);
    take_all(f, 3, 8);
    /* And where a seek goes to. */
    mxc_seek(f->run, 1);
    take_all(f, 3, 8);
}

/* The oldest step in use is named as the first behind the gap, or the daemon would wait for steps
 * that nobody ever finishes. */
static void test_longer_than_the_window(void **state)
{
    struct fixture *f = *state;
    struct peer_knobs k;

    pass_over(f, 2, 5000, 0, 0);
    attach(f, 5000, 3);
    take_all(f, 0, 2);
    take(f, 5000);
    k = peer_look(f->peer);
    assert_int_equal(k.oldest_seen, 5000);
    take_all(f, 5001, 5010);
}

static void test_two_in_a_row(void **state)
{
    struct fixture *f = *state;

    pass_over(f, 3, 5, 5, 9);
    attach(f, 5000, 4);
    take_all(f, 0, 3);
    take_all(f, 9, 14);
    /* The same with nothing fetched ahead. */
    mxc_close(f->client);
    attach(f, 5000, 1);
    take_all(f, 0, 3);
    take_all(f, 9, 14);
}

/* Batches before and behind the gap are there already: all of them are delivered, in order, and
 * none is asked for again. The ones in the gap are dropped. */
static void test_ready_around_the_gap(void **state)
{
    struct fixture *f = *state;
    struct peer_knobs *k = peer_lock(f->peer);
    struct peer_knobs seen;

    k->hold_from = 3;
    k->hold_to = 4;
    peer_unlock(f->peer);
    attach(f, 5000, 8);
    take(f, 0);
    await_asked(f, 8);
    /* Steps 1, 2 and 4 to 8 were served, 3 is held back. */
    pass_over(f, 3, 6, 0, 0);
    take_all(f, 1, 3);
    take_all(f, 6, 12);
    seen = peer_look(f->peer);
    for (uint64_t step = 0; step < 12; step++) {
        if (step != 3) {
            assert_int_equal(seen.asked[step], 1);
        }
    }
}

/* A batch of several requests is dropped as a whole when one of them says so. */
static void test_several_requests(void **state)
{
    struct fixture *f = *state;
    struct peer_knobs *k = peer_lock(f->peer);

    k->slots_per_reply = 1;
    peer_unlock(f->peer);
    pass_over(f, 2, 4, 0, 0);
    attach(f, 5000, 3);
    take_all(f, 0, 2);
    take_all(f, 4, 8);
}

static void test_up_to_the_end(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;

    peer_lock(f->peer)->end_step = 6;
    peer_unlock(f->peer);
    pass_over(f, 4, 6, 0, 0);
    attach(f, 5000, 3);
    take_all(f, 0, 4);
    FAILS(mxc_next(f->run, &b, &f->err), MXC_END, "ends before step 6");
    FAILS(mxc_next(f->run, &b, &f->err), MXC_END, "ends before step 6");
    pass_over(f, 4, UINT64_MAX, 0, 0);
    mxc_seek(f->run, 3);
    take(f, 3);
    FAILS(mxc_next(f->run, &b, &f->err), MXC_END, "ends before step");
}

static void test_by_address(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;

    pass_over(f, 3, 6, 0, 0);
    attach(f, 5000, 2);
    FAILS(mxc_batch_at(f->run, 4, &b, &f->err), MXC_SKIPPED,
          "run demo: step 4 is passed over, go on at step 6: bad data");
    FAILS(mxc_slots_at(f->run, 3, 1, 2, &b, &f->err), MXC_SKIPPED, "go on at step 6");
    assert_string_equal(mxc_code_name(MXC_SKIPPED), "SKIPPED");
    OK(mxc_batch_at(f->run, 6, &b, &f->err));
    check_batch(f->run, b, 6, 0, 8);
    mxc_batch_free(b);
    take(f, 0); /* where mxc_next is hasn't moved */
}

static void refuse_all(struct fixture *f, uint32_t status)
{
    struct peer_knobs *k = peer_lock(f->peer);

    k->on[MX_MSG_BATCH].refuse_status = status;
    k->on[MX_MSG_BATCH].text = "";
    peer_unlock(f->peer);
}

/* What names no later step would go round for ever: it is nonsense. */
static void test_lie(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;

    attach(f, 5000, 3);
    refuse_all(f, MX_STATUS_SKIPPED);
    FAILS(mxc_batch_at(f->run, 5, &b, &f->err), MXC_PROTOCOL, "step 5 is passed over up to step 5");
    FAILS(mxc_batch_at(f->run, 9, &b, &f->err), MXC_PROTOCOL, "up to step 5");
    FAILS(mxc_next(f->run, &b, &f->err), MXC_PROTOCOL, "step 5 is passed over up to step 5");
    refuse_all(f, MX_STATUS_OK);
    take_all(f, 5, 9);
}

/* Each step names the one behind it: a call ends in time all the same, and has come on. */
static void next_step(const struct mx_header *h, uint8_t *frame, size_t *n)
{
    static uint64_t step; /* the peer's process has it to itself */

    if (h->type == MX_MSG_BATCH && *n > MX_HEADER_BYTES + 8) {
        mx_store_u64(frame + *n - 8, ++step * 1000);
    }
}

static void test_no_end_of_gaps(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;
    int64_t t0;

    attach(f, 200, 1);
    refuse_all(f, MX_STATUS_SKIPPED);
    peer_lock(f->peer)->mangle = next_step;
    peer_unlock(f->peer);
    t0 = mxc_now_ns();
    FAILS(mxc_next(f->run, &b, &f->err), MXC_TIMEOUT, "run demo");
    assert_true(ms_since(t0) >= 200 && ms_since(t0) < 3000);
    peer_lock(f->peer)->mangle = NULL;
    peer_unlock(f->peer);
    refuse_all(f, MX_STATUS_OK);
    while (mxc_next(f->run, &b, &f->err) == MXC_TIMEOUT) { /* on a slow machine */
    }
    assert_true(b->step >= 1000 && b->step % 1000 == 0);
    mxc_batch_free(b);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_middle),
        TEST(test_first),
        TEST(test_longer_than_the_window),
        TEST(test_two_in_a_row),
        TEST(test_ready_around_the_gap),
        TEST(test_several_requests),
        TEST(test_up_to_the_end),
        TEST(test_by_address),
        TEST(test_lie),
        TEST(test_no_end_of_gaps),
    };
    peer_init();
    return cmocka_run_group_tests_name("client-skip", tests, NULL, NULL);
}
