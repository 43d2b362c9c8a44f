/* test_lookup.c - documents are found by id, by origin and by sample, over all shards of a domain:
 * each just where an ingest put it, and no other one. */
#include "ingest_check.h"

#include "store/hash.h"
#include "store/lookup.h"

#include <inttypes.h>
#include <sys/stat.h>

#define FILES 3
#define SHARD_TOKENS MX_BLOCK_TOKENS /* shards of one block */

/* What was ingested: the tokens of a document are its text's bytes and one more. */
struct line {
    unsigned file;
    uint64_t byte, end; /* of its line with the LF, in the file */
    uint64_t number;
    uint64_t token, tokens; /* over all shards */
    char id[400];
    size_t id_n;
};

struct corpus {
    char *store, *shards;
    char *paths[FILES];
    uint64_t ends[FILES];
    struct line *lines;
    size_t n;
    uint64_t tokens;
    struct mx_catalog *catalog;
    struct mx_shardset *set;
    struct mx_domain domain;
};

/* Most documents are short; some fill more than a shard. */
static uint64_t text_length(struct dice *d, size_t i)
{
    return i % 701 == 700 ? 2 * SHARD_TOKENS + 100 + below(d, 1000) : 1 + below(d, 200);
}

static void make_id(struct line *l, struct dice *d, size_t i)
{
    switch (i % 8) {
    case 0: l->id_n = 0; return;
    case 1: l->id_n = (size_t)sprintf(l->id, "%zu", i); return;
    case 2: l->id_n = (size_t)sprintf(l->id, "twice-%zu", i / 16); return;
    case 3: l->id_n = (size_t)sprintf(l->id, "same"); return;
    case 4:
        /* Longer than is stored, and alike up to what is cut. */
        memset(l->id, 'x', 390);
        l->id_n = 390 + (size_t)sprintf(l->id + 390, "%zu", i);
        return;
    default: l->id_n = (size_t)sprintf(l->id, "doc/%016" PRIx64 "-%zu", roll(d), i); return;
    }
}

static void write_lines(struct corpus *c, unsigned file, size_t from, size_t to, struct dice *d)
{
    FILE *f = fopen(c->paths[file], "wb");
    uint64_t byte = 0, number = 1;

    assert_non_null(f);
    if (file == 1) {
        byte += (uint64_t)fprintf(f, "\n\n"); /* begins with what is no document */
        number += 2;
    }
    for (size_t i = from; i < to; i++) {
        struct line *l = &c->lines[i];
        uint64_t n = text_length(d, i);
        *l = (struct line){.file = file, .byte = byte, .number = number++, .token = c->tokens,
                           .tokens = n + 1};
        make_id(l, d, i);
        byte += (uint64_t)fprintf(f, "{");
        if (i % 8 == 1) {
            byte += (uint64_t)fprintf(f, "\"id\": %s, ", l->id);
        } else if (l->id_n > 0) {
            byte += (uint64_t)fprintf(f, "\"id\": \"%s\", ", l->id);
        }
        byte += (uint64_t)fprintf(f, "\"text\": \"%0*zu\"}\n", (int)n, i % 10);
        l->end = byte;
        c->tokens += n + 1;
    }
    c->ends[file] = byte;
    assert_int_equal(fclose(f), 0);
}

static void ingest(struct corpus *c)
{
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_JSONL);
    struct mx_ingest_result r;
    struct mx_err err;

    o.shard_bytes = SHARD_TOKENS * 2;
    assert_ok(mx_ingest(c->store, (const char *const *)c->paths, FILES, &o, &r, &err), &err);
    c->domain = r.domain;
}

static void corpus_make(struct corpus *c, const char *dir, size_t lines, struct dice *d)
{
    char *folder = path_in(dir, "other");
    struct mx_err err;

    *c = (struct corpus){.n = lines, .store = path_in(dir, "store"),
                         .shards = path_in(dir, "store/shards")};
    assert_int_equal(mkdir(folder, 0700), 0);
    free(folder);
    c->paths[0] = path_in(dir, "a.jsonl");
    c->paths[1] = path_in(dir, "b.jsonl");
    c->paths[2] = path_in(dir, "other/a.jsonl");
    c->lines = calloc(lines, sizeof *c->lines);
    assert_non_null(c->lines);
    for (unsigned f = 0; f < FILES; f++) {
        write_lines(c, f, lines * f / FILES, lines * (f + 1) / FILES, d);
    }
    ingest(c);
    assert_int_equal(c->domain.tokens, c->tokens);
    assert_int_equal(c->domain.shards, (c->tokens + SHARD_TOKENS - 1) / SHARD_TOKENS);
    assert_ok(mx_catalog_open(c->store, false, &c->catalog, &err), &err);
    assert_ok(mx_shardset_new(c->shards, 2, 1 << 20, &c->set, &err), &err);
}

static void corpus_free(struct corpus *c)
{
    mx_shardset_free(c->set);
    mx_catalog_close(c->catalog);
    for (unsigned f = 0; f < FILES; f++) {
        free(c->paths[f]);
    }
    free(c->lines);
    free(c->store);
    free(c->shards);
}

static void view_of(struct corpus *c, uint32_t seq_len, struct mx_view *ret)
{
    struct mx_err err;

    assert_ok(mx_view_make(c->catalog, &c->domain, c->domain.shards, seq_len, ret, &err), &err);
    assert_int_equal(ret->n, c->domain.shards);
}

/* ---- what a look-up should find ---- */

struct hits {
    const struct corpus *c;
    const struct mx_view *v;
    size_t expected[4096]; /* lines */
    size_t n;
    size_t at;      /* which of them is awaited */
    uint64_t token; /* and from where on, over all shards */
};

static uint64_t shard_samples(const struct corpus *c, uint64_t shard, uint32_t seq_len)
{
    uint64_t left = c->tokens - shard * SHARD_TOKENS;

    return (left < SHARD_TOKENS ? left : SHARD_TOKENS) / seq_len;
}

/* The samples of a piece, by asking each of its tokens. */
static uint64_t piece_samples(const struct hits *h, uint64_t shard, uint64_t from, uint64_t to,
                              uint64_t *ret_first)
{
    uint32_t seq_len = h->v->seq_len;
    uint64_t base = 0, n = 0, last = UINT64_MAX;

    *ret_first = 0;
    for (uint64_t s = 0; s < shard; s++) {
        base += shard_samples(h->c, s, seq_len);
    }
    for (uint64_t t = from; t < to; t++) {
        uint64_t sample = t / seq_len;
        if (sample < shard_samples(h->c, shard, seq_len) && sample != last) {
            *ret_first = n == 0 ? base + sample : *ret_first;
            last = sample;
            n++;
        }
    }
    return n;
}

static void assert_origin(const struct corpus *c, const struct line *l, const struct mx_document *d,
                          const char *path)
{
    assert_int_equal(d->source_byte, l->byte);
    assert_int_equal(d->source_line, l->number);
    assert_string_equal(path, c->paths[l->file]);
    if (l->id_n <= MX_DOC_ID_MAX) {
        assert_int_equal(d->id_len, l->id_n);
        assert_memory_equal(d->id, l->id, l->id_n);
    } else {
        assert_int_equal(d->id_len, MX_DOC_ID_MAX);
    }
}

static int hit_cb(void *arg, const struct mx_found *f)
{
    struct hits *h = arg;
    const struct line *l;
    uint64_t shard, from, end, first;

    assert_true(h->at < h->n);
    l = &h->c->lines[h->expected[h->at]];
    h->token = h->token < l->token ? l->token : h->token;
    shard = h->token / SHARD_TOKENS;
    from = h->token % SHARD_TOKENS;
    end = l->token + l->tokens;
    assert_int_equal(f->shard, h->v->shards[shard].id);
    assert_int_equal(f->document.first_token, from);
    h->token += f->document.tokens;
    assert_int_equal(h->token, (shard + 1) * SHARD_TOKENS < end ? (shard + 1) * SHARD_TOKENS : end);
    assert_origin(h->c, l, &f->document, f->source_path);
    assert_int_equal(f->samples,
                     piece_samples(h, shard, from, from + f->document.tokens, &first));
    assert_int_equal(f->first_sample, first);
    h->at += h->token == end;
    return 0;
}

static void check_id(struct corpus *c, const struct mx_view *v, const char *id, size_t n)
{
    struct hits h = {.c = c, .v = v};
    struct mx_err err;

    for (size_t i = 0; i < c->n && n > 0; i++) {
        if (c->lines[i].id_n == n && memcmp(c->lines[i].id, id, n) == 0) {
            h.expected[h.n++] = i;
        }
    }
    assert_ok(mx_lookup_id(c->set, v, id, n, hit_cb, &h, &err), &err);
    assert_int_equal(h.at, h.n);
}

/* `i` is the line that is right, or none. */
static void check_origin(struct corpus *c, const struct mx_view *v, const char *path, size_t n,
                         uint64_t byte, size_t i, size_t other)
{
    struct hits h = {.c = c, .v = v};
    struct mx_err err;

    if (i < c->n) {
        h.expected[h.n++] = i;
    }
    if (other < c->n) {
        h.expected[h.n++] = other;
    }
    assert_ok(mx_lookup_origin(c->set, v, path, n, byte, hit_cb, &h, &err), &err);
    assert_int_equal(h.at, h.n);
}

static size_t last_at(const struct corpus *c, unsigned file, uint64_t byte)
{
    size_t found = SIZE_MAX;

    for (size_t i = 0; i < c->n; i++) {
        if (c->lines[i].file == file && c->lines[i].byte <= byte) {
            found = i;
        }
    }
    return found;
}

/* ---- the tests ---- */

static void check_ids(struct corpus *c, uint32_t seq_len)
{
    struct dice d = {seq_len};
    struct mx_document cut;
    struct mx_view v;

    view_of(c, seq_len, &v);
    for (size_t i = 0; i < c->n; i += 1 + (size_t)below(&d, 12)) {
        check_id(c, &v, c->lines[i].id, c->lines[i].id_n);
    }
    check_id(c, &v, "same", 4);
    check_id(c, &v, "sam", 3);
    check_id(c, &v, "same ", 5);
    check_id(c, &v, "no such document", 16);
    check_id(c, &v, "", 0);
    /* As the store shows an id that it has cut. */
    for (size_t i = 4; i < c->n; i += 800) {
        struct hits h = {.c = c, .v = &v, .expected = {i}, .n = 1};
        struct mx_err err;
        mx_document_set_id(&cut, c->lines[i].id, c->lines[i].id_n);
        assert_ok(mx_lookup_id(c->set, &v, cut.id, cut.id_len, hit_cb, &h, &err), &err);
        assert_int_equal(h.at, 1);
        assert_ok(mx_lookup_id(c->set, &v, cut.id, cut.id_len - 1, hit_cb, &h, &err), &err);
    }
    mx_view_clear(&v);
}

static void check_origins(struct corpus *c, uint32_t seq_len)
{
    struct dice d = {seq_len + 1};
    struct mx_view v;

    view_of(c, seq_len, &v);
    for (size_t i = 0; i < c->n; i += i % 701 == 700 ? 1 : 1 + (size_t)below(&d, 12)) {
        const struct line *l = &c->lines[i];
        const char *path = c->paths[l->file];
        check_origin(c, &v, path, strlen(path), l->byte, i, SIZE_MAX);
        check_origin(c, &v, path, strlen(path), l->end - 1, i, SIZE_MAX);
        check_origin(c, &v, path, strlen(path), l->byte + below(&d, l->end - l->byte), i,
                     SIZE_MAX);
    }
    for (unsigned f = 0; f < FILES; f++) {
        const char *path = c->paths[f];
        size_t last = last_at(c, f, UINT64_MAX);
        check_origin(c, &v, path, strlen(path), c->ends[f], last, SIZE_MAX);
        check_origin(c, &v, path, strlen(path), UINT64_MAX, last, SIZE_MAX);
        check_origin(c, &v, path, strlen(path) - 1, 0, SIZE_MAX, SIZE_MAX);
        check_origin(c, &v, path + 1, strlen(path) - 1, 0, SIZE_MAX, SIZE_MAX);
    }
    check_origin(c, &v, c->paths[1], strlen(c->paths[1]), 1, SIZE_MAX, SIZE_MAX);
    check_origin(c, &v, "b.jsonl", 7, 1, SIZE_MAX, SIZE_MAX);
    check_origin(c, &v, "b.jsonl", 7, 2, last_at(c, 1, 2), SIZE_MAX);
    check_origin(c, &v, ".jsonl", 6, 2, SIZE_MAX, SIZE_MAX);
    check_origin(c, &v, "other/a.jsonl", 13, 2, SIZE_MAX, SIZE_MAX);
    check_origin(c, &v, "", 0, 2, SIZE_MAX, SIZE_MAX);
    /* Two files have that last component. */
    for (unsigned i = 0; i < 50; i++) {
        uint64_t byte = below(&d, c->ends[0]);
        check_origin(c, &v, "a.jsonl", 7, byte, last_at(c, 0, byte), last_at(c, 2, byte));
    }
    mx_view_clear(&v);
}

struct sample_check {
    const struct corpus *c;
    uint64_t token, end; /* the part of the sample that hasn't been told yet, over all shards */
    uint64_t base;
    size_t line;
    unsigned calls;
};

static int sample_cb(void *arg, const struct mx_document *d, const char *path, uint32_t first,
                     uint32_t n)
{
    struct sample_check *s = arg;
    const struct line *l;

    while (s->c->lines[s->line].token + s->c->lines[s->line].tokens <= s->token) {
        s->line++;
    }
    l = &s->c->lines[s->line];
    assert_origin(s->c, l, d, path);
    assert_int_equal(s->base + first, s->token);
    s->token += n;
    assert_int_equal(s->token, l->token + l->tokens < s->end ? l->token + l->tokens : s->end);
    return ++s->calls == 3 && s->base == 0 ? 42 : 0;
}

static void check_samples(struct corpus *c, uint32_t seq_len)
{
    struct sample_check s = {.c = c};
    struct mx_view v;
    struct mx_err err;
    uint64_t sample = 0;

    view_of(c, seq_len, &v);
    for (uint64_t shard = 0; shard < v.n; shard++) {
        assert_int_equal(mx_view_shard_samples(&v, (uint32_t)shard),
                         shard_samples(c, shard, seq_len));
        for (uint64_t k = 0; k < shard_samples(c, shard, seq_len); k++) {
            int rc;
            s.token = s.base = shard * SHARD_TOKENS + k * seq_len;
            s.end = s.token + seq_len;
            rc = mx_lookup_sample(c->set, &v, sample++, sample_cb, &s, &err);
            if (s.base == 0 && s.calls == 3) {
                assert_int_equal(rc, 42); /* a callback that ends it */
                continue;
            }
            assert_ok(rc, &err);
            assert_int_equal(s.token, s.end);
        }
    }
    assert_int_equal(sample, v.samples);
    assert_fails(mx_lookup_sample(c->set, &v, v.samples, sample_cb, &s, &err), MX_EINVALID, &err,
                 "there is no sample");
    mx_view_clear(&v);
}

static void test_corpus(void **state)
{
    struct dice d = {test_seed("look-ups", 71)};
    struct corpus c;

    corpus_make(&c, *state, 3000, &d);
    assert_true(c.domain.shards > 8);
    check_ids(&c, 1000);
    check_ids(&c, SHARD_TOKENS);     /* the last shard has no sample */
    check_ids(&c, SHARD_TOKENS + 1); /* none has */
    check_origins(&c, 1000);
    check_origins(&c, SHARD_TOKENS + 1);
    check_samples(&c, 1000);
    check_samples(&c, 7);
    check_samples(&c, SHARD_TOKENS);
    corpus_free(&c);
}

struct count {
    unsigned n, stop_at;
    uint64_t shards[8];
    uint64_t last_token;
};

static int count_cb(void *arg, const struct mx_found *f)
{
    struct count *n = arg;

    n->shards[n->n % 8] = f->shard;
    return ++n->n == n->stop_at ? -77 : 0;
}

/* A file that is ingested again is another copy, and is found as well. */
static void test_again(void **state)
{
    struct dice d = {test_seed("ingested again", 72)};
    struct count n = {0};
    struct corpus c;
    struct mx_view v;
    struct mx_err err;

    corpus_make(&c, *state, 30, &d);
    ingest(&c);
    view_of(&c, 100, &v);
    assert_int_equal(v.n, 2);
    for (size_t i = 0; i < c.n; i++) {
        const struct line *l = &c.lines[i];
        n = (struct count){0};
        assert_ok(mx_lookup_origin(c.set, &v, c.paths[l->file], strlen(c.paths[l->file]),
                                   l->end - 1, count_cb, &n, &err), &err);
        assert_int_equal(n.n, 2);
        assert_int_equal(n.shards[0], v.shards[0].id);
        assert_int_equal(n.shards[1], v.shards[1].id);
    }
    n = (struct count){.stop_at = 3};
    assert_int_equal(mx_lookup_id(c.set, &v, "same", 4, count_cb, &n, &err), -77);
    assert_int_equal(n.n, 3);
    mx_view_clear(&v);
    corpus_free(&c);
}

/* A document without lines that fills shards, twice: its pieces, and those of its copy. */
static void test_text(void **state)
{
    struct mx_ingest_options o = ingest_options("web", MX_FORMAT_TEXT);
    struct mx_ingest_result r;
    struct count n = {0};
    struct corpus c = {.store = path_in(*state, "store"), .shards = path_in(*state, "store/shards")};
    size_t size = 3 * SHARD_TOKENS + 5;
    char *text = malloc(size);
    struct mx_view v;
    struct mx_err err;

    assert_non_null(text);
    memset(text, 'a', size);
    o.shard_bytes = SHARD_TOKENS * 2;
    assert_ok(ingest_text(*state, "in.txt", text, size, &o, &r, &err), &err);
    assert_int_equal(r.domain.shards, 4);
    assert_ok(ingest_text(*state, "in.txt", text, SHARD_TOKENS - 1, &o, &r, &err), &err);
    assert_int_equal(r.domain.shards, 5);
    c.domain = r.domain;
    assert_ok(mx_catalog_open(c.store, false, &c.catalog, &err), &err);
    assert_ok(mx_shardset_new(c.shards, 1, 0, &c.set, &err), &err);
    view_of(&c, 128, &v);
    assert_ok(mx_lookup_origin(c.set, &v, "in.txt", 6, 12345, count_cb, &n, &err), &err);
    assert_int_equal(n.n, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(n.shards[i], v.shards[i].id);
    }
    mx_view_clear(&v);
    corpus_free(&c);
    free(text);
}

/* ---- one shard ---- */

static int document_cb(void *arg, const struct mx_document *d)
{
    struct count *n = arg;

    assert_true(n->n == 0 || d->first_token > n->last_token);
    n->last_token = d->first_token;
    n->n++;
    return 0;
}

/* A shard of documents of ten tokens, with ids or none. */
static void small_shard(const char *dir, const char *const *ids, size_t documents,
                        struct mx_shard_info *ret)
{
    struct mx_shard_options o = {.width = 2, .level = MX_LEVEL_RAW};
    static const uint16_t tokens[10];
    struct mx_shard_writer *w;
    struct mx_document d = {0};
    struct mx_err err;

    assert_ok(mx_shard_writer_new(dir, &o, &w, &err), &err);
    assert_ok(mx_shard_writer_source(w, "/some/where", &d.source, &err), &err);
    for (size_t i = 0; i < documents; i++) {
        const char *id = ids != NULL ? ids[i] : "same";
        mx_document_set_id(&d, id, strlen(id));
        d.source_byte = i;
        assert_ok(mx_shard_writer_document(w, &d, &err), &err);
        assert_ok(mx_shard_writer_tokens(w, tokens, 10, &err), &err);
    }
    assert_ok(mx_shard_writer_seal(w, ret, &err), &err);
}

static struct mx_shard *open_shard(const char *dir, uint64_t id)
{
    struct mx_shard *s;
    struct mx_err err;
    char name[40];
    char *path;

    (void)snprintf(name, sizeof name, "%016" PRIx64 ".mxs", id);
    path = path_in(dir, name);
    assert_ok(mx_shard_open(path, &s, &err), &err);
    free(path);
    return s;
}

/* One id for all: many records of the index have nothing but that hash. */
static void test_same_ids(void **state)
{
    struct mx_shard_info i;
    struct mx_shard *s;
    struct count n = {0};
    struct mx_err err;

    small_shard(*state, NULL, 20 * MX_IDS_ENTRIES + 3, &i);
    s = open_shard(*state, i.id);
    assert_ok(mx_shard_find_id(s, "same", 4, document_cb, &n, &err), &err);
    assert_int_equal(n.n, i.documents);
    n.n = 0;
    assert_ok(mx_shard_find_id(s, "other", 5, document_cb, &n, &err), &err);
    assert_ok(mx_shard_find_id(s, "sa", 2, document_cb, &n, &err), &err);
    assert_int_equal(n.n, 0);
    assert_ok(mx_shard_verify(s, NULL, NULL, &err), &err);
    mx_shard_close(s);
}

static int by_hash(const void *a, const void *b)
{
    return mx_id_order(a, b);
}

/* Writes other entries into a shard's index, under a checksum that is right. */
static void forge(const char *dir, const struct mx_shard_info *i, struct mx_id_entry was[2],
                  struct mx_id_entry now[2])
{
    uint8_t old[MX_IDS_HEAD_BYTES + 2 * MX_IDS_ENTRY_BYTES], new[sizeof old], *bytes, *at;
    char name[40], *path;
    size_t n;

    (void)snprintf(name, sizeof name, "%016" PRIx64 ".mxs", i->id);
    path = path_in(dir, name);
    qsort(was, 2, sizeof *was, by_hash);
    qsort(now, 2, sizeof *now, by_hash);
    (void)mx_ids_encode(i->id, 0, was, 2, old);
    (void)mx_ids_encode(i->id, 0, now, 2, new);
    bytes = read_file(path, &n);
    at = memmem(bytes, n, old, sizeof old);
    assert_non_null(at);
    memcpy(at, new, sizeof new);
    write_file(path, bytes, n);
    free(bytes);
    free(path);
}

/* What two ids of one hash would look like: the hash leads to both documents, and each is asked
 * for its own id. And entries that lead to no document at all. */
static void test_forged_index(void **state)
{
    static const char *const ids[3] = {"left", "", "right"};
    uint64_t left = mx_hash64("left", 4, 0), right = mx_hash64("right", 5, 0);
    struct mx_id_entry was[2] = {{left, 0}, {right, 20}}, now[2] = {{left, 0}, {left, 20}};
    struct mx_id_entry inside[2] = {{left, 3}, {right, 20}}, outside[2] = {{left, 0}, {right, 30}};
    struct mx_shard_info i;
    struct mx_shard *s;
    struct count n = {0};
    struct mx_err err;

    small_shard(*state, ids, 3, &i);
    s = open_shard(*state, i.id);
    assert_ok(mx_shard_verify(s, NULL, NULL, &err), &err);
    assert_ok(mx_shard_find_id(s, "right", 5, document_cb, &n, &err), &err);
    assert_int_equal(n.n, 1);
    assert_int_equal(n.last_token, 20);
    mx_shard_close(s);

    forge(*state, &i, was, now);
    s = open_shard(*state, i.id);
    n.n = 0;
    assert_ok(mx_shard_find_id(s, "left", 4, document_cb, &n, &err), &err);
    assert_int_equal(n.n, 1);
    assert_int_equal(n.last_token, 0);
    assert_ok(mx_shard_find_id(s, "right", 5, document_cb, &n, &err), &err);
    assert_int_equal(n.n, 1);
    assert_fails(mx_shard_verify(s, NULL, NULL, &err), MX_EDAMAGED, &err, "index of ids 0");
    mx_shard_close(s);

    forge(*state, &i, now, inside);
    s = open_shard(*state, i.id);
    assert_fails(mx_shard_find_id(s, "left", 4, document_cb, &n, &err), MX_EDAMAGED, &err,
                 "no document begins there");
    mx_shard_close(s);

    forge(*state, &i, inside, outside);
    s = open_shard(*state, i.id);
    assert_fails(mx_shard_find_id(s, "right", 5, document_cb, &n, &err), MX_EDAMAGED, &err,
                 "no such token");
    assert_fails(mx_shard_verify(s, NULL, NULL, &err), MX_EDAMAGED, &err, "index of ids 0");
    mx_shard_close(s);
}

/* Look-ups by origin rest on an order, which the writer keeps. */
static void test_order(void **state)
{
    struct mx_shard_options o = {.width = 2, .level = MX_LEVEL_RAW};
    struct mx_document d = {.source_byte = 5}, e = {.source_byte = 4}, next = {.source = 1};
    struct mx_shard_writer *w;
    struct mx_err err;
    uint32_t source;

    assert_ok(mx_shard_writer_new(*state, &o, &w, &err), &err);
    assert_ok(mx_shard_writer_source(w, "a", &source, &err), &err);
    assert_ok(mx_shard_writer_source(w, "b", &source, &err), &err);
    assert_ok(mx_shard_writer_document(w, &d, &err), &err);
    assert_fails(mx_shard_writer_document(w, &e, &err), MX_EINVALID, &err, "byte 4 of source 0");
    assert_ok(mx_shard_writer_document(w, &next, &err), &err);
    assert_fails(mx_shard_writer_document(w, &d, &err), MX_EINVALID, &err, "byte 5 of source 0");
    mx_shard_writer_abort(w);
}

/* Documents of one token: a shard is sealed for their number, and memory stays bounded. */
static void test_many_documents(void **state)
{
    struct mx_ingest_options o = ingest_options("tiny", MX_FORMAT_U16);
    size_t documents = MX_SHARD_DOCUMENTS + 1000;
    char *path = path_in(*state, "in"), *store = path_in(*state, "store");
    const char *files[1] = {path};
    struct mx_ingest_result r;
    struct mx_shard_info i[2];
    struct mx_catalog *c;
    struct mx_err err;
    uint8_t *zeros = calloc(documents, 2);

    assert_non_null(zeros);
    write_file(path, zeros, documents * 2);
    free(zeros);
    o.eod = 0;
    assert_ok(mx_ingest(store, files, 1, &o, &r, &err), &err);
    assert_int_equal(r.domain.documents, documents);
    assert_int_equal(r.domain.shards, 2);
    assert_ok(mx_catalog_open(store, false, &c, &err), &err);
    assert_ok(mx_catalog_shards(c, r.domain.id, 0, 2, i, &err), &err);
    assert_int_equal(i[0].documents, MX_SHARD_DOCUMENTS);
    mx_catalog_close(c);
    free(path);
    free(store);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_corpus), TEST(test_again), TEST(test_text), TEST(test_same_ids),
        TEST(test_forged_index), TEST(test_order), TEST(test_many_documents),
    };
    return cmocka_run_group_tests_name("store-lookup", tests, NULL, NULL);
}
