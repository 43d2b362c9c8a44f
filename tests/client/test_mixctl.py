"""mixctl by itself: usage, exit codes, ingest into a store, and the store read without a daemon."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

MIXCTL = os.environ["MIXCTL"]
PATIENCE = float(os.environ.get("MIXD_TEST_PATIENCE", "30"))


class Mixctl(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mixctl-test-")
        self.store = os.path.join(self.folder, "store")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def run_it(self, *args, code=0):
        env = {k: v for k, v in os.environ.items() if k not in ("MIXD_URL", "MIXD_DATA")}
        r = subprocess.run([MIXCTL, *args], capture_output=True, text=True, env=env, check=False,
                           timeout=PATIENCE * 4)
        self.assertEqual(r.returncode, code, f"{args}: {r.stdout}{r.stderr}")
        return r

    def refused(self, *args, code, says):
        r = self.run_it(*args, code=code)
        self.assertEqual(r.stdout, "")
        lines = [x for x in r.stderr.splitlines() if x.startswith("mixctl: ")]
        self.assertEqual(len(lines), 1, r.stderr)
        self.assertIn(says, lines[0])

    def write(self, name, data):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        return path

    def ingest(self, *args, code=0):
        return self.run_it("--data", self.store, "ingest", *args, code=code)

    def domains(self):
        r = self.run_it("--data", self.store, "domain", "ls", "--json")
        return {d["name"]: d for d in json.loads(r.stdout)["domains"]}

    def test_help(self):
        commands = ["ingest", "domain ls", "domain show", "domain rm", "run create", "run ls",
                    "run show", "run stop", "mix show", "mix set", "batch", "stats"]
        overview = self.run_it("help").stdout
        for c in commands:
            self.assertIn(c + " ", overview)
            text = self.run_it("help", *c.split()).stdout
            self.assertIn("Usage: mixctl " + c, text)
            self.assertIn("Example: mixctl ", text)
            self.assertEqual(self.run_it(*c.split(), "--help").stdout.splitlines()[0],
                             text.splitlines()[0])
        self.assertRegex(self.run_it("--version").stdout, r"^mixctl \d+\.\d+\.\d+\n$")

    def test_usage(self):
        for args, says in [
                ([], "which command"), (["frobnicate"], "no command 'frobnicate'"),
                (["domain"], "ls, show, rm"), (["domain", "nope"], "ls, show, rm"),
                (["ingest", "web"], "usage: mixctl ingest DOMAIN FILE..."),
                (["run", "create", "x"], "-f FILE"), (["run", "ls", "x"], "usage: mixctl run ls"),
                (["mix", "set", "r", "web"], "DOMAIN=SHARE"),
                (["mix", "set", "r", "web=half"], "web must be a number"),
                (["mix", "set", "r", "web=inf"], "web must be a number"),
                (["batch", "r"], "--step S"),
                (["batch", "r", "--step", "-1"], "--step must be a whole number"),
                (["batch", "r", "--step", "1", "--rank", "0"], "--rank R and --world W"),
                (["batch", "r", "--step", "1", "--rank", "4", "--world", "4"], "from 0 to 3"),
                (["batch", "r", "--step", "1", "--slots", "3"], "FIRST:COUNT"),
                (["batch", "r", "--step", "1", "--slots", "0:0"], "from 1"),
                (["--timeout", "0", "run", "ls"], "--timeout"),
                (["ingest", "w", "f", "--codec", "lz4"], "raw, zstd or zstd:LEVEL"),
                (["ingest", "w", "f", "--codec", "zstd:99"], "from 1 to 22"),
                (["ingest", "w", "f", "--format", "csv"], "--format"),
                (["ingest", "w", "f", "--eod", "x"], "--eod"),
                (["ingest", "w", "f", "--bad-limit", "2"], "from 0 to 1")]:
            self.refused(*args, code=2, says=says)
        self.assertEqual(self.run_it("run", "ls", "--bogus", code=2).stdout, "")

    def test_no_daemon(self):
        url = "ipc://" + os.path.join(self.folder, "nobody")
        config = self.write("r.json", "{}")
        for args in [["domain", "ls"], ["domain", "rm", "x"], ["run", "create", "x", "-f", config],
                     ["run", "ls"], ["mix", "show", "x"], ["mix", "set", "x", "a=1"],
                     ["batch", "x", "--step", "0"], ["stats"], ["ingest", "x", config]]:
            self.refused("--connect", url, "--timeout", "0.2", *args, code=3,
                         says="no daemon answers at " + url)
        self.refused("--connect", "http://x", "run", "ls", code=1, says="tcp://HOST:PORT")
        self.refused("run", "create", "x", "-f", self.path("none.json"), code=1, says="none.json")
        bad = self.write("bad.json", '{"seed": 1,\n "seed": 2}')
        self.refused("run", "create", "x", "-f", bad, code=1, says="bad.json:2: key 'seed'")
        bad = self.write("bad.json", '{"seed": 1,\n}')
        self.refused("run", "create", "x", "-f", bad, code=1, says="bad.json:2: column 1")

    def path(self, name):
        return os.path.join(self.folder, name)

    def test_ingest(self):
        lines = [json.dumps({"id": f"d{i}", "text": "x" * (i % 50 + 1)}) for i in range(300)]
        r = json.loads(self.ingest("web", self.write("a.jsonl", "\n".join(lines)), "--json").stdout)
        self.assertEqual((r["domain"], r["documents"], r["lines"], r["bad_lines"]),
                         ("web", 300, 300, 0))
        tokens = sum(i % 50 + 2 for i in range(300))
        self.assertEqual(r["tokens"], tokens)
        raw = self.write("b.u16", bytes(range(200)))
        self.ingest("ids", raw, "--format", "u16", "--tokenizer", "toy", "--codec", "raw")
        self.ingest("web", self.write("c.txt", "more"), "--codec", "zstd:9")
        d = self.domains()
        self.assertEqual(sorted(d), ["ids", "web"])
        self.assertEqual((d["web"]["tokens"], d["web"]["shards"], d["web"]["documents"]),
                         (tokens + 5, 2, 301))
        self.assertEqual((d["ids"]["tokens"], d["ids"]["tokenizer"], d["ids"]["codec"]),
                         (100, "toy", "raw"))
        shown = json.loads(self.run_it("--data", self.store, "domain", "show", "web",
                                       "--json").stdout)
        self.assertEqual(sum(s["tokens"] for s in shown["shard_list"]), tokens + 5)
        self.assertEqual(shown["runs"], [])
        self.assertIn("301", self.run_it("--data", self.store, "domain", "show", "web").stdout)
        self.assertIn("toy", self.run_it("--data", self.store, "domain", "ls").stdout)
        self.refused("--data", self.store, "domain", "show", "nope", code=1, says="nope")
        self.refused("--data", self.path("none"), "domain", "ls", code=1, says="none")

    def test_bad_lines(self):
        good = json.dumps({"text": "fine"}) + "\n"
        path = self.write("a.jsonl", (good * 9 + "{no json}\n") * 30)
        r = self.ingest("web", path, code=1)
        named = [x for x in r.stderr.splitlines() if x.startswith(path + ":")]
        self.assertEqual(len(named), 20)
        self.assertTrue(named[0].startswith(f"{path}:10: byte {9 * len(good)}: "), named[0])
        self.assertIn("and 10 malformed lines more", r.stderr)
        self.assertTrue(r.stderr.splitlines()[-1].startswith("mixctl: "))
        r = json.loads(self.ingest("web", path, "--bad-limit", "0.2", "--json").stdout)
        self.assertEqual((r["documents"], r["bad_lines"]), (270, 30))

    def test_interrupt(self):
        line = json.dumps({"text": os.urandom(400).hex()}) + "\n"
        path = self.write("big.jsonl", line * 200000)
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            p = subprocess.Popen([MIXCTL, "--data", self.store, "ingest", "web", path, "--codec",
                                  "zstd:19"], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                                 text=True)
            shards = os.path.join(self.store, "shards")
            deadline = time.monotonic() + PATIENCE
            while not (os.path.isdir(shards) and os.listdir(shards)):
                self.assertLess(time.monotonic(), deadline)
                self.assertIsNone(p.poll(), "it ended before it could be interrupted")
                time.sleep(0.01)
            p.send_signal(sig)
            out, err = p.communicate(timeout=PATIENCE * 4)
            self.assertEqual(out, "")
            if sig != signal.SIGKILL:
                self.assertEqual(p.returncode, 1, err)
                self.assertIn("mixctl: interrupted: the store is as it was before", err)
                self.assertEqual(os.listdir(shards), [])
            self.assertEqual(self.domains(), {})
        self.ingest("web", self.write("a.txt", "fine"))
        self.assertEqual(len([f for f in os.listdir(shards) if f.endswith(".mxs")]), 1)
        self.assertEqual(self.domains()["web"]["documents"], 1)


if __name__ == "__main__":
    unittest.main()
