"""URL SECONDS RATE STORE...: from the acceptance of an event over HTTP to the row that it closes, in redis:PORT or postgres:URI.

Posts batches every 10 ms, stamped with the clock, RATE events a second, and asks each store every few milliseconds which windows of the
metric `latency` it shows. A window may be shown once an event at or behind its end has been accepted: the time between is printed."""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

url, seconds, rate, *stores = sys.argv[1:]
at = urllib.parse.urlsplit(url)
EVERY = 0.01
accepted = []  # (event time in µs, when it was answered)
done = threading.Event()


def post():
    connection = http.client.HTTPConnection(at.hostname, at.port)
    start, number = time.time(), max(1, round(int(rate) * EVERY))
    for tick in range(round(float(seconds) / EVERY)):
        time.sleep(max(0, start + tick * EVERY - time.time()))
        now = time.time_ns() // 1000
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000)) + f".{now % 1_000_000:06}Z"
        line = json.dumps({"source": "bench", "event_type": "click", "client_timestamp": stamp, "page": "/shop/home"})
        connection.request("POST", "/v1/events", (line + "\n") * number, {"content-type": "application/x-ndjson"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
        accepted.append((now, time.time()))
    print(f"{number * len(accepted) / (time.time() - start):.0f} events a second were accepted")


def redis_windows(port):
    """Yields the ends of the windows that Redis shows, in µs, again and again."""
    redis = socket.create_connection(("127.0.0.1", int(port)))
    replies = redis.makefile("rb")
    while True:
        redis.sendall(b"KEYS metric:{latency*/*\r\n")
        count = int(replies.readline()[1:])
        yield [int(replies.read(int(replies.readline()[1:]) + 2).strip().rsplit(b"/", 1)[1]) for _ in range(count)]


def postgres_windows(uri):
    """Yields the ends of the windows that Postgres shows, in µs, again and again."""
    psql = subprocess.Popen(["psql", "-qtAX", uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while True:
        psql.stdin.write("SELECT coalesce(string_agg((extract(epoch FROM window_end) * 1000000)::bigint::text, ' '), '') "
                         "FROM aggregated_metrics WHERE metric_name = 'latency';\n")
        psql.stdin.flush()
        yield [int(end) for end in psql.stdout.readline().split()]


class Watcher(threading.Thread):
    """Notes when a store has shown each window first."""

    def __init__(self, store):
        super().__init__(daemon=True)
        self.name, server = store.split(":", 1)
        self.windows = {"redis": redis_windows, "postgres": postgres_windows}[self.name](server)
        self.shown = {}  # end of a window in µs: when it was first seen

    def run(self):
        for ends in self.windows:
            now = time.time()
            for end in ends:
                self.shown.setdefault(end, now)
            if done.wait(0.002):
                return

    def delays(self):
        delays, position = [], 0
        for end, when in sorted(self.shown.items()):
            while position < len(accepted) and accepted[position][0] < end:
                position += 1
            if position < len(accepted):
                delays.append(when - accepted[position][1])
        return sorted(delays)


watchers = [Watcher(store) for store in stores]
for watcher in watchers:
    watcher.start()
post()
last = accepted[-1][0] // 100_000 * 100_000  # the end of the last window that an event has closed
deadline = time.time() + 60
while time.time() < deadline and not all(last in watcher.shown for watcher in watchers):
    time.sleep(0.1)
done.set()
for watcher in watchers:
    watcher.join()
    delays = watcher.delays()
    assert delays, f"{watcher.name} shows no window"
    print(f"{watcher.name}: {len(delays)} windows: median {delays[len(delays) // 2] * 1000:.0f} ms, p99 {delays[int(len(delays) * 0.99)] * 1000:.0f} ms, "
          f"most {delays[-1] * 1000:.0f} ms from the acceptance of what closes a window to its row")
