"""Domains that change under runs: shards that are adopted, documents that are withdrawn, limits that
are reached."""
import os
import shutil
import threading

from harness import main
from served import ServedTest
import wire


class Grow(ServedTest):
    """New shards of a domain that a run draws from."""

    def make(self, names="ab", n=4096, codec="raw", **kw):
        for x in names:
            self.grow(x, n, codec)
        d = self.start()
        self.create(d, **{"domains": {x: {"weight": 1} for x in names}, **kw})
        return d

    def adopted(self, w, run="r", n=1):
        self.until(lambda: len(self.entries(w, run, "adopt")) >= n)
        return self.entries(w, run, "adopt")

    def test_what_is_ingested_is_adopted_where_the_epoch_ends(self):
        d = self.make(reserve_steps=4)
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            before = self.steps(w, info, 0, 30)
            self.grow("a", 2048)
            (entry,) = self.adopted(w)
            self.assertEqual((entry["domain"], entry["samples"], entry["now"], entry["author"]),
                             ("a", 384, False, "mixd"))
            self.assertGreaterEqual(entry["step"], 30)
            self.same(w, "r", before)
            got = self.steps(w, info, 30, 300, dict(before))
            epochs = self.whole_epochs(self.drawn(info, got, "a"))
            self.assertEqual(epochs, {0: set(range(256)), **{e: set(range(384))
                                                             for e in range(1, max(epochs) + 1)}})
            self.assertGreaterEqual(max(epochs), 2)
            self.assertEqual(self.whole_epochs(self.drawn(info, got, "b"))[0], set(range(256)))
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            self.same(w, "r", got)
            self.assertEqual(len(self.entries(w, "r", "adopt")), 1)

    def test_a_daemon_that_was_away_adopts_when_it_is_back(self):
        d = self.make("a", reserve_steps=4)
        with wire.Wire(d.url) as w:
            got = self.steps(w, w.attach("r"), 0, 10)
        d.kill()
        self.grow("a", 1024)
        d = self.start()
        with wire.Wire(d.url) as w:
            self.adopted(w)
            info = w.attach("r")
            self.same(w, "r", got)
            self.steps(w, info, 10, 80, got)
            self.assertEqual(self.whole_epochs(self.drawn(info, got, "a")),
                             {0: set(range(256)), 1: set(range(320))})

    def test_at_once(self):
        """Several times within one epoch, each sample once; and no more often than can be."""
        d = self.make("a", n=8192, adopt="never")
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got, samples = {}, 512
            for i in range(8):
                self.steps(w, info, 4 * i, 4 * i + 4, got)
                self.grow("a", 16 * (5 + i))
                r = self.json("domain", "adopt", "a", "--now", "--why", "more", daemon=d)
                (run,) = r["runs"]
                self.assertEqual((r["domain"], run["run"], run["epoch_boundary"],
                                  run["samples_before"], run["samples"]),
                                 ("a", "r", False, samples, samples + 5 + i))
                self.assertGreaterEqual(run["step"], 4 * i + 4)
                samples += 5 + i
                self.same(w, "r", got, 10)
            self.assertEqual(samples, self.size("a"))
            self.grow("a", 160)
            r = self.mixctl("domain", "adopt", "a", "--now", daemon=d, code=1)
            self.assertRegex(r.stderr, "epoch.*8 times|8 times.*epoch")
            self.assertEqual([e["now"] for e in self.entries(w, "r", "adopt")], [True] * 8)
            self.assertEqual(self.entries(w, "r", "adopt")[3]["why"], "more")
            self.steps(w, info, 32, 160, got)
            epochs = self.whole_epochs(self.drawn(info, got, "a"))
            self.assertEqual(epochs, {0: set(range(samples)), 1: set(range(samples))})
            # Where the epoch ends it can be taken.
            (run,) = self.json("domain", "adopt", "a", daemon=d)["runs"]
            self.assertEqual((run["epoch_boundary"], run["samples"]), (True, samples + 10))
            self.steps(w, info, 160, 300, got)
            self.assertEqual(self.whole_epochs(self.drawn(info, got, "a"))[3],
                             set(range(samples + 10)))
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            self.same(w, "r", got)

    def test_at_once_after_it_was_taken_for_the_next_epoch(self):
        d = self.make("a")
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 10)
            self.grow("a", 1024)
            self.adopted(w)
            self.steps(w, info, 10, 12, got)
            (run,) = self.json("domain", "adopt", "a", "--now", daemon=d)["runs"]
            self.assertEqual((run["epoch_boundary"], run["samples_before"], run["samples"]),
                             (False, 256, 320))
            self.steps(w, info, 12, 90, got)
            self.assertEqual(self.whole_epochs(self.drawn(info, got, "a")),
                             {0: set(range(320)), 1: set(range(320))})

    def test_never(self):
        d = self.make("a", adopt="never")
        self.create(d, name="s", seed=2, domains={"a": {}})
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            self.grow("a", 1024)
            self.adopted(w, "s")
            got = self.steps(w, info, 0, 70)
            self.assertEqual(self.entries(w, "r", "adopt"), [])
            self.assertEqual(self.whole_epochs(self.drawn(info, got, "a")),
                             {e: set(range(256)) for e in range(2)})
            r = self.json("domain", "adopt", "a", "--run", "r", daemon=d)
            self.assertEqual([x["run"] for x in r["runs"]], ["r"])
            self.steps(w, info, 70, 150, got)
            self.assertEqual(self.whole_epochs(self.drawn(info, got, "a"))[3], set(range(320)))
        for args, says in [(["a", "--run", "x"], "no run x"), (["z"], "no domain"),
                           (["b", "--run", "r"], "no domain")]:
            self.assertIn(says, self.mixctl("domain", "adopt", *args, daemon=d, code=1).stderr)

    def test_compressed_shards_beside_raw_ones(self):
        """The order of what is planned doesn't depend on how later shards are kept."""
        d = self.make("a", n=8192)
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 20)
            self.grow("a", 4096, codec="zstd:3")
            self.adopted(w)
            self.same(w, "r", got)
            self.steps(w, info, 20, 30, got)
            self.json("domain", "adopt", "a", "--now", daemon=d)
            self.steps(w, info, 30, 310, got)
            self.assertEqual(self.whole_epochs(self.drawn(info, got, "a")),
                             {e: set(range(768)) for e in range(3)})
            self.same(w, "r", got)
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            self.same(w, "r", got)

    def test_another_folder(self):
        """A store that was copied while nobody had it open, and shard files that were away."""
        d = self.make("ab", snapshot_steps=16)
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 40)
            self.grow("a", 1024, codec="zstd:1")
            self.adopted(w)
            self.steps(w, info, 40, 60, got)
            self.grow("b", 2048)
            self.adopted(w, n=2)
            self.json("domain", "adopt", "b", "--now", daemon=d)
            self.steps(w, info, 60, 150, got)
        self.assertEqual(d.stop(), 0)
        other = self.path("elsewhere", "store")
        os.mkdir(self.path("elsewhere"))
        shutil.copytree(self.data, other)
        shutil.rmtree(self.data)
        self.data = other
        files = self.shard_files()
        self.assertEqual(len(files), 4)
        for f in files:  # away and back
            shutil.copyfile(f, self.path("away"))
            os.unlink(f)
            shutil.copyfile(self.path("away"), f)
        d = self.start()
        with wire.Wire(d.url) as w:
            self.same(w, "r", got)
            info = w.attach("r")
            for step in range(0, 150, 7):
                parts = []
                for rank in range(5):
                    first, n = wire.slots(rank, 5, 8)
                    parts += self.batch(w, info, step, first, n, rank, 5)["tokens"]
                self.assertEqual(parts, got[step]["tokens"])
            self.steps(w, info, 150, 160)

    def test_a_budget_grows_with_the_domain(self):
        d = self.make("a", domains={"a": {"max_epochs": 1.5, "on_exhausted": "stop"}})
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 10)
            self.grow("a", 2048)
            self.adopted(w)
            # One epoch of 256 and half of one of 384.
            self.steps(w, info, 10, 56, got)
            with self.assertRaises(wire.Trouble) as e:
                self.batch(w, info, 56)
            self.assertEqual(e.exception.status, wire.EXHAUSTED)
            self.assertIn("domain a", e.exception.text)
            self.assertEqual(len(set(self.drawn(info, got, "a"))), 448)

    def test_new_samples_revive_a_domain_that_was_used_up(self):
        d = self.make(domains={"a": {"weight": 1, "max_epochs": 1.5}, "b": {"weight": 1}})
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 110)
            self.assertEqual(len(self.drawn(info, got, "a")), 384)
            self.until(lambda: self.entries(w, "r", "exhausted"))
            self.grow("a", 4096)
            self.adopted(w)
            self.json("domain", "adopt", "a", "--now", daemon=d)
            self.steps(w, info, 110, 400, got)
            drawn = self.drawn(info, got, "a")
            # Epoch 1 goes on with the new ones: half of 512 were due in it, 128 had been drawn.
            self.assertEqual(len(drawn), 256 + 256)
            self.assertEqual(len(drawn), len(set(drawn)))
            self.until(lambda: len(self.entries(w, "r", "exhausted")) == 2)



class Withdraw(ServedTest):
    """Documents that must not be drawn any more."""

    def make(self, n=300, **kw):
        self.ingest("a", "first.jsonl", n)
        self.ingest("b", "b.jsonl", 150, "other")
        d = self.start()
        self.create(d, **{"reserve_steps": 4, "snapshot_steps": 16, **kw})
        return d

    def ingest(self, domain, name, n, word="doc"):
        """Documents of 1 to 60 bytes: most begin and end inside a sample."""
        self.texts(domain, name, [(f"{word}-{i}", chr(97 + i % 26) * self.random.randint(1, 60))
                                  for i in range(n)])

    def document(self, id_, domain="a"):
        return next(x for x in self.documents[domain] if x["id"] == id_)

    def listed(self, x):
        return {"id": x["id"], "source": x["source"], "byte": x["byte"], "line": x["line"],
                "tokens": x["tokens"]}

    def withdraw(self, w, domain="a", why="the author asked for it", **keys):
        return self.ask(w, "domain.withdraw", name=domain, why=why, author="ada", **keys)

    def holds(self, w, info, got, begin, gone, epochs=None, domain="a"):
        """From `begin` on none of these samples is drawn, and of the others all are, once an
        epoch."""
        seq = info["seq_len"]
        pairs = self.drawn(info, got, domain)
        later = self.drawn(info, {s: b for s, b in got.items() if s >= begin}, domain)
        self.assertEqual({s for _, s in later} & gone, set())
        every = set(range(self.size(domain, seq)))
        whole = self.whole_epochs(pairs)
        for e, seen in whole.items():
            self.assertEqual(seen | gone, every, f"epoch {e}")
        for e in list(whole)[1:]:
            self.assertEqual(seen, every - gone)
        if epochs is not None:
            self.assertGreaterEqual(len(whole), epochs)

    def test_by_id(self):
        d = self.make()
        self.create(d, name="long", seq_len=40)
        x = self.document("doc-40")
        with wire.Wire(d.url) as w:
            info, long = w.attach("r"), w.attach("long")
            got, other = self.steps(w, info, 0, 30), self.steps(w, long, 0, 10)
            entries = len(self.entries(w, "r"))
            dry = self.withdraw(w, doc="doc-40", dry_run=True)
            self.assertEqual(dry["documents"], [self.listed(x)])
            self.assertEqual([(r["run"], r["samples"]) for r in dry["runs"]],
                             [("r", len(self.samples_of("a", x))),
                              ("long", len(self.samples_of("a", x, 40)))])
            self.assertTrue(dry["dry_run"])
            self.assertEqual(len(self.entries(w, "r")), entries)
            done = self.withdraw(w, doc="doc-40")
            self.assertEqual((done["documents"], done["dry_run"]), (dry["documents"], False))
            (entry,) = self.entries(w, "r", "withdraw")
            self.assertEqual((entry["domain"], entry["samples"], entry["author"], entry["why"]),
                             ("a", len(self.samples_of("a", x)), "ada", "the author asked for it"))
            self.assertEqual(entry["step"], done["runs"][0]["from_step"])
            self.same(w, "r", got)
            self.same(w, "long", other)
            self.steps(w, info, 30, 500, got)
            self.steps(w, long, 10, 200, other)
            self.holds(w, info, got, entry["step"], set(self.samples_of("a", x)), 3)
            self.holds(w, long, other, 10, set(self.samples_of("a", x, 40)), 3)
            # A run that begins now never has it.
            self.create(d, name="new", seed=5, seq_len=24)
            new = w.attach("new")
            fresh = self.steps(w, new, 0, 300)
            self.holds(w, new, fresh, 0, set(self.samples_of("a", x, 24)), 2)
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            for run, steps in (("r", got), ("long", other), ("new", fresh)):
                self.same(w, run, steps, 150)
                self.assertEqual(len(self.entries(w, run, "withdraw")), 1)
                self.assertTrue(self.ask(w, "run.replay", run=run)["ok"])

    def test_by_origin(self):
        """The byte is anywhere in its line; the file, with or without its folder."""
        d = self.make()
        gone = set()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            for i, name in ((17, "first.jsonl"), (100, self.path("first.jsonl"))):
                x = self.document(f"doc-{i}")
                r = self.withdraw(w, origin=f"{name}:{x['byte'] + x['bytes'] // 2}")
                self.assertEqual(r["documents"], [self.listed(x)])
                gone |= set(self.samples_of("a", x))
            begin = self.entries(w, "r", "withdraw")[-1]["step"]
            self.holds(w, info, self.steps(w, info, begin, begin + 400), begin, gone, 2)
            r = self.mixctl("domain", "withdraw", "a", "--origin", "first.jsonl:0", "--why", "x",
                            daemon=d)
            self.assertIn("doc-0", r.stdout)

    def test_what_is_refused_is_not_recorded(self):
        d = self.make(n=60)
        self.texts("c", "big.jsonl", [("small", "x" * 100), ("big", "y" * 1000)])
        self.create(d, name="s", domains={"c": {}})
        with wire.Wire(d.url) as w:
            before = self.ask(w, "info")
            self.refused(w, "domain.withdraw", "no document with the id nobody", name="a",
                         doc="nobody", why="x")
            self.refused(w, "domain.withdraw", "no document of other.jsonl", name="a",
                         origin="other.jsonl:5", why="x")
            self.refused(w, "domain.withdraw", "FILE:BYTE", name="a", origin="other.jsonl", why="x")
            self.refused(w, "domain.withdraw", "\"why\" is missing", name="a", doc="doc-1")
            self.refused(w, "domain.withdraw", "either", name="a", why="x")
            self.refused(w, "domain.withdraw", "either", name="a", doc="doc-1", origin="f:1",
                         why="x")
            self.refused(w, "domain.withdraw", "zz", name="zz", doc="doc-1", why="x")
            for dry in (True, False):
                self.refused(w, "domain.withdraw", "over half of domain c", name="c", doc="big",
                             why="x", dry_run=dry)
            self.assertEqual(self.entries(w, "r", "withdraw"), [])
            self.assertEqual(self.entries(w, "s", "withdraw"), [])
            info = w.attach("s")
            self.steps(w, info, 0, 50)
            self.create(d, name="t", domains={"c": {}})
            got = self.steps(w, w.attach("t"), 0, 50)
            big = set(self.samples_of("c", self.document("big", "c")))
            self.assertTrue(big <= {s for _, s in self.drawn(info, got, "c")})
            self.assertEqual(before["store"], self.ask(w, "info")["store"])
        self.assertEqual(d.stats("s")["state"], "active")

    def test_many_at_once(self):
        """Less than half each, and more together: some are refused, and the run goes on."""
        d = self.make(n=60)
        answers = {}

        def one(i):
            with wire.Wire(d.url) as w:
                while i not in answers:
                    try:
                        self.withdraw(w, doc=f"doc-{i}")
                        answers[i] = ""
                    except wire.Trouble as e:
                        if "ask again" not in e.text:  # long questions are a few at a time
                            answers[i] = e.text

        threads = [threading.Thread(target=one, args=(i,)) for i in range(60)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for text in set(answers.values()) - {""}:
            self.assertIn("over half of domain a", text)
        self.assertEqual(len(set(answers.values())), 2)
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            begin = self.entries(w, "r", "withdraw")[-1]["step"]
            got = self.steps(w, info, begin, begin + 200)
            gone = {s for i, text in answers.items() if not text
                    for s in self.samples_of("a", self.document(f"doc-{i}"))}
            self.assertGreater(len(gone), self.size("a") // 2 - 5)
            drawn = self.drawn(info, got, "a")
            self.assertEqual({s for _, s in drawn} & gone, set())
            self.assertEqual({s for _, s in drawn} | gone, set(range(self.size("a"))))
            self.assertTrue(self.ask(w, "run.replay", run="r")["ok"])
        # A run that cuts longer samples would have nearly none left.
        self.assertIn("over half of domain a",
                      self.create(d, name="long", seq_len=100, code=1).stderr)
        self.assertEqual(d.stats("r")["state"], "active")

    def test_in_a_shard_that_no_run_has_taken(self):
        for now in (True, False):
            with self.subTest(now=now):
                self.tearDown()
                self.setUp()
                d = self.make(adopt="never")
                with wire.Wire(d.url) as w:
                    info = w.attach("r")
                    got = self.steps(w, info, 0, 20)
                    self.ingest("a", "second.jsonl", 100, word="new")
                    x = self.document("new-30")
                    self.withdraw(w, doc="new-30")
                    self.steps(w, info, 20, 30, got)
                    self.ask(w, "domain.adopt", name="a", now=now)
                    self.steps(w, info, 30, 600, got)
                    gone = set(self.samples_of("a", x))
                    drawn = self.drawn(info, got, "a")
                    self.assertEqual({s for _, s in drawn} & gone, set())
                    self.assertEqual(self.whole_epochs(drawn)[1],
                                     set(range(self.size("a"))) - gone)
                d.kill()
                d = self.start()
                with wire.Wire(d.url) as w:
                    self.same(w, "r", got, 100)

    def test_more_than_half_of_what_has_been_taken_may_lie_in_what_has_not(self):
        d = self.make(n=40, adopt="never")
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            self.texts("a", "long.jsonl", [(f"long-{i}", "z" * 3000) for i in range(4)])
            self.assertGreater(len(self.samples_of("a", self.document("long-1"))),
                               self.size("a") // 8)
            self.withdraw(w, doc="long-1")
            got = self.steps(w, info, 0, 60)
            self.ask(w, "domain.adopt", name="a")
            self.steps(w, info, 60, 700, got)
            gone = set(self.samples_of("a", self.document("long-1")))
            self.assertEqual(self.whole_epochs(self.drawn(info, got, "a"))[5],
                             set(range(self.size("a"))) - gone)

    def test_fork_and_rewind(self):
        """Going back to before a withdrawal doesn't bring the document back."""
        d = self.make(max_ahead=4096)
        x = self.document("doc-77")
        gone = set(self.samples_of("a", x))
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 60)
            self.withdraw(w, doc="doc-77")
            self.steps(w, info, 60, 80, got)
            self.ask(w, "run.fork", run="r", name="f", at=20, why="try")
            fork = w.attach("f")
            forked = self.steps(w, fork, 20, 500)
            drawn = self.drawn(fork, forked, "a")
            self.assertEqual({s for _, s in drawn} & gone, set())
            self.assertEqual(self.whole_epochs(drawn)[2], set(range(self.size("a"))) - gone)
            self.ask(w, "run.rewind", run="r", to=10, why="back")
            self.same(w, "r", {s: b for s, b in got.items() if s < 10})
            again = self.steps(w, info, 10, 500)
            drawn = self.drawn(info, again, "a")
            self.assertEqual({s for _, s in drawn} & gone, set())
            self.assertEqual(self.whole_epochs(drawn)[2], set(range(self.size("a"))) - gone)
            self.assertEqual(self.ask(w, "where", run="r", doc="doc-77")["samples"][0]["steps"],
                             [y for y in self.ask(w, "where", run="r", doc="doc-77", to=10)
                              ["samples"][0]["steps"]])
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            self.same(w, "r", again, 100)
            self.same(w, "f", forked, 100)

    def test_lockstep(self):
        d = self.make(policy={"name": "odm"}, feedback={"mode": "lockstep", "lag": 2})
        x = self.document("doc-10")
        got = {}
        with wire.Wire(d.url) as w:
            info = w.attach("r")

            def train(begin, end):
                for step in range(begin, end):
                    got[step] = self.batch(w, info, step)
                    w.feedback(info["run"], step, [(0, 4, 64, 64 * (1 + step % 3)),
                                                   (1, 4, 64, 64 * 2.0)],
                               version=got[step]["mix_version"])

            train(0, 20)
            self.withdraw(w, doc="doc-10")
            begin = self.entries(w, "r", "withdraw")[0]["step"]
            self.assertGreaterEqual(begin, 20)
            train(20, 300)
            self.holds(w, info, got, begin, set(self.samples_of("a", x)), 1)
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            self.same(w, "r", got, 100)

    def test_while_trainers_pull(self):
        d = self.make(max_ahead=4096)
        union, errors, stop = {}, [], threading.Event()

        def trainer(rank):
            try:
                with wire.Wire(d.url) as w:
                    info = w.attach("r")
                    first, n = wire.slots(rank, 4, 8)
                    step = 0
                    while not stop.is_set() or step < 400:
                        b = self.batch(w, info, step, first, n, rank, 4)
                        union.setdefault(step, {})[rank] = b
                        step += 1
            except Exception as e:  # pylint: disable=broad-except
                errors.append(e)

        threads = [threading.Thread(target=trainer, args=(r,)) for r in range(4)]
        for t in threads:
            t.start()
        with wire.Wire(d.url) as w:
            said = [self.withdraw(w, doc=f"doc-{i}")["runs"][0]["from_step"]
                    for i in range(0, 60, 3)]
            stop.set()
            for t in threads:
                t.join()
            self.assertEqual(errors, [])
            info = w.attach("r")
            entries = self.entries(w, "r", "withdraw")
            self.assertEqual([e["step"] for e in entries], said)
            gone, k = {}, info["names"].index("a")
            for i, e in zip(range(0, 60, 3), entries):
                for s in self.samples_of("a", self.document(f"doc-{i}")):
                    gone.setdefault(s, e["step"])
            for step, ranks in sorted(union.items()):
                for b in ranks.values():
                    for dom, s in zip(b["domains"], b["samples"]):
                        self.assertFalse(dom == k and gone.get(s, step + 1) <= step, (step, s))
            got = self.steps(w, info, 0, 400)
            for step, ranks in sorted(union.items()):
                if step < 400 and len(ranks) == 4:
                    self.assertEqual([t for r in range(4) for t in ranks[r]["tokens"]],
                                     got[step]["tokens"])

    def test_killed_on_the_way(self):
        """Recorded in the catalog, and perhaps in no run's journal yet: then the daemon that comes
        next brings it there before it serves a step."""
        d = self.make()
        for i in range(12):
            name, id_ = f"n{i}", f"doc-{i * 20}"
            with wire.Wire(d.url) as w:
                w.send(wire.frame(wire.CONTROL, (
                    '{"op": "domain.withdraw", "name": "a", "doc": "%s", "why": "x"}' % id_
                ).encode()))
                if i % 3:
                    self.until(lambda: d.text().count("domain.withdraw") > 0)
                else:
                    threading.Event().wait(self.random.random() * 0.01)
                d.kill()
            d = self.start()
            with wire.Wire(d.url) as w:
                info = w.attach("r")
                begin = info["frontier"]
                got = self.steps(w, info, begin, begin + 250)
                taken = [e["step"] for e in self.entries(w, "r", "withdraw")]
                # Whether the catalog has it is seen by a run that begins now.
                self.create(d, name=name, domains={"a": {}}, reserve_steps=4)
                new = w.attach(name)
                fresh = self.drawn(new, self.steps(w, new, 0, 130), "a")
                gone = set(self.samples_of("a", self.document(id_)))
                recorded = not gone & {s for _, s in fresh}
                if i % 3:
                    self.assertTrue(recorded)
                if recorded:
                    self.assertTrue(taken and taken[-1] <= begin, (i, taken, begin))
                    self.assertEqual(gone & {s for _, s in self.drawn(info, got, "a")}, set())


class Limits(ServedTest):
    """Bounds of shares and budgets of domains, counted over real batches."""

    def make(self, sizes, domains, **kw):
        for name, n in sizes.items():
            self.grow(name, n * 16)
        d = self.start()
        self.create(d, domains=domains, **kw)
        return d

    def counts(self, w, info, steps):
        return [{name: b["domains"].count(k) for k, name in enumerate(info["names"])}
                for _, b in sorted(self.steps(w, info, 0, steps).items())]

    def feed(self, w, info, got, loss):
        for step, b in sorted(got.items()):
            w.feedback(info["run"], step,
                       [(k, 4, 64, 64 * loss[name]) for k, name in enumerate(info["names"])],
                       version=b["mix_version"])

    def test_floor_ceiling_and_pin_hold_whatever_the_policy_wants(self):
        d = self.make({"a": 256, "b": 256, "c": 256, "d": 256},
                      {"a": {"weight": 1, "floor": 0.125}, "b": {"weight": 1, "ceiling": 0.375},
                       "c": {"weight": 1, "pin": 0.25}, "d": {"weight": 1}},
                      batch_size=16, policy={"name": "odm"}, lead=0, reserve_steps=4)
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = {}
            for step in range(120):
                got[step] = self.batch(w, info, step)
                self.feed(w, info, {step: got[step]}, {"a": 0.1, "b": 9.0, "c": 9.0, "d": 0.1})
            for step, b in got.items():
                n = {x: b["domains"].count(k) for k, x in enumerate(info["names"])}
                # Of 16 slots these shares are whole numbers, so that sampling rounds nothing.
                self.assertGreaterEqual(n["a"], 2, step)
                self.assertLessEqual(n["b"], 6, step)
                self.assertEqual(n["c"], 4, step)
            # What the losses ask for goes as far as the limits let it.
            self.assertEqual(n["b"], 6)

    def test_redistribution_respects_a_ceiling(self):
        d = self.make({"a": 40, "b": 512, "c": 512},
                      {"a": {"weight": 0.5, "max_epochs": 1}, "b": {"weight": 0.25, "ceiling": 0.25},
                       "c": {"weight": 0.25}})
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            counts = self.counts(w, info, 40)
            self.assertEqual(counts[:10], [{"a": 4, "b": 2, "c": 2}] * 10)
            self.assertEqual(counts[10:], [{"a": 0, "b": 2, "c": 6}] * 30)
            self.until(lambda: self.entries(w, "r", "exhausted"))
            (entry,) = self.entries(w, "r", "exhausted")
            self.assertEqual((entry["domain"], entry["ends"]), ("a", False))

    def test_the_run_stops_where_nobody_may_take_the_slots(self):
        d = self.make({"a": 44, "b": 512},
                      {"a": {"weight": 0.5, "max_epochs": 1}, "b": {"weight": 0.5, "ceiling": 0.5}})
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            self.assertEqual(self.counts(w, info, 11), [{"a": 4, "b": 4}] * 11)
            for _ in range(2):
                with self.assertRaises(wire.Trouble) as e:
                    self.batch(w, info, 11)
                self.assertEqual(e.exception.status, wire.EXHAUSTED)
                self.assertIn("domain a", e.exception.text)
                self.assertIn("11", e.exception.text)
            self.until(lambda: self.entries(w, "r", "exhausted"))
            entry = self.entries(w, "r", "exhausted")[-1]
            self.assertEqual((entry["domain"], entry["ends"], entry["step"]), ("a", True, 11))
            self.assertEqual(d.stats("r")["state"], "exhausted")
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            with self.assertRaises(wire.Trouble) as e:
                self.batch(w, w.attach("r"), 11)
            self.assertEqual(e.exception.status, wire.EXHAUSTED)

    def test_each_way_of_being_used_up(self):
        """max_epochs 1.5 of 64 samples are 96, to the sample."""
        for how in ("redistribute", "stop", "repeat"):
            with self.subTest(how=how):
                self.tearDown()
                self.setUp()
                d = self.make({"a": 64, "b": 512},
                              {"a": {"weight": 0.75, "max_epochs": 1.5, "on_exhausted": how},
                               "b": {"weight": 0.25}})
                with wire.Wire(d.url) as w:
                    info = w.attach("r")
                    counts = self.counts(w, info, 16)
                    self.assertEqual(counts, [{"a": 6, "b": 2}] * 16)
                    if how == "stop":
                        with self.assertRaises(wire.Trouble) as e:
                            self.batch(w, info, 16)
                        self.assertEqual(e.exception.status, wire.EXHAUSTED)
                    else:
                        more = [self.batch(w, info, s)["domains"].count(0) for s in range(16, 30)]
                        self.assertEqual(more, [0 if how == "redistribute" else 6] * 14)
                    if how != "repeat":
                        self.until(lambda: self.entries(w, "r", "exhausted"))

    def test_it_is_said_before_a_domain_is_used_up(self):
        """96 samples of a, 6 in a step: 16 steps. b never ends; nothing is said of c, which goes
        on."""
        for how in ("redistribute", "stop"):
            with self.subTest(how=how):
                self.tearDown()
                self.setUp()
                d = self.make({"a": 64, "b": 512, "c": 4},
                              {"a": {"weight": 0.75, "max_epochs": 1.5, "on_exhausted": how},
                               "b": {"weight": 0.125},
                               "c": {"weight": 0.125, "max_epochs": 2, "on_exhausted": "repeat"}},
                              warn_steps=10)
                with wire.Wire(d.url) as w:
                    info = w.attach("r")
                    for step in range(16):
                        self.batch(w, info, step)
                        stats = d.stats("r")
                        left = {x["name"]: x["runs_out_in_steps"] for x in stats["domains"]}
                        self.assertEqual(left, {"a": 15 - step, "b": None, "c": None})
                        self.assertEqual(["domain a" in x for x in stats["warnings"]],
                                         [True] if step >= 5 else [])
                        if step == 4:
                            self.assertNotIn("domain.low", d.text())
                        if step == 6:
                            self.until(lambda: "domain.low" in d.text())
                    self.assertEqual(d.text().count("domain.low"), 1)
                    self.assertRegex(d.text(), "domain.low run=r domain=a steps_left=[0-9]+ at_step=16 "
                                     "then=.*" + ("run stops" if how == "stop" else "others"))


class Elastic(ServedTest):
    def test_the_world_changes_on_the_way(self):
        """8 ranks, then 3, then 16 with slices of 7 and 6: the same steps as asked whole."""
        for x in "ab":
            self.grow(x, 8192)
        d = self.start()
        self.create(d, batch_size=100, policy={"name": "odm"}, reserve_steps=4)
        whole = {}
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            for begin, end, world in ((0, 20, 8), (20, 40, 3), (40, 60, 16)):
                for step in range(begin, end):
                    parts, version = [], 0
                    for rank in range(world):
                        first, n = wire.slots(rank, world, 100)
                        b = self.batch(w, info, step, first, n, rank, world)
                        parts += b["tokens"]
                        version = b["mix_version"]
                    whole[step] = parts
                    for rank in range(world):
                        self.assertEqual(w.feedback(info["run"], step,
                                                    [(0, 6, 96, 96 * 3.0), (1, 6, 96, 96 * 1.0)],
                                                    rank, world, version)[1], 0)
            self.until(lambda: d.stats("r")["feedback"]["steps_closed"] == 60)
            for step, parts in whole.items():
                self.assertEqual(self.batch(w, info, step)["tokens"], parts)

    def test_a_half_reported_step_is_taken_over_by_the_next_world(self):
        for x in "ab":
            self.grow(x, 4096)
        d = self.start()
        self.create(d, batch_size=48, policy={"name": "odm"}, feedback={"timeout_s": 600})
        loss = [(0, 1, 16, 48.0), (1, 1, 16, 16.0)]
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            run = info["run"]
            for step in range(4):
                for rank in range(8):
                    first, n = wire.slots(rank, 8, 48)
                    b = self.batch(w, info, step, first, n, rank, 8)
                for rank in range(8 if step < 3 else 4):
                    w.feedback(run, step, loss, rank, 8, b["mix_version"])
            self.until(lambda: d.stats("r")["feedback"]["steps_closed"] == 3)
            # The job is begun again from step 2 with three ranks, and reports what it does.
            for step in range(2, 6):
                for rank in range(3):
                    first, n = wire.slots(rank, 3, 48)
                    b = self.batch(w, info, step, first, n, rank, 3)
                for rank in range(3):
                    outcome = w.feedback(run, step, loss, rank, 3, b["mix_version"])[1]
                    self.assertEqual(outcome == 0, step > 2, (step, rank, outcome))
            self.until(lambda: d.stats("r")["feedback"]["steps_closed"] == 6)


if __name__ == "__main__":
    main()
