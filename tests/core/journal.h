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

/* k: the run's domains. */
static inline void journal_put(struct journal *j, const struct mx_entry *e, uint32_t k,
                               uint64_t handle)
{
    struct mx_entry *to;
    size_t weights;

    if (j->n == j->cap) {
        j->cap = j->cap * 2 + 16;
        j->entries = realloc(j->entries, j->cap * sizeof *j->entries);
        j->handles = realloc(j->handles, j->cap * sizeof *j->handles);
        assert_non_null(j->entries);
        assert_non_null(j->handles);
    }
    j->handles[j->n] = handle;
    weights = e->kind == MX_ENTRY_SHADOW ? (size_t)e->n * k : k;
    to = &j->entries[j->n++];
    *to = *e;
    to->losses = e->losses == NULL ? NULL : test_copy(e->losses, e->n * sizeof *e->losses);
    to->shares = e->shares == NULL
                     ? NULL
                     : test_copy(e->shares, (e->kind == MX_ENTRY_SHADOW ? weights : e->n_shares) *
                                                sizeof *e->shares);
    to->weights = e->weights == NULL ? NULL : test_copy(e->weights, weights * sizeof *e->weights);
    to->digests = e->digests == NULL ? NULL : test_copy(e->digests, e->n * sizeof *e->digests);
    to->ranges = e->ranges == NULL ? NULL : test_copy(e->ranges, e->n * sizeof *e->ranges);
    to->evals = e->evals == NULL ? NULL : test_copy(e->evals, e->n_evals * sizeof *e->evals);
    to->rewards = e->rewards == NULL ? NULL
                                     : test_copy(e->rewards, e->n_rewards * sizeof *e->rewards);
    to->scores = e->scores == NULL ? NULL : test_copy(e->scores, e->n_scores * sizeof *e->scores);
    to->gram_domains = e->gram_domains == NULL
                           ? NULL
                           : test_copy(e->gram_domains, e->n_gram * sizeof *e->gram_domains);
    to->gram = e->gram == NULL ? NULL
                               : test_copy(e->gram, (size_t)e->n_gram * (e->n_gram + 1u) / 2u *
                                                        sizeof *e->gram);
    to->terms = e->terms == NULL ? NULL : test_copy(e->terms, e->n_terms * k * sizeof *e->terms);
    to->bound = e->bound == NULL ? NULL : test_copy(e->bound, k);
    to->values = e->values == NULL ? NULL : test_copy(e->values, e->n_values * sizeof *e->values);
    to->words = e->words == NULL ? NULL : test_copy(e->words, e->n_words * sizeof *e->words);
}

static inline void entry_free(struct mx_entry *e)
{
    free((void *)(uintptr_t)e->losses);
    free((void *)(uintptr_t)e->shares);
    free((void *)(uintptr_t)e->weights);
    free((void *)(uintptr_t)e->digests);
    free((void *)(uintptr_t)e->ranges);
    free((void *)(uintptr_t)e->words);
    free((void *)(uintptr_t)e->evals);
    free((void *)(uintptr_t)e->rewards);
    free((void *)(uintptr_t)e->scores);
    free((void *)(uintptr_t)e->gram_domains);
    free((void *)(uintptr_t)e->gram);
    free((void *)(uintptr_t)e->terms);
    free((void *)(uintptr_t)e->bound);
    free((void *)(uintptr_t)e->values);
}

/* Forgets entries from the n-th on. */
static inline void journal_cut(struct journal *j, size_t n)
{
    for (; j->n > n; j->n--) {
        entry_free(&j->entries[j->n - 1]);
    }
}

/* Forgets the first entry. */
static inline void journal_shift(struct journal *j)
{
    entry_free(&j->entries[0]);
    memmove(j->entries, j->entries + 1, --j->n * sizeof *j->entries);
    memmove(j->handles, j->handles + 1, j->n * sizeof *j->handles);
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

/* What a run that goes back to `step` goes on from, by its journal and the words of a snapshot to
 * begin with (NULL: none). *ret_n words, to be freed; all shares of the mix in force. NULL if that
 * snapshot won't do, or the step can't be gone back to. */
static inline uint64_t *unwound(const struct mx_run_config *c, const struct journal *j,
                                const uint64_t *words, size_t n, uint64_t step,
                                uint64_t *ret_shares, size_t *ret_n)
{
    void *memory = test_get(1, mx_run_size(c));
    struct mx_run *r = mx_run_init(memory, c);
    uint64_t *got = NULL;
    struct mx_run_view v;

    if (words != NULL) {
        assert_int_equal(mx_run_load(r, words, n), 0);
    }
    if (words == NULL || mx_run_unwinds(r, step)) {
        mx_run_view(r, &v);
        for (size_t i = v.applied; i < j->n; i++) {
            assert_int_equal(mx_run_unwind(r, &j->entries[i], step), MX_APPLIED);
        }
        if (mx_run_unwound(r, step) == 0) {
            mx_run_view(r, &v);
            assert_int_equal(v.frontier, step);
            memcpy(ret_shares, v.shares, v.n_shares * sizeof *ret_shares);
            got = saved(r, ret_n);
        }
    }
    free(memory);
    return got;
}

#endif
