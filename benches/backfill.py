"""LAKE DATABASE: the metrics of benches/backfill.sh by DuckDB, with one thread; they must be those of the database."""

import sqlite3
import sys

import duckdb

lake, database = sys.argv[1:]
connection = duckdb.connect()
connection.sql("SET threads = 1; SET TimeZone = 'UTC'")
rows = connection.sql(f"""
    WITH events AS (
        SELECT time_bucket(INTERVAL 1 minute, event_time) AS start, source, event_type, properties
        FROM read_parquet('{lake}/**/*.parquet', hive_partitioning = false))
    SELECT 'events', start, event_type, count(*)::DOUBLE FROM events GROUP BY ALL
    UNION ALL
    SELECT 'revenue', start, source, sum((properties->>'$.amount')::DOUBLE) FROM events WHERE event_type = 'purchase' GROUP BY ALL
    """).fetchall()
stored = sqlite3.connect(database).execute("SELECT count(*), sum(value) FROM aggregated_metrics").fetchone()
found = len(rows), sum(row[3] for row in rows)
assert stored[0] == found[0] and abs(stored[1] / found[1] - 1) < 1e-9, (stored, found)
