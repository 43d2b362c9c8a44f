/* kv_check.h - is a file's B+tree sound enough to be given to LMDB?
 *
 * LMDB 0.9 trusts its pages: a flipped bit in a page's head or in a node makes it read outside of
 * the map, fail an assertion or walk for ever. A sealed file may come from anywhere, so its tree is
 * walked here first; data pages, which our own checksums cover, aren't touched. Knows LMDB's format
 * (docs/disk-format.md names the fields) but not the library. Pure; any thread. */
#ifndef MX_STORE_KV_CHECK_H
#define MX_STORE_KV_CHECK_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

/* The n bytes of a file of one LMDB environment with nothing but a main database of plain records.
 * NULL if sound; else a reason, and the page that is wrong. *ret_bytes is how long the file must
 * be at least. p is aligned as a map is. */
const char *mx_kv_check(const uint8_t *p, size_t n, uint64_t *ret_page, uint64_t *ret_bytes)
    MX_MUST_CHECK;

#endif
