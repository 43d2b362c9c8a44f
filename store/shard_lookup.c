/* shard_lookup.c - finds documents in a shard by id and by origin (shard.h).
 *
 * By id: the index holds (hash, first token) of every document that has an id, in order, cut into
 * records of one page; a binary search finds the first record and the first entry with the hash,
 * and each document that entries of that hash name is asked for its own id.
 *
 * By origin: documents are in the order of (source, byte), so a binary search over tokens finds the
 * last one at or before a byte. Paths have no index: each source's is compared. */
#include "store/shard_impl.h"

#include <string.h>

int mx_place_ids(struct mx_shard_place *p, uint64_t number, struct mx_ids *ret, struct mx_err *err)
{
    const struct mx_shard_header *h = &p->s->header;
    struct mx_span v;
    const char *why;
    int rc = mx_shard_get(p->s, &p->t, MX_KEY_IDS, number, "part of the index of ids", &v, err);

    if (rc != 0) {
        return rc;
    }
    why = mx_ids_decode(h->info.id, h->ids, number, v, ret);
    return why != NULL ? mx_shard_damaged(p->s, "part of the index of ids", number, why, err) : 0;
}

/* The first record whose last entry isn't below the hash: it has the first entry that isn't. */
static int first_record(struct mx_shard_place *p, uint64_t hash, uint64_t *ret, struct mx_err *err)
{
    uint64_t low = 0, high = mx_ids_records(p->s->header.ids);

    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        struct mx_ids ids;
        int rc = mx_place_ids(p, mid, &ids, err);
        if (rc != 0) {
            return rc;
        }
        if (mx_ids_entry(&ids, ids.n - 1).hash < hash) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    *ret = low;
    return 0;
}

/* The document of an entry, whether or not it is the one that is wanted. */
static int entry_document(struct mx_shard_place *p, uint64_t token, struct mx_document *ret,
                          struct mx_err *err)
{
    int rc;

    if (token >= p->s->header.info.tokens) {
        return mx_shard_damaged(p->s, "the index of ids at token", token,
                                "the shard has no such token", err);
    }
    rc = mx_place_seek(p, token, ret, err);
    if (rc == 0 && ret->first_token != token) {
        rc = mx_shard_damaged(p->s, "the index of ids at token", token,
                              "no document begins there", err);
    }
    return rc;
}

static int find_id(struct mx_shard_place *p, const struct mx_document *wanted,
                   int (*cb)(void *arg, const struct mx_document *d), void *arg,
                   struct mx_err *err)
{
    uint64_t records = mx_ids_records(p->s->header.ids), hash = mx_id_hash(wanted), r;
    struct mx_document d = {0};
    int rc = first_record(p, hash, &r, err);

    for (; rc == 0 && r < records; r++) {
        struct mx_ids ids;
        rc = mx_place_ids(p, r, &ids, err);
        for (uint32_t i = rc == 0 ? mx_ids_find(&ids, hash) : 0; rc == 0 && i < ids.n; i++) {
            struct mx_id_entry e = mx_ids_entry(&ids, i);
            if (e.hash != hash) {
                return 0;
            }
            rc = entry_document(p, e.token, &d, err);
            if (rc == 0 && d.id_len == wanted->id_len && memcmp(d.id, wanted->id, d.id_len) == 0) {
                rc = cb(arg, &d);
            }
        }
    }
    return rc;
}

int mx_shard_find_id(const struct mx_shard *s, const char *id, size_t n,
                     int (*cb)(void *arg, const struct mx_document *d), void *arg,
                     struct mx_err *err)
{
    struct mx_document wanted = {0};
    struct mx_shard_place p;
    int rc;

    if (n == 0) {
        return 0;
    }
    mx_document_set_id(&wanted, id, n);
    rc = mx_place_open(s, &p, err);
    if (rc == 0) {
        rc = find_id(&p, &wanted, cb, arg, err);
        mx_place_close(&p);
    }
    return rc;
}

/* ---- by origin ---- */

/* Is that the path of a source as it was ingested, or its last component? */
static bool path_matches(const char *path, size_t n, const char *source)
{
    size_t m = strlen(source);

    if (n == 0 || n > m || memcmp(source + (m - n), path, n) != 0) {
        return false;
    }
    return n == m || (memchr(path, '/', n) == NULL && source[m - n - 1] == '/');
}

/* The last document of a source that begins at or before a byte: 1, 0 for none, or a code. The ends
 * are asked first: of a file that goes through many shards, all but one answer by them. */
static int last_at(struct mx_shard_place *p, uint32_t source, uint64_t byte,
                   struct mx_document *ret, struct mx_err *err)
{
    uint64_t low = 0, high = p->s->header.info.tokens;
    struct mx_document d = {0};
    int found = 0;

    for (unsigned round = 0; low < high; round++) {
        uint64_t mid = round == 0 ? high - 1 : round == 1 ? low : low + (high - low) / 2;
        int rc = mx_place_seek(p, mid, &d, err);
        if (rc != 0) {
            return rc;
        }
        if (d.source > source || (d.source == source && d.source_byte > byte)) {
            high = d.first_token;
        } else {
            low = d.first_token + d.tokens;
            found = d.source == source;
            *ret = d;
        }
    }
    return found;
}

int mx_shard_find_origin(const struct mx_shard *s, const char *path, size_t n, uint64_t byte,
                         int (*cb)(void *arg, const struct mx_document *d), void *arg,
                         struct mx_err *err)
{
    char source[MX_PATH_MAX + 1];
    struct mx_document d = {0};
    struct mx_shard_place p;
    int rc = mx_place_open(s, &p, err);

    if (rc != 0) {
        return rc;
    }
    for (uint32_t i = 0; rc == 0 && i < s->header.sources; i++) {
        rc = mx_shard_source(s, i, source, sizeof source, err);
        if (rc == 0 && path_matches(path, n, source)) {
            int found = last_at(&p, i, byte, &d, err);
            rc = found == 1 ? cb(arg, &d) : found;
        }
    }
    mx_place_close(&p);
    return rc;
}
