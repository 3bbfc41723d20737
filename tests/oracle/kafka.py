"""What confluent-kafka sees of a topic that evt wrote, and a record written into another.

usage: kafka.py BROKERS TOPIC BACK: prints the records, those with the key ios, and the source of the first of them."""
import json
import sys

from confluent_kafka import Producer

from topics import messages

brokers, topic, back = sys.argv[1:]
records = [(message.key(), json.loads(message.value())) for message in messages(brokers, topic)]
ios = [event for key, event in records if key == b"ios"]
print(len(records), len(ios), ios[0]["source"])
producer = Producer({"bootstrap.servers": brokers})
event = {"source": "py", "event_type": "t", "n": 8, "server_timestamp": "2024-01-15T10:00:00Z"}
producer.produce(back, json.dumps(event), key="py")
assert producer.flush(20) == 0
