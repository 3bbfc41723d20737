"""BROKERS REGISTRY TOPIC ROWS: the topic holds these rows, as confluent-kafka's AvroDeserializer reads them."""

import json
import sys

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

brokers, registry, topic, rows = sys.argv[1:]
expected = {}
for line in open(rows):
    row = json.loads(line)
    expected[row["event_id"]] = row

consumer = Consumer({"bootstrap.servers": brokers, "group.id": "oracle", "enable.partition.eof": True})
partitions = consumer.list_topics(topic, 30).topics[topic].partitions
consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
decode = AvroDeserializer(SchemaRegistryClient({"url": registry, "timeout": 20}))
context = SerializationContext(topic, MessageField.VALUE)
seen, ended = 0, 0
while ended < len(partitions):
    message = consumer.poll(30)
    assert message is not None, "the broker is silent"
    if message.error():
        ended += 1
        continue
    event = decode(message.value(), context)
    row = expected[str(event["event_id"])]
    for name in ("source", "event_type", "user_id", "origin", "partition", "offset"):
        assert event[name] == row.get(name), (name, event, row)
    assert json.loads(event["properties"]) == row["properties"], (event, row)
    for name in ("server_timestamp", "event_time", "stream_time"):
        assert event[name].isoformat(timespec="microseconds") == row[name].replace("Z", "+00:00"), (event, row)
    assert message.key().decode() == event["source"]
    seen += 1
consumer.close()
assert seen == len(expected), (seen, len(expected))
print(seen)
