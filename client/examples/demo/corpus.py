#!/usr/bin/env python3
"""Builds the demo's corpus: eight domains of real text from files that Debian packages install.

    corpus.py OUT [--bytes N] [--heldout N] [--skip-missing] [--packages]

Writes OUT/DOMAIN.jsonl (one {"text", "id"} a line; about N bytes of text a domain) and
OUT/heldout/DOMAIN.txt (documents that aren't in the former, each ended by a zero byte), and
OUT/corpus.json, which says what came from where. OUT appears as a whole or not at all. Which
documents are taken, which are held out, and their order depend on their names' hashes alone: the
same packages give the same bytes. Needs Python's standard library and dpkg.
"""
import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

# A document of the held-out set is no longer than this, so that a few large ones don't fill it.
HELDOUT_DOCUMENT_MAX = 30000


class Trouble(Exception):
    """Something that the user can mend; the text says how."""


# ---- what packages install ----

def installed_files(package):
    """The paths that dpkg knows of a package, sorted; None if it isn't installed."""
    done = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    return sorted(set(done.stdout.split("\n")) - {""})


def package_version(package):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}\n", package],
                          capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0]


def read_text(path):
    """A file's text, through gzip if its name says so; None if it isn't UTF-8 or has zeros."""
    try:
        with (gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")) as f:
            text = f.read().decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def texts(files, pattern, without=None):
    """(path, text) of the regular files whose path matches."""
    for path in files:
        if not re.search(pattern, path) or (without and re.search(without, path)):
            continue
        if os.path.isfile(path) and not os.path.islink(path):
            text = read_text(path)
            if text is not None:
                yield path, text


# ---- documents ----

def whole_files(pattern):
    """Every file is a document."""
    def documents(files):
        return texts(files, pattern)
    return documents


LINES_PER_PIECE = 150


def tables(files):
    """Perl's tables of Unicode's characters and of their order; pieces of a file are documents."""
    for path, text in texts(files, r"/unicore/.*\.pl$|/Unicode/Collate/.*\.(txt|pl|pm)$"):
        lines = text.splitlines(keepends=True)
        for i in range(0, len(lines), LINES_PER_PIECE):
            yield f"{path}#{i}", "".join(lines[i:i + LINES_PER_PIECE])


ROFF_FONT = re.compile(r"\\f(\[[A-Z]*\]|\([A-Z]{2}|[A-Z0-9])")
ROFF_ESCAPES = (("\\-", "-"), ("\\&", ""), ("\\,", ""), ("\\/", ""), ("\\|", ""), ("\\ ", " "),
                ("\\(aq", "'"), ("\\(bu", "*"), ("\\(em", "--"), ("\\(lq", '"'), ("\\(rq", '"'),
                ("\\e", "\\"))


def plain_roff(text):
    """A manual page without its comments, fonts and macro names; not a typesetter."""
    lines = []
    for line in text.split("\n"):
        if line.startswith((".\\\"", "'\\\"", ".ig", "'\\'")):
            continue
        line = ROFF_FONT.sub("", line)
        for escape, plain in ROFF_ESCAPES:
            line = line.replace(escape, plain)
        if line.startswith((".", "'")):
            macro, _, rest = line[1:].partition(" ")
            rest = rest.strip().replace('"', "")
            if macro in ("SH", "SS", "TH"):
                line = "\n" + rest
            elif macro in ("PP", "P", "LP", "TP", "IP", "HP", "sp", "Pp"):
                line = rest and "\n" + rest
            else:
                line = rest
            if not line:
                continue
        lines.append(line)
    return "\n".join(lines).strip() + "\n"


def manual_pages(pattern):
    def documents(files):
        for path, text in texts(files, pattern):
            if not text.startswith(".so "):
                yield path, plain_roff(text)
    return documents


SYNSET = re.compile(r"^\d{8} \d\d ([nvasr]) ([0-9a-f]{2}) (.*) \| (.*)$")
SPEECH = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}
ENTRIES_PER_PAGE = 20


def dictionary(files):
    """WordNet's sets of synonyms with their meanings, a page of neighbours a document."""
    for path, text in texts(files, r"/wordnet/data\."):
        entries = []
        for line in text.split("\n"):
            match = SYNSET.match(line)
            if match is None:
                continue
            words = match[3].split(" ")[0:2 * int(match[2], 16):2]
            names = ", ".join(re.sub(r"\(\w+\)$", "", w).replace("_", " ") for w in words)
            entries.append(f"{names} ({SPEECH[match[1]]}): {match[4].strip()}\n")
        for i in range(0, len(entries), ENTRIES_PER_PAGE):
            yield f"{path}#{i}", "".join(entries[i:i + ENTRIES_PER_PAGE])


def changelogs(files):
    """A release is a document."""
    for path, text in texts(files, r"/changelog(\.Debian)?\.gz$"):
        releases = re.split(r"(?m)^(?=\S+ \(\S+\) \S+; urgency=|Version \S+; changes since)", text)
        for i, release in enumerate(releases):
            if release.strip():
                yield f"{path}#{i}", release.strip() + "\n"


# Sayings on these subjects add little but offence.
NO_SAYINGS = r"/(drugs|ethnic|men-women|ascii-art)$"


def english(files):
    """Chapters of the King James Bible, and fortune's sayings."""
    done = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, text=True,
                          check=True, env=dict(os.environ, COLUMNS="100000"))
    chapters = {}
    for verse in done.stdout.split("\n"):
        match = re.match(r"^(\d?\w+?)(\d+):\d+ (.*)$", verse)
        if match:
            chapters.setdefault(f"bible:{match[1]} {match[2]}", []).append(match[3])
    for name, verses in chapters.items():
        yield name, "\n".join(verses) + "\n"
    for path, text in texts(files, r"/games/fortunes/[a-z-]+$", NO_SAYINGS):
        for i, saying in enumerate(re.split(r"(?m)^%\n", text)):
            if saying.strip():
                yield f"{path}#{i}", saying


DOMAINS = {
    "c": (["linux-libc-dev"], whole_files(r"^/usr/include/.*\.h$")),
    "changelog": (["linux-libc-dev", "git-man"], changelogs),
    "dictionary": (["wordnet-base"], dictionary),
    "english": (["bible-kjv", "fortunes", "fortunes-min"], english),
    "german": (["manpages-de"], manual_pages(r"/man/de/")),
    "japanese": (["manpages-ja"], manual_pages(r"/man/ja/")),
    "python": (["libpython3.11-stdlib", "libpython3.11-minimal"], whole_files(r"\.py$")),
    "tables": (["perl-modules-5.36"], tables),
}


def all_packages():
    return sorted({package for packages, _ in DOMAINS.values() for package in packages})


# ---- selection ----

def rank(domain, name):
    """Where a document stands in the domain's order: as good as random, and always the same."""
    return hashlib.blake2b(f"{domain}\0{name}".encode(), digest_size=8).digest()


def select(domain, documents, bytes_max, heldout_max):
    """(training, held out): lists of (name, text). No text is in both, or twice."""
    seen, training, heldout = set(), [], []
    training_bytes = heldout_bytes = 0
    for name, text in sorted(documents, key=lambda d: rank(domain, d[0])):
        size = len(text.encode())
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if size == 0 or digest in seen:
            continue
        seen.add(digest)
        if heldout_bytes < heldout_max and size <= min(HELDOUT_DOCUMENT_MAX, heldout_max):
            heldout.append((name, text))
            heldout_bytes += size
        elif training_bytes + size <= bytes_max:
            training.append((name, text))
            training_bytes += size
    return training, heldout


def build_domain(out, domain, bytes_max, heldout_max):
    packages, documents_of = DOMAINS[domain]
    files = [path for package in packages for path in installed_files(package)]
    try:
        documents = list(documents_of(files))
    except (OSError, subprocess.CalledProcessError) as e:
        raise Trouble(f"domain {domain}: {e}") from e
    training, heldout = select(domain, documents, bytes_max, heldout_max)
    if not training or not heldout:
        raise Trouble(f"domain {domain}: {' '.join(packages)}: installed, but without their text. "
                      "Does /etc/dpkg/dpkg.cfg.d exclude documentation (path-exclude)?")
    with open(os.path.join(out, domain + ".jsonl"), "w", encoding="utf-8") as f:
        for name, text in training:
            f.write(json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n")
    with open(os.path.join(out, "heldout", domain + ".txt"), "w", encoding="utf-8") as f:
        for _, text in heldout:
            f.write(text + "\0")
    return {
        "packages": {p: package_version(p) for p in packages},
        "documents": len(training),
        "bytes": sum(len(t.encode()) for _, t in training),
        "heldout_documents": len(heldout),
        "heldout_bytes": sum(len(t.encode()) for _, t in heldout),
    }


def available_domains(skip_missing):
    missing = [p for p in all_packages() if installed_files(p) is None]
    if not missing:
        return list(DOMAINS)
    if not skip_missing:
        raise Trouble("the demo takes its text from Debian packages that aren't installed here:\n"
                      "  apt-get install --no-install-recommends " + " ".join(missing))
    domains = [d for d, (packages, _) in DOMAINS.items() if not set(packages) & set(missing)]
    if len(domains) < 2:
        raise Trouble("fewer than two domains without the packages " + " ".join(missing))
    print("left out, as packages are missing: " + " ".join(set(DOMAINS) - set(domains)))
    return domains


def build(out, bytes_max, heldout_max, skip_missing):
    domains = available_domains(skip_missing)
    fresh = out + ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    os.makedirs(os.path.join(fresh, "heldout"))
    summary = {}
    for domain in domains:
        summary[domain] = row = build_domain(fresh, domain, bytes_max, heldout_max)
        print(f"  {domain:<12}{row['bytes'] / 1e6:6.2f} MB in {row['documents']:6d} documents, "
              f"{row['heldout_bytes'] / 1e3:4.0f} kB in {row['heldout_documents']:4d} held out "
              f"({', '.join(row['packages'])})", flush=True)
    with open(os.path.join(fresh, "corpus.json"), "w", encoding="utf-8") as f:
        json.dump({"bytes_max": bytes_max, "domains": summary}, f, indent=1)
        f.write("\n")
    os.rename(fresh, out)


def main():
    parser = argparse.ArgumentParser(description="Builds the demo's corpus from Debian packages.")
    parser.add_argument("out", nargs="?", help="folder to make; must not exist")
    parser.add_argument("--bytes", type=int, default=13_000_000, help="of text per domain, at most")
    parser.add_argument("--heldout", type=int, default=150_000, help="bytes held out per domain")
    parser.add_argument("--skip-missing", action="store_true",
                        help="leave out domains whose packages aren't installed")
    parser.add_argument("--packages", action="store_true", help="list the packages and stop")
    args = parser.parse_args()
    if args.packages:
        print("\n".join(all_packages()))
        return 0
    if args.out is None:
        parser.error("OUT is missing")
    if args.bytes < 1 or args.heldout < 1:
        parser.error("--bytes and --heldout must be positive")
    if os.path.exists(args.out):
        print(f"corpus: {args.out} is there already; remove it to build it anew", file=sys.stderr)
        return 1
    try:
        build(args.out, args.bytes, args.heldout, args.skip_missing)
    except (Trouble, OSError) as e:
        print(f"corpus: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
