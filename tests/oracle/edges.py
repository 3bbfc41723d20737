"""BROKERS REGISTRY TOPIC EVENTS: what confluent-kafka sees of a topic that the HTTP listener wrote.

Every record, as AvroDeserializer reads it, is one of EVENTS (JSON lines) with its key, its time and its properties. Prints, as
JSON, how many there are, and how many ids they have."""

import json
import sys

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from topics import messages

brokers, registry, topic, events = sys.argv[1:]
sent = {}
for line in open(events, "rb"):
    try:
        event = json.loads(line)
        sent.setdefault(event["event_id"], event)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass  # one of those that are refused

decode = AvroDeserializer(SchemaRegistryClient({"url": registry, "timeout": 20}))
context = SerializationContext(topic, MessageField.VALUE)
seen, ids = 0, set()
for message in messages(brokers, topic):
    event = decode(message.value(), context)
    was = sent[str(event["event_id"])]
    ids.add(str(event["event_id"]))
    for name in ("source", "event_type", "user_id"):
        assert event[name] == was.get(name), (name, event, was)
    properties = json.loads(event["properties"])
    assert properties.pop("server_timestamp") == was["server_timestamp"]
    assert properties == was["properties"], (event, was)
    assert event["event_time"].isoformat(timespec="microseconds") == was["client_timestamp"].replace("Z", "+00:00")
    assert message.key().decode() == event["source"]
    seen += 1
print(json.dumps({"records": seen, "ids": len(ids)}))
