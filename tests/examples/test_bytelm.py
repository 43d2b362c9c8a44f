"""bytelm against a real daemon: what it posts, how it resumes, what it says when something is
wrong. Small models and few steps; meson gives the program in BYTELM."""
import json
import math
import os
import signal
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))
sys.dont_write_bytecode = True
import harness  # noqa: E402

BYTELM = os.environ.get("BYTELM", "build/client/examples/bytelm")
SMALL = ["--context", "4", "--wide", "16", "--hidden", "16", "--print-every", "0"]


class BytelmTest(harness.DaemonTest):
    def setUp(self):
        super().setUp()
        for domain, word in (("a", "tic tac "), ("b", "one two three ")):
            lines = [json.dumps({"text": word * 30 + str(i)}) for i in range(200)]
            path = self.write(domain + ".jsonl", "\n".join(lines) + "\n")
            self.mixctl("ingest", domain, path, data=True)
            os.makedirs(self.path("heldout"), exist_ok=True)
            self.write(os.path.join("heldout", domain + ".txt"), word * 20 + "\0" + word * 5)
        self.daemon = self.start()
        self.create(self.daemon, batch_size=4, seq_len=64, policy={"name": "static"})

    def argv(self, steps, name, *more):
        return [BYTELM, "--connect", self.daemon.url, "--run", "r", "--steps", str(steps),
                "--checkpoint", self.path(name), *SMALL, *more]

    def train(self, steps, name, *more, code=0):
        r = subprocess.run(self.argv(steps, name, *more), capture_output=True, text=True,
                           timeout=harness.PATIENCE * 4, check=False)
        self.assertEqual(r.returncode, code, r.stdout + r.stderr)
        return r

    def bytes_of(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def log_of(self, name):
        with open(self.path(name), encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def test_trains_posts_and_evaluates(self):
        r = self.train(100, "model", "--eval", self.path("heldout"), "--eval-every", "50",
                       "--log", self.path("log"))
        self.assertIn("100 losses posted, 100 accepted", r.stdout)
        log = self.log_of("log")
        evals = [x for x in log if x["kind"] == "eval"]
        self.assertEqual([(x["step"], x["final"]) for x in evals], [(50, False), (100, True)])
        self.assertLess(evals[1]["mean"], evals[0]["mean"])
        self.assertLess(evals[1]["mean"], 2.0)  # it knows nothing at 5.5
        # Every token of every sample was trained once: 100 steps of 4 * 64.
        rows = [d for x in log if x["kind"] == "train" for d in x["domains"].values()]
        self.assertEqual(sum(d["tokens"] for d in rows), 100 * 4 * 64)

    def mixes(self, run):
        return self.json("log", run, "--kind", "mix", daemon=self.daemon)["entries"]

    def test_posts_what_it_evaluated(self):
        """A policy that learns from evaluations alone moves by what bytelm measured, and then."""
        target = {"a": 1.0, "b": 3.0}
        self.create(self.daemon, name="e", batch_size=4, seq_len=64, domains={"a": {"weight": 0.3},
                                                                              "b": {"weight": 0.7}},
                    eval_sets={"first": ["b"], "second": ["a", "b"]},
                    policy={"name": "dbl", "eval_set": "second", "target": target, "c": 0},
                    feedback={"mode": "lockstep", "lag": 1})
        more = ["--eval", self.path("heldout"), "--eval-every", "10", "--log", self.path("log")]
        argv = self.argv(30, "model", *more, "--eval-set", "second")
        argv[argv.index("r")] = "e"
        r = subprocess.run(argv, capture_output=True, text=True, check=False)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("30 losses posted, 30 accepted", r.stdout)
        p = {"a": 0.3, "b": 0.7}
        evals = [x for x in self.log_of("log") if x["kind"] == "eval" and not x["final"]]
        mixes = self.mixes("e")
        self.assertEqual([m["cause_step"] for m in mixes], [9, 19])
        self.assertEqual([x["step"] for x in evals], [10, 20])
        for mix, measured in zip(mixes, evals):
            p = {d: p[d] * math.exp(measured["domains"][d]["loss"] - target[d]) for d in p}
            for d in p:
                self.assertAlmostEqual(mix["shares"][d], p[d] / sum(p.values()), 5)
            self.assertNotAlmostEqual(mix["shares"]["a"], 0.3, 2)
        argv = self.argv(40, "model", *more, "--eval-set", "third")
        argv[argv.index("r")] = "e"
        r = subprocess.run(argv, capture_output=True, text=True, check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("run e has no eval set third", r.stderr)

    def test_evaluates_when_the_policy_wants_it(self):
        self.create(self.daemon, name="w", batch_size=4, seq_len=64,
                    policy={"name": "aioli", "update_steps": 20, "lp_rounds": 1, "lp_steps": 4},
                    feedback={"mode": "lockstep", "lag": 1})
        argv = self.argv(60, "model", "--eval", self.path("heldout"), "--eval-every", "0",
                         "--log", self.path("log"))
        argv[argv.index("r")] = "w"
        r = subprocess.run(argv, capture_output=True, text=True, check=False)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertGreater(len([x for x in self.log_of("log") if x["kind"] == "eval"]), 3)
        self.assertGreater(len(self.mixes("w")), 2)

    def test_killed_and_resumed_is_uninterrupted(self):
        trainer = subprocess.Popen(self.argv(1000000, "half", "--checkpoint-every", "10"),
                                   stdout=subprocess.DEVNULL)
        self.until(lambda: os.path.exists(self.path("half")))
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
        step = int.from_bytes(self.bytes_of("half")[40:48], "little")
        self.assertGreater(step, 0)
        self.train(step, "whole")
        self.assertEqual(self.bytes_of("half"), self.bytes_of("whole"))
        said = self.train(step + 50, "half").stdout
        self.assertIn(f"goes on from {self.path('half')}: step {step},", said)
        self.train(step + 50, "again")
        self.assertEqual(self.bytes_of("half"), self.bytes_of("again"))

    def test_stopped_by_a_signal_it_saves(self):
        trainer = subprocess.Popen(self.argv(1000000, "model", "--log", self.path("log")),
                                   stdout=subprocess.PIPE, text=True)
        self.until(lambda: os.path.exists(self.path("log")) and self.log_of("log"))
        trainer.send_signal(signal.SIGTERM)
        out, _ = trainer.communicate(timeout=harness.PATIENCE)
        self.assertEqual(trainer.returncode, 0)
        stopped = int(out.split("stopped before step ")[1].split(":")[0])
        self.assertIn(f"{stopped} losses posted, {stopped} accepted", out)
        self.assertIn(f"step {stopped},", self.train(stopped, "model").stdout)

    def test_the_daemon_may_die(self):
        url = self.daemon.url
        trainer = subprocess.Popen(self.argv(1500, "model", "--log", self.path("log")),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.until(lambda: os.path.exists(self.path("log")) and self.log_of("log"))
        self.daemon.kill()
        self.daemon = self.start(listen=[url])
        out, err = trainer.communicate(timeout=harness.PATIENCE * 4)
        self.assertEqual(trainer.returncode, 0, out + err)
        self.assertIn("stopped before step 1500", out)
        self.train(1500, "again")
        self.assertEqual(self.bytes_of("model"), self.bytes_of("again"))

    def test_steps_that_are_passed_over(self):
        for first, end in ((5, 9), (20, 30)):
            self.mixctl("skip", "r", "--from", first, "--to", end, "--why", "spike",
                        daemon=self.daemon)
        self.train(40, "model")
        reported = {e["step"] for e in self.json("log", "r", "--kind", "feedback",
                                                 daemon=self.daemon)["entries"]}
        self.assertEqual(reported, set(range(40)) - set(range(5, 9)) - set(range(20, 30)))

    def test_refusals_name_what_is_wrong(self):
        self.train(3, "model")
        bad = bytearray(self.bytes_of("model"))
        bad[len(bad) // 2] ^= 1
        self.write("bad", bytes(bad))
        for more, word in (
                (["bad"], f"{self.path('bad')}: damaged: its checksum fails"),
                (["model", "--wide", "32"], "another shape"),
                (["model", "--seed", "9"], "it has seed 1, not 9"),
                (["new", "--eval", self.path("nowhere")], self.path("nowhere")),
                (["new", "--log", self.path("nowhere", "log")], self.path("nowhere", "log"))):
            self.assertIn(word, self.train(5, *more, code=1).stderr)
        argv = self.argv(5, "model")
        argv[argv.index("r")] = "other"
        r = subprocess.run(argv, capture_output=True, text=True, check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("it is of run r, not other", r.stderr)
        argv[argv.index(self.path("model"))] = self.path("new")
        r = subprocess.run(argv, capture_output=True, text=True, check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("run other: ", r.stderr)

    def test_tokens_that_are_no_text(self):
        self.tokens("u", 5000, first=300)
        self.create(self.daemon, name="u", batch_size=4, seq_len=64, domains={"u": {"weight": 1}})
        argv = self.argv(5, "model")
        argv[argv.index("r")] = "u"
        r = subprocess.run(argv, capture_output=True, text=True, check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("is domain u text ingested with the bytes tokenizer?", r.stderr)

    def test_no_daemon(self):
        self.assertEqual(self.daemon.stop(), 0)
        begin = time.monotonic()
        self.assertIn(self.daemon.url, self.train(5, "model", code=1).stderr)
        self.assertLess(time.monotonic() - begin, harness.PATIENCE)


if __name__ == "__main__":
    unittest.main(verbosity=2)
