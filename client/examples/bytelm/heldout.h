/* heldout.h - documents that were kept out of the training data, and the model's loss on them.
 *
 * Files DIR/DOMAIN.txt: documents one after another, each ended by a zero byte (the last one may do
 * without). Owns the texts. One thread. */
#ifndef BL_HELDOUT_H
#define BL_HELDOUT_H

#include "client/examples/bytelm/model.h"

struct bl_heldout; /* the texts of all domains */

struct bl_score {
    double loss_sum; /* nats */
    uint64_t tokens; /* 0: there is nothing held out for the domain */
};

/* Reads the files of n domains. A domain without a file has no score; at least one must have one.
 * NULL and one line of text if not, or if a file can't be read. */
struct bl_heldout *bl_heldout_open(const char *dir, const char *const *domains, uint32_t n,
                                   char *text, size_t text_size);
void bl_heldout_close(struct bl_heldout *h); /* NULL is fine */

/* Loss on each domain's first documents, up to about bytes_max bytes: scores[n]. Every byte of a
 * document and its end are predicted from the document alone. 0, or -1 without memory. The model's
 * tables are filled from its present parameters. */
int bl_heldout_score(const struct bl_heldout *h, struct bl_model *m, size_t bytes_max,
                     struct bl_score *scores);

#endif
