//! Writes rows to the tables of a SQLite store: metrics by the rules of [`crate::store::guard`], rows of other kinds
//! once per key.

use crate::counts::SinkCounts;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::metric::{MetricColumns, column};
use crate::store::cells::Cells;
use crate::store::guard::{FormerSessions, Overlap, RowOutcome, Stored, Version, judge_retraction, judge_row};
use crate::store::repeat::{Conflicts, has_content};
use crate::store::rows;
use crate::store::sqlite::cell::{bind, real, write_id};
use crate::store::sqlite::failure::Failure;
use crate::store::sqlite::repeat::{Repeats, UniqueEvents, are_events_unique};
use arrow::array::{Array, AsArray, BinaryArray, RecordBatch};
use rusqlite::{CachedStatement, OptionalExtension, Transaction};
use std::ops::RangeInclusive;
use xxhash_rust::xxh3::xxh3_64;

/// Returns `INSERT INTO table (columns) VALUES (?1, …)`, which ignores rows whose key exists.
fn insert_sql(kind: Kind, names: &[&str]) -> String {
    let marks: Vec<String> = (1..=names.len()).map(|index| format!("?{index}")).collect();
    let (table, names, marks) = (kind.table(), rows::quoted(names.iter().copied()), marks.join(", "));
    format!("INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING")
}

/// Updates a letter whose replay failed again. The parameters are those of the insert.
const UPDATE_LETTER: &str = r#"
UPDATE dead_letters SET error_type = ?5, error_message = ?6, failed_at = ?11, producer_host = ?12, attempts = ?13,
    original_length = ?14, letter_id = ?15
WHERE stage = ?7 AND source_topic = ?8 AND "partition" = ?9 AND "offset" = ?10 AND payload_hash = ?16 AND attempts < ?13
"#;

/// Inserts the rows whose key is not stored, and counts their outcomes. An event that is stored with other content is a
/// conflict. Where ids are unique, one copy of an event is stored, and the others are unchanged.
pub fn insert_once(
    tx: &Transaction<'_>,
    kind: Kind,
    batch: &RecordBatch,
    counts: &mut SinkCounts,
    conflicts: &mut Conflicts,
) -> Result<(), Failure> {
    let schema = batch.schema();
    let mut names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut record = Record { cells: Vec::new(), payloads: None, text: String::new() };
    record.cells = batch.columns().iter().map(Cells::try_new).collect::<Result<_>>()?;
    if kind == Kind::Dead {
        names.push("payload_hash");
        record.payloads = Some(batch.column(crate::kind::dead::column::ORIGINAL_PAYLOAD).as_binary());
    }
    let mut insert = tx.prepare_cached(&insert_sql(kind, &names))?;
    let mut repeats = has_content(kind).then(|| Repeats::new(tx, kind, batch)).transpose()?;
    let is_unique = kind == Kind::Event && are_events_unique(tx)?;
    let mut unique = is_unique.then(|| UniqueEvents::new(tx, &names)).transpose()?;
    // After a stored row the next is usually stored too, so look for it before inserting it.
    let mut is_stored = false;
    for row in 0..batch.num_rows() {
        if is_stored && let Some(repeats) = &mut repeats {
            is_stored = repeats.judge(row, counts, conflicts)?;
            if is_stored {
                continue;
            }
        }
        record.bind(&mut insert, row)?;
        if insert.raw_execute()? == 1 {
            RowOutcome::Inserted.count_in(counts);
            if let Some(unique) = &mut unique {
                unique.inserted(&record.cells[0], row)?;
            }
        } else if let Some(repeats) = &mut repeats {
            is_stored = repeats.judge(row, counts, conflicts)?;
            match &mut unique {
                _ if is_stored => {}
                Some(unique) => {
                    unique.replace(&record.cells, row)?;
                    RowOutcome::Unchanged.count_in(counts);
                }
                None => return Err(Error::broken("a row is neither stored nor new").into()),
            }
        } else if kind == Kind::Dead {
            let mut update = tx.prepare_cached(UPDATE_LETTER)?;
            record.bind(&mut update, row)?;
            let outcome = if update.raw_execute()? == 1 { RowOutcome::Updated } else { RowOutcome::Unchanged };
            outcome.count_in(counts);
        } else {
            RowOutcome::Unchanged.count_in(counts);
        }
    }
    Ok(())
}

/// The cells of a batch, followed by the digest of a letter's payload.
struct Record<'a> {
    cells: Vec<Cells<'a>>,
    payloads: Option<&'a BinaryArray>,
    text: String,
}

impl Record<'_> {
    fn bind(&mut self, statement: &mut CachedStatement<'_>, row: usize) -> Result<(), Failure> {
        for (index, cell) in self.cells.iter().enumerate() {
            bind(statement, index + 1, cell, row, &mut self.text)?;
        }
        if let Some(payloads) = self.payloads {
            let digest = xxh3_64(payloads.value(row)).cast_signed();
            statement.raw_bind_parameter(self.cells.len() + 1, digest)?;
        }
        Ok(())
    }
}

/// Parameters have the same numbers in every statement, so that one binding serves all.
const SELECT: &str = r#"
SELECT revision, "rows", value, run = ?10 FROM aggregated_metrics
WHERE metric_name = ?2 AND window_start = ?3 AND window_end = ?4 AND dimensions = ?5
"#;
const DELETE: &str = r#"
DELETE FROM aggregated_metrics
WHERE metric_name = ?2 AND window_start = ?3 AND window_end = ?4 AND dimensions = ?5
"#;
const INSERT: &str = r#"
INSERT INTO aggregated_metrics
    (metric_id, metric_name, window_start, window_end, dimensions, value, "rows", revision, pane, run)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
"#;
const UPDATE: &str = r#"
UPDATE aggregated_metrics SET value = ?6, "rows" = ?7, revision = ?8, pane = ?9, run = ?10
WHERE metric_name = ?2 AND window_start = ?3 AND window_end = ?4 AND dimensions = ?5
"#;
const SELECT_TAKEN_BACK: &str = r#"SELECT revision, "rows" FROM temp.taken_back WHERE metric_id = ?1"#;
const RETRACT: &str = r#"
INSERT INTO temp.taken_back VALUES (?1, ?2, ?3)
ON CONFLICT DO UPDATE SET revision = excluded.revision, "rows" = excluded."rows"
WHERE (revision, "rows") < (excluded.revision, excluded."rows")
"#;
/// Removes the rows of this run that lie within a session.
const REMOVE_WITHIN: &str = r#"
DELETE FROM aggregated_metrics
WHERE metric_name = ?2 AND window_start >= ?3 AND window_start <= ?4 AND window_end <= ?4 AND dimensions = ?5 AND run = ?10
    AND (window_start, window_end) <> (?3, ?4)
"#;
/// Number of stored columns of a metric: all but `retracted`, which is never true for a stored row.
const STORED_COLUMNS: usize = column::RETRACTED;
/// The parameter after them is the run.
const RUN: usize = STORED_COLUMNS + 1;
/// The parameters of the key.
const KEY: RangeInclusive<usize> = column::METRIC_NAME + 1..=column::DIMENSIONS + 1;

/// The writer of metrics in one transaction.
pub struct Metrics<'a> {
    tx: &'a Transaction<'a>,
    run: RunOfRows<'a>,
    overlap: &'a mut Overlap,
    retracts: &'a mut bool,
    select: CachedStatement<'a>,
    insert: CachedStatement<'a>,
    update: CachedStatement<'a>,
    text: String,
}

/// The run that writes metrics.
#[derive(Clone, Copy)]
pub struct RunOfRows<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it writes rows before their epoch is complete.
    pub is_at_once: bool,
    /// The sessions that such a run may have left before a restart.
    pub former: &'a FormerSessions,
}

/// A batch of metrics: its stored columns as cells, and all of them by name.
struct MetricBatch<'a> {
    cells: Vec<Cells<'a>>,
    columns: MetricColumns<'a>,
}

impl MetricBatch<'_> {
    /// Binds the parameters `which`. Parameters count from 1, so each is the cell before its number.
    fn bind(
        &self,
        which: RangeInclusive<usize>,
        row: usize,
        statement: &mut CachedStatement<'_>,
        text: &mut String,
    ) -> Result<()> {
        for index in which {
            if let Some(cell) = self.cells.get(index - 1) {
                bind(statement, index, cell, row, text)?;
            }
        }
        Ok(())
    }
}

impl<'a> Metrics<'a> {
    /// Prepares the statements; `retracts` says whether the run has retracted a row.
    pub fn new(
        tx: &'a Transaction<'a>,
        run: RunOfRows<'a>,
        overlap: &'a mut Overlap,
        retracts: &'a mut bool,
    ) -> Result<Self, Failure> {
        let (select, insert) = (tx.prepare_cached(SELECT)?, tx.prepare_cached(INSERT)?);
        let update = tx.prepare_cached(UPDATE)?;
        Ok(Self { tx, run, overlap, retracts, select, insert, update, text: String::new() })
    }

    /// Applies the rows in order.
    pub fn write(&mut self, batch: &RecordBatch, counts: &mut SinkCounts) -> Result<(), Failure> {
        let cells = batch.columns().iter().take(STORED_COLUMNS).map(Cells::try_new).collect::<Result<_>>()?;
        let batch = MetricBatch { cells, columns: MetricColumns::try_new(batch)? };
        let columns = &batch.columns;
        for row in 0..columns.ids.len() {
            let retract = columns.retracted.value(row);
            let outcome = if retract { self.retract(&batch, row)? } else { self.put(&batch, row)? };
            self.overlap.judged(columns.id(row)?, outcome, || columns.key(row));
            outcome.count_in(counts);
        }
        Ok(())
    }

    /// Returns the stored row of the key, and whether this run wrote it.
    fn stored(&mut self, batch: &MetricBatch<'_>, row: usize) -> Result<Option<(Stored, bool)>, Failure> {
        batch.bind(KEY, row, &mut self.select, &mut self.text)?;
        self.select.raw_bind_parameter(RUN, self.run.name)?;
        let mut found = self.select.raw_query();
        let Some(row) = found.next()? else { return Ok(None) };
        let version = Version { revision: row.get(0)?, rows: row.get(1)? };
        Ok(Some((Stored { version, value: real(row.get_ref(2)?) }, row.get(3)?)))
    }

    fn taken_back(&mut self, batch: &MetricBatch<'_>, row: usize) -> Result<Option<Version>, Failure> {
        if !*self.retracts {
            return Ok(None);
        }
        write_id(batch.columns.ids.value(row), &mut self.text);
        let mut select = self.tx.prepare_cached(SELECT_TAKEN_BACK)?;
        let found = select.query_row([&self.text], |row| Ok(Version { revision: row.get(0)?, rows: row.get(1)? }));
        Ok(found.optional()?)
    }

    fn retract(&mut self, batch: &MetricBatch<'_>, row: usize) -> Result<RowOutcome, Failure> {
        let version = Stored::of(&batch.columns, row).version;
        let there = self.stored(batch, row)?;
        let outcome = judge_retraction(there.map(|(stored, _)| stored), version);
        let outcome = outcome.repeated(self.run.is_at_once, there.is_some_and(|(_, is_own)| is_own));
        if outcome == RowOutcome::Deleted {
            let mut delete = self.tx.prepare_cached(DELETE)?;
            batch.bind(KEY, row, &mut delete, &mut self.text)?;
            delete.raw_execute()?;
        }
        write_id(batch.columns.ids.value(row), &mut self.text);
        self.tx.prepare_cached(RETRACT)?.execute((&self.text, version.revision, version.rows))?;
        *self.retracts = true;
        Ok(outcome)
    }

    fn put(&mut self, batch: &MetricBatch<'_>, row: usize) -> Result<RowOutcome, Failure> {
        let new = Stored::of(&batch.columns, row);
        let there = self.stored(batch, row)?;
        let outcome = judge_row(there.map(|(stored, _)| stored), self.taken_back(batch, row)?, new);
        let outcome = outcome.repeated(self.run.is_at_once, there.is_some_and(|(_, is_own)| is_own));
        if outcome.is_stored() && self.run.former.may_lie_in(&batch.columns, row) {
            let mut remove = self.tx.prepare_cached(REMOVE_WITHIN)?;
            batch.bind(KEY, row, &mut remove, &mut self.text)?;
            remove.raw_bind_parameter(RUN, self.run.name)?;
            remove.raw_execute()?;
        }
        let statement = match outcome {
            RowOutcome::Inserted => &mut self.insert,
            RowOutcome::Updated => &mut self.update,
            _ => return Ok(outcome),
        };
        batch.bind(1..=STORED_COLUMNS, row, statement, &mut self.text)?;
        statement.raw_bind_parameter(RUN, self.run.name)?;
        statement.raw_execute()?;
        if let Some((old, false)) = there {
            self.overlap.replaced(|| batch.columns.key(row), old.version.rows, new.version.rows);
        }
        Ok(outcome)
    }
}
