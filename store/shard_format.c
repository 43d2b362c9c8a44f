/* shard_format.c - see shard_format.h. Knows bytes and checksums; no files, no LMDB, no zstd. */
#include "store/shard_format.h"

#include "store/hash.h"

#include <inttypes.h>
#include <string.h>

static const char wrong_sum[] = "its checksum is wrong";
static const char wrong_length[] = "its length is wrong";

size_t mx_shard_key(enum mx_shard_key_kind kind, uint64_t number, uint8_t ret[MX_SHARD_KEY_MAX])
{
    size_t n = 0;

    ret[0] = (uint8_t)kind;
    switch (kind) {
    case MX_KEY_HEADER:
    case MX_KEY_DICTIONARY: n = 0; break;
    case MX_KEY_BLOCK:
    case MX_KEY_SOURCE: n = 4; break;
    case MX_KEY_GROUP:
    case MX_KEY_ORIGIN:
    case MX_KEY_IDS: n = 8; break;
    }
    for (size_t i = 0; i < n; i++) {
        ret[1 + i] = (uint8_t)(number >> (8 * (n - 1 - i)));
    }
    return 1 + n;
}

bool mx_shard_key_parse(struct mx_span key, enum mx_shard_key_kind kind, uint64_t *ret)
{
    uint8_t same[MX_SHARD_KEY_MAX];
    uint64_t number = 0;

    if (key.n < 1 || key.n > MX_SHARD_KEY_MAX) {
        return false;
    }
    for (size_t i = 1; i < key.n; i++) {
        number = number << 8 | key.p[i];
    }
    if (mx_shard_key(kind, number, same) != key.n || memcmp(same, key.p, key.n) != 0) {
        return false;
    }
    *ret = number;
    return true;
}

/* Records begin with the checksum of all that follows. */
static void put_sum(uint8_t *p, size_t n, uint64_t seed)
{
    mx_store_u64(p, mx_hash64(p + 8, n - 8, seed));
}

static bool sum_ok(const uint8_t *p, size_t n, uint64_t seed)
{
    return mx_load_u64(p) == mx_hash64(p + 8, n - 8, seed);
}

/* ---- header ---- */

void mx_shard_header_encode(const struct mx_shard_header *h, uint8_t ret[MX_SHARD_HEADER_BYTES])
{
    const struct mx_shard_info *i = &h->info;
    struct mx_writer w;

    mx_writer_init(&w, ret, MX_SHARD_HEADER_BYTES);
    mx_write_u64(&w, 0);
    mx_write_bytes(&w, MX_SHARD_MAGIC, sizeof MX_SHARD_MAGIC);
    mx_write_u32(&w, MX_SHARD_VERSION);
    mx_write_u32(&w, MX_SHARD_HEADER_BYTES);
    mx_write_u64(&w, i->id);
    mx_write_u64(&w, i->tokens);
    mx_write_u64(&w, i->documents);
    mx_write_u64(&w, i->source_bytes);
    mx_write_u64(&w, i->created_ms);
    mx_write_u32(&w, i->width);
    mx_write_u32(&w, i->blocks);
    mx_write_u32(&w, i->block_tokens);
    mx_write_u32(&w, i->max_token);
    mx_write_u32(&w, (uint32_t)i->level);
    mx_write_u32(&w, MX_GRANULE_BYTES);
    mx_write_u32(&w, h->sources);
    mx_write_u32(&w, h->dictionary_bytes);
    mx_write_u64(&w, i->digest[0]);
    mx_write_u64(&w, i->digest[1]);
    mx_write_u64(&w, h->groups);
    mx_write_u64(&w, h->ids);
    MX_REQUIRE(!w.failed && mx_writer_len(&w) == MX_SHARD_HEADER_BYTES);
    put_sum(ret, MX_SHARD_HEADER_BYTES, mx_hash_seed(i->id, MX_KEY_HEADER, 0, 0));
}

static const char *header_sense(const struct mx_shard_header *h, uint32_t granule)
{
    const struct mx_shard_info *i = &h->info;

    if (i->id == 0) {
        return "its id is 0";
    }
    if (i->width != 2 && i->width != 4) {
        return "its token width is neither 2 nor 4";
    }
    if (i->block_tokens != MX_BLOCK_TOKENS || granule != MX_GRANULE_BYTES) {
        return "its block or granule size is not this version's";
    }
    if (i->tokens == 0 || i->tokens > (uint64_t)UINT32_MAX * MX_BLOCK_TOKENS ||
        i->blocks != (i->tokens + MX_BLOCK_TOKENS - 1) / MX_BLOCK_TOKENS) {
        return "its tokens don't make its number of blocks";
    }
    if (i->documents == 0 || i->documents > i->tokens || h->groups == 0 ||
        h->groups > i->documents || h->ids > i->documents) {
        return "its number of documents is impossible";
    }
    if (i->width == 2 && i->max_token > UINT16_MAX) {
        return "its largest token doesn't fit its width";
    }
    if (h->dictionary_bytes > MX_DICTIONARY_MAX) {
        return "its dictionary is too large";
    }
    return NULL;
}

const char *mx_shard_header_decode(struct mx_span v, struct mx_shard_header *ret,
                                   uint32_t *ret_version)
{
    struct mx_reader r;
    struct mx_shard_info *i = &ret->info;
    struct mx_span magic;
    uint32_t version, bytes, granule;
    const char *why;

    *ret_version = MX_SHARD_VERSION;
    memset(ret, 0, sizeof *ret);
    mx_reader_init(&r, v.p, v.n);
    (void)mx_read_u64(&r);
    magic = mx_read_bytes(&r, sizeof MX_SHARD_MAGIC);
    version = mx_read_u32(&r);
    bytes = mx_read_u32(&r);
    if (r.failed || memcmp(magic.p, MX_SHARD_MAGIC, sizeof MX_SHARD_MAGIC) != 0) {
        return "it has no mixd shard's magic";
    }
    if (version != MX_SHARD_VERSION) {
        *ret_version = version;
        return "it has another version";
    }
    if (v.n != MX_SHARD_HEADER_BYTES || bytes != MX_SHARD_HEADER_BYTES) {
        return wrong_length;
    }
    i->id = mx_read_u64(&r);
    i->tokens = mx_read_u64(&r);
    i->documents = mx_read_u64(&r);
    i->source_bytes = mx_read_u64(&r);
    i->created_ms = mx_read_u64(&r);
    i->width = mx_read_u32(&r);
    i->blocks = mx_read_u32(&r);
    i->block_tokens = mx_read_u32(&r);
    i->max_token = mx_read_u32(&r);
    i->level = (int32_t)mx_read_u32(&r);
    granule = mx_read_u32(&r);
    ret->sources = mx_read_u32(&r);
    ret->dictionary_bytes = mx_read_u32(&r);
    i->digest[0] = mx_read_u64(&r);
    i->digest[1] = mx_read_u64(&r);
    ret->groups = mx_read_u64(&r);
    ret->ids = mx_read_u64(&r);
    if (!mx_reader_done(&r) || !sum_ok(v.p, v.n, mx_hash_seed(i->id, MX_KEY_HEADER, 0, 0))) {
        return wrong_sum;
    }
    why = header_sense(ret, granule);
    return why;
}

/* ---- blocks ---- */

uint32_t mx_granules(size_t n)
{
    return (uint32_t)((n + MX_GRANULE_BYTES - 1) / MX_GRANULE_BYTES);
}

uint32_t mx_block_tokens(const struct mx_shard_info *i, uint32_t number)
{
    uint64_t before = (uint64_t)number * MX_BLOCK_TOKENS;

    if (before >= i->tokens) {
        return 0;
    }
    return i->tokens - before < MX_BLOCK_TOKENS ? (uint32_t)(i->tokens - before) : MX_BLOCK_TOKENS;
}

/* Bytes that sum number s of a block covers. */
static size_t covered(enum mx_codec codec, size_t n, uint32_t s, size_t *ret_from)
{
    size_t from = codec == MX_CODEC_RAW ? (size_t)s * MX_GRANULE_BYTES : 0;

    *ret_from = from;
    return codec == MX_CODEC_RAW && n - from > MX_GRANULE_BYTES ? MX_GRANULE_BYTES : n - from;
}

size_t mx_block_encode(uint64_t shard, uint32_t number, uint32_t tokens, enum mx_codec codec,
                       const void *data, size_t n, uint8_t *ret)
{
    const uint8_t *p = data;
    uint32_t sums = codec == MX_CODEC_RAW ? mx_granules(n) : 1;
    size_t head = MX_BLOCK_HEAD_BYTES + (size_t)sums * 8, from, len;

    mx_store_u32(ret + 8, tokens);
    mx_store_u32(ret + 12, codec);
    mx_store_u32(ret + 16, (uint32_t)n);
    mx_store_u32(ret + 20, sums);
    for (uint32_t s = 0; s < sums; s++) {
        len = covered(codec, n, s, &from);
        mx_store_u64(ret + MX_BLOCK_HEAD_BYTES + (size_t)s * 8,
                     mx_hash64(p + from, len, mx_hash_seed(shard, MX_KEY_BLOCK, number, 1 + s)));
    }
    put_sum(ret, head, mx_hash_seed(shard, MX_KEY_BLOCK, number, 0));
    memcpy(ret + head, p, n);
    return head + n;
}

const char *mx_block_decode(const struct mx_shard_info *i, uint32_t number, struct mx_span v,
                            struct mx_block *ret)
{
    size_t head, bytes;
    uint32_t stored;

    if (v.n < MX_BLOCK_HEAD_BYTES) {
        return wrong_length;
    }
    ret->tokens = mx_load_u32(v.p + 8);
    ret->codec = mx_load_u32(v.p + 12);
    stored = mx_load_u32(v.p + 16);
    ret->sums = mx_load_u32(v.p + 20);
    if (ret->sums > (v.n - MX_BLOCK_HEAD_BYTES) / 8) {
        return wrong_length;
    }
    head = MX_BLOCK_HEAD_BYTES + (size_t)ret->sums * 8;
    if (stored != v.n - head) {
        return wrong_length;
    }
    if (!sum_ok(v.p, head, mx_hash_seed(i->id, MX_KEY_BLOCK, number, 0))) {
        return wrong_sum;
    }
    if (ret->tokens == 0 || ret->tokens != mx_block_tokens(i, number)) {
        return "its number of tokens is wrong";
    }
    bytes = (size_t)ret->tokens * i->width;
    if (ret->codec == MX_CODEC_RAW) {
        if (stored != bytes || ret->sums != mx_granules(bytes)) {
            return wrong_length;
        }
    } else if (ret->codec == MX_CODEC_ZSTD || ret->codec == MX_CODEC_ZSTD_DICTIONARY) {
        if (ret->sums != 1 || stored == 0) {
            return wrong_length;
        }
    } else {
        return "its codec is unknown";
    }
    ret->table = v.p + MX_BLOCK_HEAD_BYTES;
    ret->data = (struct mx_span){.p = v.p + head, .n = stored};
    return NULL;
}

bool mx_block_verify(uint64_t shard, uint32_t number, const struct mx_block *b, size_t from,
                     size_t n)
{
    enum mx_codec codec = (enum mx_codec)b->codec;
    bool raw = codec == MX_CODEC_RAW;
    uint32_t first, last;

    if (n == 0 || from >= b->data.n || n > b->data.n - from) {
        return false;
    }
    first = raw ? (uint32_t)(from / MX_GRANULE_BYTES) : 0;
    last = raw ? (uint32_t)((from + n - 1) / MX_GRANULE_BYTES) : 0;
    for (uint32_t s = first; s <= last; s++) {
        size_t at, len = covered(codec, b->data.n, s, &at);
        uint64_t seed = mx_hash_seed(shard, MX_KEY_BLOCK, number, 1 + s);
        if (mx_hash64(b->data.p + at, len, seed) != mx_load_u64(b->table + (size_t)s * 8)) {
            return false;
        }
    }
    return true;
}

/* ---- document groups ---- */

size_t mx_group_encode(uint64_t shard, uint64_t first, uint64_t end, const uint32_t *offsets,
                       uint32_t n, uint8_t *ret)
{
    size_t bytes = MX_GROUP_HEAD_BYTES + (size_t)n * 4;

    mx_store_u64(ret + 8, end);
    mx_store_u32(ret + 16, n);
    mx_store_u32(ret + 20, 0);
    for (uint32_t i = 0; i < n; i++) {
        mx_store_u32(ret + MX_GROUP_HEAD_BYTES + (size_t)i * 4, offsets[i]);
    }
    put_sum(ret, bytes, mx_hash_seed(shard, MX_KEY_GROUP, first, 0));
    return bytes;
}

const char *mx_group_decode(uint64_t shard, uint64_t first, struct mx_span v,
                            struct mx_group *ret)
{
    if (v.n < MX_GROUP_HEAD_BYTES) {
        return wrong_length;
    }
    if (!sum_ok(v.p, v.n, mx_hash_seed(shard, MX_KEY_GROUP, first, 0))) {
        return wrong_sum;
    }
    ret->first = first;
    ret->end = mx_load_u64(v.p + 8);
    ret->n = mx_load_u32(v.p + 16);
    ret->offsets = v.p + MX_GROUP_HEAD_BYTES;
    if (ret->n == 0 || ret->n > MX_GROUP_DOCUMENTS ||
        v.n != MX_GROUP_HEAD_BYTES + (size_t)ret->n * 4 || mx_load_u32(v.p + 20) != 0) {
        return wrong_length;
    }
    /* Rising offsets below the end are the writer's promise, which the checksum carries. */
    if (ret->end <= first || mx_load_u32(ret->offsets) != 0 ||
        mx_group_start(ret, ret->n - 1) >= ret->end) {
        return "its documents lie outside of it";
    }
    return NULL;
}

uint64_t mx_group_start(const struct mx_group *g, uint32_t i)
{
    return i >= g->n ? g->end : g->first + mx_load_u32(g->offsets + (size_t)i * 4);
}

uint32_t mx_group_find(const struct mx_group *g, uint64_t token)
{
    uint32_t low = 0, high = g->n;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (mx_group_start(g, mid) < token) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* ---- origins ---- */

/* Seven bits a byte, the low ones first, the top bit says that more follow. */
static void write_varint(struct mx_writer *w, uint64_t v)
{
    while (v >= 0x80) {
        mx_write_u8(w, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    mx_write_u8(w, (uint8_t)v);
}

static uint64_t read_varint(struct mx_reader *r)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = mx_read_u8(r);
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            return v;
        }
    }
    r->failed = true;
    return 0;
}

void mx_origin_append(struct mx_writer *w, const struct mx_document *d)
{
    write_varint(w, d->source);
    write_varint(w, d->source_byte);
    write_varint(w, d->source_line);
    write_varint(w, d->id_len);
    mx_write_bytes(w, d->id, d->id_len);
}

void mx_origin_finish(uint64_t shard, uint64_t first, uint32_t documents, uint8_t *p, size_t n)
{
    MX_REQUIRE(n >= MX_ORIGIN_HEAD_BYTES);
    mx_store_u32(p + 8, documents);
    put_sum(p, n, mx_hash_seed(shard, MX_KEY_ORIGIN, first, 0));
}

const char *mx_origins_open(uint64_t shard, uint64_t first, uint32_t documents, struct mx_span v,
                            struct mx_origins *ret)
{
    if (v.n < MX_ORIGIN_HEAD_BYTES) {
        return wrong_length;
    }
    if (!sum_ok(v.p, v.n, mx_hash_seed(shard, MX_KEY_ORIGIN, first, 0))) {
        return wrong_sum;
    }
    if (mx_load_u32(v.p + 8) != documents) {
        return "it describes another number of documents than its group";
    }
    ret->n = documents;
    ret->next = 0;
    mx_reader_init(&ret->r, v.p + MX_ORIGIN_HEAD_BYTES, v.n - MX_ORIGIN_HEAD_BYTES);
    return NULL;
}

const char *mx_origins_next(struct mx_origins *o, struct mx_document *ret)
{
    struct mx_reader *r = &o->r;
    uint64_t source = read_varint(r), byte = read_varint(r), line = read_varint(r);
    uint64_t id_len = read_varint(r);
    struct mx_span id = mx_read_bytes(r, id_len > MX_DOC_ID_MAX ? SIZE_MAX : (size_t)id_len);

    MX_REQUIRE(o->next < o->n);
    if (r->failed || source > UINT32_MAX) {
        return "it makes no sense";
    }
    if (++o->next == o->n && !mx_reader_done(r)) {
        return wrong_length;
    }
    ret->source = (uint32_t)source;
    ret->source_byte = byte;
    ret->source_line = line;
    ret->id_len = (uint32_t)id.n;
    memcpy(ret->id, id.p, id.n);
    ret->id[id.n] = '\0';
    return NULL;
}

/* ---- ids ---- */

void mx_document_set_id(struct mx_document *d, const void *id, size_t n)
{
    const uint8_t *p = id;
    size_t keep = n;

    if (n > MX_DOC_ID_MAX) {
        keep = MX_DOC_ID_MAX - 17;
        while (keep > 0 && (p[keep] & 0xc0) == 0x80) {
            keep--;
        }
    }
    if (keep > 0) {
        memcpy(d->id, p, keep);
    }
    if (keep < n) {
        keep += (size_t)snprintf(d->id + keep, 18, "~%016" PRIx64, mx_hash64(p, n, 0));
    }
    d->id[keep] = '\0';
    d->id_len = (uint32_t)keep;
}

uint64_t mx_id_hash(const struct mx_document *d)
{
    return mx_hash64(d->id, d->id_len, 0);
}

int mx_id_order(const struct mx_id_entry *a, const struct mx_id_entry *b)
{
    if (a->hash != b->hash) {
        return a->hash < b->hash ? -1 : 1;
    }
    return (a->token > b->token) - (a->token < b->token);
}

uint64_t mx_ids_records(uint64_t ids)
{
    return ids / MX_IDS_ENTRIES + (ids % MX_IDS_ENTRIES != 0 ? 1 : 0);
}

uint32_t mx_ids_entries(uint64_t ids, uint64_t number)
{
    if (number >= mx_ids_records(ids)) {
        return 0;
    }
    return number < ids / MX_IDS_ENTRIES ? MX_IDS_ENTRIES : (uint32_t)(ids % MX_IDS_ENTRIES);
}

size_t mx_ids_encode(uint64_t shard, uint64_t number, const struct mx_id_entry *e, uint32_t n,
                     uint8_t *ret)
{
    size_t bytes = MX_IDS_HEAD_BYTES + (size_t)n * MX_IDS_ENTRY_BYTES;

    mx_store_u32(ret + 8, n);
    mx_store_u32(ret + 12, 0);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *to = ret + MX_IDS_HEAD_BYTES + (size_t)i * MX_IDS_ENTRY_BYTES;
        mx_store_u64(to, e[i].hash);
        mx_store_u64(to + 8, e[i].token);
    }
    put_sum(ret, bytes, mx_hash_seed(shard, MX_KEY_IDS, number, 0));
    return bytes;
}

const char *mx_ids_decode(uint64_t shard, uint64_t ids, uint64_t number, struct mx_span v,
                          struct mx_ids *ret)
{
    if (v.n < MX_IDS_HEAD_BYTES) {
        return wrong_length;
    }
    if (!sum_ok(v.p, v.n, mx_hash_seed(shard, MX_KEY_IDS, number, 0))) {
        return wrong_sum;
    }
    ret->n = mx_load_u32(v.p + 8);
    ret->entries = v.p + MX_IDS_HEAD_BYTES;
    if (ret->n == 0 || ret->n != mx_ids_entries(ids, number) || mx_load_u32(v.p + 12) != 0 ||
        v.n != MX_IDS_HEAD_BYTES + (size_t)ret->n * MX_IDS_ENTRY_BYTES) {
        return wrong_length;
    }
    return NULL;
}

struct mx_id_entry mx_ids_entry(const struct mx_ids *r, uint32_t i)
{
    const uint8_t *p = r->entries + (size_t)i * MX_IDS_ENTRY_BYTES;

    return (struct mx_id_entry){.hash = mx_load_u64(p), .token = mx_load_u64(p + 8)};
}

uint32_t mx_ids_find(const struct mx_ids *r, uint64_t hash)
{
    uint32_t low = 0, high = r->n;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (mx_ids_entry(r, mid).hash < hash) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* ---- sources and dictionary ---- */

size_t mx_sealed_encode(uint64_t shard, enum mx_shard_key_kind kind, uint64_t number, const void *p,
                        size_t n, uint8_t *ret)
{
    memcpy(ret + 8, p, n);
    put_sum(ret, 8 + n, mx_hash_seed(shard, (char)kind, number, 0));
    return 8 + n;
}

const char *mx_sealed_decode(uint64_t shard, enum mx_shard_key_kind kind, uint64_t number,
                             struct mx_span v, struct mx_span *ret)
{
    if (v.n < 8) {
        return wrong_length;
    }
    if (!sum_ok(v.p, v.n, mx_hash_seed(shard, (char)kind, number, 0))) {
        return wrong_sum;
    }
    *ret = (struct mx_span){.p = v.p + 8, .n = v.n - 8};
    return NULL;
}
