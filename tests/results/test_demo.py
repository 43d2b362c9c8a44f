"""The comparison on the demo's corpus in miniature, with every method. meson gives the folder of
the build in BUILD."""
import contextlib
import io
import os
import shutil
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from demo import methods, records, run, section  # noqa: E402

BUILD = os.environ.get("BUILD", "build")
FIRST = ["--only", "natural", "--only", "uniform"]


class MiniatureTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mixd-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.out = os.path.join(self.folder, "demo.jsonl")

    def argv(self, *more, steps=12):
        return ["--build", BUILD, "--out", self.out, "--seeds", "1", "--steps", str(steps),
                "--every", "4", "--bytes", "60000", "--heldout", "2000", *more]

    def run_it(self, *more):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertEqual(run.main(self.argv(*more)), 0)
        return said.getvalue()

    def test_goes_on_where_it_stopped(self):
        self.assertFalse(run.complete(run.arguments(self.argv(*FIRST))))
        self.run_it(*FIRST)
        self.assertTrue(run.complete(run.arguments(self.argv(*FIRST))))
        self.assertFalse(run.complete(run.arguments(self.argv())))
        first = records.read_lines(self.out)
        self.assertEqual(len(first), 1 + 2)
        self.assertEqual(self.run_it().count("\n"), 5 + 8 + len(methods.NAMES) - 2)
        self.assertTrue(run.complete(run.arguments(self.argv())))
        self.assertEqual(self.run_it(), "")
        got = records.read_lines(self.out)
        self.assertEqual(got[:len(first)], first)
        self.check(got)
        with self.assertRaisesRegex(run.Trouble, "was measured with another config"):
            run.complete(run.arguments(self.argv(steps=16)))

    def check(self, got):
        by = {r["method"]: r for r in records.runs(got, "method")}
        self.assertCountEqual(by, methods.NAMES)
        for r in by.values():
            self.assertEqual(r["steps"], [4, 8, 12])
            for shares in zip(*r["share"].values()):
                self.assertAlmostEqual(sum(shares), 1, 2)
        for d, share in by["uniform"]["share"].items():
            self.assertAlmostEqual(share[-1], 1 / 8, 6, d)
        # What learns from evaluations was told of one at step 4, and moved.
        for method in ("skillit", "dbl", "dbl-far"):
            self.assertNotEqual(by[method]["loss"], by["natural"]["loss"], method)
        text = "\n".join(section.section(got))
        self.assertIn("## Do losses even out?", text)

    def test_another_corpus_is_not_mixed_in(self):
        self.run_it(*FIRST)
        got = self.argv("--only", "natural", "--only", "odm")
        got[got.index("60000")] = "50000"
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(run.main(got), 1)
        self.assertIn("was measured on another corpus", said.getvalue())


if __name__ == "__main__":
    unittest.main(verbosity=2)
