-- Records that failed, byte for byte. payload_hash (xxh3-64) stands for the payload in the key.
CREATE TABLE dead_letters (
    original_payload BYTEA NOT NULL,
    original_key BYTEA,
    headers JSON,
    arrived_at TIMESTAMPTZ,
    error_type TEXT NOT NULL,
    error_message TEXT NOT NULL,
    stage TEXT NOT NULL,
    source_topic TEXT NOT NULL,
    "partition" TEXT NOT NULL,
    "offset" BIGINT NOT NULL,
    failed_at TIMESTAMPTZ NOT NULL,
    producer_host TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    payload_hash BIGINT NOT NULL,
    PRIMARY KEY (stage, source_topic, "partition", "offset", payload_hash)
);
CREATE INDEX dead_letters_failed_at ON dead_letters (failed_at);
