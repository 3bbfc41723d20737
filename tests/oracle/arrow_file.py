"""Compares an Arrow file with the rows that it was made of: `arrow_file.py ROWS.jsonl FILE.arrow`, read by pyarrow, polars, DuckDB.

Prints the number of rows and of batches."""

import json
import sys

import duckdb
import polars
import pyarrow.ipc


def main(rows_path, path):
    with open(rows_path) as lines:
        expected = [json.loads(line) for line in lines]
    reader = pyarrow.ipc.open_file(path)
    rows = reader.read_all()
    found = rows.select(["origin", "offset", "event_type", "properties"]).to_pylist()
    for row, wanted in zip(found, expected, strict=True):
        row["properties"] = json.loads(row["properties"])
        if row != {name: wanted[name] for name in row}:
            sys.exit(f"expected {wanted}, found {row}")
    # Random access: the last batch alone.
    last = reader.get_batch(reader.num_record_batches - 1)
    if last.column("offset")[-1].as_py() != expected[-1]["offset"]:
        sys.exit("the last batch does not end with the last row")
    offsets = polars.read_ipc(path, columns=["offset"])["offset"].to_list()
    if offsets != [row["offset"] for row in expected]:
        sys.exit("polars reads other offsets")
    counted = duckdb.sql("SELECT count(*), sum(\"offset\") FROM rows").fetchall()[0]
    if counted != (len(expected), sum(row["offset"] for row in expected)):
        sys.exit(f"DuckDB counts {counted}")
    print(json.dumps({"rows": rows.num_rows, "batches": reader.num_record_batches}))


main(*sys.argv[1:])
