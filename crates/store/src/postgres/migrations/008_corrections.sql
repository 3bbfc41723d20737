-- Corrections of metrics: what was corrected, by whom, and what is in flight (state 'running').
CREATE TABLE corrections (
    id TEXT PRIMARY KEY,
    metrics JSONB NOT NULL,
    since TIMESTAMPTZ,
    until TIMESTAMPTZ,
    state TEXT NOT NULL,
    who TEXT NOT NULL,
    host TEXT NOT NULL,
    reason TEXT,
    spec TEXT NOT NULL,
    run TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    progress TIMESTAMPTZ,
    inserted BIGINT NOT NULL DEFAULT 0,
    corrected BIGINT NOT NULL DEFAULT 0,
    retracted BIGINT NOT NULL DEFAULT 0,
    unchanged BIGINT NOT NULL DEFAULT 0
);

-- Cells that count the late events whose stream time is at most late_until.
CREATE TABLE corrected_cells (
    metric_name TEXT NOT NULL,
    window_start TIMESTAMPTZ NOT NULL,
    window_end TIMESTAMPTZ NOT NULL,
    dimensions JSONB NOT NULL,
    late_until TIMESTAMPTZ NOT NULL,
    correction TEXT NOT NULL,
    PRIMARY KEY (metric_name, window_start, window_end, dimensions)
);

-- How far each stream of late events is corrected.
CREATE TABLE late_positions (
    source TEXT PRIMARY KEY,
    "rows" BIGINT NOT NULL,
    last TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
