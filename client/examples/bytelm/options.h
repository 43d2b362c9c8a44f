/* options.h - bytelm's command line. Knows neither the model's inside nor the daemon. */
#ifndef BL_OPTIONS_H
#define BL_OPTIONS_H

#include "client/examples/bytelm/model.h"
#include "client/examples/bytelm/trainer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bl_options {
    const char *url, *run, *checkpoint, *eval_dir, *eval_set, *log; /* NULL: not given; of argv */
    uint64_t steps;            /* train up to this step of the run; UINT64_MAX: to its end */
    uint64_t eval_every;       /* steps; 0: only at the end */
    uint64_t checkpoint_every; /* steps */
    size_t eval_bytes;         /* per domain, while training; all of it at the end */
    double print_s;            /* seconds between lines */
    double patience_s;         /* how long to wait for a daemon that doesn't answer */
    uint32_t rank, world, stride, inflight;
    uint64_t seed;
    bool shape_given, seed_given;
    struct bl_shape shape;
    struct bl_recipe recipe;
};

/* 0; 1 if help was asked for (printed on stdout); -1 if the arguments are wrong (a line on stderr
 * says how). */
int bl_options_parse(int argc, char **argv, struct bl_options *ret);

#endif
