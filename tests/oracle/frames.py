"""What other Arrow readers see in files evt wrote: `frames.py ROWS FILE…` exits 1 where one of them sees other rows."""

import io
import sys

import duckdb
import fastavro
import polars
import pyarrow.ipc
import pyarrow.parquet


def frames(path):
    with open(path, "rb") as file:
        rows = pyarrow.ipc.open_stream(file).read_all()
    rows.validate(full=True)
    yield "pyarrow", rows.num_rows
    yield "duckdb", duckdb.sql("SELECT count(*) FROM rows").fetchall()[0][0]
    # A map column is not a type of polars.
    columns = [name for name in rows.column_names if name != "headers"]
    if len(columns) == len(rows.column_names):
        with open(path, "rb") as file:
            yield "polars", polars.read_ipc_stream(io.BytesIO(file.read())).height


def parquet(path):
    yield "duckdb", duckdb.sql(f"SELECT count(*) FROM read_parquet('{path}')").fetchall()[0][0]
    yield "pyarrow", pyarrow.parquet.read_table(path).num_rows
    yield "polars", polars.read_parquet(path).height


def csv(path):
    yield "duckdb", duckdb.sql(f"SELECT count(*) FROM read_csv('{path}', header = true)").fetchall()[0][0]
    yield "polars", polars.read_csv(path, infer_schema=False).height


def jsonl(path):
    yield "duckdb", duckdb.sql(f"SELECT count(*) FROM read_json('{path}', format = 'newline_delimited')").fetchall()[0][0]


def avro(path):
    with open(path, "rb") as file:
        yield "fastavro", sum(1 for _ in fastavro.reader(file))


READERS = {"frames": frames, "parquet": parquet, "csv": csv, "jsonl": jsonl, "avro": avro}


def main(rows, paths):
    for path in paths:
        for reader, seen in READERS[path.rsplit(".", 1)[1]](path):
            if seen != int(rows):
                sys.exit(f"{path}: {reader} sees {seen} rows, not {rows}")


main(sys.argv[1], sys.argv[2:])
