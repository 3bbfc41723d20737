"""The inputs of the twelve tasks, made from the data of EVT_DATA: the same bytes in every run."""

import gzip
import json
import pathlib
import random
import re
import tarfile
from datetime import UTC, datetime

ACCESS = re.compile(r'(\S+) \S+ \S+ \[([^]]+)\] "(\S+) (\S+)[^"]*" (\d+) (\d+|-)')
SCHEMA = {
    "type": "record",
    "name": "request",
    "fields": [
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "client", "type": "string"},
        {"name": "method", "type": "string"},
        {"name": "uri", "type": "string"},
        {"name": "status", "type": "int"},
        {"name": "bytes", "type": "long"},
        {"name": "ms", "type": "double"},
    ],
}


def prepare(events, directory):
    """Writes all inputs into `directory`; `events` holds the files of EVT_DATA/events."""
    unpack(events / "apache_access_10k.log.gz", directory / "access.log")
    unpack(events / "git-changes.jsonl.gz", directory / "git.jsonl")
    unpack(events / "wikiticker-2015-09-12-sampled.json.gz", directory / "wiki.jsonl")
    for archive in sorted(events.glob("online-retail-*.tar.gz")):
        with tarfile.open(archive) as days:
            days.extractall(directory, filter="data")
    second_hour(events / "gharchive-2015-01-01-0.json.gz", directory)
    lines = requests((directory / "access.log").read_text().splitlines())
    write(directory / "requests.jsonl", lines)
    write(directory / "invalid.jsonl", spoil(lines, 100, INVALID))
    write(directory / "broken.jsonl", spoil(lines, 50, BROKEN))
    subject = directory / "schemas/request"
    subject.mkdir(parents=True)
    (subject / "1.avsc").write_text(json.dumps(SCHEMA))


def unpack(packed, path):
    path.write_bytes(gzip.decompress(packed.read_bytes()))


def write(path, lines):
    path.write_text("".join(line + "\n" for line in lines))


def second_hour(packed, directory):
    """GH Archive's hour 0, and an hour 1 of two thirds of it."""
    lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    write(directory / "grow.jsonl", lines)
    later = [line.replace('"created_at":"2015-01-01T00:', '"created_at":"2015-01-01T01:') for line in lines]
    for hour, events in enumerate([lines, [line for number, line in enumerate(later) if number % 3]]):
        text = "".join(line + "\n" for line in events).encode()
        (directory / f"2015-01-01-{hour}.json.gz").write_bytes(gzip.compress(text, 1, mtime=0))


def requests(access):
    """The access log as a server of today writes it: JSON lines, with a duration that a seed draws."""
    draw = random.Random(18)
    lines = []
    for line in access:
        if not (found := ACCESS.match(line)):
            continue
        client, time, method, uri, status, size = found.groups()
        instant = datetime.strptime(time, "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC)
        event = {
            "time": instant.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "client": client,
            "method": method,
            "uri": uri,
            "status": int(status),
            "bytes": 0 if size == "-" else int(size),
            "ms": round(draw.lognormvariate(3, 1), 3),
        }
        lines.append(json.dumps(event, separators=(",", ":")))
    return lines


def change(line, **fields):
    """`line` with other values; a field that becomes None is left out."""
    event = json.loads(line) | fields
    return json.dumps({key: value for key, value in event.items() if value is not None}, separators=(",", ":"))


INVALID = [  # valid JSON with a time; each violates the schema
    lambda line: change(line, status=str(json.loads(line)["status"])),
    lambda line: change(line, uri=None),
    lambda line: change(line, bytes="many"),
    lambda line: change(line, ms=True),
]
BROKEN = [  # no event can be made of any
    lambda line: line[: len(line) // 2],
    lambda line: line + "}",
    lambda line: change(line, time=None),
    lambda line: change(line, time="yesterday"),
    lambda line: json.dumps(line),
]


def spoil(lines, every, ways):
    """`lines`, of which each `every`th is spoilt, in turn by each of `ways`."""
    return [ways[at // every % len(ways)](line) if at % every == every - 1 else line for at, line in enumerate(lines)]
