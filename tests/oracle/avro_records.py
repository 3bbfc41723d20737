"""The records of a topic as confluent-kafka's AvroDeserializer reads them, for the oracles."""

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


def records(brokers, registry, topic):
    """Yields the key and the decoded value of each record, to the end of all partitions."""
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
        yield message.key(), decode(message.value(), context)
    consumer.close()
