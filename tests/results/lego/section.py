"""The part of docs/results.md about LEGO's five skills: from the lines of run.py to text. Pure."""
import stats

from demo.section import listed, table
from lego import methods

CLAIM = 36.5   # points of accuracy, Skill-It over random, in the paper's abstract
GOAL = 0.9     # mean accuracy whose first step is told
BETTER = {"higher": "better", "lower": "worse", "even": "no difference shown"}
HOW = {
    "skillit-static": "The second skill helps three others in its graph and so gets 35 % for the "
                      "whole run, known or not; the others share the rest alike.",
    "skillit-online": "It begins as skillit-static does. From then on a skill counts by its own "
                      "loss and half of the losses of those it helps: the second gets most while "
                      "the first four are unknown, and those still unknown get more as it is "
                      "learned.",
    "skillit-chain": "In its graph each skill helps the next. So all but the last begin alike, a "
                     "skill loses its share when it and the next one are known, and the last "
                     "skill, which helps none, has the least of those that are unknown.",
}


# ---- numbers as text ----

def points(interval, sign=False):
    """Of parts of 1, in points of a hundred."""
    m, half = interval
    return f"{100 * m:{'+' if sign else ''}.1f} ± {100 * half:.1f}"


def loss(interval):
    return f"{interval[0]:.3f} ± {interval[1]:.3f}"


# ---- what the lines say ----

class Measured:
    """Runs by method, of those seeds that all methods have; none of fewer than two seeds."""

    def __init__(self, records):
        runs = {(r["method"], r["seed"]): r for r in records}
        there = [m for m in methods.METHODS if any(m == method for method, _ in runs)]
        self.seeds = [s for s in sorted({seed for _, seed in runs})
                      if all((m, s) in runs for m in there)]
        self.by = {}
        if len(self.seeds) < 2 or not set(methods.BASELINES) <= set(there):
            return
        self.by = {m: [runs[m, s] for s in self.seeds] for m in there}
        self.steps = self.by["uniform"][0]["step"]
        for mine in self.by.values():
            if any(r["step"] != self.steps or r["skills"] != methods.NAMES for r in mine):
                raise ValueError("LEGO was measured at other steps, or with other skills, in some "
                                 "of the runs")

    def others(self):
        return [m for m in self.by if m not in methods.BASELINES]

    def accuracy(self, method, at):
        """Per seed: the mean over skills at a record."""
        return [stats.mean(r["accuracy"][at]) for r in self.by[method]]

    def of_skill(self, method, what, skill):
        """Per seed, at the end."""
        return [r[what][-1][skill] for r in self.by[method]]

    def difference(self, method, other, at):
        return stats.paired(self.accuracy(method, at), self.accuracy(other, at))

    def round_places(self):
        """Records at which rounds end, the beginning first."""
        n = len(self.steps) - 1
        return [n * i // methods.ROUNDS for i in range(methods.ROUNDS + 1)]

    def marks(self):
        """Those that are shown: from the middle of the run on."""
        return self.round_places()[methods.ROUNDS // 2:]

    def shares(self, method, begin, end):
        """Of each skill, mean over seeds."""
        got = []
        for skill in range(methods.SKILLS):
            got.append(stats.mean([
                (r["seen"][end][skill] - r["seen"][begin][skill]) /
                (sum(r["seen"][end]) - sum(r["seen"][begin])) for r in self.by[method]]))
        return got

    def reached(self, method):
        """Per seed: steps to the goal, or None."""
        return [stats.steps_to_reach(self.steps, [1 - stats.mean(a) for a in r["accuracy"]],
                                     1 - GOAL) for r in self.by[method]]


# ---- paragraphs ----

def setting(m):
    end, n = m.steps[-1], len(m.seeds)
    tokens = end * methods.BATCH * methods.LENGTH
    return [
        "## Five skills in a chain: Skill-It's LEGO", "",
        "The task of Skill-It (Chen et al., 2023, arXiv:2307.14430) in few bytes. An example gives "
        "five letters' values in random order, the first one outright, each other one as the same "
        "as or the opposite of the one before, as in `b!y r=1 m=b q=m y!r?q=0`. Skill `lego3` is "
        "to answer for the third letter of the chain, which takes three of the clauses. Answers "
        "are 0 or 1, so that half are right by chance. Each skill is a domain; no example comes "
        "twice in a run, and those that are tested on come in none. `random` is what the authors "
        "call so, which in their script is 1:1:1:3:5, and `uniform` gives the skills equal "
        "shares. `skillit-static` and `skillit-online` are Skill-It with the graph that the "
        "authors' script for this task has (the second skill helps the first, the third and the "
        "fourth; all others help only themselves); `skillit-chain` is the online one with the "
        "chain itself, each skill helping the next. eta, window and rounds are the authors': "
        f"{methods.ETA}, {methods.WINDOW} evaluations, {methods.ROUNDS} rounds with "
        f"{methods.EVALUATIONS} evaluations each.", "",
        "The model is a transformer of width 64 whose one block is applied five times "
        "(`tests/results/lego/model.py`), from scratch, where the authors go on training GPT-Neo "
        f"125M for 6000 steps. It trains for {end} steps of {methods.BATCH} examples, "
        f"{tokens / 1e6:.1f} million tokens, with PyTorch through a binding of `libmixclient`; the "
        "losses of 200 held-out examples of each skill go back to the daemon, in lockstep. Model "
        f"and length were chosen with static mixes. There are {n} seeds; runs of a seed begin with "
        "the same model and read each skill's examples in the same order, and are pairs. "
        f"Intervals are 95 % (t distribution, {n} seeds), each by itself: of many, some miss.", "",
    ]


def reached_text(m, method):
    got = [g for g in m.reached(method) if g is not None]
    if len(got) < len(m.seeds):
        return f"in {len(got)} of {len(m.seeds)} seeds" if got else "never"
    mean, half = stats.interval(got)
    return f"{mean:.0f} ± {half:.0f}"


def outcome(m):
    marks, names = m.marks(), [f"step {m.steps[i]}" for i in m.marks()]
    lines = ["### What came of it", "",
             f"Mean accuracy over the skills, %; the steps until it is {100 * GOAL:.0f} %; mean "
             "held-out loss at the end, nats:", ""]
    lines += table(["mix"] + names + [f"steps to {100 * GOAL:.0f} %", "final loss"], [
        [method] + [points(stats.interval(m.accuracy(method, i))) for i in marks] +
        [reached_text(m, method), loss(stats.interval(
            [stats.mean(r["loss"][-1]) for r in m.by[method]]))] for method in m.by])
    lines += ["Differences in points, pair by pair, and what the one at the end shows:", ""]
    pairs = [(a, b) for b in methods.BASELINES for a in m.by if a not in methods.BASELINES]
    pairs.append(("uniform", "random"))
    lines += table(["mix", "less"] + names + ["at the end"], [
        [a, b] + [points(m.difference(a, b, i), sign=True) for i in marks] +
        [BETTER[stats.verdict(m.difference(a, b, -1))]] for a, b in pairs])
    return lines


def by_skill(m):
    lines = []
    for what, text, form in (("accuracy", "Final accuracy by skill, %:", points),
                             ("loss", "Final loss by skill, nats:", loss)):
        lines += [text, ""]
        lines += table(["mix"] + methods.NAMES, [
            [method] + [form(stats.interval(m.of_skill(method, what, i)))
                        for i in range(methods.SKILLS)] for method in m.by])
    lines += ["Shares of the five skills in each round, %, mean over seeds:", ""]
    places = m.round_places()
    rounds = list(zip(places, places[1:]))
    return lines + table(["mix"] + [f"to step {m.steps[end]}" for _, end in rounds], [
        [method] + [" ".join(f"{100 * s:.0f}" for s in m.shares(method, *r)) for r in rounds]
        for method in m.by])


def moved(m, method, other):
    """Skills whose accuracy at the end differs from another mix's."""
    said = {"higher": [], "lower": []}
    for i, name in enumerate(methods.NAMES):
        d = stats.paired(m.of_skill(method, "accuracy", i), m.of_skill(other, "accuracy", i))
        if stats.verdict(d) != "even":
            said[stats.verdict(d)].append(f"{name} ({points(d, sign=True)})")
    words = [f"{word} at {listed(said[state])}"
             for state, word in (("higher", "better"), ("lower", "worse")) if said[state]]
    return listed(words) if words else "no difference shown at any single skill"


def on_the_way(m, method, other):
    """Steps before the end at which a difference is shown."""
    said = []
    for i in m.marks()[:-1]:
        d = m.difference(method, other, i)
        if stats.verdict(d) != "even":
            said.append(f"{BETTER[stats.verdict(d)]} at step {m.steps[i]} ({points(d, sign=True)})")
    return listed(said) if said else "no difference shown"


def reasons(m):
    lines = ["### Why", ""]
    for method in m.others():
        said = [f"less {b}, at the end: {points(d, sign=True)} ({BETTER[stats.verdict(d)]})"
                for b in methods.BASELINES for d in [m.difference(method, b, -1)]]
        lines.append(f"- **{method}** {'; '.join(said)}. {HOW[method]} Against uniform on the "
                     f"way: {on_the_way(m, method, 'uniform')}; by skill at the end: "
                     f"{moved(m, method, 'uniform')}.")
    d = m.difference("random", "uniform", -1)
    share = m.shares("random", 0, len(m.steps) - 1)
    lines += [f"- **random** less uniform, at the end: {points(d, sign=True)} "
              f"({BETTER[stats.verdict(d)]}). It gives {100 * share[4]:.0f} % to the last skill "
              f"and {100 * share[1]:.0f} % to the second, which the deeper ones rest on. By "
              f"skill: {moved(m, 'random', 'uniform')}."]
    ends = m.accuracy("uniform", -1)
    lines += ["- How wide the intervals are: a skill is learned rather suddenly, sooner with one "
              f"seed and later with another. Under uniform the seeds end between "
              f"{100 * min(ends):.1f} and {100 * max(ends):.1f} %.", ""]
    return lines


def claim(m):
    mix = "skillit-online"
    if mix not in m.by:
        return []
    at = [(m.steps[i], m.difference(mix, "random", i)) for i in m.marks()]
    size = [str(step) for step, (mean, half) in at if abs(mean - CLAIM / 100) <= half]
    ahead = [str(step) for step, d in at if stats.verdict(d) == "higher"]
    over, even = m.difference(mix, "uniform", -1), m.difference("uniform", "random", -1)
    text = (f"The paper's abstract reports {CLAIM} points more accuracy than random sampling on "
            f"LEGO. Here `{mix}` less `random` is "
            + listed([f"{points(d, sign=True)} at step {step}" for step, d in at])
            + ". That it is ahead is shown at "
            + (f"step {listed(ahead)}" if ahead else "none of these steps")
            + f"; an advantage of {CLAIM} points lies within "
            + (f"the interval at step {listed(size)}" if size else "none of the intervals")
            + f". Equal shares alone, `uniform` less `random`, make {points(even, sign=True)} at "
            f"the end; `{mix}` adds {points(over, sign=True)} to that "
            f"({BETTER[stats.verdict(over)]}). ")
    if "skillit-chain" in m.by:
        d = m.difference("skillit-chain", mix, -1)
        text += (f"With the true chain as graph in place of the authors' it ends "
                 f"{points(d, sign=True)} ({BETTER[stats.verdict(d)]}). ")
    text += ("The model here is far smaller and begins from nothing, and the run is shorter: that "
             "alone can make an effect of another size.")
    return ["### The paper's claim", "", text, ""]


def summary(records):
    """Points for the top of the page."""
    m = Measured(records)
    if not m.others():
        return []
    said = []
    for b in methods.BASELINES:
        rows = [(method, m.difference(method, b, -1)) for method in m.others()]
        said.append(f"against `{b}` " + listed(
            [f"`{method}` {points(d, sign=True)} ({BETTER[stats.verdict(d)]})"
             for method, d in rows]))
    return [f"- LEGO's five skills, points of mean accuracy after equal tokens, {len(m.seeds)} "
            f"seeds: {'; '.join(said)}. The paper reports +{CLAIM} over random."]


def section(records):
    """Lines of the page; [] if there is nothing to compare."""
    m = Measured(records)
    if not m.others():
        return []
    return setting(m) + outcome(m) + by_skill(m) + reasons(m) + claim(m)
