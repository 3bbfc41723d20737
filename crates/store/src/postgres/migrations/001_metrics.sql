-- Results of windows. metric_id is the digest of the natural key, which the unique index spells out.
CREATE TABLE aggregated_metrics (
    metric_id UUID PRIMARY KEY,
    metric_name TEXT NOT NULL,
    window_start TIMESTAMPTZ NOT NULL,
    window_end TIMESTAMPTZ NOT NULL,
    dimensions JSONB NOT NULL,
    value DOUBLE PRECISION,
    "rows" BIGINT NOT NULL,
    revision INTEGER NOT NULL,
    pane INTEGER NOT NULL,
    run TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX aggregated_metrics_key ON aggregated_metrics (metric_name, window_start, window_end, dimensions);

-- What a run has taken back: until it ends, those rows do not come again.
CREATE TABLE metric_retractions (
    run TEXT NOT NULL,
    metric_id UUID NOT NULL,
    "rows" BIGINT NOT NULL,
    revision INTEGER NOT NULL,
    taken_back_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (run, metric_id)
);
