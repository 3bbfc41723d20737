-- Events as received. properties is JSON, not JSONB: the text stays as it came, no digit is lost. The check refuses what
-- JSONB could not hold, so that properties::jsonb never fails in a query.
CREATE TABLE raw_events (
    event_id UUID NOT NULL,
    source TEXT NOT NULL,
    event_type TEXT NOT NULL,
    user_id TEXT,
    properties JSON NOT NULL CHECK (properties::jsonb IS NOT NULL),
    client_timestamp TIMESTAMPTZ,
    server_timestamp TIMESTAMPTZ,
    ingested_at TIMESTAMPTZ NOT NULL,
    event_time TIMESTAMPTZ NOT NULL,
    origin TEXT NOT NULL,
    "partition" TEXT NOT NULL,
    "offset" BIGINT NOT NULL,
    stream_time TIMESTAMPTZ NOT NULL,
    schema_id BIGINT,
    PRIMARY KEY (origin, "partition", "offset", event_id)
);
CREATE INDEX raw_events_event_time ON raw_events (event_time);

CREATE TABLE late_events (
    event_id UUID NOT NULL,
    source TEXT NOT NULL,
    event_type TEXT NOT NULL,
    user_id TEXT,
    properties JSON NOT NULL CHECK (properties::jsonb IS NOT NULL),
    client_timestamp TIMESTAMPTZ,
    server_timestamp TIMESTAMPTZ,
    ingested_at TIMESTAMPTZ NOT NULL,
    event_time TIMESTAMPTZ NOT NULL,
    origin TEXT NOT NULL,
    "partition" TEXT NOT NULL,
    "offset" BIGINT NOT NULL,
    stream_time TIMESTAMPTZ NOT NULL,
    schema_id BIGINT,
    late_for TEXT[] NOT NULL,
    lateness_ms BIGINT NOT NULL,
    partial BOOLEAN NOT NULL,
    PRIMARY KEY (origin, "partition", "offset", event_id, late_for)
);
