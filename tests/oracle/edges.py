"""BROKERS REGISTRY TOPIC EVENTS: what confluent-kafka sees of a topic that the HTTP listener wrote.

Every record, as AvroDeserializer reads it, is one of EVENTS (JSON lines) with its key, its time and its properties. Prints, as
JSON, how many there are, and how many ids they have."""

import json
import sys

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

brokers, registry, topic, events = sys.argv[1:]
sent = {}
for line in open(events, "rb"):
    try:
        event = json.loads(line)
        sent.setdefault(event["event_id"], event)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass  # one of those that are refused

consumer = Consumer({"bootstrap.servers": brokers, "group.id": "oracle", "enable.partition.eof": True})
partitions = consumer.list_topics(topic, 30).topics[topic].partitions
consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
decode = AvroDeserializer(SchemaRegistryClient({"url": registry, "timeout": 20}))
context = SerializationContext(topic, MessageField.VALUE)
seen, ids, ended = 0, set(), 0
while ended < len(partitions):
    for message in consumer.consume(1000, 0.2):
        if message.error():
            ended += 1
            continue
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
consumer.close()
print(json.dumps({"records": seen, "ids": len(ids)}))
