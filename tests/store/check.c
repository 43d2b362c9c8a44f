/* check.c - see check.h. */
#include "check.h"

#include "store/catalog_format.h"

#include <dirent.h>
#include <ftw.h>
#include <inttypes.h>
#include <unistd.h>

uint64_t roll(struct dice *d)
{
    uint64_t x = d->state += 0x9E3779B97F4A7C15u;

    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

uint64_t below(struct dice *d, uint64_t n)
{
    return roll(d) % n;
}

uint64_t test_seed(const char *test, uint64_t fallback)
{
    const char *given = getenv("MX_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : fallback;

    print_message("%s: MX_TEST_SEED=%" PRIu64 "\n", test, seed);
    return seed;
}

int folder_make(void **state)
{
    const char *base = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    char *dir = NULL;

    if (asprintf(&dir, "%s/mixd-store-XXXXXX", base) < 0 || mkdtemp(dir) == NULL) {
        return -1;
    }
    *state = dir;
    return 0;
}

static int remove_cb(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

int folder_remove(void **state)
{
    int rc = nftw(*state, remove_cb, 16, FTW_DEPTH | FTW_PHYS);

    free(*state);
    return rc;
}

char *path_in(const char *dir, const char *name)
{
    char *path = NULL;

    assert_true(asprintf(&path, "%s/%s", dir, name) > 0);
    return path;
}

unsigned count_files(const char *dir, const char *suffix)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    unsigned n = 0;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        size_t len = strlen(e->d_name), m = strlen(suffix);
        n += len >= m && strcmp(e->d_name + len - m, suffix) == 0;
    }
    closedir(d);
    return n;
}

void write_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

uint8_t *read_file(const char *path, size_t *ret_n)
{
    FILE *f = fopen(path, "rb");
    uint8_t *p;
    long n;

    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    n = ftell(f);
    assert_true(n >= 0);
    rewind(f);
    p = malloc((size_t)n + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, (size_t)n, f), n);
    fclose(f);
    *ret_n = (size_t)n;
    return p;
}

bool same_info(const struct mx_shard_info *a, const struct mx_shard_info *b)
{
    uint8_t x[MX_SHARD_INFO_BYTES], y[MX_SHARD_INFO_BYTES];

    mx_shard_info_encode(a, x);
    mx_shard_info_encode(b, y);
    return memcmp(x, y, sizeof x) == 0;
}

void model_document(const struct model *m, uint64_t i, struct mx_document *ret)
{
    *ret = (struct mx_document){
        .first_token = m->starts[i],
        .tokens = (i + 1 < m->documents ? m->starts[i + 1] : m->n) - m->starts[i],
        .source = i >= m->documents / 2,
        .source_byte = i * 1000003,
        .source_line = i + 1,
    };
    if (i % 3 != 0) {
        ret->id_len = (uint32_t)snprintf(ret->id, sizeof ret->id, "document-%" PRIu64, i);
    }
}

/* Runs of a few values compress; noise doesn't. */
static void make_tokens(struct model *m, const struct model_options *o, struct dice *d)
{
    uint32_t limit = o->width == 2 ? 65536u : 200000u;

    for (uint64_t i = 0; i < m->n; i++) {
        m->tokens[i] = o->noise            ? (uint32_t)below(d, limit)
                       : below(d, 8) == 0 ? (uint32_t)below(d, 500)
                                           : (uint32_t)(i / 7 % 90);
    }
}

static void make_starts(struct model *m, const struct model_options *o, struct dice *d)
{
    uint64_t at = 0;

    while (at < m->n) {
        m->starts[m->documents++] = at;
        at += 1 + below(d, o->document_max);
    }
}

static void put_tokens(struct mx_shard_writer *w, const struct model *m, uint64_t from, uint64_t to,
                       struct dice *d)
{
    struct mx_err err;

    while (from < to) {
        uint64_t n = 1 + below(d, to - from);
        uint16_t narrow[4096];
        const void *p = m->tokens + from;
        if (m->width == 2) {
            n = n < 4096 ? n : 4096;
            for (uint64_t i = 0; i < n; i++) {
                narrow[i] = (uint16_t)m->tokens[from + i];
            }
            p = narrow;
        }
        assert_ok(mx_shard_writer_tokens(w, p, n, &err), &err);
        from += n;
    }
}

void model_make(struct model *m, const char *dir, const struct model_options *o, struct dice *d)
{
    struct mx_shard_options options = {
        .width = o->width,
        .level = o->level,
        .dictionary = o->dictionary,
        .dictionary_bytes = o->dictionary_bytes,
    };
    struct mx_shard_writer *w;
    struct mx_document doc;
    struct mx_err err;
    uint32_t source;

    *m = (struct model){.width = o->width, .n = o->tokens};
    m->tokens = calloc(m->n, sizeof *m->tokens);
    m->starts = calloc(m->n, sizeof *m->starts);
    assert_non_null(m->tokens);
    assert_non_null(m->starts);
    make_tokens(m, o, d);
    make_starts(m, o, d);
    assert_ok(mx_shard_writer_new(dir, &options, &w, &err), &err);
    assert_ok(mx_shard_writer_source(w, "/corpus/first.jsonl", &source, &err), &err);
    assert_ok(mx_shard_writer_source(w, "/corpus/second.jsonl", &source, &err), &err);
    assert_int_equal(source, 1);
    for (uint64_t i = 0; i < m->documents; i++) {
        if (below(d, 10) == 0) {
            /* One that turns out empty leaves no trace. */
            struct mx_document empty;
            model_document(m, i, &empty);
            mx_document_set_id(&empty, "empty", 5);
            assert_ok(mx_shard_writer_document(w, &empty, &err), &err);
        }
        model_document(m, i, &doc);
        assert_ok(mx_shard_writer_document(w, &doc, &err), &err);
        put_tokens(w, m, m->starts[i], i + 1 < m->documents ? m->starts[i + 1] : m->n, d);
    }
    assert_int_equal(mx_shard_writer_token_count(w), m->n);
    assert_ok(mx_shard_writer_seal(w, &m->info, &err), &err);
    (void)snprintf(m->path, sizeof m->path, "%s/%016" PRIx64 ".mxs", dir, m->info.id);
}

void model_free(struct model *m)
{
    free(m->tokens);
    free(m->starts);
}

void model_bytes(const struct model *m, uint64_t first, size_t n, uint32_t width, uint8_t *ret)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t t = m->tokens[first + i];
        for (uint32_t b = 0; b < width; b++) {
            ret[i * width + b] = (uint8_t)(t >> (8 * b));
        }
    }
}

size_t model_starts(const struct model *m, uint64_t first, size_t n, uint32_t *ret, size_t cap)
{
    size_t found = 0;

    for (uint64_t i = 0; i < m->documents; i++) {
        if (m->starts[i] >= first && m->starts[i] < first + n) {
            if (found < cap) {
                ret[found] = (uint32_t)(m->starts[i] - first);
            }
            found++;
        }
    }
    return found;
}
