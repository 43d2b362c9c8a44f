"""mixctl's commands for going back and forth in a run, against a daemon that says what is asked."""

import json
import os
import signal
import subprocess
import threading
import time
import unittest

from fake import Fake

MIXCTL = os.environ["MIXCTL"]
PATIENCE = float(os.environ.get("MIXD_TEST_PATIENCE", "30"))
BAD_REQUEST, DAMAGED, SKIPPED = 6, 8, 9


class Operator(unittest.TestCase):
    def setUp(self):
        self.fake = None
        self.env = {k: v for k, v in os.environ.items() if k not in ("MIXD_URL", "MIXD_DATA")}
        self.env.update(TZ="UTC", USER="ada")

    def tearDown(self):
        if self.fake:
            self.fake.close()

    def serve(self, answer):
        if self.fake:
            self.fake.close()
        self.fake = Fake(answer if callable(answer) else lambda _: answer)

    def ctl(self, *args, code=0):
        r = subprocess.run([MIXCTL, "--connect", self.fake.url, *[str(a) for a in args]],
                           capture_output=True, text=True, env=self.env, check=False,
                           timeout=PATIENCE * 4)
        self.assertEqual(r.returncode, code, f"{args}: {r.stdout}{r.stderr}")
        if code == 0:
            self.assertEqual(r.stderr, "")
        return r

    def asked(self):
        """The one request that was made, without the author."""
        self.assertEqual(len(self.fake.requests), 1, self.fake.requests)
        request = dict(self.fake.requests.pop())
        if "author" in request:
            self.assertRegex(request.pop("author"), "^ada@")
        return request

    def usage(self, *args, says):
        r = self.ctl(*args, code=2)
        self.assertEqual(r.stdout, "")
        self.assertEqual(r.stderr.count("\n"), 1, r.stderr)
        self.assertIn(says, r.stderr)
        self.assertEqual(self.fake.requests, [])

    # ---- arguments ----

    def test_usage(self):
        self.serve({})
        self.usage("log", says="usage: mixctl log RUN")
        self.usage("log", "r", "--from", "x", says="--from must be a whole number")
        self.usage("log", "r", "--from", 9, "--to", 9, says="--to must be a whole number from 10")
        self.usage("log", "r", "--kind", "mixx", says="no kind of entry 'mixx'")
        self.usage("--json", "log", "r", "--follow", says="--follow")
        self.usage("log", "r", *["--kind", "mix"] * 17, says="16 times")
        self.usage("step", "r", says="usage: mixctl step RUN STEP")
        self.usage("step", "r", "now", says="STEP must be a whole number")
        self.usage("step", "r", 1, "--slots", 5, says="FIRST:COUNT")
        self.usage("where", "--run", "r", says="where is what")
        self.usage("where", "web", "--run", "r", says="where is what")
        self.usage("where", "web", "x", "--run", "r", says="SAMPLE must be a whole number")
        self.usage("where", "web", 1, says="--run RUN")
        self.usage("where", "web", 1, "--doc", "d", "--run", "r", says="at most its DOMAIN")
        self.usage("where", "--doc", "d", "--origin", "f:1", "--run", "r",
                   says="either --doc ID or")
        self.usage("where", "--origin", "f", "--run", "r", says="FILE:BYTE")
        self.usage("where", "--origin", ":1", "--run", "r", says="FILE:BYTE")
        self.usage("where", "--origin", "f:end", "--run", "r", says="--origin FILE:BYTE must be")
        self.usage("where", "a", "b", "c", says="usage: mixctl where")
        self.usage("where", "web", 1, "--run", "r", "--from", -1, says="--from must be")
        self.usage("skip", "r", "--to", 5, "--why", "x", says="--from STEP")
        self.usage("skip", "r", "--from", 5, "--why", "x", says="--to STEP")
        self.usage("skip", "r", "--from", 5, "--to", 5, "--why", "x", says="less than --to")
        self.usage("skip", "r", "--from", 5, "--to", 6, says="--why TEXT")
        self.usage("skip", "r", "--from", 5, "--to", 6, "--why", "", says="--why TEXT")
        self.usage("run", "rewind", "r", says="--to STEP")
        self.usage("run", "rewind", "r", "--to", 2 ** 40 + 1, says="--to must be")
        self.usage("run", "fork", "r", "--at", 1, says="usage: mixctl run fork SRC NEW")
        self.usage("run", "fork", "r", "s", says="--at STEP")
        self.usage("run", "replay", says="usage: mixctl run replay NAME")
        self.usage("run", "compact", "r", says="--before STEP")
        self.usage("domain", "withdraw", "web", "--doc", "d", says="--why TEXT")
        self.usage("domain", "withdraw", "web", "--doc", "d", "--dry-run", says="--why TEXT")
        self.usage("domain", "withdraw", "web", "--why", "x", says="either --doc ID or")
        self.usage("domain", "adopt", says="usage: mixctl domain adopt NAME")
        for at in ("soon", "+", "+-1", "-1", "++1", str(2 ** 40 + 1)):
            self.usage("mix", "set", "r", "a=1", "--at=" + at, says="--at STEP or +N must be")
        r = self.ctl("skip", "r", "--since", 3, code=2)
        self.assertEqual(self.fake.requests, [])
        self.assertIn("--since", r.stderr)

    def test_requests(self):
        """What each command asks for, and that a refusal's text comes out."""
        self.serve((BAD_REQUEST, "not this way"))
        for args, want in [
                (["skip", "r", "--from", 5, "--to", 9, "--why", "spike"],
                 {"op": "run.skip", "run": "r", "from": 5, "to": 9, "why": "spike"}),
                (["run", "rewind", "r", "--to", 7], {"op": "run.rewind", "run": "r", "to": 7}),
                (["run", "fork", "r", "s", "--at", 7, "--why", "try"],
                 {"op": "run.fork", "run": "r", "name": "s", "at": 7, "why": "try"}),
                (["run", "replay", "r"], {"op": "run.replay", "run": "r"}),
                (["run", "compact", "r", "--before", 7],
                 {"op": "run.compact", "run": "r", "before": 7}),
                (["domain", "adopt", "web"], {"op": "domain.adopt", "name": "web", "now": False}),
                (["domain", "adopt", "web", "--run", "r", "--now"],
                 {"op": "domain.adopt", "name": "web", "run": "r", "now": True}),
                (["domain", "withdraw", "web", "--doc", "d", "--why", "law"],
                 {"op": "domain.withdraw", "name": "web", "doc": "d", "dry_run": False,
                  "why": "law"}),
                (["domain", "withdraw", "web", "--origin", "a:b:12", "--dry-run", "--why", "law"],
                 {"op": "domain.withdraw", "name": "web", "origin": "a:b:12", "dry_run": True,
                  "why": "law"}),
                (["mix", "set", "r", "a=1", "--at", 12],
                 {"op": "mix.set", "run": "r", "weights": {"a": 1}, "at": 12}),
                (["mix", "set", "r", "a=1", "--at", "+12"],
                 {"op": "mix.set", "run": "r", "weights": {"a": 1}, "at": "+12"}),
                (["where", "web", 3, "--run", "r"],
                 {"op": "where", "run": "r", "domain": "web", "sample": 3}),
                (["where", "--doc", "d", "--run", "r", "--from", 1, "--to", 2],
                 {"op": "where", "run": "r", "doc": "d", "from": 1, "to": 2}),
                (["where", "web", "--origin", "f:9", "--run", "r"],
                 {"op": "where", "run": "r", "domain": "web", "origin": "f:9"}),
                (["log", "r"], {"op": "run.log", "run": "r"}),
                (["log", "r", "--from", 3, "--to", 9],
                 {"op": "run.log", "run": "r", "from": 3, "limit": 6}),
                (["step", "r", 4], {"op": "step.show", "run": "r", "step": 4, "slot_first": 0}),
                (["step", "r", 4, "--slots", "2:3"],
                 {"op": "step.show", "run": "r", "step": 4, "slot_first": 2, "slot_count": 3})]:
            for json_too in ([], ["--json"]):
                r = self.ctl(*json_too, *args, code=1)
                self.assertEqual((r.stdout, r.stderr), ("", "mixctl: not this way\n"))
                self.assertEqual(self.asked(), want)

    def test_help(self):
        self.serve({})
        for command in ("log", "step", "where", "skip", "run rewind", "run fork", "run replay",
                        "run compact", "domain adopt", "domain withdraw"):
            text = self.ctl("help", *command.split()).stdout
            self.assertIn("Usage: mixctl " + command, text)
            self.assertIn("Example: mixctl " + command, text)
            self.assertIn("  " + command + " ", self.ctl("help").stdout)
        for command in ("run rewind", "run compact", "domain withdraw"):
            self.assertIn("stays", self.ctl("help", *command.split()).stdout)

    def test_no_daemon(self):
        self.serve({})
        url = self.fake.url
        self.fake.close()
        for args in (["log", "r"], ["step", "r", "1"], ["where", "a", "1", "--run", "r"],
                     ["skip", "r", "--from", "1", "--to", "2", "--why", "x"],
                     ["run", "rewind", "r", "--to", "1"]):
            r = subprocess.run([MIXCTL, "--connect", url, "--timeout", "0.2", *args],
                               capture_output=True, text=True, check=False, timeout=PATIENCE)
            self.assertEqual((r.returncode, r.stdout), (3, ""))
            self.assertEqual(r.stderr, f"mixctl: no daemon answers at {url}\n")
        self.fake = None

    # ---- answers of the operations ----

    def test_answers(self):
        self.serve({"run": "r", "from": 5, "to": 1009})
        self.assertEqual(self.ctl("skip", "r", "--from", 5, "--to", 1009, "--why", "x").stdout,
                         "run r passes over steps from 5 on and goes on at step 1,009\n")
        self.serve({"run": "r", "to": 7, "branch": 2, "mix_version": 9, "entry": 12})
        self.assertEqual(self.ctl("run", "rewind", "r", "--to", 7).stdout,
                         "run r is back at step 7: branch 2, mix version 9\n")
        self.assertEqual(json.loads(self.ctl("--json", "run", "rewind", "r", "--to", 7).stdout),
                         {"run": "r", "to": 7, "branch": 2, "mix_version": 9, "entry": 12})
        self.serve({"name": "s", "frontier": 7})
        self.assertEqual(self.ctl("run", "fork", "r", "s", "--at", 7).stdout,
                         "created run s: run r up to step 7\n")
        self.serve({"run": "r", "removed": 1200, "first_entry": 1200, "step": 640})
        self.assertEqual(self.ctl("run", "compact", "r", "--before", 700).stdout,
                         "removed 1,200 entries of run r: its log begins with entry 1,200, "
                         "its history with step 640\n")
        self.serve({"run": "r", "entries": 4000, "first_entry": 0, "steps": 1000, "first_step": 0,
                    "branches": 2, "digest": "00ff", "ok": True})
        out = self.ctl("run", "replay", "r").stdout
        for word in ("4,000 entries", "1,000 steps", "branches  2", "00ff", "what its log says"):
            self.assertIn(word, out)
        self.serve((DAMAGED, "run r: step 12, entry 40: another mix"))
        self.assertIn("step 12, entry 40", self.ctl("run", "replay", "r", code=1).stderr)

    def test_replay_takes_its_time(self):
        def slowly(_):
            time.sleep(5.5)  # more than the 5 seconds that other commands wait
            return {"run": "r", "entries": 1}

        self.serve(slowly)
        self.ctl("run", "replay", "r")
        self.ctl("--timeout", "0.3", "run", "replay", "r", code=1)

    def test_adopt(self):
        self.serve({"domain": "web", "runs": [
            {"run": "r", "step": 1200, "epoch_boundary": True, "samples_before": 10, "samples": 14},
            {"run": "s", "step": 7, "epoch_boundary": False, "samples_before": 10,
             "samples": 1400}]})
        rows = [x.split() for x in self.ctl("domain", "adopt", "web").stdout.splitlines()]
        self.assertEqual(rows[1:], [["r", "1,200", "next", "epoch", "10", "14"],
                                    ["s", "7", "at", "once", "10", "1,400"]])
        self.serve({"domain": "web", "runs": []})
        self.assertIn("no run takes anything", self.ctl("domain", "adopt", "web").stdout)

    def test_withdraw(self):
        answer = {"domain": "web", "documents": [
            {"id": "d1", "source": "a.jsonl", "byte": 4096, "line": 12, "tokens": 1000}],
                  "runs": [{"run": "r", "from_step": 1200, "samples": 3}], "dry_run": True}
        self.serve(answer)
        args = ["domain", "withdraw", "web", "--doc", "d1", "--why", "law"]
        out = self.ctl(*args, "--dry-run").stdout
        self.assertTrue(out.startswith("would be withdrawn from domain web:\n"), out)
        rows = [x.split() for x in out.splitlines()]
        self.assertIn(["d1", "a.jsonl", "12", "4,096", "1,000"], rows)
        self.assertIn(["r", "1,200", "3"], rows)
        self.assertEqual(json.loads(self.ctl("--json", *args).stdout), answer)
        self.serve(dict(answer, dry_run=False, runs=[]))
        out = self.ctl(*args).stdout
        self.assertTrue(out.startswith("withdrawn from domain web:\n"), out)
        self.assertIn("no run has it", out)

    # ---- log ----

    @staticmethod
    def entry(index, kind, **kw):
        return dict({"index": index, "time_ms": 1700000000000 + index * 1000, "kind": kind,
                     "step": index * 10, "frontier": index * 10, "author": "", "why": ""}, **kw)

    def journal(self):
        e = self.entry
        return [
            e(3, "create", author="bob@x", mix_version=1, shares={"web": 0.75, "code": 0.25}),
            e(4, "reserve", upto=64, digest_from=0, digests=[2 ** 64 - 1, 2 ** 63 + 1]),
            e(5, "feedback", rank=1, world=4, mix_version=1, flags=["step_skipped"],
              losses=[{"domain": "web", "samples": 2, "tokens": 200, "loss_sum": 500.0}]),
            e(6, "close"),
            e(7, "mix", mix_version=2, cause="feedback", cause_step=12,
              shares={f"d{i}": 0.1 for i in range(10)}),
            e(8, "set", author="eve@y", why="a \"]},{[ b\n\x1b[2J", mix_version=3,
              shares={"web": 0.5, "code": 0.5}, weights={"web": 1}),
            e(9, "skip", to=120, why="spike"),
            e(10, "exhausted", domain="code", ends=False),
            e(11, "adopt", domain="web", samples=900, shards=2, now=True),
            e(12, "withdraw", domain="web", documents=1, samples=4),
            e(13, "rewind", mix_version=2, branch=1),
            e(14, "fork", source="r", source_step=40),
            e(15, "stop"),
            e(16, "unheard-of", domain="web"),
        ]

    def serve_log(self, entries, page=3, grow=None):
        def answer(q):
            if grow:
                grow(entries)
            start = max(q.get("from", 0), entries[0]["index"])
            got = [x for x in entries if x["index"] >= start]
            some = got[:min(page, q.get("limit", page))]
            more = len(got) > len(some)
            # A daemon may lay its JSON out as it likes.
            return json.dumps({"entries": some, "run": "r", "first": entries[0]["index"],
                               "last": entries[-1]["index"],
                               "next": some[-1]["index"] + 1 if more else None}, indent=1)

        self.serve(answer)

    def test_log_text(self):
        self.serve_log(self.journal())
        lines = self.ctl("log", "r").stdout.splitlines()
        self.assertEqual(len(lines), 14)
        for line, words in zip(lines, [
                "3 2023-11-14 22:13:23 create step 30 bob@x mix version 1: web 0.7500, code 0.2500",
                "4 2023-11-14 22:13:24 reserve step 40 - steps up to 64 may be served",
                "5 2023-11-14 22:13:25 feedback step 50 - rank 1 of 4, mix version 1: "
                "loss web 2.5000, step_skipped",
                "6 2023-11-14 22:13:26 close step 60 - step 60 waits for no more reports",
                "7 2023-11-14 22:13:27 mix step 70 - mix version 2, by the feedback of step 12: "
                + ", ".join(f"d{i} 0.1000" for i in range(8)) + " and 2 more",
                '8 2023-11-14 22:13:28 set step 80 eve@y mix version 3: web 0.5000, code 0.5000 '
                '(a "]},{[ b??[2J)',
                "9 2023-11-14 22:13:29 skip step 90 - passed over, up to step 120 (spike)",
                "10 2023-11-14 22:13:30 exhausted step 100 - domain code: no samples left, the "
                "others take its share",
                "11 2023-11-14 22:13:31 adopt step 110 - domain web: 900 samples in 2 shards, "
                "at once",
                "12 2023-11-14 22:13:32 withdraw step 120 - domain web: 1 documents, 4 samples",
                "13 2023-11-14 22:13:33 rewind step 130 - back to step 130: branch 1, "
                "mix version 2",
                "14 2023-11-14 22:13:34 fork step 140 - from run r at its step 40",
                "15 2023-11-14 22:13:35 stop step 150 - the run ends here",
                "16 2023-11-14 22:13:36 unheard-of step 160 - domain web: 0 documents, "
                "0 samples"]):
            self.assertEqual(line.split(), words.split())
        self.assertEqual([q.get("from") for q in self.fake.requests], [None, 6, 9, 12, 15])

    def indexes(self, *args):
        r = self.ctl("--json", "log", "r", *args)
        return [e["index"] for e in json.loads(r.stdout)["entries"]]

    def test_log_json(self):
        journal = self.journal()
        for page in (1, 3, 100):
            self.serve_log(journal, page)
            got = json.loads(self.ctl("--json", "log", "r").stdout)
            # The entries are as the daemon said them, 64-bit numbers too.
            self.assertEqual(got, {"run": "r", "first": 3, "last": 16, "entries": journal})
            self.assertEqual(self.indexes("--from", 6), list(range(6, 17)))
            self.assertEqual(self.indexes("--to", 6), [3, 4, 5])
            self.assertEqual(self.indexes("--from", 6, "--to", 8), [6, 7])
            self.assertEqual(self.indexes("--from", 99), [])
            self.assertEqual(self.indexes("--to", 2), [])
            self.assertEqual(self.indexes("--kind", "mix", "--kind", "set"), [7, 8])
            self.assertEqual(self.indexes("--kind", "skip", "--to", 9), [])
        self.assertEqual(len(self.ctl("log", "r", "--kind", "rewind").stdout.splitlines()), 1)

    def test_log_that_grows(self):
        """It ends with what was there when it began, however fast more comes in."""
        def grow(entries):
            for _ in range(5):
                entries.append(self.entry(entries[-1]["index"] + 1, "close"))

        self.serve_log(self.journal(), 3, grow)
        self.assertEqual(self.indexes(), list(range(3, 22)))

    def test_log_nonsense(self):
        for answer, says in [
                ({"run": "r"}, "no list of entries"), ({"entries": {}}, "no list of entries"),
                ([1], "isn't an object"), ("{", "answer:1"),
                ({"entries": [], "next": 0, "last": 9}, "after entry 0 comes entry 0"),
                ((SKIPPED, ""), "cut short")]:
            self.serve(answer)
            self.assertIn(says, self.ctl("log", "r", code=1).stderr)

    def test_log_missing_keys(self):
        """Keys that an older daemon doesn't say are left out."""
        self.serve({"entries": [{"index": 1, "kind": k} for k in (
            "create", "feedback", "mix", "set", "skip", "adopt", "rewind", "fork")] + [{}]})
        self.assertEqual(len(self.ctl("log", "r").stdout.splitlines()), 9)
        self.assertEqual(len(json.loads(self.ctl("--json", "log", "r").stdout)["entries"]), 9)

    def test_follow(self):
        entries = self.journal()[:2]
        came = threading.Condition()

        def answer(q):
            with came:
                got = [e for e in entries if e["index"] >= q.get("from", 0)]
                if not got:
                    came.wait(q["wait_ms"] / 1000)
                    got = [e for e in entries if e["index"] >= q["from"]]
                return {"run": "r", "first": 3, "last": entries[-1]["index"], "next": None,
                        "entries": got}

        self.serve(answer)
        p = subprocess.Popen([MIXCTL, "--connect", self.fake.url, "--timeout", "1", "log", "r",
                              "--follow"], stdout=subprocess.PIPE, text=True, env=self.env)
        try:
            for e in self.journal():
                if e["index"] > 4:
                    with came:
                        entries.append(e)
                        came.notify_all()
                self.assertEqual(p.stdout.readline().split()[0], str(e["index"]))
            deadline = time.monotonic() + PATIENCE
            seen = len(self.fake.requests)
            while len(self.fake.requests) < seen + 2:  # waits that end with nothing
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
            self.assertIsNone(p.poll())
        finally:
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.communicate(timeout=PATIENCE)[0], "")
        self.assertEqual(p.returncode, -signal.SIGINT)
        self.assertEqual([q.get("from") for q in self.fake.requests[:2]], [None, 5])
        self.assertGreater(self.fake.requests[-1]["wait_ms"], 0)

    # ---- step ----

    def serve_step(self, batch=10, page=4, **kw):
        slots = [{"slot": i, "domain": "web" if i % 2 else "a-longer-name", "sample": 10 ** 6 + i,
                  "epoch": i // 5, "documents": [
                      {"id": f"doc-{i}" if i % 3 else "", "source": "a.jsonl", "byte": 90, "line":
                       i + 1, "first_token": 0, "tokens": 9}] * (1 + i % 6)} for i in range(batch)]
        self.header = dict({
            "run": "r", "step": 1200, "branch": 1, "mix_version": 7, "skipped": False,
            "mix": {"version": 7, "from_step": 1150, "cause": "operator", "cause_step": 0,
                    "author": "eve@y", "why": "code is behind", "time_ms": 1700000000000,
                    "entry": 42},
            "shares": [{"domain": "a-longer-name", "share": 0.5, "count": 5, "cursor": 6000},
                       {"domain": "web", "share": 0.5, "count": 5, "cursor": 6001}]}, **kw)

        def answer(q):
            end = min(q["slot_first"] + q.get("slot_count", batch), batch)
            some = slots[q["slot_first"]:min(end, q["slot_first"] + page)]
            at = q["slot_first"] + len(some)
            return json.dumps(dict({"next_slot": at if at < end else None, "slots": some},
                                   **self.header), indent=2)

        self.serve(answer)
        return slots

    def test_step_json(self):
        for page in (1, 4, 99):
            slots = self.serve_step(page=page)
            got = json.loads(self.ctl("--json", "step", "r", 1200).stdout)
            self.assertEqual(got, dict(self.header, slots=slots))
            got = json.loads(self.ctl("--json", "step", "r", 1200, "--slots", "1:7").stdout)
            self.assertEqual(got["slots"], slots[1:8])
        self.assertEqual([(q["slot_first"], q.get("slot_count")) for q in self.fake.requests],
                         [(0, None), (1, 7)])

    def test_step_text(self):
        self.serve_step()
        out = self.ctl("step", "r", 1200).stdout
        head, mix = out.splitlines()[:2]
        self.assertEqual(head, "step 1,200 of run r, branch 1, mix version 7")
        self.assertEqual(mix, "mix version 7 is in force from step 1150, by operator, eve@y, "
                         "2023-11-14 22:13:20, entry 42 (code is behind)")
        rows = [x.split() for x in out.splitlines()]
        self.assertIn(["web", "0.5000", "5", "6,001"], rows)
        at = rows.index(["SLOT", "DOMAIN", "SAMPLE", "EPOCH", "DOCUMENTS"])
        self.assertEqual(len(rows) - at, 11)
        self.assertEqual(rows[at + 1], ["0", "a-longer-name", "1000000", "0", "a.jsonl:1"])
        self.assertEqual(rows[at + 2], ["1", "web", "1000001", "0", "doc-1,", "doc-1"])
        self.assertEqual(rows[at + 6][4:], ["doc-5,"] * 3 + ["doc-5", "and", "2", "more"])
        columns = {line.index(" 100000") for line in out.splitlines() if " 100000" in line}
        self.assertEqual(len(columns), 1, "the columns are the same on all pages")
        self.assertNotIn("passed over", out)
        self.serve_step(skipped=True)
        self.assertIn("passed over", self.ctl("step", "r", 1200).stdout)

    def test_step_nonsense(self):
        for answer, says in [({"run": "r"}, "no list of slots"),
                             ({"slots": [], "next_slot": 0}, "after slot 0 comes slot 0")]:
            self.serve(answer)
            self.assertIn(says, self.ctl("step", "r", 1, code=1).stderr)
        self.serve({"slots": [{}]})
        self.assertIn("0", self.ctl("step", "r", 1).stdout)
        self.assertEqual(json.loads(self.ctl("--json", "step", "r", 1).stdout), {"slots": [{}]})

    # ---- where ----

    def test_where(self):
        answer = {"run": "r", "frontier": 1000, "horizon": 5000, "samples": [
            {"domain": "web", "sample": 12, "document": {"id": "d\x1b1", "source": "a", "line": 3},
             "more": True, "steps": [
                 {"step": 7, "slot": 1, "epoch": 0, "planned": True, "skipped": False},
                 {"step": 700, "slot": 2, "epoch": 1, "planned": True, "skipped": True},
                 {"step": 4000, "slot": 3, "epoch": 2, "planned": False, "skipped": False}]},
            {"domain": "code", "sample": 13, "document": None, "more": False, "steps": []}]}
        self.serve(answer)
        out = self.ctl("where", "--doc", "d1", "--run", "r").stdout
        self.assertIn("domain web, sample 12, document d?1\n", out)
        self.assertIn("domain code, sample 13: in no step that was looked at\n", out)
        self.assertIn("and more: ask with --from\n", out)
        self.assertIn("looked at: steps before 5,000; planned so far: those before 1,000\n", out)
        rows = [x.split() for x in out.splitlines()]
        self.assertIn(["7", "1", "0"], rows)
        self.assertIn(["700", "2", "1", "passed", "over"], rows)
        self.assertIn("4,000 3 2 will be, if the mix stays as it is".split(), rows)
        self.assertEqual(json.loads(self.ctl("--json", "where", "--doc", "d1", "--run",
                                             "r").stdout), answer)
        self.serve({"run": "r", "samples": []})
        self.assertEqual(self.ctl("where", "--doc", "d1", "--run", "r").stdout,
                         "no sample of the run's domains holds it\n")


if __name__ == "__main__":
    unittest.main()
