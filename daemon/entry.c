/* entry.c - see entry.h. */
#include "daemon/entry.h"

#include "proto/limits.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* kind u16, author u16-string, why u16-string, time u64, step u64, frontier u64, then what the kind
 * has. The index is the journal's key. */

const char *mx_entry_name(enum mx_entry_kind kind)
{
    switch (kind) {
#define ENTRY_NAME(id, NAME, name)                                                                \
    case id: return #name;
        MX_ENTRIES(ENTRY_NAME)
    }
    return "unknown";
}

#define HAS_WEIGHTS 1u
#define HAS_BOUND 2u
#define F32_NAN 0x7fc00000u

static size_t triangle(size_t n)
{
    return n * (n + 1) / 2;
}

/* ---- encoding ------------------------------------------------------------------------------- */

static void write_u64s(struct mx_writer *w, const uint64_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mx_write_u64(w, v[i]);
    }
}

/* What explains a mix is kept in single precision: enough to read, half the size. One NaN stands for
 * all, so that what decodes encodes to the same. */
static void write_f32s(struct mx_writer *w, const double *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double most = (double)FLT_MAX;
        double x = v[i] > most ? most : v[i] < -most ? -most : v[i];
        float f = isnan(x) ? 0 : (float)x;
        uint32_t bits;

        memcpy(&bits, &f, sizeof bits);
        mx_write_u32(w, isnan(x) ? F32_NAN : bits);
    }
}

static void encode_losses(struct mx_writer *w, const struct mx_entry *e)
{
    mx_write_u32(w, e->n);
    for (uint32_t i = 0; i < e->n; i++) {
        mx_write_u32(w, e->losses[i].domain);
        mx_write_u32(w, e->losses[i].samples);
        mx_write_u64(w, e->losses[i].tokens);
        mx_write_f64(w, e->losses[i].loss_sum);
    }
    mx_write_u32(w, e->n_evals);
    for (uint32_t i = 0; i < e->n_evals; i++) {
        mx_write_u32(w, e->evals[i].set);
        mx_write_u32(w, e->evals[i].member);
        mx_write_u64(w, e->evals[i].samples);
        mx_write_u64(w, e->evals[i].tokens);
        mx_write_f64(w, e->evals[i].loss_sum);
    }
}

static void encode_feedback(struct mx_writer *w, const struct mx_entry *e)
{
    mx_write_u32(w, e->rank);
    mx_write_u32(w, e->world);
    mx_write_u32(w, e->flags);
    mx_write_u64(w, e->mix_version);
    encode_losses(w, e);
    mx_write_u32(w, e->n_rewards);
    for (uint32_t i = 0; i < e->n_rewards; i++) {
        mx_write_u32(w, e->rewards[i].domain);
        mx_write_u64(w, e->rewards[i].count);
        mx_write_f64(w, e->rewards[i].sum);
    }
    mx_write_u32(w, e->n_gram);
    if (e->n_gram > 0) {
        mx_write_f64(w, e->lr);
    }
    for (uint32_t i = 0; i < e->n_gram; i++) {
        mx_write_u32(w, e->gram_domains[i]);
    }
    for (size_t i = 0; i < triangle(e->n_gram); i++) {
        mx_write_f64(w, e->gram[i]);
    }
    mx_write_u32(w, e->n_scores);
    for (uint32_t i = 0; i < e->n_scores; i++) {
        mx_write_u32(w, e->scores[i].domain);
        mx_write_u64(w, e->scores[i].sample);
        mx_write_f64(w, e->scores[i].score);
    }
}

/* A mix, as all entries that make one have it first. */
static void encode_mix(struct mx_writer *w, const struct mx_entry *e)
{
    mx_write_u64(w, e->mix_version);
    mx_write_u32(w, (uint32_t)e->cause);
    mx_write_u64(w, e->cause_step);
    mx_write_u32(w, e->n_shares);
    write_u64s(w, e->shares, e->n_shares);
}

/* A mix and where it comes from. */
static void encode_made(struct mx_writer *w, const struct mx_entry *e, uint32_t k)
{
    uint32_t parts = (e->weights != NULL ? HAS_WEIGHTS : 0) | (e->bound != NULL ? HAS_BOUND : 0);
    uint32_t n_terms = e->terms != NULL ? e->n_terms : 0;

    encode_mix(w, e);
    mx_write_u32(w, e->phase);
    mx_write_u32(w, parts);
    mx_write_u32(w, n_terms);
    write_f32s(w, e->weights, e->weights != NULL ? k : 0);
    write_f32s(w, e->terms, (size_t)n_terms * k);
    mx_write_bytes(w, e->bound, e->bound != NULL ? k : 0);
}

static void encode_fit(struct mx_writer *w, const struct mx_entry *e)
{
    mx_write_u32(w, e->domain);
    for (size_t i = 0; i < e->n_values; i++) {
        mx_write_f64(w, e->values[i]);
    }
}

static void encode_shadow(struct mx_writer *w, const struct mx_entry *e, uint32_t k)
{
    mx_write_u32(w, e->n);
    mx_write_u32(w, e->weights != NULL ? HAS_WEIGHTS : 0);
    write_u64s(w, e->shares, (size_t)e->n * k);
    write_f32s(w, e->weights, e->weights != NULL ? (size_t)e->n * k : 0);
}

static void encode_set(struct mx_writer *w, const struct mx_entry *e, uint32_t k)
{
    encode_mix(w, e);
    for (uint32_t i = 0; i < k; i++) {
        mx_write_f64(w, e->weights[i]);
    }
}

static void encode_adopt(struct mx_writer *w, const struct mx_entry *e)
{
    mx_write_u32(w, e->domain);
    mx_write_u32(w, e->flag);
    mx_write_u64(w, e->samples);
    mx_write_u32(w, e->chunk);
    mx_write_u32(w, e->shards);
}

static void encode_withdraw(struct mx_writer *w, const struct mx_entry *e)
{
    mx_write_u32(w, e->domain);
    mx_write_u32(w, e->serial);
    mx_write_u32(w, e->n);
    for (uint32_t i = 0; i < e->n; i++) {
        mx_write_u64(w, e->ranges[i].first);
        mx_write_u64(w, e->ranges[i].count);
    }
}

static void encode_state(struct mx_writer *w, const struct mx_entry *e)
{
    encode_mix(w, e);
    mx_write_u32(w, e->branch);
    mx_write_u32(w, e->source);
    write_u64s(w, e->words, e->n_words);
}

/* More than any entry of this content takes. */
static size_t room_for(const struct mx_entry *e, uint32_t k)
{
    size_t shadows = e->kind == MX_ENTRY_SHADOW ? e->n : 0;

    return 256 + (size_t)e->author_len + e->why_len + 8 * (size_t)e->n_shares +
           (13 + 4 * (size_t)e->n_terms + 12 * shadows) * k +
           32 * ((size_t)e->n + e->n_evals + e->n_rewards + e->n_scores) + 4 * (size_t)e->n_gram +
           8 * (triangle(e->n_gram) + e->n_values + e->n_words);
}

uint8_t *mx_entry_encode(const struct mx_entry *e, uint32_t k, size_t *ret_n)
{
    size_t cap = room_for(e, k);
    uint8_t *p = malloc(cap);
    struct mx_writer w;

    if (p == NULL) {
        return NULL;
    }
    mx_writer_init(&w, p, cap);
    mx_write_u16(&w, (uint16_t)e->kind);
    mx_write_str(&w, e->author, e->author_len);
    mx_write_str(&w, e->why, e->why_len);
    mx_write_u64(&w, e->time_ms);
    mx_write_u64(&w, e->step);
    mx_write_u64(&w, e->frontier);
    switch (e->kind) {
    case MX_ENTRY_FEEDBACK: encode_feedback(&w, e); break;
    case MX_ENTRY_CREATE:
    case MX_ENTRY_MIX: encode_made(&w, e, k); break;
    case MX_ENTRY_SET: encode_set(&w, e, k); break;
    case MX_ENTRY_RESERVE:
        mx_write_u64(&w, e->digest_from);
        mx_write_u32(&w, e->n);
        write_u64s(&w, e->digests, e->n);
        break;
    case MX_ENTRY_EXHAUSTED:
        mx_write_u32(&w, e->domain);
        mx_write_u32(&w, e->flag);
        break;
    case MX_ENTRY_SKIP: mx_write_u64(&w, e->to); break;
    case MX_ENTRY_ADOPT: encode_adopt(&w, e); break;
    case MX_ENTRY_WITHDRAW: encode_withdraw(&w, e); break;
    case MX_ENTRY_REWIND:
    case MX_ENTRY_FORK: encode_state(&w, e); break;
    case MX_ENTRY_FIT: encode_fit(&w, e); break;
    case MX_ENTRY_SHADOW: encode_shadow(&w, e, k); break;
    case MX_ENTRY_CLOSE:
    case MX_ENTRY_STOP: break;
    }
    MX_REQUIRE(!w.failed);
    *ret_n = mx_writer_len(&w);
    return p;
}

/* ---- decoding ------------------------------------------------------------------------------- */

/* n 64-bit values into memory of the box: whole numbers, or doubles by their bits. */
static int decode_values(struct mx_reader *r, size_t n, void **memory)
{
    uint64_t *v;

    if (r->failed || mx_reader_left(r) / 8 < n) {
        return MX_EDAMAGED;
    }
    v = *memory = malloc(8 * (n + 1));
    if (v == NULL) {
        return MX_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        v[i] = mx_read_u64(r);
    }
    return 0;
}

/* Room for n things of `size`, if `bytes` of each are still to come: n is a stranger's. */
static int take_room(const struct mx_reader *r, uint32_t n, size_t bytes, size_t size, void **memory)
{
    if (r->failed || n > mx_reader_left(r) / bytes) {
        return MX_EDAMAGED;
    }
    *memory = malloc((size_t)n * size + 1);
    return *memory != NULL ? 0 : MX_ENOMEM;
}

static int decode_losses(struct mx_reader *r, struct mx_entry *e, struct mx_entry_box *box)
{
    struct mx_eval_loss *evals;
    struct mx_loss *losses;
    int rc;

    e->n = mx_read_u32(r);
    if ((rc = take_room(r, e->n, 24, sizeof *losses, &box->memory[0])) < 0) {
        return rc;
    }
    e->losses = losses = box->memory[0];
    for (uint32_t i = 0; i < e->n; i++) {
        losses[i].domain = mx_read_u32(r);
        losses[i].samples = mx_read_u32(r);
        losses[i].tokens = mx_read_u64(r);
        losses[i].loss_sum = mx_read_f64(r);
    }
    e->n_evals = mx_read_u32(r);
    if ((rc = take_room(r, e->n_evals, 32, sizeof *evals, &box->memory[1])) < 0) {
        return rc;
    }
    e->evals = evals = box->memory[1];
    for (uint32_t i = 0; i < e->n_evals; i++) {
        evals[i].set = mx_read_u32(r);
        evals[i].member = mx_read_u32(r);
        evals[i].samples = mx_read_u64(r);
        evals[i].tokens = mx_read_u64(r);
        evals[i].loss_sum = mx_read_f64(r);
    }
    return 0;
}

static int decode_gram(struct mx_reader *r, struct mx_entry *e, struct mx_entry_box *box)
{
    uint32_t *domains;
    double *gram;
    int rc;

    e->n_gram = mx_read_u32(r);
    if (e->n_gram > MX_GRAM_MAX) {
        return MX_EDAMAGED;
    }
    e->lr = e->n_gram > 0 ? mx_read_f64(r) : 0;
    if ((rc = take_room(r, e->n_gram, 4, sizeof *domains, &box->memory[3])) < 0) {
        return rc;
    }
    e->gram_domains = domains = box->memory[3];
    for (uint32_t i = 0; i < e->n_gram; i++) {
        domains[i] = mx_read_u32(r);
    }
    if ((rc = take_room(r, (uint32_t)triangle(e->n_gram), 8, sizeof *gram, &box->memory[4])) < 0) {
        return rc;
    }
    e->gram = gram = box->memory[4];
    for (size_t i = 0; i < triangle(e->n_gram); i++) {
        gram[i] = mx_read_f64(r);
    }
    return 0;
}

static int decode_feedback(struct mx_reader *r, struct mx_entry *e, struct mx_entry_box *box)
{
    struct mx_reward *rewards;
    struct mx_score *scores;
    int rc;

    e->rank = mx_read_u32(r);
    e->world = mx_read_u32(r);
    e->flags = mx_read_u32(r);
    e->mix_version = mx_read_u64(r);
    if ((rc = decode_losses(r, e, box)) < 0) {
        return rc;
    }
    e->n_rewards = mx_read_u32(r);
    if ((rc = take_room(r, e->n_rewards, 20, sizeof *rewards, &box->memory[2])) < 0) {
        return rc;
    }
    e->rewards = rewards = box->memory[2];
    for (uint32_t i = 0; i < e->n_rewards; i++) {
        rewards[i].domain = mx_read_u32(r);
        rewards[i].count = mx_read_u64(r);
        rewards[i].sum = mx_read_f64(r);
    }
    if ((rc = decode_gram(r, e, box)) < 0) {
        return rc;
    }
    e->n_scores = mx_read_u32(r);
    if ((rc = take_room(r, e->n_scores, 20, sizeof *scores, &box->memory[5])) < 0) {
        return rc;
    }
    e->scores = scores = box->memory[5];
    for (uint32_t i = 0; i < e->n_scores; i++) {
        scores[i].domain = mx_read_u32(r);
        scores[i].sample = mx_read_u64(r);
        scores[i].score = mx_read_f64(r);
    }
    return 0;
}

/* n numbers in single precision. */
static int decode_f32s(struct mx_reader *r, size_t n, void **memory)
{
    double *v;

    if (r->failed || mx_reader_left(r) / 4 < n) {
        return MX_EDAMAGED;
    }
    v = *memory = malloc(8 * (n + 1));
    if (v == NULL) {
        return MX_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = mx_read_u32(r);
        float f;

        memcpy(&f, &bits, sizeof f);
        if (!isfinite(f) && bits != F32_NAN) {
            return MX_EDAMAGED;
        }
        v[i] = isnan(f) ? (double)NAN : (double)f;
    }
    return 0;
}

static int decode_mix(struct mx_reader *r, uint32_t k, struct mx_entry *e, struct mx_entry_box *box)
{
    int rc;

    e->mix_version = mx_read_u64(r);
    e->cause = (enum mx_mix_cause)mx_read_u32(r);
    e->cause_step = mx_read_u64(r);
    e->n_shares = mx_read_u32(r);
    rc = e->n_shares == k || (e->n_shares % 2 == 0 && e->n_shares / 2 == k)
             ? decode_values(r, e->n_shares, &box->memory[0]) : MX_EDAMAGED;
    e->shares = box->memory[0];
    return rc;
}

static int decode_made(struct mx_reader *r, uint32_t k, struct mx_entry *e,
                       struct mx_entry_box *box)
{
    uint32_t parts;
    int rc = decode_mix(r, k, e, box);

    e->phase = mx_read_u32(r);
    parts = mx_read_u32(r);
    e->n_terms = mx_read_u32(r);
    if (rc < 0 || (parts & ~(HAS_WEIGHTS | HAS_BOUND)) != 0 || e->n_terms > MX_POLICY_TERMS_MAX) {
        return rc < 0 ? rc : MX_EDAMAGED;
    }
    if ((parts & HAS_WEIGHTS) != 0) {
        rc = decode_f32s(r, k, &box->memory[1]);
        e->weights = box->memory[1];
    }
    if (rc == 0 && e->n_terms > 0) {
        rc = decode_f32s(r, (size_t)e->n_terms * k, &box->memory[2]);
        e->terms = box->memory[2];
    }
    if (rc == 0 && (parts & HAS_BOUND) != 0) {
        e->bound = mx_read_bytes(r, k).p; /* of the bytes that the entry is decoded from */
        for (uint32_t i = 0; i < k && !r->failed; i++) {
            rc = e->bound[i] <= MX_BOUND_CLOSED ? rc : MX_EDAMAGED;
        }
    }
    return rc;
}

static int decode_fit(struct mx_reader *r, struct mx_entry *e, struct mx_entry_box *box)
{
    int rc;

    e->domain = mx_read_u32(r);
    e->n_values = mx_reader_left(r) / 8;
    rc = decode_values(r, e->n_values, &box->memory[0]);
    e->values = box->memory[0];
    return rc;
}

static int decode_shadow(struct mx_reader *r, uint32_t k, struct mx_entry *e,
                         struct mx_entry_box *box)
{
    uint32_t parts;
    int rc;

    e->n = mx_read_u32(r);
    parts = mx_read_u32(r);
    if (e->n == 0 || e->n > MX_SHADOWS_MAX || (parts & ~HAS_WEIGHTS) != 0) {
        return MX_EDAMAGED;
    }
    rc = decode_values(r, (size_t)e->n * k, &box->memory[0]);
    e->shares = box->memory[0];
    if (rc == 0 && (parts & HAS_WEIGHTS) != 0) {
        rc = decode_f32s(r, (size_t)e->n * k, &box->memory[1]);
        e->weights = box->memory[1];
    }
    return rc;
}

static int decode_set(struct mx_reader *r, uint32_t k, struct mx_entry *e, struct mx_entry_box *box)
{
    int rc = decode_mix(r, k, e, box);

    rc = rc == 0 ? decode_values(r, k, &box->memory[1]) : rc;
    e->weights = box->memory[1];
    return rc;
}

static int decode_reserve(struct mx_reader *r, struct mx_entry *e, struct mx_entry_box *box)
{
    int rc;

    e->digest_from = mx_read_u64(r);
    e->n = mx_read_u32(r);
    rc = decode_values(r, e->n, &box->memory[0]);
    e->digests = box->memory[0];
    return rc;
}

static int decode_withdraw(struct mx_reader *r, struct mx_entry *e, struct mx_entry_box *box)
{
    struct mx_range *ranges;

    e->domain = mx_read_u32(r);
    e->serial = mx_read_u32(r);
    e->n = mx_read_u32(r);
    if (r->failed || e->n > mx_reader_left(r) / 16) {
        return MX_EDAMAGED;
    }
    ranges = box->memory[0] = malloc(((size_t)e->n + 1) * sizeof *ranges);
    if (ranges == NULL) {
        return MX_ENOMEM;
    }
    for (uint32_t i = 0; i < e->n; i++) {
        ranges[i].first = mx_read_u64(r);
        ranges[i].count = mx_read_u64(r);
    }
    e->ranges = ranges;
    return 0;
}

static int decode_state(struct mx_reader *r, uint32_t k, struct mx_entry *e,
                        struct mx_entry_box *box)
{
    int rc = decode_mix(r, k, e, box);

    e->branch = mx_read_u32(r);
    e->source = mx_read_u32(r);
    e->n_words = mx_reader_left(r) / 8;
    rc = rc == 0 ? decode_values(r, e->n_words, &box->memory[1]) : rc;
    e->words = box->memory[1];
    return rc;
}

static int decode_body(struct mx_reader *r, uint32_t k, struct mx_entry *e,
                       struct mx_entry_box *box)
{
    switch (e->kind) {
    case MX_ENTRY_FEEDBACK: return decode_feedback(r, e, box);
    case MX_ENTRY_CREATE:
    case MX_ENTRY_MIX: return decode_made(r, k, e, box);
    case MX_ENTRY_SET: return decode_set(r, k, e, box);
    case MX_ENTRY_RESERVE: return decode_reserve(r, e, box);
    case MX_ENTRY_EXHAUSTED:
        e->domain = mx_read_u32(r);
        e->flag = mx_read_u32(r);
        return 0;
    case MX_ENTRY_SKIP: e->to = mx_read_u64(r); return 0;
    case MX_ENTRY_ADOPT:
        e->domain = mx_read_u32(r);
        e->flag = mx_read_u32(r);
        e->samples = mx_read_u64(r);
        e->chunk = mx_read_u32(r);
        e->shards = mx_read_u32(r);
        return 0;
    case MX_ENTRY_WITHDRAW: return decode_withdraw(r, e, box);
    case MX_ENTRY_REWIND:
    case MX_ENTRY_FORK: return decode_state(r, k, e, box);
    case MX_ENTRY_FIT: return decode_fit(r, e, box);
    case MX_ENTRY_SHADOW: return decode_shadow(r, k, e, box);
    case MX_ENTRY_CLOSE:
    case MX_ENTRY_STOP: return 0;
    }
    return MX_EDAMAGED;
}

int mx_entry_decode(struct mx_span bytes, uint32_t k, struct mx_entry_box *ret, struct mx_err *err)
{
    struct mx_entry *e = &ret->entry;
    struct mx_reader r;
    struct mx_span author, why;
    enum mx_entry_kind kind;
    int rc;

    memset(ret, 0, sizeof *ret);
    mx_reader_init(&r, bytes.p, bytes.n);
    e->kind = (enum mx_entry_kind)mx_read_u16(&r);
    author = mx_read_str(&r, MX_WHY_MAX);
    why = mx_read_str(&r, MX_WHY_MAX);
    e->time_ms = mx_read_u64(&r);
    e->step = mx_read_u64(&r);
    e->frontier = mx_read_u64(&r);
    e->author = (const char *)author.p;
    e->author_len = (uint32_t)author.n;
    e->why = (const char *)why.p;
    e->why_len = (uint32_t)why.n;
    rc = r.failed ? MX_EDAMAGED : decode_body(&r, k, e, ret);
    if (rc == 0 && mx_reader_done(&r)) {
        return 0;
    }
    kind = e->kind;
    mx_entry_box_clear(ret);
    if (rc == MX_ENOMEM) {
        return mx_fail(err, MX_ENOMEM, "no memory for a journal entry");
    }
    return mx_fail(err, MX_EDAMAGED, "an entry of kind %u (%s) with %zu bytes makes no sense",
                   (unsigned)kind, mx_entry_name(kind), bytes.n);
}

void mx_entry_box_clear(struct mx_entry_box *b)
{
    for (size_t i = 0; i < sizeof b->memory / sizeof b->memory[0]; i++) {
        free(b->memory[i]);
    }
    memset(b, 0, sizeof *b);
}

bool mx_entry_makes_mix(enum mx_entry_kind kind)
{
    return kind == MX_ENTRY_CREATE || kind == MX_ENTRY_MIX || kind == MX_ENTRY_SET ||
           kind == MX_ENTRY_REWIND || kind == MX_ENTRY_FORK;
}

uint64_t mx_mix_order(uint64_t step, bool set)
{
    return 2 * step + set;
}

uint8_t *mx_mix_encode(const struct mx_entry *e, size_t *ret_n)
{
    size_t n = 16 + 8 * (size_t)e->n_shares;
    uint8_t *p = malloc(n);

    if (p != NULL) {
        mx_store_u64(p, e->mix_version);
        mx_store_u64(p + 8, e->index);
        for (uint32_t i = 0; i < e->n_shares; i++) {
            mx_store_u64(p + 16 + 8 * (size_t)i, e->shares[i]);
        }
        *ret_n = n;
    }
    return p;
}

int mx_mix_decode(struct mx_span bytes, uint32_t k, uint32_t n_shares, uint64_t *ret_version,
                  uint64_t *ret_index, uint64_t *ret_shares, struct mx_err *err)
{
    size_t one = 16 + 8 * (size_t)k, both = 16 + 16 * (size_t)k;

    if ((bytes.n != one && bytes.n != both) || bytes.n < 16 + 8 * (size_t)n_shares) {
        return mx_fail(err, MX_EDAMAGED, "a mix of %zu bytes isn't one of %" PRIu32 " domains%s",
                       bytes.n, k, n_shares > k ? " with weights of the loss" : "");
    }
    *ret_version = mx_load_u64(bytes.p);
    *ret_index = mx_load_u64(bytes.p + 8);
    for (uint32_t i = 0; i < n_shares; i++) {
        ret_shares[i] = mx_load_u64(bytes.p + 16 + 8 * (size_t)i);
    }
    return 0;
}

uint8_t *mx_words_encode(const uint64_t *words, size_t n, size_t *ret_n)
{
    uint8_t *p = malloc(8 * n + 1);

    if (p != NULL) {
        for (size_t i = 0; i < n; i++) {
            mx_store_u64(p + 8 * i, words[i]);
        }
        *ret_n = 8 * n;
    }
    return p;
}

int mx_words_decode(struct mx_span bytes, uint64_t **ret, size_t *ret_n, struct mx_err *err)
{
    uint64_t *words;

    if (bytes.n % 8 != 0) {
        return mx_fail(err, MX_EDAMAGED, "a snapshot of %zu bytes isn't made of words", bytes.n);
    }
    words = malloc(bytes.n + 8);
    if (words == NULL) {
        return mx_fail(err, MX_ENOMEM, "no memory for a snapshot of %zu bytes", bytes.n);
    }
    for (size_t i = 0; i < bytes.n / 8; i++) {
        words[i] = mx_load_u64(bytes.p + 8 * i);
    }
    *ret = words;
    *ret_n = bytes.n / 8;
    return 0;
}
