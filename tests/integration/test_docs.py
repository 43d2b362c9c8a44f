"""The docs name what there is: messages, statuses, settings, keys, policies; and the hexdump of
docs/protocol.md is what a daemon really says."""
import os
import re
import struct

from harness import DaemonTest, main
import wire

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def read(*parts):
    with open(os.path.join(ROOT, *parts), encoding="utf-8") as f:
        return f.read()


def table(text, macro):
    """The rows of an X-macro: lists of their arguments."""
    body = re.search(r"#define " + macro + r"\(X\)(.*?[^\\])\n", text, re.S).group(1)
    return [[a.strip().strip('"') for a in row.split(",")]
            for row in re.findall(r"X\(([^)]*)\)", body)]


def hexdump(text, kind):
    block = re.search(r"```" + kind + r"\n(.*?)```", text, re.S).group(1)
    return bytes.fromhex("".join(line.split("|")[0] for line in block.splitlines()))


class Docs(DaemonTest):
    def test_messages_and_statuses(self):
        doc, header = read("docs", "protocol.md"), read("proto", "msg.h")
        for number, upper, lower in table(header, "MX_MESSAGES"):
            self.assertIn(f"### {upper} ({number})\n", doc)
            section = doc.split(f"### {upper} ({number})\n")[1].split("\n### ")[0].split("\n## ")[0]
            for kind in ("REQUEST", "REPLY"):
                fields = re.search(rf"#define MX_{upper}_{kind}\(F\)(.*?[^\\])\n", header, re.S)
                for type_, field in re.findall(r"F\((\w+), (\w+)\)", fields.group(1)):
                    self.assertIn(f"`{type_} {field}`", section, f"{upper} {kind}")
            self.assertEqual(lower, upper.lower())
        for number, upper, *_ in table(header, "MX_STATUSES"):
            self.assertRegex(doc, rf"\n\| {number} \| {upper} \|")

    def test_settings(self):
        doc = read("docs", "config.md")
        for key, default, *rest in table(read("daemon", "config.h"), "MX_SETTINGS"):
            live = "live" if rest[2] == "1" else ""
            self.assertRegex(doc, rf"\n\| `{key}` \| {default} \| {live} ?\|")

    def test_run_keys(self):
        doc = read("docs", "config.md")
        source = read("daemon", "runconf.c") + read("daemon", "runphases.c")
        keys = re.findall(r'static const char \*const \w*keys\[\] = \{(.*?)\};', source, re.S)
        self.assertEqual(len(keys), 5)
        for key in re.findall(r'"(\w+)"', " ".join(keys)):
            self.assertRegex(doc, rf"[`.]{key}[`.]", key)

    def test_policies(self):
        doc = read("docs", "config.md")
        folder = os.path.join(ROOT, "daemon", "core")
        names = []
        for f in sorted(os.listdir(folder)):
            if f.startswith("policy_") and f.endswith(".c"):
                text = read("daemon", "core", f)
                names += re.findall(r'\.name = "([^"]+)"', text)
                for key in re.findall(r'\{"(\w+)", [^"]*"', text):
                    self.assertIn(f"| `{key}` |", doc)
        self.assertIn("odm", names)
        for name in names:
            self.assertIn(f"\n| `{name}` |", doc)

    def test_operations(self):
        doc = read("docs", "protocol.md")
        for name, _ in table(read("daemon", "ops.c"), "MX_OPS"):
            self.assertIn(f"\n| `{name}` |", doc)

    def test_entries(self):
        doc = read("docs", "disk-format.md")
        for number, _, lower in re.findall(r"X\((\d), (\w+), (\w+)\)", read(
                "daemon", "core", "run.h").split("MX_ENTRIES(X)")[1].split("enum")[0]):
            self.assertRegex(doc, rf"\n\| {number} \| {lower} \|")

    def test_hexdump(self):
        doc = read("docs", "protocol.md")
        raw = struct.pack("<64H", *range(64))
        self.mixctl("ingest", "d", self.write("d.u16", raw), "--format", "u16", data=True)
        d = self.start()
        self.create(d, batch_size=2, seq_len=4, domains={"d": {}})
        request = hexdump(doc, "request")
        with wire.Wire(d.url) as w:
            w.sock.sendall(request)
            head = w.read(8)
            reply = head + w.read(struct.unpack(">Q", head)[0])
        self.assertEqual(reply.hex(" "), hexdump(doc, "reply").hex(" "))


if __name__ == "__main__":
    main()
