/* test_msg.c - the wire: every message there and back, exact bytes, and what must be refused. */
#include "tests/proto/check.h"

#include "proto/msg.h"
#include "proto/sections.h"

#include <math.h>

#define ROOM 4096

static const char long_name[MX_NAME_MAX + 1] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";

/* ---- there and back ---- */

/* Fields filled with values at their edges; `salt` makes each round different. */
static uint64_t rnd(uint64_t *salt)
{
    *salt ^= *salt << 13;
    *salt ^= *salt >> 7;
    *salt ^= *salt << 17;
    return *salt % 4 == 0 ? UINT64_MAX : *salt % 4 == 1 ? 0 : *salt;
}

static struct mx_span rnd_span(uint64_t *salt, size_t max)
{
    return (struct mx_span){(const uint8_t *)long_name, rnd(salt) % (max + 1)};
}

#define FILL_u16(salt) (uint16_t) rnd(salt)
#define FILL_u32(salt) (uint32_t) rnd(salt)
#define FILL_u64(salt) rnd(salt)
#define FILL_name(salt) rnd_span(salt, MX_NAME_MAX)
#define FILL_text(salt) rnd_span(salt, MX_NAME_MAX)
#define FILL_rest(salt) rnd_span(salt, MX_NAME_MAX)
#define FILL_always(salt) true
#define FILL(kind, field) m.field = FILL_##kind(&salt);

static bool same_span(struct mx_span a, struct mx_span b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

#define SAME_u16(a, b) ((a) == (b))
#define SAME_u32(a, b) ((a) == (b))
#define SAME_u64(a, b) ((a) == (b))
#define SAME_name(a, b) same_span(a, b)
#define SAME_text(a, b) same_span(a, b)
#define SAME_rest(a, b) same_span(a, b)
#define SAME_always(a, b) ((a) == (b))
#define SAME(kind, field)                                                  \
    if (!SAME_##kind(m.field, back.field)) {                               \
        fail_msg("seed %llu: field %s", (unsigned long long)seed, #field); \
    }

/* Whether a body ends in a field that takes whatever is left: a longer one is then no error. */
#define ENDS_u16 0
#define ENDS_u32 0
#define ENDS_u64 0
#define ENDS_name 0
#define ENDS_text 0
#define ENDS_rest 1
#define ENDS_always 0
#define ENDS(kind, field) open = ENDS_##kind;

/* What follows FIELDS is what the decoder is told besides the body. */
#define ROUND_TRIP(name, type, FIELDS, ...)                              \
    static void round_trip_##name(uint64_t seed)                         \
    {                                                                    \
        struct mx_##type m = {0}, back;                                  \
        struct mx_writer w;                                              \
        struct mx_err err;                                               \
        uint64_t salt = seed;                                            \
        uint8_t buf[ROOM];                                               \
        bool open;                                                       \
        size_t n;                                                        \
                                                                         \
        FIELDS(FILL)                                                     \
        FIELDS(ENDS)                                                     \
        mx_writer_init(&w, buf, sizeof buf - 1);                         \
        mx_##type##_encode(&w, &m);                                      \
        assert_false(w.failed);                                          \
        n = mx_writer_len(&w);                                           \
        for (size_t cut = 0; cut <= n + 1; cut++) {                      \
            char *p;                                                     \
            int rc;                                                      \
                                                                         \
            buf[n] = 0x5a;                                               \
            p = guarded(buf, cut);                                       \
            rc = mx_##type##_decode(p, cut, ##__VA_ARGS__, &back, &err); \
            if (cut == n) {                                              \
                assert_int_equal(rc, 0);                                 \
                FIELDS(SAME)                                             \
            } else if (!open) {                                          \
                assert_int_equal(rc, MX_EPROTOCOL);                      \
                assert_true(err.text[0] != '\0');                        \
            }                                                            \
            unguard(p, cut);                                             \
        }                                                                \
        /* A writer without room says so and stays inside. */            \
        for (size_t room = 0; room < n; room++) {                        \
            mx_writer_init(&w, buf, room);                               \
            mx_##type##_encode(&w, &m);                                  \
            assert_true(w.failed &&mx_writer_len(&w) <= room);           \
        }                                                                \
    }
#define ROUND_TRIPS(id, NAME, name)                                 \
    ROUND_TRIP(name##_request, name##_request, MX_##NAME##_REQUEST) \
    ROUND_TRIP(name##_reply, name##_reply, MX_##NAME##_REPLY)
MX_MESSAGES(ROUND_TRIPS)
#define SKIPPED_FIELDS(F) MX_TROUBLE(F) F(u64, next) F(always, has_next)
ROUND_TRIP(trouble, trouble, MX_TROUBLE, MX_STATUS_BUSY)
ROUND_TRIP(skipped, trouble, SKIPPED_FIELDS, MX_STATUS_SKIPPED)

static void test_round_trips(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 25; seed++) {
#define RUN(id, NAME, name)            \
    round_trip_##name##_request(seed); \
    round_trip_##name##_reply(seed);
        MX_MESSAGES(RUN)
        round_trip_trouble(seed);
        round_trip_skipped(seed);
    }
}

/* ---- exact bytes ---- */

static void test_golden_batch(void **state)
{
    static const uint8_t want[] = {
        0x4d, 0x58, 0x44, 0x31, 2, 0, 3, 0, 40, 0, 0, 0, 0,  0, 0, 0, /* MXD1 v2 BATCH 40 OK */
        0x08, 7,    6,    5,    4, 3, 2, 1,                           /* id */
        9,    0,    0,    0,    0, 0, 0, 0, 8,  0, 0, 0, 0,  0, 0, 0, /* step, oldest */
        5,    0,    0,    0,    1, 0, 0, 0, 4,  0, 0, 0, 16, 0, 0, 0, /* run rank world slot */
        0,    1,    0,    0,    0, 0, 0, 0,                           /* count, token */
    };
    struct mx_batch_request m = {.step = 9,
                                 .oldest = 8,
                                 .run = 5,
                                 .rank = 1,
                                 .world = 4,
                                 .slot_first = 16,
                                 .slot_count = 256};
    struct mx_header h;
    struct mx_writer w;
    struct mx_err err;
    uint8_t buf[128];

    (void)state;
    mx_writer_init(&w, buf, sizeof buf);
    mx_frame_begin(&w, MX_MSG_BATCH, MX_STATUS_OK, 0x0102030405060708u);
    mx_batch_request_encode(&w, &m);
    assert_int_equal(mx_frame_end(&w), sizeof want);
    assert_memory_equal(buf, want, sizeof want);
    assert_int_equal(mx_header_decode(want, sizeof want, &h, &err), 0);
    assert_int_equal(h.type, MX_MSG_BATCH);
    assert_int_equal(h.id, 0x0102030405060708u);
    assert_int_equal(h.length, 40);
}

static void test_golden_hello(void **state)
{
    static const uint8_t want[] = {
        0x4d, 0x58, 0x44, 0x31, 2, 0, 1, 0x80, 20, 0, 0,   0,   0,   0,   0,
        0,    1,    0,    0,    0, 0, 0, 0,    0,  1, 0,   0,   0,   4,   0,
        0xef, 0xbe, 0xad, 0xde, 0, 0, 0, 0,    4,  0, 'm', 'i', 'x', 'd',
    };
    struct mx_hello_reply m = {.version = 1,
                               .reply_max = MX_REPLY_MAX,
                               .store = 0xdeadbeef,
                               .server = {(const uint8_t *)"mixd", 4}};
    struct mx_writer w;
    uint8_t buf[128];

    (void)state;
    mx_writer_init(&w, buf, sizeof buf);
    mx_frame_begin(&w, MX_MSG_HELLO | MX_REPLY_BIT, MX_STATUS_OK, 1);
    mx_hello_reply_encode(&w, &m);
    assert_int_equal(mx_frame_end(&w), sizeof want);
    assert_memory_equal(buf, want, sizeof want);
}

static void test_golden_feedback(void **state)
{
    static const uint8_t want[] = {
        1, 0, 0, 0, 24, 0, 0, 0, /* TRAIN, 24 bytes */
        2, 0, 0, 0, 16, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, /* 1.5 */
    };
    struct mx_train_entry e = {.domain = 2, .samples = 16, .tokens = 32768, .loss_sum = 1.5};
    struct mx_writer w;
    uint8_t buf[128];

    (void)state;
    mx_writer_init(&w, buf, sizeof buf);
    mx_train_encode(&w, &e, 1);
    assert_int_equal(mx_writer_len(&w), sizeof want);
    assert_memory_equal(buf, want, sizeof want);
}

/* ---- headers ---- */

static void test_header(void **state)
{
    struct mx_header h;
    struct mx_writer w;
    struct mx_err err;
    uint8_t buf[64];
    char *p;

    (void)state;
    mx_writer_init(&w, buf, sizeof buf);
    mx_frame_begin(&w, 77, 3, 42);
    assert_int_equal(mx_frame_end(&w), MX_HEADER_BYTES);
    for (size_t n = 0; n <= MX_HEADER_BYTES; n++) {
        p = guarded(buf, n);
        assert_int_equal(mx_header_decode(p, n, &h, &err), n == MX_HEADER_BYTES ? 0 : MX_EPROTOCOL);
        unguard(p, n);
    }
    assert_int_equal(h.type, 77); /* an unknown type is the dispatcher's business */
    assert_int_equal(h.status, 3);
    assert_int_equal(mx_header_decode(buf, MX_HEADER_BYTES + 1, &h, &err), MX_EPROTOCOL);
    assert_non_null(strstr(err.text, "0 bytes of body, 1 came"));
    mx_store_u32(buf + 8, UINT32_MAX);
    assert_int_equal(mx_header_decode(buf, MX_HEADER_BYTES, &h, &err), MX_EPROTOCOL);
    mx_store_u32(buf + 8, 0);
    buf[0] = 'm';
    assert_int_equal(mx_header_decode(buf, MX_HEADER_BYTES, &h, &err), MX_EPROTOCOL);
    assert_non_null(strstr(err.text, "magic"));
    buf[0] = 'M';
    buf[4] = 9;
    assert_int_equal(mx_header_decode(buf, MX_HEADER_BYTES, &h, &err), MX_EVERSION);
    assert_int_equal(h.id, 42); /* known even then, so that a reply can be addressed */
    mx_writer_init(&w, buf, MX_HEADER_BYTES - 1);
    mx_frame_begin(&w, 1, 0, 1);
    assert_int_equal(mx_frame_end(&w), 0);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(mx_message_name(MX_MSG_BATCH), "BATCH");
    assert_string_equal(mx_message_name(MX_MSG_STATS | MX_REPLY_BIT), "STATS");
    assert_string_equal(mx_message_name(99), "UNKNOWN");
    assert_string_equal(mx_status_name(MX_STATUS_EXHAUSTED), "EXHAUSTED");
    assert_string_equal(mx_status_name(MX_STATUS_COUNT - 1), "SKIPPED");
    assert_string_equal(mx_status_name(MX_STATUS_COUNT), "UNKNOWN");
}

/* A SKIPPED reply has one field more, and only that one has it. */
static void test_trouble(void **state)
{
    static const uint8_t want[] = {0, 0, 0, 0, 2, 0, 'n', 'o', 8, 7, 6, 5, 4, 3, 2, 1};
    struct mx_trouble t = {
        .text = {(const uint8_t *)"no", 2}, .next = 0x0102030405060708u, .has_next = true};
    struct mx_writer w;
    struct mx_err err;
    uint8_t buf[64];
    size_t n;

    (void)state;
    mx_writer_init(&w, buf, sizeof buf);
    mx_trouble_encode(&w, &t);
    n = mx_writer_len(&w);
    assert_int_equal(n, sizeof want);
    assert_memory_equal(buf, want, n);
    t = (struct mx_trouble){0};
    assert_int_equal(mx_trouble_decode(buf, n, MX_STATUS_SKIPPED, &t, &err), 0);
    assert_true(t.has_next);
    assert_int_equal(t.next, 0x0102030405060708u);
    assert_int_equal(t.text.n, 2);
    assert_int_equal(mx_trouble_decode(buf, n, MX_STATUS_END, &t, &err), MX_EPROTOCOL);
    assert_non_null(strstr(err.text, "8 bytes too many"));
    for (size_t cut = 0; cut < n; cut++) {
        assert_int_equal(mx_trouble_decode(buf, cut, MX_STATUS_SKIPPED, &t, &err), MX_EPROTOCOL);
    }
    assert_int_equal(mx_trouble_decode(buf, n - 8, MX_STATUS_END, &t, &err), 0);
    assert_false(t.has_next);
    assert_int_equal(t.next, 0);
    mx_writer_init(&w, buf, sizeof buf);
    mx_trouble_encode(&w, &t);
    assert_int_equal(mx_writer_len(&w), n - 8);
}

static void test_limits(void **state)
{
    uint8_t buf[2 * MX_TEXT_MAX];
    struct mx_trouble t = {.text = {buf, MX_TEXT_MAX}};
    struct mx_hello_request q = {.client = {buf, MX_NAME_MAX + 1}};
    struct mx_writer w;
    struct mx_err err;
    uint8_t out[4 * MX_TEXT_MAX];

    (void)state;
    memset(buf, 'x', sizeof buf);
    mx_writer_init(&w, out, sizeof out);
    mx_trouble_encode(&w, &t);
    assert_false(w.failed);
    assert_int_equal(mx_trouble_decode(out, mx_writer_len(&w), MX_STATUS_BUSY, &t, &err), 0);
    t.text = (struct mx_span){buf, MX_TEXT_MAX + 1};
    mx_writer_init(&w, out, sizeof out);
    mx_trouble_encode(&w, &t);
    assert_true(w.failed);
    mx_writer_init(&w, out, sizeof out);
    mx_hello_request_encode(&w, &q);
    assert_true(w.failed);
    /* A peer that doesn't keep to the limit. */
    mx_writer_init(&w, out, sizeof out);
    mx_write_u16(&w, 1);
    mx_write_u16(&w, 1);
    mx_write_str(&w, buf, MX_NAME_MAX + 1);
    assert_int_equal(mx_hello_request_decode(out, mx_writer_len(&w), &q, &err), MX_EPROTOCOL);
    assert_non_null(strstr(err.text, "HELLO request"));
}

/* ---- the batch reply's tables ---- */

/* A frame of 3 slots of 8 tokens from token 4 on, with 4 document starts. */
static size_t make_batch_of(uint8_t *buf, size_t room, bool weighted, struct mx_batch_layout *at)
{
    static const uint32_t bounds[3] = {2, 0, 2};
    static const uint32_t starts[4] = {4, 11, 5, 6};
    struct mx_batch_reply m = {.step = 1,
                               .mix_version = 2,
                               .run = 3,
                               .slot_first = 10,
                               .slot_count = 3,
                               .token_first = 4,
                               .token_count = 8,
                               .width = 2,
                               .bound_count = 4,
                               .batch_size = 13,
                               .seq_len = 12,
                               .tables = {(const uint8_t *)"", 0}};
    struct mx_writer w;
    uint8_t *p;

    mx_batch_layout(3, 4, 8, 2, weighted, at);
    m.tokens_at = (uint32_t)at->tokens;
    m.weights_at = (uint32_t)at->weights;
    m.flags = weighted ? MX_BATCH_WEIGHTS : 0;
    mx_writer_init(&w, buf, room);
    mx_frame_begin(&w, MX_MSG_BATCH | MX_REPLY_BIT, MX_STATUS_OK, 7);
    mx_batch_reply_encode(&w, &m);
    assert_int_equal(mx_writer_len(&w), MX_BATCH_FIXED_BYTES);
    p = mx_write_room(&w, at->bytes - MX_BATCH_FIXED_BYTES);
    assert_non_null(p);
    memset(p, 0, at->bytes - MX_BATCH_FIXED_BYTES);
    for (size_t i = 0; i < 3; i++) {
        mx_store_u32(buf + at->bounds + 4 * i, bounds[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        mx_store_u32(buf + at->starts + 4 * i, starts[i]);
    }
    for (size_t i = 0; i < 3 && weighted; i++) {
        mx_store_f32(buf + at->weights + 4 * i, 0.5f * (float)i);
    }
    return mx_frame_end(&w);
}

static size_t make_batch(uint8_t *buf, size_t room, struct mx_batch_layout *at)
{
    return make_batch_of(buf, room, false, at);
}

static int check(const uint8_t *buf, size_t n, struct mx_err *err)
{
    struct mx_batch_reply m;
    struct mx_batch_layout at;
    char *p = guarded(buf, n);
    int rc = n < MX_HEADER_BYTES
                 ? MX_EPROTOCOL
                 : mx_batch_reply_decode(p + MX_HEADER_BYTES, n - MX_HEADER_BYTES, &m, err);

    rc = rc < 0 ? rc : mx_batch_check(p, n, &m, &at, err);
    unguard(p, n);
    return rc;
}

static void test_batch_check(void **state)
{
    /* u32 fields of the reply, by offset, and tables by what lies in them. */
    enum {
        SLOTS = 24 + 24,
        TOKEN = 24 + 28,
        TOKENS = 24 + 32,
        WIDTH = 24 + 36,
        BOUNDS = 24 + 40,
        AT = 24 + 44,
        SEQ_LEN = 24 + 52
    };
    static const uint32_t absurd[] = {0, 1, 5, 0x7fffffff, 0x80000000, 0xffffffff};
    struct mx_batch_layout at;
    struct mx_err err;
    uint8_t buf[512], bad[512];
    size_t n;

    (void)state;
    n = make_batch(buf, sizeof buf, &at);
    assert_int_equal(n, at.bytes);
    assert_int_equal(at.tokens % 8, 0);
    assert_int_equal(check(buf, n, &err), 0);
    for (size_t cut = 0; cut < n; cut++) {
        assert_int_equal(check(buf, cut, &err), MX_EPROTOCOL);
    }
    buf[n] = 0;
    assert_int_equal(check(buf, n + 1, &err), MX_EPROTOCOL);
    for (size_t field = SLOTS; field <= SEQ_LEN; field += 4) {
        for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
            memcpy(bad, buf, n);
            mx_store_u32(bad + field, absurd[i]);
            if (field != TOKEN) {
                assert_int_equal(check(bad, n, &err), MX_EPROTOCOL);
            } else if (check(bad, n, &err) == 0) {
                assert_true(absurd[i] <= 4 && absurd[i] + 8 > 11);
            }
        }
    }
}

static void test_batch_starts(void **state)
{
    static const struct {
        size_t start;
        uint32_t value;
        bool good;
    } t[] = {
        {0, 3, false},  {0, 4, true},  {0, 10, true}, {0, 11, false},         {0, 12, false},
        {1, 12, false}, {1, 4, false}, {1, 5, true},  {1, UINT32_MAX, false}, {2, 5, true},
        {2, 6, false},  {3, 5, false}, {3, 11, true}, {3, 0, false},
    };
    struct mx_batch_layout at;
    struct mx_err err;
    uint8_t buf[512];
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        n = make_batch(buf, sizeof buf, &at);
        mx_store_u32(buf + at.starts + 4 * t[i].start, t[i].value);
        assert_int_equal(check(buf, n, &err), t[i].good ? 0 : MX_EPROTOCOL);
    }
    /* Bounds that don't add up, and that would read far past the end. */
    for (size_t slot = 0; slot < 3; slot++) {
        static const uint32_t bounds[] = {1, 3, 5, 1000000, UINT32_MAX};
        for (size_t i = 0; i < 5; i++) {
            n = make_batch(buf, sizeof buf, &at);
            mx_store_u32(buf + at.bounds + 4 * slot, bounds[i]);
            assert_int_equal(check(buf, n, &err), MX_EPROTOCOL);
        }
    }
}

static void test_batch_weights(void **state)
{
    static const struct {
        float weight;
        bool good;
    } t[] = {
        {0.0f, true}, {1.5f, true}, {MX_LOSS_WEIGHT_MAX, true}, {-0.5f, false},
        {2 * MX_LOSS_WEIGHT_MAX, false}, {INFINITY, false}, {NAN, false},
    };
    struct mx_batch_layout at;
    struct mx_err err;
    uint8_t buf[512];
    size_t n;

    (void)state;
    n = make_batch_of(buf, sizeof buf, true, &at);
    assert_int_equal(check(buf, n, &err), 0);
    assert_int_equal(at.starts, at.weights + 12);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        n = make_batch_of(buf, sizeof buf, true, &at);
        mx_store_f32(buf + at.weights + 8, t[i].weight);
        assert_int_equal(check(buf, n, &err), t[i].good ? 0 : MX_EPROTOCOL);
    }
    /* An evaluation is wanted; flags that nobody knows; weights where the header says none are. */
    n = make_batch_of(buf, sizeof buf, true, &at);
    mx_store_u32(buf + MX_BATCH_FLAGS_AT, MX_BATCH_WEIGHTS | MX_BATCH_EVAL_WANTED);
    assert_int_equal(check(buf, n, &err), 0);
    mx_store_u32(buf + MX_BATCH_FLAGS_AT, MX_BATCH_WEIGHTS | 4);
    assert_int_equal(check(buf, n, &err), MX_EPROTOCOL);
    assert_non_null(strstr(err.text, "flags 0x6"));
    mx_store_u32(buf + MX_BATCH_FLAGS_AT, 0);
    assert_int_equal(check(buf, n, &err), MX_EPROTOCOL);
    assert_non_null(strstr(err.text, "weights"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),  cmocka_unit_test(test_golden_batch),
        cmocka_unit_test(test_golden_hello), cmocka_unit_test(test_golden_feedback),
        cmocka_unit_test(test_header),       cmocka_unit_test(test_names),
        cmocka_unit_test(test_trouble),      cmocka_unit_test(test_limits),
        cmocka_unit_test(test_batch_check),  cmocka_unit_test(test_batch_starts),
        cmocka_unit_test(test_batch_weights),
    };
    return cmocka_run_group_tests_name("msg", tests, NULL, NULL);
}
