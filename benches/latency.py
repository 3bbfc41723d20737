"""URL REDIS_PORT SECONDS RATE: from the acceptance of an event over HTTP to the row in Redis that it closes.

Posts batches every 10 ms, stamped with the clock, RATE events a second, and looks every 2 ms which windows of the metric `latency`
Redis shows. A window may be shown once an event at or behind its end has been accepted: what lies between is printed."""

import http.client
import json
import socket
import statistics
import sys
import threading
import time
import urllib.parse

url, port, seconds, rate = sys.argv[1:]
at = urllib.parse.urlsplit(url)
EVERY = 0.01
accepted = []  # (event time in µs, when it was answered)
shown = {}  # end of a window in µs: when it was first seen
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


def watch():
    redis = socket.create_connection(("127.0.0.1", int(port)))
    replies = redis.makefile("rb")
    while not done.is_set():
        redis.sendall(b"KEYS metric:{latency*/*\r\n")
        count = int(replies.readline()[1:])
        for _ in range(count):
            key = replies.read(int(replies.readline()[1:]) + 2).strip()
            shown.setdefault(int(key.rsplit(b"/", 1)[1]), time.time())
        time.sleep(0.002)


watcher = threading.Thread(target=watch)
watcher.start()
post()
time.sleep(5)
done.set()
watcher.join()
delays, position = [], 0
for end, when in sorted(shown.items()):
    while position < len(accepted) and accepted[position][0] < end:
        position += 1
    if position < len(accepted):
        delays.append(when - accepted[position][1])
delays.sort()
assert delays, "Redis shows no window"
print(f"{len(delays)} windows: median {statistics.median(delays) * 1000:.0f} ms, p99 {delays[int(len(delays) * 0.99)] * 1000:.0f} ms, "
      f"most {delays[-1] * 1000:.0f} ms from the acceptance of what closes a window to its row in Redis")
