/* view.c - see view.h. */
#include "store/view.h"

#include <inttypes.h>

/* Shards' infos are read in parts, each one short transaction. */
#define PART 256u

/* Adds the shards of one part to the view. */
static int add_part(struct mx_view *v, const struct mx_domain *d, const struct mx_shard_info *infos,
                    uint32_t n, struct mx_err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t samples = infos[i].tokens / v->seq_len;
        if (infos[i].width != d->width) {
            return mx_fail(err, MX_EDAMAGED,
                           "domain %s: shard %016" PRIx64 " has tokens of %u bytes, not %u",
                           d->name, infos[i].id, infos[i].width, d->width);
        }
        if (samples > MX_SAMPLES_MAX - v->samples) {
            return mx_fail(err, MX_EFULL, "domain %s: more than 2^48 samples", d->name);
        }
        if (samples > 0 && infos[i].level != MX_LEVEL_RAW && v->seq_len < MX_BLOCK_TOKENS) {
            v->chunk = MX_BLOCK_TOKENS / v->seq_len;
        }
        v->shards[v->n].first_sample = v->samples;
        v->shards[v->n].id = infos[i].id;
        v->n++;
        v->samples += samples;
    }
    return 0;
}

int mx_view_make(struct mx_catalog *c, const struct mx_domain *d, uint32_t shards,
                 uint32_t seq_len, struct mx_view *ret, struct mx_err *err)
{
    struct mx_view v = {.seq_len = seq_len, .width = d->width, .chunk = 1};
    struct mx_shard_info *infos;
    int rc = 0;

    if (seq_len == 0 || seq_len > MX_SEQ_LEN_MAX) {
        return mx_fail(err, MX_EINVALID, "a sample has 1 to %u tokens, not %u", MX_SEQ_LEN_MAX,
                       seq_len);
    }
    if (shards > d->shards) {
        return mx_fail(err, MX_EINVALID, "domain %s: has %u shards, not %u", d->name, d->shards,
                       shards);
    }
    infos = calloc(PART, sizeof *infos);
    v.shards = calloc(shards > 0 ? shards : 1, sizeof *v.shards);
    if (infos == NULL || v.shards == NULL) {
        rc = mx_fail(err, MX_ENOMEM, "domain %s: out of memory for %u shards", d->name, shards);
    }
    for (uint32_t first = 0; rc == 0 && first < shards; first += PART) {
        uint32_t n = shards - first < PART ? shards - first : PART;
        rc = mx_catalog_shards(c, d->id, first, n, infos, err);
        if (rc == 0) {
            rc = add_part(&v, d, infos, n, err);
        }
    }
    free(infos);
    if (rc != 0) {
        mx_view_clear(&v);
        return rc;
    }
    *ret = v;
    return 0;
}

void mx_view_clear(struct mx_view *v)
{
    free(v->shards);
    v->shards = NULL;
    v->n = 0;
    v->samples = 0;
}

uint64_t mx_view_shard_samples(const struct mx_view *v, uint32_t i)
{
    uint64_t end = i + 1 < v->n ? v->shards[i + 1].first_sample : v->samples;

    return end - v->shards[i].first_sample;
}

/* Of shards that begin with the same sample the last one holds it: the others hold none. */
void mx_view_find(const struct mx_view *v, uint64_t sample, uint64_t *ret_shard,
                  uint64_t *ret_token)
{
    uint32_t low = 0, high = v->n;

    MX_REQUIRE(sample < v->samples);
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (v->shards[mid].first_sample <= sample) {
            low = mid;
        } else {
            high = mid;
        }
    }
    *ret_shard = v->shards[low].id;
    *ret_token = (sample - v->shards[low].first_sample) * v->seq_len;
}
