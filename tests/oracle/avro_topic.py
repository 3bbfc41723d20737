"""BROKERS REGISTRY TOPIC ROWS: the topic holds these rows, as confluent-kafka's AvroDeserializer reads them."""

import json
import sys

from avro_records import records

brokers, registry, topic, rows = sys.argv[1:]
expected = {}
for line in open(rows):
    row = json.loads(line)
    expected[row["event_id"]] = row

seen = 0
for key, event in records(brokers, registry, topic):
    row = expected[str(event["event_id"])]
    for name in ("source", "event_type", "user_id", "origin", "partition", "offset"):
        assert event[name] == row.get(name), (name, event, row)
    assert json.loads(event["properties"]) == row["properties"], (event, row)
    for name in ("server_timestamp", "event_time", "stream_time"):
        assert event[name].isoformat(timespec="microseconds") == row[name].replace("Z", "+00:00"), (event, row)
    assert key.decode() == event["source"]
    seen += 1
assert seen == len(expected), (seen, len(expected))
print(seen)
