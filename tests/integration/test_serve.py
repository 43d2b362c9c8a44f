"""Batches and feedback over real sockets, against a real daemon."""
import os
import struct
import threading

from harness import DaemonTest, main
import wire


class Serve(DaemonTest):
    def make(self, codec="raw", **kw):
        self.raw = {"a": self.tokens("a", 4096, 0, codec), "b": self.tokens("b", 4096, 20000, codec)}
        d = self.start()
        self.create(d, **kw)
        return d

    def expected(self, info, b):
        """The tokens that each slot must hold, from the files that went in."""
        size = info["seq_len"] * info["width"]
        return [self.raw[info["names"][k]][s * size:(s + 1) * size]
                for k, s in zip(b["domains"], b["samples"])]

    def test_every_slot_holds_the_tokens_that_were_ingested(self):
        for codec in ("raw", "zstd:3"):
            with self.subTest(codec=codec):
                self.tearDown()
                self.setUp()
                d = self.make(codec)
                for url in (d.url, d.ipc):
                    with wire.Wire(url) as w:
                        self.assertEqual(w.hello()[0], 2)
                        info = w.attach("r")
                        for step in range(40):
                            b = w.batch(info["run"], step, 0, 8)
                            self.assertEqual(b["tokens"], self.expected(info, b))
                            self.assertEqual((b["step"], b["slot_count"]), (step, 8))

    def test_same_bytes_on_any_connection_and_for_any_world(self):
        d = self.make()
        with wire.Wire(d.url) as w, wire.Wire(d.ipc) as v:
            run = w.attach("r")["run"]
            for step in range(30):
                whole = w.batch(run, step, 0, 8)
                for world in (1, 2, 3, 8):
                    parts = []
                    for rank in range(world):
                        first, n = wire.slots(rank, world, 8)
                        parts += v.batch(run, step, first, n, rank, world)["tokens"]
                    self.assertEqual(parts, whole["tokens"])

    def test_each_sample_once_an_epoch(self):
        d = self.make(domains={"a": {}})
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            n = 4096 // 16
            seen = []
            for step in range(2 * n // 8):
                b = w.batch(run, step, 0, 8)
                seen += list(zip(b["epochs"], b["samples"]))
            self.assertEqual(sorted(seen), [(e, s) for e in range(2) for s in range(n)])
            self.assertNotEqual([s for _, s in seen[:n]], [s for _, s in seen[n:]])

    def test_restart_serves_the_same_and_goes_on(self):
        d = self.make(policy={"name": "odm"}, snapshot_steps=32, reserve_steps=16)
        before = {}
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            for step in range(150):
                b = w.batch(run, step, 0, 8)
                before[step] = b
                w.feedback(run, step, [(0, 4, 64, 64 * 2.5), (1, 4, 64, 64 * 0.5)],
                           version=b["mix_version"])
        self.assertGreater(before[149]["mix_version"], 1)
        d.kill()
        d = self.start()
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            self.assertGreaterEqual(info["frontier"], 150)
            for step in self.random.sample(range(150), 150):
                self.assertEqual(w.batch(run, step, 0, 8), before[step], f"step {step}")
            w.batch(run, info["frontier"], 0, 8)

    def test_feedback_moves_the_mix(self):
        d = self.make(policy={"name": "odm"}, batch_size=64)
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            for step in range(60):
                b = w.batch(run, step, 0, 64)
                w.feedback(run, step, [(0, 32, 512, 512 * 6.0), (1, 32, 512, 512 * 1.0)],
                           version=b["mix_version"])
            counts = b["domains"].count(0)
        self.assertGreater(counts, 40)  # domain a has the higher loss: it gets more
        shares = {x["name"]: x["share"] for x in d.stats("r")["domains"]}
        self.assertGreater(shares["a"], 0.6)
        self.assertEqual(d.stats("r")["feedback"]["accepted"], 60)

    def test_feedback_is_idempotent_and_waits_for_all_ranks(self):
        d = self.make(policy={"name": "odm"})
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            w.batch(run, 0, 0, 8)
            loss = [(0, 1, 16, 40.0), (1, 1, 16, 4.0)]
            self.assertEqual(w.feedback(run, 0, loss, 0, 2)[1], 0)
            self.assertEqual(d.stats("r")["feedback"]["steps_closed"], 0)
            self.assertEqual(w.feedback(run, 0, loss, 0, 2)[1], 1)
            self.assertEqual(w.feedback(run, 0, loss, 1, 2)[1], 0)
            self.until(lambda: d.stats("r")["feedback"]["steps_closed"] == 1)
            self.assertEqual(w.feedback(run, 0, loss, 1, 2)[1], 1)
            self.assertEqual(d.stats("r")["feedback"]["accepted"], 2)

    def test_a_missing_rank_is_waited_for_no_longer_than_the_timeout(self):
        d = self.make(policy={"name": "odm"}, feedback={"timeout_s": 1})
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            w.batch(run, 0, 0, 8)
            w.feedback(run, 0, [(0, 1, 16, 40.0)], 0, 2)
            self.until(lambda: d.stats("r")["feedback"]["timeouts"] == 1)
            self.assertEqual(w.feedback(run, 0, [(0, 1, 16, 40.0)], 1, 2)[1], 2)

    def test_end_of_a_run_is_END_and_nothing_else_is(self):
        d = self.make(end={"steps": 5})
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            for step in range(5):
                w.batch(run, step, 0, 8)
            with self.assertRaises(wire.Trouble) as e:
                w.batch(run, 5, 0, 8)
            self.assertEqual(e.exception.status, wire.END)
        self.assertEqual(d.stats("r")["state"], "ended")

    def test_stop(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            w.batch(run, 3, 0, 8)
            self.mixctl("run", "stop", "r", "--why", "enough", daemon=d)
            w.batch(run, 3, 0, 8)
            with self.assertRaises(wire.Trouble) as e:
                w.batch(run, 4, 0, 8)
            self.assertEqual(e.exception.status, wire.END)
            self.assertIn("stopped", e.exception.text)
        d.kill()
        d = self.start()
        self.assertEqual(d.stats("r")["state"], "stopped")

    def test_exhausted_stops_where_the_config_says(self):
        d = self.make(domains={"a": {"weight": 1, "max_epochs": 1, "on_exhausted": "stop"}})
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            for step in range(32):
                w.batch(run, step, 0, 8)
            for _ in range(2):
                with self.assertRaises(wire.Trouble) as e:
                    w.batch(run, 32, 0, 8)
                self.assertEqual(e.exception.status, wire.EXHAUSTED)
                self.assertIn("domain a", e.exception.text)
            w.batch(run, 31, 0, 8)

    def test_redistribute_gives_the_slots_to_the_others(self):
        d = self.make(domains={"a": {"weight": 0.5, "max_epochs": 0.25}, "b": {"weight": 0.5}})
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            drawn = []
            for step in range(40):
                drawn += w.batch(run, step, 0, 8)["domains"]
        self.assertEqual(drawn.count(0), 64)  # a quarter of its 256 samples, exactly
        self.assertEqual(len(drawn), 320)

    def test_large_batches_come_in_pieces(self):
        d = self.make(batch_size=400, seq_len=1024)
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            got, first = [], 0
            while first < 400:
                reply = w.ask(wire.BATCH, wire.batch_body(info["run"], 0, first, 400 - first))
                self.assertLessEqual(len(reply.raw), 262144)
                b = wire.parse_batch(reply.body)
                self.assertEqual(b["slot_first"], first)
                self.assertEqual(b["tokens"], self.expected(info, b))
                got += b["tokens"]
                first += b["slot_count"]
            self.assertGreater(info["slots_per_reply"], 100)

    def test_a_sample_larger_than_a_reply_comes_in_parts(self):
        raw = self.tokens("a", 600000)
        d = self.start()
        self.create(d, batch_size=2, seq_len=300000, domains={"a": {}})
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            whole, at = b"", 0
            while at < 300000:
                b = w.batch(run, 0, 1, 1, token_first=at)
                self.assertEqual((b["slot_count"], b["token_first"]), (1, at))
                self.assertTrue(all(at <= s < at + b["token_count"] for s in b["starts"]))
                whole += b["tokens"][0]
                at += b["token_count"]
            s = b["samples"][0]
            self.assertEqual(whole, raw[s * 600000:(s + 1) * 600000])

    def test_document_starts(self):
        lines = [f'{{"text": "{"x" * n}"}}' for n in (3, 10, 1, 0, 25, 7)] * 20
        self.mixctl("ingest", "t", self.write("t.jsonl", "\n".join(lines)), data=True)
        d = self.start()
        self.create(d, batch_size=4, seq_len=16, domains={"t": {}})
        text, starts = [], set()
        for n in (3, 10, 1, 25, 7) * 20:
            starts.add(len(text))
            text += [ord("x")] * n + [256]
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            self.assertEqual(info["eod"], 256)
            for step in range(16):
                b = w.batch(info["run"], step, 0, 4)
                at = 0
                for s, n, raw in zip(b["samples"], b["bounds"], b["tokens"]):
                    want = [x - s * 16 for x in sorted(starts) if s * 16 <= x < s * 16 + 16]
                    self.assertEqual(list(b["starts"][at:at + n]), want)
                    self.assertEqual(list(struct.unpack("<16H", raw)),
                                     text[s * 16:s * 16 + 16])
                    at += n

    def test_widths_are_mixed(self):
        self.tokens("a", 4096)
        raw = struct.pack("<4096I", *range(70000, 74096))
        self.mixctl("ingest", "b", self.write("b.u32", raw), "--format", "u32", data=True)
        d = self.start()
        self.create(d)
        with wire.Wire(d.url) as w:
            info = w.attach("r")
            self.assertEqual(info["width"], 4)
            b = w.batch(info["run"], 0, 0, 8)
            for k, s, t in zip(b["domains"], b["samples"], b["tokens"]):
                base = 70000 if info["names"][k] == "b" else 0
                self.assertEqual(list(struct.unpack("<16I", t)),
                                 [base + s * 16 + i for i in range(16)])

    def test_many_trainers_at_once(self):
        d = self.make(policy={"name": "odm"}, batch_size=64)
        errors, union = [], {}
        lock = threading.Lock()

        def trainer(rank, world, steps):
            try:
                with wire.Wire(d.url) as w:
                    run = w.attach("r", rank, world)["run"]
                    first, n = wire.slots(rank, world, 64)
                    for step in range(steps):
                        b = w.batch(run, step, first, n, rank, world)
                        with lock:
                            union.setdefault(step, {})[rank] = b["tokens"]
                        w.feedback(run, step, [(0, 1, 16, 16 * 3.0), (1, 1, 16, 16 * 1.0)], rank,
                                   world, b["mix_version"])
            except Exception as e:  # pylint: disable=broad-except
                errors.append(e)

        threads = [threading.Thread(target=trainer, args=(r, 8, 40)) for r in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(errors, [])
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            for step in range(40):
                whole = w.batch(run, step, 0, 64)["tokens"]
                self.assertEqual([t for r in range(8) for t in union[step][r]], whole)
        self.assertEqual(d.stats("r")["feedback"]["accepted"], 320)

    def test_two_runs_on_one_store(self):
        d = self.make()
        self.create(d, name="s", seed=2)
        with wire.Wire(d.url) as w:
            r, s = w.attach("r")["run"], w.attach("s")["run"]
            a, b = w.batch(r, 0, 0, 8), w.batch(s, 0, 0, 8)
            self.assertNotEqual(a["samples"], b["samples"])

    def test_a_domain_ingested_beside_the_daemon_is_there_at_once(self):
        d = self.make()
        self.tokens("c", 4096, 40000)
        names = [x["name"] for x in self.json("domain", "ls", daemon=d)["domains"]]
        self.assertEqual(names, ["a", "b", "c"])
        self.create(d, name="s", domains={"c": {}})
        with wire.Wire(d.url) as w:
            b = w.batch(w.attach("s")["run"], 0, 0, 8)
            self.assertEqual(b["domains"], (0,) * 8)
        # More shards of a domain don't change what a run before them serves.
        with wire.Wire(d.url) as w:
            run = w.attach("r")["run"]
            before = w.batch(run, 0, 0, 8)
            self.tokens("a", 4096, 50000)
            self.assertEqual(w.batch(run, 0, 0, 8), before)
        self.assertEqual(os.listdir(self.path("store")).count("catalog"), 1)


if __name__ == "__main__":
    main()
