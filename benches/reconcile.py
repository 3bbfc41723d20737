"""evt-reconcile --ids beside DuckDB's FULL JOIN on the same files: CPU-seconds, and the greatest resident memory.

    reconcile.py prepare DIR ROWS      # two Parquet files of ROWS events with random ids and ten planted faults (a, b), and
                                       # the same with a column for each property (ac, bc)
    reconcile.py join A B PROPERTIES   # the FULL JOIN of two globs of Parquet files, with threads = 1 and memory_limit =
                                       # 256MB; PROPERTIES are the columns of the properties; prints the number of faults
    reconcile.py measure COMMAND...    # runs a command; prints its CPU-seconds and its greatest memory on stderr
"""

import resource
import subprocess
import sys
import tempfile

FAULTS = 10


def prepare(directory, rows):
    import duckdb

    connection = duckdb.connect()
    connection.sql("SET threads = 2; SET memory_limit = '2GB'; SET preserve_insertion_order = false")
    connection.sql(f"SET temp_directory = '{directory}/tmp'")
    event = """
        SELECT md5(n::VARCHAR)::UUID AS event_id, 'web' AS source, 'click' AS event_type, 'u' || n % 100000 AS user_id,
               {{'page': n % 1000, 'price': n % 977 / 100.0}}::JSON AS properties,
               TIMESTAMPTZ '2024-01-15 00:00:00Z' + to_milliseconds(n) AS server_timestamp
        FROM range({rows}) AS t(n) WHERE {where} ORDER BY {order}"""
    step = rows // FAULTS
    a = event.format(rows=rows, where="true", order="hash(n)")
    b = event.format(rows=rows, where=f"n % {step} <> 7", order="hash(n + 1)")
    for name, query in [("a", a), ("b", b)]:
        file = f"'{directory}/{name}.parquet'"
        connection.sql(f"COPY ({query}) TO {file} (FORMAT parquet, COMPRESSION zstd)")
        members = "(properties->>'page')::BIGINT AS page, (properties->>'price')::DOUBLE AS price"
        columns = f"SELECT * EXCLUDE (properties), {members} FROM {file}"
        connection.sql(f"COPY ({columns}) TO '{directory}/{name}c.parquet' (FORMAT parquet, COMPRESSION zstd)")


def join(a, b, properties):
    import duckdb

    connection = duckdb.connect()
    connection.sql(f"SET threads = 1; SET memory_limit = '256MB'; SET temp_directory = '{tempfile.gettempdir()}/tmp'")
    connection.sql("SET preserve_insertion_order = false")
    columns = ["source", "event_type", "user_id", "server_timestamp", *properties.split(",")]
    differs = " OR ".join(f"a.{name} IS DISTINCT FROM b.{name}" for name in columns)
    rows = connection.sql(f"""
        SELECT coalesce(a.event_id, b.event_id), a.event_id IS NULL, b.event_id IS NULL
        FROM '{a}' a FULL JOIN '{b}' b ON a.event_id = b.event_id
        WHERE a.event_id IS NULL OR b.event_id IS NULL OR {differs}""").fetchall()
    print(len(rows), "faults")


def measure(command):
    status = subprocess.run(command).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory = used.ru_maxrss / 1024
    print(f"{used.ru_utime + used.ru_stime:.2f} CPU-s ({used.ru_stime:.2f} system), {memory:.0f} MiB", file=sys.stderr)
    sys.exit(status)


match sys.argv[1:]:
    case ["prepare", directory, rows]:
        prepare(directory, int(rows))
    case ["join", a, b, properties]:
        join(a, b, properties)
    case ["measure", *command]:
        measure(command)
    case _:
        sys.exit(__doc__)
