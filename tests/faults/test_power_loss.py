"""The power goes, at every point of a daemon's work; power_loss.c makes and checks what is left.

The daemon and an ingest work through fault_shim.c, which takes notes of what they write and sync;
this test adds to the notes what they acknowledged, when it hears it. The check must find nothing.
Since a check that can't find anything proves nothing, it must also find fault where there is some:
when one entry more is claimed than was acknowledged, and with a disk that doesn't sync.
"""
import json
import os
import struct
import subprocess
import tempfile

from disk import Start, environment
from harness import MIXCTL, PATIENCE, DaemonTest, main
import wire

POWER_LOSS = os.environ.get("POWER_LOSS", "build/tests/faults/power_loss")
MADE, DOMAINS, ENTRY, SERVED = range(16, 20)  # disk_log.h
SLOTS = 8


class PowerLoss(DaemonTest):
    def mark(self, kind, number=0, *words):
        """Into the log, after all that was done before the daemon's answer was sent."""
        body = struct.pack(f"={len(words)}I", *words)
        with open(self.log, "ab", buffering=0) as f:
            f.write(struct.pack("=IIQ", kind, len(body), number) + body + bytes(-len(body) % 8))

    def control(self, w, **request):
        return json.loads(w.get(wire.CONTROL, json.dumps(request).encode()))

    def create(self, d, w, name, **kw):  # pylint: disable=arguments-differ
        config = self.run_config(name=name, batch_size=SLOTS, snapshot_steps=8, **kw)
        self.control(w, op="run.create", config=json.dumps(config))
        run = w.attach(name)["run"]
        self.mark_applied(d, name, run)
        return run

    def mark_applied(self, d, name, run):
        """What the daemon shows of a run is durable as well."""
        self.mark(ENTRY, d.stats(name)["journal_entries"], run)

    def ingest(self, name, first, env):
        path = self.write(name + ".u16", b"".join(
            struct.pack("<H", first + i) for i in range(4096)))
        subprocess.run([MIXCTL, "--data", self.data, "ingest", name, path, "--format", "u16"],
                       env=env, check=True, capture_output=True, timeout=PATIENCE * 4)

    def work(self, **settings):
        """A store from its making through some 60 commits. Syncs are slow: an acknowledgement that
        doesn't wait for its own is heard before it."""
        self.log = self.path("log")
        env = environment(os.path.join(self.data, "catalog"), log=self.log, skip="-lock",
                          slow_us=5000, **settings)
        d = Start(self.data, env=env, config={"hold_ms": 60000})
        self.daemons.append(d)
        self.mark(MADE)
        for n, name in enumerate("ab"):
            self.ingest(name, 20000 * n, env)
            self.mark(DOMAINS, n + 1)
        with wire.Wire(d.url, timeout=PATIENCE) as w:
            # Each step of r waits for a mix, and those of s for their reservations.
            r = self.create(d, w, "r", policy={"name": "odm"}, lead=0, reserve_steps=8)
            s = self.create(d, w, "s", reserve_steps=1)
            for step in range(30):
                b = w.batch(r, step, 0, SLOTS)
                self.mark(SERVED, step, r, b["mix_version"])
                losses = [(0, 4, 64, 64 * (1.0 + step % 3)), (1, 4, 64, 64 * 2.5)]
                entry, outcome, _, _ = w.feedback(r, step, losses, version=b["mix_version"])
                self.assertEqual(outcome, 0)
                self.mark(ENTRY, entry, r)
                b = w.batch(s, step, 0, SLOTS)
                self.mark(SERVED, step, s, b["mix_version"])
                if step % 10 == 5:
                    self.control(w, op="mix.set", run="r", weights={"a": 0.1 * step, "b": 1})
                    self.mark_applied(d, "r", r)
            self.control(w, op="run.stop", run="s")
            self.mark_applied(d, "s", s)
            self.mark_applied(d, "r", r)
        self.until(lambda: d.stats()["store"]["commit_queue"] == 0)
        self.assertGreater(d.stats()["store"]["commits"], 60)
        d.kill()

    def check(self, ahead=0, enough=0):
        """What power_loss says of the log."""
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # thousands are synced
        with tempfile.TemporaryDirectory(prefix="mixd-test-", dir=memory) as images:
            r = subprocess.run([POWER_LOSS, self.log, self.data, images, str(self.seed),
                                str(ahead), str(enough)], capture_output=True, text=True,
                               check=False, timeout=PATIENCE * 10)
        self.assertEqual(r.returncode, 0, r.stderr)
        print(f"seed {self.seed}: {r.stdout.strip()}")
        return json.loads(r.stdout)

    def test_everything_acknowledged_is_in_every_image(self):
        self.work()
        found = self.check()
        self.assertEqual((found["lost"], found["damaged"]), (0, 0), found["first"])
        self.assertGreater(found["images"], 2000)
        self.assertGreater(found["commits"], 200)
        # Had the daemon acknowledged one entry too early, that would have been seen.
        found = self.check(ahead=1, enough=10)
        self.assertGreater(found["lost"], 0)
        self.assertEqual(found["damaged"], 0, found["first"])

    def test_a_disk_that_lies_is_found_out(self):
        self.work(lie=1)
        found = self.check(enough=1000)
        self.assertGreater(found["lost"], 1)  # 1 is the name of the catalog, which always is lost
        self.assertGreater(found["damaged"], 0)


if __name__ == "__main__":
    main()
