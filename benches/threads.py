"""PAIRS EVENTS: jobs of evt with one and two threads beside DuckDB with as many, in alternating pairs, from files in the page cache.

Prints medians of wall and CPU seconds, and ratios. A wall figure counts only if two spinning processes get 1.9 CPUs just before the
pair; else the machine is shared, and the CPU time decides. The rows of J1 and J2 are compared.
"""

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

pairs, events = int(sys.argv[1]), sys.argv[2]
here = pathlib.Path(__file__).resolve().parent
place = tempfile.TemporaryDirectory(prefix="evt-threads-")
out = pathlib.Path(place.name)
source = out / "events.jsonl"
RAW = "--time client_timestamp --require event_id,event_type --report 0 -q --dlq null: --late null:"
COUNT = "--out-of-orderness all --size 1m --by event_type,country --where 'country is not null'"
SHELL = f"evt-ingest {source} {RAW.replace(' --late null:', '')} | evt-validate --schemas {here}/schemas -q --report 0 --dlq null: | " \
    f"evt-window {COUNT} -q --late null: | evt-sink --to null: -q"
JOBS = {
    "J1": f"evt-window {source} {RAW} {COUNT} -o jsonl --to {out}/j1.jsonl --overwrite",
    "J2": f"evt-window {source} {RAW} -m {here}/dashboard.toml --out-of-orderness all -o jsonl --to {out}/j2.jsonl --overwrite",
    "J3": f"evt-sink {source} {RAW.replace(' --late null:', '')} --to {out}/j3.parquet --overwrite",
    "J4": f"evt-validate {source} {RAW.replace(' --late null:', '')} --schemas {here}/schemas -o raw --to {out}/good.jsonl --overwrite",
    "J1, four processes": SHELL,
    "J1, evt pipe": f'evt pipe "{SHELL}"',
}
COLUMNS = "event_id:'UUID', source:'VARCHAR', event_type:'VARCHAR', user_id:'VARCHAR', client_timestamp:'TIMESTAMP'"
PROPERTIES = "STRUCT(page VARCHAR, country VARCHAR, device VARCHAR, latency_ms DOUBLE, amount DOUBLE)"
GOOD = "event_id IS NOT NULL AND event_type IS NOT NULL AND client_timestamp IS NOT NULL AND properties IS NOT NULL"


def read(properties):
    kind = f"format='newline_delimited', ignore_errors=true, columns={{{COLUMNS}, properties:'{properties}'}}"
    return f"SELECT * FROM read_json('{source}', {kind}) WHERE {GOOD}"


COUNTS = f"""COPY (SELECT date_trunc('minute', client_timestamp) w, event_type, properties.country, count(*) n
    FROM ({read("STRUCT(country VARCHAR)")}) WHERE properties.country IS NOT NULL GROUP BY ALL) TO '{out}/j1.csv'"""
AGGREGATES = [
    "SELECT date_trunc('minute', t), event_type, country, count(*) FROM e GROUP BY ALL",
    "SELECT page, count(*), avg(lat) FROM e GROUP BY ALL",
    "SELECT device, count(*) FROM e GROUP BY ALL",
    "SELECT country, sum(amount) FROM e GROUP BY ALL",
    "SELECT source, min(lat), max(lat) FROM e GROUP BY ALL",
    "SELECT event_type, approx_count_distinct(user_id), approx_quantile(lat, 0.5), approx_quantile(lat, 0.99) FROM e GROUP BY ALL",
    """WITH p AS (SELECT time_bucket(INTERVAL 30 SECOND, t) b, event_type, count(*) n FROM e GROUP BY ALL)
       SELECT b - INTERVAL 30 SECOND * k, event_type, sum(n) FROM p, range(10) r(k) GROUP BY ALL""",
    "SELECT date_trunc('minute', t), avg((event_type = 'error')::INT) FROM e GROUP BY ALL",
]
TABLE = f"""CREATE TEMP TABLE e AS SELECT client_timestamp t, source, event_type, user_id, properties.page page, properties.country country,
    properties.device device, properties.latency_ms lat, properties.amount amount FROM ({read(PROPERTIES)})"""
DUCKDB = {
    "J1": [COUNTS],
    "J2": [TABLE] + [f"COPY ({query}) TO '{out}/a{at}.csv'" for at, query in enumerate(AGGREGATES)],
    "J3": [f"COPY ({read('VARCHAR')}) TO '{out}/d.parquet' (FORMAT parquet, COMPRESSION zstd)"],
}


def timed(command, environment):
    """Wall and CPU seconds of a command. Faulty records without an output would make the exit status of evt 1."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env=os.environ | environment, check=True)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def evt(job, threads):
    return timed(["bash", "-o", "pipefail", "-c", JOBS[job]], {"EVT_THREADS": str(threads)})


def duckdb(job, threads):
    settings = f"SET threads={threads}; SET preserve_insertion_order=false; SET TimeZone='UTC'"
    script = "import sys, duckdb; c = duckdb.connect(); [c.execute(q) for q in sys.argv[1:]]"
    return timed([sys.executable, "-c", script, settings, *DUCKDB[job]], {})


def cpus():
    """How many CPUs two spinning processes get."""
    spin = "import time; end = time.monotonic() + 0.3\nwhile time.monotonic() < end: pass"
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    spinning = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2)]
    [process.wait() for process in spinning]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Both also start; that is on a CPU of their own, too.
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / (time.monotonic() - start)


def same_counts():
    """The counts of J1 are those of DuckDB."""
    ours = sum(json.loads(line)["value"] for line in open(out / "j1.jsonl"))
    theirs = sum(int(line.rsplit(",", 1)[1]) for line in list(open(out / "j1.csv"))[1:])
    assert ours == theirs, (ours, theirs)


with source.open("w") as file:
    subprocess.run(["evt-gen", "--events", events, "--seed", "3", "-q"], stdout=file, check=True)
print(f"{events} events, {source.stat().st_size / 1e6:.0f} MB, {pairs} pairs; seconds: wall (CPU)")
for job in JOBS:
    runs = {(who, n): [] for n in (1, 2) for who in ("evt", "duckdb") if who == "evt" or job in DUCKDB}
    quiet = 0
    for _ in range(pairs):
        quiet += cpus() >= 1.9
        for who, n in runs:
            runs[who, n].append((evt if who == "evt" else duckdb)(job, n))
    if job == "J1":
        same_counts()
    median = {key: [statistics.median(run[at] for run in all_runs) for at in (0, 1)] for key, all_runs in runs.items()}
    line = "  ".join(f"{who} {n}: {wall:.2f} ({cpu:.2f})" for (who, n), (wall, cpu) in median.items())
    one, two = median["evt", 1], median["evt", 2]
    line += f"  | evt 2/1: wall {two[0] / one[0]:.2f}, CPU {two[1] / one[1]:.2f}"
    if job in DUCKDB:
        line += "".join(
            f"; evt/duckdb T={n}: wall {median['evt', n][0] / median['duckdb', n][0]:.2f}, CPU {median['evt', n][1] / median['duckdb', n][1]:.2f}"
            for n in (1, 2)
        )
    print(f"{job}: {line}; quiet {quiet} of {pairs}", flush=True)
