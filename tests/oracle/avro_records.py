"""The records of a topic as confluent-kafka's AvroDeserializer reads them, for the oracles."""

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from topics import messages


def records(brokers, registry, topic):
    """Yields the key and the decoded value of each record, to the end of all partitions."""
    decode = AvroDeserializer(SchemaRegistryClient({"url": registry, "timeout": 20}))
    context = SerializationContext(topic, MessageField.VALUE)
    for message in messages(brokers, topic):
        yield message.key(), decode(message.value(), context)
