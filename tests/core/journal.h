/* journal.h - a journal in memory for tests: entries with all that they point to, in order. */
#ifndef MX_TESTS_CORE_JOURNAL_H
#define MX_TESTS_CORE_JOURNAL_H

#include "tests/core/check.h"

#include "daemon/core/run.h"

struct journal {
    struct mx_entry *entries; /* each with its own copies */
    uint64_t *handles;        /* who waits for it; 0 for nobody */
    size_t n, cap;
};

static inline const void *test_copy(const void *from, size_t bytes)
{
    void *p = test_get(1, bytes);

    if (bytes > 0 && from != NULL) {
        memcpy(p, from, bytes);
    }
    return p;
}

static inline void journal_put(struct journal *j, const struct mx_entry *e, uint64_t handle)
{
    struct mx_entry *to;

    if (j->n == j->cap) {
        j->cap = j->cap * 2 + 16;
        j->entries = realloc(j->entries, j->cap * sizeof *j->entries);
        j->handles = realloc(j->handles, j->cap * sizeof *j->handles);
        assert_non_null(j->entries);
        assert_non_null(j->handles);
    }
    j->handles[j->n] = handle;
    to = &j->entries[j->n++];
    *to = *e;
    to->losses = e->losses == NULL ? NULL : test_copy(e->losses, e->n * sizeof *e->losses);
    to->shares = e->shares == NULL ? NULL : test_copy(e->shares, e->n * sizeof *e->shares);
    to->weights = e->weights == NULL ? NULL : test_copy(e->weights, e->n * sizeof *e->weights);
}

/* Forgets entries from the n-th on. */
static inline void journal_cut(struct journal *j, size_t n)
{
    for (; j->n > n; j->n--) {
        struct mx_entry *e = &j->entries[j->n - 1];

        free((void *)(uintptr_t)e->losses);
        free((void *)(uintptr_t)e->shares);
        free((void *)(uintptr_t)e->weights);
    }
}

static inline void journal_free(struct journal *j)
{
    journal_cut(j, 0);
    free(j->entries);
    free(j->handles);
    memset(j, 0, sizeof *j);
}

/* The words of a run's state; *ret_n of them, to be freed. */
static inline uint64_t *saved(const struct mx_run *r, size_t *ret_n)
{
    uint64_t step;
    size_t n = mx_run_save(r, NULL, 0, &step);
    uint64_t *words = test_get(n, sizeof *words);

    assert_int_equal(mx_run_save(r, words, n, &step), n);
    *ret_n = n;
    return words;
}

#endif
