/* msg.h - the messages of the protocol: one table from which enum, names, structs, codec and the
 * check of docs/protocol.md are made. docs/protocol.md is the specification.
 *
 * A frame is a header of 24 bytes and a body. Requests have status OK and an empty error; a reply
 * repeats the request's type with the top bit set and its id. Decoders are right by themselves:
 * they take any bytes, read past no end and allocate nothing; strings and tables are borrowed from
 * the frame. Pure; any thread. */
#ifndef MX_PROTO_MSG_H
#define MX_PROTO_MSG_H

#include "proto/err.h"
#include "proto/limits.h"
#include "proto/wire.h"

#define MX_MAGIC 0x3144584du /* the bytes "MXD1" */
#define MX_PROTOCOL_VERSION 2u
#define MX_HEADER_BYTES 24u
#define MX_REPLY_BIT 0x8000u

/* code, name, when */
#define MX_STATUSES(X)                                                                            \
    X(0, OK, "done")                                                                              \
    X(1, WAIT, "not yet: ask again after wait_ms")                                                \
    X(2, END, "the run is over: no such step will ever come")                                     \
    X(3, EXHAUSTED, "a domain has no samples left and the run stops there")                       \
    X(4, GONE, "the run, or data of it, has been removed")                                        \
    X(5, DENIED, "this peer may not do that")                                                     \
    X(6, BAD_REQUEST, "the request makes no sense: the text names what and where")                \
    X(7, BUSY, "too much at once: ask again after wait_ms")                                       \
    X(8, DAMAGED, "stored data failed its checksum: the text names shard and block")             \
    X(9, SKIPPED, "the step is passed over: go on at the step named")

enum mx_status {
#define MX_STATUS_ENUM(code, name, text) MX_STATUS_##name = code,
    MX_STATUSES(MX_STATUS_ENUM)
#undef MX_STATUS_ENUM
};

/* How many there are; they count from 0. */
#define MX_STATUS_ONE(code, name, text) +1
enum { MX_STATUS_COUNT = 0 MX_STATUSES(MX_STATUS_ONE) };
#undef MX_STATUS_ONE

/* id, NAME, name: request and reply of one exchange. Field lists below. */
#define MX_MESSAGES(X)                                                                            \
    X(1, HELLO, hello)                                                                            \
    X(2, ATTACH, attach)                                                                          \
    X(3, BATCH, batch)                                                                            \
    X(4, FEEDBACK, feedback)                                                                      \
    X(5, CONTROL, control)                                                                        \
    X(6, STATS, stats)

enum mx_message {
#define MX_MESSAGE_ENUM(id, NAME, name) MX_MSG_##NAME = id,
    MX_MESSAGES(MX_MESSAGE_ENUM)
#undef MX_MESSAGE_ENUM
};

/* Fields in wire order. Kinds: u16 u32 u64 integers; name: u16 length, at most MX_NAME_MAX bytes;
 * text: u16 length, at most MX_TEXT_MAX bytes; rest: all remaining bytes. */
#define MX_HELLO_REQUEST(F) F(u16, version_min) F(u16, version_max) F(name, client)
#define MX_HELLO_REPLY(F) F(u16, version) F(u32, reply_max) F(u64, store) F(name, server)

#define MX_ATTACH_REQUEST(F) F(u32, rank) F(u32, world) F(u32, name_first) F(name, run)
#define MX_ATTACH_REPLY(F)                                                                        \
    F(u32, run) F(u32, state) F(u64, frontier) F(u64, end_step) F(u64, mix_version)               \
    F(u32, batch_size) F(u32, seq_len) F(u32, width) F(u32, eod) F(u32, slots_per_reply)          \
    F(u32, max_ahead) F(u32, domain_count) F(u32, eval_set_count) F(u32, name_count)              \
    F(u32, name_first) F(u32, part_count) F(rest, tables)

#define MX_BATCH_REQUEST(F)                                                                       \
    F(u64, step) F(u64, oldest) F(u32, run) F(u32, rank) F(u32, world) F(u32, slot_first)         \
    F(u32, slot_count) F(u32, token_first)
#define MX_BATCH_REPLY(F)                                                                         \
    F(u64, step) F(u64, mix_version) F(u32, run) F(u32, slot_first) F(u32, slot_count)            \
    F(u32, token_first) F(u32, token_count) F(u32, width) F(u32, bound_count) F(u32, tokens_at)   \
    F(u32, batch_size) F(u32, seq_len) F(u32, flags) F(u32, weights_at) F(rest, tables)

#define MX_FEEDBACK_REQUEST(F)                                                                    \
    F(u64, step) F(u64, mix_version) F(u32, run) F(u32, rank) F(u32, world) F(u32, flags)         \
    F(rest, sections)
#define MX_FEEDBACK_REPLY(F) F(u64, entry) F(u32, outcome) F(u32, quarantined) F(text, text)

#define MX_CONTROL_REQUEST(F) F(rest, json)
#define MX_CONTROL_REPLY(F) F(rest, json)

#define MX_STATS_REQUEST(F) F(name, run)
#define MX_STATS_REPLY(F) F(rest, json)

/* The body of every reply whose status isn't OK; behind it, if it is SKIPPED, a u64: the first step
 * after those passed over. */
#define MX_TROUBLE(F) F(u32, wait_ms) F(text, text)

#define MX_CTYPE_u16 uint16_t
#define MX_CTYPE_u32 uint32_t
#define MX_CTYPE_u64 uint64_t
#define MX_CTYPE_name struct mx_span
#define MX_CTYPE_text struct mx_span
#define MX_CTYPE_rest struct mx_span
#define MX_FIELD_DECL(kind, field) MX_CTYPE_##kind field;

struct mx_trouble {
    MX_TROUBLE(MX_FIELD_DECL)
    uint64_t next;
    bool has_next; /* exactly if the status is SKIPPED */
};
#define MX_MESSAGE_STRUCTS(id, NAME, name)                                                        \
    struct mx_##name##_request {                                                                  \
        MX_##NAME##_REQUEST(MX_FIELD_DECL)                                                        \
    };                                                                                            \
    struct mx_##name##_reply {                                                                    \
        MX_##NAME##_REPLY(MX_FIELD_DECL)                                                          \
    };
MX_MESSAGES(MX_MESSAGE_STRUCTS)
#undef MX_MESSAGE_STRUCTS

struct mx_header {
    uint16_t type;   /* enum mx_message, with MX_REPLY_BIT in replies */
    uint32_t length; /* bytes after the header */
    uint32_t status; /* enum mx_status; OK in requests */
    uint64_t id;     /* chosen by the client, repeated in the reply */
};

/* Reads a frame's header and checks magic, version and that exactly `length` bytes follow.
 * MX_EPROTOCOL or MX_EVERSION with a text otherwise; what could be read is in *h even then. */
int mx_header_decode(const void *frame, size_t n, struct mx_header *h, struct mx_err *err)
    MX_MUST_CHECK;

/* Writes a header whose length is filled in by mx_frame_end. */
void mx_frame_begin(struct mx_writer *w, uint16_t type, uint32_t status, uint64_t id);
/* Sets the length in the header at the writer's base. The frame's size, or 0 if it didn't fit. */
size_t mx_frame_end(struct mx_writer *w);

/* mx_NAME_request_encode / _reply_encode write the body's fields after a frame's begin;
 * mx_NAME_request_decode / _reply_decode read a body (the frame without its header).
 * Decode: 0, or MX_EPROTOCOL with the message's name and what's wrong. */
#define MX_MESSAGE_CODEC(id, NAME, name)                                                          \
    void mx_##name##_request_encode(struct mx_writer *w, const struct mx_##name##_request *m);    \
    void mx_##name##_reply_encode(struct mx_writer *w, const struct mx_##name##_reply *m);        \
    int mx_##name##_request_decode(const void *body, size_t n, struct mx_##name##_request *ret,   \
                                   struct mx_err *err) MX_MUST_CHECK;                             \
    int mx_##name##_reply_decode(const void *body, size_t n, struct mx_##name##_reply *ret,       \
                                 struct mx_err *err) MX_MUST_CHECK;
MX_MESSAGES(MX_MESSAGE_CODEC)
#undef MX_MESSAGE_CODEC
void mx_trouble_encode(struct mx_writer *w, const struct mx_trouble *m);
/* The status is the frame's: it says which body this is. */
int mx_trouble_decode(const void *body, size_t n, uint32_t status, struct mx_trouble *ret,
                      struct mx_err *err) MX_MUST_CHECK;

const char *mx_message_name(unsigned type);  /* "BATCH", or "UNKNOWN"; the reply bit is ignored */
const char *mx_status_name(uint32_t status); /* "WAIT", or "UNKNOWN" */

/* ---- the attach reply's tables -------------------------------------------------------------
 * First part_count parts of the run, rising, each u64 from_step, u32 batch_size, u32 seq_len, u32
 * slots_per_reply; then u32[eval_set_count], how many members each evaluation set has; then names,
 * each a u16 length and bytes: name_count in all, of the domains, and of each set and then its
 * members, from number name_first on. */
#define MX_PART_BYTES 20u

struct mx_part_entry {
    uint64_t from_step;       /* the first one's is 0 */
    uint32_t batch_size;      /* slots in a step from there on */
    uint32_t seq_len;         /* tokens in a slot */
    uint32_t slots_per_reply; /* how many to ask for at once */
};

void mx_part_encode(struct mx_writer *w, const struct mx_part_entry *e);
/* Part i of an attach reply whose parts were found to be there. */
void mx_part_get(struct mx_span tables, size_t i, struct mx_part_entry *ret);
/* Checks that a decoded reply has its parts: 1 to MX_PARTS_MAX, from step 0 on, rising, sizes in
 * range. *ret_names: what lies behind them. */
int mx_parts_check(const struct mx_attach_reply *m, struct mx_span *ret_names, struct mx_err *err)
    MX_MUST_CHECK;

/* ---- the batch reply's tables --------------------------------------------------------------
 * After the fixed fields: sample u64[n], domain u32[n], epoch u32[n], bounds u32[n] (how many
 * document starts each sample has), with flag WEIGHTS weight f32[n], then all the starts
 * u32[bound_count] in slot order (offsets in tokens from the sample's own first token, only those
 * inside the part served), zero bytes up to a multiple of 8 from the frame's start, then the tokens:
 * n * token_count of width bytes. */
#define MX_BATCH_FIXED_BYTES (MX_HEADER_BYTES + 64u)
/* Where fields of the reply stand that are written late, from the frame's start. */
#define MX_BATCH_VERSION_AT (MX_HEADER_BYTES + 8u)
#define MX_BATCH_FLAGS_AT (MX_HEADER_BYTES + 56u)

/* batch flags */
#define MX_BATCH_EVAL_WANTED 1u /* the run's policy asks for an evaluation after this step */
#define MX_BATCH_WEIGHTS 2u     /* weights of the loss follow */

/* A weight of the loss over this is no weight. */
#define MX_LOSS_WEIGHT_MAX 4294967296.0f

struct mx_batch_layout {
    /* offsets from the frame's start; weights: 0 if there are none */
    size_t samples, domains, epochs, bounds, weights, starts, tokens;
    size_t bytes; /* of the whole frame */
};

/* Where the tables of such a reply lie; the arguments are trusted to be within limits.h. */
void mx_batch_layout(uint32_t slot_count, uint32_t bound_count, uint32_t token_count,
                     uint32_t width, bool weighted, struct mx_batch_layout *ret);

/* Checks that a decoded reply's tables are exactly as long as its fields say, that the bounds add
 * up, that each start lies in the part served, rising, and that weights are numbers >= 0. frame/n is
 * the whole frame. */
int mx_batch_check(const void *frame, size_t n, const struct mx_batch_reply *m,
                   struct mx_batch_layout *ret, struct mx_err *err) MX_MUST_CHECK;

/* The sections of a feedback request: sections.h. */

/* feedback flags */
#define MX_FLAG_NONFINITE_LOSS 1u
#define MX_FLAG_STEP_SKIPPED 2u

enum mx_feedback_outcome {
    MX_FEEDBACK_ACCEPTED = 0,
    MX_FEEDBACK_DUPLICATE = 1, /* this rank has reported this step before; nothing changed */
    MX_FEEDBACK_LATE = 2,      /* the step was closed before; nothing changed */
    MX_FEEDBACK_DIVERGED = 3,  /* it has reported it before, with other losses; nothing changed */
};

#endif
