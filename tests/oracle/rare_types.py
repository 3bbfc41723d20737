"""Writes files whose columns have types that few programs write: `rare_types.py NAME`. Prints the values as other
programs read them, one JSON line per row."""

import json
import sys

import duckdb
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


if __name__ == "__main__":
    globals()[sys.argv[1]]()
