"""mixctl against a real daemon: what operators see is what trainers get."""
import json

from harness import DaemonTest, main
import wire


class Ctl(DaemonTest):
    def make(self):
        self.tokens("a", 4096)
        self.mixctl("ingest", "b", self.write("b.u16", bytes(range(256)) * 64), "--format", "u16",
                    data=True)
        d = self.start()
        self.create(d, policy={"name": "odm"}, end={"steps": 500})
        return d

    def test_batch(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            b = w.batch(info["run"], 3, 0, 8)
        got = self.json("batch", "r", "--step", 3, daemon=d)
        self.assertEqual(set(got), {"run", "step", "mix_version", "slots"})
        self.assertEqual((got["run"], got["step"], got["mix_version"]), ("r", 3, b["mix_version"]))
        self.assertEqual([(s["slot"], s["domain"], s["sample"], s["epoch"]) for s in got["slots"]],
                         [(i, info["names"][k], s, e) for i, (k, s, e) in
                          enumerate(zip(b["domains"], b["samples"], b["epochs"]))])
        by_bytes = {}
        for slot, tokens in zip(got["slots"], b["tokens"]):
            self.assertRegex(slot["hash"], "^[0-9a-f]{16}$")
            self.assertEqual(by_bytes.setdefault(tokens, slot["hash"]), slot["hash"])
        self.assertEqual(len(set(by_bytes.values())), len(by_bytes))

    def test_parts_of_a_batch_are_the_batch(self):
        d = self.make()
        whole = self.json("batch", "r", "--step", 0, daemon=d)["slots"]
        parts = []
        for rank in range(3):
            parts += self.json("batch", "r", "--step", 0, "--rank", rank, "--world", 3,
                               daemon=d)["slots"]
        self.assertEqual(parts, whole)
        self.assertEqual(self.json("batch", "r", "--step", 0, "--slots", "2:3", daemon=d)["slots"],
                         whole[2:5])
        lines = self.mixctl("batch", "r", "--step", 0, "--hash", daemon=d).stdout.splitlines()
        self.assertEqual([x.split() for x in lines],
                         [[str(s[k]) for k in ("slot", "domain", "sample", "epoch", "hash")]
                          for s in whole])
        self.assertIn(whole[0]["domain"], self.mixctl("batch", "r", "--step", 0, daemon=d).stdout)

    def test_text(self):
        line = json.dumps({"text": "the quick brown fox"}) + "\n"
        self.mixctl("ingest", "t", self.write("t.jsonl", line * 40), data=True)
        d = self.start()
        self.create(d, batch_size=2, seq_len=64, domains={"t": {}})
        self.assertIn("the quick brown fox",
                      self.mixctl("batch", "r", "--step", 0, "--text", daemon=d).stdout)

    def test_refusals(self):
        d = self.make()
        for args, said in ((("batch", "r", "--step", 500), "ends before step 500"),
                           (("batch", "q", "--step", 0), "no run q"),
                           (("batch", "r", "--step", 0, "--slots", "7:2"), "7"),
                           (("run", "show", "q"), "no run q"), (("mix", "show", "q"), "no run q"),
                           (("mix", "set", "r", "q=1"), "no domain q"),
                           (("mix", "set", "r", "a=-1"), "a"), (("stats", "q"), "no run q"),
                           (("domain", "rm", "a"), "used by run 'r'"), (("domain", "show", "q"), "q")):
            r = self.mixctl(*args, daemon=d, code=None)
            self.assertIn(r.returncode, (1, 2), args)
            self.assertIn(said, r.stderr)
            self.assertEqual(r.stdout, "")
            self.assertEqual(r.stderr.count("\n"), 1, r.stderr)

    def test_mix(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            w.batch(1, 9, 0, 8)
        got = self.json("mix", "set", "r", "a=0.25", "--why", "less of it", daemon=d)
        self.assertEqual(got["version"], 2)
        self.assertGreaterEqual(got["from_step"], 10)
        self.assertEqual([(x["name"], round(x["share"], 6)) for x in got["domains"]],
                         [("a", 0.25), ("b", 0.75)])
        with wire.Wire(d.url) as w:
            drawn = []
            for step in range(got["from_step"], got["from_step"] + 20):
                b = w.batch(1, step, 0, 8)
                self.assertEqual(b["mix_version"], 2)
                drawn += b["domains"]
        self.assertEqual(drawn.count(0), 40)  # a quarter of 8 is whole in each step
        shown = self.json("mix", "show", "r", daemon=d)
        self.assertEqual(shown["version"], 2)
        self.assertRegex(self.mixctl("mix", "show", "r", daemon=d).stdout, r"\na +0\.2500 ")

    def test_tables_and_json(self):
        d = self.make()
        self.assertEqual([r["name"] for r in self.json("run", "ls", daemon=d)["runs"]], ["r"])
        self.assertEqual(self.json("run", "show", "r", daemon=d)["batch_size"], 8)
        self.assertEqual([r["name"] for r in self.json("stats", daemon=d)["runs"]], ["r"])
        self.assertEqual(self.json("stats", "r", daemon=d)["state"], "active")
        self.assertEqual(self.json("domain", "show", "a", daemon=d)["runs"], ["r"])
        for args in (("run", "ls"), ("run", "show", "r"), ("stats",), ("stats", "r"),
                     ("domain", "ls"), ("domain", "show", "a")):
            out = self.mixctl(*args, daemon=d)
            self.assertGreater(len(out.stdout), 20, args)
            self.assertEqual(out.stderr, "")

    def test_domain_rm(self):
        d = self.make()
        self.tokens("c", 4096)
        self.mixctl("domain", "rm", "c", daemon=d)
        names = [x["name"] for x in self.json("domain", "ls", daemon=d)["domains"]]
        self.assertEqual(names, ["a", "b"])


if __name__ == "__main__":
    main()
