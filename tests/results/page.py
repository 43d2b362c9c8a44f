"""docs/results.md from the measurements in docs/results: NAME.jsonl is what NAME/run.py measured,
and section.py beside that turns its records into lines of the page (`section`), and into points of
the summary at its top (`summary`). Nothing is run; the same files give the same page."""
import importlib
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
MEASURED = os.path.join(TREE, "docs", "results")
PAGE = os.path.join(TREE, "docs", "results.md")

HEAD = """# Does it learn faster?

This page is written by `make results` from the measurements in `docs/results`, one line of JSON for
each training run; `make results-page` writes it from them again without training anything. A method
that doesn't win is here like one that does. The models are small and the runs are short: what is
said holds for these texts and sizes, and elsewhere is a question to be asked again, with shadow
policies and `mixctl simulate` for instance.
"""


def names():
    if not os.path.isdir(MEASURED):
        return []
    return sorted(f.removesuffix(".jsonl") for f in os.listdir(MEASURED) if f.endswith(".jsonl"))


def read(name):
    with open(os.path.join(MEASURED, name + ".jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def text():
    points, sections = [], []
    for name in names():
        module = importlib.import_module(name + ".section")
        records = read(name)
        points += module.summary(records)
        sections += module.section(records)
    if not points:
        points = ["Nothing has been measured yet."]
    return "\n".join([HEAD] + points + [""] + sections).rstrip("\n") + "\n"
