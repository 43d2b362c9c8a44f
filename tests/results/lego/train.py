"""One training run of the LEGO experiment: batches come from mixd, losses go to it.

The model's seed is the run's. Evaluates all skills on held-out examples every so many steps, posts
their losses with the step that they follow, and keeps a part of what it measured. Knows nothing of
mixes: what is trained on is the daemon's choice."""
import time

import numpy as np
import torch

import mixclient_thin
from lego import texts
from lego.methods import NAMES, SKILLS
from lego.model import Model

RECORD = 5                    # every so many evaluations are kept
HELDOUT = 200                 # examples of each skill
RATE, WARM_STEPS = 1e-3, 100
HELDOUT_SEED = 7


def heldout():
    """[skills, HELDOUT, LENGTH - 1] bytes; none of them is trained on."""
    return np.stack([texts.examples(i, HELDOUT, HELDOUT_SEED) for i in range(SKILLS)])


class Trainer:
    def __init__(self, seed):
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.model = Model()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=RATE, betas=(0.9, 0.98),
                                           weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: min(1.0, (step + 1) / WARM_STEPS))
        held = heldout().reshape(-1, texts.LENGTH - 1)
        end = np.full((len(held), 1), 256)
        self.held = torch.from_numpy(np.concatenate([held, end], axis=1).astype(np.int64))

    def step(self, tokens):
        """Trains on a batch; each example's loss before the update."""
        losses, _ = self.model.losses(torch.from_numpy(tokens.astype(np.int64)))
        self.optimiser.zero_grad()
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        return losses.detach().numpy().astype(float)

    def evaluate(self):
        """Mean loss and accuracy of each skill."""
        with torch.no_grad():
            losses, right = self.model.losses(self.held)
        return (losses.double().view(SKILLS, -1).mean(1).tolist(),
                right.double().view(SKILLS, -1).mean(1).tolist())


def sums(domains, losses, names):
    """A step's losses by domain as a post wants them."""
    counts = np.bincount(domains, minlength=len(names))
    totals = np.bincount(domains, weights=losses, minlength=len(names))
    return {name: (float(totals[i]), int(counts[i]), int(counts[i]))
            for i, name in enumerate(names) if counts[i]}


def scores(losses):
    """Mean losses of the held-out examples as a post wants them."""
    return {"eval": {name: (loss * HELDOUT, HELDOUT, HELDOUT)
                     for name, loss in zip(NAMES, losses)}}


def whole(tokens, eod):
    """Whether each sample is exactly one example."""
    return (tokens.shape[1] == texts.LENGTH and (tokens[:, -1] == eod).all()
            and (tokens[:, texts.ANSWER - 3] == ord("?")).all())


def train(url, library, name, seed, every):
    """Trains to the run's end and evaluates every so many steps. {step, seen, loss, accuracy}:
    lists with one entry a record; seen is the examples of each skill that had been trained on."""
    begin = time.monotonic()
    trainer, got = Trainer(seed), {"step": [], "seen": [], "loss": [], "accuracy": []}
    seen = np.zeros(SKILLS, np.int64)

    def record(step, measured):
        got["step"].append(step)
        got["seen"].append(seen.tolist())
        got["loss"].append([round(x, 5) for x in measured[0]])
        got["accuracy"].append([round(x, 5) for x in measured[1]])

    record(0, trainer.evaluate())
    with mixclient_thin.Client(url, library) as client:
        run = client.attach(name)
        place = [run.names.index(domain) for domain in NAMES]
        for batch in run:
            tokens, domains = np.asarray(batch.tokens), np.asarray(batch.domains)
            if not whole(tokens, run.eod):
                raise ValueError(f"{name}, step {batch.step}: samples aren't one example each")
            losses, done = trainer.step(tokens), batch.step + 1
            seen += np.bincount(domains, minlength=len(run.names))[place]
            measured = trainer.evaluate() if done % every == 0 else None
            run.report(batch.step, sums(domains, losses, run.names),
                       scores(measured[0]) if measured else None)
            if done % (RECORD * every) == 0:
                record(done, measured)
        run.flush()
        counts = run.feedback_counts()
        if counts["accepted"] != counts["posted"] or counts["quarantined"]:
            raise ValueError(f"{name}: not all feedback was taken: {counts}")
    return got | {"seconds": round(time.monotonic() - begin, 1)}
