"""JOB: compares the stores of two runs over the same events, one of them killed often, and both with the generator's truth.

JOB is a file of JSON: for `wild` and `calm` the places of their stores, and the file of the truth. The readers are sqlite3,
csv, json, pyarrow, PyIceberg, psql, redis-cli and confluent-kafka with read_committed; none is part of evt. Prints, as JSON, the number of
rows in each store and the differences."""

import collections
import csv
import datetime
import json
import os
import re
import sqlite3
import subprocess
import sys
import urllib.parse

import pyarrow.dataset
from pyiceberg.catalog.sql import SqlCatalog

from topics import messages

# What differs between two runs over the same events.
CHANGING = {"ingested_at", "failed_at", "updated_at", "run", "pane", "evt.failed_at", "evt.host"}
METRIC = ["metric_name", "window_start", "window_end", "dimensions", "value", "rows", "revision"]
CSV_COLUMNS = {*METRIC, "metric_id", "pane", "retracted"}
REDIS_FIELDS = ["dimensions", "value", "rows", "revision"]
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def instant(value):
    if hasattr(value, "isoformat"):
        value = value.isoformat(timespec="microseconds")
    return str(value).replace("+00:00", "Z")


def metric(row):
    """The columns of a row of a metric, the same text from each store."""
    dimensions = row["dimensions"]
    dimensions = json.loads(dimensions) if isinstance(dimensions, str) else dimensions
    value = None if row.get("value") in (None, "") else float(row["value"])
    times = [instant(row["window_start"]), instant(row["window_end"])]
    numbers = [int(row["rows"]), int(row["revision"])]
    return json.dumps([row["metric_name"], *times, dimensions, value, *numbers], sort_keys=True)


def kept(row):
    return json.dumps({name: value for name, value in row.items() if name not in CHANGING}, sort_keys=True)


def letter(row, payload):
    """A dead letter. An event that a stage has passed on says when it was ingested, which is also in the hash of its id."""
    try:
        event = json.loads(row.get(payload, ""))
    except ValueError:
        return row
    if not isinstance(event, dict) or "ingested_at" not in event:
        return row
    stable = {name: event[name] for name in event if name not in CHANGING}
    headers = {name: row["headers"][name] for name in row.get("headers", {}) if name != "evt.letter_id"}
    return {**row, payload: stable, "headers": headers, "letter_id": None}


def of_sqlite(path):
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    return [dict(row) for row in database.execute("SELECT * FROM aggregated_metrics")]


def of_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def of_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # Each dimension has a column; one that is empty belongs to another metric, because no dimension of these is NULL.
    for row in rows:
        row["dimensions"] = {name: value for name, value in row.items() if name not in CSV_COLUMNS and value}
    return rows


def of_lake(path):
    return pyarrow.dataset.dataset(path, format="parquet", partitioning="hive").to_table().to_pylist()


def of_iceberg(path):
    catalog = SqlCatalog("evt", uri=f"sqlite:///{path}/catalog.db", warehouse=f"file://{path}")
    return catalog.load_table("evt.aggregated_metrics").scan().to_arrow().to_pylist()


def of_postgres(place):
    columns = ", ".join(
        f"to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS {name}" if "window" in name else f'"{name}"'
        for name in METRIC
    )
    sql = f"SELECT row_to_json(found) FROM (SELECT {columns} FROM {place['schema']}.aggregated_metrics) AS found"
    command = ["psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql, place["uri"]]
    return [json.loads(line) for line in subprocess.check_output(command, text=True).splitlines()]


def of_redis(place):
    client = ["redis-cli", "-u", place["uri"]]
    found = subprocess.check_output([*client, "--scan", "--pattern", place["prefix"] + "metric:*/*"], text=True).split()
    # A row's name and window are in its key; what ends in `:gone` is a tombstone.
    keys = [match for match in (re.fullmatch(r".*metric:{(.*):.*}:(\d+)/(\d+)", key) for key in found) if match]
    asked = "".join(f"HMGET {key[0]} {' '.join(REDIS_FIELDS)}\n" for key in keys)
    lines = subprocess.check_output(client, input=asked, text=True).splitlines()
    rows = []
    for at, key in enumerate(keys):
        size = len(REDIS_FIELDS)
        row = dict(zip(REDIS_FIELDS, lines[at * size : (at + 1) * size]))
        start, end = (EPOCH + datetime.timedelta(microseconds=int(number)) for number in key.groups()[1:])
        rows.append({**row, "metric_name": urllib.parse.unquote(key[1]), "window_start": start, "window_end": end})
    return rows


def records(place):
    """The committed records of a topic: key, value and headers."""
    text = lambda value: None if value is None else bytes(value).decode("latin-1")
    found = []
    for message in messages(place["brokers"], place["topic"]):
        headers = {name: text(value) for name, value in message.headers() or [] if name not in CHANGING}
        found.append({"key": text(message.key()), "value": text(message.value()), "headers": headers})
    return found


def row_of(record):
    """The row in a record of JSON."""
    value = json.loads(record["value"])
    return {**record, "value": {name: value[name] for name in value if name not in CHANGING}}


def raw_of_sqlite(path):
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    return [dict(row) for row in database.execute("SELECT * FROM raw_events")]


def raw_of_postgres(place):
    sql = f"SELECT row_to_json(found) FROM {place['schema']}.raw_events AS found"
    command = ["psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql, place["uri"]]
    return [json.loads(line) for line in subprocess.check_output(command, text=True).splitlines()]


METRIC_READERS = {
    "sqlite at once": of_sqlite,
    "postgres at once": of_postgres,
    "sqlite": of_sqlite,
    "lines": of_lines,
    "csv": of_csv,
    "lake": of_lake,
    "iceberg": of_iceberg,
    "postgres": of_postgres,
    "redis": of_redis,
    "topic": lambda place: [json.loads(record["value"]) for record in records(place)],
}
OTHER_READERS = {
    "raw sqlite": raw_of_sqlite,
    "raw postgres": raw_of_postgres,
    "raw lines": of_lines,
    "dead": lambda path: [letter(row, "original_payload") for row in of_lines(path)],
    "late": of_lines,
    "dead topic": lambda place: [letter(record, "value") for record in records(place)],
    "refused": lambda path: [letter(row, "original_payload") for row in of_lines(path)],
    "refused topic": lambda place: [letter(record, "value") for record in records(place)],
    "late topic": lambda place: [row_of(record) for record in records(place)],
}


def rows_of(stores):
    """The sorted rows of each store."""
    found = {}
    for name, place in stores.items():
        is_metric = name in METRIC_READERS
        rows = METRIC_READERS[name](place) if is_metric else OTHER_READERS[name](place)
        found[name] = sorted(map(metric if is_metric else kept, rows))
    return found


def difference(name, found, expected):
    if found == expected:
        return []
    found_counts, expected_counts = collections.Counter(found), collections.Counter(expected)
    missing, extra = expected_counts - found_counts, found_counts - expected_counts
    return [
        f"{name}: expected {len(expected)} rows, found {len(found)}; {missing.total()} missing, such as "
        f"{next(iter(missing), None)}; {extra.total()} extra, such as {next(iter(extra), None)}"
    ]


def truth_differences(wild, truth, job):
    """How the rows differ from what the generator expects of the metric of the name `events`."""
    expected = [
        json.dumps([window["window_start"], window["window_end"], window["dimensions"], float(window["value"])], sort_keys=True)
        for window in truth["windows"]
    ]
    differences = []
    for name in wild:
        if name in METRIC_READERS:
            rows = [row for row in map(json.loads, wild[name]) if row[0] == "events"]
            found = sorted(json.dumps(row[1:5], sort_keys=True) for row in rows)
            differences += difference(f"{name}, by the truth", found, sorted(expected))
    late = [row["value"] if name == "late topic" else row for name in wild if name.startswith("late") for row in map(json.loads, wild[name])]
    counts = {"late": sum("events" in row["late_for"] for row in late)}
    if not job["is_repeated"]:
        counts["dead"] = sum(len(wild[name]) for name in wild if name.startswith("dead"))
    for name, count in counts.items():
        if count != truth["counts"][name]:
            differences.append(f"{name}: the truth is {truth['counts'][name]}, found {count}")
    return differences


def refused_differences(places):
    """Whether each event with a value that only PostgreSQL refuses is a letter, and no other event is."""
    name = next((name for name in places if name.startswith("refused")), None)
    if name is None:
        return []
    payload = {"refused": "original_payload", "refused topic": "value"}[name]
    letters = [row[payload] for row in OTHER_READERS[name](places[name])]
    letters = [json.loads(event) if isinstance(event, str) else event for event in letters]
    refused = sorted(row["event_id"] for row in of_lines(places["raw lines"]) if "refused" in row["properties"])
    differences = difference(f"{name}, by the events", sorted(event["event_id"] for event in letters), refused)
    stored = {row["event_id"] for row in raw_of_postgres(places["raw postgres"])}.intersection(refused)
    if stored or not refused:
        differences.append(f"raw postgres: of {len(refused)} events that PostgreSQL refuses {len(stored)} are stored")
    return differences


def main(path):
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    with open(job["truth"], encoding="utf-8") as file:
        truth = json.load(file)
    if job["is_moved"]:
        # The two runs have inputs of their own, so events have other positions, and letters other ids.
        CHANGING.update(["offset", "letter_id", "partition", "origin"])
    places = [job["wild"], job["calm"]]
    if job["is_moved"] and job["is_repeated"]:
        # A server stamps events; each repeated request has its own letters and rows.
        CHANGING.add("server_timestamp")
        places = [{name: place[name] for name in place if name not in ("dead", "refused", "raw lines")} for place in places]
    wild, calm = map(rows_of, places)
    differences = [text for name in wild for text in difference(name, wild[name], calm[name])]
    differences += truth_differences(wild, truth, job)
    differences += refused_differences(job["wild"])
    stores = [name for name in calm if name in METRIC_READERS]
    differences += [text for name in stores for text in difference(f"{name}, undisturbed", calm[name], calm[stores[0]])]
    print(json.dumps({"rows": {name: len(rows) for name, rows in wild.items()}, "differences": differences}))


main(os.path.abspath(sys.argv[1]))
