/* names.h - what names in configs and reports mean: a run's domains, its evaluation sets and their
 * members, found quickly among thousands. Pure but for malloc; any thread. */
#ifndef MX_DAEMON_NAMES_H
#define MX_DAEMON_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The names of an evaluation set, all borrowed. */
struct mx_name_set {
    const char *name;
    uint32_t m;
    const char *const *members;
};

struct mx_names;

/* any_set: a set of any name is taken as set 0 (of a run that has named none). NULL if memory is
 * out. Strings are copied. */
struct mx_names *mx_names_new(uint32_t k, const char *const *domains, uint32_t n_sets,
                              const struct mx_name_set *sets, bool any_set);
void mx_names_free(struct mx_names *n); /* NULL is fine */

#define MX_NO_NAME UINT32_MAX

uint32_t mx_names_k(const struct mx_names *n);
uint32_t mx_names_n_sets(const struct mx_names *n);
uint32_t mx_names_m(const struct mx_names *n, uint32_t set);
/* Numbers of names; MX_NO_NAME if there's no such one. */
uint32_t mx_names_domain(const struct mx_names *n, const char *name);
uint32_t mx_names_set(const struct mx_names *n, const char *name);
uint32_t mx_names_member(const struct mx_names *n, uint32_t set, const char *name);
/* All of them, for "there are web, code", as far as they fit; returns text. */
const char *mx_names_domains(const struct mx_names *n, char *text, size_t cap);
const char *mx_names_sets(const struct mx_names *n, char *text, size_t cap);
const char *mx_names_members(const struct mx_names *n, uint32_t set, char *text, size_t cap);

#endif
