/* shard_format.h - the records of a shard file as bytes: encoding and decoding, without LMDB.
 *
 * docs/disk-format.md is the specification. Everything is little-endian but the numbers in keys,
 * which are big-endian so that they sort. Decoders take any bytes, read past no end, allocate
 * nothing, and return NULL or a reason ("its checksum is wrong") to which the caller adds the
 * place. Pure; any thread. */
#ifndef MX_STORE_SHARD_FORMAT_H
#define MX_STORE_SHARD_FORMAT_H

#include "proto/wire.h"
#include "store/shard.h"

#define MX_SHARD_VERSION 2u
#define MX_SHARD_MAGIC "MXSHARD" /* with its zero byte: 8 bytes */
#define MX_SHARD_HEADER_BYTES 128u
#define MX_BLOCK_HEAD_BYTES 24u /* before the table of sums */
#define MX_GROUP_HEAD_BYTES 24u
#define MX_IDS_HEAD_BYTES 16u
#define MX_IDS_ENTRY_BYTES 16u
#define MX_ORIGIN_BYTES_MAX (5u + 10u + 10u + 2u + MX_DOC_ID_MAX)

/* ---- keys ---- */
enum mx_shard_key_kind {
    MX_KEY_HEADER = 'h',
    MX_KEY_DICTIONARY = 'd',
    MX_KEY_BLOCK = 'b',  /* and its number, 4 bytes */
    MX_KEY_SOURCE = 's', /* and its number, 4 bytes */
    MX_KEY_GROUP = 'g',  /* and its first token, 8 bytes */
    MX_KEY_ORIGIN = 'o', /* likewise */
    MX_KEY_IDS = 'i',    /* and its number, 8 bytes */
};
#define MX_SHARD_KEY_MAX 9u

/* Writes the key, returns its length. */
size_t mx_shard_key(enum mx_shard_key_kind kind, uint64_t number, uint8_t ret[MX_SHARD_KEY_MAX]);
/* True if it is a key of that kind; its number then. */
bool mx_shard_key_parse(struct mx_span key, enum mx_shard_key_kind kind, uint64_t *ret);

/* ---- header ---- */
struct mx_shard_header {
    struct mx_shard_info info; /* but for info.bytes, which no file can hold about itself */
    uint32_t sources;
    uint32_t dictionary_bytes;
    uint64_t groups;
    uint64_t ids; /* documents that have an id */
};

void mx_shard_header_encode(const struct mx_shard_header *h, uint8_t ret[MX_SHARD_HEADER_BYTES]);
/* *ret_version is set when the reason is another version of the format. */
const char *mx_shard_header_decode(struct mx_span v, struct mx_shard_header *ret,
                                   uint32_t *ret_version) MX_MUST_CHECK;

/* ---- blocks ---- */
enum mx_codec { MX_CODEC_RAW = 0, MX_CODEC_ZSTD = 1, MX_CODEC_ZSTD_DICTIONARY = 2 };

struct mx_block {
    uint32_t tokens;
    uint32_t codec;
    uint32_t sums;        /* raw: one for each granule; compressed: one */
    const uint8_t *table; /* sums * 8 bytes, borrowed */
    struct mx_span data;  /* as stored, borrowed */
};

/* How many granules n bytes have. */
uint32_t mx_granules(size_t n);
/* The tokens that block `number` of such a shard holds. */
uint32_t mx_block_tokens(const struct mx_shard_info *i, uint32_t number);
/* Lays head, sums and data into ret, which has room for MX_BLOCK_HEAD_BYTES, 8 bytes a granule (or
 * once 8, compressed) and n; returns the length. */
size_t mx_block_encode(uint64_t shard, uint32_t number, uint32_t tokens, enum mx_codec codec,
                       const void *data, size_t n, uint8_t *ret);
/* Checks everything but the data's own sums; for raw blocks also that the data is as long as the
 * tokens say. */
const char *mx_block_decode(const struct mx_shard_info *i, uint32_t number, struct mx_span v,
                            struct mx_block *ret) MX_MUST_CHECK;
/* Checks the sums of data bytes [from, from + n) of a raw block, n > 0, or all of a compressed
 * one's. False: some are wrong. */
bool mx_block_verify(uint64_t shard, uint32_t number, const struct mx_block *b, size_t from,
                     size_t n) MX_MUST_CHECK;

/* ---- document groups: where documents start ---- */
struct mx_group {
    uint64_t first, end;    /* tokens */
    uint32_t n;             /* documents, 1 .. MX_GROUP_DOCUMENTS */
    const uint8_t *offsets; /* n times u32 from `first`, rising, the first one 0; borrowed */
};

/* ret has room for MX_GROUP_HEAD_BYTES + 4 n; returns the length. */
size_t mx_group_encode(uint64_t shard, uint64_t first, uint64_t end, const uint32_t *offsets,
                       uint32_t n, uint8_t *ret);
const char *mx_group_decode(uint64_t shard, uint64_t first, struct mx_span v,
                            struct mx_group *ret) MX_MUST_CHECK;
/* Token at which document i of it starts; at which it ends if i is n. */
uint64_t mx_group_start(const struct mx_group *g, uint32_t i);
/* The first document of it that starts at or after a token; n if none. */
uint32_t mx_group_find(const struct mx_group *g, uint64_t token);

/* ---- origins: where the same documents came from ---- */
/* Appends one document's origin to w. */
void mx_origin_append(struct mx_writer *w, const struct mx_document *d);
/* Fills in the head of a record whose origins lie from byte 12 on; n is its whole length. */
#define MX_ORIGIN_HEAD_BYTES 12u
void mx_origin_finish(uint64_t shard, uint64_t first, uint32_t documents, uint8_t *p, size_t n);

/* A checked record, read from its first origin on; borrows the record. A copy reads on by
 * itself. */
struct mx_origins {
    struct mx_reader r;
    uint32_t n, next; /* how many, and which one comes next */
};

const char *mx_origins_open(uint64_t shard, uint64_t first, uint32_t documents, struct mx_span v,
                            struct mx_origins *ret) MX_MUST_CHECK;
/* The next one, next < n, into *ret, whose first_token and tokens are left alone. The last one also
 * checks that nothing follows. */
const char *mx_origins_next(struct mx_origins *o, struct mx_document *ret) MX_MUST_CHECK;

/* ---- the index of ids ---- */
struct mx_id_entry {
    uint64_t hash;  /* of the id as it is stored */
    uint64_t token; /* at which the document begins */
};

struct mx_ids {
    uint32_t n;             /* entries, 1 .. MX_IDS_ENTRIES */
    const uint8_t *entries; /* borrowed */
};

uint64_t mx_id_hash(const struct mx_document *d);
/* Below, at or above zero: how the index orders two entries. */
int mx_id_order(const struct mx_id_entry *a, const struct mx_id_entry *b);
/* How many records an index of so many entries has. */
uint64_t mx_ids_records(uint64_t ids);
/* The entries that record `number` of it holds: all have MX_IDS_ENTRIES but the last. */
uint32_t mx_ids_entries(uint64_t ids, uint64_t number);
/* ret has room for MX_IDS_HEAD_BYTES + MX_IDS_ENTRY_BYTES n; returns the length. */
size_t mx_ids_encode(uint64_t shard, uint64_t number, const struct mx_id_entry *e, uint32_t n,
                     uint8_t *ret);
const char *mx_ids_decode(uint64_t shard, uint64_t ids, uint64_t number, struct mx_span v,
                          struct mx_ids *ret) MX_MUST_CHECK;
struct mx_id_entry mx_ids_entry(const struct mx_ids *r, uint32_t i);
/* The first entry with a hash of at least that; n if none. */
uint32_t mx_ids_find(const struct mx_ids *r, uint64_t hash);

/* ---- sources and dictionary: a checksum and the bytes ---- */
/* ret has room for 8 + n bytes; returns the length. */
size_t mx_sealed_encode(uint64_t shard, enum mx_shard_key_kind kind, uint64_t number, const void *p,
                        size_t n, uint8_t *ret);
const char *mx_sealed_decode(uint64_t shard, enum mx_shard_key_kind kind, uint64_t number,
                             struct mx_span v, struct mx_span *ret) MX_MUST_CHECK;

#endif
