"""Runs that are resumed, taken back and forked: against a real daemon, also a killed one."""
import json
import threading

from harness import PATIENCE, main
from travel import ACCEPTED, DIVERGED, DUPLICATE, LATE, Book, Travel, contents, losses
import wire


class Resume(Travel):
    def test_the_same_bytes_and_what_was_posted_counts_once(self):
        d = self.make(policy={"name": "odm"})
        book = Book(self)
        with self.connect(d) as w:
            book.train(w, 0, 60)
        stats = d.stats("r")
        for _ in range(2):  # the second time after a crash
            with self.connect(d) as w:
                for step in range(20, 40):
                    version = book.batch(w, step)["mix_version"]
                    self.assertEqual(w.feedback(1, step, losses(step), version=version)[1],
                                     DUPLICATE)
                entry, outcome, _, text = w.feedback(1, 30, losses(30, bent=0.5), version=0)
                self.assertEqual(outcome, DIVERGED)
                for what in (f"entry {entry}", "domain b", "1 then", "1.5 now"):
                    self.assertIn(what, text)
                # One domain fewer is another report as well; a difference in the last digits isn't.
                self.assertEqual(w.feedback(1, 31, losses(31)[:1], version=0)[1], DIVERGED)
                self.assertEqual(w.feedback(1, 31, losses(31, bent=1e-9), version=0)[1], DUPLICATE)
            now = d.stats("r")
            self.assertEqual(now["feedback"]["accepted"], stats["feedback"]["accepted"])
            self.assertEqual(now["feedback"]["diverged"], 2)
            self.assertEqual({k: now["feedback"]["last_divergence"][k]
                              for k in ("step", "rank", "domain", "was")},
                             {"step": 31, "rank": 0, "domain": "b", "was": 1.0})
            self.assertEqual([e["index"] for e in self.kinds(d, "feedback") if e["step"] == 30],
                             [entry])
            d = self.again(d)
        self.replay(d)

    def test_reports_of_steps_that_were_closed_long_ago(self):
        d = self.make(policy={"name": "odm"}, max_ahead=10000)
        with self.connect(d) as w:
            w.batch(1, 4999, 0, 8)
            for step in (0, 1, 4500):
                self.assertEqual(w.feedback(1, step, losses(step))[1], ACCEPTED)
            for _ in range(2):
                self.assertEqual(w.feedback(1, 0, losses(0))[1], DUPLICATE)
                self.assertEqual(w.feedback(1, 1, losses(1, bent=1))[1], DIVERGED)
                self.assertEqual(w.feedback(1, 2, losses(2))[1], LATE)

    def test_two_reports_of_one_rank_that_cross(self):
        d = self.make(policy={"name": "odm"})
        with self.connect(d) as v, self.connect(d) as w:
            w.batch(1, 99, 0, 8)
            for step in range(100):
                bent = step % 2
                outcomes = []
                bodies = [wire.feedback_body(1, step, losses(step)),
                          wire.feedback_body(1, step, losses(step, bent=bent))]
                for c, body in zip((v, w), bodies):
                    c.send(wire.frame(wire.FEEDBACK, body))
                for c in (v, w):
                    reply = c.receive()[1]
                    self.assertEqual(reply.status, wire.OK)
                    outcomes.append(wire.parse_feedback(reply.body)[1])
                self.assertEqual(sorted(outcomes), [ACCEPTED, DIVERGED if bent else DUPLICATE])
        self.assertEqual(d.stats("r")["feedback"]["accepted"], 100)
        self.replay(self.again(d))


class Rewind(Travel):
    def rewind(self, d, to, run="r", **kw):
        return self.control(d, "run.rewind", run=run, to=to, **kw)

    def set_mix(self, d, a, **kw):
        return self.control(d, "mix.set", run="r", weights={"a": a, "b": 1 - a}, **kw)

    def test_a_mix_that_was_set_is_undone(self):
        d = self.make()
        book = Book(self)
        with self.connect(d) as w:
            book.pull(w, 0, 40)
            at = self.set_mix(d, 0.9, author="ada@lab", why="more a")["from_step"]
            old = book.pull(w, 40, 80)
        self.assertEqual(at, 40)
        got = self.json("run", "rewind", "r", "--to", at, "--why", "it was worse", daemon=d)
        self.assertEqual((got["run"], got["to"], got["branch"]), ("r", 40, 1))
        self.assertGreater(got["mix_version"], old[0]["mix_version"])
        for _ in range(2):  # the second time after a crash
            with self.connect(d) as w:
                book.pull(w, 0, 40)
                new = book.pull(w, 40, 80)
            self.assertEqual({b["mix_version"] for b in new}, {got["mix_version"]})
            self.assertEqual([sum(k == 0 for k in b["domains"]) for b in new], [4] * 40)
            self.assertNotEqual(contents(new), contents(old))
            self.assertAlmostEqual(d.stats("r")["domains"][0]["share"], 0.5)
            entry, = self.kinds(d, "set")  # the old branch is in the log as ever
            self.assertEqual((entry["author"], entry["why"], entry["mix_version"]),
                             ("ada@lab", "more a", old[0]["mix_version"]))
            entry, = self.kinds(d, "rewind")
            self.assertEqual((entry["index"], entry["step"], entry["why"], entry["branch"]),
                             (got["entry"], 40, "it was worse", 1))
            self.assertRegex(entry["author"], "^[^@]+@.+")
            self.replay(d, branches=2)
            d = self.again(d)

    def test_again_below_and_above(self):
        """The snapshots of the branches that were left lie among those of the one in force."""
        d = self.make(max_ahead=100000)
        book = Book(self)
        branches, shares, end = 1, [0.5] * 600, 600
        with self.connect(d) as w:
            book.pull(w, 0, 600)
        for to, a, end in (200, 0.9, 400), (20, 0.1, 50), (30, 0.7, 300), (20, 0.25, 90), (0, 1, 40):
            got = self.rewind(d, to)
            branches += 1
            self.assertEqual(got["branch"], branches - 1)
            self.set_mix(d, a)
            shares = shares[:to] + [a] * (end - to)
            for crash in (False, True):
                d = self.again(d) if crash else d
                with self.connect(d) as w:
                    pulled = book.pull(w, 0, end)
                for step, b in enumerate(pulled):
                    self.assertLessEqual(abs(b["domains"].count(0) - 8 * shares[step]), 1, step)
                self.replay(d, branches)
        with self.connect(d) as w:
            for step in self.random.sample(range(end), end):
                self.assertEqual(book.batch(w, step), pulled[step])

    def test_a_mix_is_set_before_one_that_was_set_ahead(self):
        """What was filled ahead for the steps of the later one begins elsewhere then."""
        d = self.make()
        book = Book(self)
        with self.connect(d) as w:
            book.pull(w, 0, 20)
            self.set_mix(d, 0.25, at=22)
            filled = d.stats()["ready"]["filled"]
            book.batch(w, 20)
            self.until(lambda: d.stats()["ready"]["filled"] > filled and
                       d.stats()["ready"]["filling"] == 0)
            self.set_mix(d, 1)
            book.pull(w, 21, 30)
        d = self.again(d)
        with self.connect(d) as w:
            self.assertEqual([b["domains"].count(0) for b in book.pull(w, 0, 30)],
                             [4] * 21 + [8] + [2] * 8)

    def test_weights_set_for_the_first_step_are_undone(self):
        d = self.make()
        self.assertEqual(self.set_mix(d, 1)["from_step"], 0)
        self.rewind(d, 0)
        with self.connect(d) as w:
            Book(self).pull(w, 0, 40)
        shown = self.control(d, "step.show", run="r", step=0)
        self.assertEqual([x["count"] for x in shown["shares"]], [4, 4])
        self.assertEqual((shown["mix"]["cause"], shown["mix_version"]), ("rewind", 3))
        self.control(d, "where", run="r", domain="a", sample=1)
        self.replay(d, 2)

    def test_a_rewind_after_a_restart_and_a_crash_right_behind_it(self):
        d = self.make()
        book = Book(self)
        with self.connect(d) as w:
            book.pull(w, 0, 100)
        d = self.again(d)
        self.rewind(d, 50)
        d = self.again(d)
        self.assertEqual(d.stats("r")["frontier"], 50)
        self.set_mix(d, 0.75)
        with self.connect(d) as w:
            book.pull(w, 0, 100)
        self.assertEqual(book.seen[60, 3]["domains"].count(0), 6)
        self.replay(d, 2)

    def test_what_was_to_have_effect_later_is_undone(self):
        """Also where a snapshot of before the step knows of it already."""
        d = self.make()
        book = Book(self)
        with self.connect(d) as w:
            book.pull(w, 0, 40)
            for at in 60, 48:
                self.set_mix(d, 1, at=at)
            self.control(d, "run.skip", run="r", **{"from": 70, "to": 80})
            book.pull(w, 40, 58)
            self.rewind(d, 57)
            book.pull(w, 57, 58)
            for to in 50, 48, 47:
                self.rewind(d, to)
                d = self.again(d) if to == 48 else d
                with self.connect(d) as v:
                    got = book.pull(v, 40, 100)
                self.assertEqual([b["domains"].count(0) for b in got],
                                 [8 if to == 50 and step >= 48 else 4 for step in range(40, 100)])
        self.replay(d, 5)

    def test_what_was_reported_beyond_is_gone_and_the_rest_counts(self):
        d = self.make(policy={"name": "odm"}, feedback={"timeout_s": 1})
        book = Book(self)
        with self.connect(d) as w:
            old = book.train(w, 0, 60)
            self.rewind(d, 30)
            for step in 30, 45, 59:
                with self.assertRaises(wire.Trouble) as e:
                    w.feedback(1, step, losses(step), version=old[step]["mix_version"])
                self.assertEqual(e.exception.status, wire.BAD_REQUEST)
                self.assertIn("never served", e.exception.text)
            self.assertEqual(w.feedback(1, 29, losses(29), version=0)[1], DUPLICATE)
            book.pull(w, 0, 30)
            new = book.train(w, 30, 45, bent=3)
            self.assertNotEqual(contents(new), contents(old[30:45]))
            # Planned anew, but reported of the batch that was served before.
            book.pull(w, 45, 50)
            with self.assertRaises(wire.Trouble) as e:
                w.feedback(1, 45, losses(45), version=old[45]["mix_version"])
            self.assertEqual(e.exception.status, wire.BAD_REQUEST)
            self.assertIn(f"step 45 names mix version {old[45]['mix_version']}", e.exception.text)
            # A step that is closed without this rank: what it said on the other branch is no report.
            self.assertEqual(w.feedback(1, 46, losses(46), 1, 2, version=0)[1], ACCEPTED)
            self.until(lambda: d.stats("r")["feedback"]["timeouts"] == 1)
            self.assertEqual(w.feedback(1, 46, losses(46), 0, 2, version=0)[1], LATE)
            self.assertEqual(w.feedback(1, 40, losses(40, bent=3), version=0)[1], DUPLICATE)
            self.assertEqual(w.feedback(1, 40, losses(40), version=0)[1], DIVERGED)
        self.replay(self.again(d), 2)

    def test_in_lockstep_the_losses_alone_decide(self):
        d = self.make(policy={"name": "odm"}, feedback={"mode": "lockstep", "lag": 2})
        book = Book(self)
        with self.connect(d) as w:
            old = book.train(w, 0, 60)
        self.rewind(d, 20)
        with self.connect(d) as w:
            self.assertEqual(contents(book.train(w, 20, 60)), contents(old[20:]))
        d = self.again(d)
        self.rewind(d, 33)
        d = self.again(d)
        with self.connect(d) as w:
            self.assertEqual(contents(book.pull(w, 0, 33)), contents(old[:33]))
            new = book.train(w, 33, 60, bent=2)
            self.assertEqual(contents(new[:2]), contents(old[33:35]))  # by what was before
            self.assertNotEqual(contents(new), contents(old[33:]))
        self.replay(d, 3)

    def test_a_run_that_is_over_lives_again(self):
        d = self.make(end={"steps": 80}, domains={"a": {"max_epochs": 1, "on_exhausted": "stop",
                                                        "weight": 0.25}, "b": {"weight": 0.75}})
        book = Book(self)
        with self.connect(d) as w:
            book.pull(w, 0, 80)
            self.assertEqual(d.stats("r")["state"], "ended")
            self.rewind(d, 40)
            self.assertEqual(d.stats("r")["state"], "active")
            book.pull(w, 40, 50)
            self.control(d, "run.stop", run="r")
            self.assertEqual(d.stats("r")["state"], "stopped")
            self.refused_batch(d, 1, 50, wire.END)
            self.rewind(d, 45)
            self.assertEqual(d.stats("r")["state"], "active")
            self.set_mix(d, 0.9)
            with self.assertRaises(wire.Trouble) as e:
                book.pull(w, 45, 80)
            self.assertEqual(e.exception.status, wire.EXHAUSTED)
            self.assertEqual(d.stats("r")["state"], "exhausted")
            self.rewind(d, 45)
            self.assertEqual(d.stats("r")["state"], "active")
            book.pull(w, 45, 80)
            self.assertEqual(d.stats("r")["state"], "ended")
        for state in "ended", "active":
            d = self.again(d)
            self.assertEqual(d.stats("r")["state"], state)
            self.rewind(d, 79)
        self.replay(d, 6)

    def test_while_trainers_pull_hard(self):
        d = self.make(policy={"name": "odm"})
        seen = [{} for _ in range(4)]
        served, errors, over, begin = [0] * 4, [], threading.Event(), [0]

        def pull(w, i, step):
            b = w.batch(1, step, 2 * i, 2, i, 4)
            self.assertEqual(seen[i].setdefault((step, b["mix_version"]), b), b)
            reply = w.ask(wire.FEEDBACK, wire.feedback_body(1, step, losses(step), i, 4,
                                                            b["mix_version"]))
            if reply.status != wire.OK:  # of a step that is no more, or meanwhile
                self.assertIn(reply.status, (wire.BUSY, wire.BAD_REQUEST))
            served[i] += 1

        def trainer(i):
            try:
                with self.connect(d) as w:
                    while not over.is_set():
                        first = begin[0]
                        for step in range(first, first + 40):
                            pull(w, i, step)
            except Exception as e:  # pylint: disable=broad-except
                errors.append(e)

        threads = [threading.Thread(target=trainer, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for n in range(12):
            before = list(served)
            self.until(lambda before=before: errors or all(
                a > b + 20 for a, b in zip(served, before)))
            to = self.random.randrange(d.stats("r")["frontier"])
            self.assertEqual(self.rewind(d, to)["branch"], n + 1)
            begin[0] = to
        over.set()
        for t in threads:
            t.join(PATIENCE)
        self.assertEqual(errors, [])
        stats = d.stats("r")
        self.assertEqual(stats["replies"]["WAIT"] + stats["held"], 0)
        self.replay(d, 13)
        book = Book(self)
        with self.connect(d) as w:
            for b in book.pull(w, 0, stats["frontier"]):
                for i in range(4):
                    got = seen[i].get((b["step"], b["mix_version"]))
                    if got is not None:
                        self.assertEqual(got["tokens"], b["tokens"][2 * i:2 * i + 2])
        d = self.again(d)
        with self.connect(d) as w:
            book.pull(w, 0, stats["frontier"])
        self.replay(d, 13)

    def test_refusals(self):
        d = self.make()
        with self.connect(d) as w:
            w.batch(1, 19, 0, 8)
        self.refused(d, "run.rewind", "step 21", "beyond the frontier, step 20", run="r", to=21)
        self.refused(d, "run.rewind", "no run q", run="q", to=1, status=wire.GONE)
        self.refused(d, "run.rewind", "to", run="r")
        self.refused(d, "run.rewind", "to", run="r", to=-1)
        self.refused(d, "run.rewind", "512", run="r", to=1, why="x" * 513)
        self.assertEqual(self.rewind(d, 20)["branch"], 1)  # right at the frontier
        r = self.mixctl("run", "rewind", "r", "--to", 100, daemon=d, code=1)
        self.assertIn("beyond the frontier", r.stderr)
        self.assertEqual(len(self.kinds(d, "rewind")), 1)


class Fork(Travel):
    def fork(self, d, source, name, at, **kw):
        """Forks, and gives the new run's number."""
        got = self.control(d, "run.fork", run=source, name=name, at=at, **kw)
        self.assertEqual((got["name"], got["frontier"], got["state"]), (name, at, "active"))
        with self.connect(d) as w:
            return w.attach(name)["run"]

    def same(self, w, number, batches):
        """The run serves just that."""
        got = [w.batch(number, b["step"], 0, 8) for b in batches]
        self.assertEqual(contents(got), contents(batches))

    def test_the_same_as_long_as_the_mixes_agree(self):
        d = self.make()
        book = Book(self)
        with self.connect(d) as w:
            old = book.pull(w, 0, 120)
        d = self.again(d)
        number = self.fork(d, "r", "f", 50, author="ada@lab", why="on the side")
        stats = d.stats("r")
        with self.connect(d) as w:
            self.same(w, number, old[50:])
        for step in 0, 49:
            said = self.refused_batch(d, number, step, wire.GONE, "run f begins with step 50")
            self.assertEqual(said.wait_ms, 0)
        self.refused(d, "step.show", "f", "50", run="f", step=49)
        entry, = self.kinds(d, "fork", "f")
        self.assertEqual([entry[k] for k in ("index", "step", "source", "source_step", "author",
                                             "why")],
                         [1, 50, "r", 50, "ada@lab", "on the side"])
        self.assertIn("from run r at its step 50", self.mixctl("log", "f", daemon=d).stdout)
        # It goes its own way.
        at = self.control(d, "mix.set", run="f", weights={"a": 1, "b": 0})["from_step"]
        own = Book(self, number)
        with self.connect(d) as w:
            self.assertEqual(at, 120)
            own.pull(w, 50, 200)
            self.assertEqual(own.batch(w, 120)["domains"], (0,) * 8)
            self.assertEqual(contents(own.pull(w, 50, 120)), contents(old[50:]))
        # The other one isn't touched.
        self.assertEqual({k: d.stats("r")[k] for k in ("frontier", "journal_entries")},
                         {k: stats[k] for k in ("frontier", "journal_entries")})
        for _ in range(2):
            with self.connect(d) as w:
                self.assertEqual(book.pull(w, 0, 120), old)
                own.pull(w, 50, 200)
            self.replay(d)
            self.assertEqual(self.replay(d, run="f")["first_step"], 50)
            d = self.again(d)

    def test_in_lockstep_with_the_same_losses(self):
        d = self.make(policy={"name": "odm"}, feedback={"mode": "lockstep", "lag": 3})
        book = Book(self)
        with self.connect(d) as w:
            old = book.train(w, 0, 60)
        number = self.fork(d, "r", "f", 25)
        own = Book(self, number)
        with self.connect(d) as w:
            self.assertEqual(contents(own.train(w, 25, 60)), contents(old[25:]))
        number = self.fork(d, "f", "g", 40)
        d.stop()  # its snapshot gets written
        d = self.start()
        other = Book(self, number)
        with self.connect(d) as w:
            new = other.train(w, 40, 60, bent=1)
            self.assertEqual(contents(new[:3]), contents(old[40:43]))
            self.assertNotEqual(contents(new), contents(old[40:]))
            self.assertEqual(own.pull(w, 25, 60)[0]["step"], 25)
        for run in "rfg":
            self.replay(d, run=run)

    def test_forks_of_forks_at_any_step_survive_a_kill(self):
        d = self.make(policy={"name": "odm"})
        book = Book(self)
        with self.connect(d) as w:
            old = book.train(w, 0, 80)
        own = {"r": book}
        for source, name, at in (("r", "f", 60), ("f", "g", 60), ("r", "h", 0), ("g", "i", 70),
                                 ("r", "j", 80)):
            number = self.fork(d, source, name, at)
            d = self.again(d)
            own[name] = Book(self, number)
            with self.connect(d) as w:
                # A mix that r made of feedback of before `at` may be in force from there on.
                if at < 80:
                    self.assertEqual(contents([own[name].batch(w, at)]), contents(old[at:at + 1]))
                own[name].train(w, at + 1, 90)
        self.control(d, "run.rewind", run="f", to=65)
        self.refused(d, "run.rewind", "step 59 is before step 60", run="f", to=59)
        self.refused(d, "run.fork", "step 59 is before step 60", run="f", name="k", at=59)
        for _ in range(2):
            with self.connect(d) as w:
                for name, b in own.items():
                    for step, version in list(b.seen):
                        if name != "f" or step < 65:
                            self.assertEqual(b.batch(w, step)["mix_version"], version)
            for name in own:
                self.replay(d, 2 if name == "f" else 1, run=name)
            d = self.again(d)

    def test_of_a_branch_that_was_left(self):
        d = self.make()
        book = Book(self)
        with self.connect(d) as w:
            book.pull(w, 0, 300)
            self.control(d, "run.rewind", run="r", to=20)
            self.control(d, "mix.set", run="r", weights={"a": 1, "b": 0})
            new = book.pull(w, 20, 100)
            number = self.fork(d, "r", "f", 90)
            self.same(w, number, new[70:])
            self.control(d, "run.rewind", run="r", to=0)
            self.same(w, number, new[70:])
        self.replay(d, 1, run="f")

    def test_refusals(self):
        d = self.make()
        self.create(d, name="s")
        with self.connect(d) as w:
            w.batch(1, 19, 0, 8)
        self.refused(d, "run.fork", "no run q", run="q", name="f", at=1, status=wire.GONE)
        self.refused(d, "run.fork", "run s already", run="r", name="s", at=1)
        self.refused(d, "run.fork", "run r already", run="r", name="r", at=1)
        self.refused(d, "run.fork", "beyond the frontier, step 20", run="r", name="f", at=21)
        self.refused(d, "run.fork", "name", run="r", name="a b", at=1)
        self.refused(d, "run.fork", "name", run="r", at=1)
        self.refused(d, "run.fork", "at", run="r", name="f")
        self.assertEqual([x["name"] for x in self.control(d, "run.ls")["runs"]], ["r", "s"])
        # Of several at once with one name, one is made.
        with self.connect(d) as w:
            for _ in range(5):
                w.send(wire.frame(wire.CONTROL, json.dumps(
                    {"op": "run.fork", "run": "r", "name": "f", "at": 10}).encode()))
            statuses = [w.receive()[1].status for _ in range(5)]
        self.assertEqual(statuses.count(wire.OK), 1)
        self.assertLessEqual(set(statuses), {wire.OK, wire.BAD_REQUEST, wire.BUSY})
        d = self.again(d)
        self.assertEqual([x["name"] for x in self.control(d, "run.ls")["runs"]], ["r", "s", "f"])


if __name__ == "__main__":
    main()
