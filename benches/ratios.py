#!/usr/bin/env python3
"""Ratios of evt to its peer, round by round, from the harness's results.jsonl; medians against the goals."""
import collections, json, statistics, sys

GOALS = [  # job, of, threads, peer, its job, goal
    ("J1", "evt", 1, "duckdb", "J1", 0.45),
    ("J1", "evt-pipe", 1, "duckdb", "J1", 1.3),
    ("J2", "evt", 1, "duckdb", "J2", 0.40),
    ("J3", "evt", 1, "duckdb", "J3", 0.65),
    ("J4", "evt", 1, "py-jsonschema-rs", "J4", 0.30),
]
runs = collections.defaultdict(list)
for line in open(sys.argv[1]):
    run = json.loads(line)
    runs[run["peer"], run["job"], run["threads"]].append(run)
print("| job | as | CPU-s/M | peer's | ratio (median of rounds) | goal | RSS MiB | answer |")
print("| --- | --- | --- | --- | --- | --- | --- | --- |")
for job, name, threads, peer, peer_job, goal in GOALS:
    ours, theirs = runs[name, job, threads], runs[peer, peer_job, 1]
    if not ours or not theirs:
        continue
    ratio = statistics.median(a["cpu"] / b["cpu"] for a, b in zip(ours, theirs))
    per = lambda rs: statistics.median(r["cpu"] / r["events"] * 1e6 for r in rs)
    rss = max(r["rss"] for r in ours)
    print(f"| {job} | {name} | {per(ours):.2f} | {per(theirs):.2f} | {ratio:.2f} | {goal} | {rss:.0f} | {ours[-1]['answer']} |")
hop = [(a["cpu"] - b["cpu"]) / a["events"] * 1e6 for a, b in zip(runs["evt-hop", "J1", 1], runs["evt-two", "J1", 1])]
if hop:
    print(f"\nA hop: {statistics.median(hop):.2f} CPU-s/M (goal 0.20)")
