"""Why the mix changed: the journal, policy.show, the stats and a simulation over the same reports
say the same; and a forecast is what is then drawn."""
import json
import math

from served import ServedTest
from harness import main
import wire

STEPS = 24
NAMES = ["web", "code", "books"]


class Explained(ServedTest):
    def config(self, **kw):
        c = {"name": "r", "seed": 7, "batch_size": 16, "seq_len": 16, "shadow_steps": 4,
             "domains": {"web": {"weight": 0.5, "floor": 0.34}, "code": {"weight": 0.3},
                         "books": {"weight": 0.2, "ceiling": 0.6}},
             "policy": {"name": "odm", "alpha": 0.5, "loss_clip": 11},
             "shadows": [{"name": "exp3"}, {"name": "odm-paper", "label": "by-paper"}]}
        c.update(kw)
        return c

    def begin(self, config):
        for i, name in enumerate(NAMES):
            self.tokens(name, 16 * 400, 1000 * i)
        d = self.start()
        self.mixctl("run", "create", "r", "-f", self.write("run.json", json.dumps(config)),
                    daemon=d)
        return d

    def report(self, step):
        """A step's losses, as a line of a file and as the wire has them. One is no number, another
        is over the clip, and not all domains are seen."""
        seen = [n for n in NAMES if self.random.random() < 0.8] or NAMES[:1]
        train = {n: {"loss_sum": 64 * self.random.uniform(0.5, 4), "tokens": 64, "samples": 4}
                 for n in seen}
        losses = [(NAMES.index(n), 4, 64, train[n]["loss_sum"]) for n in seen]
        if step == 5:
            train[seen[0]]["loss_sum"] = None
            losses[0] = losses[0][:3] + (math.nan,)
        if step == 6:
            train[seen[0]]["loss_sum"] = 64 * 12.0
            losses[0] = losses[0][:3] + (64 * 12.0,)
        return {"step": step, "train": train}, wire.train(losses)

    def drive(self, d, steps=STEPS, report=None):
        """Steps and their reports; the lines that say the same."""
        lines, report = [], report or self.report
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            for step in range(steps):
                b = w.batch(run, step, 0, 1)
                line, sections = report(step)
                w.report(run, step, sections, version=b["mix_version"])
                lines.append(json.dumps(line) + "\n")
        return lines

    def simulate(self, lines):
        out = self.path("out.jsonl")
        self.mixctl("simulate", "-f", self.path("run.json"), "--feedback",
                    self.write("events.jsonl", "".join(lines)), "--out", out)
        with open(out, encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def control(self, d, op, **keys):
        with wire.Wire(d.url) as w:
            return self.ask(w, op, **keys)

    def near(self, got, want):
        """Weights or terms by domain: the journal's against the simulation's."""
        self.assertEqual(list(got), list(want))
        for n in want:
            if want[n] is None:
                self.assertIsNone(got[n])
            else:
                self.assertAlmostEqual(got[n], want[n], delta=1e-6 * max(1, abs(want[n])))

    def test_the_same_everywhere(self):
        d = self.begin(self.config())
        lines = self.drive(d)
        sim = self.simulate(lines)
        self.assertEqual([o["step"] for o in sim], list(range(STEPS)))
        self.until(lambda: self.control(d, "policy.show", run="r")["mix"].get("cause_step") ==
                   max(o["step"] for o in sim if o["explain"]["moved"]))
        with wire.Wire(d.url) as w:
            mixes = self.entries(w, "r", "mix")
            shadows = self.entries(w, "r", "shadow")
            feedback = self.entries(w, "r", "feedback")
        self.assertEqual(len(feedback), STEPS)

        # What the journal says of each mix is what a simulation says of the report that made it.
        self.assertGreater(len(mixes), STEPS // 2)
        before = self.control(d, "run.log", run="r", **{"from": 1, "limit": 1})["entries"][0][
            "shares"]
        for e in mixes:
            o = sim[e["cause_step"]]
            self.assertEqual(e["cause"], "feedback")
            self.assertEqual(e["shares"], o["mix"])  # to the last bit
            self.assertEqual(e["was"], before)
            self.assertEqual(e["bound"], o["explain"]["bound"])
            self.near(e["weights"], o["explain"]["weights"])
            self.assertEqual(list(e["terms"]), ["estimate", "exploration"])
            for t in e["terms"]:
                self.near(e["terms"][t], o["explain"]["terms"][t])
            self.assertEqual(e["kl_prior"], o["explain"]["kl_prior"])
            self.assertEqual(e["effective_domains"], o["explain"]["effective_domains"])
            self.assertEqual("moved_most" in e, e is not mixes[0])  # the first has none before it
            for n, t in e.get("moved_most", {}).items():
                self.assertIn(n, NAMES)
                self.assertIn(t, e["terms"])
            before = e["shares"]
        self.assertIn({"web": "floor"}, [e["bound"] for e in mixes])  # odm begins with 1/3 each

        self.assertGreaterEqual(len(shadows), STEPS // 4 - 1)
        for e in shadows:
            o = sim[e["step"]]["explain"]["shadows"]
            self.assertEqual([s["label"] for s in e["shadows"]], ["exp3", "by-paper"])
            for got, want in zip(e["shadows"], o):
                self.assertEqual(got["shares"], want["mix"])
                self.assertEqual(got["policy"], want["policy"])
                self.near(got["weights"], want["weights"])

        self.present(d, sim, mixes)
        self.left_out(d, sim)
        self.in_words(d, mixes)

    def present(self, d, sim, mixes):
        """policy.show, the stats and the metrics: as the journal and the simulation's last line."""
        p, last, e = self.control(d, "policy.show", run="r"), sim[-1], mixes[-1]
        for key in ("shares", "was", "weights", "terms", "bound", "kl_prior", "cause_step",
                    "effective_domains", "moved_most"):
            self.assertEqual(p["mix"][key], e[key], key)
        self.assertEqual((p["mix"]["version"], p["mix"]["from_step"], p["mix"]["entry"]),
                         (e["mix_version"], e["step"], e["index"]))
        self.assertEqual(p["now"]["weights"], last["explain"]["weights"])
        self.assertEqual(p["now"]["raw"], last["policy"])
        self.assertEqual(p["now"]["terms"], last["explain"]["terms"])
        self.assertEqual(p["counts"], last["explain"]["counts"])
        self.assertEqual(p["counts"]["clipped"], 1)
        self.assertEqual(p["guards"]["loss_clip"], 11)
        self.assertEqual(p["guards"]["absent"], "skip")
        self.assertEqual((p["evaluate_after"], p["working"], p["apply"]), ([], False, "sampler"))
        self.assertEqual([(s["label"], s["policy"]) for s in p["shadows"]],
                         [("exp3", "exp3"), ("by-paper", "odm-paper")])
        for got, want in zip(p["shadows"], last["explain"]["shadows"]):
            self.assertEqual((got["shares"], got["weights"]), (want["mix"], want["weights"]))

        detail = d.stats("r")["policy_detail"]
        self.assertEqual(detail, {k: v for k, v in p.items() if k not in ("run", "frontier")})
        metrics = dict(line.rsplit(" ", 1) for line in d.get("/metrics").splitlines()
                       if line.startswith("mixd_run_"))
        now = self.control(d, "mix.show", run="r")["domains"]
        entropy = -sum(m["share"] * math.log(m["share"]) for m in now)
        kl = sum(m["share"] * math.log(m["share"] / w)
                 for m, w in zip(now, (0.5, 0.3, 0.2)))
        self.assertAlmostEqual(float(metrics['mixd_run_effective_domains{run="r"}']),
                               math.exp(entropy), places=6)
        self.assertAlmostEqual(float(metrics['mixd_run_prior_divergence_nats{run="r"}']), kl,
                               places=6)
        self.assertEqual(int(metrics['mixd_run_policy_updates_total{run="r"}']),
                         p["counts"]["updates"])
        self.assertEqual(int(metrics['mixd_run_policy_clipped_total{run="r"}']), 1)
        name = 'mixd_run_feedback_quarantined_reports_total{run="r",part="%s"}'
        self.assertEqual([int(metrics[name % x]) for x in ("train", "eval", "reward")], [1, 0, 0])

        # All but what was counted since the start is the same after one.
        self.assertEqual(d.stop(), 0)
        again = self.control(self.start(), "policy.show", run="r")
        p["quarantined_reports"]["train"] = 0
        del p["frontier"], again["frontier"]  # it moves on to the end of what was reserved
        p["now"].pop("version"), again["now"].pop("version")
        for key in ("kl_prior", "effective_domains", "was"):  # of the mix in force there
            p["now"].pop(key), again["now"].pop(key)
        self.assertEqual(again["mix"], p["mix"])
        self.assertEqual(again, p)

    def left_out(self, d, sim):
        """What isn't sane is named."""
        bad = [(o["step"], o["explain"]["quarantined"]) for o in sim if o["explain"]["quarantined"]]
        self.assertEqual([s for s, _ in bad], [5])
        self.assertEqual(bad[0][1][0]["part"], "train")
        self.assertIn(bad[0][1][0]["domain"], NAMES)
        self.assertIsNone(bad[0][1][0]["value"])

    def in_words(self, _, mixes):
        """mixctl policy and log have the numbers in them."""
        d = self.daemons[-1]
        text = self.mixctl("policy", "r", daemon=d).stdout
        e = mixes[-1]
        self.assertIn(f"mix version {e['mix_version']}, from step {e['step']}", text)
        self.assertIn("EXPLORATION", text)
        self.assertIn("BY-PAPER", text.upper())
        for n in NAMES:
            row = next(line.split() for line in text.splitlines() if line.split()[:1] == [n])
            self.assertEqual(row[1:4], [f"{e['was'][n]:.4f}", f"{e['shares'][n]:.4f}",
                                        f"{e['weights'][n]:.4f}"])
        self.assertEqual(self.json("policy", "r", daemon=d)["mix"]["shares"], e["shares"])
        log = self.mixctl("log", "r", "--kind", "mix", "--kind", "shadow", daemon=d).stdout
        self.assertIn("most moved", log)
        self.assertIn("web at its floor", log)
        self.assertIn("by-paper would: web ", log)

    def excess(self, step):
        """Rewards of all domains, and an evaluation of one."""
        r = {n: self.random.uniform(0, 2) for n in NAMES}
        return ({"step": step, "reward": {n: {"sum": 8 * v, "count": 8} for n, v in r.items()},
                 "eval": {"held": {"web": {"loss_sum": 6.0, "tokens": 3}}}},
                wire.evals(0, [(1, 0, 3, 6.0)]) +
                wire.rewards([(i, 8, 8 * r[n]) for i, n in enumerate(NAMES)]))

    def test_weights_of_the_loss(self):
        """A policy whose weights go with the batch: the mix stays, and these are explained."""
        d = self.begin(self.config(
            policy={"name": "doremi", "excess": "reward", "apply": "loss"}, shadows=[],
            eval_sets={"held": ["code", "web"]}))
        sim = self.simulate(self.drive(d, 8, self.excess))
        self.until(lambda: self.control(d, "policy.show", run="r")["mix"].get("cause_step") == 7)
        with wire.Wire(d.url) as w:
            mixes = self.entries(w, "r", "mix")
            reports = self.entries(w, "r", "feedback")
        before = None
        for e in mixes:
            o = sim[e["cause_step"]]
            self.assertEqual(e["shares"], o["mix"])
            self.assertEqual(e["shares"], sim[0]["mix"])
            self.assertEqual(e["loss_weights"], o["explain"]["loss_weights"])
            self.assertAlmostEqual(sum(e["loss_weights"].values()), 1)
            self.near(e["loss_weights"], e["weights"])
            self.assertEqual((e["kl_prior"], e["effective_domains"]),
                             (o["explain"]["kl_prior"], o["explain"]["effective_domains"]))
            if before:
                self.assertEqual(e["loss_was"], before)
            before = e["loss_weights"]
        self.assertEqual(self.control(d, "policy.show", run="r")["apply"], "loss")
        self.assertEqual(len(reports), 8)
        for e in reports:
            self.assertEqual((e["eval_count"], e["reward_count"], e["losses"]), (1, 3, []))
            self.assertEqual(e["evals"], [{"set": "held", "member": "web", "tokens": 3,
                                           "loss_sum": 6}])
            self.assertEqual([r["domain"] for r in e["rewards"]], NAMES)
        metrics = dict(line.rsplit(" ", 1) for line in d.get("/metrics").splitlines()
                       if line.startswith("mixd_run_"))
        self.assertGreater(float(metrics['mixd_run_prior_divergence_nats{run="r"}']), 0)

    def falling(self, step):
        """Losses of all domains that fall as scaling laws do, each with tokens of its own."""
        losses = [(i, 4, 64, 64 * (1 + (2 + i) * (16 * (step + 1)) ** -(0.3 + 0.1 * i)))
                  for i in range(len(NAMES))]
        return ({"step": step, "train": {NAMES[i]: {"loss_sum": x, "tokens": n, "samples": s}
                                         for i, s, n, x in losses}}, wire.train(losses))

    def test_fits(self):
        """A policy with a long computation: its results are entries, and in lockstep a simulation
        makes the same mixes of them."""
        policy = {"name": "ado", "start_step": 6, "ignore_steps": 0, "update_interval": 6,
                  "stride": 1, "window": 5}
        d = self.begin(self.config(policy=policy, shadows=[dict(policy, label="again")],
                                   feedback={"mode": "lockstep"}))
        sim = self.simulate(self.drive(d, 30, self.falling))
        with wire.Wire(d.url) as w:
            self.until(lambda: len(self.entries(w, "r", "fit")) >= 8)
            fits, mixes = self.entries(w, "r", "fit"), self.entries(w, "r", "mix")
        self.assertEqual({(e["policy"], e["label"]) for e in fits}, {("ado", ""), ("ado", "again")})
        self.assertTrue(all(e["values"] > 0 for e in fits))
        for e in mixes:
            self.assertEqual(e["shares"], sim[e["cause_step"]]["mix"])
        self.assertGreater(len({tuple(e["shares"].values()) for e in mixes}), 3)
        self.assertIn("policy ado has fitted", self.mixctl("log", "r", "--kind", "fit",
                                                           daemon=d).stdout)

    def test_evaluations_wanted(self):
        """A policy that prescribes evaluations: they are listed."""
        d = self.begin(self.config(policy={"name": "aioli"}, shadows=[]))
        p = self.control(d, "policy.show", run="r")
        self.assertTrue(p["evaluate_after"])
        text = self.mixctl("policy", "r", daemon=d).stdout
        self.assertIn("to be evaluated after steps: %d" % p["evaluate_after"][0], text)

    PHASES = [{"from": 0, "name": "first", "kind": "warmup"},
              {"at": 0.25, "name": "learning", "kind": "adapt",
               "limits": {"code": {"ceiling": 0.2}}},
              {"at": 0.75, "name": "last", "kind": "anneal", "batch_size": 8, "seq_len": 32,
               "mix": {"web": 0.2, "code": 0.2, "books": 0.6}}]

    def test_phases(self):
        """Mixes by the schedule as well as by feedback, in a daemon and in a simulation. In lockstep
        all versions are the same, whatever the timing."""
        steps = 40
        d = self.begin(self.config(phases=self.PHASES, end={"steps": steps}, shadows=[],
                                   feedback={"mode": "lockstep"}))
        sim = self.simulate(self.drive(d, steps))
        with wire.Wire(d.url) as w:
            mixes = {e["mix_version"]: e for e in self.entries(w, "r", "mix")}
        seen = set()
        for o in sim:
            x = o["explain"]
            if x["version"] > 1:
                e = mixes[x["version"]]
                self.assertEqual((e["step"], e["cause"], e["phase"], e["phase_name"]),
                                 (x["from_step"], x["cause"], x["phase"], x["phase_name"]))
                self.assertEqual(e["shares"], o["mix"])
                self.assertEqual(e["bound"], x["bound"])
                seen.add((e["cause"], e["phase_name"]))
        self.assertEqual(seen - {("phase", "learning")}, {("feedback", "learning"),
                                                          ("phase", "last")})
        self.assertIn(("phase", "learning"), [(e["cause"], e["phase_name"])
                                              for e in mixes.values()])
        self.assertIn({"code": "ceiling"}, [e["bound"] for e in mixes.values()])
        p = self.control(d, "policy.show", run="r")
        self.assertEqual((p["mix"]["cause"], p["mix"]["phase_name"]), ("phase", "last"))

    def test_forecast_of_phases(self):
        steps = 40
        config = self.config(policy={"name": "static"}, phases=self.PHASES, shadows=[],
                             end={"steps": steps})
        d = self.begin(config)
        f = self.control(d, "plan", config=json.dumps(config), steps=1000)
        self.assertEqual((f["planned"], f["ends"]["why"]), (steps, "end"))
        tokens = {n: 0 for n in NAMES}
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            for step in range(steps):
                w.batch(run, step, 0, 1)
                for x in self.ask(w, "step.show", run="r", step=step, slot_first=0,
                                  slot_count=1)["shares"]:
                    tokens[x["domain"]] += x["count"] * (32 if step >= 30 else 16)
            mixes = self.entries(w, "r", "mix")
        self.assertEqual({x["name"]: x["tokens"] for x in f["domains"]}, tokens)
        self.assertEqual(f["tokens"], sum(tokens.values()))
        self.assertEqual(f["mixes"], len(mixes))
        self.assertEqual({x["name"]: x["share_last"] for x in f["domains"]}, mixes[-1]["shares"])

    def test_pages_agree(self):
        """However the log is cut into pages, each mix says what was before it."""
        d = self.begin(self.config(shadows=[]))
        self.drive(d)
        with wire.Wire(d.url) as w:
            whole = self.entries(w, "r")
            for limit in (1, 3, 7):
                at, got = 1, []
                while at is not None:
                    page = self.ask(w, "run.log", run="r", limit=limit, **{"from": at})
                    got += page["entries"]
                    at = page["next"]
                self.assertEqual(got[:len(whole)], whole)
        self.assertTrue(all(e["was"] for e in whole if e["kind"] == "mix"))

    def test_operators_and_rewinds(self):
        d = self.begin(self.config(shadows=[], lead=1))
        self.drive(d, 12)
        with wire.Wire(d.url) as w:
            self.ask(w, "mix.set", run="r", weights={"web": 0.6, "code": 0.1, "books": 0.3},
                     author="ada", why="books are behind")
            p = self.ask(w, "policy.show", run="r")
            self.assertEqual((p["mix"]["cause"], p["mix"]["author"], p["mix"]["why"]),
                             ("operator", "ada", "books are behind"))
            self.assertAlmostEqual(p["mix"]["shares"]["web"], 0.6)
            self.assertNotIn("terms", p["mix"])
            self.assertIsNotNone(p["mix"]["was"])
            version = self.ask(w, "run.rewind", run="r", to=6, author="ada",
                               why="again")["mix_version"]
            mix = self.ask(w, "policy.show", run="r")["mix"]
            if mix["version"] == version:  # what the policy knows may have made another by now
                self.assertEqual((mix["cause"], mix["from_step"]), ("rewind", 6))
            self.assertGreaterEqual(mix["version"], version)
            mixes = self.entries(w, "r", "mix")
        # What was made for a branch that was left is still told, but not what was before it.
        self.assertEqual(["was" not in e for e in mixes],
                         [e["step"] >= 6 and e["mix_version"] < version for e in mixes])

    # ---- forecasts ----

    def test_forecast(self):
        config = self.config(policy={"name": "static"}, shadows=[])
        config["domains"]["code"]["max_epochs"] = 1.5
        d = self.begin(config)
        steps = 160
        text = json.dumps(config)
        f = self.control(d, "plan", config=text, steps=steps)
        self.assertEqual((f["run"], f["steps"], f["planned"], f["ends"]), ("r", steps, steps, None))
        self.assertEqual((f["policy"], f["adapts"], f["domain_count"]), ("static", False, 3))
        self.assertEqual(f["tokens"], steps * 16 * 16)
        got = {x["name"]: x for x in f["domains"]}
        self.assertEqual(got["code"]["max_epochs"], 1.5)
        self.assertIsNone(got["web"]["max_epochs"])

        drawn, once, out = {n: 0 for n in NAMES}, {}, None
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            for step in range(steps):
                w.batch(run, step, 0, 1)
                shown = self.ask(w, "step.show", run="r", step=step, slot_first=0, slot_count=1)
                for x in shown["shares"]:
                    drawn[x["domain"]] += x["count"]
                    if drawn[x["domain"]] >= 400:
                        once.setdefault(x["domain"], step)
            self.until(lambda: self.entries(w, "r", "exhausted"))
            out = self.entries(w, "r", "exhausted")[0]["step"]
        self.assertEqual({n: got[n]["drawn"] for n in NAMES}, drawn)
        self.assertEqual({n: got[n]["seen_once_step"] for n in NAMES},
                         {n: once.get(n) for n in NAMES})
        self.assertEqual([got[n]["runs_out_step"] for n in NAMES], [None, out, None])
        for n in NAMES:
            self.assertAlmostEqual(got[n]["epochs"], drawn[n] / 400)
            self.assertEqual(got[n]["tokens"], drawn[n] * 16)
            self.assertEqual((got[n]["storage"], got[n]["read_bytes"]), ("raw", drawn[n] * 32))
        self.assertEqual(self.control(d, "run.ls")["runs"][0]["name"], "r")
        self.assertEqual(len(self.control(d, "run.ls")["runs"]), 1)  # nothing was made
        shown = self.mixctl("plan", "-f", self.path("run.json"), "--steps", steps, daemon=d).stdout
        self.assertIn(f"{steps} steps of run r: 40,960 tokens", shown)
        self.assertEqual(self.json("plan", "-f", self.path("run.json"), "--steps", steps,
                                   daemon=d), f)

    def test_forecast_of_compressed(self):
        for i, name in enumerate(NAMES):
            self.tokens(name, 16 * 400, 1000 * i, codec="zstd")
        d = self.start()
        f = self.control(d, "plan", config=json.dumps(self.config()), steps=100)
        self.assertTrue(f["adapts"])
        for x in f["domains"]:
            stored = self.control(d, "domain.show", name=x["name"])["bytes"]
            self.assertEqual(x["storage"], "compressed")
            self.assertAlmostEqual(x["read_bytes"], x["epochs"] * stored, delta=1)

    def test_forecast_ends(self):
        config = self.config(shadows=[])
        config["domains"]["code"].update(max_epochs=1, on_exhausted="stop")
        d = self.begin(config)
        f = self.control(d, "plan", config=json.dumps(config), steps=1000)
        self.assertEqual((f["ends"]["why"], f["ends"]["domain"]), ("exhausted", "code"))
        self.assertEqual(f["ends"]["step"], f["planned"])
        self.assertLess(f["planned"], 1000)
        config["domains"]["code"].update(on_exhausted="repeat")
        config["end"] = {"steps": 30}
        f = self.control(d, "plan", config=json.dumps(config), steps=1000)
        self.assertEqual((f["ends"], f["planned"]),
                         ({"step": 30, "why": "end", "domain": None}, 30))

    def test_forecast_refused(self):
        d = self.begin(self.config())
        for change, says in (
                ({"domains": {"web": {}, "nosuch": {}}}, 'no domain "nosuch" in the store'),
                ({"seq_len": 1000000}, "don't hold one sample of seq_len 1000000"),
                ({"policy": {"name": "nosuch"}}, 'no policy "nosuch"'),
                ({"flor": 1}, "key 'flor'")):
            config = json.dumps(self.config(**change))
            with wire.Wire(d.url) as w:
                plan = self.refused(w, "plan", says, config=config, steps=10)
                made = self.refused(w, "run.create", says, config=config, name="r")
                self.assertEqual(plan.text, made.text)
        with wire.Wire(d.url) as w:
            self.refused(w, "plan", "take too long to plan", config=json.dumps(self.config()),
                         steps=1 << 40)
            self.refused(w, "plan", "steps", config=json.dumps(self.config()))
            self.refused(w, "policy.show", "nosuch", run="nosuch")


if __name__ == "__main__":
    main()
