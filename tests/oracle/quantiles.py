"""VALUES SHARE...: DuckDB's quantile_disc of the property v of JSON lines at each share, one a line."""

import sys

import duckdb

for share in sys.argv[2:]:
    query = f"select quantile_disc(v, {share}) from read_json('{sys.argv[1]}', columns={{v: 'DOUBLE'}})"
    print(duckdb.connect().execute(query).fetchone()[0])
