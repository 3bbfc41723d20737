//! Writes metrics: the stored rows are locked and read, [`crate::guard`] decides here what will be
//! stored, and then new rows are copied in and others updated or deleted, all in one transaction.

use crate::OpenOptions;
use crate::guard::{RowOutcome, Stored, Version, judge_retraction, judge_row};
use crate::postgres::cell::{CopyText, cells_of, instant_bytes};
use crate::postgres::link::{Failure, Link};
use crate::postgres::write::left_out;
use ahash::AHashMap;
use arrow::array::RecordBatch;
use bytes::BytesMut;
use evt_core::error::Result;
use evt_core::kind::Kind;
use evt_core::kind::metric::{MetricColumns, column};
use std::error::Error as StdError;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

const SELECT: &str = r#"
SELECT metric_id, revision, "rows", value, run = $2 FROM aggregated_metrics
WHERE metric_id = ANY($1) ORDER BY metric_id FOR UPDATE
"#;
const SELECT_TAKEN_BACK: &str =
    r#"SELECT metric_id, revision, "rows" FROM metric_retractions WHERE run = $2 AND metric_id = ANY($1)"#;
const INSERT: &str = r#"
COPY aggregated_metrics (metric_id, metric_name, window_start, window_end, dimensions, value, "rows", revision, pane,
    run, updated_at)
FROM STDIN (FORMAT binary)
"#;
const UPDATE: &str = r#"
UPDATE aggregated_metrics AS old SET value = new.value, "rows" = new."rows", revision = new.revision, pane = new.pane,
    run = $6, updated_at = to_timestamp($7::BIGINT / 1000000.0)
FROM unnest($1::UUID[], $2::DOUBLE PRECISION[], $3::BIGINT[], $4::INTEGER[], $5::INTEGER[])
    AS new (metric_id, value, "rows", revision, pane)
WHERE old.metric_id = new.metric_id
"#;
const DELETE: &str = "DELETE FROM aggregated_metrics WHERE metric_id = ANY($1)";
const RETRACT: &str = r#"
INSERT INTO metric_retractions (metric_id, run, revision, "rows")
SELECT metric_id, $2, revision, "rows"
FROM unnest($1::UUID[], $3::INTEGER[], $4::BIGINT[]) AS new (metric_id, revision, "rows")
ON CONFLICT (run, metric_id) DO UPDATE SET revision = excluded.revision, "rows" = excluded."rows"
"#;
/// Removes the retractions of this run, and those of runs that did not reach their end.
pub const FORGET: &str = "DELETE FROM metric_retractions WHERE run = $1 OR taken_back_at < now() - INTERVAL '7 days'";

/// An id as a parameter or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Id([u8; 16]);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

/// The run that writes.
pub struct Writer<'a> {
    /// Its options.
    pub options: &'a OpenOptions,
    /// When it writes (µs).
    pub now: i64,
    /// Whether it has retracted rows.
    pub retracts: bool,
}

/// The outcome of a batch.
#[derive(Default)]
pub struct WrittenMetrics {
    /// The outcome of each row.
    pub outcomes: Vec<RowOutcome>,
    /// Replaced rows of other runs.
    pub replaced: Vec<ReplacedRow>,
}

/// A row of another run that was replaced.
pub struct ReplacedRow {
    /// The index of the new row.
    pub index: usize,
    /// The number of events in the old row.
    pub events_before: i64,
}

/// A batch of metrics.
pub struct MetricBatch<'a> {
    batch: &'a RecordBatch,
    /// Its columns.
    pub columns: MetricColumns<'a>,
}

impl<'a> MetricBatch<'a> {
    /// Takes the columns of `batch`.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self> {
        Ok(Self { batch, columns: MetricColumns::try_new(batch)? })
    }

    /// Returns the ids of the rows in ascending order, each once.
    fn distinct_ids(&self) -> Result<Vec<Id>> {
        let ids = (0..self.batch.num_rows()).map(|row| self.columns.id(row).map(Id));
        let mut ids = ids.collect::<Result<Vec<_>>>()?;
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Whether all rows have different keys.
    pub fn has_distinct_keys(&self) -> Result<bool> {
        Ok(self.distinct_ids()?.len() == self.batch.num_rows())
    }
}

/// The state of a key.
#[derive(Default)]
struct KeyState {
    /// The row to be stored.
    now: Option<Stored>,
    /// Whether `now` is of this run.
    is_own: bool,
    /// Whether a row was stored before.
    was: bool,
    /// The index of `now` in the batch, if it is from the batch.
    from: Option<usize>,
    last_retraction: Option<Version>,
    takes_back: bool,
}

/// Writes a batch whose keys are expected to be new, with one COPY, in the present transaction. A stored key is a
/// conflict, [`Failure::Raced`]; so is a row that the table does not take.
pub fn write_new(link: &Link, batch: &MetricBatch<'_>, writer: &Writer<'_>) -> Result<WrittenMetrics, Failure> {
    let rows: Vec<usize> = (0..batch.batch.num_rows()).collect();
    if insert(link, batch, writer, &rows)? < rows.len() as u64 {
        return Err(Failure::Raced(left_out(Kind::Metric.table())));
    }
    Ok(WrittenMetrics { outcomes: vec![RowOutcome::Inserted; rows.len()], replaced: Vec::new() })
}

/// Writes a batch in the present transaction.
pub fn write(link: &Link, batch: &MetricBatch<'_>, writer: &Writer<'_>) -> Result<WrittenMetrics, Failure> {
    let mut keys = read_keys(link, batch, writer)?;
    let mut written = WrittenMetrics::default();
    for row in 0..batch.batch.num_rows() {
        let key = keys.entry(batch.columns.id(row).map(Id)?).or_default();
        let stored = Stored::of(&batch.columns, row);
        let is_own = key.now.is_some() && key.is_own;
        let outcome = if batch.columns.retracted.value(row) {
            retract(key, stored.version)
        } else {
            put(key, stored, row, &mut written)
        };
        written.outcomes.push(outcome.repeated(writer.options.is_at_once, is_own));
    }
    apply(link, batch, writer, &keys)?;
    Ok(written)
}

fn put(key: &mut KeyState, row: Stored, index: usize, written: &mut WrittenMetrics) -> RowOutcome {
    let outcome = judge_row(key.now, key.last_retraction, row);
    if matches!(outcome, RowOutcome::Inserted | RowOutcome::Updated) {
        if let Some(old) = key.now.filter(|_| !key.is_own) {
            written.replaced.push(ReplacedRow { index, events_before: old.version.rows });
        }
        (key.now, key.is_own) = (Some(row), true);
        key.from = Some(index);
    }
    outcome
}

fn retract(key: &mut KeyState, version: Version) -> RowOutcome {
    let outcome = judge_retraction(key.now, version);
    if outcome == RowOutcome::Deleted {
        key.now = None;
        key.from = None;
    }
    if key.last_retraction < Some(version) {
        key.last_retraction = Some(version);
        key.takes_back = true;
    }
    outcome
}

/// Reads and locks the stored rows of the batch's keys.
fn read_keys(link: &Link, batch: &MetricBatch<'_>, writer: &Writer<'_>) -> Result<AHashMap<Id, KeyState>, Failure> {
    let ids = batch.distinct_ids()?;
    let mut keys: AHashMap<Id, KeyState> = AHashMap::with_capacity(ids.len());
    for row in link.select(SELECT, &[&ids, &writer.options.run])? {
        let version = Version { revision: row.try_get(1)?, rows: row.try_get(2)? };
        let now = Some(Stored { version, value: row.try_get(3)? });
        keys.insert(row.try_get(0)?, KeyState { now, is_own: row.try_get(4)?, was: true, ..KeyState::default() });
    }
    if writer.retracts {
        for row in link.select(SELECT_TAKEN_BACK, &[&ids, &writer.options.run])? {
            let version = Version { revision: row.try_get(1)?, rows: row.try_get(2)? };
            keys.entry(row.try_get(0)?).or_default().last_retraction = Some(version);
        }
    }
    Ok(keys)
}

/// Applies the changes in `keys` to the tables.
fn apply(
    link: &Link,
    batch: &MetricBatch<'_>,
    writer: &Writer<'_>,
    keys: &AHashMap<Id, KeyState>,
) -> Result<(), Failure> {
    let mut inserted: Vec<usize> = keys.values().filter(|key| !key.was).filter_map(|key| key.from).collect();
    inserted.sort_unstable();
    if !inserted.is_empty() && insert(link, batch, writer, &inserted)? < inserted.len() as u64 {
        // A trigger may also have stored a row elsewhere, in a table that inherits.
        let ids = ids_of(batch, &inserted)?;
        let select = "SELECT count(*) FROM aggregated_metrics WHERE metric_id = ANY($1)";
        let stored = link.one(select, &[&ids])?.try_get::<_, i64>(0)?;
        if usize::try_from(stored).is_ok_and(|stored| stored < ids.len()) {
            return Err(Failure::Data(left_out(Kind::Metric.table())));
        }
    }
    let mut updated: Vec<usize> = keys.values().filter(|key| key.was).filter_map(|key| key.from).collect();
    updated.sort_unstable();
    if !updated.is_empty() {
        update(link, batch, writer, &updated)?;
    }
    let deleted = keys.iter().filter(|(_, key)| key.was && key.now.is_none());
    let deleted: Vec<Id> = deleted.map(|(id, _)| *id).collect();
    if !deleted.is_empty() {
        link.change(DELETE, &[&deleted])?;
    }
    let last_retraction = keys.iter().filter(|(_, key)| key.takes_back);
    let last_retraction: Vec<(Id, Version)> =
        last_retraction.filter_map(|(id, key)| Some((*id, key.last_retraction?))).collect();
    if !last_retraction.is_empty() {
        let ids: Vec<Id> = last_retraction.iter().map(|(id, _)| *id).collect();
        let revisions: Vec<i32> = last_retraction.iter().map(|(_, version)| version.revision).collect();
        let rows: Vec<i64> = last_retraction.iter().map(|(_, version)| version.rows).collect();
        link.change(RETRACT, &[&ids, &writer.options.run, &revisions, &rows])?;
    }
    Ok(())
}

fn insert(link: &Link, batch: &MetricBatch<'_>, writer: &Writer<'_>, rows: &[usize]) -> Result<u64, Failure> {
    let cells = cells_of(batch.batch, column::RETRACTED)?;
    let mut text = CopyText::new(batch.batch.get_array_memory_size());
    let now = instant_bytes(writer.now);
    for row in rows {
        text.row(&cells, *row, &[writer.options.run.as_bytes(), &now])?;
    }
    link.copy_in(INSERT, text)
}

fn update(link: &Link, batch: &MetricBatch<'_>, writer: &Writer<'_>, rows: &[usize]) -> Result<(), Failure> {
    let columns = &batch.columns;
    let ids = ids_of(batch, rows)?;
    let values: Vec<Option<f64>> = rows.iter().map(|row| columns.value(*row)).collect();
    let counts: Vec<i64> = rows.iter().map(|row| columns.rows.value(*row)).collect();
    let revisions: Vec<i32> = rows.iter().map(|row| columns.revisions.value(*row)).collect();
    let panes: Vec<i32> = rows.iter().map(|row| columns.panes.value(*row)).collect();
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&ids, &values, &counts, &revisions, &panes, &writer.options.run, &writer.now];
    match link.change(UPDATE, &parameters)? < rows.len() as u64 {
        true => Err(Failure::Data(left_out(Kind::Metric.table()))),
        false => Ok(()),
    }
}

fn ids_of(batch: &MetricBatch<'_>, rows: &[usize]) -> Result<Vec<Id>> {
    rows.iter().map(|row| batch.columns.id(*row).map(Id)).collect()
}
