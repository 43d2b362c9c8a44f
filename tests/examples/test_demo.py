"""The demo in miniature: the same scripts, programs and tables, with little text and few steps.

meson gives the programs in MIXD, MIXCTL and BYTELM. Domains whose Debian packages aren't installed
are left out. Leaves no process and no file behind."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DEMO = os.path.join(ROOT, "client", "examples", "demo")
sys.path.insert(0, DEMO)
sys.dont_write_bytecode = True
import corpus  # noqa: E402
import table  # noqa: E402

STEPS = 40


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mixd-demo-test-")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)


class CorpusTest(Folder):
    def build(self, name, *more):
        return subprocess.run([sys.executable, os.path.join(DEMO, "corpus.py"), self.path(name),
                               "--bytes", "100000", "--heldout", "10000", *more],
                              capture_output=True, text=True, check=False)

    def test_packages_are_listed(self):
        with open(os.path.join(DEMO, "..", "..", "..", "packages.txt"), encoding="utf-8") as f:
            listed = [line for line in f.read().split("\n") if not line.startswith("#")]
        self.assertEqual(set(corpus.all_packages()) - set(listed), set())

    def test_same_packages_same_bytes(self):
        for name in ("one", "two"):
            done = self.build(name, "--skip-missing")
            self.assertEqual(done.returncode, 0, done.stderr)
        names = sorted(os.listdir(self.path("one"))) + ["heldout/" + n for n in sorted(
            os.listdir(self.path("one", "heldout")))]
        for name in set(names) - {"heldout"}:
            with open(self.path("one", name), "rb") as a, open(self.path("two", name), "rb") as b:
                self.assertEqual(a.read(), b.read(), name)

    def test_held_out_text_is_not_trained_on(self):
        self.assertEqual(self.build("out", "--skip-missing").returncode, 0)
        with open(self.path("out", "corpus.json"), encoding="utf-8") as f:
            summary = json.load(f)["domains"]
        self.assertGreaterEqual(len(summary), 2)
        for domain, row in summary.items():
            with open(self.path("out", domain + ".jsonl"), encoding="utf-8") as f:
                training = [json.loads(line)["text"] for line in f]
            with open(self.path("out", "heldout", domain + ".txt"), encoding="utf-8",
                      newline="") as f:
                heldout = f.read().split("\0")
            self.assertEqual(heldout.pop(), "")
            self.assertFalse(set(training) & set(heldout))
            self.assertEqual(len(training), row["documents"])
            self.assertEqual(len(heldout), row["heldout_documents"])
            self.assertEqual(sum(len(t.encode()) for t in training), row["bytes"])
            self.assertLessEqual(row["bytes"], 100000)

    def test_an_existing_folder_is_left_alone(self):
        os.mkdir(self.path("out"))
        done = self.build("out")
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.path("out"), done.stderr)
        self.assertEqual(os.listdir(self.path("out")), [])

    def test_a_missing_package_is_named(self):
        dpkg = self.path("dpkg")
        with open(dpkg, "w", encoding="utf-8") as f:
            f.write('#!/bin/sh\ncase "$2" in wordnet-base) exit 1;; esac\necho /usr\n')
        os.chmod(dpkg, 0o755)
        env = dict(os.environ, PATH=self.folder + ":" + os.environ["PATH"])
        done = subprocess.run([sys.executable, os.path.join(DEMO, "corpus.py"), self.path("out")],
                              capture_output=True, text=True, env=env, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("apt-get install --no-install-recommends wordnet-base\n", done.stderr)
        self.assertFalse(os.path.exists(self.path("out")))

    def test_roff_becomes_text(self):
        page = ('.\\" a comment\n.TH LS 1 "May"\n.SH NAME\nls \\- list\n.PP\n'
                '\\fBls\\fP [\\fI\\,OPTION\\/\\fR]\n.B bold\n')
        self.assertEqual(corpus.plain_roff(page),
                         "LS 1 May\n\nNAME\nls - list\nls [OPTION]\nbold\n")


def train(step, version, **mix):
    return {"kind": "train", "step": step, "loss": 2.0, "tokens_per_s": 1000, "wait_share": 0.1,
            "mix_version": version,
            "domains": {d: {"share": s, "tokens": round(1000 * s)} for d, s in mix.items()}}


def evaluation(step, **losses):
    return {"kind": "eval", "step": step, "domains": {d: {"loss": x} for d, x in losses.items()}}


class TableTest(Folder):
    def test_log_of_a_resumed_model(self):
        with open(self.path("log"), "w", encoding="utf-8") as f:
            for step in (10, 20, 30, 25, 40):
                f.write(json.dumps(train(step, 1, a=1.0)) + "\n")
            f.write('{"kind": "tra')
        self.assertEqual([r["step"] for r in table.read_log(self.path("log"))], [10, 20, 25, 40])
        self.assertEqual(table.read_log(self.path("none")), [])

    def test_the_winner_is_starred_whoever_it_is(self):
        logs = {"demo-odm": [train(10, 2, a=0.75, b=0.25), evaluation(10, a=1.0, b=3.0)],
                "demo-static": [train(10, 1, a=0.5, b=0.5), evaluation(10, a=1.5, b=2.0)]}
        text = table.heldout(logs)
        self.assertRegex(text, r"a +1\.000\* +1\.500  +75\.0 +50\.0")
        self.assertRegex(text, r"b +3\.000  +2\.000\* +25\.0 +50\.0")
        self.assertRegex(text, r"mean +2\.000  +1\.750\*")
        self.assertRegex(text, r"worst +3\.000  +2\.000\*")
        self.assertNotIn("equally long", text)
        logs["demo-odm"].append(evaluation(20, a=1.0, b=2.0))
        self.assertIn("demo-odm 20 steps, demo-static 10 steps", table.heldout(logs))

    def test_path(self):
        records = [train(step, 1, a=step / 100, b=1 - step / 100) for step in range(10, 60, 10)]
        text = table.path_of_mix(records, "x", rows=2)
        self.assertRegex(text, r"\n +10 +10\.0 +90\.0\n +20 +20\.0 +80\.0\n +50 +40\.0 +60\.0$")

    def test_progress(self):
        logs = {"demo-odm": [], "demo-static": [train(5, 1, a=1.0)]}
        self.assertEqual(table.progress(1, 10, logs, "demo-odm"), "")
        logs["demo-odm"] = [dict(train(5, 7, a=0.75, b=0.25), wait_share=0.001)]
        self.assertEqual(table.progress(65, 10, logs, "demo-odm"),
                         "1:05  odm 50% loss 2.000 1k/s | static 50% loss 2.000 1k/s (waits 10%) | "
                         "odm's mix: a 75 b 25")


@unittest.skipUnless("MIXD" in os.environ, "no programs given")
class DemoTest(Folder):
    def argv(self):
        return [os.path.join(DEMO, "demo.sh"), "/nonexistent", self.path("data")]

    def env(self, **more):
        return dict(os.environ, DEMO_STEPS=str(STEPS), DEMO_BYTES="200000", DEMO_LINE="0.5",
                    DEMO_SKIP_MISSING="1", **more)

    def demo(self, **more):
        done = subprocess.run(self.argv(), capture_output=True, text=True, env=self.env(**more),
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def processes(self):
        """Command lines that name this test's folder."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    line = f.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if self.folder in line:
                found.append(line)
        return found

    def test_miniature(self):
        out = self.demo()
        self.assertRegex(out, r"mixd serves tcp://127\.0\.0\.1:\d+ and http://127\.0\.0\.1:\d+/")
        self.assertRegex(out, r"mean +\d\.\d{3}")
        self.assertIn("The path of demo-odm's mix", out)
        logs = {run: table.read_log(self.path("data", run + ".jsonl"))
                for run in ("demo-odm", "demo-static")}
        for run, records in logs.items():
            self.assertEqual(records[-1]["kind"], "eval")
            self.assertEqual(records[-1]["step"], STEPS)
            for domain, row in records[-1]["domains"].items():
                self.assertLess(row["loss"], 5.0, f"{run} {domain} has learned nothing")
        self.assertEqual(table.of_kind(logs["demo-static"], "train")[-1]["mix_version"], 1)
        self.assertGreater(table.of_kind(logs["demo-odm"], "train")[-1]["mix_version"], 1)
        self.assertEqual(self.processes(), [])
        # And further, with the same folder: nothing is built or ingested anew.
        more = self.demo()
        self.assertIn(f"steps {STEPS} to {2 * STEPS}", more)
        self.assertNotIn("ingested", more)
        self.assertNotIn("Building", more)
        self.assertEqual(table.read_log(self.path("data", "demo-odm.jsonl"))[-1]["step"], 2 * STEPS)

    def test_interrupted(self):
        demo = subprocess.Popen(self.argv(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                text=True, env=dict(self.env(), DEMO_STEPS="1000000"))
        deadline = time.monotonic() + 120
        while not table.read_log(self.path("data", "demo-static.jsonl")):
            self.assertLess(time.monotonic(), deadline, "no progress")
            self.assertIsNone(demo.poll())
            time.sleep(0.1)
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=120)
        self.assertEqual(demo.returncode, 130, said)
        self.assertIn("goes on from there", said)
        self.assertEqual(self.processes(), [])
        self.assertTrue(os.path.exists(self.path("data", "demo-odm.model")))

    def test_what_is_missing_is_said(self):
        done = subprocess.run(self.argv(), capture_output=True, text=True, check=False,
                              env=self.env(MIXD="/nonexistent/mixd"))
        self.assertEqual(done.returncode, 1)
        self.assertTrue(re.search(r"demo: /nonexistent/mixd: no such program", done.stderr))


if __name__ == "__main__":
    unittest.main(verbosity=2)
