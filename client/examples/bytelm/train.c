/* train.c - bytelm: a small byte-level language model that trains on a mixd run.
 *
 * The happy path: load the checkpoint or start anew; attach at the step after it; for each batch
 * train, now and then (or when the run's policy wants it) evaluate, post the losses of both, and
 * now and then print and write a checkpoint. A step's losses are posted before the checkpoint that
 * contains the step: after a crash some are posted twice, which the daemon knows by their step and
 * rank.
 *
 * SIGINT and SIGTERM end it after the present step, with a checkpoint. Exit codes: 0 done, 1
 * failed, 2 usage. One thread, beside those of libmixclient. */
#include "client/examples/bytelm/checkpoint.h"
#include "client/examples/bytelm/feed.h"
#include "client/examples/bytelm/heldout.h"
#include "client/examples/bytelm/options.h"
#include "client/examples/bytelm/report.h"
#include "client/examples/bytelm/trainer.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct session {
    struct bl_options o;
    struct bl_trainer t;
    struct bl_feed feed;
    struct bl_report report;
    struct bl_heldout *heldout; /* NULL: no evaluation */
    struct bl_score *scores;
    uint64_t mix_version; /* of the last batch */
    bool unsaved;         /* steps since the last checkpoint */
    bool stopped;         /* by a signal */
};

static bool same_shape(const struct bl_shape *a, const struct bl_shape *b)
{
    return a->context == b->context && a->embed == b->embed && a->wide == b->wide &&
           a->hidden == b->hidden;
}

/* The checkpoint's trainer, or a new one. */
static int start_trainer(struct bl_trainer *t, const struct bl_options *o)
{
    char text[1200] = "";
    int code = BL_MISSING;

    if (o->checkpoint != NULL)
        code = bl_checkpoint_load(t, o->checkpoint, text, sizeof text);
    if (code == BL_MISSING) {
        if (bl_trainer_init(t, &o->shape, o->seed, o->run) == 0)
            return 0;
        fprintf(stderr, "bytelm: out of memory\n");
        return -1;
    }
    if (code < 0) {
        fprintf(stderr, "bytelm: %s\n", text);
        return -1;
    }
    if (strcmp(t->run, o->run) != 0)
        fprintf(stderr, "bytelm: checkpoint %s: it is of run %s, not %s\n", o->checkpoint, t->run,
                o->run);
    else if (o->shape_given && !same_shape(&o->shape, &t->model.shape))
        fprintf(stderr, "bytelm: checkpoint %s: its model has another shape than asked for\n",
                o->checkpoint);
    else if (o->seed_given && o->seed != t->seed)
        fprintf(stderr, "bytelm: checkpoint %s: it has seed %" PRIu64 ", not %" PRIu64 "\n",
                o->checkpoint, t->seed, o->seed);
    else {
        printf("goes on from %s: step %" PRIu64 ", %" PRIu64 " tokens\n", o->checkpoint,
               t->next_step, t->tokens);
        return 0;
    }
    bl_trainer_fini(t);
    return -1;
}

/* Everything posted becomes durable first: a step in a checkpoint is never asked for again. */
static int save(struct session *s)
{
    char text[1200] = "";

    if (!s->unsaved)
        return 0;
    if (bl_feed_flush(&s->feed, &s->o) < 0)
        fprintf(stderr, "bytelm: training goes on without them\n");
    s->unsaved = false;
    if (s->o.checkpoint == NULL ||
        bl_checkpoint_save(&s->t, s->o.checkpoint, text, sizeof text) == BL_OK)
        return 0;
    fprintf(stderr, "bytelm: %s\n", text);
    return -1;
}

static int evaluate(struct session *s, int final)
{
    const uint64_t begin = bl_now_ns();
    uint64_t end;

    if (s->heldout == NULL)
        return 0;
    if (bl_heldout_score(s->heldout, &s->t.model, final ? SIZE_MAX : s->o.eval_bytes, s->scores) <
        0) {
        fprintf(stderr, "bytelm: out of memory for the evaluation\n");
        return -1;
    }
    end = bl_now_ns();
    bl_report_eval(&s->report, s->t.next_step, end, s->scores, final);
    bl_report_pause(&s->report, end - begin);
    return 0;
}

static void print(struct session *s)
{
    struct mxc_wait_stats w = {0};

    mxc_get_wait_stats(s->feed.run, &w);
    bl_report_train(&s->report, s->t.next_step, s->mix_version, bl_now_ns(), w.wait_ns);
}

/* Whether the model is to be evaluated after this step. At the last one it is in any case, on all
 * of the texts, by finish. */
static bool eval_due(const struct session *s, const struct mxc_batch *b)
{
    const uint64_t step = s->t.next_step;

    return b->eval_wanted != 0 ||
           (s->o.eval_every > 0 && step % s->o.eval_every == 0 && step < s->o.steps);
}

/* Trains on one batch, evaluates if it is time, and posts the losses. */
static int train_on(struct session *s, const struct mxc_batch *b)
{
    const uint32_t context = s->t.model.shape.context;
    const struct bl_score *scores = NULL;
    size_t n = 0;
    int code;

    s->mix_version = b->mix_version;
    s->unsaved = true;
    if (b->step > s->t.next_step) { /* the operator has data passed over */
        printf("steps %" PRIu64 " to %" PRIu64 " are passed over\n", s->t.next_step, b->step - 1);
        s->t.next_step = b->step;
    }
    if (bl_feed_windows(&s->feed, &s->o, b, s->t.seed, context, &n) < 0)
        return -1;
    if (n == 0) { /* a rank of more ranks than samples */
        s->t.next_step++;
        return 0;
    }
    code =
        bl_trainer_step(&s->t, &s->o.recipe, s->feed.contexts, s->feed.targets, n, s->feed.values);
    if (code < 0) {
        fprintf(stderr,
                "bytelm: step %" PRIu64 ": the loss isn't finite; no update, nothing posted\n",
                b->step);
        s->report.skipped++;
        return 0;
    }
    if (eval_due(s, b)) {
        scores = s->scores; /* NULL if there is nothing to evaluate on */
        if (evaluate(s, 0) < 0)
            return -1;
    }
    /* If it fails it has said so, and the model is fine. */
    (void)bl_feed_post(&s->feed, b, &s->report, scores);
    return 0;
}

/* Until the run, the steps or the operator's patience end. 0, or -1: said why. */
static int train(struct session *s)
{
    uint64_t printed = bl_now_ns();

    while (s->t.next_step < s->o.steps) {
        struct mxc_batch *b = NULL;
        int code = bl_feed_next(&s->feed, &s->o, &b);
        uint64_t step;

        s->stopped = code == BL_FEED_STOPPED;
        if (code == BL_FEED_FAILED)
            return -1;
        if (code != BL_FEED_OK)
            return 0;
        code = train_on(s, b);
        mxc_batch_free(b);
        if (code < 0)
            return -1;
        step = s->t.next_step;
        if ((double)(bl_now_ns() - printed) * 1e-9 >= s->o.print_s) {
            print(s);
            printed = bl_now_ns();
        }
        if (step % s->o.checkpoint_every == 0 && save(s) < 0)
            return -1;
        s->stopped = bl_stop_asked();
        if (s->stopped)
            return 0;
    }
    return 0;
}

/* After training: what is still to be printed, saved and (unless a signal says: now) evaluated. */
static int finish(struct session *s)
{
    struct mxc_feedback_counts c = {0};
    int code;

    print(s);
    code = save(s);
    if (!s->stopped && evaluate(s, 1) < 0)
        code = -1;
    mxc_feedback_get_counts(s->feed.run, &c);
    printf("stopped before step %" PRIu64 ": %" PRIu64 " losses posted, %" PRIu64
           " accepted, %" PRIu64 " known already, %" PRIu64 " with other losses, %" PRIu64
           " late, %" PRIu64 " refused\n",
           s->t.next_step, c.posted, c.accepted, c.duplicate, c.diverged, c.late, c.refused);
    if (c.last_text[0] != '\0')
        printf("the daemon last said about a loss: %s\n", c.last_text);
    return code;
}

static int open_reports(struct session *s)
{
    const struct mxc_run_info *info = s->feed.info;
    char text[1200] = "";

    if (s->o.eval_dir != NULL) {
        s->heldout =
            bl_heldout_open(s->o.eval_dir, info->domains, info->domain_count, text, sizeof text);
        s->scores = calloc(info->domain_count, sizeof *s->scores);
        if (s->heldout == NULL || s->scores == NULL) {
            fprintf(stderr, "bytelm: %s\n", s->heldout == NULL ? text : "out of memory");
            return -1;
        }
    }
    if (bl_report_open(&s->report, s->o.log, info->domains, info->domain_count, bl_now_ns(), text,
                       sizeof text) < 0) {
        fprintf(stderr, "bytelm: %s\n", text);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct session s = {.heldout = NULL};
    int code = bl_options_parse(argc, argv, &s.o);
    sigset_t set;

    if (code != 0)
        return code > 0 ? 0 : 2;
    /* Before any thread is made, so that all of them have the signals blocked. */
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || start_trainer(&s.t, &s.o) < 0)
        return 1;
    if (bl_feed_open(&s.feed, &s.o, s.t.next_step, s.t.model.shape.context) < 0) {
        bl_trainer_fini(&s.t);
        return 1;
    }
    code = open_reports(&s);
    if (code == 0) {
        code = train(&s);
        if (finish(&s) < 0)
            code = -1;
        bl_report_close(&s.report);
    }
    free(s.scores);
    bl_heldout_close(s.heldout);
    bl_feed_close(&s.feed);
    bl_trainer_fini(&s.t);
    return code < 0 ? 1 : 0;
}
