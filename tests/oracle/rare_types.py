"""Writes files whose columns have types that few programs write: `rare_types.py NAME`. Prints the values as other
programs read them, one JSON line per row."""

import datetime as dt
import json
import re
import sys
from zoneinfo import ZoneInfo

import duckdb
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

START = "2026-01-01T00:00:00Z"
YEARS = [dt.datetime(1, 1, 1), dt.datetime(1600, 5, 6), dt.datetime(2026, 1, 1, 1, 2, 3, 456789),
         dt.datetime(2300, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)]


def show(rows):
    for row in rows:
        print(json.dumps(row, default=lambda value: value.isoformat(timespec="microseconds")))


def int96():
    """Timestamps of INT96, at the top and inside other types."""
    times = pa.array(YEARS, pa.timestamp("us"))
    nested = pa.array([[at, None] for at in YEARS], pa.list_(pa.timestamp("us")))
    inner = pa.array([{"x": at} for at in YEARS], pa.struct([("x", pa.timestamp("us"))]))
    table = pa.table({"t": times, "l": nested, "s": inner, "n": pa.nulls(len(YEARS), pa.timestamp("us"))})
    pq.write_table(table, "int96.parquet", use_deprecated_int96_timestamps=True, store_schema=False)
    show(pq.read_table("int96.parquet", coerce_int96_timestamp_unit="us").to_pylist())
    # With a zone, which only the schema of Arrow has, and with nanoseconds.
    zoned = pa.table({"t": pa.array([1_767_225_600_123_456_789, -1], pa.timestamp("ns", "UTC"))})
    pq.write_table(zoned, "zoned.parquet", use_deprecated_int96_timestamps=True)


def interval():
    """Intervals of Parquet, and a list of them."""
    duckdb.sql(f"""COPY (SELECT '{START}' AS t, i, [i, NULL] AS l FROM (VALUES
        (INTERVAL '1 year 2 months 3 days 4.5 seconds'), (INTERVAL '41 days 16 hours'), (NULL), (INTERVAL '0 days')) v(i))
        TO 'interval.parquet'""")
    show({"i": str(row[0])} for row in duckdb.sql("SELECT i FROM 'interval.parquet'").fetchall())


def enum():
    """Text columns that are changed into columns of the logical type ENUM, as writers of Avro and Protobuf make them."""
    levels = ["WARN", "ERROR", "caf\u00e9", None]
    table = pa.table({"t": [START] * 4, "level": levels, "list": [[level] for level in levels]})
    options = {"store_schema": False, "compression": "none", "write_statistics": False}
    for name, dictionary in [("enum", False), ("enums", True)]:
        pq.write_table(table, f"{name}.parquet", use_dictionary=dictionary, **options)
        with open(f"{name}.parquet", "rb") as file:
            content = file.read()
        # Converted type UTF8 and logical type STRING become ENUM; the last byte of é is no longer one.
        string, other = b"\x25\x00\x4c\x1c\x00\x00", b"\x25\x08\x4c\x4c\x00\x00"
        for field in [b"\x18\x05level", b"\x18\x07element"]:
            at = content.index(string, content.index(field))
            content = content[:at] + other + content[at + len(other):]
        with open(f"{name}.parquet", "wb") as file:
            file.write(content)
        with open(f"bad_{name}.parquet", "wb") as file:
            file.write(content.replace("caf\u00e9".encode(), b"caf\xc3\xff"))
    show(row | {"t": None} for row in duckdb.sql("FROM 'enum.parquet'").to_arrow_table().to_pylist())


def uuids():
    """Uuids at the top, and inside lists, structs and maps."""
    one = "uuid '11111111-1111-4111-8111-111111111111'"
    duckdb.sql(f"COPY (SELECT '{START}' AS t, {one} AS id, [{one}] AS ids, {{'x': {one}}} AS s, map{{'k': {one}}} AS m, "
               f"map{{{one}: [{one}]}} AS n) TO 'uuids.parquet'")
    table = pq.read_table("uuids.parquet")
    show({"id": str(row["id"])} for row in table.to_pylist())
    with pa.OSFile("uuids.arrow", "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def texts():
    """A column of JSON with bytes that are not UTF-8."""
    duckdb.sql(f"""COPY (SELECT '{START}' AS t, '{{"abcde": 1}}'::json AS j) TO 'json.parquet' (COMPRESSION uncompressed)""")
    with open("json.parquet", "rb") as file:
        content = file.read()
    with open("bad_json.parquet", "wb") as file:
        file.write(re.sub(b"abcde", b"ab\xff\xfee", content))


def local():
    """The same local time in CSV, Parquet and Avro."""
    at = dt.datetime(2026, 1, 15, 10, 0, 0, 123000)
    pq.write_table(pa.table({"t": pa.array([at], pa.timestamp("us")), "n": [1]}), "local.parquet")
    for unit in ["millis", "micros"]:
        kind = {"type": "long", "logicalType": f"local-timestamp-{unit}"}
        fields = [{"name": "t", "type": ["null", kind]}, {"name": "n", "type": "int"}]
        schema = fastavro.parse_schema({"type": "record", "name": "r", "fields": fields})
        with open(f"{unit}.avro", "wb") as file:
            fastavro.writer(file, schema, [{"t": at, "n": 1}])
    with open("local.csv", "w", encoding="utf-8") as file:
        file.write(f"t,n\n{at.isoformat()},1\n")
    show([{"t": at.replace(tzinfo=ZoneInfo("America/New_York")).astimezone(dt.timezone.utc)}])


def int128():
    """Integers of 128 bits, which only polars writes, at the top and inside other types."""
    import polars as pl
    number = pl.Series([2**100], dtype=pl.Int128)
    for name, column, values in [("plain", "big n", number), ("list", "l", pl.Series([[2**100]], dtype=pl.List(pl.Int128))),
                                 ("struct", "s", pl.DataFrame({"x": number}).to_struct())]:
        table = pl.DataFrame({"t": [START], column: values, "z": [1]})
        table.write_parquet(f"{name}.parquet")
        table.write_ipc(f"{name}.arrow")
        table.write_ipc_stream(f"{name}.arrows")



if __name__ == "__main__":
    globals()[sys.argv[1]]()
