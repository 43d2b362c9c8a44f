/* shard_verify.c - reads a shard as a whole and checks that its parts agree (shard.h).
 *
 * Each record is checked where it is read, as in any other call; here also what no single record
 * can say of itself: the digest, the largest token, the order of documents, that there are as many
 * as the header says, and that the index of ids is just what the documents make. */
#include "store/hash.h"
#include "store/shard_impl.h"

#include <string.h>

struct verify {
    uint8_t *block;
    uint64_t *sums;
    struct mx_zunpacker *z;
};

static int verify_blocks(const struct mx_shard *s, struct verify *v,
                         void (*progress)(void *arg, uint32_t block), void *arg,
                         struct mx_err *err)
{
    const struct mx_shard_info *i = &s->header.info;
    uint64_t digest[2];
    uint32_t max = 0;

    for (uint32_t b = 0; b < i->blocks; b++) {
        uint32_t n = mx_block_tokens(i, b);
        int rc = mx_shard_unpack(s, b, v->z, v->block, err);
        if (rc != 0) {
            return rc;
        }
        mx_store_u64((uint8_t *)&v->sums[b], mx_hash64(v->block, (size_t)n * i->width, 0));
        for (uint32_t k = 0; k < n; k++) {
            const uint8_t *p = v->block + (size_t)k * i->width;
            uint32_t token = i->width == 2 ? (uint32_t)p[0] | (uint32_t)p[1] << 8 : mx_load_u32(p);
            max = token > max ? token : max;
        }
        if (progress != NULL) {
            progress(arg, b);
        }
    }
    mx_hash128(v->sums, (size_t)i->blocks * 8, digest);
    if (digest[0] != i->digest[0] || digest[1] != i->digest[1] || max != i->max_token) {
        return mx_shard_damaged(s, "header", 0, "its digest isn't that of the blocks", err);
    }
    return 0;
}

/* Walks the documents: they must be in the order of their origins, and as many as the header says.
 * Their ids are added to the list. */
static int verify_documents(const struct mx_shard *s, struct mx_shard_place *p,
                            struct mx_id_list *ids, struct mx_err *err)
{
    struct mx_document d = {0};
    uint64_t documents = 0, groups = 0, group = UINT64_MAX, byte = 0;
    uint32_t source = 0;
    int more = mx_place_seek(p, 0, &d, err);

    more = more == 0 ? 1 : more;
    while (more == 1) {
        int rc = mx_id_list_add(ids, &d, d.first_token, err);
        if (rc != 0) {
            return rc;
        }
        if (d.source < source || (d.source == source && d.source_byte < byte)) {
            return mx_shard_damaged(s, "the document at token", d.first_token,
                                    "it comes after one of a later origin", err);
        }
        source = d.source;
        byte = d.source_byte;
        documents++;
        groups += p->g.first != group;
        group = p->g.first;
        more = mx_place_next(p, &d, err);
    }
    if (more < 0) {
        return more;
    }
    if (documents != s->header.info.documents || groups != s->header.groups) {
        return mx_shard_damaged(s, "header", 0, "its number of documents isn't that of the groups",
                                err);
    }
    return 0;
}

/* The index must be what writing it anew would give. */
static int verify_ids(const struct mx_shard *s, struct mx_shard_place *p, struct mx_id_list *ids,
                      struct mx_err *err)
{
    uint64_t records = mx_ids_records(s->header.ids);

    if (ids->n != s->header.ids) {
        return mx_shard_damaged(s, "header", 0, "its number of ids isn't that of the documents",
                                err);
    }
    mx_id_list_sort(ids);
    for (uint64_t r = 0; r < records; r++) {
        struct mx_ids got;
        int rc = mx_place_ids(p, r, &got, err);
        if (rc != 0) {
            return rc;
        }
        for (uint32_t i = 0; i < got.n; i++) {
            struct mx_id_entry e = mx_ids_entry(&got, i);
            if (mx_id_order(&e, &ids->p[r * MX_IDS_ENTRIES + i]) != 0) {
                return mx_shard_damaged(s, "part of the index of ids", r,
                                        "it isn't what the documents make", err);
            }
        }
    }
    return 0;
}

static int verify_places(const struct mx_shard *s, struct mx_err *err)
{
    struct mx_id_list ids = {0};
    struct mx_shard_place p;
    int rc = mx_place_open(s, &p, err);

    if (rc != 0) {
        return rc;
    }
    rc = verify_documents(s, &p, &ids, err);
    if (rc == 0) {
        rc = verify_ids(s, &p, &ids, err);
    }
    mx_place_close(&p);
    mx_id_list_free(&ids);
    return rc;
}

int mx_shard_verify(const struct mx_shard *s, void (*progress)(void *arg, uint32_t block),
                    void *arg, struct mx_err *err)
{
    char path[MX_PATH_MAX + 1];
    struct verify v = {
        .block = malloc(MX_BLOCK_BYTES_MAX),
        .sums = calloc(s->header.info.blocks, sizeof *v.sums),
    };
    int rc = v.block == NULL || v.sums == NULL
                 ? mx_fail(err, MX_ENOMEM, "%s: out of memory for verifying", s->path)
                 : mx_zunpacker_new(&v.z, err);

    if (rc == 0) {
        rc = verify_blocks(s, &v, progress, arg, err);
    }
    if (rc == 0) {
        rc = verify_places(s, err);
    }
    for (uint32_t k = 0; rc == 0 && k < s->header.sources; k++) {
        rc = mx_shard_source(s, k, path, sizeof path, err);
    }
    mx_zunpacker_free(v.z);
    free(v.block);
    free(v.sums);
    return rc;
}
