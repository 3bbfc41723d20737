"""BROKERS REGISTRY TOPIC: the records of the topic as confluent-kafka's AvroDeserializer reads them, one JSON object a line."""

import base64
import datetime
import decimal
import json
import sys
import uuid

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

brokers, registry, topic = sys.argv[1:]


def plain(value):
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    raise TypeError(type(value))


consumer = Consumer({"bootstrap.servers": brokers, "group.id": "oracle", "enable.partition.eof": True})
partitions = consumer.list_topics(topic, 30).topics[topic].partitions
consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
decode = AvroDeserializer(SchemaRegistryClient({"url": registry, "timeout": 20}))
context = SerializationContext(topic, MessageField.VALUE)
ended = 0
while ended < len(partitions):
    message = consumer.poll(30)
    assert message is not None, "the broker is silent"
    if message.error():
        ended += 1
        continue
    print(json.dumps(decode(message.value(), context), default=plain))
consumer.close()
