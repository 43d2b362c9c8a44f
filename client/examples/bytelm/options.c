/* options.c - see options.h. One table gives the parser and the help text. */
#include "client/examples/bytelm/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { TEXT, WHOLE, REAL };

struct option_row {
    const char *name, *value, *what;
    enum kind kind;
    double min, max; /* inclusive */
    void *to;        /* const char *, uint64_t or double */
};

/* Everything as the table stores it, before it goes into struct bl_options. */
struct raw {
    uint64_t eval_bytes, rank, world, stride, inflight, context, embed, wide, hidden;
};

#define ROWS 26

static size_t fill_table(struct option_row *rows, struct bl_options *o, struct raw *r)
{
    const double whole = 9007199254740992.0; /* 2^53: what a double counts exactly */
    const struct option_row table[] = {
        {"connect", "URL", "the daemon (tcp://127.0.0.1:7117)", TEXT, 0, 0, &o->url},
        {"run", "NAME", "the run whose batches to train on", TEXT, 0, 0, &o->run},
        {"steps", "N", "stop before step N of the run (its end)", WHOLE, 1, whole, &o->steps},
        {"checkpoint", "FILE", "go on from it if it is there; keep it up to date", TEXT, 0, 0,
         &o->checkpoint},
        {"checkpoint-every", "N", "steps between checkpoints (500)", WHOLE, 1, whole,
         &o->checkpoint_every},
        {"eval", "DIR", "held-out texts, DIR/DOMAIN.txt, documents ended by a zero byte", TEXT, 0,
         0, &o->eval_dir},
        {"eval-every", "N", "steps between evaluations (500; 0: only at the end)", WHOLE, 0, whole,
         &o->eval_every},
        {"eval-set", "NAME", "the run's set as which their losses are posted (its first)", TEXT, 0,
         0, &o->eval_set},
        {"eval-bytes", "N", "of each domain until the end, where all is used (50000)", WHOLE, 1,
         whole, &r->eval_bytes},
        {"log", "FILE", "append a line of JSON per printed line", TEXT, 0, 0, &o->log},
        {"print-every", "SECONDS", "between lines (2)", REAL, 0, 1e6, &o->print_s},
        {"patience", "SECONDS", "wait for a daemon that is away (600)", REAL, 0, 1e9,
         &o->patience_s},
        {"rank", "R", "take this part of each step (0); ranks don't share their model", WHOLE, 0,
         65535, &r->rank},
        {"world", "W", "of so many parts (1)", WHOLE, 1, 65536, &r->world},
        {"inflight", "N", "batches asked for ahead (3)", WHOLE, 1, 64, &r->inflight},
        {"stride", "N", "train on every Nth position of a sample (1: all)", WHOLE, 1, 1024,
         &r->stride},
        {"seed", "N", "of the first parameters (1)", WHOLE, 0, whole, &o->seed},
        {"lr", "X", "peak learning rate (0.005)", REAL, 1e-9, 10, &o->recipe.rate},
        {"warmup", "N", "steps up to the peak (100)", REAL, 1, 1e9, &o->recipe.warmup},
        {"decay", "N", "steps over which it falls, as 1/sqrt(1 + steps/N) (1000)", REAL, 1, 1e12,
         &o->recipe.decay},
        {"clip", "X", "limit of the gradient's norm (1)", REAL, 1e-9, 1e9, &o->recipe.clip},
        {"context", "N", "bytes that the model looks back (10)", WHOLE, 1, BL_CONTEXT_MAX,
         &r->context},
        {"embed", "N", "numbers per byte (16)", WHOLE, 16, BL_EMBED_MAX, &r->embed},
        {"wide", "N", "size of the first layer (256)", WHOLE, 16, BL_LAYER_MAX, &r->wide},
        {"hidden", "N", "size of the second layer (128)", WHOLE, 16, BL_LAYER_MAX, &r->hidden},
    };
    const size_t n = sizeof table / sizeof table[0];

    _Static_assert(sizeof table / sizeof table[0] <= ROWS, "ROWS is too small");
    memcpy(rows, table, sizeof table);
    return n;
}

static void print_help(const struct option_row *rows, size_t n)
{
    puts(
        "usage: bytelm --run NAME [OPTION VALUE]...\n"
        "Trains a byte-level language model on the batches of a mixd run, and posts its losses.\n");
    for (size_t i = 0; i < n; i++)
        printf("  --%s %-*s %s\n", rows[i].name, 20 - (int)strlen(rows[i].name), rows[i].value,
               rows[i].what);
}

/* NULL, or what is wrong with the value. */
static const char *take(const struct option_row *row, const char *value)
{
    char *end;
    double x;

    if (row->kind == TEXT) {
        *(const char **)row->to = value;
        return NULL;
    }
    errno = 0;
    x = strtod(value, &end);
    if (end == value || *end != '\0' || errno != 0 || !isfinite(x))
        return "isn't a number";
    if (x < row->min || x > row->max)
        return "is out of range";
    if (row->kind == REAL) {
        *(double *)row->to = x;
        return NULL;
    }
    if (x != floor(x))
        return "isn't a whole number";
    *(uint64_t *)row->to = (uint64_t)x;
    return NULL;
}

static int refuse(const char *what, const char *value, const char *why)
{
    fprintf(stderr, "bytelm: %s %s %s (--help lists the options)\n", what, value, why);
    return -1;
}

static int finish(struct bl_options *o, const struct raw *r)
{
    const char *wrong;

    o->eval_bytes = (size_t)r->eval_bytes;
    o->rank = (uint32_t)r->rank;
    o->world = (uint32_t)r->world;
    o->stride = (uint32_t)r->stride;
    o->inflight = (uint32_t)r->inflight;
    o->shape = (struct bl_shape){(uint32_t)r->context, (uint32_t)r->embed, (uint32_t)r->wide,
                                 (uint32_t)r->hidden};
    if (o->run == NULL)
        return refuse("--run", "", "is missing");
    if (o->rank >= o->world)
        return refuse("--rank", "", "must be below --world");
    wrong = bl_shape_check(&o->shape);
    return wrong != NULL ? refuse("the model's shape:", "", wrong) : 0;
}

int bl_options_parse(int argc, char **argv, struct bl_options *ret)
{
    struct raw raw = {.eval_bytes = 50000,
                      .world = 1,
                      .stride = 1,
                      .inflight = 3,
                      .context = 10,
                      .embed = 16,
                      .wide = 256,
                      .hidden = 128};
    struct option_row rows[ROWS];
    size_t n;

    *ret = (struct bl_options){.url = "tcp://127.0.0.1:7117",
                               .steps = UINT64_MAX,
                               .eval_every = 500,
                               .checkpoint_every = 500,
                               .print_s = 2,
                               .patience_s = 600,
                               .seed = 1,
                               .recipe = {0.005, 100, 1000, 1}};
    n = fill_table(rows, ret, &raw);
    for (int i = 1; i < argc; i += 2) {
        const struct option_row *row = NULL;
        const char *wrong;

        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(rows, n);
            return 1;
        }
        for (size_t j = 0; j < n; j++)
            if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i] + 2, rows[j].name) == 0)
                row = &rows[j];
        if (row == NULL)
            return refuse(argv[i], "", "is no option");
        if (i + 1 >= argc)
            return refuse(argv[i], "", "needs a value");
        wrong = take(row, argv[i + 1]);
        if (wrong != NULL)
            return refuse(argv[i], argv[i + 1], wrong);
        if (row->to == &raw.context || row->to == &raw.embed || row->to == &raw.wide ||
            row->to == &raw.hidden)
            ret->shape_given = true;
        if (row->to == &ret->seed)
            ret->seed_given = true;
    }
    return finish(ret, &raw);
}
