-- The epochs of each output of a checkpoint. The row of an output is locked while it commits an epoch.
CREATE TABLE checkpoint_epochs (
    output TEXT PRIMARY KEY,
    run BIGINT,
    epoch BIGINT,
    committed_at TIMESTAMPTZ
);

INSERT INTO checkpoint_epochs SELECT pipeline, run, epoch, committed_at FROM pipeline_checkpoints WHERE run IS NOT NULL;

DROP TABLE pipeline_checkpoints;

-- How far each partition of the input was read at the end of the last epoch.
CREATE TABLE pipeline_checkpoints (
    consumer_group TEXT NOT NULL,
    topic TEXT NOT NULL,
    "partition" INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    watermark TIMESTAMPTZ,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (consumer_group, topic, "partition")
);
