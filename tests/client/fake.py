"""A daemon that says what a test wants: docs/protocol.md's frames over TCP, JSON from a function.

It answers HELLO, and CONTROL with what `answer(request)` returns: a dict or a text as the JSON, or
(status, text) as a refusal.
"""
import json
import socket
import struct
import threading

HELLO, CONTROL, REPLY = 1, 5, 0x8000
HEADER = struct.Struct("<4sHHIIQ")


class Fake:
    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.url = "tcp://127.0.0.1:%d" % self.sock.getsockname()[1]
        self.peers = []
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for p in self.peers:
            try:
                p.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side has closed it
        for t in self.threads:
            t.join()
        for p in self.peers:
            p.close()

    def _accept(self):
        while True:
            try:
                peer, _ = self.sock.accept()
            except OSError:
                return  # closed
            self.peers.append(peer)
            self.threads.append(threading.Thread(target=self._serve, args=(peer,), daemon=True))
            self.threads[-1].start()

    def _serve(self, peer):
        try:
            peer.sendall(b"\0SP\0\0\x31\0\0")
            with peer.makefile("rb") as f:
                f.read(8)
                while True:
                    head = f.read(8)
                    if len(head) < 8:
                        return
                    raw = f.read(struct.unpack(">Q", head)[0])
                    reply = raw[:4] + self._reply(raw[4:])
                    peer.sendall(struct.pack(">Q", len(reply)) + reply)
        except ConnectionError:
            pass  # a client that goes away

    def _reply(self, frame):
        _, _, type_, _, _, id_ = HEADER.unpack(frame[:24])
        if type_ == HELLO:
            status, body = 0, struct.pack("<HIQH", 2, 262144, 7, 4) + b"fake"
        else:
            assert type_ == CONTROL
            request = json.loads(frame[24:])
            self.requests.append(request)
            said = self.answer(request)
            if isinstance(said, tuple):
                text = said[1].encode()
                status, body = said[0], struct.pack("<IH", 0, len(text)) + text
            else:
                status = 0
                body = (said if isinstance(said, str) else json.dumps(said)).encode()
        return HEADER.pack(b"MXD1", 2, type_ | REPLY, len(body), status, id_) + body
