"""What DuckDB and pyarrow see in a lake: `read_lake.py DIR` prints one JSON object, exit 1 where the two disagree."""

import json
import sys

import duckdb
import pyarrow.dataset


def main(directory):
    relation = f"read_parquet('{directory}/**/*.parquet', hive_partitioning = true)"
    days = duckdb.sql(f"SELECT date::VARCHAR, count(*) FROM {relation} GROUP BY 1 ORDER BY 1").fetchall()
    columns = duckdb.sql(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    dataset = pyarrow.dataset.dataset(directory, format="parquet", partitioning="hive")
    table = dataset.to_table()
    counts = table.group_by("date").aggregate([([], "count_all")]).sort_by("date").to_pylist()
    if [(row["date"], row["count_all"]) for row in counts] != [tuple(day) for day in days]:
        sys.exit(f"pyarrow {counts} is not duckdb {days}")
    print(json.dumps({"rows": table.num_rows, "days": dict(days), "columns": {c[0]: c[1] for c in columns}}))


main(sys.argv[1])
