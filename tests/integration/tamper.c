/* tamper.c - changes single bytes in a store's catalog, for tests of what is then said about it.
 *
 *   tamper DIR flip RUN INDEX       a bit of a journal entry, as a bad disk would
 *   tamper DIR forge RUN INDEX AT   a bit of its byte AT (from the end if negative), sealed anew
 *   tamper DIR format VERSION       the store's format, as another mixd would have made it
 *
 * No daemon knows of it while it runs. */
#include "store/catalog_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct mx_err err;

static void check(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "tamper: %s\n", err.text);
        exit(1);
    }
}

/* Bytes that can be written to, of a value that is about to be replaced. */
static uint8_t *copy_of(struct mx_span v)
{
    uint8_t *p = malloc(v.n);

    if (p == NULL || v.n == 0) {
        fprintf(stderr, "tamper: no memory, or nothing there\n");
        exit(1);
    }
    memcpy(p, v.p, v.n);
    return p;
}

/* The value as it is stored, with its seal. */
static void flip(struct mx_catalog *c, struct mx_kv_txn *t, const void *key, size_t n)
{
    unsigned db = c->tables[MX_TABLE_JOURNAL];
    struct mx_span v;
    uint8_t *bytes;

    check(mx_kv_get(t, db, key, n, &v, &err));
    bytes = copy_of(v);
    bytes[v.n / 2] ^= 0x10;
    check(mx_kv_put(t, db, key, n, bytes, v.n, false, &err));
    free(bytes);
}

static void forge(struct mx_catalog *c, struct mx_kv_txn *t, const void *key, size_t n, long at)
{
    struct mx_span v;
    uint8_t *bytes;

    check(mx_record_get(c, t, MX_TABLE_JOURNAL, key, n, &v, &err));
    bytes = copy_of(v);
    at = at < 0 ? (long)v.n + at : at;
    if (at < 0 || at >= (long)v.n) {
        fprintf(stderr, "tamper: there is no byte %ld of %zu\n", at, v.n);
        exit(1);
    }
    bytes[at] ^= 1;
    check(mx_record_put(c, t, MX_TABLE_JOURNAL, key, n, bytes, v.n, false, &err));
    free(bytes);
}

static void set_format(struct mx_catalog *c, struct mx_kv_txn *t, uint32_t version)
{
    const size_t n = strlen(MX_META_FORMAT);
    struct mx_span v;
    uint8_t *bytes;

    check(mx_record_get(c, t, MX_TABLE_META, MX_META_FORMAT, n, &v, &err));
    bytes = copy_of(v);
    mx_store_u32(bytes, version);
    check(mx_record_put(c, t, MX_TABLE_META, MX_META_FORMAT, n, bytes, v.n, false, &err));
    free(bytes);
}

int main(int argc, char **argv)
{
    const char *what = argc > 3 ? argv[2] : "";
    uint32_t number = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    uint8_t key[MX_CATALOG_KEY_MAX];
    struct mx_catalog *c;
    struct mx_kv_txn t;
    size_t n;

    if (!(argc == 4 && strcmp(what, "format") == 0) && !(argc == 5 && strcmp(what, "flip") == 0) &&
        !(argc == 6 && strcmp(what, "forge") == 0)) {
        fprintf(stderr, "tamper DIR flip RUN INDEX | forge RUN INDEX AT | format VERSION\n");
        return 2;
    }
    check(mx_catalog_open(argv[1], false, &c, &err));
    check(mx_kv_begin(c->kv, true, &t, &err));
    n = mx_key_u32_u64(number, argc > 4 ? strtoull(argv[4], NULL, 10) : 0, key);
    if (strcmp(what, "format") == 0) {
        set_format(c, &t, number);
    } else if (strcmp(what, "flip") == 0) {
        flip(c, &t, key, n);
    } else {
        forge(c, &t, key, n, strtol(argv[5], NULL, 10));
    }
    check(mx_kv_commit(&t, &err));
    mx_catalog_close(c);
    return 0;
}
