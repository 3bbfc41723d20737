"""Daily counts of the git changes, by DuckDB over the same file: `counts.py CHANGES METRICS LATE BOUND_SECONDS`.

Compares metrics with the rows that are not late, and the late rows with those that are, by the rule: a row is late when
the largest time so far in its repo, minus the bound, has reached the end of its day.
"""

import sys

import duckdb

from rows import compare


def main(changes, metrics, late, bound):
    duckdb.sql(f"""
        CREATE TABLE model AS
        WITH numbered AS (
            SELECT row_number() OVER () AS line, repo, op, event_ts FROM read_json(
                '{changes}', format = 'newline_delimited', columns = {{repo: 'TEXT', op: 'TEXT', event_ts: 'BIGINT'}})
        ), stamped AS (
            SELECT *, max(event_ts) OVER (PARTITION BY repo ORDER BY line) AS stream_time FROM numbered
        )
        SELECT line, repo, op, event_ts // 86400 AS day, stream_time - {bound} >= (event_ts // 86400 + 1) * 86400 AS late
        FROM stamped""")
    duckdb.sql(f"""
        CREATE TABLE metrics AS
        SELECT dimensions.repo AS repo, dimensions.op AS op, epoch(window_start)::BIGINT // 86400 AS day, "rows"::BIGINT AS n
        FROM read_json('{metrics}', format = 'newline_delimited', columns = {{
            window_start: 'TIMESTAMP', dimensions: 'STRUCT(repo TEXT, op TEXT)', "rows": 'BIGINT'}})""")
    duckdb.sql(f"""
        CREATE TABLE late AS
        SELECT "offset" AS line FROM read_json('{late}', format = 'newline_delimited', columns = {{"offset": 'BIGINT'}})""")
    compare("metrics", "SELECT repo, op, day, n FROM metrics",
            "SELECT repo, op, day, count(*) FROM model WHERE NOT late GROUP BY ALL")
    compare("late rows", "SELECT line FROM late", "SELECT line FROM model WHERE late")
    print(duckdb.sql("SELECT (SELECT sum(n) FROM metrics)::BIGINT + (SELECT count(*) FROM late)").fetchall()[0][0])


main(*sys.argv[1:])
