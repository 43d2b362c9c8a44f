"""The mixes that are compared on the demo's corpus, each a part of a run's config. Pure.

Settings are those that papers or their code publish, with what they count in steps brought to the
length of these runs. Nothing was tuned on the losses that the page reports."""
DOMAINS = ["c", "changelog", "dictionary", "english", "german", "japanese", "python", "tables"]
KIND = {"c": "code", "python": "code", "english": "prose", "german": "prose", "japanese": "prose",
        "changelog": "structured", "dictionary": "structured", "tables": "structured"}
# The runs before the comparison that a method takes something from: see known() of records.py.
NEEDS = {"skillit": "alone", "dbl": "reference", "dbl-far": "far"}


def graph(start, ends):
    """Skill-It's graph by its cheap approximation. start: loss of each domain before training;
    ends: by domain, the losses after training on it alone. Row i: what training on i helps j."""
    return [[round(max(0.0, (start[j] - ends[i][j]) / start[j]), 4) for j in DOMAINS]
            for i in DOMAINS]


def bins(ratios):
    """Domains by how well zlib compresses them: the lowest third, the middle and the highest."""
    order = sorted(DOMAINS, key=lambda d: ratios[d])
    return {d: ("low", "middle", "high")[3 * i // len(order)] for i, d in enumerate(order)}


def _plain(policy):
    return lambda steps, every, known: {"domains": {d: {} for d in DOMAINS}, "policy": policy}


def _uniform(steps, every, known):
    return {"domains": {d: {"weight": 1} for d in DOMAINS}, "policy": {"name": "static"}}


def _odm(name, part):
    """The warm-up is a part of the run: 2000 steps of 100,000 in the authors' scripts, 1 % in the
    paper."""
    return lambda steps, every, known: {
        "domains": {d: {} for d in DOMAINS},
        "policy": {"name": name, "alpha": 0.9, "warmup_steps": int(steps * part)}}


def _ado(steps, every, known):
    """The authors begin to fit after 1000 of some 60,000 steps, ignore the first 500 and fit again
    every 1000; a fit needs 101 steps at least."""
    return {"domains": {d: {} for d in DOMAINS},
            "policy": {"name": "ado", "start_step": steps // 10, "ignore_steps": steps // 30,
                       "update_interval": max(1, steps // 15)}}


def _skillit(steps, every, known):
    """A round is two evaluations long, here a tenth of the run; the window is the authors'. eta as
    in the paper's runs with the most skills."""
    return {"domains": {d: {} for d in DOMAINS},
            "policy": {"name": "skillit", "eta": 0.2, "window": 3, "update_steps": 2 * every,
                       "graph": known["graph"]}}


def _dbl(which):
    return lambda steps, every, known: {
        "domains": {d: {} for d in DOMAINS},
        "policy": {"name": "dbl", "target": {d: known[which][d] for d in DOMAINS}}}


def _agents(steps, every, known):
    of = bins(known["zlib"])
    return {"domains": {d: {"attributes": {"kind": KIND[d], "entropy": of[d]}} for d in DOMAINS},
            "policy": {"name": "agents", "signal": "loss_drop"}}


_METHODS = {
    "natural": _plain({"name": "static"}),
    "uniform": _uniform,
    "odm": _odm("odm", 0.02),
    "odm-paper": _odm("odm-paper", 0.01),
    "ado": _ado,
    "skillit": _skillit,
    "dbl": _dbl("target"),
    "dbl-far": _dbl("far_target"),
    "agents": _agents,
}
NAMES = list(_METHODS)
STATIC = ["natural", "uniform"]


def config(method, steps, every, known):
    """The `domains` and `policy` of a run of so many steps, evaluated every so many."""
    return _METHODS[method](steps, every, known)


def one_hot(domain):
    """A mix of one domain alone. The others are there with nothing: the model is evaluated on
    them."""
    other = {"weight": 1, "pin": 0}
    return {"domains": {d: {"weight": 1} if d == domain else other for d in DOMAINS},
            "policy": {"name": "static"}}
