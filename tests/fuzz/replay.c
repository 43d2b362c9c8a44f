/* replay.c - runs a fuzz target over files and folders without libFuzzer, as an ordinary test.
 *
 * usage: TARGET PATH... ; besides each file's bytes, every prefix of a small file is tried too. */
#include "proto/err.h"

#include <dirent.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long inputs;

static void one_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *p = malloc(1u << 20);
    size_t n;

    MX_REQUIRE(f != NULL && p != NULL);
    n = fread(p, 1, 1u << 20, f);
    (void)fclose(f);
    for (size_t i = n < 2048 ? 0 : n; i <= n; i++) {
        /* A copy of exactly this size, so that a sanitizer sees the first byte past its end. */
        uint8_t *exact = malloc(i + 1);
        MX_REQUIRE(exact != NULL);
        exact = realloc(exact, i > 0 ? i : 1);
        MX_REQUIRE(exact != NULL);
        memcpy(exact, p, i);
        (void)LLVMFuzzerTestOneInput(exact, i);
        free(exact);
        inputs++;
    }
    free(p);
}

static void walk(const char *path)
{
    struct stat st;

    MX_REQUIRE(stat(path, &st) == 0);
    if (S_ISDIR(st.st_mode)) {
        DIR *d = opendir(path);
        struct dirent *e;
        MX_REQUIRE(d != NULL);
        while ((e = readdir(d)) != NULL) {
            char sub[4096];
            if (e->d_name[0] != '.') {
                (void)snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
                walk(sub);
            }
        }
        (void)closedir(d);
    } else {
        one_file(path);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        walk(argv[i]);
    }
    (void)printf("%lu inputs\n", inputs);
    return inputs > 0 ? 0 : 1;
}
