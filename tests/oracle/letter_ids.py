"""LETTERS: the ids of dead letters in JSON lines, by uuid.uuid5, one per line, with that of the file."""

import base64
import hashlib
import json
import sys
import uuid

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "evt.event")


def uuid5(name):
    # uuid.uuid5 takes bytes only from Python 3.12 on.
    return uuid.UUID(bytes=hashlib.sha1(NAMESPACE.bytes + name).digest()[:16], version=5)


assert uuid5(b"x") == uuid.uuid5(NAMESPACE, "x")
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        letter = json.loads(line)
        payload = letter.get("original_payload", "").encode()
        if "original_payload_base64" in letter:
            payload = base64.b64decode(letter["original_payload_base64"])
        parts = [letter["source_topic"].encode(), letter["partition"].encode(), str(letter["offset"]).encode(), payload]
        print(uuid5(b"\0".join(parts)), letter["letter_id"])
