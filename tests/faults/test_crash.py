"""kill -9 at any instant: nothing that was acknowledged is lost, nothing that was served differs.

The same script is played twice, on two copies of one store: by a daemon that is killed all the time
and by one that isn't. In lockstep both must give the same, byte for byte. Otherwise mixes hang on
timing, but what a step holds must stay what it was when it was asked for first.

MIXD_TEST_KILLS says how often to kill, in all; MIXD_TEST_SEED which scripts to play.
"""
import json
import os
import random
import shutil
import time
import unittest

from crash import Client, Life
from harness import DaemonTest, main

KILLS = int(os.environ.get("MIXD_TEST_KILLS", "200"))
END = 36


def script(rng, lag):
    """What is done at which step: [(step, kind, numbers)], rising."""
    kinds = ["set", "set", "skip", "rewind", "rewind", "withdraw", "adopt", "fork", "second"]
    rng.shuffle(kinds)
    steps = sorted(rng.sample(range(3, END - lag - 8), len(kinds)))
    return [(at, kind, random.Random(rng.random())) for at, kind in zip(steps, kinds)]


class Trainer:
    """What the scripts have in common: steps one after the other, and commands in between."""

    def __init__(self, client, rng, lag):
        self.c, self.test, self.lag = client, client.test, lag
        self.todo = script(rng, lag)
        self.worlds = [rng.randrange(1, 4) for _ in range(END)]
        self.n = 0

    def tag(self):
        self.n += 1
        return f"#{self.n}"

    def train(self, run, t, upto):
        """From step t until `upto` has been asked for; the step it stands at."""
        while True:
            said = self.ahead(run, t)
            if said[t] is not None:
                if said[t].next is None:
                    return t
                t = said[t].next
                continue
            if run.name == "r" and self.todo and self.todo[0][0] <= t and self.stands(said):
                _, kind, rng = self.todo.pop(0)
                t = getattr(self, kind)(run, t, rng)
                continue
            if t >= upto:
                return t
            self.c.post(run, t, self.worlds[t])
            t += 1
            self.c.spot_check()

    # ---- commands: each gives the step to go on at ----

    def skip(self, run, t, rng):
        first = rng.randrange(t - 2, t + self.lag + 1)
        to = first + rng.randrange(1, 4)
        self.c.command(run, self.tag(), op="run.skip", run=run.name, to=to, **{"from": first})
        said = self.c.fetch(run, [first])
        self.test.assertEqual(said[first].next, to)
        for s in range(first, to):
            run.steps.pop(s, None)
        return t

    def rewind(self, run, t, rng):
        to = rng.randrange(max(0, t - 5), t + 1)
        self.c.rewind(run, self.tag(), to)
        return to

    def withdraw(self, run, t, rng):
        doc = f"{rng.choice('abc')}-{rng.randrange(20)}"
        self.c.command(run, self.tag(), op="domain.withdraw", name=doc[0], doc=doc)
        return t

    def adopt(self, run, t, rng):
        self.c.command(run, self.tag(), op="domain.adopt", name="c", run=run.name, now=True)
        return t

    def fork(self, run, t, rng):
        at = rng.randrange(max(0, t - 4), t + self.locked() + 1)
        self.c.command(run, self.tag(), op="run.fork", run=run.name, name="f", at=at)
        self.train(self.c.attach("f"), at, at + 4)
        return t

    def second(self, run, t, rng):
        self.c.command(run, self.tag(), op="run.create", name="s",
                       config=config(seed=rng.randrange(1000), lag=self.locked()))
        s = self.c.attach("s")
        self.train(s, 0, 3)
        self.c.command(s, self.tag(), op="run.stop", run="s")
        return t


class Lockstep(Trainer):
    """A trainer of a run whose plan follows from config, losses and commands alone.

    A command may act at the frontier. After a crash that stands as far on as it may be, and it may
    be `lag` steps past the reports that are in. So the script gives commands only when each run has
    been asked for its last step before that barrier, and before it posts what would move it: then
    the frontier is there whether the daemon died or not. Where that last step is passed over it
    can't be asked for, and the command waits for a better step.
    """

    def locked(self):
        return self.lag

    def ahead(self, run, t):
        """Asks for all that may be planned before t is reported."""
        return self.c.fetch(run, range(t, t + self.lag))

    def stands(self, said):
        """Whether the frontier can't be elsewhere."""
        last = said[max(said)]
        return last is None or last.next is None

    def set(self, run, t, rng):
        weights = {d: rng.randrange(1, 9) for d in run.domains}
        self.c.command(run, self.tag(), op="mix.set", run=run.name, weights=weights,
                       at=t + self.lag + 1 + rng.randrange(4))
        return t


class Async(Trainer):
    """A trainer of a run whose mixes hang on when its reports come, and on crashes."""

    def locked(self):
        return 0

    def ahead(self, run, t):
        """Asks for some steps more than it needs, and for one that it had long ago."""
        rng = self.c.random
        steps = set(range(t, t + rng.randrange(1, 5)))
        if run.steps:
            steps.add(rng.choice(list(run.steps)))
        return self.c.fetch(run, sorted(steps))

    def stands(self, said):
        return True

    def set(self, run, t, rng):
        weights = {d: rng.randrange(1, 9) for d in run.domains}
        self.c.command(run, self.tag(), op="mix.set", run=run.name, weights=weights)
        return t

    def fork(self, run, t, rng):
        self.test.documents("b", 90, 30)  # runs take it by themselves, where an epoch ends
        return super().fork(run, t, rng)


def config(seed, lag, **kw):
    c = {"name": "r", "seed": seed, "batch_size": 8, "seq_len": 16, "reserve_steps": 4,
         "snapshot_steps": 8, "domains": {d: {"weight": 1} for d in "abc"},
         "policy": {"name": "exp3"}, "end": {"steps": END}, "adopt": "never",
         "feedback": {"mode": "lockstep", "lag": lag} if lag else {"mode": "async"}}
    c.update(kw)
    return json.dumps(c)


def mixes(entries):
    return [(e["kind"], e["step"], e["mix_version"], e["shares"], e.get("cause_step"))
            for e in entries if e["kind"] in ("create", "mix", "set", "rewind", "fork")]


class Crash(DaemonTest):
    def setUp(self):
        super().setUp()
        self.kills = 0

    def documents(self, name, first, n):
        lines = [json.dumps({"id": f"{name}-{i}", "text": f"{name} {i} " * (3 + i % 5)})
                 for i in range(first, first + n)]
        path = self.write(f"{name}{first}.jsonl", "\n".join(lines) + "\n")
        self.mixctl("ingest", name, path, "--format", "jsonl", "--tokenizer", "bytes", data=True)

    def store(self, lag, seed, **kw):
        """A store with a run that has yet to adopt some of a domain."""
        shutil.rmtree(self.data, ignore_errors=True)
        for name, n in (("a", 120), ("b", 90), ("c", 40)):
            self.documents(name, 0, n)
        c = Client(self, Life(self, self.data, self.random, 0), self.random)
        c.look(op="run.create", config=config(seed, lag, **kw))
        c.life.end()
        self.documents("c", 40, 30)

    def replay(self, c, run):
        """The digest of all its steps, once it is over."""
        while True:
            r = c.look(op="run.replay", run=run.name)
            self.assertTrue(r["ok"])
            show = c.look(op="run.show", run=run.name)
            if r["first_step"] + r["steps"] == show["frontier"]:
                return r["digest"]
            time.sleep(0.01)

    def play(self, data, seed, lag, kills, trainer=Lockstep):
        """The script of a seed; what came of it."""
        c = Client(self, Life(self, data, self.random, kills), self.random)
        trainer = trainer(c, random.Random(seed), lag)
        run = c.attach("r")
        self.assertEqual(trainer.train(run, 0, END), END)
        self.assertEqual(trainer.todo, [])
        c.command(c.runs["f"], trainer.tag(), op="run.stop", run="f")
        result = {}
        for name, run in sorted(c.runs.items()):
            entries = c.check_log(run)
            c.check_shown(run)
            for step in list(run.steps):
                c.fetch(run, [step])
            result[name] = (run.trace, mixes(entries), self.replay(c, run), run.answers)
        c.life.end()
        self.kills += c.life.kills
        return result

    def same(self, got, want):
        self.assertEqual(sorted(got), sorted(want))
        for name in want:
            trace, mix, digest, answers = got[name]
            self.assertEqual(set(trace), set(want[name][0]), f"run {name}")
            for key, value in sorted(want[name][0].items(), key=str):
                self.assertEqual(trace[key], value, f"run {name}: {key}")
            self.assertEqual(mix, want[name][1], f"run {name}")
            self.assertEqual(digest, want[name][2], f"run {name}")
            for tag, answer in answers.items():
                if answer is not None and not tag.endswith(("run.create", "run.fork")):
                    self.assertEqual(forget(answer), forget(want[name][3][tag]), tag)

    def test_in_lockstep_a_daemon_that_is_killed_gives_what_one_gives_that_is_not(self):
        n = 0
        while self.kills < KILLS * 2 // 3:
            seed, lag = self.seed * 1000 + n, (1, 2, 4)[n % 3]
            print(f"script {seed}: lag {lag}, {self.kills} kills so far", flush=True)
            self.store(lag, seed)
            other = self.path("undisturbed")
            shutil.copytree(self.data, other)
            want = self.play(other, seed, lag, 0)
            got = self.play(self.data, seed, lag, 40)
            self.same(got, want)
            shutil.rmtree(other)
            n += 1
        print(f"lockstep: seed {self.seed}, {n} scripts, {self.kills} kills")

    def test_what_was_served_or_acknowledged_stays(self):
        n = 0
        while self.kills < KILLS - KILLS * 2 // 3:
            seed = self.seed * 1000 + n
            print(f"script {seed}: async, {self.kills} kills so far", flush=True)
            self.store(0, seed, adopt="epoch", lead=n % 2)
            self.play(self.data, seed, 3, 40, Async)
            n += 1
        print(f"async: seed {self.seed}, {n} scripts, {self.kills} kills")


def forget(answer):
    """An answer without what hangs on how often the daemon died."""
    return {k: v for k, v in answer.items() if k not in ("entry", "created_ms")}


if __name__ == "__main__":
    main()
