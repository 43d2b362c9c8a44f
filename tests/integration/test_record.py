"""What a run's journal is good for: it is read, proved, shortened, and missed where it is damaged;
and steps that are passed over, which only it knows of.
"""
import getpass
import json
import os
import socket
import subprocess

from harness import MIXCTL, PATIENCE, main
from travel import ACCEPTED, LATE, Book, Travel, contents, losses
import wire

TAMPER = os.environ.get("TAMPER", "build/tests/integration/tamper")


class Skip(Travel):
    def skip(self, d, first, end, run="r", **kw):
        return self.control(d, "run.skip", run=run, **{"from": first, "to": end}, **kw)

    def skipped(self, w, step, next_, run=1):
        with self.assertRaises(wire.Trouble) as e:
            w.batch(run, step, 0, 8)
        self.assertEqual((e.exception.status, e.exception.next), (wire.SKIPPED, next_), step)

    def test_behind_and_ahead_of_the_frontier(self):
        d = self.make()
        self.create(d, name="p", max_ahead=4096)  # the same, and nobody skips
        with self.connect(d) as w:
            all_ = [w.batch(2, step, 0, 8) for step in range(120)]
            Book(self).pull(w, 0, 40)
        r = self.mixctl("skip", "r", "--from", 10, "--to", 20, "--why", "loss spike", daemon=d)
        self.assertIn("goes on at step 20", r.stdout)
        self.assertEqual(self.skip(d, 60, 70), {"run": "r", "from": 60, "to": 70})
        self.assertEqual(self.skip(d, 20, 25)["to"], 25)  # they touch
        self.assertEqual(self.skip(d, 65, 80)["to"], 80)  # they overlap
        self.assertEqual(self.skip(d, 62, 64)["to"], 64)  # nothing new
        for _ in range(2):  # the second time after a crash
            with self.connect(d) as w:
                for step in range(100):
                    if 10 <= step < 25 or 60 <= step < 80:
                        self.skipped(w, step, 25 if step < 25 else 80)
                    else:
                        self.assertEqual(contents([w.batch(1, step, 0, 8)]),
                                         contents([all_[step]]))
            for step, said in ((9, False), (10, True), (24, True), (25, False), (79, True)):
                self.assertEqual(self.control(d, "step.show", run="r", step=step)["skipped"], said)
            self.assertEqual([(e["step"], e["to"], e["why"]) for e in self.kinds(d, "skip")],
                             [(10, 20, "loss spike"), (60, 70, ""), (20, 25, ""), (65, 80, ""),
                              (62, 64, "")])
            self.replay(d)
            d = self.again(d)
        r = self.mixctl("batch", "r", "--step", 12, daemon=d, code=1)
        self.assertIn("step 25", r.stderr)

    def test_nobody_waits_for_reports_of_them(self):
        d = self.make(policy={"name": "odm"}, feedback={"mode": "lockstep", "timeout_s": 3600})
        book = Book(self)
        with self.connect(d) as w:
            book.train(w, 0, 10)
            book.batch(w, 10)
            self.assertEqual(w.feedback(1, 10, losses(10), 0, 2, version=0)[1], ACCEPTED)
            w.send(wire.frame(wire.BATCH, wire.batch_body(1, 11, 0, 8)))  # waits for rank 1
            self.until(lambda: d.stats("r")["held"] == 1)
            self.skip(d, 10, 15)
            reply = w.receive()[1]
            self.assertEqual(reply.status, wire.SKIPPED)
            book.train(w, 15, 30)
            self.skip(d, 40, 50)
            book.train(w, 30, 40)
            book.train(w, 50, 60)
            for step in 10, 12, 45:
                entry, outcome, _, text = w.feedback(1, step, losses(step), version=0)
                self.assertEqual((entry, outcome), (0, LATE))
                self.assertIn("passed over", text)
        d = self.again(d)
        with self.connect(d) as w:
            book.train(w, 60, 70)
            self.assertEqual(w.feedback(1, 45, losses(45), version=0)[1], LATE)
        self.replay(d)

    def test_refusals(self):
        d = self.make(max_ahead=64, end={"steps": 50})
        with self.connect(d) as w:
            w.batch(1, 19, 0, 8)
        self.refused(d, "run.skip", "no steps", run="r", **{"from": 5, "to": 5})
        self.refused(d, "run.skip", "no steps", run="r", **{"from": 6, "to": 5})
        self.refused(d, "run.skip", "steps 0 to 50", run="r", **{"from": 5, "to": 51})
        self.refused(d, "run.skip", "from", run="r", to=3)
        self.refused(d, "run.skip", "no run q", run="q", status=wire.GONE, **{"from": 5, "to": 6})
        self.create(d, name="s", max_ahead=8)
        self.refused(d, "run.skip", "steps 0 to 8", run="s", **{"from": 8, "to": 9})
        self.assertEqual(self.kinds(d, "skip"), [])
        self.mixctl("skip", "r", "--from", 1, "--to", 2, daemon=d, code=2)  # why?
        self.skip(d, 40, 50)  # up to the run's end
        with self.connect(d) as w:
            self.skipped(w, 45, 50)
            with self.assertRaises(wire.Trouble) as e:
                w.batch(1, 50, 0, 8)
            self.assertEqual(e.exception.status, wire.END)

    def test_ranges_apart_are_bounded(self):
        d = self.make(reserve_steps=64)
        with self.connect(d) as w:
            w.batch(1, 999, 0, 8)
        for i in range(256):
            self.skip(d, 3 * i, 3 * i + 1)
        self.refused(d, "run.skip", "256 ranges", run="r", **{"from": 900, "to": 901})
        d = self.again(d)
        with self.connect(d) as w:
            self.skipped(w, 300, 301)
            w.batch(1, 301, 0, 8)

    def test_rewinds_and_forks_know_of_them(self):
        d = self.make()
        with self.connect(d) as w:
            Book(self).pull(w, 0, 60)
            self.skip(d, 10, 20)
            self.skip(d, 50, 55)
            self.control(d, "run.fork", run="r", name="f", at=15)
            self.control(d, "run.rewind", run="r", to=30)
            self.skipped(w, 12, 20)
            w.batch(1, 50, 0, 8)  # this skip is of the branch that was left
            w.batch(w.attach("f")["run"], 15, 0, 8)  # and what it began with isn't passed over
        self.replay(d, 2)


class Log(Travel):
    def make(self, n=4096, **kw):
        """A run with something of each kind in its log."""
        d = super().make(n, policy={"name": "odm"}, feedback={"timeout_s": 1}, **kw)
        with self.connect(d) as w:
            book = Book(self)
            book.train(w, 0, 30)
            w.batch(1, 30, 0, 8)
            w.feedback(1, 30, losses(30), 0, 2, version=0)
            self.until(lambda: d.stats("r")["feedback"]["timeouts"] == 1)
            self.mixctl("mix", "set", "r", "a=0.5", "--why", "half of each", daemon=d)
            self.mixctl("skip", "r", "--from", 5, "--to", 7, "--why", "bad", daemon=d)
            self.control(d, "run.rewind", run="r", to=20, author="ada@lab", why="once \u00e9 more")
            self.mixctl("run", "stop", "r", "--why", "lunch", daemon=d)
        return d

    def test_pages_ranges_and_kinds(self):
        d = self.make()
        whole = self.json("log", "r", daemon=d)
        self.assertEqual((whole["run"], whole["first"]), ("r", 1))
        entries = whole["entries"]
        self.assertEqual([e["index"] for e in entries], list(range(1, whole["last"] + 1)))
        self.assertLessEqual({"create", "reserve", "feedback", "close", "mix", "set", "skip", "rewind",
                              "stop"}, {e["kind"] for e in entries})
        self.assertEqual(entries, self.log(d))
        self.assertEqual(entries, self.log(d, limit=7))  # pages
        part = self.json("log", "r", "--from", 10, "--to", 20, daemon=d)["entries"]
        self.assertEqual(part, entries[9:19])
        part = self.json("log", "r", "--kind", "set", "--kind", "stop", daemon=d)["entries"]
        self.assertEqual([e["kind"] for e in part], ["set", "stop"])
        me = f"{os.environ.get('USER') or getpass.getuser()}@{socket.gethostname()}"
        self.assertEqual([(e["author"], e["why"]) for e in part],
                         [(me, "half of each"), (me, "lunch")])
        entry, = [e for e in entries if e["kind"] == "rewind"]
        self.assertEqual((entry["author"], entry["why"]), ("ada@lab", "once \u00e9 more"))
        self.assertEqual(self.json("log", "r", "--from", whole["last"] + 1, daemon=d)["entries"], [])
        lines = self.mixctl("log", "r", daemon=d).stdout.splitlines()
        self.assertEqual([int(x.split()[0]) for x in lines], [e["index"] for e in entries])
        for line, e in zip(lines, entries):
            self.assertIn(e["kind"], line)
            self.assertIn(e["why"], line)
        d = self.again(d)
        self.assertEqual(self.log(d)[:len(entries)], entries)

    def test_more_entries_than_a_reply_holds(self):
        d = Travel.make(self, policy={"name": "odm"}, max_ahead=100000)
        with self.connect(d) as w:
            w.batch(1, 1999, 0, 8)
            for step in range(2000):
                w.send(wire.frame(wire.FEEDBACK, wire.feedback_body(1, step, losses(step), version=0)))
                if step % 50 == 49:
                    for _ in range(50):
                        self.assertEqual(wire.parse_feedback(w.receive()[1].body)[1], ACCEPTED)
        with self.connect(d) as w:
            raw = w.get(wire.CONTROL, json.dumps({"op": "run.log", "run": "r"}).encode())
        self.assertLess(len(raw), 256 << 10)
        page = json.loads(raw)
        self.assertGreater(page["last"], 2000)
        self.assertEqual(page["next"], page["entries"][-1]["index"] + 1)
        entries = self.json("log", "r", daemon=d)["entries"]
        self.assertEqual([e["index"] for e in entries], list(range(1, len(entries) + 1)))
        self.assertEqual(sum(e["kind"] == "feedback" for e in entries), 2000)

    def test_followers_see_what_comes(self):
        d = self.make()
        self.control(d, "run.rewind", run="r", to=10)
        follow = subprocess.Popen([MIXCTL, "--connect", d.url, "log", "r", "--follow", "--kind", "set"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            self.assertIn("half of each", follow.stdout.readline())
            for why in "first", "second":
                self.mixctl("mix", "set", "r", "a=0.5", "--why", why, daemon=d)
                self.assertIn(f"({why})", follow.stdout.readline())
        finally:
            follow.kill()
            follow.communicate(timeout=PATIENCE)
        # Whoever waits is answered when there is something, when time is up, or at the end.
        last = self.log(d)[-1]["index"]
        page = self.control(d, "run.log", run="r", wait_ms=1, **{"from": last + 1})
        self.assertEqual((page["entries"], page["next"], page["last"]), ([], None, last))
        with self.connect(d) as w:
            w.send(wire.frame(wire.CONTROL, json.dumps({"op": "run.log", "run": "r", "from": last + 1,
                                                        "wait_ms": 30000}).encode()))
            self.control(d, "run.stop", run="r")
            page = json.loads(w.receive()[1].body)
            self.assertEqual([e["kind"] for e in page["entries"]], ["stop"])
        with self.connect(d) as w:
            for _ in range(3):
                w.send(wire.frame(wire.CONTROL, json.dumps({
                    "op": "run.log", "run": "r", "from": last + 1000, "wait_ms": 30000}).encode()))
            self.assertEqual(d.stop(), 0)

    def test_refusals(self):
        d = Travel.make(self)
        self.refused(d, "run.log", "no run q", run="q", status=wire.GONE)
        self.refused(d, "run.log", "wait_ms", run="r", wait_ms=10**9)
        self.mixctl("log", "r", "--kind", "nonsense", daemon=d, code=2)
        self.mixctl("log", "r", "--from", 5, "--to", 4, daemon=d, code=2)


class Replay(Travel):
    def tamper(self, *args):
        subprocess.run([TAMPER, self.data, *[str(a) for a in args]], check=True, timeout=PATIENCE)

    def runs(self):
        """Two runs; the first entries of each kind of the first one."""
        d = self.make(policy={"name": "odm"})
        self.create(d, name="s", reserve_steps=8, lead=0, snapshot_steps=1 << 20)
        with self.connect(d) as w:
            Book(self).train(w, 0, 60)
            Book(self, 2).pull(w, 0, 60)
        return d

    def test_an_entry_that_is_damaged(self):
        d = self.runs()
        entries = self.log(d, "s")
        d.kill()
        self.tamper("flip", 1, 5)  # of r, which is behind a snapshot
        self.tamper("flip", 2, len(entries) - 1)
        d = self.start()
        states = {x["name"]: x for x in self.control(d, "run.ls")["runs"]}
        self.assertEqual((states["r"]["state"], states["s"]["state"]), ("active", "failed"))
        self.assertIn(f"2/{len(entries) - 1} ", states["s"]["error"])
        self.refused_batch(d, 2, 0, wire.DAMAGED, f"2/{len(entries) - 1} ")
        for op in "run.replay", "run.log", "run.show":
            if op != "run.show":
                self.refused(d, op, f"2/{len(entries) - 1} ", run="s", status=wire.DAMAGED)
        self.assertIn("error", self.mixctl("run", "show", "s", daemon=d).stdout)
        with self.connect(d) as w:
            Book(self).pull(w, 0, 100)
        self.refused(d, "run.replay", "1/5 ", run="r", status=wire.DAMAGED)
        self.assertIn("1/5 ", self.mixctl("run", "replay", "r", daemon=d, code=1).stderr)
        self.assertIn("1/5 ", self.mixctl("log", "r", daemon=d, code=1).stderr)
        self.assertEqual(len(self.log_from(d, 6)), self.log_from(d, 6)[-1]["index"] - 5)
        self.refused(d, "run.fork", "1/5 ", run="r", name="f", at=1, status=wire.DAMAGED)
        self.refused(d, "run.rewind", "1/5 ", run="r", to=1, status=wire.DAMAGED)
        with self.connect(d) as w:  # the run goes on
            Book(self).pull(w, 0, 120)
            w.feedback(1, 119, losses(119), version=0)
        self.control(d, "run.fork", run="r", name="f", at=110)  # with what isn't damaged

    def log_from(self, d, first):
        return self.control(d, "run.log", run="r", **{"from": first})["entries"]

    def test_a_digest_that_differs(self):
        d = self.runs()
        for run in "rs":
            self.replay(d, run=run)
        bad = {}
        for number, run in (1, "r"), (2, "s"):
            bad[run] = [e for e in self.log(d, run) if e["kind"] == "reserve" and e["digests"] > 0][2]
            self.tamper("forge", number, bad[run]["index"], -1)
        for run in "rs":
            e = bad[run]
            self.refused(d, "run.replay", f"step {e['digest_from'] + e['digests'] - 1},",
                         f"entry {e['index']}", run=run, status=wire.DAMAGED)
        self.assertIn("run.replay", d.text())
        d = self.again(d)  # r begins behind a snapshot, and says it when it is asked
        self.refused(d, "run.replay", f"entry {bad['r']['index']}", run="r", status=wire.DAMAGED)
        self.refused_batch(d, 2, 0, wire.DAMAGED, f"entry {bad['s']['index']}")
        d.stop()
        for number, run in (1, "r"), (2, "s"):
            self.tamper("forge", number, bad[run]["index"], -1)  # as it was
        d = self.start()
        for run in "rs":
            self.replay(d, run=run)

    def test_an_entry_that_lies(self):
        d = self.runs()
        e = self.kinds(d, "mix")[3]
        self.tamper("forge", 1, e["index"], 54)  # a share: the shares' sum isn't 1 any more
        self.refused(d, "run.replay", f"entry {e['index']} (mix)", run="r", status=wire.DAMAGED)
        self.tamper("forge", 1, e["index"], 0)  # its kind
        self.refused(d, "run.replay", f"entry {e['index']}", run="r", status=wire.DAMAGED)

    def test_a_store_of_a_newer_mixd(self):
        d = self.runs()
        d.stop()
        self.tamper("format", 99)
        with self.assertRaisesRegex(RuntimeError, "store format 99, this one knows [0-9]+"):
            self.start()
        self.assertIn("99", self.mixctl("domain", "ls", data=True, code=None).stderr)


class Compact(Travel):
    def compact(self, d, before, **kw):
        return self.control(d, "run.compact", run="r", before=before, **kw)

    def test_what_is_forgotten_and_what_stays(self):
        d = self.make(policy={"name": "odm"}, reserve_steps=16)
        book = Book(self)
        with self.connect(d) as w:
            old = book.train(w, 0, 200)
        audit = self.json("log", "r", daemon=d)["entries"]
        steps = [self.control(d, "step.show", run="r", step=s) for s in (0, 50, 199)]
        sample = {"domain": "a", "sample": 7, "to": 200}
        where = self.control(d, "where", run="r", **sample)
        got = self.json("run", "compact", "r", "--before", 100, "--why", "old", daemon=d)
        self.assertEqual(got["run"], "r")
        self.assertTrue(84 <= got["step"] <= 100, got)
        self.assertEqual(got["removed"], got["first_entry"] - 1)
        for _ in range(2):  # the second time after a crash
            with self.connect(d) as w:
                self.assertEqual(book.pull(w, 0, 200), old)
                self.assertEqual(w.feedback(1, 5, losses(5), version=0)[1], 1)
                self.assertEqual(w.feedback(1, 199, losses(199, bent=1), version=0)[1], 3)
            now = [self.control(d, "step.show", run="r", step=s) for s in (0, 50, 199)]
            for was, is_ in zip(steps, now):
                self.assertEqual({**was, "mix": None}, {**is_, "mix": None})
                self.assertEqual(was["mix"]["version"], is_["mix"]["version"])
            self.assertEqual(steps[2], now[2])
            self.assertEqual(self.control(d, "where", run="r", **sample)["samples"], where["samples"])
            replay = self.replay(d)
            self.assertEqual((replay["first_entry"], replay["first_step"]),
                             (got["first_entry"], got["step"]))
            page = self.control(d, "run.log", run="r")
            self.assertEqual((page["first"], page["entries"][0]["index"]), (got["first_entry"],) * 2)
            entries = self.log(d)
            # What moved a mix most is seen beside the mix before, which may be forgotten.
            kept = [{k: v for k, v in e.items() if k != "moved_most"} for e in entries]
            full = [{k: v for k, v in e.items() if k != "moved_most"} for e in audit]
            self.assertEqual(kept[:len(audit) - got["removed"]], full[got["removed"]:])
            for from_ in 1, got["removed"]:
                self.refused(d, "run.log", f"entry {got['first_entry']}", run="r", status=wire.GONE,
                             **{"from": from_})
            for op, key, more in ("run.rewind", "to", {}), ("run.fork", "at", {"name": "f"}):
                self.refused(d, op, f"step {got['step'] - 1}", f"entry {got['first_entry']}", run="r",
                             status=wire.GONE, **{key: got["step"] - 1}, **more)
            d = self.again(d)
        with self.connect(d) as w:
            book.train(w, d.stats("r")["frontier"], d.stats("r")["frontier"] + 50)
        self.control(d, "run.fork", run="r", name="f", at=150)
        self.control(d, "run.rewind", run="r", to=got["step"] + 3)
        with self.connect(d) as w:
            self.assertEqual(book.pull(w, 0, got["step"] + 3), old[:got["step"] + 3])
        d = self.again(d)
        for run, branches in ("r", 2), ("f", 1):
            self.replay(d, branches, run=run)
        with self.connect(d) as w:
            self.assertEqual(book.pull(w, 0, got["step"] + 3), old[:got["step"] + 3])

    def test_again_and_of_a_long_journal(self):
        d = self.make(policy={"name": "odm"}, max_ahead=100000)
        with self.connect(d) as w:
            w.batch(1, 5999, 0, 8)
            for step in range(6000):
                w.send(wire.frame(wire.FEEDBACK, wire.feedback_body(1, step, losses(step), version=0)))
                if step % 60 == 59:
                    for _ in range(60):
                        self.assertEqual(w.receive()[1].status, wire.OK)
            for step in range(6000, 6100):
                w.batch(1, step, 0, 8)
        removed = 0
        for before in 100, 6000, 6100:
            try:
                got = self.compact(d, before)
                removed += got["removed"]
                self.assertEqual(got["first_entry"], removed + 1)
            except wire.Trouble as e:
                self.assertIn("nothing to remove", e.text)
        self.assertGreater(removed, 6000)
        self.refused(d, "run.compact", "nothing to remove", run="r", before=6100)
        self.replay(d)
        d = self.again(d)
        self.replay(d)

    def test_after_a_rewind_and_of_a_fork(self):
        d = self.make(policy={"name": "odm"})
        book = Book(self)
        with self.connect(d) as w:
            book.train(w, 0, 200)
            self.control(d, "run.rewind", run="r", to=40)
            book.train(w, 40, 80, bent=1)
            self.control(d, "run.fork", run="r", name="f", at=60)
            own = Book(self, w.attach("f")["run"])
            own.train(w, 61, 120)
        got = self.compact(d, 75)
        self.assertTrue(60 <= got["step"] <= 75, got)
        self.control(d, "run.compact", run="f", before=100)
        for _ in range(2):
            with self.connect(d) as w:
                for b in book, own:
                    for step, version in list(b.seen):
                        if b is own or step < 40 or (step < 80 and version == self.version(d, step)):
                            self.assertEqual(b.batch(w, step)["mix_version"], version)
            self.replay(d, 2)
            self.replay(d, 1, run="f")
            d = self.again(d)

    def version(self, d, step):
        return self.control(d, "step.show", run="r", step=step, slot_count=1)["mix_version"]

    def test_refusals(self):
        d = self.make()
        self.refused(d, "run.compact", "nothing to remove", run="r", before=0)
        self.refused(d, "run.compact", "no run q", run="q", before=0, status=wire.GONE)
        self.refused(d, "run.compact", "before", run="r")
        self.refused(d, "run.compact", "512", run="r", before=0, why="x" * 513)


if __name__ == "__main__":
    main()
