"""Compares the rows of two queries of DuckDB, for the oracles."""

import sys

import duckdb


def compare(what, got, wanted):
    for one, other, word in ((got, wanted, "too many"), (wanted, got, "missing")):
        rows = duckdb.sql(f"{one} EXCEPT ALL {other} LIMIT 5").fetchall()
        if rows:
            sys.exit(f"{what}: {word}: {rows}")
