CREATE TABLE alerts (
    rule TEXT NOT NULL,
    state TEXT NOT NULL,
    value DOUBLE PRECISION,
    window_start TIMESTAMPTZ NOT NULL,
    window_end TIMESTAMPTZ NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (rule, window_start, window_end, state)
);

-- Rules are people's, not a stream's: evt reads them. definition is the rule as evt-alert knows it. A table that people have made
-- stays as it is.
CREATE TABLE IF NOT EXISTS alert_rules (
    rule TEXT PRIMARY KEY,
    definition JSONB NOT NULL,
    enabled BOOLEAN NOT NULL DEFAULT true,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
