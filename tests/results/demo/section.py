"""The part of docs/results.md about the demo's corpus: from the lines of run.py to text. Pure."""
import stats

from demo import methods
from demo.records import known, runs

MARKS = 5  # points of a run at which losses are shown
# What each method does by its construction; what came of it is in the measurements.
HOW = {
    "odm": "Its weights are linear in exp(loss): a domain whose loss is high gets more, whether or "
           "not more of it lowers the loss, and of the natural proportions nothing is left.",
    "odm-paper": "The exponents of its weights are multiplied by the exploration rate, at most 1/K "
                 "and falling, so that they stay near to even.",
    "ado": "It fits a law of how each loss falls and follows the slopes; up to its first fit it is "
           "static, and natural proportions stay a factor of the mix.",
    "skillit": "It multiplies the natural proportions by exp(0.2 x graph x losses): what helps "
               "many domains that are still bad gets more.",
    "dbl": "It multiplies a domain's weight at each evaluation by exp(loss - target), so that what "
           "is furthest from its target gets more, and what is past it less. The targets are what "
           "static natural proportions reach.",
    "dbl-far": "As dbl, with targets that no run of this length reaches.",
    "agents": "An agent for the kind of text and one for how compressible it is value what lowers "
              "its loss most from one step to the next; a console weighs them by their merits.",
}


# ---- numbers as text ----

def pm(interval, digits=4, sign=False):
    m, half = interval
    return f"{m:{'+' if sign else ''}.{digits}f} ± {half:.{digits}f}"


def percent(x):
    return f"{100 * x:.1f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def listed(words):
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


# ---- what the lines say ----

class Measured:
    """The comparison's runs by method, in the order of seeds."""

    def __init__(self, records):
        self.corpus, self.known = records[0], known(records)
        self.references = {p: runs(records, p) for p in ("reference", "far", "alone")}
        got = runs(records, "method")
        self.by = {m: sorted((r for r in got if r["method"] == m), key=lambda r: r["seed"])
                   for m in methods.NAMES if any(r["method"] == m for r in got)}
        self.seeds = [r["seed"] for r in self.by["natural"]]
        for m, mine in self.by.items():
            if [r["seed"] for r in mine] != self.seeds:
                raise ValueError(f"{m} has other seeds than natural: pairs are missing")
        self.steps = self.by["natural"][0]["steps"]
        self.best = min(methods.STATIC, key=lambda m: stats.mean(self.final(m)))

    def mean_curves(self, method):
        """Per seed: the mean over domains at each evaluation."""
        return [[stats.mean(at) for at in zip(*r["loss"].values())] for r in self.by[method]]

    def final(self, method):
        return [c[-1] for c in self.mean_curves(method)]

    def of_domain(self, method, domain):
        return [r["loss"][domain][-1] for r in self.by[method]]

    def worst(self, method):
        """Per seed: the loss of the domain that is worst at the end."""
        return [max(v[-1] for v in r["loss"].values()) for r in self.by[method]]

    def share(self, method, domain, part=1.0):
        """Mean over seeds of a domain's share of the samples in the last part of the run."""
        n = max(1, round(len(self.steps) * part))
        return stats.mean([stats.mean(r["share"][domain][-n:]) for r in self.by[method]])

    def reached(self, method):
        """Per seed: steps to the best static mix's final loss of that seed, or None."""
        return [stats.steps_to_reach(self.steps, curve, target)
                for curve, target in zip(self.mean_curves(method), self.final(self.best))]

    def marks(self):
        """Places of evaluations that are shown: evenly over the run, the last one among them."""
        n = len(self.steps)
        return [n * (i + 1) // MARKS - 1 for i in range(MARKS)]


# ---- paragraphs ----

def setting(m):
    shape, natural = m.corpus["model"], m.by["natural"][0]
    tokens = natural["steps"][-1] * natural["config"]["batch_size"] * natural["config"]["seq_len"]
    total = sum(row["bytes"] for row in m.corpus["domains"].values())
    target, bins = m.known["target"], methods.bins(m.corpus["zlib"])
    lines = [
        "## Eight domains of real text", "",
        "The demo's corpus and its C trainer (`client/examples`): a byte-level model with "
        f"{shape['context']} bytes of context and layers of {shape['wide']} and {shape['hidden']}, "
        "the demo's own with a learning rate that falls faster, trained for "
        f"{m.steps[-1]} steps, {tokens / 1e6:.1f} million bytes, under each mix with "
        f"{len(m.seeds)} seeds. A seed fixes the first parameters and the order of the data; "
        "runs of a seed are pairs, and differences are taken pair by pair. Every "
        f"{m.steps[0]} steps the loss of each domain's held-out text is measured and posted; mean "
        "loss is the plain mean over the domains, nats per byte. Intervals are 95 % (t "
        f"distribution, {len(m.seeds)} seeds): they speak of other seeds, not of other held-out "
        "text. Feedback acts in lockstep two steps later, so that the same command gives the same "
        "numbers.", "",
    ]
    lines += table(["domain", "MB", "natural, %", "zlib", "kind", "held out, kB", "target"], [
        [d, f"{row['bytes'] / 1e6:.1f}", percent(row["bytes"] / total),
         f"{m.corpus['zlib'][d]:.3f}", f"{methods.KIND[d]}, {bins[d]}",
         f"{row['heldout_bytes'] / 1e3:.0f}", f"{target[d]:.3f}"]
        for d, row in m.corpus["domains"].items()])
    n = {p: len(m.references[p]) for p in ("reference", "far")}
    lines += [
        f"The target of a domain (`dbl`) is the mean final loss of {n['reference']} other runs of "
        f"static natural proportions; that of `dbl-far` comes from {n['far']} runs three times as "
        "long. Skill-It's graph comes from one run per domain on it alone, a fifth as long: the "
        "relative drop of each held-out loss. What these runs cost isn't counted below. The "
        "attributes of `agents` are the kind and the third that the domain is in by how well zlib "
        "compresses it. The other settings are published ones, brought to this length; nothing was "
        "tuned on these losses.", ""]
    return lines


def reached_text(m, method):
    got = m.reached(method)
    there = [g for g in got if g is not None]
    if len(there) < len(got):
        return f"in {len(there)} of {len(got)} seeds" if there else "never"
    mean, half = stats.interval(there)
    saved = 1 - mean / m.steps[-1]
    return f"{mean:.0f} ± {half:.0f}" + (f" ({100 * saved:.0f} % fewer)" if saved >= 0.005 else "")


def outcome(m):
    rows = []
    for method in m.by:
        against = stats.paired(m.final(method), m.final(m.best))
        rows.append([f"**{method}**" if method == m.best else method,
                     pm(stats.interval(m.final(method))),
                     "" if method == m.best else pm(against, sign=True),
                     "" if method == m.best else
                     {"lower": "lower", "higher": "higher", "even": "no difference shown"}[
                         stats.verdict(against)],
                     reached_text(m, method), pm(stats.interval(m.worst(method)))])
    lines = ["### What came of it", "",
             f"The best static mix is `{m.best}`. \"Steps\" are those to its final mean loss of "
             f"the same seed, of {m.steps[-1]}.", ""]
    lines += table(["mix", "final mean loss", f"less {m.best}'s", "", "steps", "worst domain"],
                   rows)
    lines += ["Mean loss on the way:", ""]
    marks = m.marks()
    lines += table(["mix"] + [f"step {m.steps[i]}" for i in marks], [
        [method] + [pm(stats.interval([c[i] for c in m.mean_curves(method)]), 3) for i in marks]
        for method in m.by])
    return lines


def by_domain(m):
    lines = ["Final loss by domain:", ""]
    lines += table(["mix"] + methods.DOMAINS, [
        [method] + [pm(stats.interval(m.of_domain(method, d)), 3) for d in methods.DOMAINS]
        for method in m.by])
    lines += ["The mixes they ended at: shares of the samples of the last tenth of the run, %, "
              "mean over seeds:", ""]
    lines += table(["mix"] + methods.DOMAINS, [
        [method] + [percent(m.share(method, d, 0.1)) for d in methods.DOMAINS] for method in m.by])
    return lines


def moved(m, method, domains):
    """Of domains: shares over the run beside the best static mix's, and what became of the loss."""
    return listed([
        f"{d} ({percent(m.share(m.best, d))} to {percent(m.share(method, d))} %, loss "
        f"{pm(stats.paired(m.of_domain(method, d), m.of_domain(m.best, d)), 3, sign=True)})"
        for d in domains])


def why(m, method):
    """A method against the best static mix, by where its samples went."""
    against = stats.paired(m.final(method), m.final(m.best))
    said = {"lower": f"ends lower than {m.best}, by", "higher": f"ends higher than {m.best}, by",
            "even": f"shows no difference to {m.best}:"}[stats.verdict(against)]
    change = {d: m.share(method, d) - m.share(m.best, d) for d in methods.DOMAINS}
    order = sorted(methods.DOMAINS, key=lambda d: change[d])
    most = max(abs(c) for c in change.values())
    text = f"- **{method}** {said} {pm(against, sign=True)}. {HOW[method]} "
    if most < 0.01:
        return text + (f"Over the run no share differs from {m.best}'s by more than "
                       f"{100 * most:.1f} points.")
    more = [d for d in methods.DOMAINS if change[d] > 0]
    less = [d for d in methods.DOMAINS if change[d] < 0]
    total = {}
    for name, group in (("more", more), ("less", less)):
        total[name] = sum(stats.mean(m.of_domain(method, d)) - stats.mean(m.of_domain(m.best, d))
                          for d in group)
    return text + (
        f"Over the run it gave most more to {moved(m, method, order[:-3:-1])}, and most less to "
        f"{moved(m, method, order[:2])}. The losses of all {len(more)} domains with more samples "
        f"than under {m.best} changed by {total['more']:+.3f} together, those of the "
        f"{len(less)} with fewer by {total['less']:+.3f}.")


def reasons(m):
    lines = ["### Why", ""]
    for method in m.by:
        if method not in methods.STATIC:
            lines += [why(m, method)]
    return lines + [""]


# ---- LLM-Shearing's claim ----

def spreads(m, method, target, at):
    """Per seed, of loss minus target over domains: (greatest less least, standard deviation)."""
    got = []
    for r in m.by[method]:
        gaps = [r["loss"][d][at] - target[d] for d in methods.DOMAINS]
        got.append((max(gaps) - min(gaps), stats.spread_deviation(gaps)))
    return got


def claim(m, method, which, statics):
    """A table of one dynamic mix and the static ones under one set of targets, and what it says."""
    target, marks = m.known[which], m.marks()
    lines, rows = [], []
    for place, name in enumerate(("range", "standard deviation")):
        for mix in [method] + statics:
            rows.append([mix, name] + [
                pm(stats.interval([s[place] for s in spreads(m, mix, target, i)]), 3)
                for i in marks])
    lines += table(["mix", "spread"] + [f"step {m.steps[i]}" for i in marks], rows)
    for static in statics:
        said = []
        for place, word in enumerate(("range", "standard deviation")):
            words = []
            for i in (marks[0], marks[-1]):
                d = stats.paired([s[place] for s in spreads(m, method, target, i)],
                                 [s[place] for s in spreads(m, static, target, i)])
                state = {"lower": "smaller", "higher": "larger", "even": "no difference shown"}
                words.append(
                    f"{pm(d, 3, sign=True)} at step {m.steps[i]} ({state[stats.verdict(d)]})")
            said.append(f"{word} {listed(words)}")
        lines += [f"- `{method}` less `{static}`: {'; '.join(said)}."]
    return lines + [""]


def shearing(m):
    lines = ["## Do losses even out? LLM-Shearing's claim", "",
             "Dynamic batch loading is said to even out loss less target over the domains. Here is "
             "how far apart held-out loss less target lies over the domains, in the runs above: "
             "the range (greatest less least) and the standard deviation.", ""]
    statics = [s for s in methods.STATIC if s in m.by]
    if "dbl" in m.by:
        lines += ["With the losses that static natural proportions reach as targets. `natural` "
                  "ends on them by construction, but for the seed; on the way, and for `uniform`, "
                  "there is something to even out:", ""]
        lines += claim(m, "dbl", "target", statics)
    if "dbl-far" in m.by:
        lines += ["With targets that none reaches, the losses of runs three times as long, as the "
                  "paper's targets are those of a model that was trained on far more data:", ""]
        lines += claim(m, "dbl-far", "far_target", statics)
    return lines


def summary(records):
    """Points for the top of the page."""
    if not runs(records, "method"):
        return []
    m = Measured(records)
    by = {"lower": [], "higher": [], "even": []}
    for method in m.by:
        if method not in methods.STATIC:
            by[stats.verdict(stats.paired(m.final(method), m.final(m.best)))].append(f"`{method}`")
    said = [f"{word} {listed(by[state])}" for state, word in (
        ("lower", "lower:"), ("even", "no difference shown:"), ("higher", "higher:")) if by[state]]
    return [f"- Eight domains of real text, mean held-out loss after equal tokens, against the "
            f"best static mix (`{m.best}`): {'; '.join(said)}."]


def section(records):
    """Lines of the page; [] if nothing has been measured."""
    if not runs(records, "method"):
        return []
    m = Measured(records)
    return setting(m) + outcome(m) + by_domain(m) + reasons(m) + shearing(m)
