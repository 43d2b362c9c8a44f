/* disk_log.h - the log that fault_shim.c takes of a file's writes, and test_power_loss.py's marks
 * in it. power_loss.c reads it. In the byte order of the machine, since it's gone with the test. */
#ifndef MX_TESTS_FAULTS_DISK_LOG_H
#define MX_TESTS_FAULTS_DISK_LOG_H

#include <stdint.h>

enum mx_disk_kind {
    MX_DISK_WRITE = 1,         /* the bytes are about to be written at offset */
    MX_DISK_WRITE_SYNCED = 2,  /* the last write there is durable, it alone (O_DSYNC) */
    MX_DISK_SYNCED = 3,        /* all writes before are durable */
    MX_DISK_TRUNCATE = 4,      /* to a length of offset */
    MX_DISK_NAMED = 5,         /* the file is about to get its name */
    MX_DISK_FOLDER_SYNCED = 6, /* what has a name keeps it */
    MX_DISK_MADE = 16,         /* the daemon has said that it is ready: there is a store */
    MX_DISK_DOMAINS = 17,      /* there are so many domains (offset): an ingest has said so */
    MX_DISK_ENTRY = 18,        /* u32 run: its entry number offset was acknowledged */
    MX_DISK_SERVED = 19,       /* u32 run, u32 mix version: step offset was served under it */
};

struct mx_disk_record {
    uint32_t kind;
    uint32_t bytes; /* that follow, and zeros up to a multiple of 8 */
    uint64_t offset;
};

#endif
