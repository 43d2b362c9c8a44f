/* err.h - the codes and the text with which every layer reports failure.
 *
 * A function that can fail returns 0 or a negative MX_E code, and writes what and where into the
 * caller's struct mx_err (which may be NULL). No allocation on the way. Any thread. */
#ifndef MX_PROTO_ERR_H
#define MX_PROTO_ERR_H

#include <stdio.h>
#include <stdlib.h>

/* code, name, what it means to the one who asked */
#define MX_ERRORS(X)                                                                              \
    X(-1, NOMEM, "out of memory")                                                                 \
    X(-2, INVALID, "bad input")                                                                   \
    X(-3, NOTFOUND, "no such thing")                                                              \
    X(-4, EXISTS, "there already")                                                                \
    X(-5, IO, "the system refused a read or a write")                                             \
    X(-6, DAMAGED, "stored data fails its checksum or makes no sense")                            \
    X(-7, VERSION, "written or spoken by another version")                                        \
    X(-8, FULL, "no room left")                                                                   \
    X(-9, BUSY, "in use, or too much asked at once")                                              \
    X(-10, TIMEOUT, "no answer in time")                                                          \
    X(-11, CLOSED, "closed")                                                                      \
    X(-12, CANCELLED, "interrupted")                                                              \
    X(-13, PROTOCOL, "the peer broke the protocol")                                               \
    X(-14, DENIED, "not allowed")                                                                 \
    X(-15, GONE, "was there, has been removed")                                                   \
    X(-16, EXHAUSTED, "a domain has no samples left")                                             \
    X(-17, END, "the run is over")                                                                \
    X(-18, UNREACHABLE, "no daemon answers")

enum mx_error {
#define MX_ERROR_ENUM(code, name, text) MX_E##name = code,
    MX_ERRORS(MX_ERROR_ENUM)
#undef MX_ERROR_ENUM
};

struct mx_err {
    int code;
    char text[1024]; /* MX_TEXT_MAX: one line, always terminated */
};

#define MX_MUST_CHECK __attribute__((warn_unused_result))

/* Sets *err (if not NULL) to code and the formatted text; returns code, so that a function can
 * end with `return mx_fail(err, MX_EINVALID, "...")`. */
int mx_fail(struct mx_err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "formatted text: " before the text that *err holds; returns err's code (0 if err is NULL).*/
int mx_wrap(struct mx_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The symbolic name ("INVALID") and the general meaning of a code; never NULL. */
const char *mx_error_name(int code);
const char *mx_error_meaning(int code);

/* A broken invariant of our own: says where and aborts, in every build. Never for bad input. */
#define MX_REQUIRE(cond)                                                                          \
    do {                                                                                          \
        if (!(cond)) {                                                                            \
            fprintf(stderr, "%s:%d: %s: broken invariant: %s\n", __FILE__, __LINE__, __func__,   \
                    #cond);                                                                       \
            abort();                                                                              \
        }                                                                                         \
    } while (0)

/* A place that can't be reached unless an invariant is broken: says why and aborts. */
#define MX_UNREACHABLE(why)                                                                       \
    do {                                                                                          \
        fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, __func__, why);                    \
        abort();                                                                                  \
    } while (0)

#endif
