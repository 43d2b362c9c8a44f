"""What an attack on the daemon has found once: each test is one way in which it was wrong."""
import concurrent.futures
import glob
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import time

from harness import DaemonTest, MIXD, PATIENCE, main
import wire


def control(w, **o):
    """Sends an operation without waiting for its answer."""
    return w.send(wire.frame(wire.CONTROL, json.dumps(o).encode(), 7))


class Attack(DaemonTest):
    def domains(self, n=4096, codec="raw"):
        self.tokens("a", n, 0, codec)
        self.tokens("b", n, 20000, codec)

    def make(self, config=None, n=4096, codec="raw", **kw):
        self.domains(n, codec)
        d = self.start(config=config)
        self.create(d, **kw)
        return d

    def share(self, d):
        return d.stats("r")["domains"][0]["share"]

    def test_several_that_wait_for_a_damaged_block(self):
        self.domains()
        for path in glob.glob(self.path("store", "shards", "*.mxs")):
            with open(path, "r+b") as f:
                data = f.read()
                at = max(data.find(struct.pack("<4H", *range(first + 100, first + 104)))
                         for first in (0, 20000))
                self.assertGreater(at, 0)
                f.seek(at)
                f.write(b"\xff")
        d = self.start()
        self.create(d)
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            for _ in range(64):
                w.send(wire.frame(wire.BATCH, wire.batch_body(1, 0, 0, 8)))
            for _ in range(64):
                self.assertEqual(w.receive()[1].status, wire.DAMAGED)

    def test_of_two_weights_set_at_once_the_later_stays(self):
        d = self.make()
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            for part in (0.9, 0.3, 0.7):
                control(w, op="mix.set", run="r", weights={"a": part})
            for _ in range(3):
                self.assertEqual(w.receive()[1].status, wire.OK)
            run, step = w.attach("r")["run"], 0
            while abs(self.share(d) - 0.7) > 1e-6:
                self.assertLess(step, 200)
                w.batch(run, step, 0, 8)
                step += 1
        d.kill()
        d = self.start()
        self.assertAlmostEqual(self.share(d), 0.7)

    def test_the_same_step_tells_the_same_version(self):
        # A mix with the shares of the one before leaves what is being filled as it is.
        d = self.make({"cache_mib": 0}, 262144, "zstd:3", batch_size=256, seq_len=256, lead=0)
        seen = {}
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            run, step = w.attach("r")["run"], 0
            for _ in range(40):
                heads = {}
                for k in range(6):
                    heads[w.send(wire.frame(wire.BATCH,
                                            wire.batch_body(run, step + k, 0, 256)))] = step + k
                    if k % 2 == 0:
                        control(w, op="mix.set", run="r", weights={"a": 0.5})
                for _ in range(9):
                    head, reply = w.receive()
                    self.assertEqual(reply.status, wire.OK)
                    if head in heads:
                        seen[heads[head]] = reply.body
                step += 6
            for s, body in seen.items():
                self.assertEqual(wire.parse_batch(w.get(wire.BATCH, wire.batch_body(
                    run, s, 0, 256)))["mix_version"], wire.parse_batch(body)["mix_version"], s)

    def test_texts_are_utf8_whatever_they_quote(self):
        d = self.make()
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            for pad in ("", "x"):
                control(w, op="mix.set", run="r", weights={pad + "\u00e9" * 3000: 1})
                reply = w.receive()[1]
                self.assertEqual(reply.status, wire.BAD_REQUEST)
                self.assertIn("has no domain", wire.trouble(reply.body)[1])
            reply = w.ask(wire.ATTACH, struct.pack("<IIIH", 0, 1, 0, 2) + b"\xff\xfe")
            self.assertIn(reply.status, (wire.GONE, wire.BAD_REQUEST))
            wire.trouble(reply.body)

    def test_a_domain_of_a_run_that_is_being_created_stays(self):
        self.domains()
        d = self.start()
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            for i in range(10):
                create = control(w, op="run.create", name=f"r{i}",
                                 config=json.dumps(self.run_config()))
                control(w, op="domain.rm", name="a")
                for _ in range(2):
                    head, reply = w.receive()
                    self.assertEqual(reply.status, wire.OK if head == create else wire.BUSY)
                    if head != create:  # a client asks again, but not a thousand times a second
                        self.assertGreaterEqual(wire.trouble(reply.body)[0], 100)
        self.assertEqual(d.get("/healthz"), "ok\n")

    def test_no_number_of_a_run_that_isnt_durable(self):
        self.domains()
        d = self.start()
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            for i in range(20):
                create = control(w, op="run.create", name=f"r{i}",
                                 config=json.dumps(self.run_config()))
                w.send(wire.frame(wire.ATTACH, struct.pack("<III", 0, 1, 0) + wire.name(f"r{i}")))
                head, reply = w.receive()
                if head != create:
                    self.assertEqual(reply.status, wire.WAIT)
                w.receive()
                self.assertEqual(w.attach(f"r{i}")["state"], 1)

    def test_a_want_of_descriptors_passes(self):
        d = self.make()
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            run = w.attach("r")["run"]
            n = d.descriptors()
            _, hard = resource.prlimit(d.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(d.process.pid, resource.RLIMIT_NOFILE, (n, hard))
            with self.assertRaises(wire.Trouble) as e:
                w.batch(run, 0, 0, 8)
            self.assertEqual(e.exception.status, wire.BUSY)
            self.assertGreater(e.exception.wait_ms, 0)
            resource.prlimit(d.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
            w.batch(run, 0, 0, 8)

    def test_replies_that_nobody_reads_are_bounded_and_come_in_the_end(self):
        d = self.make({"queue_mib": 4, "send_timeout_ms": 600000}, 65536, batch_size=120,
                      seq_len=1024)
        wires = [wire.Wire(d.url, timeout=PATIENCE, rcvbuf=4096) for _ in range(8)]
        for w in wires:
            for i in range(64):
                w.send(wire.frame(wire.BATCH, wire.batch_body(1, i % 5, i % 3, 100, oldest=0)))
        most, end = 0, time.monotonic() + 1
        while time.monotonic() < end:
            most = max(most, d.stats()["network"]["queued_bytes"])
            time.sleep(0.01)
        self.assertGreater(most, 3 << 20)
        self.assertLess(most, (4 << 20) + 2 * 262144)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for replies in pool.map(lambda w: [w.receive() for _ in range(64)], wires):
                self.assertEqual(len({head for head, _ in replies}), 64)
                self.assertEqual({reply.status for _, reply in replies}, {wire.OK})
                self.assertEqual(len({reply.body for _, reply in replies}), 15)
        for w in wires:
            w.close()

    def test_fill_ahead_can_be_switched_off(self):
        d = self.make({"fill_ahead": 4})
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            run = w.attach("r")["run"]
            for step in range(64):  # many in flight: the daemon looks further ahead
                w.send(wire.frame(wire.BATCH, wire.batch_body(run, step, 0, 8)))
            for _ in range(64):
                self.assertEqual(w.receive()[1].status, wire.OK)
            with open(d.config_path, "w", encoding="utf-8") as f:
                json.dump({"fill_ahead": 0}, f)
            d.process.send_signal(signal.SIGHUP)
            self.until(lambda: "key=fill_ahead" in d.text())
            for step in range(64, 200):
                w.batch(run, step, 0, 8)
            self.assertEqual(d.stats()["ready"]["filling"] + d.stats()["ready"]["batches"], 0)

    def control(self, d, **o):
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            return json.loads(w.get(wire.CONTROL, json.dumps(o).encode()))

    def test_a_mix_set_for_later_than_where_a_run_goes_back_to_is_gone(self):
        d = self.make(snapshot_steps=4, reserve_steps=4)
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            for step in range(3):
                w.batch(1, step, 0, 8)
            self.control(d, op="mix.set", run="r", weights={"a": 1, "b": 0}, at=12, why="later")
            before = [w.batch(1, step, 0, 8)["tokens"] for step in range(3, 11)]
            self.until(lambda: d.stats("r")["frontier"] > 8)  # a snapshot knows of the mix
            self.control(d, op="run.rewind", run="r", to=10, why="test")
            self.assertEqual(before, [w.batch(1, step, 0, 8)["tokens"] for step in range(3, 11)])
            for step in range(10, 14):
                self.assertEqual(sum(w.batch(1, step, 0, 8)["domains"]), 4, "half of it is b")
        self.assertTrue(self.control(d, op="run.replay", run="r")["ok"])

    def test_a_fork_tells_of_its_own_steps_and_where_it_is_from(self):
        d = self.make()
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            w.batch(1, 9, 0, 8)
            self.control(d, op="run.fork", run="r", name="f", at=6)
            w.batch(2, 10, 0, 8)
        self.control(d, op="run.stop", run="f")
        r = self.control(d, op="run.replay", run="f")
        self.assertEqual((r["first_step"], r["steps"]), (6, 5))
        fork = self.control(d, op="run.log", run="f")["entries"][0]
        self.assertEqual((fork["source"], fork["source_step"]), ("r", 6))
        self.assertIn("from run r at its step 6", self.mixctl("log", "f", daemon=d).stdout)

    def test_a_get_with_a_body_is_answered(self):
        d = self.start()
        host, port = d.http[len("http://"):].split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as s:
            s.sendall(b"GET /healthz HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
            self.assertIn(b" 200 OK", s.recv(4096))

    def test_addresses(self):
        def check(*args):
            return subprocess.run([MIXD, "--check-config", "--data", "not-there-yet", *args],
                                  cwd=self.folder, capture_output=True, text=True,
                                  timeout=PATIENCE, check=False)
        for port in ("65536", "99999", "0x50", "80a", "", "-1", "000080"):
            r = check("--listen", "tcp://127.0.0.1:" + port)
            self.assertEqual(r.returncode, 1, port)
            self.assertIn("tcp://HOST:PORT", r.stderr)
            self.assertEqual(check("--http", "127.0.0.1:" + port).returncode, 1, port)
        r = check()  # the folder is named relatively: its socket is listened on all the same
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertFalse(os.path.exists(self.path("not-there-yet")))


if __name__ == "__main__":
    main()
