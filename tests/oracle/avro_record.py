"""BROKERS REGISTRY TOPIC: the records of the topic as confluent-kafka's AvroDeserializer reads them, one JSON object a line."""

import base64
import datetime
import decimal
import json
import sys
import uuid

from avro_records import records

brokers, registry, topic = sys.argv[1:]


def plain(value):
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    raise TypeError(type(value))


for _, record in records(brokers, registry, topic):
    print(json.dumps(record, default=plain))
