"""The cells of evt-backfill after late events were counted, by DuckDB over the raw records: `backfill.py EVENTS CELLS`.

The metrics are those of tests/cli/backfill.rs: events by type and the sum of latencies by country, per minute. The oracle knows
no lateness: every event counts in its window.
"""

import sys

import duckdb

from rows import compare


def main(events, cells):
    duckdb.sql(f"""
        CREATE TABLE events AS
        SELECT json ->> '$.event_type' AS event_type, json ->> '$.properties.country' AS country,
            (json ->> '$.properties.latency_ms')::DOUBLE AS latency_ms,
            date_trunc('minute', replace(json ->> '$.server_timestamp', 'Z', '')::TIMESTAMP) AS minute
        FROM read_ndjson_objects('{events}')""")
    duckdb.sql(f"""
        CREATE TABLE cells AS
        SELECT metric_name AS name, replace(window_start, 'Z', '')::TIMESTAMP AS minute, dimensions ->> '$.event_type' AS event_type,
            dimensions ->> '$.country' AS country, value, "rows"
        FROM read_json('{cells}', format = 'newline_delimited', columns = {{
            metric_name: 'TEXT', window_start: 'TEXT', dimensions: 'JSON', value: 'DOUBLE', "rows": 'BIGINT'}})""")
    compare("events", 'SELECT event_type, minute, "rows" FROM cells WHERE name = \'events\'',
            "SELECT event_type, minute, count(*) FROM events GROUP BY ALL")
    compare("latency", 'SELECT country, minute, "rows", round(value, 6) FROM cells WHERE name = \'latency\'',
            "SELECT country, minute, count(*), round(fsum(latency_ms), 6) FROM events GROUP BY ALL")
    print(duckdb.sql("SELECT count(*) FROM events").fetchall()[0][0])


main(*sys.argv[1:])
