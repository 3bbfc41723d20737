"""Counts the instructions that evt executes per event: run.py [--check | --record REASON] [JOB…].

Each job runs twice under callgrind, with 40,000 and with 10,000 events of one seed; the difference divided by 30,000 is the figure, so
the start of a process does not count. Unlike time it hardly depends on the load of the machine. The tools are those of evt in PATH.

Prints the figures beside those of figures.json. --check exits with 1 if one is more than 3 % higher; --record writes them, each
with REASON if it differs by more than 1 %.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

from broker import Broker
from events import records

HERE = pathlib.Path(__file__).resolve().parent
FIGURES = HERE / "figures.json"
MANY, FEW = 40_000, 10_000
RISE_MAX = 0.03
# A figure that differs by less keeps its reason.
NOISE = 0.01

RAW = "--time client_timestamp --require event_id,event_type --report 0 -q"
# Windows fire while the input is read, as those of a stream do.
LIVE = "--out-of-orderness 30s"
COUNT = f"evt-window {{events}} {RAW} {LIVE} --size 1m --by event_type,country --where 'country is not null' -o jsonl --to {{out}}/rows.jsonl"
# J1 in four stages.
STAGES = f"evt-ingest {{events}} {RAW} | evt-validate -q --report 0 --schemas {HERE.parent}/schemas | evt-window -q --report 0 {LIVE} --size 1m --by event_type,country" \
    " --where 'country is not null' | evt-sink -q -o jsonl --to {out}/rows.jsonl"
# The jobs of job.sh, and parts of a pipe. {events}, {frames} and {broken} hold the input, {topic} is one.
JOBS = {
    "J1": COUNT,
    "J1 with --dlq and --late": f"{COUNT} --dlq {{out}}/dead.jsonl --late {{out}}/late.jsonl",
    "J1 of four processes": STAGES,
    "J1 by evt pipe": f"evt pipe {shlex.quote(STAGES)}",
    "J2": f"evt-window {{events}} {RAW} -m {HERE.parent}/dashboard.toml --out-of-orderness 3h -o jsonl --to {{out}}/rows.jsonl",
    "J3": f"evt-sink {{events}} {RAW} --to {{out}}/events.parquet",
    "J4": f"evt-validate {{events}} {RAW} --schemas {HERE.parent}/schemas -o raw --to {{out}}/good.jsonl --dlq {{out}}/dead.jsonl",
    "ingest": f"evt-ingest {{events}} {RAW} -o frames --to {{out}}/frames",
    "hop": "evt-sink {frames} -q -o frames --to {out}/frames",
    "window of frames": f"evt-window {{frames}} -q {LIVE} --size 1m --by event_type,country -o jsonl --to {{out}}/rows.jsonl",
    "validate": f"evt-validate {{frames}} -q --report 0 --schemas {HERE.parent}/schemas -o frames --to {{out}}/frames",
    "dedup": "evt-validate {frames} -q --dedup 1h -o frames --to {out}/frames",
    # One epoch, at the end: when epochs end by time, their number depends on the load of the machine.
    "checkpoint": f"evt-window {{events}} {RAW} --size 1s --by event_type,country --checkpoint {{out}}/state --checkpoint-every 1h"
    " --late null: --to sqlite:{out}/metrics.db",
    "topic": f"evt-ingest {{topic}} {RAW} -o frames --to {{out}}/frames",
    "dead letters": f"evt-ingest {{broken}} {RAW} -o frames --to {{out}}/frames --dlq {{out}}/dead.jsonl",
    "view": "evt-view {frames} -q -o jsonl --to {out}/rows.jsonl",
}


def broken(lines):
    """The lines, every fifth of them cut off."""
    return [line[:80] if at % 5 == 0 else line for at, line in enumerate(lines)]


def write(path, lines):
    path.write_text("".join(line + "\n" for line in lines))
    return path


def run(command, out):
    """Runs a command in bash. Events that are late or faulty make its exit status 1."""
    out.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVT_")}
    # With several threads it depends on the load of the machine which one copies what.
    environment["EVT_THREADS"] = "1"
    done = subprocess.run(["bash", "-c", command], env=environment, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{command}: exit {done.returncode}: {done.stderr[-1000:]}")


def instructions(command, out):
    """The instructions that the processes of a command execute."""
    processes = [command] if command.startswith("evt pipe ") else command.split(" | ")
    counts = [out.with_suffix(f".{at}.callgrind") for at in range(len(processes))]
    # A tool that ends by itself writes the counts at its end.
    counted = [f"valgrind --tool=callgrind --callgrind-out-file={file} {one}" for file, one in zip(counts, processes)]
    run(" | ".join(counted), out)
    return sum(int(re.search(r"^(?:totals|summary): (\d+)", file.read_text(), re.M)[1]) for file in counts)


def inputs(directory, lines):
    """The inputs of the jobs; the name of each."""
    directory.mkdir()
    names = {
        "events": write(directory / "events.jsonl", lines),
        "broken": write(directory / "broken.jsonl", broken(lines)),
        "frames": directory / "events.frames",
    }
    run(f"evt-ingest {names['events']} {RAW} -o frames --to {names['frames']}", directory / "out")
    return names


def figure(name, many, few, base, limit):
    """The instructions of one event in a job. Those above the limit are counted again where runs differ."""
    at = list(JOBS).index(name)
    # A run that waits for the broker polls, and more often on a busy machine: only the least count is that of its work.
    runs, runs_max = (6, 30) if name == "topic" else (1, 1)
    least, count = [], None
    for number in range(runs_max):
        if number >= runs and count <= limit:
            break
        outs = [base / f"{at}-{which}-{number}" for which in ("many", "few")]
        now = [instructions(JOBS[name].format(out=out, **names), out) for out, names in zip(outs, (many, few))]
        least = [min(pair) for pair in zip(least or now, now)]
        count = round((least[0] - least[1]) / (MANY - FEW))
    return count


def link_tools(directory):
    """Puts links to evt before the launchers in PATH: valgrind does not follow a launcher into evt."""
    evt = shutil.which("evt") or sys.exit("evt is not in PATH")
    directory.mkdir()
    for tool in {job.split()[0] for job in JOBS.values()}:
        (directory / tool).symlink_to(evt)
    os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"


def limit(recorded, job):
    """The most instructions of a job that are no rise."""
    return round(recorded.get(job, {}).get("instructions", 0) * (1 + RISE_MAX))


def measured(jobs, recorded):
    lines = list(records(MANY))
    with tempfile.TemporaryDirectory(prefix="evt-instructions-") as directory:
        base = pathlib.Path(directory)
        link_tools(base / "bin")
        many, few = inputs(base / "many", lines), inputs(base / "few", lines[:FEW])
        if "topic" in jobs:
            for names, held in ((many, lines), (few, lines[:FEW])):
                # With its first statistics librdkafka calls a clock that valgrind has unmapped.
                names["topic"] = f"'kafka://127.0.0.1:{Broker(held).port}/t?end=latest&rdkafka.statistics.interval.ms=0'"
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return dict(zip(jobs, pool.map(lambda job: figure(job, many, few, base, limit(recorded, job)), jobs)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--record", metavar="REASON")
    parser.add_argument("jobs", nargs="*", metavar="JOB")
    args = parser.parse_args()
    unknown = set(args.jobs) - set(JOBS)
    if unknown:
        parser.error(f"expected jobs of {', '.join(JOBS)}; found {', '.join(unknown)}")
    recorded = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    found, risen = measured(args.jobs or list(JOBS), recorded), []
    print("| job | recorded | now | change |\n| --- | --- | --- | --- |")
    for job, count in found.items():
        before = recorded.get(job, {}).get("instructions")
        change = count / before - 1 if before else 0
        print(f"| {job} | {before or '-'} | {count} | {change:+.1%} |")
        if count > limit(recorded, job):
            risen.append(f"{job}: expected at most {limit(recorded, job)} instructions per event, found {count}")
        if before is None or abs(change) > NOISE:
            recorded[job] = {"instructions": count, "reason": args.record}
    if args.record:
        FIGURES.write_text(json.dumps({job: recorded[job] for job in JOBS if job in recorded}, indent=4, ensure_ascii=False) + "\n")
    elif args.check and risen:
        sys.exit("\n".join(risen) + "\nIf the job needs them, record them and the reason: scripts/bench instructions --record 'REASON'")


main()
