/* peer.h - a scripted peer that speaks the protocol over nng, for tests of libmixclient.
 *
 * A process of its own, so that it can be killed, and so that nng's threads on its side and on the
 * client's have nothing to do with each other. One request at a time. It serves a made-up run whose
 * every token is a function of (step, slot, place), and misbehaves as its knobs say. Set knobs
 * under peer_lock. */
#ifndef MX_TESTS_CLIENT_PEER_H
#define MX_TESTS_CLIENT_PEER_H

#include "proto/msg.h"
#include "proto/sections.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct peer;

#define PEER_ASKED 64

/* What can go wrong, and what was seen. */
struct peer_knobs {
    uint32_t batch_size, seq_len, width, domains, slots_per_reply;
    struct mx_part_entry parts[3]; /* n_parts; 0: the one that the above make */
    uint32_t n_parts;
    uint64_t end_step;
    uint64_t store;
    uint32_t n_evals, eval_sizes[4]; /* evaluation sets "set-0" with members "member-0", ... */
    uint32_t names_per_page; /* ATTACH: 0 for all */
    bool weights;            /* BATCH: the weight of slot i is i / 4 */
    uint64_t eval_step;      /* BATCH: an evaluation is wanted after this step, if not 0 */
    uint32_t slots_max;      /* BATCH: serves at most so many slots of a request; 0: all */
    uint32_t tokens_max;     /* BATCH: serves slots in parts of so many tokens; 0: whole */
    uint64_t version_step;   /* BATCH: the mix version is 7 before this step, 8 from it on */
    uint64_t hold_from;      /* BATCH: WAIT from this step on, */
    uint64_t hold_to;        /* up to this one */
    struct {
        uint64_t from, to;
    } gaps[3]; /* BATCH: steps from..to-1 are passed over; the first that has the step counts */
    uint32_t swap_domain;    /* BATCH: says that every slot is of this domain, if not 0 */
    /* For requests of a type: how many to answer with a status instead, how many to lose. */
    struct {
        uint32_t put_off, put_off_status, wait_ms;
        uint32_t lose;          /* taken and never answered */
        uint32_t refuse_status; /* every one, if not OK */
        const char *text;
    } on[8]; /* SKIPPED here names step 5 as the next, whatever was asked for */
    uint32_t mute; /* answers nothing at all */
    /* Changes a finished frame; n may shrink, or grow up to MX_REPLY_MAX. */
    void (*mangle)(const struct mx_header *request, uint8_t *frame, size_t *n);
    /* seen */
    uint32_t requests[8], posts_new, posts_again;
    uint32_t asked[PEER_ASKED]; /* BATCH requests by step */
    uint64_t oldest_seen;
    uint32_t largest_ask; /* slots */
    struct mx_feedback_request post;
    struct mx_train_entry entries[64];
    size_t n_entries;
    uint8_t sections[4096]; /* of the last post, if they fit */
    size_t n_sections;
    char client[64];
    char control[256];
};

/* First thing in main, before nng is used. */
void peer_init(void);
/* Listens on ipc://PATH, or on a free port of 127.0.0.1 if path is NULL. */
struct peer *peer_new(const char *path);
const char *peer_url(const struct peer *p);
struct peer_knobs *peer_lock(struct peer *p);
void peer_unlock(struct peer *p);
/* A copy, for assertions: one that fails must not leave the lock taken. */
struct peer_knobs peer_look(struct peer *p);
/* kill -9; and a new process at the same address. */
void peer_die(struct peer *p);
void peer_revive(struct peer *p);
void peer_free(struct peer *p);

/* What the run serves. */
uint32_t peer_token(uint64_t step, uint32_t slot, uint32_t place, uint32_t width);
bool peer_starts(uint32_t slot, uint32_t place); /* a document begins here */

#endif
