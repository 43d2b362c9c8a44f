/* names.c - see names.h. */
#include "daemon/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct named {
    const char *name;
    uint32_t index;
};

struct index {
    struct named *sorted;
    uint32_t n;
};

struct mx_names {
    struct index domains, sets;
    struct index *members; /* of each set */
    uint32_t n_members;    /* sets that have them by now */
    bool any_set;
};

static int named_cmp(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

/* Of one name that stands twice the earlier comes first. */
static int order_cmp(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int c = named_cmp(x, y);

    return c != 0 ? c : (x->index > y->index) - (x->index < y->index);
}

/* Copies the names, each behind the table. */
static bool index_make(struct index *x, uint32_t n, const char *const *names)
{
    size_t bytes = n * sizeof *x->sorted + 1;
    char *p;

    for (uint32_t i = 0; i < n; i++) {
        bytes += strlen(names[i]) + 1;
    }
    x->sorted = malloc(bytes);
    if (x->sorted == NULL) {
        return false;
    }
    x->n = n;
    p = (char *)(x->sorted + n);
    for (uint32_t i = 0; i < n; i++) {
        size_t len = strlen(names[i]) + 1;

        memcpy(p, names[i], len);
        x->sorted[i] = (struct named){p, i};
        p += len;
    }
    qsort(x->sorted, n, sizeof *x->sorted, order_cmp);
    return true;
}

static uint32_t index_find(const struct index *x, const char *name)
{
    struct named key = {name, 0};
    const struct named *at = bsearch(&key, x->sorted, x->n, sizeof key, named_cmp);

    while (at != NULL && at > x->sorted && named_cmp(at - 1, &key) == 0) {
        at--;
    }
    return at != NULL ? at->index : MX_NO_NAME;
}

/* The names, for "...; there are web, code", as many as fit. */
static const char *index_list(const struct index *x, char *text, size_t cap)
{
    size_t at = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < x->n; i++) {
        size_t len = strlen(x->sorted[i].name);

        if (at + len + 8 > cap) {
            (void)snprintf(text + at, cap - at, ", ...");
            break;
        }
        at += (size_t)snprintf(text + at, cap - at, "%s%s", i > 0 ? ", " : "", x->sorted[i].name);
    }
    return text;
}

struct mx_names *mx_names_new(uint32_t k, const char *const *domains, uint32_t n_sets,
                              const struct mx_name_set *sets, bool any_set)
{
    struct mx_names *n = calloc(1, sizeof *n);
    const char **names = calloc((size_t)n_sets + 1, sizeof *names);
    bool ok = n != NULL && names != NULL;

    for (uint32_t i = 0; ok && i < n_sets; i++) {
        names[i] = sets[i].name;
    }
    ok = ok && (n->members = calloc((size_t)n_sets + 1, sizeof *n->members)) != NULL &&
         index_make(&n->domains, k, domains) && index_make(&n->sets, n_sets, names);
    for (uint32_t i = 0; ok && i < n_sets; i++) {
        ok = index_make(&n->members[i], sets[i].m, sets[i].members);
        n->n_members += ok;
    }
    free(names);
    if (!ok) {
        mx_names_free(n);
        return NULL;
    }
    n->any_set = any_set;
    return n;
}

void mx_names_free(struct mx_names *n)
{
    if (n == NULL) {
        return;
    }
    for (uint32_t i = 0; i < n->n_members; i++) {
        free(n->members[i].sorted);
    }
    free(n->members);
    free(n->domains.sorted);
    free(n->sets.sorted);
    free(n);
}

uint32_t mx_names_k(const struct mx_names *n)
{
    return n->domains.n;
}

uint32_t mx_names_n_sets(const struct mx_names *n)
{
    return n->sets.n;
}

uint32_t mx_names_m(const struct mx_names *n, uint32_t set)
{
    return n->members[set].n;
}

uint32_t mx_names_domain(const struct mx_names *n, const char *name)
{
    return index_find(&n->domains, name);
}

uint32_t mx_names_set(const struct mx_names *n, const char *name)
{
    return n->any_set && n->sets.n > 0 ? 0 : index_find(&n->sets, name);
}

uint32_t mx_names_member(const struct mx_names *n, uint32_t set, const char *name)
{
    return index_find(&n->members[set], name);
}

const char *mx_names_domains(const struct mx_names *n, char *text, size_t cap)
{
    return index_list(&n->domains, text, cap);
}

const char *mx_names_sets(const struct mx_names *n, char *text, size_t cap)
{
    return index_list(&n->sets, text, cap);
}

const char *mx_names_members(const struct mx_names *n, uint32_t set, char *text, size_t cap)
{
    return index_list(&n->members[set], text, cap);
}
