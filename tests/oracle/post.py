"""URL FILE BATCH: posts the lines of a file in batches over one connection that is kept alive, each until it is answered.

A record's own server_timestamp means nothing to the HTTP listener: lines that differ from a good one only there are left out.
A batch that is refused for want of room (503), or whose answer is lost, is sent again. Prints, as JSON, what was answered."""

import http.client
import json
import sys
import time
import urllib.parse

url, path, batch = sys.argv[1:]
at = urllib.parse.urlsplit(url)
lines = open(path, "rb").read().splitlines()
left_out = [line for line in lines if b'"server_timestamp":"yesterday"' in line]
lines = [line for line in lines if b'"server_timestamp":"yesterday"' not in line]
said = {"sent": 0, "left_out": len(left_out), "accepted": 0, "rejected": 0, "requests": 0, "refused": 0, "broken": 0, "ids": 0}
connection = http.client.HTTPConnection(at.hostname, at.port, timeout=60)


def post(body):
    """The answer; None where there is none."""
    try:
        connection.request("POST", "/v1/events", body, {"content-type": "application/x-ndjson"})
        answer = connection.getresponse()
        return answer, json.loads(answer.read())
    except (OSError, http.client.HTTPException):
        connection.close()
        return None


for start in range(0, len(lines), int(batch)):
    part = lines[start : start + int(batch)]
    while True:
        said["requests"] += 1
        answered = post(b"\n".join(part) + b"\n")
        if answered is None:
            said["broken"] += 1
            time.sleep(0.1)
            continue
        answer, told = answered
        if answer.status == 503:
            said["refused"] += 1
            time.sleep(min(1, int(answer.headers["retry-after"])))
            continue
        assert answer.status == 200, (answer.status, told)
        break
    said["sent"] += len(part)
    said["accepted"] += told["accepted"]
    said["rejected"] += told["rejected"]
    said["ids"] += sum(one is not None for one in told["event_ids"])
    assert told["accepted"] + told["rejected"] == len(part), told
print(json.dumps(said))
