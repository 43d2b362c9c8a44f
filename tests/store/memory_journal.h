/* memory_journal.h - a journal in memory: what store/journal.h promises and nothing else, so that
 * the promise can be told apart from the catalog. Keeps runs and entries; mixes, snapshots and
 * reports are taken and forgotten. */
#ifndef MX_TESTS_STORE_MEMORY_JOURNAL_H
#define MX_TESTS_STORE_MEMORY_JOURNAL_H

#include "store/journal.h"

#define MEMORY_RUNS 8u /* ids 1 .. 7 */

struct mx_journal *memory_journal_new(void);
void memory_journal_free(struct mx_journal *j);

#endif
