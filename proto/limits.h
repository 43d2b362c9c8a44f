/* limits.h - every bound that mixd puts on what it reads, holds or sends, with its reason.
 *
 * Nothing in the tree grows without a number from here (or from the config, whose range is
 * checked against a number from here). Knows nothing of the rest of the tree. */
#ifndef MX_PROTO_LIMITS_H
#define MX_PROTO_LIMITS_H

/* nng 1.5.2 loses its reaper thread when peers die while receiving replies of 512 KiB and more;
 * at 256 KiB it did not in thousands of abrupt disconnects. */
#define MX_REPLY_MAX 262144u
/* A feedback of MX_DOMAINS_MAX domains fits: 10,000 * 24 bytes and a header. It is also what a
 * peer can make the daemon allocate before its first byte is looked at. */
#define MX_REQUEST_MAX 262144u
/* Names appear in file names, Prometheus labels and table columns. */
#define MX_NAME_MAX 63u
/* An error text is one line on a terminal, with room for a path. */
#define MX_TEXT_MAX 1024u
/* Policies must plan in milliseconds; the largest published mix has some hundreds of domains. */
#define MX_DOMAINS_MAX 10000u
/* The largest global batches in use have some 100,000 sequences. */
#define MX_BATCH_MAX 1048576u
/* Phases of a run, in which its mix or its batches can be of another kind: curricula have a
 * handful. */
#define MX_PARTS_MAX 64u
/* Samples of the shortest length in a step: with MX_STEP_MAX it keeps cursors below 2^62. */
#define MX_STEP_UNITS_MAX (1u << 22)
/* Longer contexts than a million tokens are not trained on; one sample is served in parts. */
#define MX_SEQ_LEN_MAX 1048576u
/* Steps are multiplied by the batch size and must stay inside 64 bits. */
#define MX_STEP_MAX ((uint64_t)1 << 40)
/* The largest clusters have some 100,000 accelerators, and one trainer reports for several. */
#define MX_WORLD_MAX 65536u
/* Samples of a domain: the permutation works on 64-bit halves with room to spare. */
#define MX_SAMPLES_MAX ((uint64_t)1 << 48)
/* cJSON's tree takes 40 times its text; configs and commands are small. */
#define MX_JSON_MAX 262000u
#define MX_JSON_DEPTH_MAX 16u
/* Evaluation sets of a run, and members of all of them together. */
#define MX_EVAL_SETS_MAX 16u
#define MX_EVAL_MEMBERS_MAX 10000u
/* Numbers in a policy's graph of domains and members: 8 MiB. */
#define MX_GRAPH_MAX 1048576u
/* Domains of one Gram matrix: its upper triangle and a report of them fit one message. */
#define MX_GRAM_MAX 128u
/* One line of a file of reports: 10,000 domains with everything there is of each take 2 MiB. */
#define MX_REPORT_LINE_MAX ((size_t)4 << 20)
/* A URL or a path on the command line. */
#define MX_PATH_MAX 4096u
/* Text that explains a change, kept in the journal for ever. */
#define MX_WHY_MAX 512u
/* One journal entry: a rewind holds the state of a run, as a snapshot does (MX_SNAPSHOT_MAX),
 * beside a mix and its reason. */
#define MX_ENTRY_MAX 34603008u
/* Runs that one daemon holds in memory; each costs its policy's state and a ready queue. */
#define MX_RUNS_MAX 256u
/* Tokens in one stored block. 128 KiB of u16: large enough to compress well, small enough that a
 * damaged or cold block costs little. */
#define MX_BLOCK_TOKENS 65536u
/* Bytes of one stored block after decompression, which caps what a hostile frame can claim. */
#define MX_BLOCK_BYTES_MAX (MX_BLOCK_TOKENS * 4u)
/* Shards of one domain: 16,384 shards of 1 GiB are 16 TiB of one domain. */
#define MX_SHARDS_MAX 16384u
/* One line of a JSONL file. The longest documents of public corpora are some tens of megabytes, and
 * JSON's escapes can double a text; a longer line is skipped as malformed without being held. */
#define MX_LINE_MAX ((size_t)128 << 20)
/* Nesting of a JSONL line; documents' metadata is a few levels deep. */
#define MX_JSONL_DEPTH_MAX 128u
/* Token bytes at which an ingest seals a shard: large enough that 16 TiB have few files, small
 * enough to copy, to verify and to lose. */
#define MX_SHARD_BYTES_DEFAULT ((uint64_t)256 << 20)
/* Documents of one shard that one record describes: its offsets fill one page of 4096 bytes, which
 * is what a look-up on the serving path verifies. */
#define MX_GROUP_DOCUMENTS 1000u
/* Entries of one record of a shard's index of ids: likewise one page. */
#define MX_IDS_ENTRIES 254u
/* Documents at which an ingest seals a shard whatever its size: the index of their ids is sorted in
 * memory, 16 bytes each and as many again while that goes on. */
#define MX_SHARD_DOCUMENTS 2097152u
/* A zstd dictionary; zstd's own advice is some 100 KiB. */
#define MX_DICTIONARY_MAX 1048576u
/* Samples from which a dictionary is trained: zstd advises a hundred times its size. */
#define MX_DICTIONARY_SAMPLE_MAX ((size_t)32 << 20)
/* Log2 of the window that a compressed input may demand of us: 128 MiB, zstd's own default. */
#define MX_ZSTD_WINDOW_LOG_MAX 27
/* The catalog's map. It is address space, not memory or disk, and can't change while a process has
 * the catalog open: so it is set once, to far more than journals need. */
#define MX_CATALOG_MAP_BYTES ((uint64_t)64 << 30)
/* Where the address space is limited the map is made smaller, but not so small that a store with a
 * few long runs fills it. */
#define MX_CATALOG_MAP_BYTES_MIN ((uint64_t)256 << 20)
/* One stored mix or snapshot of a run: the state of a policy over MX_DOMAINS_MAX domains, with room
 * for one that keeps hundreds of numbers for each. */
#define MX_SNAPSHOT_MAX 33554432u
/* Numbers of 8 bytes that a run's policies may keep, its shadows' too: half of a snapshot. */
#define MX_POLICY_STATE_MAX (MX_SNAPSHOT_MAX / 8u / 2u)
/* Readers of the catalog at one time, over all processes; a read is one short transaction. */
#define MX_CATALOG_READERS 512u

/* Batch requests that one client has open: 8 MiB of replies on their way, which fills a 10 Gbit/s
 * link at 6 ms of delay; below the daemon's default of 96 for one connection. */
#define MX_CLIENT_CALLS_MAX 32u
/* Feedback posts on their way at once, and not yet acknowledged at all: a trainer that posts a step
 * a second outlives four minutes of outage. */
#define MX_CLIENT_POST_CALLS 8u
#define MX_CLIENT_POSTS_MAX 256u
/* Batches that mxc_next asks for ahead: memory of that many batches. */
#define MX_CLIENT_INFLIGHT_MAX 64u

#endif
