/* test_json.c - the JSON wrapper: what it accepts, what it refuses and where it says that is. */
#include "tests/proto/check.h"

#include "proto/json.h"
#include "proto/limits.h"

#include <math.h>
#include <string.h>
#include <time.h>

static struct mx_json_doc *parse_ok(const char *text)
{
    struct mx_json_doc *d = NULL;
    struct mx_err err;
    int rc = mx_json_parse("t", text, strlen(text), &d, &err);

    if (rc != 0) {
        fail_msg("refused %s: %s", text, err.text);
    }
    return d;
}

static void refused(const char *text, size_t n, const char *what)
{
    struct mx_json_doc *d = NULL;
    struct mx_err err;

    assert_int_equal(mx_json_parse("t", text, n, &d, &err), MX_EINVALID);
    if (strstr(err.text, what) == NULL) {
        fail_msg("the error should hold \"%s\", it is: %s", what, err.text);
    }
    assert_null(d);
}

static void test_values(void **state)
{
    struct mx_json_doc *d = parse_ok(" {\"a\": [1, -2.5e3, true, false, null, \"x\\u00e9\\n\"],"
                                     "\n \"A\": {}, \"pair\": \"\\ud83d\\ude00\", \"\": 0}\t\r\n");
    const mx_json *root = mx_json_root(d);
    const mx_json *a = mx_json_get(root, "a");
    const mx_json *v = mx_json_first(a);

    (void)state;
    assert_true(mx_json_is_object(root) && mx_json_count(root) == 4);
    assert_true(mx_json_is_array(a) && mx_json_count(a) == 6);
    assert_string_equal(mx_json_key(a), "a");
    assert_true(mx_json_is_number(v) && mx_json_number(v) == 1);
    assert_string_equal(mx_json_key(v), "");
    v = mx_json_next(v);
    assert_true(mx_json_number(v) == -2500);
    v = mx_json_next(v);
    assert_true(mx_json_is_bool(v) && mx_json_true(v));
    v = mx_json_next(v);
    assert_true(mx_json_is_bool(v) && !mx_json_true(v));
    v = mx_json_next(v);
    assert_true(mx_json_is_null(v));
    v = mx_json_next(v);
    assert_string_equal(mx_json_string(v), "x\xc3\xa9\n");
    assert_null(mx_json_next(v));
    /* Names differ by case. */
    assert_true(mx_json_is_object(mx_json_get(root, "A")));
    assert_null(mx_json_get(root, "PAIR"));
    assert_string_equal(mx_json_string(mx_json_get(root, "pair")), "\xf0\x9f\x98\x80");
    assert_null(mx_json_get(a, "a"));
    assert_string_equal(mx_json_string(a), "");
    assert_true(mx_json_number(a) == 0);
    mx_json_free(d);
    mx_json_free(NULL);
    mx_json_free(parse_ok("3"));
    mx_json_free(parse_ok("\"\x7f\xf4\x8f\xbf\xbf\""));
}

static void test_refusals(void **state)
{
    static const struct {
        const char *text, *what;
    } t[] = {
        {"", "t:1: column 1: expected a value, found the end"},
        {"{\"a\": 1,\n \"b\": 2,\n}", "t:3: column 1: expected a key in quotes, found '}'"},
        {"{\"a\": 1\n \"b\": 2}", "t:2: column 2: expected ',' or '}', found '\"'"},
        {"[1 2]", "expected ',' or ']'"},
        {"[1,]", "expected a value, found ']'"},
        {"{\"a\" 1}", "expected ':'"},
        {"{a: 1}", "expected a key in quotes, found 'a'"},
        {"{\"a\": 1} x", "expected nothing more after the document, found 'x'"},
        {"1 2", "nothing more"},
        {"[1", "found the end"},
        {"\n\n\"abc", "t:3: column 1: a string without an end"},
        {"\"a\nb\"", "control character"},
        {"\"a\\u0000b\"", "\\u0000 is not allowed"},
        {"{\"a\\u0000\": 1}", "\\u0000 is not allowed"},
        {"\"\\x\"", "after a backslash"},
        {"\"\\u12g4\"", "four hexadecimal"},
        {"\"\\ud800\"", "surrogate"},
        {"\"\\ud800\\u0041\"", "surrogate"},
        {"\"\\udc00\"", "surrogate"},
        {"\"\xff\"", "isn't UTF-8"},
        {"\"\xc0\xaf\"", "isn't UTF-8"},
        {"\"\xed\xa0\x80\"", "isn't UTF-8"},
        {"\"\xe2\x82\"", "isn't UTF-8"},
        {"\"\xf4\x90\x80\x80\"", "isn't UTF-8"},
        {"1e999", "too large"},
        {"-1e999", "too large"},
        {"NaN", "expected a value"},
        {"Infinity", "expected a value"},
        {"-Infinity", "expected a digit"},
        {"nul", "expected a value"},
        {"truth", "expected a value"},
        {"01", "begin with a zero"},
        {"-", "expected a digit"},
        {"+1", "expected a value"},
        {".5", "expected a value"},
        {"1.", "after the decimal point"},
        {"1e", "exponent"},
        {"1e+", "exponent"},
        {"0x10", "nothing more"},
        {"1111111111111111111111111111111111111111111111111111111111111111", "longer than 63"},
        {"{\"a\": 1,\n \"b\": {\"c\": 1,\n\"d\": 2,\n \"c\": 3}}",
         "t:4: key 'b.c': this key stands"},
        {"{\"a\": 1, \"\\u0061\": 2}", "stands twice"},
        {"\xef\xbb\xbf{}", "found byte 0xef"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        refused(t[i].text, strlen(t[i].text), t[i].what);
    }
    refused("{}\0", 3, "found byte 0x00");
    refused("\"a\0b\"", 5, "control character");
    mx_json_free(parse_ok("{\"a\": 1, \"A\": 2}"));
}

static void test_bombs(void **state)
{
    size_t n = MX_JSON_MAX;
    char *text = malloc(n + 1);
    struct mx_json_doc *d = NULL;
    struct mx_err err;
    struct timespec a, b;

    (void)state;
    assert_non_null(text);
    memset(text, '[', n + 1);
    refused(text, 100000, "t:1: column 17: nested deeper than 16 levels");
    refused(text, n + 1, "at most");
    memset(text, ']', 32);
    memset(text, '[', 16);
    assert_int_equal(mx_json_parse("t", text, 32, &d, &err), 0);
    mx_json_free(d);
    /* As many elements as fit: linear, so well within a second even under a sanitizer. */
    for (size_t i = 0; i < n; i += 2) {
        text[i] = '1';
        text[i + 1] = ',';
    }
    text[0] = '[';
    text[1] = ' ';
    text[n - 2] = '1';
    text[n - 1] = ']';
    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(mx_json_parse("t", text, n, &d, &err), 0);
    assert_int_equal(mx_json_count(mx_json_root(d)), n / 2 - 1);
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    assert_true(b.tv_sec - a.tv_sec < 5);
    mx_json_free(d);
    free(text);
}

static void test_truncated(void **state)
{
    static const char text[] = "{\"a\": [1, -2.5e3, true, null], \"b\\u00e9\": \"\\ud83d\\ude00\"}";

    (void)state;
    /* Every prefix ends at a page that must not be touched. */
    for (size_t n = 0; n < sizeof text - 1; n++) {
        char *p = guarded(text, n);
        struct mx_json_doc *d = NULL;
        struct mx_err err;

        assert_int_equal(mx_json_parse("t", p, n, &d, &err), MX_EINVALID);
        unguard(p, n);
    }
}

static void test_places(void **state)
{
    struct mx_json_doc *d = parse_ok("{\n\"a\": {\"x\": [1,\n {\"y\":\n 2}]},\n\n \"b\":\n true}");
    const mx_json *root = mx_json_root(d);
    const mx_json *x = mx_json_get(mx_json_get(root, "a"), "x");
    const mx_json *second = mx_json_next(mx_json_first(x));
    struct mx_json_doc *other = parse_ok("1");
    struct mx_err err;

    (void)state;
    assert_int_equal(mx_json_fail(d, root, &err, "no %d", 1), MX_EINVALID);
    assert_string_equal(err.text, "t:1: no 1");
    (void)mx_json_fail(d, mx_json_get(mx_json_get(root, "a"), "x"), &err, "no");
    assert_string_equal(err.text, "t:2: key 'a.x': no");
    (void)mx_json_fail(d, second, &err, "no");
    assert_string_equal(err.text, "t:3: key 'a.x[1]': no");
    (void)mx_json_fail(d, mx_json_get(second, "y"), &err, "no");
    assert_string_equal(err.text, "t:3: key 'a.x[1].y': no");
    (void)mx_json_fail(d, mx_json_get(root, "b"), &err, "no");
    assert_string_equal(err.text, "t:6: key 'b': no");
    (void)mx_json_fail(d, NULL, &err, "no");
    assert_string_equal(err.text, "t: no");
    (void)mx_json_fail(d, mx_json_root(other), &err, "no");
    assert_string_equal(err.text, "t: no");
    mx_json_free(other);
    mx_json_free(d);
}

static void test_known_keys(void **state)
{
    static const char *const keys[] = {"alpha", "beta", NULL};
    struct mx_json_doc *d = parse_ok("{\"alpha\": 1,\n\"Beta\": 2}");
    struct mx_json_doc *good = parse_ok("{\"beta\": 1}");
    struct mx_err err;

    (void)state;
    assert_int_equal(mx_json_known_keys(d, mx_json_root(d), keys, &err), MX_EINVALID);
    assert_string_equal(err.text, "t:2: key 'Beta': unknown; known here: alpha, beta");
    assert_int_equal(mx_json_known_keys(good, mx_json_root(good), keys, &err), 0);
    mx_json_free(d);
    mx_json_free(good);
}

static void check_u64(const char *value, uint64_t min, uint64_t max, int rc, uint64_t want,
                      const char *what)
{
    char text[128];
    struct mx_json_doc *d;
    struct mx_err err = {0};
    uint64_t v = 77;

    (void)snprintf(text, sizeof text, "{\"k\": %s}", value);
    d = parse_ok(text);
    assert_int_equal(mx_json_take_u64(d, mx_json_root(d), "k", true, min, max, &v, &err), rc);
    assert_int_equal(v, rc == 0 ? want : 77);
    if (rc < 0 && strstr(err.text, what) == NULL) {
        fail_msg("the error should hold \"%s\", it is: %s", what, err.text);
    }
    mx_json_free(d);
}

static void test_take(void **state)
{
    struct mx_json_doc *d = parse_ok("{\"n\": 1.5,\n\"s\": \"x\", \"b\": true}");
    const mx_json *o = mx_json_root(d);
    struct mx_err err;
    const char *s = "before";
    double x = 9;
    bool b = false;
    uint64_t u = 5;

    (void)state;
    check_u64("0", 0, UINT64_MAX, 0, 0, "");
    check_u64("9007199254740992", 0, UINT64_MAX, 0, (uint64_t)1 << 53, "");
    check_u64("9007199254740991", 0, UINT64_MAX, 0, ((uint64_t)1 << 53) - 1, "");
    check_u64("9007199254740993", 0, UINT64_MAX, MX_EINVALID, 0, "from 0 to 9007199254740992");
    check_u64("1e300", 0, UINT64_MAX, MX_EINVALID, 0, "1e+300");
    check_u64("1.5", 0, 9, MX_EINVALID, 0,
              "t:1: key 'k': must be a whole number from 0 to 9, "
              "but it is 1.5");
    check_u64("-1", 0, 9, MX_EINVALID, 0, "-1");
    check_u64("10", 0, 9, MX_EINVALID, 0, "10");
    check_u64("1", 2, 9, MX_EINVALID, 0, "from 2");
    check_u64("\"3\"", 0, 9, MX_EINVALID, 0, "the string \"3\"");
    check_u64("[3]", 0, 9, MX_EINVALID, 0, "an array");
    check_u64("null", 0, 9, MX_EINVALID, 0, "null");

    assert_int_equal(mx_json_take_double(d, o, "n", true, 0, 2, &x, &err), 0);
    assert_true(x == 1.5);
    assert_int_equal(mx_json_take_double(d, o, "n", true, 0, 1, &x, &err), MX_EINVALID);
    assert_string_equal(err.text, "t:1: key 'n': must be a number from 0 to 1, but it is 1.5");
    assert_int_equal(mx_json_take_double(d, o, "s", true, 0, 1, &x, &err), MX_EINVALID);
    assert_int_equal(mx_json_take_double(d, o, "none", false, 0, 1, &x, &err), 0);
    assert_true(x == 1.5);
    assert_int_equal(mx_json_take_string(d, o, "s", true, &s, &err), 0);
    assert_string_equal(s, "x");
    assert_int_equal(mx_json_take_string(d, o, "b", true, &s, &err), MX_EINVALID);
    assert_string_equal(err.text, "t:2: key 'b': must be a string, but it is true");
    assert_int_equal(mx_json_take_bool(d, o, "b", true, &b, &err), 0);
    assert_true(b);
    assert_int_equal(mx_json_take_bool(d, o, "n", true, &b, &err), MX_EINVALID);
    assert_int_equal(mx_json_take_u64(d, o, "N", true, 0, 9, &u, &err), MX_EINVALID);
    assert_string_equal(err.text, "t:1: 'N' is missing");
    assert_int_equal(mx_json_take_u64(d, o, "N", false, 0, 9, &u, &err), 0);
    assert_int_equal(u, 5);
    mx_json_free(d);
}

static void test_write(void **state)
{
    struct mx_jsonw w;
    char *text;
    size_t n;

    (void)state;
    mx_jsonw_init(&w, 4096);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_u64(&w, "u", UINT64_MAX);
    mx_jsonw_i64(&w, "i", INT64_MIN);
    mx_jsonw_array(&w, "a");
    mx_jsonw_double(&w, NULL, 0.1);
    mx_jsonw_double(&w, NULL, (double)INFINITY);
    mx_jsonw_double(&w, NULL, 1.0 / 3.0);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_end_object(&w);
    mx_jsonw_array(&w, NULL);
    mx_jsonw_end_array(&w);
    mx_jsonw_end_array(&w);
    mx_jsonw_bool(&w, "b", true);
    mx_jsonw_null(&w, "n");
    mx_jsonw_raw(&w, "r", "{\"x\":1}");
    mx_jsonw_string(&w, "s\"", "a\"\\\n\t\x01\x7f\xc3\xa9\xff.");
    mx_jsonw_end_object(&w);
    text = mx_jsonw_take(&w, &n);
    assert_non_null(text);
    assert_string_equal(text, "{\"u\":18446744073709551615,\"i\":-9223372036854775808,\"a\":[0.1,"
                              "null,0.3333333333333333,{},[]],\"b\":true,\"n\":null,"
                              "\"r\":{\"x\":1},\"s\\\"\":\"a\\\"\\\\\\n\\t\\u0001\\u007f\xc3\xa9"
                              "\xef\xbf\xbd.\"}");
    assert_int_equal(n, strlen(text));
    mx_json_free(parse_ok(text));
    free(text);
}

static void test_write_ceiling(void **state)
{
    struct mx_jsonw w;

    (void)state;
    mx_jsonw_init(&w, 100);
    mx_jsonw_array(&w, NULL);
    for (int i = 0; i < 1000; i++) {
        mx_jsonw_string(&w, NULL, "0123456789");
    }
    mx_jsonw_end_array(&w);
    assert_true(w.n <= 100 && w.failed);
    assert_null(mx_jsonw_take(&w, NULL));
    /* Not closed, or nothing written. */
    mx_jsonw_init(&w, 100);
    assert_null(mx_jsonw_take(&w, NULL));
    mx_jsonw_array(&w, NULL);
    assert_null(mx_jsonw_take(&w, NULL));
    mx_jsonw_raw(&w, NULL, "");
    assert_null(mx_jsonw_take(&w, NULL));
    mx_jsonw_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bombs),         cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_places),        cmocka_unit_test(test_known_keys),
        cmocka_unit_test(test_take),          cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_ceiling),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
