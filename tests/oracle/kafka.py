"""What confluent-kafka sees of a topic that evt wrote, and a record written into another.

usage: kafka.py BROKERS TOPIC BACK: prints the records, those with the key ios, and the source of the first of them."""
import json
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

brokers, topic, back = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": brokers, "group.id": "oracle", "enable.partition.eof": True})
partitions = consumer.list_topics(topic, 20).topics[topic].partitions
consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
records, ended = [], 0
while ended < len(partitions):
    message = consumer.poll(20)
    assert message is not None, "no answer"
    if message.error():
        assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
        ended += 1
    else:
        records.append((message.key(), json.loads(message.value())))
ios = [event for key, event in records if key == b"ios"]
print(len(records), len(ios), ios[0]["source"])
producer = Producer({"bootstrap.servers": brokers})
event = {"source": "py", "event_type": "t", "n": 8, "server_timestamp": "2024-01-15T10:00:00Z"}
producer.produce(back, json.dumps(event), key="py")
assert producer.flush(20) == 0
