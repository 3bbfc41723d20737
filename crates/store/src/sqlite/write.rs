//! Writes rows to the tables of a SQLite store: metrics by the rules of [`crate::guard`], rows of other kinds
//! once per key.

use crate::OpenOptions;
use crate::cells::Cells;
use crate::guard::{RowOutcome, Stored, Version, judge_retraction, judge_row};
use crate::repeat::{UNIQUE_EVENTS, has_content};
use crate::rows;
use crate::sqlite::cell::{bind, bind_row, real, write_id};
use crate::sqlite::failure::Failure;
use crate::sqlite::repeat::{Repeats, UniqueEvents};
use crate::sqlite::schema::has_relation;
use crate::tally::Tally;
use arrow::array::{Array, RecordBatch};
use evt_core::error::Result;
use evt_core::kind::Kind;
use evt_core::kind::dead::Rejected;
use evt_core::kind::metric::{MetricColumns, column};
use rusqlite::{CachedStatement, Connection, OptionalExtension};
use std::ops::RangeInclusive;

/// Returns `INSERT INTO table (columns) VALUES (?1, …)`, which ignores rows whose key exists; where ids are unique also
/// rows whose id exists. A conflict in an index of the user is an error.
fn insert_sql(kind: Kind, names: &[&str], is_unique: bool) -> String {
    let marks: Vec<String> = (1..=names.len()).map(|index| format!("?{index}")).collect();
    let (table, names, marks) = (kind.table(), rows::quoted(names.iter().copied()), marks.join(", "));
    let key = rows::quoted(rows::table_key(kind).iter().copied());
    let id = if is_unique { " ON CONFLICT (event_id) DO NOTHING" } else { "" };
    format!("INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT ({key}) DO NOTHING{id}")
}

/// Updates a letter whose replay failed again. The parameters are those of the insert.
const UPDATE_LETTER: &str = r#"
UPDATE dead_letters SET error_type = ?5, error_message = ?6, failed_at = ?11, producer_host = ?12, attempts = ?13,
    original_length = ?14, letter_id = ?15, metrics = ?16, partial = ?17
WHERE stage = ?7 AND source_topic = ?8 AND "partition" = ?9 AND "offset" = ?10 AND payload_hash = ?18 AND attempts < ?13
"#;

/// Inserts the rows whose key is not stored, and counts their outcomes. An event that is stored with other content is a
/// conflict. Where ids are unique, one copy of an event is stored, and the others are unchanged. Returns the rows that
/// the table rejects.
pub fn insert_once(
    tx: &Connection,
    kind: Kind,
    batch: &RecordBatch,
    tally: &mut Tally,
) -> Result<Vec<Rejected>, Failure> {
    let batch = rows::table_rows(kind, batch)?;
    let names: Vec<&str> = batch.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
    let mut insertion = Insertion::new(tx, kind, &batch, &names)?;
    let mut rejected = Vec::new();
    for row in 0..batch.num_rows() {
        if let Err(failure) = insertion.write(row, tally) {
            rejected.push(failure.of_row(tx, row)?);
        }
    }
    Ok(rejected)
}

/// The insertion of a batch of rows other than metrics.
struct Insertion<'a> {
    tx: &'a Connection,
    kind: Kind,
    cells: Vec<Cells<'a>>,
    text: String,
    insert: CachedStatement<'a>,
    repeats: Option<Repeats<'a>>,
    unique: Option<UniqueEvents<'a>>,
    /// Selects a row by its key, which consists of the cells `key`.
    select: CachedStatement<'a>,
    key: Vec<usize>,
    /// Whether the last row was stored before. Then the next usually is too, so it is looked up before it is inserted.
    is_stored: bool,
}

impl<'a> Insertion<'a> {
    /// Prepares the statements; `names` are the columns of the table.
    fn new(tx: &'a Connection, kind: Kind, batch: &'a RecordBatch, names: &[&str]) -> Result<Self, Failure> {
        // Another run may have made them so since this one began.
        let is_unique = kind == Kind::Event && has_relation(tx, UNIQUE_EVENTS)?;
        let key = rows::table_key(kind);
        let condition: Vec<String> = key.iter().map(|name| format!("\"{name}\" = ?")).collect();
        let select = format!("SELECT 1 FROM {} WHERE {}", kind.table(), condition.join(" AND "));
        Ok(Self {
            tx,
            kind,
            cells: batch.columns().iter().map(Cells::try_new).collect::<Result<_>>()?,
            text: String::new(),
            insert: tx.prepare_cached(&insert_sql(kind, names, is_unique))?,
            repeats: has_content(kind).then(|| Repeats::new(tx, kind, batch)).transpose()?,
            unique: is_unique.then(|| UniqueEvents::new(tx, names)).transpose()?,
            select: tx.prepare_cached(&select)?,
            key: key.iter().filter_map(|name| names.iter().position(|other| other == name)).collect(),
            is_stored: false,
        })
    }

    /// Writes a row and counts its outcome.
    fn write(&mut self, row: usize, tally: &mut Tally) -> Result<(), Failure> {
        if self.is_stored
            && let Some(repeats) = &mut self.repeats
        {
            self.is_stored = repeats.judge(row, tally)?;
            if self.is_stored {
                return Ok(());
            }
        }
        bind_row(&mut self.insert, &self.cells, row, &mut self.text)?;
        let outcome = if self.insert.raw_execute()? == 1 {
            if let Some(unique) = &mut self.unique {
                unique.inserted(&self.cells[0], row)?;
            }
            RowOutcome::Inserted
        } else if let Some(repeats) = &mut self.repeats {
            self.is_stored = repeats.judge(row, tally)?;
            if self.is_stored {
                return Ok(());
            }
            let copies = self.unique.as_mut();
            match copies.map_or(Ok(false), |unique| unique.replace(&self.cells, row))? {
                true => RowOutcome::Unchanged,
                false => return Err(Failure::left_out(self.kind.table())),
            }
        } else {
            self.repeated(row)?
        };
        outcome.count_in(&mut tally.counts);
        Ok(())
    }

    /// Returns the outcome of a letter or an alert that was not inserted.
    fn repeated(&mut self, row: usize) -> Result<RowOutcome, Failure> {
        if self.kind == Kind::Dead {
            let mut update = self.tx.prepare_cached(UPDATE_LETTER)?;
            bind_row(&mut update, &self.cells, row, &mut self.text)?;
            if update.raw_execute()? == 1 {
                return Ok(RowOutcome::Updated);
            }
        }
        let key = self.key.iter().map(|cell| &self.cells[*cell]);
        bind_row(&mut self.select, key, row, &mut self.text)?;
        match self.select.raw_query().next()? {
            Some(_) => Ok(RowOutcome::Unchanged),
            None => Err(Failure::left_out(self.kind.table())),
        }
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
/// Number of stored columns of a metric: all but `retracted`, which is never true for a stored row.
const STORED_COLUMNS: usize = column::RETRACTED;
/// The parameter after them is the run.
const RUN: usize = STORED_COLUMNS + 1;
/// The parameters of the key.
const KEY: RangeInclusive<usize> = column::METRIC_NAME + 1..=column::DIMENSIONS + 1;

/// The writer of metrics in one transaction.
pub struct Metrics<'a> {
    tx: &'a Connection,
    options: &'a OpenOptions,
    tally: &'a mut Tally,
    select: CachedStatement<'a>,
    insert: CachedStatement<'a>,
    update: CachedStatement<'a>,
    text: String,
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
    /// Prepares the statements.
    pub fn new(tx: &'a Connection, options: &'a OpenOptions, tally: &'a mut Tally) -> Result<Self, Failure> {
        let (select, insert) = (tx.prepare_cached(SELECT)?, tx.prepare_cached(INSERT)?);
        let update = tx.prepare_cached(UPDATE)?;
        Ok(Self { tx, options, tally, select, insert, update, text: String::new() })
    }

    /// Applies the rows in order. Returns those that the table rejects.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Vec<Rejected>, Failure> {
        let cells = batch.columns().iter().take(STORED_COLUMNS).map(Cells::try_new).collect::<Result<_>>()?;
        let batch = MetricBatch { cells, columns: MetricColumns::try_new(batch)? };
        let (columns, mut rejected) = (&batch.columns, Vec::new());
        for row in 0..columns.ids.len() {
            let retract = columns.retracted.value(row);
            match if retract { self.retract(&batch, row) } else { self.put(&batch, row) } {
                Ok(outcome) => self.tally.judged(columns, row, outcome)?,
                Err(failure) => rejected.push(failure.of_row(self.tx, row)?),
            }
        }
        Ok(rejected)
    }

    /// Returns the stored row of the key, and whether this run wrote it.
    fn stored(&mut self, batch: &MetricBatch<'_>, row: usize) -> Result<Option<(Stored, bool)>, Failure> {
        batch.bind(KEY, row, &mut self.select, &mut self.text)?;
        self.select.raw_bind_parameter(RUN, &self.options.run)?;
        let mut found = self.select.raw_query();
        let Some(row) = found.next()? else { return Ok(None) };
        let version = Version { revision: row.get(0)?, rows: row.get(1)? };
        Ok(Some((Stored { version, value: real(row.get_ref(2)?) }, row.get(3)?)))
    }

    fn taken_back(&mut self, batch: &MetricBatch<'_>, row: usize) -> Result<Option<Version>, Failure> {
        if !self.tally.retracts {
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
        let outcome = outcome.repeated(self.options.is_at_once, there.is_some_and(|(_, is_own)| is_own));
        if outcome == RowOutcome::Deleted {
            let mut delete = self.tx.prepare_cached(DELETE)?;
            batch.bind(KEY, row, &mut delete, &mut self.text)?;
            delete.raw_execute()?;
        }
        write_id(batch.columns.ids.value(row), &mut self.text);
        self.tx.prepare_cached(RETRACT)?.execute((&self.text, version.revision, version.rows))?;
        self.tally.retracts = true;
        Ok(outcome)
    }

    fn put(&mut self, batch: &MetricBatch<'_>, row: usize) -> Result<RowOutcome, Failure> {
        let new = Stored::of(&batch.columns, row);
        let there = self.stored(batch, row)?;
        let outcome = judge_row(there.map(|(stored, _)| stored), self.taken_back(batch, row)?, new);
        let outcome = outcome.repeated(self.options.is_at_once, there.is_some_and(|(_, is_own)| is_own));
        let statement = match outcome {
            RowOutcome::Inserted => Some(&mut self.insert),
            RowOutcome::Updated => Some(&mut self.update),
            _ => None,
        };
        let is_written = statement.is_some();
        if let Some(statement) = statement {
            batch.bind(1..=STORED_COLUMNS, row, statement, &mut self.text)?;
            statement.raw_bind_parameter(RUN, &self.options.run)?;
            if statement.raw_execute()? == 0 {
                return Err(Failure::left_out(Kind::Metric.table()));
            }
        }
        if is_written && let Some((old, false)) = there {
            self.tally.replaced(&batch.columns, row, old.version.rows);
        }
        Ok(outcome)
    }
}
