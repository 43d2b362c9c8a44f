/* check.h - cmocka with what it needs, and buffers that end at a page which must not be touched. */
#ifndef MX_TESTS_PROTO_CHECK_H
#define MX_TESTS_PROTO_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static inline size_t guarded_bytes(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (n + page - 1) / page * page + page;
}

/* A copy of the n bytes that ends right before a PROT_NONE page. */
static inline char *guarded(const void *bytes, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t all = guarded_bytes(n);
    char *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + all - page, page, PROT_NONE), 0);
    if (n > 0) {
        memcpy(p + all - page - n, bytes, n);
    }
    return p + all - page - n;
}

static inline void unguard(char *p, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t all = guarded_bytes(n);

    assert_int_equal(munmap(p + n + page - all, all), 0);
}

#endif
