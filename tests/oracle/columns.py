"""Compares a Parquet file with columns of properties with the rows that it was made of.

`columns.py ROWS.jsonl FILE_OR_LAKE BACK.jsonl [SOURCE]`: ROWS are the events as JSON lines, BACK what evt reads from the file. With
SOURCE, the JSON lines that evt-ingest read, the file must not have more than 24 bytes a row more than DuckDB's file of the same rows.
Prints the columns of properties as JSON.
"""

import glob
import json
import os
import sys

import duckdb
import pyarrow.parquet

ROW_BYTES = 24


def files_of(path):
    return sorted(glob.glob(f"{path}/*/*.parquet")) if os.path.isdir(path) else [path]


def key(row):
    return row["origin"], row["partition"], row["offset"], row["event_id"]


def by_key(path):
    with open(path) as lines:
        rows = [json.loads(line) for line in lines]
    return {key(row): row for row in rows}


def main(rows_path, path, back_path, source=None):
    expected, back = by_key(rows_path), by_key(back_path)
    if expected != back:
        wrong = [(row, back.get(at)) for at, row in expected.items() if row != back.get(at)]
        sys.exit(f"{len(wrong)} rows came back with other values: {wrong[:1]}")
    columns, seen = {}, 0
    for file in files_of(path):
        schema = pyarrow.parquet.read_schema(file)
        own = [field.name for field in schema if b"evt.property" in (field.metadata or {})]
        columns.update({name: str(schema.field(name).type) for name in own})
        selected = ", ".join(f'"{name}"' for name in own + ["properties", "origin", "partition", "offset", "event_id"])
        result = duckdb.sql(f"SELECT {selected} FROM read_parquet('{file}', hive_partitioning = false)")
        theirs = [dict(zip(result.columns, row)) for row in result.fetchall()]
        ours = pyarrow.parquet.ParquetFile(file).read(columns=own + ["offset"]).to_pylist()
        for row, same in zip(theirs, ours, strict=True):
            row["event_id"] = str(row["event_id"])
            properties = {name: row[name] for name in own if row[name] is not None}
            if properties != {name: same[name] for name in own if same[name] is not None}:
                sys.exit(f"pyarrow reads {same}, DuckDB {row}")
            properties.update(json.loads(row["properties"]))
            wanted = expected[key(row)].get("properties", {})
            if properties != wanted:
                sys.exit(f"expected {wanted}, found {properties}")
            seen += 1
    if seen != len(expected):
        sys.exit(f"expected {len(expected)} rows, found {seen}")
    if source:
        other = back_path + ".duckdb.parquet"
        duckdb.sql(f"COPY (SELECT * FROM read_json('{source}', sample_size = -1)) TO '{other}' (FORMAT parquet)")
        size, most = os.path.getsize(path), os.path.getsize(other) + ROW_BYTES * seen
        print(f"{size} bytes, DuckDB {os.path.getsize(other)}, {(size - os.path.getsize(other)) / seen:.1f} a row", file=sys.stderr)
        if size > most:
            sys.exit(f"expected at most {most} bytes, found {size}")
    print(json.dumps(columns))


main(*sys.argv[1:])
