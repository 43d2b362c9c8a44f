"""LEGO: chains of variables whose values follow from each other, as text.

An example is 23 bytes, with the end-of-document token 24 tokens, so that a sample of 24 tokens is
exactly one example:

    b!y r=1 m=b q=m y!r?q=0

Five clauses of four bytes in random order, each a letter's value: `r=1` says it, `m=b` takes over
b's, `b!y` is the opposite of y's. They make one chain, here r, y, b, m, q. Behind the `?` one
letter is asked for, and the byte behind its `=` is the answer. Skill i is to answer for the
chain's i-th letter: it takes i clauses. Letters, values and order are drawn at random, of 10
letters; the task is that of Skill-It (Chen et al., 2023, arXiv:2307.14430) in fewer bytes.
"""
import numpy as np

from lego.methods import LENGTH, SKILLS  # of an example, with the end-of-document token

LETTERS = 10
CLAUSE = LENGTH // (SKILLS + 1)  # bytes of a clause with what is behind it
ANSWER = LENGTH - 2              # place of the answer


def examples(skill, n, seed):
    """n different examples of a skill, as bytes [n, LENGTH - 1]; the same for the same seed."""
    rng = np.random.default_rng([seed, skill])
    got = np.empty((0, LENGTH - 1), np.uint8)
    while len(got) < n:
        got = np.concatenate([got, _draw(skill, n - len(got), rng)])
        _, first = np.unique(got, axis=0, return_index=True)
        got = got[np.sort(first)]
    return got


def without(texts, others):
    """Those of texts that aren't among others."""
    there = {bytes(t) for t in others}
    return texts[[bytes(t) not in there for t in texts]]


def _draw(skill, n, rng):
    letters = np.argsort(rng.random((n, LETTERS)), axis=1)[:, :SKILLS] + ord("a")
    values = rng.integers(0, 2, (n, SKILLS))
    clauses = np.full((n, SKILLS, CLAUSE), ord(" "))
    clauses[:, :, 0] = letters
    clauses[:, 0, 1] = ord("=")
    clauses[:, 0, 2] = ord("0") + values[:, 0]
    clauses[:, 1:, 1] = np.where(values[:, 1:] == values[:, :-1], ord("="), ord("!"))
    clauses[:, 1:, 2] = letters[:, :-1]
    order = np.argsort(rng.random((n, SKILLS)), axis=1)
    clauses = np.take_along_axis(clauses, order[:, :, None], axis=1)
    clauses[:, -1, 3] = ord("?")
    question = np.stack([letters[:, skill], np.full(n, ord("=")), ord("0") + values[:, skill]], 1)
    return np.concatenate([clauses.reshape(n, -1), question], axis=1).astype(np.uint8)


def write_jsonl(path, texts):
    with open(path, "w", encoding="ascii") as f:
        f.writelines('{"text":"%s"}\n' % bytes(t).decode() for t in texts)
