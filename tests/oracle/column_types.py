"""Prints the types of the columns of a Parquet or Arrow file, as pyarrow reads them, and its rows, as JSON."""

import json
import sys

import pyarrow.feather
import pyarrow.parquet

name = sys.argv[1]
read = pyarrow.parquet.read_table if name.endswith(".parquet") else pyarrow.feather.read_table
table = read(name)
print(json.dumps({field.name: str(field.type) for field in table.schema}))
for row in table.to_pylist():
    print(json.dumps(row, default=str))
