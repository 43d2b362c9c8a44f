/* fuzz_shard.c - the bytes of stored records and of whole files, from anywhere.
 *
 * The first byte chooses the record, the second whether its checksum is made right, so that the
 * fuzzer gets past it. Properties: nothing outside of the bytes is touched; what a decoder accepts
 * lies inside of them and within limits.h. */
#include "store/catalog_format.h"
#include "store/hash.h"
#include "store/kv_check.h"
#include "store/shard_format.h"
#include "store/zcodec.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SHARD 0x1122334455667788u

static void mend(uint8_t *p, size_t n, uint64_t seed)
{
    if (n >= 8) {
        mx_store_u64(p, mx_hash64(p + 8, n - 8, seed));
    }
}

static void one_header(uint8_t *p, size_t n, bool right)
{
    struct mx_shard_header h;
    uint32_t version;

    if (right && n >= 32) {
        mend(p, n, mx_hash_seed(mx_load_u64(p + 24), MX_KEY_HEADER, 0, 0));
    }
    if (mx_shard_header_decode((struct mx_span){p, n}, &h, &version) == NULL) {
        uint8_t again[MX_SHARD_HEADER_BYTES];
        mx_shard_header_encode(&h, again);
        MX_REQUIRE(n == sizeof again && memcmp(p, again, n) == 0);
    }
}

static void one_block(uint8_t *p, size_t n, bool right)
{
    struct mx_shard_info i = {.id = SHARD, .tokens = 1000, .width = 2, .blocks = 1,
                              .block_tokens = MX_BLOCK_TOKENS};
    struct mx_zunpacker *z;
    struct mx_block b;

    if (right && n >= MX_BLOCK_HEAD_BYTES) {
        uint64_t sums = mx_load_u32(p + 20);
        if (sums * 8 <= n - MX_BLOCK_HEAD_BYTES) {
            mend(p, (size_t)(MX_BLOCK_HEAD_BYTES + sums * 8), mx_hash_seed(SHARD, 'b', 0, 0));
        }
    }
    if (mx_block_decode(&i, 0, (struct mx_span){p, n}, &b) != NULL) {
        return;
    }
    MX_REQUIRE(b.data.n <= n && b.tokens == 1000);
    (void)!mx_block_verify(SHARD, 0, &b, 0, b.data.n);
    (void)!mx_block_verify(SHARD, 0, &b, b.data.n / 2, b.data.n);
    if (b.codec != MX_CODEC_RAW && mx_zunpacker_new(&z, NULL) == 0) {
        uint8_t out[2000];
        (void)!mx_zunpack(z, NULL, b.data.p, b.data.n, out, sizeof out);
        mx_zunpacker_free(z);
    }
}

static void one_group(uint8_t *p, size_t n, bool right)
{
    struct mx_group g;

    if (right) {
        mend(p, n, mx_hash_seed(SHARD, MX_KEY_GROUP, 500, 0));
    }
    if (mx_group_decode(SHARD, 500, (struct mx_span){p, n}, &g) == NULL) {
        MX_REQUIRE(g.n > 0 && g.n <= MX_GROUP_DOCUMENTS && g.end > 500);
        for (uint32_t i = 0; i <= g.n; i++) {
            MX_REQUIRE(mx_group_find(&g, mx_group_start(&g, i)) <= g.n);
        }
    }
}

static void one_origin(uint8_t *p, size_t n, bool right)
{
    struct mx_origins o;
    struct mx_document d;

    if (right) {
        mend(p, n, mx_hash_seed(SHARD, MX_KEY_ORIGIN, 500, 0));
    }
    if (mx_origins_open(SHARD, 500, 3, (struct mx_span){p, n}, &o) != NULL) {
        return;
    }
    MX_REQUIRE(o.n == 3);
    while (o.next < o.n && mx_origins_next(&o, &d) == NULL) {
        MX_REQUIRE(d.id_len <= MX_DOC_ID_MAX && d.id[d.id_len] == '\0');
    }
}

static void one_ids(uint8_t *p, size_t n, bool right)
{
    uint64_t ids = n >= 12 ? mx_load_u32(p + 8) : 0;
    struct mx_ids r;

    if (right) {
        mend(p, n, mx_hash_seed(SHARD, MX_KEY_IDS, 0, 0));
    }
    if (mx_ids_decode(SHARD, ids, 0, (struct mx_span){p, n}, &r) == NULL) {
        MX_REQUIRE(r.n == ids && r.n > 0 && r.n <= MX_IDS_ENTRIES);
        for (uint32_t i = 0; i < r.n; i++) {
            MX_REQUIRE(mx_ids_find(&r, mx_ids_entry(&r, i).hash) <= r.n);
        }
    }
}

static void one_catalog(uint8_t *p, size_t n)
{
    struct mx_span v = {p, n}, payload;
    struct mx_store_format f;
    struct mx_domain d;
    struct mx_shard_info i;
    struct mx_run_view r;
    char text[64];

    (void)!mx_unseal(MX_TABLE_RUNS, (struct mx_span){p, n < 12 ? n : 12}, v, &payload);
    mx_key_text(MX_TABLE_RUN_NAMES, v, text, sizeof text);
    mx_key_text(MX_TABLE_JOURNAL, v, text, sizeof text);
    (void)!mx_store_format_decode(v, &f);
    if (mx_domain_decode(v, &d)) {
        uint8_t again[MX_DOMAIN_BYTES_MAX];
        MX_REQUIRE(mx_domain_encode(&d, again) == n && memcmp(again, p, n) == 0);
    }
    if (mx_shard_info_decode(v, &i)) {
        uint8_t again[MX_SHARD_INFO_BYTES];
        mx_shard_info_encode(&i, again);
        MX_REQUIRE(n == sizeof again && memcmp(again, p, n) == 0);
    }
    if (mx_run_decode(v, &r)) {
        uint64_t sum = 0;
        for (size_t k = 0; k < (size_t)r.k * 8; k++) {
            sum += r.domains[k];
        }
        MX_REQUIRE(r.config.n <= MX_JSON_MAX && r.name.n <= MX_NAME_MAX &&
                   sum <= (uint64_t)n * 255);
    }
}

/* A whole file as LMDB would get it. */
static void one_file(const uint8_t *p, size_t n)
{
    uint64_t page, bytes = 0;

    if (mx_kv_check(p, n, &page, &bytes) == NULL) {
        MX_REQUIRE(bytes <= n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *p;
    size_t n;
    bool right;

    if (size < 2) {
        return 0;
    }
    n = size - 2;
    right = (data[1] & 1) != 0;
    p = malloc(n > 0 ? n : 1);
    MX_REQUIRE(p != NULL);
    memcpy(p, data + 2, n);
    switch (data[0] % 8) {
    case 0: one_header(p, n, right); break;
    case 1: one_block(p, n, right); break;
    case 2: one_group(p, n, right); break;
    case 3: one_origin(p, n, right); break;
    case 4: one_catalog(p, n); break;
    case 5: one_file(p, n); break;
    case 7: one_ids(p, n, right); break;
    default: {
        struct mx_span v;
        uint64_t number;
        (void)!mx_sealed_decode(SHARD, MX_KEY_SOURCE, 0, (struct mx_span){p, n}, &v);
        (void)!mx_shard_key_parse((struct mx_span){p, n}, MX_KEY_GROUP, &number);
    }
    }
    free(p);
    return 0;
}
