"""The mixes that are compared on LEGO's five skills, and the runs that this takes. Pure.

`random` is what Skill-It's authors call so: the proportions of the data as it lies there, which
their script takes to be 1:1:1:3:5. `uniform` (their "stratified") is the better one of those that
know nothing of the skills. The others are Skill-It with its authors' settings, brought to this
length: a prior of equal shares, eta 0.5, rounds of a sixth of the run with 20 evaluations each, of
which the last 3 count. They differ in the graph: row i says what training on skill i helps, and an
edge between two skills counts half of what the skill itself counts."""
SKILLS = 5
NAMES = [f"lego{i + 1}" for i in range(SKILLS)]
BATCH, LENGTH = 64, 24
ROUNDS, EVALUATIONS, WINDOW, ETA = 6, 20, 3, 0.5

# What the authors' script for this task has: the second skill helps the first and the two after it.
PUBLISHED = [[1, 0, 0, 0, 0], [1, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
# The task as it is made: to answer for a letter takes the letter before it.
CHAIN = [[1 if j in (i, i + 1) else 0 for j in range(SKILLS)] for i in range(SKILLS)]


def _mix(weights, policy):
    return {"domains": {name: {"weight": w} for name, w in zip(NAMES, weights)}, "policy": policy}


def _skillit(graph, variant):
    own = {"variant": variant, "eta": ETA, "graph": graph}
    return lambda steps: _mix([1] * SKILLS, {"name": "skillit", **own, **(
        {"window": WINDOW, "update_steps": steps // ROUNDS} if variant == "online" else {})})


_METHODS = {
    "random": lambda steps: _mix([1, 1, 1, 3, 5], {"name": "static"}),
    "uniform": lambda steps: _mix([1] * SKILLS, {"name": "static"}),
    "skillit-static": _skillit(PUBLISHED, "static"),
    "skillit-online": _skillit(PUBLISHED, "online"),
    "skillit-chain": _skillit(CHAIN, "online"),
}
METHODS = list(_METHODS)
BASELINES = ["random", "uniform"]


def every(steps):
    """Steps from one evaluation to the next."""
    return max(1, steps // (ROUNDS * EVALUATIONS))


def config(method, seed, steps):
    """In lockstep what is drawn follows from config and losses, not from the machine's speed."""
    return {"name": f"{method}-{seed}", "seed": seed, "batch_size": BATCH, "seq_len": LENGTH,
            **_METHODS[method](steps), "feedback": {"mode": "lockstep", "lag": 1},
            "end": {"steps": steps}}


def missing(records, wanted, seeds, steps):
    """(method, seed) of the runs that have no line yet, seed by seed, so that what is there can be
    compared at any time. ValueError for a line that was measured with another config."""
    have = {(r["method"], r["seed"]): r["config"] for r in records}
    left = []
    for run in ((m, s) for s in range(1, seeds + 1) for m in wanted):
        if run not in have:
            left.append(run)
        elif have[run] != config(*run, steps):
            raise ValueError(f"{run[0]}, seed {run[1]}, was measured with another config; remove "
                             "its line, or the file, to measure anew")
    return left
