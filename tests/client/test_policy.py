"""mixctl policy, plan and the log's entries about policies, against a daemon that says what is
asked."""

import json
import os
import tempfile
import unittest

from test_operator import Operator as Base

MIX = {"version": 12, "from_step": 88, "entry": 400, "cause": "feedback", "cause_step": 86,
       "author": "", "why": "", "shares": {"web": 0.6, "code": 0.4},
       "was": {"web": 0.7, "code": 0.3},
       "weights": {"web": 0.55, "code": 0.45},
       "terms": {"estimate": {"web": 1.5, "code": None},
                 "exploration": {"web": 0.01, "code": 0.01}},
       "moved_most": {"web": "estimate"}, "bound": {"code": "ceiling"}, "kl_prior": 0.25,
       "effective_domains": 1.96}
DETAIL = {"run": "r", "frontier": 87, "policy": "odm", "apply": "sampler", "mix": MIX,
          "guards": {"loss_clip": 20, "stale_max": None, "absent": "skip"},
          "counts": {"updates": 80, "clipped": 2, "filled": 0, "stale": 1, "broken": 0},
          "quarantined_reports": {"train": 3, "eval": 0}, "evaluate_after": [90, 95],
          "working": True, "shadows": [{"label": "try", "policy": "exp3", "weights": {},
                                        "shares": {"web": 0.5, "code": 0.5}}]}
PLAN = {"run": "r", "steps": 900, "planned": 800, "policy": "odm", "adapts": True, "tokens": 12345,
        "ends": {"step": 800, "why": "exhausted", "domain": "code"}, "read_bytes": 2048,
        "domains": [{"name": "web", "share_last": 0.6, "tokens": 10000, "epochs": 0.5,
                     "max_epochs": None, "seen_once_step": None, "runs_out_step": None,
                     "read_bytes": 1024},
                    {"name": "code", "share_last": 0.4, "tokens": 2345, "epochs": 4,
                     "max_epochs": 4, "seen_once_step": 200, "runs_out_step": 800,
                     "read_bytes": 1024}]}


class Policy(Base):
    def rows(self, *args):
        return [line.split() for line in self.ctl(*args).stdout.splitlines()]

    def test_policy(self):
        self.serve(DETAIL)
        rows = self.rows("policy", "r")
        self.assertEqual(self.asked(), {"op": "policy.show", "run": "r"})
        text = "\n".join(" ".join(r) for r in rows)
        for part in ("run r, policy odm, frontier step 87",
                     "mix version 12, from step 88, by the feedback of step 86",
                     "KL to the prior 0.25 nats, as good as 1.96 domains of equal share",
                     "guards: loss_clip 20, stale_max -, absent skip",
                     "counts: updates 80, clipped 2, filled 0, stale 1, broken 0, "
                     "reports with train left out 3",
                     "to be evaluated after steps: 90 95",
                     "the policy waits for a long computation"):
            self.assertIn(part, text)
        self.assertIn("DOMAIN BEFORE SHARE WEIGHT ESTIMATE EXPLORATION MOVED MOST LIMIT".split(),
                      rows)
        self.assertIn("web 0.7000 0.6000 0.5500 1.5 0.01 estimate -".split(), rows)
        self.assertIn("code 0.3000 0.4000 0.4500 - 0.01 - ceiling".split(), rows)
        self.assertIn(["DOMAIN", "SHARE", "try"], rows)
        self.assertIn(["web", "0.6000", "0.5000"], rows)
        self.assertEqual(json.loads(self.ctl("--json", "policy", "r").stdout), DETAIL)

    def test_policy_bare(self):
        """Before the first mix, of a policy without terms, of an entry that is gone."""
        self.serve(dict(DETAIL, mix=None, shadows=[]))
        self.assertIn("there is no mix yet", self.ctl("policy", "r").stdout)
        bare = {k: v for k, v in MIX.items() if k in ("version", "from_step", "entry", "shares")}
        self.serve(dict(DETAIL, mix=bare))
        self.assertIn("web - 0.6000 - - -".split(), self.rows("policy", "r"))
        self.serve({})
        self.ctl("policy", "r")

    def test_plan(self):
        with tempfile.TemporaryDirectory(prefix="mixd-test-") as folder:
            path = os.path.join(folder, "run.json")
            with open(path, "w", encoding="utf-8") as f:
                f.write('{"name": "r"}')
            self.serve(PLAN)
            rows = self.rows("plan", "-f", path, "--steps", 900)
            self.assertEqual(self.asked(), {"op": "plan", "config": '{"name": "r"}', "steps": 900})
            text = "\n".join(" ".join(r) for r in rows)
            for part in ("800 steps of run r: 12,345 tokens, 2.0 KiB read from disk",
                         "it stops before step 800: domain code has no samples left",
                         "policy odm adapts"):
                self.assertIn(part, text)
            self.assertIn("web 0.6000 10,000 0.5 - - - 1.0 KiB".split(), rows)
            self.assertIn("code 0.4000 2,345 4 4 200 800 1.0 KiB".split(), rows)
            self.assertEqual(json.loads(self.ctl("--json", "plan", "-f", path, "--steps",
                                                 900).stdout), PLAN)
            self.serve(dict(PLAN, adapts=False, ends={"step": 800, "why": "end", "domain": None}))
            text = self.ctl("plan", "-f", path, "--steps", 900).stdout
            self.assertIn("it ends before step 800", text)
            self.assertNotIn("adapts", text)
            self.serve({})
            self.usage("plan", "-f", path, says="--steps N")
            self.usage("plan", "--steps", 5, says="-f FILE")
            self.usage("plan", "-f", path, "--steps", "x", says="--steps must be a whole number")
            with open(path, "w", encoding="utf-8") as f:
                f.write("{}")
            self.ctl("plan", "-f", path, "--steps", 1)
            self.assertEqual(self.asked(), {"op": "plan", "config": "{}", "steps": 1,
                                            "name": "plan"})
            with open(path, "w", encoding="utf-8") as f:
                f.write('{"name": "r",\n oops}')
            self.assertIn("run.json:2", self.ctl("plan", "-f", path, "--steps", 1, code=1).stderr)

    def test_log(self):
        mix = dict(MIX, index=1, kind="mix", mix_version=12,
                   shares={"web": 0.5, "code": 0.4, "books": 0.1},
                   was={"web": 0.7, "code": 0.25, "books": 0.05})
        self.serve({"run": "r", "first": 1, "last": 3, "next": None, "entries": [
            mix, {"index": 2, "kind": "fit", "policy": "ado", "label": "", "values": 12},
            {"index": 3, "kind": "shadow", "shadows": DETAIL["shadows"] + [
                {"label": "two", "shares": {"web": 0.25, "code": 0.75}}]}]})
        lines = self.ctl("log", "r").stdout.splitlines()
        for line, words in zip(lines, (
                "mix version 12, by the feedback of step 86: web 0.5000, code 0.4000, "
                "books 0.1000; most moved web, from 0.7000 (estimate); code at its ceiling",
                "policy ado has fitted 12 numbers",
                "try would: web 0.5000, code 0.5000; two would: web 0.2500, code 0.7500")):
            self.assertTrue(" ".join(line.split()).endswith(words), line)
        self.assertEqual(len(self.ctl("log", "r", "--kind", "fit").stdout.splitlines()), 1)


def load_tests(loader, _, __):
    """Not those of the class that this one builds on."""
    return loader.loadTestsFromNames(["Policy." + name for name in vars(Policy)
                                      if name.startswith("test_")],
                                     module=__import__(__name__))


if __name__ == "__main__":
    unittest.main()
