"""mixctl simulate: what policies make of recorded feedback, held against the golden traces; and
what it says of reports that can't be read or are refused. No daemon runs."""
import glob
import json
import math
import os
import subprocess
import tempfile
import unittest

MIXCTL = os.environ["MIXCTL"]
TRACES = os.environ["MIXD_TRACES"]
PATIENCE = float(os.environ.get("MIXD_TEST_PATIENCE", "30"))
ODM = {"odm/smoothed_mean.group_update": "odm", "odm/smoothed_mean.update": "odm-single",
       "odm/exp3.group_update": "exp3", "odm/ema.update": "ema",
       "odm/naive_validation.update": "naive-validation", "odm PAPER formula": "odm-paper"}


def number(v):
    """As a trace has it; those that JSON lacks are strings."""
    return float(v.replace("Infinity", "inf")) if isinstance(v, str) else float(v)


def line_of(v):
    """As a report has it: null if it is no number."""
    return v if math.isfinite(v) else None


class Simulated(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="mixd-test-")

    def tearDown(self):
        self.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        return self.path(name)

    def ctl(self, *args, code=0, stdin=None):
        r = subprocess.run([MIXCTL, *args], capture_output=True, text=True, check=False,
                           input=stdin, timeout=PATIENCE * 4)
        self.assertEqual(r.returncode, code, f"{args}: {r.stdout[-2000:]}{r.stderr}")
        return r

    def config(self, weights, policy, **kw):
        c = {"name": "r", "batch_size": 1024, "seq_len": 1024, "policy": policy,
             "domains": {f"d{i}": {"weight": w} for i, w in enumerate(weights)}}
        c.update(kw)
        return c

    def simulate(self, config, events, *more, code=0):
        """The lines that come out, and stderr."""
        out = self.path("out.jsonl")
        r = self.ctl("simulate", "-f", self.write("run.json", json.dumps(config)), "--feedback",
                     self.write("events.jsonl", "".join(
                         (e if isinstance(e, str) else json.dumps(e)) + "\n" for e in events)),
                     "--out", out, *more, code=code)
        with open(out, encoding="utf-8") as f:
            return [json.loads(line) for line in f], r.stderr

    # ---- traces ----

    def traces(self, start):
        """The files' contents whose algorithm begins so."""
        found = []
        for path in sorted(glob.glob(os.path.join(TRACES, "*.json"))):
            with open(path, encoding="utf-8") as f:
                t = json.load(f)
            if t["algorithm"].startswith(start):
                found.append((os.path.basename(path), t))
        return found

    def same(self, name, got, want, tolerance=1e-12):
        self.assertEqual(len(got), len(want), name)
        for i, w in enumerate(want):
            self.assertAlmostEqual(got[f"d{i}"], number(w), delta=tolerance * abs(number(w)),
                                   msg=f"{name}: weight {i}")

    def sound(self, name, mix):
        self.assertTrue(all(0 <= v <= 1 for v in mix.values()), name)
        self.assertAlmostEqual(sum(mix.values()), 1, places=9, msg=name)

    def replay_odm(self, name, t, policy):
        p = t["params"]
        weights = [number(w) for w in p["initial_weights"]]
        conf = {"name": policy, "loss_clip": 0}
        for key, ours in (("smoothing_factor", "alpha"), ("alpha", "alpha"),
                          ("warmup_steps", "warmup_steps"), ("reward_scale", "reward_scale"),
                          ("update_frequency", "update_frequency"),
                          ("min_exploration_rate", "min_exploration_rate"),
                          ("exponent_clip", "exponent_clip")):
            if isinstance(p.get(key), (int, float)) and not (
                    ours == "alpha" and policy in ("exp3", "ema", "naive-validation")):
                conf[ours] = p[key]
        events, kept = [], []
        for s in t["steps"]:
            i = s["input"]
            if "domain" in i:
                losses = {i["domain"]: i["loss"]}
            elif "losses" in i:
                losses = {int(k): v for k, v in i["losses"].items()}
            else:
                losses = dict(enumerate(i["val_losses"]))
            if not losses:  # no report; the reference moves on all the same
                kept.append(None)
                continue
            step = i["iteration"] if "iteration" in i else i["step"]
            events.append({"step": step - 1, "train": {
                f"d{k}": {"loss_sum": line_of(number(v)), "tokens": 1}
                for k, v in sorted(losses.items())}})
            kept.append(s)
        out, _ = self.simulate(self.known(conf, weights, feedback={"loss_max": 709}), events)
        self.assertEqual([o["step"] for o in out], [e["step"] for e in events])
        parted, before, lines = False, None, iter(out)
        for s in kept:
            if s is None:
                parted = True
                continue
            o = next(lines)
            bad = o["explain"]["quarantined"]
            parted |= bool(bad) and "error" not in s
            self.sound(name, o["mix"])
            if before is not None and len(bad) == len(s["input"].get("losses", bad)) and bad:
                self.assertEqual(o["policy"], before, name)  # nothing was left of it
            if not parted and s["weights"]:
                self.same(name, o["policy"], s["weights"])
            before = o["policy"]

    def known(self, policy, weights, **kw):
        """Without parameters that a trace tells and the policy doesn't take."""
        for _ in range(len(policy)):
            config = self.config(weights, policy, **kw)
            r = subprocess.run([MIXCTL, "simulate", "-f",
                                self.write("run.json", json.dumps(config)), "--feedback",
                                os.devnull, "--out", "-"], capture_output=True, text=True,
                               check=False, timeout=PATIENCE)
            wrong = [k for k in policy if f"key 'policy.{k}': unknown" in r.stderr]
            if not wrong:
                break
            del policy[wrong[0]]
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        return config

    def test_odm(self):
        n = 0
        for start, policy in ODM.items():
            for name, t in self.traces(start):
                with self.subTest(name):
                    self.replay_odm(name, t, policy)
                    n += 1
        self.assertGreaterEqual(n, 9)

    def test_skillit(self):
        for file in ("skillit_01_identity_K5", "skillit_03_dense_K7", "skillit_04_rect_6x3",
                     "skillit_06_target_mask_K3", "skillit_08_opt_window1"):
            with self.subTest(file), open(os.path.join(TRACES, file + ".json"),
                                          encoding="utf-8") as f:
                self.replay_skillit(file, json.load(f))

    def replay_skillit(self, name, t):
        p = t["params"]
        graph = p["graph_given"]
        if graph and not isinstance(graph[0], list):
            k = math.isqrt(len(graph))
            graph = [graph[i * k:(i + 1) * k] for i in range(k)]
        k, m = (len(graph), len(graph[0])) if graph else (p["k"], p["k"])
        policy = {"name": "skillit", "eta": p["eta"], "window": p["mw_window"],
                  "update_steps": p["update_steps"], "eval_set": "held", "loss_clip": 0}
        if graph:
            policy["graph"] = graph
        if p.get("target_mask"):
            policy["targets"] = [f"m{j}" for j, v in enumerate(p["target_mask"]) if v in (1, "1")]
        events, expected = [], {}
        for r, s in enumerate(t["steps"]):
            evals = s["input"]["evals"]
            for e in evals:
                last = e is evals[-1]
                samples = e.get("sample_losses")
                events.append({"step": (r * p["update_steps"] if last else e["counter"] + 1) - 1,
                               "eval": {"held": {f"m{j}": {
                                   "loss_sum": sum(samples[str(j)]) if samples
                                   else e["mean_losses"][j],
                                   "tokens": len(samples[str(j)]) if samples else 1}
                                   for j in range(m)}}})
                if last:
                    expected[len(events) - 1] = s["weights"]
        out, _ = self.simulate(
            self.config([1] * k, policy, eval_sets={"held": [f"m{j}" for j in range(m)]}), events)
        self.assertEqual(len(out), len(events))
        for i, weights in expected.items():
            self.same(name, out[i]["policy"], weights)

    def test_shearing(self):
        """In single precision: each step from the recorded weights before it."""
        n = 0
        for name, t in self.traces("llm-shearing/"):
            p = t["params"]
            before = p["initial_weights"]
            for s in t["steps"]:
                losses = [number(v) for v in s["input"]["eval_losses"]]
                after = [number(w) for w in s["weights"]]
                if all(map(math.isfinite, losses + after)):
                    policy = {"name": "dbl", "update": p["update_type"], "eta": p["eta"],
                              "c": p["c"], "target": p["target_loss"], "loss_clip": 0}
                    out, _ = self.simulate(
                        self.config(before, policy, feedback={"loss_max": 1e4}),
                        [{"step": 0, "eval": {"any": {f"d{i}": {"loss_sum": v, "tokens": 1}
                                                      for i, v in enumerate(losses)}}}])
                    self.same(name, out[0]["policy"], after, 1e-6)
                    n += 1
                    before = after
        self.assertGreater(n, 20)

    def test_rewards(self):
        self.assertTrue(self.traces("sec/") and self.traces("dump/"))
        for name, t in self.traces("sec/"):
            self.replay_rewards(name, t, {"name": "boltzmann", "lr": t["params"]["lr"],
                                          "temperature": t["params"]["temperature"]},
                                t["params"]["K"], self.sec_rewards)
        for name, t in self.traces("exp3 (fms"):
            self.replay_rewards(name, t, {"name": "exp3-classic", "gamma": t["params"]["gamma"],
                                          "eta": t["params"]["eta"]},
                                len(t["steps"][0]["weights"]), self.fms_rewards)

    def test_dump(self):
        """Its window counts samples, so each of these is a report of its own."""
        for name, t in self.traces("dump/"):
            p = t["params"]
            policy = {"name": "ucb", "window": p["window"], "temperature": p["temperature"],
                      "exploration": p["exploration_weight"], "chunks": p["window"]}
            events, ends = [], []
            for s in t["steps"][:6]:
                for i, source in enumerate(p["sources"]):
                    for v in s["input"].get(source, {}).get("advantages", []):
                        events.append({"step": len(events), "reward": {
                            f"d{i}": {"sum": abs(v), "count": 1}}})
                ends.append(len(events) - 1)
            out, _ = self.simulate(self.config([1] * len(p["sources"]), policy), events)
            for s, end in zip(t["steps"], ends):
                self.same(name, out[end]["policy"], s["weights"], 1e-11)

    def replay_rewards(self, name, t, policy, k, rewards):
        events = [{"step": i, "reward": {f"d{j}": {"sum": s, "count": n}
                                         for j, (s, n) in sorted(rewards(step["input"]).items())}}
                  for i, step in enumerate(t["steps"])]
        out, _ = self.simulate(self.config([1] * k, policy), events)
        for s, o in zip(t["steps"], out):
            self.same(name, o["policy"], s["weights"], 1e-11)

    @staticmethod
    def sec_rewards(x):
        found = {}
        for arm, values, mask in zip(x["arms"], x["advantages"], x["mask"]):
            if sum(mask) > 0:
                mean = sum(abs(v) * m for v, m in zip(values, mask)) / sum(mask)
                s, n = found.get(arm, (0.0, 0))
                found[arm] = (s + mean, n + 1)
        return found

    @staticmethod
    def fms_rewards(x):
        return {i: (s, n) for i, (s, n) in enumerate(zip(x["reward_sums"], x["counts"])) if n > 0}

    # ---- what the run does around the policy ----

    EVENT = {"step": 0, "train": {"d0": {"loss_sum": 3.0, "tokens": 1},
                                  "d1": {"loss_sum": 1.0, "tokens": 1}}}

    def event(self, step):
        """One that moves the mix, whatever came before it."""
        return {"step": step, "train": {"d0": {"loss_sum": 3.0 + step % 7, "tokens": 1},
                                        "d1": {"loss_sum": 1.0, "tokens": 1}}}

    def test_line(self):
        config = self.config([1, 3], {"name": "ema"}, shadows=[{"name": "odm", "label": "x"}])
        config["domains"]["d0"]["ceiling"] = 0.26
        out, said = self.simulate(config, [self.EVENT])
        self.assertEqual(said, "")
        o, e = out[0], out[0]["explain"]
        self.assertEqual(list(o), ["step", "policy", "mix", "explain"])
        self.assertEqual((o["step"], e["version"], e["from_step"], e["moved"], e["outcome"]),
                         (0, 2, 1, True, "accepted"))
        self.assertAlmostEqual(o["mix"]["d0"], 0.26, places=9)
        self.assertEqual(e["bound"], {"d0": "ceiling"})
        self.assertEqual(e["was"], {"d0": 0.25, "d1": 0.75})
        self.assertAlmostEqual(e["kl_prior"], sum(
            v * math.log(v / w) for v, w in zip(o["mix"].values(), (0.25, 0.75))))
        self.assertAlmostEqual(e["effective_domains"], math.exp(
            -sum(v * math.log(v) for v in o["mix"].values())))
        self.assertEqual([(s["label"], s["policy"]) for s in e["shadows"]], [("x", "odm")])
        self.assertEqual(e["quarantined"], [])
        self.assertEqual(e["counts"]["updates"], 1)

    def test_ranks(self):
        """A step counts when all have reported; who comes twice or late is told so."""
        def event(step, rank, loss, world=2):
            return {"step": step, "rank": rank, "world": world,
                    "train": {"d0": {"loss_sum": loss, "tokens": 2}}}
        events = [event(0, 0, 2.0), event(0, 0, 2.0), event(0, 1, 4.0), event(0, 1, 4.0),
                  event(1, 1, 2.0)]
        out, _ = self.simulate(self.config([1, 1], {"name": "ema"}), events)
        self.assertEqual([o["explain"]["outcome"] for o in out],
                         ["accepted", "duplicate", "accepted", "duplicate", "accepted"])
        self.assertEqual([o["explain"]["moved"] for o in out], [False, False, True, False, False])
        # Ranks that never come are waited for until there is no room for another step.
        events = [event(i, 0, 2.0) for i in range(200)] + [event(0, 1, 2.0)]
        out, _ = self.simulate(self.config([1, 1], {"name": "ema"}), events)
        self.assertEqual(out[-1]["explain"]["outcome"], "late")
        self.assertTrue(out[-2]["explain"]["counts"]["updates"] > 100)

    def test_lockstep(self):
        config = self.config([1, 1], {"name": "ema"}, feedback={"mode": "lockstep", "lag": 2})
        events = [self.event(i) for i in range(6)]
        out, _ = self.simulate(config, events)
        self.assertEqual([o["explain"]["from_step"] for o in out], [i + 2 for i in range(6)])
        r = self.simulate(config, [events[0], events[4]], code=1)[1]
        self.assertIn("events.jsonl:2: step 4: step 3 can't be planned before the feedback of step "
                      "1", r)

    def test_lead(self):
        out, _ = self.simulate(self.config([1, 1], {"name": "ema"}, lead=5), [self.EVENT])
        self.assertEqual(out[0]["explain"]["from_step"], 6)

    def test_quarantine(self):
        event = {"step": 3, "train": {"d0": {"loss_sum": None, "tokens": 1},
                                      "d1": {"loss_sum": 5000.0, "tokens": 1}},
                 "eval": {"held": {"m0": {"loss_sum": -1, "tokens": 2}}},
                 "reward": {"d1": {"sum": None, "count": 2}}}
        config = self.config([1, 1], {"name": "ema"}, eval_sets={"held": ["m0", "m1"]})
        out, _ = self.simulate(config, [event])
        self.assertEqual(out[0]["explain"]["quarantined"], [
            {"part": "train", "domain": "d0", "value": None},
            {"part": "train", "domain": "d1", "value": 5000.0},
            {"part": "eval", "set": "held", "domain": "m0", "value": -0.5},
            {"part": "reward", "domain": "d1", "value": None}])
        self.assertFalse(out[0]["explain"]["moved"])
        self.assertEqual(out[0]["mix"], {"d0": 0.5, "d1": 0.5})

    def test_not_finite(self):
        """As names, and as the words of Python's json module, which are no JSON; not in names."""
        lines = ['{"step": 0, "train": {"NaN": {"loss_sum": NaN, "tokens": 1}, '
                 '"d1": {"loss_sum": 2, "tokens": 1}}}',
                 '{"step": 1, "train": {"NaN": {"loss_sum": "-Infinity", "tokens": 1}, '
                 '"d1": {"loss_sum": -Infinity, "tokens": 1}}}']
        config = self.config([1, 1], {"name": "ema"})
        config["domains"] = {"NaN": {"weight": 1}, "d1": {"weight": 1}}
        out, _ = self.simulate(config, lines)
        self.assertEqual([[q["domain"] for q in o["explain"]["quarantined"]] for o in out],
                         [["NaN"], ["NaN", "d1"]])
        self.assertTrue(out[0]["explain"]["moved"])
        self.assertFalse(out[1]["explain"]["moved"])

    def test_other_batch(self):
        """Reports may be of more tokens than a batch of the config has; and of nothing."""
        events = [{"step": 0, "train": {"d0": {"loss_sum": 3e5, "tokens": 100000},
                                        "d1": {"loss_sum": 1e5, "tokens": 100000}}},
                  {"step": 1, "train": {}}]
        out, _ = self.simulate(self.config([1, 1], {"name": "ema"}), events)
        self.assertEqual(out[0]["policy"], {"d0": 0.75, "d1": 0.25})
        self.assertEqual(out[1]["policy"], out[0]["policy"])
        self.assertEqual(out[0]["explain"]["quarantined"], [])

    def test_jumps(self):
        """Steps between reports are planned, however many."""
        events = [self.event(s) for s in (0, 5000, 8001)]
        out, _ = self.simulate(self.config([1, 1], {"name": "ema"}), events)
        self.assertEqual([o["explain"]["from_step"] for o in out], [1, 5001, 8002])

    def test_notes(self):
        config = self.config([1, 1], {"name": "ema"})
        config["domains"] = {"d0": {"max_epochs": 2}, "d1": {}}
        out, said = self.simulate(config, [self.EVENT])
        self.assertEqual(out[0]["explain"]["was"], {"d0": 0.5, "d1": 0.5})
        self.assertIn("have no weights", said)
        self.assertIn("max_epochs isn't looked at", said)
        self.assertEqual(said.count("\n"), 2)

    # ---- what is wrong ----

    def test_refused(self):
        config = self.config([1, 1], {"name": "ema"}, end={"steps": 10})
        for event, says in ((dict(self.EVENT, step=10), "events.jsonl:2: step 10: the run ends"),
                            (dict(self.EVENT, rank=3), "events.jsonl:2: key 'rank'"),
                            ({"step": 1, "train": {"nosuch": {"loss_sum": 1, "tokens": 1}}},
                             "nosuch"),
                            ({"step": 1}, "events.jsonl:2"), ([], "events.jsonl:2")):
            out, said = self.simulate(config, [self.EVENT, event, self.EVENT], code=1)
            self.assertEqual(len(out), 1)
            self.assertEqual(said.count("\n"), 1, said)
            self.assertIn(says, said)
            out, said = self.simulate(config, [self.EVENT, event, dict(self.EVENT, step=1)],
                                      "--keep-going", code=1)
            self.assertEqual(len(out), 3)
            self.assertIn(says, out[1]["error"])
            self.assertEqual(out[2]["step"], 1)
            self.assertIn("1 of 3 reports were refused", said)

    def test_files(self):
        config = self.write("run.json", json.dumps(self.config([1, 1], {"name": "ema"})))
        events = self.write("events.jsonl", json.dumps(self.EVENT) + "\n\n" +
                            json.dumps(dict(self.EVENT, step=1)))  # the last line has no end
        r = self.ctl("simulate", "-f", config, "--feedback", events, "--out", "-")
        self.assertEqual([json.loads(x)["step"] for x in r.stdout.splitlines()], [0, 1])
        with open(events, encoding="utf-8") as f:
            again = self.ctl("simulate", "-f", config, "--feedback", "-", "--out", "-",
                             stdin=f.read())
        self.assertEqual(again.stdout, r.stdout)
        limited = self.ctl("--json", "simulate", "-f", config, "--feedback", events, "--out",
                           self.path("o"), "--limit", "1")
        self.assertEqual(json.loads(limited.stdout), {"events": 1, "mixes": 1, "errors": 0})
        self.assertIn("simulate needs", self.ctl("simulate", "-f", config, code=2).stderr)
        self.assertIn("nosuch", self.ctl("simulate", "-f", config, "--feedback", "nosuch", "--out",
                                         "-", code=1).stderr)
        self.assertIn("--limit", self.ctl("simulate", "-f", config, "--feedback", events, "--out",
                                          "-", "--limit", "x", code=2).stderr)
        self.write("run.json", '{"name": "r",\n "flor": 1}')
        self.assertIn("run.json:2: key 'flor'", self.ctl(
            "simulate", "-f", config, "--feedback", events, "--out", "-", code=1).stderr)
        long = self.write("long.jsonl", '{"step": 0, "x": "' + "y" * (5 << 20) + '"}\n')
        self.write("run.json", json.dumps(self.config([1, 1], {"name": "ema"})))
        self.assertIn("long.jsonl:1", self.ctl("simulate", "-f", config, "--feedback", long,
                                               "--out", "-", code=1).stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
