#!/usr/bin/env python3
"""The demo: two small language models train side by side on eight domains of real text.

    demo.py BUILD [DATA]

BUILD is where meson built mixd; DATA (default ./demo-data) gets everything that the demo makes:
the corpus, the store, the models, the logs. One run's mix is static, the other's shifts by itself
(policy odm); all else is equal. Ends with the losses on held-out text, whichever run they favour,
and leaves DATA such that everything can be looked at and gone on with. Running it again goes on
where it stopped.

Environment: DEMO_STEPS (3500) steps to train, DEMO_BYTES (13000000) of text per domain at most, DEMO_LINE
(5) seconds between lines, DEMO_SKIP_MISSING=1 to do without domains whose packages are missing,
MIXD, MIXCTL, BYTELM for other programs than BUILD's.
"""
import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import picture  # noqa: E402  (beside this file)
import table  # noqa: E402

BATCH, SEQ_LEN = 32, 128
RUNS = ("demo-odm", "demo-static")


class Trouble(Exception):
    """What went wrong, in words for the user."""


class Demo:
    def __init__(self, build, data):
        self.mixd = self.program("MIXD", build, "daemon/mixd")
        self.mixctl = self.program("MIXCTL", build, "client/mixctl")
        self.bytelm = self.program("BYTELM", build, "client/examples/bytelm")
        self.data = data
        self.corpus = os.path.join(data, "corpus")
        self.store = os.path.join(data, "store")
        self.chunk = int(os.environ.get("DEMO_STEPS", "3500"))
        self.bytes = int(os.environ.get("DEMO_BYTES", "13000000"))
        self.line_s = float(os.environ.get("DEMO_LINE", "5"))
        self.daemon = None
        self.trainers = {}

    @staticmethod
    def program(variable, build, path):
        found = os.environ.get(variable, os.path.join(build, path))
        if not os.access(found, os.X_OK):
            raise Trouble(f"{found}: no such program; build it first (make build)")
        return os.path.abspath(found)

    def path(self, *parts):
        return os.path.join(self.data, *parts)

    # ---- before training ----

    def ctl(self, *args, quiet=True):
        """mixctl; its output, or Trouble with what it said."""
        done = subprocess.run([self.mixctl, *args], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE if quiet else None)
        if done.returncode != 0:
            said = (done.stderr or "").strip()
            raise Trouble(f"mixctl {shlex.join(args)} failed (exit {done.returncode}) {said}")
        return done.stdout

    def build_corpus(self):
        if os.path.isdir(self.corpus):
            return
        print("Building the corpus from installed Debian packages:", flush=True)
        argv = [sys.executable, os.path.join(HERE, "corpus.py"), self.corpus,
                "--bytes", str(self.bytes),
                "--heldout", str(max(1000, min(150000, self.bytes // 40)))]
        if os.environ.get("DEMO_SKIP_MISSING") == "1":
            argv.append("--skip-missing")
        if subprocess.run(argv, check=False).returncode != 0:
            raise Trouble("there is no corpus to train on")

    def domains(self):
        with open(os.path.join(self.corpus, "corpus.json"), encoding="utf-8") as f:
            return sorted(json.load(f)["domains"])

    def ingest(self):
        """Each domain once: an ingest registers all of a file or nothing."""
        there = set()
        if os.path.isdir(self.store):
            listed = json.loads(self.ctl("--data", self.store, "--json", "domain", "ls"))
            there = {d["name"] for d in listed["domains"]}
        for domain in self.domains():
            if domain not in there:
                begin = time.monotonic()
                source = os.path.join(self.corpus, domain + ".jsonl")
                self.ctl("--data", self.store, "ingest", domain, source)
                size = os.path.getsize(source) / 1e6
                print(f"  ingested {domain:<12}{size:5.1f} MB in {time.monotonic() - begin:.1f} s",
                      flush=True)

    # ---- the daemon ----

    @staticmethod
    def free(port):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True

    def start_daemon(self):
        """Starts mixd on its default ports if they are free, else on any; waits until it is ready."""
        read_fd, write_fd = os.pipe()
        argv = [self.mixd, "--data", self.store, "--ready-fd", str(write_fd),
                "--listen", f"tcp://127.0.0.1:{7117 if self.free(7117) else 0}",
                "--http", f"127.0.0.1:{7118 if self.free(7118) else 0}"]
        with open(self.path("mixd.log"), "ab") as log:
            # A session of its own: Ctrl-C is for this program, which ends the others in order.
            self.daemon = subprocess.Popen(argv, pass_fds=[write_fd], stderr=log,
                                           stdin=subprocess.DEVNULL, start_new_session=True)
        os.close(write_fd)
        with os.fdopen(read_fd) as f:
            line = f.readline()
        if not line:
            raise Trouble("mixd didn't start:\n" + self.tail("mixd.log"))
        ready = json.loads(line)
        self.url = next(u for u in ready["listen"] if u.startswith("tcp:"))
        print(f"mixd serves {self.url} and http://{ready['http']}/ (/api/v1/stats, /metrics)",
              flush=True)

    def create_runs(self):
        listed = json.loads(self.ctl("--connect", self.url, "--json", "run", "ls"))
        there = {r["name"] for r in listed["runs"]}
        for name in RUNS:
            if name in there:
                continue
            policy = {"name": name.removeprefix("demo-")}
            if policy["name"] == "odm":
                policy["warmup_steps"] = min(100, self.chunk // 4)
            config = {"name": name, "seed": 1, "batch_size": BATCH, "seq_len": SEQ_LEN,
                      "domains": {d: {} for d in self.domains()}, "policy": policy}
            path = self.path(name + ".json")
            with open(path, "w", encoding="utf-8") as f:
                json.dump(config, f, indent=1)
                f.write("\n")
            self.ctl("--connect", self.url, "run", "create", name, "-f", path)

    # ---- training ----

    def log_of(self, run):
        return self.path(run + ".jsonl")

    def start_trainers(self, until):
        self.until = until
        for run in RUNS:
            argv = [self.bytelm, "--connect", self.url, "--run", run, "--steps", str(until),
                    "--checkpoint", self.path(run + ".model"), "--log", self.log_of(run),
                    "--eval", os.path.join(self.corpus, "heldout"),
                    "--eval-every", str(max(self.chunk // 7, 50)), "--print-every", "2"]
            with open(self.path(run + ".out"), "ab") as out:
                self.trainers[run] = subprocess.Popen(argv, stdout=out, stderr=out,
                                                      stdin=subprocess.DEVNULL,
                                                      start_new_session=True)

    def watch(self):
        """Until both trainers have ended; a line every few seconds."""
        begin, printed = time.monotonic(), time.monotonic()
        while any(t.poll() is None for t in self.trainers.values()):
            time.sleep(0.2)
            for run, trainer in self.trainers.items():
                if trainer.poll() not in (None, 0):
                    raise Trouble(f"the trainer of {run} failed:\n" + self.tail(run + ".out"))
            if self.daemon.poll() is not None:
                raise Trouble("mixd ended:\n" + self.tail("mixd.log"))
            if time.monotonic() - printed >= self.line_s:
                printed = time.monotonic()
                logs = {run: table.read_log(self.log_of(run)) for run in RUNS}
                line = table.progress(printed - begin, self.until, logs, "demo-odm")
                if line:
                    print(line, flush=True)
        for run, trainer in self.trainers.items():
            if trainer.wait() != 0:
                raise Trouble(f"the trainer of {run} failed:\n" + self.tail(run + ".out"))

    def tail(self, name):
        with contextlib.suppress(OSError), open(self.path(name), "rb") as f:
            lines = f.read().decode(errors="replace").strip().split("\n")
            return "\n".join("  " + line for line in lines[-5:])
        return ""

    # ---- the end ----

    @staticmethod
    def end(process, patience_s):
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop(self):
        """The trainers first, so that they can still post and save; then the daemon."""
        for trainer in self.trainers.values():
            if trainer.poll() is None:
                trainer.send_signal(signal.SIGTERM)
        for trainer in self.trainers.values():
            self.end(trainer, 20)
        self.end(self.daemon, 20)

    def how_to_go_on(self):
        def shown(path):
            relative = os.path.relpath(path)
            return shlex.quote(path if relative.startswith("..") else relative)

        ctl = shown(self.mixctl)
        print(f"""
Everything is in {shown(self.data)}: corpus/ (the text), store/ (what mixd holds), the models, logs
and configs of both runs, and mix.svg, a picture of the path of demo-odm's mix. Nothing is running any more. To look at it:

  {shown(self.mixd)} --data {shown(self.store)}
starts the daemon again. Then in a browser
  http://127.0.0.1:7118/                        both runs: mixes, losses, how far they are
  http://127.0.0.1:7118/api/v1/runs/demo-odm    one of them, as JSON
  http://127.0.0.1:7118/metrics                 the same for Prometheus
and in another shell
  {ctl} stats demo-odm
  {ctl} batch demo-odm --step 100 --text
  {ctl} mix set demo-static german=0.5 english=0.5 --why "try it"
  {ctl} mix show demo-static

Started again with the same folder, the demo trains both models {self.chunk} steps further
(with the daemon above stopped). To begin anew, remove {shown(self.data)}.""")

    def run(self):
        os.makedirs(self.data, exist_ok=True)
        self.build_corpus()
        self.ingest()
        self.start_daemon()
        self.create_runs()
        done = min(table.steps_done(table.read_log(self.log_of(run))) for run in RUNS)
        until = (done // self.chunk + 1) * self.chunk
        print(f"Training two models on {len(self.domains())} domains, steps {done} to {until}, "
              f"{BATCH * SEQ_LEN} bytes a step: demo-odm's mix shifts with its losses, "
              "demo-static's doesn't.\nProgress, loss of the last steps in nats per byte, bytes "
              "trained per second; the mix in %:", flush=True)
        self.start_trainers(until)
        self.watch()
        self.stop()
        logs = {run: table.read_log(self.log_of(run)) for run in RUNS}
        print(table.heldout(logs))
        print(table.path_of_mix(logs["demo-odm"], "demo-odm"))
        picture.draw(logs["demo-odm"], self.path("mix.svg"))
        self.how_to_go_on()


def interrupted(number, frame):
    raise KeyboardInterrupt


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    demo = None
    try:
        demo = Demo(sys.argv[1], os.path.abspath(sys.argv[2] if len(sys.argv) == 3 else "demo-data"))
        demo.run()
        return 0
    except KeyboardInterrupt:
        print("\nStopping. Both models are saved; the same command goes on from there.",
              file=sys.stderr)
        return 130
    except (Trouble, OSError, ValueError, KeyError) as e:
        print(f"demo: {e}", file=sys.stderr)
        return 1
    finally:
        if demo is not None:
            demo.stop()


if __name__ == "__main__":
    sys.exit(main())
