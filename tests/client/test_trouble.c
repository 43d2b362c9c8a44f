/* test_trouble.c - libmixclient against a peer that puts off, refuses, lies, is silent or dies. */
#include "tests/client/check.h"

#include <time.h>

static void put_off(struct fixture *f, unsigned type, uint32_t status, uint32_t n, uint32_t ms)
{
    struct peer_knobs *k = peer_lock(f->peer);

    k->on[type].put_off = n;
    k->on[type].put_off_status = status;
    k->on[type].wait_ms = ms;
    peer_unlock(f->peer);
}

static void refuse(struct fixture *f, unsigned type, uint32_t status, const char *text)
{
    struct peer_knobs *k = peer_lock(f->peer);

    k->on[type].refuse_status = status;
    k->on[type].text = text;
    peer_unlock(f->peer);
}

static void mangle(struct fixture *f,
                   void (*how)(const struct mx_header *request, uint8_t *frame, size_t *n))
{
    peer_lock(f->peer)->mangle = how;
    peer_unlock(f->peer);
}

static void test_wait_then_ok(void **state)
{
    struct fixture *f = *state;
    struct mxc_wait_stats w;
    struct mxc_batch *b;
    int64_t t0;

    attach(f, 5000, 1);
    put_off(f, MX_MSG_BATCH, MX_STATUS_WAIT, 5, 20);
    t0 = mxc_now_ns();
    OK(mxc_next(f->run, &b, &f->err));
    assert_true(ms_since(t0) >= 100);
    check_batch(f->run, b, 0, 0, 8);
    mxc_batch_free(b);
    mxc_get_wait_stats(f->run, &w);
    assert_int_equal(w.retries, 5);
    assert_int_equal(w.ready, 0);
    assert_true(w.wait_ns >= 100000000);
    put_off(f, MX_MSG_HELLO, MX_STATUS_BUSY, 3, 5);
    mxc_close(f->client);
    connect_to(f, 5000, 1);
    put_off(f, MX_MSG_ATTACH, MX_STATUS_BUSY, 3, 5);
    OK(mxc_attach(f->client, "demo", 0, 1, 0, &f->run, &f->err));
}

/* What is put off until the timeout says so; the same step is asked for by the next call. */
static void test_put_off_for_ever(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;
    char *json;
    int64_t t0;

    attach(f, 300, 2);
    put_off(f, MX_MSG_BATCH, MX_STATUS_WAIT, UINT32_MAX, 10);
    t0 = mxc_now_ns();
    FAILS(mxc_next(f->run, &b, &f->err), MXC_TIMEOUT,
          "run demo step 0: the daemon still says WAIT: not now");
    assert_true(ms_since(t0) >= 300 && ms_since(t0) < 3000);
    put_off(f, MX_MSG_BATCH, MX_STATUS_BUSY, UINT32_MAX, 10);
    FAILS(mxc_next(f->run, &b, &f->err), MXC_BUSY, "BUSY: not now");
    FAILS(mxc_batch_at(f->run, 9, &b, &f->err), MXC_BUSY, "step 9");
    put_off(f, MX_MSG_CONTROL, MX_STATUS_BUSY, UINT32_MAX, 10);
    FAILS(mxc_control(f->client, "{}", &json, &f->err), MXC_BUSY, "not now");
    put_off(f, MX_MSG_BATCH, MX_STATUS_OK, 0, 0);
    OK(mxc_next(f->run, &b, &f->err));
    check_batch(f->run, b, 0, 0, 8);
    mxc_batch_free(b);
}

/* Steps that the daemon doesn't plan yet are waited for without holding the current one up. */
static void test_hold_ahead(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;

    peer_lock(f->peer)->hold_from = 3;
    peer_unlock(f->peer);
    attach(f, 200, 8);
    for (uint64_t step = 0; step < 3; step++) {
        OK(mxc_next(f->run, &b, &f->err));
        check_batch(f->run, b, step, 0, 8);
        mxc_batch_free(b);
    }
    FAILS(mxc_next(f->run, &b, &f->err), MXC_TIMEOUT,
          "step 3: the daemon still says WAIT: too far");
    peer_lock(f->peer)->hold_from = UINT64_MAX;
    peer_unlock(f->peer);
    for (uint64_t step = 3; step < 12; step++) {
        OK(mxc_next(f->run, &b, &f->err));
        check_batch(f->run, b, step, 0, 8);
        mxc_batch_free(b);
    }
}

static void test_statuses(void **state)
{
    static const struct {
        uint32_t status;
        int code;
    } t[] = {
        {MX_STATUS_END, MXC_END},
        {MX_STATUS_EXHAUSTED, MXC_EXHAUSTED},
        {MX_STATUS_GONE, MXC_GONE},
        {MX_STATUS_DENIED, MXC_DENIED},
        {MX_STATUS_DAMAGED, MXC_DAMAGED},
        {MX_STATUS_BAD_REQUEST, MXC_INVALID},
        {99, MXC_PROTOCOL},
    };
    struct fixture *f = *state;
    struct mxc_batch *b;
    char *json;

    attach(f, 5000, 3);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        bool known = t[i].status != 99;

        refuse(f, MX_MSG_BATCH, t[i].status, "slot 3 of shard x:\tno\n");
        FAILS(mxc_next(f->run, &b, &f->err), t[i].code,
              known ? "slot 3 of shard x:?no?" : "status 99");
        FAILS(mxc_batch_at(f->run, 4, &b, &f->err), t[i].code, known ? "slot 3" : "status 99");
        refuse(f, MX_MSG_CONTROL, t[i].status, "");
        FAILS(mxc_control(f->client, "{}", &json, &f->err), t[i].code,
              known ? mx_status_name(t[i].status) : "99");
        refuse(f, MX_MSG_STATS, t[i].status, "no such run");
        FAILS(mxc_stats(f->client, "x", &json, &f->err), t[i].code, known ? "no such run" : "99");
        refuse(f, MX_MSG_ATTACH, t[i].status, "no such run");
        FAILS(mxc_attach(f->client, "x", 0, 1, 0, &f->run, &f->err), t[i].code,
              known ? "no such run" : "99");
    }
    /* All of it passes. */
    refuse(f, MX_MSG_BATCH, MX_STATUS_OK, NULL);
    OK(mxc_next(f->run, &b, &f->err));
    check_batch(f->run, b, 0, 0, 8);
    mxc_batch_free(b);
    refuse(f, MX_MSG_HELLO, MX_STATUS_DENIED, "not you");
    mxc_close(f->client);
    f->client = NULL;
    FAILS(mxc_open(peer_url(f->peer), NULL, &f->client, &f->err), MXC_DENIED, "not you");
}

/* A refusal of a step ahead counts only when that step is asked for. */
static void test_refused_ahead(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;

    attach(f, 5000, 4);
    OK(mxc_next(f->run, &b, &f->err));
    mxc_batch_free(b);
    refuse(f, MX_MSG_BATCH, MX_STATUS_GONE, "away");
    mxc_seek(f->run, 10);
    (void)mxc_next(f->run, &b, NULL);
    refuse(f, MX_MSG_BATCH, MX_STATUS_OK, NULL);
    for (uint64_t step = 10; step < 20; step++) {
        OK(mxc_next(f->run, &b, &f->err));
        check_batch(f->run, b, step, 0, 8);
        mxc_batch_free(b);
    }
}

/* ---- lies ---- */

static const struct mx_header *only_batches(const struct mx_header *h)
{
    return h->type == MX_MSG_BATCH ? h : NULL;
}

#define LIE(name, change)                                                  \
    static void name(const struct mx_header *h, uint8_t *frame, size_t *n) \
    {                                                                      \
        (void)n;                                                           \
        (void)frame;                                                       \
        if (only_batches(h) != NULL) {                                     \
            change                                                         \
        }                                                                  \
    }
LIE(lie_magic, frame[0] ^= 1;)
LIE(lie_version, frame[4] = 3;)
LIE(lie_type, frame[6] = MX_MSG_STATS;)
LIE(lie_request, frame[7] = 0;)
LIE(lie_length, frame[8]++;)
LIE(lie_id, frame[16]++;)
LIE(lie_truncated, *n -= 3;)
LIE(lie_header, *n = 20;)
LIE(lie_empty, *n = 1;)
LIE(lie_step, frame[MX_HEADER_BYTES]++;)
LIE(lie_run, frame[MX_HEADER_BYTES + 16]++;)
LIE(lie_slot, frame[MX_HEADER_BYTES + 20]++;)
LIE(lie_count, frame[MX_HEADER_BYTES + 24]++;)
LIE(lie_token, frame[MX_HEADER_BYTES + 28]++;)
LIE(lie_tokens, frame[MX_HEADER_BYTES + 32]++;)
LIE(lie_width, frame[MX_HEADER_BYTES + 36] = 4;)
LIE(lie_width_odd, frame[MX_HEADER_BYTES + 36] = 3;)
LIE(lie_bounds, frame[MX_HEADER_BYTES + 40]++;)
LIE(lie_tokens_at, frame[MX_HEADER_BYTES + 44] += 8;)
LIE(lie_batch_size, frame[MX_HEADER_BYTES + 48]++;)
LIE(lie_seq_len, frame[MX_HEADER_BYTES + 52]++;)
LIE(lie_huge, memset(frame + MX_HEADER_BYTES + 24, 0xff, 16);)
LIE(lie_noise, memset(frame + MX_HEADER_BYTES, 0xa5, *n - MX_HEADER_BYTES);)
LIE(lie_short_body, *n = MX_HEADER_BYTES + 8; mx_store_u32(frame + 8, 8);)
LIE(lie_trouble, mx_store_u32(frame + 12, MX_STATUS_WAIT);)

static void test_lies(void **state)
{
    static const struct {
        void (*how)(const struct mx_header *request, uint8_t *frame, size_t *n);
        const char *what;
    } t[] = {
        {lie_magic, "magic"},
        {lie_version, "protocol version 3"},
        {lie_type, "isn't the reply"},
        {lie_request, "isn't the reply"},
        {lie_length, "bytes of body"},
        {lie_id, "isn't the reply to BATCH"},
        {lie_truncated, "bytes of body"},
        {lie_header, "no header"},
        {lie_empty, "no header"},
        {lie_step, "asked was"},
        {lie_run, "asked was"},
        {lie_slot, ""},
        {lie_count, "BATCH reply"},
        {lie_token, "BATCH reply"},
        {lie_tokens, "BATCH reply"},
        {lie_width, "BATCH reply"},
        {lie_width_odd, "out of range"},
        {lie_bounds, "BATCH reply"},
        {lie_tokens_at, "tokens at"},
        {lie_batch_size, "by the run's parts"},
        {lie_seq_len, "by the run's parts"},
        {lie_huge, "out of range"},
        {lie_noise, "BATCH reply"},
        {lie_short_body, "cut short"},
        {lie_trouble, "reply"},
    };
    struct fixture *f = *state;
    struct mxc_batch *b;

    attach(f, 5000, 2);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        mangle(f, t[i].how);
        FAILS(mxc_next(f->run, &b, &f->err), MXC_PROTOCOL, t[i].what);
    }
    mangle(f, NULL);
    OK(mxc_next(f->run, &b, &f->err));
    check_batch(f->run, b, 0, 0, 8);
    mxc_batch_free(b);
    peer_lock(f->peer)->swap_domain = 3;
    peer_unlock(f->peer);
    FAILS(mxc_batch_at(f->run, 5, &b, &f->err), MXC_PROTOCOL, "domain 3, which the run hasn't");
}

static void other_mix(const struct mx_header *h, uint8_t *frame, size_t *n)
{
    (void)n;
    if (h->type == MX_MSG_BATCH && frame[MX_HEADER_BYTES + 20] >= 4) {
        frame[MX_HEADER_BYTES + 8]++;
    }
}

static void other_sample(const struct mx_header *h, uint8_t *frame, size_t *n)
{
    (void)n;
    if (h->type == MX_MSG_BATCH && frame[MX_HEADER_BYTES + 28] > 0) {
        frame[MX_BATCH_FIXED_BYTES]++;
    }
}

/* Parts that don't belong together. */
static void test_mixed_parts(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;

    peer_lock(f->peer)->slots_per_reply = 2;
    peer_unlock(f->peer);
    attach(f, 5000, 1);
    mangle(f, other_mix);
    FAILS(mxc_next(f->run, &b, &f->err), MXC_PROTOCOL, "under mix");
    peer_lock(f->peer)->tokens_max = 10;
    peer_unlock(f->peer);
    mangle(f, other_sample);
    FAILS(mxc_next(f->run, &b, &f->err), MXC_PROTOCOL, "its first part wasn't");
}

static void bad_attach(const struct mx_header *h, uint8_t *frame, size_t *n)
{
    (void)n;
    if (h->type == MX_MSG_ATTACH) {
        mx_store_u32(frame + MX_HEADER_BYTES + 76 + 8, 0); /* the first part's batch size */
    }
}

static void short_names(const struct mx_header *h, uint8_t *frame, size_t *n)
{
    if (h->type == MX_MSG_ATTACH) {
        *n -= 1;
        mx_store_u32(frame + 8, (uint32_t)(*n - MX_HEADER_BYTES));
    }
}

static void no_names(const struct mx_header *h, uint8_t *frame, size_t *n)
{
    if (h->type == MX_MSG_ATTACH) {
        *n = MX_HEADER_BYTES + 76 + MX_PART_BYTES;
        mx_store_u32(frame + 8, 76 + MX_PART_BYTES);
    }
}

static void no_json(const struct mx_header *h, uint8_t *frame, size_t *n)
{
    if (h->type == MX_MSG_CONTROL) {
        frame[*n - 1] = 0;
    }
}

static void hello_3(const struct mx_header *h, uint8_t *frame, size_t *n)
{
    (void)n;
    if (h->type == MX_MSG_HELLO) {
        frame[MX_HEADER_BYTES] = 3;
    }
}

static void test_lies_elsewhere(void **state)
{
    struct fixture *f = *state;
    char *json;

    connect_to(f, 5000, 1);
    mangle(f, bad_attach);
    FAILS(mxc_attach(f->client, "demo", 0, 1, 0, &f->run, &f->err), MXC_PROTOCOL, "out of range");
    mangle(f, short_names);
    FAILS(mxc_attach(f->client, "demo", 0, 1, 0, &f->run, &f->err), MXC_PROTOCOL, "name 2");
    mangle(f, no_names);
    FAILS(mxc_attach(f->client, "demo", 0, 1, 0, &f->run, &f->err), MXC_PROTOCOL, "0 names");
    mangle(f, no_json);
    FAILS(mxc_control(f->client, "{}", &json, &f->err), MXC_PROTOCOL, "zero byte");
    FAILS(mxc_control(f->client, NULL, &json, &f->err), MXC_INVALID, "JSON");
    mangle(f, hello_3);
    mxc_close(f->client);
    f->client = NULL;
    FAILS(mxc_open(peer_url(f->peer), NULL, &f->client, &f->err), MXC_PROTOCOL, "version 3");
}

/* ---- silence and death ---- */

static void test_silence(void **state)
{
    struct fixture *f = *state;
    struct mxc_batch *b;
    char *json;
    int64_t t0;

    attach(f, 200, 64);
    peer_lock(f->peer)->mute = 1;
    peer_unlock(f->peer);
    t0 = mxc_now_ns();
    FAILS(mxc_next(f->run, &b, &f->err), MXC_TIMEOUT, "no answer within 200 ms");
    assert_true(ms_since(t0) >= 200 && ms_since(t0) < 3000);
    FAILS(mxc_batch_at(f->run, 1, &b, &f->err), MXC_TIMEOUT, "step 1");
    FAILS(mxc_stats(f->client, NULL, &json, &f->err), MXC_TIMEOUT, "no answer");
    FAILS(mxc_control(f->client, "{}", &json, &f->err), MXC_TIMEOUT, "no answer");
    t0 = mxc_now_ns();
    mxc_close(f->client);
    assert_true(ms_since(t0) < 2000);
    f->client = NULL;
    t0 = mxc_now_ns();
    FAILS(
        mxc_open(peer_url(f->peer), &(struct mxc_options){.timeout_ms = 200}, &f->client, &f->err),
        MXC_UNREACHABLE, "no daemon says hello");
    assert_true(ms_since(t0) < 3000);
    /* Closing with a full pipeline, over and over. */
    peer_lock(f->peer)->mute = 0;
    peer_unlock(f->peer);
    for (int i = 0; i < 30; i++) {
        attach(f, 1000, 32);
        (void)mxc_next(f->run, &b, NULL);
        mxc_batch_free(b);
        t0 = mxc_now_ns();
        mxc_close(f->client);
        f->client = NULL;
        assert_true(ms_since(t0) < 2000);
    }
}

static void test_unreachable(void **state)
{
    struct fixture *f = *state;
    struct mxc_options o = {.timeout_ms = 150};
    struct mxc_client *c;
    int64_t t0 = mxc_now_ns();

    FAILS(mxc_open("ipc:///tmp/mixclient-test-nobody", &o, &c, &f->err), MXC_UNREACHABLE,
          "no daemon answers at ipc");
    assert_true(ms_since(t0) >= 150 && ms_since(t0) < 3000);
    FAILS(mxc_open("tcp://127.0.0.1:1", &o, &c, &f->err), MXC_UNREACHABLE, "no daemon answers");
    FAILS(mxc_open("http://x", &o, &c, &f->err), MXC_INVALID, "tcp://HOST:PORT");
    FAILS(mxc_open(NULL, &o, &c, &f->err), MXC_INVALID, "tcp://HOST:PORT");
    FAILS(mxc_open("tcp://", &o, &c, &f->err), MXC_INVALID, "");
    o.inflight = 65;
    FAILS(mxc_open("tcp://127.0.0.1:1", &o, &c, &f->err), MXC_INVALID, "in flight");
    o = (struct mxc_options){.name = ""};
    FAILS(mxc_open("tcp://127.0.0.1:1", &o, &c, &f->err), MXC_INVALID, "name");
    assert_int_equal(
        mxc_open("tcp://127.0.0.1:1", &(struct mxc_options){.timeout_ms = 50}, &c, NULL),
        MXC_UNREACHABLE);
    assert_string_equal(mxc_code_name(MXC_GONE), "GONE");
    assert_string_equal(mxc_code_name(-99), "UNKNOWN");
}

/* A reply that never comes while the connection stays: asked again after the patience. */
static void test_lost_reply(void **state)
{
    struct fixture *f = *state;
    struct mxc_wait_stats w;
    struct mxc_batch *b;
    struct peer_knobs *k;
    int64_t t0;

    attach(f, 20000, 1);
    k = peer_lock(f->peer);
    k->on[MX_MSG_BATCH].lose = 1;
    peer_unlock(f->peer);
    t0 = mxc_now_ns();
    OK(mxc_next(f->run, &b, &f->err));
    assert_true(ms_since(t0) >= 1900 && ms_since(t0) < 8000);
    check_batch(f->run, b, 0, 0, 8);
    mxc_batch_free(b);
    mxc_get_wait_stats(f->run, &w);
    assert_int_equal(w.retries, 1);
}

struct helper {
    struct fixture *f;
    unsigned after_ms, away_ms;
    uint64_t store;
};

static void *die_and_revive(void *arg)
{
    struct helper *h = arg;
    struct peer_knobs *k;

    (void)usleep(h->after_ms * 1000);
    peer_die(h->f->peer);
    (void)usleep(h->away_ms * 1000);
    k = peer_lock(h->f->peer);
    k->mute = 0;
    k->store = h->store;
    peer_unlock(h->f->peer);
    peer_revive(h->f->peer);
    return NULL;
}

/* Dies with requests open and comes back at the same address. */
static void test_restart(void **state)
{
    struct fixture *f = *state;
    struct helper h = {f, 100, 300, 77};
    struct mxc_wait_stats w;
    struct mxc_batch *b;
    pthread_t t;
    uint64_t step = 0;

    attach(f, 20000, 4);
    for (int round = 0; round < 3; round++) {
        peer_lock(f->peer)->mute = 1;
        peer_unlock(f->peer);
        assert_int_equal(pthread_create(&t, NULL, die_and_revive, &h), 0);
        for (int i = 0; i < 20; i++, step++) {
            OK(mxc_next(f->run, &b, &f->err));
            check_batch(f->run, b, step, 0, 8);
            mxc_batch_free(b);
        }
        assert_int_equal(pthread_join(t, NULL), 0);
    }
    mxc_get_wait_stats(f->run, &w);
    assert_int_equal(w.reconnects, 3);
    assert_true(w.retries >= 3);
}

static void *kill_often(void *arg)
{
    struct helper *h = arg;

    for (int i = 0; i < 12; i++) {
        (void)usleep(h->after_ms * 1000);
        peer_die(h->f->peer);
        (void)usleep(h->away_ms * 1000);
        peer_revive(h->f->peer);
    }
    return NULL;
}

/* Killed in the middle of large replies, over and over: nng may wedge, the client goes on. */
static void test_killed_under_load(void **state)
{
    struct fixture *f = *state;
    struct helper h = {f, 150, 10, 77};
    struct peer_knobs *k = peer_lock(f->peer);
    struct mxc_wait_stats w;
    struct mxc_batch *b;
    pthread_t t;
    uint64_t step = 0;

    k->seq_len = 2048;
    k->batch_size = 512;
    k->slots_per_reply = 24;
    peer_unlock(f->peer);
    attach(f, 20000, 3);
    assert_int_equal(pthread_create(&t, NULL, kill_often, &h), 0);
    do {
        OK(mxc_next(f->run, &b, &f->err));
        assert_int_equal(b->samples[511], step * 1000 + 511);
        assert_int_equal(((const uint16_t *)b->tokens)[512 * 2048 - 1],
                         peer_token(step, 511, 2047, 2));
        mxc_batch_free(b);
        mxc_get_wait_stats(f->run, &w);
        step++;
    } while (pthread_tryjoin_np(t, NULL) != 0);
    OK(mxc_next(f->run, &b, &f->err));
    check_batch(f->run, b, step, 0, 512);
    mxc_batch_free(b);
    assert_true(w.reconnects > 0);
}

/* Away: unreachable, not the end; and an operation that may have been done isn't repeated. */
static void test_away(void **state)
{
    struct fixture *f = *state;
    struct helper h = {f, 50, 2000, 77};
    struct mxc_batch *b;
    char *json;
    pthread_t t;
    uint32_t asked;

    attach(f, 1000, 1);
    OK(mxc_next(f->run, &b, &f->err));
    mxc_batch_free(b);
    peer_lock(f->peer)->mute = 1;
    peer_unlock(f->peer);
    assert_int_equal(pthread_create(&t, NULL, die_and_revive, &h), 0);
    asked = peer_look(f->peer).requests[MX_MSG_CONTROL];
    FAILS(mxc_control(f->client, "{}", &json, &f->err), MXC_UNREACHABLE, "may or may not");
    assert_int_equal(peer_look(f->peer).requests[MX_MSG_CONTROL], asked + 1);
    FAILS(mxc_batch_at(f->run, 9, &b, &f->err), MXC_UNREACHABLE, "no daemon answers at ipc");
    assert_int_equal(pthread_join(t, NULL), 0);
    OK(mxc_batch_at(f->run, 9, &b, &f->err));
    check_batch(f->run, b, 9, 0, 8);
    mxc_batch_free(b);
    OK(mxc_control(f->client, "{}", &json, &f->err));
    free(json);
}

/* Another store at the same address: its data is never taken; the first one may come back. */
static void test_other_store(void **state)
{
    struct fixture *f = *state;
    struct helper h = {f, 0, 0, 78};
    struct mxc_batch *b = NULL;

    attach(f, 3000, 2);
    OK(mxc_next(f->run, &b, &f->err));
    mxc_batch_free(b);
    (void)die_and_revive(&h);
    /* Step 1 may have come before. */
    while (mxc_next(f->run, &b, &f->err) == 0) {
        assert_true(b->step < 4);
        mxc_batch_free(b);
    }
    FAILS(mxc_next(f->run, &b, &f->err), MXC_PROTOCOL, "another store answers");
    h.store = 77;
    (void)die_and_revive(&h);
    OK(mxc_batch_at(f->run, 1, &b, &f->err));
    check_batch(f->run, b, 1, 0, 8);
    mxc_batch_free(b);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_wait_then_ok), TEST(test_put_off_for_ever), TEST(test_hold_ahead),
        TEST(test_statuses),     TEST(test_refused_ahead),    TEST(test_lies),
        TEST(test_mixed_parts),  TEST(test_lies_elsewhere),   TEST(test_silence),
        TEST(test_unreachable),  TEST(test_lost_reply),       TEST(test_restart),
        TEST(test_away),         TEST(test_other_store),      TEST(test_killed_under_load),
    };
    peer_init();
    return cmocka_run_group_tests_name("client-trouble", tests, NULL, NULL);
}
