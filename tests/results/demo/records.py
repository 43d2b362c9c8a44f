"""The file of measurements of run.py: its lines, and what those from before the comparison teach.

The first line describes corpus and model (`part`: corpus); every other one is a training run, its
`part` being reference, far, alone or method."""
import json
import os

from demo import methods

REFERENCE_SEEDS, FAR_SEEDS = [101, 102, 103], [111, 112]


def read_lines(path):
    """The records of a file of measurements; a last line that was cut off doesn't count."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.endswith("\n")]


def append_line(path, record):
    with open(path, "a+b") as f:
        whole = f.seek(0, os.SEEK_END)
        while whole > 0:  # a line that was cut off goes
            f.seek(whole - 1)
            if f.read(1) == b"\n":
                break
            whole -= 1
        f.truncate(whole)
        f.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")


def runs(records, part):
    return [r for r in records if r["part"] == part]


def final_losses(records):
    """Mean over runs of each domain's last loss."""
    return {d: round(sum(r["loss"][d][-1] for r in records) / len(records), 4)
            for d in methods.DOMAINS}


def known(records):
    """What methods take from the runs before the comparison; only of those that are complete."""
    got = {"zlib": records[0]["zlib"]} if records else {}
    if len(runs(records, "reference")) == len(REFERENCE_SEEDS):
        got["target"] = final_losses(runs(records, "reference"))
    if len(runs(records, "far")) == len(FAR_SEEDS):
        got["far_target"] = final_losses(runs(records, "far"))
    alone = {r["method"]: r for r in runs(records, "alone")}
    if set(alone) == set(methods.DOMAINS):
        start = {d: alone[d]["loss"][d][0] for d in methods.DOMAINS}
        ends = {d: {e: alone[d]["loss"][e][-1] for e in methods.DOMAINS} for d in methods.DOMAINS}
        got["graph"] = methods.graph(start, ends)
    return got
