/* catalog_check.h - a store to put things into, and what its callbacks say as text. */
#ifndef MX_TESTS_STORE_CATALOG_CHECK_H
#define MX_TESTS_STORE_CATALOG_CHECK_H

#include "check.h"

#include "store/catalog.h"

struct mx_catalog *open_store(const char *dir);
/* The info of a shard that has no file. */
struct mx_shard_info shard_info(uint64_t id, uint64_t tokens);
struct mx_domain new_domain(const char *name);
/* Registers a domain of one such shard. */
struct mx_domain add_domain(struct mx_catalog *c, const char *name, uint64_t shard);
/* Commits a run of one domain, or one other record. */
int add_run(struct mx_catalog *c, uint32_t id, const char *name, uint32_t domain,
            struct mx_err *err);
int put(struct mx_catalog *c, enum mx_put_kind kind, uint32_t run, uint64_t key, const char *text,
        struct mx_err *err);

/* What callbacks were given: "key:bytes ", "name ", "id:name:config:k ", "shard in hex ". */
struct log {
    char text[4096];
    size_t n;
    unsigned stop_after, calls; /* the call that returns 42 */
};

int log_cb(void *arg, uint64_t key, struct mx_span bytes);
int domain_cb(void *arg, const struct mx_domain *d);
int run_cb(void *arg, const struct mx_run_record *r);
void forget_cb(void *arg, uint64_t shard);

#endif
