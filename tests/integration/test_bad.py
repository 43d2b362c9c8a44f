"""Bad input and bad peers: each gets a reply or a line that names what and where, and honest
trainers go on."""
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from harness import DaemonTest, MIXD, PATIENCE, main
import wire


class BadTest(DaemonTest):
    def make(self, *args, **kw):
        self.tokens("a", 4096)
        self.tokens("b", 4096, 20000)
        d = self.start(*args)
        self.create(d, **kw)
        return d

    def honest(self, d, step):
        """An honest trainer gets its batch and reports."""
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            run = w.attach("r")["run"]
            b = w.batch(run, step, 0, 8)
            self.assertEqual(len(b["tokens"]), 8)
            self.assertEqual(w.feedback(run, step, [(0, 1, 16, 16.0)],
                                        version=b["mix_version"])[1], 0)


class BadRequests(BadTest):
    def refused(self, w, expected, text, type_, body, **kw):
        reply = w.ask(type_, body, **kw)
        self.assertEqual(reply.status, expected, reply.body)
        _, said = wire.trouble(reply.body)
        self.assertRegex(said, text)

    def test_frames(self):
        d = self.make()
        body = wire.batch_body(1, 0, 0, 8)
        with wire.Wire(d.url) as w:
            bad = wire.BAD_REQUEST
            self.refused(w, bad, "magic", wire.BATCH, body, magic=b"MXD2")
            self.refused(w, bad, "version 3", wire.BATCH, body, version=3)
            self.refused(w, bad, "type 99", 99, body)
            self.refused(w, bad, "says 41 bytes", wire.BATCH, body, length=41)
            self.refused(w, bad, "says 4294967295 bytes", wire.BATCH, body, length=2**32 - 1)
            self.refused(w, bad, "status", wire.BATCH, body, status=3)
            self.refused(w, bad, "1 bytes too many", wire.BATCH, body + b"x")
            for n in range(len(body)):
                self.refused(w, bad, "BATCH request.*cut short", wire.BATCH, body[:n])
            for n in range(24):
                w.send(wire.frame(wire.BATCH, b"")[:n])
                reply = w.receive()[1]
                self.assertEqual(reply.status, bad)
                self.assertIn("no header", wire.trouble(reply.body)[1])
        self.honest(d, 0)
        self.assertEqual(d.stats()["network"]["requests_malformed"], 7 + len(body) + 24)

    def test_batches(self):
        d = self.make(end={"steps": 100})
        bad = wire.BAD_REQUEST
        with wire.Wire(d.url) as w:
            for args, status, text in (
                    ((1, 0, 8, 1), bad, "slots.*batch of 8"),
                    ((1, 0, 0, 9), bad, "slots"),
                    ((1, 0, 2**32 - 1, 2), bad, "slots"),
                    ((1, 0, 0, 0), bad, "slots"),
                    ((1, 0, 0, 1, 1, 1), bad, "rank"),
                    ((1, 0, 0, 1, 0, 0), bad, "rank|world"),
                    ((1, 0, 0, 1, 0, 2**31), bad, "world"),
                    ((1, 2**63, 0, 1), bad, "step"),
                    ((1, 100, 0, 1), wire.END, "ends before step 100"),
                    ((1, 0, 0, 2, 0, 1, 3), bad, "part"),
                    ((1, 0, 0, 1, 0, 1, 16), bad, "seq_len"),
                    ((9, 0, 0, 1), wire.GONE, "no run 9")):
                self.refused(w, status, text, wire.BATCH, wire.batch_body(*args))
            self.refused(w, bad, "step", wire.BATCH, wire.batch_body(1, 0, 0, 1, oldest=5))
            with self.assertRaisesRegex(wire.Trouble, "no run nothing"):
                w.attach("nothing")
        self.honest(d, 0)

    def test_a_leap_is_refused(self):
        d = self.make(max_ahead=10)
        with wire.Wire(d.url) as w:
            self.refused(w, wire.BAD_REQUEST, "frontier", wire.BATCH, wire.batch_body(1, 11, 0, 1))
            w.batch(1, 10, 0, 8)

    def test_feedback(self):
        d = self.make(policy={"name": "odm"})
        with wire.Wire(d.url) as w:
            w.batch(1, 0, 0, 8)

            def post(losses, step=0, rank=0, world=1, version=1, run=1):
                return w.feedback(run, step, losses, rank, world, version)
            for kw, text in (({"step": 1}, "never served"), ({"rank": 1}, "rank"),
                             ({"world": 0}, "world"), ({"version": 9}, "mix version 9"),
                             ({"run": 7}, "no run 7")):
                with self.assertRaisesRegex(wire.Trouble, text):
                    post([(0, 1, 16, 3.0)], **kw)
            with self.assertRaisesRegex(wire.Trouble, "domain 2"):
                post([(2, 1, 16, 3.0)])
            with self.assertRaisesRegex(wire.Trouble, "rise"):
                post([(1, 1, 16, 3.0), (0, 1, 16, 3.0)])
            body = struct.pack("<QQIIII", 0, 1, 1, 0, 1, 0)
            for section, text in ((struct.pack("<HHI", 2, 0, 0), "EVAL section"),
                                  (struct.pack("<HHI", 6, 0, 0), "kind 6 is unknown"),
                                  (b"", "neither a section nor a flag"),
                                  (struct.pack("<HHI", 1, 0, 23) + b"x" * 23, "23 bytes"),
                                  (struct.pack("<HHI", 1, 0, 2**32 - 1), "cut short"),
                                  (struct.pack("<HHI", 1, 0, 0) * 2, "twice")):
                self.refused(w, wire.BAD_REQUEST, text, wire.FEEDBACK, body + section)
            nan, inf = float("nan"), float("inf")
            absurd = [(0, nan, 16), (0, inf, 16), (0, -inf, 16), (0, -1.0, 16), (0, 1e300, 16),
                      (0, 16.0, 0), (0, 16.0, 2**60)]
            for step, (domain, loss, tokens) in enumerate(absurd):
                v = w.batch(1, step, 0, 8)["mix_version"]
                entry, outcome, quarantined, text = post(
                    [(domain, 1, tokens, loss), (1, 1, 16, 16.0)], step=step, version=v)
                self.assertEqual((outcome, quarantined), (0, 1))
                self.assertIn("domain a", text)
                self.assertGreater(entry, 0)
        s = d.stats("r")
        self.assertEqual(s["feedback"]["quarantined_losses"], len(absurd))
        self.assertEqual(s["domains"][1]["loss"], 1.0)
        self.assertIsNone(s["domains"][0]["loss"])
        self.assertAlmostEqual(sum(x["share"] for x in s["domains"]), 1, places=9)
        self.honest(d, len(absurd))

    def test_control(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            for text, said in (("", "request"), ("{", "request:1"), ("[]", "object"),
                               ("{}", "op"), ('{"op": "fly"}', 'no operation "fly"'),
                               ('{"op": 3}', "op"), ('{"op":"run.show","run":"q"}', "no run q"),
                               ('{"op":"mix.set","run":"r","weights":{"a":-1}}', "weight of a"),
                               ('{"op":"mix.set","run":"r","weights":{"q":1}}', "no domain q"),
                               ('{"op":"mix.set","run":"r","weights":{"a":1.5}}', "over 1"),
                               ('{"op":"mix.set","run":"r","weights":{"a":0,"b":0}}', "sum to 0"),
                               ('{"op":"mix.set","run":"r","weights":{"a":1e999,"b":0}}', "request"),
                               ("[" * 100000, "deep|depth|nest"), ('{"a":1}x', "request:1")):
                reply = w.ask(wire.CONTROL, text.encode())
                self.assertIn(reply.status, (wire.BAD_REQUEST, wire.GONE), text[:60])
                self.assertRegex(wire.trouble(reply.body)[1], said)
        self.honest(d, 0)

    def test_a_request_over_the_limit_closes_the_connection(self):
        d = self.make()
        with wire.Wire(d.url) as w:
            with self.assertRaises((ConnectionError, OSError)):
                w.send(wire.frame(wire.CONTROL, b" " * 300000))
                w.receive()
        self.honest(d, 0)


class BadConfigs(BadTest):
    def test_runs(self):
        d = self.make()
        for keys, text in (
                ({"colour": 1}, r"run.json:\d+.*colour|config:\d+.*colour"),
                ({"batch_size": None}, "batch_size"), ({"batch_size": 0}, "batch_size"),
                ({"batch_size": 2.5}, "batch_size"), ({"seq_len": "x"}, "seq_len"),
                ({"seq_len": 100000}, "don't hold one sample"), ({"domains": {}}, "domains"),
                ({"domains": {"zz": {"weight": 1}}}, 'no domain "zz"'),
                ({"domains": {"a": {"weight": 0}, "b": {"weight": 0}}}, "sum to 0"),
                ({"domains": {"a": {"weight": -1}}}, "weight"),
                ({"domains": {"a": {"weight": 1}, "b": {}}}, "1 of 2 domains"),
                ({"domains": {"a": {"floor": 0.7}, "b": {"floor": 0.7}}}, "1.4, over 1"),
                ({"domains": {"a": {"floor": 0.7, "ceiling": 0.2}, "b": {}}}, "over ceiling 0.2"),
                ({"domains": {"a": {"ceiling": 0.2}, "b": {"ceiling": 0.2}}}, "under 1"),
                ({"domains": {"a": {"flor": 0.2}, "b": {}}}, "flor"),
                ({"policy": {"name": "magic"}}, "no policy .magic.*odm"),
                ({"policy": {"name": "odm", "alhpa": 1}}, "alhpa"),
                ({"policy": {"name": "odm", "alpha": 7}}, "alpha"),
                ({"sampling": "often"}, "systematic, iid, block"),
                ({"block": 3, "sampling": "block"}, "divide"),
                ({"feedback": {"mode": "never"}}, "async"), ({"end": {"steps": 0}}, "steps"),
                ({"seed": -1}, "seed"), ({"name": "../x"}, "name")):
            r = self.create(d, code=1, **{"name": "s", **keys})
            self.assertRegex(r.stderr, text, keys)
            self.assertEqual(r.stderr.count("\n"), 1, r.stderr)
        r = self.create(d, code=1, text='{"name": "s",\n "seed": 1,\n "batch_size": 4,\n'
                        ' "seq_len": 4,\n "domains": {"a": {"weight": 1}},\n "polcy": 3}')
        self.assertRegex(r.stderr, ":6: .*polcy")
        r = self.create(d, code=1, text='{"name": "s",\n "seed": 1,,}')
        self.assertRegex(r.stderr, ":2:")
        r = self.create(d, code=1, text='{"name": "s", "seed": 1, "seed": 2}')
        self.assertRegex(r.stderr, "seed")
        self.create(d, code=1)  # the name is taken
        self.assertEqual([x["name"] for x in self.json("run", "ls", daemon=d)["runs"]], ["r"])

    def check(self, text, *args):
        path = self.write("mixd.conf", text)
        return subprocess.run([MIXD, "--check-config", "--data", self.data, "--config", path,
                               *args], capture_output=True, text=True, timeout=PATIENCE,
                              check=False)

    def test_daemon(self):
        self.assertEqual(self.check("{}").returncode, 0)
        for text, said in (('{"colour": 1}', "mixd.conf:1: .*colour"),
                           ('{\n"fillers": 1,\n"requests": 1}', "mixd.conf:3: .*requests"),
                           ('{"fillers": "two"}', "fillers"), ('{"log_level": "loud"}', "loud"),
                           ('{"listen": "x"}', "listen"), ('{"listen": ["ftp://x"]}', "ftp://x"),
                           ('{"listen": ["tcp://0.0.0.0:0"]}', "--insecure"),
                           ('{"http": "0.0.0.0:0"}', "--insecure"), ('{"http": "x"}', "http"),
                           ("", "mixd.conf:1"), ("[1]", "object")):
            r = self.check(text)
            self.assertEqual(r.returncode, 1, text)
            self.assertRegex(r.stderr, said)
            self.assertEqual(r.stderr.count("\n"), 1, r.stderr)
        self.assertEqual(self.check('{"listen": ["tcp://0.0.0.0:0"]}', "--insecure").returncode, 0)
        r = subprocess.run([MIXD, "--no-such-option"], capture_output=True, timeout=PATIENCE,
                           check=False)
        self.assertNotEqual(r.returncode, 0)

    def test_two_daemons_on_one_store(self):
        d = self.make()
        with self.assertRaisesRegex(RuntimeError, str(d.process.pid)):
            self.start(listen=["tcp://127.0.0.1:0"])
        self.daemons = self.daemons[:1]
        self.honest(d, 0)

    def test_hangup_rereads_the_settings(self):
        self.tokens("a", 4096)
        d = self.start(config={"fill_ahead": 2})
        for text, said in ('{"fill_ahead": 3, "fillers": 9}', "key=fill_ahead from=2 to=3"), \
                          ('{"fill_ahead": "x"}', "nothing changed"):
            with open(d.config_path, "w", encoding="utf-8") as f:
                f.write(text)
            d.process.send_signal(signal.SIGHUP)
            self.until(lambda said=said: said in d.text())
        self.assertIn("key=fillers", d.text())


class BadPeers(BadTest):
    def test_one_that_never_reads(self):
        self.tokens("a", 1 << 20)
        d = self.start(config={"send_timeout_ms": 300, "requests": 16})
        self.create(d, batch_size=64, seq_len=1024, domains={"a": {}})
        greedy = [wire.Wire(d.url, rcvbuf=4096) for _ in range(4)]
        for w in greedy:
            w.attach("r")
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            while w.ask(wire.BATCH, wire.batch_body(1, 0, 0, 1)).status == wire.WAIT:
                pass  # until steps are reserved: what is asked before that is told to wait
        asked = 0
        for i in range(200):
            for w in greedy:
                try:
                    w.sock.settimeout(0.05)
                    w.send(wire.frame(wire.BATCH, wire.batch_body(1, i % 50, 0, 64)))
                    asked += 1
                except OSError:
                    pass
        self.assertGreater(asked, 4)
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            for step in range(50, 60):
                self.assertEqual(w.batch(1, step, 0, 8)["slot_count"], 8)
        self.until(lambda: d.stats()["network"]["connections_expelled"] >= 1)
        self.until(lambda: d.stats()["network"]["requests_open"] == 0)
        for w in greedy:
            w.close()

    def test_lengths_that_lie(self):
        d = self.make()
        base = d.stats()["process"]["resident_bytes"]
        held = []
        for n in (2**63, 2**64 - 1, 2**32, 262145, 10**12):
            w = wire.Wire(d.url)
            w.sock.sendall(struct.pack(">Q", n))
            held.append(w)
        for w in held:
            with self.assertRaises((ConnectionError, OSError)):
                w.read(1)
            w.close()
        self.assertLess(d.stats()["process"]["resident_bytes"], base + (64 << 20))
        self.honest(d, 0)

    def test_ones_that_speak_something_else(self):
        d = self.make()
        for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"\0SP\0\0\x31\0\0", b"\0SP\1\0\x30\0\0",
                         b"\0SP\0\0\x30", b""):
            w = wire.Wire(d.url, handshake=False)
            w.sock.sendall(greeting)
            w.close()
        for payload in (b"abc", b"", struct.pack(">I", 1) * 300):  # no request number in them
            with wire.Wire(d.url) as w:
                w.send_raw(payload)
                with self.assertRaises((ConnectionError, OSError)):
                    w.read(1)
        self.honest(d, 0)

    def test_killed_in_the_middle_of_replies(self):
        """Descriptors return to their base."""
        self.tokens("a", 1 << 20)
        rounds = int(os.environ.get("MIXD_TEST_KILLS", "250"))
        d = self.start()
        self.create(d, batch_size=64, seq_len=1024, domains={"a": {}})
        with wire.Wire(d.url) as w:
            w.batch(1, 0, 0, 64)
        self.until(lambda: d.stats()["network"]["connections"] == 0)
        base = d.descriptors()
        for i in range(rounds):
            w = wire.Wire(d.url, rcvbuf=4096)
            for s in range(3):
                w.send(wire.frame(wire.BATCH, wire.batch_body(1, (i + s) % 500, 0, 64)))
            w.read(100)  # the reply is under way
            w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            w.close()  # a reset, as when a process is killed
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            for step in range(500, 510):
                w.batch(1, step, 0, 8)
        self.until(lambda: d.stats()["network"]["connections"] == 0)
        self.until(lambda: d.descriptors() <= base)

    def test_real_processes_killed(self):
        d = self.make()
        self.honest(d, 0)  # so that the shards are open
        self.until(lambda: d.stats()["network"]["connections"] == 0)
        base = d.descriptors()
        code = ("import sys; sys.path.insert(0, sys.argv[1]); import wire\n"
                "w = wire.Wire(sys.argv[2]); run = w.attach('r')['run']\n"
                "print('go', flush=True)\n"
                "step = 0\n"
                "while True:\n"
                "    w.batch(run, step % 900, 0, 8); step += 1\n")
        for _ in range(10):
            p = subprocess.Popen([sys.executable, "-c", code, os.path.dirname(__file__), d.url],
                                 stdout=subprocess.PIPE)
            p.stdout.readline()
            time.sleep(self.random.random() / 20)
            p.kill()
            p.wait()
            p.stdout.close()
        self.until(lambda: d.descriptors() <= base)
        self.honest(d, 1)

    def test_two_hundred_silent_connections(self):
        d = self.make()
        silent = [wire.Wire(d.url, handshake=i % 2 == 0) for i in range(200)]
        for step in range(20):
            self.honest(d, step)
        for w in silent:
            w.close()

    def test_few_descriptors(self):
        self.tokens("a", 4096)
        self.tokens("b", 4096)
        d = self.start()
        self.create(d)
        import resource
        resource.prlimit(d.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        many = []
        for _ in range(100):
            try:
                many.append(wire.Wire(d.url, timeout=1, handshake=False))
            except OSError:
                break
        self.assertIsNone(d.process.poll())
        for w in many:
            w.close()
        self.until(lambda: self.served(d))

    def served(self, d):
        try:
            with wire.Wire(d.url, timeout=2) as w:
                w.batch(1, 0, 0, 8)
            return True
        except OSError:
            return False

    def test_requests_beyond_what_one_connection_may_have_open(self):
        self.tokens("a", 4096)
        d = self.start(config={"requests_per_peer": 4})
        self.create(d, batch_size=8, seq_len=16, domains={"a": {}}, max_ahead=4)
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            heads = {w.send(wire.frame(wire.BATCH, wire.batch_body(1, 0, 0, 8))) for _ in range(64)}
            statuses = []
            while heads:
                head, reply = w.receive()
                heads.remove(head)
                statuses.append(reply.status)
            self.assertEqual(statuses, [wire.OK] * 64)


class Http(BadTest):
    def test_paths(self):
        d = self.make()
        self.assertEqual(d.get("/healthz"), "ok\n")
        self.assertRegex(d.get("/"), "(?s)<h2>r</h2>.*<td>b</td><td>50.00 %</td>")
        self.assertIn("mixd_build_info", d.get("/metrics"))
        self.assertEqual([r["name"] for r in json.loads(d.get("/api/v1/runs"))["runs"]], ["r"])
        self.assertEqual(d.stats("r")["config"]["name"], "r")
        self.honest(d, 0)
        m = d.get("/metrics")
        self.assertRegex(m, r'mixd_domain_loss_nats\{run="r",domain="a"\} 1\n')
        self.assertRegex(m, r'mixd_replies_total\{status="OK"\} [1-9]')

    def raw(self, d, data):
        host, port = d.http[7:].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as s:
            got = b""
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while part := s.recv(65536):
                    got += part
            except OSError:
                pass  # closed on us, which is an answer
            return got

    def test_abuse(self):
        d = self.make()
        end = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        self.assertIn(b" 404 ", self.raw(d, b"GET /../../etc/passwd" + end)[:30])
        self.assertIn(b" 404 ", self.raw(d, b"GET /api/v1/runs/%00" + end)[:30])
        self.assertIn(b" 405 ", self.raw(d, b"POST /api/v1/runs HTTP/1.1\r\nHost: x\r\n"
                                            b"Content-Length: 3\r\n\r\nabc")[:30])
        self.assertIn(b" 405 ", self.raw(d, b"DELETE /api/v1/runs/r" + end)[:30])
        reply = self.raw(d, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200000 + b"\r\n\r\n")
        self.assertTrue(reply == b"" or b" 431 " in reply[:30] or b" 413 " in reply[:30], reply[:80])
        self.raw(d, b"\x00\xff\x00\xff" * 1000)
        slow = socket.create_connection((d.http[7:].rsplit(":", 1)[0],
                                         int(d.http.rsplit(":", 1)[1])))
        slow.sendall(b"GET /healthz HT")
        self.assertEqual(d.get("/healthz"), "ok\n")
        slow.close()
        self.honest(d, 0)

    def test_pollers_while_a_trainer_pulls(self):
        d = self.make()
        stop = threading.Event()
        errors = []

        def poll():
            while not stop.is_set():
                try:
                    d.stats()
                    d.get("/metrics")
                except Exception as e:  # pylint: disable=broad-except
                    errors.append(e)
                    return
        threads = [threading.Thread(target=poll) for _ in range(4)]
        for t in threads:
            t.start()
        for step in range(30):
            self.honest(d, step)
        stop.set()
        for t in threads:
            t.join()
        self.assertEqual(errors, [])


class Stopping(BadTest):
    def test_sigterm_while_busy(self):
        d = self.make()
        stop = threading.Event()

        def pull():
            step = 0
            while not stop.is_set():
                try:
                    with wire.Wire(d.url, timeout=5) as w:
                        while not stop.is_set():
                            w.batch(1, step % 800, 0, 8)
                            step += 1
                except (OSError, wire.Trouble):
                    time.sleep(0.01)
        threads = [threading.Thread(target=pull) for _ in range(8)]
        for t in threads:
            t.start()
        time.sleep(0.3)
        start = time.monotonic()
        self.assertEqual(d.stop(), 0)
        self.assertLess(time.monotonic() - start, PATIENCE)  # 75 would mean that it hung
        stop.set()
        for t in threads:
            t.join()
        self.assertRegex(d.log[-1], 'stopped why="SIGTERM" exit=0')

    def test_acknowledged_feedback_survives_kill(self):
        d = self.make(policy={"name": "odm"}, reserve_steps=8)
        accepted = 0
        step = 0
        for _ in range(5):
            with wire.Wire(d.url) as w:
                for _ in range(self.random.randrange(5, 40)):
                    v = w.batch(1, step, 0, 8)["mix_version"]
                    entry, outcome, _, _ = w.feedback(1, step, [(0, 1, 16, 16 * 2.0),
                                                               (1, 1, 16, 16 * 1.0)], version=v)
                    self.assertEqual(outcome, 0)
                    accepted += 1
                    step += 1
            d.kill()
            d = self.start()
            self.assertEqual(d.stats("r")["feedback"]["accepted"], accepted)
            self.assertGreaterEqual(d.stats("r")["journal_entries"], entry)
            step = d.stats("r")["frontier"]

    def test_a_stale_socket_file_is_no_hindrance(self):
        d = self.make()
        d.kill()
        self.assertTrue(os.path.exists(self.path("store", "mixd.sock")))
        d = self.start()
        with wire.Wire(d.ipc) as w:
            w.batch(1, 0, 0, 8)


class Damage(BadTest):
    def test_a_damaged_block_is_named_and_the_rest_served(self):
        raw = self.tokens("a", 65536 * 4)
        shards = self.path("store", "shards")
        (shard,) = [f for f in os.listdir(shards) if f.endswith(".mxs")]
        path = os.path.join(shards, shard)
        with open(path, "r+b") as f:
            data = f.read()
            at = data.index(raw[200000:200064])
            f.seek(at)
            f.write(b"\xff" * 8)
        d = self.start()
        self.create(d, batch_size=4, seq_len=64, domains={"a": {}})
        damaged = good = 0
        with wire.Wire(d.url) as w:
            for step in range(1024):
                try:
                    b = w.batch(1, step, 0, 4)
                    good += 1
                    for s, t in zip(b["samples"], b["tokens"]):
                        self.assertEqual(t, raw[s * 128:(s + 1) * 128])
                except wire.Trouble as e:
                    self.assertEqual(e.status, wire.DAMAGED)
                    self.assertRegex(e.text, "domain a, sample [0-9]+: .*block 0 is damaged")
                    damaged += 1
        self.assertGreater(damaged, 0)
        self.assertGreater(good, 900)

    def test_a_file_that_isnt_what_its_format_says(self):
        for name, data, args, said in (
                ("x.u16", b"abc", ["--format", "u16"], "x.u16"),
                ("x.u32", b"abcdef", ["--format", "u32"], "x.u32"),
                ("x.jsonl", b"\x00\xff\x00" * 100, [], "x.jsonl.*1"),
                ("x.jsonl", b'{"text": 3}\n', [], "x.jsonl.*1"),
                ("x.jsonl.zst", b"no zstd at all", [], "x.jsonl.zst"),
                ("x.bin", b"x", [], "x.bin|format"), ("x.jsonl", b"", [], "no|empty")):
            r = self.mixctl("ingest", "q", self.write(name, data), *args, data=True, code=1)
            self.assertRegex(r.stderr, said)
        self.mixctl("ingest", "q", self.path("missing.jsonl"), data=True, code=1)
        self.mixctl("domain", "show", "q", data=True, code=1)


if __name__ == "__main__":
    main()
