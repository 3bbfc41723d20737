"""Compares the rows of evt-reconcile --ids with a FULL JOIN of DuckDB: join.py A.jsonl B.parquet FOUND.jsonl"""

import sys

import duckdb

a, b, found = sys.argv[1:]
duckdb.sql(f"""
    CREATE TABLE a AS SELECT event_id::UUID AS id, n, count(*) OVER (PARTITION BY event_id) AS copies
    FROM read_json('{a}', columns = {{event_id: 'VARCHAR', n: 'BIGINT'}}, format = 'newline_delimited');
    CREATE TABLE b AS SELECT event_id::UUID AS id, (properties::JSON ->> 'n')::BIGINT AS n FROM '{b}';
    -- A row of B outside of the range of A's event times is not judged.
    CREATE TABLE found AS SELECT event_id::UUID AS id, verdict
    FROM read_json('{found}', columns = {{event_id: 'VARCHAR', verdict: 'VARCHAR'}}, format = 'newline_delimited');
""")
assert duckdb.sql("SELECT max(copies) FROM a").fetchall() == [(1,)]
expected = duckdb.sql("""
    WITH rows AS (SELECT id, min(n) AS n, count(*) AS copies FROM b GROUP BY id),
    joined AS (SELECT coalesce(a.id, rows.id) AS id, a.id IS NULL AS is_extra, rows.id IS NULL AS is_missing,
                      a.n IS DISTINCT FROM rows.n AS differs, coalesce(rows.copies, 1) AS copies
               FROM a FULL JOIN rows ON a.id = rows.id)
    SELECT id::VARCHAR, 'extra' FROM joined, range(copies) WHERE is_extra
    UNION ALL SELECT id::VARCHAR, 'missing' FROM joined WHERE is_missing
    UNION ALL SELECT id::VARCHAR, 'different' FROM joined WHERE NOT is_extra AND NOT is_missing AND differs
    UNION ALL SELECT id::VARCHAR, 'double' FROM joined, range(copies - 1) WHERE NOT is_extra AND NOT is_missing
    ORDER BY ALL
""").fetchall()
got = duckdb.sql("SELECT id::VARCHAR, verdict FROM found ORDER BY ALL").fetchall()
assert got == expected, f"only evt: {sorted(set(got) - set(expected))[:5]}, only DuckDB: {sorted(set(expected) - set(got))[:5]}"
print(len(got), "faults")
