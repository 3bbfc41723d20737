"""TOPIC SECONDS RATE: from an event to the row of the alert that it fires.

Writes RATE events a second to the topic through evt-ingest, in batches every 10 ms. Each tenth batch has one event with a source of
its own, for which the rule fires; evt-alert reads the topic and prints the rows. What lies between the clock in the event and the
row that is read is printed."""

import json
import statistics
import subprocess
import sys
import threading
import time

topic, seconds, rate = sys.argv[1:]
EVERY = 0.01
seen = {}  # source: when the row of its alert was read


def line(kind, source):
    now = time.time_ns() // 1000
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000)) + f".{now % 1_000_000:06}Z"
    return json.dumps({"source": source, "event_type": kind, "client_timestamp": stamp, "page": "/shop/home"}) + "\n"


def watch(alerts):
    for row in alerts.stdout:
        row = json.loads(row)
        if row["state"] == "firing":
            seen.setdefault(row["dimensions"]["source"], time.time())


stamped = ["--time", "client_timestamp", "-q"]
alert = ["evt-alert", f"{topic}?group=bench", "--rules", "rules.toml", "--state", "state.db", *stamped]
alerts = subprocess.Popen(alert, stdout=subprocess.PIPE, text=True)
try:
    ingest = subprocess.Popen(["evt-ingest", "-f", "jsonl", "--to", topic, *stamped], stdin=subprocess.PIPE, text=True)
    watcher = threading.Thread(target=watch, args=[alerts])
    watcher.start()
    number, marked, written = max(1, round(int(rate) * EVERY)), {}, 0
    start = time.time()
    for tick in range(round(float(seconds) / EVERY)):
        time.sleep(max(0, start + tick * EVERY - time.time()))
        batch = line("click", "bench") * number
        if tick % 10 == 0:
            marked[f"m{tick}"] = time.time()
            batch += line("marked", f"m{tick}")
        ingest.stdin.write(batch)
        ingest.stdin.flush()
        written += number
    print(f"{written / (time.time() - start):.0f} events a second were written")
    ingest.stdin.close()
    assert ingest.wait() == 0
    # A rule is evaluated once its window has been seen whole.
    expected = {source: at for source, at in marked.items() if at > start + 8}
    deadline = time.time() + 30
    while time.time() < deadline and not expected.keys() <= seen.keys():
        time.sleep(0.1)
finally:
    alerts.terminate()
    alerts.wait()
watcher.join()
missing = sorted(expected.keys() - seen.keys())
assert not missing, f"no alert for {len(missing)} of {len(expected)} sources, first {missing[:5]}"
delays = sorted(seen[source] - at for source, at in expected.items())
print(f"{len(delays)} alerts: median {statistics.median(delays):.2f} s, p99 {delays[int(len(delays) * 0.99)]:.2f} s, "
      f"greatest {delays[-1]:.2f} s from the event to its row")
