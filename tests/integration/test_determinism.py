"""Lockstep: a run is a function of its config and its losses, and of nothing else.

Runs of the same configs are trained again and again, at once and with other timings: ranks in
random orders and with random delays, more or less asked for ahead and in other pieces, other
threads in the daemon, other worlds. Each byte and each mix must be the same.
"""
import json
import random
import threading
import time

from harness import PATIENCE, DaemonTest, main
import wire

STEPS = 150
BATCH, SEQ = 12, 16
DOMAINS = {"a": 700, "b": 300, "c": 120, "d": 90}  # samples
KINDS = [(policy, lag) for policy in ("odm", "exp3") for lag in (1, 2, 4)]
SAMPLING = {1: {}, 2: {"sampling": "iid"}, 4: {"sampling": "block", "block": 3}}


def loss_of(kind, step, domain):
    """An exact binary fraction: sums over the ranks of any world are the same number."""
    return random.Random(f"{kind} {step} {domain}").randrange(100, 700) / 128


class Rank:
    """One process of a trainer: a connection, with requests for steps ahead in flight."""

    def __init__(self, url, run, rank, world, rng, depth, delay_ms, content, names):
        self.wire = wire.Wire(url, timeout=PATIENCE)
        self.run, self.rank, self.world, self.random = run, rank, world, rng
        self.depth, self.delay_ms, self.content, self.names = depth, delay_ms, content, names
        self.flying = {}   # {request: (step, first, count)}
        self.missing = {}  # {step: slots that haven't come}

    def send(self, step, first, count):
        body = wire.batch_body(self.run, step, first, count, self.rank, self.world)
        self.flying[self.wire.send(wire.frame(wire.BATCH, body))] = (step, first, count)

    def ask(self, step):
        """For this rank's slots, in random pieces and order."""
        first, count = wire.slots(self.rank, self.world, BATCH)
        at = sorted(self.random.sample(range(first + 1, first + count),
                                       self.random.randrange(min(3, count))))
        pieces = list(zip([first] + at, at + [first + count]))
        self.random.shuffle(pieces)
        self.missing[step] = count
        for a, b in pieces:
            self.send(step, a, b - a)

    def hear(self):
        """One reply; the feedback's body if it was that."""
        head, r = self.wire.receive()
        what = self.flying.pop(head)
        if what is None:
            assert r.status == wire.OK, r.body
            return r.body
        if r.status in (wire.WAIT, wire.BUSY):
            self.send(*what)
            return None
        assert r.status == wire.OK, r.body
        b = wire.parse_batch(r.body)
        assert (b["step"], b["slot_first"], b["slot_count"]) == what, what
        for i in range(b["slot_count"]):
            self.content[(b["step"], b["slot_first"] + i)] = (
                b["mix_version"], b["domains"][i], b["samples"][i], b["epochs"][i], b["tokens"][i])
        self.missing[b["step"]] -= b["slot_count"]
        return None

    def pause(self):
        if self.random.random() < 0.3:
            time.sleep(self.random.uniform(0, self.delay_ms / 1000))

    def report(self, kind, step):
        first, count = wire.slots(self.rank, self.world, BATCH)
        counts = {}
        for i in range(first, first + count):
            domain = self.content[(step, i)][1]
            counts[domain] = counts.get(domain, 0) + 1
        losses = [(d, n, n * SEQ, n * SEQ * loss_of(kind, step, self.names[d]))
                  for d, n in sorted(counts.items())]
        body = wire.feedback_body(self.run, step, losses, self.rank, self.world,
                                  self.content[(step, first)][0])
        self.flying[self.wire.send(wire.frame(wire.FEEDBACK, body))] = None
        answer = None
        while answer is None:
            answer = self.hear()
        assert wire.parse_feedback(answer)[1] == 0, answer

    def train(self, kind, first, upto):
        asked = first
        for step in range(first, upto):
            while asked < min(step + 1 + self.depth, upto):
                self.ask(asked)
                asked += 1
            while self.missing[step] > 0:
                self.hear()
            self.pause()
            self.report(kind, step)
        self.wire.close()


class Determinism(DaemonTest):
    def make(self, d, name, kind):
        policy, lag = kind
        self.create(d, name=name, seed=lag, batch_size=BATCH, seq_len=SEQ, reserve_steps=8,
                    snapshot_steps=16, policy={"name": policy}, end={"steps": STEPS},
                    feedback={"mode": "lockstep", "lag": lag},
                    domains={"a": {"weight": 4, "floor": 0.05}, "b": {"weight": 2},
                             "c": {"weight": 1, "max_epochs": 2.5}, "d": {"weight": 1}},
                    **SAMPLING[lag])
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            info = w.attach(name)
        return info["run"], info["names"]

    def train(self, d, name, kind, worlds, rng, ret):
        """All ranks of a run, a thread each; worlds: [(step from which on, world)]."""
        run, names = self.make_lock(d, name, kind)
        content, errors = {}, []
        for (first, world), upto in zip(worlds, [w[0] for w in worlds[1:]] + [STEPS]):
            def work(rank, world=world, first=first, upto=upto):
                try:
                    url = rng.choice((d.url, d.ipc))
                    Rank(url, run, rank, world, random.Random(rng.random()), rng.randrange(6),
                         rng.choice((0, 1, 3)), content, names).train(kind, first, upto)
                except BaseException as e:
                    errors.append(e)
                    raise
            threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            if errors:
                return
        ret[kind] = (content, name)

    def make_lock(self, *args):
        with self.lock:
            return self.make(*args)

    def control(self, d, **o):
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            return json.loads(w.get(wire.CONTROL, json.dumps(o).encode()))

    def history(self, d, name):
        """The mixes of a run, and the digest of all its steps."""
        mixes, at = [], 1
        while at is not None:
            page = self.control(d, op="run.log", run=name, **{"from": at})
            mixes += [(e["step"], e["mix_version"], e["shares"], e.get("cause_step"))
                      for e in page["entries"] if e["kind"] in ("create", "mix")]
            at = page["next"]
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            info = w.attach(name)
            with self.assertRaises(wire.Trouble):
                w.batch(info["run"], STEPS, 0, 1)
        self.until(lambda: self.control(d, op="run.replay", run=name)["steps"] == STEPS)
        return mixes, self.control(d, op="run.replay", run=name)["digest"]

    def variant(self, v, worlds, **config):
        """All kinds of runs at once, on a daemon of this config. {kind: what came of it}"""
        d = self.start(config=config)
        ret = {}
        threads = [threading.Thread(target=self.train, args=(
            d, f"v{v}-{kind[0]}-{kind[1]}", kind, worlds,
            random.Random(f"{self.seed} {v} {kind}"), ret)) for kind in KINDS]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(set(ret), set(KINDS), "a trainer has failed")
        result = {kind: (content, *self.history(d, name))
                  for kind, (content, name) in ret.items()}
        self.assertEqual(d.stop(), 0)
        return result

    def test_a_run_in_lockstep_follows_from_its_config_and_losses(self):
        self.lock = threading.Lock()
        for i, (name, samples) in enumerate(DOMAINS.items()):
            self.tokens(name, samples * SEQ, 10000 * i, "zstd:1" if name == "a" else "raw")
        first = self.variant(0, [(0, 4)])
        for kind, (content, mixes, _) in first.items():
            self.assertEqual(len(content), STEPS * BATCH)
            self.assertGreater(len(mixes), STEPS // 2, kind)
        for v, worlds, fillers, ahead in ((1, [(0, 4)], 1, 0), (2, [(0, 2), (70, 3)], 4, 8)):
            again = self.variant(v, worlds, fillers=fillers, fill_ahead=ahead)
            for kind in KINDS:
                self.assertEqual(again[kind][1], first[kind][1], f"mixes of {kind}, variant {v}")
                for key, slot in first[kind][0].items():
                    self.assertEqual(again[kind][0][key], slot, f"{kind}, variant {v}: {key}")
                self.assertEqual(again[kind][2], first[kind][2], f"digest of {kind}, variant {v}")


if __name__ == "__main__":
    main()
