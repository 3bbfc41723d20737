//! The epochs that a database has committed, and how far the input was read at the end of the last one.

use super::{SqlConnection, SqlValue, list};
use crate::OpenOptions;
use evt_core::time::format_instant;
use evt_run::checkpoint::epoch::SignedEpoch;
use evt_run::checkpoint::epoch::{Epoch, PartitionPosition};

/// Returns the last epoch under a key; `lock` is the end of the statement.
pub fn committed<C: SqlConnection>(connection: &C, key: &str, lock: &str) -> Result<Option<Epoch>, C::Failure> {
    let sql = format!("SELECT run, epoch FROM checkpoint_epochs WHERE output = $1{lock}");
    let rows = connection.query(&sql, &[key.into()])?;
    // A row that is only locked has no numbers yet.
    let number = |column: usize| u64::try_from(rows.first()?.long(column)?).ok();
    Ok(number(0).zip(number(1)).map(|(run, number)| Epoch { run, number }))
}

/// Records an epoch and the positions of the input, in the transaction that has its rows. A row of a position changes
/// only with the position.
pub fn record<C: SqlConnection>(
    tx: &C,
    options: &OpenOptions,
    epoch: Epoch,
    positions: &[PartitionPosition],
) -> Result<(), C::Failure> {
    let (now, SignedEpoch { run, number }) = (&format_instant((options.clock)()), epoch.signed()?);
    let record = "INSERT INTO checkpoint_epochs (output, run, epoch, committed_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (output) DO UPDATE
        SET run = excluded.run, epoch = excluded.epoch, committed_at = excluded.committed_at";
    tx.execute(record, &[(&options.pipeline).into(), run.into(), number.into(), now.into()])?;
    if positions.is_empty() {
        return Ok(());
    }
    // All runs change the rows in one order, so that two of them do not wait for each other.
    let sql = format!(
        r#"INSERT INTO pipeline_checkpoints (consumer_group, topic, "partition", "offset", watermark, updated_at)
        SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS INTEGER), CAST(value ->> 3 AS BIGINT),
            CAST(value ->> 4 AS {instant}), CAST($2 AS {instant})
        FROM {each}($1) WHERE true
        ON CONFLICT (consumer_group, topic, "partition") DO UPDATE
        SET "offset" = excluded."offset", watermark = excluded.watermark, updated_at = excluded.updated_at
        WHERE (pipeline_checkpoints."offset", pipeline_checkpoints.watermark)
            IS DISTINCT FROM (excluded."offset", excluded.watermark)"#,
        instant = C::INSTANT,
        each = C::EACH
    );
    let row = |PartitionPosition { group, topic, partition, offset, watermark }: &PartitionPosition| {
        // No text of PostgreSQL holds this character.
        let [group, topic] = [group, topic].map(|text| text.replace('\0', "\u{fffd}"));
        (group, topic, *partition, *offset, watermark.map(format_instant))
    };
    let rows: SqlValue = list(&Vec::from_iter(positions.iter().map(row)));
    tx.execute(&sql, &[rows, now.into()]).map(drop)
}
