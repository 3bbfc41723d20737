"""Parses files of checkpoints by LAYOUTS of evt-checkpoint(5): `checkpoint_layout.py PATH...`.

A path is a checkpoint, whose last complete epoch is parsed with its files of state; a saved state, whose name ends with window.state
or dedup.state; or the intent beside an output file. Every byte of a file must be accounted for. Prints what was found, sorted, one a
line with its number.
"""

import collections
import json
import pathlib
import re
import struct
import sys

import pyarrow

FOUND = collections.Counter()


class Bytes:
    """The bytes of a file, from the first one that was not read yet."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert 0 <= count <= len(self.data) - self.at, f"{count} bytes at {self.at} of {len(self.data)}"
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def byte(self):
        return self.value("B")

    def flag(self):
        value = self.byte()
        assert value in (0, 1), f"flag {value} at {self.at}"
        return value == 1

    def number(self):
        return self.value("q")

    def count(self):
        return self.value("Q")

    def bytes(self):
        return self.take(self.count())

    def text(self):
        return self.bytes().decode()

    def optional(self):
        return self.number() if self.flag() else None

    def left(self):
        return len(self.data) - self.at

    def end(self):
        assert self.left() == 0, f"{self.left()} bytes are left after {self.at}"


def key(data):
    """The values of the dimensions of a key."""
    found, values = Bytes(data), []
    while found.left():
        values.append(found.take(found.value("I")).decode() if found.flag() else None)
    return values


def exact(state, version):
    """An exact sum, in its units."""
    sign = -1 if state.flag() else 1
    first, digits = state.count(), [state.value("I") for _ in range(state.count())]
    base = 2**32 if version == 1 else 10**9
    assert all(digit < base for digit in digits)
    return sign * sum(digit * base ** (first + at) for at, digit in enumerate(digits))


def aggregate(name, data):
    state = Bytes(data)
    version, has_sums = state.byte(), name in ("sum", "avg", "stddev")
    assert 1 <= version <= (2 if has_sums else 1)
    if name in ("count", "rate"):
        state.count()
    elif has_sums:
        number, specials = state.count(), state.byte()
        assert specials < 8
        total = exact(state, version)
        # Of n values the squares have a sum of at least the square of their sum through n.
        unit = 1 if version == 1 else 10**2151
        assert name != "stddev" or number * exact(state, version) * unit >= total * total
    elif name in ("min", "max"):
        has_value, value = state.flag(), state.value("d")
        assert has_value or value == 0
    elif name in ("first", "last"):
        if state.flag():
            state.number(), state.text(), state.text(), state.value("d")
    elif name == "count_distinct":
        is_over, texts = state.flag(), [state.text() for _ in range(state.count())]
        assert texts == sorted(set(texts)) and not (is_over and texts)
    elif name == "approx_distinct":
        is_dense = state.left() == 4096
        entries = list(state.take(4096)) if is_dense else [state.value("I") for _ in range(state.left() // 4)]
        registers = [entry >> 8 for entry in entries]
        assert is_dense or registers == sorted(set(registers)) and all(1 <= entry & 255 <= 53 for entry in entries)
        FOUND["approx_distinct: " + ("all registers" if is_dense else "list")] += 1
    elif name == "approx_percentile":
        bins = [(state.value("i"), state.count()) for _ in range(state.count())]
        assert bins == sorted(bins) and all(count for _, count in bins)
    elif name == "ratio":
        state.count(), state.count()
    else:
        raise AssertionError(f"{name}: describe its bytes in LAYOUTS of evt-checkpoint(5), and parse them here")
    state.end()
    FOUND[name] += 1


class Metric:
    """A metric by its text in the state."""

    def __init__(self, text):
        form = r"(?s).*?: (\w+)\((distinct )?.* where (.*) by (\[.*\]) ((?:Sliding|Calendar|Session).*) lateness \d+"
        name, is_distinct, where, self.by, shape = re.fullmatch(form, text).groups()
        self.aggregate = "count_distinct" if is_distinct else name
        self.is_session = shape.startswith("Session")
        self.has_where = where != ""

    def keyed(self, state):
        """A key, and its number of events and aggregate."""
        values = key(state.bytes())
        assert len(values) == len(json.loads(self.by))
        return values

    def accumulated(self, state):
        assert state.count() > 0
        aggregate(self.aggregate, state.bytes())

    def parse(self, data):
        state = Bytes(data)
        (self.sessions if self.is_session else self.slices)(state)
        state.end()

    def slices(self, state):
        for _ in range(state.count()):
            start, first_end, last_end = state.number(), state.number(), state.number()
            assert start < first_end <= last_end
            FOUND["slices"] += 1
            for _ in range(state.count()):
                self.keyed(state)
                self.accumulated(state)
        ends = [state.number() for _ in range(state.count())]
        assert ends == sorted(set(ends))
        for _ in range(state.count()):
            state.number()
            for _ in range(state.count()):
                self.keyed(state)
                assert state.number() >= 0
                FOUND["panes"] += 1
            for _ in range(state.count()):
                self.keyed(state)

    def sessions(self, state):
        for _ in range(state.count()):
            self.keyed(state)
            assert state.number() < state.number()
            self.accumulated(state)
            if state.flag():
                state.number(), state.number()
            state.flag()
            FOUND["sessions"] += 1
        for _ in range(state.count()):
            self.keyed(state)
            [state.number() for _ in range(4)]

    def away(self, data, has_runs):
        """What is known of windows in files."""
        state = Bytes(data)
        if self.is_session:
            state.optional(), state.count()
        else:
            for _ in range(2):
                ends = [state.number() for _ in range(state.count() * (2 if has_runs else 1))]
                assert ends == sorted(ends)
        state.end()


def log(data, metrics, masks):
    """Rows of a log, a stream of Arrow IPC. `masks` of the metrics have a column that says which rows count."""
    stream = pyarrow.ipc.open_stream(data)
    rows = stream.read_all()
    types = [str(field.type) for field in rows.schema]
    assert rows.schema.names == [str(at) for at in range(len(types))]
    assert types[: 3 + masks] == ["binary", "int64", "int64"] + ["bool"] * masks, types
    assert all(len(key(value)) == len(json.loads(metrics[0].by)) for value in rows.column(0).to_pylist())
    FOUND["rows of logs"] += rows.num_rows


def files(state, metrics, directory, version):
    """The state of metrics in files."""
    masks = sum(metric.has_where for metric in metrics)
    if version > 3:
        columns, masks = state.count(), 0
        for metric in metrics:
            has_mask = state.flag()
            masks += has_mask
            used = [state.number()] if has_mask else []
            args = [state.number() for _ in range(state.count())]
            assert has_mask == (metric.has_where or args != [])
            used += args
            assert all(3 <= column < columns for column in used), used
    ranges(state, metrics, directory, masks, version > 5)


def ranges(state, metrics, directory, masks, has_ends):
    """The ranges of the state of metrics in files: they contain each end and each hash once."""
    if not has_ends:
        state.count()
    least, greatest = -(2**63), 2**63 - 1
    first_end, last_end, last = least, greatest if not has_ends else least - 1, 2**64 - 1 if has_ends else -1
    for _ in range(state.count()):
        ends = (state.number(), state.number()) if has_ends else (least, greatest)
        if last == 2**64 - 1:
            assert ends[0] == last_end + 1
            last = -1
        else:
            assert ends == (first_end, last_end)
        first_end, last_end = ends
        assert first_end <= last_end
        first, after = state.count(), last + 1
        assert first == after
        last = state.count()
        if has_ends:
            state.count()
            state.flag()
            FOUND["ranges of windows"] += ends != (least, greatest)
        for is_log in (False, True):
            for _ in range(state.count()):
                name, start, end = state.text(), state.count(), state.count()
                state.flag(), state.number()
                if has_ends:
                    assert first_end <= state.number() <= state.number() <= last_end
                block = (directory / name).read_bytes()[start:end]
                if is_log:
                    log(block, metrics, masks)
                    continue
                saved = Bytes(block)
                for metric in metrics:
                    metric.parse(saved.bytes())
                saved.end()
                FOUND["ranges in files"] += 1
    assert last == 2**64 - 1 and last_end == greatest


def window(data, directory):
    state = Bytes(data)
    version = state.byte()
    assert version in (1, 2, 3, 4, 5, 6)
    assert re.fullmatch(r"out_of_orderness (all|\d+) explicit (true|false) emit (Panes|Final)", state.text())
    state.flag(), state.optional()
    for _ in range(state.count()):
        source = state.number() if version > 1 else 0
        origin, partition, time = state.text(), state.text(), state.optional()
        kind = state.byte()
        assert kind in (0, 1, 2)
        if source == 2**32 - 1:
            assert (origin, partition, kind) == ("", "", 2) and time is not None
            FOUND["forgotten partitions"] += 1
    state.optional()
    away = set()
    for _ in range(state.count() if version > 2 else 0):
        texts = [state.text() for _ in range(state.count())]
        away.update(texts)
        group = Bytes(state.bytes())
        files(group, [Metric(text) for text in texts], directory, version)
        group.end()
    for _ in range(state.count()):
        text = state.text()
        state.optional()
        metric = Metric(text)
        saved = state.bytes()
        if text in away:
            metric.away(saved, version > 5)
        else:
            metric.parse(saved)
        FOUND["metrics"] += 1
    state.end()


def ids_file(data, ids, filter_bytes, partitions):
    """A file of ids: each hash of a block must be in the filter."""
    found = Bytes(data)
    for _ in range(ids):
        assert found.value("I") < partitions
        found.take(16), found.number()
    firsts = [found.count() for _ in range(-(-ids // 128))]
    words = [found.count() for _ in range(filter_bytes // 8)]
    found.end()
    assert firsts == sorted(firsts)
    blocks = len(words) // 8
    assert blocks & (blocks - 1) == 0
    for hashed in firsts:
        block, mixed = hashed & (blocks - 1), hashed * 0x9E3779B97F4A7C15 & (2**64 - 1)
        bits = [mixed >> (64 - 9 * probe) & 511 for probe in range(1, 7)]
        assert all(words[block * 8 + bit // 64] >> bit % 64 & 1 for bit in bits)
    FOUND["ids in files"] += ids


def dedup(data, directory):
    state = Bytes(data)
    version = state.byte()
    if version == 1:
        [state.count() for _ in range(3)]
        for _ in range(state.count()):
            state.text(), state.text()
            for _ in range(state.count()):
                state.take(16), state.count(), state.number()
                FOUND["ids"] += 1
        return state.end()
    assert version == 2
    state.number()
    partitions = [(state.text(), state.text(), state.optional()) for _ in range(state.count())]
    recent = Bytes(state.bytes())
    while recent.left():
        assert recent.value("I") < len(partitions)
        recent.take(16), recent.number()
        FOUND["ids"] += 1
    for _ in range(state.count()):
        name, ids, filter_bytes = state.text(), state.count(), state.count()
        for _ in range(state.count()):
            state.count(), state.number()
        ids_file((directory / name).read_bytes(), ids, filter_bytes, len(partitions))
    return state.end()


def members(value, required, optional=()):
    assert set(required) <= set(value) <= set(required) | set(optional), value


def followed(directory, start):
    """The inputs that a run takes over, and those that it has begun: none of their records is read."""
    notes = [json.loads(note.read_text()) for note in directory.glob("*.followed")]
    for name in start.get("followed", []) + sum(notes, []):
        if "topic" in name:
            members(name, ["topic", "partition", "next", "stream_time", "input"], ["group", "topic_id"])
            assert name["input"] == 2**32 - 1
            continue
        members(name, ["name", "position", "partitions"], ["explode"])
        members(name["position"], ["lines", "open", "closed", "modified"])
        assert name["position"]["lines"] == 0 and name["partitions"] == []
        for file in name["position"]["open"]:
            members(file, ["id", "content", "line", "is_done"], ["born", "began"])
            members(file["content"], ["length", "hash", "prefixes"])
            assert file["line"] == 0
        FOUND["begun names"] += 1


def checkpoint(root):
    complete = None
    for number in sorted(int(path.name) for path in (root / "log").iterdir()):
        entry = json.loads((root / "log" / str(number)).read_text())
        assert entry["evt_checkpoint"] == 1
        if "start" in entry:
            members(entry["start"], ["checkpoint", "restored", "at", "host", "pid", "version"], ["recorded_as", "followed"])
            followed(root / "epochs" / f"{number}-0", entry["start"])
        else:
            complete = entry["complete"]
            members(complete, ["epoch", "at", "stages"], ["branches"])
    directory = root / "epochs" / "{run}-{number}".format(**complete["epoch"])
    for stage in complete["stages"]:
        members(stage, ["stage", "version", "began", "outputs", "parts"], ["fingerprint", "watermark"])
        assert isinstance(stage.get("watermark", 0), int), stage
        has_state = any(part["name"] == stage["stage"] + ".state" for part in stage["parts"])
        assert re.fullmatch("[0-9a-f]{32}", stage.get("fingerprint", "")) if has_state else "fingerprint" not in stage
        [members(output, ["key", "uri"]) for output in stage["outputs"]]
        for part in stage["parts"]:
            members(part, ["name", "bytes", "checksum"])
            path = directory / part["name"]
            assert path.stat().st_size == part["bytes"], path
            if path.name.endswith("evt-window.state"):
                window(path.read_bytes(), directory)
            elif path.name.endswith("evt-validate.state"):
                dedup(path.read_bytes(), directory)
            elif path.suffix == ".state":
                raise AssertionError(f"{path.name}: describe its bytes in LAYOUTS of evt-checkpoint(5), and parse them here")
            elif ".rows-" in path.name:
                FOUND["rows of outputs"] += pyarrow.ipc.open_stream(path.read_bytes()).read_all().num_rows
        manifest = directory / (stage["stage"] + ".json")
        assert not manifest.exists() or json.loads(manifest.read_bytes()) == stage


def intent(data):
    head, lines = data.split(b"\n", 1)
    head = json.loads(head)
    members(head, ["evt_intent", "ledger", "run", "batch", "piece", "done", "length", "bytes", "checksum"])
    assert head["evt_intent"] == 2 and len(lines) == head["bytes"] and not (head["done"] and lines)
    FOUND["intents"] += 1


for path in map(pathlib.Path, sys.argv[1:]):
    if path.is_dir():
        checkpoint(path)
    elif ".evt." in path.name:
        intent(path.read_bytes())
    elif path.name.endswith("window.state"):
        window(path.read_bytes(), path.parent)
    else:
        dedup(path.read_bytes(), path.parent)
for what, number in sorted(FOUND.items()):
    print(what, number)
