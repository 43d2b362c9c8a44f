"""Runs whose batches change their size and length at fixed steps: what is served, over crashes,
other worlds, history and questions, against the files that went in."""
import os
import subprocess

from harness import PATIENCE, main
from served import ServedTest
import wire

UNIT = 64
PARTS = [(0, 8, 64), (10, 8, 128), (22, 4, 256)]  # from_step, batch_size, seq_len
PHASES = [{"from": 10, "seq_len": 128}, {"from": 22, "batch_size": 4, "seq_len": 256}]


def part_of(step, parts=None):
    return [p for p in parts or PARTS if p[0] <= step][-1]


class LengthsTest(ServedTest):
    parts = PARTS

    def make(self, names="ab", n=200 * UNIT, phases=None, shards=3, **kw):
        """Domains of a few shards, whose tails fill no sample."""
        for x in names:
            for i in range(shards):
                self.grow(x, n // shards // UNIT * UNIT + 7 * i, kw.get("codec", "raw"))
        kw.pop("codec", None)
        d = self.start()
        self.create(d, **{"domains": {x: {"weight": 1 + ord(x) % 3} for x in names},
                          "batch_size": 8, "seq_len": 64, "phases": phases or PHASES,
                          "window": 2, "reserve_steps": 4, "snapshot_steps": 8, "max_ahead": 4096,
                          "policy": {"name": "static"}, **kw})
        return d

    def units(self, domain):
        return self.size(domain, UNIT)

    def whole(self, domain, sample, n):
        return b"".join(self.bytes_of(domain, sample + i, UNIT) for i in range(n))

    def check_slots(self, info, step, b):
        _, batch, seq_len = part_of(step, self.parts)
        m, at = seq_len // UNIT, 0
        self.assertEqual((b["batch_size"], b["seq_len"], b["token_count"]),
                         (batch, seq_len, seq_len))
        for k, s, raw, n in zip(b["domains"], b["samples"], b["tokens"], b["bounds"]):
            domain = info["names"][k]
            self.assertEqual(s % m, 0)
            self.assertEqual(raw, self.whole(domain, s, m), f"step {step}: {domain} {s}")
            # Each of these shards is one document, and begins with it.
            self.assertEqual(list(b["starts"][at:at + n]),
                             [i * UNIT for i in range(m)
                              if self.in_shard(domain, s + i, UNIT) == 0], f"{domain} {s}")
            at += n

    def batch(self, w, info, step, first=0, count=None, rank=0, world=1):
        batch = part_of(step, self.parts)[1]
        b = w.batch(info["run"], step, first, batch if count is None else count, rank, world)
        self.check_slots(info, step, b)
        return b

    def drawn_units(self, info, got):
        """(domain, epoch, unit) of all slots, in no order."""
        found = []
        for step, b in got.items():
            m = part_of(step, self.parts)[2] // UNIT
            found += [(k, e, s + i) for k, s, e in zip(b["domains"], b["samples"], b["epochs"])
                      for i in range(m)]
        return found

    def once(self, info, got):
        found = self.drawn_units(info, got)
        self.assertEqual(len(found), len(set(found)), "a sample came twice in an epoch")


class Serve(LengthsTest):
    def test_three_parts(self):
        for codec in ("raw", "zstd"):
            with self.subTest(codec=codec):
                self.tearDown()
                self.setUp()
                d = self.make(codec=codec)
                with wire.Wire(d.url) as w:
                    info = w.attach("r")
                    self.assertEqual([p[:3] for p in info["parts"]], PARTS)
                    self.assertEqual((info["batch_size"], info["seq_len"]), (8, 64))
                    got = self.steps(w, info, 0, 40)
                    self.once(info, got)
                    self.assertGreater(max(max(b["epochs"]) for b in got.values()), 0)
                    info = w.attach("r")  # of the step at the frontier
                    self.assertEqual((info["batch_size"], info["seq_len"]), (4, 256))
                    self.slots_refused(w, info)
                d.kill()
                d = self.start()
                with wire.Wire(d.url) as w:
                    self.same(w, "r", got)
                    for world in (2, 3, 4):
                        self.other_world(w, info, got, world)

    def slots_refused(self, w, info):
        for step, first, count, says in ((9, 8, 1, "batch of 8"), (22, 4, 1, "batch of 4"),
                                         (30, 0, 8, "batch of 4"), (10, 3, 6, "batch of 8")):
            with self.assertRaises(wire.Trouble) as e:
                w.batch(info["run"], step, first, count)
            self.assertIn(says, e.exception.text)
        for step, token in ((9, 64), (10, 128), (22, 256)):
            with self.assertRaises(wire.Trouble) as e:
                w.batch(info["run"], step, 0, 1, token_first=token)
            self.assertIn(f"within seq_len {token}", e.exception.text)
            b = w.batch(info["run"], step, 0, 1, token_first=token - 5)
            self.assertEqual((b["token_count"], b["token_first"]), (5, token - 5))

    def other_world(self, w, info, got, world):
        for step, whole in got.items():
            for rank in range(world):
                first, count = wire.slots(rank, world, part_of(step)[1])
                b = self.batch(w, info, step, first, count, rank, world)
                self.assertEqual(b["samples"], whole["samples"][first:first + count])
                self.assertEqual(b["tokens"], whole["tokens"][first:first + count])

    def test_the_next_part_is_filled_ahead(self):
        """Whoever takes its rank's slots finds the first batch of each part ready."""
        d = self.make()
        ahead = 4
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            for step in range(30):
                for rank in range(2):
                    first, count = wire.slots(rank, 2, part_of(step)[1])
                    self.batch(w, info, step, first, count, rank, 2)
                self.until(lambda: d.stats()["ready"]["batches"] == 2 * ahead)
            self.assertEqual(d.stats("r")["ready_misses"], 2)  # of the first step

    def test_a_killed_daemon_goes_on(self):
        d = self.make()
        got = {}
        for end in (3, 10, 11, 22, 23, 40):
            with wire.Wire(d.url) as w:
                info = w.attach("r")
                self.steps(w, info, max(got, default=-1) + 1, end, got)
            d.kill()
            d = self.start()
        with wire.Wire(d.url) as w:
            self.same(w, "r", got)
            self.once(info, got)

    def test_parts_of_a_slot_and_seams(self):
        """Samples larger than a reply, some of which go on from shard to shard."""
        n = 3 << 18
        raw = b"".join((i * 7 % 65521).to_bytes(2, "little") for i in range(n))
        self.mixctl("ingest", "a", self.write("a.u16", raw), "--format", "u16", "--shard-mib", 1,
                    data=True)
        d = self.start()
        sizes = [x["tokens"] for x in self.json("domain", "show", "a", daemon=d)["shard_list"]]
        self.assertGreater(len(sizes), 1)
        unit, m = 1 << 16, 3
        self.create(d, batch_size=1, seq_len=unit, domains={"a": {}},
                    phases=[{"from": 0, "seq_len": unit}, {"from": 1, "seq_len": unit * m}],
                    policy={"name": "static"})
        at = [(sum(sizes[:i]), k) for i, size in enumerate(sizes) for k in range(size // unit)]
        seams = 0
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            for step in range(6):
                length, tokens, starts, b = unit * (m if step else 1), b"", [], None
                while len(tokens) < 2 * length:
                    b = w.batch(info["run"], step, 0, 1, token_first=len(tokens) // 2)
                    self.assertEqual((b["slot_count"], b["seq_len"]), (1, length))
                    tokens += b["tokens"][0]
                    starts += b["starts"]
                units = at[b["samples"][0]:b["samples"][0] + (m if step else 1)]
                want, expected = b"", []
                for i, (base, k) in enumerate(units):
                    begin = base + k * unit
                    want += raw[2 * begin:2 * (begin + unit)]
                    if k == 0:  # what goes on there is a document of its own
                        expected.append(i * unit)
                        seams += i > 0
                self.assertTrue(tokens == want)
                self.assertEqual(starts, expected)
        self.assertGreater(seams, 0)

    def test_text_is_shown_and_found_across_samples(self):
        self.texts("a", "a.jsonl", [(f"doc-{i}", "x" * (20 + i * 37 % 200)) for i in range(200)])
        d = self.make("b", domains={"a": {"weight": 1}}, shards=1)
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            for step in range(30):
                w.batch(info["run"], step, 0, part_of(step)[1])
            for step in (3, 12, 25):
                m = part_of(step)[2] // UNIT
                shown = self.ask(w, "step.show", run="r", step=step)
                self.assertEqual((shown["samples_per_slot"], len(shown["slots"])),
                                 (m, part_of(step)[1]))
                for x in shown["slots"]:
                    docs = self.merged("a", x["sample"], m)
                    self.assertEqual(x["documents"], docs)
                    self.assertEqual(sum(y["tokens"] for y in docs), m * UNIT)

    def merged(self, domain, sample, m):
        found = []
        for i in range(m):
            for x in self.documents_in(domain, sample + i, UNIT):
                x["first_token"] += i * UNIT
                if found and found[-1]["id"] == x["id"]:
                    found[-1]["tokens"] += x["tokens"]
                else:
                    found.append(x)
        return found


class Look(LengthsTest):
    def occurrences(self, info, got):
        found = {}
        for step, b in sorted(got.items()):
            m = part_of(step, self.parts)[2] // UNIT
            for slot, (k, s, e) in enumerate(zip(b["domains"], b["samples"], b["epochs"])):
                for i in range(m):
                    found.setdefault((info["names"][k], s + i), []).append((step, slot, e))
        return found

    def where(self, w, domain, sample, **keys):
        r = self.ask(w, "where", run="r", domain=domain, sample=sample, limit=1000, **keys)
        (x,) = r["samples"]
        return [((y["step"], y["slot"], y["epoch"]), y["planned"]) for y in x["steps"]]

    def test_where(self):
        """Every sample of every part, planned or to come; and what is said comes true."""
        d = self.make()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            for frontier in (5, 10, 18, 22, 30):
                got = self.steps(w, info, 0, frontier)
                begin = w.attach("r")["frontier"]
                self.assertEqual(begin, frontier)
                said = {(x, s): self.where(w, x, s, to=45) for x in "ab"
                        for s in self.random.sample(range(self.units(x)), 12)}
                said.update({(x, self.units(x) - 1): self.where(w, x, self.units(x) - 1, to=45)
                             for x in "ab"})
                for steps in said.values():
                    self.assertEqual([p for _, p in steps],
                                     [at[0] < frontier for at, _ in steps])
                if frontier < 30:
                    fork = self.ask(w, "run.fork", run="r", name=f"f{frontier}", at=frontier,
                                    why="to see")
                    self.assertEqual(fork["name"], f"f{frontier}")
                    other = w.attach(f"f{frontier}")
                    got.update(self.steps(w, other, frontier, 45))
                else:
                    got = self.steps(w, info, 0, 45)
                every = self.occurrences(info, got)
                for key, steps in said.items():
                    self.assertEqual([at for at, _ in steps], every.get(key, []), (frontier, key))

    def test_history(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 30)
            self.ask(w, "run.rewind", run="r", to=15, why="again")
            self.assertEqual((w.attach("r")["batch_size"], w.attach("r")["seq_len"]), (8, 128))
            again = self.steps(w, info, 0, 30)
            for step, b in got.items():
                self.assertEqual(again[step]["tokens"], b["tokens"], step)
            self.ask(w, "mix.set", run="r", weights={"a": 0.9}, why="more")
            self.steps(w, info, 30, 36, again)
            self.ask(w, "run.rewind", run="r", to=10, why="to the boundary")
            again = {s: b for s, b in again.items() if s < 10}
            self.steps(w, info, 10, 40, again)
            self.once(info, again)
            self.assertTrue(self.ask(w, "run.replay", run="r")["ok"])
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            self.same(w, "r", again)
            self.assertTrue(self.ask(w, "run.replay", run="r")["ok"])
            every = self.occurrences(info, again)
            for s in self.random.sample(range(self.units("a")), 20):
                self.assertEqual([at for at, _ in self.where(w, "a", s, to=40)],
                                 every.get(("a", s), []))

    def test_stats(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 25)
            s = d.stats("r")
            self.assertEqual((s["batch_size"], s["seq_len"]), (4, 256))
            self.assertEqual([(p["from_step"], p["batch_size"], p["seq_len"]) for p in s["parts"]],
                             PARTS)
            said = self.mixctl("run", "show", "r", daemon=d).stdout
            for _, batch, seq_len in PARTS[1:]:
                self.assertIn(f"{batch} x {seq_len} tokens from step", said)
            # What was passed over where the length changed isn't counted; what at a domain's end
            # makes no whole sample is.
            units = self.drawn_units(info, got)
            for k, x in enumerate(s["domains"]):
                n = sum(1 for y in units if y[0] == k)
                self.assertGreaterEqual(x["drawn"], n)
                self.assertLess(x["drawn"], n + 4 * (x["epoch"] + 1))
                self.assertEqual(x["tokens"], x["drawn"] * UNIT)
            # A report can claim what the step has: 4 x 256 tokens.
            v = self.batch(w, info, 24)["mix_version"]
            self.assertEqual(w.feedback(1, 24, [(0, 4, 1024, 1024.0)], version=v)[1:3], (0, 0))
            v = self.batch(w, info, 23)["mix_version"]
            self.assertEqual(w.feedback(1, 23, [(0, 4, 1025, 1024.0)], version=v)[1:3], (0, 1))


class Domains(LengthsTest):
    def test_withdrawn(self):
        """A long sample that holds a withdrawn one isn't drawn."""
        self.texts("a", "a.jsonl", [(f"doc-{i}", "x" * (20 + i * 37 % 200)) for i in range(400)])
        d = self.make("", domains={"a": {"weight": 1}})
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps_unchecked(w, info, 0, 12)
            for doc in ("doc-40", "doc-111", "doc-112", "doc-300"):
                self.ask(w, "domain.withdraw", name="a", doc=doc, why="asked for")
            begin = self.entries(w, "r", "withdraw")[-1]["step"]
            got.update(self.steps_unchecked(w, info, 12, 60))
            gone = {s for i in (40, 111, 112, 300)
                    for s in self.samples_of("a", self.documents["a"][i], UNIT)}
            self.once(info, got)
            after = {s for k, _, s in self.drawn_units(info, {s: b for s, b in got.items()
                                                              if s >= begin})
                     if info["names"][k] == "a"}
            self.assertFalse(after & gone)
            self.assertTrue(after)
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            self.assertEqual(self.steps_unchecked(w, info, 0, 60), got)

    def steps_unchecked(self, w, info, begin, end):
        return {s: w.batch(info["run"], s, 0, part_of(s)[1]) for s in range(begin, end)}

    def test_adopted_at_the_epochs_end_alone(self):
        d = self.make("a", adopt="never", domains={"a": {}})
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 12)
            before = self.units("a")
            self.grow("a", 40 * UNIT)
            self.refused(w, "domain.adopt", "not at once", name="a", run="r", now=True, why="x")
            self.ask(w, "domain.adopt", name="a", run="r", why="x")
            self.steps(w, info, 12, 90, got)
            self.once(info, got)
            seen = {}
            for _, e, s in self.drawn_units(info, got):
                seen.setdefault(e, set()).add(s)
            last = max(seen)
            self.assertGreater(last, 2)
            self.assertTrue(all(max(seen[e]) < before for e in seen if e == 0))
            self.assertEqual(seen[last - 1], set(range(self.units("a") // 4 * 4)))

    def test_budget(self):
        """What may be drawn so often isn't drawn more often in any part."""
        d = self.make(domains={"a": {"weight": 1, "max_epochs": 1.5}, "b": {"weight": 1}})
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got = self.steps(w, info, 0, 60)
            self.once(info, got)
            n = sum(1 for k, _, _ in self.drawn_units(info, got) if info["names"][k] == "a")
            self.assertLessEqual(n, self.units("a") * 3 // 2)
            (a, _) = d.stats("r")["domains"]
            self.assertLessEqual(a["drawn"], self.units("a") * 3 // 2)
            self.assertEqual({info["names"][k] for k in got[59]["domains"]}, {"b"})

    def test_refused(self):
        self.grow("a", 640)
        d = self.start()
        for phases, says in (
                ([{"from": 5, "seq_len": 100}], "seq_len 100 from step 5 isn't a multiple of the "
                                                "run's shortest, 64"),
                ([{"from": 5, "seq_len": 128}, {"from": 9, "seq_len": 192}],
                 "seq_len 128 from step 5 doesn't divide the run's longest, 192"),
                ([{"from": 5, "seq_len": 1024}], "don't hold one sample of seq_len 1024"),
                ([{"from": 5}, {"from": 5}], "phases must rise: 5 comes after 5"),
                ([{"from": 5}, {"seq_len": 64}], "'from' is missing"),
                ([], "must be a list of 1 to"),
                ({}, "must be a list of 1 to"),
                ([{"from": 5, "block": 2}], "has blocks"),
                ([{"from": 5, "length": 2}], "length"),
                ([{"from": 5, "batch_size": 0}], "batch_size"),
                ([7], "must be an object"),
                ([{"from": i} for i in range(64)], "must be a list of 1 to 63")):
            r = self.create(d, code=1, seq_len=64, domains={"a": {}}, phases=phases)
            self.assertIn(says, r.stderr, phases)
        r = self.create(d, code=1, sampling="block", block=4, domains={"a": {}},
                        phases=[{"from": 3, "batch_size": 6}])
        self.assertIn("block 4 doesn't divide batch_size 6", r.stderr)
        r = self.create(d, code=1, batch_size=1048576, seq_len=1, domains={"a": {}},
                        phases=[{"from": 3, "seq_len": 8}])
        self.assertIn("the most is", r.stderr)
        # Phases that change no batch make no part, and change nothing.
        self.create(d, name="plain", seq_len=64, batch_size=4, domains={"a": {}})
        self.create(d, name="phased", seq_len=64, batch_size=4, domains={"a": {}},
                    phases=[{}, {"from": 3}, {"from": 9, "seq_len": 64}])
        with wire.Wire(d.url) as w:
            one, two = w.attach("plain"), w.attach("phased")
            self.assertEqual(one["parts"], two["parts"])
            for step in range(12):
                a = w.batch(one["run"], step, 0, 4)
                self.assertEqual(a["samples"], w.batch(two["run"], step, 0, 4)["samples"])


class Client(LengthsTest):
    """libmixclient over the boundaries, as programs use it: by mxc_next."""

    def pull(self, d, rank, world, begin, end):
        return subprocess.run([os.environ["PULL"], d.url, "r", str(rank), str(world), str(begin),
                               str(end)], capture_output=True, text=True, timeout=PATIENCE * 4,
                              check=False)

    def test_next_over_the_boundaries(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            whole = self.steps(w, w.attach("r"), 0, 40)
        for rank, world in ((0, 1), (1, 3), (3, 4)):
            r = self.pull(d, rank, world, 6, 40)
            self.assertEqual(r.returncode, 0, r.stderr)
            lines = r.stdout.splitlines()
            self.assertEqual(len(lines), 34)
            for step, line in enumerate(lines, 6):
                _, batch, seq_len = part_of(step)
                first, count = wire.slots(rank, world, batch)
                *numbers, tokens = line.split(" ")
                self.assertEqual([int(x) for x in numbers],
                                 [step, first, count, seq_len,
                                  *whole[step]["samples"][first:first + count]])
                self.assertEqual(bytes.fromhex(tokens),
                                 b"".join(whole[step]["tokens"][first:first + count]))
        r = self.pull(d, 0, 5, 6, 40)  # there are four slots in the last part
        self.assertEqual(r.returncode, 1)
        self.assertIn("gets none of the 4 slots of a batch from step 22 on", r.stderr)


if __name__ == "__main__":
    main()
