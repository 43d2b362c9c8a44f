/* sections.h - what a feedback request carries: the sections behind its fixed fields.
 *
 * Each: u16 kind, u16 zero, u32 bytes, and that many bytes. Kinds rise; EVAL comes once for each
 * set, sets rising; all are optional. Zeros must be zero, so that one content has one form.
 *
 *   1 TRAIN   entries u32 domain, u32 samples, u64 tokens, f64 loss_sum; domains rising
 *   2 EVAL    u32 set, u32 zero, then entries u32 member, u32 samples, u64 tokens, f64 loss_sum;
 *             members rising
 *   3 REWARD  entries u32 domain, u32 zero, u64 count, f64 sum; domains rising
 *   4 GRAD    u32 n, u32 zero, f64 lr, u32 domains[n], rising, 4 zero bytes if n is odd, then the
 *             upper triangle of the matrix, row by row: f64[n (n + 1) / 2]
 *   5 SCORES  entries u32 domain, u32 zero, u64 sample, f64 score
 *
 * The decoder checks the form, not values or whether such domains exist. Pure; any thread. */
#ifndef MX_PROTO_SECTIONS_H
#define MX_PROTO_SECTIONS_H

#include "proto/err.h"
#include "proto/limits.h"
#include "proto/wire.h"

/* kind, NAME */
#define MX_SECTIONS(X)                                                                            \
    X(1, TRAIN)                                                                                   \
    X(2, EVAL)                                                                                    \
    X(3, REWARD)                                                                                  \
    X(4, GRAD)                                                                                    \
    X(5, SCORES)

enum mx_section {
#define MX_SECTION_ENUM(kind, NAME) MX_SECTION_##NAME = kind,
    MX_SECTIONS(MX_SECTION_ENUM)
#undef MX_SECTION_ENUM
};

#define MX_SECTION_ENTRY_BYTES 24u /* of all kinds that have entries */

struct mx_train_entry {
    uint32_t domain;  /* index in the run's list of domains; of an EVAL: member of the set */
    uint32_t samples; /* 0 if the trainer doesn't count them */
    uint64_t tokens;  /* how many tokens' losses are in the sum */
    double loss_sum;  /* nats */
};

struct mx_reward_entry {
    uint32_t domain;
    uint64_t count;
    double sum;
};

struct mx_score_entry {
    uint32_t domain;
    uint64_t sample;
    double score;
};

/* A section as it came: its entries, borrowed. */
struct mx_section_entries {
    struct mx_span bytes;
    uint32_t n;
    bool present;
};

struct mx_sections {
    struct mx_section_entries train, rewards, scores;
    struct mx_section_entries evals[MX_EVAL_SETS_MAX];
    uint32_t eval_sets[MX_EVAL_SETS_MAX]; /* number of the set that evals[i] is of */
    uint32_t n_eval_sets, n_evals;        /* sections, and entries of all of them */
    uint32_t n_gram;                      /* 0: no GRAD */
    struct mx_span gram_domains, gram;    /* u32[n_gram], f64[n_gram (n_gram + 1) / 2] */
    double lr;
    bool any; /* whether there is a section at all */
};

/* MX_EPROTOCOL with a text that names the section and what's wrong. */
int mx_sections_decode(struct mx_span sections, struct mx_sections *ret, struct mx_err *err)
    MX_MUST_CHECK;
void mx_train_get(const struct mx_section_entries *s, uint32_t i, struct mx_train_entry *ret);
void mx_reward_get(const struct mx_section_entries *s, uint32_t i, struct mx_reward_entry *ret);
void mx_score_get(const struct mx_section_entries *s, uint32_t i, struct mx_score_entry *ret);
uint32_t mx_gram_domain(const struct mx_sections *s, uint32_t i);
/* Number i of the triangle. */
double mx_gram_value(const struct mx_sections *s, uint32_t i);

/* Append a section each; in the order of kinds. More than a limit allows fails the writer. */
void mx_train_encode(struct mx_writer *w, const struct mx_train_entry *e, size_t n);
void mx_eval_encode(struct mx_writer *w, uint32_t set, const struct mx_train_entry *e, size_t n);
void mx_reward_encode(struct mx_writer *w, const struct mx_reward_entry *e, size_t n);
/* Whether inner products a of (i, j) and b of (j, i) can be the same number, computed in single
 * precision and in two orders; ii and jj are the squares. The upper triangle's is the one taken. */
bool mx_gram_alike(double a, double b, double ii, double jj);
/* gram: the upper triangle, row by row. */
void mx_grad_encode(struct mx_writer *w, const uint32_t *domains, size_t n, const double *gram,
                    double lr);
void mx_scores_encode(struct mx_writer *w, const struct mx_score_entry *e, size_t n);

#endif
