#!/usr/bin/env python3
"""Jobs of this build beside those of another one, alternating: compare.py OTHER THIS [ROUNDS [EVENTS]].

OTHER and THIS are directories with the binaries of evt. Prints CPU seconds (user and system, median of the rounds) and their
ratio; the workload is made once by THIS evt-gen. Files and pipes, and topics if EVT_KAFKA names a broker (THIS/examples has bare_kafka
then): scripts/services run kafka -- benches/compare.py OTHER THIS.
"""
import os, pathlib, resource, statistics, subprocess, sys, tempfile

WORKLOAD = "evt-gen --events {events} --seed 7 --users 10000 > {dir}/events.jsonl"
JOBS = [  # name, command line; {dir} holds the workload, {out} is removed before each run
    ("generate, a tenth", "evt-gen --events {tenth} --seed 7 > /dev/null"),
    ("ingest to JSON", "evt-ingest {dir}/events.jsonl -q -o jsonl > /dev/null"),
    ("ingest to frames", "evt-ingest {dir}/events.jsonl -q > /dev/null"),
    ("window, count", "evt-window {dir}/events.frames -q --size 1m --by event_type -o jsonl > /dev/null"),
    ("window, p99 of 60s/10s", "evt-window {dir}/events.frames -q --size 60s --slide 10s --agg 'approx_percentile(latency_ms, 0.99)' -o jsonl > /dev/null"),
    ("window of raw JSON", "evt-window {dir}/events.jsonl -q --size 1m --by event_type -o jsonl > /dev/null"),
    ("validate", "evt-validate {dir}/events.frames -q --dedup 1h > /dev/null"),
    ("view", "evt-view {dir}/events.frames -q -o jsonl > /dev/null"),
    ("Avro file", "evt-sink {dir}/events.frames -q --to {out}/events.avro"),
    ("Parquet file", "evt-sink {dir}/events.frames -q --to {out}/events.parquet"),
    ("SQLite, a tenth", "head -n {tenth} {dir}/events.jsonl | evt-sink -f jsonl -q --to sqlite:{out}/events.db"),
    ("a fifth malformed", "evt-ingest {dir}/malformed.jsonl -q --dlq {out}/dead.jsonl > /dev/null"),
    ("four stages", "evt-ingest {dir}/events.jsonl -q | evt-validate -q --dedup 1h | evt-window -q --size 1m --by event_type"
     " | evt-sink -q --to sqlite:{out}/metrics.db"),
]
TOPIC_JOBS = [  # {read} holds the events, {write} gets those of each run
    ("Kafka, JSON to frames", "evt-ingest 'kafka://{broker}/{read}?end=latest' -q > /dev/null"),
    ("Kafka, window, count", "evt-window 'kafka://{broker}/{read}?end=latest' -q --size 1m --by event_type -o jsonl > /dev/null"),
    ("frames to Kafka", "evt-sink {dir}/events.frames -q --to kafka://{broker}/{write}"),
    ("Kafka to Kafka", "evt-validate 'kafka://{broker}/{read}?end=latest' -q --to kafka://{broker}/{write}"),
]


def topics(broker, this, names):
    """Makes the topics of TOPIC_JOBS and returns their names with the broker."""
    names = {**names, "broker": broker, "read": f"compare-{os.getpid()}-read", "write": f"compare-{os.getpid()}-write"}
    for topic in (names["read"], names["write"]):
        shell(f"bare_kafka make {broker} {topic} 1", f"{this}/examples")
    shell("evt-sink {dir}/events.frames -q --to kafka://{broker}/{read}".format(**names), this)
    return names


def shell(line, binaries, allowed=(0, 1)):
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    status = subprocess.run(["bash", "-o", "pipefail", "-c", line], env=environment, stderr=subprocess.PIPE)
    if status.returncode not in allowed:
        sys.exit(f"{line}: exit {status.returncode}: {status.stderr.decode()[-500:]}")


def cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    other, this = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    events = int(sys.argv[4]) if len(sys.argv) > 4 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="evt-compare-") as base:
        directory, out = f"{base}/in", f"{base}/out"
        os.makedirs(directory)
        names = {"dir": directory, "out": out, "events": events, "tenth": events // 10}
        shell(WORKLOAD.format(**names), this)
        shell("evt-ingest {dir}/events.jsonl -q > {dir}/events.frames".format(**names), this)
        shell("awk 'NR % 5 == 0 {{ $0 = substr($0, 1, 80) }} 1' {dir}/events.jsonl > {dir}/malformed.jsonl".format(**names), this)
        print(f"{events} events, {pathlib.Path(directory, 'events.jsonl').stat().st_size >> 20} MiB of JSON, {rounds} rounds\n")
        print("| job | other, CPU-s | this, CPU-s | ratio (median of rounds) |\n| --- | --- | --- | --- |")
        broker = os.environ.get("EVT_KAFKA")
        names = topics(broker, this, names) if broker else names
        for name, line in JOBS + (TOPIC_JOBS if broker else []):
            seconds = {other: [], this: []}
            for round in range(rounds):
                for binaries in (other, this) if round % 2 == 0 else (this, other):
                    subprocess.run(["rm", "-rf", out], check=True)
                    os.makedirs(out)
                    before = cpu()
                    shell(line.format(**names), binaries)
                    seconds[binaries].append(cpu() - before)
            ratio = statistics.median(b / a for a, b in zip(seconds[other], seconds[this]))
            median = statistics.median
            print(f"| {name} | {median(seconds[other]):.2f} | {median(seconds[this]):.2f} | {ratio:.2f} |", flush=True)


main()
