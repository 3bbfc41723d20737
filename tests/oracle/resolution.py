"""SEED COUNT [PAIRS]: schemas in pairs, a value of the first, and what fastavro makes of it by the second.

Pairs are drawn: a writer's schema, and a reader's that has come of it by changes that may be read, or those of a file.
Each line is a case: the schemas, the bytes, and the JSON object as evt writes it, or why there is none. fastavro goes by
the writer's logical types and leaves defaults as they stand in the schema; so both schemas lose their logical types
before it sees them, defaults are marked, and what comes back is written here by the reader's schema.
"""

import base64
import datetime
import io
import json
import random
import sys

import fastavro
from fastavro.schema import parse_schema
from fastavro._read_common import SchemaResolutionError

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
NAMED = ("record", "error", "enum", "fixed")
PROMOTED = {
    "int": ["int", "long", "float", "double"],
    "long": ["long", "float", "double"],
    "float": ["float", "double"],
    "string": ["string", "bytes"],
    "bytes": ["bytes", "string"],
}
LOGICAL = {
    "int": [{"logicalType": "date"}],
    "long": [{"logicalType": f"timestamp-{unit}"} for unit in ("millis", "micros", "nanos")],
    "bytes": [{"logicalType": "decimal", "precision": 18, "scale": scale} for scale in (0, 3)],
}


class Marked:
    """What stands in a schema, not in the bytes. Other defaults need no mark: they are what would be in the bytes."""


class MarkedText(Marked, str):
    pass


class MarkedList(Marked, list):
    pass


class MarkedDict(Marked, dict):
    pass


def marked(default):
    return {str: MarkedText, list: MarkedList, dict: MarkedDict}.get(type(default), lambda same: same)(default)


# A type is a dict {"type": …}; a named type is one dict wherever it is used, a union a list.


def load(raw, namespace, names):
    """A schema's JSON as types."""
    if isinstance(raw, list):
        return [load(branch, namespace, names) for branch in raw]
    if isinstance(raw, str):
        raw = {"type": raw}
    kind = raw["type"]
    if isinstance(kind, (dict, list)):
        return load(kind, namespace, names)
    if kind in PRIMITIVES:
        return raw
    if kind == "array":
        return {"type": kind, "items": load(raw["items"], namespace, names)}
    if kind == "map":
        return {"type": kind, "values": load(raw["values"], namespace, names)}
    if kind not in NAMED:
        return names[kind if "." in kind or not namespace else f"{namespace}.{kind}"]
    name = raw["name"]
    if "." in name:
        namespace = name.rsplit(".", 1)[0]
    else:
        namespace = raw.get("namespace", namespace)
        name = f"{namespace}.{name}" if namespace else name
    made = names[name] = dict(raw)
    if kind in ("record", "error"):
        made["type"] = "record"
        made["fields"] = [dict(field, type=load(field["type"], namespace, names)) for field in raw["fields"]]
    return made


def dump(kind, seen, bare=False):
    """Types as JSON, each name defined where it is first met; bare: as fastavro is to see them."""
    if isinstance(kind, list):
        return [dump(branch, seen, bare) for branch in kind]
    if kind["type"] in NAMED:
        if id(kind) in seen:
            namespace = kind.get("namespace")
            return f"{namespace}.{kind['name']}" if namespace and "." not in kind["name"] else kind["name"]
        seen.add(id(kind))
    out = {name: value for name, value in kind.items() if not bare or name not in ("logicalType", "precision", "scale")}
    for name in ("items", "values"):
        if name in out:
            out[name] = dump(out[name], seen, bare)
    if "fields" in out:
        out["fields"] = [dict(field, type=dump(field["type"], seen, bare)) for field in out["fields"]]
        for field in out["fields"]:
            if bare and "default" in field:
                field["default"] = marked(field["default"])
    return out


class Draw:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.count = 0
        self.named = []
        self.changed = {}

    def chance(self, part):
        return self.random.random() < part

    def name(self, letter):
        self.count += 1
        return f"{letter}{self.count}"

    def record(self, depth, outer=()):
        made = {"type": "record", "name": self.name("R"), "fields": []}
        for _ in range(self.random.randrange(5)):
            kind = self.type(depth + 1, (*outer, made))
            made["fields"].append({"name": self.name("f"), "type": kind})
        self.named.append(made)
        return made

    def type(self, depth, outer=()):
        if self.named and self.chance(0.1):
            return self.random.choice(self.named)
        if outer and self.chance(0.08):
            return [{"type": "null"}, self.random.choice(outer)]
        kinds = [*PRIMITIVES, "enum", "fixed"]
        if depth < 4:
            kinds += ["record", "array", "map", "union"] * 2
        kind = self.random.choice(kinds)
        if kind == "record":
            return self.record(depth, outer)
        if kind == "enum":
            made = {"type": kind, "name": self.name("E"), "symbols": list("ABCD"[: self.random.randrange(1, 5)])}
            self.named.append(made)
            return made
        if kind == "fixed":
            made = {"type": kind, "name": self.name("F"), "size": self.random.choice([0, 1, 4])}
            self.named.append(made)
            return made
        if kind == "array":
            return {"type": kind, "items": self.type(depth + 1, outer)}
        if kind == "map":
            return {"type": kind, "values": self.type(depth + 1, outer)}
        if kind != "union":
            return {"type": kind}
        # One of each sort: what a branch becomes then never is another one's.
        sorts = [["null"], ["boolean"], ["int", "long", "float", "double"], ["string", "bytes"]]
        sorts = self.random.sample(sorts, self.random.randrange(1, 4))
        union = [{"type": self.random.choice(sort)} for sort in sorts]
        if self.chance(0.3):
            union.append(self.record(depth, outer))
        if self.chance(0.2):
            union.append({"type": "array", "items": self.type(depth + 1, outer)})
        return union

    def change(self, kind, bare=True):
        """A type that reads values of this one, or at least some."""
        if isinstance(kind, list):
            return self.change_union(kind)
        if id(kind) in self.changed:
            return self.changed[id(kind)]
        if kind["type"] in NAMED:
            return self.change_named(kind)
        made = dict(kind, type=self.random.choice(PROMOTED.get(kind["type"], [kind["type"]])))
        for name in ("items", "values"):
            if name in made:
                made[name] = self.change(made[name])
        if made["type"] in LOGICAL and self.chance(0.3):
            made.update(self.random.choice(LOGICAL[made["type"]]))
        if bare and made["type"] != "null" and self.chance(0.15):
            return self.random.sample([{"type": "null"}, made], 2)
        return made

    def change_union(self, union):
        branches = [self.change(branch, bare=False) for branch in union]
        self.random.shuffle(branches)
        if self.chance(0.1):
            branches = branches[: self.random.randrange(1, len(branches) + 1)]
        if len(branches) == 1 and self.chance(0.5):
            return branches[0]
        if self.chance(0.2):
            branches.append(self.record(3))
        return branches

    def change_named(self, kind):
        made = self.changed[id(kind)] = dict(kind)
        if self.chance(0.2):
            made["name"], made["aliases"] = self.name("N"), [kind["name"]]
        elif kind["type"] != "record" and self.chance(0.2):
            # A record's would be that of all within.
            made["namespace"] = "other"
        if kind["type"] == "enum":
            symbols = [symbol for symbol in kind["symbols"] if self.chance(0.8)] + ["X"]
            self.random.shuffle(symbols)
            made["symbols"] = symbols
            if self.chance(0.6):
                made["default"] = self.random.choice(symbols)
        if kind["type"] == "record":
            made["fields"] = self.change_fields(kind["fields"])
        return made

    def change_fields(self, fields):
        made = []
        for field in fields:
            if self.chance(0.15):
                continue
            new = dict(field, type=self.change(field["type"]))
            if self.chance(0.2):
                new["name"], new["aliases"] = self.name("g"), ["nobody", field["name"]]
            made.append(new)
        for _ in range(self.random.randrange(3)):
            kind = self.type(3)
            made.append({"name": self.name("d"), "type": kind, "default": self.default(kind)})
        self.random.shuffle(made)
        return made

    def default(self, kind):
        """A value as schemas write it."""
        if isinstance(kind, list):
            return self.default(kind[0])
        value = self.value(kind, 9)
        return self.plain(kind, value)

    def plain(self, kind, value):
        if isinstance(value, bytes):
            return value.decode("latin-1")
        if kind["type"] == "record":
            return {field["name"]: self.default(field["type"]) for field in kind["fields"]}
        return value

    def value(self, kind, depth=0):
        if isinstance(kind, list):
            simple = [branch for branch in kind if branch["type"] in PRIMITIVES]
            return self.value(self.random.choice(simple if depth > 5 and simple else kind), depth)
        pick, name = self.random, kind["type"]
        if name == "record":
            return {field["name"]: self.value(field["type"], depth + 1) for field in kind["fields"]}
        if name in ("array", "map"):
            inner = kind["items" if name == "array" else "values"]
            items = [self.value(inner, depth + 1) for _ in range(0 if depth > 5 else pick.randrange(4))]
            return items if name == "array" else {f"k{n}": item for n, item in enumerate(items)}
        if name == "enum":
            return pick.choice(kind["symbols"])
        if name == "fixed":
            return pick.randbytes(kind["size"])
        return {
            "null": lambda: None,
            "boolean": lambda: self.chance(0.5),
            "int": lambda: pick.choice([0, 1, -1, pick.randrange(-700_000, 700_000)]),
            "long": lambda: pick.choice([0, 1, -1, pick.randrange(-(2**45), 2**45)]),
            "float": lambda: pick.randrange(-1000, 1000) / 8,
            "double": lambda: pick.randrange(-(10**9), 10**9) / 1000,
            "bytes": lambda: pick.choice([b"", b"abc", "é".encode(), pick.randbytes(3)]),
            "string": lambda: pick.choice(["", "x", 'q"\\\n', "é\u2028", "\U0001f600"]),
        }[name]()


def fits(kind, value):
    """Whether a value that came out of a union may be of this branch."""
    return {
        "null": lambda: value is None,
        "boolean": lambda: isinstance(value, bool),
        "int": lambda: isinstance(value, int) and not isinstance(value, bool),
        "long": lambda: isinstance(value, int) and not isinstance(value, bool),
        "float": lambda: isinstance(value, float),
        "double": lambda: isinstance(value, float),
        "bytes": lambda: isinstance(value, bytes),
        "string": lambda: isinstance(value, str),
        "fixed": lambda: isinstance(value, bytes) and len(value) == kind["size"],
        "enum": lambda: isinstance(value, str) and value in kind["symbols"],
        "array": lambda: isinstance(value, list),
        "map": lambda: isinstance(value, dict) and all(key.startswith("k") for key in value),
        "record": lambda: isinstance(value, dict) and value.keys() == {field["name"] for field in kind["fields"]},
    }[kind["type"]]()


def branch(kind, value):
    if not isinstance(kind, list):
        return kind
    # A default of bytes is text, one of a record may lack fields; drawn ones are of the first branch.
    return next((one for one in kind if fits(one, value)), kind[0])


def instant(ticks, unit):
    micros, rest = {"millis": (ticks * 1000, 0), "micros": (ticks, 0), "nanos": divmod(ticks, 1000)}[unit]
    at = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=micros)
    return at.isoformat(timespec="microseconds") + (f"{rest:03}Z" if rest else "Z")


def written(kind, value, is_default=False):
    """A value as evt writes it."""
    is_default = is_default or isinstance(value, Marked)
    kind = branch(kind, value)
    name, logical = kind["type"], kind.get("logicalType", "")
    if name == "record":
        out = {}
        for field in kind["fields"]:
            inner = value[field["name"]] if field["name"] in value else field["default"]
            inner = written(field["type"], inner, is_default)
            if inner is not None:
                out[field["name"]] = inner
        return out
    if name == "array":
        return [written(kind["items"], item, is_default) for item in value]
    if name == "map":
        return {key: written(kind["values"], item, is_default) for key, item in value.items()}
    if name in ("bytes", "fixed"):
        value = value.encode("latin-1") if is_default and isinstance(value, str) else value
        if logical == "decimal":
            return int.from_bytes(value, "big", signed=True) / 10 ** kind.get("scale", 0)
        return base64.b64encode(value).decode()
    if logical == "date":
        return (datetime.date(1970, 1, 1) + datetime.timedelta(days=value)).isoformat()
    if logical.startswith("timestamp-"):
        return instant(value, logical.split("-")[1])
    return value


def case(name, draw, writer, reader):
    bare = [parse_schema(dump(kind, set(), True), _ignore_default_error=True) for kind in (writer, reader)]
    value = draw.value(writer)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, bare[0], value)
    line = {"name": name, "writer": dump(writer, set()), "reader": dump(reader, set()), "bytes": out.getvalue().hex()}
    out.seek(0)
    try:
        read = fastavro.schemaless_reader(out, *bare)
    except (SchemaResolutionError, UnicodeDecodeError) as error:
        line["error"] = repr(error)
    else:
        is_record = branch(reader, read)["type"] == "record"
        line["expected"] = written(reader, read) if is_record else {"value": written(reader, read)}
    return line


def main():
    seed, count, *pairs = sys.argv[1:]
    draw = Draw(int(seed))
    for number in range(int(count)):
        draw.named, draw.changed = [], {}
        writer = draw.record(0) if number % 4 else draw.type(0)
        draw.named = []
        reader = draw.change(writer)
        for _ in range(4):
            print(json.dumps(case(f"drawn {number}", draw, writer, reader)))
    for line in (line for path in pairs for line in open(path)):
        pair = json.loads(line)
        for _ in range(8):
            writer, reader = (load(pair[side], None, {}) for side in ("writer", "reader"))
            try:
                made = case(pair["id"], draw, writer, reader)
            except (RecursionError, IndexError):
                # A record that holds itself has no values, nor has a union of nothing.
                break
            # As they are given, logical types and all.
            made.update(writer=pair["writer"], reader=pair["reader"], compatible=pair["expected"])
            print(json.dumps(made))


main()
