"""A daemon that is killed again and again, and a client that goes on where it was.

The client holds what it was given against what it was given before: whatever comes in between,
the same slots of the same step are the same bytes, and what was acknowledged stays.
"""
import json
import random
import signal
import struct
import threading
import time

from harness import Daemon, PATIENCE
import wire

SEQ = 16
BATCH = 8
ACCEPTED, DUPLICATE, LATE, DIVERGED = range(4)


class Died(Exception):
    """The daemon was killed and has been started again; nobody knows what became of a request."""


class Life:
    """A store's daemon, with so many kills before it; `kills` counts those that were."""

    def __init__(self, test, data, rng, most, config=None):
        self.test, self.data, self.random, self.most, self.config = test, data, rng, most, config
        self.kills = self.lives = 0
        self.barren = 0      # lives in a row in which nothing was done
        self.done = False    # something was, in this one
        self.daemon = self.wire = self.timer = None
        self.kill_at = None  # number of the message with which it is killed
        self.sent = 0
        self.start()

    def launch(self, **kw):
        d = Daemon(self.data, config=self.config, **kw)
        self.test.daemons.append(d)
        return d

    def start(self):
        while self.kills < self.most and self.random.random() < 0.25:
            d = self.launch(ready=False)
            time.sleep(self.random.uniform(0, 0.02))
            self.daemon = d
            d.kill()
            self.buried()
        self.daemon = d = self.launch()
        self.lives += 1
        self.wire = None
        self.kill_at = self.timer = None
        self.barren = 0 if self.done else self.barren + 1
        self.done = False
        if self.kills >= self.most or self.barren > 4:
            return  # where the disk is slow a daemon must be given the time to get on
        if self.random.random() < 0.4:
            self.kill_at = self.sent + self.random.randrange(1, 40)
        else:
            self.timer = threading.Timer(self.random.uniform(0, 0.12), d.process.kill)
            self.timer.start()

    def buried(self):
        code = self.daemon.process.returncode
        if code != -signal.SIGKILL:
            self.test.fail(f"the daemon ended by itself, with {code}: {self.daemon.text()}")
        for word in ("broken invariant", "Sanitizer", "runtime error:"):
            self.test.assertNotIn(word, self.daemon.text())
        self.kills += 1

    def died(self):
        """After a connection that ended."""
        if self.timer is not None:
            self.timer.join()
        self.daemon.process.wait(PATIENCE)
        self.daemon.kill()
        self.buried()
        if self.wire is not None:
            self.wire.close()
        self.start()

    def ask(self, messages):
        """Sends [(type, body)] at once; the replies, in their order. Died if there aren't all."""
        try:
            if self.wire is None:
                url = self.random.choice([self.daemon.url, self.daemon.ipc])
                self.wire = wire.Wire(url, timeout=PATIENCE)
            heads = {}
            for i, (type_, body) in enumerate(messages):
                heads[self.wire.send(wire.frame(type_, body, i))] = i
                self.sent += 1
                if self.kill_at == self.sent:
                    time.sleep(self.random.choice((0, 0, self.random.uniform(0, 0.01))))
                    self.daemon.process.kill()
            replies = [None] * len(messages)
            while heads:
                head, reply = self.wire.receive()
                i = heads.pop(head)
                assert reply.id == i
                replies[i] = reply
            self.done = True
            return replies
        except TimeoutError:
            self.test.fail("the daemon hangs: " + self.daemon.text())
        except OSError:
            self.died()
            raise Died from None

    def end(self):
        """SIGTERM, if the kill doesn't come before it."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer.join()
        if self.wire is not None:
            self.wire.close()
        code = self.daemon.stop()
        if code != 0:
            self.buried()


class Run:
    """What the client knows of a run."""

    def __init__(self, name):
        self.name, self.id, self.domains = name, None, []
        self.branch = 0
        self.steps = {}    # of the present branch: {step: {slot: (version, domain, ...)}}
        self.trace = {}    # of all branches: {(branch, step): the same} and what wasn't given
        self.reports = {}  # acknowledged: {(branch, step, rank): (entry, message)}
        self.answers = {}  # of commands, by their tags; None if it was lost with the daemon


def loss_of(run, branch, step, domain):
    """An exact binary fraction, so that sums over any number of ranks are the same."""
    x = random.Random(f"{run} {branch} {step} {domain}")
    return x.randrange(64, 512) / 128


def wait(trouble_ms):
    time.sleep(min(trouble_ms, 100) / 1000)


class Client:
    def __init__(self, test, life, rng):
        self.test, self.life, self.random = test, life, rng
        self.runs = {}
        self.lives = life.lives

    # ---- talking ----

    def until(self, ask):
        """What it gives, asked again for as long as the daemon dies under it."""
        while True:
            try:
                return ask()
            except Died:
                pass

    def control(self, **o):
        """One answer; Died or wire.Trouble."""
        while True:
            (r,) = self.life.ask([(wire.CONTROL, json.dumps(o).encode())])
            if r.status == wire.OK:
                return json.loads(r.body)
            t = wire.Trouble(r.status, *wire.trouble(r.body, r.status))
            if t.status not in (wire.BUSY, wire.WAIT):
                raise t
            wait(t.wait_ms)

    def look(self, **o):
        return self.until(lambda: self.control(**o))

    def attach(self, name):
        def ask():
            body = struct.pack("<III", 0, 1, 0) + wire.name(name)
            return self.life.ask([(wire.ATTACH, body)])[0]
        run = self.runs.setdefault(name, Run(name))
        while True:
            r = self.until(ask)
            if r.status == wire.OK:
                break
            self.test.assertEqual(r.status, wire.WAIT, r.body)
            wait(20)
        info = wire.parse_attach(r.body)
        run.id, run.domains = info["run"], info["names"]
        return run

    # ---- batches ----

    def ranges(self):
        """The slots of a batch, in pieces."""
        cuts = sorted(self.random.sample(range(1, BATCH), self.random.choice((0, 0, 1, 3))))
        return [(a, b - a) for a, b in zip([0] + cuts, cuts + [BATCH])]

    def take(self, run, step, reply):
        """Whether it was a batch; it must be what it was before."""
        if reply.status != wire.OK:
            return False
        b = wire.parse_batch(reply.body)
        self.test.assertEqual(b["step"], step)
        if step not in run.steps:
            run.trace[(run.branch, step)] = run.steps[step] = {}
        for i in range(b["slot_count"]):
            got = (b["mix_version"], b["domains"][i], b["samples"][i], b["epochs"][i],
                   b["tokens"][i])
            was = run.steps[step].setdefault(b["slot_first"] + i, got)
            self.test.assertEqual(got, was, f"run {run.name} branch {run.branch} step {step}")
        return True

    def fetch(self, run, steps):
        """{step: None if it was given, else its trouble}; asked for until each is one of them."""
        said = {}
        asks = [(s, first, n) for s in steps for first, n in self.ranges()]
        self.random.shuffle(asks)
        while asks:
            try:
                replies = self.life.ask([(wire.BATCH, wire.batch_body(run.id, s, first, n))
                                         for s, first, n in asks])
            except Died:
                continue
            again, ms = [], 0
            for (s, first, n), r in zip(asks, replies):
                if self.take(run, s, r):
                    said[s] = None
                    continue
                t = wire.Trouble(r.status, *wire.trouble(r.body, r.status))
                if t.status in (wire.WAIT, wire.BUSY):
                    again.append((s, first, n))
                    ms = max(ms, t.wait_ms)
                else:
                    self.test.assertIn(t.status, (wire.SKIPPED, wire.END), str(t))
                    said[s] = t
                    run.steps.pop(s, None)
                    run.trace[(run.branch, s, "not")] = (t.status, t.next)
            asks = again
            wait(ms)
        return said

    # ---- feedback ----

    def report(self, run, step, rank, world):
        """What rank says of a step."""
        first, n = wire.slots(rank, world, BATCH)
        slots = [run.steps[step][i] for i in range(first, first + n)]
        counts = {}
        for s in slots:
            counts[s[1]] = counts.get(s[1], 0) + 1
        losses = [(d, c, c * SEQ, c * SEQ * loss_of(run.name, run.branch, step, run.domains[d]))
                  for d, c in sorted(counts.items())]
        return wire.feedback_body(run.id, step, losses, rank, world, run.steps[step][0][0])

    def post(self, run, step, world):
        todo = list(range(world))
        self.random.shuffle(todo)
        crashed = False
        while todo:
            bodies = [self.report(run, step, rank, world) for rank in todo]
            try:
                replies = self.life.ask([(wire.FEEDBACK, b) for b in bodies])
            except Died:
                crashed = True
                continue
            again, ms = [], 0
            for rank, body, r in zip(todo, bodies, replies):
                if r.status in (wire.BUSY, wire.WAIT):
                    again.append(rank)
                    ms = max(ms, wire.trouble(r.body)[0])
                    continue
                self.test.assertEqual(r.status, wire.OK, r.body)
                entry, outcome, bad, text = wire.parse_feedback(r.body)
                self.test.assertEqual(bad, 0, text)
                # One that was durable when its daemon died is known.
                self.test.assertIn(outcome, (ACCEPTED, DUPLICATE) if crashed else (ACCEPTED,), text)
                run.reports[(run.branch, step, rank)] = (entry, body)
            todo = again
            wait(ms)

    # ---- commands ----

    def log(self, run):
        """All entries of a run's journal."""
        entries, at = [], 1
        while at is not None:
            page = self.look(op="run.log", run=run.name, **{"from": at})
            entries += page["entries"]
            at = page["next"]
        self.test.assertEqual([e["index"] for e in entries], list(range(1, len(entries) + 1)))
        return entries

    def in_log(self, run, tag):
        return any(e["why"] == tag for e in self.log(run))

    def command(self, of, tag, **o):
        """A command that is in the journal once, whenever the daemon dies. Its answer, or None."""
        tag = f"{tag} {o['op']}"
        while True:
            try:
                of.answers[tag] = self.control(why=tag, author="test", **o)
                return of.answers[tag]
            except Died:
                if self.did(of, tag, o):
                    of.answers[tag] = None
                    return None

    def did(self, run, tag, o):
        """Whether a command whose answer was lost had been recorded."""
        if o["op"] in ("run.create", "run.fork"):
            return any(r["name"] == o["name"] for r in self.look(op="run.ls")["runs"])
        if o["op"] != "domain.withdraw":
            return self.in_log(run, tag)
        # The store has it first; the runs take it when they start.
        for _ in range(10):
            if self.in_log(run, tag):
                return True
            time.sleep(0.02)
        return False

    def rewind(self, run, tag, to):
        self.command(run, tag, op="run.rewind", run=run.name, to=to)
        run.branch += 1
        run.steps = {s: v for s, v in run.steps.items() if s < to}

    # ---- looking back ----

    def spot_check(self):
        """After a restart: something that was given before, and something acknowledged before."""
        if self.lives == self.life.lives:
            return
        self.lives = self.life.lives
        run = self.random.choice(list(self.runs.values()))
        if run.steps:
            self.fetch(run, [self.random.choice(list(run.steps))])
        mine = [k for k in run.reports if k[0] == run.branch and k[1] in run.steps]
        if mine:
            key = self.random.choice(mine)
            entry, body = run.reports[key]
            (r,) = self.until(lambda: self.life.ask([(wire.FEEDBACK, body)]))
            self.test.assertEqual(r.status, wire.OK, r.body)
            again, outcome, _, text = wire.parse_feedback(r.body)
            self.test.assertEqual((again, outcome), (entry, DUPLICATE), text)

    def check_log(self, run):
        """All that was acknowledged is in the journal, once."""
        entries = self.log(run)
        for (_, step, rank), (index, _) in run.reports.items():
            e = entries[index - 1]
            self.test.assertEqual((e["kind"], e["step"], e["rank"]), ("feedback", step, rank))
        for tag in run.answers:
            n = sum(e["why"] == tag for e in entries)
            if not tag.endswith(("run.create", "run.fork")):
                self.test.assertEqual(n, 1, f"{tag} in the journal of {run.name}")
        return entries

    def check_shown(self, run, most=1 << 30):
        """step.show tells of each step what its batch was."""
        steps = sorted(run.steps)
        for step in self.random.sample(steps, min(most, len(steps))):
            shown = self.look(op="step.show", run=run.name, step=step)
            self.test.assertIsNone(shown["next_slot"])
            for slot in shown["slots"]:
                if slot["slot"] not in run.steps[step]:
                    continue
                version, domain, sample, epoch, _ = run.steps[step][slot["slot"]]
                self.test.assertEqual((slot["domain"], slot["sample"], slot["epoch"]),
                                      (run.domains[domain], sample, epoch))
                self.test.assertEqual(shown["mix_version"], version)
