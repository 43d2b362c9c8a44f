"""Reports of every kind over sockets: what is taken, what is left out and told, what is refused; and
what a run asks back for: evaluations, and weights of the loss."""
import math
import struct

from harness import DaemonTest, PATIENCE, main
import wire

NAN, INF = math.nan, math.inf
SETS = {"small": ["x"], "heldout": ["x", "y", "z"]}
EVERYTHING = (wire.train([(0, 2, 32, 64.0), (1, 1, 16, 16.0)]) + wire.evals(0, [(0, 0, 10, 25.0)]) +
              wire.evals(1, [(0, 4, 64, 96.0), (2, 1, 8, 4.0)]) +
              wire.rewards([(0, 16, -4.0), (1, 8, 2.0)]) + wire.grads([0, 1], [4.0, 0.5, 1.0], 3e-4) +
              wire.scores([(1, 7, 0.5), (0, 3, -1.0), (1, 7, 0.25)]))


class FeedbackTest(DaemonTest):
    def make(self, **kw):
        self.tokens("a", 8192)
        self.tokens("b", 8192, 20000)
        d = self.start()
        self.create(d, **kw)
        return d

    def step(self, w, n, sections, **kw):
        """Takes a step and reports it."""
        b = w.batch(1, n, 0, 8)
        return w.report(1, n, sections, version=b["mix_version"], **kw)

    def members(self, d, name):
        found = [x for x in d.stats("r")["eval_sets"] if x["name"] == name][0]["members"]
        return {x["name"]: (x["loss"], x["step"]) for x in found}


class Parts(FeedbackTest):
    def test_everything(self):
        d = self.make(eval_sets=SETS, policy={"name": "odm"})
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            info = w.attach("r")
            self.assertEqual(info["eval_sizes"], (1, 3))
            self.assertEqual(info["names"], ["a", "b", "small", "x", "heldout", "x", "y", "z"])
            for first in range(len(info["names"]) + 1):
                self.assertEqual(w.attach("r", first=first)["names"], info["names"][first:])
            with self.assertRaisesRegex(wire.Trouble, "from name 9 on"):
                w.attach("r", first=9)
            entry, outcome, quarantined, text = self.step(w, 0, EVERYTHING)
            self.assertEqual((outcome, quarantined, text), (0, 0, ""))
            self.assertGreater(entry, 0)
            # The flags alone are a report, and so is that nothing was seen.
            self.assertEqual(self.step(w, 1, b"", flags=1)[1], 0)
            self.assertEqual(self.step(w, 2, b"", flags=2)[1], 0)
            self.assertEqual(self.step(w, 3, wire.train([]))[1], 0)
            with self.assertRaisesRegex(wire.Trouble, "neither a section nor a flag"):
                self.step(w, 4, b"")
        seen = d.stats("r")["feedback"]
        self.assertEqual([seen[k] for k in ("accepted", "evals", "rewards", "grads", "scores",
                                            "nonfinite_losses", "steps_skipped",
                                            "quarantined_losses")], [4, 3, 2, 1, 3, 1, 1, 0])
        self.assertEqual(self.members(d, "small"), {"x": (2.5, 0)})
        self.assertEqual(self.members(d, "heldout"), {"x": (1.5, 0), "z": (0.5, 0)})
        # All of it is in the journal: a daemon that died knows it again.
        before = d.stats("r")
        d.kill()
        self.daemons.remove(d)
        d = self.start()
        after = d.stats("r")
        for key in ("feedback", "eval_sets", "mix_version"):
            self.assertEqual(after[key], before[key], key)
        self.assertEqual(after["domains"][0]["loss"], 2.0)
        self.mixctl("run", "replay", "r", daemon=d)

    def test_quarantined(self):
        d = self.make(eval_sets=SETS)
        good = wire.train([(1, 1, 16, 16.0)])
        cases = [
            (wire.train([(0, 1, 16, NAN), (1, 1, 16, 16.0)]), r"1 values left out, of train: domain a has -?nan"),
            (wire.train([(0, 1, 16, -1.0)]), "of train: domain a has -0.0625, not finite or out"),
            (good + wire.evals(1, [(0, 0, 4, 4.0), (2, 0, 4, INF)]),
             "1 values left out, of eval: member z of eval set heldout has inf"),
            (good + wire.evals(0, [(0, 0, 4, 1e9)]), "member x of eval set small has 2.5e"),
            (good + wire.evals(0, [(0, 0, 0, 1.0)]), "member x of eval set small has 1,"),
            (good + wire.rewards([(0, 1, 1.0), (1, 2, NAN)]), "of reward: domain b has -?nan"),
            (good + wire.rewards([(0, 0, 1.0)]), "of reward: domain a has 1,"),
            (good + wire.grads([0, 1], [1.0, NAN, 1.0], 1e-3), "of grad: the matrix or its learning"),
            (good + wire.grads([1], [1.0], 0.0), "of grad: the matrix or its learning"),
            (good + wire.grads([1], [-1.0], 1e-3), r"\(domain b has -1\), so none of it is used"),
            (good + wire.scores([(0, 1, 0.5), (1, 9, INF)]),
             "of scores: domain b has inf, not finite or out of range, so none of them is kept"),
        ]
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            w.attach("r")
            for n, (sections, text) in enumerate(cases):
                _, outcome, quarantined, said = self.step(w, n, sections)
                self.assertEqual((outcome, quarantined), (0, 1), text)
                self.assertRegex(said, text)
        seen = d.stats("r")["feedback"]
        self.assertEqual(seen["quarantined_losses"], len(cases))
        self.assertEqual((seen["grads"], seen["scores"]), (0, 0))
        self.assertEqual(self.members(d, "heldout"), {"x": (1.0, 2)})

    def test_refused(self):
        d = self.make(eval_sets=SETS)
        cases = [
            (wire.evals(2, [(0, 0, 1, 1.0)]), "eval set 2; there are 2: heldout, small"),
            (wire.evals(1, [(3, 0, 1, 1.0)]), "member 3 of eval set heldout; it has 3"),
            (wire.rewards([(2, 1, 1.0)]), "a reward of domain 2; there are 2"),
            (wire.scores([(2, 1, 1.0)]), "a score of domain 2; there are 2"),
            (wire.grads([0, 2], [1.0, 0.0, 1.0], 1.0), "gradients of 2 domains: at most 128, rising"),
            (wire.section(7, b""), "kind 7 is unknown"),
            (wire.rewards([]) + wire.train([]), "after one of a higher kind"),
            (wire.grads([0, 0], [1.0, 0.0, 1.0], 1.0), "GRAD section: domain 0 comes after domain 0"),
            (wire.section(4, struct.pack("<IId", 200, 0, 1.0)), "a matrix of 200 domains"),
            (wire.section(5, b"x" * 25), "SCORES section: 25 bytes"),
        ]
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            w.attach("r")
            v = w.batch(1, 0, 0, 8)["mix_version"]
            for sections, text in cases:
                with self.assertRaisesRegex(wire.Trouble, text) as caught:
                    w.report(1, 0, sections, version=v)
                self.assertEqual(caught.exception.status, wire.BAD_REQUEST)
            self.assertEqual(w.report(1, 0, EVERYTHING, version=v)[1], 0)
        self.assertEqual(d.stats("r")["feedback"]["accepted"], 1)

    def test_posted_again(self):
        """The same is a repeat; another value in any part is a divergence, and says which."""
        d = self.make(eval_sets=SETS)
        parts = {1: wire.train([(0, 2, 32, 64.0)]), 2: wire.evals(1, [(2, 1, 8, 4.0)]),
                 3: wire.rewards([(1, 8, 2.0)]), 4: wire.grads([0, 1], [4.0, 0.5, 1.0], 3e-4),
                 5: wire.scores([(1, 7, 0.5)])}
        others = [
            (1, wire.train([(0, 2, 32, 65.0)]), "another loss for domain a: 2 then, 2.03125 now"),
            (1, b"", "another loss for domain a: 2 then, -?nan now"),
            (2, wire.evals(1, [(2, 1, 8, 5.0)]), "another evaluation loss for member z: 0.5 then"),
            (2, wire.evals(0, [(0, 1, 8, 4.0)]), "another evaluation loss for member x: -?nan then"),
            (3, wire.rewards([(1, 8, 4.0)]), "another reward for domain b: 0.25 then, 0.5 now"),
            (4, wire.grads([0, 1], [4.0, 0.75, 1.0], 3e-4),
             "another product of gradients for domain a: 0.5 then, 0.75 now"),
            (4, wire.grads([0, 1], [4.0, 0.5, 1.0], 4e-4), "another learning rate for the gradients"),
            (4, wire.grads([0], [4.0], 3e-4), "another number of gradients"),
            (5, wire.scores([(1, 7, 0.75)]), "another score for domain b: 0.5 then, 0.75 now"),
            (5, wire.scores([(1, 8, 0.5)]), "another score for domain b: 0.5 then, -?nan now"),
            (5, b"", "another number of scores"),
        ]
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            w.attach("r")
            v = w.batch(1, 0, 0, 8)["mix_version"]
            whole = b"".join(parts.values())
            self.assertEqual(w.report(1, 0, whole, version=v)[1], 0)
            self.assertEqual(w.report(1, 0, whole, version=v)[1], 1)
            for kind, other, text in others:
                sections = b"".join(other if k == kind else x for k, x in parts.items())
                _, outcome, _, said = w.report(1, 0, sections, version=v)
                self.assertEqual(outcome, 3, text)
                self.assertRegex(said, text)
            _, outcome, _, said = w.report(1, 0, whole, version=v, flags=2)
            self.assertEqual(outcome, 3)
            self.assertIn("another set of flags", said)
            # A product that is nearly none differs by rounding alone: beside the others it's nothing.
            near = wire.grads([0, 1], [4.0, 0.5 + 1e-7, 1.0], 3e-4)
            sections = b"".join(near if k == 4 else x for k, x in parts.items())
            self.assertEqual(w.report(1, 0, sections, version=v)[1], 1)
        seen = d.stats("r")["feedback"]
        self.assertEqual((seen["accepted"], seen["diverged"]), (1, len(others) + 1))
        self.assertEqual(seen["last_divergence"]["part"], "set of flags")

    def test_implied_set(self):
        """A run that names no set is evaluated on its domains."""
        d = self.make(policy={"name": "skillit", "graph": [[1, 0.5], [0, 1]]})
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            info = w.attach("r")
            self.assertEqual((info["names"], info["eval_sizes"]), (["a", "b"], ()))
            for n in range(6):
                self.assertEqual(self.step(w, n, wire.evals(0, [(0, 0, 10, 10.0), (1, 0, 10, 50.0)]))
                                 [1], 0)
            with self.assertRaisesRegex(wire.Trouble, "eval set 1; there are 1: eval"):
                self.step(w, 6, wire.evals(1, [(0, 0, 1, 1.0)]))
        s = d.stats("r")
        self.assertGreater(s["mix_version"], 1)
        self.assertLess(s["domains"][0]["weight"], 0.5)  # 1 + 5 / 2 nats to be had from it, 5 there
        self.assertEqual(self.members(d, "eval"), {"a": (1.0, 5), "b": (5.0, 5)})


class AskedBack(FeedbackTest):
    def test_eval_wanted(self):
        """A policy that prescribes bursts and their evaluations gets what it asks for."""
        d = self.make(policy={"name": "aioli", "lp_rounds": 1, "lp_steps": 2, "update_steps": 10},
                      lead=0)
        asked = []
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            w.attach("r")
            for n in range(24):
                b = w.batch(1, n, 0, 8)
                sections = wire.train([(0, 4, 64, 128.0), (1, 4, 64, 128.0)])
                if b["flags"] & 1:
                    asked.append(n)
                    sections += wire.evals(0, [(0, 0, 10, 20.0 - n / 4), (1, 0, 10, 30.0 - n)])
                self.assertEqual(b["flags"] & ~1, 0)
                w.report(1, n, sections, version=b["mix_version"])
        self.assertGreater(len(asked), 2)
        self.assertLess(len(asked), 24)
        s = d.stats("r")
        self.assertEqual(s["feedback"]["evals"], 2 * len(asked))
        self.assertGreater(s["mix_version"], 2)

    def test_loss_weights(self):
        """The mix stays the prior; what the policy makes comes as weights, the same for ever."""
        d = self.make(policy={"name": "doge", "apply": "loss", "eps": 0.1},
                      domains={"a": {"weight": 0.75}, "b": {"weight": 0.25}}, batch_size=16)
        served = {}
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            w.attach("r")
            for n in range(8):
                b = w.batch(1, n, 0, 16)
                served[n] = b
                self.assertEqual(b["flags"] & 2, 2)
                self.assertEqual(sum(x == 0 for x in b["domains"]), 12)
                by_domain = {k: {x for x, y in zip(b["weights"], b["domains"]) if y == k}
                             for k in (0, 1)}
                self.assertEqual([len(by_domain[k]) for k in (0, 1)], [1, 1])
                self.assertAlmostEqual(sum(b["weights"]) / 16, 1, places=5)
                w.report(1, n, wire.train([(0, 12, 192, 192.0), (1, 4, 64, 640.0)]) +
                         wire.grads([0, 1], [1.0, 0.0, 3.0], 0.1), version=b["mix_version"])
            self.assertEqual(set(served[0]["weights"]), {1.0})
            self.assertGreater(served[7]["mix_version"], 1)
            self.assertGreater(max(served[7]["weights"]), 1.01)
            for n in (0, 3, 7):
                self.assertEqual(w.batch(1, n, 0, 16)["weights"], served[n]["weights"])
            part = w.batch(1, 7, 5, 3)
            self.assertEqual(part["weights"], served[7]["weights"][5:8])
        s = d.stats("r")
        self.assertAlmostEqual(s["domains"][0]["share"], 0.75, places=6)
        d.kill()
        self.daemons.remove(d)
        d = self.start()
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            w.attach("r")
            for n, b in served.items():
                again = w.batch(1, n, 0, 16)
                self.assertEqual((again["weights"], again["tokens"], again["mix_version"]),
                                 (b["weights"], b["tokens"], b["mix_version"]))


class Configs(FeedbackTest):
    def test_refused(self):
        """What a run can't do is said when it is created, with the key and the numbers."""
        self.tokens("a", 4096)
        self.tokens("b", 4096, 20000)
        d = self.start()
        for kw, text in (
                ({"policy": {"name": "oddm"}}, r"policy.name.*no policy .*oddm.*odm"),
                ({"policy": {"name": "odm", "beta": 1}}, r"policy.beta.*unknown; known here"),
                ({"policy": {"name": "skillit", "graph": [[1, 0]]}}, "1 rows, the run has 2 domains"),
                ({"policy": {"name": "dbl"}}, "policy dbl needs .*target"),
                ({"policy": {"name": "skillit", "eval_set": "x"}, "eval_sets": SETS},
                 "there is no eval set .*x.*; there are heldout, small"),
                ({"shadows": [{"name": "odm"}] * 9}, "at most 8 policies"),
                ({"domains": {"a": {"floor": 0.7}, "b": {"floor": 0.5}}}, "sum to 1.2, over 1")):
            said = self.create(d, code=1, **kw).stderr
            self.assertRegex(said, text)
            self.assertRegex(said, r"run\.json:\d+|config:\d+")
        self.create(d, shadows=[{"name": "odm"}], policy={"name": "static"})


if __name__ == "__main__":
    main()
