#!/usr/bin/python3
"""The demo's corpus under several mixes: the same small model learns eight domains of real text.

    run.py --build BUILD --out FILE [--seeds N] [--steps N] [--every N] [--jobs N]
           [--only METHOD]... [--bytes N] [--heldout N]

Appends a line of JSON to FILE for each training run that isn't there yet, so that it can be stopped
and started again at any time. What a line holds: how the run was configured, and at every
evaluation the loss of each domain's held-out text and the share of the samples that it had since
the one before. Runs of the same seed begin with the same model and read each domain in the same
order; all see equally many tokens.

Before the comparison come runs with seeds of their own, from which two policies take what they must
know: `reference` and `far` (static natural proportions, as long and three times as long), whose
final losses are targets, and `alone` (one domain, a fifth as long), from which Skill-It's graph
comes.
"""
import argparse
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
sys.path[:0] = [os.path.dirname(HERE), os.path.join(TREE, "tests", "integration")]
sys.dont_write_bytecode = True

from demo import methods  # noqa: E402  (in the folder above)
from demo.records import (FAR_SEEDS, REFERENCE_SEEDS, append_line, known,  # noqa: E402
                          read_lines)

BATCH, SEQ_LEN = 32, 128
# The demo's model; the learning rate falls faster, so that losses of a short run are less noisy.
MODEL = {"context": 10, "embed": 16, "wide": 256, "hidden": 128, "decay": 300}
ALONE_SEED = 121
ZLIB_BYTES = 1_000_000


class Trouble(Exception):
    """What went wrong, in words for the user."""


def command(*argv):
    done = subprocess.run(argv, text=True, check=False, capture_output=True)
    if done.returncode != 0:
        raise Trouble(f"{' '.join(argv)}: {done.stderr.strip()}")


# ---- daemon, corpus, training ----

class Bench:
    """A daemon that holds the demo's corpus, in a folder of its own."""

    def __init__(self, build, folder):
        os.environ["MIXD"] = os.path.join(build, "daemon", "mixd")
        import harness  # reads MIXD when it is imported
        self.folder, self.corpus = folder, os.path.join(folder, "corpus")
        self.mixctl = os.path.join(build, "client", "mixctl")
        self.bytelm = os.path.join(build, "client", "examples", "bytelm")
        self.store = os.path.join(folder, "store")
        self.start = lambda: harness.Daemon(self.store)
        self.url = None
        self.trainers = set()  # that run

    def build_corpus(self, size, heldout):
        """The line that describes it."""
        command(sys.executable, os.path.join(TREE, "client", "examples", "demo", "corpus.py"),
                self.corpus, "--bytes", str(size), "--heldout", str(heldout))
        ratios = {}
        for d in methods.DOMAINS:
            path = os.path.join(self.corpus, d + ".jsonl")
            command(self.mixctl, "--data", self.store, "ingest", d, path)
            with open(path, encoding="utf-8") as f:
                text = "".join(json.loads(line)["text"] for line in f)[:ZLIB_BYTES].encode()
            ratios[d] = round(len(zlib.compress(text, 6)) / len(text), 3)
        with open(os.path.join(self.corpus, "corpus.json"), encoding="utf-8") as f:
            return {"part": "corpus", **json.load(f), "zlib": ratios}

    def create(self, name, config):
        path = os.path.join(self.folder, name + ".json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        command(self.mixctl, "--connect", self.url, "run", "create", name, "-f", path)

    def trainer(self, *argv):
        with subprocess.Popen([self.bytelm, *argv], text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as p:
            self.trainers.add(p)
            said = p.stderr.read()
        self.trainers.discard(p)
        if p.returncode != 0:
            raise Trouble(f"bytelm failed: {said.strip()}")

    def train(self, name, seed, stops, every):
        """Trains run `name` up to each of the stops, and reads its log."""
        log = os.path.join(self.folder, name + ".log")
        for steps in stops:
            self.trainer("--connect", self.url, "--run", name, "--seed", str(seed),
                         *(word for key in MODEL for word in ("--" + key, str(MODEL[key]))),
                         "--steps", str(steps), "--checkpoint-every", "1000000",
                         "--checkpoint", os.path.join(self.folder, name + ".model"),
                         "--eval", os.path.join(self.corpus, "heldout"), "--eval-every", str(every),
                         "--eval-bytes", str(1 << 30), "--log", log, "--print-every", "0",
                         "--inflight", "2")
        with open(log, encoding="utf-8") as f:
            got = curves([json.loads(line) for line in f])
        if got["steps"][-1:] != stops[-1:]:
            raise Trouble(f"run {name} was stopped before step {stops[-1]}")
        return got


def curves(log):
    """Of bytelm's log with a line per step: at each evaluation the losses, and the shares of the
    samples since the one before."""
    log.sort(key=lambda r: (r["step"], r["kind"] == "eval"))
    got = {"steps": [], "loss": {d: [] for d in methods.DOMAINS},
           "share": {d: [] for d in methods.DOMAINS}}
    tokens = dict.fromkeys(methods.DOMAINS, 0)
    for r in log:
        if r["kind"] == "train":
            for d, row in r["domains"].items():
                tokens[d] += row["tokens"]
            continue
        total = sum(tokens.values())
        got["steps"].append(r["step"])
        for d in methods.DOMAINS:
            got["loss"][d].append(round(r["domains"][d]["loss"], 5))
            got["share"][d].append(round(tokens[d] / total, 4))
        tokens = dict.fromkeys(methods.DOMAINS, 0)
    return got


def plan(args):
    """(part, method, seed, stops) of all runs: first those before the comparison, if needed."""
    first = [("far", "natural", s, [3 * args.steps]) for s in FAR_SEEDS]
    first += [("reference", "natural", s, [args.steps]) for s in REFERENCE_SEEDS]
    first += [("alone", d, ALONE_SEED, [1, max(2, args.steps // 5)]) for d in methods.DOMAINS]
    first = [r for r in first if any(methods.NEEDS.get(m) == r[0] for m in args.only)]
    then = [("method", m, s, [args.steps]) for s in range(1, args.seeds + 1) for m in args.only]
    return [first, then]


def config_of(run, args, got):
    part, method, seed, stops = run
    own = (methods.one_hot(method) if part == "alone"
           else methods.config(method, args.steps, args.every, got))
    # Lockstep: what is drawn follows from config and losses alone, not from the machine's speed.
    return {"name": f"{part}-{method}-{seed}", "seed": seed, "batch_size": BATCH,
            "seq_len": SEQ_LEN, **own, "feedback": {"mode": "lockstep", "lag": 2},
            "end": {"steps": stops[-1]}}


def missing(wanted, records, args):
    """Those of the runs that have no line yet. A line of another config isn't passed over."""
    got = known(records)
    have = {(r["part"], r["method"], r["seed"]): r for r in records[1:]}
    left = []
    for run in wanted:
        line = have.get(run[:3])
        if line is None:
            left.append(run)
        elif line["config"] != config_of(run, args, got) or line["every"] != args.every:
            raise Trouble(f"{args.out}: {run[0]} {run[1]} seed {run[2]} was measured with another "
                          "config; remove its line, or the file, to measure anew")
    return left


def one(bench, run, args, got):
    part, method, seed, stops = run
    config = config_of(run, args, got)
    bench.create(config["name"], config)
    begin = time.monotonic()
    every = stops[-1] if part == "alone" else args.every
    return {"part": part, "method": method, "seed": seed, "every": args.every, "config": config,
            **bench.train(config["name"], seed, stops, every),
            "seconds": round(time.monotonic() - begin, 1)}


def measure_all(bench, todo, args, got):
    """Appends each run's line when it is done. If one fails, or on Ctrl-C, the others are stopped
    and leave no line."""
    pool = concurrent.futures.ThreadPoolExecutor(args.jobs)
    try:
        jobs = [pool.submit(one, bench, run, args, got) for run in todo]
        for i, job in enumerate(concurrent.futures.as_completed(jobs)):
            line = job.result()
            append_line(args.out, line)
            mean = sum(v[-1] for v in line["loss"].values()) / len(line["loss"])
            print(f"demo: {i + 1} of {len(jobs)}: {line['part']} {line['method']} seed "
                  f"{line['seed']}: loss {mean:.4f}, {line['seconds']:.0f} s", flush=True)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for trainer in list(bench.trainers):
            trainer.terminate()
        pool.shutdown(wait=True)


def measure(bench, args):
    corpus = bench.build_corpus(args.bytes, args.heldout)
    corpus["model"] = MODEL
    records = read_lines(args.out)
    if not records:
        append_line(args.out, corpus)
    elif records[0] != corpus:
        raise Trouble(f"{args.out} was measured on another corpus or model (other versions of its "
                      "packages?); remove it to measure anew")
    daemon = bench.start()
    try:
        bench.url = daemon.url
        for wanted in plan(args):
            records = read_lines(args.out)
            measure_all(bench, missing(wanted, records, args), args, known(records))
    finally:
        daemon.stop()


def complete(args):
    """Whether nothing is left to measure."""
    records = read_lines(args.out)
    return bool(records) and not any(missing(wanted, records, args) for wanted in plan(args))


def arguments(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--build", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--steps", type=int, default=1500)
    p.add_argument("--every", type=int, default=75, help="steps between evaluations")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--only", action="append", choices=methods.NAMES)
    p.add_argument("--bytes", type=int, default=13_000_000, help="of text per domain, at most")
    p.add_argument("--heldout", type=int, default=40_000, help="bytes held out per domain")
    args = p.parse_args(argv)
    args.only = args.only or methods.NAMES
    args.build = os.path.abspath(args.build)
    return args


def interrupted(number, frame):
    raise KeyboardInterrupt


def main(argv=None):
    args = arguments(argv)
    signal.signal(signal.SIGTERM, interrupted)
    try:
        if complete(args):
            return 0
        with tempfile.TemporaryDirectory(prefix="mixd-results-") as folder:
            measure(Bench(args.build, folder), args)
        return 0
    except Trouble as e:
        print(f"results: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("results: stopped; the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
