/* shard_write.c - writes one shard file (shard.h): blocks, document groups, ids, header; seals it.
 *
 * Happy path: records go into an LMDB environment under the name ID.tmp, committed without syncs
 * every few megabytes to bound memory; sealing sorts and writes the index of ids, which alone grows
 * in memory (16 bytes a document), and the header last, syncs the file, renames it to ID.mxs and
 * syncs the folder. Until then nothing refers to the file, so a crash leaves only a file for the
 * next sweep. One thread. Knows nothing of catalogs or of where tokens come from. */
#include "store/files.h"
#include "store/hash.h"
#include "store/shard_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Tokens are copied as they lie in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "only for little-endian machines");

#define COMMIT_BYTES ((uint64_t)16 << 20) /* what a transaction holds in memory */
#define MAP_BYTES_FIRST ((uint64_t)128 << 20)
#define ORIGINS_ROOM (MX_ORIGIN_HEAD_BYTES + (size_t)MX_GROUP_DOCUMENTS * MX_ORIGIN_BYTES_MAX)

struct mx_shard_writer {
    struct mx_kv *kv;
    struct mx_kv_txn txn;
    int fd; /* holds the lock, and is what is synced at the end */
    char *dir, *temporary, *final;
    struct mx_zpacker *packer; /* NULL for raw */
    struct mx_shard_header header;
    uint64_t uncommitted, written; /* bytes of records */

    uint8_t *block; /* MX_BLOCK_TOKENS * width */
    uint32_t fill;  /* tokens in it */
    uint8_t *packed, *record;
    size_t packed_room;
    uint64_t *sums; /* of the blocks' tokens, for the digest */
    size_t sums_room;

    uint64_t group_first; /* the group in hand; its origins lie encoded in `origins` */
    uint32_t offsets[MX_GROUP_DOCUMENTS];
    uint32_t group_n;
    uint8_t *origins;
    size_t origins_n, origins_before_last;

    struct mx_id_list ids;
    size_t ids_before_last;
    uint32_t last_source; /* where the last document came from */
    uint64_t last_byte;
};

static void writer_free(struct mx_shard_writer *w)
{
    mx_zpacker_free(w->packer);
    free(w->dir);
    free(w->temporary);
    free(w->final);
    free(w->block);
    free(w->packed);
    free(w->record);
    free(w->sums);
    free(w->origins);
    mx_id_list_free(&w->ids);
    free(w);
}

void mx_shard_writer_abort(struct mx_shard_writer *w)
{
    if (w == NULL) {
        return;
    }
    mx_kv_abort(&w->txn);
    mx_kv_close(w->kv);
    if (w->fd >= 0) {
        (void)unlink(w->temporary);
        close(w->fd);
    }
    writer_free(w);
}

static int make_buffers(struct mx_shard_writer *w, const struct mx_shard_options *o,
                        struct mx_err *err)
{
    size_t bytes = (size_t)MX_BLOCK_TOKENS * o->width;
    size_t record = MX_BLOCK_HEAD_BYTES + (size_t)mx_granules(bytes) * 8 + bytes;

    w->packed_room = mx_zpacker_bound(bytes);
    w->block = malloc(bytes);
    w->packed = malloc(w->packed_room);
    w->record = malloc(record > 8 + MX_DICTIONARY_MAX ? record : 8 + MX_DICTIONARY_MAX);
    w->origins = malloc(ORIGINS_ROOM);
    if (w->block == NULL || w->packed == NULL || w->record == NULL || w->origins == NULL) {
        return mx_fail(err, MX_ENOMEM, "out of memory for a shard's buffers");
    }
    if (o->level == MX_LEVEL_RAW) {
        return 0;
    }
    return mx_zpacker_new(o->level, o->dictionary, o->dictionary_bytes, &w->packer, err);
}

/* Makes and locks the temporary file, and remembers both names. */
static int make_file(struct mx_shard_writer *w, struct mx_err *err)
{
    int rc;

    do {
        rc = mx_random_id(&w->header.info.id, err);
        if (rc != 0) {
            return rc;
        }
        free(w->temporary);
        free(w->final);
        w->temporary = mx_store_path(w->dir, w->header.info.id, ".tmp");
        w->final = mx_store_path(w->dir, w->header.info.id, ".mxs");
        if (w->temporary == NULL || w->final == NULL) {
            return mx_fail(err, MX_ENOMEM, "out of memory");
        }
        rc = access(w->final, F_OK) == 0 ? MX_EEXISTS
                                         : mx_file_create_locked(w->temporary, &w->fd, err);
    } while (rc == MX_EEXISTS);
    return rc;
}

static int put(struct mx_shard_writer *w, enum mx_shard_key_kind kind, uint64_t number,
               const void *value, size_t n, struct mx_err *err)
{
    uint8_t key[MX_SHARD_KEY_MAX];
    size_t key_n = mx_shard_key(kind, number, key);
    int rc = mx_kv_put(&w->txn, MX_KV_MAIN, key, key_n, value, n, true, err);

    /* Records of more than half a page take whole pages. */
    w->uncommitted += n > 2000 ? (n + 16 + 4095) / 4096 * 4096 : n + 32;
    if (rc == 0 && w->uncommitted >= COMMIT_BYTES) {
        uint64_t used, size;
        w->written += w->uncommitted;
        w->uncommitted = 0;
        rc = mx_kv_commit(&w->txn, err);
        mx_kv_usage(w->kv, &used, &size);
        if (rc == 0 && size - used < 4 * COMMIT_BYTES) {
            rc = mx_kv_grow(w->kv, size * 2, err);
        }
        if (rc == 0) {
            rc = mx_kv_begin(w->kv, true, &w->txn, err);
        }
    }
    return rc;
}

static int put_dictionary(struct mx_shard_writer *w, const struct mx_shard_options *o,
                          struct mx_err *err)
{
    size_t n;

    if (o->level == MX_LEVEL_RAW || o->dictionary == NULL) {
        return 0;
    }
    n = mx_sealed_encode(w->header.info.id, MX_KEY_DICTIONARY, 0, o->dictionary,
                         o->dictionary_bytes, w->record);
    w->header.dictionary_bytes = (uint32_t)o->dictionary_bytes;
    return put(w, MX_KEY_DICTIONARY, 0, w->record, n, err);
}

int mx_shard_writer_new(const char *dir, const struct mx_shard_options *o,
                        struct mx_shard_writer **ret, struct mx_err *err)
{
    struct mx_kv_options options = {.mode = MX_KV_BUILD, .map_bytes = MAP_BYTES_FIRST};
    struct mx_shard_writer *w;
    int rc;

    if (o->width != 2 && o->width != 4) {
        return mx_fail(err, MX_EINVALID, "a token has 2 or 4 bytes, not %u", o->width);
    }
    if (o->level != MX_LEVEL_RAW && !mx_zlevel_ok(o->level)) {
        return mx_fail(err, MX_EINVALID, "zstd has no level %d", o->level);
    }
    if (o->dictionary_bytes > MX_DICTIONARY_MAX) {
        return mx_fail(err, MX_EINVALID, "a dictionary of %zu bytes is more than %u",
                       o->dictionary_bytes, MX_DICTIONARY_MAX);
    }
    w = calloc(1, sizeof *w);
    if (w == NULL) {
        return mx_fail(err, MX_ENOMEM, "out of memory for a shard's writer");
    }
    w->fd = -1;
    w->header.info.width = o->width;
    w->header.info.level = o->level;
    w->header.info.block_tokens = MX_BLOCK_TOKENS;
    w->header.info.created_ms = mx_wall_ms();
    w->dir = strdup(dir);
    rc = w->dir == NULL ? mx_fail(err, MX_ENOMEM, "out of memory") : make_buffers(w, o, err);
    if (rc == 0) {
        rc = make_file(w, err);
    }
    if (rc == 0) {
        rc = mx_kv_open(w->temporary, &options, &w->kv, err);
    }
    if (rc == 0) {
        rc = mx_kv_begin(w->kv, true, &w->txn, err);
    }
    if (rc == 0) {
        rc = put_dictionary(w, o, err);
    }
    if (rc != 0) {
        mx_shard_writer_abort(w);
        return rc;
    }
    *ret = w;
    return 0;
}

uint64_t mx_shard_writer_id(const struct mx_shard_writer *w)
{
    return w->header.info.id;
}

int mx_shard_writer_source(struct mx_shard_writer *w, const char *path, uint32_t *ret,
                           struct mx_err *err)
{
    size_t n = strlen(path);
    int rc;

    if (n > MX_PATH_MAX) {
        return mx_fail(err, MX_EINVALID, "a source's path has %zu bytes; %u are allowed", n,
                       MX_PATH_MAX);
    }
    n = mx_sealed_encode(w->header.info.id, MX_KEY_SOURCE, w->header.sources, path, n, w->record);
    rc = put(w, MX_KEY_SOURCE, w->header.sources, w->record, n, err);
    if (rc == 0) {
        *ret = w->header.sources++;
    }
    return rc;
}

/* ---- documents ---- */

static int flush_group(struct mx_shard_writer *w, uint64_t end, struct mx_err *err)
{
    uint64_t id = w->header.info.id;
    size_t n;
    int rc;

    if (w->group_n == 0) {
        return 0;
    }
    n = mx_group_encode(id, w->group_first, end, w->offsets, w->group_n, w->record);
    rc = put(w, MX_KEY_GROUP, w->group_first, w->record, n, err);
    if (rc == 0) {
        mx_origin_finish(id, w->group_first, w->group_n, w->origins, w->origins_n);
        rc = put(w, MX_KEY_ORIGIN, w->group_first, w->origins, w->origins_n, err);
    }
    w->group_n = 0;
    w->header.groups++;
    return rc;
}

/* Forgets the last document if no token of it has come. */
static void drop_empty(struct mx_shard_writer *w)
{
    uint64_t at = w->header.info.tokens;

    if (w->group_n > 0 && w->group_first + w->offsets[w->group_n - 1] == at) {
        w->group_n--;
        w->origins_n = w->origins_before_last;
        w->ids.n = w->ids_before_last;
        w->header.info.documents--;
    }
}

int mx_shard_writer_document(struct mx_shard_writer *w, const struct mx_document *doc,
                             struct mx_err *err)
{
    uint64_t at = w->header.info.tokens;
    struct mx_writer out;
    int rc = 0;

    if (doc->source >= w->header.sources || doc->id_len > MX_DOC_ID_MAX) {
        return mx_fail(err, MX_EINVALID, "a document's source %u or id of %u bytes is impossible",
                       doc->source, doc->id_len);
    }
    if (doc->source < w->last_source ||
        (doc->source == w->last_source && doc->source_byte < w->last_byte)) {
        return mx_fail(err, MX_EINVALID,
                       "a document at byte %" PRIu64 " of source %u comes after one at byte %" PRIu64
                       " of source %u", doc->source_byte, doc->source, w->last_byte,
                       w->last_source);
    }
    drop_empty(w);
    if (w->group_n == MX_GROUP_DOCUMENTS ||
        (w->group_n > 0 && at - w->group_first > UINT32_MAX)) {
        rc = flush_group(w, at, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (w->group_n == 0) {
        w->group_first = at;
        w->origins_n = MX_ORIGIN_HEAD_BYTES;
    }
    w->ids_before_last = w->ids.n;
    rc = mx_id_list_add(&w->ids, doc, at, err);
    if (rc != 0) {
        return rc;
    }
    w->last_source = doc->source;
    w->last_byte = doc->source_byte;
    w->offsets[w->group_n++] = (uint32_t)(at - w->group_first);
    w->origins_before_last = w->origins_n;
    mx_writer_init(&out, w->origins + w->origins_n, ORIGINS_ROOM - w->origins_n);
    mx_origin_append(&out, doc);
    MX_REQUIRE(!out.failed);
    w->origins_n += mx_writer_len(&out);
    w->header.info.documents++;
    return 0;
}

/* ---- tokens ---- */

static int keep_sum(struct mx_shard_writer *w, uint64_t sum, struct mx_err *err)
{
    if (w->header.info.blocks == w->sums_room) {
        size_t room = w->sums_room == 0 ? 1024 : w->sums_room * 2;
        uint64_t *p = reallocarray(w->sums, room, sizeof *p);
        if (p == NULL) {
            return mx_fail(err, MX_ENOMEM, "out of memory for %zu block sums", room);
        }
        w->sums = p;
        w->sums_room = room;
    }
    mx_store_u64((uint8_t *)&w->sums[w->header.info.blocks], sum);
    return 0;
}

static int flush_block(struct mx_shard_writer *w, struct mx_err *err)
{
    struct mx_shard_info *i = &w->header.info;
    enum mx_codec codec = MX_CODEC_RAW;
    size_t n = (size_t)w->fill * i->width, packed_n = 0;
    const uint8_t *data = w->block;
    int rc = keep_sum(w, mx_hash64(w->block, n, 0), err);

    if (rc == 0 && w->packer != NULL) {
        rc = mx_zpacker_pack(w->packer, w->block, n, w->packed, w->packed_room, &packed_n, err);
        /* What doesn't shrink is kept raw: it costs no more, and is read without a copy more. */
        if (rc == 0 && packed_n < n) {
            codec = w->header.dictionary_bytes > 0 ? MX_CODEC_ZSTD_DICTIONARY : MX_CODEC_ZSTD;
            data = w->packed;
            n = packed_n;
        }
    }
    if (rc == 0) {
        n = mx_block_encode(i->id, i->blocks, w->fill, codec, data, n, w->record);
        rc = put(w, MX_KEY_BLOCK, i->blocks, w->record, n, err);
    }
    i->blocks++;
    w->fill = 0;
    return rc;
}

static uint32_t largest(const void *tokens, size_t n, uint32_t width)
{
    uint32_t max = 0;

    if (width == 2) {
        const uint16_t *t = tokens;
        uint16_t m = 0;
        for (size_t i = 0; i < n; i++) {
            m = t[i] > m ? t[i] : m;
        }
        max = m;
    } else {
        const uint32_t *t = tokens;
        for (size_t i = 0; i < n; i++) {
            max = t[i] > max ? t[i] : max;
        }
    }
    return max;
}

int mx_shard_writer_tokens(struct mx_shard_writer *w, const void *tokens, size_t n,
                           struct mx_err *err)
{
    struct mx_shard_info *i = &w->header.info;
    const uint8_t *p = tokens;

    if (n > 0 && i->documents == 0) {
        return mx_fail(err, MX_EINVALID, "tokens came before any document");
    }
    while (n > 0) {
        size_t take = n < MX_BLOCK_TOKENS - w->fill ? n : MX_BLOCK_TOKENS - w->fill;
        uint8_t *to = w->block + (size_t)w->fill * i->width;
        uint32_t max;
        memcpy(to, p, take * i->width);
        max = largest(to, take, i->width);
        i->max_token = max > i->max_token ? max : i->max_token;
        i->tokens += take;
        w->fill += (uint32_t)take;
        p += take * i->width;
        n -= take;
        if (w->fill == MX_BLOCK_TOKENS) {
            int rc = flush_block(w, err);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

uint64_t mx_shard_writer_token_count(const struct mx_shard_writer *w)
{
    return w->header.info.tokens;
}

uint64_t mx_shard_writer_document_count(const struct mx_shard_writer *w)
{
    return w->header.info.documents;
}

uint64_t mx_shard_writer_bytes(const struct mx_shard_writer *w)
{
    return w->written + w->uncommitted + (uint64_t)w->fill * w->header.info.width +
           (uint64_t)w->ids.n * MX_IDS_ENTRY_BYTES;
}

void mx_shard_writer_add_source_bytes(struct mx_shard_writer *w, uint64_t n)
{
    w->header.info.source_bytes += n;
}

/* ---- sealing ---- */

static int write_ids(struct mx_shard_writer *w, struct mx_err *err)
{
    uint64_t id = w->header.info.id;
    uint64_t records;
    int rc = 0;

    mx_id_list_sort(&w->ids);
    w->header.ids = w->ids.n;
    records = mx_ids_records(w->header.ids);
    for (uint64_t r = 0; rc == 0 && r < records; r++) {
        size_t n = mx_ids_encode(id, r, w->ids.p + r * MX_IDS_ENTRIES,
                                 mx_ids_entries(w->header.ids, r), w->record);
        rc = put(w, MX_KEY_IDS, r, w->record, n, err);
    }
    return rc;
}

static int write_rest(struct mx_shard_writer *w, struct mx_err *err)
{
    struct mx_shard_info *i = &w->header.info;
    uint8_t header[MX_SHARD_HEADER_BYTES];
    int rc = w->fill > 0 ? flush_block(w, err) : 0;

    if (rc == 0) {
        drop_empty(w);
        rc = flush_group(w, i->tokens, err);
    }
    if (rc == 0 && i->tokens == 0) {
        return mx_fail(err, MX_EINVALID, "a shard without tokens can't be sealed");
    }
    if (rc == 0) {
        rc = write_ids(w, err);
    }
    if (rc == 0) {
        mx_hash128(w->sums, (size_t)i->blocks * 8, i->digest);
        mx_shard_header_encode(&w->header, header);
        rc = put(w, MX_KEY_HEADER, 0, header, sizeof header, err);
    }
    return rc;
}

/* LMDB may leave its last page unwritten if that is free; a sealed file is exactly as long as its
 * map, so that a shorter one is seen to be cut. */
static int sync_file(struct mx_shard_writer *w, uint64_t bytes, struct mx_err *err)
{
    if (ftruncate(w->fd, (off_t)bytes) != 0 || fsync(w->fd) != 0) {
        return mx_fail(err, mx_errno_code(errno), "%s: cannot sync: %s", w->temporary,
                       strerror(errno));
    }
    return 0;
}

int mx_shard_writer_seal(struct mx_shard_writer *w, struct mx_shard_info *ret, struct mx_err *err)
{
    uint64_t map;
    int rc = write_rest(w, err);

    if (rc == 0) {
        rc = mx_kv_commit(&w->txn, err);
    }
    if (rc != 0) {
        mx_shard_writer_abort(w);
        return rc;
    }
    mx_kv_usage(w->kv, &w->header.info.bytes, &map);
    mx_kv_close(w->kv);
    w->kv = NULL;
    rc = sync_file(w, w->header.info.bytes, err);
    if (rc == 0 && rename(w->temporary, w->final) != 0) {
        rc = mx_fail(err, mx_errno_code(errno), "%s: cannot rename: %s", w->temporary,
                     strerror(errno));
    }
    if (rc == 0) {
        rc = mx_dir_sync(w->dir, err);
        if (rc != 0) {
            (void)unlink(w->final);
        }
    }
    if (rc != 0) {
        mx_shard_writer_abort(w);
        return rc;
    }
    *ret = w->header.info;
    close(w->fd);
    writer_free(w);
    return 0;
}
