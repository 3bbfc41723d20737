-- Alerts get ids: a row is one transition of one alert. The older rows name neither their alert nor their rule by an id, so both
-- are numbered, as UUIDs of version 8; the nth firing and the nth resolve with the same rule and since are one alert.
ALTER TABLE alerts RENAME TO old_alerts;
ALTER TABLE old_alerts RENAME CONSTRAINT alerts_pkey TO old_alerts_pkey;

CREATE TABLE alerts (
    alert_id UUID NOT NULL,
    rule_id UUID NOT NULL,
    rule TEXT NOT NULL,
    dimensions JSONB NOT NULL,
    severity TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    value DOUBLE PRECISION,
    threshold DOUBLE PRECISION,
    window_start TIMESTAMPTZ NOT NULL,
    window_end TIMESTAMPTZ NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    labels JSON NOT NULL CHECK (labels::jsonb IS NOT NULL),
    summary TEXT NOT NULL,
    caught_up BOOLEAN NOT NULL,
    PRIMARY KEY (alert_id, state)
);
CREATE INDEX alerts_at ON alerts (at);

INSERT INTO alerts
SELECT
    ('00000000-0000-8000-8000-' || lpad(to_hex(dense_rank() OVER (ORDER BY rule, since, n)), 12, '0'))::uuid,
    ('00000000-0000-8000-9000-' || lpad(to_hex(dense_rank() OVER (ORDER BY rule)), 12, '0'))::uuid,
    rule, '{}', 'unknown', state, 'condition', value, NULL,
    window_start, window_end, since, window_end, '{}', '', false
FROM (
    SELECT *, row_number() OVER (PARTITION BY rule, since, state ORDER BY window_start, window_end) AS n FROM old_alerts
) AS numbered;

DROP TABLE old_alerts;
