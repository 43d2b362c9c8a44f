#!/usr/bin/python3
"""What `make results` and `make results-page` run.

    results.py [--build BUILD] [EXPERIMENT]...

With --build: measures what is missing of all experiments, or of those named, with BUILD's programs,
and adds it to docs/results/EXPERIMENT.jsonl; it can be stopped and started again. Then, and without
--build at once, writes docs/results.md from what is there.
"""
import argparse
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import page  # noqa: E402  (beside this file)


def experiments():
    return sorted(n for n in os.listdir(page.HERE)
                  if os.path.exists(os.path.join(page.HERE, n, "section.py")))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--build")
    p.add_argument("only", nargs="*", metavar="EXPERIMENT")
    args = p.parse_args()
    there = experiments()
    for name in args.only:
        if name not in there:
            p.error(f"no experiment {name}; there are {', '.join(there)}")
    if args.build is not None:
        os.makedirs(page.MEASURED, exist_ok=True)
        for name in args.only or there:
            out = os.path.join(page.MEASURED, name + ".jsonl")
            done = subprocess.run([os.path.join(page.HERE, name, "run.py"), "--build", args.build,
                                   "--out", out], check=False)
            if done.returncode != 0:
                print(f"results: {name} wasn't measured to the end", file=sys.stderr)
                return 1
    try:
        text = page.text()
    except ValueError as e:
        print(f"results: {e}", file=sys.stderr)
        return 1
    with open(page.PAGE, "w", encoding="utf-8") as f:
        f.write(text)
    print(f"written: {os.path.relpath(page.PAGE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
