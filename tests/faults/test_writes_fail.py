"""The nth write, sync, truncation or renaming of the daemon fails, for every n until none does.

Whatever fails, and whether it goes on failing: the daemon refuses to start, and says why; or it
goes on, says so on /healthz and to whoever wants something recorded, and serves what it can.
Nothing that it acknowledged is missing afterwards.
"""
import errno
import json
import os
import shutil
import urllib.error

from disk import Report, Start, environment
from harness import PATIENCE, DaemonTest, main
import wire

# errno, whether it goes on, and how much is done of the call that fails
KINDS = ((errno.EIO, "once", "no"), (errno.EIO, "on", "all"),
         (errno.ENOSPC, "once", "half"), (errno.ENOSPC, "on", "no"), (errno.ENOSPC, "on", "half"))
STEPS = 10
SLOTS = 8
UNWRITABLE = "the journal can't be written"


class Trial:
    """What one run of the script sent, and what was answered."""

    def __init__(self):
        self.runs = {}      # name: number, of those whose creation was acknowledged
        self.batches = {}   # (run, step): the reply's body
        self.sent = set()   # (run, step) of feedback
        self.accepted = set()
        self.mix_version = 0
        self.stopped = False
        self.refused = []   # Trouble


class WritesFail(DaemonTest):
    def setUp(self):
        super().setUp()
        self.tokens("a", 4096)
        self.tokens("b", 4096, 20000)
        os.rename(self.data, self.path("made"))
        self.report = self.path("report")

    # ---- a daemon on a store of its own ----

    def fresh_store(self, made):
        shutil.rmtree(self.data, ignore_errors=True)
        if made:
            shutil.copytree(self.path("made"), self.data,
                            ignore=shutil.ignore_patterns("catalog-lock"))
        if os.path.exists(self.report):
            os.unlink(self.report)

    def start_failing(self, n, kind):
        env = environment(self.data, report=self.report, fail=f"{n} {kind[0]} {kind[1]} {kind[2]}")
        d = Start(self.data, env=env, config={"hold_ms": 10})
        self.daemons.append(d)
        return d

    def failed(self):
        return Report(self.report).failed > 0

    def health(self, d):
        try:
            return 200, d.get("/healthz")
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read().decode()

    # ---- what clients do ----

    def ask(self, t, what):
        """what()'s answer, or None: then it was refused as a daemon may that can't write."""
        try:
            return what()
        except wire.Trouble as e:
            self.assertIn(e.status, (wire.BUSY, wire.WAIT), e)
            if e.status == wire.BUSY:
                self.assertIn("/store/catalog: cannot ", e.text)
            t.refused.append(e)
            return None

    def control(self, t, w, **request):
        body = self.ask(t, lambda: w.get(wire.CONTROL, json.dumps(request).encode()))
        return None if body is None else json.loads(body)

    def create(self, t, w, name, **kw):  # pylint: disable=arguments-differ
        config = self.run_config(name=name, batch_size=SLOTS, reserve_steps=4, snapshot_steps=4,
                                 **kw)
        if self.control(t, w, op="run.create", config=json.dumps(config)) is not None:
            t.runs[name] = w.attach(name)["run"]

    def batch(self, t, w, run, step):
        body = wire.batch_body(run, step, 0, SLOTS)
        reply = self.ask(t, lambda: w.get(wire.BATCH, body))
        while reply is None and t.refused[-1].status == wire.WAIT and not self.failed():
            reply = self.ask(t, lambda: w.get(wire.BATCH, body))  # it was only slow
        if reply is not None:
            self.assertEqual(t.batches.setdefault((run, step), reply), reply)
        return reply is not None

    def feedback(self, t, w, run, step):
        """The outcome, or None."""
        version = wire.parse_batch(t.batches[run, step])["mix_version"]
        losses = [(0, 4, 64, 64 * (1.0 + step % 3)), (1, 4, 64, 64 * 2.5)]
        t.sent.add((run, step))
        answer = self.ask(t, lambda: w.feedback(run, step, losses, version=version))
        if answer is not None and answer[1] == 0:
            t.accepted.add((run, step))
        return None if answer is None else answer[1]

    def script(self, t, w):
        """Yields after each request, so that whoever runs it can stop."""
        self.create(t, w, "r", policy={"name": "odm"})
        yield
        self.create(t, w, "s")
        yield
        for step in range(STEPS):
            self.batch(t, w, t.runs["r"], step)
            yield
            if step > 0:  # that of step 0 is for when nothing more can be recorded
                self.feedback(t, w, t.runs["r"], step)
                yield
            if step == 4:
                mix = self.control(t, w, op="mix.set", run="r", weights={"a": 0.7, "b": 0.3})
                t.mix_version = mix["version"] if mix is not None else 0
                yield
            if step == 6:
                self.batch(t, w, t.runs["s"], 0)
                yield
                t.stopped = self.control(t, w, op="run.stop", run="s") is not None
                yield

    # ---- what must hold ----

    def check_broken(self, d, t, w, n):
        """A daemon whose write failed says so, records nothing, and still serves what it has."""
        self.until(lambda: self.health(d)[0] != 200)
        code, text = self.health(d)
        self.assertEqual(code, 503)
        self.assertIn(UNWRITABLE, text)
        self.assertFalse(d.stats()["store"]["journal_ok"])
        refused = len(t.refused)
        self.assertIsNone(self.control(t, w, op="run.create",
                                       config=json.dumps(self.run_config(name="x"))))
        asked = 1
        if "r" in t.runs:
            self.assertIsNone(self.control(t, w, op="mix.set", run="r", weights={"a": 1, "b": 2}))
            asked += 1
            if (t.runs["r"], 0) in t.batches:
                self.assertIsNone(self.feedback(t, w, t.runs["r"], 0))
                self.assertIn(UNWRITABLE, t.refused[-1].text)
                asked += 1
        if "s" in t.runs and not t.stopped:
            self.assertIsNone(self.control(t, w, op="run.stop", run="s"))
            asked += 1
        self.assertEqual([e.status for e in t.refused[refused:]], [wire.BUSY] * asked)
        for run, step in list(t.batches):
            if not self.batch(t, w, run, step):  # it compares; a catalog that is closed to reading
                self.assertEqual(t.refused[-1].status, wire.BUSY)
        self.until(lambda: " journal.broken " in d.text())
        if "r" in t.runs and not self.batch(t, w, t.runs["r"], STEPS + 64):  # not reserved yet
            self.assertEqual(t.refused[-1].status, wire.BUSY, "WAIT would promise what can't come")
        self.assertEqual(d.text().count(" error "), 1, "one failure, one line")

    def check_restarted(self, d, t):
        """All that was acknowledged is there, and the daemon is as good as new."""
        self.assertEqual(self.health(d), (200, "ok\n"))
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            for name, run in t.runs.items():
                self.assertEqual(w.attach(name)["run"], run)
            for run, step in list(t.batches):
                self.assertTrue(self.batch(t, w, run, step))  # compares
            if "r" in t.runs:
                stats = d.stats("r")
                self.assertGreaterEqual(stats["feedback"]["accepted"], len(t.accepted))
                self.assertLessEqual(stats["feedback"]["accepted"], len(t.sent))
                self.assertGreaterEqual(max(stats["mix_version"], stats["next_version"]),
                                        t.mix_version)
                before = set(t.accepted)
                for run, step in sorted(t.sent):
                    outcome = self.feedback(t, w, run, step)
                    self.assertIn(outcome, (1,) if (run, step) in before else (0, 1))
                self.assertEqual(d.stats("r")["feedback"]["accepted"], len(t.sent))
                step = d.stats("r")["frontier"]
                self.assertTrue(self.batch(t, w, t.runs["r"], step))
                self.assertEqual(self.feedback(t, w, t.runs["r"], step), 0)
            if t.stopped:
                self.assertEqual(d.stats("s")["state"], "stopped")
            self.create(t, w, "new")
            self.assertIn("new", t.runs)

    def check_refused(self, d):
        """A daemon that didn't start ended by itself, and named the file and what it tried."""
        self.assertGreater(d.code, 0, "it must exit, not die")
        said = d.text().strip().splitlines()[-1]
        self.assertRegex(said, r"^mixd: " + self.data + r"[^:]*: cannot [^:]*: .")

    # ---- the tests ----

    def one(self, n, kind):
        """The script with the nth call failing: the call's name, or "" if there were fewer."""
        t = Trial()
        self.fresh_store(made=True)
        d = self.start_failing(n, kind)
        if d.code is not None:
            self.check_refused(d)
        else:
            with wire.Wire(d.url, timeout=PATIENCE) as w:
                for _ in self.script(t, w):
                    if self.failed():
                        break
                self.until(lambda: self.failed() or d.stats()["store"]["commit_queue"] == 0)
                if self.failed():
                    self.check_broken(d, t, w, n)
                else:
                    self.assertEqual(t.refused, [])
                    self.assertEqual(len(t.accepted), STEPS - 1)
            if n % 2:
                d.kill()
            else:
                self.assertEqual(d.stop(), 0)
        first = Report(self.report).first
        d = self.start()
        self.check_restarted(d, t)
        d.kill()
        return first

    def test_of_a_store_at_work(self):
        for kind in KINDS:
            n, met = 0, set()
            first = None
            while first != "":
                n += 1
                with self.subTest(n=n, errno=kind[0], reach=kind[1], done=kind[2]):
                    first = self.one(n, kind)
                    met.add(first)
            print(kind, n - 1, "calls failed in turn:", ", ".join(sorted(met - {""})))
            self.assertGreater(n, 60)
            self.assertLessEqual({"pwrite", "writev", "fdatasync", "ftruncate"}, met)

    def removed(self, n, kind):
        """As one(), but what fails is the removal of a domain, which isn't the journal's."""
        t = Trial()
        self.fresh_store(made=True)
        d = self.start_failing(n, kind)
        if d.code is None:
            config = json.dumps(self.run_config(domains={"a": {}}))
            with wire.Wire(d.url, timeout=PATIENCE) as w:
                try:
                    w.get(wire.CONTROL, b'{"op": "domain.rm", "name": "b"}')
                    self.assertFalse(self.failed())
                except wire.Trouble as e:
                    self.assertTrue(self.failed())
                    self.assertIn("/store/catalog: cannot commit: ", e.text)
                    # Nothing is acknowledged on top of what may not be there.
                    self.assertIsNone(self.control(t, w, op="run.create", config=config))
                    self.assertEqual(t.refused[-1].status, wire.BUSY)
            d.kill()
        first = Report(self.report).first
        d = self.start()
        if first != "":  # if it had been removed after all: to be ingested again
            self.tokens("b", 4096)
            self.check_restarted(d, t)
        d.kill()
        return first

    def test_of_a_domain_being_removed(self):
        for kind in KINDS:
            n, first = 0, None
            while first != "":
                n += 1
                with self.subTest(n=n, errno=kind[0], reach=kind[1], done=kind[2]):
                    first = self.removed(n, kind)
            self.assertGreater(n, 6)

    def withdrawn(self, n, kind):
        """As one(), but with documents being withdrawn from under two runs."""
        self.fresh_store(made=True)
        d = self.start_failing(n, kind)
        if d.code is None:
            with wire.Wire(d.url, timeout=PATIENCE) as w:
                try:  # it is answered in any case
                    w.get(wire.CONTROL, b'{"op": "domain.withdraw", "name": "t", "doc": "d3", '
                                        b'"why": "asked for"}')
                except wire.Trouble as e:
                    self.assertTrue(self.failed())
                    self.assertEqual(e.status, wire.BUSY, e)
            d.kill()
        first = Report(self.report).first
        d = self.start()
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            w.batch(1, 200, 0, SLOTS)
            w.batch(2, 200, 0, SLOTS)
        d.kill()
        return first

    def test_of_documents_being_withdrawn(self):
        self.fresh_store(made=True)
        lines = [json.dumps({"id": f"d{i}", "text": "x" * 64}) + "\n" for i in range(40)]
        self.mixctl("ingest", "t", self.write("t.jsonl", "".join(lines)), "--format", "jsonl",
                    "--tokenizer", "bytes", data=True)
        d = self.start()
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            for name in ("r", "s"):
                self.create(Trial(), w, name, domains={"t": {}})
        self.assertEqual(d.stop(), 0)
        shutil.rmtree(self.path("made"))
        os.rename(self.data, self.path("made"))
        for kind in KINDS:
            n, first = 0, None
            while first != "":
                n += 1
                with self.subTest(n=n, errno=kind[0], reach=kind[1], done=kind[2]):
                    first = self.withdrawn(n, kind)
            self.assertGreater(n, 6)

    def test_of_a_store_being_made(self):
        for kind in KINDS:
            n, met = 0, set()
            first = None
            while first != "":
                n += 1
                with self.subTest(n=n, errno=kind[0], reach=kind[1], done=kind[2]):
                    self.fresh_store(made=False)
                    d = self.start_failing(n, kind)
                    if d.code is not None:
                        self.check_refused(d)
                    else:
                        self.assertFalse(self.failed())
                        d.kill()
                    first = Report(self.report).first
                    met.add(first)
                    d = self.start()
                    self.tokens("a", 4096)
                    self.tokens("b", 4096)
                    self.check_restarted(d, Trial())
                    d.kill()
            print(kind, n - 1, "calls failed in turn:", ", ".join(sorted(met - {""})))
            self.assertLessEqual({"pwrite", "writev", "fsync", "ftruncate", "rename"}, met)


if __name__ == "__main__":
    main()
