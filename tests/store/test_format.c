/* test_format.c - the records as bytes: what is written is read again, every flipped bit and every
 * wrong place is seen, and the files that are on disks today stay readable. */
#include "check.h"

#include "store/catalog_format.h"
#include "store/hash.h"

static struct mx_span span_of(const void *p, size_t n)
{
    return (struct mx_span){.p = p, .n = n};
}

static struct mx_shard_header sample_header(void)
{
    return (struct mx_shard_header){
        .info = {.id = 0x1122334455667788, .tokens = 70000, .documents = 12, .source_bytes = 99,
                 .created_ms = 1700000000000, .width = 2, .blocks = 2,
                 .block_tokens = MX_BLOCK_TOKENS, .max_token = 256, .level = MX_LEVEL_RAW,
                 .digest = {7, 8}},
        .sources = 3, .dictionary_bytes = 0, .groups = 1, .ids = 5,
    };
}

static void test_header(void **state)
{
    struct mx_shard_header h = sample_header(), got;
    uint8_t b[MX_SHARD_HEADER_BYTES];
    uint32_t version;

    (void)state;
    mx_shard_header_encode(&h, b);
    assert_null(mx_shard_header_decode(span_of(b, sizeof b), &got, &version));
    assert_true(same_info(&got.info, &h.info));
    assert_int_equal(got.sources, 3);
    assert_int_equal(got.dictionary_bytes, 0);
    assert_int_equal(got.groups, 1);
    assert_int_equal(got.ids, 5);
    for (size_t n = 0; n < sizeof b; n++) {
        assert_non_null(mx_shard_header_decode(span_of(b, n), &got, &version));
    }
    for (size_t bit = 0; bit < sizeof b * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_non_null(mx_shard_header_decode(span_of(b, sizeof b), &got, &version));
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    mx_store_u32(b + 16, 9);
    assert_non_null(mx_shard_header_decode(span_of(b, sizeof b), &got, &version));
    assert_int_equal(version, 9);
}

/* Fields that can't be, under a checksum that is right: a hostile file, or a bug of ours. */
static void test_header_sense(void **state)
{
    struct mx_shard_header got;
    uint8_t b[MX_SHARD_HEADER_BYTES];
    uint32_t version;

    (void)state;
    for (int i = 0; i < 10; i++) {
        struct mx_shard_header h = sample_header();
        switch (i) {
        case 0: h.info.id = 0; break;
        case 1: h.info.width = 3; break;
        case 2: h.info.blocks = 3; break;
        case 3: h.info.tokens = 0; break;
        case 4: h.info.tokens = UINT64_MAX; break;
        case 5: h.info.documents = 70001; break;
        case 6: h.groups = 13; break;
        case 7: h.info.max_token = 65536; break;
        case 8: h.ids = 13; break;
        default: h.info.block_tokens = 1024; break;
        }
        mx_shard_header_encode(&h, b);
        assert_non_null(mx_shard_header_decode(span_of(b, sizeof b), &got, &version));
        assert_int_equal(version, MX_SHARD_VERSION);
    }
}

static void test_block(void **state)
{
    struct mx_shard_header h = sample_header();
    uint8_t *data = calloc(1, 8928), *b = malloc(10000);
    struct dice d = {51};
    struct mx_block got;
    size_t n;

    (void)state;
    assert_non_null(data);
    assert_non_null(b);
    for (size_t i = 0; i < 8928; i++) {
        data[i] = (uint8_t)roll(&d);
    }
    /* Block 1 of 70,000 tokens has 4,464: two granules and a part. */
    n = mx_block_encode(h.info.id, 1, 4464, MX_CODEC_RAW, data, 8928, b);
    assert_int_equal(n, MX_BLOCK_HEAD_BYTES + 3 * 8 + 8928);
    assert_null(mx_block_decode(&h.info, 1, span_of(b, n), &got));
    assert_true(mx_block_verify(h.info.id, 1, &got, 0, 8928));
    assert_memory_equal(got.data.p, data, 8928);
    assert_false(mx_block_verify(h.info.id, 1, &got, 0, 0));
    assert_false(mx_block_verify(h.info.id, 1, &got, 8928, 1));
    assert_false(mx_block_verify(h.info.id, 1, &got, 8000, 1000));
    assert_non_null(mx_block_decode(&h.info, 0, span_of(b, n), &got));
    h.info.id++;
    assert_non_null(mx_block_decode(&h.info, 1, span_of(b, n), &got));
    h.info.id--;
    for (size_t cut = 0; cut < n; cut++) {
        assert_non_null(mx_block_decode(&h.info, 1, span_of(b, cut), &got));
    }
    for (unsigned i = 0; i < 3000; i++) {
        size_t bit = (size_t)below(&d, n * 8);
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(mx_block_decode(&h.info, 1, span_of(b, n), &got) != NULL ||
                    !mx_block_verify(h.info.id, 1, &got, 0, 8928));
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(data);
    free(b);
}

static void test_group_and_origins(void **state)
{
    uint32_t offsets[MX_GROUP_DOCUMENTS];
    uint8_t b[MX_GROUP_HEAD_BYTES + 4 * MX_GROUP_DOCUMENTS];
    struct dice d = {52};
    struct mx_group g;
    size_t n;

    (void)state;
    for (uint32_t i = 0; i < MX_GROUP_DOCUMENTS; i++) {
        offsets[i] = i * 3;
    }
    n = mx_group_encode(5, 1000, 4001, offsets, MX_GROUP_DOCUMENTS, b);
    assert_int_equal(n, sizeof b);
    assert_true(n + 16 <= 4096); /* one page of LMDB's */
    assert_null(mx_group_decode(5, 1000, span_of(b, n), &g));
    assert_int_equal(mx_group_start(&g, 999), 1000 + 999 * 3);
    assert_int_equal(mx_group_start(&g, 1000), 4001);
    assert_int_equal(mx_group_find(&g, 0), 0);
    assert_int_equal(mx_group_find(&g, 1000), 0);
    assert_int_equal(mx_group_find(&g, 1001), 1);
    assert_int_equal(mx_group_find(&g, 1003), 1);
    assert_int_equal(mx_group_find(&g, 4000), 1000);
    assert_non_null(mx_group_decode(5, 1001, span_of(b, n), &g));
    assert_non_null(mx_group_decode(6, 1000, span_of(b, n), &g));
    for (unsigned i = 0; i < 3000; i++) {
        size_t bit = (size_t)below(&d, n * 8);
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_non_null(mx_group_decode(5, 1000, span_of(b, n), &g));
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* An end before the last start, under a checksum that is right. */
    n = mx_group_encode(5, 1000, 1000, offsets, 1, b);
    assert_non_null(mx_group_decode(5, 1000, span_of(b, n), &g));
    n = mx_group_encode(5, 1000, 1003, offsets, 2, b);
    assert_non_null(mx_group_decode(5, 1000, span_of(b, n), &g));
}

/* The origin of document `index`, or why it can't be had. */
static const char *origin(uint64_t first, uint32_t documents, uint32_t index, struct mx_span v,
                          struct mx_document *ret)
{
    struct mx_origins o;
    const char *why = mx_origins_open(5, first, documents, v, &o);

    while (why == NULL && o.next <= index) {
        why = mx_origins_next(&o, ret);
    }
    return why;
}

static void test_origins(void **state)
{
    struct mx_document docs[3] = {
        {.source = 0, .source_byte = 0, .source_line = 1, .id_len = 3, .id = "a\0b"},
        {.source = UINT32_MAX, .source_byte = UINT64_MAX, .source_line = UINT64_MAX,
         .id_len = MX_DOC_ID_MAX},
        {.source = 128, .source_byte = 127, .source_line = 16384, .id_len = 0},
    };
    uint8_t b[1024];
    struct mx_writer w;
    struct mx_document got = {.first_token = 77};
    size_t n;

    (void)state;
    memset(docs[1].id, 'x', MX_DOC_ID_MAX);
    mx_writer_init(&w, b + MX_ORIGIN_HEAD_BYTES, sizeof b - MX_ORIGIN_HEAD_BYTES);
    for (int i = 0; i < 3; i++) {
        mx_origin_append(&w, &docs[i]);
    }
    n = MX_ORIGIN_HEAD_BYTES + mx_writer_len(&w);
    mx_origin_finish(5, 1000, 3, b, n);
    for (uint32_t i = 0; i < 3; i++) {
        assert_null(origin(1000, 3, i, span_of(b, n), &got));
        assert_int_equal(got.source, docs[i].source);
        assert_int_equal(got.source_byte, docs[i].source_byte);
        assert_int_equal(got.source_line, docs[i].source_line);
        assert_int_equal(got.id_len, docs[i].id_len);
        assert_memory_equal(got.id, docs[i].id, got.id_len + 1);
    }
    assert_int_equal(got.first_token, 77);
    assert_non_null(origin(1000, 4, 0, span_of(b, n), &got));
    assert_non_null(origin(1001, 3, 0, span_of(b, n), &got));
    for (size_t bit = 0; bit < n * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_non_null(origin(1000, 3, 1, span_of(b, n), &got));
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* Bytes after the last origin, and a number that never ends, under right checksums. */
    b[n] = 0;
    mx_origin_finish(5, 1000, 3, b, n + 1);
    assert_non_null(origin(1000, 3, 2, span_of(b, n + 1), &got));
    memset(b + MX_ORIGIN_HEAD_BYTES, 0xff, 64);
    mx_origin_finish(5, 1000, 1, b, 64);
    assert_non_null(origin(1000, 1, 0, span_of(b, 64), &got));
}

static void test_ids(void **state)
{
    struct mx_id_entry e[MX_IDS_ENTRIES];
    uint8_t b[MX_IDS_HEAD_BYTES + MX_IDS_ENTRY_BYTES * MX_IDS_ENTRIES];
    uint64_t ids = 3 * MX_IDS_ENTRIES + 7;
    struct dice d = {53};
    struct mx_ids got;
    size_t n;

    (void)state;
    assert_int_equal(mx_ids_records(0), 0);
    assert_int_equal(mx_ids_records(ids), 4);
    assert_int_equal(mx_ids_records(ids - 7), 3);
    assert_int_equal(mx_ids_records(UINT64_MAX), UINT64_MAX / MX_IDS_ENTRIES + 1);
    assert_int_equal(mx_ids_entries(ids, 2), MX_IDS_ENTRIES);
    assert_int_equal(mx_ids_entries(ids, 3), 7);
    assert_int_equal(mx_ids_entries(ids, 4), 0);
    assert_int_equal(mx_ids_entries(ids - 7, 2), MX_IDS_ENTRIES);
    for (uint32_t i = 0; i < MX_IDS_ENTRIES; i++) {
        e[i] = (struct mx_id_entry){.hash = i / 2 * 1000, .token = 5 + i};
    }
    assert_true(mx_id_order(&e[0], &e[1]) < 0 && mx_id_order(&e[3], &e[0]) > 0);
    assert_true(mx_id_order(&e[1], &e[0]) > 0 && mx_id_order(&e[2], &e[2]) == 0);
    n = mx_ids_encode(5, 1, e, MX_IDS_ENTRIES, b);
    assert_int_equal(n, sizeof b);
    assert_true(n + 16 <= 4096); /* one page of LMDB's */
    assert_null(mx_ids_decode(5, ids, 1, span_of(b, n), &got));
    assert_int_equal(got.n, MX_IDS_ENTRIES);
    assert_int_equal(mx_ids_entry(&got, 253).token, 258);
    assert_int_equal(mx_ids_find(&got, 0), 0);
    assert_int_equal(mx_ids_find(&got, 1), 2);
    assert_int_equal(mx_ids_find(&got, 1000), 2);
    assert_int_equal(mx_ids_find(&got, 126000), 252);
    assert_int_equal(mx_ids_find(&got, 126001), MX_IDS_ENTRIES);
    assert_non_null(mx_ids_decode(6, ids, 1, span_of(b, n), &got));
    assert_non_null(mx_ids_decode(5, ids, 2, span_of(b, n), &got));
    assert_non_null(mx_ids_decode(5, MX_IDS_ENTRIES + 7, 1, span_of(b, n), &got));
    assert_non_null(mx_ids_decode(5, 0, 1, span_of(b, n), &got));
    for (size_t cut = 0; cut < n; cut++) {
        assert_non_null(mx_ids_decode(5, ids, 1, span_of(b, cut), &got));
    }
    for (unsigned i = 0; i < 3000; i++) {
        size_t bit = (size_t)below(&d, n * 8);
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_non_null(mx_ids_decode(5, ids, 1, span_of(b, n), &got));
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* No entries, under a checksum that is right. */
    n = mx_ids_encode(5, 0, e, 0, b);
    assert_non_null(mx_ids_decode(5, 0, 0, span_of(b, n), &got));
}

/* What an id becomes, and that one that was cut stays as it is when it is given again. */
static void test_document_id(void **state)
{
    struct mx_document d, again;
    char id[600];

    (void)state;
    mx_document_set_id(&d, NULL, 0);
    assert_int_equal(d.id_len, 0);
    assert_string_equal(d.id, "");
    mx_document_set_id(&d, "a\0b", 3);
    assert_int_equal(d.id_len, 3);
    assert_memory_equal(d.id, "a\0b", 4);
    memset(id, 'x', sizeof id);
    mx_document_set_id(&d, id, MX_DOC_ID_MAX);
    assert_int_equal(d.id_len, MX_DOC_ID_MAX);
    assert_memory_equal(d.id, id, MX_DOC_ID_MAX);
    mx_document_set_id(&d, id, MX_DOC_ID_MAX + 1);
    assert_int_equal(d.id_len, MX_DOC_ID_MAX);
    assert_int_equal(d.id[238], '~');
    mx_document_set_id(&again, d.id, d.id_len);
    assert_string_equal(again.id, d.id);
    mx_document_set_id(&again, id, MX_DOC_ID_MAX + 2);
    assert_memory_equal(again.id, d.id, 239);
    assert_string_not_equal(again.id, d.id);
    memcpy(id + 236, "\xf0\x9f\x98\x80", 4); /* one character over the cut */
    mx_document_set_id(&d, id, sizeof id);
    assert_int_equal(d.id_len, 236 + 17);
    memset(id, 0x80, sizeof id); /* no beginning of a character anywhere */
    mx_document_set_id(&d, id, sizeof id);
    assert_int_equal(d.id_len, 17);
}

static void test_keys(void **state)
{
    static const enum mx_shard_key_kind kinds[] = {
        MX_KEY_HEADER, MX_KEY_DICTIONARY, MX_KEY_BLOCK, MX_KEY_SOURCE, MX_KEY_GROUP, MX_KEY_ORIGIN,
        MX_KEY_IDS,
    };
    uint8_t a[MX_SHARD_KEY_MAX], b[MX_SHARD_KEY_MAX];
    uint64_t number;

    (void)state;
    for (size_t i = 0; i < 7; i++) {
        size_t n = mx_shard_key(kinds[i], i < 2 ? 0 : 0x01020304, a);
        for (size_t k = 0; k < 7; k++) {
            assert_int_equal(mx_shard_key_parse(span_of(a, n), kinds[k], &number), i == k);
        }
        assert_false(mx_shard_key_parse(span_of(a, n - 1), kinds[i], &number));
    }
    (void)mx_shard_key(MX_KEY_GROUP, 255, a);
    (void)mx_shard_key(MX_KEY_GROUP, 256, b);
    assert_true(memcmp(a, b, sizeof a) < 0);
    assert_int_equal(mx_shard_key(MX_KEY_BLOCK, 0x01020304, a), 5);
    assert_memory_equal(a, "b\1\2\3\4", 5);
}

static void test_catalog_records(void **state)
{
    struct mx_domain d = {.id = 3, .name = "web", .tokenizer = "bytes", .width = 2, .eod = 256,
                          .level = -1000, .shards = 4, .tokens = 5, .documents = 6, .bytes = 7,
                          .source_bytes = 8, .created_ms = 9}, d2;
    struct mx_run_domain domains[2] = {{1, 2}, {3, 4}};
    char config[] = "{\"a\":1}";
    struct mx_run_record r = {.id = 9, .name = "run-1", .created_ms = 5, .config = config,
                              .config_bytes = 7, .k = 2, .domains = domains};
    struct mx_run_view v;
    struct mx_shard_info i = sample_header().info, i2;
    uint8_t b[512], sealed[600];
    struct mx_span payload;
    size_t n;

    (void)state;
    memset(&d2, 0, sizeof d2);
    n = mx_domain_encode(&d, b);
    assert_true(mx_domain_decode(span_of(b, n), &d2));
    assert_string_equal(d2.name, "web");
    assert_int_equal(d2.level, -1000);
    assert_int_equal(d2.created_ms, 9);
    for (size_t cut = 0; cut < n; cut++) {
        assert_false(mx_domain_decode(span_of(b, cut), &d2));
    }
    assert_false(mx_domain_decode(span_of(b, n + 1), &d2));
    mx_shard_info_encode(&i, b);
    assert_true(mx_shard_info_decode(span_of(b, MX_SHARD_INFO_BYTES), &i2));
    assert_true(same_info(&i, &i2));
    assert_false(mx_shard_info_decode(span_of(b, MX_SHARD_INFO_BYTES - 1), &i2));
    n = mx_run_bytes(&r);
    mx_run_encode(&r, b);
    assert_true(mx_run_decode(span_of(b, n), &v));
    assert_int_equal(v.k, 2);
    assert_int_equal(mx_load_u32(v.domains + 12), 4);
    for (size_t cut = 0; cut < n; cut++) {
        assert_false(mx_run_decode(span_of(b, cut), &v));
    }
    mx_store_u64(sealed, mx_seal(MX_TABLE_RUNS, span_of("key", 3), span_of(b, n)));
    memcpy(sealed + 8, b, n);
    assert_true(mx_unseal(MX_TABLE_RUNS, span_of("key", 3), span_of(sealed, n + 8), &payload));
    assert_false(mx_unseal(MX_TABLE_RUNS, span_of("kez", 3), span_of(sealed, n + 8), &payload));
    assert_false(mx_unseal(MX_TABLE_JOURNAL, span_of("key", 3), span_of(sealed, n + 8), &payload));
    assert_false(mx_unseal(MX_TABLE_RUNS, span_of("key", 3), span_of(sealed, 7), &payload));
    for (size_t bit = 0; bit < (n + 8) * 8; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(mx_unseal(MX_TABLE_RUNS, span_of("key", 3), span_of(sealed, n + 8), &payload));
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* Made from docs/disk-format.md by another program. A change makes every store unreadable. */
static void test_golden(void **state)
{
    struct mx_shard_header h = sample_header();
    struct mx_id_entry e[2] = {{0x0107bee4d1a06c89u, 100}, {0x172cb4e59757c814u, 0}};
    struct mx_document left = {.id_len = 4, .id = "left"};
    uint8_t b[MX_SHARD_HEADER_BYTES], ids[MX_IDS_HEAD_BYTES + 2 * MX_IDS_ENTRY_BYTES];
    uint64_t digest[2];

    (void)state;
    assert_int_equal(mx_hash_seed(0x1122334455667788, 'b', 7, 1), 0xa1d05bd8f9de2c38u);
    mx_shard_header_encode(&h, b);
    assert_int_equal(mx_load_u64(b), 0xe17d008ece07c3e1u);
    assert_int_equal(mx_id_hash(&left), e[1].hash);
    assert_int_equal(mx_ids_encode(h.info.id, 0, e, 2, ids), sizeof ids);
    assert_int_equal(mx_load_u64(ids), 0xc758dc48363cf919u);
    assert_int_equal(mx_hash64("mixd", 4, 0), 0xd36ae82fd453166bu);
    mx_hash128("mixd", 4, digest);
    assert_int_equal(digest[0], 0x6eff0f1c8243c9u);
    assert_int_equal(mx_seal(MX_TABLE_JOURNAL, span_of("\0\0\0\1\0\0\0\0\0\0\0\2", 12),
                             span_of("entry", 5)), 0x7e58fbd3dacefd36u);
}

/* Likewise: the catalog's version, a journal's base, a mix and a report. */
static void test_golden_catalog(void **state)
{
    struct mx_store_format f = {.version = MX_CATALOG_FORMAT, .store_id = 0x1122334455667788,
                                .created_ms = 1700000000000};
    uint8_t key[MX_CATALOG_KEY_MAX], b[MX_FORMAT_BYTES];
    size_t n;

    (void)state;
    mx_store_format_encode(&f, b);
    assert_int_equal(mx_seal(MX_TABLE_META, span_of("format", 6), span_of(b, sizeof b)),
                     0xe2efea3e1ff73fccu);
    n = mx_key_u32_u64(1, 0, key);
    mx_store_u64(b, 4097);
    assert_int_equal(mx_seal(MX_TABLE_JOURNAL, span_of(key, n), span_of(b, 8)),
                     0x55efad2acad148b8u);
    n = mx_key_u32_u64(1, 601, key);
    assert_int_equal(mx_seal(MX_TABLE_MIXES, span_of(key, n), span_of("mix", 3)),
                     0x52bc989009ec7068u);
    n = mx_key_u32_u64_u32(1, 300, 7, key);
    assert_int_equal(mx_seal(MX_TABLE_REPORTS, span_of(key, n),
                             span_of("\11\0\0\0\0\0\0\0report", 14)), 0x1081b68605736ae6u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),  cmocka_unit_test(test_header_sense),
        cmocka_unit_test(test_block),   cmocka_unit_test(test_group_and_origins),
        cmocka_unit_test(test_origins), cmocka_unit_test(test_ids),
        cmocka_unit_test(test_document_id), cmocka_unit_test(test_keys),
        cmocka_unit_test(test_catalog_records), cmocka_unit_test(test_golden),
        cmocka_unit_test(test_golden_catalog),
    };
    return cmocka_run_group_tests_name("store-format", tests, NULL, NULL);
}
