/* pull.c - a trainer that only looks: takes a run's batches by mxc_next and prints them, one a
 * line: step, first slot, slots, seq_len, samples, and the tokens in hexadecimal.
 *
 * pull URL RUN RANK WORLD FROM TO */
#include "client/mixclient.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const struct mxc_error *err)
{
    (void)fprintf(stderr, "pull: %s: %s\n", mxc_code_name(err->code), err->text);
    return EXIT_FAILURE;
}

static void print(const struct mxc_batch *b)
{
    const uint8_t *tokens = b->tokens;
    size_t n = (size_t)b->slots * b->seq_len * b->width;

    (void)printf("%" PRIu64 " %" PRIu32 " %" PRIu32 " %" PRIu32, b->step, b->first_slot, b->slots,
                 b->seq_len);
    for (uint32_t i = 0; i < b->slots; i++) {
        (void)printf(" %" PRIu64, b->samples[i]);
    }
    (void)printf(" ");
    for (size_t i = 0; i < n; i++) {
        (void)printf("%02x", tokens[i]);
    }
    (void)printf("\n");
}

int main(int argc, char **argv)
{
    struct mxc_client *client;
    struct mxc_run *run;
    struct mxc_batch *b;
    struct mxc_error err;
    uint64_t from, to;

    if (argc != 7) {
        (void)fprintf(stderr, "usage: pull URL RUN RANK WORLD FROM TO\n");
        return 2;
    }
    from = strtoull(argv[5], NULL, 10);
    to = strtoull(argv[6], NULL, 10);
    if (mxc_open(argv[1], NULL, &client, &err) < 0) {
        return fail(&err);
    }
    if (mxc_attach(client, argv[2], (uint32_t)strtoul(argv[3], NULL, 10),
                   (uint32_t)strtoul(argv[4], NULL, 10), from, &run, &err) < 0) {
        mxc_close(client);
        return fail(&err);
    }
    for (uint64_t step = from; step < to; step++) {
        if (mxc_next(run, &b, &err) < 0) {
            mxc_close(client);
            return fail(&err);
        }
        print(b);
        mxc_batch_free(b);
    }
    mxc_close(client);
    return ferror(stdout) != 0 || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
