/* catalog_check.c - see catalog_check.h. */
#include "catalog_check.h"

#include <inttypes.h>

struct mx_catalog *open_store(const char *dir)
{
    struct mx_catalog *c;
    struct mx_err err;

    assert_ok(mx_catalog_open(dir, true, &c, &err), &err);
    return c;
}

struct mx_shard_info shard_info(uint64_t id, uint64_t tokens)
{
    return (struct mx_shard_info){
        .id = id, .tokens = tokens, .documents = 2, .bytes = 300, .source_bytes = 40,
        .created_ms = 5, .width = 2, .blocks = (uint32_t)(tokens / MX_BLOCK_TOKENS + 1),
        .block_tokens = MX_BLOCK_TOKENS, .max_token = 256, .level = MX_LEVEL_RAW,
        .digest = {id, 1},
    };
}

struct mx_domain new_domain(const char *name)
{
    struct mx_domain d = {.tokenizer = "bytes", .width = 2, .eod = 256, .level = 3};

    (void)snprintf(d.name, sizeof d.name, "%s", name);
    return d;
}

struct mx_domain add_domain(struct mx_catalog *c, const char *name, uint64_t shard)
{
    struct mx_domain d = new_domain(name);
    struct mx_shard_info i = shard_info(shard, 100);
    struct mx_err err;

    assert_ok(mx_catalog_register(c, &d, NULL, 0, &i, 1, &err), &err);
    return d;
}

int add_run(struct mx_catalog *c, uint32_t id, const char *name, uint32_t domain,
                   struct mx_err *err)
{
    struct mx_run_domain domains[1] = {{domain, 1}};
    char config[] = "{\"seed\": 1}";
    struct mx_run_record r = {.id = id, .created_ms = 7, .config = config, .config_bytes = 11,
                              .k = 1, .domains = domains};
    struct mx_put p = {.kind = MX_PUT_RUN, .run = id, .record = &r};

    (void)snprintf(r.name, sizeof r.name, "%s", name);
    return mx_journal_append(mx_journal_of_catalog(c), &p, 1, err);
}

int put(struct mx_catalog *c, enum mx_put_kind kind, uint32_t run, uint64_t key,
               const char *text, struct mx_err *err)
{
    struct mx_put p = {.kind = kind, .run = run, .key = key, .bytes = text, .n = strlen(text)};

    return mx_journal_append(mx_journal_of_catalog(c), &p, 1, err);
}

int log_cb(void *arg, uint64_t key, struct mx_span bytes)
{
    struct log *l = arg;

    l->n += (size_t)snprintf(l->text + l->n, sizeof l->text - l->n, "%" PRIu64 ":%.*s ", key,
                             (int)bytes.n, (const char *)bytes.p);
    return ++l->calls == l->stop_after ? 42 : 0;
}

int domain_cb(void *arg, const struct mx_domain *d)
{
    struct log *l = arg;

    l->n += (size_t)snprintf(l->text + l->n, sizeof l->text - l->n, "%s ", d->name);
    return ++l->calls == l->stop_after ? 42 : 0;
}

int run_cb(void *arg, const struct mx_run_record *r)
{
    struct log *l = arg;

    l->n += (size_t)snprintf(l->text + l->n, sizeof l->text - l->n, "%u:%s:%s:%u ", r->id, r->name,
                             r->config, r->k);
    return ++l->calls == l->stop_after ? 42 : 0;
}

void forget_cb(void *arg, uint64_t shard)
{
    struct log *l = arg;

    l->n += (size_t)snprintf(l->text + l->n, sizeof l->text - l->n, "%" PRIx64 " ", shard);
}
