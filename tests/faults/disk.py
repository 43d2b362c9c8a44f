"""Daemons under fault_shim.c: what to put into their environment, and what it counted."""
import os
import struct

from harness import Daemon

SHIM = os.environ.get("FAULT_SHIM", "build/tests/faults/fault_shim.so")
REPORT = struct.Struct("<QQ16s")


def environment(files, **settings):
    """Everything whose path begins with `files` goes through the shim; its MX_SHIM_* variables."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MX_SHIM_")}
    env["LD_PRELOAD"] = SHIM
    env["MX_SHIM_FILES"] = os.path.realpath(files)
    env.update({"MX_SHIM_" + k.upper(): str(v) for k, v in settings.items()})
    return env


class Report:
    """The shim's counters, as they are now."""

    def __init__(self, path):
        raw = b""
        if os.path.exists(path):
            with open(path, "rb") as f:
                raw = f.read()
        if len(raw) < REPORT.size:
            raw = bytes(REPORT.size)
        self.calls, self.failed, first = REPORT.unpack(raw[:REPORT.size])
        self.first = first.split(b"\0")[0].decode()


class Start(Daemon):
    """A daemon that may also refuse to start: then `code` isn't None, and text() says why."""

    def __init__(self, data, **kw):
        self.code = None
        try:
            super().__init__(data, **kw)
        except RuntimeError:
            self.code = self.process.wait()
            self.process.stderr.close()
