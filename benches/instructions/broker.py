"""A broker of Kafka with one topic `t` of one partition, whose records are given: just enough of the protocol to read them.

https://kafka.apache.org/protocol: ApiVersions 0, Metadata 1, ListOffsets 1, Fetch 11.
"""
import socket
import struct
import threading

FETCH, LIST_OFFSETS, METADATA, API_VERSIONS = 1, 2, 3, 18
VERSIONS = {FETCH: 11, LIST_OFFSETS: 1, METADATA: 1, API_VERSIONS: 0}
UNSUPPORTED_VERSION = 35
EARLIEST = -2
# Records of a batch: 128 KiB of usual events, as a producer sends them.
BATCH_RECORDS = 250


def crc32c_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def varint(value):
    value = value << 1 ^ value >> 63
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes(encoded + bytes([value]))


def batch(first, values):
    """A record batch (magic 2) of uncompressed records without keys."""
    records = b""
    for at, value in enumerate(values):
        record = b"\0" + varint(0) + varint(at) + varint(-1) + varint(len(value)) + value + varint(0)
        records += varint(len(record)) + record
    time = 1_772_366_400_000
    body = struct.pack(">hiqqqhii", 0, len(values) - 1, time, time, -1, -1, -1, len(values)) + records
    return struct.pack(">qiibI", first, len(body) + 9, 0, 2, crc32c(body)) + body


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


class Broker:
    """Serves `lines` on a port of loopback until the process ends."""

    def __init__(self, lines):
        values = [line.encode() for line in lines]
        self.batches = [(at, batch(at, values[at : at + BATCH_RECORDS])) for at in range(0, len(values), BATCH_RECORDS)]
        self.end = len(values)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            self.converse(client.makefile("rwb"))
        except ConnectionError:
            pass  # the client has ended

    def converse(self, stream):
        while len(length := stream.read(4)) == 4:
            request = stream.read(struct.unpack(">i", length)[0])
            key, version, correlation, name = struct.unpack(">hhih", request[:10])
            answer = self.answer(key, version, request[10 + max(name, 0) :])
            stream.write(struct.pack(">ii", len(answer) + 4, correlation) + answer)
            stream.flush()

    def answer(self, key, version, body):
        if key == API_VERSIONS:
            error = 0 if version == 0 else UNSUPPORTED_VERSION
            least = {FETCH: 4, LIST_OFFSETS: 1}
            ranges = [struct.pack(">hhh", key, least.get(key, 0), most) for key, most in VERSIONS.items()]
            return struct.pack(">hi", error, len(ranges)) + b"".join(ranges)
        if VERSIONS.get(key) != version:
            raise ValueError(f"request {key} of version {version}")
        if key == METADATA:
            brokers = struct.pack(">ii", 1, 1) + text("127.0.0.1") + struct.pack(">ih", self.port, -1)
            partition = struct.pack(">hiiiiii", 0, 0, 1, 1, 1, 1, 1)
            topics = struct.pack(">ih", 1, 0) + text("t") + struct.pack(">bi", 0, 1) + partition
            return brokers + struct.pack(">i", 1) + topics
        if key == LIST_OFFSETS:
            time = struct.unpack(">q", body[-8:])[0]
            offset = 0 if time == EARLIEST else self.end
            return struct.pack(">i", 1) + text("t") + struct.pack(">iihqq", 1, 0, 0, -1, offset)
        return self.fetched(body)

    def fetched(self, body):
        """The whole batches from the offset of the request on, about as many bytes as it allows."""
        topic = 4 + 4 + 4 + 4 + 1 + 4 + 4 + 4
        offset, _, most = struct.unpack(">qqi", body[topic + 3 + 4 + 8 : topic + 3 + 4 + 8 + 20])
        records = b""
        for first, data in self.batches:
            if offset < first + BATCH_RECORDS and len(records) < most:
                records += data
        partition = struct.pack(">ihqqqiii", 0, 0, self.end, self.end, 0, 0, -1, len(records)) + records
        return struct.pack(">ihii", 0, 0, 0, 1) + text("t") + struct.pack(">i", 1) + partition
