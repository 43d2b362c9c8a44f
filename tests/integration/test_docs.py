"""The docs name what there is: messages, statuses, settings, keys, policies; and the hexdump of
docs/protocol.md is what a daemon really says."""
import json
import os
import re
import struct
import subprocess

from harness import DaemonTest, main
import wire

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
LIST_POLICIES = os.environ.get("LIST_POLICIES", "build/tests/core/list_policies")


def read(*parts):
    with open(os.path.join(ROOT, *parts), encoding="utf-8") as f:
        return f.read()


def table(text, macro):
    """The rows of an X-macro: lists of their arguments."""
    body = re.search(r"#define " + macro + r"\(X\)(.*?[^\\])\n", text, re.S).group(1)
    return [[a.strip().strip('"') for a in row.split(",")]
            for row in re.findall(r"X\(([^)]*)\)", body)]


def registry():
    """The policies that there are, as the program that knows them prints them."""
    out = subprocess.run([LIST_POLICIES], capture_output=True, text=True, check=True).stdout
    return json.loads(out)


def part(text, heading):
    """What stands under a heading, up to the next one that isn't below it."""
    level = heading.split(" ")[0]
    body = text.split(f"\n{heading}\n")[1]
    return re.split(rf"\n#{{1,{len(level)}}} ", body)[0]


def rows(text):
    """The rows of the tables in a text whose first cell is one name: lists of their cells."""
    cells = [[c.strip() for c in line.strip("|").split(" |")]
             for line in text.split("\n") if re.match(r"\| `[\w-]+` \|", line)]
    return [[r[0].strip("`")] + r[1:] for r in cells]


def number(text):
    """2^40 is one, too."""
    base, _, power = text.partition("^")
    return float(base) ** float(power) if power else float(base)


def bounds(text):
    return [number(b) for b in text.split(",")[0].split(" to ")]


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

    def test_sections(self):
        doc = read("docs", "protocol.md")
        for number, name in table(read("proto", "sections.h"), "MX_SECTIONS"):
            self.assertIn(f"\n| {number} | {name} |", doc)

    def test_settings(self):
        doc = read("docs", "config.md")
        for key, default, *rest in table(read("daemon", "config.h"), "MX_SETTINGS"):
            live = "live" if rest[2] == "1" else ""
            self.assertRegex(doc, rf"\n\| `{key}` \| {default} \| {live} ?\|")

    def test_run_keys(self):
        doc = read("docs", "config.md")
        files = ("runconf.c", "runphases.c", "runpolicy.c", "runschedule.c")
        source = "".join(read("daemon", f) for f in files)
        keys = re.findall(r'static const char \*const \w*keys\[\] = \{(.*?)\};', source, re.S)
        self.assertEqual(len(keys), 7)
        for key in re.findall(r'"(\w+)"', " ".join(keys)):
            self.assertRegex(doc, rf"[`.]{key}[`.]", key)

    def test_policies(self):
        """docs/policies.md says of each policy, parameter and table what the registry says, and of
        no others; docs/config.md names each."""
        doc, config = read("docs", "policies.md"), read("docs", "config.md")
        needs = {row[0]: row[1] for row in rows(part(doc, "### What each needs"))}
        names = []
        for p in registry():
            name = p["name"]
            names.append(name)
            text = part(doc, f"## `{name}`")
            takes = [k for k in ("train", "eval", "reward", "grad") if p[k]]
            self.assertIn("- what it takes from a report: "
                          + (", ".join(f"`{k}`" for k in takes) or "nothing") + "\n", text)
            self.assertEqual(set(re.findall(r"`(train|eval|reward|grad)`", needs[name])),
                             set(takes), name)
            self.assertIn(f"- absent: `{p['absent']}`"
                          + (f" (absent_decay {p['absent_decay']:g})" if p["absent"] == "decay"
                             else "") + "\n", text)
            self.assertIn("- terms of its explanations: "
                          + (", ".join(f"`{t}`" for t in p["terms"]) or "none") + "\n", text)
            self.assertEqual([r[0] for r in rows(text)],
                             [q["name"] for q in p["params"] + p["tables"]], name)
            for row, q in zip(rows(text), p["params"]):
                self.check_param(name, row, q)
            for row, t in zip(rows(text)[len(p["params"]):], p["tables"]):
                self.check_table(name, row, t)
            self.assertRegex(config, rf"`{name}`", name)
        self.assertEqual(sorted(re.findall(r"\n## `([\w-]+)`\n", doc)), sorted(names))
        self.assertEqual(sorted(needs), sorted(names))

    def check_param(self, policy, row, q):
        where = f"{policy}: {q['name']}: {row}"
        if q["kind"] == "choice":
            self.assertEqual(row[1], f"`{q['choices'][int(q['default'])]}`", where)
            self.assertEqual(re.findall(r"`(\w+)`", row[2]), q["choices"], where)
        elif q["kind"] == "switch":
            self.assertEqual(row[1:3], ["`true`" if q["default"] else "`false`",
                                        "`true`, `false`"], where)
        else:
            self.assertEqual(number(row[1]), q["default"], where)
            self.assertEqual(bounds(row[2]), [q["min"], q["max"]], where)
            self.assertEqual(row[2].endswith(", whole"), q["kind"] == "integer", where)
        self.assertTrue(row[3], where)

    def check_table(self, policy, row, t):
        shapes = {"domains": "by domain", "members": "by member", "graph": "domains x members",
                  "names": "names of members"}
        where = f"{policy}: {t['name']}: {row}"
        self.assertEqual(row[1], shapes[t["shape"]] + (", needed" if t["required"] else ""), where)
        if t["shape"] == "names":
            self.assertEqual(row[2], "", where)
        else:
            self.assertEqual(bounds(row[2]), [t["min"], t["max"]], where)
        self.assertTrue(row[3], where)

    def start_with_domains(self):
        for name in ("web", "code", "books"):
            self.tokens(name, 400)
        return self.start()

    def create_part(self, d, name, what, code=0):
        """A run of which the config's part is given."""
        return self.create(d, code=code, **{
            "name": name, "domains": {"web": {}, "code": {}, "books": {}}, **what})

    def test_guards(self):
        """Each guard with its default and its range: what lies on a bound is taken, what lies
        beyond is refused with the key."""
        table = {r[0]: r for r in rows(part(read("docs", "policies.md"), "### Guards"))}
        keys = re.search(r"policy_keys\[\] = \{(.*?)NULL\};", read("daemon", "runpolicy.c"), re.S)
        keys = re.findall(r'"(\w+)"', keys.group(1))
        self.assertEqual(set(table), set(keys) - {"name"})
        for p in registry():
            for key in ("loss_clip", "prior_decay", "stale_discount", "max_change"):
                self.assertEqual(number(table[key][1]), p[key], key)
        d = self.start_with_domains()
        tried = 0
        for key, row in table.items():
            more = {"absent": "decay"} if key == "absent_decay" else {}
            if " to " in row[2]:
                low, high = bounds(row[2])
                values = [(low, 0), (high, 0), (low - 1, 1), (high * 1.01 + 1, 1)]
            else:
                values = [(v, 0) for v in re.findall(r"`(\w+)`", row[2])] + [("none such", 1)]
                if key == "eval_set":
                    values = [("held", 0), ("none such", 1)]
            for value, code in values:
                tried += 1
                if isinstance(value, float) and value == int(value):
                    value = int(value)
                got = self.create_part(d, f"g{tried}", {
                    "eval_sets": {"held": ["web", "code", "books"]},
                    "policy": {"name": "skillit", **more, key: value}}, code=code)
                if code != 0:
                    self.assertIn(f"policy.{key}", got.stderr)
        self.assertGreater(tried, 25)

    def test_policy_examples(self):
        """Every example of docs/policies.md makes a run."""
        doc, n = read("docs", "policies.md"), 0
        d = self.start_with_domains()
        for p in registry():
            text = part(doc, f"## `{p['name']}`")
            examples = re.findall(r"```json\n(.*?)```", text, re.S)
            self.assertTrue(examples, p["name"])
            for example in examples:
                what = json.loads(example)
                n += 1
                self.assertEqual(what["policy"]["name"], p["name"])
                self.create_part(d, f"e{n}", what)
                self.assertEqual(self.json("run", "ls", daemon=d)["runs"][-1]["policy"], p["name"])

    def test_operations(self):
        doc = read("docs", "protocol.md")
        for name, _ in table(read("daemon", "ops.c"), "MX_OPS"):
            self.assertIn(f"\n| `{name}` |", doc)

    def test_entries(self):
        doc = read("docs", "disk-format.md")
        for number, _, lower in re.findall(r"X\((\d+), (\w+), (\w+)\)", read(
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
