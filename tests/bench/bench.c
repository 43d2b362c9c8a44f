/* bench.c - the benchmark: mixd beside the raw limits, in one run on one machine, as ratios.
 *
 * usage: bench BUILD-DIR OUTPUT.json [SECONDS]
 * Builds a store of random u16 tokens in a temporary folder, starts a real daemon on it and a bare
 * nng REP server beside it, and measures both with the same client code in turns. Prints a table
 * and writes a list of {name, value, unit, limit, ratio}. Judges nothing: the reader does. */
#include "load.h"

#include "client/mixclient.h"
#include "proto/json.h"
#include "proto/msg.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DOMAINS 6
#define DOMAIN_TOKENS (24u << 20) /* 48 MiB each */
#define BATCH 32u
#define SEQ_LEN 2048u
#define ROUNDS 3

struct bench {
    const char *build;
    char dir[64];
    char url[256], http[256];
    int daemon, bare_pid;
    double seconds;
    struct mx_jsonw out;
    uint32_t run;       /* the run that requests name */
    uint64_t steps[4];  /* by run: first step of the next measurement */
    uint32_t reply_bytes;
};

static double now_s(void)
{
    struct timespec t;

    MX_REQUIRE(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* limit: what was measured or demanded beside it; NAN-free: 0 means none. */
static void report(struct bench *b, const char *name, double value, const char *unit, double limit,
                   double ratio)
{
    if (limit > 0) {
        (void)printf("%-52s %12.1f %-9s beside %12.1f  ratio %.3f\n", name, value, unit, limit,
                     ratio);
    } else {
        (void)printf("%-52s %12.1f %-9s\n", name, value, unit);
    }
    (void)fflush(stdout);
    mx_jsonw_object(&b->out, NULL);
    mx_jsonw_string(&b->out, "name", name);
    mx_jsonw_double(&b->out, "value", value);
    mx_jsonw_string(&b->out, "unit", unit);
    if (limit > 0) {
        mx_jsonw_double(&b->out, "limit", limit);
        mx_jsonw_double(&b->out, "ratio", ratio);
    } else {
        mx_jsonw_null(&b->out, "limit");
        mx_jsonw_null(&b->out, "ratio");
    }
    mx_jsonw_end_object(&b->out);
}

static double median(double *v, int n)
{
    for (int i = 1; i < n; i++) {
        for (int j = i; j > 0 && v[j - 1] > v[j]; j--) {
            double t = v[j];
            v[j] = v[j - 1];
            v[j - 1] = t;
        }
    }
    return v[n / 2];
}

/* ---- the store and the daemon ---- */

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void shell(const char *fmt, ...)
{
    char command[2048];
    va_list ap;

    va_start(ap, fmt);
    MX_REQUIRE(vsnprintf(command, sizeof command, fmt, ap) < (int)sizeof command);
    va_end(ap);
    if (system(command) != 0) {
        (void)fprintf(stderr, "bench: failed: %s\n", command);
        exit(1);
    }
}

static void make_domain(struct bench *b, int i, const char *prefix, const char *codec)
{
    char file[128];
    uint16_t *tokens = malloc(DOMAIN_TOKENS * sizeof *tokens);
    uint64_t x = 88172645463325252u + (uint64_t)i;
    FILE *f;

    MX_REQUIRE(tokens != NULL);
    for (uint32_t j = 0; j < DOMAIN_TOKENS; j++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        tokens[j] = (uint16_t)(x & 0x3f3f); /* about as compressible as text */
    }
    (void)snprintf(file, sizeof file, "%s/tokens.u16", b->dir);
    f = fopen(file, "we");
    MX_REQUIRE(f != NULL && fwrite(tokens, sizeof *tokens, DOMAIN_TOKENS, f) == DOMAIN_TOKENS &&
               fclose(f) == 0);
    free(tokens);
    shell("%s/client/mixctl --data %s/store ingest %s%d %s --format u16 --codec %s >/dev/null 2>&1",
          b->build, b->dir, prefix, i, file, codec);
    MX_REQUIRE(unlink(file) == 0);
}

static void start_daemon(struct bench *b)
{
    char line[4096], program[512], data[128];
    int fds[2];
    ssize_t n;
    struct mx_json_doc *doc;
    struct mx_err err;

    (void)snprintf(program, sizeof program, "%s/daemon/mixd", b->build);
    (void)snprintf(data, sizeof data, "%s/store", b->dir);
    MX_REQUIRE(pipe(fds) == 0);
    b->daemon = fork();
    MX_REQUIRE(b->daemon >= 0);
    if (b->daemon == 0) {
        char fd[16];
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)snprintf(fd, sizeof fd, "%d", fds[1]);
        (void)execl(program, program, "--data", data, "--listen", "tcp://127.0.0.1:0", "--http",
                    "127.0.0.1:0", "--log-level", "error", "--ready-fd", fd, (char *)NULL);
        _exit(127);
    }
    (void)close(fds[1]);
    n = read(fds[0], line, sizeof line);
    (void)close(fds[0]);
    if (n <= 0 || mx_json_parse("ready", line, (size_t)n, &doc, &err) < 0) {
        (void)fprintf(stderr, "bench: the daemon didn't start\n");
        exit(1);
    }
    (void)snprintf(b->url, sizeof b->url, "%s",
                   mx_json_string(mx_json_first(mx_json_get(mx_json_root(doc), "listen"))));
    mx_json_free(doc);
}

static void stop_daemon(struct bench *b)
{
    (void)kill(b->daemon, SIGTERM);
    (void)waitpid(b->daemon, NULL, 0);
}

static uint32_t create_run(struct bench *b, const char *name, const char *prefix)
{
    struct mx_jsonw config, op;
    struct mxc_client *c;
    struct mxc_run *run;
    struct mxc_batch *batch;
    struct mxc_error err = {0};
    size_t n;
    char *text, *request, *answer;
    static uint32_t number;

    mx_jsonw_init(&config, 65536);
    mx_jsonw_object(&config, NULL);
    mx_jsonw_string(&config, "name", name);
    mx_jsonw_u64(&config, "seed", 1);
    mx_jsonw_u64(&config, "batch_size", BATCH);
    mx_jsonw_u64(&config, "seq_len", SEQ_LEN);
    mx_jsonw_object(&config, "domains");
    for (int i = 0; i < DOMAINS; i++) {
        char domain[32];
        (void)snprintf(domain, sizeof domain, "%s%d", prefix, i);
        mx_jsonw_object(&config, domain);
        mx_jsonw_double(&config, "weight", 1.0 / (1 + i));
        mx_jsonw_end_object(&config);
    }
    mx_jsonw_end_object(&config);
    mx_jsonw_end_object(&config);
    text = mx_jsonw_take(&config, &n);
    mx_jsonw_init(&op, 1u << 20);
    mx_jsonw_object(&op, NULL);
    mx_jsonw_string(&op, "op", "run.create");
    mx_jsonw_string(&op, "config", text);
    mx_jsonw_end_object(&op);
    request = mx_jsonw_take(&op, &n);
    if (mxc_open(b->url, NULL, &c, &err) < 0 || mxc_control(c, request, &answer, &err) < 0 ||
        mxc_attach(c, name, 0, 1, 0, &run, &err) < 0 || mxc_batch_at(run, 0, &batch, &err) < 0) {
        (void)fprintf(stderr, "bench: %s\n", err.text);
        exit(1);
    }
    mxc_batch_free(batch);
    mxc_detach(run);
    mxc_close(c);
    free(text);
    free(request);
    free(answer);
    return ++number; /* the store is new: runs are numbered from 1 */
}

/* ---- what is asked ---- */

static size_t batch_request(void *arg, uint64_t n, uint8_t *buf, size_t cap)
{
    struct bench *b = arg;
    struct mx_writer w;
    uint64_t step = b->steps[b->run] + n;

    mx_writer_init(&w, buf, cap);
    mx_frame_begin(&w, MX_MSG_BATCH, MX_STATUS_OK, n);
    mx_batch_request_encode(&w, &(struct mx_batch_request){
        .step = step, .oldest = step > 64 ? step - 64 : 0, .run = b->run, .world = 1,
        .slot_count = BATCH});
    return mx_frame_end(&w);
}

static int batch_good(void *arg, const uint8_t *reply, size_t n)
{
    struct bench *b = arg;
    struct mx_header h;

    (void)b;
    return mx_header_decode(reply, n, &h, NULL) == 0 && h.status == MX_STATUS_OK &&
           n > BATCH * SEQ_LEN * 2;
}

static int bare_good(void *arg, const uint8_t *reply, size_t n)
{
    struct bench *b = arg;

    return n == b->reply_bytes && reply[n - 1] == 'x';
}

static void measure(struct bench *b, uint32_t run, unsigned inflight, struct load_result *r)
{
    b->run = run;
    load_run(b->url, inflight, b->seconds, batch_request, batch_good, b, r);
    b->steps[run] += r->replies + 256; /* past what is in flight or filled ahead */
    if (r->bad > 0) {
        (void)fprintf(stderr, "bench: %" PRIu64 " of %" PRIu64 " replies were bad\n", r->bad,
                      r->replies);
        exit(1);
    }
}

/* mixd and the bare pair in turns; medians of the rounds. */
static void compare(struct bench *b, const char *bare_url, uint32_t run, unsigned inflight,
                    const char *what)
{
    struct load_result r;
    double mine[ROUNDS], bare[ROUNDS], mine_p99[ROUNDS], bare_p99[ROUNDS];
    char name[128];
    double x, y;

    for (int i = 0; i < ROUNDS; i++) {
        load_run(bare_url, inflight, b->seconds, batch_request, bare_good, b, &r);
        MX_REQUIRE(r.bad == 0);
        bare[i] = r.per_s;
        bare_p99[i] = r.p99_us;
        measure(b, run, inflight, &r);
        mine[i] = r.per_s;
        mine_p99[i] = r.p99_us;
    }
    x = median(mine, ROUNDS);
    y = median(bare, ROUNDS);
    (void)snprintf(name, sizeof name, "%s, %u in flight: batches/s", what, inflight);
    report(b, name, x, "1/s", y, x / y);
    x = median(mine_p99, ROUNDS);
    y = median(bare_p99, ROUNDS);
    (void)snprintf(name, sizeof name, "%s, %u in flight: p99", what, inflight);
    report(b, name, x, "us", y, x / y);
}

/* Through libmixclient, as a trainer does it, the tokens touched. */
static void measure_library(struct bench *b, const char *run_name, uint32_t number)
{
    struct mxc_client *c;
    struct mxc_run *run;
    struct mxc_batch *batch;
    struct mxc_error err = {0};
    struct mxc_wait_stats w;
    double end;
    uint64_t n = 0, sum = 0;

    if (mxc_open(b->url, &(struct mxc_options){.inflight = 4, .timeout_ms = 10000}, &c, &err) < 0 ||
        mxc_attach(c, run_name, 0, 1, b->steps[number], &run, &err) < 0) {
        (void)fprintf(stderr, "bench: %s\n", err.text);
        exit(1);
    }
    end = now_s() + b->seconds;
    while (now_s() < end) {
        if (mxc_next(run, &batch, &err) < 0) {
            (void)fprintf(stderr, "bench: %s\n", err.text);
            exit(1);
        }
        for (uint32_t i = 0; i < batch->slots * batch->seq_len; i += 32) {
            sum += ((const uint16_t *)batch->tokens)[i];
        }
        mxc_batch_free(batch);
        n++;
    }
    mxc_get_wait_stats(run, &w);
    report(b, "libmixclient, 4 ahead, tokens touched: batches/s", (double)n / b->seconds, "1/s", 0,
           0);
    MX_REQUIRE(sum > 0);
    mxc_detach(run);
    mxc_close(c);
}

/* Anonymous memory of the daemon, from its own statistics. */
static void measure_memory(struct bench *b)
{
    struct mxc_client *c;
    struct mxc_error err = {0};
    struct mx_json_doc *doc;
    char *json;
    double bytes;

    if (mxc_open(b->url, NULL, &c, &err) < 0 || mxc_stats(c, NULL, &json, &err) < 0 ||
        mx_json_parse("stats", json, strlen(json), &doc, NULL) < 0) {
        (void)fprintf(stderr, "bench: no statistics: %s\n", err.text);
        exit(1);
    }
    bytes = mx_json_number(mx_json_get(mx_json_get(mx_json_root(doc), "process"),
                                       "private_bytes"));
    report(b, "daemon's memory beyond mapped files", bytes / 1048576, "MiB", 256,
           bytes / 1048576 / 256);
    mx_json_free(doc);
    free(json);
    mxc_close(c);
}

/* Lines "name  us  us  limit  us" of the core's own benchmark. */
static void measure_core(struct bench *b)
{
    char command[512], line[256], name[64];
    double us, limit;
    FILE *f;

    (void)snprintf(command, sizeof command, "%s/tests/bench/core_bench", b->build);
    f = popen(command, "r");
    MX_REQUIRE(f != NULL);
    while (fgets(line, sizeof line, f) != NULL) {
        (void)snprintf(name, sizeof name, "%.44s", line);
        for (size_t i = strlen(name); i > 0 && name[i - 1] == ' '; i--) {
            name[i - 1] = '\0';
        }
        if (strlen(line) > 45 && sscanf(line + 44, "%lf us limit %lf us", &us, &limit) == 2) {
            report(b, name, us, "us", limit, us / limit);
        }
    }
    MX_REQUIRE(pclose(f) == 0);
}

static void measure_start(struct bench *b)
{
    double start;

    stop_daemon(b);
    start = now_s();
    start_daemon(b);
    report(b, "start on this store until ready", (now_s() - start) * 1e3, "ms", 1000,
           (now_s() - start));
}

int main(int argc, char **argv)
{
    struct bench b = {.seconds = 3};
    char bare_url[256];
    uint32_t raw, packed;
    size_t n;
    char *json;
    FILE *f;

    if (argc < 3) {
        (void)fprintf(stderr, "usage: bench BUILD-DIR OUTPUT.json [SECONDS]\n");
        return 2;
    }
    b.build = argv[1];
    b.seconds = argc > 3 ? strtod(argv[3], NULL) : 3;
    /* A reply's size: header, fixed part, 20 bytes a slot, one document start at most, tokens. */
    b.reply_bytes = MX_BATCH_FIXED_BYTES + BATCH * 20 + BATCH * SEQ_LEN * 2;
    b.bare_pid = load_bare_server("tcp://127.0.0.1:0", b.reply_bytes, 64, bare_url,
                                  sizeof bare_url);
    (void)snprintf(b.dir, sizeof b.dir, "/tmp/mixd-bench-XXXXXX");
    MX_REQUIRE(mkdtemp(b.dir) != NULL);
    mx_jsonw_init(&b.out, 1u << 20);
    mx_jsonw_array(&b.out, NULL);
    for (int i = 0; i < DOMAINS; i++) {
        make_domain(&b, i, "raw", "raw");
        make_domain(&b, i, "packed", "zstd:1");
    }
    start_daemon(&b);
    raw = create_run(&b, "raw", "raw");
    packed = create_run(&b, "packed", "packed");
    compare(&b, bare_url, raw, 1, "32 x 2048 u16, raw, tcp");
    compare(&b, bare_url, raw, 4, "32 x 2048 u16, raw, tcp");
    compare(&b, bare_url, raw, 16, "32 x 2048 u16, raw, tcp");
    compare(&b, bare_url, packed, 4, "32 x 2048 u16, zstd, tcp");
    measure_library(&b, "raw", raw);
    measure_memory(&b);
    measure_core(&b);
    measure_start(&b);
    stop_daemon(&b);
    (void)kill(b.bare_pid, SIGKILL);
    (void)waitpid(b.bare_pid, NULL, 0);
    mx_jsonw_end_array(&b.out);
    json = mx_jsonw_take(&b.out, &n);
    f = fopen(argv[2], "we");
    MX_REQUIRE(json != NULL && f != NULL && fwrite(json, 1, n, f) == n && fputc('\n', f) == '\n' &&
               fclose(f) == 0);
    free(json);
    shell("rm -rf %s", b.dir);
    return 0;
}
