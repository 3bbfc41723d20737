"""Writes files whose columns have types that few programs write: `rare_types.py NAME`. Prints the values as other
programs read them, one JSON line per row."""

import datetime as dt
import json
import sys
from zoneinfo import ZoneInfo

import duckdb
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

START = "2026-01-01T00:00:00Z"


def show(rows):
    for row in rows:
        print(json.dumps(row, default=lambda value: value.isoformat(timespec="microseconds")))


def uuids():
    """Uuids at the top, and inside lists, structs and maps."""
    one = "uuid '11111111-1111-4111-8111-111111111111'"
    duckdb.sql(f"COPY (SELECT '{START}' AS t, {one} AS id, [{one}] AS ids, {{'x': {one}}} AS s, map{{'k': {one}}} AS m, "
               f"map{{{one}: [{one}]}} AS n) TO 'uuids.parquet'")
    table = pq.read_table("uuids.parquet")
    show({"id": str(row["id"])} for row in table.to_pylist())
    with pa.OSFile("uuids.arrow", "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def local():
    """The same local time in CSV, Parquet and Avro."""
    at = dt.datetime(2026, 1, 15, 10, 0, 0, 123000)
    pq.write_table(pa.table({"t": pa.array([at], pa.timestamp("us")), "n": [1]}), "local.parquet")
    for unit in ["millis", "micros"]:
        kind = {"type": "long", "logicalType": f"local-timestamp-{unit}"}
        fields = [{"name": "t", "type": ["null", kind]}, {"name": "n", "type": "int"}]
        schema = fastavro.parse_schema({"type": "record", "name": "r", "fields": fields})
        with open(f"{unit}.avro", "wb") as file:
            fastavro.writer(file, schema, [{"t": at, "n": 1}])
    with open("local.csv", "w", encoding="utf-8") as file:
        file.write(f"t,n\n{at.isoformat()},1\n")
    show([{"t": at.replace(tzinfo=ZoneInfo("America/New_York")).astimezone(dt.timezone.utc)}])


if __name__ == "__main__":
    globals()[sys.argv[1]]()
