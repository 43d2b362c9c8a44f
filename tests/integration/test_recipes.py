"""The recipes of docs/recipes, each run from its first step to its last on small domains of the names
that it has: which mix, which length and how many samples each phase really gives.

Only what makes a run large is made smaller: its steps, and all batches and lengths by one factor.
"""
import json
import math
import os
import time

from harness import DaemonTest, PATIENCE, main
import wire

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "recipes")
ONE = 2 ** 32


class Recipes(DaemonTest):
    def recipe(self, name, steps, batches, lengths):
        """The file with `steps` steps, batch sizes divided by `batches` and lengths by `lengths`."""
        with open(os.path.join(FOLDER, name), encoding="utf-8") as f:
            c = json.load(f)
        for x in [c] + c.get("phases", []):
            for key, by in (("batch_size", batches), ("seq_len", lengths)):
                if key in x:
                    self.assertEqual(x[key] % by, 0)
                    x[key] //= by
        c["end"]["steps"] = steps
        return c

    def make(self, c, samples=400, **sizes):
        longest = max(x.get("seq_len", 0) for x in [c] + c.get("phases", []))
        for domain in c["domains"]:
            self.tokens(domain, sizes.get(domain, samples * longest))
        d = self.start()
        self.mixctl("run", "create", "r", "-f", self.write("r.json", json.dumps(c, indent=1)),
                    daemon=d)
        return d

    def ask(self, w, info, step, batch):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return w.batch(info["run"], step, 0, batch)
            except wire.Trouble as e:
                if e.status not in (wire.WAIT, wire.BUSY) or time.monotonic() > deadline:
                    raise
                time.sleep(e.wait_ms / 1000)

    def serve(self, d, c, losses=None, kill_at=None):
        """All steps; posts losses(step, domain) of each. kill_at: the daemon is killed before it."""
        got = []
        w = wire.Wire(d.url)
        try:
            info = w.attach("r")
            for step in range(c["end"]["steps"]):
                if step == kill_at:
                    w.close()
                    d.kill()
                    d = self.start()
                    w = wire.Wire(d.url)
                    info = w.attach("r")
                b = self.ask(w, info, step, self.phase_at(c, step)["batch_size"])
                got.append(b)
                if losses is not None:
                    w.feedback(info["run"], step,
                               [(k, 1, 100, 100 * losses(step, name))
                                for k, name in enumerate(info["names"])],
                               version=b["mix_version"])
        finally:
            w.close()
        return d, info, got

    # ---- what the file says ----

    def phase_at(self, c, step):
        """The phase of a step, with the run's own keys where it has none; `begin` and `end`."""
        end = c["end"]["steps"]
        own = {"batch_size": c["batch_size"], "seq_len": c["seq_len"], "kind": "adapt"}
        phases = [dict(own, **p) for p in c.get("phases", [])]
        for p in phases:
            p["begin"] = p.get("from", 0) if "at" not in p else round(p["at"] * end)
        if not phases or phases[0]["begin"] > 0:
            phases.insert(0, dict(own, begin=0))
        for p, after in zip(phases, phases[1:] + [{"begin": end}]):
            p["end"] = after["begin"]
        return [p for p in phases if p["begin"] <= step][-1]

    def given(self, c, step):
        """The shares of a phase that gives them; None where they follow from something else."""
        p = self.phase_at(c, step)
        if "limits" in p:
            return None
        if p["kind"] == "warmup" or (p["kind"] == "adapt" and c["policy"]["name"] == "static"):
            shares = {n: x["weight"] for n, x in c["domains"].items()}
        elif p["kind"] == "mix" or (p["kind"] == "anneal" and step == p["end"] - 1):
            shares = {n: p["mix"].get(n, 0) for n in c["domains"]}
        else:
            return None
        total = sum(shares.values())
        return {n: x / total for n, x in shares.items()}

    # ---- what comes out ----

    def journal(self, d):
        """The shares of each mix version, and its entry."""
        with wire.Wire(d.url) as w:
            found, at = {}, None
            while True:
                body = json.dumps(dict({"op": "run.log", "run": "r"},
                                       **({} if at is None else {"from": at})))
                page = json.loads(w.get(wire.CONTROL, body.encode()))
                for e in page["entries"]:
                    if e["kind"] in ("create", "mix", "set"):
                        found[e.get("mix_version", 1)] = e
                at = page["next"]
                if at is None:
                    return found

    def counts(self, info, b):
        return {n: b["domains"].count(k) for k, n in enumerate(info["names"])}

    def check(self, d, c, info, got, exact=True):
        """Each step has its phase's batch and length, was planned under a mix of its phase, and has
        of each domain what that mix says, to less than a sample."""
        mixes = self.journal(d)
        for step, b in enumerate(got):
            p, e = self.phase_at(c, step), mixes[b["mix_version"]]
            self.assertEqual((b["batch_size"], b["seq_len"], b["slot_count"]),
                             (p["batch_size"], p["seq_len"], p["batch_size"]), f"step {step}")
            self.assertGreaterEqual(e.get("step", 0), p["begin"], f"step {step}")
            shares, given = e["shares"], self.given(c, step)
            if given is not None:
                for n, x in given.items():
                    self.assertAlmostEqual(shares[n], x, 6, f"step {step}: {n}")
            if exact:
                for n, x in self.counts(info, b).items():
                    self.assertLess(abs(x - shares[n] * p["batch_size"]), 1.001,
                                    f"step {step}: {n}")
        return mixes

    def phases_of(self, mixes):
        """[(name of a phase, step)] of the mixes that the schedule made."""
        return [(e["phase_name"], e["step"]) for _, e in sorted(mixes.items())
                if e.get("cause") == "phase"]

    # ---- one by one ----

    def test_all_are_tested(self):
        tested = {m[len("test_recipe_"):].replace("_", "-") + ".json" for m in dir(self)
                  if m.startswith("test_recipe_")}
        files = {f for f in os.listdir(FOLDER) if f.endswith(".json")}
        self.assertEqual(files, tested)
        with open(os.path.join(FOLDER, "README.md"), encoding="utf-8") as f:
            text = f.read()
        for name in files:
            self.assertIn(f"\n| `{name}` |", text)
            self.assertIn(f"\n## {name}\n", text)

    def test_recipe_domain_upsampling(self):
        c = self.recipe("domain-upsampling.json", 100, 16, 64)
        d = self.make(c)
        d, info, got = self.serve(d, c, kill_at=79)
        mixes = self.check(d, c, info, got)
        self.assertEqual(self.phases_of(mixes), [("upsampling", 80)])
        drawn = [sum(self.counts(info, b)["math"] for b in x) for x in (got[:80], got[80:])]
        self.assertLess(abs(drawn[0] - 80 * 64 * 0.02), 80)
        self.assertLess(abs(drawn[1] - 20 * 64 * 0.10), 20)
        s = d.stats("r")
        self.assertEqual(s["phase"], {"number": 1, "name": "upsampling", "kind": "mix",
                                      "from_step": 80, "next_step": None})

    def test_recipe_two_blends(self):
        c = self.recipe("two-blends.json", 100, 16, 64)
        d, info, got = self.serve(self.make(c), c)
        mixes = self.check(d, c, info, got)
        self.assertEqual(self.phases_of(mixes), [("qa-blend", 71)])
        qa = [self.counts(info, b)["qa"] for b in got]
        self.assertEqual(sum(qa[:71]), 0)
        self.assertTrue(all(9 <= n <= 10 for n in qa[71:]), qa)
        # The point of the cosine at which the learning rate is a fifth of its maximum.
        x = next(p["at"] for p in c["phases"] if p["name"] == "qa-blend")
        self.assertAlmostEqual(0.01 + 0.99 * (1 + math.cos(math.pi * x)) / 2, 0.2, 3)

    def test_recipe_growing_context(self):
        c = self.recipe("growing-context.json", 100, 16, 64)
        d, info, got = self.serve(self.make(c), c, kill_at=40)
        mixes = self.check(d, c, info, got)
        self.assertEqual(self.phases_of(mixes),
                         [("stage-2", 40), ("stage-2-long", 70), ("stage-3", 98)])
        self.assertEqual([got[i]["seq_len"] for i in (39, 40, 69, 70, 99)], [32, 64, 64, 128, 128])
        self.assertEqual({b["slot_count"] * b["seq_len"] for b in got}, {2048})

    def test_recipe_annealed_long_context(self):
        c = self.recipe("annealed-long-context.json", 200, 16, 256)
        d, info, got = self.serve(self.make(c), c)
        mixes = self.check(d, c, info, got)
        steps = [s for n, s in self.phases_of(mixes) if n == "annealing-4k"]
        self.assertEqual(steps, list(range(185, 193)))
        self.assertEqual(self.phases_of(mixes)[-1], ("annealing-28k", 193))
        self.assertEqual((got[192]["seq_len"], got[193]["seq_len"]), (16, 112))
        self.assertEqual({b["slot_count"] * b["seq_len"] for b in got}, {1008})
        web = [mixes[b["mix_version"]]["shares"]["web"] for b in got[184:193]]
        for i, x in enumerate(web):  # in a straight line
            self.assertAlmostEqual(x, 0.55 + (0.30 - 0.55) * i / 8, 6)

    def test_recipe_replay(self):
        c = self.recipe("replay.json", 200, 16, 64)
        d, info, got = self.serve(self.make(c), c,
                                  lambda step, n: 3.0 if n == "new-code" else 2.0, kill_at=120)
        mixes = self.check(d, c, info, got)
        learned = mixes[got[179]["mix_version"]]["shares"]
        for step, b in enumerate(got):
            shares = mixes[b["mix_version"]]["shares"]
            self.assertAlmostEqual(shares["old"], 0.25 if step < 4 else 0.05, 6, f"step {step}")
            if step >= 180:  # frozen, on its way
                self.assertEqual(mixes[b["mix_version"]]["cause"], "phase")
                self.assertLessEqual(min(learned["new-web"], 0.45) - 1e-6, shares["new-web"])
                self.assertLessEqual(shares["new-web"], max(learned["new-web"], 0.45) + 1e-6)
        self.assertGreater(learned["new-code"], learned["new-news"])
        self.assertIn("feedback", [e.get("cause") for e in mixes.values()])

    def test_recipe_unimax(self):
        c = self.recipe("unimax.json", 200, 4, 64)
        sizes = {"en": 16000, "de": 6000, "zh": 2900, "sw": 600, "yo": 240}  # samples
        d = self.make(c, **{n: x * c["seq_len"] for n, x in sizes.items()})
        d, info, got = self.serve(d, c)
        drawn = {n: sum(self.counts(info, b)[n] for b in got) for n in sizes}
        budget, left, level = 200 * 256, len(sizes), {}
        for n, x in sorted(sizes.items(), key=lambda i: i[1]):  # water filling, as in the paper
            level[n] = min(5 * x, budget / left)
            budget, left = budget - level[n], left - 1
        for n, x in level.items():
            if x == 5 * sizes[n]:
                self.assertEqual(drawn[n], x, n)
            else:  # slots that are taken over are whole ones: up to one a step
                self.assertLess(abs(drawn[n] - x), 200, n)
        self.assertEqual([n for n in drawn if drawn[n] == 5 * sizes[n]], ["zh", "sw", "yo"])

    def test_recipe_manual_schedule(self):
        c = self.recipe("manual-schedule.json", 120, 8, 64)
        d, info, got = self.serve(self.make(c), c, kill_at=73)
        mixes = self.check(d, c, info, got)
        self.assertEqual(self.phases_of(mixes), [("broader", 30), ("harder", 72)] +
                         [("last", s) for s in range(108, 120)])

    def test_recipe_warmup_adapt_anneal(self):
        c = self.recipe("warmup-adapt-anneal.json", 200, 16, 64)
        d, info, got = self.serve(self.make(c, math=1000 * c["seq_len"]), c,
                                  lambda step, n: {"math": 6.0}.get(n, 2.0))
        mixes = self.journal(d)
        for step, b in enumerate(got):
            e = mixes[b["mix_version"]]
            if step < 10:
                self.assertEqual(b["mix_version"], 1)
            elif step < 180:
                self.assertGreaterEqual(e["shares"]["web"], 0.20 - 1e-6)
                self.assertLessEqual(e["shares"]["math"], 0.30 + 1e-6)
            else:
                self.assertEqual(e["cause"], "phase")
        self.check(d, c, info, got)
        self.assertAlmostEqual(mixes[got[170]["mix_version"]]["shares"]["math"], 0.30, 6)
        self.assertIn("feedback", [e.get("cause") for e in mixes.values()])


if __name__ == "__main__":
    main()
