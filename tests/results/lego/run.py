#!/usr/bin/python3
"""The LEGO experiment: the same small model learns five skills under several mixes.

    run.py --build BUILD --out FILE [--seeds N] [--steps N] [--jobs N] [--only METHOD]...

Starts BUILD's mixd with a store of its own and appends a line of JSON to FILE for each training run
that isn't there yet, so that it can be stopped and started again at any time. What a line holds:
how the run was configured, and loss and accuracy of each skill on held-out examples at every
recorded step. Runs of the same seed begin with the same model and read the same texts in the same
order within a skill; all see equally many tokens.

Needs Debian's python3-torch and python3-numpy, hence Debian's python3, and is seven times as fast
with libopenblas0-pthread.
"""
import argparse
import concurrent.futures
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), os.path.join(HERE, "..", "..", "integration")]
sys.dont_write_bytecode = True
# Matrices are small: threads would only get into each other's way.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from demo.records import append_line, read_lines  # noqa: E402  (in the folder above)
from lego import methods, texts, train  # noqa: E402

CORPUS_SEED = 1


class Trouble(Exception):
    """What went wrong, in words for the user."""


class Bench:
    """A daemon with the five skills as domains, in a folder of its own."""

    def __init__(self, build, folder):
        os.environ["MIXD"] = os.path.join(build, "daemon", "mixd")
        import harness  # reads MIXD when it is imported
        self.folder, self.store = folder, os.path.join(folder, "store")
        self.mixctl = os.path.join(build, "client", "mixctl")
        self.library = os.path.join(build, "client", "libmixclient.so")
        self.start = lambda: harness.Daemon(self.store)
        self.url = None

    def ctl(self, *args):
        done = subprocess.run([self.mixctl, *args], text=True, check=False, capture_output=True)
        if done.returncode != 0:
            raise Trouble(f"mixctl {' '.join(args)}: {done.stderr.strip()}")

    def ingest(self, examples):
        """So many of each skill; what is held out isn't among them."""
        for i, (name, held) in enumerate(zip(methods.NAMES, train.heldout())):
            path = os.path.join(self.folder, name + ".jsonl")
            got = texts.without(texts.examples(i, examples, CORPUS_SEED), held)
            texts.write_jsonl(path, got)
            self.ctl("--data", self.store, "ingest", name, path)

    def create(self, config):
        path = os.path.join(self.folder, config["name"] + ".json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        self.ctl("--connect", self.url, "run", "create", config["name"], "-f", path)


def one(url, library, run, steps):
    """In a process of its own: one training run, and its line."""
    method, seed = run
    config = methods.config(method, seed, steps)
    got = train.train(url, library, config["name"], seed, methods.every(steps))
    return {"method": method, "seed": seed, "skills": methods.NAMES, "config": config, **got}


def measure_all(bench, left, args):
    """Appends each run's line when it is done. If one fails, or on Ctrl-C, the others are stopped
    and leave no line."""
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(args.jobs, mp_context=context)
    try:
        jobs = [pool.submit(one, bench.url, bench.library, run, args.steps) for run in left]
        for i, job in enumerate(concurrent.futures.as_completed(jobs)):
            line = job.result()
            append_line(args.out, line)
            right = sum(line["accuracy"][-1]) / methods.SKILLS
            print(f"lego: {i + 1} of {len(jobs)}: {line['method']} seed {line['seed']}: accuracy "
                  f"{right:.3f}, {line['seconds']:.0f} s", flush=True)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in multiprocessing.active_children():
            worker.terminate()
        pool.shutdown(wait=True)


def measure(left, args):
    with tempfile.TemporaryDirectory(prefix="mixd-results-") as folder:
        bench = Bench(args.build, folder)
        # More than any mix here is expected to draw of one skill, so that no example comes twice.
        bench.ingest(args.steps * methods.BATCH * 3 // 5)
        daemon = bench.start()
        try:
            bench.url = daemon.url
            for run in left:
                bench.create(methods.config(*run, args.steps))
            measure_all(bench, left, args)
        finally:
            daemon.stop()


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--build", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--steps", type=int, default=1800, help="a multiple of 600")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--only", action="append", choices=methods.METHODS)
    args = p.parse_args()
    args.only = args.only or methods.METHODS
    args.build = os.path.abspath(args.build)
    return args


def interrupted(number, frame):
    raise KeyboardInterrupt


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, interrupted)
    try:
        left = methods.missing(read_lines(args.out), args.only, args.seeds, args.steps)
        if left:
            measure(left, args)
        return 0
    except (Trouble, ValueError) as e:
        print(f"lego: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lego: stopped; the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
