"""Runs whose steps are held against the files that went in: what the tests of domains and of looking
back share."""
import json
import os
import struct
import time

from harness import DaemonTest, PATIENCE
import wire


class ServedTest(DaemonTest):
    """Remembers what was ingested into each domain, shard by shard, and asks for whole steps."""

    def setUp(self):
        super().setUp()
        self.shards = {}     # domain: the bytes of each shard
        self.documents = {}  # domain: what each document is, and where its tokens are

    # ---- what goes in ----

    def grow(self, domain, n, codec="raw", first=None):
        """A shard of n tokens that go on counting, from the domain's own beginning."""
        have = sum(len(x) for x in self.shards.get(domain, [])) // 2
        base = (ord(domain[0]) - ord("a")) * 16384
        raw = self.tokens(domain, n, base + have if first is None else first, codec)
        self.shards.setdefault(domain, []).append(raw)
        return raw

    def texts(self, domain, name, texts, codec="raw"):
        """A shard of JSONL documents (id, text); each token is a byte of the text, 256 ends it."""
        lines, raw, byte = [], b"", 0
        for number, (id_, text) in enumerate(texts):
            line = json.dumps({"id": id_, "text": text}) + "\n"
            tokens = list(text.encode()) + [256]
            self.documents.setdefault(domain, []).append(
                {"id": id_, "source": self.path(name), "byte": byte, "line": number + 1,
                 "shard": len(self.shards.get(domain, [])), "first": len(raw) // 2,
                 "tokens": len(tokens), "bytes": len(line)})
            raw += struct.pack(f"<{len(tokens)}H", *tokens)
            byte += len(line)
            lines.append(line)
        self.mixctl("ingest", domain, self.write(name, "".join(lines)), "--codec", codec, data=True)
        self.shards.setdefault(domain, []).append(raw)

    def size(self, domain, seq_len=16):
        """Samples of a domain: each shard is cut by itself."""
        return sum(len(x) // (2 * seq_len) for x in self.shards[domain])

    def bytes_of(self, domain, sample, seq_len=16):
        for raw in self.shards[domain]:
            n = len(raw) // (2 * seq_len)
            if sample < n:
                return raw[sample * 2 * seq_len:(sample + 1) * 2 * seq_len]
            sample -= n
        raise AssertionError(f"domain {domain} has no such sample")

    def samples_of(self, domain, document, seq_len=16):
        """The samples that hold a token of a document."""
        raw = self.shards[domain][document["shard"]]
        base = sum(len(x) // (2 * seq_len) for x in self.shards[domain][:document["shard"]])
        first = document["first"] // seq_len
        last = (document["first"] + document["tokens"] - 1) // seq_len
        return [base + i for i in range(first, last + 1) if i < len(raw) // (2 * seq_len)]

    def documents_in(self, domain, sample, seq_len=16):
        """The documents of a sample, as step.show lists them."""
        found = []
        for d in self.documents[domain]:
            if sample in self.samples_of(domain, d, seq_len):
                start = d["first"] - self.in_shard(domain, sample, seq_len) * seq_len
                low, high = max(start, 0), min(start + d["tokens"], seq_len)
                found.append({"id": d["id"], "source": d["source"], "byte": d["byte"],
                              "line": d["line"], "first_token": low, "tokens": high - low})
        return found

    def in_shard(self, domain, sample, seq_len=16):
        for raw in self.shards[domain]:
            n = len(raw) // (2 * seq_len)
            if sample < n:
                return sample
            sample -= n
        raise AssertionError("no such sample")

    # ---- what comes out ----

    def batch(self, w, info, step, first=0, count=None, rank=0, world=1):
        """A step, or some slots of it, also where the daemon asks to wait; and its tokens are
        right."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                b = w.batch(info["run"], step, first,
                            info["batch_size"] if count is None else count, rank, world)
                break
            except wire.Trouble as e:
                if e.status not in (wire.WAIT, wire.BUSY) or time.monotonic() > deadline:
                    raise
                time.sleep(e.wait_ms / 1000)
        for k, s, raw in zip(b["domains"], b["samples"], b["tokens"]):
            self.assertEqual(raw, self.bytes_of(info["names"][k], s, info["seq_len"]),
                             f"step {step}: domain {info['names'][k]} sample {s}")
        return b

    def steps(self, w, info, begin, end, into=None):
        """The steps begin to before end, by number."""
        got = into if into is not None else {}
        for step in range(begin, end):
            got[step] = self.batch(w, info, step)
        return got

    def drawn(self, info, got, domain):
        """(epoch, sample) of all that steps drew of a domain; slots have no order."""
        k = info["names"].index(domain)
        return [(e, s) for _, b in sorted(got.items())
                for d, s, e in zip(b["domains"], b["samples"], b["epochs"]) if d == k]

    def whole_epochs(self, pairs):
        """The samples of each epoch but the last, which may not be done; none comes twice."""
        self.assertEqual(len(pairs), len(set(pairs)), "a sample came twice in an epoch")
        last = max(e for e, _ in pairs)
        return {e: {s for x, s in pairs if x == e} for e in range(min(e for e, _ in pairs), last)}

    # ---- operators ----

    def ask(self, w, op, **keys):
        """An operation over the socket. Its answer; wire.Trouble if it is refused."""
        return json.loads(w.get(wire.CONTROL, json.dumps(dict(keys, op=op)).encode()))

    def refused(self, w, op, says, **keys):
        with self.assertRaises(wire.Trouble) as e:
            self.ask(w, op, **keys)
        self.assertIn(says, e.exception.text)
        return e.exception

    def entries(self, w, run, kind=None):
        """A run's journal."""
        found, at = [], None
        while True:
            page = self.ask(w, "run.log", run=run, **({} if at is None else {"from": at}))
            found += [e for e in page["entries"] if kind in (None, e["kind"])]
            at = page["next"]
            if at is None:
                return found

    def same(self, w, run, before, steps=None):
        """Steps that were served are served again, byte for byte."""
        info = w.attach(run)
        for step in self.random.sample(sorted(before), min(steps or len(before), len(before))):
            self.assertEqual(self.batch(w, info, step), before[step], f"step {step}")

    def shard_files(self):
        folder = os.path.join(self.data, "shards")
        return sorted(os.path.join(folder, f) for f in os.listdir(folder))
