-- How the metrics of pipelines are computed, and how far they are. A watermark in the year 9999 means that all windows
-- have fired.
CREATE TABLE metric_progress (
    pipeline TEXT NOT NULL,
    metric_name TEXT NOT NULL,
    size TEXT,
    slide TEXT,
    gap TEXT,
    lateness TEXT NOT NULL,
    out_of_orderness TEXT,
    watermark TIMESTAMPTZ,
    complete_since TIMESTAMPTZ,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (pipeline, metric_name)
);
