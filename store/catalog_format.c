/* catalog_format.c - see catalog_format.h. */
#include "store/catalog_format.h"

#include "store/hash.h"

#include <inttypes.h>
#include <string.h>

const char *mx_table_name(enum mx_table t)
{
    static const char *const names[] = {
#define MX_TABLE_NAME(id, name) name,
        MX_TABLES(MX_TABLE_NAME)
#undef MX_TABLE_NAME
    };
    return names[t];
}

/* ---- keys ---- */

static void big_endian(uint64_t v, size_t n, uint8_t *ret)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    }
}

static uint64_t from_big_endian(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

size_t mx_key_u32(uint32_t a, uint8_t ret[MX_CATALOG_KEY_MAX])
{
    big_endian(a, 4, ret);
    return 4;
}

size_t mx_key_u64(uint64_t a, uint8_t ret[MX_CATALOG_KEY_MAX])
{
    big_endian(a, 8, ret);
    return 8;
}

size_t mx_key_u32_u32(uint32_t a, uint32_t b, uint8_t ret[MX_CATALOG_KEY_MAX])
{
    big_endian(a, 4, ret);
    big_endian(b, 4, ret + 4);
    return 8;
}

size_t mx_key_u32_u64(uint32_t a, uint64_t b, uint8_t ret[MX_CATALOG_KEY_MAX])
{
    big_endian(a, 4, ret);
    big_endian(b, 8, ret + 4);
    return 12;
}

size_t mx_key_u32_u64_u32(uint32_t a, uint64_t b, uint32_t c, uint8_t ret[MX_CATALOG_KEY_MAX])
{
    size_t n = mx_key_u32_u64(a, b, ret);

    big_endian(c, 4, ret + n);
    return n + 4;
}

bool mx_key_parse_u32_u64(struct mx_span key, uint32_t a, uint64_t *ret)
{
    if (key.n != 12 || from_big_endian(key.p, 4) != a) {
        return false;
    }
    *ret = from_big_endian(key.p + 4, 8);
    return true;
}

void mx_key_text(enum mx_table t, struct mx_span key, char *ret, size_t n)
{
    bool text = t == MX_TABLE_META || t == MX_TABLE_DOMAIN_NAMES || t == MX_TABLE_RUN_NAMES;

    if (text) {
        (void)snprintf(ret, n, "'%.*s'", (int)(key.n > 64 ? 64 : key.n), (const char *)key.p);
    } else if (t == MX_TABLE_FILES && key.n == 8) {
        (void)snprintf(ret, n, "%016" PRIx64, from_big_endian(key.p, 8));
    } else if (key.n == 4) {
        (void)snprintf(ret, n, "%" PRIu64, from_big_endian(key.p, 4));
    } else if (key.n == 8 || key.n == 12) {
        (void)snprintf(ret, n, "%" PRIu64 "/%" PRIu64, from_big_endian(key.p, 4),
                       from_big_endian(key.p + 4, key.n - 4));
    } else if (key.n == 16) {
        (void)snprintf(ret, n, "%" PRIu64 "/%" PRIu64 "/%" PRIu64, from_big_endian(key.p, 4),
                       from_big_endian(key.p + 4, 8), from_big_endian(key.p + 12, 4));
    } else {
        (void)snprintf(ret, n, "with a key of %zu bytes", key.n);
    }
}

/* ---- the seal ---- */

uint64_t mx_seal(enum mx_table t, struct mx_span key, struct mx_span payload)
{
    uint8_t place[640]; /* a table's name, a zero byte and a key of at most 511 bytes */
    const char *name = mx_table_name(t);
    size_t n = strlen(name) + 1;

    MX_REQUIRE(n + key.n <= sizeof place);
    memcpy(place, name, n);
    memcpy(place + n, key.p, key.n);
    return mx_hash64(payload.p, payload.n, mx_hash64(place, n + key.n, 0));
}

bool mx_unseal(enum mx_table t, struct mx_span key, struct mx_span value, struct mx_span *ret)
{
    struct mx_span payload;

    if (value.n < MX_SEAL_BYTES || key.n == 0 || key.n > 511) {
        return false;
    }
    payload = (struct mx_span){.p = value.p + MX_SEAL_BYTES, .n = value.n - MX_SEAL_BYTES};
    if (mx_load_u64(value.p) != mx_seal(t, key, payload)) {
        return false;
    }
    *ret = payload;
    return true;
}

/* ---- payloads ---- */

void mx_store_format_encode(const struct mx_store_format *f, uint8_t ret[MX_FORMAT_BYTES])
{
    mx_store_u32(ret, f->version);
    mx_store_u64(ret + 4, f->store_id);
    mx_store_u64(ret + 12, f->created_ms);
}

bool mx_store_format_decode(struct mx_span v, struct mx_store_format *ret)
{
    if (v.n < MX_FORMAT_BYTES) {
        return false;
    }
    ret->version = mx_load_u32(v.p);
    ret->store_id = mx_load_u64(v.p + 4);
    ret->created_ms = mx_load_u64(v.p + 12);
    return true;
}

static void write_text(struct mx_writer *w, const char *s)
{
    mx_write_str(w, s, strlen(s));
}

/* A string into a field of MX_NAME_MAX + 1 bytes. */
static void read_text(struct mx_reader *r, char *ret)
{
    struct mx_span s = mx_read_str(r, MX_NAME_MAX);

    if (s.n > 0) {
        memcpy(ret, s.p, s.n);
    }
    ret[s.n] = '\0';
    r->failed = r->failed || memchr(ret, '\0', s.n) != NULL;
}

size_t mx_domain_encode(const struct mx_domain *d, uint8_t ret[MX_DOMAIN_BYTES_MAX])
{
    struct mx_writer w;

    mx_writer_init(&w, ret, MX_DOMAIN_BYTES_MAX);
    mx_write_u32(&w, d->id);
    write_text(&w, d->name);
    write_text(&w, d->tokenizer);
    mx_write_u32(&w, d->width);
    mx_write_u32(&w, d->eod);
    mx_write_u32(&w, (uint32_t)d->level);
    mx_write_u32(&w, d->shards);
    mx_write_u64(&w, d->tokens);
    mx_write_u64(&w, d->documents);
    mx_write_u64(&w, d->bytes);
    mx_write_u64(&w, d->source_bytes);
    mx_write_u64(&w, d->created_ms);
    MX_REQUIRE(!w.failed);
    return mx_writer_len(&w);
}

bool mx_domain_decode(struct mx_span v, struct mx_domain *ret)
{
    struct mx_reader r;

    mx_reader_init(&r, v.p, v.n);
    ret->id = mx_read_u32(&r);
    read_text(&r, ret->name);
    read_text(&r, ret->tokenizer);
    ret->width = mx_read_u32(&r);
    ret->eod = mx_read_u32(&r);
    ret->level = (int32_t)mx_read_u32(&r);
    ret->shards = mx_read_u32(&r);
    ret->tokens = mx_read_u64(&r);
    ret->documents = mx_read_u64(&r);
    ret->bytes = mx_read_u64(&r);
    ret->source_bytes = mx_read_u64(&r);
    ret->created_ms = mx_read_u64(&r);
    return mx_reader_done(&r) && ret->id != 0 && (ret->width == 2 || ret->width == 4) &&
           ret->shards <= MX_SHARDS_MAX;
}

void mx_shard_info_encode(const struct mx_shard_info *i, uint8_t ret[MX_SHARD_INFO_BYTES])
{
    struct mx_writer w;

    mx_writer_init(&w, ret, MX_SHARD_INFO_BYTES);
    mx_write_u64(&w, i->id);
    mx_write_u64(&w, i->tokens);
    mx_write_u64(&w, i->documents);
    mx_write_u64(&w, i->bytes);
    mx_write_u64(&w, i->source_bytes);
    mx_write_u64(&w, i->created_ms);
    mx_write_u32(&w, i->width);
    mx_write_u32(&w, i->blocks);
    mx_write_u32(&w, i->block_tokens);
    mx_write_u32(&w, i->max_token);
    mx_write_u32(&w, (uint32_t)i->level);
    mx_write_u64(&w, i->digest[0]);
    mx_write_u64(&w, i->digest[1]);
    MX_REQUIRE(!w.failed && mx_writer_len(&w) == MX_SHARD_INFO_BYTES);
}

bool mx_shard_info_decode(struct mx_span v, struct mx_shard_info *ret)
{
    struct mx_reader r;

    mx_reader_init(&r, v.p, v.n);
    ret->id = mx_read_u64(&r);
    ret->tokens = mx_read_u64(&r);
    ret->documents = mx_read_u64(&r);
    ret->bytes = mx_read_u64(&r);
    ret->source_bytes = mx_read_u64(&r);
    ret->created_ms = mx_read_u64(&r);
    ret->width = mx_read_u32(&r);
    ret->blocks = mx_read_u32(&r);
    ret->block_tokens = mx_read_u32(&r);
    ret->max_token = mx_read_u32(&r);
    ret->level = (int32_t)mx_read_u32(&r);
    ret->digest[0] = mx_read_u64(&r);
    ret->digest[1] = mx_read_u64(&r);
    return mx_reader_done(&r) && ret->id != 0 && (ret->width == 2 || ret->width == 4);
}

size_t mx_run_bytes(const struct mx_run_record *r)
{
    return 4 + 8 + 2 + strlen(r->name) + 4 + r->config_bytes + 4 + (size_t)r->k * 8;
}

void mx_run_encode(const struct mx_run_record *r, uint8_t *ret)
{
    struct mx_writer w;

    mx_writer_init(&w, ret, mx_run_bytes(r));
    mx_write_u32(&w, r->id);
    mx_write_u64(&w, r->created_ms);
    write_text(&w, r->name);
    mx_write_u32(&w, (uint32_t)r->config_bytes);
    mx_write_bytes(&w, r->config, r->config_bytes);
    mx_write_u32(&w, r->k);
    for (uint32_t i = 0; i < r->k; i++) {
        mx_write_u32(&w, r->domains[i].id);
        mx_write_u32(&w, r->domains[i].shards);
    }
    MX_REQUIRE(!w.failed && mx_writer_len(&w) == mx_run_bytes(r));
}

bool mx_run_decode(struct mx_span v, struct mx_run_view *ret)
{
    struct mx_reader r;
    uint32_t config;
    struct mx_span domains;

    mx_reader_init(&r, v.p, v.n);
    ret->id = mx_read_u32(&r);
    ret->created_ms = mx_read_u64(&r);
    ret->name = mx_read_str(&r, MX_NAME_MAX);
    config = mx_read_u32(&r);
    ret->config = mx_read_bytes(&r, config);
    ret->k = mx_read_u32(&r);
    domains = mx_read_rest(&r);
    ret->domains = domains.p;
    return !r.failed && ret->id != 0 && config <= MX_JSON_MAX && ret->k <= MX_DOMAINS_MAX &&
           domains.n == (size_t)ret->k * 8;
}
