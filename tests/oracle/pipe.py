"""Metrics in SQLite and in a lake against another program's own over the same input: `pipe.py CASE INPUT DB LAKE`.

A case is a query (DuckDB) or a function (fastavro) that gives name, start in seconds, dimensions as JSON, value, rows.
"""

import calendar
import collections
import fractions
import json
import math
import sqlite3
import sys
import time

import duckdb
import fastavro


def retail(directory):
    return duckdb.sql(f"""
        WITH line AS (
            SELECT epoch(date_trunc('day', strptime(InvoiceDate, '%Y-%m-%d %H:%M:%S')))::BIGINT AS start, Country,
                   Quantity::DOUBLE AS quantity, UnitPrice::DOUBLE AS price
            FROM read_csv('{directory}/*.csv', all_varchar = true, header = true))
        SELECT 'quantity', start, json_object('Country', Country)::TEXT, sum(quantity), count(*) FROM line GROUP BY ALL
        UNION ALL
        SELECT 'revenue', start, json_object('Country', Country)::TEXT, fsum(quantity * price), count(*) FROM line GROUP BY ALL
        UNION ALL
        SELECT 'dearest', start, json_object('Country', Country)::TEXT, max(price), count(*) FROM line GROUP BY ALL
        """).fetchall()


def gharchive(path):
    return duckdb.sql(f"""
        WITH event AS (
            SELECT epoch(date_trunc('minute', created_at::TIMESTAMP))::BIGINT AS start, type,
                   payload->>'$.size' AS size, repo->>'$.name' AS name
            FROM read_json('{path}', format = 'newline_delimited', columns = {{
                created_at: 'TEXT', type: 'TEXT', payload: 'JSON', repo: 'JSON'}}))
        SELECT 'events', start, json_object('type', type)::TEXT, count(*), count(*) FROM event GROUP BY ALL
        UNION ALL
        SELECT 'pushed', start, '{{}}', sum(size::DOUBLE), count(*) FROM event WHERE type = 'PushEvent' GROUP BY ALL
        UNION ALL
        SELECT 'named', start, '{{}}', count(name), count(*) FROM event GROUP BY ALL
        """).fetchall()


def airline(path):
    delays = collections.defaultdict(list)
    with open(path, "rb") as file:
        for record in fastavro.reader(file):
            delays[record["FlightDate"], record["Carrier"]].append(record["ArrDelay"])
    rows = []
    for (date, carrier), values in delays.items():
        start = calendar.timegm(time.strptime(date, "%Y-%m-%d"))
        known = [value for value in values if value is not None]
        mean = float(sum(map(fractions.Fraction, map(str, known))) / len(known)) if known else None
        rows.append(("delay", start, json.dumps({"Carrier": carrier}), mean, len(values)))
        rows.append(("flights", start, json.dumps({"Carrier": carrier}), float(len(values)), len(values)))
    return rows


CASES = {"retail": retail, "gharchive": gharchive, "airline": airline}


def main(case, source, database, lake):
    wanted = keyed(CASES[case](source))
    start = "strftime('%s', window_start)"
    rows = sqlite3.connect(database).execute(
        f'SELECT metric_name, CAST({start} AS INTEGER), dimensions, value, "rows" FROM aggregated_metrics')
    compare("sqlite", keyed(rows.fetchall()), wanted)
    rows = duckdb.sql(f"""SELECT metric_name, epoch(window_start)::BIGINT, dimensions, value, "rows"
        FROM read_parquet('{lake}/**/*.parquet')""")
    compare("parquet", keyed(rows.fetchall()), wanted)
    print(len(wanted))


def keyed(rows):
    keyed = {}
    for name, start, dimensions, value, count in rows:
        key = (name, start, json.dumps(json.loads(dimensions), sort_keys=True))
        if key in keyed:
            sys.exit(f"{key} occurs twice")
        keyed[key] = (value, count)
    return keyed


def compare(what, got, wanted):
    if got.keys() != wanted.keys():
        sys.exit(f"{what}: too many {list(got.keys() - wanted.keys())[:3]}, missing {list(wanted.keys() - got.keys())[:3]}")
    for key, (value, count) in wanted.items():
        if got[key][1] != count or not close(got[key][0], value):
            sys.exit(f"{what}: {key}: {got[key]}, wanted {(value, count)}")


def close(one, other):
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)


main(*sys.argv[1:])
