/* watch.c - see watch.h. */
#include "daemon/watch.h"

#include <dirent.h>
#include <sys/resource.h>

#define LOOK_NS (2ull * 1000000000ull)
#define SPARE 16u

void mx_watch_start(struct mx_daemon *d)
{
    struct rlimit r;

    /* As many descriptors as the system lets us have: each trainer is one. */
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max < 65536 ? r.rlim_max : 65536;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
    d->watch.limit = getrlimit(RLIMIT_NOFILE, &r) == 0 ? r.rlim_cur : 1024;
}

/* UINT32_MAX if not even the folder can be opened. */
static uint32_t count(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint32_t n = 0;

    if (dir == NULL) {
        return UINT32_MAX;
    }
    while (readdir(dir) != NULL) {
        n++;
    }
    (void)closedir(dir);
    return n - 3; /* ".", ".." and the folder itself */
}

void mx_watch_tick(struct mx_daemon *d, uint64_t now)
{
    struct mx_watch *w = &d->watch;
    uint64_t n;

    if (now - w->looked_ns < LOOK_NS) {
        return;
    }
    w->looked_ns = now;
    n = count();
    w->open = n < w->limit ? (uint32_t)n : (uint32_t)w->limit;
    if (n + SPARE < w->limit) {
        w->warned = false;
    } else if (!w->warned) {
        w->warned = true;
        mx_log(MX_LOG_WARN, "descriptors", "open=%u limit=%llu effect=\"new connections wait\"",
               w->open, (unsigned long long)w->limit);
    }
}

#if defined(__SANITIZE_ADDRESS__)
#define MX_HAS_LEAK_CHECK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MX_HAS_LEAK_CHECK 1
#endif
#endif

#ifdef MX_HAS_LEAK_CHECK
#include <sanitizer/lsan_interface.h>
#endif

/* There in a build that measures which lines the tests reach. */
extern void __gcov_dump(void) __attribute__((weak));

void mx_watch_end(void)
{
#ifdef MX_HAS_LEAK_CHECK
    __lsan_do_leak_check();
#endif
    if (__gcov_dump != NULL) {
        __gcov_dump();
    }
}
