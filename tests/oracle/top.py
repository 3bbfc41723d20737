"""SOURCE N: of each ten minutes DuckDB's N repositories with the most events, one JSON list of start, name and number a line."""

import json
import sys

import duckdb

source, count = sys.argv[1], int(sys.argv[2])
duckdb.sql("set timezone = 'UTC'")
columns = "columns={repo: 'JSON', created_at: 'TIMESTAMP'}"
found = duckdb.sql(f"""
    with counts as (
        select strftime(time_bucket(interval '10 minutes', created_at), '%Y-%m-%dT%H:%M:%S.000000Z') as start, repo->>'name' as name, count(*) as n
        from read_json('{source}', {columns}) group by 1, 2
    )
    select start, name, n from counts
    qualify row_number() over (partition by start order by n desc, name) <= {count} order by start, n desc, name
""")
for row in found.fetchall():
    print(json.dumps(row))
