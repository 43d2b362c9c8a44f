/* checkpoint.h - a trainer on disk: parameters, moments, place in the run, seed. Written beside the
 * old file, synced and renamed over it, so that a crash leaves the old or the new one whole; read
 * only if every byte of it checks.
 *
 * Layout, little-endian: magic "BYTELM\r\n", u32 version, u32 context, embed, wide, hidden, u32
 * length of the run's name, u64 seed, next_step, updates, tokens, n; the name; n parameters, n
 * first and n second moments as the bits of 32-bit floats; u64 FNV-1a of all before it. A change of
 * this layout, or of the model, takes a new version.
 *
 * Knows nothing of the daemon. One thread. */
#ifndef BL_CHECKPOINT_H
#define BL_CHECKPOINT_H

#include "client/examples/bytelm/trainer.h"

#define BL_CHECKPOINT_VERSION 1u

enum { BL_OK = 0, BL_MISSING = -1, BL_DAMAGED = -2, BL_FAILED = -3 };

/* 0, or BL_FAILED with one line that names the file. */
int bl_checkpoint_save(const struct bl_trainer *t, const char *path, char *text, size_t text_size);
/* Fills *t, which the caller then owns. BL_MISSING if there is no such file; BL_DAMAGED if it isn't
 * what save wrote; BL_FAILED if it can't be read. In each case *t is empty and text says why. */
int bl_checkpoint_load(struct bl_trainer *t, const char *path, char *text, size_t text_size);

#endif
