/* sim.h - a run, its trainers, their network, its disk and its operator, all simulated; and what
 * must hold at every moment. See sim_world.h for the parts. */
#ifndef MX_TESTS_CORE_SIM_H
#define MX_TESTS_CORE_SIM_H

#include "tests/core/sim_world.h"

/* sim.c. s is filled anew; to be given to sim_free. Ends with all that is checked at the end. */
void sim_play(struct sim *s, uint64_t seed, int events);
void sim_free(struct sim *s);

/* An event, and what comes of it; also if it is to be given again. */
void sim_give(struct sim *s, struct mx_event *ev);
/* Whoever is held asks again. */
void sim_ask_held_again(struct sim *s);

/* sim_people.c */
void sim_ask(struct sim *s);
void sim_post(struct sim *s);
/* Any message that is on its way, whichever was sent first. */
void sim_deliver(struct sim *s);
/* All trainers go on with that step. */
void sim_trainers_start(struct sim *s, uint64_t step);
void sim_change_world(struct sim *s);
void sim_operate(struct sim *s);
void sim_thaw(struct sim *s);
/* The journal stands still: the REWIND is made, or given up. */
void sim_rewind(struct sim *s);
/* What a run goes on from at a step, by the journal and by each snapshot: the same. NULL if it
 * can't. */
uint64_t *sim_words_at(struct sim *s, uint64_t step, uint64_t *ret_shares, size_t *ret_n);

/* sim_policies.c */

/* What a report of a step says beside losses. */
void sim_fill_report(struct sim *s, struct message *m);
/* A long computation is asked for; one of those under way ends; all of them are gone. */
void sim_on_work(struct sim *s, const struct mx_effect *f);
void sim_work(struct sim *s);
void sim_forget_works(struct sim *s);
void sim_end_policies(struct sim *s);
void sim_free_policies(struct sim *s);

/* sim_model.c: nothing here changes the run. */

/* An entry comes into force. */
void model_apply(struct sim *s, const struct mx_entry *e);
/* A new run: of it nothing is known. */
void model_clear(struct model *m);
/* Looks at the run after whatever happened: steps that were planned since, and all numbers. */
void model_look(struct sim *s);
/* The steps in memory are what they were, and no sample comes twice in an epoch. */
void model_look_back(struct sim *s);
/* A step is being served. */
void model_served(struct sim *s, uint64_t step);
/* Whether who is held waits for something: an entry on its way, or in lockstep feedback or the
 * policy's computation. */
int model_waits(const struct sim *s);
/* A hash of all that is in a step. */
uint64_t model_hash(const struct sim *s, struct mx_run *r, const struct mx_step *at);
/* The end: the journal by itself says all of it. */
void model_check_journal(struct sim *s);

#endif
