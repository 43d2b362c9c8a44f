"""Runs with phases against a real daemon: many ranks at once, kills, going back, forks, operators, and
configs that can't be."""
import threading

from harness import PATIENCE, main
from travel import Book, Travel, contents
import wire

PHASES = [{"name": "first", "from": 0, "kind": "warmup"},
          {"name": "by-hand", "from": 30, "kind": "mix", "mix": {"a": 1, "b": 3}},
          {"name": "moving", "from": 60, "kind": "anneal", "mix": {"a": 1}},
          {"name": "last", "from": 70, "kind": "mix", "mix": {"a": 1, "b": 1},
           "limits": {"b": {"pin": 0.25}}}]


def share_of_a(b):
    return b["domains"].count(0) / len(b["domains"])


class Phases(Travel):
    def make(self, **kw):
        return super().make(**{"policy": {"name": "ema"}, "phases": PHASES, **kw})

    def check(self, got):
        """Each step has the share that its phase says: 8 slots, so eighths are exact."""
        for step, b in got.items():
            if step < 30:
                self.assertEqual(share_of_a(b), 0.5, step)
            elif step < 60:
                self.assertEqual(share_of_a(b), 0.25, step)
            elif step < 70:
                self.assertLessEqual(abs(share_of_a(b) - (0.25 + 0.75 * (step - 59) / 10)), 0.125)
            else:
                self.assertEqual(share_of_a(b), 0.75, step)

    def test_ranks_that_come_at_any_time_get_the_phase_of_the_step(self):
        d = self.make()
        seen, troubles, lock = {}, [], threading.Lock()

        def rank(r):
            try:
                with wire.Wire(d.url, timeout=PATIENCE) as w:
                    for step in range(90):
                        while True:
                            try:
                                b = w.batch(1, step, 2 * r, 2, rank=r, world=4,
                                            oldest=max(0, step - r))
                                break
                            except wire.Trouble as e:
                                if e.status not in (wire.WAIT, wire.BUSY):
                                    raise
                        with lock:
                            seen.setdefault(step, {})[r] = b
            except Exception as e:  # told by the test's own thread
                troubles.append(e)

        ranks = [threading.Thread(target=rank, args=(r,)) for r in range(4)]
        for t in ranks:
            t.start()
        for t in ranks:
            t.join()
        self.assertEqual(troubles, [])
        got = {step: {"domains": [k for r in range(4) for k in x[r]["domains"]]}
               for step, x in seen.items()}
        self.assertEqual(len(got), 90)
        self.check(got)
        for step, x in seen.items():
            self.assertEqual(len({b["mix_version"] for b in x.values()}), 1, step)

    def test_a_kill_at_any_step_changes_no_phase(self):
        d = self.make()
        book, got = Book(self), {}
        for first, end in ((0, 12), (12, 29), (29, 30), (30, 31), (31, 58), (58, 64), (64, 70),
                           (70, 90)):
            with self.connect(d) as w:
                for step, b in zip(range(first, end), book.train(w, first, end)):
                    got[step] = b
            d = self.again(d)
        self.check(got)
        made = [e for e in self.kinds(d, "mix") if e["cause"] == "phase"]
        self.assertEqual([(e["phase_name"], e["step"]) for e in made],
                         [("by-hand", 30)] + [("moving", s) for s in range(60, 70)] +
                         [("last", 70)])
        self.assertEqual([e for e in self.kinds(d, "mix") if e["cause"] == "feedback"], [])
        self.replay(d)
        out = self.mixctl("log", "r", daemon=d).stdout
        self.assertRegex(out, r"by phase by-hand")

    def test_in_lockstep_all_follows_from_the_losses(self):
        digests = set()
        for kills in ((), (10, 29, 30, 65), (31,)):
            name = f"l{len(kills)}"
            if kills == ():
                d = self.make(name=name, feedback={"mode": "lockstep", "lag": 2})
            else:
                self.create(d, name=name, feedback={"mode": "lockstep", "lag": 2},
                            policy={"name": "ema"}, phases=PHASES, reserve_steps=8)
            with self.connect(d) as w:
                run = w.attach(name)["run"]
            book = Book(self, run)
            got, at = {}, 0
            for end in (*kills, 90):
                with self.connect(d) as w:
                    got.update(zip(range(at, end), book.train(w, at, end)))
                if end < 90:
                    d = self.again(d)
                at = end
            self.check(got)
            digests.add(repr(contents(got[s] for s in range(90))))
        self.assertEqual(len(digests), 1)

    def test_back_before_a_phase_and_a_fork_within_one(self):
        d = self.make()
        book = Book(self)
        with self.connect(d) as w:
            book.pull(w, 0, 80)
        self.control(d, "run.rewind", run="r", to=45)
        with self.connect(d) as w:
            got = dict(zip(range(90), book.pull(w, 0, 90)))
        self.check(got)
        self.replay(d, branches=2)
        self.control(d, "run.fork", run="r", name="f", at=64)
        with self.connect(d) as w:
            fork = Book(self, w.attach("f")["run"])
            got = dict(zip(range(64, 90), fork.pull(w, 64, 90)))
        self.check(got)
        self.assertEqual(d.stats("f")["phase"]["name"], "last")
        d = self.again(d)
        self.replay(d, run="f")

    def test_an_operators_mix_holds_until_the_schedule_goes_on(self):
        d = self.make()
        book = Book(self)
        with self.connect(d) as w:
            book.pull(w, 0, 35)
            self.control(d, "mix.set", run="r", weights={"a": 1, "b": 0}, at=40)
            got = book.pull(w, 35, 90)
        self.assertEqual([share_of_a(b) for b in got[:25]], [0.25] * 5 + [1.0] * 20)
        self.assertEqual([share_of_a(b) for b in got[25:35]], [1.0] * 10)  # from there to a = 1
        self.assertEqual({share_of_a(b) for b in got[35:]}, {0.75})
        self.assertEqual([x["pin"] for x in d.stats("r")["domains"]], [None, 0.25])
        self.assertIn("phase     last (mix) from step 70 on, next at -\n",
                      self.mixctl("run", "show", "r", daemon=d).stdout)
        s = d.stats("r")["phase"]
        self.assertEqual((s["number"], s["name"], s["kind"], s["from_step"], s["next_step"]),
                         (3, "last", "mix", 70, None))

    def test_limits_of_a_phase_hold_for_what_domains_take_over(self):
        """With its budget used up, a domain's slots go where the phase's ceilings let them."""
        self.tokens("c", 4096)
        d = super().make(policy={"name": "static"}, batch_size=8, end={"steps": 40},
                         domains={"a": {"weight": 2, "max_epochs": 0.5}, "b": {"weight": 1},
                                  "c": {"weight": 1}},
                         phases=[{"at": 0.5, "limits": {"b": {"ceiling": 0.25}}}])
        with self.connect(d) as w:
            got = [w.batch(1, step, 0, 8) for step in range(40)]
        self.assertEqual([b["domains"].count(0) for b in got[:33]], [4] * 32 + [0])
        for b in got[33:]:
            self.assertLessEqual(b["domains"].count(1), 2)
            self.assertEqual(b["domains"].count(0), 0)


class BadPhases(Travel):
    def test_what_can_not_be_is_refused_by_key_and_line(self):
        d = self.make()
        m = {"mix": {"a": 1}}
        for phases, text, *more in (
                ([], "list of 1 to 63"), ({}, "list of 1 to 63"), ([3], r"phases\[0\].*object"),
                ([{"from": 0, "kidn": "mix"}], "kidn"),
                ([{"kind": "often"}], "adapt, warmup, mix, anneal"),
                ([{"kind": "mix"}], "needs a \"mix\""),
                ([{"kind": "warmup", **m}], "only kinds mix and anneal"),
                ([{"kind": "mix", "mix": 3}], "object of weights"),
                ([{"kind": "mix", "mix": {"a": 0}}], "sum to 0"),
                ([{"kind": "mix", "mix": {"a": -1}}], r"phases\[0\].mix.a"),
                ([{"kind": "mix", "mix": {"c": 1}}], "no such domain; there are a, b"),
                ([{"kind": "mix", **m, "shape": "linear"}], "only kind anneal"),
                ([{"kind": "mix", **m, "freeze": True}], "only kind anneal"),
                ([{"kind": "anneal", **m, "shape": "round"}], "linear, cosine"),
                ([{"kind": "anneal", **m}], "needs an end"),
                ([{"kind": "anneal", **m, "freeze": 1}], "freeze"),
                ([{"name": "../x"}], "name"),
                ([{}, {"from": 5, "at": 0.5}], "not both", 100),
                ([{}, {"at": 0.5}], "part of .*end"),
                ([{}, {"at": 1.5}], "at", 100), ([{}, {"at": 1}], "step 100 isn't one", 100),
                ([{}, {"from": 100}], "step 100 isn't one of the run's 100", 100),
                ([{}, {"from": 50}, {"at": 0.5}], "rise: 50 comes after 50", 100),
                ([{}, {}], "from"), ([{"limits": 3}], "object"),
                ([{"limits": {"c": {}}}], "no such domain"),
                ([{"limits": {"a": {"weight": 1}}}], "weight"),
                ([{"limits": {"a": {"floor": 0.5, "ceiling": 0.4}}}], "0.5 is over ceiling 0.4"),
                ([{}, {"from": 9, "limits": {"a": {"floor": 0.7}, "b": {"pin": 0.6}}}],
                 r"phases\[1\].limits.*sum to 1.3, over 1"),
                ([{"limits": {"a": {"ceiling": 0.2}, "b": {"pin": 0.6}}}], "sum to 0.8, under 1")):
            keys = {"end": {"steps": more[0]}} if more else {}
            r = self.create(d, code=1, name="s", phases=phases, **keys)
            self.assertRegex(r.stderr, text, phases)
            self.assertRegex(r.stderr, r"config:\d+: key 'phases", phases)
            self.assertEqual(r.stderr.count("\n"), 1, r.stderr)
        # The run's own limits count for domains that a phase doesn't name.
        r = self.create(d, code=1, name="s", phases=[{"limits": {"a": {"floor": 0.6}}}],
                        domains={"a": {"weight": 1}, "b": {"weight": 1, "floor": 0.6}})
        self.assertRegex(r.stderr, "sum to 1.2, over 1")
        self.create(d, name="s", phases=[{"at": 0}, {"at": 0.99, "kind": "anneal", **m}],
                    end={"steps": 100})  # a single step is an anneal as well


if __name__ == "__main__":
    main()
