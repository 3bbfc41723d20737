"""Tables of Iceberg as DuckDB has them.

`iceberg_duckdb.py DIR TABLE QUERY…`: runs queries in which `t` is the table of a warehouse in a directory, by the metadata.json that
its catalog names, and prints their rows as JSON.
"""

import json
import site
import sqlite3
import sys
from pathlib import Path

import duckdb


def main(directory, name, *queries):
    catalog = sqlite3.connect(f"{directory}/catalog.db")
    named = "SELECT metadata_location FROM iceberg_tables WHERE table_name = ?"
    (location,) = catalog.execute(named, (name,)).fetchone()
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for extension in ("avro", "iceberg"):
        found = [path for place in site.getsitepackages() for path in Path(place).rglob(f"{extension}.duckdb_extension")]
        connection.execute(f"LOAD '{found[0]}'")
    path = location.removeprefix("file://")
    for query in queries:
        rows = connection.execute(f"WITH t AS (SELECT * FROM iceberg_scan('{path}')) {query}").fetchall()
        print(json.dumps(rows, default=str))


main(*sys.argv[1:])
