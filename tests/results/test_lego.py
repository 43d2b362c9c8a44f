"""LEGO's mixes, which of its runs are missing, and what its page says of them."""
import copy
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from lego import methods, section  # noqa: E402

STEPS = 1800


def line(method, seed, final, last=None):
    """A run with accuracy 0.5 and then `final` at all skills, or `last` at the last one, from the
    middle on; half of its samples are of the second skill."""
    n = 24  # records after the first
    step = [STEPS * i // n for i in range(n + 1)]
    right = [final] * (methods.SKILLS - 1) + [final if last is None else last]
    return {"method": method, "seed": seed, "skills": methods.NAMES,
            "config": methods.config(method, seed, STEPS), "step": step,
            "seen": [[s, 4 * s, s, s, s] for s in step],
            "loss": [[1 - final] * methods.SKILLS for _ in step],
            "accuracy": [right if i >= n // 2 else [0.5] * methods.SKILLS for i in range(n + 1)],
            "seconds": 1}


def measured(**finals):
    return [line(m.replace("_", "-"), s, f + s / 1000) for m, f in finals.items()
            for s in (1, 2, 3)]


class MethodsTest(unittest.TestCase):
    def test_graphs(self):
        # Every skill of the chain helps itself and the next.
        self.assertEqual(methods.CHAIN, [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0],
                                         [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]])
        helped = [j for j, a in enumerate(methods.PUBLISHED[1]) if a]
        self.assertEqual(helped, [0, 1, 2, 3])

    def test_configs(self):
        got = {m: methods.config(m, 3, STEPS) for m in methods.METHODS}
        self.assertEqual({c["seed"] for c in got.values()}, {3})
        weights = [d["weight"] for d in got["random"]["domains"].values()]
        self.assertEqual(weights, [1, 1, 1, 3, 5])
        online = got["skillit-online"]["policy"]
        self.assertEqual((online["update_steps"], online["window"], online["eta"]), (300, 3, 0.5))
        self.assertEqual(methods.every(STEPS), 15)
        self.assertNotIn("update_steps", got["skillit-static"]["policy"])

    def test_what_is_missing(self):
        there = [line("uniform", 1, 0.9), line("random", 2, 0.9)]
        self.assertEqual(methods.missing(there, ["random", "uniform"], 2, STEPS),
                         [("random", 1), ("uniform", 2)])
        with self.assertRaisesRegex(ValueError, "uniform, seed 1, was measured with another"):
            methods.missing(there, ["uniform"], 2, STEPS * 2)


class SectionTest(unittest.TestCase):
    def row(self, lines, *cells):
        begin = "| " + " | ".join(cells) + " |"
        return next(got for got in lines if got.startswith(begin))

    def test_who_wins_and_who_does_not(self):
        got = measured(random=0.6, uniform=0.7, skillit_static=0.65, skillit_online=0.95,
                       skillit_chain=0.7)
        lines = section.section(got)
        self.assertIn("| 95.2 ± 0.2 |", self.row(lines, "skillit-online"))
        self.assertIn("| +35.0 ± 0.0 | better |", self.row(lines, "skillit-online", "random"))
        self.assertIn("| -5.0 ± 0.0 | worse |", self.row(lines, "skillit-static", "uniform"))
        self.assertIn("| no difference shown |", self.row(lines, "skillit-chain", "uniform"))
        text = "\n".join(lines)
        self.assertIn("That it is ahead is shown at step 900, 1200, 1500 and 1800; an advantage of "
                      "36.5 points lies within none of the intervals", text)
        self.assertIn("There are 3 seeds", text)
        self.assertIn("`skillit-static` -5.0 ± 0.0 (worse)", section.summary(got)[0])

    def test_steps_to_the_goal(self):
        got = measured(random=0.6, uniform=0.7, skillit_online=0.9)
        row = self.row(section.section(got), "skillit-online")
        # From 0.5 at 825 to 0.901, 0.902 and 0.903 at 900.
        self.assertIn("| 900 ± 0 |", row)
        got[-1] = line("skillit-online", 3, 0.8)
        self.assertIn("| in 2 of 3 seeds |", self.row(section.section(got), "skillit-online"))
        self.assertIn("| never |", self.row(section.section(got), "uniform"))

    def test_skills_that_made_the_difference(self):
        got = measured(random=0.6, uniform=0.7)
        got += [line("skillit-online", s, 0.7 + s / 1000, 0.9) for s in (1, 2, 3)]
        why = next(w for w in section.section(got) if w.startswith("- **skillit-online**"))
        self.assertIn("by skill at the end: better at lego5 (+19.8 ± 0.2).", why)
        self.assertIn("on the way: better at step 900 (+4.0 ± 0.0), better at step 1200", why)

    def test_shares(self):
        got = measured(random=0.6, uniform=0.7, skillit_online=0.9)
        rows = [r for r in section.section(got) if r.startswith("| skillit-online | 12 50 12 12")]
        self.assertEqual(len(rows), 1)
        self.assertEqual(rows[0].count("12 50 12 12 12"), methods.ROUNDS)

    def test_seeds_that_not_all_have_do_not_count(self):
        got = measured(random=0.6, uniform=0.7, skillit_online=0.9)
        self.assertIn("There are 2 seeds", "\n".join(section.section(got[:-1])))
        self.assertEqual(section.section(got[:-2]), [])
        self.assertEqual(section.summary(got[:-2]), [])

    def test_nothing_to_compare_is_no_section(self):
        self.assertEqual(section.section([]), [])
        self.assertEqual(section.section(measured(random=0.6, uniform=0.7)), [])
        self.assertEqual(section.section(measured(uniform=0.7, skillit_online=0.9)), [])

    def test_runs_of_other_lengths_are_refused(self):
        got = copy.deepcopy(measured(random=0.6, uniform=0.7, skillit_online=0.9))
        got[0]["step"][-1] += 1
        with self.assertRaisesRegex(ValueError, "other steps"):
            section.section(got)


if __name__ == "__main__":
    unittest.main(verbosity=2)
