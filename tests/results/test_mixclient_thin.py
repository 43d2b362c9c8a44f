"""The Python binding against a real daemon: what it hands out is what mixctl shows."""
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "integration")]
import mixclient_thin  # noqa: E402
from harness import DaemonTest, main  # noqa: E402

LIBRARY = os.environ["MIXCLIENT"]
STEPS = 5


class ThinTest(DaemonTest):
    def setUp(self):
        super().setUp()
        self.raw = {name: self.tokens(name, 160, first) for name, first in (("a", 0), ("b", 999))}
        self.daemon = self.start()
        self.create(self.daemon, end={"steps": STEPS})
        self.client = mixclient_thin.Client(self.daemon.url, LIBRARY)
        self.addCleanup(self.client.close)

    def test_batches_are_those_of_the_run(self):
        run = self.client.attach("r")
        self.assertEqual((run.names, run.batch_size, run.seq_len), (["a", "b"], 8, 16))
        steps = []
        for batch in run:
            steps.append(batch.step)
            shown = self.json("batch", "r", "--step", batch.step, daemon=self.daemon)["slots"]
            got = [(run.names[d], s, e) for d, s, e in
                   zip(batch.domains, batch.samples, batch.epochs)]
            self.assertEqual(got, [(s["domain"], s["sample"], s["epoch"]) for s in shown])
            for tokens, s in zip(batch.tokens.tolist(), shown):
                raw = self.raw[s["domain"]][s["sample"] * 32:][:32]
                self.assertEqual(b"".join(t.to_bytes(2, "little") for t in tokens), raw)
        self.assertEqual(steps, list(range(STEPS)))

    def test_a_rank_gets_its_slots(self):
        both = [next(self.client.attach("r", rank, 2, 3)) for rank in range(2)]
        whole = next(self.client.attach("r", start_step=3))
        self.assertEqual([b.first_slot for b in both], [0, 4])
        self.assertEqual(both[0].tokens.tolist() + both[1].tokens.tolist(), whole.tokens.tolist())

    def test_losses_arrive(self):
        run = self.client.attach("r")
        step = next(run).step
        run.report(step, {"b": (24.5, 64, 4)})
        run.flush()
        self.assertEqual(run.feedback_counts()["accepted"], 1)
        loss = self.daemon.stats("r")["domains"]
        self.assertEqual([d["name"] for d in loss if d.get("loss") is not None], ["b"],
                         json.dumps(loss))

    def test_a_policy_acts_on_evaluations(self):
        self.create(self.daemon, name="s", feedback={"mode": "lockstep", "lag": 1},
                    end={"steps": STEPS}, eval_sets={"held": ["easy", "hard"]},
                    policy={"name": "skillit", "eta": 1, "update_steps": 2,
                            "graph": {"a": {"easy": 1}, "b": {"hard": 1}}})
        run, shares = self.client.attach("s"), []
        self.assertEqual(run.eval_sets, {"held": ["easy", "hard"]})
        for batch in run:
            shares.append([list(batch.domains).count(i) for i in range(2)])
            self.assertIsNone(batch.weights)
            self.assertFalse(batch.eval_wanted)
            run.report(batch.step, {"a": (2.0, 2, 1)},
                       {"held": {"hard": (90.0, 30, 3), "easy": (10.0, 10, 1)}})
        run.flush()
        self.assertEqual(shares[:2], [[4, 4]] * 2)
        # Losses of 1 and 3 in two evaluations: exp(2) to exp(6), of 8 samples all or all but one.
        self.assertTrue(all(b >= 7 for _, b in shares[2:]), shares)

    def test_what_a_run_does_not_have_is_not_posted(self):
        run = self.client.attach("r")
        step = next(run).step
        for args in (({"c": (1.0, 1, 1)},), ({}, {"eval": {"c": (1.0, 1, 1)}})):
            with self.assertRaises(ValueError):
                run.report(step, *args)
        self.assertEqual(run.feedback_counts()["posted"], 0)

    def test_refusals_have_the_daemons_words(self):
        with self.assertRaisesRegex(mixclient_thin.MixError, "nosuch"):
            self.client.attach("nosuch")
        run = self.client.attach("r")
        step = next(run).step
        run.report(step + 100, {"a": (1.0, 1, 1)})
        with self.assertRaisesRegex(mixclient_thin.MixError, str(step + 100)):
            run.flush()
        self.assertEqual(run.feedback_counts()["refused"], 1)


if __name__ == "__main__":
    main()
