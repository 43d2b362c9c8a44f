"""Looking back: what a step held and why, and which steps saw a sample or a document."""
import json
import statistics
import time

from harness import main
from served import ServedTest
import wire


class TraceTest(ServedTest):
    def where(self, w, run="r", **keys):
        return self.ask(w, "where", run=run, **keys)

    def plain(self, steps, planned=True):
        self.assertEqual([x["step"] for x in steps], sorted(x["step"] for x in steps))
        return sorted((x["step"], x["slot"], x["epoch"]) for x in steps if x["planned"] == planned)

    def occurrences(self, info, got):
        """Of each (domain, sample): where it is in these steps."""
        found = {}
        for step, b in sorted(got.items()):
            for slot, (k, s, e) in enumerate(zip(b["domains"], b["samples"], b["epochs"])):
                found.setdefault((info["names"][k], s), []).append((step, slot, e))
        return found

    def check(self, w, run="r", count=40, first=0):
        """Random samples, and the last ones, against all that is planned, asked step by step."""
        info = w.attach(run)
        got = self.steps(w, info, first, info["frontier"])
        every = self.occurrences(info, got)
        end = w.attach(run)["frontier"]
        self.assertEqual(end, info["frontier"])
        names = info["names"]
        asked = [(x, self.random.randrange(self.known[x])) for x in names
                 for _ in range(count // len(names))]
        for i, (domain, sample) in enumerate(asked + [(x, self.known[x] - 1) for x in names]):
            r = self.where(w, run, domain=domain, sample=sample, limit=1000,
                           **({"to": end} if i % 8 else {}))
            self.assertEqual(r["frontier"], end)
            (x,) = r["samples"]
            self.assertEqual((x["domain"], x["sample"], x["document"]), (domain, sample, None))
            self.assertEqual(self.plain(x["steps"]), every.get((domain, sample), []),
                             f"domain {domain} sample {sample}")
            for y in x["steps"]:
                self.assertEqual(y["planned"], y["step"] < end)
        return got

    def predict(self, w, run, ahead, count=24):
        """What is said of steps to come, and that it comes true."""
        info = w.attach(run)
        begin = info["frontier"]
        asked = [(x, self.random.randrange(self.known[x])) for x in info["names"]
                 for _ in range(count)]
        said = {}
        for domain, sample in asked:
            r = self.where(w, run, domain=domain, sample=sample, to=begin + ahead,
                           **{"from": begin, "limit": 1000})
            self.assertEqual((r["frontier"], r["horizon"]), (begin, begin + ahead))
            said[domain, sample] = self.plain(r["samples"][0]["steps"], False)
            self.assertEqual(len(said[domain, sample]), len(r["samples"][0]["steps"]))
        every = self.occurrences(info, self.steps(w, info, begin, begin + ahead))
        for key, steps in said.items():
            self.assertEqual(steps, every.get(key, []), key)


class Where(TraceTest):
    def make(self, names="abc", n=2048, **kw):
        self.known = {}
        for x in names:
            self.grow(x, n)
            self.known[x] = n // 16
        d = self.start()
        self.create(d, **{"domains": {x: {"weight": 1 + ord(x) % 3} for x in names},
                          "reserve_steps": 4, "snapshot_steps": 16, "max_ahead": 4096, **kw})
        return d

    def grown(self, domain, n, codec="raw"):
        self.grow(domain, n, codec)
        self.known[domain] += n // 16

    def test_is_what_the_steps_say(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            self.steps(w, info, 0, 150)
            self.check(w)
            self.predict(w, "r", 60)
            self.ask(w, "mix.set", run="r", weights={"a": 0.7}, why="more")
            self.steps(w, info, 210, 260)
            self.check(w)
            self.ask(w, "mix.set", run="r", weights={"b": 0.9}, at="+20", why="known already")
            self.predict(w, "r", 60)
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            self.check(w)

    def test_a_mix_before_one_that_is_known_already(self):
        """Steps of the later one, filled ahead, have the same mix and yet another place to begin
        at."""
        for gap in (3, 4, 5):
            with self.subTest(gap=gap):
                self.tearDown()
                self.setUp()
                d = self.make("ab", reserve_steps=64)
                with wire.Wire(d.url) as w:
                    info = w.attach("r")
                    got = self.steps(w, info, 0, 10)
                    self.ask(w, "mix.set", run="r", weights={"a": 0.9}, at=f"+{gap}")
                    got[10] = self.batch(w, info, 10)  # and those after it are filled
                    self.ask(w, "mix.set", run="r", weights={"a": 0.1})
                    self.steps(w, info, 11, 40, got)
                    for domain in "ab":
                        self.whole_epochs(self.drawn(info, got, domain))
                d.kill()
                d = self.start()
                with wire.Wire(d.url) as w:
                    self.same(w, "r", got)

    def test_samplings_and_policies(self):
        for kw in ({"sampling": "iid"}, {"sampling": "block", "block": 4},
                   {"policy": {"name": "odm"}}):
            with self.subTest(**kw):
                self.tearDown()
                self.setUp()
                d = self.make(**kw)
                with wire.Wire(d.url) as w:
                    info = w.attach("r")
                    for step in range(120):
                        b = self.batch(w, info, step)
                        if "policy" in kw:
                            w.feedback(info["run"], step,
                                       [(k, 2, 32, 32 * (1 + (step + k) % 4)) for k in range(3)],
                                       version=b["mix_version"])
                    self.check(w)
                    self.predict(w, "r", 30)

    def test_a_domain_smaller_than_its_part_of_a_batch(self):
        """A sample may come twice in a step."""
        d = self.make("ab", n=48, batch_size=16)
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 40)
            self.check(w)
            self.predict(w, "r", 20)
            every = self.occurrences(info, got)
            self.assertGreater(len(every["a", 1]), 40)
            # In pieces: from the step that the last one ended in.
            seen, at = [], 0
            for _ in range(100):
                x = self.where(w, domain="a", sample=1, limit=7, to=40, **{"from": at})
                part = self.plain(x["samples"][0]["steps"])
                self.assertLessEqual(len(part), 7)
                seen += [y for y in part if y not in seen]
                if not x["samples"][0]["more"]:
                    break
                at = part[-1][0]
            self.assertEqual(sorted(seen), every["a", 1])
            for begin, end in ((10, 11), (10, 20), (39, 40), (0, 1), (20, 20)):
                x = self.where(w, domain="a", sample=1, to=end, **{"from": begin})
                self.assertEqual(self.plain(x["samples"][0]["steps"]),
                                 [y for y in every["a", 1] if begin <= y[0] < end])
                self.assertEqual(x["horizon"], end)

    def test_after_growing(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            self.steps(w, info, 0, 40)
            self.grown("a", 640)
            self.until(lambda: self.entries(w, "r", "adopt"))
            self.predict(w, "r", 60)
            self.check(w)
            for i in range(3):
                self.grown("b", 160 + 16 * i, "zstd:1")
                self.until(lambda n=i + 2: len(self.entries(w, "r", "adopt")) >= n)
                n = len(self.entries(w, "r", "adopt"))
                self.ask(w, "domain.adopt", name="b", now=True)
                self.assertEqual(len(self.entries(w, "r", "adopt")), n + 1)
                self.predict(w, "r", 6)
            self.check(w, count=120)
            self.predict(w, "r", 100)
            self.check(w, count=120)
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            self.check(w)

    def test_only_the_present_branch(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            self.steps(w, info, 0, 100)
            self.ask(w, "mix.set", run="r", weights={"a": 0.8}, why="x")
            self.steps(w, info, 100, 150)
            self.ask(w, "run.rewind", run="r", to=70, why="back")
            self.check(w)
            self.ask(w, "mix.set", run="r", weights={"b": 0.8}, why="y")
            self.steps(w, info, 70, 180)
            self.check(w)
            self.ask(w, "run.rewind", run="r", to=33, why="further")
            self.steps(w, info, 33, 90)
            self.grown("a", 640)
            self.until(lambda: self.entries(w, "r", "adopt"))
            self.predict(w, "r", 60)
            self.check(w)
            self.ask(w, "run.fork", run="r", name="f", at=50)
            fork = w.attach("f")
            self.steps(w, fork, 50, 120)
            self.check(w, "f", first=50)
            self.predict(w, "f", 40)
            self.refused(w, "step.show", "isn't one of those that are planned", run="f", step=49)
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            self.check(w)
            self.check(w, "f", first=50)

    def test_what_is_passed_over(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            self.steps(w, info, 0, 60)
            before = {(x, s): self.where(w, domain=x, sample=s)["samples"][0]["steps"]
                      for x in "ab" for s in range(0, 128, 9)}
            self.ask(w, "run.skip", run="r", why="spike", to=80, **{"from": 20})
            for (domain, sample), steps in before.items():
                now = self.where(w, domain=domain, sample=sample)["samples"][0]["steps"]
                self.assertEqual(now, [dict(x, skipped=20 <= x["step"] < 80) for x in steps])
            self.assertTrue(self.ask(w, "step.show", run="r", step=20)["skipped"])
            self.assertFalse(self.ask(w, "step.show", run="r", step=19)["skipped"])

    def test_what_is_refused(self):
        d = self.make("ab")
        with wire.Wire(d.url) as w:
            for says, keys in [("what to look for", {}), ("what to look for", {"domain": "a"}),
                               ("what to look for", {"sample": 1}),
                               ("has no domain z", {"domain": "z", "sample": 1}),
                               ("samples 0 to before 128", {"domain": "a", "sample": 128}),
                               ("no run", {"run": "x", "domain": "a", "sample": 1}),
                               ("FILE:BYTE", {"origin": "a.u16"}),
                               ("holds a document with the id d", {"doc": "d"}),
                               ("holds a document of no.u16", {"origin": "no.u16:5"})]:
                self.refused(w, "where", says, **{"run": "r", **keys})
            x = self.where(w, domain="a", sample=5, to=0)
            self.assertEqual((x["samples"][0]["steps"], x["horizon"]), ([], 0))

    def test_a_run_that_ends(self):
        d = self.make("ab", end={"steps": 50})
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            x = self.where(w, domain="a", sample=5)
            self.assertEqual(x["horizon"], 50)
            self.predict(w, "r", 50 - info["frontier"])
            self.check(w)


class Anything(TraceTest):
    """Whatever operators do, in any order: what was planned stays, none comes twice in an epoch,
    what is withdrawn isn't drawn, and where and step tell of all that just as it was."""

    ROUNDS = 25

    def text_shard(self, domain, n):
        self.count += 1
        self.texts(domain, f"{domain}{self.count}.jsonl",
                   [(f"{domain}{self.count}-{i}", "x" * self.random.randint(1, 60))
                    for i in range(n)], self.random.choice(("raw", "zstd:1")))
        self.known[domain] = self.size(domain)

    def act(self, d, w):
        """One thing at random. A new daemon, if it was a restart."""
        info = w.attach("r")
        end = info["frontier"]
        kind = self.random.choice(["ingest", "now", "withdraw", "rewind", "set", "set later",
                                   "skip", "kill", "stop"])
        domain = self.random.choice("ab")
        if kind == "ingest":
            n = len(self.entries(w, "r", "adopt"))
            self.text_shard(domain, self.random.randint(5, 40))
            self.until(lambda: len(self.entries(w, "r", "adopt")) > n)
        elif kind == "now":
            try:
                self.ask(w, "domain.adopt", name=domain, now=True)
            except wire.Trouble as e:
                self.assertIn("8 times", e.text)
        elif kind == "withdraw":
            x = self.random.choice(self.documents[domain])
            try:
                r = self.ask(w, "domain.withdraw", name=domain, doc=x["id"], why="x")
                for s in self.samples_of(domain, x):
                    self.gone.setdefault((domain, s), r["runs"][0]["from_step"])
            except wire.Trouble as e:
                self.assertIn("over half", e.text)
        elif kind == "rewind":
            to = self.random.randint(max(0, end - 100), end)
            try:
                self.ask(w, "run.rewind", run="r", to=to, why="x")
                self.got = {s: b for s, b in self.got.items() if s < to}
                self.skips = {s for s in self.skips if s < to}
                self.gone = {x: min(s, to) for x, s in self.gone.items()}
            except wire.Trouble as e:
                self.assertIn("withdrawn", e.text)
        elif kind in ("set", "set later"):
            self.ask(w, "mix.set", run="r", weights={"a": self.random.randint(1, 9) / 10},
                     **({"at": f"+{self.random.randint(1, 40)}"} if kind != "set" else {}))
        elif kind == "skip" and len(self.skips) < 60:
            at = self.random.randint(0, end + 5)
            to = at + self.random.randint(1, 4)
            self.ask(w, "run.skip", run="r", why="x", to=to, **{"from": at})
            self.skips |= set(range(at, to))
        elif kind in ("kill", "stop"):
            if kind == "kill":
                d.kill()
            else:
                self.assertEqual(d.stop(), 0)
            d = self.start()
        return d, kind

    def serve(self, w, info, end):
        """Steps that aren't passed over; of the others `step` tells."""
        for step in range(end):
            if step in self.skips:
                r = self.ask(w, "step.show", run="r", step=step)
                self.assertTrue(r["skipped"])
                names = info["names"]
                slots = [(names.index(x["domain"]), x["sample"], x["epoch"]) for x in r["slots"]]
                b = {"domains": tuple(x[0] for x in slots), "samples": tuple(x[1] for x in slots),
                     "epochs": tuple(x[2] for x in slots), "mix_version": r["mix_version"]}
            elif step in self.got and "tokens" in self.got[step] and self.random.random() < 0.9:
                continue
            else:
                b = self.batch(w, info, step)
            if step in self.got:
                for key in ("domains", "samples", "epochs", "mix_version"):
                    self.assertEqual(b[key], self.got[step][key], (step, key))
            self.got[step] = b

    def check_all(self, w):
        for x in "ab":  # going back before an adoption makes another one
            self.until(lambda x=x: self.known_samples(w, x) == self.known[x])
        info = w.attach("r")
        end = info["frontier"]
        self.serve(w, info, end)
        for domain in "ab":
            drawn = self.drawn(info, self.got, domain)
            self.assertEqual(len(drawn), len(set(drawn)), f"domain {domain}: twice in an epoch")
        every = self.occurrences(info, self.got)
        for key, steps in every.items():
            if key in self.gone:
                self.assertTrue(all(s < self.gone[key] for s, _, _ in steps), (key, steps))
        for _ in range(10):
            domain = self.random.choice("ab")
            view = self.known_samples(w, domain)
            sample = self.random.randrange(view)
            x = self.where(w, domain=domain, sample=sample, limit=1000, to=end)["samples"][0]
            self.assertEqual(self.plain(x["steps"]), every.get((domain, sample), []),
                             (domain, sample))
            self.assertEqual([y["skipped"] for y in x["steps"]],
                             [y["step"] in self.skips for y in x["steps"]])
            x = self.where(w, domain=domain, sample=sample, limit=20, **{"from": end})["samples"][0]
            self.said = getattr(self, "said", {})
            self.said[domain, sample] = self.plain(x["steps"], False)
        return info, end

    def come_true(self, w, info, end):
        """What was said of the next steps, now that they are planned and nothing has changed."""
        ahead = end + self.random.randint(1, 25)
        for step in range(end, ahead):
            if step not in self.skips:
                self.got[step] = self.batch(w, info, step)
        self.serve(w, info, w.attach("r")["frontier"])
        every = self.occurrences(info, self.got)
        top = w.attach("r")["frontier"]
        for key, steps in self.said.items():
            self.assertEqual([x for x in steps if x[0] < top],
                             [x for x in every.get(key, []) if end <= x[0]][:20], key)
        self.said = {}

    def known_samples(self, w, domain):
        """Samples that the run knows of."""
        try:
            self.where(w, domain=domain, sample=2 ** 40)
        except wire.Trouble as e:
            return int(e.text.rsplit(" ", 1)[1])
        raise AssertionError("there is no such sample")

    def test_anything(self):
        self.known, self.gone, self.got, self.skips, self.count = {}, {}, {}, set(), 0
        for x in "ab":
            self.text_shard(x, 80)
        d = self.start()
        self.create(d, reserve_steps=4, snapshot_steps=8, max_ahead=4096,
                    sampling=self.random.choice(("systematic", "iid")))
        did = []
        w = wire.Wire(d.url)
        try:
            for _ in range(self.ROUNDS):
                before = d
                d, kind = self.act(d, w)
                did.append(kind)
                if d is not before:
                    w.close()
                    w = wire.Wire(d.url)
                info, end = self.check_all(w)
                self.come_true(w, info, end)
            self.assertTrue(self.ask(w, "run.replay", run="r")["ok"])
        except BaseException:
            print(f"seed {self.seed}, after {did}")
            raise
        finally:
            w.close()


class Documents(TraceTest):
    def make(self, **kw):
        texts = [(f"id-{i}", chr(97 + i % 26) * self.random.choice((1, 5, 30, 70)))
                 for i in range(200)]
        self.texts("a", "first.jsonl", texts[:120])
        self.texts("a", "second.jsonl", texts[120:] + [("twice", "q" * 20)])
        self.texts("b", "b.jsonl", [(f"b-{i}", "w" * 33) for i in range(60)] +
                   [("twice", "r" * 50)], codec="zstd:3")
        self.known = {x: self.size(x) for x in "ab"}
        d = self.start()
        self.create(d, **{"reserve_steps": 4, "snapshot_steps": 16, **kw})
        return d

    def expected(self, every, domain, x, frontier):
        return [(domain, s, [y for y in every.get((domain, s), []) if y[0] < frontier])
                for s in self.samples_of(domain, x)]

    def told(self, r):
        return [(x["domain"], x["sample"], self.plain(x["steps"])) for x in r["samples"]]

    def where_all(self, w, **keys):
        """All pages."""
        r = page = self.where(w, limit=1000, **keys)
        while page["next_sample"] is not None:
            self.assertEqual(page["next_sample"], len(r["samples"]))
            page = self.where(w, limit=1000, sample_first=page["next_sample"], **keys)
            r["samples"] += page["samples"]
        return r

    def test_by_id_and_by_origin(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            every = self.occurrences(info, self.check(w))
            every = self.occurrences(info, self.steps(w, info, 0, 150))
            self.assertEqual(w.attach("r")["frontier"], 150)
            asked = self.random.sample([(x, y) for x in "ab" for y in self.documents[x]
                                        if y["id"] != "twice"], 40)
            for domain, x in asked:
                want = self.expected(every, domain, x, 150)
                document = {k: x[k] for k in ("id", "source", "byte", "line")}
                name = x["source"].rsplit("/", 1)[1]
                byte = x["byte"] + self.random.randrange(x["bytes"])
                for keys in ({"doc": x["id"]}, {"doc": x["id"], "domain": domain},
                             {"origin": f"{x['source']}:{byte}"}, {"origin": f"{name}:{byte}"},
                             {"origin": f"{name}:{x['byte']}", "domain": domain},
                             {"origin": f"{name}:{x['byte'] + x['bytes'] - 1}"}):
                    if not want:
                        self.refused(w, "where", "holds a document", run="r", **keys)
                        continue
                    r = self.where_all(w, to=150, **keys)
                    self.assertEqual(self.told(r), want, keys)
                    for y in r["samples"]:
                        self.assertEqual(y["document"], document)
            self.assertTrue(any(len(self.samples_of(x, y)) > 3 for x, y in asked))
            both = self.where_all(w, doc="twice", to=150)
            twice = [(x, y) for x in "ab" for y in self.documents[x] if y["id"] == "twice"]
            self.assertEqual(self.told(both), [z for x, y in twice
                                               for z in self.expected(every, x, y, 150)])
            self.refused(w, "where", "holds a document", run="r", doc="b-3", domain="a")
            # mixctl says the same.
            r = self.json("where", "--doc", "id-7", "--run", "r", daemon=d)
            self.assertEqual(r["samples"], self.where(w, doc="id-7")["samples"])
            # A document of many samples comes in pages; mixctl puts them together.
            self.texts("c", "long.jsonl", [("long", "l" * 16 * 700)])
            self.create(d, name="s", domains={"c": {}}, batch_size=256)
            self.steps(w, w.attach("s"), 0, 2)
            self.assertIsNotNone(self.where(w, "s", doc="long", to=2)["next_sample"])
            r = self.json("where", "c", "--doc", "long", "--run", "s", "--to", 2, daemon=d)
            self.assertEqual([x["sample"] for x in r["samples"]], list(range(700)))
            self.assertEqual(sum(len(x["steps"]) for x in r["samples"]), 512)
            text = self.mixctl("where", "--doc", "long", "--run", "s", "--to", 2, daemon=d).stdout
            self.assertEqual(text.count("document long"), 700)
            self.assertEqual(text.count("looked at: steps"), 1)
            text = self.mixctl("where", "--origin", "first.jsonl:0", "--run", "r", daemon=d).stdout
            self.assertIn("document id-0", text)

    def test_withdrawn(self):
        """It is told where it was, and not that it will be again."""
        d = self.make()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 80)
            x = next(y for y in self.documents["a"] if y["id"] == "id-33")
            self.ask(w, "domain.withdraw", name="a", doc="id-33", why="asked for")
            at = self.entries(w, "r", "withdraw")[0]["step"]
            self.steps(w, info, 80, at + 100, got)
            every = self.occurrences(info, got)
            r = self.where_all(w, doc="id-33")
            self.assertEqual(self.told(r), self.expected(every, "a", x, at + 100))
            for y in r["samples"]:
                self.assertTrue(all(z["step"] < at for z in y["steps"]))
            self.check(w)
            self.predict(w, "r", 60)
            # Places that are passed over shift what comes after them; what was stays.
            self.ask(w, "domain.withdraw", name="a", doc="id-50", why="asked for")
            self.check(w, count=100)
            self.predict(w, "r", 60)
            self.check(w, count=100)

    def check_step(self, w, run, step, **mix):
        info = w.attach(run)
        b = self.batch(w, info, step)
        r = self.ask(w, "step.show", run=run, step=step)
        self.assertEqual((r["run"], r["step"], r["mix_version"], r["next_slot"]),
                         (run, step, b["mix_version"], None))
        self.assertEqual([(x["slot"], x["domain"], x["sample"], x["epoch"]) for x in r["slots"]],
                         [(i, info["names"][k], s, e) for i, (k, s, e) in
                          enumerate(zip(b["domains"], b["samples"], b["epochs"]))])
        for x in r["slots"]:
            self.assertEqual(x["documents"], self.documents_in(x["domain"], x["sample"]))
        self.assertEqual([(x["domain"], x["count"]) for x in r["shares"]],
                         [(x, b["domains"].count(k)) for k, x in enumerate(info["names"])])
        self.assertEqual(r["mix"]["version"], r["mix_version"])
        for key, value in mix.items():
            self.assertEqual(r["mix"][key], value, key)
        self.assertAlmostEqual(sum(x["share"] for x in r["shares"]), 1)
        return r

    def test_what_a_step_held(self):
        d = self.make(policy={"name": "odm"}, lead=0)
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            cursors = {"a": 0, "b": 0}
            for step in range(30):
                r = self.check_step(w, "r", step, cause="create", from_step=0, entry=1)
                self.assertEqual({x["domain"]: x["cursor"] for x in r["shares"]}, cursors)
                for x in r["shares"]:
                    cursors[x["domain"]] += x["count"]
            source = self.check_step(w, "r", 3)["slots"][0]["documents"][0]
            with open(source["source"], "rb") as f:
                f.seek(source["byte"])
                self.assertEqual(json.loads(f.readline())["id"], source["id"])
            self.ask(w, "mix.set", run="r", weights={"a": 0.75, "b": 0.25}, why="more of a",
                     author="ada")
            (entry,) = self.entries(w, "r", "set")
            self.batch(w, info, entry["step"])
            self.check_step(w, "r", entry["step"], cause="operator", author="ada", why="more of a",
                            from_step=entry["step"], entry=entry["index"],
                            time_ms=entry["time_ms"])
            at = w.attach("r")["frontier"] - 1
            version = self.batch(w, info, at)["mix_version"]
            w.feedback(info["run"], at, [(0, 4, 64, 64 * 3.0), (1, 4, 64, 64 * 1.0)],
                       version=version)
            self.until(lambda: self.entries(w, "r", "mix"))
            entry = self.entries(w, "r", "mix")[-1]
            self.batch(w, info, entry["step"])
            self.check_step(w, "r", entry["step"], cause="feedback", cause_step=at,
                            from_step=entry["step"], entry=entry["index"])
            end = w.attach("r")["frontier"]
            for step in (end, end + 1, 2 ** 40):
                self.refused(w, "step.show", f"step {step} isn't one of those that are planned",
                             run="r", step=step)
            # Looking plans nothing.
            self.assertEqual(w.attach("r")["frontier"], end)
            self.ask(w, "run.rewind", run="r", to=20, author="bob", why="again")
            self.batch(w, info, 20)
            r = self.check_step(w, "r", 20, cause="rewind", author="bob", why="again")
            self.assertEqual(r["branch"], 1)
            self.check_step(w, "r", 19, cause="create")
            self.ask(w, "run.fork", run="r", name="f", at=10, author="eve", why="aside")
            self.batch(w, w.attach("f"), 10)
            self.check_step(w, "f", 10, cause="fork", author="eve", why="aside")

    def test_some_slots(self):
        """A step with more to say than a reply holds comes in pages; mixctl puts them together."""
        d = self.make(batch_size=2000)
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            b, first = [], 0
            while first < 2000:
                part = self.batch(w, info, 0, first, 2000 - first)
                b += [(info["names"][k], s, e) for k, s, e in
                      zip(part["domains"], part["samples"], part["epochs"])]
                first += part["slot_count"]
            r = self.ask(w, "step.show", run="r", step=0, slot_first=7, slot_count=5)
            self.assertEqual([(x["slot"], x["domain"], x["sample"], x["epoch"])
                              for x in r["slots"]],
                             [(7 + i, *x) for i, x in enumerate(b[7:12])])
            self.assertEqual(r["next_slot"], 12)
            first = self.ask(w, "step.show", run="r", step=0)
            self.assertLess(len(first["slots"]), 2000)
            self.assertEqual(first["next_slot"], len(first["slots"]))
            r = self.json("step", "r", 0, daemon=d)
            self.assertEqual([(x["slot"], x["domain"], x["sample"], x["epoch"])
                              for x in r["slots"]], [(i, *x) for i, x in enumerate(b)])
            text = self.mixctl("step", "r", 0, "--slots", "0:8", daemon=d).stdout
            self.assertIn("step 0 of run r", text)
            self.assertEqual(len([x for x in text.splitlines() if "  a  " in x or "  b  " in x]), 8)


class Long(TraceTest):
    """A run of a million planned steps."""

    STEPS = 1000000

    def plan(self, w, info, end, mixes=0):
        """Leaps, as far as they may go; with operators' mixes on the way."""
        at, version = w.attach("r")["frontier"], 0
        while at < end:
            step = min(at + 8000, end) - 1
            b = self.batch(w, info, step)
            at = step + 1
            if mixes and at * mixes // end > version:
                version = at * mixes // end
                self.ask(w, "mix.set", run="r", weights={"a": 0.3 + version % 50 / 100}, why="x")
        return b

    def measure(self, w, info):
        end = w.attach("r")["frontier"]
        times, shown = [], []
        for i in range(50):
            domain = info["names"][i % len(info["names"])]
            sample = self.random.randrange(self.known[domain])
            begin = time.perf_counter()
            r = self.where(w, domain=domain, sample=sample)
            times.append(time.perf_counter() - begin)
            x = r["samples"][0]
            self.assertTrue(x["steps"])
            for y in self.random.sample(x["steps"], min(4, len(x["steps"]))):
                if y["planned"]:
                    begin = time.perf_counter()
                    b = self.batch(w, info, y["step"])
                    shown.append(time.perf_counter() - begin)
                    k = info["names"].index(domain)
                    self.assertEqual((b["domains"][y["slot"]], b["samples"][y["slot"]],
                                      b["epochs"][y["slot"]]), (k, sample, y["epoch"]))
        # And nothing is left out: in some windows of steps, all of them.
        for begin in (0, 12345, end // 2, end - 200):
            got = self.occurrences(info, self.steps(w, info, begin, begin + 100))
            for (domain, sample), steps in self.random.sample(sorted(got.items()), 10):
                r = self.where(w, domain=domain, sample=sample, to=begin + 100, limit=1000,
                               **{"from": begin})
                self.assertEqual(self.plain(r["samples"][0]["steps"]), steps)
        print(f"where over {end} steps: median {statistics.median(times) * 1e3:.2f} ms, worst "
              f"{max(times) * 1e3:.2f} ms; an old step: median "
              f"{statistics.median(shown) * 1e3:.2f} ms, worst {max(shown) * 1e3:.2f} ms")

    def test_a_million_steps(self):
        for mixes in (0, 300):
            with self.subTest(mixes=mixes):
                self.tearDown()
                self.setUp()
                self.known = {"a": 65536 // 2, "b": 65536}
                for x, n in self.known.items():
                    self.grow(x, n * 2, first=0)
                d = self.start()
                self.create(d, batch_size=2, seq_len=2, max_ahead=1 << 20, snapshot_steps=256)
                with wire.Wire(d.url) as w:
                    info = w.attach("r")
                    begin = time.perf_counter()
                    self.plan(w, info, self.STEPS, mixes)
                    print(f"\nplanned in {time.perf_counter() - begin:.1f} s")
                    self.measure(w, info)
                begin = time.perf_counter()
                d.kill()
                d = self.start()
                print(f"started again in {time.perf_counter() - begin:.2f} s")
                with wire.Wire(d.url) as w:
                    self.measure(w, info)


if __name__ == "__main__":
    main()
