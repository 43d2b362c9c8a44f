/* clash.c - see clash.h. */
#include "daemon/core/clash.h"

const char *mx_clash(char *text, size_t cap, const char *words, const uint64_t *numbers)
{
    size_t n = 0;

    for (const char *w = words; *w != '\0' && n + 1 < cap; w++) {
        char digits[20];
        size_t left = 0;
        uint64_t v;

        if (*w != '#') {
            text[n++] = *w;
            continue;
        }
        v = *numbers++;
        do {
            digits[left++] = (char)('0' + v % 10);
            v /= 10;
        } while (v > 0);
        while (left > 0 && n + 1 < cap) {
            text[n++] = digits[--left];
        }
    }
    text[n] = '\0';
    return text;
}
