"""SOURCE EXPR...: DuckDB's number of rows of JSON lines for each value of each expression, one JSON list a line."""

import json
import sys

import duckdb

source, expressions = sys.argv[1], sys.argv[2:]
duckdb.sql("set timezone = 'UTC'")
columns = "columns={id: 'VARCHAR', type: 'VARCHAR', actor: 'JSON', repo: 'JSON', payload: 'JSON', created_at: 'TIMESTAMP'}"
duckdb.sql(f"create table rows as select * from read_json('{source}', {columns})")
for expression in expressions:
    rows = duckdb.sql(f"select ({expression})::varchar as value, count(*) from rows group by 1").fetchall()
    print(json.dumps(rows))
