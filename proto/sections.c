/* sections.c - see sections.h. Knows bytes and limits, nothing of runs. */
#include "proto/sections.h"

#include <inttypes.h>
#include <math.h>

static const char *section_name(unsigned kind)
{
    switch (kind) {
#define SECTION_NAME(number, NAME)                                                                \
    case number: return #NAME;
        MX_SECTIONS(SECTION_NAME)
    default: return "unknown";
    }
}

/* ---- encoding ---- */

static void head(struct mx_writer *w, enum mx_section kind, size_t bytes)
{
    mx_write_u16(w, (uint16_t)kind);
    mx_write_u16(w, 0);
    mx_write_u32(w, (uint32_t)bytes);
}

static void losses(struct mx_writer *w, const struct mx_train_entry *e, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mx_write_u32(w, e[i].domain);
        mx_write_u32(w, e[i].samples);
        mx_write_u64(w, e[i].tokens);
        mx_write_f64(w, e[i].loss_sum);
    }
}

/* More entries than any message has room for: the length would not fit its field. */
static bool too_many(struct mx_writer *w, size_t n)
{
    w->failed = w->failed || n > MX_REQUEST_MAX / MX_SECTION_ENTRY_BYTES;
    return w->failed;
}

void mx_train_encode(struct mx_writer *w, const struct mx_train_entry *e, size_t n)
{
    if (!too_many(w, n)) {
        head(w, MX_SECTION_TRAIN, n * MX_SECTION_ENTRY_BYTES);
        losses(w, e, n);
    }
}

void mx_eval_encode(struct mx_writer *w, uint32_t set, const struct mx_train_entry *e, size_t n)
{
    if (!too_many(w, n)) {
        head(w, MX_SECTION_EVAL, 8 + n * MX_SECTION_ENTRY_BYTES);
        mx_write_u32(w, set);
        mx_write_u32(w, 0);
        losses(w, e, n);
    }
}

void mx_reward_encode(struct mx_writer *w, const struct mx_reward_entry *e, size_t n)
{
    if (too_many(w, n)) {
        return;
    }
    head(w, MX_SECTION_REWARD, n * MX_SECTION_ENTRY_BYTES);
    for (size_t i = 0; i < n; i++) {
        mx_write_u32(w, e[i].domain);
        mx_write_u32(w, 0);
        mx_write_u64(w, e[i].count);
        mx_write_f64(w, e[i].sum);
    }
}

static size_t triangle(size_t n)
{
    return n * (n + 1) / 2;
}

bool mx_gram_alike(double a, double b, double ii, double jj)
{
    return a == b || (isnan(a) && isnan(b)) || (a - b) * (a - b) <= 1e-10 * fabs(ii * jj);
}

void mx_grad_encode(struct mx_writer *w, const uint32_t *domains, size_t n, const double *gram,
                    double lr)
{
    if (n == 0 || n > MX_GRAM_MAX) {
        w->failed = true;
        return;
    }
    head(w, MX_SECTION_GRAD, 16 + 4 * (n + n % 2) + 8 * triangle(n));
    mx_write_u32(w, (uint32_t)n);
    mx_write_u32(w, 0);
    mx_write_f64(w, lr);
    for (size_t i = 0; i < n; i++) {
        mx_write_u32(w, domains[i]);
    }
    if (n % 2 != 0) {
        mx_write_u32(w, 0);
    }
    for (size_t i = 0; i < triangle(n); i++) {
        mx_write_f64(w, gram[i]);
    }
}

void mx_scores_encode(struct mx_writer *w, const struct mx_score_entry *e, size_t n)
{
    if (too_many(w, n)) {
        return;
    }
    head(w, MX_SECTION_SCORES, n * MX_SECTION_ENTRY_BYTES);
    for (size_t i = 0; i < n; i++) {
        mx_write_u32(w, e[i].domain);
        mx_write_u32(w, 0);
        mx_write_u64(w, e[i].sample);
        mx_write_f64(w, e[i].score);
    }
}

/* ---- entries ---- */

static struct mx_reader entry(const struct mx_section_entries *s, uint32_t i)
{
    struct mx_reader r;

    MX_REQUIRE(i < s->n);
    mx_reader_init(&r, s->bytes.p + (size_t)i * MX_SECTION_ENTRY_BYTES, MX_SECTION_ENTRY_BYTES);
    return r;
}

void mx_train_get(const struct mx_section_entries *s, uint32_t i, struct mx_train_entry *ret)
{
    struct mx_reader r = entry(s, i);

    ret->domain = mx_read_u32(&r);
    ret->samples = mx_read_u32(&r);
    ret->tokens = mx_read_u64(&r);
    ret->loss_sum = mx_read_f64(&r);
}

void mx_reward_get(const struct mx_section_entries *s, uint32_t i, struct mx_reward_entry *ret)
{
    struct mx_reader r = entry(s, i);

    ret->domain = mx_read_u32(&r);
    (void)mx_read_u32(&r);
    ret->count = mx_read_u64(&r);
    ret->sum = mx_read_f64(&r);
}

void mx_score_get(const struct mx_section_entries *s, uint32_t i, struct mx_score_entry *ret)
{
    struct mx_reader r = entry(s, i);

    ret->domain = mx_read_u32(&r);
    (void)mx_read_u32(&r);
    ret->sample = mx_read_u64(&r);
    ret->score = mx_read_f64(&r);
}

uint32_t mx_gram_domain(const struct mx_sections *s, uint32_t i)
{
    MX_REQUIRE(i < s->n_gram);
    return mx_load_u32(s->gram_domains.p + 4 * (size_t)i);
}

double mx_gram_value(const struct mx_sections *s, uint32_t i)
{
    struct mx_reader r;

    MX_REQUIRE(i < triangle(s->n_gram));
    mx_reader_init(&r, s->gram.p + 8 * (size_t)i, 8);
    return mx_read_f64(&r);
}

/* ---- decoding ---- */

/* How the entries of a section are checked: what their first number is, whether it rises, and
 * whether their second must be zero. */
struct form {
    const char *what;
    bool rising, zero;
};

static int check_entries(enum mx_section kind, struct mx_span bytes, const struct form *form,
                         struct mx_section_entries *ret, struct mx_err *err)
{
    const uint8_t *p = bytes.p;

    if (bytes.n % MX_SECTION_ENTRY_BYTES != 0) {
        return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: %s section: %zu bytes aren't a number "
                       "of entries of %u", section_name(kind), bytes.n, MX_SECTION_ENTRY_BYTES);
    }
    *ret = (struct mx_section_entries){bytes, (uint32_t)(bytes.n / MX_SECTION_ENTRY_BYTES), true};
    for (uint32_t i = 0; i < ret->n; i++, p += MX_SECTION_ENTRY_BYTES) {
        uint32_t before = i > 0 ? mx_load_u32(p - MX_SECTION_ENTRY_BYTES) : 0;

        if (form->rising && i > 0 && mx_load_u32(p) <= before) {
            return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: %s section: %s %" PRIu32
                           " comes after %s %" PRIu32 "; they must rise", section_name(kind),
                           form->what, mx_load_u32(p), form->what, before);
        }
        if (form->zero && mx_load_u32(p + 4) != 0) {
            return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: %s section: entry %" PRIu32
                           " has %" PRIu32 " where a zero must be", section_name(kind), i,
                           mx_load_u32(p + 4));
        }
    }
    return 0;
}

static int decode_eval(struct mx_span body, struct mx_sections *ret, struct mx_err *err)
{
    static const struct form form = {"member", true, false};
    uint32_t at = ret->n_eval_sets, set;
    struct mx_reader r;
    int rc;

    mx_reader_init(&r, body.p, body.n);
    set = mx_read_u32(&r);
    if (mx_read_u32(&r) != 0 || r.failed) {
        return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: EVAL section: it must begin with a "
                       "set's number and a zero");
    }
    if (at > 0 && set <= ret->eval_sets[at - 1]) {
        return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: EVAL section: set %" PRIu32
                       " comes after set %" PRIu32 "; they must rise", set, ret->eval_sets[at - 1]);
    }
    if (at == MX_EVAL_SETS_MAX) {
        return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: more than %u EVAL sections",
                       MX_EVAL_SETS_MAX);
    }
    rc = check_entries(MX_SECTION_EVAL, mx_read_rest(&r), &form, &ret->evals[at], err);
    if (rc == 0) {
        ret->eval_sets[at] = set;
        ret->n_eval_sets++;
        ret->n_evals += ret->evals[at].n;
    }
    return rc;
}

static int decode_grad(struct mx_span body, struct mx_sections *ret, struct mx_err *err)
{
    struct mx_reader r;
    uint32_t n, zero, pad = 0;

    mx_reader_init(&r, body.p, body.n);
    n = mx_read_u32(&r);
    zero = mx_read_u32(&r);
    ret->lr = mx_read_f64(&r);
    if (r.failed || n == 0 || n > MX_GRAM_MAX) {
        return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: GRAD section: a matrix of %" PRIu32
                       " domains; it has 1 to %u", n, MX_GRAM_MAX);
    }
    ret->gram_domains = mx_read_bytes(&r, 4 * (size_t)n);
    if (n % 2 != 0) {
        pad = mx_read_u32(&r);
    }
    ret->gram = mx_read_bytes(&r, 8 * triangle(n));
    if (!mx_reader_done(&r) || zero != 0 || pad != 0) {
        return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: GRAD section: %zu bytes; a matrix of %"
                       PRIu32 " domains has %zu, and zeros between", body.n, n,
                       16 + 4 * (n + n % 2) + 8 * triangle(n));
    }
    ret->n_gram = n;
    for (uint32_t i = 1; i < n; i++) {
        if (mx_gram_domain(ret, i) <= mx_gram_domain(ret, i - 1)) {
            return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: GRAD section: domain %" PRIu32
                           " comes after domain %" PRIu32 "; they must rise",
                           mx_gram_domain(ret, i), mx_gram_domain(ret, i - 1));
        }
    }
    return 0;
}

static int decode_one(unsigned kind, struct mx_span body, struct mx_sections *ret,
                      struct mx_err *err)
{
    static const struct form train = {"domain", true, false}, reward = {"domain", true, true};
    static const struct form score = {"domain", false, true};

    switch (kind) {
    case MX_SECTION_TRAIN: return check_entries(MX_SECTION_TRAIN, body, &train, &ret->train, err);
    case MX_SECTION_EVAL: return decode_eval(body, ret, err);
    case MX_SECTION_REWARD:
        return check_entries(MX_SECTION_REWARD, body, &reward, &ret->rewards, err);
    case MX_SECTION_GRAD: return decode_grad(body, ret, err);
    case MX_SECTION_SCORES: return check_entries(MX_SECTION_SCORES, body, &score, &ret->scores, err);
    default: break;
    }
    return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: section of kind %u is unknown", kind);
}

int mx_sections_decode(struct mx_span sections, struct mx_sections *ret, struct mx_err *err)
{
    struct mx_reader r;
    unsigned before = 0;

    *ret = (struct mx_sections){.any = sections.n > 0};
    mx_reader_init(&r, sections.p, sections.n);
    while (mx_reader_left(&r) > 0) {
        uint16_t kind = mx_read_u16(&r);
        uint16_t zero = mx_read_u16(&r);
        struct mx_span body = mx_read_bytes(&r, mx_read_u32(&r));
        int rc;

        if (r.failed) {
            return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: a section is cut short");
        }
        if (zero != 0) {
            return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: section of kind %u has %u where a "
                           "zero must be", kind, zero);
        }
        if (kind < before || (kind == before && kind != 0 && kind != MX_SECTION_EVAL)) {
            return mx_fail(err, MX_EPROTOCOL, "FEEDBACK request: section of kind %u %s", kind,
                           kind == before ? "comes twice" : "comes after one of a higher kind");
        }
        rc = decode_one(kind, body, ret, err);
        if (rc < 0) {
            return rc;
        }
        before = kind;
    }
    return 0;
}
