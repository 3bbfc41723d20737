"""Runs the twelve tasks with evt and its peers, and compares every result with DuckDB's: run.py EVENTS [ROUNDS [PART]].

EVENTS holds the files of EVT_DATA/events; PART selects the tasks with that text in their name. Prints the characters of each
command, the ratio of evt's to the shortest correct peer's, and the seconds of the fastest of ROUNDS (3). The exit status is 1 if a
result of evt is wrong.
"""

import csv
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import tomllib

import duckdb
import inputs
import pyarrow

FIELDS = {"name", "truth", "within", "holds", "times", "exit", "accepts", "grows"}
LONGEST = 1.2  # times the shortest correct peer
DEADLINE = 20  # seconds after which a command that follows a file must have its rows


class Wrong(Exception):
    pass


def run(line, directory):
    """Runs a command line in bash; its exit status. The directory gets its output and its errors."""
    with open(directory / "out", "wb") as out, open(directory / "err", "wb") as err:
        return subprocess.run(["bash", "-c", line], cwd=directory, stdout=out, stderr=err).returncode


def expect(line, directory, status):
    found = run(line, directory)
    if found != status:
        lines = (directory / "err").read_text(errors="replace").splitlines() or [""]
        raise Wrong(f"expected exit {status}, found {found}: {lines[-1][:150]}")


def connect(directory):
    """DuckDB in `directory`, with what a command wrote there: its metrics, and the tables of a SQLite file."""
    os.chdir(directory)
    base = duckdb.connect()
    base.execute("set timezone = 'UTC'")
    out = pathlib.Path("out")
    if out.exists() and out.read_bytes().startswith(b"metric_name,"):
        base.register("metrics", pyarrow.Table.from_pylist(list(csv.DictReader(out.open()))))
    for path in pathlib.Path().glob("*.db"):
        store = sqlite3.connect(path)
        store.row_factory = sqlite3.Row
        for (name,) in store.execute("select name from sqlite_master where type = 'table'").fetchall():
            if rows := [dict(row) for row in store.execute(f'select * from "{name}"')]:
                base.register(name, pyarrow.Table.from_pylist(rows))
    return base


def value(base, query):
    return base.execute(query).fetchall()[0][0]


def compare(task, rows, directory):
    """Raises Wrong unless `rows` gives exactly the rows of the truth."""
    base = connect(directory)
    base.execute(f"create table truth as {task['truth']}")
    base.execute("create table found as from truth limit 0")
    try:
        base.execute(f"insert into found {rows}")
    except duckdb.Error as fault:
        raise Wrong(str(fault).splitlines()[0][:150]) from None
    if "within" in task:
        keys = ", ".join(name for name in base.table("truth").columns if name != "value")
        same = f"abs(truth.value - found.value) <= {task['within']} * abs(truth.value) + 1e-9"
        differ = f"select count(*) from truth full join found using ({keys}) where ({same}) is not true"
    else:
        differ = "select count(*) from ((from truth except all from found) union all (from found except all from truth))"
    expected, found, different = (value(base, query) for query in (
        "select count(*) from truth", "select count(*) from found", differ))
    if different or not expected:
        raise Wrong(f"expected {expected} rows, found {found}; {different} differ")


def follow(task, command, source, directory):
    """Runs a command while its file grows, until its rows are right."""
    grown = directory / task["grows"]
    lines = (source / task["grows"]).read_bytes().splitlines(keepends=True)
    grown.unlink()
    grown.touch()
    with open(directory / "out", "wb") as out, open(directory / "err", "wb") as err:
        # Line by line, as on a terminal.
        process = subprocess.Popen(["stdbuf", "-oL", "bash", "-c", command["line"]], cwd=directory, stdout=out, stderr=err,
                                   start_new_session=True)
    try:
        step = len(lines) // 10
        for at in range(0, len(lines), step):
            with open(grown, "ab") as file:
                file.writelines(lines[at : at + step])
            time.sleep(0.2)
        end = time.monotonic() + DEADLINE
        while True:
            try:
                return compare(task, command["rows"], directory)
            except Wrong:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def once(task, command, source, directory):
    """Runs a command in a new directory with the inputs; the seconds it took."""
    directory.mkdir(parents=True)
    for path in source.iterdir():
        (directory / path.name).symlink_to(path)
    begin = time.monotonic()
    if "grows" in task:
        follow(task, command, source, directory)
        return None
    for _ in range(task.get("times", 1)):
        expect(command["line"], directory, task.get("exit", 0))
    seconds = time.monotonic() - begin
    compare(task, command["rows"], directory)
    if "accepts" in task:
        expect(command["line"].replace(*task["accepts"]), directory, 0)
    return seconds


def perform(task, source, work, rounds):
    """A row for each command: its name, length, seconds, and what is wrong with it."""
    commands = {name: command for name, command in task.items() if name not in FIELDS}
    rows = {}
    for round in range(1 if "grows" in task else rounds):
        for name, command in commands.items():
            row = rows.setdefault(name, {"length": len(command["line"].strip()), "seconds": [], "wrong": None})
            if row["wrong"]:
                continue
            try:
                row["seconds"].append(once(task, command, source, work / str(round) / name))
            except Wrong as fault:
                row["wrong"] = str(fault)
    for name, row in rows.items():
        if "holds" in task and not row["wrong"]:
            if not value(connect(work / "0" / name), f"select {task['holds']}"):
                row["wrong"] = f"expected {' '.join(task['holds'].split())}"
    return rows


def main():
    events = pathlib.Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    part = sys.argv[3] if len(sys.argv) > 3 else ""
    tasks = tomllib.loads((pathlib.Path(__file__).parent / "tasks.toml").read_text())["task"]
    wrong = 0
    print("| task | of | characters | ratio | seconds | |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="evt-tasks-", ignore_cleanup_errors=True) as base:
        source = pathlib.Path(base, "inputs")
        source.mkdir()
        inputs.prepare(events, source)
        for number, task in enumerate(tasks, 1):
            if part not in task["name"]:
                continue
            rows = perform(task, source, pathlib.Path(base, str(number)), rounds)
            shortest = min((row["length"] for name, row in rows.items() if name != "evt" and not row["wrong"]), default=None)
            for name, row in rows.items():
                ratio = row["length"] / shortest if name == "evt" and shortest else None
                seconds = min((seconds for seconds in row["seconds"] if seconds is not None), default=None)
                note = f"wrong: {row['wrong']}" if row["wrong"] else "longer than a peer" if ratio and ratio > LONGEST else ""
                if "wrong" in task[name] and not row["wrong"]:
                    note = "right, although tasks.toml says that it is wrong"
                wrong += name == "evt" and row["wrong"] is not None
                cells = [f"{number} {task['name']}" if name == "evt" else "", name, str(row["length"]),
                         f"{ratio:.2f}" if ratio else "", f"{seconds:.2f}" if seconds is not None else "", note]
                print(f"| {' | '.join(cells)} |", flush=True)
    os.chdir("/")
    sys.exit(f"{wrong} results of evt are wrong" if wrong else 0)


main()
