"""Compares metrics in CSV with those in frames, as Python's csv module, DuckDB and pyarrow read them. Arguments: CSV file, frames file."""

import csv
import json
import sys
import uuid

import duckdb
import pyarrow.ipc

COLUMNS = ["metric_name", "window_start", "window_end"]
REST = ["value", "rows", "metric_id", "revision", "pane", "retracted"]
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "evt.metric")

path, frames = sys.argv[1:]
with open(path, newline="", encoding="utf-8") as file:
    header, *lines = list(csv.reader(file))
with open(frames, "rb") as file:
    stream = pyarrow.ipc.open_stream(file)
    names = json.loads(stream.schema.metadata[b"evt.dimensions"])
    rows = stream.read_all().to_pylist()


def column(name):
    is_taken = name in COLUMNS + REST + ["dimensions"] or name.startswith("dimensions.")
    return f"dimensions.{name}" if is_taken else name


assert header == COLUMNS + [column(name) for name in names] + REST, header
assert len(lines) == len(rows) > 0, (len(lines), len(rows))
for line, row in zip(lines, rows):
    cells = dict(zip(header, line))
    dimensions = json.loads(row["dimensions"])
    for name in names:
        assert cells[column(name)] == (dimensions.get(name) or ""), (name, line, row)
    assert set(dimensions) <= set(names), row
    value = row["value"]
    assert cells["value"] == "" if value is None else float(cells["value"]) == value, (line, row)
    is_whole = value is not None and value.is_integer() and abs(value) < 1e21
    assert not is_whole or cells["value"].lstrip("-").isdigit(), line
    micros = [int(row[side].timestamp()) * 1_000_000 for side in ("window_start", "window_end")]
    key = "\0".join([row["metric_name"], *map(str, micros), row["dimensions"]])
    assert cells["metric_id"] == str(uuid.uuid5(NAMESPACE, key)), (line, row)

relation = duckdb.read_csv(path, header=True, all_varchar=True, delimiter=",", quotechar='"', escapechar='"')
assert relation.columns == header, relation.columns
assert [[cell or "" for cell in row] for row in relation.fetchall()] == lines
print(len(rows), "rows")
