CREATE TABLE pipeline_checkpoints (
    pipeline TEXT PRIMARY KEY,
    prepared_run BIGINT,
    prepared_epoch BIGINT,
    prepared_at TIMESTAMPTZ,
    run BIGINT,
    epoch BIGINT,
    committed_at TIMESTAMPTZ
);
