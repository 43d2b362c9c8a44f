"""Real daemons for tests: started as processes, spoken to over sockets, ended by pid.

meson gives the programs' paths in MIXD and MIXCTL. Each test has a folder of its own, and leaves
no process and no file behind.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

MIXD = os.environ.get("MIXD", "build/daemon/mixd")
MIXCTL = os.environ.get("MIXCTL", "build/client/mixctl")
# Sanitizers make everything slower; a deadline is never what a test is about.
PATIENCE = float(os.environ.get("MIXD_TEST_PATIENCE", "30"))


class Daemon:
    def __init__(self, data, *args, config=None, ready=True, env=None, listen=None):
        self.data = data
        read_fd, write_fd = os.pipe()
        argv = [MIXD, "--data", data, "--ready-fd", str(write_fd), "--http", "127.0.0.1:0"]
        for url in listen or ["tcp://127.0.0.1:0", "ipc://" + os.path.join(data, "mixd.sock")]:
            argv += ["--listen", url]
        if config is not None:
            self.config_path = os.path.join(data, "mixd.conf")
            os.makedirs(data, exist_ok=True)
            with open(self.config_path, "w", encoding="utf-8") as f:
                json.dump(config, f)
            argv += ["--config", self.config_path]
        self.process = subprocess.Popen(argv + list(args), pass_fds=[write_fd],
                                        stderr=subprocess.PIPE, env=env)
        os.close(write_fd)
        self.log = []
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        with os.fdopen(read_fd) as f:
            line = f.readline() if ready else ""
        if ready and not line:
            self.process.wait(PATIENCE)
            self.reader.join(PATIENCE)
            raise RuntimeError("the daemon didn't start: " + "".join(self.log))
        self.ready = json.loads(line) if line else {}
        self.url = self.ready.get("listen", [""])[0]
        self.ipc = self.ready.get("listen", ["", ""])[-1]
        self.http = "http://" + self.ready.get("http", "")

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line.decode(errors="replace"))

    def text(self):
        return "".join(self.log)

    def get(self, path):
        with urllib.request.urlopen(self.http + path, timeout=PATIENCE) as r:
            return r.read().decode()

    def stats(self, run=None):
        return json.loads(self.get("/api/v1/runs/" + run if run else "/api/v1/stats"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stderr.close()

    def stop(self):
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stderr.close()
        return code


class DaemonTest(unittest.TestCase):
    """A test with a folder, and daemons that end with it."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mixd-test-")
        self.data = os.path.join(self.folder, "store")
        self.daemons = []
        self.seed = int(os.environ.get("MIXD_TEST_SEED", "1"))
        self.random = random.Random(self.seed)

    def tearDown(self):
        for d in self.daemons:
            if d.process.poll() is None:
                code = d.stop()
                if code != 0:
                    print(d.text())
                self.assertEqual(code, 0, "the daemon must end well")
            for word in ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:",
                         "broken invariant"):
                self.assertNotIn(word, d.text())
        shutil.rmtree(self.folder)

    def start(self, *args, **kw):
        d = Daemon(self.data, *args, **kw)
        self.daemons.append(d)
        return d

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def write(self, name, data):
        mode = "wb" if isinstance(data, bytes) else "w"
        with open(self.path(name), mode, **({} if "b" in mode else {"encoding": "utf-8"})) as f:
            f.write(data)
        return self.path(name)

    def mixctl(self, *args, code=0, daemon=None, data=False):
        argv = [MIXCTL]
        if daemon is not None:
            argv += ["--connect", daemon.url]
        if data:
            argv += ["--data", self.data]
        r = subprocess.run(argv + [str(a) for a in args], capture_output=True, text=True,
                           timeout=PATIENCE * 4, check=False)
        if code is not None:
            self.assertEqual(r.returncode, code, f"{args}: {r.stdout}{r.stderr}")
        return r

    def json(self, *args, daemon=None, data=False):
        return json.loads(self.mixctl("--json", *args, daemon=daemon, data=data).stdout)

    def tokens(self, domain, n, first=0, codec="raw"):
        """A domain of n u16 tokens that count up from `first`: each sample tells where it is from."""
        raw = b"".join(((first + i) % 65536).to_bytes(2, "little") for i in range(n))
        path = self.write(domain + ".u16", raw)
        self.mixctl("ingest", domain, path, "--format", "u16", "--codec", codec, data=True)
        return raw

    def run_config(self, **kw):
        c = {"name": "r", "seed": 1, "batch_size": 8, "seq_len": 16,
             "domains": {"a": {"weight": 0.5}, "b": {"weight": 0.5}}}
        c.update(kw)
        return {k: v for k, v in c.items() if v is not None}

    def create(self, daemon, code=0, text=None, **kw):
        """Creates a run from a config file with these keys (None leaves one out)."""
        c = self.run_config(**kw)
        path = self.write("run.json", text if text is not None else json.dumps(c, indent=1))
        return self.mixctl("run", "create", c.get("name", "r"), "-f", path, daemon=daemon,
                           code=code)

    def until(self, what, timeout=PATIENCE):
        """Waits until what() is true."""
        deadline = time.monotonic() + timeout
        while not what():
            if time.monotonic() > deadline:
                self.fail("still not so after a long wait")
            time.sleep(0.02)


def main():
    unittest.main(verbosity=2)
