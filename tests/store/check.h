/* check.h - cmocka with what it needs, seeded random numbers, a folder of one's own, and shards
 * made from a model that the tests compare with. */
#ifndef MX_TESTS_STORE_CHECK_H
#define MX_TESTS_STORE_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/shard_impl.h"

/* splitmix64 */
struct dice {
    uint64_t state;
};

uint64_t roll(struct dice *d);
uint64_t below(struct dice *d, uint64_t n); /* 0 .. n - 1 */
/* `fallback`, or what MX_TEST_SEED says; printed, to be given there again. */
uint64_t test_seed(const char *test, uint64_t fallback);

/* A folder under TMPDIR, removed with all that is in it by folder_remove. Both are cmocka set-ups:
 * *state is the path. */
int folder_make(void **state);
int folder_remove(void **state);
/* dir/name, malloc'ed. */
char *path_in(const char *dir, const char *name);
/* Files of a folder whose names end so. */
unsigned count_files(const char *dir, const char *suffix);
void write_file(const char *path, const void *p, size_t n);
/* malloc'ed. */
uint8_t *read_file(const char *path, size_t *ret_n);

/* 0, or fails the test with the error's text. */
#define assert_ok(rc, err)                                                                        \
    do {                                                                                          \
        int assert_rc = (rc);                                                                     \
        if (assert_rc != 0) {                                                                     \
            fail_msg("%s: %d: %s", #rc, assert_rc, (err)->text);                                  \
        }                                                                                         \
    } while (0)

/* The code, and that the text says `part`. */
#define assert_fails(rc, code, err, part)                                                         \
    do {                                                                                          \
        int assert_rc = (rc);                                                                     \
        if (assert_rc != (code) || strstr((err)->text, (part)) == NULL) {                         \
            fail_msg("%s: %d (wanted %d), text '%s' (wanted '%s' in it)", #rc, assert_rc, (code), \
                     (err)->text, (part));                                                        \
        }                                                                                         \
    } while (0)

/* Field by field: the struct has padding. */
bool same_info(const struct mx_shard_info *a, const struct mx_shard_info *b);

/* What is in a shard, as plain arrays. */
struct model {
    uint32_t width;
    uint64_t n;
    uint32_t *tokens;
    uint64_t *starts; /* of documents */
    uint64_t documents;
    struct mx_shard_info info;
    char path[512];
};

struct model_options {
    uint32_t width;
    int level;
    uint64_t tokens;
    uint64_t document_max; /* tokens of a document, at most */
    const void *dictionary;
    size_t dictionary_bytes;
    bool noise; /* tokens that don't compress */
};

/* Writes and seals a shard in dir. */
void model_make(struct model *m, const char *dir, const struct model_options *o, struct dice *d);
void model_free(struct model *m);
/* Token bytes [first, first + n) as `width` says. */
void model_bytes(const struct model *m, uint64_t first, size_t n, uint32_t width, uint8_t *ret);
/* As mx_shardset_starts. */
size_t model_starts(const struct model *m, uint64_t first, size_t n, uint32_t *ret, size_t cap);
/* The origin that model_make gave document i: two of three have an id, "document-i"; the first half
 * comes from source 0. */
void model_document(const struct model *m, uint64_t i, struct mx_document *ret);

#endif
