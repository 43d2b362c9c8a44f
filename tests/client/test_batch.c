/* test_batch.c - libmixclient against a peer that does right: every way a batch can come. */
#include "tests/client/check.h"

static void test_next(void **state)
{
    struct fixture *f = *state;
    const struct mxc_run_info *info;
    struct mxc_wait_stats w;
    struct mxc_batch *b;

    attach(f, 5000, 3);
    info = mxc_run_get_info(f->run);
    assert_string_equal(info->name, "demo");
    assert_int_equal(info->batch_size, 8);
    assert_int_equal(info->seq_len, 32);
    assert_int_equal(info->width, 2);
    assert_int_equal(info->eod, 256);
    assert_int_equal(info->frontier, 3);
    assert_int_equal(info->domain_count, 3);
    assert_string_equal(info->domains[0], "domain-0");
    assert_string_equal(info->domains[2], "domain-2");
    for (uint64_t step = 0; step < 50; step++) {
        OK(mxc_next(f->run, &b, &f->err));
        check_batch(f->run, b, step, 0, 8);
        mxc_batch_free(b);
    }
    mxc_get_wait_stats(f->run, &w);
    assert_int_equal(w.batches, 50);
    assert_true(w.ready <= 50 && w.bytes > 50 * 8 * 32 * 2);
    assert_int_equal(w.reconnects, 0);
    assert_string_equal(peer_look(f->peer).client, "test");
}

/* While a trainer is busy the next batches come, and the request says how far it is. */
static void test_ahead(void **state)
{
    struct fixture *f = *state;
    struct mxc_wait_stats w;
    struct mxc_batch *b;
    uint32_t seen = 0;

    attach(f, 5000, 4);
    OK(mxc_next(f->run, &b, &f->err));
    mxc_batch_free(b);
    for (int i = 0; i < 500 && seen < 5; i++) {
        (void)usleep(10000);
        seen = peer_look(f->peer).requests[MX_MSG_BATCH];
    }
    assert_int_equal(seen, 5); /* step 0, and 1 to 4 ahead */
    (void)usleep(20000);
    for (int i = 0; i < 4; i++) {
        OK(mxc_next(f->run, &b, &f->err));
        mxc_batch_free(b);
    }
    mxc_get_wait_stats(f->run, &w);
    assert_int_equal(w.ready, 4);
    (void)usleep(50000);
    assert_int_equal(peer_look(f->peer).oldest_seen, 4);
}

static void try_shape(struct fixture *f, uint32_t slots_max, uint32_t tokens_max, uint32_t width,
                      uint32_t per_reply)
{
    struct peer_knobs *k = peer_lock(f->peer);
    struct mxc_batch *b;

    k->slots_max = slots_max;
    k->tokens_max = tokens_max;
    k->width = width;
    k->slots_per_reply = per_reply;
    k->batch_size = 21;
    peer_unlock(f->peer);
    OK(mxc_attach(f->client, "demo", 0, 1, 9, &f->run, &f->err));
    for (uint64_t step = 9; step < 13; step++) {
        OK(mxc_next(f->run, &b, &f->err));
        check_batch(f->run, b, step, 0, 21);
        mxc_batch_free(b);
    }
    OK(mxc_slots_at(f->run, 2, 7, 5, &b, &f->err));
    check_batch(f->run, b, 2, 7, 5);
    mxc_batch_free(b);
    mxc_detach(f->run);
}

/* Whole, in ranges, in fewer slots than asked, and in parts of slots. */
static void test_shapes(void **state)
{
    struct fixture *f = *state;

    connect_to(f, 5000, 2);
    for (uint32_t width = 2; width <= 4; width += 2) {
        try_shape(f, 0, 0, width, 100);
        try_shape(f, 0, 0, width, 21);
        try_shape(f, 0, 0, width, 5);
        try_shape(f, 0, 0, width, 1);
        try_shape(f, 2, 0, width, 5);
        try_shape(f, 1, 0, width, 21);
        try_shape(f, 0, 32, width, 21);
        try_shape(f, 0, 13, width, 0);
        try_shape(f, 0, 1, width, 4);
    }
}

/* More ranges than calls, of replies at their largest. */
static void test_large(void **state)
{
    struct fixture *f = *state;
    struct peer_knobs *k = peer_lock(f->peer);
    struct mxc_batch *b;

    k->batch_size = 1000;
    k->seq_len = 4096;
    k->slots_per_reply = 24;
    peer_unlock(f->peer);
    attach(f, 20000, 1);
    OK(mxc_next(f->run, &b, &f->err));
    check_batch(f->run, b, 0, 0, 1000);
    assert_int_equal((uintptr_t)b->tokens % 64, 0);
    mxc_batch_free(b);
    assert_int_equal(peer_look(f->peer).largest_ask, 24);
}

static void test_ranks(void **state)
{
    struct fixture *f = *state;
    struct mxc_run *runs[5];
    struct mxc_batch *b;
    uint32_t next = 0;

    connect_to(f, 5000, 1);
    for (uint32_t rank = 0; rank < 5; rank++) {
        OK(mxc_attach(f->client, "demo", rank, 5, 3, &runs[rank], &f->err));
        OK(mxc_next(runs[rank], &b, &f->err));
        check_batch(runs[rank], b, 3, next, b->slots);
        assert_int_equal(b->slots, (rank + 1) * 8 / 5 - rank * 8 / 5);
        next += b->slots;
        mxc_batch_free(b);
    }
    assert_int_equal(next, 8);
    for (uint32_t rank = 0; rank < 5; rank++) {
        OK(mxc_batch_at(runs[rank], 1, &b, &f->err));
        check_batch(runs[rank], b, 1, rank * 8 / 5, (rank + 1) * 8 / 5 - rank * 8 / 5);
        mxc_batch_free(b);
    }
    mxc_detach(runs[2]);
    OK(mxc_next(runs[4], &b, &f->err));
    assert_int_equal(b->step, 4);
    mxc_batch_free(b);
    FAILS(mxc_attach(f->client, "demo", 0, 9, 0, &f->run, &f->err), MXC_INVALID, "gets none");
    FAILS(mxc_attach(f->client, "demo", 5, 5, 0, &f->run, &f->err), MXC_INVALID, "rank 5");
    FAILS(mxc_attach(f->client, "demo", 0, 0, 0, &f->run, &f->err), MXC_INVALID, "world 0");
    FAILS(mxc_attach(f->client, "", 0, 1, 0, &f->run, &f->err), MXC_INVALID, "name");
}

static void test_seek(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;

    attach(f, 5000, 3);
    OK(mxc_next(f->run, &b, &f->err));
    mxc_batch_free(b);
    mxc_seek(f->run, 40);
    OK(mxc_next(f->run, &b, &f->err));
    check_batch(f->run, b, 40, 0, 8);
    mxc_batch_free(b);
    OK(mxc_batch_at(f->run, 7, &b, &f->err));
    check_batch(f->run, b, 7, 0, 8);
    mxc_batch_free(b);
    OK(mxc_next(f->run, &b, &f->err));
    check_batch(f->run, b, 41, 0, 8);
    mxc_batch_free(b);
    mxc_seek(f->run, 0);
    OK(mxc_next(f->run, &b, &f->err));
    check_batch(f->run, b, 0, 0, 8);
    mxc_batch_free(b);
    FAILS(mxc_slots_at(f->run, 0, 8, 1, &b, &f->err), MXC_INVALID, "slots 8+1");
    FAILS(mxc_slots_at(f->run, 0, 0, 9, &b, &f->err), MXC_INVALID, "slots 0+9");
    FAILS(mxc_slots_at(f->run, 0, 0, 0, &b, &f->err), MXC_INVALID, "slots");
    FAILS(mxc_batch_at(f->run, UINT64_MAX, &b, &f->err), MXC_INVALID, "beyond");
}

/* 8 x 32 tokens, then 8 x 64, then 4 x 128. */
static void in_parts(struct fixture *f, uint64_t second, uint64_t third, uint32_t per_reply)
{
    struct peer_knobs *k = peer_lock(f->peer);

    k->parts[0] = (struct mx_part_entry){0, 8, 32, per_reply};
    k->parts[1] = (struct mx_part_entry){second, 8, 64, per_reply};
    k->parts[2] = (struct mx_part_entry){third, 4, 128, per_reply};
    k->n_parts = 3;
    peer_unlock(f->peer);
}

static void walk_parts(struct fixture *f, uint32_t rank, uint32_t world)
{
    struct mxc_run *run;
    struct mxc_batch *b;

    OK(mxc_attach(f->client, "demo", rank, world, 0, &run, &f->err));
    for (uint64_t step = 0; step < 25; step++) {
        uint32_t size = step < 14 ? 8 : 4;

        OK(mxc_next(run, &b, &f->err));
        assert_int_equal(b->seq_len, step < 5 ? 32 : step < 14 ? 64 : 128);
        check_batch(run, b, step, rank * size / world,
                    (rank + 1) * size / world - rank * size / world);
        mxc_batch_free(b);
    }
    OK(mxc_batch_at(run, 4, &b, &f->err));
    check_batch(run, b, 4, rank * 8 / world, (rank + 1) * 8 / world - rank * 8 / world);
    mxc_batch_free(b);
    mxc_detach(run);
}

/* The batches of a run change; a rank's slots and the next requests follow. */
static void test_parts(void **state)
{
    struct fixture *f = *state;
    const struct mxc_run_info *info;
    struct mxc_batch *b;

    in_parts(f, 5, 14, 8);
    connect_to(f, 5000, 4);
    OK(mxc_attach(f->client, "demo", 0, 1, 6, &f->run, &f->err));
    info = mxc_run_get_info(f->run);
    assert_int_equal(info->n_parts, 3);
    assert_int_equal(info->batch_size, 8);
    assert_int_equal(info->seq_len, 64); /* of the step it starts at */
    assert_int_equal(info->parts[2].from_step, 14);
    assert_int_equal(info->parts[2].batch_size, 4);
    assert_int_equal(info->parts[2].seq_len, 128);
    assert_int_equal(mxc_part_of(f->run, 4).seq_len, 32);
    assert_int_equal(mxc_part_of(f->run, 14).seq_len, 128);
    OK(mxc_slots_at(f->run, 13, 7, 1, &b, &f->err));
    mxc_batch_free(b);
    FAILS(mxc_slots_at(f->run, 14, 4, 1, &b, &f->err), MXC_INVALID, "slots 4+1");
    mxc_detach(f->run);
    walk_parts(f, 0, 1);
    walk_parts(f, 2, 3);
    in_parts(f, 5, 14, 3);
    walk_parts(f, 0, 1);
    peer_lock(f->peer)->tokens_max = 20;
    peer_unlock(f->peer);
    walk_parts(f, 1, 2);
}

/* A world that is larger than the batches of a part to come is told at once. */
static void test_parts_too_small(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;

    in_parts(f, 5, 14, 8);
    connect_to(f, 5000, 2);
    FAILS(mxc_attach(f->client, "demo", 0, 5, 0, &f->run, &f->err), MXC_INVALID, "from step 14");
    peer_lock(f->peer)->end_step = 14; /* it never comes to that part */
    peer_unlock(f->peer);
    OK(mxc_attach(f->client, "demo", 0, 5, 0, &f->run, &f->err));
    mxc_detach(f->run);
    {
        struct peer_knobs *k = peer_lock(f->peer);

        k->end_step = UINT64_MAX;
        k->parts[0].batch_size = 2;
    }
    peer_unlock(f->peer);
    OK(mxc_attach(f->client, "demo", 0, 4, 5, &f->run, &f->err));
    mxc_seek(f->run, 0);
    FAILS(mxc_next(f->run, &b, &f->err), MXC_INVALID, "from step 0");
    FAILS(mxc_batch_at(f->run, 0, &b, &f->err), MXC_INVALID, "slots");
    mxc_seek(f->run, 5);
    OK(mxc_next(f->run, &b, &f->err));
    mxc_batch_free(b);
}

static void test_end(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;

    peer_lock(f->peer)->end_step = 5;
    peer_unlock(f->peer);
    attach(f, 5000, 8);
    for (int i = 0; i < 5; i++) {
        OK(mxc_next(f->run, &b, &f->err));
        mxc_batch_free(b);
    }
    FAILS(mxc_next(f->run, &b, &f->err), MXC_END, "ends before step 5");
    FAILS(mxc_next(f->run, &b, &f->err), MXC_END, "ends before step 5");
    FAILS(mxc_batch_at(f->run, 5, &b, &f->err), MXC_END, "the run has ended");
}

/* A batch outlives the client it came from. */
static void test_after_close(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;
    uint32_t sum = 0;

    attach(f, 5000, 3);
    OK(mxc_next(f->run, &b, &f->err));
    mxc_close(f->client);
    f->client = NULL;
    for (size_t i = 0; i < 8 * 32; i++) {
        sum += ((const uint16_t *)b->tokens)[i] != 0;
    }
    assert_true(sum > 200);
    mxc_batch_free(b);
    mxc_batch_free(NULL);
    mxc_close(NULL);
}

static void test_names_in_pages(void **state)
{
    struct fixture *f = *state;
    struct peer_knobs *k = peer_lock(f->peer);

    k->domains = 1000;
    k->names_per_page = 300;
    peer_unlock(f->peer);
    attach(f, 5000, 1);
    assert_int_equal(mxc_run_get_info(f->run)->domain_count, 1000);
    assert_string_equal(mxc_run_get_info(f->run)->domains[999], "domain-999");
    assert_int_equal(peer_look(f->peer).requests[MX_MSG_ATTACH], 4);
}

static void test_tcp_and_operations(void **state)
{
    struct fixture *f = *state;
    struct peer *tcp = peer_new(NULL);
    struct mxc_client *c;
    struct mxc_run *run;
    struct mxc_batch *b;
    char *json;

    OK(mxc_open(peer_url(tcp), NULL, &c, &f->err));
    OK(mxc_attach(c, "demo", 0, 1, 0, &run, &f->err));
    OK(mxc_next(run, &b, &f->err));
    check_batch(run, b, 0, 0, 8);
    mxc_batch_free(b);
    OK(mxc_control(c, "{\"op\":\"info\"}", &json, &f->err));
    assert_string_equal(json, "{\"done\":true}");
    free(json);
    assert_string_equal(peer_look(tcp).control, "{\"op\":\"info\"}");
    OK(mxc_stats(c, NULL, &json, &f->err));
    assert_string_equal(json, "{\"all\":1}");
    free(json);
    OK(mxc_stats(c, "demo", &json, &f->err));
    assert_string_equal(json, "{\"run\":1}");
    free(json);
    mxc_close(c);
    peer_free(tcp);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_next),
        TEST(test_ahead),
        TEST(test_shapes),
        TEST(test_large),
        TEST(test_ranks),
        TEST(test_seek),
        TEST(test_parts),
        TEST(test_parts_too_small),
        TEST(test_end),
        TEST(test_after_close),
        TEST(test_names_in_pages),
        TEST(test_tcp_and_operations),
    };
    peer_init();
    return cmocka_run_group_tests_name("client-batch", tests, NULL, NULL);
}
