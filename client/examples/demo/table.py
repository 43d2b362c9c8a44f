"""What the demo prints: progress, the losses on held-out text, the path of a mix. Pure functions
over the lines of bytelm's logs, but for read_log."""
import contextlib
import json


def read_log(path):
    """The log's records in order. A line that is still being written is left out; so is what a
    model forgot when it went on from an older checkpoint: steps before the last return."""
    records = []
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as f:
        for line in f:
            if not line.endswith("\n"):
                break
            record = json.loads(line)
            while records and records[-1]["step"] > record["step"]:
                records.pop()
            records.append(record)
    return records


def of_kind(records, kind):
    return [r for r in records if r["kind"] == kind]


def steps_done(records):
    """Steps up to which a model has been trained and evaluated to the end, or just trained."""
    return max((r["step"] for r in records), default=0)


def shares(record):
    return {d: v["share"] for d, v in record["domains"].items()}


def progress(seconds, until, logs, shown):
    """One line about all runs, and the mix of one of them; "" if there is nothing yet."""
    parts = []
    for run, records in sorted(logs.items()):
        train = of_kind(records, "train")
        if not train:
            return ""
        last = train[-1]
        part = (f"{run.removeprefix('demo-')} {100 * last['step'] / until:.0f}% "
                f"loss {last['loss']:.3f} {last['tokens_per_s'] / 1000:.0f}k/s")
        if last["wait_share"] >= 0.01:
            part += f" (waits {100 * last['wait_share']:.0f}%)"
        parts.append(part)
    mix = shares(of_kind(logs[shown], "train")[-1])
    parts.append(f"{shown.removeprefix('demo-')}'s mix: " +
                 " ".join(f"{d} {100 * s:.0f}" for d, s in sorted(mix.items())))
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}  " + " | ".join(parts)


def heldout(logs):
    """The last evaluation of each run, side by side: nats per byte, lower is better; the lower one
    of each row is starred. Beside it, how much of its training each run spent on the domain."""
    runs = sorted(logs)
    last = {run: of_kind(logs[run], "eval")[-1] for run in runs}
    spent = {run: spent_on(logs[run]) for run in runs}
    domains = sorted(set.intersection(*(set(e["domains"]) for e in last.values())))
    lines = ["", "Loss on held-out text, nats per byte (lower is better, * marks the lower one):",
             "", f"{'':<12}" + "".join(f"{run:>13}" for run in runs) +
             "".join(f"{'% of ' + run:>18}" for run in runs)]
    for domain in domains:
        losses = [last[run]["domains"][domain]["loss"] for run in runs]
        lines.append(f"{domain:<12}" + marked(losses) +
                     "".join(f"{100 * spent[run].get(domain, 0):18.1f}" for run in runs))
    means = [sum(last[run]["domains"][d]["loss"] for d in domains) / len(domains) for run in runs]
    worst = [max(last[run]["domains"][d]["loss"] for d in domains) for run in runs]
    lines.append(f"{'mean':<12}" + marked(means))
    lines.append(f"{'worst':<12}" + marked(worst))
    steps = {run: last[run]["step"] for run in runs}
    if len(set(steps.values())) > 1:
        lines.append("The runs didn't train equally long: " +
                     ", ".join(f"{r} {s} steps" for r, s in steps.items()))
    return "\n".join(lines)


def marked(losses):
    best = min(f"{x:.3f}" for x in losses)
    return "".join(f"{x:12.3f}" + ("*" if f"{x:.3f}" == best else " ") for x in losses)


def spent_on(records):
    """Share of all positions trained that each domain had."""
    tokens = {}
    for record in of_kind(records, "train"):
        for domain, row in record["domains"].items():
            tokens[domain] = tokens.get(domain, 0) + row["tokens"]
    total = sum(tokens.values()) or 1
    return {d: n / total for d, n in tokens.items()}


def path_of_mix(records, run, rows=10):
    """Shares served, in percent: in the first seconds, and then in `rows` stretches of the rest."""
    train = of_kind(records, "train")
    domains = sorted({d for r in train for d in r["domains"]})
    lines = ["", f"The path of {run}'s mix, % of the samples served up to that step since the row "
             "above:", "", f"{'step':>8}" + "".join(f"{d:>12}" for d in domains)]
    end = max((r["step"] for r in train), default=0)
    parts = [[r for r in train[1:] if end * i < r["step"] * rows <= end * (i + 1)]
             for i in range(rows)]
    for part in [train[:1]] + parts:
        if part:
            spent = spent_on(part)
            lines.append(f"{part[-1]['step']:8d}" +
                         "".join(f"{100 * spent.get(d, 0):12.1f}" for d in domains))
    return "\n".join(lines)
