"""Whether every Parquet file below a directory is whole: `whole.py DIR` reads each to its end and prints their number."""

import pathlib
import sys

import pyarrow.parquet


def main(directory):
    files = sorted(pathlib.Path(directory).rglob("*.parquet"))
    for file in files:
        rows = pyarrow.parquet.ParquetFile(file).read()
        rows.validate(full=True)
        if rows.num_rows == 0:
            sys.exit(f"{file}: no rows")
    print(len(files))


main(sys.argv[1])
