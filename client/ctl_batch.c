/* ctl_batch.c - mixctl batch: what is in a step, as a trainer gets it.
 *
 * Fetches slots through libmixclient and shows them: as a table with the beginning of each sample,
 * as text, as hashes, or as JSON. Tokens of the byte tokenizer are shown as the text they are. */
#include "client/ctl.h"

#include "proto/limits.h"
#include "store/hash.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define PREVIEW 56
#define BYTES_EOD 256u /* the byte tokenizer's end of a document */

static uint32_t token_at(const struct mxc_batch *b, uint32_t slot, uint32_t t)
{
    size_t at = (size_t)slot * b->seq_len + t;

    return b->width == 2 ? ((const uint16_t *)b->tokens)[at] : ((const uint32_t *)b->tokens)[at];
}

/* XXH3-64 of a slot's tokens in little-endian, as they were served. */
static uint64_t hash_of(const struct mxc_batch *b, uint32_t slot)
{
    size_t n = (size_t)b->seq_len * b->width;
    uint8_t *row = malloc(n);
    uint64_t h;

    if (row == NULL) {
        exit(ctl_fail("out of memory"));
    }
    for (uint32_t t = 0; t < b->seq_len; t++) {
        uint32_t v = token_at(b, slot, t);

        for (uint32_t i = 0; i < b->width; i++) {
            row[(size_t)t * b->width + i] = (uint8_t)(v >> (8 * i));
        }
    }
    h = mx_hash64(row, n, 0);
    free(row);
    return h;
}

/* ---- showing ---- */

/* Whether the tokens are bytes of text. */
static bool is_text(const struct mxc_run_info *info)
{
    return info->width == 2 && info->eod == BYTES_EOD;
}

static void print_text(const struct mxc_run_info *info, const struct mxc_batch *b, uint32_t slot)
{
    bool tty = isatty(STDOUT_FILENO) == 1;
    bool line = true; /* at the beginning of a line */

    for (uint32_t t = 0; t < b->seq_len; t++) {
        uint32_t v = token_at(b, slot, t);

        if (!is_text(info)) {
            (void)printf("%s%" PRIu32, line ? "" : " ", v);
            line = false;
        } else if (v == BYTES_EOD) {
            (void)printf("%s<|end|>\n", line ? "" : "\n");
            line = true;
        } else {
            /* Text from anywhere mustn't be able to move a terminal's cursor. */
            bool control = (v < 0x20 && v != '\n' && v != '\t') || v == 0x7f;
            (void)putchar(tty && control ? '?' : (int)(v & 0xff));
            line = v == '\n';
        }
    }
    if (!line) {
        (void)putchar('\n');
    }
}

static void preview(const struct mxc_run_info *info, const struct mxc_batch *b, uint32_t slot,
                    char *buf, size_t n)
{
    size_t at = 0;

    for (uint32_t t = 0; t < b->seq_len && at + 1 < n; t++) {
        uint32_t v = token_at(b, slot, t);
        int k;

        if (!is_text(info)) {
            k = snprintf(buf + at, n - at, "%s%" PRIu32, t > 0 ? " " : "", v);
            at += k > 0 ? (size_t)k : 0;
        } else if (v == BYTES_EOD) {
            k = snprintf(buf + at, n - at, "<|end|>");
            at += k > 0 ? (size_t)k : 0;
        } else {
            buf[at++] = v < 0x20 || v >= 0x7f ? (v == '\n' || v == '\t' ? ' ' : '.') : (char)v;
        }
    }
    buf[at < n ? at : n - 1] = '\0';
}

static void show_table(const struct mxc_run_info *info, const struct mxc_batch *b)
{
    static const char *const heads[] = {"SLOT>", "DOMAIN", "SAMPLE>", "EPOCH>", "TOKENS"};
    struct ctl_table *t = ctl_table_new(heads, sizeof heads / sizeof heads[0]);
    char buf[CTL_CHARS], text[PREVIEW + 1];

    (void)printf("step %" PRIu64 " of run %s, mix version %" PRIu64 "\n\n", b->step, info->name,
                 b->mix_version);
    for (uint32_t i = 0; i < b->slots; i++) {
        (void)snprintf(buf, sizeof buf, "%" PRIu32, b->first_slot + i);
        ctl_table_cell(t, buf);
        ctl_table_cell(t, info->domains[b->domains[i]]);
        (void)snprintf(buf, sizeof buf, "%" PRIu64, b->samples[i]);
        ctl_table_cell(t, buf);
        (void)snprintf(buf, sizeof buf, "%" PRIu32, b->epochs[i]);
        ctl_table_cell(t, buf);
        preview(info, b, i, text, sizeof text);
        ctl_table_cell(t, text);
    }
    ctl_table_print(t, stdout);
}

static void show_text(const struct mxc_run_info *info, const struct mxc_batch *b)
{
    for (uint32_t i = 0; i < b->slots; i++) {
        (void)printf("--- slot %" PRIu32 ": %s, sample %" PRIu64 ", epoch %" PRIu32 "\n",
                     b->first_slot + i, info->domains[b->domains[i]], b->samples[i], b->epochs[i]);
        print_text(info, b, i);
    }
}

static void show_hashes(const struct mxc_run_info *info, const struct mxc_batch *b)
{
    for (uint32_t i = 0; i < b->slots; i++) {
        (void)printf("%" PRIu32 " %s %" PRIu64 " %" PRIu32 " %016" PRIx64 "\n", b->first_slot + i,
                     info->domains[b->domains[i]], b->samples[i], b->epochs[i], hash_of(b, i));
    }
}

static int show_json(const struct mxc_run_info *info, const struct mxc_batch *b)
{
    struct mx_jsonw w;
    char hash[24];
    char *json;

    mx_jsonw_init(&w, (size_t)1 << 30);
    mx_jsonw_object(&w, NULL);
    mx_jsonw_string(&w, "run", info->name);
    mx_jsonw_u64(&w, "step", b->step);
    mx_jsonw_u64(&w, "mix_version", b->mix_version);
    mx_jsonw_array(&w, "slots");
    for (uint32_t i = 0; i < b->slots; i++) {
        (void)snprintf(hash, sizeof hash, "%016" PRIx64, hash_of(b, i));
        mx_jsonw_object(&w, NULL);
        mx_jsonw_u64(&w, "slot", b->first_slot + i);
        mx_jsonw_string(&w, "domain", info->domains[b->domains[i]]);
        mx_jsonw_u64(&w, "sample", b->samples[i]);
        mx_jsonw_u64(&w, "epoch", b->epochs[i]);
        mx_jsonw_string(&w, "hash", hash);
        mx_jsonw_end_object(&w);
    }
    mx_jsonw_end_array(&w);
    mx_jsonw_end_object(&w);
    json = mx_jsonw_take(&w, NULL);
    if (json == NULL) {
        return ctl_fail("out of memory");
    }
    (void)puts(json);
    free(json);
    return CTL_DONE;
}

/* ---- the command ---- */

struct wanted {
    uint64_t step, slot, slots; /* slots 0: what the rank gets */
    uint64_t rank, world;
};

static bool parse_wanted(struct ctl *c, struct wanted *ret)
{
    const char *slots = ctl_opt(c, CTL_SLOTS);
    const char *rank = ctl_opt(c, CTL_RANK);
    const char *world = ctl_opt(c, CTL_WORLD);

    *ret = (struct wanted){.world = 1};
    if (ctl_opt(c, CTL_STEP) == NULL) {
        (void)ctl_usage("batch needs the step: --step S");
        return false;
    }
    if ((rank == NULL) != (world == NULL) || (slots != NULL && rank != NULL)) {
        (void)ctl_usage("either --slots FIRST:COUNT or both of --rank R and --world W");
        return false;
    }
    if (!ctl_u64("--step", ctl_opt(c, CTL_STEP), 0, MX_STEP_MAX, &ret->step) ||
        (slots != NULL && !ctl_slots(slots, &ret->slot, &ret->slots))) {
        return false;
    }
    return rank == NULL || (ctl_u64("--world", world, 1, MX_WORLD_MAX, &ret->world) &&
                            ctl_u64("--rank", rank, 0, ret->world - 1, &ret->rank));
}

static int show(struct ctl *c, const struct mxc_run_info *info, const struct mxc_batch *b)
{
    if (c->json) {
        return show_json(info, b);
    }
    if (ctl_opt(c, CTL_HASH) != NULL) {
        show_hashes(info, b);
    } else if (ctl_opt(c, CTL_TEXT) != NULL) {
        show_text(info, b);
    } else {
        show_table(info, b);
    }
    return CTL_DONE;
}

static int batch(struct ctl *c)
{
    struct wanted want;
    struct mxc_run *run;
    struct mxc_batch *b;
    struct mxc_error err;
    int rc;

    if (!parse_wanted(c, &want)) {
        return CTL_USAGE;
    }
    rc = ctl_connect(c);
    if (rc != CTL_DONE) {
        return rc;
    }
    if (mxc_attach(c->client, c->words[0], (uint32_t)want.rank, (uint32_t)want.world, want.step,
                   &run, &err) < 0) {
        return ctl_client_fail(&err);
    }
    rc = want.slots > 0
             ? mxc_slots_at(run, want.step, (uint32_t)want.slot, (uint32_t)want.slots, &b, &err)
             : mxc_batch_at(run, want.step, &b, &err);
    if (rc < 0) {
        return ctl_client_fail(&err);
    }
    rc = show(c, mxc_run_get_info(run), b);
    mxc_batch_free(b);
    return rc;
}

static const struct argp_option batch_options[] = {
    {"step", CTL_STEP, "S", 0, "The step", 0},
    {"slots", CTL_SLOTS, "FIRST:COUNT", 0, "These slots of it (default: all)", 0},
    {"rank", CTL_RANK, "R", 0, "The slots that this rank gets", 0},
    {"world", CTL_WORLD, "W", 0, "... of so many ranks", 0},
    {"text", CTL_TEXT, NULL, 0, "Show the whole text", 0},
    {"hash", CTL_HASH, NULL, 0, "A line per slot: slot, domain, sample, epoch, XXH3-64", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

const struct ctl_command ctl_batch_commands[] = {
    {"batch", "RUN", 1, 1, "Fetch a batch as a trainer would and show it.",
     "A step that isn't planned yet is planned by this.",
     "Example: mixctl batch demo --step 100 --slots 0:4 --text", batch_options, batch},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
