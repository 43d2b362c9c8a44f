"""What an attack on the operations on history and domains has found once: each test is one way in
which the daemon was wrong."""
import json

from harness import DaemonTest, PATIENCE, main
import wire


def ask(w, **o):
    """An operation's answer; wire.Trouble if it is refused."""
    return json.loads(w.get(wire.CONTROL, json.dumps(o).encode()))


class Collector:
    """In the place of a socket: keeps what is sent."""

    def __init__(self, parts):
        self.sendall = parts.append


class Attack(DaemonTest):
    def make(self, config=None, n=4096, **kw):
        self.tokens("a", n)
        self.tokens("b", n, 20000)
        d = self.start(config=config)
        self.create(d, **kw)
        return d

    def wire(self, d):
        w = wire.Wire(d.url, timeout=PATIENCE)
        self.addCleanup(w.close)
        return w

    def burst(self, w, frames):
        """Frames that the daemon reads at once; the numbers of their replies."""
        heads, raw, really = [], [], w.sock.sendall
        w.sock, sock = Collector(raw), w.sock
        try:
            heads = [w.send(f) for f in frames]
        finally:
            w.sock = sock
        really(b"".join(raw))
        return heads

    def steps(self, w, first, upto, count=8, run=1):
        return [w.batch(run, s, 0, count) for s in range(first, upto)]

    def documents(self, domain, texts, ids):
        """A domain of documents with these ids, a token for each byte."""
        lines = [json.dumps({"id": i, "text": t}) + "\n" for i, t in zip(ids, texts)]
        path = self.write(domain + ".jsonl", "".join(lines))
        self.mixctl("ingest", domain, path, "--format", "jsonl", "--tokenizer", "bytes", data=True)

    # ---- going back ----

    def test_what_waits_for_a_rewind_that_is_refused_goes_on_at_once(self):
        d = self.make({"hold_ms": 20000}, snapshot_steps=8, reserve_steps=8)
        w = self.wire(d)
        self.steps(w, 0, 40)
        ask(w, op="mix.set", run="r", weights={"a": 0.4})
        ask(w, op="run.compact", run="r", before=30)
        frontier = d.stats("r")["frontier"]
        rewind, batch = self.burst(w, [
            wire.frame(wire.CONTROL, json.dumps({"op": "run.rewind", "run": "r", "to": 2}).encode()),
            wire.frame(wire.BATCH, wire.batch_body(1, frontier, 0, 8))])
        status = dict((number, reply.status) for number, reply in (w.receive(), w.receive()))
        self.assertEqual(status, {rewind: wire.GONE, batch: wire.OK})

    def test_a_rewind_forgets_weights_that_a_snapshot_knows(self):
        d = self.make(snapshot_steps=8, reserve_steps=4, lead=0)
        w = self.wire(d)
        self.steps(w, 0, 6)
        ask(w, op="mix.set", run="r", weights={"a": 0.9}, at=20)
        self.steps(w, 6, 14)  # a snapshot at step 8 holds the mix of step 20
        ask(w, op="run.rewind", run="r", to=10)
        shown = ask(w, op="mix.show", run="r")
        self.assertEqual(shown["next_version"], 0)
        self.steps(w, 10, 30)
        self.assertAlmostEqual(ask(w, op="mix.show", run="r")["domains"][0]["share"], 0.5)
        d.kill()
        d = self.start()
        self.assertAlmostEqual(d.stats("r")["domains"][0]["share"], 0.5)

    def test_a_fork_s_replay_counts_its_own_steps(self):
        d = self.make(reserve_steps=4)
        w = self.wire(d)
        self.steps(w, 0, 20)
        ask(w, op="run.fork", run="r", name="f", at=15)
        run = w.attach("f")["run"]
        self.steps(w, 15, 20, run=run)
        r = ask(w, op="run.replay", run="f")
        frontier = ask(w, op="run.show", run="f")["frontier"]
        self.assertEqual(r["first_step"], 15)
        self.assertLessEqual(r["first_step"] + r["steps"], frontier)

    def test_a_run_whose_last_snapshot_holds_all_can_be_compacted(self):
        d = self.make(snapshot_steps=8, reserve_steps=1024)
        w = self.wire(d)
        batches = self.steps(w, 0, 32)
        ask(w, op="mix.set", run="r", weights={"a": 0.4}, at=40)
        batches += self.steps(w, 32, 60)
        self.until(lambda: d.stats()["store"]["commit_queue"] == 0)
        last = ask(w, op="run.log", run="r")["last"]
        self.assertGreater(ask(w, op="run.compact", run="r", before=10 ** 9)["removed"], 0)
        ask(w, op="run.replay", run="r")
        d.kill()
        d = self.start()
        w = self.wire(d)
        self.assertEqual(self.steps(w, 0, 60), batches)
        self.assertGreaterEqual(ask(w, op="run.log", run="r")["last"], last)

    def test_a_replay_before_a_rewind_s_snapshot_is_durable(self):
        d = self.make(snapshot_steps=8, reserve_steps=8)
        w = self.wire(d)
        self.steps(w, 0, 40)
        ask(w, op="run.rewind", run="r", to=20)
        ask(w, op="mix.set", run="r", weights={"a": 0.4})
        self.until(lambda: d.stats()["store"]["commit_queue"] == 0)
        self.assertEqual(ask(w, op="run.compact", run="r", before=20)["step"], 20)
        for _ in range(20):
            ask(w, op="run.rewind", run="r", to=20)
            r = ask(w, op="run.replay", run="r")
            self.assertEqual((r["first_step"], r["steps"]), (20, 0))
        self.steps(w, 20, 24)

    def test_what_is_asked_before_a_rewind_s_snapshot_is_durable(self):
        d = self.make(snapshot_steps=8, reserve_steps=8)
        w = self.wire(d)
        self.steps(w, 0, 10)
        ask(w, op="run.fork", run="r", name="s", at=5)
        for i in range(20):
            for name, first in (("r", 0), ("s", 5)):
                run = w.attach(name)["run"]
                self.steps(w, first, first + 5, run=run)
                ask(w, op="run.rewind", run=name, to=first)
                ask(w, op="run.fork", run=name, name=f"{name}{i}", at=first)
                ask(w, op="where", run=name, domain="a", sample=3)
                w.batch(run, first, 0, 8)
                ask(w, op="step.show", run=name, step=first)

    # ---- withdrawals ----

    def test_withdrawals_at_once_don_t_take_too_much_together(self):
        ids = ["x"] * 4 + ["y"] * 4 + ["z"] * 2  # x or y alone are less than half
        self.documents("t", ["x" * 256] * 10, ids)
        d = self.start()
        self.create(d, domains={"t": {}})
        w = self.wire(d)
        self.steps(w, 0, 4)
        heads = self.burst(w, [wire.frame(wire.CONTROL, json.dumps(
            {"op": "domain.withdraw", "name": "t", "doc": i, "why": "on request"}).encode())
            for i in "xyxyxy"])
        answers = [w.receive()[1] for _ in heads]
        self.assertIn(wire.OK, [a.status for a in answers])
        for a in answers:
            if a.status == wire.BAD_REQUEST:
                self.assertIn(b"over half", a.body)
            else:
                self.assertIn(a.status, (wire.OK, wire.BUSY), a.body)
        self.assertEqual(ask(w, op="run.show", run="r")["state"], "active")
        self.steps(w, 4, 20)

    def test_a_withdrawal_of_more_pieces_than_a_run_keeps(self):
        n = 9000
        self.documents("t", ["x" * 16] * (6 * n), ["x", "a", "b", "c", "d", "e"] * n)
        d = self.start()
        self.create(d, domains={"t": {}})
        w = self.wire(d)
        self.steps(w, 0, 4)
        with self.assertRaises(wire.Trouble) as e:
            ask(w, op="domain.withdraw", name="t", doc="x", why="on request")
        self.assertEqual(e.exception.status, wire.BAD_REQUEST)
        self.assertEqual(ask(w, op="run.show", run="r")["state"], "active")
        self.steps(w, 4, 8)
        d.kill()
        self.assertEqual(self.start().stats("r")["state"], "active")

    # ---- looking ----

    def test_where_a_document_of_many_samples_will_be(self):
        # Steps to come were walked for each sample again, and slowly once something was withdrawn.
        self.documents("t", ["x" * 4000] + ["y" * 60] * 12000, [f"d{i}" for i in range(12001)])
        d = self.start()
        self.create(d, domains={"t": {}})
        w = self.wire(d)
        self.steps(w, 0, 50)
        ask(w, op="domain.withdraw", name="t", doc="d5", why="on request")
        found = ask(w, op="where", run="r", doc="d0")
        self.assertGreater(len(found["samples"]), 100)
        for s in self.random.sample(found["samples"], 5):
            alone = ask(w, op="where", run="r", domain="t", sample=s["sample"])["samples"][0]
            n = min(len(alone["steps"]), len(s["steps"]))  # how far is looked differs
            self.assertGreater(n, 0)
            self.assertEqual(alone["steps"][:n], s["steps"][:n])
        self.steps(w, 50, 200)
        s = found["samples"][0]
        later = ask(w, op="where", run="r", domain="t", sample=s["sample"])["samples"][0]
        self.assertEqual([a["step"] for a in later["steps"]][:len(s["steps"])],
                         [a["step"] for a in s["steps"]])
    def test_a_step_whose_shares_fill_a_page(self):
        names = [f"d{i:03}".ljust(63, "x") for i in range(960)]
        raw = self.write("raw.u16", b"ab" * 64)
        for n in names:
            self.mixctl("ingest", n, raw, "--format", "u16", data=True)
        d = self.start()
        self.create(d, domains={n: {} for n in names}, batch_size=64)
        w = self.wire(d)
        w.batch(1, 0, 0, 64)
        page = ask(w, op="step.show", run="r", step=0)
        self.assertEqual(len(page["shares"]), len(names))
        slots = [s["slot"] for s in page["slots"]]
        while page["next_slot"] is not None:
            page = ask(w, op="step.show", run="r", step=0, slot_first=page["next_slot"])
            slots += [s["slot"] for s in page["slots"]]
            self.assertGreater(len(page["slots"]), 0)
        self.assertEqual(slots, list(range(64)))

    # ---- growth ----

    def test_a_run_that_has_grown_as_often_as_it_can_goes_on(self):
        self.tokens("t", 128)
        d = self.start()
        self.create(d, domains={"t": {}})  # a step is an epoch
        w = self.wire(d)
        step = 0
        with self.assertRaises(wire.Trouble) as e:
            while step < 5000:
                ask(w, op="domain.adopt", name="t", run="r", now=True)
                w.batch(1, step, 0, 8)
                w.batch(1, step + 1, 0, 8)
                step += 2
        self.assertEqual(e.exception.status, wire.BAD_REQUEST)
        self.tokens("t", 128, 1000)
        self.until(lambda: " run.adopt " in d.text())
        self.assertEqual(d.stats("r")["state"], "active")
        w.batch(1, step, 0, 8)
        self.assertEqual(d.text().count(" run.adopt "), 1)


if __name__ == "__main__":
    main()
