/* check.h - the core's own invariant check.
 *
 * The core knows no stdio, so a broken invariant of our own stops the program with a trap, which a
 * debugger or a core dump shows at the line. In every build; never for bad input. */
#ifndef MX_CORE_CHECK_H
#define MX_CORE_CHECK_H

#define MX_CORE_REQUIRE(cond)                                                                     \
    do {                                                                                          \
        if (!(cond)) {                                                                            \
            __builtin_trap();                                                                     \
        }                                                                                         \
    } while (0)

#endif
