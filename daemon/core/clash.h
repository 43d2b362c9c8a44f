/* clash.h - what doesn't fit together, in words: for `check` of policy.h, as the core knows no
 * stdio. Internal to the core. */
#ifndef MX_CORE_CLASH_H
#define MX_CORE_CLASH_H

#include <stddef.h>
#include <stdint.h>

/* Writes words into text, cut to cap, each '#' replaced by the next number. Returns text. */
const char *mx_clash(char *text, size_t cap, const char *words, const uint64_t *numbers);

#endif
