"""The page of results: what is counted, how measurements are kept, and that the page in the tree is
what its measurements say."""
import math
import os
import shutil
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import page  # noqa: E402
import stats  # noqa: E402
from demo import methods, records, run, section  # noqa: E402


class StatsTest(unittest.TestCase):
    def test_interval(self):
        # Mean 3, deviation sqrt(2.5); 2.776 is t at 4 degrees of freedom.
        m, half = stats.interval([1, 2, 3, 4, 5])
        self.assertAlmostEqual(m, 3)
        self.assertAlmostEqual(half, 2.776 * math.sqrt(2.5) / math.sqrt(5))
        m, half = stats.interval([10.0, 12.0])
        self.assertAlmostEqual(m, 11)
        self.assertAlmostEqual(half, 12.706 * 1.0)
        self.assertEqual(stats.interval([7.0]), (7.0, math.inf))
        self.assertEqual(stats.interval([4.0, 4.0, 4.0]), (4.0, 0.0))

    def test_more_values_than_the_table_has_are_refused(self):
        self.assertAlmostEqual(stats.interval(range(31))[0], 15)
        with self.assertRaisesRegex(ValueError, "32 values"):
            stats.interval(range(32))

    def test_pairs_take_out_what_seeds_share(self):
        easy, hard = [1.0, 2.0, 3.0, 4.0, 5.0], [1.1, 2.11, 3.09, 4.1, 5.1]
        self.assertEqual(stats.verdict(stats.paired(hard, easy)), "higher")
        self.assertEqual(stats.verdict(stats.paired(easy, hard)), "lower")
        self.assertEqual(stats.verdict(stats.paired([1, 3, 2], [2, 2, 2])), "even")
        with self.assertRaises(ValueError):
            stats.paired([1.0], [1.0, 2.0])

    def test_one_pair_shows_nothing(self):
        self.assertEqual(stats.verdict(stats.paired([1.0], [2.0])), "even")

    def test_spread_is_of_a_whole(self):
        self.assertAlmostEqual(stats.spread_deviation([1, 3]), 1.0)
        self.assertAlmostEqual(stats.deviation([1, 3]), math.sqrt(2))

    def test_steps_to_reach(self):
        steps, losses = [10, 20, 30, 40], [4.0, 3.0, 3.5, 2.0]
        self.assertEqual(stats.steps_to_reach(steps, losses, 3.0), 20)
        self.assertEqual(stats.steps_to_reach(steps, losses, 3.25), 17.5)
        self.assertEqual(stats.steps_to_reach(steps, losses, 2.75), 35)
        self.assertEqual(stats.steps_to_reach(steps, losses, 5.0), 10)
        self.assertIsNone(stats.steps_to_reach(steps, losses, 1.9))


class LinesTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mixd-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.file = os.path.join(self.folder, "lines")

    def test_a_line_that_was_cut_off_makes_room(self):
        self.assertEqual(records.read_lines(self.file), [])
        for i in range(2):
            records.append_line(self.file, {"i": i})
        with open(self.file, "a", encoding="utf-8") as f:
            f.write('{"i":2')
        self.assertEqual(records.read_lines(self.file), [{"i": 0}, {"i": 1}])
        records.append_line(self.file, {"i": 3})
        self.assertEqual(records.read_lines(self.file), [{"i": 0}, {"i": 1}, {"i": 3}])

    def test_shares_are_of_what_was_trained_since(self):
        def train(step, **tokens):
            return {"kind": "train", "step": step,
                    "domains": {d: {"tokens": n} for d, n in tokens.items()}}

        def evaluated(step, loss):
            return {"kind": "eval", "step": step,
                    "domains": {d: {"loss": loss} for d in methods.DOMAINS}}

        got = run.curves([train(1, c=30, python=10), evaluated(2, 5.0), train(2, c=10, python=30),
                          train(3, german=8), evaluated(3, 4.5)])
        self.assertEqual(got["steps"], [2, 3])
        self.assertEqual(got["loss"]["tables"], [5.0, 4.5])
        self.assertEqual(got["share"]["c"], [0.5, 0.0])
        self.assertEqual(got["share"]["german"], [0.0, 1.0])

    def test_graph(self):
        start = dict.fromkeys(methods.DOMAINS, 4.0)
        ends = {i: {j: 1.0 if i == j else 5.0 for j in methods.DOMAINS} for i in methods.DOMAINS}
        self.assertEqual(methods.graph(start, ends),
                         [[0.75 if i == j else 0.0 for j in range(8)] for i in range(8)])

    def test_bins(self):
        got = methods.bins({d: i for i, d in enumerate(reversed(methods.DOMAINS))})
        self.assertEqual([got[d] for d in reversed(methods.DOMAINS)],
                         ["low"] * 3 + ["middle"] * 3 + ["high"] * 2)


def synthetic(finals, seeds=(1, 2, 3)):
    """Measurements in which all domains of a method end at finals[method], by seed a bit apart."""
    d = methods.DOMAINS
    got = [{"part": "corpus", "zlib": {x: 0.2 + i / 100 for i, x in enumerate(d)},
            "domains": {x: {"bytes": 1e6, "heldout_bytes": 1000} for x in d},
            "model": {"context": 1, "embed": 16, "wide": 16, "hidden": 16}}]

    def line(part, method, seed, final):
        return {"part": part, "method": method, "seed": seed,
                "config": {"batch_size": 2, "seq_len": 4}, "steps": [10, 20, 30, 40, 50],
                "loss": {x: [4.0, 3.5, 3.0, 2.5, final + seed / 1000] for x in d},
                "share": {x: [0.3 if x == "c" and method == "odm" else 0.1] * 5 for x in d}}

    got += [line("reference", "natural", s, 2.0) for s in records.REFERENCE_SEEDS]
    got += [line("far", "natural", s, 1.0) for s in records.FAR_SEEDS]
    return got + [line("method", m, s, f) for m, f in finals.items() for s in seeds]


class SectionTest(unittest.TestCase):
    def row(self, lines, mix):
        return next(line for line in lines if line.startswith(f"| {mix} |"))

    def test_who_wins_and_who_does_not(self):
        got = synthetic({"natural": 2.2, "uniform": 2.1, "odm": 2.0, "ado": 2.3, "dbl": 2.1})
        lines = section.section(got)
        self.assertIn("The best static mix is `uniform`. ", "\n".join(lines))
        self.assertIn("| -0.1000 ± 0.0000 | lower | 48 ± 0 (4 % fewer) |", self.row(lines, "odm"))
        self.assertIn("| +0.2000 ± 0.0000 | higher | never |", self.row(lines, "ado"))
        self.assertIn("| +0.0000 ± 0.0000 | no difference shown |", self.row(lines, "dbl"))
        self.assertIn("lower: `odm`; no difference shown: `dbl`; higher: `ado`.",
                      section.summary(got)[0])
        why = next(line for line in lines if line.startswith("- **odm**"))
        self.assertIn("ends lower than uniform, by -0.1000", why)
        self.assertIn("most more to c (10.0 to 30.0 %, loss -0.100 ± 0.000)", why)

    def test_pairs_that_are_missing(self):
        got = synthetic({"natural": 2.2, "uniform": 2.1, "odm": 2.0})
        with self.assertRaisesRegex(ValueError, "odm has other seeds"):
            section.section(got[:-1])

    def test_spread(self):
        got = synthetic({"natural": 2.2, "uniform": 2.1, "dbl": 2.0})
        for r in records.runs(got, "method"):
            r["loss"]["c"][-1] += 0.5 if r["method"] == "natural" else 0.1
        text = "\n".join(section.section(got))
        self.assertIn("`dbl` less `natural`: range +0.000 ± 0.000 at step 10 (no difference "
                      "shown) and -0.400 ± 0.000 at step 50 (smaller)", text)

    def test_nothing_measured_is_no_section(self):
        self.assertEqual(section.section(synthetic({})), [])
        self.assertEqual(section.summary(synthetic({})), [])


class PageTest(unittest.TestCase):
    def test_the_page_in_the_tree_is_what_its_measurements_say(self):
        with open(page.PAGE, encoding="utf-8") as f:
            self.assertEqual(f.read(), page.text(), "make results-page writes it anew")


if __name__ == "__main__":
    unittest.main(verbosity=2)
