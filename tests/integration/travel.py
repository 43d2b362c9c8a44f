"""What the tests of going back and forth in a run share: trainers whose losses are a function of the
step, and a book of all that was ever served.
"""
import json

from harness import PATIENCE, DaemonTest
import wire

ACCEPTED, DUPLICATE, LATE, DIVERGED = range(4)


def losses(step, rank=0, bent=0.0):
    """One rank's report: means that move with the step; `bent` is added to domain b's."""
    return [(0, 4, 64, 64 * (3.0 - step % 7 * 0.1 + rank)), (1, 4, 64, 64 * (1.0 + bent))]


class Book:
    """What was served: nothing in it may ever be contradicted."""

    def __init__(self, test, run=1):
        self.test, self.run, self.seen = test, run, {}

    def batch(self, w, step):
        b = w.batch(self.run, step, 0, 8)
        before = self.seen.setdefault((step, b["mix_version"]), b)
        self.test.assertEqual(b, before, f"step {step} of mix version {b['mix_version']}")
        return b

    def pull(self, w, first, end):
        return [self.batch(w, step) for step in range(first, end)]

    def train(self, w, first, end, bent=0.0):
        """Batches of steps first..end-1, each reported before the next is asked for."""
        got = []
        for step in range(first, end):
            got.append(self.batch(w, step))
            outcome = w.feedback(self.run, step, losses(step, bent=bent),
                                 version=got[-1]["mix_version"])[1]
            self.test.assertEqual(outcome, ACCEPTED, step)
        return got


def contents(batches):
    """The same without the mix's version: what trainers see."""
    return [(b["step"], b["domains"], b["samples"], b["epochs"], b["tokens"]) for b in batches]


class Travel(DaemonTest):
    def make(self, n=4096, **kw):
        """A daemon with a run of small reservations and many snapshots."""
        self.tokens("a", n)
        self.tokens("b", n, 20000)
        d = self.start()
        config = {"reserve_steps": 8, "snapshot_steps": 16, "lead": 0, "max_ahead": 4096}
        config.update(kw)
        self.create(d, **config)
        return d

    def again(self, d):
        """kill -9, and a new daemon on what is left."""
        d.kill()
        return self.start()

    def connect(self, d):
        return wire.Wire(d.url, timeout=PATIENCE)

    def control(self, d, op, **kw):
        with self.connect(d) as w:
            return json.loads(w.get(wire.CONTROL, json.dumps({"op": op, **kw}).encode()))

    def refused(self, d, op, *said, status=wire.BAD_REQUEST, **kw):
        """The text of a refusal, which says all of that."""
        with self.assertRaises(wire.Trouble) as e:
            self.control(d, op, **kw)
        self.assertEqual(e.exception.status, status, e.exception)
        for what in said:
            self.assertIn(what, e.exception.text)
        return e.exception.text

    def refused_batch(self, d, run, step, status, *said):
        with self.connect(d) as w, self.assertRaises(wire.Trouble) as e:
            w.batch(run, step, 0, 8)
        self.assertEqual(e.exception.status, status, e.exception)
        for what in said:
            self.assertIn(what, e.exception.text)
        return e.exception

    def log(self, d, run="r", **kw):
        """All entries, page by page."""
        entries, at = [], 0
        while at is not None:
            page = self.control(d, "run.log", run=run, **{"from": at}, **kw)
            entries += page["entries"]
            at = page["next"]
        return entries

    def kinds(self, d, kind, run="r"):
        return [e for e in self.log(d, run) if e["kind"] == kind]

    def replay(self, d, branches=1, run="r"):
        r = self.control(d, "run.replay", run=run)
        self.assertEqual((r["ok"], r["branches"]), (True, branches))
        return r
