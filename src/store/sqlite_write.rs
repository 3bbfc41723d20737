//! Rows into the tables of a SQLite store: inserted once, or under the guard of metrics.

use super::guard::{Fate, Stored, Version, judge_retraction, judge_row};
use super::sqlite::Place;
use super::sqlite_cell::{Cells, real, write_id};
use super::{Refused, rows};
use crate::counts::SinkCounts;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::metric::column;
use arrow::array::{
    Array, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, RecordBatch,
};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use rusqlite::{CachedStatement, ErrorCode, OptionalExtension, Transaction};
use xxhash_rust::xxh3::xxh3_64;

/// What can go wrong while a row is written: ours, or SQLite's.
pub enum Failure {
    /// Of evt.
    Ours(Error),
    /// Of the file.
    Sqlite(rusqlite::Error),
}

impl Failure {
    /// The error that ends the run.
    pub fn into_error(self, place: &Place) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::Sqlite(error) => place.failed("cannot write", &error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Rows of other runs that this one replaced: the sign that two runs wrote parts of one window.
#[derive(Default)]
pub struct Replaced {
    rows: u64,
    first: Option<String>,
}

impl Replaced {
    /// The line for the summary, if there were any.
    pub fn remark(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        let count = self.rows;
        Some(format!("replaced {count} rows of other runs (a metric row is the whole of its window), first {first}"))
    }
}

/// `INSERT INTO table (columns) VALUES (?1, …)` that leaves rows alone whose key is there.
fn insert_sql(kind: Kind, names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let marks: Vec<String> = (1..=names.len()).map(|index| format!("?{index}")).collect();
    let (names, marks) = (quoted.join(", "), marks.join(", "));
    format!("INSERT INTO {} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING", kind.table())
}

/// A letter whose replay failed again says so in its row. The parameters are those of the insert.
const UPDATE_LETTER: &str = r#"
UPDATE dead_letters SET error_type = ?5, error_message = ?6, failed_at = ?11, producer_host = ?12, attempts = ?13
WHERE stage = ?7 AND source_topic = ?8 AND "partition" = ?9 AND "offset" = ?10 AND payload_hash = ?14 AND attempts < ?13
"#;

/// Inserts the rows whose key is not there; counts their fates.
pub fn insert_once(
    tx: &Transaction<'_>,
    kind: Kind,
    batch: &RecordBatch,
    counts: &mut SinkCounts,
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
    for row in 0..batch.num_rows() {
        record.bind(&mut insert, row)?;
        let fate = if insert.raw_execute()? == 1 {
            Fate::Inserted
        } else if kind == Kind::Dead {
            let mut update = tx.prepare_cached(UPDATE_LETTER)?;
            record.bind(&mut update, row)?;
            if update.raw_execute()? == 1 { Fate::Updated } else { Fate::Unchanged }
        } else {
            Fate::Unchanged
        };
        counts.add(fate);
    }
    Ok(())
}

/// The cells of a batch, and the digest of a letter's payload after them.
struct Record<'a> {
    cells: Vec<Cells<'a>>,
    payloads: Option<&'a arrow::array::BinaryArray>,
    text: String,
}

impl Record<'_> {
    fn bind(&mut self, statement: &mut CachedStatement<'_>, row: usize) -> Result<(), Failure> {
        for (index, cell) in self.cells.iter().enumerate() {
            cell.bind(statement, index + 1, row, &mut self.text)?;
        }
        if let Some(payloads) = self.payloads {
            let digest = xxh3_64(payloads.value(row)).cast_signed();
            statement.raw_bind_parameter(self.cells.len() + 1, digest)?;
        }
        Ok(())
    }
}

const SELECT: &str = r#"SELECT revision, "rows", value, run = ?2 FROM aggregated_metrics WHERE metric_id = ?1"#;
const DELETE: &str = "DELETE FROM aggregated_metrics WHERE metric_id = ?1";
const SELECT_TAKEN_BACK: &str = r#"SELECT revision, "rows" FROM temp.taken_back WHERE metric_id = ?1"#;
const TAKE_BACK: &str = r#"
INSERT INTO temp.taken_back VALUES (?1, ?2, ?3)
ON CONFLICT DO UPDATE SET revision = excluded.revision, "rows" = excluded."rows"
WHERE (revision, "rows") < (excluded.revision, excluded."rows")
"#;
const INSERT: &str = r#"
INSERT INTO aggregated_metrics
    (metric_id, metric_name, window_start, window_end, dimensions, value, "rows", revision, pane, run)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
"#;
const UPDATE: &str = r#"
UPDATE aggregated_metrics SET value = ?6, "rows" = ?7, revision = ?8, pane = ?9, run = ?10 WHERE metric_id = ?1
"#;
/// Columns of a metric that are stored: all but `retracted`, which no stored row is.
const STORED_COLUMNS: usize = column::RETRACTED;

/// Writes metrics under the guard, in one transaction.
pub struct Metrics<'a> {
    tx: &'a Transaction<'a>,
    run: &'a str,
    replaced: &'a mut Replaced,
    retracts: &'a mut bool,
    id: String,
    text: String,
}

/// The columns the guard looks at.
struct Guarded<'a> {
    ids: &'a FixedSizeBinaryArray,
    values: &'a Float64Array,
    rows: &'a Int64Array,
    revisions: &'a Int32Array,
    retracted: &'a BooleanArray,
}

impl Guarded<'_> {
    fn row(&self, row: usize) -> Stored {
        Stored {
            version: Version { revision: self.revisions.value(row), rows: self.rows.value(row) },
            value: self.values.is_valid(row).then(|| self.values.value(row)),
        }
    }
}

impl<'a> Metrics<'a> {
    /// Metrics of `run`; `retracts` says whether it has taken a row back.
    pub fn new(tx: &'a Transaction<'a>, run: &'a str, replaced: &'a mut Replaced, retracts: &'a mut bool) -> Self {
        Self { tx, run, replaced, retracts, id: String::new(), text: String::new() }
    }

    /// Applies the rows in order. Those come back whose key another id has: their maker computes ids in another way.
    pub fn write(&mut self, batch: &RecordBatch, counts: &mut SinkCounts) -> Result<Vec<Refused>, Failure> {
        let cells = batch.columns().iter().take(STORED_COLUMNS).map(Cells::try_new).collect::<Result<Vec<_>>>()?;
        let guarded = Guarded {
            ids: rows::column(batch, "metric_id")?.as_fixed_size_binary(),
            values: rows::column(batch, "value")?.as_primitive::<Float64Type>(),
            rows: rows::column(batch, "rows")?.as_primitive::<Int64Type>(),
            revisions: rows::column(batch, "revision")?.as_primitive::<Int32Type>(),
            retracted: rows::column(batch, "retracted")?.as_boolean(),
        };
        let mut refused = Vec::new();
        for row in 0..batch.num_rows() {
            write_id(guarded.ids.value(row), &mut self.id);
            let new = guarded.row(row);
            if guarded.retracted.value(row) {
                counts.add(self.take_back(new.version)?);
                continue;
            }
            match self.put(&cells, row, new) {
                Ok(fate) => counts.add(fate),
                Err(Failure::Sqlite(e)) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    let message = format!("metric_id {} is not the id of this row's key", self.id);
                    refused.push(Refused { row, fault: Fault::new(ErrorType::SinkError, message) });
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(refused)
    }

    /// The row there is under the id, and whether this run wrote it.
    fn stored(&self) -> Result<Option<(Stored, bool)>, Failure> {
        let mut select = self.tx.prepare_cached(SELECT)?;
        let found = select.query_row((&self.id, self.run), |row| {
            let version = Version { revision: row.get(0)?, rows: row.get(1)? };
            Ok((Stored { version, value: real(row.get_ref(2)?) }, row.get(3)?))
        });
        Ok(found.optional()?)
    }

    fn taken_back(&self) -> Result<Option<Version>, Failure> {
        if !*self.retracts {
            return Ok(None);
        }
        let mut select = self.tx.prepare_cached(SELECT_TAKEN_BACK)?;
        let found = select.query_row([&self.id], |row| Ok(Version { revision: row.get(0)?, rows: row.get(1)? }));
        Ok(found.optional()?)
    }

    fn take_back(&mut self, version: Version) -> Result<Fate, Failure> {
        let fate = judge_retraction(self.stored()?.map(|(stored, _)| stored), version);
        if fate == Fate::Deleted {
            self.tx.prepare_cached(DELETE)?.execute([&self.id])?;
        }
        self.tx.prepare_cached(TAKE_BACK)?.execute((&self.id, version.revision, version.rows))?;
        *self.retracts = true;
        Ok(fate)
    }

    fn put(&mut self, cells: &[Cells<'_>], row: usize, new: Stored) -> Result<Fate, Failure> {
        let there = self.stored()?;
        let fate = judge_row(there.map(|(stored, _)| stored), self.taken_back()?, new);
        let statement = match fate {
            Fate::Inserted => INSERT,
            Fate::Updated => UPDATE,
            _ => return Ok(fate),
        };
        let mut statement = self.tx.prepare_cached(statement)?;
        for (index, cell) in cells.iter().enumerate() {
            cell.bind(&mut statement, index + 1, row, &mut self.text)?;
        }
        statement.raw_bind_parameter(STORED_COLUMNS + 1, self.run)?;
        statement.raw_execute()?;
        drop(statement);
        if let Some((old, false)) = there {
            self.note_replaced(old.version, new.version)?;
        }
        Ok(fate)
    }

    /// Remembers that a row of another run gave way to ours.
    fn note_replaced(&mut self, old: Version, new: Version) -> Result<(), Failure> {
        self.replaced.rows += 1;
        if self.replaced.first.is_none() {
            let sql = "SELECT metric_name, window_start, dimensions FROM aggregated_metrics WHERE metric_id = ?1";
            let named = self.tx.query_row(sql, [&self.id], |row| {
                let (name, start, dimensions): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(format!("{name} {start} {dimensions}: rows {} before, {} now", old.rows, new.rows))
            })?;
            self.replaced.first = Some(named);
        }
        Ok(())
    }
}
