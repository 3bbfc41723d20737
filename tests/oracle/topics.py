"""The messages of a topic as a client of confluent-kafka gets them, for the oracles."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

# How long brokers may send nothing, in seconds.
SILENCE = 150
# How long readers wait for the ends of transactions, in seconds. Brokers end a transaction that is left open only after a minute.
MARKERS = 30


def last_offset(consumer, partition):
    """The offset behind the last record that a consumer sees; None if no broker answers."""
    try:
        return consumer.get_watermark_offsets(partition, 10)[1]
    except KafkaException:
        return None


def wait_for_markers(settings, committed, partitions):
    """Waits until no record of the partitions is in an open transaction. A broker confirms the end of a transaction before its
    markers are in the partitions, and until then readers do not see its records."""
    everything = Consumer({**settings, "isolation.level": "read_uncommitted"})
    deadline = time.monotonic() + MARKERS
    for partition in partitions:
        # If the time is over, the caller misses records.
        while time.monotonic() < deadline:
            offsets = last_offset(everything, partition), last_offset(committed, partition)
            if None not in offsets and offsets[0] <= offsets[1]:
                break
            time.sleep(0.05)
    everything.close()


def messages(brokers, topic):
    """Yields the committed messages of a topic, to the end of all partitions."""
    settings = {"bootstrap.servers": brokers, "group.id": "oracle", "enable.auto.commit": False}
    consumer = Consumer({**settings, "isolation.level": "read_committed", "enable.partition.eof": True})
    numbers = consumer.list_topics(topic, 30).topics[topic].partitions
    assert numbers, f"the brokers know no partition of {topic}"
    partitions = [TopicPartition(topic, number, 0) for number in numbers]
    wait_for_markers(settings, consumer, partitions)
    consumer.assign(partitions)
    ended, error, deadline = set(), None, time.monotonic() + SILENCE
    while len(ended) < len(partitions):
        assert time.monotonic() < deadline, f"the brokers are silent; the last error is {error}"
        for message in consumer.consume(1000, 0.2):
            if message.error() is None:
                deadline = time.monotonic() + SILENCE
                yield message
            elif message.error().code() == KafkaError._PARTITION_EOF:
                # A client that has to connect again reports the end of a partition twice.
                ended.add(message.partition())
            else:
                # A broker under load may close a connection; the client connects again.
                error = message.error()
    consumer.close()
