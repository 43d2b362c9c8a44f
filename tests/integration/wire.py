"""A client of mixd's protocol, written from docs/protocol.md alone: sockets and struct, no nng.

It serves the tests twice: as an independent reading of the specification, and as a peer that can
misbehave in ways that a library wouldn't.
"""
import socket
import struct

OK, WAIT, END, EXHAUSTED, GONE, DENIED, BAD_REQUEST, BUSY, DAMAGED, SKIPPED = range(10)
HELLO, ATTACH, BATCH, FEEDBACK, CONTROL, STATS = range(1, 7)
MAGIC = b"MXD1"
VERSION = 2
HEADER = struct.Struct("<4sHHIIQ")


def frame(type_, body, id_=0, status=0, version=VERSION, magic=MAGIC, length=None):
    return HEADER.pack(magic, version, type_, len(body) if length is None else length, status,
                       id_) + body


def name(text):
    raw = text.encode()
    return struct.pack("<H", len(raw)) + raw


class Trouble(Exception):
    """A reply whose status isn't OK."""

    def __init__(self, status, wait_ms, text, next_=None):
        super().__init__(f"status {status}: {text}")
        self.status, self.wait_ms, self.text = status, wait_ms, text
        self.next = next_  # of SKIPPED: the first step after those passed over


class Reply:
    def __init__(self, raw):
        (self.magic, self.version, self.type, self.length, self.status, self.id) = HEADER.unpack(
            raw[:24])
        self.raw, self.body = raw, raw[24:]
        assert self.magic == MAGIC and self.version == VERSION, raw[:24]
        assert self.length == len(self.body), (self.length, len(self.body))


class Wire:
    """One connection. url: tcp://HOST:PORT or ipc://PATH."""

    def __init__(self, url, timeout=10.0, handshake=True, rcvbuf=None):
        self.ipc = url.startswith("ipc://")
        if self.ipc:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            address = url[6:]
        else:
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            host, port = url[6:].rsplit(":", 1)
            address = (host, int(port))
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        self.number = 0
        if handshake:
            self.sock.sendall(b"\0SP\0\0\x30\0\0")
            greeting = self.read(8)
            assert greeting == b"\0SP\0\0\x31\0\0", greeting

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def read(self, n):
        parts = []
        while n > 0:
            part = self.sock.recv(n)
            if not part:
                raise ConnectionError("closed by the daemon")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def send_raw(self, payload):
        prefix = b"\x01" if self.ipc else b""
        self.sock.sendall(prefix + struct.pack(">Q", len(payload)) + payload)

    def send(self, raw_frame):
        """Sends a frame; returns the request number that its reply will begin with."""
        self.number += 1
        head = struct.pack(">I", 0x80000000 | self.number)
        self.send_raw(head + raw_frame)
        return head

    def receive(self):
        """(request number, Reply)"""
        if self.ipc:
            assert self.read(1) == b"\x01"
        (n,) = struct.unpack(">Q", self.read(8))
        payload = self.read(n)
        return payload[:4], Reply(payload[4:])

    def ask(self, type_, body, id_=7, **kw):
        head = self.send(frame(type_, body, id_, **kw))
        number, reply = self.receive()
        assert number == head
        return reply

    def get(self, type_, body, id_=7):
        """The body of an OK reply; Trouble otherwise."""
        reply = self.ask(type_, body, id_)
        assert reply.id == id_ and reply.type == type_ | 0x8000, (reply.id, reply.type)
        if reply.status != OK:
            raise Trouble(reply.status, *trouble(reply.body, reply.status))
        return reply.body

    # ---- messages ----

    def hello(self, low=VERSION, high=VERSION):
        body = self.get(HELLO, struct.pack("<HH", low, high) + name("wire.py"))
        version, reply_max, store = struct.unpack_from("<HIQ", body)
        return version, reply_max, store

    def attach(self, run, rank=0, world=1, first=0):
        return parse_attach(self.get(ATTACH, struct.pack("<III", rank, world, first) + name(run)))

    def batch(self, run, step, first, count, rank=0, world=1, token_first=0, oldest=None):
        return parse_batch(self.get(BATCH, batch_body(run, step, first, count, rank, world,
                                                      token_first, oldest)))

    def feedback(self, run, step, losses, rank=0, world=1, version=1, flags=0):
        """losses: [(domain, samples, tokens, loss_sum)]. (entry, outcome, quarantined, text)"""
        return parse_feedback(self.get(FEEDBACK, feedback_body(run, step, losses, rank, world,
                                                               version, flags)))

    def report(self, run, step, sections, rank=0, world=1, version=1, flags=0):
        """sections: bytes, as the functions below make them."""
        return parse_feedback(self.get(FEEDBACK, report_body(run, step, sections, rank, world,
                                                             version, flags)))


def section(kind, body):
    return struct.pack("<HHI", kind, 0, len(body)) + body


def train(losses):
    """[(domain, samples, tokens, loss_sum)]"""
    return section(1, b"".join(struct.pack("<IIQd", *x) for x in losses))


def evals(set_, losses):
    """[(member, samples, tokens, loss_sum)]"""
    return section(2, struct.pack("<II", set_, 0) +
                   b"".join(struct.pack("<IIQd", *x) for x in losses))


def rewards(values):
    """[(domain, count, sum)]"""
    return section(3, b"".join(struct.pack("<IIQd", d, 0, n, x) for d, n, x in values))


def grads(domains, upper, lr):
    """upper: the upper triangle, row by row"""
    n = len(domains)
    return section(4, struct.pack("<IId", n, 0, lr) + struct.pack(f"<{n}I", *domains) +
                   b"\0\0\0\0" * (n % 2) + struct.pack(f"<{len(upper)}d", *upper))


def scores(values):
    """[(domain, sample, score)]"""
    return section(5, b"".join(struct.pack("<IIQd", d, 0, n, x) for d, n, x in values))


def report_body(run, step, sections, rank=0, world=1, version=1, flags=0):
    return struct.pack("<QQIIII", step, version, run, rank, world, flags) + sections


def parse_attach(body):
    keys = ("run state frontier end_step mix_version batch_size seq_len width eod "
            "slots_per_reply max_ahead domain_count eval_set_count name_count name_first "
            "part_count").split()
    form = struct.Struct("<IIQQQIIIIIIIIIII")
    info = dict(zip(keys, form.unpack_from(body)))
    part = struct.Struct("<QIII")  # from_step, batch_size, seq_len, slots_per_reply
    info["parts"] = [part.unpack_from(body, form.size + i * part.size)
                     for i in range(info["part_count"])]
    names, at = [], form.size + info["part_count"] * part.size
    info["eval_sizes"] = struct.unpack_from(f"<{info['eval_set_count']}I", body, at)
    at += 4 * info["eval_set_count"]
    while at < len(body):
        (n,) = struct.unpack_from("<H", body, at)
        names.append(body[at + 2:at + 2 + n].decode())
        at += 2 + n
    info["names"] = names  # of the page: domains, and each eval set and its members
    return info


def feedback_body(run, step, losses, rank=0, world=1, version=1, flags=0):
    return report_body(run, step, train(losses), rank, world, version, flags)


def parse_feedback(body):
    entry, outcome, quarantined, n = struct.unpack_from("<QIIH", body)
    return entry, outcome, quarantined, body[18:18 + n].decode()


def batch_body(run, step, first, count, rank=0, world=1, token_first=0, oldest=None):
    return struct.pack("<QQIIIIII", step, step if oldest is None else oldest, run, rank, world,
                       first, count, token_first)


def trouble(body, status=None):
    """(wait_ms, text), and the step to go on at if the status is SKIPPED."""
    wait_ms, n = struct.unpack_from("<IH", body)
    assert len(body) == 6 + n + (8 if status == SKIPPED else 0)
    text = body[6:6 + n].decode()
    return (wait_ms, text) if status != SKIPPED else (wait_ms, text,
                                                      struct.unpack_from("<Q", body, 6 + n)[0])


def parse_batch(body):
    keys = ("step mix_version run slot_first slot_count token_first token_count width bound_count "
            "tokens_at batch_size seq_len flags weights_at").split()
    b = dict(zip(keys, struct.unpack_from("<QQIIIIIIIIIIII", body)))
    n, at = b["slot_count"], 64
    b["samples"] = struct.unpack_from(f"<{n}Q", body, at)
    b["domains"] = struct.unpack_from(f"<{n}I", body, at + 8 * n)
    b["epochs"] = struct.unpack_from(f"<{n}I", body, at + 12 * n)
    b["bounds"] = struct.unpack_from(f"<{n}I", body, at + 16 * n)
    if b["flags"] & 2:
        assert b["weights_at"] == 24 + at + 20 * n, b
        b["weights"] = struct.unpack_from(f"<{n}f", body, at + 20 * n)
        at += 4 * n
    b["starts"] = struct.unpack_from(f"<{b['bound_count']}I", body, at + 20 * n)
    start = b["tokens_at"] - 24
    size = b["token_count"] * b["width"]
    assert len(body) == start + n * size, (len(body), start, n, size)
    b["tokens"] = [body[start + i * size:start + (i + 1) * size] for i in range(n)]
    return b


def slots(rank, world, batch):
    first = rank * batch // world
    return first, (rank + 1) * batch // world - first
