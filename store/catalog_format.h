/* catalog_format.h - the records of the catalog as bytes: keys, payloads and their seal.
 *
 * docs/disk-format.md is the specification. Payloads are little-endian, numbers in keys big-endian.
 * A stored value is an XXH3-64 of the payload, seeded with an XXH3-64 of the table's name and the
 * key, then the payload. Decoders take any bytes and allocate nothing. Pure; any thread. */
#ifndef MX_STORE_CATALOG_FORMAT_H
#define MX_STORE_CATALOG_FORMAT_H

#include "store/catalog.h"

/* id, the table's name on disk */
#define MX_TABLES(X)                                                                              \
    X(META, "meta")                                                                               \
    X(DOMAINS, "domains")                                                                         \
    X(DOMAIN_NAMES, "domain-names")                                                               \
    X(SHARDS, "shards")                                                                           \
    X(FILES, "files")                                                                             \
    X(DICTIONARIES, "dictionaries")                                                               \
    X(RUNS, "runs")                                                                               \
    X(RUN_NAMES, "run-names")                                                                     \
    X(JOURNAL, "journal")                                                                         \
    X(MIXES, "mixes")                                                                             \
    X(SNAPSHOTS, "snapshots")                                                                     \
    X(REPORTS, "reports")                                                                         \
    X(WITHDRAWALS, "withdrawals")

enum mx_table {
#define MX_TABLE_ENUM(id, name) MX_TABLE_##id,
    MX_TABLES(MX_TABLE_ENUM)
#undef MX_TABLE_ENUM
    MX_TABLE_COUNT
};

const char *mx_table_name(enum mx_table t);

/* Keys of numbers: 4 bytes, 8, 4 and 8, or 4, 8 and 4, big-endian. Text keys are the bytes of the
 * text. */
#define MX_CATALOG_KEY_MAX 16u
size_t mx_key_u32(uint32_t a, uint8_t ret[MX_CATALOG_KEY_MAX]);
size_t mx_key_u64(uint64_t a, uint8_t ret[MX_CATALOG_KEY_MAX]);
size_t mx_key_u32_u32(uint32_t a, uint32_t b, uint8_t ret[MX_CATALOG_KEY_MAX]);
size_t mx_key_u32_u64(uint32_t a, uint64_t b, uint8_t ret[MX_CATALOG_KEY_MAX]);
size_t mx_key_u32_u64_u32(uint32_t a, uint64_t b, uint32_t c, uint8_t ret[MX_CATALOG_KEY_MAX]);
/* The second number of an mx_key_u32_u64 whose first is `a`; false if it is no such key. */
bool mx_key_parse_u32_u64(struct mx_span key, uint32_t a, uint64_t *ret);
/* A key as people read it, for errors. */
void mx_key_text(enum mx_table t, struct mx_span key, char *ret, size_t n);

#define MX_SEAL_BYTES 8u
/* The checksum that goes before a payload. */
uint64_t mx_seal(enum mx_table t, struct mx_span key, struct mx_span payload);
/* The payload of a stored value; false if its checksum is wrong. */
bool mx_unseal(enum mx_table t, struct mx_span key, struct mx_span value, struct mx_span *ret)
    MX_MUST_CHECK;

struct mx_store_format {
    uint32_t version;
    uint64_t store_id;
    uint64_t created_ms;
};
#define MX_FORMAT_BYTES 20u
void mx_store_format_encode(const struct mx_store_format *f, uint8_t ret[MX_FORMAT_BYTES]);
/* Of any version: a later one may be longer. */
bool mx_store_format_decode(struct mx_span v, struct mx_store_format *ret) MX_MUST_CHECK;

#define MX_DOMAIN_BYTES_MAX 256u
size_t mx_domain_encode(const struct mx_domain *d, uint8_t ret[MX_DOMAIN_BYTES_MAX]);
bool mx_domain_decode(struct mx_span v, struct mx_domain *ret) MX_MUST_CHECK;

#define MX_SHARD_INFO_BYTES 84u
void mx_shard_info_encode(const struct mx_shard_info *i, uint8_t ret[MX_SHARD_INFO_BYTES]);
bool mx_shard_info_decode(struct mx_span v, struct mx_shard_info *ret) MX_MUST_CHECK;

/* A run's record, borrowed from its bytes. */
struct mx_run_view {
    uint32_t id;
    uint64_t created_ms;
    struct mx_span name, config;
    uint32_t k;
    const uint8_t *domains; /* k times u32 id, u32 shards */
};
size_t mx_run_bytes(const struct mx_run_record *r);
void mx_run_encode(const struct mx_run_record *r, uint8_t *ret);
bool mx_run_decode(struct mx_span v, struct mx_run_view *ret) MX_MUST_CHECK;

#endif
