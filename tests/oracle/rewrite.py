"""Rows that go through another program: `rewrite.py TOOL FROM TO` for Parquet files, `rewrite.py TOOL` from standard
input to standard output for Arrow streams. TOOL is pyarrow, bare (pyarrow without the schema's metadata), duckdb or
polars."""

import sys

import duckdb
import polars
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq


def parquet(tool, source, target):
    if tool == "duckdb":
        duckdb.sql(f"COPY (SELECT * FROM '{source}') TO '{target}' (FORMAT parquet)")
    elif tool == "polars":
        polars.read_parquet(source).write_parquet(target)
    else:
        rows = pq.read_table(source)
        pq.write_table(bare(rows) if tool == "bare" else rows, target, store_schema=tool != "bare")


def stream(tool, source, target):
    rows = ipc.open_stream(source).read_all()
    if tool == "duckdb":
        rows = duckdb.sql("SELECT * FROM rows").to_arrow_table()
    elif tool == "polars":
        rows = polars.from_arrow(rows).to_arrow()
    elif tool == "bare":
        rows = bare(rows)
    with ipc.new_stream(target, rows.schema) as writer:
        writer.write_table(rows)


def bare(rows):
    """Storage types, and no metadata at all."""
    columns = [column.combine_chunks() for column in rows.columns]
    columns = [c.storage if isinstance(c.type, pa.BaseExtensionType) else c for c in columns]
    return pa.table(columns, names=rows.column_names)


if len(sys.argv) == 4:
    parquet(*sys.argv[1:])
else:
    stream(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)
