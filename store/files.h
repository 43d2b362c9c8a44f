/* files.h - what the store does to files by itself: locks, syncs, names.
 *
 * A lock here is flock(2): it belongs to the open file, is seen by other processes and by other
 * opens of this one, and goes when the last descriptor is closed, thus with a process that is
 * killed. LMDB's own locks are fcntl's, which these don't touch. Any thread. */
#ifndef MX_STORE_FILES_H
#define MX_STORE_FILES_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

/* A random number that isn't 0. */
int mx_random_id(uint64_t *ret, struct mx_err *err) MX_MUST_CHECK;
/* dir/FORMAT(id) into a fresh string, owned by the caller; NULL if out of memory. The suffix is
 * ".mxs" for shards, ".tmp" for shards that are being written, ".ingest" for holds. */
char *mx_store_path(const char *dir, uint64_t id, const char *suffix);
/* The number in "0123456789abcdefSUFFIX", or 0 if the name isn't of that form. */
uint64_t mx_store_name_parse(const char *name, const char *suffix);

/* Makes a new file and locks it; MX_EEXISTS if the name is taken or a sweep was faster: try
 * another. */
int mx_file_create_locked(const char *path, int *ret_fd, struct mx_err *err) MX_MUST_CHECK;
/* Removes a file that nobody has locked. 1 if it was removed, 0 if it is locked or gone. */
int mx_file_remove_unlocked(const char *path, struct mx_err *err) MX_MUST_CHECK;
/* Makes a folder's entries durable. */
int mx_dir_sync(const char *dir, struct mx_err *err) MX_MUST_CHECK;
/* Makes durable what was written to a file, through whatever descriptor. */
int mx_file_sync(const char *path, struct mx_err *err) MX_MUST_CHECK;
/* Makes a folder unless it is there. */
int mx_dir_make(const char *dir, struct mx_err *err) MX_MUST_CHECK;
/* Wall clock in milliseconds: data, never a deadline. */
uint64_t mx_wall_ms(void);

/* The code for an errno. */
int mx_errno_code(int number);

#endif
